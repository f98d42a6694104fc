/* answer_chat.c - answers of POST /v1/chat/completions.
 *
 * A stream is: the role, then content and calls as they come, the finish_reason; all that
 * for each choice; usage if asked for; [DONE].  SPDX-License-Identifier: MIT */
#include "api/answer_openai.h"
#include "api/request_impl.h"

static const char chunk_object[] = "chat.completion.chunk";

/* ---- logprobs ------------------------------------------------------------------------ */

static void write_logprobs(tug_json_writer *w, const tug_answer_token *t, size_t n,
                           bool wanted) {
    tug_json_write_key(w, tug_str_of("logprobs"));
    if (!wanted) {
        tug_json_write_null(w);
        return;
    }
    tug_json_begin_object(w);
    tug_json_write_key(w, tug_str_of("content"));
    tug_json_begin_array(w);
    for (size_t i = 0; i < n; i++) tug_openai_token(w, &t[i]);
    tug_json_end_array(w);
    tug_openai_null(w, "refusal");
    tug_json_end_object(w);
}

/* ---- the stream ----------------------------------------------------------------------- */

/* A chunk up to the opened delta, and from its end on. */
static tug_json_writer open_chunk(tug_answer *a, tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_answer_open_event(out, NULL);
    tug_openai_begin(&w, a, chunk_object);
    tug_json_write_key(&w, tug_str_of("choices"));
    tug_json_begin_array(&w);
    tug_json_begin_object(&w);
    tug_openai_i64(&w, "index", a->i_choice);
    tug_json_write_key(&w, tug_str_of("delta"));
    tug_json_begin_object(&w);
    return w;
}

static void close_chunk(tug_json_writer *w, tug_answer *a, const tug_answer_token *token,
                        const char *reason) {
    tug_json_end_object(w);
    write_logprobs(w, token, 1, token != NULL);
    tug_json_write_key(w, tug_str_of("finish_reason"));
    if (reason) {
        tug_json_write_str(w, tug_str_of(reason));
    } else {
        tug_json_write_null(w);
    }
    tug_json_end_object(w);
    tug_json_end_array(w);
    if (reason) tug_openai_warning(w, a);
    tug_json_end_object(w);
    tug_answer_close_event(w->out);
}

/* The first chunk of each choice. */
static void send_role(tug_answer *a, tug_buf *out) {
    if (a->own.role_sent) return;
    a->own.role_sent = true;
    tug_json_writer w = open_chunk(a, out);
    tug_openai_str(&w, "role", tug_str_of("assistant"));
    tug_openai_str(&w, "content", tug_str_of(""));
    close_chunk(&w, a, NULL, NULL);
}

static void chat_begin(tug_answer *a, tug_buf *out) {
    send_role(a, out);
}

static void chat_text(tug_answer *a, tug_str text, const tug_answer_token *token,
                      tug_buf *out) {
    send_role(a, out);
    tug_json_writer w = open_chunk(a, out);
    tug_openai_str(&w, "content", text);
    close_chunk(&w, a, token, NULL);
}

/* The call that the old form has no room for. */
static bool is_left_out(const tug_answer *a, size_t i_call) {
    return i_call > 0 && tug_api_is_legacy(a->request);
}

/* {"index": i, "id": .., "type": .., "function": {"name": .., "arguments": ..}} within
 * its list; id and name only with the first piece. */
static void write_call_delta(tug_json_writer *w, const tug_answer *a, size_t i_call,
                             const tug_str *id, const tug_str *name, tug_str json) {
    const bool legacy = tug_api_is_legacy(a->request);
    tug_json_write_key(w, tug_str_of(legacy ? "function_call" : "tool_calls"));
    if (!legacy) {
        tug_json_begin_array(w);
        tug_json_begin_object(w);
        tug_openai_i64(w, "index", (int64_t)i_call);
        if (id) tug_openai_str(w, "id", *id);
        if (id) tug_openai_str(w, "type", tug_str_of("function"));
        tug_json_write_key(w, tug_str_of("function"));
    }
    tug_json_begin_object(w);
    if (name) tug_openai_str(w, "name", *name);
    tug_openai_str(w, "arguments", json);
    tug_json_end_object(w);
    if (!legacy) {
        tug_json_end_object(w);
        tug_json_end_array(w);
    }
}

static void chat_call_begin(tug_answer *a, tug_str id, tug_str name, size_t tool,
                            tug_buf *out) {
    (void)tool;
    const size_t i_call = tug_answer_now(a)->n_calls;
    if (is_left_out(a, i_call)) return;
    send_role(a, out);
    tug_json_writer w = open_chunk(a, out);
    write_call_delta(&w, a, i_call, &id, &name, tug_str_of(""));
    close_chunk(&w, a, NULL, NULL);
}

static void chat_call_arguments(tug_answer *a, tug_str json, tug_buf *out) {
    const size_t i_call = tug_answer_now(a)->n_calls - 1;
    if (is_left_out(a, i_call)) return;
    tug_json_writer w = open_chunk(a, out);
    write_call_delta(&w, a, i_call, NULL, NULL, json);
    close_chunk(&w, a, NULL, NULL);
}

static void chat_call_end(tug_answer *a, bool complete, tug_buf *out) {
    (void)a;
    (void)complete;
    (void)out;
}

static const char *reason_of(const tug_answer *a, const tug_answer_choice *c) {
    const char *const reason = tug_openai_reason(c);
    const bool calls = strcmp(reason, "tool_calls") == 0;
    return calls && tug_api_is_legacy(a->request) ? "function_call" : reason;
}

static void chat_choice_end(tug_answer *a, tug_buf *out) {
    send_role(a, out);
    a->own.role_sent = false;
    tug_json_writer w = open_chunk(a, out);
    close_chunk(&w, a, NULL, reason_of(a, tug_answer_now(a)));
}

static void chat_finish(tug_answer *a, tug_buf *out) {
    tug_openai_finish(a, chunk_object, out);
}

static void chat_alive(tug_answer *a, int64_t done, int64_t total, tug_buf *out) {
    if (!a->request->return_progress) {
        tug_openai_alive(a, done, total, out);
        return;
    }
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_answer_open_event(out, NULL);
    tug_openai_begin(&w, a, chunk_object);
    tug_json_write_key(&w, tug_str_of("choices"));
    tug_json_begin_array(&w);
    tug_json_end_array(&w);
    tug_json_write_key(&w, tug_str_of("prompt_progress"));
    tug_json_begin_object(&w);
    tug_openai_i64(&w, "total", total);
    tug_openai_i64(&w, "cache", a->usage.n_cached);
    tug_openai_i64(&w, "processed", done);
    tug_json_end_object(&w);
    tug_json_end_object(&w);
    tug_answer_close_event(out);
}

/* ---- one body -------------------------------------------------------------------------- */

/* All text of the choice.  Beside calls no text is null; an answer of nothing is "". */
static void write_content(tug_json_writer *w, tug_answer *a, const tug_answer_choice *c) {
    tug_buf text = {0};
    for (size_t i = 0; i < c->n; i++) {
        if (!c->item[i].is_call) tug_buf_str(&text, tug_buf_view(&c->item[i].text));
    }
    tug_json_write_key(w, tug_str_of("content"));
    if (text.n == 0 && c->n_calls > 0) {
        tug_json_write_null(w);
    } else {
        tug_json_write_str(w, tug_buf_view(&text));
    }
    a->failed |= text.failed;
    tug_buf_free(&text);
}

static void write_function(tug_json_writer *w, const tug_answer_item *item) {
    tug_json_begin_object(w);
    tug_openai_str(w, "name", item->name);
    tug_openai_str(w, "arguments", tug_buf_view(&item->text));
    tug_json_end_object(w);
}

static void write_calls(tug_json_writer *w, const tug_answer_choice *c) {
    tug_json_write_key(w, tug_str_of("tool_calls"));
    tug_json_begin_array(w);
    for (size_t i = 0; i < c->n; i++) {
        const tug_answer_item *const item = &c->item[i];
        if (!item->is_call) continue;
        tug_json_begin_object(w);
        tug_openai_str(w, "id", item->id);
        tug_openai_str(w, "type", tug_str_of("function"));
        tug_json_write_key(w, tug_str_of("function"));
        write_function(w, item);
        tug_json_end_object(w);
    }
    tug_json_end_array(w);
}

static void write_function_call(tug_json_writer *w, const tug_answer_choice *c) {
    size_t i = 0;
    while (i < c->n && !c->item[i].is_call) i++;
    if (i == c->n) return;
    tug_json_write_key(w, tug_str_of("function_call"));
    write_function(w, &c->item[i]);
}

static void write_choice(tug_json_writer *w, tug_answer *a, int32_t i) {
    const tug_answer_choice *const c = &a->choice[i];
    tug_json_begin_object(w);
    tug_openai_i64(w, "index", i);
    tug_json_write_key(w, tug_str_of("message"));
    tug_json_begin_object(w);
    tug_openai_str(w, "role", tug_str_of("assistant"));
    write_content(w, a, c);
    tug_openai_null(w, "refusal");
    if (c->n_calls > 0 && tug_api_is_legacy(a->request)) {
        write_function_call(w, c);
    } else if (c->n_calls > 0) {
        write_calls(w, c);
    }
    tug_json_end_object(w);
    write_logprobs(w, c->token, c->n_token, a->request->logprobs);
    tug_openai_str(w, "finish_reason", tug_str_of(reason_of(a, c)));
    tug_json_end_object(w);
}

static void chat_body(tug_answer *a, tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_openai_begin(&w, a, "chat.completion");
    tug_json_write_key(&w, tug_str_of("choices"));
    tug_json_begin_array(&w);
    for (int32_t i = 0; i <= a->i_choice; i++) write_choice(&w, a, i);
    tug_json_end_array(&w);
    tug_openai_numbers(&w, a);
    tug_openai_warning(&w, a);
    tug_json_end_object(&w);
}

const tug_answer_ops tug_answer_chat_ops = {
    .id_prefix = "chatcmpl-",
    .begin = chat_begin,
    .text = chat_text,
    .call_begin = chat_call_begin,
    .call_arguments = chat_call_arguments,
    .call_end = chat_call_end,
    .choice_end = chat_choice_end,
    .finish = chat_finish,
    .alive = chat_alive,
    .error = tug_openai_error,
    .body = chat_body,
};
