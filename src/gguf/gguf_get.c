/* gguf_get.c - metadata as the types that callers want.
 *
 * A missing key is no error here: the caller has set its default.  A key that is there
 * and is something else always is.  SPDX-License-Identifier: MIT */
#include <float.h>
#include <math.h>

#include "base/sys.h"
#include "gguf/gguf_part.h"

static tug_status wrong_kind(const tug_gguf *g, const char *key, const char *wanted,
                             tug_err *err) {
    return TUG_FAIL(err, TUG_EFORMAT, "%.80s: key '%s' must be %s", tug_gguf_path(g), key,
                    wanted);
}

static bool lookup(const tug_gguf *g, const char *key, tug_gguf_kv *kv, bool *found) {
    const bool there = tug_gguf_find(g, key, kv);
    if (found) *found = there;
    return there;
}

tug_status tug_gguf_get_u32(const tug_gguf *g, const char *key, uint32_t *out,
                            bool *found, tug_err *err) {
    tug_gguf_kv kv;
    if (!lookup(g, key, &kv, found)) return TUG_OK;
    int64_t v;
    if (!tug_gguf_as_i64(&kv, &v) || v < 0 || v > UINT32_MAX) {
        return wrong_kind(g, key, "a whole number from 0 to 4294967295", err);
    }
    *out = (uint32_t)v;
    return TUG_OK;
}

tug_status tug_gguf_get_f32(const tug_gguf *g, const char *key, float *out, bool *found,
                            tug_err *err) {
    tug_gguf_kv kv;
    if (!lookup(g, key, &kv, found)) return TUG_OK;
    if (kv.type != TUG_GGUF_F32 && kv.type != TUG_GGUF_F64) {
        return wrong_kind(g, key, "a floating-point number", err);
    }
    if (isfinite(kv.v.f) && fabs(kv.v.f) > (double)FLT_MAX) {
        return wrong_kind(g, key, "a number that fits 32-bit floating point", err);
    }
    *out = (float)kv.v.f;
    return TUG_OK;
}

tug_status tug_gguf_get_bool(const tug_gguf *g, const char *key, bool *out, bool *found,
                             tug_err *err) {
    tug_gguf_kv kv;
    if (!lookup(g, key, &kv, found)) return TUG_OK;
    if (kv.type != TUG_GGUF_BOOL) return wrong_kind(g, key, "true or false", err);
    *out = kv.v.b;
    return TUG_OK;
}

tug_status tug_gguf_get_str(const tug_gguf *g, const char *key, tug_str *out, bool *found,
                            tug_err *err) {
    tug_gguf_kv kv;
    if (!lookup(g, key, &kv, found)) return TUG_OK;
    if (kv.type != TUG_GGUF_STRING) return wrong_kind(g, key, "a text", err);
    *out = kv.s;
    return TUG_OK;
}

/* ---- arrays ----------------------------------------------------------------------- */

bool tug_gguf_next_elem(const tug_gguf_kv *array, uint64_t *at, tug_gguf_kv *elem) {
    tug_cursor c = tug_cursor_make(array->raw.p, array->raw.n);
    c.at = *at;
    *elem = (tug_gguf_kv){.type = array->elem_type};
    if (!tug_gguf_read_scalar(&c, elem)) return false;
    if (elem->type == TUG_GGUF_BOOL) elem->v.b = elem->v.u != 0;
    *at = c.at;
    return true;
}

static tug_status no_memory(const tug_gguf *g, const char *key, tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the array '%s' of %.80s", key,
                    tug_gguf_path(g));
}

tug_status tug_gguf_get_strings(const tug_gguf *g, const char *key, tug_str **out,
                                uint64_t *n, bool *found, tug_err *err) {
    tug_gguf_kv kv;
    if (!lookup(g, key, &kv, found)) return TUG_OK;
    if (kv.type != TUG_GGUF_ARRAY || kv.elem_type != TUG_GGUF_STRING) {
        return wrong_kind(g, key, "an array of texts", err);
    }
    tug_str *strings = tug_alloc_array((size_t)kv.n, sizeof *strings);
    if (!strings) return no_memory(g, key, err);
    tug_gguf_kv elem;
    uint64_t at = 0, i = 0;
    while (i < kv.n && tug_gguf_next_elem(&kv, &at, &elem)) strings[i++] = elem.s;
    if (i < kv.n) { /* it had n elements a moment ago */
        tug_free(strings);
        return TUG_FAIL(err, TUG_EIO,
                        "%.80s changed while key '%s' was read: is it still being "
                        "downloaded?",
                        tug_gguf_path(g), key);
    }
    *out = strings;
    *n = kv.n;
    return TUG_OK;
}

tug_status tug_gguf_get_i32s(const tug_gguf *g, const char *key, int32_t **out,
                             uint64_t *n, bool *found, tug_err *err) {
    tug_gguf_kv kv;
    if (!lookup(g, key, &kv, found)) return TUG_OK;
    static const char wanted[] = "an array of whole numbers that fit 32 bits";
    if (kv.type != TUG_GGUF_ARRAY) return wrong_kind(g, key, wanted, err);
    int32_t *numbers = tug_alloc_array((size_t)kv.n, sizeof *numbers);
    if (!numbers) return no_memory(g, key, err);
    uint64_t at = 0;
    for (uint64_t i = 0; i < kv.n; i++) {
        tug_gguf_kv elem;
        int64_t v;
        if (!tug_gguf_next_elem(&kv, &at, &elem) || !tug_gguf_as_i64(&elem, &v) ||
            v < INT32_MIN || v > INT32_MAX) {
            tug_free(numbers);
            return wrong_kind(g, key, wanted, err);
        }
        numbers[i] = (int32_t)v;
    }
    *out = numbers;
    *n = kv.n;
    return TUG_OK;
}
