/* test_cache_fault.c - a server's prompt cache while memory runs out, at every allocation
 * in turn: it is there or it is not, and what it gives is right.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fault/fault.h"
#include "serve/prompt_cache.h"

#define MODEL "tests/golden/data/deep-mixed.gguf"

enum { N_VOCAB = 320, N = 24 };

static tug_model *model;

static int open_model(void **state) {
    (void)state;
    const tug_model_params mp = {.path = MODEL, .n_threads = 1};
    assert_int_equal(tug_model_open(&model, &mp, NULL), TUG_OK);
    assert_int_equal(tug_model_get_info(model).n_vocab, N_VOCAB);
    return 0;
}

static int close_model(void **state) {
    (void)state;
    tug_model_close(&model);
    return 0;
}

static tug_status create(tug_prompt_cache **pc, tug_err *err) {
    const tug_prompt_cache_params p = {
        .max_sessions = 2, .n_ctx = 64, .n_batch = 8, .small_tail = 2};
    return tug_prompt_cache_create(pc, model, &p, err);
}

static void fill(int32_t *ids, int head, int which) {
    for (int i = 0; i < N; i++) ids[i] = (i * 7 + (i < head ? 1 : which)) % N_VOCAB;
}

/* Conversations that share half of their prompts, each with save points; leaves the logits
 * of the last one. */
static void use(tug_prompt_cache *pc, float *logits) {
    int32_t ids[N];
    for (int which = 1; which <= 4; which++) {
        tug_prompt_lease lease;
        fill(ids, N / 2, which);
        const tug_prompt_want want = {.ids = ids, .n = N, .reuse = true};
        assert_int_equal(tug_prompt_cache_take(pc, &want, &lease, NULL), TUG_OK);
        for (int64_t at = lease.n_reused; at < N;) {
            const int64_t end = at < N / 2 ? N / 2 : N;
            assert_int_equal(tug_session_append(lease.session, ids + at, end - at, NULL),
                             TUG_OK);
            (void)tug_prompt_cache_save(pc, &lease);
            at = end;
        }
        memcpy(logits, tug_session_logits(lease.session), N_VOCAB * sizeof *logits);
        tug_prompt_cache_give(pc, &lease);
    }
}

static void is_made_with_what_there_is(void **state) {
    (void)state;
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        tug_prompt_cache *pc = NULL;
        tug_err err = {0};
        fault_fail_alloc(n);
        const tug_status s = create(&pc, &err);
        hit = fault_stop();
        if (s == TUG_OK) {
            const int32_t n_sessions = tug_prompt_cache_n_sessions(pc);
            assert_true(hit ? n_sessions == 1 : n_sessions == 2);
        } else {
            assert_int_equal(s, TUG_ENOMEM);
            assert_true(strlen(err.msg) > 10);
            assert_null(pc);
        }
        tug_prompt_cache_destroy(&pc);
    }
}

static void no_request_fails_for_want_of_save_points(void **state) {
    (void)state;
    tug_prompt_cache *pc = NULL;
    float want[N_VOCAB], logits[N_VOCAB];
    assert_int_equal(create(&pc, NULL), TUG_OK);
    use(pc, want);
    const tug_prompt_cache_stats all = tug_prompt_cache_get_stats(pc);
    assert_true(all.n_forks > 0 && all.n_hits > 0);
    tug_prompt_cache_destroy(&pc);
    bool hit = true;
    uint64_t n = 1;
    for (; hit; n++) {
        assert_int_equal(create(&pc, NULL), TUG_OK);
        fault_fail_alloc(n);
        use(pc, logits);
        assert_int_equal(tug_prompt_cache_get_stats(pc).n_leased, 0);
        hit = fault_stop();
        assert_memory_equal(logits, want, sizeof want);
        tug_prompt_cache_destroy(&pc);
    }
    assert_true(n > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_made_with_what_there_is),
        cmocka_unit_test(no_request_fails_for_want_of_save_points),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
