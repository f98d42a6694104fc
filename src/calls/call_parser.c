/* call_parser.c - see call_parser.h.
 *
 * DESIGN  bytes -> lexemes (call_lexer) -> a queue of those whose meaning is not known yet
 *         -> text, structure, or bytes of a value (call_args).
 *         After every lexeme `settle` takes from the front of the queue what has been
 *         decided.  A tag that turns out to be none goes out as plain bytes and the rest
 *         of the queue is looked at anew; the queue is short and a lexeme is one entry
 *         however long it is, so the work for a byte is bounded.
 *         A decision depends on the lexemes alone, never on where feed was called: that
 *         makes streaming equal to not streaming.
 * SPDX-License-Identifier: MIT */
#include "calls/call_parser.h"

#include "base/sys.h"
#include "calls/call_parser_impl.h"

/* Bytes that are collected within one feed before the sink gets them. */
enum { PIECE_BYTES = 16 * 1024 };

/* ---- out -------------------------------------------------------------------------- */

/* Text up to a character that is not there yet. */
static tug_status flush_text(tug_call_parser *p, bool all, tug_err *err) {
    TUG_TRY(tug_buf_ok(&p->text, err));
    if (p->text.n == 0) return TUG_OK;
    const size_t cut = all ? 0 : tug_cut_character(p->text.p, p->text.n);
    const size_t n = p->text.n - cut;
    if (n == 0) return TUG_OK;
    TUG_TRY(p->sink.text(p->sink.ud, tug_str_make(p->text.p, n), err));
    memmove(p->text.p, p->text.p + n, cut);
    p->text.n = cut;
    return TUG_OK;
}

static tug_status flush_args(tug_call_parser *p, tug_err *err) {
    TUG_TRY(tug_call_args_ok(&p->args, err));
    if (p->args.json.n == 0) return TUG_OK;
    TUG_TRY(p->sink.arguments(p->sink.ud, tug_buf_view(&p->args.json), err));
    tug_buf_clear(&p->args.json);
    return TUG_OK;
}

static tug_status put_text(tug_call_parser *p, tug_str s, tug_err *err) {
    if (s.n == 0) return TUG_OK;
    tug_buf_str(&p->text, s);
    return p->text.n >= PIECE_BYTES ? flush_text(p, false, err) : TUG_OK;
}

static tug_status put_value(tug_call_parser *p, tug_str s, tug_err *err) {
    if (s.n == 0) return TUG_OK;
    if (p->value_fresh && *s.p == '\n') s = tug_str_make(s.p + 1, s.n - 1);
    p->value_fresh = false;
    tug_call_args_put(&p->args, s);
    return p->args.json.n >= PIECE_BYTES ? flush_args(p, err) : TUG_OK;
}

/* Bytes without a tag, where nothing waits any more. */
static tug_status put_other(tug_call_parser *p, tug_str s, tug_err *err) {
    if (p->state == TUG_CALL_VALUE) {
        p->nest.after_function = false;
        return put_value(p, s, err);
    }
    p->text_fresh = false;
    p->closer_next = false;
    return put_text(p, s, err);
}

/* ---- calls ------------------------------------------------------------------------ */

static tug_status begin_call(tug_call_parser *p, size_t function, tug_err *err) {
    TUG_TRY(flush_text(p, true, err));
    const tug_str name = tug_lexeme_name(tug_call_queue_bytes(&p->queue, function));
    p->tool = tug_call_find_tool(p->tools, name);
    tug_call_args_begin(&p->args, p->tool ? p->tool->parameters : NULL);
    p->in_call = true;
    p->state = TUG_CALL_BODY;
    return p->sink.begin(p->sink.ud, name, err);
}

static tug_status end_call(tug_call_parser *p, bool complete, tug_err *err) {
    if (complete) tug_call_args_end(&p->args);
    TUG_TRY(flush_args(p, err));
    p->in_call = false;
    p->state = TUG_CALL_TEXT;
    p->text_fresh = true;
    p->closer_next = false;
    if (complete) p->n_calls++;
    return p->sink.end(p->sink.ud, complete, err);
}

static tug_status begin_value(tug_call_parser *p, tug_err *err) {
    const tug_str key = tug_lexeme_name(tug_call_queue_bytes(&p->queue, 0));
    p->state = TUG_CALL_VALUE;
    p->nest = (tug_call_nest){0};
    p->value_fresh = true;
    return tug_call_args_begin_value(&p->args, key, err);
}

/* ---- text ------------------------------------------------------------------------- */

static bool ends_with_newline(tug_str s) {
    return s.n > 0 && s.p[s.n - 1] == '\n';
}

/* Does a tag behind the queue's first n items begin a line?  White space at the beginning
 * of the text, or after a call, counts as one. */
static bool text_at_line_start(const tug_call_parser *p, size_t n) {
    if (n == 0) return p->text_fresh;
    if (tug_call_queue_kind(&p->queue, n - 1) != TUG_LEX_SPACE) return false;
    return (n == 1 && p->text_fresh) ||
           ends_with_newline(tug_call_queue_bytes(&p->queue, n - 1));
}

/* Does a call begin at item i?  Then *function is its tag, *body what follows it. */
static tug_call_verdict judge_call(const tug_call_parser *p, size_t i, size_t *function,
                                   size_t *body) {
    const tug_call_queue *const q = &p->queue;
    const bool wrapped = tug_call_queue_kind(q, i) == TUG_LEX_TOOL;
    const size_t f = wrapped ? tug_call_queue_skip(q, i + 1) : i;
    if (f == q->n) return TUG_CALL_WAIT;
    if (tug_call_queue_kind(q, f) != TUG_LEX_FUNC) return TUG_CALL_LITERAL;
    if (wrapped ? !tug_call_is_function(p, f)
                : !tug_call_is_declared(p, f) || !text_at_line_start(p, f)) {
        return TUG_CALL_LITERAL;
    }
    const size_t x = tug_call_queue_skip(q, f + 1);
    *function = f;
    *body = x;
    switch (tug_call_queue_kind(q, x)) {
    case TUG_LEX_MORE: return TUG_CALL_WAIT;
    case TUG_LEX_FUNC_END:
    case TUG_LEX_TOOL_END:
    case TUG_LEX_CUT:
    case TUG_LEX_END: return TUG_CALL_STRUCTURE;
    case TUG_LEX_PARAM: {
        const tug_str name = tug_lexeme_name(tug_call_queue_bytes(q, f));
        return tug_call_is_parameter(q, tug_call_find_tool(p->tools, name), x)
                   ? TUG_CALL_STRUCTURE
                   : TUG_CALL_LITERAL;
    }
    default: return TUG_CALL_LITERAL;
    }
}

/* The first tag, and the white space before it, are text. */
static tug_status keep_as_text(tug_call_parser *p, size_t tag, tug_err *err) {
    for (size_t i = 0; i <= tag; i++) {
        TUG_TRY(put_text(p, tug_call_queue_bytes(&p->queue, i), err));
    }
    p->text_fresh = false;
    p->closer_next = false;
    tug_call_queue_pop(&p->queue, tag + 1);
    return TUG_OK;
}

/* Of a call that is over: its </tool_call>, also when the end cuts it off, and white space
 * that nothing follows. */
static bool is_left_over(const tug_call_parser *p, size_t tag) {
    switch (tug_call_queue_kind(&p->queue, tag)) {
    case TUG_LEX_TOOL_END: return p->closer_next;
    case TUG_LEX_CUT:
        return p->closer_next &&
               tug_str_starts(tug_call_queue_bytes(&p->queue, tag), tug_str_of("</"));
    case TUG_LEX_END: return p->text_fresh && p->n_calls > 0;
    default: return false;
    }
}

static tug_status step_text(tug_call_parser *p, bool *wait, tug_err *err) {
    const size_t tag = tug_call_queue_skip(&p->queue, 0);
    const tug_lexeme_kind kind = tug_call_queue_kind(&p->queue, tag);
    size_t function = 0, body = 0;
    tug_call_verdict v = TUG_CALL_LITERAL;
    if (kind == TUG_LEX_MORE) v = TUG_CALL_WAIT;
    if (kind == TUG_LEX_TOOL || kind == TUG_LEX_FUNC) {
        v = judge_call(p, tag, &function, &body);
    }
    *wait = v == TUG_CALL_WAIT;
    if (*wait) return TUG_OK;
    if (v == TUG_CALL_STRUCTURE) {
        TUG_TRY(begin_call(p, function, err));
        tug_call_queue_pop(&p->queue, body);
        return TUG_OK;
    }
    if (is_left_over(p, tag)) {
        p->closer_next = false;
        tug_call_queue_pop(&p->queue, tag + 1);
        return TUG_OK;
    }
    return keep_as_text(p, tag, err);
}

/* ---- calls, from the queue -------------------------------------------------------- */

static tug_status step_body(tug_call_parser *p, tug_err *err) {
    switch (tug_call_queue_kind(&p->queue, 0)) {
    case TUG_LEX_PARAM: TUG_TRY(begin_value(p, err)); break;
    case TUG_LEX_FUNC_END:
        TUG_TRY(end_call(p, true, err));
        p->closer_next = true;
        break;
    case TUG_LEX_TOOL_END: TUG_TRY(end_call(p, true, err)); break;
    case TUG_LEX_CUT: break;
    case TUG_LEX_END: return end_call(p, p->whole, err);
    default: return end_call(p, true, err); /* the next call begins */
    }
    tug_call_queue_pop(&p->queue, 1);
    return TUG_OK;
}

/* Of white space in a value only a line end at its end has to wait. */
static tug_status trim_space(tug_call_parser *p, tug_err *err) {
    const tug_str space = tug_call_queue_bytes(&p->queue, 0);
    const size_t keep = ends_with_newline(space) ? 1 : 0;
    TUG_TRY(put_value(p, tug_str_make(space.p, space.n - keep), err));
    if (keep == 0) tug_call_queue_pop(&p->queue, 1);
    if (keep == 1 && space.n > 1) tug_call_queue_trim(&p->queue, space.n - 1);
    return TUG_OK;
}

static tug_status keep_as_value(tug_call_parser *p, size_t tag, size_t n, tug_err *err) {
    for (size_t i = 0; i < tag + n; i++) {
        TUG_TRY(put_value(p, tug_call_queue_bytes(&p->queue, i), err));
    }
    tug_call_nest_add(p, tag, n);
    tug_call_queue_pop(&p->queue, tag + n);
    return TUG_OK;
}

/* The text ends inside of a value. */
static tug_status end_in_value(tug_call_parser *p, size_t tag, tug_err *err) {
    if (p->whole) {
        TUG_TRY(tug_call_args_end_value(&p->args, err));
    } else if (tag == 1) {
        TUG_TRY(put_value(p, tug_call_queue_bytes(&p->queue, 0), err));
    }
    tug_call_queue_pop(&p->queue, tag);
    p->state = TUG_CALL_BODY;
    return TUG_OK;
}

static tug_status step_value(tug_call_parser *p, bool *wait, tug_err *err) {
    if (tug_call_queue_kind(&p->queue, 0) == TUG_LEX_SPACE) TUG_TRY(trim_space(p, err));
    const size_t tag = tug_call_queue_skip(&p->queue, 0);
    const tug_lexeme_kind kind = tug_call_queue_kind(&p->queue, tag);
    *wait = kind == TUG_LEX_MORE;
    if (*wait) return TUG_OK;
    if (kind == TUG_LEX_END) return end_in_value(p, tag, err);
    size_t n;
    switch (tug_call_judge_value(p, tag, &n)) {
    case TUG_CALL_WAIT: *wait = true; return TUG_OK;
    case TUG_CALL_LITERAL: return keep_as_value(p, tag, n, err);
    case TUG_CALL_STRUCTURE: break;
    }
    TUG_TRY(tug_call_args_end_value(&p->args, err));
    tug_call_queue_pop(&p->queue, n);
    p->state = TUG_CALL_BODY;
    return TUG_OK;
}

static tug_status settle(tug_call_parser *p, tug_err *err) {
    TUG_TRY(tug_buf_ok(&p->queue.bytes, err));
    bool wait = false;
    while (p->queue.n > 0 && !wait) {
        switch (p->state) {
        case TUG_CALL_TEXT: TUG_TRY(step_text(p, &wait, err)); break;
        case TUG_CALL_BODY: TUG_TRY(step_body(p, err)); break;
        case TUG_CALL_VALUE: TUG_TRY(step_value(p, &wait, err)); break;
        }
    }
    return TUG_OK;
}

/* ---- in --------------------------------------------------------------------------- */

#define BITS2(a, b) (TUG_LEX_BIT(TUG_LEX_##a) | TUG_LEX_BIT(TUG_LEX_##b))

/* The tags that can mean something at this place: others need not be held back. */
static unsigned wanted(const tug_call_parser *p) {
    if (p->tools.n == 0) return 0;
    if (p->state != TUG_CALL_TEXT) return TUG_LEX_ALL;
    size_t last = p->queue.n; /* behind the last tag that waits */
    if (last > 0 && tug_call_queue_kind(&p->queue, last - 1) == TUG_LEX_SPACE) last--;
    unsigned want = TUG_LEX_BIT(TUG_LEX_TOOL);
    if (text_at_line_start(p, p->queue.n)) want |= TUG_LEX_BIT(TUG_LEX_FUNC);
    if (last == 0) return p->closer_next ? want | TUG_LEX_BIT(TUG_LEX_TOOL_END) : want;
    if (tug_call_queue_kind(&p->queue, last - 1) == TUG_LEX_TOOL) {
        return want | TUG_LEX_BIT(TUG_LEX_FUNC);
    }
    return want | BITS2(PARAM, FUNC_END) | TUG_LEX_BIT(TUG_LEX_TOOL_END);
}

/* Something that is no tag follows what waits: then nothing waits any more. */
static tug_status end_waiting(tug_call_parser *p, tug_err *err) {
    if (p->queue.n == 0) return TUG_OK;
    tug_call_queue_push(&p->queue, TUG_LEX_OTHER, (tug_str){0});
    return settle(p, err);
}

static tug_status take_other(tug_call_parser *p, tug_str bytes, tug_err *err) {
    TUG_TRY(end_waiting(p, err));
    return put_other(p, bytes, err);
}

/* White space between tags is bounded, so that what is held back is. */
static tug_status take_space(tug_call_parser *p, tug_str bytes, tug_err *err) {
    const tug_call_queue *const q = &p->queue;
    while (bytes.n > 0) {
        const bool last = tug_call_queue_kind(q, q->n - 1) == TUG_LEX_SPACE;
        const size_t n_last = last ? q->item[q->n - 1].n : 0;
        const bool alone = q->n == (last ? 1 : 0);
        size_t n = TUG_CALL_SPACE_MAX - n_last;
        if (p->state == TUG_CALL_VALUE && alone) n = bytes.n; /* goes out at once */
        if (n > bytes.n) n = bytes.n;
        if (n == 0) {
            TUG_TRY(end_waiting(p, err));
            continue;
        }
        tug_call_queue_push(&p->queue, TUG_LEX_SPACE, tug_str_make(bytes.p, n));
        TUG_TRY(settle(p, err));
        bytes = tug_str_make(bytes.p + n, bytes.n - n);
    }
    return TUG_OK;
}

static tug_status take(tug_call_parser *p, tug_lexeme x, tug_err *err) {
    if (x.kind == TUG_LEX_OTHER) return take_other(p, x.bytes, err);
    if (x.kind == TUG_LEX_SPACE) return take_space(p, x.bytes, err);
    tug_call_queue_push(&p->queue, x.kind, x.bytes);
    return settle(p, err);
}

static tug_status feed(tug_call_parser *p, tug_str bytes, tug_err *err) {
    for (;;) {
        const tug_lexeme x = tug_call_lex(&p->lexer, &bytes, wanted(p));
        if (x.kind == TUG_LEX_MORE) break;
        TUG_TRY(take(p, x, err));
    }
    TUG_TRY(flush_text(p, false, err));
    return p->in_call ? flush_args(p, err) : TUG_OK;
}

static tug_status finish(tug_call_parser *p, tug_err *err) {
    const tug_lexeme rest = tug_call_lex_end(&p->lexer);
    const tug_lexeme end = {TUG_LEX_END, {0}};
    if (rest.kind != TUG_LEX_MORE) TUG_TRY(take(p, rest, err));
    TUG_TRY(take(p, end, err));
    return flush_text(p, true, err);
}

/* ---- the interface ---------------------------------------------------------------- */

tug_status tug_call_parser_create(tug_call_parser **out, tug_tools tools,
                                  const tug_call_sink *sink, tug_err *err) {
    *out = NULL;
    tug_call_parser *p = tug_alloc_zero(sizeof *p);
    if (!p)
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the parser of tool calls");
    p->tools = tools;
    p->sink = *sink;
    p->text_fresh = true;
    *out = p;
    return TUG_OK;
}

void tug_call_parser_destroy(tug_call_parser **parser) {
    tug_call_parser *const p = *parser;
    if (!p) return;
    tug_call_queue_free(&p->queue);
    tug_call_args_free(&p->args);
    tug_buf_free(&p->text);
    tug_free(p);
    *parser = NULL;
}

static tug_status still_works(const tug_call_parser *p, tug_err *err) {
    TUG_CHECK(!p->finished);
    if (p->failed == TUG_OK) return TUG_OK;
    return TUG_FAIL(
        err, p->failed,
        "the parser of tool calls stopped at an earlier failure; end the answer");
}

tug_status tug_call_parser_feed(tug_call_parser *p, tug_str bytes, tug_err *err) {
    TUG_TRY(still_works(p, err));
    p->failed = feed(p, bytes, err);
    return p->failed;
}

tug_status tug_call_parser_finish(tug_call_parser *p, bool whole, tug_err *err) {
    TUG_TRY(still_works(p, err));
    p->whole = whole;
    p->failed = finish(p, err);
    p->finished = true;
    return p->failed;
}

size_t tug_call_parser_n_calls(const tug_call_parser *p) {
    return p->n_calls;
}

bool tug_call_parser_in_call(const tug_call_parser *p) {
    return p->in_call;
}
