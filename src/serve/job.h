/* job.h - one request for an answer, from the end of its checks to its last byte.
 *
 * Made on an http thread, then the worker's, apart from what `lock` guards: the worker
 * writes events, and the pulse thread keepalives, into the same answer.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_JOB_H
#define TUG_SERVE_JOB_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/answer.h"
#include "api/request.h"
#include "base/arena.h"
#include "http/http.h"
#include "serve/prompt_cache.h"
#include "serve/prompt_ids.h"
#include "serve/turn.h"
#include "tokenizer/tokenizer.h"

typedef enum tug_job_state {
    TUG_JOB_QUEUED,
    TUG_JOB_PREFILL,
    TUG_JOB_DECODE,
    TUG_JOB_DONE
} tug_job_state;

enum { TUG_ID_PART = 24 };

typedef struct tug_job {
    struct tug_job *next; /* in the order of arrival; the server's lock */
    struct tug_serve *serve;
    tug_http_exchange *exchange; /* kept */

    /* ---- the request; never changes after the checks */
    tug_arena arena;
    tug_api_request request;
    tug_prompt_ids prompt;
    char id_part[TUG_ID_PART + 1];
    double arrived;

    /* ---- the answer; under `lock` */
    pthread_mutex_t lock;
    tug_answer *answer;
    tug_buf out;      /* bytes for the client, empty outside of the lock */
    bool begun;       /* the first event is out */
    double last_sent; /* when the client last heard from us */

    /* ---- shown by /status; written by the worker */
    _Atomic int state; /* tug_job_state */
    _Atomic int64_t n_done, n_cached, n_completion;

    /* ---- the worker's */
    tug_prompt_lease lease; /* without a session while queued */
    tug_turn turn;
    int32_t choice;
    tug_session_mark *prompt_end;  /* for the second choice; NULL with one */
    double started, prefilled;     /* when it got its session; when prefill was over */
    double prompt_s, completion_s; /* spent on it, not on others */
    double not_before;             /* scripted delays */
    tug_answer_end end;
    bool warned;
} tug_job;

/* All checks of a request for an answer: body, prompt, context, constraint.  On failure the
 * exchange has been answered and *out is NULL. */
void tug_job_create(tug_job **out, struct tug_serve *serve, tug_http_exchange *x,
                    tug_api api);
void tug_job_destroy(tug_job **job);

/* Sends what is in job->out; the lock is held. */
void tug_job_flush(tug_job *job);

/* The first event, with what is known by then; the lock is held. */
void tug_job_begin_answer(tug_job *job);

/* Ends the answer with an error, in the stream or as the whole answer. */
void tug_job_fail(tug_job *job, tug_status code, tug_str sentence);

tug_answer_usage tug_job_usage(const tug_job *job);

#endif
