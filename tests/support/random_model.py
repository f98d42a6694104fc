"""Writes a random model of any size, for tests that are about speed and not about text.

All matrices are Q8_0 of random bytes, one scale for all; vectors are ones.  The vocabulary
is the 256 bytes, however many rows the embedding has.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "fuzz"))
import seeds_gguf as g  # noqa: E402

F32, Q8_0 = 0, 8
HEAD, STATE, CONV = 64, 32, 4


def byte_letters():
    """The letters that byte-level BPE spells bytes with."""
    shown = [b for b in range(256) if 33 <= b <= 126 or (b >= 161 and b != 173)]
    hidden = [b for b in range(256) if b not in shown]
    letter = {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}
    return [letter[b] for b in range(256)]


def matrix(n_cols, n_rows, n_mat=1):
    """Blocks of 32: an f16 scale of 2^-10, then random int8."""
    n = n_cols * n_rows * n_mat // 32
    data = bytearray(os.urandom(1 << 20) * (n * 34 // (1 << 20) + 1))[:n * 34]
    data[0::34], data[1::34] = b"\x00" * n, b"\x14" * n
    return bytes(data)


class Model:
    def __init__(self):
        self.infos, self.parts, self.size = [], [], 0

    def add(self, name, ne, kind, data):
        self.infos.append(g.info(name, ne, kind, self.size))
        self.parts.append(data + bytes(-len(data) % 32))
        self.size += len(self.parts[-1])

    def matrix(self, name, *ne):
        self.add(name, ne, Q8_0, matrix(*ne))

    def ones(self, name, *ne):
        n = 1
        for x in ne:
            n *= x
        self.add(name, ne, F32, struct.pack("<f", 1.0) * n)


def write(path, dim, vocab, layers, experts, used, expert_dim, context=1 << 17):
    m = Model()
    heads = max(2, dim // 128)
    channels = 4 * heads * STATE  # q, k and two value heads per key head
    m.matrix("token_embd.weight", dim, vocab)
    m.ones("output_norm.weight", dim)
    for i in range(layers):
        b = f"blk.{i}."
        m.ones(b + "attn_norm.weight", dim)
        m.ones(b + "post_attention_norm.weight", dim)
        if i % 4 == 3:
            m.matrix(b + "attn_q.weight", dim, 2 * heads * HEAD)
            m.matrix(b + "attn_k.weight", dim, HEAD)
            m.matrix(b + "attn_v.weight", dim, HEAD)
            m.matrix(b + "attn_output.weight", heads * HEAD, dim)
            m.ones(b + "attn_q_norm.weight", HEAD)
            m.ones(b + "attn_k_norm.weight", HEAD)
        else:
            m.matrix(b + "attn_qkv.weight", dim, channels)
            m.matrix(b + "attn_gate.weight", dim, 2 * heads * STATE)
            m.matrix(b + "ssm_ba.weight", dim, 4 * heads)
            m.matrix(b + "ssm_out.weight", 2 * heads * STATE, dim)
            m.ones(b + "ssm_conv1d.weight", CONV, channels)
            for name in ("ssm_dt.bias", "ssm_a"):
                m.ones(b + name, 2 * heads)
            m.ones(b + "ssm_norm.weight", STATE)
        m.matrix(b + "ffn_gate_inp.weight", dim, experts)
        m.matrix(b + "ffn_gate_exps.weight", dim, expert_dim, experts)
        m.matrix(b + "ffn_up_exps.weight", dim, expert_dim, experts)
        m.matrix(b + "ffn_down_exps.weight", expert_dim, dim, experts)
    numbers = {"block_count": layers, "context_length": context, "embedding_length": dim,
               "attention.head_count": heads, "attention.head_count_kv": 1,
               "attention.key_length": HEAD, "attention.value_length": HEAD,
               "rope.dimension_count": HEAD // 4, "expert_count": experts,
               "expert_used_count": used, "expert_feed_forward_length": expert_dim,
               "ssm.conv_kernel": CONV, "ssm.state_size": STATE, "ssm.group_count": heads,
               "ssm.time_step_rank": 2 * heads, "ssm.inner_size": 2 * heads * STATE,
               "full_attention_interval": 4}
    kvs = [g.kv("general.architecture", g.STRING, "qwen3next")]
    kvs += [g.kv("qwen3next." + k, g.U32, v) for k, v in numbers.items()]
    kvs += [g.kv("qwen3next.attention.layer_norm_rms_epsilon", g.F32, 1e-6),
            g.kv("qwen3next.rope.freq_base", g.F32, 1e6),
            g.kv("tokenizer.ggml.model", g.STRING, "gpt2"),
            g.kv("tokenizer.ggml.pre", g.STRING, "qwen2"),
            g.kv("tokenizer.ggml.tokens", g.ARRAY, (g.STRING, byte_letters())),
            g.kv("tokenizer.ggml.token_type", g.ARRAY, (g.I32, [1] * 256)),
            g.kv("tokenizer.ggml.merges", g.ARRAY, (g.STRING, []))]
    with open(path, "wb") as f:
        f.write(g.gguf(kvs, m.infos, 0))
        for part in m.parts:
            f.write(part)
