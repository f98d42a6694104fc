/* kernels_delta.h - the versions of the Gated DeltaNet kernels that kernels_delta.c
 * chooses from.  Contracts are in kernels.h.  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_KERNELS_DELTA_H
#define TUG_KERNELS_CPU_KERNELS_DELTA_H

#include "kernels/cpu/kernels.h"

tug_conv_silu_fn tug_conv_silu_ref, tug_conv_silu_avx2, tug_conv_silu_avx512;
tug_delta_fn tug_delta_ref, tug_delta_avx2, tug_delta_avx512;
tug_delta_gates_fn tug_delta_gates_ref, tug_delta_gates_avx2, tug_delta_gates_avx512;
tug_rmsnorm_gated_fn tug_rmsnorm_gated_ref, tug_rmsnorm_gated_avx2,
    tug_rmsnorm_gated_avx512;

#endif
