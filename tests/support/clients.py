"""The real clients that tools/clients.sh installs: where they are, how they are set up for a
server and started without a person.

Each has the configuration that `tug serve --print-config` writes, a home folder of its own
and a clean environment.  no_network() keeps them from everything but loopback.
"""
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys

from tug_server import MODEL, ROOT

FOLDER = os.environ.get("TUG_CLIENTS") or os.path.expanduser("~/.cache/tug-clients")
NODE = os.path.join(FOLDER, "node/node_modules/node/bin")
NAME = "tug-test"  # what the model is called

# Telemetry, update checks and downloads of all of them.
QUIET = {
    "DO_NOT_TRACK": "1", "NO_UPDATE_NOTIFIER": "1", "CI": "1", "TERM": "dumb", "NO_COLOR": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1", "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1", "DISABLE_ERROR_REPORTING": "1",
    "AIDER_ANALYTICS": "false", "AIDER_CHECK_UPDATE": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@localhost", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@localhost", "LANG": "C.UTF-8",
}

# name: (program below FOLDER, where its configuration goes below the home folder, command)
AGENTS = {
    "opencode": ("opencode/node_modules/.bin/opencode", ".config/opencode/opencode.json",
                 ["run", "--auto"]),
    "codex": ("codex/node_modules/.bin/codex", ".codex/config.toml",
              ["exec", "--dangerously-bypass-approvals-and-sandbox", "--skip-git-repo-check"]),
    "claude-code": ("claude-code/node_modules/.bin/claude", "tug.env",
                    ["--permission-mode", "acceptEdits", "--allowedTools", "Bash,Read,Edit,Write", "-p"]),
    "qwen-code": ("qwen-code/node_modules/.bin/qwen", ".qwen/settings.json", ["--yolo", "-p"]),
    "aider": ("aider/bin/aider", ".aider.conf.yml",
              ["--yes-always", "--no-pretty", "--no-gitignore", "--no-show-release-notes", "--message"]),
}


def installed(program):
    """The path of a program below FOLDER, or None."""
    path = os.path.join(FOLDER, program)
    return path if os.access(path, os.X_OK) else None


def print_config(client, server, context):
    tug = os.path.abspath(os.environ.get("TUG", os.path.join(ROOT, "build/tug")))
    return subprocess.run([tug, "serve", "-m", MODEL, "--print-config", client, "--port", str(server.port),
                           "-c", str(context), "--alias", NAME], check=True, stdout=subprocess.PIPE).stdout


class Agent:
    """One agent, set up in `home` for a running server."""

    def __init__(self, name, home, server, context):
        program, config, self.arguments = AGENTS[name]
        self.name, self.home, self.program = name, home, installed(program)
        self.config = os.path.join(home, config)
        os.makedirs(os.path.dirname(self.config), exist_ok=True)
        with open(self.config, "wb") as f:
            f.write(print_config(name, server, context))

    def environment(self):
        path = os.pathsep.join([NODE, "/usr/local/bin", "/usr/bin", "/bin"])
        return {"PATH": path, "HOME": self.home, "TMPDIR": self.home, **QUIET}

    def command(self, prompt, more=()):
        """For a shell where the configuration is one, else the program itself."""
        words = [self.program, *self.arguments, prompt, *more]
        if not self.config.endswith(".env"):
            return words
        return ["sh", "-c", f". {shlex.quote(self.config)} && exec {shlex.join(words)}"]

    def start(self, project, prompt, more=()):
        return subprocess.Popen(self.command(prompt, more), cwd=project, env=self.environment(),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True)


def finish(process, patience):
    """(exit code, stdout, stderr); whatever it started goes with it."""
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err += b"\nkilled: it did not end"
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def counters(server):
    text = server.get("/metrics").text()
    return {k: int(float(v)) for k, v in re.findall(r"^tug_(\w+_total) (\S+)$", text, re.M)}


def synth_model(folder):
    """(model, what is said about it): random weights, as small as it goes, for answers that come
    from a script.  With the tokenizer of the real model where its data are, else with the words
    of the tiny one.
    """
    data = [os.environ.get("TUG_SHARED_DATA"), *(os.path.join(ROOT, up, "shared/data") for up in ("..", "../.."))]
    found = [f for d in data if d and os.path.exists(f := os.path.join(d, "tokenizer/qwen3-tokenizer.json"))]
    if not found:
        return MODEL, "the tiny model (the real tokenizer is not in ../shared/data)"
    path = os.path.join(folder, "synth.gguf")
    tug = os.path.abspath(os.environ.get("TUG", os.path.join(ROOT, "build/tug")))
    sizes = {"layers": 4, "dim": 64, "heads": 2, "kv-heads": 1, "head-dim": 64, "delta-k-heads": 1,
             "delta-v-heads": 2, "experts": 4, "experts-used": 1, "expert-dim": 32, "shared-dim": 32,
             "vocab-size": 151936, "ctx-size": 262144}
    subprocess.run([tug, "synth", "-o", path, "--like", "tiny", "--quant", "Q8_0", "--vocab", found[0],
                    *(word for k, v in sizes.items() for word in ("--" + k, str(v)))],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path, "random weights with the real tokenizer"


def no_network():
    """Starts this program anew where there is no network but loopback, if that is allowed here."""
    if os.environ.get("TUG_NO_NETWORK"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:  # ip link set lo up
            flags = struct.pack("16sh14x", b"lo", 0x1 | 0x40)
            fcntl.ioctl(s.fileno(), 0x8914, flags)
        return
    enter = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and subprocess.run([*enter, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        os.environ["TUG_NO_NETWORK"] = "1"
        os.execvp(enter[0], [*enter, sys.executable, *sys.argv])
    print("skipping the wall around the clients: unshare --net is not allowed here", flush=True)
