/* http_target.c - see http_target.h.  SPDX-License-Identifier: MIT */
#include "http/http_target.h"

#include <strings.h>

static tug_str after(tug_str s, size_t n) {
    return tug_str_make(s.p + n, s.n - n);
}

static size_t find(tug_str s, char c) {
    const char *const at = s.n ? memchr(s.p, c, s.n) : NULL;
    return at ? (size_t)(at - s.p) : s.n;
}

static bool has_only_visible(tug_str s) {
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c == 0x7f) return false;
    }
    return true;
}

/* "http://host" in front of the path; the scheme in any case. */
static bool split_absolute(tug_str *rest, tug_str *authority) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        const size_t n = strlen(schemes[i]);
        if (rest->n <= n || strncasecmp(rest->p, schemes[i], n) != 0) continue;
        *rest = after(*rest, n);
        const size_t slash = find(*rest, '/'), question = find(*rest, '?');
        const size_t end = slash < question ? slash : question;
        *authority = tug_str_make(rest->p, end);
        *rest = after(*rest, end);
        return end > 0;
    }
    return false;
}

bool tug_target_split(tug_str raw, tug_target *out) {
    *out = (tug_target){0};
    if (raw.n == 0 || !has_only_visible(raw)) return false;
    tug_str rest = raw;
    if (tug_str_is(raw, "*")) {
        out->path = raw;
        return true;
    }
    if (raw.p[0] != '/' && !split_absolute(&rest, &out->authority)) return false;
    const size_t end = find(rest, '#') < rest.n ? 0 : find(rest, '?');
    if (rest.n > 0 && end == 0 && rest.p[0] != '?') return false; /* a fragment */
    out->path = end > 0 ? tug_str_make(rest.p, end) : tug_str_of("/");
    if (end < rest.n) out->query = after(rest, end + 1);
    return true;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool tug_target_decode(tug_str text, bool plus_is_space, tug_buf *out) {
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '%') {
            const int high = i + 2 < text.n ? hex(text.p[i + 1]) : -1;
            const int low = i + 2 < text.n ? hex(text.p[i + 2]) : -1;
            if (high < 0 || low < 0) return false;
            c = (char)(high << 4 | low);
            if ((unsigned char)c < ' ' || c == 0x7f) return false;
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        tug_buf_char(out, c);
    }
    return true;
}

bool tug_target_next_pair(tug_str *rest, tug_str *name, tug_str *value) {
    while (rest->n > 0) {
        const size_t end = find(*rest, '&');
        const tug_str pair = tug_str_make(rest->p, end);
        *rest = end < rest->n ? after(*rest, end + 1) : tug_str_make(NULL, 0);
        if (pair.n == 0) continue;
        const size_t equals = find(pair, '=');
        *name = tug_str_make(pair.p, equals);
        *value = equals < pair.n ? after(pair, equals + 1) : tug_str_make("", 0);
        return true;
    }
    return false;
}
