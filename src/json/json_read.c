/* json_read.c - the reading half of json.h.
 *
 * DESIGN  No recursion: the values of all containers that are still open wait on one
 *         stack (`pending`); a closing bracket moves the container's own ones, the top of
 *         the stack, into the arena and leaves the container in their place.
 *         Decoded text is never longer than its source, and each piece's terminating 0
 *         fits where a quote or the next delimiter was.  So one allocation of the input's
 *         size plus 1 holds it all.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "base/sys.h"
#include "base/utf8.h"
#include "json/json.h"

typedef struct parser {
    const char *begin, *p, *end; /* borrowed: the input, and where we are */
    tug_arena *arena;            /* borrowed: where the tree goes */
    char *text;                  /* next free byte of decoded text, in the arena */
    tug_json *pending;           /* owned, (n_pending of cap_pending,) */
    size_t n_pending, cap_pending;
    const tug_json **keys; /* owned, (cap_keys,): scratch of sort_keys */
    size_t cap_keys;
    struct {
        size_t first; /* its first value in `pending` */
        bool is_object;
    } open[TUG_JSON_DEPTH];
    int depth;
    tug_err *err;
} parser;

static tug_status fail_at(const parser *ps, const char *where, const char *what) {
    return TUG_FAIL(ps->err, TUG_EFORMAT, "malformed JSON at byte %zu: %s",
                    (size_t)(where - ps->begin), what);
}

static tug_status fail_memory(const parser *ps) {
    return TUG_FAIL(ps->err, TUG_ENOMEM, "out of memory while reading %zu bytes of JSON",
                    (size_t)(ps->end - ps->begin));
}

/* The next character that is not white space, '\0' at the end (never part of JSON). */
static char peek(parser *ps) {
    while (ps->p < ps->end &&
           (*ps->p == ' ' || *ps->p == '\n' || *ps->p == '\r' || *ps->p == '\t')) {
        ps->p++;
    }
    return ps->p < ps->end ? *ps->p : '\0';
}

static tug_status push(parser *ps, tug_json v) {
    if (ps->n_pending == ps->cap_pending) {
        const size_t cap = ps->cap_pending * 2;
        tug_json *grown = tug_realloc_array(ps->pending, cap, sizeof *grown);
        if (!grown) return fail_memory(ps);
        ps->pending = grown;
        ps->cap_pending = cap;
    }
    ps->pending[ps->n_pending++] = v;
    return TUG_OK;
}

/* Ends the text that was decoded to [start, end) and pushes it. */
static tug_status push_text(parser *ps, tug_json_kind kind, const char *start,
                            char *end) {
    *end = '\0';
    ps->text = end + 1;
    return push(ps, (tug_json){kind, (uint32_t)(end - start), {.text = start}});
}

/* ---- strings ---------------------------------------------------------------------- */

/* The code unit of the four hex digits at p, or -1. */
static int hex4(const parser *ps, const char *p) {
    int unit = 0;
    for (int i = 0; i < 4; i++) {
        if (p + i >= ps->end) return -1;
        const char c = p[i];
        int digit = -1;
        if (c >= '0' && c <= '9') digit = c - '0';
        if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
        if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
        if (digit < 0) return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* \uXXXX, or two of them that form a surrogate pair; ps->p is at the backslash. */
static tug_status read_unicode_escape(parser *ps, char **dst) {
    const int unit = hex4(ps, ps->p + 2);
    if (unit < 0) return fail_at(ps, ps->p, "\\u needs four hexadecimal digits");
    ps->p += 6;
    uint32_t cp = (uint32_t)unit;
    if (cp >= 0xD800 && cp <= 0xDFFF) {
        int low = -1;
        if (cp < 0xDC00 && ps->end - ps->p >= 6 && ps->p[0] == '\\' && ps->p[1] == 'u') {
            low = hex4(ps, ps->p + 2);
        }
        cp = low >= 0xDC00 && low <= 0xDFFF
                 ? 0x10000 + ((cp - 0xD800) << 10) + ((uint32_t)low - 0xDC00)
                 : 0xFFFD;
        if (cp != 0xFFFD) ps->p += 6;
    }
    *dst += tug_utf8_encode(cp, *dst);
    return TUG_OK;
}

/* A backslash and what follows. */
static tug_status read_escape(parser *ps, char **dst) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char c = ps->end - ps->p >= 2 ? ps->p[1] : '\0';
    if (c == 'u') return read_unicode_escape(ps, dst);
    const char *name = c ? strchr(names, c) : NULL;
    if (!name) return fail_at(ps, ps->p, "unknown escape in a string");
    *(*dst)++ = values[name - names];
    ps->p += 2;
    return TUG_OK;
}

/* ps->p is at the opening quote. */
static tug_status read_string(parser *ps) {
    const char *const quote = ps->p++;
    const char *const start = ps->text;
    char *dst = ps->text;
    while (ps->p < ps->end && *ps->p != '"') {
        const unsigned char c = (unsigned char)*ps->p;
        if (c == '\\') {
            TUG_TRY(read_escape(ps, &dst));
            continue;
        }
        if (c < 0x20) return fail_at(ps, ps->p, "control character inside a string");
        const int len = c < 0x80 ? 1 : tug_utf8_next(ps->p, (size_t)(ps->end - ps->p));
        if (len <= 0) return fail_at(ps, ps->p, "a string is not valid UTF-8");
        memcpy(dst, ps->p, (size_t)len);
        dst += len;
        ps->p += len;
    }
    if (ps->p == ps->end) return fail_at(ps, quote, "a string has no closing quote");
    ps->p++;
    return push_text(ps, TUG_JSON_STRING, start, dst);
}

/* ---- numbers and words ------------------------------------------------------------ */

static bool skip_digits(parser *ps) {
    const char *const start = ps->p;
    while (ps->p < ps->end && *ps->p >= '0' && *ps->p <= '9') ps->p++;
    return ps->p > start;
}

static bool skip_one_of(parser *ps, const char *set) {
    if (ps->p >= ps->end || *ps->p == '\0' || !strchr(set, *ps->p)) return false;
    ps->p++;
    return true;
}

static tug_status read_number(parser *ps) {
    const char *const start = ps->p;
    (void)skip_one_of(ps, "-");
    if (!skip_one_of(ps, "0") && !skip_digits(ps)) {
        return fail_at(ps, start, "expected a digit after '-'");
    }
    if (skip_one_of(ps, ".") && !skip_digits(ps)) {
        return fail_at(ps, start, "a number needs a digit after its point");
    }
    if (skip_one_of(ps, "eE")) {
        (void)skip_one_of(ps, "+-");
        if (!skip_digits(ps)) return fail_at(ps, start, "a number's exponent is empty");
    }
    const size_t n = (size_t)(ps->p - start);
    memcpy(ps->text, start, n);
    return push_text(ps, TUG_JSON_NUMBER, ps->text, ps->text + n);
}

static tug_status read_word(parser *ps) {
    static const struct {
        const char *text;
        tug_json value;
    } words[] = {
        {"null", {TUG_JSON_NULL, 0, {.text = NULL}}},
        {"true", {TUG_JSON_BOOL, 0, {.truth = true}}},
        {"false", {TUG_JSON_BOOL, 0, {.truth = false}}},
    };
    const tug_str rest = tug_str_make(ps->p, (size_t)(ps->end - ps->p));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const tug_str word = tug_str_of(words[i].text);
        if (!tug_str_starts(rest, word)) continue;
        ps->p += word.n;
        return push(ps, words[i].value);
    }
    return fail_at(ps, ps->p, rest.n ? "expected a value" : "the text ends too early");
}

/* ---- containers ------------------------------------------------------------------- */

static tug_status open_container(parser *ps) {
    if (ps->depth == TUG_JSON_DEPTH) {
        return TUG_FAIL(ps->err, TUG_EFORMAT,
                        "JSON nested deeper than %d at byte %zu; flatten it",
                        (int)TUG_JSON_DEPTH, (size_t)(ps->p - ps->begin));
    }
    ps->open[ps->depth].first = ps->n_pending;
    ps->open[ps->depth].is_object = *ps->p == '{';
    ps->depth++;
    ps->p++;
    return TUG_OK;
}

/* "key" : */
static tug_status read_key(parser *ps) {
    if (peek(ps) != '"') return fail_at(ps, ps->p, "expected a key in double quotes");
    TUG_TRY(read_string(ps));
    if (peek(ps) != ':') return fail_at(ps, ps->p, "expected ':' after a key");
    ps->p++;
    return TUG_OK;
}

/* Equal keys come out next to each other, in the order of the text. */
static int by_key(const void *a, const void *b) {
    const tug_json *x, *y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    const int c = memcmp(x->v.text, y->v.text, x->n < y->n ? x->n : y->n);
    if (c != 0) return c;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x < y ? -1 : 1;
}

/* ps->keys[0..n) point at the n keys, sorted.  Sorting keeps a hostile object with a
 * million keys from costing its square. */
static tug_status sort_keys(parser *ps, const tug_json *member, size_t n) {
    if (n > ps->cap_keys) {
        const tug_json **grown = tug_realloc_array(ps->keys, n, sizeof *grown);
        if (!grown) return fail_memory(ps);
        ps->keys = grown;
        ps->cap_keys = n;
    }
    for (size_t i = 0; i < n; i++) ps->keys[i] = &member[2 * i];
    qsort(ps->keys, n, sizeof *ps->keys, by_key);
    return TUG_OK;
}

/* Of the *n members with one key the first stays, with the value of the last. */
static tug_status drop_repeated_keys(parser *ps, tug_json *member, size_t *n) {
    if (*n < 2) return TUG_OK;
    TUG_TRY(sort_keys(ps, member, *n));
    const tug_json *first = ps->keys[0];
    bool repeated = false;
    for (size_t i = 1; i < *n; i++) {
        const tug_json *const key = ps->keys[i];
        if (!tug_str_eq(tug_json_text(key), tug_json_text(first))) {
            first = key;
            continue;
        }
        member[first - member + 1] = key[1];
        member[key - member].v.text = NULL; /* marks the member as dropped */
        repeated = true;
    }
    if (!repeated) return TUG_OK;
    size_t n_left = 0;
    for (size_t i = 0; i < *n; i++) {
        if (!member[2 * i].v.text) continue;
        memmove(&member[2 * n_left++], &member[2 * i], 2 * sizeof *member);
    }
    *n = n_left;
    return TUG_OK;
}

/* ps->p is at the closing bracket. */
static tug_status close_container(parser *ps) {
    ps->p++;
    ps->depth--;
    const size_t first = ps->open[ps->depth].first;
    const bool is_object = ps->open[ps->depth].is_object;
    tug_json *const value = ps->pending + first;
    const size_t width = is_object ? 2 : 1; /* values per member or element */
    size_t n = (ps->n_pending - first) / width;
    if (is_object) TUG_TRY(drop_repeated_keys(ps, value, &n));
    tug_json *const item = tug_arena_array(ps->arena, n * width, sizeof *item);
    if (!item) return fail_memory(ps);
    memcpy(item, value, n * width * sizeof *item);
    ps->n_pending = first;
    return push(ps, (tug_json){is_object ? TUG_JSON_OBJECT : TUG_JSON_ARRAY,
                               (uint32_t)n,
                               {.item = item}});
}

/* ---- the document ----------------------------------------------------------------- */

static char closing_bracket(const parser *ps) {
    return ps->open[ps->depth - 1].is_object ? '}' : ']';
}

/* Reads a scalar, or a container's opening bracket; *opened tells which. */
static tug_status read_value(parser *ps, bool *opened) {
    const char c = peek(ps);
    *opened = c == '{' || c == '[';
    if (*opened) return open_container(ps);
    if (c == '"') return read_string(ps);
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(ps);
    return read_word(ps);
}

/* After a complete value: closes what closes, until the next value or the end. */
static tug_status read_separator(parser *ps) {
    while (ps->depth > 0) {
        const char c = peek(ps);
        const bool is_object = ps->open[ps->depth - 1].is_object;
        if (c == ',') {
            ps->p++;
            return is_object ? read_key(ps) : TUG_OK;
        }
        if (c != closing_bracket(ps)) {
            return fail_at(ps, ps->p,
                           is_object ? "expected ',' or '}'" : "expected ',' or ']'");
        }
        TUG_TRY(close_container(ps));
    }
    return TUG_OK;
}

static tug_status read_document(parser *ps) {
    do {
        bool opened;
        TUG_TRY(read_value(ps, &opened));
        if (opened && peek(ps) != closing_bracket(ps)) {
            if (ps->open[ps->depth - 1].is_object) TUG_TRY(read_key(ps));
            continue;
        }
        TUG_TRY(read_separator(ps));
    } while (ps->depth > 0);
    if (peek(ps) != '\0' || ps->p < ps->end) {
        return fail_at(ps, ps->p, "more text after the end of the value");
    }
    return TUG_OK;
}

tug_status tug_json_parse(tug_str in, tug_arena *arena, const tug_json **out,
                          tug_err *err) {
    if (in.n >= UINT32_MAX) {
        return TUG_FAIL(err, TUG_ERANGE, "%zu bytes of JSON; the limit is 4 GiB", in.n);
    }
    parser ps = {.arena = arena, .cap_pending = 64, .err = err};
    ps.begin = ps.p = in.n ? in.p : "";
    ps.end = ps.begin + in.n;
    ps.text = tug_arena_array(arena, in.n + 1, 1);
    ps.pending = tug_alloc_array(ps.cap_pending, sizeof *ps.pending);
    tug_status s = ps.text && ps.pending ? read_document(&ps) : fail_memory(&ps);
    if (s == TUG_OK) {
        tug_json *root = tug_arena_array(arena, 1, sizeof *root);
        if (root) *root = ps.pending[0];
        *out = root;
        if (!root) s = fail_memory(&ps);
    }
    tug_free(ps.pending);
    tug_free(ps.keys);
    return s;
}

const tug_json *tug_json_get(const tug_json *v, const char *key) {
    if (!tug_json_is(v, TUG_JSON_OBJECT)) return NULL;
    for (size_t i = 0; i < v->n; i++) {
        if (tug_str_is(tug_json_key(v, i), key)) return tug_json_value(v, i);
    }
    return NULL;
}

const char *tug_json_kind_text(const tug_json *v) {
    static const char *const text[] = {"null",     "a boolean", "a number",
                                       "a string", "an array",  "an object"};
    return v ? text[v->kind] : "missing";
}
