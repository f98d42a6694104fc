/* kernels_delta.c - chooses the Gated DeltaNet kernels for a CPU level.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/kernels_delta.h"

void tug_kernels_init_delta(tug_kernels *k, tug_cpu_level level) {
    k->conv_silu = tug_conv_silu_ref;
    k->delta = tug_delta_ref;
    k->delta_gates = tug_delta_gates_ref;
    k->rmsnorm_gated = tug_rmsnorm_gated_ref;

#if defined(__x86_64__)
    if (level < TUG_CPU_AVX2) return;
    k->conv_silu = tug_conv_silu_avx2;
    k->delta = tug_delta_avx2;
    k->delta_gates = tug_delta_gates_avx2;
    k->rmsnorm_gated = tug_rmsnorm_gated_avx2;

    if (level < TUG_CPU_AVX512) return;
    k->conv_silu = tug_conv_silu_avx512;
    k->delta = tug_delta_avx512;
    k->delta_gates = tug_delta_gates_avx512;
    k->rmsnorm_gated = tug_rmsnorm_gated_avx512;
#else
    (void)level;
#endif
}
