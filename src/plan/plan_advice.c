/* plan_advice.c - see plan_advice.h.  SPDX-License-Identifier: MIT */
#include "plan/plan_advice.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "plan/plan_machine.h"
#include "plan/plan_model.h"

static const double LEAST_GAIN = 1.02;

/* What is planned again: a copy of everything, of which a change touches one thing. */
typedef struct trial {
    tug_plan_model model;
    tug_plan_machine machine;
    tug_plan_request request;
    tug_plan plan; /* as it was */
    char what[80];
} trial;

static double turn_s(const tug_plan *p) {
    const tug_plan_point *at = &p->points[p->n_points - 1];
    return TUG_PLAN_TURN_READ / at->prefill.tok_s +
           TUG_PLAN_TURN_WRITTEN / at->decode.tok_s;
}

/* ---- changes: each says what it did, or that there is nothing to do ---------------- */

static bool more_ram(trial *t) {
    tug_plan_machine *m = &t->machine;
    if (t->plan.ram_share >= 1.0) return false;
    (void)snprintf(t->what, sizeof t->what, "%.0f GiB of RAM, not %.0f",
                   ceil(2.0 * (double)m->ram_total * 0x1p-30),
                   ceil((double)m->ram_total * 0x1p-30));
    m->ram_available += m->ram_total;
    m->ram_total *= 2;
    if (t->request.ram_ceiling > 0) t->request.ram_ceiling *= 2;
    return true;
}

static bool higher_ceiling(trial *t) {
    if (t->request.ram_ceiling == 0 || t->plan.ram_share >= 1.0) return false;
    t->request.ram_ceiling = 0;
    (void)snprintf(t->what, sizeof t->what, "a ceiling as high as the RAM allows");
    return true;
}

static bool faster_disk(trial *t) {
    const tug_plan_disk *best = NULL;
    if (t->plan.disk_experts == 0) return false;
    for (int i = 0; tug_plan_disk_at(i); i++) {
        const tug_plan_disk *d = tug_plan_disk_at(i);
        if (d->gb_s * 1e9 < 1.5 * t->machine.disk_bytes_s) continue;
        if (!best || d->gb_s < best->gb_s) best = d;
    }
    if (!best) return false;
    tug_plan_use_disk(&t->machine, best);
    (void)snprintf(t->what, sizeof t->what, "a disk of %.1f GB/s (%s)", best->gb_s,
                   best->name);
    return true;
}

static bool faster_link(trial *t) {
    if (!t->plan.on_gpu || t->plan.vram_share >= 1.0) return false;
    t->machine.link_bytes_s *= 2.0;
    (void)snprintf(t->what, sizeof t->what, "a PCIe link of %.0f GB/s, twice as fast",
                   t->machine.link_bytes_s * 1e-9);
    return true;
}

static bool larger_gpu(trial *t) {
    const tug_plan_gpu *best = NULL;
    const double now =
        t->plan.on_gpu ? (double)t->machine.vram_total * 0x1p-20 * 1.2 : 12000.0;
    if (t->plan.on_gpu && t->plan.vram_share >= 1.0) return false;
    for (int i = 0; tug_plan_gpu_at(i); i++) {
        const tug_plan_gpu *g = tug_plan_gpu_at(i);
        if (g->vram_mib < now || g->vram_gb_s * 1e9 < t->machine.vram_bytes_s) continue;
        if (!best || g->vram_mib < best->vram_mib) best = g;
    }
    if (!best) return false;
    const double link = t->machine.has_gpu ? t->machine.link_bytes_s : INFINITY;
    tug_plan_use_gpu(&t->machine, best);
    t->machine.link_bytes_s = fmin(link, t->machine.link_bytes_s);
    t->request.no_gpu = false;
    t->request.vram_ceiling = 0;
    (void)snprintf(t->what, sizeof t->what, "a GPU with %d GiB, such as %s",
                   (best->vram_mib + 1023) / 1024, best->name);
    return true;
}

static bool smaller_quant(trial *t) {
    tug_plan_model best = {.experts = 0};
    for (int i = 0; tug_synth_mix_at(i); i++) {
        tug_synth_spec spec = t->model.spec;
        tug_plan_model other;
        spec.mix = tug_synth_mix_at(i);
        if (tug_plan_model_make(&other, &spec, NULL) != TUG_OK) continue;
        const bool smaller = (double)other.experts < 0.95 * (double)t->model.experts;
        if (smaller && other.experts > best.experts) best = other;
    }
    if (best.experts == 0) return false;
    t->model = best;
    (void)snprintf(t->what, sizeof t->what, "a smaller quantisation: %s, %.1f GB",
                   tug_synth_mix_name(best.spec.mix), (double)best.file_bytes * 1e-9);
    return true;
}

static bool shorter_context(trial *t) {
    if (t->plan.n_ctx < 8192) return false;
    t->request.n_ctx = t->plan.n_ctx / 2;
    (void)snprintf(t->what, sizeof t->what, "half the context: %lld tokens",
                   (long long)t->request.n_ctx);
    return true;
}

static bool smaller_cache(trial *t) {
    if (t->request.kv == TUG_PLAN_KV_Q8_0) return false;
    t->request.kv = TUG_PLAN_KV_Q8_0;
    (void)snprintf(t->what, sizeof t->what, "an attention cache in q8_0");
    return true;
}

static bool faster_ram(trial *t) {
    t->machine.ram_bytes_s *= 1.5;
    (void)snprintf(t->what, sizeof t->what,
                   "RAM that reads at %.0f GB/s, half as fast "
                   "again",
                   t->machine.ram_bytes_s * 1e-9);
    return true;
}

static bool more_cores(trial *t) {
    t->machine.n_cores *= 2;
    t->machine.int8_macs_s *= 2.0;
    t->machine.f32_macs_s *= 2.0;
    tug_plan_kernels *k = &t->machine.kernels;
    for (int i = 0; i < TUG_PLAN_INT8_KINDS; i++) {
        k->macs_s[i] *= 2.0;
        for (int j = 0; j < TUG_PLAN_EXPERT_POINTS; j++) k->expert_s[i][j] *= 0.5;
    }
    k->delta_macs_s *= 2.0;
    k->elements_s *= 2.0;
    (void)snprintf(t->what, sizeof t->what, "%d cores, not %d", t->machine.n_cores,
                   t->machine.n_cores / 2);
    return true;
}

static bool (*const changes[])(trial *t) = {
    more_ram,      higher_ceiling,  faster_disk,   faster_link, larger_gpu,
    smaller_quant, shorter_context, smaller_cache, faster_ram,  more_cores,
};

/* ----------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
    const double x = ((const tug_plan_advice *)a)->gain;
    const double y = ((const tug_plan_advice *)b)->gain;
    return (x < y) - (x > y);
}

int tug_plan_advise(const tug_plan_model *model, const tug_plan_machine *machine,
                    const tug_plan_request *request, const tug_plan *plan,
                    tug_plan_advice out[TUG_PLAN_ADVICES]) {
    int n = 0;
    if (request->policy == TUG_PLAN_SPLIT) return 0; /* others' business */
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        trial t = {.model = *model, .machine = *machine, .request = *request};
        tug_plan again;
        t.plan = *plan;
        if (!changes[i](&t)) continue;
        if (tug_plan_make(&t.model, &t.machine, &t.request, &again, NULL) != TUG_OK)
            continue;
        const double gain = turn_s(plan) / turn_s(&again);
        if (!(gain >= LEAST_GAIN)) continue;
        const tug_plan_point *at = &again.points[again.n_points - 1];
        out[n] = (tug_plan_advice){.decode_tok_s = at->decode.tok_s,
                                   .prefill_tok_s = at->prefill.tok_s,
                                   .gain = gain};
        (void)snprintf(out[n].what, sizeof out[n].what, "%s", t.what);
        n++;
    }
    qsort(out, (size_t)n, sizeof *out, compare);
    return n;
}
