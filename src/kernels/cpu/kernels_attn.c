/* kernels_attn.c - chooses the attention kernels for a CPU level.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/kernels_attn.h"

size_t tug_attn_scratch_floats(void) {
    return TUG_ATTN_SCRATCH;
}

size_t tug_kv_row_bytes(tug_kv_type type, int64_t n) {
    const size_t values = (size_t)n;
    switch (type) {
    case TUG_KV_F16: return values * 2;
    case TUG_KV_Q8_0: return values / 32 * 34;
    case TUG_KV_F32:
    case TUG_KV_TYPES: break;
    }
    return values * 4;
}

void tug_kernels_init_attn(tug_kernels *k, tug_cpu_level level) {
    k->kv_store[TUG_KV_F16] = tug_kv_store_f16_ref;
    k->kv_store[TUG_KV_Q8_0] = tug_kv_store_q8_0_ref;
    k->kv_store[TUG_KV_F32] = tug_kv_store_f32_ref;
    k->attn[TUG_KV_F16] = tug_attn_f16_ref;
    k->attn[TUG_KV_Q8_0] = tug_attn_q8_0_ref;
    k->attn[TUG_KV_F32] = tug_attn_f32_ref;

    if (level < TUG_CPU_AVX2) return;
    k->kv_store[TUG_KV_F16] = tug_kv_store_f16_avx2;
    k->kv_store[TUG_KV_Q8_0] = tug_kv_store_q8_0_avx2;
    k->attn[TUG_KV_F16] = tug_attn_f16_avx2;
    k->attn[TUG_KV_Q8_0] = tug_attn_q8_0_avx2;
    k->attn[TUG_KV_F32] = tug_attn_f32_avx2;

    if (level < TUG_CPU_AVX512) return;
    k->kv_store[TUG_KV_F16] = tug_kv_store_f16_avx512;
    k->kv_store[TUG_KV_Q8_0] = tug_kv_store_q8_0_avx512;
    k->attn[TUG_KV_F16] = tug_attn_f16_avx512;
    k->attn[TUG_KV_Q8_0] = tug_attn_q8_0_avx512;
    k->attn[TUG_KV_F32] = tug_attn_f32_avx512;
}
