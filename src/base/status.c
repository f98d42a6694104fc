/* status.c - see status.h.  SPDX-License-Identifier: MIT */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *tug_status_text(tug_status code) {
    static const char *const text[TUG_STATUS_COUNT] = {
#define XX(name, msg) msg,
        TUG_STATUS_MAP(XX)
#undef XX
    };
    const unsigned i = (unsigned)code;
    return i < TUG_STATUS_COUNT ? text[i] : "unknown status";
}

/* A sentence ends up on a terminal: no escape sequences, no broken UTF-8 from a
 * truncated or hostile name.  Bytes >= 0x80 stay only as whole characters. */
static void make_printable(char *s) {
    unsigned char *p = (unsigned char *)s;
    while (*p) {
        int len = *p < 0x80 ? 1 : *p >= 0xF0 && *p < 0xF5 ? 4 : *p >= 0xE0 ? 3 : 2;
        int whole = *p < 0x80 || (*p >= 0xC2 && *p < 0xF5);
        for (int i = 1; whole && i < len; i++) whole = (p[i] & 0xC0) == 0x80;
        if (!whole || *p < 0x20 || *p == 0x7F) {
            *p++ = '?';
        } else {
            p += len;
        }
    }
}

tug_status tug_err_set(tug_err *err, tug_status code, const char *file, int line,
                       const char *fmt, ...) {
    if (!err) return code;
    err->code = code;
    err->file = file;
    err->line = line;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(err->msg, sizeof err->msg, fmt, ap) < 0) err->msg[0] = '\0';
    va_end(ap);
    make_printable(err->msg);
    return code;
}

void tug_check_failed(const char *cond, const char *file, int line) {
    (void)fprintf(stderr, "tug: internal error: %s (%s:%d); please report it\n", cond,
                  file, line);
    abort();
}
