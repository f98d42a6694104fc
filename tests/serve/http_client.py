"""Raw sockets against tests/serve/http_echo.c, for tests that must say exactly which bytes
go over the wire."""
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ECHO = os.environ.get("HTTP_ECHO", "build/tests/serve/http_echo")


class Server:
    """http_echo with options, ended at the end of the block; ends with 0 or fails."""

    def __init__(self, **options):
        args = [ECHO]
        self.unix = options.get("unix")
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                args += ["--" + name.replace("_", "-"), str(one)]
        self.args = args

    def __enter__(self):
        self.process = subprocess.Popen(self.args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self.process.stdout.readline()
        assert line.startswith(b"port "), line
        self.port = int(line.split()[1])
        return self

    def __exit__(self, kind, *rest):
        self.process.stdin.close()
        try:
            code = self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "no end after 20 s"
        if kind is None:
            assert code == 0, f"http_echo ended with {code}"

    def connect(self, timeout=10, receive=None):
        s = socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET)
        if receive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.settimeout(timeout)
        s.connect(self.unix or ("127.0.0.1", self.port))
        if not self.unix:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def send(self, request, timeout=10):
        """One request on a connection of its own: its Reply."""
        with self.connect(timeout) as s:
            s.sendall(request)
            return read_reply(s)

    def raw(self, request, first=30, rest=3):
        """Everything that comes back until the server closes or is silent for `rest` seconds
        (`first` before the first byte); True when it closed."""
        with self.connect(first) as s:
            try:
                s.sendall(request)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_all(s, rest)

    def stats(self):
        return json.loads(self.send(get("/stats")).body)

    def until(self, what, seconds=20):
        """Waits until what(stats) holds; the last stats."""
        end = time.monotonic() + seconds
        while True:
            now = self.stats()
            if what(now) or time.monotonic() > end:
                return now
            time.sleep(0.02)

    def rss(self):
        text = open(f"/proc/{self.process.pid}/status", encoding="ascii").read()
        return int(re.search(r"VmRSS:\s*(\d+)", text)[1]) * 1024

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def fds(self):
        """What they lead to; one that is closed while we look is none."""
        folder, found = f"/proc/{self.process.pid}/fd", []
        for fd in os.listdir(folder):
            try:
                found.append(os.readlink(os.path.join(folder, fd)))
            except FileNotFoundError:
                pass
        return sorted(found)

    def n_fds(self):
        return len(self.fds())


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


def get(path, *headers, method="GET", host="localhost"):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def post(path, body, *headers, kind="application/json", host="localhost"):
    if isinstance(body, str):
        body = body.encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *headers]
    if kind:
        lines.append(f"Content-Type: {kind}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def read_all(s, rest):
    got, closed = b"", False
    try:
        while True:
            piece = s.recv(65536)
            if not piece:
                closed = True
                break
            got += piece
            s.settimeout(rest)
    except ConnectionResetError:
        closed = True
    except (TimeoutError, socket.timeout):
        pass
    return got, closed


def read_line(f):
    line = f.readline(70000)
    assert line.endswith(b"\r\n"), f"cut line {line!r}"
    return line[:-2]


def read_reply(s, head=False):
    """One reply of a connection; 100 Continue is skipped."""
    f = s.makefile("rb", buffering=0) if isinstance(s, socket.socket) else s
    status = int(read_line(f).split()[1])
    headers = {}
    while line := read_line(f):
        name, value = line.split(b":", 1)
        headers[name.decode().lower()] = value.strip().decode("latin-1")
    if status == 100:
        return read_reply(f, head)
    body = b""
    if not head and headers.get("transfer-encoding") == "chunked":
        while n := int(read_line(f), 16):
            body += read_exactly(f, n)
            assert read_line(f) == b""
        assert read_line(f) == b""
    elif not head and status not in (204, 304):
        body = read_exactly(f, int(headers["content-length"]))
    return Reply(status, headers, body)


def read_exactly(f, n):
    got = b""
    while len(got) < n:
        piece = f.read(n - len(got))
        assert piece, f"{len(got)} of {n} bytes"
        got += piece
    return got


def reset(s):
    """Closes with RST instead of FIN."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def leave(s, how):
    if how == "fin":
        s.close()
    elif how == "rst":
        reset(s)
    else:
        s.shutdown(socket.SHUT_WR)


def within(attempts, test):
    """Of a test that other work on the machine can only make worse: one of them has to pass."""
    for _ in range(attempts - 1):
        try:
            return test()
        except AssertionError as e:
            print(f"once more: {e}")
    return test()


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p))]


def time_requests(port, n):
    """Seconds of each of n GETs on one kept connection, by a process of its own: the one
    that makes the load has the interpreter's lock."""
    done = subprocess.run([sys.executable, __file__, str(port), str(n)], capture_output=True, check=True)
    return json.loads(done.stdout)


def time_here(port, n):
    took = []
    with socket.create_connection(("127.0.0.1", port), 30) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        f = s.makefile("rb")
        for _ in range(n):
            begin = time.perf_counter()
            s.sendall(get("/health"))
            assert read_reply(f).status == 200
            took.append(time.perf_counter() - begin)
            time.sleep(0.002)
    return took


def run_one(label, test):
    """What came out, as a key of the counts and lines to print."""
    begin = time.monotonic()
    lines, outcome = [], "passed"
    try:
        test()
    except Skip as why:
        outcome = "skipped"
        lines.append(f"skip: {label}: {why}")
    except Exception as e:  # a socket that was closed early is a failure like any other
        outcome = "failed"
        lines.append(f"FAIL {label}: {type(e).__name__}: {e}")
    return outcome, lines + [f"{label}: {time.monotonic() - begin:.2f} s"]


def run_tests(name, tests, wanted, alone=()):
    """Runs the functions test_*, four at a time since they mostly wait; those in `alone`,
    which measure time, one by one.  A test that raises Skip is skipped, visibly."""
    labels = [t for t in tests if t.startswith("test_") and (not wanted or any(w in t for w in wanted))]
    together = [t for t in labels if tests[t] not in alone]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda t: run_one(t, tests[t]), together))
    results += [run_one(t, tests[t]) for t in labels if tests[t] in alone]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome, lines in results:
        counts[outcome] += 1
        print("\n".join(lines))
    print(f"{name}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    return 1 if counts["failed"] else 0


class Skip(Exception):
    pass


if __name__ == "__main__":
    print(json.dumps(time_here(int(sys.argv[1]), int(sys.argv[2]))))
