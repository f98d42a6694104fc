/* recover.c - the GPU failed while the server runs: what ran on it ends with an error, and
 * the model is loaded again, for the CPU.  Requests that had not begun wait meanwhile.
 * SPDX-License-Identifier: MIT */
#include "serve/serve_impl.h"

static void say(const tug_serve *s, const char *sentence) {
    if (s->config.say) s->config.say(s->config.say_ud, sentence);
}

/* One that has a session; NULL: none. */
static tug_job *find_begun(tug_serve *s) {
    (void)pthread_mutex_lock(&s->lock);
    tug_job *job = s->jobs;
    while (job && !job->lease.session) job = job->next;
    (void)pthread_mutex_unlock(&s->lock);
    return job;
}

static void end_begun(tug_serve *s) {
    tug_err err;
    (void)TUG_FAIL(
        &err, TUG_EDEVICE,
        "the GPU failed, the model is loaded again without it: send the request "
        "again (%s)",
        s->gpu_failure.msg);
    for (tug_job *job; (job = find_begun(s)) != NULL;) tug_worker_fail_job(job, &err);
}

static bool on_load(void *ud, uint64_t done, uint64_t total) {
    tug_serve *s = ud;
    (void)done, (void)total;
    (void)pthread_mutex_lock(&s->lock);
    const bool stopping = s->stopping;
    (void)pthread_mutex_unlock(&s->lock);
    return !stopping;
}

/* Its name goes with the device. */
static void forget_gpu(tug_serve *s) {
    (void)pthread_mutex_lock(&s->lock);
    s->info.gpu = NULL;
    s->info.vram_bytes = s->info.vram_used = s->info.vram_sessions = 0;
    s->info.n_experts_on_gpu = 0;
    s->gpu = (tug_gpu_now){0};
    (void)pthread_mutex_unlock(&s->lock);
}

/* The model's name, sizes and vocabulary are what they were. */
static void update_info(tug_serve *s) {
    const tug_model_info now = tug_model_get_info(s->config.model);
    (void)pthread_mutex_lock(&s->lock);
    s->info.streamed = now.streamed;
    s->info.session_bytes = now.session_bytes;
    (void)pthread_mutex_unlock(&s->lock);
}

static tug_status reload(tug_serve *s, tug_err *err) {
    if (!s->config.reload) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED, "nobody said how to load it");
    }
    tug_model_params p = *s->config.reload;
    p.on_load = on_load;
    p.ud = s;
    TUG_TRY(tug_model_leave_gpu(s->config.model, &p, err));
    update_info(s);
    /* Clients were told of this context. */
    return tug_serve_make_cache(s, s->n_ctx, err);
}

void tug_serve_leave_gpu(tug_serve *s) {
    tug_err err;
    s->degraded = true;
    tug_metrics_gpu_failed(&s->metrics);
    say(s, s->gpu_failure.msg);
    end_begun(s);
    forget_gpu(s);
    tug_prompt_cache_destroy(&s->cache);
    if (reload(s, &err) == TUG_OK) {
        s->gpu_failure = (tug_err){0};
        s->degraded = false;
        say(s, "the model is loaded again: going on without the GPU");
        return;
    }
    (void)TUG_FAIL(&s->gpu_failure, TUG_EDEVICE,
                   "the GPU failed, and the model could not be loaded again without it: "
                   "start the server anew (%s)",
                   err.msg);
    say(s, s->gpu_failure.msg);
}
