/* http_accept.c - new connections; what happens when there are too many.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/sys.h"
#include "http/http_impl.h"

/* Sent on plain connections only: the client learns more than from a reset. */
#define BUSY                                               \
    "{\"error\":{\"message\":\"too many connections; try " \
    "again\",\"type\":\"overloaded\"}}"
static const char busy[] =
    "HTTP/1.1 503 Service Unavailable\r\nServer: tug\r\nRetry-After: 5\r\n"
    "Content-Type: application/json\r\nContent-Length: 75\r\nConnection: "
    "close\r\n\r\n" BUSY;
_Static_assert(sizeof BUSY - 1 == 75, "Content-Length");

static void set_options(const struct tug_http_server *s, int fd) {
    const int on = 1, buffer = HTTP_SEND_BUFFER;
    const unsigned stall_ms = (unsigned)s->config.stall_s * 1000;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    if (s->unix_path) return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* A peer whose cable was pulled never says goodbye. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &stall_ms, sizeof stall_ms);
}

static void shed(const struct tug_http_server *s, int fd) {
    if (!s->access.is_tls) {
        (void)tug_sys.send(fd, busy, sizeof busy - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    (void)tug_sys.close(fd);
}

/* A slot for the descriptor; with the lock held. */
static bool make_slot(struct tug_http_server *s, int fd) {
    if (fd >= s->n_slots) {
        const int n = fd < 64 ? 128 : 2 * fd;
        http_slot *const more = tug_realloc_array(s->slots, (size_t)n, sizeof *more);
        if (!more) return false;
        memset(more + s->n_slots, 0, (size_t)(n - s->n_slots) * sizeof *more);
        s->slots = more;
        s->n_slots = n;
    }
    http_slot *const slot = &s->slots[fd];
    const uint32_t generation = slot->generation + 1;
    if (!slot->used) atomic_fetch_add(&s->n_connections, 1);
    *slot = (http_slot){.used = true, .generation = generation, .since = tug_now()};
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET};
    event.data.u64 = (uint64_t)generation << 32 | (uint32_t)fd;
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) return true;
    slot->used = false;
    atomic_fetch_sub(&s->n_connections, 1);
    return false;
}

static void take(struct tug_http_server *s, int fd, const struct sockaddr *from,
                 socklen_t n) {
    bool ok = atomic_load(&s->n_connections) < s->config.max_connections;
    if (ok) {
        set_options(s, fd);
        pthread_mutex_lock(&s->lock);
        ok = make_slot(s, fd);
        pthread_mutex_unlock(&s->lock);
    }
    if (!ok) {
        shed(s, fd);
        return;
    }
    /* When it refuses, it has closed the descriptor. */
    if (MHD_add_connection(s->daemon, fd, from, n) != MHD_YES) http_watch_closed(s, fd);
}

/* Without descriptors a waiting connection would wait for ever, and keep epoll awake: the
 * one that we hold in reserve lets us take it and turn it away. */
static bool turn_away(struct tug_http_server *s) {
    if (s->reserve_fd < 0) return false;
    (void)tug_sys.close(s->reserve_fd);
    pthread_mutex_lock(&s->lock);
    const int fd = s->listen_fd < 0 ? -1
                                    : tug_sys.accept4(s->listen_fd, NULL, NULL,
                                                      SOCK_NONBLOCK | SOCK_CLOEXEC);
    pthread_mutex_unlock(&s->lock);
    if (fd >= 0) shed(s, fd);
    s->reserve_fd = tug_sys.open("/dev/null", O_RDONLY | O_CLOEXEC, 0);
    return fd >= 0;
}

bool http_accept_all(struct tug_http_server *s) {
    for (;;) {
        struct sockaddr_storage from = {0};
        socklen_t n = sizeof from;
        pthread_mutex_lock(&s->lock);
        const bool open = s->listen_fd >= 0;
        const int fd = !open ? -1
                             : tug_sys.accept4(s->listen_fd, (struct sockaddr *)&from, &n,
                                               SOCK_NONBLOCK | SOCK_CLOEXEC);
        const int why = errno;
        pthread_mutex_unlock(&s->lock);
        if (!open) return true;
        if (fd >= 0) {
            if (n > sizeof from) n = sizeof from;
            take(s, fd, (const struct sockaddr *)&from, n ? n : sizeof from.ss_family);
            continue;
        }
        if (why == EAGAIN || why == EWOULDBLOCK) return true;
        if (why == EMFILE || why == ENFILE) {
            if (turn_away(s)) continue;
            return false;
        }
        if (why == ENOMEM || why == ENOBUFS) return false;
        if (why == EINTR || why == ECONNABORTED || why == EPROTO || why == EPERM ||
            why == ENETDOWN || why == EHOSTUNREACH || why == ENETUNREACH) {
            continue; /* that one connection is lost */
        }
        return false;
    }
}
