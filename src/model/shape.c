/* shape.c - see shape.h.  SPDX-License-Identifier: MIT */
#include "model/shape.h"

#include <math.h>
#include <stdio.h>

/* Larger than any model we could run, small enough that products of two fit easily. */
#define MAX_DIM (1u << 20)

typedef struct reader {
    const tug_gguf *g;
    tug_err *err;
} reader;

/* Reads qwen3next.<key> into *out; `fallback` when it is absent, 0 meaning required. */
static tug_status size_key(const reader *r, const char *key, uint32_t max,
                           uint32_t fallback, uint32_t *out) {
    char name[96];
    (void)snprintf(name, sizeof name, "qwen3next.%s", key);
    bool found = false;
    uint32_t v = fallback;
    TUG_TRY(tug_gguf_get_u32(r->g, name, &v, &found, r->err));
    if (!found && fallback == 0) {
        return TUG_FAIL(
            r->err, TUG_EFORMAT,
            "%s: the key %s is missing; the file is incomplete or was made by a "
            "converter that tug does not know",
            tug_gguf_path(r->g), name);
    }
    if (v < 1 || v > max) {
        return TUG_FAIL(r->err, TUG_ERANGE, "%s: %s is %u, but must be between 1 and %u",
                        tug_gguf_path(r->g), name, v, max);
    }
    *out = v;
    return TUG_OK;
}

static tug_status float_key(const reader *r, const char *key, float fallback,
                            float *out) {
    char name[96];
    (void)snprintf(name, sizeof name, "qwen3next.%s", key);
    *out = fallback;
    TUG_TRY(tug_gguf_get_f32(r->g, name, out, NULL, r->err));
    if (!isfinite(*out) || *out <= 0.0f) {
        return TUG_FAIL(r->err, TUG_ERANGE, "%s: %s is %g, but must be positive",
                        tug_gguf_path(r->g), name, (double)*out);
    }
    return TUG_OK;
}

static tug_status must(const reader *r, bool ok, const char *what) {
    if (ok) return TUG_OK;
    return TUG_FAIL(r->err, TUG_ERANGE, "%s: %s", tug_gguf_path(r->g), what);
}

static tug_status check_arch(const reader *r) {
    tug_str arch = tug_str_of("");
    bool found = false;
    TUG_TRY(tug_gguf_get_str(r->g, "general.architecture", &arch, &found, r->err));
    if (tug_str_is(arch, "qwen3next")) return TUG_OK;
    return TUG_FAIL(r->err, TUG_EUNSUPPORTED,
                    "%s holds a model of architecture '%.*s'; tug runs qwen3next "
                    "(Qwen3-Next, Qwen3-Coder-Next)",
                    tug_gguf_path(r->g), (int)(arch.n < 60 ? arch.n : 60),
                    found ? arch.p : "");
}

static tug_status read_attention(const reader *r, tug_shape *s) {
    uint32_t n_head, n_kv, d, dv, rot;
    TUG_TRY(size_key(r, "attention.head_count", 4096, 0, &n_head));
    TUG_TRY(size_key(r, "attention.head_count_kv", 4096, n_head, &n_kv));
    TUG_TRY(size_key(r, "attention.key_length", TUG_MAX_HEAD_DIM,
                     (uint32_t)s->dim / n_head, &d));
    TUG_TRY(size_key(r, "attention.value_length", TUG_MAX_HEAD_DIM, d, &dv));
    TUG_TRY(size_key(r, "rope.dimension_count", d, d, &rot));
    TUG_TRY(must(r, n_head % n_kv == 0 && n_head / n_kv <= 64,
                 "attention.head_count must be 1 to 64 times attention.head_count_kv"));
    TUG_TRY(
        must(r, d == dv && d % 32 == 0,
             "attention.key_length and value_length must be equal and a multiple of 32"));
    TUG_TRY(must(r, rot % 2 == 0, "rope.dimension_count must be even"));
    TUG_TRY(float_key(r, "rope.freq_base", 10000.0f, &s->rope_base));
    tug_str scaling = tug_str_of("none");
    TUG_TRY(
        tug_gguf_get_str(r->g, "qwen3next.rope.scaling.type", &scaling, NULL, r->err));
    TUG_TRY(must(r, tug_str_is(scaling, "none"),
                 "the file asks for RoPE scaling, which tug does not do yet; use the "
                 "unscaled file"));
    s->attn = (tug_attn_shape){(int)n_head, (int)n_kv, (int)d, (int)rot, s->eps};
    return TUG_OK;
}

static tug_status read_delta(const reader *r, tug_shape *s) {
    uint32_t width, dk, n_k, n_v, inner;
    TUG_TRY(size_key(r, "ssm.conv_kernel", TUG_MAX_CONV, 0, &width));
    TUG_TRY(size_key(r, "ssm.state_size", 1024, 0, &dk));
    TUG_TRY(size_key(r, "ssm.group_count", 4096, 0, &n_k));
    TUG_TRY(size_key(r, "ssm.time_step_rank", 4096, 0, &n_v));
    TUG_TRY(size_key(r, "ssm.inner_size", MAX_DIM, 0, &inner));
    TUG_TRY(must(r, width >= 2, "ssm.conv_kernel must be at least 2"));
    TUG_TRY(
        must(r, n_v % n_k == 0, "ssm.time_step_rank must be a multiple of group_count"));
    TUG_TRY(must(r, inner % n_v == 0 && inner / n_v <= 1024,
                 "ssm.inner_size must be a multiple of ssm.time_step_rank"));
    TUG_TRY(
        must(r, (uint64_t)n_k * dk <= MAX_DIM, "the DeltaNet key heads are too large"));
    s->delta = (tug_delta_shape){(int)n_k,           (int)n_v,   (int)dk,
                                 (int)(inner / n_v), (int)width, s->eps};
    return TUG_OK;
}

static tug_status read_moe(const reader *r, tug_shape *s) {
    uint32_t n_expert, n_used, dim, shared;
    TUG_TRY(size_key(r, "expert_count", 65536, 0, &n_expert));
    TUG_TRY(size_key(r, "expert_used_count", TUG_MAX_TOPK, 0, &n_used));
    TUG_TRY(must(r, n_used <= n_expert, "expert_used_count is larger than expert_count"));
    /* Old files give only feed_forward_length, the width of all used experts together. */
    uint32_t total = 0;
    TUG_TRY(
        tug_gguf_get_u32(r->g, "qwen3next.feed_forward_length", &total, NULL, r->err));
    TUG_TRY(size_key(r, "expert_feed_forward_length", MAX_DIM, total / n_used, &dim));
    TUG_TRY(size_key(r, "expert_shared_feed_forward_length", MAX_DIM, dim, &shared));
    s->n_expert = (int)n_expert;
    s->n_expert_used = (int)n_used;
    s->expert_dim = dim;
    s->shared_dim = shared;
    return TUG_OK;
}

static tug_status read_vocab(const reader *r, tug_shape *s) {
    tug_gguf_tensor t;
    TUG_TRY(must(r, tug_gguf_find_tensor(r->g, "token_embd.weight", &t) && t.n_dims == 2,
                 "the tensor token_embd.weight is missing or not a matrix"));
    TUG_TRY(must(r, t.ne[1] <= INT32_MAX, "token_embd.weight has too many rows"));
    s->n_vocab = t.ne[1];
    return TUG_OK;
}

tug_status tug_shape_read(tug_shape *s, const tug_gguf *g, tug_err *err) {
    *s = (tug_shape){0};
    const reader r = {g, err};
    TUG_TRY(check_arch(&r));
    uint32_t n_layer, dim, n_ctx;
    TUG_TRY(size_key(&r, "block_count", 4096, 0, &n_layer));
    TUG_TRY(size_key(&r, "embedding_length", MAX_DIM, 0, &dim));
    TUG_TRY(size_key(&r, "context_length", 1u << 30, 0, &n_ctx));
    s->n_layer = (int)n_layer;
    s->dim = dim;
    s->n_ctx_train = n_ctx;
    TUG_TRY(float_key(&r, "attention.layer_norm_rms_epsilon", 1e-6f, &s->eps));
    TUG_TRY(read_attention(&r, s));
    TUG_TRY(read_delta(&r, s));
    TUG_TRY(read_moe(&r, s));
    return read_vocab(&r, s);
}
