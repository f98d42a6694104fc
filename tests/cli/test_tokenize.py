#!/usr/bin/env python3
"""tug tokenize as a person meets it: output, sentences, exit codes.

The vocabulary is the 256 bytes, one merge and three special tokens."""
import json
import os
import struct
import subprocess
import sys
import tempfile

TUG = os.environ.get("TUG", "build/tug")
SPECIAL = [("<|im_end|>", 3), ("<tool_call>", 4), ("[PAD0]", 5)]


def byte_letters():
    """GPT-2's spelling of each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (c for c in range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def strings(items):
    return struct.pack("<IIQ", 9, 8, len(items)) + b"".join(map(text, items))


def ints(items):
    return struct.pack(f"<IIQ{len(items)}i", 9, 5, len(items), *items)


def write_gguf(path, **changes):
    letters = byte_letters()
    values = {
        "model": struct.pack("<I", 8) + text("gpt2"),
        "pre": struct.pack("<I", 8) + text("qwen2"),
        "tokens": strings(letters + ["hi"] + [t for t, _ in SPECIAL]),
        "token_type": ints([1] * 257 + [kind for _, kind in SPECIAL]),
        "merges": strings(["h i"]),
        "eos_token_id": struct.pack("<II", 4, 257),
    }
    values = {k: v for k, v in {**values, **changes}.items() if v is not None}
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)))
        for key, value in values.items():
            f.write(text("tokenizer.ggml." + key) + value)
    return path


def run(args, stdin):
    done = subprocess.run([TUG, "tokenize", *args], input=stdin, capture_output=True,
                          timeout=60, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def cases(folder):
    m = write_gguf(folder + "/m.gguf")
    hint = "; see `tug tokenize --help`\n"
    outside = "tug: id 260 is outside the vocabulary, 0 to 259\n"
    yield "ids", ["-m", m], b"hi!\n", (0, "256 33 10\n", "")
    yield "nothing", ["-m", m], b"", (0, "\n", "")
    yield "user-defined", ["-m", m], b"<tool_call>", (0, "258\n", "")
    yield "control as text", ["-m", m], b"<|", (0, "60 124\n", "")
    yield "control", ["-m", m, "--special"], b"hi<|im_end|>", (0, "256 257\n", "")
    yield "json", ["-m", m, "--json"], "é".encode(), (0, json.dumps(
        {"n": 2, "ids": [195, 169], "pieces": ["\ufffd", "\ufffd"]}, ensure_ascii=False) + "\n", "")
    yield "decode", ["-m", m, "--decode"], b"256, 195 169\n257 259", (0, "hié", "")
    yield "decode all", ["-m", m, "--decode", "--special"], b"256 257", (0, "hi<|im_end|>", "")
    yield "decode half", ["-m", m, "--decode"], b"195", (0, "\ufffd", "")
    yield "decode nothing", ["-m", m, "--decode"], b"", (0, "", "")
    yield "decode json", ["-m", m, "--decode", "--json"], b"256", (
        0, '{"n": 1, "ids": [256], "pieces": ["hi"]}\n', "")
    yield "id too large", ["-m", m, "--decode"], b"1 260", (1, "", outside)
    yield "id too large, json", ["-m", m, "--decode", "--json"], b"260", (1, "", outside)
    yield "no id", ["-m", m, "--decode"], b"1 -1", (2, "", (
        "tug: token ids are whole numbers from 0, separated by commas; '-1' is none\n"))
    yield "zero byte", ["-m", m, "--decode"], b"1 \0 2", (
        2, "", "tug: standard input is no list of ids: byte 2 is 0\n")
    yield "no UTF-8", ["-m", m], b"ab\xffcd", (1, "", "tug: the text is not UTF-8 at byte 2\n")
    yield "no model", [], b"", (2, "", "tug: which model? -m FILE is missing" + hint)
    yield "model without name", ["-m"], b"", (2, "", "tug: -m wants a value" + hint)
    yield "unknown option", ["--ids"], b"", (2, "", "tug: --ids is no option" + hint)
    yield "word", ["-m", m, "hi"], b"", (2, "", (
        "tug: 'hi' is one too many: text comes from standard input" + hint))
    for key in ("model", "pre", "tokens", "token_type", "merges"):
        path = write_gguf(f"{folder}/no-{key}.gguf", **{key: None})
        yield "without " + key, ["-m", path], b"", (1, "", (
            f"tug: {path} has no tokenizer.ggml.{key}; convert the model again\n"))
    path = write_gguf(folder + "/spm.gguf", model=struct.pack("<I", 8) + text("llama"))
    yield "another kind", ["-m", path], b"", (1, "", (
        f"tug: {path} has a tokenizer of the kind 'llama'; only gpt2 (byte-level BPE) is "
        "known\n"))
    path = write_gguf(folder + "/eos.gguf", eos_token_id=struct.pack("<II", 4, 260))
    yield "eos outside", ["-m", path], b"", (1, "", (
        "tug: the eos token is 260, but the vocabulary has ids 0 to 259; the file is "
        "damaged\n"))


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, args, stdin, expected in cases(folder):
            got = run(args, stdin)
            if got == expected:
                passed += 1
            else:
                failed += 1
                print(f"FAILED {name}: {got} instead of {expected}")
    code, out, _ = run(["--help"], b"")
    ok = code == 0 and out.startswith("usage: tug tokenize") and "example:" in out
    passed, failed = passed + ok, failed + (not ok)
    print(f"test_tokenize: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
