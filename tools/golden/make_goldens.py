#!/usr/bin/env python3
"""Golden files: what transformers computes for small random qwen3next models, in f32.

Each golden is a pair: `NAME.gguf`, a complete file (weights, metadata, byte-level tokenizer), and
`NAME.gold`, little endian, no padding:

    char magic[8]            "TUGGOLD1"
    u32  n_tokens, n_vocab, n_layer, hidden, n_pos
    i32  tokens[n_tokens]
    i32  pos[n_pos]          the recorded positions, ascending
    f32  logits[n_pos][n_vocab]
    f32  taps[n_layer][2][n_pos][hidden]   0: residual stream after the layer's mixer, 1: layer output
    f32  mean[n_tokens]      mean of each position's logits
    f32  rms[n_tokens]       root of the mean square of each position's logits

The f32 reference runs with exactly the weights of the file (quantised types expanded). An independent
float64 pass over the file (reference.py) gives the reference's own error; it is printed and written
to `goldens.txt`, with the smallest router gap: token seeds are advanced until no routing decision
hangs on less than --gap. Weights are random but lively: logits, gates, decays and routing all spread.

    make_goldens.py --out tests/golden/data                     the committed set
    make_goldens.py --out DIR --seed N --count K [--large]      other random models
    make_goldens.py --out DIR --model models/FILE.gguf          golden of an existing file (tokens of a tool dialogue)
"""
import argparse
import os
import random
import struct
import sys

import numpy as np
import torch
from transformers import Qwen3NextForCausalLM

import gguf_export
import reference

POSITIONS = [0, 1, 2, 3, 61, 62, 63, 64, 65, 66, 127, 128, 129, 255, 256, 257, 298, 299]
BASE = dict(layers=4, interval=4, head_dim=256, rotary=64, theta=1e6, dk=128, dv=128, conv=4, eps=1e-6, context=4096)


def committed():
    """The configurations in the repository: (name, config, types, layout, options)."""
    def mixed(n, a):
        if "exps" in n:
            return "q4_0" if "down" not in n else "q5_0"
        return {"attn_k.weight": "q8_0", "attn_v.weight": "q5_1", "attn_output.weight": "bf16"}.get(n.split(".", 2)[-1], "q4_1" if "output" not in n else "q8_0")
    yield ("true-q8", dict(BASE, vocab=288, hidden=128, heads=2, kv_heads=1, k_heads=1, v_heads=2, experts=8, topk=3,
                           expert_width=32, shared_width=32, tied=False), "q8_0", "split", dict(no_interval=True))
    yield ("small-f32", dict(BASE, vocab=300, hidden=64, heads=4, kv_heads=2, head_dim=32, rotary=8, k_heads=2, v_heads=8, dk=16, dv=16,
                             experts=8, topk=2, expert_width=32, shared_width=64, tied=True, theta=1e4), "f32", "fused", {})
    yield ("wide-f16", dict(BASE, vocab=272, hidden=96, layers=6, interval=3, heads=4, kv_heads=1, head_dim=64, rotary=16, k_heads=2, v_heads=2,
                            dk=32, dv=32, experts=8, topk=5, expert_width=32, shared_width=96, tied=False, eps=1e-5), "f16", "split", {})
    yield ("deep-mixed", dict(BASE, vocab=320, hidden=64, layers=8, heads=2, kv_heads=2, head_dim=32, rotary=16, k_heads=2, v_heads=4,
                              dk=32, dv=32, experts=32, topk=4, expert_width=32, shared_width=32, tied=False, theta=5e6), mixed, "mixed", {})
    yield ("true-bf16", dict(BASE, vocab=288, hidden=64, heads=4, kv_heads=2, k_heads=2, v_heads=4, experts=4, topk=2,
                             expert_width=64, shared_width=32, tied=True, theta=1e7), "bf16", "fused", {})


def random_config(rng, large):
    h = rng.choice((64, 96, 128, 160) if not large else (256, 384, 512))
    true = large or rng.random() < 0.5
    hk = rng.choice((1, 2, 4) if not true else (1, 2))
    kv = rng.choice((1, 2))
    d = 256 if true else rng.choice((32, 64, 96))
    e = rng.choice((4, 8, 16, 32))
    c = dict(BASE, vocab=rng.choice((272, 288, 300, 320)), hidden=h, interval=rng.choice((2, 3, 4, 4)), heads=kv * rng.choice((1, 2, 4)), kv_heads=kv,
             head_dim=d, rotary=rng.choice((d // 4, d // 2, d)), k_heads=hk, v_heads=hk * rng.choice((1, 2, 4)), dk=128 if true else rng.choice((16, 32, 64)),
             experts=e, topk=rng.randint(2, min(5, e)), expert_width=32 * rng.choice((1, 2, 3)), shared_width=32 * rng.choice((1, 2, 4)),
             tied=rng.random() < 0.5, theta=rng.choice((1e4, 1e6, 5e6)), layers=rng.randint(4, 8), eps=rng.choice((1e-6, 1e-5)))
    c["dv"] = c["dk"]
    return c, rng.choice(("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")), rng.choice(("split", "fused", "mixed"))


def lively_weights(sd, seed):
    """Random weights of realistic spread for every tensor of a state dict."""
    g = torch.Generator().manual_seed(seed)
    n = lambda s, std: torch.randn(s, generator=g) * std
    u = lambda s, a, b: torch.rand(s, generator=g) * (b - a) + a
    out = {}
    for k, v in sd.items():
        s = v.shape
        if "embed_tokens" in k:
            w = n(s, 1.0)
        elif "lm_head" in k:
            w = n(s, 2.5 * s[-1] ** -0.5)
        elif k.endswith("linear_attn.norm.weight"):
            w = 1 + n(s, 0.2)
        elif "norm" in k:
            w = n(s, 0.25)                                            # the file holds 1 + w
        elif k.endswith("A_log"):
            w = u(s, -1.5, 2.5)
        elif k.endswith("dt_bias"):
            w = u(s, -4.0, 1.0)
        elif k.endswith("conv1d.weight"):
            w = n(s, 0.5)
        elif k.endswith("in_proj_ba.weight"):
            w = n(s, 1.3 * s[-1] ** -0.5)
        elif k.endswith("mlp.gate.weight"):
            w = n(s, 1.5 * s[-1] ** -0.5)
        elif k.endswith("shared_expert_gate.weight"):
            w = n(s, 1.5 * s[-1] ** -0.5)
        elif k.endswith(("o_proj.weight", "out_proj.weight")):
            w = n(s, 0.7 * s[-1] ** -0.5)
        elif "down_proj" in k:
            w = n(s, 1.5 * s[-1] ** -0.5)
        else:
            w = n(s, 1.2 * s[-1] ** -0.5)
        out[k] = w
    if torch.equal(sd["lm_head.weight"], sd["model.embed_tokens.weight"]):
        out["model.embed_tokens.weight"] *= 0.5
        out["lm_head.weight"] = out["model.embed_tokens.weight"]
    return out


@torch.no_grad()
def run_transformers(c, sd, tokens):
    """(logits [t, vocab], taps [layers, 2, t, hidden]) in f32 by transformers, eager attention."""
    model = Qwen3NextForCausalLM._from_config(gguf_export.hf_config(c), attn_implementation="eager").float().eval()
    bad = model.load_state_dict(sd, strict=False)
    assert not bad.unexpected_keys and set(bad.missing_keys) <= {"lm_head.weight"}, bad
    taps = [[None, None] for _ in range(c["layers"])]
    for i, layer in enumerate(model.model.layers):
        layer.post_attention_layernorm.register_forward_pre_hook(lambda m, a, i=i: taps[i].__setitem__(0, a[0][0].clone()))
        layer.register_forward_hook(lambda m, a, o, i=i: taps[i].__setitem__(1, (o[0] if isinstance(o, tuple) else o)[0].clone()))
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0].float()
    return logits.numpy(), np.stack([np.stack([t.float().numpy().reshape(len(tokens), -1) for t in pair]) for pair in taps])


def write_gold(path, tokens, pos, logits, taps):
    with open(path, "wb") as f:
        f.write(b"TUGGOLD1" + struct.pack("<5I", len(tokens), logits.shape[1], taps.shape[0], taps.shape[3], len(pos)))
        f.write(np.asarray(tokens, "<i4").tobytes() + np.asarray(pos, "<i4").tobytes())
        f.write(logits[pos].astype("<f4").tobytes())
        f.write(np.ascontiguousarray(taps[:, :, pos]).astype("<f4").tobytes())
        f.write(logits.mean(1).astype("<f4").tobytes())
        f.write(np.sqrt((logits.astype(np.float64) ** 2).mean(1)).astype("<f4").tobytes())


def golden(out, name, path, c, sd, arrays, seed, count, gap_wanted, tokens=None):
    """Write NAME.gold for the file at `path`; returns the line for goldens.txt."""
    fixed = tokens
    for attempt in range(40):
        tokens = fixed or np.random.default_rng(seed * 100 + attempt).integers(0, c["vocab"], count).tolist()
        exact, exact_taps, gap = reference.forward(c, arrays, tokens)
        if gap >= gap_wanted or fixed:
            break
    logits, taps = run_transformers(c, sd, tokens)
    pos = [p for p in POSITIONS if p < len(tokens)]
    write_gold(os.path.join(out, name + ".gold"), tokens, pos, logits, taps)
    err = np.abs(logits - exact)
    line = (f"{name}: logits std {logits.std():.3f}, f32 reference against float64: max {err.max():.2e} mean {err.mean():.2e}, "
            f"taps max {np.abs(taps - exact_taps).max():.2e} of rms {np.sqrt((taps ** 2).mean()):.2f}; smallest router gap {gap:.1e}")
    print(line, flush=True)
    return line


def dialogue_ids(meta):
    """Tokens of a fixed tool dialogue in the tiny model's own tokenizer."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
    import chat
    import dialogues
    import tokenizer
    rng = random.Random(4)
    m = [x for fn in (dialogues.t_rename, dialogues.t_write, dialogues.t_list, dialogues.t_run, dialogues.t_fix) for x in fn(rng, dialogues.HELDOUT)]
    return tokenizer.from_gguf(meta).encode(chat.render_text(m)).ids


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, help="make this many random configurations instead of the committed ones")
    p.add_argument("--large", action="store_true", help="with --count: hidden 256 and more, true head sizes")
    p.add_argument("--tokens", type=int, default=300)
    p.add_argument("--gap", type=float, default=3e-5)
    p.add_argument("--model", help="an existing GGUF file")
    p.add_argument("--ids", help="with --model: file with comma-separated token ids instead of the dialogue")
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    lines = []
    if a.model:
        c, sd, meta = gguf_export.load(a.model)
        _, arrays = gguf_export.read(a.model)
        ids = [int(x) for x in open(a.ids).read().split(",")] if a.ids else dialogue_ids(meta)
        ids = ids[:a.tokens]
        name = os.path.basename(a.model)[:-5]
        print(golden(a.out, name, a.model, c, sd, arrays, a.seed, a.tokens, a.gap, ids))
        return
    if a.count:
        rng = random.Random(a.seed)
        jobs = [(f"random-{a.seed}-{i}", *random_config(rng, a.large), {}) for i in range(a.count)]
    else:
        jobs = list(committed())
    for n, (name, c, types, layout, opts) in enumerate(jobs):
        seed = a.seed * 1000 + n
        sd = lively_weights(Qwen3NextForCausalLM(gguf_export.hf_config(c)).state_dict(), seed)
        path = os.path.join(a.out, name + ".gguf")
        kind = types if isinstance(types, str) else "q4_0"
        _, sd = gguf_export.export(path, sd, c, gguf_export.tiny_tokenizer(c["vocab"]), types, layout, name=name, type=kind,
                                   description="random weights for tests", **opts)
        meta, arrays = gguf_export.read(path)
        back = gguf_export.config_of(meta, arrays)
        assert back == dict(c, eps=back["eps"], interval=back["interval"]), (back, c)
        lines.append(golden(a.out, name, path, c, sd, arrays, seed, a.tokens, a.gap))
    with open(os.path.join(a.out, "goldens.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
