/* schema_finish.c - what can only be known once all rules of a schema exist: which have
 * finite values, and how fixed texts tell alternatives apart.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "base/sys.h"
#include "calls/schema_build.h"

static tug_status no_memory(tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the rules of the tools");
}

/* ---- sorted texts -------------------------------------------------------------------- */

static int order(const void *x, const void *y) {
    const tug_str a = ((const tug_rule_text *)x)->text,
                  b = ((const tug_rule_text *)y)->text;
    const size_t n = a.n < b.n ? a.n : b.n;
    const int cmp = n ? memcmp(a.p, b.p, n) : 0;
    return cmp ? cmp : a.n < b.n ? -1 : a.n > b.n;
}

/* Sorts p (n,) in place; equal texts become one of all their alternatives. */
static tug_rule_texts sorted(tug_rule_text *p, size_t n) {
    size_t kept = 0;
    if (n) qsort(p, n, sizeof *p, order);
    for (size_t i = 0; i < n; i++) {
        if (kept && tug_str_eq(p[kept - 1].text, p[i].text)) {
            p[kept - 1].alts |= p[i].alts;
        } else {
            p[kept++] = p[i];
        }
    }
    return (tug_rule_texts){p, (uint32_t)kept};
}

/* First text of [lo, hi) whose byte at pos is at least `byte`; one without is less. */
static uint32_t first_from(tug_rule_texts t, uint32_t pos, unsigned byte, uint32_t lo,
                           uint32_t hi) {
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const tug_str s = t.p[mid].text;
        if (s.n <= pos || (unsigned char)s.p[pos] < byte) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

void tug_rule_narrow(tug_rule_texts texts, uint32_t pos, unsigned char byte, uint32_t *lo,
                     uint32_t *hi) {
    const uint32_t from = first_from(texts, pos, byte, *lo, *hi);
    *hi = first_from(texts, pos, byte + 1u, from, *hi);
    *lo = from;
}

/* ---- fixed texts ---------------------------------------------------------------------- */

/* Tags that the constraint keeps out of JSON. */
static bool begins_tag(tug_str s) {
    return tug_str_starts(s, tug_str_of("</parameter")) ||
           tug_str_starts(s, tug_str_of("<parameter=")) ||
           tug_str_starts(s, tug_str_of("<tool_call>"));
}

static void escape_tags(tug_buf *out, tug_str json) {
    for (size_t i = 0; i < json.n; i++) {
        if (begins_tag(tug_str_make(json.p + i, json.n - i))) {
            tug_buf_text(out, "\\u003c");
        } else {
            tug_buf_char(out, json.p[i]);
        }
    }
}

tug_status tug_build_json(tug_build *b, tug_str json, tug_str *out, tug_err *err) {
    tug_buf text = {0};
    const bool tags = memchr(json.p, '<', json.n) != NULL;
    if (tags) escape_tags(&text, json);
    tug_status status = tug_buf_ok(&text, err);
    if (status == TUG_OK) {
        *out = tug_arena_copy(&b->r->arena, tags ? tug_buf_view(&text) : json);
        if (!out->p) status = no_memory(err);
    }
    tug_buf_free(&text);
    return status;
}

static bool has(tug_str s, const char *what) {
    return memmem(s.p ? s.p : "", s.n, what, strlen(what)) != NULL;
}

/* Would the parser of calls read the value as it is meant? */
static bool can_be_raw(tug_str s) {
    return !has(s, "\n") && !has(s, "</parameter") && !has(s, "<parameter=") &&
           !has(s, "</function") && !has(s, "</tool_call");
}

/* null, true and false become texts too where there are texts: raw ones, like the strings
 * "new" and "null", are then told apart byte by byte. */
static size_t add_words(tug_rule_text *json, tug_rule_text *raw, uint8_t *types) {
    static const struct {
        const char *text;
        uint8_t type;
    } words[] = {
        {"null", TUG_RULE_NULL}, {"true", TUG_RULE_BOOL}, {"false", TUG_RULE_BOOL}};
    size_t n = 0;
    for (size_t i = 0; i < 3; i++) {
        if (!(*types & words[i].type)) continue;
        json[n] = raw[n] = (tug_rule_text){tug_str_of(words[i].text), UINT32_MAX};
        n++;
    }
    *types &= (uint8_t) ~(TUG_RULE_NULL | TUG_RULE_BOOL);
    return n;
}

/* A text whose whole type is allowed is not needed. */
static bool covered(unsigned types, unsigned type) {
    if (type & (TUG_RULE_INT | TUG_RULE_NUM)) {
        return (types & (TUG_RULE_INT | TUG_RULE_NUM)) != 0;
    }
    return (types & type) != 0;
}

tug_status tug_build_texts(tug_build *b, tug_rule *out, tug_err *err) {
    if (b->n_fixed == 0) return TUG_OK;
    tug_rule_text *const json =
        tug_arena_array(&b->r->arena, b->n_fixed + 3, sizeof *json);
    tug_rule_text *const raw = tug_arena_array(&b->r->arena, b->n_fixed + 3, sizeof *raw);
    if (!json || !raw) return no_memory(err);
    size_t n_json = 0, n_raw = 0;
    for (size_t i = 0; i < b->n_fixed; i++) {
        const tug_fixed *const f = &b->fixed[i];
        if (covered(out->types, f->type)) continue;
        json[n_json++] = (tug_rule_text){f->json, UINT32_MAX};
        if (can_be_raw(f->raw)) raw[n_raw++] = (tug_rule_text){f->raw, UINT32_MAX};
    }
    if (n_json && !(out->types & TUG_RULE_STR)) {
        tug_rule_text words_json[3], words_raw[3];
        const size_t n = add_words(words_json, words_raw, &out->types);
        for (size_t i = 0; i < n; i++) {
            json[n_json++] = words_json[i];
            raw[n_raw++] = words_raw[i];
        }
    }
    out->json = sorted(json, n_json);
    out->raw = sorted(raw, n_raw);
    return TUG_OK;
}

/* ---- heights ------------------------------------------------------------------------- */

static uint8_t above(uint8_t height) {
    return height >= TUG_RULE_DEPTH ? TUG_RULE_NEVER : (uint8_t)(height + 1);
}

static uint8_t height_of(const tug_rules *r, uint32_t id) {
    return id == TUG_NO_RULE ? TUG_RULE_NEVER : r->rule[id].height;
}

static uint8_t object_height(const tug_rules *r, const tug_rule_object *o) {
    uint8_t least = TUG_RULE_NEVER;
    for (uint32_t a = 0; a < o->n_alt; a++) {
        uint8_t most = 0;
        for (uint32_t k = 0; k < o->n_key && most < TUG_RULE_NEVER; k++) {
            const tug_rule_key *const key = &o->key[k];
            if (key->bit >= TUG_RULE_MAX_BITS || !(o->alt[a].required >> key->bit & 1))
                continue;
            const uint8_t h = height_of(r, key->child[a]);
            if (h > most) most = h;
        }
        o->alt[a].height = above(most);
        if (o->alt[a].height < least) least = o->alt[a].height;
    }
    return least;
}

static uint8_t rule_height(const tug_rules *r, const tug_rule *rule) {
    const unsigned nested = TUG_RULE_OBJ | TUG_RULE_ARR;
    if (rule->json.n || rule->types & ~nested) return 0;
    if (rule->types & TUG_RULE_OBJ && !rule->object) return 0;
    if (rule->types & TUG_RULE_ARR) return rule->array ? 1 : 0;
    return rule->types & TUG_RULE_OBJ ? object_height(r, rule->object) : TUG_RULE_NEVER;
}

/* A round reaches values one level higher; above TUG_RULE_DEPTH nothing can be written. */
static void find_heights(tug_rules *r, uint32_t first) {
    for (int round = 0; round <= TUG_RULE_DEPTH + 1; round++) {
        bool changed = false;
        for (uint32_t i = first; i < r->n; i++) {
            tug_rule *const rule = &r->rule[i];
            if (rule->object) (void)object_height(r, rule->object);
            const uint8_t height = rule_height(r, rule);
            changed = changed || height != rule->height;
            rule->height = height;
        }
        if (!changed) break;
    }
}

/* ---- alternatives that fixed texts tell apart ---------------------------------------- */

static bool only_texts(const tug_rules *r, uint32_t id) {
    return id == TUG_NO_RULE || (r->rule[id].types == 0 && r->rule[id].json.n > 0);
}

static tug_status join_texts(tug_rules *r, const tug_rule_object *o,
                             const tug_rule_key *key, bool raw, tug_rule_texts *out,
                             tug_err *err) {
    size_t n = 0;
    for (uint32_t a = 0; a < o->n_alt; a++) {
        if (key->child[a] == TUG_NO_RULE) continue;
        const tug_rule *const rule = &r->rule[key->child[a]];
        n += raw ? rule->raw.n : rule->json.n;
    }
    if (!tug_rules_spend(r, 16 * n)) return TUG_OK;
    tug_rule_text *const p = tug_arena_array(&r->arena, n, sizeof *p);
    if (!p) return no_memory(err);
    size_t at = 0;
    for (uint32_t a = 0; a < o->n_alt; a++) {
        if (key->child[a] == TUG_NO_RULE) continue;
        const tug_rule *const rule = &r->rule[key->child[a]];
        const tug_rule_texts from = raw ? rule->raw : rule->json;
        for (uint32_t i = 0; i < from.n; i++) {
            p[at++] = (tug_rule_text){from.p[i].text, (uint32_t)1 << a};
        }
    }
    *out = sorted(p, n);
    return TUG_OK;
}

static tug_status tell_apart(tug_rules *r, const tug_rule_object *o, tug_rule_key *key,
                             tug_err *err) {
    bool differ = false, texts = true;
    uint32_t seen = TUG_NO_RULE;
    for (uint32_t a = 0; a < o->n_alt; a++) {
        const uint32_t id = key->child[a];
        if (id == TUG_NO_RULE) continue;
        differ = differ || (seen != TUG_NO_RULE && id != seen);
        seen = id;
        texts = texts && only_texts(r, id);
    }
    if (!differ) return TUG_OK;
    if (!texts) {
        tug_rules_warn(
            r, TUG_WARN_DISTINCT,
            "alternatives of a schema that differ in more than fixed values are "
            "told apart by a value's first byte; then the first of them is taken");
        return TUG_OK;
    }
    TUG_TRY(join_texts(r, o, key, false, &key->json, err));
    return join_texts(r, o, key, true, &key->raw, err);
}

tug_status tug_rules_finish(tug_rules *r, uint32_t first, tug_err *err) {
    find_heights(r, first);
    for (uint32_t i = first; i < r->n; i++) {
        const tug_rule_object *const o = r->rule[i].object;
        if (!o || o->n_alt < 2) continue;
        for (uint32_t k = 0; k < o->n_key; k++) {
            TUG_TRY(tell_apart(r, o, &o->key[k], err));
        }
    }
    return TUG_OK;
}
