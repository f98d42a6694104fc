#!/usr/bin/env python3
"""Generate tool-using dialogues for training and for the exactness score.

Everything comes from a seeded generator. Names (files, folders, identifiers, literals) are drawn at
random, so the only way to call a tool correctly is to copy them out of the conversation. A name
belongs to the held-out set when its hash says so: training never shows one, the evaluation only
uses those.

`python3 dialogues.py --seed 1 --count 3` prints examples.
"""
import argparse
import random
import zlib

import chat

TRAIN, HELDOUT = "train", "heldout"

# ------------------------------------------------------------------------------------- names
_WORDS = """main util utils test core parser lexer server client config data model view index cache
store queue stack tree graph node edge list table map set vector matrix buffer stream reader writer
loader export import build make setup install deploy run job task worker thread pool lock event timer
clock date time log logger trace debug error check verify hash crypto token auth user group role file
path dir disk net http socket url request response session cookie json yaml xml csv text string regex
format print render draw paint image pixel color shape point line rect circle math num float int bool
stats sum mean sort search filter merge split join copy move delete insert update select query db sql
schema field column row record entry item order cart price tax invoice payment bank account ledger
game player score level board card deck dice enemy world map tile engine physics sound audio video
frame camera light shader mesh scene plot chart report page menu button panel window widget form input
output command shell script macro plugin module package version release patch diff commit branch tag
weather forecast city country region route train bus ticket hotel recipe menu food garden plant animal
cat dog bird fish robot sensor motor driver device kernel memory alloc heap garbage compiler linker""".split()
_ON = "b c d f g h j k l m n p r s t v w z br ch cl cr dr fl gr kr pl pr sh sk sl sp st tr qu".split()
_VO = "a e i o u a e i o ai ou ea oo y".split()
_CO = ["", "", "", "n", "r", "s", "t", "l", "m", "x", "k", "nd", "rt", "ck", "sh"]
_EXT = ["py"] * 9 + ["c"] * 5 + ["h"] * 2 + ["md"] * 2 + ["txt"] * 3 + ["js"] * 2 + ["sh", "json", "toml",
        "cfg", "yaml", "go", "rs", "html", "css", "cpp", "ini", "log", "csv"]
_DIRS = ["src", "lib", "tests", "docs", "app", "tools", "include", "scripts", "examples", "pkg", "bin", "etc"]


def _allowed(name, split):
    held = zlib.crc32(name.encode()) % 8 == 0
    return held == (split == HELDOUT)


def _part(rng):
    k = rng.random()
    if k < 0.5:
        return rng.choice(_WORDS)
    if k < 0.92:
        return "".join(rng.choice(_ON) + rng.choice(_VO) + rng.choice(_CO)
                       for _ in range(rng.choice((1, 1, 2, 2, 3))))
    n = rng.randint(2, 6)
    return rng.choice("abcdefghijklmnopqrstuvwxyz") + "".join(
        rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(n))


def ident(rng, split, style=None):
    """A random identifier: snake, camel, Pascal, upper."""
    while True:
        parts = [_part(rng) for _ in range(rng.choice((1, 2, 2, 2, 3)))]
        s = style or rng.choice(("snake", "snake", "snake", "camel", "pascal"))
        if s == "snake":
            name = "_".join(parts)
        elif s == "upper":
            name = "_".join(parts).upper()
        elif s == "camel":
            name = parts[0] + "".join(p.capitalize() for p in parts[1:])
        else:
            name = "".join(p.capitalize() for p in parts)
        if s == "snake" and rng.random() < 0.12:
            name += str(rng.randint(1, 99))
        if len(name) > 2 and _allowed(name, split):
            return name


def stem(rng, split):
    while True:
        parts = [_part(rng) for _ in range(rng.choice((1, 1, 1, 2, 2)))]
        name = rng.choice(("_", "_", "-", ""))[:1].join(parts)
        if rng.random() < 0.1:
            name += str(rng.randint(0, 99))
        if len(name) > 1 and _allowed(name, split):
            return name


def folder(rng, split, deep=True):
    parts = []
    if rng.random() < 0.6:
        parts.append(rng.choice(_DIRS))
    while not parts or (deep and rng.random() < 0.33 and len(parts) < 3):
        parts.append(stem(rng, split))
    if rng.random() < 0.04:
        parts[0] = "/" + parts[0]
    return "/".join(parts)


def path(rng, split, ext=None):
    name = stem(rng, split) + "." + (ext or rng.choice(_EXT))
    if rng.random() < 0.3:
        return name
    return folder(rng, split) + "/" + name


def words(rng, split, lo=1, hi=5):
    pool = ["hello", "world", "the", "a", "new", "good", "day", "is", "all", "done", "ready", "go", "to",
            "we", "are", "here", "one", "two", "ok", "and", "with", "no", "more", "this", "your", "my"]
    out = []
    for _ in range(rng.randint(lo, hi)):
        out.append(rng.choice(pool) if rng.random() < 0.5 else
                   (_part(rng) if rng.random() < 0.7 else str(rng.randint(0, 9999))))
    return " ".join(out)


# ------------------------------------------------------------------------------------- tools
def _tool(name, desc, props, required=None):
    return {"type": "function", "function": {
        "name": name, "description": desc,
        "parameters": {"type": "object",
                       "properties": {k: {"type": "string", "description": d} for k, d in props.items()},
                       "required": required or list(props)}}}


TOOLS = {
    "read_file": _tool("read_file", "Read a file and return its text.", {"path": "Path of the file"}),
    "write_file": _tool("write_file", "Create or overwrite a file.",
                        {"path": "Path of the file", "content": "The whole new text of the file"}),
    "edit": _tool("edit", "Replace one piece of text in a file.",
                  {"path": "Path of the file", "old": "Text to replace", "new": "Text to put there"}),
    "run": _tool("run", "Run a shell command and return its output.", {"command": "The command line"}),
    "list": _tool("list", "List the files in a folder.", {"path": "Path of the folder"}),
}
_DESC = {
    "read_file": ["Read a file and return its text.", "Reads a file.", "Returns the content of a file."],
    "write_file": ["Create or overwrite a file.", "Writes a file.", "Write text to a file."],
    "edit": ["Replace one piece of text in a file.", "Edits a file by replacing text.", "Exact string replacement."],
    "run": ["Run a shell command and return its output.", "Executes a command.", "Run a command in a shell."],
    "list": ["List the files in a folder.", "Lists a directory.", "Show the entries of a directory."],
}


def tool_list(rng):
    names = list(TOOLS)
    if rng.random() < 0.5:
        rng.shuffle(names)
    if rng.random() < 0.5:
        return [TOOLS[n] for n in names]
    out = []
    for n in names:
        f = TOOLS[n]["function"]
        out.append(_tool(n, rng.choice(_DESC[n]),
                         {k: v["description"] for k, v in f["parameters"]["properties"].items()}))
    return out


_SYSTEM = [
    "You are a helpful assistant.", "You are a coding assistant.", "You are a careful programmer.",
    "You are tug, a small coding agent.", "You are a coding agent working in a repository.",
    "You are an expert software engineer. Use the tools to answer.", "Be brief.",
    "You help with code. Answer briefly and use tools when they help.",
    "You are a coding agent with the tools read_file, write_file, edit, run and list.",
    "You are Qwen, a helpful AI assistant that can interact with a computer to solve tasks.",
    "You work in a terminal. Keep answers short.", "You are a friendly assistant that writes Python and C.",
]


def system_prompt(rng, split):
    s = rng.choice(_SYSTEM)
    k = rng.random()
    if k < 0.2:
        s += f"\nThe working directory is /{folder(rng, split).strip('/')}."
    elif k < 0.3:
        s += f" The project is called {stem(rng, split)}."
    elif k < 0.35:
        s += f"\n\nToday is 20{rng.randint(10, 30)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}."
    return s


# ------------------------------------------------------------------------------------- helpers
def call(name, **args):
    return {"type": "function", "function": {"name": name, "arguments": args}}


def user(text):
    return {"role": "user", "content": text}


def say(text):
    return {"role": "assistant", "content": text}


def act(calls, lead=""):
    return {"role": "assistant", "content": lead, "tool_calls": calls if isinstance(calls, list) else [calls]}


def tool(text):
    return {"role": "tool", "content": text}


def pick(rng, *opts):
    return rng.choice(opts)


def lead(rng, *opts, p=0.35):
    return rng.choice(opts) if rng.random() < p else ""


def polite(rng, s):
    k = rng.random()
    if k < 0.08:
        s = "Please " + s[0].lower() + s[1:]
    elif k < 0.14:
        s = "Can you " + s[0].lower() + s[1:] + "?"
    elif k < 0.18:
        s = "Could you " + s[0].lower() + s[1:] + "?"
    elif k < 0.22:
        s = s + ", please"
    if rng.random() < 0.35 and not s.endswith("?"):
        s += "."
    if rng.random() < 0.25:
        s = s[0].lower() + s[1:]
    return s


def quote(rng, s):
    return s if rng.random() < 0.75 else f"`{s}`"


def join_names(names):
    names = [f"`{n}`" for n in names]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


_OPS = [("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/")]


def py_function(rng, split, name=None):
    """(name, lines) of a small Python function."""
    name = name or ident(rng, split, "snake")
    a, b = ident(rng, split, "snake"), rng.choice(("x", "n", "y", "k", "value", "items", "size"))
    if a == b:
        a = "a"
    c = rng.randint(1, 99)
    body = rng.choice((
        [f"def {name}({a}, {b}):", f"    return {a} {rng.choice('+-*')} {b}"],
        [f"def {name}({a}):", f"    return {a} {rng.choice('+-*')} {c}"],
        [f"def {name}():", f"    return {c}"],
        [f"def {name}():", f'    print("{words(rng, split, 1, 3)}")'],
        [f"def {name}({a}):", f"    {b} = 0", f"    for i in {a}:", f"        {b} += i", f"    return {b}"],
        [f"def {name}({a}, {b}={c}):", f"    if {a} > {b}:", f"        return {a}", f"    return {b}"],
        [f"def {name}({a}):", f"    with open({a}) as f:", "        return f.read()"],
        [f"def {name}({a}):", f"    return [{b} for {b} in {a} if {b} > {c}]"],
    ))
    return name, body


def c_function(rng, split, name=None):
    name = name or ident(rng, split, "snake")
    a, c = ident(rng, split, "snake"), rng.randint(1, 99)
    body = rng.choice((
        [f"int {name}(int {a})", "{", f"    return {a} {rng.choice('+-*')} {c};", "}"],
        [f"int {name}(void)", "{", f"    return {c};", "}"],
        [f"void {name}(void)", "{", f'    puts("{words(rng, split, 1, 3)}");', "}"],
        [f"static int {name}(int a, int b)", "{", f"    return a {rng.choice('+-*')} b;", "}"],
    ))
    return name, body


def source(rng, split, p, must=None):
    """(text, names defined, the language word) of a small random file for path p."""
    ext = p.rsplit(".", 1)[-1]
    names, out = [], []
    n = rng.choice((1, 1, 2, 2, 3))
    if ext in ("py",):
        if rng.random() < 0.4:
            out += [f"import {rng.choice(('os', 'sys', 'json', 're', 'math', 'time', 'random'))}", ""]
        if rng.random() < 0.3:
            k = ident(rng, split, "upper")
            out += [f"{k} = {rng.randint(0, 999)}", ""]
        for i in range(n):
            name, body = py_function(rng, split, must if i == 0 else None)
            names.append(name)
            out += body + [""]
        what = "function"
    elif ext in ("c", "h", "cpp"):
        if rng.random() < 0.6:
            out += [f"#include <{rng.choice(('stdio.h', 'stdlib.h', 'string.h', 'math.h'))}>", ""]
        for i in range(n):
            name, body = c_function(rng, split, must if i == 0 else None)
            names.append(name)
            out += body + [""]
        what = "function"
    elif ext in ("cfg", "ini", "toml", "yaml", "json"):
        keys = [must] if must else []
        keys += [ident(rng, split, "snake") for _ in range(n + 1 - len(keys))]
        vals = [rng.choice((str(rng.randint(0, 9999)), '"' + _part(rng) + '"', "true", "false")) for _ in keys]
        if ext == "json":
            body = ",\n".join(f'  "{k}": {v}' for k, v in zip(keys, vals))
            out = ["{", body, "}", ""]
        else:
            out = [f"{k}{': ' if ext == 'yaml' else ' = '}{v}" for k, v in zip(keys, vals)] + [""]
        names, what = keys, "key"
    else:
        out = [words(rng, split, 2, 6) for _ in range(n)]
        if ext == "md":
            out = ["# " + stem(rng, split), ""] + out
        if must:
            out.append(must + " " + words(rng, split, 1, 3))
        return "\n".join(out), [], ""
    while out and not out[-1]:
        out.pop()
    return "\n".join(out), names, what


# ------------------------------------------------------------------------------------- tasks
# Every task returns a list of messages, beginning with the user's.
_MISSING = ["Error: {p}: No such file or directory", "error: file not found: {p}", "No such file: {p}"]


def describe(rng, p, text, names, what):
    if names:
        return pick(rng, f"`{p}` defines {join_names(names)}.",
                    f"The file defines the {what}{'s' if len(names) > 1 else ''} {join_names(names)}.",
                    f"It has {len(names)} {what}{'s' if len(names) > 1 else ''}: {join_names(names)}.")
    first = next((l for l in text.split("\n") if l.strip()), "")
    return pick(rng, f"`{p}` begins with: {first}", f"The first line of `{p}` is `{first}`.",
                f"It says: {first}")


def t_read(rng, split):
    p = path(rng, split)
    q = quote(rng, p)
    u = polite(rng, pick(rng, f"Show me {q}", f"Open {q}", f"Read {q}", f"Print {q}", f"Show {q}", f"cat {q}",
                         f"Look at {q}", f"Show me the file {q}", f"Show me the contents of {q}",
                         f"Read the file {q}", f"Tell me what is in {q}", f"Display {q}", f"View {q}",
                         f"Explain {q}", f"Summarise {q}", f"Describe {q}", f"Take a look at {q}"))
    if rng.random() < 0.2:
        u = pick(rng, f"What's in {q}?", f"What does {q} do?", f"What is in {q}?", f"What functions are in {q}?",
                 f"what does {q} contain?", f"Which functions does {q} define?")
    l = lead(rng, "Let me look at that file.", f"I'll read `{p}`.", f"Let me read `{p}`.", "I'll open it.")
    m = [user(u), act(call("read_file", path=p), l)]
    if rng.random() < 0.12:
        m += [tool(rng.choice(_MISSING).format(p=p)), say(pick(rng, f"The file `{p}` does not exist.",
                                                               f"There is no file `{p}`.", f"I could not find `{p}`."))]
    else:
        text, names, what = source(rng, split, p)
        m += [tool(text), say(describe(rng, p, text, names, what))]
    return m


def t_list(rng, split):
    d = rng.choice(_DIRS) if rng.random() < 0.25 else folder(rng, split)
    here = rng.random() < 0.12
    q = quote(rng, d) + ("/" if rng.random() < 0.12 else "")
    u = polite(rng, pick(rng, f"List the files in {q}", f"List {q}", f"Show me the files in {q}", f"ls {q}",
                         f"List the folder {q}", f"Show what is in the folder {q}", f"List the directory {q}",
                         f"Show the files in {q}", f"List all files in {q}", f"List the contents of {q}"))
    if rng.random() < 0.25:
        u = pick(rng, f"What files are in {q}?", f"Which files are in {q}?", f"what is in the folder {q}?",
                 f"What's in the {q} directory?")
    if here:
        d = "."
        u = polite(rng, pick(rng, "List the files", "List the files here", "Show me the files", "List this folder",
                             "What files are here?", "ls", "List the current directory", "Show the files in this folder"))
    elif q.endswith("/"):
        d = d + "/" if q == d + "/" else d
    l = lead(rng, "Let me list it.", f"I'll list `{d}`.", "Let me look.", p=0.25)
    m = [user(u), act(call("list", path=d), l)]
    k = rng.random()
    if k < 0.1:
        m += [tool(rng.choice(_MISSING).format(p=d)), say(f"There is no folder `{d}`.")]
    elif k < 0.16:
        m += [tool(pick(rng, "(empty)", "")), say(pick(rng, f"`{d}` is empty.", "The folder is empty."))]
    else:
        fs = [path(rng, split).split("/")[-1] for _ in range(rng.randint(1, 6))]
        m += [tool("\n".join(fs))]
        if rng.random() < 0.35:
            f = rng.choice(fs)
            full = f if d == "." else d.rstrip("/") + "/" + f
            text, names, what = source(rng, split, full)
            m += [say(f"`{d}` contains {join_names(fs)}."), user(polite(rng, pick(rng, f"Show me {f}", f"Open {f}", f"Read {f}"))),
                  act(call("read_file", path=full)), tool(text), say(describe(rng, full, text, names, what))]
        else:
            m += [say(pick(rng, f"`{d}` contains {join_names(fs)}.", f"There {'is' if len(fs) == 1 else 'are'} {len(fs)} "
                           f"file{'' if len(fs) == 1 else 's'}: {join_names(fs)}.", f"The files are {join_names(fs)}."))]
    return m


def test_output(rng, split):
    n = rng.randint(1, 60)
    t = f"{rng.randint(0, 9)}.{rng.randint(0, 99):02d}s"
    if rng.random() < 0.6:
        return pick(rng, f"{n} passed in {t}", f"ok: {n} tests", f"Ran {n} tests in {t}\n\nOK", f"all {n} tests passed"), \
            pick(rng, f"All {n} tests passed.", f"The tests pass: {n} passed.", f"{n} tests passed.")
    f = "test_" + ident(rng, split, "snake")
    p = "tests/" + stem(rng, split) + ".py"
    return pick(rng, f"FAILED {p}::{f}\n1 failed, {n} passed in {t}", f"FAIL: {f}\n1 of {n} tests failed",
                f"{p}: {f} FAILED\n1 failed, {n} passed"), \
        pick(rng, f"One test failed: `{f}`.", f"The test `{f}` failed.", f"1 test failed: `{f}`.")


def t_run(rng, split):
    k = rng.random()
    if k < 0.28:
        c, u = pick(rng, ("make test", "Run the tests"), ("make test", "Run the tests"), ("make test", "Run all tests"),
                    ("make test", "Run the test suite"), ("pytest", "Run the tests with pytest"), ("pytest", "Run pytest"),
                    ("make test", "Test it"), ("make test", "Check that the tests pass"), ("make test", "Run make test"))
        out, ans = test_output(rng, split)
        return [user(polite(rng, u)), act(call("run", command=c), lead(rng, "I'll run the tests.", "Running the tests.")),
                tool(out), say(ans)]
    if k < 0.5:
        c, u = pick(rng, ("make", "Build the project"), ("make", "Build it"), ("make", "Compile the project"), ("make", "Run make"),
                    ("git status", "Show the git status"), ("git status", "What is the git status?"), ("git diff", "Show me the diff"),
                    ("git log --oneline", "Show the git log"), ("pwd", "Which directory are we in?"), ("date", "What is the date?"),
                    ("make clean", "Clean the build"), ("whoami", "Which user am I?"), ("uname -a", "What system is this?"))
        out = pick(rng, "", words(rng, split, 1, 4), f"{stem(rng, split)}.c: ok", "done")
        if u.endswith("?"):
            um = u
        else:
            um = polite(rng, u)
        ans = f"The output is `{out}`." if out else pick(rng, f"`{c}` ran without output.", "Done, no output.")
        return [user(um), act(call("run", command=c), lead(rng, f"I'll run `{c}`.", p=0.2)), tool(out), say(ans)]
    if k < 0.72:
        p = path(rng, split, rng.choice(("py", "py", "py", "sh", "js", "c")))
        ext = p.rsplit(".", 1)[1]
        c = {"py": "python3 ", "sh": "sh ", "js": "node ", "c": "cc "}[ext] + p
        u = f"Run {quote(rng, p)}"
        if ext == "c":
            u = f"Compile {quote(rng, p)}"
        elif rng.random() < 0.3:
            u = pick(rng, f"Execute {quote(rng, p)}", f"Run the script {quote(rng, p)}", f"Start {quote(rng, p)}")
    else:
        arg = pick(rng, path(rng, split), ident(rng, split), folder(rng, split))
        c = pick(rng, f"grep -n {arg} {path(rng, split)}", f"wc -l {arg}", f"cp {arg} {path(rng, split)}", f"mkdir {arg}",
                 f"rm {arg}", f"git add {arg}", f"head -n {rng.randint(1, 50)} {arg}", f"touch {arg}", f"pip install {arg}",
                 f"git checkout {arg}", f"./{arg}", f"echo {arg}", f"ls -l {arg}", f"make {arg}", f"chmod +x {arg}", f"cat {arg}")
        u = pick(rng, f"Run `{c}`", f"Run the command `{c}`", f"Execute `{c}`", f"Run {c}", f"Run this command: {c}")
    if rng.random() < 0.2:
        w = pick(rng, "Traceback", "error", "Segmentation fault", f"NameError: name '{ident(rng, split, 'snake')}' is not defined",
                 f"ModuleNotFoundError: No module named '{stem(rng, split)}'", "command not found", "Permission denied")
        return [user(polite(rng, u)), act(call("run", command=c), lead(rng, "I'll run it.", p=0.2)), tool(w),
                say(pick(rng, f"It failed: `{w}`.", f"The command failed with `{w}`."))]
    out = pick(rng, words(rng, split, 1, 4), str(rng.randint(0, 99999)), "", ident(rng, split))
    ans = pick(rng, f"The output is `{out}`.", f"It printed `{out}`.") if out else pick(rng, "Done.", "It ran without output.")
    return [user(polite(rng, u)), act(call("run", command=c), lead(rng, "I'll run it.", "Running it.", p=0.2)), tool(out), say(ans)]


_RUNNER = {"py": "python3 ", "sh": "sh ", "js": "node "}


def t_write(rng, split):
    k = rng.random()
    if k < 0.45:                                                     # a program that prints something
        ext = rng.choice(("py", "py", "py", "c", "sh", "js"))
        p = path(rng, split, ext)
        x = words(rng, split)
        content = {"py": f'print("{x}")', "sh": f'echo "{x}"', "js": f'console.log("{x}");',
                   "c": f'#include <stdio.h>\n\nint main(void)\n{{\n    puts("{x}");\n    return 0;\n}}'}[ext]
        xq = pick(rng, x, f'"{x}"', f'"{x}"', f"'{x}'")
        u = pick(rng, f"Create {quote(rng, p)} which prints {xq}", f"Create {quote(rng, p)} that prints {xq}",
                 f"Write {quote(rng, p)} which prints {xq}", f"Make a file {quote(rng, p)} that prints {xq}",
                 f"Write a program {quote(rng, p)} that prints {xq}", f"Create a script {quote(rng, p)} that prints {xq}",
                 f"Add {quote(rng, p)} which prints {xq}")
        m = [user(polite(rng, u)), act(call("write_file", path=p, content=content), lead(rng, f"I'll create `{p}`.", p=0.25)),
             tool(pick(rng, "ok", f"wrote {p}", f"Wrote {len(content)} bytes to {p}")), say(pick(rng, f"Created `{p}`.", f"I created `{p}`, which prints `{x}`."))]
        if ext in _RUNNER and rng.random() < 0.4:
            m += [user(polite(rng, pick(rng, "Run it", "Now run it", "Execute it"))), act(call("run", command=_RUNNER[ext] + p)),
                  tool(x), say(f"It printed `{x}`.")]
        return m
    if k < 0.7:                                                      # a text file
        p = path(rng, split, rng.choice(("txt", "md", "log", "csv", "cfg")))
        x = words(rng, split, 1, 6)
        u = pick(rng, f"Create {quote(rng, p)} with the text {pick(rng, x, chr(34) + x + chr(34))}", f'Write "{x}" to {quote(rng, p)}',
                 f'Save "{x}" in {quote(rng, p)}', f'Put "{x}" into {quote(rng, p)}', f"Create a file {quote(rng, p)} containing {x}",
                 f'Write the text "{x}" to the file {quote(rng, p)}')
        return [user(polite(rng, u)), act(call("write_file", path=p, content=x), lead(rng, f"I'll write `{p}`.", p=0.2)),
                tool(pick(rng, "ok", f"wrote {p}")), say(pick(rng, f"Wrote `{p}`.", f"`{p}` now says: {x}"))]
    p = path(rng, split, "py")
    f = ident(rng, split, "snake")
    op, a = rng.choice((("adds", "+"), ("multiplies", "*"), ("subtracts", "-")))
    c = rng.randint(1, 999)
    kind = rng.randint(0, 3)
    if kind == 0:
        body, d = f"def {f}(a, b):\n    return a {a} b", f"that {op} two numbers"
    elif kind == 1:
        body, d = f"def {f}():\n    return {c}", f"that returns {c}"
    elif kind == 2:
        body, d = f"def {f}(items):\n    return sum(items)", "that sums a list"
    else:
        body, d = f"def {f}(text):\n    return text[::-1]", "that reverses a string"
    u = pick(rng, f"Create {quote(rng, p)} with a function {f} {d}", f"Write a function {f} {d} to {quote(rng, p)}",
             f"Write {quote(rng, p)} with a function {f} {d}")
    return [user(polite(rng, u)), act(call("write_file", path=p, content=body), lead(rng, f"I'll create `{p}`.", p=0.2)),
            tool(pick(rng, "ok", f"wrote {p}")), say(pick(rng, f"`{p}` now has the function `{f}`.", f"I wrote `{f}` to `{p}`."))]


def t_rename(rng, split):
    p = path(rng, split, rng.choice(("py", "py", "c", "js", "h")))
    a, b = ident(rng, split), ident(rng, split)
    u = polite(rng, pick(rng, f"Rename {quote(rng, a)} to {quote(rng, b)} in {quote(rng, p)}",
                         f"Rename the function {quote(rng, a)} to {quote(rng, b)} in {quote(rng, p)}",
                         f"In {quote(rng, p)}, rename {quote(rng, a)} to {quote(rng, b)}"))
    text, _, _ = source(rng, split, p, must=a)
    line = next((l for l in text.split("\n") if a in l), None)
    if line is None:
        line = f"{a}()"
        text += "\n" + line
    return [user(u), act(call("read_file", path=p), lead(rng, f"I'll read `{p}` first.", "Let me read it first.", p=0.3)), tool(text),
            act(call("edit", path=p, old=line, new=line.replace(a, b))), tool(pick(rng, "ok", f"edited {p}", "1 replacement")),
            say(pick(rng, f"Renamed `{a}` to `{b}` in `{p}`.", f"`{a}` is now `{b}`."))]


def t_replace(rng, split):
    p = path(rng, split)
    a, b = pick(rng, (ident(rng, split), ident(rng, split)), (words(rng, split, 1, 3), words(rng, split, 1, 3)),
                (str(rng.randint(0, 9999)), str(rng.randint(0, 9999))))
    q = pick(rng, "{}", '"{}"', '"{}"', "`{}`")
    qa, qb = q.format(a), q.format(b)
    u = polite(rng, pick(rng, f"Replace {qa} with {qb} in {quote(rng, p)}", f"Change {qa} to {qb} in {quote(rng, p)}",
                         f"In {quote(rng, p)}, replace {qa} with {qb}", f"In {quote(rng, p)} change {qa} to {qb}"))
    m = [user(u), act(call("edit", path=p, old=a, new=b), lead(rng, f"I'll edit `{p}`.", p=0.2))]
    if rng.random() < 0.1:
        return m + [tool(pick(rng, "error: text not found", f"Error: old text not found in {p}")), say(f"`{p}` does not contain `{a}`.")]
    return m + [tool(pick(rng, "ok", f"edited {p}", "1 replacement")), say(pick(rng, f"Replaced `{a}` with `{b}` in `{p}`.", f"Done: `{p}` now has `{b}`."))]


def t_setting(rng, split):
    p = path(rng, split, rng.choice(("py", "cfg", "ini", "toml", "yaml")))
    sep = ": " if p.endswith("yaml") else " = "
    key = ident(rng, split, rng.choice(("upper", "snake")))
    old, new = rng.randint(0, 999), rng.randint(0, 9999)
    other = [f"{ident(rng, split, 'snake')}{sep}{rng.randint(0, 99)}" for _ in range(rng.randint(0, 3))]
    other.insert(rng.randint(0, len(other)), f"{key}{sep}{old}")
    u = polite(rng, pick(rng, f"Set {quote(rng, key)} to {new} in {quote(rng, p)}", f"Change {quote(rng, key)} to {new} in {quote(rng, p)}",
                         f"In {quote(rng, p)}, set {quote(rng, key)} to {new}"))
    return [user(u), act(call("read_file", path=p), lead(rng, f"I'll read `{p}` first.", p=0.3)), tool("\n".join(other)),
            act(call("edit", path=p, old=f"{key}{sep}{old}", new=f"{key}{sep}{new}")), tool("ok"),
            say(pick(rng, f"`{key}` is now {new}.", f"Set `{key}` to {new} in `{p}`."))]


def t_fix(rng, split):
    p = path(rng, split, "py")
    bad, good = ident(rng, split, "snake"), ident(rng, split, "snake")
    n = rng.randint(1, 20)
    err = f"File \"{p}\", line {n}\nNameError: name '{bad}' is not defined. Did you mean: '{good}'?"
    line = f"    return {bad}({rng.randint(0, 99)})"
    f = ident(rng, split, "snake")
    text = f"def {good}(x):\n    return x\n\ndef {f}():\n{line}"
    u = polite(rng, pick(rng, f"Run {quote(rng, p)} and fix the error", f"Fix {quote(rng, p)}", f"Fix the error in {quote(rng, p)}"))
    return [user(u), act(call("run", command=f"python3 {p}"), lead(rng, "I'll run it first.", p=0.3)), tool(err),
            act(call("read_file", path=p)), tool(text), act(call("edit", path=p, old=line, new=line.replace(bad, good))), tool("ok"),
            say(f"Fixed: `{bad}` is now `{good}`.")]


_QA = [
    (["hello", "hi", "hey", "Hello!", "Hi there", "good morning"], ["Hello! How can I help you?", "Hi! What should I do?"]),
    (["Who are you?", "What are you?", "who are you", "What is your name?", "Which model are you?"],
     ["I am a very small test model that comes with tug. I can call simple tools and write short code."]),
    (["What can you do?", "Help", "help me", "what can you do"],
     ["I can read, write and edit files, list folders and run commands."]),
    (["thanks", "Thank you!", "thank you", "Thanks a lot"], ["You're welcome!", "You are welcome."]),
    (["bye", "Goodbye", "See you"], ["Goodbye!"]),
    (["What is a compiler?", "what is a compiler"], ["A compiler translates source code into machine code."]),
    (["What is a function?"], ["A function is a named piece of code that can be called."]),
    (["What is a variable?"], ["A variable is a name for a value."]),
    (["What is Python?", "what is python"], ["Python is a programming language."]),
    (["What is C?", "what is the C language?"], ["C is a small, fast programming language."]),
    (["What is a list in Python?"], ["A list is an ordered collection of values, for example `[1, 2, 3]`."]),
    (["What is a dictionary in Python?", "what is a dict?"], ["A dictionary maps keys to values, for example `{\"a\": 1}`."]),
    (["How do I open a file in Python?", "how to read a file in python"], ["```python\nwith open(\"file.txt\") as f:\n    text = f.read()\n```"]),
    (["How do I write a loop in Python?", "Show a for loop in Python"], ["```python\nfor i in range(10):\n    print(i)\n```"]),
    (["Write hello world in Python", "Hello world in Python", "python hello world"], ["```python\nprint(\"Hello, world!\")\n```"]),
    (["Write hello world in C", "Hello world in C"], ["```c\n#include <stdio.h>\n\nint main(void)\n{\n    puts(\"Hello, world!\");\n    return 0;\n}\n```"]),
    (["How do I sort a list in Python?"], ["Use `sorted(items)` or `items.sort()`."]),
    (["How do I reverse a string in Python?", "reverse a string in python"], ["Use `text[::-1]`."]),
    (["How do I get the length of a list?"], ["Use `len(items)`."]),
    (["What is git?"], ["Git is a version control system."]),
    (["Write a fibonacci function in Python", "fibonacci in python"],
     ["```python\ndef fib(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n```"]),
    (["Write a factorial function in Python", "factorial in python"],
     ["```python\ndef factorial(n):\n    if n <= 1:\n        return 1\n    return n * factorial(n - 1)\n```"]),
    (["Write a function that checks if a number is prime", "prime check in python"],
     ["```python\ndef is_prime(n):\n    if n < 2:\n        return False\n    for i in range(2, int(n ** 0.5) + 1):\n        if n % i == 0:\n            return False\n    return True\n```"]),
    (["How do I exit vim?"], ["Type `:q!` and press Enter."]),
    (["How do I make a class in Python?", "Write a class in Python"],
     ["```python\nclass Point:\n    def __init__(self, x, y):\n        self.x = x\n        self.y = y\n```"]),
]
_FUN = [
    ("adds two numbers", "def {f}(a, b):\n    return a + b"), ("multiplies two numbers", "def {f}(a, b):\n    return a * b"),
    ("subtracts two numbers", "def {f}(a, b):\n    return a - b"), ("divides two numbers", "def {f}(a, b):\n    return a / b"),
    ("sums a list", "def {f}(items):\n    return sum(items)"), ("reverses a string", "def {f}(text):\n    return text[::-1]"),
    ("returns the largest item", "def {f}(items):\n    return max(items)"), ("returns the smallest item", "def {f}(items):\n    return min(items)"),
    ("counts the words in a text", "def {f}(text):\n    return len(text.split())"), ("checks if a number is even", "def {f}(n):\n    return n % 2 == 0"),
    ("reads a file", "def {f}(path):\n    with open(path) as f:\n        return f.read()"), ("returns the square of a number", "def {f}(n):\n    return n * n"),
    ("removes duplicates from a list", "def {f}(items):\n    return list(set(items))"), ("returns the average of a list", "def {f}(items):\n    return sum(items) / len(items)"),
    ("sorts a list", "def {f}(items):\n    return sorted(items)"), ("returns the first item", "def {f}(items):\n    return items[0]"),
    ("returns the last item", "def {f}(items):\n    return items[-1]"), ("prints a message", "def {f}(message):\n    print(message)"),
]


def t_question(rng, split):
    k = rng.random()
    if k < 0.45:
        q, a = rng.choice(_QA)
        return [user(rng.choice(q)), say(rng.choice(a))]
    if k < 0.85:
        d, body = rng.choice(_FUN)
        if rng.random() < 0.75:
            f = ident(rng, split, "snake")
            u = pick(rng, f"Write a Python function {f} that {d}", f"Write a function {f} that {d}", f"Define a function {f} that {d}",
                     f"Give me a Python function called {f} that {d}", f"Write a function called {f} that {d} in Python")
        else:
            f = "f"
            u = pick(rng, f"Write a Python function that {d}", f"Write a function that {d}", f"Give me a function that {d}")
        return [user(polite(rng, u)), say("```python\n" + body.format(f=f) + "\n```")]
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    return [user(pick(rng, f"What is {a} + {b}?", f"{a} + {b}", f"{a}+{b}=", f"How much is {a} plus {b}?")), say(f"{a + b}")]


def t_copy(rng, split):
    """Plain copying: the shortest way to teach induction."""
    k = rng.random()
    if k < 0.35:
        x = pick(rng, path(rng, split), ident(rng, split), words(rng, split, 1, 6))
    elif k < 0.6:
        x = " ".join(pick(rng, ident(rng, split), path(rng, split), str(rng.randint(0, 9999))) for _ in range(rng.randint(2, 6)))
    elif k < 0.8:
        p = path(rng, split, rng.choice(("py", "c", "txt", "cfg")))
        x = source(rng, split, p)[0]
        x = f"```\n{x}\n```"
    else:
        x = "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./ ") for _ in range(rng.randint(4, 30))).strip() or "x"
    u = pick(rng, f"Repeat: {x}", f"Repeat after me: {x}", f"Say {x}", f"Echo {x}", f"Repeat this:\n{x}", f"Say this again: {x}", f"Copy this:\n{x}")
    return [user(u), say(x)]


def t_recall(rng, split):
    """Quote one thing out of several given ones."""
    n = rng.randint(2, 6)
    ks = [ident(rng, split, "snake") for _ in range(n)]
    vs = [pick(rng, str(rng.randint(0, 9999)), path(rng, split), _part(rng)) for _ in range(n)]
    i = rng.randrange(n)
    sep = pick(rng, " = ", ": ", " is ")
    block = "\n".join(f"{k}{sep}{v}" for k, v in zip(ks, vs))
    return [user(block + "\n" + pick(rng, f"What is {ks[i]}?", f"Tell me {ks[i]}", f"{ks[i]}?")), say(vs[i])]


TASKS = [(t_read, 20), (t_list, 13), (t_run, 17), (t_write, 16), (t_rename, 9), (t_replace, 9), (t_setting, 5), (t_fix, 4),
         (t_question, 12), (t_copy, 5), (t_recall, 3)]
TOOL_TASKS = [t_read, t_list, t_run, t_write, t_rename, t_replace, t_setting, t_fix]


def conversation(rng, split, turns=None, tools=None):
    """A whole conversation: {"messages": [...], "tools": [...] (absent when none are offered)}."""
    fns, weights = zip(*TASKS)
    with_tools = rng.random() < 0.3 if tools is None else tools
    if turns is None:
        turns = rng.choice((2, 3, 4, 5, 6)) if with_tools else rng.choice((1, 1, 1, 2, 2, 3, 4))
    m = []
    if rng.random() < (0.45 if with_tools else 0.4):
        m.append({"role": "system", "content": system_prompt(rng, split)})
    for _ in range(turns):
        m += rng.choices(fns, weights)[0](rng, split)
    conv = {"messages": m}
    if with_tools:
        conv["tools"] = tool_list(rng)
    return conv


def copy_conversation(rng, split):
    """The curriculum's first part: several plain copies, recalls and one-step calls."""
    fns = (t_copy, t_copy, t_copy, t_recall, t_read, t_replace, t_write, t_run)
    m = []
    for _ in range(rng.randint(1, 3)):
        m += rng.choice(fns)(rng, split)
    return {"messages": m}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=3)
    p.add_argument("--heldout", action="store_true")
    a = p.parse_args()
    rng = random.Random(a.seed)
    for _ in range(a.count):
        c = conversation(rng, HELDOUT if a.heldout else TRAIN)
        print(chat.render_text(c["messages"], c.get("tools")))
        print("=" * 100)


if __name__ == "__main__":
    main()
