#!/usr/bin/env python3
"""Many requests and many clients that leave: no request lost, no memory kept.

    TUG=build/tug tests/serve/load.py [REQUESTS]      default 20000, a tenth of them left midway

Short answers of the tiny model over four connections.  RSS is read at the end and after a
warm-up that fills what is kept on purpose (4,096 sampled turns, the sessions).  Printed: requests a second, growth of memory, open descriptors.
"""
import http.client
import json
import os
import random
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tug_server import Server  # noqa: E402

N_THREADS = 4
WARM_UP = 6000
# Growth that is left to the allocator's habits; a leak of 100 bytes a request is 2 MB at 20,000.
MAX_GROWTH = 1 << 20


def rss(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def body(rng, stream):
    words = ["add", "list", "file", "test", "main", "read", "write", "loop"]
    return json.dumps({"messages": [{"role": "user", "content": " ".join(rng.choices(words, k=rng.randint(1, 12)))}],
                       "max_tokens": rng.randint(1, 4), "stream": stream, "seed": rng.randint(0, 1 << 30)})


def leave(port, rng):
    """A stream whose client goes after a few bytes, one way or another."""
    data = body(rng, True).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as c:
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(data) + data)
        if rng.random() < 0.7:
            c.recv(rng.randint(1, 400))
        if rng.random() < 0.5:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Client(threading.Thread):
    def __init__(self, port, seed, n):
        super().__init__()
        self.port, self.rng, self.n, self.wrong = port, random.Random(seed), n, []

    def ask(self, connection):
        stream = self.rng.random() < 0.5
        connection.request("POST", "/v1/chat/completions", body(self.rng, stream), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        good = text.endswith(b"data: [DONE]\n\n") if stream else b'"finish_reason":"' in text
        if answer.status != 200 or not good:
            self.wrong.append((answer.status, text[-200:]))

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        for _ in range(self.n):
            try:
                if self.rng.random() < 0.1:
                    leave(self.port, self.rng)
                else:
                    self.ask(connection)
            except OSError as e:
                self.wrong.append((0, repr(e)))
                connection.close()
        connection.close()


def run(port, n, seed):
    clients = [Client(port, seed + i, n // N_THREADS) for i in range(N_THREADS)]
    for c in clients:
        c.start()
    for c in clients:
        c.join()
    return [w for c in clients for w in c.wrong]


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    with Server("-t", "1", "-c", "512", "--cache-ram", "0.2") as s:
        wrong = run(s.port, WARM_UP, 1)
        time.sleep(1)
        before, fds, start = rss(s.process.pid), descriptors(s.process.pid), time.monotonic()
        wrong += run(s.port, n, 1000)
        seconds = time.monotonic() - start
        time.sleep(1)
        growth, more = rss(s.process.pid) - before, descriptors(s.process.pid) - fds
        status = s.status()
    print(f"{n} requests, {n / seconds:.0f} a second; memory {growth / 1024:+.0f} KiB at "
          f"{before >> 20} MiB, descriptors {more:+d}; {len(wrong)} wrong")
    checks = {"every request was answered": not wrong, "memory stays": growth < MAX_GROWTH,
              "descriptors stay": more <= 0, "nothing runs on": not status["running"]}
    for what, good in checks.items():
        if not good:
            print(f"FAIL {what}: {wrong[:3]}")
    print(f"{sum(checks.values())} passed, {len(checks) - sum(checks.values())} failed")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
