/* gpu_load.c - see gpu_load.h.  SPDX-License-Identifier: MIT */
#include "bench/gpu_load.h"

void tug_gpu_load_add(tug_gpu_load *g, const tug_gpu_now *before,
                      const tug_gpu_now *after, double seconds, double n_tokens) {
    g->seconds += seconds;
    g->n_tokens += n_tokens;
    g->in_bytes += after->in_bytes - before->in_bytes;
    g->out_bytes += after->out_bytes - before->out_bytes;
    g->launches += after->launches - before->launches;
    g->expert_hits += after->expert_hits - before->expert_hits;
    g->expert_misses += after->expert_misses - before->expert_misses;
    g->promoted += after->promoted - before->promoted;
    g->seeded += after->seeded - before->seeded;
    g->returned += after->returned - before->returned;
    g->carried += after->carried - before->carried;
    g->expert_in_bytes += after->expert_in_bytes - before->expert_in_bytes;
    if (before->joules > 0.0 && after->joules > before->joules) {
        g->joules += after->joules - before->joules;
        g->joules_s += seconds;
        g->joules_tok += n_tokens;
    }
    if (after->busy >= 0.0) {
        g->busy += after->busy;
        g->n_busy++;
    }
    if (after->vram_peak > g->vram_peak) g->vram_peak = after->vram_peak;
    g->vram_budget = after->vram_budget;
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

void tug_gpu_load_limits(tug_gpu_load *g, const tug_gpu_limits *l) {
    tug_gpu_limits *to = &g->limits;
    to->read_bytes = l->read_bytes;
    to->read_bytes_s = larger(to->read_bytes_s, l->read_bytes_s);
    to->link_bytes_s = larger(to->link_bytes_s, l->link_bytes_s);
    if (to->handoff_s <= 0.0 || l->handoff_s < to->handoff_s)
        to->handoff_s = l->handoff_s;
}

void tug_gpu_load_sum(tug_gpu_load *sum, const tug_gpu_load *g) {
    if (g->seconds <= 0.0) return;
    double *const to[] = {
        &sum->seconds,  &sum->n_tokens,    &sum->in_bytes,      &sum->out_bytes,
        &sum->launches, &sum->joules,      &sum->joules_s,      &sum->joules_tok,
        &sum->busy,     &sum->expert_hits, &sum->expert_misses, &sum->promoted,
        &sum->seeded,   &sum->returned,    &sum->carried,       &sum->expert_in_bytes};
    const double from[] = {
        g->seconds,  g->n_tokens,    g->in_bytes,      g->out_bytes,
        g->launches, g->joules,      g->joules_s,      g->joules_tok,
        g->busy,     g->expert_hits, g->expert_misses, g->promoted,
        g->seeded,   g->returned,    g->carried,       g->expert_in_bytes};
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) *to[i] += from[i];
    sum->n_busy += g->n_busy;
    if (g->vram_peak > sum->vram_peak) sum->vram_peak = g->vram_peak;
    sum->vram_budget = g->vram_budget;
    tug_gpu_load_limits(sum, &g->limits);
}

static double per(double part, double whole) {
    return whole > 0.0 ? part / whole : 0.0;
}

double tug_gpu_load_watts(const tug_gpu_load *g) {
    return per(g->joules, g->joules_s);
}

double tug_gpu_load_tokens_per_joule(const tug_gpu_load *g) {
    return per(g->joules_tok, g->joules);
}

double tug_gpu_load_link_bytes_s(const tug_gpu_load *g) {
    return per(g->in_bytes + g->out_bytes, g->seconds);
}

double tug_gpu_load_hit_rate(const tug_gpu_load *g) {
    const double uses = g->expert_hits + g->expert_misses;
    return uses > 0.0 ? g->expert_hits / uses : -1.0;
}

/* ---- what bounds it ------------------------------------------------------------------- */

double tug_gpu_stage_share(const tug_gpu_load *g, const tug_profile *p, tug_stage stage) {
    if (stage == TUG_STAGE_EMBEDDING || stage == TUG_STAGE_EXPERTS) return 0.0;
    return per(p->stage[stage].work.bytes, g->limits.read_bytes_s * g->seconds);
}

/* A limit that explains less of the time than this bounds nothing. */
static const double NEAR = 0.10;

void tug_verdict_on_gpu(tug_verdict *v, const tug_profile *p, const tug_gpu_load *g) {
    double most = 0.0;
    v->on_gpu = true;
    v->gpu_read = 0.0;
    for (int i = 0; i < TUG_STAGE_COUNT; i++) {
        const double share = tug_gpu_stage_share(g, p, (tug_stage)i);
        v->gpu_read += share;
        if (share <= most) continue;
        most = share;
        v->stage = (tug_stage)i;
    }
    v->gpu_link = per(tug_gpu_load_link_bytes_s(g), g->limits.link_bytes_s);
    if (v->bound == TUG_BOUND_STARVED || v->bound == TUG_BOUND_DISK) return;
    const double nearest = larger(v->gpu_read, v->gpu_link);
    v->bound = nearest < NEAR               ? TUG_BOUND_OVERHEAD
               : v->gpu_read >= v->gpu_link ? TUG_BOUND_BANDWIDTH
                                            : TUG_BOUND_LINK;
}
