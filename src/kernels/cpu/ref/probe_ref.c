/* probe_ref.c - see probe.h: what plain C reaches, beside kernels in plain C.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/probe.h"

/* Eight chains hide the latency of a multiply and an add. */
enum { CHAINS = 8, WORDS_PER_LINE = 8 };

double tug_peak_f32_ref(int64_t rounds) {
    double sum[CHAINS] = {0};
    double zero = 0.0;
    __asm__ volatile("" : "+x"(zero)); /* a value that the compiler does not know */
    for (int64_t n = 0; n < rounds; n++) {
        for (int i = 0; i < CHAINS; i++) sum[i] += zero * zero;
        __asm__ volatile("" : "+x"(zero));
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" ::"x"(sum[i]));
    return (double)rounds * CHAINS;
}

void tug_read_ref(const void *p, size_t n) {
    const uint64_t *words = p;
    uint64_t sum[WORDS_PER_LINE] = {0};
    for (size_t i = 0; i < n / sizeof *words; i += WORDS_PER_LINE) {
        for (int l = 0; l < WORDS_PER_LINE; l++) sum[l] += words[i + (size_t)l];
    }
    for (int l = 0; l < WORDS_PER_LINE; l++) __asm__ volatile("" ::"r"(sum[l]));
}
