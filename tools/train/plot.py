#!/usr/bin/env python3
"""Draw the loss curve of a training log as SVG: `plot.py loss.csv out.svg [--clean out.csv]`.

`--clean` also writes the log with one row per step (a resumed run repeats the steps after its checkpoint).
"""
import argparse
import csv

W, H, L, R, T, B = 760, 400, 56, 16, 28, 44
COLOUR = {"code": "#777777", "repeat": "#c99a2e", "copy": "#c44e52", "plain": "#2f6db5", "tools": "#55934a"}


def read(path):
    rows = {}
    for r in csv.DictReader(open(path, newline="")):
        rows[int(r["step"])] = r
    return [rows[k] for k in sorted(rows)]


def smooth(points, n=12):
    out = []
    for i in range(len(points)):
        part = points[max(0, i - n + 1):i + 1]
        out.append((points[i][0], sum(y for _, y in part) / len(part)))
    return out


def svg(rows):
    last = max(int(r["tokens"]) for r in rows)
    top = max(float(r["loss"]) for r in rows)
    x = lambda t: L + (W - L - R) * t / last
    y = lambda v: T + (H - T - B) * (1 - v / top)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="sans-serif" font-size="12">',
           f'<rect width="{W}" height="{H}" fill="white"/>']
    for v in range(0, int(top) + 1):
        out.append(f'<line x1="{L}" x2="{W - R}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#e4e4e4"/><text x="{L - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v}</text>')
    for i in range(6):
        t = last * i / 5
        out.append(f'<text x="{x(t):.1f}" y="{H - B + 18}" text-anchor="middle">{t / 1e6:.2f}</text>')
    out.append(f'<text x="{(L + W - R) / 2}" y="{H - 8}" text-anchor="middle">tokens seen (millions)</text>')
    out.append(f'<text x="{L}" y="18">cross entropy per token (nats), mean of 12 steps; dots: held-out</text>')
    for n, (pool, colour) in enumerate(COLOUR.items()):
        pts = smooth([(int(r["tokens"]), float(r["loss"])) for r in rows if r["pool"] == pool])
        if pts:
            d = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in pts)
            out.append(f'<polyline points="{d}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if "eval_" + pool in rows[0]:
            out += [f'<circle cx="{x(int(r["tokens"])):.1f}" cy="{y(float(r["eval_" + pool])):.1f}" r="3.5" fill="{colour}"/>'
                    for r in rows if r["eval_" + pool]]
        label = {"code": "code", "copy": "copying dialogues", "repeat": "repeated spans", "plain": "dialogues", "tools": "dialogues with tool header"}[pool]
        out.append(f'<rect x="{W - 190}" y="{T + 6 + 18 * n}" width="12" height="12" fill="{colour}"/><text x="{W - 172}" y="{T + 16 + 18 * n}">{label}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("log")
    p.add_argument("out")
    p.add_argument("--clean")
    a = p.parse_args()
    rows = read(a.log)
    with open(a.out, "w") as f:
        f.write(svg(rows))
    if a.clean:
        with open(a.clean, "w", newline="") as f:
            w = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
            w.writeheader()
            w.writerows(rows)


if __name__ == "__main__":
    main()
