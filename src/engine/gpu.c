/* gpu.c - what the GPU of a model does now: for instruments (tug_profile.h).
 * SPDX-License-Identifier: MIT */
#include "backend/backend_cuda.h"
#include "engine/engine_impl.h"

static void add_told(const tug_nvml *nvml, tug_gpu_now *out) {
    tug_nvml_facts facts;
    tug_nvml_now now;
    tug_nvml_get_facts(nvml, &facts);
    tug_nvml_get_now(nvml, &now);
    out->told = true;
    out->watts = now.watts;
    out->watts_limit = facts.watts_limit;
    out->joules = now.joules;
    out->busy = now.busy;
    out->others = now.others;
    out->link_gen = now.gen;
    out->link_width = now.width;
    out->link_max_gen = facts.max_gen;
    out->link_max_width = facts.max_width;
    out->sm_mhz = now.sm_mhz;
    out->memory_mhz = now.memory_mhz;
}

bool tug_model_gpu_now(const tug_model *m, bool ask, tug_gpu_now *out) {
    const tug_device_info *info = m->be ? tug_backend_gpu(m->be) : NULL;
    *out = (tug_gpu_now){.busy = TUG_NVML_NOT_TOLD, .others = TUG_NVML_NOT_TOLD};
    if (!info) return false;
    const tug_device_counters *c = tug_backend_gpu_counters(m->be);
    const tug_cuda_slot_stats slots = tug_backend_gpu_slots(m->be);
    out->vram_used = tug_backend_gpu_used(m->be);
    out->vram_peak = c->peak_used;
    out->vram_budget = info->budget;
    out->dense_bytes = m->vram_dense;
    out->expert_bytes = m->vram_experts;
    out->in_bytes = (double)c->in_bytes;
    out->out_bytes = (double)c->out_bytes;
    out->launches = (double)c->launches;
    out->expert_hits = (double)slots.hits;
    out->expert_misses = (double)slots.misses;
    out->promoted = (double)slots.promotions;
    out->seeded = (double)slots.seeded;
    out->returned = (double)slots.returned;
    out->carried = (double)slots.streamed;
    out->expert_in_bytes = (double)slots.bytes;
    const tug_nvml *nvml = tug_backend_gpu_nvml(m->be, &out->why_not);
    if (nvml && ask) add_told(nvml, out);
    return true;
}

bool tug_model_gpu_warning(const tug_model *m, char *text, size_t cap) {
    const char *why;
    const tug_nvml *nvml =
        tug_backend_gpu(m->be) ? tug_backend_gpu_nvml(m->be, &why) : NULL;
    if (!nvml) return false;
    tug_nvml_facts facts;
    tug_nvml_now now;
    tug_nvml_get_facts(nvml, &facts);
    tug_nvml_get_now(nvml, &now);
    return tug_nvml_link_warning(&facts, &now, text, cap);
}

/* The largest matrix that lies there is what is read. */
tug_status tug_model_gpu_limits(tug_model *m, tug_gpu_limits *out, tug_err *err) {
    *out = (tug_gpu_limits){0};
    if (!tug_backend_gpu(m->be)) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED, "this model is not on a GPU");
    }
    const tug_weight *head = &m->net.weights.head.w;
    tug_cuda_limits l;
    TUG_TRY(tug_backend_gpu_measure(m->be, head->data,
                                    (size_t)head->n_rows * head->row_bytes, &l, err));
    *out = (tug_gpu_limits){l.read_bytes_s, l.read_bytes, l.link_bytes_s, l.handoff_s};
    return TUG_OK;
}
