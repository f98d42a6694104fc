/* packed.c - see packed.h.  SPDX-License-Identifier: MIT */
#include "quant/packed.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "quant/blocks.h"

#define PACKING(name, body, first, ...)                                                 \
    {                                                                                   \
        .n_dword = (sizeof(tug_block_##name) - (first) * sizeof(uint16_t)) / 4,         \
        .dword_at = offsetof(tug_block_##name, body), .n_field = (first), .field_at = { \
            __VA_ARGS__                                                                 \
        }                                                                               \
    }

static const tug_packing packings[TUG_TYPE_COUNT] = {
    [TUG_TYPE_Q8_0] = PACKING(q8_0, qs, 1, offsetof(tug_block_q8_0, d)),
    [TUG_TYPE_Q4_0] = PACKING(q4_0, qs, 1, offsetof(tug_block_q4_0, d)),
    [TUG_TYPE_Q4_1] =
        PACKING(q4_1, qs, 2, offsetof(tug_block_q4_1, d), offsetof(tug_block_q4_1, m)),
    [TUG_TYPE_Q5_0] = PACKING(q5_0, qh, 1, offsetof(tug_block_q5_0, d)),
    [TUG_TYPE_Q5_1] =
        PACKING(q5_1, qh, 2, offsetof(tug_block_q5_1, d), offsetof(tug_block_q5_1, m)),
    [TUG_TYPE_IQ4_NL] = PACKING(iq4_nl, qs, 1, offsetof(tug_block_iq4_nl, d)),
    [TUG_TYPE_Q2_K] = PACKING(q2_k, scales, 2, offsetof(tug_block_q2_k, d),
                              offsetof(tug_block_q2_k, dmin)),
    [TUG_TYPE_Q3_K] = PACKING(q3_k, hmask, 1, offsetof(tug_block_q3_k, d)),
    [TUG_TYPE_Q4_K] = PACKING(q4_k, scales, 2, offsetof(tug_block_q4_k, d),
                              offsetof(tug_block_q4_k, dmin)),
    [TUG_TYPE_Q5_K] = PACKING(q5_k, scales, 2, offsetof(tug_block_q5_k, d),
                              offsetof(tug_block_q5_k, dmin)),
    [TUG_TYPE_Q6_K] = PACKING(q6_k, ql, 1, offsetof(tug_block_q6_k, d)),
    [TUG_TYPE_IQ4_XS] = PACKING(iq4_xs, scales_l, 2, offsetof(tug_block_iq4_xs, d),
                                offsetof(tug_block_iq4_xs, scales_h)),
};

const tug_packing *tug_packing_of(tug_type type) {
    return (unsigned)type < TUG_TYPE_COUNT && packings[type].n_dword > 0 ? &packings[type]
                                                                         : NULL;
}

void tug_pack_rows(tug_type type, void *dst, const void *src, uint64_t row_bytes) {
    const tug_packing *p = &packings[type];
    const size_t block_bytes = (size_t)(4 * p->n_dword + 2 * p->n_field);
    const size_t n_blocks = (size_t)row_bytes / block_bytes;
    assert(p->n_dword > 0 && n_blocks * block_bytes == row_bytes);
    unsigned char *body = dst;
    unsigned char *field = body + n_blocks * (size_t)p->n_dword * 4 * TUG_PACK_ROWS;
    for (size_t b = 0; b < n_blocks; b++) {
        const unsigned char *block = (const unsigned char *)src + b * block_bytes;
        for (int i = 0; i < p->n_dword; i++) {
            for (int r = 0; r < TUG_PACK_ROWS; r++, body += 4) {
                memcpy(body, block + (size_t)r * row_bytes + p->dword_at + 4 * i, 4);
            }
        }
        for (int i = 0; i < p->n_field; i++) {
            for (int r = 0; r < TUG_PACK_ROWS; r++, field += 2) {
                memcpy(field, block + (size_t)r * row_bytes + p->field_at[i], 2);
            }
        }
    }
}
