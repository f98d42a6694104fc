/* call_parser.h - tool calls out of what the model writes, as it writes them.
 *
 *     Let me look.
 *
 *     <tool_call>
 *     <function=read_file>
 *     <parameter=path>
 *     src/main.c
 *     </parameter>
 *     </function>
 *     </tool_call>
 *
 * becomes text "Let me look.", a call of read_file, and its arguments as the pieces of one
 * JSON object, each handed on as soon as nothing that follows can change it.
 *
 * It cannot fail on any bytes: what is no call is text, and no byte of text is lost.  How
 * the input was cut into pieces makes no difference to the joined output.  It does not rely
 * on the constraint (constraint.h), which may be off.  docs/TOOL-CALLS.md has the grammar
 * and what happens at each of its edges.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_CALL_PARSER_H
#define TUG_CALLS_CALL_PARSER_H

#include <stdbool.h>

#include "base/status.h"
#include "base/str.h"
#include "calls/tool.h"

typedef struct tug_call_parser tug_call_parser;

/* Told in order: text*, then (begin, arguments*, end) or text, ...  Slices are valid during
 * the call.  The first failure of one is what feed returns; the parser then stands still.
 *
 * Text is what the model wrote, byte for byte, cut at characters: what is no UTF-8 stays as
 * it is (tug_json_write_str makes U+FFFD of it, the same for any cuts).  In the arguments,
 * which are JSON, it has become U+FFFD. */
typedef struct tug_call_sink {
    void *ud;
    tug_status (*text)(void *ud, tug_str text, tug_err *err);
    tug_status (*begin)(void *ud, tug_str name, tug_err *err);
    /* A piece of the arguments' JSON text; joined they are one object.  Cut at characters
     * and never inside of an escape. */
    tug_status (*arguments)(void *ud, tug_str json, tug_err *err);
    /* complete: false when the text ended inside of the call; the object is then open. */
    tug_status (*end)(void *ud, bool complete, tug_err *err);
} tug_call_sink;

/* `tools` are borrowed until destroy; the sink is copied.  Without tools all is text. */
TUG_NODISCARD tug_status tug_call_parser_create(tug_call_parser **out, tug_tools tools,
                                                const tug_call_sink *sink, tug_err *err);
void tug_call_parser_destroy(tug_call_parser **parser);

/* Any bytes, cut anywhere. */
TUG_NODISCARD tug_status tug_call_parser_feed(tug_call_parser *parser, tug_str bytes,
                                              tug_err *err);

/* The model's text is over.  `whole`: it ended by itself, so a call that lacks only closing
 * tags is complete; false: it was cut off by a limit. */
TUG_NODISCARD tug_status tug_call_parser_finish(tug_call_parser *parser, bool whole,
                                                tug_err *err);

/* Calls that ended complete so far; and whether a call is open now. */
size_t tug_call_parser_n_calls(const tug_call_parser *parser);
bool tug_call_parser_in_call(const tug_call_parser *parser);

#endif
