/* expert_store.h - the experts of a model that do not all fit in memory.
 *
 * Joins who is where (expert_cache.h), the bytes (pinned.h) and the reads (reader.h) into a
 * tug_expert_source for every layer: from create on, the layers' gate, up and down have
 * mats that the store keeps true.  docs/EXPERTS.md has the design.
 *
 *     tug_expert_store_create(&s, &params, &err);      // takes memory, reads nothing
 *     tug_expert_store_fill(s, progress, ud, &err);    // fills the homes
 *     ... tug_op_moe ...
 *
 * THREADS  one owner: the one that runs the backend.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MEMORY_EXPERT_STORE_H
#define TUG_MEMORY_EXPERT_STORE_H

#include "backend/backend.h"
#include "memory/expert_cache.h"
#include "memory/reader.h"

enum { TUG_EXPERT_PIECES = 3 }; /* gate, up, down */

typedef struct tug_expert_layer {
    tug_moe_weights *moe; /* borrowed */
    int file[TUG_EXPERT_PIECES];
    uint64_t
        offset[TUG_EXPERT_PIECES]; /* of expert 0 in its file; others mat_bytes apart */
    int home;                      /* slots of its own, 0 .. n_expert */
} tug_expert_layer;

typedef struct tug_expert_store_params {
    tug_backend *be; /* borrowed */
    const char *const *paths;
    int n_files;
    const tug_expert_layer *layer; /* (n_layer,) */
    int n_layer, n_expert;
    int staging; /* slots of every size class, >= 1 */
} tug_expert_store_params;

typedef struct tug_expert_store tug_expert_store;

/* Memory that one expert of such a layer takes, wherever it begins in its file. */
uint64_t tug_expert_slot_bytes(const tug_moe_weights *moe);

/* Memory that many slots of that layer's class and of all others would take is taken here:
 * TUG_ENOMEM when the system has too little to spare. */
TUG_NODISCARD tug_status tug_expert_store_create(tug_expert_store **out,
                                                 const tug_expert_store_params *p,
                                                 tug_err *err);
/* The layers' mats dangle then. */
void tug_expert_store_destroy(tug_expert_store **s);

/* Bytes done and in all; false cancels. */
typedef bool tug_expert_fill_fn(void *ud, uint64_t done, uint64_t total);

/* Reads experts into every home slot.  TUG_ECANCELED keeps what was read. */
TUG_NODISCARD tug_status tug_expert_store_fill(tug_expert_store *s,
                                               tug_expert_fill_fn *progress, void *ud,
                                               tug_err *err);

/* Between batches.  Positive: so many bytes are free to be taken; negative: so many should be
 * given back.  Does what whole slots allow, evenly over the layers, never below one slot a
 * layer and never above what it was created with; what it did, in bytes. */
int64_t tug_expert_store_adjust(tug_expert_store *s, int64_t bytes);

typedef struct tug_expert_store_stats {
    tug_expert_counters experts;
    tug_reader_stats reads;
    uint64_t slots, bytes; /* now, staging included */
    uint64_t wanted_bytes; /* of the experts that were computed */
    bool locked;
} tug_expert_store_stats;

tug_expert_store_stats tug_expert_store_get_stats(tug_expert_store *s);

#endif
