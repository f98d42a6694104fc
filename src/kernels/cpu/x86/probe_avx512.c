/* probe_avx512.c - see probe.h.  In assembly on named registers, because compilers spill
 * an array of sums.  SPDX-License-Identifier: MIT */
#include <immintrin.h>

#include "kernels/cpu/probe.h"

/* 16 chains hide the latency of VPDPBUSD, 12 that of the FMA, on every processor. */
enum {
    DOT_CHAINS = 16,
    DOT_MACS = 64,
    FMA_CHAINS = 12,
    FMA_MACS = 16,
    READ_AHEAD = 4096
};

#define DOT(n) "vpdpbusd %%zmm31, %%zmm30, %%zmm" #n "\n\t"

double tug_peak_int8_avx512(int64_t rounds) {
    for (int64_t n = 0; n < rounds; n++) {
        __asm__ volatile(DOT(0) DOT(1) DOT(2) DOT(3) DOT(4) DOT(5) DOT(6) DOT(7) DOT(8)
                             DOT(9) DOT(10) DOT(11) DOT(12) DOT(13) DOT(14) DOT(15)::
                                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                                   "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                                   "xmm13", "xmm14", "xmm15");
    }
    return (double)rounds * DOT_CHAINS * DOT_MACS;
}

double tug_peak_f32_avx512(int64_t rounds) {
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
    return (double)rounds * FMA_CHAINS * FMA_MACS;
}

void tug_read_avx512(const void *p, size_t n) {
    const char *at = p;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i < n; i += 256) {
        _mm_prefetch(at + i + READ_AHEAD, _MM_HINT_T0);
        _mm_prefetch(at + i + READ_AHEAD + 64, _MM_HINT_T0);
        _mm_prefetch(at + i + READ_AHEAD + 128, _MM_HINT_T0);
        _mm_prefetch(at + i + READ_AHEAD + 192, _MM_HINT_T0);
        a = _mm512_add_epi64(a, _mm512_loadu_si512(at + i));
        b = _mm512_add_epi64(b, _mm512_loadu_si512(at + i + 64));
        c = _mm512_add_epi64(c, _mm512_loadu_si512(at + i + 128));
        d = _mm512_add_epi64(d, _mm512_loadu_si512(at + i + 192));
    }
    __asm__ volatile("" ::"v"(a), "v"(b), "v"(c), "v"(d));
}
