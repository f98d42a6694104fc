/* fuzz_constraint.c - the bytes choose what an answer says next, from pieces of the markup
 * of calls and single bytes; what the constraint refuses is left out.
 *
 *  1. After every byte the constraint and the parser of calls are at the same place: in text,
 *     between tags, in a value; with the same tag begun, the same tag waiting for the next
 *     one, the same nested markup, the same keys.
 *  2. The answer can always be brought to its end, and the parser has then seen complete
 *     calls only, with the required parameters in valid JSON.
 *
 * The first byte says what the request asks for, or that the bytes are a schema instead,
 * which must build.  SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "calls/call_parser_impl.h"
#include "calls/constraint_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OBJECT "{'type':'object','properties':{"
#define NEEDED \
    "'s':{'type':'string'},'n':{'type':['integer','null']}},'required':['s','n']"
#define TEXT ":{'type':'string'},"
#define TENS(k)                                                               \
    k "0'" TEXT k "1'" TEXT k "2'" TEXT k "3'" TEXT k "4'" TEXT k "5'" TEXT k \
      "6'" TEXT k "7'" TEXT k "8'" TEXT k "9'" TEXT

/* With ' for ". */
static const char *const schemas[] = {
    /* All kinds of values, and keys that nobody declared. */
    OBJECT "'odd key'" TEXT "'e':{'enum':['a','ab',null,1,'<function=']},"
           "'o':{'type':'object','additionalProperties':{'type':['string','array']}},"
           "'m':{'type':['string','object']}," NEEDED
           ",'additionalProperties':{'type':'string'}}",
    /* Keys that the parser knows and that may not come. */
    OBJECT NEEDED ",'anyOf':["
                  "{'properties':{'p'" TEXT "'k':{'const':'x'},'z':false}},"
                  "{'properties':{'q'" TEXT "'k':{'const':'y'},'z':false}}]}",
    /* More keys than the constraint can tell to be there already. */
    OBJECT TENS("'k1") TENS("'k2") TENS("'k3") TENS("'k4") TENS("'k5") TENS("'k6")
        TENS("'k7") NEEDED "}",
};

#define TEN(x)     x x x x x x x x x x
#define LONG_NAME  TEN(TEN("long")) TEN("white")
#define MANY_BYTES TEN(TEN("0123")) TEN("nine ")

/* The last is too long for the constraint and not for the parser. */
static const char *const names[] = {"f", "g", "w", LONG_NAME};
enum { N_TOOLS = 4 };

static const char *const pieces[] = {
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "<function=f>",
    "<function=g>",
    "<function=x>",
    "</function>",
    "<parameter=",
    "<parameter=s>",
    "<parameter=n>",
    "<parameter=e>",
    "<parameter=o>",
    "<parameter=m>",
    "<parameter=y>",
    "</parameter>",
    "</parameter/>",
    "</parameter",
    "\n",
    "\n\n",
    " ",
    "\t",
    "s>",
    "n>",
    "f>",
    "a",
    "1",
    "null",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "u00e9",
    "\n</parameter>\n",
    "</function>\n",
    "<function=f>\n<parameter=s>\n",
    "<tool_call>\n<function=f>\n",
    "\\ud800",
    "\xC3\xA9",
    "\n<function=f>",
    "\n<parameter=n>",
    "\n</function>",
    "\n</tool_call>",
};
enum { N_PIECES = sizeof pieces / sizeof *pieces };

/* For capital letters. */
static const char *const more_pieces[] = {
    "<parameter=odd key>",
    "<parameter=k>",
    "<parameter=p>",
    "<parameter=q>",
    "<parameter=z>",
    "<parameter=k77>",
    "\n<parameter=odd key>",
    "\n<parameter=q>",
    "\n<parameter=k77>",
    "<function=w>",
    "<function=" LONG_NAME ">",
    "<function={{ f }}>",
    "<function=g>\n<parameter=k>\nx\n</parameter>\n<parameter=p>\n",
    "<function=w>\n<parameter=k77>\n",
    "<function=x></function>",
    TEN(TEN("          ")),
    MANY_BYTES,
    "xxxxxxxxxx",
    "\x7f",
    "\r\n",
    " >",
    "\n>",
    "\t>",
    "x",
    "y",
    "true",
};
_Static_assert(sizeof more_pieces / sizeof *more_pieces == 26, "one for each letter");
enum { LONG_PIECE = 64 };

typedef struct heard {
    int begun, complete;
    tug_buf arguments;
} heard;

static tug_status hear_text(void *ud, tug_str text, tug_err *err) {
    (void)ud;
    (void)text;
    (void)err;
    return TUG_OK;
}
static tug_status hear_begin(void *ud, tug_str name, tug_err *err) {
    heard *const h = ud;
    (void)err;
    TUG_CHECK(tug_str_is(name, "f") || tug_str_is(name, "g") || tug_str_is(name, "w"));
    h->begun++;
    tug_buf_clear(&h->arguments);
    return TUG_OK;
}
static tug_status hear_arguments(void *ud, tug_str json, tug_err *err) {
    (void)err;
    tug_buf_str(&((heard *)ud)->arguments, json);
    return TUG_OK;
}
static void check_arguments(const tug_json *v) {
    const tug_json *const n = tug_json_get(v, "n");
    TUG_CHECK(tug_json_is(tug_json_get(v, "s"), TUG_JSON_STRING));
    TUG_CHECK(tug_json_is(n, TUG_JSON_NUMBER) || tug_json_is(n, TUG_JSON_NULL));
    const tug_json *const o = tug_json_get(v, "o");
    TUG_CHECK(!o || o->kind == TUG_JSON_OBJECT);
    const tug_json *const e = tug_json_get(v, "e");
    if (tug_json_is(e, TUG_JSON_STRING)) {
        const tug_str text = tug_json_text(e);
        TUG_CHECK(tug_str_is(text, "a") || tug_str_is(text, "ab") ||
                  tug_str_is(text, "<function="));
    }
}

static tug_status hear_end(void *ud, bool complete, tug_err *err) {
    heard *const h = ud;
    (void)err;
    tug_arena arena = {0};
    const tug_json *v = NULL;
    TUG_CHECK(complete);
    TUG_CHECK(tug_json_parse(tug_buf_view(&h->arguments), &arena, &v, NULL) == TUG_OK);
    check_arguments(v);
    tug_arena_free(&arena);
    h->complete++;
    return TUG_OK;
}

/* ---- the same place ------------------------------------------------------------------- */

/* An answer, and the parser that reads it. */
typedef struct answer {
    tug_constraint *c;
    tug_call_parser *p;
} answer;

static tug_lexeme_kind waiting(const tug_call_queue *q) {
    return tug_call_queue_kind(q, tug_call_queue_skip(q, 0));
}

static bool parser_at_line_start(const tug_call_parser *p) {
    const tug_call_queue *const q = &p->queue;
    const bool fresh = p->state == TUG_CALL_VALUE ? p->value_fresh : p->text_fresh;
    if (q->n == 0) return fresh;
    if (tug_call_queue_kind(q, q->n - 1) != TUG_LEX_SPACE) return false;
    if (q->n == 1 && fresh && p->state == TUG_CALL_TEXT) return true;
    const tug_str space = tug_call_queue_bytes(q, q->n - 1);
    return space.p[space.n - 1] == '\n';
}

static void check_lexer(const tug_cs *s, const tug_call_parser *p) {
    TUG_CHECK(s->lexer.n == p->lexer.n);
    if (s->lexer.n > 0) {
        TUG_CHECK(s->lexer.want == p->lexer.want);
    } else {
        TUG_CHECK(s->line_start == parser_at_line_start(p));
    }
}

static void check_content(const tug_cs *s, const tug_call_parser *p) {
    TUG_CHECK(p->state == TUG_CALL_TEXT && !p->in_call && p->n_calls == 0);
    check_lexer(s, p);
    TUG_CHECK(waiting(&p->queue) ==
              (s->pending == TUG_PEND_TOOL ? TUG_LEX_TOOL : TUG_LEX_MORE));
}

static void check_keys(const tug_cs *s, const tug_call_parser *p) {
    const tug_rule_object *const o = tug_cs_arguments(s);
    for (uint32_t i = 0; i < o->n_key; i++) {
        if (o->key[i].bit == TUG_RULE_MAX_BITS) continue;
        const bool seen = s->walk.frame[0].seen >> o->key[i].bit & 1;
        TUG_CHECK(seen == tug_key_set_has(&p->args.seen, o->key[i].text));
    }
}

static void check_raw(const tug_cs *s, const tug_call_parser *p) {
    static const tug_lexeme_kind kinds[] = {
        [TUG_PEND_NONE] = TUG_LEX_MORE,         [TUG_PEND_CLOSER] = TUG_LEX_PARAM_END,
        [TUG_PEND_FUNC_END] = TUG_LEX_FUNC_END, [TUG_PEND_TOOL_END] = TUG_LEX_TOOL_END,
        [TUG_PEND_FUNC] = TUG_LEX_FUNC,         [TUG_PEND_BAD_CLOSER] = TUG_LEX_PARAM_BAD,
    };
    const tug_lexeme_kind tag = waiting(&p->queue);
    check_lexer(s, p);
    TUG_CHECK(tag == (s->closers > 0 ? TUG_LEX_PARAM_END : kinds[s->pending]));
    if (s->closers > 0) return; /* the constraint counts these tags at once */
    TUG_CHECK(s->functions == p->nest.functions && s->params == p->nest.params);
    if (tag == TUG_LEX_MORE) TUG_CHECK(s->after_function == p->nest.after_function);
}

static void check_place(const answer *a) {
    const tug_cs *const s = &a->c->s;
    switch ((tug_cs_mode)s->mode) {
    case TUG_CS_CONTENT: check_content(s, a->p); break;
    case TUG_CS_START:
    case TUG_CS_FORMAT: TUG_CHECK(!a->p->in_call && a->p->n_calls == 0); break;
    case TUG_CS_VALUE:
    case TUG_CS_TEXTS:
    case TUG_CS_JSON:
    case TUG_CS_RAW:
        TUG_CHECK(a->p->state == TUG_CALL_VALUE && a->p->n_calls == s->n_calls);
        TUG_CHECK(a->p->tool == s->tool);
        if (s->mode == TUG_CS_RAW) check_raw(s, a->p);
        break;
    case TUG_CS_AFTER:
    case TUG_CS_AFTER_LINE:
        TUG_CHECK(a->p->state == TUG_CALL_TEXT && !a->p->in_call);
        TUG_CHECK(a->p->n_calls == s->n_calls);
        break;
    default: break; /* the parser may wait for what comes next */
    }
}

/* ---- answers -------------------------------------------------------------------------- */

/* Byte by byte; a long piece at once, for the time that it takes. */
static bool put(const answer *a, tug_str s) {
    if (!tug_constraint_allows(a->c, s)) return false;
    const size_t step = s.n > LONG_PIECE ? s.n : 1;
    for (size_t i = 0; i < s.n; i += step) {
        const tug_str part = tug_str_make(s.p + i, step);
        tug_constraint_accept(a->c, part);
        TUG_CHECK(a->c->s.mode != TUG_CS_OFF);
        if (!a->p) continue;
        TUG_CHECK(tug_call_parser_feed(a->p, part, NULL) == TUG_OK);
        check_place(a);
    }
    if (a->p && a->c->s.mode == TUG_CS_RAW) check_keys(&a->c->s, a->p);
    return true;
}

/* To the end, with what closes; then with any byte that is allowed. */
static void finish(const answer *a) {
    static const char *const closers[] = {
        "\n</parameter>\n",
        "\"",
        "</function>",
        "\n</tool_call>",
        "s>",
        "n>",
        "}",
        "]",
        "0",
        "null",
        "<parameter=",
        "true",
        "[",
        "{",
    };
    for (int n = 0; !tug_constraint_may_end(a->c); n++) {
        bool done = false;
        TUG_CHECK(n < 20000);
        if (n % 3 == 2) done = put(a, tug_str_of("</function>")); /* of nested calls */
        for (size_t k = 0; k < sizeof closers / sizeof *closers && !done; k++) {
            done = put(a, tug_str_of(closers[k]));
        }
        for (int k = 0; k < 256 && !done; k++) {
            const char byte = (char)((k + n * 7) % 256);
            done = put(a, tug_str_make(&byte, 1));
        }
        TUG_CHECK(done);
    }
}

/* What the first byte asks for.  Constraints are made once: only their states change. */
typedef struct request {
    tug_constraint *c;
    tug_cs start;
} request;

static tug_tool tools[N_TOOLS];

static const tug_json *read_schema(const char *text) {
    static tug_arena arena;
    const tug_json *v = NULL;
    tug_buf json = {0};
    for (; *text; text++) tug_buf_char(&json, *text == '\'' ? '"' : *text);
    TUG_CHECK(tug_json_parse(tug_buf_view(&json), &arena, &v, NULL) == TUG_OK);
    tug_buf_free(&json);
    return v;
}

static request *get_request(unsigned bits) {
    static request all[32];
    request *const r = &all[bits % 32];
    if (!r->c) {
        for (size_t i = 0; i < N_TOOLS && !tools[i].parameters; i++) {
            tools[i] = (tug_tool){tug_str_of(names[i]), read_schema(schemas[i % 3])};
        }
        const tug_constraint_spec spec = {.tools = {tools, N_TOOLS},
                                          .parallel = !(bits & 1),
                                          .choice = (tug_tool_choice)(bits >> 1 & 3),
                                          .named = tug_str_of("f"),
                                          .format = bits & 8 ? TUG_FORMAT_JSON
                                                             : TUG_FORMAT_TEXT};
        TUG_CHECK(tug_constraint_create(&r->c, &spec, NULL) == TUG_OK);
        r->start = r->c->s;
    }
    r->c->s = r->start;
    return r;
}

static void fuzz_answer(unsigned bits, const uint8_t *data, size_t size) {
    heard h = {.begun = 0};
    const tug_call_sink sink = {&h, hear_text, hear_begin, hear_arguments, hear_end};
    answer a = {.c = get_request(bits)->c};
    if (!a.c->r.forbid) { /* nothing is parsed then */
        TUG_CHECK(tug_call_parser_create(&a.p, (tug_tools){tools, N_TOOLS}, &sink,
                                         NULL) == TUG_OK);
    }
    for (size_t i = 0, n_long = 0; i < size; i++) {
        const char byte = (char)data[i];
        tug_str piece = tug_str_make(&byte, 1);
        if (data[i] < N_PIECES) piece = tug_str_of(pieces[data[i]]);
        if (byte >= 'A' && byte <= 'Z') piece = tug_str_of(more_pieces[byte - 'A']);
        if (piece.n <= LONG_PIECE || n_long++ < 8) (void)put(&a, piece);
    }
    finish(&a);
    if (a.p) {
        const tug_cs *const s = &a.c->s;
        TUG_CHECK(tug_call_parser_finish(a.p, true, NULL) == TUG_OK);
        TUG_CHECK(h.begun == h.complete);
        TUG_CHECK((uint32_t)h.complete == s->n_calls + (s->mode == TUG_CS_RAW));
        tug_call_parser_destroy(&a.p);
    }
    tug_buf_free(&h.arguments);
}

static void fuzz_schema(tug_str in) {
    tug_arena arena = {0};
    const tug_json *schema;
    if (tug_json_parse(in, &arena, &schema, NULL) == TUG_OK) {
        tug_constraint *c = NULL;
        const tug_tool tool = {tug_str_of("f"), schema};
        const tug_constraint_spec spec = {.tools = {&tool, 1},
                                          .choice = TUG_TOOLS_AUTO,
                                          .format = TUG_FORMAT_JSON_SCHEMA,
                                          .schema = schema};
        TUG_CHECK(tug_constraint_create(&c, &spec, NULL) == TUG_OK);
        const answer a = {.c = c};
        for (size_t i = 0; i < in.n; i++) (void)put(&a, tug_str_make(&in.p[i], 1));
        tug_constraint_destroy(&c);
    }
    tug_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (data[0] == '{') {
        fuzz_schema(tug_str_make((const char *)data, size));
    } else {
        fuzz_answer(data[0], data + 1, size - 1);
    }
    return 0;
}
