/* call_queue.c - see call_queue.h.  SPDX-License-Identifier: MIT */
#include "calls/call_queue.h"

/* Bytes that may lie before the first lexeme until they are moved out: moving costs what
 * waits, at most a few TUG_CALL_SPACE_MAX, so that much must have gone by. */
enum { DONE_MAX = 4 * TUG_CALL_SPACE_MAX };

void tug_call_queue_push(tug_call_queue *q, tug_lexeme_kind kind, tug_str bytes) {
    TUG_CHECK(q->n < TUG_CALL_QUEUE_MAX);
    const size_t at = q->bytes.n;
    if (bytes.n > 0) tug_buf_str(&q->bytes, bytes);
    if (q->bytes.failed) return;
    if (kind == TUG_LEX_SPACE && tug_call_queue_kind(q, q->n - 1) == TUG_LEX_SPACE) {
        q->item[q->n - 1].n += bytes.n;
        return;
    }
    q->item[q->n].kind = kind;
    q->item[q->n].at = at;
    q->item[q->n].n = bytes.n;
    q->n++;
}

static void move_to_front(tug_call_queue *q) {
    const size_t first = q->item[0].at;
    if (first < DONE_MAX) return;
    memmove(q->bytes.p, q->bytes.p + first, q->bytes.n - first);
    q->bytes.n -= first;
    for (size_t i = 0; i < q->n; i++) q->item[i].at -= first;
}

void tug_call_queue_pop(tug_call_queue *q, size_t n) {
    TUG_CHECK(n <= q->n);
    q->n -= n;
    memmove(q->item, q->item + n, q->n * sizeof *q->item);
    if (q->n == 0) {
        q->bytes.n = 0; /* a failure stays */
        return;
    }
    move_to_front(q);
}

void tug_call_queue_trim(tug_call_queue *q, size_t n) {
    TUG_CHECK(q->n > 0 && n < q->item[0].n);
    q->item[0].at += n;
    q->item[0].n -= n;
    move_to_front(q);
}

void tug_call_queue_free(tug_call_queue *q) {
    tug_buf_free(&q->bytes);
    *q = (tug_call_queue){0};
}
