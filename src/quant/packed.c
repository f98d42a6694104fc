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

/* ---- weights put together anew ------------------------------------------------------- */

/* A byte of dword `dword` of a run: the one of column b of each quad. */
static uint8_t *run_byte(uint8_t *runs, int n_dword, int run, int dword, int b) {
    return runs + 4 * ((ptrdiff_t)n_dword * run + dword) + b;
}

/* out: body of a Q3_K block. */
static void rebuild_q3_k(uint8_t *out, const uint8_t *block) {
    const tug_block_q3_k *in = (const void *)block;
    memset(out, 0, 96);
    for (int j = 0; j < TUG_QK_K; j++) {
        const int low = in->qs[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3;
        const int v = low | (in->hmask[j % 32] >> (j / 32) & 1) << 2;
        const int q = j % 32 / 4, run = j / 32, b = j % 4;
        if (q % 4 < 3) {
            *run_byte(out, 3, run, q % 4, b) |= (uint8_t)(v << (q / 4 * 3));
        } else {
            *run_byte(out, 3, run, q / 4, b) |= (uint8_t)((v & 3) << 6);
            *run_byte(out, 3, run, 2, b) |= (uint8_t)((v >> 2) << (6 + q / 4));
        }
    }
    memcpy(out + 96, in->scales, sizeof in->scales);
}

static void rebuild_q5_k(uint8_t *out, const uint8_t *block) {
    const tug_block_q5_k *in = (const void *)block;
    memcpy(out, in->scales, sizeof in->scales);
    out += sizeof in->scales;
    memset(out, 0, 160);
    for (int j = 0; j < TUG_QK_K; j++) {
        const int low = in->qs[j / 64 * 32 + j % 32] >> (j % 64 / 32 * 4) & 15;
        const int v = low | (in->qh[j % 32] >> (j / 32) & 1) << 4;
        const int q = j % 32 / 4, run = j / 32, b = j % 4;
        if (q < 5) {
            *run_byte(out, 5, run, q, b) |= (uint8_t)v;
            continue;
        }
        *run_byte(out, 5, run, 2 * (q - 5), b) |= (uint8_t)((v & 7) << 5);
        if (q < 7) {
            *run_byte(out, 5, run, 2 * (q - 5) + 1, b) |= (uint8_t)((v >> 3) << 5);
        } else {
            *run_byte(out, 5, run, 1, b) |= (uint8_t)((v >> 3 & 1) << 7);
            *run_byte(out, 5, run, 3, b) |= (uint8_t)((v >> 4) << 7);
        }
    }
}

static void rebuild_q6_k(uint8_t *out, const uint8_t *block) {
    const tug_block_q6_k *in = (const void *)block;
    memset(out, 0, 192);
    for (int j = 0; j < TUG_QK_K; j++) {
        const int half = j / 128, part = j % 128 / 32;
        const int low = in->ql[64 * half + part % 2 * 32 + j % 32] >> (part / 2 * 4) & 15;
        const int v = low | (in->qh[32 * half + j % 32] >> (2 * part) & 3) << 4;
        const int q = j % 16 / 4, run = j / 16, b = j % 4;
        if (q < 3) {
            *run_byte(out, 3, run, q, b) |= (uint8_t)v;
        } else {
            for (int i = 0; i < 3; i++) {
                *run_byte(out, 3, run, i, b) |= (uint8_t)((v >> (2 * i) & 3) << 6);
            }
        }
    }
    memcpy(out + 192, in->scales, sizeof in->scales);
}

/* ---- 16 rows ------------------------------------------------------------------------- */

/* The dwords of one block: its own bytes, or `made`. */
static const uint8_t *body_of(tug_type type, const uint8_t *block, uint8_t *made) {
    switch (type) {
    case TUG_TYPE_Q3_K: rebuild_q3_k(made, block); return made;
    case TUG_TYPE_Q5_K: rebuild_q5_k(made, block); return made;
    case TUG_TYPE_Q6_K: rebuild_q6_k(made, block); return made;
    default: return block + packings[type].dword_at;
    }
}

void tug_pack_rows(tug_type type, void *dst, const void *src, uint64_t row_bytes) {
    const tug_packing *p = &packings[type];
    const size_t block_bytes = (size_t)(4 * p->n_dword + 2 * p->n_field);
    const size_t n_blocks = (size_t)row_bytes / block_bytes;
    assert(p->n_dword > 0 && n_blocks * block_bytes == row_bytes);
    uint8_t *body = dst;
    uint8_t *field = body + n_blocks * (size_t)p->n_dword * 4 * TUG_PACK_ROWS;
    for (size_t b = 0; b < n_blocks; b++) {
        for (int r = 0; r < TUG_PACK_ROWS; r++) {
            uint8_t made[sizeof(tug_block_q6_k)];
            const uint8_t *block =
                (const uint8_t *)src + (size_t)r * row_bytes + b * block_bytes;
            const uint8_t *dwords = body_of(type, block, made);
            for (int i = 0; i < p->n_dword; i++) {
                memcpy(body + 4 * (TUG_PACK_ROWS * i + r), dwords + 4 * i, 4);
            }
            for (int i = 0; i < p->n_field; i++) {
                memcpy(field + 2 * (TUG_PACK_ROWS * i + r), block + p->field_at[i], 2);
            }
        }
        body += (size_t)p->n_dword * 4 * TUG_PACK_ROWS;
        field += (size_t)p->n_field * 2 * TUG_PACK_ROWS;
    }
}
