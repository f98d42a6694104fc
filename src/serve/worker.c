/* worker.c - the thread that computes: goes round the running jobs, a piece of each.
 *
 * A piece is a token, or a part of a prompt that takes about PIECE_ALONE_S; a quarter of a
 * second while others wait for their next token.  Where prompts are cut changes nothing in
 * what is computed.
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "base/sys.h"
#include "serve/serve_impl.h"

#define PIECE_ALONE_S   2.0
#define PIECE_SHARED_S  0.25
#define FIRST_PIECE     256 /* tokens, before a speed is known */
#define LEAST_PIECE     32
#define STREAMED_SHARED 1024
#define STREAMED_ALONE  4096
/* A client that has so much to read is not written for. */
#define BACKLOG_BYTES ((size_t)256 << 10)
/* Save points on the way through a long prompt. */
#define SAVE_EVERY 8192
/* How soon a job that found no room asks again. */
#define BUSY_S 0.05

/* ---- prefill ------------------------------------------------------------------------- */

static tug_status start(tug_job *job, tug_err *err) {
    tug_serve *s = job->serve;
    const tug_prompt_want want = {.ids = job->prompt.ids.p,
                                  .n = (int64_t)job->prompt.ids.n,
                                  .reuse = job->request.cache_prompt,
                                  .space = tug_http_key(job->exchange),
                                  .hint = job->request.session};
    if (!s->cache) {
        *err = s->gpu_failure;
        return err->code;
    }
    TUG_TRY(tug_prompt_cache_take(s->cache, &want, &job->lease, err));
    job->n_cached = job->n_done = job->lease.n_reused;
    job->started = tug_now();
    job->state = TUG_JOB_PREFILL;
    (void)pthread_mutex_lock(&job->lock);
    tug_job_begin_answer(job);
    (void)pthread_mutex_unlock(&job->lock);
    return TUG_OK;
}

/* The next place in the prompt at which a save point is wanted, beyond `at`. */
static int64_t next_stop(const tug_job *job, int64_t at) {
    int64_t stop = (int64_t)job->prompt.ids.n;
    const int64_t grid = (at / SAVE_EVERY + 1) * SAVE_EVERY;
    const int64_t places[] = {job->prompt.head, job->prompt.last_turn, grid};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (places[i] > at && places[i] < stop) stop = places[i];
    }
    return stop;
}

/* Tokens that take about as long as a piece may.  When experts come from the file every
 * piece reads most of them once, however short it is. */
static int64_t piece(tug_serve *s, bool shared) {
    if (s->info.streamed) return shared ? STREAMED_SHARED : STREAMED_ALONE;
    const double speed = tug_metrics_prefill_speed(&s->metrics);
    if (!(speed > 0.0)) return FIRST_PIECE;
    const double n = speed * (shared ? PIECE_SHARED_S : PIECE_ALONE_S);
    return n < LEAST_PIECE ? LEAST_PIECE : n < 65536.0 ? (int64_t)n : 65536;
}

static tug_status prefill(tug_job *job, bool shared, tug_err *err) {
    tug_serve *s = job->serve;
    tug_session *session = job->lease.session;
    const int64_t at = job->n_done, total = (int64_t)job->prompt.ids.n;
    if (at < total) {
        const int64_t stop = next_stop(job, at), most = piece(s, shared);
        const int64_t n = stop - at < most ? stop - at : most;
        const double before = tug_now();
        TUG_TRY(tug_session_append(session, job->prompt.ids.p + at, n, err));
        const double took = tug_now() - before;
        job->prompt_s += took;
        tug_metrics_prefill(&s->metrics, n, took);
        job->n_done = at + n;
        if (at + n == stop) (void)tug_prompt_cache_save(s->cache, &job->lease);
        if (at + n < total) return TUG_OK;
    }
    job->prefilled = tug_now();
    if (job->request.n_choices > 1)
        TUG_TRY(tug_session_save(session, &job->prompt_end, err));
    TUG_TRY(tug_turn_begin(job, err));
    job->state = TUG_JOB_DECODE;
    return TUG_OK;
}

/* ---- decode -------------------------------------------------------------------------- */

/* So that the next request of this conversation meets the very tokens that were sampled. */
static void remember(tug_job *job) {
    tug_serve *s = job->serve;
    const tug_turn *t = &job->turn;
    const bool whole = job->end == TUG_END_STOP || job->end == TUG_END_CALLS;
    if (!whole || job->request.api == TUG_API_COMPLETIONS || t->ids.n == 0) return;
    const tug_replay_key key = {.space = tug_http_key(job->exchange),
                                .call_ids = t->call_ids,
                                .n_calls = t->n_calls,
                                .text = tug_buf_view(&t->said)};
    (void)tug_replay_add(s->replay, &key, t->ids.p, t->ids.n);
}

static tug_status next_choice(tug_job *job, bool *done, tug_err *err) {
    const tug_api_request *r = &job->request;
    const tug_str stop = job->turn.stop_found == SIZE_MAX ? tug_str_make("", 0)
                                                          : r->stop[job->turn.stop_found];
    tug_answer_choice_end(job->answer, job->end, stop, &job->out);
    (void)tug_prompt_cache_save(job->serve->cache, &job->lease);
    remember(job);
    tug_turn_free(&job->turn);
    *done = ++job->choice >= r->n_choices;
    if (*done) {
        const tug_answer_usage usage = tug_job_usage(job);
        tug_answer_finish(job->answer, &usage, &job->out);
        return tug_buf_ok(&job->out, err);
    }
    TUG_TRY(tug_session_restore(job->lease.session, job->prompt_end, err));
    return tug_turn_begin(job, err);
}

static tug_status decode(tug_job *job, bool *done, tug_err *err) {
    const double before = tug_now();
    bool turn_done = false;
    (void)pthread_mutex_lock(&job->lock);
    tug_status status = tug_turn_step(job, &turn_done, err);
    const double took = tug_now() - before;
    job->completion_s += took;
    tug_metrics_decode(&job->serve->metrics, 1, took);
    if (status == TUG_OK && turn_done) status = next_choice(job, done, err);
    tug_job_flush(job);
    (void)pthread_mutex_unlock(&job->lock);
    job->not_before = job->turn.script_s > 0.0 ? before + job->turn.script_s : 0.0;
    return status;
}

/* ---- one job ------------------------------------------------------------------------- */

/* The job is gone after it.  It was counted before its client could see the end
 * (tug_metrics_job), so that what the client then asks of /status is true. */
static void end_job(tug_job *job) {
    tug_serve *s = job->serve;
    tug_turn_free(&job->turn);
    tug_session_mark_destroy(&job->prompt_end);
    tug_prompt_cache_give(s->cache, &job->lease);
    job->state = TUG_JOB_DONE;
    tug_serve_remove(s, job);
}

static void send_whole(tug_job *job) {
    if (job->request.stream) {
        tug_http_end_stream(job->exchange);
    } else {
        tug_serve_send(job->exchange, 200, tug_answer_content_type(job->answer),
                       tug_buf_view(&job->out));
    }
}

static const char *end_name(tug_answer_end end) {
    switch (end) {
    case TUG_END_STOP: return "stop";
    case TUG_END_STOP_STRING: return "stop string";
    case TUG_END_LENGTH: return "length";
    case TUG_END_CONTEXT: return "context";
    case TUG_END_CALLS: return "tool calls";
    case TUG_END_LOOP: return "loop";
    }
    return "unknown";
}

bool tug_worker_on_prefill(void *ud, uint64_t done, uint64_t total) {
    const tug_serve *s = ud;
    (void)done, (void)total;
    return !s->in_step || !tug_http_gone(s->in_step->exchange);
}

void tug_worker_fail_job(tug_job *job, const tug_err *err) {
    const bool left = err->code == TUG_ECANCELED;
    tug_metrics_job(&job->serve->metrics, job, left ? "canceled" : "error");
    tug_job_fail(job, err->code, tug_str_of(err->msg));
    end_job(job);
}

/* What the GPU failed at is told to all that ran on it, this one among them. */
static void end_step(tug_job *job, const tug_err *err) {
    tug_serve *s = job->serve;
    if (err->code == TUG_EDEVICE && s->cache) {
        s->gpu_failure = *err;
    } else {
        tug_worker_fail_job(job, err);
    }
}

static void step(tug_job *job, bool shared) {
    tug_err err;
    bool done = false;
    tug_status status = TUG_OK;
    if (tug_http_gone(job->exchange)) {
        tug_metrics_job(&job->serve->metrics, job, "canceled");
        end_job(job);
        return;
    }
    if (!job->lease.session) status = start(job, &err);
    if (status == TUG_EBUSY) {
        /* No room beside those that run: when one of these ends, it is asked again. */
        job->not_before = tug_now() + BUSY_S;
        return;
    }
    if (status == TUG_OK) {
        job->serve->in_step = job;
        status = job->state == TUG_JOB_PREFILL ? prefill(job, shared, &err)
                                               : decode(job, &done, &err);
        job->serve->in_step = NULL;
    }
    if (status != TUG_OK) {
        end_step(job, &err);
    } else if (done) {
        tug_metrics_job(&job->serve->metrics, job, end_name(job->end));
        send_whole(job);
        end_job(job);
    }
}

/* ---- the round ----------------------------------------------------------------------- */

enum { MAX_RUNNING = 64 };

typedef struct piece_round {
    tug_job *job[MAX_RUNNING];
    int n;
    bool decoding; /* somebody waits for a token */
    double next;   /* when a delayed one may go on; INFINITY: none */
} piece_round;

static bool ready(tug_job *job, double now, piece_round *r) {
    if (tug_http_gone(job->exchange)) return true; /* to be ended */
    if (tug_http_backlog(job->exchange) > BACKLOG_BYTES) return false;
    if (job->not_before > now) {
        if (job->not_before < r->next) r->next = job->not_before;
        return false;
    }
    return true;
}

/* Which jobs get a piece now.  The first n_sessions of the queue have started or may; of
 * the others only those that are gone are looked at.  The lock is held. */
static void choose(tug_serve *s, piece_round *r) {
    const double now = tug_now();
    int n_started = 0;
    *r = (piece_round){.next = INFINITY};
    for (tug_job *job = s->jobs; job && r->n < MAX_RUNNING; job = job->next) {
        const bool may_run = n_started < s->config.n_sessions;
        if (may_run) n_started++;
        if (!may_run && !tug_http_gone(job->exchange)) continue;
        if (!ready(job, now, r)) continue;
        if (job->state == TUG_JOB_DECODE) r->decoding = true;
        r->job[r->n++] = job;
    }
    s->n_running = n_started;
}

/* With nothing to do: until somebody wakes us or a delay is over.  The lock is held. */
static void wait_for_work(tug_serve *s, double next) {
    struct timespec until;
    (void)tug_sys.clock_gettime(CLOCK_MONOTONIC, &until);
    double seconds = next - tug_now();
    if (!(seconds < 1.0)) seconds = 1.0;
    if (seconds < 0.0) return;
    const long nanos = until.tv_nsec + (long)(seconds * 1e9);
    until.tv_sec += nanos / 1000000000L;
    until.tv_nsec = nanos % 1000000000L;
    (void)pthread_cond_timedwait(&s->wake, &s->lock, &until);
}

void tug_worker_cancel_all(tug_serve *s) {
    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        tug_job *job = s->jobs;
        (void)pthread_mutex_unlock(&s->lock);
        if (!job) return;
        tug_metrics_job(&s->metrics, job, "canceled");
        tug_job_fail(job, TUG_ECANCELED,
                     tug_str_of("the server is shutting down; send the request again"));
        end_job(job);
    }
}

void *tug_worker_main(void *ud) {
    tug_serve *s = ud;
    piece_round r;
    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        choose(s, &r);
        while (r.n == 0 && !s->stopping) {
            wait_for_work(s, r.next);
            choose(s, &r);
        }
        const bool stopping = s->stopping;
        if (s->cache) s->cache_stats = tug_prompt_cache_get_stats(s->cache);
        s->streaming = tug_model_streaming(s->config.model);
        s->expert_memory = tug_model_expert_memory(s->config.model);
        (void)tug_model_gpu_now(s->config.model, false, &s->gpu);
        (void)pthread_mutex_unlock(&s->lock);
        if (stopping) break;
        for (int i = 0; i < r.n; i++) {
            step(r.job[i], r.decoding || r.n > 1);
            if (s->gpu_failure.code == TUG_OK || !s->cache) continue;
            tug_serve_leave_gpu(s);
            break; /* others of r may have ended */
        }
    }
    tug_worker_cancel_all(s);
    return NULL;
}
