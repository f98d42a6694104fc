#!/usr/bin/env python3
"""Random legal GGUF files: what `tug inspect --json` shows equals what was written.

The writer is the `gguf` Python package.  A tenth of the files is split by hand: the same
tensors spread over two or three files with split.* keys.

    tests/long/gguf_vs_gguf_py.py [FILES] [SEED]      (from the repository root)
"""
import json
import math
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES

TUG = os.environ.get("TUG", "build/tug")
# This package says that a block of Q8_1 has 40 bytes; engines make blocks of 36.
TYPES = [t for t in T if t != T.Q8_1]
INTS = {V.UINT8: (0, 2**8 - 1), V.INT8: (-2**7, 2**7 - 1), V.UINT16: (0, 2**16 - 1),
        V.INT16: (-2**15, 2**15 - 1), V.UINT32: (0, 2**32 - 1), V.INT32: (-2**31, 2**31 - 1),
        V.UINT64: (0, 2**64 - 1), V.INT64: (-2**63, 2**63 - 1)}
NAMES = {V.UINT8: "u8", V.INT8: "i8", V.UINT16: "u16", V.INT16: "i16", V.UINT32: "u32",
         V.INT32: "i32", V.FLOAT32: "f32", V.BOOL: "bool", V.STRING: "string",
         V.UINT64: "u64", V.INT64: "i64", V.FLOAT64: "f64"}


def random_text(rng, longest):
    letters = "ab\"\\\n\t\x01 \u00e9\u4e2d\U0001f600._"
    return "".join(rng.choice(letters) for _ in range(rng.randint(0, longest)))


def random_value(rng, kind):
    if kind in INTS:
        low, high = INTS[kind]
        return rng.choice([low, high, 0, 1, rng.randint(low, high)])
    if kind == V.BOOL:
        return rng.random() < 0.5
    if kind == V.STRING:
        return random_text(rng, 200)
    exact = rng.choice([0.0, 1e-6, 5e6, rng.gauss(0, 1), rng.gauss(0, 1) * 10**rng.randint(-30, 30)])
    return float(np.float32(exact)) if kind == V.FLOAT32 else exact


def shown(kind, value, got):
    """Does the JSON value `got` stand for `value`?  A float32 is shown shortened."""
    if kind == V.FLOAT32:
        return np.float32(got) == np.float32(value)
    if kind == V.FLOAT64:
        return math.isclose(got, value, rel_tol=0, abs_tol=0)
    return got == value


def add_metadata(rng, writer, number):
    want = {}
    for i in range(rng.randint(0, 12)):
        key = f"k{number}.{i}"
        kind = rng.choice(list(NAMES))
        if rng.random() < 0.3:
            values = [random_value(rng, kind) for _ in range(rng.randint(1, 20))]
            writer.add_key_value(key, values, V.ARRAY, sub_type=kind)
            want[key] = (kind, values)
        else:
            value = random_value(rng, kind)
            writer.add_key_value(key, value, kind)
            want[key] = (kind, value)
    return want


def random_tensors(rng, count):
    for i in range(count):
        kind = rng.choice(TYPES)
        elems, size = GGML_QUANT_SIZES[kind]
        outer = [rng.randint(1, 4) for _ in range(rng.randint(0, 3))]
        blocks = rng.randint(1, 3)
        data = np.frombuffer(rng.randbytes(size * blocks * math.prod(outer)), dtype=np.uint8)
        yield (f"t{i}.weight", kind, [elems * blocks, *reversed(outer)],
               data.reshape(*outer, size * blocks))


def write(rng, path, tensors, split, number):
    writer = GGUFWriter(path, "qwen3next")
    align = rng.choice([None, 8, 32, 64, 4096])
    if align:
        writer.add_custom_alignment(align)
    want = add_metadata(rng, writer, number)
    for key, value in split.items():
        writer.add_uint16(key, value)
    for name, kind, _, data in tensors:
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return want


def write_set(rng, folder, number):
    """Writes one file or a set; returns its first path, keys and tensors with parts."""
    tensors = list(random_tensors(rng, rng.randint(0, 12)))
    n_parts = rng.choice([2, 3]) if rng.random() < 0.1 else 1
    if n_parts == 1:
        path = f"{folder}/{number}.gguf"
        return path, write(rng, path, tensors, {}, number), [(t, 1) for t in tensors]
    paths = [f"{folder}/{number}-{i + 1:05}-of-{n_parts:05}.gguf" for i in range(n_parts)]
    spread = [tensors[i::n_parts] for i in range(n_parts)]
    wants = [write(rng, p, spread[i], {"split.no": i, "split.count": n_parts,
                                       "split.tensors.count": len(tensors)}, number)
             for i, p in enumerate(paths)]
    return paths[0], wants[0], [(t, i + 1) for i, part in enumerate(spread) for t in part]


def differences(doc, want, tensors):
    for key, (kind, value) in want.items():
        got = doc["metadata"].get(key)
        if got is None:
            yield f"{key} is missing"
        elif isinstance(value, list):
            if got["elements"] != NAMES[kind] or got["count"] != len(value):
                yield f"{key}: {got}, written {NAMES[kind]} x {len(value)}"
            if not all(shown(kind, v, g) for v, g in zip(value, got["first"])):
                yield f"{key}: {got['first']}, written {value[:8]}"
        elif got["type"] != NAMES[kind] or not shown(kind, value, got["value"]):
            yield f"{key}: {got}, written {value!r}"
    if len(doc["tensors"]) != len(tensors):
        yield f"{len(doc['tensors'])} tensors, written {len(tensors)}"
    parts = {}
    for got, ((name, kind, shape, data), part) in zip(doc["tensors"], tensors):
        if (got["name"], got["type"], got["shape"], got["bytes"], got["part"]) != (
                name, kind.name, shape, data.size, part):
            yield f"{got}, written {name} {kind.name} {shape} {data.size} part {part}"
        path = doc["file"].replace("-00001-of-", f"-{part:05}-of-")
        if path not in parts:
            parts[path] = open(path, "rb").read()
        if parts[path][got["offset"]:got["offset"] + got["bytes"]] != data.tobytes():
            yield f"{name}: other bytes at {got['offset']}"


def main():
    n_files = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 20)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n_files):
            path, want, tensors = write_set(rng, folder, number)
            done = subprocess.run([TUG, "inspect", "--json", path], capture_output=True,
                                  timeout=60, check=False)
            bad = ([done.stderr.decode()] if done.returncode else
                   list(differences(json.loads(done.stdout), want, tensors)))
            if bad:
                failed += 1
                print(f"file {number}: " + "; ".join(bad[:5]))
            for name in os.listdir(folder):
                os.remove(os.path.join(folder, name))
    print(f"gguf_vs_gguf_py: {n_files - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
