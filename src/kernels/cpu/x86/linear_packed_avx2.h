/* linear_packed_avx2.h - what the AVX2 linear kernels over packed rows share.
 *
 * A line of 16 rows is a v64: rows 0..7 in one register, 8..15 in the other.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_LINEAR_PACKED_AVX2_H
#define TUG_KERNELS_CPU_X86_LINEAR_PACKED_AVX2_H

#include <stdbool.h>

#include "kernels/cpu/x86/linear_packed.h"
#include "kernels/cpu/x86/linear_v64_avx2.h"

enum {
    BLOCK_TOKENS = 48, /* that meet unpacked weights; their values stay in L1 */
    BLOCK_GROUPS = 4,  /* groups of rows that meet them while they do */
};

INLINE v64 line(const uint8_t *body, int i) {
    return load64(body + (ptrdiff_t)LINE * i);
}

/* Bytes shifted right, those of `mask` kept. */
INLINE v64 field64(v64 v, int by, int mask) {
    return mask64(turn64(v, -by, -by), mask);
}

/* a shifted right, its bits of mask_a, and the same of b. */
INLINE v64 join64(v64 a, int by_a, int mask_a, v64 b, int by_b, int mask_b) {
    return merge64(turn64(a, -by_a, -by_a), mask_a, turn64(b, -by_b, -by_b), mask_b);
}

INLINE v64 zero64(void) {
    return pair64(_mm256_setzero_si256(), _mm256_setzero_si256());
}
INLINE v64 add16(v64 a, v64 b) {
    return pair64(_mm256_add_epi16(a.half[0], b.half[0]),
                  _mm256_add_epi16(a.half[1], b.half[1]));
}
INLINE v64 add32(v64 a, v64 b) {
    return pair64(_mm256_add_epi32(a.half[0], b.half[0]),
                  _mm256_add_epi32(a.half[1], b.half[1]));
}
INLINE v64 sub32(v64 a, v64 b) {
    return pair64(_mm256_sub_epi32(a.half[0], b.half[0]),
                  _mm256_sub_epi32(a.half[1], b.half[1]));
}

/* 4 activations, or 2 of 16 bits, in every lane. */
INLINE __m256i broadcast32(const void *p) {
    return _mm256_set1_epi32((int)load_u32(p));
}

/* Columns of a quad (unsigned bytes) times x: two sums of two products a lane. */
INLINE v64 byte_products(v64 w, __m256i x) {
    return pair64(_mm256_maddubs_epi16(w.half[0], x), _mm256_maddubs_epi16(w.half[1], x));
}

/* Products of 16-bit pairs. */
INLINE v64 word_products(v64 a, v64 b) {
    return pair64(_mm256_madd_epi16(a.half[0], b.half[0]),
                  _mm256_madd_epi16(a.half[1], b.half[1]));
}
INLINE v64 word_products1(v64 a, __m256i x) {
    return word_products(a, pair64(x, x));
}

/* Lower halves of the products of words. */
INLINE v64 low_products(v64 a, v64 b) {
    return pair64(_mm256_mullo_epi16(a.half[0], b.half[0]),
                  _mm256_mullo_epi16(a.half[1], b.half[1]));
}

INLINE v64 load_words(const int16_t *p) {
    return load64((const uint8_t *)p);
}
INLINE void store_words(int16_t *p, v64 v) {
    _mm256_storeu_si256((__m256i *)(void *)p, v.half[0]);
    _mm256_storeu_si256((__m256i *)(void *)(p + 16), v.half[1]);
}

/* Bytes a to d of each dword, which may be NONE: zero, instead of its own. */
enum { NONE = -1 };
INLINE v64 pick64(v64 v, int a, int b, int c, int d) {
#define OF(byte, dword) (char)((byte) < 0 ? -1 : 4 * (dword) + (byte))
    const __m256i own = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        OF(a, 0), OF(b, 0), OF(c, 0), OF(d, 0), OF(a, 1), OF(b, 1), OF(c, 1), OF(d, 1),
        OF(a, 2), OF(b, 2), OF(c, 2), OF(d, 2), OF(a, 3), OF(b, 3), OF(c, 3), OF(d, 3)));
#undef OF
    return pair64(_mm256_shuffle_epi8(v.half[0], own),
                  _mm256_shuffle_epi8(v.half[1], own));
}

INLINE v64 signed_down(v64 v, int by) {
    return pair64(_mm256_srai_epi16(v.half[0], by), _mm256_srai_epi16(v.half[1], by));
}

/* out (16,) f32 = as many f16. */
INLINE void widen_f16(float *out, const uint8_t *field) {
    _mm256_storeu_ps(out, _mm256_cvtph_ps(load128(field)));
    _mm256_storeu_ps(out + 8, _mm256_cvtph_ps(load128(field + FIELD / 2)));
}

/* ---- weights of eight bits ---------------------------------------------------------- */

/* Two products of an unsigned and a signed byte of eight bits do not fit in 16: weights and
 * activations become words, columns 0 and 2 of a quad beside each other, then 1 and 3.
 * These are 32 columns of a token: even or odd; quad; the two. */
typedef struct words {
    int16_t of[2][16];
} words;

INLINE __m256i even_bytes(__m256i v) {
    return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
}
INLINE __m256i odd_bytes(__m256i v) {
    return _mm256_srai_epi16(v, 8);
}

/* out (8, n_tok), token t of it = the 256 values of a record: runs of 32 columns, in each
 * the tokens one after another, as the kernels read them. */
INLINE void widen_record(words *out, int t, int n_tok, const int8_t *q) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const __m256i v = load256(q + 32 * i);
        words *to = out + (ptrdiff_t)i * n_tok + t;
        _mm256_storeu_si256((__m256i *)(void *)to->of[0], even_bytes(v));
        _mm256_storeu_si256((__m256i *)(void *)to->of[1], odd_bytes(v));
    }
}

/* w (2,) = a quad of signed bytes. */
INLINE void widen_quad(v64 w[2], v64 quad) {
    w[0] = pair64(even_bytes(quad.half[0]), even_bytes(quad.half[1]));
    w[1] = pair64(odd_bytes(quad.half[0]), odd_bytes(quad.half[1]));
}

/* Quads q and q + 1 of a run of 32 columns, widened to w, times a token's. */
INLINE v64 eight_columns(const v64 w[4], const words *x, int q) {
    const int16_t *even = x->of[0] + 2 * q, *odd = x->of[1] + 2 * q;
    const v64 a = add32(word_products1(w[0], broadcast32(even)),
                        word_products1(w[1], broadcast32(odd)));
    const v64 b = add32(word_products1(w[2], broadcast32(even + 2)),
                        word_products1(w[3], broadcast32(odd + 2)));
    return add32(a, b);
}

/* ---- calls -------------------------------------------------------------------------- */

/* y of n_group * 16 rows from r0, tokens [t0, t0 + n_tok) = sum (n_tok, n_group, 16). */
INLINE void store_sums(const tug_linear_args *a, int64_t r0, int n_group, int64_t t0,
                       int n_tok, const float *sum) {
    const size_t n = (size_t)n_group * TUG_PACK_ROWS;
    for (int t = 0; t < n_tok; t++, sum += n) {
        memcpy(a->y + (t0 + t) * a->y_stride + r0, sum, n * sizeof *sum);
    }
}

/* Part of a call: so many groups from row r0, so many tokens from t0. */
typedef void packed_block_fn(const tug_linear_args *a, int64_t r0, int n_group,
                             int64_t t0, int n_tok);

/* One token takes group after group, a stream as memory likes it. */
INLINE void packed_blocks(const tug_linear_args *a, packed_block_fn *block) {
    const int64_t most = TUG_PACK_ROWS * (int64_t)(a->n_tok == 1 ? 1 : BLOCK_GROUPS);
    for (int64_t r0 = 0; r0 < a->n_rows; r0 += most) {
        const int64_t rows = a->n_rows - r0 < most ? a->n_rows - r0 : most;
        for (int64_t t0 = 0; t0 < a->n_tok; t0 += BLOCK_TOKENS) {
            const int64_t left = a->n_tok - t0;
            block(a, r0, (int)(rows / TUG_PACK_ROWS), t0,
                  left < BLOCK_TOKENS ? (int)left : BLOCK_TOKENS);
        }
    }
}

#endif
