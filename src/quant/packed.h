/* packed.h - quantised rows as the fast kernels read them: 16 at a time, side by side.
 *
 * A file stores one row after another.  A kernel wants the same 4 columns of 16 rows in one
 * register (a quad: a row per 32-bit lane, a column per byte), after as little work as
 * possible.  So once, when a model is loaded, 16 rows are interleaved dword by dword, and
 * formats of 3, 5 and 6 bits are put together anew so that most quads are one AND away.
 * Nothing is rounded and nothing grows: the group of 16 packed rows takes exactly the bytes
 * of the 16 rows, and begins where they began.
 *
 *   group   n_blocks x body, then n_blocks x fields
 *   body    for each dword of a block that is no field, in order: that dword of row 0, of
 *           row 1, ... of row 15: a line of 64 bytes                   (n_dword x 64 bytes)
 *   fields  for each 16-bit field of a block (its f16 scales, and the scales_h of IQ4_XS):
 *           that field of row 0, ... of row 15                         (n_field x 32 bytes)
 *
 * Dwords are those of the file (quant/blocks.h) but for the weights of three formats.
 * Below, byte b of a dword belongs to column 4 q + b of quad q of a run of columns, and
 * X[i..j] are bits i to j of that byte in dword X of the run:
 *
 *   Q3_K  runs of 32 columns, dwords A B C: quads 0 1 2 are A B C[0..2]; quads 4 5 6 are
 *         A B C[3..5]; quad 3 is A[6..7], C[6]; quad 7 is B[6..7], C[7]  (low bits first)
 *   Q5_K  runs of 32 columns, dwords A B C D E: quads 0 .. 4 are A .. E[0..4]; quad 5 is
 *         A[5..7], B[5..6]; quad 6 is C[5..7], D[5..6]; quad 7 is E[5..7], B[7], D[7]
 *   Q6_K  runs of 16 columns, dwords A B C: quads 0 1 2 are A B C[0..5]; quad 3 is
 *         A[6..7], B[6..7], C[6..7]
 *
 * The runs come first in a body of Q6_K and Q3_K and last, behind the scales, in one of
 * Q5_K, as the weights do in the file's blocks.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_QUANT_PACKED_H
#define TUG_QUANT_PACKED_H

#include <stdint.h>

#include "quant/types.h"

enum { TUG_PACK_ROWS = 16 };

/* dst <- 16 rows at src, row_bytes long and apart; dst (16 * row_bytes,) may not
 * overlap src.  The type is one of blocks that can be decoded. */
void tug_pack_rows(tug_type type, void *dst, const void *src, uint64_t row_bytes);

#endif
