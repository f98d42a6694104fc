/* test_attn_op.c - the attention op of the CPU backend: one result, bit for bit, whether a
 * context is computed in one prefill, in batches or token by token, by how many threads,
 * and in whatever rounds of chunks.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "backend/backend.h"
#include "base/rng.h"
#include "base/sys.h"

enum {
    N_TOK = 1700, /* three chunks and a bit */
    N_ROWS = 1728,
    LAST = 128, /* tokens compared */
    MAX_STRIDE = 1024
};

/* Two query heads per kv head; and so many queries at once that the parts of four chunks
 * do not fit together. */
static const tug_attn_shape shapes[] = {{4, 2, 64, 64, 1e-6f}, {8, 8, 32, 32, 1e-6f}};

static int64_t stride_of(const tug_attn_shape *s) {
    return 2L * (s->n_head + s->n_kv_head) * s->head_dim;
}

static int64_t out_of(const tug_attn_shape *s) {
    return (int64_t)s->n_head * s->head_dim;
}

static float *random_floats(size_t n) {
    float *x = tug_alloc_aligned(64, n * sizeof *x);
    assert_non_null(x);
    tug_rng rng;
    tug_rng_seed(&rng, 7);
    for (size_t i = 0; i < n; i++) x[i] = (float)(2 * tug_rng_unit(&rng) - 1);
    return x;
}

typedef struct inputs {
    const tug_attn_shape *shape;
    float *qkv, *norm, *rope;
} inputs;

/* out (N_TOK - from, n_head * head_dim) of the tokens from `from` on: those before in one batch,
 * these `step` at a time. */
static void attend(float *out, const inputs *in, tug_cpu_level level, tug_kv_type type,
                   int n_threads, int64_t from, int64_t step) {
    const tug_attn_shape *s = in->shape;
    const int64_t stride = stride_of(s);
    tug_backend *be = NULL;
    tug_err err;
    assert_int_equal(tug_backend_cpu_create(&be, level, n_threads, &err), TUG_OK);
    const tug_backend_limits limits = {.n_tok = N_TOK,
                                       .n_in = 64,
                                       .n_expert = 1,
                                       .n_expert_used = 1,
                                       .expert_dim = 32,
                                       .shared_dim = 32,
                                       .dim = 64,
                                       .conv_channels = 1,
                                       .n_v_head = 1};
    assert_int_equal(tug_backend_reserve(be, &limits, &err), TUG_OK);
    const size_t row_bytes = tug_kv_row_bytes(type, s->head_dim),
                 side = (size_t)s->n_kv_head * N_ROWS * row_bytes;
    uint8_t *cache = tug_alloc_aligned(64, 2 * side);
    float *qkv = tug_alloc_aligned(64, sizeof(float) * N_TOK * MAX_STRIDE);
    assert_true(cache && qkv);
    memcpy(qkv, in->qkv, sizeof(float) * N_TOK * MAX_STRIDE);
    tug_kv_layer kv = {cache, cache + side, type, row_bytes, N_ROWS};
    for (int64_t t = 0, n; t < N_TOK; t += n) {
        n = t < from ? from - t : N_TOK - t < step ? N_TOK - t : step;
        float *rows = qkv + t * stride;
        tug_op_attn_prepare(be, s, rows, stride, in->norm, in->norm,
                            in->rope + t * s->n_rot, &kv, t, n);
        if (t >= from) {
            tug_op_attn(be, s, out + (t - from) * out_of(s), rows, stride, &kv, t, n);
        }
    }
    tug_free(qkv);
    tug_free(cache);
    tug_backend_destroy(&be);
}

static void check(const inputs *in, tug_cpu_level level, tug_kv_type type) {
    const size_t all = (size_t)(N_TOK * out_of(in->shape));
    const size_t bytes = sizeof(float) * (size_t)(LAST * out_of(in->shape));
    float *want = random_floats(all), *got = random_floats(all);
    attend(want, in, level, type, 1, 0, N_TOK);
    const float *last = want + (N_TOK - LAST) * out_of(in->shape);
    static const struct {
        int threads;
        int64_t step;
    } ways[] = {{1, 5}, {2, 1}, {2, LAST}, {3, LAST}, {8, 5}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        memset(got, 0, bytes);
        attend(got, in, level, type, ways[i].threads, N_TOK - LAST, ways[i].step);
        assert_memory_equal(got, last, bytes);
    }
    tug_free(want);
    tug_free(got);
}

static void threads_and_batches_do_not_show(void **state) {
    (void)state;
    inputs in = {NULL, random_floats((size_t)N_TOK * MAX_STRIDE), random_floats(64),
                 random_floats((size_t)N_TOK * 64)};
    for (int level = TUG_CPU_AVX2; level <= (int)tug_cpu_detect(); level++) {
        for (int type = 0; type < TUG_KV_TYPES; type++) {
            in.shape = shapes;
            check(&in, (tug_cpu_level)level, (tug_kv_type)type);
        }
        in.shape = shapes + 1;
        check(&in, (tug_cpu_level)level, TUG_KV_F16);
    }
    tug_free(in.qkv);
    tug_free(in.norm);
    tug_free(in.rope);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_batches_do_not_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
