/* answer.h - an answer as each API wants to see it: a stream of events, or one JSON body.
 *
 * The server tells what happens, in order and once; the writer appends the bytes to send:
 *
 *     tug_answer_begin(a, &usage);             // prompt and cached tokens are known
 *     tug_answer_text / _call_begin / _call_arguments / _call_end, per choice
 *     tug_answer_choice_end(a, reason, ...);   // then the next choice, if n > 1
 *     tug_answer_finish(a, &usage);
 *
 * Without `stream` nothing is appended before finish.  tug_answer_error may come instead of
 * anything after begin.  Failures of memory are sticky in the buffer (tug_buf_ok).
 * SPDX-License-Identifier: MIT */
#ifndef TUG_API_ANSWER_H
#define TUG_API_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "api/request.h"
#include "base/status.h"
#include "base/str.h"

typedef struct tug_answer tug_answer;

typedef struct tug_answer_usage {
    int64_t n_prompt;              /* tokens of the prompt, reused ones included */
    int64_t n_cached;              /* of those, not computed again */
    int64_t n_completion;          /* sampled, over all choices */
    double prompt_s, completion_s; /* for `timings`; 0 in begin */
} tug_answer_usage;

typedef enum tug_answer_end {
    TUG_END_STOP,        /* the model ended its turn */
    TUG_END_STOP_STRING, /* at a stop string */
    TUG_END_LENGTH,      /* max_tokens */
    TUG_END_CONTEXT,     /* the context is full */
    TUG_END_CALLS,       /* at least one complete call */
    TUG_END_LOOP         /* the model repeated itself without end */
} tug_answer_end;

typedef struct tug_token_logprob {
    tug_str bytes;
    float logprob;
} tug_token_logprob;

/* A sampled token and the likeliest ones at its place. */
typedef struct tug_answer_token {
    tug_token_logprob chosen;
    const tug_token_logprob *top; /* (n_top,) */
    int32_t n_top;
} tug_answer_token;

/* `request` is borrowed until destroy, `model` is what the answer calls it.  `id_part` is
 * 24 unguessable characters; the writer puts its API's prefix before them. */
TUG_NODISCARD tug_status tug_answer_create(tug_answer **out,
                                           const tug_api_request *request, tug_str model,
                                           tug_str id_part, int64_t created,
                                           tug_err *err);
void tug_answer_destroy(tug_answer **answer);

/* "text/event-stream" or "application/json". */
const char *tug_answer_content_type(const tug_answer *answer);

void tug_answer_begin(tug_answer *a, const tug_answer_usage *usage, tug_buf *out);

/* `token` may be NULL (no logprobs wanted, or it was told before); text may be empty, and
 * then nothing happens inside of a call, whose tokens have no place in any API. */
void tug_answer_text(tug_answer *a, tug_str text, const tug_answer_token *token,
                     tug_buf *out);

/* `id` is the whole id, prefix included: "call_..." or "toolu_...".  `tool` is the index in
 * request->tools, or SIZE_MAX when the model called something that is not there. */
void tug_answer_call_begin(tug_answer *a, tug_str id, tug_str name, size_t tool,
                           tug_buf *out);
void tug_answer_call_arguments(tug_answer *a, tug_str json, tug_buf *out);
void tug_answer_call_end(tug_answer *a, bool complete, tug_buf *out);

/* stop_string: the one that matched, for TUG_END_STOP_STRING. */
void tug_answer_choice_end(tug_answer *a, tug_answer_end end, tug_str stop_string,
                           tug_buf *out);
void tug_answer_finish(tug_answer *a, const tug_answer_usage *usage, tug_buf *out);

/* Nothing was said for a while: what this API's clients count as life.  done and total are
 * tokens of the prompt.  Nothing without `stream`. */
void tug_answer_alive(tug_answer *a, int64_t done, int64_t total, tug_buf *out);

/* What was left free in a schema, shown with the answer; before finish. */
void tug_answer_warning(tug_answer *a, tug_str sentence);

/* The stream ends with an error event.  Without `stream`, only tug_api_error is right. */
void tug_answer_error(tug_answer *a, tug_status code, tug_str sentence, tug_buf *out);

/* ---- errors before the first byte ---------------------------------------------------- */

typedef enum tug_api_fault {
    TUG_FAULT_INVALID,   /* 400 */
    TUG_FAULT_CONTEXT,   /* 400 context_length_exceeded, in the words clients look for */
    TUG_FAULT_AUTH,      /* 401 */
    TUG_FAULT_FORBIDDEN, /* 403 */
    TUG_FAULT_NOT_FOUND, /* 404 */
    TUG_FAULT_METHOD,    /* 405 */
    TUG_FAULT_TOO_LARGE, /* 413 */
    TUG_FAULT_BUSY,      /* 429 */
    TUG_FAULT_INTERNAL,  /* 500 */
    TUG_FAULT_UNSUPPORTED, /* 501 */
    TUG_FAULT_UNAVAILABLE  /* 503 */
} tug_api_fault;

int tug_api_fault_status(tug_api_fault fault);

/* The JSON body in the API's own shape.  n_prompt, n_ctx: for TUG_FAULT_CONTEXT. */
void tug_api_error(tug_api api, tug_api_fault fault, tug_str sentence, int64_t n_prompt,
                   int64_t n_ctx, tug_buf *out);

#endif
