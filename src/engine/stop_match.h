/* stop_match.h - finds stop strings in text that arrives in pieces.
 *
 * Text that may be the beginning of a stop string is held back, so what was let through
 * never contains one and never has to be taken back.  Where a stop string ends first in
 * the text decides, the longest one if several end there; how the text was cut into
 * pieces makes no difference.  SPDX-License-Identifier: MIT */
#ifndef TUG_ENGINE_STOP_MATCH_H
#define TUG_ENGINE_STOP_MATCH_H

#include "base/str.h"

typedef struct tug_stop_match {
    tug_str *stops; /* owned, (n,), into bytes */
    size_t n;
    size_t found;  /* which one was completed */
    tug_buf bytes; /* the stop strings, back to back */
    tug_buf held;  /* text not let through yet: shorter than the longest stop string */
} tug_stop_match;

/* `texts` (n,) are copied; an empty one is refused.  Zero-initialised is the matcher of
 * no stop string; deinit is always safe. */
TUG_NODISCARD tug_status tug_stop_match_init(tug_stop_match *m, const char *const *texts,
                                             size_t n, tug_err *err);
void tug_stop_match_deinit(tug_stop_match *m);

/* Adds `in` and appends to *out what can no longer belong to a stop string.  *found: one
 * was completed; *out then ends before it, and the rest of `in` is dropped. */
TUG_NODISCARD tug_status tug_stop_match_feed(tug_stop_match *m, tug_str in, tug_buf *out,
                                             bool *found, tug_err *err);

/* The text is over: appends what was held back. */
TUG_NODISCARD tug_status tug_stop_match_finish(tug_stop_match *m, tug_buf *out,
                                               tug_err *err);

#endif
