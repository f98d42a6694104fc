#!/usr/bin/env python3
"""Collect the source-code half of the training text: the Python standard library (PSF licence).

Files come from the running interpreter's own `lib` folder, so every machine with Python has them.
A file belongs to the held-out set when the hash of its relative path says so (about 3 %).
`python3 corpus.py --list` prints the files with their sizes and split.
"""
import argparse
import hashlib
import os
import sysconfig

SKIP_DIRS = {"site-packages", "dist-packages", "__pycache__", "idlelib", "turtledemo", "lib2to3",
             "encodings", "pydoc_data", "cjkencodings", "data", "ensurepip", "distutils"}
MAX_FILE = 400_000


def is_heldout(rel):
    return hashlib.sha256(rel.encode()).digest()[0] < 8


def files(root=None):
    """(relative path, text, held out?) for every usable file, in sorted order."""
    root = root or sysconfig.get_paths()["stdlib"]
    found = []
    for base, dirs, names in os.walk(root):
        dirs[:] = sorted(d for d in dirs if d not in SKIP_DIRS and not d.startswith("config-"))
        for n in sorted(names):
            if n.endswith(".py") and not n.startswith("_sysconfigdata"):
                found.append(os.path.relpath(os.path.join(base, n), root))
    for rel in sorted(found):
        path = os.path.join(root, rel)
        if not 200 < os.path.getsize(path) < MAX_FILE:
            continue
        try:
            text = open(path, encoding="utf-8").read()
        except UnicodeDecodeError:
            continue
        longest = max(map(len, text.split("\n")))
        if longest > 400 or sum(c > "\x7f" for c in text) > len(text) // 50:
            continue
        if text.count("\\x") > len(text) // 60 or text.count("0x") > len(text) // 60:
            continue                                                  # tables of escapes
        yield rel, text, is_heldout(rel)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--root", help="standard library folder (default: this interpreter's)")
    p.add_argument("--list", action="store_true", help="print every file")
    a = p.parse_args()
    n = size = held = 0
    for rel, text, h in files(a.root):
        n, size, held = n + 1, size + len(text), held + len(text) * h
        if a.list:
            print(len(text), "held-out" if h else "train", rel)
    print(f"{n} files, {size} characters, {held} of them held out")


if __name__ == "__main__":
    main()
