/* act_convert_avx2.c - activations to int8 records, bit for bit as ref/act_ref.c.
 *
 * Conversion is paid once per token where a matrix is paid once per token and row.
 * SPDX-License-Identifier: MIT */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"

#include "base/f16.h"

/* Largest magnitude of x[0..n), as bits; n is a multiple of 8. */
static uint32_t max_bits(const float *x, int n) {
    const __m256i abs = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i max = _mm256_setzero_si256();
    for (int i = 0; i < n; i += 8) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        max = _mm256_max_epi32(max, _mm256_and_si256(v, abs));
    }
    __m128i m =
        _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

/* q[0..32) = x * inverse, rounded to nearest even. */
static void round32(int8_t *q, const float *x, __m256 inverse) {
    __m256i v[4];
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inverse));
    }
    const __m256i lo = _mm256_packs_epi32(v[0], v[1]),
                  hi = _mm256_packs_epi32(v[2], v[3]);
    /* The packs work within 128-bit lanes: put the groups of four back in order. */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((__m256i *)(void *)q,
                        _mm256_permutevar8x32_epi32(_mm256_packs_epi16(lo, hi), order));
}

/* See quantize in act_ref.c.  n is a multiple of 32. */
static float quantize(int8_t *q, const float *x, int n) {
    const float max = tug_f32_from_bits(max_bits(x, n));
    if (max < 0x1p-120f) {
        memset(q, 0, (size_t)n);
        return 0;
    }
    if (!isfinite(max)) {
        memset(q, 1, (size_t)n);
        return NAN;
    }
    const __m256 inverse = _mm256_set1_ps(127.0f / max);
    for (int i = 0; i < n; i += 32) round32(q + i, x + i, inverse);
    return max / 127.0f;
}

/* sum16[i] = sum of q[16 i ..], an even number of them.  VPSADBW adds eight unsigned bytes,
 * here value + 128. */
static void sums_of_16(int16_t *sum16, const int8_t *q, int n) {
    for (int i = 0; i < n; i += 2) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(q + 16 * i));
        const __m256i eights = _mm256_sad_epu8(
            _mm256_xor_si256(v, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
        const __m256i both = _mm256_add_epi64(eights, _mm256_shuffle_epi32(eights, 0x4E));
        sum16[i] = (int16_t)(_mm256_extract_epi16(both, 0) - 16 * 128);
        sum16[i + 1] = (int16_t)(_mm256_extract_epi16(both, 8) - 16 * 128);
    }
}

void tug_act_q8_32_avx2(void *dst, const float *x, int64_t n) {
    tug_act_q8_32 *rec = dst;
    for (; n > 0; rec++, x += TUG_ACT_RECORD, n -= TUG_ACT_RECORD) {
        if (n < TUG_ACT_RECORD) memset(rec, 0, sizeof *rec);
        for (int b = 0; b < 8 && b * 32 < n; b++) {
            int8_t *q = rec->q + 32 * b;
            int16_t part[2];
            rec->d[b] = quantize(q, x + (ptrdiff_t)32 * b, 32);
            sums_of_16(part, q, 2);
            rec->dsum[b] = rec->d[b] * (float)(part[0] + part[1]);
            rec->start[b] = -128 * (part[0] + part[1]);
        }
        memset(rec->pad, 0, sizeof rec->pad);
    }
}

void tug_act_q8_256_avx2(void *dst, const float *x, int64_t n) {
    tug_act_q8_256 *rec = dst;
    for (; n > 0; rec++, x += TUG_ACT_RECORD, n -= TUG_ACT_RECORD) {
        rec->d = quantize(rec->q, x, TUG_ACT_RECORD);
        sums_of_16(rec->sum16, rec->q, 16);
        rec->start = 0;
        for (int i = 0; i < 16; i++) {
            rec->start16[i] = -128 * rec->sum16[i];
            rec->start += rec->start16[i];
        }
        for (int i = 0; i < 8; i++) {
            rec->sum32[i] = (int16_t)(rec->sum16[2 * i] + rec->sum16[2 * i + 1]);
        }
        memset(rec->pad, 0, sizeof rec->pad);
    }
}

/* r[0..8) = x - d * q, rounded twice as ref does it: the compiler may not make one FMA of
 * the two. */
static void residual8(float *r, const float *x, const int8_t *q, __m256 d) {
    const __m256i v =
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)q));
    __m256 restored = _mm256_mul_ps(d, _mm256_cvtepi32_ps(v));
    __asm__("" : "+x"(restored));
    _mm256_storeu_ps(r, _mm256_sub_ps(_mm256_loadu_ps(x), restored));
}

void tug_act_residual_q8_32_avx2(float *r, const void *act, const float *x, int64_t n) {
    const tug_act_q8_32 *rows = act;
    for (int64_t i = 0; i < n; i += 8) {
        const tug_act_q8_32 *a = &rows[i / TUG_ACT_RECORD];
        const int64_t j = i % TUG_ACT_RECORD;
        residual8(r + i, x + i, a->q + j, _mm256_set1_ps(a->d[j / 32]));
    }
}

void tug_act_residual_q8_256_avx2(float *r, const void *act, const float *x, int64_t n) {
    const tug_act_q8_256 *rows = act;
    for (int64_t i = 0; i < n; i += 8) {
        const tug_act_q8_256 *a = &rows[i / TUG_ACT_RECORD];
        residual8(r + i, x + i, a->q + i % TUG_ACT_RECORD, _mm256_set1_ps(a->d));
    }
}
