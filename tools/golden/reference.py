#!/usr/bin/env python3
"""An independent float64 forward pass of qwen3next, token by token, straight from the formulas.

It reads a GGUF file (either layout, any type) and shares no code with transformers; the golden
generator uses it to state how far the f32 reference itself is from exact arithmetic.
`reference.py FILE --tokens 1,2,3` prints the best next tokens.
"""
import argparse

import numpy as np

import gguf_export


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def rms(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def attention(c, w, x):
    t, d, r = len(x), c["head_dim"], c["rotary"]
    q = (x @ w("attn_q.weight").T).reshape(t, c["heads"], 2 * d)
    q, gate = q[..., :d], q[..., d:]
    k = (x @ w("attn_k.weight").T).reshape(t, c["kv_heads"], d)
    v = (x @ w("attn_v.weight").T).reshape(t, c["kv_heads"], d)
    q, k = rms(q, w("attn_q_norm.weight"), c["eps"]), rms(k, w("attn_k_norm.weight"), c["eps"])
    ang = np.arange(t)[:, None] * c["theta"] ** (-np.arange(0, r, 2) / r)
    cos, sin = np.cos(ang)[:, None], np.sin(ang)[:, None]

    def rope(y):
        a, b = y[..., :r // 2], y[..., r // 2:r]
        return np.concatenate((a * cos - b * sin, b * cos + a * sin, y[..., r:]), -1)

    q, k = rope(q), rope(k)
    out = np.zeros((t, c["heads"], d))
    for h in range(c["heads"]):
        g = h // (c["heads"] // c["kv_heads"])
        s = q[:, h] @ k[:, g].T / np.sqrt(d)
        s = np.where(np.tril(np.ones((t, t), bool)), s, -np.inf)
        s = np.exp(s - s.max(-1, keepdims=True))
        out[:, h] = (s / s.sum(-1, keepdims=True)) @ v[:, g]
    return (out * sigmoid(gate)).reshape(t, -1) @ w("attn_output.weight").T


def deltanet(c, w, x):
    t, hk, hv, dk, dv = len(x), c["k_heads"], c["v_heads"], c["dk"], c["dv"]
    r, key = hv // hk, hk * dk
    if w("ssm_in.weight") is not None:
        m = (x @ w("ssm_in.weight").T).reshape(t, hk, 2 * dk + 2 * r * dv)
        cut = lambda a, b: m[:, :, a:b].reshape(t, -1)
        qkv = np.concatenate((cut(0, dk), cut(dk, 2 * dk), cut(2 * dk, 2 * dk + r * dv)), 1)
        z = cut(2 * dk + r * dv, 2 * dk + 2 * r * dv)
    else:
        qkv, z = x @ w("attn_qkv.weight").T, x @ w("attn_gate.weight").T
    conv = w("ssm_conv1d.weight")
    width = conv.shape[1]
    padded = np.concatenate((np.zeros((width - 1, qkv.shape[1])), qkv))
    qkv = silu(sum(padded[i:i + t] * conv[:, i] for i in range(width)))
    q = qkv[:, :key].reshape(t, hk, dk)
    k = qkv[:, key:2 * key].reshape(t, hk, dk)
    v = qkv[:, 2 * key:].reshape(t, hv, dv)
    q = q / np.sqrt((q * q).sum(-1, keepdims=True) + 1e-6) / np.sqrt(dk)
    k = k / np.sqrt((k * k).sum(-1, keepdims=True) + 1e-6)
    q, k = q.repeat(r, 1), k.repeat(r, 1)
    ba = (x @ w("ssm_ba.weight").T).reshape(t, hk, 2 * r)
    beta = sigmoid(ba[:, :, :r].reshape(t, hv))
    decay = np.exp(w("ssm_a") * softplus(ba[:, :, r:].reshape(t, hv) + w("ssm_dt.bias")))
    state = np.zeros((hv, dk, dv))
    out = np.zeros((t, hv, dv))
    for i in range(t):
        state *= decay[i][:, None, None]
        u = beta[i][:, None] * (v[i] - np.einsum("hkv,hk->hv", state, k[i]))
        state += k[i][:, :, None] * u[:, None, :]
        out[i] = np.einsum("hkv,hk->hv", state, q[i])
    out = rms(out, w("ssm_norm.weight"), c["eps"]) * silu(z.reshape(t, hv, dv))
    return out.reshape(t, -1) @ w("ssm_out.weight").T


def moe(c, w, x):
    """(output, smallest gap between the last chosen and the first rejected router logit)"""
    logits = x @ w("ffn_gate_inp.weight").T
    order = np.argsort(-logits, axis=-1, kind="stable")
    top = np.take_along_axis(logits, order, -1)
    k = c["topk"]
    gap = (top[:, k - 1] - top[:, k]).min() if k < c["experts"] else np.inf
    p = np.exp(top[:, :k] - top[:, :1])
    p /= p.sum(-1, keepdims=True)
    gate, up, down = w("ffn_gate_exps.weight"), w("ffn_up_exps.weight"), w("ffn_down_exps.weight")
    out = np.zeros_like(x)
    for e in range(c["experts"]):
        tok, slot = np.nonzero(order[:, :k] == e)
        if len(tok):
            h = silu(x[tok] @ gate[e].T) * (x[tok] @ up[e].T)
            out[tok] += (h @ down[e].T) * p[tok, slot][:, None]
    s = silu(x @ w("ffn_gate_shexp.weight").T) * (x @ w("ffn_up_shexp.weight").T)
    out += (s @ w("ffn_down_shexp.weight").T) * sigmoid(x @ w("ffn_gate_inp_shexp.weight"))[:, None]
    return out, gap


def forward(c, arrays, tokens):
    """(logits [t, vocab], taps [layers, 2, t, hidden], smallest router gap), all float64."""
    x = arrays["token_embd.weight"][np.asarray(tokens)].astype(np.float64)
    taps, gap = [], np.inf
    for i in range(c["layers"]):
        def w(name, i=i):
            a = arrays.get(f"blk.{i}.{name}")
            return None if a is None else a.astype(np.float64)
        mixer = attention if (i + 1) % c["interval"] == 0 else deltanet
        x = x + mixer(c, w, rms(x, w("attn_norm.weight"), c["eps"]))
        mid = x
        y, g = moe(c, w, rms(x, w("post_attention_norm.weight"), c["eps"]))
        x = x + y
        gap = min(gap, g)
        taps.append((mid, x))
    x = rms(x, arrays["output_norm.weight"].astype(np.float64), c["eps"])
    head = arrays["output.weight"] if "output.weight" in arrays else arrays["token_embd.weight"]
    return x @ head.astype(np.float64).T, np.array(taps), gap


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file")
    p.add_argument("--tokens", required=True, help="comma-separated ids")
    a = p.parse_args()
    meta, arrays = gguf_export.read(a.file)
    c = gguf_export.config_of(meta, arrays)
    logits, _, gap = forward(c, arrays, [int(x) for x in a.tokens.split(",")])
    for i in np.argsort(-logits[-1])[:10]:
        print(i, f"{logits[-1][i]:.5f}")
    print("smallest router gap:", gap)


if __name__ == "__main__":
    main()
