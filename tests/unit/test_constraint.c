/* test_constraint.c - which answers the constraint lets through, byte by byte, as one token
 * and cut anywhere; and that the parser of calls agrees.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "calls/call_parser.h"
#include "calls/constraint.h"
#include "fault/fault.h"

static const char read_file[] =
    "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"},"
    "\"limit\":{\"type\":\"integer\"},\"mode\":{\"enum\":[\"fast\",\"fat\",\"slow\"]},"
    "\"deep\":{\"type\":\"boolean\"},\"edits\":{\"type\":\"array\",\"items\":{\"type\":"
    "\"object\",\"properties\":{\"old\":{\"type\":\"string\"},\"new\":{\"type\":["
    "\"string\","
    "\"null\"]}},\"required\":[\"old\",\"new\"],\"additionalProperties\":false}}},"
    "\"required\":[\"path\"]}";

/* ---- a constraint and what it is made from ------------------------------------------- */

typedef struct fixture {
    tug_arena arena;
    tug_tool tool[3];
    tug_constraint_spec spec;
    tug_constraint *c;
} fixture;

static const tug_json *json(fixture *f, const char *text) {
    const tug_json *v = NULL;
    if (text)
        assert_int_equal(tug_json_parse(tug_str_of(text), &f->arena, &v, NULL), TUG_OK);
    return v;
}

static void restart(fixture *f) {
    tug_constraint_destroy(&f->c);
    assert_int_equal(tug_constraint_create(&f->c, &f->spec, NULL), TUG_OK);
}

/* Tools read_file, read and list (without parameters). */
static void start(fixture *f, tug_tool_choice choice, const char *schema) {
    *f = (fixture){.spec = {.choice = choice, .parallel = true}};
    f->tool[0] = (tug_tool){tug_str_of("read_file"), json(f, schema)};
    f->tool[1] = (tug_tool){tug_str_of("read"), json(f, schema)};
    f->tool[2] = (tug_tool){tug_str_of("list"), NULL};
    f->spec.tools = (tug_tools){f->tool, 3};
    f->spec.named = tug_str_of("read");
    restart(f);
}

static void start_format(fixture *f, const char *schema) {
    *f = (fixture){.spec = {.format = TUG_FORMAT_JSON_SCHEMA}};
    f->spec.schema = json(f, schema);
    restart(f);
}

static void stop(fixture *f) {
    tug_constraint_destroy(&f->c);
    tug_arena_free(&f->arena);
}

static bool allows(const fixture *f, const char *text) {
    return tug_constraint_allows(f->c, tug_str_of(text));
}

static void put(fixture *f, const char *text) {
    if (!allows(f, text)) fail_msg("not allowed: %s", text);
    tug_constraint_accept(f->c, tug_str_of(text));
}

/* How many bytes of the text may come, one at a time, from a fresh start. */
static size_t bytes_allowed(fixture *f, const char *text) {
    restart(f);
    size_t i = 0;
    for (; text[i]; i++) {
        const tug_str byte = tug_str_make(&text[i], 1);
        if (!tug_constraint_allows(f->c, byte)) break;
        tug_constraint_accept(f->c, byte);
    }
    return i;
}

/* As one token, as two cut anywhere, and byte by byte: the same verdict. */
static bool whole_allowed(fixture *f, const char *text) {
    const size_t n = strlen(text), bytes = bytes_allowed(f, text);
    const bool ends = tug_constraint_may_end(f->c);
    restart(f);
    const bool one = allows(f, text);
    assert_int_equal(one, bytes == n);
    for (size_t cut = 1; cut < n; cut++) {
        restart(f);
        const tug_str a = tug_str_make(text, cut), b = tug_str_make(text + cut, n - cut);
        const bool first = tug_constraint_allows(f->c, a);
        assert_int_equal(first, cut <= bytes);
        if (!first) continue;
        tug_constraint_accept(f->c, a);
        assert_int_equal(tug_constraint_allows(f->c, b), one);
        if (!one) continue;
        tug_constraint_accept(f->c, b);
        assert_int_equal(tug_constraint_may_end(f->c), ends);
    }
    restart(f);
    tug_constraint_accept(f->c, tug_str_of(text));
    return one;
}

static void allow(fixture *f, const char *text) {
    if (!whole_allowed(f, text)) {
        fail_msg("refused after %zu bytes: %s", bytes_allowed(f, text), text);
    }
}

/* The first byte that is refused is the one after `good`. */
static void refuse_after(fixture *f, const char *good, const char *rest) {
    char text[4096];
    (void)snprintf(text, sizeof text, "%s%s", good, rest);
    assert_false(whole_allowed(f, text));
    if (bytes_allowed(f, text) != strlen(good)) {
        fail_msg("refused after %zu bytes and not %zu: %s", bytes_allowed(f, text),
                 strlen(good), text);
    }
}

/* ---- what the parser makes of it ----------------------------------------------------- */

typedef struct heard {
    int complete, begun;
    tug_buf arguments;
} heard;

static tug_status hear_text(void *ud, tug_str text, tug_err *err) {
    (void)ud;
    (void)text;
    (void)err;
    return TUG_OK;
}
static tug_status hear_begin(void *ud, tug_str name, tug_err *err) {
    (void)name;
    (void)err;
    ((heard *)ud)->begun++;
    return TUG_OK;
}
static tug_status hear_arguments(void *ud, tug_str json_text, tug_err *err) {
    (void)err;
    tug_buf_str(&((heard *)ud)->arguments, json_text);
    return TUG_OK;
}
static tug_status hear_end(void *ud, bool complete, tug_err *err) {
    (void)err;
    ((heard *)ud)->complete += complete;
    return TUG_OK;
}

static heard parse(const fixture *f, tug_str text) {
    heard h = {.begun = 0};
    const tug_call_sink sink = {&h, hear_text, hear_begin, hear_arguments, hear_end};
    tug_call_parser *p = NULL;
    assert_int_equal(tug_call_parser_create(&p, f->spec.tools, &sink, NULL), TUG_OK);
    assert_int_equal(tug_call_parser_feed(p, text, NULL), TUG_OK);
    assert_int_equal(tug_call_parser_finish(p, true, NULL), TUG_OK);
    tug_call_parser_destroy(&p);
    return h;
}

/* The text is allowed, may end, and is one call with these arguments. */
static void is_call(fixture *f, const char *text, const char *arguments) {
    allow(f, text);
    assert_true(tug_constraint_may_end(f->c));
    heard h = parse(f, tug_str_of(text));
    assert_int_equal(h.begun, 1);
    assert_int_equal(h.complete, 1);
    if (!tug_str_is(tug_buf_view(&h.arguments), arguments)) {
        fail_msg("%s and not %s", h.arguments.p, arguments);
    }
    tug_buf_free(&h.arguments);
}

/* ---- content and names --------------------------------------------------------------- */

#define OPEN  "<tool_call>\n<function=read_file>\n"
#define P(k)  "<parameter=" k ">\n"
#define E     "\n</parameter>\n"
#define CLOSE "</function>\n</tool_call>"

static void test_calls_are_canonical(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    is_call(&f, OPEN P("path") "a.c" E CLOSE, "{\"path\":\"a.c\"}");
    is_call(&f, "I look.\n\n" OPEN P("limit") "12" E P("path") "a\n\nb" E CLOSE,
            "{\"limit\":12,\"path\":\"a\\n\\nb\"}");
    is_call(&f, "<tool_call>\n<function=read>\n" P("path") "" E CLOSE, "{\"path\":\"\"}");
    is_call(&f, "<tool_call>\n<function=list>\n" CLOSE, "{}");
    refuse_after(&f, "<tool_call>", " \n<function=read>");
    refuse_after(&f, "<tool_call>\n", "\n<function=read>");
    refuse_after(&f, "<tool_call>\n<function=rea", "l>");
    refuse_after(&f, "<tool_call>\n<function=read_fil", ">");
    refuse_after(&f, OPEN "<", "/function>"); /* path is required */
    refuse_after(&f, OPEN P("path") "x" E "<parameter=", "path>");
    refuse_after(&f, OPEN "<parameter=", "other>");
    refuse_after(&f, "<tool_call>\n<function=list>\n<", "parameter=x>");
    refuse_after(&f, OPEN P("path") "x" E "</function>", "</tool_call>");
    stop(&f);
}

static void test_text_is_free(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    assert_true(tug_constraint_is_free(f.c) && tug_constraint_may_end(f.c));
    allow(&f, "a < b, <function=unknown>, <tool_cal and #include <functional>\n<functio");
    assert_true(tug_constraint_may_end(f.c));
    allow(&f, "The tag `<tool_call>` opens a call, then comes <function=.");
    assert_true(tug_constraint_may_end(f.c) && tug_constraint_is_free(f.c));
    allow(&f, "It says <function=read> here.");
    assert_true(tug_constraint_may_end(f.c));
    put(&f, "\n<tool");
    assert_false(tug_constraint_is_free(f.c));
    put(&f, "_call>");
    assert_false(tug_constraint_may_end(f.c));
    assert_false(tug_constraint_is_free(f.c));
    stop(&f);
}

static void test_a_call_may_begin_anywhere(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    is_call(&f, "Now: " OPEN P("path") "x" E CLOSE, "{\"path\":\"x\"}");
    refuse_after(&f, "Now: <tool_call> \n <function=rea", "son>");
    is_call(&f, "Now:\n<function=read>\n" P("path") "x" E "</function>",
            "{\"path\":\"x\"}");
    is_call(&f, "<function=read>\n" P("path") "x" E CLOSE, "{\"path\":\"x\"}");
    refuse_after(&f, "Now:\n<function=read>\n<", "/function>");
    /* What looked like a tag may end with the line before one. */
    refuse_after(&f, "<function=\n<function=read>\n<", "/function>");
    refuse_after(&f, "</parameter\n<function=read>\n<", "/function>");
    refuse_after(&f, "  <function= read >", "x");
    stop(&f);
}

static void test_calls_follow_calls(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    static const char one[] = OPEN P("path") "x" E CLOSE;
    char text[512];
    (void)snprintf(text, sizeof text, "%s\n%s", one, one);
    allow(&f, text);
    heard h = parse(&f, tug_str_of(text));
    assert_int_equal(h.complete, 2);
    tug_buf_free(&h.arguments);
    allow(&f, "<function=list>\n</function>\n<function=list>\n</function>\n" OPEN P(
                  "path") "x" E CLOSE);
    refuse_after(&f, one, "text");
    f.spec.parallel = false;
    refuse_after(&f, one, "\n");
    restart(&f);
    assert_false(tug_constraint_is_done(f.c));
    put(&f, one);
    assert_true(tug_constraint_is_done(f.c) && tug_constraint_may_end(f.c));
    stop(&f);
}

static void test_choices(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_NONE, read_file);
    allow(&f, "text and <function=read>\n");
    refuse_after(&f, "text <tool_call", ">");
    assert_true(tug_constraint_may_end(f.c));
    stop(&f);

    start(&f, TUG_TOOLS_NAMED, read_file);
    assert_false(tug_constraint_may_end(f.c));
    refuse_after(&f, "", "text");
    refuse_after(&f, "<tool_call>\n<function=read", "_file>");
    allow(&f, "<tool_call>\n<function=read>\n" P("path") "x" E CLOSE);
    assert_true(tug_constraint_is_done(f.c));
    stop(&f);

    start(&f, TUG_TOOLS_NAMED, read_file);
    f.spec.named = tug_str_of("absent");
    restart(&f);
    assert_true(tug_constraint_warnings(f.c).n > 0);
    allow(&f, "<tool_call>\n<function=list>\n" CLOSE);
    stop(&f);
}

static void test_a_required_call_is_forced(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_REQUIRED, read_file);
    assert_true(tug_constraint_is_free(f.c) && !tug_constraint_may_end(f.c));
    for (int i = 0; i < 2048 / 2; i++) put(&f, "\xC3\xA9");
    assert_false(tug_constraint_is_free(f.c));
    assert_false(allows(&f, "a"));
    assert_false(allows(&f, "\n\n"));
    assert_false(allows(&f, "\n<function=list>"));
    put(&f, "\n<tool");
    put(&f, "_call>");
    put(&f, "\n<function=list>\n");
    put(&f, CLOSE);
    assert_true(tug_constraint_may_end(f.c));
    stop(&f);
}

/* ---- values -------------------------------------------------------------------------- */

static void test_typed_values(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    static const char head[] = OPEN P("path") "x" E;
    char good[600], text[800];
    static const struct {
        const char *key, *value, *json;
    } cases[] = {
        {"limit", "-7", "-7"},
        {"limit", "0", "0"},
        {"mode", "fast", "\"fast\""},
        {"deep", "true", "true"},
        {"edits", "[]", "[]"},
        {"edits", "[ {\"new\": null,\n  \"old\" :\"\\u00e9\\ud83d\\ude00\"} ]", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(text, sizeof text, "%s<parameter=%s>\n%s" E CLOSE, head,
                       cases[i].key, cases[i].value);
        (void)snprintf(good, sizeof good, "{\"path\":\"x\",\"%s\":%s}", cases[i].key,
                       cases[i].json ? cases[i].json : "");
        if (cases[i].json) is_call(&f, text, good);
        if (!cases[i].json) allow(&f, text);
    }
    static const struct {
        const char *key, *good, *bad;
    } wrong[] = {
        {"limit", "1", ".5"},
        {"limit", "0", "1"},
        {"limit", "", "\n"},
        {"limit", "", "x"},
        {"mode", "fa", "r"},
        {"mode", "fas", "\n"},
        {"deep", "", "True"},
        {"deep", "tru", "\n"},
        {"edits", "[", "1]"},
        {"edits", "[{", "}"},
        {"edits", "[{\"", "x\""},
        {"edits", "[{\"old\":\"", "\n"},
        {"edits", "[{\"old\":", "null"},
        {"edits", "[{\"old\":\"\\ud83d", "x"},
        {"edits", "[{\"old\":\"\\u", "g"},
        {"edits", "[{\"old\":\"\xC3", "\""},
        {"edits", "[{\"old\":\"</paramete", "r>"},
        {"edits", "[{\"old\":\"x\",\"new\":null", ",}"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        (void)snprintf(good, sizeof good, "%s<parameter=%s>\n%s", head, wrong[i].key,
                       wrong[i].good);
        refuse_after(&f, good, wrong[i].bad);
    }
    stop(&f);
}

/* What the parser takes for the end of a string is one for the constraint, too. */
static void test_strings_end_where_the_parser_ends_them(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    is_call(&f, OPEN P("path") "<b> </parameter> x" E CLOSE,
            "{\"path\":\"<b> </parameter> x\"}");
    is_call(&f, OPEN P("path") "x</parameter>\n</function>\n</tool_call>",
            "{\"path\":\"x\"}");
    is_call(&f, OPEN P("path") "x</parameter>" P("limit") "3" E CLOSE,
            "{\"path\":\"x\",\"limit\":3}");
    is_call(&f, OPEN P("path") "x\n</parameter/>\n</function>\n</tool_call>",
            "{\"path\":\"x\"}");
    is_call(&f, OPEN P("path") "x\n" P("limit") "3" E CLOSE,
            "{\"path\":\"x\",\"limit\":3}");
    is_call(&f, OPEN P("path") "x\n</function>\n</tool_call>", "{\"path\":\"x\"}");
    is_call(&f, OPEN P("path") "x\n</function>\ny" E CLOSE,
            "{\"path\":\"x\\n</function>\\ny\"}");
    is_call(
        &f,
        OPEN P("path") "<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\nend" E
            CLOSE,
        "{\"path\":\"<function=f>\\n<parameter=a>\\n1\\n</parameter>\\n</"
        "function>\\nend\"}");
    /* limit only, and path is required: this may not be the end */
    refuse_after(&f, OPEN P("mode") "fast", "</parameter>");
    refuse_after(&f, OPEN P("limit") "3" E "<", "/function>");
    stop(&f);
}

/* ---- where the parser sees a tag, the constraint does -------------------------------- */

/* In a value: `text` is no tag, so the </function> after it is that of the call. */
static void is_no_tag(fixture *f, const char *text, const char *in_json) {
    char call[1024], want[1024];
    (void)snprintf(call, sizeof call, OPEN P("path") "x\n%s</function>\n</tool_call>",
                   text);
    (void)snprintf(want, sizeof want, "{\"path\":\"x\\n%s\"}", in_json);
    is_call(f, call, want);
}

/* It is one, with a </function> of its own. */
static void is_tag(fixture *f, const char *text) {
    char call[1024];
    (void)snprintf(call, sizeof call, OPEN P("path") "x\n%s</function>\n</tool_call>",
                   text);
    allow(f, call);
    assert_false(tug_constraint_may_end(f->c));
}

static void test_names_of_tags(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    is_tag(&f, "<function= a b\t>\n");
    is_no_tag(&f, "<function=\xFF>\n", "<function=\xEF\xBF\xBD>");
    is_no_tag(&f, "<function=a\tb>\n", "<function=a\\tb>");
    is_no_tag(&f, "<function=a\x7F>\n", "<function=a\x7F>");
    is_no_tag(&f, "<function= >\n", "<function= >");
    char text[520] = "<function=", json_text[520];
    memset(text + 10, 'a', 502);
    memcpy(text + 511, ">\n", 3); /* 512 bytes */
    is_tag(&f, text);
    memcpy(text + 511, "a>\n", 4);
    memcpy(json_text, text, 513);
    json_text[513] = '\0';
    is_no_tag(&f, text, json_text);
    stop(&f);
}

/* White space at the end of what looked like a tag is white space. */
static void test_lines_behind_no_tags(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    is_no_tag(&f, "<function=\n", "<function=");
    is_no_tag(&f, "<parameter=a \r\n", "<parameter=a \\r");
    is_no_tag(&f, "<parameter=\x7F\n", "<parameter=\x7F");
    is_call(&f, OPEN P("path") "<parameter=a" E CLOSE, "{\"path\":\"<parameter=a\"}");
    stop(&f);
}

static void put_after_space(fixture *f, const char *head, char c, int n,
                            const char *tail) {
    restart(f);
    if (*head) put(f, head);
    for (int i = 0; i < n; i++) put(f, (const char[]){c, '\0'});
    put(f, tail);
}

/* 4096 bytes of it may stand between tags that belong together. */
static void test_long_white_space(void **state) {
    (void)state;
    static const char nested[] =
        OPEN P("path") "<function=a>\n<parameter=b>\n</parameter>\n</function>";
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    for (int n = 4096; n <= 4097; n++) {
        const bool apart = n > 4096;
        put_after_space(&f, "Now: <tool_call>", ' ', n, "<function=rea");
        assert_int_equal(allows(&f, "x"), apart);
        put_after_space(&f, "", ' ', n, "<function=read>");
        assert_int_equal(allows(&f, "x"), apart);
        put_after_space(&f, OPEN P("path") "x</parameter>", '\n', n, "</function>");
        assert_int_equal(allows(&f, "x"), apart);
        put_after_space(&f, nested, '\n', n, "</tool_call>");
        assert_int_equal(allows(&f, "<tool_call>"), !apart);
    }
    stop(&f);
}

/* Keys at the beginning of a line that the parser takes and that may not come. */
static void test_keys_inside_of_values(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO,
          "{\"properties\":{\"path\":{\"type\":\"string\"},\"a b\":{\"type\":\"string\"},"
          "\"a\\\\b\":{\"type\":\"string\"}},\"required\":[\"path\"],\"anyOf\":["
          "{\"properties\":{\"kind\":{\"const\":\"x\"},\"x\":{\"type\":\"string\"}}},"
          "{\"properties\":{\"kind\":{\"const\":\"y\"},\"y\":{\"type\":\"string\"}}}]}");
    refuse_after(&f, OPEN P("path") "v\n<parameter=a b", ">");
    refuse_after(&f, OPEN P("path") "v</parameter>\n<parameter= a b\t", ">");
    refuse_after(&f, OPEN P("kind") "x" E P("path") "v\n<parameter=y", ">");
    is_call(&f, OPEN P("kind") "x" E P("path") "v\n" P("x") "w" E CLOSE,
            "{\"kind\":\"x\",\"path\":\"v\",\"x\":\"w\"}");
    /* As JSON, the name of the key above would be written so. */
    is_call(&f, OPEN P("path") "v\n<parameter=a\\\\b>" E CLOSE,
            "{\"path\":\"v\\n<parameter=a\\\\\\\\b>\"}");
    stop(&f);

    tug_buf schema = {0};
    tug_buf_text(&schema, "{\"required\":[\"path\"],\"properties\":{");
    for (int i = 10; i < 80; i++) {
        tug_buf_printf(&schema, "\"k%d\":{\"type\":\"string\"},", i);
    }
    tug_buf_text(&schema, "\"path\":{\"type\":\"string\"}}}");
    start(&f, TUG_TOOLS_AUTO, schema.p);
    is_call(&f, OPEN P("path") "v\n" P("k10") "w" E CLOSE,
            "{\"path\":\"v\",\"k10\":\"w\"}");
    /* Of so many it is not known whether this one was there. */
    refuse_after(&f, OPEN P("path") "v\n<parameter=k79", ">");
    is_call(&f, OPEN P("path") "v</parameter>" P("k79") "w" E CLOSE,
            "{\"path\":\"v\",\"k79\":\"w\"}");
    stop(&f);
    tug_buf_free(&schema);
}

static void test_names_too_long_for_a_tag(void **state) {
    (void)state;
    char name[600], text[1300];
    memset(name, 'k', 520);
    name[520] = '\0';
    fixture f;
    (void)snprintf(text, sizeof text,
                   "{\"properties\":{\"%s\":{}},\"required\":[\"%s\"]}", name, name);
    start(&f, TUG_TOOLS_AUTO, text);
    assert_true(tug_constraint_warnings(f.c).n > 0);
    refuse_after(&f, OPEN "<", "parameter=");
    is_call(&f, OPEN CLOSE, "{}");
    stop(&f);
    /* The parser knows a tool of which no call can be written. */
    start(&f, TUG_TOOLS_AUTO, read_file);
    name[450] = '\0';
    f.tool[2].name = tug_str_of(name);
    (void)snprintf(text, sizeof text, OPEN P("path") "x</parameter>\n<function=%s", name);
    refuse_after(&f, text, ">");
    refuse_after(&f, strstr(text, "<function=kkk"), ">");
    stop(&f);
}

/* The parser knows the other tools, too. */
static void test_a_named_call_is_the_only_one(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_NAMED, read_file);
    refuse_after(
        &f, "<tool_call>\n<function=read>\n" P("path") "x</parameter>\n<function=list",
        ">");
    stop(&f);
}

/* JSON with tags that the parser would find in it; a schema that asks for them. */
static void test_tags_inside_of_json(void **state) {
    (void)state;
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"<tool_call>\":{\"type\":\"object\","
        "\"properties\":{\"a\":{\"const\":\"<b></parameter>\"}},\"required\":[\"a\"]}},"
        "\"required\":[\"<tool_call>\"]}";
    static const char as_parameter[] =
        "{\"properties\":{\"path\":{\"type\":\"object\",\"properties\":{\"<parameter=k>"
        "\":"
        "{\"const\":\"<b></parameter>\"}},\"required\":[\"<parameter=k>\"]}}}";
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    f.spec.format = TUG_FORMAT_JSON;
    refuse_after(&f, "{\"a\":\"<tool_call", ">");
    allow(&f, "{\"a\":\"\\u003ctool_call><function=list></function>\"}");
    assert_int_equal(
        parse(&f, tug_str_of("{\"a\":\"\\u003ctool_call><function=list></function>\"}"))
            .begun,
        0);
    stop(&f);
    start_format(&f, schema);
    allow(&f, "{\"\\u003ctool_call>\":{\"a\":\"<b>\\u003c/parameter>\"}}");
    assert_true(tug_constraint_may_end(f.c));
    stop(&f);
    start(&f, TUG_TOOLS_AUTO, as_parameter);
    is_call(&f,
            OPEN P("path") "{\"\\u003cparameter=k>\":\"<b>\\u003c/parameter>\"}" E CLOSE,
            "{\"path\":{\"<parameter=k>\":\"<b></parameter>\"}}");
    stop(&f);
}

static void test_alternatives(void **state) {
    (void)state;
    fixture f;
    start_format(&f,
                 "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":"
                 "\"a\"},\"x\":{\"type\":\"integer\"}},\"required\":[\"kind\",\"x\"]},"
                 "{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"b\"},\"y\":"
                 "{\"type\":\"string\"}},\"required\":[\"kind\",\"y\"]},{\"type\":"
                 "\"array\",\"prefixItems\":[{\"type\":\"null\"}],\"items\":{\"type\":"
                 "\"boolean\"}},{\"const\":12},{\"const\":123}]}");
    allow(&f, "{\"kind\":\"a\",\"x\":1}");
    assert_true(tug_constraint_may_end(f.c));
    allow(&f, "{\"y\":\"\",\"kind\":\"b\"}");
    allow(&f, " [null, true,false]");
    allow(&f, "12");
    assert_true(tug_constraint_may_end(f.c));
    allow(&f, "123");
    assert_true(tug_constraint_may_end(f.c));
    refuse_after(&f, "12", "4");
    refuse_after(&f, "{\"kind\":\"a\",\"", "y\"");
    refuse_after(&f, "{\"y\":\"\",\"kind\":\"", "a\"");
    refuse_after(&f, "{\"kind\":\"a\"", "}");
    refuse_after(&f, "[null,", "1]");
    refuse_after(&f, "", "\"x\"");
    stop(&f);
}

static void test_references(void **state) {
    (void)state;
    fixture f;
    start_format(&f,
                 "{\"$ref\":\"#/$defs/n%6fde\",\"$defs\":{\"node\":{\"type\":\"object\","
                 "\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/node\"},"
                 "{\"type\":\"null\"}]}},\"required\":[\"next\"]}}}");
    allow(&f, "{\"next\":{\"next\":{\"next\":null}}}");
    refuse_after(&f, "{\"next\":{", "}");
    /* As deep as it goes, it can still be closed. */
    restart(&f);
    int depth = 0;
    while (allows(&f, "{\"next\":")) {
        put(&f, "{\"next\":");
        depth++;
    }
    assert_in_range(depth, 20, 64);
    put(&f, "null");
    for (int i = 0; i < depth; i++) put(&f, "}");
    assert_true(tug_constraint_may_end(f.c));
    stop(&f);
}

static void test_json_is_bounded(void **state) {
    (void)state;
    fixture f;
    f = (fixture){.spec = {.format = TUG_FORMAT_JSON}};
    restart(&f);
    put(&f, "{\"a\":");
    int n = 0;
    for (; allows(&f, " "); n++) put(&f, " ");
    assert_in_range(n, 8, 256);
    for (n = 0; allows(&f, "["); n++) put(&f, "[");
    assert_in_range(n, 32, 127);
    for (int k = 0; allows(&f, "7"); k++) {
        put(&f, "7");
        assert_true(k < 64);
    }
    for (; n > 0; n--) put(&f, "]");
    put(&f, "}");
    assert_true(tug_constraint_may_end(f.c));
    assert_false(allows(&f, " "));
    refuse_after(&f, "", "[]");
    stop(&f);
}

static void test_a_format_or_a_call(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    f.spec.format = TUG_FORMAT_JSON;
    allow(&f, "\n{\"a\": 1.5e3}");
    assert_true(tug_constraint_may_end(f.c));
    allow(&f, "<tool_call>\n<function=list>\n" CLOSE);
    refuse_after(&f, "", "text");
    f.spec.choice = TUG_TOOLS_NONE;
    refuse_after(&f, "", "<tool_call>");
    f.spec.choice = TUG_TOOLS_REQUIRED;
    refuse_after(&f, "", "{");
    stop(&f);
}

/* ---- what nobody should send --------------------------------------------------------- */

/* Bytes of a random answer are allowed one after another until it may end: no dead end. */
static void random_answer(fixture *f, uint64_t seed) {
    tug_rng rng;
    tug_rng_seed(&rng, seed);
    static const char *const closers[] = {
        "\n</parameter>\n", "\"", CLOSE, "}", "]", "0", "null", "[", "{", "true"};
    for (int n = 0; n < 4000 && !tug_constraint_may_end(f->c); n++) {
        bool done = false;
        for (size_t k = 0; n > 100 && k < sizeof closers / sizeof *closers && !done;
             k++) {
            done = allows(f, closers[k]);
            if (done) put(f, closers[k]);
        }
        char bytes[256];
        size_t some = 0;
        for (int b = 0; b < 256 && !done; b++) {
            const char c = (char)b;
            if (tug_constraint_allows(f->c, tug_str_make(&c, 1))) bytes[some++] = c;
        }
        if (done) continue;
        assert_true(some > 0);
        const size_t pick = (size_t)(tug_rng_unit(&rng) * (double)some);
        tug_constraint_accept(f->c, tug_str_make(&bytes[pick], 1));
    }
}

static void test_absurd_schemas_build(void **state) {
    (void)state;
    static const char *const schemas[] = {
        "true",
        "false",
        "null",
        "1",
        "\"x\"",
        "[]",
        "{}",
        "{\"type\":7}",
        "{\"type\":[]}",
        "{\"type\":\"strange\"}",
        "{\"type\":[\"string\",3]}",
        "{\"properties\":[]}",
        "{\"properties\":{\"a\":null,\"b\":3,\"\":{},\"x y\":{},\"<\":{}},\"required\":"
        "[\"x y\",\"\",3,\"missing\"]}",
        "{\"required\":true}",
        "{\"required\":{}}",
        "{\"enum\":[]}",
        "{\"enum\":3}",
        "{\"enum\":[{\"a\":[1,null]},[],\"\",0,-1.5e9]}",
        "{\"const\":null}",
        "{\"anyOf\":[]}",
        "{\"anyOf\":3}",
        "{\"anyOf\":[false,false]}",
        "{\"oneOf\":[3,true]}",
        "{\"$ref\":\"#\"}",
        "{\"$ref\":\"#/a/b\"}",
        "{\"$ref\":7}",
        "{\"$ref\":\"http://x/y\"}",
        "{\"$ref\":\"#/$ref\"}",
        "{\"$ref\":\"#/%zz~2\"}",
        "{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}",
        "{\"allOf\":[{\"$ref\":\"#\"}]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":["
        "\"a\"]}",
        "{\"type\":\"object\",\"properties\":{\"a\":false},\"required\":[\"a\"]}",
        "{\"type\":\"object\",\"required\":[\"a\"],\"additionalProperties\":false}",
        "{\"items\":[]}",
        "{\"items\":[false]}",
        "{\"items\":false}",
        "{\"prefixItems\":3}",
        "{\"allOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]}",
        "{\"patternProperties\":{\"(((\":{}},\"additionalProperties\":false}",
        "{\"not\":{},\"if\":{},\"pattern\":\"(((((\",\"minLength\":-1}",
    };
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        for (int how = 0; how < 2; how++) {
            fixture f;
            if (how) {
                start_format(&f, schemas[i]);
            } else {
                start(&f, TUG_TOOLS_NAMED, schemas[i]);
            }
            for (uint64_t seed = 0; seed < 4; seed++) {
                restart(&f);
                random_answer(&f, seed);
            }
            stop(&f);
        }
    }
}

/* Sixteen choices of sixteen choices, and so on; a property for each of a million paths. */
static void test_large_schemas_are_cut(void **state) {
    (void)state;
    tug_buf s = {0};
    for (int level = 0; level < 24; level++) {
        tug_buf_printf(&s, "%s\"l%d\":{\"type\":\"object\",\"anyOf\":[", level ? "," : "",
                       level);
        for (int k = 0; k < 40; k++) {
            tug_buf_printf(
                &s, "%s{\"properties\":{\"a%d\":{\"$ref\":\"#/$defs/l%d\",\"x\":%d}}}",
                k ? "," : "", k, level + 1, k);
        }
        tug_buf_text(&s, "]}");
    }
    tug_buf text = {0};
    tug_buf_printf(&text, "{\"$defs\":{%s},\"$ref\":\"#/$defs/l0\"}", s.p);
    fixture f;
    start_format(&f, text.p);
    assert_true(tug_constraint_warnings(f.c).n > 0);
    random_answer(&f, 1);
    stop(&f);
    tug_buf_free(&s);
    tug_buf_free(&text);
}

/* Work that grows with the square of a list would take minutes here. */
static void test_long_lists_are_no_work(void **state) {
    (void)state;
    tug_buf s = {0};
    tug_buf_text(&s, "{\"enum\":[");
    for (int i = 0; i < 200000; i++) tug_buf_printf(&s, "%s\"v%d\"", i ? "," : "", i);
    tug_buf_text(&s, "]}");
    tug_buf both = {0};
    tug_buf_printf(&both, "{\"allOf\":[%s,%s]}", s.p, s.p);
    fixture f;
    start_format(&f, s.p);
    assert_true(allows(&f, "\"v199999\""));
    assert_false(allows(&f, "\"v200000\""));
    stop(&f);
    start_format(&f, both.p); /* the lists are compared as far as the work allows */
    assert_true(tug_constraint_warnings(f.c).n > 0);
    stop(&f);
    tug_buf_free(&s);
    tug_buf_free(&both);
}

static void test_warnings(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    assert_int_equal(tug_constraint_warnings(f.c).n, 0);
    stop(&f);
    start(&f, TUG_TOOLS_AUTO,
          "{\"properties\":{\"a\":{\"pattern\":\"x\"},\"b\":{\"pattern\":\"y\",\"not\":{}"
          "}}}");
    const tug_str w = tug_constraint_warnings(f.c);
    assert_non_null(memmem(w.p, w.n, "`pattern`", 9));
    assert_non_null(memmem(w.p, w.n, "`not`", 5));
    int lines = 1;
    for (size_t i = 0; i < w.n; i++) lines += w.p[i] == '\n';
    assert_int_equal(lines, 2);
    stop(&f);
}

static void test_what_is_not_allowed_switches_it_off(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    tug_constraint_accept(f.c, tug_str_of("<tool_call> nonsense"));
    assert_true(tug_constraint_is_free(f.c) && tug_constraint_may_end(f.c));
    assert_true(allows(&f, "<tool_call>anything"));
    stop(&f);

    f = (fixture){.spec = {.choice = TUG_TOOLS_AUTO}}; /* nothing to constrain */
    restart(&f);
    assert_true(tug_constraint_is_free(f.c) && tug_constraint_may_end(f.c));
    stop(&f);
}

static void test_memory_runs_out(void **state) {
    (void)state;
    fixture f;
    start(&f, TUG_TOOLS_AUTO, read_file);
    tug_constraint_destroy(&f.c);
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        tug_err err = {.msg = ""};
        fault_fail_alloc(n);
        const tug_status s = tug_constraint_create(&f.c, &f.spec, &err);
        const bool ok = s == TUG_OK;
        tug_constraint_destroy(&f.c);
        const int64_t live = fault_live_blocks();
        hit = fault_stop();
        assert_int_equal(live, 0);
        assert_int_equal(ok, !hit);
        if (hit) assert_true(s == TUG_ENOMEM && strlen(err.msg) > 10);
    }
    stop(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_are_canonical),
        cmocka_unit_test(test_text_is_free),
        cmocka_unit_test(test_a_call_may_begin_anywhere),
        cmocka_unit_test(test_calls_follow_calls),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_a_required_call_is_forced),
        cmocka_unit_test(test_typed_values),
        cmocka_unit_test(test_strings_end_where_the_parser_ends_them),
        cmocka_unit_test(test_names_of_tags),
        cmocka_unit_test(test_lines_behind_no_tags),
        cmocka_unit_test(test_long_white_space),
        cmocka_unit_test(test_keys_inside_of_values),
        cmocka_unit_test(test_names_too_long_for_a_tag),
        cmocka_unit_test(test_a_named_call_is_the_only_one),
        cmocka_unit_test(test_tags_inside_of_json),
        cmocka_unit_test(test_alternatives),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_json_is_bounded),
        cmocka_unit_test(test_a_format_or_a_call),
        cmocka_unit_test(test_absurd_schemas_build),
        cmocka_unit_test(test_large_schemas_are_cut),
        cmocka_unit_test(test_long_lists_are_no_work),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_what_is_not_allowed_switches_it_off),
        cmocka_unit_test(test_memory_runs_out),
    };
    return cmocka_run_group_tests_name("constraint", tests, NULL, NULL);
}
