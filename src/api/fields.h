/* fields.h - typed fields of a JSON object, with sentences that name the field.
 *
 * Every reader takes the object, the object's own path ("" for the body, else like
 * "tools[3].function") and the key.  A field that is missing or null leaves *out as it
 * is, so the caller puts the default there first.  A wrong one is TUG_EFORMAT with a
 * sentence that begins with the whole path: `tools[3].function.name is a number; it must
 * be a string`.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_API_FIELDS_H
#define TUG_API_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"
#include "json/json.h"

/* Enough for any path that we build; a longer one is cut. */
enum { TUG_FIELD_PATH = 96 };

typedef struct tug_field_path {
    char text[TUG_FIELD_PATH];
} tug_field_path;

/* tug_field_path_make("messages[%zu]", i).text */
tug_field_path tug_field_path_make(const char *fmt, ...) TUG_PRINTF(1, 2);

/* Is there a value, and not null? */
static inline bool tug_field_is_said(const tug_json *value) {
    return value && value->kind != TUG_JSON_NULL;
}

/* `<path>.<key> is <what it is>; it must be <wanted>`. */
tug_status tug_field_wrong(tug_err *err, const char *path, const char *key,
                           const tug_json *value, const char *wanted);

/* TUG_ENOMEM, the same sentence everywhere. */
tug_status tug_field_no_memory(tug_err *err);

TUG_NODISCARD tug_status tug_field_str(const tug_json *object, const char *path,
                                       const char *key, tug_str *out, tug_err *err);
TUG_NODISCARD tug_status tug_field_bool(const tug_json *object, const char *path,
                                        const char *key, bool *out, tug_err *err);

/* A number without a fraction, however it is written (5, 5.0, 5e0), from min to max.
 * INT64_MAX as max takes everything above too, as INT64_MAX. */
TUG_NODISCARD tug_status tug_field_i64(const tug_json *object, const char *path,
                                       const char *key, int64_t min, int64_t max,
                                       int64_t *out, tug_err *err);
TUG_NODISCARD tug_status tug_field_f32(const tug_json *object, const char *path,
                                       const char *key, double min, double max,
                                       float *out, tug_err *err);

/* The ARRAY or OBJECT. */
TUG_NODISCARD tug_status tug_field_array(const tug_json *object, const char *path,
                                         const char *key, const tug_json **out,
                                         tug_err *err);
TUG_NODISCARD tug_status tug_field_object(const tug_json *object, const char *path,
                                          const char *key, const tug_json **out,
                                          tug_err *err);

/* As tug_field_i64, of a value by itself that `path` names. */
TUG_NODISCARD tug_status tug_field_value_i64(const tug_json *value, const char *path,
                                             int64_t min, int64_t max, int64_t *out,
                                             tug_err *err);

/* The text of a member; p == NULL when it is none: for what is only looked at if it fits. */
tug_str tug_field_text(const tug_json *object, const char *key);

#endif
