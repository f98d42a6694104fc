#!/usr/bin/env python3
"""`tug serve` with scripted answers: calls in every API, stops, silence, queues, clients that go.

    TUG=build/tug tests/serve/scripted.py [NAME ...]      only tests whose name contains NAME

The model's tokens come from a script (build/tests/tug-scripted); everything behind the sampler
is the real thing.
"""
import concurrent.futures
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tug_server import Server, run_tests  # noqa: E402

TOOLS = [{"type": "function", "function": {
    "name": "edit", "description": "Edit a file", "parameters": {
        "type": "object", "required": ["path", "text"],
        "properties": {"path": {"type": "string"}, "text": {"type": "string"},
                       "line": {"type": "integer"}, "dry": {"type": "boolean"}}}}},
    {"type": "function", "function": {"name": "list", "parameters": {"type": "object", "properties": {}}}}]
EDIT = ("Let me look.\n\n<tool_call>\n<function=edit>\n<parameter=path>\nsrc/a.py\n</parameter>\n"
        "<parameter=text>\nif a < b and c > \"d\":\n\treturn {\"é\": 1}\n</parameter>\n<parameter=line>\n42\n</parameter>\n"
        "</function>\n</tool_call>")
EDIT_ARGS = {"path": "src/a.py", "text": "if a < b and c > \"d\":\n\treturn {\"é\": 1}", "line": 42}
LIST = "<tool_call>\n<function=list>\n</function>\n</tool_call>"
BOTH = EDIT + "\n" + LIST
ASK = [{"role": "user", "content": "Fix it."}]


def scripted(*args, script):
    """With one thread: on a busy machine two wait for each other more than they compute."""
    return Server("-t", "1", *args, script=script)


def always(say, **more):
    return [{"say": say, "times": 0, **more}]


def chat(s, **more):
    return s.post("/v1/chat/completions", {"messages": ASK, "tools": TOOLS, **more})


def accumulate(answer):
    """What a client makes of a chat stream: (content, [(id, name, arguments)], finish reason)."""
    content, calls, finish = "", {}, None
    for _, event in answer.events():
        if event == "[DONE]":
            break
        for choice in event["choices"]:
            delta = choice["delta"]
            content += delta.get("content") or ""
            for call in delta.get("tool_calls", []):
                c = calls.setdefault(call["index"], ["", "", ""])
                c[0] += call.get("id", "")
                c[1] += call["function"].get("name", "")
                c[2] += call["function"].get("arguments", "")
            finish = choice["finish_reason"] or finish
    return content, [tuple(c) for _, c in sorted(calls.items())], finish


# ---- calls -----------------------------------------------------------------------------

def test_chat_calls():
    with scripted(script=always(BOTH)) as s:
        content, calls, finish = accumulate(chat(s, stream=True))
        assert content == "Let me look." and finish == "tool_calls", (content, finish)
        assert [c[1] for c in calls] == ["edit", "list"], calls
        assert json.loads(calls[0][2]) == EDIT_ARGS and json.loads(calls[1][2]) == {}
        assert calls[0][0].startswith("call_") and calls[0][0] != calls[1][0]
        whole = chat(s).json()["choices"][0]
        assert whole["finish_reason"] == "tool_calls" and whole["message"]["content"] == "Let me look."
        assert [json.loads(c["function"]["arguments"]) for c in whole["message"]["tool_calls"]] == [EDIT_ARGS, {}]


def test_arguments_are_streamed_as_they_come():
    text = "word " * 200
    say = f"<tool_call>\n<function=edit>\n<parameter=path>\nx\n</parameter>\n<parameter=text>\n{text}\n</parameter>\n</function>\n</tool_call>"
    with scripted(script=always(say)) as s:
        events = [e for _, e in chat(s, stream=True).events()]
        pieces = [c for e in events if e != "[DONE]" for ch in e["choices"] for c in ch["delta"].get("tool_calls", [])]
        assert len(pieces) > 100, len(pieces)


def test_messages_calls():
    tools = [{"name": t["function"]["name"], "input_schema": t["function"]["parameters"]} for t in TOOLS]
    with scripted(script=always(BOTH)) as s:
        body = {"model": "m", "max_tokens": 500, "messages": ASK, "tools": tools}
        r = s.post("/v1/messages", body).json()
        assert [b["type"] for b in r["content"]] == ["text", "tool_use", "tool_use"], r
        assert r["content"][1]["input"] == EDIT_ARGS and r["stop_reason"] == "tool_use"
        blocks, name = {}, None
        for name, e in s.post("/v1/messages", {**body, "stream": True}).events():
            if name == "content_block_start":
                blocks[e["index"]] = ""
            if name == "content_block_delta":
                blocks[e["index"]] += e["delta"].get("text", "") + e["delta"].get("partial_json", "")
        assert blocks[0] == "Let me look." and json.loads(blocks[1]) == EDIT_ARGS and name == "message_stop"


def test_responses_calls():
    tools = [{"type": "function", **t["function"]} for t in TOOLS]
    with scripted(script=always(BOTH)) as s:
        body = {"input": "Fix it.", "tools": tools}
        r = s.post("/v1/responses", body).json()
        assert [i["type"] for i in r["output"]] == ["message", "function_call", "function_call"], r
        assert json.loads(r["output"][1]["arguments"]) == EDIT_ARGS
        done = [e["item"] for _, e in s.post("/v1/responses", {**body, "stream": True}).events()
                if e["type"] == "response.output_item.done"]
        assert [i["type"] for i in done] == [i["type"] for i in r["output"]]
        assert done[1]["arguments"] == r["output"][1]["arguments"]


def test_one_call_only():
    with scripted(script=always(BOTH)) as s:
        calls = chat(s, parallel_tool_calls=False).json()["choices"][0]["message"]["tool_calls"]
        assert [c["function"]["name"] for c in calls] == ["edit"]


def test_calls_switched_off_are_text():
    with scripted("--no-constraint", script=always(BOTH)) as s:
        r = chat(s, tool_choice="none").json()["choices"][0]
        assert "<function=edit>" in r["message"]["content"] and not r["message"].get("tool_calls"), r
        assert r["finish_reason"] == "stop"


def test_malformed_calls_are_text():
    for say in ["<tool_call>\nhello", "a <tool_call> in prose", "<tool_call>\n<function=", "<function=nobody>\n</function>"]:
        with scripted("--no-constraint", script=always(say)) as s:
            a = chat(s)
            assert a.status == 200, a.body
            r = a.json()["choices"][0]
            assert r["message"]["content"] == say and r["finish_reason"] == "stop", (say, r)


def test_a_cut_call_says_length():
    with scripted(script=always(EDIT)) as s:
        _, calls, finish = accumulate(chat(s, stream=True, max_tokens=20))
        assert finish == "length", finish


def test_stop_strings_only_in_text():
    with scripted(script=always(EDIT)) as s:
        content, calls, finish = accumulate(chat(s, stream=True, stop=["return"]))
        assert json.loads(calls[0][2]) == EDIT_ARGS and finish == "tool_calls"
        content, calls, finish = accumulate(chat(s, stream=True, stop=["me look"]))
        assert content == "Let " and calls == [] and finish == "stop"


def test_endless_repetition_ends():
    with scripted("-c", "20000", script=always("Once upon a time. " * 2500)) as s:
        r = chat(s).json()
        assert r["usage"]["completion_tokens"] < 8000, r["usage"]
        assert r["choices"][0]["finish_reason"] == "stop" and s.status()["recent"][0]["end"] == "loop"


def test_a_call_comes_back_and_is_reused():
    """A client spells the arguments in its own way; the tokens are still those that were sampled."""
    script = [{"say": EDIT}, {"say": "Done."}]
    with scripted(script=script) as s:
        first = chat(s).json()
        message = first["choices"][0]["message"]
        args = json.loads(message["tool_calls"][0]["function"]["arguments"])
        message["tool_calls"][0]["function"]["arguments"] = json.dumps(args, indent=3, sort_keys=True)
        message["content"] = "  " + message["content"] + "\n"
        messages = ASK + [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "ok"}]
        second = s.post("/v1/chat/completions", {"messages": messages, "tools": TOOLS}).json()
        known = first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"]
        reused = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert reused >= known - 2, (first["usage"], second["usage"])
        assert second["choices"][0]["message"]["content"] == "Done."


# ---- silence, queues, clients that go --------------------------------------------------

def test_alive_during_a_long_prefill():
    """In the form that each client counts as life, at least every ten seconds."""
    forms = {"/v1/chat/completions": ({"messages": ASK}, b": "),
             "/v1/responses": ({"input": "x"}, b"event: response.in_progress"),
             "/v1/messages": ({"messages": ASK, "max_tokens": 9, "model": "m"}, b"event: ping")}
    with scripted(script=always("Hello.", prefill_s=15)) as s:
        def one(path):
            body, sign = forms[path]
            c = s.connect()
            start = time.monotonic()
            c.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
            r = c.getresponse()
            first = time.monotonic() - start
            seen, last, longest = b"", time.monotonic(), 0.0
            while piece := r.read1(65536):
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
                seen += piece
            c.close()
            return path, first, longest, sign in seen, b"Hello" in seen
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for path, first, longest, alive, said in pool.map(one, forms):
                # 10 s; on a busy machine a little later, but not when the answer comes
                assert first < 5 and longest < 13.5 and alive and said, (path, first, longest, alive, said)


def test_queue_is_bounded():
    """Ten times what fits: the rest is refused at once, told when to come again, and hurts nobody."""
    with scripted("--parallel", "1", "--queue", "4", script=always("One two three.", token_s=0.2)) as s:
        def one(i):
            start = time.monotonic()
            a = chat(s, stream=i % 2 == 0)
            return a.status, a.headers.get("retry-after"), time.monotonic() - start, a.text()
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            found = list(pool.map(one, range(40)))
        good, busy = [f for f in found if f[0] == 200], [f for f in found if f[0] == 503]
        assert len(good) >= 4 and len(good) + len(busy) == 40 and busy, [f[:3] for f in found]
        assert all('"finish_reason":"stop"' in f[3] for f in good) and all(f[1] and json.loads(f[3])["error"] for f in busy)
        took = sorted(f[2] for f in busy)
        assert took[len(took) // 2] < min(f[2] for f in good), took
        assert chat(s).status == 200


def test_queue_keeps_order():
    with scripted("--parallel", "1", script=always("One two.", token_s=0.1)) as s:
        opened = []
        for n in range(6):
            opened.append(raw_request(s, {"messages": ASK, "stream": n % 2 == 0, "user": str(n)}))
            until(s, lambda st, n=n: len(st["running"]) + len(st["recent"]) == n + 1)
        names = [r["id"] for r in reversed(s.status()["recent"])] + [r["id"] for r in s.status()["running"]]
        wait_idle(s)
        assert [r["id"] for r in reversed(s.status()["recent"])] == names
        for c in opened:
            c.close()


def raw_request(s, body, path="/v1/chat/completions"):
    data = json.dumps(body).encode()
    c = socket.create_connection(("127.0.0.1", s.port), timeout=120)
    c.sendall(b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data)
    return c


def wait_idle(s, seconds=30):
    deadline = time.monotonic() + seconds
    while s.status()["running"]:
        assert time.monotonic() < deadline, s.status()
        time.sleep(0.01)


def without_ids(text):
    """A stream's bytes without what differs from answer to answer: ids, times, what was reused,
    signs of life (their number depends on the machine)."""
    text = re.sub(r": keepalive\n\n|event: (ping|keepalive|response.in_progress)\ndata: [^\n]*\n\n", "", text)
    text = re.sub(r'"(id|item_id|call_id)":"[^"]*"', r'"\1":""', text)
    text = re.sub(r'"(created|created_at|sequence_number)":\d+', r'"\1":0', text)
    return re.sub(r'"(input|cache_read_input|cached)_tokens":\d+', r'"\1_tokens":0', text)


def leave_after(s, path, body, n, how):
    """Reads n events, goes away: (id of the answer, tokens sampled then, seconds it took)."""
    c = raw_request(s, body, path)
    seen = b""
    while seen.count(b"\n\n") < n + 1:  # the first empty line ends the head
        seen += c.recv(1)
    name = re.search(rb'"id":"[a-z]+[-_](\w+)"', seen).group(1).decode()
    start = time.monotonic()
    status = s.status()
    sampled = [r["n_completion"] for r in status["running"] + status["recent"] if r["id"] == name][0]
    if how == "rst":
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half":
        c.shutdown(socket.SHUT_WR)
    else:
        c.close()
    seconds = time.monotonic() - start
    while how == "half" and c.recv(65536):
        pass  # our side stays open until the server has closed
    c.close()
    return name, sampled, seconds


def ended(s, name):
    """What /status says of an answer that is over."""
    deadline = time.monotonic() + 20
    while True:
        found = [r for r in s.status()["recent"] if r["id"] == name]
        if found:
            return found[0]
        assert time.monotonic() < deadline, (name, s.status())
        time.sleep(0.01)


LEAVERS = {"/v1/chat/completions": ({"messages": ASK, "tools": TOOLS}, "data: [DONE]"),
           "/v1/responses": ({"input": "x", "tools": [{"type": "function", **t["function"]} for t in TOOLS]},
                             "event: response.completed"),
           "/v1/messages": ({"messages": ASK, "tools": [{"name": t["function"]["name"]} for t in TOOLS]},
                            "event: message_stop")}
PACE_S = 0.01


def test_a_client_leaves_at_every_event():
    """Whoever leaves, and how, in text and in a call: the work stops within one token, and a
    neighbour gets the same bytes as alone."""
    say = "One two three.\n\n<tool_call>\n<function=edit>\n<parameter=path>\na b\n</parameter>\n</function>\n</tool_call>"
    n_canceled = 0
    with scripted("--parallel", "2", script=always(say, token_s=PACE_S)) as s, \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        for path, (body, last) in LEAVERS.items():
            body = {**body, "stream": True}
            alone = without_ids(s.post(path, body).text())
            assert last in alone, alone
            for n in range(1, alone.count("\n\n")):
                neighbour = pool.submit(s.post, path, body)
                name, sampled, seconds = leave_after(s, path, body, n, ("fin", "rst", "half")[n % 3])
                left = ended(s, name)
                beside = without_ids(neighbour.result().text())
                assert beside == alone, (path, n, [x for x in zip(beside.split("\n"), alone.split("\n")) if x[0] != x[1]][:2])
                if left["end"] == "canceled":  # else it was over before
                    n_canceled += 1
                    assert left["n_completion"] <= sampled + 2 + seconds / PACE_S, (left, sampled, seconds)
        wait_idle(s)
    assert n_canceled > 20, n_canceled


def test_a_client_leaves_during_prefill():
    """Nothing is sampled for it, and the same request again finds what was computed."""
    with scripted("-c", "4096", script=always("Done.")) as s:
        body = {"messages": [{"role": "user", "content": "one two three " * 1000}], "stream": True}
        c = raw_request(s, body)
        deadline = time.monotonic() + 30
        while not any(r["state"] == "prefill" and r["done"] for r in s.status()["running"]):
            if s.status()["recent"]:
                return  # too fast for us
            assert time.monotonic() < deadline, s.status()
        c.close()
        wait_idle(s)
        gone = s.status()["recent"][0]
        if gone["end"] == "canceled":
            assert gone["n_completion"] == 0, gone
            assert s.post("/v1/chat/completions", body).status == 200
            assert s.status()["recent"][0]["n_cached"] > 0, s.status()["recent"][:2]


def test_one_bad_among_good():
    """Requests that are refused, cut off or left change no byte of the others."""
    bad = [b"{", {"messages": []}, {"messages": ASK, "logit_bias": {"99999999": 1}}, {"messages": ASK, "temperature": "hot"},
           {"messages": [{"role": "user", "content": "word " * 9000}]}, {"messages": ASK, "n": 99}]
    with Server("-t", "1", "-c", "4096") as s:
        def good(i):
            return s.post("/v1/chat/completions", {"messages": [{"role": "user", "content": f"Count from {i}."}],
                                                   "temperature": 1.0, "seed": i, "max_tokens": 16}).json()["choices"]
        alone = [good(i) for i in range(8)]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for _ in range(3):
                together = [pool.submit(good, i) for i in range(8)]
                refused = [pool.submit(s.post, "/v1/chat/completions", b) for b in bad]
                raw_request(s, {"messages": ASK, "stream": True}).close()
                assert [t.result() for t in together] == alone
                assert all(r.result().status == 400 for r in refused), [r.result().status for r in refused]


def test_words_stay_inside():
    """What is asked and answered is in no log, no metric, no status."""
    word = "xyzzyplugh"
    with scripted(script=always(f"The word is {word}.")) as s:
        for path, (body, _) in LEAVERS.items():
            asked = json.loads(json.dumps(body).replace("Fix it.", word).replace('"x"', f'"{word}"'))
            assert word in s.post(path, {**asked, "user": word}).text()
            assert s.post(path, {**asked, "stream": True}).status == 200
        s.post("/v1/chat/completions", {"messages": word})
        s.post("/v1/" + word, {})
        for where in ("/status", "/metrics", "/props", "/v1/models", "/"):
            assert word not in s.get(where).text(), where
        assert word not in s.said()


def test_nothing_is_called_outside():
    """No connection outwards, no program started, no file written but the log."""
    if not shutil.which("strace"):
        print("skip nothing_is_called_outside: no strace")
        return
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "calls")
        with Server(script=always("Hello.")) as s:
            tracer = subprocess.Popen(["strace", "-f", "-q", "-e", "trace=connect,execve,open,openat,creat,unlink,rename",
                                       "-o", log, "-p", str(s.process.pid)], stderr=subprocess.PIPE)
            deadline = time.monotonic() + 20
            while not os.path.exists(log) and tracer.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(1)
            if tracer.poll() is not None:
                print("skip nothing_is_called_outside: " + tracer.stderr.read().decode().strip())
                return
            for path, (body, _) in LEAVERS.items():
                assert s.post(path, body).status == 200
            for where in ("/", "/status", "/metrics", "/v1/models", "/nothing"):
                s.get(where)
            image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}]}]
            assert s.post("/v1/chat/completions", {"messages": image}).status == 400
        tracer.wait(20)
        with open(log, encoding="utf-8", errors="replace") as f:
            calls = [line for line in f if re.search(r"\b(connect|execve|creat|unlink|rename)\(|O_(WRONLY|RDWR|CREAT)", line)]
        assert not calls, calls[:5]


def until(s, what):
    """Waits until what(status) holds."""
    deadline = time.monotonic() + 30
    while not what(s.status()):
        assert time.monotonic() < deadline, s.status()
        time.sleep(0.02)


def test_a_queued_client_leaves():
    with scripted("--parallel", "1", script=always("word " * 60, token_s=0.5)) as s:
        busy = raw_request(s, {"messages": ASK, "stream": True})
        until(s, lambda st: st["running"])
        gone = [raw_request(s, {"messages": ASK, "stream": i % 2 == 0}) for i in range(20)]
        until(s, lambda st: st["queue"]["waiting"] == 20)
        for c in gone:
            c.close()
        until(s, lambda st: st["queue"]["waiting"] == 0)
        assert s.status()["queue"]["running"] == 1 and [r["end"] for r in s.status()["recent"]] == ["canceled"] * 20
        busy.close()
        wait_idle(s)


def test_a_reader_that_does_not_read_stops_nobody():
    """It is not written for any more, or has run out of its 30 seconds where the machine is
    slow; others are answered meanwhile."""
    numbers = " ".join(str(n) for n in range(1500))

    def sampled(s):
        running = s.status()["running"]
        return running[0]["n_completion"] if running else None
    with scripted("--parallel", "2", "-c", "20000", script=always(numbers)) as s:
        c = raw_request(s, {"messages": ASK, "stream": True})
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        until(s, lambda st: st["running"])
        before, now = -1, 0
        while before != now or now == 0:
            before = now
            time.sleep(1)
            now = sampled(s)
        assert chat(s, max_tokens=5).status == 200
        after = sampled(s)
        assert after in (now, None), (now, after)
        if after is None:
            assert "canceled" in [r["end"] for r in s.status()["recent"]], s.status()
        c.close()
        wait_idle(s, 60)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), sys.argv[1:]))
