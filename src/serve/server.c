/* server.c - the server's life: parts in order, the list of jobs, draining.
 * SPDX-License-Identifier: MIT */
#include <time.h>

#include "base/sys.h"
#include "memory/meminfo.h"
#include "serve/serve_impl.h"

enum { DEFAULT_SESSIONS = 4, DEFAULT_QUEUE = 256 };

/* ---- the list of jobs ---------------------------------------------------------------- */

bool tug_serve_reserve(tug_serve *s) {
    (void)pthread_mutex_lock(&s->lock);
    const bool fits = s->n_jobs < s->config.n_queue && !s->draining && !s->stopping;
    if (fits) s->n_jobs++;
    (void)pthread_mutex_unlock(&s->lock);
    return fits;
}

void tug_serve_unreserve(tug_serve *s) {
    (void)pthread_mutex_lock(&s->lock);
    s->n_jobs--;
    (void)pthread_mutex_unlock(&s->lock);
}

void tug_serve_enqueue(tug_serve *s, tug_job *job) {
    (void)pthread_mutex_lock(&s->lock);
    tug_job **end = &s->jobs;
    while (*end) end = &(*end)->next;
    *end = job;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
}

void tug_serve_remove(tug_serve *s, tug_job *job) {
    (void)pthread_mutex_lock(&s->lock);
    for (tug_job **at = &s->jobs; *at; at = &(*at)->next) {
        if (*at != job) continue;
        *at = job->next;
        s->n_jobs--;
        break;
    }
    (void)pthread_mutex_unlock(&s->lock);
    tug_job_destroy(&job);
}

/* ---- what the http server asks ------------------------------------------------------- */

/* The lock makes sure that a worker which just found nothing to do hears it. */
static void on_wake(void *ud) {
    tug_serve *s = ud;
    (void)pthread_mutex_lock(&s->lock);
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
}

static bool is_public(void *ud, tug_str method, tug_str path) {
    (void)ud;
    if (!tug_str_is(method, "GET") && !tug_str_is(method, "HEAD")) return false;
    /* The page itself is public; what it shows is not. */
    return tug_str_is(path, "/") || tug_str_is(path, "/health") ||
           tug_str_is(path, "/v1/health");
}

static void refuse(void *ud, tug_str path, tug_http_refusal why, tug_str sentence,
                   tug_buf *body) {
    static const tug_api_fault faults[] = {
        [TUG_REFUSED_HOST] = TUG_FAULT_FORBIDDEN,
        [TUG_REFUSED_ORIGIN] = TUG_FAULT_FORBIDDEN,
        [TUG_REFUSED_KEY] = TUG_FAULT_AUTH,
        [TUG_REFUSED_TOO_LARGE] = TUG_FAULT_TOO_LARGE,
        [TUG_REFUSED_MALFORMED] = TUG_FAULT_INVALID,
        [TUG_REFUSED_SHUTDOWN] = TUG_FAULT_UNAVAILABLE,
    };
    tug_serve *s = ud;
    tug_metrics_refused(&s->metrics);
    tug_api_error(tug_serve_api_of(path), faults[why], sentence, 0, 0, body);
}

/* ---- life ---------------------------------------------------------------------------- */

static tug_status make_locks(tug_serve *s, tug_err *err) {
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the server's locks");
    }
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_mutex_init(&s->front, NULL);
    tug_metrics_init(&s->metrics);
    s->have_locks = true;
    return TUG_OK;
}

tug_status tug_serve_make_cache(tug_serve *s, int64_t n_ctx, tug_err *err) {
    /* The room in VRAM is the sessions' alone; what is bounded is the rest. */
    const uint64_t vram = s->info.vram_sessions;
    uint64_t ceiling = s->config.cache_bytes;
    if (ceiling == 0) {
        ceiling =
            s->info.streamed ? s->info.session_bytes - vram : tug_memory_available() / 2;
    }
    const tug_prompt_cache_params cache = {.ceiling_bytes = ceiling + vram,
                                           .max_sessions = s->config.n_sessions,
                                           .n_ctx = n_ctx,
                                           .n_batch = s->config.n_batch,
                                           .kv_type = s->config.kv_type,
                                           .on_prefill = tug_worker_on_prefill,
                                           .ud = s};
    return tug_prompt_cache_create(&s->cache, s->config.model, &cache, err);
}

static tug_status make_parts(tug_serve *s, tug_err *err) {
    TUG_TRY(make_locks(s, err));
    TUG_TRY(tug_encoder_create(&s->encoder, s->vocab, err));
    TUG_TRY(tug_replay_create(&s->replay, 0, 0, err));
    if (s->config.script) TUG_TRY(tug_script_load(s, s->config.script, err));
    TUG_TRY(tug_serve_make_cache(s, s->config.n_ctx, err));
    s->config.n_sessions = tug_prompt_cache_n_sessions(s->cache);
    s->n_ctx = tug_prompt_cache_n_ctx(s->cache);
    s->cache_stats = tug_prompt_cache_get_stats(s->cache);
    s->expert_memory = tug_model_expert_memory(s->config.model);
    (void)tug_model_gpu_now(s->config.model, false, &s->gpu);
    return TUG_OK;
}

static tug_status start_threads(tug_serve *s, tug_err *err) {
    tug_http_config *http = &s->config.http;
    http->ud = s;
    http->handle = tug_serve_handle;
    http->refuse = refuse;
    http->is_public = is_public;
    http->wake = on_wake;
    s->have_worker = pthread_create(&s->worker, NULL, tug_worker_main, s) == 0;
    s->have_pulse = pthread_create(&s->pulse, NULL, tug_pulse_main, s) == 0;
    if (!s->have_worker || !s->have_pulse) {
        return TUG_FAIL(err, TUG_ENOMEM, "the system gives no thread for the server");
    }
    tug_http_server *server = NULL;
    TUG_TRY(tug_http_start(&server, http, err));
    s->http = server;
    return TUG_OK;
}

tug_status tug_serve_start(tug_serve **out, const tug_serve_config *config,
                           tug_err *err) {
    *out = NULL;
    tug_serve *s = tug_alloc_zero(sizeof *s);
    if (!s) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the server");
    s->config = *config;
    if (s->config.n_sessions <= 0) s->config.n_sessions = DEFAULT_SESSIONS;
    if (s->config.n_queue <= 0) s->config.n_queue = DEFAULT_QUEUE;
    s->info = tug_model_get_info(config->model);
    if (s->info.gpu && s->config.n_sessions > s->info.n_sessions) {
        s->config.n_sessions =
            s->info.n_sessions; /* each has its room in VRAM, or is not */
    }
    s->vocab = tug_model_tokenizer(config->model);
    s->started = tug_now();
    tug_status status = make_parts(s, err);
    if (status == TUG_OK) status = start_threads(s, err);
    if (status != TUG_OK) {
        tug_serve_stop(&s);
        return status;
    }
    *out = s;
    return TUG_OK;
}

uint16_t tug_serve_port(const tug_serve *s) {
    return tug_http_port(s->http);
}

int64_t tug_serve_n_ctx(const tug_serve *s) {
    return s->n_ctx;
}

void tug_serve_drain(tug_serve *s, double seconds) {
    const struct timespec pause = {.tv_nsec = 100000000};
    const double until = tug_now() + seconds;
    tug_http_drain(s->http);
    for (bool idle = false; !idle && tug_now() < until;) {
        (void)pthread_mutex_lock(&s->lock);
        s->draining = true;
        idle = s->n_jobs == 0;
        (void)pthread_mutex_unlock(&s->lock);
        if (idle) return;
        (void)nanosleep(&pause, NULL);
    }
}

static void stop_threads(tug_serve *s) {
    (void)pthread_mutex_lock(&s->lock);
    s->draining = s->stopping = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    if (s->have_worker) (void)pthread_join(s->worker, NULL);
    if (s->have_pulse) (void)pthread_join(s->pulse, NULL);
}

void tug_serve_stop(tug_serve **server) {
    tug_serve *s = *server;
    if (!s) return;
    if (s->have_locks) stop_threads(s);
    tug_http_server *http = s->http;
    if (http) tug_http_stop(&http);
    /* A request that was being checked while the worker ended. */
    if (s->have_locks) tug_worker_cancel_all(s);
    tug_prompt_cache_destroy(&s->cache);
    tug_replay_destroy(&s->replay);
    tug_encoder_destroy(&s->encoder);
    tug_script_free(&s->script);
    if (s->have_locks) {
        tug_metrics_deinit(&s->metrics);
        (void)pthread_cond_destroy(&s->wake);
        (void)pthread_mutex_destroy(&s->lock);
        (void)pthread_mutex_destroy(&s->front);
    }
    tug_free(s);
    *server = NULL;
}
