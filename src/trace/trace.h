/* trace.h - which experts every token of a run used: in memory, and as a file.
 *
 * A trace is a row of batches; a batch of one token is a decode step, a longer one (a part
 * of) a prompt.  The file is for machines that may not trust each other: versioned, with a
 * checksum, and every number in it is checked (docs/TRACE.md has the format).
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TRACE_TRACE_H
#define TUG_TRACE_TRACE_H

#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

enum { TUG_TRACE_MAX_LAYER = 1024, TUG_TRACE_MAX_EXPERT = 4096 };

/* Zero-initialised it is empty and has no shape; tug_trace_free is always safe. */
typedef struct tug_trace {
    int n_layer, n_expert, n_used; /* n_used experts of a layer a token, increasing ids */
    uint16_t *ids;                 /* owned, (n_tokens, n_layer, n_used) */
    int32_t *batches;              /* owned, (n_batches,) tokens of each, >= 1 */
    int64_t n_tokens, n_batches;
    int64_t cap_tokens, cap_batches;
} tug_trace;

/* Gives an empty trace its shape; one that has some must have the same (TUG_ERANGE).
 * `name` is for the sentence. */
TUG_NODISCARD tug_status tug_trace_set_shape(tug_trace *t, const char *name, int n_layer,
                                             int n_expert, int n_used, tug_err *err);
void tug_trace_free(tug_trace *t);

/* Room for a batch at the end: its first token.  The caller fills the ids. */
TUG_NODISCARD tug_status tug_trace_add_batch(tug_trace *t, int32_t n_tok, int64_t *first,
                                             tug_err *err);

/* Cuts batches into ones of at most `most` tokens: 1 makes every token a decode step. */
TUG_NODISCARD tug_status tug_trace_split(tug_trace *t, int32_t most, tug_err *err);

static inline uint16_t *tug_trace_ids(const tug_trace *t, int64_t token, int layer) {
    return t->ids +
           ((size_t)token * (size_t)t->n_layer + (size_t)layer) * (size_t)t->n_used;
}

/* ---- as a file ------------------------------------------------------------------------- */

TUG_NODISCARD tug_status tug_trace_write(const tug_trace *t, const char *path,
                                         tug_err *err);

/* Appends what the file holds; after an error the trace is as it was. */
TUG_NODISCARD tug_status tug_trace_read(tug_trace *t, const char *path, tug_err *err);

/* The same from and to memory. */
void tug_trace_encode(const tug_trace *t, tug_buf *out);
TUG_NODISCARD tug_status tug_trace_decode(tug_trace *t, tug_str bytes, const char *name,
                                          tug_err *err);

/* ---- as steps -------------------------------------------------------------------------- */

/* One layer of one batch, as the cache is told of it. */
typedef struct tug_trace_step {
    int32_t *experts, *counts; /* owned, (n_expert,), of which n count; increasing */
    int n;
} tug_trace_step;

TUG_NODISCARD tug_status tug_trace_step_create(tug_trace_step *s, const tug_trace *t,
                                               tug_err *err);
void tug_trace_step_free(tug_trace_step *s);

/* Layer `layer` of the tokens [first, first + n_tok). */
void tug_trace_step_set(tug_trace_step *s, const tug_trace *t, int64_t first,
                        int32_t n_tok, int layer);

/* out (n_layer, n_expert): tokens that used each. */
void tug_trace_count_uses(const tug_trace *t, float *out);

#endif
