/* linear_v64_avx512.h - 64 bytes as one AVX-512 register, for linear_expand.h.  What the
 * operations mean is said in linear_v64_avx2.h.  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_LINEAR_V64_AVX512_H
#define TUG_KERNELS_CPU_X86_LINEAR_V64_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/x86/linear_rows.h"

#define V64_OPERATIONS

INLINE __m128i load128(const void *p) {
    return _mm_loadu_si128((const __m128i *)p);
}
INLINE __m256i load256(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

INLINE uint32_t load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

typedef __m512i v64;

INLINE v64 pair64(__m256i lo, __m256i hi) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}
INLINE v64 load64(const uint8_t *p) {
    return _mm512_loadu_si512(p);
}
INLINE v64 twice32(const uint8_t *p) {
    return _mm512_broadcast_i64x4(load256(p));
}

/* A rotation of dwords: its count is signed, and what it brings in is masked off. */
INLINE v64 turn64(v64 v, int lo, int hi) {
    if (lo == 0 && hi == 0) return v;
    return _mm512_rolv_epi32(v, pair64(_mm256_set1_epi32(lo), _mm256_set1_epi32(hi)));
}

INLINE v64 mask64(v64 v, int mask) {
    return _mm512_and_si512(v, _mm512_set1_epi8((char)mask));
}

INLINE v64 merge64(v64 a, int mask_a, v64 b, int mask_b) {
    return _mm512_ternarylogic_epi32(b, _mm512_set1_epi8((char)mask_b), mask64(a, mask_a),
                                     0xEA); /* b & mask_b | .. */
}

INLINE v64 flip64(v64 v) {
    return _mm512_xor_si512(v, _mm512_set1_epi8(-128));
}

#endif
