/* ct_weights.c - random rows of every type.  SPDX-License-Identifier: MIT */
#include <stddef.h>
#include <string.h>

#include "base/f16.h"
#include "cuda/ct.h"
#include "quant/blocks.h"

/* Where a block keeps its f16 scales, and the largest size of a value beside them: the
 * product of an integer and a sub-block's scale. */
typedef struct layout {
    tug_type type;
    size_t at[2];
    int n;
    float size;
} layout;

static const layout layouts[] = {
    {TUG_TYPE_Q8_0, {offsetof(tug_block_q8_0, d)}, 1, 128},
    {TUG_TYPE_Q4_0, {offsetof(tug_block_q4_0, d)}, 1, 8},
    {TUG_TYPE_Q4_1, {offsetof(tug_block_q4_1, d), offsetof(tug_block_q4_1, m)}, 2, 15},
    {TUG_TYPE_Q5_0, {offsetof(tug_block_q5_0, d)}, 1, 16},
    {TUG_TYPE_Q5_1, {offsetof(tug_block_q5_1, d), offsetof(tug_block_q5_1, m)}, 2, 31},
    {TUG_TYPE_IQ4_NL, {offsetof(tug_block_iq4_nl, d)}, 1, 127},
    {TUG_TYPE_Q2_K, {offsetof(tug_block_q2_k, d), offsetof(tug_block_q2_k, dmin)}, 2, 45},
    {TUG_TYPE_Q3_K, {offsetof(tug_block_q3_k, d)}, 1, 128},
    {TUG_TYPE_Q4_K,
     {offsetof(tug_block_q4_k, d), offsetof(tug_block_q4_k, dmin)},
     2,
     945},
    {TUG_TYPE_Q5_K,
     {offsetof(tug_block_q5_k, d), offsetof(tug_block_q5_k, dmin)},
     2,
     1953},
    {TUG_TYPE_Q6_K, {offsetof(tug_block_q6_k, d)}, 1, 4096},
    {TUG_TYPE_IQ4_XS, {offsetof(tug_block_iq4_xs, d)}, 1, 4064},
};

static void put_f16(uint8_t *p, float x) {
    const tug_f16 bits = tug_f32_to_f16(x);
    memcpy(p, &bits, sizeof bits);
}

static void fill_floats(uint8_t *w, tug_type type, int64_t n, float deviation) {
    for (int64_t i = 0; i < n; i++) {
        const float x = ct_rand(-1.7f, 1.7f) * deviation;
        const tug_bf16 narrow = tug_f32_to_bf16(x);
        if (type == TUG_TYPE_F32) memcpy(w + 4 * i, &x, sizeof x);
        if (type == TUG_TYPE_F16) put_f16(w + 2 * i, x);
        if (type == TUG_TYPE_BF16) memcpy(w + 2 * i, &narrow, sizeof narrow);
    }
}

/* Any bits are valid values of every format; one block in eight has all of them set, which
 * is the largest there is. */
static void fill_blocks(uint8_t *w, const layout *l, size_t bytes, float deviation) {
    const size_t step = (size_t)tug_type_get(l->type)->block_bytes;
    for (size_t at = 0; at < bytes; at += step) {
        const bool ones = ct_rand_int(0, 7) == 0;
        for (size_t i = 0; i < step; i++) {
            w[at + i] = (uint8_t)(ones ? 0xFF : ct_rand_int(0, 255));
        }
        for (int i = 0; i < l->n; i++) {
            const float scale = 4 * deviation / l->size;
            put_f16(w + at + l->at[i], ct_rand(-scale, scale));
        }
    }
}

uint8_t *ct_weights(tug_type type, int64_t n_rows, int64_t n_cols, float deviation) {
    uint64_t row_bytes = 0;
    if (!tug_type_row_bytes(type, (uint64_t)n_cols, &row_bytes)) return NULL;
    const size_t bytes = (size_t)n_rows * row_bytes;
    uint8_t *w = ct_buf(bytes);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        if (layouts[i].type == type) {
            fill_blocks(w, &layouts[i], bytes, deviation);
            return w;
        }
    }
    fill_floats(w, type, n_rows * n_cols, deviation);
    return w;
}
