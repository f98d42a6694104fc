#!/usr/bin/env python3
"""Load on `tug serve`: many streams at once, many requests and clients that leave, many slow
connections.  No request is lost, memory stays, a good client hardly notices.

    TUG=build/tug tests/serve/load.py [--full] [NAME ...]      only tests whose name contains NAME

Short form: 200 streams, 3,000 requests (300 left midway), 1,000 slow connections; --full:
100,000 requests and 10,000 connections.  What is measured is printed.  Under a sanitizer there
is less of each without --full, a smaller model, and memory is not judged (it keeps what was freed);
it reports leaks itself when the server ends.
"""
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import resource
import socket
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from tug_server import MODEL, SANITIZED, Server, run_tests, small_model  # noqa: E402

FULL = "--full" in sys.argv
N_THREADS = 4
ROUNDS = 50 if FULL else 1 if SANITIZED else 5
SETTLING = 24  # conversations, more than "--cache-ram" below keeps
WORDS = ["add", "list", "file", "test", "main", "read", "write", "loop"]
# What tug keeps is measured, not what the C library does: it keeps up to seven freed blocks of each size
# for each thread, which fill slowly when one thread frees what another got (some 2 bytes a request, less
# and less), and large freed blocks.  Both off.
MAX_GROWTH = 1 << 20
QUIET_MALLOC = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072",
                "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
# What one waiting stream may cost: its request, prompt, answer, buffers of its connection.
PER_STREAM = 128 << 10


def rss(s):
    with open(f"/proc/{s.process.pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def metric(s, name):
    lines = s.get("/metrics").text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"tug_{name} "))


def beside_cache(s):
    """Memory without what is kept on purpose, and bounded: conversations, whose number goes up and down,
    and finished turns, which become more as long as new ones come."""
    return rss(s) - int(metric(s, "cache_bytes") + metric(s, "replay_bytes"))


def descriptors(s):
    return len(os.listdir(f"/proc/{s.process.pid}/fd"))


class Watch(threading.Thread):
    """Looks at the server's memory until the block ends: [(seconds, bytes)]."""

    def __init__(self, s, every):
        super().__init__(daemon=True)
        self.s, self.every, self.seen, self.end = s, every, [], threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.join()

    def run(self):
        start = time.monotonic()
        while not self.end.wait(self.every):
            self.seen.append((time.monotonic() - start, rss(self.s)))


def slope(seen):
    """Of [(x, y)] by least squares."""
    x, y = [sum(column) / len(seen) for column in zip(*seen)]
    return sum((a - x) * (b - y) for a, b in seen) / sum((a - x) ** 2 for a, _ in seen)


# ---- many streams ----------------------------------------------------------------------

def text_of(answer):
    return "".join(c["delta"].get("content") or "" for _, e in answer.events() if e != "[DONE]" for c in e["choices"])


def test_streams():
    """200 at once (50 under a sanitizer), four computed at a time."""
    n = 50 if SANITIZED and not FULL else 200
    say = "One two three four five. "
    body = {"messages": [{"role": "user", "content": "Count. " * 20}], "stream": True}
    with Server("-t", "1", "--cache-ram", "0.2", script=[{"say": say, "times": 0}], env=QUIET_MALLOC) as s:
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            assert text_of(s.post("/v1/chat/completions", body)).strip() == say.strip()
            before, start = rss(s), time.monotonic()
            with Watch(s, 0.02) as watch:
                answers = list(pool.map(lambda _: s.post("/v1/chat/completions", body, timeout=600), range(n)))
            seconds = time.monotonic() - start
        most = max([m for _, m in watch.seen] + [rss(s)]) - before
        assert {text_of(a) for a in answers} == {say}, {a.status for a in answers}
        print(f"{n} streams in {seconds:.1f} s, memory at most {most / 1024:+.0f} KiB")
        # besides them three more conversations are kept than before
        kept = s.status()["cache"]["bytes"]
        assert SANITIZED or most < kept + n * PER_STREAM, (most, kept)


# ---- many requests ---------------------------------------------------------------------

def body_of(rng, stream):
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))
    return json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": rng.randint(1, 4),
                       "stream": stream, "seed": rng.randint(0, 1 << 30)})


def leave(port, rng):
    """A stream whose client goes after a few bytes, one way or another."""
    data = body_of(rng, True).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=120) as c:
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(data) + data)
        if rng.random() < 0.7:
            c.recv(rng.randint(1, 400))
        if rng.random() < 0.5:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def client(port, seed, n):
    """n requests over one connection, every tenth left midway on another: what went wrong."""
    rng, wrong = random.Random(seed), []
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    for i in range(n):
        if i % 10 == 9:
            leave(port, rng)
            continue
        stream = rng.random() < 0.5
        c.request("POST", "/v1/chat/completions", body_of(rng, stream), {"Content-Type": "application/json"})
        answer = c.getresponse()
        text = answer.read()
        if answer.status != 200 or not (text.endswith(b"data: [DONE]\n\n") if stream else b'"finish_reason":"' in text):
            wrong.append((answer.status, text[-200:]))
    c.close()
    return wrong


def ask_many(s, n, seed):
    with concurrent.futures.ThreadPoolExecutor(N_THREADS) as pool:
        jobs = [pool.submit(client, s.port, seed + i, n // N_THREADS) for i in range(N_THREADS)]
        return [w for job in jobs for w in job.result()]


def until_idle(s, seconds=30):
    deadline = time.monotonic() + seconds
    while s.status()["running"]:
        assert time.monotonic() < deadline, s.status()
        time.sleep(0.02)


def settle(s):
    """The same last conversations each time, more than are kept: what else is in memory can be compared
    then.  (States count as kept before their pages are touched.)"""
    until_idle(s)
    rng = random.Random(0)
    for _ in range(SETTLING):
        assert s.post("/v1/chat/completions", json.loads(body_of(rng, False))).status == 200
    until_idle(s)


def test_requests():
    """A tenth of the clients leave.  A warm-up first fills the sampled turns that are kept on
    purpose (4,096 at most).  Few conversations are kept, as memory beside them is what counts."""
    n, warm_up = (100000, 10000) if FULL else (100, 0) if SANITIZED else (3000, 6000)
    with contextlib.ExitStack() as stack:
        model = MODEL
        if SANITIZED:
            model = small_model(stack.enter_context(tempfile.TemporaryDirectory()))
        s = stack.enter_context(Server("-t", "1", "-c", "512", "--cache-ram", "0.05", model=model, env=QUIET_MALLOC))
        wrong = ask_many(s, warm_up, 1)
        settle(s)
        before, fds, start = beside_cache(s), descriptors(s), time.monotonic()
        # Looked at between rounds: a state of megabytes that is just being copied would say more than
        # all that is left behind.
        seen = [(0.0, before)]
        for i in range(ROUNDS):
            wrong += ask_many(s, n // ROUNDS, 1000 + N_THREADS * i)
            settle(s)
            seen.append((time.monotonic() - start, beside_cache(s)))
        seconds, growth = seen[-1][0], seen[-1][1] - before
        half = seen[ROUNDS // 2:]
        a_second, fifth = slope(half), max(1, ROUNDS // 5)
        fifths = [sum(m - before for _, m in seen[i:i + fifth]) / fifth / 1024 for i in range(1, ROUNDS + 1, fifth)]
        print(f"{n} requests, {n / seconds:.0f} a second; memory {growth / 1024:+.0f} KiB at {before >> 20} MiB, "
              f"second half {a_second * seconds / n:+.1f} bytes a request, {a_second * 3600 / (1 << 20):+.1f} MiB/h, "
              f"fifths {' '.join(f'{f:+.0f}' for f in fifths)} KiB")
        assert not wrong, (len(wrong), wrong[:3])
        assert SANITIZED or growth < MAX_GROWTH, growth
        deadline = time.monotonic() + 10
        while descriptors(s) > fds:
            assert time.monotonic() < deadline, (descriptors(s), fds)
            time.sleep(0.05)


# ---- many connections ------------------------------------------------------------------

def latencies(s, seconds):
    """Of a good client that asks for one token again and again: (p50, p99, n)."""
    c, took = s.connect(), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        c.request("POST", "/v1/completions", '{"prompt": "def f(", "max_tokens": 1, "temperature": 0}',
                  {"Content-Type": "application/json"})
        answer = c.getresponse()
        assert answer.status == 200 and answer.read(), answer.status
        took.append(time.monotonic() - start)
    c.close()
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100], len(took)


def open_slow(s, n):
    """A third each: idle after an answer, in the middle of its head, in the middle of its body."""
    found = []
    for i in range(n):
        c = socket.create_connection(("127.0.0.1", s.port), timeout=60)
        if i % 3 == 0:
            c.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert c.recv(4096).startswith(b"HTTP/1.1 200")
        elif i % 3 == 1:
            c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0")
        else:
            c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                      b"Content-Length: 99999\r\n\r\n{")
        found.append(c)
    return found


def connections(s):
    text = s.get("/metrics").text()
    return int(float(text.split("\ntug_connections ")[1].split("\n")[0]))


def test_slow_connections():
    n, seconds = (10000, 20) if FULL else (1000, 4)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < n + 1000:
        print(f"skip slow_connections: needs {n + 1000} descriptors, may have {hard}")
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, n + 1000), hard))
    with Server("-t", "1", "-c", "512", "--cache-ram", "0.2") as s:
        latencies(s, 1)
        before, memory = latencies(s, seconds), rss(s)
        slow = open_slow(s, n)
        there = connections(s)
        beside = latencies(s, min(seconds, 8))  # heads are given ten seconds
        memory = rss(s) - memory
        for c in slow:
            c.close()
        deadline = time.monotonic() + 30
        while connections(s) > 1:
            assert time.monotonic() < deadline, connections(s)
            time.sleep(0.05)
        after = latencies(s, seconds)
        for name, (p50, p99, count) in (("before", before), (f"beside {there}", beside), ("after", after)):
            print(f"{name}: p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms of {count}")
        print(f"memory {memory / n / 1024:.1f} KiB a connection")
        assert there > n, there
        # 50 ms: other work on the machine
        assert beside[1] < 2 * max(before[1], after[1]) + 0.05, (before, beside, after)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), [a for a in sys.argv[1:] if a != "--full"]))
