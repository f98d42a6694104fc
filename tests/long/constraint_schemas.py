#!/usr/bin/env python3
"""Answers sampled at random under the constraint end and satisfy their schemas.

For every tool schema: a call, sampled uniformly over the bytes that the constraint allows,
and over the tokens of the real vocabulary that it allows.  The parser of calls must make
exactly one complete call of it, and its arguments must satisfy the schema, as far as the
constraint holds it: keywords that it does not enforce are taken out of the schema before
`jsonschema` judges (pattern, format, lengths, ranges, counts; docs/CONSTRAINT.md).

    python3 tests/long/constraint_schemas.py [--rounds N] [--more FILE]... [--suite FOLDER]

--more   a JSON list of schemas, or of {"name", "parameters" or "inputSchema"}
--suite  the JSON Schema test suite: each of its schemas must build, as a tool's parameters
         and as a response_format; answers under those of draft 2020-12 are judged too
Needs the PyPI package jsonschema, and ../shared/data where it is present.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
if not DATA.exists():
    DATA = Path(os.environ.get("TUG_SHARED_DATA", DATA))
FREE = {
    "pattern", "format", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems", "contains",
    "minContains", "maxContains", "minProperties", "maxProperties", "propertyNames",
    "dependentRequired", "dependentSchemas", "dependencies", "not", "if", "then", "else",
    "unevaluatedItems", "unevaluatedProperties", "patternProperties", "$schema", "$id", "id",
}
MAPS = {"properties", "$defs", "definitions"}
DATA_KEYS = {"enum", "const", "default", "examples", "required", "type", "title", "description"}


def held(schema):
    """The part of the schema that the constraint holds."""
    if isinstance(schema, list):
        return [held(x) for x in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key in FREE:
            continue
        if key == "additionalProperties" and value is False and "patternProperties" in schema:
            continue
        if key in MAPS and isinstance(value, dict):
            out[key] = {k: held(v) for k, v in value.items()}
        elif key in DATA_KEYS:
            out[key] = value
        elif key == "oneOf":  # read as anyOf
            out.setdefault("allOf", []).append({"anyOf": held(value)})
        else:
            out[key] = held(value)
    return out


def build(folder):
    out = os.path.join(folder, "walk")
    subprocess.run(["make", "-s", "build/libtug.a"], cwd=ROOT, check=True)
    subprocess.run(
        ["cc", "-std=c11", "-O2", "-D_GNU_SOURCE", "-Isrc", "-Iinclude",
         "tests/long/constraint_walk/constraint_walk.c", "build/libtug.a", "-lm", "-o", out],
        cwd=ROOT, check=True)
    return out


def byte_alphabet():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {chr(b): b for b in keep}, 0
    for b in range(256):
        if b not in keep:
            table[chr(256 + extra)] = b
            extra += 1
    return table


def vocabulary(folder):
    """The real vocabulary's tokens, sorted by their bytes; None where it is absent."""
    path = DATA / "tokenizer" / "qwen3-tokenizer.json"
    if not path.exists():
        return None
    doc, table = json.loads(path.read_text()), byte_alphabet()
    tokens = [bytes(table[c] for c in t) for t in doc["model"]["vocab"]]
    tokens += [t["content"].encode() for t in doc["added_tokens"] if not t["special"]]
    out = os.path.join(folder, "tokens")
    Path(out).write_text("".join(t.hex() + "\n" for t in sorted(set(tokens)) if t))
    return out


def schemas_of(path):
    for entry in json.loads(Path(path).read_text()):
        tool = entry.get("tool", entry) if isinstance(entry, dict) else entry
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
            tool = tool["function"]
        name, schema = str(path), tool
        if isinstance(tool, dict):
            name = tool.get("name", name)
            for key in ("parameters", "inputSchema", "input_schema"):
                if key in tool:
                    schema = tool[key]
                    break
            else:
                if "name" in tool and "properties" not in tool:
                    schema = {"type": "object", "properties": {}}
        yield f"{Path(path).stem}:{name}", schema


class Walker:
    def __init__(self, program, tokens):
        self.proc = subprocess.Popen([program] + ([tokens] if tokens else []),
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        self.proc.stdin.write(json.dumps(request) + "\n")
        self.proc.stdin.flush()
        line = self.proc.stdout.readline()
        if not line:
            raise SystemExit(f"the walker died on {request}")
        reply = json.loads(line)
        for key in ("text", "arguments", "outside", "warnings"):
            if key in reply:
                reply[key] = bytes.fromhex(reply[key])
        return reply


def judge(schema, how, reply):
    """What is wrong with the answer; None: nothing."""
    if reply.get("refused"):
        return None  # no JSON of ours: too deep, or half a surrogate pair
    if not reply["ended"]:
        return "did not end"
    if how == "call" and (reply["begun"], reply["complete"]) != (1, 1):
        return f"the parser saw {reply['begun']} calls, {reply['complete']} complete"
    if how == "call" and reply["outside"].strip():
        return "text outside of the call"
    value = json.loads(reply["arguments"] if how == "call" else reply["text"])
    try:
        jsonschema.Draft202012Validator(held(schema)).validate(value)
    except jsonschema.ValidationError as e:
        return f"{e.message[:200]} at {list(e.absolute_path)}"
    except Exception:  # a schema that the judge does not take, or refers elsewhere
        return None
    return None


def suite_schemas(folder):
    for path in sorted(Path(folder).rglob("*.json")):
        if "remotes" in path.parts:
            continue
        try:
            groups = json.loads(path.read_text())
        except ValueError:
            continue
        for group in groups if isinstance(groups, list) else []:
            if isinstance(group, dict) and "schema" in group:
                yield f"{path.parent.name}/{path.stem}: {group['description']}", group["schema"]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--rounds", type=int, default=20)
    ap.add_argument("--more", action="append", default=[])
    ap.add_argument("--suite")
    ap.add_argument("--show", type=int, default=0, help="suite schemas that were not held")
    args = ap.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tokens = vocabulary(folder)
        walker = Walker(build(folder), tokens)
        found = []
        recorded = DATA / "agents" / "tool_schemas.json"
        for path in ([recorded] if recorded.exists() else []) + args.more:
            found += [(name, schema, "call") for name, schema in schemas_of(path)]
        print(f"{len(found)} tool schemas" + ("" if recorded.exists() else
              f" (none from {recorded}, which is absent)"))
        if not tokens:
            print("skipped: sampling over tokens, there is no vocabulary in " + str(DATA))
        suite = [(n, s, how) for n, s in suite_schemas(args.suite) for how in ("call", "format")
                 ] if args.suite else []
        bad, judged, by_tokens, suite_wrong = 0, 0, 0, {}
        for of_suite, (name, schema, how) in [(False, x) for x in found] + [(True, x) for x in suite]:
            for k in range(3 if of_suite else args.rounds):
                use = bool(tokens) and k % 2 == 1
                reply = walker.ask(schema=schema, how=how, seed=k, free=[0, 60, 400][k % 3],
                                   tokens=use)
                wrong = judge(schema, how, reply)
                judged += 1
                by_tokens += use
                if wrong and of_suite and "did not end" not in wrong:
                    if how == "format":  # a call's arguments are always an object
                        suite_wrong.setdefault(name, wrong)
                elif wrong:
                    bad += 1
                    if bad <= 8:
                        print(f"{name} ({how}, seed {k}): {wrong}\n  {reply['text'][-200:]}\n"
                              f"  {reply['arguments'][-150:]}\n  {json.dumps(schema)[:300]}")
        for name, wrong in list(suite_wrong.items())[:args.show]:
            print(f"not held: {name}: {wrong[:160]}")
        print(f"{judged} answers, {by_tokens} of them over tokens, {len(suite)} suite schemas "
              f"built, "
              f"{len(suite_wrong)} of them with answers that they refuse; {bad} wrong")
        sys.exit(bad > 0)


if __name__ == "__main__":
    main()
