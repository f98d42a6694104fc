/* fuzz_constraint.c - the bytes choose what an answer says next, from pieces of the markup
 * of calls and single bytes; what the constraint refuses is left out.  The answer can then
 * always be brought to its end, and the parser of calls sees complete calls only, with the
 * required parameters in valid JSON.  The first byte says whether the bytes are a schema
 * instead, which must build and have an end.  SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "calls/call_parser.h"
#include "calls/constraint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\"},\"n\":{\"type\":"
    "[\"integer\",\"null\"]},\"e\":{\"enum\":[\"a\",\"ab\",null,1]},\"o\":{\"type\":"
    "\"object\","
    "\"additionalProperties\":{\"type\":[\"string\",\"array\"]}},\"m\":{\"type\":["
    "\"string\","
    "\"object\"]}},\"required\":[\"s\",\"n\"]}";

static const char *const pieces[] = {
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "<function=f>",
    "<function=g>",
    "<function=x>",
    "</function>",
    "<parameter=",
    "<parameter=s>",
    "<parameter=n>",
    "<parameter=e>",
    "<parameter=o>",
    "<parameter=m>",
    "<parameter=y>",
    "</parameter>",
    "</parameter/>",
    "</parameter",
    "\n",
    "\n\n",
    " ",
    "\t",
    "s>",
    "n>",
    "f>",
    "a",
    "1",
    "null",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "u00e9",
    "\n</parameter>\n",
    "</function>\n",
    "<function=f>\n<parameter=s>\n",
    "<tool_call>\n<function=f>\n",
    "\\ud800",
    "\xC3\xA9",
    "\n<function=f>",
    "\n<parameter=n>",
    "\n</function>",
    "\n</tool_call>",
};
enum { N_PIECES = sizeof pieces / sizeof *pieces };

typedef struct heard {
    int begun, complete;
    tug_buf arguments;
} heard;

static tug_status hear_text(void *ud, tug_str text, tug_err *err) {
    (void)ud;
    (void)text;
    (void)err;
    return TUG_OK;
}
static tug_status hear_begin(void *ud, tug_str name, tug_err *err) {
    heard *const h = ud;
    (void)err;
    TUG_CHECK(tug_str_is(name, "f") || tug_str_is(name, "g"));
    h->begun++;
    tug_buf_clear(&h->arguments);
    return TUG_OK;
}
static tug_status hear_arguments(void *ud, tug_str json, tug_err *err) {
    (void)err;
    tug_buf_str(&((heard *)ud)->arguments, json);
    return TUG_OK;
}
static tug_status hear_end(void *ud, bool complete, tug_err *err) {
    heard *const h = ud;
    (void)err;
    tug_arena arena = {0};
    const tug_json *v = NULL;
    TUG_CHECK(complete);
    TUG_CHECK(tug_json_parse(tug_buf_view(&h->arguments), &arena, &v, NULL) == TUG_OK);
    const tug_json *const n = tug_json_get(v, "n");
    TUG_CHECK(tug_json_is(tug_json_get(v, "s"), TUG_JSON_STRING));
    TUG_CHECK(tug_json_is(n, TUG_JSON_NUMBER) || tug_json_is(n, TUG_JSON_NULL));
    const tug_json *const o = tug_json_get(v, "o");
    TUG_CHECK(!o || o->kind == TUG_JSON_OBJECT);
    tug_arena_free(&arena);
    h->complete++;
    return TUG_OK;
}

static bool put(tug_constraint *c, tug_str s, tug_buf *text) {
    const bool allowed = tug_constraint_allows(c, s);
    if (!allowed) return false;
    tug_constraint_accept(c, s);
    TUG_CHECK(!tug_constraint_is_free(c) || tug_constraint_may_end(c));
    tug_buf_str(text, s);
    return true;
}

/* To the end, with what closes; then with any byte that is allowed. */
static void finish(tug_constraint *c, tug_buf *text) {
    static const char *const closers[] = {
        "\n</parameter>\n",
        "\"",
        "</function>",
        "\n</tool_call>",
        "}",
        "]",
        "0",
        "null",
        "s>",
        "n>",
        "<parameter=",
        "true",
        "[",
        "{",
    };
    for (int n = 0; !tug_constraint_may_end(c); n++) {
        bool done = false;
        TUG_CHECK(n < 20000);
        if (n % 3 == 2)
            done = put(c, tug_str_of("</function>"), text); /* of nested calls */
        for (size_t k = 0; k < sizeof closers / sizeof *closers && !done; k++) {
            done = put(c, tug_str_of(closers[k]), text);
        }
        for (int k = 0; k < 256 && !done; k++) {
            const char byte = (char)((k + n * 7) % 256);
            done = put(c, tug_str_make(&byte, 1), text);
        }
        TUG_CHECK(done);
    }
}

static void check_calls(tug_tools tools, tug_str text) {
    heard h = {.begun = 0};
    const tug_call_sink sink = {&h, hear_text, hear_begin, hear_arguments, hear_end};
    tug_call_parser *p = NULL;
    TUG_CHECK(tug_call_parser_create(&p, tools, &sink, NULL) == TUG_OK);
    TUG_CHECK(tug_call_parser_feed(p, text, NULL) == TUG_OK);
    TUG_CHECK(tug_call_parser_finish(p, true, NULL) == TUG_OK);
    TUG_CHECK(h.begun == h.complete);
    tug_call_parser_destroy(&p);
    tug_buf_free(&h.arguments);
}

static void fuzz_answer(const uint8_t *data, size_t size) {
    tug_arena arena = {0};
    const tug_json *schema;
    tug_buf text = {0};
    tug_constraint *c = NULL;
    TUG_CHECK(tug_json_parse(tug_str_of(schema_text), &arena, &schema, NULL) == TUG_OK);
    const tug_tool tools[] = {{tug_str_of("f"), schema}, {tug_str_of("g"), schema}};
    const tug_constraint_spec spec = {.tools = {tools, 2}, .parallel = true};
    TUG_CHECK(tug_constraint_create(&c, &spec, NULL) == TUG_OK);
    for (size_t i = 0; i < size; i++) {
        const char byte = (char)data[i];
        const bool piece = data[i] < N_PIECES;
        (void)put(c, piece ? tug_str_of(pieces[data[i]]) : tug_str_make(&byte, 1), &text);
    }
    finish(c, &text);
    check_calls(spec.tools, tug_buf_view(&text));
    tug_constraint_destroy(&c);
    tug_buf_free(&text);
    tug_arena_free(&arena);
}

static void fuzz_schema(tug_str in) {
    tug_arena arena = {0};
    const tug_json *schema;
    if (tug_json_parse(in, &arena, &schema, NULL) == TUG_OK) {
        tug_buf text = {0};
        tug_constraint *c = NULL;
        const tug_tool tool = {tug_str_of("f"), schema};
        const tug_constraint_spec spec = {.tools = {&tool, 1},
                                          .choice = TUG_TOOLS_AUTO,
                                          .format = TUG_FORMAT_JSON_SCHEMA,
                                          .schema = schema};
        TUG_CHECK(tug_constraint_create(&c, &spec, NULL) == TUG_OK);
        for (size_t i = 0; i < in.n; i++) (void)put(c, tug_str_make(&in.p[i], 1), &text);
        tug_constraint_destroy(&c);
        tug_buf_free(&text);
    }
    tug_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (data[0] == '{') {
        fuzz_schema(tug_str_make((const char *)data, size));
    } else {
        fuzz_answer(data + 1, size - 1);
    }
    return 0;
}
