#!/usr/bin/env python3
"""tug with a GPU, on the emulated driver: the same text, the line about it, going on without it.

    TUG=build/tug tests/cli/test_gpu.py [NAME ...]      only tests whose name contains NAME
"""
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from gpu_program import MODEL, PROMPT, TUG, gpu_line, run, world  # noqa: E402
from tug_server import Server, run_tests  # noqa: E402


def refused(pattern, *args, command="run"):
    done = subprocess.run([TUG, command, "-m", MODEL, *args], capture_output=True, timeout=600, check=False,
                          env=world())
    err = done.stderr.decode()
    assert done.returncode != 0 and done.stdout == b"", (args, done)
    assert re.search(pattern, err) and err.count("\n") == 1, err


@functools.cache
def cpu_text():
    done = run("--gpu", "none")
    assert done.returncode == 0 and done.stdout, done
    return done.stdout


def goes_on(pattern, *args, **more):
    """One sentence of why, and the text of the CPU."""
    done = run(*args, **more)
    err = done.stderr.decode()
    assert done.returncode == 0 and done.stdout == cpu_text(), (args, done)
    assert re.search(r"^tug: going on without a GPU: .*" + pattern, err, re.M), err
    assert err.count("tug:") == 1 and not re.search("^gpu:", err, re.M), err
    return err


def test_same_text():
    done = run("--gpu", "0")
    assert gpu_line(done).group(1) == "192"
    assert done.stdout == cpu_text()
    done = run("--gpu", "0", "--vram", "20M")
    assert 0 < int(gpu_line(done).group(1)) < 192, done.stderr
    assert done.stdout == cpu_text()


def test_every_kind_of_weights():
    """Random models of other types: floats go to tensor cores in a prompt, the rest as integers."""
    prompt = "def reverse(s): return s[::-1]  # and a prompt of more than sixteen tokens"
    with tempfile.TemporaryDirectory() as folder:
        for mix in ("F16", "BF16", "F32", "Q2_K", "Q3_K_M", "IQ4_XS", "Q4_0"):
            path = os.path.join(folder, mix + ".gguf")
            subprocess.run([TUG, "synth", "-o", path, "--like", "tiny", "--quant", mix], check=True, capture_output=True)
            texts = [subprocess.run([TUG, "run", "-m", path, "-c", "256", "-t", "1", "--temp", "0", "-n", "6", *where,
                                     prompt], capture_output=True, timeout=600, check=True, env=world())
                     for where in (("--gpu", "none"), ("--gpu", "0"))]
            assert "64 of 64 experts have a copy there" in texts[1].stderr.decode(), texts[1].stderr
            assert texts[0].stdout and texts[0].stdout == texts[1].stdout, (mix, texts)


def test_going_on_without():
    goes_on(r"the dense weights alone take \d", "--gpu", "0", "--vram", "1M")
    goes_on(r"there is no GPU 3", "--gpu", "3")
    goes_on(r"compute capability 7\.5", "--gpu", "0", emu="cc=75")
    goes_on(r"driver is too old", "--gpu", "0", emu="driver=11080")
    goes_on(r"no GPU that it can use", "--gpu", "0", emu="devices=0")
    said = [goes_on("", "--gpu", "0", emu=f"fail={n}:2") for n in range(7, 16)]
    assert any("no room for the driver's own memory" in err for err in said), said
    goes_on(r"GPU 0 failed at", "--gpu", "0", emu="fail=500:719")
    goes_on(r"are to be had", "--gpu", "0", emu="vram=64M others=60M")
    goes_on(r"there is no NVIDIA driver", "--gpu", "0", driver="/nonexistent")


def test_refusals():
    refused(r"named by its number", "--gpu", "x", "hi")
    refused(r"there is no GPU 3", "--gpu", "3", command="bench")
    # What is wrong with the model is said once, not blamed on the GPU.
    done = subprocess.run([TUG, "run", "-m", "Makefile", "--gpu", "3", "hi"], capture_output=True, timeout=60,
                          check=False)
    assert done.returncode != 0 and b"GPU" not in done.stderr and done.stderr.count(b"\n") == 1, done


# ---- a device that is lost ------------------------------------------------------------------

def test_lost_while_answering():
    """`tug run`: what was said until then, a sentence, not success."""
    with tempfile.TemporaryDirectory() as folder:
        lost = os.path.join(folder, "lost")
        env = world(emu=f"lost={lost}")
        args = [TUG, "run", "-m", MODEL, "-c", "256", "-t", "1", "--temp", "0", "-n", "100", "--gpu", "0", PROMPT]
        with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as tug:
            first = tug.stdout.read(4)
            open(lost, "w").close()
            text, err = first + tug.stdout.read(), tug.stderr.read().decode()
            code = tug.wait(600)
    want = run("-n", "100", "--gpu", "none").stdout
    assert code == 1 and want.startswith(text) and len(text) < len(want), (code, text)
    assert re.search(r"^tug: GPU 0 failed at [^\n]+\n\Z", err, re.M), err


PATIENCE = 600  # seconds: the emulated GPU on a busy machine is no hurry
QUESTION = {"messages": [{"role": "user", "content": "Add two."}],
            "temperature": 0, "max_tokens": 8}


def gpu_server(lost, *args, model=MODEL):
    env = world(emu=f"lost={lost}")
    return Server("-c", "1024", "-t", "1", *args, model=model, tug=TUG, env=env)


def lose_in_stream(server, lost, path, body):
    """The device is lost behind the first event with text; returns all that came."""
    c = server.connect(PATIENCE)
    c.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
    r = c.getresponse()
    came = b""
    while came.count(b"delta") < 3:
        came += r.read1()
    open(lost, "w").close()
    came += r.read()
    c.close()
    assert r.status == 200
    return came.decode()


def test_lost_while_serving():
    """The stream ends with an error; the server goes on, with the text of the CPU."""
    with Server("-c", "1024", "-t", "1", tug=TUG) as cpu:
        want = cpu.post("/v1/chat/completions", QUESTION, timeout=PATIENCE).json()["choices"][0]["message"]["content"]
        usage = cpu.post("/v1/messages", {**QUESTION, "max_tokens": 3}, timeout=PATIENCE).json()["usage"]
    with tempfile.TemporaryDirectory() as folder:
        lost = os.path.join(folder, "lost")
        with gpu_server(lost, "--gpu", "0") as s:
            same = s.post("/v1/chat/completions", QUESTION, timeout=PATIENCE).json()["choices"][0]["message"]["content"]
            assert same == want and "gpu: emulated GPU" in s.said(), (same, want)
            assert s.get("/health").json() == {"status": "ok"}
            assert "\ntug_gpu_failures_total 0\n" in s.get("/metrics").text()
            came = lose_in_stream(s, lost, "/v1/chat/completions", {**QUESTION, "max_tokens": 200})
            errors = [json.loads(line[6:]) for line in came.splitlines() if line.startswith('data: {"error"')]
            assert len(errors) == 1 and "send the request again" in errors[0]["error"]["message"], came[-600:]
            # Also those that came while there was no model: they wait.
            again = s.post("/v1/chat/completions", QUESTION, timeout=PATIENCE)
            assert again.status == 200 and again.json()["choices"][0]["message"]["content"] == want, again.body
            assert s.get("/health").json() == {"status": "ok"}
            assert "\ntug_gpu_failures_total 1\n" in s.get("/metrics").text()
            assert s.post("/v1/messages", {**QUESTION, "max_tokens": 3}, timeout=PATIENCE).json()["usage"] == usage
            said = s.said()
            assert re.search(r"^tug: GPU 0 failed at ", said, re.M) and "going on without the GPU" in said, said


def test_lost_in_every_api():
    for path, body, error in [("/v1/messages", QUESTION, "event: error"),
                              ("/v1/responses", {"input": "Say hello"}, "response.failed"),
                              ("/v1/completions", {"prompt": PROMPT}, '"error"')]:
        with tempfile.TemporaryDirectory() as folder:
            lost = os.path.join(folder, "lost")
            with gpu_server(lost, "--gpu", "0") as s:
                key = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
                c = s.connect(PATIENCE)
                c.request("POST", path, json.dumps({**body, key: 200, "temperature": 0, "stream": True}),
                          {"Content-Type": "application/json"})
                r = c.getresponse()
                came = r.read1()
                open(lost, "w").close()
                came = (came + r.read()).decode()
                c.close()
                assert error in came and "send the request again" in came, (path, came[-600:])
                # Not a stream: a status that says try again.
                assert s.get("/health").status in (200, 503)
                assert s.post(path, {**body, key: 3}, timeout=PATIENCE).status == 200


def test_lost_for_good():
    """The file is gone too: the server says so to everybody, and ends well."""
    with tempfile.TemporaryDirectory() as folder:
        lost, model = os.path.join(folder, "lost"), os.path.join(folder, "model.gguf")
        shutil.copy(MODEL, model)
        with gpu_server(lost, "--gpu", "0", model=model) as s:
            os.unlink(model)
            open(lost, "w").close()
            a = s.post("/v1/chat/completions", QUESTION, timeout=PATIENCE)
            assert a.status == 503 and "send the request again" in a.json()["error"]["message"], a.body
            a = s.post("/v1/chat/completions", QUESTION, timeout=PATIENCE)
            assert a.status == 503 and "start the server anew" in a.json()["error"]["message"], a.body
            assert s.get("/health").status == 503 and s.get("/health").json() == {"status": "degraded"}
            assert s.get("/status").status == 200 and s.get("/props").status == 200


if __name__ == "__main__":
    sys.exit(run_tests(globals(), sys.argv[1:]))
