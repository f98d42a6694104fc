/* expert_cache.c - see expert_cache.h; states, invariants and why in docs/EXPERTS.md.
 *
 * Every slot of a class is in one place: it is somebody's home, or it was given up, or it
 * is a staging slot, and then free, waiting for the step of who is in it, or busy.  Free,
 * waiting and given-up slots are in lists, linked through the slots, so every operation but
 * the choice of a home takes constant time.  SPDX-License-Identifier: MIT */
#include "memory/expert_cache.h"

#include <string.h>

#include "base/sys.h"

enum { NOBODY = -1, NOWHERE = -1, NO_LAYER = -1 };

typedef enum slot_place {
    SLOT_FREE = 0, /* empty, or somebody lingers */
    SLOT_WAITING,  /* fetched ahead and loaded: STAGED until its layer's step */
    SLOT_BUSY,     /* LOADING, or STAGED in this step */
    SLOT_HOME,
    SLOT_GIVEN_UP
} slot_place;

typedef struct slot_state {
    slot_place place;
    int layer, expert; /* who is in it; NOBODY */
    int prev, next;    /* in the list of its place; NOWHERE */
    int home;          /* index among the layer's homes, if it is one */
} slot_state;

typedef struct slot_list {
    int first, last; /* NOWHERE when empty */
} slot_list;

/* The slots of one size class. */
typedef struct pool {
    slot_state *slots; /* (n,) */
    int n;
    slot_list free, waiting, given_up; /* free: empty ones first, then by age */
} pool;

typedef struct layer_state {
    int class;
    int *homes; /* (max_home,) slots of which n_home are ours */
    int n_home, max_home;
    int n_ahead;    /* of its experts */
    uint32_t clock; /* tokens until now */
} layer_state;

typedef struct expert_state {
    int slot; /* NOWHERE */
    tug_expert_state state;
    bool wanted; /* of this step, and not done: pinned as soon as it is loaded */
    bool ahead;  /* fetched for a step to come */
    bool held;   /* at HOME, and stays there */
} expert_state;

struct tug_expert_cache {
    int n_layer, n_expert, n_class;
    const tug_expert_policy *policy;
    tug_expert_forecast forecast; /* the policy's */
    tug_expert_use *uses;         /* owned, (n_layer, n_expert): what it knows */
    tug_expert_counters counters;
    pool *pools;           /* owned, (n_class,) */
    layer_state *layers;   /* owned, (n_layer,) */
    expert_state *experts; /* owned, (n_layer, n_expert) */
    slot_state *slots;     /* owned, of all pools */
    int *homes;            /* owned, of all layers */
    /* the step */
    int layer;       /* NO_LAYER: between steps */
    int n;           /* experts of it */
    int32_t *ids;    /* owned, (n_expert,) */
    bool has_scores; /* of the layer's homes, which do not change within a step */
    double *scores;  /* owned, (n_expert,) */
};

static tug_expert_use *uses_of(const tug_expert_cache *c, int layer) {
    return c->uses + (size_t)layer * (size_t)c->n_expert;
}

static expert_state *expert_at(const tug_expert_cache *c, int layer, int expert) {
    TUG_CHECK(layer >= 0 && layer < c->n_layer && expert >= 0 && expert < c->n_expert);
    return &c->experts[(size_t)layer * (size_t)c->n_expert + (size_t)expert];
}

static pool *pool_of(const tug_expert_cache *c, int layer) {
    return &c->pools[c->layers[layer].class];
}

/* ---- lists ------------------------------------------------------------------------------- */

static slot_list *list_of(pool *p, slot_place place) {
    return place == SLOT_FREE       ? &p->free
           : place == SLOT_WAITING  ? &p->waiting
           : place == SLOT_GIVEN_UP ? &p->given_up
                                    : NULL;
}

static void unlink_slot(pool *p, int at) {
    slot_state *s = &p->slots[at];
    slot_list *l = list_of(p, s->place);
    if (!l) return;
    *(s->prev == NOWHERE ? &l->first : &p->slots[s->prev].next) = s->next;
    *(s->next == NOWHERE ? &l->last : &p->slots[s->next].prev) = s->prev;
    s->prev = s->next = NOWHERE;
}

/* Into the place's list, if it has one: empty slots in front, the others behind. */
static void move_slot(pool *p, int at, slot_place place) {
    unlink_slot(p, at);
    slot_state *s = &p->slots[at];
    s->place = place;
    slot_list *l = list_of(p, place);
    if (!l) return;
    if (s->expert == NOBODY) {
        s->next = l->first;
        *(l->first == NOWHERE ? &l->last : &p->slots[l->first].prev) = at;
        l->first = at;
    } else {
        s->prev = l->last;
        *(l->last == NOWHERE ? &l->first : &p->slots[l->last].next) = at;
        l->last = at;
    }
}

/* ---- life -------------------------------------------------------------------------------- */

static void check_params(const tug_expert_cache_params *p) {
    TUG_CHECK(p->n_layer > 0 && p->n_expert > 0 && p->n_class > 0 && p->policy);
    for (int i = 0; i < p->n_layer; i++) {
        const int class = p->class_of[i];
        TUG_CHECK(class >= 0 && class < p->n_class && p->staging[class] >= 1);
        TUG_CHECK(p->home[i] >= 0 && p->home[i] <= p->n_expert);
    }
}

static size_t total_homes(const tug_expert_cache_params *p) {
    size_t n = 0;
    for (int i = 0; i < p->n_layer; i++) n += (size_t)p->home[i];
    return n;
}

static size_t total_slots(const tug_expert_cache_params *p) {
    size_t n = total_homes(p);
    for (int i = 0; i < p->n_class; i++) n += (size_t)p->staging[i];
    return n;
}

static bool allocate(tug_expert_cache *c, const tug_expert_cache_params *p) {
    const size_t n_expert = (size_t)p->n_expert, n_layer = (size_t)p->n_layer;
    c->pools = tug_alloc_zero((size_t)p->n_class * sizeof *c->pools);
    c->layers = tug_alloc_zero(n_layer * sizeof *c->layers);
    c->experts = tug_alloc_zero(n_layer * n_expert * sizeof *c->experts);
    c->slots = tug_alloc_zero(total_slots(p) * sizeof *c->slots);
    c->homes = tug_alloc_zero(total_homes(p) * sizeof *c->homes);
    c->uses = tug_alloc_zero(n_layer * n_expert * sizeof *c->uses);
    c->ids = tug_alloc_zero(n_expert * sizeof *c->ids);
    c->scores = tug_alloc_zero(n_expert * sizeof *c->scores);
    return c->pools && c->layers && c->experts && c->slots && c->homes && c->uses &&
           c->ids && c->scores;
}

static void make_pools(tug_expert_cache *c, const tug_expert_cache_params *p) {
    const slot_list none = {NOWHERE, NOWHERE};
    slot_state *next = c->slots;
    for (int k = 0; k < c->n_class; k++) {
        pool *q = &c->pools[k];
        *q = (pool){.slots = next, .free = none, .waiting = none, .given_up = none};
        for (int i = 0; i < c->n_layer; i++) {
            if (p->class_of[i] == k) q->n += p->home[i];
        }
        q->n += p->staging[k];
        next += q->n;
        for (int s = 0; s < q->n; s++) {
            q->slots[s] =
                (slot_state){SLOT_BUSY, NOBODY, NOBODY, NOWHERE, NOWHERE, NOWHERE};
        }
    }
}

static void make_home(tug_expert_cache *c, int layer, int at) {
    layer_state *l = &c->layers[layer];
    pool *p = pool_of(c, layer);
    move_slot(p, at, SLOT_HOME);
    p->slots[at].home = l->n_home;
    l->homes[l->n_home++] = at;
}

/* Homes in the order of the layers, then staging. */
static void make_layers(tug_expert_cache *c, const tug_expert_cache_params *p) {
    int *next = c->homes;
    for (int i = 0; i < c->n_layer; i++) {
        c->layers[i] =
            (layer_state){.class = p->class_of[i], .homes = next, .max_home = p->home[i]};
        next += p->home[i];
    }
    for (int k = 0; k < c->n_class; k++) {
        int at = 0;
        for (int i = 0; i < c->n_layer; i++) {
            if (p->class_of[i] != k) continue;
            for (int h = 0; h < p->home[i]; h++) make_home(c, i, at++);
        }
        for (int s = c->pools[k].n - 1; s >= at; s--) {
            move_slot(&c->pools[k], s, SLOT_FREE);
        }
    }
}

tug_status tug_expert_cache_create(tug_expert_cache **out,
                                   const tug_expert_cache_params *p, tug_err *err) {
    *out = NULL;
    check_params(p);
    tug_expert_cache *c = tug_alloc_zero(sizeof *c);
    if (!c || !allocate(c, p)) {
        tug_expert_cache_destroy(&c);
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the table of %d x %d experts",
                        p->n_layer, p->n_expert);
    }
    c->n_layer = p->n_layer;
    c->n_expert = p->n_expert;
    c->n_class = p->n_class;
    c->policy = p->policy;
    tug_expert_forecast_init(&c->forecast, p->n_layer, p->n_expert);
    c->layer = NO_LAYER;
    make_pools(c, p);
    make_layers(c, p);
    for (int i = 0; i < c->n_layer * c->n_expert; i++) {
        c->experts[i].slot = NOWHERE;
        if (!p->heat) continue;
        TUG_CHECK(p->heat[i] >= 0.0f);
        c->uses[i].heat = p->heat[i];
    }
    *out = c;
    return TUG_OK;
}

void tug_expert_cache_destroy(tug_expert_cache **cache) {
    tug_expert_cache *c = *cache;
    if (!c) return;
    tug_free(c->pools);
    tug_free(c->layers);
    tug_free(c->experts);
    tug_free(c->slots);
    tug_free(c->homes);
    tug_free(c->uses);
    tug_free(c->ids);
    tug_free(c->scores);
    tug_free(c);
    *cache = NULL;
}

/* ---- transitions ------------------------------------------------------------------------- */

/* Puts an absent expert into an empty slot. */
static void move_in(pool *p, int at, int layer, int expert, expert_state *x) {
    p->slots[at].layer = layer;
    p->slots[at].expert = expert;
    x->slot = at;
}

/* The slot is empty then, in the place it was in. */
static void move_out(pool *p, expert_state *x) {
    slot_state *s = &p->slots[x->slot];
    s->layer = s->expert = NOBODY;
    x->slot = NOWHERE;
    x->state = TUG_EXPERT_ABSENT;
}

/* STAGED or just loaded, and nobody wants it. */
static void linger(pool *p, expert_state *x) {
    x->state = TUG_EXPERT_LINGERING;
    move_slot(p, x->slot, SLOT_FREE);
}

static void forget_ahead(tug_expert_cache *c, int layer, expert_state *x) {
    x->ahead = false;
    c->layers[layer].n_ahead--;
}

/* ---- a step begins and ends -------------------------------------------------------------- */

static void want(tug_expert_cache *c, int layer, expert_state *x) {
    x->wanted = true;
    c->counters.wanted++;
    if (x->ahead) forget_ahead(c, layer, x);
    switch (x->state) {
    case TUG_EXPERT_ABSENT: break;
    case TUG_EXPERT_LOADING: c->counters.early++; break;
    case TUG_EXPERT_STAGED:
        c->counters.early++;
        move_slot(pool_of(c, layer), x->slot, SLOT_BUSY);
        break;
    case TUG_EXPERT_LINGERING:
        c->counters.hits++;
        x->state = TUG_EXPERT_STAGED;
        move_slot(pool_of(c, layer), x->slot, SLOT_BUSY);
        break;
    case TUG_EXPERT_HOME: c->counters.hits++; break;
    }
}

static void release_ahead(tug_expert_cache *c, int layer) {
    for (int e = 0; e < c->n_expert && c->layers[layer].n_ahead > 0; e++) {
        expert_state *x = expert_at(c, layer, e);
        if (!x->ahead) continue;
        forget_ahead(c, layer, x);
        c->counters.wasted++;
        if (x->state == TUG_EXPERT_STAGED) linger(pool_of(c, layer), x);
    }
}

void tug_expert_cache_begin(tug_expert_cache *c, int layer, const int32_t *experts,
                            const int32_t *counts, int n, int64_t n_tok) {
    TUG_CHECK(c->layer == NO_LAYER && layer >= 0 && layer < c->n_layer);
    TUG_CHECK(n >= 0 && n <= c->n_expert && n_tok >= 1 && n_tok <= INT32_MAX);
    layer_state *l = &c->layers[layer];
    l->clock += (uint32_t)n_tok;
    for (int i = 0; i < n; i++) {
        TUG_CHECK(i == 0 || experts[i] > experts[i - 1]);
        TUG_CHECK(counts[i] >= 1 && counts[i] <= n_tok);
        expert_state *x = expert_at(c, layer, experts[i]);
        want(c, layer, x);
        c->ids[i] = experts[i];
    }
    const tug_expert_step step = {.experts = experts,
                                  .counts = counts,
                                  .n = n,
                                  .n_tok = (int)n_tok,
                                  .n_expert = c->n_expert,
                                  .now = l->clock};
    c->policy->step(&c->forecast, uses_of(c, layer), &step);
    release_ahead(c, layer);
    c->layer = layer;
    c->n = n;
    c->has_scores = false;
}

void tug_expert_cache_end(tug_expert_cache *c) {
    TUG_CHECK(c->layer != NO_LAYER);
    for (int i = 0; i < c->n; i++) {
        expert_state *x = expert_at(c, c->layer, c->ids[i]);
        if (!x->wanted) continue;
        x->wanted = false;
        if (x->state == TUG_EXPERT_STAGED) linger(pool_of(c, c->layer), x);
    }
    c->layer = NO_LAYER;
    c->n = 0;
}

/* ---- reads ------------------------------------------------------------------------------- */

/* Whoever is in the slot has to go. */
static void evict(tug_expert_cache *c, pool *p, int at, int *layer, int *expert) {
    *layer = p->slots[at].layer;
    *expert = p->slots[at].expert;
    if (*expert == NOBODY) return;
    expert_state *x = expert_at(c, *layer, *expert);
    if (x->ahead) {
        forget_ahead(c, *layer, x);
        c->counters.wasted++;
    }
    move_out(p, x);
}

int tug_expert_cache_fetch(tug_expert_cache *c, int layer, int expert, int *evicted_layer,
                           int *evicted_expert) {
    expert_state *x = expert_at(c, layer, expert);
    TUG_CHECK(x->state == TUG_EXPERT_ABSENT);
    *evicted_layer = *evicted_expert = NOBODY;
    pool *p = pool_of(c, layer);
    int at = p->free.first;
    if (at == NOWHERE && x->wanted) at = p->waiting.first;
    if (at == NOWHERE) return NOWHERE;
    evict(c, p, at, evicted_layer, evicted_expert);
    move_slot(p, at, SLOT_BUSY);
    move_in(p, at, layer, expert, x);
    x->state = TUG_EXPERT_LOADING;
    x->ahead = !x->wanted;
    if (x->ahead) c->layers[layer].n_ahead++;
    c->counters.fetched++;
    return at;
}

void tug_expert_cache_loaded(tug_expert_cache *c, int layer, int expert) {
    expert_state *x = expert_at(c, layer, expert);
    TUG_CHECK(x->state == TUG_EXPERT_LOADING);
    pool *p = pool_of(c, layer);
    if (p->slots[x->slot].place == SLOT_HOME) {
        x->state = TUG_EXPERT_HOME;
    } else if (x->wanted) {
        x->state = TUG_EXPERT_STAGED;
    } else if (x->ahead) {
        x->state = TUG_EXPERT_STAGED;
        move_slot(p, x->slot, SLOT_WAITING);
    } else {
        linger(p, x);
    }
}

void tug_expert_cache_failed(tug_expert_cache *c, int layer, int expert) {
    expert_state *x = expert_at(c, layer, expert);
    TUG_CHECK(x->state == TUG_EXPERT_LOADING);
    pool *p = pool_of(c, layer);
    const int at = x->slot;
    if (x->ahead) forget_ahead(c, layer, x);
    move_out(p, x);
    if (p->slots[at].place != SLOT_HOME) move_slot(p, at, SLOT_FREE);
}

/* ---- homes ------------------------------------------------------------------------------- */

static bool is_empty(const tug_expert_cache *c, int layer, int home) {
    return pool_of(c, layer)->slots[c->layers[layer].homes[home]].expert == NOBODY;
}

static int who_lives_at(const tug_expert_cache *c, int layer, int home) {
    return pool_of(c, layer)->slots[c->layers[layer].homes[home]].expert;
}

static double score_of(const tug_expert_cache *c, int layer, int expert) {
    return c->policy->score(&c->forecast, uses_of(c, layer) + expert,
                            c->layers[layer].clock);
}

static void score_homes(tug_expert_cache *c, int layer) {
    for (int h = 0; h < c->layers[layer].n_home; h++) {
        if (is_empty(c, layer, h)) continue;
        c->scores[h] = score_of(c, layer, who_lives_at(c, layer, h));
    }
    c->has_scores = true;
}

/* An empty home, else the one whose score is lowest; NOWHERE if all are pinned, held or LOADING.
 * Uses c->scores. */
static int cheapest_home(const tug_expert_cache *c, int layer) {
    int best = NOWHERE;
    for (int h = 0; h < c->layers[layer].n_home; h++) {
        if (is_empty(c, layer, h)) return h;
        const expert_state *x = expert_at(c, layer, who_lives_at(c, layer, h));
        if (x->wanted || x->held || x->state != TUG_EXPERT_HOME) continue;
        if (best == NOWHERE || c->scores[h] < c->scores[best]) best = h;
    }
    return best;
}

/* The slots trade places: x's becomes the home, and who lived there lingers in the other. */
static void trade_places(tug_expert_cache *c, int layer, int home, expert_state *x) {
    layer_state *l = &c->layers[layer];
    pool *p = pool_of(c, layer);
    const int theirs = l->homes[home], mine = x->slot;
    if (p->slots[theirs].expert == NOBODY) {
        move_slot(p, theirs, SLOT_FREE);
    } else {
        linger(p, expert_at(c, layer, who_lives_at(c, layer, home)));
        c->counters.displaced++;
    }
    p->slots[theirs].home = NOWHERE;
    p->slots[mine].home = home;
    move_slot(p, mine, SLOT_HOME);
    l->homes[home] = mine;
    x->state = TUG_EXPERT_HOME;
}

void tug_expert_cache_done(tug_expert_cache *c, int layer, int expert) {
    expert_state *x = expert_at(c, layer, expert);
    TUG_CHECK(layer == c->layer && x->wanted);
    TUG_CHECK(x->state == TUG_EXPERT_STAGED || x->state == TUG_EXPERT_HOME);
    x->wanted = false;
    if (x->state == TUG_EXPERT_HOME) return;
    if (!c->has_scores) score_homes(c, layer);
    const double score = score_of(c, layer, expert);
    const int home = cheapest_home(c, layer);
    if (home == NOWHERE || (!is_empty(c, layer, home) && score <= c->scores[home])) {
        linger(pool_of(c, layer), x);
        return;
    }
    trade_places(c, layer, home, x);
    c->scores[home] = score;
}

int tug_expert_cache_settle(tug_expert_cache *c, int layer, int expert) {
    expert_state *x = expert_at(c, layer, expert);
    TUG_CHECK(c->layer == NO_LAYER && x->state == TUG_EXPERT_ABSENT);
    const layer_state *l = &c->layers[layer];
    for (int h = 0; h < l->n_home; h++) {
        if (!is_empty(c, layer, h)) continue;
        move_in(pool_of(c, layer), l->homes[h], layer, expert, x);
        x->state = TUG_EXPERT_LOADING;
        return x->slot;
    }
    return NOWHERE;
}

bool tug_expert_cache_hold(tug_expert_cache *c, int layer, int expert) {
    expert_state *x = expert_at(c, layer, expert);
    if (x->state != TUG_EXPERT_HOME || x->held) return false;
    x->held = true;
    return true;
}

void tug_expert_cache_release(tug_expert_cache *c, int layer, int expert) {
    expert_state *x = expert_at(c, layer, expert);
    TUG_CHECK(x->held && x->state == TUG_EXPERT_HOME);
    x->held = false;
}

bool tug_expert_cache_replace(tug_expert_cache *c, int layer, int expert, int other,
                              const tug_expert_use *past, uint32_t now) {
    expert_state *x = expert_at(c, layer, expert);
    const int at = x->slot;
    TUG_CHECK(c->layer == NO_LAYER && expert != other);
    tug_expert_cache_release(c, layer, expert);
    move_out(pool_of(c, layer), x);
    if (other == NOBODY) return false;
    expert_state *y = expert_at(c, layer, other);
    if (y->state != TUG_EXPERT_ABSENT) return false;
    move_in(pool_of(c, layer), at, layer, other, y);
    y->state = TUG_EXPERT_HOME;
    /* The layer's clock, not the teller's: ages are what counts. */
    const uint32_t later = c->layers[layer].clock - now;
    tug_expert_use *use = uses_of(c, layer) + other;
    *use = *past;
    use->counted += later;
    use->last += later;
    return true;
}

static void give_up(tug_expert_cache *c, int layer, int home, tug_expert_moved_fn *moved,
                    void *ud) {
    layer_state *l = &c->layers[layer];
    pool *p = pool_of(c, layer);
    const int at = l->homes[home], expert = p->slots[at].expert;
    if (expert != NOBODY) move_out(p, expert_at(c, layer, expert));
    move_slot(p, at, SLOT_GIVEN_UP);
    p->slots[at].home = NOWHERE;
    l->homes[home] = l->homes[--l->n_home];
    c->scores[home] = c->scores[l->n_home];
    if (home < l->n_home) p->slots[l->homes[home]].home = home;
    moved(ud, l->class, at, true, layer, expert);
}

void tug_expert_cache_resize(tug_expert_cache *c, int layer, int home,
                             tug_expert_moved_fn *moved, void *ud) {
    TUG_CHECK(c->layer == NO_LAYER && layer >= 0 && layer < c->n_layer && home >= 0);
    layer_state *l = &c->layers[layer];
    pool *p = pool_of(c, layer);
    score_homes(c, layer);
    while (l->n_home > home) {
        const int cheapest = cheapest_home(c, layer);
        if (cheapest == NOWHERE) return;
        give_up(c, layer, cheapest, moved, ud);
    }
    while (l->n_home < home && l->n_home < l->max_home) {
        const int at = p->given_up.first;
        make_home(c, layer, at);
        moved(ud, l->class, at, false, layer, NOBODY);
    }
}

/* ---- questions --------------------------------------------------------------------------- */

int tug_expert_cache_n_slots(const tug_expert_cache *c, int class) {
    TUG_CHECK(class >= 0 && class < c->n_class);
    return c->pools[class].n;
}

tug_expert_state tug_expert_cache_state(const tug_expert_cache *c, int layer,
                                        int expert) {
    return expert_at(c, layer, expert)->state;
}

int tug_expert_cache_slot(const tug_expert_cache *c, int layer, int expert) {
    return expert_at(c, layer, expert)->slot;
}

int tug_expert_cache_home(const tug_expert_cache *c, int layer) {
    TUG_CHECK(layer >= 0 && layer < c->n_layer);
    return c->layers[layer].n_home;
}

tug_expert_counters tug_expert_cache_counters(const tug_expert_cache *c) {
    return c->counters;
}

void tug_expert_cache_reset_counters(tug_expert_cache *c) {
    memset(&c->counters, 0, sizeof c->counters);
}

/* ---- invariants -------------------------------------------------------------------------- */

/* Slots of the list, all of which say that they are in it; empty ones come first. */
static int check_list(const pool *p, const slot_list *l, slot_place place) {
    int n = 0, prev = NOWHERE;
    bool occupied = false;
    for (int at = l->first; at != NOWHERE; prev = at, at = p->slots[at].next) {
        const slot_state *s = &p->slots[at];
        TUG_CHECK(n++ < p->n);
        TUG_CHECK(s->place == place && s->prev == prev);
        TUG_CHECK(!occupied || s->expert != NOBODY);
        occupied = s->expert != NOBODY;
    }
    TUG_CHECK(l->last == prev);
    return n;
}

/* Invariants 1 and 5. */
static void check_pool(const tug_expert_cache *c, int class) {
    const pool *p = &c->pools[class];
    int n[SLOT_GIVEN_UP + 1] = {0}, n_home = 0, max_home = 0;
    for (int at = 0; at < p->n; at++) {
        const slot_state *s = &p->slots[at];
        n[s->place]++;
        TUG_CHECK((s->place == SLOT_HOME) == (s->home != NOWHERE));
        TUG_CHECK((s->expert == NOBODY) == (s->layer == NOBODY));
        TUG_CHECK(s->place != SLOT_GIVEN_UP || s->expert == NOBODY);
        if (s->expert == NOBODY) {
            TUG_CHECK(s->place != SLOT_BUSY && s->place != SLOT_WAITING);
            continue;
        }
        TUG_CHECK(c->layers[s->layer].class == class);
        TUG_CHECK(expert_at(c, s->layer, s->expert)->slot == at);
    }
    for (int i = 0; i < c->n_layer; i++) {
        if (c->layers[i].class != class) continue;
        n_home += c->layers[i].n_home;
        max_home += c->layers[i].max_home;
    }
    TUG_CHECK(n[SLOT_HOME] == n_home);
    TUG_CHECK(n[SLOT_HOME] + n[SLOT_GIVEN_UP] == max_home);
    TUG_CHECK(n[SLOT_FREE] == check_list(p, &p->free, SLOT_FREE));
    TUG_CHECK(n[SLOT_WAITING] == check_list(p, &p->waiting, SLOT_WAITING));
    TUG_CHECK(n[SLOT_GIVEN_UP] == check_list(p, &p->given_up, SLOT_GIVEN_UP));
}

/* Invariants 3 and 4: what a state means for the slot and the flags. */
static void check_expert(const tug_expert_cache *c, int layer, int expert) {
    const expert_state *x = expert_at(c, layer, expert);
    TUG_CHECK((x->state == TUG_EXPERT_ABSENT) == (x->slot == NOWHERE));
    TUG_CHECK(!x->wanted || layer == c->layer);
    TUG_CHECK(!x->wanted || !x->ahead);
    TUG_CHECK(!x->held || x->state == TUG_EXPERT_HOME);
    if (x->state == TUG_EXPERT_ABSENT) {
        TUG_CHECK(!x->ahead);
        return;
    }
    const slot_state *s = &pool_of(c, layer)->slots[x->slot];
    TUG_CHECK(s->layer == layer && s->expert == expert);
    switch (x->state) {
    case TUG_EXPERT_ABSENT: break;
    case TUG_EXPERT_LOADING:
        TUG_CHECK(s->place == SLOT_BUSY || (s->place == SLOT_HOME && !x->ahead));
        break;
    case TUG_EXPERT_STAGED:
        TUG_CHECK(s->place == (x->wanted ? SLOT_BUSY : SLOT_WAITING));
        TUG_CHECK(x->wanted != x->ahead);
        break;
    case TUG_EXPERT_LINGERING:
        TUG_CHECK(s->place == SLOT_FREE && !x->wanted && !x->ahead);
        break;
    case TUG_EXPERT_HOME: TUG_CHECK(s->place == SLOT_HOME && !x->ahead); break;
    }
}

/* Invariant 2, and that the step's list is whole. */
static void check_layer(const tug_expert_cache *c, int layer) {
    const layer_state *l = &c->layers[layer];
    int n_ahead = 0, n_wanted = 0;
    for (int e = 0; e < c->n_expert; e++) {
        check_expert(c, layer, e);
        n_ahead += expert_at(c, layer, e)->ahead;
        n_wanted += expert_at(c, layer, e)->wanted;
    }
    TUG_CHECK(n_ahead == l->n_ahead);
    TUG_CHECK(l->n_home >= 0 && l->n_home <= l->max_home);
    for (int h = 0; h < l->n_home; h++) {
        const slot_state *s = &pool_of(c, layer)->slots[l->homes[h]];
        TUG_CHECK(s->place == SLOT_HOME && s->home == h);
        TUG_CHECK(s->expert == NOBODY || s->layer == layer);
    }
    for (int i = 0; i < c->n && layer == c->layer; i++) {
        n_wanted -= expert_at(c, layer, c->ids[i])->wanted;
    }
    TUG_CHECK(n_wanted == 0);
}

void tug_expert_cache_check(const tug_expert_cache *c) {
    for (int k = 0; k < c->n_class; k++) check_pool(c, k);
    for (int i = 0; i < c->n_layer; i++) check_layer(c, i);
    TUG_CHECK(c->counters.hits + c->counters.early <= c->counters.wanted);
}
