#!/usr/bin/env python3
"""The tests of the expert cache see mistakes: break its source in one place, expect a failure.

    tests/long/cache_mutants.py      (from the repository root)

Each mutant is one edit of src/memory/expert_cache.c, compiled into tests/unit/test_expert_cache.
A mutant that passes every test is a failure here; so is an edit whose text is no longer there.
"""
import concurrent.futures
import os
import subprocess
import sys
import tempfile

SOURCE = "src/memory/expert_cache.c"
MUTANTS = [
    ("a home that is pinned may lose",
     "if (x->wanted || x->held || x->state != TUG_EXPERT_HOME) continue;",
     "if (x->held || x->state != TUG_EXPERT_HOME) continue;"),
    ("a home that is held may lose",
     "if (x->wanted || x->held || x->state != TUG_EXPERT_HOME) continue;",
     "if (x->wanted || x->state != TUG_EXPERT_HOME) continue;"),
    ("who is held twice is released once",
     "if (x->state != TUG_EXPERT_HOME || x->held) return false;",
     "if (x->state != TUG_EXPERT_HOME) return false;"),
    ("who is not at home is held",
     "if (x->state != TUG_EXPERT_HOME || x->held) return false;",
     "if (x->held) return false;"),
    ("who comes back lives twice",
     "    if (y->state != TUG_EXPERT_ABSENT) return false;\n    move_in", "    move_in"),
    ("who is replaced is still held",
     "    tug_expert_cache_release(c, layer, expert);\n    move_out", "    move_out"),
    ("who is replaced stays",
     "    move_out(pool_of(c, layer), x);\n    if (other == NOBODY) return false;",
     "    if (other == NOBODY) return false;"),
    ("who comes back is not told to be there",
     "    move_in(pool_of(c, layer), at, layer, other, y);\n    y->state = TUG_EXPERT_HOME;\n",
     "    move_in(pool_of(c, layer), at, layer, other, y);\n"),
    ("uses are told by another's clock",
     "c->layers[layer].clock - now", "0 * now"),
    ("a home that is LOADING may lose",
     "if (x->wanted || x->held || x->state != TUG_EXPERT_HOME) continue;",
     "if (x->wanted || x->held) continue;"),
    ("lingering ones of the step are not pinned",
     "x->state = TUG_EXPERT_STAGED;\n        move_slot(pool_of(c, layer), x->slot, SLOT_BUSY);\n        break;",
     "x->state = TUG_EXPERT_STAGED;\n        break;"),
    ("what waited is not taken from its list",
     "c->counters.early++;\n        move_slot(pool_of(c, layer), x->slot, SLOT_BUSY);",
     "c->counters.early++;"),
    ("a fetched slot stays in the free list",
     "evict(c, p, at, evicted_layer, evicted_expert);\n    move_slot(p, at, SLOT_BUSY);",
     "evict(c, p, at, evicted_layer, evicted_expert);"),
    ("a slot is freed twice",
     "static void linger(pool *p, expert_state *x) {\n",
     "static void linger(pool *p, expert_state *x) {\n"
     "    x->state = TUG_EXPERT_LINGERING;\n    move_slot(p, x->slot, SLOT_FREE);\n"
     "    p->slots[x->slot].place = SLOT_BUSY;\n"),
    ("a failed read loses the slot",
     "if (p->slots[at].place != SLOT_HOME) move_slot(p, at, SLOT_FREE);", ""),
    ("a failed read loses the home",
     "if (p->slots[at].place != SLOT_HOME) move_slot(p, at, SLOT_FREE);",
     "move_slot(p, at, SLOT_FREE);"),
    ("a failed read ahead is still expected",
     "const int at = x->slot;\n    if (x->ahead) forget_ahead(c, layer, x);",
     "const int at = x->slot;"),
    ("who is evicted is not told",
     "    move_out(p, x);\n}\n\nint tug_expert_cache_fetch",
     "}\n\nint tug_expert_cache_fetch"),
    ("equal scores displace", "score <= c->scores[home]", "score < c->scores[home]"),
    ("the hottest home loses",
     "c->scores[h] < c->scores[best]", "c->scores[h] > c->scores[best]"),
    ("a newcomer's score is not noted",
     "    c->scores[home] = score;\n", ""),
    ("scores of an earlier step are used",
     "    c->has_scores = false;\n}", "}"),
    ("a newcomer always lingers",
     "if (home == NOWHERE ||", "if (home != NOWHERE ||"),
    ("who loses the home keeps the slot's number",
     "p->slots[mine].home = home;", ""),
    ("the newest freed goes first",
     "if (s->expert == NOBODY) {", "if (true) {"),
    ("empty slots go last",
     "if (s->expert == NOBODY) {", "if (false) {"),
    ("the end of a step keeps its pins",
     "        x->wanted = false;\n        if (x->state == TUG_EXPERT_STAGED) linger(pool_of(c, c->layer), x);",
     "        if (x->state == TUG_EXPERT_STAGED) linger(pool_of(c, c->layer), x);"),
    ("the end of a step forgets what is staged",
     "if (x->state == TUG_EXPERT_STAGED) linger(pool_of(c, c->layer), x);", ""),
    ("what was fetched ahead in vain stays",
     "    release_ahead(c, layer);\n", ""),
    ("what waits may stop a step",
     "if (at == NOWHERE && x->wanted) at = p->waiting.first;", ""),
    ("fetching ahead takes from what waits",
     "if (at == NOWHERE && x->wanted)", "if (at == NOWHERE)"),
    ("loaded too late is staged for ever",
     "    } else {\n        linger(p, x);\n    }\n}\n\nvoid tug_expert_cache_failed",
     "    } else {\n        x->state = TUG_EXPERT_STAGED;\n    }\n}\n\nvoid tug_expert_cache_failed"),
    ("resize gives up what is being read",
     "if (cheapest == NOWHERE) return;", "if (cheapest == NOWHERE) cheapest_ = 0;"),
    ("a slot given up keeps its expert",
     "if (expert != NOBODY) move_out(p, expert_at(c, layer, expert));", ""),
    ("the last home does not learn its new place",
     "if (home < l->n_home) p->slots[l->homes[home]].home = home;", ""),
    ("scores do not move with the homes",
     "    c->scores[home] = c->scores[l->n_home];\n", ""),
    ("more homes than there were",
     "while (l->n_home < home && l->n_home < l->max_home) {", "while (l->n_home < home) {"),
    ("settling counts as staging",
     "if (p->slots[x->slot].place == SLOT_HOME) {", "if (false) {"),
    ("uses are not told in tokens",
     "l->clock += (uint32_t)n_tok;", "l->clock += 1;"),
    ("a hit is not counted",
     "case TUG_EXPERT_HOME: c->counters.hits++; break;", "case TUG_EXPERT_HOME: break;"),
]
# One edit needs the number to be a variable that can change.
EXTRA = {"resize gives up what is being read":
         [("const int cheapest = cheapest_home(c, layer);",
           "int cheapest_ = cheapest_home(c, layer);"),
          ("give_up(c, layer, cheapest, moved, ud);", "give_up(c, layer, cheapest_, moved, ud);"),
          ("if (cheapest == NOWHERE)", "if (cheapest_ == NOWHERE)")]}
BASE = ["src/policy/expert_policy.c", "src/policy/expert_forecast.c",
        "src/base/sys.c", "src/base/status.c", "src/base/str.c"]


def build(base, folder, text):
    os.makedirs(f"{folder}/memory")
    with open(f"{folder}/memory/expert_cache.c", "w", encoding="utf-8") as f:
        f.write(text)
    subprocess.run([os.environ.get("CC", "cc"), "-O1", "-w", "-D_GNU_SOURCE", f"-I{folder}",
                    "-Isrc", "-Iinclude", "-Itests", "tests/unit/test_expert_cache.c",
                    f"{base}/base.a", "-lcmocka", "-lm", "-o", f"{folder}/test"], check=True)


def build_base(folder):
    for i, path in enumerate(BASE):
        subprocess.run([os.environ.get("CC", "cc"), "-O1", "-w", "-D_GNU_SOURCE", "-Isrc",
                        "-Iinclude", "-c", path, "-o", f"{folder}/{i}.o"], check=True)
    subprocess.run(["ar", "rcs", f"{folder}/base.a"]
                   + [f"{folder}/{i}.o" for i in range(len(BASE))], check=True)


def passes(folder):
    try:
        return subprocess.run([f"{folder}/test"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=120, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def mutate(text, name, old, new):
    assert text.count(old) >= 1, f"{name}: the text to change is gone"
    text = text.replace(old, new, 1)
    for was, becomes in EXTRA.get(name, []):
        text = text.replace(was, becomes, 1)
    return text


def is_noticed(base, source, name, old, new):
    folder = tempfile.mkdtemp(dir=base)
    try:
        build(base, folder, mutate(source, name, old, new))
        noticed = not passes(folder)
    except (AssertionError, subprocess.CalledProcessError) as why:
        print(f"FAILED {name}: {why}")
        return False
    if not noticed:
        print(f"FAILED not noticed: {name}")
    return noticed


def main():
    with open(SOURCE, encoding="utf-8") as f:
        source = f.read()
    with tempfile.TemporaryDirectory() as base:
        build_base(base)
        build(base, f"{base}/whole", source)
        if not passes(f"{base}/whole"):
            print("FAILED the tests, without any mutation\ncache_mutants: 0 passed, 1 failed")
            return 1
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            noticed = list(pool.map(lambda m: is_noticed(base, source, *m), MUTANTS))
    print(f"cache_mutants: {sum(noticed)} passed, {len(noticed) - sum(noticed)} failed, 0 skipped")
    return 0 if all(noticed) else 1


if __name__ == "__main__":
    sys.exit(main())
