/* bench_json.c - the result of a bench for programs; docs/BENCH.md lists the members.
 * SPDX-License-Identifier: MIT */
#include "bench/bench_report.h"
#include "json/json.h"

static void key(tug_json_writer *w, const char *name) {
    tug_json_write_key(w, tug_str_of(name));
}

static void text(tug_json_writer *w, const char *name, const char *value) {
    key(w, name);
    tug_json_write_str(w, tug_str_of(value));
}

static void number(tug_json_writer *w, const char *name, double value) {
    key(w, name);
    tug_json_write_f64(w, value);
}

static void whole(tug_json_writer *w, const char *name, int64_t value) {
    key(w, name);
    tug_json_write_i64(w, value);
}

static void truth(tug_json_writer *w, const char *name, bool value) {
    key(w, name);
    tug_json_write_bool(w, value);
}

static void spread(tug_json_writer *w, const char *name, const double *v, int n) {
    const tug_spread s = tug_spread_of(v, n);
    key(w, name);
    tug_json_begin_object(w);
    number(w, "median", s.median);
    number(w, "min", s.min);
    number(w, "max", s.max);
    key(w, "all");
    tug_json_begin_array(w);
    for (int i = 0; i < n; i++) tug_json_write_f64(w, v[i]);
    tug_json_end_array(w);
    tug_json_end_object(w);
}

static double share(double part, double whole_) {
    return whole_ > 0.0 ? part / whole_ : 0.0;
}

/* Per repetition; shares of the limits. */
static void write_stage(tug_json_writer *w, const tug_bench_case *c, int i,
                        const tug_limits *l) {
    const tug_stage_profile *s = &c->profile.stage[i];
    const double b = tug_work_bandwidth_s(&s->work, l),
                 m = tug_work_compute_s(&s->work, l);
    tug_json_begin_object(w);
    text(w, "stage", tug_stage_name((tug_stage)i));
    number(w, "seconds", s->seconds / c->n);
    number(w, "busy_s", s->busy_s / c->n);
    number(w, "wait_s", s->wait_s / c->n);
    number(w, "alone_s", s->alone_s / c->n);
    number(w, "bytes", s->work.bytes / c->n);
    number(w, "macs_int8", s->work.macs_int8 / c->n);
    number(w, "macs_f32", s->work.macs_f32 / c->n);
    number(w, "bandwidth_share", share(b, s->seconds));
    number(w, "compute_share", share(m, s->seconds));
    tug_json_end_object(w);
}

static void write_verdict(tug_json_writer *w, const tug_verdict *v, const tug_limits *l) {
    tug_buf sentence = {0};
    tug_verdict_say(v, l, &sentence);
    key(w, "bound");
    tug_json_begin_object(w);
    text(w, "by", tug_bound_name(v->bound));
    number(w, "bandwidth_share", v->bandwidth);
    number(w, "compute_share", v->compute);
    number(w, "starved_share", v->starved);
    number(w, "wait_share", v->wait);
    number(w, "alone_share", v->alone);
    if (v->on_gpu) {
        number(w, "gpu_read_share", v->gpu_read);
        number(w, "pcie_share", v->gpu_link);
    }
    text(w, "largest_stage", tug_stage_name(v->stage));
    key(w, "sentence");
    tug_json_write_str(w, tug_buf_view(&sentence));
    tug_json_end_object(w);
    tug_buf_free(&sentence);
}

static void write_load(tug_json_writer *w, const tug_bench_case *c) {
    const tug_load *l = &c->load;
    key(w, "load");
    tug_json_begin_object(w);
    number(w, "wall_s", l->wall_s);
    number(w, "cpu_s", l->cpu_s);
    number(w, "cpu_share", tug_bench_cpu(c));
    key(w, "run_delay_s");
    if (l->has_run_delay) {
        tug_json_write_f64(w, l->run_delay_s);
    } else {
        tug_json_write_null(w);
    }
    number(w, "steal_s", l->steal_s);
    number(w, "others_cpu_s", l->others_s);
    whole(w, "voluntary_switches", l->switches);
    whole(w, "involuntary_switches", l->preemptions);
    tug_json_end_object(w);
}

/* Experts from the file, per token; absent when all are in memory. */
static void write_streaming(tug_json_writer *w, const tug_bench_case *c) {
    const tug_streaming *s = &c->profile.streaming;
    if (s->wanted <= 0.0) return;
    const double n = (double)c->profile.n_tokens;
    key(w, "streaming");
    tug_json_begin_object(w);
    number(w, "hit_rate", s->hits / s->wanted);
    number(w, "early_rate", s->early / s->wanted);
    number(w, "read_bytes", s->read_bytes / n);
    number(w, "reading_s", s->reading_s / n);
    number(w, "waited_s", s->waited_s / n);
    number(w, "disk_bytes_s", s->reading_s > 0.0 ? s->read_bytes / s->reading_s : 0.0);
    tug_json_end_object(w);
}

/* A number that 0 stands for when nobody told it. */
static void told(tug_json_writer *w, const char *name, double value) {
    key(w, name);
    if (value > 0.0) {
        tug_json_write_f64(w, value);
    } else {
        tug_json_write_null(w);
    }
}

/* A number that is negative when there is none. */
static void not_negative(tug_json_writer *w, const char *name, double value) {
    key(w, name);
    if (value >= 0.0) {
        tug_json_write_f64(w, value);
    } else {
        tug_json_write_null(w);
    }
}

/* The GPU's part of a case; absent when there is none. */
static void write_gpu_case(tug_json_writer *w, const tug_bench_case *c) {
    const tug_gpu_load *g = &c->gpu;
    if (g->seconds <= 0.0) return;
    key(w, "gpu");
    tug_json_begin_object(w);
    number(w, "pcie_in_bytes_per_token", share(g->in_bytes, g->n_tokens));
    number(w, "pcie_out_bytes_per_token", share(g->out_bytes, g->n_tokens));
    number(w, "pcie_bytes_s", tug_gpu_load_link_bytes_s(g));
    number(w, "kernels_per_token", share(g->launches, g->n_tokens));
    not_negative(w, "vram_hit_rate", tug_gpu_load_hit_rate(g));
    number(w, "promoted_per_token", share(g->promoted, g->n_tokens));
    number(w, "returned_per_token", share(g->returned, g->n_tokens));
    number(w, "carried_per_token", share(g->carried, g->n_tokens));
    number(w, "seeded", share(g->seeded, c->n));
    number(w, "pcie_expert_bytes_per_token", share(g->expert_in_bytes, g->n_tokens));
    not_negative(w, "busy_share", g->n_busy > 0 ? g->busy / g->n_busy : -1.0);
    told(w, "watts", tug_gpu_load_watts(g));
    told(w, "tokens_per_joule", tug_gpu_load_tokens_per_joule(g));
    key(w, "limits");
    tug_json_begin_object(w);
    number(w, "read_bytes_s", g->limits.read_bytes_s);
    number(w, "read_bytes", g->limits.read_bytes);
    number(w, "pcie_bytes_s", g->limits.link_bytes_s);
    number(w, "handoff_s", g->limits.handoff_s);
    tug_json_end_object(w);
    key(w, "stage_limit_shares");
    tug_json_begin_object(w);
    for (int i = 0; i < TUG_STAGE_COUNT; i++) {
        const double of_time = tug_gpu_stage_share(g, &c->profile, (tug_stage)i);
        if (of_time > 0.0) number(w, tug_stage_name((tug_stage)i), of_time);
    }
    tug_json_end_object(w);
    tug_json_end_object(w);
}

static void write_case(tug_json_writer *w, const tug_bench_case *c) {
    const tug_limits l = tug_bench_limits(c);
    const tug_verdict v = tug_bench_verdict(c);
    tug_json_begin_object(w);
    text(w, "test", c->kind == TUG_BENCH_DECODE ? "decode" : "prefill");
    whole(w, "depth", c->depth);
    whole(w, "tokens", c->n_tokens);
    truth(w, "while_filling", c->filling);
    whole(w, "repetitions", c->n);
    spread(w, "tok_s", c->tok_s, c->n);
    spread(w, "tok_s_without_sampling", c->model_tok_s, c->n);
    told(w, "predicted_tok_s", c->predicted_tok_s);
    key(w, "limits");
    tug_json_begin_object(w);
    spread(w, "read_bytes_s", c->read_bytes_s, c->n_limits);
    spread(w, "int8_macs_s", c->int8_macs_s, c->n_limits);
    spread(w, "f32_macs_s", c->f32_macs_s, c->n_limits);
    number(w, "cache_bytes", c->cache_bytes);
    tug_json_end_object(w);
    key(w, "stages");
    tug_json_begin_array(w);
    for (int i = 0; i < TUG_STAGE_COUNT; i++) write_stage(w, c, i, &l);
    tug_json_end_array(w);
    write_streaming(w, c);
    write_gpu_case(w, c);
    write_load(w, c);
    write_verdict(w, &v, &l);
    tug_json_end_object(w);
}

static void write_fit(tug_json_writer *w, const tug_bench *b, tug_bench_kind kind,
                      int64_t n_tokens) {
    const tug_line fit = tug_bench_fit(b, kind, n_tokens);
    if (!fit.ok) return;
    tug_json_begin_object(w);
    text(w, "test", kind == TUG_BENCH_DECODE ? "decode" : "prefill");
    whole(w, "tokens", n_tokens); /* 0: whole prompts */
    number(w, "a_s", fit.a);
    number(w, "b_s_per_token", fit.b);
    tug_json_end_object(w);
}

static void write_subject(tug_json_writer *w, const tug_bench *b,
                          const tug_bench_subject *s) {
    text(w, "model", s->path);
    text(w, "name", s->model.name);
    whole(w, "parameters", (int64_t)s->model.n_params);
    whole(w, "model_bytes", (int64_t)s->model.n_bytes);
    text(w, "cpu_level", s->model.cpu_level);
    whole(w, "threads", s->model.n_threads);
    whole(w, "processors", s->n_processors);
    whole(w, "context", s->n_ctx);
    whole(w, "batch", s->n_batch);
    text(w, "cache_type", s->cache_type);
    whole(w, "seed", (int64_t)b->spec.seed);
}

static void write_memory(tug_json_writer *w, const tug_bench *b) {
    key(w, "memory");
    tug_json_begin_object(w);
    whole(w, "peak_ram_bytes", (int64_t)tug_bench_ram(b));
    whole(w, "peak_rss_bytes", (int64_t)b->rss.peak);
    whole(w, "probe_bytes", (int64_t)b->probe_bytes);
    whole(w, "rss_anon_bytes", (int64_t)b->rss.anon);
    whole(w, "rss_file_bytes", (int64_t)b->rss.file);
    told(w, "vram_bytes", (double)b->gpu.vram_peak);
    told(w, "vram_budget_bytes", (double)b->gpu.vram_budget);
    tug_json_end_object(w);
}

/* null: the CPU alone. */
static void write_gpu(tug_json_writer *w, const tug_bench *b,
                      const tug_bench_subject *s) {
    const tug_gpu_now *g = &b->gpu;
    key(w, "gpu");
    if (!b->on_gpu) {
        tug_json_write_null(w);
        return;
    }
    tug_json_begin_object(w);
    text(w, "name", s->model.gpu);
    whole(w, "experts", s->model.n_experts_on_gpu);
    truth(w, "told", g->told);
    if (!g->told) text(w, "why_not", g->why_not);
    told(w, "watts_limit", g->watts_limit);
    told(w, "pcie_generation", g->link_gen);
    told(w, "pcie_lanes", g->link_width);
    told(w, "pcie_generation_most", g->link_max_gen);
    told(w, "pcie_lanes_most", g->link_max_width);
    told(w, "sm_mhz", g->sm_mhz);
    told(w, "memory_mhz", g->memory_mhz);
    not_negative(w, "vram_of_others_bytes", g->others);
    tug_json_end_object(w);
}

void tug_bench_json(const tug_bench *b, const tug_bench_subject *s, tug_buf *out) {
    tug_json_writer writer = tug_json_writer_make(out, TUG_JSON_PRETTY), *w = &writer;
    tug_buf sentence = {0};
    tug_bench_sentence(b, &sentence);
    tug_json_begin_object(w);
    write_subject(w, b, s);
    truth(w, "interrupted", b->interrupted);
    write_memory(w, b);
    write_gpu(w, b, s);
    key(w, "cases");
    tug_json_begin_array(w);
    for (int i = 0; i < b->n_cases; i++) {
        if (b->cases[i].n > 0) write_case(w, &b->cases[i]);
    }
    tug_json_end_array(w);
    key(w, "fits");
    tug_json_begin_array(w);
    for (int i = 0; i < b->spec.n_prompts; i++) {
        write_fit(w, b, TUG_BENCH_PREFILL, b->spec.prompts[i]);
    }
    if (b->spec.contexts) write_fit(w, b, TUG_BENCH_PREFILL, 0);
    write_fit(w, b, TUG_BENCH_DECODE, b->spec.n_decode);
    tug_json_end_array(w);
    key(w, "bound");
    tug_json_write_str(w, tug_buf_view(&sentence));
    tug_json_end_object(w);
    tug_buf_char(out, '\n');
    tug_buf_free(&sentence);
}
