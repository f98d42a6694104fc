#!/usr/bin/env python3
"""Write a real-shape slice of Qwen3-Coder-Next: true sizes, few layers, random weights.

The tensor types follow the mix that quantisers choose (docs/performance.md), the values
are random blocks whose scales give weights of the usual size, so that nothing overflows
and no kernel meets easier data than in life.  Any GGUF engine can load it.

    tools/bench/make_slice.py --quant Q3_K_M --layers 4 --vocab tokenizer.json out.gguf

Needs the Python packages numpy and gguf.  --vocab is a Hugging Face tokenizer.json of the
Qwen family; engines that check merges want a real one.
"""
import argparse
import json

import gguf
import numpy as np

T = gguf.GGMLQuantizationType
H, V, E, K, F = 2048, 151936, 512, 10, 512
NQ, NKV, D = 16, 2, 256
HK, HV, DK, DV, W = 16, 32, 128, 128, 4
STD = 0.02  # of a weight


def f16(x, n):
    return np.full((n, 1), x, np.float16).view(np.uint8)


def blocks(rng, qtype, n):
    """n random blocks of a type, as bytes (n, block bytes)."""
    size = gguf.GGML_QUANT_SIZES[qtype][1]
    b = rng.integers(0, 256, (n, size), np.uint8)
    if qtype == T.Q8_0:
        b[:, 0:2] = f16(STD / 74, n)
    elif qtype == T.Q3_K:
        b[:, 108:110] = f16(STD / 42, n)
    elif qtype in (T.Q4_K, T.Q5_K):
        mid = 7.5 if qtype == T.Q4_K else 15.5
        d = STD / (36 * mid / 1.6)
        b[:, 0:2] = f16(d, n)
        b[:, 2:4] = f16(d * mid, n)
    elif qtype == T.Q6_K:
        b[:, 208:210] = f16(STD / 1360, n)
    else:
        raise SystemExit(f"no generator for {qtype.name}")
    return b


def mix(name, layer, quant, n_layer):
    """The type quantisers give this tensor (presets without an importance matrix)."""
    if quant in ("Q8_0", "Q6_K"):
        return T[quant]
    base = T.Q3_K if quant == "Q3_K_M" else T.Q4_K
    if name == "output":
        return T.Q6_K
    more = layer < n_layer // 8 or layer >= 7 * n_layer // 8 or (layer - n_layer // 8) % 3 == 2
    if quant == "Q3_K_M":
        if name in ("ffn_down_exps", "ffn_down_shexp"):
            return T.Q5_K if layer < n_layer // 16 + 1 else T.Q4_K
        if name in ("attn_v", "attn_output"):
            return T.Q4_K
    elif name in ("ffn_down_exps", "ffn_down_shexp", "attn_v") and more:
        return T.Q6_K
    return base


def tensors(n_layer):
    """(name, shape, is_matrix) with the contiguous dimension last."""
    yield "token_embd", None, (V, H)
    for i in range(n_layer):
        if (i + 1) % 4 == 0:
            yield "attn_q", i, (2 * NQ * D, H)
            yield "attn_k", i, (NKV * D, H)
            yield "attn_v", i, (NKV * D, H)
            yield "attn_output", i, (H, NQ * D)
        else:
            yield "attn_qkv", i, (2 * HK * DK + HV * DV, H)
            yield "attn_gate", i, (HV * DV, H)
            yield "ssm_ba", i, (2 * HV, H)
            yield "ssm_out", i, (H, HV * DV)
        yield "ffn_gate_exps", i, (E, F, H)
        yield "ffn_up_exps", i, (E, F, H)
        yield "ffn_down_exps", i, (E, H, F)
        yield "ffn_gate_shexp", i, (F, H)
        yield "ffn_up_shexp", i, (F, H)
        yield "ffn_down_shexp", i, (H, F)
    yield "output", None, (V, H)


def vectors(rng, n_layer):
    yield "output_norm.weight", rng.normal(1, 0.1, H)
    for i in range(n_layer):
        p = f"blk.{i}."
        yield p + "attn_norm.weight", rng.normal(1, 0.1, H)
        yield p + "post_attention_norm.weight", rng.normal(1, 0.1, H)
        yield p + "ffn_gate_inp.weight", rng.normal(0, 0.04, (E, H))
        yield p + "ffn_gate_inp_shexp.weight", rng.normal(0, 0.02, H)
        if (i + 1) % 4 == 0:
            yield p + "attn_q_norm.weight", rng.normal(1, 0.1, D)
            yield p + "attn_k_norm.weight", rng.normal(1, 0.1, D)
        else:
            yield p + "ssm_conv1d.weight", rng.normal(0, 0.3, (2 * HK * DK + HV * DV, W))
            yield p + "ssm_dt.bias", rng.uniform(-4, 1, HV)
            yield p + "ssm_a", -np.exp(rng.uniform(-2, 2, HV))
            yield p + "ssm_norm.weight", rng.normal(1, 0.1, DV)


def add_metadata(w, n_layer, vocab):
    a = "qwen3next"
    w.add_name("real-shape slice, random weights")
    w.add_block_count(n_layer)
    w.add_context_length(262144)
    w.add_embedding_length(H)
    w.add_feed_forward_length(5120)
    w.add_head_count(NQ)
    w.add_head_count_kv(NKV)
    w.add_key_length(D)
    w.add_value_length(D)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(5e6)
    w.add_rope_dimension_count(64)
    w.add_expert_count(E)
    w.add_expert_used_count(K)
    w.add_expert_feed_forward_length(F)
    w.add_expert_shared_feed_forward_length(F)
    for key, value in (("conv_kernel", W), ("state_size", DK), ("group_count", HK),
                       ("time_step_rank", HV), ("inner_size", HV * DV)):
        w.add_uint32(f"{a}.ssm.{key}", value)
    w.add_uint32(f"{a}.full_attention_interval", 4)
    tok = json.load(open(vocab, encoding="utf-8"))
    table, types = [f"[PAD{i}]" for i in range(V)], [5] * V
    for text, i in tok["model"]["vocab"].items():
        table[i], types[i] = text, 1
    for t in tok["added_tokens"]:
        table[t["id"]], types[t["id"]] = t["content"], 3 if t["special"] else 4
    merges = [m if isinstance(m, str) else " ".join(m) for m in tok["model"]["merges"]]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(table)
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_eos_token_id(151645)
    w.add_pad_token_id(151643)
    w.add_add_bos_token(False)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--quant", choices=["Q3_K_M", "Q4_K_M", "Q6_K", "Q8_0"], default="Q3_K_M")
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--vocab", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("out")
    args = p.parse_args()
    rng = np.random.default_rng(args.seed)
    w = gguf.GGUFWriter(args.out, "qwen3next")
    add_metadata(w, args.layers, args.vocab)
    plan = []
    for name, layer, shape in tensors(args.layers):
        qtype = mix(name, -1 if layer is None else layer, args.quant, args.layers)
        elems, size = gguf.GGML_QUANT_SIZES[qtype]
        row = shape[-1] // elems * size
        full = (name if layer is None else f"blk.{layer}.{name}") + ".weight"
        w.add_tensor_info(full, shape[:-1] + (row,), np.dtype(np.uint8),
                          int(np.prod(shape[:-1])) * row, raw_dtype=qtype)
        plan.append((shape, qtype))
    small = [(n, np.asarray(v, np.float32)) for n, v in vectors(rng, args.layers)]
    for name, v in small:
        w.add_tensor_info(name, v.shape, v.dtype, v.nbytes)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    w.write_padding(w.fout[0], w.fout[0].tell())
    for shape, qtype in plan:
        elems = gguf.GGML_QUANT_SIZES[qtype][0]
        n = int(np.prod(shape)) // elems
        start = w.fout[0].tell()
        for at in range(0, n, 1 << 18):
            w.fout[0].write(blocks(rng, qtype, min(1 << 18, n - at)).tobytes())
        w.write_padding(w.fout[0], w.fout[0].tell() - start)
    for _, v in small:
        w.fout[0].write(v.tobytes())
        w.write_padding(w.fout[0], v.nbytes)
    w.close()


if __name__ == "__main__":
    main()
