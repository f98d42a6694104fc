/* pool_clock.c - see pool_clock.h.  SPDX-License-Identifier: MIT */
#include "base/pool_clock.h"

#include <string.h>

#include "base/sys.h"

tug_status tug_pool_clock_create(tug_pool_clock **out, int n_threads, tug_err *err) {
    *out = NULL;
    tug_pool_clock *c = tug_alloc_zero(sizeof *c);
    const size_t bytes = (size_t)n_threads * sizeof *c->thread;
    if (c) c->thread = tug_alloc_aligned(64, bytes);
    if (!c || !c->thread) {
        tug_free(c);
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the clocks of %d threads",
                        n_threads);
    }
    c->n_threads = n_threads;
    tug_pool_clock_reset(c);
    *out = c;
    return TUG_OK;
}

void tug_pool_clock_destroy(tug_pool_clock **clock) {
    if (!*clock) return;
    tug_free((*clock)->thread);
    tug_free(*clock);
    *clock = NULL;
}

void tug_pool_clock_reset(tug_pool_clock *c) {
    memset(c->thread, 0, (size_t)c->n_threads * sizeof *c->thread);
    *c = (tug_pool_clock){.n_threads = c->n_threads, .thread = c->thread};
    c->since = tug_now();
}

void tug_pool_clock_enter(tug_pool_clock *c, int stage) {
    TUG_CHECK(stage >= 0 && stage < TUG_POOL_STAGES);
    const double now = tug_now();
    c->wall[c->stage] += now - c->since;
    c->since = now;
    c->stage = stage;
}

double tug_pool_clock_busy(const tug_pool_clock *c, int stage) {
    double sum = 0.0;
    for (int i = 0; i < c->n_threads; i++) sum += c->thread[i].busy[stage];
    return sum;
}
