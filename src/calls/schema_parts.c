/* schema_parts.c - see schema_parts.h.  SPDX-License-Identifier: MIT */
#include "calls/schema_parts.h"

#include "calls/schema_build.h"

/* Leaves of one schema: a oneOf with a const for each of a few hundred values is common. */
enum { MAX_LEAVES = 1024, MAX_SEGMENT = 256 };

bool tug_parts_add(tug_parts *parts, const tug_json *schema) {
    for (uint32_t i = 0; i < parts->n; i++) {
        if (parts->p[i] == schema) return true;
    }
    if (parts->n == TUG_PARTS_MAX) return false;
    parts->p[parts->n++] = schema;
    return true;
}

/* ---- $ref ---------------------------------------------------------------------------- */

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One step of a JSON pointer without its %XX and ~0 ~1; false: longer than any key here. */
static bool decode_segment(tug_str in, char out[MAX_SEGMENT], size_t *n) {
    *n = 0;
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (*n == MAX_SEGMENT) return false;
        if (c == '%' && i + 2 < in.n && hex(in.p[i + 1]) >= 0 && hex(in.p[i + 2]) >= 0) {
            c = (char)(hex(in.p[i + 1]) << 4 | hex(in.p[i + 2]));
            i += 2;
        }
        if (c == '~' && i + 1 < in.n && (in.p[i + 1] == '0' || in.p[i + 1] == '1')) {
            c = in.p[++i] == '0' ? '~' : '/';
        }
        out[(*n)++] = c;
    }
    return true;
}

static const tug_json *step(const tug_json *v, tug_str segment) {
    if (v->kind == TUG_JSON_OBJECT) {
        for (size_t i = 0; i < v->n; i++) {
            if (tug_str_eq(tug_json_key(v, i), segment)) return tug_json_value(v, i);
        }
        return NULL;
    }
    size_t index = 0;
    if (v->kind != TUG_JSON_ARRAY || segment.n == 0 || segment.n > 9) return NULL;
    for (size_t i = 0; i < segment.n; i++) {
        if (segment.p[i] < '0' || segment.p[i] > '9') return NULL;
        index = index * 10 + (size_t)(segment.p[i] - '0');
    }
    return index < v->n ? tug_json_at(v, index) : NULL;
}

const tug_json *tug_schema_ref(const tug_json *root, tug_str ref) {
    if (ref.n == 0 || ref.p[0] != '#') return NULL;
    const tug_json *v = root;
    for (size_t at = 1; at < ref.n && v;) {
        if (ref.p[at] != '/') return NULL;
        size_t end = ++at;
        while (end < ref.n && ref.p[end] != '/') end++;
        char text[MAX_SEGMENT];
        size_t n;
        if (!decode_segment(tug_str_make(ref.p + at, end - at), text, &n)) return NULL;
        v = step(v, tug_str_make(text, n));
        at = end;
    }
    return v;
}

/* ---- and, or ------------------------------------------------------------------------- */

static void add_or_warn(tug_rules *r, tug_parts *parts, const tug_json *schema) {
    if (tug_parts_add(parts, schema)) return;
    tug_rules_warn(r, TUG_WARN_SIZE,
                   "a schema is too large to be enforced; parts of it are left free");
}

void tug_schema_join(tug_rules *r, const tug_json *root, tug_parts *parts) {
    for (uint32_t i = 0; i < parts->n; i++) {
        const tug_json *const part = parts->p[i];
        const tug_json *const ref = tug_json_get(part, "$ref");
        if (tug_json_is(ref, TUG_JSON_STRING)) {
            const tug_json *const to = tug_schema_ref(root, tug_json_text(ref));
            if (to) add_or_warn(r, parts, to);
            if (!to) {
                tug_rules_warn(r, TUG_WARN_REF,
                               "a `$ref` that does not lead into its own schema is not "
                               "followed; what it describes is left free");
            }
        }
        const tug_json *const all = tug_json_get(part, "allOf");
        for (size_t k = 0; tug_json_is(all, TUG_JSON_ARRAY) && k < all->n; k++) {
            add_or_warn(r, parts, tug_json_at(all, k));
        }
    }
}

typedef struct expansion {
    tug_rules *r;
    const tug_json *root;
    tug_schema_leaf_fn *leaf;
    void *ud;
    int n_leaves;
} expansion;

/* `from` counts the anyOf (even) and oneOf (odd) of the parts; those before it are done.
 * The recursion is as deep as there are such keywords in one list: 2 TUG_PARTS_MAX. */
static bool expand(expansion *x, const tug_parts *in, uint32_t from) {
    tug_parts parts = *in;
    tug_schema_join(x->r, x->root, &parts);
    uint64_t members = 0; /* that are looked through for each keyword */
    for (uint32_t i = 0; i < parts.n; i++) {
        if (parts.p[i]->kind == TUG_JSON_OBJECT) members += parts.p[i]->n;
    }
    if (!tug_rules_spend(x->r, 32 + 8 * members)) return false;
    for (; from < 2 * parts.n; from++) {
        const tug_json *const list =
            tug_json_get(parts.p[from / 2], from % 2 ? "oneOf" : "anyOf");
        if (!tug_json_is(list, TUG_JSON_ARRAY) || list->n == 0) continue;
        if (list->n > MAX_LEAVES) return false;
        for (size_t i = 0; i < list->n; i++) {
            tug_parts choice = parts;
            if (!tug_parts_add(&choice, tug_json_at(list, i))) return false;
            if (!expand(x, &choice, from + 1)) return false;
        }
        return true;
    }
    return ++x->n_leaves <= MAX_LEAVES && x->leaf(x->ud, &parts);
}

bool tug_schema_leaves(tug_rules *r, const tug_json *root, const tug_parts *parts,
                       tug_schema_leaf_fn *leaf, void *ud) {
    expansion x = {.r = r, .root = root, .leaf = leaf, .ud = ud};
    return expand(&x, parts, 0);
}
