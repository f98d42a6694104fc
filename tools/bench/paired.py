#!/usr/bin/env python3
"""Prefill and decode of tug beside a llama-bench of another engine, in turn, on one file.

    tools/bench/paired.py --peer PATH/llama-bench -m slice.gguf [-p 512,2048] [-n 64] [-r 5]

Each round runs tug, then the peer, so that a machine whose speed drifts drifts for both.
Prompts are random token ids, new ones every round.  Prints medians, spreads and the median
of the ratios round by round; --json for machines.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run_tug(tug, model, threads, n_prompt, n_decode, rng):
    ids = ",".join(str(rng.randrange(1000, 150000)) for _ in range(n_prompt))
    out = subprocess.run([tug, "run", "-m", model, "-t", str(threads), "--ids", ids, "--temp", "0",
                          "-n", str(n_decode), "-c", str(n_prompt + n_decode + 8), "--json"],
                         check=True, capture_output=True).stdout
    t = json.loads(out)["timings"]
    return t["prefill_tok_s"], t["decode_tok_s"]


def run_peer(peer, model, threads, n_prompt, n_decode):
    out = subprocess.run([peer, "-m", model, "-t", str(threads), "-p", str(n_prompt), "-n", str(n_decode),
                          "-r", "1", "-o", "json"], check=True, capture_output=True).stdout
    found = {}
    for row in json.loads(out):
        found["prefill" if row["n_prompt"] else "decode"] = row["avg_ts"]
    return found["prefill"], found["decode"]


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tug", default=os.path.join(ROOT, "build/tug"))
    p.add_argument("--peer", required=True)
    p.add_argument("-m", dest="model", required=True)
    p.add_argument("-t", dest="threads", type=int, default=os.cpu_count())
    p.add_argument("-p", dest="prompts", default="512,2048")
    p.add_argument("-n", dest="decode", type=int, default=64)
    p.add_argument("-r", dest="rounds", type=int, default=5)
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    rng = random.Random(1)
    prompts = [int(x) for x in args.prompts.split(",")]
    pairs = {f"prefill {n}": [] for n in prompts} | {"decode": []}
    for _ in range(args.rounds):
        for n in prompts:
            ours = run_tug(args.tug, args.model, args.threads, n, args.decode, rng)
            theirs = run_peer(args.peer, args.model, args.threads, n, args.decode)
            pairs[f"prefill {n}"].append((ours[0], theirs[0]))
            if n == prompts[0]:
                pairs["decode"].append((ours[1], theirs[1]))
    rows = {name: {"tug": summary([a for a, _ in v]), "peer": summary([b for _, b in v]),
                   "ratio": summary([a / b for a, b in v])} for name, v in pairs.items()}
    if args.json:
        print(json.dumps({"model": args.model, "threads": args.threads, "rounds": args.rounds, "tok_s": rows}))
        return 0
    print(f"{os.path.basename(args.model)}, {args.threads} threads, {args.rounds} rounds, tok/s: median (min..max)")
    for name, r in rows.items():
        cell = lambda s, f: f"{s['median']:{f}} ({s['min']:{f}}..{s['max']:{f}})"  # noqa: E731
        print(f"  {name:<13} tug {cell(r['tug'], '.1f'):<24} peer {cell(r['peer'], '.1f'):<24} "
              f"ratio {cell(r['ratio'], '.2f')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
