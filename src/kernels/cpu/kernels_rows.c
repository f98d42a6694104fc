/* kernels_rows.c - chooses the row and element kernels for a CPU level.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/kernels_rows.h"

void tug_kernels_init_rows(tug_kernels *k, tug_cpu_level level) {
    k->rmsnorm = tug_rmsnorm_ref;
    k->l2norm = tug_l2norm_ref;
    k->add = tug_add_ref;
    k->axpy = tug_axpy_ref;
    k->swiglu = tug_swiglu_ref;
    k->sigmoid_mul = tug_sigmoid_mul_ref;
    k->rope = tug_rope_ref;
    k->route = tug_route_ref;

#if defined(__x86_64__)
    if (level < TUG_CPU_AVX2) return;
    k->rmsnorm = tug_rmsnorm_avx2;
    k->l2norm = tug_l2norm_avx2;
    k->add = tug_add_avx2;
    k->axpy = tug_axpy_avx2;
    k->swiglu = tug_swiglu_avx2;
    k->sigmoid_mul = tug_sigmoid_mul_avx2;
    k->rope = tug_rope_avx2;

    if (level < TUG_CPU_AVX512) return;
    k->rmsnorm = tug_rmsnorm_avx512;
    k->l2norm = tug_l2norm_avx512;
    k->add = tug_add_avx512;
    k->axpy = tug_axpy_avx512;
    k->swiglu = tug_swiglu_avx512;
    k->sigmoid_mul = tug_sigmoid_mul_avx512;
    k->rope = tug_rope_avx512;
#else
    (void)level;
#endif
}
