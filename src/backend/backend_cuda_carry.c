/* backend_cuda_carry.c - experts cross from the host's memory to the GPU.
 *
 * DESIGN
 * The host has experts as its own kernels like them (quant/packed.h).  They cross as they
 * are, on the copy stream, into one of two halves of a staging area; a kernel on the compute
 * stream makes them into the file's rows where they belong.  So the copy engine is never
 * kept waiting by kernels, and slots are written by the stream that reads them.
 *
 * The copy engine reads pinned memory by itself.  The pages of packed weights and the slots
 * of an expert store are pinned where the system lets us; of other memory (a file's map) the
 * calling thread copies a few experts to pinned memory first.  In a store slots change hands:
 * an expert that crosses from there is held, or belongs to a step that is not over.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "base/sys.h"

enum {
    ALIGN = 256,
    TABLES_BYTES = (TUG_CUDA_MATRICES + 1) * TUG_CUDA_MAX_EXPERTS * (int)sizeof(uint64_t)
};

/* ---- an expert's bytes --------------------------------------------------------------------- */

static size_t aligned(size_t n) {
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

const tug_weight *tug_cuda_matrix(const tug_moe_weights *w, int i) {
    return i == 0 ? &w->gate : i == 1 ? &w->up : &w->down;
}

size_t tug_cuda_matrix_bytes(const tug_weight *w) {
    return (size_t)w->n_rows * w->row_bytes;
}

size_t tug_cuda_matrix_at(const tug_moe_weights *w, int i) {
    size_t at = 0;
    for (int j = 0; j < i; j++) {
        at += aligned(tug_cuda_matrix_bytes(tug_cuda_matrix(w, j)));
    }
    return at;
}

size_t tug_cuda_expert_bytes(const tug_moe_weights *w) {
    return tug_cuda_matrix_at(w, TUG_CUDA_MATRICES);
}

/* ---- life ------------------------------------------------------------------------------------ */

uint64_t tug_cuda_carrier_bytes(size_t stride, int n) {
    return (TUG_CUDA_HALVES + 1) * (uint64_t)n * stride + TABLES_BYTES;
}

static tug_status create_parts(tug_cuda *c, size_t stride, int n, tug_err *err) {
    tug_cuda_carrier *k = &c->carrier;
    const size_t bytes = (size_t)n * stride;
    void *p;
    k->stride = stride;
    k->n = n;
    for (int h = 0; h < TUG_CUDA_HALVES; h++) {
        TUG_TRY(tug_device_alloc(c->dev, &p, bytes, "experts on their way", err));
        k->raw[h] = p;
        TUG_TRY(tug_device_alloc_pinned(c->dev, &p, TUG_CUDA_COPIED * stride,
                                        "experts on their way", err));
        k->pinned[h] = p;
        TUG_TRY(tug_device_event_create(c->dev, &k->arrived[h], err));
        TUG_TRY(tug_device_event_create(c->dev, &k->used[h], err));
        TUG_TRY(tug_device_event_create(c->dev, &k->returned[h], err));
        tug_device_record(c->dev, k->used[h], TUG_STREAM_COMPUTE);
    }
    TUG_TRY(tug_device_alloc(c->dev, &p, bytes, "experts on their way", err));
    k->made = p;
    TUG_TRY(tug_device_alloc(c->dev, &p, TABLES_BYTES, "experts on their way", err));
    k->tables = p;
    for (int i = 0; i < TUG_CUDA_FLIGHTS; i++) {
        TUG_TRY(tug_device_event_create(c->dev, &c->crossing.flight[i].gone, err));
    }
    k->load = tug_alloc_array(TUG_CUDA_MAX_EXPERTS, sizeof *k->load);
    k->elsewhere = tug_alloc_zero(TUG_CUDA_MAX_EXPERTS);
    if (!k->load || !k->elsewhere) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for experts on their way");
    }
    return tug_device_status(c->dev, err);
}

tug_status tug_cuda_carrier_create(tug_backend *be, size_t stride, int n, tug_err *err) {
    tug_cuda *c = tug_cuda_of(be);
    TUG_CHECK(c->carrier.stride == 0 && n > 0 && n <= TUG_CUDA_CARRIED);
    const tug_status s = create_parts(c, stride, n, err);
    if (s != TUG_OK) tug_cuda_carrier_destroy(be);
    return s;
}

/* Who was held for a copy that nobody will look at any more. */
static void leave_sources(tug_cuda_carrier *k) {
    for (int h = 0; h < TUG_CUDA_HALVES; h++) {
        for (int i = 0; i < k->n_seat[h]; i++) tug_cuda_let_go(&k->seat[h][i], false);
        k->n_seat[h] = 0;
    }
}

void tug_cuda_carrier_destroy(tug_backend *be) {
    tug_cuda *c = tug_cuda_of(be);
    tug_cuda_carrier *k = &c->carrier;
    tug_err ignored; /* after a failure the frees below wait */
    if (k->stride == 0) return;
    for (int i = 0; i < TUG_DEVICE_STREAMS; i++) {
        (void)!tug_device_wait(c->dev, (tug_device_stream)i, &ignored);
    }
    leave_sources(k);
    while (k->n_spans > 0) tug_device_unpin(c->dev, k->spans[--k->n_spans].p);
    tug_free(k->spans);
    const size_t bytes = (size_t)k->n * k->stride;
    for (int h = 0; h < TUG_CUDA_HALVES; h++) {
        tug_device_free(c->dev, k->raw[h], bytes);
        tug_device_free_pinned(c->dev, k->pinned[h]);
        tug_device_event_destroy(c->dev, &k->arrived[h]);
        tug_device_event_destroy(c->dev, &k->used[h]);
        tug_device_event_destroy(c->dev, &k->returned[h]);
    }
    for (int i = 0; i < TUG_CUDA_FLIGHTS; i++) {
        tug_device_event_destroy(c->dev, &c->crossing.flight[i].gone);
    }
    tug_device_free(c->dev, k->made, bytes);
    tug_device_free(c->dev, k->tables, TABLES_BYTES);
    tug_free(k->load);
    tug_free(k->elsewhere);
    *k = (tug_cuda_carrier){0};
}

/* ---- memory that the copy engine reads --------------------------------------------------------- */

/* Spans that begin at p or before it. */
static int spans_until(const tug_cuda_carrier *k, const uint8_t *p) {
    int first = 0, end = k->n_spans;
    while (first < end) {
        const int mid = first + (end - first) / 2;
        if (k->spans[mid].p <= p) {
            first = mid + 1;
        } else {
            end = mid;
        }
    }
    return first;
}

static bool has_room_for_span(tug_cuda_carrier *k) {
    if (k->n_spans < k->spans_cap) return true;
    const int cap = k->spans_cap ? 2 * k->spans_cap : 16;
    tug_cuda_span *more = tug_alloc_array((size_t)cap, sizeof *more);
    if (!more) return false;
    if (k->n_spans > 0) memcpy(more, k->spans, (size_t)k->n_spans * sizeof *more);
    tug_free(k->spans);
    k->spans = more;
    k->spans_cap = cap;
    return true;
}

bool tug_cuda_op_pin(tug_backend *be, uint8_t *p, size_t bytes) {
    tug_cuda *c = tug_cuda_of(be);
    tug_cuda_carrier *k = &c->carrier;
    if (k->n == 0 || bytes == 0 || !has_room_for_span(k)) return false;
    if (!tug_device_pin(c->dev, p, bytes)) return false;
    const int at = spans_until(k, p);
    memmove(k->spans + at + 1, k->spans + at,
            (size_t)(k->n_spans - at) * sizeof *k->spans);
    k->spans[at] = (tug_cuda_span){p, bytes};
    k->n_spans++;
    return true;
}

void tug_cuda_op_unpin(tug_backend *be, uint8_t *p) {
    tug_cuda *c = tug_cuda_of(be);
    tug_cuda_carrier *k = &c->carrier;
    tug_err ignored; /* the pass tells of it */
    const int at = spans_until(k, p) - 1;
    if (at < 0 || k->spans[at].p != p) return;
    (void)!tug_device_wait(c->dev, TUG_STREAM_COPY, &ignored);
    (void)!tug_device_wait(c->dev, TUG_STREAM_BACK, &ignored);
    tug_device_unpin(c->dev, p);
    k->n_spans--;
    memmove(k->spans + at, k->spans + at + 1,
            (size_t)(k->n_spans - at) * sizeof *k->spans);
}

bool tug_cuda_is_pinned(const tug_cuda_carrier *k, const uint8_t *p, size_t bytes) {
    const int at = spans_until(k, p) - 1;
    if (at < 0) return false;
    const size_t before = (size_t)(p - k->spans[at].p);
    return before < k->spans[at].bytes && k->spans[at].bytes - before >= bytes;
}

/* ---- to the device ----------------------------------------------------------------------------- */

static tug_cuda_way way_of_matrix(const tug_cuda_carrier *k, const tug_weight *w,
                                  int expert) {
    if (w->mats && !w->mats[expert]) return TUG_CUDA_NO_WAY;
    return tug_cuda_is_pinned(k, tug_weight_row(w, expert, 0), tug_cuda_matrix_bytes(w))
               ? TUG_CUDA_BY_ITSELF
               : TUG_CUDA_BY_HAND;
}

tug_cuda_way tug_cuda_way_of(const tug_cuda *c, const tug_moe_weights *w, int expert) {
    tug_cuda_way worst = TUG_CUDA_BY_ITSELF;
    for (int i = 0; i < TUG_CUDA_MATRICES; i++) {
        const tug_cuda_way way =
            way_of_matrix(&c->carrier, tug_cuda_matrix(w, i), expert);
        if (way < worst) worst = way;
    }
    return worst;
}

void tug_cuda_carry(tug_cuda *c, int half, int seat, const tug_moe_weights *w, int expert,
                    uint8_t *over) {
    const tug_cuda_carrier *k = &c->carrier;
    for (int i = 0; i < TUG_CUDA_MATRICES; i++) {
        const tug_weight *m = tug_cuda_matrix(w, i);
        const size_t at = tug_cuda_matrix_at(w, i), bytes = tug_cuda_matrix_bytes(m);
        const uint8_t *from = tug_weight_row(m, expert, 0);
        if (over) from = memcpy(over + at, from, bytes);
        tug_device_copy_in(c->dev, TUG_STREAM_COPY,
                           k->raw[half] + (size_t)seat * k->stride + at, from, bytes);
        c->cache.stats.bytes += bytes;
    }
}

/* ---- as in the file ------------------------------------------------------------------------------ */

void tug_cuda_unpack_flush(tug_cuda_unpacker *u) {
    if (u->a.n_job == 0) return;
    tug_cuda_enqueue(u->c, tug_cuda_on_unpack(&u->a, u->type), &u->a);
    u->a.n_job = 0;
}

void tug_cuda_unpack_add(tug_cuda_unpacker *u, const tug_weight *w, void *to,
                         const void *from) {
    if (!w->packed) {
        tug_device_copy(u->c->dev, TUG_STREAM_COMPUTE, to, from,
                        tug_cuda_matrix_bytes(w));
        return;
    }
    const bool alike = u->type == w->type && u->a.n_rows == w->n_rows &&
                       u->a.row_bytes == (int64_t)w->row_bytes;
    if (!alike || u->a.n_job == TUG_CUDA_UNPACKS) tug_cuda_unpack_flush(u);
    u->type = w->type;
    u->a.n_rows = (int32_t)w->n_rows;
    u->a.row_bytes = (int64_t)w->row_bytes;
    u->a.job[u->a.n_job++] = (tug_cuda_unpack_job){to, from};
}

void tug_cuda_edit_flush(tug_cuda_editor *e) {
    if (e->a.n == 0) return;
    tug_cuda_enqueue(e->c, tug_cuda_on_edits(&e->a), &e->a);
    e->a.n = 0;
}

void tug_cuda_edit_add(tug_cuda_editor *e, uint64_t *at, const void *value) {
    if (e->a.n == TUG_CUDA_EDITS) tug_cuda_edit_flush(e);
    e->a.edit[e->a.n++] = (tug_cuda_edit){at, (uint64_t)(uintptr_t)value};
}
