#!/usr/bin/env python3
"""`tug serve --print-config`: what it prints parses in each client's format and says what the
server is.  That the clients take it is in docs/agents.md.

    TUG=build/tug tests/cli/test_client_config.py [NAME ...]
"""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tug_server import MODEL, ROOT, run_tests  # noqa: E402

try:
    import tomllib
except ImportError:  # Python before 3.11
    tomllib = None
    print("skip TOML of codex: this Python has no tomllib")
try:
    import yaml
except ImportError:
    yaml = None
    print("skip YAML of aider and continue: PyYAML is not installed")

TUG = os.path.abspath(os.environ.get("TUG", os.path.join(ROOT, "build/tug")))
ODD = "a\"b\\c'd$(e)`f`: #g\u00e9"  # quotes, a backslash, shell and YAML syntax, UTF-8
ENV = {"PATH": "/usr/bin:/bin", "TUG_API_KEY": "secret"}


def tug(*args):
    return subprocess.run([TUG, "serve", "-m", MODEL, *args], capture_output=True, timeout=60)


def config(client, *args, alias=ODD):
    done = tug("--print-config", client, "--port", "4711", "-c", "65536", "--alias", alias, *args)
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    text = done.stdout.decode()
    assert re.match(r"(#|//) [A-Z]", text), text
    return text


def each_key(client):
    """The text without and with a key asked for."""
    return config(client), config(client, "--api-key-file", "/nowhere")


def json_of(text):
    return json.loads(text.split("\n", 1)[1])


def shell_of(text, *names):
    """The variables after the text ran in a shell."""
    script = text + "".join(f'printf "%s\\0" "${n}";' for n in names)
    done = subprocess.run(["sh", "-euc", script], capture_output=True, env=ENV, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_opencode():
    for text, key in zip(each_key("opencode"), ("tug", "{env:TUG_API_KEY}")):
        root = json_of(text)
        options = root["provider"]["tug"]["options"]
        assert root["model"] == root["small_model"] == "tug/" + ODD
        assert options["baseURL"] == "http://127.0.0.1:4711/v1" and options["apiKey"] == key
        limit = root["provider"]["tug"]["models"][ODD]["limit"]
        assert limit == {"context": 65536, "output": 16384}


def test_qwen_code():
    for text, has_key in zip(each_key("qwen-code"), (False, True)):
        root = json_of(text)
        model = root["modelProviders"]["openai"][0]
        assert model["id"] == root["model"]["name"] == ODD
        assert model["baseUrl"] == "http://127.0.0.1:4711/v1"
        assert model["generationConfig"]["contextWindowSize"] == 65536
        assert root.get("env") == (None if has_key else {"TUG_API_KEY": "tug"})


def test_zed():
    for text in each_key("zed"):
        provider = json_of(text)["language_models"]["openai_compatible"]["tug"]
        model = provider["available_models"][0]
        assert provider["api_url"] == "http://127.0.0.1:4711/v1"
        assert model["name"] == ODD and model["max_tokens"] == 65536


def test_codex():
    if not tomllib:
        return
    for text, has_key in zip(each_key("codex"), (False, True)):
        root = tomllib.loads(text)
        provider = root["model_providers"][root["model_provider"]]
        assert root["model"] == ODD and root["model_context_window"] == 65536
        assert provider["base_url"] == "http://127.0.0.1:4711/v1"
        assert provider["wire_api"] == "responses"
        assert provider.get("env_key") == ("TUG_API_KEY" if has_key else None)


def test_yaml():
    if not yaml:
        return
    for text, key in zip(each_key("aider"), ("tug", None)):
        root = yaml.safe_load(text)
        assert root["model"] == root["weak-model"] == "openai/" + ODD
        assert root["openai-api-base"] == "http://127.0.0.1:4711/v1"
        assert root.get("openai-api-key") == key
    for text, key in zip(each_key("continue"), ("tug", "${{ secrets.TUG_API_KEY }}")):
        model = yaml.safe_load(text)["models"][0]
        assert model["model"] == ODD and model["apiKey"] == key
        assert model["apiBase"] == "http://127.0.0.1:4711/v1"
        assert model["defaultCompletionOptions"]["contextLength"] == 65536


def test_shell():
    names = {"claude-code": ("ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL", "ANTHROPIC_AUTH_TOKEN",
                             "CLAUDE_CODE_MAX_CONTEXT_TOKENS"),
             "open-webui": ("OPENAI_API_BASE_URL", "DEFAULT_MODELS", "OPENAI_API_KEY")}
    for client, variables in names.items():
        path = "" if client == "claude-code" else "/v1"
        for text, key in zip(each_key(client), ("tug", "secret")):
            values = shell_of(text, *variables)
            assert values[:3] == ["http://127.0.0.1:4711" + path, ODD, key], values
            assert values[3:] == ["65536"][:len(values) - 3]
    for text, key in zip(each_key("cline"), ("tug", "secret")):
        said = shell_of("cline() { all=$(printf '%s|' \"$@\"); }\n" + text, "all")[0]
        assert said == ("auth|--provider|openai-compatible|--baseurl|http://127.0.0.1:4711/v1|"
                        f"--modelid|{ODD}|--apikey|{key}|"), said


def test_context_of_the_file_without_c():
    done = tug("--print-config", "opencode")
    assert done.returncode == 0, done.stderr
    name = os.path.basename(MODEL)[:-len(".gguf")]
    assert json_of(done.stdout.decode())["provider"]["tug"]["models"][name]["limit"]["context"] > 0


def test_unknown_client_is_one_sentence():
    for client in ("emacs", ""):
        done = tug("--print-config", client)
        assert done.returncode != 0 and done.stdout == b""
        assert re.fullmatch(rb"tug: [^\n]*opencode, claude-code, [^\n]*open-webui\n", done.stderr), done.stderr


def test_what_no_file_can_carry():
    done = tug("--print-config", "zed", "--alias", "a\nb")
    assert done.returncode != 0 and done.stdout == b"" and b"--alias" in done.stderr


if __name__ == "__main__":
    sys.exit(run_tests(globals(), sys.argv[1:]))
