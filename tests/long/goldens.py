#!/usr/bin/env python3
"""The golden test on random models of other seeds, made now by PyTorch transformers.

Needs the Python packages torch, transformers, numpy and gguf, and a built
build/tests/golden/test_golden.  usage: tests/long/goldens.py [SEED [COUNT]]
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    seed = sys.argv[1] if len(sys.argv) > 1 else "2"
    count = sys.argv[2] if len(sys.argv) > 2 else "6"
    try:
        import gguf, numpy, torch, transformers  # noqa: F401
    except ImportError as missing:
        print(f"skip: {missing}\ngoldens: 0 passed, 0 failed, 1 skipped")
        return 0
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([sys.executable, os.path.join(ROOT, "tools/golden/make_goldens.py"),
                        "--out", out, "--seed", seed, "--count", count], check=True,
                       stderr=subprocess.DEVNULL)
        files = sorted(glob.glob(os.path.join(out, "*.gold")))
        done = subprocess.run([os.path.join(ROOT, "build/tests/golden/test_golden"), *files],
                              capture_output=True, text=True, check=False)
    print(done.stdout)
    passed, failed = re.search(r"golden: (\d+) passed, (\d+) failed", done.stdout).groups()
    print(f"goldens: {passed} passed, {failed} failed")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
