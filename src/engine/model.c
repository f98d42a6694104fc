/* model.c - open and close a model: file, tokenizer, backend, weights.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_cuda.h"
#include "base/cpu.h"
#include "base/sys.h"
#include "engine/engine_impl.h"
#include "engine/profile.h"
#include "engine/residency.h"
#include "engine/vocab.h"
#include "memory/meminfo.h"
#include "model/place.h"
#include "tokenizer/tokenizer.h"

/* What the publisher of Qwen3-Coder-Next recommends; used when a file says nothing. */
#define FAMILY_TEMPERATURE 1.0f
#define FAMILY_TOP_P       0.95f
#define FAMILY_TOP_K       40

static tug_status read_sampling(tug_model *m, tug_err *err) {
    uint32_t top_k = FAMILY_TOP_K;
    m->temperature = FAMILY_TEMPERATURE;
    m->top_p = FAMILY_TOP_P;
    TUG_TRY(
        tug_gguf_get_f32(m->gguf, "general.sampling.temp", &m->temperature, NULL, err));
    TUG_TRY(tug_gguf_get_f32(m->gguf, "general.sampling.top_p", &m->top_p, NULL, err));
    TUG_TRY(tug_gguf_get_u32(m->gguf, "general.sampling.top_k", &top_k, NULL, err));
    if (!isfinite(m->temperature) || m->temperature < 0.0f || !isfinite(m->top_p) ||
        m->top_p <= 0.0f || top_k > INT32_MAX) {
        return TUG_FAIL(err, TUG_ERANGE, "%s: general.sampling.* holds impossible values",
                        tug_gguf_path(m->gguf));
    }
    m->top_k = (int32_t)top_k;
    return TUG_OK;
}

static tug_status read_name(tug_model *m, tug_err *err) {
    tug_str name = tug_str_of("");
    TUG_TRY(tug_gguf_get_str(m->gguf, "general.name", &name, NULL, err));
    TUG_TRY(
        tug_gguf_get_str(m->gguf, "tokenizer.chat_template", &m->template, NULL, err));
    m->name = tug_alloc(name.n + 1);
    if (!m->name) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the model's name");
    if (name.n) memcpy(m->name, name.p, name.n);
    m->name[name.n] = '\0';
    return TUG_OK;
}

static void count_tensors(tug_model *m) {
    for (uint64_t i = 0; i < tug_gguf_n_tensors(m->gguf); i++) {
        const tug_gguf_tensor t = tug_gguf_tensor_at(m->gguf, i);
        m->n_params += (uint64_t)(t.ne[0] * t.ne[1] * t.ne[2] * t.ne[3]);
        m->n_bytes += t.n_bytes;
    }
}

static tug_status check_vocab(const tug_model *m, tug_err *err) {
    const int64_t n = tug_tokenizer_size(m->tokenizer);
    if (n <= m->net.shape.n_vocab) return TUG_OK;
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s: the tokenizer has %lld tokens but the embedding only %lld rows",
                    tug_gguf_path(m->gguf), (long long)n,
                    (long long)m->net.shape.n_vocab);
}

/* Reads what is still mapped once, so that the first tokens do not wait for the disk.
 * Skipped when the file would not fit beside everything else: then the kernel pages it in
 * and out. */
static void warm(const tug_model *m) {
    if (m->net.weights.packed || m->n_bytes >= tug_memory_available() / 10 * 9) return;
    unsigned sum = 0;
    for (uint64_t i = 0; i < tug_gguf_n_tensors(m->gguf); i++) {
        const tug_gguf_tensor t = tug_gguf_tensor_at(m->gguf, i);
        for (uint64_t at = 0; at < t.n_bytes; at += 4096) {
            sum += *(const volatile uint8_t *)(t.data + at);
        }
    }
    (void)sum;
}

/* To where `plan` says; NULL: where there is room. */
static tug_status load_weights(tug_model *m, const tug_model_params *p,
                               const tug_residency *plan, tug_err *err) {
    if (plan) return tug_residency_load(m, plan, p, err);
    tug_residency own;
    TUG_TRY(tug_residency_plan(&own, m, p, err));
    const tug_status s = tug_residency_load(m, &own, p, err);
    m->plan_summary = own.summary; /* the model's from here on */
    m->plan_tables = own.tables;
    tug_free(m->planning);
    m->planning = own.planning;
    own.summary = own.tables = (tug_buf){0};
    own.planning = NULL;
    tug_residency_free(&own);
    return s;
}

static tug_status create_backend(tug_model *m, const tug_model_params *p,
                                 tug_cpu_level level, int n_threads, tug_err *err) {
    if (!p->gpu || strcmp(p->gpu, "none") == 0) {
        return tug_backend_cpu_create(&m->be, level, n_threads, err);
    }
    char *end;
    const long gpu = strtol(p->gpu, &end, 10);
    if (end == p->gpu || *end != '\0' || gpu < 0 || gpu > 1024) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "a GPU is named by its number, or none, not '%s'", p->gpu);
    }
    return tug_backend_cuda_create(&m->be, level, n_threads, (int)gpu, p->vram_bytes,
                                   err);
}

/* Where the model is computed, and its weights as they are in the file. */
static tug_status open_place(tug_model *m, const tug_model_params *p, tug_err *err) {
    tug_cpu_level level;
    TUG_TRY(tug_cpu_level_parse(p->cpu_level ? p->cpu_level : "auto", &level, err));
    const int n_threads = p->n_threads > 0 ? p->n_threads : tug_cpu_count();
    TUG_TRY(create_backend(m, p, level, n_threads, err));
    m->net.be = m->be;
    return tug_weights_bind(&m->net.weights, m->gguf, &m->net.shape, m->be, err);
}

/* All that depends on where the model is computed. */
static void close_place(tug_model *m) {
    tug_recorder_close(&m->recorder);
    tug_scratch_free(&m->scratch);
    tug_weights_unplace(&m->net.weights, m->be); /* what is held in the store, too */
    tug_expert_store_destroy(&m->experts);
    tug_weights_free(&m->net.weights);
    tug_backend_destroy(&m->be);
    m->net.be = NULL;
    tug_free(m->before);
    m->before = NULL;
    tug_free(m->planning);
    m->planning = NULL;
    tug_buf_free(&m->plan_summary);
    tug_buf_free(&m->plan_tables);
}

static tug_status open_parts(tug_model *m, const tug_model_params *p,
                             const tug_residency *plan, tug_err *err) {
    TUG_TRY(tug_gguf_open(&m->gguf, p->path, err));
    TUG_TRY(tug_shape_read(&m->net.shape, m->gguf, err));
    TUG_TRY(open_place(m, p, err));
    TUG_TRY(tug_vocab_load(&m->tokenizer, m->gguf, err));
    TUG_TRY(check_vocab(m, err));
    TUG_TRY(read_sampling(m, err));
    TUG_TRY(read_name(m, err));
    count_tensors(m);
    TUG_TRY(load_weights(m, p, plan, err));
    if (!m->experts) warm(m);
    return TUG_OK;
}

tug_status tug_model_open_as(tug_model **out, const tug_model_params *params,
                             const tug_residency *plan, tug_err *err) {
    *out = NULL;
    tug_model *m = tug_alloc_zero(sizeof *m);
    if (!m) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the model");
    const tug_status s = open_parts(m, params, plan, err);
    if (s != TUG_OK) {
        tug_model_close(&m);
        return s;
    }
    *out = m;
    return TUG_OK;
}

tug_status tug_model_open(tug_model **out, const tug_model_params *params, tug_err *err) {
    return tug_model_open_as(out, params, NULL, err);
}

tug_status tug_model_leave_gpu(tug_model *m, const tug_model_params *params,
                               tug_err *err) {
    tug_model_params p = *params;
    p.gpu = NULL;
    close_place(m);
    tug_status s = open_place(m, &p, err);
    if (s == TUG_OK) s = load_weights(m, &p, NULL, err);
    if (s == TUG_OK && !m->experts) warm(m);
    if (s != TUG_OK) close_place(m);
    return s;
}

void tug_model_close(tug_model **model) {
    tug_model *m = *model;
    if (!m) return;
    close_place(m);
    tug_tokenizer_destroy(&m->tokenizer);
    tug_gguf_close(&m->gguf);
    tug_free(m->name);
    tug_free(m);
    *model = NULL;
}

tug_model_info tug_model_get_info(const tug_model *m) {
    /* There is none after tug_model_leave_gpu failed. */
    const tug_device_info *gpu = m->be ? tug_backend_gpu(m->be) : NULL;
    return (tug_model_info){
        .arch = "qwen3next",
        .name = m->name,
        .cpu_level = m->be ? tug_cpu_level_name(tug_backend_level(m->be)) : "none",
        .n_threads = m->be ? tug_backend_n_threads(m->be) : 0,
        .n_vocab = m->net.shape.n_vocab,
        .n_ctx_train = m->net.shape.n_ctx_train,
        .n_layer = m->net.shape.n_layer,
        .n_expert = m->net.shape.n_expert,
        .n_expert_used = m->net.shape.n_expert_used,
        .n_params = m->n_params,
        .n_bytes = m->n_bytes,
        .streamed = m->experts != NULL,
        .session_bytes = m->session_bytes,
        .gpu = gpu ? gpu->name : NULL,
        .vram_bytes = gpu ? gpu->budget : 0,
        .vram_used = gpu ? tug_backend_gpu_used(m->be) : 0,
        .n_experts_on_gpu = m->net.weights.n_experts_placed,
        .n_sessions = gpu && m->planning ? m->planning->n_sessions : 0,
        .vram_sessions = gpu ? m->vram_sessions : 0,
        .temperature = m->temperature,
        .top_p = m->top_p,
        .top_k = m->top_k,
    };
}

const char *tug_model_plan(const tug_model *m, bool tables) {
    return tables ? m->plan_tables.p : m->plan_summary.p;
}

const struct tug_tokenizer *tug_model_tokenizer(const tug_model *m) {
    return m->tokenizer;
}

const char *tug_model_chat_template(const tug_model *m, size_t *n) {
    *n = m->template.n;
    return m->template.p;
}

tug_net *tug_model_net(tug_model *m) {
    return &m->net;
}
