/* linear_float_avx512.c - F32, F16 and BF16 weights times f32 activations.
 *
 * A dot product is 16 running sums, one per lane, over the columns in order, then one
 * fixed tree over the lanes.  The tile of 4 rows x up to 6 tokens only shares loads and
 * conversions between dot products, so the shape of a tile cannot show in a value.
 * SPDX-License-Identifier: MIT */
#include <immintrin.h>

#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_rows.h"

enum {
    ROWS = 4,
    TOKENS = 6,  /* 24 sums, 4 weights, 1 activation: 29 of 32 registers */
    BLOCK = 48,  /* tokens: 384 KB of 2,048 columns */
    NEAR = 1024, /* bytes */
};

/* 16 weights from column c, those outside `mask` zero and not touched. */
typedef __m512 load_fn(const void *row, int64_t c, __mmask16 mask);

INLINE __m512 load_f32(const void *row, int64_t c, __mmask16 mask) {
    return _mm512_maskz_loadu_ps(mask, (const float *)row + c);
}

INLINE __m512 load_f16(const void *row, int64_t c, __mmask16 mask) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)row + c));
}

INLINE __m512 load_bf16(const void *row, int64_t c, __mmask16 mask) {
    const __m256i bits = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)row + c);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

typedef struct tile {
    const char *w[ROWS];
    const float *x[TOKENS];
    float *y[TOKENS]; /* where the tile's first row goes */
    int64_t n_cols;
    int n_rows;
    ptrdiff_t ahead; /* bytes from a row to that of the next tile, asked for meanwhile */
    size_t element;  /* bytes */
} tile;

/* Asks for the rows of the next tile, and again for what this one reads soon, in two steps
 * as for packed rows (linear_packed.h).  Once for every line of 64 bytes. */
INLINE void ask_ahead(const tile *t, int64_t c) {
    const size_t at = (size_t)c * t->element;
    if (at % 64 != 0) return;
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
        _mm_prefetch(t->w[r] + at + t->ahead, _MM_HINT_T1);
        _mm_prefetch(t->w[r] + at + NEAR, _MM_HINT_T0);
    }
}

INLINE void add_products(__m512 sum[ROWS][TOKENS], const tile *t, load_fn *load,
                         int64_t c, __mmask16 mask, int n_tok) {
    __m512 w[ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) w[r] = load(t->w[r], c, mask);
#pragma GCC unroll 6
    for (int i = 0; i < n_tok; i++) {
        const __m512 x = _mm512_maskz_loadu_ps(mask, t->x[i] + c);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) sum[r][i] = _mm512_fmadd_ps(w[r], x, sum[r][i]);
    }
}

/* n_tok is a constant at every call. */
INLINE void tile_n(const tile *t, load_fn *load, int n_tok) {
    __m512 sum[ROWS][TOKENS];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 6
        for (int i = 0; i < n_tok; i++) sum[r][i] = _mm512_setzero_ps();
    }
    int64_t c = 0;
    for (; c + 16 <= t->n_cols; c += 16) {
        if (n_tok == 1) ask_ahead(t, c);
        add_products(sum, t, load, c, 0xFFFF, n_tok);
    }
    if (c < t->n_cols) {
        add_products(sum, t, load, c, (__mmask16)((1u << (t->n_cols - c)) - 1), n_tok);
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 6
        for (int i = 0; i < n_tok; i++) {
            const float y = _mm512_reduce_add_ps(sum[r][i]);
            if (r < t->n_rows) t->y[i][r] = y;
        }
    }
}

INLINE void run_tile(const tile *t, load_fn *load, int n_tok) {
    switch (n_tok) {
    case 1: tile_n(t, load, 1); break;
    case 2: tile_n(t, load, 2); break;
    case 3: tile_n(t, load, 3); break;
    case 4: tile_n(t, load, 4); break;
    case 5: tile_n(t, load, 5); break;
    default: tile_n(t, load, 6); break;
    }
}

/* Tokens [t0, t1) times the ROWS rows from r0. */
INLINE void linear_rows(const tug_linear_args *a, load_fn *load, int64_t r0, int64_t t0,
                        int64_t t1) {
    const int64_t left = a->n_rows - r0;
    tile t = {.n_cols = a->n_cols,
              .n_rows = left < ROWS ? (int)left : ROWS,
              .ahead = (ptrdiff_t)(ROWS * a->w_row_bytes),
              .element = a->w_row_bytes / (size_t)a->n_cols};
    weight_rows(t.w, a, r0, ROWS);
    if (left <= ROWS && a->w_next) t.ahead = (const char *)a->w_next - t.w[0];
    for (; t0 < t1; t0 += TOKENS) {
        const int n_tok = t1 - t0 < TOKENS ? (int)(t1 - t0) : TOKENS;
        for (int i = 0; i < n_tok; i++) {
            t.x[i] = token_row(a, t0 + i);
            t.y[i] = a->y + (t0 + i) * a->y_stride + r0;
        }
        run_tile(&t, load, n_tok);
    }
}

/* As many tokens at a time as stay in the second-level cache while all rows meet them. */
INLINE void linear(const tug_linear_args *a, load_fn *load) {
    for (int64_t t0 = 0; t0 < a->n_tok; t0 += BLOCK) {
        const int64_t t1 = a->n_tok - t0 < BLOCK ? a->n_tok : t0 + BLOCK;
        for (int64_t r0 = 0; r0 < a->n_rows; r0 += ROWS) linear_rows(a, load, r0, t0, t1);
    }
}

void tug_linear_f32_avx512(const tug_linear_args *a) {
    linear(a, load_f32);
}
void tug_linear_f16_avx512(const tug_linear_args *a) {
    linear(a, load_f16);
}
void tug_linear_bf16_avx512(const tug_linear_args *a) {
    linear(a, load_bf16);
}
