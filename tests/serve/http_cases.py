"""The tables of the HTTP tests, and the cases that have a quick and a long form."""
import threading
import time

from http_client import Server, get, leave, percentile, post, read_reply, time_requests

H = b"Host: localhost\r\n"

# (request, status, body)
WHOLE = [
    (get("/health"), 200, b'{"ok":true}'),
    (get("/health?a=b&c=%20d", "X-Long: " + "v" * 40), 200, b'{"ok":true}'),
    (get("/health", method="HEAD"), 200, b""),
    (post("/echo", '{"a": [1, 2]}'), 200, b'{"a": [1, 2]}'),
    (b"POST /echo HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\n\r\n",
     200, b"hello world"),
    (b"POST /echo HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
     200, b"0123456789"),
    (get("/stream?n=2&size=3"), 200, b"data: 000000 xxx\n\ndata: 000001 xxx\n\n"),
    (get("/nothing", host="127.0.0.1:80"), 404, b'{"error":"no such path"}'),
]


def lengths(*headers, body=b"hello"):
    return b"POST /echo HTTP/1.1\r\n" + H + b"".join(h + b"\r\n" for h in headers) + b"\r\n" + body


SMUGGLED = [(repr(label)[:60], request) for label, request in
    [(h, lengths(*h)) for h in [
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: 5,6",),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunkedx",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: \x0bchunked",),
        (b"Transfer-Encoding:",),
        (b"Transfer-Encoding : chunked",),
        (b"Transfer-Encoding\t: chunked",),
        (b"Transfer_Encoding: chunked", b"Content-Length: x"),
        (b"X: y\nTransfer-Encoding: chunked",),
        (b"X: y\r\n Transfer-Encoding: chunked",),
        (b"Transfer-Encoding: chunked\r\n ",),
        (b"X: y\rTransfer-Encoding: chunked",),
        (b"Content-Length: +5",), (b"Content-Length: -5",), (b"Content-Length: 0x5",), (b"Content-Length: 5.0",),
        (b"Content-Length: 5 5",), (b"Content-Length: 5a",), (b"Content-Length:",), (b"Content-Length: five",),
        (b"Content-Length: \xb2",), (b"Content-Length : 5",), (b"Content-Length\x00: 5",), (b"Content-Length: 5\x00",),
        (b"Content-Length: 18446744073709551621",), (b"Content-Length: 9223372036854775813",),
        (b"Content-Length: 99999999999999999999999999",),
        (b"Content-Length: 5\r\n\t6",), (b"\x00: 1",), (b"X: a\x00b",), (b": 5",), (b" X: 5",), (b"no colon",),
        (b"X y: 5",), (b"X(: 5",),
    ]] +
    [(r, r) for r in [
        b"GET /health HTTP/1.1\nHost: localhost\n\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: y\n\r\n",
        b"GET /he\x00alth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1 \r\nHost: localhost\r\n\r\n",
        b"GET /health x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"G(T /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /echo HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?a=%0d%0ab HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]] +
    [(c, lengths(b"Transfer-Encoding: chunked", body=c)) for c in [
        b"-2\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"\r\n0\r\n\r\n", b"g\r\nhello\r\n0\r\n\r\n",
        b"11111111111111111\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n",
    ]]]

CHUNKED = b"POST /echo HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"

# (label, request, status) with max_body=100000
BODIES = [
    ("too long, said so", lengths(b"Content-Length: 999999999", body=b""), b"408"),
    ("length too short", lengths(b"Content-Length: 2", b"Connection: close"), b"200"),
    ("length too long", lengths(b"Content-Length: 50"), b"408"),
    ("chunks without an end", CHUNKED + b"5\r\nhello\r\n", b"408"),
    ("half a chunk", CHUNKED + b"5\r\nhel", b"408"),
    ("half a size", CHUNKED + b"5", b"408"),
    ("a negative size", CHUNKED + b"-2\r\nhello\r\n0\r\n\r\n", b"400"),
    ("17 digits", CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"413"),
    ("17 digits with zeros", CHUNKED + b"00000000000000005\r\nhello\r\n0\r\n\r\n", b"200"),
    ("a huge chunk", CHUNKED + b"ffffffffffffffff\r\nhello", b"408"),
    ("an endless extension", CHUNKED + b"5;" + b"x" * 200000, b"500"),  # libmicrohttpd's own
    ("chunks of more than allowed", CHUNKED + b"ffff\r\n" + b"a" * 65535 + b"\r\nffff\r\n" + b"b" * 65535 + b"\r\n0\r\n\r\n", b"413"),
    ("no end to a trailer", CHUNKED + b"0\r\n" + b"X: y\r\n" * 50000, b"431"),
]

# (label, request, status; b"" when nothing comes back)
FORMS = [
    ("HTTP/0.9", b"GET /health\r\n\r\n", b"400"),
    ("HTTP/0.9 by name", b"GET /health HTTP/0.9\r\n" + H + b"\r\n", b"505"),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
    ("HTTP/1.2", b"GET /health HTTP/1.2\r\n" + H + b"\r\n", b"200"),
    ("http/1.1 small", b"GET /health http/1.1\r\n" + H + b"\r\n", b"400"),
    ("absolute", b"GET http://localhost/health HTTP/1.1\r\n" + H + b"\r\n", b"200"),
    ("absolute, no path", b"GET http://localhost HTTP/1.1\r\n" + H + b"\r\n", b"404"),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", b"204"),
    ("CONNECT", b"CONNECT localhost:80 HTTP/1.1\r\n" + H + b"\r\n", b"400"),
    ("TRACE", b"TRACE /health HTTP/1.1\r\n" + H + b"\r\n", b"200"),
    ("unknown method", b"BREW /pot HTTP/1.1\r\n" + H + b"\r\n", b"405"),
    ("small method", b"get /pot HTTP/1.1\r\n" + H + b"\r\n", b"405"),
    ("empty lines first", b"\r\n\r\nGET /health HTTP/1.1\r\n" + H + b"\r\n", b"200"),
    ("one word", b"garbage\r\n\r\n", b""),
]

TLS_HELLO = bytes.fromhex("16030100a5010000a10303") + b"\x00" * 100

# Host values over the wire (the unit test has the whole table)
HOSTS = [(h, 404) for h in ["localhost", "localhost:8080", "LOCALHOST", "localhost.", "127.0.0.1", "127.0.0.1:1",
                            "[::1]", "[::1]:99", "tug.example", "Tug.Example:1", "other.example:8443"]] + \
        [(h, 421) for h in ["", "evil.example", "127.0.0.1.evil", "localhost.evil", "other.example", "other.example:1",
                            "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:443junk", "[::1]x", "[::1", "10.0.0.1", "a b",
                            "localhost,evil", "user@localhost", "localhost/evil", "0.0.0.0", "2130706433"]]

HOST_FORMS = [
    ("absolute, other host", b"GET http://evil.example/health HTTP/1.1\r\n" + H + b"\r\n", b"421"),
    ("absolute, other port", b"GET http://localhost:81/health HTTP/1.1\r\n" + H + b"\r\n", b"421"),
    ("absolute, evil Host", b"GET http://localhost/health HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
    ("missing", b"GET /health HTTP/1.1\r\n\r\n", b"400"),
    ("missing in 1.0", b"GET /health HTTP/1.0\r\n\r\n", b"400"),
    ("twice", b"GET /health HTTP/1.1\r\n" + H + H + b"\r\n", b"400"),
    ("twice, one evil", b"GET /health HTTP/1.1\r\n" + H + b"Host: evil.example\r\n\r\n", b"400"),
    ("fine", b"GET http://localhost/nothing HTTP/1.1\r\n" + H + b"\r\n", b"404"),
]


def origins(port):
    """(headers, may it): with https://chat.example allowed and Host localhost:port."""
    own, page, evil = f"Origin: http://localhost:{port}", "Origin: https://chat.example", "Origin: https://evil.example"
    site = "Sec-Fetch-Site: "
    return [([], True), ([own], True), ([page], True), ([own, site + "same-origin"], True), ([page, site + "cross-site"], True),
            ([site + "none"], True), ([site + "same-origin"], True), (["Referer: https://evil.example/"], True),
            ([evil], False), (["Origin: null"], False), (["Origin: http://localhost:1"], False), (["Origin:"], False),
            ([f"Origin: http://127.0.0.1:{port}"], False), (["Origin: https://chat.example.evil"], False),
            (["Origin: https://chat.example:65979"], False), ([page, evil], False), ([evil, page], False),
            ([site + "cross-site"], False), ([site + "same-site"], False), ([site + "bogus"], False),
            ([own, site + "cross-site"], False), ([evil, site + "same-origin"], False), ([site], False)]


KEYS = [([], False), (["Authorization: Bearer alpha-key"], True), (["x-api-key: beta-key"], True),
        (["X-API-KEY: alpha-key"], True), (["authorization: bearer beta-key"], True),
        (["Authorization: Bearer wrong", "x-api-key: alpha-key"], True), (["Authorization: Bearer alpha-ke"], False),
        (["Authorization: Bearer alpha-keyy"], False), (["Authorization: Bearer ALPHA-KEY"], False),
        (["Authorization: Bearer"], False), (["Authorization: Basic alpha-key"], False), (["Authorization: alpha-key"], False),
        (["Authorization: Bearer alpha-key,beta-key"], False), (["x-api-key:"], False), (["x-api-key: # keys"], False),
        (["Authorization: Bearer " + "k" * 5000], False), (["x-api-key: alpha-key beta-key"], False),
        (["Cookie: alpha-key"], False)]


# ---- cases with two sizes --------------------------------------------------------------

def drip(connections, seconds, piece):
    """A byte a second on each, spread over the second; how many the server still has."""
    end, alive, turn = time.monotonic() + seconds, list(connections), 0
    while alive and time.monotonic() < end:
        for s in alive[turn % 10::10]:
            try:
                s.send(piece)
            except (BrokenPipeError, ConnectionResetError):
                alive.remove(s)
        turn += 1
        time.sleep(0.1)
    return len(alive)


def slow_clients(n, seconds, header_s=1, stall_s=1):
    """n clients each that drip headers, drip a body, and never read: all are cut off by the
    deadlines, and a good client does not notice them."""
    with Server(header_s=header_s, stall_s=stall_s) as server:
        calm = time_requests(server.port, 150)
        opened = []
        for i in range(3 * n):
            s = server.connect(receive=4096)
            kind = i % 3
            s.sendall([b"GET /health HT", b"POST /echo HTTP/1.1\r\n" + H + b"Content-Length: 99999\r\n\r\n",
                       get("/flood?n=10000000")][kind])
            opened.append(s)
        times = []
        good = threading.Thread(target=lambda: times.extend(time_requests(server.port, 400)))
        good.start()
        drip([s for i, s in enumerate(opened) if i % 3 != 2], seconds, b"x")
        good.join()
        now = server.until(lambda st: st["jobs"] == 0 and st["connections"] == 1, 30)
        assert now["connections"] == 1 and now["jobs"] == 0, now
        before, after = percentile(calm, 0.99), percentile(times, 0.99)
        print(f"{3 * n} slow clients: p50 {1e3 * percentile(calm, .5):.2f} -> {1e3 * percentile(times, .5):.2f} ms, "
              f"p99 {1e3 * before:.2f} -> {1e3 * after:.2f} ms")
        # Twice as slow, and what another process on this machine may take from us.
        assert after < 2 * before + 0.1, (before, after)
        for s in opened:
            s.close()


def leave_at_every_byte(step, events=40):
    """Clients read k bytes of a stream and go, for every k, by FIN, RST and half-close; a
    neighbour's stream is whole, no descriptor and no job stays."""
    with Server() as server:
        server.until(lambda st: st["connections"] == 1)
        time.sleep(0.1)
        fds = server.n_fds()
        with server.connect(30) as s:  # without the frames of chunks, whose number varies
            s.sendall(get(f"/stream?n={events}&size=40&hang=1"))
            got = b""
            while b"\r\n\r\n" not in got:
                got += s.recv(4096)
            total = got.index(b"\r\n\r\n") + events * len("data: 000000 \n\n" + 40 * "x")
        neighbour, n_events = [], 20000 if step == 1 else 1500

        def listen():
            with server.connect(120) as n:
                n.sendall(get(f"/stream?n={n_events}&ms=1&size=20"))
                neighbour.append(read_reply(n).body)
        other = threading.Thread(target=listen)
        other.start()
        left = 0
        for how in ("fin", "rst", "half"):
            open_ones = []
            for k in range(0, total, step):
                s = server.connect()
                s.sendall(get(f"/stream?n={events}&size=40&hang=1"))
                got = 0
                while got < k:
                    got += len(s.recv(k - got))
                leave(s, how)
                left += 1
                if how == "half":
                    open_ones.append(s)
            end = time.monotonic() + 20
            while server.stats()["jobs"] > other.is_alive() and time.monotonic() < end:
                time.sleep(0.01)
            for s in open_ones:
                s.settimeout(20)
                while s.recv(65536):
                    pass  # the server ends it
                s.close()
        other.join()
        now = server.until(lambda st: st["jobs"] == 0 and st["connections"] == 1)
        # A reset may come before the request was read.  One stream, the neighbour's, has an end.
        assert now["jobs"] == 0 and now["connections"] == 1, now
        assert left * 0.98 <= now["started"] == now["gone"] + 1, (now, left)
        expect = b"".join(b"data: %06d %s\n\n" % (i, b"x" * 20) for i in range(n_events))
        assert neighbour == [expect]
        end = time.monotonic() + 20
        while server.n_fds() > fds and time.monotonic() < end:
            time.sleep(0.05)
        assert server.n_fds() <= fds, (fds, server.fds())
        print(f"{left} clients left, {now['gone']} seen to be gone")
