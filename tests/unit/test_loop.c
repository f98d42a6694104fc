/* test_loop.c - what counts as an endless repetition, and what must not.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "calls/loop.h"
#include "fault/fault.h"

static tug_loop *make(void) {
    tug_loop *l = NULL;
    assert_int_equal(tug_loop_create(&l, NULL), TUG_OK);
    return l;
}

static int32_t random_id(tug_rng *rng, int32_t n) {
    return (int32_t)(tug_rng_unit(rng) * n);
}

/* Feeds tokens of the period until it is a loop; how many it took, or -1. */
static int feed_period(tug_loop *l, const int32_t *ids, int n, int most) {
    for (int i = 0; i < most; i++) {
        if (tug_loop_feed(l, ids[i % n])) return i + 1;
    }
    return -1;
}

/* Random periods, also of few different tokens, after random text: each is found, and not
 * before it is as long as the rule says. */
static void test_every_period_is_found(void **state) {
    (void)state;
    tug_loop *l = make();
    tug_rng rng;
    tug_rng_seed(&rng, 3);
    for (int k = 0; k < 300; k++) {
        const int period = k < 20 ? k + 1 : 1 + random_id(&rng, TUG_LOOP_MAX_PERIOD);
        const int32_t kinds = 1 + random_id(&rng, k % 3 ? 4 : 1000);
        int32_t ids[TUG_LOOP_MAX_PERIOD];
        for (int i = 0; i < period; i++) ids[i] = random_id(&rng, kinds);
        tug_loop_reset(l);
        for (int i = random_id(&rng, 3000); i > 0; i--) {
            assert_false(tug_loop_feed(l, 2000 + random_id(&rng, 100000)));
        }
        const int took = feed_period(l, ids, period, 20000);
        if (took < 0) fail_msg("period %d of %d kinds is not found", period, kinds);
        assert_true(took >= TUG_LOOP_MIN_RUN);
        /* A period or two pass until the distance is the right one. */
        assert_true(took <= TUG_LOOP_MIN_RUN + 11 * period + 64);
    }
    tug_loop_destroy(&l);
}

static void test_parts_that_repeat_within_the_period(void **state) {
    (void)state;
    tug_loop *l = make();
    int32_t ids[512];
    int n = 0; /* A A A B A A A C: A is 40 tokens, B and C one */
    for (int k = 0; k < 8; k++) {
        for (int i = 0; i < 40 && k % 4 != 3; i++) ids[n++] = i;
        if (k % 4 == 3) ids[n++] = 100 + k;
    }
    assert_true(feed_period(l, ids, n, 10000) > 0);
    assert_int_equal(tug_loop_period(l), n);
    tug_loop_destroy(&l);
}

/* Lines of `width` tokens of which one counts or is random. */
static void expect_no_loop(int width, int n_lines, int random) {
    tug_loop *l = make();
    tug_rng rng;
    tug_rng_seed(&rng, 9);
    for (int i = 0; i < n_lines; i++) {
        for (int k = 0; k < width - 1; k++) assert_false(tug_loop_feed(l, k));
        assert_false(tug_loop_feed(l, 1000 + (random ? random_id(&rng, random) : i)));
    }
    tug_loop_destroy(&l);
}

static void test_useful_text_is_no_loop(void **state) {
    (void)state;
    expect_no_loop(12, 5000, 0);  /* a table with a counter */
    expect_no_loop(30, 5000, 10); /* lines that differ in a digit */
    expect_no_loop(3, 20000, 2);  /* bits of a table */
    tug_loop *l = make();
    tug_rng rng;
    tug_rng_seed(&rng, 5);
    for (int i = 0; i < 50000; i++) { /* base64, with runs of its zeros */
        assert_false(tug_loop_feed(l, i % 1000 < 600 ? 7 : random_id(&rng, 4096)));
    }
    tug_loop_reset(l); /* a thousand spaces, rules of a table, an array of 1000 zeros */
    for (int i = 0; i < 30; i++) {
        for (int k = 0; k < 1000; k++) assert_false(tug_loop_feed(l, 1));
        for (int k = 0; k < 2000; k++) assert_false(tug_loop_feed(l, 2 + k % 2));
        assert_false(tug_loop_feed(l, 100 + i));
    }
    tug_loop_reset(l); /* the same 60 tokens of code, forty times */
    for (int i = 0; i < 40 * 60; i++) assert_false(tug_loop_feed(l, i % 60));
    tug_loop_destroy(&l);
}

static void test_a_period_too_long_is_no_loop(void **state) {
    (void)state;
    tug_loop *l = make();
    for (int i = 0; i < 50000; i++) assert_false(tug_loop_feed(l, i % 600));
    tug_loop_destroy(&l);
}

static void test_memory_runs_out(void **state) {
    (void)state;
    tug_loop *l = NULL;
    tug_err err = {.msg = ""};
    fault_fail_alloc(1);
    assert_int_equal(tug_loop_create(&l, &err), TUG_ENOMEM);
    fault_stop();
    assert_null(l);
    assert_non_null(strstr(err.msg, "loop"));
    tug_loop_destroy(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_period_is_found),
        cmocka_unit_test(test_parts_that_repeat_within_the_period),
        cmocka_unit_test(test_useful_text_is_no_loop),
        cmocka_unit_test(test_a_period_too_long_is_no_loop),
        cmocka_unit_test(test_memory_runs_out),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
