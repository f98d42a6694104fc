/* vec_avx2.h - what the AVX2 kernels share: loads and stores of a row's end, exp and its
 * relatives, sums across lanes.
 *
 * Everything is static: an object compiled for AVX2 may define nothing that the linker
 * could pick for the whole program.  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_VEC_AVX2_H
#define TUG_KERNELS_CPU_X86_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>

/* The first n lanes, n in 0..8, as all-ones words. */
static inline __m256i first_lanes(int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

/* The next 8 floats of a row with n left; lanes beyond the end are zero, and their memory
 * is not touched. */
static inline __m256 load_left(const float *p, int64_t n) {
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, first_lanes(n));
}

static inline void store_left(float *p, __m256 v, int64_t n) {
    if (n >= 8) {
        _mm256_storeu_ps(p, v);
    } else {
        _mm256_maskstore_ps(p, first_lanes(n), v);
    }
}

/* 2^n for whole n in -126..127. */
static inline __m256 power_of_2(__m256i n) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* exp(x) within 1.01 ulp: x = n ln 2 + r, |r| <= ln 2 / 2,
 * and a polynomial of degree 6 for exp(r) whose own error is 3e-9 (minimax, coefficients
 * rounded to f32).  Outside of [-104, 89] the result is 0 or infinity; NaN stays NaN (the
 * bounds come first in min and max because those return their second operand then). */
static inline __m256 exp_ps(__m256 x) {
    x = _mm256_min_ps(_mm256_set1_ps(89.0f), _mm256_max_ps(_mm256_set1_ps(-104.0f), x));
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    /* ln 2 in two parts: n times the first is exact. */
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_set1_ps(0x1.6a23cep-10f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.123a2p-7f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.5558f2p-5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.555492p-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
    /* n reaches -150 and 128: two factors, each of which is a normal number. */
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    p = _mm256_mul_ps(p, power_of_2(half));
    return _mm256_mul_ps(p, power_of_2(_mm256_sub_epi32(whole, half)));
}

static inline __m256 sigmoid_ps(__m256 x) {
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 e = exp_ps(_mm256_sub_ps(_mm256_setzero_ps(), x));
    return _mm256_div_ps(one, _mm256_add_ps(one, e));
}

/* x sigmoid(x) in one division. */
static inline __m256 silu_ps(__m256 x) {
    const __m256 e = exp_ps(_mm256_sub_ps(_mm256_setzero_ps(), x));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

/* log(1 + exp(x)) = max(x, 0) + log(1 + e) with e = exp(-|x|) in [0, 1], and log(1 + e) =
 * 2 atanh(s) with s = e / (2 + e) in [0, 1/3]: odd, so a polynomial in s^2 (minimax, own
 * error 1e-10) keeps its accuracy down to the smallest e. */
static inline __m256 softplus_ps(__m256 x) {
    const __m256 zero = _mm256_setzero_ps();
    const __m256 e =
        exp_ps(_mm256_sub_ps(zero, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)));
    const __m256 s = _mm256_div_ps(e, _mm256_add_ps(e, _mm256_set1_ps(2.0f)));
    const __m256 z = _mm256_mul_ps(s, s);
    __m256 p = _mm256_set1_ps(0.12150503f);
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(0.1071382f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(0.14308443f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(0.19999439f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(0.33333338f));
    const __m256 log1p = _mm256_fmadd_ps(_mm256_mul_ps(p, z), s, s);
    return _mm256_add_ps(_mm256_max_ps(zero, x), _mm256_add_ps(log1p, log1p));
}

static inline double sum_lanes_pd(__m256d v) {
    const __m128d pair =
        _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

/* The sum of x^2 over a row, in double: no finite f32 overflows, and the order of the
 * additions does not show in an f32 result. */
static inline double sum_of_squares(const float *x, int64_t n) {
    __m256d even = _mm256_setzero_pd(), odd = _mm256_setzero_pd();
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 v = load_left(x + i, n - i);
        const __m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
        const __m256d hi = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
        even = _mm256_fmadd_pd(lo, lo, even);
        odd = _mm256_fmadd_pd(hi, hi, odd);
    }
    return sum_lanes_pd(_mm256_add_pd(even, odd));
}

#endif
