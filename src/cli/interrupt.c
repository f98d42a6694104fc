/* interrupt.c - see interrupt.h.  SPDX-License-Identifier: MIT */
#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "cli/cli.h"

static volatile sig_atomic_t pending;
/* Has a byte once Ctrl-C was pressed: what waits for input waits for it too, whichever
 * thread the signal meets and however shortly before. */
static int wake[2] = {-1, -1};

static void on_sigint(int sig) {
    (void)sig;
    if (pending) _exit(CLI_INTERRUPTED);
    pending = 1;
    const int before = errno;
    if (wake[1] >= 0 && write(wake[1], "", 1) < 0) errno = before;
}

/* SA_RESTART: a write of the answer must not fail because of Ctrl-C. */
void cli_interrupt_install(void) {
    if (wake[0] < 0 && pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0) wake[0] = wake[1] = -1;
    struct sigaction sa = {.sa_handler = on_sigint, .sa_flags = SA_RESTART};
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGINT, &sa, NULL);
}

void cli_interrupt_by_term(void) {
    struct sigaction sa = {.sa_handler = on_sigint, .sa_flags = SA_RESTART};
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGTERM, &sa, NULL);
}

bool cli_interrupt_wait_for(int fd) {
    struct pollfd wait[] = {{.fd = fd, .events = POLLIN},
                            {.fd = wake[0], .events = POLLIN}};
    while (!pending && (wait[0].revents == 0)) {
        if (poll(wait, 2, -1) < 0) wait[0].revents = 0;
    }
    return !pending;
}

bool cli_interrupt_pending(void) {
    return pending != 0;
}

void cli_interrupt_clear(void) {
    char bytes[16];
    while (wake[0] >= 0 && read(wake[0], bytes, sizeof bytes) > 0) continue;
    pending = 0;
}
