/* threads.c - see threads.h.
 *
 * DESIGN
 * One job at a time.  The caller publishes the job and bumps `epoch`; workers see the new
 * epoch (spinning first, then on a condition variable), take pieces from the shared
 * counter `next` until none is left, and report in `idle`.  The caller takes part, then
 * waits until every worker is idle, so a job's data may live on the caller's stack.
 *
 * INVARIANTS
 *  1. fn, ud, n, grain, next, clock are written only while idle == n_workers.
 *  2. A worker touches the job only between seeing epoch e and adding itself to idle.
 *  3. `sleeping` is read by the caller after the epoch store and written by workers
 *     before their last look at epoch, both seq_cst, so no wake-up is lost.
 * SPDX-License-Identifier: MIT */
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/relax.h"
#include "base/sys.h"

/* Longer than the gap between two ops of a layer, far shorter than what a person or a power
 * meter would notice.  In seconds because a pause takes 40 cycles on one core, 140 on
 * another. */
#define SPIN_SECONDS 200e-6
enum { LOOKS = 16 }; /* between two looks at the clock */

struct tug_pool {
    pthread_t *threads; /* owned, (n_workers,) */
    int n_workers;      /* threads besides the caller */
    int n_started;

    tug_range_fn *fn; /* the current job, see invariant 1 */
    void *ud;
    int64_t n, grain;
    _Atomic int64_t next;

    _Atomic unsigned epoch;
    _Atomic int idle;
    _Atomic int sleeping;
    _Atomic bool stop;
    _Atomic int next_index; /* hands each worker its thread number */
    pthread_mutex_t lock;   /* guards the condition variable only */
    pthread_cond_t wake;
    tug_pool_clock *clock; /* borrowed; NULL: nobody measures; see invariant 1 */
};

typedef struct spin {
    unsigned n;
    double end;
} spin;

/* Pauses; false once SPIN_SECONDS are over. */
static bool spin_on(spin *s) {
    tug_cpu_relax();
    if (++s->n % LOOKS != 0) return true;
    const double now = tug_now();
    if (s->end == 0) s->end = now + SPIN_SECONDS;
    return now < s->end;
}

static void take_pieces(tug_pool *p, int thread) {
    for (;;) {
        const int64_t begin =
            atomic_fetch_add_explicit(&p->next, p->grain, memory_order_relaxed);
        if (begin >= p->n) return;
        const int64_t end = p->n - begin < p->grain ? p->n : begin + p->grain;
        p->fn(p->ud, begin, end, thread);
    }
}

static void run_pieces(tug_pool *p, int thread) {
    if (!p->clock) {
        take_pieces(p, thread);
        return;
    }
    const double start = tug_now();
    take_pieces(p, thread);
    p->clock->thread[thread].busy[p->clock->stage] += tug_now() - start;
}

static void wait_for_epoch_after(tug_pool *p, unsigned seen) {
    spin s = {0};
    do {
        if (atomic_load_explicit(&p->epoch, memory_order_acquire) != seen) return;
    } while (spin_on(&s));
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleeping, 1);
    while (atomic_load(&p->epoch) == seen) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleeping, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *worker(void *arg) {
    tug_pool *p = arg;
    const int thread = 1 + atomic_fetch_add(&p->next_index, 1);
    for (unsigned seen = 0;; seen++) {
        wait_for_epoch_after(p, seen);
        if (atomic_load(&p->stop)) return NULL;
        run_pieces(p, thread);
        atomic_fetch_add_explicit(&p->idle, 1, memory_order_release);
    }
}

static void publish(tug_pool *p) {
    atomic_fetch_add(&p->epoch, 1);
    if (atomic_load(&p->sleeping) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

tug_status tug_pool_create(tug_pool **out, int n_threads, tug_err *err) {
    *out = NULL;
    TUG_CHECK(n_threads >= 1);
    tug_pool *p = tug_alloc_zero(sizeof *p);
    if (!p) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the thread pool");
    p->n_workers = n_threads - 1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->threads = tug_alloc_array((size_t)n_threads, sizeof *p->threads);
    tug_status s = TUG_OK;
    if (!p->threads) s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the thread pool");
    while (s == TUG_OK && p->n_started < p->n_workers) {
        if (pthread_create(&p->threads[p->n_started], NULL, worker, p) != 0) {
            s = TUG_FAIL(err, TUG_ENOMEM,
                         "cannot start thread %d of %d: try a smaller -t",
                         p->n_started + 2, n_threads);
        } else {
            p->n_started++;
        }
    }
    if (s != TUG_OK) {
        tug_pool_destroy(&p);
        return s;
    }
    *out = p;
    return TUG_OK;
}

void tug_pool_destroy(tug_pool **pool) {
    tug_pool *p = *pool;
    if (!p) return;
    atomic_store(&p->stop, true);
    publish(p);
    for (int i = 0; i < p->n_started; i++) pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    tug_free(p->threads);
    tug_free(p);
    *pool = NULL;
}

int tug_pool_size(const tug_pool *pool) {
    return pool->n_workers + 1;
}

void tug_pool_set_clock(tug_pool *pool, tug_pool_clock *clock) {
    pool->clock = clock;
}

tug_pool_clock *tug_pool_get_clock(const tug_pool *pool) {
    return pool->clock;
}

void tug_pool_for(tug_pool *p, int64_t n, int64_t grain, tug_range_fn *fn, void *ud) {
    if (n <= 0) return;
    TUG_CHECK(grain >= 1);
    if (p->n_workers == 0 || n <= grain) { /* nothing to share */
        fn(ud, 0, n, 0);
        return;
    }
    const double start = p->clock ? tug_now() : 0.0;
    p->fn = fn;
    p->ud = ud;
    p->n = n;
    p->grain = grain;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->idle, 0, memory_order_relaxed);
    publish(p);
    run_pieces(p, 0);
    /* All of our own pieces are done; others may still be in their last one.  After a
     * while assume that a worker lost its core and let it have ours. */
    spin s = {0};
    while (atomic_load_explicit(&p->idle, memory_order_acquire) < p->n_workers) {
        if (!spin_on(&s)) sched_yield();
    }
    if (p->clock) p->clock->job[p->clock->stage] += tug_now() - start;
}
