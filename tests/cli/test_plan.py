#!/usr/bin/env python3
"""tug plan as a person and a program meet it: tables, JSON, the picture, prices, refusals.

    TUG=build/tug tests/cli/test_plan.py [NAME ...]      only tests whose name contains NAME
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

TUG = os.path.abspath(os.environ.get("TUG", "build/tug"))
MODEL = "qwen3-coder-next:Q3_K_M"
CARD = "rtx5060ti,ddr5-6000,32G,pcie4x8,7700x,nvme4"


def plan(*args, cwd=None):
    return subprocess.run([TUG, "plan", *args], capture_output=True, timeout=120, check=False, cwd=cwd)


def text(*args):
    done = plan(*args)
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    return done.stdout.decode()


def data(*args):
    return json.loads(text(*args, "--json"))


def refused(code, pattern, *args):
    done = plan(*args)
    err = done.stderr.decode()
    assert done.returncode == code, f"{args}: exit code {done.returncode}: {err}"
    assert done.stdout == b"", f"{args}: wrote {done.stdout!r}"
    assert re.fullmatch(r"tug: [^\n]+\n", err), f"{args}: {err!r} is not one sentence"
    assert re.search(pattern, err), f"{args}: {err!r} does not say {pattern!r}"


def test_help():
    out = text("--help")
    assert "examples" in out and max(map(len, out.splitlines())) <= 84
    assert "plan" in subprocess.run([TUG, "--help"], capture_output=True, check=True).stdout.decode()
    for flag in set(re.findall(r"--[a-z][a-z-]+", out)):
        assert "is no option" not in plan(flag).stderr.decode(), flag


def test_table():
    out = text(MODEL, "--hardware", CARD)
    for words in ("VRAM", "experts that RAM has too", "decode tok/s", "bound by", "what would help",
                  "typical routing"):
        assert words in out, words
    assert "assumed" not in out  # every part was named
    assert "assumed, not measured: RAM bandwidth" in text(MODEL, "--hardware", "32G")


def test_json_adds_up():
    for args in ([MODEL, "--hardware", CARD], [MODEL, "--hardware", "64G", "--ram", "20G"],
                 ["qwen3-coder-next:Q6_K", "--hardware", CARD, "--cache-type", "q8_0", "-c", "65536"]):
        d = data(*args)
        for name in ("ram", "vram"):
            if d[name]:
                assert sum(v for k, v in d[name].items() if k != "ceiling") == d[name]["ceiling"], d[name]
        assert len(d["ram_slots"]) == len(d["vram_slots"]) == d["model"]["layers"] == 48
        placed = d["ram"]["experts"] + (d["vram"]["experts"] if d["vram"] else 0)
        assert placed + d["disk_expert_bytes"] == d["model"]["expert_bytes"]
        for point in d["points"]:
            for t in (point["decode"], point["prefill"]):
                assert abs(sum(t["wait_ms"].values()) - t["ms"]) < 1e-6 * t["ms"]
                assert t["bound"] in t["busy_ms"] and t["tok_s"] > 0
        assert d["points"][-1]["tokens"] == d["context"]
        gains = [a["gain"] for a in d["advice"]]
        assert gains == sorted(gains, reverse=True)
    assert data(MODEL, "--hardware", "64G", "--ram", "20G")["ram"]["ceiling"] == 20_000_000_000


def test_flags_do_something():
    base = data(MODEL, "--hardware", CARD)
    assert data(MODEL, "--hardware", CARD, "--vram", "0")["vram"] is None
    assert data(MODEL, "--hardware", CARD, "--vram", "8G")["vram"]["ceiling"] == 8_000_000_000
    assert data(MODEL, "--hardware", CARD, "--sequences", "2")["vram"]["kv"] == 2 * base["vram"]["kv"]
    assert data(MODEL, "--hardware", CARD, "--checkpoints", "0")["ram"]["checkpoints"] == 0
    assert data(MODEL, "--hardware", CARD, "-b", "512")["batch"] == 512
    slow = data(MODEL, "--hardware", "16G,disk=0.5", "--routing", "uniform")
    fast = data(MODEL, "--hardware", "16G,disk=5", "--routing", "uniform")
    assert fast["points"][0]["decode"]["tok_s"] > 2 * slow["points"][0]["decode"]["tok_s"]
    assert fast["disk_miss"] > data(MODEL, "--hardware", "16G")["disk_miss"]
    split = data(MODEL, "--hardware", CARD, "--policy", "split")
    assert split["points"][-1]["decode"]["tok_s"] < base["points"][-1]["decode"]["tok_s"] / 2


def test_a_file():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.gguf")
        subprocess.run([TUG, "synth", "-o", path, "--like", "tiny", "-q", "F32"], check=True,
                       capture_output=True, timeout=120)
        d = data("-m", path, "--hardware", "16G")
        assert d["model"]["file_bytes"] == os.path.getsize(path) and d["context"] == 4096
        probed = data("-m", path, "--probe")["machine"]
        assert probed["assumed"] == [] and probed["ram_bytes_s"] > 0 and probed["disk_bytes_s"] > 0
        assert probed["gpu"] is None
        assert os.listdir(folder) == ["m.gguf"]
        # no GPU is none to worry about, unless it was asked for
        out = text("-m", path, "--probe")
        assert re.search(r"^note: planned without a GPU: [^\n]+$", out, re.M), out
        assert "planned without a GPU" not in text("-m", path, "--probe", "--gpu", "none")
        refused(1, "no NVIDIA driver|no GPU", "-m", path, "--probe", "--gpu", "0")
        with open(path, "rb") as f:
            whole = f.read()
        for name, content, pattern in [
                ("other.gguf", whole.replace(b"qwen3next", b"qwen9next"), "qwen9next"),
                ("cut.gguf", whole[:len(whole) // 2], ""), ("empty.gguf", b"", "")]:
            bad = os.path.join(folder, name)
            with open(bad, "wb") as f:
                f.write(content)
            refused(1, pattern, "-m", bad)
        refused(1, "No such file", "-m", os.path.join(folder, "none.gguf"))
        refused(1, "folder", "-m", folder)


def test_picture():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "p.svg")
        text(MODEL, "--hardware", CARD, "--plot", path)
        root = xml.etree.ElementTree.parse(path).getroot()
        rects = [r for r in root.iter("{http://www.w3.org/2000/svg}rect")]
        titles = [t.text for r in rects for t in r]
        assert any(t.startswith("dense weights: 1.3") for t in titles), titles
        width = float(root.get("width"))
        for r in rects:
            x, w = float(r.get("x")), float(r.get("width"))
            assert 0 <= x <= width and 0 <= w and x + w <= width
        words = "".join(root.itertext())
        assert "VRAM" in words and "disk" in words and "decode" in words
        text(MODEL, "--hardware", "16G,ram-bw=60", "--plot", path)  # replaces it
        assert "VRAM" not in "".join(xml.etree.ElementTree.parse(path).getroot().itertext())
        refused(1, "none", MODEL, "--plot", os.path.join(folder, "none", "p.svg"))
    refused(2, "ends in .svg", MODEL, "--plot", "p.png")


def test_cost():
    d = data(MODEL, "--hardware", CARD, "--cost", "tokens=200K,prompt=4M,kwh=0.3,watts=200,hardware=1200,api=1.5")
    c = d["cost"]
    assert abs(c["kwh_day"] - c["hours_day"] * 0.2) < 1e-9 and c["break_even_days"] > 0
    assert c["api_day"] == 200_000 * 1.5 / 1e6
    out = text(MODEL, "--hardware", CARD, "--cost", "tokens=200K,kwh=0.3,api=0.0001,hardware=9")
    assert "cheaper than the energy alone" in out
    assert "this machine cannot" in text(MODEL, "--hardware", CARD, "--cost", "tokens=50M")
    refused(2, "tokens=", MODEL, "--hardware", CARD, "--cost", "kwh=0.3")
    refused(2, "did you mean watts", MODEL, "--cost", "wats=5,tokens=1")
    refused(2, "watts must be between", MODEL, "--cost", "watts=-1,tokens=1")


def test_bad_input():
    for pattern, args in [
            ("wants a model", []),
            ("did you mean qwen3-coder-next", ["qwen3-coder"]),
            ("did you mean Q3_K_M", ["qwen3-coder-next:Q3KM"]),
            ("one too many", [MODEL, "more"]),
            ("--ram is a size like 20G", [MODEL, "--ram", "20"]),
            ("--ram is a size like 20G", [MODEL, "--ram", "-20G"]),
            ("--ram is a size like 20G", [MODEL, "--ram", "nanG"]),
            ("--ram is a size like 20G", [MODEL, "--ram", "1e300G"]),
            ("--ctx-size must be between", [MODEL, "-c", "0"]),
            ("--ctx-size wants a whole number", [MODEL, "-c", "8K"]),
            ("--sequences must be between", [MODEL, "--sequences", "0"]),
            ("--cache-type is f16, q8_0 or f32, not 'q4'", [MODEL, "--cache-type", "q4"]),
            ("--routing is typical", [MODEL, "--routing", "random"]),
            ("--policy is cache or split", [MODEL, "--policy", "lru"]),
            ("rtx5060ti", [MODEL, "--hardware", "rtx5060tti,32G"]),
            ("ddr5 is 3200", [MODEL, "--hardware", "32G,ddr5-9999999"]),
            ("ram-bw must be between", [MODEL, "--hardware", "32G,ram-bw=-3"]),
            ("how much RAM", [MODEL, "--hardware", "rtx5060ti"]),
            ("add --probe", [MODEL, "--gpu", "0"]),
            ("--gpu wants a whole number", [MODEL, "--probe", "--gpu", "x"]),
            ("use one of them", [MODEL, "--hardware", "32G", "--probe"]),
            ("needs a GPU", [MODEL, "--hardware", "32G", "--vram", "8G"]),
            ("is no option", [MODEL, "--fast"])]:
        refused(2, pattern, *args)
    refused(1, r"needs at least \d\.\d\d GB.*or a context of \d+", MODEL, "--hardware", "32G", "--ram", "2800M")
    refused(1, r"or Q\d_K_?[SML]?, which needs", "qwen3-coder-next:Q6_K", "--hardware", "32G", "--ram", "3300M")
    refused(1, "no quantisation of it would fit", MODEL, "--hardware", "32G", "--ram", "500M")
    refused(1, "more than the 34.4 GB of RAM", MODEL, "--hardware", "32G", "--ram", "64G")
    refused(1, "beyond the 262144", MODEL, "--hardware", "32G", "-c", "999999")


def test_a_folder_that_cannot_be_written():
    done = plan(MODEL, "--probe", cwd="/proc/self")  # nothing can be made there, even by root
    assert done.returncode == 1 and b"large file with -m" in done.stderr, done.stderr


def main():
    passed = failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (sys.argv[1:] and not any(w in name for w in sys.argv[1:])):
            continue
        try:
            test()
            passed += 1
        except (AssertionError, subprocess.SubprocessError, KeyError, ValueError) as e:
            failed += 1
            print(f"FAIL {name}: {e}")
    print(f"test_plan: {passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
