/* routing.c - see routing.h.  SPDX-License-Identifier: MIT */
#include "trace/routing.h"

#include <math.h>
#include <string.h>

#include "base/sys.h"

/* counts (n_expert,) of the tokens [first, first + n). */
static void count(const tug_trace *t, int layer, int64_t first, int64_t n, int *counts) {
    memset(counts, 0, (size_t)t->n_expert * sizeof *counts);
    for (int64_t i = first; i < first + n; i++) {
        const uint16_t *ids = tug_trace_ids(t, i, layer);
        for (int k = 0; k < t->n_used; k++) counts[ids[k]]++;
    }
}

/* Mean over windows that overlap by half, and layers. */
static double distinct(const tug_trace *t, int window, int *counts) {
    double sum = 0.0, n = 0.0;
    for (int l = 0; l < t->n_layer; l++) {
        for (int64_t i = 0; i + window <= t->n_tokens; i += window / 2) {
            count(t, l, i, window, counts);
            for (int e = 0; e < t->n_expert; e++) sum += counts[e] > 0;
            n += 1.0;
        }
    }
    return n > 0.0 ? sum / n : (double)NAN;
}

/* The share of the n_expert / 8 busiest; takes the counts apart. */
static double take_top(int *counts, int n_expert) {
    double all = 0.0, top = 0.0;
    for (int e = 0; e < n_expert; e++) all += counts[e];
    for (int i = 0; i < (n_expert + 7) / 8; i++) {
        int best = 0;
        for (int e = 1; e < n_expert; e++) {
            if (counts[e] > counts[best]) best = e;
        }
        top += counts[best];
        counts[best] = 0;
    }
    return top / all;
}

static double top_share(const tug_trace *t, int64_t window, int *counts) {
    double sum = 0.0, n = 0.0;
    for (int l = 0; l < t->n_layer && window > 0; l++) {
        for (int64_t i = 0; i + window <= t->n_tokens; i += window) {
            count(t, l, i, window, counts);
            sum += take_top(counts, t->n_expert);
            n += 1.0;
        }
    }
    return n > 0.0 ? sum / n : (double)NAN;
}

tug_status tug_routing_of(const tug_trace *t, tug_routing *out, tug_err *err) {
    int *counts = tug_alloc_array((size_t)t->n_expert, sizeof *counts);
    if (!counts) return TUG_FAIL(err, TUG_ENOMEM, "out of memory to count experts");
    for (int i = 0; i < TUG_ROUTING_WINDOWS; i++) {
        out->window[i] = 2 << i;
        out->distinct[i] = distinct(t, out->window[i], counts);
    }
    out->repeated = 2.0 - out->distinct[0] / t->n_used;
    out->top_text = top_share(t, TUG_ROUTING_TEXT, counts);
    out->top_all = top_share(t, t->n_tokens, counts);
    tug_free(counts);
    return TUG_OK;
}
