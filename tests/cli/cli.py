#!/usr/bin/env python3
"""What a person sees of `tug run` and `tug eval`: answers, sentences, exit codes, terminal.

    TUG=build/tug tests/cli/cli.py [NAME ...]      only tests whose name contains NAME

Runs on a small random model; its text means nothing, but it is always the same.
"""
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

TUG = os.path.abspath(os.environ.get("TUG", "build/tug"))
MODEL = os.path.abspath("tests/golden/data/small-f32.gguf")
GOLD = os.path.splitext(MODEL)[0] + ".gold"
ENDLESS = "1,1,1,1"  # a prompt after which the model does not end for a long time
BASE = ["-m", MODEL, "-t", "1"]
SLOW = ["-b", "1", "--cpu", "ref"]  # enough of a prompt to watch it being read


def tug(*args, stdin=b"", **more):
    return subprocess.run([TUG, *args], input=stdin, capture_output=True, timeout=60, **more)


def run_json(*args, **more):
    done = tug("run", *BASE, "--json", *args, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def eval_json(*args):
    done = tug("eval", *BASE, "--json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expect_refusal(code, pattern, *args, **more):
    """One sentence on stderr that matches, nothing on stdout."""
    done = tug(*args, **more)
    text = done.stderr.decode()
    assert done.returncode == code, f"{args}: exit code {done.returncode}: {text}"
    assert done.stdout == b"", f"{args}: wrote {done.stdout!r}"
    assert re.fullmatch(r"tug: [^\n]+\n", text), f"{args}: {text!r} is not one sentence"
    assert re.search(pattern, text), f"{args}: {text!r} does not say {pattern!r}"


def join_ids(ids):
    return ",".join(map(str, ids))


# ---- command line ----------------------------------------------------------------------

def test_help():
    for command in ("run", "eval"):
        done = tug(command, "--help")
        assert done.returncode == 0 and done.stderr == b""
        text = done.stdout.decode()
        assert "example" in text and max(map(len, text.splitlines())) <= 80
        for flag in set(re.findall(r"--[a-z][a-z-]+", text)):
            told = tug(command, flag).stderr.decode()  # the command knows it
            assert "is no option" not in told, f"{command} {flag}: {told}"


def test_usage():
    for pattern, args in [
        ("wants a model", ["run", "hi"]),
        ("-m wants a value", ["run", "-m"]),
        ("--file wants a value", ["run", *BASE, "--file"]),
        ("--nope is no option", ["run", "--nope"]),
        ("-q is no option", ["run", "-q"]),
        ("given twice", ["run", *BASE, "-p", "a", "b"]),
        ("in quotes", ["run", *BASE, "a", "b"]),
        ("give one prompt", ["run", *BASE, "-p", "a", "--ids", "1"]),
        ("--temp wants a number, not 'hot'", ["run", *BASE, "--temp", "hot", "a"]),
        ("--temp must be between", ["run", *BASE, "--temp", "-1", "a"]),
        ("--top-p must be between", ["run", *BASE, "--top-p", "1.5", "a"]),
        ("--top-k wants a whole number", ["run", *BASE, "--top-k", "1.5", "a"]),
        ("--repeat-penalty must be", ["run", *BASE, "--repeat-penalty", "0", "a"]),
        ("--predict 0", ["run", *BASE, "-n", "0", "a"]),
        ("--threads must be", ["run", "-m", MODEL, "-t", "0", "a"]),
        ("--ctx-size must be", ["run", *BASE, "-c", "99999999999", "a"]),
        ("--stop wants a text", ["run", *BASE, "--stop", "", "a"]),
        ("--cache-type is", ["run", *BASE, "--cache-type", "f8", "a"]),
        ("unknown CPU level", ["run", *BASE, "--cpu", "z80", "a"]),
        ("--system needs --chat", ["run", *BASE, "--system", "s", "a"]),
        ("--chat takes text", ["run", *BASE, "--chat", "--ids", "1"]),
        ("'x' is none", ["run", *BASE, "--ids", "1,x"]),
        ("wants a model", ["eval", "--ids", "1,2"]),
        ("one of them", ["eval", *BASE]),
        ("one of them", ["eval", *BASE, "--ids", "1,2", "--file", "x"]),
        ("--per-token needs --json", ["eval", *BASE, "--ids", "1,2", "--per-token"]),
        ("skips tokens", ["eval", *BASE, "--ids", "1,2,3", "-c", "2", "--stride", "3"]),
    ]:
        expect_refusal(2, pattern, *args)


def test_world_says_no():
    for pattern, args, stdin in [
        ("prompt is empty", ["run", *BASE, ""], b""),
        ("prompt is empty", ["run", *BASE], b""),
        ("cannot open /nowhere/x", ["run", *BASE, "--file", "/nowhere/x"], b""),
        ("is a folder", ["run", *BASE, "--file", "/tmp"], b""),
        ("not UTF-8: byte 3 ", ["run", *BASE, b"abc\xff"], b""),
        ("standard input is not UTF-8: byte 2 ", ["run", *BASE], b"ab\xc3"),
        ("999 is no token id.* 0 to ", ["run", *BASE, "--ids", "1,999"], b""),
        ("do not fit.*holds 3 .*-c", ["run", *BASE, "-c", "3", "a long prompt"], b""),
        ("context of 2147483647 tokens needs .* use -c [0-9]+ or less",
         ["run", *BASE, "-c", "2147483647", "a"], b""),
        ("at least two", ["eval", *BASE, "--ids", "1"], b""),
        ("is empty", ["eval", *BASE, "--file", "-"], b""),
        ("no token id", ["eval", *BASE, "--ids", "1,2,999"], b""),
    ]:
        expect_refusal(1, pattern, *args, stdin=stdin)


# ---- model files -----------------------------------------------------------------------

def tensor_type_at(data, name):
    """Offset of the type field of a tensor in the header; dims are 8 bytes each before it."""
    at = data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
    n_dims, = struct.unpack_from("<I", data, at)
    return at + 4 + 8 * n_dims


def with_split_keys(data, no, count):
    """The file with split.no and split.count; a third key keeps the data aligned."""
    def key(name, kind, value):
        return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value
    added = key(b"split.no", 2, struct.pack("<H", no)) + key(b"split.count", 2, struct.pack("<H", count))
    pad = key(b"pad", 8, struct.pack("<Q", 0))
    fill = -(len(added) + len(pad)) % 32
    added += key(b"pad", 8, struct.pack("<Q", fill) + b"x" * fill)
    n_kv, = struct.unpack_from("<Q", data, 16)
    return data[:16] + struct.pack("<Q", n_kv + 3) + added + data[24:]


def test_bad_model_files():
    data = open(MODEL, "rb").read()
    embd = tensor_type_at(data, b"token_embd.weight")
    cases = {
        "missing.gguf": (None, "cannot open"),
        "empty.gguf": (b"", "gguf"),
        "text.gguf": (b"hello, I am no model\n" * 9, "no GGUF"),
        "arch.gguf": (data.replace(b"qwen3next", b"qwen9next"), "qwen9next"),
        "type.gguf": (data[:embd] + struct.pack("<I", 250) + data[embd + 4:], "token_embd.weight"),
        "size.gguf": (data[:embd - 8] + struct.pack("<Q", 1 << 60) + data[embd:], "token_embd.weight"),
        "part-00001-of-00002.gguf": (with_split_keys(data, 0, 2), "00002-of-00002"),
    }
    for cut in (3, 20, 200, 5000, len(data) // 2, len(data) - 1):
        cases[f"cut{cut}.gguf"] = (data[:cut], "")
    with tempfile.TemporaryDirectory() as folder:
        for name, (content, pattern) in cases.items():
            path = os.path.join(folder, name)
            if content is not None:
                open(path, "wb").write(content)
            expect_refusal(1, pattern, "run", "-m", path, "hi")
        expect_refusal(1, "folder", "run", "-m", folder, "hi")


# ---- run -------------------------------------------------------------------------------

def test_prompt_sources_agree():
    text = "int main(void)\n"
    with tempfile.NamedTemporaryFile() as f:
        f.write(text.encode())
        f.flush()
        want = run_json("-n", "5", "--temp", "0", "-p", text)
        for args, stdin in [([text], b""), (["--file", f.name], b""), ([], text.encode()),
                            (["--file", "-"], text.encode()),
                            (["--ids", join_ids(want["prompt_ids"])], b"")]:
            got = run_json("-n", "5", "--temp", "0", *args, stdin=stdin)
            assert got["prompt_ids"] == want["prompt_ids"], args
            assert got["ids"] == want["ids"] and got["text"] == want["text"], args


def test_stdout_is_exactly_the_text():
    args = ["--ids", ENDLESS, "-n", "20", "--temp", "0"]
    want = run_json(*args)
    assert list(want) == ["prompt_ids", "ids", "text", "finish", "seed", "timings", "peak_ram_bytes"]
    assert want["finish"] == "length" and len(want["ids"]) == 20
    done = tug("run", *BASE, *args)
    assert done.returncode == 0 and done.stdout.decode() == want["text"]
    summary = done.stderr.decode()
    assert re.fullmatch(r"load \S+ s · prefill 4 tokens \d+ tok/s · decode 20 tokens \S+ tok/s"
                        r" · peak RAM \S+ MB\n", summary), summary  # no bar, no seed


def test_greedy_does_not_depend_on_how():
    want = run_json("--ids", ENDLESS, "-n", "30", "--temp", "0")["ids"]
    for args in (["-t", "2"], ["-b", "1"], ["-b", "3"], ["-c", "64"], ["-s", "5"], ["--top-k", "3"]):
        assert run_json("--ids", ENDLESS, "-n", "30", "--temp", "0", *args)["ids"] == want, args
    for args in (["--cache-type", "q8_0"], ["--cache-type", "i16", "--cpu", "ref"], ["--cpu", "ref"]):
        assert len(run_json("--ids", ENDLESS, "-n", "30", "--temp", "0", *args)["ids"]) == 30, args


def test_seed():
    first = run_json("--ids", ENDLESS, "-n", "20")
    again = run_json("--ids", ENDLESS, "-n", "20", "--seed", str(first["seed"]))
    other = run_json("--ids", ENDLESS, "-n", "20", "-s", str(first["seed"] + 1))
    assert first["ids"] == again["ids"] != other["ids"]


def test_stop():
    whole = run_json("--ids", ENDLESS, "-n", "30", "--temp", "0")["text"]
    stop = whole[12:15]
    for flag in ("--stop", "-r", "--reverse-prompt"):
        got = run_json("--ids", ENDLESS, "-n", "30", "--temp", "0", flag, "absent", flag, stop)
        assert got["finish"] == "stop" and got["text"] == whole[:whole.index(stop)], flag


def test_context_end():
    got = run_json("--ids", ENDLESS, "-c", "10", "--temp", "0")
    assert got["finish"] == "context" and len(got["ids"]) == 7


def test_penalties():
    args = ["--ids", ENDLESS, "-n", "30", "--temp", "0"]
    free = run_json(*args)["ids"]
    held = run_json(*args, "--presence-penalty", "100", "--repeat-last-n", "-1")["ids"]
    assert len(set(free)) < len(free)
    assert len(set(held)) == len(held) >= 3
    # The prompt counts too: what came first is now in it, and cannot come first again.
    prompt = ENDLESS + "," + join_ids(held)
    more = run_json("--ids", prompt, "-n", "1", "--temp", "0", "--frequency-penalty", "100")["ids"]
    assert not set(more) & set(map(int, prompt.split(",")))


def test_control_tokens_need_special():
    plain = run_json("-n", "1", "<|im_end|>")["prompt_ids"]
    special = run_json("-n", "1", "--special", "<|im_end|>")["prompt_ids"]
    assert len(plain) > 1 and len(special) == 1
    message = run_json("-n", "1", "--chat", "<|im_end|>")["prompt_ids"]
    assert message.count(special[0]) == 1  # the template's own; the typed one is text


def test_one_message():
    with_system = run_json("-n", "3", "--chat", "--system", "Be brief.", "hi")["prompt_ids"]
    without = run_json("-n", "3", "--chat", "hi")["prompt_ids"]
    assert with_system[-len(without):] == without and len(with_system) > len(without)


def test_closed_stdout():
    args = ["run", *BASE, "--ids", ENDLESS, "-n", "50"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run([TUG, *args], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1 and b"cannot write to standard output" in done.stderr, done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([TUG, *args], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert done.returncode == 1 and b"Broken pipe" in done.stderr, done.stderr


def test_ctrl_c_ends_cleanly():
    p = subprocess.Popen([TUG, "run", *BASE, *SLOW, "--ids", ENDLESS, "-c", "4096", "--temp", "0"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    first = p.stdout.read(5)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=20)
    assert p.returncode == 130, (p.returncode, err)
    assert re.search(rb"decode \d+ tokens", err), err
    (first + out).decode()  # whole characters to the end


# ---- eval ------------------------------------------------------------------------------

def read_gold():
    data = open(GOLD, "rb").read()
    n_tok, n_vocab, _, _, n_pos = struct.unpack_from("<5I", data, 8)
    at = 28
    tokens = struct.unpack_from(f"<{n_tok}i", data, at)
    positions = struct.unpack_from(f"<{n_pos}i", data, at + 4 * n_tok)
    at += 4 * (n_tok + n_pos)
    rows = [struct.unpack_from(f"<{n_vocab}f", data, at + 4 * n_vocab * i) for i in range(n_pos)]
    return tokens, dict(zip(positions, rows))


def log_softmax(row):
    import math
    top = max(row)
    base = top + math.log(sum(math.exp(x - top) for x in row))
    return [x - base for x in row]


def test_eval_equals_the_reference():
    tokens, rows = read_gold()
    got = eval_json("--ids", join_ids(tokens), "--per-token")
    assert got["n"] == len(tokens) - 1 == len(got["nll"])
    assert abs(got["mean_nll"] - sum(got["nll"]) / got["n"]) < 1e-9
    assert abs(got["ppl"] / 2.718281828459045 ** got["mean_nll"] - 1) < 1e-9
    for position, row in rows.items():
        logp = log_softmax(row)
        if position + 1 < len(tokens):
            assert abs(got["nll"][position] + logp[tokens[position + 1]]) < 2e-3, position
        else:
            best = sorted(range(len(row)), key=lambda i: -row[i])[:5]
            assert [i for i, _ in got["top5"]] == best
            assert all(abs(p - logp[i]) < 2e-3 for i, p in got["top5"])


def test_eval_windows():
    ids = list(read_gold()[0][:45])
    for window, stride in ((16, 16), (16, 8), (16, 1), (45, 45), (100, 7)):
        want, scored, begin = [], 0, 0
        while scored < len(ids):
            part = ids[begin:begin + window]
            nll = eval_json("--ids", join_ids(part), "--per-token")["nll"] if len(part) > 1 else []
            want += nll[max(scored - begin - 1, 0):]
            scored = begin + len(part)
            begin += stride
        got = eval_json("--ids", join_ids(ids), "-c", str(window), "--stride", str(stride), "--per-token")
        assert got["nll"] == want, (window, stride)


def test_eval_of_a_file():
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"for (int i = 0; i < n; i++) sum += x[i];\n" * 30)
        f.flush()
        ids = run_json("-n", "1", "--file", f.name)["prompt_ids"]
        assert len(ids) > 512
        got = eval_json("--file", f.name)
        assert got == eval_json("--ids", join_ids(ids), "-c", "512")
        assert got["n"] == len(ids) - -(-len(ids) // 512)
        done = tug("eval", *BASE, "--file", f.name)
        assert f"scored      {got['n']}\n" in done.stdout.decode()
        assert f"perplexity  {got['ppl']:.4f}\n" in done.stdout.decode()


def test_eval_of_one_token():
    got = eval_json("--ids", "7", "--per-token")
    assert (got["n"], got["mean_nll"], got["nll"], len(got["top5"])) == (0, None, [], 5)


# ---- terminal --------------------------------------------------------------------------

class NoTerminal(Exception):
    """This machine gives out no pseudo-terminals (a bare container, a chroot)."""


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, *args, **environment):
        try:
            pid, self.fd = pty.fork()
        except OSError as why:
            raise NoTerminal(str(why)) from None
        if pid == 0:
            os.execve(TUG, ["tug", *args], dict(os.environ, TERM="xterm", **environment))
        self.pid, self.seen = pid, b""

    def read_until(self, pattern, timeout=20):
        """Everything up to a match, which is consumed."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            match = re.search(pattern, self.seen)
            if match:
                text, self.seen = self.seen[:match.end()], self.seen[match.end():]
                return text
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    break
        raise AssertionError(f"no {pattern!r} in {self.seen!r}")

    def type(self, text):
        """As a person would: not in the microseconds between the prompt and the moment
        libedit takes the terminal out of line mode.  Ctrl-C comes at any time."""
        end = time.monotonic() + 5
        while text != b"\x03" and time.monotonic() < end:
            if not termios.tcgetattr(self.fd)[3] & termios.ICANON:
                break
            time.sleep(0.002)
        os.write(self.fd, text)

    def exit_code(self):
        self.read_until(rb"peak RAM [^\n]*\n")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def chat(folder, *args):
    t = Terminal("run", *BASE, "--chat", "--temp", "0", *args, XDG_STATE_HOME=folder, LANG="C.UTF-8")
    t.read_until(rb"/help explains[^\n]*\n")
    t.read_until(rb"> $")
    return t


def test_chat_only_appends():
    """The second answer is the one after exactly these tokens: first turn, its answer as
    sampled, end of turn, second message."""
    n = ["-n", "12"]
    one = run_json("--chat", "--temp", "0", *n, "first")
    two = run_json("--chat", "--temp", "0", *n, "second")["prompt_ids"]
    start = two[0]
    turn_end, newline = two[two.index(start, 1) - 2:][:2]
    assert one["finish"] == "length"
    history = one["prompt_ids"] + one["ids"] + [turn_end, newline] + two
    want = run_json("--ids", join_ids(history), "--temp", "0", *n)
    with tempfile.TemporaryDirectory() as folder:
        t = chat(folder, *n)
        t.type(b"first\r")
        t.read_until(rb"first\r\n")
        t.read_until(rb"\r\n> $")
        t.type(b"second\r")
        t.read_until(rb"second\r\n")
        answer = t.read_until(rb"\r\n> $")[:-4]
        t.type(b"\x04")
        done = t.read_until(rb"prefill \d+ tokens")
        assert t.exit_code() == 0
    assert answer.decode() == want["text"].replace("\n", "\r\n"), (answer, want["text"])
    # The first answer's tokens were computed once, all but the last as they were sampled.
    assert int(re.findall(rb"prefill (\d+)", done)[0]) == len(history) - (len(one["ids"]) - 1)


def test_ctrl_c_stops_the_answer_only():
    with tempfile.TemporaryDirectory() as folder:
        t = chat(folder, *SLOW)
        t.type(b"ccc\r")  # the answer is about a thousand tokens, slowly
        t.read_until(rb"ccc\r\n.{4}")
        t.type(b"\x03")
        t.read_until(rb"\^C")
        t.read_until(rb"\r\n> $")
        t.type(b"typed, then")
        t.read_until(rb"typed, then$")
        t.type(b"\x03")
        t.read_until(rb"\r\n> $")
        t.type(b"/help\r")
        t.read_until(rb"/reset ")
        t.read_until(rb"> $")
        t.type(b"/exit\r")
        assert t.exit_code() == 0


def test_ctrl_c_while_the_prompt_is_read():
    with tempfile.TemporaryDirectory() as folder:
        t = chat(folder, *SLOW, "-n", "3")
        t.type(b"x" * 1000 + b"\r")
        t.read_until(rb"reading the prompt")
        t.type(b"\x03")
        t.read_until(rb"> $")
        t.type(b"again\r")  # goes behind the rest of the first message
        t.read_until(rb"again\r\n")
        t.read_until(rb"\r\n> $")
        t.type(b"\x04")
        prefilled = int(re.findall(rb"prefill (\d+)", t.read_until(rb"prefill \d+ tokens"))[0])
        assert prefilled > 1000, prefilled
        assert t.exit_code() == 0


def test_chat_commands_history_and_lines():
    with tempfile.TemporaryDirectory() as folder:
        t = chat(folder, "-n", "3")
        for line, want in [(b"/nope", rb"there is no /nope"), (b"/reset", rb"/reset"), ("é\\".encode(), rb"\. $"),
                           (b"end", rb"> $")]:
            t.type(line + b"\r")
            t.read_until(want)
            if want != rb"> $" and not line.endswith(b"\\"):
                t.read_until(rb"> $")
        t.type(b"\x04")
        assert t.exit_code() == 0
        path = os.path.join(folder, "tug", "history")
        assert os.stat(path).st_mode & 0o077 == 0
        t = chat(folder, "-n", "3")
        t.type(b"\x1b[A\x1b[A")  # two up: the first line of the last message
        t.read_until("é".encode())
        t.type(b"\x03")
        t.read_until(rb"> $")
        t.type(b"\x04")
        assert t.exit_code() == 0


def test_chat_without_a_place_for_history():
    t = chat("/dev/null/nowhere", "-n", "3")
    t.type(b"hello\r")
    t.read_until(rb"hello\r\n")
    t.read_until(rb"\r\n> $")
    t.type(b"\x04")
    assert t.exit_code() == 0


def test_full_context_is_said():
    with tempfile.TemporaryDirectory() as folder:
        t = chat(folder, "-c", "40")
        t.type(b"ccc\r")
        t.read_until(rb"context is full")
        t.read_until(rb"> $")
        t.type(b"more\r")
        t.read_until(rb"do not fit")
        t.read_until(rb"> $")
        t.type(b"/reset\r")
        t.read_until(rb"> $")
        t.type(b"hi\r")
        t.read_until(rb"hi\r\n")
        t.read_until(rb"\r\n> $")
        t.type(b"\x04")
        assert t.exit_code() == 0


def test_bar_on_a_terminal_only():
    args = ["run", *BASE, *SLOW, "-n", "1", "--ids", join_ids([5] * 1000)]
    t = Terminal(*args)
    t.read_until(rb"reading the prompt \[#* *\] +\d+ %")
    assert t.exit_code() == 0
    assert b"\r" not in tug(*args).stderr


def main():
    if not os.path.exists(MODEL):
        print(f"skip: {MODEL} is not there\ncli: 0 passed, 0 failed, 1 skipped")
        return 0
    names = sys.argv[1:]
    passed = failed = skipped = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (names and not any(n in name for n in names)):
            continue
        try:
            test()
            passed += 1
        except NoTerminal as why:
            skipped += 1
            print(f"skip: {name}: {why}")
        except (AssertionError, subprocess.TimeoutExpired, KeyError, IndexError, ValueError) as e:
            failed += 1
            print(f"FAIL {name}: {e}")
    print(f"cli: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
