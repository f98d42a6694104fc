/* linear_v64_avx2.h - 64 bytes as two AVX2 registers, for linear_expand.h.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_LINEAR_V64_AVX2_H
#define TUG_KERNELS_CPU_X86_LINEAR_V64_AVX2_H

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

typedef struct v64 {
    __m256i half[2];
} v64;

INLINE v64 pair64(__m256i lo, __m256i hi) {
    return (v64){{lo, hi}};
}
INLINE v64 load64(const uint8_t *p) {
    return pair64(load256(p), load256(p + 32));
}

/* The 32 bytes at p in both halves. */
INLINE v64 twice32(const uint8_t *p) {
    return pair64(load256(p), load256(p));
}

INLINE __m256i turn32(__m256i v, int n) {
    return n >= 0 ? _mm256_slli_epi16(v, n) : _mm256_srli_epi16(v, -n);
}

/* Bit b of each byte moves to bit b + lo (+ hi in the high half).  Bits that leave their
 * byte turn up in a neighbour, where the caller must mask them off. */
INLINE v64 turn64(v64 v, int lo, int hi) {
    return pair64(turn32(v.half[0], lo), turn32(v.half[1], hi));
}

INLINE v64 mask64(v64 v, int mask) {
    const __m256i m = _mm256_set1_epi8((char)mask);
    return pair64(_mm256_and_si256(v.half[0], m), _mm256_and_si256(v.half[1], m));
}

/* a & mask_a | b & mask_b */
INLINE v64 merge64(v64 a, int mask_a, v64 b, int mask_b) {
    const v64 x = mask64(a, mask_a), y = mask64(b, mask_b);
    return pair64(_mm256_or_si256(x.half[0], y.half[0]),
                  _mm256_or_si256(x.half[1], y.half[1]));
}

/* Signed bytes to unsigned ones 128 larger, and back. */
INLINE v64 flip64(v64 v) {
    const __m256i top = _mm256_set1_epi8(-128);
    return pair64(_mm256_xor_si256(v.half[0], top), _mm256_xor_si256(v.half[1], top));
}

#endif
