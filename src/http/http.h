/* http.h - an HTTP server on libmicrohttpd: connections, limits, who may talk to us.
 *
 * OWNS  sockets, TLS, header and body limits, deadlines, Host and Origin and key checks,
 *       CORS, streaming with back-pressure, noticing that a client is gone.
 * NOT   what the paths mean, and the shape of an API's errors (the handler gives it).
 *
 * An exchange is one request and its answer.  The handler answers it at once, or keeps it
 * (tug_http_keep) and answers from another thread later; whoever kept it releases it.
 *
 * THREADS  every function of an exchange may be called from any thread.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_HTTP_HTTP_H
#define TUG_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

typedef struct tug_http_server tug_http_server;
typedef struct tug_http_exchange tug_http_exchange;

/* Why the server refused a request before any handler saw it. */
typedef enum tug_http_refusal {
    TUG_REFUSED_HOST,      /* 421 */
    TUG_REFUSED_ORIGIN,    /* 403 */
    TUG_REFUSED_KEY,       /* 401 */
    TUG_REFUSED_TOO_LARGE, /* 413, 431 */
    TUG_REFUSED_MALFORMED, /* 400; 415: the body is not JSON */
    TUG_REFUSED_SHUTDOWN   /* 503: draining, or no memory for the request */
} tug_http_refusal;

typedef struct tug_http_config {
    const char *host;               /* NULL: 127.0.0.1 */
    uint16_t port;                  /* 0: any free one (tug_http_port says which) */
    const char *unix_socket;        /* path instead of host and port, or NULL */
    const char *tls_cert, *tls_key; /* PEM files, both or neither */
    const char *key_file;           /* one API key a line; NULL: no key is asked for */
    bool allow_open; /* a bind that is not loopback without keys is meant */
    const char *const *allowed_hosts; /* (n_hosts,) further names of this server */
    size_t n_hosts;
    const char *const *cors_origins; /* (n_origins,) pages that may call us */
    size_t n_origins;
    size_t max_body;               /* bytes; 0: 32 MiB */
    int max_connections;           /* 0: as many as descriptors allow, 16384 at most */
    int header_s, idle_s, stall_s; /* deadlines in seconds; 0: 10, 60, 30 */

    void *ud;
    /* The whole request has arrived and passed the checks.  Runs on a server thread. */
    void (*handle)(void *ud, tug_http_exchange *x);
    /* The body of a refusal, in the shape that clients of this path understand. */
    void (*refuse)(void *ud, tug_str path, tug_http_refusal why, tug_str sentence,
                   tug_buf *body);
    /* Paths that need no key (GET /health). */
    bool (*is_public)(void *ud, tug_str method, tug_str path);
    /* Something that a waiting worker may want to know: a client went away, or took what
     * was written.  May be NULL; must be quick. */
    void (*wake)(void *ud);
} tug_http_config;

TUG_NODISCARD tug_status tug_http_start(tug_http_server **out,
                                        const tug_http_config *config, tug_err *err);
uint16_t tug_http_port(const tug_http_server *server);
int tug_http_n_connections(const tug_http_server *server);

/* No new connections; requests on kept ones get 503.  Exchanges go on. */
void tug_http_drain(tug_http_server *server);
/* Ends what is left.  Exchanges that are still kept stay valid, and gone. */
void tug_http_stop(tug_http_server **server);

/* ---- the request --------------------------------------------------------------------- */

/* All of them end with a zero byte that does not count.  A HEAD is a GET here, and OPTIONS
 * does not reach the handler. */
tug_str tug_http_method(const tug_http_exchange *x);
tug_str tug_http_path(const tug_http_exchange *x); /* decoded, without the query */
tug_str tug_http_query(const tug_http_exchange *x, const char *name);  /* p NULL: none */
tug_str tug_http_header(const tug_http_exchange *x, const char *name); /* p NULL: none */
tug_str tug_http_body(const tug_http_exchange *x);

/* Which key it came with, from 0 in the order of the file; -1: no keys are asked for. */
int tug_http_key(const tug_http_exchange *x);

/* ---- the answer ---------------------------------------------------------------------- */

void tug_http_keep(tug_http_exchange *x);
void tug_http_release(tug_http_exchange *x);

/* A header of the answer; before respond or begin_stream. */
TUG_NODISCARD tug_status tug_http_set_header(tug_http_exchange *x, const char *name,
                                             tug_str value, tug_err *err);

/* The whole answer.  Bytes are copied.  An exchange is answered once; one that nobody
 * answers or keeps gets a 500. */
TUG_NODISCARD tug_status tug_http_respond(tug_http_exchange *x, int status,
                                          const char *content_type, tug_str body,
                                          tug_err *err);

/* Headers go out at once; then pieces, in order; then the end.  `write` only queues: who
 * writes much asks tug_http_backlog and waits for `wake`.  TUG_ECANCELED when the client is
 * gone. */
TUG_NODISCARD tug_status tug_http_begin_stream(tug_http_exchange *x, int status,
                                               const char *content_type, tug_err *err);
TUG_NODISCARD tug_status tug_http_write(tug_http_exchange *x, tug_str bytes,
                                        tug_err *err);
void tug_http_end_stream(tug_http_exchange *x);

/* Bytes written that the client has not taken. */
size_t tug_http_backlog(const tug_http_exchange *x);

/* The client hung up, stalled, or the server stopped: nobody reads the answer. */
bool tug_http_gone(const tug_http_exchange *x);

#endif
