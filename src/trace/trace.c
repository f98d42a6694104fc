/* trace.c - traces in memory.  SPDX-License-Identifier: MIT */
#include "trace/trace.h"

#include <string.h>

#include "base/sys.h"

tug_status tug_trace_set_shape(tug_trace *t, const char *name, int n_layer, int n_expert,
                               int n_used, tug_err *err) {
    if (n_layer < 1 || n_layer > TUG_TRACE_MAX_LAYER || n_expert < 1 ||
        n_expert > TUG_TRACE_MAX_EXPERT || n_used < 1 || n_used > n_expert) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "%s: %d layers with %d of %d experts is no shape of a trace",
                        name, n_layer, n_used, n_expert);
    }
    if (t->n_layer > 0 &&
        (t->n_layer != n_layer || t->n_expert != n_expert || t->n_used != n_used)) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "%s is of another model: %d layers with %d of %d experts, not %d "
                        "with %d of %d; replay them one by one",
                        name, n_layer, n_used, n_expert, t->n_layer, t->n_used,
                        t->n_expert);
    }
    t->n_layer = n_layer;
    t->n_expert = n_expert;
    t->n_used = n_used;
    return TUG_OK;
}

void tug_trace_free(tug_trace *t) {
    tug_free(t->ids);
    tug_free(t->batches);
    memset(t, 0, sizeof *t);
}

static tug_status no_room(int64_t n_tokens, tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a trace of %lld tokens",
                    (long long)n_tokens);
}

static tug_status grow_tokens(tug_trace *t, int64_t need, tug_err *err) {
    if (need <= t->cap_tokens) return TUG_OK;
    const int64_t cap = need > 2 * t->cap_tokens ? need : 2 * t->cap_tokens;
    const size_t row = (size_t)t->n_layer * (size_t)t->n_used * sizeof *t->ids;
    uint16_t *ids = tug_realloc_array(t->ids, (size_t)cap, row);
    if (!ids) return no_room(need, err);
    t->ids = ids;
    t->cap_tokens = cap;
    return TUG_OK;
}

static tug_status grow_batches(tug_trace *t, tug_err *err) {
    if (t->n_batches < t->cap_batches) return TUG_OK;
    const int64_t cap = t->cap_batches ? 2 * t->cap_batches : 64;
    int32_t *batches = tug_realloc_array(t->batches, (size_t)cap, sizeof *batches);
    if (!batches) return no_room(t->n_tokens, err);
    t->batches = batches;
    t->cap_batches = cap;
    return TUG_OK;
}

tug_status tug_trace_add_batch(tug_trace *t, int32_t n_tok, int64_t *first,
                               tug_err *err) {
    TUG_CHECK(t->n_layer > 0 && n_tok >= 1);
    TUG_TRY(grow_tokens(t, t->n_tokens + n_tok, err));
    TUG_TRY(grow_batches(t, err));
    *first = t->n_tokens;
    t->batches[t->n_batches++] = n_tok;
    t->n_tokens += n_tok;
    return TUG_OK;
}

tug_status tug_trace_split(tug_trace *t, int32_t most, tug_err *err) {
    int64_t n = 0;
    for (int64_t b = 0; b < t->n_batches; b++) n += (t->batches[b] - 1) / most + 1;
    int32_t *batches = tug_alloc_array((size_t)n, sizeof *batches);
    if (!batches) return no_room(t->n_tokens, err);
    int64_t at = 0;
    for (int64_t b = 0; b < t->n_batches; b++) {
        for (int32_t left = t->batches[b]; left > 0; left -= most) {
            batches[at++] = left < most ? left : most;
        }
    }
    tug_free(t->batches);
    t->batches = batches;
    t->n_batches = t->cap_batches = n;
    return TUG_OK;
}

/* ---- as steps -------------------------------------------------------------------------- */

tug_status tug_trace_step_create(tug_trace_step *s, const tug_trace *t, tug_err *err) {
    s->n = 0;
    s->experts = tug_alloc_array((size_t)t->n_expert, sizeof *s->experts);
    s->counts = tug_alloc_array((size_t)t->n_expert, sizeof *s->counts);
    if (s->experts && s->counts) return TUG_OK;
    tug_trace_step_free(s);
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the experts of a step");
}

void tug_trace_step_free(tug_trace_step *s) {
    tug_free(s->experts);
    tug_free(s->counts);
    s->experts = s->counts = NULL;
}

void tug_trace_step_set(tug_trace_step *s, const tug_trace *t, int64_t first,
                        int32_t n_tok, int layer) {
    /* One token's ids are sorted already; of several, counted by id and then packed. */
    if (n_tok == 1) {
        const uint16_t *ids = tug_trace_ids(t, first, layer);
        for (s->n = 0; s->n < t->n_used; s->n++) {
            s->experts[s->n] = ids[s->n];
            s->counts[s->n] = 1;
        }
        return;
    }
    memset(s->counts, 0, (size_t)t->n_expert * sizeof *s->counts);
    for (int64_t i = first; i < first + n_tok; i++) {
        const uint16_t *ids = tug_trace_ids(t, i, layer);
        for (int k = 0; k < t->n_used; k++) s->counts[ids[k]]++;
    }
    s->n = 0;
    for (int e = 0; e < t->n_expert; e++) {
        if (s->counts[e] == 0) continue;
        s->experts[s->n] = e;
        s->counts[s->n++] = s->counts[e];
    }
}

void tug_trace_count_uses(const tug_trace *t, float *out) {
    memset(out, 0, (size_t)t->n_layer * (size_t)t->n_expert * sizeof *out);
    for (int64_t i = 0; i < t->n_tokens; i++) {
        for (int l = 0; l < t->n_layer; l++) {
            const uint16_t *ids = tug_trace_ids(t, i, l);
            for (int k = 0; k < t->n_used; k++) {
                out[(size_t)l * (size_t)t->n_expert + ids[k]] += 1.0f;
            }
        }
    }
}
