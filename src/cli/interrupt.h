/* interrupt.h - Ctrl-C asks the running work to end; pressed again before anything has
 * noticed, it ends the program.  SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_INTERRUPT_H
#define TUG_CLI_INTERRUPT_H

#include <stdbool.h>

void cli_interrupt_install(void);

/* SIGTERM counts as Ctrl-C: for a program that a service manager ends. */
void cli_interrupt_by_term(void);

/* Waits until fd can be read or is at its end; false: Ctrl-C came first, at any time since
 * it was last cleared. */
bool cli_interrupt_wait_for(int fd);

bool cli_interrupt_pending(void);
void cli_interrupt_clear(void);

#endif
