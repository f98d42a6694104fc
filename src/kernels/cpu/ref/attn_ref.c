/* attn_ref.c - the specification of attention over a cache of rows of each type, and of how a
 * row is stored.  Two passes, in double; never tuned.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/cpu/kernels_attn.h"

/* A Q8_0 block: an f16 scale, then 32 signed bytes. */
enum { Q8_0_ELEMS = 32, Q8_0_BYTES = 34 };

void tug_kv_store_f16_ref(void *cache, int64_t row, const float *x, int64_t n) {
    char *to = (char *)cache + row * n * 2;
    for (int64_t i = 0; i < n; i++) {
        const tug_f16 h = tug_f32_to_f16(x[i]);
        memcpy(to + i * 2, &h, sizeof h);
    }
}

/* The largest magnitude, or NaN if there is a NaN: as bits, NaN is above every number. */
static float max_magnitude(const float *x) {
    uint32_t max = 0;
    for (int i = 0; i < Q8_0_ELEMS; i++) {
        const uint32_t bits = tug_f32_bits(x[i]) & 0x7FFFFFFFu;
        if (bits > max) max = bits;
    }
    return tug_f32_from_bits(max);
}

static void store_q8_0_block(void *block, const float *x) {
    const float d = max_magnitude(x) / 127.0f;
    /* Below the smallest normal number 1 / d may overflow, and d is 0 as f16. */
    const float inverse = d >= 0x1p-126f ? 1.0f / d : 0.0f;
    const tug_f16 scale = tug_f32_to_f16(d);
    int8_t q[Q8_0_ELEMS];
    for (int i = 0; i < Q8_0_ELEMS; i++) {
        /* The bounds only matter for NaN, which the scale carries. */
        q[i] = (int8_t)fminf(fmaxf(roundf(x[i] * inverse), -127.0f), 127.0f);
    }
    memcpy(block, &scale, sizeof scale);
    memcpy((char *)block + 2, q, sizeof q);
}

void tug_kv_store_q8_0_ref(void *cache, int64_t row, const float *x, int64_t n) {
    char *to = (char *)cache + row * (n / Q8_0_ELEMS) * Q8_0_BYTES;
    for (int64_t i = 0; i < n; i += Q8_0_ELEMS) {
        store_q8_0_block(to + i / Q8_0_ELEMS * Q8_0_BYTES, x + i);
    }
}

/* Returns the scale of y (n,). */
static float to_i16(int16_t *y, const float *x, int64_t n, float most) {
    float max = 0;
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        if (fabsf(x[i]) > max) max = fabsf(x[i]);
        squares += (double)x[i] * (double)x[i];
    }
    /* A NaN is in the norm, and no comparison replaces it. */
    float scale = (float)sqrt(squares) / TUG_I16_NORM;
    if (max / most > scale) scale = max / most;
    const float inverse = scale >= 0x1p-126f ? 1.0f / scale : 0.0f;
    for (int64_t i = 0; i < n; i++) {
        /* The bounds only matter for NaN, which the scale carries. */
        const float v = fminf(fmaxf(x[i] * inverse, -most), most);
        y[i] = (int16_t)nearbyintf(v);
    }
    return scale;
}

void tug_kv_store_k_i16_ref(void *cache, int64_t row, const float *x, int64_t n) {
    int16_t y[TUG_MAX_HEAD_DIM];
    const float scale = to_i16(y, x, n, TUG_I16_KEY_MAX);
    tug_i16_put_key(cache, row, y, scale, n);
}

void tug_kv_store_v_i16_ref(void *cache, int64_t row, const float *x, int64_t n) {
    int16_t y[TUG_MAX_HEAD_DIM];
    const float scale = to_i16(y, x, n, TUG_I16_VALUE_MAX);
    tug_i16_put_value(cache, row, y, scale, n);
}

void tug_kv_store_f32_ref(void *cache, int64_t row, const float *x, int64_t n) {
    memcpy((float *)cache + row * n, x, (size_t)n * sizeof *x);
}

/* y (n,) = row `row` of a cache. */
typedef void load_row_fn(double *y, const void *cache, int64_t row, int64_t n);

static void load_row_f16(double *y, const void *cache, int64_t row, int64_t n) {
    const char *values = (const char *)cache + row * n * 2;
    for (int64_t i = 0; i < n; i++) {
        tug_f16 h;
        memcpy(&h, values + i * 2, sizeof h);
        y[i] = (double)tug_f16_to_f32(h);
    }
}

static void load_row_q8_0(double *y, const void *cache, int64_t row, int64_t n) {
    const char *blocks = (const char *)cache + row * (n / Q8_0_ELEMS) * Q8_0_BYTES;
    for (int64_t i = 0; i < n; i++) {
        const char *block = blocks + i / Q8_0_ELEMS * Q8_0_BYTES;
        tug_f16 scale;
        int8_t q;
        memcpy(&scale, block, sizeof scale);
        memcpy(&q, block + 2 + i % Q8_0_ELEMS, sizeof q);
        y[i] = (double)tug_f16_to_f32(scale) * q;
    }
}

static void load_row_f32(double *y, const void *cache, int64_t row, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float f;
        memcpy(&f, (const char *)cache + (row * n + i) * 4, sizeof f);
        y[i] = (double)f;
    }
}

static void load_key_i16(double *y, const void *cache, int64_t row, int64_t n) {
    const int16_t *values = cache;
    const float scale = tug_i16_scales(cache, row, n)[row % TUG_KV_BLOCK];
    for (int64_t d = 0; d < n; d++) {
        y[d] = (double)scale * values[tug_i16_key_at(row, d, n)];
    }
}

static void load_value_i16(double *y, const void *cache, int64_t row, int64_t n) {
    const int16_t *values = cache;
    const float scale = tug_i16_scales(cache, row, n)[row % TUG_KV_BLOCK];
    for (int64_t d = 0; d < n; d++) {
        y[d] = (double)scale * values[tug_i16_value_at(row, d, n)];
    }
}

static double score(const tug_attn_args *a, const float *q, int64_t row,
                    load_row_fn *load) {
    double k[TUG_MAX_HEAD_DIM], sum = 0;
    load(k, a->k, row, a->head_dim);
    for (int d = 0; d < a->head_dim; d++) sum += (double)q[d] * k[d];
    return (double)a->scale * sum;
}

/* The scores are computed twice rather than kept: a context has no upper bound here. */
static void attend(const tug_attn_args *a, int64_t i, load_row_fn *load,
                   load_row_fn *load_value) {
    const float *q = a->q + i * a->q_stride;
    double max = -INFINITY, sum = 0, out[TUG_MAX_HEAD_DIM] = {0}, v[TUG_MAX_HEAD_DIM];
    for (int64_t r = 0; r < a->q_len[i]; r++) max = fmax(max, score(a, q, r, load));
    for (int64_t r = 0; r < a->q_len[i]; r++) {
        const double p = exp(score(a, q, r, load) - max);
        load_value(v, a->v, r, a->head_dim);
        for (int d = 0; d < a->head_dim; d++) out[d] += p * v[d];
        sum += p;
    }
    for (int d = 0; d < a->head_dim; d++) {
        a->out[i * a->out_stride + d] = (float)(out[d] / sum);
    }
}

void tug_attn_f16_ref(const tug_attn_args *a) {
    for (int64_t i = 0; i < a->n_q; i++) attend(a, i, load_row_f16, load_row_f16);
}

void tug_attn_q8_0_ref(const tug_attn_args *a) {
    for (int64_t i = 0; i < a->n_q; i++) attend(a, i, load_row_q8_0, load_row_q8_0);
}

void tug_attn_f32_ref(const tug_attn_args *a) {
    for (int64_t i = 0; i < a->n_q; i++) attend(a, i, load_row_f32, load_row_f32);
}

void tug_attn_i16_ref(const tug_attn_args *a) {
    for (int64_t i = 0; i < a->n_q; i++) attend(a, i, load_key_i16, load_value_i16);
}
