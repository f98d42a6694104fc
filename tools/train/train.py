#!/usr/bin/env python3
"""Train the tiny model on a CPU, in a given wall-clock time.

Data-parallel worker processes with one thread each (an OpenMP team stalls as soon as something else
wants the machine); gradients are averaged with gloo. Muon for the matrices, AdamW for the rest; the
learning rate follows the clock and reaches zero when the time is up. Writes `ckpt.pt` every few
minutes, `loss.csv` and `final.pt`.
"""
import argparse
import csv
import math
import os
import time

import torch
import torch.distributed as dist
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


class Muon:
    """Muon over views of the parameters, batched by shape."""

    def __init__(self, model, momentum=0.95):
        self.momentum, self.groups = momentum, {}
        c = model.c
        for name, p in model.named_parameters():
            leaf = name.split(".")[-1]
            for view in self.views(c, leaf):
                r, k = view(p.data).shape[-2:]
                self.groups.setdefault((min(r, k), max(r, k)), []).append((p, view, r > k))
        self.buf = {s: None for s in self.groups}

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
    def step(self, lr):
        for s, items in self.groups.items():
            g = torch.cat([v(p.grad).transpose(-1, -2) if tr else v(p.grad) for p, v, tr in items])
            b = self.buf[s]
            if b is None:
                b = self.buf[s] = torch.zeros_like(g)
            b.lerp_(g, 1 - self.momentum)
            u = newton_schulz(g.lerp_(b, self.momentum)).float()
            i = 0
            for p, v, tr in items:
                t = v(p.data)
                d = u[i:i + t.shape[0]]
                i += t.shape[0]
                t.add_(d.transpose(-1, -2) if tr else d, alpha=-lr * max(1.0, t.shape[-2] / t.shape[-1]) ** 0.5)


def adam_groups(model):
    rate = {"embed": 0.02, "head": 0.004, "router": 0.004, "ba": 0.004, "s_gate": 0.004}
    groups = {}
    for name, p in model.named_parameters():
        leaf = name.split(".")[-1]
        if not Muon.views(model.c, leaf):
            groups.setdefault(rate.get(leaf, 0.006), []).append(p)
    return [{"params": v, "lr": k, "base": k} for k, v in groups.items()]


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
        """Shares of the pools at time t in 0..1: copying first, full tool headers later."""
        copy = 0.35 * max(0.0, 1 - t / 0.3) + 0.05
        tools = 0.05 + 0.15 * min(1.0, t / 0.5)
        code = 0.40 if t < 0.85 else 0.30
        return {"code": code, "copy": copy, "tools": tools, "plain": 1 - code - copy - tools}

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
def evaluate(model, pools, call_id):
    """Held-out loss on code and dialogues; share of tool calls that greedy decoding gets exactly right."""
    model.eval()
    s, out = pools["eval_code"], {}
    n = min(24, len(s) // 512)
    step = (len(s) - 512) // max(1, n - 1)
    ids = torch.stack([s[i * step:i * step + 512] for i in range(n)]).long()
    out["code"] = sum(token_loss(model, b, torch.ones_like(b, dtype=torch.bool))[0].item() * len(b)
                      for b in ids.split(8)) / n
    for name in ("plain", "tools"):
        loss = cnt = good = calls = 0
        for ids, mask in pools["eval_" + name].values():
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
def worker(rank, a):
    torch.set_num_threads(1)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(a.port))
    dist.init_process_group("gloo", rank=rank, world_size=a.workers)
    torch.manual_seed(a.seed)
    pools = torch.load(a.pools, mmap=True)
    model = Model(Config()).train()
    muon = Muon(model)
    adam = torch.optim.AdamW(adam_groups(model), betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True)
    step = tokens = 0
    spent = 0.0
    if a.resume:
        ck = torch.load(a.resume)
        model.load_state_dict(ck["model"])
        adam.load_state_dict(ck["adam"])
        muon.buf = ck["muon"]
        step, tokens, spent = ck["step"], ck["tokens"], ck["spent"]
    params = list(model.parameters())
    total = sum(p.numel() for p in params)
    flat = torch.zeros(total)
    i = 0
    for p in params:                                                  # gradients live in one buffer
        p.grad = flat[i:i + p.numel()].view_as(p)
        i += p.numel()
    smp = Sampler(pools, a.seed + step, rank, a.tokens)
    begin = time.time() - spent
    last_save = last_eval = time.time()
    log = None
    if rank == 0:
        new = not a.resume
        log = open(os.path.join(a.out, "loss.csv"), "w" if new else "a", newline="")
        rows = csv.writer(log)
        if new:
            rows.writerow(["step", "minutes", "tokens", "lr", "pool", "length", "loss", "balance", "eval_code", "eval_plain",
                           "eval_tools", "exact_plain", "exact_tools"])
        print("parameters:", total, flush=True)
    state = torch.zeros(1, dtype=torch.float64)

    def save(name):
        t = os.path.join(a.out, name + ".tmp")
        torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.buf, "config": model.c.__dict__,
                    "step": step, "tokens": tokens, "spent": time.time() - begin}, t)
        os.replace(t, os.path.join(a.out, name))

    while True:
        state[0] = (time.time() - begin) / (a.minutes * 60)           # rank 0's clock rules
        dist.broadcast(state, 0)
        t = state.item()
        if t >= 1:
            break
        factor = min(1.0, (step + 1) / 40) * (1.0 if t < a.flat else max(0.0, (1 - t) / (1 - a.flat)))
        name, ids, mask = smp.batch(t)
        flat.zero_()
        loss, _, _ = token_loss(model, ids, mask)
        aux = sum(b.moe.aux for b in model.blocks) / len(model.blocks)
        (loss + a.balance * aux).backward()
        dist.all_reduce(flat)
        flat /= a.workers
        norm = flat.norm()
        if norm > 2.0:
            flat *= 2.0 / norm
        muon.momentum = 0.85 + 0.10 * min(1.0, step / 200)
        muon.step(a.lr * factor)
        for g in adam.param_groups:
            g["lr"] = g["base"] * factor
        adam.step()
        step += 1
        tokens += ids.numel() * a.workers
        if rank:
            continue
        now = time.time()
        row = [step, f"{(now - begin) / 60:.2f}", tokens, f"{a.lr * factor:.5f}", name, ids.shape[1], f"{loss.item():.4f}", f"{aux.item():.3f}"]
        if now - last_eval > a.eval_every * 60:
            e = evaluate(model, pools, a.call_id)
            row += [f"{e[k]:.4f}" for k in ("code", "plain", "tools", "plain_exact", "tools_exact")]
            last_eval = now
        if now - last_save > a.save_every * 60:
            save("ckpt.pt")
            last_save = now
        rows.writerow(row)
        log.flush()
        if step % 10 == 0 or len(row) > 8:
            load = torch.stack([b.moe.load for b in model.blocks])
            print(*row, f"norm {norm:.2f} load {load.min():.3f}..{load.max():.3f}", f"{tokens / (now - begin):.0f} tok/s", flush=True)
    if rank == 0:
        e = evaluate(model, pools, a.call_id)
        print("final", {k: round(v, 4) for k, v in e.items()}, "perplexity on held-out code", round(math.exp(e["code"]), 2), flush=True)
        save("final.pt")
    dist.barrier()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pools", required=True, help="file from data.py")
    p.add_argument("--out", required=True, help="folder for checkpoints and the log")
    p.add_argument("--minutes", type=float, default=85)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--tokens", type=int, default=4096, help="tokens per worker and step")
    p.add_argument("--lr", type=float, default=0.02, help="Muon's rate")
    p.add_argument("--flat", type=float, default=0.45, help="share of the time before the rate begins to fall")
    p.add_argument("--balance", type=float, default=0.01, help="weight of the router's balance term")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--resume", help="checkpoint to go on from")
    p.add_argument("--eval-every", type=float, default=6, help="minutes")
    p.add_argument("--save-every", type=float, default=4, help="minutes")
    p.add_argument("--call-id", type=int, default=4078, help="id of <tool_call>")
    p.add_argument("--port", type=int, default=29511)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    torch.multiprocessing.spawn(worker, (a,), nprocs=a.workers)


if __name__ == "__main__":
    main()
