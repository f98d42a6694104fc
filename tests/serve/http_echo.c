/* http_echo.c - a small server on src/http for tests that talk to it from outside.
 *
 *     http_echo [--name value ...]      prints "port N", ends when its input ends
 *
 * GET /health            200, public
 * GET /stats             counts of what happened so far
 * POST /echo             the body
 * POST /sum              length and checksum of the body
 * GET /late?ms=N         200 after a while, from another thread
 * GET /stream?n=N&size=N&ms=N   N events of `size` bytes, so many milliseconds apart;
 *                        with hang=1 the stream then stays open
 * GET /flood?n=N         N bytes as fast as the backlog allows
 * GET /hang              nothing, until the client goes
 * POST /drain            begins to drain
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/sys.h"
#include "http/http.h"

enum { BACKLOG_MAX = 256 << 10, FLOOD_PIECE = 16 << 10 };

typedef enum job_kind { JOB_STREAM, JOB_FLOOD, JOB_LATE, JOB_HANG } job_kind;

typedef struct job {
    struct job *next;
    tug_http_exchange *x;
    job_kind kind;
    long n, size, at;
    bool hang; /* never ends by itself */
    double gap, due;
} job;

static tug_http_server *server;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static job *jobs;
static bool stop;
static atomic_int n_handled, n_started, n_jobs, n_gone, n_wakes, n_refused, n_written;
static atomic_size_t backlog_max;

static long number(const tug_http_exchange *x, const char *name, long otherwise) {
    const tug_str s = tug_http_query(x, name);
    return s.p ? strtol(s.p, NULL, 10) : otherwise; /* zero-terminated by the server */
}

static void answer(tug_http_exchange *x, int status, const char *text) {
    (void)!tug_http_respond(x, status, "application/json", tug_str_of(text), NULL);
}

static void start_job(tug_http_exchange *x, job_kind kind) {
    job *const j = calloc(1, sizeof *j);
    if (!j) abort();
    *j = (job){
        .x = x, .kind = kind, .n = number(x, "n", 1), .size = number(x, "size", 10)};
    j->gap = (double)number(x, "ms", 0) / 1000;
    j->hang = kind == JOB_HANG || number(x, "hang", 0) != 0;
    j->due = tug_now() + (kind == JOB_LATE ? j->gap : 0);
    tug_http_keep(x);
    n_started++;
    n_jobs++;
    if (kind == JOB_STREAM || kind == JOB_FLOOD) {
        (void)!tug_http_begin_stream(x, 200, "text/event-stream", NULL);
    }
    pthread_mutex_lock(&lock);
    j->next = jobs;
    jobs = j;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void stats(tug_http_exchange *x) {
    char text[256];
    (void)snprintf(text, sizeof text,
                   "{\"handled\":%d,\"started\":%d,\"jobs\":%d,\"gone\":%d,\"wakes\":%d,"
                   "\"refused\":%d,"
                   "\"written\":%d,\"connections\":%d,\"backlog_max\":%zu}",
                   n_handled, n_started, n_jobs, n_gone, n_wakes, n_refused, n_written,
                   tug_http_n_connections(server), (size_t)backlog_max);
    answer(x, 200, text);
}

static void sum(tug_http_exchange *x) {
    const tug_str body = tug_http_body(x);
    unsigned long s = 1;
    for (size_t i = 0; i < body.n; i++) s = (s * 31 + (unsigned char)body.p[i]) % 1000003;
    char text[64];
    (void)snprintf(text, sizeof text, "{\"n\":%zu,\"sum\":%lu}", body.n, s);
    answer(x, 200, text);
}

static void handle(void *ud, tug_http_exchange *x) {
    (void)ud;
    n_handled++;
    const tug_str path = tug_http_path(x), method = tug_http_method(x);
    const bool post = tug_str_is(method, "POST");
    if (tug_str_is(path, "/health")) {
        answer(x, 200, "{\"ok\":true}");
    } else if (tug_str_is(path, "/stats")) {
        stats(x);
    } else if (post && tug_str_is(path, "/echo")) {
        (void)!tug_http_respond(x, 200, "application/json", tug_http_body(x), NULL);
    } else if (post && tug_str_is(path, "/sum")) {
        sum(x);
    } else if (post && tug_str_is(path, "/drain")) {
        answer(x, 200, "{}");
        tug_http_drain(server);
    } else if (tug_str_is(path, "/stream")) {
        start_job(x, JOB_STREAM);
    } else if (tug_str_is(path, "/flood")) {
        start_job(x, JOB_FLOOD);
    } else if (tug_str_is(path, "/late")) {
        start_job(x, JOB_LATE);
    } else if (tug_str_is(path, "/hang")) {
        start_job(x, JOB_HANG);
    } else if (tug_str_is(path, "/forget")) {
        /* no answer: the server has to give one */
    } else {
        answer(x, tug_str_is(method, "GET") || post ? 404 : 405,
               "{\"error\":\"no such path\"}");
    }
}

static void refuse(void *ud, tug_str path, tug_http_refusal why, tug_str sentence,
                   tug_buf *body) {
    (void)ud, (void)path;
    n_refused++;
    tug_buf_printf(body, "{\"refused\":%d,\"message\":\"%.*s\"}", (int)why,
                   (int)sentence.n, sentence.p);
}

static bool is_public(void *ud, tug_str method, tug_str path) {
    (void)ud;
    return tug_str_is(method, "GET") && tug_str_is(path, "/health");
}

static void wake(void *ud) {
    (void)ud;
    n_wakes++;
    pthread_mutex_lock(&lock);
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

/* False: the client has gone since the job was last looked at. */
static bool sent(job *j, const char *bytes, size_t n) {
    if (tug_http_write(j->x, tug_str_make(bytes, n), NULL) == TUG_OK) return true;
    n_gone++;
    return false;
}

/* One event, or a piece; true: the job is over. */
static bool write_some(job *j) {
    static char filler[FLOOD_PIECE];
    if (filler[0] == 0) memset(filler, 'x', sizeof filler);
    if (j->at >= j->n) {
        if (j->hang) return false;
        tug_http_end_stream(j->x);
        return true;
    }
    const size_t have = tug_http_backlog(j->x);
    if (have > backlog_max) backlog_max = have;
    if (have > BACKLOG_MAX) return false;
    char text[1024];
    if (j->kind == JOB_FLOOD) {
        const long n = j->n - j->at < FLOOD_PIECE ? j->n - j->at : FLOOD_PIECE;
        j->at += n;
        return !sent(j, filler, (size_t)n);
    }
    const int n = snprintf(text, sizeof text, "data: %06ld %.*s\n\n", j->at++,
                           (int)(j->size < 900 ? j->size : 900), filler);
    n_written++;
    return !sent(j, text, (size_t)n);
}

static bool step(job *j, double now) {
    if (tug_http_gone(j->x)) {
        n_gone++;
        return true;
    }
    if (j->due > now || j->kind == JOB_HANG) return false;
    j->due = now + j->gap;
    if (j->kind != JOB_LATE) return write_some(j);
    answer(j->x, 200, "{\"late\":true}");
    return true;
}

static void *work(void *ud) {
    (void)ud;
    pthread_mutex_lock(&lock);
    while (!stop) {
        job *mine = jobs;
        jobs = NULL;
        pthread_mutex_unlock(&lock);
        job *left = NULL, **end = &left;
        const double now = tug_now();
        bool ready = false;
        while (mine) {
            job *const j = mine;
            mine = j->next;
            if (step(j, now)) {
                tug_http_release(j->x);
                free(j);
                n_jobs--;
            } else {
                *end = j;
                end = &j->next;
                ready |= j->gap <= 0 && (!j->hang || j->at < j->n) &&
                         j->kind != JOB_HANG && tug_http_backlog(j->x) <= BACKLOG_MAX;
            }
        }
        *end = NULL;
        pthread_mutex_lock(&lock);
        *end = jobs; /* those that came meanwhile go behind */
        jobs = left;
        if (ready || stop) continue;
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += jobs ? 1000000 : 100000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        (void)pthread_cond_timedwait(&changed, &lock, &until);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void set_option(tug_http_config *c, const char *name, const char *value) {
    static const char *hosts[8], *origins[8];
    c->allowed_hosts = hosts;
    c->cors_origins = origins;
    const int n = atoi(value);
    if (strcmp(name, "--host") == 0) c->host = value;
    if (strcmp(name, "--port") == 0) c->port = (uint16_t)n;
    if (strcmp(name, "--unix") == 0) c->unix_socket = value;
    if (strcmp(name, "--keys") == 0) c->key_file = value;
    if (strcmp(name, "--open") == 0) c->allow_open = n != 0;
    if (strcmp(name, "--cert") == 0) c->tls_cert = value;
    if (strcmp(name, "--key") == 0) c->tls_key = value;
    if (strcmp(name, "--max-body") == 0) c->max_body = (size_t)n;
    if (strcmp(name, "--max-connections") == 0) c->max_connections = n;
    if (strcmp(name, "--header-s") == 0) c->header_s = n;
    if (strcmp(name, "--idle-s") == 0) c->idle_s = n;
    if (strcmp(name, "--stall-s") == 0) c->stall_s = n;
    if (strcmp(name, "--allow-host") == 0 && c->n_hosts < 8) hosts[c->n_hosts++] = value;
    if (strcmp(name, "--cors") == 0 && c->n_origins < 8) origins[c->n_origins++] = value;
}

int main(int argc, char **argv) {
    tug_http_config c = {
        .handle = handle, .refuse = refuse, .is_public = is_public, .wake = wake};
    for (int i = 1; i + 1 < argc; i += 2) set_option(&c, argv[i], argv[i + 1]);
    (void)signal(SIGPIPE, SIG_DFL); /* the server must not depend on it being ignored */
    tug_err err;
    pthread_cond_init(&changed, NULL);
    pthread_t worker;
    if (tug_http_start(&server, &c, &err) != TUG_OK) {
        fprintf(stderr, "http_echo: %s\n", err.msg);
        return 2;
    }
    if (pthread_create(&worker, NULL, work, NULL) != 0) return 1;
    printf("port %u\n", (unsigned)tug_http_port(server));
    (void)fflush(stdout);
    char ignored[64];
    while (read(0, ignored, sizeof ignored) > 0) {
    }
    tug_http_stop(&server);
    /* What is still kept is gone now, and its job ends. */
    for (int i = 0; i < 200 && n_jobs > 0; i++) (void)usleep(10000);
    pthread_mutex_lock(&lock);
    stop = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(worker, NULL);
    return n_jobs == 0 ? 0 : 1;
}
