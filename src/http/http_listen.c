/* http_listen.c - the listening socket: where, and whether that is safe.
 * SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/un.h>

#include "base/sys.h"
#include "http/http_impl.h"

enum { BACKLOG = 1024 };

static int new_socket(int family) {
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Only numbers: a name would ask a name server. */
static tug_status resolve(const char *host, uint16_t port, struct addrinfo **out,
                          tug_err *err) {
    if (!host || strcmp(host, "localhost") == 0) host = "127.0.0.1";
    char service[8];
    (void)snprintf(service, sizeof service, "%u", (unsigned)port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags =
                                       AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    const int code = getaddrinfo(host, service, &hints, out);
    if (code == 0) return TUG_OK;
    return TUG_FAIL(err, TUG_EUSAGE,
                    "cannot listen on \"%s\": give a numeric address such as 127.0.0.1, "
                    "0.0.0.0 or ::1 (%s)",
                    host, gai_strerror(code));
}

static tug_status refuse_open(const tug_http_config *c, const char *host, tug_err *err) {
    tug_authority who = {0};
    (void)snprintf(who.host, sizeof who.host, "%s", host);
    if (c->key_file || c->allow_open || tug_authority_is_loopback(&who)) return TUG_OK;
    return TUG_FAIL(
        err, TUG_EUSAGE,
        "%s can be reached from other machines and no API key is asked for; give "
        "a key file with --api-key-file, or say --insecure-no-auth if this is "
        "meant",
        host);
}

static void address_text(const struct sockaddr_storage *a, char out[INET6_ADDRSTRLEN]) {
    const void *const from =
        a->ss_family == AF_INET6
            ? (const void *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr
            : (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr;
    if (!inet_ntop(a->ss_family, from, out, INET6_ADDRSTRLEN)) out[0] = 0;
}

bool http_local_address(int fd, char out[INET6_ADDRSTRLEN]) {
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0) return false;
    if (a.ss_family != AF_INET && a.ss_family != AF_INET6) return false;
    address_text(&a, out);
    return true;
}

static tug_status listen_tcp(struct tug_http_server *s, const tug_http_config *c,
                             tug_err *err) {
    struct addrinfo *at = NULL;
    TUG_TRY(resolve(c->host, c->port, &at, err));
    struct sockaddr_storage address = {0};
    memcpy(&address, at->ai_addr, at->ai_addrlen);
    const socklen_t address_n = at->ai_addrlen;
    freeaddrinfo(at);
    char host[INET6_ADDRSTRLEN];
    address_text(&address, host);
    TUG_TRY(refuse_open(c, host, err));
    const int on = 1;
    s->listen_fd = new_socket(address.ss_family);
    if (s->listen_fd < 0 ||
        setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(s->listen_fd, (const struct sockaddr *)&address, address_n) != 0 ||
        listen(s->listen_fd, BACKLOG) != 0) {
        return TUG_FAIL(err, TUG_EIO, "cannot listen on %s port %u: %s%s", host,
                        (unsigned)c->port, strerror(errno),
                        errno == EADDRINUSE ? "; choose another with --port" : "");
    }
    socklen_t n = sizeof address;
    if (getsockname(s->listen_fd, (struct sockaddr *)&address, &n) != 0) {
        return TUG_FAIL(err, TUG_EIO, "cannot find the port: %s", strerror(errno));
    }
    /* Both families have the port at the same place. */
    s->port = ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
    return TUG_OK;
}

/* A socket file that nobody listens on was left by a server that was killed. */
static bool remove_stale(const struct sockaddr_un *a) {
    const int fd = new_socket(AF_UNIX);
    if (fd < 0) return false;
    const bool stale = connect(fd, (const struct sockaddr *)a, sizeof *a) != 0 &&
                       errno == ECONNREFUSED && tug_sys.unlink(a->sun_path) == 0;
    (void)tug_sys.close(fd);
    return stale;
}

static tug_status listen_unix(struct tug_http_server *s, const char *path, tug_err *err) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const size_t n = strlen(path);
    if (n == 0 || n >= sizeof a.sun_path) {
        return TUG_FAIL(err, TUG_EUSAGE, "the socket path %s has more than %zu bytes",
                        path, sizeof a.sun_path - 1);
    }
    memcpy(a.sun_path, path, n + 1);
    char *const copy = tug_alloc(n + 1);
    if (!copy) return TUG_FAIL(err, TUG_ENOMEM, "no memory for the socket path");
    memcpy(copy, path, n + 1);
    s->listen_fd = new_socket(AF_UNIX);
    /* The file gets the mode that the socket has when it is bound: only its owner. */
    bool ok = s->listen_fd >= 0 && fchmod(s->listen_fd, 0600) == 0;
    if (ok) {
        ok = bind(s->listen_fd, (const struct sockaddr *)&a, sizeof a) == 0 ||
             (errno == EADDRINUSE && remove_stale(&a) &&
              bind(s->listen_fd, (const struct sockaddr *)&a, sizeof a) == 0);
        if (ok) s->unix_path = copy;
    }
    if (!ok) tug_free(copy);
    if (ok && listen(s->listen_fd, BACKLOG) == 0) return TUG_OK;
    return TUG_FAIL(err, TUG_EIO, "cannot listen on the unix socket %s: %s", path,
                    strerror(errno));
}

tug_status http_listen(struct tug_http_server *s, const tug_http_config *c,
                       tug_err *err) {
    return c->unix_socket ? listen_unix(s, c->unix_socket, err) : listen_tcp(s, c, err);
}

void http_stop_listening(struct tug_http_server *s) {
    pthread_mutex_lock(&s->lock);
    if (s->listen_fd >= 0) {
        (void)tug_sys.close(s->listen_fd);
        if (s->unix_path) (void)tug_sys.unlink(s->unix_path);
    }
    s->listen_fd = -1;
    s->listening = false;
    pthread_mutex_unlock(&s->lock);
}
