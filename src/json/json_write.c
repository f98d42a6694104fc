/* json_write.c - the writing half of json.h.  SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <math.h>

#include "base/utf8.h"
#include "json/json.h"

static void break_line(tug_json_writer *w) {
    tug_buf_char(w->out, '\n');
    for (int i = 0; i < w->depth; i++) tug_buf_text(w->out, "  ");
}

/* What has to stand before the next key or value. */
static void separate(tug_json_writer *w) {
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->need_comma) tug_buf_text(w->out, w->style == TUG_JSON_SPACED ? ", " : ",");
    if (w->style == TUG_JSON_PRETTY && w->depth > 0) break_line(w);
    w->need_comma = true;
}

static void begin(tug_json_writer *w, char bracket) {
    separate(w);
    tug_buf_char(w->out, bracket);
    w->depth++;
    w->need_comma = false;
}

static void end(tug_json_writer *w, char bracket) {
    w->depth--;
    if (w->style == TUG_JSON_PRETTY && w->need_comma) break_line(w);
    tug_buf_char(w->out, bracket);
    w->need_comma = true;
}

/* The escape that JSON demands for c, NULL for none. */
static const char *short_escape(char c) {
    switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\b': return "\\b";
    case '\f': return "\\f";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: return NULL;
    }
}

void tug_json_escape(tug_buf *b, tug_str s) {
    size_t plain = 0; /* start of the run that needs no change */
    for (size_t i = 0; i < s.n;) {
        const int len = tug_utf8_next(s.p + i, s.n - i);
        const char *escape = len == 1 ? short_escape(s.p[i]) : NULL;
        const bool control = len == 1 && (unsigned char)s.p[i] < 0x20;
        /* A bad sequence counts -len bytes; one cut off by the end takes all the rest. */
        const size_t step = len > 0 ? (size_t)len : len < 0 ? (size_t)-len : s.n - i;
        if (escape || control || len <= 0) {
            tug_buf_append(b, s.p + plain, i - plain);
            if (escape) {
                tug_buf_text(b, escape);
            } else if (control) {
                tug_buf_printf(b, "\\u%04x", (unsigned)s.p[i]);
            } else {
                tug_buf_text(b, "\xEF\xBF\xBD");
            }
            plain = i + step;
        }
        i += step;
    }
    if (s.n > plain) tug_buf_append(b, s.p + plain, s.n - plain);
}

static void write_quoted(tug_buf *b, tug_str s) {
    tug_buf_char(b, '"');
    tug_json_escape(b, s);
    tug_buf_char(b, '"');
}

void tug_json_begin_object(tug_json_writer *w) {
    begin(w, '{');
}
void tug_json_end_object(tug_json_writer *w) {
    end(w, '}');
}
void tug_json_begin_array(tug_json_writer *w) {
    begin(w, '[');
}
void tug_json_end_array(tug_json_writer *w) {
    end(w, ']');
}

void tug_json_write_key(tug_json_writer *w, tug_str key) {
    separate(w);
    write_quoted(w->out, key);
    tug_buf_text(w->out, w->style == TUG_JSON_COMPACT ? ":" : ": ");
    w->after_key = true;
}

void tug_json_write_str(tug_json_writer *w, tug_str s) {
    separate(w);
    write_quoted(w->out, s);
}

void tug_json_write_raw(tug_json_writer *w, tug_str text) {
    separate(w);
    tug_buf_str(w->out, text);
}

void tug_json_write_i64(tug_json_writer *w, int64_t i) {
    separate(w);
    tug_buf_printf(w->out, "%" PRId64, i);
}

void tug_json_write_u64(tug_json_writer *w, uint64_t u) {
    separate(w);
    tug_buf_printf(w->out, "%" PRIu64, u);
}

void tug_json_write_f64(tug_json_writer *w, double d) {
    char text[TUG_JSON_F64_MAX];
    const int n = tug_json_format_f64(d, text);
    tug_json_write_raw(w,
                       isfinite(d) ? tug_str_make(text, (size_t)n) : tug_str_of("null"));
}

void tug_json_write_bool(tug_json_writer *w, bool b) {
    tug_json_write_raw(w, tug_str_of(b ? "true" : "false"));
}

void tug_json_write_null(tug_json_writer *w) {
    tug_json_write_raw(w, tug_str_of("null"));
}

static void write_members(tug_json_writer *w, const tug_json *v) {
    begin(w, '{');
    for (size_t i = 0; i < v->n; i++) {
        tug_json_write_key(w, tug_json_key(v, i));
        tug_json_write_value(w, tug_json_value(v, i));
    }
    end(w, '}');
}

/* Recursion is bounded by TUG_JSON_DEPTH, which the reader enforces. */
void tug_json_write_value(tug_json_writer *w, const tug_json *v) {
    switch (v->kind) {
    case TUG_JSON_NULL: tug_json_write_null(w); break;
    case TUG_JSON_BOOL: tug_json_write_bool(w, v->v.truth); break;
    case TUG_JSON_NUMBER: tug_json_write_raw(w, tug_json_text(v)); break;
    case TUG_JSON_STRING: tug_json_write_str(w, tug_json_text(v)); break;
    case TUG_JSON_ARRAY:
        begin(w, '[');
        for (size_t i = 0; i < v->n; i++) tug_json_write_value(w, tug_json_at(v, i));
        end(w, ']');
        break;
    case TUG_JSON_OBJECT: write_members(w, v); break;
    }
}
