/* session_impl.h - what is behind tug_session and its save points.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_ENGINE_SESSION_IMPL_H
#define TUG_ENGINE_SESSION_IMPL_H

#include "engine/engine_impl.h"

/* Cache rows, and their tokens, that later save points need and an earlier one's
 * continuation overwrote. */
typedef struct tug_undo {
    int64_t row, n; /* rows [row, row + n) */
    uint8_t *bytes; /* owned, (n_reserved, tug_state_row_bytes) */
    int32_t *ids;   /* owned, (n_reserved,) */
    int64_t n_reserved;
} tug_undo;

struct tug_session {
    tug_model *model; /* borrowed */
    tug_state state;
    int64_t n_batch;
    int32_t *ids;  /* owned, (n_ctx,); rows of later save points lie behind n_tokens */
    float *logits; /* owned, (n_vocab,) */
    tug_progress_fn *on_prefill;
    void *ud;
    bool have_logits;
    tug_session_mark *marks; /* borrowed list: their owners destroy them */
    tug_undo undo;
};

struct tug_session_mark {
    tug_session *session; /* NULL: destroyed */
    tug_session_mark *next;
    bool lost; /* its rows of the cache are gone */
    int64_t n_tokens;
    bool have_logits;
    float *recurrent; /* owned, state.recurrent_size bytes */
    float *logits;    /* owned, (n_vocab,) */
};

/* Bytes of logits. */
size_t tug_session_logits_bytes(const tug_session *s);

/* Keeps what marks need of the rows that n more tokens will overwrite; changes nothing
 * else.  Call before every append. */
TUG_NODISCARD tug_status tug_session_keep_rows(tug_session *s, int64_t n, tug_err *err);

/* Puts kept rows back: every mark that is not lost can be restored again. */
void tug_session_undo(tug_session *s);

/* The session is going away. */
void tug_session_orphan_marks(tug_session *s);

#endif
