/* metrics.h - what the server did: totals, speed now, the last requests.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_METRICS_H
#define TUG_SERVE_METRICS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/request.h"
#include "base/status.h"

struct tug_job;

enum { TUG_RECENT = 32, TUG_SPEED_WINDOW = 16 };

typedef struct tug_recent {
    char id[32];
    const char *api, *end; /* static texts */
    double started;        /* seconds since 1970 */
    int64_t n_prompt, n_cached, n_completion;
    double prefill_s, decode_s;
} tug_recent;

/* Tokens and seconds of the last pieces of one kind of work. */
typedef struct tug_speed {
    double tokens[TUG_SPEED_WINDOW], seconds[TUG_SPEED_WINDOW], at[TUG_SPEED_WINDOW];
    unsigned n; /* ever */
} tug_speed;

typedef struct tug_totals {
    uint64_t requests, errors, canceled, refused, gpu_failures;
    uint64_t prompt_tokens, cached_tokens, sampled_tokens; /* computed, not, written */
    double prompt_s, sampled_s;
} tug_totals;

typedef struct tug_metrics {
    pthread_mutex_t lock;
    tug_totals totals;
    tug_speed prefill, decode;
    tug_recent recent[TUG_RECENT]; /* a ring */
    uint64_t n_recent;             /* ever */
} tug_metrics;

void tug_metrics_init(tug_metrics *m);
void tug_metrics_deinit(tug_metrics *m);

void tug_metrics_prefill(tug_metrics *m, int64_t n, double seconds);
void tug_metrics_decode(tug_metrics *m, int64_t n, double seconds);
void tug_metrics_job(tug_metrics *m, const struct tug_job *job, const char *end);
void tug_metrics_refused(tug_metrics *m);
void tug_metrics_gpu_failed(tug_metrics *m);

/* Tokens a second over the last pieces; 0 before the first. */
double tug_metrics_prefill_speed(tug_metrics *m);

const char *tug_api_name(tug_api api);

#endif
