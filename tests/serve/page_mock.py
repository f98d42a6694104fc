"""A server of the page with states that a test can choose: what /status says, and the
events of an answer.  The page's bytes and its policy are those that are built in."""
import copy
import functools
import http.server
import json
import re
import subprocess
import threading
import time

GB = 1000 ** 3

IDLE = {
    "version": "0.4.0", "uptime_s": 93784.2,
    "model": {"id": "qwen3-coder-next", "name": "Qwen3 Coder Next", "arch": "qwen3next",
              "path": "/models/Qwen3-Coder-Next-Q4_K_M-00001-of-00002.gguf",
              "n_params": 79_674_391_296, "n_bytes": 48_412_000_000, "n_ctx": 131072,
              "n_layer": 48, "cpu_level": "avx512", "n_threads": 16},
    "memory": [{"tier": "RAM", "total": 64 * GB, "used": 51_600_000_000, "parts": [
        {"name": "weights", "bytes": 48_412_000_000}, {"name": "kv cache", "bytes": 0},
        {"name": "recurrent state", "bytes": 0}, {"name": "save points", "bytes": 0}]}],
    "gpu": None,
    "speed": {"prefill_tok_s": None, "decode_tok_s": None},
    "queue": {"waiting": 0, "running": 0, "limit": 64},
    "running": [], "recent": [],
    "cache": {"sessions": 0, "max_sessions": 4, "bytes": 0, "ceiling": 8 * GB,
              "reused_tokens": 0, "computed_tokens": 0},
}


def busy():
    s = copy.deepcopy(IDLE)
    s["memory"][0]["used"] = 57_900_000_000
    for part, n in zip(s["memory"][0]["parts"], (48.412, 3.2, 0.31, 0.9)):
        part["bytes"] = int(n * GB)
    s["memory"].append({"tier": "VRAM", "total": 12 * GB, "used": 9 * GB, "parts": [
        {"name": "experts", "bytes": 7 * GB}, {"name": "kv cache", "bytes": GB}]})
    s["gpu"] = {"expert_uses": 400_000, "expert_hits": 236_000, "promoted": 9_100, "seeded": 700,
                "returned": 5_200, "carried": 12_000, "expert_in_bytes": 33 * GB, "in_bytes": 41 * GB, "out_bytes": 2 * GB}
    s["speed"] = {"prefill_tok_s": 412.6, "decode_tok_s": 23.48}
    s["queue"] = {"waiting": 1, "running": 2, "limit": 64}
    s["running"] = [
        {"id": "resp_a", "api": "responses", "state": "decode", "n_prompt": 21410,
         "n_cached": 20992, "done": 21410, "n_completion": 187, "age_s": 12.4},
        {"id": "msg_b", "api": "messages", "state": "prefill", "n_prompt": 34125,
         "n_cached": 6144, "done": 19456, "n_completion": 0, "age_s": 41.0},
        {"id": "chat_c", "api": "chat", "state": "queued", "n_prompt": 9120,
         "n_cached": 0, "done": 0, "n_completion": 0, "age_s": 2.0}]
    now = 1764000000
    s["recent"] = [
        {"id": f"r{i}", "api": api, "started": now - 61 * i, "n_prompt": n, "n_cached": cached,
         "n_completion": out, "prefill_s": pre, "decode_s": dec, "end": end}
        for i, (api, n, cached, out, pre, dec, end) in enumerate([
            ("responses", 20992, 20480, 312, 1.3, 13.4, "tool calls"),
            ("chat", 18411, 17920, 96, 1.2, 4.1, "stop"),
            ("messages", 34011, 0, 3, 82.4, 0.1, "canceled"),
            ("chat", 812, 0, 4096, 2.1, 173.9, "length"),
            ("completions", 240, 128, 41, 0.4, 1.8, "stop")])]
    s["cache"] = {"sessions": 3, "max_sessions": 4, "bytes": 2_140_000_000, "ceiling": 8 * GB,
                  "reused_tokens": 181_220, "computed_tokens": 60_911}
    return s


def chunk(delta, finish=None, **more):
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
            "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return "data: " + json.dumps({**body, **more}) + "\n\n"


def answer(texts, finish="stop", pause=0.0):
    """The events of an answer: a number is a pause in it, a threading.Event holds it up."""
    out = [chunk({"role": "assistant", "content": ""}), ": keepalive\n\n"]
    for text in texts:
        out += [pause, chunk({"content": text})] if isinstance(text, str) else [text]
    usage = {"prompt_tokens": 40, "completion_tokens": len(texts), "total_tokens": 0,
             "prompt_tokens_details": {"cached_tokens": 30}}
    return out + [chunk({}, finish), chunk({}, choices=[], usage=usage), "data: [DONE]\n\n"]


@functools.lru_cache(maxsize=None)
def built_in_page():
    """(bytes, policy) as the C that is linked in has them."""
    page = "src/serve/page/index.html"
    text = subprocess.run(["sh", "tools/embed_page.sh", page], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    table, functions = text[text.index("[] = {") + 6:].split("};", 1)
    parts = functions[functions.index("tug_str_of("):]
    return (bytes(int(n) for n in re.findall(r"\d+", table)),
            "".join(re.findall(r'"([^"]*)"', parts)))


class Mock(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port=0):
        self.page, self.policy = built_in_page()
        self.status = copy.deepcopy(IDLE)
        self.key, self.events, self.refusal = None, answer(["Hello."]), None
        self.seen, self.bodies, self.hung_up = [], [], threading.Event()
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def polls(self):
        return sum(path == "/status" for path in self.seen)

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def whole(self, status, content_type, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": content_type, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def json(self, status, value):
        self.whole(status, "application/json", json.dumps(value).encode())

    def allowed(self):
        key = self.server.key
        if key is None or self.headers.get("Authorization") == "Bearer " + key:
            return True
        self.json(401, {"error": {"message": "An API key is needed.", "type": "x"}})
        return False

    def do_GET(self):
        self.server.seen.append(self.path)
        if self.path == "/":
            self.whole(200, "text/html; charset=utf-8", self.server.page,
                       Content_Security_Policy=self.server.policy)
        elif self.path != "/status":
            self.json(404, {"error": {"message": "no such path"}})
        elif self.allowed():
            self.json(200, self.server.status)

    def do_POST(self):
        self.server.seen.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.allowed():
            return
        self.server.bodies.append(json.loads(body))
        if self.server.refusal:
            self.json(*self.server.refusal)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for event in self.server.events:
                if isinstance(event, str):
                    self.wfile.write(event.encode())
                elif isinstance(event, threading.Event):
                    event.wait(10)
                else:
                    time.sleep(event)
        except OSError:
            self.server.hung_up.set()
