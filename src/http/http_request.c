/* http_request.c - one request: its copy, and whether it is let in.
 *
 * DESIGN
 * libmicrohttpd parses; this file checks what it lets pass: two lengths, folded lines, a
 * bare LF, a NUL.  The request is copied, because it must outlive the connection.
 * The order of the checks: form, Host, Origin, draining, key, type, size.
 * SPDX-License-Identifier: MIT */
#include <strings.h>

#include "base/random.h"
#include "base/sys.h"
#include "http/http_impl.h"
#include "http/http_target.h"

/* ---- names and values ---------------------------------------------------------------- */

static tug_str text_at(const tug_http_exchange *x, size_t at, size_t n) {
    return x->text.p ? tug_str_make(x->text.p + at, n) : tug_str_make(NULL, 0);
}

static void add_pair(tug_http_exchange *x, tug_str name, tug_str value, bool is_query) {
    if (x->n_pairs == x->cap_pairs) {
        const int cap = x->cap_pairs ? 2 * x->cap_pairs : 16;
        http_pair *const more = tug_realloc_array(x->pairs, (size_t)cap, sizeof *more);
        if (!more) {
            x->text.failed = true;
            return;
        }
        x->pairs = more;
        x->cap_pairs = cap;
    }
    http_pair *const pair = &x->pairs[x->n_pairs++];
    *pair = (http_pair){.is_query = is_query};
    pair->name = (uint32_t)x->text.n;
    pair->name_n = (uint32_t)name.n;
    tug_buf_str(&x->text, name);
    tug_buf_char(&x->text, 0);
    pair->value = (uint32_t)x->text.n;
    pair->value_n = (uint32_t)value.n;
    tug_buf_str(&x->text, value);
    tug_buf_char(&x->text, 0);
}

/* The nth header of this name; p NULL: none. */
static tug_str header(const tug_http_exchange *x, const char *name, int nth) {
    const size_t n = strlen(name);
    for (int i = 0; i < x->n_pairs; i++) {
        const http_pair *const p = &x->pairs[i];
        if (p->is_query || p->name_n != n) continue;
        if (strncasecmp(x->text.p + p->name, name, n) != 0 || nth-- > 0) continue;
        return text_at(x, p->value, p->value_n);
    }
    return tug_str_make(NULL, 0);
}

tug_str tug_http_header(const tug_http_exchange *x, const char *name) {
    return header(x, name, 0);
}

tug_str tug_http_query(const tug_http_exchange *x, const char *name) {
    for (int i = 0; i < x->n_pairs; i++) {
        const http_pair *const p = &x->pairs[i];
        if (p->is_query && tug_str_is(text_at(x, p->name, p->name_n), name)) {
            return text_at(x, p->value, p->value_n);
        }
    }
    return tug_str_make(NULL, 0);
}

tug_str tug_http_method(const tug_http_exchange *x) {
    return text_at(x, x->method_at, x->method_n);
}

tug_str tug_http_path(const tug_http_exchange *x) {
    return text_at(x, 0, x->path_n);
}

tug_str tug_http_body(const tug_http_exchange *x) {
    return tug_buf_view(&x->body);
}

int tug_http_key(const tug_http_exchange *x) {
    return x->key;
}

/* ---- the copy ------------------------------------------------------------------------ */

void http_refuse(tug_http_exchange *x, int status, tug_http_refusal why,
                 const char *sentence) {
    if (x->refused.status) return; /* the first reason stands */
    x->refused = (http_refused){status, why, sentence, status == 400 || status == 413};
}

static void malformed(tug_http_exchange *x, const char *sentence) {
    http_refuse(x, 400, TUG_REFUSED_MALFORMED, sentence);
}

static bool read_query(tug_http_exchange *x, tug_str query) {
    tug_str name, value;
    while (tug_target_next_pair(&query, &name, &value)) {
        tug_buf name_text = {0}, value_text = {0};
        const bool ok = tug_target_decode(name, true, &name_text) &&
                        tug_target_decode(value, true, &value_text);
        if (ok && !name_text.failed && !value_text.failed) {
            add_pair(x, tug_buf_view(&name_text), tug_buf_view(&value_text), true);
        }
        x->text.failed |= name_text.failed || value_text.failed;
        tug_buf_free(&name_text);
        tug_buf_free(&value_text);
        if (!ok) return false;
    }
    return true;
}

/* The target comes first, before libmicrohttpd decodes it in place. */
tug_http_exchange *http_exchange_new(struct tug_http_server *s, const char *raw_target,
                                     int fd) {
    tug_http_exchange *const x = tug_alloc_zero(sizeof *x);
    if (!x) return NULL;
    if (pthread_mutex_init(&x->lock, NULL) != 0) {
        tug_free(x);
        return NULL;
    }
    x->server = s;
    x->fd = fd;
    x->n_refs = 1;
    x->key = -1;
    x->raw_target = raw_target;
    x->raw_target_n = raw_target ? strlen(raw_target) : 0;
    memcpy(x->id, "req_", 4);
    if (tug_random_text(x->id + 4, 24, NULL) != TUG_OK) x->text.failed = true;
    tug_target target;
    const tug_str raw = tug_str_make(raw_target, x->raw_target_n);
    x->target_ok = tug_target_split(raw, &target);
    if (!x->target_ok) return x;
    x->target_ok = tug_target_decode(target.path, false, &x->text);
    x->path_n = x->text.n;
    tug_buf_char(&x->text, 0);
    if (target.authority.p)
        add_pair(x, tug_str_of(":authority"), target.authority, false);
    x->target_ok = x->target_ok && read_query(x, target.query);
    return x;
}

static bool is_token(const char *s) {
    if (!*s) return false;
    for (; *s; s++) {
        const bool ok = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                        (*s >= '0' && *s <= '9') || strchr("!#$%&'*+-.^_`|~", *s);
        if (!ok) return false;
    }
    return true;
}

static tug_str trim(const char *value) {
    tug_str s = tug_str_of(value);
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = tug_str_make(s.p + 1, s.n - 1);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

static bool is_value(tug_str s) {
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) return false;
    }
    return true;
}

/* Walks the headers; `end` is where the previous line ended in libmicrohttpd's buffer. */
typedef struct header_walk {
    tug_http_exchange *x;
    uintptr_t end;
    int n;
    bool
        in_place; /* every line so far began two bytes after the end of the previous one */
} header_walk;

static enum MHD_Result on_header(void *ud, enum MHD_ValueKind kind, const char *name,
                                 const char *value) {
    (void)kind;
    header_walk *const w = ud;
    if (!value) value = "";
    if (++w->n > HTTP_HEADER_COUNT) {
        http_refuse(w->x, 431, TUG_REFUSED_TOO_LARGE,
                    "the request has more than 100 headers");
        w->x->refused.close = true;
        return MHD_NO;
    }
    if ((uintptr_t)name != w->end + 2) w->in_place = false;
    w->end = (uintptr_t)value + strlen(value);
    if (!is_token(name))
        malformed(w->x, "a header's name has a character that no name may have");
    if (!is_value(trim(value))) malformed(w->x, "a header has a control character");
    add_pair(w->x, tug_str_of(name), trim(value), false);
    return MHD_YES;
}

/* libmicrohttpd 0.9 takes a bare LF as a line's end, joins folded lines, and cuts a value
 * at a NUL: what it saw may not be what a proxy in front of us saw.  It parses in place,
 * so in a request of the plain form each line begins two bytes after the previous one's
 * end; only addresses are compared here.  1.0 refuses these itself, see http_server.c. */
static bool request_is_strict(const tug_http_exchange *x, const header_walk *w,
                              uintptr_t method, size_t header_bytes) {
#if MHD_VERSION < 0x01000000
    (void)x;
    return w->in_place && method + header_bytes == w->end + 4;
#else
    (void)x, (void)w, (void)method, (void)header_bytes;
    return true;
#endif
}

static size_t header_bytes(struct MHD_Connection *conn) {
    const union MHD_ConnectionInfo *const info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info ? info->header_size : 0;
}

static void copy_request(tug_http_exchange *x, struct MHD_Connection *conn,
                         const char *method, const char *version) {
    header_walk w = {
        .x = x, .end = (uintptr_t)version + strlen(version), .in_place = true};
#if MHD_VERSION < 0x01000000
    const uintptr_t target = (uintptr_t)x->raw_target;
    if ((uintptr_t)method + strlen(method) + 1 != target ||
        target + x->raw_target_n + 1 != (uintptr_t)version) {
        w.in_place = false;
    }
#endif
    (void)MHD_get_connection_values(conn, MHD_HEADER_KIND, on_header, &w);
    const size_t n = header_bytes(conn);
    if (n > HTTP_HEADER_BYTES) {
        http_refuse(x, 431, TUG_REFUSED_TOO_LARGE, "the headers are longer than 32 KiB");
        x->refused.close = true;
    }
    if (!request_is_strict(x, &w, (uintptr_t)method, n)) {
        malformed(x, "the headers hold a bare line feed, a folded line or a NUL");
    }
    x->is_options = strcmp(method, "OPTIONS") == 0;
    x->is_1_0 = strcmp(version, "HTTP/1.0") == 0;
    /* A HEAD is a GET whose body is not sent. */
    const tug_str name = tug_str_of(strcmp(method, "HEAD") == 0 ? "GET" : method);
    if (!is_token(method)) malformed(x, "the method is not a name");
    x->method_at = x->text.n;
    x->method_n = name.n;
    tug_buf_str(&x->text, name);
    tug_buf_char(&x->text, 0);
}

/* ---- the checks ---------------------------------------------------------------------- */

static bool is_digits(tug_str s) {
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
    }
    return s.n > 0 && s.n < 19;
}

static bool is_caseless(tug_str s, const char *z) {
    return s.n == strlen(z) && strncasecmp(s.p, z, s.n) == 0;
}

/* Two readers of these headers must agree where the request ends. */
static void check_framing(tug_http_exchange *x, const char *version) {
    const tug_str length = header(x, "content-length", 0);
    const tug_str coding = header(x, "transfer-encoding", 0);
    if (header(x, "content-length", 1).p || header(x, "transfer-encoding", 1).p) {
        malformed(x, "the request gives its length more than once");
    } else if (length.p && coding.p) {
        malformed(x, "the request has both Content-Length and Transfer-Encoding");
    } else if (length.p && !is_digits(length)) {
        malformed(x, "Content-Length is not a number");
    } else if (coding.p && !is_caseless(coding, "chunked")) {
        malformed(x, "the only Transfer-Encoding that is known here is chunked");
    } else if (coding.p && strcmp(version, "HTTP/1.1") != 0) {
        malformed(x, "Transfer-Encoding needs HTTP/1.1");
    }
}

static bool check_host(tug_http_exchange *x, tug_authority *host) {
    const tug_str text = header(x, "host", 0), absolute = header(x, ":authority", 0);
    if (!text.p || header(x, "host", 1).p) {
        malformed(x, "the request needs exactly one Host header");
        return false;
    }
    char local[INET6_ADDRSTRLEN];
    const bool has_local = http_local_address(x->fd, local);
    tug_authority target;
    const bool ok =
        tug_authority_parse(text, host) &&
        tug_access_host(&x->server->access, host, has_local ? local : NULL) &&
        (!absolute.p ||
         (tug_authority_parse(absolute, &target) &&
          tug_authority_eq(&target, host, x->server->access.is_tls ? 443 : 80)));
    if (ok) return true;
    http_refuse(
        x, 421, TUG_REFUSED_HOST,
        "the Host header names another server; use localhost, this machine's address, "
        "or add the name with --allowed-host");
    return false;
}

static void check_origin(tug_http_exchange *x, const tug_authority *host) {
    const tug_access *const access = &x->server->access;
    const tug_str origin = header(x, "origin", 0), site = header(x, "sec-fetch-site", 0);
    x->cors = origin.p && tug_access_is_cors(access, origin);
    bool ok = !header(x, "origin", 1).p;
    if (origin.p) ok = ok && tug_access_origin(access, origin, host);
    if (site.p && !x->cors) {
        ok = ok && (is_caseless(site, "same-origin") || is_caseless(site, "none"));
    }
    if (ok) return;
    http_refuse(x, 403, TUG_REFUSED_ORIGIN,
                "a web page of another origin may not call this server; allow it with "
                "--cors-origin");
}

static void check_key(tug_http_exchange *x) {
    const tug_http_config *const c = &x->server->config;
    if (!x->server->access.has_keys) return;
    x->key = tug_access_key(&x->server->access, header(x, "authorization", 0),
                            header(x, "x-api-key", 0));
    if (x->key >= 0) return;
    if (c->is_public && c->is_public(c->ud, tug_http_method(x), tug_http_path(x))) return;
    http_refuse(
        x, 401, TUG_REFUSED_KEY,
        "the API key is missing or wrong; send it as Authorization: Bearer KEY or as "
        "x-api-key");
}

/* A form or plain text is what a page of another site can post without asking (CSRF);
 * no type at all is what simple tools send, and comes from no form. */
static void check_type(tug_http_exchange *x) {
    tug_str type = header(x, "content-type", 0);
    if (!type.p) return;
    const char *const semicolon = memchr(type.p, ';', type.n);
    if (semicolon) type.n = (size_t)(semicolon - type.p);
    while (type.n > 0 && (type.p[type.n - 1] == ' ' || type.p[type.n - 1] == '\t'))
        type.n--;
    const bool is_json =
        is_caseless(type, "application/json") ||
        (type.n > 5 && strncasecmp(type.p + type.n - 5, "+json", 5) == 0);
    if (is_json) return;
    http_refuse(x, 415, TUG_REFUSED_MALFORMED,
                "the body must be JSON: send the header Content-Type: application/json");
}

static void check_size(tug_http_exchange *x) {
    const tug_str length = header(x, "content-length", 0);
    size_t n = 0;
    for (size_t i = 0; length.p && i < length.n; i++) {
        n = n * 10 + (size_t)(length.p[i] - '0');
    }
    if (n <= x->server->config.max_body) return;
    http_refuse(x, 413, TUG_REFUSED_TOO_LARGE,
                "the body is larger than this server accepts");
}

static bool has_body(const tug_http_exchange *x) {
    const tug_str length = header(x, "content-length", 0);
    return header(x, "transfer-encoding", 0).p || (length.p && !tug_str_is(length, "0"));
}

void http_request_check(tug_http_exchange *x, struct MHD_Connection *conn,
                        const char *method, const char *version) {
    copy_request(x, conn, method, version);
    if (x->text.failed) {
        x->n_pairs = 0;
        x->method_n = x->path_n = 0;
        x->refused = (http_refused){503, TUG_REFUSED_SHUTDOWN,
                                    "no memory for the request; try again", true};
        return;
    }
    if (!x->target_ok) malformed(x, "the target of the request line is malformed");
    if (x->refused.status) return;
    tug_authority host;
    check_framing(x, version);
    if (x->refused.status || !check_host(x, &host)) return;
    check_origin(x, &host);
    if (atomic_load(&x->server->draining)) {
        http_refuse(x, 503, TUG_REFUSED_SHUTDOWN, "the server is shutting down");
        x->refused.close = true;
    }
    if (x->is_options) return; /* a preflight carries no key */
    check_key(x);
    if (!has_body(x)) return;
    check_type(x);
    check_size(x);
}

/* ---- the body ------------------------------------------------------------------------ */

void http_request_uncount(tug_http_exchange *x) {
    atomic_fetch_sub(&x->server->n_body_bytes, x->n_counted);
    x->n_counted = 0;
}

static void take_body(tug_http_exchange *x, const char *bytes, size_t n) {
    struct tug_http_server *const s = x->server;
    x->n_counted += n;
    const size_t all = atomic_fetch_add(&s->n_body_bytes, n) + n;
    if (n > s->config.max_body - x->body.n) {
        http_refuse(x, 413, TUG_REFUSED_TOO_LARGE,
                    "the body is larger than this server accepts");
    } else if (all > HTTP_BODIES * s->config.max_body) {
        http_refuse(x, 503, TUG_REFUSED_SHUTDOWN,
                    "too many large requests at once; try again");
    } else {
        tug_buf_append(&x->body, bytes, n);
    }
    if (x->body.failed) {
        http_refuse(x, 503, TUG_REFUSED_SHUTDOWN, "no memory for the request; try again");
    }
    if (!x->refused.status) return;
    http_request_uncount(x);
    tug_buf_free(&x->body);
}

bool http_request_body(tug_http_exchange *x, const char *bytes, size_t n) {
    const size_t limit = HTTP_DISCARD * x->server->config.max_body + HTTP_HEADER_BYTES;
    const uint64_t all = atomic_fetch_add(&x->n_received, n) + n;
    if (!x->refused.status) take_body(x, bytes, n);
    /* Refused, it is still read to its end, so that the client gets to read our answer; but
     * not for ever. */
    return all <= limit;
}
