#!/usr/bin/env python3
"""tug bench as a person and a program meet it: tables, JSON, the picture, Ctrl-C, refusals.

    TUG=build/tug tests/cli/test_bench.py [NAME ...]      only tests whose name contains NAME
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import random_model  # noqa: E402
from tug_server import SANITIZED  # noqa: E402

TUG = os.path.abspath(os.environ.get("TUG", "build/tug"))
TINY = os.path.abspath("tests/golden/data/small-f32.gguf")
BASE = ["-m", TINY, "-t", "1"]
STAGES = ["other", "embedding", "attention", "deltanet", "router", "experts", "shared", "head", "sampling"]
BOUNDS = ["compute", "bandwidth", "starved", "synchronisation", "overhead"]
N_CPU = len(os.sched_getaffinity(0))
LONG = 32 if SANITIZED else 256  # a prompt that takes a while


def bench(*args):
    return subprocess.run([TUG, "bench", *args], capture_output=True, timeout=120, check=False)


def bench_json(*args):
    done = bench(*args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(code, pattern, *args):
    done = bench(*args)
    text = done.stderr.decode()
    assert done.returncode == code, f"{args}: exit code {done.returncode}: {text}"
    assert done.stdout == b"", f"{args}: wrote {done.stdout!r}"
    assert re.fullmatch(r"tug: [^\n]+\n", text), f"{args}: {text!r} is not one sentence"
    assert re.search(pattern, text), f"{args}: {text!r} does not say {pattern!r}"


def test_help():
    done = bench("--help")
    assert done.returncode == 0 and done.stderr == b""
    text = done.stdout.decode()
    assert "example" in text and max(map(len, text.splitlines())) <= 80
    for flag in set(re.findall(r"--[a-z][a-z-]+", text)):
        assert "is no option" not in bench(flag).stderr.decode(), flag


def test_usage():
    for pattern, args in [
        ("wants a model", []),
        ("--prompt must be between 1", [*BASE, "-p", "0"]),
        ("--prompt wants a whole number, not ''", [*BASE, "-p", ""]),
        ("--prompt wants a whole number, not ''", [*BASE, "-p", "1,,2"]),
        ("--prompt wants a whole number, not 'x'", [*BASE, "-p", "8,x"]),
        ("--prompt holds 8 twice", [*BASE, "-p", "8,16,8"]),
        ("--prompt takes at most 8", [*BASE, "-p", ",".join(map(str, range(1, 10)))]),
        ("--depth must be between 0", [*BASE, "-d", "-1"]),
        ("--depth wants a whole number, not '1K'", [*BASE, "-d", "1K"]),
        ("--depth holds 0 twice", [*BASE, "-d", "0,0"]),
        ("--depth takes at most 32", [*BASE, "-d", ",".join(map(str, range(33)))]),
        ("--depth must be between 0", [*BASE, "-d", "9" * 100]),
        ("--predict must be between 0", [*BASE, "-n", "-1"]),
        ("--repeat must be between 1 and 100", [*BASE, "-r", "0"]),
        ("--repeat must be between 1 and 100", [*BASE, "-r", "101"]),
        ("sizes the context by itself", [*BASE, "-c", "100"]),
        (r"draws SVG.*ends in \.svg, not 'x.png'", [*BASE, "--plot", "x.png"]),
        ("--cache-type is", [*BASE, "--cache-type", "f8"]),
        ("'extra' is no option", [*BASE, "extra"]),
    ]:
        refused(2, pattern, *args)


def test_world_says_no():
    with tempfile.TemporaryDirectory() as folder:
        plot = os.path.join(folder, "plot.svg")
        data = open(TINY, "rb").read()
        at = data.index(b"qwen3next.context_length") + len("qwen3next.context_length") + 4
        n_ctx = int.from_bytes(data[at:at + 4], "little")
        for pattern, args in [
            ("cannot open /nowhere/x", ["-m", "/nowhere/x", "-t", "1", "--plot", plot]),
            (f"{N_CPU + 1} threads on {N_CPU} processors.*-t {N_CPU} or less",
             ["-m", TINY, "-t", str(N_CPU + 1), "--plot", plot]),
            (f"depth of {n_ctx} and 512 tokens after it are beyond the {n_ctx} tokens",
             [*BASE, "-d", str(n_ctx), "--plot", plot]),
            ("beyond the", [*BASE, "-p", str(n_ctx + 1), "-n", "0", "--plot", plot]),
            ("cannot write /nowhere/plot.svg", [*BASE, "--plot", "/nowhere/plot.svg"]),
        ]:
            refused(1, pattern, *args)
        big = os.path.join(folder, "big.gguf")
        random_model.write(big, dim=256, vocab=256, layers=4, experts=2, used=1, expert_dim=32,
                           context=1 << 30)
        refused(1, "needs at least .* of RAM.*or a context of [0-9]+", "-m", big, "-t", "1", "-d", str(2 ** 30 - 600),
                "--plot", plot)
        os.unlink(big)
        assert os.listdir(folder) == [], os.listdir(folder)


def test_json():
    j = bench_json(*BASE, "-p", "8,24", "-n", "4", "-d", "0,16,32", "-r", "3", "-b", "8")
    assert j["threads"] == 1 and j["processors"] == N_CPU and j["batch"] == 8 and not j["interrupted"]
    assert j["context"] == 32 + 24 and j["cpu_level"] in ("ref", "avx2", "avx512")
    cases = [(c["test"], c["depth"], c["tokens"]) for c in j["cases"]]
    assert cases == [(t, d, n) for d in (0, 16, 32) for t, n in (("prefill", 8), ("prefill", 24), ("decode", 4))]
    for c in j["cases"]:
        assert c["repetitions"] == 3 and c["bound"]["by"] in BOUNDS
        for s in (c["tok_s"], c["tok_s_without_sampling"], c["limits"]["read_bytes_s"],
                  c["limits"]["int8_macs_s"], c["limits"]["f32_macs_s"]):
            assert len(s["all"]) == 3 and s["median"] == sorted(s["all"])[1]
            assert 0 < s["min"] == min(s["all"]) and s["max"] == max(s["all"])
        assert c["tok_s_without_sampling"]["median"] >= c["tok_s"]["median"]
        assert [s["stage"] for s in c["stages"]] == STAGES
        # the stages are all of the time
        seconds = sum(s["seconds"] for s in c["stages"])
        mean = sum(c["tokens"] / x for x in c["tok_s"]["all"]) / 3
        assert 0.8 * mean < seconds < 1.2 * mean, (seconds, mean)
        at = {s["stage"]: s for s in c["stages"]}
        assert (at["sampling"]["seconds"] > 0) == (c["test"] == "decode")
        assert at["experts"]["bytes"] > 0 and at["head"]["bytes"] > 0 and at["sampling"]["bytes"] == 0
        # small-f32 has F32 weights only; attention may multiply in int16
        assert all(s["macs_int8"] == 0 for s in c["stages"] if s["stage"] != "attention") and at["experts"]["macs_f32"] > 0
        assert c["load"]["cpu_share"] > 0 and c["load"]["wall_s"] >= seconds

    def work(test, depth, n, stage, what):
        case, = (c for c in j["cases"] if (c["test"], c["depth"], c["tokens"]) == (test, depth, n))
        return next(s[what] for s in case["stages"] if s["stage"] == stage)
    # per repetition: multiplications grow with tokens, weights with batches, the cache with depth
    assert work("prefill", 0, 24, "router", "macs_f32") == 3 * work("prefill", 0, 8, "router", "macs_f32")
    assert work("prefill", 0, 24, "router", "bytes") == 3 * work("prefill", 0, 8, "router", "bytes")
    assert work("prefill", 0, 8, "router", "bytes") == work("decode", 0, 4, "router", "bytes") / 4
    grown = [work("decode", d, 4, "attention", "bytes") for d in (0, 16, 32)]
    assert grown[2] - grown[1] == grown[1] - grown[0] > 0
    assert [(f["test"], f["tokens"]) for f in j["fits"]] == [("prefill", 8), ("prefill", 24), ("decode", 4)]
    m = j["memory"]
    assert j["gpu"] is None and all("gpu" not in c for c in j["cases"])
    assert all(c["predicted_tok_s"] > 0 for c in j["cases"] if c["test"] == "decode" or c["depth"] == 0)
    assert m["vram_bytes"] is None and m["peak_ram_bytes"] == m["peak_rss_bytes"] - m["probe_bytes"]
    assert 1e6 < m["peak_ram_bytes"] < 1e9 and m["rss_file_bytes"] > 0
    assert re.fullmatch(r"Prefill is .*; decode .*\.", j["bound"])


def test_decode_can_be_left_out():
    j = bench_json(*BASE, "-p", "8", "-n", "0", "-r", "1")
    assert [(c["test"], c["depth"]) for c in j["cases"]] == [("prefill", 0)]
    assert "decode" not in j["bound"]


def test_seed_and_level():
    j = bench_json(*BASE, "-p", "8", "-n", "2", "-r", "2", "--seed", "7", "--cpu", "ref", "--cache-type", "q8_0")
    assert j["seed"] == 7 and j["cpu_level"] == "ref" and j["cache_type"] == "q8_0"


def test_text():
    done = bench(*BASE, "-p", "8", "-n", "4", "-d", "0,16,32", "-r", "2")
    text = done.stdout.decode()
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert re.search(r"^ +0  prefill 8 +[0-9.]+ \([0-9.]+\.\.[0-9.]+\)", text, re.M), text
    assert re.search(r"^ +32  decode 4 ", text, re.M) and "decode of 4 at depth 32; measured limits" in text
    assert "barrier wait" in text and "decode, time of a token: t(d) = " in text
    assert re.search(r"\nPrefill is .*\.\n$", text)


def test_contexts():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.gguf")
        random_model.write(path, dim=64, vocab=256, layers=4, experts=2, used=1, expert_dim=32, context=20000)
        done = bench("-m", path, "-n", "2", "-r", "1")
        text = done.stdout.decode()
        assert done.returncode == 0, done.stderr
        assert re.search(r"^ context +prefill tok/s +decode tok/s +batch +VRAM +RAM +CPU$", text, re.M), text
        rows = re.findall(r"^ +(\d+) +[0-9.]+ +[0-9.]+ +1 +- +\d+ MB +\d+ %$", text, re.M)
        assert rows == ["8192", "16384"], text
        random_model.write(path, dim=64, vocab=256, layers=4, experts=2, used=1, expert_dim=32, context=100)
        j = bench_json("-m", path, "-n", "2", "-r", "1")
        assert [(c["test"], c["depth"], c["tokens"]) for c in j["cases"]] == [("prefill", 0, 64), ("decode", 64, 2)]
        assert j["cases"][0]["while_filling"] and not j["cases"][1]["while_filling"]


def test_ceiling():
    """What the bench itself takes is not taken from the experts that --ram leaves in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.gguf")
        subprocess.run([TUG, "synth", "-o", path, "--like", "tiny", "--layers", "4", "--experts", "256",
                        "--experts-used", "8", "--dim", "256", "--expert-dim", "256", "--quant", "Q8_0"],
                       capture_output=True, check=True)
        result = bench_json("-m", path, "--ram", "330M", "-p", "64", "-n", "16", "-r", "1")
        decode = next(c for c in result["cases"] if c["test"] == "decode")
        assert result["memory"]["probe_bytes"] >= 256 << 20
        assert decode["streaming"]["hit_rate"] > 0.6, decode["streaming"]


def test_plot():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.svg")
        for args in (["-p", "8,16", "-d", "0,16,64"], ["-p", "8"], ["-p", "8", "-n", "0", "-d", "5"]):
            done = bench(*BASE, "-n", "2", "-r", "2", "--plot", path, *args)
            assert done.returncode == 0, done.stderr
            root = xml.etree.ElementTree.parse(path).getroot()
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            _, _, width, height = map(float, root.get("viewBox").split())
            points = [e for e in root.iter("{http://www.w3.org/2000/svg}circle") if len(e)]
            prompts, depths = args[1].count(",") + 1, args[-1].count(",") + 1 if "-d" in args else 1
            kinds = prompts + (0 if "-n" in args else 1)
            assert len(points) == kinds * depths, len(points)
            for e in root.iter():
                for name in ("x", "x1", "x2", "cx"):
                    assert 0 <= float(e.get(name, 0)) <= width
                for name in ("y", "y1", "y2", "cy"):
                    assert 0 <= float(e.get(name, 0)) <= height
            curves = [e for e in root.iter() if e.tag.endswith("polyline")]
            assert len(curves) == (kinds if depths > 2 else 0)


def interrupt(plot, style, wait):
    """What bench printed when it was interrupted after so many seconds."""
    args = [*BASE, "-p", str(LONG // 4), "-n", "4", "-r", "100", "--plot", plot, *style]
    p = subprocess.Popen([TUG, "bench", *args, "--cpu", "ref", "-d", f"0,{LONG // 2}"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(wait)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=100)
    assert p.returncode == 130 and err == b"", (p.returncode, err)
    xml.etree.ElementTree.parse(plot)
    return out


def test_interrupt():
    with tempfile.TemporaryDirectory() as folder:
        plot = os.path.join(folder, "a.svg")
        waits = (0.8, 2.5, 8, 28)  # a busy machine takes its time
        for wait in waits:
            j = json.loads(interrupt(plot, ["--json"], wait))
            assert j["interrupted"], j
            assert all(0 < c["repetitions"] < 100 for c in j["cases"]), j
            if j["cases"]:
                break
        assert j["cases"], "nothing after 28 s"
        assert any(f"prefill {LONG // 4}".encode() in interrupt(plot, [], wait) for wait in waits), "no table after 28 s"


def test_progress_only_on_terminals():
    assert bench(*BASE, "-p", "8", "-n", "2", "-r", "1").stderr == b""


def test_starved():
    """Competing processes on every processor: nothing else may be named."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * N_CPU)]
    try:
        time.sleep(0.3)
        j = bench_json("-m", TINY, "-p", str(LONG), "-n", "0", "-r", "4")
    finally:
        for b in burners:
            b.kill()
            b.wait()
    case, = j["cases"]
    if case["load"]["run_delay_s"] is None:
        print("skip: this kernel does not tell how long threads wait for a processor")
        return
    assert case["bound"]["by"] == "starved", case["bound"]
    assert "Prefill is starved" in j["bound"], j["bound"]


def main():
    wanted = sys.argv[1:]
    failed = passed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (wanted and not any(w in name for w in wanted)):
            continue
        try:
            test()
            passed += 1
        except Exception as why:  # noqa: BLE001
            failed += 1
            print(f"FAILED {name}: {type(why).__name__}: {why}")
    print(f"test_bench: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
