"""The program with a GPU: tug on the emulated driver, with an image of kernels that it accepts."""
import os
import re
import subprocess

BUILD = os.path.dirname(os.path.abspath(os.environ.get("TUG", "build/tug")))
TUG = os.path.join(BUILD, "tests/tug-gpu")
# TSan's is the plain one, as in the Makefile.
DRIVER = os.path.join(BUILD.removesuffix("-tsan"), "tests/cuda_emu")
MODEL = "models/tug-tiny-coder-q8_0.gguf"
PROMPT = "def reverse(s):"


def world(emu="", driver=DRIVER, nvml=""):
    """An environment with that GPU in it."""
    return dict(os.environ, TUG_EMU=emu, LD_LIBRARY_PATH=driver, TUG_NVML=nvml)


def run(*args, **more):
    """A short greedy text, by one thread: on a busy machine two wait for each other more than they compute."""
    return subprocess.run([TUG, "run", "-m", MODEL, "-c", "256", "-b", "64", "-t", "1", "--temp", "0", "-n", "6", *args,
                           PROMPT], capture_output=True, timeout=600, check=False, env=world(**more))


def gpu_line(done):
    assert done.returncode == 0, done.stderr.decode()
    return re.search(r"^gpu: emulated GPU, .* (\d+) of 192 experts have a copy there$", done.stderr.decode(), re.M)
