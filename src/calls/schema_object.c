/* schema_object.c - the keys of objects and the elements of arrays.
 *
 * A key is allowed when a schema names it, or when one says that others are (with
 * `additionalProperties`, or by naming none).  JSON Schema's own default, that any other
 * key is fine, would have the model invent keys.  SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "base/sys.h"
#include "calls/call_lexer.h"
#include "calls/schema_build.h"

/* One mention of a key: in `properties`, or (schema NULL) in `required`. */
typedef struct mention {
    tug_str text, name;
    uint32_t alt, part;
    const tug_json *schema;
} mention;

typedef struct mentions {
    mention *p; /* owned, (n,) */
    size_t n;
} mentions;

static tug_status no_memory(tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the rules of the tools");
}

/* ---- keys ---------------------------------------------------------------------------- */

static bool needs_escape(tug_str s) {
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == '<') return true;
    }
    return false;
}

/* A name that the parser of calls takes. */
static bool is_plain(tug_str name) {
    for (size_t i = 0; i < name.n; i++) {
        const unsigned char c = (unsigned char)name.p[i];
        if (c <= 0x20 || c == 0x7f || strchr("{}<>\"'\\", c)) return false;
    }
    return name.n > 0 && name.n <= TUG_NAME_MAX;
}

static tug_status key_text(tug_build *b, tug_str name, tug_str *out, tug_err *err) {
    *out = name;
    if (!needs_escape(name)) return TUG_OK;
    tug_buf text = {0};
    tug_json_writer w = tug_json_writer_make(&text, TUG_JSON_COMPACT);
    tug_json_write_str(&w, name);
    tug_status status = tug_buf_ok(&text, err);
    if (status == TUG_OK) {
        status = tug_build_json(b, tug_str_make(text.p + 1, text.n - 2), out, err);
    }
    tug_buf_free(&text);
    return status;
}

static int order(const void *x, const void *y) {
    const mention *const a = x, *const b = y;
    const size_t n = a->text.n < b->text.n ? a->text.n : b->text.n;
    const int cmp = n ? memcmp(a->text.p, b->text.p, n) : 0;
    if (cmp) return cmp;
    if (a->text.n != b->text.n) return a->text.n < b->text.n ? -1 : 1;
    if (a->alt != b->alt) return a->alt < b->alt ? -1 : 1;
    return a->part < b->part ? -1 : a->part > b->part;
}

static size_t count_mentions(const tug_build *b) {
    size_t n = 0;
    for (uint32_t a = 0; a < b->n_obj; a++) {
        for (uint32_t i = 0; i < b->obj[a].n; i++) {
            const tug_json *const names = tug_json_get(b->obj[a].p[i], "properties");
            const tug_json *const needed = tug_json_get(b->obj[a].p[i], "required");
            if (tug_json_is(names, TUG_JSON_OBJECT)) n += names->n;
            if (tug_json_is(needed, TUG_JSON_ARRAY)) n += needed->n;
        }
    }
    return n;
}

static tug_status add_mentions(tug_build *b, mentions *m, uint32_t alt, uint32_t part,
                               tug_err *err) {
    const tug_json *const names = tug_json_get(b->obj[alt].p[part], "properties");
    const tug_json *const needed = tug_json_get(b->obj[alt].p[part], "required");
    for (size_t k = 0; tug_json_is(names, TUG_JSON_OBJECT) && k < names->n; k++) {
        mention *const x = &m->p[m->n++];
        *x = (mention){.name = tug_json_key(names, k),
                       .alt = alt,
                       .part = part,
                       .schema = tug_json_value(names, k)};
        TUG_TRY(key_text(b, x->name, &x->text, err));
    }
    for (size_t k = 0; tug_json_is(needed, TUG_JSON_ARRAY) && k < needed->n; k++) {
        if (tug_json_at(needed, k)->kind != TUG_JSON_STRING) continue;
        mention *const x = &m->p[m->n++];
        *x = (mention){
            .name = tug_json_text(tug_json_at(needed, k)), .alt = alt, .part = part};
        TUG_TRY(key_text(b, x->name, &x->text, err));
    }
    return TUG_OK;
}

/* ---- the rule of one key's value ----------------------------------------------------- */

/* What a part says of keys that it does not name: NULL: nothing. */
static const tug_json *others(const tug_json *part) {
    return tug_json_get(part, "additionalProperties");
}

static bool forbids_others(tug_build *b, const tug_json *part) {
    const tug_json *const v = others(part);
    if (!tug_json_is(v, TUG_JSON_BOOL) || v->v.truth) return false;
    if (!tug_json_get(part, "patternProperties")) return true;
    tug_rules_warn(
        b->r, TUG_WARN_PATTERN_KEYS,
        "`patternProperties` in a schema is not enforced; other keys and their "
        "values are left free");
    return false;
}

/* `m` (n,) are the mentions of the key in this alternative; the values' schemas of all
 * parts hold together. */
static tug_status child_rule(tug_build *b, uint32_t alt, const mention *m, size_t n,
                             uint32_t *out, tug_err *err) {
    tug_parts values = {.n = 0};
    *out = TUG_NO_RULE;
    for (uint32_t i = 0; i < b->obj[alt].n; i++) {
        const tug_json *schema = NULL;
        for (size_t k = 0; k < n; k++) {
            if (m[k].part == i && m[k].schema) schema = m[k].schema;
        }
        if (!schema) {
            if (forbids_others(b, b->obj[alt].p[i])) return TUG_OK;
            schema = others(b->obj[alt].p[i]);
        }
        if (schema) (void)tug_parts_add(&values, schema); /* as many as parts: fits */
    }
    return tug_rules_request(b->r, b->root, &values, out, err);
}

/* Keys that nothing names. */
static tug_status rest_rule(tug_build *b, uint32_t alt, uint32_t *out, tug_err *err) {
    bool open = false, named = false;
    for (uint32_t i = 0; i < b->obj[alt].n; i++) {
        const tug_json *const part = b->obj[alt].p[i];
        const bool lists = tug_json_is(tug_json_get(part, "properties"), TUG_JSON_OBJECT);
        named = named || lists;
        open = open || others(part) || tug_json_get(part, "patternProperties");
    }
    *out = TUG_NO_RULE;
    return named && !open ? TUG_OK : child_rule(b, alt, NULL, 0, out, err);
}

/* ---- the table ----------------------------------------------------------------------- */

static size_t group_end(const mentions *m, size_t at) {
    size_t end = at + 1;
    while (end < m->n && tug_str_eq(m->p[end].text, m->p[at].text)) end++;
    return end;
}

static bool needed_by(const mention *m, size_t n, uint32_t alt) {
    for (size_t i = 0; i < n; i++) {
        if (m[i].alt == alt && !m[i].schema) return true;
    }
    return false;
}

static bool needed(const mention *m, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!m[i].schema) return true;
    }
    return false;
}

static tug_status fill_key(tug_build *b, tug_rule_object *o, tug_rule_key *key,
                           const mention *m, size_t n, tug_err *err) {
    uint32_t *const child = tug_arena_array(&b->r->arena, o->n_alt, sizeof *child);
    if (!child) return no_memory(err);
    *key = (tug_rule_key){.text = m->text,
                          .bit = TUG_RULE_MAX_BITS,
                          .plain = is_plain(m->name),
                          .child = child};
    for (uint32_t a = 0; a < o->n_alt; a++) {
        size_t first = 0, end;
        while (first < n && m[first].alt < a) first++;
        for (end = first; end < n && m[end].alt == a;) end++;
        child[a] = o->alt[a].rest;
        if (end > first) {
            TUG_TRY(child_rule(b, a, m + first, end - first, &child[a], err));
        }
    }
    return TUG_OK;
}

/* Required keys come first: they must be told apart from missing ones. */
static void give_bits(tug_build *b, tug_rule_object *o, tug_rule_key *keys,
                      const mentions *m) {
    uint32_t bit = 0;
    for (int pass = 0; pass < 2; pass++) {
        size_t at = 0;
        for (uint32_t k = 0; k < o->n_key; k++) {
            const size_t end = group_end(m, at);
            const mention *const group = &m->p[at];
            const size_t n = end - at;
            at = end;
            if (needed(group, n) != (pass == 0)) continue;
            if (bit == TUG_RULE_MAX_BITS) {
                if (pass == 0) {
                    tug_rules_warn(
                        b->r, TUG_WARN_REQUIRED,
                        "of more than %d required keys the rest is not enforced",
                        TUG_RULE_MAX_BITS);
                }
                continue;
            }
            keys[k].bit = bit++;
            for (uint32_t a = 0; a < o->n_alt; a++) {
                if (needed_by(group, n, a)) {
                    o->alt[a].required |= (uint64_t)1 << keys[k].bit;
                }
            }
        }
    }
}

static tug_status fill_object(tug_build *b, tug_rule_object *o, mentions *m,
                              tug_err *err) {
    for (uint32_t a = 0; a < o->n_alt; a++) {
        for (uint32_t i = 0; i < b->obj[a].n; i++) TUG_TRY(add_mentions(b, m, a, i, err));
        o->alt[a] = (tug_rule_alt){.height = TUG_RULE_NEVER};
        TUG_TRY(rest_rule(b, a, &o->alt[a].rest, err));
    }
    if (m->n) qsort(m->p, m->n, sizeof *m->p, order);
    for (size_t at = 0; at < m->n; at = group_end(m, at)) o->n_key++;
    tug_rule_key *const keys = tug_arena_array(&b->r->arena, o->n_key, sizeof *keys);
    if (!keys) return no_memory(err);
    size_t at = 0;
    for (uint32_t k = 0; k < o->n_key; k++) {
        const size_t end = group_end(m, at);
        TUG_TRY(fill_key(b, o, &keys[k], &m->p[at], end - at, err));
        at = end;
    }
    give_bits(b, o, keys, m);
    o->key = keys;
    return TUG_OK;
}

tug_status tug_build_object(tug_build *b, tug_rule *out, tug_err *err) {
    const size_t n = count_mentions(b);
    if (!tug_rules_spend(b->r, 16 * (n + 1) * b->n_obj)) return TUG_OK; /* any object */
    tug_rule_object *const o = tug_arena_array(&b->r->arena, 1, sizeof *o);
    mentions m = {.p = tug_alloc_array(n, sizeof *m.p)};
    if (!o || !m.p) {
        tug_free(m.p);
        return no_memory(err);
    }
    *o =
        (tug_rule_object){.n_alt = b->n_obj,
                          .alt = tug_arena_array(&b->r->arena, b->n_obj, sizeof *o->alt)};
    const tug_status status = o->alt ? fill_object(b, o, &m, err) : no_memory(err);
    tug_free(m.p);
    out->object = o;
    return status;
}

/* ---- arrays -------------------------------------------------------------------------- */

/* What a part says of element i; NULL: nothing.  A list in `items` is the older spelling
 * of `prefixItems`, with `additionalItems` for the others. */
static const tug_json *element(const tug_json *part, size_t i) {
    const tug_json *const prefix = tug_json_get(part, "prefixItems");
    const tug_json *const items = tug_json_get(part, "items");
    if (tug_json_is(prefix, TUG_JSON_ARRAY) && i < prefix->n)
        return tug_json_at(prefix, i);
    if (!tug_json_is(items, TUG_JSON_ARRAY)) return items;
    return i < items->n ? tug_json_at(items, i) : tug_json_get(part, "additionalItems");
}

static size_t n_prefix(const tug_parts *parts) {
    size_t n = 0;
    for (uint32_t i = 0; i < parts->n; i++) {
        const tug_json *const prefix = tug_json_get(parts->p[i], "prefixItems");
        const tug_json *const items = tug_json_get(parts->p[i], "items");
        if (tug_json_is(prefix, TUG_JSON_ARRAY) && prefix->n > n) n = prefix->n;
        if (tug_json_is(items, TUG_JSON_ARRAY) && items->n > n) n = items->n;
    }
    return n;
}

static tug_status element_rule(tug_build *b, const tug_parts *parts, size_t i,
                               uint32_t *out, tug_err *err) {
    tug_parts values = {.n = 0};
    for (uint32_t k = 0; k < parts->n; k++) {
        const tug_json *const schema = element(parts->p[k], i);
        if (schema) (void)tug_parts_add(&values, schema); /* as many as parts: fits */
    }
    return tug_rules_request(b->r, b->root, &values, out, err);
}

static tug_status fill_items(tug_build *b, const tug_parts *parts, tug_rule_items *out,
                             tug_err *err) {
    size_t n = n_prefix(parts);
    if (!tug_rules_spend(b->r, 16 * n)) n = 0;
    uint32_t *const prefix = tug_arena_array(&b->r->arena, n, sizeof *prefix);
    if (!prefix) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        TUG_TRY(element_rule(b, parts, i, &prefix[i], err));
    }
    *out = (tug_rule_items){.prefix = prefix, .n_prefix = (uint32_t)n};
    return element_rule(b, parts, SIZE_MAX, &out->rest, err);
}

tug_status tug_build_array(tug_build *b, tug_rule *out, tug_err *err) {
    tug_rule_array *const a = tug_arena_array(&b->r->arena, 1, sizeof *a);
    tug_rule_items *const alt = tug_arena_array(&b->r->arena, b->n_arr, sizeof *alt);
    if (!a || !alt) return no_memory(err);
    for (uint32_t i = 0; i < b->n_arr; i++) {
        TUG_TRY(fill_items(b, &b->arr[i], &alt[i], err));
    }
    *a = (tug_rule_array){.alt = alt, .n_alt = b->n_arr};
    out->array = a;
    return TUG_OK;
}
