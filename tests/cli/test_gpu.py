#!/usr/bin/env python3
"""tug with a GPU, on the emulated driver: the same text, the line about it, refusals.

    TUG=build/tug tests/cli/test_gpu.py
"""
import os
import re
import subprocess
import sys

BUILD = os.path.dirname(os.path.abspath(os.environ.get("TUG", "build/tug")))
# The same program with an image of kernels that the emulated driver accepts.
TUG = os.path.join(BUILD, "tests/tug-gpu")
DRIVER = os.path.join(BUILD, "tests/cuda_emu")
MODEL = "models/tug-tiny-coder-q8_0.gguf"
PROMPT = "def reverse(s):"


def run(*args, emu="", driver=DRIVER):
    env = dict(os.environ, TUG_EMU=emu, LD_LIBRARY_PATH=driver)
    return subprocess.run([TUG, "run", "-m", MODEL, "-c", "256", "-b", "64", "--temp", "0", "-n", "6", *args, PROMPT],
                          capture_output=True, timeout=600, check=False, env=env)


def gpu_line(done):
    assert done.returncode == 0, done.stderr.decode()
    return re.search(r"^gpu: emulated GPU, .* (\d+) of 192 experts have a copy there$", done.stderr.decode(), re.M)


def refused(pattern, *args, **more):
    done = run(*args, **more)
    err = done.stderr.decode()
    assert done.returncode != 0 and done.stdout == b"", (args, done)
    assert re.search(pattern, err) and err.count("\n") == 1, err


def test_same_text():
    want = run("--gpu", "none")
    assert want.returncode == 0 and b"gpu:" not in want.stderr
    done = run("--gpu", "0")
    assert gpu_line(done).group(1) == "192"
    assert done.stdout == want.stdout
    done = run("--gpu", "0", "--vram", "20M")
    assert 0 < int(gpu_line(done).group(1)) < 192, done.stderr
    assert done.stdout == want.stdout


def test_refusals():
    refused(r"the dense weights alone take \d", "--gpu", "0", "--vram", "1M")
    refused(r"there is no GPU 3", "--gpu", "3")
    refused(r"named by its number", "--gpu", "x")
    refused(r"compute capability 7\.5", "--gpu", "0", emu="cc=75")
    refused(r"driver is too old", "--gpu", "0", emu="driver=11080")
    refused(r"no GPU that it can use", "--gpu", "0", emu="devices=0")
    refused(r"there is no NVIDIA driver", "--gpu", "0", driver="/nonexistent")


def main():
    passed = failed = 0
    for name, test in sorted(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            passed += 1
        except AssertionError as e:
            failed += 1
            print(f"{name}: {e}")
    print(f"gpu: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
