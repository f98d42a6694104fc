/* arena.h - many small allocations that die together.
 *
 * Zero-initialise it; tug_arena_free is always safe.  Pointers stay valid until then.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_ARENA_H
#define TUG_BASE_ARENA_H

#include <stddef.h>

#include "base/str.h"

typedef struct tug_arena {
    struct tug_arena_block *newest; /* owned; older blocks hang off it */
} tug_arena;

/* `n` elements of `elem_bytes`, aligned for any type, not cleared.  NULL when out of
 * memory or when the product does not fit; never NULL for n == 0. */
void *tug_arena_array(tug_arena *a, size_t n, size_t elem_bytes);

/* A zero-terminated copy of `s`.  out->p is NULL when out of memory. */
tug_str tug_arena_copy(tug_arena *a, tug_str s);

void tug_arena_free(tug_arena *a);

#endif
