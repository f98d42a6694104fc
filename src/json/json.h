/* json.h - read JSON without losing anything a chat template can show, and write it.
 *
 * READER  strict RFC 8259 over strict UTF-8.  Kept: the order of keys and the text of
 *         every number (12345678901234567890 and 1e-7 stay what they were).  A repeated
 *         key keeps its first place and takes its last value, as Python's dict does.
 *         Nesting is limited to TUG_JSON_DEPTH.  An escape of half a surrogate pair
 *         (\ud800), which Python accepts but UTF-8 cannot carry, becomes U+FFFD.
 * WRITER  appends to a tug_buf; what it writes is valid UTF-8 and, if the calls are
 *         properly nested, valid JSON.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_JSON_JSON_H
#define TUG_JSON_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"

enum { TUG_JSON_DEPTH = 128 };

typedef enum tug_json_kind {
    TUG_JSON_NULL,
    TUG_JSON_BOOL,
    TUG_JSON_NUMBER,
    TUG_JSON_STRING,
    TUG_JSON_ARRAY,
    TUG_JSON_OBJECT
} tug_json_kind;

/* A value.  16 bytes, so that `[1,1,1,...` costs little more than its text. */
typedef struct tug_json {
    tug_json_kind kind;
    uint32_t n; /* STRING, NUMBER: bytes; ARRAY: elements; OBJECT: members */
    union {
        bool truth;       /* BOOL */
        const char *text; /* STRING: UTF-8; NUMBER: as written; (n,) and a 0 */
        const struct tug_json
            *item; /* ARRAY: (n,); OBJECT: (2 n,) key, value, key, ... */
    } v;
} tug_json;

/* ---- reading ---------------------------------------------------------------------- */

/* Parses the whole of `in`.  The tree lives in `arena` and borrows nothing from `in`.
 * Errors: TUG_EFORMAT with the byte offset, TUG_ERANGE beyond 4 GiB, TUG_ENOMEM. */
TUG_NODISCARD tug_status tug_json_parse(tug_str in, tug_arena *arena,
                                        const tug_json **out, tug_err *err);

/* False for NULL, so that tug_json_is(tug_json_get(v, "key"), kind) asks both. */
static inline bool tug_json_is(const tug_json *v, tug_json_kind kind) {
    return v && v->kind == kind;
}

/* Text of a STRING or NUMBER. */
static inline tug_str tug_json_text(const tug_json *v) {
    return tug_str_make(v->v.text, v->n);
}

/* Element i of an ARRAY; key and value of member i of an OBJECT; i < v->n. */
static inline const tug_json *tug_json_at(const tug_json *v, size_t i) {
    return &v->v.item[i];
}
static inline tug_str tug_json_key(const tug_json *v, size_t i) {
    return tug_json_text(&v->v.item[2 * i]);
}
static inline const tug_json *tug_json_value(const tug_json *v, size_t i) {
    return &v->v.item[2 * i + 1];
}

/* The member's value; NULL when there is none, or when v is no object (or NULL). */
const tug_json *tug_json_get(const tug_json *v, const char *key);

/* "null", "a boolean", "a number", ...: for sentences about what was found. */
const char *tug_json_kind_text(const tug_json *v);

/* ---- numbers ---------------------------------------------------------------------- */

/* Is the NUMBER written without fraction and exponent? */
bool tug_json_is_integer(const tug_json *v);

/* Nearest double of a NUMBER; infinite when it is too large for one. */
double tug_json_f64(const tug_json *v);

/* Enough for any tug_json_format_f64, with the terminating 0. */
enum { TUG_JSON_F64_MAX = 32 };

/* The shortest decimal that reads back as the same double, in the form Python's repr
 * gives it (1.0, 1e-07, 1e+22), which is also JSON when d is finite (else inf, -inf,
 * nan).  Returns its length. */
int tug_json_format_f64(double d, char out[TUG_JSON_F64_MAX]);

/* ---- writing ---------------------------------------------------------------------- */

typedef enum tug_json_style {
    TUG_JSON_COMPACT, /* {"a":1,"b":[2,3]} */
    TUG_JSON_SPACED,  /* {"a": 1, "b": [2, 3]}, like Python's json.dumps */
    TUG_JSON_PRETTY   /* two spaces of indent, one member or element per line */
} tug_json_style;

/* Commas and indents are put by the writer.  Failures of `out` are sticky: check once at
 * the end with tug_buf_ok. */
typedef struct tug_json_writer {
    tug_buf *out; /* borrowed */
    tug_json_style style;
    int depth;       /* open containers */
    bool need_comma; /* something precedes the next value or key in its container */
    bool after_key;
} tug_json_writer;

static inline tug_json_writer tug_json_writer_make(tug_buf *out, tug_json_style style) {
    const tug_json_writer w = {out, style, 0, false, false};
    return w;
}

void tug_json_begin_object(tug_json_writer *w);
void tug_json_end_object(tug_json_writer *w);
void tug_json_begin_array(tug_json_writer *w);
void tug_json_end_array(tug_json_writer *w);

/* Inside an object, before each value. */
void tug_json_write_key(tug_json_writer *w, tug_str key);

/* Bytes that are no UTF-8 become U+FFFD.  Other characters are written raw, except those
 * that JSON wants escaped. */
void tug_json_write_str(tug_json_writer *w, tug_str s);

/* Only the inside of such a string, without its quotes, past any writer: for a string that
 * goes out in pieces.  Cut it between characters. */
void tug_json_escape(tug_buf *out, tug_str s);

void tug_json_write_i64(tug_json_writer *w, int64_t i);
void tug_json_write_u64(tug_json_writer *w, uint64_t u);
void tug_json_write_f64(tug_json_writer *w, double d); /* null when not finite */
void tug_json_write_bool(tug_json_writer *w, bool b);
void tug_json_write_null(tug_json_writer *w);

/* `text` is one complete JSON value and goes out as it is. */
void tug_json_write_raw(tug_json_writer *w, tug_str text);

/* A value as it was read: same order, same number text. */
void tug_json_write_value(tug_json_writer *w, const tug_json *v);

#endif
