#!/usr/bin/env python3
"""The JSON reader and writer against Python's json, on valid and damaged documents.

Agreement means: both refuse, or both read the same value (numbers compared by their
text, keys in the same order).  Python is laxer in three ways, which are made strict here:
NaN and Infinity, lone surrogates (we read U+FFFD), and nesting beyond our limit.

    python3 tests/long/json_vs_python.py [documents, default 30000] [seed, default 1]
"""
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPTH = 128


class Number(str):
    """The text of a number, so that 1.0, 1e0 and 1 stay different."""


def refuse_constant(name):
    raise ValueError(name)


def without_surrogates(v):
    if isinstance(v, Number):
        return v
    if isinstance(v, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", v)
    if isinstance(v, list):
        return [without_surrogates(x) for x in v]
    if isinstance(v, Members):
        return Members((without_surrogates(k), without_surrogates(x)) for k, x in v)
    return v


class Members(tuple):
    """An object, in order."""


def members(pairs):
    # Keys are compared as we read them, that is after the loss of lone surrogates.
    return Members({without_surrogates(k): v for k, v in pairs}.items())


def read(data):
    text = data.decode("utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("byte order mark")
    return without_surrogates(json.loads(
        text, parse_int=Number, parse_float=Number, parse_constant=refuse_constant,
        object_pairs_hook=members))


def depth(v):
    if isinstance(v, Members):
        return 1 + max((depth(x) for _, x in v), default=0)
    return 1 + max(map(depth, v), default=0) if isinstance(v, list) else 0


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, Members)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, tuple):
        return same(a[0], b[0]) and same(a[1], b[1])
    return a == b


def random_value(rng, levels):
    kind = rng.randrange(7 if levels > 0 else 5)
    if kind == 0:
        return rng.choice(("null", "true", "false"))
    if kind <= 2:
        return rng.choice(("0", "-0", "1", "-1", "12", str(rng.getrandbits(90)))) \
            + rng.choice(("", "", ".0", ".25", "." + str(rng.getrandbits(40)))) \
            + rng.choice(("", "", "e5", "E-7", "e+400", "E00"))
    if kind <= 4:
        return random_string(rng)
    items = [random_value(rng, levels - 1) for _ in range(rng.randrange(5))]
    space = rng.choice(("", " ", "\r\n\t"))
    if kind == 5:
        return "[" + space + ("," + space).join(items) + space + "]"
    return "{" + space + ("," + space).join(
        random_string(rng) + space + ":" + i for i in items) + "}"


def random_string(rng):
    pieces = ("a", "b", "", "é", "\u2028", "\U0001F600", "\x7f", "\\n", "\\/", '\\"', "\\\\",
              "\\u0000", "\\u00E9", "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\uFFFF", "\\u0061")
    return '"' + "".join(rng.choice(pieces) for _ in range(rng.randrange(5))) + '"'


def damage(data, rng):
    data = bytearray(data)
    for _ in range(rng.randrange(1, 3)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            del data[at:at + rng.randrange(1, 4)]
        elif kind == 1:
            data[at:at] = rng.choice(b'{}[]:,"\\0123456789.eE+-tfn \n\x00\x1f\x80\xff').to_bytes(1, "big")
        elif kind == 2:
            data[at:at + 1] = bytes([rng.randrange(256)])
        else:
            other = rng.randrange(len(data) + 1)
            data[at:at] = data[min(at, other):max(at, other)]
    return bytes(data)


def documents(count, rng):
    for n in (DEPTH - 1, DEPTH, DEPTH + 1, 5000):
        yield b"[" * n + b"]" * n
    for _ in range(count):
        data = random_value(rng, 4).encode()
        yield damage(data, rng) if rng.random() < 0.6 else data


def build(folder):
    """The reader and writer behind a pipe."""
    out = os.path.join(folder, "json_echo")
    sources = [ROOT / "tests/long/json_echo/json_echo.c", *sorted((ROOT / "src/json").glob("*.c"))]
    sources += [ROOT / "src/base" / f for f in ("arena.c", "status.c", "str.c", "sys.c", "utf8.c")]
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-O1", "-D_GNU_SOURCE",
                    f"-I{ROOT}/src", f"-I{ROOT}/include", "-o", out, *map(str, sources)], check=True)
    return out


def wrong(data, answer):
    try:
        want = read(data)
        accepted = depth(want) <= DEPTH
    except (ValueError, RecursionError):
        accepted = False
    if answer == b"refused":
        return "refused, Python reads it" if accepted else None
    if not accepted:
        return "read, Python refuses it"
    got = read(bytes.fromhex(answer.decode()))
    return None if same(got, want) else f"read as {got!r}, Python reads {want!r}"


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30000
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    docs = list(documents(count, rng))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([build(folder)], input=b"".join(d.hex().encode() + b"\n" for d in docs),
                              stdout=subprocess.PIPE, check=True)
    answers = done.stdout.split(b"\n")[:-1]
    failures = [(d, w) for d, a in zip(docs, answers, strict=True) if (w := wrong(d, a))]
    for data, why in failures[:10]:
        print(f"FAILED {data!r}: {why}")
    refused = answers.count(b"refused")
    print(f"{len(docs) - refused} documents read, {refused} refused")
    print(f"json_vs_python: {len(docs) - len(failures)} passed, {len(failures)} failed, 0 skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
