#!/usr/bin/env python3
"""tug bench names what bounds it on three machines made for it: multiplications on a model
that a cache holds, memory on one that no cache holds, and other processes.

    TUG=build/tug tests/long/bench_bounds.py

A machine that others use is a starved one: a case is tried again while the bench says so and
the kernel confirms that others used the processors, then skipped.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import random_model  # noqa: E402

TUG = os.path.abspath(os.environ.get("TUG", "build/tug"))
N_CPU = len(os.sched_getaffinity(0))
TRIES = 6
counts = {"passed": 0, "failed": 0, "skipped": 0}


def bench(*args):
    done = subprocess.run([TUG, "bench", "--json", *args], capture_output=True, timeout=300, check=True)
    return json.loads(done.stdout)


def case_of(j, test):
    return next(c for c in j["cases"] if c["test"] == test)


def expect(what, wanted, test, *args):
    """The case of `args` is bound by one of the words in `wanted`."""
    for _ in range(TRIES):
        case = case_of(bench(*args), test)
        by, load = case["bound"]["by"], case["load"]
        busy = (load["others_cpu_s"] + load["steal_s"]) / (load["wall_s"] * N_CPU)
        if by in wanted.split() or by != "starved" or busy < 0.05:
            break
        time.sleep(2)
    else:
        counts["skipped"] += 1
        print(f"skip: {what}: other processes use {100 * busy:.0f} % of this machine")
        return
    counts["passed" if by in wanted.split() else "failed"] += 1
    print(f"{'ok  ' if by in wanted.split() else 'FAILED'} {what}: {case['bound']['sentence']}")


def spinning(n):
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]


def main():
    with tempfile.TemporaryDirectory() as folder:
        cached, large = os.path.join(folder, "cached.gguf"), os.path.join(folder, "large.gguf")
        # 9 MB, all experts used by all tokens; 660 MB, most of it read for every token
        random_model.write(cached, dim=1024, vocab=256, layers=1, experts=2, used=2, expert_dim=1024)
        random_model.write(large, dim=2048, vocab=196608, layers=1, experts=8, used=8, expert_dim=4096)
        expect("a batch on a model in cache", "compute", "prefill", "-m", cached, "-p", "512", "-n", "0")
        expect("a batch on a large model", "compute", "prefill", "-m", large, "-p", "512", "-n", "0", "-r", "2")
        expect("tokens one by one on a large model", "bandwidth", "decode", "-m", large, "-p", "1", "-n", "16")
        with open("/sys/devices/system/cpu/cpu0/cache/index3/size", encoding="ascii") as f:
            in_cache = int(f.read().strip().rstrip("K")) * 1024 > os.path.getsize(cached)
        if in_cache:  # a memory that is not read cannot bound
            expect("tokens one by one on a model in cache", "overhead compute synchronisation", "decode", "-m", cached, "-p", "1", "-n", "64")
        burners = spinning(2 * N_CPU)
        try:
            time.sleep(0.3)
            for test, args in (("prefill", ["-m", cached, "-p", "512", "-n", "0"]),
                               ("decode", ["-m", large, "-p", "1", "-n", "8", "-r", "2"])):
                by = case_of(bench(*args), test)["bound"]["by"]
                counts["passed" if by == "starved" else "failed"] += 1
                print(f"{test} beside {2 * N_CPU} busy processes: {by}")
        finally:
            for b in burners:
                b.kill()
                b.wait()
    print("bench_bounds: {passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
