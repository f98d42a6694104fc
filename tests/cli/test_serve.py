#!/usr/bin/env python3
"""`tug serve` as clients and people meet it: every endpoint once, streams, refusals, the end.

    TUG=build/tug tests/cli/test_serve.py [NAME ...]      only tests whose name contains NAME

On the tiny model, whose words mean little; what is said to be a call, a stop or an error is
tested with scripted answers in tests/serve.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tug_server import MODEL, Server, run_tests  # noqa: E402

HELLO = [{"role": "user", "content": "Write a function that adds two numbers in Python."}]
GREEDY = {"temperature": 0, "max_tokens": 12}
server = None


def chat(**more):
    return server.post("/v1/chat/completions", {"messages": HELLO, **GREEDY, **more})


def joined(answer):
    """Text of a chat stream."""
    return "".join(c["choices"][0]["delta"].get("content") or "" for _, c in answer.events()
                   if c != "[DONE]" and c["choices"])


# ---- answers ---------------------------------------------------------------------------

def test_chat_whole():
    a = chat()
    assert a.status == 200, a.body
    r = a.json()
    assert r["object"] == "chat.completion" and r["choices"][0]["message"]["role"] == "assistant"
    assert r["choices"][0]["message"]["content"], r
    assert 0 < r["usage"]["completion_tokens"] <= 12
    assert r["usage"]["total_tokens"] == r["usage"]["prompt_tokens"] + r["usage"]["completion_tokens"]


def test_chat_stream_says_the_same():
    whole = chat().json()["choices"][0]["message"]["content"]
    a = chat(stream=True, stream_options={"include_usage": True})
    assert a.headers["content-type"].startswith("text/event-stream")
    events = [e for _, e in a.events()]
    assert joined(a) == whole
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-1] == "[DONE]" and events[-2]["usage"]["prompt_tokens"] > 0 and events[-2]["choices"] == []
    assert len({e["id"] for e in events[:-1]}) == 1


def test_same_seed_same_answer():
    more = {"temperature": 1.0, "seed": 7, "max_tokens": 20}
    first, second = (chat(**more).json()["choices"][0]["message"]["content"] for _ in range(2))
    assert first == second
    assert chat(**{**more, "seed": 8}).json()["choices"][0]["message"]["content"] != first


def test_several_choices():
    r = chat(n=3, temperature=1.0, seed=3, max_tokens=16).json()
    assert [c["index"] for c in r["choices"]] == [0, 1, 2]
    assert len({c["message"]["content"] for c in r["choices"]}) > 1
    single = chat(temperature=1.0, seed=3, max_tokens=16).json()
    assert single["choices"][0]["message"]["content"] == r["choices"][0]["message"]["content"]


def test_logprobs():
    r = chat(logprobs=True, top_logprobs=3).json()["choices"][0]
    tokens = r["logprobs"]["content"]
    assert "".join(bytes(t["bytes"]).decode("utf-8", "replace") for t in tokens).strip() == \
        r["message"]["content"].strip()
    for t in tokens:  # greedy: the chosen one is the likeliest
        assert len(t["top_logprobs"]) == 3 and t["top_logprobs"][0]["token"] == t["token"]
        assert t["logprob"] <= 0


def test_completions_and_echo():
    r = server.post("/v1/completions", {"prompt": "def add(a, b):\n", **GREEDY}).json()
    e = server.post("/v1/completions", {"prompt": "def add(a, b):\n", "echo": True, **GREEDY}).json()
    assert r["object"] == "text_completion"
    assert e["choices"][0]["text"] == "def add(a, b):\n" + r["choices"][0]["text"]


def test_completions_by_ids():
    ids = server.post("/tokenize", {"content": "def add(a, b):\n"}).json()["tokens"]
    by_ids = server.post("/v1/completions", {"prompt": ids, **GREEDY}).json()["choices"][0]["text"]
    by_text = server.post("/v1/completions", {"prompt": "def add(a, b):\n", **GREEDY}).json()["choices"][0]["text"]
    assert by_ids == by_text


def test_fill_in_the_middle():
    a = server.post("/v1/completions", {"prompt": "def add(a, b):\n    return ", "suffix": "\n\nprint(add(1, 2))\n",
                                        **GREEDY})
    assert a.status == 200, a.body


def test_stop_strings():
    whole = chat(max_tokens=30).json()["choices"][0]["message"]["content"]
    stop = whole[len(whole) // 2:][:4]
    r = chat(max_tokens=30, stop=[stop]).json()["choices"][0]
    assert r["message"]["content"] == whole[:whole.index(stop)] and r["finish_reason"] == "stop"


def test_logit_bias_bans():
    first = chat(max_tokens=1, logprobs=True).json()["choices"][0]["logprobs"]["content"][0]
    ids = server.post("/tokenize", {"content": first["token"]}).json()["tokens"]
    other = chat(max_tokens=1, logprobs=True, logit_bias={str(ids[0]): -100}).json()
    assert other["choices"][0]["logprobs"]["content"][0]["token"] != first["token"]


def test_responses():
    body = {"input": "Say hello", "max_output_tokens": 8, "temperature": 0}
    r = server.post("/v1/responses", body).json()
    assert r["object"] == "response" and r["status"] in ("completed", "incomplete"), r
    s = server.post("/v1/responses", {**body, "stream": True})
    kinds = [e["type"] for _, e in s.events()]
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
    text = "".join(e["delta"] for _, e in s.events() if e["type"] == "response.output_text.delta")
    assert text == r["output"][0]["content"][0]["text"]


def test_messages():
    body = {"model": "x", "max_tokens": 8, "messages": HELLO, "temperature": 0}
    r = server.post("/v1/messages?beta=true", body).json()
    assert r["type"] == "message" and r["stop_reason"] in ("end_turn", "max_tokens"), r
    s = server.post("/v1/messages", {**body, "stream": True})
    names = [n for n, _ in s.events()]
    assert names[0] == "message_start" and names[-1] == "message_stop"
    text = "".join(e["delta"]["text"] for n, e in s.events() if n == "content_block_delta")
    assert text == "".join(b["text"] for b in r["content"])


def test_counting_agrees():
    n = server.post("/v1/messages/count_tokens", {"model": "x", "messages": HELLO}).json()["input_tokens"]
    r = server.post("/v1/messages", {"model": "x", "max_tokens": 1, "messages": HELLO}).json()["usage"]
    assert n == r["input_tokens"] + r["cache_read_input_tokens"]
    c = server.post("/v1/chat/completions/input_tokens", {"messages": HELLO}).json()["input_tokens"]
    assert c == n


# ---- reuse -----------------------------------------------------------------------------

def test_a_longer_conversation_reuses_the_shorter():
    messages = [{"role": "user", "content": "Name a colour. " + "Please. " * 50}]
    first = server.post("/v1/chat/completions", {"messages": messages, **GREEDY}).json()
    messages += [first["choices"][0]["message"], {"role": "user", "content": "Another one."}]
    second = server.post("/v1/chat/completions", {"messages": messages, **GREEDY}).json()
    reused = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert reused >= first["usage"]["prompt_tokens"], (first["usage"], second["usage"])
    fresh = server.post("/v1/chat/completions", {"messages": messages, **GREEDY, "cache_prompt": False}).json()
    assert fresh["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert fresh["choices"][0]["message"]["content"] == second["choices"][0]["message"]["content"]


# ---- about the server ------------------------------------------------------------------

def test_info():
    assert server.get("/health").json() == {"status": "ok"}
    models = server.get("/v1/models").json()
    name = models["data"][0]["id"]
    assert models["models"][0]["slug"] == name
    assert server.get(f"/v1/models/{name}").json()["id"] == name
    assert server.get("/v1/models/none").status == 404
    assert server.get("/props").json()["total_slots"] >= 1
    status = server.status()
    assert status["model"]["id"] == name and status["queue"]["limit"] > 0
    page = server.get("/")
    assert page.headers["content-type"].startswith("text/html") and "content-security-policy" in page.headers


def test_metrics_are_prometheus():
    text = server.get("/metrics").text()
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) tug_\w+ .+|tug_\w+ [0-9.e+-]+", line), line
    assert re.search(r"^tug_requests_total [1-9]", text, re.M)


def test_text_round_trip():
    text = "héllo <|im_end|> wörld 🙂\n"
    ids = server.post("/tokenize", {"content": text, "parse_special": False}).json()["tokens"]
    assert server.post("/detokenize", {"tokens": ids}).json()["content"] == text
    pieces = server.post("/tokenize", {"content": "a b", "with_pieces": True}).json()["tokens"]
    assert "".join(p["piece"] for p in pieces) == "a b"


def test_template():
    prompt = server.post("/apply-template", {"messages": HELLO}).json()["prompt"]
    assert prompt == f"<|im_start|>user\n{HELLO[0]['content']}<|im_end|>\n<|im_start|>assistant\n"


# ---- refusals --------------------------------------------------------------------------

def test_refusals_say_what():
    for path, body, status, say in [
            ("/v1/chat/completions", b"{", 400, "JSON|offset|byte"),
            ("/v1/chat/completions", {}, 400, "messages"),
            ("/v1/chat/completions", {"messages": HELLO, "temperature": "x"}, 400, "temperature"),
            ("/v1/chat/completions", {"messages": HELLO, "n": 99}, 400, "n"),
            ("/v1/chat/completions", {"messages": HELLO, "logit_bias": {"99999999": 1}}, 400, "logit_bias"),
            ("/v1/completions", {"prompt": [-1]}, 400, "prompt"),
            ("/v1/completions", {"prompt": ""}, 400, "prompt|empty"),
            ("/v1/messages", {"max_tokens": 1}, 400, "messages"),
            ("/v1/responses", {"input": "x", "previous_response_id": "r"}, 400, "previous_response_id"),
            ("/tokenize", {}, 400, "content"), ("/detokenize", {"tokens": [1e9]}, 400, "tokens"),
            ("/v1/embeddings", {}, 501, "embeddings"), ("/nothing", {}, 404, "nothing")]:
        a = server.post(path, body)
        assert a.status == status, (path, body, a.status, a.body)
        message = a.json()["error"]["message"]
        assert re.search(say, message), (path, body, message)
    assert server.get("/v1/chat/completions").status == 405
    assert chat().status == 200


def test_too_long_in_each_shape():
    with Server("-c", "200", "-t", "1") as s:
        words = [{"role": "user", "content": "word " * 500}]
        a = s.post("/v1/chat/completions", {"messages": words})
        assert a.status == 400 and a.json()["error"]["code"] == "context_length_exceeded", a.body
        a = s.post("/v1/messages", {"model": "x", "max_tokens": 5, "messages": words})
        assert a.status == 400 and "prompt is too long" in a.json()["error"]["message"], a.body
        a = s.post("/v1/responses", {"input": words})
        assert a.status == 400 and a.json()["error"]["code"] == "context_length_exceeded", a.body
        short = {"messages": [{"role": "user", "content": "Count."}], "temperature": 0}
        r = s.post("/v1/chat/completions", {**short, "max_tokens": 100000}).json()
        assert r["choices"][0]["finish_reason"] in ("length", "stop"), r


def test_only_who_may():
    assert server.request("GET", "/health", headers={"Host": "evil.example"}).status in (403, 421)
    assert server.post("/v1/chat/completions", {"messages": HELLO}, {"Origin": "http://evil.example"}).status == 403
    assert server.request("POST", "/v1/chat/completions", json.dumps({"messages": HELLO}),
                          {"Content-Type": "text/plain"}).status in (400, 415)


# ---- clients that leave, and the end ---------------------------------------------------

def wait_idle(s, seconds=20):
    deadline = time.monotonic() + seconds
    while s.status()["running"]:
        assert time.monotonic() < deadline, s.status()["running"]
        time.sleep(0.02)


def test_a_client_that_leaves_costs_no_more():
    endless = {"messages": HELLO, "temperature": 1.5, "stream": True, "ignore_eos": True, "seed": 5,
               "logit_bias": {str(i): -100 for i in eos_ids()}}
    c = server.connect()
    c.request("POST", "/v1/chat/completions", json.dumps(endless), {"Content-Type": "application/json"})
    r = c.getresponse()
    r.read(200)
    r.close()
    c.close()
    wait_idle(server)
    assert server.status()["recent"][0]["end"] == "canceled"


def eos_ids():
    return [i for t in ("<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")
            for i in server.post("/tokenize", {"content": t}).json()["tokens"]][:10]


def test_sigterm_lets_requests_finish():
    with Server("-t", "1", "--drain-timeout", "30") as s:
        c = s.connect()
        c.request("POST", "/v1/chat/completions", json.dumps({"messages": HELLO, "stream": True, "temperature": 0,
                                                               "max_tokens": 60}),
                  {"Content-Type": "application/json"})
        r = c.getresponse()
        s.process.send_signal(signal.SIGTERM)
        body = r.read().decode()
        assert body.rstrip().endswith("data: [DONE]"), body[-300:]
        c.close()
        assert s.process.wait(30) == 0, s.said()


def test_finds_its_model():
    """Without -m: the newest of the person's models, else the demo's, else a sentence."""
    with tempfile.TemporaryDirectory() as home:
        env = {"PATH": os.environ["PATH"], "HOME": home}
        with Server("-t", "1", model=None, env=env) as s:
            name = s.get("/v1/models").json()["data"][0]["id"]
            assert s.get("/props").json()["model_path"] == MODEL and MODEL.endswith(name + ".gguf"), name
        folder = os.path.join(home, ".local/share/tug/models")
        os.makedirs(folder)
        os.symlink(MODEL, os.path.join(folder, "older.gguf"))
        shutil.copy(MODEL, os.path.join(folder, "mine.gguf"))
        second = os.path.join(folder, "split-00002-of-00002.gguf")
        shutil.copy(MODEL, second)
        os.utime(second, (time.time() + 100,) * 2)
        with Server("-t", "1", model=None, env=env) as s:
            assert s.get("/v1/models").json()["data"][0]["id"] == "mine"
        shutil.copy(server.tug, os.path.join(home, "tug"))
        done = subprocess.run([os.path.join(home, "tug"), "serve"], capture_output=True, timeout=60, check=False,
                              env={**env, "HOME": "/nonexistent"})
        assert done.returncode == 2 and "-m FILE" in done.stderr.decode(), done


def test_start_refusals():
    tug = os.path.abspath(os.environ.get("TUG", "build/tug"))
    for args, say in [(["-m", "/nonexistent.gguf"], "nonexistent"), (["--port", "70000"], "port"),
                      (["-m", MODEL, "--host", "0.0.0.0"], "key"), (["-m", MODEL, "--tls-cert", "x"], "tls-key"),
                      (["-m", MODEL, "--api-key-file", "/nonexistent"], "nonexistent"),
                      (["-m", MODEL, "--port", str(server.port)], "port|address|use"),
                      (["-m", MODEL, "--script", "x"], "test program"),
                      (["--print-config", "vi"], "opencode"), (["extra"], "extra")]:
        done = subprocess.run([tug, "serve", *args], capture_output=True, timeout=60, check=False)
        text = done.stderr.decode()
        assert done.returncode in (1, 2) and re.search(say, text), (args, done.returncode, text)
        assert len([line for line in text.splitlines() if line.startswith("tug: ")]) == 1, text


def main():
    global server
    with Server("-t", "1") as server:
        return run_tests(globals(), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
