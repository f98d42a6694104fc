/* schema_types.c - see schema_types.h.  SPDX-License-Identifier: MIT */
#include "calls/schema_types.h"

enum { NUMBER_TYPES = TUG_TYPE_NUMBER | TUG_TYPE_INTEGER };

/* One question: nodes are counted, because two references to one's own parent double with
 * every level. */
typedef struct walk {
    const tug_json *root; /* borrowed */
    int n_left;
} walk;

static const tug_json *member(const tug_json *v, tug_str key) {
    if (!tug_json_is(v, TUG_JSON_OBJECT)) return NULL;
    for (size_t i = 0; i < v->n; i++) {
        if (tug_str_eq(tug_json_key(v, i), key)) return tug_json_value(v, i);
    }
    return NULL;
}

/* ---- references ------------------------------------------------------------------- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The next byte of a JSON pointer inside a URI fragment: %20 and ~1 are one byte. */
static char pointer_byte(tug_str *s) {
    char c = *s->p++;
    s->n--;
    if (c == '%' && s->n >= 2 && hex_digit(s->p[0]) >= 0 && hex_digit(s->p[1]) >= 0) {
        c = (char)(hex_digit(s->p[0]) << 4 | hex_digit(s->p[1]));
        *s = tug_str_make(s->p + 2, s->n - 2);
    }
    if (c == '~' && s->n >= 1 && (*s->p == '0' || *s->p == '1')) {
        c = *s->p == '0' ? '~' : '/';
        *s = tug_str_make(s->p + 1, s->n - 1);
    }
    return c;
}

static bool token_is(tug_str token, tug_str key) {
    size_t i = 0;
    while (token.n > 0) {
        if (i == key.n || pointer_byte(&token) != key.p[i++]) return false;
    }
    return i == key.n;
}

static const tug_json *child(const tug_json *v, tug_str token) {
    if (tug_json_is(v, TUG_JSON_OBJECT)) {
        for (size_t i = 0; i < v->n; i++) {
            if (token_is(token, tug_json_key(v, i))) return tug_json_value(v, i);
        }
    } else if (tug_json_is(v, TUG_JSON_ARRAY) && token.n > 0 && token.n < 10) {
        size_t index = 0;
        for (size_t i = 0; i < token.n; i++) {
            if (token.p[i] < '0' || token.p[i] > '9') return NULL;
            index = index * 10 + (size_t)(token.p[i] - '0');
        }
        return index < v->n ? tug_json_at(v, index) : NULL;
    }
    return NULL;
}

/* "#", "#/$defs/x"; a reference to another document leads nowhere. */
static const tug_json *follow(const tug_json *root, tug_str ref) {
    if (!tug_str_starts(ref, tug_str_of("#"))) return NULL;
    ref = tug_str_make(ref.p + 1, ref.n - 1);
    const tug_json *v = root;
    while (v && ref.n > 0) {
        if (*ref.p != '/') return NULL;
        ref = tug_str_make(ref.p + 1, ref.n - 1);
        const char *const slash = memchr(ref.p, '/', ref.n);
        const size_t n = slash ? (size_t)(slash - ref.p) : ref.n;
        v = child(v, tug_str_make(ref.p, n));
        ref = tug_str_make(ref.p + n, ref.n - n);
    }
    return v;
}

static const tug_json *ref_target(const tug_json *root, const tug_json *schema) {
    const tug_json *ref = tug_json_get(schema, "$ref");
    return tug_json_is(ref, TUG_JSON_STRING) ? follow(root, tug_json_text(ref)) : NULL;
}

const tug_json *tug_schema_resolve(const tug_json *root, const tug_json *schema) {
    for (int i = 0; i < TUG_SCHEMA_DEPTH; i++) {
        if (!tug_json_is(tug_json_get(schema, "$ref"), TUG_JSON_STRING)) return schema;
        schema = ref_target(root, schema);
    }
    return NULL;
}

/* ---- types ------------------------------------------------------------------------ */

static tug_type_set type_of_name(const tug_json *name) {
    static const struct {
        const char *name;
        tug_type_set types;
    } names[] = {
        {"string", TUG_TYPE_STRING},   {"null", TUG_TYPE_NULL},
        {"boolean", TUG_TYPE_BOOLEAN}, {"integer", TUG_TYPE_INTEGER},
        {"number", NUMBER_TYPES},      {"array", TUG_TYPE_ARRAY},
        {"object", TUG_TYPE_OBJECT},
    };
    if (!tug_json_is(name, TUG_JSON_STRING)) return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (tug_str_is(tug_json_text(name), names[i].name)) return names[i].types;
    }
    return 0;
}

static tug_type_set type_of_value(const tug_json *v) {
    switch (v->kind) {
    case TUG_JSON_NULL: return TUG_TYPE_NULL;
    case TUG_JSON_BOOL: return TUG_TYPE_BOOLEAN;
    case TUG_JSON_NUMBER: return tug_json_is_integer(v) ? TUG_TYPE_INTEGER : NUMBER_TYPES;
    case TUG_JSON_STRING: return TUG_TYPE_STRING;
    case TUG_JSON_ARRAY: return TUG_TYPE_ARRAY;
    case TUG_JSON_OBJECT: return TUG_TYPE_OBJECT;
    }
    return 0;
}

static tug_type_set stated_types(const tug_json *schema) {
    const tug_json *type = tug_json_get(schema, "type");
    if (!tug_json_is(type, TUG_JSON_ARRAY)) return type_of_name(type);
    tug_type_set set = 0;
    for (size_t i = 0; i < type->n; i++) set |= type_of_name(tug_json_at(type, i));
    return set;
}

static tug_type_set listed_types(const tug_json *schema) {
    const tug_json *constant = tug_json_get(schema, "const");
    if (constant) return type_of_value(constant);
    const tug_json *list = tug_json_get(schema, "enum");
    tug_type_set set = 0;
    if (!tug_json_is(list, TUG_JSON_ARRAY)) return 0;
    for (size_t i = 0; i < list->n; i++) set |= type_of_value(tug_json_at(list, i));
    return set;
}

/* Both say something about one value.  A contradiction leaves what was said first. */
static tug_type_set narrow(tug_type_set set, tug_type_set by) {
    if (set == 0 || by == 0) return set | by;
    return (set & by) != 0 ? set & by : set;
}

static tug_type_set types_of(walk *w, const tug_json *schema, int depth);

/* anyOf, oneOf: as soon as one of them says nothing, anything goes. */
static tug_type_set union_of(walk *w, const tug_json *list, int depth) {
    tug_type_set set = 0;
    if (!tug_json_is(list, TUG_JSON_ARRAY)) return 0;
    for (size_t i = 0; i < list->n; i++) {
        const tug_type_set one = types_of(w, tug_json_at(list, i), depth);
        if (one == 0) return 0;
        set |= one;
    }
    return set;
}

static tug_type_set types_by_shape(const tug_json *schema) {
    tug_type_set set = 0;
    if (tug_json_get(schema, "items") || tug_json_get(schema, "prefixItems")) {
        set |= TUG_TYPE_ARRAY;
    }
    if (tug_json_get(schema, "properties")) set |= TUG_TYPE_OBJECT;
    return set;
}

static tug_type_set types_of(walk *w, const tug_json *schema, int depth) {
    if (!tug_json_is(schema, TUG_JSON_OBJECT) || depth == TUG_SCHEMA_DEPTH) return 0;
    if (w->n_left-- <= 0) return 0;
    tug_type_set set = narrow(stated_types(schema), listed_types(schema));
    const tug_json *target = ref_target(w->root, schema);
    if (target) set = narrow(set, types_of(w, target, depth + 1));
    set = narrow(set, union_of(w, tug_json_get(schema, "anyOf"), depth + 1));
    set = narrow(set, union_of(w, tug_json_get(schema, "oneOf"), depth + 1));
    const tug_json *all = tug_json_get(schema, "allOf");
    for (size_t i = 0; tug_json_is(all, TUG_JSON_ARRAY) && i < all->n; i++) {
        set = narrow(set, types_of(w, tug_json_at(all, i), depth + 1));
    }
    if (set == 0) set = types_by_shape(schema);
    const tug_json *nullable = tug_json_get(schema, "nullable");
    if (set != 0 && tug_json_is(nullable, TUG_JSON_BOOL) && nullable->v.truth) {
        set |= TUG_TYPE_NULL;
    }
    return set;
}

tug_type_set tug_schema_types(const tug_json *root, const tug_json *schema) {
    walk w = {root, TUG_SCHEMA_NODES};
    return types_of(&w, schema, 0);
}

/* ---- members ---------------------------------------------------------------------- */

static const tug_json *find_property(walk *w, const tug_json *schema, tug_str key,
                                     int depth) {
    if (!tug_json_is(schema, TUG_JSON_OBJECT) || depth == TUG_SCHEMA_DEPTH) return NULL;
    if (w->n_left-- <= 0) return NULL;
    const tug_json *found = member(tug_json_get(schema, "properties"), key);
    const tug_json *target = found ? NULL : ref_target(w->root, schema);
    if (target) found = find_property(w, target, key, depth + 1);
    static const char *const lists[] = {"allOf", "anyOf", "oneOf"};
    for (size_t l = 0; l < 3 && !found; l++) {
        const tug_json *list = tug_json_get(schema, lists[l]);
        for (size_t i = 0; tug_json_is(list, TUG_JSON_ARRAY) && i < list->n; i++) {
            found = find_property(w, tug_json_at(list, i), key, depth + 1);
            if (found) break;
        }
    }
    return found;
}

const tug_json *tug_schema_property(const tug_json *root, tug_str key) {
    walk w = {root, TUG_SCHEMA_NODES};
    return find_property(&w, root, key, 0);
}

static bool find_required(walk *w, const tug_json *schema, tug_str key, int depth) {
    if (!tug_json_is(schema, TUG_JSON_OBJECT) || depth == TUG_SCHEMA_DEPTH) return false;
    if (w->n_left-- <= 0) return false;
    const tug_json *list = tug_json_get(schema, "required");
    for (size_t i = 0; tug_json_is(list, TUG_JSON_ARRAY) && i < list->n; i++) {
        const tug_json *name = tug_json_at(list, i);
        if (name->kind == TUG_JSON_STRING && tug_str_eq(tug_json_text(name), key)) {
            return true;
        }
    }
    const tug_json *target = ref_target(w->root, schema);
    if (target && find_required(w, target, key, depth + 1)) return true;
    const tug_json *all = tug_json_get(schema, "allOf");
    for (size_t i = 0; tug_json_is(all, TUG_JSON_ARRAY) && i < all->n; i++) {
        if (find_required(w, tug_json_at(all, i), key, depth + 1)) return true;
    }
    return false;
}

bool tug_schema_requires(const tug_json *root, tug_str key) {
    walk w = {root, TUG_SCHEMA_NODES};
    return find_required(&w, root, key, 0);
}
