#!/usr/bin/env python3
"""A model larger than the memory it may have: a slice with the sizes of the 80B model (3.5 GB)
in a control group of 2.2 GB.  It runs, with the very text it has when all fits; the group's
limit is never passed; another process in the group gets the memory it asks for; a limit that
is too small gets one sentence.  Needs root and a writable memory controller; skips without.
"""
import os
import re
import subprocess
import sys
import tempfile
import time

TUG = os.environ.get("TUG", "build/tug")
GB = 10**9
PROMPT = "Write a Python function that reverses a string, then one that sorts a list of numbers."
counts = {"passed": 0, "failed": 0, "skipped": 0}


def verdict(ok, what, detail=""):
    counts["passed" if ok else "failed"] += 1
    print(f"{'ok  ' if ok else 'FAIL'} {what}{': ' + detail if detail else ''}", flush=True)


class Group:
    """A memory control group, version 1 or 2."""

    def __init__(self, limit):
        self.v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        root = "/sys/fs/cgroup" if self.v2 else "/sys/fs/cgroup/memory"
        self.path = os.path.join(root, f"tug-test-{os.getpid()}")
        os.mkdir(self.path)
        try:
            self.write("memory.max" if self.v2 else "memory.limit_in_bytes", limit)
            if self.v2:
                self.write("memory.swap.max", 0)
        except OSError:
            self.remove()
            raise

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as f:
            f.write(str(value))

    def read(self, name):
        with open(os.path.join(self.path, name), encoding="ascii") as f:
            return f.read()

    def join(self):
        self.write("cgroup.procs", os.getpid())

    def kills(self):
        text = self.read("memory.events" if self.v2 else "memory.oom_control")
        return int(re.search(r"oom_kill (\d+)", text)[1])

    def remove(self):
        for _ in range(50):
            try:
                os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.1)


def command(model, *more):
    return [TUG, "run", "-m", model, "-c", "2048", "--temp", "0", *more, PROMPT]


def run(args, group=None):
    """stdout and stderr of a run, and how much of its own memory it had at most."""
    before = (lambda: group.join()) if group else None
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=before)
    most = 0
    while p.poll() is None:
        try:
            with open(f"/proc/{p.pid}/status", encoding="ascii") as f:
                m = re.search(r"RssAnon:\s*(\d+)", f.read())
            most = max(most, int(m[1]) * 1024 if m else 0)
        except OSError:
            pass
        time.sleep(0.02)
    return p.returncode, p.stdout.read(), p.stderr.read().decode(), most


def hog(group, n_bytes, seconds):
    """Another program that wants memory, touched and kept."""
    code = f"import time; b = bytearray({n_bytes}); b[::4096] = b'x' * len(b[::4096]); print('have', flush=True); time.sleep({seconds})"
    return subprocess.Popen([sys.executable, "-c", code], preexec_fn=group.join, stdout=subprocess.PIPE)


def test_in_group(model, expect, expect_long, limit):
    group = Group(limit)
    try:
        code, out, err, most = run(command(model, "-n", "24", "--ram", "1.9G"), group)
        verdict(code == 0 and out == expect, "the text of a run with a ceiling of 1.9 GB is that of one without",
                "" if code == 0 else err)
        verdict(most <= 1.9 * GB, "and its own memory stays below it", f"{most / GB:.2f} GB")
        verdict("plan: RAM 1.9 GB" in err and re.search(r"experts \d+ % in memory", err), "it says its plan", err[:300])
        code, out, err, most = run(command(model, "-n", "24"), group)
        verdict(code == 0 and out == expect, "without a ceiling it sees the group's limit by itself", err[-200:])
        verdict(most <= limit, "and stays below it", f"{most / GB:.2f} GB")
        code, out, err, _ = run(command(model, "-n", "4", "--ram", "300M"), group)
        verdict(code == 1 and out == b"" and re.search(r"needs at least [\d.]+ GB of RAM", err),
                "a ceiling that is too low is told the least", err.strip())

        # Another program comes while a long answer is computed.
        p = subprocess.Popen(command(model, "-n", "600", "--ram", "2G"), bufsize=0, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, preexec_fn=group.join)
        head = p.stdout.read(20)
        other = hog(group, 450_000_000, 30)
        got = other.stdout.readline()
        tail, err = p.communicate(timeout=600)
        verdict(got == b"have\n", "another program gets 450 MB beside it")
        verdict(p.returncode == 0 and head + tail == expect_long, "and no letter of the long answer changes",
                err.decode()[-200:])
        other.kill()
        other.wait()
        verdict(group.kills() == 0, "nobody was killed for memory")
    finally:
        group.remove()


def main():
    with tempfile.TemporaryDirectory(dir=os.environ.get("TUG_BIG", None)) as folder:
        model = os.path.join(folder, "slice.gguf")
        done = subprocess.run([TUG, "synth", "-o", model, "--layers", "4"], capture_output=True, check=False)
        if done.returncode != 0:
            counts["skipped"] += 1
            print("skip: no slice:", done.stderr.decode().strip())
        else:
            try:
                Group(GB).remove()
            except OSError as e:
                counts["skipped"] += 1
                print(f"skip: no control group of our own here ({e})")
            else:
                code, expect, err, most = run(command(model, "-n", "24"))
                verdict(code == 0 and most > 3 * GB, "the slice runs with all its weights in memory",
                        f"{most / GB:.1f} GB {err[-200:] if code else ''}")
                code, long, err, _ = run(command(model, "-n", "600"))
                verdict(code == 0, "also for a long answer", err[-200:] if code else "")
                test_in_group(model, expect, long, int(2.2 * GB))
    print(", ".join(f"{n} {what}" for what, n in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
