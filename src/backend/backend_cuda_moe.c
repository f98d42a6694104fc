/* backend_cuda_moe.c - the mixture of experts on the GPU and the CPU together.
 *
 * DESIGN
 * The GPU routes.  What it chose, and the tokens, go to pinned memory; meanwhile it computes
 * the experts that have a copy there, and the shared one.  The CPU waits for what was
 * chosen, computes the others, and hands their sum back: nothing waits for the CPU but the
 * last kernel of the layer, which adds it all up.  When every expert of the layer has a copy
 * nobody waits at all.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "backend/backend_stage.h"

/* ---- one layer of one batch ---------------------------------------------------------------- */

typedef tug_cuda_moe_job moe_job;

static void route(const moe_job *j, const float *logits) {
    tug_cuda *c = j->c;
    const tug_cuda_route a = {.ids = c->buffer[TUG_CUDA_IDS],
                              .weights = c->buffer[TUG_CUDA_WEIGHTS],
                              .logits = logits,
                              .n_expert = (int32_t)j->w->gate.n_mat,
                              .k = j->n_used,
                              .n_tok = (int32_t)j->n_tok};
    tug_cuda_enqueue(c, tug_cuda_on_route(&a), &a);
    const size_t bytes = (size_t)j->n_pair * sizeof(int32_t);
    tug_device_copy_out(c->dev, TUG_STREAM_COMPUTE, c->pinned[TUG_CUDA_HOST_IDS], a.ids,
                        bytes);
    if (j->w->on_gpu->n_slot < j->w->on_gpu->n_expert) {
        tug_device_copy_out(c->dev, TUG_STREAM_COMPUTE, c->pinned[TUG_CUDA_HOST_WEIGHTS],
                            a.weights, bytes);
        tug_device_copy_out(c->dev, TUG_STREAM_COMPUTE, c->pinned[TUG_CUDA_HOST_X],
                            j->in.x, (size_t)(j->n_tok * j->dim) * sizeof(float));
    }
    tug_device_record(c->dev, c->routed, TUG_STREAM_COMPUTE);
}

static void few_tokens(moe_job *j) {
    tug_cuda *c = j->c;
    if (j->w->on_gpu->n_slot == 0) {
        tug_device_clear(c->dev, TUG_STREAM_COMPUTE, j->y,
                         (size_t)(j->n_tok * j->dim) * sizeof *j->y);
        return;
    }
    const tug_weight *gate = &j->w->gate, *down = &j->w->down;
    const tug_cuda_expert_hidden h = {.h = c->buffer[TUG_CUDA_UP],
                                      .gate = j->slots[0],
                                      .up = j->slots[1],
                                      .ids = c->buffer[TUG_CUDA_IDS],
                                      .x = tug_cuda_input(c, &j->in, gate),
                                      .w_row_bytes = (int64_t)gate->row_bytes,
                                      .x_row_bytes = (int64_t)tug_cuda_x_row_bytes(gate),
                                      .n_rows = (int32_t)gate->n_rows,
                                      .n_cols = (int32_t)gate->n_cols,
                                      .n_tok = (int32_t)j->n_tok,
                                      .n_used = j->n_used,
                                      .digits = gate->digits};
    tug_cuda_enqueue(c, tug_cuda_on_expert_hidden(&h, gate->type), &h);
    const void *rows = h.h;
    if (!tug_cuda_takes_floats(down)) {
        const tug_cuda_quantize q = {.act = c->buffer[TUG_CUDA_HIDDEN],
                                     .x = h.h,
                                     .x_stride = down->n_cols,
                                     .n = (int32_t)down->n_cols,
                                     .n_tok = (int32_t)j->n_pair,
                                     .digits = down->digits};
        tug_cuda_enqueue(c, tug_cuda_on_quantize(&q), &q);
        rows = q.act;
    }
    const tug_cuda_expert_down d = {.y = j->y,
                                    .down = j->slots[2],
                                    .ids = c->buffer[TUG_CUDA_IDS],
                                    .weights = c->buffer[TUG_CUDA_WEIGHTS],
                                    .h = rows,
                                    .w_row_bytes = (int64_t)down->row_bytes,
                                    .h_row_bytes = (int64_t)tug_cuda_x_row_bytes(down),
                                    .n_rows = (int32_t)down->n_rows,
                                    .n_cols = (int32_t)down->n_cols,
                                    .n_tok = (int32_t)j->n_tok,
                                    .n_used = j->n_used,
                                    .digits = down->digits};
    tug_cuda_enqueue(c, tug_cuda_on_expert_down(&d, down->type), &d);
}

/* sh_out <- the shared expert; NULL: there is none. */
static const float *shared_expert(moe_job *j) {
    tug_cuda *c = j->c;
    const tug_moe_weights *w = j->w;
    if (w->sh_gate.n_rows == 0) return NULL;
    float *gate = c->buffer[TUG_CUDA_SH_GATE], *up = c->buffer[TUG_CUDA_SH_UP];
    float *out = c->buffer[TUG_CUDA_SH_OUT];
    const tug_proj p_gate = {.w = w->sh_gate}, p_up = {.w = w->sh_up};
    const tug_proj p_down = {.w = w->sh_down};
    tug_cuda_products(c, &p_gate, 1, gate, w->sh_gate.n_rows, &j->in);
    tug_cuda_products(c, &p_up, 1, up, w->sh_up.n_rows, &j->in);
    const void *rows = tug_cuda_hidden(c, &w->sh_down, c->buffer[TUG_CUDA_SH_HIDDEN],
                                       gate, up, j->n_tok);
    tug_cuda_inputs hidden = {.rows = rows, .n = w->sh_down.n_cols, .n_tok = j->n_tok};
    tug_cuda_products(c, &p_down, 1, out, w->sh_down.n_rows, &hidden);
    return out;
}

static bool any_missing(const moe_job *j) {
    const int32_t *ids = j->c->pinned[TUG_CUDA_HOST_IDS];
    for (int64_t p = 0; p < j->n_pair; p++) {
        if (!j->elsewhere[ids[p]]) return true;
    }
    return false;
}

static void saw(const moe_job *j) {
    tug_cuda_slots_saw(j->c, j->w->on_gpu, j->c->pinned[TUG_CUDA_HOST_IDS], j->n_tok,
                       j->n_used);
}

/* The CPU's part; *more: what the device adds, NULL: nothing. */
static tug_status rest_on_cpu(moe_job *j, const float **more, tug_err *err) {
    tug_cuda *c = j->c;
    *more = NULL;
    if (j->w->on_gpu->n_slot == j->w->on_gpu->n_expert) return TUG_OK;
    TUG_TRY(tug_device_wait_event(c->dev, c->routed, err));
    if (!any_missing(j)) {
        saw(j);
        return TUG_OK;
    }
    float *sum = c->pinned[TUG_CUDA_HOST_MORE];
    TUG_TRY(tug_cpu_moe_rest(
        j->be, j->w, sum, c->pinned[TUG_CUDA_HOST_X], c->pinned[TUG_CUDA_HOST_IDS],
        c->pinned[TUG_CUDA_HOST_WEIGHTS], j->elsewhere, j->n_used, j->n_tok, err));
    tug_device_copy_in(c->dev, TUG_STREAM_COMPUTE, c->buffer[TUG_CUDA_MORE], sum,
                       (size_t)(j->n_tok * j->dim) * sizeof *sum);
    *more = c->buffer[TUG_CUDA_MORE];
    saw(j); /* the device works meanwhile */
    return TUG_OK;
}

tug_status tug_cuda_op_moe(tug_backend *be, const tug_moe_weights *w, float *y,
                           const float *x, const float *router_logits, int n_used,
                           int64_t n_tok, tug_err *err) {
    const uint64_t *tables = w->on_gpu->tables;
    moe_job j = {.be = be,
                 .c = tug_cuda_of(be),
                 .w = w,
                 .y = y,
                 .in = {.x = x, .n = w->gate.n_cols, .n_tok = n_tok},
                 .n_used = n_used,
                 .n_tok = n_tok,
                 .n_pair = n_tok * n_used,
                 .dim = w->down.n_rows,
                 .elsewhere = w->on_gpu->here};
    for (int i = 0; i < TUG_CUDA_MATRICES; i++) {
        j.slots[i] = (tug_cuda_slots)(const void *)(tables + i * w->gate.n_mat);
    }
    route(&j, router_logits);
    tug_stage_enter(be, TUG_STAGE_EXPERTS);
    const bool one_kernel = w->gate.type == w->up.type && w->gate.digits == w->up.digits;
    const bool few = n_tok <= TUG_CUDA_FEW_TOKENS && one_kernel;
    if (few) {
        few_tokens(&j);
    } else {
        tug_cuda_many_hidden(&j);
    }
    const float *shared = shared_expert(&j), *more;
    if (!few) TUG_TRY(tug_cuda_many_down(&j, err));
    TUG_TRY(rest_on_cpu(&j, &more, err));
    const tug_cuda_expert_finish a = {.y = y,
                                      .shared = shared,
                                      .w = w->sh_router,
                                      .x = x,
                                      .more = more,
                                      .n = (int32_t)j.dim,
                                      .n_tok = (int32_t)n_tok};
    tug_cuda_enqueue(j.c, tug_cuda_on_expert_finish(&a), &a);
    return TUG_OK;
}

const int32_t *tug_cuda_op_routed(tug_backend *be) {
    tug_cuda *c = tug_cuda_of(be);
    tug_err ignored; /* the pass tells of it */
    if (tug_device_wait_event(c->dev, c->routed, &ignored) != TUG_OK) {
        memset(c->pinned[TUG_CUDA_HOST_IDS], 0,
               (size_t)(c->limits.n_tok * c->limits.n_expert_used) * sizeof(int32_t));
    }
    return c->pinned[TUG_CUDA_HOST_IDS];
}
