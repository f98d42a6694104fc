/* residency.c - see residency.h.  SPDX-License-Identifier: MIT */
#include "engine/residency.h"

#include "backend/backend_cuda.h"
#include "base/sys.h"
#include "model/pack.h"
#include "model/place.h"

/* ---- the plan ------------------------------------------------------------------------- */

static bool all_fit(const tug_planning *p, const tug_model *m) {
    for (int i = 0; i < m->net.weights.n_layer; i++) {
        if (p->plan.ram_slots[i] < m->net.shape.n_expert) return false;
    }
    return true;
}

/* Without slots to spare every weight is packed in one piece; a batch is then as large as
 * helps, and memory is no matter. */
#define BATCH 2048

static void take_plan(tug_residency *r, const tug_planning *p, const tug_model *m,
                      bool asked_batch) {
    const tug_plan *plan = &p->plan;
    const uint64_t *use = plan->ram.use, *vram = plan->vram.use;
    r->streamed = tug_gguf_part_path(m->gguf, 0) && !all_fit(p, m);
    r->staging = p->staging;
    if (!asked_batch && (r->streamed || plan->on_gpu)) r->n_batch = plan->n_batch;
    r->session_bytes =
        use[TUG_PLAN_USE_KV] + use[TUG_PLAN_USE_STATE] + use[TUG_PLAN_USE_CHECKPOINTS];
    for (int i = 0; i < m->net.weights.n_layer; i++) r->home[i] = plan->ram_slots[i];
    if (!plan->on_gpu) return;
    r->vram_session = vram[TUG_PLAN_USE_KV] + vram[TUG_PLAN_USE_STATE];
    r->vram_staging_bytes = plan->vram_staging_bytes;
    r->vram_experts = tug_planning_vram_experts(p);
    r->session_bytes += r->vram_session;
}

tug_status tug_residency_plan(tug_residency *r, const tug_model *m,
                              const tug_model_params *rq, tug_err *err) {
    const bool on_gpu = !tug_backend_is_host(m->be);
    *r = (tug_residency){.n_batch = rq->n_batch > 0 ? rq->n_batch : BATCH};
    if (!tug_gguf_part_path(m->gguf, 0) && !on_gpu) return TUG_OK;
    r->home = tug_alloc_array((size_t)m->net.weights.n_layer, sizeof *r->home);
    tug_status s = TUG_OK;
    if (!r->home) s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the plan");
    if (s == TUG_OK) s = tug_planning_make(&r->planning, m, rq, err);
    if (s == TUG_OK) take_plan(r, r->planning, m, rq->n_batch > 0);
    if (s == TUG_OK && (r->streamed || on_gpu)) {
        s = tug_planning_describe(r->planning, &r->summary, &r->tables, err);
    }
    if (s != TUG_OK) tug_residency_free(r);
    return s;
}

void tug_residency_free(tug_residency *r) {
    tug_free(r->home);
    tug_free(r->planning);
    tug_buf_free(&r->summary);
    tug_buf_free(&r->tables);
    r->home = NULL;
    r->planning = NULL;
}

/* ---- loading -------------------------------------------------------------------------- */

/* One progress over the parts of loading. */
typedef struct loading {
    const tug_model_params *p;
    uint64_t before, all;
} loading;

static bool on_load(void *ud, uint64_t done, uint64_t total) {
    const loading *l = ud;
    (void)total;
    return !l->p->on_load || l->p->on_load(l->p->ud, l->before + done, l->all);
}

static tug_status create_store(tug_model *m, const tug_residency *r, tug_err *err) {
    tug_weights *w = &m->net.weights;
    const int n_part = tug_gguf_n_parts(m->gguf);
    tug_expert_layer *layers = tug_alloc_array((size_t)w->n_layer, sizeof *layers);
    const char **paths = tug_alloc_array((size_t)n_part, sizeof *paths);
    tug_status s = TUG_OK;
    if (!layers || !paths) s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the experts");
    for (int i = 0; s == TUG_OK && i < n_part; i++) {
        paths[i] = tug_gguf_part_path(m->gguf, i);
    }
    for (int i = 0; s == TUG_OK && i < w->n_layer; i++) {
        tug_moe_weights *moe = &w->layer[i].moe;
        const tug_weight *pieces[TUG_EXPERT_PIECES] = {&moe->gate, &moe->up, &moe->down};
        layers[i] = (tug_expert_layer){.moe = moe, .home = r->home[i]};
        for (int j = 0; j < TUG_EXPERT_PIECES; j++) {
            layers[i].offset[j] =
                tug_gguf_locate(m->gguf, pieces[j]->data, &layers[i].file[j]);
        }
    }
    if (s == TUG_OK) {
        const tug_expert_store_params params = {.be = m->be,
                                                .paths = paths,
                                                .n_files = n_part,
                                                .layer = layers,
                                                .n_layer = w->n_layer,
                                                .n_expert = (int)m->net.shape.n_expert,
                                                .staging = r->staging};
        s = tug_expert_store_create(&m->experts, &params, err);
    }
    tug_free(layers);
    tug_free(paths);
    return s;
}

static uint64_t home_bytes(const tug_model *m, const tug_residency *r) {
    uint64_t n = 0;
    for (int i = 0; r->streamed && i < m->net.weights.n_layer; i++) {
        n += (uint64_t)r->home[i] * tug_expert_slot_bytes(&m->net.weights.layer[i].moe);
    }
    return n;
}

/* As the plan says: experts get what it gives them and those that are carried there, and
 * never what a session has to have. */
static tug_status load_gpu(tug_model *m, const tug_residency *r, tug_err *err) {
    const tug_shape *s = &m->net.shape;
    const uint64_t budget = tug_backend_gpu(m->be)->budget;
    TUG_TRY(tug_weights_place_dense(&m->net.weights, s, m->be, err));
    m->vram_dense = tug_backend_gpu_used(m->be);
    TUG_TRY(tug_model_grow_scratch(m, m->n_batch, err));
    const uint64_t used = tug_backend_gpu_used(m->be) + r->vram_session;
    if (used > budget) {
        return TUG_FAIL(
            err, TUG_ENOMEM,
            "everything but experts takes %.1f MB of VRAM, but %.1f MB are to "
            "be had: use a larger --vram, a smaller -c or -b, or --gpu none",
            (double)used * 1e-6, (double)budget * 1e-6);
    }
    const uint64_t left = budget - used;
    const uint64_t planned = r->vram_experts + r->vram_staging_bytes;
    const uint64_t room = planned < left ? planned : left;
    m->vram_experts = tug_backend_gpu_used(m->be);
    TUG_TRY(tug_weights_place_experts(&m->net.weights, s, m->be, room,
                                      r->vram_staging_bytes, err));
    m->vram_experts = tug_backend_gpu_used(m->be) - m->vram_experts;
    const tug_weight *head = &m->net.weights.head.w; /* the largest that lies there */
    return tug_backend_gpu_learn_device(
        m->be, head->data, (size_t)head->n_rows * (size_t)head->row_bytes, err);
}

/* The weights that become the host's own. */
static tug_status pack_weights(tug_model *m, const tug_residency *r, loading *l,
                               tug_err *err) {
    tug_weights *w = &m->net.weights;
    const bool on_gpu = !tug_backend_is_host(m->be);
    const tug_pack_scope scope = r->streamed ? TUG_PACK_DENSE
                                 : on_gpu    ? TUG_PACK_EXPERTS
                                             : TUG_PACK_ALL;
    const uint64_t packed =
        on_gpu && r->streamed ? 0 : tug_weights_packed_bytes(w, m->be, scope);
    l->all = packed + home_bytes(m, r);
    if (on_gpu) TUG_TRY(load_gpu(m, r, err));
    if (!on_gpu || !r->streamed) {
        TUG_TRY(tug_weights_pack(w, m->gguf, m->be, scope, on_load, l, err));
        if (on_gpu) tug_weights_pin(w, m->be);
    }
    l->before = packed;
    return TUG_OK;
}

tug_status tug_residency_load(tug_model *m, const tug_residency *r,
                              const tug_model_params *p, tug_err *err) {
    loading l = {.p = p};
    m->n_batch = r->n_batch;
    m->session_bytes = r->session_bytes;
    m->vram_sessions = r->vram_session;
    m->ram_bytes = p->ram_bytes;
    TUG_TRY(pack_weights(m, r, &l, err));
    if (r->streamed) {
        TUG_TRY(create_store(m, r, err));
        TUG_TRY(tug_expert_store_fill(m->experts, on_load, &l, err));
        m->filled = tug_model_streaming(m);
    }
    if (!tug_backend_is_host(m->be)) tug_backend_gpu_learn_host(m->be);
    if (p->on_load && !p->on_load(p->ud, l.all, l.all)) {
        return TUG_FAIL(err, TUG_ECANCELED, "loading was canceled");
    }
    return TUG_OK;
}
