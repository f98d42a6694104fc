/* place.c - see place.h.  SPDX-License-Identifier: MIT */
#include "model/place.h"

#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

/* Matrices and vectors of a layer at most: the mixers' inputs, merged, and the rest. */
#define PLACED_PER_LAYER 24

typedef struct placer {
    tug_weights *w;
    tug_backend *be;
    tug_err *err;
} placer;

static uint64_t matrix_bytes(const tug_weight *w) {
    return (uint64_t)w->n_rows * w->row_bytes;
}

/* ---- how much ------------------------------------------------------------------------------ */

/* What an allocation takes. */
static uint64_t rounded(uint64_t n) {
    return (n + 255) / 256 * 256;
}

/* A vector of the host that gets a copy. */
typedef struct vector {
    const float **v;
    int64_t n;
} vector;
enum { VECTORS = 9 };

static void list_vectors(vector list[VECTORS], const tug_shape *s, tug_layer *l) {
    const int64_t n_v_head = s->delta.n_v_head;
    const vector all[VECTORS] = {
        {&l->mix_norm, s->dim},
        {&l->ffn_norm, s->dim},
        {&l->q_norm, s->attn.head_dim},
        {&l->k_norm, s->attn.head_dim},
        {&l->conv_w, s->delta.conv_width * tug_shape_conv_channels(s)},
        {&l->dt_bias, n_v_head},
        {&l->a_coef, n_v_head},
        {&l->delta_norm, s->delta.dv},
        {&l->moe.sh_router, s->dim}};
    memcpy(list, all, sizeof all);
}

static uint64_t vector_bytes(int64_t n) {
    return rounded((uint64_t)n * sizeof(float));
}

uint64_t tug_weights_placed_bytes(const tug_weights *w, const tug_shape *s) {
    uint64_t n = rounded(matrix_bytes(&w->head.w)) + vector_bytes(s->dim);
    for (int i = 0; i < w->n_layer; i++) {
        tug_layer *l = &w->layer[i];
        vector vectors[VECTORS];
        for (int j = 0; j < l->n_mix_in; j++) n += rounded(matrix_bytes(&l->mix_in[j].w));
        const tug_weight *const others[] = {&l->mix_out.w, &l->router.w, &l->moe.sh_gate,
                                            &l->moe.sh_up, &l->moe.sh_down};
        for (size_t j = 0; j < sizeof others / sizeof *others; j++) {
            n += rounded(matrix_bytes(others[j]));
        }
        list_vectors(vectors, s, l);
        for (int j = 0; j < VECTORS; j++) {
            if (*vectors[j].v) n += vector_bytes(vectors[j].n);
        }
    }
    return n;
}

/* ---- dense weights --------------------------------------------------------------------------- */

static tug_status new_bytes(placer *p, size_t bytes, uint8_t **out) {
    void *at = NULL;
    TUG_TRY(tug_backend_alloc(p->be, &at, bytes, "the dense weights", p->err));
    TUG_CHECK(p->w->n_placed < p->w->n_layer * PLACED_PER_LAYER + 2);
    p->w->placed[p->w->n_placed++] = (tug_placed){at, bytes};
    *out = at;
    return TUG_OK;
}

static tug_status place_matrix(placer *p, tug_weight *w) {
    if (w->n_rows == 0) return TUG_OK;
    uint8_t *at;
    TUG_CHECK(!w->packed && !w->mats);
    TUG_TRY(new_bytes(p, matrix_bytes(w), &at));
    tug_backend_write(p->be, at, w->data, matrix_bytes(w));
    w->data = at;
    return TUG_OK;
}

/* v (n,) of the host becomes a copy of it. */
static tug_status place_vector(placer *p, const float **v, int64_t n) {
    if (!*v) return TUG_OK;
    uint8_t *at;
    TUG_TRY(new_bytes(p, (size_t)n * sizeof **v, &at));
    tug_backend_write(p->be, at, *v, (size_t)n * sizeof **v);
    *v = (const float *)(const void *)at;
    return TUG_OK;
}

static int by_column(const void *a, const void *b) {
    const tug_proj *p = a, *q = b;
    return p->dst_col < q->dst_col ? -1 : p->dst_col > q->dst_col;
}

static bool continues(const tug_proj *p, const tug_proj *next) {
    return next->w.type == p->w.type && next->w.digits == p->w.digits &&
           next->dst_col == p->dst_col + p->w.n_rows;
}

/* Ranges of rows that follow each other in the destination become one matrix. */
static tug_status place_projections(placer *p, tug_layer *l) {
    int n = 0;
    qsort(l->mix_in, (size_t)l->n_mix_in, sizeof *l->mix_in, by_column);
    for (int i = 0; i < l->n_mix_in;) {
        tug_proj all = l->mix_in[i];
        int end = i + 1;
        while (end < l->n_mix_in && continues(&all, &l->mix_in[end])) {
            all.w.n_rows += l->mix_in[end++].w.n_rows;
        }
        uint8_t *at;
        TUG_TRY(new_bytes(p, matrix_bytes(&all.w), &at));
        all.w.data = at;
        for (; i < end; i++) {
            const tug_weight *part = &l->mix_in[i].w;
            tug_backend_write(p->be, at, part->data, matrix_bytes(part));
            at += matrix_bytes(part);
        }
        l->mix_in[n++] = all;
    }
    l->n_mix_in = n;
    return TUG_OK;
}

static tug_status place_layer(placer *p, const tug_shape *s, tug_layer *l) {
    TUG_TRY(place_projections(p, l));
    tug_weight *const matrices[] = {&l->mix_out.w, &l->router.w, &l->moe.sh_gate,
                                    &l->moe.sh_up, &l->moe.sh_down};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        TUG_TRY(place_matrix(p, matrices[i]));
    }
    vector vectors[VECTORS];
    list_vectors(vectors, s, l);
    for (size_t i = 0; i < VECTORS; i++) {
        TUG_TRY(place_vector(p, vectors[i].v, vectors[i].n));
    }
    return TUG_OK;
}

static tug_status place_dense(placer *p, const tug_shape *s) {
    for (int i = 0; i < p->w->n_layer; i++) TUG_TRY(place_layer(p, s, &p->w->layer[i]));
    TUG_TRY(place_vector(p, &p->w->output_norm, s->dim));
    return place_matrix(p, &p->w->head.w);
}

/* ---- experts ----------------------------------------------------------------------------------- */

/* What n experts of every layer take; a layer has no more than there are. */
static uint64_t bytes_of_each(const tug_weights *w, int n) {
    uint64_t bytes = 0;
    for (int i = 0; i < w->n_layer; i++) {
        bytes += tug_cuda_experts_bytes(&w->layer[i].moe, n);
    }
    return bytes;
}

static size_t largest_expert(const tug_weights *w) {
    size_t largest = 0;
    for (int i = 0; i < w->n_layer; i++) {
        const size_t one = tug_cuda_expert_bytes(&w->layer[i].moe);
        if (one > largest) largest = one;
    }
    return largest;
}

/* Experts that may be on their way at a time in so many bytes. */
static int carried_in(size_t stride, uint64_t bytes) {
    int n = TUG_CUDA_CARRIED;
    while (n > 0 && tug_cuda_carrier_bytes(stride, n) > bytes) n /= 2;
    return n;
}

/* An eighth of the room at most. */
uint64_t tug_weights_carrier_bytes(const tug_weights *w, const tug_shape *s,
                                   uint64_t room) {
    if (bytes_of_each(w, (int)s->n_expert) <= room) return 0;
    const size_t stride = largest_expert(w);
    const int n = carried_in(stride, room / 8);
    return n > 0 ? tug_cuda_carrier_bytes(stride, n) : 0;
}

tug_status tug_weights_place_experts(tug_weights *w, const tug_shape *s, tug_backend *be,
                                     uint64_t room, uint64_t carrier, tug_err *err) {
    int n = 0, more = 0; /* of every layer, and one more of the first so many layers */
    if (carrier > 0 && carrier < room) {
        const size_t stride = largest_expert(w);
        TUG_TRY(tug_cuda_carrier_create(be, stride, carried_in(stride, carrier), err));
        room -= carrier;
    }
    while (n < s->n_expert && bytes_of_each(w, n + 1) <= room) n++;
    uint64_t used = bytes_of_each(w, n);
    while (n < s->n_expert && more < w->n_layer) {
        const tug_moe_weights *moe = &w->layer[more].moe;
        used += tug_cuda_experts_bytes(moe, n + 1) - tug_cuda_experts_bytes(moe, n);
        if (used > room) break;
        more++;
    }
    for (int i = 0; i < w->n_layer; i++) {
        TUG_TRY(tug_cuda_experts_create(be, &w->layer[i].moe, n + (i < more), err));
        w->n_experts_placed += n + (i < more);
    }
    return TUG_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------- */

tug_status tug_weights_place_dense(tug_weights *w, const tug_shape *s, tug_backend *be,
                                   tug_err *err) {
    placer p = {w, be, err};
    const uint64_t need = tug_weights_placed_bytes(w, s),
                   have = tug_backend_gpu(be)->budget;
    TUG_TRY(tug_cuda_check_shapes(&s->attn, &s->delta, s->n_expert, err));
    if (need > have) {
        return TUG_FAIL(
            err, TUG_ENOMEM,
            "the dense weights alone take %.1f MB of VRAM, but %.1f MB are to "
            "be had: use a larger --vram, or --gpu none",
            (double)need * 1e-6, (double)have * 1e-6);
    }
    w->placed =
        tug_alloc_zero(((size_t)w->n_layer * PLACED_PER_LAYER + 2) * sizeof *w->placed);
    if (!w->placed) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the layer table");
    TUG_TRY(place_dense(&p, s));
    return tug_backend_wait(be, err);
}

void tug_weights_pin(tug_weights *w, tug_backend *be) {
    (void)tug_backend_pin(be, w->packed, w->packed_bytes);
}

void tug_weights_unplace(tug_weights *w, tug_backend *be) {
    if (be && tug_backend_gpu(be)) tug_cuda_carrier_destroy(be);
    for (int i = 0; w->layer && i < w->n_layer; i++) {
        w->layer[i].moe.elsewhere = NULL;
        tug_cuda_experts_destroy(be, &w->layer[i].moe.on_gpu);
    }
    for (int i = 0; i < w->n_placed; i++) {
        tug_backend_free(be, w->placed[i].p, w->placed[i].bytes);
    }
    tug_free(w->placed);
    w->placed = NULL;
    w->n_placed = 0;
}
