/* cmd_bench.c - `tug bench`: how fast a model is here, and what bounds it.
 *
 * This file turns flags into a tug_bench_spec, refuses what cannot be measured before
 * anything is loaded, and prints.  What is measured is src/bench, docs/BENCH.md.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/outfile.h"
#include "bench/bench_report.h"
#include "cli/cli.h"
#include "cli/cli_model.h"
#include "cli/interrupt.h"

enum { OPT_JSON = CLI_OPT_OWN, OPT_PLOT, OPT_SEED };
enum { DEFAULT_PROMPT = 512, DEFAULT_DECODE = 64, DEFAULT_REPS = 5, CONTEXT_REPS = 3 };

static const char short_options[] = ":hp:n:d:r:" CLI_ENGINE_SHORT;

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"prompt", required_argument, NULL, 'p'},
    {"predict", required_argument, NULL, 'n'},
    {"depth", required_argument, NULL, 'd'},
    {"repeat", required_argument, NULL, 'r'},
    {"json", no_argument, NULL, OPT_JSON},
    {"plot", required_argument, NULL, OPT_PLOT},
    {"seed", required_argument, NULL, OPT_SEED},
    CLI_ENGINE_LONG,
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "usage: tug bench -m FILE [options]\n"
    "\n"
    "Prefill and decode speed at several depths of context, the limits of this\n"
    "machine measured beside them, and what bounds the model.\n"
    "\n"
    "Without -p and -d: contexts of 8K, 16K, 32K and 64K tokens, as far as the\n"
    "model was trained for them; prefill is then the whole prompt.\n"
    "\n"
    "  -p, --prompt LIST         prefill so many tokens (default 512): 512,2048\n"
    "  -n, --predict N           decode N tokens one by one (default 64); 0: none\n"
    "  -d, --depth LIST          tokens in the context before (default 0): 0,8192\n"
    "  -r, --repeat N            repetitions (default 5; 3 without -p and -d)\n"
    "      --json                everything as one JSON object\n"
    "      --plot FILE.svg       speed against depth as a picture\n"
    "      --seed N              of the random tokens (default 1)\n"
    "\n"
    "model\n" CLI_ENGINE_HELP "\n"
    "examples\n"
    "  tug bench -m model.gguf\n"
    "  tug bench -m model.gguf -p 512,2048 -n 64 -d 0,8192 --plot speed.svg\n"
    "  tug bench -m model.gguf -p 512 -n 0 -t 4 --json > prefill.json\n";

typedef struct bench_command {
    cli_engine_options engine;
    tug_bench_spec spec;
    bool json, n_given;
    const char *plot; /* borrowed from argv or NULL */
    cli_model m;
    tug_bench bench;
    tug_bench_host host;
} bench_command;

/* ---- flags ------------------------------------------------------------------------ */

/* "0,8192" to whole numbers of at least `min`, none twice, at most `most` of them. */
static tug_status parse_list(const char *flag, const char *text, int64_t min, int most,
                             int64_t *list, int *n, tug_err *err) {
    *n = 0;
    for (const char *at = text;; at++) {
        char word[24];
        const size_t len = strcspn(at, ",");
        (void)snprintf(word, sizeof word, "%.*s", len < 23 ? (int)len : 23, at);
        if (*n == most) {
            return TUG_FAIL(err, TUG_EUSAGE, "%s takes at most %d numbers", flag, most);
        }
        TUG_TRY(cli_parse_i64(flag, word, min, INT32_MAX, &list[*n], err));
        for (int i = 0; i < *n; i++) {
            if (list[i] != list[*n]) continue;
            return TUG_FAIL(err, TUG_EUSAGE, "%s holds %s twice", flag, word);
        }
        (*n)++;
        at += len;
        if (*at == '\0') return TUG_OK;
    }
}

static int compare(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static tug_status parse_depths(tug_bench_spec *s, const char *text, tug_err *err) {
    TUG_TRY(
        parse_list("--depth", text, 0, TUG_BENCH_DEPTHS, s->depths, &s->n_depths, err));
    qsort(s->depths, (size_t)s->n_depths, sizeof *s->depths, compare);
    return TUG_OK;
}

static tug_status parse_plot(bench_command *c, const char *path, tug_err *err) {
    const char *dot = strrchr(path, '.');
    if (!dot || strcmp(dot, ".svg") != 0) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--plot draws SVG, which browsers show and rsvg-convert turns "
                        "into PNG: name a file that ends in .svg, not '%s'",
                        path);
    }
    c->plot = path;
    return TUG_OK;
}

static tug_status set_option(bench_command *c, int flag, const char *arg, tug_err *err) {
    int64_t n = 0;
    switch (flag) {
    case 'p':
        return parse_list("--prompt", arg, 1, TUG_BENCH_PROMPTS, c->spec.prompts,
                          &c->spec.n_prompts, err);
    case 'd': return parse_depths(&c->spec, arg, err);
    case 'n':
        c->n_given = true;
        return cli_parse_i64("--predict", arg, 0, INT32_MAX, &c->spec.n_decode, err);
    case 'r':
        TUG_TRY(cli_parse_i64("--repeat", arg, 1, TUG_BENCH_REPS, &n, err));
        c->spec.n_reps = (int)n;
        return TUG_OK;
    case 'c':
        return TUG_FAIL(err, TUG_EUSAGE,
                        "the bench sizes the context by itself: use -d for depths");
    case OPT_JSON: c->json = true; return TUG_OK;
    case OPT_PLOT: return parse_plot(c, arg, err);
    case OPT_SEED:
        TUG_TRY(cli_parse_i64("--seed", arg, 0, INT64_MAX, &n, err));
        c->spec.seed = (uint64_t)n;
        return TUG_OK;
    default: return cli_engine_option(&c->engine, flag, arg, err);
    }
}

static void set_defaults(tug_bench_spec *s, bool n_given) {
    s->contexts = s->n_prompts == 0 && s->n_depths == 0;
    if (!n_given) s->n_decode = DEFAULT_DECODE;
    if (s->n_reps == 0) s->n_reps = s->contexts ? CONTEXT_REPS : DEFAULT_REPS;
    if (s->contexts) return; /* which ones: once the model is known */
    if (s->n_prompts == 0) s->prompts[s->n_prompts++] = DEFAULT_PROMPT;
    if (s->n_depths == 0) s->depths[s->n_depths++] = 0;
}

/* ---- what can be measured here ------------------------------------------------------ */

static tug_status check_threads(const bench_command *c, tug_err *err) {
    const int n = tug_cpu_count();
    if (c->engine.n_threads <= n) return TUG_OK;
    return TUG_FAIL(err, TUG_ERANGE,
                    "%lld threads on %d processors would take turns: use -t %d or less",
                    (long long)c->engine.n_threads, n, n);
}

static const int64_t usual_contexts[] = {8192, 16384, 32768, 65536};
enum { USUAL_CONTEXTS = sizeof usual_contexts / sizeof *usual_contexts };

/* What is left beside the deepest context goes to experts; a context beyond the model's is cut
 * there. */
static int64_t planned_context(const tug_bench_spec *s) {
    return s->contexts ? usual_contexts[USUAL_CONTEXTS - 1] + s->n_decode
                       : tug_bench_context(s);
}

/* The contexts people compare, or the largest power of two a small model has room for. */
static void choose_contexts(tug_bench_spec *s, int64_t n_ctx_train) {
    const int64_t most = n_ctx_train - s->n_decode;
    for (size_t i = 0; i < USUAL_CONTEXTS; i++) {
        if (usual_contexts[i] <= most) s->depths[s->n_depths++] = usual_contexts[i];
    }
    if (s->n_depths > 0) return;
    int64_t context = 1;
    while (2 * context <= most) context *= 2;
    s->depths[s->n_depths++] = context;
}

static tug_status check_depth(const tug_bench_spec *s, int64_t n_ctx_train,
                              tug_err *err) {
    const int64_t need = tug_bench_context(s), deepest = s->depths[s->n_depths - 1];
    if (need <= n_ctx_train) return TUG_OK;
    return TUG_FAIL(err, TUG_ERANGE,
                    "a depth of %lld and %lld tokens after it are beyond the %lld tokens "
                    "this model was trained for",
                    (long long)deepest, (long long)(need - deepest),
                    (long long)n_ctx_train);
}

static tug_status start_session(bench_command *c, int64_t n_ctx, tug_err *err) {
    const tug_session_params params = {.n_ctx = n_ctx,
                                       .n_batch = c->engine.n_batch,
                                       .kv_type = c->engine.kv_type,
                                       .on_prefill = tug_bench_on_prefill,
                                       .ud = &c->host};
    const tug_status s = tug_session_create(&c->m.session, c->m.model, &params, err);
    if (s != TUG_ENOMEM) return s;
    return TUG_FAIL(err, TUG_ENOMEM,
                    "a bench that goes %lld tokens deep does not fit in memory: use "
                    "smaller -d, -p or -b, or --cache-type q8_0",
                    (long long)n_ctx);
}

/* ---- running ----------------------------------------------------------------------- */

static void on_progress(void *ud, const char *what, uint64_t done, uint64_t total) {
    bench_command *c = ud;
    c->m.progress.what = what;
    cli_progress_update(&c->m.progress, done, total);
}

static bool on_canceled(void *ud) {
    (void)ud;
    return cli_interrupt_pending();
}

static const char *cache_type_name(const bench_command *c) {
    switch (c->engine.kv_type) {
    case TUG_KV_CACHE_Q8_0: return "q8_0";
    case TUG_KV_CACHE_F32: return "f32";
    case TUG_KV_CACHE_F16: return "f16";
    case TUG_KV_CACHE_I16: return "i16";
    case TUG_KV_CACHE_AUTO: break;
    }
    const tug_model_info info = tug_model_get_info(c->m.model);
    const char *level = info.cpu_level;
    if (info.gpu) return "f16";
    return strcmp(level, "ref") == 0 ? "f32" : strcmp(level, "avx2") == 0 ? "f16" : "i16";
}

static tug_status print(const bench_command *c, tug_err *err) {
    const tug_bench_subject subject = {.path = c->engine.model,
                                       .model = tug_model_get_info(c->m.model),
                                       .n_processors = tug_cpu_count(),
                                       .n_ctx = tug_session_n_ctx(c->m.session),
                                       .n_batch = tug_session_n_batch(c->m.session),
                                       .cache_type = cache_type_name(c)};
    tug_buf out = {0};
    (c->json ? tug_bench_json : tug_bench_text)(&c->bench, &subject, &out);
    tug_status s = tug_buf_ok(&out, err);
    if (s == TUG_OK && out.n) (void)fwrite(out.p, 1, out.n, stdout);
    if (s == TUG_OK) s = cli_flush(err);
    if (s == TUG_OK && c->plot) {
        tug_buf_clear(&out);
        tug_bench_svg(&c->bench, &subject, &out);
        s = tug_buf_ok(&out, err);
        if (s == TUG_OK) s = tug_outfile_write(c->plot, tug_buf_view(&out), err);
    }
    tug_buf_free(&out);
    return s;
}

static tug_status run(bench_command *c, tug_err *err) {
    TUG_TRY(check_threads(c, err));
    if (c->plot) TUG_TRY(tug_outfile_check(c->plot, err));
    c->engine.n_ctx = planned_context(&c->spec);
    TUG_TRY(cli_model_open(&c->m, &c->engine, err));
    const int64_t n_ctx_train = tug_model_get_info(c->m.model).n_ctx_train;
    if (c->spec.contexts) choose_contexts(&c->spec, n_ctx_train);
    TUG_TRY(check_depth(&c->spec, n_ctx_train, err));
    c->host = (tug_bench_host){.progress = on_progress, .canceled = on_canceled, .ud = c};
    TUG_TRY(start_session(c, tug_bench_context(&c->spec), err));
    TUG_TRY(tug_bench_init(&c->bench, &c->spec, err));
    cli_progress_begin(&c->m.progress, "starting");
    const tug_status s =
        tug_bench_run(&c->bench, c->m.model, c->m.session, &c->host, err);
    cli_progress_end(&c->m.progress);
    TUG_TRY(s);
    return print(c, err);
}

int cmd_bench(int argc, char **argv) {
    bench_command c = {.spec.seed = 1, .engine.need_gpu = true};
    tug_err err;
    for (int f; (f = cli_getopt(argc, argv, short_options, long_options)) != -1;) {
        if (f == 'h') {
            (void)fputs(help, stdout);
            return cli_flush(&err) == TUG_OK ? CLI_OK : cli_fail(&err);
        }
        if (f == '?' || f == ':') return cli_getopt_failed("bench", f, argv);
        if (set_option(&c, f, optarg, &err) != TUG_OK)
            return cli_usage("bench", "%s", err.msg);
    }
    if (optind < argc) return cli_usage("bench", "'%s' is no option", argv[optind]);
    if (!c.engine.model) return cli_usage("bench", "bench wants a model: -m FILE");
    set_defaults(&c.spec, c.n_given);
    cli_interrupt_install();
    const tug_status status = run(&c, &err);
    const bool interrupted = c.bench.interrupted;
    tug_bench_free(&c.bench);
    cli_model_close(&c.m);
    if (status != TUG_OK) return cli_fail(&err);
    return interrupted ? CLI_INTERRUPTED : CLI_OK;
}
