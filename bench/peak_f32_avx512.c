/* peak_f32_avx512.c - see peak_f32.h.  Twelve independent chains hide the latency of every
 * processor; in assembly, because compilers put an array of sums into memory.
 * SPDX-License-Identifier: MIT */
#include "bench/peak_f32.h"

#include <immintrin.h>

double peak_f32_avx512(int64_t rounds) {
    const __m512 zero = _mm512_setzero_ps();
    __m512 s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero,
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
                         : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5),
                           "+v"(s6), "+v"(s7), "+v"(s8), "+v"(s9), "+v"(s10), "+v"(s11)
                         : "v"(zero));
    }
    return (double)rounds * 12 * 16;
}
