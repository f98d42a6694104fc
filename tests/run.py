#!/usr/bin/env python3
"""Run test programs and scripts and add up what they say.

usage: tests/run.py [--jobs N] [--timeout SECONDS] [--totals FILE] [PROGRAM ...] [--alone PROGRAM ...]

A program passes when it exits with 0.  Its cases are counted from its output: cmocka's
`[       OK ]` lines, or a last line `name: N passed, N failed[, N skipped]`.  What a
program prints is shown only when it fails, except lines that begin with `skip`.
--totals appends the sums to FILE, for a caller that runs several groups.  --jobs runs so many
at a time; those behind --alone come after the others, one by one: what measures time or
memory, or waits for answers.
"""
import argparse
import concurrent.futures
import re
import subprocess
import sys
import time

SUMMARY = re.compile(r"^(?:\S.*: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)


def count(text, code):
    """(passed, failed, skipped) of one program's output."""
    # cmocka repeats the names of failed and skipped cases in its closing list
    cases = [len(set(re.findall(r"^\[\s*%s\s*\] ([^\s\d]\S*)$" % word, text, re.M)))
             for word in ("OK", "FAILED", "SKIPPED")]
    lines = SUMMARY.findall(text)
    if lines:
        cases = [int(n or 0) for n in lines[-1]]
    if code != 0 and cases[1] == 0:
        cases[1] = 1
    if code == 0 and sum(cases) == 0:
        cases[0] = 1
    return cases


def run(program, timeout):
    command = [sys.executable, program] if program.endswith(".py") else [program]
    start = time.monotonic()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, timeout=timeout, check=False)
        text, code = done.stdout.decode("utf-8", "replace"), done.returncode
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"").decode("utf-8", "replace")
        text += f"\nstill running after {timeout} s\n"
        code = 124
    return count(text, code), code, text, time.monotonic() - start


def report(program, cases, code, text, seconds):
    verdict = "ok  " if code == 0 and cases[1] == 0 else "FAIL"
    print(f"{verdict} {program}: {cases[0]} passed, {cases[1]} failed, "
          f"{cases[2]} skipped ({seconds:.1f} s)", flush=True)
    if verdict == "FAIL":
        print(text[-8000:], flush=True)
    elif cases[2] or "skip" in text:
        for line in text.splitlines():
            if line.lower().lstrip("[ ").startswith("skip"):
                print("     " + line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=900)
    parser.add_argument("--totals")
    parser.add_argument("--alone", nargs="*", default=[])
    parser.add_argument("program", nargs="*")
    args = parser.parse_args()
    total = [0, 0, 0]
    for programs, jobs in ((args.program, args.jobs), (args.alone, 1)):
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            results = pool.map(lambda p: run(p, args.timeout), programs)
            for program, (cases, *rest) in zip(programs, results):
                report(program, cases, *rest)
                total = [a + b for a, b in zip(total, cases)]
    if args.totals:
        with open(args.totals, "a", encoding="utf-8") as out:
            out.write("%d %d %d\n" % tuple(total))
    print("%d passed, %d failed, %d skipped" % tuple(total))
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
