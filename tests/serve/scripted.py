#!/usr/bin/env python3
"""`tug serve` with scripted answers: calls in every API, stops, silence, queues, clients that go.

    TUG=build/tug tests/serve/scripted.py [NAME ...]      only tests whose name contains NAME

The model's tokens come from a script (build/tests/tug-scripted); everything behind the sampler
is the real thing.
"""
import concurrent.futures
import json
import os
import socket
import struct
import sys
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
    with Server(script=always(BOTH)) as s:
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
    with Server(script=always(say)) as s:
        events = [e for _, e in chat(s, stream=True).events()]
        pieces = [c for e in events if e != "[DONE]" for ch in e["choices"] for c in ch["delta"].get("tool_calls", [])]
        assert len(pieces) > 100, len(pieces)


def test_messages_calls():
    tools = [{"name": t["function"]["name"], "input_schema": t["function"]["parameters"]} for t in TOOLS]
    with Server(script=always(BOTH)) as s:
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
    with Server(script=always(BOTH)) as s:
        body = {"input": "Fix it.", "tools": tools}
        r = s.post("/v1/responses", body).json()
        assert [i["type"] for i in r["output"]] == ["message", "function_call", "function_call"], r
        assert json.loads(r["output"][1]["arguments"]) == EDIT_ARGS
        done = [e["item"] for _, e in s.post("/v1/responses", {**body, "stream": True}).events()
                if e["type"] == "response.output_item.done"]
        assert [i["type"] for i in done] == [i["type"] for i in r["output"]]
        assert done[1]["arguments"] == r["output"][1]["arguments"]


def test_one_call_only():
    with Server(script=always(BOTH)) as s:
        calls = chat(s, parallel_tool_calls=False).json()["choices"][0]["message"]["tool_calls"]
        assert [c["function"]["name"] for c in calls] == ["edit"]


def test_calls_switched_off_are_text():
    with Server("--no-constraint", script=always(BOTH)) as s:
        r = chat(s, tool_choice="none").json()["choices"][0]
        assert "<function=edit>" in r["message"]["content"] and not r["message"].get("tool_calls"), r
        assert r["finish_reason"] == "stop"


def test_malformed_calls_are_text():
    for say in ["<tool_call>\nhello", "a <tool_call> in prose", "<tool_call>\n<function=", "<function=nobody>\n</function>"]:
        with Server("--no-constraint", script=always(say)) as s:
            a = chat(s)
            assert a.status == 200, a.body
            r = a.json()["choices"][0]
            assert r["message"]["content"] == say and r["finish_reason"] == "stop", (say, r)


def test_a_cut_call_says_length():
    with Server(script=always(EDIT)) as s:
        _, calls, finish = accumulate(chat(s, stream=True, max_tokens=20))
        assert finish == "length", finish


def test_stop_strings_only_in_text():
    with Server(script=always(EDIT)) as s:
        content, calls, finish = accumulate(chat(s, stream=True, stop=["return"]))
        assert json.loads(calls[0][2]) == EDIT_ARGS and finish == "tool_calls"
        content, calls, finish = accumulate(chat(s, stream=True, stop=["me look"]))
        assert content == "Let " and calls == [] and finish == "stop"


def test_endless_repetition_ends():
    with Server("-c", "20000", script=always("Once upon a time. " * 2500)) as s:
        r = chat(s).json()
        assert r["usage"]["completion_tokens"] < 8000, r["usage"]
        assert r["choices"][0]["finish_reason"] == "stop" and s.status()["recent"][0]["end"] == "loop"


def test_a_call_comes_back_and_is_reused():
    """A client spells the arguments in its own way; the tokens are still those that were sampled."""
    script = [{"say": EDIT}, {"say": "Done."}]
    with Server(script=script) as s:
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
    with Server(script=always("Hello.", prefill_s=13)) as s:
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
                assert first < 3 and longest < 11.5 and alive and said, (path, first, longest, alive, said)


def test_queue_keeps_order_and_is_bounded():
    with Server("--parallel", "1", "--queue", "4", script=always("One two three.", token_s=0.05)) as s:
        def one(i):
            a = chat(s, stream=i % 2 == 0)
            return a.status, a.headers.get("retry-after")
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            found = list(pool.map(one, range(12)))
        good = [f for f in found if f[0] == 200]
        busy = [f for f in found if f[0] in (429, 503)]
        assert len(good) >= 4 and len(good) + len(busy) == 12 and all(f[1] for f in busy), found
        assert chat(s).status == 200


def test_two_hundred_streams():
    with Server("--queue", "256", script=always("Hello there.")) as s:
        def one(_):
            return accumulate(chat(s, stream=True))[0]
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            assert set(pool.map(one, range(200))) == {"Hello there."}


def raw_request(s, body):
    data = json.dumps(body).encode()
    c = socket.create_connection(("127.0.0.1", s.port), timeout=60)
    c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % len(data) + data)
    return c


def wait_idle(s, seconds=10):
    deadline = time.monotonic() + seconds
    while s.status()["running"]:
        assert time.monotonic() < deadline, s.status()
        time.sleep(0.01)


def test_a_client_leaves_at_every_event():
    """Whoever leaves, and how: the work stops, and the others get the same bytes."""
    say = "One two three four five six seven eight nine ten."
    with Server("--parallel", "2", script=always(say, token_s=0.002)) as s:
        whole = accumulate(chat(s, stream=True))[0]
        n_events = chat(s, stream=True).text().count("\n\n")
        for n in range(n_events):
            for how in ("fin", "rst"):
                c = raw_request(s, {"messages": ASK, "stream": True})
                seen = b""
                while seen.count(b"\n\n") < n + 1:
                    piece = c.recv(1)
                    if not piece:
                        break
                    seen += piece
                if how == "rst":
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                other = threading.Thread(target=c.close)
                other.start()
                assert accumulate(chat(s, stream=True))[0] == whole
                other.join()
        wait_idle(s)
        assert chat(s, stream=True).status == 200


def test_a_queued_client_leaves():
    with Server("--parallel", "1", script=always("word " * 60, token_s=0.02)) as s:
        busy = threading.Thread(target=lambda: chat(s))
        busy.start()
        time.sleep(0.2)
        gone = [raw_request(s, {"messages": ASK, "stream": i % 2 == 0}) for i in range(20)]
        time.sleep(0.2)
        assert s.status()["queue"]["waiting"] >= 10, s.status()["queue"]
        for c in gone:
            c.close()
        deadline = time.monotonic() + 5
        while s.status()["queue"]["waiting"]:
            assert time.monotonic() < deadline, s.status()["queue"]
            time.sleep(0.02)
        busy.join()


def test_a_reader_that_does_not_read_stops_nobody():
    with Server("--parallel", "2", script=always("word " * 4000)) as s:
        c = raw_request(s, {"messages": ASK, "stream": True})
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        time.sleep(0.5)
        start = time.monotonic()
        assert chat(s, max_tokens=5).status == 200
        assert time.monotonic() - start < 10
        c.close()
        wait_idle(s, 40)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), sys.argv[1:]))
