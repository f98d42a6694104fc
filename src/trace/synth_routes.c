/* synth_routes.c - see synth_routes.h.
 *
 * A router is imitated, not its cache: every expert of a layer has a logit, and the n_used
 * largest are taken.  A logit is a sum of four normal parts: how popular the expert is at
 * all; what the text is about (forgotten over about 100 tokens); what is being said just now
 * (10 tokens); and the token itself.  Their weights and lengths were fitted to
 * published hit rates (docs/TRACE.md says how well).  It is stationary: the first token
 * already has a subject.  SPDX-License-Identifier: MIT */
#include "trace/synth_routes.h"

#include "base/rng.h"
#include "base/sys.h"

/* Deviations; their squares add up to about 1. */
static const double POPULARITY = 0.15, SUBJECT = 0.63, PHRASE = 0.35, TOKEN = 0.68;

/* What is left of a subject and of a phrase after one token. */
static const double SUBJECT_KEPT = 0.99, PHRASE_KEPT = 0.905;

typedef struct logit {
    float popularity, subject, phrase;
} logit;

typedef struct maker {
    const tug_routes_spec *spec;
    tug_rng rng;
    logit *logits; /* owned, (n_layer, n_expert) */
    float *now;    /* owned, (n_expert,) */
    uint16_t *top; /* owned, (n_used,) by logit, largest first */
} maker;

/* About normal with deviation 1: four uniform numbers, without the C library. */
static double normal(tug_rng *r) {
    const uint64_t u = tug_rng_u64(r);
    const uint64_t sum =
        (u & 0xFFFF) + (u >> 16 & 0xFFFF) + (u >> 32 & 0xFFFF) + (u >> 48);
    return ((double)sum / 65536.0 - 2.0) * 1.7320508075688772;
}

/* A value that keeps `kept` of itself and stays normal with the same deviation. */
static void drift(float *v, double kept, double fresh_share, double deviation,
                  tug_rng *r) {
    *v = (float)(kept * (double)*v + fresh_share * deviation * normal(r));
}

static double square_root(double x) {
    double y = 1.0;
    for (int i = 0; i < 40; i++) y = 0.5 * (y + x / y);
    return y;
}

static void next_logits(maker *m, int layer) {
    const double subject = square_root(1.0 - SUBJECT_KEPT * SUBJECT_KEPT);
    const double phrase = square_root(1.0 - PHRASE_KEPT * PHRASE_KEPT);
    logit *l = m->logits + (size_t)layer * (size_t)m->spec->n_expert;
    for (int e = 0; e < m->spec->n_expert; e++) {
        drift(&l[e].subject, SUBJECT_KEPT, subject, SUBJECT, &m->rng);
        drift(&l[e].phrase, PHRASE_KEPT, phrase, PHRASE, &m->rng);
        m->now[e] = l[e].popularity + l[e].subject + l[e].phrase +
                    (float)(TOKEN * normal(&m->rng));
    }
}

static void sort_ids(uint16_t *ids, int n) {
    for (int i = 1; i < n; i++) {
        const uint16_t id = ids[i];
        int at = i;
        for (; at > 0 && ids[at - 1] > id; at--) ids[at] = ids[at - 1];
        ids[at] = id;
    }
}

static void take_largest(const maker *m, uint16_t *out) {
    const int n_used = m->spec->n_used;
    int n = 0;
    for (int e = 0; e < m->spec->n_expert; e++) {
        if (n == n_used && m->now[e] <= m->now[m->top[n - 1]]) continue;
        int at = n < n_used ? n++ : n - 1;
        for (; at > 0 && m->now[e] > m->now[m->top[at - 1]]; at--) {
            m->top[at] = m->top[at - 1];
        }
        m->top[at] = (uint16_t)e;
    }
    for (int i = 0; i < n_used; i++) out[i] = m->top[i];
    sort_ids(out, n_used);
}

static tug_status create(maker *m, const tug_routes_spec *spec, tug_err *err) {
    const size_t n = (size_t)spec->n_layer * (size_t)spec->n_expert;
    *m = (maker){.spec = spec};
    tug_rng_seed(&m->rng, spec->seed);
    m->logits = tug_alloc_array(n, sizeof *m->logits);
    m->now = tug_alloc_array((size_t)spec->n_expert, sizeof *m->now);
    m->top = tug_alloc_array((size_t)spec->n_used, sizeof *m->top);
    if (!m->logits || !m->now || !m->top) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the logits of %zu experts",
                        n);
    }
    for (size_t i = 0; i < n; i++) {
        m->logits[i] = (logit){(float)(POPULARITY * normal(&m->rng)),
                               (float)(SUBJECT * normal(&m->rng)),
                               (float)(PHRASE * normal(&m->rng))};
    }
    return TUG_OK;
}

static tug_status make_batch(maker *m, tug_trace *t, int32_t n_tok, tug_err *err) {
    int64_t first = 0;
    TUG_TRY(tug_trace_add_batch(t, n_tok, &first, err));
    for (int64_t i = first; i < first + n_tok; i++) {
        for (int l = 0; l < t->n_layer; l++) {
            next_logits(m, l);
            take_largest(m, tug_trace_ids(t, i, l));
        }
    }
    return TUG_OK;
}

static tug_status make_all(maker *m, tug_trace *t, tug_err *err) {
    const tug_routes_spec *s = m->spec;
    for (int64_t left = s->n_prompt; left > 0; left -= s->batch) {
        TUG_TRY(make_batch(m, t, left < s->batch ? (int32_t)left : s->batch, err));
    }
    for (int64_t i = 0; i < s->n_decode; i++) TUG_TRY(make_batch(m, t, 1, err));
    return TUG_OK;
}

tug_status tug_synth_routes(tug_trace *t, const tug_routes_spec *spec, tug_err *err) {
    maker m;
    TUG_CHECK(spec->n_prompt >= 0 && spec->n_decode >= 0 && spec->batch >= 1);
    TUG_TRY(tug_trace_set_shape(t, "the trace to make", spec->n_layer, spec->n_expert,
                                spec->n_used, err));
    tug_status s = create(&m, spec, err);
    if (s == TUG_OK) s = make_all(&m, t, err);
    tug_free(m.logits);
    tug_free(m.now);
    tug_free(m.top);
    return s;
}
