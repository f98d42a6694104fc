/* belady.c - the best that could have been done, knowing the future; see simulate.h.
 *
 * Layers share nothing here, so each is a problem of its own: a row of sets, and room for
 * `n_slots` experts from one set to the next.  Keeping those whose next use comes soonest
 * is optimal, also when what was just used need not be kept.
 * SPDX-License-Identifier: MIT */
#include "base/sys.h"
#include "trace/simulate.h"

static const int64_t NEVER = INT64_MAX;

typedef struct oracle {
    const tug_trace *t;
    int home, n_slots; /* experts at home at the start, room for experts */
    tug_trace_step step;
    uint64_t *begin; /* (n_batches + 1,) of each batch in `next` */
    int64_t *next;   /* for each expert of each batch: the batch that uses it next */
    int64_t *when;   /* (n_expert,) the same, of those that are kept */
    bool *kept;      /* (n_expert,) */
} oracle;

/* Offsets of the batches' experts: as many as one layer can use. */
static uint64_t lay_out(oracle *o) {
    uint64_t n = 0;
    for (int64_t b = 0; b < o->t->n_batches; b++) {
        o->begin[b] = n;
        const int64_t most = (int64_t)o->t->batches[b] * o->t->n_used;
        n += (uint64_t)(most < o->t->n_expert ? most : o->t->n_expert);
    }
    return n;
}

static tug_status allocate(oracle *o, const tug_trace *t, tug_err *err) {
    *o = (oracle){.t = t};
    TUG_TRY(tug_trace_step_create(&o->step, t, err));
    o->when = tug_alloc_array((size_t)t->n_expert, sizeof *o->when);
    o->kept = tug_alloc_array((size_t)t->n_expert, sizeof *o->kept);
    o->begin = tug_alloc_array((size_t)t->n_batches, sizeof *o->begin);
    if (o->begin) o->next = tug_alloc_array((size_t)lay_out(o), sizeof *o->next);
    if (o->when && o->kept && o->next) return TUG_OK;
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the bound of %lld batches",
                    (long long)t->n_batches);
}

static void release(oracle *o) {
    tug_trace_step_free(&o->step);
    tug_free(o->begin);
    tug_free(o->next);
    tug_free(o->when);
    tug_free(o->kept);
}

/* From the end: when is each used next?  Leaves in `when` each expert's first use. */
static void look_ahead(oracle *o, int layer) {
    int64_t first = o->t->n_tokens;
    for (int e = 0; e < o->t->n_expert; e++) o->when[e] = NEVER;
    for (int64_t b = o->t->n_batches - 1; b >= 0; b--) {
        first -= o->t->batches[b];
        tug_trace_step_set(&o->step, o->t, first, o->t->batches[b], layer);
        for (int i = 0; i < o->step.n; i++) {
            o->next[o->begin[b] + (uint64_t)i] = o->when[o->step.experts[i]];
            o->when[o->step.experts[i]] = b;
        }
    }
}

/* The one that is used last of all goes. */
static void drop_one(oracle *o) {
    int worst = -1;
    for (int e = 0; e < o->t->n_expert; e++) {
        if (o->kept[e] && (worst < 0 || o->when[e] > o->when[worst])) worst = e;
    }
    o->kept[worst] = false;
}

static void play(oracle *o, int layer, tug_simulation *out) {
    int64_t first = 0;
    int n_kept = o->home;
    for (int e = 0; e < o->t->n_expert; e++) o->kept[e] = e < o->home;
    for (int64_t b = 0; b < o->t->n_batches; b++) {
        const int32_t n_tok = o->t->batches[b];
        tug_hits *hits = n_tok == 1 ? &out->decode : &out->prompt;
        tug_trace_step_set(&o->step, o->t, first, n_tok, layer);
        for (int i = 0; i < o->step.n; i++) {
            const int e = o->step.experts[i];
            hits->hits += o->kept[e];
            n_kept += !o->kept[e];
            o->kept[e] = true;
            o->when[e] = o->next[o->begin[b] + (uint64_t)i];
        }
        hits->wanted += (uint64_t)o->step.n;
        for (; n_kept > o->n_slots; n_kept--) drop_one(o);
        first += n_tok;
    }
}

tug_status tug_simulate_best(const tug_trace *t, int home, int staging,
                             tug_simulation *out, tug_err *err) {
    oracle o;
    *out = (tug_simulation){{0, 0}, {0, 0}};
    const tug_status s = allocate(&o, t, err);
    o.home = home;
    o.n_slots = home + (staging + t->n_layer - 1) / t->n_layer;
    for (int l = 0; l < t->n_layer && s == TUG_OK; l++) {
        look_ahead(&o, l);
        play(&o, l, out);
    }
    release(&o);
    return s;
}
