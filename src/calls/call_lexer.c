/* call_lexer.c - see call_lexer.h.  SPDX-License-Identifier: MIT */
#include "calls/call_lexer.h"

#include "base/utf8.h"

#define LITERAL(s) \
    { s, sizeof(s) - 1 }

static const struct {
    tug_lexeme_kind kind;
    tug_str text;
} tags[] = {
    {TUG_LEX_TOOL, LITERAL("<tool_call>")},
    {TUG_LEX_TOOL_END, LITERAL("</tool_call>")},
    {TUG_LEX_FUNC_END, LITERAL("</function>")},
    {TUG_LEX_PARAM_END, LITERAL("</parameter>")},
    {TUG_LEX_FUNC, LITERAL("<function=")},
    {TUG_LEX_PARAM, LITERAL("<parameter=")},
};
enum { N_TAGS = sizeof tags / sizeof *tags };

enum {
    NAMED_TAGS = TUG_LEX_BIT(TUG_LEX_FUNC) | TUG_LEX_BIT(TUG_LEX_PARAM),
    CLOSERS = TUG_LEX_BIT(TUG_LEX_PARAM_END) | TUG_LEX_BIT(TUG_LEX_PARAM_BAD),
    CLOSER_BYTES = 11, /* of </parameter, which a malformed closer begins with */
    BAD_TAIL_MAX = 32
};

/* What the bytes of a tag are so far. */
typedef enum verdict {
    NO_TAG,
    OPEN_TAG,
    WHOLE_TAG,
    WHOLE_BEFORE_LAST /* the last byte, a line end, is not part of it */
} verdict;

tug_str tug_lexeme_name(tug_str tag) {
    const char *const from = (const char *)memchr(tag.p, '=', tag.n) + 1;
    tug_str name = tug_str_make(from, (size_t)(tag.p + tag.n - 1 - from));
    while (name.n > 0 && tug_lex_is_space(name.p[name.n - 1])) name.n--;
    while (name.n > 0 && tug_lex_is_space(*name.p)) {
        name = tug_str_make(name.p + 1, name.n - 1);
    }
    return name;
}

static bool is_name(tug_str name) {
    if (name.n == 0 || !tug_utf8_valid(name.p, name.n, NULL)) return false;
    for (size_t i = 0; i < name.n; i++) {
        if ((unsigned char)name.p[i] < ' ' || name.p[i] == 0x7F) return false;
    }
    return true;
}

/* <function= and <parameter= with the beginning of a name; the last byte is new. */
static verdict judge_named(tug_str part) {
    const char c = part.p[part.n - 1];
    if (c == '>') return is_name(tug_lexeme_name(part)) ? WHOLE_TAG : NO_TAG;
    if (c == '<' || part.n == TUG_TAG_MAX) return NO_TAG;
    return (unsigned char)c >= ' ' || tug_lex_is_space(c) ? OPEN_TAG : NO_TAG;
}

/* </parameter and something that does not belong there. */
static verdict judge_bad_closer(tug_str part) {
    const char c = part.p[part.n - 1];
    if (c == '>') return WHOLE_TAG;
    if (c == '\n') return WHOLE_BEFORE_LAST;
    const bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      (c >= '0' && c <= '9') || strchr("_/- \r", c);
    return c != '\0' && fits && part.n <= CLOSER_BYTES + BAD_TAIL_MAX ? OPEN_TAG : NO_TAG;
}

/* The last byte of lx->part is new.  Tags that it does not fit leave lx->want. */
static verdict judge(tug_call_lexer *lx, tug_lexeme_kind *kind) {
    const tug_str part = tug_str_make(lx->part, lx->n);
    verdict v = NO_TAG;
    for (size_t i = 0; i < N_TAGS; i++) {
        const tug_str text = tags[i].text;
        const unsigned bit = TUG_LEX_BIT(tags[i].kind);
        if (!(lx->want & bit)) continue;
        *kind = tags[i].kind;
        if (part.n > text.n) return judge_named(part); /* others are whole by then */
        if (part.p[part.n - 1] == text.p[part.n - 1]) {
            if (part.n == text.n && !(bit & NAMED_TAGS)) return WHOLE_TAG;
            v = OPEN_TAG;
            continue;
        }
        lx->want &= ~bit;
        if (bit == TUG_LEX_BIT(TUG_LEX_PARAM_END) && part.n == text.n) {
            lx->want |= TUG_LEX_BIT(TUG_LEX_PARAM_BAD);
        }
    }
    if (!(lx->want & TUG_LEX_BIT(TUG_LEX_PARAM_BAD))) return v;
    *kind = TUG_LEX_PARAM_BAD;
    return judge_bad_closer(part);
}

static tug_lexeme take(tug_str *in, tug_lexeme_kind kind, size_t n) {
    const tug_lexeme out = {kind, tug_str_make(in->p, n)};
    *in = tug_str_make(in->p + n, in->n - n);
    return out;
}

/* What was begun is no tag.  White space at its end means what it means anywhere: the next
 * tag may begin a line. */
static tug_lexeme give_up(tug_call_lexer *lx, size_t n) {
    size_t space = 0;
    while (tug_lex_is_space(lx->part[n - 1 - space])) space++;
    lx->n = space > 0 ? n : 0;
    lx->space = space;
    return (tug_lexeme){TUG_LEX_OTHER, {lx->part, n - space}};
}

static tug_lexeme lex_space(tug_call_lexer *lx) {
    const tug_lexeme out = {TUG_LEX_SPACE, {lx->part + lx->n - lx->space, lx->space}};
    lx->n = lx->space = 0;
    return out;
}

/* Goes on with the tag in lx->part. */
static tug_lexeme lex_tag(tug_call_lexer *lx, tug_str *in) {
    while (in->n > 0) {
        lx->part[lx->n++] = *in->p;
        tug_lexeme out = {TUG_LEX_OTHER, {lx->part, lx->n}};
        const verdict v = judge(lx, &out.kind);
        if (v == NO_TAG) return give_up(lx, lx->n - 1);
        if (v == WHOLE_BEFORE_LAST) {
            out.bytes.n--;
        } else {
            *in = tug_str_make(in->p + 1, in->n - 1);
        }
        if (v == OPEN_TAG) continue;
        lx->n = 0;
        return out;
    }
    return (tug_lexeme){TUG_LEX_MORE, {0}};
}

/* Bytes up to the next '<', without the white space before it. */
static tug_lexeme lex_other(tug_str *in) {
    const char *const next = memchr(in->p, '<', in->n);
    size_t n = next ? (size_t)(next - in->p) : in->n;
    while (n > 0 && tug_lex_is_space(in->p[n - 1])) n--;
    if (n > 0) return take(in, TUG_LEX_OTHER, n);
    while (n < in->n && tug_lex_is_space(in->p[n])) n++;
    return take(in, TUG_LEX_SPACE, n);
}

tug_lexeme tug_call_lex(tug_call_lexer *lx, tug_str *in, unsigned want) {
    if (lx->space > 0) return lex_space(lx);
    if (in->n == 0) return (tug_lexeme){TUG_LEX_MORE, {0}};
    if (lx->n > 0) return lex_tag(lx, in);
    if (*in->p != '<') return lex_other(in);
    if (want == 0) return take(in, TUG_LEX_OTHER, 1);
    lx->want = want;
    lx->part[lx->n++] = '<';
    *in = tug_str_make(in->p + 1, in->n - 1);
    return lex_tag(lx, in);
}

tug_lexeme tug_call_lex_end(tug_call_lexer *lx) {
    if (lx->n == 0) return (tug_lexeme){TUG_LEX_MORE, {0}};
    const tug_str part = tug_str_make(lx->part, lx->n);
    const bool bad = (lx->want & CLOSERS) && lx->n >= CLOSER_BYTES;
    lx->n = 0;
    return (tug_lexeme){bad ? TUG_LEX_PARAM_BAD : TUG_LEX_CUT, part};
}
