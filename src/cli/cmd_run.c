/* cmd_run.c - `tug run`: the command line.  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/run.h"

enum { OPT_SYSTEM = CLI_OPT_OWN, OPT_CHAT, OPT_FILE, OPT_IDS, OPT_SPECIAL, OPT_JSON };

static const char short_options[] = ":hp:n:r:" CLI_ENGINE_SHORT CLI_SAMPLING_SHORT;

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"prompt", required_argument, NULL, 'p'},
    {"file", required_argument, NULL, OPT_FILE},
    {"ids", required_argument, NULL, OPT_IDS},
    {"chat", no_argument, NULL, OPT_CHAT},
    {"system", required_argument, NULL, OPT_SYSTEM},
    {"special", no_argument, NULL, OPT_SPECIAL},
    {"predict", required_argument, NULL, 'n'},
    {"stop", required_argument, NULL, 'r'},
    {"reverse-prompt", required_argument, NULL, 'r'},
    {"json", no_argument, NULL, OPT_JSON},
    CLI_ENGINE_LONG,
    CLI_SAMPLING_LONG,
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "usage: tug run -m FILE [options] [PROMPT]\n"
    "\n"
    "Continues a text, or chats.  The answer goes to stdout, all else to stderr.\n"
    "\n"
    "prompt (a text is continued as it is, byte for byte)\n"
    "  -p, --prompt TEXT         the prompt; without a flag it is the same\n"
    "      --file FILE           read it from a file; - or a pipe is standard input\n"
    "      --ids 1,2,3           token ids instead of text\n"
    "      --special             <|im_end|> and its like in the text become tokens\n"
    "      --chat                without a prompt: a conversation in the terminal;\n"
    "                            with one: a message, and the answer to it\n"
    "      --system TEXT         what the model is told first (--chat)\n"
    "\n"
    "answer\n"
    "  -n, --predict N           at most N tokens (default -1: until the model ends)\n"
    "  -r, --stop TEXT           end before this text; may be repeated\n"
    "      --json                one JSON object on stdout instead of the text\n"
    "\n"
    "sampling (defaults from the model's file)\n" CLI_SAMPLING_HELP "\n"
    "model\n" CLI_ENGINE_HELP
    "  -c, --ctx-size N          tokens of context (default: the model's, if it fits)\n"
    "\n"
    "examples\n"
    "  tug run -m model.gguf --chat\n"
    "  tug run -m model.gguf --chat \"Write strlen in C.\"\n"
    "  tug run -m model.gguf --temp 0 -n 64 < main.c\n";

static tug_status set_text(const char **slot, const char *arg, const char *flag,
                           tug_err *err) {
    if (*slot) return TUG_FAIL(err, TUG_EUSAGE, "%s was given twice", flag);
    *slot = arg;
    return TUG_OK;
}

static tug_status set_predict(run_options *o, const char *arg, tug_err *err) {
    int64_t n = 0;
    TUG_TRY(cli_parse_i64("--predict", arg, -1, INT32_MAX, &n, err));
    if (n == 0) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--predict 0 would do nothing; -1 means no limit");
    }
    o->n_predict = n > 0 ? n : 0;
    return TUG_OK;
}

static tug_status add_stop(run_options *o, const char *arg, tug_err *err) {
    if (arg[0] == '\0') return TUG_FAIL(err, TUG_EUSAGE, "--stop wants a text");
    o->stops[o->n_stops++] = arg;
    return TUG_OK;
}

static tug_status set_option(run_options *o, int c, const char *arg, tug_err *err) {
    switch (c) {
    case 'p': return set_text(&o->prompt, arg, "--prompt", err);
    case OPT_FILE: return set_text(&o->file, arg, "--file", err);
    case OPT_IDS: return set_text(&o->ids, arg, "--ids", err);
    case OPT_SYSTEM: return set_text(&o->system, arg, "--system", err);
    case OPT_CHAT: o->chat = true; return TUG_OK;
    case OPT_SPECIAL: o->special = true; return TUG_OK;
    case OPT_JSON: o->json = true; return TUG_OK;
    case 'n': return set_predict(o, arg, err);
    case 'r': return add_stop(o, arg, err);
    case 's': return cli_sampling_option(&o->sampling, c, arg, err);
    default: break;
    }
    if (c >= CLI_OPT_SAMPLING && c < CLI_OPT_SAMPLING + CLI_N_SAMPLING) {
        return cli_sampling_option(&o->sampling, c, arg, err);
    }
    return cli_engine_option(&o->engine, c, arg, err);
}

/* What goes with what.  A pipe is taken as the prompt when nothing else is one. */
static tug_status check(run_options *o, tug_err *err) {
    const int n_prompts = !!o->prompt + !!o->file + !!o->ids;
    if (!o->engine.model) return TUG_FAIL(err, TUG_EUSAGE, "run wants a model: -m FILE");
    if (n_prompts > 1) {
        return TUG_FAIL(err, TUG_EUSAGE, "give one prompt: -p, --file or --ids");
    }
    if (o->system && !o->chat) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--system needs --chat; a plain prompt has no turns");
    }
    if (o->chat && (o->ids || o->special)) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--chat takes text; leave out --ids and --special");
    }
    if (n_prompts == 0 && isatty(STDIN_FILENO) != 1) o->file = "-";
    const bool dialogue = o->chat && n_prompts == 0 && !o->file;
    if (dialogue && o->json)
        return TUG_FAIL(err, TUG_EUSAGE, "--json needs a prompt: -p TEXT");
    if (!o->chat && n_prompts == 0 && !o->file) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "there is no prompt: give a text, --file or --chat");
    }
    return TUG_OK;
}

static int parse_and_run(run_options *o, int argc, char **argv) {
    tug_err err;
    for (int c; (c = cli_getopt(argc, argv, short_options, long_options)) != -1;) {
        if (c == 'h') {
            (void)fputs(help, stdout);
            return cli_flush(&err) == TUG_OK ? CLI_OK : cli_fail(&err);
        }
        if (c == '?' || c == ':') return cli_getopt_failed("run", c, argv);
        if (set_option(o, c, optarg, &err) != TUG_OK)
            return cli_usage("run", "%s", err.msg);
    }
    if (argc - optind > 1)
        return cli_usage("run", "the prompt is one text: put it in quotes");
    if (optind < argc &&
        set_text(&o->prompt, argv[optind], "the prompt", &err) != TUG_OK) {
        return cli_usage("run", "%s", err.msg);
    }
    if (check(o, &err) != TUG_OK) return cli_usage("run", "%s", err.msg);
    cli_interrupt_install();
    return o->prompt || o->file || o->ids ? run_once(o) : run_chat(o);
}

int cmd_run(int argc, char **argv) {
    run_options o = {.stops = tug_alloc_array((size_t)argc, sizeof *o.stops)};
    if (!o.stops) {
        tug_err err;
        (void)TUG_FAIL(&err, TUG_ENOMEM, "out of memory for the command line");
        return cli_fail(&err);
    }
    const int code = parse_and_run(&o, argc, argv);
    tug_free((void *)o.stops);
    return code;
}
