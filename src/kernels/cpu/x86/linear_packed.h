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
    /* How far ahead of its use a stream of packed weights is asked for. */
    AHEAD = 8192,
};

/* Asks for what comes AHEAD of `n_bytes` at p in a stream; past its end that is whatever
 * lies there, or nothing. */
INLINE void stream(const uint8_t *p, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i += 64) _mm_prefetch(p + AHEAD + i, _MM_HINT_T0);
}

/* The fields of a group lie behind its bodies, out of that stream: asks for those of the
 * next group, (n_bytes,), one group (group_bytes) ahead. */
INLINE void stream_fields(const uint8_t *field, size_t n_bytes, size_t group_bytes) {
    for (size_t i = 0; i < n_bytes; i += 64) {
        _mm_prefetch(field + group_bytes + i, _MM_HINT_T0);
    }
}

#endif
