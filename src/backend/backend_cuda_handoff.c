/* backend_cuda_handoff.c - one layer's handoff: what the GPU routed goes to the CPU, the sum
 * of the experts that have no copy there comes back.
 *
 * BY WORDS  Up to TUG_CUDA_FEW_TOKENS tokens, if streams can wait for words of memory.  Two
 * words that both sides see count the handoffs of a pass:
 *
 *     GPU                                         CPU
 *     ids, weights, x to pinned memory,
 *     there = k                                   looks until there >= k
 *     experts that are here, the shared one       sum of the others to pinned memory,
 *     waits until back >= k                       back = k
 *     adds the sum
 *
 * The GPU's part knows nothing of the CPU's, so all of it can be enqueued before the first
 * answer: that is what makes a pass a graph.
 *
 * BY EVENT  Otherwise.  The CPU waits for an event behind the copies, and enqueues the copy of
 * its sum when it has it.
 *
 * INVARIANTS
 *  1. Between two passes nothing runs that waits for a word; then both become 0.
 *  2. From there = k to back = k the pinned buffers are the CPU's, else the GPU's.
 *  3. A pass ends with `back` at all its handoffs or more, whatever failed: see
 *     tug_cuda_handoff_release.  So no stream waits for ever.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "base/relax.h"

bool tug_cuda_by_words(const tug_cuda *c, int64_t n_tok) {
    return n_tok <= TUG_CUDA_FEW_TOKENS && c->use_words;
}

void tug_cuda_handoff_begin_pass(tug_cuda *c) {
    c->n_handoff = 0;
    atomic_store_explicit(&c->words->there, 0, memory_order_relaxed);
    atomic_store_explicit(&c->words->back, 0, memory_order_release);
}

/* Everything that a pass can wait for has come: no handoff has so large a number. */
void tug_cuda_handoff_release(tug_cuda *c) {
    atomic_store_explicit(&c->words->back, INT32_MAX, memory_order_release);
}

/* ---- the GPU's side --------------------------------------------------------------------- */

static void copies_and_event(tug_cuda *c, const tug_cuda_handoff *h, const float *x) {
    const size_t pairs = (size_t)(h->n_tok * h->n_used) * sizeof(int32_t);
    const size_t floats = (size_t)(h->n_tok * h->w->gate.n_cols) * sizeof(float);
    const tug_device_stream s = TUG_STREAM_COMPUTE;
    void *const *to = c->pinned;
    tug_device_copy_out(c->dev, s, to[TUG_CUDA_HOST_IDS], c->buffer[TUG_CUDA_IDS], pairs);
    tug_device_copy_out(c->dev, s, to[TUG_CUDA_HOST_WEIGHTS], c->buffer[TUG_CUDA_WEIGHTS],
                        pairs);
    tug_device_copy_out(c->dev, s, to[TUG_CUDA_HOST_X], x, floats);
    tug_device_record(c->dev, c->routed, s);
}

void tug_cuda_handoff_send(tug_cuda *c, tug_cuda_handoff *h, const float *x) {
    if (!tug_cuda_by_words(c, h->n_tok)) {
        copies_and_event(c, h, x);
        return;
    }
    h->number = ++c->n_handoff;
    const tug_cuda_hand_over a = {.to_ids = c->mapped[TUG_CUDA_HOST_IDS],
                                  .to_weights = c->mapped[TUG_CUDA_HOST_WEIGHTS],
                                  .to_x = c->mapped[TUG_CUDA_HOST_X],
                                  .there = c->words_there,
                                  .ids = c->buffer[TUG_CUDA_IDS],
                                  .weights = c->buffer[TUG_CUDA_WEIGHTS],
                                  .x = x,
                                  .n_x = h->n_tok * h->w->gate.n_cols,
                                  .n_pair = (int32_t)(h->n_tok * h->n_used),
                                  .count = h->number};
    tug_cuda_enqueue(c, tug_cuda_on_hand_over(&a), &a);
    tug_device_count(c->dev, 0, sizeof(float) * (size_t)(a.n_x + 2 * a.n_pair));
}

/* ---- the CPU's side --------------------------------------------------------------------- */

enum { LOOKS = 4096 }; /* 40 to 140 us; then the device is asked whether it is well */

static bool has_come(const tug_cuda *c, uint32_t number) {
    for (int i = 0; i < LOOKS; i++) {
        if (atomic_load_explicit(&c->words->there, memory_order_acquire) >= number) {
            return true;
        }
        tug_cpu_relax();
    }
    return false;
}

/* A device that is lost does not write words: then this ends with its failure. */
static tug_status wait_for(tug_cuda *c, uint32_t number, tug_err *err) {
    TUG_TRY(tug_device_status(c->dev, err));
    while (!has_come(c, number)) {
        bool idle;
        TUG_TRY(tug_device_poll(c->dev, TUG_STREAM_COMPUTE, &idle, err));
        if (idle && !has_come(c, number)) {
            return TUG_FAIL(err, TUG_EDEVICE, "the GPU did not hand over layer %d",
                            (int)number);
        }
    }
    return TUG_OK;
}

static bool any_missing(const tug_cuda *c, const tug_cuda_handoff *h) {
    const int32_t *ids = c->pinned[TUG_CUDA_HOST_IDS];
    for (int64_t p = 0; p < h->n_tok * h->n_used; p++) {
        if (!h->elsewhere[ids[p]]) return true;
    }
    return false;
}

static size_t sum_bytes(const tug_cuda_handoff *h) {
    return (size_t)(h->n_tok * h->w->down.n_rows) * sizeof(float);
}

/* The sum of the experts that are not there, in pinned memory. */
static tug_status compute_missing(tug_backend *be, const tug_cuda_handoff *h,
                                  tug_err *err) {
    void *const *p = tug_cuda_of(be)->pinned;
    tug_moe_weights w = *h->w;
    if (h->source) w.source = h->source;
    return tug_cpu_moe_rest(be, &w, p[TUG_CUDA_HOST_MORE], p[TUG_CUDA_HOST_X],
                            p[TUG_CUDA_HOST_IDS], p[TUG_CUDA_HOST_WEIGHTS], h->elsewhere,
                            h->n_used, h->n_tok, err);
}

/* The source has nothing for the CPU, but others take from it what they need. */
static tug_status go_through(const tug_cuda_handoff *h, tug_err *err) {
    const tug_expert_source *src = h->source;
    int32_t nobody;
    int n;
    tug_status s = src->begin(src->ud, h->w->layer, NULL, NULL, 0, h->n_tok, err);
    if (s == TUG_OK) s = src->next(src->ud, &nobody, 1, true, &n, err);
    src->end(src->ud);
    return s;
}

tug_status tug_cuda_handoff_answer(tug_backend *be, const tug_cuda_handoff *h,
                                   tug_err *err) {
    tug_cuda *c = tug_cuda_of(be);
    TUG_TRY(wait_for(c, h->number, err));
    if (any_missing(c, h)) {
        TUG_TRY(compute_missing(be, h, err));
    } else {
        memset(c->pinned[TUG_CUDA_HOST_MORE], 0, sum_bytes(h));
    }
    /* The policy learns while the device works, from a copy: ids are the GPU's then. */
    const size_t pairs = (size_t)(h->n_tok * h->n_used);
    memcpy(c->seen, c->pinned[TUG_CUDA_HOST_IDS], pairs * sizeof *c->seen);
    atomic_store_explicit(&c->words->back, h->number, memory_order_release);
    tug_cuda_slots_saw(c, h->w->on_gpu, c->seen, h->n_tok, h->n_used);
    return TUG_OK;
}

tug_status tug_cuda_handoff_join(tug_backend *be, const tug_cuda_handoff *h,
                                 const float **more, tug_err *err) {
    tug_cuda *c = tug_cuda_of(be);
    if (tug_cuda_by_words(c, h->n_tok)) {
        tug_device_after_word(c->dev, TUG_STREAM_COMPUTE, c->words_back, h->number);
        tug_device_count(c->dev, sum_bytes(h), 0);
        *more = c->mapped[TUG_CUDA_HOST_MORE];
        return TUG_OK;
    }
    *more = NULL;
    TUG_TRY(tug_device_wait_event(c->dev, c->routed, err));
    if (any_missing(c, h)) {
        TUG_TRY(compute_missing(be, h, err));
        tug_device_copy_in(c->dev, TUG_STREAM_COMPUTE, c->buffer[TUG_CUDA_MORE],
                           c->pinned[TUG_CUDA_HOST_MORE], sum_bytes(h));
        *more = c->buffer[TUG_CUDA_MORE];
    } else if (h->source) {
        TUG_TRY(go_through(h, err));
    }
    tug_cuda_slots_saw(c, h->w->on_gpu, c->pinned[TUG_CUDA_HOST_IDS], h->n_tok,
                       h->n_used);
    return TUG_OK;
}
