#!/usr/bin/env python3
"""Fail when an include points up, a file is too long, or something bypasses base/.

LAYERS is the dependency diagram of docs/ARCHITECTURE.md as data: which module may
include which other ones besides itself.  Run from the repository root:

    tools/check_layers.py
"""
import os
import re
import sys

LAYERS = {
    "base": ["include"],
    "include": [],
    "json": ["base"],
    "quant": ["base"],
    "gguf": ["base", "quant"],
    "tokenizer": ["base"],
    "chat": ["base", "json"],
    "policy": ["base"],
    "kernels/cpu": ["base", "quant"],
    "kernels/cuda": ["base", "quant"],
    "cuda": ["base"],
    "backend": ["base", "policy", "quant", "cuda", "kernels/cpu", "kernels/cuda", "include"],
    "memory": ["base", "policy", "quant", "backend"],
    "model": ["base", "quant", "gguf", "backend", "memory", "include"],
    "engine": ["base", "plan", "quant", "gguf", "tokenizer", "backend", "memory", "model", "include"],
    "synth": ["base", "json", "quant", "gguf", "tokenizer"],
    "plan": ["base", "json", "quant", "gguf", "synth"],
    "bench": ["base", "json", "include"],
    "trace": ["base", "json", "policy", "memory"],
    "http": ["base"],
    "calls": ["base", "json"],
    "api": ["base", "json", "chat", "calls"],
    "serve": ["base", "json", "tokenizer", "chat", "calls", "api", "http", "memory", "engine", "include"],
    "cli": ["base", "bench", "serve", "json", "quant", "gguf", "tokenizer", "chat", "synth", "policy", "memory", "plan",
            "trace", "engine", "include"],
}
LIMIT = {".c": 800, ".h": 400, ".cu": 800, ".cuh": 400}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
# Calls that must go through base/sys.h so that tests can make them fail.
RAW_CALL = re.compile(
    r"(?<![\w.>])(malloc|calloc|realloc|free|mmap|munmap|open|close|fstat|pread|recv|send|accept4?|getrandom|"
    r"rename|unlink|mlock|munlock|fcntl|posix_fadvise|statvfs|clock_gettime|getenv)\s*\(")
STRIP = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)


def module(path):
    if path in ("tug.h", "tug_status.h", "tug_profile.h"):
        return "include"
    for name in sorted(LAYERS, key=len, reverse=True):
        if path.startswith(name + "/"):
            return name
    return None


# What a .cu file includes when it is compiled for the emulated driver.
EMULATED = {"cuda_emu/shim_ptx.h"}


def source_files():
    for root in ("src", "include"):
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                if os.path.splitext(name)[1] in LIMIT:
                    path = os.path.join(folder, name)
                    yield path, os.path.relpath(path, root)


def check_table(bad):
    def visit(name, trail):
        if name in trail:
            bad.append("LAYERS has a cycle: " + " -> ".join(trail + [name]))
            return
        for below in LAYERS[name]:
            visit(below, trail + [name])
    for name in LAYERS:
        visit(name, [])


def check_cycles(graph, bad):
    done = {}

    def visit(v, trail):
        if done.get(v) == 2:
            return
        if done.get(v) == 1:
            bad.append("include cycle: " + " -> ".join(trail[trail.index(v):] + [v]))
            return
        done[v] = 1
        for w in graph.get(v, []):
            visit(w, trail + [v])
        done[v] = 2
    for v in list(graph):
        visit(v, [])


def main():
    bad, graph, names = [], {}, {}
    check_table(bad)
    for path, rel in source_files():
        text = open(path, encoding="utf-8").read()
        lines = text.count("\n")
        ext = os.path.splitext(path)[1]
        if lines > LIMIT[ext]:
            bad.append(f"{path}: {lines} lines, the limit is {LIMIT[ext]}: is there a seam?")
        if os.path.basename(path) in names:
            bad.append(f"{path}: {names[os.path.basename(path)]} has the same file name")
        names[os.path.basename(path)] = path
        me = module(rel)
        if me is None:
            bad.append(f"{path}: no module in LAYERS owns this path")
            continue
        if rel != "base/sys.c":
            for m in RAW_CALL.finditer(STRIP.sub(" ", text)):
                bad.append(f"{path}: calls {m.group(1)}() directly; use base/sys.h")
        for inc in INCLUDE.findall(text):
            if inc in EMULATED and me == "kernels/cuda":
                continue
            graph.setdefault(rel, []).append(inc)
            target = module(inc)
            if target is None:
                bad.append(f'{path}: include "{inc}" does not start at the source root')
            elif target != me and target not in LAYERS[me]:
                bad.append(f'{path}: {me} may not include {target} ("{inc}")')
    check_cycles(graph, bad)
    print("\n".join(bad) if bad else "layers ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
