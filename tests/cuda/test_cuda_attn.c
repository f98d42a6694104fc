/* test_cuda_attn.c - attention of the GPU against the CPU's specification.
 *
 * Limits.  Decode sums in f32 as the CPU does: 2e-6 absolute for values of about 1
 * (tests/kernels/test_attn.c).  Prefill multiplies in f16 on tensor cores: queries and
 * weights have 11 bits there: NMSE 2e-7, and more where scores are large, whose errors grow
 * with them: 8e-7 at 40, 2.4e-6 at 150.
 * What is stored is what the CPU stores: the same bytes of v, whose values are not touched;
 * of k, whose norm may differ in the last bit, the same to a step.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cuda/cuda_linear.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

typedef struct layer {
    tug_cuda_heads s;
    tug_kv_type type;
    int64_t n_rows, row_bytes, cache_bytes, stride;
    uint8_t *k, *v; /* (n_kv_head, n_rows, row_bytes) */
} layer;

static layer make_layer(tug_kv_type type, int n_head, int n_kv, int head_dim, int n_rot,
                        int64_t n_rows) {
    layer l = {.s = {n_head, n_kv, head_dim, n_rot}, .type = type, .n_rows = n_rows};
    l.row_bytes = (int64_t)tug_kv_row_bytes(type, head_dim);
    l.cache_bytes = n_kv * n_rows * l.row_bytes;
    l.stride = (2LL * n_head + 2LL * n_kv) * head_dim + 4;
    l.k = ct_buf((size_t)l.cache_bytes);
    l.v = ct_buf((size_t)l.cache_bytes);
    for (int h = 0; h < n_kv; h++) {
        uint8_t *k = l.k + h * n_rows * l.row_bytes, *v = l.v + h * n_rows * l.row_bytes;
        for (int64_t r = 0; r < n_rows; r++) {
            float row[TUG_CUDA_MAX_HEAD_DIM];
            for (int d = 0; d < head_dim; d++) row[d] = ct_rand(-2.0f, 2.0f);
            ct_ref()->kv_store_k[type](k, r, row, head_dim);
            for (int d = 0; d < head_dim; d++) row[d] = ct_rand(-2.0f, 2.0f);
            ct_ref()->kv_store_v[type](v, r, row, head_dim);
        }
    }
    return l;
}

static tug_cuda_kv upload_cache(const layer *l) {
    return (tug_cuda_kv){ct_upload(l->k, (size_t)l->cache_bytes),
                         ct_upload(l->v, (size_t)l->cache_bytes), l->row_bytes,
                         l->n_rows};
}

/* ---- prepare ---------------------------------------------------------------------------- */

/* qkv and caches as the CPU's backend makes them. */
static void want_prepare(const layer *l, float *qkv, const float *q_norm,
                         const float *k_norm, const float *rope, int64_t pos,
                         int64_t n_tok) {
    const int d = l->s.head_dim, half = l->s.n_rot / 2;
    for (int64_t t = 0; t < n_tok; t++) {
        float *row = qkv + t * l->stride;
        const float *cosine = rope + t * l->s.n_rot, *sine = cosine + half;
        for (int h = 0; h < l->s.n_head; h++) {
            float *q = row + 2LL * h * d;
            ct_ref()->rmsnorm(q, q, q_norm, d, 1e-6f);
            ct_ref()->rope(q, cosine, sine, half);
        }
        for (int h = 0; h < l->s.n_kv_head; h++) {
            float k[TUG_CUDA_MAX_HEAD_DIM];
            const float *key = row + (2LL * l->s.n_head + h) * d;
            const float *value = key + (int64_t)l->s.n_kv_head * d;
            ct_ref()->rmsnorm(k, key, k_norm, d, 1e-6f);
            ct_ref()->rope(k, cosine, sine, half);
            const int64_t at = h * l->n_rows * l->row_bytes;
            ct_ref()->kv_store_k[l->type](l->k + at, pos + t, k, d);
            ct_ref()->kv_store_v[l->type](l->v + at, pos + t, value, d);
        }
    }
}

/* The largest difference of two caches' values, in steps of the format at that value. */
static double cache_difference(const layer *l, const uint8_t *got, const uint8_t *want) {
    const tug_type type = l->type == TUG_KV_Q8_0 ? TUG_TYPE_Q8_0 : TUG_TYPE_F16;
    const int d = l->s.head_dim;
    double worst = 0;
    for (int64_t r = 0; r < l->s.n_kv_head * l->n_rows; r++) {
        float a[TUG_CUDA_MAX_HEAD_DIM], b[TUG_CUDA_MAX_HEAD_DIM], max = 0;
        tug_dequantize_row(type, a, got + r * l->row_bytes, d);
        tug_dequantize_row(type, b, want + r * l->row_bytes, d);
        for (int i = 0; i < d; i++) {
            if (i % 32 == 0) max = 0;
            for (int j = i / 32 * 32; j < i / 32 * 32 + 32; j++)
                max = fmaxf(max, fabsf(b[j]));
            const double step = type == TUG_TYPE_Q8_0 ? (double)max / 127 * 1.01
                                                      : fabs((double)b[i]) / 1024 + 6e-8;
            worst = fmax(worst, fabs((double)a[i] - (double)b[i]) / (step + 1e-30));
        }
    }
    return worst;
}

static void check_prepare(tug_kv_type type, int n_head, int n_kv, int head_dim, int n_rot,
                          int32_t pos, int64_t n_tok) {
    ct_shape("%s %d heads, %d kv heads of %d, %d rotated, %lld tokens at %d",
             type == TUG_KV_F16 ? "f16" : "q8_0", n_head, n_kv, head_dim, n_rot,
             (long long)n_tok, pos);
    const layer l = make_layer(type, n_head, n_kv, head_dim, n_rot, pos + n_tok + 3);
    const int64_t n = n_tok * l.stride;
    float *qkv = ct_normal(n, 1.5f), *got = ct_floats(n);
    float *q_norm = ct_uniform(head_dim, 0.5f, 1.5f);
    float *k_norm = ct_uniform(head_dim, 0.5f, 1.5f);
    float *rope = ct_floats(n_tok * n_rot + 1);
    for (int64_t t = 0; t < n_tok; t++) {
        for (int i = 0; i < n_rot / 2; i++) {
            const float angle = ct_rand(-3.0f, 3.0f);
            rope[t * n_rot + i] = cosf(angle);
            rope[t * n_rot + n_rot / 2 + i] = sinf(angle);
        }
    }
    const tug_cuda_attn_prepare a = {
        .s = l.s,
        .kv = upload_cache(&l),
        .qkv = ct_upload(qkv, (size_t)n * sizeof *qkv),
        .stride = l.stride,
        .q_norm = ct_upload(q_norm, (size_t)head_dim * sizeof *q_norm),
        .k_norm = ct_upload(k_norm, (size_t)head_dim * sizeof *k_norm),
        .rope = ct_upload(rope, (size_t)(n_tok * n_rot + 1) * sizeof *rope),
        .pos = ct_upload(&pos, sizeof pos),
        .n_tok = (int32_t)n_tok,
        .eps = 1e-6f};
    CT_RUN(tug_cuda_on_attn_prepare(&a, type == TUG_KV_Q8_0), a);
    ct_download(got, a.qkv, (size_t)n * sizeof *got);
    uint8_t *k = ct_buf((size_t)l.cache_bytes), *v = ct_buf((size_t)l.cache_bytes);
    ct_download(k, a.kv.k, (size_t)l.cache_bytes);
    ct_download(v, a.kv.v, (size_t)l.cache_bytes);
    want_prepare(&l, qkv, q_norm, k_norm, rope, pos, n_tok);
    ct_close("qkv", got, qkv, n, 2e-6, 1.0);
    ct_same("v", v, l.v, (size_t)l.cache_bytes);
    const double off = cache_difference(&l, k, l.k);
    ct_true(off <= 1.001, "k: off by %.3g steps", off);
    ct_release_all();
}

static void test_prepare(void) {
    const tug_kv_type types[] = {TUG_KV_F16, TUG_KV_Q8_0};
    for (int i = 0; i < COUNT(types); i++) {
        check_prepare(types[i], 1, 1, 32, 32, 0, 1);
        check_prepare(types[i], 3, 1, 96, 0, 5, 2);
        check_prepare(types[i], 4, 2, 64, 16, 7, 3);
        check_prepare(types[i], 5, 5, 160, 62, 1, 1);
        check_prepare(types[i], 16, 2, 256, 64, 11, 2);
    }
}

/* ---- attention --------------------------------------------------------------------------- */

/* What a query attends to, times its gate. */
static void want_attn(const layer *l, float *out, const float *qkv, int64_t pos,
                      int64_t n_tok) {
    const int d = l->s.head_dim, group = l->s.n_head / l->s.n_kv_head;
    for (int64_t t = 0; t < n_tok; t++) {
        for (int h = 0; h < l->s.n_head; h++) {
            const int64_t at = h / group * l->n_rows * l->row_bytes;
            const int32_t len = (int32_t)(pos + t + 1);
            const float *q = qkv + t * l->stride + 2LL * h * d;
            float *o = out + (t * l->s.n_head + h) * d;
            const tug_attn_args a = {.out = o,
                                     .out_stride = d,
                                     .q = q,
                                     .q_stride = d,
                                     .q_len = &len,
                                     .n_q = 1,
                                     .k = l->k + at,
                                     .v = l->v + at,
                                     .row_bytes = (size_t)l->row_bytes,
                                     .head_dim = d,
                                     .scale = 1.0f / sqrtf((float)d)};
            ct_ref()->attn[l->type](&a);
            ct_ref()->sigmoid_mul(o, q + d, d);
        }
    }
}

typedef struct attn_case {
    layer l;
    tug_cuda_attn a;
    float *got, *want;
    int64_t n_out;
} attn_case;

static attn_case make_case(tug_kv_type type, int n_head, int n_kv, int head_dim,
                           int32_t pos, int64_t n_tok, int n_split, float size) {
    ct_shape(
        "%s %d heads, %d kv heads of %d, %lld tokens at %d, %d splits, queries of %g",
        type == TUG_KV_F16 ? "f16" : "q8_0", n_head, n_kv, head_dim, (long long)n_tok,
        pos, n_split, (double)size);
    attn_case c = {.l = make_layer(type, n_head, n_kv, head_dim, 0, pos + n_tok),
                   .n_out = n_tok * n_head * head_dim};
    const int64_t n = n_tok * c.l.stride;
    const float *qkv = ct_normal(n, size);
    const int64_t n_parts = n_tok * n_head * n_split;
    c.a = (tug_cuda_attn){
        .s = c.l.s,
        .kv = upload_cache(&c.l),
        .out = ct_device((size_t)c.n_out * sizeof(float)),
        .qkv = ct_upload(qkv, (size_t)n * sizeof *qkv),
        .stride = c.l.stride,
        .pos = ct_upload(&pos, sizeof pos),
        .parts = ct_device((size_t)(n_parts * (2 + head_dim)) * sizeof(float)),
        .n_tok = (int32_t)n_tok,
        .n_split = n_split,
        .scale = 1.0f / sqrtf((float)head_dim)};
    c.got = ct_floats(c.n_out);
    c.want = ct_floats(c.n_out);
    want_attn(&c.l, c.want, qkv, pos, n_tok);
    return c;
}

static void check_decode(tug_kv_type type, int n_head, int n_kv, int head_dim,
                         int32_t pos, int64_t n_tok, int n_split, float size) {
    attn_case c = make_case(type, n_head, n_kv, head_dim, pos, n_tok, n_split, size);
    CT_RUN(tug_cuda_on_attn_decode(&c.a, type == TUG_KV_Q8_0), c.a);
    CT_RUN(tug_cuda_on_attn_join(&c.a), c.a);
    ct_download(c.got, c.a.out, (size_t)c.n_out * sizeof(float));
    /* Queries of 40 make scores of 150, which f32 holds to 8e-6: so well are weights known. */
    ct_close("out", c.got, c.want, c.n_out, size > 10 ? 1e-5 : 2e-6, 1.0);
    ct_release_all();
}

static void test_decode(void) {
    const tug_kv_type types[] = {TUG_KV_F16, TUG_KV_Q8_0};
    for (int i = 0; i < COUNT(types); i++) {
        check_decode(types[i], 1, 1, 32, 0, 1, 1, 1.5f);
        check_decode(types[i], 4, 2, 64, 0, 2, 5, 1.5f);
        for (int per = 1; per <= 8; per++) {
            check_decode(types[i], 6, 2, 32 * per, 30 + per, 1, 3, 1.5f);
        }
        check_decode(types[i], 16, 2, 256, 300, 1, 8, 1.5f);
        check_decode(types[i], 16, 2, 256, 100, 3, 4, 1.5f);
        check_decode(types[i], 20, 1, 64, 77, 2, 16, 1.5f);
        check_decode(types[i], 8, 1, 256, 500, 1, 2,
                     40.0f); /* one row takes nearly all */
    }
}

static void check_prefill(tug_kv_type type, int n_head, int n_kv, int head_dim,
                          int32_t pos, int64_t n_tok, float size) {
    attn_case c = make_case(type, n_head, n_kv, head_dim, pos, n_tok, 1, size);
    CT_RUN(tug_cuda_on_attn_prefill(&c.a, type == TUG_KV_Q8_0), c.a);
    ct_download(c.got, c.a.out, (size_t)c.n_out * sizeof(float));
    ct_near("out", c.got, c.want, c.n_out, size > 10 ? 1e-5 : 1e-6);
    ct_release_all();
}

static void test_prefill(void) {
    const tug_kv_type types[] = {TUG_KV_F16, TUG_KV_Q8_0};
    for (int i = 0; i < COUNT(types); i++) {
        check_prefill(types[i], 1, 1, 32, 0, 1, 1.5f);
        check_prefill(types[i], 4, 2, 64, 0, 33, 1.5f);
        check_prefill(types[i], 3, 1, 32, 31, 22, 1.5f);
        for (int per = 1; per <= 8; per++) {
            check_prefill(types[i], 6, 2, 32 * per, 30 + per, 5, 1.5f);
        }
        check_prefill(types[i], 16, 2, 256, 100, 19, 1.5f);
        check_prefill(types[i], 8, 1, 256, 0, 40, 1.5f);
        check_prefill(types[i], 5, 5, 64, 3, 130, 1.5f);
        check_prefill(types[i], 8, 1, 256, 100, 20, 10.0f);
        check_prefill(types[i], 8, 1, 256, 100, 20, 40.0f);
    }
}

int main(int argc, char **argv) {
    static const ct_test tests[] = {
        {"prepare", test_prepare}, {"decode", test_decode}, {"prefill", test_prefill}};
    return ct_main(argc, argv, "attn", tests, COUNT(tests));
}
