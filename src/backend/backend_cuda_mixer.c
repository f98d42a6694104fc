/* backend_cuda_mixer.c - the two sequence mixers on the GPU.  SPDX-License-Identifier: MIT */
#include <math.h>

#include "backend/backend_cuda_impl.h"

/* ---- gated attention ------------------------------------------------------------------- */

static tug_cuda_heads heads_of(const tug_attn_shape *s) {
    return (tug_cuda_heads){s->n_head, s->n_kv_head, s->head_dim, s->n_rot};
}

static tug_cuda_kv cache_of(const tug_kv_layer *kv) {
    return (tug_cuda_kv){kv->k, kv->v, (int64_t)kv->row_bytes, kv->n_rows};
}

/* The position is behind a pointer: a launch may be recorded and run again. */
void tug_cuda_set_pos(tug_cuda *c, int64_t pos0) {
    const int32_t pos = (int32_t)pos0;
    if (c->pos == pos) return;
    tug_device_copy_in(c->dev, TUG_STREAM_COMPUTE, c->buffer[TUG_CUDA_POS], &pos,
                       sizeof pos);
    c->pos = pos;
}

static const int32_t *position(tug_cuda *c, int64_t pos0) {
    tug_cuda_set_pos(c, pos0);
    return c->buffer[TUG_CUDA_POS];
}

void tug_cuda_op_attn_prepare(tug_backend *be, const tug_attn_shape *s, float *qkv,
                              int64_t stride, const float *q_norm, const float *k_norm,
                              const float *rope, tug_kv_layer *kv, int64_t pos0,
                              int64_t n_tok) {
    tug_cuda *c = tug_cuda_of(be);
    const tug_cuda_attn_prepare a = {.s = heads_of(s),
                                     .kv = cache_of(kv),
                                     .qkv = qkv,
                                     .stride = stride,
                                     .q_norm = q_norm,
                                     .k_norm = k_norm,
                                     .rope = rope,
                                     .pos = position(c, pos0),
                                     .n_tok = (int32_t)n_tok,
                                     .eps = s->eps};
    tug_cuda_enqueue(c, tug_cuda_on_attn_prepare(&a, kv->type == TUG_KV_Q8_0), &a);
}

/* Doubled as the context doubles: a graph has one number, and few are needed. */
int32_t tug_cuda_n_split(int64_t n_rows) {
    int32_t n = 1;
    while (n < TUG_CUDA_SPLITS && (int64_t)n * TUG_CUDA_SPLIT_ROWS < n_rows) n *= 2;
    return n;
}

void tug_cuda_op_attn(tug_backend *be, const tug_attn_shape *s, float *out,
                      const float *qkv, int64_t stride, const tug_kv_layer *kv,
                      int64_t pos0, int64_t n_tok) {
    tug_cuda *c = tug_cuda_of(be);
    const bool is_q8_0 = kv->type == TUG_KV_Q8_0;
    const tug_cuda_attn a = {.s = heads_of(s),
                             .kv = cache_of(kv),
                             .out = out,
                             .qkv = qkv,
                             .stride = stride,
                             .pos = position(c, pos0),
                             .parts = c->buffer[TUG_CUDA_PARTS_OUT],
                             .n_tok = (int32_t)n_tok,
                             .n_split = tug_cuda_n_split(pos0 + n_tok),
                             .scale = 1.0f / sqrtf((float)s->head_dim)};
    if (n_tok > TUG_CUDA_FEW_TOKENS) {
        tug_cuda_enqueue(c, tug_cuda_on_attn_prefill(&a, is_q8_0), &a);
        return;
    }
    tug_cuda_enqueue(c, tug_cuda_on_attn_decode(&a, is_q8_0), &a);
    tug_cuda_enqueue(c, tug_cuda_on_attn_join(&a), &a);
}

/* ---- Gated DeltaNet ---------------------------------------------------------------------- */

static void delta_in_chunks(tug_cuda *c, const tug_cuda_delta *a) {
    tug_cuda_enqueue(c, tug_cuda_on_delta_split(a), a);
    tug_cuda_enqueue(c, tug_cuda_on_delta_mix(a), a);
    tug_cuda_enqueue(c, tug_cuda_on_delta_scan(a), a);
    const tug_cuda_rmsnorm_gated norm = {.y = a->out,
                                         .x = a->out,
                                         .z = a->z,
                                         .w = a->norm,
                                         .z_stride = a->z_stride,
                                         .n = a->dv,
                                         .n_head = a->n_v_head,
                                         .n_tok = a->n_tok,
                                         .eps = a->eps};
    tug_cuda_enqueue(c, tug_cuda_on_rmsnorm_gated(&norm), &norm);
}

static void delta_tokens(tug_cuda *c, const tug_delta_shape *s, float *out,
                         const float *proj, int64_t stride, const float *conv_w,
                         const float *dt_bias, const float *a_coef, const float *norm,
                         tug_delta_state *state, int64_t n_tok) {
    const int64_t n_v = (int64_t)s->n_v_head * s->dv;
    const int64_t n_ch = 2L * s->n_k_head * s->dk + n_v;
    const tug_cuda_conv conv = {.y = c->buffer[TUG_CUDA_CONV],
                                .x = proj,
                                .state = state->conv,
                                .w = conv_w,
                                .y_stride = n_ch,
                                .x_stride = stride,
                                .n_ch = (int32_t)n_ch,
                                .n_tok = (int32_t)n_tok,
                                .width = s->conv_width};
    tug_cuda_enqueue(c, tug_cuda_on_conv(&conv), &conv);
    if (n_tok > TUG_CUDA_CONV_TOKENS) {
        tug_cuda_enqueue(c, tug_cuda_on_conv_state(&conv), &conv);
    }
    const tug_cuda_delta a = {.out = out,
                              .qkv = conv.y,
                              .z = proj + n_ch,
                              .ba = proj + n_ch + n_v,
                              .dt_bias = dt_bias,
                              .a_coef = a_coef,
                              .norm = norm,
                              .state = state->s,
                              .qkv_stride = n_ch,
                              .z_stride = stride,
                              .n_k_head = s->n_k_head,
                              .n_v_head = s->n_v_head,
                              .dk = s->dk,
                              .dv = s->dv,
                              .n_tok = (int32_t)n_tok,
                              .eps = s->eps,
                              .work = c->buffer[TUG_CUDA_DELTA]};
    if (s->dk == TUG_CUDA_DELTA_DIM && s->dv == TUG_CUDA_DELTA_DIM &&
        tug_cuda_in_chunks(c, s->n_v_head, n_tok)) {
        delta_in_chunks(c, &a);
    } else {
        tug_cuda_enqueue(c, tug_cuda_on_delta(&a), &a);
    }
}

void tug_cuda_op_delta(tug_backend *be, const tug_delta_shape *s, float *out,
                       const float *proj, int64_t stride, const float *conv_w,
                       const float *dt_bias, const float *a_coef, const float *norm,
                       tug_delta_state *state, int64_t n_tok) {
    const int64_t n_v = (int64_t)s->n_v_head * s->dv;
    for (int64_t t = 0; t < n_tok; t += TUG_CUDA_DELTA_TOKENS) {
        const int64_t left = n_tok - t;
        delta_tokens(tug_cuda_of(be), s, out + t * n_v, proj + t * stride, stride, conv_w,
                     dt_bias, a_coef, norm, state,
                     left < TUG_CUDA_DELTA_TOKENS ? left : TUG_CUDA_DELTA_TOKENS);
    }
}
