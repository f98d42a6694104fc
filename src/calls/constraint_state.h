/* constraint_state.h - where an answer stands in the grammar of calls.
 *
 * Plain data of a fixed size: to try a token is to copy it and to step over the bytes.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_CONSTRAINT_STATE_H
#define TUG_CALLS_CONSTRAINT_STATE_H

#include "calls/call_lexer.h"
#include "calls/constraint.h"
#include "calls/json_walk.h"

enum {
    /* Content that an answer which must call may have before the call is forced: about 512
     * tokens.  TUG_TOKEN_MAX bytes before it every token is asked about. */
    TUG_CONTENT_MAX = 2048,
    TUG_TOKEN_MAX = 512
};

typedef enum tug_cs_mode {
    TUG_CS_OFF,     /* anything */
    TUG_CS_CONTENT, /* text; a call may begin */
    TUG_CS_START,   /* response_format with tools: a value or a call */
    TUG_CS_FORMAT,  /* inside of the value of response_format */
    TUG_CS_FIXED,   /* inside of a fixed text */
    TUG_CS_NAME,
    TUG_CS_BODY,   /* '<' of <parameter= or </function> */
    TUG_CS_BODY_2, /* the byte after it */
    TUG_CS_KEY,
    TUG_CS_VALUE, /* before the first byte: a fixed text, or else JSON */
    TUG_CS_TEXTS, /* one of several raw texts */
    TUG_CS_JSON,
    TUG_CS_RAW,   /* a string over any number of lines */
    TUG_CS_AFTER, /* after a call */
    TUG_CS_AFTER_LINE,
    TUG_CS_AFTER_TAG
} tug_cs_mode;

typedef enum tug_cs_fixed {
    TUG_FIX_TOOL,      /* <tool_call> */
    TUG_FIX_FUNC,      /* \n<function= */
    TUG_FIX_FUNC_BARE, /* <function= */
    TUG_FIX_NAME_LINE, /* \n after <function=NAME> */
    TUG_FIX_PARAM,     /* <parameter= */
    TUG_FIX_KEY_LINE,  /* \n after <parameter=KEY> */
    TUG_FIX_PARAM_END, /* \n</parameter>\n */
    TUG_FIX_FUNC_END,  /* </function> */
    TUG_FIX_TOOL_END,  /* \n</tool_call> */
    TUG_FIX_TOOL_LATE  /* </tool_call> after a bare call */
} tug_cs_fixed;

/* A tag whose meaning depends on the next one. */
typedef enum tug_cs_pending {
    TUG_PEND_NONE,
    TUG_PEND_TOOL,       /* content: <tool_call> within a line */
    TUG_PEND_CLOSER,     /* </parameter> */
    TUG_PEND_BAD_CLOSER, /* the same misspelt, alone on its line if it is one */
    TUG_PEND_FUNC_END,   /* </function> without </parameter> */
    TUG_PEND_TOOL_END,   /* </tool_call>, likewise */
    TUG_PEND_FUNC        /* <function=NAME> inside of a value */
} tug_cs_pending;

typedef struct tug_cs {
    uint8_t mode, fixed, pending;
    uint8_t utf8_left;   /* content: bytes that the character lacks */
    uint8_t guard[2];    /* JSON: how much there is of what must not be in it */
    uint8_t closers;     /* raw: of the three last tags, inside of a nested call */
    bool line_start;     /* the next byte, or the tag that was begun, begins a line */
    bool fresh;          /* content: only white space since the start */
    bool bare;           /* the call has no <tool_call> */
    bool pending_line;   /* raw: the pending tag began a line */
    bool line_ended;     /* raw: a line end came after the pending tag */
    bool after_function; /* raw: a nested call ended */
    uint16_t spaces;     /* white space since the last byte that is none */
    uint16_t pos;        /* in a fixed text, name or key */
    uint16_t live;
    uint32_t lo, hi; /* names, keys or texts that agree so far */
    uint32_t rule;   /* of the parameter's value */
    uint32_t content, n_calls;
    uint32_t functions, params; /* raw: nested ones that are open */
    const tug_tool *tool;       /* of the open call */
    const tug_rule_texts *texts;
    tug_walk walk;        /* of which only the open frames are copied, */
    tug_call_lexer lexer; /* and only what was begun of a tag */
} tug_cs;

typedef struct tug_cs_tools {
    tug_tools offered;           /* all that the parser knows */
    tug_rule_texts names;        /* sorted: those that may be called */
    const tug_tool *const *tool; /* (names.n,) */
    const uint32_t *rule;        /* (names.n,) */
} tug_cs_tools;

/* What does not change while the answer is written. */
typedef struct tug_cs_rules {
    tug_cs_tools tools;
    tug_rules rules;
    bool must_call, parallel;
    bool forbid; /* tool_choice none: no <tool_call> */
    bool format; /* the answer is a JSON value, if it is no call */
} tug_cs_rules;

/* Here for tests/fuzz/fuzz_constraint.c, which compares states with the parser's. */
struct tug_constraint {
    tug_cs_rules r;
    tug_cs s;
};

/* One byte of content.  Of a call, up to its end.  False: not allowed. */
bool tug_cs_content(const tug_cs_rules *r, tug_cs *s, unsigned char b);
bool tug_cs_call(const tug_cs_rules *r, tug_cs *s, unsigned char b);
bool tug_cs_raw(const tug_cs_rules *r, tug_cs *s, unsigned char b);

/* *n counts how much there is of a tag that must not be in JSON; false: all of it.  It can be
 * written with \u003c, and so it is in what a schema fixes (schema_finish.c). */
bool tug_cs_guard(uint8_t *n, const char *never, unsigned char b);

void tug_cs_fix(tug_cs *s, tug_cs_fixed text, unsigned pos);
void tug_cs_begin_name(const tug_cs_rules *r, tug_cs *s);
void tug_cs_begin_call(const tug_cs_rules *r, tug_cs *s, uint32_t tool);
void tug_cs_begin_raw(tug_cs *s);
void tug_cs_take_key(tug_cs *s, uint32_t key);
void tug_cs_end_function(tug_cs *s);
void tug_cs_end_call(tug_cs *s);

static inline const tug_rule_object *tug_cs_arguments(const tug_cs *s) {
    return s->walk.rules->rule[s->walk.frame[0].rule].object;
}

#endif
