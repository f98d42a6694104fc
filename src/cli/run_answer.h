/* run_answer.h - generate an answer while a person reads it, and the numbers about it.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_RUN_ANSWER_H
#define TUG_CLI_RUN_ANSWER_H

#include "cli/cli_model.h"
#include "tokenizer/tokenizer.h"

/* Zero-initialise it; cli_answer_free is always safe.  cli_answer_generate adds to ids,
 * text and the counters, so that a chat can sum up; the rest is of the last call. */
typedef struct cli_answer {
    tug_ids ids;
    tug_buf text;
    tug_finish finish;
    int32_t pending;   /* sampled, not in the session yet; TUG_NO_TOKEN: none */
    int64_t n_decoded; /* tokens computed one by one: each answer's but its last */
    double decode_s;
} cli_answer;

void cli_answer_free(cli_answer *a);

/* Continues the session until the generation ends or Ctrl-C.  `print`: the text goes to
 * stdout as it comes. */
TUG_NODISCARD tug_status cli_answer_generate(cli_answer *a, cli_model *m,
                                             tug_sampler *sampler,
                                             const tug_generation_params *params,
                                             bool print, tug_err *err);

/* One line on stderr: load, prefill, decode, the seed where it mattered, memory.  Verbose and
 * on a GPU one more: what crossed to it, and how many experts it had. */
void cli_answer_summary(const cli_answer *a, const cli_model *m,
                        const tug_sampler_params *sampling);

/* The same and more as one JSON object on stdout. */
TUG_NODISCARD tug_status cli_answer_json(const cli_answer *a, const cli_model *m,
                                         const tug_sampler_params *sampling,
                                         const tug_ids *prompt, tug_err *err);

#endif
