/* answer_responses.c - the answer of /v1/responses: items of text and of calls.
 *
 * INVARIANTS
 *  1. Item i of the choice is output item i: begun, told and done before the next begins.
 *  2. Every event has the next sequence_number.
 * SPDX-License-Identifier: MIT */
#include "api/response_object.h"

/* ---- events -------------------------------------------------------------------------- */

static tug_json_writer open_event(tug_answer *a, const char *type, tug_buf *out) {
    tug_answer_open_event(out, type);
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_json_begin_object(&w);
    tug_openai_str(&w, "type", tug_str_of(type));
    tug_openai_i64(&w, "sequence_number", a->own.sequence++);
    return w;
}

static void close_event(tug_json_writer *w) {
    tug_json_end_object(w);
    tug_answer_close_event(w->out);
}

static void send_response(tug_answer *a, const char *type,
                          const tug_response_state *state, tug_buf *out) {
    tug_json_writer w = open_event(a, type, out);
    tug_json_write_key(&w, tug_str_of("response"));
    tug_response_write(&w, a, state);
    close_event(&w);
}

static void send_progress(tug_answer *a, const char *type, tug_buf *out) {
    const tug_response_state state = {.status = "in_progress"};
    send_response(a, type, &state, out);
}

static void begin(tug_answer *a, tug_buf *out) {
    send_progress(a, "response.created", out);
    send_progress(a, "response.in_progress", out);
}

/* One of the clients restarts its timer with events alone, so a comment will not do.  Once
 * there is output, another one would take `in_progress` for the whole state and forget it;
 * `keepalive` is known to that one and passed over by all. */
static void alive(tug_answer *a, int64_t done, int64_t total, tug_buf *out) {
    (void)done;
    (void)total;
    if (a->own.n_items == 0) {
        send_progress(a, "response.in_progress", out);
        return;
    }
    tug_json_writer w = open_event(a, "keepalive", out);
    close_event(&w);
}

/* ---- items --------------------------------------------------------------------------- */

/* The item that was begun last.  NULL: there was no memory to keep it, which is noted and
 * fails the answer. */
static const tug_answer_item *last_item(const tug_answer *a) {
    const tug_answer_choice *const c = &a->choice[0];
    return c->n > 0 && c->n == (size_t)a->own.n_items ? &c->item[c->n - 1] : NULL;
}

static size_t last_index(const tug_answer *a) {
    return (size_t)a->own.n_items - 1;
}

static void send_item(tug_answer *a, const char *type, bool is_new, tug_buf *out) {
    tug_json_writer w = open_event(a, type, out);
    tug_openai_i64(&w, "output_index", (int64_t)last_index(a));
    tug_json_write_key(&w, tug_str_of("item"));
    tug_response_write_item(&w, a, last_index(a), is_new);
    close_event(&w);
}

static bool begin_item(tug_answer *a, tug_buf *out) {
    if (a->choice[0].n != (size_t)a->own.n_items + 1) return false; /* no memory */
    a->own.n_items++;
    a->own.item_id = tug_response_item_id(a, last_index(a));
    a->own.input_sent = 0;
    send_item(a, "response.output_item.added", true, out);
    return true;
}

/* Up to the members of the event that differ. */
static tug_json_writer open_item_event(tug_answer *a, const char *type, tug_buf *out) {
    tug_json_writer w = open_event(a, type, out);
    tug_openai_i64(&w, "output_index", (int64_t)last_index(a));
    tug_openai_str(&w, "item_id", a->own.item_id);
    return w;
}

/* ---- text ---------------------------------------------------------------------------- */

static tug_json_writer open_text_event(tug_answer *a, const char *type, tug_buf *out) {
    tug_json_writer w = open_item_event(a, type, out);
    tug_openai_i64(&w, "content_index", 0);
    return w;
}

static void send_part(tug_answer *a, const char *type, bool is_new, tug_buf *out) {
    tug_json_writer w = open_text_event(a, type, out);
    tug_json_write_key(&w, tug_str_of("part"));
    tug_response_write_part(&w, a, last_index(a), is_new);
    close_event(&w);
}

static void text(tug_answer *a, tug_str piece, const tug_answer_token *token,
                 tug_buf *out) {
    if (!a->own.item_open) {
        /* A token that has no text yet is told with the item. */
        if (piece.n == 0 || !begin_item(a, out)) return;
        a->own.item_open = true;
        send_part(a, "response.content_part.added", true, out);
    }
    tug_json_writer w = open_text_event(a, "response.output_text.delta", out);
    tug_openai_str(&w, "delta", piece);
    tug_json_write_key(&w, tug_str_of("logprobs"));
    tug_json_begin_array(&w);
    if (token) tug_openai_token(&w, token);
    tug_json_end_array(&w);
    close_event(&w);
}

static void end_text(tug_answer *a, tug_buf *out) {
    if (!a->own.item_open) return;
    a->own.item_open = false;
    const size_t i = last_index(a);
    tug_json_writer w = open_text_event(a, "response.output_text.done", out);
    tug_openai_str(&w, "text", tug_buf_view(&a->choice[0].item[i].text));
    tug_response_write_logprobs(&w, a, i);
    close_event(&w);
    send_part(a, "response.content_part.done", false, out);
    send_item(a, "response.output_item.done", false, out);
}

/* ---- calls --------------------------------------------------------------------------- */

static void send_delta(tug_answer *a, const char *type, tug_str delta, tug_buf *out) {
    tug_json_writer w = open_item_event(a, type, out);
    tug_openai_str(&w, "delta", delta);
    close_event(&w);
}

/* A custom call's text, as far as it is there and not sent. */
static void send_input(tug_answer *a, const tug_answer_item *item, tug_buf *out) {
    tug_buf input = {0};
    a->own.input_sent =
        tug_response_input_piece(tug_buf_view(&item->text), a->own.input_sent, &input);
    if (input.n > 0) {
        send_delta(a, "response.custom_tool_call_input.delta", tug_buf_view(&input), out);
    }
    if (input.failed) out->failed = true;
    tug_buf_free(&input);
}

static void end_input(tug_answer *a, const tug_answer_item *item, tug_buf *out) {
    tug_buf input = {0};
    tug_response_input(item, &input);
    if (a->own.input_sent == 0 && input.n > 0) {
        send_delta(a, "response.custom_tool_call_input.delta", tug_buf_view(&input), out);
    }
    tug_json_writer w = open_item_event(a, "response.custom_tool_call_input.done", out);
    tug_openai_str(&w, "input", tug_buf_view(&input));
    close_event(&w);
    if (input.failed) out->failed = true;
    tug_buf_free(&input);
}

static void call_begin(tug_answer *a, tug_str id, tug_str name, size_t tool,
                       tug_buf *out) {
    (void)id; /* they are in the item */
    (void)name;
    (void)tool;
    /* The call is the last item already; the text before it ends first. */
    end_text(a, out);
    (void)begin_item(a, out);
}

static void call_arguments(tug_answer *a, tug_str json, tug_buf *out) {
    const tug_answer_item *const item = last_item(a);
    if (!item) return;
    switch (tug_response_kind(a, item)) {
    case TUG_TOOL_FUNCTION:
        send_delta(a, "response.function_call_arguments.delta", json, out);
        break;
    case TUG_TOOL_CUSTOM: send_input(a, item, out); break;
    case TUG_TOOL_LOCAL_SHELL: break; /* the action comes as a whole, with its item */
    }
}

static void call_end(tug_answer *a, bool complete, tug_buf *out) {
    (void)complete; /* it is in the item */
    const tug_answer_item *const item = last_item(a);
    if (!item) return;
    const tug_tool_kind kind = tug_response_kind(a, item);
    if (kind == TUG_TOOL_FUNCTION) {
        tug_json_writer w =
            open_item_event(a, "response.function_call_arguments.done", out);
        tug_openai_str(&w, "name", tug_response_name(a, item));
        tug_openai_str(&w, "arguments", tug_buf_view(&item->text));
        close_event(&w);
    } else if (kind == TUG_TOOL_CUSTOM) {
        end_input(a, item, out);
    }
    send_item(a, "response.output_item.done", false, out);
}

/* ---- the end ------------------------------------------------------------------------- */

static void choice_end(tug_answer *a, tug_buf *out) {
    end_text(a, out);
}

static void finish(tug_answer *a, tug_buf *out) {
    const tug_response_state state = tug_response_ended(a);
    send_response(a, state.reason ? "response.incomplete" : "response.completed", &state,
                  out);
}

static void error(tug_answer *a, tug_api_fault fault, tug_str sentence, tug_buf *out) {
    const char *code = "server_error";
    if (fault == TUG_FAULT_INVALID) code = "invalid_prompt";
    if (fault == TUG_FAULT_CONTEXT) code = "context_length_exceeded";
    if (fault == TUG_FAULT_BUSY) code = "rate_limit_exceeded";
    const tug_response_state state = {
        .status = "failed", .with_output = true, .code = code, .message = sentence};
    send_response(a, "response.failed", &state, out);
}

static void body(tug_answer *a, tug_buf *out) {
    const tug_response_state state = tug_response_ended(a);
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_response_write(&w, a, &state);
}

const tug_answer_ops tug_answer_responses_ops = {
    .id_prefix = "resp_",
    .keeps_items = true,
    .begin = begin,
    .text = text,
    .call_begin = call_begin,
    .call_arguments = call_arguments,
    .call_end = call_end,
    .choice_end = choice_end,
    .finish = finish,
    .alive = alive,
    .error = error,
    .body = body,
};
