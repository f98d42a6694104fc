/* constraint.c - see constraint.h.  The whole answer: content, calls, a value of
 * response_format.  constraint_call.c has the inside of a call.
 * SPDX-License-Identifier: MIT */
#include "calls/constraint.h"

#include <stdlib.h>

#include "base/sys.h"
#include "calls/call_names.h"
#include "calls/call_queue.h"
#include "calls/constraint_state.h"

_Static_assert(sizeof(tug_cs) <= 1536, "a state is copied for every token that is tried");

/* ---- content ------------------------------------------------------------------------- */

/* Must the call come now? */
static bool forced(const tug_cs_rules *r, const tug_cs *s) {
    return r->must_call && s->n_calls == 0 && s->content >= TUG_CONTENT_MAX;
}

/* The bytes that lead to <tool_call> from here, in a text that has run too long. */
static bool forced_byte(const tug_cs *s, unsigned char b) {
    if (s->utf8_left) return b >= 0x80 && b < 0xc0;
    return b == (s->line_start ? '<' : '\n');
}

static bool may_be_tool(const tug_cs *s) {
    return (s->lexer.want & TUG_LEX_BIT(TUG_LEX_TOOL)) != 0;
}

static void count_utf8(tug_cs *s, unsigned char b) {
    if (b >= 0xc0) {
        s->utf8_left = (uint8_t)(b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3);
    } else {
        s->utf8_left = b >= 0x80 && s->utf8_left ? (uint8_t)(s->utf8_left - 1) : 0;
    }
}

/* The tags that mean something at this place, as for the parser. */
static unsigned content_tags(const tug_cs *s) {
    const bool function = s->line_start || s->pending == TUG_PEND_TOOL;
    return TUG_LEX_BIT(TUG_LEX_TOOL) | (function ? TUG_LEX_BIT(TUG_LEX_FUNC) : 0);
}

static void content_text(tug_cs *s) {
    s->pending = TUG_PEND_NONE;
    s->fresh = s->line_start = false;
    s->spaces = 0;
}

static void content_space(tug_cs *s, tug_str space) {
    for (size_t i = 0; i < space.n; i++) {
        if (s->spaces < TUG_CALL_SPACE_MAX) {
            s->spaces++;
        } else {
            content_text(s);
        }
        s->line_start = space.p[i] == '\n' || s->fresh;
    }
}

static bool content_tag(const tug_cs_rules *r, tug_cs *s, tug_lexeme tag) {
    const bool line = s->line_start;
    content_text(s);
    if (tag.kind == TUG_LEX_TOOL) {
        s->pending = TUG_PEND_TOOL;
        if (line) tug_cs_fix(s, TUG_FIX_FUNC, 0);
        return !r->forbid;
    }
    const tug_str name = tug_lexeme_name(tag.bytes);
    if (!tug_call_find_tool(r->tools.offered, name)) return true;
    uint32_t tool = 0;
    while (tool < r->tools.names.n && !tug_str_eq(r->tools.names.p[tool].text, name)) {
        tool++;
    }
    if (tool == r->tools.names.n) return false; /* a call of what may not be called */
    s->bare = true;
    tug_cs_begin_call(r, s, tool);
    return true;
}

/* A tag was begun.  After <tool_call> it may be <function=, then only names of tools come. */
static bool content_more(const tug_cs_rules *r, tug_cs *s, bool must) {
    static const char function[] = "<function=";
    if (must && !may_be_tool(s)) return false;
    if (s->pending == TUG_PEND_TOOL && s->lexer.n == sizeof function - 1 &&
        s->lexer.want & TUG_LEX_BIT(TUG_LEX_FUNC)) {
        s->lexer.n = 0;
        tug_cs_begin_name(r, s);
    }
    return true;
}

bool tug_cs_content(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    const char c = (char)b;
    tug_str in = tug_str_make(&c, 1);
    const bool in_tag = s->lexer.n > 0;
    const bool must = forced(r, s) && (!in_tag || may_be_tool(s));
    if (must && !in_tag && !forced_byte(s, b)) return false;
    if (s->content < TUG_CONTENT_MAX) s->content++;
    count_utf8(s, b);
    for (;;) {
        const tug_lexeme x = tug_call_lex(&s->lexer, &in, content_tags(s));
        switch (x.kind) {
        case TUG_LEX_MORE: return s->lexer.n == 0 || content_more(r, s, must);
        case TUG_LEX_OTHER:
            if (must && in_tag) return false;
            content_text(s);
            break;
        case TUG_LEX_SPACE: content_space(s, x.bytes); break;
        default: return content_tag(r, s, x);
        }
    }
}

/* ---- around calls -------------------------------------------------------------------- */

static bool is_done(const tug_cs_rules *r, const tug_cs *s) {
    return !r->parallel && s->n_calls > 0;
}

/* After a call: the next one, or the end. */
static bool after_byte(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    if (is_done(r, s)) return false;
    if (s->mode == TUG_CS_AFTER_TAG) {
        if (b == 't') return tug_cs_fix(s, TUG_FIX_TOOL, 2), true;
        if (b == 'f' && s->bare) return tug_cs_fix(s, TUG_FIX_FUNC_BARE, 2), true;
        return b == '/' && s->bare && (tug_cs_fix(s, TUG_FIX_TOOL_LATE, 2), true);
    }
    const bool line = s->mode == TUG_CS_AFTER_LINE;
    s->mode = line ? TUG_CS_AFTER_TAG : TUG_CS_AFTER_LINE;
    return b == (line ? '<' : '\n');
}

/* In the value of response_format the parser would take this tag for that of a call. */
static bool format_byte(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    if (r->tools.offered.n && !tug_cs_guard(&s->guard[0], "<tool_call>", b)) return false;
    return tug_walk_step(&s->walk, b);
}

/* A value of response_format, or a call instead. */
static bool start_byte(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    if (b == '<' && r->tools.names.n && !r->forbid) {
        tug_cs_fix(s, TUG_FIX_TOOL, 1);
        return true;
    }
    if (!tug_lex_is_space((char)b)) s->mode = TUG_CS_FORMAT;
    return tug_walk_step(&s->walk, b);
}

static bool step(const tug_cs_rules *r, tug_cs *s, unsigned char b) {
    switch ((tug_cs_mode)s->mode) {
    case TUG_CS_OFF: return true;
    case TUG_CS_CONTENT: return tug_cs_content(r, s, b);
    case TUG_CS_START: return start_byte(r, s, b);
    case TUG_CS_FORMAT: return format_byte(r, s, b);
    case TUG_CS_AFTER:
    case TUG_CS_AFTER_LINE:
    case TUG_CS_AFTER_TAG: return after_byte(r, s, b);
    default: return tug_cs_call(r, s, b);
    }
}

/* ---- building ------------------------------------------------------------------------ */

static bool usable_name(tug_str name) {
    if (name.n == 0 || name.n > TUG_NAME_MAX) return false;
    for (size_t i = 0; i < name.n; i++) {
        const unsigned char c = (unsigned char)name.p[i];
        if (c <= 0x20 || c == 0x7f || c == '<' || c == '>') return false;
    }
    return true;
}

typedef struct named_rule {
    const tug_tool *tool;
    uint32_t rule;
} named_rule;

static int order(const void *x, const void *y) {
    const tug_str a = ((const named_rule *)x)->tool->name,
                  b = ((const named_rule *)y)->tool->name;
    const size_t n = a.n < b.n ? a.n : b.n;
    const int cmp = n ? memcmp(a.p, b.p, n) : 0;
    return cmp ? cmp : a.n < b.n ? -1 : a.n > b.n;
}

/* No parameters at all; and any, all of them strings. */
#define KEY_JSON(z) \
    { .kind = TUG_JSON_STRING, .n = sizeof(z) - 1, .v.text = (z) }
static const tug_json empty_object = {.kind = TUG_JSON_OBJECT};
static const tug_json none_members[] = {KEY_JSON("properties"),
                                        {.kind = TUG_JSON_OBJECT}};
static const tug_json none = {.kind = TUG_JSON_OBJECT, .n = 1, .v.item = none_members};
static const tug_json any_members[] = {KEY_JSON("additionalProperties"),
                                       {.kind = TUG_JSON_BOOL, .v.truth = true}};
static const tug_json any = {.kind = TUG_JSON_OBJECT, .n = 1, .v.item = any_members};

/* Required parameters that have no usable name cannot be demanded. */
static void drop_unnameable(tug_rules *r, const tug_rule_object *o) {
    for (uint32_t k = 0; k < o->n_key; k++) {
        const tug_rule_key *const key = &o->key[k];
        if (key->plain) continue;
        tug_rules_warn(
            r, TUG_WARN_NAME,
            "a tool or a parameter has a name that cannot be written in a call; "
            "it is left out");
        if (key->bit == TUG_RULE_MAX_BITS) continue;
        for (uint32_t a = 0; a < o->n_alt; a++) {
            o->alt[a].required &= ~((uint64_t)1 << key->bit);
        }
    }
}

static tug_status parameters_rule(tug_rules *r, const tug_json *schema, uint32_t *out,
                                  tug_err *err) {
    TUG_TRY(tug_rules_add(r, schema ? schema : &none, out, err));
    const tug_rule *const rule = &r->rule[*out];
    if (rule->object && rule->object->n_alt && rule->types & TUG_RULE_OBJ) {
        bool fits = false;
        for (uint32_t a = 0; a < rule->object->n_alt; a++) {
            fits = fits || rule->object->alt[a].height <= TUG_RULE_DEPTH;
        }
        if (fits) return TUG_OK;
    }
    if (!(rule->types & TUG_RULE_OBJ) || rule->object) {
        tug_rules_warn(r, TUG_WARN_NEVER,
                       "the parameters of a tool have a schema that no object satisfies; "
                       "they are left free");
    }
    return tug_rules_add(r, &any, out, err);
}

static tug_status add_tools(tug_cs_rules *r, tug_tools tools, tug_str only,
                            tug_err *err) {
    named_rule *const list = tug_alloc_array(tools.n, sizeof *list);
    if (!list)
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the names of the tools");
    uint32_t n = 0;
    tug_status status = TUG_OK;
    for (size_t i = 0; i < tools.n && status == TUG_OK; i++) {
        const tug_tool *const tool = &tools.tool[i];
        if (only.n && !tug_str_eq(only, tool->name)) continue;
        if (tug_call_find_tool(tools, tool->name) != tool) continue; /* its second */
        if (!usable_name(tool->name)) {
            tug_rules_warn(&r->rules, TUG_WARN_NAME,
                           "a tool or a parameter has a name that cannot be written in a "
                           "call; it is left out");
            continue;
        }
        list[n].tool = tool;
        status = parameters_rule(&r->rules, tool->parameters, &list[n++].rule, err);
    }
    if (n) qsort(list, n, sizeof *list, order);
    tug_rule_text *const names = tug_arena_array(&r->rules.arena, n, sizeof *names);
    const tug_tool **const tool = tug_arena_array(&r->rules.arena, n, sizeof *tool);
    uint32_t *const rule = tug_arena_array(&r->rules.arena, n, sizeof *rule);
    if (!names || !tool || !rule) {
        status = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the names of the tools");
    }
    for (uint32_t i = 0; i < n && status == TUG_OK; i++) {
        names[i] = (tug_rule_text){list[i].tool->name, UINT32_MAX};
        tool[i] = list[i].tool;
        rule[i] = list[i].rule;
        drop_unnameable(&r->rules, r->rules.rule[rule[i]].object);
    }
    tug_free(list);
    if (status == TUG_OK) r->tools = (tug_cs_tools){tools, {names, n}, tool, rule};
    return status;
}

/* The rule of response_format; *out = TUG_NO_RULE: none. */
static tug_status add_format(tug_cs_rules *r, const tug_constraint_spec *spec,
                             uint32_t *out, tug_err *err) {
    static const tug_json object_members[] = {KEY_JSON("type"), KEY_JSON("object")};
    static const tug_json object = {
        .kind = TUG_JSON_OBJECT, .n = 1, .v.item = object_members};
    *out = TUG_NO_RULE;
    if (spec->format == TUG_FORMAT_TEXT) return TUG_OK;
    r->format = true;
    const bool free = spec->format == TUG_FORMAT_JSON || !spec->schema;
    TUG_TRY(tug_rules_add(&r->rules, free ? &object : spec->schema, out, err));
    if (tug_rule_fits(&r->rules, *out, TUG_RULE_DEPTH)) return TUG_OK;
    tug_rules_warn(&r->rules, TUG_WARN_NEVER,
                   "no value satisfies the schema of the answer; it is left free");
    return tug_rules_add(&r->rules, &empty_object, out, err);
}

static void start(tug_constraint *c, const tug_constraint_spec *spec, uint32_t format) {
    tug_cs *const s = &c->s;
    const bool named = spec->choice == TUG_TOOLS_NAMED && c->r.tools.names.n > 0;
    s->walk.rules = &c->r.rules;
    s->line_start = s->fresh = true;
    s->mode = c->r.tools.names.n || c->r.forbid ? TUG_CS_CONTENT : TUG_CS_OFF;
    if (named || (c->r.format && c->r.must_call)) {
        tug_cs_fix(s, TUG_FIX_TOOL, 0);
    } else if (c->r.format) {
        s->mode = TUG_CS_START;
        tug_walk_start(&s->walk, format, 2);
    }
}

static tug_status build(tug_constraint *c, const tug_constraint_spec *spec,
                        tug_err *err) {
    tug_cs_rules *const r = &c->r;
    uint32_t format;
    TUG_TRY(tug_rules_init(&r->rules, err));
    bool named = false;
    for (size_t i = 0; i < spec->tools.n && spec->choice == TUG_TOOLS_NAMED; i++) {
        named = named || tug_str_eq(spec->tools.tool[i].name, spec->named);
    }
    if (spec->choice == TUG_TOOLS_NAMED && !named) {
        tug_rules_warn(
            &r->rules, TUG_WARN_NAMED_TOOL,
            "the tool to be called is not among the tools; any of them may be");
    }
    if (spec->choice == TUG_TOOLS_NONE) {
        r->forbid = spec->tools.n > 0;
    } else {
        const tug_str only = named ? spec->named : (tug_str){NULL, 0};
        TUG_TRY(add_tools(r, spec->tools, only, err));
    }
    r->must_call = r->tools.names.n > 0 && (spec->choice == TUG_TOOLS_REQUIRED ||
                                            spec->choice == TUG_TOOLS_NAMED);
    r->parallel = spec->parallel && spec->choice != TUG_TOOLS_NAMED;
    TUG_TRY(add_format(r, spec, &format, err));
    TUG_TRY(tug_buf_ok(&r->rules.warnings, err));
    start(c, spec, format);
    return TUG_OK;
}

tug_status tug_constraint_create(tug_constraint **out, const tug_constraint_spec *spec,
                                 tug_err *err) {
    *out = NULL;
    tug_constraint *c = tug_alloc_zero(sizeof *c);
    if (!c) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the rules of the answer");
    const tug_status status = build(c, spec, err);
    if (status != TUG_OK) {
        tug_constraint_destroy(&c);
        return status;
    }
    *out = c;
    return TUG_OK;
}

void tug_constraint_destroy(tug_constraint **c) {
    if (!*c) return;
    tug_rules_free(&(*c)->r.rules);
    tug_free(*c);
    *c = NULL;
}

tug_str tug_constraint_warnings(const tug_constraint *c) {
    return tug_buf_view(&c->r.rules.warnings);
}

/* ---- asking -------------------------------------------------------------------------- */

bool tug_constraint_is_free(const tug_constraint *c) {
    const tug_cs *const s = &c->s;
    if (s->mode == TUG_CS_OFF) return true;
    if (s->mode != TUG_CS_CONTENT || s->lexer.n > 0) return false;
    return !c->r.must_call || s->n_calls > 0 ||
           s->content + TUG_TOKEN_MAX <= TUG_CONTENT_MAX;
}

/* Text outside of tags, where no byte but '<' can matter. */
static bool only_text(const tug_constraint *c) {
    return c->s.mode == TUG_CS_RAW && c->s.lexer.n == 0 && c->s.pending == TUG_PEND_NONE;
}

static void copy_state(tug_cs *to, const tug_cs *from) {
    memcpy(to, from,
           offsetof(tug_cs, walk.frame) + from->walk.depth * sizeof(tug_walk_frame));
    memcpy(&to->lexer, &from->lexer, offsetof(tug_call_lexer, part) + from->lexer.n);
}

bool tug_constraint_allows(const tug_constraint *c, tug_str bytes) {
    if (c->s.mode == TUG_CS_OFF) return true;
    if (tug_constraint_is_free(c) || only_text(c)) {
        if (bytes.n <= TUG_TOKEN_MAX && (!bytes.n || !memchr(bytes.p, '<', bytes.n))) {
            return bytes.n > 0;
        }
    }
    tug_cs s;
    copy_state(&s, &c->s);
    for (size_t i = 0; i < bytes.n; i++) {
        if (!step(&c->r, &s, (unsigned char)bytes.p[i])) return false;
    }
    return bytes.n > 0;
}

bool tug_constraint_may_end(const tug_constraint *c) {
    const tug_cs *const s = &c->s;
    switch ((tug_cs_mode)s->mode) {
    case TUG_CS_OFF:
    case TUG_CS_AFTER:
    case TUG_CS_AFTER_LINE: return true;
    case TUG_CS_CONTENT: return !c->r.must_call;
    case TUG_CS_FORMAT: return tug_walk_complete(&s->walk);
    case TUG_CS_RAW:
        return s->closers == 3 && s->lexer.n == 0 && tug_walk_may_close(&s->walk);
    default: return false;
    }
}

void tug_constraint_accept(tug_constraint *c, tug_str bytes) {
    for (size_t i = 0; i < bytes.n; i++) {
        if (step(&c->r, &c->s, (unsigned char)bytes.p[i])) continue;
        c->s.mode = TUG_CS_OFF;
        return;
    }
}

bool tug_constraint_is_done(const tug_constraint *c) {
    const uint8_t mode = c->s.mode;
    return is_done(&c->r, &c->s) && (mode == TUG_CS_AFTER || mode == TUG_CS_AFTER_LINE);
}
