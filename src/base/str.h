/* str.h - slices of text and a growable byte buffer.  SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_STR_H
#define TUG_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/status.h"

/* A view of bytes, not zero-terminated, owned by somebody else. */
typedef struct tug_str {
    const char *p; /* borrowed, (n,); may be NULL when n == 0 */
    size_t n;
} tug_str;

static inline tug_str tug_str_make(const char *p, size_t n) {
    const tug_str s = {p, n};
    return s;
}
static inline tug_str tug_str_of(const char *z) {
    return tug_str_make(z, strlen(z));
}
static inline bool tug_str_eq(tug_str a, tug_str b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool tug_str_is(tug_str a, const char *z) {
    return tug_str_eq(a, tug_str_of(z));
}
static inline bool tug_str_starts(tug_str a, tug_str prefix) {
    return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}

/* A growable buffer.  Zero-initialise it; tug_buf_free is always safe.  An append that
 * cannot allocate leaves the buffer as it was and makes `failed` sticky, so a run of
 * appends needs one check at its end (tug_buf_ok). */
typedef struct tug_buf {
    char *p;    /* owned or NULL; p[n] == 0 whenever p != NULL */
    size_t n;   /* bytes used */
    size_t cap; /* bytes allocated */
    bool failed;
} tug_buf;

void tug_buf_append(tug_buf *b, const void *bytes, size_t n);
void tug_buf_str(tug_buf *b, tug_str s);
void tug_buf_text(tug_buf *b, const char *z);
void tug_buf_char(tug_buf *b, char c);
void tug_buf_printf(tug_buf *b, const char *fmt, ...) TUG_PRINTF(2, 3);
void tug_buf_clear(tug_buf *b); /* keeps the memory */
void tug_buf_free(tug_buf *b);

/* TUG_OK, or TUG_ENOMEM with a sentence when any append since the last clear failed. */
TUG_NODISCARD tug_status tug_buf_ok(const tug_buf *b, tug_err *err);

static inline tug_str tug_buf_view(const tug_buf *b) {
    return tug_str_make(b->p, b->n);
}

#endif
