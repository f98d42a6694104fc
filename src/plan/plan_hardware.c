/* plan_hardware.c - DATA: common graphics cards, processors, memories and disks.
 *
 * Cards: memory, its nominal bandwidth, f32 TFLOPS, PCIe and board power as their maker
 * rates them.  Processors: cores (of hybrid ones the fast cores), a clock they hold with all
 * cores at work, and what their memory controller or chiplet link lets the cores read.
 * Disks: what 1.5 MB reads reach, not the number on the box.  docs/PLAN.md says which of
 * these are estimates.  Rows are kept in order of name.  SPDX-License-Identifier: MIT */
#include "plan/plan_machine.h"

/* clang-format off */
static const tug_plan_gpu gpus[] = {
    /* name          MiB     GB/s    TFLOPS  PCIe    W */
    {"a100-40g",     40960,  1555.0,  19.5,  4, 16,  250},
    {"a100-80g",     81920,  1935.0,  19.5,  4, 16,  300},
    {"h100",         81559,  2039.0,  51.0,  5, 16,  350},
    {"rtx3060",      12288,   360.0,  12.7,  4, 16,  170},
    {"rtx3060ti",     8192,   448.0,  16.2,  4, 16,  200},
    {"rtx3070",       8192,   448.0,  20.3,  4, 16,  220},
    {"rtx3080",      10240,   760.0,  29.8,  4, 16,  320},
    {"rtx3080ti",    12288,   912.0,  34.1,  4, 16,  350},
    {"rtx3090",      24576,   936.0,  35.6,  4, 16,  350},
    {"rtx3090ti",    24564,  1008.0,  40.0,  4, 16,  450},
    {"rtx4060",       8188,   272.0,  15.1,  4,  8,  115},
    {"rtx4060ti",    16380,   288.0,  22.1,  4,  8,  165},
    {"rtx4060ti-8g",  8188,   288.0,  22.1,  4,  8,  160},
    {"rtx4070",      12282,   504.0,  29.1,  4, 16,  200},
    {"rtx4070super", 12282,   504.0,  35.5,  4, 16,  220},
    {"rtx4070ti",    12282,   504.0,  40.1,  4, 16,  285},
    {"rtx4070tisuper", 16376, 672.0,  44.1,  4, 16,  285},
    {"rtx4080",      16376,   717.0,  48.7,  4, 16,  320},
    {"rtx4080super", 16376,   736.0,  52.2,  4, 16,  320},
    {"rtx4090",      24564,  1008.0,  82.6,  4, 16,  450},
    {"rtx5060",       8151,   448.0,  19.2,  5,  8,  145},
    {"rtx5060ti",    16311,   448.0,  23.7,  5,  8,  180},
    {"rtx5060ti-8g",  8151,   448.0,  23.7,  5,  8,  180},
    {"rtx5070",      12227,   672.0,  30.9,  5, 16,  250},
    {"rtx5070ti",    16303,   896.0,  43.9,  5, 16,  300},
    {"rtx5080",      16303,   960.0,  56.3,  5, 16,  360},
    {"rtx5090",      32607,  1792.0, 104.8,  5, 16,  575},
    {"rtxa4000",     16376,   448.0,  19.2,  4, 16,  140},
    {"rtxa5000",     24564,   768.0,  27.8,  4, 16,  230},
    {"rtxa6000",     49140,   768.0,  38.7,  4, 16,  300},
    {"rtxpro6000",   97887,  1792.0, 125.0,  5, 16,  600},
};

static const tug_plan_cpu cpus[] = {
    /* name      cores  GHz  GB/s  level            W */
    {"3600",       6,  4.0,  0.0,  TUG_CPU_AVX2,    65},
    {"5600x",      6,  4.5, 45.0,  TUG_CPU_AVX2,    76},
    {"5700x",      8,  4.3, 45.0,  TUG_CPU_AVX2,    76},
    {"5800x3d",    8,  4.3, 45.0,  TUG_CPU_AVX2,   105},
    {"5950x",     16,  4.0,  0.0,  TUG_CPU_AVX2,   142},
    {"7600",       6,  4.9, 60.0,  TUG_CPU_AVX512,  88},
    {"7700x",      8,  5.0, 60.0,  TUG_CPU_AVX512, 142},
    {"7800x3d",    8,  4.8, 60.0,  TUG_CPU_AVX512, 120},
    {"7950x",     16,  4.9, 68.0,  TUG_CPU_AVX512, 230},
    {"9700x",      8,  4.9, 60.0,  TUG_CPU_AVX512,  88},
    {"9800x3d",    8,  5.0, 60.0,  TUG_CPU_AVX512, 120},
    {"9950x",     16,  4.9, 68.0,  TUG_CPU_AVX512, 230},
    {"i3-12100",   4,  4.1,  0.0,  TUG_CPU_AVX2,    89},
    {"i5-12400",   6,  4.0,  0.0,  TUG_CPU_AVX2,   117},
    {"i5-13400",   6,  4.1,  0.0,  TUG_CPU_AVX2,   154},
    {"i5-13600k",  6,  5.1,  0.0,  TUG_CPU_AVX2,   181},
    {"i7-13700k",  8,  5.3,  0.0,  TUG_CPU_AVX2,   253},
    {"i7-14700k",  8,  5.4,  0.0,  TUG_CPU_AVX2,   253},
    {"i9-13900k",  8,  5.5,  0.0,  TUG_CPU_AVX2,   253},
    {"i9-14900k",  8,  5.6,  0.0,  TUG_CPU_AVX2,   253},
    {"ultra7-265k", 8, 5.2,  0.0,  TUG_CPU_AVX2,   250},
};

static const tug_plan_disk disks[] = {
    {"hdd",   0.15, 9.0},
    {"nvme3", 2.8,  0.12},
    {"nvme4", 5.5,  0.10},
    {"nvme5", 10.0, 0.08},
    {"sata",  0.52, 0.20},
};

static const tug_plan_memory memories[] = {
    {"ddr3", 800, 2400}, {"ddr4", 1600, 5333}, {"ddr5", 3200, 10000}, {"lpddr5", 4800, 10700},
};
/* clang-format on */

#define COUNT(a) (int)(sizeof(a) / sizeof *(a))

const tug_plan_gpu *tug_plan_gpu_at(int i) {
    return i < COUNT(gpus) ? &gpus[i] : NULL;
}

const tug_plan_cpu *tug_plan_cpu_at(int i) {
    return i < COUNT(cpus) ? &cpus[i] : NULL;
}

const tug_plan_disk *tug_plan_disk_at(int i) {
    return i < COUNT(disks) ? &disks[i] : NULL;
}

const tug_plan_memory *tug_plan_memory_at(int i) {
    return i < COUNT(memories) ? &memories[i] : NULL;
}
