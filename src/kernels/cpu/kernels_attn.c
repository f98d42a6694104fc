/* kernels_attn.c - chooses the attention kernels for a CPU level.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/kernels_attn.h"

size_t tug_attn_scratch_floats(void) {
    return TUG_ATTN_SCRATCH;
}

void tug_kernels_init_attn(tug_kernels *k, tug_cpu_level level) {
    (void)level;
    k->kv_store[TUG_KV_F16] = tug_kv_store_f16_ref;
    k->kv_store[TUG_KV_Q8_0] = tug_kv_store_q8_0_ref;
    k->attn[TUG_KV_F16] = tug_attn_f16_ref;
    k->attn[TUG_KV_Q8_0] = tug_attn_q8_0_ref;
}
