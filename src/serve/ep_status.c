/* ep_status.c - what the server does now, as JSON for the page and as text for Prometheus.
 * SPDX-License-Identifier: MIT */
#include <unistd.h>

#include "base/sys.h"
#include "serve/endpoints.h"
#include "serve/serve_impl.h"

/* ---- a moment's picture -------------------------------------------------------------- */

typedef struct snapshot {
    tug_totals totals;
    tug_recent recent[TUG_RECENT];
    size_t n_recent;
    double prefill, decode; /* tok/s, 0: nothing lately */
    tug_prompt_cache_stats cache;
    tug_streaming streaming;
    tug_expert_memory experts;
    tug_gpu_now gpu;
    int n_running, n_waiting;
} snapshot;

/* Speed over what happened in the last ten seconds. */
static double speed_now(const tug_speed *v, double now) {
    double tokens = 0.0, seconds = 0.0;
    const unsigned n = v->n < TUG_SPEED_WINDOW ? v->n : TUG_SPEED_WINDOW;
    for (unsigned i = 0; i < n; i++) {
        if (now - v->at[i] > 10.0) continue;
        tokens += v->tokens[i];
        seconds += v->seconds[i];
    }
    return seconds > 0.0 ? tokens / seconds : 0.0;
}

static void copy_metrics(snapshot *p, tug_metrics *m) {
    const double now = tug_now();
    (void)pthread_mutex_lock(&m->lock);
    p->totals = m->totals;
    p->prefill = speed_now(&m->prefill, now);
    p->decode = speed_now(&m->decode, now);
    p->n_recent = m->n_recent < TUG_RECENT ? (size_t)m->n_recent : TUG_RECENT;
    for (size_t i = 0; i < p->n_recent; i++) { /* the newest first */
        p->recent[i] = m->recent[(m->n_recent - 1 - i) % TUG_RECENT];
    }
    (void)pthread_mutex_unlock(&m->lock);
}

/* ---- JSON ---------------------------------------------------------------------------- */

static void key(tug_json_writer *w, const char *name) {
    tug_json_write_key(w, tug_str_of(name));
}
static void text(tug_json_writer *w, const char *name, const char *value) {
    key(w, name);
    tug_json_write_str(w, tug_str_of(value));
}
static void whole(tug_json_writer *w, const char *name, int64_t value) {
    key(w, name);
    tug_json_write_i64(w, value);
}
static void real(tug_json_writer *w, const char *name, double value) {
    key(w, name);
    tug_json_write_f64(w, value);
}
static void object(tug_json_writer *w, const char *name) {
    key(w, name);
    tug_json_begin_object(w);
}
static void array(tug_json_writer *w, const char *name) {
    key(w, name);
    tug_json_begin_array(w);
}

static void write_model(tug_json_writer *w, const tug_serve *s) {
    object(w, "model");
    text(w, "id", s->config.model_id);
    text(w, "name", s->info.name);
    text(w, "arch", s->info.arch);
    text(w, "path", s->config.model_path);
    whole(w, "n_params", (int64_t)s->info.n_params);
    whole(w, "n_bytes", (int64_t)s->info.n_bytes);
    whole(w, "n_ctx", s->n_ctx);
    whole(w, "n_layer", s->info.n_layer);
    text(w, "cpu_level", s->info.cpu_level);
    whole(w, "n_threads", s->info.n_threads);
    tug_json_end_object(w);
}

static void write_part(tug_json_writer *w, const char *name, uint64_t bytes) {
    tug_json_begin_object(w);
    text(w, "name", name);
    whole(w, "bytes", (int64_t)bytes);
    tug_json_end_object(w);
}

static void begin_tier(tug_json_writer *w, const char *name, uint64_t total,
                       uint64_t used) {
    tug_json_begin_object(w);
    text(w, "tier", name);
    whole(w, "total", (int64_t)total);
    whole(w, "used", (int64_t)used);
    array(w, "parts");
}

static void end_tier(tug_json_writer *w) {
    tug_json_end_array(w);
    tug_json_end_object(w);
}

/* Caches and states are where the model computes. */
static void write_states(tug_json_writer *w, const tug_prompt_cache_stats *c) {
    write_part(w, "kv cache", c->kv_bytes);
    write_part(w, "recurrent state", c->recurrent_bytes);
}

static void write_ram(tug_json_writer *w, const tug_serve *s, const snapshot *p) {
    const int64_t pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const tug_prompt_cache_stats *c = &p->cache;
    const tug_expert_memory *e = &p->experts;
    const bool on_gpu = p->gpu.vram_budget > 0;
    const uint64_t all = s->info.streamed ? e->dense_bytes + e->bytes : s->info.n_bytes;
    const uint64_t there = s->info.streamed ? 0 : p->gpu.dense_bytes;
    const uint64_t weights = all > there ? all - there : 0;
    const uint64_t states = on_gpu ? 0 : c->kv_bytes + c->recurrent_bytes;
    begin_tier(w, "RAM", pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0,
               weights + states + c->mark_bytes);
    write_part(w, s->info.streamed ? "dense weights" : "weights", weights - e->bytes);
    if (s->info.streamed) write_part(w, "experts", e->bytes);
    if (!on_gpu) write_states(w, c);
    write_part(w, "save points", c->mark_bytes);
    end_tier(w);
}

static void write_vram(tug_json_writer *w, const snapshot *p) {
    const tug_gpu_now *g = &p->gpu;
    begin_tier(w, "VRAM", g->vram_budget, g->vram_used);
    write_part(w, "dense weights", g->dense_bytes);
    write_part(w, "experts", g->expert_bytes);
    write_states(w, &p->cache);
    end_tier(w);
}

static void write_memory(tug_json_writer *w, const tug_serve *s, const snapshot *p) {
    array(w, "memory");
    if (p->gpu.vram_budget > 0) write_vram(w, p);
    write_ram(w, s, p);
    tug_json_end_array(w);
}

/* null: the CPU alone.  Counts since the model was loaded. */
static void write_gpu(tug_json_writer *w, const snapshot *p) {
    const tug_gpu_now *g = &p->gpu;
    const double uses = g->expert_hits + g->expert_misses;
    key(w, "gpu");
    if (g->vram_budget == 0) {
        tug_json_write_null(w);
        return;
    }
    tug_json_begin_object(w);
    real(w, "expert_uses", uses);
    real(w, "expert_hits", g->expert_hits);
    real(w, "promoted", g->promoted);
    real(w, "seeded", g->seeded);
    real(w, "returned", g->returned);
    real(w, "carried", g->carried);
    real(w, "expert_in_bytes", g->expert_in_bytes);
    real(w, "in_bytes", g->in_bytes);
    real(w, "out_bytes", g->out_bytes);
    tug_json_end_object(w);
}

static void write_speed(tug_json_writer *w, const snapshot *p) {
    object(w, "speed");
    real(w, "prefill_tok_s", p->prefill > 0.0 ? p->prefill : 0.0 / 0.0);
    real(w, "decode_tok_s", p->decode > 0.0 ? p->decode : 0.0 / 0.0);
    tug_json_end_object(w);
}

static const char *state_name(int state) {
    switch ((tug_job_state)state) {
    case TUG_JOB_QUEUED: return "queued";
    case TUG_JOB_PREFILL: return "prefill";
    case TUG_JOB_DECODE: return "decode";
    case TUG_JOB_DONE: return "done";
    }
    return "unknown";
}

/* The jobs now; the server's lock is held. */
static void write_running(tug_json_writer *w, const tug_serve *s) {
    array(w, "running");
    for (const tug_job *job = s->jobs; job; job = job->next) {
        tug_json_begin_object(w);
        text(w, "id", job->id_part);
        text(w, "api", tug_api_name(job->request.api));
        text(w, "state", state_name(job->state));
        whole(w, "n_prompt", (int64_t)job->prompt.ids.n);
        whole(w, "n_cached", job->n_cached);
        whole(w, "done", job->n_done);
        whole(w, "n_completion", job->n_completion);
        real(w, "age_s", tug_now() - job->arrived);
        tug_json_end_object(w);
    }
    tug_json_end_array(w);
}

static void write_recent(tug_json_writer *w, const snapshot *p) {
    array(w, "recent");
    for (size_t i = 0; i < p->n_recent; i++) {
        const tug_recent *r = &p->recent[i];
        tug_json_begin_object(w);
        text(w, "id", r->id);
        text(w, "api", r->api);
        real(w, "started", r->started);
        whole(w, "n_prompt", r->n_prompt);
        whole(w, "n_cached", r->n_cached);
        whole(w, "n_completion", r->n_completion);
        real(w, "prefill_s", r->prefill_s);
        real(w, "decode_s", r->decode_s);
        text(w, "end", r->end);
        tug_json_end_object(w);
    }
    tug_json_end_array(w);
}

static void write_cache(tug_json_writer *w, const tug_serve *s, const snapshot *p) {
    const tug_prompt_cache_stats *c = &p->cache;
    object(w, "cache");
    whole(w, "sessions", c->n_sessions - c->n_empty);
    whole(w, "max_sessions", s->config.n_sessions);
    whole(w, "bytes", (int64_t)(c->kv_bytes + c->recurrent_bytes + c->mark_bytes));
    whole(w, "ceiling", (int64_t)c->ceiling_bytes);
    whole(w, "reused_tokens", (int64_t)c->reused_tokens);
    whole(w, "computed_tokens", (int64_t)p->totals.prompt_tokens);
    tug_json_end_object(w);
}

void tug_ep_status(tug_serve *s, tug_http_exchange *x, tug_api api) {
    (void)api;
    snapshot p;
    tug_buf body = {0};
    copy_metrics(&p, &s->metrics);
    tug_json_writer w = tug_json_writer_make(&body, TUG_JSON_COMPACT);
    tug_json_begin_object(&w);
    text(&w, "version", s->config.version);
    real(&w, "uptime_s", tug_now() - s->started);
    write_model(&w, s);
    (void)pthread_mutex_lock(&s->lock);
    p.cache = s->cache_stats;
    p.streaming = s->streaming;
    p.experts = s->expert_memory;
    p.gpu = s->gpu;
    write_memory(&w, s, &p);
    write_gpu(&w, &p);
    write_speed(&w, &p);
    object(&w, "queue");
    whole(&w, "waiting", s->n_jobs - s->n_running);
    whole(&w, "running", s->n_running);
    whole(&w, "limit", s->config.n_queue);
    tug_json_end_object(&w);
    write_running(&w, s);
    (void)pthread_mutex_unlock(&s->lock);
    write_recent(&w, &p);
    write_cache(&w, s, &p);
    tug_json_end_object(&w);
    tug_serve_send_json(x, &body);
}

/* ---- Prometheus ---------------------------------------------------------------------- */

static void metric(tug_buf *out, const char *name, const char *type, const char *help,
                   double value) {
    tug_buf_printf(out, "# HELP tug_%s %s\n# TYPE tug_%s %s\ntug_%s %.17g\n", name, help,
                   name, type, name, value);
}

void tug_ep_metrics(tug_serve *s, tug_http_exchange *x, tug_api api) {
    snapshot p;
    tug_buf out = {0};
    tug_err err;
    const tug_http_server *http = s->http;
    copy_metrics(&p, &s->metrics);
    (void)pthread_mutex_lock(&s->lock);
    p.cache = s->cache_stats;
    p.streaming = s->streaming;
    p.experts = s->expert_memory;
    p.gpu = s->gpu;
    p.n_running = s->n_running;
    p.n_waiting = s->n_jobs - s->n_running;
    (void)pthread_mutex_unlock(&s->lock);
    const tug_totals *t = &p.totals;
    const tug_prompt_cache_stats *c = &p.cache;
    const tug_replay_stats turns = tug_replay_get_stats(s->replay);
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"requests_total", "counter", "answers that ended", (double)t->requests},
        {"errors_total", "counter", "answers that ended with an error",
         (double)t->errors},
        {"canceled_total", "counter", "answers whose client left", (double)t->canceled},
        {"refused_total", "counter", "requests refused at the door", (double)t->refused},
        {"gpu_failures_total", "counter", "times the GPU was given up",
         (double)t->gpu_failures},
        {"prompt_tokens_total", "counter", "prompt tokens computed",
         (double)t->prompt_tokens},
        {"prompt_seconds_total", "counter", "seconds spent on them", t->prompt_s},
        {"cached_tokens_total", "counter", "prompt tokens that were known",
         (double)t->cached_tokens},
        {"tokens_predicted_total", "counter", "tokens sampled",
         (double)t->sampled_tokens},
        {"tokens_predicted_seconds_total", "counter", "seconds spent on them",
         t->sampled_s},
        {"prompt_tokens_seconds", "gauge", "prefill tokens a second, last 10 s",
         p.prefill},
        {"predicted_tokens_seconds", "gauge", "decode tokens a second, last 10 s",
         p.decode},
        {"requests_processing", "gauge", "requests being computed", p.n_running},
        {"requests_deferred", "gauge", "requests waiting", p.n_waiting},
        {"connections", "gauge", "open connections",
         http ? tug_http_n_connections(http) : 0},
        {"cache_sessions", "gauge", "conversations kept", c->n_sessions - c->n_empty},
        {"experts_wanted_total", "counter",
         "experts that batches used, when not all are in memory", p.streaming.wanted},
        {"experts_hit_total", "counter", "of these, in memory when asked for",
         p.streaming.hits},
        {"experts_read_bytes_total", "counter", "bytes of experts read from the file",
         p.streaming.read_bytes},
        {"experts_waited_seconds_total", "counter",
         "seconds with nothing to compute until they came", p.streaming.waited_s},
        {"experts_memory_bytes", "gauge", "memory that experts from the file have",
         (double)p.experts.bytes},
        {"vram_budget_bytes", "gauge", "VRAM that may be used; 0: no GPU",
         (double)p.gpu.vram_budget},
        {"vram_used_bytes", "gauge", "VRAM that is used", (double)p.gpu.vram_used},
        {"vram_experts_bytes", "gauge", "of it, for experts", (double)p.gpu.expert_bytes},
        {"pcie_in_bytes_total", "counter", "bytes copied to the GPU", p.gpu.in_bytes},
        {"pcie_out_bytes_total", "counter", "bytes copied from the GPU", p.gpu.out_bytes},
        {"vram_expert_hits_total", "counter",
         "uses of experts by tokens that found them in VRAM, where not all of a layer "
         "are",
         p.gpu.expert_hits},
        {"vram_expert_misses_total", "counter", "... and that did not",
         p.gpu.expert_misses},
        {"vram_experts_promoted_total", "counter",
         "experts that got a place in VRAM while tokens were generated", p.gpu.promoted},
        {"vram_experts_seeded_total", "counter",
         "... and between a prompt and its answer", p.gpu.seeded},
        {"vram_experts_returned_total", "counter",
         "experts that lost that place and came back to RAM", p.gpu.returned},
        {"vram_experts_carried_total", "counter",
         "experts copied to the GPU for one batch", p.gpu.carried},
        {"pcie_expert_bytes_total", "counter", "bytes of experts copied to the GPU",
         p.gpu.expert_in_bytes},
        {"cache_bytes", "gauge", "bytes of their state",
         (double)(c->kv_bytes + c->recurrent_bytes + c->mark_bytes)},
        {"replay_turns", "gauge", "finished turns whose tokens are known",
         (double)turns.n_turns},
        {"replay_bytes", "gauge", "bytes of these", (double)turns.n_bytes},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        metric(&out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    }
    if (tug_buf_ok(&out, &err) == TUG_OK) {
        tug_serve_send(x, 200, "text/plain; version=0.0.4", tug_buf_view(&out));
    } else {
        tug_serve_refuse_err(x, api, &err);
    }
    tug_buf_free(&out);
}
