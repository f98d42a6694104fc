/* kernels_attn.h - the versions of the attention kernels that kernels_attn.c chooses
 * from, and how they divide the cache and the scratch.  Contracts are in kernels.h.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_KERNELS_ATTN_H
#define TUG_KERNELS_CPU_KERNELS_ATTN_H

#include <assert.h>

#include "kernels/cpu/kernels.h"

/* The SIMD versions walk a chunk in blocks of TUG_ATTN_BLOCK rows.
 *
 * In f32 arithmetic they expand what fits the first-level cache: a few whole rows of K, or
 * a few columns of all rows of V.  In int16 arithmetic they keep the queries as int16 and
 * a panel of each of K and V.  Both use the same scratch, never at the same time. */
enum {
    TUG_ATTN_BLOCK = 64,
    TUG_ATTN_K_ROWS = 16, /* of K expanded to f32 at a time */
    TUG_ATTN_V_COLS = 64,
    TUG_ATTN_PANEL_ROWS = 32, /* of K in a panel */
    /* f32: the expanded part; per query its weights, running maximum, sum and rescale. */
    TUG_ATTN_SCRATCH_F32 =
        TUG_ATTN_K_ROWS * TUG_MAX_HEAD_DIM + TUG_ATTN_QUERIES * (TUG_ATTN_BLOCK + 3),
    /* int16: per query itself, its scores, weights, scale, maximum, sum, rescale, unit; a
     * panel of K, of V, converted rows, their scales. */
    TUG_ATTN_SCRATCH_I16 =
        TUG_ATTN_QUERIES *
            (TUG_MAX_HEAD_DIM / 2 + TUG_ATTN_BLOCK + TUG_ATTN_BLOCK / 2 + 5) +
        (TUG_ATTN_PANEL_ROWS + TUG_ATTN_BLOCK + 16) * TUG_MAX_HEAD_DIM / 2 +
        2 * TUG_ATTN_BLOCK,
    TUG_ATTN_SCRATCH_CHUNK = TUG_ATTN_SCRATCH_F32 > TUG_ATTN_SCRATCH_I16
                                 ? TUG_ATTN_SCRATCH_F32
                                 : TUG_ATTN_SCRATCH_I16,
    /* Then, for tug_attn_by_chunks: per query a total and a part. */
    TUG_ATTN_SCRATCH = TUG_ATTN_SCRATCH_CHUNK +
                       2 * TUG_ATTN_QUERIES * (TUG_ATTN_PART_OUT + TUG_MAX_HEAD_DIM)
};
static_assert(TUG_ATTN_BLOCK * TUG_ATTN_V_COLS <= TUG_ATTN_K_ROWS * TUG_MAX_HEAD_DIM,
              "K and V take turns in the same scratch");
static_assert(TUG_ATTN_SCRATCH_CHUNK % 16 == 0, "the parts are 64-byte aligned");
static_assert(TUG_ATTN_CHUNK % TUG_ATTN_BLOCK == 0, "blocks do not cross chunks");
static_assert(TUG_ATTN_BLOCK == TUG_KV_BLOCK, "a block of I16 is one of the kernels'");

/* ---- I16 blocks ---------------------------------------------------------------------- */

/* A block of TUG_KV_BLOCK rows is its values, then its scales (TUG_KV_BLOCK,) f32.
 * VPDPWSSD adds the products of pairs, so values lie in pairs along what is summed:
 *   K: (2, n / 2, 32, 2): half of the rows, pair of columns, row, column of the pair
 *   V: (n / 32, 32, 2, 16, 2): 32 columns, pair of rows, then the columns as unpacking two
 *      rows leaves them (0-3, 8-11, 16-19, 24-27, and the others), row of the pair. */
static inline int64_t tug_i16_key_at(int64_t row, int64_t d, int64_t n) {
    const int64_t block = row / TUG_KV_BLOCK, r = row % TUG_KV_BLOCK;
    return block * TUG_KV_BLOCK * (n + 2) + r / TUG_ATTN_PANEL_ROWS * n * 32 +
           d / 2 * 64 + r % TUG_ATTN_PANEL_ROWS * 2 + d % 2;
}

static inline int64_t tug_i16_value_at(int64_t row, int64_t d, int64_t n) {
    const int64_t block = row / TUG_KV_BLOCK, r = row % TUG_KV_BLOCK;
    const int64_t lane = d % 32 / 8 * 4 + d % 4;
    return block * TUG_KV_BLOCK * (n + 2) + d / 32 * 32 * TUG_KV_BLOCK + r / 2 * 64 +
           d % 8 / 4 * 32 + lane * 2 + r % 2;
}

static inline float *tug_i16_scales(const void *cache, int64_t row, int64_t n) {
    union {
        const void *ro;
        char *rw;
    } at = {.ro = cache};
    return (float *)(void *)(at.rw + row / TUG_KV_BLOCK * TUG_KV_BLOCK * (n * 2 + 4) +
                             TUG_KV_BLOCK * n * 2);
}

/* Puts a row of int16 and its scale where they belong. */
static inline void tug_i16_put_key(void *cache, int64_t row, const int16_t *x,
                                   float scale, int64_t n) {
    int16_t *to = cache;
    for (int64_t d = 0; d < n; d++) to[tug_i16_key_at(row, d, n)] = x[d];
    tug_i16_scales(cache, row, n)[row % TUG_KV_BLOCK] = scale;
}

static inline void tug_i16_put_value(void *cache, int64_t row, const int16_t *x,
                                     float scale, int64_t n) {
    int16_t *to = cache;
    for (int64_t d = 0; d < n; d++) to[tug_i16_value_at(row, d, n)] = x[d];
    tug_i16_scales(cache, row, n)[row % TUG_KV_BLOCK] = scale;
}

/* ---- the versions -------------------------------------------------------------------- */

/* The whole of attention out of its chunks: for all queries, chunk after chunk, joined. */
void tug_attn_by_chunks(const tug_attn_args *a, tug_attn_chunk_fn *chunk);

tug_kv_store_fn tug_kv_store_f32_ref;
tug_kv_store_fn tug_kv_store_f16_ref, tug_kv_store_f16_avx2, tug_kv_store_f16_avx512;
tug_kv_store_fn tug_kv_store_q8_0_ref, tug_kv_store_q8_0_avx2, tug_kv_store_q8_0_avx512;
tug_kv_store_fn tug_kv_store_k_i16_ref, tug_kv_store_k_i16_avx512;
tug_kv_store_fn tug_kv_store_v_i16_ref, tug_kv_store_v_i16_avx512;
tug_attn_fn tug_attn_f32_ref, tug_attn_f32_avx2;
tug_attn_fn tug_attn_f16_ref, tug_attn_f16_avx2, tug_attn_f16_avx512;
tug_attn_fn tug_attn_q8_0_ref, tug_attn_q8_0_avx2, tug_attn_q8_0_avx512;
tug_attn_fn tug_attn_i16_ref, tug_attn_i16_avx2, tug_attn_i16_avx512;
tug_attn_chunk_fn tug_attn_chunk_f32_avx2;
tug_attn_chunk_fn tug_attn_chunk_f16_avx2, tug_attn_chunk_f16_avx512;
tug_attn_chunk_fn tug_attn_chunk_q8_0_avx2, tug_attn_chunk_q8_0_avx512;
tug_attn_chunk_fn tug_attn_chunk_i16_avx2, tug_attn_chunk_i16_avx512;
/* For every level: where chunks are joined must not show. */
tug_attn_join_fn tug_attn_join_avx2;
tug_attn_finish_fn tug_attn_finish_avx2;

#endif
