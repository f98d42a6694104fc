/* threads.h - a pool of workers that run one function over ranges of outputs.
 *
 * Threads split outputs, never a reduction: what an element's value is does not depend
 * on how many threads there are.  Workers spin for a short while after a job (the next
 * one usually follows within microseconds), then sleep.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_THREADS_H
#define TUG_BASE_THREADS_H

#include <stdint.h>

#include "base/pool_clock.h"
#include "base/status.h"

typedef struct tug_pool tug_pool;

/* Works on items [begin, end); `thread` is 0 .. n_threads-1, for per-thread scratch. */
typedef void tug_range_fn(void *ud, int64_t begin, int64_t end, int thread);

/* n_threads >= 1 includes the calling thread. */
TUG_NODISCARD tug_status tug_pool_create(tug_pool **out, int n_threads, tug_err *err);
void tug_pool_destroy(tug_pool **pool); /* nulls the pointer; NULL is fine */

int tug_pool_size(const tug_pool *pool);

/* From now on jobs are timed into `clock`, made for as many threads; NULL: not.  Borrowed;
 * between jobs only. */
void tug_pool_set_clock(tug_pool *pool, tug_pool_clock *clock);
tug_pool_clock *tug_pool_get_clock(const tug_pool *pool);

/* Runs fn over [0, n) in pieces of `grain` items (the last may be shorter), handed out
 * in order to whichever thread is free; returns when all are done.  Only one call at a
 * time, from the thread that created the pool. */
void tug_pool_for(tug_pool *pool, int64_t n, int64_t grain, tug_range_fn *fn, void *ud);

#endif
