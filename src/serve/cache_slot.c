/* cache_slot.c - see cache_slot.h.
 *
 * INVARIANT  the places of marks rise, and unless the slot is leased all of them lie on the
 * way to the session's present place: so none is lost, and an append keeps no rows aside.
 * SPDX-License-Identifier: MIT */
#include "serve/cache_slot.h"

#include <string.h>

int64_t tug_slot_n_tokens(const tug_cache_slot *slot) {
    return tug_session_n_tokens(slot->session);
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t common_prefix(const int32_t *a, const int32_t *b, int64_t n) {
    int64_t i = 0;
    while (i < n && a[i] == b[i]) i++;
    return i;
}

tug_cache_point tug_slot_find(const tug_cache_slot *slot, const int32_t *ids, int64_t n) {
    int64_t n_here = 0;
    const int32_t *tokens = tug_session_tokens(slot->session, &n_here);
    const int64_t same = common_prefix(tokens, ids, min64(n, n_here));
    if (same == n_here) return (tug_cache_point){n_here, NULL};
    for (int i = slot->n_marks - 1; i >= 0; i--) {
        const int64_t at = tug_session_mark_n_tokens(slot->marks[i]);
        if (at <= same && tug_session_mark_is_here(slot->session, slot->marks[i]))
            return (tug_cache_point){at, slot->marks[i]};
    }
    return (tug_cache_point){0, NULL};
}

uint64_t tug_slot_bytes(const tug_cache_slot *slot) {
    const tug_session_memory m = tug_session_get_memory(slot->session);
    const uint64_t planned = slot->leased ? (uint64_t)slot->n_prompt * m.per_token : 0;
    return (planned > m.kv ? planned : m.kv) + m.recurrent + m.marks;
}

/* ---- marks --------------------------------------------------------------------------- */

static tug_session_mark *take_out(tug_cache_slot *slot, int i) {
    tug_session_mark *mark = slot->marks[i];
    slot->n_marks--;
    memmove(&slot->marks[i], &slot->marks[i + 1],
            (size_t)(slot->n_marks - i) * sizeof slot->marks[0]);
    return mark;
}

/* The line of marks forks at one place, so that astray ones are the last ones. */
void tug_slot_drop_astray(tug_cache_slot *slot) {
    while (slot->n_marks > 0 &&
           !tug_session_mark_is_here(slot->session, slot->marks[slot->n_marks - 1])) {
        tug_session_mark_destroy(&slot->marks[--slot->n_marks]);
    }
}

static void drop_all(tug_cache_slot *slot) {
    while (slot->n_marks > 0) tug_session_mark_destroy(&slot->marks[--slot->n_marks]);
}

bool tug_slot_can_thin(const tug_cache_slot *slot) {
    return slot->n_marks > 3;
}

static int least_needed(const tug_cache_slot *slot) {
    int best = 1;
    int64_t best_gap = INT64_MAX;
    for (int i = 1; i < slot->n_marks - 2; i++) {
        const int64_t gap = tug_session_mark_n_tokens(slot->marks[i + 1]) -
                            tug_session_mark_n_tokens(slot->marks[i - 1]);
        if (gap < best_gap) {
            best = i;
            best_gap = gap;
        }
    }
    return best;
}

void tug_slot_thin(tug_cache_slot *slot) {
    tug_session_mark *mark = take_out(slot, least_needed(slot));
    tug_session_mark_destroy(&mark);
}

bool tug_slot_mark(tug_cache_slot *slot, bool reuse) {
    if (reuse ? !tug_slot_can_thin(slot) : slot->n_marks == TUG_CACHE_MAX_MARKS) {
        return false;
    }
    tug_session_mark *mark = reuse ? take_out(slot, least_needed(slot)) : NULL;
    if (tug_session_save(slot->session, &mark, NULL) != TUG_OK) {
        tug_session_mark_destroy(&mark);
        return false;
    }
    slot->marks[slot->n_marks++] = mark;
    return true;
}

/* ---- where it is --------------------------------------------------------------------- */

static void trim(tug_cache_slot *slot, int64_t n_keep) {
    const tug_session_memory m = tug_session_get_memory(slot->session);
    if (m.kv > (uint64_t)n_keep * m.per_token) tug_session_trim(slot->session);
}

void tug_slot_empty(tug_cache_slot *slot) {
    drop_all(slot);
    tug_session_reset(slot->session);
    trim(slot, 0);
}

void tug_slot_close(tug_cache_slot *slot) {
    drop_all(slot);
    tug_session_destroy(&slot->session);
}

void tug_slot_start(tug_cache_slot *slot, const tug_cache_slot *source,
                    tug_cache_point point, int64_t n_keep) {
    tug_status s = TUG_OK;
    if (point.n_tokens == 0) {
        drop_all(slot);
        tug_session_reset(slot->session);
    } else if (slot != source) {
        drop_all(slot);
        s = tug_session_fork(slot->session, source->session, point.mark, NULL);
    } else if (point.mark) {
        s = tug_session_restore(slot->session, point.mark, NULL);
        tug_slot_drop_astray(slot);
    }
    TUG_CHECK(s == TUG_OK); /* the invariant, and one cache type for all */
    trim(slot, n_keep);
}
