/* json_walk.c - see json_walk.h.  SPDX-License-Identifier: MIT */
#include "calls/json_walk.h"

enum { MAX_DIGITS = 18, MAX_EXPONENT = 2, MAX_REST_KEY = 128 };

enum state {
    VALUE,     /* a value must come */
    FIRST,     /* after '[': a value, or ']' */
    KEY_FIRST, /* after '{': a key, or '}' */
    KEY_NEXT,  /* after ',': a key */
    KEY,       /* inside a key of a frame */
    COLON,
    AFTER, /* after a value inside something */
    DONE,
    TEXT, /* a fixed text, [lo, hi) agree so far */
    WORD, /* null, true, false: texts of `words` */
    STRING,
    ESCAPE,    /* after a backslash */
    HEX,       /* after \u */
    LOW_SLASH, /* after the first half of a surrogate pair */
    LOW_U,
    MINUS,
    ZERO,
    DIGITS,
    POINT,
    FRACTION,
    EXP,
    EXP_SIGN,
    EXP_DIGITS
};

/* In `escape`, beside the number of missing digits. */
enum { ESCAPE_LOW = 0x40, ESCAPE_HIGH = 0x80, ESCAPE_COUNT = 0x0f };

static bool is_space(unsigned char b) {
    return b == ' ' || b == '\n' || b == '\t' || b == '\r';
}

static bool is_digit(unsigned char b) {
    return b >= '0' && b <= '9';
}

static const tug_rule *rule_of(const tug_walk *w, uint32_t id) {
    return &w->rules->rule[id];
}

static unsigned levels_left(const tug_walk *w) {
    return (unsigned)(TUG_RULE_DEPTH - w->depth);
}

/* ---- objects ------------------------------------------------------------------------- */

static const tug_walk_frame *top(const tug_walk *w) {
    return &w->frame[w->depth - 1];
}

static const tug_rule_object *object_of(const tug_walk *w) {
    return rule_of(w, top(w)->rule)->object;
}

/* Alternatives of an object that fit into the levels that are left. */
static uint16_t fitting(const tug_rule_object *o, unsigned levels) {
    uint16_t live = 0;
    for (uint32_t a = 0; a < o->n_alt; a++) {
        if (o->alt[a].height <= levels) live |= (uint16_t)(1u << a);
    }
    return live;
}

void tug_walk_open(tug_walk *w, uint32_t rule) {
    const uint16_t live = fitting(rule_of(w, rule)->object, levels_left(w));
    w->frame[w->depth++] = (tug_walk_frame){.rule = rule, .live = live};
}

uint32_t tug_walk_child(const tug_walk *w, uint32_t key, unsigned alt) {
    const tug_walk_frame *const f = top(w);
    const tug_rule *const rule = rule_of(w, f->rule);
    if (f->is_array) {
        const tug_rule_items *const items = &rule->array->alt[alt];
        return f->seen < items->n_prefix ? items->prefix[f->seen] : items->rest;
    }
    return key == TUG_WALK_REST ? rule->object->alt[alt].rest
                                : rule->object->key[key].child[alt];
}

static unsigned n_alt(const tug_walk *w) {
    const tug_rule *const rule = rule_of(w, top(w)->rule);
    return top(w)->is_array ? rule->array->n_alt : rule->object->n_alt;
}

/* Alternatives in which a value may come here: of the key, or the next element. */
static uint16_t value_alts(const tug_walk *w, uint32_t key) {
    uint16_t alts = 0;
    for (unsigned a = 0; a < n_alt(w); a++) {
        if (!(top(w)->live >> a & 1)) continue;
        if (tug_rule_fits(w->rules, tug_walk_child(w, key, a), levels_left(w))) {
            alts |= (uint16_t)(1u << a);
        }
    }
    return alts;
}

static uint64_t bit_of(const tug_rule_key *key) {
    return key->bit < TUG_RULE_MAX_BITS ? (uint64_t)1 << key->bit : 0;
}

uint16_t tug_walk_key_alts(const tug_walk *w, uint32_t key) {
    if (key != TUG_WALK_REST && top(w)->seen & bit_of(&object_of(w)->key[key])) return 0;
    return value_alts(w, key);
}

bool tug_walk_any_key(const tug_walk *w, uint32_t lo, uint32_t hi, bool plain) {
    const tug_rule_object *const o = object_of(w);
    for (uint32_t k = lo; k < hi; k++) {
        if ((o->key[k].plain || !plain) && tug_walk_key_alts(w, k)) return true;
    }
    return false;
}

bool tug_walk_may_close(const tug_walk *w) {
    const tug_rule_object *const o = object_of(w);
    for (uint32_t a = 0; a < o->n_alt; a++) {
        if ((top(w)->live >> a & 1) && !(o->alt[a].required & ~top(w)->seen)) return true;
    }
    return false;
}

void tug_walk_take_key(tug_walk *w, uint32_t key) {
    w->live = tug_walk_key_alts(w, key);
    w->key = key;
    if (key != TUG_WALK_REST)
        w->frame[w->depth - 1].seen |= bit_of(&object_of(w)->key[key]);
}

/* First key of [lo, hi) whose byte at pos is at least `byte`; one without is less. */
static uint32_t first_key(const tug_rule_object *o, uint32_t pos, unsigned byte,
                          uint32_t lo, uint32_t hi) {
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const tug_str s = o->key[mid].text;
        if (s.n <= pos || (unsigned char)s.p[pos] < byte) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

void tug_walk_narrow_keys(const tug_walk *w, uint32_t pos, unsigned char byte,
                          uint32_t *lo, uint32_t *hi) {
    const tug_rule_object *const o = object_of(w);
    const uint32_t from = first_key(o, pos, byte, *lo, *hi);
    *hi = first_key(o, pos, byte + 1u, from, *hi);
    *lo = from;
}

/* ---- strings ------------------------------------------------------------------------- */

/* One byte of UTF-8 text; false where it can no longer be valid. */
static bool text_byte(tug_walk *w, unsigned char b) {
    if (w->utf8_left) {
        if (b < w->utf8_lo || b > w->utf8_hi) return false;
        w->utf8_left--;
        w->utf8_lo = 0x80;
        w->utf8_hi = 0xbf;
        return true;
    }
    if (b < 0x80) return b >= 0x20;
    if (b < 0xc2 || b > 0xf4) return false;
    w->utf8_left = (uint8_t)(b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3);
    w->utf8_lo = (uint8_t)(b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80);
    w->utf8_hi = (uint8_t)(b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf);
    return true;
}

static void end_value(tug_walk *w) {
    if (w->free_depth == 0 && w->depth > w->base && top(w)->is_array) {
        w->frame[w->depth - 1].seen++;
    }
    w->state = w->free_depth == 0 && w->depth == w->base ? DONE : AFTER;
}

static bool string_byte(tug_walk *w, unsigned char b) {
    if (w->utf8_left == 0 && b == '\\') {
        w->state = ESCAPE;
        return true;
    }
    if (w->utf8_left || b != '"') return text_byte(w, b);
    if (w->in_key) {
        w->state = COLON;
    } else {
        end_value(w);
    }
    return true;
}

static bool escape_byte(tug_walk *w, unsigned char b) {
    if (b == 'u') {
        w->state = HEX;
        w->escape = 4;
        return true;
    }
    w->state = STRING;
    return b && strchr("\"\\/bfnrt", b) != NULL;
}

/* The digits of \uXXXX.  A first half of a surrogate pair must have its second. */
static bool hex_byte(tug_walk *w, unsigned char b) {
    const unsigned char low = b | 0x20;
    const unsigned left = w->escape & ESCAPE_COUNT;
    if (!is_digit(b) && !(low >= 'a' && low <= 'f')) return false;
    if (left == 4) {
        if (w->escape & ESCAPE_LOW && low != 'd') return false;
        if (low == 'd') w->escape |= ESCAPE_HIGH; /* perhaps: the next digit decides */
    } else if (left == 3 && w->escape & ESCAPE_HIGH) {
        const bool surrogate = b >= '8', second = low >= 'c' && low <= 'f';
        if (w->escape & ESCAPE_LOW) {
            if (!second) return false;
            w->escape &= (uint8_t)~ESCAPE_HIGH;
        } else if (second) {
            return false;
        } else if (!surrogate) {
            w->escape &= (uint8_t)~ESCAPE_HIGH;
        }
    }
    w->escape--;
    if (left == 1) w->state = w->escape & ESCAPE_HIGH ? LOW_SLASH : STRING;
    return true;
}

/* ---- numbers ------------------------------------------------------------------------- */

static bool number_ends(const tug_walk *w) {
    return w->state == ZERO || w->state == DIGITS || w->state == FRACTION ||
           w->state == EXP_DIGITS;
}

static bool digit_in(tug_walk *w, enum state state, unsigned most) {
    if (w->state != state) w->pos = 0;
    w->state = (uint8_t)state;
    return w->pos++ < most;
}

/* `hi` says whether a point and an exponent are allowed. */
static bool number_byte(tug_walk *w, unsigned char b) {
    const bool digit = is_digit(b), exp = (b | 0x20) == 'e';
    switch ((enum state)w->state) {
    case MINUS:
        if (b == '0') return w->state = ZERO, true;
        return digit && digit_in(w, DIGITS, MAX_DIGITS);
    case DIGITS:
        if (digit) return digit_in(w, DIGITS, MAX_DIGITS);
        break;
    case FRACTION:
        if (digit) return digit_in(w, FRACTION, MAX_DIGITS);
        return exp && (w->state = EXP, true);
    case POINT: return digit && digit_in(w, FRACTION, MAX_DIGITS);
    case EXP:
        if (b == '+' || b == '-') return w->state = EXP_SIGN, true;
        return digit && digit_in(w, EXP_DIGITS, MAX_EXPONENT);
    case EXP_SIGN:
    case EXP_DIGITS: return digit && digit_in(w, EXP_DIGITS, MAX_EXPONENT);
    default: break; /* ZERO */
    }
    if (!w->hi) return false;
    if (b == '.') return w->state = POINT, true;
    return exp && (w->state = EXP, true);
}

/* ---- fixed texts --------------------------------------------------------------------- */

static const tug_rule_text word_list[] = {
    {{"false", 5}, UINT32_MAX}, {{"null", 4}, UINT32_MAX}, {{"true", 4}, UINT32_MAX}};
static const tug_rule_texts words = {word_list, 3};

/* Is there a text in [lo, hi) of an alternative that is still possible? */
static bool any_text(tug_rule_texts t, uint32_t lo, uint32_t hi, uint16_t live) {
    for (uint32_t i = lo; i < hi; i++) {
        if (t.p[i].alts & live) return true;
    }
    return false;
}

/* Does a text go on with b? */
static bool narrows(const tug_walk *w, unsigned char b) {
    uint32_t lo = w->lo, hi = w->hi;
    tug_rule_narrow(*w->texts, w->pos, b, &lo, &hi);
    return any_text(*w->texts, lo, hi, w->live);
}

/* The text that the bytes so far are, all of it; NULL: none yet. */
static const tug_rule_text *exact_text(const tug_walk *w) {
    const tug_rule_text *const t = &w->texts->p[w->lo];
    return t->text.n == w->pos && (t->alts & w->live) ? t : NULL;
}

static void end_text(tug_walk *w) {
    if (w->depth > w->base && w->free_depth == 0) {
        w->frame[w->depth - 1].live &= (uint16_t)exact_text(w)->alts;
    }
    end_value(w);
}

static bool text_step(tug_walk *w, unsigned char b) {
    if (!narrows(w, b)) return false;
    tug_rule_narrow(*w->texts, w->pos, b, &w->lo, &w->hi);
    w->pos++;
    const tug_rule_text *const t = exact_text(w);
    if (t && w->hi == w->lo + 1) end_text(w); /* nothing longer can come */
    return true;
}

/* ---- values -------------------------------------------------------------------------- */

/* A text of the rule begins with b: then it is one of them. */
static bool text_begins(tug_rule_texts t, unsigned char b, uint16_t live) {
    uint32_t lo = 0, hi = t.n;
    if (t.n == 0) return false;
    tug_rule_narrow(t, 0, b, &lo, &hi);
    return any_text(t, lo, hi, live);
}

static unsigned type_of_byte(unsigned char b) {
    switch (b) {
    case 'n': return TUG_RULE_NULL;
    case 't':
    case 'f': return TUG_RULE_BOOL;
    case '"': return TUG_RULE_STR;
    case '{': return TUG_RULE_OBJ;
    case '[': return TUG_RULE_ARR;
    default: break;
    }
    return is_digit(b) || b == '-' ? TUG_RULE_INT | TUG_RULE_NUM : 0;
}

/* Does a value of the rule begin with b? */
static bool begins(const tug_walk *w, uint32_t id, unsigned char b) {
    const tug_rule *const rule = rule_of(w, id);
    if (text_begins(rule->json, b, UINT16_MAX)) return true;
    if (!(rule->types & type_of_byte(b))) return false;
    const unsigned levels = levels_left(w);
    if (b == '{' && rule->object) return levels && fitting(rule->object, levels);
    if (b == '[' && rule->array) return levels > 0;
    return (b != '{' && b != '[') || w->free_depth < TUG_WALK_FREE_DEPTH;
}

static bool begin_rule(tug_walk *w, const tug_walk_pick *pick, unsigned char b) {
    const tug_rule *const rule = rule_of(w, pick->rule);
    w->texts = pick->texts ? pick->texts : &rule->json;
    w->lo = w->pos = 0;
    w->hi = w->texts->n;
    w->live = pick->live;
    if (pick->texts || text_begins(rule->json, b, UINT16_MAX)) {
        if (!pick->texts) w->live = UINT16_MAX;
        w->state = TEXT;
        return text_step(w, b);
    }
    if (!begins(w, pick->rule, b)) return false;
    switch (b) {
    case '"':
        w->state = STRING;
        w->in_key = false;
        return true;
    case '{':
        w->state = KEY_FIRST;
        if (rule->object) return tug_walk_open(w, pick->rule), true;
        w->free_bits = w->free_bits << 1 | 1;
        w->free_depth++;
        return true;
    case '[':
        w->state = FIRST;
        if (rule->array) {
            w->frame[w->depth++] =
                (tug_walk_frame){.rule = pick->rule,
                                 .is_array = true,
                                 .live = (uint16_t)((1u << rule->array->n_alt) - 1)};
            return true;
        }
        w->free_bits <<= 1;
        w->free_depth++;
        return true;
    case 'n':
    case 't':
    case 'f':
        w->texts = &words;
        w->hi = words.n;
        w->live = UINT16_MAX;
        w->state = TEXT;
        return text_step(w, b);
    default: break;
    }
    w->hi = (rule->types & TUG_RULE_NUM) != 0;
    w->pos = 0;
    w->state = b == '-' ? MINUS : b == '0' ? ZERO : MINUS;
    return b == '-' || b == '0' || number_byte(w, b);
}

/* Of several alternatives: those whose value begins with b; all of one rule, or all fixed
 * texts, or the first. */
static bool pick_value(const tug_walk *w, uint16_t live, unsigned char b,
                       tug_walk_pick *out) {
    const tug_rule_texts *joined = NULL;
    if (!top(w)->is_array && w->key != TUG_WALK_REST)
        joined = &object_of(w)->key[w->key].json;
    bool same = true, texts = joined && joined->n > 0;
    uint16_t left = 0;
    for (unsigned a = 0; a < n_alt(w); a++) {
        if (!(live >> a & 1)) continue;
        const uint32_t child = tug_walk_child(w, w->key, a);
        if (!begins(w, child, b)) continue;
        if (left == 0) out->rule = child;
        same = same && child == out->rule;
        left |= (uint16_t)(1u << a);
    }
    out->texts = !same && texts ? joined : NULL;
    out->live = same || out->texts ? left : (uint16_t)(left & -left);
    return left != 0;
}

static bool start_value(tug_walk *w, unsigned char b) {
    tug_walk_pick pick = {.rule = 0, .live = UINT16_MAX};
    if (w->free_depth) return begin_rule(w, &pick, b);
    if (w->depth == w->base) {
        pick.rule = w->root;
        return begin_rule(w, &pick, b);
    }
    const uint16_t live = top(w)->is_array ? value_alts(w, 0) : w->live;
    if (!pick_value(w, live, b, &pick)) return false;
    w->frame[w->depth - 1].live = pick.live;
    return begin_rule(w, &pick, b);
}

/* ---- structure ----------------------------------------------------------------------- */

static bool in_object(const tug_walk *w) {
    return w->free_depth ? w->free_bits & 1 : !top(w)->is_array;
}

static bool close_container(tug_walk *w) {
    if (w->free_depth) {
        w->free_depth--;
        w->free_bits >>= 1;
    } else {
        w->depth--;
    }
    end_value(w);
    return true;
}

static bool rest_allowed(const tug_walk *w) {
    return tug_walk_key_alts(w, TUG_WALK_REST) != 0;
}

static bool key_possible(const tug_walk *w) {
    return w->free_depth || rest_allowed(w) ||
           tug_walk_any_key(w, 0, object_of(w)->n_key, false);
}

static bool begin_key(tug_walk *w) {
    if (!key_possible(w)) return false;
    w->in_key = true;
    w->pos = w->lo = 0;
    if (w->free_depth) {
        w->state = STRING;
    } else {
        w->hi = object_of(w)->n_key;
        w->state = KEY;
    }
    return true;
}

/* A key of a frame: one of its list, as it stands there, or another without escapes.  A
 * quote inside of a listed key follows a backslash, so it is never where that key ends. */
static bool key_byte(tug_walk *w, unsigned char b) {
    const bool listed = w->hi > w->lo && object_of(w)->key[w->lo].text.n == w->pos;
    uint32_t lo = w->lo, hi = w->hi;
    tug_walk_narrow_keys(w, w->pos, b, &lo, &hi);
    if (b == '"' && w->utf8_left == 0 && lo == hi) {
        const uint32_t key = listed ? w->lo : TUG_WALK_REST;
        if (!tug_walk_key_alts(w, key)) return false;
        tug_walk_take_key(w, key);
        w->state = COLON;
        return true;
    }
    const bool inside = w->utf8_left > 0,
               room = inside || listed || w->pos < MAX_REST_KEY;
    if (!text_byte(w, b)) return false;
    w->lo = lo;
    w->hi = hi;
    w->pos++;
    if (tug_walk_any_key(w, lo, hi, false)) return true;
    return room && b != '\\' && rest_allowed(w);
}

static bool comma(tug_walk *w) {
    if (in_object(w)) {
        w->state = KEY_NEXT;
        return key_possible(w);
    }
    w->state = VALUE;
    return w->free_depth || value_alts(w, 0);
}

static bool structure_byte(tug_walk *w, unsigned char b) {
    switch ((enum state)w->state) {
    case FIRST:
        if (b == ']') return close_container(w);
        return start_value(w, b);
    case VALUE: return start_value(w, b);
    case KEY_FIRST:
        if (b == '}')
            return (w->free_depth || tug_walk_may_close(w)) && close_container(w);
        return b == '"' && begin_key(w);
    case KEY_NEXT: return b == '"' && begin_key(w);
    case COLON: w->state = VALUE; return b == ':';
    case AFTER:
        if (b == ',') return comma(w);
        if (b == ']') return !in_object(w) && close_container(w);
        return b == '}' && in_object(w) && (w->free_depth || tug_walk_may_close(w)) &&
               close_container(w);
    default: return false; /* DONE */
    }
}

bool tug_walk_step(tug_walk *w, unsigned char b) {
    switch ((enum state)w->state) {
    case STRING: return string_byte(w, b);
    case ESCAPE: return escape_byte(w, b);
    case HEX: return hex_byte(w, b);
    case LOW_SLASH: w->state = LOW_U; return b == '\\';
    case LOW_U:
        w->state = HEX;
        w->escape = 4 | ESCAPE_LOW;
        return b == 'u';
    case KEY: return key_byte(w, b);
    case TEXT:
        if (!exact_text(w) || narrows(w, b)) return text_step(w, b);
        end_text(w);
        break;
    case MINUS:
    case ZERO:
    case DIGITS:
    case POINT:
    case FRACTION:
    case EXP:
    case EXP_SIGN:
    case EXP_DIGITS:
        if (!number_ends(w) || is_digit(b) || (b && strchr(".eE", b)))
            return number_byte(w, b);
        end_value(w);
        break;
    default: break;
    }
    if (is_space(b)) return w->state != DONE && w->spaces++ < TUG_WALK_SPACE;
    w->spaces = 0;
    return structure_byte(w, b);
}

void tug_walk_start(tug_walk *w, uint32_t root, unsigned spaces) {
    w->root = root;
    w->state = VALUE;
    w->depth = w->base;
    w->free_depth = 0;
    w->utf8_left = 0;
    w->escape = 0;
    w->spaces = (uint8_t)(TUG_WALK_SPACE - spaces);
}

bool tug_walk_complete(const tug_walk *w) {
    if (w->state == DONE) return true;
    if (w->free_depth || w->depth > w->base) return false;
    return number_ends(w) || (w->state == TEXT && exact_text(w));
}
