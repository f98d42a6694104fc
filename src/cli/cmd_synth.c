/* cmd_synth.c - `tug synth`: a model of random weights.  SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/sys.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "synth/synth.h"
#include "json/json.h"

/* The sizes of the shape, in the order of size_flags. */
enum {
    OPT_SIZE = CLI_OPT_OWN,
    OPT_LIKE = CLI_OPT_OWN + 64,
    OPT_ROUTER,
    OPT_SKEW,
    OPT_VOCAB,
    OPT_SPLIT,
    OPT_FORCE,
    OPT_JSON
};

#define SIZE(flag, field) \
    { flag, offsetof(tug_synth_spec, field) }
static const struct {
    const char *flag;
    size_t offset; /* of an int64_t in tug_synth_spec */
} size_flags[] = {
    SIZE("layers", n_layer),
    SIZE("experts", n_expert),
    SIZE("experts-used", n_expert_used),
    SIZE("expert-dim", expert_dim),
    SIZE("shared-dim", shared_dim),
    SIZE("dim", dim),
    SIZE("heads", n_head),
    SIZE("kv-heads", n_kv_head),
    SIZE("head-dim", head_dim),
    SIZE("delta-k-heads", n_k_head),
    SIZE("delta-v-heads", n_v_head),
    SIZE("vocab-size", n_vocab),
    SIZE("ctx-size", n_ctx),
};
#undef SIZE

enum { N_SIZES = sizeof size_flags / sizeof size_flags[0] };

static const struct option other_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"output", required_argument, NULL, 'o'},
    {"like", required_argument, NULL, OPT_LIKE},
    {"quant", required_argument, NULL, 'q'},
    {"seed", required_argument, NULL, 's'},
    {"threads", required_argument, NULL, 't'},
    {"router", required_argument, NULL, OPT_ROUTER},
    {"skew", required_argument, NULL, OPT_SKEW},
    {"vocab", required_argument, NULL, OPT_VOCAB},
    {"split-max-size", required_argument, NULL, OPT_SPLIT},
    {"force", no_argument, NULL, OPT_FORCE},
    {"json", no_argument, NULL, OPT_JSON},
};

enum { N_OTHERS = sizeof other_options / sizeof other_options[0] };

static const char help[] =
    "usage: tug synth -o FILE.gguf [options]\n"
    "\n"
    "Writes a model of random weights with the sizes, names and types of a real one: to\n"
    "measure how fast a PC would run it before downloading it.  Its text means nothing.\n"
    "\n"
    "  -o, --output FILE         where to; the name must end in .gguf\n"
    "      --like NAME           qwen3-coder-next (default), or tiny (8 MB, for tests)\n"
    "  -q, --quant MIX           the types of the tensors (default Q3_K_M): Q2_K Q3_K_S\n"
    "                            Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K Q8_0\n"
    "                            IQ4_XS IQ4_NL Q4_0 BF16 F16 F32\n"
    "      --layers N            so many of its layers (default: all)\n"
    "  -s, --seed N              other weights (default 1); the same seed, the same "
    "file\n"
    "      --force               replace the file if it is there\n"
    "      --json                one JSON object on stdout: path, bytes, time\n"
    "  -t, --threads N           threads (default: all processors)\n"
    "      --split-max-size N    parts of at most N bytes of weights: 500M, 4G\n"
    "      --vocab FILE          a tokenizer.json of the Qwen family (default: a "
    "made-up\n"
    "                            vocabulary of the same size)\n"
    "\n"
    "other sizes than those of the model\n"
    "      --experts N  --experts-used N  --expert-dim N  --shared-dim N\n"
    "      --dim N  --heads N  --kv-heads N  --head-dim N\n"
    "      --delta-k-heads N  --delta-v-heads N\n"
    "      --vocab-size N  -c, --ctx-size N\n"
    "\n"
    "routers\n"
    "      --router TYPE         F32 (default, as in most files), BF16 or F16\n"
    "      --skew X              how unequally experts are used; 0: equally (default "
    "4.4)\n"
    "\n"
    "examples\n"
    "  tug synth -o s4.gguf --layers 4\n"
    "  tug synth -o full.gguf --quant Q4_K_M --split-max-size 10G\n"
    "  tug synth -o tiny.gguf --like tiny --quant Q8_0 && tug run -m tiny.gguf -n 8 hi\n";

typedef struct options {
    tug_synth_spec spec;
    tug_gguf_write_params out;
    bool size_given[N_SIZES];
    int64_t n_threads;
    bool json;
} options;

static int64_t *size_at(tug_synth_spec *s, int i) {
    return (int64_t *)((char *)s + size_flags[i].offset);
}

/* ---- the command line ------------------------------------------------------------- */

static tug_status set_like(options *o, const char *arg, tug_err *err) {
    tug_synth_spec like;
    if (!tug_synth_spec_like(&like, arg)) {
        return TUG_FAIL(err, TUG_EUSAGE, "--like is qwen3-coder-next or tiny, not '%s'",
                        arg);
    }
    /* The order of the options does not matter. */
    like.mix = o->spec.mix;
    like.router_type = o->spec.router_type;
    like.skew = o->spec.skew;
    like.seed = o->spec.seed;
    like.vocab_path = o->spec.vocab_path;
    for (int i = 0; i < N_SIZES; i++) {
        if (o->size_given[i]) *size_at(&like, i) = *size_at(&o->spec, i);
    }
    o->spec = like;
    return TUG_OK;
}

static tug_status set_size(options *o, int i, const char *arg, tug_err *err) {
    char flag[32];
    (void)snprintf(flag, sizeof flag, "--%s", size_flags[i].flag);
    TUG_TRY(cli_parse_i64(flag, arg, 1, INT32_MAX, size_at(&o->spec, i), err));
    o->size_given[i] = true;
    return TUG_OK;
}

static tug_status set_mix(options *o, const char *arg, tug_err *err) {
    o->spec.mix = tug_synth_mix_find(arg);
    if (o->spec.mix) return TUG_OK;
    return TUG_FAIL(err, TUG_EUSAGE, "--quant has no '%s'", arg);
}

static tug_status set_router(options *o, const char *arg, tug_err *err) {
    static const tug_type types[] = {TUG_TYPE_F32, TUG_TYPE_BF16, TUG_TYPE_F16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(arg, tug_type_get(types[i])->name) != 0) continue;
        o->spec.router_type = types[i];
        return TUG_OK;
    }
    return TUG_FAIL(err, TUG_EUSAGE, "--router is F32, BF16 or F16, not '%s'", arg);
}

/* "4G", "500M": decimal, as disks are sold. */
static tug_status set_split(options *o, const char *arg, tug_err *err) {
    char *end = NULL;
    const double n = strtod(arg, &end);
    const double unit = strcmp(end, "G") == 0 ? 1e9 : strcmp(end, "M") == 0 ? 1e6 : 0.0;
    if (end == arg || unit == 0.0 || !(n * unit >= 1e6 && n * unit <= 1e15)) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--split-max-size wants a size of at least 1M, such as 500M or "
                        "4G, not '%s'",
                        arg);
    }
    o->out.split_bytes = (uint64_t)(n * unit);
    return TUG_OK;
}

static tug_status set_option(options *o, int c, const char *arg, tug_err *err) {
    int64_t seed = 0;
    if (c >= OPT_SIZE && c < OPT_SIZE + N_SIZES)
        return set_size(o, c - OPT_SIZE, arg, err);
    switch (c) {
    case 'o': o->out.path = arg; return TUG_OK;
    case 'q': return set_mix(o, arg, err);
    case 't': return cli_parse_i64("--threads", arg, 1, 1024, &o->n_threads, err);
    case OPT_LIKE: return set_like(o, arg, err);
    case OPT_ROUTER: return set_router(o, arg, err);
    case OPT_SKEW: return cli_parse_f64("--skew", arg, 0, 16, &o->spec.skew, err);
    case OPT_VOCAB: o->spec.vocab_path = arg; return TUG_OK;
    case OPT_SPLIT: return set_split(o, arg, err);
    case OPT_FORCE: o->out.overwrite = true; return TUG_OK;
    case OPT_JSON: o->json = true; return TUG_OK;
    default: break;
    }
    TUG_TRY(cli_parse_i64("--seed", arg, 0, INT64_MAX, &seed, err));
    o->spec.seed = (uint64_t)seed;
    return TUG_OK;
}

/* What follows from what was given. */
static tug_status complete(options *o, tug_err *err) {
    if (!o->out.path)
        return TUG_FAIL(err, TUG_EUSAGE, "synth wants a name: -o FILE.gguf");
    tug_synth_spec real;
    TUG_CHECK(tug_synth_spec_like(&real, "qwen3-coder-next"));
    for (int i = 0; i < N_SIZES; i++) {
        const bool given = o->size_given[i];
        if (size_flags[i].offset == offsetof(tug_synth_spec, head_dim) && given) {
            o->spec.n_rot = o->spec.head_dim / 4; /* the part that is rotated */
        }
        if (size_flags[i].offset == offsetof(tug_synth_spec, n_vocab) && !given &&
            o->spec.vocab_path && o->spec.n_vocab != real.n_vocab) {
            o->spec.n_vocab = 0; /* as many as the file has */
        }
    }
    return tug_synth_spec_check(&o->spec, err);
}

/* Returns -1 to go on, else the exit code. */
static int parse(options *o, int argc, char **argv) {
    struct option flags[N_OTHERS + N_SIZES + 1];
    memset(flags, 0, sizeof flags);
    memcpy(flags, other_options, sizeof other_options);
    for (int i = 0; i < N_SIZES; i++) {
        flags[N_OTHERS + i] =
            (struct option){size_flags[i].flag, required_argument, NULL, OPT_SIZE + i};
    }
    tug_err err;
    for (int c; (c = cli_getopt(argc, argv, ":ho:q:s:t:c:", flags)) != -1;) {
        if (c == 'h') {
            (void)fputs(help, stdout);
            return cli_flush(&err) == TUG_OK ? CLI_OK : cli_fail(&err);
        }
        if (c == '?' || c == ':') return cli_getopt_failed(argv[0], c, argv);
        if (c == 'c') c = OPT_SIZE + N_SIZES - 1;
        if (set_option(o, c, optarg, &err) != TUG_OK) {
            return cli_usage(argv[0], "%s", err.msg);
        }
    }
    if (optind < argc) {
        return cli_usage(argv[0], "'%s' is one too many: the file is given with -o",
                         argv[optind]);
    }
    if (complete(o, &err) != TUG_OK) return cli_usage(argv[0], "%s", err.msg);
    return -1;
}

/* ---- the work --------------------------------------------------------------------- */

static bool on_progress(void *ud, uint64_t done, uint64_t total) {
    cli_progress_update(ud, done, total);
    return !cli_interrupt_pending();
}

static tug_status write_model(const options *o, tug_synth_result *r, char **path,
                              double *seconds, tug_err *err) {
    tug_pool *pool = NULL;
    cli_progress bar;
    cli_progress_init(&bar);
    const int n_threads = o->n_threads > 0 ? (int)o->n_threads : tug_cpu_count();
    TUG_TRY(tug_pool_create(&pool, n_threads, err));
    const double start = tug_now();
    cli_progress_begin(&bar, "writing");
    const tug_status s =
        tug_synth_write(&o->spec, &o->out, pool, on_progress, &bar, r, path, err);
    cli_progress_end(&bar);
    *seconds = tug_now() - start;
    tug_pool_destroy(&pool);
    return s;
}

static void write_json(const tug_synth_result *r, const char *path, double seconds,
                       tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_SPACED);
    tug_json_begin_object(&w);
    tug_json_write_key(&w, tug_str_of("path"));
    tug_json_write_str(&w, tug_str_of(path));
    tug_json_write_key(&w, tug_str_of("bytes"));
    tug_json_write_u64(&w, r->bytes);
    tug_json_write_key(&w, tug_str_of("parts"));
    tug_json_write_i64(&w, r->n_parts);
    tug_json_write_key(&w, tug_str_of("tensors"));
    tug_json_write_u64(&w, r->n_tensors);
    tug_json_write_key(&w, tug_str_of("params"));
    tug_json_write_u64(&w, r->n_params);
    tug_json_write_key(&w, tug_str_of("seconds"));
    tug_json_write_f64(&w, seconds);
    tug_json_end_object(&w);
    tug_buf_char(out, '\n');
}

static tug_status report(const options *o, const tug_synth_result *r, const char *path,
                         double seconds, tug_err *err) {
    tug_buf out = {0};
    if (o->json) write_json(r, path, seconds, &out);
    const tug_status s = tug_buf_ok(&out, err);
    if (s == TUG_OK && out.n) (void)fwrite(out.p, 1, out.n, stdout);
    tug_buf_free(&out);
    TUG_TRY(s);
    TUG_TRY(cli_flush(err));
    const double mb = (double)r->bytes * 1e-6;
    (void)fprintf(stderr, "%s: %.3g billion values in %llu tensors, ", path,
                  (double)r->n_params * 1e-9, (unsigned long long)r->n_tensors);
    if (r->n_parts > 1) (void)fprintf(stderr, "%d parts, ", r->n_parts);
    (void)fprintf(stderr, "%.1f MB in %.1f s (%.0f MB/s)\n", mb, seconds,
                  mb / (seconds > 0.0 ? seconds : 1e-9));
    return TUG_OK;
}

int cmd_synth(int argc, char **argv) {
    options o = {0};
    TUG_CHECK(tug_synth_spec_like(&o.spec, "qwen3-coder-next"));
    const int code = parse(&o, argc, argv);
    if (code >= 0) return code;
    /* A limit on file sizes shows up as a failed write, with a sentence. */
    (void)signal(SIGXFSZ, SIG_IGN);
    cli_interrupt_install();
    tug_synth_result r = {0};
    char *path = NULL;
    double seconds = 0.0;
    tug_err err = {0};
    tug_status s = write_model(&o, &r, &path, &seconds, &err);
    if (s == TUG_OK) s = report(&o, &r, path, seconds, &err);
    tug_free(path);
    return s == TUG_OK ? CLI_OK : cli_fail(&err);
}
