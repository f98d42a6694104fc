/* peak.h - limits of the machine, for shares of them.  SPDX-License-Identifier: MIT */
#ifndef TUG_BENCH_PEAK_H
#define TUG_BENCH_PEAK_H

#include <stdint.h>

enum { PEAK_MACS_PER_ROUND = 16 * 64, PEAK_INT16_MACS_PER_ROUND = 16 * 32 };

/* These need AVX-512 VNNI. */
void peak_int8_avx512(int64_t rounds);
void peak_int16_avx512(int64_t rounds);

#endif
