/* job.c - the checks of a request for an answer, and the ends of it.
 * SPDX-License-Identifier: MIT */
#include "serve/job.h"

#include <time.h>

#include "base/random.h"
#include "base/sys.h"
#include "serve/serve_impl.h"

/* ---- checks -------------------------------------------------------------------------- */

static tug_status check_ranges(const tug_serve *s, const tug_api_request *r,
                               tug_err *err) {
    for (size_t i = 0; i < r->n_prompt_ids; i++) {
        if (r->prompt_ids[i] >= 0 && r->prompt_ids[i] < s->info.n_vocab) continue;
        return TUG_FAIL(err, TUG_EFORMAT,
                        "prompt[%zu]: %d is no token id: this model's are 0 to %lld", i,
                        r->prompt_ids[i], (long long)s->info.n_vocab - 1);
    }
    for (size_t i = 0; i < r->sampling.n_bias; i++) {
        const int32_t id = r->sampling.bias[i].id;
        if (id >= 0 && id < s->info.n_vocab) continue;
        return TUG_FAIL(err, TUG_EFORMAT,
                        "logit_bias: %d is no token id: this model's are 0 to %lld", id,
                        (long long)s->info.n_vocab - 1);
    }
    return TUG_OK;
}

/* TUG_ERANGE: too long for the context; the caller words that for its API. */
static tug_status check_prompt(tug_job *job, tug_err *err) {
    tug_serve *s = job->serve;
    tug_buf rendered = {0};
    TUG_TRY(check_ranges(s, &job->request, err));
    tug_status status =
        tug_serve_prompt(s, &job->request, &job->arena, tug_http_key(job->exchange),
                         &job->prompt, &rendered, err);
    if (status == TUG_OK) {
        const tug_scripted say = tug_script_choose(s, tug_buf_view(&rendered));
        job->turn.script = say.ids;
        job->turn.n_script = say.n;
        job->turn.script_s = say.token_s;
        job->not_before = say.prefill_s;
    }
    tug_buf_free(&rendered);
    TUG_TRY(status);
    if (job->prompt.ids.n == 0) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "prompt: it is empty; give at least one token to continue");
    }
    if ((int64_t)job->prompt.ids.n >= s->n_ctx) {
        return TUG_FAIL(err, TUG_ERANGE, "%zu tokens of prompt, %lld of context",
                        job->prompt.ids.n, (long long)s->n_ctx);
    }
    return TUG_OK;
}

static void refuse_context(const tug_job *job) {
    tug_buf body = {0};
    tug_api_error(job->request.api, TUG_FAULT_CONTEXT, tug_str_make("", 0),
                  (int64_t)job->prompt.ids.n, job->serve->n_ctx, &body);
    tug_serve_send(job->exchange, tug_api_fault_status(TUG_FAULT_CONTEXT),
                   "application/json", tug_buf_view(&body));
    tug_buf_free(&body);
}

static tug_status prepare(tug_job *job, tug_api api, tug_err *err) {
    TUG_TRY(tug_api_parse(api, tug_http_body(job->exchange), &job->arena, &job->request,
                          err));
    TUG_TRY(check_prompt(job, err));
    TUG_TRY(tug_random_text(job->id_part, TUG_ID_PART, err));
    return tug_answer_create(&job->answer, &job->request,
                             tug_str_of(job->serve->config.model_id),
                             tug_str_of(job->id_part), (int64_t)time(NULL), err);
}

/* Every stream may sit behind a proxy that would like to collect it. */
static tug_status open_stream(tug_job *job, tug_err *err) {
    TUG_TRY(
        tug_http_set_header(job->exchange, "Cache-Control", tug_str_of("no-cache"), err));
    TUG_TRY(
        tug_http_set_header(job->exchange, "X-Accel-Buffering", tug_str_of("no"), err));
    return tug_http_begin_stream(job->exchange, 200, tug_answer_content_type(job->answer),
                                 err);
}

void tug_job_create(tug_job **out, tug_serve *s, tug_http_exchange *x, tug_api api) {
    tug_err err;
    *out = NULL;
    tug_job *job = tug_alloc_zero(sizeof *job);
    if (!job) {
        tug_serve_refuse(x, api, TUG_FAULT_UNAVAILABLE,
                         tug_str_of("out of memory; try again"));
        return;
    }
    (void)pthread_mutex_init(&job->lock, NULL);
    job->serve = s;
    job->exchange = x;
    job->arrived = job->last_sent = tug_now();
    job->request.api = api;
    tug_http_keep(x);
    tug_status status = prepare(job, api, &err);
    if (status == TUG_ERANGE && (int64_t)job->prompt.ids.n >= s->n_ctx) {
        refuse_context(job);
    } else if (status != TUG_OK) {
        tug_serve_refuse_err(x, api, &err);
    } else if (job->request.stream) {
        status = open_stream(job, &err);
    }
    if (status != TUG_OK) {
        tug_job_destroy(&job);
        return;
    }
    job->not_before += job->arrived;
    *out = job;
}

void tug_job_destroy(tug_job **slot) {
    tug_job *job = *slot;
    if (!job) return;
    tug_turn_free(&job->turn);
    tug_session_mark_destroy(&job->prompt_end);
    tug_answer_destroy(&job->answer);
    tug_buf_free(&job->out);
    tug_prompt_ids_free(&job->prompt);
    tug_arena_free(&job->arena);
    tug_http_release(job->exchange);
    (void)pthread_mutex_destroy(&job->lock);
    tug_free(job);
    *slot = NULL;
}

/* ---- what the client gets ------------------------------------------------------------ */

tug_answer_usage tug_job_usage(const tug_job *job) {
    return (tug_answer_usage){.n_prompt = (int64_t)job->prompt.ids.n,
                              .n_cached = job->n_cached,
                              .n_completion = job->n_completion,
                              .prompt_s = job->prompt_s,
                              .completion_s = job->completion_s};
}

void tug_job_flush(tug_job *job) {
    tug_err err;
    if (job->out.n == 0 || !job->request.stream) return;
    const tug_status sent = tug_http_write(job->exchange, tug_buf_view(&job->out), &err);
    (void)sent; /* that a client is gone, the worker notices */
    tug_buf_clear(&job->out);
    job->last_sent = tug_now();
}

void tug_job_begin_answer(tug_job *job) {
    if (job->begun) return;
    const tug_answer_usage usage = tug_job_usage(job);
    job->begun = true;
    tug_answer_begin(job->answer, &usage, &job->out);
    tug_job_flush(job);
}

void tug_job_fail(tug_job *job, tug_status code, tug_str sentence) {
    (void)pthread_mutex_lock(&job->lock);
    if (job->request.stream) {
        tug_job_begin_answer(job);
        tug_answer_error(job->answer, code, sentence, &job->out);
        tug_job_flush(job);
        tug_http_end_stream(job->exchange);
    } else {
        tug_serve_refuse(job->exchange, job->request.api,
                         code == TUG_ECANCELED || code == TUG_ENOMEM ||
                                 code == TUG_EDEVICE
                             ? TUG_FAULT_UNAVAILABLE
                             : TUG_FAULT_INTERNAL,
                         sentence);
    }
    (void)pthread_mutex_unlock(&job->lock);
}
