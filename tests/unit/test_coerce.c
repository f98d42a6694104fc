/* test_coerce.c - types of a schema, and text to values of them.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "calls/coerce.h"
#include "calls/python_literal.h"
#include "fault/fault.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

enum {
    S = TUG_TYPE_STRING,
    Z = TUG_TYPE_NULL,
    B = TUG_TYPE_BOOLEAN,
    I = TUG_TYPE_INTEGER,
    N = TUG_TYPE_NUMBER | TUG_TYPE_INTEGER,
    A = TUG_TYPE_ARRAY,
    O = TUG_TYPE_OBJECT
};

/* ---- types -------------------------------------------------------------------------- */

static const struct {
    const char *schema;
    tug_type_set types;
} types[] = {
    {"{}", 0},
    {"true", 0},
    {"null", 0},
    {"[]", 0},
    {"{\"type\":\"string\"}", S},
    {"{\"type\":\"number\"}", N},
    {"{\"type\":[\"integer\",\"null\"]}", I | Z},
    {"{\"type\":\"unheard of\"}", 0},
    {"{\"type\":7}", 0},
    {"{\"type\":[7,\"array\",null]}", A},
    {"{\"type\":\"string\",\"nullable\":true}", S | Z},
    {"{\"nullable\":true}", 0},
    {"{\"enum\":[\"a\",1,null]}", S | I | Z},
    {"{\"enum\":[1.5,true]}", N | B},
    {"{\"const\":{}}", O},
    {"{\"const\":[]}", A},
    {"{\"type\":\"string\",\"enum\":[\"a\",null]}", S},
    {"{\"type\":\"string\",\"enum\":[1]}", S},
    {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", S | Z},
    {"{\"oneOf\":[{\"type\":\"object\"},{\"enum\":[\"x\"]}]}", O | S},
    {"{\"anyOf\":[{\"type\":\"string\"},{}]}", 0},
    {"{\"anyOf\":{}}", 0},
    {"{\"allOf\":[{\"type\":[\"string\",\"integer\"]},{\"type\":\"number\"},{}]}", I},
    {"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"array\"}]}", S},
    {"{\"type\":\"integer\",\"anyOf\":[{\"type\":\"number\"}]}", I},
    {"{\"items\":{}}", A},
    {"{\"prefixItems\":[]}", A},
    {"{\"properties\":{}}", O},
    {"{\"type\":\"string\",\"properties\":{}}", S},
    {"{\"$ref\":\"#/$defs/s\"}", S},
    {"{\"$ref\":\"#/$defs/to%20s\"}", S},
    {"{\"$ref\":\"#/$defs/a~1b~0c\"}", B},
    {"{\"$ref\":\"#/$defs/list/anyOf/1\"}", Z},
    {"{\"$ref\":\"#/$defs/list/anyOf/2\"}", 0},
    {"{\"$ref\":\"#/$defs/list/anyOf/x\"}", 0},
    {"{\"$ref\":\"#/$defs/nowhere\"}", 0},
    {"{\"$ref\":\"other.json#/x\"}", 0},
    {"{\"$ref\":\"\"}", 0},
    {"{\"$ref\":\"#/\"}", 0},
    {"{\"$ref\":\"#x\"}", 0},
    {"{\"$ref\":\"#\"}", O},
    {"{\"$ref\":\"#/$defs/self\"}", 0},
    {"{\"$ref\":\"#/$defs/twice\"}", 0},
    {"{\"anyOf\":[{\"$ref\":\"#/$defs/list\"},{\"type\":\"boolean\"}]}", A | Z | B},
    {"{\"$ref\":\"#/$defs/list\",\"type\":\"null\"}", Z},
};

static const char root_json[] =
    "{\"type\":\"object\",\"$defs\":{\"s\":{\"type\":\"string\"},"
    "\"to s\":{\"$ref\":\"#/$defs/s\"},\"a/b~c\":{\"type\":\"boolean\"},"
    "\"list\":{\"anyOf\":[{\"items\":{}},{\"type\":\"null\"}]},"
    "\"self\":{\"$ref\":\"#/$defs/self\"},"
    "\"twice\":{\"anyOf\":[{\"$ref\":\"#/$defs/twice\"},{\"$ref\":\"#/$defs/twice\"}]}}}";

static void test_types(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(types); i++) {
        tug_arena arena = {0};
        const tug_json *root, *schema;
        assert_int_equal(tug_json_parse(tug_str_of(root_json), &arena, &root, NULL), 0);
        assert_int_equal(
            tug_json_parse(tug_str_of(types[i].schema), &arena, &schema, NULL), TUG_OK);
        const tug_type_set got = tug_schema_types(root, schema);
        if (got != types[i].types) {
            fail_msg("%s: %x, not %x", types[i].schema, got, types[i].types);
        }
        tug_arena_free(&arena);
    }
    assert_int_equal(tug_schema_types(NULL, NULL), 0);
}

static void test_members(void **state) {
    (void)state;
    static const char json[] =
        "{\"properties\":{\"a\":{\"type\":\"string\"},\"\":{}},\"required\":[\"a\",7],"
        "\"$ref\":\"#/$defs/x\",\"allOf\":[{\"properties\":{\"c\":true},"
        "\"required\":[\"c\"]},{\"$ref\":\"#\"}],\"anyOf\":[{\"properties\":{\"d\":{}},"
        "\"required\":[\"d\"]}],\"$defs\":{\"x\":{\"properties\":{\"b\":{}},"
        "\"required\":[\"b\"]}}}";
    static const struct {
        const char *key;
        bool has, required;
    } keys[] = {{"a", true, true}, {"", true, false},  {"b", true, true},
                {"c", true, true}, {"d", true, false}, {"e", false, false}};
    tug_arena arena = {0};
    const tug_json *root;
    assert_int_equal(tug_json_parse(tug_str_of(json), &arena, &root, NULL), TUG_OK);
    for (size_t i = 0; i < COUNT(keys); i++) {
        const tug_str key = tug_str_of(keys[i].key);
        assert_int_equal(tug_schema_property(root, key) != NULL, keys[i].has);
        assert_int_equal(tug_schema_requires(root, key), keys[i].required);
        assert_null(tug_schema_property(NULL, key));
        assert_false(tug_schema_requires(NULL, key));
    }
    assert_ptr_equal(tug_schema_resolve(root, root),
                     tug_json_get(tug_json_get(root, "$defs"), "x"));
    assert_null(tug_schema_resolve(root, NULL));
    tug_arena_free(&arena);
}

/* Schemas that would branch 2^16 times, or for ever, are cut off. */
static void test_endless_schemas(void **state) {
    (void)state;
    static const char *const schemas[] = {
        "{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"},{\"type\":\"string\"}]}",
        "{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}", "{\"$ref\":\"#\"}"};
    for (size_t i = 0; i < COUNT(schemas); i++) {
        tug_arena arena = {0};
        const tug_json *root;
        assert_int_equal(tug_json_parse(tug_str_of(schemas[i]), &arena, &root, NULL), 0);
        for (int k = 0; k < 1000; k++) {
            assert_int_equal(tug_schema_types(root, root), 0);
            assert_null(tug_schema_property(root, tug_str_of("x")));
            assert_false(tug_schema_requires(root, tug_str_of("x")));
        }
        tug_arena_free(&arena);
    }
}

/* ---- values ------------------------------------------------------------------------- */

static const struct {
    tug_type_set types;
    const char *text, *want; /* want NULL: left out when it is not required */
} values[] = {
    /* nothing known, or only string: the text */
    {0, "null", "\"null\""},
    {0, "{\"a\":1}", "\"{\\\"a\\\":1}\""},
    {S, " 12\n", "\" 12\\n\""},
    {S, "", "\"\""},
    {S, "true", "\"true\""},
    /* string or null */
    {S | Z, "null", "null"},
    {S | Z, "Null", "null"},
    {S | Z, "None", "null"},
    {S | Z, "none", "\"none\""},
    {S | Z, " null", "\" null\""},
    {S | Z, "", "\"\""},
    {S | Z, "nulls", "\"nulls\""},
    /* string or others: JSON to the letter, or the text */
    {S | I, "12", "12"},
    {S | I, " 12 ", "12"},
    {S | I, "12.5", "\"12.5\""},
    {S | N, "12.5", "12.5"},
    {S | N, ".5", "\".5\""},
    {S | N, "12 apples", "\"12 apples\""},
    {S | B, "true", "true"},
    {S | B, "True", "\"True\""},
    {S | A, "[1]", "[1]"},
    {S | A, "{\"a\":1}", "\"{\\\"a\\\":1}\""},
    {S | A, "['a']", "\"['a']\""},
    {S | O, "\"x\"", "\"\\\"x\\\"\""},
    {S | O, "", "\"\""},
    {S | O | Z, "None", "null"},
    {S | O, "null", "\"null\""},
    /* integer */
    {I, "42", "42"},
    {I, " -42\n", "-42"},
    {I, "+42", "42"},
    {I, "-0", "-0"},
    {I, "007", "7"},
    {I, "3.0", "3"},
    {I, "3.", "3"},
    {I, "3.5", "\"3.5\""},
    {I, "1e3", "\"1e3\""},
    {I, "1e3.0", "\"1e3.0\""},
    {I, ".0", "\".0\""},
    {I, "12345678901234567890123", "12345678901234567890123"},
    {I, "0x10", "\"0x10\""},
    {I, "1_000", "\"1_000\""},
    {I, "null", "null"},
    {I, "none", "null"},
    {I, "\"42\"", "42"},
    {I, "\"x\"", "\"\\\"x\\\"\""},
    {I, "", NULL},
    {I, " \n", NULL},
    {I | Z, "", NULL},
    {I, "--1", "\"--1\""},
    {I, "-", "\"-\""},
    {I, ".", "\".\""},
    /* number */
    {N, "1.50", "1.50"},
    {N, "1e400", "1e400"},
    {N, "1.", "1.0"},
    {N, ".5", "0.5"},
    {N, "-.5e-3", "-0.5e-3"},
    {N, "1.e5", "1.0e5"},
    {N, "+1", "1"},
    {N, "00.5", "0.5"},
    {N, "0", "0"},
    {N, "1e", "\"1e\""},
    {N, "1 2", "\"1 2\""},
    {N, "NaN", "\"NaN\""},
    {N, "-Infinity", "\"-Infinity\""},
    {N, "true", "\"true\""},
    /* boolean */
    {B, "true", "true"},
    {B, "TRUE", "true"},
    {B, "False", "false"},
    {B, "1", "\"1\""},
    {B, "0", "\"0\""},
    {B, "yes", "\"yes\""},
    {B, "\"true\"", "true"},
    /* lists and objects */
    {A, "[1, 2.50, \"a\", null]", "[1,2.50,\"a\",null]"},
    {A, " [] ", "[]"},
    {A, "{}", "\"{}\""},
    {O, "{\"b\":1,\"a\":{}}", "{\"b\":1,\"a\":{}}"},
    {O, "[1]", "\"[1]\""},
    {A | O, "\"[1, {\\\"a\\\": 2}]\"", "[1,{\"a\":2}]"},
    {A, "\"\\\"[1]\\\"\"", "\"\\\"\\\\\\\"[1]\\\\\\\"\\\"\""},
    {A, "['a', \"b\", 'it\\'s', 'say \"x\"']",
     "[\"a\",\"b\",\"it's\",\"say \\\"x\\\"\"]"},
    {A, "[True, False, None, true, null]", "[true,false,null,true,null]"},
    {A, "[1, 2,]", "[1,2]"},
    {O, "{'a': 1., 'b': [.5, +1,\n],}", "{\"a\":1.0,\"b\":[0.5,1]}"},
    {O, "{'a': 'Tru\xC3\xA9\\n\\x41\\u00e9\\U0001F600\\d\\a\\v\\\n'}",
     "{\"a\":\"Tru\xC3\xA9\\nA\xC3\xA9\xF0\x9F\x98\x80\\\\d\\u0007\\u000b\"}"},
    {O, "{'a': '\\U0000D800\\x4\\Uffffffff'}",
     "{\"a\":\"\xEF\xBF\xBD\\\\x4\xEF\xBF\xBD\"}"},
    {O, "{\"a\": \"two\nlines\"}", "{\"a\":\"two\\nlines\"}"},
    {O, "{1: 2}", "\"{1: 2}\""},
    {O, "{'a': Truely}", "\"{'a': Truely}\""},
    {A, "['a", "\"['a\""},
    {A, "['a\\", "\"['a\\\\\""},
    {A, "[1] x", "\"[1] x\""},
    {A, "a, b", "\"a, b\""},
    {A, "", NULL},
    {A, "null", "null"},
    {A, "[\xFF]", "\"[\xEF\xBF\xBD]\""},
    {A, "['\xFF']", "[\"\xEF\xBF\xBD\"]"},
    /* several, none a string */
    {I | B | A, "false", "false"},
    {I | B | A, "[]", "[]"},
    {I | B | A, "7", "7"},
    {I | B | A, "seven", "\"seven\""},
};

static void test_values(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        tug_buf out = {0};
        bool omit;
        const tug_str text = tug_str_of(values[i].text);
        assert_int_equal(tug_coerce(text, values[i].types, false, &out, &omit, NULL), 0);
        assert_int_equal(omit, values[i].want == NULL);
        assert_int_equal(out.n == 0, omit);
        if (!omit && !tug_str_is(tug_buf_view(&out), values[i].want)) {
            fail_msg("%x of %s: %s, not %s", values[i].types, values[i].text, out.p,
                     values[i].want);
        }
        if (!omit) {
            tug_arena arena = {0};
            const tug_json *v;
            assert_int_equal(tug_json_parse(tug_buf_view(&out), &arena, &v, NULL), 0);
            tug_arena_free(&arena);
        }
        tug_buf_free(&out);
    }
}

static void test_required_and_empty(void **state) {
    (void)state;
    static const struct {
        tug_type_set types;
        const char *want;
    } cases[] = {{I, "\"\""}, {I | Z, "null"}, {A | Z, "null"}, {B, "\"\""}, {S, "\"\""}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        tug_buf out = {0};
        bool omit;
        assert_int_equal(
            tug_coerce((tug_str){0}, cases[i].types, true, &out, &omit, NULL), TUG_OK);
        assert_false(omit);
        assert_string_equal(out.p, cases[i].want);
        tug_buf_free(&out);
    }
}

/* Deeper than the JSON reader goes: text. */
static void test_deep_value(void **state) {
    (void)state;
    static const char *const pairs[] = {"[]", "{}"};
    for (size_t k = 0; k < 2; k++) {
        tug_buf in = {0}, out = {0};
        bool omit;
        for (int i = 0; i < 100000; i++) tug_buf_char(&in, pairs[k][0]);
        assert_int_equal(tug_coerce(tug_buf_view(&in), A | O, true, &out, &omit, NULL),
                         TUG_OK);
        assert_int_equal(out.n, in.n + 2);
        tug_buf_free(&in);
        tug_buf_free(&out);
    }
}

static void test_out_of_memory(void **state) {
    (void)state;
    static const char *const texts[] = {"[1, {'a': True}]", "\"[1]\"", "[1, {\"a\": 2}]",
                                        "x"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        for (uint64_t n = 1;; n++) {
            tug_buf out = {0};
            bool omit;
            fault_fail_alloc(n);
            const tug_status s =
                tug_coerce(tug_str_of(texts[i]), A, true, &out, &omit, NULL);
            tug_buf_free(&out);
            assert_int_equal(fault_live_blocks(), 0);
            const bool hit = fault_stop();
            assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
            if (!hit) break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),           cmocka_unit_test(test_members),
        cmocka_unit_test(test_endless_schemas), cmocka_unit_test(test_values),
        cmocka_unit_test(test_deep_value),      cmocka_unit_test(test_required_and_empty),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
