#!/usr/bin/env python3
"""A compact PyTorch model of the qwen3next architecture, written for training on a CPU.

Numerically the same as transformers' Qwen3NextForCausalLM (`python3 model.py` checks it on random
weights). Matrix products run in `compute` precision (bf16 for training), the rest in f32. Weights
use GGUF's layout (q|k|v rows not interleaved); `to_hf`/`from_hf` convert to transformers' state dict.
"""
import argparse
import dataclasses

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Config:
    vocab: int = 4096
    hidden: int = 256
    layers: int = 8
    interval: int = 4
    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 256
    rotary: int = 64
    theta: float = 1e6
    k_heads: int = 2
    v_heads: int = 4
    dk: int = 128
    dv: int = 128
    conv: int = 4
    experts: int = 24
    topk: int = 4
    expert_width: int = 64
    shared_width: int = 128
    eps: float = 1e-6
    tied: bool = True
    context: int = 4096

    def is_attention(self, i):
        return (i + 1) % self.interval == 0

    def hf(self):
        """The same configuration for transformers."""
        from transformers import Qwen3NextConfig
        return Qwen3NextConfig(
            vocab_size=self.vocab, hidden_size=self.hidden, intermediate_size=2 * self.hidden, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, num_key_value_heads=self.kv_heads, head_dim=self.head_dim, rms_norm_eps=self.eps,
            max_position_embeddings=self.context, tie_word_embeddings=self.tied, linear_conv_kernel_dim=self.conv,
            rope_parameters={"rope_type": "default", "rope_theta": self.theta, "partial_rotary_factor": self.rotary / self.head_dim},
            linear_key_head_dim=self.dk, linear_value_head_dim=self.dv, linear_num_key_heads=self.k_heads,
            linear_num_value_heads=self.v_heads, moe_intermediate_size=self.expert_width, num_experts=self.experts,
            shared_expert_intermediate_size=self.shared_width, num_experts_per_tok=self.topk,
            layer_types=["full_attention" if self.is_attention(i) else "linear_attention" for i in range(self.layers)])


CHUNK = 64


def rms(x, w, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w


class _Inverse(torch.autograd.Function):
    """(I + A)^-1 for strictly lower triangular A, batched."""

    @staticmethod
    def forward(ctx, a):
        eye = torch.eye(a.shape[-1], dtype=a.dtype).expand_as(a)
        t = torch.linalg.solve_triangular(a, eye, upper=False, unitriangular=True)
        ctx.save_for_backward(t)
        return t

    @staticmethod
    def backward(ctx, g):
        (t,) = ctx.saved_tensors
        tt = t.transpose(-1, -2)
        return -(tt @ g @ tt)


class _Experts(torch.autograd.Function):
    """Sum over the chosen experts of weight * down(silu(gate x) * up x), tokens grouped by expert."""

    @staticmethod
    def forward(ctx, x, index, weight, gate_up, down):
        n, k = index.shape
        e, f2, h = gate_up.shape
        flat = index.reshape(-1)
        order = torch.argsort(flat, stable=True)
        token = order // k
        ends = torch.bincount(flat, minlength=e).cumsum(0).tolist()
        w = weight.reshape(-1)[order].to(x.dtype).unsqueeze(1)
        xs = x.index_select(0, token)
        gu = x.new_empty(n * k, f2)
        y = x.new_empty(n * k, h)
        a = 0
        for i, b in enumerate(ends):
            if b > a:
                torch.mm(xs[a:b], gate_up[i].t(), out=gu[a:b])
            a = b
        g, u = gu.chunk(2, 1)
        hid = F.silu(g) * u * w
        a = 0
        for i, b in enumerate(ends):
            if b > a:
                torch.mm(hid[a:b], down[i].t(), out=y[a:b])
            a = b
        back = torch.argsort(order)
        ctx.save_for_backward(xs, gu, w, gate_up, down, back, token)
        ctx.ends, ctx.shape = ends, (n, k)
        return y.index_select(0, back).view(n, k, h).sum(1, dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad):
        xs, gu, w, gate_up, down, back, token = ctx.saved_tensors
        n, k = ctx.shape
        dy = grad.to(xs.dtype).index_select(0, token)
        g, u = gu.chunk(2, 1)
        s = torch.sigmoid(g)
        act = g * s
        prod = act * u
        hid = prod * w
        dhid = torch.empty_like(hid)
        dgu_w = torch.zeros_like(gate_up)
        ddown = torch.zeros_like(down)
        a = 0
        for i, b in enumerate(ctx.ends):
            if b > a:
                torch.mm(dy[a:b], down[i], out=dhid[a:b])
                torch.mm(dy[a:b].t(), hid[a:b], out=ddown[i])
            a = b
        dw = (dhid.float() * prod).sum(1)
        dp = dhid * w
        dgu = torch.cat((dp * u * (s + act * (1 - s)), dp * act), 1)
        dxs = torch.empty_like(xs)
        a = 0
        for i, b in enumerate(ctx.ends):
            if b > a:
                torch.mm(dgu[a:b], gate_up[i], out=dxs[a:b])
                torch.mm(dgu[a:b].t(), xs[a:b], out=dgu_w[i])
            a = b
        dx = dxs.index_select(0, back).view(n, k, -1).sum(1, dtype=torch.float32).to(dxs.dtype)
        return dx, None, dw.index_select(0, back).view(n, k), dgu_w, ddown


class _ConvSilu(torch.autograd.Function):
    """Causal depthwise convolution over dim 1 and SiLU; x [B,T,C], w [C,W] with the last tap = now."""

    @staticmethod
    def forward(ctx, x, w):
        t, width = x.shape[1], w.shape[1]
        p = F.pad(x.float(), (0, 0, width - 1, 0))
        y = p[:, :t] * w[:, 0]
        for i in range(1, width):
            y.addcmul_(p[:, i:i + t], w[:, i])
        ctx.save_for_backward(p, w, y)
        ctx.dtype = x.dtype
        return F.silu(y)

    @staticmethod
    def backward(ctx, g):
        p, w, y = ctx.saved_tensors
        t, width = y.shape[1], w.shape[1]
        dy = torch.ops.aten.silu_backward(g, y)
        dx = dy * w[:, width - 1]
        dw = torch.empty_like(w)
        for i in range(width):
            dw[:, i] = torch.linalg.vecdot(dy.flatten(0, 1), p[:, i:i + t].reshape(-1, p.shape[2]), dim=0)
            if i < width - 1:
                dx[:, :t - (width - 1 - i)].addcmul_(dy[:, width - 1 - i:], w[:, i])
        return dx.to(ctx.dtype), dw


def _delta_prepare(qkv, w, key, dk, hk, hv, dv, cd):
    """Convolution, SiLU, head split and L2 norm; chunked [B, heads, N, C, d]."""
    b, t, _ = qkv.shape
    y = _ConvSilu.apply(qkv, w)
    q = y[..., :key].view(b, t, hk, dk)
    k = y[..., key:2 * key].view(b, t, hk, dk)
    v = y[..., 2 * key:].view(b, t, hv, dv)
    q = q * (torch.rsqrt(q.square().sum(-1, keepdim=True) + 1e-6) * dk ** -0.5)
    k = k * torch.rsqrt(k.square().sum(-1, keepdim=True) + 1e-6)
    shape = lambda z: z.to(cd).view(b, t // CHUNK, CHUNK, z.shape[2], z.shape[3]).permute(0, 3, 1, 2, 4).contiguous()
    return shape(q), shape(k), shape(v)


def _gates(ba, a_log, dt_bias, hk, hv):
    b, t, _ = ba.shape
    ba = ba.float().view(b, t, hk, 2 * (hv // hk))
    bb, aa = ba.chunk(2, -1)
    beta = torch.sigmoid(bb.reshape(b, t, hv))
    g = -a_log.exp() * F.softplus(aa.reshape(b, t, hv) + dt_bias)
    shape = lambda z: z.view(b, t // CHUNK, CHUNK, hv).permute(0, 3, 1, 2).contiguous()
    return shape(beta), shape(g)


def _decays(kk, qk, beta, g, cd):
    """Pairwise decays applied to K K^T and Q K^T (per key head) -> per value head."""
    c = g.cumsum(-1)
    upper = torch.ones(CHUNK, CHUNK, dtype=torch.bool).triu(1)
    pair = (c.unsqueeze(-1) - c.unsqueeze(-2)).masked_fill(upper, float("-inf")).exp()
    r = g.shape[1] // kk.shape[1]
    kk = kk.float().repeat_interleave(r, 1)
    qk = qk.float().repeat_interleave(r, 1)
    strict = torch.ones(CHUNK, CHUNK).tril(-1)
    a = kk * pair * beta.unsqueeze(-1) * strict
    last = c[..., -1:]
    return a, (qk * pair).to(cd), c.exp(), (last - c).exp(), last.exp()


def _gated_norm(o, z, w, eps, cd):
    return (rms(o.float(), w, eps) * F.silu(z.float())).to(cd)


def _swiglu(gu):
    g, u = gu.chunk(2, -1)
    return F.silu(g) * u


def _rms_cast(x, w, eps, cd):
    return rms(x, w, eps).to(cd)


class Mixer(nn.Module):
    """Gated DeltaNet."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.key, self.val = c.k_heads * c.dk, c.v_heads * c.dv
        self.qkv = nn.Parameter(torch.empty(2 * self.key + self.val, c.hidden))
        self.z = nn.Parameter(torch.empty(self.val, c.hidden))
        self.ba = nn.Parameter(torch.empty(2 * c.v_heads, c.hidden))
        self.conv = nn.Parameter(torch.empty(2 * self.key + self.val, c.conv))
        self.dt_bias = nn.Parameter(torch.empty(c.v_heads))
        self.a_log = nn.Parameter(torch.empty(c.v_heads))
        self.norm = nn.Parameter(torch.ones(c.dv))
        self.out = nn.Parameter(torch.empty(c.hidden, self.val))

    def forward(self, x, m):
        c, cd = self.c, x.dtype
        b, t, _ = x.shape
        r = c.v_heads // c.k_heads
        n = t // CHUNK
        qkv = F.linear(x, self.qkv.to(cd))
        z = F.linear(x, self.z.to(cd))
        ba = F.linear(x, self.ba.to(cd))
        q, k, v = m.delta_prepare(qkv, self.conv, self.key, c.dk, c.k_heads, c.v_heads, c.dv, cd)
        beta, g = m.gates(ba, self.a_log, self.dt_bias, c.k_heads, c.v_heads)
        a, qk, ec, el, last = m.decays(k @ k.transpose(-1, -2), q @ k.transpose(-1, -2), beta, g, cd)
        inv = (_Inverse.apply(a) * beta.unsqueeze(-2)).to(cd)
        u = inv @ v                                                   # new values before the state's part
        kr = k.repeat_interleave(r, 1) if r > 1 else k
        w = inv @ (kr * ec.unsqueeze(-1).to(cd))
        kl = (kr * el.unsqueeze(-1).to(cd)).transpose(-1, -2)
        qe = (q.repeat_interleave(r, 1) if r > 1 else q) * ec.unsqueeze(-1).to(cd)
        state = None
        outs = []
        for i in range(n):
            if state is None:
                un = u[:, :, i]
                o = qk[:, :, i] @ un
                state = (kl[:, :, i] @ un).float()
            else:
                s = state.to(cd)
                un = u[:, :, i] - w[:, :, i] @ s
                o = qe[:, :, i] @ s + qk[:, :, i] @ un
                if i + 1 < n:
                    state = state * last[:, :, i].unsqueeze(-1) + (kl[:, :, i] @ un)
            outs.append(o)
        o = torch.stack(outs, 2).permute(0, 2, 3, 1, 4).reshape(b, t, c.v_heads, c.dv)
        o = m.gated_norm(o, z.view(b, t, c.v_heads, c.dv), self.norm, c.eps, cd)
        return F.linear(o.reshape(b, t, self.val), self.out.to(cd))


class Attention(nn.Module):
    """Softmax attention with an output gate and partial rotary embedding."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q = nn.Parameter(torch.empty(c.heads * 2 * c.head_dim, c.hidden))
        self.k = nn.Parameter(torch.empty(c.kv_heads * c.head_dim, c.hidden))
        self.v = nn.Parameter(torch.empty(c.kv_heads * c.head_dim, c.hidden))
        self.o = nn.Parameter(torch.empty(c.hidden, c.heads * c.head_dim))
        self.q_norm = nn.Parameter(torch.ones(c.head_dim))
        self.k_norm = nn.Parameter(torch.ones(c.head_dim))

    def forward(self, x, m):
        c, cd = self.c, x.dtype
        b, t, _ = x.shape
        q, gate = F.linear(x, self.q.to(cd)).view(b, t, c.heads, 2 * c.head_dim).chunk(2, -1)
        k = F.linear(x, self.k.to(cd)).view(b, t, c.kv_heads, c.head_dim)
        v = F.linear(x, self.v.to(cd)).view(b, t, c.kv_heads, c.head_dim)
        q, k = rms(q.float(), self.q_norm, c.eps), rms(k.float(), self.k_norm, c.eps)
        inv = c.theta ** (-torch.arange(0, c.rotary, 2).float() / c.rotary)
        ang = torch.arange(t).float()[:, None] * inv
        cos, sin = ang.cos()[None, :, None], ang.sin()[None, :, None]

        def rope(y):
            h = c.rotary // 2
            y1, y2, rest = y[..., :h], y[..., h:2 * h], y[..., 2 * h:]
            return torch.cat((y1 * cos - y2 * sin, y2 * cos + y1 * sin, rest), -1).to(cd).transpose(1, 2)

        r = c.heads // c.kv_heads
        k, v = rope(k), v.transpose(1, 2)
        if r > 1:
            k, v = k.repeat_interleave(r, 1), v.repeat_interleave(r, 1)
        o = F.scaled_dot_product_attention(rope(q), k, v, is_causal=True)
        o = o.transpose(1, 2) * torch.sigmoid(gate)
        return F.linear(o.reshape(b, t, -1), self.o.to(cd))


class Moe(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.router = nn.Parameter(torch.empty(c.experts, c.hidden))
        self.gate_up = nn.Parameter(torch.empty(c.experts, 2 * c.expert_width, c.hidden))
        self.down = nn.Parameter(torch.empty(c.experts, c.hidden, c.expert_width))
        self.s_gate_up = nn.Parameter(torch.empty(2 * c.shared_width, c.hidden))
        self.s_down = nn.Parameter(torch.empty(c.hidden, c.shared_width))
        self.s_gate = nn.Parameter(torch.empty(c.hidden))
        self.aux = None
        self.load = None

    def forward(self, x32, cd, m):
        c = self.c
        x = x32.to(cd)
        logits = F.linear(x32, self.router)
        p = logits.softmax(-1)
        w, idx = p.topk(c.topk, -1)
        w = w / w.sum(-1, keepdim=True)
        if self.training:
            load = torch.bincount(idx.reshape(-1), minlength=c.experts).float() / idx.numel()
            self.load = load
            self.aux = c.experts * (load * p.mean(0)).sum() + 0.01 * logits.logsumexp(-1).square().mean()
        y = _Experts.apply(x, idx, w, self.gate_up.to(cd), self.down.to(cd))
        s = F.linear(m.swiglu(F.linear(x, self.s_gate_up.to(cd))), self.s_down.to(cd))
        return y + s.float() * torch.sigmoid(x32 @ self.s_gate).unsqueeze(-1)


class Layer(nn.Module):
    def __init__(self, c, i):
        super().__init__()
        self.c = c
        self.attn_norm = nn.Parameter(torch.ones(c.hidden))
        self.post_norm = nn.Parameter(torch.ones(c.hidden))
        self.mixer = Attention(c) if c.is_attention(i) else Mixer(c)
        self.moe = Moe(c)

    def forward(self, x, cd, m):
        x = x + self.mixer(m.rms_cast(x, self.attn_norm, self.c.eps, cd), m)
        h = rms(x, self.post_norm, self.c.eps)
        return x + self.moe(h.view(-1, h.shape[-1]), cd, m).view_as(x)


@torch.no_grad()
def copy_init(c, params, scale=1.0, gate=2.0):
    """Let key head 0 of four DeltaNet layers begin as a look-up of "what followed this before".

    Query and key start with the same projection; the key convolution looks one token further back, so
    the state maps the last one to three tokens to their successor. Value and output projections are
    inverse to each other, the gate is held open through the constant channel 0 of the embedding, and
    the head forgets slowly. With tied embeddings this copies from the first step; training refines it."""
    taps = {0: (0.3,), 1: (0.3, 0.2), 4: (0.3, 0.25, 0.2), 5: (0.3, 0.2)}
    params["embed"][:, 0] = 3.0
    for i, weights in taps.items():
        p = f"blocks.{i}.mixer."
        if p + "qkv" not in params:
            continue
        g = torch.Generator().manual_seed(77 + i)
        key, r = c.k_heads * c.dk, c.v_heads // c.k_heads
        n = r * c.dv
        q, k, v = slice(0, c.dk), slice(key, key + c.dk), slice(2 * key, 2 * key + n)
        w = torch.randn(c.dk, c.hidden, generator=g) * c.hidden ** -0.5
        w[:, 0] = 0
        qkv, conv = params[p + "qkv"], params[p + "conv"]
        qkv[q], qkv[k] = w, w
        m = torch.linalg.qr(torch.randn(max(n, c.hidden), max(n, c.hidden), generator=g))[0][:n, :c.hidden]
        qkv[v] = m
        params[p + "out"][:, :n] = m.T * scale
        conv[q], conv[k], conv[v] = 0.0, 0.0, 0.0
        for j, x in enumerate(weights):
            if j + 2 <= c.conv:
                conv[q, -1 - j], conv[k, -2 - j] = x, x
        conv[v, -1] = 0.3
        params[p + "z"][:n] *= 0.3
        params[p + "z"][:n, 0] = gate / 3.0
        params[p + "ba"][:2 * r] = 0
        params[p + "a_log"][:r] = 0.0
        params[p + "dt_bias"][:r] = -6.9


class Model(nn.Module):
    def __init__(self, c, compiled=False):
        super().__init__()
        self.c = c
        self.embed = nn.Parameter(torch.empty(c.vocab, c.hidden))
        self.blocks = nn.ModuleList(Layer(c, i) for i in range(c.layers))
        self.norm = nn.Parameter(torch.ones(c.hidden))
        if not c.tied:
            self.head = nn.Parameter(torch.empty(c.vocab, c.hidden))
        comp = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.delta_prepare, self.gates, self.decays = comp(_delta_prepare), comp(_gates), comp(_decays)
        self.gated_norm, self.swiglu, self.rms_cast = comp(_gated_norm), comp(_swiglu), comp(_rms_cast)
        self.reset()

    @torch.no_grad()
    def reset(self):
        c = self.c
        for name, p in self.named_parameters():
            leaf = name.split(".")[-1]
            if leaf in ("embed", "head"):
                p.normal_(0, 1.0 if leaf == "embed" else c.hidden ** -0.5 * 0.5)
            elif leaf in ("o", "out", "down", "s_down"):
                p.normal_(0, 0.5 * p.shape[-1] ** -0.5 * (2 * c.layers) ** -0.5)
            elif leaf == "router":
                p.normal_(0, 0.5 * c.hidden ** -0.5)
            elif leaf == "conv":
                p.normal_(0, 0.15)
                p[:, -1] += 0.6
            elif leaf == "s_gate":
                p.zero_()
            elif leaf == "dt_bias":                                   # softplus(dt) in 0.001 .. 0.1
                dt = torch.exp(torch.linspace(-6.9, -2.3, p.numel()))
                p.copy_(dt + torch.log(-torch.expm1(-dt)))
            elif leaf == "a_log":
                p.copy_(torch.log(torch.linspace(1, 16, p.numel())))
            elif p.dim() >= 2:
                p.normal_(0, p.shape[-1] ** -0.5)
        if c.tied:
            self.norm.fill_(c.hidden ** -0.5)
        copy_init(c, dict(self.named_parameters()))

    def hidden(self, ids, cd=torch.float32):
        b, t = ids.shape
        pad = -t % CHUNK
        if pad:
            ids = F.pad(ids, (0, pad))
        x = F.embedding(ids, self.embed).float()
        for blk in self.blocks:
            x = blk(x, cd, self)
        return rms(x, self.norm, self.c.eps)[:, :t]

    def logits(self, h, cd=torch.float32):
        return F.linear(h.to(cd), (self.embed if self.c.tied else self.head).to(cd))

    def forward(self, ids, cd=torch.float32):
        return self.logits(self.hidden(ids, cd), cd)


def _interleave(c, qkv, z):
    key, r = c.k_heads * c.dk, c.v_heads // c.k_heads
    q, k, v = qkv[:key].view(c.k_heads, c.dk, -1), qkv[key:2 * key].view(c.k_heads, c.dk, -1), qkv[2 * key:]
    v, z = v.view(c.k_heads, r * c.dv, -1), z.view(c.k_heads, r * c.dv, -1)
    return torch.cat((q, k, v, z), 1).reshape(-1, qkv.shape[1])


def to_hf(model):
    """A state dict with the names and layouts of Qwen3NextForCausalLM."""
    c, sd = model.c, {}
    sd["model.embed_tokens.weight"] = model.embed
    sd["model.norm.weight"] = model.norm - 1
    sd["lm_head.weight"] = model.embed if c.tied else model.head
    for i, blk in enumerate(model.blocks):
        p = f"model.layers.{i}."
        sd[p + "input_layernorm.weight"] = blk.attn_norm - 1
        sd[p + "post_attention_layernorm.weight"] = blk.post_norm - 1
        m = blk.mixer
        if c.is_attention(i):
            for a in "qkvo":
                sd[f"{p}self_attn.{a}_proj.weight"] = getattr(m, a)
            sd[p + "self_attn.q_norm.weight"], sd[p + "self_attn.k_norm.weight"] = m.q_norm - 1, m.k_norm - 1
        else:
            sd[p + "linear_attn.in_proj_qkvz.weight"] = _interleave(c, m.qkv, m.z)
            sd[p + "linear_attn.in_proj_ba.weight"] = m.ba
            sd[p + "linear_attn.conv1d.weight"] = m.conv.unsqueeze(1)
            sd[p + "linear_attn.dt_bias"], sd[p + "linear_attn.A_log"] = m.dt_bias, m.a_log
            sd[p + "linear_attn.norm.weight"], sd[p + "linear_attn.out_proj.weight"] = m.norm, m.out
        e = blk.moe
        sd[p + "mlp.gate.weight"] = e.router
        sd[p + "mlp.experts.gate_up_proj"], sd[p + "mlp.experts.down_proj"] = e.gate_up, e.down
        g, u = e.s_gate_up.chunk(2)
        sd[p + "mlp.shared_expert.gate_proj.weight"], sd[p + "mlp.shared_expert.up_proj.weight"] = g, u
        sd[p + "mlp.shared_expert.down_proj.weight"] = e.s_down
        sd[p + "mlp.shared_expert_gate.weight"] = e.s_gate.unsqueeze(0)
    return {k: v.detach().clone().float().contiguous() for k, v in sd.items()}


def from_hf(c, sd):
    """A model from the state dict that to_hf makes."""
    model = Model(c).eval()
    hk, r, dk, dv = c.k_heads, c.v_heads // c.k_heads, c.dk, c.dv
    with torch.no_grad():
        model.embed.copy_(sd["model.embed_tokens.weight"])
        model.norm.copy_(sd["model.norm.weight"] + 1)
        if not c.tied:
            model.head.copy_(sd["lm_head.weight"])
        for i, blk in enumerate(model.blocks):
            p, m, e = f"model.layers.{i}.", blk.mixer, blk.moe
            blk.attn_norm.copy_(sd[p + "input_layernorm.weight"] + 1)
            blk.post_norm.copy_(sd[p + "post_attention_layernorm.weight"] + 1)
            if c.is_attention(i):
                for a in "qkvo":
                    getattr(m, a).copy_(sd[f"{p}self_attn.{a}_proj.weight"])
                m.q_norm.copy_(sd[p + "self_attn.q_norm.weight"] + 1)
                m.k_norm.copy_(sd[p + "self_attn.k_norm.weight"] + 1)
            else:
                q, k, v, z = sd[p + "linear_attn.in_proj_qkvz.weight"].view(hk, -1, c.hidden).split([dk, dk, r * dv, r * dv], 1)
                m.qkv.copy_(torch.cat([x.reshape(-1, c.hidden) for x in (q, k, v)]))
                m.z.copy_(z.reshape(-1, c.hidden))
                m.ba.copy_(sd[p + "linear_attn.in_proj_ba.weight"])
                m.conv.copy_(sd[p + "linear_attn.conv1d.weight"].squeeze(1))
                m.dt_bias.copy_(sd[p + "linear_attn.dt_bias"])
                m.a_log.copy_(sd[p + "linear_attn.A_log"])
                m.norm.copy_(sd[p + "linear_attn.norm.weight"])
                m.out.copy_(sd[p + "linear_attn.out_proj.weight"])
            e.router.copy_(sd[p + "mlp.gate.weight"])
            e.gate_up.copy_(sd[p + "mlp.experts.gate_up_proj"])
            e.down.copy_(sd[p + "mlp.experts.down_proj"])
            e.s_gate_up.copy_(torch.cat([sd[f"{p}mlp.shared_expert.{a}_proj.weight"] for a in ("gate", "up")]))
            e.s_down.copy_(sd[p + "mlp.shared_expert.down_proj.weight"])
            e.s_gate.copy_(sd[p + "mlp.shared_expert_gate.weight"][0])
    return model


def check(seed=1):
    """Compare with transformers on random weights: the largest logit difference."""
    from transformers import Qwen3NextForCausalLM
    torch.manual_seed(seed)
    worst = 0.0
    for c in (Config(vocab=300), Config(vocab=257, hidden=96, heads=4, kv_heads=2, head_dim=32, rotary=8, k_heads=2, v_heads=2,
                                        dk=16, dv=32, experts=5, topk=2, expert_width=32, shared_width=48, layers=4, interval=2)):
        m = Model(c).eval()
        with torch.no_grad():
            for n, p in m.named_parameters():
                if "norm" in n:
                    p.add_(torch.randn_like(p) * 0.2)
            ref = Qwen3NextForCausalLM._from_config(c.hf(), attn_implementation="eager").eval()
            missing = ref.load_state_dict(to_hf(m), strict=False)
            assert not missing.missing_keys and not missing.unexpected_keys, missing
            ids = torch.randint(0, c.vocab, (2, 200))
            a, b = m(ids), ref(ids).logits
            assert torch.equal(from_hf(c, to_hf(m))(ids), a) or (from_hf(c, to_hf(m))(ids) - a).abs().max() < 1e-5
            worst = max(worst, (a - b).abs().max().item())
            print(f"hidden {c.hidden}: max difference {(a - b).abs().max():.2e}, logits std {b.std():.3f}; "
                  f"bf16 {(m(ids, torch.bfloat16).float() - b).abs().max():.2e}")
    assert worst < 1e-4
    n = sum(p.numel() for p in Model(Config()).parameters())
    print("parameters of the shipped model:", n)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    check()
