/* fields.c - see fields.h.  SPDX-License-Identifier: MIT */
#include "api/fields.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

tug_field_path tug_field_path_make(const char *fmt, ...) {
    tug_field_path p;
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(p.text, sizeof p.text, fmt, args) < 0) p.text[0] = '\0';
    va_end(args);
    return p;
}

static const char *dot(const char *path, const char *key) {
    return *path && *key ? "." : "";
}

tug_status tug_field_wrong(tug_err *err, const char *path, const char *key,
                           const tug_json *value, const char *wanted) {
    return TUG_FAIL(err, TUG_EFORMAT, "%s%s%s is %s; it must be %s", path, dot(path, key),
                    key, tug_json_kind_text(value), wanted);
}

tug_status tug_field_no_memory(tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM,
                    "out of memory while reading the request; send a smaller one or try "
                    "again later");
}

/* The field if it is said; *found is NULL if not. */
static tug_status find(const tug_json *object, const char *path, const char *key,
                       tug_json_kind kind, const char *wanted, const tug_json **found,
                       tug_err *err) {
    const tug_json *const v = tug_json_get(object, key);
    *found = NULL;
    if (!tug_field_is_said(v)) return TUG_OK;
    if (v->kind != kind) return tug_field_wrong(err, path, key, v, wanted);
    *found = v;
    return TUG_OK;
}

tug_status tug_field_str(const tug_json *object, const char *path, const char *key,
                         tug_str *out, tug_err *err) {
    const tug_json *v;
    TUG_TRY(find(object, path, key, TUG_JSON_STRING, "a string", &v, err));
    if (v) *out = tug_json_text(v);
    return TUG_OK;
}

tug_status tug_field_bool(const tug_json *object, const char *path, const char *key,
                          bool *out, tug_err *err) {
    const tug_json *v;
    TUG_TRY(find(object, path, key, TUG_JSON_BOOL, "true or false", &v, err));
    if (v) *out = v->v.truth;
    return TUG_OK;
}

tug_status tug_field_array(const tug_json *object, const char *path, const char *key,
                           const tug_json **out, tug_err *err) {
    const tug_json *v;
    TUG_TRY(find(object, path, key, TUG_JSON_ARRAY, "an array", &v, err));
    if (v) *out = v;
    return TUG_OK;
}

tug_status tug_field_object(const tug_json *object, const char *path, const char *key,
                            const tug_json **out, tug_err *err) {
    const tug_json *v;
    TUG_TRY(find(object, path, key, TUG_JSON_OBJECT, "an object", &v, err));
    if (v) *out = v;
    return TUG_OK;
}

/* ---- numbers ---------------------------------------------------------------------- */

/* False when it has a fraction.  What does not fit becomes INT64_MIN or INT64_MAX. */
static bool to_i64(const tug_json *v, int64_t *out) {
    if (tug_json_is_integer(v)) {
        *out = strtoll(v->v.text, NULL, 10); /* saturates */
        return true;
    }
    const double d = tug_json_f64(v);
    if (d != trunc(d)) return false; /* false for the infinities */
    *out = d >= 0x1p63 ? INT64_MAX : d < -0x1p63 ? INT64_MIN : (int64_t)d;
    return true;
}

static tug_status read_i64(const tug_json *v, const char *path, const char *key,
                           int64_t min, int64_t max, int64_t *out, tug_err *err) {
    if (v->kind != TUG_JSON_NUMBER) {
        return tug_field_wrong(err, path, key, v, "an integer");
    }
    int64_t i;
    if (!to_i64(v, &i)) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s%s%s is %.40s; it must be an integer", path,
                        dot(path, key), key, v->v.text);
    }
    if (i < min || i > max) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s%s%s is %.40s; it must be between %" PRId64 " and %" PRId64,
                        path, dot(path, key), key, v->v.text, min, max);
    }
    *out = i;
    return TUG_OK;
}

tug_status tug_field_i64(const tug_json *object, const char *path, const char *key,
                         int64_t min, int64_t max, int64_t *out, tug_err *err) {
    const tug_json *const v = tug_json_get(object, key);
    if (!tug_field_is_said(v)) return TUG_OK;
    return read_i64(v, path, key, min, max, out, err);
}

tug_status tug_field_value_i64(const tug_json *value, const char *path, int64_t min,
                               int64_t max, int64_t *out, tug_err *err) {
    return read_i64(value, path, "", min, max, out, err);
}

tug_status tug_field_f32(const tug_json *object, const char *path, const char *key,
                         double min, double max, float *out, tug_err *err) {
    const tug_json *v;
    TUG_TRY(find(object, path, key, TUG_JSON_NUMBER, "a number", &v, err));
    if (!v) return TUG_OK;
    const double d = tug_json_f64(v);
    if (!(d >= min && d <= max)) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s%s%s is %.40s; it must be between %g and %g",
                        path, dot(path, key), key, v->v.text, min, max);
    }
    *out = (float)d;
    return TUG_OK;
}

tug_str tug_field_text(const tug_json *object, const char *key) {
    const tug_json *const v = tug_json_get(object, key);
    return tug_json_is(v, TUG_JSON_STRING) ? tug_json_text(v) : tug_str_make(NULL, 0);
}
