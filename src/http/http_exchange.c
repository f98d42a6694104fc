/* http_exchange.c - the answer of an exchange, and who holds it.
 *
 *                 handle() returned,            answer or first piece
 *                 nothing to send               ┌──────────────────┐
 *   request ────► SUSPENDED ──────────────────► QUEUED ──► SENDING ─┴─► over
 *                     ▲   resume                    queue empty │
 *                     └─────────────────────────────────────────┘
 *
 * INVARIANTS (all under the exchange's lock)
 *  1. `suspended` is set, and libmicrohttpd told, in one critical section, and only while
 *     there is nothing to do; every writer looks at it after it has added something to do.
 *     So no wake-up is lost, and a connection is resumed at most once per suspension.
 *  2. `conn` is used by other threads only while suspended; it is NULL from the moment
 *     libmicrohttpd is done with the request.
 *  3. Nothing here touches the server once `conn` is NULL: a kept exchange outlives it.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "base/sys.h"
#include "http/http_impl.h"

enum { OUT_KEEP = 64 << 10 }; /* an empty queue larger than this gives its memory back */

/* ---- life ---------------------------------------------------------------------------- */

void http_exchange_ref(tug_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->n_refs++;
    pthread_mutex_unlock(&x->lock);
}

void http_exchange_unref(tug_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    const bool last = --x->n_refs == 0;
    pthread_mutex_unlock(&x->lock);
    if (!last) return;
    pthread_mutex_destroy(&x->lock);
    tug_buf_free(&x->text);
    tug_buf_free(&x->body);
    tug_buf_free(&x->headers);
    tug_buf_free(&x->out);
    tug_free(x->pairs);
    tug_free(x);
}

void tug_http_keep(tug_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->n_keeps++;
    x->n_refs++;
    pthread_mutex_unlock(&x->lock);
}

/* Lets the server thread look again.  Called with the lock held. */
static void resume(tug_http_exchange *x) {
    if (!x->suspended) return;
    x->suspended = false;
    MHD_resume_connection(x->conn);
}

/* The last who could answer went without: a stream breaks off, a request gets a 500. */
static void abandon(tug_http_exchange *x) {
    if (atomic_load(&x->ended) || x->broken) return;
    x->broken = true;
    resume(x);
}

void tug_http_release(tug_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    if (--x->n_keeps == 0) abandon(x);
    pthread_mutex_unlock(&x->lock);
    http_exchange_unref(x);
}

void http_exchange_mark_gone(tug_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    atomic_store(&x->gone, true);
    resume(x);
    pthread_mutex_unlock(&x->lock);
}

void http_exchange_over(tug_http_exchange *x, bool complete) {
    http_request_uncount(x);
    pthread_mutex_lock(&x->lock);
    x->conn = NULL;
    x->suspended = false;
    const bool taken = atomic_load(&x->ended) && atomic_load(&x->backlog) == 0;
    if (!complete || !taken) atomic_store(&x->gone, true);
    tug_buf_free(&x->out);
    x->n_taken = 0;
    atomic_store(&x->backlog, 0);
    const bool kept = x->n_keeps > 0 && atomic_load(&x->gone);
    pthread_mutex_unlock(&x->lock);
    const tug_http_config *const c = &x->server->config;
    if (kept && c->wake) c->wake(c->ud);
}

bool tug_http_gone(const tug_http_exchange *x) {
    return atomic_load(&x->gone);
}

size_t tug_http_backlog(const tug_http_exchange *x) {
    return atomic_load(&x->backlog);
}

/* ---- writing ------------------------------------------------------------------------- */

/* A name or value of ours must not end a line. */
static bool is_line(tug_str s) {
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) return false;
    }
    return true;
}

static void add_header(tug_http_exchange *x, const char *name, tug_str value) {
    tug_buf_append(&x->headers, name, strlen(name) + 1);
    tug_buf_str(&x->headers, value);
    tug_buf_char(&x->headers, 0);
}

tug_status tug_http_set_header(tug_http_exchange *x, const char *name, tug_str value,
                               tug_err *err) {
    if (!is_line(tug_str_of(name)) || !is_line(value)) {
        return TUG_FAIL(err, TUG_EUSAGE, "the header %s has a control character", name);
    }
    pthread_mutex_lock(&x->lock);
    tug_status status = TUG_OK;
    if (x->answered) {
        status = TUG_FAIL(err, TUG_ESTATE, "the header %s comes after the answer", name);
    } else {
        add_header(x, name, value);
        status = tug_buf_ok(&x->headers, err);
    }
    pthread_mutex_unlock(&x->lock);
    return status;
}

static void touch(tug_http_exchange *x) {
    atomic_store(&x->progress_ms, http_ms(tug_now()));
}

/* Appends to the queue; with the lock held. */
static tug_status push(tug_http_exchange *x, tug_str bytes, tug_err *err) {
    if (x->n_taken > 0 && x->n_taken >= x->out.n / 2) {
        const size_t left = x->out.n - x->n_taken;
        if (left > 0) memmove(x->out.p, x->out.p + x->n_taken, left);
        x->out.n = left;
        x->n_taken = 0;
    }
    if (atomic_load(&x->backlog) == 0) touch(x);
    tug_buf_str(&x->out, bytes);
    if (x->out.failed) {
        x->out.failed = false; /* the queue is as it was */
        return TUG_FAIL(err, TUG_ENOMEM, "no memory for %zu bytes of an answer", bytes.n);
    }
    atomic_store(&x->backlog, x->out.n - x->n_taken);
    return TUG_OK;
}

/* Status and type; with the lock held. */
static tug_status start_answer(tug_http_exchange *x, int status, const char *content_type,
                               tug_err *err) {
    if (x->answered) {
        return TUG_FAIL(err, TUG_ESTATE, "an exchange is answered once");
    }
    if (!x->conn) return TUG_FAIL(err, TUG_ECANCELED, "the client is gone");
    x->answered = true;
    x->status = status;
    (void)snprintf(x->content_type, sizeof x->content_type, "%s",
                   content_type ? content_type : "");
    return TUG_OK;
}

tug_status tug_http_respond(tug_http_exchange *x, int status, const char *content_type,
                            tug_str body, tug_err *err) {
    pthread_mutex_lock(&x->lock);
    tug_status s = start_answer(x, status, content_type, err);
    if (s == TUG_OK) {
        s = push(x, body, err);
        if (s != TUG_OK) x->broken = true; /* closed without an answer */
        x->whole = true;
        atomic_store(&x->ended, true);
        resume(x);
    }
    pthread_mutex_unlock(&x->lock);
    return s;
}

tug_status tug_http_begin_stream(tug_http_exchange *x, int status,
                                 const char *content_type, tug_err *err) {
    pthread_mutex_lock(&x->lock);
    tug_status s = TUG_OK;
    if (atomic_load(&x->gone)) {
        s = TUG_FAIL(err, TUG_ECANCELED, "the client is gone");
    } else {
        s = start_answer(x, status, content_type, err);
    }
    if (s == TUG_OK) {
        touch(x);
        resume(x);
    }
    pthread_mutex_unlock(&x->lock);
    return s;
}

tug_status tug_http_write(tug_http_exchange *x, tug_str bytes, tug_err *err) {
    pthread_mutex_lock(&x->lock);
    tug_status s = TUG_OK;
    /* The end first: an exchange that was sent whole has no client either. */
    if (atomic_load(&x->ended)) {
        s = TUG_FAIL(err, TUG_ESTATE, "a stream is not written after its end");
    } else if (atomic_load(&x->gone) || !x->conn) {
        s = TUG_FAIL(err, TUG_ECANCELED, "the client is gone");
    } else if (!x->answered) {
        s = TUG_FAIL(err, TUG_ESTATE, "a stream is not written before its begin");
    } else if (bytes.n > 0) {
        s = push(x, bytes, err);
        if (s == TUG_OK) resume(x);
    }
    pthread_mutex_unlock(&x->lock);
    return s;
}

void tug_http_end_stream(tug_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    if (x->answered && !atomic_load(&x->ended)) {
        touch(x);
        atomic_store(&x->ended, true);
        resume(x);
    }
    pthread_mutex_unlock(&x->lock);
}

void http_exchange_refuse(tug_http_exchange *x) {
    const tug_http_config *const c = &x->server->config;
    const http_refused r = x->refused;
    tug_buf body = {0};
    if (c->refuse) {
        c->refuse(c->ud, tug_http_path(x), r.why, tug_str_of(r.sentence), &body);
    } else {
        tug_buf_printf(&body, "{\"error\":{\"message\":\"%s\"}}", r.sentence);
    }
    if (body.failed) tug_buf_clear(&body);
    if (r.status == 401) add_header(x, "WWW-Authenticate", tug_str_of("Bearer"));
    if (r.status == 503) add_header(x, "Retry-After", tug_str_of("5"));
    x->close = r.close;
    /* Fails only without memory; then the connection is closed. */
    (void)!tug_http_respond(x, r.status, "application/json", tug_buf_view(&body), NULL);
    tug_buf_free(&body);
}

/* ---- what libmicrohttpd calls -------------------------------------------------------- */

/* Copies what is queued; with the lock held. */
static ssize_t take(tug_http_exchange *x, char *to, size_t max) {
    const size_t have = x->out.n - x->n_taken;
    const size_t n = have < max ? have : max;
    memcpy(to, x->out.p + x->n_taken, n);
    x->n_taken += n;
    if (x->n_taken == x->out.n) {
        if (x->out.cap > OUT_KEEP) tug_buf_free(&x->out);
        tug_buf_clear(&x->out);
        x->n_taken = 0;
    }
    touch(x);
    atomic_store(&x->backlog, x->out.n - x->n_taken);
    return (ssize_t)n;
}

/* libmicrohttpd 0.9.75 forgets a connection whose reader fails between two chunks: it is
 * closed, but not cleaned up.  So the reader says that all is well, and it is the sending
 * that fails.  The client sees a stream without its last chunk. */
static ssize_t break_off(const tug_http_exchange *x) {
    (void)shutdown(x->fd, SHUT_RDWR);
    return x->is_1_0 ? MHD_CONTENT_READER_END_WITH_ERROR
                     : MHD_CONTENT_READER_END_OF_STREAM;
}

static ssize_t read_out(void *ud, uint64_t at, char *to, size_t max) {
    (void)at;
    tug_http_exchange *const x = ud;
    ssize_t n = 0;
    pthread_mutex_lock(&x->lock);
    if ((atomic_load(&x->gone) && !x->whole) || (x->broken && x->out.n == x->n_taken)) {
        n = break_off(x);
    } else if (x->out.n > x->n_taken) {
        n = take(x, to, max);
    } else if (atomic_load(&x->ended)) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        x->suspended = true;
        MHD_suspend_connection(x->conn);
    }
    pthread_mutex_unlock(&x->lock);
    const tug_http_config *const c = &x->server->config;
    if (n > 0 && c->wake) c->wake(c->ud);
    return n;
}

static void response_done(void *ud) {
    http_exchange_unref(ud);
}

/* The name and value of each header; false: one was refused. */
static bool set_headers(tug_http_exchange *x, struct MHD_Response *r) {
    bool ok = MHD_add_response_header(r, "Server", "tug") == MHD_YES &&
              MHD_add_response_header(r, "X-Request-Id", x->id) == MHD_YES &&
              MHD_add_response_header(r, "X-Content-Type-Options", "nosniff") == MHD_YES;
    if (x->content_type[0]) {
        ok = ok && MHD_add_response_header(r, "Content-Type", x->content_type) == MHD_YES;
    }
    if (x->close || atomic_load(&x->server->draining)) {
        ok = ok && MHD_add_response_header(r, "Connection", "close") == MHD_YES;
    }
    if (x->cors) {
        const char *const origin = tug_http_header(x, "origin").p;
        ok = ok &&
             MHD_add_response_header(r, "Access-Control-Allow-Origin", origin) ==
                 MHD_YES &&
             MHD_add_response_header(r, "Access-Control-Expose-Headers",
                                     "X-Request-Id") == MHD_YES &&
             MHD_add_response_header(r, "Vary", "Origin") == MHD_YES;
    }
    for (size_t at = 0; ok && at < x->headers.n;) {
        const char *const name = x->headers.p + at;
        const char *const value = name + strlen(name) + 1;
        ok = MHD_add_response_header(r, name, value) == MHD_YES;
        at += strlen(name) + strlen(value) + 2;
    }
    return ok;
}

static struct MHD_Response *make_response(tug_http_exchange *x, size_t n) {
    if (x->whole && n == 0) {
        return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    }
    const uint64_t size = x->whole ? n : MHD_SIZE_UNKNOWN;
    http_exchange_ref(x);
    struct MHD_Response *const r = MHD_create_response_from_callback(
        size, HTTP_BLOCK_BYTES, read_out, x, response_done);
    if (!r) http_exchange_unref(x);
    return r;
}

static enum MHD_Result queue_answer(tug_http_exchange *x) {
    struct MHD_Response *const r = make_response(x, atomic_load(&x->backlog));
    if (!r) return MHD_NO;
    enum MHD_Result done = MHD_NO;
    if (set_headers(x, r) && !x->headers.failed) {
        /* Likewise at the regular end of a stream without chunks.  With a time limit of its
         * own, however long, it is looked at in every round. */
        if (!x->whole && x->is_1_0) {
            (void)MHD_set_connection_option(x->conn, MHD_CONNECTION_OPTION_TIMEOUT,
                                            1000000u);
        }
        done = MHD_queue_response(x->conn, (unsigned)x->status, r);
    }
    MHD_destroy_response(r);
    return done;
}

enum MHD_Result http_exchange_proceed(tug_http_exchange *x) {
    pthread_mutex_lock(&x->lock);
    if (x->broken && !x->answered && !atomic_load(&x->gone)) {
        x->answered = x->whole = true;
        x->status = 500;
        touch(x);
        atomic_store(&x->ended, true);
    }
    const bool dead =
        (atomic_load(&x->gone) && !x->whole) || (x->broken && x->status != 500);
    const bool wait = !dead && !x->answered;
    if (wait) {
        x->suspended = true;
        MHD_suspend_connection(x->conn);
    }
    pthread_mutex_unlock(&x->lock);
    if (dead) return MHD_NO;
    return wait ? MHD_YES : queue_answer(x);
}
