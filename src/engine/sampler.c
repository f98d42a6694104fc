/* sampler.c - from a row of logits to the next token.
 *
 * OWNS   the random generator, the penalty window and the scratch of one sampler.
 * NOT    when to stop (generation.c), which defaults a model has (model.c reads them).
 *
 * The order is penalties, temperature, top-k, top-p, min-p, draw.  Temperature comes
 * before the filters, as in Hugging Face transformers and in vLLM; llama.cpp filters
 * first, which keeps other candidates whenever the temperature is not 1.
 *
 * Every filter keeps the beginning of one order: logits from high to low, equal ones by
 * id.  So a filter is a length, and only that beginning has to be sorted.
 *
 * What cannot happen with a healthy model still has a result: a NaN logit counts as
 * -infinity, +infinity as the largest float, and a row of nothing but -infinity gives 0.
 * SPDX-License-Identifier: MIT */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "base/status.h"
#include "base/sys.h"
#include "engine/engine_impl.h"

/* Penalty windows above this are refused: four times the longest context we know. */
enum { MAX_LAST_N = 1 << 20 };

/* Without top-k, how many candidates are sorted before the first look at top-p and
 * min-p, and how many times more before the next.  A trained model's nucleus has a few
 * dozen; a wrong guess costs one more scan. */
enum { FIRST_GUESS = 256, GUESS_GROWTH = 16 };

/* Logits whose largest is kept: few among so many are worth a look. */
enum { BLOCK = 256 };

typedef struct candidate {
    double weight; /* exp((logit - largest) / temperature): its share before the sum */
    float logit;
    int32_t id;
} candidate;

struct tug_sampler {
    tug_sampler_params params;
    int32_t n_vocab;
    tug_rng rng;
    const float *row; /* (n_vocab,): the logits of this pick; read with logit_of */
    float *changed;   /* owned, (n_vocab,): they with bias and penalties; NULL: neither */
    float *largest;   /* owned, (n_vocab / BLOCK, rounded up): of each BLOCK of logits */
    candidate *kept;  /* owned, (n_vocab,) */
    int32_t *count;   /* owned, (n_vocab,): occurrences in the window; NULL: no penalty */
    tug_logit_bias *bias; /* owned, (params.n_bias,) */
    int32_t *window; /* owned, (penalty_last_n,): ring of ids; NULL: all, or no penalty */
    int64_t n_accepted; /* tokens the ring has seen */
};

static bool penalties_on(const tug_sampler_params *p) {
    return p->penalty_last_n != 0 &&
           (p->repeat_penalty != 1.0f || p->presence_penalty != 0.0f ||
            p->frequency_penalty != 0.0f);
}

static tug_status check_params(const tug_sampler_params *p, int64_t n_vocab,
                               tug_err *err) {
    if (n_vocab < 1 || n_vocab > INT32_MAX) {
        return TUG_FAIL(err, TUG_ERANGE, "a vocabulary of %lld tokens cannot be sampled",
                        (long long)n_vocab);
    }
    if (!isfinite(p->temperature)) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "temperature must be a finite number (0 is greedy)");
    }
    if (!(p->top_p >= 0.0f)) {
        return TUG_FAIL(err, TUG_ERANGE, "top_p must be 0 or more (1 switches it off)");
    }
    if (!(p->min_p <= 1.0f)) {
        return TUG_FAIL(err, TUG_ERANGE, "min_p must be at most 1 (0 switches it off)");
    }
    if (!(p->repeat_penalty > 0.0f) || !isfinite(p->repeat_penalty)) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "repeat_penalty must be greater than 0 (1 switches it off)");
    }
    if (!isfinite(p->presence_penalty) || !isfinite(p->frequency_penalty)) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "presence_penalty and frequency_penalty must be "
                        "finite numbers (0 switches them off)");
    }
    if (p->penalty_last_n < -1 || p->penalty_last_n > MAX_LAST_N) {
        return TUG_FAIL(err, TUG_ERANGE, "penalty_last_n must be between -1 (all) and %d",
                        MAX_LAST_N);
    }
    for (size_t i = 0; i < p->n_bias; i++) {
        const tug_logit_bias *b = &p->bias[i];
        if (b->id < 0 || b->id >= n_vocab || isnan(b->bias)) {
            return TUG_FAIL(err, TUG_ERANGE,
                            "logit_bias: token id %d is outside the vocabulary (0 to "
                            "%lld), or its bias is no number",
                            b->id, (long long)n_vocab - 1);
        }
    }
    return TUG_OK;
}

tug_sampler_params tug_sampler_defaults(const tug_model *model) {
    return (tug_sampler_params){
        .temperature = model->temperature,
        .top_k = model->top_k,
        .top_p = model->top_p,
        .repeat_penalty = 1.0f,
        .penalty_last_n = 64, /* what other engines look back on once a penalty is set */
    };
}

static tug_status allocate(tug_sampler *s, tug_err *err) {
    const size_t n = (size_t)s->n_vocab;
    s->largest = tug_alloc_array(n / BLOCK + 1, sizeof *s->largest);
    s->kept = tug_alloc_array(n, sizeof *s->kept);
    bool ok = s->largest && s->kept;
    if (s->params.n_bias > 0 || penalties_on(&s->params)) {
        s->changed = tug_alloc_array(n, sizeof *s->changed);
        ok = ok && s->changed;
    }
    if (s->params.n_bias > 0) {
        s->bias = tug_alloc_array(s->params.n_bias, sizeof *s->bias);
        if (s->bias) memcpy(s->bias, s->params.bias, s->params.n_bias * sizeof *s->bias);
        s->params.bias = s->bias;
        ok = ok && s->bias;
    }
    if (penalties_on(&s->params)) {
        s->count = tug_alloc_array(n, sizeof *s->count);
        if (s->count) memset(s->count, 0, n * sizeof *s->count);
        ok = ok && s->count;
        if (s->params.penalty_last_n > 0) {
            s->window =
                tug_alloc_array((size_t)s->params.penalty_last_n, sizeof *s->window);
            ok = ok && s->window;
        }
    }
    return ok ? TUG_OK
              : TUG_FAIL(err, TUG_ENOMEM, "out of memory for a sampler over %d tokens",
                         s->n_vocab);
}

tug_status tug_sampler_create(tug_sampler **out, int64_t n_vocab,
                              const tug_sampler_params *params, tug_err *err) {
    *out = NULL;
    TUG_TRY(check_params(params, n_vocab, err));
    tug_sampler *s = tug_alloc_zero(sizeof *s);
    if (!s) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a sampler");
    s->params = *params;
    s->n_vocab = (int32_t)n_vocab;
    tug_rng_seed(&s->rng, params->seed);
    const tug_status status = allocate(s, err);
    if (status != TUG_OK) {
        tug_sampler_destroy(&s);
        return status;
    }
    *out = s;
    return TUG_OK;
}

void tug_sampler_destroy(tug_sampler **sampler) {
    tug_sampler *s = *sampler;
    if (!s) return;
    tug_free(s->changed);
    tug_free(s->largest);
    tug_free(s->kept);
    tug_free(s->bias);
    tug_free(s->count);
    tug_free(s->window);
    tug_free(s);
    *sampler = NULL;
}

tug_status tug_sampler_accept(tug_sampler *s, int32_t id, tug_err *err) {
    if (id < 0 || id >= s->n_vocab) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "token id %d is outside the vocabulary (0 to %d)", id,
                        s->n_vocab - 1);
    }
    if (!s->count) return TUG_OK;
    if (s->window) {
        int32_t *slot = &s->window[s->n_accepted % s->params.penalty_last_n];
        if (s->n_accepted >= s->params.penalty_last_n) s->count[*slot]--;
        *slot = id;
        s->n_accepted++;
    }
    s->count[id]++;
    return TUG_OK;
}

/* ---- one pick ------------------------------------------------------------------------ */

static float penalised(const tug_sampler_params *p, float x, int32_t count) {
    x = x > 0.0f ? x / p->repeat_penalty : x * p->repeat_penalty;
    return x - p->presence_penalty - p->frequency_penalty * (float)count;
}

static float clean(float x) {
    return x <= FLT_MAX ? x : x > FLT_MAX ? FLT_MAX : -INFINITY;
}

static float logit_of(const tug_sampler *s, int32_t id) {
    return clean(s->row[id]);
}

/* The first id from `at` on whose logit is above `limit`, or n_vocab. */
static int32_t next_above(const tug_sampler *s, int32_t at, float limit) {
    while (at < s->n_vocab) {
        const int32_t left = s->n_vocab - at, in_block = BLOCK - at % BLOCK;
        const int32_t end = at + (in_block < left ? in_block : left);
        if (s->largest[at / BLOCK] > limit) {
            while (at < end && !(logit_of(s, at) > limit)) at++;
            if (at < end) return at;
        }
        at = end;
    }
    return at;
}

/* A number that is larger for a larger float, and its own inverse: of integers the compiler
 * finds the largest with vectors. */
static int32_t order_of(int32_t bits) {
    return bits ^ ((bits >> 31) & INT32_MAX);
}

static int32_t order_of_float(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return order_of(bits);
}

/* The largest of row (n,), cleaned.  All but infinity and NaN of the positive sign have
 * their place in the order already, so cleaning each is for rows that have one of those. */
static float largest_of(const float *row, int32_t n) {
    int32_t most = INT32_MIN;
    for (int32_t i = 0; i < n; i++) {
        const int32_t order = order_of_float(row[i]);
        most = order > most ? order : most;
    }
    if (most > order_of_float(FLT_MAX)) {
        most = INT32_MIN;
        for (int32_t i = 0; i < n; i++) {
            const int32_t order = order_of_float(clean(row[i]));
            most = order > most ? order : most;
        }
    }
    most = order_of(most);
    float largest;
    memcpy(&largest, &most, sizeof largest);
    return clean(largest);
}

/* Sets s->row and s->largest; returns the id of the largest logit, the first of equals. */
static int32_t prepare(tug_sampler *s, const float *logits) {
    const int32_t n = s->n_vocab;
    s->row = logits;
    if (s->params.n_bias > 0 || s->count) {
        float *x = s->changed;
        memcpy(x, logits, (size_t)n * sizeof *x);
        for (size_t i = 0; i < s->params.n_bias; i++) x[s->bias[i].id] += s->bias[i].bias;
        for (int32_t id = 0; s->count && id < n; id++) {
            if (s->count[id]) x[id] = penalised(&s->params, x[id], s->count[id]);
        }
        s->row = x;
    }
    int32_t best = 0; /* first of the first block that has the largest of all */
    for (int32_t at = 0; at < n; at += BLOCK) {
        float *largest = &s->largest[at / BLOCK];
        *largest = largest_of(s->row + at, n - at < BLOCK ? n - at : BLOCK);
        if (*largest > s->largest[best / BLOCK]) best = at;
    }
    while (logit_of(s, best) < s->largest[best / BLOCK]) best++;
    return best;
}

static double weight(const tug_sampler *s, float logit, float largest) {
    return exp(((double)logit - (double)largest) / (double)s->params.temperature);
}

static bool before(const candidate *a, const candidate *b) {
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/* heap (n,) has the last candidate of the order at its root; repairs it downwards. */
static void sift_down(candidate *heap, int32_t n, int32_t at) {
    const candidate moved = heap[at];
    for (int64_t child; (child = 2 * (int64_t)at + 1) < n; at = (int32_t)child) {
        if (child + 1 < n && before(&heap[child], &heap[child + 1])) child++;
        if (!before(&moved, &heap[child])) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* Puts the first k of the order into s->kept, sorted.  One scan: ids come in rising
 * order, so a later equal logit never displaces an earlier one. */
static void select_first(tug_sampler *s, int32_t k) {
    candidate *heap = s->kept;
    for (int32_t id = 0; id < k; id++)
        heap[id] = (candidate){.logit = logit_of(s, id), .id = id};
    for (int32_t at = k / 2 - 1; at >= 0; at--) sift_down(heap, k, at);
    for (int32_t id = k; (id = next_above(s, id, heap[0].logit)) < s->n_vocab; id++) {
        heap[0] = (candidate){.logit = logit_of(s, id), .id = id};
        sift_down(heap, k, 0);
    }
    for (int32_t n = k - 1; n > 0; n--) {
        const candidate last = heap[0];
        heap[0] = heap[n];
        heap[n] = last;
        sift_down(heap, n, 0);
    }
}

/* How many of the n sorted candidates top-p and min-p keep, at least one.  `total` is
 * the weight of everything top-p looks at. */
static int32_t cut(const tug_sampler *s, int32_t n, double total) {
    const double top_p = s->params.top_p < 1.0f ? (double)s->params.top_p : INFINITY;
    double sum = s->kept[0].weight;
    for (int32_t i = 1; i < n; i++) {
        const double w = s->kept[i].weight;
        if (sum >= top_p * total || w < (double)s->params.min_p * s->kept[0].weight)
            return i;
        sum += w;
    }
    return n;
}

/* top-k given: everything after it happens among those k. */
static int32_t keep_top_k(tug_sampler *s, int32_t k, float largest) {
    double total = 0.0;
    select_first(s, k);
    for (int32_t i = 0; i < k; i++) {
        s->kept[i].weight = weight(s, s->kept[i].logit, largest);
        total += s->kept[i].weight;
    }
    return cut(s, k, total);
}

/* No top-k: sorts as many candidates as it takes until top-p or min-p cut. */
static int32_t keep_nucleus(tug_sampler *s, float largest) {
    double total = 0.0;
    for (int32_t id = 0; id < s->n_vocab; id++)
        total += weight(s, logit_of(s, id), largest);
    for (int64_t guess = FIRST_GUESS;; guess *= GUESS_GROWTH) {
        const int32_t k = guess < s->n_vocab ? (int32_t)guess : s->n_vocab;
        select_first(s, k);
        for (int32_t i = 0; i < k; i++) {
            s->kept[i].weight = weight(s, s->kept[i].logit, largest);
        }
        const int32_t n = cut(s, k, total);
        if (n < k || k == s->n_vocab) return n;
    }
}

static int32_t keep_all(tug_sampler *s, float largest) {
    for (int32_t id = 0; id < s->n_vocab; id++) {
        const float x = logit_of(s, id);
        s->kept[id] = (candidate){.weight = weight(s, x, largest), .logit = x, .id = id};
    }
    return s->n_vocab;
}

/* Index of a candidate with its share of chance; -1 when none has any weight. */
static int32_t draw(tug_sampler *s, int32_t n) {
    double total = 0.0;
    for (int32_t i = 0; i < n; i++) total += s->kept[i].weight;
    double left = tug_rng_unit(&s->rng) * total;
    int32_t last = -1; /* for the rounding of the last subtraction */
    for (int32_t i = 0; i < n; i++) {
        if (s->kept[i].weight == 0.0) continue;
        if (left < s->kept[i].weight) return i;
        left -= s->kept[i].weight;
        last = i;
    }
    return last;
}

/* How many candidates the filters keep, in s->kept. */
static int32_t filter(tug_sampler *s, float largest) {
    const tug_sampler_params *p = &s->params;
    if (p->top_k > 0 && p->top_k < s->n_vocab) return keep_top_k(s, p->top_k, largest);
    if (p->top_p < 1.0f || p->min_p > 0.0f) return keep_nucleus(s, largest);
    return keep_all(s, largest);
}

/* The first token in the order of logits that the rule lets through, or -1. */
static int32_t first_allowed(tug_sampler *s, tug_token_rule_fn *rule, void *ud) {
    int32_t asked = 0;
    for (int64_t guess = FIRST_GUESS;; guess *= GUESS_GROWTH) {
        const int32_t k = guess < s->n_vocab ? (int32_t)guess : s->n_vocab;
        select_first(s, k);
        for (; asked < k; asked++) {
            if (s->kept[asked].logit == -INFINITY) return -1;
            if (rule(ud, s->kept[asked].id)) return s->kept[asked].id;
        }
        if (k == s->n_vocab) return -1;
    }
}

int32_t tug_sampler_pick(tug_sampler *s, const float *logits) {
    const int32_t best = prepare(s, logits);
    const float largest = logit_of(s, best);
    if (s->params.temperature <= 0.0f || largest == -INFINITY) return best;
    return s->kept[draw(s, filter(s, largest))].id;
}

int32_t tug_sampler_pick_where(tug_sampler *s, const float *logits,
                               tug_token_rule_fn *rule, void *ud) {
    const int32_t best = prepare(s, logits);
    const float largest = logit_of(s, best);
    if (s->params.temperature > 0.0f && largest > -INFINITY) {
        const int32_t n = filter(s, largest);
        for (int32_t at; (at = draw(s, n)) >= 0; s->kept[at].weight = 0.0) {
            if (rule(ud, s->kept[at].id)) return s->kept[at].id;
        }
    }
    return first_allowed(s, rule, ud);
}
