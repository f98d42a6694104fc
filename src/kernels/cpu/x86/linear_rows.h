/* linear_rows.h - finding and fetching the rows of a linear kernel's operands, the same
 * for every instruction set.  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_LINEAR_ROWS_H
#define TUG_KERNELS_CPU_X86_LINEAR_ROWS_H

#include <immintrin.h>

#include "kernels/cpu/kernels.h"

/* Kernels are assembled from small functions whose arguments are constants at the call;
 * nothing but inlining turns them into code. */
#define INLINE static inline __attribute__((always_inline))

/* Rows r0 .. r0 + n - 1 of a's weights; beyond the end: the last row again. */
INLINE void weight_rows(const char **rows, const tug_linear_args *a, int64_t r0, int n) {
    const int64_t last = a->n_rows - 1;
    for (int i = 0; i < n; i++) {
        const int64_t row = r0 + i < last ? r0 + i : last;
        rows[i] = (const char *)a->w + (size_t)row * a->w_row_bytes;
    }
}

/* The activation row of token t. */
INLINE const void *token_row(const tug_linear_args *a, int64_t t) {
    const int64_t row = a->x_index ? a->x_index[t] : t;
    return (const char *)a->x + (size_t)row * a->x_row_bytes;
}

/* Asks for `bytes` at p; past the end of a matrix that does nothing.  The kernels unpack
 * a few rows column by column and meanwhile ask for the rows after them, in the order of
 * their addresses: memory delivers that faster than the order of use, and into L2 because
 * the rows in between fill L1.  (AVX-512, one core: gemv of Q4_K and Q6_K 11 -> 17 and
 * 23 GB/s where plain reading gives 19; 10 tokens 62 -> 92 and 47 -> 84 GMAC/s.) */
INLINE void prefetch(const char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch(p + i, _MM_HINT_T1);
}

/* The same into L1. */
INLINE void prefetch_near(const void *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) {
        _mm_prefetch((const char *)p + i, _MM_HINT_T0);
    }
}

#endif
