/* peak_f32.h - the most f32 multiply-adds a core can do, for shares of it.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BENCH_PEAK_F32_H
#define TUG_BENCH_PEAK_F32_H

#include <stdint.h>

/* Runs `rounds` of independent multiply-adds on registers and returns how many that was;
 * for processors that have the instruction set. */
double peak_f32_avx2(int64_t rounds);
double peak_f32_avx512(int64_t rounds);

#endif
