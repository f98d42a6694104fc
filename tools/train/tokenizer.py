#!/usr/bin/env python3
"""Train the byte-level BPE of the tiny model (Qwen2 pre-tokeniser, NFC, Qwen's added tokens).

Writes a Hugging Face `tokenizer.json`. Ids: ordinary tokens first, then the added tokens in Qwen's
order, then `[PADn]` entries (added by the exporter) up to the vocabulary size.
"""
import argparse
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import chat
import corpus
import dialogues

VOCAB = 4096
PADS = 6
QWEN2_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
           "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
           "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
ADDED = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
         "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"]


def train_text(seed, dialogues_count=6000, code_share=0.35):
    rng = random.Random(seed)
    for i in range(dialogues_count):
        c = dialogues.conversation(rng, dialogues.TRAIN, tools=i % 60 == 0)
        text = chat.render_text(c["messages"], c.get("tools"))
        for t in CONTROL + ADDED:
            text = text.replace(t, "\n")
        yield text
    for _, text, held in corpus.files():
        if not held and rng.random() < code_share:
            yield text


def frame(model):
    """A tokenizer with Qwen2's normaliser, pre-tokeniser and decoder around a BPE model."""
    tok = Tokenizer(model)
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_REGEX), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    return tok


def from_gguf(meta):
    """The tokenizer that a GGUF file describes (metadata from gguf_export.read)."""
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    vocab = {t: i for i, (t, k) in enumerate(zip(tokens, types)) if k == 1}
    tok = frame(models.BPE(vocab=vocab, merges=[tuple(m.split(" ")) for m in meta["tokenizer.ggml.merges"]]))
    tok.add_tokens([AddedToken(t, normalized=False, special=k == 3) for t, k in zip(tokens, types) if k in (3, 4)])
    return tok


def train(seed=1, vocab=VOCAB, pads=PADS):
    tok = frame(models.BPE())
    tok.train_from_iterator(train_text(seed), trainers.BpeTrainer(
        vocab_size=vocab - pads - len(CONTROL) - len(ADDED), special_tokens=[], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.add_tokens([AddedToken(t, normalized=False, special=True) for t in CONTROL]
                   + [AddedToken(t, normalized=False, special=False) for t in ADDED])
    return tok


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="tokenizer.json to write")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    tok = train(a.seed)
    tok.save(a.out)
    c = dialogues.conversation(random.Random(2), dialogues.TRAIN, tools=True)
    text = chat.render_text(c["messages"], c.get("tools"))
    print("vocabulary", tok.get_vocab_size(), "| a dialogue:", len(text), "characters,", len(tok.encode(text).ids), "tokens")
    for w in ("def main():\n    return 0\n", "src/foo/bar.py", "<tool_call>\n<function=read_file>\n<parameter=path>\n"):
        print(tok.encode(w).tokens)


if __name__ == "__main__":
    main()
