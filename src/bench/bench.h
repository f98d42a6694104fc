/* bench.h - measures prefill and decode of a model at several depths of context.
 *
 * DATA FLOW   tug_bench_run fills a session once to each depth and saves it there; then,
 *             repetition after repetition and case after case in turn, it goes back to the
 *             depth, measures the machine's limits, and measures the case.  Reports
 *             (bench_report.h) read the result, also of a run that was interrupted.
 * OWNERSHIP   a tug_bench owns nothing but its cases; model and session are the caller's.
 *
 * docs/BENCH.md says what is measured and why that way.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BENCH_BENCH_H
#define TUG_BENCH_BENCH_H

#include "bench/gpu_load.h"
#include "bench/process.h"
#include "bench/stats.h"
#include "bench/verdict.h"
#include "tug.h"
#include "tug_profile.h"

enum {
    TUG_BENCH_PROMPTS = 8,
    TUG_BENCH_DEPTHS = 32,
    TUG_BENCH_REPS = 100,
    TUG_BENCH_CASES = TUG_BENCH_DEPTHS * (TUG_BENCH_PROMPTS + 1)
};

/* What to measure. */
typedef struct tug_bench_spec {
    int64_t prompts[TUG_BENCH_PROMPTS]; /* prefill: tokens in one call */
    int n_prompts;
    int64_t depths[TUG_BENCH_DEPTHS]; /* tokens in the context before, increasing */
    int n_depths;
    /* The depths are contexts: prefill is the whole prompt of that many tokens, timed
     * while the context is filled, so once; n_prompts is 0. */
    bool contexts;
    int64_t n_decode; /* tokens one by one; 0: no decode */
    int n_reps;
    uint64_t seed; /* of the random token ids */
} tug_bench_spec;

typedef enum tug_bench_kind { TUG_BENCH_PREFILL = 0, TUG_BENCH_DECODE } tug_bench_kind;

typedef struct tug_bench_case {
    tug_bench_kind kind;
    int64_t depth;    /* tokens in the context before */
    int64_t n_tokens; /* per repetition */
    bool filling;     /* timed while filling: depth 0, one repetition */

    int n; /* repetitions measured; the arrays are (n,) */
    double tok_s[TUG_BENCH_REPS];
    double model_tok_s[TUG_BENCH_REPS]; /* decode: without sampling */
    int n_limits; /* measured limits, (n_limits,): one beside each repetition, or beside
                     each part of a filling */
    double read_bytes_s[TUG_BENCH_REPS], int8_macs_s[TUG_BENCH_REPS],
        f32_macs_s[TUG_BENCH_REPS];
    double cache_bytes;
    tug_profile profile; /* sum over repetitions, split */
    tug_load load;
    tug_gpu_load gpu;       /* the same of the GPU, if there is one */
    double predicted_tok_s; /* by the plan with the limits above; 0: not planned */
} tug_bench_case;

typedef struct tug_bench {
    tug_bench_spec spec;
    int n_cases;
    tug_bench_case *cases; /* owned, (n_cases,) */
    bool interrupted;
    uint64_t probe_bytes; /* of the memory below, the bandwidth probe's */
    tug_rss rss;          /* after the last repetition */
    bool on_gpu;
    tug_gpu_now gpu; /* after the last repetition, while it was at work */
} tug_bench;

/* Callbacks of a long run. */
typedef struct tug_bench_host {
    /* `done` of `total` tokens of all the work; `what` is "filling the context" or the like.
     * May be NULL. */
    void (*progress)(void *ud, const char *what, uint64_t done, uint64_t total);
    bool (*canceled)(void *ud); /* asked between batches and tokens */
    void *ud;
} tug_bench_host;

/* Tokens the session must have room for. */
int64_t tug_bench_context(const tug_bench_spec *spec);

/* Lists the cases; nothing is measured yet. */
TUG_NODISCARD tug_status tug_bench_init(tug_bench *b, const tug_bench_spec *spec,
                                        tug_err *err);
void tug_bench_free(tug_bench *b);

/* The session is an empty one of the model.  Its on_prefill must be tug_bench_on_prefill
 * with ud = host.  Cancelling is no failure: b->interrupted is set and what was measured
 * stays. */
TUG_NODISCARD tug_status tug_bench_run(tug_bench *b, tug_model *model,
                                       tug_session *session, const tug_bench_host *host,
                                       tug_err *err);
bool tug_bench_on_prefill(void *host, uint64_t done, uint64_t total);

/* ---- results ------------------------------------------------------------------------- */

/* Medians of the limits beside the repetitions. */
tug_limits tug_bench_limits(const tug_bench_case *c);
tug_verdict tug_bench_verdict(const tug_bench_case *c);

/* All measured cases of one kind in one, for the sentence about the run; n == 0 when there
 * is none.  n_tokens, depth and the arrays of speeds mean nothing in it. */
void tug_bench_sum(const tug_bench *b, tug_bench_kind kind, tug_bench_case *sum);

/* Seconds per token against depth, a line through the medians of the cases of this kind
 * with n_tokens (whole prompts: against their length, n_tokens does not matter). */
tug_line tug_bench_fit(const tug_bench *b, tug_bench_kind kind, int64_t n_tokens);

/* Where a case stands on the axis of depths: the length of a whole prompt, else depth. */
int64_t tug_bench_x(const tug_bench_case *c);

/* Share of n_threads that was busy on processors, 0..1. */
double tug_bench_cpu(const tug_bench_case *c);

/* Most memory of the process without the bandwidth probe's. */
uint64_t tug_bench_ram(const tug_bench *b);

#endif
