/* test_gpu_plan.c - the plan of a model on a GPU against what is really allocated there, and
 * what instruments are told, on the emulated driver.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "engine/planning.h"
#include "plan/plan_model.h"

#define MODEL "models/tug-tiny-coder-q8_0.gguf"
enum { MOST_SESSIONS = 9 };

static tug_err err;

static void must(tug_status s) {
    if (s != TUG_OK) fail_msg("%s", err.msg);
}

static tug_status open_with(tug_model **m, uint64_t vram, int64_t n_ctx,
                            int64_t n_batch) {
    const tug_model_params p = {.path = MODEL,
                                .n_threads = 2,
                                .gpu = "0",
                                .vram_bytes = vram,
                                .n_ctx = n_ctx,
                                .n_batch = n_batch};
    return tug_model_open(m, &p, &err);
}

static uint64_t planned(const tug_plan_tier *t) {
    uint64_t sum = 0;
    for (int i = 0; i < TUG_PLAN_USE_FREE; i++) sum += t->use[i];
    return sum;
}

static bool close_to(uint64_t got, uint64_t want, double share) {
    return fabs((double)got - (double)want) <= share * (double)want;
}

/* ---- bytes ------------------------------------------------------------------------------ */

static void what_is_planned_is_taken(void **state) {
    (void)state;
    static const struct {
        uint64_t vram;
        int64_t n_ctx, n_batch;
    } cases[] = {{0, 512, 0},          {64000000, 4096, 0},  {30000000, 512, 128},
                 {20000000, 256, 64},  {20000000, 1024, 64}, {14000000, 512, 64},
                 {40000000, 2048, 300}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tug_model *m;
        tug_session *s;
        must(open_with(&m, cases[i].vram, cases[i].n_ctx, cases[i].n_batch));
        const tug_planning *p = m->planning;
        const uint64_t budget = tug_backend_gpu(m->be)->budget;
        assert_true(p->plan.on_gpu);
        assert_int_equal(p->plan.vram.ceiling, budget);
        int64_t slots = 0;
        for (int l = 0; l < m->net.weights.n_layer; l++) slots += p->plan.vram_slots[l];
        assert_int_equal(tug_model_get_info(m).n_experts_on_gpu, slots);
        const tug_session_params sp = {.n_ctx = cases[i].n_ctx};
        must(tug_session_create(&s, m, &sp, &err));
        const uint64_t used = tug_backend_gpu_used(m->be), want = planned(&p->plan.vram);
        if (!close_to(used, want, 0.02) || used > want || used > budget) {
            fail_msg("case %zu: %llu used, %llu planned of %llu", i,
                     (unsigned long long)used, (unsigned long long)want,
                     (unsigned long long)budget);
        }
        assert_int_equal(tug_backend_gpu_counters(m->be)->peak_used, used);
        tug_session_destroy(&s);
        tug_model_close(&m);
    }
}

static tug_status open_for_sessions(tug_model **m, uint64_t vram, int64_t n_ctx,
                                    int n_sessions) {
    const tug_model_params p = {.path = MODEL,
                                .n_threads = 1,
                                .gpu = "0",
                                .vram_bytes = vram,
                                .n_ctx = n_ctx,
                                .n_batch = 64,
                                .n_sessions = n_sessions};
    return tug_model_open(m, &p, &err);
}

/* So many as were told can be made, of the first one's context. */
static void fill_with_sessions(tug_model *m, int n, int64_t n_ctx) {
    tug_session *s[MOST_SESSIONS] = {0};
    tug_session_params sp = {.n_ctx = n_ctx};
    const uint64_t budget = tug_backend_gpu(m->be)->budget;
    for (int i = 0; i < n; i++) {
        must(tug_session_create(&s[i], m, &sp, &err));
        sp.n_ctx = tug_session_n_ctx(s[0]);
        sp.unchecked = true;
    }
    const int32_t ids[] = {1, 2, 3, 4};
    must(tug_session_append(s[n - 1], ids, 4, &err));
    const uint64_t used = tug_backend_gpu_used(m->be);
    assert_int_equal(tug_backend_gpu_counters(m->be)->peak_used, used);
    assert_true(used <= budget);
    for (int i = 0; i < n; i++) tug_session_destroy(&s[i]);
}

/* Experts make room for sessions, also to the last one; what does not fit is not planned. */
static void sessions_have_their_room(void **state) {
    (void)state;
    static const uint64_t ceilings[] = {0, 20000000, 15000000};
    static const int wanted[] = {1, 2, 4, MOST_SESSIONS};
    int fewest = MOST_SESSIONS;
    for (size_t i = 0; i < sizeof ceilings / sizeof *ceilings; i++) {
        int64_t experts = INT64_MAX;
        for (size_t j = 0; j < sizeof wanted / sizeof *wanted; j++) {
            const int n = wanted[j];
            tug_model *m;
            must(open_for_sessions(&m, ceilings[i], 1024, n));
            const tug_model_info info = tug_model_get_info(m);
            const tug_planning *p = m->planning;
            assert_true(info.n_sessions >= 1 && info.n_sessions <= n);
            assert_true(info.n_experts_on_gpu <= experts);
            experts = info.n_experts_on_gpu;
            if (info.n_sessions < fewest) fewest = info.n_sessions;
            const uint64_t one = info.vram_sessions / (uint64_t)info.n_sessions;
            const uint64_t *use = p->plan.vram.use;
            const uint64_t rest = use[TUG_PLAN_USE_COPIES] + use[TUG_PLAN_USE_ONLY_HERE] +
                                  use[TUG_PLAN_USE_STAGING] + use[TUG_PLAN_USE_FREE];
            assert_true(info.n_sessions == n || rest < one);
            assert_int_equal(p->plan.n_seq, info.n_sessions);
            fill_with_sessions(m, info.n_sessions, 1024);
            tug_model_close(&m);
        }
    }
    assert_true(fewest < MOST_SESSIONS);
}

/* Without -c a session has what was planned or more, and leaves the others their share. */
static void sessions_share_what_is_left(void **state) {
    (void)state;
    for (int n = 1; n <= 4; n += 3) {
        tug_model *m;
        must(open_for_sessions(&m, 0, 0, n));
        assert_int_equal(tug_model_get_info(m).n_sessions, n);
        fill_with_sessions(m, n, 0);
        tug_model_close(&m);
    }
}

/* Without a batch that somebody asked for, what is too large for the ceiling is halved. */
static void batches_shrink(void **state) {
    (void)state;
    tug_model *m;
    int64_t first = 0, last = 0;
    for (uint64_t vram = 96000000; vram >= 22000000; vram /= 2) {
        must(open_with(&m, vram, 4096, 0));
        if (first == 0) first = last = m->n_batch;
        assert_true(m->n_batch <= last && m->n_batch >= 64);
        last = m->n_batch;
        tug_model_close(&m);
    }
    assert_true(last < first);
}

static double megabytes_after(const char *text, const char *words) {
    const char *at = strstr(text, words);
    if (!at) fail_msg("'%s' does not say '%s'", text, words);
    return strtod(at + strlen(words), NULL);
}

/* The least that a refusal names is enough, and it is the least. */
static void the_least_is_named(void **state) {
    (void)state;
    tug_model *m;
    assert_int_equal(open_with(&m, 1000000, 512, 64), TUG_ENOMEM);
    assert_non_null(strstr(err.msg, "the dense weights alone take "));
    const double least = megabytes_after(err.msg, "(at least ");
    assert_int_equal(open_with(&m, (uint64_t)(0.98e6 * least), 512, 64), TUG_ENOMEM);
    const double again = megabytes_after(err.msg, "and a session take ");
    assert_true(fabs(again - least) < 0.11);
    must(open_with(&m, (uint64_t)(1e6 * least), 512, 64));
    assert_true(tug_model_get_info(m).n_experts_on_gpu <= 4); /* it is told in 0.1 MB */
    tug_model_close(&m);
}

/* The sizes of the 80B model in a copy of the tiny one's network. */
static void the_estimate_is_near(void **state) {
    (void)state;
    static const int64_t batches[] = {64, 256, 512, 2048, 4096};
    tug_model *m;
    tug_plan_model plan;
    must(tug_plan_model_named(&plan, "qwen3-coder-next:Q3_K_M", &err));
    must(open_with(&m, 0, 512, 64));
    tug_net net = m->net;
    const tug_synth_spec *s = &plan.spec;
    net.shape.dim = s->dim;
    net.shape.n_vocab = s->n_vocab;
    net.shape.n_expert = (int)s->n_expert;
    net.shape.n_expert_used = (int)s->n_expert_used;
    net.shape.expert_dim = s->expert_dim;
    net.shape.shared_dim = s->shared_dim;
    net.shape.attn.n_head = (int)s->n_head;
    net.shape.attn.n_kv_head = (int)s->n_kv_head;
    net.shape.attn.head_dim = (int)s->head_dim;
    net.shape.delta.n_k_head = (int)s->n_k_head;
    net.shape.delta.n_v_head = (int)s->n_v_head;
    net.shape.delta.dk = (int)s->dk;
    net.shape.delta.dv = (int)s->dv;
    net.weights.max_mix_width = 12352;
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        const uint64_t real = tug_scratch_gpu_bytes(&net, batches[i]);
        const uint64_t estimate = tug_plan_vram_workspace(&plan, batches[i]);
        if (!close_to(estimate, real, 0.03)) {
            fail_msg("batches of %lld: %llu, estimated %llu", (long long)batches[i],
                     (unsigned long long)real, (unsigned long long)estimate);
        }
    }
    tug_model_close(&m);
}

/* ---- words ------------------------------------------------------------------------------- */

static void the_plan_is_told(void **state) {
    (void)state;
    tug_model *m;
    must(open_with(&m, 20000000, 512, 64));
    const char *summary = tug_model_plan(m, false), *tables = tug_model_plan(m, true);
    assert_non_null(strstr(summary, "VRAM 0.0 GB"));
    assert_non_null(strstr(summary, " in VRAM, "));
    assert_non_null(strstr(tables, "      VRAM\n"));
    tug_model_close(&m);
    const tug_model_params p = {.path = MODEL, .n_threads = 2};
    must(tug_model_open(&m, &p, &err));
    assert_null(tug_model_plan(m, false));
    tug_gpu_now now;
    char text[256];
    assert_false(tug_model_gpu_now(m, true, &now));
    assert_false(tug_model_gpu_warning(m, text, sizeof text));
    tug_gpu_limits limits;
    assert_int_equal(tug_model_gpu_limits(m, &limits, &err), TUG_EUNSUPPORTED);
    tug_prediction expected;
    assert_true(tug_model_predict(m, 512, NULL, NULL, &expected));
    assert_true(expected.decode_tok_s > 0.0 && expected.prefill_tok_s > 0.0);
    tug_model_close(&m);
}

/* ---- instruments ---------------------------------------------------------------------------- */

static void counters_count(void **state) {
    (void)state;
    tug_model *m;
    tug_session *s;
    tug_gpu_now before, after;
    must(open_with(&m, 20000000, 512, 64));
    must(tug_session_create(&s, m, &(tug_session_params){.n_ctx = 512}, &err));
    assert_true(tug_model_gpu_now(m, true, &before));
    const int32_t ids[] = {1, 2, 3};
    must(tug_session_append(s, ids, 3, &err));
    assert_true(tug_model_gpu_now(m, true, &after));
    const double dim = (double)m->net.shape.dim, n_vocab = (double)m->net.shape.n_vocab;
    assert_true(after.in_bytes - before.in_bytes >= 3 * 4.0 * dim);
    assert_true(after.out_bytes - before.out_bytes >= 4.0 * n_vocab);
    assert_true(after.launches > before.launches + 40);
    assert_int_equal(after.vram_used, tug_backend_gpu_used(m->be));
    assert_true(after.vram_peak >= after.vram_used);
    assert_true(after.dense_bytes > 0 && after.expert_bytes > 0);
    assert_true(after.dense_bytes + after.expert_bytes < after.vram_used);
    tug_session_destroy(&s);
    tug_model_close(&m);
}

static void limits_are_measured(void **state) {
    (void)state;
    tug_model *m;
    tug_session *s;
    tug_gpu_limits l;
    must(open_with(&m, 20000000, 512, 64));
    must(tug_session_create(&s, m, &(tug_session_params){.n_ctx = 512}, &err));
    const int32_t id = 5;
    float want[8];
    must(tug_session_append(s, &id, 1, &err));
    memcpy(want, tug_session_logits(s), sizeof want);
    tug_session_reset(s);
    must(tug_model_gpu_limits(m, &l, &err));
    assert_true(l.read_bytes_s > 0.0 && l.link_bytes_s > 0.0 && l.handoff_s > 0.0);
    const tug_weight *head = &m->net.weights.head.w;
    assert_true(l.read_bytes <= (double)head->n_rows * (double)head->row_bytes);
    /* Between two calls it disturbs nothing. */
    must(tug_session_append(s, &id, 1, &err));
    assert_memory_equal(tug_session_logits(s), want, sizeof want);
    tug_prediction slow, fast;
    tug_gpu_limits few = {
        .read_bytes_s = 1e9, .read_bytes = 1e9, .link_bytes_s = 1e9, .handoff_s = 1e-3};
    tug_gpu_limits many = {
        .read_bytes_s = 1e12, .read_bytes = 1e9, .link_bytes_s = 1e11, .handoff_s = 1e-6};
    assert_true(tug_model_predict(m, 512, NULL, &few, &slow));
    assert_true(tug_model_predict(m, 512, NULL, &many, &fast));
    assert_true(fast.decode_tok_s > slow.decode_tok_s);
    few.read_bytes = 1000; /* a cache was measured: it says nothing of the memory */
    assert_true(tug_model_predict(m, 512, NULL, &few, &fast));
    assert_true(fast.decode_tok_s > slow.decode_tok_s);
    tug_session_destroy(&s);
    tug_model_close(&m);
}

/* Loading leaves measured figures where there is something to measure: the head of this model
 * answers from a cache, so what is told of the device's memory stays the estimate. */
static void costs_are_measured(void **state) {
    (void)state;
    tug_model *m;
    must(open_with(&m, 20000000, 512, 64));
    const tug_cuda_costs *k = &tug_cuda_of(m->be)->costs, *usual = &tug_cuda_usual_costs;
    const double measured[] = {k->link_bytes_per_s, k->host_bytes_per_s,
                               k->host_macs_per_s};
    const double guessed[] = {usual->link_bytes_per_s, usual->host_bytes_per_s,
                              usual->host_macs_per_s};
    for (int i = 0; i < 3; i++) { /* steps of a quarter of an octave, which no guess is */
        const double step = 4.0 * log2(measured[i]), guess = 4.0 * log2(guessed[i]);
        assert_true(measured[i] > 1e6 && fabs(step - round(step)) < 1e-6);
        assert_true(fabs(guess - round(guess)) > 1e-6);
    }
    assert_true(k->device_bytes_per_s == usual->device_bytes_per_s);
    assert_true(k->newcomer_margin == usual->newcomer_margin);
    assert_true(k->answer_tokens == usual->answer_tokens);
    assert_int_equal(tug_backend_gpu_slots(m->be).misses, 0); /* they were no uses */
    tug_model_close(&m);
}

/* A greedy answer to a prompt that is long enough to be split. */
static void answer(tug_model *m, int32_t text[4]) {
    tug_session *s;
    int32_t prompt[24];
    const int64_t n_vocab = m->net.shape.n_vocab;
    must(tug_session_create(&s, m, &(tug_session_params){.n_ctx = 512}, &err));
    for (int i = 0; i < 24; i++) prompt[i] = (int32_t)((i * 7919 + 11) % n_vocab);
    must(tug_session_append(s, prompt, 24, &err));
    for (int i = 0; i < 4; i++) {
        const float *logits = tug_session_logits(s);
        text[i] = 0;
        for (int32_t j = 1; j < n_vocab; j++) {
            if (logits[j] > logits[text[i]]) text[i] = j;
        }
        must(tug_session_append(s, &text[i], 1, &err));
    }
    tug_session_destroy(&s);
}

/* Where an expert is computed changes no text. */
static void costs_choose_places_only(void **state) {
    (void)state;
    static const double links[] = {1e-30, 0, 1e30}, answers[] = {0, 256, 1e9};
    int32_t want[4], got[4];
    uint64_t carried[3];
    for (int i = 0; i < 3; i++) {
        tug_model *m;
        must(open_with(&m, 20000000, 512, 64));
        tug_cuda_costs *k = &tug_cuda_of(m->be)->costs;
        if (links[i] > 0) k->link_bytes_per_s = links[i];
        k->answer_tokens = answers[i];
        answer(m, i == 0 ? want : got);
        carried[i] = tug_backend_gpu_slots(m->be).streamed;
        if (i > 0) assert_memory_equal(got, want, sizeof want);
        tug_model_close(&m);
    }
    assert_int_equal(carried[0], 0);
    assert_true(carried[2] > 0 && carried[1] <= carried[2]);
}

static void power_is_told_or_not(void **state) {
    (void)state;
    tug_model *m;
    tug_gpu_now now;
    char text[256] = "";
    setenv("TUG_NVML", "watts=111 width=4", 1);
    must(open_with(&m, 20000000, 512, 64));
    assert_true(tug_model_gpu_now(m, true, &now));
    assert_true(now.told && fabs(now.watts - 111.0) < 1e-9 && now.link_width == 4);
    assert_true(tug_model_gpu_now(m, false, &now));
    assert_false(now.told);
    assert_true(tug_model_gpu_warning(m, text, sizeof text));
    assert_non_null(strstr(text, "4.0 x4"));
    tug_model_close(&m);
    setenv("TUG_NVML", "fail=init", 1);
    must(open_with(&m, 20000000, 512, 64));
    assert_true(tug_model_gpu_now(m, true, &now));
    assert_false(now.told);
    assert_non_null(strstr(now.why_not, "does not start"));
    assert_true(now.busy < 0.0 && now.vram_used > 0);
    assert_false(tug_model_gpu_warning(m, text, sizeof text));
    tug_model_close(&m);
    setenv("TUG_NVML", "", 1);
}

static void a_gpu_is_probed(void **state) {
    (void)state;
    tug_plan_machine m = {.name = "here"};
    must(tug_planning_probe_gpu(&m, 0, &err));
    assert_true(m.has_gpu && m.vram_total > 0 && m.vram_available <= m.vram_total);
    assert_true(m.vram_bytes_s > 0.0 && m.link_bytes_s > 0.0 && m.handoff_s > 0.0);
    assert_int_equal(tug_planning_probe_gpu(&m, 9, &err), TUG_EUNSUPPORTED);
}

static int find_driver(void **state) {
    (void)state;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    void (*configure)(const char *) = NULL;
    if (!driver) return -1;
    *(void **)&configure = dlsym(driver, "tug_emu_configure");
    if (!configure) {
        printf("skip: this is a real driver\n");
        exit(0);
    }
    configure("vram=200M");
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_planned_is_taken),
        cmocka_unit_test(sessions_have_their_room),
        cmocka_unit_test(sessions_share_what_is_left),
        cmocka_unit_test(batches_shrink),
        cmocka_unit_test(the_least_is_named),
        cmocka_unit_test(the_estimate_is_near),
        cmocka_unit_test(the_plan_is_told),
        cmocka_unit_test(counters_count),
        cmocka_unit_test(limits_are_measured),
        cmocka_unit_test(costs_are_measured),
        cmocka_unit_test(costs_choose_places_only),
        cmocka_unit_test(power_is_told_or_not),
        cmocka_unit_test(a_gpu_is_probed),
    };
    return cmocka_run_group_tests(tests, find_driver, NULL);
}
