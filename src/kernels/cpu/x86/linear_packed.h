/* linear_packed.h - where things lie in packed rows (quant/packed.h), and streaming them,
 * the same for every instruction set.
 *
 * Weights come in groups of 16 rows: a line is 64 bytes, one dword of each row.  A quad is
 * a line of 4 neighbouring columns of the 16 rows, as bytes: what the instructions multiply
 * by 4 activations, broadcast.  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_LINEAR_PACKED_H
#define TUG_KERNELS_CPU_X86_LINEAR_PACKED_H

#include "kernels/cpu/x86/linear_rows.h"
#include "quant/packed.h"

enum {
    LINE = 4 * TUG_PACK_ROWS,
    FIELD = 2 * TUG_PACK_ROWS,
    /* How far ahead of its use a stream of packed weights is asked for: first from memory
     * into L2, which waits for many lines at once, then into L1, which cannot.  (Xeon, two
     * threads, decode of a Q3_K_M slice: experts 72 % of plain reading with 8 KB into L1
     * alone, 76 with 16 KB into L2 alone, 82 with both; L1 2 KB ahead instead of 1 is
     * another 1 to 3 %.) */
    AHEAD = 16384,
    NEAR = 2048
};

/* Where a call's weights end, and how far from there the caller reads on. */
typedef struct stream_end {
    const uint8_t *at;
    ptrdiff_t jump;
} stream_end;

INLINE stream_end end_of(const tug_linear_args *a) {
    const uint8_t *at = (const uint8_t *)a->w + (size_t)a->n_rows * a->w_row_bytes;
    return (stream_end){at, a->w_next ? (const uint8_t *)a->w_next - at : 0};
}

/* Asks for what comes after `n_bytes` at p in a stream. */
INLINE void stream(const uint8_t *p, size_t n_bytes, stream_end end) {
    const uint8_t *near = p + NEAR, *far = p + AHEAD;
    if (near >= end.at) near += end.jump;
    if (far >= end.at) far += end.jump;
    for (size_t i = 0; i < n_bytes; i += 64) _mm_prefetch(near + i, _MM_HINT_T0);
    for (size_t i = 0; i < n_bytes; i += 64) _mm_prefetch(far + i, _MM_HINT_T1);
}

/* The fields of a group lie behind its bodies, out of that stream: asks for those of the
 * next group, (n_bytes,), one group (group_bytes) ahead. */
INLINE void stream_fields(const uint8_t *field, size_t n_bytes, size_t group_bytes,
                          stream_end end) {
    field += group_bytes;
    if (field >= end.at) field += end.jump;
    for (size_t i = 0; i < n_bytes; i += 64) _mm_prefetch(field + i, _MM_HINT_T0);
}

#endif
