/* constraint_walk.c - for constraint_schemas.py: samples answers under the constraint,
 * uniformly over the bytes or the tokens that it allows.
 *
 *     constraint_walk [TOKENS]        a file with a token a line, in hexadecimal
 *
 * A line of input is a JSON object: {"schema": ..., "how": "call" or "format", "seed": 1,
 * "free": 300, "tokens": false}.  From byte `free` on, bytes that close something are
 * preferred, because uniform bytes would never close a string.  The answer is an object:
 * the text in hexadecimal, whether it came to its end, what the parser of calls made of it
 * (likewise), and the warnings.  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "calls/call_parser.h"
#include "calls/constraint.h"

enum { MAX_BYTES = 60000, MAX_TRIES = 400 };

typedef struct vocab {
    tug_buf bytes;
    size_t *at; /* (n + 1,) sorted by first byte */
    size_t n, first[257];
} vocab;

typedef struct walk {
    tug_constraint *c;
    tug_rng rng;
    tug_buf text;
    size_t free;
    const vocab *v;       /* NULL: bytes */
    const tug_json *keys; /* the schema, where required keys are looked for */
    bool last_required;   /* one of them was taken just now */
} walk;

static size_t below(tug_rng *rng, size_t n) {
    return (size_t)(tug_rng_unit(rng) * (double)n);
}

static void take(walk *w, tug_str s) {
    tug_constraint_accept(w->c, s);
    tug_buf_str(&w->text, s);
}

static bool after_parameter(const walk *w) {
    static const char open[] = "<parameter=";
    const size_t n = sizeof open - 1;
    return w->text.n >= n && memcmp(w->text.p + w->text.n - n, open, n) == 0;
}

/* Puts one of the required keys that may come into *key, wherever in the schema they are:
 * among any others they have to be aimed at.  *n counts those that may. */
static void find_required(walk *w, const tug_json *schema, tug_buf *key, size_t *n) {
    const size_t inside = schema->kind == TUG_JSON_OBJECT  ? 2 * (size_t)schema->n
                          : schema->kind == TUG_JSON_ARRAY ? schema->n
                                                           : 0;
    const tug_json *const names = tug_json_get(schema, "required");
    for (size_t i = 0; tug_json_is(names, TUG_JSON_ARRAY) && i < names->n; i++) {
        const tug_json *const name = tug_json_at(names, i);
        tug_buf text = {0};
        tug_json_writer out = tug_json_writer_make(&text, TUG_JSON_COMPACT);
        if (after_parameter(w) && name->kind == TUG_JSON_STRING) {
            tug_buf_str(&text, tug_json_text(name));
            tug_buf_char(&text, '>');
        } else {
            tug_json_write_value(&out, name);
        }
        if (tug_constraint_allows(w->c, tug_buf_view(&text)) &&
            below(&w->rng, ++*n) == 0) {
            tug_buf_clear(key);
            tug_buf_str(key, tug_buf_view(&text));
        }
        tug_buf_free(&text);
    }
    for (size_t i = 0; i < inside; i++) find_required(w, tug_json_at(schema, i), key, n);
}

/* Not twice one after the other: a string would take them for ever. */
static bool take_required(walk *w) {
    tug_buf key = {0};
    size_t n = 0;
    if (!w->last_required && w->keys) find_required(w, w->keys, &key, &n);
    w->last_required = n > 0;
    if (n) take(w, tug_buf_view(&key));
    tug_buf_free(&key);
    return n > 0;
}

/* What closes something, the most closing first; then values that need little. */
static bool take_closer(walk *w) {
    static const char *const closers[] = {
        "\n</parameter>\n",
        "\"",
        "</function>",
        "\n</tool_call>",
        "}",
        "]",
        "0",
        "null",
        "false",
        "[",
        "{",
    };
    for (size_t i = 0; i < sizeof closers / sizeof *closers; i++) {
        const tug_str s = tug_str_of(closers[i]);
        if (!tug_constraint_allows(w->c, s)) continue;
        take(w, s);
        return true;
    }
    return false;
}

static size_t allowed_bytes(const walk *w, char out[256]) {
    size_t n = 0;
    for (int b = 0; b < 256; b++) {
        const char c = (char)b;
        if (tug_constraint_allows(w->c, tug_str_make(&c, 1))) out[n++] = c;
    }
    return n;
}

static tug_str token(const vocab *v, size_t i) {
    return tug_str_make(v->bytes.p + v->at[i], v->at[i + 1] - v->at[i]);
}

/* Uniform over the allowed tokens: tries, and when few are allowed, all of them. */
static bool take_token(walk *w, const char *first, size_t n_first) {
    const vocab *const v = w->v;
    size_t total = 0;
    for (size_t i = 0; i < n_first; i++) {
        const unsigned b = (unsigned char)first[i];
        total += v->first[b + 1] - v->first[b];
    }
    size_t n_allowed = 0, chosen = 0;
    for (size_t pass = 0; pass < MAX_TRIES + total; pass++) {
        size_t k = pass < MAX_TRIES ? below(&w->rng, total) : pass - MAX_TRIES, i = 0;
        for (;; i++) {
            const unsigned b = (unsigned char)first[i];
            const size_t n = v->first[b + 1] - v->first[b];
            if (k < n) break;
            k -= n;
        }
        const size_t id = v->first[(unsigned char)first[i]] + k;
        if (!tug_constraint_allows(w->c, token(v, id))) continue;
        if (pass < MAX_TRIES) {
            take(w, token(v, id));
            return true;
        }
        if (below(&w->rng, ++n_allowed) == 0) chosen = id;
    }
    if (n_allowed) take(w, token(v, chosen));
    return n_allowed > 0;
}

/* True: the answer is complete. */
static bool run(walk *w) {
    while (w->text.n < MAX_BYTES) {
        if (tug_constraint_is_done(w->c)) return true;
        const bool late = w->text.n >= w->free;
        if (tug_constraint_may_end(w->c) && (late || below(&w->rng, 4) == 0)) return true;
        if (late && take_required(w)) continue;
        if (late && take_closer(w)) continue;
        char bytes[256];
        const size_t n = allowed_bytes(w, bytes);
        if (n == 0) return tug_constraint_may_end(w->c);
        if (w->v && !late && !take_token(w, bytes, n)) return false;
        if (!w->v || late) take(w, tug_str_make(&bytes[below(&w->rng, n)], 1));
    }
    return false;
}

/* ---- the parser ---------------------------------------------------------------------- */

typedef struct heard {
    tug_buf arguments, text;
    int begun, complete;
} heard;

static tug_status hear_text(void *ud, tug_str text, tug_err *err) {
    (void)err;
    tug_buf_str(&((heard *)ud)->text, text);
    return TUG_OK;
}
static tug_status hear_begin(void *ud, tug_str name, tug_err *err) {
    (void)err;
    (void)name;
    ((heard *)ud)->begun++;
    return TUG_OK;
}
static tug_status hear_arguments(void *ud, tug_str json, tug_err *err) {
    (void)err;
    tug_buf_str(&((heard *)ud)->arguments, json);
    return TUG_OK;
}
static tug_status hear_end(void *ud, bool complete, tug_err *err) {
    (void)err;
    ((heard *)ud)->complete += complete;
    return TUG_OK;
}

static void parse(tug_tools tools, tug_str text, heard *h) {
    const tug_call_sink sink = {h, hear_text, hear_begin, hear_arguments, hear_end};
    tug_call_parser *p = NULL;
    if (tug_call_parser_create(&p, tools, &sink, NULL) != TUG_OK ||
        tug_call_parser_feed(p, text, NULL) != TUG_OK ||
        tug_call_parser_finish(p, true, NULL) != TUG_OK) {
        exit(1);
    }
    tug_call_parser_destroy(&p);
}

/* ---- requests ------------------------------------------------------------------------ */

static void print_hex(tug_str s) {
    printf("\"");
    for (size_t i = 0; i < s.n; i++) printf("%02x", (unsigned char)s.p[i]);
    printf("\"");
}

static size_t number(const tug_json *request, const char *key) {
    const tug_json *const v = tug_json_get(request, key);
    return v ? (size_t)tug_json_f64(v) : 0;
}

static void answer(tug_str line, const vocab *v) {
    tug_arena arena = {0};
    tug_err err;
    const tug_json *request;
    if (tug_json_parse(line, &arena, &request, &err) != TUG_OK) {
        printf("{\"refused\": true}\n");
        tug_arena_free(&arena);
        return;
    }
    const tug_json *const schema = tug_json_get(request, "schema");
    const bool call = tug_str_is(tug_json_text(tug_json_get(request, "how")), "call");
    const tug_tool tool = {tug_str_of("the_tool"), schema};
    const tug_constraint_spec spec = {
        .tools = {&tool, call ? 1 : 0},
        .choice = call ? TUG_TOOLS_NAMED : TUG_TOOLS_AUTO,
        .named = tool.name,
        .format = call ? TUG_FORMAT_TEXT : TUG_FORMAT_JSON_SCHEMA,
        .schema = schema,
    };
    walk w = {.free = number(request, "free"),
              .keys = schema,
              .v = tug_json_get(request, "tokens")->v.truth ? v : NULL};
    tug_rng_seed(&w.rng, number(request, "seed"));
    if (tug_constraint_create(&w.c, &spec, &err) != TUG_OK) exit(1);
    const bool ended = run(&w);
    heard h = {.begun = 0};
    if (call) parse(spec.tools, tug_buf_view(&w.text), &h);
    printf("{\"ended\": %s, \"text\": ", ended ? "true" : "false");
    print_hex(tug_buf_view(&w.text));
    printf(", \"begun\": %d, \"complete\": %d, \"arguments\": ", h.begun, h.complete);
    print_hex(tug_buf_view(&h.arguments));
    printf(", \"outside\": ");
    print_hex(tug_buf_view(&h.text));
    printf(", \"warnings\": ");
    print_hex(tug_constraint_warnings(w.c));
    printf("}\n");
    (void)fflush(stdout);
    tug_constraint_destroy(&w.c);
    tug_buf_free(&w.text);
    tug_buf_free(&h.arguments);
    tug_buf_free(&h.text);
    tug_arena_free(&arena);
}

static bool read_line(FILE *f, tug_buf *out) {
    tug_buf_clear(out);
    int c;
    while ((c = fgetc(f)) != EOF && c != '\n') tug_buf_char(out, (char)c);
    return c != EOF || out->n > 0;
}

static int digit(int c) {
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

/* The file is sorted by the tokens' bytes. */
static void read_vocab(const char *path, vocab *v) {
    FILE *const f = fopen(path, "r");
    tug_buf line = {0};
    if (!f) exit(1);
    size_t cap = 1 << 20;
    v->at = calloc(cap, sizeof *v->at);
    while (read_line(f, &line) && v->n + 1 < cap) {
        for (size_t i = 0; i + 1 < line.n; i += 2) {
            tug_buf_char(&v->bytes, (char)(digit(line.p[i]) << 4 | digit(line.p[i + 1])));
        }
        v->at[++v->n] = v->bytes.n;
    }
    for (size_t i = 0; i < v->n; i++) {
        v->first[(unsigned char)v->bytes.p[v->at[i]] + 1] = i + 1;
    }
    for (int b = 1; b <= 256; b++) {
        if (v->first[b] < v->first[b - 1]) v->first[b] = v->first[b - 1];
    }
    tug_buf_free(&line);
    (void)fclose(f);
}

int main(int argc, char **argv) {
    vocab v = {.n = 0};
    tug_buf line = {0};
    if (argc > 1) read_vocab(argv[1], &v);
    while (read_line(stdin, &line)) answer(tug_buf_view(&line), &v);
    tug_buf_free(&line);
    tug_buf_free(&v.bytes);
    free(v.at);
    return 0;
}
