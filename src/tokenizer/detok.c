/* detok.c - ids to text that is valid UTF-8 at every moment.
 * SPDX-License-Identifier: MIT */
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

tug_detok tug_detok_start(const tug_tokenizer *tk, bool show_control) {
    const tug_detok d = {.tk = tk, .show_control = show_control};
    return d;
}

/* Appends what the held bytes have become: a character, or U+FFFD for those at the front
 * that can no longer become one. */
static void settle(tug_detok *d, tug_buf *out) {
    while (d->n_held > 0) {
        const int len = tug_utf8_next(d->held, (size_t)d->n_held);
        if (len == 0) return;
        const int n = len < 0 ? -len : len;
        if (len > 0) {
            tug_buf_append(out, d->held, (size_t)n);
        } else {
            tug_buf_text(out, replacement);
        }
        d->n_held -= n;
        memmove(d->held, d->held + n, (size_t)d->n_held);
    }
}

static bool is_visible(const tug_detok *d, int32_t id) {
    const tug_token_type type = tug_tokenizer_type(d->tk, id);
    return d->show_control || type == TUG_TOKEN_NORMAL || type == TUG_TOKEN_USER;
}

tug_status tug_detok_add(tug_detok *d, int32_t id, tug_buf *out, tug_err *err) {
    const int32_t size = tug_tokenizer_size(d->tk);
    if (id < 0 || id >= size) {
        return TUG_FAIL(err, TUG_ERANGE, "token id %d is outside the vocabulary, 0 to %d",
                        id, size - 1);
    }
    if (!is_visible(d, id)) return TUG_OK;
    const tug_str bytes = tug_tokenizer_bytes(d->tk, id);
    for (size_t i = 0; i < bytes.n; i++) {
        d->held[d->n_held++] = bytes.p[i];
        settle(d, out);
    }
    return tug_buf_ok(out, err);
}

tug_status tug_detok_finish(tug_detok *d, tug_buf *out, tug_err *err) {
    /* What is held is one beginning of one character. */
    if (d->n_held > 0) tug_buf_text(out, replacement);
    d->n_held = 0;
    return tug_buf_ok(out, err);
}
