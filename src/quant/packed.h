/* packed.h - quantised rows as the fast kernels read them: 16 at a time, side by side.
 *
 * A file stores one row after another.  A kernel wants the same columns of 16 rows in one
 * register, a row per 32-bit lane.  So once, when a model is loaded, 16 rows are
 * interleaved dword by dword.  Nothing is recomputed and nothing grows: the group of 16
 * packed rows takes exactly the bytes of the 16 rows, and begins where they began.
 *
 *   group   n_blocks x body, then n_blocks x fields
 *   body    for each dword of a block that is no field, in order: that dword of row 0, of
 *           row 1, ... of row 15                                    (n_dword x 64 bytes)
 *   fields  for each 16-bit field of a block (its f16 scales, and the scales_h of IQ4_XS):
 *           that field of row 0, ... of row 15                      (n_field x 32 bytes)
 *
 * SPDX-License-Identifier: MIT */
#ifndef TUG_QUANT_PACKED_H
#define TUG_QUANT_PACKED_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/types.h"

enum { TUG_PACK_ROWS = 16 };

/* What of a block goes where; block_bytes = 4 n_dword + 2 n_field. */
typedef struct tug_packing {
    int n_dword, dword_at; /* byte offset of the first in a block; they are contiguous */
    int n_field, field_at[2];
} tug_packing;

/* NULL for types that are not packed (F32, F16, BF16, and what cannot be decoded). */
const tug_packing *tug_packing_of(tug_type type);

/* dst <- 16 rows at src, row_bytes long and apart; dst (16 * row_bytes,) may not
 * overlap src.  The type is one that is packed. */
void tug_pack_rows(tug_type type, void *dst, const void *src, uint64_t row_bytes);

#endif
