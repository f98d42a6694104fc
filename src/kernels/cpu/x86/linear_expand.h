/* linear_expand.h - one block of each quantised weight format, unpacked to bytes.
 *
 * What the AVX2 kernels know of how the formats pack their bits (compare quant/dequant.c,
 * the definition).  The K-quants are written in terms of v64, 64 bytes, and a few
 * operations on it from linear_v64_avx2.h.  Blocks are read exactly, never beyond.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_LINEAR_EXPAND_H
#define TUG_KERNELS_CPU_X86_LINEAR_EXPAND_H

#include "quant/blocks.h"

#ifndef V64_OPERATIONS
#error "include linear_v64_avx2.h first"
#endif

/* ---- 256 values: K-quants and IQ4_XS ---------------------------------------------- */

/* value[i] = d * scale[i / 16] * (w[i] - bias) - dmin * (its min); the bias is a constant
 * of the format. */
typedef struct tug_expanded {
    v64 w[4];      /* (256,) u8 in order */
    __m256i scale; /* (16,) i16, one per 16 values */
    __m256i min;   /* (16,) i16, or (8,) one per 32 values with zeros behind */
    tug_f16 d, dmin;
} tug_expanded;

INLINE void expand_q2_k(const void *block, tug_expanded *e) {
    const tug_block_q2_k *b = block;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const int shift = i % 2 * 4;
        e->w[i] = mask64(turn64(twice32(b->qs + i / 2 * 32), -shift, -shift - 2), 3);
    }
    const __m128i packed = load128(b->scales), low = _mm_set1_epi8(15);
    e->scale = _mm256_cvtepu8_epi16(_mm_and_si128(packed, low));
    e->min = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(packed, 4), low));
    e->d = b->d;
    e->dmin = b->dmin;
}

/* The 16 scales of Q3_K: four bits of each in bytes 0..7, two more in bytes 8..11. */
INLINE __m256i scales_q3_k(const uint8_t *packed) {
    const __m128i lo = _mm_loadl_epi64((const __m128i *)(const void *)packed);
    const __m128i nibbles =
        _mm_and_si128(_mm_unpacklo_epi64(lo, _mm_srli_epi16(lo, 4)), _mm_set1_epi8(15));
    /* Scale i has its bits at 2 * (i / 4) of byte i % 4: one dword per four scales. */
    const __m128i hi = _mm_srlv_epi32(_mm_set1_epi32((int)load_u32(packed + 8)),
                                      _mm_setr_epi32(0, 2, 4, 6));
    const __m128i pairs = _mm_slli_epi16(_mm_and_si128(hi, _mm_set1_epi8(3)), 4);
    return _mm256_cvtepi8_epi16(
        _mm_sub_epi8(_mm_or_si128(nibbles, pairs), _mm_set1_epi8(32)));
}

INLINE void expand_q3_k(const void *block, tug_expanded *e) {
    const tug_block_q3_k *b = block;
    const v64 high = twice32(b->hmask);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const int shift = i % 2 * 4;
        const v64 low = turn64(twice32(b->qs + i / 2 * 32), -shift, -shift - 2);
        e->w[i] = merge64(low, 3, turn64(high, 2 - 2 * i, 1 - 2 * i), 4);
    }
    e->scale = scales_q3_k(b->scales);
    e->min = _mm256_setzero_si256();
    e->d = b->d;
    e->dmin = 0;
}

/* The 6-bit scales and mins of Q4_K and Q5_K, four bytes at a time. */
INLINE void scales_q4_k(const uint8_t *packed, tug_expanded *e) {
    const uint32_t a = load_u32(packed), b = load_u32(packed + 4),
                   c = load_u32(packed + 8);
    const uint32_t six = 0x3F3F3F3F, four = 0x0F0F0F0F, top = 0x30303030;
    const __m128i scale =
        _mm_set_epi32(0, 0, (int)((c & four) | (a >> 2 & top)), (int)(a & six));
    const __m128i min =
        _mm_set_epi32(0, 0, (int)((c >> 4 & four) | (b >> 2 & top)), (int)(b & six));
    e->scale = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(scale, scale));
    e->min = _mm256_zextsi128_si256(_mm_cvtepu8_epi16(min));
}

INLINE void expand_q4_k(const void *block, tug_expanded *e) {
    const tug_block_q4_k *b = block;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        e->w[i] = mask64(turn64(twice32(b->qs + i * 32), 0, -4), 15);
    }
    scales_q4_k(b->scales, e);
    e->d = b->d;
    e->dmin = b->dmin;
}

INLINE void expand_q5_k(const void *block, tug_expanded *e) {
    const tug_block_q5_k *b = block;
    const v64 high = twice32(b->qh);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const v64 low = turn64(twice32(b->qs + i * 32), 0, -4);
        e->w[i] = merge64(low, 15, turn64(high, 4 - 2 * i, 3 - 2 * i), 16);
    }
    scales_q4_k(b->scales, e);
    e->d = b->d;
    e->dmin = b->dmin;
}

INLINE void expand_q6_k(const void *block, tug_expanded *e) {
    const tug_block_q6_k *b = block;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const int shift = i % 2 * 4;
        const v64 low = turn64(load64(b->ql + i / 2 * 64), -shift, -shift);
        const v64 high = turn64(twice32(b->qh + i / 2 * 32), 4 - shift, 2 - shift);
        e->w[i] = merge64(low, 0x0F, high, 0x30);
    }
    e->scale = _mm256_cvtepi8_epi16(load128(b->scales));
    e->min = _mm256_setzero_si256();
    e->d = b->d;
    e->dmin = 0;
}

/* 32 levels of IQ4 from 16 bytes of indices, as i8. */
INLINE __m256i levels_iq4(const uint8_t *qs) {
    const __m128i packed = load128(qs), low = _mm_set1_epi8(15);
    const __m128i levels = load128(tug_iq4_values);
    return _mm256_set_m128i(
        _mm_shuffle_epi8(levels, _mm_and_si128(_mm_srli_epi16(packed, 4), low)),
        _mm_shuffle_epi8(levels, _mm_and_si128(packed, low)));
}

INLINE void expand_iq4_xs(const void *block, tug_expanded *e) {
    const tug_block_iq4_xs *b = block;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        e->w[i] =
            flip64(pair64(levels_iq4(b->qs + 32 * i), levels_iq4(b->qs + 32 * i + 16)));
    }
    /* scales_l as 8 nibbles in order, scales_h as 8 pairs of bits in order. */
    const __m256i nibble =
        _mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(b->scales_l)),
                          _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    const __m256i pair = _mm256_srlv_epi32(_mm256_set1_epi32(b->scales_h),
                                           _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    const __m256i scale = _mm256_sub_epi32(
        _mm256_or_si256(
            _mm256_and_si256(nibble, _mm256_set1_epi32(15)),
            _mm256_slli_epi32(_mm256_and_si256(pair, _mm256_set1_epi32(3)), 4)),
        _mm256_set1_epi32(32));
    /* Each as two equal i16, for the two 16s of its 32. */
    e->scale = _mm256_or_si256(_mm256_and_si256(scale, _mm256_set1_epi32(0xFFFF)),
                               _mm256_slli_epi32(scale, 16));
    e->min = _mm256_setzero_si256();
    e->d = b->d;
    e->dmin = 0;
}

/* ---- 32 values: the small formats -------------------------------------------------- */

/* Returns w (32,) i8 in order: value[i] = d * w[i] + m; m is 0 if the format has none. */
typedef __m256i tug_expand32_fn(const void *block, tug_f16 *d, tug_f16 *m);

/* Nibbles of 16 bytes, low half first. */
INLINE __m256i nibbles32(const uint8_t *qs) {
    const __m128i packed = load128(qs);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(packed, 4), packed),
                            _mm256_set1_epi8(15));
}

/* 16 in the bytes whose bit is set, else 0. */
INLINE __m256i fifth_bits(const uint8_t *qh) {
    const __m256i own_byte =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i own_bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    const __m256i spread =
        _mm256_shuffle_epi8(_mm256_set1_epi32((int)load_u32(qh)), own_byte);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, own_bit), own_bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

INLINE __m256i expand_q8_0(const void *block, tug_f16 *d, tug_f16 *m) {
    const tug_block_q8_0 *b = block;
    *d = b->d;
    *m = 0;
    return load256(b->qs);
}

INLINE __m256i expand_q4_0(const void *block, tug_f16 *d, tug_f16 *m) {
    const tug_block_q4_0 *b = block;
    *d = b->d;
    *m = 0;
    return _mm256_sub_epi8(nibbles32(b->qs), _mm256_set1_epi8(8));
}

INLINE __m256i expand_q4_1(const void *block, tug_f16 *d, tug_f16 *m) {
    const tug_block_q4_1 *b = block;
    *d = b->d;
    *m = b->m;
    return nibbles32(b->qs);
}

INLINE __m256i expand_q5_0(const void *block, tug_f16 *d, tug_f16 *m) {
    const tug_block_q5_0 *b = block;
    *d = b->d;
    *m = 0;
    return _mm256_sub_epi8(_mm256_or_si256(nibbles32(b->qs), fifth_bits(b->qh)),
                           _mm256_set1_epi8(16));
}

INLINE __m256i expand_q5_1(const void *block, tug_f16 *d, tug_f16 *m) {
    const tug_block_q5_1 *b = block;
    *d = b->d;
    *m = b->m;
    return _mm256_or_si256(nibbles32(b->qs), fifth_bits(b->qh));
}

INLINE __m256i expand_iq4_nl(const void *block, tug_f16 *d, tug_f16 *m) {
    const tug_block_iq4_nl *b = block;
    *d = b->d;
    *m = 0;
    return levels_iq4(b->qs);
}

#endif
