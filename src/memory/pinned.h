/* pinned.h - large memory that is never swapped, given and taken back in pieces.
 *
 * Address space is reserved as a whole, and costs nothing.  A piece becomes memory by
 * tug_pinned_take (touched, in large pages where the kernel has some, locked if we may) and
 * goes back to the system by tug_pinned_give.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MEMORY_PINNED_H
#define TUG_MEMORY_PINNED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct tug_pinned {
    uint8_t *base; /* aligned to 2 MB */
    uint64_t n;    /* bytes reserved */
    uint64_t taken;
    bool locked; /* all that was taken could be locked */
    void *map;   /* owned: base lies in it */
    uint64_t map_n;
} tug_pinned;

TUG_NODISCARD tug_status tug_pinned_reserve(tug_pinned *p, uint64_t n, tug_err *err);
void tug_pinned_free(tug_pinned *p); /* zero-initialised is fine */

/* [at, at + n) becomes memory, zeroed; at and n are whole pages.  TUG_ENOMEM: nothing was
 * taken, because the system or our control group would have had too little left. */
TUG_NODISCARD tug_status tug_pinned_take(tug_pinned *p, uint64_t at, uint64_t n,
                                         tug_err *err);
void tug_pinned_give(tug_pinned *p, uint64_t at, uint64_t n);

#endif
