/* attn_avx2.c - attention over a cache of f16, f32 or Q8_0 rows, and storing such rows,
 * with 8 values per vector.  The walk over the cache, and why a query's result does not
 * depend on the others, is in attn_walk.h.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/cpu/kernels_attn.h"
#include "kernels/cpu/x86/attn_walk.h"
#include "kernels/cpu/x86/vec_avx2.h"

enum {
    TILE_ROWS = 2, /* cache rows per tile of scores */
    TILE_COLS = 2, /* vectors of columns per tile of outputs */
};

/* ---- the cache rows ------------------------------------------------------------------ */

void tug_kv_store_f16_avx2(void *cache, int64_t row, const float *x, int64_t n) {
    char *to = (char *)cache + row * n * 2;
    for (int64_t i = 0; i < n; i += 8) {
        const int64_t left = n - i < 8 ? n - i : 8;
        const __m128i h =
            _mm256_cvtps_ph(load_left(x + i, left), _MM_FROUND_TO_NEAREST_INT);
        memcpy(to + i * 2, &h, (size_t)left * 2);
    }
}

/* x * inverse rounded to the nearest whole number, halves away from zero. */
static __m256i quantise(__m256 x, __m256 inverse) {
    const __m256 v = _mm256_mul_ps(x, inverse), one = _mm256_set1_ps(1.0f);
    const __m256 whole = _mm256_round_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __m256 rest = _mm256_sub_ps(v, whole); /* exact */
    const __m256 up = _mm256_cmp_ps(rest, _mm256_set1_ps(0.5f), _CMP_GE_OQ);
    const __m256 down = _mm256_cmp_ps(rest, _mm256_set1_ps(-0.5f), _CMP_LE_OQ);
    const __m256 more = _mm256_sub_ps(_mm256_and_ps(up, one), _mm256_and_ps(down, one));
    return _mm256_cvtps_epi32(_mm256_add_ps(whole, more));
}

static uint32_t max_lane(__m256i v) {
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

void tug_kv_store_q8_0_avx2(void *cache, int64_t row, const float *x, int64_t n) {
    char *block = (char *)cache + row * (n / Q8_0_ELEMS) * Q8_0_BYTES;
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (int64_t i = 0; i < n; i += Q8_0_ELEMS, block += Q8_0_BYTES) {
        __m256 v[4];
        __m256i magnitude = _mm256_setzero_si256(), q[4];
        for (int j = 0; j < 4; j++) {
            v[j] = _mm256_loadu_ps(x + i + 8 * j);
            /* As bits, NaN is above every magnitude: the scale carries it. */
            const __m256i bits = _mm256_castps_si256(_mm256_andnot_ps(sign, v[j]));
            magnitude = _mm256_max_epi32(magnitude, bits);
        }
        const float d = tug_f32_from_bits(max_lane(magnitude)) / 127.0f;
        const __m256 inverse = _mm256_set1_ps(d >= 0x1p-126f ? 1.0f / d : 0.0f);
        const tug_f16 scale = tug_f32_to_f16(d);
        memcpy(block, &scale, sizeof scale);
        for (int j = 0; j < 4; j++) q[j] = quantise(v[j], inverse);
        /* The packing interleaves halves; the permutation puts groups of four in order. */
        const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]),
                                                 _mm256_packs_epi32(q[2], q[3]));
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256((__m256i *)(block + 2),
                            _mm256_permutevar8x32_epi32(bytes, order));
    }
}

static void expand_f16(float *y, const char *cache, int64_t row, int c, int n,
                       int head_dim) {
    const char *from = cache + (row * head_dim + c) * 2;
    for (int i = 0; i < n; i += 8) {
        const __m128i h = _mm_loadu_si128((const __m128i *)(from + i * 2));
        _mm256_store_ps(y + i, _mm256_cvtph_ps(h));
    }
}

static void expand_f32(float *y, const char *cache, int64_t row, int c, int n,
                       int head_dim) {
    memcpy(y, cache + (row * head_dim + c) * 4, (size_t)n * sizeof *y);
}

static void expand_q8_0(float *y, const char *cache, int64_t row, int c, int n,
                        int head_dim) {
    const char *block = cache + (row * head_dim + c) / Q8_0_ELEMS * Q8_0_BYTES;
    for (int i = 0; i < n; i += Q8_0_ELEMS, block += Q8_0_BYTES) {
        tug_f16 scale;
        memcpy(&scale, block, sizeof scale);
        const __m256 d = _mm256_set1_ps(_cvtsh_ss(scale));
        for (int j = 0; j < Q8_0_ELEMS; j += 8) {
            const __m128i q = _mm_loadl_epi64((const __m128i *)(block + 2 + j));
            const __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
            _mm256_store_ps(y + i + j, _mm256_mul_ps(d, v));
        }
    }
}

/* The layout is made for AVX-512; here it only has to be right. */
static void expand_key_i16(float *y, const char *cache, int64_t row, int c, int n,
                           int head_dim) {
    const int16_t *values = (const int16_t *)(const void *)cache;
    const float scale = tug_i16_scales(cache, row, head_dim)[row % TUG_KV_BLOCK];
    for (int d = 0; d < n; d++) {
        y[d] = scale * (float)values[tug_i16_key_at(row, c + d, head_dim)];
    }
}

static void expand_value_i16(float *y, const char *cache, int64_t row, int c, int n,
                             int head_dim) {
    const int16_t *values = (const int16_t *)(const void *)cache;
    const float scale = tug_i16_scales(cache, row, head_dim)[row % TUG_KV_BLOCK];
    for (int d = 0; d < n; d++) {
        y[d] = scale * (float)values[tug_i16_value_at(row, c + d, head_dim)];
    }
}

/* ---- one block ----------------------------------------------------------------------- */

/* The sums of 8 vectors, as one vector. */
INLINE __m256 sum_each_of_8(const __m256 *v) {
    const __m256 low =
        _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    const __m256 high =
        _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                         _mm256_permute2f128_ps(low, high, 0x31));
}

/* nq queries from i with TILE_ROWS rows, from row r of those expanded, to columns `at` of
 * the weights. */
INLINE void score_tile(walk *w, int i, int nq, int r, int at) {
    const tug_attn_args *a = w->a;
    const float *q = a->q + i * a->q_stride;
    const float *k = w->expanded + r * a->head_dim;
    const char *ahead = fetch(w, a->head_dim * 2);
    __m256 acc[TILE_Q * TILE_ROWS];
    for (int j = 0; j < TILE_Q * TILE_ROWS; j++) acc[j] = _mm256_setzero_ps();
    for (int d = 0; d < a->head_dim; d += 8) {
        _mm_prefetch(ahead + 2 * d, _MM_HINT_T1);
        __m256 kd[TILE_ROWS];
        for (int j = 0; j < TILE_ROWS; j++)
            kd[j] = _mm256_load_ps(k + j * a->head_dim + d);
        for (int m = 0; m < nq; m++) {
            const __m256 qd = _mm256_loadu_ps(q + m * a->q_stride + d);
            __m256 *sum = acc + m * TILE_ROWS;
            for (int j = 0; j < TILE_ROWS; j++)
                sum[j] = _mm256_fmadd_ps(qd, kd[j], sum[j]);
        }
    }
    const __m256 s = _mm256_mul_ps(sum_each_of_8(acc), _mm256_set1_ps(a->scale));
    const __m128 low = _mm256_castps256_ps128(s), high = _mm256_extractf128_ps(s, 1);
    float *to = w->weights + i * BLOCK + at;
    _mm_storel_pi((__m64 *)to, low);
    if (nq > 1) _mm_storeh_pi((__m64 *)(to + BLOCK), low);
    if (nq > 2) _mm_storel_pi((__m64 *)(to + 2 * BLOCK), high);
    if (nq > 3) _mm_storeh_pi((__m64 *)(to + 3 * BLOCK), high);
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

static float sum_lanes(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static float largest_lane(__m256 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static void weigh(const walk *w, int i) {
    const int n = visible(w, i);
    const float before = w->max[i];
    float *s = w->weights + i * BLOCK;
    __m256 top = _mm256_set1_ps(before), sum = _mm256_setzero_ps();
    for (int j = n; j < BLOCK; j++) s[j] = -INFINITY; /* will weigh 0 */
    for (int j = 0; j < BLOCK; j += 8) top = _mm256_max_ps(top, _mm256_loadu_ps(s + j));
    const __m256 max = _mm256_set1_ps(largest_lane(top));
    for (int j = 0; j < BLOCK; j += 8) {
        const __m256 p = exp_ps(_mm256_sub_ps(_mm256_loadu_ps(s + j), max));
        _mm256_storeu_ps(s + j, p);
        sum = _mm256_add_ps(sum, p);
    }
    const __m256 risen = _mm256_sub_ps(_mm256_set1_ps(before), max);
    w->max[i] = _mm256_cvtss_f32(max);
    w->rescale[i] = _mm256_cvtss_f32(exp_ps(risen));
    w->sum[i] = w->sum[i] * w->rescale[i] + sum_lanes(sum);
}

/* nq queries from i and TILE_COLS vectors of columns, from column c of the output and v of
 * those expanded, whose rows are v_stride apart. */
INLINE void gather_tile(walk *w, int i, int nq, int c, const float *v, int v_stride) {
    const tug_attn_args *a = w->a;
    float *out = query_out(w, i) + c;
    const int64_t out_stride = tug_attn_part_floats(a->head_dim);
    const float *p = w->weights + i * BLOCK;
    const int n = visible(w, i);
    const char *ahead = fetch(w, n * 16);
    __m256 acc[TILE_Q * TILE_COLS];
    for (int m = 0; m < nq; m++) {
        const __m256 rescale = _mm256_set1_ps(w->rescale[i + m]);
        for (int j = 0; j < TILE_COLS; j++) {
            const __m256 before = _mm256_loadu_ps(out + m * out_stride + 8 * j);
            acc[m * TILE_COLS + j] = _mm256_mul_ps(rescale, before);
        }
    }
    for (int r = 0; r < n; r++, v += v_stride) {
        _mm_prefetch(ahead + 16 * r, _MM_HINT_T1);
        __m256 vr[TILE_COLS];
        for (int j = 0; j < TILE_COLS; j++) vr[j] = _mm256_load_ps(v + 8 * j);
        for (int m = 0; m < nq; m++) {
            const __m256 weight = _mm256_set1_ps(p[m * BLOCK + r]);
            __m256 *sum = acc + m * TILE_COLS;
            for (int j = 0; j < TILE_COLS; j++) {
                sum[j] = _mm256_fmadd_ps(weight, vr[j], sum[j]);
            }
        }
    }
    for (int m = 0; m < nq; m++) {
        for (int j = 0; j < TILE_COLS; j++) {
            _mm256_storeu_ps(out + m * out_stride + 8 * j, acc[m * TILE_COLS + j]);
        }
    }
}

static void gather(walk *w, int i, int nq, int c, int n) {
    for (int j = 0; j < n; j += 8 * TILE_COLS) {
        switch (nq) {
        case 4: gather_tile(w, i, 4, c + j, w->expanded + j, n); break;
        case 3: gather_tile(w, i, 3, c + j, w->expanded + j, n); break;
        case 2: gather_tile(w, i, 2, c + j, w->expanded + j, n); break;
        default: gather_tile(w, i, 1, c + j, w->expanded + j, n);
        }
    }
}

/* ---- the kernels --------------------------------------------------------------------- */

void tug_attn_chunk_f16_avx2(const tug_attn_args *a, int64_t chunk, float *parts) {
    attend_chunk(a, chunk, parts,
                 &(attn_steps){expand_f16, expand_f16, score, weigh, gather});
}

void tug_attn_chunk_q8_0_avx2(const tug_attn_args *a, int64_t chunk, float *parts) {
    attend_chunk(a, chunk, parts,
                 &(attn_steps){expand_q8_0, expand_q8_0, score, weigh, gather});
}

void tug_attn_chunk_f32_avx2(const tug_attn_args *a, int64_t chunk, float *parts) {
    attend_chunk(a, chunk, parts,
                 &(attn_steps){expand_f32, expand_f32, score, weigh, gather});
}

void tug_attn_chunk_i16_avx2(const tug_attn_args *a, int64_t chunk, float *parts) {
    attend_chunk(a, chunk, parts,
                 &(attn_steps){expand_key_i16, expand_value_i16, score, weigh, gather});
}

void tug_attn_f16_avx2(const tug_attn_args *a) {
    tug_attn_by_chunks(a, tug_attn_chunk_f16_avx2);
}

void tug_attn_q8_0_avx2(const tug_attn_args *a) {
    tug_attn_by_chunks(a, tug_attn_chunk_q8_0_avx2);
}

void tug_attn_f32_avx2(const tug_attn_args *a) {
    tug_attn_by_chunks(a, tug_attn_chunk_f32_avx2);
}

void tug_attn_i16_avx2(const tug_attn_args *a) {
    tug_attn_by_chunks(a, tug_attn_chunk_i16_avx2);
}

void tug_attn_join_avx2(float *total, const float *part, int head_dim) {
    const float max = total[0] > part[0] ? total[0] : part[0];
    const __m256 ours = exp_ps(_mm256_set1_ps(total[0] - max));
    const __m256 theirs = exp_ps(_mm256_set1_ps(part[0] - max));
    total[0] = max;
    total[1] = total[1] * _mm256_cvtss_f32(ours) + part[1] * _mm256_cvtss_f32(theirs);
    for (int d = TUG_ATTN_PART_OUT; d < TUG_ATTN_PART_OUT + head_dim; d += 8) {
        const __m256 sum = _mm256_mul_ps(_mm256_load_ps(total + d), ours);
        _mm256_store_ps(total + d,
                        _mm256_fmadd_ps(_mm256_load_ps(part + d), theirs, sum));
    }
}

void tug_attn_finish_avx2(float *out, const float *total, int head_dim) {
    const __m256 sum = _mm256_set1_ps(total[1]);
    for (int d = 0; d < head_dim; d += 8) {
        const __m256 all = _mm256_load_ps(total + TUG_ATTN_PART_OUT + d);
        /* 0 is added for its sign: -0 may have met blocks that the query does not see. */
        const __m256 mean = _mm256_div_ps(all, sum);
        _mm256_storeu_ps(out + d, _mm256_add_ps(mean, _mm256_setzero_ps()));
    }
}
