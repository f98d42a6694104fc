#!/usr/bin/env python3
"""Seeds and a dictionary for fuzz_gguf: small GGUF files from the format's description.

    tests/fuzz/seeds_gguf.py FOLDER      writes FOLDER/*.gguf and FOLDER.dict
"""
import os
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODE = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?",
        U64: "Q", I64: "q", F64: "d"}
KEYS = ["general.architecture", "general.alignment", "split.no", "split.count",
        "split.tensors.count", "tokenizer.ggml.tokens"]


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        elem, items = v
        return struct.pack("<IQ", elem, len(items)) + b"".join(value(elem, i) for i in items)
    return struct.pack("<" + CODE[kind], v)


def kv(key, kind, v):
    return text(key) + struct.pack("<I", kind) + value(kind, v)


def info(name, ne, kind, offset):
    return (text(name) + struct.pack("<I", len(ne)) + struct.pack(f"<{len(ne)}Q", *ne) +
            struct.pack("<IQ", kind, offset))


def gguf(kvs, infos, data_bytes, version=3, align=32):
    head = struct.pack("<4sIQQ", b"GGUF", version, len(infos), len(kvs))
    head += b"".join(kvs) + b"".join(infos)
    return head + bytes(-len(head) % align) + bytes(data_bytes)


def seeds():
    yield "empty", gguf([], [], 0)
    yield "version2", gguf([kv("k", U32, 1)], [], 0, version=2)
    scalars = [kv(f"t{t}", t, 1) for t in CODE if t != STRING]
    yield "scalars", gguf(scalars, [], 0)
    arrays = [kv(f"a{t}", ARRAY, (t, [0, 1])) for t in CODE]
    yield "arrays", gguf(arrays, [], 0)
    yield "strings", gguf([kv(KEYS[0], STRING, "qwen3next"),
                           kv(KEYS[5], ARRAY, (STRING, ["a", "", "\u0120the"]))], [], 0)
    yield "align", gguf([kv(KEYS[1], U32, 64)],
                        [info("a", [3], 24, 0), info("b", [2, 2], 0, 64)], 80, align=64)
    yield "split", gguf([kv(KEYS[2], U16, 0), kv(KEYS[3], U16, 1), kv(KEYS[4], I32, 1)],
                        [info("t", [32], 8, 0)], 34)
    yield "types", gguf([], [info("w4", [256, 1, 1, 2], 12, 0), info("w6", [256], 14, 288),
                             info("x", [256], 16, 512)], 600)


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name, data in seeds():
        with open(os.path.join(folder, name + ".gguf"), "wb") as f:
            f.write(data)
    with open(folder.rstrip("/") + ".dict", "w", encoding="ascii") as f:
        for word in [b"GGUF\x03\0\0\0", *(k.encode() for k in KEYS),
                     *(struct.pack("<Q", n) for n in (1, 4, 32, 256, 2**31, 2**63, 2**64 - 1)),
                     *(struct.pack("<I", n) for n in (8, 9, 12, 13, 64))]:
            f.write('"' + "".join(f"\\x{b:02x}" for b in word) + '"\n')


if __name__ == "__main__":
    main()
