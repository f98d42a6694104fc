/* cache_slot.h - one session of the prompt cache with its save points.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_CACHE_SLOT_H
#define TUG_SERVE_CACHE_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "serve/prompt_cache.h"
#include "tug.h"

typedef struct tug_cache_slot {
    tug_session *session;                         /* owned */
    tug_session_mark *marks[TUG_CACHE_MAX_MARKS]; /* owned, (n_marks,), by place */
    int n_marks;
    int64_t space; /* whose tokens these are */
    uint64_t hint;
    uint64_t used; /* the cache's clock when it was taken last */

    bool leased;
    int64_t n_prompt, n_reused; /* of the lease */
} tug_cache_slot;

/* A place in a session to go on from: one of its marks, or where it is now. */
typedef struct tug_cache_point {
    int64_t n_tokens;             /* 0: the beginning */
    const tug_session_mark *mark; /* NULL: where the session is */
} tug_cache_point;

int64_t tug_slot_n_tokens(const tug_cache_slot *slot);

/* The deepest point whose tokens are all among the first of ids (n,). */
tug_cache_point tug_slot_find(const tug_cache_slot *slot, const int32_t *ids, int64_t n);

/* Bytes it holds; a leased one as if its whole prompt were computed. */
uint64_t tug_slot_bytes(const tug_cache_slot *slot);

/* Back to no tokens and their memory to the system. */
void tug_slot_empty(tug_cache_slot *slot);
void tug_slot_close(tug_cache_slot *slot);

/* Makes `slot` be at `point` of `source`, which may be itself.  Memory behind the first
 * n_keep tokens goes back to the system. */
void tug_slot_start(tug_cache_slot *slot, const tug_cache_slot *source,
                    tug_cache_point point, int64_t n_keep);

/* May a mark go?  The first one (the head of a conversation) and the last two stay. */
bool tug_slot_can_thin(const tug_cache_slot *slot);

/* Removes the mark whose neighbours are closest to each other. */
void tug_slot_thin(tug_cache_slot *slot);

/* The user of a lease may have gone back in it and on in another way: marks that do not lie
 * before where the session is now go. */
void tug_slot_drop_astray(tug_cache_slot *slot);

/* A mark where the session is; `reuse`: in the memory of one that goes.  False: there is no
 * memory, or none that may go. */
bool tug_slot_mark(tug_cache_slot *slot, bool reuse);

#endif
