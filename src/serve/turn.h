/* turn.h - the model writes one answer: tokens to text, calls and a reason to end.
 *
 *   sampler ─► id ─► text ─► call parser ─► stop strings ─► events of the answer
 *      ▲                │
 *      └── constraint ◄─┘
 *
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_TURN_H
#define TUG_SERVE_TURN_H

#include "api/answer.h"
#include "calls/call_parser.h"
#include "calls/constraint.h"
#include "calls/loop.h"
#include "engine/stop_match.h"
#include "tokenizer/tokenizer.h"
#include "tug.h"

struct tug_job;

/* All owned; zero-initialised is none. */
typedef struct tug_turn {
    tug_sampler *sampler;
    tug_generation *generation;
    tug_constraint *constraint; /* NULL: anything goes */
    tug_call_parser *parser;    /* NULL: all is text */
    tug_loop *loop;
    bool looping; /* the model repeats itself without end */
    tug_stop_match stops;
    tug_ids ids;       /* sampled so far, the end of turn left out */
    tug_buf said;      /* the content so far */
    tug_buf passed;    /* scratch: text that the stop strings let through */
    tug_str *call_ids; /* (n_calls,) in the job's arena */
    size_t n_calls, cap_calls, n_complete;
    size_t stop_found;     /* index in the request's, SIZE_MAX: none */
    const int32_t *script; /* test builds: (n_script,) ids that are said, then the end */
    size_t n_script, at_script;
    double script_s; /* delay of each */
} tug_turn;

/* The session of the job's lease has logits. */
TUG_NODISCARD tug_status tug_turn_begin(struct tug_job *job, tug_err *err);

/* One token.  *done: the turn is over and job->end says why.  Events go to job->out. */
TUG_NODISCARD tug_status tug_turn_step(struct tug_job *job, bool *done, tug_err *err);

void tug_turn_free(tug_turn *turn);

#endif
