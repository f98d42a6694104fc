/* kernels.c - fills the kernel table.  SPDX-License-Identifier: MIT */
#include "kernels/cpu/kernels.h"

#include <string.h>

void tug_kernels_init(tug_kernels *k, tug_cpu_level level) {
    memset(k, 0, sizeof *k);
    k->level = level;
    tug_kernels_init_linear(k, level);
    tug_kernels_init_rows(k, level);
    tug_kernels_init_delta(k, level);
    tug_kernels_init_attn(k, level);
}
