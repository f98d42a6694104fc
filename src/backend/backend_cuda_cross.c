/* backend_cuda_cross.c - experts of a source cross for a batch, while the CPU computes others.
 *
 * DESIGN
 * A step of the source names experts as they come to memory, in any order.  All that have no
 * slot on the GPU are of one step: those that the CPU computes and those that are carried.  The
 * CPU's op is given a source that shows it its own only; whenever it asks for more, what has
 * come of the others sets out in chunks.  So everything stays on one thread, and the link is
 * fed as often as the CPU ends a wave.
 *
 *     from       next() names ──┬─ the CPU's ─────► ready ────► given ──► done()
 *                               └─ carried ───────► waiting ──► a flight ─► gone: done()
 *
 * INVARIANTS
 *  1. An expert of the step is done() once: the CPU's when it is computed, a carried one when
 *     its copies have run.  Until then it is the source's promise that its bytes stay.
 *  2. Whoever waits for a read has nothing in the air, nothing waiting and nothing ready: else
 *     slots that a read needs might be ours to give.
 *  3. The step ends when nothing is in the air, whatever failed.
 * SPDX-License-Identifier: MIT */
#include "backend/backend_cuda_impl.h"

/* ---- flights ------------------------------------------------------------------------------- */

/* A chunk sets out when it is full, or when the link has nothing else to do. */
static bool may_set_out(const tug_cuda_crossing *x) {
    const int n = x->n_waiting - x->n_sent;
    if (n == 0 || x->n_flight == TUG_CUDA_FLIGHTS) return false;
    return x->n_flight == 0 || n >= x->job->c->carrier.n;
}

static void set_out(tug_cuda_crossing *x) {
    tug_cuda_moe_job *j = x->job;
    tug_cuda *c = j->c;
    tug_cuda_flight *f = &x->flight[(x->first + x->n_flight) % TUG_CUDA_FLIGHTS];
    int32_t experts[TUG_CUDA_CARRIED];
    int n_by_hand = 0;
    for (f->n = 0; f->n < c->carrier.n && x->n_sent < x->n_waiting; f->n++) {
        const int32_t at = x->waiting[x->n_sent];
        n_by_hand += tug_cuda_way_of(c, j->w, x->experts[at]) != TUG_CUDA_BY_ITSELF;
        if (n_by_hand > TUG_CUDA_COPIED) break;
        experts[f->n] = x->experts[at];
        f->at[f->n] = at;
        x->n_sent++;
    }
    tug_cuda_many_chunk(j, experts, f->n);
    tug_device_record(c->dev, f->gone, TUG_STREAM_COPY);
    x->n_flight++;
}

static void first_is_gone(tug_cuda_crossing *x) {
    const tug_cuda_flight *f = &x->flight[x->first];
    x->from->done(x->from->ud, f->at, f->n);
    x->first = (x->first + 1) % TUG_CUDA_FLIGHTS;
    x->n_flight--;
}

/* ---- the source that the CPU sees ------------------------------------------------------------ */

/* The step: the CPU's experts and those that cross, increasing. */
static void join_lists(tug_cuda_crossing *x, const int32_t *experts,
                       const int32_t *counts, int n) {
    const tug_cuda_experts *e = x->job->w->on_gpu;
    int mine = 0;
    x->n = 0;
    for (int32_t i = 0; i < e->n_expert; i++) {
        const bool is_cpu = mine < n && experts[mine] == i;
        if (!is_cpu && (e->here[i] || !x->job->elsewhere[i])) continue;
        x->experts[x->n] = i;
        x->counts[x->n] = is_cpu ? counts[mine] : x->tokens[i];
        x->cpu[x->n] = is_cpu ? mine : -1;
        if (is_cpu) x->step[mine++] = x->n;
        x->n++;
    }
}

static tug_status begin(void *ud, int layer, const int32_t *experts,
                        const int32_t *counts, int n, int64_t n_tok, tug_err *err) {
    tug_cuda_crossing *x = ud;
    join_lists(x, experts, counts, n);
    return x->from->begin(x->from->ud, layer, x->experts, x->counts, x->n, n_tok, err);
}

/* What has come. */
static tug_status gather(tug_cuda_crossing *x, bool wait, tug_err *err) {
    int n;
    TUG_TRY(x->from->next(x->from->ud, x->named, TUG_CUDA_MAX_EXPERTS, wait, &n, err));
    for (int i = 0; i < n; i++) {
        const int32_t at = x->named[i];
        if (x->cpu[at] >= 0) {
            x->ready[x->n_ready++] = x->cpu[at];
        } else {
            x->waiting[x->n_waiting++] = at;
        }
    }
    x->n_named += n;
    return TUG_OK;
}

static int give(tug_cuda_crossing *x, int32_t *at, int max) {
    int n = 0;
    while (n < max && x->n_given < x->n_ready) at[n++] = x->ready[x->n_given++];
    return n;
}

static tug_status next(void *ud, int32_t *at, int max, bool wait, int *n, tug_err *err) {
    tug_cuda_crossing *x = ud;
    tug_device *dev = x->job->c->dev;
    for (;;) {
        *n = 0;
        TUG_TRY(tug_device_status(dev, err));
        while (x->n_flight > 0 && tug_device_happened(dev, x->flight[x->first].gone)) {
            first_is_gone(x);
        }
        TUG_TRY(gather(x, false, err));
        while (may_set_out(x)) set_out(x);
        *n = give(x, at, max);
        if (*n > 0 || !wait) return TUG_OK;
        if (x->n_flight > 0) {
            TUG_TRY(tug_device_wait_event(dev, x->flight[x->first].gone, err));
        } else if (x->n_named == x->n) {
            return TUG_OK;
        } else {
            TUG_TRY(gather(x, true, err));
        }
    }
}

static void done(void *ud, const int32_t *at, int n) {
    tug_cuda_crossing *x = ud;
    for (int i = 0; i < n; i++) x->from->done(x->from->ud, &x->step[at[i]], 1);
}

static void end(void *ud) {
    tug_cuda_crossing *x = ud;
    tug_err ignored; /* the pass tells of it */
    while (x->n_flight > 0) {
        (void)!tug_device_wait_event(x->job->c->dev, x->flight[x->first].gone, &ignored);
        first_is_gone(x);
    }
    x->from->end(x->from->ud);
}

const tug_expert_source *tug_cuda_cross(tug_cuda_moe_job *j) {
    tug_cuda_crossing *x = &j->c->crossing;
    TUG_CHECK(x->n_flight == 0);
    x->job = j;
    x->from = j->w->source;
    x->source = (tug_expert_source){
        .ud = x, .begin = begin, .next = next, .done = done, .end = end};
    x->n_named = x->n_ready = x->n_given = x->n_waiting = x->n_sent = 0;
    for (int i = 0; i < j->n_carried; i++) {
        const tug_cuda_load *l = &j->c->carrier.load[i];
        x->tokens[l->expert] = l->tokens;
    }
    return &x->source;
}
