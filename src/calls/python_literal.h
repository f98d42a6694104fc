/* python_literal.h - JSON as Python prints it.  SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_PYTHON_LITERAL_H
#define TUG_CALLS_PYTHON_LITERAL_H

#include <stdbool.h>

#include "base/str.h"

/* Rewrites what models trained on Python write instead of JSON: 'single quotes', True,
 * False, None, a trailing comma, 1. and .5 and +1, line ends inside of strings.  Appends to
 * *out; whether that is JSON now is for the JSON reader to say. */
void tug_python_to_json(tug_str in, tug_buf *out);

/* Appends `text` as a JSON number: also +1, 1., .5, 007.  False, and nothing appended, when
 * it is none. */
bool tug_number_to_json(tug_str text, tug_buf *out);

#endif
