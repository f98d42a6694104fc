/* pulse.c - the thread that keeps waiting clients from giving up.
 *
 * The worker may be busy with a piece of another's prompt for seconds, so it cannot do this.
 * SPDX-License-Identifier: MIT */
#include "base/sys.h"
#include "serve/serve_impl.h"

/* Clients are known to count 60 seconds of silence as death; ten is well below. */
#define SILENCE_S 10.0
/* A request that waits longer than this hears that it was accepted. */
#define WAIT_S 1.0

static void touch(tug_job *job, double now) {
    if (!job->request.stream) return;
    (void)pthread_mutex_lock(&job->lock);
    if (job->state == TUG_JOB_QUEUED && now - job->arrived > WAIT_S) {
        tug_job_begin_answer(job);
    }
    const double silent = now - job->last_sent;
    const bool progress =
        job->request.return_progress && job->state == TUG_JOB_PREFILL && silent > WAIT_S;
    if (job->begun && job->state != TUG_JOB_DONE && (silent > SILENCE_S || progress)) {
        tug_answer_alive(job->answer, job->n_done, (int64_t)job->prompt.ids.n, &job->out);
        tug_job_flush(job);
    }
    (void)pthread_mutex_unlock(&job->lock);
}

void *tug_pulse_main(void *ud) {
    tug_serve *s = ud;
    const struct timespec pause = {.tv_nsec = 250000000};
    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        const bool stopping = s->stopping;
        const double now = tug_now();
        for (tug_job *job = s->jobs; job && !stopping; job = job->next) touch(job, now);
        (void)pthread_mutex_unlock(&s->lock);
        if (stopping) return NULL;
        (void)nanosleep(&pause, NULL);
    }
}
