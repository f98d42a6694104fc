/* chat_request.h - a conversation from the JSON of an OpenAI-style chat request.
 *
 * Takes `messages`, `tools` and `add_generation_prompt` (true unless it says false) and
 * ignores everything else.  docs/CHAT.md says how odd values are read.
 *
 *     tug_arena arena = {0};
 *     status = tug_json_parse(text, &arena, &request, &err);
 *     status = tug_chat_from_json(request, &arena, &chat, &err);
 *     ... tug_chat_render(&chat, ...) ...
 *     tug_arena_free(&arena);
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CHAT_CHAT_REQUEST_H
#define TUG_CHAT_CHAT_REQUEST_H

#include "base/arena.h"
#include "base/status.h"
#include "chat/chat.h"
#include "json/json.h"

/* *out borrows from `request` and `arena`.  TUG_EFORMAT and TUG_EUNSUPPORTED name the
 * field, like messages[3].content. */
TUG_NODISCARD tug_status tug_chat_from_json(const tug_json *request, tug_arena *arena,
                                            tug_chat *out, tug_err *err);

/* The arguments of a call that a client sent as text: the OBJECT in it.  Text that holds
 * none (a call cut off by a token limit) becomes one argument named `arguments`, so that
 * no history is ever refused; white space alone becomes NULL, no arguments. */
TUG_NODISCARD tug_status tug_chat_arguments(tug_str text, tug_arena *arena,
                                            const tug_json **out, tug_err *err);

#endif
