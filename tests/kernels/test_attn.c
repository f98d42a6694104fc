/* test_attn.c - attention and cache rows against their specification.
 *
 * Limits.  What a stored row holds is exact: all bytes equal.  Attention sums dots of up
 * to 512 terms and weights of up to thousands of rows in f32, in lanes and blocks, so an
 * output is off by a few times 2^-24 of the largest value that enters it: 2e-6 absolute
 * for values of about 1 is three times what we see.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "kernels/kt.h"

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof *(a)))

/* ---- storing ------------------------------------------------------------------------- */

/* A few rows of a cache: as many as one block of I16, which is as small as its cache is. */
static void check_store(const kt_env *env, const float *x, int64_t n) {
    const bool blocks = env->arg == TUG_KV_I16;
    const int64_t n_rows = blocks ? TUG_KV_BLOCK : 2, row = kt_rand_int(0, n_rows - 1);
    const size_t bytes = tug_kv_row_bytes((tug_kv_type)env->arg, n) * (size_t)n_rows;
    for (int values = 0; values < 2; values++) {
        void *cache = kt_buf(bytes, blocks ? 64 : 1),
             *want = kt_buf(bytes, blocks ? 64 : 1);
        tug_kv_store_fn *const *ref =
            values ? env->ref->kv_store_v : env->ref->kv_store_k;
        tug_kv_store_fn *const *k = values ? env->k->kv_store_v : env->k->kv_store_k;
        ref[env->arg](want, row, x, n);
        k[env->arg](cache, row, x, n);
        kt_same("cache", cache, want, bytes);
    }
    kt_release_all();
}

static void test_kv_store(const kt_env *env) {
    const bool any = env->arg != TUG_KV_Q8_0 && env->arg != TUG_KV_I16;
    const int64_t step = any ? 1 : 32;
    for (int64_t n = step; n <= 67 * step && n <= TUG_MAX_HEAD_DIM; n += step) {
        kt_shape("n=%lld", (long long)n);
        check_store(env, kt_normal(n, 1.0f), n);
        float *odd = kt_normal(n, 1e-3f);
        kt_spoil(odd, n, 6e4f);
        check_store(env, odd, n);
        float *ties = kt_floats(n); /* halves between two bytes, both signs */
        for (int64_t i = 0; i < n; i++) ties[i] = (float)kt_rand_int(-127, 126) + 0.5f;
        ties[0] = 127.0f;
        check_store(env, ties, n);
        check_store(env, kt_uniform(n, -1e-38f, 1e-38f), n);
        check_store(env, kt_uniform(n, 0.0f, 1e-41f), n);
    }
    kt_shape("beyond f16");
    float *x = kt_normal(64, 1.0f);
    x[5] = 1e30f;
    check_store(env, x, 64);
}

/* A NaN stays visible: as itself in f16, in the scale of its block in Q8_0. */
static void test_store_nan(const kt_env *env) {
    test_kv_store(env);
    kt_shape("NaN");
    float *x = kt_normal(32, 1.0f);
    x[7] = NAN;
    const size_t bytes = tug_kv_row_bytes((tug_kv_type)env->arg, 32);
    unsigned char *row = kt_buf(bytes, 1);
    env->k->kv_store_k[env->arg](row, 0, x, 32);
    const unsigned char *h = row + (env->arg == TUG_KV_F16 ? 14 : 0);
    kt_true((h[1] & 0x7C) == 0x7C && ((h[1] & 3) | h[0]) != 0, "no NaN in the row");
}

/* ---- attending ------------------------------------------------------------------------ */

typedef struct attn_case {
    tug_attn_args a;
    int64_t n_out;
} attn_case;

/* n_q queries over n_ctx rows; lengths as `lens` says, or all n_ctx. */
static attn_case make_attn(const kt_env *env, int64_t n_q, int64_t n_ctx, int head_dim,
                           const int32_t *lens) {
    const tug_kv_type type = (tug_kv_type)env->arg;
    const size_t row_bytes = tug_kv_row_bytes(type, head_dim);
    const int64_t stride = head_dim + 3;
    const bool blocks = type == TUG_KV_I16;
    const int64_t n_rows =
        blocks ? (n_ctx + TUG_KV_BLOCK - 1) / TUG_KV_BLOCK * TUG_KV_BLOCK : n_ctx;
    char *k = kt_buf((size_t)n_rows * row_bytes, blocks ? 64 : 1);
    char *v = kt_buf((size_t)n_rows * row_bytes, blocks ? 64 : 1);
    for (int64_t r = 0; r < n_ctx; r++) {
        float row[TUG_MAX_HEAD_DIM];
        for (int d = 0; d < head_dim; d++) row[d] = kt_rand(-2.0f, 2.0f);
        env->ref->kv_store_k[type](k, r, row, head_dim);
        for (int d = 0; d < head_dim; d++) row[d] = kt_rand(-2.0f, 2.0f);
        env->ref->kv_store_v[type](v, r, row, head_dim);
    }
    int32_t *q_len = kt_buf((size_t)n_q * sizeof *q_len, sizeof *q_len);
    for (int64_t i = 0; i < n_q; i++) q_len[i] = lens ? lens[i] : (int32_t)n_ctx;
    attn_case c = {.n_out = (n_q - 1) * stride + head_dim};
    c.a = (tug_attn_args){
        .out = kt_floats(c.n_out),
        .out_stride = stride,
        .q = kt_normal(c.n_out, 1.5f),
        .q_stride = stride,
        .q_len = q_len,
        .n_q = n_q,
        .k = k,
        .v = v,
        .row_bytes = row_bytes,
        .head_dim = head_dim,
        .scale = 1.0f / sqrtf((float)head_dim),
        .scratch = kt_buf(tug_attn_scratch_floats() * sizeof(float), 64),
    };
    return c;
}

/* Whether the kernel under test computes in int16: the f32 cache's is the same below. */
static bool in_int16(const kt_env *env) {
    tug_kernels avx2;
    tug_kernels_init_attn(&avx2, TUG_CPU_AVX2);
    return env->k->attn[env->arg] != avx2.attn[env->arg];
}

static void close_outputs(const kt_env *env, const tug_attn_args *a, const float *got,
                          const float *want) {
    double worst = 0;
    for (int64_t i = 0; i < a->n_q; i++) {
        const int64_t at = i * a->out_stride;
        worst = fmax(worst, kt_max_rel(got + at, want + at, a->head_dim, 1.0));
    }
    const double limit = in_int16(env) ? 1e-3 : 2e-6;
    kt_true(worst <= limit, "out: error %.2e, limit %.0e", worst, limit);
}

/* Each query alone gives the bits it gave among the others. */
static void check_alone(const kt_env *env, const attn_case *c) {
    tug_attn_args one = c->a;
    one.n_q = 1;
    one.out = kt_floats(c->n_out);
    bool same = true;
    for (int64_t i = 0; i < c->a.n_q; i++) {
        env->k->attn[env->arg](&one);
        same &= memcmp(one.out, c->a.out + i * c->a.out_stride,
                       (size_t)c->a.head_dim * sizeof(float)) == 0;
        one.out += one.out_stride;
        one.q += one.q_stride;
        one.q_len++;
    }
    kt_true(same, "a query alone differs from the same query among %lld",
            (long long)c->a.n_q);
}

static void check_attn(const kt_env *env, int64_t n_q, int64_t n_ctx, int head_dim,
                       const int32_t *lens) {
    kt_shape("%lld queries, %lld rows of %d", (long long)n_q, (long long)n_ctx, head_dim);
    const attn_case c = make_attn(env, n_q, n_ctx, head_dim, lens);
    tug_attn_args want = c.a;
    want.out = kt_floats(c.n_out);
    env->ref->attn[env->arg](&want);
    env->k->attn[env->arg](&c.a);
    close_outputs(env, &c.a, c.a.out, want.out);
    if (n_q > 1) check_alone(env, &c);
    kt_release_all();
}

/* As in prefill: `group` heads of each token, one more row for every token. */
static void check_prefill(const kt_env *env, int n_tok, int group, int64_t before,
                          int head_dim) {
    int32_t lens[300];
    for (int i = 0; i < n_tok * group; i++) lens[i] = (int32_t)(before + i / group + 1);
    check_attn(env, (int64_t)n_tok * group, before + n_tok, head_dim, lens);
}

/* Queries in any order, with lengths from 1 to all. */
static void check_any_order(const kt_env *env) {
    int32_t lens[33];
    for (int64_t i = 0; i < COUNT(lens); i++) lens[i] = (int32_t)kt_rand_int(1, 200);
    lens[3] = 1, lens[4] = 64, lens[5] = 65, lens[6] = 128;
    check_attn(env, COUNT(lens), 200, 64, lens);
}

static char *copy_cache(const kt_env *env, const void *cache, int64_t n_ctx,
                        size_t row_bytes) {
    if (env->arg != TUG_KV_I16) return kt_copy_bytes(cache, (size_t)n_ctx * row_bytes);
    const int64_t n_rows = (n_ctx + TUG_KV_BLOCK - 1) / TUG_KV_BLOCK * TUG_KV_BLOCK;
    char *copy = kt_buf((size_t)n_rows * row_bytes, 64);
    memcpy(copy, cache, (size_t)n_rows * row_bytes);
    return copy;
}

/* A row that a query may not see must not touch it, even if the row is NaN. */
static void check_unseen_rows(const kt_env *env) {
    enum { N_Q = 6, N_CTX = 70, DIM = 64 };
    const int32_t lens[N_Q] = {66, 66, 66, 66, 66, 70};
    const attn_case c = make_attn(env, N_Q, N_CTX, DIM, lens);
    kt_shape("a NaN in row 66");
    float *before = kt_floats(c.n_out);
    env->k->attn[env->arg](&c.a);
    memcpy(before, c.a.out, (size_t)c.n_out * sizeof(float));

    tug_attn_args bad = c.a;
    float row[DIM];
    for (int d = 0; d < DIM; d++) row[d] = NAN;
    char *k = copy_cache(env, c.a.k, N_CTX, c.a.row_bytes);
    char *v = copy_cache(env, c.a.v, N_CTX, c.a.row_bytes);
    env->k->kv_store_k[env->arg](k, 66, row, DIM);
    env->k->kv_store_v[env->arg](v, 66, row, DIM);
    bad.k = k;
    bad.v = v;
    env->k->attn[env->arg](&bad);
    for (int i = 0; i < 5; i++) {
        kt_same("out", c.a.out + i * c.a.out_stride, before + i * c.a.out_stride,
                DIM * sizeof(float));
    }
    kt_true(isnan(c.a.out[5 * c.a.out_stride]), "the query that sees the NaN has none");
    kt_release_all();
}

/* Scores of up to +-1e5 with one clear winner late in the context, and all rows alike. */
static void check_extreme_scores(const kt_env *env) {
    enum { N_CTX = 150, DIM = 64 };
    attn_case c = make_attn(env, 1, N_CTX, DIM, NULL);
    kt_shape("one row wins by far");
    float *q = kt_floats(DIM), row[DIM];
    char *k = copy_cache(env, c.a.k, N_CTX, c.a.row_bytes);
    for (int d = 0; d < DIM; d++) q[d] = 1000.0f, row[d] = 50.0f;
    env->k->kv_store_k[env->arg](k, 100, row, DIM);
    c.a.k = k;
    c.a.q = q;
    tug_attn_args want = c.a;
    want.out = kt_floats(c.n_out);
    env->ref->attn[env->arg](&want);
    env->k->attn[env->arg](&c.a);
    close_outputs(env, &c.a, c.a.out, want.out);

    kt_shape("all scores equal");
    memset(q, 0, DIM * sizeof *q);
    env->ref->attn[env->arg](&want);
    env->k->attn[env->arg](&c.a);
    close_outputs(env, &c.a, c.a.out, want.out);

    kt_shape("all rows at the bound of an integer sum");
    char *v = copy_cache(env, c.a.v, N_CTX, c.a.row_bytes);
    memset(row, 0, sizeof row);
    row[0] = -7.0f;
    for (int r = 0; r < N_CTX; r++) env->k->kv_store_v[env->arg](v, r, row, DIM);
    c.a.v = want.v = v;
    env->ref->attn[env->arg](&want);
    env->k->attn[env->arg](&c.a);
    close_outputs(env, &c.a, c.a.out, want.out);

    kt_shape("a NaN in the query");
    q[5] = NAN;
    env->k->attn[env->arg](&c.a);
    kt_true(isnan(c.a.out[0]), "the NaN is lost");
    kt_release_all();
}

static void test_attn(const kt_env *env) {
    const int dims[] = {32, 64, 96, 128, 160, 256, 512};
    for (int64_t i = 0; i < COUNT(dims); i++) {
        check_attn(env, 1, 1, dims[i], NULL);
        check_attn(env, 5, 67, dims[i], NULL);
        check_attn(env, 8, 130, dims[i], NULL);
    }
    for (int64_t n_ctx = 1; n_ctx <= 67; n_ctx++) check_attn(env, 3, n_ctx, 32, NULL);
    for (int n_q = 1; n_q <= 17; n_q++) check_attn(env, n_q, 70, 64, NULL);
    check_attn(env, 129 + 3, 65, 32, NULL); /* more than fit at once */
    check_attn(env, 8, 2048 + 3, 128, NULL);
    check_prefill(env, 5, 8, 60, 64);
    check_prefill(env, 40, 1, 100, 32);
    check_prefill(env, 16, 8, 0, 256);
    check_any_order(env);
    check_unseen_rows(env);
    check_extreme_scores(env);
}

int main(int argc, char **argv) {
    static const kt_test tests[] = {
        KT_TEST(kv_store_k[TUG_KV_F32], test_kv_store, TUG_KV_F32),
        KT_TEST(kv_store_k[TUG_KV_F16], test_store_nan, TUG_KV_F16),
        KT_TEST(kv_store_k[TUG_KV_Q8_0], test_store_nan, TUG_KV_Q8_0),
        KT_TEST(kv_store_k[TUG_KV_I16], test_kv_store, TUG_KV_I16),
        KT_TEST(attn[TUG_KV_F32], test_attn, TUG_KV_F32),
        KT_TEST(attn[TUG_KV_F16], test_attn, TUG_KV_F16),
        KT_TEST(attn[TUG_KV_Q8_0], test_attn, TUG_KV_Q8_0),
        KT_TEST(attn[TUG_KV_I16], test_attn, TUG_KV_I16),
    };
    return kt_main(argc, argv, "attn", tug_kernels_init_attn, tests, (int)COUNT(tests));
}
