/* packed.c - see packed.h.  SPDX-License-Identifier: MIT */
#include "quant/packed.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "quant/blocks.h"

/* What of a block goes where; block_bytes = 4 n_dword + 2 n_field. */
typedef struct tug_packing {
    int n_dword, dword_at; /* byte offset of the first in a block; they are contiguous */
    int n_field, field_at[2];
} tug_packing;

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

/* ---- weights put together anew ------------------------------------------------------- */

/* Four bytes at a time: no shift below moves a bit that its mask keeps into another byte. */

static uint32_t load(const uint8_t *p, int dword) {
    uint32_t v;
    memcpy(&v, p + (ptrdiff_t)4 * dword, sizeof v);
    return v;
}
static void store(uint8_t *p, int dword, uint32_t v) {
    memcpy(p + (ptrdiff_t)4 * dword, &v, sizeof v);
}
/* `v` in each of the four bytes. */
static uint32_t each(uint32_t v) {
    return v * 0x01010101u;
}

/* out: body of a Q3_K block. */
static void rebuild_q3_k(uint8_t *out, const uint8_t *block) {
    const tug_block_q3_k *in = (const void *)block;
    for (int run = 0; run < 8; run++) {
        uint32_t v[8];
        for (int q = 0; q < 8; q++) {
            const uint32_t low = load(in->qs, run / 4 * 8 + q) >> (run % 4 * 2) & each(3);
            const uint32_t high = load(in->hmask, q) >> run & each(1);
            v[q] = low | high << 2;
        }
        const uint32_t a = v[0] | v[4] << 3 | (v[3] & each(3)) << 6;
        const uint32_t b = v[1] | v[5] << 3 | (v[7] & each(3)) << 6;
        const uint32_t c =
            v[2] | v[6] << 3 | (v[3] & each(4)) << 4 | (v[7] & each(4)) << 5;
        store(out, 3 * run, a);
        store(out, 3 * run + 1, b);
        store(out, 3 * run + 2, c);
    }
    memcpy(out + 96, in->scales, sizeof in->scales);
}

static void rebuild_q5_k(uint8_t *out, const uint8_t *block) {
    const tug_block_q5_k *in = (const void *)block;
    memcpy(out, in->scales, sizeof in->scales);
    out += sizeof in->scales;
    for (int run = 0; run < 8; run++) {
        uint32_t v[8];
        for (int q = 0; q < 8; q++) {
            const uint32_t low =
                load(in->qs, run / 2 * 8 + q) >> (run % 2 * 4) & each(15);
            const uint32_t high = load(in->qh, q) >> run & each(1);
            v[q] = low | high << 4;
        }
        store(out, 5 * run, v[0] | (v[5] & each(7)) << 5);
        store(out, 5 * run + 1, v[1] | (v[5] & each(0x18)) << 2 | (v[7] & each(8)) << 4);
        store(out, 5 * run + 2, v[2] | (v[6] & each(7)) << 5);
        store(out, 5 * run + 3, v[3] | (v[6] & each(0x18)) << 2 | (v[7] & each(16)) << 3);
        store(out, 5 * run + 4, v[4] | (v[7] & each(7)) << 5);
    }
}

static void rebuild_q6_k(uint8_t *out, const uint8_t *block) {
    const tug_block_q6_k *in = (const void *)block;
    for (int run = 0; run < 16; run++) {
        const int half = run / 8, part = run % 8 / 2, first = run % 2 * 4;
        uint32_t v[4];
        for (int q = 0; q < 4; q++) {
            const uint32_t low =
                load(in->ql, 16 * half + part % 2 * 8 + first + q) >> (part / 2 * 4) &
                each(15);
            const uint32_t high =
                load(in->qh, 8 * half + first + q) >> (2 * part) & each(3);
            v[q] = low | high << 4;
        }
        for (int i = 0; i < 3; i++) {
            store(out, 3 * run + i, v[i] | (v[3] >> (2 * i) & each(3)) << 6);
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
