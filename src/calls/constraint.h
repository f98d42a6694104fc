/* constraint.h - which bytes may come next, so that what comes is a valid call.
 *
 * A byte automaton over the answer of the model: free text until a call begins, then the
 * names that exist, each required parameter, values of the right type (strings raw, over as
 * many lines as they take), and the closing tags; or, for response_format, one JSON value
 * of a schema.  Building one never fails on a schema: what it cannot express becomes a free
 * value of the base type and a warning.
 *
 *     tug_constraint_create(&c, &spec, &err);
 *     id = tug_sampler_pick_where(sampler, logits, allowed, ud);   // asks tug_constraint_allows
 *     tug_constraint_accept(c, bytes of id);
 *
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_CONSTRAINT_H
#define TUG_CALLS_CONSTRAINT_H

#include <stdbool.h>

#include "base/status.h"
#include "base/str.h"
#include "calls/tool.h"

typedef struct tug_constraint tug_constraint;

typedef enum tug_answer_format {
    TUG_FORMAT_TEXT = 0,
    TUG_FORMAT_JSON,       /* any JSON object */
    TUG_FORMAT_JSON_SCHEMA /* a value of `schema` */
} tug_answer_format;

typedef struct tug_constraint_spec {
    tug_tools tools;
    tug_tool_choice choice;
    tug_str named; /* TUG_TOOLS_NAMED */
    bool parallel; /* more than one call */
    tug_answer_format format;
    const tug_json *schema; /* TUG_FORMAT_JSON_SCHEMA */
} tug_constraint_spec;

/* The spec's texts and schemas are borrowed until destroy. */
TUG_NODISCARD tug_status tug_constraint_create(tug_constraint **out,
                                               const tug_constraint_spec *spec,
                                               tug_err *err);
void tug_constraint_destroy(tug_constraint **c);

/* What was left free that the schemas would restrict, one sentence per line; may be empty.
 * Borrowed until destroy. */
tug_str tug_constraint_warnings(const tug_constraint *c);

/* Is every byte in place, so that anything is allowed (free text outside of calls)?  Then
 * nothing needs to be asked about a token without '<'. */
bool tug_constraint_is_free(const tug_constraint *c);

/* May these bytes of one token come next?  May the text end here (an end-of-turn token)? */
bool tug_constraint_allows(const tug_constraint *c, tug_str bytes);
bool tug_constraint_may_end(const tug_constraint *c);

/* They come.  Bytes that were not allowed switch the constraint off for the rest of the
 * answer: the parser copes, and nothing is lost. */
void tug_constraint_accept(tug_constraint *c, tug_str bytes);

/* parallel false, or a named call: one call is complete and the answer should end now. */
bool tug_constraint_is_done(const tug_constraint *c);

#endif
