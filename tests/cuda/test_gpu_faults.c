/* test_gpu_faults.c - the tiny model on the GPU with a failure at a driver call: load, prefill,
 * decode, save point, restore; with all experts in memory, and with those of a store.  Whatever
 * fails, it ends soon, with a sentence or with the right text, and leaves nothing behind.
 *
 *   test_gpu_faults               failures spread over all calls
 *   test_gpu_faults --all [I N]   at every one of them, the kinds of failure in turn (long); the
 *                                 calls whose number is I modulo N
 *
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "cuda/gpu_world.h"
#include "engine/engine_impl.h"
#include "engine/residency.h"
#include "tug.h"

#define MODEL "models/tug-tiny-coder-q8_0.gguf"

enum {
    N_CTX = 256,
    N_PROMPT = 20, /* more than go by the kernels of decode, */
    N_SHORT = 8,   /* which are faster to emulate: for every call */
    N_TEXT = 3,
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    SPREAD = 2, /* places for each kind of failure */
#else
    SPREAD = 6,
#endif
    FIRST = 24,        /* calls that open the device: each of them */
    PATIENCE_S = 1200, /* of one run: a machine under load is no hang */
    MOST_LAYERS = 64
};
/* Some experts have a copy on the GPU, the others are the CPU's. */
#define VRAM ((uint64_t)20 * 1000 * 1000)

/* out of memory, launch failure (the device stays lost), an error of its memory, unknown */
static const int codes[] = {2, 719, 214, 999};
enum { N_CODE = sizeof codes / sizeof *codes };

static bool every_call;
static bool from_store;
static int64_t n_prompt = N_PROMPT;
static unsigned long part, n_parts = 1; /* of all calls */

static const int32_t prompt[N_PROMPT] = {40, 41, 42, 43, 44, 45, 46, 47, 48, 49,
                                         50, 51, 52, 53, 54, 55, 56, 57, 58, 59};

/* ---- one run -------------------------------------------------------------------------- */

typedef struct run_state {
    tug_model *model;
    tug_session *session;
    tug_session_mark *mark;
    int32_t
        text[2 * N_TEXT]; /* from the save point twice: the second time after a restore */
    uint64_t streamed;    /* experts that crossed for the prompt */
} run_state;

static tug_status continue_text(run_state *r, int32_t *text, tug_err *err) {
    const int64_t n_vocab = tug_model_get_info(r->model).n_vocab;
    for (int i = 0; i < N_TEXT; i++) {
        const float *logits = tug_session_logits(r->session);
        int32_t best = 0;
        for (int32_t id = 1; id < n_vocab; id++) {
            if (logits[id] > logits[best]) best = id;
        }
        text[i] = best;
        TUG_TRY(tug_session_append(r->session, &best, 1, err));
    }
    return TUG_OK;
}

static tug_status run_parts(run_state *r, tug_err *err) {
    const tug_model_params mp = {.path = MODEL,
                                 .n_threads = 1,
                                 .gpu = "0",
                                 .vram_bytes = VRAM,
                                 .n_ctx = N_CTX,
                                 .n_batch = N_PROMPT};
    const tug_session_params sp = {.n_ctx = N_CTX, .n_batch = N_PROMPT};
    int homes[MOST_LAYERS];
    for (int i = 0; i < MOST_LAYERS; i++) homes[i] = 4;
    /* VRAM for half of the experts and what moves them. */
    const tug_residency store = {.streamed = true,
                                 .home = homes,
                                 .staging = 4,
                                 .n_batch = N_PROMPT,
                                 .vram_staging_bytes = VRAM / 20,
                                 .vram_experts = VRAM / 10};
    TUG_TRY(from_store ? tug_model_open_as(&r->model, &mp, &store, err)
                       : tug_model_open(&r->model, &mp, err));
    TUG_TRY(tug_session_create(&r->session, r->model, &sp, err));
    TUG_TRY(tug_session_append(r->session, prompt, n_prompt, err));
    r->streamed = tug_backend_gpu_slots(r->model->be).streamed;
    TUG_TRY(tug_session_save(r->session, &r->mark, err));
    TUG_TRY(continue_text(r, r->text, err));
    TUG_TRY(tug_session_restore(r->session, r->mark, err));
    return continue_text(r, r->text + N_TEXT, err);
}

/* Everything is given back, as an application would, before anybody looks. */
static tug_status run_all(run_state *r, tug_err *err) {
    *r = (run_state){0};
    (void)alarm(PATIENCE_S);
    const tug_status s = run_parts(r, err);
    tug_session_mark_destroy(&r->mark);
    tug_session_destroy(&r->session);
    tug_model_close(&r->model);
    (void)alarm(0);
    return s;
}

/* ---- the failures --------------------------------------------------------------------- */

typedef struct outcome {
    int n_error, n_text; /* with a sentence; the right text */
} outcome;

/* Whether the run came as far as the call that was to fail.  Copies and computing overlap as the
 * clock has it, so that runs differ by some hundredths of their calls. */
static bool fails_at(unsigned long n, int code, const run_state *want, outcome *o) {
    char option[64];
    run_state r;
    tug_err err = {0};
    (void)snprintf(option, sizeof option, "fail=%lu:%d", n, code);
    emu.configure(option);
    const tug_status s = run_all(&r, &err);
    const bool failed = emu.has_failed();
    emu.recover();
    assert_nothing_lives(option);
    if (!failed && s != TUG_OK) fail_msg("%s, not reached: %s", option, err.msg);
    if (s != TUG_OK) {
        const size_t length = strlen(err.msg);
        if (length < 20 || strchr(err.msg, '\n')) fail_msg("%s: '%s'", option, err.msg);
        if (s != TUG_EDEVICE && s != TUG_ENOMEM && s != TUG_EUNSUPPORTED) {
            fail_msg("%s: status %d: %s", option, (int)s, err.msg);
        }
    } else if (memcmp(r.text, want->text, sizeof r.text) != 0) {
        fail_msg("%s: another text, and nobody said so", option);
    }
    o->n_error += s != TUG_OK;
    o->n_text += s == TUG_OK && failed;
    return failed;
}

static void fail_at(unsigned long n, int code, const run_state *want, outcome *o) {
    const unsigned long asked = n;
    while (!fails_at(n, code, want, o)) {
        n -= n / 16 + 1;
        if (n < asked / 2) fail_msg("call %lu is never reached", asked);
    }
}

static void test_every_kind(void **state) {
    (void)state;
    run_state want;
    tug_err err;
    outcome o = {0};
    const unsigned long before = emu.calls();
    if (run_all(&want, &err) != TUG_OK) fail_msg("without a failure: %s", err.msg);
    const unsigned long n = emu.calls() - before;
    assert_memory_equal(want.text, want.text + N_TEXT, N_TEXT * sizeof *want.text);
    assert_nothing_lives("a run without a failure");
    assert_true(!from_store || every_call || want.streamed > 0);
    assert_true(n > 1000);
    for (unsigned long i = 1; i <= (every_call ? n : FIRST); i++) {
        if (i % n_parts == part) fail_at(i, codes[i % N_CODE], &want, &o);
    }
    for (unsigned long i = 0; !every_call && i < SPREAD * N_CODE; i++) {
        fail_at(FIRST + 1 + i * (n - FIRST) / (SPREAD * N_CODE), codes[i % N_CODE], &want,
                &o);
    }
    printf("%lu driver calls in a run; failures at %d: %d sentences, %d right texts\n", n,
           o.n_error + o.n_text, o.n_error, o.n_text);
    assert_true(o.n_error > o.n_text); /* only what gives back may fail unseen */
    /* After all that the device computes as before. */
    run_state again;
    if (run_all(&again, &err) != TUG_OK) fail_msg("after the failures: %s", err.msg);
    assert_memory_equal(again.text, want.text, sizeof want.text);
}

/* Slots that are pinned, experts that cross for a batch, newcomers that are held. */
static void test_every_kind_with_a_store(void **state) {
    from_store = true;
    test_every_kind(state);
    from_store = false;
}

/* ---- what is left to the owner ---------------------------------------------------------- */

static tug_status open_small(tug_model **m, tug_err *err) {
    const tug_model_params p = {
        .path = MODEL, .n_threads = 1, .gpu = "0", .n_ctx = N_CTX};
    return tug_model_open(m, &p, err);
}

static void test_going_on_without(void **state) {
    (void)state;
    const tug_model_params p = {.path = MODEL, .n_threads = 1, .n_ctx = N_CTX};
    const tug_session_params sp = {.n_ctx = N_CTX};
    run_state cpu = {0}, r = {0};
    tug_err err;
    assert_int_equal(tug_model_open(&cpu.model, &p, &err), TUG_OK);
    assert_int_equal(tug_session_create(&cpu.session, cpu.model, &sp, &err), TUG_OK);
    assert_int_equal(tug_session_append(cpu.session, prompt, N_PROMPT, &err), TUG_OK);
    assert_int_equal(continue_text(&cpu, cpu.text, &err), TUG_OK);

    assert_int_equal(open_small(&r.model, &err), TUG_OK);
    assert_int_equal(tug_session_create(&r.session, r.model, &sp, &err), TUG_OK);
    const struct tug_tokenizer *tokenizer = tug_model_tokenizer(r.model);
    emu.configure("fail=40:719");
    assert_int_equal(tug_session_append(r.session, prompt, N_PROMPT, &err), TUG_EDEVICE);
    tug_session_destroy(&r.session);
    assert_int_equal(tug_model_leave_gpu(r.model, &p, &err), TUG_OK);
    assert_nothing_lives("leaving the GPU");
    emu.recover();
    assert_null(tug_model_get_info(r.model).gpu);
    assert_ptr_equal(tug_model_tokenizer(r.model), tokenizer);
    assert_int_equal(tug_session_create(&r.session, r.model, &sp, &err), TUG_OK);
    assert_int_equal(tug_session_append(r.session, prompt, N_PROMPT, &err), TUG_OK);
    assert_int_equal(continue_text(&r, r.text, &err), TUG_OK);
    assert_memory_equal(r.text, cpu.text,
                        sizeof cpu.text); /* the CPU's, to the last bit */
    tug_session_destroy(&r.session);
    tug_model_close(&r.model);
    tug_session_destroy(&cpu.session);
    tug_model_close(&cpu.model);
}

/* A model that could not be loaded again says so, and closes. */
static void test_nothing_to_go_on_with(void **state) {
    (void)state;
    tug_model *m;
    tug_session *s;
    tug_err err;
    const tug_model_params p = {.path = MODEL, .cpu_level = "none such", .n_ctx = N_CTX};
    assert_int_equal(open_small(&m, &err), TUG_OK);
    assert_int_not_equal(tug_model_leave_gpu(m, &p, &err), TUG_OK);
    assert_int_equal(tug_session_create(&s, m, NULL, &err), TUG_ESTATE);
    assert_null(s);
    tug_model_close(&m);
    assert_nothing_lives("giving up");
}

/* ---- start ------------------------------------------------------------------------------- */

static int find_emulator(void **state) {
    (void)state;
    if (!find_driver()) return -1;
    if (emu.configure) return 0;
    printf("skip: this is a real driver\n");
    exit(0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_going_on_without),
        cmocka_unit_test(test_nothing_to_go_on_with),
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_every_kind_with_a_store),
    };
    every_call = argc > 1 && strcmp(argv[1], "--all") == 0;
    if (every_call) n_prompt = N_SHORT;
    if (every_call && argc > 3) {
        part = strtoul(argv[2], NULL, 10);
        n_parts = strtoul(argv[3], NULL, 10);
    }
    return cmocka_run_group_tests(tests, find_emulator, NULL);
}
