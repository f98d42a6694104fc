/* http_target.h - the target of a request line: path, query.  SPDX-License-Identifier: MIT */
#ifndef TUG_HTTP_TARGET_H
#define TUG_HTTP_TARGET_H

#include <stdbool.h>

#include "base/str.h"

/* What a raw target consists of; views into it. */
typedef struct tug_target {
    tug_str authority; /* of the absolute form, else p NULL */
    tug_str path;      /* begins with '/', or is "*" */
    tug_str query;     /* without '?'; p NULL: none */
} tug_target;

/* "/path?query", "http://host/path?query", "*"; false for anything else, and for bytes that
 * no target may have. */
bool tug_target_split(tug_str raw, tug_target *out);

/* Appends `text` with %XX decoded, and '+' as a space when asked for; false when an escape
 * is malformed or gives a control character. */
bool tug_target_decode(tug_str text, bool plus_is_space, tug_buf *out);

/* Cuts the next "name=value" off *rest; false when there is none. */
bool tug_target_next_pair(tug_str *rest, tug_str *name, tug_str *value);

#endif
