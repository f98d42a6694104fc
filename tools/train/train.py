#!/usr/bin/env python3
"""Train the tiny model on a CPU, in a given wall-clock time.

Data-parallel worker processes with one thread each (an OpenMP team stalls as soon as something else
wants the machine) over parameters and gradients in shared memory. Muon for the matrices, AdamW for the rest; the
learning rate follows the clock and reaches zero when the time is up. Writes `ckpt.pt` every few
minutes, `loss.csv` and `final.pt`.
"""
import argparse
import csv
import math
import os
import time

import torch
import torch.nn.functional as F

from model import Config, Model

CD = torch.bfloat16


# ------------------------------------------------------------------------------------- optimiser
def newton_schulz(g, steps=5):
    """Orthogonalise a batch of matrices with rows <= columns."""
    x = g.to(torch.bfloat16)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x


class Optimizer:
    """Muon for matrices, AdamW for the rest, over the parameters one worker owns.

    `master` are f32, `live` what the model computes with (bf16 matrices); gradients of all workers are
    read from shared memory, so no other reduction is needed."""

    RATE = {"embed": 0.01, "head": 0.004, "norm": 0.001, "router": 0.004, "ba": 0.004, "s_gate": 0.004}

    def __init__(self, c, names, master, live, grads):
        self.master, self.live, self.grads = master, live, grads
        self.groups, self.buf, self.adam, self.steps = {}, {}, {}, 0
        for n in names:
            leaf = n.split(".")[-1]
            views = self.views(c, leaf)
            for view in views:
                r, k = view(master[n]).shape[-2:]
                self.groups.setdefault((min(r, k), max(r, k)), []).append((n, view, r > k))
            if not views:
                self.adam[n] = (self.RATE.get(n if n == "norm" else leaf if leaf != "norm" else "", 0.006), torch.zeros_like(master[n]), torch.zeros_like(master[n]))
        self.names = names

    @staticmethod
    def views(c, leaf):
        key, h = c.k_heads * c.dk, c.hidden
        if leaf == "qkv":
            return [lambda t: t[:2 * key].view(2, key, h), lambda t: t[2 * key:].view(1, -1, h)]
        if leaf == "q":
            return [lambda t: t.view(-1, c.head_dim, h)]
        if leaf == "gate_up":
            return [lambda t: t.view(2 * c.experts, c.expert_width, h)]
        if leaf == "s_gate_up":
            return [lambda t: t.view(2, c.shared_width, h)]
        if leaf == "down":
            return [lambda t: t]
        if leaf in ("k", "v", "o", "z", "out", "s_down"):
            return [lambda t: t.unsqueeze(0)]
        return []

    @torch.no_grad()
    def step(self, lr, factor, momentum):
        self.steps += 1
        g = {n: sum(w[n].float() for w in self.grads) / len(self.grads) for n in self.names}
        for s, items in self.groups.items():
            x = torch.cat([v(g[n]).transpose(-1, -2) if tr else v(g[n]) for n, v, tr in items])
            b = self.buf.get(s)
            if b is None:
                b = self.buf[s] = torch.zeros_like(x)
            b.lerp_(x, 1 - momentum)
            u = newton_schulz(x.lerp_(b, momentum)).float()
            i = 0
            for n, v, tr in items:
                t = v(self.master[n])
                d = u[i:i + t.shape[0]]
                i += t.shape[0]
                t.add_(d.transpose(-1, -2) if tr else d, alpha=-lr * factor * max(1.0, t.shape[-2] / t.shape[-1]) ** 0.5)
        b1, b2 = 0.9, 0.95
        for n, (rate, m, v) in self.adam.items():
            m.lerp_(g[n], 1 - b1)
            v.mul_(b2).addcmul_(g[n], g[n], value=1 - b2)
            d = (v / (1 - b2 ** self.steps)).sqrt_().add_(1e-8)
            self.master[n].addcdiv_(m, d, value=-rate * factor / (1 - b1 ** self.steps))
        for n in self.names:
            if self.live[n].data_ptr() != self.master[n].data_ptr():
                self.live[n].copy_(self.master[n])


def is_matrix(c, name):
    leaf = name.split(".")[-1]
    return bool(Optimizer.views(c, leaf)) or leaf in ("head", "ba")


def owner(c, name, workers):
    """Which worker updates a parameter: layers in turn, embedding first, head last."""
    if name.startswith("blocks."):
        return int(name.split(".")[1]) % workers
    return 0 if name == "embed" else workers - 1


# ------------------------------------------------------------------------------------- batches
class Sampler:
    """Which pool and length each step uses comes from a generator all workers share."""

    def __init__(self, pools, seed, rank, tokens):
        self.pools, self.tokens = pools, tokens
        self.shared = torch.Generator().manual_seed(seed)
        self.own = torch.Generator().manual_seed(seed * 1000 + rank)
        self.weights = {k: torch.tensor([float(m.numel()) for _, m in v.values()])
                        for k, v in pools.items() if isinstance(v, dict)}

    def mix(self, t):
        """Shares of the pools at time t in 0..1: plain copying first, full tool headers later."""
        if t < 0.22:
            code, repeat, copy, tools = 0.10, 0.20, 0.14, 0.06
        else:
            code, repeat, copy, tools = 0.38, 0.03, 0.07, 0.16
        return {"code": code, "copy": copy, "tools": tools, "repeat": repeat, "plain": 1 - code - copy - tools - repeat}

    def repeated(self, length=256):
        """Token spans that come again, whole or in shuffled order; only what can be copied counts."""
        g, r = self.own, lambda n: torch.randint(0, n, (1,), generator=self.own).item()
        source, vocab = self.pools["copy"][256][0], 4064
        n = self.tokens // length
        ids, mask = torch.zeros(n, length, dtype=torch.long), torch.zeros(n, length, dtype=torch.bool)
        for i in range(n):
            def span(k):
                if r(3) == 0:
                    return torch.randint(0, vocab, (k,), generator=g)
                a = r(160)
                return source[r(len(source)), a:a + k].long()
            if r(2):
                s = span(12 + r(70))
                row = s.repeat(length // len(s) + 1)[:length]
                m = torch.arange(length) >= len(s) + 1
            else:
                spans = [span(4 + r(8)) for _ in range(3 + r(6))]
                parts, marks = list(spans), [torch.zeros(len(s), dtype=torch.bool) for s in spans]
                while sum(map(len, parts)) < length:
                    for j in torch.randperm(len(spans), generator=g).tolist():
                        parts.append(spans[j])
                        marks.append(torch.arange(len(spans[j])) >= 1)    # the first token only says which span
                row, m = torch.cat(parts)[:length], torch.cat(marks)[:length]
            ids[i], mask[i] = row, m
        return ids, mask

    def batch(self, t):
        mix = self.mix(t)
        names = list(mix)
        name = names[torch.multinomial(torch.tensor(list(mix.values())), 1, generator=self.shared).item()]
        if name == "code":
            length = 256 if t < 0.4 else 512
            n = self.tokens // length
            s = self.pools["code"]
            start = torch.randint(0, len(s) - length, (n,), generator=self.own)
            ids = torch.stack([s[a:a + length] for a in start.tolist()]).long()
            return name, ids, torch.ones_like(ids, dtype=torch.bool)
        if name == "repeat":
            return name, *self.repeated()
        pool = self.pools[name]
        length = list(pool)[torch.multinomial(self.weights[name], 1, generator=self.shared).item()]
        ids, mask = pool[length]
        rows = torch.randint(0, len(ids), (max(1, self.tokens // length),), generator=self.own)
        return name, ids[rows].long(), mask[rows]


def token_loss(model, ids, mask):
    """Cross entropy at the positions whose next token counts, and the balance term."""
    h = model.hidden(ids, CD)[:, :-1].reshape(-1, model.c.hidden)
    want = mask[:, 1:].reshape(-1)
    at = want.nonzero().squeeze(1)
    lg = model.logits(h[at], CD).float()
    return F.cross_entropy(lg, ids[:, 1:].reshape(-1)[at]), lg, at


@torch.no_grad()
def evaluate(model, pools, call_id, small=False):
    """Held-out loss on code and dialogues; share of tool calls that greedy decoding gets exactly right."""
    model.eval()
    s, out = pools["eval_code"], {}
    n = 6 if small else 24
    step = (len(s) - 512) // (n - 1)
    ids = torch.stack([s[i * step:i * step + 512] for i in range(n)]).long()
    out["code"] = sum(token_loss(model, b, torch.ones_like(b, dtype=torch.bool))[0].item() * len(b)
                      for b in ids.split(8)) / n
    for name in ("plain", "tools"):
        loss = cnt = good = calls = 0
        for ids, mask in pools["eval_" + name].values():
            if small:
                ids, mask = ids[:4 if name == "plain" else 1], mask[:4 if name == "plain" else 1]
            for i in range(0, len(ids), 8):
                b, m = ids[i:i + 8].long(), mask[i:i + 8]
                l, lg, at = token_loss(model, b, m)
                loss, cnt = loss + l.item() * len(at), cnt + len(at)
                ok = torch.ones(b[:, 1:].numel(), dtype=torch.bool)
                ok[at] = lg.argmax(-1) == b[:, 1:].reshape(-1)[at]
                ok = ok.view(b.shape[0], -1)
                for r in range(b.shape[0]):
                    row, mm = b[r].tolist(), m[r].tolist()
                    j = 0
                    while j < len(row):
                        if row[j] == call_id and mm[j]:
                            e = j
                            while e + 1 < len(row) and mm[e + 1]:
                                e += 1
                            calls += 1
                            good += bool(ok[r, j:e].all())            # ok[j] judges token j+1
                            j = e
                        j += 1
        out[name], out[name + "_exact"] = loss / cnt, good / max(1, calls)
    model.train()
    return out


# ------------------------------------------------------------------------------------- the run
def shared_state(c, a):
    """Parameters and gradients in memory that every worker maps."""
    torch.manual_seed(a.seed)
    master = {n: p.detach().clone() for n, p in Model(c).named_parameters()}
    info = {"step": 0, "tokens": 0, "spent": 0.0}
    if a.resume:
        ck = torch.load(a.resume)
        master = {n: ck["model"][n].clone() for n in master}
        info = {k: ck[k] for k in info}
    master = {n: t.share_memory_() for n, t in master.items()}
    live = {n: t.to(CD).share_memory_() if is_matrix(c, n) else t for n, t in master.items()}
    grads = [{n: torch.zeros_like(t).share_memory_() for n, t in live.items()} for _ in range(a.workers)]
    return master, live, grads, info


def worker(rank, a, c, master, live, grads, info, clock, barrier):
    os.setsid()                                                       # a scheduling group of its own
    torch.set_num_threads(1)
    pools = torch.load(a.pools, mmap=True)
    model = Model(c).train()
    for n, p in model.named_parameters():
        p.data = live[n]
        p.grad = grads[rank][n]
    opt = Optimizer(c, [n for n in master if owner(c, n, a.workers) == rank], master, live, grads)
    step, tokens = info["step"], info["tokens"]
    smp = Sampler(pools, a.seed + step, rank, a.tokens)
    begin = time.time() - info["spent"]
    last_save = last_eval = time.time()
    rows = log = None
    if rank == 0:
        log = open(os.path.join(a.out, "loss.csv"), "a" if a.resume else "w", newline="")
        rows = csv.writer(log)
        if not a.resume:
            rows.writerow(["step", "minutes", "tokens", "lr", "pool", "length", "loss", "balance", "eval_code", "eval_plain",
                           "eval_tools", "exact_plain", "exact_tools"])
        print("parameters:", sum(t.numel() for t in master.values()), flush=True)

    def save(name):
        t = os.path.join(a.out, name + ".tmp")
        torch.save({"model": {n: x.clone() for n, x in master.items()}, "config": c.__dict__, "step": step, "tokens": tokens,
                    "spent": time.time() - begin}, t)
        os.replace(t, os.path.join(a.out, name))

    local = 0
    while True:
        if rank == 0:
            clock[0] = (time.time() - begin) / (a.minutes * 60)       # rank 0's clock rules
        barrier.wait()                                                # all parameters are updated
        t = clock[0].item()
        if t >= 1:
            break
        scores = []
        if rank == 0 and time.time() - last_eval > a.eval_every * 60:
            e = evaluate(model, pools, a.call_id, small=True)
            scores = [f"{e[k]:.4f}" for k in ("code", "plain", "tools", "plain_exact", "tools_exact")]
            last_eval = time.time()
        if rank == 0 and time.time() - last_save > a.save_every * 60:
            save("ckpt.pt")
            last_save = time.time()
        factor = min(1.0, (local + 1) / (8 if a.resume else 15)) * (1.0 if t < a.flat else max(0.0, (1 - t) / (1 - a.flat)))
        name, ids, mask = smp.batch(t)
        for g in grads[rank].values():
            g.zero_()
        loss, _, _ = token_loss(model, ids, mask)
        aux = sum(b.moe.aux for b in model.blocks) / len(model.blocks)
        (loss + a.balance * aux).backward()
        barrier.wait()                                                # all gradients are there
        opt.step(a.lr, factor, 0.85 + 0.10 * min(1.0, step / 200))
        step, local = step + 1, local + 1
        tokens += ids.numel() * a.workers
        if rank:
            continue
        now = time.time()
        row = [step, f"{(now - begin) / 60:.2f}", tokens, f"{a.lr * factor:.5f}", name, ids.shape[1], f"{loss.item():.4f}", f"{aux.item():.3f}", *scores]
        rows.writerow(row)
        log.flush()
        if step % 10 == 0 or scores:
            load = torch.stack([b.moe.load for b in model.blocks])
            print(*row, f"load {load.min():.3f}..{load.max():.3f}", f"{time.process_time() / local:.2f} cpu s a step", flush=True)
    if rank == 0:
        e = evaluate(model, pools, a.call_id)
        print("final", {k: round(v, 4) for k, v in e.items()}, "perplexity on held-out code", round(math.exp(e["code"]), 2), flush=True)
        save("final.pt")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pools", required=True, help="file from data.py")
    p.add_argument("--out", required=True, help="folder for checkpoints and the log")
    p.add_argument("--minutes", type=float, default=85)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--tokens", type=int, default=4096, help="tokens per worker and step")
    p.add_argument("--lr", type=float, default=0.01, help="Muon's rate")
    p.add_argument("--flat", type=float, default=0.4, help="share of the time before the rate begins to fall")
    p.add_argument("--balance", type=float, default=0.01, help="weight of the router's balance term")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--resume", help="checkpoint to go on from")
    p.add_argument("--eval-every", type=float, default=6, help="minutes")
    p.add_argument("--save-every", type=float, default=4, help="minutes")
    p.add_argument("--call-id", type=int, default=4078, help="id of <tool_call>")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    torch.set_num_threads(1)
    c = Config()
    barrier = torch.multiprocessing.get_context("spawn").Barrier(a.workers)
    clock = torch.zeros(1, dtype=torch.float64).share_memory_()
    torch.multiprocessing.spawn(worker, (a, c, *shared_state(c, a), clock, barrier), nprocs=a.workers)


if __name__ == "__main__":
    main()
