/* blocks.h - how each quantised format lies in the file, byte for byte.
 *
 * A block is a group of neighbouring values of one row that share a scale.  The small
 * formats (Q8_0, Q4_*, Q5_*, IQ4_NL) have 32 values and one scale.  The K-quants and
 * IQ4_XS have 256 values, a 16-bit scale for all of them and small integer scales for
 * sub-blocks of 16 or 32.  How a value comes out of a block is dequant.c.
 *
 * "Low half first" below: byte j of a run of n bytes holds value j in its low bits and
 * value j + n in its high bits (for 2-bit runs: j, j + n, j + 2n, j + 3n), so that a
 * vector unit unpacks a run with one mask and one shift.  Compiles as C11 and C++17.
 * All fields are little endian.  SPDX-License-Identifier: MIT */
#ifndef TUG_QUANT_BLOCKS_H
#define TUG_QUANT_BLOCKS_H

#include <assert.h>
#include <stdint.h>

#include "base/f16.h"

enum {
    TUG_QK = 32,           /* values in a block of the small formats */
    TUG_QK_K = 256,        /* values in a block of the K-quants and IQ4_XS */
    TUG_K_SCALE_BYTES = 12 /* packed 6-bit sub-block scales of Q3_K, Q4_K, Q5_K */
};

/* x = d * q, q in -127..127 (-128 is legal too) */
typedef struct tug_block_q8_0 {
    tug_f16 d;
    int8_t qs[TUG_QK];
} tug_block_q8_0;
static_assert(sizeof(tug_block_q8_0) == 34, "Q8_0 is 8.5 bits a value");

/* x = d * (q - 8), q 4 bits */
typedef struct tug_block_q4_0 {
    tug_f16 d;
    uint8_t qs[TUG_QK / 2]; /* low half first */
} tug_block_q4_0;
static_assert(sizeof(tug_block_q4_0) == 18, "Q4_0 is 4.5 bits a value");

/* x = d * q + m, q 4 bits */
typedef struct tug_block_q4_1 {
    tug_f16 d;
    tug_f16 m;
    uint8_t qs[TUG_QK / 2]; /* low half first */
} tug_block_q4_1;
static_assert(sizeof(tug_block_q4_1) == 20, "Q4_1 is 5 bits a value");

/* x = d * (q - 16), q 5 bits */
typedef struct tug_block_q5_0 {
    tug_f16 d;
    uint8_t qh[4];          /* bit 4 of value j is bit j % 8 of byte j / 8 */
    uint8_t qs[TUG_QK / 2]; /* bits 0..3, low half first */
} tug_block_q5_0;
static_assert(sizeof(tug_block_q5_0) == 22, "Q5_0 is 5.5 bits a value");

/* x = d * q + m, q 5 bits */
typedef struct tug_block_q5_1 {
    tug_f16 d;
    tug_f16 m;
    uint8_t qh[4];          /* as in Q5_0 */
    uint8_t qs[TUG_QK / 2]; /* bits 0..3, low half first */
} tug_block_q5_1;
static_assert(sizeof(tug_block_q5_1) == 24, "Q5_1 is 6 bits a value");

/* 16 sub-blocks of 16: x = d * scale * q - dmin * min, q 2 bits */
typedef struct tug_block_q2_k {
    uint8_t scales[TUG_QK_K / 16]; /* of sub-block i: scale in bits 0..3, min in 4..7 */
    uint8_t qs[TUG_QK_K / 4];      /* two runs of 32 bytes (128 values), low half first */
    tug_f16 d;
    tug_f16 dmin;
} tug_block_q2_k;
static_assert(sizeof(tug_block_q2_k) == 84, "Q2_K is 2.625 bits a value");

/* 16 sub-blocks of 16: x = d * (scale - 32) * (q - 4), q 3 bits, scale 6 bits */
typedef struct tug_block_q3_k {
    uint8_t hmask[TUG_QK_K / 8]; /* bit 2 of value j is bit j / 32 of byte j % 32 */
    uint8_t qs[TUG_QK_K / 4];    /* bits 0..1: two runs of 32 bytes, low half first */
    /* Scale i: bits 0..3 are bits 4*(i/8).. of byte i % 8; bits 4..5 are bits 2*(i/4)..
     * of byte 8 + i % 4. */
    uint8_t scales[TUG_K_SCALE_BYTES];
    tug_f16 d;
} tug_block_q3_k;
static_assert(sizeof(tug_block_q3_k) == 110, "Q3_K is 3.4375 bits a value");

/* 8 sub-blocks of 32: x = d * scale * q - dmin * min, q 4 bits, scale and min 6 bits */
typedef struct tug_block_q4_k {
    tug_f16 d;
    tug_f16 dmin;
    /* For i < 4: scale i is bits 0..5 of byte i, min i bits 0..5 of byte 4 + i.  For
     * i >= 4: byte 4 + i has bits 0..3 of scale i below bits 0..3 of min i, and bits 4..5
     * are bits 6..7 of byte i - 4 (scale) and of byte i (min). */
    uint8_t scales[TUG_K_SCALE_BYTES];
    uint8_t qs[TUG_QK_K / 2]; /* four runs of 32 bytes (64 values), low half first */
} tug_block_q4_k;
static_assert(sizeof(tug_block_q4_k) == 144, "Q4_K is 4.5 bits a value");

/* As Q4_K with q of 5 bits. */
typedef struct tug_block_q5_k {
    tug_f16 d;
    tug_f16 dmin;
    uint8_t scales[TUG_K_SCALE_BYTES]; /* as in Q4_K */
    uint8_t qh[TUG_QK_K / 8];          /* bit 4 of value j is bit j / 32 of byte j % 32 */
    uint8_t qs[TUG_QK_K / 2];          /* bits 0..3, as in Q4_K */
} tug_block_q5_k;
static_assert(sizeof(tug_block_q5_k) == 176, "Q5_K is 5.5 bits a value");

/* 16 sub-blocks of 16: x = d * scale * (q - 32), q 6 bits, scale 8 bits signed */
typedef struct tug_block_q6_k {
    uint8_t ql[TUG_QK_K / 2]; /* bits 0..3: two runs of 64 bytes, low half first */
    uint8_t qh[TUG_QK_K / 4]; /* bits 4..5: two runs of 32 bytes, low half first */
    int8_t scales[TUG_QK_K / 16];
    tug_f16 d;
} tug_block_q6_k;
static_assert(sizeof(tug_block_q6_k) == 210, "Q6_K is 6.5625 bits a value");

/* x = d * tug_iq4_values[q], q 4 bits */
typedef struct tug_block_iq4_nl {
    tug_f16 d;
    uint8_t qs[TUG_QK / 2]; /* low half first */
} tug_block_iq4_nl;
static_assert(sizeof(tug_block_iq4_nl) == 18, "IQ4_NL is 4.5 bits a value");

/* 8 sub-blocks of 32: x = d * (scale - 32) * tug_iq4_values[q], q 4 bits, scale 6 bits */
typedef struct tug_block_iq4_xs {
    tug_f16 d;
    uint16_t scales_h;               /* bits 4..5 of scale i are bits 2i..2i+1 */
    uint8_t scales_l[TUG_QK_K / 64]; /* bits 0..3: byte i / 2, even i low, odd i high */
    uint8_t qs[TUG_QK_K / 2];        /* eight runs of 16 bytes, low half first */
} tug_block_iq4_xs;
static_assert(sizeof(tug_block_iq4_xs) == 136, "IQ4_XS is 4.25 bits a value");

#ifdef __cplusplus
extern "C" {
#endif

/* The 16 unevenly spaced levels of IQ4_NL and IQ4_XS. */
extern const int8_t tug_iq4_values[16];

#ifdef __cplusplus
}
#endif

#endif
