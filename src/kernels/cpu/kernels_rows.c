/* kernels_rows.c - chooses the row and element kernels for a CPU level.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/kernels_rows.h"

void tug_kernels_init_rows(tug_kernels *k, tug_cpu_level level) {
    (void)level;
    k->rmsnorm = tug_rmsnorm_ref;
    k->l2norm = tug_l2norm_ref;
    k->add = tug_add_ref;
    k->axpy = tug_axpy_ref;
    k->swiglu = tug_swiglu_ref;
    k->sigmoid_mul = tug_sigmoid_mul_ref;
    k->rope = tug_rope_ref;
    k->route = tug_route_ref;
}
