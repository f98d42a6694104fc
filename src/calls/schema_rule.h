/* schema_rule.h - JSON Schemas as tables that a byte automaton can walk.
 *
 * OWNS  which values a schema allows, as far as a walk from left to right can hold them:
 *       types, enum and const, properties, required, other keys, items, and alternatives.
 * NOT   the walk (json_walk.h), the text of a call (constraint.c).
 *
 * A rule is what may stand at one place.  Its first byte says which kind of value comes:
 * one of `texts` (enum, const), a scalar, an object, an array.  Objects and arrays may have
 * several alternatives (anyOf, oneOf); which of them are still possible is kept as bits
 * while the value is written.
 *
 * Nothing that a client sends makes the building fail, except memory: what is not
 * understood restricts nothing, and one sentence per kind says so.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_SCHEMA_RULE_H
#define TUG_CALLS_SCHEMA_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"
#include "json/json.h"

enum {
    TUG_RULE_NULL = 1 << 0,
    TUG_RULE_BOOL = 1 << 1,
    TUG_RULE_INT = 1 << 2, /* digits only */
    TUG_RULE_NUM = 1 << 3, /* any number */
    TUG_RULE_STR = 1 << 4,
    TUG_RULE_OBJ = 1 << 5,
    TUG_RULE_ARR = 1 << 6,
    TUG_RULE_ALL = (1 << 7) - 1
};

#define TUG_NO_RULE UINT32_MAX

enum {
    TUG_RULE_DEPTH = 40,    /* objects and arrays inside of each other that have rules */
    TUG_RULE_MAX_ALT = 16,  /* alternatives of objects at one place; of arrays too */
    TUG_RULE_MAX_BITS = 64, /* keys of one object that can be told to be there already */
    TUG_RULE_NEVER = 255    /* height of what has no finite value */
};

/* One of several fixed texts, and of which alternatives it is. */
typedef struct tug_rule_text {
    tug_str text;
    uint32_t alts;
} tug_rule_text;

typedef struct tug_rule_texts {
    const tug_rule_text *p; /* (n,) sorted by bytes, each once */
    uint32_t n;
} tug_rule_texts;

typedef struct tug_rule_key {
    tug_str text;          /* as it stands between the quotes */
    uint32_t bit;          /* in tug_rule_alt.required; TUG_RULE_MAX_BITS: has none */
    bool plain;            /* can be the name in <parameter=NAME> */
    const uint32_t *child; /* (n_alt,) rule of the value; TUG_NO_RULE: not allowed */
    /* Where the alternatives have different rules, all of them fixed texts: those of all
     * together, which tell the alternatives apart. */
    tug_rule_texts json, raw;
} tug_rule_key;

typedef struct tug_rule_alt {
    uint64_t required;
    uint32_t rest;  /* rule of keys that are not in the list; TUG_NO_RULE: none */
    uint8_t height; /* levels that its shortest value takes, or TUG_RULE_NEVER */
} tug_rule_alt;

typedef struct tug_rule_object {
    tug_rule_key *key; /* (n_key,) sorted by text */
    uint32_t n_key, n_alt;
    tug_rule_alt *alt; /* (n_alt,) */
} tug_rule_object;

typedef struct tug_rule_items {
    const uint32_t *prefix; /* (n_prefix,) */
    uint32_t n_prefix;
    uint32_t rest; /* rule of the elements after them; TUG_NO_RULE: none */
} tug_rule_items;

typedef struct tug_rule_array {
    const tug_rule_items *alt; /* (n_alt,) */
    uint32_t n_alt;
} tug_rule_array;

typedef struct tug_rule {
    uint8_t types;            /* TUG_RULE_*, beside the texts */
    uint8_t height;           /* as tug_rule_alt */
    tug_rule_texts json, raw; /* fixed values as JSON; the same, strings without quotes */
    tug_rule_object *object;  /* NULL: any, if types says OBJ */
    const tug_rule_array *array; /* NULL: any, if types says ARR */
} tug_rule;

/* Zero-initialise it and call tug_rules_init; tug_rules_free is always safe. */
typedef struct tug_rules {
    tug_arena arena;
    tug_rule *rule; /* owned, (n,); rule 0 allows anything */
    uint32_t n, cap;
    tug_buf warnings;      /* one sentence per line */
    uint64_t warned;       /* bits of the sentences that are there */
    struct rule_job *jobs; /* owned, (n,): what each rule is made from */
    uint32_t jobs_cap;
    uint32_t n_done;  /* rules that are made */
    uint32_t *bucket; /* owned: hash of a job -> its rule */
    uint64_t spent;   /* keys and texts so far, against a bound on absurd schemas */
} tug_rules;

TUG_NODISCARD tug_status tug_rules_init(tug_rules *r, tug_err *err);
void tug_rules_free(tug_rules *r);

/* The rule of `schema`, a whole document (for its $refs); NULL: anything.  Slices into the
 * document are kept. */
TUG_NODISCARD tug_status tug_rules_add(tug_rules *r, const tug_json *schema,
                                       uint32_t *out, tug_err *err);

/* Can anything be written for it, and with how many levels left at least? */
static inline bool tug_rule_fits(const tug_rules *r, uint32_t id, unsigned levels) {
    return id != TUG_NO_RULE && r->rule[id].height <= levels;
}

/* The range [*lo, *hi) of texts that agree with one more byte at `pos`; empty: none. */
void tug_rule_narrow(tug_rule_texts texts, uint32_t pos, unsigned char byte, uint32_t *lo,
                     uint32_t *hi);

void tug_rules_warn(tug_rules *r, int kind, const char *fmt, ...) TUG_PRINTF(3, 4);

/* Kinds of sentences, each said once. */
enum {
    TUG_WARN_REF = 0,
    TUG_WARN_TYPE,
    TUG_WARN_NO_SCHEMA,
    TUG_WARN_NEVER,
    TUG_WARN_ALTERNATIVES,
    TUG_WARN_DISTINCT,
    TUG_WARN_PATTERN_KEYS,
    TUG_WARN_SIZE,
    TUG_WARN_REQUIRED,
    TUG_WARN_NAME,
    TUG_WARN_NAMED_TOOL,
    TUG_WARN_ENUM,
    TUG_WARN_KEYWORD /* the first of the keywords that are not enforced */
};

#endif
