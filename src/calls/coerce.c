/* coerce.c - see coerce.h.  SPDX-License-Identifier: MIT */
#include "calls/coerce.h"

#include "calls/python_literal.h"

/* One value being converted; `done` is set by the conversion that fits. */
typedef struct job {
    tug_type_set types;
    tug_buf *out; /* borrowed */
    bool done;
    tug_err *err;
} job;

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static tug_str trim(tug_str s) {
    while (s.n > 0 && is_space(s.p[s.n - 1])) s.n--;
    while (s.n > 0 && is_space(*s.p)) s = tug_str_make(s.p + 1, s.n - 1);
    return s;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* `word` is lower case. */
static bool is_word(tug_str s, const char *word) {
    if (s.n != strlen(word)) return false;
    for (size_t i = 0; i < s.n; i++) {
        if (lower(s.p[i]) != word[i]) return false;
    }
    return true;
}

bool tug_coerce_is_null(tug_str text, bool so_far) {
    static const char null[] = "null", none[] = "None";
    if (text.n > 4 || (!so_far && text.n < 4)) return false;
    bool as_null = true, as_none = true;
    for (size_t i = 0; i < text.n; i++) {
        as_null = as_null && lower(text.p[i]) == null[i];
        as_none = as_none && text.p[i] == none[i];
    }
    return as_null || as_none;
}

static void append_string(tug_buf *out, tug_str s) {
    tug_buf_char(out, '"');
    tug_json_escape(out, s);
    tug_buf_char(out, '"');
}

/* ---- scalars ---------------------------------------------------------------------- */

/* 42, +42, 042, 42.0: digits are kept, however many. */
static void try_integer(job *j, tug_str s) {
    size_t point = 0;
    while (point < s.n && s.p[point] != '.') point++;
    for (size_t i = point + 1; i < s.n; i++) {
        if (s.p[i] != '0') return;
    }
    for (size_t i = 0; i < point; i++) {
        if (s.p[i] == 'e' || s.p[i] == 'E') return;
    }
    if (point == 0) return; /* .0 */
    j->done = tug_number_to_json(tug_str_make(s.p, point), j->out);
}

static void try_scalar(job *j, tug_str s) {
    const bool yes = is_word(s, "true");
    if (is_word(s, "null") || is_word(s, "none")) {
        tug_buf_text(j->out, "null");
        j->done = true;
    } else if ((j->types & TUG_TYPE_BOOLEAN) && (yes || is_word(s, "false"))) {
        tug_buf_text(j->out, yes ? "true" : "false");
        j->done = true;
    } else if (j->types & TUG_TYPE_NUMBER) {
        j->done = tug_number_to_json(s, j->out);
    } else if (j->types & TUG_TYPE_INTEGER) {
        try_integer(j, s);
    }
}

/* ---- values that are JSON --------------------------------------------------------- */

static bool allows(tug_type_set types, const tug_json *v) {
    switch (v->kind) {
    case TUG_JSON_NULL: return (types & TUG_TYPE_NULL) != 0;
    case TUG_JSON_BOOL: return (types & TUG_TYPE_BOOLEAN) != 0;
    case TUG_JSON_NUMBER:
        return (types & TUG_TYPE_NUMBER) ||
               ((types & TUG_TYPE_INTEGER) && tug_json_is_integer(v));
    case TUG_JSON_STRING: return false; /* text stands for itself */
    case TUG_JSON_ARRAY: return (types & TUG_TYPE_ARRAY) != 0;
    case TUG_JSON_OBJECT: return (types & TUG_TYPE_OBJECT) != 0;
    }
    return false;
}

/* *out stays NULL when s is no JSON; only memory is an error. */
static tug_status parse(tug_str s, tug_arena *arena, const tug_json **out, tug_err *err) {
    *out = NULL;
    const tug_status status = tug_json_parse(s, arena, out, err);
    return status == TUG_ENOMEM ? status : TUG_OK;
}

static tug_status try_json(job *j, tug_str s, tug_arena *arena, const tug_json **v) {
    TUG_TRY(parse(s, arena, v, j->err));
    if (!*v || !allows(j->types, *v)) return TUG_OK;
    tug_json_writer w = tug_json_writer_make(j->out, TUG_JSON_COMPACT);
    tug_json_write_value(&w, *v);
    j->done = true;
    return TUG_OK;
}

static tug_status try_python(job *j, tug_str s, tug_arena *arena) {
    if ((j->types & (TUG_TYPE_ARRAY | TUG_TYPE_OBJECT)) == 0) return TUG_OK;
    if (s.n == 0 || (*s.p != '[' && *s.p != '{')) return TUG_OK;
    tug_buf json = {0};
    tug_python_to_json(s, &json);
    tug_status status = tug_buf_ok(&json, j->err);
    const tug_json *v;
    if (status == TUG_OK) status = try_json(j, tug_buf_view(&json), arena, &v);
    tug_buf_free(&json);
    return status;
}

/* Everything but strings; a value that the model quoted once too often is unwrapped. */
static tug_status convert(job *j, tug_str s, tug_arena *arena) {
    for (int quoted = 0; quoted < 2 && !j->done; quoted++) {
        const tug_json *v = NULL;
        s = trim(s);
        try_scalar(j, s);
        if (!j->done) TUG_TRY(try_json(j, s, arena, &v));
        if (!j->done) TUG_TRY(try_python(j, s, arena));
        if (!tug_json_is(v, TUG_JSON_STRING)) break;
        s = tug_json_text(v);
    }
    return TUG_OK;
}

/* The text may also stand for itself, so only what is JSON to the letter counts. */
static tug_status convert_or_string(job *j, tug_str text, tug_arena *arena) {
    const tug_json *v;
    if ((j->types & TUG_TYPE_NULL) && tug_coerce_is_null(text, false)) {
        tug_buf_text(j->out, "null");
        j->done = true;
        return TUG_OK;
    }
    j->types &= ~(tug_type_set)TUG_TYPE_NULL; /* " null" streams as text, so it is text */
    return try_json(j, trim(text), arena, &v);
}

tug_status tug_coerce(tug_str text, tug_type_set types, bool required, tug_buf *out,
                      bool *omit, tug_err *err) {
    *omit = false;
    const bool string = types == 0 || (types & TUG_TYPE_STRING);
    if (!string && trim(text).n == 0) {
        *omit = !required;
        if (required) tug_buf_text(out, types & TUG_TYPE_NULL ? "null" : "\"\"");
        return tug_buf_ok(out, err);
    }
    job j = {types, out, types == 0 || types == TUG_TYPE_STRING, err};
    const bool plain = j.done;
    tug_arena arena = {0};
    tug_status s = TUG_OK;
    if (!plain && string) s = convert_or_string(&j, text, &arena);
    if (!plain && !string) s = convert(&j, text, &arena);
    if (s == TUG_OK && (plain || !j.done)) append_string(out, text);
    tug_arena_free(&arena);
    return s == TUG_OK ? tug_buf_ok(out, err) : s;
}
