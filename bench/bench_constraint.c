/* bench_constraint.c - what the constraint on an answer costs, on one core.
 *
 *     build/bench/bench_constraint TOKENIZER.json TOOLS.json
 *
 * TOKENIZER.json is a Hugging Face tokenizer with a vocabulary in GPT-2's byte alphabet,
 * TOOLS.json a list of tools as agents send them.  For each state: nanoseconds to ask about
 * one token and to accept it, over all tokens that are allowed there, and how long it takes
 * to ask about the whole vocabulary, which is the worst that sampling under the constraint
 * can come to.  Times are of the processor.  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "calls/constraint.h"
#include "calls/loop.h"

enum { MAX_TOOLS = 256, ROUNDS = 5 };

static void must(tug_status s, const tug_err *err) {
    if (s == TUG_OK) return;
    (void)fprintf(stderr, "bench_constraint: %s\n", err->msg);
    exit(1);
}

static double cpu_ns(void) {
    return 1e9 * (double)clock() / CLOCKS_PER_SEC;
}

static const tug_json *read_json(const char *path, tug_arena *arena) {
    tug_err err;
    tug_file f;
    tug_buf text = {0};
    const tug_json *v;
    must(tug_file_open(&f, path, &err), &err);
    must(tug_read_all(f.fd, path, SIZE_MAX, &text, &err), &err);
    tug_file_close(&f);
    must(tug_json_parse(tug_buf_view(&text), arena, &v, &err), &err);
    tug_buf_free(&text);
    return v;
}

/* ---- tokens --------------------------------------------------------------------------- */

/* GPT-2's alphabet: printable bytes are themselves, the others follow from U+0100. */
static int byte_of(uint32_t cp) {
    int next = 256;
    for (int b = 0; b < 256; b++) {
        const bool same = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        const uint32_t shown = same ? (uint32_t)b : (uint32_t)next++;
        if (shown == cp) return b;
    }
    return '?';
}

static size_t read_tokens(const tug_json *doc, tug_arena *arena, tug_str **out) {
    const tug_json *const vocab = tug_json_get(tug_json_get(doc, "model"), "vocab");
    tug_str *const tokens = tug_arena_array(arena, vocab->n, sizeof *tokens);
    for (size_t i = 0; i < vocab->n; i++) {
        const tug_str shown = tug_json_key(vocab, i);
        char *const bytes = tug_arena_array(arena, shown.n, 1);
        size_t n = 0;
        for (size_t at = 0; at < shown.n;) {
            const int len = tug_utf8_next(shown.p + at, shown.n - at);
            bytes[n++] = (char)byte_of(tug_utf8_decode(shown.p + at, len));
            at += (size_t)len;
        }
        tokens[i] = tug_str_make(bytes, n);
    }
    *out = tokens;
    return vocab->n;
}

/* ---- tools ---------------------------------------------------------------------------- */

static size_t read_tools(const tug_json *doc, tug_tool *tools) {
    size_t n = 0;
    for (size_t i = 0; i < doc->n && n < MAX_TOOLS - 1; i++) {
        const tug_json *tool = tug_json_get(tug_json_at(doc, i), "tool");
        if (tug_json_get(tool, "function")) tool = tug_json_get(tool, "function");
        const tug_json *const name = tug_json_get(tool, "name");
        const tug_json *schema = tug_json_get(tool, "parameters");
        if (!schema) schema = tug_json_get(tool, "input_schema");
        if (!tug_json_is(name, TUG_JSON_STRING) || !schema) continue;
        tools[n++] = (tug_tool){tug_json_text(name), schema};
    }
    return n;
}

/* ---- states ---------------------------------------------------------------------------- */

static const char own_tool[] =
    "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"},\"limit\":{"
    "\"type\":"
    "\"integer\"},\"list\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"any\":"
    "{\"type\":\"object\"}},\"required\":[\"path\"]}";

#define CALL "<tool_call>\n<function=bench_tool>\n"

static const struct {
    const char *name, *text;
} states[] = {
    {"content", "Let me look.\n"},
    {"tool name", "<tool_call>\n<function="},
    {"after a tool's name", "<tool_call>\n<function=bench_tool>\n"},
    {"parameter key", CALL "<parameter="},
    {"raw string", CALL "<parameter=path>\nint main"},
    {"integer", CALL "<parameter=limit>\n"},
    {"JSON string", CALL "<parameter=list>\n[\"x"},
    {"free JSON", CALL "<parameter=any>\n{\"a\":"},
    {"after a parameter", CALL "<parameter=path>\nx\n</parameter>\n"},
};

static tug_constraint *make(const tug_constraint_spec *spec, const char *text) {
    tug_err err;
    tug_constraint *c = NULL;
    must(tug_constraint_create(&c, spec, &err), &err);
    tug_constraint_accept(c, tug_str_of(text));
    return c;
}

/* All tokens are asked about; of those allowed, one after another is also accepted by a
 * constraint that is in this state (made anew when it left it). */
static void measure(const tug_constraint_spec *spec, size_t state, const tug_str *tokens,
                    size_t n) {
    tug_constraint *c = make(spec, states[state].text);
    size_t *allowed = tug_alloc_array(n, sizeof *allowed);
    size_t n_allowed = 0;
    double scan = 1e18, ask = 0, accept = 0;
    if (!allowed) exit(1);
    for (int round = 0; round < ROUNDS; round++) {
        n_allowed = 0;
        const double start = cpu_ns();
        for (size_t i = 0; i < n; i++) {
            if (tug_constraint_allows(c, tokens[i])) allowed[n_allowed++] = i;
        }
        const double took = cpu_ns() - start;
        if (took < scan) scan = took;
    }
    if (n_allowed) {
        const size_t some = n_allowed < 1000 ? 1000 : n_allowed;
        double start = cpu_ns();
        size_t yes = 0;
        for (size_t i = 0; i < some; i++) {
            yes += tug_constraint_allows(c, tokens[allowed[i % n_allowed]]);
        }
        ask = (cpu_ns() - start) / (double)(yes ? yes : 1);
        const size_t few = n_allowed < 200 ? n_allowed : 200;
        tug_constraint *each[200];
        for (size_t i = 0; i < few; i++) each[i] = make(spec, states[state].text);
        start = cpu_ns();
        for (size_t i = 0; i < few; i++) {
            tug_constraint_accept(each[i], tokens[allowed[i * (n_allowed / few)]]);
        }
        accept = (cpu_ns() - start) / (double)few;
        for (size_t i = 0; i < few; i++) tug_constraint_destroy(&each[i]);
    }
    printf("%-20s %8zu %8.0f %8.0f %10.3f %10.4f %9.4f\n", states[state].name, n_allowed,
           ask, accept, 1e-6 * scan, 100 * (ask + accept) / 10e6,
           100 * (ask + accept) / 1e6);
    tug_free(allowed);
    tug_constraint_destroy(&c);
}

static void measure_loop(size_t n) {
    tug_err err;
    tug_loop *l = NULL;
    must(tug_loop_create(&l, &err), &err);
    const double start = cpu_ns();
    size_t found = 0;
    for (size_t i = 0; i < n; i++) found += tug_loop_feed(l, (int32_t)(i * i % 50021));
    printf("loop detector: %.0f ns a token (%zu found)\n", (cpu_ns() - start) / (double)n,
           found);
    tug_loop_destroy(&l);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        (void)fprintf(stderr, "usage: bench_constraint TOKENIZER.json TOOLS.json\n");
        return 2;
    }
    static tug_tool tools[MAX_TOOLS];
    tug_arena arena = {0};
    tug_str *tokens;
    const size_t n = read_tokens(read_json(argv[1], &arena), &arena, &tokens);
    size_t n_tools = read_tools(read_json(argv[2], &arena), tools);
    const tug_json *own;
    must(tug_json_parse(tug_str_of(own_tool), &arena, &own, NULL),
         &(tug_err){.msg = "own"});
    tools[n_tools++] = (tug_tool){tug_str_of("bench_tool"), own};
    const tug_constraint_spec spec = {.tools = {tools, n_tools}, .parallel = true};

    const double start = cpu_ns();
    for (int i = 0; i < 20; i++) {
        tug_constraint *c = make(&spec, "");
        tug_constraint_destroy(&c);
    }
    printf("%zu tools: built in %.2f ms; %zu tokens\n", n_tools,
           5e-8 * (cpu_ns() - start), n);
    printf("%-20s %8s %8s %8s %10s %10s %9s\n", "state", "allowed", "ask ns", "take ns",
           "scan ms", "% of 10 ms", "% of 1 ms");
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        measure(&spec, i, tokens, n);
    measure_loop(10 * 1000 * 1000);
    tug_arena_free(&arena);
    return 0;
}
