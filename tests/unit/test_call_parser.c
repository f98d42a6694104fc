/* test_call_parser.c - tool calls out of text: every fixture whole, byte by byte, under
 * all cuts in two and many in three.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "fault/fault.h"
#include "support/call_log.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const char tools_json[] =
    "[{\"name\":\"read\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "  \"path\":{\"type\":\"string\"},\"line\":{\"type\":\"integer\"}},"
    "  \"required\":[\"path\"]}},"
    " {\"name\":\"write\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "  \"path\":{\"type\":\"string\"},\"content\":{\"type\":\"string\"},"
    "  \"mode\":{\"type\":[\"string\",\"null\"]},\"odd key\":{\"type\":\"string\"}}}},"
    " {\"name\":\"todo\",\"parameters\":{\"properties\":{"
    "  \"items\":{\"type\":\"array\"},\"n\":{\"type\":\"integer\"}},"
    "  \"required\":[\"items\"]}},"
    " {\"name\":\"ping\",\"parameters\":null}]";

/* Short for the tags. */
#define TC       "<tool_call>\n"
#define FN(name) "<function=" name ">\n"
#define PA(key)  "<parameter=" key ">\n"
#define PE       "\n</parameter>\n"
#define FE       "</function>\n"
#define TE       "</tool_call>"
#define END      FE TE

typedef struct fixture {
    const char *name, *in, *want;
    bool cut_off; /* by a limit */
} fixture;

#include "call_fixtures.h"

static tug_arena arena;
static tug_tools tools;

static int setup(void **state) {
    (void)state;
    tools = call_log_tools(tools_json, &arena);
    return tools.n == 4 ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    tug_arena_free(&arena);
    return 0;
}

static void expect(const fixture *f, const call_log *log, size_t a, size_t b) {
    if (!tug_str_is(tug_buf_view(&log->text), f->want)) {
        fail_msg("%s, cut at %zu and %zu:\n got  %s\n want %s", f->name, a, b,
                 log->text.p ? log->text.p : "", f->want);
    }
    if (log->uneven && tug_utf8_valid(f->in, strlen(f->in), NULL)) {
        fail_msg("%s, cut at %zu and %zu: inside a character", f->name, a, b);
    }
}

/* Arguments of complete calls are one JSON object each. */
static void expect_json(const fixture *f) {
    for (const char *a = strstr(f->want, "|A:"); a; a = strstr(a + 3, "|A:")) {
        const char *const end = strstr(a + 3, "|E");
        tug_arena mine = {0};
        const tug_json *v = NULL;
        assert_non_null(end);
        (void)!tug_json_parse(tug_str_make(a + 3, (size_t)(end - a - 3)), &mine, &v,
                              NULL);
        const bool object = tug_json_is(v, TUG_JSON_OBJECT);
        tug_arena_free(&mine);
        if (object != (end[2] == '+')) fail_msg("%s: %s", f->name, f->want);
    }
}

static void run_fixture(const fixture *f) {
    const tug_str in = tug_str_of(f->in);
    call_log log = {0};
    tug_rng rng;
    tug_rng_seed(&rng, 1);
    assert_int_equal(call_log_run1(&log, tools, in, !f->cut_off), TUG_OK);
    expect(f, &log, 1, 1);
    for (size_t a = 0; a <= in.n; a++) {
        assert_int_equal(call_log_run3(&log, tools, in, a, in.n, !f->cut_off), TUG_OK);
        expect(f, &log, a, in.n);
    }
    for (int i = 0; i < 400; i++) {
        size_t a = (size_t)(tug_rng_u64(&rng) % (in.n + 1));
        size_t b = a + (size_t)(tug_rng_u64(&rng) % (in.n + 1 - a));
        assert_int_equal(call_log_run3(&log, tools, in, a, b, !f->cut_off), TUG_OK);
        expect(f, &log, a, b);
    }
    tug_buf_free(&log.text);
    expect_json(f);
}

static void test_fixtures(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(fixtures); i++) run_fixture(&fixtures[i]);
}

/* All fixtures at once: what one leaves behind must not reach the next. */
static void test_no_tools(void **state) {
    (void)state;
    call_log log = {0};
    for (size_t i = 0; i < COUNT(fixtures); i++) {
        const tug_str in = tug_str_of(fixtures[i].in);
        if (in.n == 0) continue;
        assert_int_equal(call_log_run1(&log, (tug_tools){0}, in, true), TUG_OK);
        assert_memory_equal(log.text.p, "T:", 2);
        assert_true(tug_str_eq(tug_str_make(log.text.p + 2, log.text.n - 2), in));
    }
    tug_buf_free(&log.text);
}

/* What is out as soon as which bytes are in: nothing waits longer than it must. */
static void test_streams_at_once(void **state) {
    (void)state;
    static const struct {
        const char *in, *want;
    } steps[] = {
        {"Hello", "T:Hello"},
        {", \xC3", "T:Hello, "},
        {"\xA9", "T:Hello, \xC3\xA9"},
        {" <tool", "T:Hello, \xC3\xA9"},
        {"box>", "T:Hello, \xC3\xA9 <toolbox>"},
        {"\n\n<tool_call>\n<function=write>\n", "T:Hello, \xC3\xA9 <toolbox>"},
        {"<parameter=content", "T:Hello, \xC3\xA9 <toolbox>"},
        {">", "T:Hello, \xC3\xA9 <toolbox>|C:write|A:{\"content\":\""},
        {"\na", "T:Hello, \xC3\xA9 <toolbox>|C:write|A:{\"content\":\"a"},
        {" \"", "T:Hello, \xC3\xA9 <toolbox>|C:write|A:{\"content\":\"a \\\""},
        {"\n", "T:Hello, \xC3\xA9 <toolbox>|C:write|A:{\"content\":\"a \\\""},
        {"<b", "T:Hello, \xC3\xA9 <toolbox>|C:write|A:{\"content\":\"a \\\"\\n<b"},
    };
    call_log log = {0};
    tug_call_parser *p;
    const tug_call_sink sink = call_log_sink(&log);
    assert_int_equal(tug_call_parser_create(&p, tools, &sink, NULL), TUG_OK);
    for (size_t i = 0; i < COUNT(steps); i++) {
        assert_int_equal(tug_call_parser_feed(p, tug_str_of(steps[i].in), NULL), TUG_OK);
        assert_string_equal(log.text.p, steps[i].want);
        assert_int_equal(tug_call_parser_in_call(p), i >= 7);
    }
    assert_int_equal(tug_call_parser_n_calls(p), 0);
    assert_int_equal(tug_call_parser_finish(p, true, NULL), TUG_OK);
    assert_int_equal(tug_call_parser_n_calls(p), 1);
    assert_false(tug_call_parser_in_call(p));
    tug_call_parser_destroy(&p);
    tug_buf_free(&log.text);
}

/* ---- what a hostile or degenerate answer costs -------------------------------------- */

typedef struct count {
    size_t n_bytes, n_told;
} count;

static tug_status count_bytes(void *ud, tug_str s, tug_err *err) {
    (void)err;
    ((count *)ud)->n_bytes += s.n;
    ((count *)ud)->n_told++;
    return TUG_OK;
}
static tug_status count_end(void *ud, bool complete, tug_err *err) {
    (void)complete;
    (void)err;
    ((count *)ud)->n_told++;
    return TUG_OK;
}

/* Seconds of the processor for `head`, then n bytes of `unit` over and over, in pieces of `step` bytes. */
static double seconds_for(const char *head, const char *unit, size_t n, size_t step) {
    const size_t n_unit = strlen(unit);
    char *text = tug_alloc(n + n_unit);
    assert_non_null(text);
    for (size_t i = 0; i < n + n_unit; i++) text[i] = unit[i % n_unit];
    count c = {0};
    const tug_call_sink sink = {&c, count_bytes, count_bytes, count_bytes, count_end};
    tug_call_parser *p;
    const clock_t start = clock(); /* of this process: others run, too */
    assert_int_equal(tug_call_parser_create(&p, tools, &sink, NULL), TUG_OK);
    assert_int_equal(tug_call_parser_feed(p, tug_str_of(head), NULL), TUG_OK);
    for (size_t i = 0; i < n; i += step) {
        const tug_str piece = tug_str_make(text + i, n - i < step ? n - i : step);
        assert_int_equal(tug_call_parser_feed(p, piece, NULL), TUG_OK);
    }
    assert_int_equal(tug_call_parser_finish(p, true, NULL), TUG_OK);
    const double t = (double)(clock() - start) / CLOCKS_PER_SEC;
    tug_call_parser_destroy(&p);
    tug_free(text);
    return t;
}

static const char *const hostile[][2] = {
    {"", "a"},
    {"", "\n"},
    {"", "<"},
    {"", "<tool_call>"},
    {"", "<tool_call>\n<function=read>\n"},
    {"", TC FN("read") PA("path") "a" PE END "\n"},
    {"", TC FN("ping") TE "\n"},
    {TC FN("write") PA("content"), "a"},
    {TC FN("write") PA("content"), "\n"},
    {TC FN("write") PA("content"), "</parameter>\n"},
    {TC FN("write") PA("content"), "</parameter>\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\nx"},
    {TC FN("write") PA("content"), "\n</parameter\n"},
    {TC FN("write") PA("content"), "<function=a>\n<parameter=b>\n"},
    {TC FN("write") PA("content"),
     "<function=a>\n<parameter=b>\n</parameter></function>"},
    {TC FN("write") PA("content"), "<parameter="},
    {TC FN("write") PA("content"), "\xE2\x82"},
    {TC FN("todo") PA("items"), "["},
    {TC FN("todo") PA("items"), "'\\"},
    {TC FN("todo") PA("items"), "{'a': 1},"},
    {TC FN("nope"), PA("k") "1" PE},
};

/* Eight times the bytes cost about eight times the time: with a square it would be 64 times,
 * and the limit is 24, because a processor that others share can be three times as fast in
 * one moment as in the next.  The least of a few runs, for the same reason. */
static void test_linear(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(hostile); i++) {
        double few = 1e9, many = 1e9;
        for (int k = 0; k < 3 || (k < 12 && many > 24 * few); k++) {
            const double a = seconds_for(hostile[i][0], hostile[i][1], 1 << 15, 1);
            const double b = seconds_for(hostile[i][0], hostile[i][1], 1 << 18, 1);
            if (a < few) few = a;
            if (b < many) many = b;
        }
        if (many > 24 * few + 0.002) {
            fail_msg("%s%s: %g s, eight times of it %g s", hostile[i][0], hostile[i][1],
                     few, many);
        }
    }
}

/* Distinct keys, of which a call may have any number. */
static void test_many_keys(void **state) {
    (void)state;
    tug_buf in = {0}, want = {0};
    call_log log = {0};
    tug_buf_text(&in, TC FN("nope"));
    tug_buf_text(&want, "C:nope|A:");
    for (int i = 0; i < 3000; i++) {
        tug_buf_printf(&in, "<parameter=k%d>\n%d\n</parameter>\n", i % 2000, i);
        if (i < 2000) tug_buf_printf(&want, "%s\"k%d\":\"%d\"", i ? "," : "{", i, i);
    }
    tug_buf_text(&in, END);
    tug_buf_text(&want, "}|E+");
    assert_int_equal(call_log_run1(&log, tools, tug_buf_view(&in), true), TUG_OK);
    assert_string_equal(log.text.p, want.p);
    tug_buf_free(&in);
    tug_buf_free(&want);
    tug_buf_free(&log.text);
}

/* Whatever waits, waits in little memory: 4 MiB go through in less than 128 KiB. */
static void test_bounded_memory(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(hostile); i++) {
        if (strstr(hostile[i][0], "todo") || strstr(hostile[i][0], "nope")) continue;
        const size_t n = strlen(hostile[i][1]);
        count c = {0};
        const tug_call_sink sink = {&c, count_bytes, count_bytes, count_bytes, count_end};
        tug_call_parser *p;
        fault_watch();
        assert_int_equal(tug_call_parser_create(&p, tools, &sink, NULL), TUG_OK);
        assert_int_equal(tug_call_parser_feed(p, tug_str_of(hostile[i][0]), NULL),
                         TUG_OK);
        for (size_t k = 0; k < (4u << 20) / 16 / n; k++) {
            assert_int_equal(tug_call_parser_feed(p, tug_str_of(hostile[i][1]), NULL), 0);
        }
        const uint64_t largest = fault_alloc_max();
        tug_call_parser_destroy(&p);
        assert_int_equal(fault_live_blocks(), 0);
        (void)fault_stop();
        if (largest > 128 << 10) {
            fail_msg("%s: %llu bytes", hostile[i][1], (unsigned long long)largest);
        }
    }
}

/* ---- failures ------------------------------------------------------------------------ */

/* Every allocation fails once: the status says so, nothing leaks, and what was told until
 * then is the beginning of what is told without the failure. */
static void test_out_of_memory(void **state) {
    (void)state;
    static const char in[] = "Text.\n\n" TC FN("todo")
        PA("items") "[{'a': \"b\"}, True]" PE PA("n") "12" PE END "\n" TC FN("write")
            PA("content") "x\n<b>" PE PA("mode") "None" PE END " ok";
    call_log log = {0}, all = {0};
    assert_int_equal(call_log_run1(&all, tools, tug_str_of(in), true), TUG_OK);
    for (uint64_t n = 1;; n++) {
        tug_buf_free(&log.text);
        fault_fail_alloc(n);
        const tug_status s = call_log_run1(&log, tools, tug_str_of(in), true);
        assert_int_equal(fault_live_blocks(), log.text.p ? 1 : 0);
        const bool hit = fault_stop();
        assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
        assert_true(tug_str_starts(tug_buf_view(&all.text), tug_buf_view(&log.text)));
        if (!hit) break;
    }
    assert_string_equal(log.text.p, all.text.p);
    tug_buf_free(&log.text);
    tug_buf_free(&all.text);
}

static void test_sink_fails(void **state) {
    (void)state;
    const char *in = "Text." TC FN("read") PA("path") "a" PE END "more";
    for (int n = 1; n <= 5; n++) {
        call_log log = {.fail_at = n};
        tug_call_parser *p;
        tug_err err = {0};
        const tug_call_sink sink = call_log_sink(&log);
        assert_int_equal(tug_call_parser_create(&p, tools, &sink, NULL), TUG_OK);
        const tug_status s = tug_call_parser_feed(p, tug_str_of(in), &err);
        assert_int_equal(s, TUG_ECANCELED);
        assert_string_equal(err.msg, "the sink had enough");
        const size_t told = log.text.n;
        assert_int_equal(tug_call_parser_feed(p, tug_str_of("x"), &err), TUG_ECANCELED);
        assert_non_null(strstr(err.msg, "earlier failure"));
        assert_int_equal(tug_call_parser_finish(p, true, NULL), TUG_ECANCELED);
        assert_int_equal(log.text.n, told);
        tug_call_parser_destroy(&p);
        tug_call_parser_destroy(&p);
        tug_buf_free(&log.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),        cmocka_unit_test(test_no_tools),
        cmocka_unit_test(test_streams_at_once), cmocka_unit_test(test_linear),
        cmocka_unit_test(test_many_keys),       cmocka_unit_test(test_bounded_memory),
        cmocka_unit_test(test_out_of_memory),   cmocka_unit_test(test_sink_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
