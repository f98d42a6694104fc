/* key_set.h - the keys a call has had so far, however many a degenerate answer repeats.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_KEY_SET_H
#define TUG_CALLS_KEY_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

/* Zero-initialise it; tug_key_set_free is always safe. */
typedef struct tug_key_set {
    tug_buf bytes; /* the keys, back to back */
    struct tug_key_slot {
        uint64_t hash;
        size_t at, end; /* in bytes; end 0: free */
    } * slot;           /* owned, (n_slots,), a power of two */
    size_t n, n_slots;
} tug_key_set;

bool tug_key_set_has(const tug_key_set *set, tug_str key);
TUG_NODISCARD tug_status tug_key_set_add(tug_key_set *set, tug_str key, tug_err *err);
void tug_key_set_clear(tug_key_set *set);
void tug_key_set_free(tug_key_set *set);

#endif
