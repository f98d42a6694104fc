"""A `tug serve` for a test: started on a free port of loopback, ended at exit.

    with Server(script=[{"say": "Hello", "times": 0}]) as s:
        print(s.post("/v1/chat/completions", {"messages": [...]}).json())
"""
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "models", "tug-tiny-coder-q8_0.gguf")
SANITIZED = any(s in os.environ.get("TUG", "") for s in ("asan", "tsan"))


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def text(self):
        return self.body.decode()

    def events(self):
        """[(event name or None, parsed data or text)] of a stream."""
        found = []
        for block in self.text().split("\n\n"):
            name, data = None, None
            for line in block.split("\n"):
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    data = line[6:]
            if data is not None:
                found.append((name, data if data == "[DONE]" else json.loads(data)))
        return found


class Server:
    """script: rules of `tug serve --script`, which build/tests/tug-scripted has; model None: the
    one that it finds by itself."""

    def __init__(self, *args, script=None, model=MODEL, tug=None, env=None):
        plain = os.environ.get("TUG", os.path.join(ROOT, "build/tug"))
        scripted = os.path.join(os.path.dirname(plain), "tests", "tug-scripted")
        self.tug = os.path.abspath(tug or (plain if script is None else scripted))
        self.args = [*(["-m", model] if model else []), "--port", "0", "--drain-timeout", "1", *args]
        self.script, self.env, self.process, self.port = script, env, None, None

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        if self.script is not None:
            path = self.stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".json"))
            json.dump(self.script, path)
            path.flush()
            self.args += ["--script", path.name]
        self.log = self.stack.enter_context(tempfile.TemporaryFile("w+"))
        self.process = subprocess.Popen([self.tug, "serve", *self.args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.log, env=self.env)
        deadline = time.monotonic() + 60
        while self.port is None:
            found = re.search(r"://[^ ]*:(\d+)", self.said())
            if found:
                self.port = int(found.group(1))
            elif self.process.poll() is not None or time.monotonic() > deadline:
                text = self.said()
                self.__exit__("not started")
                raise RuntimeError(f"tug serve did not start: {text}")
            else:
                time.sleep(0.02)
        return self

    def __exit__(self, failed=None, *_):
        """A server that does not end well, or that a sanitizer complained of, is a failure."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        text, code = self.said(), self.process.returncode
        self.stack.close()
        if failed is None and (code != 0 or re.search(r"Sanitizer|runtime error", text)):
            raise RuntimeError(f"tug serve ended with {code}: {text[-6000:]}")

    def said(self):
        self.log.seek(0)
        return self.log.read()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self, sig=signal.SIGTERM, timeout=60):
        self.process.send_signal(sig)
        return self.process.wait(timeout)

    def connect(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=120):
        c = self.connect(timeout)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return Answer(r.status, {k.lower(): v for k, v in r.getheaders()}, r.read())
        finally:
            c.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, headers=None, **more):
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return self.request("POST", path, data, {"Content-Type": "application/json", **(headers or {})}, **more)

    def status(self):
        return self.get("/status").json()


def small_model(folder):
    """For tests of the server under a sanitizer, where kernels take ten times as long."""
    path = os.path.join(folder, "small.gguf")
    subprocess.run([os.environ.get("TUG", "build/tug"), "synth", "-o", path, "--like", "tiny", "--quant", "Q8_0",
                    "--layers", "4", "--experts", "2", "--experts-used", "1", "--dim", "64", "--heads", "1",
                    "--kv-heads", "1", "--head-dim", "32", "--delta-k-heads", "1", "--delta-v-heads", "1",
                    "--expert-dim", "32", "--shared-dim", "32", "--vocab-size", "1024"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path


def run_tests(names, argv):
    """Runs test_* of a dict of globals; prints what run.py reads; returns the exit code."""
    import traceback
    passed = failed = 0
    for name, fn in sorted(names.items()):
        if not name.startswith("test_") or not callable(fn) or (argv and not any(a in name for a in argv)):
            continue
        try:
            fn()
            passed += 1
        except Exception:  # noqa: BLE001 - a test may fail with anything
            failed += 1
            print(f"FAIL {name}\n{traceback.format_exc()}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
