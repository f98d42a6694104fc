/* schema_rule.c - from JSON Schemas to rules.
 *
 * A rule is made from a list of schemas that hold together (schema_parts.h); the same list
 * gives the same rule, so a recursive schema gives a graph with cycles.  Rules are made one
 * after another from a list of jobs, not by recursion, however deep the schema nests.
 * schema_finish.c then finds which of them have values at all.
 * SPDX-License-Identifier: MIT */
#include "calls/schema_rule.h"

#include <stdio.h>

#include "base/sys.h"
#include "calls/schema_build.h"
#include "calls/schema_parts.h"

enum { N_BUCKETS = 4096, MAX_RULES = 1 << 17 };

/* Keys, leaves and bytes of texts of one request's schemas: far above what a tool has, and
 * small enough that absurd ones cost less than a second. */
#define MAX_SPENT ((uint64_t)1 << 24)

typedef struct rule_job {
    const tug_json *root;
    const tug_json *const *part; /* (n,) in the arena */
    uint32_t n, next;            /* next: rule of the same bucket, TUG_NO_RULE: none */
} rule_job;

static tug_status no_memory(tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the rules of the tools");
}

void tug_rules_warn(tug_rules *r, int kind, const char *fmt, ...) {
    if (r->warned >> kind & 1) return;
    r->warned |= (uint64_t)1 << kind;
    char line[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (r->warnings.n) tug_buf_char(&r->warnings, '\n');
    tug_buf_text(&r->warnings, line);
}

bool tug_rules_spend(tug_rules *r, uint64_t amount) {
    r->spent += amount < MAX_SPENT ? amount : MAX_SPENT;
    if (r->spent <= MAX_SPENT) return true;
    tug_rules_warn(r, TUG_WARN_SIZE,
                   "a schema is too large to be enforced; parts of it are left free");
    return false;
}

/* ---- jobs ---------------------------------------------------------------------------- */

static uint32_t hash_parts(const tug_parts *parts) {
    uint64_t h = parts->n;
    for (uint32_t i = 0; i < parts->n; i++) {
        h = (h ^ (uint64_t)(uintptr_t)parts->p[i]) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return (uint32_t)h % N_BUCKETS;
}

static bool same_parts(const rule_job *job, const tug_json *root,
                       const tug_parts *parts) {
    return job->root == root && job->n == parts->n &&
           (parts->n == 0 ||
            memcmp(job->part, parts->p, parts->n * sizeof *parts->p) == 0);
}

/* `{"$ref": ...}` alone is the same as where it leads. */
static const tug_json *skip_refs(const tug_json *root, const tug_json *schema) {
    for (int hops = 0; hops < TUG_PARTS_MAX; hops++) {
        const tug_json *const ref = tug_json_get(schema, "$ref");
        if (!tug_json_is(ref, TUG_JSON_STRING) || schema->n != 1) break;
        const tug_json *const to = tug_schema_ref(root, tug_json_text(ref));
        if (!to) break;
        schema = to;
    }
    return schema;
}

static tug_status grow(tug_rules *r, tug_err *err) {
    if (r->n < r->cap) return TUG_OK;
    const uint32_t cap = r->cap ? 2 * r->cap : 64;
    tug_rule *const rule = tug_realloc_array(r->rule, cap, sizeof *rule);
    if (rule) r->rule = rule;
    rule_job *const jobs = tug_realloc_array(r->jobs, cap, sizeof *jobs);
    if (jobs) r->jobs = jobs;
    if (!rule || !jobs) return no_memory(err);
    r->cap = cap;
    return TUG_OK;
}

tug_status tug_rules_request(tug_rules *r, const tug_json *root, const tug_parts *in,
                             uint32_t *out, tug_err *err) {
    tug_parts parts = {.n = 0};
    for (uint32_t i = 0; i < in->n; i++)
        (void)tug_parts_add(&parts, skip_refs(root, in->p[i]));
    *out = 0;
    if (parts.n == 0) return TUG_OK;
    uint32_t *const bucket = &r->bucket[hash_parts(&parts)];
    for (uint32_t id = *bucket; id != TUG_NO_RULE; id = r->jobs[id].next) {
        if (!same_parts(&r->jobs[id], root, &parts)) continue;
        *out = id;
        return TUG_OK;
    }
    if (r->n >= MAX_RULES || !tug_rules_spend(r, 64)) return TUG_OK; /* anything */
    TUG_TRY(grow(r, err));
    const tug_json **const p = tug_arena_array(&r->arena, parts.n, sizeof *p);
    if (!p) return no_memory(err);
    memcpy(p, parts.p, parts.n * sizeof *p);
    r->jobs[r->n] = (rule_job){root, p, parts.n, *bucket};
    r->rule[r->n] = (tug_rule){.height = TUG_RULE_NEVER};
    *bucket = *out = r->n++;
    return TUG_OK;
}

/* ---- one leaf ------------------------------------------------------------------------ */

/* Keywords that restrict a value and are not enforced. */
static const char *const not_enforced[] = {
    "pattern",
    "format",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "not",
    "if",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
};

static void warn_of_keywords(tug_rules *r, const tug_json *part) {
    for (size_t k = 0; k < sizeof not_enforced / sizeof *not_enforced; k++) {
        if (r->warned >> (TUG_WARN_KEYWORD + k) & 1) continue;
        if (!tug_json_get(part, not_enforced[k])) continue;
        tug_rules_warn(r, TUG_WARN_KEYWORD + (int)k,
                       "`%s` in a schema is not enforced while the answer is sampled",
                       not_enforced[k]);
    }
}

static unsigned type_of_name(tug_rules *r, const tug_json *name) {
    static const struct {
        const char *name;
        unsigned types;
    } known[] = {
        {"null", TUG_RULE_NULL},   {"boolean", TUG_RULE_BOOL},
        {"integer", TUG_RULE_INT}, {"number", TUG_RULE_INT | TUG_RULE_NUM},
        {"string", TUG_RULE_STR},  {"object", TUG_RULE_OBJ},
        {"array", TUG_RULE_ARR},   {"any", TUG_RULE_ALL},
    };
    for (size_t i = 0; name->kind == TUG_JSON_STRING && i < sizeof known / sizeof *known;
         i++) {
        if (tug_str_is(tug_json_text(name), known[i].name)) return known[i].types;
    }
    tug_rules_warn(
        r, TUG_WARN_TYPE,
        "a schema has a `type` that JSON Schema does not know; it is left free");
    return TUG_RULE_ALL;
}

/* What the part's `type` allows; 0: it has none. */
static unsigned types_of_part(tug_rules *r, const tug_json *part) {
    const tug_json *const type = tug_json_get(part, "type");
    unsigned types = 0;
    if (!type) return 0;
    if (type->kind == TUG_JSON_ARRAY) {
        for (size_t i = 0; i < type->n; i++)
            types |= type_of_name(r, tug_json_at(type, i));
    } else {
        types = type_of_name(r, type);
    }
    const tug_json *const nullable = tug_json_get(part, "nullable");
    if (types && tug_json_is(nullable, TUG_JSON_BOOL) && nullable->v.truth) {
        types |= TUG_RULE_NULL;
    }
    return types;
}

bool tug_schema_says_object(const tug_json *part) {
    return tug_json_is(tug_json_get(part, "properties"), TUG_JSON_OBJECT) ||
           tug_json_is(tug_json_get(part, "required"), TUG_JSON_ARRAY) ||
           tug_json_get(part, "additionalProperties") ||
           tug_json_get(part, "patternProperties");
}

bool tug_schema_says_array(const tug_json *part) {
    return tug_json_get(part, "items") || tug_json_get(part, "prefixItems");
}

/* Without `type`, `properties` restricts objects only and allows all else.  Nobody means
 * that, so what a schema talks about is taken for its type. */
static unsigned types_of_leaf(tug_rules *r, const tug_parts *leaf) {
    unsigned types = TUG_RULE_ALL, meant = 0;
    bool typed = false;
    for (uint32_t i = 0; i < leaf->n; i++) {
        const tug_json *const part = leaf->p[i];
        if (part->kind == TUG_JSON_BOOL) {
            if (!part->v.truth) return 0;
            continue;
        }
        if (part->kind != TUG_JSON_OBJECT) {
            tug_rules_warn(r, TUG_WARN_NO_SCHEMA,
                           "something that is no schema stands for one; it is left free");
            continue;
        }
        warn_of_keywords(r, part);
        const unsigned own = types_of_part(r, part);
        if (own) types &= own;
        typed = typed || own;
        if (tug_schema_says_object(part)) meant |= TUG_RULE_OBJ;
        if (tug_schema_says_array(part)) meant |= TUG_RULE_ARR;
    }
    return typed || !meant ? types : meant;
}

static unsigned type_of_value(const tug_json *v) {
    switch (v->kind) {
    case TUG_JSON_NULL: return TUG_RULE_NULL;
    case TUG_JSON_BOOL: return TUG_RULE_BOOL;
    case TUG_JSON_NUMBER: return tug_json_is_integer(v) ? TUG_RULE_INT : TUG_RULE_NUM;
    case TUG_JSON_STRING: return TUG_RULE_STR;
    case TUG_JSON_ARRAY: return TUG_RULE_ARR;
    case TUG_JSON_OBJECT: return TUG_RULE_OBJ;
    }
    return 0;
}

static tug_status value_text(tug_build *b, const tug_json *v, tug_str *out,
                             tug_err *err) {
    tug_buf text = {0};
    tug_json_writer w = tug_json_writer_make(&text, TUG_JSON_SPACED);
    tug_json_write_value(&w, v);
    tug_status status = tug_buf_ok(&text, err);
    if (status == TUG_OK) status = tug_build_json(b, tug_buf_view(&text), out, err);
    tug_buf_free(&text);
    return status;
}

static bool same_value(const tug_json *a, const tug_json *b) {
    if (a->kind != b->kind || a->n != b->n) return false;
    switch (a->kind) {
    case TUG_JSON_NULL: return true;
    case TUG_JSON_BOOL: return a->v.truth == b->v.truth;
    case TUG_JSON_NUMBER:
    case TUG_JSON_STRING: return tug_str_eq(tug_json_text(a), tug_json_text(b));
    case TUG_JSON_ARRAY:
    case TUG_JSON_OBJECT: break;
    }
    const size_t n = a->kind == TUG_JSON_OBJECT ? 2 * (size_t)a->n : a->n;
    for (size_t i = 0; i < n; i++) {
        if (!same_value(tug_json_at(a, i), tug_json_at(b, i))) return false;
    }
    return true;
}

/* Do the enum and const of every part have the value, which is the part `from`'s? */
static bool all_have(tug_rules *r, const tug_parts *leaf, uint32_t from,
                     const tug_json *value) {
    for (uint32_t i = 0; i < leaf->n; i++) {
        const tug_json *const one = tug_json_get(leaf->p[i], "const");
        const tug_json *const list = tug_json_get(leaf->p[i], "enum");
        if (i == from || !tug_rules_spend(r, 1)) continue;
        if (one && !same_value(one, value)) return false;
        if (!tug_json_is(list, TUG_JSON_ARRAY)) continue;
        size_t k = 0;
        while (k < list->n && !same_value(tug_json_at(list, k), value)) k++;
        (void)tug_rules_spend(r, k);
        if (k == list->n) return false;
    }
    return true;
}

static tug_status add_fixed(tug_build *b, const tug_parts *leaf, uint32_t from,
                            unsigned types, const tug_json *value, tug_err *err) {
    const unsigned type = type_of_value(value);
    if (!(types & type) || !all_have(b->r, leaf, from, value)) return TUG_OK;
    tug_str json;
    TUG_TRY(value_text(b, value, &json, err));
    const tug_str raw = value->kind == TUG_JSON_STRING ? tug_json_text(value) : json;
    if (!tug_rules_spend(b->r, 16 + json.n)) {
        b->types |= (uint8_t)type;
        return TUG_OK;
    }
    if (b->n_fixed == b->cap_fixed) {
        const size_t cap = b->cap_fixed ? 2 * b->cap_fixed : 16;
        tug_fixed *const p = tug_realloc_array(b->fixed, cap, sizeof *p);
        if (!p) return no_memory(err);
        b->fixed = p;
        b->cap_fixed = cap;
    }
    b->fixed[b->n_fixed++] = (tug_fixed){json, raw, type};
    return TUG_OK;
}

/* The values of the first enum or const; *found: there is one. */
static tug_status add_fixed_values(tug_build *b, const tug_parts *leaf, unsigned types,
                                   bool *found, tug_err *err) {
    *found = false;
    for (uint32_t i = 0; i < leaf->n && !*found; i++) {
        const tug_json *const one = tug_json_get(leaf->p[i], "const");
        const tug_json *const list = tug_json_get(leaf->p[i], "enum");
        if (one) {
            *found = true;
            TUG_TRY(add_fixed(b, leaf, i, types, one, err));
        } else if (tug_json_is(list, TUG_JSON_ARRAY)) {
            *found = true;
            for (size_t k = 0; k < list->n; k++) {
                TUG_TRY(add_fixed(b, leaf, i, types, tug_json_at(list, k), err));
            }
        }
    }
    return TUG_OK;
}

/* An alternative more, or `any` when there are too many. */
static void add_alternative(tug_build *b, tug_parts *list, uint32_t *n, bool *any,
                            const tug_parts *leaf) {
    if (*n == TUG_RULE_MAX_ALT) {
        *any = true;
        tug_rules_warn(
            b->r, TUG_WARN_ALTERNATIVES,
            "a schema has more than %d alternatives of one type; their value is "
            "left free",
            TUG_RULE_MAX_ALT);
        return;
    }
    list[(*n)++] = *leaf;
}

static bool some(const tug_parts *leaf, bool (*says)(const tug_json *part)) {
    for (uint32_t i = 0; i < leaf->n; i++) {
        if (says(leaf->p[i])) return true;
    }
    return false;
}

static bool add_leaf(void *ud, const tug_parts *leaf) {
    tug_build *const b = ud;
    const unsigned types = types_of_leaf(b->r, leaf);
    bool fixed = false;
    b->status = add_fixed_values(b, leaf, types, &fixed, b->err);
    if (b->status != TUG_OK) return false;
    if (fixed || types == 0) return true;
    b->types |= (uint8_t)types;
    if (types & TUG_RULE_OBJ) {
        if (some(leaf, tug_schema_says_object)) {
            add_alternative(b, b->obj, &b->n_obj, &b->any_object, leaf);
        } else {
            b->any_object = true;
        }
    }
    if (types & TUG_RULE_ARR) {
        if (some(leaf, tug_schema_says_array)) {
            add_alternative(b, b->arr, &b->n_arr, &b->any_array, leaf);
        } else {
            b->any_array = true;
        }
    }
    return true;
}

/* ---- rules --------------------------------------------------------------------------- */

static tug_status build_rule(tug_build *b, const tug_parts *parts, uint32_t id,
                             tug_err *err) {
    if (!tug_schema_leaves(b->r, b->root, parts, add_leaf, b) && b->status == TUG_OK) {
        tug_rules_warn(b->r, TUG_WARN_ALTERNATIVES,
                       "a schema has too many alternatives; its value is left free");
        b->types = TUG_RULE_ALL;
        b->any_object = b->any_array = true;
    }
    TUG_TRY(b->status);
    tug_rule made = {.types = b->types, .height = TUG_RULE_NEVER};
    if (b->n_obj && !b->any_object) TUG_TRY(tug_build_object(b, &made, err));
    if (b->n_arr && !b->any_array) TUG_TRY(tug_build_array(b, &made, err));
    TUG_TRY(tug_build_texts(b, &made, err));
    b->r->rule[id] = made;
    return TUG_OK;
}

static tug_status make_next(tug_rules *r, tug_err *err) {
    const uint32_t id = r->n_done++;
    const rule_job job = r->jobs[id];
    tug_parts parts = {.n = job.n};
    memcpy(parts.p, job.part, job.n * sizeof *parts.p);
    tug_build *const b = tug_alloc_zero(sizeof *b);
    if (!b) return no_memory(err);
    b->r = r;
    b->root = job.root;
    b->err = err;
    const tug_status status = build_rule(b, &parts, id, err);
    tug_free(b->fixed);
    tug_free(b);
    return status;
}

tug_status tug_rules_init(tug_rules *r, tug_err *err) {
    r->bucket = tug_alloc_array(N_BUCKETS, sizeof *r->bucket);
    if (!r->bucket) return no_memory(err);
    for (int i = 0; i < N_BUCKETS; i++) r->bucket[i] = TUG_NO_RULE;
    TUG_TRY(grow(r, err));
    r->rule[0] = (tug_rule){.types = TUG_RULE_ALL};
    r->jobs[0] = (rule_job){.next = TUG_NO_RULE};
    r->n = r->n_done = 1;
    return TUG_OK;
}

void tug_rules_free(tug_rules *r) {
    tug_arena_free(&r->arena);
    tug_buf_free(&r->warnings);
    tug_free(r->rule);
    tug_free(r->jobs);
    tug_free(r->bucket);
    *r = (tug_rules){.n = 0};
}

tug_status tug_rules_add(tug_rules *r, const tug_json *schema, uint32_t *out,
                         tug_err *err) {
    *out = 0;
    if (!schema) return TUG_OK;
    tug_parts parts = {.p = {schema}, .n = 1};
    const uint32_t first = r->n_done;
    TUG_TRY(tug_rules_request(r, schema, &parts, out, err));
    while (r->n_done < r->n) TUG_TRY(make_next(r, err));
    TUG_TRY(tug_rules_finish(r, first, err));
    return tug_buf_ok(&r->warnings, err);
}
