/* test_expert_forecast.c - routers of a known kind, and whether their rates are found.
 * What it is worth in a cache is asserted by tests/long/trace_policies.py.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "policy/expert_forecast.h"

enum { MAX_EXPERT = 4096 };

/* One layer, and who is used by its next token. */
typedef struct router {
    tug_expert_forecast f;
    tug_expert_use uses[MAX_EXPERT];
    bool used[MAX_EXPERT];
    int n;
    uint32_t now;
    tug_rng rng;
} router;

typedef double chance_fn(const router *r, int expert);

static void open_router(router *r, int n, uint32_t now) {
    memset(r, 0, sizeof *r);
    r->n = n;
    r->now = now;
    tug_expert_forecast_init(&r->f, 1, n);
    tug_rng_seed(&r->rng, 11);
}

static void run(router *r, chance_fn *chance, int n_tok) {
    static int32_t ids[MAX_EXPERT], counts[MAX_EXPERT];
    for (int t = 0; t < n_tok; t++) {
        int n = 0;
        for (int e = 0; e < r->n; e++) {
            if (tug_rng_unit(&r->rng) >= chance(r, e)) continue;
            ids[n] = e;
            counts[n++] = 1;
        }
        memset(r->used, 0, sizeof r->used);
        for (int i = 0; i < n; i++) r->used[ids[i]] = true;
        r->now++;
        const tug_expert_step s = {ids, counts, n, 1, r->n, r->now};
        tug_expert_forecast_step(&r->f, r->uses, &s);
    }
}

/* The mean of what is forecast for those who were used by the last token, or were not. */
static double mean_rate(const router *r, bool used) {
    double sum = 0;
    int n = 0;
    for (int e = 0; e < r->n; e++) {
        if (r->used[e] != used) continue;
        sum += tug_expert_forecast_rate(&r->f, &r->uses[e], r->now);
        n++;
    }
    assert_true(n > 0);
    return sum / n;
}

static double near_mean(router *r, chance_fn *chance, bool used) {
    double sum = 0;
    for (int i = 0; i < 100; i++) {
        run(r, chance, 1);
        sum += mean_rate(r, used) / 100;
    }
    return sum;
}

/* ---- routers ----------------------------------------------------------------------------- */

/* Some are popular, nothing is remembered. */
static double by_popularity(const router *r, int expert) {
    return expert < r->n / 8 ? 0.3 : 0.02;
}

/* Who was used is used again. */
static double sticky(const router *r, int expert) {
    return r->used[expert] ? 0.8 : 0.02;
}

/* The best fit of these four terms says 0.67 where 0.8 is true. */
static const double KNOWS_STICKY = 0.6;

/* Who was used is not. */
static double shy(const router *r, int expert) {
    return r->used[expert] ? 0.0 : 0.1;
}

static router r;

static void test_popularity_is_found(void **unused) {
    (void)unused;
    open_router(&r, 256, 0);
    run(&r, by_popularity, 1000);
    double popular = 0, rest = 0;
    for (int e = 0; e < r.n; e++) {
        const double rate = tug_expert_forecast_rate(&r.f, &r.uses[e], r.now);
        *(e < r.n / 8 ? &popular : &rest) += rate;
    }
    popular /= r.n / 8;
    rest /= r.n - r.n / 8;
    assert_true(fabs(popular - 0.3) < 0.05);
    assert_true(fabs(rest - 0.02) < 0.01);
    /* One use of an unpopular expert is worth next to nothing. */
    tug_expert_use u = {0}, once = {.heat = 1.0f, .brief = 1.0f};
    u.last = r.now - 500;
    once.counted = once.last = r.now;
    assert_true(tug_expert_forecast_rate(&r.f, &once, r.now) -
                    tug_expert_forecast_rate(&r.f, &u, r.now) <
                0.1);
}

static void test_stickiness_is_found(void **unused) {
    (void)unused;
    open_router(&r, 256, 0);
    run(&r, sticky, 300);
    assert_true(near_mean(&r, sticky, true) > KNOWS_STICKY);
    assert_true(near_mean(&r, sticky, false) < 0.06);
    tug_expert_forecast_init(&r.f, 1, 256); /* all forgotten */
    assert_true(mean_rate(&r, true) < 0.4);
}

/* The opposite of what every cache believes. */
static void test_shyness_is_found(void **unused) {
    (void)unused;
    open_router(&r, 256, 0);
    run(&r, shy, 300);
    const double used = near_mean(&r, shy, true), other = near_mean(&r, shy, false);
    assert_true(used < 0.05);
    assert_true(fabs(other - 0.1) < 0.03);
}

/* More experts than are looked at in a step. */
static void test_a_sample_is_enough(void **unused) {
    (void)unused;
    open_router(&r, MAX_EXPERT, 0);
    assert_true(r.f.stride > 1);
    run(&r, sticky, 300);
    assert_true(near_mean(&r, sticky, true) > KNOWS_STICKY);
}

static void test_a_change_is_noticed(void **unused) {
    (void)unused;
    open_router(&r, 256, UINT32_MAX - 500); /* and the clock's end on the way */
    run(&r, shy, 1000);
    run(&r, sticky, 600);
    assert_true(near_mean(&r, sticky, true) > 0.5);
}

/* Prompts are counted, but teach nothing of what decoding is like. */
static void test_prompts_do_not_teach(void **unused) {
    (void)unused;
    static const int32_t ids[] = {1, 3}, counts[] = {400, 10};
    const tug_expert_step s = {ids, counts, 2, 512, 4, 512};
    open_router(&r, 4, 0);
    const tug_expert_forecast before = r.f;
    tug_expert_forecast_step(&r.f, r.uses, &s);
    assert_memory_equal(&r.f, &before, sizeof before);
    assert_int_equal(r.uses[1].last, 512);
    assert_int_equal(r.uses[3].last, 512 - 502 / 11); /* lying evenly */
    assert_true(tug_expert_forecast_rate(&r.f, &r.uses[1], 512) >
                tug_expert_forecast_rate(&r.f, &r.uses[3], 512));
    assert_true(tug_expert_forecast_rate(&r.f, &r.uses[3], 512) >
                tug_expert_forecast_rate(&r.f, &r.uses[0], 512));
}

/* Whatever happens, rates are numbers that can be compared. */
static void test_rates_are_numbers(void **unused) {
    (void)unused;
    open_router(&r, 8, 0);
    for (int i = 0; i < 20000; i++) {
        const int n_tok = i % 50 == 0 ? 1 + (int)(tug_rng_u64(&r.rng) % INT32_MAX)
                                      : 1 + (int)(tug_rng_u64(&r.rng) % 10);
        int32_t ids[8], counts[8];
        int n = 0;
        const bool all = i / 1000 % 3 == 0, none = i / 1000 % 3 == 1;
        for (int e = 0; e < 8; e++) {
            if (!all && (none || tug_rng_u64(&r.rng) % 3)) continue;
            ids[n] = e;
            counts[n++] = all ? n_tok : 1 + (int)(tug_rng_u64(&r.rng) % (uint64_t)n_tok);
        }
        r.now += (uint32_t)n_tok;
        const tug_expert_step s = {ids, counts, n, n_tok, 8, r.now};
        tug_expert_forecast_step(&r.f, r.uses, &s);
        for (int e = 0; e < 8; e++) {
            const double rate = tug_expert_forecast_rate(&r.f, &r.uses[e], r.now);
            assert_true(rate > -2.0 && rate < 3.0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_popularity_is_found),
        cmocka_unit_test(test_stickiness_is_found),
        cmocka_unit_test(test_shyness_is_found),
        cmocka_unit_test(test_a_sample_is_enough),
        cmocka_unit_test(test_a_change_is_noticed),
        cmocka_unit_test(test_prompts_do_not_teach),
        cmocka_unit_test(test_rates_are_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
