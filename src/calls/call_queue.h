/* call_queue.h - lexemes whose meaning depends on what follows them.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_CALL_QUEUE_H
#define TUG_CALLS_CALL_QUEUE_H

#include "base/status.h"
#include "calls/call_lexer.h"

enum {
    TUG_CALL_QUEUE_MAX = 12,  /* the longest wait is for 8, and the end brings 2 */
    TUG_CALL_SPACE_MAX = 4096 /* bytes between tags; more white space is none */
};

/* Zero-initialise it; tug_call_queue_free is always safe. */
typedef struct tug_call_queue {
    tug_buf bytes; /* of the lexemes; those before the first one are done with */
    struct tug_queued {
        tug_lexeme_kind kind;
        size_t at, n; /* in bytes */
    } item[TUG_CALL_QUEUE_MAX];
    size_t n;
} tug_call_queue;

static inline tug_lexeme_kind tug_call_queue_kind(const tug_call_queue *q, size_t i) {
    return i < q->n ? q->item[i].kind : TUG_LEX_MORE;
}
static inline tug_str tug_call_queue_bytes(const tug_call_queue *q, size_t i) {
    if (q->item[i].n == 0) return (tug_str){0};
    return tug_str_make(q->bytes.p + q->item[i].at, q->item[i].n);
}

/* i, or i + 1 when white space is there. */
static inline size_t tug_call_queue_skip(const tug_call_queue *q, size_t i) {
    return tug_call_queue_kind(q, i) == TUG_LEX_SPACE ? i + 1 : i;
}

/* White space joins that before it.  Failures are sticky in `bytes`. */
void tug_call_queue_push(tug_call_queue *q, tug_lexeme_kind kind, tug_str bytes);

/* Drops the first n lexemes; or the first n bytes of the first one, which has more. */
void tug_call_queue_pop(tug_call_queue *q, size_t n);
void tug_call_queue_trim(tug_call_queue *q, size_t n);
void tug_call_queue_free(tug_call_queue *q);

#endif
