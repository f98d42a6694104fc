/* serve_impl.h - the server's parts, for the files of src/serve.
 *
 * LOCKS  `lock` guards the list of jobs and what it says; `front` guards the encoder and the
 *        script.  Order: lock before a job's own lock; front alone.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_SERVE_IMPL_H
#define TUG_SERVE_SERVE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "http/http.h"
#include "serve/job.h"
#include "serve/metrics.h"
#include "serve/prompt_cache.h"
#include "serve/replay.h"
#include "serve/script.h"
#include "serve/serve.h"
#include "tokenizer/tokenizer.h"
#include "tug_profile.h"

struct tug_serve {
    tug_serve_config config;
    tug_model_info info;
    const tug_tokenizer *vocab; /* borrowed from the model */
    int64_t n_ctx;
    double started; /* tug_now */
    /* NULL while it starts: its threads may be at work before we know of it */
    _Atomic(tug_http_server *) http;

    pthread_mutex_t front;
    tug_encoder *encoder;
    tug_replay *replay; /* has its own lock */

    pthread_mutex_t lock;
    pthread_cond_t wake;   /* the worker's: something changed */
    tug_job *jobs;         /* in the order of arrival */
    int n_jobs, n_running; /* n_jobs: with the places that are reserved */
    bool draining, stopping;

    pthread_t worker, pulse;
    bool have_worker, have_pulse, have_locks;
    tug_prompt_cache *cache; /* the worker's, once it runs; NULL: no model */
    tug_err gpu_failure;     /* the worker's; code TUG_OK: none, or recovered from */
    _Atomic bool degraded;   /* there is no model, for now or for good */
    tug_job *in_step;        /* the worker's: whose piece is computed */
    tug_prompt_cache_stats cache_stats; /* of a moment ago, under `lock` */
    tug_streaming streaming;            /* the same */
    tug_expert_memory expert_memory;    /* the same */
    tug_gpu_now gpu;                    /* the same; its budget is 0 without a GPU */
    tug_metrics metrics;                /* has its own lock */
    tug_script script;                  /* under front */
};

/* A place in the queue; false when it is full or the server drains.  Asked for before
 * anything of an answer is sent, so that there can still be a 503. */
bool tug_serve_reserve(tug_serve *s);
void tug_serve_unreserve(tug_serve *s);
/* Puts a job on the place that was reserved for it. */
void tug_serve_enqueue(tug_serve *s, tug_job *job);
/* Takes it out and destroys it. */
void tug_serve_remove(tug_serve *s, tug_job *job);

/* Ends all jobs with the news that the server stops; on the worker, or after it. */
void tug_worker_cancel_all(tug_serve *s);
/* Ends one with an error; it is gone after it.  The worker's. */
void tug_worker_fail_job(tug_job *job, const tug_err *err);

/* Makes the prompt cache: sessions of n_ctx tokens, 0: as the model and memory are. */
TUG_NODISCARD tug_status tug_serve_make_cache(tug_serve *s, int64_t n_ctx, tug_err *err);
/* gpu_failure is a new one: ends what ran on it, loads the model for the CPU. */
void tug_serve_leave_gpu(tug_serve *s);

/* The threads.  ud is the tug_serve. */
void *tug_worker_main(void *ud);
/* Progress of a pass: false when the client whose prompt it is has gone. */
bool tug_worker_on_prefill(void *ud, uint64_t done, uint64_t total);
void *tug_pulse_main(void *ud);

/* The whole answer; a client that is gone is noticed elsewhere. */
void tug_serve_send(tug_http_exchange *x, int status, const char *content_type,
                    tug_str body);
/* A header of it, if there is memory for one. */
void tug_serve_header(tug_http_exchange *x, const char *name, const char *value);
/* 200 and `body` as JSON, or an error if it could not be written.  Frees it. */
void tug_serve_send_json(tug_http_exchange *x, tug_buf *body);

/* Answers an exchange with an error in the shape of `api`. */
void tug_serve_refuse(tug_http_exchange *x, tug_api api, tug_api_fault fault,
                      tug_str sentence);
/* ... and with what failed. */
void tug_serve_refuse_err(tug_http_exchange *x, tug_api api, const tug_err *err);

/* Routes a request; ud is the tug_serve. */
void tug_serve_handle(void *ud, tug_http_exchange *x);
/* The API whose error shape a path speaks. */
tug_api tug_serve_api_of(tug_str path);

/* The prompt of a request: messages rendered and encoded, text, ids, fill in the middle.
 * `space`: whose recorded turns may stand in it.  *rendered gets its text.  TUG_ESTATE when
 * this model has no tokens for it.  Takes `front`. */
TUG_NODISCARD tug_status tug_serve_prompt(tug_serve *s, const tug_api_request *r,
                                          tug_arena *arena, int64_t space,
                                          tug_prompt_ids *out, tug_buf *rendered,
                                          tug_err *err);

#endif
