/* constraint_call.c - names, parameters and values of a call, byte by byte.
 *
 * The open object of arguments is frame 0 of the JSON walk; its keys are written as tags,
 * its values as they are between the tags.  SPDX-License-Identifier: MIT */
#include "calls/constraint_state.h"

enum { MAX_REST_KEY = 64 };

static const char *const fixed_text[] = {
    "<tool_call>",    "\n<function=", "<function=",       "\n",
    "<parameter=",    "\n",           "\n</parameter>\n", "</function>",
    "\n</tool_call>", "</tool_call>",
};

void tug_cs_fix(tug_cs *s, tug_cs_fixed text, unsigned pos) {
    s->mode = TUG_CS_FIXED;
    s->fixed = (uint8_t)text;
    s->pos = (uint16_t)pos;
}

void tug_cs_begin_name(const tug_cs_rules *r, tug_cs *s) {
    s->mode = TUG_CS_NAME;
    s->pos = 0;
    s->lo = 0;
    s->hi = r->tools.names.n;
}

void tug_cs_begin_call(const tug_cs_rules *r, tug_cs *s, uint32_t tool) {
    s->walk.rules = &r->rules;
    s->walk.depth = s->walk.base = 0;
    s->walk.free_depth = 0;
    tug_walk_open(&s->walk, r->tools.rule[tool]);
    s->walk.base = 1;
    s->tool = r->tools.tool[tool];
    tug_cs_fix(s, TUG_FIX_NAME_LINE, 0);
}

static bool name_byte(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    const tug_rule_texts names = r->tools.names;
    if (b == '>') {
        if (names.p[s->lo].text.n != s->pos) return false;
        tug_cs_begin_call(r, s, s->lo);
        return true;
    }
    tug_rule_narrow(names, s->pos++, b, &s->lo, &s->hi);
    return s->lo < s->hi;
}

/* ---- keys ---------------------------------------------------------------------------- */

/* The parser makes strings of parameters that the schema does not name. */
static bool rest_allowed(const tug_cs *s) {
    const uint16_t alts = tug_walk_key_alts(&s->walk, TUG_WALK_REST);
    for (unsigned a = 0; a < TUG_RULE_MAX_ALT; a++) {
        if (!(alts >> a & 1)) continue;
        const uint32_t child = tug_walk_child(&s->walk, TUG_WALK_REST, a);
        return (s->walk.rules->rule[child].types & TUG_RULE_STR) != 0;
    }
    return false;
}

static bool key_possible(const tug_cs *s) {
    return tug_walk_any_key(&s->walk, 0, tug_cs_arguments(s)->n_key, true) ||
           rest_allowed(s);
}

static void begin_key(tug_cs *s) {
    s->mode = TUG_CS_KEY;
    s->pos = 0;
    s->lo = 0;
    s->hi = tug_cs_arguments(s)->n_key;
}

static bool is_name_byte(unsigned char b) {
    return b > 0x20 && b < 0x7f && !strchr("{}<>\"'\\", b);
}

/* How the value of the key that was just taken is written. */
static void choose_value(tug_cs *s, uint32_t key) {
    uint16_t live = s->walk.live;
    bool same = true;
    s->rule = TUG_NO_RULE;
    for (unsigned a = 0; a < TUG_RULE_MAX_ALT; a++) {
        if (!(live >> a & 1)) continue;
        const uint32_t child = tug_walk_child(&s->walk, key, a);
        if (s->rule == TUG_NO_RULE) s->rule = child;
        same = same && child == s->rule;
    }
    const tug_rule_texts *const joined =
        key == TUG_WALK_REST ? NULL : &tug_cs_arguments(s)->key[key].raw;
    s->texts = &s->walk.rules->rule[s->rule].raw;
    s->live = UINT16_MAX;
    if (!same && joined && joined->n) {
        s->texts = joined;
        s->live = live;
    } else if (!same) {
        live = (uint16_t)(live & -live);
    }
    s->walk.frame[0].live = live;
    tug_cs_fix(s, TUG_FIX_KEY_LINE, 0);
}

void tug_cs_take_key(tug_cs *s, uint32_t key) {
    tug_walk_take_key(&s->walk, key);
    choose_value(s, key);
}

static bool key_byte(tug_cs *s, unsigned char b) {
    const tug_rule_object *const o = tug_cs_arguments(s);
    const bool listed = s->lo < s->hi && o->key[s->lo].text.n == s->pos;
    if (b == '>') {
        const bool allowed =
            listed ? o->key[s->lo].plain && tug_walk_key_alts(&s->walk, s->lo)
                   : s->pos > 0 && rest_allowed(s);
        if (allowed) tug_cs_take_key(s, listed ? s->lo : TUG_WALK_REST);
        return allowed;
    }
    tug_walk_narrow_keys(&s->walk, s->pos++, b, &s->lo, &s->hi);
    if (tug_walk_any_key(&s->walk, s->lo, s->hi, true)) return true;
    return is_name_byte(b) && (s->pos <= MAX_REST_KEY || listed) && rest_allowed(s);
}

/* ---- values -------------------------------------------------------------------------- */

static void begin_texts(tug_cs *s) {
    s->mode = TUG_CS_TEXTS;
    s->lo = 0;
    s->hi = s->texts->n;
    s->pos = 0;
}

static bool has_quoted(tug_rule_texts t) {
    for (uint32_t i = 0; i < t.n; i++) {
        if (t.p[i].text.p[0] == '"') return true;
    }
    return false;
}

/* After the line end of <parameter=KEY>. */
static void begin_value(tug_cs *s) {
    const tug_rule *const rule = &s->walk.rules->rule[s->rule];
    s->guard[0] = s->guard[1] = 0;
    if (s->texts->n && (s->live != UINT16_MAX || rule->types == 0)) {
        begin_texts(s);
    } else if (rule->types & TUG_RULE_STR || (!rule->raw.n && has_quoted(rule->json))) {
        tug_cs_begin_raw(s);
    } else {
        s->mode = TUG_CS_VALUE;
    }
}

static bool any_text(const tug_cs *s, uint32_t lo, uint32_t hi) {
    for (uint32_t i = lo; i < hi; i++) {
        if (s->texts->p[i].alts & s->live) return true;
    }
    return false;
}

static bool texts_byte(tug_cs *s, unsigned char b) {
    const tug_rule_text *const t = &s->texts->p[s->lo];
    if (b == '\n') { /* no text has one */
        if (t->text.n != s->pos || !(t->alts & s->live)) return false;
        s->walk.frame[0].live &= (uint16_t)t->alts;
        tug_cs_fix(s, TUG_FIX_PARAM_END, 1);
        return true;
    }
    tug_rule_narrow(*s->texts, s->pos++, b, &s->lo, &s->hi);
    return any_text(s, s->lo, s->hi);
}

bool tug_cs_guard(uint8_t *n, const char *never, unsigned char b) {
    *n = b == (unsigned char)never[*n] ? (uint8_t)(*n + 1) : b == '<';
    return never[*n] != '\0';
}

/* A JSON string must not hold tags that the parser would take for the end of the value, or
 * for the beginning of a nested call. */
static bool json_byte(tug_cs *s, unsigned char b) {
    if (!tug_cs_guard(&s->guard[0], "</parameter", b)) return false;
    if (!tug_cs_guard(&s->guard[1], "<parameter=", b)) return false;
    if (b == '\n' && tug_walk_complete(&s->walk)) {
        tug_cs_fix(s, TUG_FIX_PARAM_END, 1);
        return true;
    }
    return tug_walk_step(&s->walk, b);
}

static bool value_byte(tug_cs *s, unsigned char b) {
    uint32_t lo = 0, hi = s->texts->n;
    if (hi) tug_rule_narrow(*s->texts, 0, b, &lo, &hi);
    if (hi > lo) {
        begin_texts(s);
        return texts_byte(s, b);
    }
    tug_walk_start(&s->walk, s->rule, 0);
    s->mode = TUG_CS_JSON;
    return json_byte(s, b);
}

/* ---- tags ---------------------------------------------------------------------------- */

void tug_cs_end_call(tug_cs *s) {
    s->mode = TUG_CS_AFTER;
    s->bare = false;
    s->n_calls++;
}

void tug_cs_end_function(tug_cs *s) {
    if (!s->bare) {
        tug_cs_fix(s, TUG_FIX_TOOL_END, 0);
        return;
    }
    s->mode = TUG_CS_AFTER;
    s->n_calls++;
}

static void fixed_ends(const tug_cs_rules *r, tug_cs *s) {
    switch ((tug_cs_fixed)s->fixed) {
    case TUG_FIX_TOOL:
        s->bare = false;
        tug_cs_fix(s, TUG_FIX_FUNC, 0);
        break;
    case TUG_FIX_FUNC_BARE:
        s->bare = true;
        tug_cs_begin_name(r, s);
        break;
    case TUG_FIX_FUNC: tug_cs_begin_name(r, s); break;
    case TUG_FIX_NAME_LINE:
    case TUG_FIX_PARAM_END: s->mode = TUG_CS_BODY; break;
    case TUG_FIX_PARAM: begin_key(s); break;
    case TUG_FIX_KEY_LINE: begin_value(s); break;
    case TUG_FIX_FUNC_END: tug_cs_end_function(s); break;
    case TUG_FIX_TOOL_END: tug_cs_end_call(s); break;
    case TUG_FIX_TOOL_LATE:
        s->mode = TUG_CS_AFTER;
        s->bare = false;
        break;
    }
}

static bool fixed_byte(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    const char *const text = fixed_text[s->fixed];
    if ((unsigned char)text[s->pos] != b) return false;
    if (!text[++s->pos]) fixed_ends(r, s);
    return true;
}

static bool body_tag(tug_cs *s, unsigned char b) {
    if (b == 'p' && key_possible(s)) {
        tug_cs_fix(s, TUG_FIX_PARAM, 2);
    } else if (b == '/' && tug_walk_may_close(&s->walk)) {
        tug_cs_fix(s, TUG_FIX_FUNC_END, 2);
    } else {
        return false;
    }
    return true;
}

bool tug_cs_call(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    switch ((tug_cs_mode)s->mode) {
    case TUG_CS_FIXED: return fixed_byte(r, s, b);
    case TUG_CS_NAME: return name_byte(r, s, b);
    case TUG_CS_BODY: s->mode = TUG_CS_BODY_2; return b == '<';
    case TUG_CS_BODY_2: return body_tag(s, b);
    case TUG_CS_KEY: return key_byte(s, b);
    case TUG_CS_VALUE: return value_byte(s, b);
    case TUG_CS_TEXTS: return texts_byte(s, b);
    case TUG_CS_JSON: return json_byte(s, b);
    case TUG_CS_RAW: return tug_cs_raw(r, s, b);
    default: return false;
    }
}
