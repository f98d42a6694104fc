/* linear_avx512.h - what the AVX-512 linear kernels over packed rows share.
 *
 * A line is a register; a quad is what VPDPBUSD multiplies by 4 activations, broadcast.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_LINEAR_AVX512_H
#define TUG_KERNELS_CPU_X86_LINEAR_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/x86/linear_packed.h"

enum {
    TILE_TOKENS = 6,
    BLOCK_TOKENS = 192, /* tokens that meet a panel before it is made again */
};

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

/* The same with 4 activations at p, read and broadcast by the instruction itself. */
INLINE __m512i dot_quad(__m512i sum, __m512i u, const void *p) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0"
            : "+v"(sum)
            : "v"(u), "m"(*(const int32_t *)p));
    return sum;
}

INLINE __m512i broadcast32(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

INLINE __m512i bytes(int v) {
    return _mm512_set1_epi8((char)v);
}
INLINE __m512i line(const uint8_t *body, int i) {
    return _mm512_loadu_si512(body + (ptrdiff_t)LINE * i);
}
/* A whole line shifted right; bits of one byte that land in its neighbour are the
 * caller's to mask off. */
INLINE __m512i shifted(__m512i v, int by) {
    return _mm512_srl_epi32(v, _mm_cvtsi32_si128(by));
}
/* Each dword turned right, by a negative count left. */
INLINE __m512i turned(__m512i v, int by) {
    return _mm512_rorv_epi32(v, _mm512_set1_epi32(by));
}
/* (a & mask_a) | (b & mask_b), byte by byte. */
INLINE __m512i merged(__m512i a, int mask_a, __m512i b, int mask_b) {
    const __m512i low = _mm512_and_si512(a, bytes(mask_a));
    return _mm512_ternarylogic_epi32(b, bytes(mask_b), low, 0xEA);
}

/* (16,) f32 of as many f16. */
INLINE __m512 widen_f16(const uint8_t *field) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)field));
}

/* y of n_panels * 16 rows from r0, tokens [t0, t0 + n_tok) = sum (n_tok, n_panels, 16). */
INLINE void store_sums(const tug_linear_args *a, int64_t r0, int n_panels, int64_t t0,
                       int n_tok, const float *sum) {
    for (int t = 0; t < n_tok; t++) {
        for (int v = 0; v < n_panels; v++, sum += 16) {
            _mm512_storeu_ps(a->y + (t0 + t) * a->y_stride + r0 + (int64_t)16 * v,
                             _mm512_load_ps(sum));
        }
    }
}

#endif
