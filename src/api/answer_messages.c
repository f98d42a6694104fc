/* answer_messages.c - the answer of /v1/messages: blocks of text and of tool use.
 *
 * A block is stopped before the next one starts, and starts with its first byte: an answer
 * that begins with a call has no empty text before it.
 * SPDX-License-Identifier: MIT */
#include "api/answer_openai.h"

/* ---- the message --------------------------------------------------------------------- */

/* A call that was cut off by the model itself counts as one that was by a limit: what is
 * there of it must not be run.  As in tug_openai_reason, calls come before other ends. */
static const char *stop_reason(const tug_answer_choice *c) {
    const bool cut_off = c->n_complete < c->n_calls;
    if (c->end == TUG_END_LENGTH) return "max_tokens";
    if (c->end == TUG_END_CONTEXT) return "model_context_window_exceeded";
    if (c->end == TUG_END_LOOP && cut_off) return "end_turn";
    if (cut_off) return "max_tokens";
    if (c->n_complete > 0) return "tool_use";
    return c->end == TUG_END_STOP_STRING ? "stop_sequence" : "end_turn";
}

static void write_stop(tug_json_writer *w, const tug_answer_choice *c) {
    const tug_str reason = tug_str_of(stop_reason(c));
    tug_openai_str(w, "stop_reason", reason);
    if (tug_str_is(reason, "stop_sequence")) {
        tug_openai_str(w, "stop_sequence", c->stop_string);
    } else {
        tug_openai_null(w, "stop_sequence");
    }
}

/* Of the prompt's tokens, input_tokens are those that were computed. */
static void write_usage(tug_json_writer *w, const tug_answer_usage *u) {
    tug_json_write_key(w, tug_str_of("usage"));
    tug_json_begin_object(w);
    tug_openai_i64(w, "input_tokens", u->n_prompt - u->n_cached);
    tug_openai_i64(w, "cache_creation_input_tokens", 0);
    tug_openai_i64(w, "cache_read_input_tokens", u->n_cached);
    tug_openai_i64(w, "output_tokens", u->n_completion);
    tug_json_end_object(w);
}

static void write_head(tug_json_writer *w, const tug_answer *a) {
    tug_openai_str(w, "id", a->id);
    tug_openai_str(w, "type", tug_str_of("message"));
    tug_openai_str(w, "role", tug_str_of("assistant"));
    tug_openai_str(w, "model", a->model);
}

/* ---- events -------------------------------------------------------------------------- */

static tug_json_writer open_event(tug_buf *out, const char *type) {
    tug_answer_open_event(out, type);
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_json_begin_object(&w);
    tug_openai_str(&w, "type", tug_str_of(type));
    return w;
}

static void close_event(tug_json_writer *w) {
    tug_json_end_object(w);
    tug_answer_close_event(w->out);
}

static void ping(tug_answer *a, int64_t done, int64_t total, tug_buf *out) {
    (void)a;
    (void)done;
    (void)total;
    tug_json_writer w = open_event(out, "ping");
    close_event(&w);
}

static void begin(tug_answer *a, tug_buf *out) {
    tug_json_writer w = open_event(out, "message_start");
    tug_json_write_key(&w, tug_str_of("message"));
    tug_json_begin_object(&w);
    write_head(&w, a);
    tug_json_write_key(&w, tug_str_of("content"));
    tug_json_begin_array(&w);
    tug_json_end_array(&w);
    tug_openai_null(&w, "stop_reason");
    tug_openai_null(&w, "stop_sequence");
    write_usage(&w, &a->usage);
    tug_json_end_object(&w);
    close_event(&w);
    ping(a, 0, 0, out);
}

/* Up to the members of the block, which the caller writes. */
static tug_json_writer start_block(tug_answer *a, const char *type, tug_buf *out) {
    tug_json_writer w = open_event(out, "content_block_start");
    tug_openai_i64(&w, "index", a->own.n_items++);
    tug_json_write_key(&w, tug_str_of("content_block"));
    tug_json_begin_object(&w);
    tug_openai_str(&w, "type", tug_str_of(type));
    return w;
}

static void end_start_block(tug_json_writer *w) {
    tug_json_end_object(w);
    close_event(w);
}

static void stop_block(tug_answer *a, tug_buf *out) {
    tug_json_writer w = open_event(out, "content_block_stop");
    tug_openai_i64(&w, "index", a->own.n_items - 1);
    close_event(&w);
}

static void write_delta(tug_answer *a, const char *type, const char *key, tug_str value,
                        tug_buf *out) {
    tug_json_writer w = open_event(out, "content_block_delta");
    tug_openai_i64(&w, "index", a->own.n_items - 1);
    tug_json_write_key(&w, tug_str_of("delta"));
    tug_json_begin_object(&w);
    tug_openai_str(&w, "type", tug_str_of(type));
    tug_openai_str(&w, key, value);
    tug_json_end_object(&w);
    close_event(&w);
}

static void stop_text(tug_answer *a, tug_buf *out) {
    if (a->own.item_open) stop_block(a, out);
    a->own.item_open = false;
}

static void text(tug_answer *a, tug_str piece, const tug_answer_token *token,
                 tug_buf *out) {
    (void)token; /* this API has no logprobs */
    if (piece.n == 0) return;
    if (!a->own.item_open) {
        tug_json_writer w = start_block(a, "text", out);
        tug_openai_str(&w, "text", tug_str_of(""));
        end_start_block(&w);
        a->own.item_open = true;
    }
    write_delta(a, "text_delta", "text", piece, out);
}

static void call_begin(tug_answer *a, tug_str id, tug_str name, size_t tool,
                       tug_buf *out) {
    (void)tool;
    stop_text(a, out);
    tug_json_writer w = start_block(a, "tool_use", out);
    tug_openai_str(&w, "id", id);
    tug_openai_str(&w, "name", name);
    tug_json_write_key(&w, tug_str_of("input"));
    tug_json_begin_object(&w);
    tug_json_end_object(&w);
    end_start_block(&w);
}

static void call_arguments(tug_answer *a, tug_str json, tug_buf *out) {
    write_delta(a, "input_json_delta", "partial_json", json, out);
}

/* What a call that was cut off lacks is not made up: stop_reason says that it was. */
static void call_end(tug_answer *a, bool complete, tug_buf *out) {
    (void)complete;
    stop_block(a, out);
}

static void choice_end(tug_answer *a, tug_buf *out) {
    stop_text(a, out);
}

static void finish(tug_answer *a, tug_buf *out) {
    tug_json_writer w = open_event(out, "message_delta");
    tug_json_write_key(&w, tug_str_of("delta"));
    tug_json_begin_object(&w);
    write_stop(&w, tug_answer_now(a));
    tug_json_end_object(&w);
    write_usage(&w, &a->usage);
    tug_openai_warning(&w, a);
    close_event(&w);
    w = open_event(out, "message_stop");
    close_event(&w);
}

static void error(tug_answer *a, tug_api_fault fault, tug_str sentence, tug_buf *out) {
    (void)a;
    tug_json_writer w = open_event(out, "error");
    tug_json_write_key(&w, tug_str_of("error"));
    tug_api_error_object_messages(&w, fault, sentence);
    close_event(&w);
}

/* ---- without a stream ---------------------------------------------------------------- */

static void write_block(tug_json_writer *w, const tug_answer_item *item) {
    tug_json_begin_object(w);
    if (!item->is_call) {
        tug_openai_str(w, "type", tug_str_of("text"));
        tug_openai_str(w, "text", tug_buf_view(&item->text));
    } else {
        /* `input` has to be an object: a call that was cut off has an empty one. */
        const bool whole = item->complete && item->text.n > 0;
        tug_openai_str(w, "type", tug_str_of("tool_use"));
        tug_openai_str(w, "id", item->id);
        tug_openai_str(w, "name", item->name);
        tug_json_write_key(w, tug_str_of("input"));
        tug_json_write_raw(w, whole ? tug_buf_view(&item->text) : tug_str_of("{}"));
    }
    tug_json_end_object(w);
}

static void body(tug_answer *a, tug_buf *out) {
    const tug_answer_choice *const c = tug_answer_now(a);
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_json_begin_object(&w);
    write_head(&w, a);
    tug_json_write_key(&w, tug_str_of("content"));
    tug_json_begin_array(&w);
    for (size_t i = 0; i < c->n; i++) write_block(&w, &c->item[i]);
    tug_json_end_array(&w);
    write_stop(&w, c);
    write_usage(&w, &a->usage);
    tug_openai_warning(&w, a);
    tug_json_end_object(&w);
}

const tug_answer_ops tug_answer_messages_ops = {
    .id_prefix = "msg_",
    .begin = begin,
    .text = text,
    .call_begin = call_begin,
    .call_arguments = call_arguments,
    .call_end = call_end,
    .choice_end = choice_end,
    .finish = finish,
    .alive = ping,
    .error = error,
    .body = body,
};
