/* http_impl.h - the parts of the server and of an exchange; only for src/http.
 *
 * LOCKS, taken in this order
 *   server.lock     slots, listener, draining and stopping
 *   exchange.lock   one exchange's answer, its connection, who keeps it
 *   libmicrohttpd's own
 * config.wake and config.handle are called with none of ours held.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_HTTP_IMPL_H
#define TUG_HTTP_IMPL_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/http.h"
#include "http/http_access.h"

enum {
    HTTP_THREADS = 4,             /* a long prompt's tokenizing holds up a quarter */
    HTTP_HEADER_BYTES = 32 << 10, /* request line and headers: a browser's cookies fit */
    HTTP_HEADER_COUNT = 100,
    HTTP_POOL_BYTES = 64 << 10,  /* libmicrohttpd's memory for one connection */
    HTTP_BLOCK_BYTES = 32 << 10, /* a piece of an answer of known length */
    HTTP_BODY_BYTES = 32 << 20,  /* config.max_body when 0 */
    HTTP_BODIES = 8,             /* so many full bodies in memory, all together */
    HTTP_DISCARD = 4,            /* a body that is refused is read up to 4 x max_body */
    HTTP_BODY_RATE = 1024,       /* bytes a second, after a grace of header_s */
    HTTP_CONNECTIONS = 16384,
    HTTP_SPARE_FDS = 128,        /* model files, logs, our own */
    HTTP_SEND_BUFFER = 128 << 10 /* of the kernel: more would hide a slow reader */
};

typedef struct http_pair {
    uint32_t name, name_n, value, value_n; /* in exchange.text */
    bool is_query;                         /* else a header */
} http_pair;

typedef struct http_refused {
    int status; /* 0: not refused */
    tug_http_refusal why;
    const char *sentence; /* static */
    bool close;           /* the connection cannot go on */
} http_refused;

struct tug_http_exchange {
    struct tug_http_server *server; /* borrowed; only on server threads */
    int fd;
    pthread_mutex_t lock;
    int n_refs;  /* memory: libmicrohttpd's, its response's, the slot's, the keepers' */
    int n_keeps; /* who may still answer */

    /* The request.  Written on the server thread before `handle`, then only read. */
    tug_buf text;                       /* owned: method, path, names and values */
    size_t method_at, method_n, path_n; /* the path is first */
    http_pair *pairs;                   /* owned, (n_pairs,) */
    int n_pairs, cap_pairs;
    const char
        *raw_target; /* where libmicrohttpd has it; never read, see request_is_strict */
    size_t raw_target_n;
    tug_buf body;
    size_t n_counted; /* of it in server.n_body_bytes */
    bool target_ok, seen_headers, handled, is_options, is_1_0;
    int key;
    bool cors; /* its origin is configured */
    char id[32];
    http_refused refused;
    _Atomic uint64_t n_received; /* bytes of the body, for the watcher */

    /* The answer, under `lock`. */
    struct MHD_Connection *conn; /* NULL: over */
    bool suspended;
    bool answered; /* status, type and headers are final */
    bool whole;    /* known length, all of it in `out` */
    bool broken;   /* a stream that nobody will finish */
    bool close;
    int status;
    char content_type[96];
    tug_buf headers; /* owned: name\0value\0... */
    tug_buf out;     /* owned: bytes not taken; the first n_taken are */
    size_t n_taken;
    _Atomic size_t backlog;
    _Atomic bool ended;
    _Atomic bool gone;
    _Atomic int64_t progress_ms; /* when the client last took something, or could first */
};

/* What a connection is doing, which decides its deadline. */
typedef enum http_phase {
    HTTP_HEADERS, /* until the headers are complete */
    HTTP_BODY,    /* at a minimum rate */
    HTTP_ANSWER,  /* the client must take what there is */
    HTTP_IDLE     /* until the next request's first byte */
} http_phase;

typedef struct http_slot { /* of one descriptor */
    bool used;
    bool hung_up; /* the peer ended its side */
    bool opened;  /* libmicrohttpd took it up */
    bool doomed;  /* shut down by us: libmicrohttpd will close it */
    http_phase phase;
    uint32_t generation; /* tells a late event of the descriptor's previous life */
    double since, last;  /* begin of the phase; when the body last grew */
    uint64_t n_received;
    tug_http_exchange *x; /* owned reference, or NULL */
} http_slot;

struct tug_http_server {
    tug_http_config config; /* limits filled in; its strings are not kept */
    tug_access access;
    struct MHD_Daemon *daemon;
    tug_buf cert, key; /* owned: PEM, zero-terminated */
    char start_error[160];
    bool starting;
    char *unix_path; /* owned or NULL: removed at the end */
    uint16_t port;

    pthread_t watcher;
    bool has_watcher;
    int epoll_fd, event_fd, reserve_fd;

    pthread_mutex_t lock;
    int listen_fd;    /* -1: draining */
    bool listening;   /* is it in the epoll set? */
    http_slot *slots; /* owned, (n_slots,), by descriptor */
    int n_slots;
    _Atomic int n_connections;
    _Atomic size_t n_body_bytes; /* in the bodies of all exchanges */
    _Atomic bool draining, stopping;
};

static inline int64_t http_ms(double seconds) {
    return (int64_t)(seconds * 1000);
}

/* ---- http_request.c: what came in ---------------------------------------------------- */

/* NULL when out of memory. */
tug_http_exchange *http_exchange_new(struct tug_http_server *s, const char *raw_target,
                                     int fd);
/* Copies the headers and decides whether the request is let in (x->refused). */
void http_request_check(tug_http_exchange *x, struct MHD_Connection *conn,
                        const char *method, const char *version);
/* Takes a piece of the body; false: close the connection. */
bool http_request_body(tug_http_exchange *x, const char *bytes, size_t n);
/* Its body no longer counts among those in memory. */
void http_request_uncount(tug_http_exchange *x);
void http_refuse(tug_http_exchange *x, int status, tug_http_refusal why,
                 const char *sentence);

/* ---- http_exchange.c: what goes out -------------------------------------------------- */

void http_exchange_ref(tug_http_exchange *x);
void http_exchange_unref(tug_http_exchange *x);
/* Answers with the refusal's body. */
void http_exchange_refuse(tug_http_exchange *x);
/* Gives libmicrohttpd the answer, or suspends until there is one. */
enum MHD_Result http_exchange_proceed(tug_http_exchange *x);
/* Nobody reads it: ends a suspension, and the stream. */
void http_exchange_mark_gone(tug_http_exchange *x);
/* libmicrohttpd is done with it. */
void http_exchange_over(tug_http_exchange *x, bool complete);

/* ---- http_watch.c -------------------------------------------------------------------- */

TUG_NODISCARD tug_status http_watch_start(struct tug_http_server *s, tug_err *err);
void http_watch_stop(struct tug_http_server *s);
void http_watch_poke(struct tug_http_server *s);
/* A server thread says what a connection does now. */
void http_watch_phase(struct tug_http_server *s, int fd, http_phase phase,
                      tug_http_exchange *x);
/* libmicrohttpd took it up; will close it right after this call. */
void http_watch_opened(struct tug_http_server *s, int fd);
void http_watch_closed(struct tug_http_server *s, int fd);
/* Every exchange is gone. */
void http_watch_end_all(struct tug_http_server *s);

/* ---- http_accept.c, http_listen.c ---------------------------------------------------- */

/* Takes the connections that wait; false: no descriptors or memory, try again later. */
bool http_accept_all(struct tug_http_server *s);
void http_stop_listening(struct tug_http_server *s);
/* Opens the socket and finds the port; refuses an open bind. */
TUG_NODISCARD tug_status http_listen(struct tug_http_server *s, const tug_http_config *c,
                                     tug_err *err);
/* The local address of a connection as text; false for a unix socket. */
bool http_local_address(int fd, char out[INET6_ADDRSTRLEN]);

#endif
