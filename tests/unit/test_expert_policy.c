/* test_expert_policy.c - what the policies promise: who is worth more after which uses.
 * How well they do is asserted by tests/long/trace_policies.py.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "policy/expert_policy.h"

static const tug_expert_policy *named(const char *name) {
    const tug_expert_policy *p = NULL;
    assert_int_equal(tug_expert_policy_find(&p, name, NULL), TUG_OK);
    assert_string_equal(p->name, name);
    return p;
}

/* An expert of a layer of one, after `count` uses in the n_tok tokens until `now`. */
static void use(const tug_expert_policy *p, tug_expert_use *u, uint32_t now, int count,
                int n_tok) {
    const int32_t id = 0, times = count;
    tug_expert_forecast f;
    tug_expert_forecast_init(&f, 1, 1);
    p->step(&f, u,
            &(tug_expert_step){.experts = &id,
                               .counts = &times,
                               .n = 1,
                               .n_tok = n_tok,
                               .n_expert = 1,
                               .now = now});
}

/* With the weights that nobody has taught anything yet. */
static double score(const tug_expert_policy *p, const tug_expert_use *u, uint32_t now) {
    tug_expert_forecast f;
    tug_expert_forecast_init(&f, 1, 1);
    return p->score(&f, u, now);
}

static void test_names(void **unused) {
    (void)unused;
    const tug_expert_policy *p = NULL;
    tug_err err = {0};
    assert_int_equal(tug_expert_policy_find(&p, "clock", &err), TUG_EUSAGE);
    for (int i = 0; i < tug_expert_policy_count(); i++) {
        assert_non_null(strstr(err.msg, tug_expert_policy_at(i)->name));
        assert_ptr_equal(named(tug_expert_policy_at(i)->name), tug_expert_policy_at(i));
    }
}

/* An unused expert is never worth more than the same one used; scores are numbers. */
static void test_a_use_is_worth_something(void **unused) {
    (void)unused;
    tug_rng r;
    tug_rng_seed(&r, 3);
    for (int i = 0; i < tug_expert_policy_count(); i++) {
        const tug_expert_policy *p = tug_expert_policy_at(i);
        tug_expert_use u = {0};
        uint32_t now = 0;
        for (int n = 0; n < 10000; n++) {
            const int n_tok = 1 + (int)(tug_rng_u64(&r) % (n % 10 ? 2 : 5000));
            now += (uint32_t)n_tok + (uint32_t)(tug_rng_u64(&r) % 50);
            const double before = score(p, &u, now);
            use(p, &u, now, 1 + (int)(tug_rng_u64(&r) % (uint64_t)n_tok), n_tok);
            const double after = score(p, &u, now);
            assert_true(after == after); /* not NaN */
            assert_true(after >= before);
            assert_true(score(p, &u, now + 1) <= after);
        }
    }
}

static void test_lru_is_order_of_last_use(void **unused) {
    (void)unused;
    const tug_expert_policy *p = named("lru");
    tug_expert_use never = {0}, often = {0}, lately = {0};
    for (uint32_t t = 1; t < 9; t++) use(p, &often, t, 1, 1);
    use(p, &lately, 9, 1, 1);
    assert_true(score(p, &lately, 10) > score(p, &often, 10));
    assert_true(score(p, &often, 10) > score(p, &never, 10));
    /* Used in the same step: equal, whatever the counts. */
    use(p, &often, 700, 1, 512);
    use(p, &lately, 700, 99, 512);
    assert_true(score(p, &often, 700) == score(p, &lately, 700));
}

static void test_lru_survives_the_end_of_the_clock(void **unused) {
    (void)unused;
    const tug_expert_policy *p = named("lru");
    tug_expert_use before = {0}, after = {0};
    use(p, &before, UINT32_MAX - 2, 1, 1);
    use(p, &after, 3, 1, 1);
    assert_true(score(p, &after, 5) > score(p, &before, 5));
}

static void test_counts_fade(void **unused) {
    (void)unused;
    const tug_expert_policy *p = named("lfu");
    tug_expert_use old = {0}, young = {0};
    for (uint32_t t = 1; t <= 8; t++) use(p, &old, t, 1, 1);
    use(p, &young, 8, 1, 1);
    assert_true(score(p, &old, 9) > score(p, &young, 9));
    use(p, &young, 2000, 1, 1);
    assert_true(score(p, &old, 2000) < score(p, &young, 2000));
}

/* A prompt tells the same in one batch or in many. */
static void test_batches_do_not_matter(void **unused) {
    (void)unused;
    for (int k = 0; k < 2; k++) {
        const tug_expert_policy *p = named(k ? "lfu" : "forecast");
        tug_expert_use whole = {0}, halves = {0}, tokens = {0};
        use(p, &whole, 1000, 400, 1000);
        use(p, &halves, 500, 200, 500);
        use(p, &halves, 1000, 200, 500);
        for (uint32_t t = 5; t <= 1000; t += 5) use(p, &tokens, t, 2, 5);
        const double want = score(p, &whole, 1000);
        assert_true(fabs(score(p, &halves, 1000) - want) < 0.01 * want);
        assert_true(fabs(score(p, &tokens, 1000) - want) < 0.01 * want);
    }
}

/* A burst is believed at once, and a habit survives it. */
static void test_forecast_knows_both(void **unused) {
    (void)unused;
    const tug_expert_policy *p = named("forecast");
    tug_expert_use habit = {0}, burst = {0};
    for (uint32_t t = 10; t <= 400; t += 10) use(p, &habit, t, 1, 1);
    for (uint32_t t = 401; t <= 402; t++) use(p, &burst, t, 1, 1);
    tug_expert_use rare = {0};
    use(p, &rare, 300, 1, 1);
    assert_true(score(p, &burst, 402) > score(p, &rare, 402));
    assert_true(score(p, &habit, 500) > score(p, &burst, 500));
}

static void test_pinned_never_lose(void **unused) {
    (void)unused;
    const tug_expert_policy *p = named("pinned");
    tug_expert_use hot = {.heat = 1.0f}, other = {0};
    use(p, &other, 1000, 1, 1);
    assert_true(score(p, &hot, 1000) > score(p, &other, 1000));
    use(p, &other, UINT32_MAX, 1, 1);
    assert_true(score(p, &hot, UINT32_MAX) > score(p, &other, UINT32_MAX));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_a_use_is_worth_something),
        cmocka_unit_test(test_lru_is_order_of_last_use),
        cmocka_unit_test(test_lru_survives_the_end_of_the_clock),
        cmocka_unit_test(test_counts_fade),
        cmocka_unit_test(test_batches_do_not_matter),
        cmocka_unit_test(test_forecast_knows_both),
        cmocka_unit_test(test_pinned_never_lose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
