/* linear_32_avx512.c - the formats with one scale per 32 (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1,
 * IQ4_NL) times int8 activations with one scale per 32.
 *
 * VALUE  The integer sum of a block is exact, whichever way it is computed.  Each (row,
 * token) then does, block after block,
 *   sum = fma(d_w * d_x, (float)integer, sum)
 *   sum = fma(m_w, d_x * sum of x, sum)    for formats with a min.
 * Both paths do just that, so neither path nor blocking can show in a value.  The paths,
 * gemv for few tokens and gemm for many, are those of linear_k_avx512.c.
 * SPDX-License-Identifier: MIT */
#include <stdbool.h>

#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_avx512.h"

enum {
    TILE_TOKENS = 6,
    TILE_PANELS = 2,    /* 2 x 6 integer sums and 2 x 6 float sums */
    BLOCK_TOKENS = 192, /* 24 KB of sums, on the stack */
    GEMV_TOKENS = 4,    /* tokens that share an unpacked pair of blocks */
    GEMM_FROM = 6,      /* tokens from which making panels pays */
};

/* One block of 16 rows. */
typedef struct panel {
    uint8_t w[8][64];   /* (8, 16, 4): column / 4, row, column % 4; value + 128 */
    float d[16], m[16]; /* per row */
} panel __attribute__((aligned(64)));

/* sum (n_tok, n_panels, 16) += n_blocks <= 8 blocks of panels (n_panels, 8) times one
 * record of each token; n_panels is 1 or TILE_PANELS, n_tok at most TILE_TOKENS. */
typedef void tile_fn(float *sum, const panel *p, const tug_act_q8_32 *const *x,
                     int n_blocks, int n_panels, int n_tok);

typedef struct format {
    tug_expand32_fn *expand;
    tile_fn *tile;
    size_t block_bytes;
    bool has_min;
} format;

/* ---- few tokens ------------------------------------------------------------------- */

/* sum (16,) += block b of record x, given the integers. */
INLINE __m512 add_block(__m512 sum, __m512i products, __m512 d, __m512 m,
                        const tug_act_q8_32 *x, int b, format f) {
    const __m512 integer =
        _mm512_cvtepi32_ps(_mm512_add_epi32(products, broadcast32(&x->start[b])));
    sum = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(x->d[b])), integer, sum);
    if (f.has_min) sum = _mm512_fmadd_ps(m, _mm512_set1_ps(x->dsum[b]), sum);
    return sum;
}

/* Two blocks of 16 rows, c and c + 1, or only c if it is the last. */
INLINE void gemv_blocks(__m512 *sum, const tug_act_q8_32 *const *x, const char *const *w,
                        int64_t c, bool pair, const char *next, int n_tok, format f) {
    __m512i parts[GEMV_TOKENS][16];
    tug_f16 d[2][16], m[2][16];
    const int b = (int)(c % 8);
    for (int r = 0; r < 16; r++) {
        const char *block = w[r] + (size_t)c * f.block_bytes;
        prefetch(next + (size_t)(r << pair) * f.block_bytes, f.block_bytes << pair);
        const __m256i lo = f.expand(block, &d[0][r], &m[0][r]);
        const __m256i hi = pair ? f.expand(block + f.block_bytes, &d[1][r], &m[1][r])
                                : _mm256_setzero_si256();
        const __m512i u = flip64(pair64(lo, hi));
        for (int t = 0; t < n_tok; t++) {
            const __m512i xt = _mm512_loadu_si512(x[t][c / 8].q + 32 * b);
            parts[t][r] = dot_bytes(_mm512_setzero_si512(), u, xt);
        }
    }
    for (int t = 0; t < n_tok; t++) {
        __m512i p[2];
        sum_halves(parts[t], &p[0], &p[1]);
        for (int i = 0; i <= pair; i++) {
            sum[t] = add_block(sum[t], p[i], widen_f16(d[i]), widen_f16(m[i]),
                               &x[t][c / 8], b + i, f);
        }
    }
}

/* 16 rows from r0, tokens [t0, t0 + n_tok). */
INLINE void gemv_rows(const tug_linear_args *a, int64_t r0, int64_t t0, int n_tok,
                      format f) {
    const char *w[16];
    const tug_act_q8_32 *x[GEMV_TOKENS];
    __m512 sum[GEMV_TOKENS];
    weight_rows(w, a, r0, 16);
    for (int t = 0; t < n_tok; t++) {
        x[t] = token_row(a, t0 + t);
        sum[t] = _mm512_setzero_ps();
    }
    const char *next = w[0] + 16 * a->w_row_bytes;
    const int64_t n_blocks = a->n_cols / TUG_QK;
    int64_t c = 0;
    for (; c + 2 <= n_blocks; c += 2) {
        gemv_blocks(sum, x, w, c, true, next, n_tok, f);
        next += 32 * f.block_bytes;
    }
    if (c < n_blocks) gemv_blocks(sum, x, w, c, false, next, n_tok, f);
    for (int t = 0; t < n_tok; t++) {
        _mm512_mask_storeu_ps(a->y + (t0 + t) * a->y_stride + r0, row_mask(a, r0),
                              sum[t]);
    }
}

INLINE void gemv(const tug_linear_args *a, format f) {
    for (int64_t r0 = 0; r0 < a->n_rows; r0 += 16) {
        for (int64_t t0 = 0; t0 < a->n_tok; t0 += GEMV_TOKENS) {
            const int64_t left = a->n_tok - t0;
            gemv_rows(a, r0, t0, left < GEMV_TOKENS ? (int)left : GEMV_TOKENS, f);
        }
    }
}

/* ---- many tokens ------------------------------------------------------------------ */

/* Prefetches 16 blocks from `next` meanwhile. */
INLINE void fill_panel(panel *p, const char *const *rows, const char *next, format f) {
    uint8_t w[16][32] __attribute__((aligned(64)));
    tug_f16 d[16], m[16];
    for (int r = 0; r < 16; r++) {
        prefetch(next + (size_t)r * f.block_bytes, f.block_bytes);
        _mm256_store_si256(
            (__m256i *)(void *)w[r],
            _mm256_xor_si256(f.expand(rows[r], &d[r], &m[r]), _mm256_set1_epi8(-128)));
    }
    for (int i = 0; i < 2; i++) {
        __m512i column[4];
        transpose4(column, w[0] + (ptrdiff_t)16 * i, sizeof w[0]);
        for (int j = 0; j < 4; j++) _mm512_store_si512(p->w[4 * i + j], column[j]);
    }
    _mm512_store_ps(p->d, widen_f16(d));
    if (f.has_min) _mm512_store_ps(p->m, widen_f16(m));
}

/* ---- tiles ------------------------------------------------------------------------ */

/* The sums of a tile, as registers.  n_panels and n_tok are constants wherever these are
 * used, so that only as many exist. */
typedef struct sums {
    __m512 at[TILE_PANELS][TILE_TOKENS];
} sums;
typedef struct products {
    __m512i at[TILE_PANELS][TILE_TOKENS];
} products;

/* out = block b of the records times the panels p[8 v], exactly. */
INLINE void multiply_block(products *out, const panel *p, const tug_act_q8_32 *const *x,
                           int b, int n_panels, int n_tok) {
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) out->at[v][t] = broadcast32(&x[t]->start[b]);
    }
#pragma GCC unroll 8
    for (int c = 0; c < 8; c++) {
        __m512i w[TILE_PANELS];
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) w[v] = _mm512_load_si512(p[8 * v].w[c]);
#pragma GCC unroll 6
        for (int t = 0; t < n_tok; t++) {
            const __m512i xt = broadcast32(x[t]->q + 32 * b + 4 * c);
#pragma GCC unroll 2
            for (int v = 0; v < n_panels; v++) {
                out->at[v][t] = dot_bytes(out->at[v][t], w[v], xt);
            }
        }
    }
}

INLINE void add_products(sums *s, const products *in, const panel *p,
                         const tug_act_q8_32 *const *x, int b, bool has_min, int n_panels,
                         int n_tok) {
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
        const __m512 dx = _mm512_set1_ps(x[t]->d[b]),
                     dsum = _mm512_set1_ps(x[t]->dsum[b]);
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) {
            const __m512 d = _mm512_mul_ps(_mm512_load_ps(p[8 * v].d), dx);
            s->at[v][t] =
                _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(in->at[v][t]), s->at[v][t]);
            if (has_min) {
                s->at[v][t] =
                    _mm512_fmadd_ps(_mm512_load_ps(p[8 * v].m), dsum, s->at[v][t]);
            }
        }
    }
}

INLINE void tile_of(float *sum, const panel *p, const tug_act_q8_32 *const *x,
                    int n_blocks, bool has_min, int n_panels, int n_tok) {
    sums s;
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) {
            s.at[v][t] = _mm512_load_ps(sum + 16 * (t * n_panels + v));
        }
    }
    for (int b = 0; b < n_blocks; b++) {
        products block;
        multiply_block(&block, p + b, x, b, n_panels, n_tok);
        add_products(&s, &block, p + b, x, b, has_min, n_panels, n_tok);
    }
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) {
            _mm512_store_ps(sum + 16 * (t * n_panels + v), s.at[v][t]);
        }
    }
}

INLINE void tile_of_panels(float *sum, const panel *p, const tug_act_q8_32 *const *x,
                           int n_blocks, bool has_min, int n_panels, int n_tok) {
    switch (n_tok) {
    case 1: tile_of(sum, p, x, n_blocks, has_min, n_panels, 1); break;
    case 2: tile_of(sum, p, x, n_blocks, has_min, n_panels, 2); break;
    case 3: tile_of(sum, p, x, n_blocks, has_min, n_panels, 3); break;
    case 4: tile_of(sum, p, x, n_blocks, has_min, n_panels, 4); break;
    case 5: tile_of(sum, p, x, n_blocks, has_min, n_panels, 5); break;
    default: tile_of(sum, p, x, n_blocks, has_min, n_panels, 6); break;
    }
}

#define TILE(name, has_min)                                                      \
    static __attribute__((noinline)) void tile_##name(                           \
        float *sum, const panel *p, const tug_act_q8_32 *const *x, int n_blocks, \
        int n_panels, int n_tok) {                                               \
        if (n_panels == 1) {                                                     \
            tile_of_panels(sum, p, x, n_blocks, has_min, 1, n_tok);              \
        } else {                                                                 \
            tile_of_panels(sum, p, x, n_blocks, has_min, TILE_PANELS, n_tok);    \
        }                                                                        \
    }
TILE(plain, false)
TILE(min, true)

/* ---- many tokens ------------------------------------------------------------------ */

/* n_panels * 16 rows from r0, tokens [t0, t0 + n_tok). */
INLINE void gemm_block(const tug_linear_args *a, int64_t r0, int n_panels, int64_t t0,
                       int n_tok, format f) {
    const char *w[TILE_PANELS * 16];
    const tug_act_q8_32 *x[BLOCK_TOKENS];
    float sum[BLOCK_TOKENS * TILE_PANELS * 16] __attribute__((aligned(64)));
    panel p[TILE_PANELS][8];
    weight_rows(w, a, r0, n_panels * 16);
    for (int t = 0; t < n_tok; t++) x[t] = token_row(a, t0 + t);
    memset(sum, 0, (size_t)(n_tok * n_panels * 16) * sizeof *sum);
    const char *next = w[0] + (size_t)n_panels * 16 * a->w_row_bytes;
    for (int64_t left = a->n_cols / TUG_QK; left > 0; left -= 8) {
        const int n_blocks = left < 8 ? (int)left : 8;
        for (int b = 0; b < n_blocks; b++) {
            for (int v = 0; v < n_panels; v++) {
                fill_panel(&p[v][b], w + (ptrdiff_t)16 * v, next, f);
                next += 16 * f.block_bytes;
            }
            for (int i = 0; i < n_panels * 16; i++) w[i] += f.block_bytes;
        }
        for (int t = 0; t < n_tok; t += TILE_TOKENS) {
            const int n = n_tok - t < TILE_TOKENS ? n_tok - t : TILE_TOKENS;
            f.tile(sum + (ptrdiff_t)t * n_panels * 16, p[0], x + t, n_blocks, n_panels,
                   n);
        }
        for (int t = 0; t < n_tok; t++) x[t]++;
    }
    store_sums(a, r0, n_panels, t0, n_tok, sum);
}

INLINE void gemm(const tug_linear_args *a, format f) {
    for (int64_t r0 = 0, n_panels; r0 < a->n_rows; r0 += 16 * n_panels) {
        n_panels = a->n_rows - r0 > 16 * (TILE_PANELS - 1) ? TILE_PANELS : 1;
        for (int64_t t0 = 0; t0 < a->n_tok; t0 += BLOCK_TOKENS) {
            const int64_t left = a->n_tok - t0;
            gemm_block(a, r0, (int)n_panels, t0,
                       left < BLOCK_TOKENS ? (int)left : BLOCK_TOKENS, f);
        }
    }
}

#define DEFINE(name, scheme, has_min_)                             \
    void tug_linear_##name##_avx512(const tug_linear_args *a) {    \
        const format f = {.expand = expand_##name,                 \
                          .tile = tile_##scheme,                   \
                          .block_bytes = sizeof(tug_block_##name), \
                          .has_min = has_min_};                    \
        if (a->n_tok < GEMM_FROM) {                                \
            gemv(a, f);                                            \
        } else {                                                   \
            gemm(a, f);                                            \
        }                                                          \
    }
DEFINE(q8_0, plain, false)
DEFINE(q4_0, plain, false)
DEFINE(q4_1, min, true)
DEFINE(q5_0, plain, false)
DEFINE(q5_1, min, true)
DEFINE(iq4_nl, plain, false)
