#!/usr/bin/env python3
"""No byte that nobody wrote leaves the server, and nothing decides by one: `tug serve` under
valgrind's memcheck answers each API whole and as a stream, a call, errors and its own pages.
"""
import os
import shutil
import stat
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from support.tug_server import ROOT, Server, run_tests  # noqa: E402

TOOL = {"name": "run", "description": "Runs a command", "parameters": {
    "type": "object", "properties": {"command": {"type": "string"}, "times": {"type": "integer"}}, "required": ["command"]}}
HELLO = {"role": "user", "content": "Say hello"}


def test_memcheck():
    tug = os.path.abspath(os.environ.get("TUG", os.path.join(ROOT, "build/tug")))
    with tempfile.TemporaryDirectory() as folder:
        wrapper, log = os.path.join(folder, "tug"), os.path.join(folder, "log")
        with open(wrapper, "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\nexec valgrind --quiet --error-exitcode=99 --log-file={log} '{tug}' \"$@\"\n")
        os.chmod(wrapper, stat.S_IRWXU)
        with Server("-t", "1", "-c", "2048", "--cache-ram", "0.05", tug=wrapper) as s:
            chat = {"messages": [HELLO], "max_tokens": 6, "logprobs": True, "top_logprobs": 2}
            for stream in (False, True):
                for path, body in (
                        ("/v1/chat/completions", chat),
                        ("/v1/chat/completions", {**chat, "tools": [{"type": "function", "function": TOOL}],
                                                  "tool_choice": "required", "max_tokens": 40}),
                        ("/v1/completions", {"prompt": "def f(", "suffix": ")", "max_tokens": 6}),
                        ("/v1/responses", {"input": "hello", "max_output_tokens": 16}),
                        ("/v1/messages", {"messages": [HELLO], "max_tokens": 6})):
                    answer = s.post(path, {**body, "stream": stream}, timeout=200)
                    assert answer.status == 200, (path, answer.body)
            for path in ("/health", "/v1/models", "/metrics", "/status", "/props", "/", "/openapi.json", "/nothing"):
                assert s.get(path, timeout=60).status in (200, 404), path
            for body in ("{", "[]", '{"messages": [{"role": "user", "content": 7}]}', b"\xff"):
                assert s.post("/v1/chat/completions", body, timeout=60).status == 400
        with open(log, encoding="utf-8") as f:
            said = f.read()
        assert "uninitialised" not in said and "Invalid" not in said, said[-4000:]


if __name__ == "__main__":
    if not shutil.which("valgrind"):
        print("skip: valgrind is missing\n0 passed, 0 failed, 1 skipped")
        sys.exit(0)
    sys.exit(run_tests(globals(), sys.argv[1:]))
