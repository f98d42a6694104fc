/* response_object.c - see response_object.h.  SPDX-License-Identifier: MIT */
#include "api/response_object.h"

/* ---- custom calls -------------------------------------------------------------------- */

/* The byte after the opening quote of the first member's text, if that is `input`. */
static size_t input_begin(tug_str arguments) {
    static const char *const expected[] = {"{", "\"input\"", ":", "\""};
    size_t at = 0;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        while (at < arguments.n && strchr(" \t\r\n", arguments.p[at])) at++;
        const tug_str want = tug_str_of(expected[i]);
        const tug_str rest = tug_str_make(arguments.p + at, arguments.n - at);
        if (!tug_str_starts(rest, want)) return 0;
        at += want.n;
    }
    return at;
}

/* Appends what the JSON string `"` text `"` says. */
static void unescape(tug_str text, tug_buf *out) {
    tug_buf quoted = {0};
    tug_arena arena = {0};
    const tug_json *v = NULL;
    tug_buf_char(&quoted, '"');
    tug_buf_str(&quoted, text);
    tug_buf_char(&quoted, '"');
    const tug_status s = quoted.failed
                             ? TUG_ENOMEM
                             : tug_json_parse(tug_buf_view(&quoted), &arena, &v, NULL);
    if (s == TUG_OK) tug_buf_str(out, tug_json_text(v));
    if (s == TUG_ENOMEM) out->failed = true;
    tug_arena_free(&arena);
    tug_buf_free(&quoted);
}

size_t tug_response_input_piece(tug_str arguments, size_t from, tug_buf *out) {
    if (from == 0) from = input_begin(arguments);
    if (from == 0) return 0;
    size_t to = from;
    while (to < arguments.n && arguments.p[to] != '"') {
        to += arguments.p[to] == '\\' ? 2 : 1;
    }
    /* Pieces are never cut inside of an escape. */
    if (to > arguments.n) to = arguments.n;
    unescape(tug_str_make(arguments.p + from, to - from), out);
    return to;
}

/* ---- items --------------------------------------------------------------------------- */

tug_tool_kind tug_response_kind(const tug_answer *a, const tug_answer_item *item) {
    return item->tool == SIZE_MAX ? TUG_TOOL_FUNCTION
                                  : a->request->shown[item->tool].kind;
}

tug_str tug_response_item_id(tug_answer *a, size_t i) {
    static const char *const prefix[] = {[TUG_TOOL_FUNCTION] = "fc_",
                                         [TUG_TOOL_CUSTOM] = "ctc_",
                                         [TUG_TOOL_LOCAL_SHELL] = "lsh_"};
    const tug_answer_item *const item = &a->choice[0].item[i];
    return tug_answer_item_id(
        a, item->is_call ? prefix[tug_response_kind(a, item)] : "msg_", (int64_t)i);
}

static bool was_cut_off(const tug_answer_choice *c) {
    return c->end == TUG_END_LENGTH || c->end == TUG_END_CONTEXT;
}

static const char *item_status(const tug_answer *a, size_t i) {
    const tug_answer_choice *const c = &a->choice[0];
    const tug_answer_item *const item = &c->item[i];
    if (item->is_call) return item->complete ? "completed" : "incomplete";
    if (i + 1 < c->n) return "completed";
    const bool open = a->phase == TUG_ANSWER_OVER && a->own.item_open;
    return was_cut_off(c) || open ? "incomplete" : "completed";
}

void tug_response_write_logprobs(tug_json_writer *w, const tug_answer *a, size_t i) {
    const tug_answer_choice *const c = &a->choice[0];
    size_t first = c->item[i].first_token, end = c->n_token;
    /* Tokens that came before the first text are its own, and those of an item go on to
     * the next item of text. */
    bool is_first = true;
    for (size_t k = 0; k < i; k++) is_first &= c->item[k].is_call;
    if (is_first) first = 0;
    for (size_t k = c->n; k-- > i + 1;) {
        if (!c->item[k].is_call) end = c->item[k].first_token;
    }
    tug_json_write_key(w, tug_str_of("logprobs"));
    tug_json_begin_array(w);
    for (size_t k = first; k < end; k++) tug_openai_token(w, &c->token[k]);
    tug_json_end_array(w);
}

void tug_response_write_part(tug_json_writer *w, const tug_answer *a, size_t i,
                             bool is_new) {
    const tug_buf *const text = &a->choice[0].item[i].text;
    tug_json_begin_object(w);
    tug_openai_str(w, "type", tug_str_of("output_text"));
    tug_openai_str(w, "text", is_new ? tug_str_of("") : tug_buf_view(text));
    tug_json_write_key(w, tug_str_of("annotations"));
    tug_json_begin_array(w);
    tug_json_end_array(w);
    if (is_new) {
        tug_json_write_key(w, tug_str_of("logprobs"));
        tug_json_begin_array(w);
        tug_json_end_array(w);
    } else {
        tug_response_write_logprobs(w, a, i);
    }
    tug_json_end_object(w);
}

static void write_message(tug_json_writer *w, const tug_answer *a, size_t i,
                          bool is_new) {
    tug_openai_str(w, "role", tug_str_of("assistant"));
    tug_json_write_key(w, tug_str_of("content"));
    tug_json_begin_array(w);
    if (!is_new) tug_response_write_part(w, a, i, false);
    tug_json_end_array(w);
}

/* The member of a call's arguments, which are read again; NULL: none, or cut off. */
static const tug_json *argument(const tug_answer_item *item, const char *key,
                                tug_arena *arena, tug_buf *out) {
    const tug_json *v = NULL;
    const tug_status s = tug_json_parse(tug_buf_view(&item->text), arena, &v, NULL);
    if (s == TUG_ENOMEM) out->failed = true;
    return s == TUG_OK ? tug_json_get(v, key) : NULL;
}

void tug_response_input(const tug_answer_item *item, tug_buf *out) {
    tug_arena arena = {0};
    const tug_json *const input = argument(item, "input", &arena, out);
    if (tug_json_is(input, TUG_JSON_STRING)) {
        tug_buf_str(out, tug_json_text(input));
    } else if (input) {
        tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
        tug_json_write_value(&w, input);
    } else {
        (void)tug_response_input_piece(tug_buf_view(&item->text), 0, out);
    }
    tug_arena_free(&arena);
}

static void write_input(tug_json_writer *w, const tug_answer_item *item, bool is_new) {
    tug_buf input = {0};
    if (!is_new) tug_response_input(item, &input);
    tug_openai_str(w, "input", tug_buf_view(&input));
    if (input.failed) w->out->failed = true;
    tug_buf_free(&input);
}

/* A command that is no array is one program without arguments. */
static void write_action(tug_json_writer *w, const tug_answer_item *item, bool is_new) {
    tug_arena arena = {0};
    const tug_json *const command =
        is_new ? NULL : argument(item, "command", &arena, w->out);
    tug_json_write_key(w, tug_str_of("action"));
    tug_json_begin_object(w);
    tug_openai_str(w, "type", tug_str_of("exec"));
    tug_json_write_key(w, tug_str_of("command"));
    if (tug_json_is(command, TUG_JSON_ARRAY)) {
        tug_json_write_value(w, command);
    } else {
        tug_json_begin_array(w);
        if (command) tug_json_write_value(w, command);
        tug_json_end_array(w);
    }
    tug_json_write_key(w, tug_str_of("env"));
    tug_json_begin_object(w);
    tug_json_end_object(w);
    tug_openai_null(w, "timeout_ms");
    tug_openai_null(w, "user");
    tug_openai_null(w, "working_directory");
    tug_json_end_object(w);
    tug_arena_free(&arena);
}

tug_str tug_response_name(const tug_answer *a, const tug_answer_item *item) {
    return item->tool == SIZE_MAX ? item->name : a->request->shown[item->tool].name;
}

static void write_name(tug_json_writer *w, const tug_answer *a,
                       const tug_answer_item *item) {
    tug_openai_str(w, "name", tug_response_name(a, item));
    if (item->tool == SIZE_MAX) return;
    const tug_str space = a->request->shown[item->tool].space;
    if (space.n > 0) tug_openai_str(w, "namespace", space);
}

static void write_call(tug_json_writer *w, const tug_answer *a,
                       const tug_answer_item *item, bool is_new) {
    const tug_tool_kind kind = tug_response_kind(a, item);
    tug_openai_str(w, "call_id", item->id);
    if (kind == TUG_TOOL_LOCAL_SHELL) {
        write_action(w, item, is_new);
        return;
    }
    write_name(w, a, item);
    if (kind == TUG_TOOL_CUSTOM) {
        write_input(w, item, is_new);
        return;
    }
    tug_openai_str(w, "arguments", is_new ? tug_str_of("") : tug_buf_view(&item->text));
}

void tug_response_write_item(tug_json_writer *w, tug_answer *a, size_t i, bool is_new) {
    static const char *const types[] = {[TUG_TOOL_FUNCTION] = "function_call",
                                        [TUG_TOOL_CUSTOM] = "custom_tool_call",
                                        [TUG_TOOL_LOCAL_SHELL] = "local_shell_call"};
    const tug_answer_item *const item = &a->choice[0].item[i];
    const char *const type =
        item->is_call ? types[tug_response_kind(a, item)] : "message";
    tug_json_begin_object(w);
    tug_openai_str(w, "id", tug_response_item_id(a, i));
    tug_openai_str(w, "type", tug_str_of(type));
    tug_openai_str(w, "status", tug_str_of(is_new ? "in_progress" : item_status(a, i)));
    if (item->is_call) {
        write_call(w, a, item, is_new);
    } else {
        write_message(w, a, i, is_new);
    }
    tug_json_end_object(w);
}

/* ---- the response -------------------------------------------------------------------- */

tug_response_state tug_response_ended(const tug_answer *a) {
    const tug_answer_choice *const c = &a->choice[0];
    const bool cut_call = c->n_complete < c->n_calls && c->end != TUG_END_LOOP;
    tug_response_state state = {.status = "completed", .with_output = true};
    if (was_cut_off(c) || cut_call) {
        state.status = "incomplete";
        state.reason = "max_output_tokens";
    }
    return state;
}

/* A member of the request, as it was sent. */
static void echo(tug_json_writer *w, const tug_answer *a, const char *key,
                 const char *otherwise) {
    const tug_json *const v = tug_json_get(a->request->as_sent, key);
    tug_json_write_key(w, tug_str_of(key));
    if (v && v->kind != TUG_JSON_NULL) {
        tug_json_write_value(w, v);
    } else {
        tug_json_write_raw(w, tug_str_of(otherwise));
    }
}

static void write_error(tug_json_writer *w, const tug_response_state *state) {
    if (!state->code) {
        tug_openai_null(w, "error");
    } else {
        tug_json_write_key(w, tug_str_of("error"));
        tug_json_begin_object(w);
        tug_openai_str(w, "code", tug_str_of(state->code));
        tug_openai_str(w, "message", state->message);
        tug_json_end_object(w);
    }
    if (!state->reason) {
        tug_openai_null(w, "incomplete_details");
        return;
    }
    tug_json_write_key(w, tug_str_of("incomplete_details"));
    tug_json_begin_object(w);
    tug_openai_str(w, "reason", tug_str_of(state->reason));
    tug_json_end_object(w);
}

static void write_output(tug_json_writer *w, tug_answer *a, bool with_output) {
    tug_json_write_key(w, tug_str_of("output"));
    tug_json_begin_array(w);
    const size_t n = with_output ? a->choice[0].n : 0;
    for (size_t i = 0; i < n; i++) tug_response_write_item(w, a, i, false);
    tug_json_end_array(w);
}

static void write_usage(tug_json_writer *w, const tug_answer *a, bool is_known) {
    const tug_answer_usage *const u = &a->usage;
    if (!is_known) {
        tug_openai_null(w, "usage");
        return;
    }
    tug_json_write_key(w, tug_str_of("usage"));
    tug_json_begin_object(w);
    tug_openai_i64(w, "input_tokens", u->n_prompt);
    tug_json_write_key(w, tug_str_of("input_tokens_details"));
    tug_json_begin_object(w);
    tug_openai_i64(w, "cached_tokens", u->n_cached);
    tug_openai_i64(w, "cache_write_tokens", 0); /* nobody pays for them here */
    tug_json_end_object(w);
    tug_openai_i64(w, "output_tokens", u->n_completion);
    tug_openai_detail(w, "output_tokens_details", "reasoning_tokens", 0);
    tug_openai_i64(w, "total_tokens", u->n_prompt + u->n_completion);
    tug_json_end_object(w);
}

/* `text` as sent, with the format that it may leave out. */
static void write_text_config(tug_json_writer *w, const tug_answer *a) {
    const tug_json *const text = tug_json_get(a->request->as_sent, "text");
    if (tug_json_get(text, "format")) {
        echo(w, a, "text", "null");
        return;
    }
    tug_json_write_key(w, tug_str_of("text"));
    tug_json_write_raw(w, tug_str_of("{\"format\":{\"type\":\"text\"}}"));
}

static void write_echoes(tug_json_writer *w, const tug_answer *a) {
    static const struct {
        const char *key, *otherwise;
    } member[] = {
        {"instructions", "null"},
        {"max_output_tokens", "null"},
        {"max_tool_calls", "null"},
        {"metadata", "{}"},
        {"parallel_tool_calls", "true"},
        {"prompt_cache_key", "null"},
        {"reasoning", "{\"effort\":null,\"summary\":null}"},
        {"temperature", "null"},
        {"tool_choice", "\"auto\""},
        {"tools", "[]"},
        {"top_logprobs", "0"},
        {"top_p", "null"},
        {"user", "null"},
    };
    for (size_t i = 0; i < sizeof member / sizeof *member; i++) {
        echo(w, a, member[i].key, member[i].otherwise);
    }
    write_text_config(w, a);
}

void tug_response_write(tug_json_writer *w, tug_answer *a,
                        const tug_response_state *state) {
    tug_json_begin_object(w);
    tug_openai_str(w, "id", a->id);
    tug_openai_str(w, "object", tug_str_of("response"));
    tug_openai_i64(w, "created_at", a->created);
    tug_openai_str(w, "status", tug_str_of(state->status));
    tug_openai_str(w, "model", a->model);
    write_error(w, state);
    write_output(w, a, state->with_output);
    write_usage(w, a, state->with_output && !state->code);
    write_echoes(w, a);
    tug_json_write_key(w, tug_str_of("background"));
    tug_json_write_bool(w, false);
    tug_json_write_key(w, tug_str_of("store"));
    tug_json_write_bool(w, false);
    tug_openai_null(w, "previous_response_id");
    tug_openai_str(w, "service_tier", tug_str_of("default"));
    tug_openai_str(w, "truncation", tug_str_of("disabled"));
    if (state->with_output) tug_openai_warning(w, a);
    tug_json_end_object(w);
}
