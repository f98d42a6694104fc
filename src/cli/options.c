/* options.c - see options.h.  SPDX-License-Identifier: MIT */
#include "cli/options.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/random.h"
#include "base/sys.h"
#include "cli/cli.h"

/* ---- model and machine ----------------------------------------------------------- */

static tug_status parse_cache_type(const char *arg, tug_kv_cache_type *out,
                                   tug_err *err) {
    static const struct {
        const char *name;
        tug_kv_cache_type type;
    } types[] = {{"f16", TUG_KV_CACHE_F16},
                 {"i16", TUG_KV_CACHE_I16},
                 {"q8_0", TUG_KV_CACHE_Q8_0},
                 {"f32", TUG_KV_CACHE_F32}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(arg, types[i].name) != 0) continue;
        *out = types[i].type;
        return TUG_OK;
    }
    return TUG_FAIL(err, TUG_EUSAGE, "--cache-type is f16, i16, q8_0 or f32, not '%s'",
                    arg);
}

tug_status cli_engine_option(cli_engine_options *o, int c, const char *arg,
                             tug_err *err) {
    switch (c) {
    case 'm': o->model = arg; return TUG_OK;
    case 'c': return cli_parse_i64("--ctx-size", arg, 1, INT32_MAX, &o->n_ctx, err);
    case 't': return cli_parse_i64("--threads", arg, 1, 1024, &o->n_threads, err);
    case 'b': return cli_parse_i64("--batch-size", arg, 1, 65536, &o->n_batch, err);
    case 'v': o->verbose = true; return TUG_OK;
    case CLI_OPT_CPU: o->cpu_level = arg; return TUG_OK;
    case CLI_OPT_RAM: return cli_parse_size("--ram", arg, &o->ram_bytes, err);
    case CLI_OPT_GPU: o->gpu = arg; return TUG_OK;
    case CLI_OPT_VRAM: return cli_parse_size("--vram", arg, &o->vram_bytes, err);
    case CLI_OPT_CACHE_TYPE: return parse_cache_type(arg, &o->kv_type, err);
    default: return TUG_FAIL(err, TUG_EUSAGE, "option %d is not known", c);
    }
}

/* ---- sampling -------------------------------------------------------------------- */

static const struct {
    const char *flag;
    double min, max;
    bool whole;
} sampling_flags[CLI_N_SAMPLING] = {
    [CLI_TEMP] = {"--temp", 0, 100, false},
    [CLI_TOP_K] = {"--top-k", 0, INT32_MAX, true},
    [CLI_TOP_P] = {"--top-p", 0, 1, false},
    [CLI_MIN_P] = {"--min-p", 0, 1, false},
    [CLI_REPEAT_PENALTY] = {"--repeat-penalty", 0.01, 100, false},
    [CLI_REPEAT_LAST_N] = {"--repeat-last-n", -1, 1 << 20, true},
    [CLI_PRESENCE_PENALTY] = {"--presence-penalty", -100, 100, false},
    [CLI_FREQUENCY_PENALTY] = {"--frequency-penalty", -100, 100, false},
};

static tug_status parse_seed(cli_sampling_options *o, const char *arg, tug_err *err) {
    int64_t seed = 0;
    TUG_TRY(cli_parse_i64("--seed", arg, 0, INT64_MAX, &seed, err));
    o->seed = (uint64_t)seed;
    o->seed_given = true;
    return TUG_OK;
}

tug_status cli_sampling_option(cli_sampling_options *o, int c, const char *arg,
                               tug_err *err) {
    if (c == 's') return parse_seed(o, arg, err);
    const int i = c - CLI_OPT_SAMPLING;
    TUG_CHECK(i >= 0 && i < CLI_N_SAMPLING);
    const double min = sampling_flags[i].min, max = sampling_flags[i].max;
    if (sampling_flags[i].whole) {
        int64_t v = 0;
        TUG_TRY(cli_parse_i64(sampling_flags[i].flag, arg, (int64_t)min, (int64_t)max, &v,
                              err));
        o->value[i] = (double)v;
    } else {
        TUG_TRY(cli_parse_f64(sampling_flags[i].flag, arg, min, max, &o->value[i], err));
    }
    o->given[i] = true;
    return TUG_OK;
}

/* A seed that a person can read off the summary and type again. */
static uint64_t new_seed(void) {
    uint64_t seed;
    if (tug_random_u64(&seed, NULL) == TUG_OK) return (uint32_t)seed;
    return (uint32_t)(tug_now() * 1e6) ^ (uint32_t)getpid();
}

tug_sampler_params cli_sampling_params(const cli_sampling_options *o,
                                       const tug_model *model) {
    tug_sampler_params p = tug_sampler_defaults(model);
    const double *v = o->value;
    if (o->given[CLI_TEMP]) p.temperature = (float)v[CLI_TEMP];
    if (o->given[CLI_TOP_K]) p.top_k = (int32_t)v[CLI_TOP_K];
    if (o->given[CLI_TOP_P]) p.top_p = (float)v[CLI_TOP_P];
    if (o->given[CLI_MIN_P]) p.min_p = (float)v[CLI_MIN_P];
    if (o->given[CLI_REPEAT_PENALTY]) p.repeat_penalty = (float)v[CLI_REPEAT_PENALTY];
    if (o->given[CLI_REPEAT_LAST_N]) p.penalty_last_n = (int32_t)v[CLI_REPEAT_LAST_N];
    if (o->given[CLI_PRESENCE_PENALTY])
        p.presence_penalty = (float)v[CLI_PRESENCE_PENALTY];
    if (o->given[CLI_FREQUENCY_PENALTY]) {
        p.frequency_penalty = (float)v[CLI_FREQUENCY_PENALTY];
    }
    p.seed = o->seed_given ? o->seed : new_seed();
    return p;
}

/* ---- getopt ---------------------------------------------------------------------- */

int cli_getopt(int argc, char **argv, const char *letters, const struct option *longs) {
    opterr = 0;
    return getopt_long(argc, argv, letters, longs, NULL);
}

int cli_getopt_failed(const char *cmd, int c, char **argv) {
    /* A long option is the whole word before optind; letters may be inside a word. */
    const char *word = argv[optind - 1];
    const bool is_long = strncmp(word, "--", 2) == 0;
    const char *what = c == ':' ? "wants a value" : "is no option";
    if (is_long) return cli_usage(cmd, "%s %s", word, what);
    return cli_usage(cmd, "-%c %s", optopt, what);
}
