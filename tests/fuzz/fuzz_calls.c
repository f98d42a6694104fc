/* fuzz_calls.c - the parser of tool calls: any bytes, and texts built of its own tags.
 *
 * Of every input:
 *  1. How it is cut makes no difference: whole and in pieces tell the same.
 *  2. Complete calls have arguments that are one JSON object.
 *  3. No byte is lost.  The input is walked through beside what was told: text must stand
 *     there byte for byte, a call as its tags, names and values (of tools whose members
 *     are all strings, so that a value can be read back), white space only where it may
 *     be dropped.
 *  4. What has no tag in it comes out as it went in.
 * SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "support/call_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Strings only, and all types. */
static const char string_tools[] =
    "[{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"string\"},"
    "\"b\":{\"type\":\"string\"}}}},{\"name\":\"g\"}]";
static const char typed_tools[] =
    "[{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"integer\"},"
    "\"b\":{\"type\":[\"string\",\"null\"]},\"c\":{\"type\":[\"string\",\"array\"]}},"
    "\"required\":[\"a\"]}},{\"name\":\"g\",\"parameters\":{\"properties\":{"
    "\"a\":{\"type\":\"object\"},\"b\":{\"type\":\"number\"}}}}]";

/* What half of the inputs are built of. */
static const char *const pieces[] = {
    "<tool_call>",
    "</tool_call>",
    "<function=f>",
    "<function=g>",
    "<function=h>",
    "</function>",
    "<parameter=a>",
    "<parameter=b>",
    "<parameter=c>",
    "</parameter>",
    "\n</parameter>\n",
    "\n</function>\n",
    "\n</tool_call>",
    "<tool_call>\n<function=f>\n",
    "\n<parameter=a>\n",
    "</parameter1>\n",
    "\n</parameter",
    "<parameter=",
    "<function=",
    "\n",
    " ",
    "x",
    "12",
    "[1, 'a']",
    "{\"a\":1}",
    "null",
    "None",
    "\"",
    "\\",
    "\xC3\xA9",
    "\xE2\x82",
    "<",
};

/* An even byte is a piece, an odd one stands for itself. */
static void build(const uint8_t *data, size_t size, tug_buf *in) {
    for (size_t i = 0; i < size; i++) {
        if (data[i] & 1) {
            tug_buf_char(in, (char)data[i]);
        } else {
            tug_buf_text(in, pieces[(data[i] >> 1) % (sizeof pieces / sizeof *pieces)]);
        }
    }
}

/* ---- what the sink is told ------------------------------------------------------------ */

enum { EVENT_MAX = 512 };

typedef struct event {
    bool is_call, complete;
    tug_buf text; /* or the call's name */
    tug_buf json;
} event;

/* Texts are joined, a call is one event.  The buffers live on: allocating them is most of
 * the time that a short input takes. */
typedef struct story {
    event event[EVENT_MAX];
    size_t n;
    bool in_call;
} story;

static event *add_event(story *s, bool is_call) {
    TUG_CHECK(s->n < EVENT_MAX && !s->in_call);
    event *const e = &s->event[s->n++];
    e->is_call = is_call;
    e->complete = false;
    tug_buf_clear(&e->text);
    tug_buf_clear(&e->json);
    return e;
}

static tug_status on_text(void *ud, tug_str text, tug_err *err) {
    (void)err;
    story *const s = ud;
    const bool joins = s->n > 0 && !s->event[s->n - 1].is_call;
    event *const e = joins ? &s->event[s->n - 1] : add_event(s, false);
    TUG_CHECK(text.n > 0 && !s->in_call);
    tug_buf_str(&e->text, text);
    return TUG_OK;
}

static tug_status on_begin(void *ud, tug_str name, tug_err *err) {
    (void)err;
    story *const s = ud;
    tug_buf_str(&add_event(s, true)->text, name);
    s->in_call = true;
    return TUG_OK;
}

static tug_status on_arguments(void *ud, tug_str json, tug_err *err) {
    (void)err;
    story *const s = ud;
    TUG_CHECK(s->in_call && json.n > 0 && tug_utf8_valid(json.p, json.n, NULL));
    tug_buf_str(&s->event[s->n - 1].json, json);
    return TUG_OK;
}

static tug_status on_end(void *ud, bool complete, tug_err *err) {
    (void)err;
    story *const s = ud;
    TUG_CHECK(s->in_call);
    s->in_call = false;
    s->event[s->n - 1].complete = complete;
    return TUG_OK;
}

/* Feeds `in` in pieces of 1 to 8 bytes by `seed`, or at once when that is 0. */
static void tell(story *s, tug_tools tools, tug_str in, uint32_t seed, bool whole) {
    const tug_call_sink sink = {s, on_text, on_begin, on_arguments, on_end};
    tug_call_parser *p;
    s->n = 0;
    TUG_CHECK(tug_call_parser_create(&p, tools, &sink, NULL) == TUG_OK);
    while (in.n > 0) {
        size_t n = in.n;
        if (seed != 0) {
            seed = seed * 1664525u + 1013904223u;
            n = 1 + (seed >> 29);
        }
        if (n > in.n) n = in.n;
        TUG_CHECK(tug_call_parser_feed(p, tug_str_make(in.p, n), NULL) == TUG_OK);
        in = tug_str_make(in.p + n, in.n - n);
    }
    TUG_CHECK(tug_call_parser_finish(p, whole, NULL) == TUG_OK);
    TUG_CHECK(!s->in_call && !tug_call_parser_in_call(p));
    tug_call_parser_destroy(&p);
}

static void expect_same(const story *a, const story *b) {
    TUG_CHECK(a->n == b->n);
    for (size_t i = 0; i < a->n; i++) {
        const event *const x = &a->event[i], *const y = &b->event[i];
        TUG_CHECK(x->is_call == y->is_call && x->complete == y->complete);
        TUG_CHECK(tug_str_eq(tug_buf_view(&x->text), tug_buf_view(&y->text)));
        TUG_CHECK(tug_str_eq(tug_buf_view(&x->json), tug_buf_view(&y->json)));
    }
}

/* ---- no byte is lost ------------------------------------------------------------------ */

typedef struct walker {
    const char *p, *end;
    bool gave_up; /* a repeated key: nothing tells where its dropped value ended */
} walker;

static void skip_space(walker *w) {
    while (w->p < w->end && strchr(" \t\r\n", *w->p) && *w->p != '\0') w->p++;
}

static bool skip_bytes(walker *w, tug_str s) {
    if (!tug_str_starts(tug_str_make(w->p, (size_t)(w->end - w->p)), s)) return false;
    w->p += s.n;
    return true;
}

static bool skip_z(walker *w, const char *z) {
    return skip_bytes(w, tug_str_of(z));
}

/* tag NAME >, or nothing. */
static bool skip_named(walker *w, const char *tag, tug_str name) {
    const char *const at = w->p;
    bool ok = skip_z(w, tag);
    if (ok) skip_space(w);
    ok = ok && skip_bytes(w, name);
    if (ok) skip_space(w);
    ok = ok && skip_z(w, ">");
    if (!ok) w->p = at;
    return ok;
}

/* What may follow a value: a line end, a closing tag, white space; each or none. */
static void skip_closer(walker *w) {
    (void)skip_z(w, "\n");
    if (skip_z(w, "</parameter")) {
        while (w->p < w->end && *w->p != '>' && *w->p != '\n') w->p++;
        (void)skip_z(w, ">");
    }
    skip_space(w);
}

static void walk_members(walker *w, const tug_json *args) {
    for (size_t i = 0; i < args->n && !w->gave_up; i++) {
        const tug_json *value = tug_json_value(args, i);
        TUG_CHECK(value->kind == TUG_JSON_STRING);
        if (!skip_named(w, "<parameter=", tug_json_key(args, i))) {
            TUG_CHECK(skip_z(w, "<parameter="));
            w->gave_up = true;
            return;
        }
        (void)skip_z(w, "\n");
        TUG_CHECK(skip_bytes(w, tug_json_text(value)));
        skip_closer(w);
    }
    if (skip_z(w, "<parameter=")) w->gave_up = true;
}

static void walk_call(walker *w, const event *e, const tug_json *args) {
    skip_space(w);
    if (skip_z(w, "<tool_call>")) skip_space(w);
    TUG_CHECK(skip_named(w, "<function=", tug_buf_view(&e->text)));
    skip_space(w);
    walk_members(w, args);
    if (w->gave_up) return;
    const bool closed = skip_z(w, "</function>");
    const char *const at = w->p;
    if (closed) skip_space(w);
    if (!skip_z(w, "</tool_call>")) w->p = at;
}

/* After a call: white space, and a tag that the end cut off. */
static void walk_end(walker *w) {
    skip_space(w);
    if (w->p == w->end) return;
    TUG_CHECK(*w->p == '<');
    const size_t n = (size_t)(w->end - w->p - 1);
    TUG_CHECK(!memchr(w->p + 1, '<', n) && !memchr(w->p + 1, '>', n));
}

static void expect_all(const story *s, tug_str in) {
    walker w = {in.p, in.p + in.n, false};
    for (size_t i = 0; i < s->n && !w.gave_up; i++) {
        const event *const e = &s->event[i];
        if (!e->is_call) {
            TUG_CHECK(skip_bytes(&w, tug_buf_view(&e->text)));
            continue;
        }
        if (!e->complete) {
            TUG_CHECK(i + 1 == s->n);
            return;
        }
        tug_arena arena = {0};
        const tug_json *args;
        TUG_CHECK(tug_json_parse(tug_buf_view(&e->json), &arena, &args, NULL) == TUG_OK);
        walk_call(&w, e, args);
        tug_arena_free(&arena);
    }
    if (w.gave_up) return;
    if (s->n > 0 && s->event[s->n - 1].is_call) walk_end(&w);
    TUG_CHECK(w.p == w.end || (s->n > 0 && s->event[s->n - 1].is_call));
}

static bool has(tug_str s, const char *z) {
    return memmem(s.p, s.n, z, strlen(z)) != NULL;
}

static void expect_objects(const story *s) {
    for (size_t i = 0; i < s->n; i++) {
        if (!s->event[i].is_call || !s->event[i].complete) continue;
        tug_arena arena = {0};
        const tug_json *v;
        const tug_str json = tug_buf_view(&s->event[i].json);
        TUG_CHECK(tug_json_parse(json, &arena, &v, NULL) == TUG_OK);
        TUG_CHECK(v->kind == TUG_JSON_OBJECT);
        tug_arena_free(&arena);
    }
}

/* ---- one input ------------------------------------------------------------------------ */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static story once, pieced; /* too much for a stack */
    static tug_buf in;
    static tug_arena arena;
    static tug_tools strings, typed;
    if (strings.n == 0) {
        strings = call_log_tools(string_tools, &arena);
        typed = call_log_tools(typed_tools, &arena);
        TUG_CHECK(strings.n == 2 && typed.n == 2);
    }
    if (size < 2 || size > 512) return 0;
    const bool whole = (data[0] & 1) != 0, of_strings = (data[0] & 6) != 0;
    const tug_tools tools = of_strings ? strings : typed;
    tug_buf_clear(&in);
    if (data[0] & 0x80) {
        build(data + 2, size - 2, &in);
    } else {
        tug_buf_append(&in, data + 2, size - 2);
    }
    const tug_str text = in.n > 0 ? tug_buf_view(&in) : tug_str_of("");
    tell(&once, tools, text, 0, whole);
    tell(&pieced, tools, text, 1u + data[1], whole);
    expect_same(&once, &pieced);
    if (text.n > 0 && !has(text, "<tool_call>") && !has(text, "<function=")) {
        TUG_CHECK(once.n == 1 && !once.event[0].is_call);
        TUG_CHECK(tug_str_eq(tug_buf_view(&once.event[0].text), text));
    }
    if (!of_strings) expect_objects(&once);
    if (of_strings && tug_utf8_valid(text.p, text.n, NULL)) expect_all(&once, text);
    return 0;
}
