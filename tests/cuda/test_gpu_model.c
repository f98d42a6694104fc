/* test_gpu_model.c - the tiny model on the GPU: the same text as on the CPU, wherever its
 * experts are.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/gpu_world.h"
#include "engine/engine_impl.h"
#include "kernels/kt.h"
#include "model/place.h"
#include "tokenizer/tokenizer.h"

#define MODEL "models/tug-tiny-coder-q8_0.gguf"

enum { N_CTX = 512, N_PROMPT = 300, N_TEXT = 6 };

/* Logits of the GPU and of the CPU differ by roundings: f16 in the cache, sums in another
 * order, weights of long attention in f16.  Measured: 4e-9, with a prompt of 300 3e-7. */
#define LOGITS_NMSE 1e-6

static int32_t prompt[N_PROMPT];
static tug_model *cpu;

/* A real driver has none of the functions above. */
static bool emulated(void) {
    return emu.configure != NULL;
}

static tug_status open_for(tug_model **m, uint64_t vram, int64_t n_ctx, tug_err *err) {
    const tug_model_params p = {.path = MODEL,
                                .n_threads = 2,
                                .gpu = "0",
                                .vram_bytes = vram,
                                .n_ctx = n_ctx,
                                .n_batch = N_PROMPT};
    return tug_model_open(m, &p, err);
}

static tug_status open_gpu(tug_model **m, uint64_t vram, tug_err *err) {
    return open_for(m, vram, N_CTX, err);
}

static tug_status new_session(tug_session **s, tug_model *m, tug_kv_cache_type kv,
                              tug_err *err) {
    const tug_session_params p = {.n_ctx = N_CTX, .n_batch = N_PROMPT, .kv_type = kv};
    return tug_session_create(s, m, &p, err);
}

static int32_t likeliest(const float *logits, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return (int32_t)best;
}

/* Greedy continuation of s; the logits before every token of it. */
static tug_status continue_text(tug_session *s, int64_t n_vocab, int32_t ids[N_TEXT],
                                float *logits, tug_err *err) {
    for (int i = 0; i < N_TEXT; i++) {
        const float *now = tug_session_logits(s);
        if (logits) memcpy(logits + i * n_vocab, now, (size_t)n_vocab * sizeof *now);
        ids[i] = likeliest(now, n_vocab);
        TUG_TRY(tug_session_append(s, &ids[i], 1, err));
    }
    return TUG_OK;
}

static void text_of(tug_model *m, tug_kv_cache_type kv, int64_t n_prompt,
                    int32_t ids[N_TEXT], float *logits) {
    tug_session *s;
    tug_err err;
    must(new_session(&s, m, kv, &err), &err);
    must(tug_session_append(s, prompt, n_prompt, &err), &err);
    must(continue_text(s, tug_model_get_info(m).n_vocab, ids, logits, &err), &err);
    tug_session_destroy(&s);
}

/* The model on the GPU against the CPU, with a prompt of so many tokens at once. */
static void compare(tug_model *gpu, tug_kv_cache_type kv, int64_t n_prompt) {
    const int64_t n_vocab = tug_model_get_info(gpu).n_vocab;
    const size_t bytes = (size_t)(N_TEXT * n_vocab) * sizeof(float);
    float *want = malloc(bytes), *got = malloc(bytes);
    int32_t want_ids[N_TEXT], got_ids[N_TEXT];
    text_of(cpu, kv, n_prompt, want_ids, want);
    text_of(gpu, kv, n_prompt, got_ids, got);
    const double e = kt_nmse(got, want, n_vocab); /* before the texts may differ */
    const double limit = kv == TUG_KV_CACHE_Q8_0 ? 1e-3 : LOGITS_NMSE;
    if (!(e <= limit)) fail_msg("prompt of %d: NMSE %g", (int)n_prompt, e);
    for (int i = 0; i < N_TEXT; i++) {
        if (got_ids[i] != want_ids[i]) {
            fail_msg("prompt of %d: token %d is %d, not %d", (int)n_prompt, i, got_ids[i],
                     want_ids[i]);
        }
    }
    free(want);
    free(got);
}

/* ---- ceilings ---------------------------------------------------------------------------- */

static uint64_t expert_slot(const tug_model *m) {
    const tug_moe_weights *w = &m->net.weights.layer[0].moe;
    return tug_cuda_experts_bytes(w, 2) - tug_cuda_experts_bytes(w, 1);
}

static uint64_t session_bytes(const tug_model *m) {
    const tug_state_shape s = tug_net_state_shape(&m->net, TUG_KV_F16);
    return (N_CTX + 2 * TUG_KV_BLOCK) * tug_state_bytes_per_token(&s) +
           tug_state_recurrent_bytes(&s) + 4096;
}

/* VRAM with which exactly n experts get a copy. */
static uint64_t ceiling_for(int64_t n) {
    tug_model *m;
    tug_err err;
    must(open_gpu(&m, 0, &err), &err);
    const tug_model_info info = tug_model_get_info(m);
    const int64_t all = info.n_layer * info.n_expert;
    assert_int_equal(info.n_experts_on_gpu, all);
    const uint64_t left_out = (uint64_t)(all - n) * expert_slot(m);
    const uint64_t carrier = n < all ? carrier_for(expert_slot(m), n) : 0;
    /* A little less than one more would take. */
    const uint64_t vram =
        info.vram_used + session_bytes(m) - left_out + carrier + expert_slot(m) / 2;
    tug_model_close(&m);
    return vram;
}

static void test_ceilings(void **state) {
    (void)state;
    static const int64_t prompts[] = {1, 20};
    const tug_model_info info = tug_model_get_info(cpu);
    const int64_t all = info.n_layer * info.n_expert;
    const int64_t counts[] = {all, all / 3, 1, 0};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        tug_model *gpu;
        tug_err err;
        must(open_gpu(&gpu, ceiling_for(counts[i]), &err), &err);
        const tug_model_info now = tug_model_get_info(gpu);
        assert_int_equal(now.n_experts_on_gpu, counts[i]);
        const unsigned long before = emulated() ? emu.launches(NULL) : 0;
        for (size_t p = 0; p < sizeof prompts / sizeof *prompts; p++) {
            compare(gpu, TUG_KV_CACHE_F16, prompts[p]);
        }
        if (emulated()) {
            assert_string_equal(now.gpu, "emulated GPU");
            assert_true(emu.launches(NULL) > before + 500);
        }
        assert_true(tug_model_get_info(gpu).vram_used <= now.vram_bytes);
        tug_model_close(&gpu);
    }
}

static void test_too_little(void **state) {
    (void)state;
    tug_model *gpu;
    tug_err err;
    const uint64_t none = ceiling_for(0);
    assert_int_equal(open_gpu(&gpu, none - expert_slot(cpu), &err), TUG_ENOMEM);
    assert_non_null(strstr(err.msg, "use a larger --vram"));
    assert_int_equal(open_gpu(&gpu, 1 << 20, &err), TUG_ENOMEM);
    assert_non_null(strstr(err.msg, "the dense weights alone take"));
    tug_model_params p = {.path = MODEL, .gpu = "first"};
    assert_int_equal(tug_model_open(&gpu, &p, &err), TUG_EUSAGE);
    p.gpu = "70";
    assert_int_equal(tug_model_open(&gpu, &p, &err), TUG_EUNSUPPORTED);
    /* A session larger than what is left. */
    must(open_gpu(&gpu, none, &err), &err);
    tug_session *s;
    const tug_session_params big = {.n_ctx = 4096};
    assert_int_equal(tug_session_create(&s, gpu, &big, &err), TUG_ENOMEM);
    const tug_session_params f32 = {.n_ctx = 64, .kv_type = TUG_KV_CACHE_F32};
    assert_int_equal(tug_session_create(&s, gpu, &f32, &err), TUG_EUNSUPPORTED);
    tug_model_close(&gpu);
}

/* ---- experts that move ------------------------------------------------------------------------ */

/* Every newcomer gets a slot: the contents change with every token. */
static void churn(tug_model *m) {
    tug_cuda_of(m->be)->costs.newcomer_margin = -1e9;
}

/* A link so fast that all absent experts of a prompt are carried, or so slow that none is. */
static void set_link(tug_model *m, double bytes_per_s) {
    tug_cuda_of(m->be)->costs.link_bytes_per_s = bytes_per_s;
}

/* On the device, expert x of a layer has the rows of the file where the tables say. */
static void check_expert(tug_model *gpu, const tug_cuda_experts *e,
                         const tug_moe_weights *file, const uint64_t *tables, int x) {
    for (int j = 0; j < TUG_CUDA_MATRICES; j++) {
        const uint64_t at = tables[j * e->n_expert + x];
        assert_int_equal(at != 0, e->here[x]);
        if (!at) continue;
        const tug_weight *w = tug_cuda_matrix(file, j);
        const size_t bytes = tug_cuda_matrix_bytes(w);
        uint8_t *got = malloc(bytes);
        tug_err err;
        tug_backend_read(gpu->be, got, (const void *)(uintptr_t)at, bytes);
        must(tug_backend_wait(gpu->be, &err), &err);
        assert_memory_equal(got, tug_weight_row(w, x, 0), bytes);
        free(got);
    }
}

/* The host's mirror, the device's tables and the bytes in the slots agree. */
static void check_slots(tug_model *gpu) {
    tug_model *file; /* its weights lie as in the file */
    tug_err err;
    const tug_model_params p = {.path = MODEL, .cpu_level = "ref"};
    must(tug_model_open(&file, &p, &err), &err);
    for (int i = 0; i < gpu->net.weights.n_layer; i++) {
        const tug_cuda_experts *e = gpu->net.weights.layer[i].moe.on_gpu;
        const size_t n = (size_t)(TUG_CUDA_MATRICES * e->n_expert);
        uint64_t *tables = malloc(n * sizeof *tables);
        tug_backend_read(gpu->be, tables, e->tables, n * sizeof *tables);
        must(tug_backend_wait(gpu->be, &err), &err);
        for (int x = 0; x < e->n_expert; x++) {
            check_expert(gpu, e, &file->net.weights.layer[i].moe, tables, x);
        }
        for (int s = 0; s < e->n_slot; s++) {
            assert_true(e->in_slot[s] < 0 || e->here[e->in_slot[s]]);
        }
        free(tables);
    }
    tug_model_close(&file);
}

static void test_churn(void **state) {
    (void)state;
    static const int64_t counts[] = {64, 26};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        tug_model *gpu;
        tug_err err;
        must(open_gpu(&gpu, ceiling_for(counts[i]), &err), &err);
        assert_int_equal(tug_model_get_info(gpu).n_experts_on_gpu, counts[i]);
        churn(gpu);
        for (int64_t n_prompt = 1; n_prompt < 3; n_prompt++) {
            compare(gpu, TUG_KV_CACHE_F16, n_prompt);
        }
        const tug_cuda_slot_stats now = tug_backend_gpu_slots(gpu->be);
        assert_true(now.promotions >= 10 && now.hits > 0 && now.misses > 0);
        assert_true(now.bytes > 0 && now.seeded == 0 && now.streamed == 0);
        check_slots(gpu);
        tug_model_close(&gpu);
    }
}

/* One slot in all layers together, and none, but room to move experts. */
static void test_least(void **state) {
    (void)state;
    for (int64_t n = 0; n < 2; n++) {
        tug_model *gpu;
        tug_err err;
        /* Room for a larger session is room for a carrier. */
        must(open_for(&gpu, ceiling_for(n) + (4 << 20), N_CTX + 2048, &err), &err);
        assert_int_equal(tug_model_get_info(gpu).n_experts_on_gpu, n);
        must(tug_cuda_carrier_create(gpu->be, expert_slot(gpu), 1, &err), &err);
        tug_weights_pin(&gpu->net.weights, gpu->be);
        churn(gpu);
        set_link(gpu, 1e30);
        compare(gpu, TUG_KV_CACHE_F16, 1);
        compare(gpu, TUG_KV_CACHE_F16, 18);
        const tug_cuda_slot_stats now = tug_backend_gpu_slots(gpu->be);
        assert_int_equal(now.promotions > 0, n);
        assert_true(now.streamed > 0);
        check_slots(gpu);
        tug_model_close(&gpu);
    }
}

/* The margin keeps most newcomers out. */
static void test_calm(void **state) {
    (void)state;
    tug_model *gpu;
    tug_err err;
    must(open_gpu(&gpu, ceiling_for(64), &err), &err);
    tug_cuda_of(gpu->be)->costs.newcomer_margin = 1e9;
    compare(gpu, TUG_KV_CACHE_F16, 3);
    assert_int_equal(tug_backend_gpu_slots(gpu->be).promotions, 0);
    check_slots(gpu);
    tug_model_close(&gpu);
}

/* Experts that are not packed, and so not in pinned memory. */
static void test_by_hand(void **state) {
    (void)state;
    tug_model *gpu;
    tug_err err;
    const tug_model_params p = {.path = MODEL,
                                .n_threads = 2,
                                .cpu_level = "ref",
                                .gpu = "0",
                                .vram_bytes = ceiling_for(64),
                                .n_ctx = N_CTX,
                                .n_batch = N_PROMPT};
    must(tug_model_open(&gpu, &p, &err), &err);
    assert_null(gpu->net.weights.packed);
    churn(gpu);
    set_link(gpu, 1e30); /* but nothing is carried by hand for a batch */
    compare(gpu, TUG_KV_CACHE_F16, 2);
    compare(gpu, TUG_KV_CACHE_F16, 18);
    const tug_cuda_slot_stats now = tug_backend_gpu_slots(gpu->be);
    assert_true(now.promotions > 0);
    assert_int_equal(now.streamed, 0);
    check_slots(gpu);
    tug_model_close(&gpu);
}

/* Prompts of any length, with all absent experts carried, and with none. */
static void test_every_length(void **state) {
    (void)state;
    static const int64_t prompts[] = {2,   15, 16, 17,
#ifndef __SANITIZE_THREAD__ /* TSan does not watch kernels, whose time long ones take */
                                      129, 300
#endif
    };
    tug_model *gpu;
    tug_err err;
    must(open_gpu(&gpu, ceiling_for(40), &err), &err);
    set_link(gpu, 1e30);
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        compare(gpu, TUG_KV_CACHE_F16, prompts[i]);
        assert_int_equal(tug_backend_gpu_slots(gpu->be).streamed > 0, prompts[i] > 16);
    }
    compare(gpu, TUG_KV_CACHE_Q8_0, 12);
    const uint64_t streamed = tug_backend_gpu_slots(gpu->be).streamed;
    set_link(gpu, 1e-30);
    compare(gpu, TUG_KV_CACHE_F16, 70);
    assert_int_equal(tug_backend_gpu_slots(gpu->be).streamed, streamed);
    check_slots(gpu);
    tug_model_close(&gpu);
}

/* After a prompt its experts have the slots. */
static void test_seeding(void **state) {
    (void)state;
    tug_model *gpu;
    tug_err err;
    must(open_gpu(&gpu, ceiling_for(64), &err), &err);
    tug_cuda_of(gpu->be)->costs =
        tug_cuda_usual_costs; /* a GPU that is faster than the CPU */
    tug_cuda_of(gpu->be)->costs.newcomer_margin = 1e9;
    tug_cuda_of(gpu->be)->costs.answer_tokens = 1e9;
    compare(gpu, TUG_KV_CACHE_F16, 40);
    const tug_cuda_slot_stats now = tug_backend_gpu_slots(gpu->be);
    assert_true(now.seeded > 0 && now.promotions == 0);
    check_slots(gpu);
    tug_cuda_of(gpu->be)->costs.answer_tokens = 0;
    compare(gpu, TUG_KV_CACHE_F16, 40);
    assert_int_equal(tug_backend_gpu_slots(gpu->be).seeded, now.seeded);
    tug_model_close(&gpu);
}

static void test_split(void **state) {
    (void)state;
    tug_cuda_load load[8] = {{0, 100}, {1, 50}, {2, 20}, {3, 10},
                             {4, 5},   {5, 2},  {6, 1},  {7, 1}};
    /* Crossing takes 10, the CPU 1 a token and at least 2. */
    tug_cuda_costs k = {
        .link_bytes_per_s = 10, .host_bytes_per_s = 50, .host_macs_per_s = 1};
    assert_int_equal(tug_cuda_split(&k, load, 0, 100, 1), 0);
    assert_int_equal(tug_cuda_split(&k, load, 8, 100, 1), 3); /* 30 against 21 */
    assert_int_equal(tug_cuda_split(&k, load + 4, 4, 100, 1),
                     1); /* 10 against 6, not 11 */
    assert_int_equal(tug_cuda_split(&k, load + 5, 3, 100, 1), 0);
    k.link_bytes_per_s = 1e30;
    assert_int_equal(tug_cuda_split(&k, load, 8, 100, 1), 8);
    k.link_bytes_per_s = 1e-30;
    assert_int_equal(tug_cuda_split(&k, load, 8, 100, 1), 0);
}

/* ---- save points, other streams of events ---------------------------------------------------- */

static void test_save_points(void **state) {
    (void)state;
    tug_model *gpu;
    tug_session *s, *other;
    tug_session_mark *early = NULL, *late = NULL;
    tug_err err;
    /* Room for a larger session is room for two. */
    must(open_for(&gpu, ceiling_for(40) + (4 << 20), N_CTX + 2048, &err), &err);
    churn(gpu);
    const int64_t n_vocab = tug_model_get_info(gpu).n_vocab;
    must(new_session(&s, gpu, TUG_KV_CACHE_F16, &err), &err);
    int32_t want[N_TEXT], early_want[N_TEXT], got[N_TEXT];
    must(tug_session_append(s, prompt, 10, &err), &err);
    must(tug_session_save(s, &early, &err), &err);
    must(continue_text(s, n_vocab, early_want, NULL, &err), &err);
    must(tug_session_restore(s, early, &err), &err);
    must(tug_session_append(s, prompt + 10, 12, &err), &err);
    must(tug_session_save(s, &late, &err), &err);
    must(continue_text(s, n_vocab, want, NULL, &err), &err);
    for (int round = 0; round < 2; round++) {
        must(tug_session_restore(s, early, &err), &err);
        must(continue_text(s, n_vocab, got, NULL, &err), &err);
        assert_memory_equal(got, early_want, sizeof got);
        must(tug_session_restore(s, late, &err), &err);
        must(continue_text(s, n_vocab, got, NULL, &err), &err);
        assert_memory_equal(got, want, sizeof got);
    }
    must(new_session(&other, gpu, TUG_KV_CACHE_F16, &err), &err);
    must(tug_session_fork(other, s, late, &err), &err);
    must(continue_text(other, n_vocab, got, NULL, &err), &err);
    assert_memory_equal(got, want, sizeof got);
    tug_session_mark_destroy(&early);
    tug_session_mark_destroy(&late);
    tug_session_destroy(&other);
    tug_session_destroy(&s);
    tug_model_close(&gpu);
}

static void test_any_schedule(void **state) {
    (void)state;
    if (!emulated()) skip();
    for (int seed = 0; seed < 4; seed++) {
        char option[64];
        snprintf(option, sizeof option, "schedule=random:%d", seed);
        emu.configure(seed ? option : "schedule=deferred");
        tug_model *gpu;
        tug_err err;
        must(open_gpu(&gpu, ceiling_for(30), &err), &err);
        tug_cuda_of(gpu->be)->costs = tug_cuda_usual_costs;
        churn(gpu);
        set_link(gpu, 1e30);
        tug_cuda_of(gpu->be)->costs.answer_tokens = 1e9;
        compare(gpu, TUG_KV_CACHE_F16, 3);
        compare(gpu, TUG_KV_CACHE_F16, 24);
        const tug_cuda_slot_stats now = tug_backend_gpu_slots(gpu->be);
        assert_true(now.promotions > 0 && now.streamed > 0);
        check_slots(gpu);
        tug_model_close(&gpu);
    }
    emu.configure("schedule=immediate");
}

/* ---- failures ----------------------------------------------------------------------------------- */

static void test_lost_device(void **state) {
    (void)state;
    if (!emulated()) skip();
    tug_model *gpu;
    tug_session *s;
    tug_session_mark *mark = NULL;
    tug_err err, first;
    must(open_gpu(&gpu, 0, &err), &err);
    must(new_session(&s, gpu, TUG_KV_CACHE_F16, &err), &err);
    must(tug_session_append(s, prompt, 2, &err), &err);
    emu.configure("fail=30:719");
    assert_int_equal(tug_session_append(s, prompt, 2, &first), TUG_EDEVICE);
    assert_int_equal(tug_session_n_tokens(s), 0);
    assert_null(tug_session_logits(s));
    assert_int_equal(tug_session_append(s, prompt, 2, &err), TUG_EDEVICE);
    assert_string_equal(first.msg, err.msg);
    assert_int_equal(tug_session_save(s, &mark, &err), TUG_EDEVICE);
    tug_session_mark_destroy(&mark);
    tug_session_destroy(&s);
    tug_model_close(&gpu);
    emu.recover();
    assert_nothing_lives("closing everything");
}

/* ---- start ---------------------------------------------------------------------------------------- */

static int setup(void **state) {
    (void)state;
    if (!find_driver()) return -1;
    tug_err err;
    const tug_model_params p = {.path = MODEL, .n_threads = 2};
    must(tug_model_open(&cpu, &p, &err), &err);
    static const char text[] =
        "def reverse(s):\n    \"\"\"Returns s from its end to its beginning.\"\"\"\n"
        "    return s[::-1]\n\n\nclass Stack:\n    def __init__(self):\n"
        "        self.items = []\n\n    def push(self, item):\n"
        "        self.items.append(item)\n\n    def pop(self):\n"
        "        if not self.items:\n            raise IndexError('empty')\n"
        "        return self.items.pop()\n\n\n";
    tug_ids ids = {0};
    tug_encoder *encoder;
    must(tug_encoder_create(&encoder, tug_model_tokenizer(cpu), &err), &err);
    must(tug_encode(encoder, tug_str_of(text), TUG_CONTROL_IS_TEXT, &ids, &err), &err);
    tug_encoder_destroy(&encoder);
    for (size_t i = 0; i < N_PROMPT; i++) prompt[i] = ids.p[i % ids.n];
    tug_ids_free(&ids);
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
        cmocka_unit_test(test_ceilings),     cmocka_unit_test(test_too_little),
        cmocka_unit_test(test_save_points),  cmocka_unit_test(test_split),
        cmocka_unit_test(test_churn),        cmocka_unit_test(test_least),
        cmocka_unit_test(test_calm),         cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_every_length), cmocka_unit_test(test_seeding),
        cmocka_unit_test(test_any_schedule), cmocka_unit_test(test_lost_device),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, setup, teardown);
}
