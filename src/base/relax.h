/* relax.h - what a thread does between two looks at a word that another one will write.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_RELAX_H
#define TUG_BASE_RELAX_H

static inline void tug_cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
