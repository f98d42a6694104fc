/* linear_float_avx2.c - F32, F16 and BF16 weights times f32 activations.
 *
 * A dot product is 8 running sums, one per lane, over the columns in order, then one
 * fixed tree over the lanes.  The tile of 4 rows x up to 2 tokens only shares loads and
 * conversions between dot products, so the shape of a tile cannot show in a value.
 * SPDX-License-Identifier: MIT */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_rows.h"

enum {
    ROWS = 4,
    TOKENS = 3, /* 12 sums, a weight, an activation: 14 of 16 registers */
    BLOCK = 48, /* tokens: 384 KB of 2,048 columns */
};

/* 8 weights from column c; load_tail: the first n < 8 of them, the others zero. */
typedef __m256 load_fn(const void *row, int64_t c);
typedef __m256 load_tail_fn(const void *row, int64_t c, int n);

INLINE __m256 load_f32(const void *row, int64_t c) {
    return _mm256_loadu_ps((const float *)row + c);
}

INLINE __m256 tail_f32(const void *row, int64_t c, int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps((const float *)row + c,
                              _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
}

INLINE __m256 widen_f16(__m128i bits) {
    return _mm256_cvtph_ps(bits);
}

INLINE __m256 widen_bf16(__m128i bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

INLINE __m128i load_16bit(const void *row, int64_t c) {
    return _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)row + c));
}

INLINE __m128i tail_16bit(const void *row, int64_t c, int n) {
    uint16_t bits[8] = {0};
    memcpy(bits, (const uint16_t *)row + c, (size_t)n * sizeof *bits);
    return _mm_loadu_si128((const __m128i *)(const void *)bits);
}

INLINE __m256 load_f16(const void *row, int64_t c) {
    return widen_f16(load_16bit(row, c));
}
INLINE __m256 tail_f16(const void *row, int64_t c, int n) {
    return widen_f16(tail_16bit(row, c, n));
}
INLINE __m256 load_bf16(const void *row, int64_t c) {
    return widen_bf16(load_16bit(row, c));
}
INLINE __m256 tail_bf16(const void *row, int64_t c, int n) {
    return widen_bf16(tail_16bit(row, c, n));
}

typedef struct tile {
    const char *w[ROWS];
    const float *x[TOKENS];
    float *y[TOKENS]; /* where the tile's first row goes */
    int64_t n_cols;
    int n_rows;
} tile;

INLINE float sum_of_lanes(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* n_tok is a constant at every call. */
INLINE void tile_n(const tile *t, load_fn *load, load_tail_fn *load_tail, int n_tok) {
    __m256 sum[ROWS][TOKENS];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 3
        for (int i = 0; i < n_tok; i++) sum[r][i] = _mm256_setzero_ps();
    }
    int64_t c = 0;
    for (; c + 8 <= t->n_cols; c += 8) {
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            const __m256 w = load(t->w[r], c);
#pragma GCC unroll 3
            for (int i = 0; i < n_tok; i++) {
                sum[r][i] = _mm256_fmadd_ps(w, _mm256_loadu_ps(t->x[i] + c), sum[r][i]);
            }
        }
    }
    const int tail = (int)(t->n_cols - c);
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
        const __m256 w = tail > 0 ? load_tail(t->w[r], c, tail) : _mm256_setzero_ps();
#pragma GCC unroll 3
        for (int i = 0; i < n_tok; i++) {
            if (tail > 0) {
                sum[r][i] = _mm256_fmadd_ps(w, tail_f32(t->x[i], c, tail), sum[r][i]);
            }
            if (r < t->n_rows) t->y[i][r] = sum_of_lanes(sum[r][i]);
        }
    }
}

/* Tokens [t0, t1) times the ROWS rows from r0. */
INLINE void linear_rows(const tug_linear_args *a, load_fn *load, load_tail_fn *load_tail,
                        int64_t r0, int64_t t0, int64_t t1) {
    const int64_t left = a->n_rows - r0;
    tile t = {.n_cols = a->n_cols, .n_rows = left < ROWS ? (int)left : ROWS};
    weight_rows(t.w, a, r0, ROWS);
    for (; t0 < t1; t0 += TOKENS) {
        const int n_tok = t1 - t0 < TOKENS ? (int)(t1 - t0) : TOKENS;
        for (int i = 0; i < n_tok; i++) {
            t.x[i] = token_row(a, t0 + i);
            t.y[i] = a->y + (t0 + i) * a->y_stride + r0;
        }
        switch (n_tok) {
        case 1: tile_n(&t, load, load_tail, 1); break;
        case 2: tile_n(&t, load, load_tail, 2); break;
        default: tile_n(&t, load, load_tail, 3); break;
        }
    }
}

/* As many tokens at a time as stay in the second-level cache while all rows meet them. */
INLINE void linear(const tug_linear_args *a, load_fn *load, load_tail_fn *load_tail) {
    for (int64_t t0 = 0; t0 < a->n_tok; t0 += BLOCK) {
        const int64_t t1 = a->n_tok - t0 < BLOCK ? a->n_tok : t0 + BLOCK;
        for (int64_t r0 = 0; r0 < a->n_rows; r0 += ROWS) {
            linear_rows(a, load, load_tail, r0, t0, t1);
        }
    }
}

void tug_linear_f32_avx2(const tug_linear_args *a) {
    linear(a, load_f32, tail_f32);
}
void tug_linear_f16_avx2(const tug_linear_args *a) {
    linear(a, load_f16, tail_f16);
}
void tug_linear_bf16_avx2(const tug_linear_args *a) {
    linear(a, load_bf16, tail_bf16);
}
