/* call_parser_impl.h - the state of a parser, shared by its two halves: call_parser.c
 * moves bytes and tells the sink, call_value.c decides where a value ends.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_CALL_PARSER_IMPL_H
#define TUG_CALLS_CALL_PARSER_IMPL_H

#include "calls/call_args.h"
#include "calls/call_names.h"
#include "calls/call_parser.h"
#include "calls/call_queue.h"

typedef enum tug_call_state {
    TUG_CALL_TEXT,
    TUG_CALL_BODY, /* between parameters; what comes next is known to be structure */
    TUG_CALL_VALUE
} tug_call_state;

/* Markup inside of a value that is not ours: a tool call in a file being written. */
typedef struct tug_call_nest {
    size_t functions;    /* <function=> whose </function> is still to come */
    size_t params;       /* <parameter=> outside of those, likewise */
    bool after_function; /* its </tool_call> may follow */
} tug_call_nest;

struct tug_call_parser {
    tug_tools tools; /* borrowed */
    tug_call_sink sink;
    tug_call_state state;
    tug_call_lexer lexer;
    tug_call_queue queue;
    tug_buf text;         /* not handed on yet */
    tug_call_args args;   /* of the open call */
    const tug_tool *tool; /* of the open call; borrowed; NULL: not one of `tools` */
    tug_call_nest nest;   /* of the open value */
    size_t n_calls;
    tug_status failed; /* the first failure; nothing works after it */
    bool in_call, finished, whole;
    bool text_fresh;  /* TEXT: only white space since the beginning or the last call */
    bool closer_next; /* TEXT: the last call's </tool_call> may follow */
    bool value_fresh; /* VALUE: no byte of it yet, also not its leading line end */
};

/* What a tag at the front of the queue is. */
typedef enum tug_call_verdict {
    TUG_CALL_WAIT,    /* depends on what follows */
    TUG_CALL_LITERAL, /* bytes like any others */
    TUG_CALL_STRUCTURE
} tug_call_verdict;

/* Is the tag at queue item i, which is 0 or follows white space, the end of the open value?
 * STRUCTURE: *n is the item that the call goes on with.  LITERAL: *n items of it. */
tug_call_verdict tug_call_judge_value(const tug_call_parser *p, size_t i, size_t *n);

/* Keeps account of nested markup for n items from i that went into the value. */
void tug_call_nest_add(tug_call_parser *p, size_t i, size_t n);

/* May the item be a call's function, a call's parameter? */
bool tug_call_is_declared(const tug_call_parser *p, size_t i);
bool tug_call_is_function(const tug_call_parser *p, size_t i);
bool tug_call_is_parameter(const tug_call_queue *q, const tug_tool *tool, size_t i);

#endif
