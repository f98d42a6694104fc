/* types.h - the tensor types of GGUF: numbers, names and sizes.
 *
 * A tensor row is a sequence of blocks; a block holds `block_elems` values in
 * `block_bytes` bytes.  The numbers are the file format's.  What a block means is
 * dequant.c; how a block is laid out is blocks.h.  SPDX-License-Identifier: MIT */
#ifndef TUG_QUANT_TYPES_H
#define TUG_QUANT_TYPES_H

#include <stdbool.h>
#include <stdint.h>

typedef enum tug_type {
    TUG_TYPE_F32 = 0,
    TUG_TYPE_F16 = 1,
    TUG_TYPE_Q4_0 = 2,
    TUG_TYPE_Q4_1 = 3,
    TUG_TYPE_Q5_0 = 6,
    TUG_TYPE_Q5_1 = 7,
    TUG_TYPE_Q8_0 = 8,
    TUG_TYPE_Q8_1 = 9,
    TUG_TYPE_Q2_K = 10,
    TUG_TYPE_Q3_K = 11,
    TUG_TYPE_Q4_K = 12,
    TUG_TYPE_Q5_K = 13,
    TUG_TYPE_Q6_K = 14,
    TUG_TYPE_Q8_K = 15,
    TUG_TYPE_IQ2_XXS = 16,
    TUG_TYPE_IQ2_XS = 17,
    TUG_TYPE_IQ3_XXS = 18,
    TUG_TYPE_IQ1_S = 19,
    TUG_TYPE_IQ4_NL = 20,
    TUG_TYPE_IQ3_S = 21,
    TUG_TYPE_IQ2_S = 22,
    TUG_TYPE_IQ4_XS = 23,
    TUG_TYPE_I8 = 24,
    TUG_TYPE_I16 = 25,
    TUG_TYPE_I32 = 26,
    TUG_TYPE_I64 = 27,
    TUG_TYPE_F64 = 28,
    TUG_TYPE_IQ1_M = 29,
    TUG_TYPE_BF16 = 30,
    TUG_TYPE_TQ1_0 = 34,
    TUG_TYPE_TQ2_0 = 35,
    TUG_TYPE_MXFP4 = 39,
    TUG_TYPE_NVFP4 = 40,
    TUG_TYPE_Q1_0 = 41,
    TUG_TYPE_COUNT = 42
} tug_type;

typedef struct tug_type_info {
    const char *name;    /* "Q4_K"; NULL for numbers that name no type */
    int32_t block_elems; /* values per block */
    int32_t block_bytes; /* bytes per block */
    bool can_decode;     /* tug_dequantize_row knows it: usable as a weight */
} tug_type_info;

/* Never NULL; an unknown number gives an entry whose name is NULL. */
const tug_type_info *tug_type_get(uint32_t type);

/* Bytes of a row of n values.  false if n is not a multiple of the block or the product
 * does not fit. */
bool tug_type_row_bytes(uint32_t type, uint64_t n, uint64_t *bytes);

/* y[0..n) = the values of n / block_elems blocks at x: the definition of each format.
 * The type's can_decode must be true and n a multiple of block_elems. */
void tug_dequantize_row(tug_type type, float *y, const void *x, int64_t n);

#endif
