/* test_gpu_graph.c - passes as recorded graphs and the handoff by words, on the tiny model and
 * the emulated driver: the same bits as op by op with events, whatever happens beside them.
 * A token takes the emulated driver a tenth of a second: texts are short.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "cuda/gpu_world.h"
#include "engine/engine_impl.h"
#include "fault/fault.h"
#include "tug_profile.h"

#define MODEL "models/tug-tiny-coder-q8_0.gguf"

enum { N_CTX = 256, N_BATCH = 128, N_TEXT = 44 };

static int32_t prompt[N_BATCH];
static int64_t n_vocab, n_experts; /* of all layers */
static int (*synchronize)(void);

/* ---- models and texts -------------------------------------------------------------------- */

static tug_model *open_model(const char *gpu, uint64_t vram) {
    const tug_model_params p = {.path = MODEL,
                                .n_threads = 1,
                                .gpu = gpu,
                                .vram_bytes = vram,
                                .n_ctx = 6 * N_CTX, /* room for three sessions */
                                .n_batch = N_BATCH};
    tug_model *m;
    tug_err err;
    must(tug_model_open(&m, &p, &err), &err);
    return m;
}

/* With copies of n experts of all layers together. */
static tug_model *open_with(int64_t n) {
    static uint64_t for_all, slot;
    if (!for_all) {
        tug_model *m = open_model("0", 0);
        const tug_moe_weights *w = &m->net.weights.layer[0].moe;
        const tug_state_shape s = tug_net_state_shape(&m->net, TUG_KV_F16);
        slot = tug_cuda_experts_bytes(w, 2) - tug_cuda_experts_bytes(w, 1);
        for_all = tug_model_get_info(m).vram_used + tug_state_recurrent_bytes(&s) + 4096 +
                  (6 * N_CTX + 2 * TUG_KV_BLOCK) * tug_state_bytes_per_token(&s);
        tug_model_close(&m);
    }
    const uint64_t carrier = n < n_experts ? carrier_for(slot, n) : 0;
    tug_model *m =
        open_model("0", for_all - (uint64_t)(n_experts - n) * slot + carrier + slot / 2);
    assert_int_equal(tug_model_get_info(m).n_experts_on_gpu, n);
    /* The same bits need the same experts in the same places: nobody moves, and prompts are
     * split by the same figures, whatever this machine measured. */
    tug_cuda_of(m->be)->costs = tug_cuda_usual_costs;
    tug_cuda_of(m->be)->costs.newcomer_margin = 1e30;
    tug_cuda_of(m->be)->costs.answer_tokens = 0;
    return m;
}

static tug_session *new_session(tug_model *m) {
    const tug_session_params p = {
        .n_ctx = N_CTX, .n_batch = N_BATCH, .kv_type = TUG_KV_CACHE_F16};
    tug_session *s;
    tug_err err;
    must(tug_session_create(&s, m, &p, &err), &err);
    return s;
}

static int32_t likeliest(const float *logits) {
    int64_t best = 0;
    for (int64_t i = 1; i < n_vocab; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return (int32_t)best;
}

typedef struct text {
    int32_t ids[N_TEXT];
    float *logits; /* (N_TEXT, n_vocab): before each of them */
} text;

static text *new_text(void) {
    text *t = calloc(1, sizeof *t);
    t->logits = malloc((size_t)(N_TEXT * n_vocab) * sizeof(float));
    return t;
}

static void free_text(text *t) {
    free(t->logits);
    free(t);
}

/* Tokens [from, end) of the greedy continuation of s. */
static tug_status go_on(tug_session *s, text *t, int from, int end, tug_err *err) {
    for (int i = from; i < end; i++) {
        const float *now = tug_session_logits(s);
        memcpy(t->logits + i * n_vocab, now, (size_t)n_vocab * sizeof *now);
        t->ids[i] = likeliest(now);
        TUG_TRY(tug_session_append(s, &t->ids[i], 1, err));
    }
    return TUG_OK;
}

/* n tokens of the continuation of a prompt. */
static text *text_of(tug_model *m, int64_t n_prompt, int n) {
    tug_session *s = new_session(m);
    text *t = new_text();
    tug_err err;
    must(tug_session_append(s, prompt, n_prompt, &err), &err);
    must(go_on(s, t, 0, n, &err), &err);
    tug_session_destroy(&s);
    return t;
}

static void assert_same(const text *got, const text *want, int from, int end,
                        const char *what) {
    for (int i = from; i < end; i++) {
        if (memcmp(got->logits + i * n_vocab, want->logits + i * n_vocab,
                   (size_t)n_vocab * sizeof(float)) != 0) {
            fail_msg("%s: logits of token %d differ", what, i);
        }
    }
    assert_memory_equal(got->ids + from, want->ids + from,
                        (size_t)(end - from) * sizeof *got->ids);
}

static uint64_t replays(const tug_model *m) {
    return tug_backend_gpu_counts(m->be).replays;
}
static uint64_t captures(const tug_model *m) {
    return tug_backend_gpu_counts(m->be).captures;
}

/* ---- the same bits ------------------------------------------------------------------------- */

/* What n tokens after so many record and replay: passes, if they can be recorded, and heads.
 * The first of each runs op by op; and of passes once more where attention goes over to twice
 * as many parts. */
static void assert_counts(tug_gpu_counts before, tug_gpu_counts now, int64_t n_before,
                          int n, bool graphs, bool passes) {
    const bool longer = n_before < 128 && n_before + n > 128;
    const int of_passes = passes ? n - 1 - longer : 0;
    assert_int_equal(now.replays - before.replays, graphs ? n - 1 + of_passes : 0);
    assert_int_equal(now.captures - before.captures,
                     graphs ? 1 + passes * (1 + longer) : 0);
}

/* What ran since: the same whether it was recorded or not. */
static tug_device_counters work_since(const tug_model *m,
                                      const tug_device_counters *before) {
    tug_device_counters c = *tug_backend_gpu_counters(m->be);
    c.in_bytes -= before->in_bytes;
    c.out_bytes -= before->out_bytes;
    c.launches -= before->launches;
    return c;
}

/* n tokens after one prompt, by events, by words, and by both with graphs; and the same text
 * as the CPU's. */
static void compare_ways(tug_model *m, tug_model *cpu, int64_t n_prompt, int n) {
    static const char *const name[] = {"events", "words", "graphs", "words and graphs"};
    const bool all_here = tug_model_get_info(m).n_experts_on_gpu == n_experts;
    tug_session *s = new_session(m);
    tug_session_mark *mark = NULL;
    tug_device_counters work[4];
    tug_err err;
    must(tug_session_append(s, prompt, n_prompt, &err), &err);
    must(tug_session_save(s, &mark, &err), &err);
    text *want = text_of(cpu, n_prompt, n), *first = new_text(), *got = new_text();
    for (int way = 0; way < 4; way++) {
        const bool words = way & 1, graphs = way & 2;
        tug_backend_gpu_use(m->be, words, graphs);
        must(tug_session_restore(s, mark, &err), &err);
        const tug_gpu_counts before = tug_backend_gpu_counts(m->be);
        const tug_device_counters then = *tug_backend_gpu_counters(m->be);
        must(go_on(s, way == 0 ? first : got, 0, n, &err), &err);
        assert_counts(before, tug_backend_gpu_counts(m->be), n_prompt, n, graphs,
                      words || all_here);
        work[way] = work_since(m, &then);
        assert_true(work[way].launches > 100);
        if (graphs) assert_memory_equal(&work[way], &work[way - 2], sizeof *work);
        if (way > 0) assert_same(got, first, 0, n, name[way]);
    }
    assert_memory_equal(got->ids, want->ids, (size_t)n * sizeof *got->ids);
    tug_session_mark_destroy(&mark);
    tug_session_destroy(&s);
    free_text(want);
    free_text(first);
    free_text(got);
}

static void test_every_residency(void **state) {
    (void)state;
    /* The second: layers with one more than others. */
    const int64_t counts[] = {n_experts, n_experts - 20, n_experts / 3, 1, 0};
    tug_model *cpu = open_model(NULL, 0);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        tug_model *m = open_with(counts[i]);
        compare_ways(m, cpu, i % 2 ? 1 : 3, 5);
        tug_model_close(&m);
    }
    tug_model_close(&cpu);
}

/* Over the length at which attention is cut into two parts. */
static void test_long_text(void **state) {
    (void)state;
    tug_model *cpu = open_model(NULL, 0), *m = open_with(n_experts / 3);
    compare_ways(m, cpu, 100, N_TEXT);
    tug_model_close(&m);
    tug_model_close(&cpu);
}

/* A driver that cannot wait for words: events, and graphs only where nobody waits. */
static void test_without_words(void **state) {
    (void)state;
    text *got[2];
    for (int memops = 0; memops < 2; memops++) {
        emu.configure(memops ? "memops=1" : "memops=0");
        tug_model *m = open_with(n_experts / 3);
        assert_int_equal(tug_backend_gpu(m->be)->waits_for_words, memops);
        got[memops] = text_of(m, 5, 5);
        assert_counts((tug_gpu_counts){0}, tug_backend_gpu_counts(m->be), 5, 5, true,
                      memops);
        tug_model_close(&m);
    }
    assert_same(got[0], got[1], 0, 5, "no words");
    free_text(got[0]);
    free_text(got[1]);
}

/* ---- sessions ------------------------------------------------------------------------------- */

/* Two sessions in turn, a save point, a fork, a third that comes and goes: graphs of one never
 * run for another. */
static void test_sessions(void **state) {
    (void)state;
    tug_model *m = open_with(n_experts / 2);
    tug_err err;
    tug_backend_gpu_use(m->be, false, false);
    text *want = text_of(m, 3, 12), *other = text_of(m, 2, 4);
    tug_backend_gpu_use(m->be, true, true);
    tug_session *a = new_session(m), *b = new_session(m);
    text *got = new_text(), *got_b = new_text();
    must(tug_session_append(a, prompt, 3, &err), &err);
    must(tug_session_append(b, prompt, 2, &err), &err);
    for (int i = 0; i < 4; i++) {
        must(go_on(a, got, i, i + 1, &err), &err);
        must(go_on(b, got_b, i, i + 1, &err), &err);
    }
    assert_same(got, want, 0, 4, "first in turn");
    assert_same(got_b, other, 0, 4, "second in turn");
    tug_session_mark *mark = NULL;
    must(tug_session_save(a, &mark, &err), &err);
    must(go_on(a, got, 4, 6, &err), &err);
    must(tug_session_fork(b, a, mark, &err), &err);
    must(go_on(b, got_b, 4, 7, &err), &err);
    assert_same(got_b, want, 4, 7, "fork");
    must(tug_session_restore(a, mark, &err), &err);
    must(go_on(a, got, 4, 8, &err), &err);
    assert_same(got, want, 4, 8, "restored");
    tug_session_destroy(&b); /* memory of the device goes: so do graphs */
    const uint64_t captured = captures(m);
    must(go_on(a, got, 8, 12, &err), &err);
    assert_int_equal(captures(m), captured + 2);
    assert_same(got, want, 8, 12, "after the other one");
    tug_session_mark_destroy(&mark);
    tug_session_destroy(&a);
    free_text(want);
    free_text(other);
    free_text(got);
    free_text(got_b);
    tug_model_close(&m);
}

/* ---- what stops a graph ------------------------------------------------------------------------ */

/* Expert i of a layer loses its copy between two passes. */
static void evict(tug_model *m, int layer, int i) {
    tug_cuda_experts *e = m->net.weights.layer[layer].moe.on_gpu;
    assert_int_equal(e->here[i], 1);
    e->here[i] = 0;
    e->n_slot--; /* what the backend asks; see restore_slots */
    for (int j = 0; j < 3; j++) {
        tug_backend_clear(m->be, (uint64_t *)e->tables + (int64_t)j * e->n_expert + i,
                          sizeof(uint64_t));
    }
}

/* Every second expert of every layer, from `first` on. */
static void evict_half(tug_model *m, int first) {
    for (int l = 0; l < tug_model_get_info(m).n_layer; l++) {
        const int n = m->net.weights.layer[l].moe.on_gpu->n_expert;
        for (int i = first; i < n; i += 2) evict(m, l, i);
    }
}

/* As many slots as there are to be freed. */
static void restore_slots(tug_model *m) {
    for (int l = 0; l < tug_model_get_info(m).n_layer; l++) {
        tug_cuda_experts *e = m->net.weights.layer[l].moe.on_gpu;
        e->n_slot = e->n_expert;
    }
}

/* From all to some to none: what was recorded for one is not used for the other. */
static void test_residency_changes(void **state) {
    (void)state;
    tug_model *m = open_with(n_experts);
    tug_err err;
    text *want = text_of(m, 3, 12), *got = new_text();
    tug_session *s = new_session(m);
    must(tug_session_append(s, prompt, 3, &err), &err);
    must(go_on(s, got, 0, 4, &err), &err);
    const uint64_t captured = captures(m);
    evict_half(m, 0);
    must(go_on(s, got, 4, 8, &err), &err);
    assert_int_equal(captures(m), captured + 1);
    evict_half(m, 1);
    must(go_on(s, got, 8, 12, &err), &err);
    assert_int_equal(captures(m), captured + 2);
    /* Not the logits: the CPU rounds otherwise. */
    assert_memory_equal(got->ids, want->ids, 12 * sizeof *want->ids);
    tug_session_destroy(&s);
    restore_slots(m);
    free_text(want);
    free_text(got);
    tug_model_close(&m);
}

typedef struct seen {
    int64_t n;
    int32_t sum;
} seen;

static void on_routes(void *ud, int layer, const int32_t *ids, int n_used,
                      int64_t n_tok) {
    seen *s = ud;
    s->n += n_tok;
    for (int64_t i = 0; i < n_tok * n_used; i++) {
        s->sum = (int32_t)((uint32_t)s->sum * 31u + (uint32_t)ids[i] + (uint32_t)layer);
    }
}

/* Two tokens with somebody who looks at every layer: they run op by op. */
static void look(tug_model *m, bool words, seen *out) {
    tug_err err;
    tug_session *s = new_session(m);
    text *t = new_text();
    tug_backend_gpu_use(m->be, words, true);
    must(tug_session_append(s, prompt, 1, &err), &err);
    must(go_on(s, t, 0, 2, &err), &err);
    const uint64_t before = replays(m);
    tug_model_on_routes(m, on_routes, out);
    must(go_on(s, t, 2, 4, &err), &err);
    tug_model_on_routes(m, NULL, NULL);
    assert_int_equal(replays(m), before + 2); /* heads */
    assert_int_equal(out->n, 2 * tug_model_get_info(m).n_layer);
    tug_session_destroy(&s);
    free_text(t);
}

static void test_looking(void **state) {
    (void)state;
    seen by_words = {0}, by_events = {0};
    tug_model *m = open_with(n_experts / 2);
    look(m, true, &by_words);
    look(m, false, &by_events);
    assert_int_equal(by_words.sum, by_events.sum);
    tug_model_close(&m);
}

/* Who measures stages gets them. */
static void test_profile(void **state) {
    (void)state;
    tug_err err;
    tug_profile p;
    tug_model *m = open_with(n_experts / 2);
    tug_session *s = new_session(m);
    text *t = new_text();
    must(tug_session_append(s, prompt, 1, &err), &err);
    must(go_on(s, t, 0, 2, &err), &err);
    const uint64_t before = replays(m);
    must(tug_model_profile_start(m, &err), &err);
    must(go_on(s, t, 2, 4, &err), &err);
    tug_model_profile_stop(m, &p);
    assert_int_equal(replays(m), before);
    must(go_on(s, t, 4, 5, &err), &err);
    assert_int_equal(replays(m), before + 2);
    tug_session_destroy(&s);
    free_text(t);
    tug_model_close(&m);
}

/* ---- schedules and a slow CPU -------------------------------------------------------------- */

static void test_any_schedule(void **state) {
    (void)state;
    tug_model *m = open_with(n_experts / 3);
    tug_err err;
    text *want = text_of(m, 1, 4), *got = new_text();
    tug_session *s = new_session(m);
    for (int seed = 0; seed < 4; seed++) {
        char option[64];
        snprintf(option, sizeof option, "schedule=random:%d", seed);
        emu.configure(seed ? option : "schedule=deferred");
        tug_session_reset(s);
        must(tug_session_append(s, prompt, 1, &err), &err);
        must(go_on(s, got, 0, 4, &err), &err);
        assert_same(got, want, 0, 4, option);
    }
    emu.configure("schedule=immediate");
    tug_session_destroy(&s);
    free_text(got);
    free_text(want);
    tug_model_close(&m);
}

/* A source that has everything, gives it out in pieces, takes its time, and may fail. */
typedef struct slow_source {
    tug_rng rng;
    int n, given, fail_in; /* fail_in: calls of next, 0: never */
} slow_source;

static void nap(slow_source *s) {
    const struct timespec t = {0, (long)(tug_rng_u64(&s->rng) % 300000)};
    if (tug_rng_u64(&s->rng) % 4 == 0) nanosleep(&t, NULL);
}

static tug_status slow_begin(void *ud, int layer, const int32_t *experts,
                             const int32_t *counts, int n, int64_t n_tok, tug_err *err) {
    (void)layer, (void)experts, (void)counts, (void)n_tok, (void)err;
    slow_source *s = ud;
    s->n = n;
    s->given = 0;
    nap(s);
    return TUG_OK;
}

static tug_status slow_next(void *ud, int32_t *at, int max, bool wait, int *n,
                            tug_err *err) {
    slow_source *s = ud;
    (void)wait;
    nap(s);
    if (s->fail_in > 0 && --s->fail_in == 0) {
        return TUG_FAIL(err, TUG_EIO, "the disk is gone");
    }
    for (*n = 0; *n < max && *n < 3 && s->given < s->n; ++*n) at[*n] = s->given++;
    return TUG_OK;
}

static void slow_done(void *ud, const int32_t *at, int n) {
    (void)at, (void)n;
    nap(ud);
}
static void slow_end(void *ud) {
    nap(ud);
}

static void use_source(tug_model *m, const tug_expert_source *src) {
    for (int i = 0; i < tug_model_get_info(m).n_layer; i++) {
        m->net.weights.layer[i].moe.source = src;
    }
}

/* The device works by itself while the CPU does. */
static void *drive(void *stop) {
    while (!atomic_load((atomic_bool *)stop)) {
        synchronize();
        const struct timespec t = {0, 20000};
        nanosleep(&t, NULL);
    }
    return NULL;
}

static void test_slow_cpu_beside_the_device(void **state) {
    (void)state;
    tug_model *m = open_with(n_experts / 3);
    tug_err err;
    text *want = text_of(m, 1, 12), *got = new_text();
    tug_session *s = new_session(m);
    slow_source slow = {0};
    tug_rng_seed(&slow.rng, 7);
    const tug_expert_source src = {.ud = &slow,
                                   .begin = slow_begin,
                                   .next = slow_next,
                                   .done = slow_done,
                                   .end = slow_end};
    use_source(m, &src);
    static atomic_bool stop;
    pthread_t device;
    assert_int_equal(pthread_create(&device, NULL, drive, &stop), 0);
    const uint64_t before = replays(m);
    must(tug_session_append(s, prompt, 1, &err), &err);
    must(go_on(s, got, 0, 12, &err), &err);
    atomic_store(&stop, true);
    pthread_join(device, NULL);
    use_source(m, NULL);
    assert_same(got, want, 0, 12, "slow CPU");
    assert_int_equal(replays(m), before + 24);
    tug_session_destroy(&s);
    free_text(got);
    free_text(want);
    tug_model_close(&m);
}

/* Reads fail in some layer: the pass ends, nothing waits for ever, and the next one is as if
 * nothing had been. */
static void fail_reads(tug_model *m, tug_session *s, slow_source *slow,
                       const text *want) {
    tug_err err;
    text *got = new_text();
    for (int n = 1; n < 20; n += 8) {
        slow->fail_in = 0;
        must(tug_session_append(s, prompt, 1, &err), &err);
        must(go_on(s, got, 0, 2, &err), &err);
        assert_same(got, want, 0, 2, "after a failed read");
        slow->fail_in = n;
        assert_int_equal(tug_session_append(s, &got->ids[0], 1, &err), TUG_EIO);
        assert_string_equal(err.msg, "the disk is gone");
        assert_int_equal(tug_session_n_tokens(s), 0);
    }
    slow->fail_in = 0;
    must(tug_session_append(s, prompt, 1, &err), &err);
    must(go_on(s, got, 0, 2, &err), &err);
    assert_same(got, want, 0, 2, "after the last failed read");
    assert_int_equal(tug_backend_wait(m->be, &err), TUG_OK);
    free_text(got);
}

static void test_read_errors(void **state) {
    (void)state;
    tug_model *m = open_with(n_experts / 3);
    emu.configure("watchdog=2");
    text *want = text_of(m, 1, 2);
    tug_session *s = new_session(m);
    slow_source slow = {0};
    tug_rng_seed(&slow.rng, 7);
    const tug_expert_source src = {.ud = &slow,
                                   .begin = slow_begin,
                                   .next = slow_next,
                                   .done = slow_done,
                                   .end = slow_end};
    use_source(m, &src);
    fail_reads(m, s, &slow, want);
    tug_session_reset(s);
    tug_backend_gpu_use(m->be, true, false);
    fail_reads(m, s, &slow, want);
    use_source(m, NULL);
    emu.configure("watchdog=20");
    tug_session_destroy(&s);
    free_text(want);
    tug_model_close(&m);
}

/* ---- a device that fails --------------------------------------------------------------------- */

/* Token `at` of a text, one of whose driver calls fails: the fail_in-th, with `code`; or none
 * when that is 0, and then it says how many there are. */
static tug_status fail_in_token(int at, unsigned long *fail_in, int code, text *got,
                                tug_err *err) {
    tug_model *m = open_with(n_experts / 3);
    tug_session *s = new_session(m);
    must(tug_session_append(s, prompt, 1, err), err);
    must(go_on(s, got, 0, at, err), err);
    const unsigned long before = emu.calls();
    if (*fail_in > 0) {
        char option[64];
        snprintf(option, sizeof option, "fail=%lu:%d", *fail_in, code);
        emu.configure(option);
    }
    tug_status status = go_on(s, got, at, at + 1, err);
    if (*fail_in == 0) {
        *fail_in = emu.calls() - before;
    } else {
        assert_true(emu.has_failed());
    }
    if (status == TUG_OK) {
        status = go_on(s, got, at + 1, at + 2, err);
    } else {
        tug_err again;
        assert_int_equal(tug_session_n_tokens(s), 0);
        assert_int_equal(tug_session_append(s, prompt, 1, &again), TUG_EDEVICE);
        assert_string_equal(again.msg, err->msg);
    }
    tug_session_destroy(&s);
    tug_model_close(&m);
    emu.recover();
    assert_nothing_lives("closing everything");
    return status;
}

/* Token 1 is replayed: every failure is one sentence, and nothing hangs. */
static void test_failures_of_a_replay(void **state) {
    (void)state;
    static const int codes[] = {2, 719};
    text *got = new_text();
    tug_err err;
    emu.configure("watchdog=2");
    unsigned long n = 0;
    must(fail_in_token(1, &n, 0, got, &err), &err);
    assert_true(n > 5 && n < 40);
    for (unsigned long i = 1; i <= n; i++) {
        unsigned long at = i;
        assert_int_equal(fail_in_token(1, &at, codes[i % 2], got, &err), TUG_EDEVICE);
        assert_non_null(strstr(err.msg, "GPU 0 failed at"));
    }
    emu.configure("watchdog=20");
    free_text(got);
}

/* Token 0 is recorded.  Failures of the recording itself cost nothing but the graph. */
static void test_failures_of_a_capture(void **state) {
    (void)state;
    text *got = new_text(), *want = new_text();
    tug_err err;
    unsigned long n = 0;
    must(fail_in_token(0, &n, 0, want, &err), &err);
    assert_true(n > 60);
    int n_harmless = 0, n_failed = 0;
    for (unsigned long i = 2; i <= n; i += n / 8) {
        unsigned long at = i;
        const tug_status s = fail_in_token(0, &at, 900, got, &err);
        if (s == TUG_OK) {
            assert_same(got, want, 0, 2, "failed capture");
            n_harmless++;
        } else {
            assert_int_equal(s, TUG_EDEVICE);
            n_failed++;
        }
    }
    assert_true(n_harmless >= 5);
    assert_true(n_failed >= 1); /* what is not recording */
    free_text(got);
    free_text(want);
}

/* Nor does host memory that is out. */
static void test_no_memory_for_a_graph(void **state) {
    (void)state;
    tug_model *m = open_with(n_experts / 3);
    tug_err err;
    text *want = text_of(m, 1, 3), *got = new_text();
    const uint64_t captured = captures(m);
    tug_session *s = new_session(m);
    must(tug_session_append(s, prompt, 1, &err), &err);
    fault_fail_alloc(1);
    must(go_on(s, got, 0, 1, &err), &err);
    assert_true(fault_stop());
    must(go_on(s, got, 1, 3, &err), &err);
    assert_same(got, want, 0, 3, "no memory");
    assert_int_equal(captures(m), captured);
    tug_session_destroy(&s);
    free_text(want);
    free_text(got);
    tug_model_close(&m);
}

/* ---- start ------------------------------------------------------------------------------------ */

static int setup(void **state) {
    (void)state;
    void *driver = find_driver();
    if (!driver) return -1;
    *(void **)&synchronize = dlsym(driver, "cuCtxSynchronize");
    if (!emu.configure) {
        printf("skip: this is a real driver\n");
        exit(0);
    }
    tug_model *cpu = open_model(NULL, 0);
    const tug_model_info info = tug_model_get_info(cpu);
    n_vocab = info.n_vocab;
    n_experts = info.n_layer * info.n_expert;
    tug_model_close(&cpu);
    for (int i = 0; i < N_BATCH; i++) prompt[i] = (int32_t)((i * 389 + 71) % n_vocab);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    assert_nothing_lives("closing everything");
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_residency),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_without_words),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_residency_changes),
        cmocka_unit_test(test_looking),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_any_schedule),
        cmocka_unit_test(test_slow_cpu_beside_the_device),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_failures_of_a_replay),
        cmocka_unit_test(test_failures_of_a_capture),
        cmocka_unit_test(test_no_memory_for_a_graph),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, setup, teardown);
}
