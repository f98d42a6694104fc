#!/usr/bin/env python3
"""tug render as a person meets it: output, notes, sentences, exit codes."""
import json
import os
import struct
import subprocess
import sys
import tempfile

TUG = os.environ.get("TUG", "build/tug")
HELLO = '{"messages": [{"role": "user", "content": "Hello"}]}'
PROMPT = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def write_gguf(path, **values):
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)))
        for key, value in values.items():
            f.write(text(key.replace("__", ".")) + struct.pack("<I", 8) + text(value))


def run(args, stdin=""):
    done = subprocess.run([TUG, "render", *args], input=stdin, capture_output=True,
                          text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def cases(model, edited, llama):
    as_json = json.dumps({"prompt": PROMPT, "segments": [
        {"text": "<|im_start|>", "control": True}, {"text": "user\nHello", "control": False},
        {"text": "<|im_end|>", "control": True}, {"text": "\n", "control": False},
        {"text": "<|im_start|>", "control": True},
        {"text": "assistant\n", "control": False}]}) + "\n"
    yield "prompt", ["-m", model], HELLO, (0, PROMPT, "")
    yield "json", ["-m", model, "--json"], HELLO, (0, as_json, "")
    yield "edited template", ["-m", edited], HELLO, (0, PROMPT, (
        f"tug: note: {edited} carries an edited chat template; rendering with the built-in "
        "one of Qwen3-Coder-Next\n"))
    yield "other model", ["-m", llama], HELLO, (1, "", (
        f"tug: {llama} is a model of architecture 'llama'; tug renders for qwen3next\n"))
    yield "no such file", ["-m", "/no/such"], HELLO, (1, "", (
        "tug: cannot open /no/such: No such file or directory\n"))
    yield "bad JSON", ["-m", model], '{"messages": ]', (1, "", (
        "tug: malformed JSON at byte 13: expected a value\n"))
    yield "no input", ["-m", model], "", (1, "", (
        "tug: malformed JSON at byte 0: the text ends too early\n"))
    yield "bad request", ["-m", model], '{"messages": [{"role": 1}]}', (1, "", (
        "tug: messages[0].role is a number; it must be a string\n"))
    yield "no model", [], HELLO, (2, "", (
        "tug: which model? -m FILE is missing; see `tug render --help`\n"))
    yield "unknown option", ["--nope"], HELLO, (2, "", (
        "tug: unknown or incomplete option '--nope'; see `tug render --help`\n"))
    yield "stray argument", ["-m", model, "x"], HELLO, (2, "", (
        "tug: unexpected 'x'; see `tug render --help`\n"))


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        model, edited, llama = (os.path.join(folder, n) for n in ("m.gguf", "e.gguf", "l.gguf"))
        write_gguf(model, general__architecture="qwen3next")
        write_gguf(edited, general__architecture="qwen3next", tokenizer__chat_template="{{ x }}")
        write_gguf(llama, general__architecture="llama")
        for name, args, stdin, want in cases(model, edited, llama):
            got = run(args, stdin)
            passed += got == want
            failed += got != want
            if got != want:
                print(f"FAILED {name}: {got!r}, expected {want!r}")
    print(f"test_render: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
