/* test_fork.c - sessions that share the model's work space leave each other alone, a fork
 * goes on exactly as its source, and a session knows its tokens and its bytes.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tug.h"

#define MODEL "tests/golden/data/small-f32.gguf"

enum { N_VOCAB = 300, N_CTX = 200 };

static tug_model *model;

static int open_model(void **state) {
    (void)state;
    const tug_model_params mp = {.path = MODEL, .n_threads = 2};
    assert_int_equal(tug_model_open(&model, &mp, NULL), TUG_OK);
    assert_int_equal(tug_model_get_info(model).n_vocab, N_VOCAB);
    return 0;
}

static int close_model(void **state) {
    (void)state;
    tug_model_close(&model);
    return 0;
}

static tug_session *session_of(int64_t n_ctx, int64_t n_batch, tug_kv_cache_type kv) {
    tug_session *s = NULL;
    const tug_session_params sp = {.n_ctx = n_ctx, .n_batch = n_batch, .kv_type = kv};
    assert_int_equal(tug_session_create(&s, model, &sp, NULL), TUG_OK);
    return s;
}

/* Tokens [begin, end) of text `which`. */
static void append(tug_session *s, int which, int begin, int end) {
    int32_t ids[N_CTX];
    for (int i = begin; i < end; i++) ids[i - begin] = (i * 37 + which * 11) % N_VOCAB;
    assert_int_equal(tug_session_append(s, ids, end - begin, NULL), TUG_OK);
}

static void expect_same(const tug_session *a, const tug_session *b) {
    int64_t n_a = 0, n_b = 0;
    const int32_t *ids_a = tug_session_tokens(a, &n_a);
    const int32_t *ids_b = tug_session_tokens(b, &n_b);
    assert_int_equal(n_a, n_b);
    assert_memory_equal(ids_a, ids_b, (size_t)n_a * sizeof *ids_a);
    assert_memory_equal(tug_session_logits(a), tug_session_logits(b),
                        N_VOCAB * sizeof(float));
}

static void sessions_leave_each_other_alone(void **state) {
    (void)state;
    tug_session *a = session_of(64, 8, TUG_KV_CACHE_AUTO);
    append(a, 0, 0, 20);
    float want[N_VOCAB];
    memcpy(want, tug_session_logits(a), sizeof want);
    tug_session *b = session_of(64, 32, TUG_KV_CACHE_AUTO); /* the work space grows */
    tug_session *c = session_of(64, 1, TUG_KV_CACHE_AUTO);
    append(b, 1, 0, 40);
    append(c, 2, 0, 3);
    assert_memory_equal(tug_session_logits(a), want, sizeof want);
    assert_int_equal(tug_session_n_batch(a), 8);
    assert_int_equal(tug_session_n_batch(b), 32);
    for (int i = 20; i < 30; i++) { /* token by token, in turns */
        append(a, 0, i, i + 1);
        append(c, 0, i - 17, i - 16);
    }
    tug_session_destroy(&b);
    tug_session *d = session_of(64, 64, TUG_KV_CACHE_AUTO);
    append(d, 0, 0, 30);
    expect_same(a, d);
    tug_session_destroy(&a);
    tug_session_destroy(&c);
    tug_session_destroy(&d);
}

static bool cancel(void *ud, uint64_t done, uint64_t total) {
    (void)total;
    return done < *(const uint64_t *)ud;
}

static void knows_its_tokens_after_a_cancel(void **state) {
    (void)state;
    uint64_t until = 16;
    tug_session *s = NULL, *plain = session_of(64, 8, TUG_KV_CACHE_AUTO);
    const tug_session_params sp = {
        .n_ctx = 64, .n_batch = 8, .on_prefill = cancel, .ud = &until};
    assert_int_equal(tug_session_create(&s, model, &sp, NULL), TUG_OK);
    int32_t ids[40];
    for (int i = 0; i < 40; i++) ids[i] = (i * 37) % N_VOCAB;
    assert_int_equal(tug_session_append(s, ids, 40, NULL), TUG_ECANCELED);
    append(plain, 0, 0, 16);
    expect_same(s, plain);
    ids[3] = N_VOCAB; /* refused as a whole */
    assert_int_equal(tug_session_append(s, ids, 8, NULL), TUG_ERANGE);
    expect_same(s, plain);
    int64_t n = -1;
    tug_session_reset(s);
    tug_session_tokens(s, &n);
    assert_int_equal(n, 0);
    tug_session_destroy(&s);
    tug_session_destroy(&plain);
}

static void a_fork_goes_on_as_its_source(tug_kv_cache_type kv) {
    tug_session *a = session_of(N_CTX, 64, kv), *b = session_of(150, 16, kv);
    tug_session *plain = session_of(N_CTX, 64, kv);
    tug_session_mark *early = NULL, *late = NULL, *other = NULL;
    append(a, 0, 0, 70);
    assert_int_equal(tug_session_save(a, &early, NULL), TUG_OK);
    append(a, 0, 70, 140);
    assert_int_equal(tug_session_save(a, &late, NULL), TUG_OK);
    append(b, 5, 0, 90);
    assert_int_equal(tug_session_save(b, &other, NULL), TUG_OK);

    assert_int_equal(tug_session_fork(b, a, early, NULL), TUG_OK);
    assert_int_equal(tug_session_restore(b, other, NULL), TUG_ESTATE);
    append(plain, 0, 0, 70);
    expect_same(b, plain);
    append(b, 1, 70, 100);
    append(plain, 1, 70, 100);
    expect_same(b, plain);

    /* A mark whose rows the source has overwritten and keeps aside. */
    assert_int_equal(tug_session_restore(a, early, NULL), TUG_OK);
    append(a, 2, 70, 90);
    assert_int_equal(tug_session_fork(b, a, late, NULL), TUG_OK);
    tug_session_reset(plain);
    append(plain, 0, 0, 140);
    expect_same(b, plain);
    append(b, 0, 140, 150);
    append(plain, 0, 140, 150);
    expect_same(b, plain);

    /* Where the source is now. */
    assert_int_equal(tug_session_fork(b, a, NULL, NULL), TUG_OK);
    expect_same(b, a);
    append(a, 3, 90, 95);
    append(b, 3, 90, 95);
    expect_same(b, a);
    tug_session_mark_destroy(&early);
    tug_session_mark_destroy(&late);
    tug_session_mark_destroy(&other);
    tug_session_destroy(&a);
    tug_session_destroy(&b);
    tug_session_destroy(&plain);
}

static void forks_of_every_cache_type(void **state) {
    (void)state;
    a_fork_goes_on_as_its_source(TUG_KV_CACHE_F32);
    a_fork_goes_on_as_its_source(TUG_KV_CACHE_F16);
    a_fork_goes_on_as_its_source(TUG_KV_CACHE_Q8_0);
    a_fork_goes_on_as_its_source(TUG_KV_CACHE_I16);
}

static void refuses_a_fork_that_cannot_be(void **state) {
    (void)state;
    tug_session *a = session_of(64, 8, TUG_KV_CACHE_F32);
    tug_session *b = session_of(64, 8, TUG_KV_CACHE_F16);
    tug_session *c = session_of(16, 8, TUG_KV_CACHE_F32);
    tug_session_mark *mark = NULL;
    tug_err err;
    append(a, 0, 0, 20);
    append(c, 1, 0, 5);
    assert_int_equal(tug_session_save(c, &mark, NULL), TUG_OK);
    assert_int_equal(tug_session_fork(a, a, NULL, &err), TUG_ESTATE);
    assert_int_equal(tug_session_fork(b, a, NULL, &err), TUG_ESTATE);
    assert_int_equal(tug_session_fork(c, a, NULL, &err), TUG_ERANGE);
    assert_int_equal(tug_session_fork(c, a, mark, &err), TUG_ESTATE);
    assert_int_equal(tug_session_n_tokens(c), 5);
    assert_int_equal(tug_session_restore(c, mark, NULL),
                     TUG_OK); /* nothing has changed */
    tug_session_mark_destroy(&mark);
    tug_session_destroy(&a);
    tug_session_destroy(&b);
    tug_session_destroy(&c);
}

static void memory_follows_what_is_held(void **state) {
    (void)state;
    tug_session *s = session_of(N_CTX, 64, TUG_KV_CACHE_F32), *plain;
    tug_session_mark *early = NULL, *late = NULL;
    tug_session_memory m = tug_session_get_memory(s);
    assert_true(m.kv == 0 && m.marks == 0 && m.recurrent >= N_VOCAB * sizeof(float));
    append(s, 0, 0, 100);
    assert_int_equal(tug_session_save(s, &early, NULL), TUG_OK);
    append(s, 0, 100, 190);
    assert_int_equal(tug_session_save(s, &late, NULL), TUG_OK);
    m = tug_session_get_memory(s);
    assert_true(m.kv == 190 * m.per_token && m.per_token > 0);
    assert_true(m.marks == 2 * m.per_mark && m.per_mark == m.recurrent);

    assert_int_equal(tug_session_restore(s, early, NULL), TUG_OK);
    assert_true(tug_session_get_memory(s).kv == 190 * m.per_token); /* late needs it */
    tug_session_trim(s);
    assert_true(tug_session_get_memory(s).kv == 100 * m.per_token);
    assert_int_equal(tug_session_restore(s, late, NULL), TUG_ESTATE);
    append(s, 1, 100, 150);
    plain = session_of(N_CTX, 64, TUG_KV_CACHE_F32);
    append(plain, 0, 0, 100);
    append(plain, 1, 100, 150);
    expect_same(s, plain);
    tug_session_mark_destroy(&late);
    assert_true(tug_session_get_memory(s).marks == m.per_mark);
    tug_session_mark_destroy(&early);
    tug_session_destroy(&s);
    tug_session_destroy(&plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_leave_each_other_alone),
        cmocka_unit_test(knows_its_tokens_after_a_cancel),
        cmocka_unit_test(forks_of_every_cache_type),
        cmocka_unit_test(refuses_a_fork_that_cannot_be),
        cmocka_unit_test(memory_follows_what_is_held),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
