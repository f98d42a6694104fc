/* progress.c - see progress.h.  SPDX-License-Identifier: MIT */
#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/sys.h"

enum { WIDTH = 30 };

/* Shorter work shows no bar at all; later redraws are as far apart. */
static const double PATIENCE = 0.1; /* seconds */

void cli_progress_init(cli_progress *p) {
    *p = (cli_progress){.enabled = isatty(STDERR_FILENO) == 1};
}

void cli_progress_begin(cli_progress *p, const char *what) {
    p->what = what;
    p->started = p->drawn = tug_now();
}

void cli_progress_update(cli_progress *p, uint64_t done, uint64_t total) {
    const double now = tug_now();
    if (!p->enabled || !p->what || done >= total || now - p->drawn < PATIENCE) return;
    static const char full[WIDTH + 1] = "##############################";
    const double part = (double)done / (double)total;
    (void)fprintf(stderr, "\r%s [%-*.*s] %3.0f %%", p->what, WIDTH, (int)(part * WIDTH),
                  full, part * 100.0);
    if (part > 0.0) {
        (void)fprintf(stderr, "  %.0f s left ", (now - p->started) * (1.0 / part - 1.0));
    }
    p->drawn = now;
    p->visible = true;
}

void cli_progress_end(cli_progress *p) {
    if (p->visible) (void)fputs("\r\033[K", stderr);
    p->visible = false;
    p->what = NULL;
}
