#!/usr/bin/env python3
"""Measure the tiny model: held-out loss, exact tool calls on unseen names, expert use, samples.

Works on the GGUF file itself (quantised weights expanded to f32), so what is measured is what ships.
A tool call counts as exact when greedy decoding gives precisely the expected call: judged on the
expected text (every token the most likely one, from <tool_call> to the end of the turn), and with
`--generate N` by really generating N answers with transformers.
"""
import argparse
import collections
import json
import math
import os
import random
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import chat                                                           # noqa: E402
import corpus                                                         # noqa: E402
import data                                                           # noqa: E402
import dialogues                                                      # noqa: E402
import gguf_export                                                    # noqa: E402
import tokenizer                                                      # noqa: E402
from model import Config, from_hf                                     # noqa: E402


def load(path):
    c, sd, meta = gguf_export.load(path)
    return Config(**c), sd, meta


def heldout_code(model, tok, windows=16, length=512):
    """(loss per token, bits per byte, tokens) on stdlib files that training never saw."""
    end = tok.token_to_id("<|endoftext|>")
    ids = []
    for _, text, held in corpus.files():
        if held:
            ids += tok.encode(text).ids + [end]
    step = (len(ids) - length) // (windows - 1)
    loss = n = size = 0
    for i in range(windows):
        w = ids[i * step:i * step + length]
        x = torch.tensor([w])
        loss += F.cross_entropy(model(x)[0, :-1], x[0, 1:], reduction="sum").item()
        n += length - 1
        size += len(tok.decode(w[1:], skip_special_tokens=False).encode())
    return loss / n, loss / size / math.log(2), n


def score_conversation(model, tok, conv):
    """(loss sum, tokens, [(call text, exact?)]) on the assistant's tokens."""
    ids, mask = data.encode(tok, conv)
    x = torch.tensor([ids])
    lg = model(x)[0, :-1]
    want = torch.tensor(mask[1:], dtype=torch.bool)
    loss = F.cross_entropy(lg[want], x[0, 1:][want], reduction="sum").item()
    ok = (lg.argmax(-1) == x[0, 1:]).tolist()
    calls, call_id = [], tok.token_to_id("<tool_call>")
    j = 0
    while j < len(ids):
        if mask[j] and ids[j] == call_id:
            e = j
            while e + 1 < len(ids) and mask[e + 1]:
                e += 1
            calls.append((tok.decode(ids[j:e], skip_special_tokens=False), all(ok[j:e])))
            j = e
        j += 1
    return loss, int(want.sum()), calls


def parse_call(text):
    """First call of a generated answer as (name, arguments), or None."""
    if "<tool_call>\n<function=" not in text:
        return None
    body = text.split("<tool_call>\n<function=", 1)[1].split("</function>", 1)[0]
    name, _, body = body.partition(">\n")
    args = {}
    for part in body.split("<parameter=")[1:]:
        key, _, value = part.partition(">\n")
        args[key] = value.split("\n</parameter>")[0]
    return name, args


class Generator:
    """Greedy generation with transformers on the same weights."""

    def __init__(self, path, tok):
        from transformers import Qwen3NextForCausalLM
        c, sd, _ = gguf_export.load(path)
        self.model = Qwen3NextForCausalLM(gguf_export.hf_config(c)).eval()
        self.model.load_state_dict(sd, strict=False)
        self.tok, self.end = tok, tok.token_to_id("<|im_end|>")

    @torch.no_grad()
    def __call__(self, text, limit=120):
        ids = self.tok.encode(text).ids
        cache, x, out = None, torch.tensor([ids]), []
        for _ in range(limit):
            r = self.model(x, past_key_values=cache, use_cache=True)
            cache = r.past_key_values
            t = r.logits[0, -1].argmax().item()
            if t == self.end:
                break
            out.append(t)
            x = torch.tensor([[t]])
        return self.tok.decode(out, skip_special_tokens=False)


SAMPLES = ["Show me src/foo/bar.py", "List the files in lib", "Run the tests", "Create hello.py which prints Hello from tug",
           "Rename foo to bar in x.c", "Write a Python function that reverses a string", "Who are you?", "Repeat: quick brown_fox 42"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="GGUF file")
    p.add_argument("--conversations", type=int, default=15, help="per kind of task, with and without the tool header")
    p.add_argument("--generate", type=int, default=0, help="also generate this many answers")
    p.add_argument("--samples", action="store_true", help="print answers to a few fixed requests")
    p.add_argument("--seed", type=int, default=99)
    p.add_argument("--json", help="write the numbers here")
    a = p.parse_args()
    torch.set_num_threads(1)
    c, sd, meta = load(a.model)
    tok = tokenizer.from_gguf(meta)
    model = from_hf(c, sd)
    res = {}
    with torch.no_grad():
        loss, bpb, n = heldout_code(model, tok)
        res["code"] = {"loss": loss, "perplexity": math.exp(loss), "bits_per_byte": bpb, "tokens": n}
        print("held-out code: loss %.3f, perplexity %.2f per token, %.3f bits per byte (%d tokens)" % (loss, math.exp(loss), bpb, n), flush=True)
        for header in (False, True):
            rng = random.Random(a.seed)
            total = tokens = 0
            per = collections.OrderedDict()
            for fn in dialogues.TOOL_TASKS + [dialogues.t_question, dialogues.t_copy, dialogues.t_recall]:
                good = calls = first = firsts = 0
                for _ in range(max(1, a.conversations // (3 if header else 1))):
                    conv = {"messages": fn(rng, dialogues.HELDOUT)}
                    if header:
                        conv["tools"] = dialogues.tool_list(rng)
                    l, k, cs = score_conversation(model, tok, conv)
                    total, tokens = total + l, tokens + k
                    good, calls = good + sum(ok for _, ok in cs), calls + len(cs)
                    if cs:
                        first, firsts = first + cs[0][1], firsts + 1
                if calls:
                    per[fn.__name__[2:]] = (good, calls, first, firsts)
            key = "with_header" if header else "without_header"
            g, n_calls = sum(v[0] for v in per.values()), sum(v[1] for v in per.values())
            res[key] = {"loss": total / tokens, "perplexity": math.exp(total / tokens), "exact": g / n_calls, "calls": n_calls,
                        "by_task": {k: [v[0], v[1]] for k, v in per.items()}}
            print(f"dialogues {key}: loss {total / tokens:.3f} perplexity {math.exp(total / tokens):.2f} on {tokens} assistant tokens; "
                  f"exact tool calls {g}/{n_calls} = {g / n_calls:.3f}", flush=True)
            print("   ", ", ".join(f"{k} {v[0]}/{v[1]}" for k, v in per.items()), flush=True)
        model.train()
        rng = random.Random(a.seed + 1)
        loads = torch.zeros(c.layers, c.experts)
        for _ in range(12):
            conv = dialogues.conversation(rng, dialogues.HELDOUT, tools=False)
            model(torch.tensor([data.encode(tok, conv)[0]]))
            loads += torch.stack([b.moe.load for b in model.blocks])
        loads = loads / loads.sum(1, keepdim=True)
        top = loads.sort(1, descending=True).values
        res["experts"] = {"busiest": top[:, 0].tolist(), "idlest": top[:, -1].tolist(), "busiest_quarter": top[:, :c.experts // 4].sum(1).tolist()}
        print("experts on dialogues, per layer: busiest", [round(x, 3) for x in top[:, 0].tolist()], "idlest", [round(x, 4) for x in top[:, -1].tolist()],
              "share of the busiest quarter", [round(x, 2) for x in top[:, :c.experts // 4].sum(1).tolist()], flush=True)
    gen = Generator(a.model, tok) if a.generate or a.samples else None
    if a.generate:
        rng = random.Random(a.seed + 2)
        good = made = wanted = 0
        for i in range(a.generate):
            m = rng.choice(dialogues.TOOL_TASKS)(rng, dialogues.HELDOUT)
            expect = m[1]["tool_calls"][0]["function"]
            tools = dialogues.tool_list(rng) if i % 4 == 0 else None
            got = parse_call(gen(chat.render_text(m[:1], tools, True)))
            wanted, made = wanted + 1, made + (got is not None)
            good += got is not None and got[0] == expect["name"] and got[1] == {k: str(v) for k, v in expect["arguments"].items()}
        res["generated"] = {"requests": wanted, "calls": made, "exact": good}
        print(f"generated: {wanted} requests with unseen names, {made} answered with a tool call, {good} exactly right", flush=True)
    if a.samples:
        for s in SAMPLES:
            print("---", s)
            print(gen(chat.render_text([{"role": "user", "content": s}], None, True)), flush=True)
    if a.json:
        json.dump(res, open(a.json, "w"), indent=1)


if __name__ == "__main__":
    main()
