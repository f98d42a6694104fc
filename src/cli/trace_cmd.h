/* trace_cmd.h - the three things `tug trace` does.  SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_TRACE_CMD_H
#define TUG_CLI_TRACE_CMD_H

#include "cli/run.h"
#include "trace/curves.h"
#include "trace/synth_routes.h"

/* All texts are borrowed from argv. */
typedef struct trace_options {
    run_options run; /* the prompt and the model to record */
    bool replay, synth, json;
    const char *output;  /* -o */
    const char *plot;    /* --plot */
    const char *profile; /* --profile */
    char **files;        /* (n_files,) to replay */
    int n_files;
    tug_curves_spec curves;
    tug_routes_spec routes;
} trace_options;

/* They return an exit code and print what went wrong. */
int trace_record(trace_options *o);
int trace_replay(trace_options *o);
int trace_synth(trace_options *o);

#endif
