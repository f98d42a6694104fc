/* simulate.c - see simulate.h.  SPDX-License-Identifier: MIT */
#include "trace/simulate.h"

#include <math.h>

#include "base/sys.h"
#include "memory/expert_cache.h"

double tug_hit_rate(tug_hits h) {
    return h.wanted ? (double)h.hits / (double)h.wanted : (double)NAN;
}

static tug_hits *of_batch(tug_simulation *s, int32_t n_tok) {
    return n_tok == 1 ? &s->decode : &s->prompt;
}

/* ---- one layer of one batch ---------------------------------------------------------- */

static bool is_there(const tug_expert_cache *c, int layer, int expert) {
    const tug_expert_state s = tug_expert_cache_state(c, layer, expert);
    return s == TUG_EXPERT_STAGED || s == TUG_EXPERT_HOME;
}

static void fetch_and_use(tug_expert_cache *c, int layer, int expert) {
    int evicted_layer, evicted_expert;
    const int slot =
        tug_expert_cache_fetch(c, layer, expert, &evicted_layer, &evicted_expert);
    TUG_CHECK(slot >= 0); /* those that were there are done */
    tug_expert_cache_loaded(c, layer, expert);
    tug_expert_cache_done(c, layer, expert);
}

/* `late` (n_expert,): room for those that are not there. */
static void run_step(tug_expert_cache *c, int layer, const tug_trace_step *s,
                     int32_t n_tok, int32_t *late) {
    int n_late = 0;
    tug_expert_cache_begin(c, layer, s->experts, s->counts, s->n, n_tok);
    for (int i = 0; i < s->n; i++) {
        if (is_there(c, layer, s->experts[i])) {
            tug_expert_cache_done(c, layer, s->experts[i]);
        } else {
            late[n_late++] = s->experts[i];
        }
    }
    for (int i = 0; i < n_late; i++) fetch_and_use(c, layer, late[i]);
    tug_expert_cache_end(c);
}

/* ---- the trace ----------------------------------------------------------------------- */

static tug_status create_cache(const tug_trace *t, const tug_simulate_params *p,
                               tug_expert_cache **out, tug_err *err) {
    int *home = tug_alloc_array((size_t)t->n_layer, sizeof *home);
    int *class_of = tug_alloc_zero((size_t)t->n_layer * sizeof *class_of);
    tug_status s;
    if (!home || !class_of) {
        s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the simulation");
    } else {
        for (int i = 0; i < t->n_layer; i++) home[i] = p->home;
        const tug_expert_cache_params cp = {.n_layer = t->n_layer,
                                            .n_expert = t->n_expert,
                                            .n_class = 1,
                                            .class_of = class_of,
                                            .home = home,
                                            .staging = &p->staging,
                                            .policy = p->policy,
                                            .heat = p->heat};
        s = tug_expert_cache_create(out, &cp, err);
    }
    tug_free(home);
    tug_free(class_of);
    return s;
}

/* As the engine starts: the first experts of each layer are at home. */
static void fill_homes(const tug_trace *t, tug_expert_cache *c, int home) {
    for (int l = 0; l < t->n_layer; l++) {
        for (int e = 0; e < home; e++) {
            TUG_CHECK(tug_expert_cache_settle(c, l, e) >= 0);
            tug_expert_cache_loaded(c, l, e);
        }
    }
}

static void run_trace(const tug_trace *t, tug_expert_cache *c, tug_trace_step *step,
                      int32_t *late, tug_simulation *out) {
    int64_t first = 0;
    for (int64_t b = 0; b < t->n_batches; b++) {
        const int32_t n_tok = t->batches[b];
        tug_expert_cache_reset_counters(c);
        for (int l = 0; l < t->n_layer; l++) {
            tug_trace_step_set(step, t, first, n_tok, l);
            run_step(c, l, step, n_tok, late);
        }
        const tug_expert_counters n = tug_expert_cache_counters(c);
        of_batch(out, n_tok)->wanted += n.wanted;
        of_batch(out, n_tok)->hits += n.hits;
        first += n_tok;
    }
}

tug_status tug_simulate(const tug_trace *t, const tug_simulate_params *p,
                        tug_simulation *out, tug_err *err) {
    tug_expert_cache *c = NULL;
    tug_trace_step step;
    *out = (tug_simulation){{0, 0}, {0, 0}};
    TUG_TRY(tug_trace_step_create(&step, t, err));
    tug_status s = create_cache(t, p, &c, err);
    int32_t *late = tug_alloc_array((size_t)t->n_expert, sizeof *late);
    if (s == TUG_OK && !late) {
        s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the simulation");
    }
    if (s == TUG_OK) {
        fill_homes(t, c, p->home);
        run_trace(t, c, &step, late, out);
    }
    tug_free(late);
    tug_expert_cache_destroy(&c);
    tug_trace_step_free(&step);
    return s;
}

/* ---- pinning by a profile ------------------------------------------------------------ */

/* Turns counts into 1 for the n largest (the first of equals), 0 for the others. */
static void keep_largest(float *counts, int n_expert, int n) {
    for (int i = 0; i < n; i++) {
        int best = 0;
        for (int e = 1; e < n_expert; e++) {
            if (counts[e] > counts[best]) best = e;
        }
        counts[best] = -1.0f;
    }
    for (int e = 0; e < n_expert; e++) counts[e] = counts[e] < 0.0f ? 1.0f : 0.0f;
}

void tug_pin_most_used(const tug_trace *profile, int n, float *heat) {
    TUG_CHECK(n >= 0 && n <= profile->n_expert);
    tug_trace_count_uses(profile, heat);
    for (int l = 0; l < profile->n_layer; l++) {
        keep_largest(heat + (size_t)l * (size_t)profile->n_expert, profile->n_expert, n);
    }
}
