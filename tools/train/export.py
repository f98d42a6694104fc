#!/usr/bin/env python3
"""Export a checkpoint of the tiny model as a GGUF file.

`export.py --checkpoint final.pt --tokenizer tokenizer.json --out models/NAME.gguf` writes Q8_0 (norms, routers and other
small tensors F32); `--type f32|bf16|f16|...` writes masters and other types, `--layout fused` the older tensor layout,
`--split N` several parts.
"""
import argparse
import json
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import gguf_export                                                    # noqa: E402
from model import Config, Model, to_hf                                # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


def looks_special(text):
    return text.startswith("<|") and text.endswith("|>")


def gguf_tokenizer(path, vocab, template):
    """Token list, types and merges as converters write them for Qwen's tokenizers."""
    j = json.load(open(path, encoding="utf-8"))
    added = {a["id"]: a for a in j["added_tokens"]}
    by_id = {i: t for t, i in j["model"]["vocab"].items()}
    tokens, types = [], []
    for i in range(vocab):
        if i in added:
            a = added[i]
            tokens.append(a["content"])
            control = a["special"] or looks_special(a["content"])
            types.append(gguf_export.CONTROL if control else gguf_export.USER_DEFINED)
        elif i in by_id:
            tokens.append(by_id[i])
            types.append(gguf_export.NORMAL)
        else:
            tokens.append(f"[PAD{i}]")
            types.append(gguf_export.UNUSED)
    merges = [m if isinstance(m, str) else " ".join(m) for m in j["model"]["merges"]]
    ids = {t: i for i, t in enumerate(tokens)}
    return dict(tokens=tokens, types=types, merges=merges, eos=ids["<|im_end|>"], pad=ids["<|endoftext|>"], template=template)


def load_checkpoint(path):
    ck = torch.load(path, map_location="cpu")
    model = Model(Config(**ck["config"])).eval()
    model.load_state_dict(ck["model"])
    return model, ck


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--type", default="q8_0", choices=sorted(gguf_export.TYPES))
    p.add_argument("--layout", default="split", choices=("split", "fused", "mixed"))
    p.add_argument("--split", type=int, default=0)
    p.add_argument("--name", default="tug-tiny-coder")
    a = p.parse_args()
    model, ck = load_checkpoint(a.checkpoint)
    c = {k: v for k, v in ck["config"].items()}
    template = open(os.path.join(HERE, "chat_template.jinja"), encoding="utf-8").read()
    tok = gguf_tokenizer(a.tokenizer, c["vocab"], template)
    paths, _ = gguf_export.export(
        a.out, to_hf(model), c, tok, a.type, a.layout, a.split, type=a.type, name=a.name, license="mit",
        description="A very small test model of the qwen3next architecture, trained for the tug engine",
        sampling={"temp": 1.0, "top_p": 0.95, "top_k": 40})
    for q in paths:
        print(q, os.path.getsize(q), "bytes")


if __name__ == "__main__":
    main()
