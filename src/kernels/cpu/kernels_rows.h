/* kernels_rows.h - the versions of the row and element kernels that kernels_rows.c
 * chooses from.  Contracts are in kernels.h.  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_KERNELS_ROWS_H
#define TUG_KERNELS_CPU_KERNELS_ROWS_H

#include "kernels/cpu/kernels.h"

tug_rmsnorm_fn tug_rmsnorm_ref, tug_rmsnorm_avx2, tug_rmsnorm_avx512;
tug_l2norm_fn tug_l2norm_ref, tug_l2norm_avx2, tug_l2norm_avx512;
tug_add_fn tug_add_ref, tug_add_avx2, tug_add_avx512;
tug_axpy_fn tug_axpy_ref, tug_axpy_avx2, tug_axpy_avx512;
tug_swiglu_fn tug_swiglu_ref, tug_swiglu_avx2, tug_swiglu_avx512;
tug_sigmoid_mul_fn tug_sigmoid_mul_ref, tug_sigmoid_mul_avx2, tug_sigmoid_mul_avx512;
tug_rope_fn tug_rope_ref, tug_rope_avx2, tug_rope_avx512;
tug_route_fn tug_route_ref;

#endif
