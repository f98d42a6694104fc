#!/usr/bin/env python3
"""tug trace as a person meets it: recording, replaying, made-up routes, and sentences."""
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.dom.minidom

TUG = os.path.abspath(os.environ.get("TUG", "build/tug"))
MODEL = os.path.abspath("tests/golden/data/small-f32.gguf")
RECORD = ["-m", MODEL, "-t", "1", "--temp", "0"]
counts = {"passed": 0, "failed": 0}


def check(what, ok, detail=""):
    counts["passed" if ok else "failed"] += 1
    if not ok:
        print(f"FAILED {what}: {detail}")


def tug(*args, stdin=b""):
    done = subprocess.run([TUG, *args], input=stdin, capture_output=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def refused(what, code, words, *args):
    got, out, err = tug("trace", *args)
    check(what, got == code and out == b"" and words in err and err.startswith("tug: ")
          and err.count("\n") == 1, f"exit code {got}: {err!r}")


def replay(*args):
    code, out, err = tug("trace", "--replay", "--json", *args)
    check(f"replay {args}", code == 0 and err == "", err)
    return json.loads(out)


def test_help(folder):
    code, out, err = tug("trace", "--help")
    check("help", code == 0 and b"examples" in out and err == "")
    check("tug --help lists it", b"  trace " in tug("--help")[1])


def test_record(folder):
    path = os.path.join(folder, "a.trace")
    prompt = ["--ids", "1,2,3,4,5,6,7,8,9,10", "-n", "6"]
    code, out, err = tug("trace", *RECORD, "-o", path, *prompt, "-b", "4")
    check("record", code == 0, err)
    check("the answer is that of tug run", out == tug("run", *RECORD, *prompt)[1])
    # The last of the sampled tokens is not computed.
    check("what was recorded is said", re.search(r"a\.trace: 15 tokens in 8 batches, \d+ layers, ", err), err)
    doc = replay(path)
    check("tokens", (doc["prompt_tokens"], doc["decode_tokens"]) == (10, 5), doc)
    for curve in [*doc["policies"].values(), doc["bound"]]:
        for at in curve:
            check("decode wants every token's experts",
                  at["decode"]["wanted"] == 5 * doc["n_layer"] * doc["n_used"], at)
            check("no more hits than wishes", at["decode"]["hits"] <= at["decode"]["wanted"], at)
    whole = replay(path, "--slots", str(doc["n_expert"]))
    lru = whole["policies"]["lru"][0]
    missed = sum(lru[k]["wanted"] - lru[k]["hits"] for k in ("decode", "prompt"))
    check("with room for all, each is read once", missed <= doc["n_layer"] * doc["n_expert"], lru)
    as_decode = replay(path, "-b", "1")
    check("-b 1", (as_decode["prompt_tokens"], as_decode["decode_tokens"]) == (0, 15), as_decode)
    twice = replay(path, path)
    check("two files", twice["decode_tokens"] == 10, twice)


def test_prompts(folder):
    path = os.path.join(folder, "p.trace")
    text = os.path.join(folder, "text")
    with open(text, "w", encoding="utf-8") as f:
        f.write("for i in")
    ways = [(["-p", "for i in"], b""), (["for i in"], b""), (["-f", text], b""), ([], b"for i in"),
            (["-f", "-"], b"for i in")]
    made = []
    for args, stdin in ways:
        code, _, err = tug("trace", *RECORD, "-o", path, "-n", "3", *args, stdin=stdin)
        check(f"prompt {args}", code == 0, err)
        with open(path, "rb") as f:
            made.append(f.read())
    check("the same trace whichever way", len(set(made)) == 1)


def test_synth(folder):
    one, two, other = (os.path.join(folder, n) for n in ("1.trace", "2.trace", "3.trace"))
    small = ["--layers", "2", "--experts", "32", "--experts-used", "4", "-n", "50", "--prompt-tokens", "20"]
    for path, args in ((one, []), (two, ["-s", "1"]), (other, ["-s", "2"])):
        code, out, err = tug("trace", "--synth", "-o", path, *small, *args)
        check("synth", code == 0 and out == b"" and "70 tokens in 51 batches" in err, err)
    data = [open(p, "rb").read() for p in (one, two, other)]
    check("a seed is one trace", data[0] == data[1] != data[2])
    doc = replay(one, "--policy", "lru,forecast", "--slots", "0,4,32", "--staging", "4")
    check("policies and sizes", list(doc["policies"]) == ["lru", "forecast"]
          and [at["slots"] for at in doc["policies"]["lru"]] == [0, 4, 32], doc)
    pinned = replay(one, "--policy", "pinned", "--pinned-share", "1", "--profile", other)
    check("a profile", list(pinned["policies"]) == ["pinned"])
    svg = os.path.join(folder, "c.svg")
    code, out, err = tug("trace", "--replay", one, "--plot", svg)
    text = out.decode()
    check("tables", code == 0 and "hit rate in percent, decode" in text and "prompts" in text, err)
    picture = xml.dom.minidom.parse(svg)
    check("a picture with a line for each policy and the bound",
          len(picture.getElementsByTagName("polyline")) == 10)


def test_files_that_are_none(folder):
    good = os.path.join(folder, "good.trace")
    tug("trace", "--synth", "-o", good, "--layers", "1", "--experts", "9", "--experts-used", "2", "-n", "9")
    data = open(good, "rb").read()
    cases = [("empty", b"", "is no trace"), ("gguf", open(MODEL, "rb").read(), "is no trace"),
             ("cut", data[:-5], "is damaged"), ("header", data[:20], "is damaged"),
             ("flipped", data[:50] + bytes([data[50] ^ 4]) + data[51:], "is damaged"),
             ("longer", data + b"\0", "is damaged")]
    for name, content, words in cases:
        path = os.path.join(folder, name)
        with open(path, "wb") as f:
            f.write(content)
        refused(name, 1, words, "--replay", path)
    refused("missing", 1, "missing.trace", "--replay", os.path.join(folder, "missing.trace"))
    refused("a folder", 1, folder, "--replay", folder)
    wide = os.path.join(folder, "wide.trace")
    tug("trace", "--synth", "-o", wide, "--layers", "1", "--experts", "10", "--experts-used", "2", "-n", "9")
    refused("two models", 1, "another model", "--replay", good, wide)
    refused("a profile of another model", 1, "another model", "--replay", good, "--profile", wide)
    refused("more slots than experts", 1, "only 9 experts", "--replay", good, "--slots", "10")
    refused("nowhere to plot", 1, "cannot write", "--replay", good, "--plot", "/nowhere/x.svg")


def test_usage(folder):
    path = os.path.join(folder, "u.trace")
    refused("nothing", 2, "-o FILE")
    refused("no model", 2, "--replay, or --synth", "-o", path, "hi")
    refused("no prompt twice", 2, "one prompt", *RECORD, "-o", path, "-p", "a", "--ids", "1")
    refused("two prompts", 2, "quotes", *RECORD, "-o", path, "a", "b")
    refused("no output", 2, "-o FILE", *RECORD, "hi")
    refused("replay of nothing", 2, "FILE...", "--replay")
    refused("replay and record", 2, "--replay reads traces", "--replay", "-o", path, "x")
    refused("json without replay", 2, "belong to --replay", *RECORD, "-o", path, "--json", "hi")
    refused("no such policy", 2, "forecast, lru", "--replay", "x", "--policy", "fifo")
    refused("an empty policy", 2, "forecast, lru", "--replay", "x", "--policy", "lru,")
    refused("too many policies", 2, "at most", "--replay", "x", "--policy", ",".join(["lru"] * 9))
    for slots in ("", "3,2", "4,4", "x", "-1", ",".join(str(i) for i in range(40))):
        refused(f"slots {slots!r}", 2, "--slots", "--replay", "x", "--slots", slots)
    for flag, value in (("--staging", "0"), ("--pinned-share", "2"), ("--layers", "0"), ("--experts", "99999"),
                        ("-n", "0"), ("--prompt-tokens", "-1"), ("-b", "0")):
        refused(f"{flag} {value}", 2, flag if flag.startswith("--") else "--", "--synth", "-o", path, flag, value)
    refused("more used than there are", 2, "--experts-used", "--synth", "-o", path, "--experts", "4")
    refused("synth of a model", 2, "neither a model", "--synth", *RECORD, "-o", path)
    refused("nowhere to write", 1, "cannot write", "--synth", "-o", "/nowhere/x", "-n", "1", "--layers", "1")
    refused("nowhere to record", 1, "cannot write", *RECORD, "-o", "/nowhere/x", "hi")
    check("nothing is left behind", not os.path.exists(path))


def main():
    if not os.path.exists(MODEL):
        print(f"skip: {MODEL} is not there\ntrace: 0 passed, 0 failed, 1 skipped")
        return 0
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            with tempfile.TemporaryDirectory() as folder:
                test(folder)
    print(f"trace: {counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
