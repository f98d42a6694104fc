/* request_fields.c - fields that mean the same in several APIs; see request_impl.h.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "api/request_impl.h"

tug_status tug_api_read_common(const tug_json *body, tug_api_request *out, tug_err *err) {
    TUG_TRY(tug_field_str(body, "", "model", &out->model, err));
    TUG_TRY(tug_field_bool(body, "", "stream", &out->stream, err));
    return tug_field_bool(body, "", "cache_prompt", &out->cache_prompt, err);
}

tug_status tug_api_read_limit(const tug_json *body, const char *key, tug_api_request *out,
                              tug_err *err) {
    int64_t n = out->max_tokens;
    TUG_TRY(tug_field_i64(body, "", key, -1, INT64_MAX, &n, err));
    out->max_tokens = n > 0 ? n : 0;
    return TUG_OK;
}

tug_status tug_api_read_n(const tug_json *body, tug_api_request *out, tug_err *err) {
    int64_t n = 1;
    TUG_TRY(tug_field_i64(body, "", "n", 1, TUG_API_MAX_CHOICES, &n, err));
    out->n_choices = (int32_t)n;
    return TUG_OK;
}

tug_status tug_api_read_stream_options(const tug_json *body, tug_api_request *out,
                                       tug_err *err) {
    const tug_json *options = NULL;
    TUG_TRY(tug_field_object(body, "", "stream_options", &options, err));
    return tug_field_bool(options, "stream_options", "include_usage", &out->include_usage,
                          err);
}

tug_status tug_api_refuse_grammar(const tug_json *body, tug_err *err) {
    const tug_json *const v = tug_json_get(body, "grammar");
    if (!tug_json_is(v, TUG_JSON_STRING) || v->n == 0) return TUG_OK;
    return TUG_FAIL(err, TUG_EUNSUPPORTED,
                    "grammar is not supported; ask for a response_format of type "
                    "json_schema, or leave it out");
}

/* ---- sampling ------------------------------------------------------------------------ */

/* Any integer of 64 bits, signed or not. */
static tug_status read_seed(const tug_json *body, tug_api_sampling *out, tug_err *err) {
    const tug_json *const v = tug_json_get(body, "seed");
    if (!tug_field_is_said(v)) return TUG_OK;
    if (v->kind == TUG_JSON_NUMBER && tug_json_is_integer(v) && v->v.text[0] != '-') {
        errno = 0;
        out->seed = strtoull(v->v.text, NULL, 10);
        if (errno == ERANGE) {
            return TUG_FAIL(err, TUG_EFORMAT,
                            "seed is %.40s; it must be an integer of at most 64 bits",
                            v->v.text);
        }
    } else {
        int64_t i; /* the two ends also stand for everything beyond them */
        TUG_TRY(tug_field_value_i64(v, "seed", INT64_MIN + 1, INT64_MAX - 1, &i, err));
        out->seed = (uint64_t)i;
    }
    out->has_seed = true;
    return TUG_OK;
}

/* A key of logit_bias: a token id in decimal digits. */
static bool read_id(tug_str key, int32_t *out) {
    int64_t id = 0;
    if (key.n == 0 || key.n > 10) return false;
    for (size_t i = 0; i < key.n; i++) {
        if (key.p[i] < '0' || key.p[i] > '9') return false;
        id = 10 * id + (key.p[i] - '0');
    }
    if (id > INT32_MAX) return false;
    *out = (int32_t)id;
    return true;
}

static tug_status read_bias(const tug_json *body, tug_arena *arena, tug_api_sampling *out,
                            tug_err *err) {
    const tug_json *v = NULL;
    TUG_TRY(tug_field_object(body, "", "logit_bias", &v, err));
    if (!v || v->n == 0) return TUG_OK;
    tug_api_bias *const bias = tug_arena_array(arena, v->n, sizeof *bias);
    if (!bias) return tug_field_no_memory(err);
    for (size_t i = 0; i < v->n; i++) {
        const tug_json *const value = tug_json_value(v, i);
        if (!read_id(tug_json_key(v, i), &bias[i].id)) {
            return TUG_FAIL(err, TUG_EFORMAT,
                            "logit_bias has the key \"%.40s\"; each key must be a token "
                            "id, a whole number from 0",
                            tug_json_key(v, i).p);
        }
        const tug_field_path path =
            tug_field_path_make("logit_bias[\"%d\"]", (int)bias[i].id);
        if (value->kind != TUG_JSON_NUMBER || !(tug_json_f64(value) >= -100.0) ||
            !(tug_json_f64(value) <= 100.0)) {
            return tug_field_wrong(err, path.text, "", value,
                                   "a number between -100 and 100");
        }
        bias[i].bias = (float)tug_json_f64(value);
    }
    out->bias = bias;
    out->n_bias = v->n;
    return TUG_OK;
}

tug_status tug_api_read_sampling(const tug_json *body, tug_arena *arena,
                                 tug_api_sampling *out, tug_err *err) {
    const struct {
        const char *key;
        double min, max;
        float *out;
    } field[] = {
        {"temperature", 0.0, 100.0, &out->temperature},
        {"top_p", 0.0, 1.0, &out->top_p},
        {"min_p", 0.0, 1.0, &out->min_p},
        {"repetition_penalty", 0.01, 100.0, &out->repeat_penalty},
        {"repeat_penalty", 0.01, 100.0, &out->repeat_penalty},
        {"presence_penalty", -2.0, 2.0, &out->presence_penalty},
        {"frequency_penalty", -2.0, 2.0, &out->frequency_penalty},
    };
    for (size_t i = 0; i < sizeof field / sizeof *field; i++) {
        TUG_TRY(tug_field_f32(body, "", field[i].key, field[i].min, field[i].max,
                              field[i].out, err));
    }
    int64_t top_k = out->top_k;
    TUG_TRY(tug_field_i64(body, "", "top_k", -1, INT64_MAX, &top_k, err));
    out->top_k = top_k > INT32_MAX ? INT32_MAX : (int32_t)top_k;
    TUG_TRY(read_seed(body, out, err));
    return read_bias(body, arena, out, err);
}

/* ---- stop ---------------------------------------------------------------------------- */

tug_status tug_api_read_stop(const tug_json *body, const char *key, tug_arena *arena,
                             tug_api_request *out, tug_err *err) {
    const tug_json *const v = tug_json_get(body, key);
    if (!tug_field_is_said(v)) return TUG_OK;
    const bool is_list = v->kind == TUG_JSON_ARRAY;
    if (!is_list && v->kind != TUG_JSON_STRING) {
        return tug_field_wrong(err, "", key, v, "a string or an array of strings");
    }
    const size_t n = is_list ? v->n : 1;
    if (n > TUG_API_MAX_STOPS) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s has %zu strings; it may have at most %d",
                        key, n, (int)TUG_API_MAX_STOPS);
    }
    tug_str *const stop = tug_arena_array(arena, n, sizeof *stop);
    if (!stop) return tug_field_no_memory(err);
    out->stop = stop;
    out->n_stop = 0;
    for (size_t i = 0; i < n; i++) {
        const tug_json *const s = is_list ? tug_json_at(v, i) : v;
        if (s->kind != TUG_JSON_STRING) {
            return tug_field_wrong(err, tug_field_path_make("%s[%zu]", key, i).text, "",
                                   s, "a string");
        }
        if (s->n > 0) stop[out->n_stop++] = tug_json_text(s);
    }
    return TUG_OK;
}

/* ---- the format of the answer ---------------------------------------------------------- */

/* The schema, in the member that the type names or beside the type. */
static tug_status read_schema(const tug_json *format, const char *path,
                              tug_api_request *out, tug_err *err) {
    const tug_json *wrapped = NULL;
    TUG_TRY(tug_field_object(format, path, "json_schema", &wrapped, err));
    const tug_json *const schema = tug_json_get(wrapped ? wrapped : format, "schema");
    if (!tug_field_is_said(schema)) return TUG_OK;
    if (schema->kind != TUG_JSON_OBJECT && schema->kind != TUG_JSON_BOOL) {
        const tug_field_path inner =
            tug_field_path_make("%s%s", path, wrapped ? ".json_schema" : "");
        return tug_field_wrong(err, inner.text, "schema", schema,
                               "a JSON Schema, an object");
    }
    out->schema = schema;
    out->format = TUG_FORMAT_JSON_SCHEMA;
    return TUG_OK;
}

tug_status tug_api_read_format(const tug_json *format, const char *path,
                               tug_api_request *out, tug_err *err) {
    if (!tug_field_is_said(format)) return TUG_OK;
    if (format->kind != TUG_JSON_OBJECT) {
        return tug_field_wrong(err, path, "", format, "an object with a type");
    }
    tug_str type = tug_str_of("text");
    TUG_TRY(tug_field_str(format, path, "type", &type, err));
    if (tug_str_is(type, "text")) return TUG_OK;
    if (!tug_str_is(type, "json_object") && !tug_str_is(type, "json_schema")) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s.type is \"%.40s\"; it must be text, json_object or "
                        "json_schema",
                        path, type.p);
    }
    out->format = TUG_FORMAT_JSON;
    return read_schema(format, path, out, err);
}
