#!/usr/bin/env python3
"""The HTTP server over raw sockets: requests cut anywhere, lengths that lie, slow clients,
names and pages that may not, clients that leave.  tests/long/http_long.py has the long form."""
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "serve"))
import http_cases as cases
from http_client import Server, Skip, get, percentile, post, read_reply, run_tests, within


def test_H1_cut_at_every_byte():
    with Server() as server:
        for request, status, body in cases.WHOLE:
            with server.connect() as s:
                f = s.makefile("rb")
                for cut in range(1, len(request)):
                    s.sendall(request[:cut])
                    if cut % 4 == 0:
                        time.sleep(0.0002)  # let the first part arrive alone
                    s.sendall(request[cut:])
                    reply = read_reply(f, head=request.startswith(b"HEAD"))
                    assert (reply.status, reply.body) == (status, body), (request, cut, reply.status)


def test_H2_smuggling():
    hidden = get("/stream?n=1")
    with Server() as server:
        for label, request in cases.SMUGGLED:
            got, closed = server.raw(request + hidden, rest=10)
            assert closed, f"{label}: the connection stays open: {got!r}"
            # libmicrohttpd 0.9.75 writes its own 400 for a bad Content-Length with two heads.
            doubled = got.startswith(2 * got[:got.find(b"\r\n\r\n") + 4])
            assert got.count(b"HTTP/1.1 ") == 1 + doubled and b"data:" not in got, f"{label}: {got!r}"
            assert b" 400 " in got[:20] or b" 413 " in got[:20] or b" 505 " in got[:20], f"{label}: {got!r}"
        assert server.stats()["written"] == 0


def test_H3_header_flood():
    with Server(header_s=1) as server:
        server.send(get("/health"))
        before, cpu = server.rss(), server.cpu()
        long_line = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (16 << 20)
        many_lines = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 1000000
        long_target = b"GET /" + b"a" * (1 << 20)
        for request in (long_line, many_lines, long_target):
            got, closed = server.raw(request)
            assert closed and (not got or got[9:12] in (b"431", b"414", b"413")), got[:80]
        wide = get("/health", *[f"X-{i}: y" for i in range(101)])
        assert server.raw(wide)[0][9:12] == b"431"
        fits = get("/health", "X: " + "y" * 30000)
        assert server.send(fits).status == 200
        assert server.raw(get("/health", "X: " + "y" * 33000))[0][9:12] == b"431"
        assert server.rss() - before < 1 << 20, (before, server.rss())
        assert server.cpu() - cpu < 1
        begin = time.monotonic()
        with server.connect() as s:  # a byte now and then, for ever
            try:
                while time.monotonic() < begin + 20:
                    s.sendall(b"G")
                    time.sleep(0.1)
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert 0.9 < time.monotonic() - begin < 10, time.monotonic() - begin


def test_H4_bodies():
    with Server(max_body=100000, header_s=1, stall_s=1) as server:
        with ThreadPoolExecutor(16) as pool:  # most of them end at a deadline
            answers = list(pool.map(lambda case: server.raw(case[1]), cases.BODIES))
        for (label, _, status), (got, closed) in zip(cases.BODIES, answers):
            assert got[9:12] == status, f"{label}: {got[:200]!r}"
            assert closed or status == b"200", label
        body = bytes(ord("a") + i % 26 for i in range(20000))
        chunks = b"".join(b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n"
        head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert server.send(head + chunks).body == body
        # Larger than allowed: read to the end, so that the client sees why.
        reply = server.send(post("/echo", b"x" * 300000))
        assert reply.status == 413 and reply.headers["connection"] == "close"
        with server.connect() as s:
            s.sendall(post("/echo", b"")[:-2].replace(b"Length: 0", b"Length: 999999") + b"Expect: 100-continue\r\n\r\n")
            assert read_reply(s).status == 413  # before a byte of it was sent


def test_H5_slow_clients():
    within(3, lambda: cases.slow_clients(300, seconds=2.5))


def test_H6_forms():
    with Server() as server:
        with server.connect() as s:  # pipelined
            s.sendall(get("/health") * 5 + get("/health", method="HEAD") + get("/nothing"))
            f = s.makefile("rb")
            for _ in range(5):
                assert read_reply(f).status == 200
            head = read_reply(f, head=True)
            assert head.status == 200 and head.headers["content-length"] == "11"
            assert read_reply(f).status == 404
            s.sendall(get("/health", "Connection: close"))
            assert read_reply(f).status == 200 and f.read() == b""
        with server.connect() as s:
            head, body = post("/echo", "{}", "Expect: 100-continue").split(b"\r\n\r\n", 1)
            s.sendall(head + b"\r\n\r\n")
            assert s.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(body)
            assert read_reply(s).body == b"{}"
        for label, request, status in cases.FORMS:
            got, _ = server.raw(request, rest=0.2)
            assert got[9:12] == status, f"{label}: {got!r}"
        reply = server.send(get("/x", method="OPTIONS"))
        assert reply.status == 204 and "access-control-allow-origin" not in reply.headers
        assert server.send(get("/x", method="DELETE")).status == 405
        one = server.send(b"GET /stream?n=3 HTTP/1.0\r\nHost: localhost\r\n\r\n".replace(b"/stream?n=3", b"/health"))
        assert one.status == 200
        got, closed = server.raw(b"GET /stream?n=3 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert closed and got.count(b"data:") == 3 and b"chunked" not in got
        assert server.until(lambda st: st["connections"] == 1)["connections"] == 1
        ids = {server.send(get("/health")).headers["x-request-id"] for _ in range(50)}
        assert len(ids) == 50
    with Server(header_s=1) as server:  # to the plain port: a line that never ends
        got, closed = server.raw(cases.TLS_HELLO)
        assert got[9:12] == b"408" and closed, got


def test_H8_no_descriptors():
    import resource
    with Server() as server:
        server.send(get("/health"))
        n = server.n_fds()
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (n + 8, n + 8))
        clients = [server.connect() for _ in range(40)]
        cpu = server.cpu()
        time.sleep(1)
        assert server.cpu() - cpu < 0.1, "it spins"
        for s in clients:
            s.close()
        end = time.monotonic() + 20
        while True:  # connections of before are still being closed
            try:
                assert server.send(get("/health")).status == 200
                break
            except (AssertionError, OSError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)


def test_A1_host():
    with Server(allow_host=["tug.example", "other.example:8443"]) as server:
        before = server.stats()["handled"]
        for host, status in cases.HOSTS:
            reply = server.send(get("/echo", host=host))
            assert reply.status == status, (host, reply.status)
        refused = [h for h, status in cases.HOSTS if status != 404]
        for label, request, status in cases.HOST_FORMS:
            got, _ = server.raw(request, rest=0.2)
            assert got[9:12] == status, f"{label}: {got!r}"
        assert server.stats()["handled"] == before + len(cases.HOSTS) - len(refused) + 2  # /nothing, /stats
    with Server(host="0.0.0.0", open=1) as server:
        for host, status in [("127.0.0.1", 404), ("localhost:1", 404), ("0.0.0.0", 421), ("10.1.2.3", 421), ("evil.example", 421)]:
            assert server.send(get("/echo", host=host)).status == status, host


def test_A2_origin():
    with Server(cors="https://chat.example") as server:
        base = server.stats()["handled"]
        n = allowed = 0
        for headers, ok in cases.origins(server.port):
            for request in (get("/echo", *headers, host=f"localhost:{server.port}"),
                            post("/echo", "{}", *headers, host=f"localhost:{server.port}"),
                            post("/echo", "{}", *headers, kind="text/plain", host=f"localhost:{server.port}"),
                            get("/echo", *headers, method="OPTIONS", host=f"localhost:{server.port}")):
                reply = server.send(request)
                plain = b"text/plain" in request
                want = 403 if not ok else 204 if request.startswith(b"OPTIONS") else 415 if plain else \
                    404 if request.startswith(b"GET") else 200
                assert reply.status == want, (headers, request[:20], reply.status, want)
                cors = "Origin: https://chat.example" in headers and "access-control-allow-origin" in reply.headers
                assert cors == ("access-control-allow-origin" in reply.headers), headers
                n += 1
                allowed += want in (200, 404)
        assert n >= 80 and server.stats()["handled"] == base + 1 + allowed
        reply = server.send(get("/echo", "Origin: https://chat.example", "Access-Control-Request-Method: POST",
                                "Access-Control-Request-Headers: authorization, content-type", method="OPTIONS"))
        assert reply.headers["access-control-allow-origin"] == "https://chat.example"
        assert reply.headers["access-control-allow-headers"] == "authorization, content-type"
        for kind, status in [(None, 200), ("application/json", 200), ("application/json; charset=utf-8", 200),
                             ("Application/JSON", 200), ("application/vnd.api+json", 200), ("text/plain", 415),
                             ("application/x-www-form-urlencoded", 415), ("multipart/form-data", 415),
                             ("text/plain;application/json", 415), ("application/jsonx", 415), ("", 415)]:
            request = post("/echo", "{}", kind=kind) if kind != "" else post("/echo", "{}", "Content-Type:", kind=None)
            assert server.send(request).status == status, kind


def test_A3_keys():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "keys")
        with open(path, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write("# keys\nalpha-key\nbeta-key\n")
        with Server(keys=path, host="0.0.0.0") as server:
            assert server.send(get("/health")).status == 200
            for headers, ok in cases.KEYS:
                for request in (get("/none", *headers), post("/echo", "{}", *headers), get("/stream?n=1", *headers)):
                    reply = server.send(request)
                    assert (reply.status != 401) == ok, (headers, reply.status)
                    if not ok:
                        assert reply.headers["www-authenticate"] == "Bearer"
        os.chmod(path, 0o644)
        done = subprocess.run([Server(keys=path).args[0], "--keys", path], capture_output=True, timeout=10)
        assert done.returncode == 2 and b"chmod 600" in done.stderr, done
    done = subprocess.run([Server().args[0], "--host", "0.0.0.0"], capture_output=True, timeout=10)
    assert done.returncode == 2 and b"key file" in done.stderr, done


def test_S1_leave_at_any_byte():
    cases.leave_at_every_byte(step=37)


def test_S4_slow_readers():
    with Server(stall_s=1) as server:
        slow = []
        for i in range(30):
            s = server.connect(receive=2048)
            s.sendall(get("/flood?n=100000000"))
            slow.append(s)
        took = []
        for _ in range(10):  # the worker goes on for others
            begin = time.monotonic()
            assert server.send(get("/late?ms=20")).status == 200
            took.append(time.monotonic() - begin)
        assert percentile(took, 0.5) < 0.5, took
        now = server.until(lambda st: st["jobs"] == 0)
        assert now["gone"] == 30 and now["jobs"] == 0, now
        assert now["backlog_max"] < (256 << 10) + (64 << 10), now
        for s in slow:
            s.close()


def test_unix_socket():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        with Server(unix=path) as server:
            assert os.stat(path).st_mode & 0o777 == 0o600
            assert server.send(post("/echo", "{}")).body == b"{}"
            assert server.send(get("/stream?n=3")).body.count(b"data:") == 3
            assert server.send(get("/x", host="evil.example")).status == 421
            with server.connect() as s:
                s.sendall(get("/hang"))
                server.until(lambda st: st["jobs"] == 1)
            assert server.until(lambda st: st["jobs"] == 0)["gone"] == 1
        assert not os.path.exists(path)
        left = socket.socket(socket.AF_UNIX)
        left.bind(path)
        left.close()  # a file that nobody listens on
        with Server(unix=path) as server:
            assert server.send(get("/health")).status == 200


def test_tls():
    with tempfile.TemporaryDirectory() as folder:
        cert, key = os.path.join(folder, "cert"), os.path.join(folder, "key")
        try:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                            "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                            "-keyout", key, "-out", cert], check=True, capture_output=True)
            subprocess.run(["curl", "--version"], check=True, capture_output=True)
        except FileNotFoundError as missing:
            raise Skip(f"needs {missing.filename}") from None
        with Server(cert=cert, key=key, stall_s=2) as server:
            def curl(*args):
                return subprocess.run(["curl", "-sS", "--cacert", cert, "--max-time", "10", *args],
                                      capture_output=True, check=False)
            base = f"https://localhost:{server.port}"
            assert curl(base + "/health").stdout == b'{"ok":true}'
            assert curl(base + "/stream?n=20&ms=2").stdout.count(b"data:") == 20
            assert len(curl(base + "/flood?n=3000000").stdout) == 3000000
            big = b"[" + b"1," * 500000 + b"1]"
            done = subprocess.run(["curl", "-sS", "--cacert", cert, "-H", "Content-Type: application/json",
                                   "--data-binary", "@-", base + "/echo"], input=big, capture_output=True, check=False)
            assert done.stdout == big, done.stderr
            gone = subprocess.run(["curl", "-s", "--cacert", cert, "--max-time", "2", base + "/hang"], check=False)
            assert gone.returncode == 28
            assert curl("--tls-max", "1.1", base + "/health").returncode != 0
            got, _ = server.raw(get("/health"), first=1)  # plain HTTP
            assert b"200" not in got
            end = time.monotonic() + 20
            while b'"jobs":0,"gone":1' not in (seen := curl(base + "/stats").stdout) and time.monotonic() < end:
                time.sleep(0.05)
            assert b'"jobs":0,"gone":1' in seen, seen


if __name__ == "__main__":
    sys.exit(run_tests("http", globals(), sys.argv[1:], alone=(test_H5_slow_clients, test_H8_no_descriptors)))
