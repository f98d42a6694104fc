#!/usr/bin/env python3
"""Every format tug decodes, against the `gguf` Python package, bit for bit.

Blocks are random bytes, so scales take every kind of value: zero, subnormal, huge,
infinite, negative.  Where both sides give a NaN its payload may differ.  Besides random
blocks each byte of a block takes all 256 values in turn while the others stay.

    tests/long/quant_vs_gguf_py.py [SEED]       (run from the repository root; needs cc)
"""
import ctypes
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

TYPES = [T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q2_K, T.Q3_K,
         T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS]
RANDOM_BYTES = 8 << 20  # per type
SOURCES = ["src/quant/dequant.c", "src/quant/types.c", "src/base/status.c"]


def load(folder):
    so = folder + "/quant.so"
    subprocess.run(["cc", "-std=c11", "-O3", "-ffp-contract=off", "-shared", "-fPIC", "-D_GNU_SOURCE",
                    "-Isrc", "-Iinclude", "-o", so, *SOURCES], check=True)
    lib = ctypes.CDLL(so)
    lib.tug_dequantize_row.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                                       ctypes.c_int64]
    lib.tug_dequantize_row.restype = None
    return lib


def ours(lib, qtype, blocks, elems):
    out = np.empty(blocks.shape[0] * elems, dtype=np.float32)
    lib.tug_dequantize_row(int(qtype), out.ctypes.data, blocks.ctypes.data, out.size)
    return out


def one_byte_sweeps(rng, size):
    """(256 * size, size): block 256 * i + v has value v in byte i."""
    base = rng.integers(0, 256, size, dtype=np.uint8)
    sweep = np.tile(base, (256 * size, 1))
    for i in range(size):
        sweep[256 * i:256 * (i + 1), i] = np.arange(256)
    return sweep


def every_half(size):
    """All 65536 binary16 patterns, for the types that are nothing else."""
    return np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(-1, size)


def differing(a, b):
    same = (a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))
    return np.flatnonzero(~same)


def check(lib, qtype, blocks):
    elems, size = GGML_QUANT_SIZES[qtype]
    blocks = np.ascontiguousarray(blocks)
    with np.errstate(all="ignore"):
        want = np.asarray(dequantize(blocks, qtype), dtype=np.float32).reshape(-1)
    got = ours(lib, qtype, blocks, elems)
    bad = differing(got, want)
    if bad.size:
        j = int(bad[0])
        print(f"{qtype.name}: {bad.size} of {got.size} values differ; the first is value "
              f"{j % elems} of block {j // elems}: {got[j]!r}, expected {want[j]!r}; bytes "
              f"{blocks[j // elems].tobytes().hex()}")
    return bad.size == 0, got.size


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        lib = load(folder)
        for qtype in TYPES:
            rng = np.random.default_rng([seed, int(qtype)])
            size = GGML_QUANT_SIZES[qtype][1]
            sets = [rng.integers(0, 256, (RANDOM_BYTES // size, size), dtype=np.uint8),
                    one_byte_sweeps(rng, size)]
            if size == 2:
                sets.append(every_half(size))
            results = [check(lib, qtype, blocks) for blocks in sets]
            ok = all(r[0] for r in results)
            print(f"{qtype.name:7} {sum(r[1] for r in results):9} values "
                  f"{'equal' if ok else 'DIFFER'}")
            passed += ok
            failed += not ok
    print(f"quant_vs_gguf_py: {passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
