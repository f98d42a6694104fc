/* constraint_raw.c - where a raw string of a call ends.
 *
 * A string may hold anything, also tags of calls: documents about calls are written with
 * calls, too.  What ends it is decided as the parser decides (call_value.c): a closing tag
 * counts if a tag that can follow it follows; nested calls are passed over.  Where the
 * parser would see an end that leaves the call incomplete, the last byte of the tag is not
 * allowed.
 *
 * One thing is stricter than the parser: </parameter> on a line of its own, outside of
 * nested markup, is the end.  SPDX-License-Identifier: MIT */
#include "calls/call_names.h"
#include "calls/call_queue.h"
#include "calls/constraint_state.h"

/* ---- keys ---------------------------------------------------------------------------- */

/* Does <parameter=KEY> begin the next value, as the parser sees it? */
typedef enum key_verdict {
    KEY_TEXT,
    KEY_TAKE,
    KEY_REFUSE /* it does and may not; or it is not known whether it does */
} key_verdict;

static uint32_t find_key(const tug_cs *s, tug_str name) {
    const tug_rule_object *const o = tug_cs_arguments(s);
    uint32_t lo = 0, hi = o->n_key;
    for (uint32_t i = 0; i < name.n; i++) {
        tug_walk_narrow_keys(&s->walk, i, (unsigned char)name.p[i], &lo, &hi);
    }
    const bool found = lo < hi && o->key[lo].plain && o->key[lo].text.n == name.n;
    return found ? lo : TUG_NO_RULE;
}

/* `any`: the parser takes whatever can be a key, else what is declared and was not there. */
static key_verdict judge_key(const tug_cs *s, tug_lexeme tag, bool any, uint32_t *key) {
    const tug_str name = tug_lexeme_name(tag.bytes);
    const bool declared = tug_call_has_key(s->tool, name);
    if (!declared && !(any && tug_call_name_is_plain(name))) return KEY_TEXT;
    *key = find_key(s, name);
    if (*key == TUG_NO_RULE) return KEY_REFUSE;
    const tug_rule_key *const k = &tug_cs_arguments(s)->key[*key];
    if (!any && k->bit == TUG_RULE_MAX_BITS) return KEY_REFUSE;
    const bool seen = k->bit < TUG_RULE_MAX_BITS && s->walk.frame[0].seen >> k->bit & 1;
    if (!any && seen) return KEY_TEXT;
    return tug_walk_key_alts(&s->walk, *key) ? KEY_TAKE : KEY_REFUSE;
}

/* ---- what a tag means ---------------------------------------------------------------- */

void tug_cs_begin_raw(tug_cs *s) {
    s->mode = TUG_CS_RAW;
    s->pending = TUG_PEND_NONE;
    s->line_start = true;
    s->after_function = false;
    s->closers = 0;
    s->functions = s->params = 0;
}

static void wait_for(tug_cs *s, tug_cs_pending pending, bool line) {
    s->pending = (uint8_t)pending;
    s->pending_line = line;
    s->line_ended = false;
}

/* The pending tag, if there is one, turned out to be text. */
static void pending_is_text(tug_cs *s) {
    if (s->pending == TUG_PEND_CLOSER && s->params > 0) s->params--;
    s->pending = TUG_PEND_NONE;
}

static bool end_of_call(tug_cs *s, bool function) {
    if (!tug_walk_may_close(&s->walk)) return false;
    if (function) {
        tug_cs_end_function(s);
    } else {
        tug_cs_end_call(s);
    }
    return true;
}

static bool is_tool(const tug_cs_rules *r, tug_lexeme tag) {
    return tag.kind == TUG_LEX_FUNC &&
           tug_call_find_tool(r->tools.offered, tug_lexeme_name(tag.bytes));
}

/* A tag after </parameter>.  *done: it was dealt with. */
static bool after_closer(const tug_cs_rules *r, tug_cs *s, tug_lexeme tag, bool *done) {
    const bool balanced = s->params == 0;
    uint32_t key;
    *done = true;
    if (tag.kind == TUG_LEX_FUNC_END) return end_of_call(s, true);
    if (tag.kind == TUG_LEX_TOOL_END) return end_of_call(s, false);
    if (balanced && (tag.kind == TUG_LEX_TOOL || is_tool(r, tag))) return false;
    if (tag.kind == TUG_LEX_PARAM) {
        const key_verdict v = judge_key(s, tag, balanced, &key);
        if (v == KEY_TAKE) tug_cs_take_key(s, key);
        if (v != KEY_TEXT) return v == KEY_TAKE;
    }
    *done = false;
    return true;
}

/* A tag after </function> or </tool_call> that began a line. */
static bool after_early(const tug_cs_rules *r, tug_cs *s, tug_lexeme tag, bool *done) {
    const bool function = s->pending == TUG_PEND_FUNC_END;
    *done = function && tag.kind == TUG_LEX_TOOL_END;
    if (*done) return end_of_call(s, false);
    return tag.kind != TUG_LEX_TOOL && !(function && is_tool(r, tag));
}

/* A tag after <function=NAME>: a nested call has a parameter, or ends at once. */
static bool after_nested(tug_cs *s, tug_lexeme tag) {
    const bool end = tag.kind == TUG_LEX_FUNC_END;
    if (!end && tag.kind != TUG_LEX_PARAM) return false;
    s->pending = TUG_PEND_NONE;
    if (!end) s->functions++;
    s->after_function = s->functions == 0;
    return true;
}

static bool after_pending(const tug_cs_rules *r, tug_cs *s, tug_lexeme tag, bool *done) {
    *done = false;
    switch ((tug_cs_pending)s->pending) {
    case TUG_PEND_BAD_CLOSER:
        if (!s->line_ended) return true;
        return after_closer(r, s, tag, done);
    case TUG_PEND_CLOSER: return after_closer(r, s, tag, done);
    case TUG_PEND_FUNC_END:
    case TUG_PEND_TOOL_END: return after_early(r, s, tag, done);
    case TUG_PEND_FUNC: *done = after_nested(s, tag); return true;
    default: return true;
    }
}

/* Inside of a nested call the very last tags may be ours nevertheless: the parser takes
 * them if the text ends there. */
static void count_closers(tug_cs *s, tug_lexeme_kind tag) {
    static const tug_lexeme_kind last[] = {TUG_LEX_PARAM_END, TUG_LEX_FUNC_END,
                                           TUG_LEX_TOOL_END};
    if (tag == TUG_LEX_PARAM_END) {
        s->closers = s->functions > 0;
    } else {
        s->closers =
            s->closers && s->closers < 3 && tag == last[s->closers] ? s->closers + 1 : 0;
    }
}

/* <parameter=KEY> that no closing tag came before. */
static bool open_parameter(tug_cs *s, tug_lexeme tag, bool line) {
    uint32_t key;
    switch (line ? judge_key(s, tag, false, &key) : KEY_TEXT) {
    case KEY_TAKE: tug_cs_take_key(s, key); return true;
    case KEY_REFUSE: return false;
    case KEY_TEXT: s->params++; break;
    }
    return true;
}

static bool open_tag(tug_cs *s, tug_lexeme tag, bool line) {
    const bool outside = s->functions == 0, after_function = s->after_function;
    s->after_function = false;
    switch (tag.kind) {
    case TUG_LEX_PARAM_END:
        if (outside) wait_for(s, TUG_PEND_CLOSER, line);
        break;
    case TUG_LEX_PARAM_BAD:
        if (outside && line) wait_for(s, TUG_PEND_BAD_CLOSER, line);
        break;
    case TUG_LEX_FUNC_END:
        if (outside && line) wait_for(s, TUG_PEND_FUNC_END, line);
        if (!outside) s->after_function = --s->functions == 0;
        break;
    case TUG_LEX_TOOL_END:
        if (outside && line && !after_function) wait_for(s, TUG_PEND_TOOL_END, line);
        break;
    case TUG_LEX_PARAM: return !outside || open_parameter(s, tag, line);
    case TUG_LEX_FUNC: wait_for(s, TUG_PEND_FUNC, line); break;
    default: break;
    }
    return true;
}

static bool take_tag(const tug_cs_rules *r, tug_cs *s, tug_lexeme tag) {
    const bool line = s->line_start;
    bool done;
    s->line_start = false;
    s->spaces = 0;
    count_closers(s, tag.kind);
    if (!after_pending(r, s, tag, &done)) return false;
    if (done) return true;
    pending_is_text(s);
    return open_tag(s, tag, line);
}

/* ---- bytes --------------------------------------------------------------------------- */

/* What waits for the next tag has none. */
static void end_waiting(tug_cs *s) {
    if (s->closers) s->after_function = false;
    s->closers = 0;
    pending_is_text(s);
}

static void take_text(tug_cs *s) {
    end_waiting(s);
    s->after_function = s->line_start = false;
    s->spaces = 0;
}

static void take_space(tug_cs *s, char c) {
    const bool strict = s->pending == TUG_PEND_CLOSER && s->pending_line &&
                        s->spaces == 0 && s->params == 0 && c == '\n';
    if (strict) {
        s->mode = TUG_CS_BODY;
        return;
    }
    s->line_start = c == '\n';
    s->line_ended = s->line_ended || s->line_start;
    if (s->spaces < TUG_CALL_SPACE_MAX) {
        s->spaces++;
    } else {
        end_waiting(s);
    }
}

bool tug_cs_raw(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    const char c = (char)b;
    tug_str in = tug_str_make(&c, 1);
    for (;;) {
        const tug_lexeme x = tug_call_lex(&s->lexer, &in, TUG_LEX_ALL);
        switch (x.kind) {
        case TUG_LEX_MORE: return true;
        case TUG_LEX_OTHER: take_text(s); break;
        case TUG_LEX_SPACE:
            for (size_t i = 0; i < x.bytes.n; i++) take_space(s, x.bytes.p[i]);
            break;
        default:
            if (!take_tag(r, s, x)) return false;
        }
    }
}
