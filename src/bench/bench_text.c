/* bench_text.c - the result of a bench for people.  SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "bench/bench_report.h"

/* "Prefill is compute-bound: ..." of one kind; false when it was not measured. */
static bool clause(const tug_bench *b, tug_bench_kind kind, const char *subject,
                   tug_bound *bound, tug_buf *out) {
    tug_bench_case sum;
    tug_bench_sum(b, kind, &sum);
    if (sum.n == 0) return false;
    const tug_limits limits = tug_bench_limits(&sum);
    const tug_verdict v = tug_bench_verdict(&sum);
    *bound = v.bound;
    tug_buf_printf(out, "%s is ", subject);
    tug_verdict_say(&v, &limits, out);
    return true;
}

void tug_bench_sentence(const tug_bench *b, tug_buf *out) {
    tug_buf decode = {0};
    tug_bound one = TUG_BOUND_COUNT, other = TUG_BOUND_COUNT;
    const bool prefill = clause(b, TUG_BENCH_PREFILL, "Prefill", &one, out);
    if (clause(b, TUG_BENCH_DECODE, prefill ? "decode" : "Decode", &other, &decode)) {
        if (!prefill || one != TUG_BOUND_STARVED || other != TUG_BOUND_STARVED) {
            tug_buf_text(out, prefill ? "; " : "");
            tug_buf_str(out, tug_buf_view(&decode));
        } else {
            tug_buf_text(out, "; decode likewise"); /* the same advice twice is noise */
        }
    }
    if (out->n > 0) tug_buf_char(out, '.');
    tug_buf_free(&decode);
}

void tug_bench_formula(tug_line fit, tug_buf *out) {
    if (!fit.ok) return;
    tug_buf_printf(out, "t(d) = %.4g ms %c %.4g ns d", fit.a * 1e3,
                   fit.b < 0.0 ? '-' : '+', (fit.b < 0.0 ? -fit.b : fit.b) * 1e9);
}

/* "3.9 GB" or "56 MB". */
static void say_bytes(char text[32], uint64_t bytes) {
    const double n = (double)bytes;
    (void)snprintf(text, 32, n >= 1e9 ? "%.1f GB" : "%.0f MB",
                   n >= 1e9 ? n * 1e-9 : n * 1e-6);
}

static void head(const tug_bench *b, const tug_bench_subject *s, tug_buf *out) {
    char size[32];
    const char *slash = strrchr(s->path, '/');
    say_bytes(size, s->model.n_bytes);
    tug_buf_printf(out,
                   "%s, %s · %s, %d of %d processors · batches of %lld, cache %s · "
                   "tok/s: median (min..max) of %d\n\n",
                   slash ? slash + 1 : s->path, size, s->model.cpu_level,
                   s->model.n_threads, s->n_processors, (long long)s->n_batch,
                   s->cache_type, b->spec.n_reps);
}

/* ---- the table of contexts ----------------------------------------------------------- */

static void spread_text(char text[64], const tug_bench_case *c) {
    const tug_spread s = tug_spread_of(c ? c->tok_s : NULL, c ? c->n : 0);
    if (s.n == 0) {
        (void)snprintf(text, 64, "-");
    } else if (s.n == 1) {
        (void)snprintf(text, 64, "%.1f", s.median);
    } else {
        (void)snprintf(text, 64, "%.1f (%.1f..%.1f)", s.median, s.min, s.max);
    }
}

static const tug_bench_case *at_x(const tug_bench *b, tug_bench_kind kind, int64_t x) {
    for (int i = 0; i < b->n_cases; i++) {
        const tug_bench_case *c = &b->cases[i];
        if (c->kind == kind && tug_bench_x(c) == x && c->n > 0) return c;
    }
    return NULL;
}

static void contexts_table(const tug_bench *b, tug_buf *out) {
    char ram[32], vram[32] = "-";
    say_bytes(ram, tug_bench_ram(b));
    if (b->on_gpu) say_bytes(vram, b->gpu.vram_peak);
    tug_buf_printf(out, "%8s  %14s  %-26s  %5s  %8s  %8s  %5s\n", "context",
                   "prefill tok/s", "decode tok/s", "batch", "VRAM", "RAM", "CPU");
    for (int d = 0; d < b->spec.n_depths; d++) {
        const int64_t x = b->spec.depths[d];
        const tug_bench_case *p = at_x(b, TUG_BENCH_PREFILL, x),
                             *g = at_x(b, TUG_BENCH_DECODE, x);
        char prefill[64], decode[64];
        if (!p && !g) continue;
        spread_text(prefill, p);
        spread_text(decode, g);
        tug_buf_printf(out, "%8lld  %14s  %-26s  %5d  %8s  %8s  %3.0f %%\n", (long long)x,
                       prefill, decode, 1, vram, ram, 100 * tug_bench_cpu(g ? g : p));
    }
}

/* ---- the table of cases -------------------------------------------------------------- */

static void cases_table(const tug_bench *b, tug_buf *out) {
    tug_buf_printf(out, "%8s  %-13s  %-26s  %5s  %9s  %8s  %s\n", "depth", "test",
                   "tok/s", "CPU", "bandwidth", "multiply", "bound by");
    for (int i = 0; i < b->n_cases; i++) {
        const tug_bench_case *c = &b->cases[i];
        char test[32], speed[64];
        if (c->n == 0) continue;
        const tug_verdict v = tug_bench_verdict(c);
        (void)snprintf(test, sizeof test, "%s %lld",
                       c->kind == TUG_BENCH_DECODE ? "decode" : "prefill",
                       (long long)c->n_tokens);
        spread_text(speed, c);
        if (v.on_gpu) { /* the GPU's bandwidth; nobody counts its multiplications' time */
            tug_buf_printf(out, "%8lld  %-13s  %-26s  %3.0f %%  %7.0f %%  %6s    %s\n",
                           (long long)c->depth, test, speed, 100 * tug_bench_cpu(c),
                           100 * v.gpu_read, "-", tug_bound_name(v.bound));
            continue;
        }
        tug_buf_printf(out, "%8lld  %-13s  %-26s  %3.0f %%  %7.0f %%  %6.0f %%  %s\n",
                       (long long)c->depth, test, speed, 100 * tug_bench_cpu(c),
                       100 * v.bandwidth, 100 * v.compute, tug_bound_name(v.bound));
    }
}

/* ---- stages -------------------------------------------------------------------------- */

static void stage_row(const char *name, double seconds, double all, const tug_work *w,
                      const tug_limits *l, double n_tok, tug_buf *out) {
    const double b = tug_work_bandwidth_s(w, l), c = tug_work_compute_s(w, l);
    tug_buf_printf(out, "  %-10s %9.3f  %4.0f %%", name, 1e3 * seconds / n_tok,
                   100 * seconds / all);
    if (w->bytes > 0.0 || w->macs_int8 + w->macs_f32 > 0.0) {
        tug_buf_printf(
            out, "  %9.3f  %9.3f  %6.1f  %7.1f  %4.0f %% of %s", 1e-6 * w->bytes / n_tok,
            1e-6 * (w->macs_int8 + w->macs_f32) / n_tok, 1e-9 * w->bytes / seconds,
            1e-9 * (w->macs_int8 + w->macs_f32) / seconds,
            100 * (b > c ? b : c) / seconds, b > c ? "bandwidth" : "peak");
    }
    tug_buf_char(out, '\n');
}

static void streaming_line(const tug_bench_case *c, double n_tok, double all,
                           tug_buf *out) {
    const tug_streaming *s = &c->profile.streaming;
    if (s->wanted <= 0.0) return;
    tug_buf_printf(
        out,
        "  experts from the file: %.1f %% were in memory, %.1f %% on their way; "
        "%.1f MB a token at %.2f GB/s; waited %.0f %% of the time\n",
        100 * s->hits / s->wanted, 100 * s->early / s->wanted,
        1e-6 * s->read_bytes / n_tok,
        s->reading_s > 0.0 ? 1e-9 * s->read_bytes / s->reading_s : 0.0,
        100 * s->waited_s / all);
}

/* ---- the GPU and the plan ------------------------------------------------------------- */

/* What it must at least read, by stage; the host's clock does not see it compute. */
static void gpu_stages(const tug_bench_case *c, double n_tok, tug_buf *out) {
    tug_buf_printf(out, "  GPU, at its measured %.0f GB/s  %9s  %8s  %s\n",
                   1e-9 * c->gpu.limits.read_bytes_s, "MB/token", "least ms",
                   "of the time");
    for (int i = 0; i < TUG_STAGE_COUNT; i++) {
        const double share = tug_gpu_stage_share(&c->gpu, &c->profile, (tug_stage)i);
        if (share <= 0.0) continue;
        tug_buf_printf(out, "    %-28s %9.3f  %8.3f  %4.0f %%\n",
                       tug_stage_name((tug_stage)i),
                       1e-6 * c->profile.stage[i].work.bytes / n_tok,
                       1e3 * share * c->gpu.seconds / n_tok, 100 * share);
    }
}

/* Of layers whose experts are not all there. */
static void gpu_experts(const tug_gpu_load *g, double n_tok, tug_buf *out) {
    const double rate = tug_gpu_load_hit_rate(g);
    if (rate < 0.0) return;
    tug_buf_printf(
        out,
        "  experts: %.1f %% of their uses were in VRAM; %.2f promoted and %.2f "
        "carried a token, %.0f moved after prompts, %.3f MB a token for these\n",
        100 * rate, g->promoted / n_tok, g->carried / n_tok, g->seeded,
        1e-6 * g->expert_in_bytes / n_tok);
}

static void gpu_lines(const tug_bench_case *c, double n_tok, tug_buf *out) {
    const tug_gpu_load *g = &c->gpu;
    if (g->seconds <= 0.0) return;
    gpu_stages(c, n_tok, out);
    tug_buf_printf(
        out,
        "  PCIe: %.3f MB in and %.3f MB out a token, %.2f of the measured %.1f "
        "GB/s; a handoff takes %.0f us; %.0f kernels a token\n",
        1e-6 * g->in_bytes / n_tok, 1e-6 * g->out_bytes / n_tok,
        1e-9 * tug_gpu_load_link_bytes_s(g), 1e-9 * g->limits.link_bytes_s,
        1e6 * g->limits.handoff_s, g->launches / n_tok);
    gpu_experts(g, n_tok, out);
    if (g->n_busy > 0)
        tug_buf_printf(out, "  the GPU was busy %.0f %%", 100 * g->busy / g->n_busy);
    if (g->joules > 0.0) {
        tug_buf_printf(out, "%s %.0f W, %.2f tokens a joule",
                       g->n_busy > 0 ? " at" : "  the GPU took", tug_gpu_load_watts(g),
                       tug_gpu_load_tokens_per_joule(g));
    }
    if (g->n_busy > 0 || g->joules > 0.0) tug_buf_char(out, '\n');
}

static void plan_line(const tug_bench_case *c, tug_buf *out) {
    if (c->predicted_tok_s <= 0.0) return;
    tug_buf_printf(out,
                   "  the plan with these limits: %.1f tok/s; measured: %.0f %% of it\n",
                   c->predicted_tok_s,
                   100 * tug_spread_of(c->tok_s, c->n).median / c->predicted_tok_s);
}

/* Of the whole run. */
static void gpu_end(const tug_bench *b, const tug_bench_subject *s, tug_buf *out) {
    const tug_gpu_now *g = &b->gpu;
    char peak[32], budget[32];
    if (!b->on_gpu) return;
    say_bytes(peak, g->vram_peak);
    say_bytes(budget, g->vram_budget);
    tug_buf_printf(out, "%s: peak VRAM %s of %s", s->model.gpu, peak, budget);
    if (g->others > 0.0) {
        say_bytes(peak, (uint64_t)g->others);
        tug_buf_printf(out, ", other processes have %s", peak);
    }
    if (g->link_gen > 0) {
        tug_buf_printf(out, "; PCIe %d.0 x%d of %d.0 x%d", g->link_gen, g->link_width,
                       g->link_max_gen, g->link_max_width);
    }
    if (g->sm_mhz > 0) {
        tug_buf_printf(out, "; clocks %d and %d MHz", g->sm_mhz, g->memory_mhz);
    }
    if (!g->told) tug_buf_printf(out, "; %s", g->why_not);
    tug_buf_char(out, '\n');
}

static void stages(const tug_bench_case *c, tug_buf *out) {
    const tug_limits l = tug_bench_limits(c);
    const tug_verdict v = tug_bench_verdict(c);
    const double n_tok = (double)c->n_tokens * c->n;
    double all = 0.0;
    tug_work sum = {0};
    for (int i = 0; i < TUG_STAGE_COUNT; i++) {
        all += c->profile.stage[i].seconds;
        sum.bytes += c->profile.stage[i].work.bytes;
        sum.macs_int8 += c->profile.stage[i].work.macs_int8;
        sum.macs_f32 += c->profile.stage[i].work.macs_f32;
    }
    tug_buf_printf(out,
                   "\n%s of %lld at depth %lld; measured limits %.1f GB/s, %.0f "
                   "GMAC/s int8, %.0f GMAC/s f32\n",
                   c->kind == TUG_BENCH_DECODE ? "decode" : "prefill",
                   (long long)c->n_tokens, (long long)c->depth, 1e-9 * l.read_bytes_s,
                   1e-9 * l.int8_macs_s, 1e-9 * l.f32_macs_s);
    if (v.on_gpu) {
        tug_buf_text(out, "  times are the host's: a GPU computes behind it, and this "
                          "table's limits are the processor's\n");
    }
    tug_buf_printf(out, "  %-10s %9s  %6s  %9s  %9s  %6s  %7s  %s\n", "stage", "ms/token",
                   "time", "MB/token", "MMAC/tok", "GB/s", "GMAC/s", "of limit");
    for (int i = 1; i <= TUG_STAGE_COUNT; i++) { /* "other" is the last one */
        const tug_stage_profile *s = &c->profile.stage[i % TUG_STAGE_COUNT];
        if (s->seconds <= 0.0) continue;
        stage_row(tug_stage_name((tug_stage)(i % TUG_STAGE_COUNT)), s->seconds, all,
                  &s->work, &l, n_tok, out);
    }
    stage_row("all", all, all, &sum, &l, n_tok, out);
    tug_buf_printf(out,
                   "  of the threads' time: %.0f %% barrier wait, %.0f %% while one "
                   "works alone, %.0f %% waiting for a processor\n",
                   100 * v.wait, 100 * v.alone, 100 * v.starved);
    streaming_line(c, n_tok, all, out);
    gpu_lines(c, n_tok, out);
    plan_line(c, out);
}

static void deepest_stages(const tug_bench *b, tug_buf *out) {
    for (int kind = TUG_BENCH_PREFILL; kind <= TUG_BENCH_DECODE; kind++) {
        const tug_bench_case *last = NULL;
        for (int i = 0; i < b->n_cases; i++) {
            const tug_bench_case *c = &b->cases[i];
            if ((int)c->kind == kind && c->n > 0 && c->profile.n_tokens > 0) last = c;
        }
        if (last) stages(last, out);
    }
}

static void formulas(const tug_bench *b, tug_buf *out) {
    const int n_prefill = b->spec.contexts ? 1 : b->spec.n_prompts;
    for (int i = 0; i <= n_prefill; i++) {
        const bool decode = i == n_prefill;
        const int64_t n = decode ? b->spec.n_decode : b->spec.prompts[i];
        const tug_line fit =
            tug_bench_fit(b, decode ? TUG_BENCH_DECODE : TUG_BENCH_PREFILL, n);
        if (!fit.ok) continue;
        tug_buf_text(out, decode ? "\ndecode, time of a token: "
                                 : "\nprefill, time of a token: ");
        tug_bench_formula(fit, out);
    }
}

void tug_bench_text(const tug_bench *b, const tug_bench_subject *s, tug_buf *out) {
    tug_buf sentence = {0};
    char ram[32], anon[32], file[32];
    head(b, s, out);
    if (b->spec.contexts) {
        contexts_table(b, out);
    } else {
        cases_table(b, out);
    }
    deepest_stages(b, out);
    formulas(b, out);
    say_bytes(ram, tug_bench_ram(b));
    say_bytes(anon, b->rss.anon > b->probe_bytes ? b->rss.anon - b->probe_bytes : 0);
    say_bytes(file, b->rss.file);
    tug_buf_printf(out, "\npeak RAM %s; at the end %s of its own and %s of the file\n",
                   ram, anon, file);
    gpu_end(b, s, out);
    tug_buf_char(out, '\n');
    tug_bench_sentence(b, &sentence);
    tug_buf_str(out, sentence.n ? tug_buf_view(&sentence)
                                : tug_str_of("Nothing was measured."));
    tug_buf_char(out, '\n');
    tug_buf_free(&sentence);
}
