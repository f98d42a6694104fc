#!/usr/bin/env python3
"""The long form of tests/cli/test_http.py: every byte of a stream, thousands of slow
clients, many clients that come and go."""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "serve"))
import http_cases as cases
from http_client import Server, Skip, get, leave, post, read_reply, run_tests, within


def test_S1_leave_at_every_byte():
    cases.leave_at_every_byte(step=1)


def test_H5_ten_thousand_slow_clients():
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12000:
        raise Skip(f"needs 12000 descriptors, may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 12000), hard))
    within(2, lambda: cases.slow_clients(3334, seconds=20, header_s=10, stall_s=10))


def test_churn():
    """20,000 requests, one in ten of them left at a random moment: nothing stays."""
    with Server() as server:
        server.until(lambda st: st["connections"] == 1)
        fds = server.n_fds()

        def client(seed):
            rng = random.Random(seed)
            for _ in range(250):
                with server.connect(30) as s:
                    f = s.makefile("rb")
                    for _ in range(9):
                        body = b"x" * rng.randrange(3000)
                        s.sendall(post("/echo", body))
                        assert read_reply(f).body == body
                    s.sendall(get(rng.choice(["/stream?n=1000", "/flood?n=9999999", "/hang", "/late?ms=5"])))
                    time.sleep(rng.random() * 0.003)
                    leave(s, rng.choice(["fin", "rst", "half"]))
        half = 0
        for rounds in range(2):
            clients = [threading.Thread(target=client, args=(8 * rounds + i,)) for i in range(8)]
            for c in clients:
                c.start()
            for c in clients:
                c.join()
            now = server.until(lambda st: st["connections"] == 1 and st["jobs"] == 0, 10)
            assert now["connections"] == 1 and now["jobs"] == 0, now
            time.sleep(0.2)
            assert server.n_fds() <= fds, (fds, server.fds())
            half = half or server.rss()
        grown = server.rss() - half
        print(f"{now['handled']} requests; memory of the second half: {grown >> 10} KiB more")
        assert grown < 4 << 20


if __name__ == "__main__":
    sys.exit(run_tests("http_long", globals(), sys.argv[1:], alone=[t for n, t in globals().items() if n.startswith("test_")]))
