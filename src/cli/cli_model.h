/* cli_model.h - an opened model with one session, the way a command uses it: with a bar
 * while it works, Ctrl-C, and times for the summary.  SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_CLI_MODEL_H
#define TUG_CLI_CLI_MODEL_H

#include "cli/options.h"
#include "cli/progress.h"
#include "tug_profile.h"

typedef struct cli_model {
    tug_model *model;     /* owned */
    tug_session *session; /* owned or NULL */
    cli_progress progress;
    uint64_t done_before, done_total; /* tokens, when one bar spans several appends */
    double load_s;
    bool verbose;       /* as the options said */
    tug_gpu_now loaded; /* what the GPU had done when the model was loaded */
    int64_t n_prefill;  /* tokens that cli_model_append computed, */
    double prefill_s;   /* and the time for them */
} cli_model;

/* What `o` asks for; without progress. */
tug_model_params cli_model_params(const cli_engine_options *o);

/* Zero-initialised ones may be closed.  After a failed open there is nothing to close.  When
 * the GPU that `o` names cannot be used, says so on stderr and loads the model without it. */
TUG_NODISCARD tug_status cli_model_open(cli_model *m, const cli_engine_options *o,
                                        tug_err *err);
void cli_model_close(cli_model *m);

/* n_ctx as in tug_session_params. */
TUG_NODISCARD tug_status cli_model_start(cli_model *m, const cli_engine_options *o,
                                         int64_t n_ctx, tug_err *err);

/* tug_session_append_each (`fn` may be NULL) with the bar and the clock. */
TUG_NODISCARD tug_status cli_model_append(cli_model *m, const int32_t *ids, int64_t n,
                                          int64_t first, tug_logits_fn *fn, void *ud,
                                          tug_err *err);

/* Most memory this process ever had, in bytes; 0 where the system does not tell. */
uint64_t cli_peak_ram(void);

/* " · peak RAM 1.2 GB" and a newline, on stderr. */
void cli_print_peak_ram(void);

#endif
