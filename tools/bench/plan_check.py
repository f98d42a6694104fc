#!/usr/bin/env python3
"""What tug plan predicts beside what tug bench measures, in one run.

    tools/bench/plan_check.py [--tug build/tug] [-p 512] [-n 32] FILE:CEILING[:DISK] ...

For each model and ceiling ("4G"; "-": none), round by round, the machine is probed, the plan made
for the routing of `tug synth` models, and prefill and decode measured three times: a machine that
changes its speed from minute to minute changes it for both.  The error is the median of the rounds'.  DISK is
a rate in GB/s that the plan is told instead of the probe's.  Prints a table, or JSON with --json.
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


def one_round(o, path, ram, hardware):
    """{test: (planned, its bound, measured, case)}, measured within seconds of the probe."""
    plan = [o.tug, "plan", "-m", path, *ram, "-c", str(o.p), "--routing", "skewed", "--probe", "--json", *hardware]
    expect = tug_json(plan)["points"][-1]
    got = tug_json([o.tug, "bench", "-m", path, *ram, "-p", str(o.p), "-n", str(o.n), "-r", "3", "--json"])
    return {c["test"]: (expect[c["test"]]["tok_s"], expect[c["test"]]["bound"],
                        statistics.median(c["tok_s"]["all"]), c) for c in got["cases"]}


def check(o, spec):
    path, ceiling, *disk = spec.split(":")
    ram = [] if ceiling == "-" else ["--ram", ceiling]
    hardware = ["--hardware", f"here,disk={disk[0]}"] if disk else []
    rounds = [one_round(o, path, ram, hardware) for _ in range(o.r)]
    rows = []
    for test in rounds[0]:
        got = [r[test] for r in rounds]
        errors = sorted(planned / measured - 1 for planned, _, measured, _ in got)
        rows.append({"model": path.rsplit("/", 1)[-1], "ceiling": ceiling, "test": test,
                     "planned": statistics.median(g[0] for g in got), "bound": got[0][1],
                     "measured": statistics.median(g[2] for g in got),
                     "error": statistics.median(errors), "least": errors[0], "most": errors[-1],
                     "hit_rate": got[0][3].get("streaming", {}).get("hit_rate"),
                     "bandwidth_share": statistics.median(g[3]["bound"]["bandwidth_share"] for g in got),
                     "starved": max(g[3]["bound"]["starved_share"] for g in got)})
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tug", default="build/tug")
    p.add_argument("-p", type=int, default=512)
    p.add_argument("-n", type=int, default=32)
    p.add_argument("-r", type=int, default=3, help="rounds")
    p.add_argument("--json", action="store_true")
    p.add_argument("spec", nargs="+")
    o = p.parse_args()
    rows = []
    for spec in o.spec:
        for row in check(o, spec):
            rows.append(row)
            if not o.json:
                print(f"{row['model']:<16} {row['ceiling']:>6}  {row['test']:<8} planned {row['planned']:7.1f}  "
                      f"measured {row['measured']:7.1f}  {100 * row['error']:+5.0f} % "
                      f"({100 * row['least']:+.0f} to {100 * row['most']:+.0f})  bound by {row['bound']}"
                      f"  starved {100 * row['starved']:.0f} %", flush=True)
    if o.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    sys.exit(main())
