/* work.c - see work.h.  SPDX-License-Identifier: MIT */
#include "model/work.h"

#include "backend/backend_stage.h"

/* n_tok tokens times one matrix. */
static void add_weight(tug_work *work, const tug_net *net, const tug_weight *w,
                       int64_t n_tok) {
    const double macs = (double)w->n_rows * (double)w->n_cols * (double)n_tok;
    work->bytes += (double)w->n_rows * (double)w->row_bytes;
    if (tug_backend_is_int8(net->be, w->type)) {
        work->macs_int8 += macs;
    } else {
        work->macs_f32 += macs;
    }
}

static void add_mixer_weights(tug_work *work, const tug_net *net, const tug_layer *l,
                              int64_t n_tok) {
    for (int i = 0; i < l->n_mix_in; i++) add_weight(work, net, &l->mix_in[i].w, n_tok);
    add_weight(work, net, &l->mix_out.w, n_tok);
}

/* Token t sees pos + t + 1 rows: a product with the keys, one with the values. */
static void add_attention(tug_work *work, const tug_net *net, const tug_kv_layer *kv,
                          int64_t pos, int64_t n_tok) {
    const tug_attn_shape *a = &net->shape.attn;
    const double rows = (double)(pos + n_tok), per_head = 2.0 * (double)kv->row_bytes;
    const double seen =
        (double)n_tok * (double)pos + 0.5 * (double)n_tok * (double)(n_tok + 1);
    work->bytes += per_head * a->n_kv_head * rows;
    const double macs = 2.0 * seen * a->n_head * a->head_dim;
    if (tug_backend_attn_is_int16(net->be, kv->type)) {
        work->macs_int8 += 2.0 * macs;
    } else {
        work->macs_f32 += macs;
    }
}

/* Per token and value head three products with the state: with the key, the update, with
 * the query. */
static void add_delta(tug_work *work, const tug_net *net, int64_t n_tok) {
    const tug_delta_shape *d = &net->shape.delta;
    const double state = (double)d->n_v_head * d->dk * d->dv;
    const double channels = (double)tug_shape_conv_channels(&net->shape);
    const double conv = (d->conv_width - 1) * channels;
    work->bytes += 2.0 * (state + conv) * sizeof(float);
    work->macs_f32 += (double)n_tok * (3.0 * state + d->conv_width * channels);
}

static void add_experts(tug_work *work, const tug_net *net, const tug_moe_weights *w,
                        int64_t n_tok) {
    const tug_weight *const routed[] = {&w->gate, &w->up, &w->down};
    const tug_weight *const shared[] = {&w->sh_gate, &w->sh_up, &w->sh_down};
    tug_work every = {0}; /* as if each token had an expert of its own */
    for (int i = 0; i < 3; i++) {
        add_weight(&every, net, routed[i], n_tok * net->shape.n_expert_used);
        add_weight(&work[TUG_STAGE_SHARED], net, shared[i], n_tok);
    }
    work[TUG_STAGE_EXPERTS].macs_int8 += every.macs_int8;
    work[TUG_STAGE_EXPERTS].macs_f32 += every.macs_f32;
}

void tug_work_add_pass(tug_work *work, const tug_net *net, const tug_state *st,
                       int64_t pos, int64_t n_tok) {
    const tug_weights *w = &net->weights;
    int i_attn = 0;
    work[TUG_STAGE_EMBEDDING].bytes += (double)n_tok * (double)w->embedding.row_bytes;
    for (int i = 0; i < w->n_layer; i++) {
        const tug_layer *l = &w->layer[i];
        tug_work *mixer = &work[l->is_attn ? TUG_STAGE_ATTENTION : TUG_STAGE_DELTANET];
        add_mixer_weights(mixer, net, l, n_tok);
        if (l->is_attn) {
            add_attention(mixer, net, &st->kv[i_attn++], pos, n_tok);
        } else {
            add_delta(mixer, net, n_tok);
        }
        add_weight(&work[TUG_STAGE_ROUTER], net, &l->router.w, n_tok);
        add_experts(work, net, &l->moe, n_tok);
    }
}

void tug_work_add_head(tug_work *work, const tug_net *net, int64_t n) {
    add_weight(&work[TUG_STAGE_HEAD], net, &net->weights.head.w, n);
}
