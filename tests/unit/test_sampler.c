/* test_sampler.c - the sampler against a slow, obvious reference: exact probabilities of
 * a small vocabulary, then many seeded draws and a chi-square test.
 * SPDX-License-Identifier: MIT */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tug.h"

enum { N_VOCAB = 24, N_DRAWS = 40000, BIG_VOCAB = 151936 };

static const tug_sampler_params plain = {.temperature = 1.0f,
                                         .top_p = 1.0f,
                                         .repeat_penalty = 1.0f,
                                         .penalty_last_n = 64,
                                         .seed = 7};

static tug_sampler *make(const tug_sampler_params *p, int64_t n_vocab) {
    tug_sampler *s = NULL;
    tug_err err;
    assert_int_equal(tug_sampler_create(&s, n_vocab, p, &err), TUG_OK);
    return s;
}

static void accept(tug_sampler *s, int32_t id) {
    assert_int_equal(tug_sampler_accept(s, id, NULL), TUG_OK);
}

/* Fixed logits with a few exact ties. */
static void fill_logits(float *logits, int64_t n) {
    tug_rng rng;
    tug_rng_seed(&rng, 42);
    for (int64_t i = 0; i < n; i++) logits[i] = (float)(8.0 * tug_rng_unit(&rng) - 3.0);
    logits[5] = logits[2];
    logits[9] = logits[2];
}

/* ---- the reference: probabilities of every id ---------------------------------------- */

static const float *sort_key;

static int by_logit(const void *a, const void *b) {
    const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (sort_key[i] != sort_key[j]) return sort_key[i] > sort_key[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

static void normalise(double *p, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += p[i];
    for (int64_t i = 0; i < n; i++) p[i] /= sum;
}

static void reference(const tug_sampler_params *params, const float *logits, int64_t n,
                      double *prob) {
    int32_t *order = malloc((size_t)n * sizeof *order);
    float largest = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        order[i] = (int32_t)i;
        if (logits[i] > largest) largest = logits[i];
    }
    sort_key = logits;
    qsort(order, (size_t)n, sizeof *order, by_logit);
    for (int64_t i = 0; i < n; i++) {
        prob[i] =
            exp(((double)logits[i] - (double)largest) / (double)params->temperature);
    }
    normalise(prob, n);
    if (params->top_k > 0) {
        for (int64_t i = params->top_k; i < n; i++) prob[order[i]] = 0;
        normalise(prob, n);
    }
    if (params->top_p < 1.0f) {
        double before = 0;
        for (int64_t i = 0; i < n; i++) {
            const double p = prob[order[i]];
            if (i > 0 && before >= (double)params->top_p) prob[order[i]] = 0;
            before += p;
        }
        normalise(prob, n);
    }
    if (params->min_p > 0.0f) {
        const double least = (double)params->min_p * prob[order[0]];
        for (int64_t i = 1; i < n; i++) {
            if (prob[order[i]] < least) prob[order[i]] = 0;
        }
        normalise(prob, n);
    }
    free(order);
}

/* Draws many tokens; no impossible one may appear and the counts must fit.  The limit is
 * the 99.99 % quantile of chi-square with `df` degrees (Wilson and Hilferty); seeds are
 * fixed, so it either always holds or never. */
static void expect_distribution(const tug_sampler_params *params, const float *logits) {
    double prob[N_VOCAB];
    int count[N_VOCAB] = {0};
    reference(params, logits, N_VOCAB, prob);
    tug_sampler *s = make(params, N_VOCAB);
    for (int i = 0; i < N_DRAWS; i++) count[tug_sampler_pick(s, logits)]++;
    tug_sampler_destroy(&s);
    double chi2 = 0;
    int df = -1;
    for (int i = 0; i < N_VOCAB; i++) {
        if (prob[i] == 0.0) {
            assert_int_equal(count[i], 0);
            continue;
        }
        const double expected = prob[i] * N_DRAWS, d = count[i] - expected;
        chi2 += d * d / expected;
        df++;
    }
    if (df == 0) return;
    const double k = 2.0 / (9.0 * df), root = 1.0 - k + 3.719 * sqrt(k);
    if (chi2 > df * root * root * root)
        fail_msg("chi-square %.1f with %d degrees", chi2, df);
}

/* ---- tests --------------------------------------------------------------------------- */

static void test_filters_give_exact_distributions(void **state) {
    (void)state;
    static const struct {
        float temperature;
        int32_t top_k;
        float top_p, min_p;
    } cases[] = {
        {1.0f, 0, 1.0f, 0.0f},    {0.5f, 0, 1.0f, 0.0f},   {2.0f, 0, 1.0f, 0.0f},
        {1.0f, 1, 1.0f, 0.0f},    {1.0f, 5, 1.0f, 0.0f},   {1.0f, 100, 1.0f, 0.0f},
        {1.0f, 0, 0.0f, 0.0f},    {1.0f, 0, 0.5f, 0.0f},   {1.0f, 0, 0.95f, 0.0f},
        {1.0f, 0, 0.9999f, 0.0f}, {1.0f, 0, 1.0f, 0.05f},  {1.0f, 0, 1.0f, 1.0f},
        {1.0f, 40, 0.95f, 0.0f},  {0.7f, 20, 0.8f, 0.05f}, {1.5f, 8, 0.9f, 0.1f},
        {3.0f, 12, 0.7f, 0.0f},
    };
    float logits[N_VOCAB];
    fill_logits(logits, N_VOCAB);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tug_sampler_params p = plain;
        p.temperature = cases[i].temperature;
        p.top_k = cases[i].top_k;
        p.top_p = cases[i].top_p;
        p.min_p = cases[i].min_p;
        p.seed = 100 + i;
        expect_distribution(&p, logits);
    }
}

/* A nucleus larger than the first guesses: every id that is drawn must be in the
 * reference's set, and the set must be used to its end. */
static void test_large_nucleus(void **state) {
    (void)state;
    const int64_t n = 20000;
    float *logits = malloc((size_t)n * sizeof *logits);
    double *prob = malloc((size_t)n * sizeof *prob);
    for (int64_t i = 0; i < n; i++) logits[i] = -0.0002f * (float)i;
    tug_sampler_params p = plain;
    p.top_p = 0.9f;
    reference(&p, logits, n, prob);
    int32_t last = 0, largest = 0;
    for (int32_t i = 0; i < n; i++) last = prob[i] > 0 ? i : last;
    assert_true(last > 4096);
    tug_sampler *s = make(&p, n);
    for (int i = 0; i < 300; i++) {
        const int32_t id = tug_sampler_pick(s, logits);
        assert_true(prob[id] > 0);
        largest = id > largest ? id : largest;
    }
    assert_true(largest > last * 9 / 10);
    tug_sampler_destroy(&s);
    free(prob);
    free(logits);
}

static void test_greedy_takes_the_first_of_equals(void **state) {
    (void)state;
    tug_sampler_params p = plain;
    p.temperature = 0.0f;
    tug_sampler *s = make(&p, 4);
    assert_int_equal(tug_sampler_pick(s, (const float[]){1, 3, 3, 2}), 1);
    assert_int_equal(tug_sampler_pick(s, (const float[]){-5, -5, -5, -5}), 0);
    tug_sampler_destroy(&s);
}

static void test_top_k_keeps_the_first_of_equals(void **state) {
    (void)state;
    tug_sampler_params p = plain;
    p.top_k = 2;
    tug_sampler *s = make(&p, 6);
    const float logits[] = {0, 1, 0, 1, 1, 1};
    for (int i = 0; i < 200; i++) {
        const int32_t id = tug_sampler_pick(s, logits);
        assert_true(id == 1 || id == 3);
    }
    tug_sampler_destroy(&s);
}

/* Vocabularies around whole blocks of the scan, with ties, NaN and infinities in them: the
 * first of the largest, and nobody who is not among the first k of the order. */
static void test_blocks_of_the_scan(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 255, 256, 257, 511, 512, 513, 700, 1025};
    enum { ROUNDS = 40, K = 20 };
    tug_rng rng;
    tug_rng_seed(&rng, 5);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes * ROUNDS; i++) {
        const int64_t n = sizes[i / ROUNDS];
        float *logits = malloc((size_t)n * sizeof *logits);
        float *clean = malloc((size_t)n * sizeof *clean);
        double *prob = malloc((size_t)n * sizeof *prob);
        int32_t best = 0;
        for (int64_t id = 0; id < n; id++) {
            const int kind = (int)(60 * tug_rng_unit(&rng));
            logits[id] = kind == 0   ? NAN
                         : kind == 1 ? -INFINITY
                         : kind == 2 ? -0.0f
                                     : (float)(int)(40 * tug_rng_unit(&rng) - 30);
            clean[id] = isnan(logits[id]) ? -INFINITY : logits[id];
            if (clean[id] > clean[best]) best = (int32_t)id;
        }
        tug_sampler_params p = plain;
        p.temperature = 0.0f;
        tug_sampler *s = make(&p, n);
        assert_int_equal(tug_sampler_pick(s, logits), best);
        tug_sampler_destroy(&s);
        p.temperature = 4.0f;
        p.top_k = n < K ? (int)n : K;
        reference(&p, clean, n, prob);
        s = make(&p, n);
        for (int draw = 0; clean[best] > -INFINITY && draw < 30; draw++) {
            assert_true(prob[tug_sampler_pick(s, logits)] > 0);
        }
        tug_sampler_destroy(&s);
        free(logits);
        free(clean);
        free(prob);
    }
}

static void test_seed_decides(void **state) {
    (void)state;
    float logits[N_VOCAB];
    fill_logits(logits, N_VOCAB);
    tug_sampler_params p = plain;
    tug_sampler *a = make(&p, N_VOCAB), *b = make(&p, N_VOCAB);
    p.seed++;
    tug_sampler *c = make(&p, N_VOCAB);
    int differ = 0;
    for (int i = 0; i < 500; i++) {
        const int32_t id = tug_sampler_pick(a, logits);
        assert_int_equal(id, tug_sampler_pick(b, logits));
        differ += id != tug_sampler_pick(c, logits);
    }
    assert_true(differ > 100);
    tug_sampler_destroy(&a);
    tug_sampler_destroy(&b);
    tug_sampler_destroy(&c);
}

/* Greedy makes the penalised row visible: the pick tells which logit is largest. */
static void test_penalties(void **state) {
    (void)state;
    tug_sampler_params p = plain;
    p.temperature = 0.0f;

    p.repeat_penalty = 2.0f; /* divides positive logits, multiplies negative ones */
    tug_sampler *s = make(&p, 3);
    accept(s, 0);
    assert_int_equal(tug_sampler_pick(s, (const float[]){4.0f, 2.1f, 0.0f}), 1);
    assert_int_equal(tug_sampler_pick(s, (const float[]){4.0f, 1.9f, 0.0f}), 0);
    assert_int_equal(tug_sampler_pick(s, (const float[]){-2.0f, -3.9f, -9.0f}), 1);
    assert_int_equal(tug_sampler_pick(s, (const float[]){-2.0f, -4.1f, -9.0f}), 0);
    tug_sampler_destroy(&s);

    p.repeat_penalty = 1.0f;
    p.presence_penalty = 1.0f; /* once, however often the token was seen */
    s = make(&p, 3);
    for (int i = 0; i < 3; i++) accept(s, 0);
    assert_int_equal(tug_sampler_pick(s, (const float[]){4.0f, 3.1f, 0.0f}), 1);
    assert_int_equal(tug_sampler_pick(s, (const float[]){4.0f, 2.9f, 0.0f}), 0);
    tug_sampler_destroy(&s);

    p.presence_penalty = 0.0f;
    p.frequency_penalty = 0.5f; /* per occurrence */
    s = make(&p, 3);
    for (int i = 0; i < 3; i++) accept(s, 0);
    assert_int_equal(tug_sampler_pick(s, (const float[]){4.0f, 2.6f, 0.0f}), 1);
    assert_int_equal(tug_sampler_pick(s, (const float[]){4.0f, 2.4f, 0.0f}), 0);
    tug_sampler_destroy(&s);
}

static void test_penalty_window_forgets(void **state) {
    (void)state;
    const float logits[] = {1.0f, 0.9f, 0.0f, 0.0f};
    tug_sampler_params p = plain;
    p.temperature = 0.0f;
    p.presence_penalty = 0.5f;
    p.penalty_last_n = 2;
    tug_sampler *s = make(&p, 4);
    accept(s, 0);
    accept(s, 0);
    assert_int_equal(tug_sampler_pick(s, logits), 1);
    accept(s, 2);
    assert_int_equal(tug_sampler_pick(s, logits), 1); /* one 0 is still in the window */
    accept(s, 3);
    assert_int_equal(tug_sampler_pick(s, logits), 0);
    tug_sampler_destroy(&s);

    p.penalty_last_n = -1; /* all */
    s = make(&p, 4);
    accept(s, 0);
    for (int i = 0; i < 5000; i++) accept(s, 2);
    assert_int_equal(tug_sampler_pick(s, logits), 1);
    tug_sampler_destroy(&s);

    p.penalty_last_n = 0; /* looks back on nothing */
    s = make(&p, 4);
    accept(s, 0);
    assert_int_equal(tug_sampler_pick(s, logits), 0);
    tug_sampler_destroy(&s);
}

static void test_sick_logits_have_a_result(void **state) {
    (void)state;
    static const tug_sampler_params modes[] = {
        {.temperature = 0, .top_p = 1, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 1, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 1},
        {.temperature = 1e-30f, .top_p = 1, .repeat_penalty = 1},
        {.temperature = 1, .top_k = 2, .top_p = 0.9f, .min_p = 0.1f, .repeat_penalty = 1},
        {.temperature = 1,
         .top_k = 2,
         .top_p = 1,
         .repeat_penalty = 1e-30f,
         .penalty_last_n = -1},
    };
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        tug_sampler *s = make(&modes[m], 4);
        accept(s, 2);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(tug_sampler_pick(s, (const float[]){NAN, NAN, NAN, NAN}), 0);
            assert_int_equal(tug_sampler_pick(s, (const float[]){-INFINITY, -INFINITY,
                                                                 -INFINITY, -INFINITY}),
                             0);
            assert_int_equal(
                tug_sampler_pick(s, (const float[]){NAN, -INFINITY, -3, NAN}), 2);
            /* The sign of what is no number says nothing. */
            assert_int_equal(tug_sampler_pick(s, (const float[]){-NAN, -NAN, -3, -NAN}),
                             2);
            assert_int_equal(tug_sampler_pick(s, (const float[]){-NAN, -NAN, -NAN, -NAN}),
                             0);
            assert_int_equal(tug_sampler_pick(s, (const float[]){1, 2, INFINITY, NAN}),
                             2);
            assert_int_equal(
                tug_sampler_pick(s, (const float[]){-FLT_MAX, 0, FLT_MAX, 0}), 2);
        }
        tug_sampler_destroy(&s);
    }
}

static void refuse(tug_sampler_params p, int64_t n_vocab, const char *word) {
    tug_sampler *s = NULL;
    tug_err err = {.msg = ""};
    assert_int_equal(tug_sampler_create(&s, n_vocab, &p, &err), TUG_ERANGE);
    assert_null(s);
    assert_non_null(strstr(err.msg, word));
}

static void test_bad_parameters_are_named(void **state) {
    (void)state;
    tug_sampler_params p = plain;
    refuse(p, 0, "vocabulary");
    refuse(p, INT64_MAX, "vocabulary");
    p.temperature = NAN, refuse(p, 4, "temperature"), p = plain;
    p.temperature = INFINITY, refuse(p, 4, "temperature"), p = plain;
    p.top_p = -0.1f, refuse(p, 4, "top_p"), p = plain;
    p.top_p = NAN, refuse(p, 4, "top_p"), p = plain;
    p.min_p = 1.5f, refuse(p, 4, "min_p"), p = plain;
    p.repeat_penalty = 0, refuse(p, 4, "repeat_penalty"), p = plain;
    p.presence_penalty = NAN, refuse(p, 4, "presence_penalty"), p = plain;
    p.penalty_last_n = -2, refuse(p, 4, "penalty_last_n"), p = plain;
    p.penalty_last_n = INT32_MAX, refuse(p, 4, "penalty_last_n");

    tug_sampler *s = make(&plain, 4);
    tug_err err = {.msg = ""};
    assert_int_equal(tug_sampler_accept(s, 4, &err), TUG_ERANGE);
    assert_int_equal(tug_sampler_accept(s, -1, &err), TUG_ERANGE);
    assert_non_null(strstr(err.msg, "-1"));
    tug_sampler_destroy(&s);
    tug_sampler_destroy(&s); /* twice is fine */
}

static void test_big_vocabulary(void **state) {
    (void)state;
    float *logits = malloc(BIG_VOCAB * sizeof *logits);
    double *prob = malloc(BIG_VOCAB * sizeof *prob);
    fill_logits(logits, BIG_VOCAB);
    tug_sampler_params p = plain;
    p.top_k = 40;
    p.top_p = 0.95f;
    reference(&p, logits, BIG_VOCAB, prob);
    tug_sampler *s = make(&p, BIG_VOCAB);
    for (int i = 0; i < 200; i++) assert_true(prob[tug_sampler_pick(s, logits)] > 0);
    tug_sampler_destroy(&s);
    free(prob);
    free(logits);
}

/* ---- a rule over tokens, biases -------------------------------------------------------- */

typedef struct rule {
    bool allowed[N_VOCAB];
    int asked[N_VOCAB];
    int n_asked;
} rule;

static bool is_allowed(void *ud, int32_t id) {
    rule *const r = ud;
    assert_in_range(id, 0, N_VOCAB - 1);
    r->asked[id]++;
    r->n_asked++;
    return r->allowed[id];
}

/* A rule that refuses nothing changes nothing, also not the random numbers. */
static void test_rule_that_allows_all(void **state) {
    (void)state;
    float logits[N_VOCAB];
    fill_logits(logits, N_VOCAB);
    rule all = {.n_asked = 0};
    for (int i = 0; i < N_VOCAB; i++) all.allowed[i] = true;
    for (float t = 0.0f; t < 2.0f; t += 0.7f) {
        tug_sampler_params p = plain;
        p.temperature = t;
        p.top_k = 7;
        tug_sampler *a = make(&p, N_VOCAB), *b = make(&p, N_VOCAB);
        all.n_asked = 0;
        for (int i = 0; i < 500; i++) {
            assert_int_equal(tug_sampler_pick(a, logits),
                             tug_sampler_pick_where(b, logits, is_allowed, &all));
        }
        assert_int_equal(all.n_asked, 500); /* one question for a token */
        tug_sampler_destroy(&a);
        tug_sampler_destroy(&b);
    }
}

/* Draws until allowed are draws among the allowed ones of the candidates. */
static void test_rule_gives_the_conditional_distribution(void **state) {
    (void)state;
    float logits[N_VOCAB];
    double prob[N_VOCAB];
    int count[N_VOCAB] = {0};
    fill_logits(logits, N_VOCAB);
    tug_sampler_params p = plain;
    p.top_k = 10;
    p.temperature = 1.5f;
    reference(&p, logits, N_VOCAB, prob);
    rule r = {.n_asked = 0};
    for (int i = 0; i < N_VOCAB; i++) {
        r.allowed[i] = i % 2 == 0;
        if (!r.allowed[i]) prob[i] = 0;
    }
    normalise(prob, N_VOCAB);
    tug_sampler *s = make(&p, N_VOCAB);
    for (int i = 0; i < N_DRAWS; i++) {
        count[tug_sampler_pick_where(s, logits, is_allowed, &r)]++;
    }
    tug_sampler_destroy(&s);
    for (int i = 0; i < N_VOCAB; i++) {
        const double expected = prob[i] * N_DRAWS;
        assert_true(fabs(count[i] - expected) <= 5 * sqrt(expected) + 1e-9);
    }
}

/* Outside of top-k the allowed token with the largest logit is taken; each is asked once,
 * or twice when it was a candidate; none allowed: -1. */
static void test_rule_beyond_the_candidates(void **state) {
    (void)state;
    float logits[N_VOCAB];
    fill_logits(logits, N_VOCAB);
    for (float t = 0.0f; t < 2.0f; t += 1.0f) {
        tug_sampler_params p = plain;
        p.temperature = t;
        p.top_k = 3;
        tug_sampler *s = make(&p, N_VOCAB);
        rule r = {.n_asked = 0};
        assert_int_equal(tug_sampler_pick_where(s, logits, is_allowed, &r), -1);
        for (int i = 0; i < N_VOCAB; i++) assert_in_range(r.asked[i], 1, 2);
        int32_t second = -1, least = 0;
        for (int32_t i = 1; i < N_VOCAB; i++) {
            if (logits[i] < logits[least]) least = i;
        }
        r.allowed[least] = true;
        assert_int_equal(tug_sampler_pick_where(s, logits, is_allowed, &r), least);
        for (int32_t i = 0; i < N_VOCAB; i++) {
            if (i != least && (second < 0 || logits[i] < logits[second])) second = i;
        }
        r.allowed[second] = true; /* the better of two outside */
        assert_int_equal(tug_sampler_pick_where(s, logits, is_allowed, &r), second);
        tug_sampler_destroy(&s);
    }
}

/* What is banned stays banned, even where the rule allows nothing else. */
static void test_rule_and_impossible_tokens(void **state) {
    (void)state;
    float logits[N_VOCAB];
    fill_logits(logits, N_VOCAB);
    for (int i = 0; i < 12; i++) logits[i] = i % 2 ? NAN : -INFINITY;
    for (float t = 0.0f; t < 2.0f; t += 1.0f) {
        tug_sampler_params p = plain;
        p.temperature = t;
        tug_sampler *s = make(&p, N_VOCAB);
        rule r = {.n_asked = 0};
        for (int i = 0; i < 12; i++) r.allowed[i] = true;
        assert_int_equal(tug_sampler_pick_where(s, logits, is_allowed, &r), -1);
        tug_sampler_destroy(&s);
    }
}

static void test_bias_is_added_first(void **state) {
    (void)state;
    float logits[N_VOCAB], biased[N_VOCAB];
    fill_logits(logits, N_VOCAB);
    const tug_logit_bias bias[] = {{3, 2.5f}, {7, -1.0f}, {3, 0.5f}, {0, -INFINITY}};
    memcpy(biased, logits, sizeof biased);
    for (size_t i = 0; i < 4; i++) biased[bias[i].id] += bias[i].bias;
    tug_sampler_params p = plain, with = plain;
    p.top_k = with.top_k = 9;
    p.repeat_penalty = with.repeat_penalty = 1.5f;
    with.bias = bias;
    with.n_bias = 4;
    tug_sampler *a = make(&p, N_VOCAB), *b = make(&with, N_VOCAB);
    accept(a, 3);
    accept(b, 3);
    for (int i = 0; i < 1000; i++) {
        const int32_t id = tug_sampler_pick(b, logits);
        assert_int_equal(tug_sampler_pick(a, biased), id);
        assert_int_not_equal(id, 0);
    }
    tug_sampler_destroy(&a);
    tug_sampler_destroy(&b);

    tug_logit_bias copied = {11, 100.0f};
    with = plain;
    with.bias = &copied;
    with.n_bias = 1;
    a = make(&with, N_VOCAB);
    copied.id = 2; /* the sampler has its own */
    assert_int_equal(tug_sampler_pick(a, logits), 11);
    tug_sampler_destroy(&a);
}

static void test_bad_biases_are_named(void **state) {
    (void)state;
    static const tug_logit_bias bad[] = {{-1, 1}, {4, 1}, {0, NAN}};
    for (size_t i = 0; i < 3; i++) {
        tug_sampler_params p = plain;
        p.bias = &bad[i];
        p.n_bias = 1;
        refuse(p, 4, "logit_bias");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters_give_exact_distributions),
        cmocka_unit_test(test_large_nucleus),
        cmocka_unit_test(test_greedy_takes_the_first_of_equals),
        cmocka_unit_test(test_top_k_keeps_the_first_of_equals),
        cmocka_unit_test(test_blocks_of_the_scan),
        cmocka_unit_test(test_seed_decides),
        cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_penalty_window_forgets),
        cmocka_unit_test(test_sick_logits_have_a_result),
        cmocka_unit_test(test_bad_parameters_are_named),
        cmocka_unit_test(test_big_vocabulary),
        cmocka_unit_test(test_rule_that_allows_all),
        cmocka_unit_test(test_rule_gives_the_conditional_distribution),
        cmocka_unit_test(test_rule_beyond_the_candidates),
        cmocka_unit_test(test_rule_and_impossible_tokens),
        cmocka_unit_test(test_bias_is_added_first),
        cmocka_unit_test(test_bad_biases_are_named),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
