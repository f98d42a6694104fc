/* test_rows.c - row and element kernels against their specification.
 *
 * Limits.  The SIMD versions sum squares in double and evaluate exp to about 1 ulp, so a
 * result differs from the double specification by a few float roundings: 1e-6 relative
 * (8 ulp) everywhere, and NMSE 1e-12 (1e-6 squared).  Kernels without a sum or exp get
 * half of that.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "kernels/kt.h"

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof *(a)))

static const double few_ulp = 1e-6, one_ulp = 2.5e-7;

/* Every length that exercises a different tail, then those of real models. */
static const int64_t long_rows[] = {96, 128, 256, 512, 2048, 2048 + 3};
enum { SHORT_ROWS = 67 };

static int64_t n_lengths(void) {
    return SHORT_ROWS + COUNT(long_rows);
}

static int64_t length(int64_t i) {
    return i < SHORT_ROWS ? i + 1 : long_rows[i - SHORT_ROWS];
}

/* Inputs of three kinds: as in a model, with odd values among them, and one NaN. */
enum { PLAIN, ODD, WITH_NAN, KINDS };

static float *input(int64_t n, float deviation, int kind, float big) {
    float *x = kt_normal(n, deviation);
    if (kind == ODD) kt_spoil(x, n, big);
    if (kind == WITH_NAN) x[kt_rand_int(0, n - 1)] = NAN;
    return x;
}

typedef void one_case_fn(const kt_env *env, int64_t n, int kind);

static void for_all_cases(const kt_env *env, one_case_fn *one) {
    for (int kind = 0; kind < KINDS; kind++) {
        for (int64_t i = 0; i < n_lengths(); i++) {
            kt_shape("n=%lld kind=%d", (long long)length(i), kind);
            one(env, length(i), kind);
            kt_release_all();
        }
    }
}

/* Equal where the reference is a number, NaN or infinite exactly where it is not. */
static void check(const char *what, const float *got, const float *want, int64_t n,
                  double rel) {
    kt_close(what, got, want, n, rel, 1e-31); /* a subnormal result may be 0 */
}

static void one_rmsnorm(const kt_env *env, int64_t n, int kind) {
    const float *x = input(n, 3.0f, kind, 1e30f), *w = kt_normal(n, 1.0f);
    float *y = kt_floats(n), *want = kt_floats(n), *in_place = kt_copy(x, n);
    env->ref->rmsnorm(want, x, w, n, 1e-6f);
    env->k->rmsnorm(y, x, w, n, 1e-6f);
    env->k->rmsnorm(in_place, in_place, w, n, 1e-6f);
    check("y", y, want, n, few_ulp);
    kt_same("in place", in_place, y, (size_t)n * sizeof *y);
}

static void one_l2norm(const kt_env *env, int64_t n, int kind) {
    float *x = input(n, 0.5f, kind, 1e30f), *want = kt_copy(x, n);
    env->ref->l2norm(want, n, 1e-6f, 0.088388f);
    env->k->l2norm(x, n, 1e-6f, 0.088388f);
    check("x", x, want, n, few_ulp);
}

static void one_add(const kt_env *env, int64_t n, int kind) {
    float *x = input(n, 1.0f, kind, 1e30f), *want = kt_copy(x, n);
    const float *y = input(n, 1.0f, kind, 1e30f);
    env->ref->add(want, y, n);
    env->k->add(x, y, n);
    check("x", x, want, n, 0);
}

static void one_axpy(const kt_env *env, int64_t n, int kind) {
    float *y = input(n, 1.0f, kind, 1e30f), *want = kt_copy(y, n);
    const float *x = input(n, 1.0f, kind, 1e30f);
    env->ref->axpy(want, x, 0.3f, n);
    env->k->axpy(y, x, 0.3f, n);
    check("y", y, want, n, one_ulp);
}

static void one_swiglu(const kt_env *env, int64_t n, int kind) {
    /* Deviation 20: from saturated to linear, in one row. */
    float *gate = input(n, 20.0f, kind, 1e30f), *up = kt_normal(n, 1.0f);
    float *h = kt_floats(n), *want = kt_floats(n);
    env->ref->swiglu(want, gate, up, n);
    env->k->swiglu(h, gate, up, n);
    check("h", h, want, n, few_ulp);
    float *over_up = kt_copy(up, n);
    env->k->swiglu(over_up, gate, over_up, n);
    kt_same("h is up", over_up, h, (size_t)n * sizeof *h);
    env->k->swiglu(gate, gate, up, n);
    kt_same("h is gate", gate, h, (size_t)n * sizeof *h);
}

static void one_sigmoid_mul(const kt_env *env, int64_t n, int kind) {
    const float *gate = input(n, 20.0f, kind, 1e30f);
    float *y = kt_normal(n, 1.0f), *want = kt_copy(y, n);
    env->ref->sigmoid_mul(want, gate, n);
    env->k->sigmoid_mul(y, gate, n);
    check("y", y, want, n, few_ulp);
}

static void one_rope(const kt_env *env, int64_t n, int kind) {
    float *x = input(2 * n, 1.0f, kind, 1e30f), *want = kt_copy(x, 2 * n);
    float *cosine = kt_floats(n), *sine = kt_floats(n);
    for (int64_t i = 0; i < n; i++) {
        const float angle = kt_rand(-3.14159f, 3.14159f);
        cosine[i] = cosf(angle);
        sine[i] = sinf(angle);
    }
    env->ref->rope(want, cosine, sine, n);
    env->k->rope(x, cosine, sine, n);
    /* a cos - b sin may cancel: the error is relative to a and b, not to the result. */
    kt_close("x", x, want, 2 * n, one_ulp, kind == ODD ? 1e30 : 8.0);
}

/* exp over its whole range, through sigmoid_mul of ones. */
static void check_sigmoid_range(const kt_env *env) {
    enum { N = 4096 };
    float *gate = kt_floats(N), *y = kt_floats(N), *want = kt_floats(N);
    for (int scale = -20; scale <= 7; scale++) {
        kt_shape("gates up to 2^%d", scale);
        for (int i = 0; i < N; i++) {
            gate[i] = ldexpf(kt_rand(-1.0f, 1.0f), scale);
            y[i] = want[i] = 1.0f;
        }
        env->ref->sigmoid_mul(want, gate, N);
        env->k->sigmoid_mul(y, gate, N);
        check("sigmoid", y, want, N, few_ulp);
    }
}

static void test_rmsnorm(const kt_env *env) {
    for_all_cases(env, one_rmsnorm);
}
static void test_l2norm(const kt_env *env) {
    for_all_cases(env, one_l2norm);
}
static void test_add(const kt_env *env) {
    for_all_cases(env, one_add);
}
static void test_axpy(const kt_env *env) {
    for_all_cases(env, one_axpy);
}
static void test_swiglu(const kt_env *env) {
    for_all_cases(env, one_swiglu);
}
static void test_sigmoid_mul(const kt_env *env) {
    check_sigmoid_range(env);
    for_all_cases(env, one_sigmoid_mul);
}
static void test_rope(const kt_env *env) {
    for_all_cases(env, one_rope);
}

/* The definition, written another way: k times the best that is left. */
static void route_slowly(int32_t *ids, float *weights, const float *logits, int n,
                         int k) {
    bool taken[2048] = {false};
    double sum = 0, max = -INFINITY;
    for (int j = 0; j < k; j++) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            if (!taken[i] && (best < 0 || logits[i] > logits[best])) best = i;
        }
        taken[best] = true;
        max = fmax(max, (double)logits[best]);
    }
    for (int i = 0, j = 0; i < n; i++) {
        if (!taken[i]) continue;
        sum += exp((double)logits[i] - max);
        ids[j++] = i;
    }
    for (int j = 0; j < k; j++) {
        weights[j] = (float)(exp((double)logits[ids[j]] - max) / sum);
    }
}

static void one_route(const kt_env *env, int n, int k, bool ties) {
    kt_shape("%d of %d%s", k, n, ties ? ", ties" : "");
    float *logits = kt_normal(n, 2.0f);
    if (ties) {
        for (int i = 0; i < n; i++) logits[i] = (float)kt_rand_int(-2, 2);
    }
    int32_t *ids = kt_buf((size_t)k * sizeof *ids, 4);
    int32_t *want_ids = kt_buf((size_t)k * sizeof *want_ids, 4);
    float *weights = kt_floats(k), *want = kt_floats(k);
    route_slowly(want_ids, want, logits, n, k);
    env->k->route(ids, weights, logits, n, k);
    kt_same("ids", ids, want_ids, (size_t)k * sizeof *ids);
    check("weights", weights, want, k, few_ulp);

    for (int i = 0; i < n; i += 2) logits[i] = NAN;
    env->k->route(ids, weights, logits, n, k);
    bool valid = true;
    for (int j = 0; j < k; j++) {
        valid &= ids[j] >= 0 && ids[j] < n && (j == 0 || ids[j] > ids[j - 1]);
    }
    kt_true(valid, "a NaN among the logits gives ids out of range or order");
    kt_release_all();
}

static void test_route(const kt_env *env) {
    const int shapes[][2] = {{1, 1},   {2, 2},    {8, 2},    {16, 16},  {60, 4},
                             {256, 8}, {512, 10}, {512, 64}, {2048, 33}};
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        one_route(env, shapes[i][0], shapes[i][1], false);
        one_route(env, shapes[i][0], shapes[i][1], true);
    }
}

int main(int argc, char **argv) {
    static const kt_test tests[] = {
        KT_TEST(rmsnorm, test_rmsnorm, 0), KT_TEST(l2norm, test_l2norm, 0),
        KT_TEST(add, test_add, 0),         KT_TEST(axpy, test_axpy, 0),
        KT_TEST(swiglu, test_swiglu, 0),   KT_TEST(sigmoid_mul, test_sigmoid_mul, 0),
        KT_TEST(rope, test_rope, 0),       KT_TEST(route, test_route, 0),
    };
    return kt_main(argc, argv, "rows", tug_kernels_init_rows, tests, (int)COUNT(tests));
}
