#!/usr/bin/env python3
"""Five coding agents find, fix and test a bug through `tug serve`, twice each.

    tools/clients.sh; tests/serve/agents.py [AGENT ...]

What the model says comes from a script (build/tests/tug-scripted); the agents, their
configuration, HTTP, parsing, streaming and the cache are the real ones.  The second task, in
other words, comes from a new process of the agent and meets the warm server.  Held: the bug is
gone, the agent ends well and shows the last words, the server saw exactly the requests that the
script foresees, none of them failed, every request that goes on with a conversation reuses all
of its prompt and answer, and a new conversation most of what is the same in all.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from clients import AGENTS, Agent, counters, finish, installed, no_network, synth_model  # noqa: E402
from tug_server import Server  # noqa: E402

CONTEXT = 131072
PATIENCE_S = 600  # for one task; the machine may be busy
TASKS = ("The test of calc.py fails. Find the bug, fix it and run the test.",
         "Once more the test of calc.py fails. Somebody put the bug back: fix it and run the test.")
WRONG = "    return sum(values) / (len(values) - 1)"
RIGHT = "    return sum(values) / len(values)  # all of them"
PROJECT = {
    "calc.py": f'"""Small sums."""\n\n\ndef mean(values):\n    """The mean of <numbers> & "more"."""\n{WRONG}\n',
    "test_calc.py": ("import calc\n\nassert calc.mean([1, 2, 3]) == 2\nassert calc.mean([5]) == 5\n"
                     'print("calc", "holds", sep="-")\n'),
}
RUN = "python3 test_calc.py"
PASSED = "calc-holds"  # printed by the test only
LAST_WORDS = "The mean divides by the number of values now, and the test passes."


def call(function, **parameters):
    text = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in parameters.items())
    return f"<tool_call>\n<function={function}>\n{text}</function>\n</tool_call>"


def three_steps(project, read, edit, run):
    """A model that reads, edits, runs the test and looks again at once, and says what it did.
    Each rule wants to see what the step before has brought."""
    return [{"when": "he test of calc.py fails", "say": "I look at the file.\n\n" + read},
            {"when": "(len(values) - 1)", "say": edit},
            {"when": "# all of them", "say": "Now the test.\n\n" + run + "\n" + read},
            {"when": PASSED, "say": LAST_WORDS}]


def opencode_rules(project):
    path = project + "/calc.py"
    return three_steps(project, call("read", filePath=path),
                       call("edit", filePath=path, oldString=WRONG, newString=RIGHT),
                       call("bash", command=RUN, description="Runs the test"))


def claude_rules(project):
    path = project + "/calc.py"
    return three_steps(project, call("Read", file_path=path),
                       call("Edit", file_path=path, old_string=WRONG, new_string=RIGHT),
                       call("Bash", command=RUN, description="Run the test"))


def qwen_rules(project):
    path = project + "/calc.py"
    return three_steps(project, call("read_file", file_path=path),
                       call("edit", file_path=path, old_string=WRONG, new_string=RIGHT),
                       call("run_shell_command", command=RUN, is_background="false"))


def codex_rules(project):
    patch = f"*** Begin Patch\n*** Update File: calc.py\n@@\n-{WRONG}\n+{RIGHT}\n*** End Patch"
    return three_steps(project, call("exec_command", cmd="cat calc.py"),
                       call("exec_command", cmd=f"apply_patch <<'EOF'\n{patch}\nEOF"),
                       call("exec_command", cmd=RUN, workdir=project))


def aider_rules(project):
    """Aider puts the file into the prompt, takes edits as text and runs the test itself."""
    edit = f"calc.py\n```python\n<<<<<<< SEARCH\n{WRONG}\n=======\n{RIGHT}\n>>>>>>> REPLACE\n```\n"
    return [{"when": "he test of calc.py fails", "say": f"{LAST_WORDS}\n\n{edit}"}]


# Other things that agents ask for: what their prompt has, the answer.
TITLE = {"opencode": ("You are a title generator", "Mean fixed"),
         "aider": ("Git commit message", "fix: divide by all values")}
RULES = {"opencode": opencode_rules, "codex": codex_rules, "claude-code": claude_rules,
         "qwen-code": qwen_rules, "aider": aider_rules}
MORE = {"aider": ["--edit-format", "diff", "--auto-test", "--test-cmd", RUN, "calc.py"]}


def make_project(folder):
    """Always at the same place and the same commit: agents put both into their prompt."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for name, text in PROJECT.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(text)
    day = "2026-01-01T00:00:00Z"
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_DATE": day, "GIT_COMMITTER_DATE": day}
    who = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Start"]):
        subprocess.run(["git", *who, *words], cwd=folder, env=env, check=True)


def check_done(project, code, out):
    assert code == 0, f"exit code {code}"
    with open(os.path.join(project, "calc.py"), encoding="utf-8") as f:
        text = f.read()
    assert text == PROJECT["calc.py"].replace(WRONG, RIGHT), text
    done = subprocess.run([sys.executable, "test_calc.py"], cwd=project, stdout=subprocess.PIPE)
    assert done.returncode == 0 and PASSED in done.stdout.decode(), done
    assert LAST_WORDS in " ".join(out.split()), "the last words are missing"


def check_requests(new, n_steps, n_titles, warm):
    """new: what /status says about this task's requests, oldest first."""
    assert len(new) == n_steps + n_titles, f"{len(new)} requests, {n_steps} + {n_titles} foreseen: {new}"
    assert all(r["end"] in ("stop", "tool calls") for r in new), new
    turns = sorted(new, key=lambda r: r["n_prompt"])[-n_steps:]
    for before, after in zip(turns, turns[1:]):
        known = before["n_prompt"] + before["n_completion"]
        assert after["n_cached"] >= known - 8, (before, after)
    if warm:
        assert turns[0]["n_cached"] * 2 > turns[0]["n_prompt"], turns[0]


def do_task(agent, server, project, n_steps, warm):
    make_project(project)
    old = {r["id"] for r in server.status()["recent"]}
    start = time.monotonic()
    code, out, err = finish(agent.start(project, TASKS[warm], MORE.get(agent.name, ())), PATIENCE_S)
    seconds = time.monotonic() - start
    new = [r for r in reversed(server.status()["recent"]) if r["id"] not in old]
    try:
        check_done(project, code, out)
        check_requests(new, n_steps, agent.name in TITLE, warm)
        total = counters(server)
        assert total["errors_total"] == total["canceled_total"] == total["refused_total"] == 0, total
    except AssertionError:
        print(f"--- {agent.name}: stdout\n{out[-6000:]}\n--- stderr\n{err[-6000:]}\n--- requests\n{new}")
        raise
    said = ", ".join(f"{r['n_cached']}/{r['n_prompt']}" for r in new)
    print(f"{agent.name} {'again' if warm else 'cold'}: {seconds:.1f} s, reused/prompt tokens {said}", flush=True)


def do_agent(name, model, folder):
    project, home = os.path.join(folder, "project"), os.path.join(folder, "home")
    os.makedirs(home)
    rules = RULES[name](project)
    title = [{"when": TITLE[name][0], "say": TITLE[name][1], "times": 0}] if name in TITLE else []
    script = [*title, *rules, *rules, {"say": "Nobody foresaw this request.", "times": 0}]
    with Server("-c", str(CONTEXT), "--alias", "tug-test", script=script, model=model) as server:
        agent = Agent(name, home, server, CONTEXT)
        for warm in (False, True):
            do_task(agent, server, project, len(rules), warm)


def main():
    no_network()
    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory(prefix="tug-agents-", dir="/var/tmp") as folder:
        model, what = synth_model(folder)
        print(f"model: {what}", flush=True)
        for name in sys.argv[1:] or AGENTS:
            if not installed(AGENTS[name][0]):
                print(f"skip {name}: not installed (tools/clients.sh)")
                skipped += 1
                continue
            try:
                do_agent(name, model, os.path.join(folder, name))
                passed += 1
            except Exception:  # noqa: BLE001 - a test may fail with anything
                failed += 1
                print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
    print(f"agents: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
