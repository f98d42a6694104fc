/* attn_avx512.c - attention over a cache of f16, f32 or Q8_0 rows, and storing such rows.
 *
 * Online softmax over blocks of 64 cache rows.  K of a block is expanded to f32, 16 rows at
 * a time, and scored for all queries; the scores become weights; V is expanded, 64 columns
 * at a time, and summed into the output, which is rescaled by how much the query's running
 * maximum has risen.  What is expanded (16 KB at head size 256) stays in the first-level
 * cache, and while one half of a block is worked on, the next half is fetched.
 *
 * INDEPENDENCE  The blocks begin at fixed rows of the cache, a query uses only the rows it
 * may see, and each score, weight and output element is computed by one sequence of
 * operations whatever tile of queries it is in.
 * SPDX-License-Identifier: MIT */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/cpu/kernels_attn.h"
#include "kernels/cpu/x86/vec_avx512.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = TUG_ATTN_BLOCK,
    K_ROWS = TUG_ATTN_K_ROWS,
    V_COLS = TUG_ATTN_V_COLS,
    TILE_Q = 4,              /* queries per tile */
    TILE_ROWS = 4,           /* cache rows per tile of scores */
    TILE_COLS = V_COLS / 16, /* vectors of columns per tile of outputs */
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

/* y (n,) = n values of a cache row as f32; n is a multiple of 32. */
typedef void expand_fn(float *y, const char *row, int n);

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
    int64_t r0;                    /* the first row of the block */
    int n_rows;                    /* of the block that any query may see */
    float *expanded;               /* (K_ROWS, head_dim) of K, or (BLOCK, V_COLS) of V */
    float *weights;                /* (n_q, BLOCK): scores, then weights */
    float *max, *sum, *rescale;    /* (n_q,) */
    const char *ahead, *ahead_end; /* cache rows still to be fetched, see fetch */
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

/* Where to fetch from next: a tile asks for one cache line per 16 multiply-adds, which
 * keeps the memory busy without ever waiting for it (a burst of requests would).  When
 * all is fetched, tiles go on to ask for the last lines, which costs nothing. */
static const char *fetch(walk *w, size_t bytes) {
    const char *at = w->ahead;
    if ((size_t)(w->ahead_end - at) > bytes) w->ahead += bytes;
    return at;
}

static void fetch_from(walk *w, const char *p, size_t bytes) {
    w->ahead = p;
    w->ahead_end = p + bytes;
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

/* Scores of queries i..i+nq with TILE_ROWS rows, from row r of those expanded, to columns
 * `at` of the weights. */
INLINE void score_tile(walk *w, int i, int r, int at, int nq) {
    const tug_attn_args *a = w->a;
    const float *q = a->q + (w->q0 + i) * a->q_stride;
    const float *k = w->expanded + r * a->head_dim;
    const char *ahead = fetch(w, (size_t)a->head_dim * 4);
    __m512 acc[TILE_Q * TILE_ROWS];
    for (int j = 0; j < TILE_Q * TILE_ROWS; j++) acc[j] = _mm512_setzero_ps();
    for (int d = 0; d < a->head_dim; d += 16) {
        _mm_prefetch(ahead + 4 * d, _MM_HINT_T1);
        __m512 kd[TILE_ROWS];
        for (int j = 0; j < TILE_ROWS; j++)
            kd[j] = _mm512_load_ps(k + j * a->head_dim + d);
        for (int m = 0; m < nq; m++) {
            const __m512 qd = _mm512_loadu_ps(q + m * a->q_stride + d);
            for (int j = 0; j < TILE_ROWS; j++) {
                acc[m * TILE_ROWS + j] =
                    _mm512_fmadd_ps(qd, kd[j], acc[m * TILE_ROWS + j]);
            }
        }
    }
    const __m512 s = _mm512_mul_ps(sum_each_of_16(acc), _mm512_set1_ps(a->scale));
    float *to = w->weights + i * BLOCK + at;
    _mm_storeu_ps(to, _mm512_castps512_ps128(s));
    if (nq > 1) _mm_storeu_ps(to + BLOCK, _mm512_extractf32x4_ps(s, 1));
    if (nq > 2) _mm_storeu_ps(to + 2 * BLOCK, _mm512_extractf32x4_ps(s, 2));
    if (nq > 3) _mm_storeu_ps(to + 3 * BLOCK, _mm512_extractf32x4_ps(s, 3));
}

/* Scores of queries i..i+nq with the n rows expanded, which begin at row `first` of the
 * block.  A last tile may hold rows that no query sees: their scores are not used. */
INLINE void score_rows(walk *w, int i, int first, int n, int nq) {
    for (int r = 0; r < n; r += TILE_ROWS) score_tile(w, i, r, first + r, nq);
}

/* Scores of all queries with the block, fetching its V meanwhile. */
INLINE void score_block(walk *w, expand_fn *expand) {
    const tug_attn_args *a = w->a;
    const char *k = (const char *)a->k + (size_t)w->r0 * a->row_bytes;
    fetch_from(w, (const char *)a->v + (size_t)w->r0 * a->row_bytes,
               a->row_bytes * (size_t)w->n_rows);
    for (int first = 0; first < w->n_rows; first += K_ROWS) {
        const int n = w->n_rows - first < K_ROWS ? w->n_rows - first : K_ROWS;
        for (int r = 0; r < n; r++, k += a->row_bytes) {
            expand(w->expanded + r * a->head_dim, k, a->head_dim);
        }
        for (int i = 0, nq; i < w->n_q; i += nq) {
            nq = tile_queries(w, i);
            const int see = visible(w, i) - first < n ? visible(w, i) - first : n;
            switch (nq) {
            case 4: score_rows(w, i, first, see, 4); break;
            case 3: score_rows(w, i, first, see, 3); break;
            case 2: score_rows(w, i, first, see, 2); break;
            default: score_rows(w, i, first, see, 1);
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

/* out = rescale out + weights V for queries i..i+nq and the 16 nv columns expanded, which
 * begin at column c. */
INLINE void gather_tile(walk *w, int i, int c, int nq, int nv) {
    const tug_attn_args *a = w->a;
    float *out = a->out + (w->q0 + i) * a->out_stride + c;
    const float *p = w->weights + i * BLOCK, *v = w->expanded;
    __m512 acc[TILE_Q * TILE_COLS];
    for (int m = 0; m < nq; m++) {
        const __m512 rescale = _mm512_set1_ps(w->rescale[i + m]);
        for (int j = 0; j < nv; j++) {
            acc[m * nv + j] =
                _mm512_mul_ps(rescale, _mm512_loadu_ps(out + m * a->out_stride + 16 * j));
        }
    }
    const int n = visible(w, i);
    const char *ahead = fetch(w, (size_t)n * 64);
    for (int r = 0; r < n; r++, v += 16 * nv) {
        _mm_prefetch(ahead + 64 * r, _MM_HINT_T1);
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

/* The columns [c, c + 16 nv) of V, whose part of the block's first row is at v, for all
 * queries. */
INLINE void gather_columns(walk *w, const char *v, int c, int nv, expand_fn *expand) {
    for (int r = 0; r < w->n_rows; r++, v += w->a->row_bytes) {
        expand(w->expanded + r * 16 * nv, v, 16 * nv);
    }
    for (int i = 0, nq; i < w->n_q; i += nq) {
        nq = tile_queries(w, i);
        if (visible(w, i) == 0) continue;
        switch (nq) {
        case 4: gather_tile(w, i, c, 4, nv); break;
        case 3: gather_tile(w, i, c, 3, nv); break;
        case 2: gather_tile(w, i, c, 2, nv); break;
        default: gather_tile(w, i, c, 1, nv);
        }
    }
}

/* The weighted sum of V over the block for all queries, fetching the K of the next block
 * meanwhile.  A prefetch beyond the cache is harmless. */
INLINE void gather_block(walk *w, expand_fn *expand) {
    const tug_attn_args *a = w->a;
    const char *v = (const char *)a->v + (size_t)w->r0 * a->row_bytes;
    fetch_from(w, (const char *)a->k + (size_t)(w->r0 + BLOCK) * a->row_bytes,
               a->row_bytes * BLOCK);
    for (int c = 0; c < a->head_dim;) {
        const int n =
            a->head_dim - c < V_COLS ? 32 : V_COLS; /* a multiple of 32 is left */
        const size_t bytes =
            a->row_bytes * (size_t)n / (size_t)a->head_dim; /* of a row */
        if (n == V_COLS) {
            gather_columns(w, v, c, TILE_COLS, expand);
        } else {
            gather_columns(w, v, c, 2, expand);
        }
        v += bytes;
        c += n;
    }
}

/* ---- the walk over the cache --------------------------------------------------------- */

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

INLINE void attend(const tug_attn_args *a, expand_fn *expand) {
    walk w = {.a = a, .expanded = a->scratch};
    w.weights = w.expanded + K_ROWS * TUG_MAX_HEAD_DIM;
    w.max = w.weights + TUG_ATTN_QUERIES * BLOCK;
    w.sum = w.max + TUG_ATTN_QUERIES;
    w.rescale = w.sum + TUG_ATTN_QUERIES;
    for (; w.q0 < a->n_q; w.q0 += w.n_q) {
        w.n_q =
            a->n_q - w.q0 < TUG_ATTN_QUERIES ? (int)(a->n_q - w.q0) : TUG_ATTN_QUERIES;
        const int64_t longest = begin_queries(&w);
        for (w.r0 = 0; w.r0 < longest; w.r0 += BLOCK) {
            w.n_rows = longest - w.r0 < BLOCK ? (int)(longest - w.r0) : BLOCK;
            score_block(&w, expand);
            for (int i = 0; i < w.n_q; i++) weigh(&w, i);
            gather_block(&w, expand);
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
