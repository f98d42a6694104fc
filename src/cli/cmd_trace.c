/* cmd_trace.c - `tug trace`: the command line.  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/trace_cmd.h"

enum {
    OPT_IDS = CLI_OPT_OWN,
    OPT_CHAT,
    OPT_SPECIAL,
    OPT_REPLAY,
    OPT_POLICY,
    OPT_SLOTS,
    OPT_STAGING,
    OPT_PINNED,
    OPT_PROFILE,
    OPT_PLOT,
    OPT_JSON,
    OPT_SYNTH,
    OPT_LAYERS,
    OPT_EXPERTS,
    OPT_USED,
    OPT_PROMPT_TOKENS
};

static const char short_options[] = ":ho:p:f:n:" CLI_ENGINE_SHORT CLI_SAMPLING_SHORT;

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"output", required_argument, NULL, 'o'},
    {"prompt", required_argument, NULL, 'p'},
    {"file", required_argument, NULL, 'f'},
    {"ids", required_argument, NULL, OPT_IDS},
    {"chat", no_argument, NULL, OPT_CHAT},
    {"special", no_argument, NULL, OPT_SPECIAL},
    {"predict", required_argument, NULL, 'n'},
    {"replay", no_argument, NULL, OPT_REPLAY},
    {"policy", required_argument, NULL, OPT_POLICY},
    {"slots", required_argument, NULL, OPT_SLOTS},
    {"staging", required_argument, NULL, OPT_STAGING},
    {"pinned-share", required_argument, NULL, OPT_PINNED},
    {"profile", required_argument, NULL, OPT_PROFILE},
    {"plot", required_argument, NULL, OPT_PLOT},
    {"json", no_argument, NULL, OPT_JSON},
    {"synth", no_argument, NULL, OPT_SYNTH},
    {"layers", required_argument, NULL, OPT_LAYERS},
    {"experts", required_argument, NULL, OPT_EXPERTS},
    {"experts-used", required_argument, NULL, OPT_USED},
    {"prompt-tokens", required_argument, NULL, OPT_PROMPT_TOKENS},
    CLI_ENGINE_LONG,
    CLI_SAMPLING_LONG,
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "usage: tug trace -m MODEL -o FILE [options] [PROMPT]\n"
    "       tug trace --replay [options] FILE...\n"
    "       tug trace --synth -o FILE [options]\n"
    "\n"
    "Records which experts each token of a run uses; says how many of them a cache "
    "would\n"
    "have had in memory.\n"
    "\n"
    "record (the answer goes to stdout, as with tug run)\n"
    "  -o, --output FILE         the trace to write\n"
    "  -p, --prompt TEXT         the prompt; without a flag it is the same\n"
    "  -f, --file FILE           read it from a file; - or a pipe is standard input\n"
    "      --ids 1,2,3           token ids instead of text\n"
    "      --special             <|im_end|> and its like in the text become tokens\n"
    "      --chat                the prompt is a message, to be answered\n"
    "  -n, --predict N           decode at most N tokens (default -1: until the end)\n"
    "\n"
    "replay (several files: one after the other, through the same cache)\n"
    "      --policy NAME,...     forecast, lru, lfu, pinned (default: all)\n"
    "      --slots N,...         homes of each layer (default: 1/16 to 3/4 of the "
    "experts)\n"
    "      --staging N           further slots, of all layers together (default: 2 "
    "tokens'\n"
    "                            experts of one layer)\n"
    "      --pinned-share X      of the homes, for `pinned` (default 0.5)\n"
    "      --profile FILE        a trace to learn from what to pin (default: the "
    "replayed\n"
    "                            ones themselves, which flatters it)\n"
    "  -b, --batch-size N        cut prompts into batches of N: 1 is as if they had "
    "been\n"
    "                            decoded (default: as recorded)\n"
    "      --plot FILE.svg       a picture\n"
    "      --json                one JSON object on stdout instead of tables\n"
    "\n"
    "synth (routes as skewed and as steady as published ones)\n"
    "      --layers N  --experts N  --experts-used N     (default 48, 512, 10)\n"
    "      --prompt-tokens N     a prompt first, in batches of -b (default: none)\n"
    "  -n, --predict N           decoded tokens (default 1000)\n"
    "  -s, --seed N              other routes (default 1); the same seed, the same "
    "routes\n"
    "\n"
    "sampling (defaults from the model's file)\n" CLI_SAMPLING_HELP "\n"
    "model\n" CLI_ENGINE_HELP
    "  -c, --ctx-size N          tokens of context (default: as needed)\n"
    "\n"
    "examples\n"
    "  tug trace -m model.gguf -o code.trace -f main.c -n 200\n"
    "  tug trace --replay code.trace --policy forecast,lru --plot code.svg\n"
    "  tug trace --synth -o long.trace -n 4000 && tug trace --replay long.trace\n";

static tug_status set_count(int *out, const char *flag, const char *arg, int64_t most,
                            tug_err *err) {
    int64_t n = 0;
    TUG_TRY(cli_parse_i64(flag, arg, 1, most, &n, err));
    *out = (int)n;
    return TUG_OK;
}

static tug_status set_text(const char **slot, const char *arg, const char *flag,
                           tug_err *err) {
    if (*slot) return TUG_FAIL(err, TUG_EUSAGE, "%s was given twice", flag);
    *slot = arg;
    return TUG_OK;
}

/* Hands each item between commas to `add`. */
static tug_status each_item(tug_curves_spec *s, const char *arg,
                            tug_status (*add)(tug_curves_spec *s, const char *item,
                                              tug_err *err),
                            tug_err *err) {
    for (;; arg++) {
        char item[32];
        const size_t n = strcspn(arg, ",");
        (void)snprintf(item, sizeof item, "%.*s", (int)(n < 31 ? n : 31), arg);
        TUG_TRY(add(s, item, err));
        arg += n;
        if (*arg == '\0') return TUG_OK;
    }
}

static tug_status add_size(tug_curves_spec *s, const char *item, tug_err *err) {
    int64_t n = 0;
    TUG_TRY(cli_parse_i64("--slots", item, 0, TUG_TRACE_MAX_EXPERT, &n, err));
    if (s->n_sizes == TUG_CURVES_SIZES) {
        return TUG_FAIL(err, TUG_EUSAGE, "--slots takes at most %d sizes",
                        TUG_CURVES_SIZES);
    }
    if (s->n_sizes > 0 && n <= s->sizes[s->n_sizes - 1]) {
        return TUG_FAIL(err, TUG_EUSAGE, "--slots wants increasing sizes: %s comes late",
                        item);
    }
    s->sizes[s->n_sizes++] = (int)n;
    return TUG_OK;
}

static tug_status add_policy(tug_curves_spec *s, const char *item, tug_err *err) {
    if (s->n_policies == TUG_CURVES_POLICIES) {
        return TUG_FAIL(err, TUG_EUSAGE, "--policy takes at most %d names",
                        TUG_CURVES_POLICIES);
    }
    return tug_expert_policy_find(&s->policies[s->n_policies++], item, err);
}

static tug_status set_predict(trace_options *o, const char *arg, tug_err *err) {
    int64_t n = 0;
    TUG_TRY(cli_parse_i64("--predict", arg, -1, INT32_MAX, &n, err));
    if (n == 0) {
        return TUG_FAIL(err, TUG_EUSAGE, "--predict 0 would decode nothing");
    }
    o->run.n_predict = n > 0 ? n : 0;
    return TUG_OK;
}

static tug_status set_option(trace_options *o, int c, const char *arg, tug_err *err) {
    tug_routes_spec *r = &o->routes;
    tug_curves_spec *s = &o->curves;
    switch (c) {
    case 'o': return set_text(&o->output, arg, "--output", err);
    case 'p': return set_text(&o->run.prompt, arg, "--prompt", err);
    case 'f': return set_text(&o->run.file, arg, "--file", err);
    case 'n': return set_predict(o, arg, err);
    case OPT_IDS: return set_text(&o->run.ids, arg, "--ids", err);
    case OPT_CHAT: o->run.chat = true; return TUG_OK;
    case OPT_SPECIAL: o->run.special = true; return TUG_OK;
    case OPT_REPLAY: o->replay = true; return TUG_OK;
    case OPT_POLICY: s->n_policies = 0; return each_item(s, arg, add_policy, err);
    case OPT_SLOTS: s->n_sizes = 0; return each_item(s, arg, add_size, err);
    case OPT_STAGING: return set_count(&s->staging, "--staging", arg, 1 << 20, err);
    case OPT_PINNED:
        return cli_parse_f64("--pinned-share", arg, 0.0, 1.0, &s->pinned_share, err);
    case OPT_PROFILE: return set_text(&o->profile, arg, "--profile", err);
    case OPT_PLOT: return set_text(&o->plot, arg, "--plot", err);
    case OPT_JSON: o->json = true; return TUG_OK;
    case OPT_SYNTH: o->synth = true; return TUG_OK;
    case OPT_LAYERS:
        return set_count(&r->n_layer, "--layers", arg, TUG_TRACE_MAX_LAYER, err);
    case OPT_EXPERTS:
        return set_count(&r->n_expert, "--experts", arg, TUG_TRACE_MAX_EXPERT, err);
    case OPT_USED:
        return set_count(&r->n_used, "--experts-used", arg, TUG_TRACE_MAX_EXPERT, err);
    case OPT_PROMPT_TOKENS:
        return cli_parse_i64("--prompt-tokens", arg, 1, INT32_MAX, &r->n_prompt, err);
    default: break;
    }
    if (c == 's' || (c >= CLI_OPT_SAMPLING && c < CLI_OPT_SAMPLING + CLI_N_SAMPLING)) {
        return cli_sampling_option(&o->run.sampling, c, arg, err);
    }
    return cli_engine_option(&o->run.engine, c, arg, err);
}

/* ---- what goes with what ----------------------------------------------------------------- */

static tug_status check_replay(const trace_options *o, tug_err *err) {
    if (o->synth || o->output || o->run.engine.model) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--replay reads traces; record or make them first, without it");
    }
    if (o->n_files == 0) {
        return TUG_FAIL(err, TUG_EUSAGE, "--replay wants the traces to replay: FILE...");
    }
    return TUG_OK;
}

static tug_status check_synth(trace_options *o, tug_err *err) {
    tug_routes_spec *r = &o->routes;
    if (o->run.engine.model || o->n_files > 0) {
        return TUG_FAIL(err, TUG_EUSAGE, "--synth takes neither a model nor a prompt");
    }
    if (r->n_used > r->n_expert) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "a token cannot use %d of %d experts: lower --experts-used",
                        r->n_used, r->n_expert);
    }
    r->n_decode = o->run.n_predict ? o->run.n_predict : 1000;
    if (o->run.engine.n_batch) r->batch = (int32_t)o->run.engine.n_batch;
    if (o->run.sampling.seed_given) r->seed = o->run.sampling.seed;
    return TUG_OK;
}

static tug_status check_record(trace_options *o, tug_err *err) {
    run_options *r = &o->run;
    if (!r->engine.model) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "give a model to record (-m), or --replay, or --synth");
    }
    if (o->n_files > 1) {
        return TUG_FAIL(err, TUG_EUSAGE, "the prompt is one text: put it in quotes");
    }
    if (o->n_files == 1) TUG_TRY(set_text(&r->prompt, o->files[0], "the prompt", err));
    const int n_prompts = !!r->prompt + !!r->file + !!r->ids;
    if (n_prompts > 1) {
        return TUG_FAIL(err, TUG_EUSAGE, "give one prompt: -p, --file or --ids");
    }
    if (r->chat && (r->ids || r->special)) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--chat takes text; leave out --ids and --special");
    }
    if (n_prompts == 0 && isatty(STDIN_FILENO) != 1) r->file = "-";
    if (n_prompts == 0 && !r->file) {
        return TUG_FAIL(err, TUG_EUSAGE, "there is no prompt: give a text or --file");
    }
    return TUG_OK;
}

static tug_status check(trace_options *o, tug_err *err) {
    const bool about_replay = o->json || o->plot || o->profile;
    if (o->replay) return check_replay(o, err);
    if (about_replay || o->curves.n_sizes > 0 || o->curves.staging > 0) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--slots, --staging, --profile, --plot and --json belong to "
                        "--replay");
    }
    if (!o->output) {
        return TUG_FAIL(err, TUG_EUSAGE, "trace wants a file to write: -o FILE");
    }
    return o->synth ? check_synth(o, err) : check_record(o, err);
}

static trace_options defaults(void) {
    trace_options o = {.routes = {.n_layer = 48,
                                  .n_expert = 512,
                                  .n_used = 10,
                                  .batch = 2048,
                                  .seed = 1},
                       .curves = {.pinned_share = 0.5}};
    const int n = tug_expert_policy_count();
    for (int i = 0; i < n && i < TUG_CURVES_POLICIES; i++) {
        o.curves.policies[o.curves.n_policies++] = tug_expert_policy_at(i);
    }
    return o;
}

int cmd_trace(int argc, char **argv) {
    trace_options o = defaults();
    tug_err err;
    for (int c; (c = cli_getopt(argc, argv, short_options, long_options)) != -1;) {
        if (c == 'h') {
            (void)fputs(help, stdout);
            return cli_flush(&err) == TUG_OK ? CLI_OK : cli_fail(&err);
        }
        if (c == '?' || c == ':') return cli_getopt_failed("trace", c, argv);
        if (set_option(&o, c, optarg, &err) != TUG_OK)
            return cli_usage("trace", "%s", err.msg);
    }
    o.files = argv + optind;
    o.n_files = argc - optind;
    if (check(&o, &err) != TUG_OK) return cli_usage("trace", "%s", err.msg);
    cli_interrupt_install();
    return o.replay ? trace_replay(&o) : o.synth ? trace_synth(&o) : trace_record(&o);
}
