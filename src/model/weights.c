/* weights.c - see weights.h.  SPDX-License-Identifier: MIT */
#include "model/weights.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/sys.h"

/* Vectors per layer, plus the one outside: the size of tug_weights.owned. */
#define OWNED_PER_LAYER 8

typedef struct binder {
    tug_weights *w;
    const tug_gguf *g;
    const tug_shape *s;
    const tug_backend *be;
    tug_err *err;
    int layer; /* being bound */
} binder;

/* ---- one tensor ---------------------------------------------------------------------- */

static const char *layer_name(char buf[64], int layer, const char *suffix) {
    (void)snprintf(buf, 64, "blk.%d.%s", layer, suffix);
    return buf;
}

static bool has(const binder *b, const char *suffix) {
    char name[64];
    tug_gguf_tensor t;
    return tug_gguf_find_tensor(b->g, layer_name(name, b->layer, suffix), &t);
}

static tug_status find(const binder *b, const char *name, tug_gguf_tensor *t) {
    if (tug_gguf_find_tensor(b->g, name, t)) return TUG_OK;
    return TUG_FAIL(b->err, TUG_EFORMAT,
                    "%s: the tensor %s is missing; the file is incomplete",
                    tug_gguf_path(b->g), name);
}

static tug_status wrong_shape(const binder *b, const char *name, const tug_gguf_tensor *t,
                              int64_t ne0, int64_t ne1, int64_t ne2) {
    return TUG_FAIL(b->err, TUG_EFORMAT,
                    "%s: %s has shape (%lld, %lld, %lld), but the model's sizes ask for "
                    "(%lld, %lld, %lld)",
                    tug_gguf_path(b->g), name, (long long)t->ne[0], (long long)t->ne[1],
                    (long long)t->ne[2], (long long)ne0, (long long)ne1, (long long)ne2);
}

static tug_status wrong_type(const binder *b, const char *name,
                             const tug_gguf_tensor *t) {
    return TUG_FAIL(b->err, TUG_EUNSUPPORTED,
                    "%s: %s has type %s, which tug cannot decode yet; download a file in "
                    "Q3_K_M, Q4_K_M, Q5_K_M, Q6_K, Q8_0, IQ4_XS or BF16 instead",
                    tug_gguf_path(b->g), name, tug_type_get(t->type)->name);
}

/* A matrix, or a stack of n_mat of them. */
static tug_status matrix(const binder *b, tug_weight *w, const char *name, int64_t n_rows,
                         int64_t n_cols, int64_t n_mat) {
    tug_gguf_tensor t;
    TUG_TRY(find(b, name, &t));
    if (t.ne[0] != n_cols || t.ne[1] != n_rows || t.ne[2] != n_mat || t.ne[3] != 1) {
        return wrong_shape(b, name, &t, n_cols, n_rows, n_mat);
    }
    if (!tug_type_get(t.type)->can_decode || !tug_backend_supports(b->be, t.type)) {
        return wrong_type(b, name, &t);
    }
    uint64_t row_bytes = 0;
    TUG_CHECK(tug_type_row_bytes(t.type, (uint64_t)n_cols, &row_bytes));
    *w = (tug_weight){.data = t.data,
                      .type = t.type,
                      .n_rows = n_rows,
                      .n_cols = n_cols,
                      .n_mat = n_mat,
                      .digits = 2,
                      .row_bytes = row_bytes,
                      .mat_bytes = row_bytes * (uint64_t)n_rows};
    return TUG_OK;
}

static tug_status layer_matrix(const binder *b, tug_weight *w, const char *suffix,
                               int64_t n_rows, int64_t n_cols, int64_t n_mat) {
    char name[64];
    return matrix(b, w, layer_name(name, b->layer, suffix), n_rows, n_cols, n_mat);
}

/* Rows [row0, row0 + n) of w as a view. */
static tug_weight rows_of(const tug_weight *w, int64_t row0, int64_t n) {
    tug_weight part = *w;
    part.data = tug_weight_row(w, 0, row0);
    part.n_rows = n;
    return part;
}

/* n floats owned by the weights. */
static tug_status own_floats(const binder *b, int64_t n, float **out) {
    *out = tug_alloc_array((size_t)n, sizeof **out);
    if (!*out) return TUG_FAIL(b->err, TUG_ENOMEM, "out of memory for the norm weights");
    TUG_CHECK(b->w->n_owned < b->w->n_layer * OWNED_PER_LAYER + 1);
    b->w->owned[b->w->n_owned++] = *out;
    return TUG_OK;
}

/* A small tensor of any decodable type as n f32 values. */
static tug_status vector(const binder *b, const float **v, const char *name, int64_t n) {
    tug_gguf_tensor t;
    TUG_TRY(find(b, name, &t));
    if (t.ne[0] * t.ne[1] != n || t.ne[2] != 1 || t.ne[3] != 1) {
        return wrong_shape(b, name, &t, n, 1, 1);
    }
    if (!tug_type_get(t.type)->can_decode) return wrong_type(b, name, &t);
    float *copy;
    TUG_TRY(own_floats(b, n, &copy));
    for (int64_t r = 0; r < t.ne[1]; r++) {
        tug_dequantize_row(t.type, copy + r * t.ne[0],
                           t.data + (uint64_t)r * (t.n_bytes / (uint64_t)t.ne[1]),
                           t.ne[0]);
    }
    *v = copy;
    return TUG_OK;
}

static tug_status layer_vector(const binder *b, const float **v, const char *suffix,
                               int64_t n) {
    char name[64];
    return vector(b, v, layer_name(name, b->layer, suffix), n);
}

/* ---- mixers -------------------------------------------------------------------------- */

static tug_status alloc_mix_in(const binder *b, tug_layer *l, int n) {
    l->mix_in = tug_alloc_array((size_t)n, sizeof *l->mix_in);
    if (!l->mix_in)
        return TUG_FAIL(b->err, TUG_ENOMEM, "out of memory for the layer table");
    l->n_mix_in = n;
    return TUG_OK;
}

static tug_status bind_attention(const binder *b, tug_layer *l) {
    const tug_attn_shape *a = &b->s->attn;
    const int64_t dim = b->s->dim, d = a->head_dim;
    const int64_t n_q = 2L * a->n_head * d, n_kv = a->n_kv_head * d;
    TUG_TRY(alloc_mix_in(b, l, 3));
    TUG_TRY(layer_matrix(b, &l->mix_in[0].w, "attn_q.weight", n_q, dim, 1));
    TUG_TRY(layer_matrix(b, &l->mix_in[1].w, "attn_k.weight", n_kv, dim, 1));
    TUG_TRY(layer_matrix(b, &l->mix_in[2].w, "attn_v.weight", n_kv, dim, 1));
    l->mix_in[0].dst_col = 0;
    l->mix_in[1].dst_col = n_q;
    l->mix_in[2].dst_col = n_q + n_kv;
    l->mix_width = n_q + 2 * n_kv;
    l->mix_out.dst_col = 0;
    TUG_TRY(layer_matrix(b, &l->mix_out.w, "attn_output.weight", dim, n_q / 2, 1));
    TUG_TRY(layer_vector(b, &l->q_norm, "attn_q_norm.weight", d));
    return layer_vector(b, &l->k_norm, "attn_k_norm.weight", d);
}

/* attn_qkv + attn_gate: the order we want, already. */
static tug_status bind_delta_split(const binder *b, tug_layer *l, int64_t n_ch,
                                   int64_t n_v) {
    TUG_TRY(alloc_mix_in(b, l, 3));
    TUG_TRY(layer_matrix(b, &l->mix_in[0].w, "attn_qkv.weight", n_ch, b->s->dim, 1));
    TUG_TRY(layer_matrix(b, &l->mix_in[1].w, "attn_gate.weight", n_v, b->s->dim, 1));
    l->mix_in[0].dst_col = 0;
    l->mix_in[1].dst_col = n_ch;
    return TUG_OK;
}

/* ssm_in: rows grouped by key head as (q, k, v, z).  Rows are independent, so every group
 * becomes four row ranges with the destinations we want. */
static tug_status bind_delta_fused(const binder *b, tug_layer *l, int64_t n_ch,
                                   int64_t n_v) {
    const tug_delta_shape *d = &b->s->delta;
    const int64_t dk = d->dk, dvr = (int64_t)d->n_v_head / d->n_k_head * d->dv;
    const int64_t n_qk = d->n_k_head * dk;
    tug_weight in;
    TUG_TRY(layer_matrix(b, &in, "ssm_in.weight", n_ch + n_v, b->s->dim, 1));
    TUG_TRY(alloc_mix_in(b, l, 4 * d->n_k_head + 1));
    for (int g = 0; g < d->n_k_head; g++) {
        const int64_t row = g * 2 * (dk + dvr);
        tug_proj *p = l->mix_in + 4L * g;
        p[0] = (tug_proj){rows_of(&in, row, dk), g * dk};
        p[1] = (tug_proj){rows_of(&in, row + dk, dk), n_qk + g * dk};
        p[2] = (tug_proj){rows_of(&in, row + 2 * dk, dvr), 2 * n_qk + g * dvr};
        p[3] = (tug_proj){rows_of(&in, row + 2 * dk + dvr, dvr), n_ch + g * dvr};
    }
    return TUG_OK;
}

/* File (channels, width), taps contiguous -> (width, channels). */
static tug_status bind_conv(const binder *b, tug_layer *l, int64_t n_ch) {
    const int width = b->s->delta.conv_width;
    const float *file;
    float *w;
    TUG_TRY(layer_vector(b, &file, "ssm_conv1d.weight", n_ch * width));
    TUG_TRY(own_floats(b, n_ch * width, &w));
    for (int64_t c = 0; c < n_ch; c++) {
        for (int i = 0; i < width; i++) w[i * n_ch + c] = file[c * width + i];
    }
    l->conv_w = w;
    return TUG_OK;
}

static tug_status bind_delta(const binder *b, tug_layer *l) {
    const tug_delta_shape *d = &b->s->delta;
    const int64_t n_ch = tug_shape_conv_channels(b->s),
                  n_v = (int64_t)d->n_v_head * d->dv;
    if (has(b, "ssm_in.weight")) {
        TUG_TRY(bind_delta_fused(b, l, n_ch, n_v));
    } else {
        TUG_TRY(bind_delta_split(b, l, n_ch, n_v));
    }
    tug_proj *ba = &l->mix_in[l->n_mix_in - 1];
    ba->dst_col = n_ch + n_v;
    TUG_TRY(layer_matrix(b, &ba->w, "ssm_ba.weight", 2L * d->n_v_head, b->s->dim, 1));
    l->mix_width = n_ch + n_v + 2L * d->n_v_head;
    l->mix_out.dst_col = 0;
    TUG_TRY(layer_matrix(b, &l->mix_out.w, "ssm_out.weight", b->s->dim, n_v, 1));
    TUG_TRY(bind_conv(b, l, n_ch));
    TUG_TRY(layer_vector(b, &l->dt_bias, "ssm_dt.bias", d->n_v_head));
    TUG_TRY(layer_vector(b, &l->a_coef, "ssm_a", d->n_v_head));
    return layer_vector(b, &l->delta_norm, "ssm_norm.weight", d->dv);
}

/* ---- experts ------------------------------------------------------------------------- */

static tug_status bind_experts(const binder *b, tug_layer *l) {
    const int64_t dim = b->s->dim, f = b->s->expert_dim, n = b->s->n_expert;
    l->router.dst_col = 0;
    TUG_TRY(layer_matrix(b, &l->router.w, "ffn_gate_inp.weight", n, dim, 1));
    if (has(b, "ffn_gate_up_exps.weight")) { /* each expert: gate rows, then up rows */
        tug_weight both;
        TUG_TRY(layer_matrix(b, &both, "ffn_gate_up_exps.weight", 2 * f, dim, n));
        l->moe.gate = rows_of(&both, 0, f);
        l->moe.up = rows_of(&both, f, f);
    } else {
        TUG_TRY(layer_matrix(b, &l->moe.gate, "ffn_gate_exps.weight", f, dim, n));
        TUG_TRY(layer_matrix(b, &l->moe.up, "ffn_up_exps.weight", f, dim, n));
    }
    return layer_matrix(b, &l->moe.down, "ffn_down_exps.weight", dim, f, n);
}

static tug_status bind_shared_expert(const binder *b, tug_layer *l) {
    const int64_t dim = b->s->dim, f = b->s->shared_dim;
    if (!has(b, "ffn_gate_shexp.weight")) return TUG_OK; /* a relative without one */
    TUG_TRY(layer_matrix(b, &l->moe.sh_gate, "ffn_gate_shexp.weight", f, dim, 1));
    TUG_TRY(layer_matrix(b, &l->moe.sh_up, "ffn_up_shexp.weight", f, dim, 1));
    TUG_TRY(layer_matrix(b, &l->moe.sh_down, "ffn_down_shexp.weight", dim, f, 1));
    return layer_vector(b, &l->moe.sh_router, "ffn_gate_inp_shexp.weight", dim);
}

/* ---- digits -------------------------------------------------------------------------- */

/* Models narrower than this take two digits everywhere: nobody waits for them, and the
 * narrower a network, the more a rounding shows. */
#define TWO_DIGIT_DIM 1024

/* One digit where most of the work is and little of the error arises: the experts and the
 * inputs of the mixers.  Two for what a mixer adds to the stream, and for the few rows
 * that decide how fast a DeltaNet state forgets. */
static void choose_digits(const binder *b, tug_layer *l) {
    if (b->s->dim < TWO_DIGIT_DIM) return;
    const int n_exact = l->is_attn ? 0 : 1; /* ssm_ba is the last */
    for (int i = 0; i < l->n_mix_in - n_exact; i++) l->mix_in[i].w.digits = 1;
    tug_weight *const experts[] = {&l->moe.gate,    &l->moe.up,    &l->moe.down,
                                   &l->moe.sh_gate, &l->moe.sh_up, &l->moe.sh_down};
    for (size_t i = 0; i < sizeof experts / sizeof *experts; i++) experts[i]->digits = 1;
}

/* ---- the whole ----------------------------------------------------------------------- */

static tug_status bind_layer(const binder *b, tug_layer *l) {
    /* The file says by its tensors which layers are attention: the interval key may be
     * absent, and the two cannot disagree this way. */
    l->is_attn = has(b, "attn_q.weight");
    TUG_TRY(layer_vector(b, &l->mix_norm, "attn_norm.weight", b->s->dim));
    TUG_TRY(layer_vector(b, &l->ffn_norm, "post_attention_norm.weight", b->s->dim));
    TUG_TRY(l->is_attn ? bind_attention(b, l) : bind_delta(b, l));
    TUG_TRY(bind_experts(b, l));
    TUG_TRY(bind_shared_expert(b, l));
    choose_digits(b, l);
    b->w->n_attn_layer += l->is_attn;
    if (l->mix_width > b->w->max_mix_width) b->w->max_mix_width = l->mix_width;
    return TUG_OK;
}

static tug_status bind_all(binder *b) {
    tug_weights *w = b->w;
    const int64_t dim = b->s->dim, n_vocab = b->s->n_vocab;
    TUG_TRY(matrix(b, &w->embedding, "token_embd.weight", n_vocab, dim, 1));
    TUG_TRY(vector(b, &w->output_norm, "output_norm.weight", dim));
    tug_gguf_tensor t;
    const bool tied = !tug_gguf_find_tensor(b->g, "output.weight", &t);
    w->head.dst_col = 0;
    TUG_TRY(matrix(b, &w->head.w, tied ? "token_embd.weight" : "output.weight", n_vocab,
                   dim, 1));
    if (dim >= TWO_DIGIT_DIM) w->head.w.digits = 1;
    for (b->layer = 0; b->layer < w->n_layer; b->layer++) {
        TUG_TRY(bind_layer(b, &w->layer[b->layer]));
    }
    return TUG_OK;
}

tug_status tug_weights_bind(tug_weights *w, const tug_gguf *g, const tug_shape *s,
                            const tug_backend *be, tug_err *err) {
    *w = (tug_weights){.n_layer = s->n_layer};
    w->layer = tug_alloc_zero((size_t)s->n_layer * sizeof *w->layer);
    w->owned =
        tug_alloc_zero(((size_t)s->n_layer * OWNED_PER_LAYER + 1) * sizeof *w->owned);
    tug_status status = TUG_OK;
    if (!w->layer || !w->owned) {
        status = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the layer table");
    } else {
        binder b = {w, g, s, be, err, 0};
        status = bind_all(&b);
    }
    if (status != TUG_OK) tug_weights_free(w);
    return status;
}

void tug_weights_free(tug_weights *w) {
    for (int i = 0; i < w->n_owned; i++) tug_free(w->owned[i]);
    for (int i = 0; w->layer && i < w->n_layer; i++) tug_free(w->layer[i].mix_in);
    tug_free_pages(w->packed, w->packed_bytes);
    tug_free(w->owned);
    tug_free(w->layer);
    *w = (tug_weights){0};
}
