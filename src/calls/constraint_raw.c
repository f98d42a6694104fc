/* constraint_raw.c - where a raw string of a call ends.
 *
 * A string may hold anything, also tags of calls: documents about calls are written with
 * calls, too.  What ends it is decided as the parser decides (call_value.c): a closing tag
 * counts if a tag that can follow it follows; nested calls are passed over.  Where the
 * parser would see an end that leaves the call incomplete, the last byte of the tag is not
 * allowed.
 *
 * One thing is stricter than the parser: </parameter> on a line of its own, outside of
 * nested markup, is the end.  SPDX-License-Identifier: MIT */
#include "calls/constraint_state.h"

enum { MAX_TAG = 511, MAX_BAD_TAIL = 32, MAX_SPACES = 4096 };

/* ---- tags ---------------------------------------------------------------------------- */

static const char *const tag_text[] = {
    "<tool_call>",  "<function=",  "<parameter=",
    "</parameter>", "</function>", "</tool_call>",
};

void tug_cs_begin_tag(tug_cs *s) {
    s->watch = TUG_WATCH_TAG;
    s->tag_line = s->line_start;
    s->pos = s->tag_bytes = 1;
}

static void begin_name(const tug_cs_rules *r, tug_cs *s, tug_cs_tag tag) {
    s->watch = TUG_WATCH_NAME;
    s->tag = (uint8_t)tag;
    s->pos = 0;
    s->lo = 0;
    s->hi = tag == TUG_TAG_FUNC ? r->tools.names.n : 0;
    if (tag == TUG_TAG_PARAM && s->mode == TUG_CS_RAW) {
        s->hi = r->rules.rule[s->walk.frame[0].rule].object->n_key;
    }
    s->plain = true;
    s->trailed = s->line_start = false;
}

static tug_cs_tag tag_byte(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    static const char closer[] = "</parameter";
    for (int t = TUG_TAG_TOOL; t <= TUG_TAG_TOOL_END; t++) {
        const char *const text = tag_text[t];
        if (s->pos > 1 && s->tag != t && memcmp(text, tag_text[s->tag], s->pos) != 0)
            continue;
        if (b != (unsigned char)text[s->pos]) continue;
        s->tag = (uint8_t)t;
        if (text[++s->pos]) return TUG_TAG_OPEN;
        s->watch = TUG_WATCH_NONE;
        if (t == TUG_TAG_FUNC || t == TUG_TAG_PARAM) {
            begin_name(r, s, (tug_cs_tag)t);
            return TUG_TAG_OPEN;
        }
        return (tug_cs_tag)t;
    }
    s->watch = TUG_WATCH_NONE;
    if (s->pos != sizeof closer - 1 || s->tag != TUG_TAG_PARAM_END) return TUG_TAG_NO;
    s->watch = TUG_WATCH_CLOSER;
    s->pos = 0;
    return tug_cs_tag_byte(r, s, b);
}

static tug_cs_tag closer_byte(tug_cs *s, unsigned char b) {
    const bool fits = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') ||
                      (b >= '0' && b <= '9') || (b && strchr("_/- \r", b));
    if (b != '>' && b != '\n' && fits && ++s->pos <= MAX_BAD_TAIL) return TUG_TAG_OPEN;
    s->watch = TUG_WATCH_NONE;
    return b == '>' || b == '\n' ? TUG_TAG_BAD_CLOSER : TUG_TAG_NO;
}

/* A name without the white space around it, against those that are known. */
static tug_cs_tag name_byte(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    if (b == '>' && s->pos > 0) {
        s->watch = TUG_WATCH_NONE;
        return (tug_cs_tag)s->tag;
    }
    if (b == '>' || b == '<' || b == 0x7f || (b < 0x20 && !tug_cs_is_space(b)) ||
        ++s->tag_bytes > MAX_TAG - 11) {
        s->watch = TUG_WATCH_NONE;
        return TUG_TAG_NO;
    }
    s->line_start = b == '\n';
    if (tug_cs_is_space(b)) {
        s->trailed = s->pos > 0;
        return TUG_TAG_OPEN;
    }
    if (s->trailed || strchr("{}\"'", b)) s->plain = false;
    if (s->trailed) s->hi = s->lo;
    if (s->tag == TUG_TAG_FUNC) {
        tug_rule_narrow(r->tools.names, s->pos, b, &s->lo, &s->hi);
    } else if (s->lo < s->hi) {
        tug_walk_narrow_keys(&s->walk, s->pos, b, &s->lo, &s->hi);
    }
    s->pos++;
    return TUG_TAG_OPEN;
}

tug_cs_tag tug_cs_tag_byte(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    switch ((tug_cs_watch)s->watch) {
    case TUG_WATCH_TAG: return tag_byte(r, s, b);
    case TUG_WATCH_NAME: return name_byte(r, s, b);
    case TUG_WATCH_CLOSER: return closer_byte(s, b);
    case TUG_WATCH_NONE: break;
    }
    return TUG_TAG_NO;
}

uint32_t tug_cs_named_tool(const tug_cs_rules *r, const tug_cs *s) {
    const bool whole = s->lo < s->hi && r->tools.names.p[s->lo].text.n == s->pos;
    return whole ? s->lo : TUG_NO_RULE;
}

uint32_t tug_cs_named_key(const tug_cs *s) {
    const tug_rule_object *const o = s->walk.rules->rule[s->walk.frame[0].rule].object;
    const bool whole = s->lo < s->hi && o->key[s->lo].text.n == s->pos;
    return whole && tug_walk_key_alts(&s->walk, s->lo) ? s->lo : TUG_NO_RULE;
}

/* ---- what a tag means ---------------------------------------------------------------- */

void tug_cs_begin_raw(tug_cs *s) {
    s->mode = TUG_CS_RAW;
    s->watch = TUG_WATCH_NONE;
    s->pending = TUG_PEND_NONE;
    s->line_start = true;
    s->after_function = false;
    s->closers = 0;
    s->functions = s->params = 0;
}

static void wait_for(tug_cs *s, tug_cs_pending pending) {
    s->pending = (uint8_t)pending;
    s->spaces = 0;
    s->line_ended = false;
}

static void count(uint16_t *n, int change) {
    if (change > 0 ? *n < UINT16_MAX : *n > 0) *n = (uint16_t)(*n + change);
}

/* The pending tag turned out to be text. */
static void pending_is_text(tug_cs *s) {
    if ((s->pending == TUG_PEND_CLOSER) && s->functions == 0) count(&s->params, -1);
    s->pending = TUG_PEND_NONE;
    s->after_function = false;
}

static bool end_of_call(tug_cs *s, bool function) {
    if (!tug_walk_may_close(&s->walk)) return false;
    if (function) {
        tug_cs_end_function(s);
    } else {
        tug_cs_end_call(s);
    }
    return true;
}

/* A tag after </parameter>.  *done: it was dealt with. */
static bool after_closer(const tug_cs_rules *r, tug_cs *s, tug_cs_tag tag, bool *done) {
    const bool balanced = s->params == 0;
    *done = true;
    if (tag == TUG_TAG_FUNC_END) return end_of_call(s, true);
    if (tag == TUG_TAG_TOOL_END) return end_of_call(s, false);
    if (tag == TUG_TAG_TOOL && balanced) return false;
    if (tag == TUG_TAG_FUNC && balanced && tug_cs_named_tool(r, s) != TUG_NO_RULE)
        return false;
    if (tag == TUG_TAG_PARAM) {
        const uint32_t key = tug_cs_named_key(s);
        if (key != TUG_NO_RULE) return tug_cs_take_key(s, key), true;
        if (balanced && s->plain) return false;
    }
    *done = false;
    pending_is_text(s);
    return true;
}

/* A tag after </function> or </tool_call> that began a line. */
static bool after_early(const tug_cs_rules *r, tug_cs *s, tug_cs_tag tag, bool *done) {
    const bool function = s->pending == TUG_PEND_FUNC_END;
    *done = true;
    if (tag == TUG_TAG_TOOL) return false;
    if (function && tag == TUG_TAG_TOOL_END) return end_of_call(s, false);
    if (function && tag == TUG_TAG_FUNC && tug_cs_named_tool(r, s) != TUG_NO_RULE)
        return false;
    *done = false;
    pending_is_text(s);
    return true;
}

static bool after_pending(const tug_cs_rules *r, tug_cs *s, tug_cs_tag tag, bool *done) {
    switch ((tug_cs_pending)s->pending) {
    case TUG_PEND_CLOSER: return after_closer(r, s, tag, done);
    case TUG_PEND_BAD_CLOSER:
        if (s->line_ended) return after_closer(r, s, tag, done);
        break;
    case TUG_PEND_FUNC_END:
    case TUG_PEND_TOOL_END: return after_early(r, s, tag, done);
    case TUG_PEND_FUNC:
        *done = tag == TUG_TAG_PARAM || tag == TUG_TAG_FUNC_END;
        pending_is_text(s);
        if (tag == TUG_TAG_PARAM) count(&s->functions, 1);
        s->after_function = tag == TUG_TAG_FUNC_END && s->functions == 0;
        return true;
    default: break;
    }
    *done = false;
    pending_is_text(s);
    return true;
}

/* Inside of a nested call the very last tags may be ours nevertheless: the parser takes
 * them if the text ends there. */
static void count_closers(tug_cs *s, tug_cs_tag tag) {
    static const tug_cs_tag last[] = {TUG_TAG_PARAM_END, TUG_TAG_FUNC_END,
                                      TUG_TAG_TOOL_END};
    if (tag == TUG_TAG_PARAM_END) {
        s->closers = s->functions > 0;
    } else {
        s->closers =
            s->closers && s->closers < 3 && tag == last[s->closers] ? s->closers + 1 : 0;
    }
}

static bool take_tag(const tug_cs_rules *r, tug_cs *s, tug_cs_tag tag) {
    const bool outside = s->functions == 0;
    count_closers(s, tag);
    if (s->pending != TUG_PEND_NONE) {
        bool done;
        if (!after_pending(r, s, tag, &done)) return false;
        if (done) return true;
    }
    const bool after_function = s->after_function;
    s->after_function = false;
    switch (tag) {
    case TUG_TAG_PARAM_END:
        if (outside) wait_for(s, TUG_PEND_CLOSER);
        break;
    case TUG_TAG_BAD_CLOSER:
        if (outside && s->tag_line) wait_for(s, TUG_PEND_BAD_CLOSER);
        break;
    case TUG_TAG_FUNC_END:
        if (outside && s->tag_line) {
            wait_for(s, TUG_PEND_FUNC_END);
        } else if (!outside) {
            count(&s->functions, -1);
            s->after_function = s->functions == 0;
        }
        break;
    case TUG_TAG_TOOL_END:
        if (outside && s->tag_line && !after_function) wait_for(s, TUG_PEND_TOOL_END);
        break;
    case TUG_TAG_PARAM:
        if (!outside) break;
        if (s->tag_line && tug_cs_named_key(s) != TUG_NO_RULE) {
            tug_cs_take_key(s, tug_cs_named_key(s));
        } else {
            count(&s->params, 1);
        }
        break;
    case TUG_TAG_FUNC: wait_for(s, TUG_PEND_FUNC); break;
    default: break;
    }
    return true;
}

/* A byte that belongs to no tag. */
static bool text_byte(tug_cs *s, unsigned char b) {
    if (b == '<') {
        tug_cs_begin_tag(s);
        return true;
    }
    if (!tug_cs_is_space(b)) {
        if (s->pending != TUG_PEND_NONE) pending_is_text(s);
        s->after_function = s->line_start = false;
        s->closers = 0;
        return true;
    }
    if (s->pending != TUG_PEND_NONE) {
        const bool strict = s->pending == TUG_PEND_CLOSER && s->tag_line &&
                            s->spaces == 0 && s->params == 0 && b == '\n';
        if (strict) {
            s->mode = TUG_CS_BODY;
            return true;
        }
        s->line_ended = s->line_ended || b == '\n';
        if (++s->spaces > MAX_SPACES) pending_is_text(s);
    }
    s->line_start = b == '\n';
    return true;
}

bool tug_cs_raw(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    if (s->watch == TUG_WATCH_NONE) return text_byte(s, b);
    const tug_cs_tag tag = tug_cs_tag_byte(r, s, b);
    if (tag == TUG_TAG_OPEN) return true;
    s->line_start = false;
    if (tag != TUG_TAG_NO) {
        if (!take_tag(r, s, tag)) return false;
        return tag != TUG_TAG_BAD_CLOSER || b == '>' || text_byte(s, b);
    }
    if (s->pending != TUG_PEND_NONE) pending_is_text(s);
    s->after_function = false;
    s->closers = 0;
    return text_byte(s, b);
}
