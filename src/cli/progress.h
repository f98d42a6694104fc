/* progress.h - one bar on stderr while something takes long, only if a person watches.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_PROGRESS_H
#define TUG_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct cli_progress {
    bool enabled;          /* stderr is a terminal */
    bool visible;          /* there is a bar to wipe */
    const char *what;      /* borrowed: "loading" */
    double started, drawn; /* tug_now */
} cli_progress;

void cli_progress_init(cli_progress *p);

/* A new piece of work; the bar appears when it takes longer than a moment. */
void cli_progress_begin(cli_progress *p, const char *what);
void cli_progress_update(cli_progress *p, uint64_t done, uint64_t total);
void cli_progress_end(cli_progress *p); /* wipes the bar */

#endif
