/* constraint_state.h - where an answer stands in the grammar of calls.
 *
 * Plain data of a fixed size: to try a token is to copy it and to step over the bytes.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_CONSTRAINT_STATE_H
#define TUG_CALLS_CONSTRAINT_STATE_H

#include "calls/constraint.h"
#include "calls/json_walk.h"

enum {
    /* Content that an answer which must call may have before the call is forced: about 512
     * tokens.  TUG_TOKEN_MAX bytes before it every token is asked about. */
    TUG_CONTENT_MAX = 2048,
    TUG_TOKEN_MAX = 512,
    TUG_NAME_MAX = 400 /* bytes of a name; the parser takes tags of 512 */
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

/* What a '<' in free text or in a raw string has become. */
typedef enum tug_cs_watch {
    TUG_WATCH_NONE,
    TUG_WATCH_TAG,   /* s->pos bytes of one of the tags */
    TUG_WATCH_NAME,  /* a name after <function= or <parameter= */
    TUG_WATCH_CLOSER /* </parameter and bytes that do not belong there */
} tug_cs_watch;

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
    uint8_t mode, fixed, watch, tag, pending;
    uint8_t utf8_left;   /* content: bytes that the character lacks */
    uint8_t guard[2];    /* JSON value: of </parameter and of <parameter= */
    uint8_t closers;     /* raw: of the three last tags, inside of a nested call */
    bool line_start;     /* the next byte begins a line */
    bool fresh;          /* content: only white space since the start or the last call */
    bool tag_line;       /* the '<' began a line */
    bool bare;           /* the call has no <tool_call> */
    bool plain, trailed; /* of the name: nothing odd in it; white space came after it */
    bool after_function; /* raw: a nested call ended */
    bool line_ended;     /* raw: a line end came after the pending tag */
    uint16_t functions, params; /* raw: nested ones that are open */
    uint16_t spaces;            /* after the pending tag */
    uint16_t pos;               /* in a fixed text, tag, name or key */
    uint16_t tag_bytes;
    uint16_t live;
    uint32_t lo, hi; /* names, keys or texts that agree so far */
    uint32_t rule;   /* of the parameter's value */
    uint32_t content, n_calls;
    const tug_rule_texts *texts;
    tug_walk walk; /* last, because its open frames are all that is copied of it */
} tug_cs;

typedef struct tug_cs_tools {
    tug_rule_texts names; /* sorted */
    const uint32_t *rule; /* (names.n,) */
} tug_cs_tools;

/* What does not change while the answer is written. */
typedef struct tug_cs_rules {
    tug_cs_tools tools;
    tug_rules rules;
    bool must_call, parallel;
    bool forbid; /* tool_choice none: no <tool_call> */
    bool format; /* the answer is a JSON value, if it is no call */
} tug_cs_rules;

/* One byte of content.  Of a call, up to its end.  False: not allowed. */
bool tug_cs_content(const tug_cs_rules *r, tug_cs *s, unsigned char b);
bool tug_cs_call(const tug_cs_rules *r, tug_cs *s, unsigned char b);
bool tug_cs_raw(const tug_cs_rules *r, tug_cs *s, unsigned char b);

void tug_cs_fix(tug_cs *s, tug_cs_fixed text, unsigned pos);
void tug_cs_begin_name(const tug_cs_rules *r, tug_cs *s);
void tug_cs_begin_call(const tug_cs_rules *r, tug_cs *s, uint32_t tool);
void tug_cs_begin_raw(tug_cs *s);
void tug_cs_take_key(tug_cs *s, uint32_t key);
void tug_cs_end_function(tug_cs *s);
void tug_cs_end_call(tug_cs *s);

/* ---- tags in free text and raw strings ------------------------------------------------ */

typedef enum tug_cs_tag {
    TUG_TAG_TOOL,
    TUG_TAG_FUNC,
    TUG_TAG_PARAM,
    TUG_TAG_PARAM_END,
    TUG_TAG_FUNC_END,
    TUG_TAG_TOOL_END,
    TUG_TAG_BAD_CLOSER,
    TUG_TAG_OPEN, /* may become one */
    TUG_TAG_NO    /* was none: the byte is to be looked at anew */
} tug_cs_tag;

static inline bool tug_cs_is_space(unsigned char b) {
    return b == ' ' || b == '\t' || b == '\r' || b == '\n';
}

void tug_cs_begin_tag(tug_cs *s);
tug_cs_tag tug_cs_tag_byte(const tug_cs_rules *r, tug_cs *s, unsigned char b);

/* Of the name in a <function=NAME> or <parameter=KEY> that has just ended: the tool, the
 * key of the open call that may come now; TUG_NO_RULE: neither. */
uint32_t tug_cs_named_tool(const tug_cs_rules *r, const tug_cs *s);
uint32_t tug_cs_named_key(const tug_cs *s);

#endif
