/* call_names.h - the names in tags, as the parser of calls and the constraint see them.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_CALL_NAMES_H
#define TUG_CALLS_CALL_NAMES_H

#include <stdbool.h>

#include "base/str.h"
#include "calls/tool.h"

/* The first tool of that name, or NULL. */
const tug_tool *tug_call_find_tool(tug_tools tools, tug_str name);

/* Does the tool's schema name the key?  `tool` may be NULL: no. */
bool tug_call_has_key(const tug_tool *tool, tug_str key);

/* Can it be a name that nobody declared?  A template's unrendered `{{ name }}` and its like
 * cannot. */
bool tug_call_name_is_plain(tug_str name);

#endif
