/* test_savepoint.c - a restored session goes on exactly as one that never left, and the
 * profile of a model counts what its tensors say.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine_impl.h"
#include "tug_profile.h"

#define MODEL "tests/golden/data/small-f32.gguf"

enum { N_VOCAB = 300, N_CTX = 64 };

typedef struct fixture {
    tug_model *model;
    tug_session *session, *plain; /* the second one never restores anything */
} fixture;

static int setup(void **state) {
    static fixture f;
    const tug_model_params mp = {.path = MODEL, .n_threads = 2};
    const tug_session_params sp = {.n_ctx = N_CTX, .n_batch = 8};
    assert_int_equal(tug_model_open(&f.model, &mp, NULL), TUG_OK);
    assert_int_equal(tug_model_get_info(f.model).n_vocab, N_VOCAB);
    assert_int_equal(tug_session_create(&f.session, f.model, &sp, NULL), TUG_OK);
    assert_int_equal(tug_session_create(&f.plain, f.model, &sp, NULL), TUG_OK);
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    tug_session_destroy(&f->session);
    tug_session_destroy(&f->plain);
    tug_model_close(&f->model);
    return 0;
}

/* Tokens [begin, end) of text `which`. */
static void append(tug_session *s, int which, int begin, int end) {
    int32_t ids[N_CTX];
    for (int i = begin; i < end; i++) ids[i - begin] = (i * 37 + which * 11) % N_VOCAB;
    assert_int_equal(tug_session_append(s, ids, end - begin, NULL), TUG_OK);
}

/* Is `session` where text a [0, n_a) followed by text b [n_a, n) leads? */
static void expect_text(fixture *f, int a, int n_a, int b, int n) {
    tug_session_reset(f->plain);
    append(f->plain, a, 0, n_a);
    if (n > n_a) append(f->plain, b, n_a, n);
    assert_int_equal(tug_session_n_tokens(f->session), n);
    int64_t n_ids = 0;
    const int32_t *ids = tug_session_tokens(f->session, &n_ids);
    assert_int_equal(n_ids, n);
    assert_memory_equal(ids, tug_session_tokens(f->plain, &n_ids),
                        (size_t)n * sizeof *ids);
    assert_memory_equal(tug_session_logits(f->session), tug_session_logits(f->plain),
                        N_VOCAB * sizeof(float));
}

static void restores_what_was_saved(void **state) {
    fixture *f = *state;
    tug_session_mark *start = NULL, *early = NULL, *late = NULL;
    assert_int_equal(tug_session_save(f->session, &start, NULL), TUG_OK);
    append(f->session, 0, 0, 12);
    assert_int_equal(tug_session_save(f->session, &early, NULL), TUG_OK);
    append(f->session, 0, 12, 30);
    assert_int_equal(tug_session_save(f->session, &late, NULL), TUG_OK);
    assert_int_equal(tug_session_mark_n_tokens(late), 30);

    for (int round = 1; round <= 3; round++) {
        /* Shorter and longer than what the late one needs, in one call and in several. */
        assert_int_equal(tug_session_restore(f->session, early, NULL), TUG_OK);
        expect_text(f, 0, 12, 0, 12);
        append(f->session, round, 12, 15);
        append(f->session, round, 15, 10 + 10 * round);
        expect_text(f, 0, 12, round, 10 + 10 * round);
        assert_int_equal(tug_session_restore(f->session, late, NULL), TUG_OK);
        expect_text(f, 0, 30, 0, 30);
        append(f->session, 0, 30, 33);
        expect_text(f, 0, 30, 0, 33);
    }
    assert_int_equal(tug_session_restore(f->session, start, NULL), TUG_OK);
    assert_null(tug_session_logits(f->session));
    append(f->session, 4, 0, 20);
    assert_int_equal(tug_session_restore(f->session, early, NULL), TUG_OK);
    expect_text(f, 0, 12, 0, 12);
    tug_session_reset(f->session);
    append(f->session, 5, 0, 40);
    assert_int_equal(tug_session_restore(f->session, late, NULL), TUG_OK);
    append(f->session, 0, 30, 31);
    expect_text(f, 0, 31, 0, 31);
    tug_session_mark_destroy(&start);
    tug_session_mark_destroy(&early);
    tug_session_mark_destroy(&late);
}

static void saving_elsewhere_loses_later_ones(void **state) {
    fixture *f = *state;
    tug_session_mark *early = NULL, *late = NULL, *other = NULL;
    tug_err err;
    tug_session_reset(f->session);
    append(f->session, 0, 0, 8);
    assert_int_equal(tug_session_save(f->session, &early, NULL), TUG_OK);
    append(f->session, 0, 8, 16);
    assert_int_equal(tug_session_save(f->session, &late, NULL), TUG_OK);
    assert_int_equal(tug_session_restore(f->session, early, NULL), TUG_OK);
    append(f->session, 1, 8, 12);
    assert_int_equal(tug_session_save(f->session, &other, NULL), TUG_OK);
    assert_int_equal(tug_session_restore(f->session, late, &err), TUG_ESTATE);
    assert_non_null(strstr(err.msg, "lost"));
    assert_int_equal(tug_session_n_tokens(f->session), 12);
    assert_int_equal(tug_session_restore(f->session, early, NULL), TUG_OK);
    assert_int_equal(tug_session_restore(f->session, other, NULL), TUG_OK);
    expect_text(f, 0, 8, 1, 12);
    /* A lost one can be moved and then is as good as new. */
    assert_int_equal(tug_session_save(f->session, &late, NULL), TUG_OK);
    append(f->session, 1, 12, 14);
    assert_int_equal(tug_session_restore(f->session, late, NULL), TUG_OK);
    assert_int_equal(tug_session_restore(f->plain, late, &err), TUG_ESTATE);
    assert_int_equal(tug_session_save(f->plain, &late, &err), TUG_ESTATE);
    tug_session_mark_destroy(&late);
    tug_session_mark_destroy(&other);
    tug_session_mark_destroy(&early);
    tug_session_mark_destroy(&early); /* NULL by now */
}

static void outlives_its_session(void **state) {
    fixture *f = *state;
    tug_session *session = NULL;
    tug_session_mark *mark = NULL;
    assert_int_equal(tug_session_create(&session, f->model, NULL, NULL), TUG_OK);
    append(session, 0, 0, 4);
    assert_int_equal(tug_session_save(session, &mark, NULL), TUG_OK);
    tug_session_destroy(&session);
    assert_int_equal(tug_session_restore(f->session, mark, NULL), TUG_ESTATE);
    tug_session_mark_destroy(&mark);
}

/* ---- profile ------------------------------------------------------------------------- */

static double bytes_of(const tug_weight *w) {
    return (double)w->n_rows * (double)w->row_bytes;
}

static void profile_counts_the_work(void **state) {
    fixture *f = *state;
    const tug_net *net = tug_model_net(f->model);
    tug_profile p;
    tug_model_profile_stop(f->model, &p); /* never started */
    assert_int_equal(p.n_tokens, 0);
    tug_session_reset(f->session);
    append(f->session, 0, 0, 8);
    assert_int_equal(tug_model_profile_start(f->model, NULL), TUG_OK);
    append(f->session, 0, 8, 9);
    tug_model_profile_stop(f->model, &p);
    assert_int_equal(p.n_tokens, 1);
    assert_int_equal(p.n_batches, 1);

    double experts = 0, router = 0;
    for (int i = 0; i < net->weights.n_layer; i++) {
        const tug_moe_weights *m = &net->weights.layer[i].moe;
        experts += net->shape.n_expert_used *
                   (bytes_of(&m->gate) + bytes_of(&m->up) + bytes_of(&m->down));
        router += bytes_of(&net->weights.layer[i].router.w);
    }
    const tug_stage_profile *s = p.stage;
    assert_true(s[TUG_STAGE_EXPERTS].work.bytes == experts);
    assert_true(s[TUG_STAGE_ROUTER].work.bytes == router);
    assert_true(s[TUG_STAGE_ROUTER].work.macs_f32 == router / 4); /* f32 weights */
    assert_true(s[TUG_STAGE_HEAD].work.bytes == bytes_of(&net->weights.head.w));
    assert_true(s[TUG_STAGE_EMBEDDING].work.bytes ==
                (double)net->weights.embedding.row_bytes);
    for (int i = TUG_STAGE_EMBEDDING; i < TUG_STAGE_SAMPLING; i++) {
        if (i == TUG_STAGE_SHARED) continue; /* its time is in EXPERTS */
        assert_true(s[i].seconds > 0);
        /* Every thread's second is busy, waiting or left alone. */
        const double all = s[i].busy_s + s[i].wait_s + s[i].alone_s;
        assert_true(all > 1.99 * s[i].seconds && all < 2.01 * s[i].seconds + 1e-5);
    }
    tug_model_profile_stop(f->model, &p); /* stopped already */
    assert_int_equal(p.n_tokens, 0);
}

static void batches_read_weights_once(void **state) {
    fixture *f = *state;
    tug_profile one, many;
    tug_session_reset(f->session);
    assert_int_equal(tug_model_profile_start(f->model, NULL), TUG_OK);
    append(f->session, 0, 0, 1);
    tug_model_profile_stop(f->model, &one);
    assert_int_equal(tug_model_profile_start(f->model, NULL), TUG_OK);
    append(f->session, 0, 1, 17); /* two batches of 8, one row of logits */
    tug_model_profile_stop(f->model, &many);
    assert_int_equal(many.n_batches, 2);
    assert_true(many.stage[TUG_STAGE_ROUTER].work.bytes ==
                2 * one.stage[TUG_STAGE_ROUTER].work.bytes);
    assert_true(many.stage[TUG_STAGE_ROUTER].work.macs_f32 ==
                16 * one.stage[TUG_STAGE_ROUTER].work.macs_f32);
    assert_true(many.stage[TUG_STAGE_HEAD].work.bytes ==
                one.stage[TUG_STAGE_HEAD].work.bytes);
    /* More than one token's experts, at most all of them twice. */
    const double per_token = one.stage[TUG_STAGE_EXPERTS].work.bytes;
    const double all = per_token * tug_model_net(f->model)->shape.n_expert /
                       tug_model_net(f->model)->shape.n_expert_used;
    assert_true(many.stage[TUG_STAGE_EXPERTS].work.bytes > per_token);
    assert_true(many.stage[TUG_STAGE_EXPERTS].work.bytes <= 2 * all);
}

static void limits_are_measured(void **state) {
    fixture *f = *state;
    tug_limits_probe *probe = NULL;
    assert_int_equal(tug_limits_probe_create(&probe, f->model, NULL), TUG_OK);
    const tug_limits l = tug_limits_probe_run(probe);
    /* Any processor of the last fifteen years, and none of the next ten. */
    assert_true(l.read_bytes_s > 5e8 && l.read_bytes_s < 1e13);
    assert_true(l.f32_macs_s > 1e8 && l.f32_macs_s < 1e14);
    assert_true(l.int8_macs_s > 1e8 && l.int8_macs_s < 1e15);
    if (tug_backend_level(f->model->be) >= TUG_CPU_AVX2)
        assert_true(l.int8_macs_s > l.f32_macs_s);
    assert_true(tug_limits_probe_bytes(probe) >= 256u << 20);
    for (int i = 0; i < 5; i++) { /* all quarters, and the first again */
        const double read = tug_limits_probe_read(probe);
        assert_true(read > 5e8 && read < 1e13);
    }
    tug_limits_probe_destroy(&probe);
    assert_null(probe);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restores_what_was_saved),
        cmocka_unit_test(saving_elsewhere_loses_later_ones),
        cmocka_unit_test(outlives_its_session),
        cmocka_unit_test(profile_counts_the_work),
        cmocka_unit_test(batches_read_weights_once),
        cmocka_unit_test(limits_are_measured),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
