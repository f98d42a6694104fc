/* main.c - the table of commands.  SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
    {"run", cmd_run, "generate text from a prompt, or chat"},
    {"serve", cmd_serve, "the backend of coding agents: OpenAI and Anthropic APIs"},
    {"eval", cmd_eval, "perplexity of a text, log-likelihood of token ids"},
    {"plan", cmd_plan, "where every byte of a model goes, and how fast it will be"},
    {"bench", cmd_bench, "how fast a model is here, and what bounds it"},
    {"tokenize", cmd_tokenize, "text to token ids and back"},
    {"inspect", cmd_inspect, "what is in a GGUF file"},
    {"render", cmd_render, "the exact prompt text of a chat request"},
    {"synth", cmd_synth, "a model of random weights, to measure speed with"},
    {"trace", cmd_trace, "which experts are used, and what a cache makes of it"},
    {NULL, NULL, NULL},
};

static void print_help(FILE *to) {
    (void)fprintf(to,
                  "tug %s - Qwen3-Next style models on the PC you have\n\n"
                  "usage: tug COMMAND [options]\n\n",
                  CLI_VERSION);
    for (size_t i = 0; commands[i].name; i++) {
        (void)fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
    }
    (void)fprintf(to, "\n`tug COMMAND --help` explains one, with an example.\n");
}

int main(int argc, char **argv) {
    /* A reader that went away shows up as a failed write, with a sentence. */
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("tug %s\n", CLI_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; commands[i].name; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    (void)fprintf(stderr, "tug: there is no command '%s'; `tug --help` lists them\n",
                  argv[1]);
    return CLI_USAGE;
}
