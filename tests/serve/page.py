#!/usr/bin/env python3
"""The page of `tug serve` in a real browser: what it shows, what it must never do.

    tests/serve/page.py [--shots DIR] [NAME ...]    only tests whose name contains NAME

Needs Playwright (PyPI) and Chromium (Debian's is enough).  Most tests run against a small
mock with the built-in page, its policy, and states and streams that they choose; those named
test_real_server run against `tug serve` (build/tests/tug-scripted beside TUG=build/tug) with
the tiny model reading and scripted tokens as its answer.
"""
import argparse
import copy
import os
import shutil
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "support")]
import page_mock  # noqa: E402
from tug_server import Server  # noqa: E402

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    print("skip page: playwright is not installed (pip install playwright)")
    print("page: 0 passed, 0 failed, 1 skipped")
    sys.exit(0)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCHEMES, WIDTHS = ("light", "dark"), (360, 820, 1360)
CODE = ["Use `[::-1]`:\n\n", "```py", "thon\ndef f(s):\n", "    return s[::-1]\n", "```\nDone."]
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


class Tab:
    """A page of its own, with everything it said and asked for."""

    def __init__(self, browser, mock, width=1360, scheme="light"):
        self.context = browser.new_context(viewport={"width": width, "height": 860},
                                           color_scheme=scheme)
        self.page, self.said, self.asked = self.context.new_page(), [], []
        self.page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.said.append(f"error: {e}"))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.set_default_timeout(8000)
        self.page.goto(mock.url)

    def __enter__(self):
        return self.page

    def __exit__(self, *_):
        self.context.close()

    def ready(self):
        expect(self.page.locator("#facts dd").first).to_be_visible()
        return self.page


def text_of(page, selector):
    return " ".join(page.locator(selector).inner_text().split())


def say(page, text):
    page.fill("#input", text)
    page.press("#input", "Enter")


def until(condition, what, seconds=8):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


# ---- status ----------------------------------------------------------------------------

def test_idle_is_quiet(browser, mock):
    tab = Tab(browser, mock)
    with tab:
        page = tab.ready()
        until(lambda: mock.polls() >= 3, "a poll every second")
        assert "79.7B" in text_of(page, "#facts") and "131,072 tokens" in text_of(page, "#facts")
        assert text_of(page, "#state") == "ready" and text_of(page, "#prefill") == "–"
        expect(page.locator("#running-none")).to_be_visible()
        expect(page.locator("#problem")).to_be_hidden()
        assert page.title() == "Qwen3 Coder Next · tug"
    assert not tab.said, tab.said
    outside = [u for u in tab.asked if not u.startswith((mock.url + "/", "data:"))]
    assert not outside, outside


def test_busy_shows_figures(browser, mock):
    mock.status = page_mock.busy()
    tab = Tab(browser, mock)
    with tab:
        page = tab.ready()
        assert text_of(page, "#state") == "working"
        assert (text_of(page, "#prefill"), text_of(page, "#decode")) == ("413", "23.5")
        assert text_of(page, "#queue") == "2 running, 1 waiting of 64"
        assert "save points 900 MB" in text_of(page, "#memory")
        assert "75% of 242,131 prompt tokens reused" in text_of(page, "#cache")
        assert text_of(page, "#gpu") == "59% of experts found in VRAM, 33.0 GB of experts moved there"
        jobs = page.locator("#running li")
        assert "19,456 of 34,125 tokens" in jobs.nth(1).inner_text()
        assert "18% reused" in jobs.nth(1).inner_text()
        assert jobs.nth(1).locator("[role=progressbar]").get_attribute("aria-valuenow") == "57"
        rows = page.locator("#recent tr")
        assert rows.count() == 5 and "98%" in rows.nth(0).inner_text()
        bar = page.locator("#memory .bar").first
        whole = bar.bounding_box()["width"]
        weights = bar.locator("span").first.bounding_box()["width"]
        assert abs(weights / whole - 48.412 / 64) < 0.01, (weights, whole)
        mock.status["speed"] = {"prefill_tok_s": None, "decode_tok_s": 30.0}
        expect(page.locator("#decode")).to_have_text("30.0")
        expect(page.locator("#prefill")).to_have_class("big old")
        line = page.locator("#decode-line polyline").get_attribute("points").split()
        assert len(line) >= 2 and line[-1] == "119,3.0", line  # the most so far is at the top
    assert not tab.said, tab.said


def test_lists_keep_their_nodes(browser, mock):
    mock.status = page_mock.busy()
    with Tab(browser, mock) as page:
        expect(page.locator("#recent tr")).to_have_count(5)
        page.evaluate("document.querySelector('#recent tr').dataset.mine = 1")
        before = mock.polls()
        until(lambda: mock.polls() >= before + 2, "two more polls")
        assert page.locator("#recent tr[data-mine]").count() == 1


def test_lost_and_found(browser, mock):
    with Tab(browser, mock) as page:
        expect(page.locator("#state")).to_have_text("ready")
        port = mock.server_address[1]
        mock.stop()
        expect(page.locator("#problem")).to_contain_text("does not answer")
        again = page_mock.Mock(port)
        try:
            expect(page.locator("#problem")).to_be_hidden()
            expect(page.locator("#state")).to_have_text("ready")
        finally:
            again.stop()


def test_strange_status_is_a_sentence(browser, mock):
    mock.status = {"version": "99"}
    with Tab(browser, mock) as page:
        expect(page.locator("#problem")).to_contain_text("cannot be read")
        mock.status = copy.deepcopy(page_mock.IDLE)
        expect(page.locator("#problem")).to_be_hidden()


def test_hidden_does_not_poll(browser, mock):
    with Tab(browser, mock) as page:
        expect(page.locator("#state")).to_have_text("ready")
        hide = """(v) => { Object.defineProperty(document, 'visibilityState',
                  {value: v, configurable: true});
                  document.dispatchEvent(new Event('visibilitychange')); }"""
        page.evaluate(hide, "hidden")
        time.sleep(0.3)
        before = mock.polls()
        time.sleep(1.6)
        assert mock.polls() == before
        page.evaluate(hide, "visible")
        until(lambda: mock.polls() > before, "polls again at once", 1)


# ---- looks -----------------------------------------------------------------------------

CONTRAST = """() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; }
    return [255, 255, 255]; };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest('script') || !e.checkVisibility()) continue;
    const a = light(rgb(getComputedStyle(e).color).slice(0, 3)), b = light(behind(e).slice(0, 3));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(ratio.toFixed(2) + ' ' + walk.currentNode.data.trim().slice(0, 40));
  }
  return bad; }"""

OVERFLOW = """() => [...document.querySelectorAll('body, section, table, header, form, .msg')]
  .filter((e) => e.scrollWidth > e.clientWidth + 1 ||
                 e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.tagName + '#' + e.id + ' ' + e.scrollWidth + ' > ' + e.clientWidth)"""


def test_fits_and_contrasts(browser, mock, shots=None):
    mock.status = page_mock.busy()
    mock.events = page_mock.answer(CODE + ["x" * 300])
    for scheme in SCHEMES:
        for width in WIDTHS:
            with Tab(browser, mock, width, scheme) as page:
                expect(page.locator("#recent tr")).to_have_count(5)
                say(page, "Reverse a string " + "y" * 200)
                expect(page.locator(".note")).to_contain_text("reused")
                wide = page.evaluate(OVERFLOW)
                assert not wide, (scheme, width, wide)
                pale = page.evaluate(CONTRAST)
                assert not pale, (scheme, width, pale)
                if shots:
                    page.screenshot(path=f"{shots}/{scheme}-{width}.png", full_page=True)


# ---- chat ------------------------------------------------------------------------------

def test_chat_streams(browser, mock):
    gate = threading.Event()
    mock.events = page_mock.answer(CODE[:-1] + [gate] + CODE[-1:])
    tab = Tab(browser, mock)
    with tab:
        page = tab.ready()
        say(page, "reverse a string")
        expect(page.locator(".code code")).to_contain_text("def f(s):")
        expect(page.locator("#stop")).to_be_visible()
        gate.set()
        expect(page.locator(".note")).to_contain_text("75% of 40 prompt tokens reused")
        assert page.locator(".code code").inner_text() == "def f(s):\n    return s[::-1]"
        assert text_of(page, ".code figcaption span") == "python"
        assert page.locator(".text code").inner_text() == "[::-1]"
        expect(page.locator("#stop")).to_be_hidden()
        say(page, "and now?")
        until(lambda: len(mock.bodies) == 2, "a second request")
        sent = mock.bodies[1]["messages"]
        assert [m["role"] for m in sent] == ["user", "assistant", "user"]
        assert sent[1]["content"] == "".join(CODE), "the model gets back what it wrote"
        assert mock.bodies[1]["model"] == "qwen3-coder-next" and mock.bodies[1]["stream"] is True
        expect(page.locator("#new")).to_be_enabled()
        page.click("#new")
        assert page.locator(".msg").count() == 0
    assert not tab.said, tab.said


def test_text_is_never_markup(browser, mock):
    mock.status = page_mock.busy()
    mock.status["model"]["name"] = mock.status["model"]["id"] = HOSTILE
    for job in mock.status["running"] + mock.status["recent"]:
        job["api"] = job["id"] = HOSTILE
    mock.events = page_mock.answer([HOSTILE, "\n```" + HOSTILE.replace(" ", "") + "\n", HOSTILE])
    tab = Tab(browser, mock)
    with tab:
        page = tab.ready()
        say(page, HOSTILE)
        expect(page.locator(".note")).to_contain_text("reused")
        assert page.locator("img").count() == 0 and page.locator("body script").count() == 1
        assert page.title() == HOSTILE + " · tug"
        assert HOSTILE in page.locator(".msg.assistant .text").inner_text()
        assert page.locator(".code code").inner_text() == HOSTILE
    assert not tab.said, tab.said


def test_stop_hangs_up(browser, mock):
    mock.events = page_mock.answer(["one "] + ["more "] * 400, pause=0.05)
    for way in ("click", "key"):
        mock.hung_up.clear()
        with Tab(browser, mock) as page:
            say(page, "count")
            expect(page.locator(".msg.assistant .text")).to_contain_text("more")
            if way == "click":
                page.click("#stop")
            else:
                page.press("#input", "Escape")
            expect(page.locator(".note")).to_have_text("stopped")
            until(mock.hung_up.is_set, "the server notices")
            assert "one more" in text_of(page, ".msg.assistant"), "what came is kept"
            assert page.evaluate("document.activeElement.id") == "input"


def test_errors_are_sentences(browser, mock):
    with Tab(browser, mock) as page:
        mock.refusal = (400, {"error": {"message": "The prompt has 9 tokens too many."}})
        say(page, "hello")
        expect(page.locator(".note.bad")).to_have_text("The prompt has 9 tokens too many.")
        assert page.input_value("#input") == "hello", "nothing has to be typed again"
        mock.refusal = None
        mock.events = [page_mock.chunk({"content": "half"}),
                       'data: {"error":{"message":"It broke.","type":"server_error"}}\n\n']
        page.press("#input", "Enter")
        expect(page.locator(".note.bad").nth(1)).to_have_text("It broke.")
        mock.events = [page_mock.chunk({"content": "half"})]
        say(page, "again")
        expect(page.locator(".note.bad").nth(2)).to_contain_text("ended before the answer")
        assert "half" in text_of(page, "#log")


def test_key_is_asked_for(browser, mock):
    mock.key = "right"
    tab = Tab(browser, mock)
    with tab as page:
        dialog = page.locator("#key-dialog")
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        expect(dialog).to_be_visible()
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-note")).to_contain_text("refused that key")
        page.fill("#key", " right ")
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_have_text("ready")
        expect(dialog).to_be_hidden()
        say(page, "hello")
        expect(page.locator(".msg.assistant")).to_contain_text("Hello.")
        assert page.evaluate("localStorage.length") == 0
        page.reload()
        expect(page.locator("#state")).to_have_text("ready")
        expect(dialog).to_be_hidden()
    # Chromium itself reports each 401; the page has nothing to add
    other = [line for line in tab.said if "401" not in line]
    assert not other, other


def test_keyboard_alone(browser, mock):
    with Tab(browser, mock) as page:
        expect(page.locator("#state")).to_have_text("ready")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        until(lambda: page.evaluate("location.hash") == "#input", "the skip link")
        for _ in range(6):
            if page.evaluate("document.activeElement.id") == "input":
                break
            page.keyboard.press("Tab")
        page.keyboard.type("line one")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("line two")
        page.keyboard.press("Enter")
        until(lambda: mock.bodies, "a request")
        assert mock.bodies[0]["messages"][0]["content"] == "line one\nline two"


# ---- the real server -------------------------------------------------------------------

def test_real_server(browser, _):
    # what the model says by itself may be as long as it likes
    script = [{"say": "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\n", "times": 0}]
    with Server(script=script) as server:
        tab = Tab(browser, server)
        with tab:
            page = tab.ready()
            assert "tug-tiny" in text_of(page, "#facts")
            policy = server.get("/").headers["content-security-policy"]
            assert policy == page_mock.built_in_page()[1], "build/tug is older than the page"
            say(page, "Write a function that adds two numbers in Python.")
            expect(page.locator(".note")).to_contain_text("prompt tokens reused", timeout=60000)
            expect(page.locator(".note.bad")).to_have_count(0)
            assert len(text_of(page, ".msg.assistant")) > 20
            expect(page.locator("#recent tr")).to_have_count(1)
            assert text_of(page, "#decode") != "–"
            say(page, "Thank you. Now one that multiplies.")
            expect(page.locator("#recent tr")).to_have_count(2, timeout=60000)
            row = page.locator("#recent tr").first.locator("td").nth(3).inner_text()
            assert int(row.strip("%")) > 20, f"the second turn reused {row}"
            weights = server.status()["model"]["n_bytes"]
            assert weights > 0 and "weights" in text_of(page, "#memory")
        assert not tab.said, tab.said
        outside = [u for u in tab.asked if not u.startswith((server.url + "/", "data:"))]
        assert not outside, outside


def test_real_server_stops(browser, _):
    script = [{"say": "And then they sailed on. " * 100, "token_s": 0.05}]
    with Server(script=script) as server, Tab(browser, server) as page:
        say(page, "Write a long story.")
        expect(page.locator(".msg.assistant .text")).to_contain_text("sailed on")
        expect(page.locator("#running li")).to_contain_text("decode")
        page.click("#stop")
        expect(page.locator(".note")).to_have_text("stopped")
        until(lambda: server.status()["queue"]["running"] == 0, "the work ends")
        expect(page.locator("#recent tr")).to_contain_text("canceled")


def test_real_server_with_a_key(browser, _):
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write("sk-of-this-test\n")
        keys.flush()
        script = [{"say": "Hello.", "times": 0}]
        with Server("--api-key-file", keys.name, script=script) as server, Tab(browser, server) as page:
            expect(page.locator("#key-dialog")).to_be_visible()
            page.fill("#key", "sk-of-another")
            page.keyboard.press("Enter")
            expect(page.locator("#key-note")).to_contain_text("refused that key")
            page.fill("#key", "sk-of-this-test")
            page.keyboard.press("Enter")
            expect(page.locator("#facts dd").first).to_be_visible()
            say(page, "Hello.")
            expect(page.locator(".note")).to_contain_text("reused", timeout=60000)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shots", help="folder for screenshots")
    parser.add_argument("name", nargs="*")
    args = parser.parse_args()
    if not CHROMIUM:
        print("skip page: there is no chromium (apt-get install chromium)")
        print("page: 0 passed, 0 failed, 1 skipped")
        return 0
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")
             and (not args.name or any(part in n for part in args.name))]
    failed = 0
    with sync_playwright() as player:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = player.chromium.launch(executable_path=CHROMIUM, args=flags)
        for name, function in tests:
            mock, start = page_mock.Mock(), time.monotonic()
            more = {"shots": args.shots} if args.shots and "fits" in name else {}
            try:
                function(browser, mock, **more)
                print(f"ok   {name} ({time.monotonic() - start:.1f} s)", flush=True)
            except Exception as error:  # pylint: disable=broad-except
                failed += 1
                print(f"FAIL {name}: {error}", flush=True)
            finally:
                mock.stop()
        browser.close()
    print(f"page: {len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
