/* schema_build.h - what the files that make rules share.  SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_SCHEMA_BUILD_H
#define TUG_CALLS_SCHEMA_BUILD_H

#include "calls/schema_parts.h"
#include "calls/schema_rule.h"

/* A value of an enum or const. */
typedef struct tug_fixed {
    tug_str json, raw;
    unsigned type;
} tug_fixed;

/* One rule in the making: everything that its leaves allow. */
typedef struct tug_build {
    tug_rules *r;
    const tug_json *root;
    tug_status status; /* of what happened inside of add_leaf */
    tug_err *err;
    uint8_t types;
    bool any_object, any_array;
    tug_fixed *fixed; /* owned, (n_fixed,) */
    size_t n_fixed, cap_fixed;
    uint32_t n_obj, n_arr;
    tug_parts obj[TUG_RULE_MAX_ALT], arr[TUG_RULE_MAX_ALT];
} tug_build;

bool tug_schema_says_object(const tug_json *part);
bool tug_schema_says_array(const tug_json *part);

/* False, and a warning: the schemas of this request are absurdly large. */
bool tug_rules_spend(tug_rules *r, uint64_t amount);

/* The rule of schemas that hold together; made later. */
TUG_NODISCARD tug_status tug_rules_request(tug_rules *r, const tug_json *root,
                                           const tug_parts *parts, uint32_t *out,
                                           tug_err *err);

/* schema_object.c */
TUG_NODISCARD tug_status tug_build_object(tug_build *b, tug_rule *out, tug_err *err);
TUG_NODISCARD tug_status tug_build_array(tug_build *b, tug_rule *out, tug_err *err);

/* schema_finish.c */

/* A copy of a JSON text that the schema fixes, with tags that may not be in one escaped. */
TUG_NODISCARD tug_status tug_build_json(tug_build *b, tug_str json, tug_str *out,
                                        tug_err *err);
TUG_NODISCARD tug_status tug_build_texts(tug_build *b, tug_rule *out, tug_err *err);
TUG_NODISCARD tug_status tug_rules_finish(tug_rules *r, uint32_t first, tug_err *err);

#endif
