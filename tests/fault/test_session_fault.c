/* test_session_fault.c - opening a model and running it while memory runs out or the
 * disk fails, at every call in turn: one sentence, nothing left behind, no crash.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "fault/fault.h"
#include "tug.h"
#include "tug_profile.h"

#define MODEL "tests/golden/data/deep-mixed.gguf"

/* A model, a session, a prompt in two calls, one more token; then back to the prompt and on
 * with another token, and to the end again. */
static tug_status use_model(tug_err *err) {
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    tug_model *model = NULL;
    tug_session *session = NULL;
    tug_session_mark *prompt = NULL, *end = NULL;
    tug_status s =
        tug_model_open(&model, &(tug_model_params){.path = MODEL, .n_threads = 1}, err);
    if (s == TUG_OK) {
        s = tug_session_create(&session, model, &(tug_session_params){.n_ctx = 64}, err);
    }
    if (s == TUG_OK) s = tug_session_append(session, ids, 8, err);
    if (s == TUG_OK) s = tug_session_save(session, &prompt, err);
    if (s == TUG_OK) s = tug_session_append(session, ids + 8, 1, err);
    if (s == TUG_OK) s = tug_session_save(session, &end, err);
    if (s == TUG_OK) s = tug_session_restore(session, prompt, err);
    if (s == TUG_OK) s = tug_session_append(session, ids, 1, err);
    if (s == TUG_OK) s = tug_session_restore(session, end, err);
    if (s == TUG_OK) s = tug_model_profile_start(model, err);
    tug_session_mark_destroy(&prompt);
    tug_session_mark_destroy(&end);
    tug_session_destroy(&session);
    tug_model_close(&model);
    return s;
}

static void check_clean(tug_status s, const tug_err *err) {
    if (s != TUG_OK) {
        assert_int_equal(err->code, s);
        assert_true(strlen(err->msg) > 10);
    }
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_live_maps(), 0);
    assert_int_equal(fault_live_files(), 0);
}

static void every_allocation_fails_once(void **state) {
    (void)state;
    uint64_t n = 1;
    for (bool hit = true; hit; n++) {
        tug_err err = {0};
        fault_fail_alloc(n);
        const tug_status s = use_model(&err);
        check_clean(s, &err);
        hit = fault_stop();
        if (hit)
            assert_int_equal(s, TUG_ENOMEM);
        else
            assert_int_equal(s, TUG_OK);
    }
    assert_true(n > 50);
}

static void every_file_call_fails_once(void **state) {
    (void)state;
    static const int how[] = {EIO, ENOMEM, EINTR};
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        uint64_t n = 1;
        for (bool hit = true; hit; n++) {
            tug_err err = {0};
            fault_fail_once(FAULT_OPEN | FAULT_FSTAT | FAULT_READ | FAULT_MMAP, n,
                            how[i]);
            const tug_status s = use_model(&err);
            check_clean(s, &err);
            hit = fault_stop();
        }
        assert_true(n > 4);
    }
}

/* A session that could not be made must not hurt the one that is there: both work in the
 * backend's scratch. */
static void a_failed_session_leaves_the_others_alone(void **state) {
    (void)state;
    static const int32_t ids[] = {9, 8, 7, 6, 5, 4, 3, 2};
    enum { N_VOCAB = 320 };
    tug_model *model = NULL;
    tug_session *first = NULL, *second = NULL;
    float want[N_VOCAB];
    const tug_model_params mp = {.path = MODEL, .n_threads = 1};
    assert_int_equal(tug_model_open(&model, &mp, NULL), TUG_OK);
    assert_int_equal(tug_model_get_info(model).n_vocab, N_VOCAB);
    const tug_session_params small = {.n_ctx = 8, .n_batch = 8};
    const tug_session_params large = {.n_ctx = 64, .n_batch = 64};
    assert_int_equal(tug_session_create(&first, model, &small, NULL), TUG_OK);
    assert_int_equal(tug_session_append(first, ids, 8, NULL), TUG_OK);
    memcpy(want, tug_session_logits(first), sizeof want);
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        fault_fail_alloc(n);
        const tug_status s = tug_session_create(&second, model, &large, NULL);
        hit = fault_stop();
        assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
        tug_session_destroy(&second);
        tug_session_reset(first);
        assert_int_equal(tug_session_append(first, ids, 8, NULL), TUG_OK);
        assert_memory_equal(tug_session_logits(first), want, sizeof want);
    }
    tug_session_destroy(&first);
    tug_model_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(every_file_call_fails_once),
        cmocka_unit_test(a_failed_session_leaves_the_others_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
