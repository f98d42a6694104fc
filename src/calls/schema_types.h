/* schema_types.h - which types of value a JSON Schema admits.
 *
 * Schemas come from clients and may be anything: no call here fails, a schema that refers
 * to itself or branches without end is cut off (TUG_SCHEMA_DEPTH, TUG_SCHEMA_NODES), and
 * what was not understood counts as "nothing said".  SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_SCHEMA_TYPES_H
#define TUG_CALLS_SCHEMA_TYPES_H

#include <stdbool.h>

#include "base/str.h"
#include "json/json.h"

enum {
    TUG_TYPE_STRING = 1 << 0,
    TUG_TYPE_NULL = 1 << 1,
    TUG_TYPE_BOOLEAN = 1 << 2,
    TUG_TYPE_INTEGER = 1 << 3,
    TUG_TYPE_NUMBER = 1 << 4, /* never without TUG_TYPE_INTEGER */
    TUG_TYPE_ARRAY = 1 << 5,
    TUG_TYPE_OBJECT = 1 << 6
};
typedef unsigned tug_type_set; /* 0: nothing said, so any */

enum {
    TUG_SCHEMA_DEPTH = 16,  /* of $ref, anyOf, oneOf, allOf below one another */
    TUG_SCHEMA_NODES = 1024 /* schemas looked at to answer one question */
};

/* Of `type` (a name or a list), `nullable`, `enum`, `const`, `$ref`, `anyOf`, `oneOf` and
 * `allOf`; only where these say nothing, of `items` and `properties`.  `root` is where a
 * `$ref` begins ("#/$defs/x").  Either may be NULL. */
tug_type_set tug_schema_types(const tug_json *root, const tug_json *schema);

/* What a `$ref` of `schema` points at, through several if need be; `schema` itself when it
 * has none, NULL when it leads nowhere. */
const tug_json *tug_schema_resolve(const tug_json *root, const tug_json *schema);

/* The schema that an object's schema `root` has for the member `key`, also through `$ref`,
 * `allOf`, `anyOf` and `oneOf`; NULL when it names no such member. */
const tug_json *tug_schema_property(const tug_json *root, tug_str key);

/* Does `root` demand the member?  Through `$ref` and `allOf`. */
bool tug_schema_requires(const tug_json *root, tug_str key);

#endif
