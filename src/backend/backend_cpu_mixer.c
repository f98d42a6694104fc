/* backend_cpu_mixer.c - the two sequence mixers on the CPU: gated attention and Gated
 * DeltaNet.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "backend/backend.h"
#include "backend/backend_impl.h"

/* ---- gated attention ----------------------------------------------------------------- */

typedef struct attn_job {
    tug_backend *be;
    const tug_attn_shape *s;
    float *qkv; /* written by prepare only */
    int64_t stride;
    const float *q_norm, *k_norm, *rope;
    const tug_kv_layer *kv;
    float *out;
    int64_t pos0, n_tok, tile_tok, n_tile;
    int64_t chunk0, n_chunk; /* this round's, see split_chunks */
    float *totals, *parts;
} attn_job;

static uint8_t *head_cache(uint8_t *base, const tug_kv_layer *kv, int head) {
    return base + (size_t)(head * kv->n_rows) * kv->row_bytes;
}

static void prepare_tokens(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const attn_job *j = ud;
    const tug_kernels *k = &j->be->k;
    const tug_attn_shape *s = j->s;
    const tug_kv_type type = j->kv->type;
    const int d = s->head_dim, n_half = s->n_rot / 2;
    for (int64_t t = begin; t < end; t++) {
        float *row = j->qkv + t * j->stride;
        const float *cos = j->rope + t * s->n_rot, *sin = cos + n_half;
        for (int h = 0; h < s->n_head; h++) {
            float *q = row + (int64_t)h * 2 * d;
            k->rmsnorm(q, q, j->q_norm, d, s->eps);
            k->rope(q, cos, sin, n_half);
        }
        float *keys = row + (int64_t)s->n_head * 2 * d;
        const float *values = keys + (int64_t)s->n_kv_head * d;
        for (int h = 0; h < s->n_kv_head; h++) {
            float *key = keys + (int64_t)h * d;
            k->rmsnorm(key, key, j->k_norm, d, s->eps);
            k->rope(key, cos, sin, n_half);
            const float *value = values + (int64_t)h * d;
            k->kv_store_k[type](head_cache(j->kv->k, j->kv, h), j->pos0 + t, key, d);
            k->kv_store_v[type](head_cache(j->kv->v, j->kv, h), j->pos0 + t, value, d);
        }
    }
}

void tug_cpu_op_attn_prepare(tug_backend *be, const tug_attn_shape *s, float *qkv,
                             int64_t stride, const float *q_norm, const float *k_norm,
                             const float *rope, tug_kv_layer *kv, int64_t pos0,
                             int64_t n_tok) {
    attn_job j = {.be = be,
                  .s = s,
                  .qkv = qkv,
                  .stride = stride,
                  .q_norm = q_norm,
                  .k_norm = k_norm,
                  .rope = rope,
                  .kv = kv,
                  .pos0 = pos0,
                  .n_tok = n_tok};
    tug_cpu_for(be, n_tok, 4, n_tok * stride * 2, prepare_tokens, &j);
}

static int heads_per_kv(const tug_attn_shape *s) {
    return s->n_head / s->n_kv_head;
}

static float *query_tile(const attn_job *j, int thread) {
    return j->be->attn_tile +
           (size_t)thread * 2 * TUG_CPU_ATTN_QUERIES * TUG_MAX_HEAD_DIM;
}

/* The queries of tokens [t0, t1) at one kv head, side by side in the thread's tile. */
static tug_attn_args take_queries(const attn_job *j, int kv_head, int64_t t0, int64_t t1,
                                  int thread) {
    const tug_attn_shape *s = j->s;
    const int d = s->head_dim, group = heads_per_kv(s);
    float *q = query_tile(j, thread);
    int32_t *len = j->be->attn_len + (size_t)thread * TUG_CPU_ATTN_QUERIES;
    int64_t n_q = 0;
    for (int64_t t = t0; t < t1; t++) {
        for (int g = 0; g < group; g++, n_q++) {
            const int64_t head = (int64_t)kv_head * group + g;
            memcpy(q + n_q * d, j->qkv + t * j->stride + head * 2 * d,
                   (size_t)d * sizeof *q);
            len[n_q] = (int32_t)(j->pos0 + t + 1);
        }
    }
    return (tug_attn_args){
        .out = q + (size_t)TUG_CPU_ATTN_QUERIES * TUG_MAX_HEAD_DIM,
        .out_stride = d,
        .q = q,
        .q_stride = d,
        .q_len = len,
        .n_q = n_q,
        .k = head_cache(j->kv->k, j->kv, kv_head),
        .v = head_cache(j->kv->v, j->kv, kv_head),
        .row_bytes = j->kv->row_bytes,
        .head_dim = d,
        .scale = 1.0f / __builtin_sqrtf((float)d),
        .scratch = j->be->attn_scratch + (size_t)thread * tug_attn_scratch_floats(),
    };
}

static float *output_of(const attn_job *j, int64_t t, int64_t head) {
    return j->out + (t * j->s->n_head + head) * j->s->head_dim;
}

static void apply_gate(const attn_job *j, int64_t t, int64_t head) {
    const int d = j->s->head_dim;
    const float *gate = j->qkv + t * j->stride + head * 2 * d + d;
    j->be->k.sigmoid_mul(output_of(j, t, head), gate, d);
}

/* One piece: all query heads of one kv head, for a tile of tokens. */
static void attend_tile(const attn_job *j, int64_t piece, int thread) {
    const tug_attn_shape *s = j->s;
    const int d = s->head_dim, group = heads_per_kv(s);
    /* The last tokens see the longest context: hand them out first. */
    const int64_t tile = j->n_tile - 1 - piece / s->n_kv_head;
    const int kv_head = (int)(piece % s->n_kv_head);
    const int64_t t0 = tile * j->tile_tok;
    const int64_t t1 = t0 + j->tile_tok < j->n_tok ? t0 + j->tile_tok : j->n_tok;
    const tug_attn_args a = take_queries(j, kv_head, t0, t1, thread);
    j->be->k.attn[j->kv->type](&a);
    const float *o = a.out;
    for (int64_t t = t0; t < t1; t++) {
        for (int g = 0; g < group; g++, o += d) {
            const int64_t head = (int64_t)kv_head * group + g;
            memcpy(output_of(j, t, head), o, (size_t)d * sizeof *o);
            apply_gate(j, t, head);
        }
    }
}

static void attend_pieces(void *ud, int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; i++) attend_tile(ud, i, thread);
}

/* One piece: all query heads of one kv head, for all tokens, for one chunk of rows. */
static void attend_chunks(void *ud, int64_t begin, int64_t end, int thread) {
    const attn_job *j = ud;
    const int64_t stride = tug_attn_part_floats(j->s->head_dim);
    const int64_t n_q = j->n_tok * heads_per_kv(j->s);
    for (int64_t i = begin; i < end; i++) {
        const int kv_head = (int)(i % j->s->n_kv_head);
        const tug_attn_args a = take_queries(j, kv_head, 0, j->n_tok, thread);
        j->be->k.attn_chunk[j->kv->type](&a, j->chunk0 + i / j->s->n_kv_head,
                                         j->parts + i * n_q * stride);
    }
}

/* One piece: one query's parts of this round. */
static void join_parts(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const attn_job *j = ud;
    const int group = heads_per_kv(j->s), d = j->s->head_dim;
    const int64_t stride = tug_attn_part_floats(d), n_q = j->n_tok * group;
    for (int64_t i = begin; i < end; i++) {
        const int64_t kv_head = i / n_q, t = i % n_q / group;
        const int64_t len = j->pos0 + t + 1, head = kv_head * group + i % group;
        float *total = j->totals + i * stride;
        for (int64_t c = 0; c < j->n_chunk; c++) {
            if (len <= (j->chunk0 + c) * TUG_ATTN_CHUNK) break;
            const int64_t at = (c * j->s->n_kv_head + kv_head) * n_q + i % n_q;
            const float *part = j->parts + at * stride;
            if (j->chunk0 + c == 0) {
                memcpy(total, part, (size_t)stride * sizeof *part);
            } else {
                j->be->k.attn_join(total, part, d);
            }
        }
        if (len > (j->chunk0 + j->n_chunk) * TUG_ATTN_CHUNK) continue;
        j->be->k.attn_finish(output_of(j, t, head), total, d);
        apply_gate(j, t, head);
    }
}

/* Few tokens are too few pieces of work for many threads.  Then the cache is divided as
 * well, by chunks, in rounds of as many as there is room for: all threads compute parts,
 * then all join them, each query's in order, with the bits that one thread gets. */
static void split_chunks(attn_job *j, int64_t macs) {
    const int64_t n_q = j->n_tok * j->s->n_head;
    const int64_t all = (j->pos0 + j->n_tok + TUG_ATTN_CHUNK - 1) / TUG_ATTN_CHUNK;
    const int64_t room = TUG_CPU_ATTN_PARTS / n_q - 1;
    j->totals = j->be->attn_parts;
    j->parts = j->totals + n_q * tug_attn_part_floats(j->s->head_dim);
    for (; j->chunk0 < all; j->chunk0 += j->n_chunk) {
        j->n_chunk = all - j->chunk0 < room ? all - j->chunk0 : room;
        tug_cpu_for(j->be, j->n_chunk * j->s->n_kv_head, 1, macs, attend_chunks, j);
        tug_cpu_for(j->be, n_q, 2, 4 * n_q * j->n_chunk * j->s->head_dim, join_parts, j);
    }
}

/* Whether to share by chunks: only if tiles are too few to share evenly. */
static bool worth_splitting(const attn_job *j) {
    const int64_t n_threads = tug_pool_size(j->be->pool), n_kv = j->s->n_kv_head;
    return j->be->k.attn_chunk[j->kv->type] && n_threads > 1 && j->n_tok <= j->tile_tok &&
           n_kv < 4 * n_threads && j->pos0 + j->n_tok > TUG_ATTN_CHUNK &&
           j->n_tok * j->s->n_head <= TUG_CPU_ATTN_PARTS / 4;
}

void tug_cpu_op_attn(tug_backend *be, const tug_attn_shape *s, float *out,
                     const float *qkv, int64_t stride, const tug_kv_layer *kv,
                     int64_t pos0, int64_t n_tok) {
    const int64_t tile_tok = TUG_CPU_ATTN_QUERIES / heads_per_kv(s);
    const int64_t macs = 2 * n_tok * (pos0 + n_tok) * s->n_head * s->head_dim;
    union {
        const float *ro;
        float *rw;
    } in = {.ro = qkv}; /* the job struct is shared with prepare, which writes */
    attn_job j = {.be = be,
                  .s = s,
                  .qkv = in.rw,
                  .stride = stride,
                  .kv = kv,
                  .out = out,
                  .pos0 = pos0,
                  .n_tok = n_tok,
                  .tile_tok = tile_tok,
                  .n_tile = (n_tok + tile_tok - 1) / tile_tok};
    if (worth_splitting(&j)) {
        split_chunks(&j, macs);
    } else {
        tug_cpu_for(be, j.n_tile * s->n_kv_head, 1, macs, attend_pieces, &j);
    }
}

/* ---- Gated DeltaNet ------------------------------------------------------------------ */

typedef struct delta_job {
    tug_backend *be;
    const tug_delta_shape *s;
    float *out;
    const float *proj;
    int64_t stride;
    const float *conv_w, *dt_bias, *a_coef, *norm;
    tug_delta_state *state;
    int64_t n_tok;
} delta_job;

/* Rows of conv_out lie this far apart: 64 bytes more than the channels take, because rows
 * a power of two apart would all meet in the same few sets of a cache. */
static int64_t conv_stride(const tug_delta_shape *s) {
    return 2L * s->n_k_head * s->dk + (int64_t)s->n_v_head * s->dv + TUG_CPU_CONV_PAD;
}

/* Convolution and SiLU of channels [c0, c0 + n), of n_tok tokens from t0. */
static void conv_channels(const delta_job *j, int64_t c0, int64_t n, int64_t t0,
                          int64_t n_tok) {
    const tug_delta_shape *s = j->s;
    const int64_t n_ch = 2L * s->n_k_head * s->dk + (int64_t)s->n_v_head * s->dv;
    const tug_conv_args a = {
        .y = j->be->conv_out + c0,
        .y_stride = conv_stride(s),
        .x = j->proj + t0 * j->stride + c0,
        .x_stride = j->stride,
        .state = j->state->conv + c0,
        .state_stride = n_ch,
        .w = j->conv_w + c0,
        .w_stride = n_ch,
        .n_ch = n,
        .n_tok = n_tok,
        .width = s->conv_width,
    };
    j->be->k.conv_silu(&a);
}

/* Everything that hangs on key head g, for n_tok tokens from t0: its q and k channels, and
 * the value heads that use them. */
static void delta_tokens(const delta_job *j, int g, int64_t t0, int64_t n_tok) {
    const tug_delta_shape *s = j->s;
    const tug_kernels *k = &j->be->k;
    const int dk = s->dk, dv = s->dv, r = s->n_v_head / s->n_k_head;
    const int64_t n_qk = (int64_t)s->n_k_head * dk, n_v = (int64_t)s->n_v_head * dv;
    const int64_t n_ch = 2 * n_qk + n_v, row = conv_stride(s);
    conv_channels(j, (int64_t)g * dk, dk, t0, n_tok);
    conv_channels(j, n_qk + (int64_t)g * dk, dk, t0, n_tok);
    conv_channels(j, 2 * n_qk + (int64_t)g * r * dv, (int64_t)r * dv, t0, n_tok);

    const float *proj = j->proj + t0 * j->stride;
    float *out = j->out + t0 * n_v;
    float *beta = j->be->gates, *decay = beta + TUG_CPU_DELTA_TOKENS * s->n_v_head;
    for (int64_t t = 0; t < n_tok; t++) {
        float *q = j->be->conv_out + t * row + (int64_t)g * dk;
        k->l2norm(q, dk, 1e-6f, 1.0f / __builtin_sqrtf((float)dk));
        k->l2norm(q + n_qk, dk, 1e-6f, 1.0f);
        const float *b = proj + t * j->stride + n_ch + n_v + (int64_t)g * 2 * r;
        const int64_t at = t * s->n_v_head + (int64_t)g * r;
        k->delta_gates(beta + at, decay + at, b, b + r, j->dt_bias + (int64_t)g * r,
                       j->a_coef + (int64_t)g * r, r);
    }
    for (int h = g * r; h < (g + 1) * r; h++) {
        const tug_delta_args a = {
            .out = out + (int64_t)h * dv,
            .out_stride = n_v,
            .state = j->state->s + (int64_t)h * dk * dv,
            .state_stride = dv,
            .q = j->be->conv_out + (int64_t)g * dk,
            .k = j->be->conv_out + n_qk + (int64_t)g * dk,
            .qk_stride = row,
            .v = j->be->conv_out + 2 * n_qk + (int64_t)h * dv,
            .v_stride = row,
            .decay = decay + h,
            .beta = beta + h,
            .gate_stride = s->n_v_head,
            .n_tok = n_tok,
            .dk = dk,
            .n_col = dv,
        };
        k->delta(&a);
        for (int64_t t = 0; t < n_tok; t++) {
            float *o = out + t * n_v + (int64_t)h * dv;
            const float *z = proj + t * j->stride + n_ch + (int64_t)h * dv;
            k->rmsnorm_gated(o, o, j->norm, z, dv, s->eps);
        }
    }
}

/* Key heads are independent of each other, so one piece runs from the convolution to the
 * gated norm without a barrier; a few tokens at a time, which stay in the cache. */
static void delta_key_head(const delta_job *j, int g) {
    for (int64_t t = 0; t < j->n_tok; t += TUG_CPU_DELTA_TOKENS) {
        const int64_t left = j->n_tok - t;
        delta_tokens(j, g, t, left < TUG_CPU_DELTA_TOKENS ? left : TUG_CPU_DELTA_TOKENS);
    }
}

static void delta_pieces(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    for (int64_t g = begin; g < end; g++) delta_key_head(ud, (int)g);
}

void tug_cpu_op_delta(tug_backend *be, const tug_delta_shape *s, float *out,
                      const float *proj, int64_t stride, const float *conv_w,
                      const float *dt_bias, const float *a_coef, const float *norm,
                      tug_delta_state *state, int64_t n_tok) {
    delta_job j = {be, s, out, proj, stride, conv_w, dt_bias, a_coef, norm, state, n_tok};
    tug_cpu_for(be, s->n_k_head, 1, 3L * n_tok * s->n_v_head * s->dk * s->dv,
                delta_pieces, &j);
}
