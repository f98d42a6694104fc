/* interrupt.h - Ctrl-C asks the running work to end; pressed again before anything has
 * noticed, it ends the program.  SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_INTERRUPT_H
#define TUG_CLI_INTERRUPT_H

#include <stdbool.h>

void cli_interrupt_install(void);

/* SIGTERM counts as Ctrl-C: for a program that a service manager ends. */
void cli_interrupt_by_term(void);

/* Between on and off, Ctrl-C also ends a read from the terminal that is under way. */
void cli_interrupt_ends_reads(bool on);

bool cli_interrupt_pending(void);
void cli_interrupt_clear(void);

#endif
