/* linear_avx512.h - what the AVX-512 linear kernels share: the VNNI instructions, the
 * 16 x 16 transpose that makes panels, and the sums over lanes.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_LINEAR_AVX512_H
#define TUG_KERNELS_CPU_X86_LINEAR_AVX512_H

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/x86/linear_v64_avx512.h"

#include "kernels/cpu/x86/linear_expand.h"

/* sum += products of unsigned bytes of u and signed bytes of s, four to a lane; and of
 * signed 16-bit pairs.  In assembly because gcc 12 copies the accumulator of the
 * intrinsics through memory, which costs half of the speed of a tile. */
INLINE __m512i dot_bytes(__m512i sum, __m512i u, __m512i s) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
    return sum;
}
INLINE __m512i dot_words(__m512i sum, __m512i a, __m512i b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

INLINE __m512i broadcast32(const void *p) {
    return _mm512_set1_epi32((int)load_u32(p));
}

/* (16,) f32 of as many f16. */
INLINE __m512 widen_f16(const tug_f16 *x) {
    return _mm512_cvtph_ps(load256(x));
}

/* v[r] holds 8 partial sums of row r twice: of a quantity A in its low half, of B in its
 * high half.  a[r], b[r] = the sums. */
INLINE void sum_halves(const __m512i v[16], __m512i *a, __m512i *b) {
    __m512i two[8], four[4], half[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        two[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
                                  _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* each 128-bit lane: a part of rows 4i .. 4i + 3 */
        four[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(two[2 * i], two[2 * i + 1]),
                                   _mm512_unpackhi_epi64(two[2 * i], two[2 * i + 1]));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        half[i] = _mm512_add_epi32(
            _mm512_shuffle_i32x4(four[2 * i], four[2 * i + 1], _MM_SHUFFLE(2, 0, 2, 0)),
            _mm512_shuffle_i32x4(four[2 * i], four[2 * i + 1], _MM_SHUFFLE(3, 1, 3, 1)));
    }
    *a = _mm512_shuffle_i32x4(half[0], half[1], _MM_SHUFFLE(2, 0, 2, 0));
    *b = _mm512_shuffle_i32x4(half[0], half[1], _MM_SHUFFLE(3, 1, 3, 1));
}

/* 4 columns of 16 rows of dwords: out[j] (16,) = dword j of each row; rows are
 * row_bytes apart.  The 128-bit lanes are put in place by the loads. */
INLINE void transpose4(__m512i out[4], const void *rows, size_t row_bytes) {
    __m512i in[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const char *p = (const char *)rows + (size_t)r * row_bytes;
        in[r] = _mm512_castsi128_si512(load128(p));
        in[r] = _mm512_inserti32x4(in[r], load128(p + 4 * row_bytes), 1);
        in[r] = _mm512_inserti32x4(in[r], load128(p + 8 * row_bytes), 2);
        in[r] = _mm512_inserti32x4(in[r], load128(p + 12 * row_bytes), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(in[0], in[1]);
    const __m512i b = _mm512_unpackhi_epi32(in[0], in[1]);
    const __m512i c = _mm512_unpacklo_epi32(in[2], in[3]);
    const __m512i d = _mm512_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}

/* Lanes of 16 rows from r0 that exist. */
INLINE __mmask16 row_mask(const tug_linear_args *a, int64_t r0) {
    const int64_t left = a->n_rows - r0;
    const unsigned lanes = left >= 16 ? 0xFFFFu : left <= 0 ? 0u : (1u << left) - 1u;
    return (__mmask16)lanes;
}

/* y of n_panels * 16 rows from r0, tokens [t0, t0 + n_tok) = sum (n_tok, n_panels, 16). */
INLINE void store_sums(const tug_linear_args *a, int64_t r0, int n_panels, int64_t t0,
                       int n_tok, const float *sum) {
    for (int t = 0; t < n_tok; t++) {
        for (int v = 0; v < n_panels; v++, sum += 16) {
            const int64_t r = r0 + 16 * v;
            _mm512_mask_storeu_ps(a->y + (t0 + t) * a->y_stride + r, row_mask(a, r),
                                  _mm512_load_ps(sum));
        }
    }
}

#endif
