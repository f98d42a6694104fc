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

static void install(int flags) {
    struct sigaction sa = {.sa_handler = on_sigint, .sa_flags = flags};
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGINT, &sa, NULL);
}

/* SA_RESTART: a write of the answer must not fail because of Ctrl-C. */
void cli_interrupt_install(void) {
    install(SA_RESTART);
}

void cli_interrupt_by_term(void) {
    struct sigaction sa = {.sa_handler = on_sigint, .sa_flags = SA_RESTART};
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGTERM, &sa, NULL);
}

void cli_interrupt_ends_reads(bool on) {
    install(on ? 0 : SA_RESTART);
}

bool cli_interrupt_pending(void) {
    return pending != 0;
}

void cli_interrupt_clear(void) {
    pending = 0;
}
