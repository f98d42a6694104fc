/* bench_results.c - what follows from the measurements of bench.h.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "bench/bench.h"

tug_limits tug_bench_limits(const tug_bench_case *c) {
    return (tug_limits){.read_bytes_s =
                            tug_spread_of(c->read_bytes_s, c->n_limits).median,
                        .int8_macs_s = tug_spread_of(c->int8_macs_s, c->n_limits).median,
                        .f32_macs_s = tug_spread_of(c->f32_macs_s, c->n_limits).median,
                        .cache_bytes = c->cache_bytes};
}

tug_verdict tug_bench_verdict(const tug_bench_case *c) {
    const tug_limits limits = tug_bench_limits(c);
    tug_verdict v = tug_verdict_of(&c->profile, &c->load, &limits);
    if (c->gpu.seconds > 0.0) tug_verdict_on_gpu(&v, &c->profile, &c->gpu);
    return v;
}

static void add_case(tug_bench_case *sum, const tug_bench_case *c) {
    const tug_load zero = {0};
    for (int i = 0; i < c->n_limits && sum->n_limits < TUG_BENCH_REPS; i++) {
        sum->read_bytes_s[sum->n_limits] = c->read_bytes_s[i];
        sum->int8_macs_s[sum->n_limits] = c->int8_macs_s[i];
        sum->f32_macs_s[sum->n_limits++] = c->f32_macs_s[i];
    }
    sum->n += c->n;
    sum->cache_bytes = c->cache_bytes;
    sum->profile.n_threads = c->profile.n_threads;
    sum->profile.model_bytes = c->profile.model_bytes;
    for (int i = 0; i < TUG_STAGE_COUNT; i++) {
        tug_stage_profile *to = &sum->profile.stage[i];
        const tug_stage_profile *from = &c->profile.stage[i];
        to->seconds += from->seconds;
        to->wait_s += from->wait_s;
        to->alone_s += from->alone_s;
        to->work.bytes += from->work.bytes;
        to->work.macs_int8 += from->work.macs_int8;
        to->work.macs_f32 += from->work.macs_f32;
    }
    tug_load_add(&sum->load, &zero, &c->load);
    tug_gpu_load_sum(&sum->gpu, &c->gpu);
}

void tug_bench_sum(const tug_bench *b, tug_bench_kind kind, tug_bench_case *sum) {
    memset(sum, 0, sizeof *sum);
    sum->kind = kind;
    const tug_bench_case *longest = NULL;
    for (int i = 0; i < b->n_cases; i++) {
        const tug_bench_case *c = &b->cases[i];
        if (c->kind != kind || c->n == 0) continue;
        if (!c->filling) add_case(sum, c);
        if (c->filling) longest = c; /* holds the shorter ones */
    }
    if (longest) add_case(sum, longest);
}

int64_t tug_bench_x(const tug_bench_case *c) {
    return c->filling ? c->n_tokens : c->depth;
}

tug_line tug_bench_fit(const tug_bench *b, tug_bench_kind kind, int64_t n_tokens) {
    double x[TUG_BENCH_DEPTHS], y[TUG_BENCH_DEPTHS];
    int n = 0;
    for (int i = 0; i < b->n_cases && n < TUG_BENCH_DEPTHS; i++) {
        const tug_bench_case *c = &b->cases[i];
        if (c->kind != kind || c->n == 0) continue;
        if (!c->filling && c->n_tokens != n_tokens) continue;
        x[n] = (double)tug_bench_x(c);
        y[n++] = 1.0 / tug_spread_of(c->tok_s, c->n).median;
    }
    return tug_line_fit(x, y, n);
}

double tug_bench_cpu(const tug_bench_case *c) {
    const double whole = c->load.wall_s * (double)c->profile.n_threads;
    return whole > 0.0 ? c->load.cpu_s / whole : 0.0;
}

uint64_t tug_bench_ram(const tug_bench *b) {
    return b->rss.peak > b->probe_bytes ? b->rss.peak - b->probe_bytes : b->rss.peak;
}
