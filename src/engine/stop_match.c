/* stop_match.c - see stop_match.h.  SPDX-License-Identifier: MIT */
#include "engine/stop_match.h"

#include "base/sys.h"

tug_status tug_stop_match_init(tug_stop_match *m, const char *const *texts, size_t n,
                               tug_err *err) {
    *m = (tug_stop_match){0};
    if (n == 0) return TUG_OK;
    for (size_t i = 0; i < n; i++) {
        if (texts[i][0] == '\0') {
            return TUG_FAIL(err, TUG_ERANGE,
                            "a stop string is empty; give a text or leave it out");
        }
    }
    m->stops = tug_alloc_array(n, sizeof *m->stops);
    if (!m->stops)
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for %zu stop strings", n);
    for (size_t i = 0; i < n; i++) tug_buf_text(&m->bytes, texts[i]);
    const tug_status status = tug_buf_ok(&m->bytes, err);
    if (status != TUG_OK) {
        tug_stop_match_deinit(m);
        return status;
    }
    const char *at = m->bytes.p;
    for (size_t i = 0; i < n; i++) {
        m->stops[i] = tug_str_make(at, strlen(texts[i]));
        at += m->stops[i].n;
    }
    m->n = n;
    return TUG_OK;
}

void tug_stop_match_deinit(tug_stop_match *m) {
    tug_free(m->stops);
    tug_buf_free(&m->bytes);
    tug_buf_free(&m->held);
    *m = (tug_stop_match){0};
}

static bool ends_with(const tug_buf *text, const char *p, size_t n) {
    return text->n >= n && memcmp(text->p + text->n - n, p, n) == 0;
}

/* Length of the longest stop string that the held text ends with, noted in m->found, or 0.  Held text
 * reaches back far enough: a stop string's beginning is never let through. */
static size_t completed(tug_stop_match *m) {
    size_t longest = 0;
    for (size_t i = 0; i < m->n; i++) {
        const tug_str stop = m->stops[i];
        if (stop.n <= longest || !ends_with(&m->held, stop.p, stop.n)) continue;
        longest = stop.n;
        m->found = i;
    }
    return longest;
}

/* Length of the longest end of the held text that a stop string begins with. */
static size_t begun(const tug_stop_match *m) {
    size_t longest = 0;
    for (size_t i = 0; i < m->n; i++) {
        for (size_t k = m->stops[i].n - 1; k > longest; k--) {
            if (ends_with(&m->held, m->stops[i].p, k)) longest = k;
        }
    }
    return longest;
}

/* Lets through all but the last `keep` bytes. */
static void let_through(tug_stop_match *m, size_t keep, tug_buf *out) {
    if (m->held.failed || m->held.n == 0) return;
    const size_t n = m->held.n - keep;
    tug_buf_append(out, m->held.p, n);
    memmove(m->held.p, m->held.p + n, keep);
    m->held.n = keep;
}

tug_status tug_stop_match_feed(tug_stop_match *m, tug_str in, tug_buf *out, bool *found,
                               tug_err *err) {
    *found = false;
    for (size_t i = 0; i < in.n; i++) {
        tug_buf_char(&m->held, in.p[i]);
        const size_t n = completed(m);
        if (n == 0) continue;
        *found = true;
        let_through(m, n, out);
        tug_buf_clear(&m->held);
        break;
    }
    let_through(m, begun(m), out);
    TUG_TRY(tug_buf_ok(&m->held, err));
    return tug_buf_ok(out, err);
}

tug_status tug_stop_match_finish(tug_stop_match *m, tug_buf *out, tug_err *err) {
    let_through(m, 0, out);
    return tug_buf_ok(out, err);
}
