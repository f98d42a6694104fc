/* attn_avx512.c - storing cache rows, and attention over them in int16 arithmetic.
 *
 * VPDPWSSD multiplies int16 pairs and adds into int32, twice as fast as f32 multiply-adds.
 * Queries and rows of K and V are int16 with one scale each; dot products are then exact.
 * Their bounds (TUG_I16_*) keep them in an int32: by Cauchy-Schwarz for
 * scores; for outputs, the weights of a block are scaled so that their sum is at most
 * WEIGHT_SUM.  What rounding to int16 costs is in docs/ATTENTION-DELTA.md.
 *
 * INDEPENDENCE  Integer sums do not depend on tiles.  The float operations on a score, on
 * the weights of a query in a block of 64 rows (counted from row 0 of the cache), and on an
 * output element come in one order.  Rows that a query may not see get a weight of exactly
 * 0, and the integers they hold add 0.  SPDX-License-Identifier: MIT */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/cpu/kernels_attn.h"
#include "kernels/cpu/x86/vec_avx512.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = TUG_ATTN_BLOCK,
    PANEL_ROWS = TUG_ATTN_PANEL_ROWS,
    PANEL_COLS = 32, /* of V: two vectors of row pairs */
    TILE_Q = 8,
    Q8_0_ELEMS = 32,
    Q8_0_BYTES = 34
};
#define WEIGHT_MAX 32767.0f
#define WEIGHT_SUM 185000.0f /* (WEIGHT_SUM + BLOCK / 2) TUG_I16_VALUE_MAX < 2^31 */

/* ---- the cache rows ------------------------------------------------------------------ */

void tug_kv_store_f16_avx512(void *cache, int64_t row, const float *x, int64_t n) {
    char *to = (char *)cache + row * n * 2;
    for (int64_t i = 0; i < n; i += 16) {
        const __m256i h = _mm512_cvtps_ph(load_left(x + i, n - i),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16(to + i * 2, first_lanes(n - i), h);
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

void tug_kv_store_q8_0_avx512(void *cache, int64_t row, const float *x, int64_t n) {
    char *block = (char *)cache + row * (n / Q8_0_ELEMS) * Q8_0_BYTES;
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

/* The scale of a row with this largest magnitude and norm, to be at most `most`; NaN is in the norm, and no
 * comparison replaces it. */
static inline float i16_scale(float max, float norm, float most) {
    const float by_norm = norm / TUG_I16_NORM, by_max = max / most;
    return by_max > by_norm ? by_max : by_norm;
}

static inline __m512 i16_inverse(float scale) {
    return _mm512_set1_ps(scale >= 0x1p-126f ? 1.0f / scale : 0.0f);
}

/* x * inverse, rounded to int16; the bounds only matter for NaN. */
static inline __m256i to_i16(__m512 x, __m512 inverse, float most) {
    const __m512 max = _mm512_set1_ps(most), min = _mm512_set1_ps(-most);
    __m512 v = _mm512_max_ps(_mm512_mul_ps(x, inverse), min);
    v = _mm512_min_ps(v, max);
    return _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v));
}

/* Returns the scale of y (n,). */
static float row_to_i16(int16_t *y, const float *x, int64_t n, float most) {
    __m512 max = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
        max = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x + i)), max);
    }
    const float scale =
        i16_scale(_mm512_reduce_max_ps(max), (float)sqrt(sum_of_squares(x, n)), most);
    const __m512 inverse = i16_inverse(scale);
    for (int64_t i = 0; i < n; i += 16) {
        const __m256i v = to_i16(_mm512_loadu_ps(x + i), inverse, most);
        _mm256_storeu_si256((__m256i *)(y + i), v);
    }
    return scale;
}

void tug_kv_store_k_i16_avx512(void *cache, int64_t row, const float *x, int64_t n) {
    int16_t y[TUG_MAX_HEAD_DIM];
    const float scale = row_to_i16(y, x, n, TUG_I16_KEY_MAX);
    tug_i16_put_key(cache, row, y, scale, n);
}

void tug_kv_store_v_i16_avx512(void *cache, int64_t row, const float *x, int64_t n) {
    int16_t y[TUG_MAX_HEAD_DIM];
    const float scale = row_to_i16(y, x, n, TUG_I16_VALUE_MAX);
    tug_i16_put_value(cache, row, y, scale, n);
}

/* ---- rows as int16 ------------------------------------------------------------------- */

/* buf (n,) = a cache row of n values as int16, times *scale; buf 64-byte aligned.  `key`
 * for K, whose dot products are bounded by norms. */
typedef void as_i16_fn(int16_t *buf, float *scale, const char *row, int n, bool key);

INLINE float i16_scale_of(__m512 max, __m512 squares, float most) {
    return i16_scale(_mm512_reduce_max_ps(max), sqrtf(_mm512_reduce_add_ps(squares)),
                     most);
}

static inline __m512 load_f16(const char *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static void as_i16_from_f16(int16_t *buf, float *scale, const char *row, int n,
                            bool key) {
    __m512 max = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int i = 0; i < n; i += 16) {
        const __m512 v = load_f16(row + i * 2);
        max = _mm512_max_ps(_mm512_abs_ps(v), max);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    *scale = i16_scale_of(max, squares, key ? TUG_I16_KEY_MAX : TUG_I16_VALUE_MAX);
    const __m512 inverse = i16_inverse(*scale);
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    for (int i = 0; i < n; i += 32) {
        const __m512i lo =
            _mm512_cvtps_epi32(_mm512_mul_ps(load_f16(row + i * 2), inverse));
        const __m512i hi =
            _mm512_cvtps_epi32(_mm512_mul_ps(load_f16(row + i * 2 + 32), inverse));
        /* Packing interleaves quarters. */
        const __m512i v = _mm512_packs_epi32(lo, hi);
        _mm512_store_si512(buf + i, _mm512_permutexvar_epi64(order, v));
    }
}

/* The blocks' scales become int16 shares of the largest one, and values * 2^shift are
 * multiplied by them.  A key row of 512 values up to 127 * 2^4 keeps TUG_I16_NORM. */
static void as_i16_from_q8_0(int16_t *buf, float *scale, const char *row, int n,
                             bool key) {
    uint16_t halves[TUG_MAX_HEAD_DIM / Q8_0_ELEMS] = {0};
    const unsigned shift = key ? 4 : 6;
    const int blocks = n / Q8_0_ELEMS;
    const __m512i shifts = _mm512_set1_epi16((short)shift);
    for (int i = 0; i < blocks; i++) {
        memcpy(halves + i, row + i * Q8_0_BYTES, sizeof *halves);
    }
    const __m512 d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)halves));
    const __m512 max = _mm512_set1_ps(_mm512_reduce_max_ps(_mm512_abs_ps(d)));
    /* 0 times the scales is NaN if one is not finite. */
    const float poison = _mm512_reduce_add_ps(_mm512_mul_ps(d, _mm512_setzero_ps()));
    *scale =
        _mm512_cvtss_f32(max) * (32768.0f / 32767.0f) / (float)(1u << shift) + poison;
    const __m512 share = _mm512_div_ps(_mm512_mul_ps(d, _mm512_set1_ps(32767.0f)), max);
    int16_t shares[TUG_MAX_HEAD_DIM / Q8_0_ELEMS];
    _mm256_storeu_si256((__m256i *)shares,
                        _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(share)));
    for (int i = 0; i < blocks; i++) {
        const __m256i q = _mm256_loadu_si256((const __m256i *)(row + i * Q8_0_BYTES + 2));
        const __m512i v = _mm512_sllv_epi16(_mm512_cvtepi8_epi16(q), shifts);
        _mm512_store_si512(buf + i * Q8_0_ELEMS,
                           _mm512_mulhrs_epi16(v, _mm512_set1_epi16(shares[i])));
    }
}

/* ---- one block ----------------------------------------------------------------------- */

/* The state of one call at one block of rows. */
typedef struct work {
    const tug_attn_args *a;
    float *parts;      /* (n_q, tug_attn_part_floats(head_dim)) */
    as_i16_fn *as_i16; /* NULL: the cache is I16 */
    int n_q;
    int64_t r0;           /* the first row of the block */
    int n_rows;           /* of the block that any query may see */
    bool first;           /* block of its chunk: the parts hold nothing yet */
    int16_t *q, *weights; /* (n_q, head_dim), (n_q, BLOCK) */
    int32_t *scores;      /* (n_q, BLOCK) */
    float *q_scale, *max, *sum, *rescale, *unit; /* (n_q,) */
    /* Half of the rows of K, all of V, as in an I16 block; there, or in the scratch. */
    const int16_t *k_panel, *v_panel;
    const float *k_scale, *v_scale; /* (BLOCK,) */
    /* Of rows that are not I16: */
    int16_t *k_filled, *v_filled;     /* the panels */
    float *k_converted, *v_converted; /* the scales */
    int16_t *rows;                    /* (16, head_dim) converted */
} work;

/* How many rows of the block query i may see. */
static inline int visible(const work *w, int i) {
    const int64_t n = w->a->q_len[i] - w->r0;
    return n < 0 ? 0 : n > BLOCK ? BLOCK : (int)n;
}

/* The most rows of the block that one of the nq queries from i may see. */
static inline int visible_to_tile(const work *w, int i, int nq) {
    int most = 0;
    for (int m = 0; m < nq; m++)
        most = visible(w, i + m) > most ? visible(w, i + m) : most;
    return most;
}

static inline float *query_part(const work *w, int i) {
    return w->parts + i * tug_attn_part_floats(w->a->head_dim);
}

/* Converts row r of the block, or the last one there is. */
INLINE const int16_t *row_i16(const work *w, const void *cache, int r, float *scale,
                              bool key) {
    const int at = r < w->n_rows ? r : w->n_rows - 1, dim = w->a->head_dim;
    const char *row = (const char *)cache + (size_t)(w->r0 + at) * w->a->row_bytes;
    int16_t *buf = w->rows + r % 16 * dim;
    w->as_i16(buf, scale + r, row, dim, key);
    return buf;
}

/* v[i][j] = v[j][i]: a 4 x 4 transposition within each quarter of four vectors, then of
 * the quarters. */
INLINE void transpose_16x16(__m512i *v) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 4) {
        const __m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        const __m512i b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
        const __m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]);
        const __m512i d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) {
        const __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x44);
        const __m512i b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xEE);
        const __m512i c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x44);
        const __m512i d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xEE);
        v[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        v[i + 4] = _mm512_shuffle_i32x4(a, c, 0xDD);
        v[i + 8] = _mm512_shuffle_i32x4(b, d, 0x88);
        v[i + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
    }
}

/* PANEL_ROWS rows of K from `first` of the block: pairs of columns, each of all rows. */
static void fill_k_panel(const work *w, int first) {
    const int dim = w->a->head_dim;
    for (int g = 0; g < PANEL_ROWS && first + g < w->n_rows; g += 16) {
        const int16_t *row[16];
        for (int j = 0; j < 16; j++) {
            row[j] = row_i16(w, w->a->k, first + g + j, w->k_converted, true);
        }
        for (int d = 0; d < dim; d += 32) {
            __m512i v[16];
            for (int j = 0; j < 16; j++) v[j] = _mm512_load_si512(row[j] + d);
            transpose_16x16(v);
            int16_t *to = w->k_filled + (d * PANEL_ROWS + g * 2);
            for (int j = 0; j < 16; j++) {
                _mm512_store_si512(to + j * PANEL_ROWS * 2, v[j]);
            }
        }
    }
}

/* V of the block: pairs of rows, per 32 columns two vectors.  The first has columns 0-3,
 * 8-11, 16-19, 24-27, the second the others: as unpacking leaves them. */
static void fill_v_panel(const work *w) {
    const int dim = w->a->head_dim;
    for (int r = 0; r < w->n_rows; r += 2) {
        const int16_t *even = row_i16(w, w->a->v, r, w->v_converted, false);
        const int16_t *odd = row_i16(w, w->a->v, r + 1, w->v_converted, false);
        int16_t *to = w->v_filled + r * PANEL_COLS;
        for (int d = 0; d < dim; d += PANEL_COLS, to += BLOCK * PANEL_COLS) {
            const __m512i a = _mm512_load_si512(even + d);
            const __m512i b = _mm512_load_si512(odd + d);
            _mm512_store_si512(to, _mm512_unpacklo_epi16(a, b));
            _mm512_store_si512(to + 32, _mm512_unpackhi_epi16(a, b));
        }
    }
}

/* Where the half of K from row `first` on is. */
static void find_k(work *w, int first) {
    const int dim = w->a->head_dim;
    if (w->as_i16) {
        fill_k_panel(w, first);
        w->k_panel = w->k_filled;
        w->k_scale = w->k_converted;
    } else {
        w->k_panel = (const int16_t *)w->a->k + tug_i16_key_at(w->r0 + first, 0, dim);
        w->k_scale = tug_i16_scales(w->a->k, w->r0, dim);
    }
}

static void find_v(work *w) {
    const int dim = w->a->head_dim;
    if (w->as_i16) {
        fill_v_panel(w);
        w->v_panel = w->v_filled;
        w->v_scale = w->v_converted;
    } else {
        w->v_panel = (const int16_t *)w->a->v + tug_i16_value_at(w->r0, 0, dim);
        w->v_scale = tug_i16_scales(w->a->v, w->r0, dim);
    }
}

/* sum += the products of pairs.  In assembly: as intrinsics, compilers spill the sums. */
INLINE void dot_pairs(__m512i *sum, __m512i a, __m512i b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

INLINE __m512i pair_of(const int16_t *p) {
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
}

/* nq queries from i with the rows of the panel, which begin at row `first`; `ahead` moves
 * `step` bytes per two cache lines that are fetched. */
INLINE void score_tile(const work *w, int i, int nq, int first, const char *ahead,
                       int step) {
    const int dim = w->a->head_dim;
    const int16_t *q = w->q + i * dim, *k = w->k_panel;
    __m512i acc[2 * TILE_Q];
    for (int j = 0; j < 2 * nq; j++) acc[j] = _mm512_setzero_si512();
    for (int d = 0; d < dim; d += 2, k += 2 * PANEL_ROWS, ahead += step) {
        _mm_prefetch(ahead, _MM_HINT_T1);
        _mm_prefetch(ahead + 64, _MM_HINT_T1);
        const __m512i k0 = _mm512_load_si512(k), k1 = _mm512_load_si512(k + 32);
        for (int m = 0; m < nq; m++) {
            const __m512i pair = pair_of(q + m * dim + d);
            dot_pairs(acc + 2 * m, pair, k0);
            dot_pairs(acc + 2 * m + 1, pair, k1);
        }
    }
    for (int m = 0; m < nq; m++) {
        int32_t *to = w->scores + (i + m) * BLOCK + first;
        _mm512_store_si512(to, acc[2 * m]);
        _mm512_store_si512(to + 16, acc[2 * m + 1]);
    }
}

/* nq queries from i, the n_pairs first row pairs of V, 32 columns from c. */
INLINE void gather_tile(const work *w, int i, int nq, int c, int n_pairs,
                        const char *ahead, int step) {
    const int16_t *p = w->weights + i * BLOCK, *v = w->v_panel + c * BLOCK;
    __m512i acc[2 * TILE_Q];
    for (int j = 0; j < 2 * nq; j++) acc[j] = _mm512_setzero_si512();
    for (int r = 0; r < n_pairs; r++, v += 2 * PANEL_COLS, ahead += step) {
        _mm_prefetch(ahead, _MM_HINT_T1);
        _mm_prefetch(ahead + 64, _MM_HINT_T1);
        const __m512i v0 = _mm512_load_si512(v), v1 = _mm512_load_si512(v + 32);
        for (int m = 0; m < nq; m++) {
            const __m512i pair = pair_of(p + m * BLOCK + 2 * r);
            dot_pairs(acc + 2 * m, pair, v0);
            dot_pairs(acc + 2 * m + 1, pair, v1);
        }
    }
    const __m512i low =
        _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high =
        _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int m = 0; m < nq; m++) {
        float *out = query_part(w, i + m) + TUG_ATTN_PART_OUT + c;
        const __m512 unit = _mm512_set1_ps(w->unit[i + m]);
        const __m512i s0 = _mm512_permutex2var_epi32(acc[2 * m], low, acc[2 * m + 1]);
        const __m512i s1 = _mm512_permutex2var_epi32(acc[2 * m], high, acc[2 * m + 1]);
        __m512 o0 = _mm512_mul_ps(_mm512_cvtepi32_ps(s0), unit);
        __m512 o1 = _mm512_mul_ps(_mm512_cvtepi32_ps(s1), unit);
        if (!w->first) {
            const __m512 rescale = _mm512_set1_ps(w->rescale[i + m]);
            o0 = _mm512_fmadd_ps(_mm512_load_ps(out), rescale, o0);
            o1 = _mm512_fmadd_ps(_mm512_load_ps(out + 16), rescale, o1);
        }
        _mm512_store_ps(out, o0);
        _mm512_store_ps(out + 16, o1);
    }
}

/* The largest tile that nq queries fill. */
INLINE int tile_of(int nq) {
    return nq >= TILE_Q ? TILE_Q : nq >= 4 ? 4 : nq >= 2 ? 2 : 1;
}

/* Scores of all queries with the block.  The first tile fetches the V of the block. */
static void score_block(work *w) {
    const tug_attn_args *a = w->a;
    const char *ahead = (const char *)a->v + (size_t)w->r0 * a->row_bytes;
    for (int first = 0; first < w->n_rows; first += PANEL_ROWS) {
        find_k(w, first);
        for (int i = 0, nq; i < w->n_q; i += nq) {
            nq = tile_of(w->n_q - i);
            if (visible_to_tile(w, i, nq) <= first) continue;
            const int step = i == 0 ? 128 : 0;
            switch (nq) {
            case TILE_Q: score_tile(w, i, TILE_Q, first, ahead, step); break;
            case 4: score_tile(w, i, 4, first, ahead, step); break;
            case 2: score_tile(w, i, 2, first, ahead, step); break;
            default: score_tile(w, i, 1, first, ahead, step);
            }
        }
        ahead += PANEL_ROWS * a->row_bytes;
    }
}

/* The scores of query i become weights: exp(score - max) times the scale of the row of V,
 * as int16 multiples of a unit. */
static void weigh(const work *w, int i) {
    const int n = visible(w, i);
    const int32_t *s = w->scores + i * BLOCK;
    const float before = w->max[i];
    const __m512 q_scale = _mm512_set1_ps(w->q_scale[i]);
    __m512 v[BLOCK / 16], top = _mm512_set1_ps(before);
    for (int j = 0; j < BLOCK / 16; j++) {
        const __mmask16 seen = n > 16 * j ? first_lanes(n - 16 * j) : 0;
        const __m512 scale = _mm512_mul_ps(_mm512_load_ps(w->k_scale + 16 * j), q_scale);
        const __m512 score = _mm512_cvtepi32_ps(_mm512_load_si512(s + 16 * j));
        v[j] = _mm512_mask_mul_ps(_mm512_set1_ps(-INFINITY), seen, score, scale);
        top = _mm512_max_ps(top, v[j]);
    }
    const __m512 max = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    __m512 sum = _mm512_setzero_ps(), all = sum, most = sum;
    for (int j = 0; j < BLOCK / 16; j++) {
        const __mmask16 seen = n > 16 * j ? first_lanes(n - 16 * j) : 0;
        const __m512 p = exp_ps(_mm512_sub_ps(v[j], max));
        sum = _mm512_add_ps(sum, p);
        v[j] = _mm512_maskz_mul_ps(seen, p, _mm512_load_ps(w->v_scale + 16 * j));
        all = _mm512_add_ps(all, v[j]);
        most = _mm512_max_ps(most, v[j]);
    }
    float unit = _mm512_reduce_add_ps(all) / WEIGHT_SUM;
    const float by_max = _mm512_reduce_max_ps(most) / WEIGHT_MAX;
    if (by_max > unit) unit = by_max; /* a NaN is in the sum, and stays */
    const __m512 inverse = i16_inverse(unit);
    for (int j = 0; j < BLOCK / 16; j++) {
        const __m512i p = _mm512_cvtps_epi32(_mm512_mul_ps(v[j], inverse));
        _mm256_store_si256((__m256i *)(w->weights + i * BLOCK + 16 * j),
                           _mm512_cvtsepi32_epi16(p));
    }
    const __m512 risen = _mm512_sub_ps(_mm512_set1_ps(before), max);
    w->unit[i] = unit;
    w->max[i] = _mm512_cvtss_f32(max);
    w->rescale[i] = _mm512_cvtss_f32(exp_ps(risen));
    w->sum[i] = w->sum[i] * w->rescale[i] + _mm512_reduce_add_ps(sum);
}

/* The weighted sum of V over the block for all queries; the first tiles fetch the K of the
 * next block (a prefetch beyond the cache's end is harmless). */
static void gather_block(const work *w) {
    const tug_attn_args *a = w->a;
    const char *ahead = (const char *)a->k + (size_t)(w->r0 + BLOCK) * a->row_bytes;
    for (int c = 0; c < a->head_dim; c += PANEL_COLS) {
        for (int i = 0, nq; i < w->n_q; i += nq) {
            nq = tile_of(w->n_q - i);
            const int n = (visible_to_tile(w, i, nq) + 1) / 2, step = i == 0 ? 128 : 0;
            if (n == 0) continue;
            switch (nq) {
            case TILE_Q: gather_tile(w, i, TILE_Q, c, n, ahead, step); break;
            case 4: gather_tile(w, i, 4, c, n, ahead, step); break;
            case 2: gather_tile(w, i, 2, c, n, ahead, step); break;
            default: gather_tile(w, i, 1, c, n, ahead, step);
            }
        }
        ahead += BLOCK / 2 * 128;
    }
}

/* ---- the chunk ----------------------------------------------------------------------- */

/* Query i as int16; its scale times that of the scores. */
static void convert_query(const work *w, int i) {
    const tug_attn_args *a = w->a;
    const float *q = a->q + i * a->q_stride;
    __m512 max = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int d = 0; d < a->head_dim; d += 16) {
        const __m512 v = _mm512_loadu_ps(q + d);
        max = _mm512_max_ps(_mm512_abs_ps(v), max);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    const float scale = i16_scale_of(max, squares, TUG_I16_KEY_MAX);
    const __m512 inverse = i16_inverse(scale);
    for (int d = 0; d < a->head_dim; d += 16) {
        _mm256_store_si256((__m256i *)(w->q + i * a->head_dim + d),
                           to_i16(_mm512_loadu_ps(q + d), inverse, TUG_I16_KEY_MAX));
    }
    w->q_scale[i] = scale * a->scale;
}

/* Divides the scratch.  Every part of it is a multiple of 64 bytes. */
static void begin(work *w) {
    const int dim = w->a->head_dim;
    float *at = w->a->scratch;
    w->q = (int16_t *)(void *)at, at += TUG_ATTN_QUERIES * dim / 2;
    w->scores = (int32_t *)(void *)at, at += TUG_ATTN_QUERIES * BLOCK;
    w->weights = (int16_t *)(void *)at, at += TUG_ATTN_QUERIES * BLOCK / 2;
    w->k_filled = (int16_t *)(void *)at, at += PANEL_ROWS * dim / 2;
    w->v_filled = (int16_t *)(void *)at, at += BLOCK * dim / 2;
    w->rows = (int16_t *)(void *)at, at += 16 * dim / 2;
    w->k_converted = at, at += BLOCK;
    w->v_converted = at, at += BLOCK;
    w->q_scale = at, at += TUG_ATTN_QUERIES;
    w->max = at, at += TUG_ATTN_QUERIES;
    w->sum = at, at += TUG_ATTN_QUERIES;
    w->rescale = at, at += TUG_ATTN_QUERIES;
    w->unit = at;
}

static void attend_chunk(const tug_attn_args *a, int64_t chunk, float *parts,
                         as_i16_fn *as_i16) {
    work w = {.a = a, .parts = parts, .as_i16 = as_i16, .n_q = (int)a->n_q};
    begin(&w);
    const int64_t start = chunk * TUG_ATTN_CHUNK;
    int64_t end = 0;
    for (int i = 0; i < w.n_q; i++) {
        convert_query(&w, i);
        w.max[i] = -FLT_MAX; /* not -inf: rows that all score -inf then weigh 0 */
        w.sum[i] = 0;
        if (a->q_len[i] > end) end = a->q_len[i];
    }
    if (end > start + TUG_ATTN_CHUNK) end = start + TUG_ATTN_CHUNK;
    for (w.r0 = start; w.r0 < end; w.r0 += BLOCK) {
        w.n_rows = end - w.r0 < BLOCK ? (int)(end - w.r0) : BLOCK;
        w.first = w.r0 == start;
        score_block(&w);
        find_v(&w);
        for (int i = 0; i < w.n_q; i++) weigh(&w, i);
        gather_block(&w);
    }
    for (int i = 0; i < w.n_q; i++) {
        query_part(&w, i)[0] = w.max[i];
        query_part(&w, i)[1] = w.sum[i];
    }
}

/* ---- the kernels --------------------------------------------------------------------- */

void tug_attn_chunk_f16_avx512(const tug_attn_args *a, int64_t chunk, float *parts) {
    attend_chunk(a, chunk, parts, as_i16_from_f16);
}

void tug_attn_chunk_q8_0_avx512(const tug_attn_args *a, int64_t chunk, float *parts) {
    attend_chunk(a, chunk, parts, as_i16_from_q8_0);
}

void tug_attn_chunk_i16_avx512(const tug_attn_args *a, int64_t chunk, float *parts) {
    attend_chunk(a, chunk, parts, NULL);
}

void tug_attn_f16_avx512(const tug_attn_args *a) {
    tug_attn_by_chunks(a, tug_attn_chunk_f16_avx512);
}

void tug_attn_q8_0_avx512(const tug_attn_args *a) {
    tug_attn_by_chunks(a, tug_attn_chunk_q8_0_avx512);
}

void tug_attn_i16_avx512(const tug_attn_args *a) {
    tug_attn_by_chunks(a, tug_attn_chunk_i16_avx512);
}
