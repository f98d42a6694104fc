/* peak_avx512.c - the most int8 and int16 multiply-adds a core can do: 16 independent
 * VPDPBUSD or VPDPWSSD chains on named registers, which no compiler can spill.  SPDX-License-Identifier: MIT */
#include "bench/peak.h"

#define DOT(op, n) #op " %%zmm31, %%zmm30, %%zmm" #n "\n\t"
#define DOTS(op)                                                                  \
    DOT(op, 0)                                                                    \
    DOT(op, 1)                                                                    \
    DOT(op, 2)                                                                    \
    DOT(op, 3)                                                                    \
    DOT(op, 4) DOT(op, 5) DOT(op, 6) DOT(op, 7) DOT(op, 8) DOT(op, 9) DOT(op, 10) \
        DOT(op, 11) DOT(op, 12) DOT(op, 13) DOT(op, 14) DOT(op, 15)
#define CLOBBERED                                                                   \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

void peak_int8_avx512(int64_t rounds) {
    for (int64_t n = 0; n < rounds; n++) {
        __asm__ volatile(DOTS(vpdpbusd)::: CLOBBERED);
    }
}

void peak_int16_avx512(int64_t rounds) {
    for (int64_t n = 0; n < rounds; n++) {
        __asm__ volatile(DOTS(vpdpwssd)::: CLOBBERED);
    }
}
