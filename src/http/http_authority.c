/* http_authority.c - see http_authority.h.  SPDX-License-Identifier: MIT */
#include "http/http_authority.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_';
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* 1..65535 in at most five digits, without a sign or a leading zero. */
static bool parse_port(tug_str s, int *out) {
    if (s.n < 1 || s.n > 5 || s.p[0] == '0') return false;
    int port = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
        port = port * 10 + (s.p[i] - '0');
    }
    *out = port;
    return port <= 65535;
}

static bool parse_v6(tug_str s, tug_authority *out, size_t *used) {
    const char *const end = memchr(s.p, ']', s.n);
    if (!end) return false;
    const size_t n = (size_t)(end - s.p) - 1;
    if (n == 0 || n >= INET6_ADDRSTRLEN) return false;
    memcpy(out->host, s.p + 1, n);
    out->host[n] = 0;
    struct in6_addr address;
    if (inet_pton(AF_INET6, out->host, &address) != 1) return false;
    out->is_v6 = true;
    *used = n + 2;
    return true;
}

static bool parse_name(tug_str s, tug_authority *out, size_t *used) {
    size_t n = 0;
    while (n < s.n && s.p[n] != ':') {
        if (n >= TUG_HOST_MAX) return false;
        const char c = lower(s.p[n]);
        if (!is_name_char(c)) return false;
        out->host[n++] = c;
    }
    *used = n;
    if (n > 0 && out->host[n - 1] == '.') n--;
    out->host[n] = 0;
    return n > 0 && out->host[n - 1] != '.' && out->host[0] != '.';
}

bool tug_authority_parse(tug_str text, tug_authority *out) {
    memset(out, 0, sizeof *out);
    if (text.n == 0) return false;
    size_t used = 0;
    if (!(text.p[0] == '[' ? parse_v6(text, out, &used) : parse_name(text, out, &used))) {
        return false;
    }
    if (used == text.n) return true;
    return text.p[used] == ':' &&
           parse_port(tug_str_make(text.p + used + 1, text.n - used - 1), &out->port);
}

bool tug_origin_parse(tug_str text, tug_authority *out, bool *is_https) {
    const tug_str http = tug_str_of("http://"), https = tug_str_of("https://");
    *is_https = tug_str_starts(text, https);
    if (!*is_https && !tug_str_starts(text, http)) return false;
    const size_t skip = *is_https ? https.n : http.n;
    return tug_authority_parse(tug_str_make(text.p + skip, text.n - skip), out);
}

bool tug_authority_eq(const tug_authority *a, const tug_authority *b, int default_port) {
    const int pa = a->port ? a->port : default_port;
    const int pb = b->port ? b->port : default_port;
    if (pa != pb || a->is_v6 != b->is_v6) return false;
    return strcmp(a->host, b->host) == 0 ||
           (a->is_v6 && tug_address_eq(a->host, b->host));
}

/* Any address as 16 bytes, an IPv4 one in its mapped form. */
static bool read_address(const char *text, struct in6_addr *out) {
    if (inet_pton(AF_INET6, text, out) == 1) return true;
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    memcpy(out->s6_addr, mapped, sizeof mapped);
    return inet_pton(AF_INET, text, out->s6_addr + sizeof mapped) == 1;
}

bool tug_address_eq(const char *a, const char *b) {
    struct in6_addr x, y;
    return read_address(a, &x) && read_address(b, &y) && memcmp(&x, &y, sizeof x) == 0;
}

bool tug_authority_is_loopback(const tug_authority *a) {
    struct in6_addr address;
    if (!read_address(a->host, &address)) return false;
    if (IN6_IS_ADDR_V4MAPPED(&address)) return address.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&address);
}
