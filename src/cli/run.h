/* run.h - the two halves of `tug run`: one answer, or a conversation.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_RUN_H
#define TUG_CLI_RUN_H

#include "cli/options.h"
#include "tokenizer/tokenizer.h"

/* All texts are borrowed from argv. */
typedef struct run_options {
    cli_engine_options engine;
    cli_sampling_options sampling;
    const char *prompt; /* -p; at most one of these three is set, */
    const char *file;   /* --file; "-": standard input */
    const char *ids;    /* --ids */
    const char *system; /* --system, or NULL */
    int64_t n_predict;  /* 0: no limit */
    const char **stops; /* owned by cmd_run, (n_stops,) */
    size_t n_stops;
    bool chat, special, json;
    void (*opened)(void *ud, tug_model *model); /* or NULL: told before the first token */
    void *opened_ud;
} run_options;

/* Both return an exit code and print what went wrong. */
int run_once(const run_options *o);
int run_chat(const run_options *o);

static inline tug_generation_params run_generation_params(const run_options *o) {
    return (tug_generation_params){
        .max_tokens = o->n_predict, .stop = o->stops, .n_stop = o->n_stops};
}

#endif
