#!/usr/bin/env python3
"""Write and read GGUF files of the qwen3next architecture from transformers' weights.

`export()` takes a state dict with the names of Qwen3NextForCausalLM and a configuration and writes a
complete file (both tensor layouts, tied or separate head, any type gguf-py can quantise, optional
split). `load()` reads a file back as (config, state dict), quantised weights expanded to f32.
From the command line it prints what a file holds: `gguf_export.py FILE`.
"""
import argparse
import os

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import quants

ARCH = "qwen3next"
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
FILE_TYPE = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "bf16": 32}
TYPES = {"f32": T.F32, "f16": T.F16, "bf16": T.BF16, "q8_0": T.Q8_0, "q4_0": T.Q4_0, "q4_1": T.Q4_1, "q5_0": T.Q5_0, "q5_1": T.Q5_1}


# ------------------------------------------------------------------------------------- layouts
def _split_qkvz(c, w):
    """HF in_proj_qkvz (per key head q, k, v.., z..) -> (q|k|v rows, z rows)."""
    hk, r, dk, dv = c["k_heads"], c["v_heads"] // c["k_heads"], c["dk"], c["dv"]
    w = w.reshape(hk, 2 * dk + 2 * r * dv, -1)
    q, k, v, z = w[:, :dk], w[:, dk:2 * dk], w[:, 2 * dk:2 * dk + r * dv], w[:, 2 * dk + r * dv:]
    flat = lambda t: t.reshape(-1, w.shape[2])
    return np.concatenate([flat(q), flat(k), flat(v)]), flat(z)


def _join_qkvz(c, qkv, z):
    hk, r, dk, dv = c["k_heads"], c["v_heads"] // c["k_heads"], c["dk"], c["dv"]
    key = hk * dk
    part = lambda t, n: t.reshape(hk, n, -1)
    w = np.concatenate([part(qkv[:key], dk), part(qkv[key:2 * key], dk), part(qkv[2 * key:], r * dv), part(z, r * dv)], 1)
    return w.reshape(-1, qkv.shape[1])


_SAME = {"self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
         "self_attn.v_proj.weight": "attn_v.weight", "self_attn.o_proj.weight": "attn_output.weight",
         "linear_attn.in_proj_ba.weight": "ssm_ba.weight", "linear_attn.out_proj.weight": "ssm_out.weight",
         "linear_attn.dt_bias": "ssm_dt.bias", "linear_attn.norm.weight": "ssm_norm.weight",
         "mlp.gate.weight": "ffn_gate_inp.weight", "mlp.experts.down_proj": "ffn_down_exps.weight",
         "mlp.shared_expert.gate_proj.weight": "ffn_gate_shexp.weight",
         "mlp.shared_expert.up_proj.weight": "ffn_up_shexp.weight",
         "mlp.shared_expert.down_proj.weight": "ffn_down_shexp.weight"}
_NORM = {"input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "post_attention_norm.weight",
         "self_attn.q_norm.weight": "attn_q_norm.weight", "self_attn.k_norm.weight": "attn_k_norm.weight"}


def to_gguf(sd, c, layout="split"):
    """{GGUF tensor name: f32 array} from a state dict; `layout` is split, fused, or mixed (fused in odd layers)."""
    sd = {k: v.detach().float() for k, v in sd.items()}
    out = {"token_embd.weight": sd["model.embed_tokens.weight"].numpy()}
    for i in range(c["layers"]):
        p, b = f"model.layers.{i}.", f"blk.{i}."
        for k, g in _NORM.items():
            if p + k in sd:
                out[b + g] = (1.0 + sd[p + k]).numpy()
        for k, g in _SAME.items():
            if p + k in sd:
                out[b + g] = sd[p + k].numpy()
        if p + "linear_attn.A_log" in sd:
            qkvz = sd[p + "linear_attn.in_proj_qkvz.weight"].numpy()
            if layout == "fused" or (layout == "mixed" and i % 2):
                out[b + "ssm_in.weight"] = qkvz
            else:
                out[b + "attn_qkv.weight"], out[b + "attn_gate.weight"] = _split_qkvz(c, qkvz)
            out[b + "ssm_a"] = (-sd[p + "linear_attn.A_log"].exp()).numpy()
            out[b + "ssm_conv1d.weight"] = sd[p + "linear_attn.conv1d.weight"].squeeze(1).numpy()
        gu = sd[p + "mlp.experts.gate_up_proj"]
        f = gu.shape[1] // 2
        out[b + "ffn_gate_exps.weight"], out[b + "ffn_up_exps.weight"] = gu[:, :f].numpy(), gu[:, f:].numpy()
        out[b + "ffn_gate_inp_shexp.weight"] = sd[p + "mlp.shared_expert_gate.weight"].reshape(-1).numpy()
    out["output_norm.weight"] = (1.0 + sd["model.norm.weight"]).numpy()
    if not c["tied"]:
        out["output.weight"] = sd["lm_head.weight"].numpy()
    return {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in out.items()}


def from_gguf(g, c):
    """The inverse of to_gguf."""
    t = lambda a: torch.from_numpy(np.array(a, dtype=np.float32))
    sd = {"model.embed_tokens.weight": t(g["token_embd.weight"]), "model.norm.weight": t(g["output_norm.weight"]) - 1,
          "lm_head.weight": t(g["output.weight"] if "output.weight" in g else g["token_embd.weight"])}
    for i in range(c["layers"]):
        p, b = f"model.layers.{i}.", f"blk.{i}."
        for k, n in _NORM.items():
            if b + n in g:
                sd[p + k] = t(g[b + n]) - 1
        for k, n in _SAME.items():
            if b + n in g:
                sd[p + k] = t(g[b + n])
        if b + "ssm_a" in g:
            w = g[b + "ssm_in.weight"] if b + "ssm_in.weight" in g else _join_qkvz(c, g[b + "attn_qkv.weight"], g[b + "attn_gate.weight"])
            sd[p + "linear_attn.in_proj_qkvz.weight"] = t(w)
            sd[p + "linear_attn.A_log"] = (-t(g[b + "ssm_a"])).log()
            sd[p + "linear_attn.conv1d.weight"] = t(g[b + "ssm_conv1d.weight"]).unsqueeze(1)
        sd[p + "mlp.experts.gate_up_proj"] = torch.cat((t(g[b + "ffn_gate_exps.weight"]), t(g[b + "ffn_up_exps.weight"])), 1)
        sd[p + "mlp.shared_expert_gate.weight"] = t(g[b + "ffn_gate_inp_shexp.weight"]).unsqueeze(0)
    return sd


def keeps_f32(name, array):
    """Tensors that are F32 in every file: norms, router, shared gate, convolution, dt, a."""
    return array.ndim < 2 or "norm" in name or "ffn_gate_inp" in name or "ssm_conv1d" in name


# ------------------------------------------------------------------------------------- config
def hf_config(c):
    """transformers' configuration for our flat one."""
    from transformers import Qwen3NextConfig
    return Qwen3NextConfig(
        vocab_size=c["vocab"], hidden_size=c["hidden"], intermediate_size=2 * c["hidden"], num_hidden_layers=c["layers"],
        num_attention_heads=c["heads"], num_key_value_heads=c["kv_heads"], head_dim=c["head_dim"], rms_norm_eps=c["eps"],
        max_position_embeddings=c["context"], tie_word_embeddings=c["tied"], linear_conv_kernel_dim=c["conv"],
        rope_parameters={"rope_type": "default", "rope_theta": c["theta"], "partial_rotary_factor": c["rotary"] / c["head_dim"]},
        linear_key_head_dim=c["dk"], linear_value_head_dim=c["dv"], linear_num_key_heads=c["k_heads"],
        linear_num_value_heads=c["v_heads"], moe_intermediate_size=c["expert_width"], num_experts=c["experts"],
        shared_expert_intermediate_size=c["shared_width"], num_experts_per_tok=c["topk"],
        layer_types=["full_attention" if (i + 1) % c["interval"] == 0 else "linear_attention" for i in range(c["layers"])])


# ------------------------------------------------------------------------------------- writing
def _metadata(w, c, tok, info):
    w.add_name(info.get("name", "random"))
    for key in ("license", "description", "author", "version", "size_label", "license_link", "url", "basename"):
        if info.get(key):
            w.add_string("general." + key, info[key])
    w.add_file_type(FILE_TYPE.get(info.get("type", "f32"), 0))
    w.add_quantization_version(2)
    for key, value in info.get("sampling", {}).items():
        (w.add_int32 if isinstance(value, int) else w.add_float32)("general.sampling." + key, value)
    a = ARCH + "."
    u32 = {"block_count": c["layers"], "context_length": c["context"], "embedding_length": c["hidden"],
           "feed_forward_length": 2 * c["hidden"], "attention.head_count": c["heads"], "attention.head_count_kv": c["kv_heads"],
           "attention.key_length": c["head_dim"], "attention.value_length": c["head_dim"], "rope.dimension_count": c["rotary"],
           "expert_count": c["experts"], "expert_used_count": c["topk"], "expert_feed_forward_length": c["expert_width"],
           "expert_shared_feed_forward_length": c["shared_width"], "ssm.conv_kernel": c["conv"], "ssm.state_size": c["dk"],
           "ssm.group_count": c["k_heads"], "ssm.time_step_rank": c["v_heads"], "ssm.inner_size": c["v_heads"] * c["dv"]}
    if not info.get("no_interval"):
        u32["full_attention_interval"] = c["interval"]
    for key, value in u32.items():
        w.add_uint32(a + key, value)
    w.add_float32(a + "attention.layer_norm_rms_epsilon", c["eps"])
    w.add_float32(a + "rope.freq_base", c["theta"])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tok["tokens"])
    w.add_token_types(tok["types"])
    w.add_token_merges(tok["merges"])
    w.add_eos_token_id(tok["eos"])
    w.add_pad_token_id(tok["pad"])
    w.add_bos_token_id(tok["pad"])
    w.add_add_bos_token(False)
    if tok.get("template"):
        w.add_chat_template(tok["template"])


def export(path, sd, c, tok, types="q8_0", layout="split", split=0, **info):
    """Write the file(s). `types`: a type name or a function of (GGUF name, array) giving one.

    `split` > 0 writes that many parts, `NAME-00001-of-0000N.gguf`. Returns (paths, state dict whose
    weights are exactly those of the file, expanded to f32)."""
    pick = types if callable(types) else (lambda n, a: types)
    arrays = to_gguf(sd, c, layout)
    data, exact = {}, {}
    for name, x in arrays.items():
        t = T.F32 if keeps_f32(name, x) else TYPES[pick(name, x)]
        if t not in (T.F32, T.F16, T.BF16) and x.shape[-1] % 32:
            t = T.F16
        raw = quants.quantize(x, t)
        data[name] = (raw, t)
        exact[name] = x if t == T.F32 else quants.dequantize(raw, t).reshape(x.shape)
    parts = [list(data)] if split < 2 else [list(p) for p in np.array_split(np.array(list(data), dtype=object), split)]
    paths = []
    info.setdefault("type", types if isinstance(types, str) else "q8_0")
    for n, names in enumerate(parts):
        out = path
        if split > 1:
            out = f"{path[:-5] if path.endswith('.gguf') else path}-{n + 1:05d}-of-{split:05d}.gguf"
        w = gguf.GGUFWriter(out, ARCH)
        if n == 0:
            _metadata(w, c, tok, info)
        if split > 1:
            w.add_uint16("split.no", n)
            w.add_uint16("split.count", split)
            w.add_int32("split.tensors.count", len(data))
        for name in names:
            raw, t = data[name]
            w.add_tensor(name, raw, raw_dtype=t)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        paths.append(out)
    back = from_gguf(exact, c)
    for k, v in sd.items():                                           # never quantised: keep the bits
        if "norm" in k or "A_log" in k:
            back[k] = v.detach().float().clone()
    return paths, back


# ------------------------------------------------------------------------------------- reading
def read(path):
    """(metadata dict, {name: f32 array}) of a file or of all its parts."""
    paths = [path]
    if "-00001-of-" in path:
        n = int(path[-10:-5])
        paths = [f"{path[:-20]}-{i + 1:05d}-of-{n:05d}.gguf" for i in range(n)]
    meta, arrays = {}, {}
    for q in paths:
        r = gguf.GGUFReader(q)
        for k, f in r.fields.items():
            if not k.startswith("GGUF."):
                meta.setdefault(k, f.contents())
        for t in r.tensors:
            shape = tuple(int(x) for x in reversed(t.shape))
            x = np.array(t.data) if t.tensor_type == T.F32 else quants.dequantize(t.data, t.tensor_type)
            arrays[t.name] = x.astype(np.float32).reshape(shape)
    return meta, arrays


def config_of(meta, arrays):
    m = lambda k, d=None: meta.get(f"{ARCH}.{k}", d)
    return dict(vocab=arrays["token_embd.weight"].shape[0], hidden=m("embedding_length"), layers=m("block_count"),
                interval=m("full_attention_interval", 4), heads=m("attention.head_count"), kv_heads=m("attention.head_count_kv"),
                head_dim=m("attention.key_length"), rotary=m("rope.dimension_count"), theta=m("rope.freq_base"),
                k_heads=m("ssm.group_count"), v_heads=m("ssm.time_step_rank"), dk=m("ssm.state_size"),
                dv=m("ssm.inner_size") // m("ssm.time_step_rank"), conv=m("ssm.conv_kernel"), experts=m("expert_count"),
                topk=m("expert_used_count"), expert_width=m("expert_feed_forward_length"),
                shared_width=m("expert_shared_feed_forward_length"), eps=m("attention.layer_norm_rms_epsilon"),
                tied="output.weight" not in arrays, context=m("context_length"))


def load(path):
    """(config, state dict for Qwen3NextForCausalLM, metadata) of a file."""
    meta, arrays = read(path)
    c = config_of(meta, arrays)
    return c, from_gguf(arrays, c), meta


# ------------------------------------------------------------------------------------- tokenizers
def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes, in byte order."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    out, n = [], 0
    for b in range(256):
        if b in keep:
            out.append(chr(b))
        else:
            out.append(chr(256 + n))
            n += 1
    return out


def tiny_tokenizer(vocab):
    """A byte-level tokenizer with a handful of merges for random models."""
    tokens = byte_alphabet()
    types = [NORMAL] * 256
    merges = []
    for a, b in (("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("a", "n"), ("Ġ", "the"), ("r", "e"), ("o", "n")):
        merges.append(f"{a} {b}")
        tokens.append(a + b)
        types.append(NORMAL)
    special = {}
    for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        special[t] = len(tokens)
        tokens.append(t)
        types.append(CONTROL)
    for t in ("<tool_call>", "</tool_call>"):
        tokens.append(t)
        types.append(USER_DEFINED)
    while len(tokens) < vocab:
        tokens.append(f"[PAD{len(tokens)}]")
        types.append(UNUSED)
    return dict(tokens=tokens, types=types, merges=merges, eos=special["<|im_end|>"], pad=special["<|endoftext|>"])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file")
    a = p.parse_args()
    r = gguf.GGUFReader(a.file)
    for k, f in r.fields.items():
        v = f.contents()
        v = f"[{len(v)}] {v[:4]}" if isinstance(v, list) else repr(v)
        print(k, "=", v if len(v) < 100 else v[:100] + "...")
    for t in r.tensors:
        print(f"{t.name:32} {t.tensor_type.name:5} {[int(x) for x in t.shape]}")
    print(os.path.getsize(a.file), "bytes")


if __name__ == "__main__":
    main()
