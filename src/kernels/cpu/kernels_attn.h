/* kernels_attn.h - the versions of the attention kernels that kernels_attn.c chooses
 * from, and how they divide the cache and the scratch.  Contracts are in kernels.h.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_KERNELS_ATTN_H
#define TUG_KERNELS_CPU_KERNELS_ATTN_H

#include <assert.h>

#include "kernels/cpu/kernels.h"

/* The SIMD versions walk the cache in blocks of TUG_ATTN_BLOCK rows, counted from row 0
 * whatever the query, and keep at most TUG_ATTN_QUERIES queries in flight.  Within a block
 * they expand to f32 what fits the first-level cache: a few whole rows of K, or a few
 * columns of all rows of V. */
enum {
    TUG_ATTN_BLOCK = 64,
    TUG_ATTN_QUERIES = 128,
    TUG_ATTN_K_ROWS = 16,
    TUG_ATTN_V_COLS = 64,
    /* The expanded part; per query its weights, its running maximum, sum and rescale. */
    TUG_ATTN_SCRATCH =
        TUG_ATTN_K_ROWS * TUG_MAX_HEAD_DIM + TUG_ATTN_QUERIES * (TUG_ATTN_BLOCK + 3)
};
static_assert(TUG_ATTN_BLOCK * TUG_ATTN_V_COLS <= TUG_ATTN_K_ROWS * TUG_MAX_HEAD_DIM,
              "K and V take turns in the same scratch");

tug_kv_store_fn tug_kv_store_f32_ref;
tug_kv_store_fn tug_kv_store_f16_ref, tug_kv_store_f16_avx2, tug_kv_store_f16_avx512;
tug_kv_store_fn tug_kv_store_q8_0_ref, tug_kv_store_q8_0_avx2, tug_kv_store_q8_0_avx512;
tug_attn_fn tug_attn_f32_ref, tug_attn_f32_avx2, tug_attn_f32_avx512;
tug_attn_fn tug_attn_f16_ref, tug_attn_f16_avx2, tug_attn_f16_avx512;
tug_attn_fn tug_attn_q8_0_ref, tug_attn_q8_0_avx2, tug_attn_q8_0_avx512;

#endif
