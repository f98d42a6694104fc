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

/* The same dword of 16 rows.  What is done to one is done to all of them, so the compiler
 * takes the widest registers there are; a loader packs as fast as a disk delivers. */
typedef uint32_t lanes __attribute__((vector_size(4 * TUG_PACK_ROWS)));

enum { MAX_DWORDS = 52 }; /* of a block: Q6_K */

/* Below, four bytes at a time: no shift moves a bit that its mask keeps into another byte.
 * `v` in each of the four bytes. */
static inline uint32_t each(uint32_t v) {
    return v * 0x01010101u;
}

/* out (27,): body; in: hmask 8, qs 16, scales 3. */
static void rebuild_q3_k(lanes *out, const lanes *in) {
    const lanes *hmask = in, *qs = in + 8;
    for (int run = 0; run < 8; run++) {
        lanes v[8];
        for (int q = 0; q < 8; q++) {
            const lanes low = qs[run / 4 * 8 + q] >> (run % 4 * 2) & each(3);
            v[q] = low | (hmask[q] >> run & each(1)) << 2;
        }
        out[3 * run] = v[0] | v[4] << 3 | (v[3] & each(3)) << 6;
        out[3 * run + 1] = v[1] | v[5] << 3 | (v[7] & each(3)) << 6;
        out[3 * run + 2] =
            v[2] | v[6] << 3 | (v[3] & each(4)) << 4 | (v[7] & each(4)) << 5;
    }
    memcpy(out + 24, in + 24, 3 * sizeof *in);
}

/* out (43,); in: scales 3, qh 8, qs 32. */
static void rebuild_q5_k(lanes *out, const lanes *in) {
    const lanes *qh = in + 3, *qs = in + 11;
    memcpy(out, in, 3 * sizeof *in);
    out += 3;
    for (int run = 0; run < 8; run++) {
        lanes v[8];
        for (int q = 0; q < 8; q++) {
            const lanes low = qs[run / 2 * 8 + q] >> (run % 2 * 4) & each(15);
            v[q] = low | (qh[q] >> run & each(1)) << 4;
        }
        out[5 * run] = v[0] | (v[5] & each(7)) << 5;
        out[5 * run + 1] = v[1] | (v[5] & each(0x18)) << 2 | (v[7] & each(8)) << 4;
        out[5 * run + 2] = v[2] | (v[6] & each(7)) << 5;
        out[5 * run + 3] = v[3] | (v[6] & each(0x18)) << 2 | (v[7] & each(16)) << 3;
        out[5 * run + 4] = v[4] | (v[7] & each(7)) << 5;
    }
}

/* out (52,); in: ql 32, qh 16, scales 4. */
static void rebuild_q6_k(lanes *out, const lanes *in) {
    const lanes *ql = in, *qh = in + 32;
    for (int run = 0; run < 16; run++) {
        const int half = run / 8, part = run % 8 / 2, first = run % 2 * 4;
        lanes v[4];
        for (int q = 0; q < 4; q++) {
            const lanes low =
                ql[16 * half + part % 2 * 8 + first + q] >> (part / 2 * 4) & each(15);
            v[q] = low | (qh[8 * half + first + q] >> (2 * part) & each(3)) << 4;
        }
        for (int i = 0; i < 3; i++) {
            out[3 * run + i] = v[i] | (v[3] >> (2 * i) & each(3)) << 6;
        }
    }
    memcpy(out + 48, in + 48, 4 * sizeof *in);
}

/* ---- 16 rows ------------------------------------------------------------------------- */

typedef uint32_t quad __attribute__((vector_size(16)));

static inline quad load_quad(const uint8_t *p) {
    quad v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Dwords i .. i+3 of rows r .. r+3: a 4 x 4 transpose. */
static inline void gather_quads(lanes *lines, int r, const uint8_t *p,
                                uint64_t row_bytes) {
    const quad a = load_quad(p), b = load_quad(p + row_bytes),
               c = load_quad(p + 2 * row_bytes), d = load_quad(p + 3 * row_bytes);
    const quad ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5),
               ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7),
               cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5),
               cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const quad t[4] = {__builtin_shufflevector(ab0, cd0, 0, 1, 4, 5),
                       __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7),
                       __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5),
                       __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++) memcpy((uint8_t *)&lines[i] + 4 * r, &t[i], sizeof *t);
}

/* lines (n_dword,) <- the dwords of one block of each row. */
static void gather(lanes *lines, int n_dword, const uint8_t *block, uint64_t row_bytes) {
    for (int r = 0; r < TUG_PACK_ROWS; r += 4, block += 4 * row_bytes) {
        int i = 0;
        for (; i + 4 <= n_dword; i += 4) {
            gather_quads(lines + i, r, block + 4 * i, row_bytes);
        }
        for (; i < n_dword; i++) {
            for (int j = 0; j < 4; j++) {
                memcpy((uint8_t *)&lines[i] + 4 * (r + j),
                       block + (uint64_t)j * row_bytes + 4 * i, 4);
            }
        }
    }
}

void tug_pack_rows(tug_type type, void *dst, const void *src, uint64_t row_bytes) {
    const tug_packing *p = &packings[type];
    const size_t block_bytes = (size_t)(4 * p->n_dword + 2 * p->n_field);
    const size_t n_blocks = (size_t)row_bytes / block_bytes;
    const size_t body_bytes = (size_t)p->n_dword * sizeof(lanes);
    assert(p->n_dword > 0 && n_blocks * block_bytes == row_bytes);
    static_assert(sizeof(tug_block_q6_k) / 4 == MAX_DWORDS, "the largest block");
    uint8_t *body = dst;
    uint8_t *field = body + n_blocks * body_bytes;
    const uint8_t *block = src;
    for (size_t b = 0; b < n_blocks; b++, block += block_bytes, body += body_bytes) {
        lanes in[MAX_DWORDS], made[MAX_DWORDS];
        const lanes *out = made;
        gather(in, p->n_dword, block + p->dword_at, row_bytes);
        switch (type) {
        case TUG_TYPE_Q3_K: rebuild_q3_k(made, in); break;
        case TUG_TYPE_Q5_K: rebuild_q5_k(made, in); break;
        case TUG_TYPE_Q6_K: rebuild_q6_k(made, in); break;
        default: out = in;
        }
        memcpy(body, out, body_bytes);
        for (int i = 0; i < p->n_field; i++) {
            for (size_t r = 0; r < TUG_PACK_ROWS; r++, field += 2) {
                memcpy(field, block + r * row_bytes + p->field_at[i], 2);
            }
        }
    }
}
