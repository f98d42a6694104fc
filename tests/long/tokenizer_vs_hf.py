#!/usr/bin/env python3
"""Our tokenizer against Hugging Face `tokenizers`, id for id.

The reference reads qwen3-tokenizer.json; ours reads a GGUF made from the same file the way
converters make them.  Compared are both directions, both treatments of control tokens and
both pre-tokenisers, over: the recorded vocabulary test, every code point alone and among
neighbours, every canonical decomposition, random text of every script, combining marks in
any order, near misses of special tokens, source code, and the requests of real agents.

    tests/long/tokenizer_vs_hf.py [SEED]     (run from the repository root; needs cc)

Its needs outside the repository, a folder with tokenizer/ and agents/, are looked for in
$TUG_SHARED_DATA, ../shared/data and ../../shared/data.
"""
import ctypes
import glob
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import unicodedata

NAME = "tokenizer_vs_hf"


def finish(passed, failed, skipped):
    print(f"{NAME}: {passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


def shared_data():
    for folder in (os.environ.get("TUG_SHARED_DATA"), "../shared/data", "../../shared/data"):
        if folder and os.path.exists(folder + "/tokenizer/qwen3-tokenizer.json"):
            return folder
    print("SKIPPED: no tokenizer/qwen3-tokenizer.json (set TUG_SHARED_DATA)")
    finish(0, 0, 1)


DATA = shared_data()
SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 1

import gguf  # noqa: E402  (after the skip: a machine without the data may lack these too)
import numpy as np  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

# ---- the vocabulary as a GGUF ----------------------------------------------------------

PADDED_SIZE = 151936


def looks_like_control(token):
    """Converters mark these as control tokens even where the reference does not."""
    return token["special"] or (token["content"].startswith("<|") and token["content"].endswith("|>"))


def write_gguf(path, spec, pre):
    texts = {i: t for t, i in spec["model"]["vocab"].items()}
    types = dict.fromkeys(texts, gguf.TokenType.NORMAL)
    for token in spec["added_tokens"]:
        texts[token["id"]] = token["content"]
        types[token["id"]] = (gguf.TokenType.CONTROL if looks_like_control(token)
                              else gguf.TokenType.USER_DEFINED)
    for i in range(PADDED_SIZE):
        if i not in texts:
            texts[i], types[i] = f"[PAD{i}]", gguf.TokenType.UNUSED
    w = gguf.GGUFWriter(path, "qwen3next")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list([texts[i] for i in range(PADDED_SIZE)])
    w.add_token_types([types[i] for i in range(PADDED_SIZE)])
    w.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in spec["model"]["merges"]])
    w.add_eos_token_id(151645)
    w.add_pad_token_id(151643)
    w.add_bos_token_id(151643)
    w.add_add_bos_token(False)
    w.add_tensor("token_embd.weight", np.zeros((1, 32), dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- ours, through a shared library ----------------------------------------------------

SOURCES = ["src/base/*.c", "src/quant/types.c", "src/gguf/*.c", "src/tokenizer/*.c",
           "src/engine/vocab.c"]


class Str(ctypes.Structure):
    _fields_ = [("p", ctypes.c_char_p), ("n", ctypes.c_size_t)]


class Segment(ctypes.Structure):
    _fields_ = [("text", Str), ("mode", ctypes.c_int)]


class Ids(ctypes.Structure):
    _fields_ = [("p", ctypes.POINTER(ctypes.c_int32)), ("n", ctypes.c_size_t),
                ("cap", ctypes.c_size_t)]


class Buf(ctypes.Structure):
    _fields_ = [("p", ctypes.c_void_p), ("n", ctypes.c_size_t), ("cap", ctypes.c_size_t),
                ("failed", ctypes.c_bool)]


class Detok(ctypes.Structure):
    _fields_ = [("tk", ctypes.c_void_p), ("show_control", ctypes.c_bool),
                ("n_held", ctypes.c_int), ("held", ctypes.c_char * 4)]


class Err(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("line", ctypes.c_int), ("file", ctypes.c_char_p),
                ("msg", ctypes.c_char * 256)]


def build_library(folder):
    so = folder + "/tok.so"
    sources = [f for pattern in SOURCES for f in sorted(glob.glob(pattern))]
    subprocess.run(["cc", "-std=c11", "-O2", "-shared", "-fPIC", "-D_GNU_SOURCE", "-Isrc",
                    "-Iinclude", "-o", so, *sources, "-lpcre2-8", "-lutf8proc", "-lm",
                    "-lpthread"], check=True)
    lib = ctypes.CDLL(so)
    lib.tug_detok_start.restype = Detok
    lib.tug_detok_start.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    return lib


class Ours:
    def __init__(self, lib, path):
        self.lib, self.err, self.ids = lib, Err(), Ids()
        g, self.tk, self.encoder = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self.ok(lib.tug_gguf_open(ctypes.byref(g), path.encode(), ctypes.byref(self.err)))
        self.ok(lib.tug_vocab_load(ctypes.byref(self.tk), g, ctypes.byref(self.err)))
        lib.tug_gguf_close(ctypes.byref(g))
        self.ok(lib.tug_encoder_create(ctypes.byref(self.encoder), self.tk,
                                       ctypes.byref(self.err)))

    def ok(self, status):
        if status:
            raise RuntimeError(self.err.msg.decode())

    def encode_segments(self, parts):
        """parts: (bytes, parse control tokens?) pairs."""
        array = (Segment * len(parts))(*[Segment(Str(t, len(t)), int(m)) for t, m in parts])
        self.ids.n = 0
        self.ok(self.lib.tug_encode_segments(self.encoder, array, ctypes.c_size_t(len(parts)),
                                             ctypes.byref(self.ids), ctypes.byref(self.err)))
        return self.ids.p[:self.ids.n]

    def encode(self, text, control):
        return self.encode_segments([(text.encode(), control)])

    def decode(self, ids, control):
        """The text, and whether it was whole characters after every id."""
        d, out, whole = self.lib.tug_detok_start(self.tk, control), Buf(), True
        for i in ids:
            before = out.n
            self.ok(self.lib.tug_detok_add(ctypes.byref(d), i, ctypes.byref(out),
                                           ctypes.byref(self.err)))
            if out.n > before:
                try:
                    ctypes.string_at(out.p + before, out.n - before).decode()
                except UnicodeDecodeError:
                    whole = False
        self.ok(self.lib.tug_detok_finish(ctypes.byref(d), ctypes.byref(out),
                                          ctypes.byref(self.err)))
        text = ctypes.string_at(out.p, out.n) if out.p else b""
        self.lib.tug_buf_free(ctypes.byref(out))
        return text.decode(), whole


# ---- texts -----------------------------------------------------------------------------

SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def every_code_point():
    """Alone, between letters, after a blank, an apostrophe, a digit, and twice."""
    for at in range(0, len(SCALARS), 128):
        chars = [chr(c) for c in SCALARS[at:at + 128]]
        yield "".join(f"x{c}y {c}\n{c}'{c}1{c}{c} \u0301{c}\u0323" for c in chars)
    for c in SCALARS[:0x3100]:
        yield chr(c)


def every_decomposition():
    texts = []
    for c in SCALARS:
        parts = unicodedata.decomposition(chr(c))
        if parts and not parts.startswith("<"):
            text = "".join(chr(int(x, 16)) for x in parts.split())
            texts += [text, "a" + text + chr(c), text + "\u0323\u0301", text + "\u11a8"]
    for at in range(0, len(texts), 20):
        yield " ".join(texts[at:at + 20])


def marks_in_any_order(rng):
    marks = [chr(c) for c in SCALARS if unicodedata.combining(chr(c))]
    newer = [chr(c) for c in (0x897, 0x10EFD, 0x10EFE, 0x113CE, 0x1611E, 0x16D67, 0x1E4EC)]
    starters = list("aeiou ") + ["\u1100\u1161", "\uac00", "\u0915", "\u09c7", "\u3042"]
    for _ in range(2000):
        yield "".join(rng.choice(starters) + "".join(rng.choices(marks + newer, k=rng.randrange(7)))
                      for _ in range(8))


def random_scripts(rng):
    """Runs of neighbours in the code space, so that scripts form words."""
    glue = [" ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "'\u017f", ". ", "12", "\u3000", "\u200d"]
    for _ in range(4000):
        text = ""
        for _ in range(rng.randrange(1, 12)):
            base = rng.choice([0x20, 0xA0, rng.randrange(0x250, 0x3100), rng.randrange(0x3100, 0xD700),
                               rng.randrange(0xE000, 0x1FFFF), rng.randrange(0x1F300, 0x1FA00)])
            text += "".join(chr(c) for c in (base + rng.randrange(64) for _ in range(rng.randrange(1, 9)))
                            if not 0xD800 <= c < 0xE000)
            text += rng.choice(glue)
        yield text


def random_ascii(rng):
    weights = [30 if chr(c).isalnum() else 60 if chr(c) in " \n'\t" else 4 for c in range(128)]
    for _ in range(3000):
        yield "".join(map(chr, rng.choices(range(128), weights, k=rng.randrange(1, 60))))


def by_hand():
    yield from [
        "", " ", "\n", "a", "'", "''s", "I'll we'RE it'ſ 'S'T", "don't\u2019t", "x" * 1000,
        " " * 1000, "\n" * 500 + " " * 500, "\u0301" * 300 + "\u0323" * 300, "ab" * 700,
        "1234567890" * 9, "\u00e9 e\u0301 \u1e69 s\u0323\u0307 s\u0307\u0323", "\ufb01 \u212b \u2126",
        "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 👍🏽", "नमस्ते दुनिया", "สวัสดีชาวโลก", "こんにちは、世界！", "안녕하세요 \u1112\u1161\u11ab",
        "Привет, мир!", "Γειά σου Κόσμε", "مرحبا بالعالم", "שלום עולם", "Tiếng Việt rất đẹp",
        "\u0085x\u180ey\u200bz\u2028w\u00a0v", "\x00\x01\x1c\x1d\x1e\x1f\x7f\x80", "\ufeffBOM",
        "\U0010ffff\U000e0001\ue000", "\u1100\u1161\u11a8 \uac00\u11a8"]


def special_texts(spec, rng):
    names = [t["content"] for t in spec["added_tokens"]]
    bits = names + [n[:-1] for n in names] + [n[1:] for n in names] + [
        "<", "|", ">", "<|", "|>", " ", "\n", "user\n", "[PAD151700]", "e", "\u0301", "<tool_call"]
    for n in names:
        yield from (n, n + n, "a" + n + "b", " " + n + " ", n.upper(), "\u0301" + n + "\u0301")
    for _ in range(3000):
        yield "".join(rng.choices(bits, k=rng.randrange(1, 12)))


def files(patterns, limit):
    """The beginnings of files, at most `limit` bytes together."""
    for path in sorted({p for pattern in patterns for p in glob.glob(pattern, recursive=True)}):
        if os.path.isfile(path) and limit > 0:
            text = open(path, "rb").read(200000).decode("utf-8", "replace")
            limit -= len(text)
            yield text


def vocabulary_test():
    read = lambda ext: open(f"{DATA}/tokenizer/qwen2-vocab{ext}", encoding="utf-8", newline="").read()
    texts = read(".inp").split("\n__ggml_vocab_test__\n")
    rows = [list(map(int, line.split())) for line in read(".out").rstrip("\n").split("\n")]
    return list(zip(texts, rows))


# ---- comparing -------------------------------------------------------------------------


class Score:
    def __init__(self):
        self.passed = self.failed = self.shown = 0

    def check(self, what, text, ours, reference):
        if ours == reference:
            self.passed += 1
            return
        self.failed += 1
        if self.shown < 10:
            self.shown += 1
            at = next((i for i, (a, b) in enumerate(zip(ours, reference)) if a != b),
                      min(len(ours), len(reference)))
            print(f"FAILED {what}: {text[:60]!r} at {at}: {ours[at:at + 8]} for {reference[at:at + 8]}")


def compare_encode(score, what, ours, reference, texts):
    before = score.passed + score.failed
    for text in texts:
        score.check(what, text, ours.encode(text, True), reference.encode(text).ids)
    print(f"{what}: {score.passed + score.failed - before} texts", flush=True)


def compare_as_text(score, ours, spec, texts):
    """Control tokens stay text; the reference can do that for those it calls special."""
    spec = json.loads(json.dumps(spec))
    for token in spec["added_tokens"]:
        token["special"] = looks_like_control(token)
    reference = Tokenizer.from_str(json.dumps(spec))
    reference.encode_special_tokens = True
    for text in texts:
        score.check("as text", text, ours.encode(text, False), reference.encode(text).ids)


def compare_segments(score, ours, reference, texts, rng):
    """However a text is cut, its ids stay the same when all parts have the same rights."""
    for text in texts:
        raw, parts = text.encode(), []
        while raw:
            n = rng.randrange(0, len(raw) + 1)
            parts.append((raw[:n], True))
            raw = raw[n:]
        score.check("segments", text, ours.encode_segments(parts), reference.encode(text).ids)


def compare_decode(score, ours, reference, rng):
    control = {t["id"] for t in json.loads(reference.to_str())["added_tokens"] if looks_like_control(t)}
    size = reference.get_vocab_size()
    partial = [i for i in range(size) if "\ufffd" in reference.decode([i])]
    for _ in range(4000):
        ids = [rng.choice(partial) if rng.random() < 0.6 else rng.randrange(size)
               for _ in range(rng.randrange(1, 30))]
        text, whole = ours.decode(ids, True)
        score.check("decode", text, text, reference.decode(ids, skip_special_tokens=False))
        score.check("decode, whole characters", text, [whole], [True])
        text, _ = ours.decode(ids, False)
        kept = [i for i in ids if i not in control]
        score.check("decode, no control", text, text, reference.decode(kept, skip_special_tokens=False))


def compare_command(score, path, reference):
    """The command itself, once for each of its forms."""
    def tug(args, data):
        return subprocess.run(["build/tug", "tokenize", "-m", path, *args], input=data,
                              capture_output=True)
    text = "<|im_start|>user\nh\u00e9llo 🌍<|im_end|>\n".encode()
    ids = tug(["--special"], text).stdout
    expected = " ".join(map(str, reference.encode(text.decode()).ids)) + "\n"
    score.check("command", "ids", ids, expected.encode())
    score.check("command", "round trip", tug(["--decode", "--special"], ids).stdout, text)
    answer = json.loads(tug(["--json", "--special"], text).stdout)
    score.check("command", "json", answer["ids"], list(map(int, ids.split())))
    score.check("command", "json pieces", answer["pieces"][:3], ["<|im_start|>", "user", "\n"])
    score.check("command", "no UTF-8", tug([], b"ab\xff").returncode, 1)
    score.check("command", "byte", b"byte 2" in tug([], b"ab\xff").stderr, True)
    score.check("command", "empty", tug([], b"").stdout, b"\n")


def main():
    rng, score = random.Random(SEED), Score()
    spec = json.load(open(f"{DATA}/tokenizer/qwen3-tokenizer.json", encoding="utf-8"))
    reference = Tokenizer.from_str(json.dumps(spec))
    with tempfile.TemporaryDirectory() as folder:
        lib = build_library(folder)
        write_gguf(folder + "/qwen2.gguf", spec, "qwen2")
        ours = Ours(lib, folder + "/qwen2.gguf")
        for text, row in vocabulary_test():
            score.check("vocabulary test", text, ours.encode(text, True), row)
        specials = list(special_texts(spec, rng))
        stdlib = sysconfig.get_paths()["stdlib"]
        compare_encode(score, "by hand", ours, reference, by_hand())
        compare_encode(score, "special tokens", ours, reference, specials)
        compare_as_text(score, ours, spec, specials)
        compare_segments(score, ours, reference, specials, rng)
        compare_encode(score, "random ASCII", ours, reference, random_ascii(rng))
        compare_encode(score, "random scripts", ours, reference, random_scripts(rng))
        compare_encode(score, "decompositions", ours, reference, every_decomposition())
        compare_encode(score, "marks in any order", ours, reference, marks_in_any_order(rng))
        compare_encode(score, "source code", ours, reference,
                       files(["src/**/*.[ch]", stdlib + "/*.py"], 6 << 20))
        compare_encode(score, "agents", ours, reference,
                       files([DATA + "/agents/**/*", DATA + "/chat-template/**/*"], 16 << 20))
        compare_encode(score, "every code point", ours, reference, every_code_point())
        compare_decode(score, ours, reference, rng)
        if os.path.exists("build/tug"):
            compare_command(score, folder + "/qwen2.gguf", reference)
        else:
            print("FAILED: build/tug is missing, run make")
            score.failed += 1

        split = spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        split["Regex"] = split["Regex"].replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(
            r"[^\s\p{L}\p{N}]+", r"[^\s\p{L}\p{M}\p{N}]+")
        reference = Tokenizer.from_str(json.dumps(spec))
        write_gguf(folder + "/qwen35.gguf", spec, "qwen35")
        ours = Ours(lib, folder + "/qwen35.gguf")
        compare_encode(score, "qwen35 random scripts", ours, reference, random_scripts(rng))
        compare_encode(score, "qwen35 marks", ours, reference, marks_in_any_order(rng))
        compare_encode(score, "qwen35 every code point", ours, reference, every_code_point())
    finish(score.passed, score.failed, 0)


if __name__ == "__main__":
    main()
