/* linear_k_avx2.c - K-quants and IQ4_XS times int8 activations.
 *
 * 8 rows at a time: a superblock of each is unpacked once and meets every token.  The
 * integer sum of a superblock is exact; each (row, token) then does, superblock after
 * superblock,  sum = fma(d_w * d_x, integer, sum)  and the same for the mins.  Nothing
 * else is rounded, so blocking by rows and tokens cannot show in a value.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_v64_avx2.h"

#include "kernels/cpu/x86/linear_expand.h"

enum {
    ROWS = 8,
    TOKENS = 64, /* sums of a block of rows and tokens: 2 KB of stack */
};

typedef struct format {
    void (*expand)(const void *block, tug_expanded *e);
    size_t block_bytes;
    int bias;  /* 128: w needs all eight bits */
    int n_min; /* 0, 8 or 16 */
} format;

/* A superblock of 8 rows. */
typedef struct panel {
    __m256i w[ROWS][8];     /* (256,) u8, or i8 if the bias is 128 */
    __m256i scale[ROWS][8]; /* (16,) i16: the factor of each pair of products */
    __m256i bias[ROWS];     /* (16,) i16: bias * scale */
    __m256i min[ROWS];
    __m256 d, dmin; /* (8,) f32, one per row */
} panel;

/* The scales of 16 groups as factors for 8 registers of 16 pairs: in register i the low
 * lane takes scale 2i, the high lane scale 2i + 1. */
INLINE void spread_scales(__m256i out[8], __m256i scale) {
    const __m256i odd_last = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    const __m256i lanes =
        _mm256_permute4x64_epi64(_mm256_shuffle_epi8(scale, odd_last), 0xD8);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const short own = (short)((2 * i + 1) << 8 | 2 * i);
        out[i] = _mm256_shuffle_epi8(lanes, _mm256_set1_epi16(own));
    }
}

INLINE __m256 to_f32(const tug_f16 *x) {
    return _mm256_cvtph_ps(load128(x));
}

/* Prefetches 8 blocks from `next` meanwhile. */
INLINE void fill_panel(panel *p, const char *const *rows, const char *next, format f) {
    tug_f16 d[ROWS], dmin[ROWS];
    for (int r = 0; r < ROWS; r++) {
        prefetch(next + (size_t)r * f.block_bytes, f.block_bytes);
        tug_expanded e;
        f.expand(rows[r], &e);
        for (int i = 0; i < 4; i++) {
            const v64 w = f.bias == 128 ? flip64(e.w[i]) : e.w[i];
            p->w[r][2 * i] = w.half[0];
            p->w[r][2 * i + 1] = w.half[1];
        }
        spread_scales(p->scale[r], e.scale);
        p->bias[r] = _mm256_mullo_epi16(e.scale, _mm256_set1_epi16((short)f.bias));
        p->min[r] = e.min;
        d[r] = e.d;
        dmin[r] = e.dmin;
    }
    p->d = to_f32(d);
    p->dmin = to_f32(dmin);
}

/* Unsigned 7-bit weights: pairs of products stay below 2^15. Signed 8-bit ones move
 * their sign to the activation first: 128 * 127 * 2 still does. */
INLINE __m256i pair_products(__m256i w, __m256i x, format f) {
    if (f.bias < 128) return _mm256_maddubs_epi16(w, x);
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

/* Row r of the panel times a record, as 8 partial sums. */
INLINE __m256i dot(const panel *p, int r, const tug_act_q8_256 *x, format f) {
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const __m256i pairs = pair_products(p->w[r][i], load256(x->q + 32 * i), f);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, p->scale[r][i]));
    }
    if (f.bias == 0 || f.bias == 128) return sum;
    return _mm256_sub_epi32(sum, _mm256_madd_epi16(p->bias[r], load256(x->sum16)));
}

INLINE __m256i dot_min(const panel *p, int r, const tug_act_q8_256 *x, format f) {
    const __m256i sums =
        f.n_min == 16 ? load256(x->sum16) : _mm256_zextsi128_si256(load128(x->sum32));
    return _mm256_madd_epi16(p->min[r], sums);
}

/* (8,): the sum of each v[i]. */
INLINE __m256 sum_each(const __m256i v[ROWS]) {
    const __m256i a =
        _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    const __m256i b =
        _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                                               _mm256_permute2x128_si256(a, b, 0x31)));
}

INLINE __m256 accumulate(__m256 sum, const panel *p, const tug_act_q8_256 *x, format f) {
    const __m256 dx = _mm256_set1_ps(x->d);
    __m256i v[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) v[r] = dot(p, r, x, f);
    sum = _mm256_fmadd_ps(_mm256_mul_ps(p->d, dx), sum_each(v), sum);
    if (f.n_min == 0) return sum;
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) v[r] = dot_min(p, r, x, f);
    return _mm256_fnmadd_ps(_mm256_mul_ps(p->dmin, dx), sum_each(v), sum);
}

/* y of rows [r0, r0 + 8) or to the end, tokens [t0, t0 + n_tok). */
INLINE void linear_block(const tug_linear_args *a, int64_t r0, int64_t t0, int64_t n_tok,
                         format f) {
    const char *rows[ROWS];
    weight_rows(rows, a, r0, ROWS);
    const char *next = rows[0] + ROWS * a->w_row_bytes;
    __m256 sum[TOKENS];
    for (int64_t t = 0; t < n_tok; t++) sum[t] = _mm256_setzero_ps();
    for (int64_t c = 0; c < a->n_cols / TUG_QK_K; c++) {
        panel p;
        fill_panel(&p, rows, next, f);
        next += ROWS * f.block_bytes;
        for (int64_t t = 0; t < n_tok; t++) {
            sum[t] = accumulate(sum[t], &p,
                                (const tug_act_q8_256 *)token_row(a, t0 + t) + c, f);
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

#define DEFINE(name, bias_, n_min_)                                 \
    void tug_linear_##name##_avx2(const tug_linear_args *a) {       \
        linear(a, (format){.expand = expand_##name,                 \
                           .block_bytes = sizeof(tug_block_##name), \
                           .bias = bias_,                           \
                           .n_min = n_min_});                       \
    }
DEFINE(q2_k, 0, 16)
DEFINE(q3_k, 4, 0)
DEFINE(q4_k, 0, 8)
DEFINE(q5_k, 0, 8)
DEFINE(q6_k, 32, 0)
DEFINE(iq4_xs, 128, 0)
