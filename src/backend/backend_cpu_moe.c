/* backend_cpu_moe.c - the mixture of experts on the CPU.
 *
 * DESIGN
 * Route every token, sort the (token, expert) pairs by expert into slots, then three
 * passes that all threads share: gate and up with SwiGLU (over the tiles of all experts'
 * rows, see run_pass), conversion of the hidden rows, down (over tiles again).
 * Last, each token adds its experts' outputs in the order of their index and the
 * shared expert: that order, and so the result, is the same for any batch.
 *
 * When a source brings the experts, the three passes run once per wave: first the shared
 * expert and those that are here, then others as they arrive.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/backend_impl.h"
#include "backend/backend_stage.h"

typedef struct moe_job {
    tug_backend *be;
    const tug_moe_weights *w;
    float *y;
    const float *x;
    const float *router_logits;
    int n_used;
    int64_t n_tok;
    const uint8_t *elsewhere; /* (n_expert,): 1: another place computes it; NULL: none */
    /* Of the wave that is running: */
    const int32_t *at; /* (n_wave,) positions in routing.active; NULL: 0, 1, 2, ... */
    int n_wave;
    bool with_shared;
    /* Of the pass that is running, in tiles of TUG_CPU_TILE_ROWS rows; n_tiles are all in a
     * row, the shared expert's first: */
    int64_t n_shared_tiles, tiles_per_expert, n_tiles;
} moe_job;

/* ---- routing ------------------------------------------------------------------------- */

static void route_tokens(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const moe_job *j = ud;
    tug_routing *r = &j->be->routing;
    const int n_expert = (int)j->w->gate.n_mat;
    for (int64_t t = begin; t < end; t++) {
        j->be->k.route(r->ids + t * j->n_used, r->weights + t * j->n_used,
                       j->router_logits + t * n_expert, n_expert, j->n_used);
    }
}

enum { NO_SLOT = -1 };

static bool is_mine(const moe_job *j, int32_t expert) {
    return !j->elsewhere || !j->elsewhere[expert];
}

/* Counting sort of the pairs by expert; within an expert tokens stay in order. */
static void assign_slots(const moe_job *j) {
    tug_routing *r = &j->be->routing;
    const int64_t n_pair = j->n_tok * j->n_used;
    const int n_expert = (int)j->w->gate.n_mat;
    memset(r->first, 0, (size_t)(n_expert + 1) * sizeof *r->first);
    for (int64_t p = 0; p < n_pair; p++) {
        if (is_mine(j, r->ids[p])) r->first[r->ids[p] + 1]++;
    }
    r->n_active = 0;
    for (int e = 0; e < n_expert; e++) {
        if (r->first[e + 1] > 0) {
            r->counts[r->n_active] = r->first[e + 1];
            r->active[r->n_active++] = e;
        }
        r->first[e + 1] += r->first[e];
    }
    for (int64_t p = 0; p < n_pair; p++) {
        /* first[e] walks through e's slots and is put back below. */
        r->slot[p] = is_mine(j, r->ids[p]) ? r->first[r->ids[p]]++ : NO_SLOT;
    }
    for (int e = n_expert; e > 0; e--) r->first[e] = r->first[e - 1];
    r->first[0] = 0;
    for (int64_t p = 0; p < n_pair; p++) {
        if (r->slot[p] == NO_SLOT) continue;
        const int32_t e = r->ids[p], slot = r->slot[p], m = r->first[e + 1] - r->first[e];
        const int64_t at = (int64_t)r->first[e] + slot;
        r->token[at] = (int32_t)(p / j->n_used);
        r->token[at + m] = (int32_t)(j->n_tok + p / j->n_used);
        r->hidden[at] = slot;
        r->hidden[at + m] = (int32_t)(n_pair + slot);
    }
}

/* ---- the passes ---------------------------------------------------------------------- */

/* Token inputs in the form that weights of this type want. */
static const void *input_for(const moe_job *j, const tug_weight *w) {
    const tug_act kind = tug_cpu_kernel(j->be, w)->act;
    return kind == TUG_ACT_F32 ? (const void *)j->x : j->be->act[kind];
}

static int64_t tiles_of(int64_t n_rows) {
    return (n_rows + TUG_CPU_TILE_ROWS - 1) / TUG_CPU_TILE_ROWS;
}

/* Runs fn over the tiles of a pass over matrices of n_rows, and n_shared rows of the shared
 * expert.  A batch wants single tiles, which threads finish together.  A token wants long
 * pieces: the kernels stream at the speed of memory only after some kilobytes. */
static void run_pass(moe_job *j, int64_t n_rows, int64_t n_shared, tug_range_fn *fn) {
    tug_pool *pool = j->be->pool;
    j->n_shared_tiles = j->with_shared ? tiles_of(n_shared) : 0;
    j->tiles_per_expert = tiles_of(n_rows);
    j->n_tiles = j->n_shared_tiles + j->n_wave * j->tiles_per_expert;
    const int64_t fair = j->n_tok < 4 ? j->tiles_per_expert / tug_pool_size(pool) : 1;
    tug_pool_for(pool, j->n_tiles, fair > 1 ? fair : 1, fn, j);
}

/* The i-th expert of the wave. */
static int32_t wave_expert(const moe_job *j, int64_t i) {
    return j->be->routing.active[j->at ? j->at[i] : i];
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

typedef struct tile {
    bool is_shared; /* or of expert `mat` */
    int32_t mat;
    int64_t row0;
} tile;

static tile tile_at(const moe_job *j, int64_t i) {
    if (i < j->n_shared_tiles) return (tile){true, 0, i * TUG_CPU_TILE_ROWS};
    i -= j->n_shared_tiles;
    return (tile){false, wave_expert(j, i / j->tiles_per_expert),
                  i % j->tiles_per_expert * TUG_CPU_TILE_ROWS};
}

/* Where tile i of a pass over these matrices begins; NULL beyond the last. */
static const uint8_t *tile_row(const moe_job *j, const tug_weight *w,
                               const tug_weight *shared, int64_t i) {
    if (i >= j->n_tiles) return NULL;
    const tile t = tile_at(j, i);
    return tug_weight_row(t.is_shared ? shared : w, t.mat, t.row0);
}

/* What a thread that has [begin, end) reads after tile i: threads mostly take turns. */
static int64_t tile_after(const moe_job *j, int64_t begin, int64_t end, int64_t i) {
    return i + 1 < end ? i + 1 : begin + tug_pool_size(j->be->pool) * (end - begin);
}

static void hidden_tile(const moe_job *j, int64_t i, int64_t after, int thread) {
    const tug_backend *be = j->be;
    const tile t = tile_at(j, i);
    const tug_weight *gate = t.is_shared ? &j->w->sh_gate : &j->w->gate;
    const tug_weight *up = t.is_shared ? &j->w->sh_up : &j->w->up;
    const int64_t stride = gate->n_rows,
                  n_rows = min64(stride - t.row0, TUG_CPU_TILE_ROWS);
    int64_t n_tok = j->n_tok;
    const int32_t *index = NULL;
    float *h = be->shared_gate;
    if (!t.is_shared) {
        const tug_routing *r = &be->routing;
        index = r->token + 2 * r->first[t.mat];
        n_tok = r->first[t.mat + 1] - r->first[t.mat];
        h = be->expert_h + r->first[t.mat] * stride;
    }
    float *u = be->up_tile + (int64_t)thread * be->limits.n_tok * TUG_CPU_TILE_ROWS;
    tug_cpu_linear(be, gate, t.mat, t.row0, n_rows, h + t.row0, stride,
                   input_for(j, gate), index, n_tok, thread,
                   tug_weight_row(up, t.mat, t.row0));
    tug_cpu_linear(be, up, t.mat, t.row0, n_rows, u, n_rows, input_for(j, up), index,
                   n_tok, thread, tile_row(j, &j->w->gate, &j->w->sh_gate, after));
    for (int64_t k = 0; k < n_tok; k++) {
        float *row = h + k * stride + t.row0;
        be->k.swiglu(row, row, u + k * n_rows, n_rows);
    }
}

static void hidden_tiles(void *ud, int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; i++) {
        hidden_tile(ud, i, tile_after(ud, begin, end, i), thread);
    }
}

static void down_tile(const moe_job *j, int64_t i, int64_t after, int thread) {
    const tug_backend *be = j->be;
    const tile t = tile_at(j, i);
    const tug_weight *w = t.is_shared ? &j->w->sh_down : &j->w->down;
    const bool floats = tug_cpu_kernel(be, w)->act == TUG_ACT_F32;
    int64_t n_tok = j->n_tok;
    const int32_t *index = NULL;
    const void *h = floats ? (const void *)be->shared_gate : be->shared_act;
    float *y = be->shared_y;
    if (!t.is_shared) {
        const tug_routing *r = &be->routing;
        const int64_t slot0 = r->first[t.mat];
        index = r->hidden + 2 * slot0;
        n_tok = r->first[t.mat + 1] - slot0;
        h = floats ? (const void *)be->expert_h : be->expert_act;
        y = be->expert_y + slot0 * w->n_rows;
    }
    tug_cpu_linear(be, w, t.mat, t.row0, min64(w->n_rows - t.row0, TUG_CPU_TILE_ROWS),
                   y + t.row0, w->n_rows, h, index, n_tok, thread,
                   tile_row(j, &j->w->down, &j->w->sh_down, after));
}

static void down_tiles(void *ud, int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; i++) {
        down_tile(ud, i, tile_after(ud, begin, end, i), thread);
    }
}

static void combine_tokens(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const moe_job *j = ud;
    const tug_backend *be = j->be;
    const tug_routing *r = &be->routing;
    const int64_t dim = j->w->down.n_rows;
    for (int64_t t = begin; t < end; t++) {
        float *y = j->y + t * dim;
        memset(y, 0, (size_t)dim * sizeof *y);
        for (int i = 0; i < j->n_used; i++) {
            const int64_t p = t * j->n_used + i;
            if (r->slot[p] == NO_SLOT) continue;
            be->k.axpy(y, be->expert_y + r->slot[p] * dim, r->weights[p], dim);
        }
        if (j->w->sh_gate.n_rows == 0) continue;
        float scale = 1.0f;
        if (j->w->sh_router) {
            const tug_linear_args a = {.y = &scale,
                                       .y_stride = 1,
                                       .w = j->w->sh_router,
                                       .w_row_bytes = (size_t)dim * sizeof(float),
                                       .x = j->x + t * dim,
                                       .x_row_bytes = (size_t)dim * sizeof(float),
                                       .n_rows = 1,
                                       .n_cols = dim,
                                       .n_tok = 1};
            be->k.linear[TUG_TYPE_F32].fn(&a);
            scale = 1.0f / (1.0f + expf(-scale));
        }
        be->k.axpy(y, be->shared_y + t * dim, scale, dim);
    }
}

/* ---- the op -------------------------------------------------------------------------- */

static void convert_inputs(const moe_job *j) {
    const tug_weight *const readers[] = {&j->w->gate, &j->w->up, &j->w->sh_gate,
                                         &j->w->sh_up};
    int digits[TUG_ACT_COUNT] = {0};
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        if (readers[i]->n_rows == 0) continue;
        const tug_act kind = tug_cpu_kernel(j->be, readers[i])->act;
        if (readers[i]->digits > digits[kind]) digits[kind] = readers[i]->digits;
    }
    for (int k = 0; k < TUG_ACT_COUNT; k++) {
        if (k == TUG_ACT_F32 || digits[k] == 0) continue;
        tug_cpu_convert(j->be, j->be->act[k], (tug_act)k, digits[k], j->x,
                        j->w->gate.n_cols, j->n_tok);
    }
}

/* Slots of the wave's experts, in the order of the wave. */
static int64_t list_slots(const moe_job *j) {
    tug_routing *r = &j->be->routing;
    int64_t n = 0;
    for (int i = 0; i < j->n_wave; i++) {
        const int32_t e = wave_expert(j, i);
        for (int32_t slot = r->first[e]; slot < r->first[e + 1]; slot++) {
            r->rows[n++] = slot;
        }
    }
    return n;
}

static void convert_hidden(const moe_job *j) {
    tug_backend *be = j->be;
    const tug_weight *down = &j->w->down, *shared = &j->w->sh_down;
    const tug_act kind = tug_cpu_kernel(be, down)->act;
    if (kind != TUG_ACT_F32) {
        tug_cpu_convert_some(be, be->expert_act, kind, down->digits, be->expert_h,
                             down->n_cols, j->n_tok * j->n_used, be->routing.rows,
                             list_slots(j));
    }
    if (!j->with_shared || shared->n_rows == 0) return;
    const tug_act sh_kind = tug_cpu_kernel(be, shared)->act;
    if (sh_kind != TUG_ACT_F32) {
        tug_cpu_convert(be, be->shared_act, sh_kind, shared->digits, be->shared_gate,
                        shared->n_cols, j->n_tok);
    }
}

static void run_wave(moe_job *j, const int32_t *at, int n, bool with_shared) {
    j->at = at;
    j->n_wave = n;
    j->with_shared = with_shared;
    run_pass(j, j->w->gate.n_rows, j->w->sh_gate.n_rows, hidden_tiles);
    convert_hidden(j);
    run_pass(j, j->w->down.n_rows, j->w->sh_down.n_rows, down_tiles);
}

/* A wave: large enough to keep the threads busy, small enough that the reader gets new
 * work often. */
#define WAVE 16

/* The shared expert and what is here, while the rest is read; then waves of what came. */
static tug_status run_as_they_come(moe_job *j, tug_err *err) {
    const tug_expert_source *src = j->w->source;
    tug_routing *r = &j->be->routing;
    TUG_TRY(src->begin(src->ud, j->w->layer, r->active, r->counts, r->n_active, j->n_tok,
                       err));
    bool first = true;
    for (;;) {
        int n;
        TUG_TRY(src->next(src->ud, r->at, WAVE, !first, &n, err));
        if (n == 0 && !first) return TUG_OK;
        run_wave(j, r->at, n, first);
        src->done(src->ud, r->at, n);
        first = false;
    }
}

/* Everything behind the routing. */
static tug_status run_routed(moe_job *j, tug_err *err) {
    tug_backend *be = j->be;
    const tug_moe_weights *w = j->w;
    assign_slots(j);
    tug_stage_enter_experts(be, w, be->routing.n_active);
    convert_inputs(j);
    if (!w->source) {
        run_wave(j, NULL, be->routing.n_active, true);
    } else {
        const tug_status s = run_as_they_come(j, err);
        w->source->end(w->source->ud);
        if (s != TUG_OK) return s;
    }
    tug_cpu_for(be, j->n_tok, 16, j->n_tok * j->n_used * w->down.n_rows, combine_tokens,
                j);
    return TUG_OK;
}

tug_status tug_cpu_op_moe(tug_backend *be, const tug_moe_weights *w, float *y,
                          const float *x, const float *router_logits, int n_used,
                          int64_t n_tok, tug_err *err) {
    moe_job j = {.be = be,
                 .w = w,
                 .y = y,
                 .x = x,
                 .router_logits = router_logits,
                 .n_used = n_used,
                 .n_tok = n_tok};
    tug_cpu_for(be, n_tok, 16, n_tok * w->gate.n_mat * 4, route_tokens, &j);
    return run_routed(&j, err);
}

tug_status tug_cpu_moe_rest(tug_backend *be, const tug_moe_weights *w, float *y,
                            const float *x, const int32_t *ids, const float *weights,
                            const uint8_t *elsewhere, int n_used, int64_t n_tok,
                            tug_err *err) {
    const size_t n_pair = (size_t)(n_tok * n_used);
    tug_moe_weights routed = *w;
    routed.sh_gate.n_rows = routed.sh_up.n_rows = routed.sh_down.n_rows = 0;
    memcpy(be->routing.ids, ids, n_pair * sizeof *ids);
    memcpy(be->routing.weights, weights, n_pair * sizeof *weights);
    moe_job j = {.be = be,
                 .w = &routed,
                 .y = y,
                 .x = x,
                 .n_used = n_used,
                 .n_tok = n_tok,
                 .elsewhere = elsewhere};
    return run_routed(&j, err);
}
