/* call_log.c - see call_log.h.  SPDX-License-Identifier: MIT */
#include "support/call_log.h"

#include "base/utf8.h"

static tug_status told(call_log *log, tug_err *err) {
    if (log->fail_at > 0 && --log->fail_at == 0) {
        return TUG_FAIL(err, TUG_ECANCELED, "the sink had enough");
    }
    return tug_buf_ok(&log->text, err);
}

static void add(call_log *log, char kind, tug_str s) {
    const bool joins = kind == log->last && (kind == 'T' || kind == 'A');
    if (!joins) tug_buf_printf(&log->text, "%s%c:", log->last ? "|" : "", kind);
    tug_buf_str(&log->text, s);
    log->last = kind;
}

/* Is the end the beginning of a character?  (Not so: bytes that are no UTF-8 at all.) */
static bool is_uneven(tug_str s) {
    for (size_t k = 1; k <= 3 && k <= s.n; k++) {
        if (tug_utf8_next(s.p + s.n - k, k) == 0) return true;
    }
    return false;
}

static tug_status on_text(void *ud, tug_str text, tug_err *err) {
    call_log *const log = ud;
    add(log, 'T', text);
    if (text.n == 0 || is_uneven(text)) log->uneven = true;
    return told(log, err);
}

static tug_status on_begin(void *ud, tug_str name, tug_err *err) {
    add(ud, 'C', name);
    return told(ud, err);
}

static tug_status on_arguments(void *ud, tug_str json, tug_err *err) {
    call_log *const log = ud;
    add(log, 'A', json);
    if (json.n == 0 || !tug_utf8_valid(json.p, json.n, NULL)) log->uneven = true;
    return told(log, err);
}

static tug_status on_end(void *ud, bool complete, tug_err *err) {
    call_log *const log = ud;
    tug_buf_text(&log->text, complete ? "|E+" : "|E-");
    log->last = 'E';
    return told(log, err);
}

tug_call_sink call_log_sink(call_log *log) {
    return (tug_call_sink){log, on_text, on_begin, on_arguments, on_end};
}

void call_log_clear(call_log *log) {
    tug_buf_clear(&log->text);
    log->last = '\0';
    log->uneven = false;
}

tug_tools call_log_tools(const char *json, tug_arena *arena) {
    const tug_json *list;
    tug_tools out = {0};
    if (tug_json_parse(tug_str_of(json), arena, &list, NULL) != TUG_OK) return out;
    tug_tool *tool = tug_arena_array(arena, list->n, sizeof *tool);
    if (!tool) return out;
    for (size_t i = 0; i < list->n; i++) {
        const tug_json *one = tug_json_at(list, i);
        tool[i].name = tug_json_text(tug_json_get(one, "name"));
        tool[i].parameters = tug_json_get(one, "parameters");
    }
    return (tug_tools){tool, list->n};
}

static tug_status feed_cut(tug_call_parser *p, tug_str in, size_t a, size_t b) {
    const size_t at[] = {0, a, b, in.n};
    for (int i = 0; i < 3; i++) {
        const tug_str piece = tug_str_make(in.p + at[i], at[i + 1] - at[i]);
        TUG_TRY(tug_call_parser_feed(p, piece, NULL));
    }
    return TUG_OK;
}

static tug_status feed_bytes(tug_call_parser *p, tug_str in) {
    for (size_t i = 0; i < in.n; i++) {
        TUG_TRY(tug_call_parser_feed(p, tug_str_make(in.p + i, 1), NULL));
    }
    return TUG_OK;
}

static tug_status run(call_log *log, tug_tools tools, tug_str in, bool single, size_t a,
                      size_t b, bool whole) {
    tug_call_parser *p;
    const tug_call_sink sink = call_log_sink(log);
    call_log_clear(log);
    TUG_TRY(tug_call_parser_create(&p, tools, &sink, NULL));
    tug_status s = single ? feed_bytes(p, in) : feed_cut(p, in, a, b);
    if (s == TUG_OK) s = tug_call_parser_finish(p, whole, NULL);
    tug_call_parser_destroy(&p);
    return s;
}

tug_status call_log_run3(call_log *log, tug_tools tools, tug_str in, size_t a, size_t b,
                         bool whole) {
    return run(log, tools, in, false, a, b, whole);
}

tug_status call_log_run1(call_log *log, tug_tools tools, tug_str in, bool whole) {
    return run(log, tools, in, true, 0, 0, whole);
}
