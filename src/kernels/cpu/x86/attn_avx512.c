/* attn_avx512.c - attention over a cache of f16, f32 or Q8_0 rows, and storing such rows,
 * with 16 values per vector.  The walk over the cache, and why a query's result does not
 * depend on the others, is in attn_walk.h.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/cpu/kernels_attn.h"
#include "kernels/cpu/x86/attn_walk.h"
#include "kernels/cpu/x86/vec_avx512.h"

enum {
    TILE_ROWS = 4, /* cache rows per tile of scores */
    TILE_COLS = 4, /* vectors of columns per tile of outputs */
};

/* ---- the cache rows ------------------------------------------------------------------ */

void tug_kv_store_f16_avx512(void *row, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        const __m256i h = _mm512_cvtps_ph(load_left(x + i, n - i),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16((char *)row + i * 2, first_lanes(n - i), h);
    }
}

/* x * inverse rounded to the nearest whole number, halves away from zero, as bytes. */
static __m128i quantise(__m512 x, __m512 inverse) {
    const __m512 v = _mm512_mul_ps(x, inverse);
    const __m512 whole = _mm512_roundscale_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_sub_ps(v, whole); /* exact */
    const __mmask16 up = _mm512_cmp_ps_mask(rest, _mm512_set1_ps(0.5f), _CMP_GE_OQ);
    const __mmask16 down = _mm512_cmp_ps_mask(rest, _mm512_set1_ps(-0.5f), _CMP_LE_OQ);
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 at_least = _mm512_mask_sub_ps(whole, down, whole, one);
    return _mm512_cvtsepi32_epi8(
        _mm512_cvtps_epi32(_mm512_mask_add_ps(at_least, up, at_least, one)));
}

void tug_kv_store_q8_0_avx512(void *row, const float *x, int64_t n) {
    char *block = row;
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    for (int64_t i = 0; i < n; i += Q8_0_ELEMS, block += Q8_0_BYTES) {
        const __m512 lo = _mm512_loadu_ps(x + i), hi = _mm512_loadu_ps(x + i + 16);
        /* As bits, NaN is above every magnitude: the scale carries it. */
        const __m512i magnitude =
            _mm512_max_epi32(_mm512_andnot_si512(sign, _mm512_castps_si512(lo)),
                             _mm512_andnot_si512(sign, _mm512_castps_si512(hi)));
        const float d =
            tug_f32_from_bits((uint32_t)_mm512_reduce_max_epi32(magnitude)) / 127.0f;
        const __m512 inverse = _mm512_set1_ps(d >= 0x1p-126f ? 1.0f / d : 0.0f);
        const tug_f16 scale = tug_f32_to_f16(d);
        memcpy(block, &scale, sizeof scale);
        _mm_storeu_si128((__m128i *)(block + 2), quantise(lo, inverse));
        _mm_storeu_si128((__m128i *)(block + 18), quantise(hi, inverse));
    }
}

static void expand_f16(float *y, const char *row, int n) {
    for (int i = 0; i < n; i += 16) {
        const __m256i h = _mm256_loadu_si256((const __m256i *)(row + i * 2));
        _mm512_store_ps(y + i, _mm512_cvtph_ps(h));
    }
}

static void expand_f32(float *y, const char *row, int n) {
    for (int i = 0; i < n; i += 16) _mm512_store_ps(y + i, _mm512_loadu_ps(row + i * 4));
}

static void expand_q8_0(float *y, const char *row, int n) {
    for (int i = 0; i < n; i += Q8_0_ELEMS, row += Q8_0_BYTES) {
        tug_f16 scale;
        memcpy(&scale, row, sizeof scale);
        const __m512 d = _mm512_set1_ps(_cvtsh_ss(scale));
        for (int j = 0; j < Q8_0_ELEMS; j += 16) {
            const __m128i q = _mm_loadu_si128((const __m128i *)(row + 2 + j));
            const __m512 v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
            _mm512_store_ps(y + i + j, _mm512_mul_ps(d, v));
        }
    }
}

/* ---- one block ----------------------------------------------------------------------- */

/* The sums of 16 vectors, as one vector. */
INLINE __m512 sum_each_of_16(const __m512 *v) {
    __m512 quad[4];
    for (int i = 0; i < 4; i++, v += 4) {
        const __m512 ab =
            _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
        const __m512 cd =
            _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
        const __m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);
        quad[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                                _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(quad[0], quad[1], 0x44),
                                     _mm512_shuffle_f32x4(quad[0], quad[1], 0xEE));
    const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(quad[2], quad[3], 0x44),
                                      _mm512_shuffle_f32x4(quad[2], quad[3], 0xEE));
    return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88),
                         _mm512_shuffle_f32x4(low, high, 0xDD));
}

/* nq queries from i with TILE_ROWS rows, from row r of those expanded, to columns `at` of
 * the weights. */
INLINE void score_tile(walk *w, int i, int nq, int r, int at) {
    const tug_attn_args *a = w->a;
    const float *q = a->q + (w->q0 + i) * a->q_stride;
    const float *k = w->expanded + r * a->head_dim;
    const char *ahead = fetch(w, a->head_dim * 4);
    __m512 acc[TILE_Q * TILE_ROWS];
    for (int j = 0; j < TILE_Q * TILE_ROWS; j++) acc[j] = _mm512_setzero_ps();
    for (int d = 0; d < a->head_dim; d += 16) {
        _mm_prefetch(ahead + 4 * d, _MM_HINT_T1);
        __m512 kd[TILE_ROWS];
        for (int j = 0; j < TILE_ROWS; j++) {
            kd[j] = _mm512_load_ps(k + j * a->head_dim + d);
        }
        for (int m = 0; m < nq; m++) {
            const __m512 qd = _mm512_loadu_ps(q + m * a->q_stride + d);
            __m512 *sum = acc + m * TILE_ROWS;
            for (int j = 0; j < TILE_ROWS; j++)
                sum[j] = _mm512_fmadd_ps(qd, kd[j], sum[j]);
        }
    }
    const __m512 s = _mm512_mul_ps(sum_each_of_16(acc), _mm512_set1_ps(a->scale));
    float *to = w->weights + i * BLOCK + at;
    _mm_storeu_ps(to, _mm512_castps512_ps128(s));
    if (nq > 1) _mm_storeu_ps(to + BLOCK, _mm512_extractf32x4_ps(s, 1));
    if (nq > 2) _mm_storeu_ps(to + 2 * BLOCK, _mm512_extractf32x4_ps(s, 2));
    if (nq > 3) _mm_storeu_ps(to + 3 * BLOCK, _mm512_extractf32x4_ps(s, 3));
}

static void score(walk *w, int i, int nq, int first, int n) {
    for (int r = 0; r < n; r += TILE_ROWS) {
        switch (nq) {
        case 4: score_tile(w, i, 4, r, first + r); break;
        case 3: score_tile(w, i, 3, r, first + r); break;
        case 2: score_tile(w, i, 2, r, first + r); break;
        default: score_tile(w, i, 1, r, first + r);
        }
    }
}

static void weigh(const walk *w, int i) {
    const int n = visible(w, i);
    const float before = w->max[i];
    float *s = w->weights + i * BLOCK;
    __m512 v[BLOCK / 16], top = _mm512_set1_ps(before), sum = _mm512_setzero_ps();
    for (int j = 0; j < BLOCK / 16; j++) {
        const __mmask16 seen = n > 16 * j ? first_lanes(n - 16 * j) : 0;
        v[j] = _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), seen, s + 16 * j);
        top = _mm512_max_ps(top, v[j]);
    }
    const __m512 max = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    for (int j = 0; j < BLOCK / 16; j++) {
        const __m512 p = exp_ps(_mm512_sub_ps(v[j], max));
        _mm512_storeu_ps(s + 16 * j, p);
        sum = _mm512_add_ps(sum, p);
    }
    const __m512 risen = _mm512_sub_ps(_mm512_set1_ps(before), max);
    w->max[i] = _mm512_cvtss_f32(max);
    w->rescale[i] = _mm512_cvtss_f32(exp_ps(risen));
    w->sum[i] = w->sum[i] * w->rescale[i] + _mm512_reduce_add_ps(sum);
}

/* nq queries from i and the nv vectors of columns expanded, which begin at column c. */
INLINE void gather_tile(walk *w, int i, int nq, int c, int nv) {
    const tug_attn_args *a = w->a;
    float *out = query_out(w, i) + c;
    const float *p = w->weights + i * BLOCK, *v = w->expanded;
    const int n = visible(w, i);
    const char *ahead = fetch(w, n * 64);
    __m512 acc[TILE_Q * TILE_COLS];
    for (int m = 0; m < nq; m++) {
        const __m512 rescale = _mm512_set1_ps(w->rescale[i + m]);
        for (int j = 0; j < nv; j++) {
            const __m512 before = _mm512_loadu_ps(out + m * a->out_stride + 16 * j);
            acc[m * nv + j] = _mm512_mul_ps(rescale, before);
        }
    }
    for (int r = 0; r < n; r++, v += 16 * nv) {
        _mm_prefetch(ahead + 64 * r, _MM_HINT_T1);
        __m512 vr[TILE_COLS];
        for (int j = 0; j < nv; j++) vr[j] = _mm512_load_ps(v + 16 * j);
        for (int m = 0; m < nq; m++) {
            const __m512 weight = _mm512_set1_ps(p[m * BLOCK + r]);
            __m512 *sum = acc + m * nv;
            for (int j = 0; j < nv; j++) sum[j] = _mm512_fmadd_ps(weight, vr[j], sum[j]);
        }
    }
    for (int m = 0; m < nq; m++) {
        for (int j = 0; j < nv; j++) {
            _mm512_storeu_ps(out + m * a->out_stride + 16 * j, acc[m * nv + j]);
        }
    }
}

INLINE void gather_queries(walk *w, int i, int nq, int c, int nv) {
    switch (nq) {
    case 4: gather_tile(w, i, 4, c, nv); break;
    case 3: gather_tile(w, i, 3, c, nv); break;
    case 2: gather_tile(w, i, 2, c, nv); break;
    default: gather_tile(w, i, 1, c, nv);
    }
}

static void gather(walk *w, int i, int nq, int c, int n) {
    if (n == 16 * TILE_COLS) {
        gather_queries(w, i, nq, c, TILE_COLS);
    } else {
        gather_queries(w, i, nq, c, 2);
    }
}

static void divide(float *out, float sum, int n) {
    for (int d = 0; d < n; d += 16) {
        const __m512 all = _mm512_loadu_ps(out + d);
        _mm512_storeu_ps(out + d, _mm512_div_ps(all, _mm512_set1_ps(sum)));
    }
}

/* ---- the kernels --------------------------------------------------------------------- */

void tug_attn_f16_avx512(const tug_attn_args *a) {
    attend(a, &(attn_steps){expand_f16, score, weigh, gather, divide});
}

void tug_attn_q8_0_avx512(const tug_attn_args *a) {
    attend(a, &(attn_steps){expand_q8_0, score, weigh, gather, divide});
}

void tug_attn_f32_avx512(const tug_attn_args *a) {
    attend(a, &(attn_steps){expand_f32, score, weigh, gather, divide});
}
