/* call_args.h - the arguments of one call as JSON text, while its values still arrive.
 *
 * A value that can only be a string goes out as it comes; one that may be something else
 * waits for its end, because its first byte depends on its last ("12" or "12 apples").
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_CALL_ARGS_H
#define TUG_CALLS_CALL_ARGS_H

#include "calls/key_set.h"
#include "calls/schema_types.h"
#include "calls/tool.h"

typedef enum tug_value_mode {
    TUG_VALUE_SKIP,     /* of a key that had a value: the first one wins */
    TUG_VALUE_STRING,   /* goes out as it comes */
    TUG_VALUE_NULLABLE, /* a string, unless all of it means null */
    TUG_VALUE_WHOLE     /* converted at its end */
} tug_value_mode;

/* Zero-initialise it; tug_call_args_free is always safe.  Failures of memory are sticky in
 * the buffers: tug_call_args_ok. */
typedef struct tug_call_args {
    tug_buf json;           /* not taken yet; take with tug_call_args_clear */
    tug_buf value;          /* of the open value: what is not in `json` yet */
    tug_buf key;            /* its key as JSON, and what stands before and after it */
    tug_key_set seen;       /* keys of this call */
    const tug_json *schema; /* borrowed or NULL: all members are strings */
    tug_value_mode mode;
    tug_type_set types;
    bool required;
    bool any; /* a member was written */
} tug_call_args;

void tug_call_args_begin(tug_call_args *a, const tug_json *schema);
TUG_NODISCARD tug_status tug_call_args_begin_value(tug_call_args *a, tug_str key,
                                                   tug_err *err);
void tug_call_args_put(tug_call_args *a, tug_str bytes);
TUG_NODISCARD tug_status tug_call_args_end_value(tug_call_args *a, tug_err *err);
void tug_call_args_end(tug_call_args *a);
TUG_NODISCARD tug_status tug_call_args_ok(const tug_call_args *a, tug_err *err);
void tug_call_args_free(tug_call_args *a);

/* Bytes at the end of p[0..n) that are the beginning of a character. */
size_t tug_cut_character(const char *p, size_t n);

#endif
