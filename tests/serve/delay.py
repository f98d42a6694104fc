#!/usr/bin/env python3
"""Two minutes without a token: no client gives up and none asks again.

    tools/clients.sh; tests/serve/delay.py [SECONDS [CLIENT ...]]     default 120, all

The script makes the prefill take that long; every agent, set up by `--print-config`, and every
SDK with its defaults waits for its answer, streamed and whole, all at once and each at a
server of its own.  Held: the client shows the answer and ends well, and its server saw each
request once, none canceled.
"""
import concurrent.futures
import os
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
from clients import AGENTS, FOLDER, NODE, Agent, counters, finish, installed, no_network, synth_model  # noqa: E402
from tug_server import Server  # noqa: E402

CONTEXT = 131072
SAY = "Patience was rewarded."
ASK = "Say something, use no tool."
PATIENCE_S = 400  # beyond the delay: starting agents, computing their prompts on a busy machine
# What else is asked, once: opencode wants a title meanwhile, qwen-code something to remember
# afterwards, for which nobody has to wait.
REQUESTS = {"opencode": 2, "qwen-code": 2}
AFTERWARDS = {"when": "managed memory extraction", "say": "Nothing to remember.", "times": 0}
MORE = {"aider": ["--no-git", "--chat-mode", "ask"]}
# What an SDK is asked to do (delay_sdk.py, delay_sdk.mjs): API, streamed or whole.
WAYS = ["chat-stream", "chat-whole", "responses-stream", "responses-whole", "messages-stream", "messages-whole"]
SDKS = {"python": ("sdk-py/bin/python", "sdk-py", "delay_sdk.py"),
        "javascript": ("node/node_modules/node/bin/node", "sdk-js", "delay_sdk.mjs")}


def start_agent(name, server, home):
    project = os.path.join(home, "project")
    os.makedirs(project)
    agent = Agent(name, home, server, CONTEXT)
    return agent.start(project, ASK, MORE.get(name, ()))


def start_sdk(name, server, home):
    language, way = name.split(" ")
    program, folder, script = SDKS[language]
    env = {"PATH": f"{NODE}:/usr/bin:/bin", "HOME": home, "LANG": "C.UTF-8", "SDK_JS": os.path.join(FOLDER, folder)}
    return subprocess.Popen([installed(program), os.path.join(HERE, script), server.url, way, ASK], env=env,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            start_new_session=True)


def is_installed(name):
    if name in AGENTS:
        return installed(AGENTS[name][0])
    program, folder, _ = SDKS[name.split(" ")[0]]
    return installed(program) and os.path.isdir(os.path.join(FOLDER, folder))


def wait_for(name, delay, model, folder):
    home = os.path.join(folder, name.replace(" ", "-"))
    os.makedirs(home)
    script = [AFTERWARDS, {"say": SAY, "times": 0, "prefill_s": delay}]
    with Server("-c", str(CONTEXT), "-t", "1", "--alias", "tug-test", script=script, model=model) as server:
        start = time.monotonic()
        process = (start_agent if name in AGENTS else start_sdk)(name, server, home)
        code, out, err = finish(process, delay + PATIENCE_S)
        seconds = time.monotonic() - start
        total, recent = counters(server), server.status()["recent"]
        told = f"exit code {code}, {seconds:.0f} s, {total}, {recent}\n{out[-3000:]}\n{err[-3000:]}"
        assert code == 0 and SAY in out and seconds > delay, told
        assert total["requests_total"] == REQUESTS.get(name, 1) == len(recent), told
        assert total["errors_total"] == total["canceled_total"] == total["refused_total"] == 0, told
    return seconds


def main():
    no_network()
    delay = float(sys.argv[1]) if len(sys.argv) > 1 else 120.0
    names = sys.argv[2:] or [*AGENTS, *(f"{s} {w}" for s in SDKS for w in WAYS)]
    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory(prefix="tug-delay-", dir="/var/tmp") as folder, \
            concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        model, _ = synth_model(folder)
        jobs = {}
        for name in names:
            if is_installed(name):
                jobs[name] = pool.submit(wait_for, name, delay, model, folder)
            else:
                print(f"skip {name}: not installed (tools/clients.sh)")
                skipped += 1
        for name, job in jobs.items():
            try:
                print(f"{name}: answered after {job.result():.0f} s", flush=True)
                passed += 1
            except Exception:  # noqa: BLE001 - a test may fail with anything
                failed += 1
                print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
    print(f"delay: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
