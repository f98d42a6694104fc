/* gpu_load.h - what the GPU did during the repetitions of a case: sums of differences of counters,
 * beside its limits.  Pure.  SPDX-License-Identifier: MIT */
#ifndef TUG_BENCH_GPU_LOAD_H
#define TUG_BENCH_GPU_LOAD_H

#include "bench/verdict.h"
#include "tug_profile.h"

/* All zero: there is no GPU. */
typedef struct tug_gpu_load {
    double seconds, n_tokens; /* measured; 0: nothing was */
    double in_bytes, out_bytes, launches;
    /* As in tug_gpu_now. */
    double expert_hits, expert_misses, promoted, seeded, returned, carried,
        expert_in_bytes;
    double joules, joules_s,
        joules_tok; /* and seconds and tokens in which they were told */
    double busy;    /* sum of n_busy shares */
    int n_busy;
    uint64_t vram_peak, vram_budget;
    tug_gpu_limits limits; /* the best of those beside the repetitions */
} tug_gpu_load;

/* Adds the time from before to after, in which n_tokens were computed. */
void tug_gpu_load_add(tug_gpu_load *g, const tug_gpu_now *before,
                      const tug_gpu_now *after, double seconds, double n_tokens);
void tug_gpu_load_limits(tug_gpu_load *g, const tug_gpu_limits *l);
void tug_gpu_load_sum(tug_gpu_load *sum, const tug_gpu_load *g);

/* 0 where nobody tells. */
double tug_gpu_load_watts(const tug_gpu_load *g);
double tug_gpu_load_tokens_per_joule(const tug_gpu_load *g);
double
tug_gpu_load_link_bytes_s(const tug_gpu_load *g); /* both ways, over all the time */

/* Share of the uses of experts that found them there, of layers whose experts are not all
 * there; -1: there was none. */
double tug_gpu_load_hit_rate(const tug_gpu_load *g);

/* Share of the time that a stage's bytes need at least, read by the GPU; 0 for what is not
 * read there: rows of the embedding, and experts, of which nobody knows how many were. */
double tug_gpu_stage_share(const tug_gpu_load *g, const tug_profile *p, tug_stage stage);

/* Turns a verdict over the host's times into one over the GPU's limits. */
void tug_verdict_on_gpu(tug_verdict *v, const tug_profile *p, const tug_gpu_load *g);

#endif
