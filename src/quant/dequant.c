/* dequant.c - scalar decoding: the definition of each format.
 *
 * Every other decoder (kernels, GPU) is tested against these functions, and these
 * against the `gguf` Python package, bit for bit.  That fixes the order of the float
 * operations: scale times sub-block scale first, then times q, then minus the minimum,
 * each rounded to binary32 (the Makefile turns contraction off for this folder).
 * Layouts and the meaning of the fields: blocks.h.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/status.h"
#include "quant/blocks.h"
#include "quant/types.h"

const int8_t tug_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

/* ---- no blocks -------------------------------------------------------------------- */

static void decode_f16(float *y, const tug_f16 *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = tug_f16_to_f32(x[i]);
}

static void decode_bf16(float *y, const tug_bf16 *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = tug_bf16_to_f32(x[i]);
}

/* ---- 32 values, one scale --------------------------------------------------------- */

static void decode_q8_0(float *y, const tug_block_q8_0 *x) {
    const float d = tug_f16_to_f32(x->d);
    for (int j = 0; j < TUG_QK; j++) y[j] = d * (float)x->qs[j];
}

/* Bits 0..3 of value j of a 16-byte run, low half first. */
static int nibble(const uint8_t *qs, int j) {
    return j < 16 ? qs[j] & 15 : qs[j - 16] >> 4;
}

/* Bit 4 of value j of a Q5_0 or Q5_1 block, in place. */
static int fifth_bit(const uint8_t *qh, int j) {
    return (qh[j / 8] >> j % 8 & 1) << 4;
}

static void decode_q4_0(float *y, const tug_block_q4_0 *x) {
    const float d = tug_f16_to_f32(x->d);
    for (int j = 0; j < TUG_QK; j++) y[j] = d * (float)(nibble(x->qs, j) - 8);
}

static void decode_q4_1(float *y, const tug_block_q4_1 *x) {
    const float d = tug_f16_to_f32(x->d), m = tug_f16_to_f32(x->m);
    for (int j = 0; j < TUG_QK; j++) y[j] = d * (float)nibble(x->qs, j) + m;
}

static void decode_q5_0(float *y, const tug_block_q5_0 *x) {
    const float d = tug_f16_to_f32(x->d);
    for (int j = 0; j < TUG_QK; j++) {
        y[j] = d * (float)((nibble(x->qs, j) | fifth_bit(x->qh, j)) - 16);
    }
}

static void decode_q5_1(float *y, const tug_block_q5_1 *x) {
    const float d = tug_f16_to_f32(x->d), m = tug_f16_to_f32(x->m);
    for (int j = 0; j < TUG_QK; j++) {
        y[j] = d * (float)(nibble(x->qs, j) | fifth_bit(x->qh, j)) + m;
    }
}

static void decode_iq4_nl(float *y, const tug_block_iq4_nl *x) {
    const float d = tug_f16_to_f32(x->d);
    for (int j = 0; j < TUG_QK; j++) {
        y[j] = d * (float)tug_iq4_values[nibble(x->qs, j)];
    }
}

/* ---- 256 values, scales for sub-blocks -------------------------------------------- */

/* Bits 0..1 of value j of two 32-byte runs, four values a byte, low half first. */
static int two_bits(const uint8_t *qs, int j) {
    return qs[j / 128 * 32 + j % 32] >> 2 * (j % 128 / 32) & 3;
}

static void decode_q2_k(float *y, const tug_block_q2_k *x) {
    const float d = tug_f16_to_f32(x->d), dmin = tug_f16_to_f32(x->dmin);
    for (int i = 0; i < TUG_QK_K / 16; i++) {
        const float dl = d * (float)(x->scales[i] & 15);
        const float ml = dmin * (float)(x->scales[i] >> 4);
        for (int j = 16 * i; j < 16 * (i + 1); j++) {
            y[j] = dl * (float)two_bits(x->qs, j) - ml;
        }
    }
}

static void decode_q3_k(float *y, const tug_block_q3_k *x) {
    const float d = tug_f16_to_f32(x->d);
    for (int i = 0; i < TUG_QK_K / 16; i++) {
        const int low = x->scales[i % 8] >> 4 * (i / 8) & 15;
        const int high = x->scales[8 + i % 4] >> 2 * (i / 4) & 3;
        const float dl = d * (float)((low | high << 4) - 32);
        for (int j = 16 * i; j < 16 * (i + 1); j++) {
            const int third = (x->hmask[j % 32] >> j / 32 & 1) << 2;
            y[j] = dl * (float)((two_bits(x->qs, j) | third) - 4);
        }
    }
}

/* Scale and minimum of sub-block i of Q4_K and Q5_K, 6 bits each. */
static void scale_min_k4(const uint8_t *s, int i, int *scale, int *min) {
    if (i < 4) {
        *scale = s[i] & 63;
        *min = s[4 + i] & 63;
    } else {
        *scale = (s[4 + i] & 15) | (s[i - 4] >> 6) << 4;
        *min = s[4 + i] >> 4 | (s[i] >> 6) << 4;
    }
}

static void decode_q4_k(float *y, const tug_block_q4_k *x) {
    const float d = tug_f16_to_f32(x->d), dmin = tug_f16_to_f32(x->dmin);
    for (int i = 0; i < TUG_QK_K / 32; i++) {
        int scale, min;
        scale_min_k4(x->scales, i, &scale, &min);
        const float dl = d * (float)scale, ml = dmin * (float)min;
        const uint8_t *run = x->qs + 32 * (i / 2);
        for (int j = 0; j < 32; j++) {
            y[32 * i + j] = dl * (float)(run[j] >> 4 * (i % 2) & 15) - ml;
        }
    }
}

static void decode_q5_k(float *y, const tug_block_q5_k *x) {
    const float d = tug_f16_to_f32(x->d), dmin = tug_f16_to_f32(x->dmin);
    for (int i = 0; i < TUG_QK_K / 32; i++) {
        int scale, min;
        scale_min_k4(x->scales, i, &scale, &min);
        const float dl = d * (float)scale, ml = dmin * (float)min;
        const uint8_t *run = x->qs + 32 * (i / 2);
        for (int j = 0; j < 32; j++) {
            const int low = run[j] >> 4 * (i % 2) & 15;
            y[32 * i + j] = dl * (float)(low | (x->qh[j] >> i & 1) << 4) - ml;
        }
    }
}

static void decode_q6_k(float *y, const tug_block_q6_k *x) {
    const float d = tug_f16_to_f32(x->d);
    for (int i = 0; i < TUG_QK_K / 16; i++) {
        const float dl = d * (float)x->scales[i];
        for (int j = 16 * i; j < 16 * (i + 1); j++) {
            const int low = x->ql[j / 128 * 64 + j % 64] >> 4 * (j % 128 / 64) & 15;
            y[j] = dl * (float)((low | two_bits(x->qh, j) << 4) - 32);
        }
    }
}

static void decode_iq4_xs(float *y, const tug_block_iq4_xs *x) {
    const float d = tug_f16_to_f32(x->d);
    for (int i = 0; i < TUG_QK_K / 32; i++) {
        const int low = x->scales_l[i / 2] >> 4 * (i % 2) & 15;
        const int high = x->scales_h >> 2 * i & 3;
        const float dl = d * (float)((low | high << 4) - 32);
        for (int j = 0; j < 32; j++) {
            y[32 * i + j] = dl * (float)tug_iq4_values[nibble(x->qs + 16 * i, j)];
        }
    }
}

/* ----------------------------------------------------------------------------------- */

#define DECODE_BLOCKS(fmt, elems)                   \
    do {                                            \
        const tug_block_##fmt *b = x;               \
        for (int64_t i = 0; i < n / (elems); i++) { \
            decode_##fmt(y + i * (elems), b + i);   \
        }                                           \
        return;                                     \
    } while (0)

void tug_dequantize_row(tug_type type, float *y, const void *x, int64_t n) {
    switch (type) {
    case TUG_TYPE_F32:
        if (n > 0) memcpy(y, x, (size_t)n * sizeof *y);
        return;
    case TUG_TYPE_F16: decode_f16(y, x, n); return;
    case TUG_TYPE_BF16: decode_bf16(y, x, n); return;
    case TUG_TYPE_Q8_0: DECODE_BLOCKS(q8_0, TUG_QK);
    case TUG_TYPE_Q4_0: DECODE_BLOCKS(q4_0, TUG_QK);
    case TUG_TYPE_Q4_1: DECODE_BLOCKS(q4_1, TUG_QK);
    case TUG_TYPE_Q5_0: DECODE_BLOCKS(q5_0, TUG_QK);
    case TUG_TYPE_Q5_1: DECODE_BLOCKS(q5_1, TUG_QK);
    case TUG_TYPE_IQ4_NL: DECODE_BLOCKS(iq4_nl, TUG_QK);
    case TUG_TYPE_Q2_K: DECODE_BLOCKS(q2_k, TUG_QK_K);
    case TUG_TYPE_Q3_K: DECODE_BLOCKS(q3_k, TUG_QK_K);
    case TUG_TYPE_Q4_K: DECODE_BLOCKS(q4_k, TUG_QK_K);
    case TUG_TYPE_Q5_K: DECODE_BLOCKS(q5_k, TUG_QK_K);
    case TUG_TYPE_Q6_K: DECODE_BLOCKS(q6_k, TUG_QK_K);
    case TUG_TYPE_IQ4_XS: DECODE_BLOCKS(iq4_xs, TUG_QK_K);
    default: TUG_CHECK(tug_type_get(type)->can_decode);
    }
}
