/* attn_avx512.c - attention over a cache of f16, f32 or Q8_0 rows, and storing such rows.
 *
 * Online softmax over blocks of cache rows.  A block of K is expanded to f32 once for all
 * queries of the call, scored, and turned into weights; then the same for V, summed into
 * the output, which is rescaled whenever a query's running maximum has risen.  While one
 * block is worked on, the next one is fetched into the caches.
 *
 * INDEPENDENCE  The blocks begin at fixed rows of the cache, a query uses only the rows it
 * may see, and each score, weight and output element is computed by one sequence of
 * operations whatever tile of queries it is in.
 * SPDX-License-Identifier: MIT */
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
    TILE_Q = 4,    /* queries per tile */
    TILE_ROWS = 4, /* cache rows per tile of scores */
    TILE_COLS = 4, /* vectors of columns per tile of outputs */
    Q8_0_ELEMS = 32,
    Q8_0_BYTES = 34
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

/* y (n,) = one cache row as f32; n is a multiple of 32. */
typedef void expand_row_fn(float *y, const char *row, int n);

INLINE void expand_f16(float *y, const char *row, int n) {
    for (int i = 0; i < n; i += 16) {
        const __m256i h = _mm256_loadu_si256((const __m256i *)(row + i * 2));
        _mm512_store_ps(y + i, _mm512_cvtph_ps(h));
    }
}

INLINE void expand_f32(float *y, const char *row, int n) {
    for (int i = 0; i < n; i += 16) _mm512_store_ps(y + i, _mm512_loadu_ps(row + i * 4));
}

INLINE void expand_q8_0(float *y, const char *row, int n) {
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

/* The state of one call: up to TUG_ATTN_QUERIES of its queries at one block of rows. */
typedef struct walk {
    const tug_attn_args *a;
    int64_t q0; /* the first query in flight */
    int n_q;
    int64_t r0;     /* the first row of the block */
    float *rows;    /* (BLOCK, head_dim) stride row_stride: K, then V, of the block */
    int row_stride; /* floats */
    float *weights; /* (n_q, BLOCK): scores, then weights */
    float *max, *sum, *rescale; /* (n_q,) */
} walk;

/* How many rows of the block query i may see. */
static int visible(const walk *w, int i) {
    const int64_t n = w->a->q_len[w->q0 + i] - w->r0;
    return n < 0 ? 0 : n > BLOCK ? BLOCK : (int)n;
}

/* Queries of the tile that begins at query i: those that see the same rows, so that no
 * query is touched by rows beyond its own. */
static int tile_queries(const walk *w, int i) {
    int n = 1;
    while (n < TILE_Q && i + n < w->n_q && visible(w, i + n) == visible(w, i)) n++;
    return n;
}

/* Asks for `lines` cache lines of what will be needed next. */
static void fetch(const char *p, size_t lines) {
    for (size_t i = 0; i < lines; i++) _mm_prefetch(p + 64 * i, _MM_HINT_T1);
}

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

/* Scores of queries i..i+nq with rows r..r+TILE_ROWS of the block. */
INLINE void score_tile(const walk *w, int i, int r, int nq) {
    const tug_attn_args *a = w->a;
    const float *q = a->q + (w->q0 + i) * a->q_stride;
    const float *k = w->rows + (int64_t)r * w->row_stride;
    __m512 acc[TILE_Q * TILE_ROWS];
    for (int j = 0; j < TILE_Q * TILE_ROWS; j++) acc[j] = _mm512_setzero_ps();
    for (int d = 0; d < a->head_dim; d += 16) {
        __m512 kd[TILE_ROWS];
        for (int j = 0; j < TILE_ROWS; j++)
            kd[j] = _mm512_load_ps(k + j * w->row_stride + d);
        for (int m = 0; m < nq; m++) {
            const __m512 qd = _mm512_loadu_ps(q + m * a->q_stride + d);
            for (int j = 0; j < TILE_ROWS; j++) {
                acc[m * TILE_ROWS + j] =
                    _mm512_fmadd_ps(qd, kd[j], acc[m * TILE_ROWS + j]);
            }
        }
    }
    const __m512 s = _mm512_mul_ps(sum_each_of_16(acc), _mm512_set1_ps(a->scale));
    float *to = w->weights + i * BLOCK + r;
    _mm_storeu_ps(to, _mm512_castps512_ps128(s));
    if (nq > 1) _mm_storeu_ps(to + BLOCK, _mm512_extractf32x4_ps(s, 1));
    if (nq > 2) _mm_storeu_ps(to + 2 * BLOCK, _mm512_extractf32x4_ps(s, 2));
    if (nq > 3) _mm_storeu_ps(to + 3 * BLOCK, _mm512_extractf32x4_ps(s, 3));
}

/* Scores of all queries with the n rows of the block; `next` is what to fetch meanwhile,
 * one row of it per row of the block. */
static void score_block(const walk *w, int n, const char *next) {
    const size_t lines = (w->a->row_bytes * TILE_ROWS + 63) / 64;
    for (int r = 0; r < n; r += TILE_ROWS, next += w->a->row_bytes * TILE_ROWS) {
        fetch(next, lines);
        for (int i = 0, nq; i < w->n_q; i += nq) {
            nq = tile_queries(w, i);
            if (r >= visible(w, i)) continue;
            if (nq == 4) {
                score_tile(w, i, r, 4);
            } else if (nq == 3) {
                score_tile(w, i, r, 3);
            } else if (nq == 2) {
                score_tile(w, i, r, 2);
            } else {
                score_tile(w, i, r, 1);
            }
        }
    }
}

/* The scores of query i in the block become weights; its maximum, sum and rescale follow.
 * The maximum starts at -FLT_MAX, not at -inf: rows that all score -inf then weigh 0. */
static void weigh(const walk *w, int i) {
    const int n = visible(w, i);
    float *s = w->weights + i * BLOCK;
    if (n == 0) {
        w->rescale[i] = 1.0f;
        return;
    }
    const __m512 lowest = _mm512_set1_ps(-FLT_MAX);
    __m512 v[BLOCK / 16], top = lowest, sum = _mm512_setzero_ps();
    for (int j = 0; j < BLOCK / 16; j++) {
        const __mmask16 seen = n > 16 * j ? first_lanes(n - 16 * j) : 0;
        v[j] = _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), seen, s + 16 * j);
        top = _mm512_max_ps(top, v[j]);
    }
    const float before = w->max[i], block_max = _mm512_reduce_max_ps(top);
    const __m512 max = _mm512_set1_ps(block_max > before ? block_max : before);
    for (int j = 0; j < BLOCK / 16; j++) {
        const __m512 p = exp_ps(_mm512_sub_ps(v[j], max));
        _mm512_storeu_ps(s + 16 * j, p);
        sum = _mm512_add_ps(sum, p);
    }
    const float drop =
        _mm512_cvtss_f32(exp_ps(_mm512_sub_ps(_mm512_set1_ps(before), max)));
    w->max[i] = _mm512_cvtss_f32(max);
    w->rescale[i] = drop;
    w->sum[i] = w->sum[i] * drop + _mm512_reduce_add_ps(sum);
}

/* out = rescale out + weights V for queries i..i+nq, columns c..c+16 nv. */
INLINE void gather_tile(const walk *w, int i, int c, int nq, int nv) {
    const tug_attn_args *a = w->a;
    float *out = a->out + (w->q0 + i) * a->out_stride + c;
    const float *p = w->weights + i * BLOCK, *v = w->rows + c;
    __m512 acc[TILE_Q * TILE_COLS];
    for (int m = 0; m < nq; m++) {
        const __m512 rescale = _mm512_set1_ps(w->rescale[i + m]);
        for (int j = 0; j < nv; j++) {
            acc[m * nv + j] =
                _mm512_mul_ps(rescale, _mm512_loadu_ps(out + m * a->out_stride + 16 * j));
        }
    }
    const int n = visible(w, i);
    for (int r = 0; r < n; r++, v += w->row_stride) {
        __m512 vr[TILE_COLS];
        for (int j = 0; j < nv; j++) vr[j] = _mm512_load_ps(v + 16 * j);
        for (int m = 0; m < nq; m++) {
            const __m512 pm = _mm512_set1_ps(p[m * BLOCK + r]);
            for (int j = 0; j < nv; j++) {
                acc[m * nv + j] = _mm512_fmadd_ps(pm, vr[j], acc[m * nv + j]);
            }
        }
    }
    for (int m = 0; m < nq; m++) {
        for (int j = 0; j < nv; j++) {
            _mm512_storeu_ps(out + m * a->out_stride + 16 * j, acc[m * nv + j]);
        }
    }
}

INLINE void gather_columns(const walk *w, int c, int nv) {
    for (int i = 0, nq; i < w->n_q; i += nq) {
        nq = tile_queries(w, i);
        if (visible(w, i) == 0) continue;
        if (nq == 4) {
            gather_tile(w, i, c, 4, nv);
        } else if (nq == 3) {
            gather_tile(w, i, c, 3, nv);
        } else if (nq == 2) {
            gather_tile(w, i, c, 2, nv);
        } else {
            gather_tile(w, i, c, 1, nv);
        }
    }
}

/* All queries; `next` are the rows to fetch meanwhile. */
static void gather_block(const walk *w, const char *next) {
    const int head_dim = w->a->head_dim;
    const size_t step = w->a->row_bytes * BLOCK * 16 / (size_t)head_dim;
    for (int c = 0; c < head_dim;) {
        const int nv = head_dim - c >= 16 * TILE_COLS ? TILE_COLS : 2;
        fetch(next, step * (size_t)nv / 64);
        next += step * (size_t)nv;
        if (nv == TILE_COLS) {
            gather_columns(w, c, TILE_COLS);
        } else {
            gather_columns(w, c, 2);
        }
        c += 16 * nv;
    }
}

/* ---- the walk over the cache --------------------------------------------------------- */

/* Expands n rows; those that complete the last tile of scores become zero. */
INLINE void expand_rows(const walk *w, const char *rows, int n, expand_row_fn *expand) {
    int r = 0;
    for (; r < n; r++, rows += w->a->row_bytes) {
        expand(w->rows + (int64_t)r * w->row_stride, rows, w->a->head_dim);
    }
    for (; r % TILE_ROWS != 0; r++) {
        memset(w->rows + (int64_t)r * w->row_stride, 0,
               (size_t)w->a->head_dim * sizeof(float));
    }
}

static int64_t begin_queries(const walk *w) {
    int64_t longest = 0;
    for (int i = 0; i < w->n_q; i++) {
        const int64_t len = w->a->q_len[w->q0 + i];
        if (len > longest) longest = len;
        w->max[i] = -FLT_MAX;
        w->sum[i] = 0;
        memset(w->a->out + (w->q0 + i) * w->a->out_stride, 0,
               (size_t)w->a->head_dim * sizeof(float));
    }
    return longest;
}

static void finish_queries(const walk *w) {
    for (int i = 0; i < w->n_q; i++) {
        float *out = w->a->out + (w->q0 + i) * w->a->out_stride;
        const __m512 sum = _mm512_set1_ps(w->sum[i]);
        for (int d = 0; d < w->a->head_dim; d += 16) {
            _mm512_storeu_ps(out + d, _mm512_div_ps(_mm512_loadu_ps(out + d), sum));
        }
    }
}

INLINE void attend(const tug_attn_args *a, expand_row_fn *expand) {
    walk w = {.a = a, .rows = a->scratch, .row_stride = a->head_dim + TUG_ATTN_PAD};
    w.weights = w.rows + BLOCK * (TUG_MAX_HEAD_DIM + TUG_ATTN_PAD);
    w.max = w.weights + TUG_ATTN_QUERIES * BLOCK;
    w.sum = w.max + TUG_ATTN_QUERIES;
    w.rescale = w.sum + TUG_ATTN_QUERIES;
    for (; w.q0 < a->n_q; w.q0 += w.n_q) {
        w.n_q =
            a->n_q - w.q0 < TUG_ATTN_QUERIES ? (int)(a->n_q - w.q0) : TUG_ATTN_QUERIES;
        const int64_t longest = begin_queries(&w);
        for (w.r0 = 0; w.r0 < longest; w.r0 += BLOCK) {
            const int n = longest - w.r0 < BLOCK ? (int)(longest - w.r0) : BLOCK;
            const char *k = (const char *)a->k + (size_t)w.r0 * a->row_bytes;
            const char *v = (const char *)a->v + (size_t)w.r0 * a->row_bytes;
            const bool last = w.r0 + BLOCK >= longest;
            expand_rows(&w, k, n, expand);
            score_block(&w, n, v);
            for (int i = 0; i < w.n_q; i++) weigh(&w, i);
            expand_rows(&w, v, n, expand);
            gather_block(&w, last ? k : k + BLOCK * a->row_bytes);
        }
        finish_queries(&w);
    }
}

void tug_attn_f16_avx512(const tug_attn_args *a) {
    attend(a, expand_f16);
}

void tug_attn_q8_0_avx512(const tug_attn_args *a) {
    attend(a, expand_q8_0);
}

void tug_attn_f32_avx512(const tug_attn_args *a) {
    attend(a, expand_f32);
}
