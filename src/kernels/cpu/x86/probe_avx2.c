/* probe_avx2.c - see probe.h.  In assembly on registers, because compilers spill an array
 * of sums.  SPDX-License-Identifier: MIT */
#include <immintrin.h>

#include "kernels/cpu/probe.h"

/* 12 chains hide the latency of the FMA and of the sums on every processor. */
enum { DOT_CHAINS = 12, DOT_MACS = 32, FMA_CHAINS = 12, FMA_MACS = 8, READ_AHEAD = 4096 };

/* Two products a 16-bit lane, two of these a 32-bit lane, then the sum: only the last
 * instruction is a chain. */
#define DOT(n)                                 \
    "vpmaddubsw %%ymm13, %%ymm13, %%ymm14\n\t" \
    "vpmaddwd %%ymm13, %%ymm14, %%ymm14\n\t"   \
    "vpaddd %%ymm14, %%ymm" #n ", %%ymm" #n "\n\t"

double tug_peak_int8_avx2(int64_t rounds) {
    for (int64_t n = 0; n < rounds; n++) {
        __asm__ volatile(DOT(0) DOT(1) DOT(2) DOT(3) DOT(4) DOT(5) DOT(6) DOT(7) DOT(8)
                             DOT(9) DOT(10) DOT(11)::
                                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                                   "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm14");
    }
    return (double)rounds * DOT_CHAINS * DOT_MACS;
}

double tug_peak_f32_avx2(int64_t rounds) {
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
    return (double)rounds * FMA_CHAINS * FMA_MACS;
}

void tug_read_avx2(const void *p, size_t n) {
    const char *at = p;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i < n; i += 128) {
        const __m256i *v = (const __m256i *)(const void *)(at + i);
        _mm_prefetch(at + i + READ_AHEAD, _MM_HINT_T0);
        _mm_prefetch(at + i + READ_AHEAD + 64, _MM_HINT_T0);
        a = _mm256_add_epi64(a, _mm256_loadu_si256(v));
        b = _mm256_add_epi64(b, _mm256_loadu_si256(v + 1));
        c = _mm256_add_epi64(c, _mm256_loadu_si256(v + 2));
        d = _mm256_add_epi64(d, _mm256_loadu_si256(v + 3));
    }
    __asm__ volatile("" ::"x"(a), "x"(b), "x"(c), "x"(d));
}
