/* test_http.c - the server in this process: answers from other threads, clients that
 * leave, drain and stop.  Also run under TSan.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/sys.h"
#include "http/http.h"
#include "support/tmpdir.h"

enum { N_KEPT = 256 };

/* What the handler kept, for the test to answer. */
static tug_http_exchange *_Atomic kept[N_KEPT];
static atomic_int n_kept, n_wakes, n_handled;

static void handle(void *ud, tug_http_exchange *x) {
    (void)ud;
    n_handled++;
    const tug_str path = tug_http_path(x);
    if (tug_str_is(path, "/keep")) {
        tug_http_keep(x);
        kept[atomic_fetch_add(&n_kept, 1) % N_KEPT] = x;
    } else if (tug_str_is(path, "/begin")) {
        (void)!tug_http_begin_stream(x, 200, "text/event-stream", NULL);
        tug_http_keep(x);
        kept[atomic_fetch_add(&n_kept, 1) % N_KEPT] = x;
    } else if (!tug_str_is(path, "/silent")) {
        (void)!tug_http_respond(x, 200, "text/plain", tug_http_body(x), NULL);
    }
}

static void wake(void *ud) {
    (void)ud;
    n_wakes++;
}

static tug_http_server *start(int stall_s) {
    for (int i = 0; i < N_KEPT; i++) kept[i] = NULL;
    n_kept = n_handled = n_wakes = 0;
    const tug_http_config c = {.handle = handle, .wake = wake, .stall_s = stall_s};
    tug_http_server *s = NULL;
    tug_err err;
    if (tug_http_start(&s, &c, &err) != TUG_OK) fail_msg("%s", err.msg);
    return s;
}

static int dial(const tug_http_server *s) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons(tug_http_port(s)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof a) == 0) {
        const struct timeval limit = {.tv_sec = 10};
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}

static void say(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void ask(int fd, const char *path) {
    char text[256];
    (void)snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    say(fd, text);
}

/* Reads until `end` was seen, or the end; zero-terminated. */
static size_t hear(int fd, char *buf, size_t cap, const char *end) {
    size_t n = 0;
    buf[0] = 0;
    while (n + 1 < cap) {
        const ssize_t got = recv(fd, buf + n, cap - 1 - n, 0);
        if (got <= 0) break;
        n += (size_t)got;
        buf[n] = 0;
        if (end && strstr(buf, end)) break;
    }
    return n;
}

static tug_http_exchange *take(int i) {
    for (int tries = 0; tries < 5000; tries++) {
        tug_http_exchange *const x = kept[i];
        if (x) return x;
        usleep(1000);
    }
    fail_msg("no exchange %d", i);
    return NULL;
}

static bool until_gone(const tug_http_exchange *x, int ms) {
    for (; ms > 0 && !tug_http_gone(x); ms--) usleep(1000);
    return tug_http_gone(x);
}

/* Every test ends with all memory of the server given back: ASan would tell. */
static void test_answer_from_another_thread(void **state) {
    (void)state;
    tug_http_server *s = start(0);
    const int fd = dial(s);
    char buf[4096];
    for (int i = 0; i < 3; i++) { /* one connection, kept alive */
        ask(fd, "/keep");
        tug_http_exchange *const x = take(i);
        assert_int_equal(tug_http_key(x), -1);
        assert_true(tug_str_is(tug_http_header(x, "HOST"), "localhost"));
        assert_null(tug_http_header(x, "absent").p);
        assert_int_equal(tug_http_set_header(x, "X-Number", tug_str_of("7"), NULL),
                         TUG_OK);
        assert_int_equal(tug_http_set_header(x, "X", tug_str_of("a\r\nb"), NULL),
                         TUG_EUSAGE);
        assert_int_equal(
            tug_http_respond(x, 201, "text/plain", tug_str_of("done!"), NULL), TUG_OK);
        assert_int_equal(
            tug_http_respond(x, 201, "text/plain", tug_str_of("twice"), NULL),
            TUG_ESTATE);
        (void)hear(fd, buf, sizeof buf, "done!");
        assert_non_null(strstr(buf, "HTTP/1.1 201 "));
        assert_non_null(strstr(buf, "X-Number: 7\r\n"));
        assert_non_null(strstr(buf, "X-Request-Id: req_"));
        assert_null(strstr(buf, "twice"));
        tug_http_release(x);
    }
    close(fd);
    tug_http_stop(&s);
    assert_null(s);
}

static void test_no_answer_is_500(void **state) {
    (void)state;
    tug_http_server *s = start(0);
    const int fd = dial(s);
    char buf[4096];
    ask(fd, "/silent");
    (void)hear(fd, buf, sizeof buf, "\r\n\r\n");
    assert_non_null(strstr(buf, "HTTP/1.1 500 "));
    ask(fd, "/keep");
    tug_http_release(take(0));
    (void)hear(fd, buf, sizeof buf, "\r\n\r\n");
    assert_non_null(strstr(buf, "HTTP/1.1 500 "));
    close(fd);
    tug_http_stop(&s);
}

static void test_stream(void **state) {
    (void)state;
    tug_http_server *s = start(0);
    const int fd = dial(s);
    char buf[4096];
    ask(fd, "/begin");
    (void)hear(fd, buf, sizeof buf, "\r\n\r\n"); /* the headers come before any piece */
    assert_non_null(strstr(buf, "text/event-stream"));
    tug_http_exchange *const x = take(0);
    for (int i = 0; i < 20; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "data: %d\n\n", i);
        assert_int_equal(tug_http_write(x, tug_str_of(text), NULL), TUG_OK);
        (void)hear(fd, buf, sizeof buf, "\n\n");
        assert_non_null(strstr(buf, text));
    }
    tug_http_end_stream(x);
    assert_int_equal(tug_http_write(x, tug_str_of("late"), NULL), TUG_ESTATE);
    (void)hear(fd, buf, sizeof buf, "0\r\n\r\n");
    assert_non_null(strstr(buf, "0\r\n\r\n"));
    tug_http_release(x);
    ask(fd, "/"); /* the connection goes on */
    (void)hear(fd, buf, sizeof buf, "\r\n\r\n");
    assert_non_null(strstr(buf, "HTTP/1.1 200 "));
    close(fd);
    tug_http_stop(&s);
}

static void test_broken_stream_is_seen(void **state) {
    (void)state;
    tug_http_server *s = start(0);
    const int fd = dial(s);
    char buf[4096];
    ask(fd, "/begin");
    tug_http_exchange *const x = take(0);
    assert_int_equal(tug_http_write(x, tug_str_of("half"), NULL), TUG_OK);
    tug_http_release(x);
    (void)hear(fd, buf, sizeof buf, NULL); /* to the end of the connection */
    assert_non_null(strstr(buf, "half"));
    assert_null(strstr(buf, "\r\n0\r\n")); /* no regular end */
    close(fd);
    tug_http_stop(&s);
}

/* A client that leaves is noticed while nothing is sent, in every way of leaving. */
static void test_gone(void **state) {
    (void)state;
    tug_http_server *s = start(0);
    int n = 0;
    for (int how = 0; how < 3; how++) {
        for (int begun = 0; begun < 2; begun++) {
            const int fd = dial(s), before = n_wakes;
            ask(fd, begun ? "/begin" : "/keep");
            tug_http_exchange *const x = take(n++);
            usleep(20000);
            assert_false(tug_http_gone(x));
            const struct linger reset = {.l_onoff = 1};
            if (how == 1)
                (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            if (how == 2) {
                (void)shutdown(fd, SHUT_WR);
            } else {
                close(fd);
            }
            assert_true(until_gone(x, 2000));
            for (int i = 0; i < 2000 && n_wakes == before; i++) usleep(1000);
            assert_true(n_wakes > before);
            if (begun) {
                assert_int_equal(tug_http_write(x, tug_str_of("x"), NULL), TUG_ECANCELED);
            }
            tug_http_release(x);
            if (how == 2) close(fd);
        }
    }
    for (int i = 0; i < 2000 && tug_http_n_connections(s) > 0; i++) usleep(1000);
    assert_int_equal(tug_http_n_connections(s), 0);
    tug_http_stop(&s);
}

static void test_backlog_and_stall(void **state) {
    (void)state;
    tug_http_server *s = start(1);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int small = 4096;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons(tug_http_port(s)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof a), 0);
    ask(fd, "/begin");
    tug_http_exchange *const x = take(0);
    static char piece[64 << 10];
    int n = 0;
    while (n < 100 && tug_http_backlog(x) < 256 << 10) {
        assert_int_equal(tug_http_write(x, tug_str_make(piece, sizeof piece), NULL),
                         TUG_OK);
        n++;
        usleep(2000);
    }
    assert_true(n < 100); /* what is not read does not vanish into buffers without end */
    assert_true(until_gone(x, 5000));
    tug_http_release(x);
    close(fd);
    tug_http_stop(&s);
}

/* Writers and readers at full speed: a lost wake-up would leave the client waiting. */
static void *write_many(void *ud) {
    tug_http_exchange *const x = ud;
    for (int i = 0; i < 2000; i++) {
        if (i % 97 == 0) usleep(200);
        if (tug_http_write(x, tug_str_of("0123456789"), NULL) != TUG_OK) break;
    }
    tug_http_end_stream(x);
    tug_http_release(x);
    return NULL;
}

static void test_no_wake_up_is_lost(void **state) {
    (void)state;
    enum { N = 16 };
    tug_http_server *s = start(0);
    int fd[N];
    pthread_t writer[N];
    for (int i = 0; i < N; i++) {
        fd[i] = dial(s);
        ask(fd[i], "/begin");
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(pthread_create(&writer[i], NULL, write_many, take(i)), 0);
    }
    static char buf[1 << 20];
    for (int i = 0; i < N; i++) {
        (void)hear(fd[i], buf, sizeof buf, "\r\n0\r\n\r\n");
        assert_non_null(strstr(buf, "\r\n0\r\n\r\n"));
        size_t n = 0;
        for (const char *p = buf; (p = strchr(p, '7')); p++) n++;
        assert_true(n >= 2000);
        close(fd[i]);
    }
    for (int i = 0; i < N; i++) (void)pthread_join(writer[i], NULL);
    tug_http_stop(&s);
}

/* Clients leave at any moment of the life of an exchange. */
static void test_leaving_while_written(void **state) {
    (void)state;
    tug_http_server *s = start(0);
    for (int i = 0; i < 100; i++) {
        const int fd = dial(s);
        ask(fd, "/begin");
        tug_http_exchange *const x = take(i);
        pthread_t writer;
        assert_int_equal(pthread_create(&writer, NULL, write_many, x), 0);
        if (i % 3 == 0) usleep((unsigned)(i * 7 % 400));
        close(fd);
        (void)pthread_join(writer, NULL);
    }
    tug_http_stop(&s);
}

static void test_drain(void **state) {
    (void)state;
    tug_http_server *s = start(0);
    const int idle = dial(s), busy = dial(s), other = dial(s);
    char buf[4096];
    ask(idle, "/");
    (void)hear(idle, buf, sizeof buf, "\r\n\r\n");
    ask(busy, "/begin");
    tug_http_exchange *const x = take(0);
    say(other, "GET /late HTTP/1.1\r\n"); /* not complete yet */
    usleep(50000);
    tug_http_drain(s);
    assert_int_equal(dial(s), -1);
    assert_int_equal(hear(idle, buf, sizeof buf, NULL), 0); /* closed at once */
    say(other, "Host: localhost\r\n\r\n");
    (void)hear(other, buf, sizeof buf, NULL);
    assert_non_null(strstr(buf, "HTTP/1.1 503 "));
    assert_non_null(strstr(buf, "Retry-After: "));
    assert_int_equal(tug_http_write(x, tug_str_of("still here"), NULL), TUG_OK);
    tug_http_end_stream(x);
    tug_http_release(x);
    (void)hear(busy, buf, sizeof buf, "\r\n0\r\n\r\n");
    assert_non_null(strstr(buf, "still here"));
    close(idle), close(busy), close(other);
    for (int i = 0; i < 2000 && tug_http_n_connections(s) > 0; i++) usleep(1000);
    assert_int_equal(tug_http_n_connections(s), 0);
    tug_http_stop(&s);
}

static void test_kept_beyond_the_end(void **state) {
    (void)state;
    tug_http_server *s = start(0);
    const int a = dial(s), b = dial(s), c = dial(s);
    say(a, "POST /keep HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody");
    tug_http_exchange *const x = take(0);
    ask(b, "/begin");
    tug_http_exchange *const y = take(1);
    say(c, "GET /half");
    tug_http_stop(&s);
    assert_true(tug_http_gone(x) && tug_http_gone(y));
    assert_true(tug_str_is(tug_http_body(x), "body"));
    assert_true(tug_str_is(tug_http_path(x), "/keep"));
    assert_true(tug_str_is(tug_http_method(x), "POST"));
    assert_int_equal(tug_http_respond(x, 200, "text/plain", tug_str_of(""), NULL),
                     TUG_ECANCELED);
    assert_int_equal(tug_http_write(y, tug_str_of("x"), NULL), TUG_ECANCELED);
    tug_http_end_stream(y);
    assert_int_equal(tug_http_backlog(y), 0);
    tug_http_release(x);
    tug_http_release(y);
    close(a), close(b), close(c);
}

static void test_refuses_to_start(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    const char *const text = tmpdir_write(&d, "cert", tug_str_of("no certificate"));
    const struct {
        tug_http_config c;
        const char *says;
    } rows[] = {
        {{.host = "0.0.0.0"}, "key file"},
        {{.host = "::"}, "key file"},
        {{.host = "example.org"}, "numeric"},
        {{.host = "203.0.113.1", .allow_open = true}, "cannot listen"},
        {{.tls_cert = text}, "both"},
        {{.tls_cert = text, .tls_key = text}, "cannot start"},
        {{.tls_cert = "/absent", .tls_key = text}, "/absent"},
        {{.key_file = "/absent"}, "/absent"},
        {{.unix_socket = "/absent/socket"}, "/absent/socket"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tug_http_config c = rows[i].c;
        c.handle = handle;
        tug_http_server *s = NULL;
        tug_err err = {0};
        assert_int_not_equal(tug_http_start(&s, &c, &err), TUG_OK);
        assert_null(s);
        if (!strstr(err.msg, rows[i].says)) fail_msg("%zu: %s", i, err.msg);
    }
    tug_http_server *s = start(0), *second = NULL;
    const tug_http_config c = {.handle = handle, .port = tug_http_port(s)};
    tug_err err;
    assert_int_equal(tug_http_start(&second, &c, &err), TUG_EIO);
    assert_non_null(strstr(err.msg, "--port"));
    tug_http_stop(&s);
    tmpdir_remove(&d);
}

/* H8: descriptors run out.  The listener must not spin, and recover. */
static int no_descriptors(int fd, struct sockaddr *from, socklen_t *n, int flags) {
    (void)fd, (void)from, (void)n, (void)flags;
    errno = EMFILE;
    return -1;
}

static double cpu_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void test_no_descriptors(void **state) {
    (void)state;
    tug_sys_table before = tug_sys;
    tug_sys.accept4 = no_descriptors; /* before there are threads that read it */
    tug_http_server *s = start(0);
    const double cpu = cpu_seconds();
    const int fd = dial(s);
    usleep(600000);
    assert_true(cpu_seconds() - cpu < 0.1);
    tug_http_stop(&s);
    tug_sys = before;
    close(fd);
}

static void test_too_many_connections(void **state) {
    (void)state;
    const tug_http_config c = {.handle = handle, .max_connections = 4};
    tug_http_server *s = NULL;
    assert_int_equal(tug_http_start(&s, &c, NULL), TUG_OK);
    int fd[4];
    char buf[4096];
    for (int i = 0; i < 4; i++) {
        fd[i] = dial(s);
        ask(fd[i], "/");
        (void)hear(fd[i], buf, sizeof buf, "\r\n\r\n");
        assert_non_null(strstr(buf, "HTTP/1.1 200 "));
    }
    const int more = dial(s);
    (void)hear(more, buf, sizeof buf, NULL);
    assert_non_null(strstr(buf, "HTTP/1.1 503 "));
    close(more);
    close(fd[0]);
    for (int i = 0; i < 2000 && tug_http_n_connections(s) > 3; i++) usleep(1000);
    fd[0] = dial(s);
    ask(fd[0], "/");
    (void)hear(fd[0], buf, sizeof buf, "\r\n\r\n");
    assert_non_null(strstr(buf, "HTTP/1.1 200 "));
    for (int i = 0; i < 4; i++) close(fd[i]);
    tug_http_stop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_from_another_thread),
        cmocka_unit_test(test_no_answer_is_500),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_broken_stream_is_seen),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_backlog_and_stall),
        cmocka_unit_test(test_no_wake_up_is_lost),
        cmocka_unit_test(test_leaving_while_written),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_kept_beyond_the_end),
        cmocka_unit_test(test_refuses_to_start),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_too_many_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
