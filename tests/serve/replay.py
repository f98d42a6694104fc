#!/usr/bin/env python3
"""Recorded requests of real agents, in order: each is accepted, and one that extends the last
computes only what is new.

    TUG=build/tug tests/serve/replay.py         needs ../shared/data/agents, else it skips

The bodies and headers are what opencode, codex and qwen-code sent to another server; the answers
are a script's, so what the recorded assistant said is new to us: held is that all of the
prompt before is reused.  The model has random weights and the tokenizer of the real one.
"""
import json
import os
import sys
import tempfile
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from clients import synth_model  # noqa: E402
from tug_server import ROOT, Server  # noqa: E402

AGENTS = ("opencode", "codex", "qwen")
# Headers of the connection it was recorded on.
OF_THE_CONNECTION = {"host", "content-length", "connection", "transfer-encoding", "accept-encoding"}
LAST = {"/v1/chat/completions": "data: [DONE]", "/v1/responses": "event: response.completed"}


def recorded():
    """{agent: its requests in order}, without those that are absent."""
    folders = [os.environ.get("TUG_SHARED_DATA"), *(os.path.join(ROOT, up, "shared/data") for up in ("..", "../.."))]
    found = {}
    for agent in AGENTS:
        for folder in filter(None, folders):
            path = os.path.join(folder, "agents", agent)
            if os.path.isdir(path):
                names = sorted(n for n in os.listdir(path) if n.endswith(".json"))
                found[agent] = [json.load(open(os.path.join(path, n), encoding="utf-8")) for n in names]
                break
    return found


def turns_of(body):
    return body.get("messages") or body.get("input")


def extends(after, before):
    """Is `before` the beginning of `after`, tools and all?"""
    a, b = turns_of(after), turns_of(before)
    return len(a) > len(b) and a[:len(b)] == b and after.get("tools") == before.get("tools")


def replay(agent, requests, server):
    before, n_extended = None, 0
    for i, r in enumerate(requests, 1):
        headers = {k: v for k, v in r["headers"].items() if k.lower() not in OF_THE_CONNECTION}
        answer = server.request(r["method"], r["path"], json.dumps(r["body"]), headers, timeout=600)
        assert answer.status == 200, (agent, i, answer.status, answer.body[:500])
        assert LAST[r["path"].split("?")[0]] in answer.text(), (agent, i, answer.text()[-500:])
        seen = server.status()["recent"][0]
        assert seen["end"] in ("stop", "tool calls"), (agent, i, seen)
        reused = f"{seen['n_cached']}/{seen['n_prompt']}"
        if before and extends(r["body"], before[0]):
            n_extended += 1
            assert seen["n_cached"] >= before[1]["n_prompt"], (agent, i, before[1], seen)
            reused += " (extends the last)"
        before = r["body"], seen
        print(f"{agent} {i}: {reused} tokens reused", flush=True)
    assert n_extended >= 2, f"{agent}: {n_extended} requests extend the one before; the recording has two at least"


def main():
    found = recorded()
    passed = failed = 0
    if not found:
        print("skip replay: ../shared/data/agents is absent\nreplay: 0 passed, 0 failed, 1 skipped")
        return 0
    with tempfile.TemporaryDirectory(prefix="tug-replay-", dir="/var/tmp") as folder:
        model, what = synth_model(folder)
        print(f"model: {what}")
        for agent, requests in found.items():
            try:
                with Server("-c", "65536", script=[{"say": "So it is.", "times": 0}], model=model) as server:
                    replay(agent, requests, server)
                passed += 1
            except Exception:  # noqa: BLE001 - a test may fail with anything
                failed += 1
                print(f"FAIL {agent}\n{traceback.format_exc()}")
    print(f"replay: {passed} passed, {failed} failed, {len(AGENTS) - len(found)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
