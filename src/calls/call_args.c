/* call_args.c - see call_args.h.  SPDX-License-Identifier: MIT */
#include "calls/call_args.h"

#include "base/utf8.h"
#include "calls/coerce.h"

size_t tug_cut_character(const char *p, size_t n) {
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        if (tug_utf8_next(p + n - k, k) == 0) return k;
    }
    return 0;
}

void tug_call_args_begin(tug_call_args *a, const tug_json *schema) {
    tug_buf_clear(&a->json);
    tug_key_set_clear(&a->seen);
    a->schema = schema;
    a->any = false;
}

static tug_value_mode mode_of(tug_type_set types) {
    if (types == 0 || types == TUG_TYPE_STRING) return TUG_VALUE_STRING;
    if (types == (TUG_TYPE_STRING | TUG_TYPE_NULL)) return TUG_VALUE_NULLABLE;
    return TUG_VALUE_WHOLE;
}

/* The key goes out with its value's first byte: a value may still be left out. */
static void write_key(tug_call_args *a) {
    tug_buf_char(&a->json, a->any ? ',' : '{');
    if (!a->key.failed) tug_buf_str(&a->json, tug_buf_view(&a->key));
    a->any = true;
}

static void open_string(tug_call_args *a) {
    write_key(a);
    tug_buf_char(&a->json, '"');
    a->mode = TUG_VALUE_STRING;
}

tug_status tug_call_args_begin_value(tug_call_args *a, tug_str key, tug_err *err) {
    tug_buf_clear(&a->value);
    a->mode = TUG_VALUE_SKIP;
    if (tug_key_set_has(&a->seen, key)) return TUG_OK;
    TUG_TRY(tug_key_set_add(&a->seen, key, err));
    a->types = tug_schema_types(a->schema, tug_schema_property(a->schema, key));
    a->required = tug_schema_requires(a->schema, key);
    tug_buf_clear(&a->key);
    tug_buf_char(&a->key, '"');
    tug_json_escape(&a->key, key);
    tug_buf_text(&a->key, "\":");
    TUG_TRY(tug_buf_ok(&a->key, err));
    a->mode = mode_of(a->types);
    if (a->mode == TUG_VALUE_STRING) open_string(a);
    return TUG_OK;
}

/* All of the string's bytes, up to a character that is not there yet. */
static void drain_string(tug_call_args *a, bool all) {
    if (a->value.n == 0) return;
    const size_t cut = all ? 0 : tug_cut_character(a->value.p, a->value.n);
    const size_t n = a->value.n - cut;
    tug_json_escape(&a->json, tug_str_make(a->value.p, n));
    memmove(a->value.p, a->value.p + n, cut);
    a->value.n = cut;
}

void tug_call_args_put(tug_call_args *a, tug_str bytes) {
    if (a->mode == TUG_VALUE_SKIP || bytes.n == 0) return;
    tug_buf_str(&a->value, bytes);
    if (a->value.failed) return;
    if (a->mode == TUG_VALUE_NULLABLE &&
        !tug_coerce_is_null(tug_buf_view(&a->value), true)) {
        open_string(a);
    }
    if (a->mode == TUG_VALUE_STRING) drain_string(a, false);
}

static tug_status end_whole(tug_call_args *a, tug_err *err) {
    tug_buf json = {0};
    bool omit;
    tug_status s =
        tug_coerce(tug_buf_view(&a->value), a->types, a->required, &json, &omit, err);
    if (s == TUG_OK && !omit) {
        write_key(a);
        tug_buf_str(&a->json, tug_buf_view(&json));
    }
    tug_buf_free(&json);
    return s;
}

tug_status tug_call_args_end_value(tug_call_args *a, tug_err *err) {
    TUG_TRY(tug_call_args_ok(a, err));
    switch (a->mode) {
    case TUG_VALUE_SKIP: return TUG_OK;
    case TUG_VALUE_STRING: break;
    case TUG_VALUE_NULLABLE:
    case TUG_VALUE_WHOLE: return end_whole(a, err);
    }
    drain_string(a, true);
    tug_buf_char(&a->json, '"');
    return TUG_OK;
}

void tug_call_args_end(tug_call_args *a) {
    tug_buf_text(&a->json, a->any ? "}" : "{}");
}

tug_status tug_call_args_ok(const tug_call_args *a, tug_err *err) {
    TUG_TRY(tug_buf_ok(&a->value, err));
    return tug_buf_ok(&a->json, err);
}

void tug_call_args_free(tug_call_args *a) {
    tug_buf_free(&a->json);
    tug_buf_free(&a->value);
    tug_buf_free(&a->key);
    tug_key_set_free(&a->seen);
    *a = (tug_call_args){0};
}
