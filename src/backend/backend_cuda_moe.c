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
#include "base/sys.h"

/* ---- copies of experts ------------------------------------------------------------------- */

enum { MATRICES = 3, ALIGN = 256 };

static size_t aligned(size_t n) {
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t matrix_bytes(const tug_weight *w) {
    return (size_t)w->n_rows * w->row_bytes;
}

static size_t expert_bytes(const tug_moe_weights *w) {
    return aligned(matrix_bytes(&w->gate)) + aligned(matrix_bytes(&w->up)) +
           aligned(matrix_bytes(&w->down));
}

static size_t table_bytes(const tug_moe_weights *w) {
    return MATRICES * (size_t)w->gate.n_mat * sizeof(uint64_t);
}

uint64_t tug_cuda_experts_bytes(const tug_moe_weights *w, int n) {
    return (uint64_t)n * expert_bytes(w) + aligned(table_bytes(w));
}

/* Copies expert i to `at` and notes where its matrices are. */
static void copy_expert(tug_backend *be, const tug_moe_weights *w, int i, uint8_t *at,
                        uint64_t *table) {
    const tug_weight *const matrices[MATRICES] = {&w->gate, &w->up, &w->down};
    for (int j = 0; j < MATRICES; j++) {
        TUG_CHECK(!matrices[j]->packed);
        table[(int64_t)j * w->gate.n_mat + i] = (uint64_t)(uintptr_t)at;
        tug_backend_write(be, at, tug_weight_row(matrices[j], i, 0),
                          matrix_bytes(matrices[j]));
        at += aligned(matrix_bytes(matrices[j]));
    }
}

static tug_status fill(tug_backend *be, tug_cuda_experts *e, const tug_moe_weights *w,
                       uint64_t *table, tug_err *err) {
    e->n_bytes = (size_t)e->n_here * expert_bytes(w);
    if (e->n_bytes > 0) {
        TUG_TRY(tug_backend_alloc(be, &e->bytes, e->n_bytes, "experts", err));
    }
    TUG_TRY(tug_backend_alloc(be, &e->tables, table_bytes(w), "experts", err));
    for (int i = 0; i < e->n_here; i++) {
        copy_expert(be, w, i, (uint8_t *)e->bytes + (size_t)i * expert_bytes(w), table);
        e->here[i] = 1;
    }
    tug_backend_write(be, e->tables, table, table_bytes(w));
    return tug_backend_wait(be, err);
}

tug_status tug_cuda_experts_create(tug_backend *be, tug_moe_weights *w, int n,
                                   tug_err *err) {
    TUG_CHECK(n >= 0 && n <= w->gate.n_mat);
    tug_cuda_experts *e = tug_alloc_zero(sizeof *e);
    uint64_t *table = tug_alloc_zero(table_bytes(w));
    tug_status s = TUG_OK;
    if (e) {
        e->n_expert = (int)w->gate.n_mat;
        e->n_here = n;
        e->here = tug_alloc_zero((size_t)e->n_expert);
    }
    if (!e || !table || !e->here) {
        s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the table of experts");
    }
    if (s == TUG_OK) s = fill(be, e, w, table, err);
    tug_free(table);
    if (s != TUG_OK) {
        tug_cuda_experts_destroy(be, &e);
        return s;
    }
    w->on_gpu = e;
    return TUG_OK;
}

void tug_cuda_experts_destroy(tug_backend *be, tug_cuda_experts **experts) {
    tug_cuda_experts *e = *experts;
    if (!e) return;
    tug_backend_free(be, e->bytes, e->n_bytes);
    tug_backend_free(be, e->tables, MATRICES * (size_t)e->n_expert * sizeof(uint64_t));
    tug_free(e->here);
    tug_free(e);
    *experts = NULL;
}

/* ---- one layer of one batch ---------------------------------------------------------------- */

typedef struct moe_job {
    tug_backend *be;
    tug_cuda *c;
    const tug_moe_weights *w;
    float *y;
    tug_cuda_inputs in;
    int n_used;
    int64_t n_tok, n_pair, dim;
    tug_cuda_slots slots[MATRICES]; /* of gate, up, down */
} moe_job;

tug_cuda_residency tug_cuda_residency_of(const tug_moe_weights *w) {
    const tug_cuda_experts *e = w->on_gpu;
    return e->n_here == 0            ? TUG_CUDA_NONE_HERE
           : e->n_here < e->n_expert ? TUG_CUDA_SOME_HERE
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

static void sort_pairs(const moe_job *j) {
    tug_cuda *c = j->c;
    const tug_cuda_sort a = {.ids = c->buffer[TUG_CUDA_IDS],
                             .first = c->buffer[TUG_CUDA_FIRST],
                             .sorted = c->buffer[TUG_CUDA_SORTED],
                             .tiles = c->buffer[TUG_CUDA_TILES],
                             .n_pair = (int32_t)j->n_pair,
                             .n_expert = (int32_t)j->w->gate.n_mat,
                             .tile = TUG_CUDA_GEMM_TOKENS};
    tug_cuda_enqueue(c, tug_cuda_on_sort_count(&a), &a);
    tug_cuda_enqueue(c, tug_cuda_on_sort_plan(&a), &a);
    tug_cuda_enqueue(c, tug_cuda_on_sort_place(&a), &a);
}

/* y (n_pair, w.n_rows) of the sorted pairs; x_pairs of them share a row of x. */
static void grouped(const moe_job *j, const tug_weight *w, tug_cuda_slots slots,
                    const void *x, int x_pairs, float *y) {
    tug_cuda *c = j->c;
    const tug_cuda_gemm a = {.y = y,
                             .x = x,
                             .slots = slots,
                             .tiles = c->buffer[TUG_CUDA_TILES],
                             .first = c->buffer[TUG_CUDA_FIRST],
                             .sorted = c->buffer[TUG_CUDA_SORTED],
                             .y_stride = w->n_rows,
                             .w_row_bytes = (int64_t)w->row_bytes,
                             .x_row_bytes = (int64_t)tug_cuda_x_row_bytes(w),
                             .n_rows = (int32_t)w->n_rows,
                             .n_cols = (int32_t)w->n_cols,
                             .n_tok = (int32_t)j->n_pair,
                             .n_expert = (int32_t)w->n_mat,
                             .x_pairs = x_pairs,
                             .digits = w->digits};
    tug_cuda_enqueue(c, tug_cuda_on_gemm(&a, w->type), &a);
}

static void many_tokens(moe_job *j) {
    tug_cuda *c = j->c;
    const tug_moe_weights *w = j->w;
    float *gate = c->buffer[TUG_CUDA_GATE], *up = c->buffer[TUG_CUDA_UP];
    sort_pairs(j);
    grouped(j, &w->gate, j->slots[0], tug_cuda_input(c, &j->in, &w->gate), j->n_used,
            gate);
    grouped(j, &w->up, j->slots[1], tug_cuda_input(c, &j->in, &w->up), j->n_used, up);
    const void *rows =
        tug_cuda_hidden(c, &w->down, c->buffer[TUG_CUDA_HIDDEN], gate, up, j->n_pair);
    grouped(j, &w->down, j->slots[2], rows, 1, c->buffer[TUG_CUDA_PAIR_OUT]);
    const tug_cuda_combine a = {.y = j->y,
                                .yp = c->buffer[TUG_CUDA_PAIR_OUT],
                                .weights = c->buffer[TUG_CUDA_WEIGHTS],
                                .ids = c->buffer[TUG_CUDA_IDS],
                                .slots = j->slots[2],
                                .n = (int32_t)j->dim,
                                .n_tok = (int32_t)j->n_tok,
                                .n_used = j->n_used};
    tug_cuda_enqueue(c, tug_cuda_on_combine(&a), &a);
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
                 .dim = w->down.n_rows};
    for (int i = 0; i < MATRICES; i++) {
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
    if (h.residency == TUG_CUDA_NONE_HERE) {
        tug_backend_clear(be, y, (size_t)(n_tok * j.dim) * sizeof *y);
    } else if (n_tok <= TUG_CUDA_FEW_TOKENS && one_kernel) {
        few_tokens(&j);
    } else {
        many_tokens(&j);
    }
    const float *shared = shared_expert(&j), *more = NULL;
    if (!all_here) TUG_TRY(tug_cuda_handoff_join(be, &h, &more, err));
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
