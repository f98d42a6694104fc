/* peak_avx512.c - the most int8 multiply-adds a core can do: 16 independent VPDPBUSD
 * chains on named registers, which no compiler can spill.  SPDX-License-Identifier: MIT */
#include "bench/peak.h"

#define DOT(n) "vpdpbusd %%zmm31, %%zmm30, %%zmm" #n "\n\t"

void peak_int8_avx512(int64_t rounds) {
    for (int64_t n = 0; n < rounds; n++) {
        __asm__ volatile(DOT(0) DOT(1) DOT(2) DOT(3) DOT(4) DOT(5) DOT(6) DOT(7) DOT(8)
                             DOT(9) DOT(10) DOT(11) DOT(12) DOT(13) DOT(14) DOT(15)::
                                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                                   "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                                   "xmm13", "xmm14", "xmm15");
    }
}
