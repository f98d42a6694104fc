/* http_watch.c - the thread that sees what libmicrohttpd does not: clients that are gone
 * while their exchange is suspended, deadlines, new connections.
 *
 * DESIGN
 * One epoll set holds every connection, edge-triggered, for the peer's hang-up alone; an
 * idle one also for its first byte, from which the header deadline counts.  So a client
 * that drips bytes wakes this thread not once.  Deadlines are looked through four times
 * a second: 16384 slots in a row are a fraction of a millisecond.
 *
 * Which connection an event is of says the slot's generation: a descriptor may have been
 * closed and given to another one since.  A connection is only ever shut down here, under
 * the lock that its closing takes too; libmicrohttpd then sees the end and closes it.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/sys.h"
#include "http/http_impl.h"

enum { TICK_MS = 250, N_EVENTS = 256 };

/* In place of a slot and its generation: generations begin at 1. */
enum { ON_LISTENER = 0, ON_POKE = 1 };

static http_slot *slot_of(struct tug_http_server *s, int fd) {
    return fd >= 0 && fd < s->n_slots ? &s->slots[fd] : NULL;
}

static void watch_for(const struct tug_http_server *s, int fd, uint32_t generation,
                      uint32_t events) {
    struct epoll_event event = {.events = events | EPOLLRDHUP | EPOLLET};
    event.data.u64 = (uint64_t)generation << 32 | (uint32_t)fd;
    /* Fails only without kernel memory; then the deadline counts from the wrong moment. */
    (void)epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

/* ---- what the server threads say ----------------------------------------------------- */

void http_watch_opened(struct tug_http_server *s, int fd) {
    pthread_mutex_lock(&s->lock);
    http_slot *const slot = slot_of(s, fd);
    if (slot && !slot->used) { /* it waited so long that it was forgotten */
        slot->used = true;
        atomic_fetch_add(&s->n_connections, 1);
    }
    if (slot) {
        slot->since = tug_now();
        slot->opened = true;
    }
    pthread_mutex_unlock(&s->lock);
}

void http_watch_phase(struct tug_http_server *s, int fd, http_phase phase,
                      tug_http_exchange *x) {
    bool gone = false;
    tug_http_exchange *old = NULL;
    pthread_mutex_lock(&s->lock);
    http_slot *const slot = slot_of(s, fd);
    if (slot && slot->used) {
        old = slot->x;
        if (x) http_exchange_ref(x);
        slot->x = x;
        slot->phase = phase;
        slot->since = slot->last = tug_now();
        slot->n_received = 0;
        gone = slot->hung_up;
        if (phase == HTTP_IDLE) watch_for(s, fd, slot->generation, EPOLLIN);
    }
    if (atomic_load(&s->stopping)) gone = true;
    pthread_mutex_unlock(&s->lock);
    if (x && gone && phase == HTTP_ANSWER) http_exchange_mark_gone(x);
    if (old) http_exchange_unref(old);
}

void http_watch_closed(struct tug_http_server *s, int fd) {
    tug_http_exchange *x = NULL;
    pthread_mutex_lock(&s->lock);
    http_slot *const slot = slot_of(s, fd);
    if (slot && slot->used) {
        x = slot->x;
        slot->x = NULL;
        slot->used = false;
        atomic_fetch_sub(&s->n_connections, 1);
    }
    pthread_mutex_unlock(&s->lock);
    if (x) http_exchange_unref(x);
}

void http_watch_end_all(struct tug_http_server *s) {
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->stopping, true);
    for (int fd = 0; fd < s->n_slots; fd++) {
        if (s->slots[fd].used && s->slots[fd].x) http_exchange_mark_gone(s->slots[fd].x);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- deadlines ----------------------------------------------------------------------- */

#define TOO_SLOW \
    "{\"error\":{\"message\":\"the request took too long\",\"type\":\"timeout\"}}"
static const char too_slow[] =
    "HTTP/1.1 408 Request Timeout\r\nServer: tug\r\nContent-Type: application/json\r\n"
    "Content-Length: 66\r\nConnection: close\r\n\r\n" TOO_SLOW;
_Static_assert(sizeof TOO_SLOW - 1 == 66, "Content-Length");

/* The body must come at a minimum rate on average, and never pause for long. */
static bool body_is_late(const struct tug_http_server *s, http_slot *slot, double now) {
    const uint64_t n = atomic_load_explicit(&slot->x->n_received, memory_order_relaxed);
    if (n != slot->n_received) {
        slot->n_received = n;
        slot->last = now;
    }
    const double grace = s->config.header_s;
    return now - slot->last > s->config.stall_s ||
           now - slot->since > grace + (double)n / HTTP_BODY_RATE;
}

static bool answer_is_late(const struct tug_http_server *s, const http_slot *slot,
                           double now) {
    const tug_http_exchange *const x = slot->x;
    if (!x || (atomic_load(&x->backlog) == 0 && !atomic_load(&x->ended))) return false;
    return http_ms(now) - atomic_load(&x->progress_ms) >
           1000 * (int64_t)s->config.stall_s;
}

static bool is_late(const struct tug_http_server *s, http_slot *slot, double now) {
    switch (slot->phase) {
    case HTTP_HEADERS: return now - slot->since > s->config.header_s;
    case HTTP_BODY: return slot->x && body_is_late(s, slot, now);
    case HTTP_ANSWER: return answer_is_late(s, slot, now);
    case HTTP_IDLE:
        return atomic_load(&s->draining) || now - slot->since > s->config.idle_s;
    }
    return false;
}

/* Shuts it down; with the lock held.  Did somebody wait for its exchange? */
static bool end_connection(struct tug_http_server *s, int fd, http_slot *slot) {
    const bool reading = slot->phase == HTTP_HEADERS || slot->phase == HTTP_BODY;
    if (reading && !s->access.is_tls && slot->opened) {
        (void)tug_sys.send(fd, too_slow, sizeof too_slow - 1,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    slot->doomed = true;
    if (slot->x) http_exchange_mark_gone(slot->x);
    (void)shutdown(fd, SHUT_RDWR);
    return slot->x != NULL;
}

/* A peer's end that arrives together with its last bytes is one edge: libmicrohttpd takes
 * it for those bytes, reads them, and waits for more.  This makes another edge. */
static void remind(const http_slot *slot, int fd) {
    if (slot->hung_up && slot->phase != HTTP_ANSWER && slot->opened) {
        (void)shutdown(fd, SHUT_RD);
    }
}

static bool check_deadlines(struct tug_http_server *s) {
    const double now = tug_now();
    bool any = false;
    pthread_mutex_lock(&s->lock);
    for (int fd = 0; fd < s->n_slots; fd++) {
        http_slot *const slot = &s->slots[fd];
        if (!slot->used || slot->doomed) continue;
        remind(slot, fd);
        if (!is_late(s, slot, now)) continue;
        if (slot->opened) {
            any |= end_connection(s, fd, slot);
        } else {
            /* libmicrohttpd had no memory for it and closed it without a word, or has not
             * come to it yet: the descriptor may be another's. */
            slot->used = false;
            atomic_fetch_sub(&s->n_connections, 1);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return any;
}

/* ---- the thread ---------------------------------------------------------------------- */

static bool on_event(struct tug_http_server *s, const struct epoll_event *event) {
    const int fd = (int)(uint32_t)event->data.u64;
    const uint32_t generation = (uint32_t)(event->data.u64 >> 32);
    bool any = false;
    pthread_mutex_lock(&s->lock);
    http_slot *const slot = slot_of(s, fd);
    if (slot && slot->used && slot->generation == generation) {
        if (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
            slot->hung_up = true;
            if (slot->x && slot->phase == HTTP_ANSWER) {
                http_exchange_mark_gone(slot->x);
                any = true;
            }
        } else if ((event->events & EPOLLIN) && slot->phase == HTTP_IDLE) {
            slot->phase = HTTP_HEADERS;
            slot->since = tug_now();
            watch_for(s, fd, generation, 0);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return any;
}

static void listen_again(struct tug_http_server *s) {
    pthread_mutex_lock(&s->lock);
    if (s->listen_fd >= 0 && !s->listening) {
        struct epoll_event event = {.events = EPOLLIN};
        event.data.u64 = ON_LISTENER;
        s->listening = epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->listen_fd, &event) == 0;
    }
    pthread_mutex_unlock(&s->lock);
}

/* Without descriptors the listener would wake us at once, again and again. */
static void pause_listening(struct tug_http_server *s) {
    pthread_mutex_lock(&s->lock);
    if (s->listen_fd >= 0 && s->listening) {
        (void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, s->listen_fd, NULL);
        s->listening = false;
    }
    pthread_mutex_unlock(&s->lock);
}

static void *watch(void *ud) {
    struct tug_http_server *const s = ud;
    struct epoll_event events[N_EVENTS];
    double next = 0;
    while (!atomic_load(&s->stopping)) {
        const int n = epoll_wait(s->epoll_fd, events, N_EVENTS, TICK_MS);
        bool wake = false;
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == ON_LISTENER) {
                if (!http_accept_all(s)) pause_listening(s);
            } else if (events[i].data.u64 == ON_POKE) {
                uint64_t count;
                (void)!tug_sys.read(s->event_fd, &count, sizeof count);
                next = 0;
            } else {
                wake |= on_event(s, &events[i]);
            }
        }
        const double now = tug_now();
        if (now >= next) {
            next = now + TICK_MS / 1000.0;
            wake |= check_deadlines(s);
            listen_again(s);
        }
        if (wake && s->config.wake) s->config.wake(s->config.ud);
    }
    return NULL;
}

void http_watch_poke(struct tug_http_server *s) {
    const uint64_t one = 1;
    if (s->event_fd >= 0) (void)!tug_sys.write(s->event_fd, &one, sizeof one);
}

tug_status http_watch_start(struct tug_http_server *s, tug_err *err) {
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->reserve_fd = tug_sys.open("/dev/null", O_RDONLY | O_CLOEXEC, 0);
    struct epoll_event event = {.events = EPOLLIN};
    event.data.u64 = ON_POKE;
    if (s->epoll_fd < 0 || s->event_fd < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->event_fd, &event) != 0) {
        return TUG_FAIL(err, TUG_EIO, "cannot watch connections: %s", strerror(errno));
    }
    listen_again(s);
    const int code = pthread_create(&s->watcher, NULL, watch, s);
    s->has_watcher = code == 0;
    if (code == 0) return TUG_OK;
    return TUG_FAIL(err, TUG_EIO, "cannot start a thread: %s", strerror(code));
}

void http_watch_stop(struct tug_http_server *s) {
    atomic_store(&s->stopping, true);
    http_watch_poke(s);
    if (s->has_watcher) (void)pthread_join(s->watcher, NULL);
    s->has_watcher = false;
    if (s->event_fd >= 0) (void)tug_sys.close(s->event_fd);
    if (s->reserve_fd >= 0) (void)tug_sys.close(s->reserve_fd);
    s->event_fd = s->reserve_fd = -1;
}
