/* metrics.c - see metrics.h.  SPDX-License-Identifier: MIT */
#include "serve/metrics.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/sys.h"
#include "serve/job.h"

void tug_metrics_init(tug_metrics *m) {
    *m = (tug_metrics){0};
    (void)pthread_mutex_init(&m->lock, NULL);
}

void tug_metrics_deinit(tug_metrics *m) {
    (void)pthread_mutex_destroy(&m->lock);
}

static void add_speed(tug_speed *s, int64_t n, double seconds) {
    const unsigned at = s->n++ % TUG_SPEED_WINDOW;
    s->tokens[at] = (double)n;
    s->seconds[at] = seconds;
    s->at[at] = tug_now();
}

void tug_metrics_prefill(tug_metrics *m, int64_t n, double seconds) {
    (void)pthread_mutex_lock(&m->lock);
    m->totals.prompt_tokens += (uint64_t)n;
    m->totals.prompt_s += seconds;
    add_speed(&m->prefill, n, seconds);
    (void)pthread_mutex_unlock(&m->lock);
}

void tug_metrics_decode(tug_metrics *m, int64_t n, double seconds) {
    (void)pthread_mutex_lock(&m->lock);
    m->totals.sampled_tokens += (uint64_t)n;
    m->totals.sampled_s += seconds;
    add_speed(&m->decode, n, seconds);
    (void)pthread_mutex_unlock(&m->lock);
}

void tug_metrics_refused(tug_metrics *m) {
    (void)pthread_mutex_lock(&m->lock);
    m->totals.refused++;
    (void)pthread_mutex_unlock(&m->lock);
}

void tug_metrics_gpu_failed(tug_metrics *m) {
    (void)pthread_mutex_lock(&m->lock);
    m->totals.gpu_failures++;
    (void)pthread_mutex_unlock(&m->lock);
}

void tug_metrics_job(tug_metrics *m, const struct tug_job *job, const char *end) {
    tug_recent r = {.api = tug_api_name(job->request.api),
                    .end = end,
                    .started = (double)time(NULL) - (tug_now() - job->arrived),
                    .n_prompt = (int64_t)job->prompt.ids.n,
                    .n_cached = job->n_cached,
                    .n_completion = job->n_completion,
                    .prefill_s = job->prompt_s,
                    .decode_s = job->completion_s};
    (void)snprintf(r.id, sizeof r.id, "%s", job->id_part);
    (void)pthread_mutex_lock(&m->lock);
    m->totals.requests++;
    m->totals.cached_tokens += (uint64_t)job->n_cached;
    m->totals.errors += strcmp(end, "error") == 0;
    m->totals.canceled += strcmp(end, "canceled") == 0;
    m->recent[m->n_recent++ % TUG_RECENT] = r;
    (void)pthread_mutex_unlock(&m->lock);
}

double tug_metrics_prefill_speed(tug_metrics *m) {
    double tokens = 0.0, seconds = 0.0;
    (void)pthread_mutex_lock(&m->lock);
    const unsigned n = m->prefill.n < TUG_SPEED_WINDOW ? m->prefill.n : TUG_SPEED_WINDOW;
    for (unsigned i = 0; i < n; i++) {
        tokens += m->prefill.tokens[i];
        seconds += m->prefill.seconds[i];
    }
    (void)pthread_mutex_unlock(&m->lock);
    return seconds > 0.0 ? tokens / seconds : 0.0;
}

const char *tug_api_name(tug_api api) {
    switch (api) {
    case TUG_API_CHAT: return "chat";
    case TUG_API_COMPLETIONS: return "completions";
    case TUG_API_RESPONSES: return "responses";
    case TUG_API_MESSAGES: return "messages";
    }
    return "unknown";
}
