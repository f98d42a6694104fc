/* pool_clock.h - who of a pool's threads works when, by stage.
 *
 * OWNS   the sums.  A pool that has a clock (tug_pool_set_clock) fills them in; a pool
 *        without one pays a branch per job.
 * NOT    what a stage is: a number below TUG_POOL_STAGES.
 *
 * Only the thread that owns the pool switches stages, between jobs; a worker adds to its
 * own line during a job, and the end of the job hands it over.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_POOL_CLOCK_H
#define TUG_BASE_POOL_CLOCK_H

#include "base/status.h"

enum { TUG_POOL_STAGES = 16 };

/* Busy seconds of one thread in shared jobs; a cache line apart from the next. */
typedef struct tug_thread_clock {
    double busy[TUG_POOL_STAGES];
} tug_thread_clock;

typedef struct tug_pool_clock {
    int stage;
    double since;                  /* tug_now when the stage was entered */
    double wall[TUG_POOL_STAGES];  /* seconds of the owner */
    double job[TUG_POOL_STAGES];   /* of these, in jobs that all threads share */
    double count[TUG_POOL_STAGES]; /* whatever the stage's owner counts while it works */
    int n_threads;
    tug_thread_clock *thread; /* owned, (n_threads,) */
} tug_pool_clock;

TUG_NODISCARD tug_status tug_pool_clock_create(tug_pool_clock **out, int n_threads,
                                               tug_err *err);
void tug_pool_clock_destroy(tug_pool_clock **clock);

/* Back to zero, in stage 0. */
void tug_pool_clock_reset(tug_pool_clock *clock);

/* Ends the running stage and begins this one (it may be the same). */
void tug_pool_clock_enter(tug_pool_clock *clock, int stage);

/* Sum over the threads. */
double tug_pool_clock_busy(const tug_pool_clock *clock, int stage);

#endif
