#!/usr/bin/env python3
"""Answers of every API as the vendors' own SDKs read them, Python and JavaScript.

Dialogues are random: text in all of Unicode, calls one after another, stop strings, limits,
calls cut off, errors before and within the answer, warnings, keepalives.  answer_echo.c has
the writers of src/api make the bytes; a server on loopback serves them in random pieces; the
SDKs' clients, with their stream accumulators, must give back what was told.

    python3 tests/long/sdk_streams.py [dialogues, default 500] [seed, default 1]

Needs the packages `openai` and `anthropic`; for JavaScript Node and a folder (SDK_JS, or
build/sdk-js) with `openai` and `@anthropic-ai/sdk` in its node_modules.  What is missing is
skipped, visibly.
"""
import http.server
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import typing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APIS = ("chat", "responses", "messages")
ENDS = ("stop", "stop_string", "length", "context", "loop")
FAULTS = {0: 400, 1: 400, 2: 401, 4: 404, 6: 413, 7: 429, 8: 500, 10: 503}

# ---- tools, as each API has them; the model's names are the same in all ------------------

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
NAMES = ["read_file", "write_file", "agents__spawn", "apply_patch", "local_shell"]


def tools(api):
    if api == "responses":  # as complete as their types ask, because they are echoed
        function = {"type": "function", "parameters": SCHEMA, "strict": False, "description": "Does it."}
        return [*({**function, "name": n} for n in NAMES[:2]),
                {"type": "namespace", "name": "agents", "description": "All of them.",
                 "tools": [{**function, "name": "spawn"}]},
                {"type": "custom", "name": "apply_patch"}, {"type": "local_shell"}]
    if api == "messages":
        return [{"name": n, "input_schema": SCHEMA} for n in NAMES]
    return [{"type": "function", "function": {"name": n, "parameters": SCHEMA}} for n in NAMES]


def request(api, stream):
    r = {"model": "tiny", "stream": stream, "tools": tools(api)}
    if api == "responses":
        return {**r, "input": "Hi"}
    if api == "messages":
        return {**r, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
    return {**r, "messages": [{"role": "user", "content": "Hi"}],
            "stream_options": {"include_usage": True}}


# ---- dialogues -------------------------------------------------------------------------

PIECES = ("Hello", " ", "\n", "\n\n", "é", "中文", "\U0001F600", "\u2028", "\x7f", "\\", '"', "</tool_call>",
          "data: {}", "\r\n", "event: x\n\n", "\u0000", "\ufeff", "`code`", "a" * 200, "[DONE]")


def random_text(rng, least=0):
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(least, 8)))


def random_value(rng, levels):
    kind = rng.randrange(7 if levels > 0 else 5)
    if kind < 3:
        return random_text(rng)
    if kind == 3:
        return rng.choice((None, True, False, 0, -1, 1.5, 10**15))
    if kind == 4:
        return rng.randrange(-1000, 1000)
    inner = [random_value(rng, levels - 1) for _ in range(rng.randrange(4))]
    return inner if kind == 5 else {f"k{i}": v for i, v in enumerate(inner)}


def cut(rng, text, atom=r"\\u....|\\.|."):
    atoms = re.findall(atom, text, re.S)
    while atoms:
        n = rng.randrange(1, 1 + rng.choice((1, 4, len(atoms))))
        yield "".join(atoms[:n])
        atoms = atoms[n:]


def random_arguments(rng, tool):
    if tool == 3:
        return {"input": random_text(rng)}
    if tool == 4:
        return {"command": [random_text(rng) for _ in range(rng.randrange(4))]}
    return {rng.choice(("path", "a b", "é", "")) + str(i): random_value(rng, 2)
            for i in range(rng.randrange(4))}


def dialogue(rng, number):
    """What happens, and what of it is to be seen: items, end, usage, error."""
    events, items = [], []
    shape = rng.choice(("text", "text", "call", "calls", "mixed", "empty", "error", "fault"))
    usage = {"prompt": rng.randrange(1, 100000)}
    usage["cached"] = rng.randrange(usage["prompt"])
    usage["completion"] = rng.randrange(5000)
    events.append(["begin", usage["prompt"], usage["cached"], 0])
    n_text = 0 if shape in ("empty", "call") else rng.randrange(1, 3)
    n_call = {"call": 1, "calls": rng.randrange(2, 6), "mixed": rng.randrange(1, 4)}.get(shape, 0)
    if shape == "error":
        n_call = rng.randrange(3)
    plan = ["text"] * n_text + ["call"] * n_call
    if shape == "mixed":
        rng.shuffle(plan)
    end = rng.choice(ENDS) if n_call == 0 else rng.choice(("calls", "calls", "calls", "length"))
    cut_off = end == "length" and plan and plan[-1] == "call" and rng.random() < 0.7
    for i, kind in enumerate(plan):
        if rng.random() < 0.3:
            events.append(["alive", 5, 10])
        if kind == "text":
            text = random_text(rng, 1)
            events += [["text", p] for p in cut(rng, text, ".")]
            if items and items[-1]["kind"] == "text":
                items[-1]["text"] += text
            else:
                items.append({"kind": "text", "text": text})
            continue
        tool = rng.randrange(-1, 5)
        name = NAMES[tool] if tool >= 0 else "ghost"
        call_id = f"call_{number}x{i}"
        arguments = random_arguments(rng, tool)
        whole = json.dumps(arguments, ensure_ascii=False)
        pieces = list(cut(rng, whole))
        complete = not (cut_off and i + 1 == len(plan))
        if not complete:
            pieces = pieces[:rng.randrange(len(pieces))]
        events.append(["call", call_id, name, tool])
        for p in pieces:
            if rng.random() < 0.02:
                events.append(["alive", 10, 10])
            events.append(["arguments", p])
        events.append(["call_end", complete])
        items.append({"kind": "call", "id": call_id, "name": name, "tool": tool, "complete": complete,
                      "arguments": arguments, "told": "".join(pieces)})
    if rng.random() < 0.1:
        events.append(["warning", "The schema of read_file is left free."])
    d = {"items": items, "end": end, "usage": usage, "shape": shape, "stop": ""}
    if shape == "error":
        events.append(["error", "the device is lost"])
        return d, events
    d["stop"] = "STOP\n" if end == "stop_string" else ""
    events += [["end", end, d["stop"]], ["finish", usage["prompt"], usage["cached"], usage["completion"]]]
    if shape == "fault":
        d["fault"] = rng.choice(list(FAULTS))
    return d, events


# ---- what has to come out --------------------------------------------------------------

def calls_of(d):
    return [i for i in d["items"] if i["kind"] == "call"]


def expect_chat(d):
    calls = calls_of(d)
    cut_off = not all(c["complete"] for c in calls)
    reason = "length" if d["end"] in ("length", "context") or cut_off else "tool_calls" if calls else "stop"
    text = "".join(i["text"] for i in d["items"] if i["kind"] == "text")
    return {"content": text, "calls": [[c["id"], c["name"], c["told"]] for c in calls], "end": reason,
            "usage": [d["usage"]["prompt"], d["usage"]["completion"], d["usage"]["cached"]]}


def expect_response_item(i):
    if i["kind"] == "text":
        return ["text", i["text"]]
    if i["tool"] == 3:
        return ["custom", i["id"], i["name"], i["arguments"]["input"] if i["complete"] else None]
    if i["tool"] == 4:
        return ["shell", i["id"], i["arguments"]["command"] if i["complete"] else []]
    space = "agents" if i["tool"] == 2 else None
    return ["call", i["id"], "spawn" if space else i["name"], space, i["told"]]


def expect_responses(d):
    incomplete = d["end"] in ("length", "context") or not all(c["complete"] for c in calls_of(d))
    return {"items": [expect_response_item(i) for i in d["items"]],
            "end": "incomplete" if incomplete else "completed",
            "usage": [d["usage"]["prompt"], d["usage"]["completion"], d["usage"]["cached"]]}


def expect_messages(d):
    reason = {"length": "max_tokens", "context": "model_context_window_exceeded", "calls": "tool_use",
              "stop_string": "stop_sequence"}.get(d["end"], "end_turn")
    items = [["text", i["text"]] if i["kind"] == "text" else
             ["call", i["id"], i["name"], i["arguments"] if i["complete"] else None] for i in d["items"]]
    return {"items": items, "end": [reason, d["stop"] or None],
            "usage": [d["usage"]["prompt"] - d["usage"]["cached"], d["usage"]["completion"], d["usage"]["cached"]]}


EXPECT = {"chat": expect_chat, "responses": expect_responses, "messages": expect_messages}


def without_cut_off(got, want):
    """Of a call that was cut off each SDK makes what it likes; that it is there is enough."""
    for i, w in enumerate(want.get("items", ())):
        if w[-1] is None and i < len(got.get("items", ())) and w[0] in ("call", "custom"):
            got["items"][i][-1] = None
    return got


def wrong(job, d, got):
    if "fault" in d:
        want = {"status": FAULTS[d["fault"]]}
        return None if got.get("status") == want["status"] else f"want {want}"
    if d["shape"] == "error":
        return None if "the device is lost" in got.get("error", "") else "the error did not arrive"
    want = EXPECT[job["api"]](d)
    return None if without_cut_off(got, want) == want else f"want {want}"


# ---- the server ------------------------------------------------------------------------

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a piece waits until the one before is confirmed
    replies = {}  # key -> (status, type, body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        key = self.path.split("/")[1]
        status, kind, body = self.replies[key]
        self.send_response(status)
        self.send_header("content-type", kind)
        if kind == "application/json":
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        rng = random.Random(key)
        while body:
            n = rng.choice((1, 7, 100, 5000))
            piece, body = body[:n], body[n:]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # an SDK that closes its connection


def build(folder):
    out = os.path.join(folder, "answer_echo")
    library = os.environ.get("LIBTUG", str(ROOT / "build/libtug.a"))
    packages = subprocess.run(["pkg-config", "--libs", "libpcre2-8", "libutf8proc"], check=True,
                              stdout=subprocess.PIPE, text=True).stdout.split()
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-O1", "-D_GNU_SOURCE", f"-I{ROOT}/src",
                    f"-I{ROOT}/include", "-o", out, str(ROOT / "tests/long/answer_echo/answer_echo.c"),
                    library, *packages, "-lm", "-lpthread"], check=True)
    return out


def make_replies(jobs, dialogues):
    lines = []
    for job in jobs:
        d, events = dialogues[job["number"]]
        line = {"api": job["api"], "request": request(job["api"], job["stream"]), "id": f"{job['number']:024}",
                "events": events}
        if "fault" in d:
            line["fault"] = d["fault"]
        lines.append(json.dumps(line) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([build(folder)], input="".join(lines).encode(), stdout=subprocess.PIPE, check=True)
    out = done.stdout.decode().split("\n")
    for i, job in enumerate(jobs):
        status, kind = out[2 * i].split(" ")
        Handler.replies[job["key"]] = (int(status), kind, bytes.fromhex(out[2 * i + 1]))


# ---- the Python SDKs -------------------------------------------------------------------

def read_chat(c):
    m = c.choices[0].message
    return {"content": m.content or "", "end": c.choices[0].finish_reason,
            "calls": [[t.id, t.function.name, t.function.arguments] for t in m.tool_calls or []],
            "usage": [c.usage.prompt_tokens, c.usage.completion_tokens, c.usage.prompt_tokens_details.cached_tokens]}


def read_response_item(i):
    if i.type == "message":
        return ["text", "".join(p.text for p in i.content)]
    if i.type == "custom_tool_call":
        return ["custom", i.call_id, i.name, i.input]
    if i.type == "local_shell_call":
        return ["shell", i.call_id, i.action.command]
    return ["call", i.call_id, i.name, getattr(i, "namespace", None), i.arguments]


def read_response(r):
    if r.status == "failed":
        return {"error": r.error.message}
    return {"items": [read_response_item(i) for i in r.output], "end": r.status,
            "usage": [r.usage.input_tokens, r.usage.output_tokens, r.usage.input_tokens_details.cached_tokens]}


def read_message(m):
    items = [["text", b.text] if b.type == "text" else ["call", b.id, b.name, b.input] for b in m.content]
    return {"items": items, "end": [m.stop_reason, m.stop_sequence],
            "usage": [m.usage.input_tokens, m.usage.output_tokens, m.usage.cache_read_input_tokens]}


def check_deltas(pieces, items):
    """The accumulator's view of a response against its last event, which it trusts blindly."""
    told = {}
    for e in pieces:
        told[e.output_index] = told.get(e.output_index, "") + e.delta
    for i, item in enumerate(items):
        text = item[1] if item[0] == "text" else item[-1] if item[0] in ("call", "custom") else ""
        if told.get(i, "") != text:
            raise ValueError(f"deltas of item {i} say {told.get(i)!r}, the item {text!r}")


def ask_response(client, stream):
    if not stream:
        return read_response(client.responses.create(model="tiny", input="Hi"))
    last, pieces = None, []
    with client.responses.stream(model="tiny", input="Hi") as s:
        for event in s:
            if event.type.endswith(".delta"):
                pieces.append(event)
            if event.type in ("response.completed", "response.incomplete", "response.failed"):
                last = event.response
    got = read_response(last)
    if "items" in got:
        check_deltas(pieces, got["items"])
    return got


def types_of_events(union):
    """{the literal of its member `type`: the class}"""
    classes = typing.get_args(typing.get_args(union)[0])
    return {name: c for c in classes for name in typing.get_args(c.model_fields["type"].annotation)}


def schemas():
    """What the SDKs' types say of a body and of an event; their clients check nothing."""
    import anthropic.types
    import openai.types.chat
    import openai.types.responses
    return {"chat": (openai.types.chat.ChatCompletion, {None: openai.types.chat.ChatCompletionChunk}),
            "responses": (openai.types.responses.Response,
                          types_of_events(openai.types.responses.ResponseStreamEvent)),
            "messages": (anthropic.types.Message, types_of_events(anthropic.types.RawMessageStreamEvent))}


def check_schema(job, schema):
    """Every event in order, its name the type of its data, against the SDK's types."""
    status, kind, body = Handler.replies[job["key"]]
    if status != 200:
        return
    if kind == "application/json":
        schema[job["api"]][0].model_validate_json(body)
        return
    events = body.decode().split("\n\n")
    if events.pop() != "":
        raise ValueError("the last event has no end")
    number = 0
    for event in events:
        lines = event.split("\n")
        name = lines.pop(0)[len("event: "):] if lines[0].startswith("event: ") else None
        if len(lines) != 1 or event in (": keepalive", "data: [DONE]"):
            continue
        data = json.loads(lines[0].removeprefix("data: "))
        if (name or job["api"] != "chat") and name != data["type"]:
            raise ValueError(f"event {name} has type {data['type']}")
        if job["api"] == "responses" and data["sequence_number"] != number:
            raise ValueError(f"event {number} has number {data['sequence_number']}")
        number += 1
        if name not in ("ping", "error", "keepalive") and "error" not in data:
            schema[job["api"]][1][name].model_validate(data)


def openai_length_error():
    import openai
    return openai.LengthFinishReasonError


def ask(clients, job, base):
    api, stream = job["api"], job["stream"]
    say = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    if api == "messages":
        client = clients[1].with_options(base_url=f"{base}/{job['key']}")
        if not stream:
            return read_message(client.messages.create(max_tokens=100, **say))
        with client.messages.stream(max_tokens=100, **say) as s:
            return read_message(s.get_final_message())
    client = clients[0].with_options(base_url=f"{base}/{job['key']}/v1")
    if api == "responses":
        return ask_response(client, stream)
    if not stream:
        return read_chat(client.chat.completions.create(**say))
    with client.chat.completions.stream(stream_options={"include_usage": True}, **say) as s:
        try:
            return read_chat(s.get_final_completion())
        except openai_length_error():  # its way to report finish_reason "length"
            return read_chat(s.current_completion_snapshot)


def python_answers(jobs, base):
    import anthropic
    import openai
    print(f"python: openai {openai.__version__}, anthropic {anthropic.__version__}")
    clients = [sdk(base_url=base, api_key="none", max_retries=0) for sdk in (openai.OpenAI, anthropic.Anthropic)]
    schema = schemas()
    for job in jobs:
        try:
            check_schema(job, schema)
            yield ask(clients, job, base)
        except (openai.APIStatusError, anthropic.APIStatusError) as e:
            yield {"status": e.status_code, "error": str(e)}
        except Exception as e:  # whatever an SDK raises is its verdict
            yield {"error": f"{type(e).__name__}: {e}"}


def javascript_answers(jobs, base):
    script = Path(__file__).with_suffix(".mjs")
    folder = os.environ.get("SDK_JS", str(ROOT / "build/sdk-js"))
    for name in ("openai", "@anthropic-ai/sdk"):
        if not os.path.isdir(os.path.join(folder, "node_modules", name)):
            raise FileNotFoundError(f"{folder}/node_modules/{name}")
    done = subprocess.run(["node", str(script), folder, base], input=json.dumps(jobs).encode(),
                          stdout=subprocess.PIPE, check=True)
    lines = done.stdout.decode().split("\n")
    print(lines[0])
    return [json.loads(x) for x in lines[1:] if x]


def judge(name, jobs, dialogues, answers):
    failures = []
    for job, got in zip(jobs, answers, strict=True):
        why = wrong(job, dialogues[job["number"]][0], got)
        if why:
            failures.append((job, got, why))
    for job, got, why in failures[:5]:
        print(f"FAILED {name} {job}: got {got}; {why}")
        print(f"  {Handler.replies[job['key']][2][:1500]}")
    return len(failures)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    dialogues = [dialogue(rng, n) for n in range(count)]
    jobs = [{"key": f"{n}{api}{int(stream)}", "number": n, "api": api, "stream": stream}
            for n in range(count) for api in APIS for stream in (True, False)
            if stream or dialogues[n][0]["shape"] != "error"]
    make_replies(jobs, dialogues)
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    failed = skipped = passed = 0
    for name, answers in (("python", python_answers), ("javascript", javascript_answers)):
        try:
            n = judge(name, jobs, dialogues, list(answers(jobs, base)))
        except (ImportError, FileNotFoundError) as e:
            print(f"SKIPPED {name}: {e}")
            skipped += len(jobs)
            continue
        print(f"{name}: {count} dialogues, {len(jobs)} answers, {n} not as told")
        failed += n
        passed += len(jobs) - n
    print(f"sdk_streams: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
