/* savepoint.c - places in a session to come back to.
 *
 * DESIGN
 * A mark is a copy of the recurrent state; rows of the KV cache are shared.  They are
 * overwritten only by an append after a restore to an earlier mark: such rows, as far as a
 * later mark needs them, go to `undo` first, and come back with the next restore or reset.
 *
 * INVARIANTS
 *  1. With undo.n == 0 the cache holds rows [0, m.n_tokens) of every mark m not lost.
 *  2. With undo.n > 0 it does so once rows [undo.row, undo.row + undo.n) are put back.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/sys.h"
#include "engine/session_impl.h"
#include "memory/meminfo.h"

/* ---- rows that marks need ------------------------------------------------------------ */

/* Rows that some mark needs. */
static int64_t rows_needed(const tug_session *s) {
    int64_t n = 0;
    for (const tug_session_mark *m = s->marks; m; m = m->next) {
        if (!m->lost && m->n_tokens > n) n = m->n_tokens;
    }
    return n;
}

static tug_status reserve_rows(tug_undo *u, int64_t n, size_t row_bytes, tug_err *err) {
    if (n <= u->n_reserved) return TUG_OK;
    /* Half more: decode comes one row at a time. */
    const int64_t want = n + n / 2;
    uint8_t *bytes = tug_realloc_array(u->bytes, (size_t)want, row_bytes);
    if (bytes) u->bytes = bytes;
    int32_t *ids = bytes ? tug_realloc_array(u->ids, (size_t)want, sizeof *ids) : NULL;
    if (!ids) {
        return TUG_FAIL(err, TUG_ENOMEM,
                        "out of memory for what save points need of %lld tokens: destroy "
                        "those behind this place first",
                        (long long)n);
    }
    u->ids = ids;
    u->n_reserved = want;
    return TUG_OK;
}

tug_status tug_session_keep_rows(tug_session *s, int64_t n, tug_err *err) {
    const int64_t first = s->state.n_tokens, needed = rows_needed(s);
    const int64_t end = first + n < needed ? first + n : needed;
    const size_t row_bytes = tug_state_row_bytes(&s->state);
    tug_undo *u = &s->undo;
    if (u->n == 0) u->row = first;
    const int64_t from = u->row + u->n; /* a canceled append kept more than it wrote */
    if (end <= from) return TUG_OK;
    TUG_TRY(reserve_rows(u, end - u->row, row_bytes, err));
    tug_state_read_rows(&s->state, from, end - from, u->bytes + (size_t)u->n * row_bytes);
    TUG_TRY(tug_backend_wait(s->model->be, err));
    memcpy(u->ids + u->n, s->ids + from, (size_t)(end - from) * sizeof *u->ids);
    u->n = end - u->row;
    return TUG_OK;
}

void tug_session_undo(tug_session *s) {
    tug_undo *u = &s->undo;
    if (u->n == 0) return;
    tug_state_write_rows(&s->state, u->row, u->n, u->bytes);
    memcpy(s->ids + u->row, u->ids, (size_t)u->n * sizeof *u->ids);
    u->n = 0;
}

void tug_session_orphan_marks(tug_session *s) {
    for (tug_session_mark *m = s->marks; m; m = m->next) m->session = NULL;
    s->marks = NULL;
}

/* ---- save and restore ---------------------------------------------------------------- */

static tug_status new_mark(tug_session_mark **out, tug_session *s, tug_err *err) {
    const uint64_t bytes = s->state.recurrent_size + tug_session_logits_bytes(s);
    if (bytes > tug_memory_available()) {
        return TUG_FAIL(err, TUG_ENOMEM,
                        "a save point needs %.1f MB, but less is free: destroy others",
                        (double)bytes * 1e-6);
    }
    tug_session_mark *m = tug_alloc_zero(sizeof *m);
    if (m) m->recurrent = tug_alloc_aligned(64, s->state.recurrent_size);
    if (m) m->logits = tug_alloc(tug_session_logits_bytes(s));
    if (!m || !m->recurrent || !m->logits) {
        tug_session_mark_destroy(&m);
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a save point (%.1f MB)",
                        (double)s->state.recurrent_size * 1e-6);
    }
    m->session = s;
    m->next = s->marks;
    s->marks = m;
    *out = m;
    return TUG_OK;
}

/* A save on a continuation of its own: what undo holds is not put back any more. */
static void leave_old_line(tug_session *s) {
    for (tug_session_mark *m = s->marks; m && s->undo.n > 0; m = m->next) {
        if (m->n_tokens > s->undo.row) m->lost = true;
    }
    s->undo.n = 0;
}

tug_status tug_session_save(tug_session *s, tug_session_mark **mark, tug_err *err) {
    if (!*mark) {
        TUG_TRY(new_mark(mark, s, err));
    } else if ((*mark)->session != s) {
        return TUG_FAIL(err, TUG_ESTATE, "this save point belongs to another session");
    }
    tug_session_mark *m = *mark;
    leave_old_line(s);
    m->lost = false;
    m->n_tokens = s->state.n_tokens;
    m->have_logits = s->have_logits;
    tug_state_read_recurrent(&s->state, m->recurrent);
    if (s->have_logits) memcpy(m->logits, s->logits, tug_session_logits_bytes(s));
    const tug_status status = tug_backend_wait(s->model->be, err);
    m->lost = status != TUG_OK;
    return status;
}

tug_status tug_session_restore(tug_session *s, const tug_session_mark *m, tug_err *err) {
    if (m->session != s) {
        return TUG_FAIL(err, TUG_ESTATE, "this save point belongs to another session");
    }
    if (m->lost) {
        return TUG_FAIL(err, TUG_ESTATE,
                        "the save point at %lld tokens is lost: the session was saved "
                        "anew on another continuation",
                        (long long)m->n_tokens);
    }
    tug_session_undo(s);
    s->state.n_tokens = m->n_tokens;
    s->have_logits = m->have_logits;
    tug_state_write_recurrent(&s->state, m->recurrent);
    if (m->have_logits) memcpy(s->logits, m->logits, tug_session_logits_bytes(s));
    return TUG_OK;
}

void tug_session_mark_destroy(tug_session_mark **mark) {
    tug_session_mark *m = *mark;
    if (!m) return;
    if (m->session) {
        tug_session_mark **at = &m->session->marks;
        while (*at != m) at = &(*at)->next;
        *at = m->next;
    }
    tug_free(m->recurrent);
    tug_free(m->logits);
    tug_free(m);
    *mark = NULL;
}

/* ---- copies and memory --------------------------------------------------------------- */

static tug_status check_fork(const tug_session *dst, const tug_session *src,
                             const tug_session_mark *m, int64_t n, tug_err *err) {
    if (dst == src || dst->model != src->model ||
        tug_state_row_bytes(&dst->state) != tug_state_row_bytes(&src->state) ||
        (dst->state.n_attn_layer > 0 && dst->state.kv[0].type != src->state.kv[0].type)) {
        return TUG_FAIL(err, TUG_ESTATE,
                        "a session can be forked only into another one of the same model "
                        "and cache type");
    }
    if (m && (m->session != src || m->lost)) {
        return TUG_FAIL(err, TUG_ESTATE,
                        "this save point is lost or belongs to another session");
    }
    if (n > dst->state.n_ctx) {
        return TUG_FAIL(err, TUG_ERANGE, "%lld tokens do not fit a context of %lld",
                        (long long)n, (long long)dst->state.n_ctx);
    }
    return TUG_OK;
}

tug_status tug_session_fork(tug_session *dst, const tug_session *src,
                            const tug_session_mark *m, tug_err *err) {
    const int64_t n = m ? m->n_tokens : src->state.n_tokens;
    const tug_undo *u = &src->undo;
    TUG_TRY(check_fork(dst, src, m, n, err));
    for (tug_session_mark *old = dst->marks; old; old = old->next) old->lost = true;
    dst->undo.n = 0;
    tug_state_copy(&dst->state, &src->state, n, m ? m->recurrent : NULL);
    memcpy(dst->ids, src->ids, (size_t)n * sizeof *dst->ids);
    if (m && n > u->row && u->n > 0) { /* a mark of the line that src left */
        const int64_t n_kept = n - u->row < u->n ? n - u->row : u->n;
        tug_state_write_rows(&dst->state, u->row, n_kept, u->bytes);
        memcpy(dst->ids + u->row, u->ids, (size_t)n_kept * sizeof *dst->ids);
    }
    dst->have_logits = m ? m->have_logits : src->have_logits;
    if (dst->have_logits) {
        memcpy(dst->logits, m ? m->logits : src->logits, tug_session_logits_bytes(src));
    }
    return TUG_OK;
}

void tug_session_trim(tug_session *s) {
    for (tug_session_mark *m = s->marks; m; m = m->next) {
        if (m->n_tokens > s->state.n_tokens) m->lost = true;
    }
    tug_undo *u = &s->undo;
    tug_free(u->bytes);
    tug_free(u->ids);
    *u = (tug_undo){0};
    tug_state_trim(&s->state);
}

tug_session_memory tug_session_get_memory(const tug_session *s) {
    const uint64_t per_token = tug_state_row_bytes(&s->state) + sizeof *s->ids;
    const int64_t n_rows = s->state.n_touched + s->undo.n_reserved;
    tug_session_memory mem = {
        .kv = (uint64_t)n_rows * per_token,
        .recurrent = s->state.recurrent_size + tug_session_logits_bytes(s),
        .per_token = per_token,
    };
    mem.per_mark = mem.recurrent;
    for (const tug_session_mark *m = s->marks; m; m = m->next) mem.marks += mem.per_mark;
    return mem;
}

int64_t tug_session_mark_n_tokens(const tug_session_mark *mark) {
    return mark->n_tokens;
}

bool tug_session_mark_is_here(const tug_session *s, const tug_session_mark *m) {
    return m->session == s && !m->lost && m->n_tokens <= s->state.n_tokens &&
           (s->undo.n == 0 || m->n_tokens <= s->undo.row);
}
