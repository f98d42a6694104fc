/* cli.h - what the commands share.  One file per command, one row in main.c's table.
 *
 * Exit codes: 0 done, 1 the world said no (one sentence on stderr), 2 wrong usage,
 * 130 ended by Ctrl-C, as shells have it.
 * Only this folder prints or exits.  SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_CLI_H
#define TUG_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define CLI_VERSION "0.1.0"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

/* One per command: argv[0] is the command's name. */
int cmd_run(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_plan(int argc, char **argv);

/* Prints "tug: <sentence>" to stderr and returns the exit code for it. */
int cli_fail(const tug_err *err);

/* The same for a mistake on the command line, with a hint at `tug CMD --help`. */
int cli_usage(const char *cmd, const char *fmt, ...) TUG_PRINTF(2, 3);

/* Whole-text number parsing for flags: no trailing junk, range checked. */
TUG_NODISCARD tug_status cli_parse_i64(const char *flag, const char *text, int64_t min,
                                       int64_t max, int64_t *out, tug_err *err);
TUG_NODISCARD tug_status cli_parse_f64(const char *flag, const char *text, double min,
                                       double max, double *out, tug_err *err);

/* "20G", "800M", "1.5GB": decimal, as memory is sold by makers of disks and counted by us. */
TUG_NODISCARD tug_status cli_parse_size(const char *flag, const char *arg, uint64_t *out,
                                        tug_err *err);

/* "1,2,3" (also spaces) to token ids, (n,) owned by the caller (tug_free). */
TUG_NODISCARD tug_status cli_parse_ids(const char *text, int32_t **ids, int64_t *n,
                                       tug_err *err);

/* Flushes stdout; a full disk or closed pipe becomes an error instead of silence. */
TUG_NODISCARD tug_status cli_flush(tug_err *err);

#endif
