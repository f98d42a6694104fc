/* test_prompt_cache.c - what a request gets is the same with and without reuse, bit for
 * bit, and what is known is not computed again.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "serve/prompt_cache.h"

#define MODEL "tests/golden/data/small-f32.gguf"

enum { N_VOCAB = 300, N_CTX = 2048, N_ANSWER = 5 };

static tug_model *model;
static tug_session *plain; /* never reuses anything */

static int setup(void **state) {
    (void)state;
    const tug_model_params mp = {.path = MODEL, .n_threads = 1};
    const tug_session_params sp = {
        .n_ctx = N_CTX, .n_batch = 256, .kv_type = TUG_KV_CACHE_F16};
    assert_int_equal(tug_model_open(&model, &mp, NULL), TUG_OK);
    assert_int_equal(tug_model_get_info(model).n_vocab, N_VOCAB);
    assert_int_equal(tug_session_create(&plain, model, &sp, NULL), TUG_OK);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tug_session_destroy(&plain);
    tug_model_close(&model);
    return 0;
}

/* ---- requests ------------------------------------------------------------------------ */

typedef struct text {
    int32_t ids[N_CTX];
    int64_t n;
} text;

/* n tokens of a text that only its number decides. */
static void add(text *t, uint64_t which, int n) {
    for (int i = 0; i < n; i++) {
        t->ids[t->n++] = (int32_t)((which * 7919 + (uint64_t)i * 31 + 11) % N_VOCAB);
    }
}

static tug_prompt_cache *cache_of(int32_t n_sessions, uint64_t ceiling) {
    tug_prompt_cache *pc = NULL;
    const tug_prompt_cache_params p = {.ceiling_bytes = ceiling,
                                       .max_sessions = n_sessions,
                                       .n_ctx = N_CTX,
                                       .n_batch = 64,
                                       .kv_type = TUG_KV_CACHE_F16,
                                       .small_tail = 16};
    assert_int_equal(tug_prompt_cache_create(&pc, model, &p, NULL), TUG_OK);
    return pc;
}

static tug_prompt_lease take_as(tug_prompt_cache *pc, const text *t, int64_t space,
                                bool reuse) {
    tug_prompt_lease lease;
    tug_err err = {0};
    const tug_prompt_want want = {
        .ids = t->ids, .n = t->n, .reuse = reuse, .space = space};
    const tug_status s = tug_prompt_cache_take(pc, &want, &lease, &err);
    if (s != TUG_OK) print_error("%s\n", err.msg);
    assert_int_equal(s, TUG_OK);
    assert_int_equal(tug_session_n_tokens(lease.session), lease.n_reused);
    return lease;
}

static tug_prompt_lease take(tug_prompt_cache *pc, const text *t) {
    return take_as(pc, t, 0, true);
}

/* The prompt up to `end`, and a save point there. */
static void prefill(tug_prompt_cache *pc, tug_prompt_lease *lease, const text *t,
                    int64_t end) {
    const int64_t at = tug_session_n_tokens(lease->session);
    if (at < end) {
        assert_int_equal(tug_session_append(lease->session, t->ids + at, end - at, NULL),
                         TUG_OK);
    }
    assert_true(tug_prompt_cache_save(pc, lease));
}

static int32_t greedy(const tug_session *s) {
    const float *logits = tug_session_logits(s);
    int32_t best = 0;
    for (int32_t i = 1; i < N_VOCAB; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return best;
}

/* Samples an answer into t, like the worker: its last token stays outside. */
static void answer(tug_prompt_cache *pc, tug_prompt_lease *lease, text *t) {
    for (int i = 0; i < N_ANSWER; i++) {
        const int32_t id = greedy(lease->session);
        assert_int_equal(tug_session_append(lease->session, &id, 1, NULL), TUG_OK);
        t->ids[t->n++] = id;
    }
    assert_true(tug_prompt_cache_save(pc, lease));
}

/* Is the session exactly where these tokens lead? */
static void expect_state(const tug_session *s, const text *t) {
    int64_t n = 0;
    assert_memory_equal(tug_session_tokens(s, &n), t->ids, (size_t)t->n * sizeof *t->ids);
    assert_int_equal(n, t->n);
    tug_session_reset(plain);
    assert_int_equal(tug_session_append(plain, t->ids, t->n, NULL), TUG_OK);
    assert_memory_equal(tug_session_logits(s), tug_session_logits(plain),
                        N_VOCAB * sizeof(float));
}

/* A whole request; t grows by the answer.  Returns what was reused. */
static int64_t ask(tug_prompt_cache *pc, text *t) {
    tug_prompt_lease lease = take(pc, t);
    const int64_t n_reused = lease.n_reused;
    prefill(pc, &lease, t, t->n);
    expect_state(lease.session, t);
    answer(pc, &lease, t);
    expect_state(lease.session, t);
    tug_prompt_cache_give(pc, &lease);
    assert_null(lease.session);
    return n_reused;
}

/* ---- one conversation ---------------------------------------------------------------- */

static void fifty_turns_compute_only_what_is_new(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(2, 0);
    static text t;
    t.n = 0;
    add(&t, 1, 60);
    int64_t known = 0;
    uint64_t n_new = 0, n_known = 0;
    for (uint64_t turn = 0; turn < 50; turn++) {
        n_new += (uint64_t)(t.n - known);
        n_known += (uint64_t)known;
        if (turn % 10 == 9) {
            assert_int_equal(ask(pc, &t), known);
        } else { /* without the check against the plain session, which starts at zero */
            tug_prompt_lease lease = take(pc, &t);
            assert_int_equal(lease.n_reused, known);
            prefill(pc, &lease, &t, t.n);
            answer(pc, &lease, &t);
            tug_prompt_cache_give(pc, &lease);
        }
        known = t.n;
        add(&t, 100 + turn, 20);
    }
    const tug_prompt_cache_stats s = tug_prompt_cache_get_stats(pc);
    assert_int_equal(s.computed_tokens, n_new);
    assert_int_equal(s.reused_tokens, n_known);
    assert_int_equal(s.n_takes, 50);
    assert_int_equal(s.n_hits, 49);
    assert_int_equal(s.n_marks, TUG_CACHE_MAX_MARKS);
    assert_int_equal(s.n_forks + s.n_dropped, 0);
    assert_int_equal(s.n_empty, 1);
    tug_prompt_cache_destroy(&pc);
    assert_null(pc);
}

static void goes_back_as_far_as_it_must(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(1, 0);
    text t = {0}, again, changed;
    add(&t, 1, 50);
    assert_int_equal(ask(pc, &t), 0);
    const int64_t end_1 = t.n;
    add(&t, 2, 20);
    const int64_t prompt_2 = t.n;
    again = t;
    assert_int_equal(ask(pc, &t), end_1);

    /* The very same prompt: nothing to compute, and the same answer. */
    assert_int_equal(ask(pc, &again), prompt_2);
    assert_memory_equal(&again, &t, sizeof t.n + (size_t)t.n * sizeof *t.ids);

    changed = t;
    changed.n = end_1;
    add(&changed, 3, 25);
    assert_int_equal(ask(pc, &changed), end_1);

    changed.n = end_1 - 2; /* the answer was edited: back to the end of its prompt */
    add(&changed, 4, 8);
    assert_int_equal(ask(pc, &changed), 50);

    changed.n = 49; /* shorter than every save point */
    assert_int_equal(ask(pc, &changed), 0);
    tug_prompt_cache_destroy(&pc);
}

static void keeps_what_was_computed_before_a_cancel(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(2, 0);
    text t = {0};
    add(&t, 1, 100);
    tug_prompt_lease lease = take(pc, &t);
    assert_int_equal(tug_session_append(lease.session, t.ids, 64, NULL), TUG_OK);
    tug_prompt_cache_give(pc, &lease);
    tug_prompt_cache_give(pc, &lease); /* empty by now */
    assert_int_equal(tug_prompt_cache_get_stats(pc).computed_tokens, 64);
    assert_int_equal(ask(pc, &t), 64);

    /* In the middle of an answer; the client sends back a part of it. */
    add(&t, 2, 10);
    const int64_t prompt = t.n;
    lease = take(pc, &t);
    prefill(pc, &lease, &t, t.n);
    for (int i = 0; i < 3; i++) {
        const int32_t id = greedy(lease.session);
        t.ids[t.n++] = id;
        assert_int_equal(tug_session_append(lease.session, &id, 1, NULL), TUG_OK);
    }
    tug_prompt_cache_give(pc, &lease);
    text less = t;
    less.n--;
    add(&less, 3, 10);
    const int64_t known = t.n;
    add(&t, 4, 10);
    assert_int_equal(ask(pc, &t), known);
    assert_int_equal(ask(pc, &less), prompt);
    tug_prompt_cache_destroy(&pc);
}

static void reuse_can_be_refused(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(1, 0);
    text t = {0};
    add(&t, 1, 40);
    assert_int_equal(ask(pc, &t), 0);
    tug_prompt_lease lease = take_as(pc, &t, 0, false);
    assert_int_equal(lease.n_reused, 0);
    prefill(pc, &lease, &t, t.n);
    expect_state(lease.session, &t);
    tug_prompt_cache_give(pc, &lease);
    tug_prompt_cache_destroy(&pc);
}

/* ---- several conversations ----------------------------------------------------------- */

static void side_requests_leave_the_main_one_alone(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(2, 0);
    text t = {0};
    add(&t, 1, 300);
    int64_t known = 0;
    for (uint64_t turn = 0; turn < 6; turn++) {
        assert_int_equal(ask(pc, &t), known);
        known = t.n;
        add(&t, 50 + turn, 15);
        for (uint64_t i = 0; i < 3; i++) {
            text side = {0};
            add(&side, 1000 + 10 * turn + i, 30);
            assert_int_equal(ask(pc, &side), 0);
        }
    }
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_forks, 0);
    tug_prompt_cache_destroy(&pc);
}

/* A head of system and tools that two conversations share. */
static void a_shared_head_is_copied(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(2, 0);
    text t = {0}, title = {0}, other = {0};
    add(&t, 1, 200);
    add(&title, 1, 200);
    add(&other, 1, 200);
    add(&t, 2, 80);
    add(&title, 3, 30);
    add(&other, 4, 12);
    tug_prompt_lease lease = take(pc, &t);
    prefill(pc, &lease, &t, 200);
    prefill(pc, &lease, &t, t.n);
    answer(pc, &lease, &t);

    /* From one that is out, and goes on meanwhile. */
    tug_prompt_lease second = take(pc, &title);
    assert_int_equal(second.n_reused, 200);
    const int32_t id = 5;
    assert_int_equal(tug_session_append(lease.session, &id, 1, NULL), TUG_OK);
    prefill(pc, &second, &title, title.n);
    expect_state(second.session, &title);
    t.ids[t.n++] = id;
    expect_state(lease.session, &t);
    tug_prompt_cache_give(pc, &second);
    tug_prompt_cache_give(pc, &lease);

    /* The main conversation is whole, the copy goes for the next one with this head. */
    const int64_t known = t.n;
    add(&t, 5, 10);
    assert_int_equal(ask(pc, &t), known);
    assert_int_equal(ask(pc, &other), 200);
    const int64_t known_too = t.n;
    add(&t, 6, 10);
    assert_int_equal(ask(pc, &t), known_too);
    const tug_prompt_cache_stats s = tug_prompt_cache_get_stats(pc);
    assert_true(s.n_forks >= 1);
    assert_int_equal(s.n_empty, 0);
    tug_prompt_cache_destroy(&pc);
}

static void a_small_change_needs_no_copy(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(3, 0);
    text t = {0}, changed;
    add(&t, 1, 100);
    assert_int_equal(ask(pc, &t), 0);
    changed = t;
    add(&t, 2, 8);
    add(&changed, 3, 8);
    const int64_t known = changed.n - 8;
    assert_int_equal(ask(pc, &t), known);
    assert_int_equal(ask(pc, &changed), known);
    const tug_prompt_cache_stats s = tug_prompt_cache_get_stats(pc);
    assert_int_equal(s.n_forks, 0);
    assert_int_equal(s.n_empty, 2);
    tug_prompt_cache_destroy(&pc);
}

static void an_old_conversation_goes_at_last(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(2, 0);
    text old = {0}, first, second;
    add(&old, 1, 200);
    assert_int_equal(ask(pc, &old), 0);
    int64_t n_first = 0, n_second = 0;
    for (int i = 0; i < 8; i++) { /* two that take turns, each worth less than it */
        first = second = (text){0};
        add(&first, 100, 60);
        add(&second, 101, 60);
        n_first = ask(pc, &first);
        n_second = ask(pc, &second);
        if (i == 0) assert_int_equal(n_first + n_second, 0);
    }
    assert_int_equal(n_first, 60); /* both stay by now */
    assert_int_equal(n_second, 60);
    assert_int_equal(ask(pc, &old), 0);
    tug_prompt_cache_destroy(&pc);
}

static void what_others_hold_is_worth_less(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(3, 0);
    text lone = {0}, a = {0}, b = {0}, next = {0};
    add(&lone, 1, 100);
    add(&a, 2, 200);
    add(&b, 2, 200);
    assert_int_equal(ask(pc, &lone), 0);
    tug_prompt_lease lease = take(pc, &a);
    prefill(pc, &lease, &a, 200);
    add(&a, 3, 30);
    prefill(pc, &lease, &a, 230);
    tug_prompt_cache_give(pc, &lease);
    add(&b, 4, 60);
    assert_int_equal(ask(pc, &b), 200);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_forks, 1);
    add(&next, 5, 50);
    assert_int_equal(ask(pc, &next), 0); /* in place of `a`, of which b has the most */
    const int64_t known = lone.n;
    add(&lone, 6, 10);
    assert_int_equal(ask(pc, &lone), known);
    assert_int_equal(ask(pc, &a), 200);
    tug_prompt_cache_destroy(&pc);
}

static void keys_see_nothing_of_each_other(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(3, 0);
    text t = {0};
    add(&t, 1, 60);
    assert_int_equal(ask(pc, &t), 0);
    t.n = 60;
    for (int64_t space = 1; space < 4; space++) {
        tug_prompt_lease lease = take_as(pc, &t, space, true);
        assert_int_equal(lease.n_reused, 0);
        prefill(pc, &lease, &t, t.n);
        expect_state(lease.session, &t);
        tug_prompt_cache_give(pc, &lease);
    }
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_hits, 0);
    tug_prompt_lease lease = take_as(pc, &t, 3, true);
    assert_int_equal(lease.n_reused, 60);
    tug_prompt_cache_give(pc, &lease);
    tug_prompt_cache_destroy(&pc);
}

static void says_when_it_has_none(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(2, 0);
    text t = {0}, other = {0};
    add(&t, 1, 30);
    add(&other, 2, 30);
    tug_prompt_lease a = take(pc, &t), b = take(pc, &other), c;
    tug_err err;
    tug_prompt_want want = {.ids = t.ids, .n = t.n, .reuse = true};
    assert_int_equal(tug_prompt_cache_take(pc, &want, &c, &err), TUG_EBUSY);
    assert_null(c.session);
    assert_ptr_not_equal(a.session, b.session);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_leased, 2);
    tug_prompt_cache_give(pc, &a);
    assert_int_equal(tug_prompt_cache_take(pc, &want, &c, &err), TUG_OK);
    tug_prompt_cache_give(pc, &c);
    tug_prompt_cache_give(pc, &b);
    want.n = 0;
    assert_int_equal(tug_prompt_cache_take(pc, &want, &c, &err), TUG_EUSAGE);
    want.n = N_CTX + 1;
    assert_int_equal(tug_prompt_cache_take(pc, &want, &c, &err), TUG_ERANGE);
    const tug_prompt_cache_params bad = {.max_sessions = TUG_CACHE_MAX_SESSIONS + 1};
    tug_prompt_cache *none = NULL;
    assert_int_equal(tug_prompt_cache_create(&none, model, &bad, &err), TUG_ERANGE);
    assert_null(none);
    tug_prompt_cache_destroy(&pc);
}

/* Several answers to one prompt: the worker goes back in its lease. */
static void survives_going_back_in_a_lease(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(2, 0);
    text t = {0}, first, second, third;
    tug_session_mark *prompt_end = NULL;
    add(&t, 1, 60);
    tug_prompt_lease lease = take(pc, &t);
    prefill(pc, &lease, &t, t.n);
    assert_int_equal(tug_session_save(lease.session, &prompt_end, NULL), TUG_OK);
    first = second = third = t;
    answer(pc, &lease, &first);
    const text *const all[] = {&second, &third};
    add(&second, 5, N_ANSWER); /* as long as the first: the place alone says nothing */
    add(&third, 6, 20);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tug_session_restore(lease.session, prompt_end, NULL), TUG_OK);
        assert_int_equal(
            tug_session_append(lease.session, all[i]->ids + 60, all[i]->n - 60, NULL),
            TUG_OK);
        tug_prompt_lease other = take(pc, all[i]);
        assert_int_equal(other.n_reused, all[i]->n);
        expect_state(other.session, all[i]);
        tug_prompt_cache_give(pc, &other);
        if (i == 0) assert_true(tug_prompt_cache_save(pc, &lease));
    }
    /* The save point at 65 is not on the way to where the session is now. */
    text part = third;
    part.n = 70;
    tug_prompt_lease other = take(pc, &part);
    assert_int_equal(other.n_reused, 60);
    prefill(pc, &other, &part, 70);
    expect_state(other.session, &part);
    tug_prompt_cache_give(pc, &other);
    tug_session_mark_destroy(&prompt_end);
    tug_prompt_cache_give(pc, &lease);
    add(&first, 7, 5);
    add(&second, 8, 5);
    add(&third, 9, 5);
    assert_int_equal(ask(pc, &third), 80);
    assert_int_equal(ask(pc, &first), 60);
    assert_int_equal(ask(pc, &second), 60);
    tug_prompt_cache_destroy(&pc);
}

/* ---- memory -------------------------------------------------------------------------- */

static uint64_t held(const tug_prompt_cache *pc) {
    const tug_prompt_cache_stats s = tug_prompt_cache_get_stats(pc);
    return s.kv_bytes + s.recurrent_bytes + s.mark_bytes;
}

static void stays_below_its_ceiling(void **state) {
    (void)state;
    tug_session_memory m = tug_session_get_memory(plain);
    const uint64_t ceiling = 8 * m.per_mark + 900 * m.per_token;
    const uint64_t ratio = m.per_mark / m.per_token; /* the numbers below rely on it */
    assert_true(ratio >= 110 && ratio <= 130);
    tug_prompt_cache *pc = cache_of(3, ceiling);
    assert_int_equal(tug_prompt_cache_n_sessions(pc), 3);
    text t = {0};
    add(&t, 1, 300);
    int64_t known = 0;
    for (uint64_t turn = 0; turn < 12; turn++) {
        assert_int_equal(ask(pc, &t), known);
        known = t.n;
        add(&t, 10 + turn, 10);
        assert_true(held(pc) <= ceiling);
        text side = {0};
        add(&side, 100 + turn, 40);
        assert_int_equal(ask(pc, &side), 0);
        assert_true(held(pc) <= ceiling);
    }
    /* A prompt that needs most of it: the others go, it is served. */
    text big = {0};
    add(&big, 999, 800);
    assert_int_equal(ask(pc, &big), 0);
    assert_true(held(pc) <= ceiling);
    assert_true(tug_prompt_cache_get_stats(pc).n_empty >= 1);

    /* Beside one that is out there is no room for it: it has to wait. */
    text other = {0}, more = {0};
    add(&other, 998, 700);
    add(&more, 997, 750);
    tug_prompt_lease a = take(pc, &other), b;
    prefill(pc, &a, &other, other.n);
    const tug_prompt_want want = {.ids = more.ids, .n = more.n, .reuse = true};
    tug_err err;
    assert_int_equal(tug_prompt_cache_take(pc, &want, &b, &err), TUG_EBUSY);
    tug_prompt_cache_give(pc, &a);
    assert_int_equal(tug_prompt_cache_take(pc, &want, &b, &err), TUG_OK);
    tug_prompt_cache_give(pc, &b);
    assert_true(held(pc) <= ceiling);

    /* Alone above it: served, and kept until somebody else needs the room. */
    text huge = {0};
    add(&huge, 996, 1700);
    a = take(pc, &huge);
    assert_int_equal(tug_session_append(a.session, huge.ids, huge.n, NULL), TUG_OK);
    tug_prompt_cache_give(pc, &a);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_empty, 2);
    assert_true(held(pc) > ceiling);
    add(&huge, 995, 5);
    a = take(pc, &huge);
    assert_int_equal(a.n_reused, 1700);
    tug_prompt_cache_give(pc, &a);
    more.n = 750;
    (void)ask(pc, &more);
    assert_true(held(pc) <= ceiling);
    tug_prompt_cache_destroy(&pc);
}

static void what_is_copied_from_stays(void **state) {
    (void)state;
    const tug_session_memory m = tug_session_get_memory(plain);
    tug_prompt_cache *pc = cache_of(3, 8 * m.per_mark + 800 * m.per_token);
    text worth_less = {0}, worth_more = {0}, next = {0};
    add(&worth_less, 1, 200);
    add(&worth_more, 2, 400);
    add(&next, 1, 200);
    add(&next, 3, 30);
    tug_prompt_lease lease = take(pc, &worth_less);
    prefill(pc, &lease, &worth_less, 200);
    add(&worth_less, 4, 80);
    prefill(pc, &lease, &worth_less, 280);
    answer(pc, &lease, &worth_less);
    tug_prompt_cache_give(pc, &lease);
    assert_int_equal(ask(pc, &worth_more), 0);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_empty, 1);
    lease = take(pc, &next);
    assert_int_equal(lease.n_reused, 200);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_forks, 1);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_dropped, 1);
    prefill(pc, &lease, &next, next.n);
    expect_state(lease.session, &next);
    tug_prompt_cache_give(pc, &lease);
    const int64_t known = worth_less.n;
    add(&worth_less, 5, 10);
    assert_int_equal(ask(pc, &worth_less), known);
    tug_prompt_cache_destroy(&pc);
}

/* Save points of others go before them, but never the first and the last two. */
static void three_save_points_stay(void **state) {
    (void)state;
    const tug_session_memory m = tug_session_get_memory(plain);
    tug_prompt_cache *pc = cache_of(2, 6 * m.per_mark + 100 * m.per_token);
    text a = {0}, b = {0};
    add(&a, 1, 40);
    add(&b, 2, 40);
    tug_prompt_lease lease = take(pc, &a);
    for (int64_t at = 10; at <= 40; at += 10) prefill(pc, &lease, &a, at);
    tug_prompt_cache_give(pc, &lease);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_marks, 4);
    lease = take(pc, &b);
    prefill(pc, &lease, &b, 10);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_marks, 3 + 1);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_dropped, 0);
    prefill(pc, &lease, &b, 20); /* worth more than an idle session */
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_marks, 2);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_dropped, 1);
    for (int64_t at = 22; at <= 40; at += 2) prefill(pc, &lease, &b, at);
    assert_int_equal(tug_prompt_cache_get_stats(pc).n_marks, 4); /* there is room for */
    tug_prompt_cache_give(pc, &lease);
    assert_true(held(pc) <= 6 * m.per_mark + 100 * m.per_token);
    tug_prompt_cache_destroy(&pc);
}

static void a_low_ceiling_makes_fewer_sessions(void **state) {
    (void)state;
    const tug_session_memory m = tug_session_get_memory(plain);
    tug_prompt_cache *pc = cache_of(8, 6 * m.per_mark);
    assert_int_equal(tug_prompt_cache_n_sessions(pc), 3);
    assert_int_equal(tug_prompt_cache_n_ctx(pc), N_CTX);
    tug_prompt_cache_destroy(&pc);
    pc = cache_of(8, 1);
    assert_int_equal(tug_prompt_cache_n_sessions(pc), 1);
    text t = {0};
    add(&t, 1, 30);
    tug_prompt_lease lease = take(pc, &t);
    assert_int_equal(tug_session_append(lease.session, t.ids, t.n, NULL), TUG_OK);
    assert_false(tug_prompt_cache_save(pc, &lease)); /* no room, no error */
    tug_prompt_cache_give(pc, &lease);
    add(&t, 2, 10);
    lease = take(pc, &t);
    assert_int_equal(lease.n_reused, 30);
    tug_prompt_cache_give(pc, &lease);
    tug_prompt_cache_destroy(&pc);
}

/* The first save point and the last two stay, the others spread over what is between. */
static void save_points_spread(void **state) {
    (void)state;
    tug_prompt_cache *pc = cache_of(1, 0);
    text t = {0};
    add(&t, 1, 640);
    tug_prompt_lease lease = take(pc, &t);
    for (int64_t at = 10; at <= 640; at += 10) prefill(pc, &lease, &t, at);
    tug_prompt_cache_give(pc, &lease);
    int64_t before = 0, widest = 0;
    for (int64_t n = 640; n >= 10; n -= 10) { /* from the end: each take shortens it */
        text part = t;
        part.n = n;
        lease = take(pc, &part);
        if (before && before - lease.n_reused > widest) widest = before - lease.n_reused;
        if (n == 640) assert_int_equal(lease.n_reused, 640);
        if (n == 639) assert_int_equal(lease.n_reused, 630);
        before = lease.n_reused;
        tug_prompt_cache_give(pc, &lease);
    }
    assert_int_equal(before, 10);
    assert_true(widest <= 240); /* a fair share is 126 */
    tug_prompt_cache_destroy(&pc);
}

/* ---- anything ------------------------------------------------------------------------ */

enum { N_TALKS = 5, N_OUT = 2 };

static int64_t below(tug_rng *rng, int64_t n) {
    return (int64_t)(tug_rng_u64(rng) % (uint64_t)n);
}

/* Conversations that share heads, in any order, some cut off, some two at a time. */
static void random_requests(uint64_t seed, uint64_t ceiling, int32_t n_sessions) {
    static text talk[N_TALKS];
    tug_prompt_cache *pc = cache_of(n_sessions, ceiling);
    tug_rng rng;
    tug_rng_seed(&rng, seed);
    for (uint64_t i = 0; i < (uint64_t)N_TALKS; i++) {
        talk[i].n = 0;
        add(&talk[i], i % 2, 40);
        add(&talk[i], 100 + i, 10);
    }
    tug_prompt_lease out[N_OUT] = {{0}};
    const text *of[N_OUT] = {NULL};
    for (int step = 0; step < 120; step++) {
        const int k = (int)below(&rng, N_OUT);
        if (out[k].session) { /* it goes on, as it was promised */
            const int64_t at = tug_session_n_tokens(out[k].session);
            const int64_t left = of[k]->n - at;
            const int64_t n = left > 0 ? 1 + below(&rng, left) : 0;
            text sofar = *of[k];
            sofar.n = at + n;
            if (n > 0) {
                assert_int_equal(
                    tug_session_append(out[k].session, sofar.ids + at, n, NULL), TUG_OK);
            }
            expect_state(out[k].session, &sofar);
            if (below(&rng, 2)) (void)tug_prompt_cache_save(pc, &out[k]);
            tug_prompt_cache_give(pc, &out[k]);
            continue;
        }
        text *t = &talk[below(&rng, N_TALKS)];
        if (t == of[1 - k] && out[1 - k].session) continue;
        if (t->n > 50 && below(&rng, 3) == 0) {
            t->n = 40 + below(&rng, t->n - 40);
        }
        if (t->n < 300)
            add(t, tug_rng_u64(&rng) % 1000, 1 + (int)(tug_rng_u64(&rng) % 40));
        const tug_prompt_want want = {.ids = t->ids, .n = t->n, .reuse = true};
        const tug_status s = tug_prompt_cache_take(pc, &want, &out[k], NULL);
        if (s == TUG_EBUSY) continue; /* the other one is out */
        assert_int_equal(s, TUG_OK);
        of[k] = t;
        text known = *t;
        known.n = out[k].n_reused;
        if (known.n > 0) expect_state(out[k].session, &known);
    }
    for (int k = 0; k < N_OUT; k++) tug_prompt_cache_give(pc, &out[k]);
    const tug_prompt_cache_stats s = tug_prompt_cache_get_stats(pc);
    assert_true(s.n_hits > s.n_takes / 4);
    assert_int_equal(s.n_leased, 0);
    if (ceiling) assert_true(held(pc) <= ceiling);
    tug_prompt_cache_destroy(&pc);
}

static void any_order_gives_the_same(void **state) {
    (void)state;
    const tug_session_memory m = tug_session_get_memory(plain);
    for (uint64_t seed = 1; seed <= 6; seed++) {
        random_requests(seed, 0, 1 + (int32_t)(seed % 4));
        random_requests(seed, 9 * m.per_mark + 700 * m.per_token, 3);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_turns_compute_only_what_is_new),
        cmocka_unit_test(goes_back_as_far_as_it_must),
        cmocka_unit_test(keeps_what_was_computed_before_a_cancel),
        cmocka_unit_test(reuse_can_be_refused),
        cmocka_unit_test(side_requests_leave_the_main_one_alone),
        cmocka_unit_test(a_shared_head_is_copied),
        cmocka_unit_test(a_small_change_needs_no_copy),
        cmocka_unit_test(an_old_conversation_goes_at_last),
        cmocka_unit_test(what_others_hold_is_worth_less),
        cmocka_unit_test(keys_see_nothing_of_each_other),
        cmocka_unit_test(says_when_it_has_none),
        cmocka_unit_test(survives_going_back_in_a_lease),
        cmocka_unit_test(stays_below_its_ceiling),
        cmocka_unit_test(what_is_copied_from_stays),
        cmocka_unit_test(three_save_points_stay),
        cmocka_unit_test(a_low_ceiling_makes_fewer_sessions),
        cmocka_unit_test(save_points_spread),
        cmocka_unit_test(any_order_gives_the_same),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
