/* linear_32_avx2.c - the formats with one scale per 32 (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1,
 * IQ4_NL) times int8 activations with one scale per 32.
 *
 * 8 rows at a time: a block of each is unpacked once and meets every token.  The integer
 * sum of a block is exact; each (row, token) then does, block after block,
 *   sum = fma(d_w * d_x, integer, sum),  and for formats with a min
 *   sum = fma(m_w, d_x * sum of x, sum).
 * Nothing else is rounded, so blocking by rows and tokens cannot show in a value.
 * SPDX-License-Identifier: MIT */
#include <stdbool.h>

#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_v64_avx2.h"

#include "kernels/cpu/x86/linear_expand.h"

enum {
    ROWS = 8,
    TOKENS = 64, /* sums of a block of rows and tokens: 2 KB of stack */
};

typedef struct format {
    tug_expand32_fn *expand;
    size_t block_bytes;
    bool has_min;
} format;

/* A block of 8 rows. */
typedef struct panel {
    __m256i w[ROWS]; /* (32,) i8 */
    __m256 d, m;     /* (8,) f32, one per row */
} panel;

INLINE __m256 to_f32(const tug_f16 *x) {
    return _mm256_cvtph_ps(load128(x));
}

/* Prefetches 8 blocks from `next` meanwhile. */
INLINE void fill_panel(panel *p, const char *const *rows, const char *next, format f) {
    tug_f16 d[ROWS], m[ROWS];
    for (int r = 0; r < ROWS; r++) {
        prefetch(next + (size_t)r * f.block_bytes, f.block_bytes);
        p->w[r] = f.expand(rows[r], &d[r], &m[r]);
    }
    p->d = to_f32(d);
    p->m = to_f32(m);
}

/* (8,): each row of the panel times 32 activations.  The sign of a weight moves to the
 * activation; pairs of products then stay below 128 * 127 * 2 < 2^15. */
INLINE __m256 dots(const panel *p, __m256i x) {
    __m256i v[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        const __m256i pairs =
            _mm256_maddubs_epi16(_mm256_abs_epi8(p->w[r]), _mm256_sign_epi8(x, p->w[r]));
        v[r] = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
    const __m256i a =
        _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    const __m256i b =
        _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                                               _mm256_permute2x128_si256(a, b, 0x31)));
}

/* y of rows [r0, r0 + 8) or to the end, tokens [t0, t0 + n_tok). */
INLINE void linear_block(const tug_linear_args *a, int64_t r0, int64_t t0, int64_t n_tok,
                         format f) {
    const char *rows[ROWS];
    weight_rows(rows, a, r0, ROWS);
    const char *next = rows[0] + ROWS * a->w_row_bytes;
    __m256 sum[TOKENS];
    for (int64_t t = 0; t < n_tok; t++) sum[t] = _mm256_setzero_ps();
    for (int64_t c = 0; c < a->n_cols / TUG_QK; c++) {
        panel p;
        fill_panel(&p, rows, next, f);
        next += ROWS * f.block_bytes;
        for (int64_t t = 0; t < n_tok; t++) {
            const tug_act_q8_32 *x = (const tug_act_q8_32 *)token_row(a, t0 + t) + c / 8;
            const __m256 d = _mm256_mul_ps(p.d, _mm256_set1_ps(x->d[c % 8]));
            sum[t] = _mm256_fmadd_ps(d, dots(&p, load256(x->q + c % 8 * 32)), sum[t]);
            if (f.has_min) {
                sum[t] = _mm256_fmadd_ps(p.m, _mm256_set1_ps(x->dsum[c % 8]), sum[t]);
            }
        }
        for (int r = 0; r < ROWS; r++) rows[r] += f.block_bytes;
    }
    const int n_rows = a->n_rows - r0 < ROWS ? (int)(a->n_rows - r0) : ROWS;
    for (int64_t t = 0; t < n_tok; t++) {
        float out[ROWS];
        _mm256_storeu_ps(out, sum[t]);
        memcpy(a->y + (t0 + t) * a->y_stride + r0, out, (size_t)n_rows * sizeof *out);
    }
}

INLINE void linear(const tug_linear_args *a, format f) {
    for (int64_t r0 = 0; r0 < a->n_rows; r0 += ROWS) {
        for (int64_t t0 = 0; t0 < a->n_tok; t0 += TOKENS) {
            const int64_t left = a->n_tok - t0;
            linear_block(a, r0, t0, left < TOKENS ? left : TOKENS, f);
        }
    }
}

#define DEFINE(name, has_min_)                                      \
    void tug_linear_##name##_avx2(const tug_linear_args *a) {       \
        linear(a, (format){.expand = expand_##name,                 \
                           .block_bytes = sizeof(tug_block_##name), \
                           .has_min = has_min_});                   \
    }
DEFINE(q8_0, false)
DEFINE(q4_0, false)
DEFINE(q4_1, true)
DEFINE(q5_0, false)
DEFINE(q5_1, true)
DEFINE(iq4_nl, false)
