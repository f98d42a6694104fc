/* test_stop_match.c - stop strings across all ways to cut a text into pieces.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/stop_match.h"

enum { N_CASES = 15, MAX_STOPS = 4 };

static const struct {
    const char *text;
    const char *stops[MAX_STOPS];
    const char *expect; /* what is let through in the end */
    bool found;
} cases[N_CASES] = {
    {"plain text", {NULL}, "plain text", false},
    {"plain text", {"absent"}, "plain text", false},
    {"one two three", {"two"}, "one ", true},
    {"two at the start", {"two"}, "", true},
    {"ends with two", {"two"}, "ends with ", true},
    {"ends with tw", {"two"}, "ends with tw", false},
    {"aaab", {"aab"}, "a", true},          /* falls back to a later start */
    {"abababac", {"ababac"}, "ab", true},  /* likewise, longer */
    {"xabcy", {"abcd", "bc"}, "xa", true}, /* the first to end decides */
    {"xabc", {"bc", "abc"}, "x", true},    /* both end here: the longest */
    {"xaby", {"ab", "abc"}, "x", true},    /* ends first, not longest */
    {"caf\xC3\xA8 caf\xC3\xA9!", {"\xC3\xA9"}, "caf\xC3\xA8 caf", true},
    {"```c\nint x;\n```\nmore", {"\n```\n", "\nUser:"}, "```c\nint x;", true},
    {"\n\n\n\nUser", {"\n\n\nU"}, "\n", true},
    {"aXbXc", {"X", "X"}, "a", true},
};

static size_t n_stops(int i) {
    size_t n = 0;
    while (n < MAX_STOPS && cases[i].stops[n]) n++;
    return n;
}

/* Feeds the text cut at a and b; every output on the way must already be right. */
static void run_cut(int i, size_t a, size_t b) {
    const size_t len = strlen(cases[i].text), cut[] = {0, a, b, len};
    tug_stop_match m;
    tug_buf out = {0};
    bool found = false;
    assert_int_equal(tug_stop_match_init(&m, cases[i].stops, n_stops(i), NULL), TUG_OK);
    for (int k = 0; k < 3 && !found; k++) {
        const tug_str piece = tug_str_make(cases[i].text + cut[k], cut[k + 1] - cut[k]);
        assert_int_equal(tug_stop_match_feed(&m, piece, &out, &found, NULL), TUG_OK);
        assert_true(tug_str_starts(tug_str_of(cases[i].expect), tug_buf_view(&out)));
    }
    if (!found) assert_int_equal(tug_stop_match_finish(&m, &out, NULL), TUG_OK);
    assert_int_equal(found, cases[i].found);
    assert_true(tug_str_is(tug_buf_view(&out), cases[i].expect));
    tug_buf_free(&out);
    tug_stop_match_deinit(&m);
}

static void test_all_cuts_agree(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        const size_t len = strlen(cases[i].text);
        for (size_t a = 0; a <= len; a++) {
            for (size_t b = a; b <= len; b++) run_cut(i, a, b);
        }
    }
}

static void test_byte_by_byte_holds_only_what_may_begin_a_stop(void **state) {
    (void)state;
    const char *stops[] = {"END"};
    const char *text = "xEENxEND";
    static const size_t shown[] = {1, 1, 2, 2, 5, 5, 5, 5}; /* bytes let through so far */
    tug_stop_match m;
    tug_buf out = {0};
    bool found = false;
    assert_int_equal(tug_stop_match_init(&m, stops, 1, NULL), TUG_OK);
    for (size_t i = 0; i < strlen(text); i++) {
        assert_false(found);
        assert_int_equal(
            tug_stop_match_feed(&m, tug_str_make(text + i, 1), &out, &found, NULL),
            TUG_OK);
        assert_int_equal(out.n, shown[i]);
    }
    assert_true(found);
    tug_buf_free(&out);
    tug_stop_match_deinit(&m);
}

static void test_empty_stop_is_refused(void **state) {
    (void)state;
    const char *stops[] = {"fine", ""};
    tug_stop_match m;
    tug_err err = {.msg = ""};
    assert_int_equal(tug_stop_match_init(&m, stops, 2, &err), TUG_ERANGE);
    assert_non_null(strstr(err.msg, "empty"));
    tug_stop_match_deinit(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_cuts_agree),
        cmocka_unit_test(test_byte_by_byte_holds_only_what_may_begin_a_stop),
        cmocka_unit_test(test_empty_stop_is_refused),
    };
    return cmocka_run_group_tests_name("stop_match", tests, NULL, NULL);
}
