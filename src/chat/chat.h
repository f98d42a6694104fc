/* chat.h - a conversation, and the exact prompt the model was trained to see for it.
 *
 * OWNS  the message model and the native renderer of the Qwen3-Coder-Next template.
 * NOT   a template engine: a template inside a model file is text of strangers and is
 *       never executed, only compared (tug_chat_template_known).
 *
 * The output equals, byte for byte, what Jinja makes of the official template wherever
 * Jinja renders; docs/CHAT.md lists the cases where it does not and what happens here.
 *
 *     tug_chat_message m[] = {tug_chat_text("user", tug_str_of("Hello"))};
 *     tug_chat chat = {.messages = m, .n_messages = 1, .add_generation_prompt = true};
 *     tug_chat_prompt prompt = {0};
 *     status = tug_chat_render(&chat, &prompt, &err);
 *     ... tug_chat_segment_text(&prompt, i) for each segment ...
 *     tug_chat_prompt_free(&prompt);
 *
 * Read next: chat_request.h (a conversation from an OpenAI-style request).
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CHAT_CHAT_H
#define TUG_CHAT_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"
#include "json/json.h"

/* ---- a conversation --------------------------------------------------------------- */

typedef struct tug_chat_call {
    tug_str name;              /* of the function */
    const tug_json *arguments; /* an OBJECT, or NULL: none */
    tug_str id; /* as the client has it, or empty; the prompt does not show it */
} tug_chat_call;

/* One turn.  `system`, `user`, `assistant` and `tool` are the template's own roles;
 * any other, `developer` too, gets a turn of that name. */
typedef struct tug_chat_message {
    tug_str role;
    tug_str content; /* p == NULL: none (a first system turn is then left out) */
    const tug_chat_call *calls; /* assistant: (n_calls,) */
    size_t n_calls;
    /* assistant: what the model itself wrote in this turn, up to its end; rendered instead
     * of content and calls, byte for byte, as a segment of its own.  p == NULL: none. */
    tug_str raw;
} tug_chat_message;

static inline tug_chat_message tug_chat_text(const char *role, tug_str content) {
    const tug_chat_message m = {.role = tug_str_of(role), .content = content};
    return m;
}

typedef struct tug_chat {
    const tug_chat_message *messages; /* (n_messages,), at least one */
    size_t n_messages;
    const tug_json *tools; /* ARRAY of OpenAI-style tools, or NULL */
    /* Ends with an open assistant turn for the model to write.  If the last message is
     * the assistant's and has no calls, that is the open turn: the model continues it. */
    bool add_generation_prompt;
} tug_chat;

/* Messages that are kept while they grow in number, as a terminal chat needs them.
 * Zero-initialise it; tug_chat_log_free is always safe. */
typedef struct tug_chat_log {
    tug_chat_message *messages; /* owned, (n_messages of cap,) */
    size_t n_messages, cap;
    tug_arena texts; /* owned copies of roles and contents */
} tug_chat_log;

TUG_NODISCARD tug_status tug_chat_log_add(tug_chat_log *log, const char *role,
                                          tug_str content, tug_err *err);
void tug_chat_log_free(tug_chat_log *log);

/* ---- the prompt ------------------------------------------------------------------- */

/* A piece of the prompt for the tokenizer.  `control` ones are exactly one control token
 * that the template wrote.  All others are text in which the spelling of a control token
 * stays text, whoever typed it there.  Control tokens split text for the reference
 * tokenizer too, so encoding the segments one by one gives its ids. */
typedef struct tug_chat_segment {
    size_t at, n; /* bytes of the prompt's text; n > 0, no gaps */
    bool control;
    int64_t message; /* index of the message whose `raw` it is, else -1 */
} tug_chat_segment;

typedef struct tug_chat_prompt {
    tug_buf text;
    tug_chat_segment *segments; /* owned, (n_segments of cap_segments,) */
    size_t n_segments, cap_segments;
} tug_chat_prompt;

/* *out is zero-initialised or used before (its memory is kept, its content replaced). */
TUG_NODISCARD tug_status tug_chat_render(const tug_chat *chat, tug_chat_prompt *out,
                                         tug_err *err);
void tug_chat_prompt_free(tug_chat_prompt *prompt);

static inline tug_str tug_chat_segment_text(const tug_chat_prompt *prompt, size_t i) {
    const tug_chat_segment *s = &prompt->segments[i];
    return tug_str_make(prompt->text.p + s->at, s->n);
}

/* Is this text of a file's `tokenizer.chat_template` one that tug_chat_render stands
 * for?  Repackaged files often carry an edited one that renders ordinary conversations
 * alike, so a false deserves a note, not a refusal. */
bool tug_chat_template_known(tug_str text);

#endif
