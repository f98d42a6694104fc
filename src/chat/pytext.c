/* pytext.c - see pytext.h.  SPDX-License-Identifier: MIT */
#include "chat/pytext.h"

#include <math.h>
#include <stdio.h>
#include <utf8proc.h>

#include "base/utf8.h"

/* A number as repr() gives it, but with the sign and `infinite` for one that no double
 * holds.  The result borrows from v or from `local`. */
static tug_str number_text(const tug_json *v, const char *infinite,
                           char local[TUG_JSON_F64_MAX]) {
    if (tug_json_is_integer(v)) {
        const tug_str text = tug_json_text(v);
        return tug_str_is(text, "-0") ? tug_str_of("0") : text;
    }
    const double d = tug_json_f64(v);
    const int n =
        isinf(d) ? snprintf(local, TUG_JSON_F64_MAX, "%s%s", d < 0 ? "-" : "", infinite)
                 : tug_json_format_f64(d, local);
    return tug_str_make(local, (size_t)n);
}

/* ---- repr ------------------------------------------------------------------------- */

/* str.isprintable: everything but controls, formats, surrogates, private and unassigned
 * code points, and separators other than the space. */
static bool is_printable(uint32_t cp) {
    if (cp == ' ') return true;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
    }
}

static void repr_char(tug_buf *out, uint32_t cp, const char *bytes, int len, char quote) {
    if (cp == (uint32_t)quote || cp == '\\') {
        tug_buf_char(out, '\\');
        tug_buf_char(out, (char)cp);
    } else if (cp == '\n') {
        tug_buf_text(out, "\\n");
    } else if (cp == '\r') {
        tug_buf_text(out, "\\r");
    } else if (cp == '\t') {
        tug_buf_text(out, "\\t");
    } else if (is_printable(cp)) {
        tug_buf_append(out, bytes, (size_t)len);
    } else if (cp <= 0xFF) {
        tug_buf_printf(out, "\\x%02x", (unsigned)cp);
    } else if (cp <= 0xFFFF) {
        tug_buf_printf(out, "\\u%04x", (unsigned)cp);
    } else {
        tug_buf_printf(out, "\\U%08x", (unsigned)cp);
    }
}

/* In single quotes, unless the text has some and no double ones. */
static void repr_str(tug_buf *out, tug_str s) {
    const bool single = s.n && memchr(s.p, '\'', s.n),
               both = s.n && memchr(s.p, '"', s.n);
    const char quote = single && !both ? '"' : '\'';
    tug_buf_char(out, quote);
    for (size_t i = 0; i < s.n;) {
        const int len = tug_utf8_next(s.p + i, s.n - i);
        TUG_CHECK(len > 0); /* the JSON reader lets nothing else through */
        repr_char(out, tug_utf8_decode(s.p + i, len), s.p + i, len, quote);
        i += (size_t)len;
    }
    tug_buf_char(out, quote);
}

/* Recursion is bounded by TUG_JSON_DEPTH. */
static void repr(tug_buf *out, const tug_json *v) {
    char number[TUG_JSON_F64_MAX];
    switch (v->kind) {
    case TUG_JSON_NULL: tug_buf_text(out, "None"); break;
    case TUG_JSON_BOOL: tug_buf_text(out, v->v.truth ? "True" : "False"); break;
    case TUG_JSON_NUMBER: tug_buf_str(out, number_text(v, "inf", number)); break;
    case TUG_JSON_STRING: repr_str(out, tug_json_text(v)); break;
    case TUG_JSON_ARRAY:
        tug_buf_char(out, '[');
        for (size_t i = 0; i < v->n; i++) {
            if (i > 0) tug_buf_text(out, ", ");
            repr(out, tug_json_at(v, i));
        }
        tug_buf_char(out, ']');
        break;
    case TUG_JSON_OBJECT:
        tug_buf_char(out, '{');
        for (size_t i = 0; i < v->n; i++) {
            if (i > 0) tug_buf_text(out, ", ");
            repr_str(out, tug_json_key(v, i));
            tug_buf_text(out, ": ");
            repr(out, tug_json_value(v, i));
        }
        tug_buf_char(out, '}');
        break;
    }
}

void tug_py_str(tug_buf *out, const tug_json *v) {
    if (v->kind == TUG_JSON_STRING) {
        tug_buf_str(out, tug_json_text(v));
    } else {
        repr(out, v);
    }
}

/* ---- tojson ----------------------------------------------------------------------- */

/* Python's json escapes strings exactly as our writer does; only numbers differ. */
static void dump(tug_json_writer *w, const tug_json *v) {
    char number[TUG_JSON_F64_MAX];
    switch (v->kind) {
    case TUG_JSON_NUMBER:
        tug_json_write_raw(w, number_text(v, "Infinity", number));
        break;
    case TUG_JSON_ARRAY:
        tug_json_begin_array(w);
        for (size_t i = 0; i < v->n; i++) dump(w, tug_json_at(v, i));
        tug_json_end_array(w);
        break;
    case TUG_JSON_OBJECT:
        tug_json_begin_object(w);
        for (size_t i = 0; i < v->n; i++) {
            tug_json_write_key(w, tug_json_key(v, i));
            dump(w, tug_json_value(v, i));
        }
        tug_json_end_object(w);
        break;
    default: tug_json_write_value(w, v); break;
    }
}

void tug_py_tojson(tug_buf *out, const tug_json *v) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_SPACED);
    dump(&w, v);
}

/* ---- strip ------------------------------------------------------------------------ */

/* str.isspace of one character: bidirectional class WS, B or S, or category Zs. */
static bool is_space(uint32_t cp) {
    return (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x20) || cp == 0x85 ||
           cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

/* Bytes of the white space character at p, 0 if there is none. */
static size_t space_at(const char *p, size_t n) {
    const int len = n ? tug_utf8_next(p, n) : 0;
    return len > 0 && is_space(tug_utf8_decode(p, len)) ? (size_t)len : 0;
}

tug_str tug_py_strip(tug_str s) {
    for (size_t len; (len = space_at(s.p, s.n)) > 0;)
        s = tug_str_make(s.p + len, s.n - len);
    size_t len;
    do { /* the last character begins 1 to 3 bytes before the end, if it is a space */
        for (len = 1; len <= 3 && len <= s.n; len++) {
            if (space_at(s.p + s.n - len, len) == len) break;
        }
        if (len > 3 || len > s.n) len = 0;
        s.n -= len;
    } while (len > 0);
    return s;
}
