#!/usr/bin/env python3
"""Prefill and decode of tug beside another engine, in turn, on one file.

    tools/bench/paired.py --peer PATH/llama-bench -m slice.gguf [-p 512,2048] [-n 64] [-r 5]
        [--settings "-fa 1;-fa 1 -ub 2048 -b 2048;-fa 1 -rtr 1"]
        [--sweep PATH/llama-sweep-bench -d 8192,32768 [--sweep-settings "-fa on;-fa on -rtr"]]

Each round runs `tug bench --json` once and the peer once per setting, so that a machine whose
speed drifts drifts for both; tug measures the read bandwidth beside each of its tests.  Prompts
are random token ids, new ones every round.  Depth 0 is measured with llama-bench: prefill of
each -p, and -n tokens after a prompt of the first -p.  Deeper ones with llama-sweep-bench, whose
prefill is the first -p at that depth: depths must be multiples of it.

The peer's best setting is, test by test, the one with the highest median.  Printed are medians,
spreads, and the median of tug / best round by round; --json for machines.  Neither side's decode
counts sampling.  tug's prefill counts the logits of the last token, as the peer's does.
"""
import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def output(command, errors=subprocess.DEVNULL):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=errors).stdout


def name_of(test, tokens, depth):
    return f"{test} {tokens}" + (f" at {depth}" if depth else "")


def run_tug(args, depths, seed):
    """{name: (tok/s, GB/s read)}; decode at the depths of the peer's."""
    found = {}
    common = [args.tug, "bench", "-m", args.model, "-t", str(args.threads), "-r", "1", "--seed", str(seed),
              "--json", *(["--cpu", args.cpu] if args.cpu else []), *shlex.split(args.tug_options)]
    runs = [["-p", args.prompts, "-n", "0", "-d", "0"],
            ["-p", "1", "-n", str(args.decode), "-d", args.prompts.split(",")[0]]]
    if depths:
        runs.append(["-p", args.prompts.split(",")[0], "-n", str(args.decode),
                     "-d", ",".join(map(str, depths))])
    for which, more in enumerate(runs):
        for case in json.loads(output(common + more))["cases"]:
            if which == 1 and case["test"] == "prefill":
                continue
            depth = case["depth"] if which == 2 else 0
            found[name_of(case["test"], case["tokens"], depth)] = (
                case["tok_s_without_sampling"]["median"], case["limits"]["read_bytes_s"]["median"] / 1e9)
    return found


def run_peer(args, setting):
    first = args.prompts.split(",")[0]
    rows = json.loads(output([args.peer, "-m", args.model, "-t", str(args.threads), "-p", args.prompts, "-n", "0",
                              "-gp", f"{first},{args.decode}", "-r", "1", "-o", "json", *shlex.split(setting)]))
    return {name_of("decode", row["n_gen"], 0) if row["n_gen"] else name_of("prefill", row["n_prompt"], 0):
            row["avg_ts"] for row in rows}


def run_sweep(args, setting, depths):
    pp = int(args.prompts.split(",")[0])
    stride = math.gcd(*depths) // pp
    # its rows go to the log, which is stderr
    lines = output([args.sweep, "-m", args.model, "-t", str(args.threads), "-c", str(max(depths) + pp),
                    "-b", str(pp), "-ub", str(pp), "-n", str(args.decode), "--sweep-stride", str(stride),
                    "--output-format", "jsonl", *shlex.split(setting)],
                   subprocess.STDOUT).decode().splitlines()
    found = {}
    for row in (json.loads(line) for line in lines if line.startswith("{")):
        if row["n_kv"] in depths:
            found[name_of("prefill", pp, row["n_kv"])] = row["speed_pp"]
            found[name_of("decode", args.decode, row["n_kv"])] = row["speed_tg"]
    return found


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(ours, theirs):
    """ours {test: [(tok/s, GB/s)]}, theirs {setting: {test: [tok/s]}} to rows by test."""
    rows = {}
    for test, values in ours.items():
        by_setting = {s: t[test] for s, t in theirs.items() if test in t}
        if not by_setting:
            continue
        best = max(by_setting, key=lambda s: statistics.median(by_setting[s]))
        rows[test] = {"tug": summary([v for v, _ in values]), "peer": summary(by_setting[best]),
                      "peer_setting": best,
                      "peer_all": {s: summary(v) for s, v in by_setting.items()},
                      "ratio": summary([v / p for (v, _), p in zip(values, by_setting[best])]),
                      "read_gb_s": summary([b for _, b in values])}
    return rows


def parse_args():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tug", default=os.path.join(ROOT, "build/tug"))
    p.add_argument("--tug-options", default="", help="more flags of tug bench, in one string")
    p.add_argument("--cpu", help="tug's kernel level")
    p.add_argument("--peer", required=True, help="llama-bench of the other engine")
    p.add_argument("--settings", default="", help="flags of llama-bench to try, separated by ';'")
    p.add_argument("--sweep", help="llama-sweep-bench of the other engine, for depths")
    p.add_argument("--sweep-settings", default="", help="its flags to try, separated by ';'")
    p.add_argument("-m", dest="model", required=True)
    p.add_argument("-t", dest="threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("-p", dest="prompts", default="512,2048")
    p.add_argument("-n", dest="decode", type=int, default=64)
    p.add_argument("-d", dest="depths", default="")
    p.add_argument("-r", dest="rounds", type=int, default=5)
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    args.depths = [int(d) for d in args.depths.split(",") if d]
    first = int(args.prompts.split(",")[0])
    if args.depths and not args.sweep:
        p.error("-d needs --sweep, a llama-sweep-bench")
    if any(d < 1 or d % first for d in args.depths):
        p.error(f"depths must be multiples of the first prompt, {first}")
    return args


def main():
    args = parse_args()
    ours, theirs = {}, {}

    def add(setting, found):
        for test, value in found.items():
            theirs.setdefault(setting, {}).setdefault(test, []).append(value)

    for seed in range(1, args.rounds + 1):
        for test, value in run_tug(args, args.depths, seed).items():
            ours.setdefault(test, []).append(value)
        for setting in args.settings.split(";"):
            add(setting.strip(), run_peer(args, setting))
        for setting in args.sweep_settings.split(";") if args.depths else []:
            add("sweep " + setting.strip(), run_sweep(args, setting, args.depths))
    rows = compare(ours, theirs)
    if args.json:
        print(json.dumps({"model": args.model, "threads": args.threads, "rounds": args.rounds, "tok_s": rows}))
        return 0
    print(f"{os.path.basename(args.model)}, {args.threads} threads, {args.rounds} rounds, tok/s: median (min..max)")
    for test, r in rows.items():
        def cell(s, f):
            return f"{s['median']:{f}} ({s['min']:{f}}..{s['max']:{f}})"
        print(f"  {test:<22} tug {cell(r['tug'], '.1f'):<24} peer {cell(r['peer'], '.1f'):<24} "
              f"ratio {cell(r['ratio'], '.2f'):<18} read {cell(r['read_gb_s'], '.1f')} GB/s"
              f"  peer's best: {r['peer_setting'] or 'default'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
