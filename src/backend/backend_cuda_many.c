/* backend_cuda_many.c - the routed experts of many tokens on the GPU.
 *
 * DESIGN
 * Pairs of token and expert are sorted by expert on the device; grouped products go over the
 * experts that have slots.  Of the others, those with the most tokens are carried for this
 * batch, a chunk at a time through the halves of the carrier: the copy stream fills one while
 * the chunk before is made into the file's rows and multiplied.  Each expert crosses once, and
 * meets the same products as if it had a slot: a chunk's table says where in `made` it is.
 *
 * The CPU has the rest.  Who is carried is chosen so that the link and the CPU finish at the
 * same time: by tokens from the top the link, from the bottom the CPU.  An expert crosses in
 * the same time for one token as for many; on the CPU many tokens take longer.
 *
 * When all experts are in memory, all chunks are enqueued at once.  Those of a source are
 * enqueued as it brings them, in turn with the CPU's: backend_cuda_cross.c.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "backend/backend_cuda_impl.h"

enum { GATE, UP, DOWN };

/* ---- products ------------------------------------------------------------------------------ */

static void sort_pairs(const tug_cuda_moe_job *j) {
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
static void grouped(const tug_cuda_moe_job *j, const tug_weight *w, tug_cuda_slots slots,
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

static void hidden_of(tug_cuda_moe_job *j, tug_cuda_slots gate, tug_cuda_slots up) {
    tug_cuda *c = j->c;
    const tug_moe_weights *w = j->w;
    grouped(j, &w->gate, gate, tug_cuda_input(c, &j->in, &w->gate), j->n_used,
            c->buffer[TUG_CUDA_GATE]);
    grouped(j, &w->up, up, tug_cuda_input(c, &j->in, &w->up), j->n_used,
            c->buffer[TUG_CUDA_UP]);
}

/* The hidden rows of pairs whose expert is in the table; returns all of them. */
static const void *convert(const tug_cuda_moe_job *j, tug_cuda_slots table) {
    tug_cuda *c = j->c;
    const tug_weight *down = &j->w->down;
    void *const act = tug_cuda_takes_floats(down) ? NULL : c->buffer[TUG_CUDA_HIDDEN];
    const tug_cuda_pair_hidden a = {.act = act,
                                    .gate = c->buffer[TUG_CUDA_GATE],
                                    .up = c->buffer[TUG_CUDA_UP],
                                    .slots = table,
                                    .tiles = c->buffer[TUG_CUDA_TILES],
                                    .first = c->buffer[TUG_CUDA_FIRST],
                                    .sorted = c->buffer[TUG_CUDA_SORTED],
                                    .n = (int32_t)down->n_cols,
                                    .n_pair = (int32_t)j->n_pair,
                                    .n_expert = (int32_t)down->n_mat,
                                    .digits = down->digits};
    tug_cuda_enqueue(c, tug_cuda_on_pair_hidden(&a), &a);
    return act ? act : a.up;
}

/* All products of the experts in the tables. */
static void multiply(tug_cuda_moe_job *j, const tug_cuda_slots table[TUG_CUDA_MATRICES]) {
    hidden_of(j, table[GATE], table[UP]);
    const void *rows = convert(j, table[DOWN]);
    grouped(j, &j->w->down, table[DOWN], rows, 1, j->c->buffer[TUG_CUDA_PAIR_OUT]);
}

/* y = the weighted sums of pairs whose expert is in the table. */
static void combine(const tug_cuda_moe_job *j, tug_cuda_slots table) {
    tug_cuda *c = j->c;
    const tug_cuda_combine a = {.y = j->y,
                                .yp = c->buffer[TUG_CUDA_PAIR_OUT],
                                .weights = c->buffer[TUG_CUDA_WEIGHTS],
                                .ids = c->buffer[TUG_CUDA_IDS],
                                .slots = table,
                                .n = (int32_t)j->dim,
                                .n_tok = (int32_t)j->n_tok,
                                .n_used = j->n_used};
    tug_cuda_enqueue(c, tug_cuda_on_combine(&a), &a);
}

/* ---- who is carried -------------------------------------------------------------------------- */

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double on_host(const tug_cuda_costs *k, int32_t tokens, double bytes,
                      double macs) {
    return larger(bytes / k->host_bytes_per_s, tokens * macs / k->host_macs_per_s);
}

int tug_cuda_split(const tug_cuda_costs *k, const tug_cuda_load *load, int n,
                   double bytes, double macs) {
    double host = 0, link = 0;
    for (int i = 0; i < n; i++) host += on_host(k, load[i].tokens, bytes, macs);
    for (int i = 0; i < n; i++) {
        const double more = link + bytes / k->link_bytes_per_s;
        const double less = host - on_host(k, load[i].tokens, bytes, macs);
        if (larger(more, less) >= larger(link, host)) return i;
        link = more;
        host = less;
    }
    return n;
}

static int by_tokens(const void *a, const void *b) {
    const tug_cuda_load *x = a, *y = b;
    if (x->tokens != y->tokens) return x->tokens > y->tokens ? -1 : 1;
    return x->expert - y->expert;
}

/* Could it be carried?  What a source has yet to read comes to a slot of it: they are pinned. */
static bool may_cross(const tug_cuda_moe_job *j, int expert) {
    const tug_cuda_way way = tug_cuda_way_of(j->c, j->w, expert);
    if (way == TUG_CUDA_NO_WAY) return j->c->carrier.n_spans > 0;
    return way == TUG_CUDA_BY_ITSELF;
}

/* carrier.load <- experts that are used, have no slot and could be carried, most tokens
 * first; how many. */
static int list_loads(const tug_cuda_moe_job *j) {
    tug_cuda_experts *e = j->w->on_gpu;
    tug_cuda_load *load = j->c->carrier.load;
    const int32_t *ids = j->c->pinned[TUG_CUDA_HOST_IDS];
    int n = 0;
    for (int64_t p = 0; p < j->n_pair; p++) e->counts[ids[p]]++;
    for (int x = 0; x < e->n_expert; x++) {
        if (e->counts[x] > 0 && !e->here[x] && may_cross(j, x)) {
            load[n++] = (tug_cuda_load){x, e->counts[x]};
        }
        e->counts[x] = 0;
    }
    qsort(load, (size_t)n, sizeof *load, by_tokens);
    return n;
}

/* The first n_carried of carrier.load are carried. */
static tug_status choose(tug_cuda_moe_job *j, tug_err *err) {
    const tug_cuda_experts *e = j->w->on_gpu;
    tug_cuda *c = j->c;
    tug_cuda_carrier *k = &c->carrier;
    if (k->n == 0 || j->n_tok <= TUG_CUDA_FEW_TOKENS || e->n_slot == e->n_expert) {
        return TUG_OK;
    }
    TUG_TRY(tug_device_wait_event(c->dev, c->routed, err));
    double bytes = 0, macs = 0;
    for (int i = 0; i < TUG_CUDA_MATRICES; i++) {
        const tug_weight *w = tug_cuda_matrix(j->w, i);
        bytes += (double)tug_cuda_matrix_bytes(w);
        macs += (double)w->n_rows * (double)w->n_cols;
    }
    const int n = tug_cuda_split(&c->costs, k->load, list_loads(j), bytes, macs);
    memcpy(k->elsewhere, e->here, (size_t)e->n_expert);
    for (int i = 0; i < n; i++) k->elsewhere[k->load[i].expert] = 1;
    j->elsewhere = k->elsewhere;
    j->n_carried = n;
    c->cache.stats.streamed += (uint64_t)n;
    return TUG_OK;
}

/* ---- chunks ------------------------------------------------------------------------------------ */

static tug_cuda_slots chunk_table(const tug_cuda_moe_job *j, int i) {
    return (tug_cuda_slots)(const void *)(j->c->carrier.tables + i * j->w->gate.n_mat);
}

/* The copies, behind what used this half before.  What goes by hand waits until the half's
 * pinned memory is not read any more. */
static void bring(const tug_cuda_moe_job *j, const int32_t *experts, int n) {
    tug_cuda *c = j->c;
    const tug_cuda_carrier *k = &c->carrier;
    uint8_t *over = k->pinned[j->half];
    tug_err ignored; /* the pass tells of it */
    tug_device_after(c->dev, TUG_STREAM_COPY, k->used[j->half]);
    for (int i = 0; i < n; i++) {
        const bool by_hand = tug_cuda_way_of(c, j->w, experts[i]) != TUG_CUDA_BY_ITSELF;
        if (by_hand && over == k->pinned[j->half]) {
            (void)!tug_device_wait_event(c->dev, k->arrived[j->half], &ignored);
        }
        tug_cuda_carry(c, j->half, i, j->w, experts[i], by_hand ? over : NULL);
        if (by_hand) over += k->stride;
    }
    tug_device_record(c->dev, k->arrived[j->half], TUG_STREAM_COPY);
    tug_device_after(c->dev, TUG_STREAM_COMPUTE, k->arrived[j->half]);
}

/* What arrived is made into the file's rows, and the tables say where. */
static void make(const tug_cuda_moe_job *j, const int32_t *experts, int n) {
    tug_cuda *c = j->c;
    const tug_cuda_carrier *r = &c->carrier;
    tug_cuda_unpacker u = {.c = c};
    tug_cuda_editor ed = {.c = c};
    const int64_t n_mat = j->w->gate.n_mat;
    tug_device_clear(c->dev, TUG_STREAM_COMPUTE, r->tables,
                     (size_t)(TUG_CUDA_MATRICES * n_mat) * sizeof *r->tables);
    for (int m = 0; m < TUG_CUDA_MATRICES; m++) {
        for (int i = 0; i < n; i++) {
            const size_t at = (size_t)i * r->stride + tug_cuda_matrix_at(j->w, m);
            tug_cuda_unpack_add(&u, tug_cuda_matrix(j->w, m), r->made + at,
                                r->raw[j->half] + at);
            tug_cuda_edit_add(&ed, r->tables + m * n_mat + experts[i], r->made + at);
        }
    }
    tug_cuda_unpack_flush(&u);
    tug_device_record(c->dev, r->used[j->half], TUG_STREAM_COMPUTE);
    tug_cuda_edit_flush(&ed);
}

void tug_cuda_many_chunk(tug_cuda_moe_job *j, const int32_t *experts, int n) {
    const tug_cuda_slots table[TUG_CUDA_MATRICES] = {
        chunk_table(j, GATE), chunk_table(j, UP), chunk_table(j, DOWN)};
    bring(j, experts, n);
    make(j, experts, n);
    multiply(j, table);
    j->half = (j->half + 1) % TUG_CUDA_HALVES;
}

static void all_chunks(tug_cuda_moe_job *j) {
    const tug_cuda_carrier *k = &j->c->carrier;
    int32_t experts[TUG_CUDA_CARRIED];
    for (int at = 0; at < j->n_carried;) {
        int n = 0;
        while (n < k->n && at < j->n_carried) experts[n++] = k->load[at++].expert;
        tug_cuda_many_chunk(j, experts, n);
    }
}

/* A table of everybody whose pairs were computed here. */
static tug_cuda_slots table_of_all(const tug_cuda_moe_job *j) {
    tug_cuda *c = j->c;
    const tug_cuda_carrier *r = &c->carrier;
    tug_cuda_editor ed = {.c = c};
    const int64_t n_mat = j->w->gate.n_mat;
    if (j->n_carried == 0) return j->slots[DOWN];
    uint64_t *all = r->tables + TUG_CUDA_MATRICES * n_mat;
    tug_device_copy(c->dev, TUG_STREAM_COMPUTE, all, j->slots[DOWN],
                    (size_t)n_mat * sizeof *all);
    for (int i = 0; i < j->n_carried; i++) {
        tug_cuda_edit_add(&ed, all + r->load[i].expert, r->made);
    }
    tug_cuda_edit_flush(&ed);
    return (tug_cuda_slots)(const void *)all;
}

/* ---- the op ------------------------------------------------------------------------------------- */

void tug_cuda_many_here(tug_cuda_moe_job *j) {
    sort_pairs(j);
    if (j->w->on_gpu->n_slot > 0) multiply(j, j->slots);
}

tug_status tug_cuda_many_carried(tug_cuda_moe_job *j, tug_err *err) {
    TUG_TRY(choose(j, err));
    if (j->n_carried == 0) return TUG_OK;
    if (j->w->source) {
        j->source = tug_cuda_cross(j);
    } else {
        all_chunks(j);
    }
    return TUG_OK;
}

void tug_cuda_many_sum(const tug_cuda_moe_job *j) {
    combine(j, table_of_all(j));
}
