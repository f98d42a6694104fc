#!/usr/bin/env python3
"""What tug plan predicts beside what tug bench measures, in one run.

    tools/bench/plan_check.py [--tug build/tug] [-p 512] [-n 32] FILE:CEILING[:DISK] ...

For each model and ceiling ("4G"; "-": none) the machine is probed, the plan made for the
routing of `tug synth` models, and prefill and decode measured; DISK is a rate in GB/s that the
plan is told instead of the probe's (for a throttled disk).  Prints a table, and JSON with --json.
"""
import argparse
import json
import statistics
import subprocess
import sys


def tug_json(args):
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(args)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def check(o, spec):
    path, ceiling, *disk = spec.split(":")
    ram = [] if ceiling == "-" else ["--ram", ceiling]
    plan = [o.tug, "plan", "-m", path, *ram, "-c", str(o.p), "--routing", "skewed", "--probe", "--json"]
    if disk:
        plan += ["--hardware", f"here,disk={disk[0]}"]
    expect = tug_json(plan)["points"][-1]
    got = tug_json([o.tug, "bench", "-m", path, *ram, "-p", str(o.p), "-n", str(o.n), "-r", str(o.r), "--json"])
    rows = []
    for case in got["cases"]:
        want = expect[case["test"]]
        speed = statistics.median(case["tok_s"]["all"])
        rows.append({"model": path.rsplit("/", 1)[-1], "ceiling": ceiling, "test": case["test"],
                     "planned": want["tok_s"], "bound": want["bound"], "measured": speed,
                     "error": want["tok_s"] / speed - 1,
                     "hit_rate": case.get("streaming", {}).get("hit_rate"),
                     "starved": case["bound"]["starved_share"]})
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tug", default="build/tug")
    p.add_argument("-p", type=int, default=512)
    p.add_argument("-n", type=int, default=32)
    p.add_argument("-r", type=int, default=2)
    p.add_argument("--json", action="store_true")
    p.add_argument("spec", nargs="+")
    o = p.parse_args()
    rows = []
    for spec in o.spec:
        for row in check(o, spec):
            rows.append(row)
            if not o.json:
                print(f"{row['model']:<16} {row['ceiling']:>6}  {row['test']:<8} planned {row['planned']:7.1f}  "
                      f"measured {row['measured']:7.1f}  {100 * row['error']:+5.0f} %  bound by {row['bound']}"
                      f"  starved {100 * row['starved']:.0f} %", flush=True)
    if o.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    sys.exit(main())
