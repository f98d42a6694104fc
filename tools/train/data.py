#!/usr/bin/env python3
"""Turn the corpus and generated dialogues into token pools for training and evaluation.

`python3 data.py --tokenizer tokenizer.json --out pools.pt` writes every pool: `code` (one stream per
split), and dialogue pools `copy`, `plain`, `tools` (ids, loss mask, padded to a multiple of 64 and
grouped by length), `eval_*` from held-out names and files.
"""
import argparse
import random

import torch
from tokenizers import Tokenizer

import chat
import corpus
import dialogues

PAD_TO = 64


def encode(tok, conv):
    """ids and a mask that is 1 where a token was written by the assistant."""
    ids, mask = [], []
    for text, mine in chat.render(conv["messages"], conv.get("tools")):
        e = tok.encode(text).ids
        ids += e
        mask += [int(mine)] * len(e)
    return ids, mask


def fim(rng, text):
    """Cut a piece of code for fill-in-the-middle."""
    a, b = sorted(rng.sample(range(len(text)), 2))
    b = min(b, a + 200)
    return ("<|fim_prefix|>" + text[:a] + "<|fim_suffix|>" + text[b:] + "<|fim_middle|>" + text[a:b])


def dialogue_pool(tok, rng, make, tokens, longest):
    """{length: (ids [n, length] int16, mask [n, length] bool)}"""
    groups, total, n = {}, 0, 0
    end = tok.token_to_id("<|endoftext|>")
    while total < tokens:
        ids, mask = encode(tok, make(rng))
        if len(ids) > longest:
            continue
        t = -(-len(ids) // PAD_TO) * PAD_TO
        pad = t - len(ids)
        groups.setdefault(t, []).append((ids + [end] * pad, mask + [0] * pad))
        total += t
        n += 1
    out = {t: (torch.tensor([a for a, _ in g], dtype=torch.int16), torch.tensor([b for _, b in g], dtype=torch.bool))
           for t, g in sorted(groups.items())}
    print(f"  {n} dialogues, {total} tokens, {sum(int(m.sum()) for _, m in out.values())} from the assistant", flush=True)
    return out


def build(tok, seed, scale=1.0):
    rng = random.Random(seed)
    end = tok.token_to_id("<|endoftext|>")
    pools = {}
    streams = {False: [], True: []}
    files = list(corpus.files())
    random.Random(seed).shuffle(files)
    for _, text, held in files:
        if scale < 1 and rng.random() > scale and not held:
            continue
        streams[held] += tok.encode(text).ids + [end]
        if not held and len(text) > 600 and rng.random() < 0.5:
            a = rng.randrange(0, len(text) - 500)
            streams[held] += tok.encode(fim(rng, text[a:a + 500])).ids + [end]
    pools["code"] = torch.tensor(streams[False], dtype=torch.int16)
    pools["eval_code"] = torch.tensor(streams[True], dtype=torch.int16)
    print("code tokens:", len(pools["code"]), "held out:", len(pools["eval_code"]), flush=True)
    tr, he = dialogues.TRAIN, dialogues.HELDOUT
    pools["copy"] = dialogue_pool(tok, rng, lambda r: dialogues.copy_conversation(r, tr), 2.0e6 * scale, 512)
    pools["plain"] = dialogue_pool(tok, rng, lambda r: dialogues.conversation(r, tr, tools=False), 7.0e6 * scale, 1024)
    pools["tools"] = dialogue_pool(tok, rng, lambda r: dialogues.conversation(r, tr, tools=True), 2.5e6 * scale, 1984)
    rng = random.Random(seed + 1000)
    pools["eval_plain"] = dialogue_pool(tok, rng, lambda r: dialogues.conversation(r, he, tools=False, turns=1), 24e3, 512)
    pools["eval_tools"] = dialogue_pool(tok, rng, lambda r: dialogues.conversation(r, he, tools=True, turns=2), 16e3, 1984)
    return pools


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--scale", type=float, default=1.0, help="smaller pools for a quick try")
    a = p.parse_args()
    torch.save(build(Tokenizer.from_file(a.tokenizer), a.seed, a.scale), a.out)


if __name__ == "__main__":
    main()
