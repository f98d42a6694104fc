/* answer_openai.h - what chat, completions and responses have in common.  For src/api only.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_API_ANSWER_OPENAI_H
#define TUG_API_ANSWER_OPENAI_H

#include "api/answer_impl.h"

/* JSON members, one call each. */
void tug_openai_str(tug_json_writer *w, const char *key, tug_str value);
void tug_openai_i64(tug_json_writer *w, const char *key, int64_t value);
void tug_openai_null(tug_json_writer *w, const char *key);
/* `key`: {`name`: n} */
void tug_openai_detail(tug_json_writer *w, const char *key, const char *name, int64_t n);

/* A token with its logprob and the likeliest ones at its place. */
void tug_openai_token(tug_json_writer *w, const tug_answer_token *t);

/* The object's id, object, created, model, system_fingerprint; it stays open. */
void tug_openai_begin(tug_json_writer *w, const tug_answer *a, const char *object);

/* `usage` and `timings` of the final numbers, and `warning` if there is a new one. */
void tug_openai_numbers(tug_json_writer *w, const tug_answer *a);
void tug_openai_warning(tug_json_writer *w, tug_answer *a);

/* One event that is a comment, an error, or the end of the stream. */
void tug_openai_alive(tug_answer *a, int64_t done, int64_t total, tug_buf *out);
void tug_openai_error(tug_answer *a, tug_api_fault fault, tug_str sentence, tug_buf *out);

/* `"choices":[]`, with usage if it was asked for, then [DONE]. */
void tug_openai_finish(tug_answer *a, const char *object, tug_buf *out);

/* stop, length, tool_calls.  docs/API.md says which end is which, and why. */
const char *tug_openai_reason(const tug_answer_choice *c);

#endif
