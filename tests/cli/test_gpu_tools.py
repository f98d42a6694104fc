#!/usr/bin/env python3
"""What tug tells of a GPU, on the emulated driver: the plan, the bench, the probe, the server.

    TUG=build/tug tests/cli/test_gpu_tools.py [NAME ...]      only tests whose name contains NAME
"""
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from gpu_program import MODEL, PROMPT, TUG, gpu_line, run, world  # noqa: E402
from tug_server import Server, run_tests  # noqa: E402


def test_the_plan_is_told():
    err = run("--gpu", "0", "--vram", "20M").stderr.decode()
    lines = err.splitlines()
    assert re.match(r"plan: RAM \d+\.\d GB, VRAM 0\.0 GB: dense 0\.0, context of 256 ", lines[0]), err
    assert re.match(r" +experts a layer: 1[0-9] in VRAM, 24 of 24 in RAM; ", lines[1]), err
    assert re.match(r" +expected at 256 tokens: decode \d", lines[2]), err
    assert "warning" not in err
    assert "plan:" not in run("--gpu", "none").stderr.decode()
    tables = run("--gpu", "0", "--vram", "20M", "-v").stderr.decode()
    assert re.search(r"^GB +RAM +VRAM$", tables, re.M) and "experts that RAM has too" in tables


def test_run_tells_what_crossed():
    words = r"^gpu, a token: PCIe (\S+) MB in, (\S+) MB out"
    experts = r" · experts (\S+) % in VRAM, (\S+) promoted, (\S+) carried; (\d+) moved after prompts$"
    some = run("--gpu", "0", "--vram", "20M", "-v").stderr.decode()
    found = re.search(words + experts, some, re.M)
    assert found and 0 < float(found.group(3)) < 100 and float(found.group(1)) > 0 < float(found.group(2)), some
    assert re.search(words + "$", run("--gpu", "0", "-v").stderr.decode(), re.M)  # all are there
    for args in (("--gpu", "0"), ("--gpu", "none", "-v")):
        assert "gpu, a token" not in run(*args).stderr.decode()


def test_the_least_is_enough():
    err = run("--gpu", "0", "--vram", "1M").stderr.decode()
    least = re.search(r"\(at least (\d+\.\d) MB\)", err).group(1)
    assert gpu_line(run("--gpu", "0", "--vram", least + "M")).group(1) == "0"


def test_a_degraded_link_is_told():
    err = run("--gpu", "0", nvml="width=4 max_width=16").stderr.decode()
    assert len(re.findall(r"^tug: warning: the GPU's PCIe link runs as 4\.0 x4, and card and slot could do 4\.0 x16",
                          err, re.M)) == 1, err


def bench(*args, **more):
    done = subprocess.run([TUG, "bench", "-m", MODEL, "-t", "1", "-b", "32", "-p", "20", "-n", "2", "-r", "1", *args],
                          capture_output=True, timeout=600, check=False, env=world(**more))
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_bench():
    j = json.loads(bench("--gpu", "0", "--vram", "20M", "--json", nvml="watts=90 busy=40"))
    gpu, memory = j["gpu"], j["memory"]
    assert gpu["name"] == "emulated GPU" and gpu["told"] and 0 < gpu["experts"] < 192, gpu
    assert (gpu["pcie_generation"], gpu["pcie_lanes"], gpu["pcie_lanes_most"]) == (4, 8, 8)
    assert 0 < memory["vram_bytes"] <= memory["vram_budget_bytes"] <= 20e6, memory
    assert j["cache_type"] == "f16"
    for case in j["cases"]:
        g = case["gpu"]
        assert g["pcie_in_bytes_per_token"] > 512 and g["pcie_out_bytes_per_token"] > 512, g
        assert g["busy_share"] == 0.4 and 80 < g["watts"] < 100 and g["tokens_per_joule"] > 0, g
        assert g["kernels_per_token"] > 5 and g["pcie_bytes_s"] > 0
        assert 0 < g["vram_hit_rate"] <= 1 and g["promoted_per_token"] >= 0 and g["seeded"] >= 0, g
        assert 0 <= g["pcie_expert_bytes_per_token"] <= g["pcie_in_bytes_per_token"], g
        assert case["test"] == "prefill" or g["carried_per_token"] == 0, g
        assert all(g["limits"][k] > 0 for k in ("read_bytes_s", "read_bytes", "pcie_bytes_s", "handoff_s"))
        assert {"attention", "deltanet", "head"} <= set(g["stage_limit_shares"])
        assert "experts" not in g["stage_limit_shares"]
        assert case["predicted_tok_s"] > 0
        assert case["bound"]["by"] in ("bandwidth", "pcie", "overhead", "starved"), case["bound"]
    assert min(case["gpu"]["vram_hit_rate"] for case in j["cases"]) < 1


def test_bench_without_the_library():
    j = json.loads(bench("--gpu", "0", "--json", nvml="fail=init"))
    assert not j["gpu"]["told"] and "does not start" in j["gpu"]["why_not"]
    assert j["gpu"]["pcie_lanes"] is None and j["gpu"]["vram_of_others_bytes"] is None
    assert all(c["gpu"]["watts"] is None and c["gpu"]["busy_share"] is None for c in j["cases"])
    assert all(c["gpu"]["vram_hit_rate"] is None for c in j["cases"])  # every layer has all of its experts there


def test_bench_table():
    text = bench("--gpu", "0", "--vram", "20M", nvml="others=300")
    for words in (r"GPU, at its measured \d+ GB/s", r"PCIe: \d+\.\d+ MB in and", r"experts: \d+\.\d % of their uses were in VRAM; ",
                  r"busy 70 % at 1\d\d W, 0\.\d+ tokens a joule",
                  r"the plan with these limits: ", r"^emulated GPU: peak VRAM \d+ MB of 20 MB, other processes have 315 MB"):
        assert re.search(words, text, re.M), (words, text)


def test_plan_probe():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.gguf")
        with open(path, "wb") as f, open(MODEL, "rb") as model:  # long enough for the disk's probe
            f.write(model.read() + bytes(16 << 20))
        env = world(emu="vram=64M")
        done = subprocess.run([TUG, "plan", "-m", path, "--probe", "--json"], capture_output=True, timeout=600,
                              check=False, env=env)
        assert done.returncode == 0 and done.stderr == b"", done.stderr.decode()
        j = json.loads(done.stdout)
        gpu = j["machine"]["gpu"]
        assert j["no_gpu"] is None and gpu["vram_bytes"] == 64 << 20, gpu
        assert gpu["link_bytes_s"] > 0 and gpu["handoff_s"] > 0 and not gpu["vram_measured"]  # too little to read
        assert j["on_gpu"] and j["vram"]["dense"] > 0
        done = subprocess.run([TUG, "plan", "-m", path, "--probe", "--gpu", "none", "--json"], capture_output=True,
                              timeout=600, check=False, env=env)
        assert json.loads(done.stdout)["machine"]["gpu"] is None


def test_server():
    with Server("--gpu", "0", "--vram", "20M", "-c", "256", "-t", "1", "--parallel", "1", tug=TUG, model=MODEL, env=world()) as s:
        gpu = s.get("/props").json()["gpu"]
        assert gpu["name"] == "emulated GPU" and 0 < gpu["vram_used"] <= gpu["vram_budget"] == 20000000, gpu
        tiers = s.get("/status").json()["memory"]
        assert [t["tier"] for t in tiers] == ["VRAM", "RAM"], tiers
        parts = {p["name"]: p["bytes"] for p in tiers[0]["parts"]}
        assert parts["experts"] > 0 and parts["dense weights"] > 0 and tiers[0]["total"] == 20000000
        before = gpu_metrics(s)
        assert before["vram_budget_bytes"] == 20e6 and before["pcie_in_bytes_total"] > 1e6, before
        s.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 4, "temperature": 0}, timeout=600)
        after, told = told_of_experts(s)
        uses = after["vram_expert_hits_total"] + after["vram_expert_misses_total"]
        assert 0 < after["vram_expert_hits_total"] < uses, after
        assert before["vram_experts_promoted_total"] <= after["vram_experts_promoted_total"], (before, after)
        assert told == {"expert_uses": uses, "expert_hits": after["vram_expert_hits_total"],
                        "promoted": after["vram_experts_promoted_total"], "seeded": after["vram_experts_seeded_total"],
                        "returned": after["vram_experts_returned_total"],
                        "carried": after["vram_experts_carried_total"],
                        "expert_in_bytes": after["pcie_expert_bytes_total"],
                        "in_bytes": after["pcie_in_bytes_total"], "out_bytes": after["pcie_out_bytes_total"]}, told


def told_of_experts(server):
    """From /metrics and from /status, when the worker has nothing more to count."""
    last = None
    for _ in range(100):
        now = gpu_metrics(server), server.get("/status").json()["gpu"]
        if now == last and now[1]["expert_uses"] > 0:
            break
        last = now
        time.sleep(0.2)
    return now


def gpu_metrics(server):
    found = re.findall(r"^tug_(vram_\w+|pcie_\w+) (\S+)$", server.get("/metrics").text(), re.M)
    return {name: float(value) for name, value in found}


def answers_of_many(server, n):
    """n conversations at once, each of two turns; all end well, and VRAM stays where it is."""
    def converse(i):
        for words in (f"def f{i}(x):", f"def f{i}(x): return x\n"):
            answer = server.post("/v1/completions", {"prompt": words, "max_tokens": 1, "temperature": 0}, timeout=600)
            assert answer.status == 200, answer.body
    before = gpu_metrics(server)
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        list(pool.map(converse, range(n)))
    after, status = gpu_metrics(server), server.get("/status").json()
    assert before["vram_used_bytes"] == after["vram_used_bytes"] <= after["vram_budget_bytes"], (before, after)
    assert "tug_errors_total 0\n" in server.get("/metrics").text()
    return status["cache"]["max_sessions"]


def test_sessions_have_their_room():
    """The plan counts the conversations that are kept, so no request meets a full GPU."""
    for vram, context, parallel, have in (("64M", "1024", "3", 3), ("26M", "2048", "9", 2), ("64M", "512", None, 2)):
        args = ("--gpu", "0", "--vram", vram, "-c", context, "-b", "64", "-t", "1",
                *(("--parallel", parallel) if parallel else ()))
        with Server(*args, tug=TUG, model=MODEL, env=world()) as s:
            assert answers_of_many(s, 3) == have, (vram, s.said())
            room = re.search(r"^tug: VRAM has room for (\d+) of (\d+) conversations: ", s.said(), re.M)
            assert (room and room.groups()) == ((str(have), parallel) if have < int(parallel or 2) else None), s.said()


if __name__ == "__main__":
    sys.exit(run_tests(globals(), sys.argv[1:]))
