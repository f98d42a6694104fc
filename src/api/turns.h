/* turns.h - a conversation put together piece by piece: texts, calls, tool results.
 *
 * What responses and messages send as lists of items and blocks becomes the turns of the
 * model's format: a turn of the assistant is all that it said and called before somebody
 * else spoke; the result of a call is a turn by itself.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_API_TURNS_H
#define TUG_API_TURNS_H

#include "api/request_impl.h"

typedef struct tug_turns {
    tug_api_messages list; /* the last one is the open turn, if one is open */
    const char *role;      /* of the open turn, a literal; NULL: none is open */
    tug_str text;          /* its first text, or p == NULL */
    tug_buf joined;        /* its texts, when there are several */
} tug_turns;

static inline tug_turns tug_turns_make(tug_arena *arena) {
    const tug_turns t = {.list = {.arena = arena}};
    return t;
}
void tug_turns_free(tug_turns *t);

/* Ends the open turn and begins one.  go_on: unless one of that role is open. */
TUG_NODISCARD tug_status tug_turns_open(tug_turns *t, const char *role, tug_err *err);
TUG_NODISCARD tug_status tug_turns_go_on(tug_turns *t, const char *role, tug_err *err);
TUG_NODISCARD tug_status tug_turns_close(tug_turns *t, tug_err *err);
/* As if it had not been opened. */
void tug_turns_drop(tug_turns *t);
/* Has the open turn no piece yet? */
bool tug_turns_is_empty(const tug_turns *t);

/* Pieces of the open turn.  Texts are borrowed and joined by a line feed. */
void tug_turns_text(tug_turns *t, tug_str text);
TUG_NODISCARD tug_status tug_turns_call(tug_turns *t, tug_chat_call call, tug_err *err);

/* The text of a content block or part; p NULL: it has none for the model (an unknown kind,
 * the model's thinking).  Media is refused with `path`, or has a placeholder: what a tool
 * has returned the agent cannot take back, a person can. */
TUG_NODISCARD tug_status tug_turns_block_text(const tug_json *block, const char *path,
                                              bool media_is_refused, tug_str *out,
                                              tug_err *err);

/* Ends the open turn and adds the result of a call: a string, or an array of blocks.
 * `path` names it.  is_error: says so, unless its first line does. */
TUG_NODISCARD tug_status tug_turns_result(tug_turns *t, const tug_json *content,
                                          const char *path, bool is_error, tug_err *err);

#endif
