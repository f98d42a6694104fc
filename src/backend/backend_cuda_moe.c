/* backend_cuda_moe.c - the mixture of experts on the GPU and the CPU together.
 *
 * DESIGN
 * The GPU routes.  What it chose, and the tokens, go to the CPU; meanwhile it computes the
 * experts that have a copy there, and the shared one.  The CPU computes the others and hands
 * their sum back (backend_cuda_handoff.c): nothing waits for it but the last kernel of the
 * layer, which adds it all up.  When every expert of the layer has a copy nobody waits.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "backend/backend_stage.h"

/* ---- one layer of one batch ---------------------------------------------------------------- */

typedef tug_cuda_moe_job moe_job;

tug_cuda_residency tug_cuda_residency_of(const tug_moe_weights *w) {
    const tug_cuda_experts *e = w->on_gpu;
    return e->n_slot == 0            ? TUG_CUDA_NONE_HERE
           : e->n_slot < e->n_expert ? TUG_CUDA_SOME_HERE
                                     : TUG_CUDA_ALL_HERE;
}

static void route(const moe_job *j, const float *logits) {
    tug_cuda *c = j->c;
    const tug_cuda_route a = {.ids = c->buffer[TUG_CUDA_IDS],
                              .weights = c->buffer[TUG_CUDA_WEIGHTS],
                              .logits = logits,
                              .n_expert = (int32_t)j->w->gate.n_mat,
                              .k = j->n_used,
                              .n_tok = (int32_t)j->n_tok};
    tug_cuda_enqueue(c, tug_cuda_on_route(&a), &a);
    c->n_routed = j->n_pair;
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
    tug_cuda_handoff h = {.w = w,
                          .residency = tug_cuda_residency_of(w),
                          .elsewhere = w->on_gpu->here,
                          .n_used = n_used,
                          .n_tok = n_tok};
    const bool all_here = h.residency == TUG_CUDA_ALL_HERE;
    route(&j, router_logits);
    if (!all_here) tug_cuda_handoff_send(j.c, &h, x);
    tug_stage_enter(be, TUG_STAGE_EXPERTS);
    const bool one_kernel = w->gate.type == w->up.type && w->gate.digits == w->up.digits;
    const bool few = n_tok <= TUG_CUDA_FEW_TOKENS && one_kernel;
    if (few && h.residency == TUG_CUDA_NONE_HERE) {
        tug_backend_clear(be, y, (size_t)(n_tok * j.dim) * sizeof *y);
    } else if (few) {
        few_tokens(&j);
    } else {
        tug_cuda_many_here(&j);
    }
    const float *shared = shared_expert(&j), *more = NULL;
    if (!few) TUG_TRY(tug_cuda_many_carried(&j, err));
    h.elsewhere = j.elsewhere; /* now with those that are carried */
    h.source = j.source;
    if (!few && !j.source) tug_cuda_many_sum(&j);
    if (!all_here) TUG_TRY(tug_cuda_handoff_join(be, &h, &more, err));
    if (j.source) tug_cuda_many_sum(&j);
    const tug_cuda_expert_finish a = {.y = y,
                                      .shared = shared,
                                      .w = w->sh_router,
                                      .x = x,
                                      .more = more,
                                      .n = (int32_t)j.dim,
                                      .n_tok = (int32_t)n_tok};
    tug_cuda_enqueue(j.c, tug_cuda_on_expert_finish(&a), &a);
    if (j.c->recording) {
        tug_cuda_note_layer(j.c, &h);
        return TUG_OK;
    }
    return h.number > 0 ? tug_cuda_handoff_answer(be, &h, err) : TUG_OK;
}

const int32_t *tug_cuda_op_routed(tug_backend *be) {
    tug_cuda *c = tug_cuda_of(be);
    int32_t *ids = c->pinned[TUG_CUDA_HOST_IDS];
    const size_t bytes = (size_t)c->n_routed * sizeof *ids;
    tug_err ignored; /* the pass tells of it */
    tug_device_copy_out(c->dev, TUG_STREAM_COMPUTE, ids, c->buffer[TUG_CUDA_IDS], bytes);
    if (tug_device_wait(c->dev, TUG_STREAM_COMPUTE, &ignored) != TUG_OK) {
        memset(ids, 0, bytes);
    }
    return ids;
}
