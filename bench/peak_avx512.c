/* peak_avx512.c - the most int8 and int16 multiply-adds a core can do: 16 independent
 * VPDPBUSD or VPDPWSSD chains on named registers, which no compiler can spill.  SPDX-License-Identifier: MIT */
#include "bench/peak.h"

#define DOT8(n)  "vpdpbusd %%zmm31, %%zmm30, %%zmm" #n "\n\t"
#define DOT16(n) "vpdpwssd %%zmm31, %%zmm30, %%zmm" #n "\n\t"

void peak_int8_avx512(int64_t rounds) {
    for (int64_t n = 0; n < rounds; n++) {
        __asm__ volatile(DOT8(0) DOT8(1) DOT8(2) DOT8(3) DOT8(4) DOT8(5) DOT8(6) DOT8(7)
                             DOT8(8) DOT8(9) DOT8(10) DOT8(11) DOT8(12) DOT8(13) DOT8(14)
                                 DOT8(15)::
                                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
                                       "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                                       "xmm12", "xmm13", "xmm14", "xmm15");
    }
}

void peak_int16_avx512(int64_t rounds) {
    for (int64_t n = 0; n < rounds; n++) {
        __asm__ volatile(DOT16(0) DOT16(1) DOT16(2) DOT16(3) DOT16(4) DOT16(5) DOT16(6)
                             DOT16(7) DOT16(8) DOT16(9) DOT16(10) DOT16(11) DOT16(12)
                                 DOT16(13) DOT16(14) DOT16(15)::
                                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
                                       "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                                       "xmm12", "xmm13", "xmm14", "xmm15");
    }
}
