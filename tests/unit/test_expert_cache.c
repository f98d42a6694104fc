/* test_expert_cache.c - the state machine of experts and slots: each rule by itself, then
 * every state a small world can get into, then a long random walk in larger ones.
 *
 * The source is included, so that a state can be written down and come back.
 * tests/long/cache_mutants.py breaks it on purpose and expects this program to fail.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "memory/expert_cache.c"

enum { MAX_LAYER = 4, MAX_EXPERT = 8, MAX_WORLD = MAX_LAYER * MAX_EXPERT };

/* ---- a world: the cache, and what it must be like, kept apart --------------------------- */

static void no_step(tug_expert_forecast *f, tug_expert_use *uses,
                    const tug_expert_step *s) {
    (void)f, (void)uses, (void)s;
}

static double heat_score(const tug_expert_forecast *f, const tug_expert_use *u,
                         uint32_t now) {
    (void)f, (void)now;
    return (double)u->heat;
}

/* Scores that never change: a state is then all that can matter. */
static const tug_expert_policy fixed = {"fixed", false, no_step, heat_score};

typedef struct world {
    tug_expert_cache *c;
    int n_layer, n_expert, n_class;
    int class_of[MAX_LAYER], home[MAX_LAYER], staging[MAX_LAYER];
    float heat[MAX_WORLD];
    int step;               /* layer of the step, -1: none */
    bool wanted[MAX_WORLD]; /* of the step and not done */
    bool ahead[MAX_WORLD];  /* fetched for a step to come */
    bool held[MAX_WORLD];   /* somebody reads its bytes */
} world;

static int id_of(const world *w, int layer, int expert) {
    return layer * w->n_expert + expert;
}

static void open_world(world *w, const tug_expert_policy *policy) {
    const tug_expert_cache_params p = {.n_layer = w->n_layer,
                                       .n_expert = w->n_expert,
                                       .n_class = w->n_class,
                                       .class_of = w->class_of,
                                       .home = w->home,
                                       .staging = w->staging,
                                       .policy = policy,
                                       .heat = w->heat};
    assert_int_equal(tug_expert_cache_create(&w->c, &p, NULL), TUG_OK);
    w->step = -1;
    tug_expert_cache_check(w->c);
}

/* ---- what every operation must keep ----------------------------------------------------- */

/* All that can be seen from outside. */
typedef struct view {
    tug_expert_state state[MAX_WORLD];
    int slot[MAX_WORLD];
} view;

static view look(const world *w) {
    view v;
    for (int l = 0; l < w->n_layer; l++) {
        for (int e = 0; e < w->n_expert; e++) {
            v.state[id_of(w, l, e)] = tug_expert_cache_state(w->c, l, e);
            v.slot[id_of(w, l, e)] = tug_expert_cache_slot(w->c, l, e);
        }
    }
    return v;
}

static bool usable(tug_expert_state s) {
    return s == TUG_EXPERT_STAGED || s == TUG_EXPERT_HOME;
}

/* Nobody but those in `may` (or all between steps) changed; nobody pinned ever does, and no
 * slot that a read is in changes hands. */
static void expect_only(const world *w, const view *before, const view *after,
                        const bool *may) {
    for (int i = 0; i < w->n_layer * w->n_expert; i++) {
        if (may[i]) continue;
        assert_int_equal(before->state[i], after->state[i]);
        assert_int_equal(before->slot[i], after->slot[i]);
    }
}

static int n_in(const world *w, const view *v, int class, tug_expert_state state) {
    int n = 0;
    for (int i = 0; i < w->n_layer * w->n_expert; i++) {
        n += w->class_of[i / w->n_expert] == class && v->state[i] == state;
    }
    return n;
}

/* An open step can go on: something can be computed, or is being read, or can be. */
static void expect_no_deadlock(const world *w, const view *v) {
    if (w->step < 0) return;
    const int class = w->class_of[w->step];
    bool all_done = true;
    for (int e = 0; e < w->n_expert; e++) {
        const int i = id_of(w, w->step, e);
        if (!w->wanted[i]) continue;
        if (usable(v->state[i])) return;
        all_done = false;
    }
    if (all_done || n_in(w, v, class, TUG_EXPERT_LOADING) > 0) return;
    const pool *p = &w->c->pools[class];
    assert_true(p->free.first != NOWHERE || p->waiting.first != NOWHERE);
}

static view checked(const world *w) {
    tug_expert_cache_check(w->c);
    const view v = look(w);
    expect_no_deadlock(w, &v);
    for (int i = 0; i < w->n_layer * w->n_expert; i++) {
        if (w->wanted[i]) assert_true(v.state[i] != TUG_EXPERT_LINGERING);
        if (!w->wanted[i] && !w->ahead[i]) assert_true(v.state[i] != TUG_EXPERT_STAGED);
        if (w->held[i]) assert_int_equal(v.state[i], TUG_EXPERT_HOME);
    }
    return v;
}

/* ---- the operations, each with what it promises ----------------------------------------- */

static void expect_counts(const world *w, int layer, unsigned set, const view *before,
                          const tug_expert_counters *was) {
    const tug_expert_counters is = tug_expert_cache_counters(w->c);
    uint64_t hits = 0, early = 0;
    for (int e = 0; e < w->n_expert; e++) {
        const tug_expert_state s = before->state[id_of(w, layer, e)];
        if (!(set >> e & 1)) continue;
        hits += s == TUG_EXPERT_HOME || s == TUG_EXPERT_LINGERING;
        early += s == TUG_EXPERT_LOADING || s == TUG_EXPERT_STAGED;
    }
    assert_int_equal(is.wanted - was->wanted, __builtin_popcount(set));
    assert_int_equal(is.hits - was->hits, hits);
    assert_int_equal(is.early - was->early, early);
}

static void op_begin(world *w, int layer, unsigned set) {
    int32_t ids[MAX_EXPERT], counts[MAX_EXPERT];
    int n = 0;
    bool may[MAX_WORLD] = {false};
    const view before = look(w);
    for (int e = 0; e < w->n_expert; e++) {
        const int i = id_of(w, layer, e);
        if (set >> e & 1) {
            ids[n] = e;
            counts[n++] = 1;
            w->wanted[i] = true;
            may[i] = before.state[i] == TUG_EXPERT_LINGERING;
        } else {
            may[i] = before.state[i] == TUG_EXPERT_STAGED;
        }
        w->ahead[i] = false;
    }
    w->step = layer;
    const tug_expert_counters was = tug_expert_cache_counters(w->c);
    tug_expert_cache_begin(w->c, layer, ids, counts, n, 1);
    expect_counts(w, layer, set, &before, &was);
    const view after = checked(w);
    expect_only(w, &before, &after, may);
    for (int e = 0; e < w->n_expert; e++) {
        const int i = id_of(w, layer, e);
        if (!may[i]) continue;
        assert_int_equal(after.slot[i], before.slot[i]);
        assert_int_equal(after.state[i],
                         set >> e & 1 ? TUG_EXPERT_STAGED : TUG_EXPERT_LINGERING);
    }
}

static void op_end(world *w) {
    bool may[MAX_WORLD] = {false};
    const view before = look(w);
    for (int i = 0; i < w->n_layer * w->n_expert; i++) {
        may[i] = w->wanted[i] && before.state[i] == TUG_EXPERT_STAGED;
        w->wanted[i] = false;
    }
    w->step = -1;
    tug_expert_cache_end(w->c);
    const view after = checked(w);
    expect_only(w, &before, &after, may);
    for (int i = 0; i < w->n_layer * w->n_expert; i++) {
        if (may[i]) assert_int_equal(after.state[i], TUG_EXPERT_LINGERING);
    }
}

static void op_fetch(world *w, int layer, int expert) {
    const int i = id_of(w, layer, expert);
    bool may[MAX_WORLD] = {false};
    const view before = look(w);
    int el = -7, ee = -7;
    const uint64_t fetched = tug_expert_cache_counters(w->c).fetched;
    const int slot = tug_expert_cache_fetch(w->c, layer, expert, &el, &ee);
    assert_int_equal(el < 0, ee < 0);
    assert_int_equal(tug_expert_cache_counters(w->c).fetched - fetched, slot >= 0);
    if (slot >= 0) {
        w->ahead[i] = !w->wanted[i];
        may[i] = true;
    }
    if (ee >= 0) {
        const int x = id_of(w, el, ee);
        assert_int_equal(before.slot[x], slot);
        assert_true(before.state[x] == TUG_EXPERT_LINGERING ||
                    (before.state[x] == TUG_EXPERT_STAGED && w->ahead[x] &&
                     !w->wanted[x] && w->wanted[i] &&
                     n_in(w, &before, w->class_of[layer], TUG_EXPERT_LINGERING) == 0));
        may[x] = true;
        w->ahead[x] = false;
    }
    const view after = checked(w);
    expect_only(w, &before, &after, may);
    if (slot < 0) {
        assert_int_equal(n_in(w, &after, w->class_of[layer], TUG_EXPERT_LINGERING), 0);
        return;
    }
    assert_int_equal(after.state[i], TUG_EXPERT_LOADING);
    assert_int_equal(after.slot[i], slot);
    if (ee >= 0) assert_int_equal(after.state[id_of(w, el, ee)], TUG_EXPERT_ABSENT);
}

static bool is_home_slot(const world *w, int layer, int slot) {
    return w->c->pools[w->class_of[layer]].slots[slot].place == SLOT_HOME;
}

static void op_loaded(world *w, int layer, int expert) {
    const int i = id_of(w, layer, expert);
    bool may[MAX_WORLD] = {false};
    const view before = look(w);
    const bool home = is_home_slot(w, layer, before.slot[i]);
    may[i] = true;
    tug_expert_cache_loaded(w->c, layer, expert);
    const view after = checked(w);
    expect_only(w, &before, &after, may);
    assert_int_equal(after.slot[i], before.slot[i]);
    assert_int_equal(after.state[i], home ? TUG_EXPERT_HOME
                                     : w->wanted[i] || w->ahead[i]
                                         ? TUG_EXPERT_STAGED
                                         : TUG_EXPERT_LINGERING);
}

static void op_failed(world *w, int layer, int expert) {
    const int i = id_of(w, layer, expert);
    bool may[MAX_WORLD] = {false};
    const view before = look(w);
    may[i] = true;
    w->ahead[i] = false;
    tug_expert_cache_failed(w->c, layer, expert);
    const view after = checked(w);
    expect_only(w, &before, &after, may);
    assert_int_equal(after.state[i], TUG_EXPERT_ABSENT);
}

/* The lowest score of an expert at home that may lose it and is not `but`; none: INFINITY. */
static double lowest_at_home(const world *w, const view *v, int layer, int but) {
    double lowest = INFINITY;
    for (int e = 0; e < w->n_expert; e++) {
        const int i = id_of(w, layer, e);
        if (v->state[i] != TUG_EXPERT_HOME || w->wanted[i] || w->held[i] || i == but) {
            continue;
        }
        const double s = score_of(w->c, layer, e);
        if (s < lowest) lowest = s;
    }
    return lowest;
}

static int n_at_home(const world *w, const view *v, int layer) {
    int n = 0;
    for (int e = 0; e < w->n_expert; e++) {
        const int i = id_of(w, layer, e);
        n += v->slot[i] >= 0 && is_home_slot(w, layer, v->slot[i]);
    }
    return n;
}

static void op_done(world *w, int layer, int expert) {
    const int i = id_of(w, layer, expert);
    const view before = look(w);
    const double lowest = lowest_at_home(w, &before, layer, i);
    const double mine = score_of(w->c, layer, expert);
    const bool full = n_at_home(w, &before, layer) == tug_expert_cache_home(w->c, layer);
    bool may[MAX_WORLD] = {false};
    w->wanted[i] = false;
    tug_expert_cache_done(w->c, layer, expert);
    const view after = checked(w);
    may[i] = before.state[i] == TUG_EXPERT_STAGED;
    int n_lost = 0;
    for (int e = 0; e < w->n_expert; e++) {
        const int x = id_of(w, layer, e);
        if (x == i || after.state[x] == before.state[x]) continue;
        may[x] = true;
        n_lost++;
        assert_int_equal(before.state[x], TUG_EXPERT_HOME);
        assert_int_equal(after.state[x], TUG_EXPERT_LINGERING);
        assert_int_equal(after.slot[x], before.slot[x]);
        assert_false(w->wanted[x] || w->held[x]);
        assert_true(score_of(w->c, layer, e) == lowest);
    }
    expect_only(w, &before, &after, may);
    assert_int_equal(after.slot[i], before.slot[i]);
    if (before.state[i] == TUG_EXPERT_HOME) return;
    const bool deserves = !full || mine > lowest;
    assert_int_equal(after.state[i], deserves ? TUG_EXPERT_HOME : TUG_EXPERT_LINGERING);
    assert_int_equal(n_lost, full && deserves);
}

static void op_settle(world *w, int layer, int expert) {
    const int i = id_of(w, layer, expert);
    bool may[MAX_WORLD] = {false};
    const view before = look(w);
    const bool full = n_at_home(w, &before, layer) == tug_expert_cache_home(w->c, layer);
    const int slot = tug_expert_cache_settle(w->c, layer, expert);
    const view after = checked(w);
    may[i] = !full;
    expect_only(w, &before, &after, may);
    assert_int_equal(slot, after.slot[i]);
    assert_int_equal(after.state[i], full ? TUG_EXPERT_ABSENT : TUG_EXPERT_LOADING);
}

typedef struct moves {
    int n_given_up, n_taken;
    int last_slot;
    bool *may;
    const world *w;
    const view *before;
    double highest_given; /* score: nobody who stays may have less */
} moves;

static void on_moved(void *ud, int class, int slot, bool given_up, int layer,
                     int expert) {
    moves *m = ud;
    assert_int_equal(class, m->w->class_of[layer]);
    assert_true(slot >= 0 && slot < tug_expert_cache_n_slots(m->w->c, class));
    m->last_slot = slot;
    given_up ? m->n_given_up++ : m->n_taken++;
    if (expert < 0) return;
    assert_true(given_up);
    const int i = id_of(m->w, layer, expert);
    assert_int_equal(m->before->slot[i], slot);
    assert_int_equal(m->before->state[i], TUG_EXPERT_HOME);
    m->may[i] = true;
    const double s = score_of(m->w->c, layer, expert);
    if (s > m->highest_given) m->highest_given = s;
}

static void op_resize(world *w, int layer, int home) {
    bool may[MAX_WORLD] = {false};
    const view before = look(w);
    const int was = tug_expert_cache_home(w->c, layer);
    moves m = {.may = may, .w = w, .before = &before, .highest_given = -INFINITY};
    tug_expert_cache_resize(w->c, layer, home, on_moved, &m);
    const view after = checked(w);
    const int is = tug_expert_cache_home(w->c, layer);
    expect_only(w, &before, &after, may);
    assert_int_equal(is - was, m.n_taken - m.n_given_up);
    assert_true(m.n_taken == 0 || m.n_given_up == 0);
    int n_stay = 0;
    for (int e = 0; e < w->n_expert; e++) {
        const int i = id_of(w, layer, e);
        if (may[i]) assert_int_equal(after.state[i], TUG_EXPERT_ABSENT);
        const bool loading = before.state[i] == TUG_EXPERT_LOADING &&
                             is_home_slot(w, layer, before.slot[i]);
        n_stay += loading || w->held[i];
    }
    assert_true(m.highest_given <= lowest_at_home(w, &after, layer, -1));
    const int most = home < w->home[layer] ? home : w->home[layer];
    assert_int_equal(is, most > n_stay ? most : n_stay);
}

/* Nothing but the hold changes, and only who is at home can be held. */
static void op_hold(world *w, int layer, int expert) {
    const int i = id_of(w, layer, expert);
    const bool none[MAX_WORLD] = {false};
    const view before = look(w);
    const bool want = before.state[i] == TUG_EXPERT_HOME && !w->held[i];
    assert_int_equal(tug_expert_cache_hold(w->c, layer, expert), want);
    w->held[i] |= want;
    const view after = checked(w);
    expect_only(w, &before, &after, none);
}

static void op_release(world *w, int layer, int expert) {
    const bool none[MAX_WORLD] = {false};
    const view before = look(w);
    w->held[id_of(w, layer, expert)] = false;
    tug_expert_cache_release(w->c, layer, expert);
    const view after = checked(w);
    expect_only(w, &before, &after, none);
}

/* The home that was held is another's, who was nowhere; or empty.  -1: nobody's. */
static void op_replace(world *w, int layer, int expert, int other) {
    const int i = id_of(w, layer, expert), j = other < 0 ? i : id_of(w, layer, other);
    bool may[MAX_WORLD] = {false};
    const view before = look(w);
    const bool want = other >= 0 && before.state[j] == TUG_EXPERT_ABSENT;
    const tug_expert_use past = uses_of(w->c, layer)[other < 0 ? 0 : other];
    const uint32_t now = w->c->layers[layer].clock;
    w->held[i] = false;
    const bool is = tug_expert_cache_replace(w->c, layer, expert, other, &past, now);
    const view after = checked(w);
    may[i] = true;
    may[j] |= want;
    expect_only(w, &before, &after, may);
    assert_int_equal(is, want);
    assert_int_equal(after.state[i], TUG_EXPERT_ABSENT);
    if (!want) return;
    assert_int_equal(after.state[j], TUG_EXPERT_HOME);
    assert_int_equal(after.slot[j], before.slot[i]);
}

/* ---- single rules ----------------------------------------------------------------------- */

static void create_one(world *w, int home, int staging) {
    *w = (world){.n_layer = 2,
                 .n_expert = 4,
                 .n_class = 1,
                 .home = {home, home},
                 .staging = {staging}};
    for (int i = 0; i < 8; i++) w->heat[i] = (float)(i % 4); /* expert 3 is the hottest */
    open_world(w, &fixed);
}

static void bring(world *w, int layer, int expert) {
    op_fetch(w, layer, expert);
    op_loaded(w, layer, expert);
}

/* One step in which these experts are used: those that are there, then the others. */
static void use(world *w, int layer, unsigned set) {
    op_begin(w, layer, set);
    for (int e = 0; e < w->n_expert; e++) {
        if (w->wanted[id_of(w, layer, e)] &&
            usable(tug_expert_cache_state(w->c, layer, e)))
            op_done(w, layer, e);
    }
    for (int e = 0; e < w->n_expert; e++) {
        if (!w->wanted[id_of(w, layer, e)]) continue;
        bring(w, layer, e);
        op_done(w, layer, e);
    }
    op_end(w);
}

static tug_expert_state state(const world *w, int layer, int expert) {
    return tug_expert_cache_state(w->c, layer, expert);
}

static void test_empty_homes_are_taken_the_coldest_loses(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 2, 1);
    use(&w, 0, 1 << 0 | 1 << 1);
    assert_int_equal(state(&w, 0, 0), TUG_EXPERT_HOME);
    assert_int_equal(state(&w, 0, 1), TUG_EXPERT_HOME);
    use(&w, 0, 1 << 3);
    assert_int_equal(state(&w, 0, 3), TUG_EXPERT_HOME);
    assert_int_equal(state(&w, 0, 0), TUG_EXPERT_LINGERING);
    use(&w, 0, 1 << 0); /* still there; does not deserve more */
    assert_int_equal(state(&w, 0, 0), TUG_EXPERT_LINGERING);
    const tug_expert_counters n = tug_expert_cache_counters(w.c);
    assert_int_equal(n.wanted, 4);
    assert_int_equal(n.hits, 1);
    assert_int_equal(n.fetched, 3);
    assert_int_equal(n.displaced, 1);
    tug_expert_cache_reset_counters(w.c);
    assert_int_equal(tug_expert_cache_counters(w.c).wanted, 0);
    tug_expert_cache_destroy(&w.c);
    tug_expert_cache_destroy(&w.c);
}

static void test_equal_scores_change_nothing(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 2, 2);
    for (int i = 0; i < 8; i++) w.heat[i] = 1.0f;
    tug_expert_cache_destroy(&w.c);
    open_world(&w, &fixed);
    use(&w, 0, 0xF);
    use(&w, 0, 0xF);
    assert_int_equal(state(&w, 0, 0), TUG_EXPERT_HOME);
    assert_int_equal(state(&w, 0, 1), TUG_EXPERT_HOME);
    assert_int_equal(tug_expert_cache_counters(w.c).displaced, 0);
    tug_expert_cache_destroy(&w.c);
}

static void test_oldest_freed_goes_first_and_empty_before(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 0, 3);
    int el, ee;
    use(&w, 0, 1 << 0);
    use(&w, 0, 1 << 1);
    assert_int_equal(state(&w, 0, 0), TUG_EXPERT_LINGERING); /* the third was empty */
    use(&w, 0, 1 << 2);
    use(&w, 0, 1 << 0); /* freed again: the youngest */
    op_begin(&w, 1, 1 << 0);
    (void)tug_expert_cache_fetch(w.c, 1, 0, &el, &ee);
    assert_true(el == 0 && ee == 1);
    tug_expert_cache_failed(w.c, 1, 0);
    (void)tug_expert_cache_fetch(w.c, 1, 0, &el, &ee); /* into the slot that failed */
    assert_true(el == -1 && ee == -1);
    tug_expert_cache_destroy(&w.c);
}

static void test_one_staging_slot_no_home(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 0, 1);
    use(&w, 0, 0xF);
    assert_int_equal(state(&w, 0, 3), TUG_EXPERT_LINGERING);
    use(&w, 0, 0xF);
    assert_int_equal(state(&w, 0, 2), TUG_EXPERT_LINGERING);
    /* In the second step 3 was there, and had to be done before another could come. */
    assert_int_equal(tug_expert_cache_counters(w.c).hits, 1);
    tug_expert_cache_destroy(&w.c);
}

static void test_fetched_ahead(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 1, 3);
    bring(&w, 1, 0);
    bring(&w, 1, 1);
    op_fetch(&w, 1, 2);
    op_begin(&w, 1, 1 << 0);
    assert_int_equal(state(&w, 1, 1), TUG_EXPERT_LINGERING);
    op_loaded(&w, 1, 2);
    assert_int_equal(state(&w, 1, 2), TUG_EXPERT_LINGERING);
    op_done(&w, 1, 0);
    op_end(&w);
    const tug_expert_counters n = tug_expert_cache_counters(w.c);
    assert_true(n.wanted == 1 && n.hits == 0 && n.early == 1 && n.wasted == 2);
    tug_expert_cache_destroy(&w.c);
}

static void test_what_waits_makes_room_for_the_step(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 0, 1);
    bring(&w, 1, 2); /* a batch that ended early left this behind */
    int el, ee;
    assert_int_equal(tug_expert_cache_fetch(w.c, 1, 3, &el, &ee), -1); /* only ahead */
    op_begin(&w, 0, 1 << 1);
    op_fetch(&w, 0, 1);
    assert_int_equal(state(&w, 0, 1), TUG_EXPERT_LOADING);
    assert_int_equal(state(&w, 1, 2), TUG_EXPERT_ABSENT);
    assert_int_equal(tug_expert_cache_counters(w.c).wasted, 1);
    tug_expert_cache_destroy(&w.c);
}

static void test_a_step_that_is_given_up(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 1, 2);
    op_begin(&w, 0, 1 << 0 | 1 << 1);
    op_fetch(&w, 0, 0);
    op_fetch(&w, 0, 1);
    op_loaded(&w, 0, 1);
    op_end(&w);
    assert_int_equal(state(&w, 0, 1), TUG_EXPERT_LINGERING);
    op_loaded(&w, 0, 0);
    assert_int_equal(state(&w, 0, 0), TUG_EXPERT_LINGERING);
    tug_expert_cache_destroy(&w.c);
}

static void test_resize(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 3, 1);
    op_settle(&w, 0, 1);
    op_settle(&w, 0, 2);
    op_settle(&w, 0, 3);
    op_settle(&w, 0, 0);
    op_loaded(&w, 0, 1);
    op_loaded(&w, 0, 3);
    op_resize(&w, 0, 2); /* the coldest that is there, not the one that is LOADING */
    assert_int_equal(state(&w, 0, 1), TUG_EXPERT_ABSENT);
    op_resize(&w, 0, 0);
    assert_int_equal(tug_expert_cache_home(w.c, 0), 1);
    op_loaded(&w, 0, 2);
    use(&w, 0, 1 << 1); /* lingers: less than 2 at home */
    op_resize(&w, 0, 0);
    assert_int_equal(state(&w, 0, 1), TUG_EXPERT_LINGERING);
    op_resize(&w, 0, 9);
    assert_int_equal(tug_expert_cache_home(w.c, 0), 3);
    use(&w, 0, 0xF);
    op_resize(&w, 1, 0);
    op_resize(&w, 1, 2);
    tug_expert_cache_destroy(&w.c);
}

static void test_what_is_held_stays_home(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 1, 1);
    use(&w, 0, 1);
    op_hold(&w, 0, 0);
    op_hold(&w, 0, 0);
    use(&w, 0, 8); /* hotter */
    assert_int_equal(state(&w, 0, 0), TUG_EXPERT_HOME);
    assert_int_equal(state(&w, 0, 3), TUG_EXPERT_LINGERING);
    op_hold(&w, 0, 3); /* not at home */
    op_resize(&w, 0, 0);
    op_release(&w, 0, 0);
    use(&w, 0, 8);
    assert_int_equal(state(&w, 0, 3), TUG_EXPERT_HOME);
    op_resize(&w, 0, 0);
    tug_expert_cache_destroy(&w.c);
}

static void test_a_held_home_changes_hands(void **unused) {
    (void)unused;
    world w;
    create_one(&w, 2, 1);
    use(&w, 0, 1 << 0 | 1 << 1);
    op_hold(&w, 0, 0);
    op_replace(&w, 0, 0, 2);
    op_hold(&w, 0, 1);
    op_replace(&w, 0, 1, 2); /* is there already: the home is empty */
    op_hold(&w, 0, 2);
    op_replace(&w, 0, 2, -1);
    use(&w, 0, 1 << 0 | 1 << 1); /* both empty homes are taken */
    assert_int_equal(state(&w, 0, 0), TUG_EXPERT_HOME);
    assert_int_equal(state(&w, 0, 1), TUG_EXPERT_HOME);
    /* Told by another clock: what counts is how long ago. */
    const tug_expert_use past = {.heat = 2, .brief = 1, .counted = 90, .last = 95};
    op_hold(&w, 0, 0);
    assert_true(tug_expert_cache_replace(w.c, 0, 0, 3, &past, 100));
    const tug_expert_use *use = uses_of(w.c, 0) + 3;
    const uint32_t clock = w.c->layers[0].clock;
    assert_int_equal(clock - use->counted, 10);
    assert_int_equal(clock - use->last, 5);
    assert_true(use->heat == 2 && use->brief == 1);
    tug_expert_cache_destroy(&w.c);
}

static void test_classes_share_nothing(void **unused) {
    (void)unused;
    world w = {.n_layer = 3,
               .n_expert = 4,
               .n_class = 2,
               .class_of = {0, 1, 0},
               .home = {1, 2, 3},
               .staging = {2, 1}};
    open_world(&w, &fixed);
    assert_int_equal(tug_expert_cache_n_slots(w.c, 0), 6);
    assert_int_equal(tug_expert_cache_n_slots(w.c, 1), 3);
    op_begin(&w, 1, 3);
    op_fetch(&w, 1, 0);
    op_fetch(&w, 1, 1); /* -1 */
    op_fetch(&w, 0, 0);
    op_fetch(&w, 2, 0);
    assert_int_equal(state(&w, 1, 1), TUG_EXPERT_ABSENT);
    assert_int_equal(state(&w, 2, 0), TUG_EXPERT_LOADING);
    tug_expert_cache_destroy(&w.c);
}

static void test_uses_are_told_in_tokens(void **unused) {
    (void)unused;
    const tug_expert_policy *lru = NULL;
    assert_int_equal(tug_expert_policy_find(&lru, "lru", NULL), TUG_OK);
    world w = {.n_layer = 1, .n_expert = 4, .n_class = 1, .home = {1}, .staging = {1}};
    open_world(&w, lru);
    const int32_t ids[] = {1, 2}, counts[] = {3, 5};
    tug_expert_cache_begin(w.c, 0, ids, counts, 2, 7);
    tug_expert_cache_end(w.c);
    tug_expert_cache_begin(w.c, 0, ids, counts, 1, 3);
    tug_expert_cache_end(w.c);
    assert_int_equal(w.c->uses[1].last, 10);
    assert_int_equal(w.c->uses[2].last, 7); /* absent, and known */
    tug_expert_cache_destroy(&w.c);
}

/* ---- every state of a small world ------------------------------------------------------- */

/* A state as bytes: everything but counters and clocks, which no transition looks at. */
enum { MAX_CODE = 160 };

typedef struct coder {
    int8_t *at;
    bool write;
} coder;

static void code(coder *k, int *v) {
    if (k->write) {
        *k->at++ = (int8_t)*v;
    } else {
        *v = *k->at++;
    }
}

#define CODE(k, lvalue)                             \
    do {                                            \
        int code_value_ = (int)(lvalue);            \
        code((k), &code_value_);                    \
        (lvalue) = (__typeof__(lvalue))code_value_; \
    } while (0)

static void code_list(coder *k, slot_list *l) {
    CODE(k, l->first);
    CODE(k, l->last);
}

static void code_pool(coder *k, pool *p) {
    code_list(k, &p->free);
    code_list(k, &p->waiting);
    code_list(k, &p->given_up);
    for (int s = 0; s < p->n; s++) {
        CODE(k, p->slots[s].place);
        CODE(k, p->slots[s].layer);
        CODE(k, p->slots[s].expert);
        CODE(k, p->slots[s].prev);
        CODE(k, p->slots[s].next);
        CODE(k, p->slots[s].home);
    }
}

static void code_layer(coder *k, layer_state *l) {
    CODE(k, l->n_home);
    CODE(k, l->n_ahead);
    for (int h = 0; h < l->max_home; h++) {
        int at = h < l->n_home ? l->homes[h] : 0;
        code(k, &at);
        l->homes[h] = at;
    }
}

/* Bytes used. */
static int code_world(world *w, int8_t *bytes, bool write) {
    coder k = {bytes, write};
    tug_expert_cache *c = w->c;
    for (int i = 0; i < c->n_class; i++) code_pool(&k, &c->pools[i]);
    for (int i = 0; i < c->n_layer; i++) code_layer(&k, &c->layers[i]);
    for (int i = 0; i < c->n_layer * c->n_expert; i++) {
        CODE(&k, c->experts[i].slot);
        CODE(&k, c->experts[i].state);
        CODE(&k, c->experts[i].wanted);
        CODE(&k, c->experts[i].ahead);
        CODE(&k, c->experts[i].held);
        CODE(&k, w->wanted[i]);
        CODE(&k, w->ahead[i]);
        CODE(&k, w->held[i]);
    }
    CODE(&k, w->step);
    CODE(&k, c->layer);
    CODE(&k, c->n);
    for (int i = 0; i < c->n_expert; i++) {
        int id = i < c->n ? c->ids[i] : 0;
        code(&k, &id);
        c->ids[i] = id;
    }
    if (!write) c->has_scores = false; /* the policy's never change */
    return (int)(k.at - bytes);
}

/* States found so far, in order: also the queue. */
typedef struct state_set {
    int8_t *codes;   /* (cap, n_code) */
    uint32_t *table; /* (n_table,) index + 1 */
    size_t n, cap, n_table;
    int n_code;
} state_set;

static uint64_t hash_code(const int8_t *p, int n) {
    uint64_t h = 0xCBF29CE484222325u;
    for (int i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * 0x100000001B3u;
    return h ^ h >> 29;
}

static void open_set(state_set *s, int n_code, size_t cap) {
    *s = (state_set){.cap = cap, .n_code = n_code, .n_table = 2 * cap};
    s->codes = tug_alloc(cap * (size_t)n_code);
    s->table = tug_alloc_zero(s->n_table * sizeof *s->table);
    assert_true(s->codes && s->table);
}

static void close_set(state_set *s) {
    tug_free(s->codes);
    tug_free(s->table);
}

static int8_t *code_at(const state_set *s, size_t i) {
    return s->codes + i * (size_t)s->n_code;
}

static void add_state(state_set *s, world *w) {
    int8_t bytes[MAX_CODE];
    assert_int_equal(code_world(w, bytes, true), s->n_code);
    size_t at = hash_code(bytes, s->n_code) % s->n_table;
    for (; s->table[at]; at = (at + 1) % s->n_table) {
        if (memcmp(code_at(s, s->table[at] - 1), bytes, (size_t)s->n_code) == 0) return;
    }
    assert_true(s->n < s->cap);
    memcpy(code_at(s, s->n), bytes, (size_t)s->n_code);
    s->table[at] = (uint32_t)++s->n;
}

typedef struct walk {
    world *w;
    state_set *set;
    size_t from;
    uint64_t n_ops;
} walk;

/* Before an operation: back to the state it starts from; after it: where it led. */
static void set_out(walk *k) {
    (void)code_world(k->w, code_at(k->set, k->from), false);
    k->n_ops++;
}

static void arrive(walk *k) {
    add_state(k->set, k->w);
}

static void try_holding(walk *k, int layer, int expert) {
    if (k->w->held[id_of(k->w, layer, expert)]) {
        op_release(k->w, layer, expert);
    } else {
        op_hold(k->w, layer, expert);
    }
    arrive(k);
    set_out(k);
}

static void try_replacing(walk *k, int layer, int expert) {
    for (int other = -1; other < k->w->n_expert; other++) {
        if (other == expert) continue;
        op_replace(k->w, layer, expert, other);
        arrive(k);
        set_out(k);
    }
}

static void try_expert(walk *k, int layer, int expert, tug_expert_state s, int step) {
    try_holding(k, layer, expert);
    const int i = id_of(k->w, layer, expert);
    const bool wanted = k->w->wanted[i];
    if (step < 0 && k->w->held[i]) try_replacing(k, layer, expert);
    if (s == TUG_EXPERT_ABSENT) {
        op_fetch(k->w, layer, expert);
        arrive(k);
        if (step >= 0) return;
        set_out(k);
        op_settle(k->w, layer, expert);
        arrive(k);
    } else if (s == TUG_EXPERT_LOADING) {
        op_loaded(k->w, layer, expert);
        arrive(k);
        set_out(k);
        op_failed(k->w, layer, expert);
        arrive(k);
    } else if (wanted) {
        op_done(k->w, layer, expert);
        arrive(k);
    }
}

static void try_between_steps(walk *k) {
    for (int l = 0; l < k->w->n_layer; l++) {
        for (unsigned set = 1; set < 1u << k->w->n_expert; set++) {
            set_out(k);
            op_begin(k->w, l, set);
            arrive(k);
        }
        for (int h = 0; h <= k->w->home[l]; h++) {
            set_out(k);
            op_resize(k->w, l, h);
            arrive(k);
        }
    }
}

static void try_everything(walk *k) {
    set_out(k);
    const int step = k->w->step;
    for (int l = 0; l < k->w->n_layer; l++) {
        for (int e = 0; e < k->w->n_expert; e++) {
            set_out(k);
            try_expert(k, l, e, state(k->w, l, e), step);
        }
    }
    set_out(k);
    if (step < 0) {
        try_between_steps(k);
    } else {
        op_end(k->w);
        arrive(k);
    }
}

static void explore(world *w) {
    state_set set;
    int8_t bytes[MAX_CODE];
    open_world(w, &fixed);
    open_set(&set, code_world(w, bytes, true), 1500000);
    add_state(&set, w);
    walk k = {.w = w, .set = &set};
    for (; k.from < set.n; k.from++) try_everything(&k);
    print_message(
        "%d x %d experts, homes %d and %d, staging %d: %zu states, %llu operations\n",
        w->n_layer, w->n_expert, w->home[0], w->home[1], w->staging[0], set.n,
        (unsigned long long)k.n_ops);
    assert_true(set.n > 100); /* it did go somewhere */
    close_set(&set);
    tug_expert_cache_destroy(&w->c);
}

/* Each has something the others have not: both kinds of fetch across layers, no home at
 * all, homes that lose and win, a class of one's own. */
static const world small_worlds[] = {
    {.n_layer = 2, .n_expert = 2, .n_class = 1, .home = {1, 0}, .staging = {2}},
    {.n_layer = 1,
     .n_expert = 3,
     .n_class = 1,
     .home = {2},
     .staging = {2},
     .heat = {0, 1, 2}},
    {.n_layer = 2,
     .n_expert = 2,
     .n_class = 2,
     .class_of = {1, 0},
     .home = {1, 1},
     .staging = {1, 1},
     .heat = {1, 0, 0, 1}},
};

/* With `--larger` (tests/long/cache_states.sh). */
static const world larger_worlds[] = {
    {.n_layer = 2,
     .n_expert = 2,
     .n_class = 1,
     .home = {2, 1},
     .staging = {1},
     .heat = {0, 1, 0, 0}},
    {.n_layer = 2,
     .n_expert = 3,
     .n_class = 1,
     .home = {2, 0},
     .staging = {1},
     .heat = {0, 1, 2, 0, 0, 0}},
    {.n_layer = 2,
     .n_expert = 2,
     .n_class = 1,
     .home = {1, 1},
     .staging = {2},
     .heat = {0, 1, 0, 0}},
    {.n_layer = 2,
     .n_expert = 3,
     .n_class = 1,
     .home = {1, 1},
     .staging = {1},
     .heat = {0, 1, 1, 2, 1, 0}},
    {.n_layer = 2,
     .n_expert = 2,
     .n_class = 2,
     .class_of = {1, 0},
     .home = {1, 1},
     .staging = {1, 2},
     .heat = {1, 0, 0, 1}},
    {.n_layer = 1, .n_expert = 3, .n_class = 1, .home = {1}, .staging = {3}},
};

static void explore_all(const world *worlds, size_t n) {
    for (size_t i = 0; i < n; i++) {
        world w = worlds[i];
        explore(&w);
    }
}

static void test_every_state_of_small_worlds(void **unused) {
    (void)unused;
    explore_all(small_worlds, sizeof small_worlds / sizeof *small_worlds);
}

static void test_every_state_of_larger_worlds(void **unused) {
    (void)unused;
    explore_all(larger_worlds, sizeof larger_worlds / sizeof *larger_worlds);
}

/* ---- a long walk in larger ones --------------------------------------------------------- */

/* Something that may be done now, chosen by chance; false: this roll led to nothing. */
static bool roll(world *w, tug_rng *r) {
    const int layer = (int)(tug_rng_u64(r) % (uint64_t)w->n_layer);
    const int expert = (int)(tug_rng_u64(r) % (uint64_t)w->n_expert);
    const tug_expert_state s = state(w, layer, expert);
    const uint64_t dice = tug_rng_u64(r) % 100;
    const bool held = w->held[id_of(w, layer, expert)];
    if (held && w->step < 0 && dice < 25) {
        const int other = (int)(tug_rng_u64(r) % (uint64_t)(w->n_expert + 1)) - 1;
        if (other == expert) return false;
        op_replace(w, layer, expert, other);
    } else if (held && dice < 50) {
        op_release(w, layer, expert);
    } else if (s == TUG_EXPERT_HOME && dice < 10) {
        op_hold(w, layer, expert);
    } else if (s == TUG_EXPERT_LOADING) {
        dice < 80 ? op_loaded(w, layer, expert) : op_failed(w, layer, expert);
    } else if (w->wanted[id_of(w, layer, expert)] && usable(s)) {
        op_done(w, layer, expert);
    } else if (s == TUG_EXPERT_ABSENT && w->step < 0 && dice < 10) {
        op_settle(w, layer, expert);
    } else if (s == TUG_EXPERT_ABSENT && dice < 60) {
        op_fetch(w, layer, expert);
    } else if (w->step >= 0 && dice < 70) {
        op_end(w);
    } else if (w->step < 0 && dice < 90) {
        op_begin(w, layer, (unsigned)tug_rng_u64(r) & ((1u << w->n_expert) - 1));
    } else if (w->step < 0) {
        op_resize(w, layer, (int)(tug_rng_u64(r) % (uint64_t)(w->home[layer] + 2)));
    } else {
        return false;
    }
    return true;
}

static void random_world(world *w, tug_rng *r) {
    *w = (world){.n_layer = 1 + (int)(tug_rng_u64(r) % MAX_LAYER),
                 .n_expert = 1 + (int)(tug_rng_u64(r) % MAX_EXPERT),
                 .n_class = 1 + (int)(tug_rng_u64(r) % 2)};
    for (int i = 0; i < w->n_layer; i++) {
        w->class_of[i] = (int)(tug_rng_u64(r) % (uint64_t)w->n_class);
        w->home[i] = (int)(tug_rng_u64(r) % (uint64_t)(w->n_expert + 1));
    }
    for (int i = 0; i < w->n_class; i++) w->staging[i] = 1 + (int)(tug_rng_u64(r) % 5);
    for (int i = 0; i < MAX_WORLD; i++) w->heat[i] = (float)(tug_rng_u64(r) % 4);
    open_world(w, tug_expert_policy_at((int)(tug_rng_u64(r) % 4)));
}

static void test_random_walks(void **unused) {
    (void)unused;
    tug_rng r;
    tug_rng_seed(&r, 5);
    for (int i = 0; i < 200; i++) {
        world w;
        random_world(&w, &r);
        for (int n = 0; n < 2000;) n += roll(&w, &r);
        tug_expert_cache_destroy(&w.c);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_homes_are_taken_the_coldest_loses),
        cmocka_unit_test(test_equal_scores_change_nothing),
        cmocka_unit_test(test_oldest_freed_goes_first_and_empty_before),
        cmocka_unit_test(test_one_staging_slot_no_home),
        cmocka_unit_test(test_fetched_ahead),
        cmocka_unit_test(test_what_waits_makes_room_for_the_step),
        cmocka_unit_test(test_a_step_that_is_given_up),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_what_is_held_stays_home),
        cmocka_unit_test(test_a_held_home_changes_hands),
        cmocka_unit_test(test_classes_share_nothing),
        cmocka_unit_test(test_uses_are_told_in_tokens),
        cmocka_unit_test(test_every_state_of_small_worlds),
        cmocka_unit_test(test_random_walks),
    };
    const struct CMUnitTest larger[] = {
        cmocka_unit_test(test_every_state_of_larger_worlds),
    };
    if (argc > 1 && strcmp(argv[1], "--larger") == 0)
        return cmocka_run_group_tests(larger, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
