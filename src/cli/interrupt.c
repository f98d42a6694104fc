/* interrupt.c - see interrupt.h.  SPDX-License-Identifier: MIT */
#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include "cli/cli.h"

static volatile sig_atomic_t pending;

static void on_sigint(int sig) {
    (void)sig;
    if (pending) _exit(CLI_INTERRUPTED);
    pending = 1;
}

void cli_interrupt_install(void) {
    struct sigaction sa = {.sa_handler = on_sigint}; /* no SA_RESTART: reads return */
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGINT, &sa, NULL);
}

bool cli_interrupt_pending(void) {
    return pending != 0;
}

void cli_interrupt_clear(void) {
    pending = 0;
}
