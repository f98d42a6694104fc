/* response_object.h - the object that /v1/responses answers with, and the items in it.
 * For src/api only.  SPDX-License-Identifier: MIT */
#ifndef TUG_API_RESPONSE_OBJECT_H
#define TUG_API_RESPONSE_OBJECT_H

#include "api/answer_openai.h"

typedef struct tug_response_state {
    const char *status; /* in_progress, completed, incomplete, failed */
    bool with_output;   /* the items so far, and usage */
    const char *reason; /* incomplete: why; else NULL */
    const char *code;   /* failed: the error's code and message */
    tug_str message;
} tug_response_state;

/* How the answer ended: completed, or incomplete and why. */
tug_response_state tug_response_ended(const tug_answer *a);

void tug_response_write(tug_json_writer *w, tug_answer *a,
                        const tug_response_state *state);

/* Item i of the (one) choice.  is_new: as it is when it begins, still empty. */
void tug_response_write_item(tug_json_writer *w, tug_answer *a, size_t i, bool is_new);
/* {"type": "output_text", ...}, the one part of a text item. */
void tug_response_write_part(tug_json_writer *w, const tug_answer *a, size_t i,
                             bool is_new);
/* "logprobs": those of text item i, or []. */
void tug_response_write_logprobs(tug_json_writer *w, const tug_answer *a, size_t i);

tug_tool_kind tug_response_kind(const tug_answer *a, const tug_answer_item *item);
tug_str tug_response_item_id(tug_answer *a, size_t i);
/* The called tool's name, without its namespace. */
tug_str tug_response_name(const tug_answer *a, const tug_answer_item *item);

/* The text of a custom call, out of its arguments {"input": "..."}: all of it, or as far as
 * a call that was cut off goes. */
void tug_response_input(const tug_answer_item *item, tug_buf *out);
/* The same bit by bit: appends what lies behind byte `from` of the arguments and returns
 * the byte to go on from.  0: before the first; returned, that the text has not begun, or
 * is not the first member, which only tug_response_input finds. */
size_t tug_response_input_piece(tug_str arguments, size_t from, tug_buf *out);

#endif
