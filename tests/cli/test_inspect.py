#!/usr/bin/env python3
"""tug inspect as a person and a program meet it: text, JSON, sentences, exit codes."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "fuzz"))
import seeds_gguf as g  # noqa: E402

TUG = os.environ.get("TUG", "build/tug")
failures = []
n_checks = 0


def check(what, ok, detail=""):
    global n_checks
    n_checks += 1
    if not ok:
        failures.append(what)
        print(f"FAILED {what}: {detail}")


def inspect(*args):
    done = subprocess.run([TUG, "inspect", *args], capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def write(folder, name, data):
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def hybrid_model():
    """Two layers of the true names; (32,) Q8_0 rows of 34 bytes."""
    names = ["token_embd.weight", "output_norm.weight", "output.weight",
             "blk.0.attn_norm.weight", "blk.0.attn_qkv.weight", "blk.0.attn_gate.weight",
             "blk.0.ssm_a", "blk.0.ssm_norm.weight", "blk.0.ffn_gate_inp.weight",
             "blk.0.ffn_gate_exps.weight", "blk.0.ffn_gate_inp_shexp.weight",
             "blk.0.ffn_up_shexp.weight", "blk.3.attn_q.weight", "blk.3.attn_q_norm.weight",
             "blk.3.ffn_down.weight", "rope_freqs.weight"]
    infos = [g.info(n, [32], 8, 64 * i) for i, n in enumerate(names)]
    kvs = [g.kv("general.architecture", g.STRING, "qwen3next")]
    return g.gguf(kvs, infos, bytes(64 * len(names)))


def text_cases(folder):
    path = write(folder, "model.gguf", hybrid_model())
    code, out, err = inspect(path)
    check("text", code == 0 and err == "", err)
    check("first line", out.startswith(f"{path}: GGUF version 3, qwen3next, 512 values in 16 tensors"), out)
    for words in ["metadata (1)", 'string  "qwen3next"', "tensors (16)", "by type", "by component"]:
        check("text has " + words, words in out, out)
    _, only, _ = inspect("--metadata", path)
    check("--metadata", "metadata (1)" in only and "tensors (" not in only, only)
    _, only, _ = inspect("--tensors", path)
    check("--tensors", "metadata" not in only and "by type" in only, only)


def json_cases(folder):
    path = write(folder, "model.gguf", hybrid_model())
    code, out, _ = inspect("--json", path)
    doc = json.loads(out)
    check("json", code == 0 and doc["file"] == path and doc["version"] == 3)
    check("sum by type", doc["by_type"] == {"Q8_0": {"tensors": 16, "values": 512, "bytes": 544}})
    count = {k: v["tensors"] for k, v in doc["by_component"].items()}
    check("components", count == {"embedding": 1, "head": 1, "attention": 1, "deltanet": 4,
                                  "router": 1, "experts": 1, "shared expert": 2,
                                  "dense ffn": 1, "norms": 3, "other": 1}, count)
    check("tensor", doc["tensors"][2] == {"name": "output.weight", "type": "Q8_0", "shape": [32],
                                          "bytes": 34, "part": 1,
                                          "offset": doc["tensors"][0]["offset"] + 128})
    long_text = "line\n\x1b[31m\u00e9\u4e2d" + "x" * 5000
    path = write(folder, "kv.gguf", g.gguf([
        g.kv("s", g.STRING, long_text), g.kv("u64", g.U64, 2**64 - 1), g.kv("i64", g.I64, -2**63),
        g.kv("f32", g.F32, 1e-6), g.kv("nan", g.F32, float("nan")), g.kv("b", g.BOOL, True),
        g.kv("a", g.ARRAY, (g.I32, list(range(100)))), g.kv("none", g.ARRAY, (g.STRING, []))],
        [], b""))
    _, out, _ = inspect("--json", path)
    doc = json.loads(out)["metadata"]
    want = {"s": long_text, "u64": 2**64 - 1, "i64": -2**63, "f32": 1e-6, "nan": None, "b": True}
    for key, value in want.items():
        check("value of " + key, doc[key]["value"] == value, doc[key])
    check("array", doc["a"] == {"type": "array", "elements": "i32", "count": 100,
                                "first": list(range(8))}, doc["a"])
    check("empty array", doc["none"]["count"] == 0 and doc["none"]["first"] == [])
    _, out, _ = inspect(path)
    check("no escape sequence reaches the terminal", "\x1b" not in out and "\\u001b[31m" in out)
    invalid = g.text("k") + b"\x08\0\0\0" + b"\x03\0\0\0\0\0\0\0a\xffb"
    path = write(folder, "invalid.gguf", g.gguf([invalid], [], b""))
    _, out, _ = inspect("--json", path)
    check("bytes that are no text", json.loads(out)["metadata"]["k"]["value"] == "a\ufffdb", out)


def any_model_cases(folder):
    """Architectures and types that tug cannot run are still shown."""
    path = write(folder, "other.gguf", g.gguf(
        [g.kv("general.architecture", g.STRING, "phi3")],
        [g.info("blk.0.attn_qkv.weight", [256], 16, 0)], bytes(66)))
    code, out, _ = inspect(path)
    check("another architecture", code == 0 and "phi3" in out and "IQ2_XXS" in out, out)
    check("a type tug cannot use", "tug cannot compute with this type" in out, out)
    _, out, _ = inspect("--json", path)
    check("attn_qkv without DeltaNet", list(json.loads(out)["by_component"]) == ["attention"], out)


def wrong_cases(folder):
    text = write(folder, "text.txt", b"hello")
    for what, args, code, words in [
            ("no file", [], 2, "the GGUF file is missing; see `tug inspect --help`"),
            ("two files", ["a", "b"], 2, "'b' is one too many"),
            ("unknown flag", ["--jsn", "a"], 2, "--jsn is no option"),
            ("missing file", [folder + "/none"], 1, "No such file"),
            ("folder", [folder], 1, "is a folder"),
            ("no GGUF", [text], 1, "is no GGUF file")]:
        got, out, err = inspect(*args)
        check(what, got == code and out == "" and words in err and err.count("\n") == 1, err)
    code, out, err = inspect("--help")
    check("help", code == 0 and "example:" in out and err == "")


def main():
    with tempfile.TemporaryDirectory() as folder:
        for cases in (text_cases, json_cases, any_model_cases, wrong_cases):
            cases(folder)
    print(f"test_inspect: {n_checks - len(failures)} passed, {len(failures)} failed, 0 skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
