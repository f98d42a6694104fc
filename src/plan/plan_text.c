/* plan_text.c - a plan as tables, and as three lines.  SPDX-License-Identifier: MIT */
#include <math.h>

#include "plan/plan_report.h"

#define GB 1e-9

static const char *const use_labels[TUG_PLAN_USES] = {
    [TUG_PLAN_USE_DENSE] = "dense weights",
    [TUG_PLAN_USE_EMBEDDING] = "embedding",
    [TUG_PLAN_USE_ONLY_HERE] = "experts",
    [TUG_PLAN_USE_COPIES] = "experts that RAM has too",
    [TUG_PLAN_USE_KV] = "attention cache",
    [TUG_PLAN_USE_STATE] = "recurrent state",
    [TUG_PLAN_USE_CHECKPOINTS] = "checkpoints of it",
    [TUG_PLAN_USE_WORKSPACE] = "activations",
    [TUG_PLAN_USE_STAGING] = "experts on their way",
    [TUG_PLAN_USE_MARGIN] = "program and margin",
    [TUG_PLAN_USE_FREE] = "free",
};

static const char *const term_labels[TUG_PLAN_TERMS] = {
    [TUG_PLAN_T_DENSE] = "dense weights",     [TUG_PLAN_T_KV] = "attention",
    [TUG_PLAN_T_STATE] = "recurrent state",   [TUG_PLAN_T_EXPERTS] = "experts",
    [TUG_PLAN_T_HOST] = "experts on the CPU", [TUG_PLAN_T_LINK] = "experts over PCIe",
    [TUG_PLAN_T_DISK] = "experts from disk",  [TUG_PLAN_T_FIXED] = "overhead",
};

/* ---- places ----------------------------------------------------------------------- */

static void cell(tug_buf *out, uint64_t bytes) {
    if (bytes > 0)
        tug_buf_printf(out, "  %8.2f", (double)bytes * GB);
    else
        tug_buf_text(out, "          ");
}

static void places(const tug_plan *p, tug_buf *out) {
    tug_buf_printf(out, "%-26s  %8s", "GB", "RAM");
    tug_buf_text(out, p->on_gpu ? "      VRAM\n" : "\n");
    for (int i = 0; i < TUG_PLAN_USES; i++) {
        if (p->ram.use[i] == 0 && p->vram.use[i] == 0) continue;
        tug_buf_printf(out, "%-26s", use_labels[i]);
        cell(out, p->ram.use[i]);
        if (p->on_gpu) cell(out, p->vram.use[i]);
        tug_buf_char(out, '\n');
    }
    tug_buf_printf(out, "%-26s  %8.2f", "all", (double)p->ram.ceiling * GB);
    if (p->on_gpu) tug_buf_printf(out, "  %8.2f", (double)p->vram.ceiling * GB);
    tug_buf_char(out, '\n');
}

static int mean_slots(const tug_plan_model *m, double share) {
    return (int)lround(share * (double)m->spec.n_expert);
}

static void expert_lines(const tug_plan_subject *s, tug_buf *out) {
    const tug_plan *p = s->plan;
    const tug_plan_model *m = s->model;
    tug_buf_printf(out, "experts: %lld in each of %lld layers, %.2f GB; ",
                   (long long)m->spec.n_expert, (long long)m->spec.n_layer,
                   (double)m->experts * GB);
    if (p->on_gpu) {
        tug_buf_printf(out, "%d a layer in VRAM, ", mean_slots(m, p->vram_share));
    }
    tug_buf_printf(out, "%d a layer in RAM; %.2f GB only on disk\n",
                   mean_slots(m, p->ram_share), (double)p->disk_experts * GB);
    tug_buf_printf(out, "%s routing: ", tug_plan_routing_name(s->request->routing));
    if (p->on_gpu) {
        tug_buf_printf(out, "%.1f %% of uses are not in VRAM, ", 100.0 * p->vram_miss);
    }
    tug_buf_printf(out, "%.1f %% come from the disk\n", 100.0 * p->disk_miss);
}

/* ---- speeds ----------------------------------------------------------------------- */

static void speeds(const tug_plan *p, tug_buf *out) {
    tug_buf_text(out, "tokens        decode tok/s  bound by            "
                      "prefill tok/s  bound by\n");
    for (int i = 0; i < p->n_points; i++) {
        const tug_plan_point *at = &p->points[i];
        tug_buf_printf(out, "%-12lld  %12.1f  %-18s  %13.0f  %s\n", (long long)at->n_ctx,
                       at->decode.tok_s, term_labels[at->decode.bound], at->prefill.tok_s,
                       term_labels[at->prefill.bound]);
    }
}

static void terms(const tug_plan *p, tug_buf *out) {
    const tug_plan_point *at = &p->points[p->n_points - 1];
    tug_buf_printf(out,
                   "at %lld: ms     one more token  of these hidden  "
                   "whole prompt  of these hidden\n",
                   (long long)at->n_ctx);
    for (int i = 0; i < TUG_PLAN_TERMS; i++) {
        const double d = at->decode.busy_ms[i], f = at->prefill.busy_ms[i];
        if (d <= 0.0 && f <= 0.0) continue;
        tug_buf_printf(out, "  %-18s  %10.2f  %15.2f  %12.0f  %15.0f\n", term_labels[i],
                       d, d - at->decode.wait_ms[i], f, f - at->prefill.wait_ms[i]);
    }
    tug_buf_printf(out, "  %-18s  %10.2f  %15s  %12.0f\n", "what shows", at->decode.ms,
                   "", at->prefill.ms);
}

/* ---- advice, cost, what to know ---------------------------------------------------- */

static void advice(const tug_plan_subject *s, tug_buf *out) {
    if (s->n_advice == 0) return;
    tug_buf_printf(out, "\nwhat would help (a turn: %d tokens read, %d written)\n",
                   TUG_PLAN_TURN_READ, TUG_PLAN_TURN_WRITTEN);
    for (int i = 0; i < s->n_advice; i++) {
        const tug_plan_advice *a = &s->advice[i];
        tug_buf_printf(out, "  %4.2fx  decode %6.1f  prefill %6.0f  %s\n", a->gain,
                       a->decode_tok_s, a->prefill_tok_s, a->what);
    }
}

static void cost(const tug_plan_cost *c, tug_buf *out) {
    tug_buf_printf(
        out,
        "\ncost: %.1f hours of work a day at %.0f W, %.2f kWh\n"
        "  a million tokens written, with what is read for them: %.3f of energy, "
        "%.3f with the hardware\n",
        c->hours_day, c->watts, c->kwh_day, c->energy_million, c->total_million);
    if (c->api_day > 0.0) {
        tug_buf_printf(out, "  the API: %.3f; ", c->api_million);
        if (isfinite(c->break_even_days)) {
            tug_buf_printf(out, "the hardware is paid after %.0f days\n",
                           c->break_even_days);
        } else {
            tug_buf_text(out, "it is cheaper than the energy alone\n");
        }
    }
    if (c->hours_day > 24.0) {
        tug_buf_text(out, "  more than a day has hours: this machine cannot\n");
    }
}

/* What was measured of the GPU; what parts mean is in docs/PLAN.md. */
static void measured(const tug_plan_machine *m, tug_buf *out) {
    if (!m->vram_measured) return;
    tug_buf_printf(out,
                   "\nmeasured: VRAM %.0f GB/s, PCIe %.1f GB/s, a handoff %.0f us; RAM "
                   "%.1f GB/s\n",
                   m->vram_bytes_s * GB, m->link_bytes_s * GB, m->handoff_s * 1e6,
                   m->ram_bytes_s * GB);
}

static void notes(const tug_plan_subject *s, tug_buf *out) {
    static const struct {
        unsigned bit;
        const char *what;
    } bits[] = {{TUG_PLAN_ASSUMED_RAM, "RAM bandwidth"},
                {TUG_PLAN_ASSUMED_CPU, "processor speed"},
                {TUG_PLAN_ASSUMED_DISK, "disk speed"},
                {TUG_PLAN_ASSUMED_GPU, "GPU speed"}};
    if (s->plan->gpu_too_small) {
        tug_buf_text(out, "note: the GPU is too small for the dense part and its cache, "
                          "and is not used\n");
    }
    if (s->no_gpu) tug_buf_printf(out, "note: planned without a GPU: %s\n", s->no_gpu);
    if (s->machine->assumed == 0) return;
    const char *before = "note: assumed, not measured: ";
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        if (!(s->machine->assumed & bits[i].bit)) continue;
        tug_buf_printf(out, "%s%s", before, bits[i].what);
        before = ", ";
    }
    tug_buf_text(out, "; --probe measures this machine\n");
}

void tug_plan_text(const tug_plan_subject *s, tug_buf *out) {
    tug_buf_printf(out, "%s, %.1f GB, on %s; context %lld, cache %s, batches of %lld\n\n",
                   s->model->name, (double)s->model->file_bytes * GB, s->machine->name,
                   (long long)s->plan->n_ctx, tug_plan_kv_name(s->request->kv),
                   (long long)s->plan->n_batch);
    places(s->plan, out);
    tug_buf_char(out, '\n');
    expert_lines(s, out);
    tug_buf_char(out, '\n');
    speeds(s->plan, out);
    tug_buf_char(out, '\n');
    terms(s->plan, out);
    advice(s, out);
    if (s->cost) cost(s->cost, out);
    measured(s->machine, out);
    notes(s, out);
}

/* ---- three lines ------------------------------------------------------------------ */

void tug_plan_summary(const tug_plan_model *m, const tug_plan_request *rq,
                      const tug_plan *p, tug_buf *out) {
    const tug_plan_tier *dense = p->on_gpu ? &p->vram : &p->ram;
    const tug_plan_point *at = &p->points[p->n_points - 1];
    const double experts = (double)p->ram.use[TUG_PLAN_USE_ONLY_HERE] +
                           (double)p->vram.use[TUG_PLAN_USE_ONLY_HERE];
    tug_buf_printf(out, "plan: RAM %.1f GB", (double)p->ram.ceiling * GB);
    if (p->on_gpu) tug_buf_printf(out, ", VRAM %.1f GB", (double)p->vram.ceiling * GB);
    tug_buf_printf(out, ": dense %.1f, ", (double)dense->use[TUG_PLAN_USE_DENSE] * GB);
    if (p->n_seq > 1) {
        tug_buf_printf(out, "%lld contexts of %lld ", (long long)p->n_seq,
                       (long long)p->n_ctx);
    } else {
        tug_buf_printf(out, "context of %lld ", (long long)p->n_ctx);
    }
    tug_buf_printf(out, "%.1f, experts %.1f of %.1f GB\n",
                   (double)dense->use[TUG_PLAN_USE_KV] * GB, experts * GB,
                   (double)m->experts * GB);
    tug_buf_printf(out, "      experts a layer: ");
    if (p->on_gpu) tug_buf_printf(out, "%d in VRAM, ", mean_slots(m, p->vram_share));
    tug_buf_printf(out, "%d of %lld in RAM; %.1f %% of uses from disk (%s routing)\n",
                   mean_slots(m, p->ram_share), (long long)m->spec.n_expert,
                   100.0 * p->disk_miss, tug_plan_routing_name(rq->routing));
    tug_buf_printf(out,
                   "      expected at %lld tokens: decode %.1f tok/s (%s), prefill %.0f "
                   "tok/s (%s)\n",
                   (long long)at->n_ctx, at->decode.tok_s, term_labels[at->decode.bound],
                   at->prefill.tok_s, term_labels[at->prefill.bound]);
}
