/* probe.h - loops that do nothing but reach one limit of a core, so that a speed can be
 * told as a share of it.  Threads are the caller's business, as for the kernels.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_PROBE_H
#define TUG_KERNELS_CPU_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"

/* Runs `rounds` of independent multiply-adds on registers; returns how many that was. */
typedef double tug_peak_fn(int64_t rounds);

/* Reads n bytes, a multiple of 4096, once and in order. */
typedef void tug_read_fn(const void *p, size_t n);

/* int8 means what the linear kernels of the level use: VPDPBUSD (avx512), VPMADDUBSW with
 * VPMADDWD and VPADDD (avx2).  At "ref", kernels know only float: int8 is f32 there. */
typedef struct tug_probe_kernels {
    tug_peak_fn *int8, *f32;
    tug_read_fn *read;
} tug_probe_kernels;

/* level must be one that tug_cpu_detect() allows. */
tug_probe_kernels tug_probe_kernels_of(tug_cpu_level level);

tug_peak_fn tug_peak_f32_ref, tug_peak_f32_avx2, tug_peak_f32_avx512;
tug_peak_fn tug_peak_int8_avx2, tug_peak_int8_avx512;
tug_read_fn tug_read_ref, tug_read_avx2, tug_read_avx512;

#endif
