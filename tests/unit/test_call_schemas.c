/* test_call_schemas.c - the tools that real agents declared (recorded requests, outside of
 * this repository): a call with every member comes back with the types of its schema.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "calls/schema_types.h"
#include "support/call_log.h"

/* As text, and as the JSON that must become of it. */
static const struct sample {
    tug_type_set type;
    const char *text, *json;
} samples[] = {
    {TUG_TYPE_STRING, "true \"x\"\n 1", "\"true \\\"x\\\"\\n 1\""},
    {TUG_TYPE_NULL, "None", "null"},
    {TUG_TYPE_BOOLEAN, "true", "true"},
    {TUG_TYPE_NUMBER, "2.50", "2.50"},
    {TUG_TYPE_INTEGER, "12345678901234567890", "12345678901234567890"},
    {TUG_TYPE_ARRAY, "[{\"a\": 1}]", "[{\"a\":1}]"},
    {TUG_TYPE_OBJECT, "{\"b\": [], \"a\": null}", "{\"b\":[],\"a\":null}"},
};
enum { N_SAMPLES = sizeof samples / sizeof *samples };

static size_t n_members, n_unknown;

static const struct sample *pick(const tug_json *root, const tug_json *schema,
                                 size_t turn) {
    const tug_type_set types = tug_schema_types(root, schema);
    n_unknown += types == 0;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        const struct sample *const s = &samples[(i + turn) % N_SAMPLES];
        if (types & s->type) return s;
    }
    return &samples[0]; /* nothing said: a string */
}

/* `turn` rotates which of several types is taken. */
static void try_tool(tug_str name, const tug_json *schema, size_t turn) {
    const tug_json *members = tug_json_get(schema, "properties");
    const tug_tool tool = {name, schema};
    tug_buf in = {0}, want = {0};
    call_log log = {0};
    tug_buf_printf(&in, "<tool_call>\n<function=%.*s>\n", (int)name.n, name.p);
    tug_buf_printf(&want, "C:%.*s|A:{", (int)name.n, name.p);
    for (size_t i = 0; members && i < members->n; i++) {
        const tug_str key = tug_json_key(members, i);
        const struct sample *s = pick(schema, tug_json_value(members, i), turn);
        tug_buf_printf(&in, "<parameter=%.*s>\n%s\n</parameter>\n", (int)key.n, key.p,
                       s->text);
        tug_buf_printf(&want, "%s\"%.*s\":%s", i ? "," : "", (int)key.n, key.p, s->json);
        n_members++;
    }
    tug_buf_text(&in, "</function>\n</tool_call>");
    tug_buf_text(&want, "}|E+");
    const tug_tools tools = {&tool, 1};
    assert_int_equal(call_log_run1(&log, tools, tug_buf_view(&in), true), TUG_OK);
    assert_string_equal(log.text.p, want.p);
    tug_buf_free(&in);
    tug_buf_free(&want);
    tug_buf_free(&log.text);
}

static void try_all(const tug_json *list) {
    size_t n_tools = 0;
    for (size_t i = 0; i < list->n; i++) {
        const tug_json *tool = tug_json_get(tug_json_at(list, i), "tool");
        const tug_json *function = tug_json_get(tool, "function");
        if (function) tool = function;
        const tug_json *name = tug_json_get(tool, "name");
        const tug_json *schema = tug_json_get(tool, "parameters");
        if (!schema) schema = tug_json_get(tool, "input_schema");
        if (!tug_json_is(name, TUG_JSON_STRING) || !schema) continue;
        for (size_t turn = 0; turn < N_SAMPLES; turn++) {
            try_tool(tug_json_text(name), schema, turn);
        }
        n_tools++;
    }
    assert_true(n_tools >= 100);
    assert_int_equal(n_unknown, 0);
    print_message("%zu tools, %zu values\n", n_tools, n_members);
}

static void test_recorded_tools(void **state) {
    (void)state;
    static const char *const paths[] = {"../shared/data/agents/tool_schemas.json",
                                        "../../shared/data/agents/tool_schemas.json"};
    tug_map map;
    if (tug_map_open(&map, paths[0], NULL) != TUG_OK &&
        tug_map_open(&map, paths[1], NULL) != TUG_OK) {
        print_message("skipped: %s is not here\n", paths[0]);
        skip();
    }
    tug_arena arena = {0};
    const tug_json *list;
    const tug_str text = tug_str_make((const char *)map.data, (size_t)map.size);
    assert_int_equal(tug_json_parse(text, &arena, &list, NULL), TUG_OK);
    try_all(list);
    tug_arena_free(&arena);
    tug_map_close(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recorded_tools)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
