/* planning.c - see planning.h.  SPDX-License-Identifier: MIT */
#include "engine/planning.h"

#include <string.h>

#include "backend/backend_cuda.h"
#include "base/sys.h"
#include "memory/meminfo.h"
#include "model/place.h"
#include "plan/plan_machine.h"
#include "plan/plan_model.h"
#include "plan/plan_report.h"
#include "plan/plan_time.h"

/* Staging slots of a size class: a large batch fetches so many experts ahead while a mixer
 * computes; between batches they hold what lost its home. */
#define MOST_STAGED 256
/* ... but at most this share of the ceiling. */
#define STAGED_SHARE 24

/* Tokens of the smallest batch that is worth a GPU. */
#define LEAST_BATCH 64

/* ---- the model ------------------------------------------------------------------------ */

static tug_plan_kv plan_kv(const tug_model *m, tug_kv_cache_type type) {
    const bool is_f32 =
        tug_backend_is_host(m->be) && tug_backend_level(m->be) == TUG_CPU_REF;
    if (type == TUG_KV_CACHE_Q8_0) return TUG_PLAN_KV_Q8_0;
    if (type == TUG_KV_CACHE_F32) return TUG_PLAN_KV_F32;
    return type == TUG_KV_CACHE_AUTO && is_f32 ? TUG_PLAN_KV_F32 : TUG_PLAN_KV_F16;
}

/* Experts take a slot, a little more than their bytes; staging is so many slots of each
 * size. */
static void size_slots(tug_planning *p, const tug_model *m, uint64_t ceiling) {
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

/* ---- the GPU -------------------------------------------------------------------------- */

static void add_gpu(tug_plan_machine *m, const tug_device_info *info,
                    const tug_nvml_facts *facts) {
    tug_plan_machine_gpu(m, &(tug_plan_gpu_here){.name = info->name,
                                                 .n_sm = info->n_sm,
                                                 .sm_mhz = facts->sm_mhz,
                                                 .bus_bits = facts->bus_bits,
                                                 .memory_mhz = facts->memory_mhz,
                                                 .pcie_gen = facts->max_gen,
                                                 .pcie_lanes = facts->max_width,
                                                 .vram_total = info->total,
                                                 .vram_available = info->budget});
}

/* The model's GPU: the device layer has left a margin already, so its budget is the ceiling. */
static void use_gpu(tug_planning *p, const tug_model *m) {
    const tug_device_info *info = tug_backend_gpu(m->be);
    const char *why;
    tug_nvml_facts facts = {0};
    const tug_nvml *nvml = tug_backend_gpu_nvml(m->be, &why);
    if (nvml) tug_nvml_get_facts(nvml, &facts);
    add_gpu(&p->machine, info, &facts);
    p->request.vram_ceiling = info->budget;
}

/* One session, as tug_state_create makes it. */
static tug_status size_session(const tug_planning *p, const tug_model *m,
                               const tug_model_params *rq, uint64_t *bytes,
                               tug_err *err) {
    tug_kv_type type;
    TUG_TRY(tug_model_kv_type(m, rq->kv_type, &type, err));
    const tug_state_shape s = tug_net_state_shape(&m->net, type);
    /* Whole blocks and one more; and what allocations round up. */
    const uint64_t n_rows = (uint64_t)p->plan.n_ctx + 2 * TUG_KV_BLOCK;
    *bytes =
        n_rows * tug_state_bytes_per_token(&s) + tug_state_recurrent_bytes(&s) + 4096;
    return TUG_OK;
}

static void size_weights(tug_planning *p, const tug_model *m) {
    const tug_weights *w = &m->net.weights;
    p->request.vram_dense = tug_weights_placed_bytes(w, &m->net.shape);
    p->vram_tables = 0;
    for (int i = 0; i < w->n_layer; i++) {
        const uint64_t none = tug_cuda_experts_bytes(&w->layer[i].moe, 0);
        p->model.vram_expert[i] = tug_cuda_experts_bytes(&w->layer[i].moe, 1) - none;
        p->vram_tables += none;
    }
}

static tug_status too_little_vram(const tug_planning *p, tug_err *err) {
    const double have = 1e-6 * (double)p->request.vram_ceiling;
    const double dense = 1e-6 * (double)p->request.vram_dense;
    const double least =
        1e-6 * (double)tug_plan_least_vram(&p->model, &p->request) + 0.05;
    if (dense > have) {
        return TUG_FAIL(
            err, TUG_ENOMEM,
            "the dense weights alone take %.1f MB of VRAM, but %.1f MB are to "
            "be had: use a larger --vram (at least %.1f MB), or --gpu none",
            dense, have, least);
    }
    return TUG_FAIL(
        err, TUG_ENOMEM,
        "the dense weights, the work space and a session take %.1f MB of VRAM, "
        "but %.1f MB are to be had: use a larger --vram, a smaller -c or -b, "
        "or --gpu none",
        least, have);
}

uint64_t tug_planning_vram_experts(const tug_planning *p) {
    const uint64_t *use = p->plan.vram.use;
    return use[TUG_PLAN_USE_ONLY_HERE] + use[TUG_PLAN_USE_COPIES] + p->vram_tables;
}

/* A part of what experts get is where they are while they move. */
static tug_status set_aside_carrier(tug_planning *p, const tug_model *m, tug_err *err) {
    const uint64_t bytes = tug_weights_carrier_bytes(&m->net.weights, &m->net.shape,
                                                     tug_planning_vram_experts(p));
    if (bytes == 0) return TUG_OK;
    p->request.vram_staging_bytes = bytes;
    return tug_plan_make(&p->model, &p->machine, &p->request, &p->plan, err);
}

/* Sessions that are to be open together: as many as fit beside everything but experts. */
static tug_status add_sessions(tug_planning *p, const tug_model_params *rq,
                               tug_err *err) {
    const uint64_t one = p->request.vram_session;
    const uint64_t least = tug_plan_least_vram(&p->model, &p->request);
    const uint64_t more = (p->request.vram_ceiling - least) / one;
    p->n_sessions = 1;
    if (rq->n_sessions <= 1 || more == 0) return TUG_OK;
    const int wanted = rq->n_sessions;
    p->n_sessions = more < (uint64_t)wanted - 1 ? (int)more + 1 : wanted;
    p->request.n_seq = p->n_sessions;
    p->request.vram_session = one * (uint64_t)p->n_sessions;
    return tug_plan_make(&p->model, &p->machine, &p->request, &p->plan, err);
}

/* A first plan chooses the batch; what the backend takes for that batch is known to the
 * byte, and a second plan has it.  A batch that does not fit is halved, unless somebody
 * asked for it; but it is not halved for more sessions than one. */
static tug_status plan_gpu(tug_planning *p, const tug_model *m,
                           const tug_model_params *rq, tug_err *err) {
    const uint64_t taken = tug_backend_gpu_used(m->be);
    TUG_TRY(size_session(p, m, rq, &p->request.vram_session, err));
    for (int64_t n = p->plan.n_batch;; n /= 2) {
        p->request.n_batch = n;
        p->request.vram_workspace =
            taken + tug_scratch_gpu_bytes(&m->net, n) + p->vram_tables;
        TUG_TRY(tug_plan_make(&p->model, &p->machine, &p->request, &p->plan, err));
        if (p->plan.on_gpu) break;
        if (rq->n_batch > 0 || n / 2 < LEAST_BATCH) return too_little_vram(p, err);
    }
    TUG_TRY(add_sessions(p, rq, err));
    return set_aside_carrier(p, m, err);
}

/* ---- the whole ------------------------------------------------------------------------ */

static tug_status make(tug_planning *p, const tug_model *m, const tug_model_params *rq,
                       tug_err *err) {
    const bool on_gpu = !tug_backend_is_host(m->be);
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
    p->request.no_gpu = !on_gpu;
    if (on_gpu) {
        use_gpu(p, m);
        size_weights(p, m);
    }
    TUG_TRY(tug_plan_make(&p->model, &p->machine, &p->request, &p->plan, err));
    return on_gpu ? plan_gpu(p, m, rq, err) : TUG_OK;
}

tug_status tug_planning_make(tug_planning **out, const tug_model *m,
                             const tug_model_params *params, tug_err *err) {
    *out = tug_alloc_zero(sizeof **out);
    if (!*out) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the plan");
    const tug_status s = make(*out, m, params, err);
    if (s != TUG_OK) {
        tug_free(*out);
        *out = NULL;
    }
    return s;
}

tug_status tug_planning_describe(const tug_planning *p, tug_buf *summary, tug_buf *tables,
                                 tug_err *err) {
    const tug_plan_subject subject = {.model = &p->model,
                                      .machine = &p->machine,
                                      .request = &p->request,
                                      .plan = &p->plan};
    tug_plan_summary(&p->model, &p->request, &p->plan, summary);
    tug_plan_text(&subject, tables);
    TUG_TRY(tug_buf_ok(summary, err));
    return tug_buf_ok(tables, err);
}

/* ---- measured ------------------------------------------------------------------------- */

/* Speeds of the GPU that were measured; a cache answers when only little is read. */
static void use_limits(tug_plan_machine *m, double read_bytes_s, double read_bytes,
                       double link_bytes_s, double handoff_s) {
    const double enough = 128e6;
    if (read_bytes >= enough && read_bytes_s > 0.0) {
        m->vram_bytes_s = read_bytes_s;
        m->vram_measured = true;
    }
    if (link_bytes_s > 0.0) m->link_bytes_s = link_bytes_s;
    if (handoff_s > 0.0) m->handoff_s = handoff_s;
    if (m->vram_measured) m->assumed &= ~(unsigned)TUG_PLAN_ASSUMED_GPU;
}

tug_status tug_planning_probe_gpu(tug_plan_machine *m, int gpu, tug_err *err) {
    tug_cuda_probed g;
    TUG_TRY(tug_cuda_probe_gpu(gpu, &g, err));
    add_gpu(m, &g.info, &g.facts);
    use_limits(m, g.limits.read_bytes_s, g.limits.read_bytes, g.limits.link_bytes_s,
               g.limits.handoff_s);
    return TUG_OK;
}

bool tug_model_predict(const tug_model *model, int64_t n_ctx, const tug_limits *cpu,
                       const tug_gpu_limits *gpu, tug_prediction *out) {
    const tug_planning *p = model->planning;
    *out = (tug_prediction){0};
    if (!p || n_ctx < 1) return false;
    tug_plan_machine hw = p->machine;
    tug_plan_time decode, prefill;
    if (cpu && cpu->read_bytes_s > 0.0) {
        hw.n_cores = tug_backend_n_threads(model->be);
        hw.ram_bytes_s = cpu->read_bytes_s;
        hw.int8_macs_s = cpu->int8_macs_s;
        hw.f32_macs_s = cpu->f32_macs_s;
    }
    if (gpu && hw.has_gpu) {
        use_limits(&hw, gpu->read_bytes_s, gpu->read_bytes, gpu->link_bytes_s,
                   gpu->handoff_s);
    }
    tug_plan_decode(&p->model, &hw, &p->request, &p->plan, n_ctx, &decode);
    tug_plan_prefill(&p->model, &hw, &p->request, &p->plan, n_ctx, &prefill);
    *out = (tug_prediction){.decode_tok_s = decode.tok_s, .prefill_tok_s = prefill.tok_s};
    return decode.tok_s > 0.0 && prefill.tok_s > 0.0;
}
