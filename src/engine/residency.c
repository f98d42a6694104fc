/* residency.c - see residency.h.  SPDX-License-Identifier: MIT */
#include "engine/residency.h"

#include <string.h>

#include "backend/backend_cuda.h"
#include "base/sys.h"
#include "memory/meminfo.h"
#include "model/pack.h"
#include "model/place.h"
#include "plan/plan_machine.h"
#include "plan/plan_model.h"
#include "plan/plan_report.h"

/* ---- the plan ------------------------------------------------------------------------- */

/* Staging slots of a size class: a large batch fetches so many experts ahead while a mixer
 * computes; between batches they hold what lost its home. */
#define MOST_STAGED 256
/* ... but at most this share of the ceiling. */
#define STAGED_SHARE 24

/* Everything a plan is made of. */
typedef struct planning {
    tug_plan_model model;
    tug_plan_machine machine;
    tug_plan_request request;
    tug_plan plan;
    int staging, n_class;
} planning;

static tug_plan_kv plan_kv(const tug_model *m, tug_kv_cache_type type) {
    const bool is_ref = tug_backend_level(m->be) == TUG_CPU_REF;
    if (type == TUG_KV_CACHE_Q8_0) return TUG_PLAN_KV_Q8_0;
    if (type == TUG_KV_CACHE_F32) return TUG_PLAN_KV_F32;
    return type == TUG_KV_CACHE_AUTO && is_ref ? TUG_PLAN_KV_F32 : TUG_PLAN_KV_F16;
}

/* Experts take a slot, a little more than their bytes; staging is so many slots of each
 * size. */
static void size_slots(planning *p, const tug_model *m, uint64_t ceiling) {
    const tug_weights *w = &m->net.weights;
    uint64_t sizes[TUG_PLAN_LAYERS], all_sizes = 0;
    p->n_class = 0;
    for (int i = 0; i < w->n_layer; i++) {
        const uint64_t slot = tug_expert_slot_bytes(&w->layer[i].moe);
        p->model.experts += (slot - p->model.expert[i]) * (uint64_t)m->net.shape.n_expert;
        p->model.expert[i] = slot;
        int c = 0;
        while (c < p->n_class && sizes[c] != slot) c++;
        if (c < p->n_class) continue;
        sizes[p->n_class++] = slot;
        all_sizes += slot;
    }
    p->staging =
        MOST_STAGED < m->net.shape.n_expert ? MOST_STAGED : (int)m->net.shape.n_expert;
    while (p->staging > 2 && (uint64_t)p->staging * all_sizes > ceiling / STAGED_SHARE) {
        p->staging /= 2;
    }
    p->request.staging = (uint64_t)p->staging * all_sizes;
}

static tug_status make_plan(planning *p, const tug_model *m, const tug_model_params *rq,
                            tug_err *err) {
    memset(p, 0, sizeof *p);
    const uint64_t available = tug_memory_available();
    TUG_TRY(tug_plan_model_of_file(&p->model, m->gguf, err));
    tug_plan_machine_here(&p->machine, tug_memory_total(), available);
    const bool given = rq->ram_bytes > 0 && rq->ram_bytes < available;
    size_slots(p, m, given ? rq->ram_bytes : available);
    const int64_t most_ctx = p->model.spec.n_ctx;
    p->request.n_ctx = rq->n_ctx < most_ctx ? rq->n_ctx : most_ctx;
    p->request.n_batch = rq->n_batch;
    p->request.kv = plan_kv(m, rq->kv_type);
    p->request.sessions = rq->session_bytes;
    p->request.ram_ceiling = given ? rq->ram_bytes : 0;
    p->request.no_gpu = true;
    return tug_plan_make(&p->model, &p->machine, &p->request, &p->plan, err);
}

/* In words, while the memory is as it was planned for. */
static tug_status describe(const planning *p, tug_residency *r, tug_err *err) {
    const tug_plan_subject subject = {.model = &p->model,
                                      .machine = &p->machine,
                                      .request = &p->request,
                                      .plan = &p->plan};
    tug_plan_summary(&p->model, &p->request, &p->plan, &r->summary);
    tug_plan_text(&subject, &r->tables);
    TUG_TRY(tug_buf_ok(&r->summary, err));
    return tug_buf_ok(&r->tables, err);
}

static bool all_fit(const planning *p, const tug_model *m) {
    for (int i = 0; i < m->net.weights.n_layer; i++) {
        if (p->plan.ram_slots[i] < m->net.shape.n_expert) return false;
    }
    return true;
}

/* Without slots to spare every weight is packed in one piece; a batch is then as large as
 * helps, and memory is no matter. */
#define BATCH 2048

tug_status tug_residency_plan(tug_residency *r, const tug_model *m,
                              const tug_model_params *rq, tug_err *err) {
    *r = (tug_residency){.n_batch = rq->n_batch > 0 ? rq->n_batch : BATCH};
    if (!tug_gguf_part_path(m->gguf, 0)) return TUG_OK;
    planning *p = tug_alloc(sizeof *p);
    r->home = tug_alloc_array((size_t)m->net.weights.n_layer, sizeof *r->home);
    tug_status s = TUG_OK;
    if (!p || !r->home) s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the plan");
    if (s == TUG_OK) s = make_plan(p, m, rq, err);
    if (s == TUG_OK && !all_fit(p, m)) {
        const uint64_t *use = p->plan.ram.use;
        r->streamed = true;
        r->staging = p->staging;
        if (rq->n_batch <= 0) r->n_batch = p->plan.n_batch;
        r->session_bytes = use[TUG_PLAN_USE_KV] + use[TUG_PLAN_USE_STATE] +
                           use[TUG_PLAN_USE_CHECKPOINTS];
        for (int i = 0; i < m->net.weights.n_layer; i++) {
            r->home[i] = p->plan.ram_slots[i];
        }
        s = describe(p, r, err);
    }
    tug_free(p);
    if (s != TUG_OK) tug_residency_free(r);
    return s;
}

void tug_residency_free(tug_residency *r) {
    tug_free(r->home);
    tug_buf_free(&r->summary);
    tug_buf_free(&r->tables);
    r->home = NULL;
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

/* Context of the session that room is left for, when nobody says. */
#define USUAL_CTX 32768

/* What one session takes of the GPU. */
static tug_status gpu_session_bytes(const tug_model *m, const tug_model_params *p,
                                    uint64_t *bytes, tug_err *err) {
    tug_kv_type type;
    TUG_TRY(tug_model_kv_type(m, p->kv_type, &type, err));
    const tug_state_shape s = tug_net_state_shape(&m->net, type);
    const int64_t train = m->net.shape.n_ctx_train;
    int64_t n_ctx = p->n_ctx > 0 ? p->n_ctx : USUAL_CTX;
    if (n_ctx > train) n_ctx = train;
    /* Whole blocks and one more, see tug_state_create; and what allocations round up. */
    const uint64_t n_rows = (uint64_t)n_ctx + 2 * TUG_KV_BLOCK;
    *bytes =
        n_rows * tug_state_bytes_per_token(&s) + tug_state_recurrent_bytes(&s) + 4096;
    return TUG_OK;
}

/* Everything that a session needs first; experts get what is left. */
static tug_status load_gpu(tug_model *m, const tug_model_params *p, tug_err *err) {
    const tug_shape *s = &m->net.shape;
    const uint64_t budget = tug_backend_gpu(m->be)->budget;
    uint64_t session;
    TUG_TRY(tug_weights_place_dense(&m->net.weights, s, m->be, err));
    TUG_TRY(tug_model_grow_scratch(m, m->n_batch, err));
    TUG_TRY(gpu_session_bytes(m, p, &session, err));
    const uint64_t used = tug_backend_gpu_used(m->be) + session;
    if (used > budget) {
        return TUG_FAIL(err, TUG_ENOMEM,
                        "the dense weights, the work space and a session take %.1f MB of "
                        "VRAM, but %.1f MB are to be had: use a larger --vram, a smaller "
                        "-c or -b, or --gpu none",
                        (double)used * 1e-6, (double)budget * 1e-6);
    }
    return tug_weights_place_experts(&m->net.weights, s, m->be, budget - used, err);
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
    if (on_gpu) TUG_TRY(load_gpu(m, l->p, err));
    if (!on_gpu || !r->streamed) {
        TUG_TRY(tug_weights_pack(w, m->gguf, m->be, scope, on_load, l, err));
    }
    l->before = packed;
    return TUG_OK;
}

tug_status tug_residency_load(tug_model *m, const tug_residency *r,
                              const tug_model_params *p, tug_err *err) {
    loading l = {.p = p};
    m->n_batch = r->n_batch;
    m->session_bytes = r->session_bytes;
    m->ram_bytes = p->ram_bytes;
    TUG_TRY(pack_weights(m, r, &l, err));
    if (r->streamed) {
        TUG_TRY(create_store(m, r, err));
        TUG_TRY(tug_expert_store_fill(m->experts, on_load, &l, err));
        m->filled = tug_model_streaming(m);
    }
    if (p->on_load && !p->on_load(p->ud, l.all, l.all)) {
        return TUG_FAIL(err, TUG_ECANCELED, "loading was canceled");
    }
    return TUG_OK;
}
