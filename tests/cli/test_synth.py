#!/usr/bin/env python3
"""tug synth as a person meets it: files that load, sentences, and nothing left behind."""
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time

TUG = os.path.abspath(os.environ.get("TUG", "build/tug"))
failures = []
n_checks = 0
# "The same bytes on any machine": what --like tiny with seed 1 gives.
SHA256 = {"Q4_K_M": "afbdf15168d2b7237e9d9fd95db67bdb398a3e28081e14811c88d6808c9aa69d",
          "F32": "9aee074acdc5b3875b36430e4f6e37e152f3a4b9546bc3b6b79debed69a50f4f"}
MIXES = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",
         "Q8_0", "IQ4_XS", "IQ4_NL", "Q4_0", "BF16", "F16", "F32"]
SMALL = ["--like", "tiny", "--experts", "4", "--vocab-size", "512"]


def check(what, ok, detail=""):
    global n_checks
    n_checks += 1
    if not ok:
        failures.append(what)
        print(f"FAILED {what}: {detail}")


def tug(*args, **more):
    done = subprocess.run([TUG, *args], capture_output=True, timeout=120, check=False,
                          stdin=subprocess.DEVNULL, **more)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def refused(what, code, words, *args, **more):
    got, out, err = tug("synth", *args, **more)
    check(what, got == code and out == "" and words in err and err.startswith("tug: ")
          and err.count("\n") == 1, f"exit code {got}: {err!r}")


def inspect(path):
    return json.loads(tug("inspect", "--json", path)[1])


def help_cases(folder):
    code, out, err = tug("synth", "--help")
    check("help", code == 0 and "examples" in out and err == "")
    check("help lists every mix", all(m in out for m in MIXES), out)
    check("tug --help lists it", "synth" in tug("--help")[1])


def mix_cases(folder):
    for mix in MIXES:
        path = os.path.join(folder, mix + ".gguf")
        code, out, err = tug("synth", "-o", path, *SMALL, "--quant", mix, "--json")
        check(mix, code == 0, err)
        doc, found = json.loads(out), inspect(path)
        check(mix + " size", doc["bytes"] == os.path.getsize(path) == found["bytes"], doc)
        check(mix + " tensors", doc["tensors"] == len(found["tensors"]) and doc["path"] == path)
        check(mix + " params", doc["params"] == sum(t["values"] for t in found["by_type"].values()))
        types = {t["name"]: t["type"] for t in found["tensors"]}
        base = mix if mix in ("Q6_K", "Q8_0", "IQ4_XS", "IQ4_NL", "Q4_0", "BF16", "F16", "F32") else mix[:4]
        check(mix + " base", types["token_embd.weight"] == types["blk.0.ffn_up_exps.weight"] == base, types)
        check(mix + " router", types["blk.0.ffn_gate_inp.weight"] == "F32", types)
        code, out, err = tug("run", "-m", path, "-t", "1", "--temp", "0", "-n", "4", "--json", "hi there")
        check(mix + " runs", code == 0 and len(json.loads(out)["ids"]) == 4, err)


def same_bytes_cases(folder):
    for mix, want in SHA256.items():
        path = os.path.join(folder, "same.gguf")
        check("written", tug("synth", "-o", path, "--like", "tiny", "-q", mix, "--force")[0] == 0)
        with open(path, "rb") as f:
            got = hashlib.sha256(f.read()).hexdigest()
        check("bytes of tiny in " + mix, got == want, got)


def shape_cases(folder):
    path = os.path.join(folder, "shape.gguf")
    code, _, err = tug("synth", "--layers", "5", "--experts", "6", "--experts-used", "3",
                       "--expert-dim", "512", "--shared-dim", "768", "--dim", "512", "--heads", "8",
                       "--kv-heads", "2", "--head-dim", "128", "--delta-k-heads", "4",
                       "--delta-v-heads", "8", "--vocab-size", "1000", "-c", "9000", "-q", "Q8_0",
                       "--router", "BF16", "--like", "tiny", "-o", path)
    check("a shape of its own", code == 0, err)
    doc = inspect(path)
    value = {k[10:]: v["value"] for k, v in doc["metadata"].items() if k.startswith("qwen3next.")}
    want = {"block_count": 5, "expert_count": 6, "expert_used_count": 3, "context_length": 9000,
            "expert_feed_forward_length": 512, "expert_shared_feed_forward_length": 768,
            "embedding_length": 512, "attention.head_count": 8, "attention.head_count_kv": 2,
            "attention.key_length": 128, "rope.dimension_count": 32, "ssm.group_count": 4,
            "ssm.time_step_rank": 8, "full_attention_interval": 4}
    for key, v in want.items():
        check(key, value[key] == v, value[key])
    types = {t["name"]: t["type"] for t in doc["tensors"]}
    check("--router BF16", types["blk.0.ffn_gate_inp.weight"] == "BF16", types)
    check("every fourth layer has attention",
          [i for i in range(5) if f"blk.{i}.attn_q.weight" in types] == [3], types)
    code, out, err = tug("run", "-m", path, "-t", "1", "-n", "4", "--temp", "0", "--json", "hi")
    check("it runs", code == 0 and len(json.loads(out)["ids"]) == 4, err)


def split_cases(folder):
    path = os.path.join(folder, "split.gguf")
    code, out, err = tug("synth", "-o", path, "--like", "tiny", "--split-max-size", "2M", "--json")
    doc = json.loads(out)
    first = os.path.join(folder, "split-00001-of-%05d.gguf" % doc["parts"])
    check("split", code == 0 and doc["parts"] == 5 and doc["path"] == first, out + err)
    whole = os.path.join(folder, "whole.gguf")
    tug("synth", "-o", whole, "--like", "tiny")
    texts = [tug("run", "-m", p, "-t", "1", "-n", "8", "--temp", "0", "hello")[1] for p in (first, whole)]
    check("split or whole, the same model", texts[0] == texts[1] and texts[0], texts)


def wrong_cases(folder):
    path = os.path.join(folder, "wrong.gguf")
    for what, args, words in [
            ("no name", [], "-o FILE.gguf; see `tug synth --help`"),
            ("another suffix", ["-o", folder + "/m.bin"], "must end in .gguf"),
            ("unknown mix", ["-o", path, "-q", "Q9"], "--quant has no 'Q9'"),
            ("unknown model", ["-o", path, "--like", "gpt"], "--like is qwen3-coder-next or tiny"),
            ("unknown router", ["-o", path, "--router", "Q8_0"], "--router is F32, BF16 or F16"),
            ("extra word", ["-o", path, "more"], "'more' is one too many"),
            ("dim", ["-o", path, "--dim", "2000"], "--dim 2000 is no multiple of 256, the block size of Q3_K_M"),
            ("dim of Q8_0", ["-o", path, "--dim", "2000", "-q", "Q8_0"], "no multiple of 32"),
            ("expert dim", ["-o", path, "--expert-dim", "300"], "--expert-dim 300"),
            ("heads", ["-o", path, "--heads", "3"], "--heads 3 must be 1 to 64 times --kv-heads 2"),
            ("head dim", ["-o", path, "--head-dim", "40"], "--head-dim 40 is no multiple of 32"),
            ("delta heads", ["-o", path, "--delta-v-heads", "24"], "--delta-k-heads 16"),
            ("experts used", ["-o", path, "--experts", "8"], "--experts-used 10 is more"),
            ("layers", ["-o", path, "--layers", "0"], "--layers must be between 1"),
            ("vocab size", ["-o", path, "--vocab-size", "100"], "--vocab-size must be between 512"),
            ("skew", ["-o", path, "--skew", "-1"], "--skew must be between"),
            ("split size", ["-o", path, "--split-max-size", "4"], "--split-max-size wants a size"),
            ("seed", ["-o", path, "--seed", "x"], "--seed wants a whole number")]:
        code = 2
        refused(what, code, words, *args)
    refused("missing vocabulary", 1, "cannot open", "-o", path, "--vocab", folder + "/none.json")
    refused("a disk too small", 1, "GB free", "-o", path, "--layers", "4096", "--experts", "65536")
    refused("missing folder", 1, "No such file", "-o", folder + "/none/m.gguf", *SMALL)
    with open(path, "wb") as f:
        f.write(b"mine")
    refused("a name that is taken", 1, "--force", "-o", path, *SMALL)
    check("it is untouched", open(path, "rb").read() == b"mine")
    check("--force", tug("synth", "-o", path, *SMALL, "--force")[0] == 0 and os.path.getsize(path) > 4)
    os.remove(path)
    check("refusals leave nothing", not [n for n in os.listdir(folder) if n.startswith("wrong")])


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))


def full_disk_cases(folder):
    path = os.path.join(folder, "full.gguf")
    refused("a file too large", 1, "File too large; nothing of it is left", "-o", path,
            "--like", "tiny", preexec_fn=limit_file_size)
    check("nothing is left", not [n for n in os.listdir(folder) if n.startswith("full")])
    code, out, _ = tug("synth", "-o", path, *SMALL, "--json", "-t", "3")
    check("after that it works", code == 0 and json.loads(out)["bytes"] == os.path.getsize(path))


def interrupt_cases(folder):
    """Ctrl-C somewhere in the middle of a gigabyte."""
    path = os.path.join(folder, "long.gguf")
    args = ["synth", "-o", path, "--layers", "1", "-q", "F32", "--experts", "64", "-t", "1"]
    child = subprocess.Popen([TUG, *args], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while time.monotonic() < until and child.poll() is None:
        if os.path.exists(path + ".partial") and os.path.getsize(path + ".partial") > 20 << 20:
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=60)[1].decode()
    check("Ctrl-C", child.returncode == 130 and "interrupted" in err and err.count("\n") == 1, err)
    check("Ctrl-C leaves nothing", not [n for n in os.listdir(folder) if n.startswith("long")])


def main():
    with tempfile.TemporaryDirectory() as folder:
        for cases in (help_cases, mix_cases, same_bytes_cases, shape_cases, split_cases,
                      wrong_cases, full_disk_cases, interrupt_cases):
            cases(folder)
    print(f"test_synth: {n_checks - len(failures)} passed, {len(failures)} failed, 0 skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
