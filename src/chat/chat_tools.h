/* chat_tools.h - the part of the system turn that tells the model its tools.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CHAT_CHAT_TOOLS_H
#define TUG_CHAT_CHAT_TOOLS_H

#include "base/str.h"
#include "json/json.h"

/* Appends the list of `tools`, an ARRAY that is not empty, and how to call them. */
void tug_chat_tools_text(tug_buf *out, const tug_json *tools);

#endif
