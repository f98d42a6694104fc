/* str.c - see str.h.  SPDX-License-Identifier: MIT */
#include "base/str.h"

#include <stdio.h>

#include "base/sys.h"

/* Room for `extra` more bytes and the terminator; false (and sticky) if there is none. */
static bool reserve(tug_buf *b, size_t extra) {
    size_t need;
    if (b->failed || __builtin_add_overflow(b->n, extra, &need) ||
        __builtin_add_overflow(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap) return true;
    size_t cap = b->cap > need / 2 ? b->cap + b->cap / 2 : need;
    if (cap < need) cap = need;
    if (cap < 64) cap = 64;
    char *p = tug_realloc_array(b->p, cap, 1);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

void tug_buf_append(tug_buf *b, const void *bytes, size_t n) {
    if (!reserve(b, n)) return;
    if (n) memcpy(b->p + b->n, bytes, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void tug_buf_str(tug_buf *b, tug_str s) {
    tug_buf_append(b, s.p, s.n);
}
void tug_buf_text(tug_buf *b, const char *z) {
    tug_buf_append(b, z, strlen(z));
}
void tug_buf_char(tug_buf *b, char c) {
    tug_buf_append(b, &c, 1);
}

void tug_buf_printf(tug_buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
        return;
    }
    if (!reserve(b, (size_t)n)) return;
    va_start(ap, fmt);
    (void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

void tug_buf_clear(tug_buf *b) {
    b->n = 0;
    b->failed = false;
    if (b->p) b->p[0] = '\0';
}

void tug_buf_free(tug_buf *b) {
    tug_free(b->p);
    *b = (tug_buf){0};
}

tug_status tug_buf_ok(const tug_buf *b, tug_err *err) {
    if (!b->failed) return TUG_OK;
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory while building a text of %zu bytes",
                    b->n);
}
