/* coerce.h - the text of a parameter to a JSON value of the type its schema asks for.
 *
 * Never drops a value: text that is not of the type becomes a JSON string, and the agent's
 * own check answers the model.  The rules are the table of docs/TOOL-CALLS.md.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_COERCE_H
#define TUG_CALLS_COERCE_H

#include <stdbool.h>

#include "base/status.h"
#include "base/str.h"
#include "calls/schema_types.h"

/* Appends to *out one JSON value for `text` (any bytes).  *omit: nothing was appended, the
 * member should be left out (empty text for an optional member that is no string).
 * Errors: TUG_ENOMEM. */
TUG_NODISCARD tug_status tug_coerce(tug_str text, tug_type_set types, bool required,
                                    tug_buf *out, bool *omit, tug_err *err);

/* For a member that may be a string or null: does the text mean null?  With `so_far`: may
 * it, when more follows? */
bool tug_coerce_is_null(tug_str text, bool so_far);

#endif
