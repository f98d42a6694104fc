/* test_json.c - the JSON reader and writer.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/sys.h"
#include "fault/fault.h"
#include "json/json.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Parses n bytes and writes them back in `style`; NULL (and *err) when refused.  The
 * result belongs to the caller (tug_free). */
static char *rewrite(const char *in, size_t n, tug_json_style style, tug_err *err) {
    tug_arena arena = {0};
    tug_buf out = {0};
    const tug_json *v = NULL;
    if (tug_json_parse(tug_str_make(in, n), &arena, &v, err) == TUG_OK) {
        tug_json_writer w = tug_json_writer_make(&out, style);
        tug_json_write_value(&w, v);
        assert_int_equal(tug_buf_ok(&out, NULL), TUG_OK);
    }
    tug_arena_free(&arena);
    return out.p;
}

static void expect_rewrite(const char *in, tug_json_style style, const char *want) {
    tug_err err = {0};
    char *got = rewrite(in, strlen(in), style, &err);
    if (!got) fail_msg("refused %s: %s", in, err.msg);
    assert_string_equal(got, want);
    tug_free(got);
}

static void test_accepts(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        /* top-level scalars and white space */
        {"0", "0"},
        {" \t\r\n null \n", "null"},
        {"true", "true"},
        {"false", "false"},
        {"\"\"", "\"\""},
        /* number text survives */
        {"[-0,-0.0,1E400,1e-7,1.0,0e0,0.10]", "[-0,-0.0,1E400,1e-7,1.0,0e0,0.10]"},
        {"123456789012345678901234567890", "123456789012345678901234567890"},
        {"[1e+9,1E-9,2e0]", "[1e+9,1E-9,2e0]"},
        /* containers */
        {"[]", "[]"},
        {"{}", "{}"},
        {"[[],{},[[]]]", "[[],{},[[]]]"},
        {" [ 1 , { \"a\" : [ ] } ] ", "[1,{\"a\":[]}]"},
        /* order of keys; repeated keys: first place, last value */
        {"{\"b\":1,\"a\":2}", "{\"b\":1,\"a\":2}"},
        {"{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}"},
        {"{\"a\":1,\"a\":[2],\"a\":{\"a\":1,\"a\":4},\"\":0,\"\":1}",
         "{\"a\":{\"a\":4},\"\":1}"},
        {"{\"ab\":1,\"a\":2,\"abc\":3,\"a\":4,\"ab\":5}", "{\"ab\":5,\"a\":4,\"abc\":3}"},
        {"{\"\\u0061\":1,\"a\":2}", "{\"a\":2}"},
        /* escapes */
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
        {"\"\\u0041\\u00e9\\u20AC\\u001F\\u007f\"",
         "\"A\xC3\xA9\xE2\x82\xAC\\u001f\x7F\""},
        {"\"\\ud83d\\ude00\"", "\"\xF0\x9F\x98\x80\""},
        {"\"\\uDBFF\\uDFFF\"", "\"\xF4\x8F\xBF\xBF\""},
        /* half a pair cannot be UTF-8 */
        {"\"\\ud800\"", "\"\xEF\xBF\xBD\""},
        {"\"\\ude00\\ud83d\"", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\"\\ud83d\\ud83d\\ude00x\"", "\"\xEF\xBF\xBD\xF0\x9F\x98\x80x\""},
        {"\"\\ud800\\u0041\"", "\"\xEF\xBF\xBD"
                               "A\""},
        {"\"\\ud800\\n\"", "\"\xEF\xBF\xBD\\n\""},
        /* raw UTF-8 up to the last scalar value, U+2028, noncharacters */
        {"\"\xC2\x80\xE2\x80\xA8\xEF\xBF\xBF\xF4\x8F\xBF\xBF\x7F\"",
         "\"\xC2\x80\xE2\x80\xA8\xEF\xBF\xBF\xF4\x8F\xBF\xBF\x7F\""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        expect_rewrite(cases[i][0], TUG_JSON_COMPACT, cases[i][1]);
    }
}

static void test_refuses(void **state) {
    (void)state;
    static const struct {
        const char *in;
        int at; /* byte that the sentence names */
    } cases[] = {
        {"", 0},
        {"  ", 2},
        {"[1,]", 3},
        {"[,1]", 1},
        {"[1 2]", 3},
        {"[1", 2},
        {"[", 1},
        {"]", 0},
        {"[1}", 2},
        {"{\"a\":1]", 6},
        {"{", 1},
        {"{,}", 1},
        {"{\"a\"}", 4},
        {"{\"a\":}", 5},
        {"{\"a\":1,}", 7},
        {"{a:1}", 1},
        {"{'a':1}", 1},
        {"{1:1}", 1},
        {"{\"a\" 1}", 5},
        {"{\"a\":1 \"b\":2}", 7},
        {"[1]]", 3},
        {"1 2", 2},
        {"nul", 0},
        {"nulll", 4},
        {"True", 0},
        {"NaN", 0},
        {"Infinity", 0},
        {"-Infinity", 0},
        {"01", 1},
        {"-01", 2},
        {"-", 0},
        {"+1", 0},
        {".5", 0},
        {"1.", 0},
        {"1.e1", 0},
        {"[1e]", 1},
        {"[1e+]", 1},
        {"0x10", 1},
        {"1_000", 1},
        {"\"abc", 0},
        {"\"", 0},
        {"\"\\\"", 0},
        {"\"\\", 1},
        {"\"\\x41\"", 1},
        {"\"\\'\"", 1},
        {"\"\\u12\"", 1},
        {"\"\\u12g4\"", 1},
        {"\"\\u", 1},
        {"\"a\nb\"", 2},
        {"\"a\tb\"", 2},
        {"\"\x1F\"", 1},
        {"// no\n1", 0},
        {"/**/1", 0},
        {"\xEF\xBB\xBF{}", 0}, /* byte order mark */
        {"\xC2\xA0"            /* white space of Unicode is none of JSON's */
         "1",
         0},
        {"\f1", 0},
        {"[\"\x80\"]", 2},             /* stray continuation */
        {"[\"\xC0\xAF\"]", 2},         /* overlong */
        {"[\"\xED\xA0\x80\"]", 2},     /* surrogate */
        {"[\"\xF4\x90\x80\x80\"]", 2}, /* above U+10FFFF */
        {"[\"\xE2\x82\"]", 2},         /* cut short */
        {"\"\xE2\x82", 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        tug_err err = {0};
        char want[32];
        (void)snprintf(want, sizeof want, "at byte %d: ", cases[i].at);
        char *got = rewrite(cases[i].in, strlen(cases[i].in), TUG_JSON_COMPACT, &err);
        if (got) fail_msg("accepted %s as %s", cases[i].in, got);
        assert_int_equal(err.code, TUG_EFORMAT);
        if (!strstr(err.msg, want))
            fail_msg("%s: '%s' lacks '%s'", cases[i].in, err.msg, want);
    }
}

/* A zero byte is an ordinary bad character, and an escaped one an ordinary character. */
static void test_zero_bytes(void **state) {
    (void)state;
    static const char bad[][4] = {"[\0]", "1\0", "\0"};
    static const size_t n_bad[] = {3, 2, 1};
    for (size_t i = 0; i < COUNT(bad); i++) {
        tug_err err = {0};
        assert_null(rewrite(bad[i], n_bad[i], TUG_JSON_COMPACT, &err));
        assert_int_equal(err.code, TUG_EFORMAT);
    }
    expect_rewrite("\"a\\u0000b\"", TUG_JSON_COMPACT, "\"a\\u0000b\"");
}

static void test_depth(void **state) {
    (void)state;
    char text[4096];
    for (int depth = TUG_JSON_DEPTH; depth <= TUG_JSON_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        tug_err err = {0};
        char *got = rewrite(text, (size_t)depth * 2, TUG_JSON_COMPACT, &err);
        if (depth == TUG_JSON_DEPTH) {
            assert_memory_equal(got, text, (size_t)depth * 2);
        } else {
            assert_null(got);
            assert_non_null(strstr(err.msg, "nested deeper than 128 at byte 128"));
        }
        tug_free(got);
    }
}

/* A quadratic search for repeated keys would take minutes here. */
static void test_many_keys(void **state) {
    (void)state;
    enum { N = 200000 };
    tug_buf in = {0};
    tug_buf_char(&in, '{');
    for (int i = 0; i < N; i++)
        tug_buf_printf(&in, "%s\"k%d\":%d", i ? "," : "", i % (N / 2), i);
    tug_buf_char(&in, '}');
    tug_arena arena = {0};
    const tug_json *v = NULL;
    assert_int_equal(tug_json_parse(tug_buf_view(&in), &arena, &v, NULL), TUG_OK);
    assert_int_equal(v->n, N / 2);
    assert_true(tug_str_is(tug_json_key(v, 7), "k7"));
    assert_true(tug_json_f64(tug_json_value(v, 7)) == N / 2 + 7);
    tug_arena_free(&arena);
    tug_buf_free(&in);
}

static void test_access(void **state) {
    (void)state;
    tug_arena arena = {0};
    const tug_json *v = NULL;
    const tug_str in = tug_str_of("{\"s\":\"x\",\"n\":-2.5e1,\"l\":[1,1.0],\"z\":null}");
    assert_int_equal(tug_json_parse(in, &arena, &v, NULL), TUG_OK);
    assert_true(tug_str_is(tug_json_text(tug_json_get(v, "s")), "x"));
    assert_true(tug_json_f64(tug_json_get(v, "n")) == -25.0);
    const tug_json *l = tug_json_get(v, "l");
    assert_true(tug_json_is(l, TUG_JSON_ARRAY) && l->n == 2);
    assert_true(tug_json_is_integer(tug_json_at(l, 0)));
    assert_false(tug_json_is_integer(tug_json_at(l, 1)));
    assert_null(tug_json_get(v, "nope"));
    assert_null(tug_json_get(l, "s"));
    assert_null(tug_json_get(NULL, "s"));
    assert_string_equal(tug_json_kind_text(tug_json_get(v, "z")), "null");
    assert_string_equal(tug_json_kind_text(NULL), "missing");
    tug_arena_free(&arena);
}

static void test_styles(void **state) {
    (void)state;
    const char *in = "{\"a\":[1,{\"b\":null},[],{}],\"c\":\"d\"}";
    expect_rewrite(in, TUG_JSON_COMPACT, in);
    expect_rewrite(in, TUG_JSON_SPACED,
                   "{\"a\": [1, {\"b\": null}, [], {}], \"c\": \"d\"}");
    expect_rewrite(in, TUG_JSON_PRETTY,
                   "{\n  \"a\": [\n    1,\n    {\n      \"b\": null\n    },\n    [],\n"
                   "    {}\n  ],\n  \"c\": \"d\"\n}");
}

static void test_writer(void **state) {
    (void)state;
    tug_buf out = {0};
    tug_json_writer w = tug_json_writer_make(&out, TUG_JSON_COMPACT);
    tug_json_begin_object(&w);
    tug_json_write_key(&w, tug_str_of("i"));
    tug_json_write_i64(&w, INT64_MIN);
    tug_json_write_key(&w, tug_str_of("u"));
    tug_json_write_u64(&w, UINT64_MAX);
    tug_json_write_key(&w, tug_str_of("l"));
    tug_json_begin_array(&w);
    tug_json_write_f64(&w, 0.1);
    tug_json_write_f64(&w, NAN);
    tug_json_write_f64(&w, -INFINITY);
    tug_json_write_bool(&w, true);
    tug_json_write_null(&w);
    tug_json_write_raw(&w, tug_str_of("{}"));
    tug_json_end_array(&w);
    tug_json_write_key(&w, tug_str_of("bad"));
    tug_json_write_str(&w, tug_str_of("a\xFF\xE2\x82z\xF0\x9F")); /* no UTF-8 */
    tug_json_end_object(&w);
    assert_int_equal(tug_buf_ok(&out, NULL), TUG_OK);
    assert_string_equal(out.p, "{\"i\":-9223372036854775808,\"u\":18446744073709551615,"
                               "\"l\":[0.1,null,null,true,null,{}],"
                               "\"bad\":\"a\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD\"}");
    tug_buf_free(&out);
}

static void test_doubles(void **state) {
    (void)state;
    /* Expected text: Python's repr. */
    static const struct {
        double d;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1, "1.0"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {1e-4, "0.0001"},
        {1.25e-4, "0.000125"},
        {1e-5, "1e-05"},
        {1e-7, "1e-07"},
        {1e15, "1000000000000000.0"},
        {9999999999999998.0, "9999999999999998.0"},
        {1e16, "1e+16"},
        {1e22, "1e+22"},
        {123456789.125, "123456789.125"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {5e-324, "5e-324"},
        {0x1p-142, "1.793662034335766e-43"},
        /* powers of two whose nearest 16-digit decimal does not read back */
        {0x1p-1017, "7.120236347223045e-307"},
        {0x1p-44, "5.684341886080802e-14"},
        {INFINITY, "inf"},
        {-INFINITY, "-inf"},
        {NAN, "nan"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[TUG_JSON_F64_MAX];
        const int n = tug_json_format_f64(cases[i].d, text);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(n, strlen(text));
    }
    tug_rng rng;
    tug_rng_seed(&rng, 1);
    for (int i = 0; i < 5000; i++) {
        const uint64_t bits = tug_rng_u64(&rng);
        double d;
        memcpy(&d, &bits, sizeof d);
        if (!isfinite(d)) continue;
        char text[TUG_JSON_F64_MAX];
        (void)tug_json_format_f64(d, text);
        assert_true(strtod(text, NULL) == d);
    }
}

/* What is not refused reads back as itself, whatever single byte is damaged. */
static void test_damage(void **state) {
    (void)state;
    const char *in = "{\"a\":[1,-2.5e3,\"x\\u00e9\\n\"],\"b\":{\"c\":true,\"c\":null}}";
    const size_t n = strlen(in);
    for (size_t at = 0; at < n; at++) {
        for (int c = 0; c < 256; c++) {
            char text[128];
            memcpy(text, in, n);
            text[at] = (char)c;
            char *once = rewrite(text, n, TUG_JSON_COMPACT, NULL);
            if (!once) continue;
            char *twice = rewrite(once, strlen(once), TUG_JSON_COMPACT, NULL);
            assert_non_null(twice);
            assert_string_equal(once, twice);
            tug_free(once);
            tug_free(twice);
        }
    }
}

static void test_out_of_memory(void **state) {
    (void)state;
    tug_buf in = {0}; /* large enough to need several blocks and a longer stack */
    tug_buf_text(&in, "[{\"a\":{\"b\":[\"c\"]},\"a\":2}");
    for (int i = 0; i < 600; i++) tug_buf_printf(&in, ",[%d]", i);
    tug_buf_char(&in, ']');
    for (uint64_t n = 1;; n++) {
        tug_err err = {0};
        tug_arena arena = {0};
        const tug_json *v = NULL;
        fault_fail_alloc(n);
        const tug_status s = tug_json_parse(tug_buf_view(&in), &arena, &v, &err);
        tug_arena_free(&arena);
        const bool hit = fault_stop();
        assert_int_equal(fault_live_blocks(), 0);
        assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
        if (!hit) break;
        assert_non_null(strstr(err.msg, "out of memory"));
    }
    tug_buf_free(&in);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),       cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_zero_bytes),    cmocka_unit_test(test_depth),
        cmocka_unit_test(test_many_keys),     cmocka_unit_test(test_access),
        cmocka_unit_test(test_styles),        cmocka_unit_test(test_writer),
        cmocka_unit_test(test_doubles),       cmocka_unit_test(test_damage),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
