/* schema_parts.h - one schema taken apart into simple ones.
 *
 * $ref and allOf say "and": they become a list of schemas that hold together, its parts.
 * anyOf and oneOf say "or": each choice gives a list of its own, a leaf.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_SCHEMA_PARTS_H
#define TUG_CALLS_SCHEMA_PARTS_H

#include "calls/schema_rule.h"

enum { TUG_PARTS_MAX = 32 };

typedef struct tug_parts {
    const tug_json *p[TUG_PARTS_MAX]; /* (n,) each once */
    uint32_t n;
} tug_parts;

/* False: no room.  A schema that is there already is not added again. */
bool tug_parts_add(tug_parts *parts, const tug_json *schema);

/* Where a local $ref of a document leads; NULL: nowhere, or not in this document. */
const tug_json *tug_schema_ref(const tug_json *root, tug_str ref);

/* Tells each leaf of `parts`.  False when there are too many of them, or `leaf` said so. */
typedef bool tug_schema_leaf_fn(void *ud, const tug_parts *leaf);
bool tug_schema_leaves(tug_rules *r, const tug_json *root, const tug_parts *parts,
                       tug_schema_leaf_fn *leaf, void *ud);

/* Adds what $ref and allOf of the parts name. */
void tug_schema_join(tug_rules *r, const tug_json *root, tug_parts *parts);

#endif
