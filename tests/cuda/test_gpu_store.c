/* test_gpu_store.c - the tiny model on the GPU with its experts in an expert store: the CPU's text
 * however they come to the GPU, whatever the disk does, and RAM that keeps what VRAM has not.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "cuda/gpu_world.h"
#include "engine/engine_impl.h"
#include "engine/residency.h"
#include "memory/expert_store.h"

#define MODEL "models/tug-tiny-coder-q8_0.gguf"

enum { N_CTX = 256, N_PROMPT = 24, N_TEXT = 3, MOST_LAYERS = 64, IN_VRAM = 40 };
/* Bytes a second of a link that gets everything, the usual share, nothing. */
#define FAST_LINK 1e30
#define SLOW_LINK 1e-30

static int32_t prompt[N_PROMPT];
static tug_model *cpu;
static int n_all; /* experts of the model */

/* ---- the model ---------------------------------------------------------------------------- */

static size_t vram_slot(const tug_model *m) {
    const tug_moe_weights *w = &m->net.weights.layer[0].moe;
    return (size_t)(tug_cuda_experts_bytes(w, 2) - tug_cuda_experts_bytes(w, 1));
}

/* IN_VRAM experts in VRAM, a carrier; in RAM `home` slots a layer and `staging`. */
static tug_status open_store(tug_model **out, int home, int staging, tug_err *err) {
    int homes[MOST_LAYERS];
    for (int i = 0; i < MOST_LAYERS; i++) homes[i] = home;
    const uint64_t carrier = tug_cuda_carrier_bytes(vram_slot(cpu), 8);
    uint64_t tables = 0;
    for (int i = 0; i < cpu->net.weights.n_layer; i++) {
        tables += tug_cuda_experts_bytes(&cpu->net.weights.layer[i].moe, 0);
    }
    const tug_residency plan = {.streamed = true,
                                .home = homes,
                                .staging = staging,
                                .n_batch = N_PROMPT,
                                .vram_staging_bytes = carrier,
                                .vram_experts = tables + IN_VRAM * vram_slot(cpu) +
                                                vram_slot(cpu) / 2};
    const tug_model_params p = {
        .path = MODEL, .n_threads = 2, .gpu = "0", .n_ctx = N_CTX, .n_batch = N_PROMPT};
    return tug_model_open_as(out, &p, &plan, err);
}

static tug_model *opened(int home, int staging, double link) {
    tug_model *m;
    tug_err err;
    must(open_store(&m, home, staging, &err), &err);
    assert_int_equal(tug_model_get_info(m).n_experts_on_gpu, IN_VRAM);
    assert_int_equal(tug_cuda_of(m->be)->carrier.n, 8);
    tug_cuda_of(m->be)->costs =
        tug_cuda_usual_costs; /* the emulated link's are no link's */
    if (link > 0) tug_cuda_of(m->be)->costs.link_bytes_per_s = link;
    return m;
}

/* Newcomers get their slots easily. */
static void churn(tug_model *m) {
    tug_cuda_of(m->be)->costs.newcomer_margin = -1e9;
    tug_cuda_of(m->be)->costs.answer_tokens = 1e9;
}

static tug_cuda_slot_stats slots(const tug_model *m) {
    return tug_backend_gpu_slots(m->be);
}

static tug_session *session_of(tug_model *m) {
    tug_session *s;
    tug_err err;
    const tug_session_params p = {.n_ctx = N_CTX, .n_batch = N_PROMPT};
    must(tug_session_create(&s, m, &p, &err), &err);
    return s;
}

static int32_t likeliest(tug_session *s) {
    const float *logits = tug_session_logits(s);
    int32_t best = 0;
    for (int32_t id = 1; id < tug_model_get_info(cpu).n_vocab; id++) {
        if (logits[id] > logits[best]) best = id;
    }
    return best;
}

/* Greedy text behind n tokens of the prompt. */
static void text_of(tug_session *s, int64_t n, int32_t ids[N_TEXT]) {
    tug_err err;
    tug_session_reset(s);
    must(tug_session_append(s, prompt, n, &err), &err);
    for (int i = 0; i < N_TEXT; i++) {
        ids[i] = likeliest(s);
        must(tug_session_append(s, &ids[i], 1, &err), &err);
    }
}

static void expect_text(tug_session *s, int64_t n) {
    int32_t want[N_TEXT], got[N_TEXT];
    tug_session *other = session_of(cpu);
    text_of(other, n, want);
    text_of(s, n, got);
    tug_session_destroy(&other);
    assert_memory_equal(got, want, sizeof want);
}

static void close_both(tug_session **s, tug_model **m) {
    tug_session_destroy(s);
    tug_model_close(m);
}

/* ---- prompts -------------------------------------------------------------------------------- */

/* From one slot a layer to all of them, all absent experts carried, the usual ones, none. */
static void test_prompts(void **state) {
    (void)state;
    static const struct {
        int home, staging;
        double link;
    } cases[] = {
        {6, 8, FAST_LINK}, {1, 1, FAST_LINK}, {6, 8, 0}, {1, 2, 0}, {6, 8, SLOW_LINK}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tug_model *m = opened(cases[i].home, cases[i].staging, cases[i].link);
        tug_session *s = session_of(m);
        churn(m);
        expect_text(s, 3);
        assert_int_equal(slots(m).streamed, 0);
        expect_text(s, N_PROMPT);
        const bool some = cases[i].link != SLOW_LINK;
        if ((slots(m).streamed > 0) != some || slots(m).promotions == 0) {
            fail_msg("case %d: %d carried, %d promoted", (int)i, (int)slots(m).streamed,
                     (int)slots(m).promotions);
        }
        close_both(&s, &m);
    }
}

/* Work that is done as late as it may be reads what is in the slots then. */
static void test_any_schedule(void **state) {
    (void)state;
    for (int seed = 0; seed < 2; seed++) {
        char option[64];
        snprintf(option, sizeof option, "schedule=random:%d", seed);
        emu.configure(seed ? option : "schedule=deferred");
        tug_model *m = opened(2, 2, FAST_LINK);
        tug_session *s = session_of(m);
        churn(m);
        expect_text(s, 3);
        expect_text(s, N_PROMPT);
        assert_true(slots(m).promotions > 0 && slots(m).streamed > 0);
        close_both(&s, &m);
    }
    emu.configure("schedule=immediate");
}

/* All absent experts of a prompt cross: those that the file has yet to give, too.  Each once. */
static void test_each_crosses_once(void **state) {
    (void)state;
    tug_model *m = opened(1, 2, FAST_LINK);
    tug_session *s = session_of(m);
    tug_err err;
    const tug_streaming before = tug_model_streaming(m);
    must(tug_session_append(s, prompt, N_PROMPT, &err), &err);
    const tug_streaming after = tug_model_streaming(m);
    assert_true(slots(m).streamed > 0);
    assert_true((uint64_t)(after.wanted - before.wanted) == slots(m).streamed);
    const tug_moe_weights *w = &m->net.weights.layer[0].moe;
    uint64_t one = 0;
    for (int i = 0; i < TUG_CUDA_MATRICES; i++) {
        one += tug_cuda_matrix_bytes(tug_cuda_matrix(w, i));
    }
    assert_int_equal(slots(m).bytes, slots(m).streamed * one);
    close_both(&s, &m);
}

/* Who is on its way: held by the store, or copied by hand, and that are few. */
static void check_seats(const tug_model *m) {
    const tug_cuda_carrier *k = &tug_cuda_of(m->be)->carrier;
    for (int h = 0; h < TUG_CUDA_HALVES; h++) {
        int n_by_hand = 0;
        for (int i = 0; i < k->n_seat[h]; i++) n_by_hand += !k->seat[h][i].held;
        assert_true(n_by_hand <= TUG_CUDA_COPIED);
    }
}

/* More than by hand could set out, since the copy engine reads the slots. */
static void test_promotions_by_themselves(void **state) {
    (void)state;
    tug_model *m = opened(12, 8, 0);
    tug_session *s = session_of(m);
    tug_err err;
    churn(m);
    uint64_t most = 0;
    for (int i = 0; i < 4; i++) {
        const uint64_t before = slots(m).promotions;
        must(tug_session_append(s, &prompt[i], 1, &err), &err);
        if (slots(m).promotions - before > most) most = slots(m).promotions - before;
        check_seats(m);
    }
    assert_true(most > TUG_CUDA_COPIED);
    close_both(&s, &m);
}

/* As if the system pinned nothing. */
static void unpin_all(tug_model *m) {
    tug_cuda_carrier *k = &tug_cuda_of(m->be)->carrier;
    assert_true(k->n_spans > 0);
    while (k->n_spans > 0) tug_backend_unpin(m->be, k->spans[0].p);
}

/* ---- memory that others want ------------------------------------------------------------------ */

/* What is given back is not pinned any more, and then nothing crosses from there by itself. */
static void test_memory_given_back(void **state) {
    (void)state;
    tug_model *m = opened(6, 4, FAST_LINK);
    const tug_cuda_carrier *k = &tug_cuda_of(m->be)->carrier;
    const int n_spans = k->n_spans;
    tug_session *s = session_of(m);
    tug_err err;
    churn(m);
    expect_text(s, 20);
    assert_true(n_spans > 0);
    /* Newcomers are on their way when memory is given back. */
    must(tug_session_append(s, prompt, 1, &err), &err);
    must(tug_session_append(s, prompt, 1, &err), &err);
    assert_true(tug_expert_store_adjust(m->experts, -(int64_t)1) < 0);
    assert_true(k->n_spans < n_spans);
    expect_text(s, 20);
    while (tug_expert_store_adjust(m->experts, 1 << 20) > 0) {
    }
    assert_int_equal(k->n_spans, n_spans);
    const uint64_t before = slots(m).streamed;
    expect_text(s, 20);
    assert_true(slots(m).streamed > before);
    close_both(&s, &m);
}

/* Some memory is pinned, but not the slot that an expert came to: it crosses by hand. */
static void test_by_hand(void **state) {
    (void)state;
    static _Alignas(4096) uint8_t other[4096];
    tug_model *m = opened(3, 3, FAST_LINK);
    tug_session *s = session_of(m);
    unpin_all(m);
    assert_true(tug_backend_pin(m->be, other, sizeof other));
    expect_text(s, N_PROMPT);
    assert_true(slots(m).streamed > 0);
    close_both(&s, &m);
}

/* A system that pins nothing: the CPU has what it had. */
static void test_nothing_is_pinned(void **state) {
    (void)state;
    tug_model *m = opened(4, 4, FAST_LINK);
    tug_session *s = session_of(m);
    unpin_all(m);
    expect_text(s, N_PROMPT);
    assert_int_equal(slots(m).streamed, 0);
    close_both(&s, &m);
}

/* ---- a disk that fails ---------------------------------------------------------------------------- */

/* Reads that still work; negative: all do. */
static atomic_long good_reads = -1;
static atomic_bool shortens; /* the file ends early, instead of an error */
static ssize_t (*real_pread)(int fd, void *buf, size_t n, off_t at);

static ssize_t some_pread(int fd, void *buf, size_t n, off_t at) {
    if (atomic_load(&good_reads) >= 0 && atomic_fetch_sub(&good_reads, 1) <= 0) {
        atomic_store(&good_reads, 0);
        if (atomic_load(&shortens)) return 0;
        errno = EIO;
        return -1;
    }
    return real_pread(fd, buf, n, at);
}

static void test_read_errors(void **state) {
    (void)state;
    real_pread = tug_sys.pread;
    tug_sys.pread = some_pread;
    tug_model *m = opened(2, 3, FAST_LINK);
    tug_session *s = session_of(m);
    tug_err err;
    for (long good = 0; good < 100; good = 8 * good + 1) {
        if (good > 0) tug_cuda_of(m->be)->costs.link_bytes_per_s = 26e9; /* for both */
        emu.configure(good % 2 ? "schedule=deferred" : "schedule=immediate");
        atomic_store(&shortens, good % 2);
        tug_session_reset(s);
        atomic_store(&good_reads, good);
        assert_int_equal(tug_session_append(s, prompt, N_PROMPT, &err), TUG_EIO);
        assert_true(strlen(err.msg) > 20);
        assert_int_equal(tug_session_n_tokens(s), 0);
        assert_int_equal(tug_cuda_of(m->be)->crossing.n_flight, 0);
        atomic_store(&good_reads, -1);
        expect_text(s, N_PROMPT);
    }
    emu.configure("schedule=immediate");
    close_both(&s, &m);
    tug_sys.pread = real_pread;
}

/* ---- a device that fails ---------------------------------------------------------------------------- */

static void test_lost_device(void **state) {
    (void)state;
    for (int n = 5; n < 500; n += 230) {
        char option[64];
        tug_model *m = opened(2, 3, 0);
        tug_session *s = session_of(m);
        tug_err err, again;
        churn(m);
        must(tug_session_append(s, prompt, 2, &err), &err);
        must(tug_session_append(s, prompt, 1, &err), &err);
        snprintf(option, sizeof option, "fail=%d:719", n);
        emu.configure(option);
        assert_int_equal(tug_session_append(s, prompt, N_PROMPT, &err), TUG_EDEVICE);
        assert_int_equal(tug_session_append(s, prompt, N_PROMPT, &again), TUG_EDEVICE);
        assert_string_equal(err.msg, again.msg);
        close_both(&s, &m);
        emu.recover();
        assert_nothing_lives(option);
    }
}

/* ---- who is where ------------------------------------------------------------------------------------ */

/* Experts in RAM, and of these those that VRAM has too. */
static void count_ram(const tug_model *m, int *in_ram, int *in_both) {
    *in_ram = *in_both = 0;
    for (int i = 0; i < m->net.weights.n_layer; i++) {
        const tug_moe_weights *w = &m->net.weights.layer[i].moe;
        for (int64_t x = 0; x < w->gate.n_mat; x++) {
            if (!w->gate.mats[x]) continue;
            ++*in_ram;
            *in_both += w->elsewhere[x];
        }
    }
}

/* RAM is filled with what VRAM has not; and when experts moved, those that VRAM got leave RAM. */
static void test_ram_keeps_what_vram_has_not(void **state) {
    (void)state;
    const int n_layer = cpu->net.weights.n_layer, home = (n_all - IN_VRAM) / n_layer / 2;
    tug_model *m = opened(home, 2, 0);
    tug_session *s = session_of(m);
    tug_err err;
    int in_ram, in_both;
    count_ram(m, &in_ram, &in_both);
    assert_int_equal(in_ram, home * n_layer);
    assert_int_equal(in_both, 0);
    tug_cuda_of(m->be)->costs.newcomer_margin = 0.1;
    for (int i = 0; i < 64; i++) {
        must(tug_session_append(s, &prompt[i % N_PROMPT], 1, &err), &err);
    }
    count_ram(m, &in_ram, &in_both);
    print_message("%d promotions; of %d experts in RAM %d are in VRAM, of all %d of %d\n",
                  (int)slots(m).promotions, in_ram, in_both, IN_VRAM, n_all);
    assert_true(slots(m).promotions >= IN_VRAM / 2);
    assert_true(in_ram >= home * n_layer);
    assert_true(6 * in_both <= in_ram);
    close_both(&s, &m);
}

/* RAM and VRAM have room for all experts: who loses a slot in VRAM comes back to RAM. */
static void test_losers_come_back(void **state) {
    (void)state;
    const int n_layer = cpu->net.weights.n_layer;
    tug_model *m = opened((n_all - IN_VRAM + n_layer - 1) / n_layer, 2, 0);
    tug_session *s = session_of(m);
    tug_err err;
    tug_cuda_of(m->be)->costs.newcomer_margin = 0.1;
    for (int i = 0; i < 64; i++) {
        must(tug_session_append(s, &prompt[i % N_PROMPT], 1, &err), &err);
    }
    const tug_streaming streaming = tug_model_streaming(m);
    const tug_cuda_slot_stats st = slots(m);
    const int reads = (int)(streaming.wanted - streaming.hits - streaming.early);
    print_message("%d promotions, %d came back; %d experts were read\n",
                  (int)st.promotions, (int)st.returned, reads);
    assert_true(st.promotions >= IN_VRAM && st.returned >= IN_VRAM);
    assert_true(4 * reads <= (int)st.promotions); /* wanted while they crossed */
    churn(m);
    expect_text(s, N_PROMPT);
    expect_text(s, 3);
    emu.configure("schedule=random:5");
    expect_text(s, 5);
    emu.configure("schedule=immediate");
    assert_true(slots(m).returned > st.returned);
    close_both(&s, &m);
}

/* ---- start --------------------------------------------------------------------------------------------- */

static int setup(void **state) {
    (void)state;
    if (!find_driver()) return -1;
    if (!emu.configure) {
        printf("skip: this is a real driver\n");
        exit(0);
    }
    tug_err err;
    const tug_model_params p = {.path = MODEL, .n_threads = 2};
    must(tug_model_open(&cpu, &p, &err), &err);
    n_all = (int)(tug_model_get_info(cpu).n_layer * tug_model_get_info(cpu).n_expert);
    for (int i = 0; i < N_PROMPT; i++) prompt[i] = (i * i * 31 + i * 7) % 1000;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tug_model_close(&cpu);
    assert_nothing_lives("closing everything");
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_any_schedule),
        cmocka_unit_test(test_each_crosses_once),
        cmocka_unit_test(test_promotions_by_themselves),
        cmocka_unit_test(test_memory_given_back),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_nothing_is_pinned),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_lost_device),
        cmocka_unit_test(test_ram_keeps_what_vram_has_not),
        cmocka_unit_test(test_losers_come_back),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, setup, teardown);
}
