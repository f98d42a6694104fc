/* peak_f32_avx2.c - see peak_f32.h.  Twelve independent chains hide the latency of every
 * processor; in assembly, because compilers put an array of sums into memory.
 * SPDX-License-Identifier: MIT */
#include "bench/peak_f32.h"

#include <immintrin.h>

double peak_f32_avx2(int64_t rounds) {
    const __m256 zero = _mm256_setzero_ps();
    __m256 s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero,
           s7 = zero, s8 = zero, s9 = zero, s10 = zero, s11 = zero;
    for (int64_t n = 0; n < rounds; n++) {
        __asm__ volatile("vfmadd231ps %12, %12, %0\n\t"
                         "vfmadd231ps %12, %12, %1\n\t"
                         "vfmadd231ps %12, %12, %2\n\t"
                         "vfmadd231ps %12, %12, %3\n\t"
                         "vfmadd231ps %12, %12, %4\n\t"
                         "vfmadd231ps %12, %12, %5\n\t"
                         "vfmadd231ps %12, %12, %6\n\t"
                         "vfmadd231ps %12, %12, %7\n\t"
                         "vfmadd231ps %12, %12, %8\n\t"
                         "vfmadd231ps %12, %12, %9\n\t"
                         "vfmadd231ps %12, %12, %10\n\t"
                         "vfmadd231ps %12, %12, %11\n\t"
                         : "+x"(s0), "+x"(s1), "+x"(s2), "+x"(s3), "+x"(s4), "+x"(s5),
                           "+x"(s6), "+x"(s7), "+x"(s8), "+x"(s9), "+x"(s10), "+x"(s11)
                         : "x"(zero));
    }
    return (double)rounds * 12 * 8;
}
