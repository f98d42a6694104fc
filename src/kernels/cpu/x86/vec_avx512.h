/* vec_avx512.h - what the AVX-512 kernels share: loads and stores of a row's end, exp and
 * its relatives, sums across lanes.
 *
 * Everything is static: an object compiled for AVX-512 may define nothing that the linker
 * could pick for the whole program.  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_VEC_AVX512_H
#define TUG_KERNELS_CPU_X86_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

/* The first n lanes; n >= 16: all of them. */
static inline __mmask16 first_lanes(int64_t n) {
    return (__mmask16)(n >= 16 ? 0xFFFFu : (1u << n) - 1);
}

/* The next 16 floats of a row with n left; lanes beyond the end are zero, and their
 * memory is not touched. */
static inline __m512 load_left(const float *p, int64_t n) {
    return n >= 16 ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(first_lanes(n), p);
}

static inline void store_left(float *p, __m512 v, int64_t n) {
    if (n >= 16) {
        _mm512_storeu_ps(p, v);
    } else {
        _mm512_mask_storeu_ps(p, first_lanes(n), v);
    }
}

/* exp(x) within 1.01 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 6 for
 * exp(r) whose own error is 3e-9 (minimax, coefficients rounded to f32).  Outside of
 * [-104, 89] the result is 0 or infinity; NaN stays NaN (the bounds come first in min and
 * max because those return their second operand then). */
static inline __m512 exp_ps(__m512 x) {
    x = _mm512_min_ps(_mm512_set1_ps(89.0f), _mm512_max_ps(_mm512_set1_ps(-104.0f), x));
    const __m512 n =
        _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
                             _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    /* ln 2 in two parts: n times the first is exact. */
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 p = _mm512_set1_ps(0x1.6a23cep-10f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.123a2p-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.5558f2p-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.555492p-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.fffffcp-2f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

static inline __m512 sigmoid_ps(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(
        one, _mm512_add_ps(one, exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

/* x sigmoid(x) in one division. */
static inline __m512 silu_ps(__m512 x) {
    const __m512 e = exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), x));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

/* log(1 + exp(x)) = max(x, 0) + log(1 + e) with e = exp(-|x|) in [0, 1], and log(1 + e) =
 * 2 atanh(s) with s = e / (2 + e) in [0, 1/3]: odd, so a polynomial in s^2 (minimax, own
 * error 1e-10) keeps its accuracy down to the smallest e. */
static inline __m512 softplus_ps(__m512 x) {
    const __m512 zero = _mm512_setzero_ps();
    const __m512 e = exp_ps(_mm512_sub_ps(zero, _mm512_abs_ps(x)));
    const __m512 s = _mm512_div_ps(e, _mm512_add_ps(e, _mm512_set1_ps(2.0f)));
    const __m512 z = _mm512_mul_ps(s, s);
    __m512 p = _mm512_set1_ps(0.12150503f);
    p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(0.1071382f));
    p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(0.14308443f));
    p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(0.19999439f));
    p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(0.33333338f));
    const __m512 log1p = _mm512_fmadd_ps(_mm512_mul_ps(p, z), s, s);
    return _mm512_add_ps(_mm512_max_ps(zero, x), _mm512_add_ps(log1p, log1p));
}

/* The sum of x^2 over a row, in double: no finite f32 overflows, and the order of the
 * additions does not show in an f32 result. */
static inline double sum_of_squares(const float *x, int64_t n) {
    __m512d even = _mm512_setzero_pd(), odd = _mm512_setzero_pd();
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 v = load_left(x + i, n - i);
        const __m512d lo = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
        const __m512d hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
        even = _mm512_fmadd_pd(lo, lo, even);
        odd = _mm512_fmadd_pd(hi, hi, odd);
    }
    return _mm512_reduce_add_pd(_mm512_add_pd(even, odd));
}

#endif
