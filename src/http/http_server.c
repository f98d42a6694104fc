/* http_server.c - starts and stops the server; the callbacks of libmicrohttpd.
 *
 * DESIGN
 * We accept connections ourselves and hand them to libmicrohttpd, which runs a pool of
 * threads, each with an epoll set of its own: so descriptors that run out, deadlines and
 * the end are ours to decide (http_watch.c).  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sys.h"
#include "http/http_impl.h"

/* ---- the callbacks ------------------------------------------------------------------- */

static int socket_of(struct MHD_Connection *conn) {
    const union MHD_ConnectionInfo *const info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

/* The request line is there: the exchange begins. */
static void *on_request_line(void *ud, const char *target, struct MHD_Connection *conn) {
    tug_http_exchange *const x = http_exchange_new(ud, target, socket_of(conn));
    if (x) x->conn = conn;
    return x;
}

static void on_completed(void *ud, struct MHD_Connection *conn, void **context,
                         enum MHD_RequestTerminationCode why) {
    struct tug_http_server *const s = ud;
    tug_http_exchange *const x = *context;
    *context = NULL;
    http_watch_phase(s, socket_of(conn), HTTP_IDLE, NULL);
    if (!x) return;
    http_exchange_over(x, why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    http_exchange_unref(x);
}

static void on_connection(void *ud, struct MHD_Connection *conn, void **context,
                          enum MHD_ConnectionNotificationCode what) {
    (void)context;
    struct tug_http_server *const s = ud;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        http_watch_opened(s, socket_of(conn));
    } else {
        http_watch_closed(s, socket_of(conn));
    }
}

/* What may be asked; with CORS, which of it a page of another origin may. */
static void answer_options(tug_http_exchange *x) {
    static const struct {
        const char *name, *value;
    } cors[] = {
        {"Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"},
        {"Access-Control-Max-Age", "600"},
    };
    static const char allow[] = "GET, HEAD, POST, OPTIONS";
    bool ok = tug_http_set_header(x, "Allow", tug_str_of(allow), NULL) == TUG_OK;
    const tug_str asked = tug_http_header(x, "access-control-request-headers");
    for (size_t i = 0; x->cors && i < sizeof cors / sizeof *cors; i++) {
        ok = ok && tug_http_set_header(x, cors[i].name, tug_str_of(cors[i].value),
                                       NULL) == TUG_OK;
    }
    if (x->cors && asked.p) {
        ok = ok && tug_http_set_header(x, "Access-Control-Allow-Headers", asked, NULL) ==
                       TUG_OK;
    }
    if (x->cors && tug_http_header(x, "access-control-request-private-network").p) {
        ok = ok && tug_http_set_header(x, "Access-Control-Allow-Private-Network",
                                       tug_str_of("true"), NULL) == TUG_OK;
    }
    /* Fails only without memory; then there is no answer, which proceed() makes a 500. */
    if (ok) (void)!tug_http_respond(x, 204, NULL, tug_str_make(NULL, 0), NULL);
}

/* The whole request is there. */
static void dispatch(tug_http_exchange *x) {
    struct tug_http_server *const s = x->server;
    tug_http_keep(x); /* nobody else's release makes it a 500 before `handle` returned */
    if (x->refused.status) {
        http_exchange_refuse(x);
    } else if (x->is_options) {
        answer_options(x);
    } else {
        s->config.handle(s->config.ud, x);
    }
    tug_http_release(x);
}

static bool expects_continue(const tug_http_exchange *x) {
    return tug_http_header(x, "expect").p != NULL;
}

static enum MHD_Result on_request(void *ud, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version,
                                  const char *bytes, size_t *n, void **context) {
    (void)url;
    tug_http_exchange *const x = *context;
    if (!x) return MHD_NO;
    if (!x->seen_headers) {
        x->seen_headers = true;
        http_request_check(x, conn, method, version);
        http_watch_phase(ud, x->fd, HTTP_BODY, x);
        /* Answered before the body only where that ends the connection, or where the client
         * waits for leave to send it. */
        const bool now = x->refused.status && (x->refused.close || expects_continue(x)) &&
                         (x->refused.status != 413 || expects_continue(x));
        if (!now) return MHD_YES;
    } else if (*n > 0) {
        const bool ok = http_request_body(x, bytes, *n);
        *n = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    if (!x->handled) {
        x->handled = true;
        http_watch_phase(ud, x->fd, HTTP_ANSWER, x);
        dispatch(x);
    }
    return http_exchange_proceed(x);
}

/* ---- start --------------------------------------------------------------------------- */

static void on_log(void *ud, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

/* Why libmicrohttpd does not start; later messages are about single connections. */
static void on_log(void *ud, const char *format, va_list args) {
    struct tug_http_server *const s = ud;
    if (!s->starting) return;
    (void)vsnprintf(s->start_error, sizeof s->start_error, format, args);
    s->start_error[strcspn(s->start_error, "\n")] = 0;
}

static tug_status read_pem(const char *path, tug_buf *out, tug_err *err) {
    tug_file file;
    TUG_TRY(tug_file_open(&file, path, err));
    const tug_status status = tug_read_all(file.fd, path, 1 << 20, out, err);
    tug_file_close(&file);
    if (status == TUG_OK && (out->n == 0 || strlen(out->p) != out->n)) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s is not a PEM file", path);
    }
    return status;
}

static tug_status read_certificate(struct tug_http_server *s, const tug_http_config *c,
                                   tug_err *err) {
    if (!c->tls_cert && !c->tls_key) return TUG_OK;
    if (!c->tls_cert || !c->tls_key) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "TLS needs a certificate and its key: give both, or neither");
    }
    TUG_TRY(read_pem(c->tls_cert, &s->cert, err));
    return read_pem(c->tls_key, &s->key, err);
}

/* As many as descriptors allow: the soft limit goes up as far as the system lets it. */
static int limit_connections(int wanted) {
    struct rlimit limit;
    const rlim_t all = HTTP_CONNECTIONS + 2 * HTTP_SPARE_FDS;
    int most = 1024 - HTTP_SPARE_FDS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        if (limit.rlim_cur < all && limit.rlim_cur < limit.rlim_max) {
            const rlim_t before = limit.rlim_cur;
            limit.rlim_cur = limit.rlim_max < all ? limit.rlim_max : all;
            if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
        }
        const rlim_t usable = limit.rlim_cur < all ? limit.rlim_cur : all;
        most = (int)usable - HTTP_SPARE_FDS;
        if (most < (int)usable / 2) most = (int)usable / 2;
    }
    if (most > HTTP_CONNECTIONS) most = HTTP_CONNECTIONS;
    return wanted > 0 && wanted < most ? wanted : most;
}

static void fill_limits(tug_http_config *c) {
    if (c->max_body == 0) c->max_body = HTTP_BODY_BYTES;
    if (c->header_s <= 0) c->header_s = 10;
    if (c->idle_s <= 0) c->idle_s = 60;
    if (c->stall_s <= 0) c->stall_s = 30;
    c->max_connections = limit_connections(c->max_connections);
}

static tug_status start_daemon(struct tug_http_server *s, tug_err *err) {
    const bool tls = s->access.is_tls;
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET |
                           MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                           (tls ? (unsigned)MHD_USE_TLS : 0);
    const struct MHD_OptionItem tls_options[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, s->cert.p},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, s->key.p},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_END, 0, NULL},
    };
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    /* Our own limit comes first; libmicrohttpd's is out of its way. */
    const unsigned connections =
        HTTP_THREADS * (unsigned)(s->config.max_connections + 64);
    s->starting = true;
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, s,
        MHD_OPTION_THREAD_POOL_SIZE, (unsigned)HTTP_THREADS, MHD_OPTION_CONNECTION_LIMIT,
        connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_URI_LOG_CALLBACK, on_request_line,
        s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, s,
#if MHD_VERSION >= 0x01000000
        MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1,
#endif
        MHD_OPTION_ARRAY, tls ? tls_options : none, MHD_OPTION_END);
    s->starting = false;
    if (s->daemon) return TUG_OK;
    return TUG_FAIL(err, TUG_EIO, "cannot start the HTTP server: %s",
                    s->start_error[0] ? s->start_error : "no threads or no memory");
}

static void destroy(struct tug_http_server *s) {
    http_stop_listening(s);
    http_watch_stop(s);
    if (s->daemon) {
        http_watch_end_all(s);
        MHD_stop_daemon(s->daemon);
    }
    if (s->epoll_fd >= 0) (void)tug_sys.close(s->epoll_fd); /* the threads used it */
    tug_access_free(&s->access);
    tug_buf_free(&s->cert);
    if (s->key.p) explicit_bzero(s->key.p, s->key.n);
    tug_buf_free(&s->key);
    tug_free(s->unix_path);
    tug_free(s->slots);
    pthread_mutex_destroy(&s->lock);
    tug_free(s);
}

static tug_status start(struct tug_http_server *s, const tug_http_config *c,
                        tug_err *err) {
    fill_limits(&s->config);
    TUG_TRY(read_certificate(s, c, err));
    TUG_TRY(tug_access_make(&s->access, c, err));
    TUG_TRY(http_listen(s, c, err));
    TUG_TRY(start_daemon(s, err));
    return http_watch_start(s, err);
}

tug_status tug_http_start(tug_http_server **out, const tug_http_config *config,
                          tug_err *err) {
    *out = NULL;
    struct tug_http_server *const s = tug_alloc_zero(sizeof *s);
    if (!s || pthread_mutex_init(&s->lock, NULL) != 0) {
        tug_free(s);
        return TUG_FAIL(err, TUG_ENOMEM, "no memory for the HTTP server");
    }
    s->listen_fd = s->epoll_fd = s->event_fd = s->reserve_fd = -1;
    s->config = *config;
    *out = s; /* before there are threads whose handler may ask for it */
    const tug_status status = start(s, config, err);
    if (status != TUG_OK) {
        *out = NULL;
        destroy(s);
    }
    return status;
}

uint16_t tug_http_port(const tug_http_server *server) {
    return server->port;
}

int tug_http_n_connections(const tug_http_server *server) {
    return atomic_load(&server->n_connections);
}

void tug_http_drain(tug_http_server *server) {
    atomic_store(&server->draining, true);
    http_stop_listening(server);
    http_watch_poke(server);
}

void tug_http_stop(tug_http_server **server) {
    if (!*server) return;
    atomic_store(&(*server)->draining, true);
    destroy(*server);
    *server = NULL;
}
