/* test_generation.c - the step loop over a small random model: every reason to end, stop
 * strings against the whole text, and what the session holds afterwards.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "fault/fault.h"
#include "tokenizer/tokenizer.h"
#include "tug.h"

#define MODEL "tests/golden/data/small-f32.gguf"

enum { N_PROMPT = 4, N_TOKENS = 40 };
/* The model goes on after the first, and ends its text after the second. */
static const int32_t endless[N_PROMPT] = {1, 2, 3, 4};
static const int32_t ending[N_PROMPT] = {104, 105, 32, 119};
static const int32_t *prompt = endless;

static tug_model *model; /* NULL: the file is not there */

static int open_model(void **state) {
    (void)state;
    if (access(MODEL, R_OK) != 0) return 0;
    tug_err err;
    const tug_model_params params = {.path = MODEL, .n_threads = 1};
    if (tug_model_open(&model, &params, &err) == TUG_OK) return 0;
    (void)printf("%s\n", err.msg);
    return -1;
}

static int close_model(void **state) {
    (void)state;
    tug_model_close(&model);
    return 0;
}

static void need_model(void) {
    if (model) return;
    (void)printf("skip: %s is not there\n", MODEL);
    skip();
}

/* ---- a greedy generation after `prompt` -------------------------------------------- */

typedef struct fixture {
    tug_session *session;
    tug_sampler *sampler;
    tug_generation *generation;
    int32_t ids[N_TOKENS];
    int n;
    tug_buf text;
    tug_finish finish;
} fixture;

static tug_status start(fixture *f, int64_t n_ctx, const tug_generation_params *params,
                        tug_err *err) {
    const tug_sampler_params greedy = {.top_p = 1.0f, .repeat_penalty = 1.0f};
    *f = (fixture){0};
    TUG_TRY(tug_session_create(&f->session, model, &(tug_session_params){.n_ctx = n_ctx},
                               err));
    TUG_TRY(tug_session_append(f->session, prompt, N_PROMPT, err));
    TUG_TRY(
        tug_sampler_create(&f->sampler, tug_model_get_info(model).n_vocab, &greedy, err));
    return tug_generation_create(&f->generation, model, f->session, f->sampler, params,
                                 err);
}

static tug_status step(fixture *f, tug_err *err) {
    tug_generated out;
    TUG_TRY(tug_generation_step(f->generation, &out, err));
    assert_true(f->n < N_TOKENS);
    f->ids[f->n++] = out.id;
    tug_buf_append(&f->text, out.text, out.n_text);
    f->finish = out.finish;
    return tug_buf_ok(&f->text, err);
}

static tug_status run(fixture *f, int64_t n_ctx, const tug_generation_params *params,
                      tug_err *err) {
    TUG_TRY(start(f, n_ctx, params, err));
    while (f->finish == TUG_FINISH_NONE) TUG_TRY(step(f, err));
    return TUG_OK;
}

static void stop(fixture *f) {
    tug_generation_destroy(&f->generation);
    tug_sampler_destroy(&f->sampler);
    tug_session_destroy(&f->session);
    tug_buf_free(&f->text);
}

static void must_run(fixture *f, int64_t n_ctx, const tug_generation_params *params) {
    tug_err err = {.msg = ""};
    if (run(f, n_ctx, params, &err) != TUG_OK) fail_msg("%s", err.msg);
}

/* ---- tests ------------------------------------------------------------------------- */

static void test_length_and_what_the_session_holds(void **state) {
    (void)state;
    need_model();
    fixture f;
    for (int n = 1; n < 4; n++) {
        must_run(&f, 64, &(tug_generation_params){.max_tokens = n});
        assert_int_equal(f.finish, TUG_FINISH_LENGTH);
        assert_int_equal(f.n, n);
        assert_int_equal(tug_session_n_tokens(f.session), N_PROMPT + n - 1);
        assert_int_equal(tug_generation_pending(f.generation), f.ids[n - 1]);
        tug_generated out;
        tug_err err;
        assert_int_equal(tug_generation_step(f.generation, &out, &err), TUG_ESTATE);
        stop(&f);
    }
}

static void test_context_end(void **state) {
    (void)state;
    need_model();
    fixture whole, f;
    must_run(&whole, 256, &(tug_generation_params){.max_tokens = N_TOKENS});
    must_run(&f, N_PROMPT + 5, NULL);
    assert_int_equal(f.finish, TUG_FINISH_CONTEXT);
    assert_int_equal(f.n, 6); /* the sixth is sampled, but has no place to be computed */
    assert_int_equal(tug_session_n_tokens(f.session), N_PROMPT + 5);
    assert_memory_equal(f.ids, whole.ids, 6 * sizeof *f.ids);
    stop(&f);
    stop(&whole);
}

static void test_end_of_text(void **state) {
    (void)state;
    need_model();
    fixture f;
    prompt = ending;
    must_run(&f, 256, NULL);
    prompt = endless;
    assert_int_equal(f.finish, TUG_FINISH_EOS);
    const int32_t last = f.ids[f.n - 1];
    const tug_tokenizer *vocab = tug_model_tokenizer(model);
    assert_true(tug_tokenizer_is_eog(vocab, last));
    assert_int_equal(tug_generation_pending(f.generation), last);
    assert_null(memmem(f.text.p, f.text.n, "<|", 2)); /* it is no part of the text */
    stop(&f);
}

/* Stop strings cut out of the text itself, so that they begin and end anywhere in tokens:
 * the result is the text up to the first place where one occurs. */
static void test_stop_strings_anywhere_in_the_text(void **state) {
    (void)state;
    need_model();
    fixture whole;
    must_run(&whole, 256, &(tug_generation_params){.max_tokens = N_TOKENS});
    assert_int_equal(whole.n, N_TOKENS);
    int tried = 0;
    for (size_t at = 0; at + 8 < whole.text.n; at += 2) {
        char needle[8] = {0};
        memcpy(needle, whole.text.p + at, 1 + at % 7);
        if (strlen(needle) != 1 + at % 7) continue; /* a NUL ends no C string */
        const char *needles[] = {"no such text", needle};
        const char *hit = memmem(whole.text.p, whole.text.n, needle, strlen(needle));
        fixture f;
        must_run(&f, 256,
                 &(tug_generation_params){
                     .max_tokens = N_TOKENS, .stop = needles, .n_stop = 2});
        assert_int_equal(f.finish, TUG_FINISH_STOP);
        assert_int_equal(f.text.n, hit - whole.text.p);
        if (f.text.n) assert_memory_equal(f.text.p, whole.text.p, f.text.n);
        assert_memory_equal(f.ids, whole.ids, (size_t)f.n * sizeof *f.ids);
        stop(&f);
        tried++;
    }
    assert_true(tried > 10);
    stop(&whole);
}

static void test_cancel_hands_over_held_text(void **state) {
    (void)state;
    need_model();
    fixture whole, f;
    tug_generated out;
    tug_err err;
    must_run(&whole, 256, &(tug_generation_params){.max_tokens = N_TOKENS});
    /* A stop string that begins like the text keeps the beginning back. */
    char needle[8] = {0};
    memcpy(needle, whole.text.p, 2);
    memcpy(needle + 2, "\x01no", 3);
    const char *needles[] = {needle};
    assert_int_equal(
        start(&f, 64, &(tug_generation_params){.stop = needles, .n_stop = 1}, &err),
        TUG_OK);
    while (f.n < 3) assert_int_equal(step(&f, &err), TUG_OK);
    assert_int_equal(tug_generation_cancel(f.generation, &out, &err), TUG_OK);
    assert_int_equal(out.finish, TUG_FINISH_CANCELED);
    tug_buf_append(&f.text, out.text, out.n_text);
    assert_true(f.text.n >= 2);
    assert_memory_equal(f.text.p, whole.text.p, 2);
    assert_int_equal(tug_generation_cancel(f.generation, &out, &err),
                     TUG_OK); /* twice is fine */
    assert_int_equal(out.n_text, 0);
    stop(&f);
    stop(&whole);
}

static void test_needs_logits(void **state) {
    (void)state;
    need_model();
    tug_err err = {.msg = ""};
    fixture f = {0};
    assert_int_equal(tug_session_create(&f.session, model, NULL, &err), TUG_OK);
    assert_int_equal(
        tug_generation_create(&f.generation, model, f.session, NULL, NULL, &err),
        TUG_ESTATE);
    assert_non_null(strstr(err.msg, "append"));
    stop(&f);
}

static void test_every_allocation_may_fail(void **state) {
    (void)state;
    need_model();
    const char *needles[] = {"never"};
    const tug_generation_params params = {.max_tokens = 3, .stop = needles, .n_stop = 1};
    uint64_t n = 1;
    for (;; n++) {
        tug_err err = {.msg = ""};
        fixture f;
        fault_fail_alloc(n);
        const tug_status status = run(&f, 64, &params, &err);
        stop(&f);
        assert_int_equal(fault_live_blocks(), 0);
        if (!fault_stop()) {
            assert_int_equal(status, TUG_OK);
            break;
        }
        assert_int_equal(status, TUG_ENOMEM);
        assert_true(strlen(err.msg) > 10);
    }
    assert_true(n > 5);
}

/* ---- a rule ------------------------------------------------------------------------ */

typedef struct odd_only {
    bool none;
    int n_asked;
} odd_only;

static bool allow_odd(void *ud, int32_t id) {
    odd_only *const r = ud;
    r->n_asked++;
    return !r->none && id % 2 == 1;
}

static void test_rule_decides_every_token(void **state) {
    (void)state;
    need_model();
    fixture f;
    odd_only r = {.none = false};
    must_run(
        &f, 64,
        &(tug_generation_params){.max_tokens = 20, .rule = allow_odd, .rule_ud = &r});
    for (int i = 0; i < f.n; i++) assert_int_equal(f.ids[i] % 2, 1);
    assert_true(r.n_asked >= f.n);
    stop(&f);
}

/* One sentence; with a milder rule the same generation goes on. */
static void test_rule_that_allows_nothing(void **state) {
    (void)state;
    need_model();
    fixture f, whole;
    odd_only r = {.none = false};
    const tug_generation_params params = {
        .max_tokens = 5, .rule = allow_odd, .rule_ud = &r};
    must_run(&whole, 64, &params);
    tug_err err = {.msg = ""};
    assert_int_equal(start(&f, 64, &params, &err), TUG_OK);
    assert_int_equal(step(&f, &err), TUG_OK);
    r.none = true;
    assert_int_equal(step(&f, &err), TUG_ESTATE);
    assert_non_null(strstr(err.msg, "rule"));
    r.none = false;
    while (f.finish == TUG_FINISH_NONE) assert_int_equal(step(&f, &err), TUG_OK);
    assert_int_equal(f.n, whole.n);
    assert_memory_equal(f.ids, whole.ids, (size_t)f.n * sizeof *f.ids);
    stop(&f);
    stop(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_length_and_what_the_session_holds),
        cmocka_unit_test(test_context_end),
        cmocka_unit_test(test_end_of_text),
        cmocka_unit_test(test_stop_strings_anywhere_in_the_text),
        cmocka_unit_test(test_cancel_hands_over_held_text),
        cmocka_unit_test(test_needs_logits),
        cmocka_unit_test(test_rule_decides_every_token),
        cmocka_unit_test(test_rule_that_allows_nothing),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("generation", tests, open_model, close_model);
}
