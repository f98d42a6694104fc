/* call_lexer.h - the tags of tool calls in bytes that arrive in pieces.
 *
 * Cuts the bytes into tags, white space and everything else.  A tag holds only one '<', so
 * what turns out to be none goes back as OTHER, the white space at its end as SPACE, and
 * nothing is looked at twice.  Plain data: a copy is a clone.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_CALL_LEXER_H
#define TUG_CALLS_CALL_LEXER_H

#include <stdbool.h>

#include "base/str.h"

typedef enum tug_lexeme_kind {
    TUG_LEX_MORE,      /* the bytes are used up */
    TUG_LEX_OTHER,     /* bytes without a tag */
    TUG_LEX_SPACE,     /* white space, or a part of some */
    TUG_LEX_TOOL,      /* <tool_call> */
    TUG_LEX_TOOL_END,  /* </tool_call> */
    TUG_LEX_FUNC,      /* <function=NAME> */
    TUG_LEX_FUNC_END,  /* </function> */
    TUG_LEX_PARAM,     /* <parameter=KEY> */
    TUG_LEX_PARAM_END, /* </parameter> */
    TUG_LEX_PARAM_BAD, /* </parameter/>, </parameter_x>, or </parameter before a line end */
    TUG_LEX_CUT,       /* at the end of the text: the beginning of a tag */
    TUG_LEX_END        /* the end of the text */
} tug_lexeme_kind;

typedef struct tug_lexeme {
    tug_lexeme_kind kind;
    tug_str bytes; /* valid until the next call */
} tug_lexeme;

/* Which tags are looked for: bits of kinds.  Malformed closers come with PARAM_END. */
#define TUG_LEX_BIT(kind) (1u << (kind))
#define TUG_LEX_ALL                                              \
    (TUG_LEX_BIT(TUG_LEX_TOOL) | TUG_LEX_BIT(TUG_LEX_TOOL_END) | \
     TUG_LEX_BIT(TUG_LEX_FUNC) | TUG_LEX_BIT(TUG_LEX_FUNC_END) | \
     TUG_LEX_BIT(TUG_LEX_PARAM) | TUG_LEX_BIT(TUG_LEX_PARAM_END))

enum {
    TUG_TAG_MAX = 512, /* bytes; what is longer is no tag */
    TUG_NAME_MAX = 400 /* of a name that the constraint has the model write */
};

typedef struct tug_call_lexer {
    size_t n;      /* bytes of a tag begun and not complete */
    size_t space;  /* of those, white space at the end of what was no tag: comes next */
    unsigned want; /* what it may still become: bits of kinds */
    char part[TUG_TAG_MAX];
} tug_call_lexer;

/* Takes the next lexeme off the front of *in. */
tug_lexeme tug_call_lex(tug_call_lexer *lx, tug_str *in, unsigned want);

/* The end: the tag that was begun, as CUT or PARAM_BAD; MORE when there is none. */
tug_lexeme tug_call_lex_end(tug_call_lexer *lx);

/* NAME of a FUNC, KEY of a PARAM: what stands between '=' and '>', trimmed. */
tug_str tug_lexeme_name(tug_str tag);

static inline bool tug_lex_is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

#endif
