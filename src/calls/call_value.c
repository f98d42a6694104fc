/* call_value.c - where the value of a parameter ends.
 *
 * DESIGN  A value is raw text and may hold anything, also tool calls, when the agent works
 *         on a parser or its documents.  So a closing tag ends the value only when what
 *         follows it could follow there, and a nested call is passed over as a whole: it is
 *         recognised as a call is in text, by <function=NAME> with a <parameter=KEY> after
 *         it.  A model also forgets closing tags, so opening tags that can only be ours end
 *         the value, too.  docs/TOOL-CALLS.md has the cases.
 * SPDX-License-Identifier: MIT */
#include "calls/call_parser_impl.h"

/* ---- names ------------------------------------------------------------------------ */

bool tug_call_is_declared(const tug_call_parser *p, size_t i) {
    const tug_str name = tug_lexeme_name(tug_call_queue_bytes(&p->queue, i));
    return tug_call_find_tool(p->tools, name) != NULL;
}

bool tug_call_is_function(const tug_call_parser *p, size_t i) {
    const tug_str name = tug_lexeme_name(tug_call_queue_bytes(&p->queue, i));
    return tug_call_name_is_plain(name) || tug_call_is_declared(p, i);
}

bool tug_call_is_parameter(const tug_call_queue *q, const tug_tool *tool, size_t i) {
    const tug_str key = tug_lexeme_name(tug_call_queue_bytes(q, i));
    return tug_call_name_is_plain(key) || tug_call_has_key(tool, key);
}

/* A key of this call's tool that has no value yet. */
static bool is_expected(const tug_call_parser *p, size_t i) {
    const tug_str key = tug_lexeme_name(tug_call_queue_bytes(&p->queue, i));
    return tug_call_has_key(p->tool, key) && !tug_key_set_has(&p->args.seen, key);
}

/* ---- where things stand ----------------------------------------------------------- */

static tug_lexeme_kind kind_at(const tug_call_parser *p, size_t i) {
    return tug_call_queue_kind(&p->queue, i);
}

static bool at_line_start(const tug_call_parser *p, size_t i) {
    if (i == 0) return p->value_fresh;
    const tug_str space = tug_call_queue_bytes(&p->queue, i - 1);
    return space.p[space.n - 1] == '\n';
}

static bool ends_line(const tug_call_parser *p, size_t i) {
    const tug_lexeme_kind next = kind_at(p, i + 1);
    if (next != TUG_LEX_SPACE) return next == TUG_LEX_CUT || next == TUG_LEX_END;
    const tug_str space = tug_call_queue_bytes(&p->queue, i + 1);
    return memchr(space.p, '\n', space.n) != NULL;
}

/* ---- verdicts --------------------------------------------------------------------- */

/* Of </parameter> outside of nested calls: can item x follow it? */
static tug_call_verdict judge_follower(const tug_call_parser *p, size_t x) {
    const bool balanced = p->nest.params == 0;
    bool ours = false;
    switch (kind_at(p, x)) {
    case TUG_LEX_MORE: return TUG_CALL_WAIT;
    case TUG_LEX_FUNC_END:
    case TUG_LEX_TOOL_END:
    case TUG_LEX_CUT:
    case TUG_LEX_END: ours = true; break;
    case TUG_LEX_TOOL: ours = balanced; break;
    case TUG_LEX_FUNC: ours = balanced && tug_call_is_declared(p, x); break;
    case TUG_LEX_PARAM:
        ours = is_expected(p, x) ||
               (balanced && tug_call_is_parameter(&p->queue, p->tool, x));
        break;
    default: break;
    }
    return ours ? TUG_CALL_STRUCTURE : TUG_CALL_LITERAL;
}

/* Of </parameter> inside of a nested call: are these the closing tags at the very end?
 * Then the nested one was none, only something that looked like its beginning. */
static tug_call_verdict judge_last_closers(const tug_call_parser *p, size_t i) {
    static const tug_lexeme_kind next[] = {TUG_LEX_FUNC_END, TUG_LEX_TOOL_END};
    size_t x = tug_call_queue_skip(&p->queue, i + 1);
    for (size_t k = 0; k < 2 && kind_at(p, x) == next[k]; k++) {
        x = tug_call_queue_skip(&p->queue, x + 1);
    }
    if (kind_at(p, x) == TUG_LEX_MORE) return TUG_CALL_WAIT;
    return kind_at(p, x) == TUG_LEX_END && p->whole ? TUG_CALL_STRUCTURE
                                                    : TUG_CALL_LITERAL;
}

/* Of </function> or </tool_call> after a value without </parameter>. */
static tug_call_verdict judge_early_closer(const tug_call_parser *p, size_t i) {
    if (p->nest.functions > 0 || !at_line_start(p, i)) return TUG_CALL_LITERAL;
    const bool function = kind_at(p, i) == TUG_LEX_FUNC_END;
    if (!function && p->nest.after_function) return TUG_CALL_LITERAL;
    const size_t x = tug_call_queue_skip(&p->queue, i + 1);
    bool ours = false;
    switch (kind_at(p, x)) {
    case TUG_LEX_MORE: return TUG_CALL_WAIT;
    case TUG_LEX_TOOL: ours = true; break;
    case TUG_LEX_TOOL_END: ours = function; break;
    case TUG_LEX_FUNC: ours = function && tug_call_is_declared(p, x); break;
    case TUG_LEX_CUT:
    case TUG_LEX_END: ours = p->whole; break;
    default: break;
    }
    return ours ? TUG_CALL_STRUCTURE : TUG_CALL_LITERAL;
}

/* Of <function=NAME>: a nested call's first tags, or all of them, are passed over
 * together. */
static tug_call_verdict judge_function(const tug_call_parser *p, size_t i, size_t *n) {
    const size_t x = tug_call_queue_skip(&p->queue, i + 1);
    const tug_lexeme_kind next = kind_at(p, x);
    const bool call = next == TUG_LEX_PARAM || next == TUG_LEX_FUNC_END;
    *n = call ? x + 1 - i : 1;
    return next == TUG_LEX_MORE ? TUG_CALL_WAIT : TUG_CALL_LITERAL;
}

tug_call_verdict tug_call_judge_value(const tug_call_parser *p, size_t i, size_t *n) {
    const bool nested = p->nest.functions > 0;
    tug_call_verdict v = TUG_CALL_LITERAL;
    *n = tug_call_queue_skip(&p->queue, i + 1);
    switch (kind_at(p, i)) {
    case TUG_LEX_PARAM_END:
        v = nested ? judge_last_closers(p, i) : judge_follower(p, *n);
        break;
    case TUG_LEX_PARAM_BAD:
        if (nested || !at_line_start(p, i)) break;
        v = judge_follower(p, *n);
        if (v == TUG_CALL_STRUCTURE && !ends_line(p, i)) v = TUG_CALL_LITERAL;
        break;
    case TUG_LEX_FUNC_END:
    case TUG_LEX_TOOL_END:
        v = judge_early_closer(p, i);
        *n = i;
        break;
    case TUG_LEX_PARAM:
        if (!nested && at_line_start(p, i) && is_expected(p, i)) v = TUG_CALL_STRUCTURE;
        *n = i;
        break;
    case TUG_LEX_FUNC: return judge_function(p, i, n);
    default: break;
    }
    if (v == TUG_CALL_LITERAL) *n = 1;
    return v;
}

void tug_call_nest_add(tug_call_parser *p, size_t i, size_t n) {
    tug_call_nest *const nest = &p->nest;
    const tug_lexeme_kind kind = kind_at(p, i);
    const bool outside = nest->functions == 0;
    nest->after_function = false;
    if (kind == TUG_LEX_FUNC && n > 1) {
        if (kind_at(p, i + n - 1) == TUG_LEX_PARAM) nest->functions++;
        nest->after_function = nest->functions == 0;
    } else if (kind == TUG_LEX_FUNC_END && !outside) {
        nest->after_function = --nest->functions == 0;
    } else if (kind == TUG_LEX_PARAM && outside) {
        nest->params++;
    } else if (kind == TUG_LEX_PARAM_END && outside && nest->params > 0) {
        nest->params--;
    }
}
