/* expert_cache.h - which expert is in which slot: a state machine, no bytes, no I/O.
 *
 * A step is one layer of one batch:
 *
 *     tug_expert_cache_begin(c, layer, experts, counts, n, n_tok);
 *     for each expert:  slot = tug_expert_cache_slot(c, layer, e)   usable? compute: done()
 *                       else fetch() a slot, read into it, loaded(), compute: done()
 *     tug_expert_cache_end(c);
 *
 * The order of done() is the caller's, but with few staging slots some of those that are
 * there must be done before fetch() finds a slot.  States and invariants: docs/EXPERTS.md.
 * THREADS  one owner.  ERRORS  only creation can fail; wrong calls are asserted.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MEMORY_EXPERT_CACHE_H
#define TUG_MEMORY_EXPERT_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "policy/expert_policy.h"

typedef struct tug_expert_cache tug_expert_cache;

typedef struct tug_expert_cache_params {
    int n_layer, n_expert, n_class;
    const int *class_of; /* (n_layer,) size class of a layer's experts */
    const int *home;     /* (n_layer,) home slots of each layer, 0 .. n_expert */
    const int *staging;  /* (n_class,) >= 1 if a layer is of that class */
    const tug_expert_policy *policy;
    const float *heat; /* (n_layer, n_expert) borrowed during create: what a profile says
                          of each expert, for the policy; NULL: nothing */
} tug_expert_cache_params;

typedef enum tug_expert_state {
    TUG_EXPERT_ABSENT = 0,
    TUG_EXPERT_LOADING,
    TUG_EXPERT_STAGED,    /* in a staging slot, and wanted */
    TUG_EXPERT_LINGERING, /* in a free staging slot */
    TUG_EXPERT_HOME
} tug_expert_state;

typedef struct tug_expert_counters {
    uint64_t wanted;    /* experts of all steps */
    uint64_t hits;      /* of these, in memory when the step began (home or lingering) */
    uint64_t early;     /* of these, loading or staged already: fetched ahead */
    uint64_t fetched;   /* reads begun by fetch(), also ahead */
    uint64_t wasted;    /* fetched ahead, and not wanted then or given up before */
    uint64_t displaced; /* lost their home */
} tug_expert_counters;  /* wanted - hits - early: waited for a read of their own */

TUG_NODISCARD tug_status tug_expert_cache_create(tug_expert_cache **out,
                                                 const tug_expert_cache_params *p,
                                                 tug_err *err);
void tug_expert_cache_destroy(tug_expert_cache **c);

/* Slots of a class are numbered 0 .. n-1. */
int tug_expert_cache_n_slots(const tug_expert_cache *c, int class);

/* experts (n,) increasing, counts (n,) tokens of each, of n_tok.  Those that are usable are
 * pinned from here to done(), the others from loaded() on.  What was fetched ahead for this
 * layer and is not wanted lingers, or will when it is loaded. */
void tug_expert_cache_begin(tug_expert_cache *c, int layer, const int32_t *experts,
                            const int32_t *counts, int n, int64_t n_tok);
/* Those that are not done are given up: they linger, or will when they are loaded. */
void tug_expert_cache_end(tug_expert_cache *c);

tug_expert_state tug_expert_cache_state(const tug_expert_cache *c, int layer, int expert);
/* Where it is, LOADING included; -1 when absent. */
int tug_expert_cache_slot(const tug_expert_cache *c, int layer, int expert);

/* An absent expert, of this step or of a later one (ahead), gets a staging slot: an empty
 * one, else the one that has been free for longest; the slot, now LOADING.  -1: none is
 * free.  An expert of this step then takes the slot of one that was fetched ahead and
 * waits for its own step, so what waits can never stop the step that runs.
 * `evicted_layer` and `evicted_expert` say who was there, -1: nobody. */
int tug_expert_cache_fetch(tug_expert_cache *c, int layer, int expert, int *evicted_layer,
                           int *evicted_expert);
/* The read ended; failed: the expert is absent again. */
void tug_expert_cache_loaded(tug_expert_cache *c, int layer, int expert);
void tug_expert_cache_failed(tug_expert_cache *c, int layer, int expert);

/* Computed: no longer pinned.  If it was staged it now takes a home or lingers; who lost
 * that home lingers. */
void tug_expert_cache_done(tug_expert_cache *c, int layer, int expert);

/* At the start, outside of steps: puts an absent expert into an empty home slot and returns
 * the slot, LOADING until loaded() makes it HOME; -1: the layer has none. */
int tug_expert_cache_settle(tug_expert_cache *c, int layer, int expert);

/* Between steps: gives up home slots of a layer (empty ones, then the coldest) down to
 * `home`, or takes given-up slots back, up to the number it was created with.  For every
 * slot given up or taken back calls `moved`; a slot given up belongs to nobody and its
 * expert is absent.  A home that is still LOADING stays: ask tug_expert_cache_home. */
typedef void tug_expert_moved_fn(void *ud, int class, int slot, bool given_up, int layer,
                                 int expert);
void tug_expert_cache_resize(tug_expert_cache *c, int layer, int home,
                             tug_expert_moved_fn *moved, void *ud);
int tug_expert_cache_home(const tug_expert_cache *c, int layer);

/* An expert at HOME stays there, steps or no steps, until it is released: somebody reads its
 * bytes.  false: it is not at home, or held already. */
bool tug_expert_cache_hold(tug_expert_cache *c, int layer, int expert);
void tug_expert_cache_release(tug_expert_cache *c, int layer, int expert);
/* Between steps, in place of release: `expert` is absent, and its home is that of `other`,
 * which was used as `past` says until token `now`; or empty, when other is not absent or -1.
 * Does `other` live there? */
bool tug_expert_cache_replace(tug_expert_cache *c, int layer, int expert, int other,
                              const tug_expert_use *past, uint32_t now);

tug_expert_counters tug_expert_cache_counters(const tug_expert_cache *c);
void tug_expert_cache_reset_counters(tug_expert_cache *c);

/* Asserts every invariant; for tests, slow. */
void tug_expert_cache_check(const tug_expert_cache *c);

#endif
