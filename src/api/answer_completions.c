/* answer_completions.c - answers of POST /v1/completions.  SPDX-License-Identifier: MIT */
#include "api/answer_openai.h"
#include "base/utf8.h"

static const char object[] = "text_completion";

/* ---- logprobs: four lists side by side -------------------------------------------------- */

static int64_t count_chars(tug_str s) {
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

static double finite(float logprob) {
    return logprob >= -9999.0f ? (double)logprob : -9999.0;
}

/* A token by its text; one that is half a character by its bytes, `bytes:\xe2\x82`, so
 * that no two tokens look alike. */
static void token_text(tug_buf *out, tug_str bytes) {
    tug_buf_clear(out);
    if (tug_utf8_valid(bytes.p, bytes.n, NULL)) {
        tug_buf_str(out, bytes);
        return;
    }
    tug_buf_text(out, "bytes:");
    for (size_t i = 0; i < bytes.n; i++) {
        tug_buf_printf(out, "\\x%02x", (unsigned char)bytes.p[i]);
    }
}

static void write_tokens(tug_json_writer *w, const tug_answer_token *t, size_t n,
                         tug_buf *text) {
    tug_json_begin_array(w);
    for (size_t i = 0; i < n; i++) {
        token_text(text, t[i].chosen.bytes);
        tug_json_write_str(w, tug_buf_view(text));
    }
    tug_json_end_array(w);
}

static void write_top(tug_json_writer *w, const tug_answer_token *t, tug_buf *text) {
    tug_json_begin_object(w);
    for (int32_t i = 0; i < t->n_top; i++) {
        token_text(text, t->top[i].bytes);
        tug_json_write_key(w, tug_buf_view(text));
        tug_json_write_f64(w, finite(t->top[i].logprob));
    }
    tug_json_end_object(w);
}

/* *at: characters before the first token; afterwards those before the next. */
static void write_lists(tug_json_writer *w, const tug_answer_token *t, size_t n,
                        int64_t *at) {
    tug_buf text = {0};
    tug_json_begin_object(w);
    tug_json_write_key(w, tug_str_of("tokens"));
    write_tokens(w, t, n, &text);
    tug_json_write_key(w, tug_str_of("token_logprobs"));
    tug_json_begin_array(w);
    for (size_t i = 0; i < n; i++) tug_json_write_f64(w, finite(t[i].chosen.logprob));
    tug_json_end_array(w);
    tug_json_write_key(w, tug_str_of("top_logprobs"));
    tug_json_begin_array(w);
    for (size_t i = 0; i < n; i++) write_top(w, &t[i], &text);
    tug_json_end_array(w);
    tug_json_write_key(w, tug_str_of("text_offset"));
    tug_json_begin_array(w);
    for (size_t i = 0; i < n; i++) {
        tug_json_write_i64(w, *at);
        *at += count_chars(t[i].chosen.bytes);
    }
    tug_json_end_array(w);
    tug_json_end_object(w);
    if (text.failed) w->out->failed = true;
    tug_buf_free(&text);
}

/* ---- choices ---------------------------------------------------------------------------- */

static void write_choice(tug_json_writer *w, int32_t index, tug_str text,
                         const tug_answer_token *token, size_t n_token, int64_t *at,
                         const char *reason) {
    tug_json_begin_object(w);
    tug_openai_i64(w, "index", index);
    tug_openai_str(w, "text", text);
    tug_json_write_key(w, tug_str_of("logprobs"));
    if (token) {
        write_lists(w, token, n_token, at);
    } else {
        tug_json_write_null(w);
    }
    if (reason) {
        tug_openai_str(w, "finish_reason", tug_str_of(reason));
    } else {
        tug_openai_null(w, "finish_reason");
    }
    tug_json_end_object(w);
}

/* ---- the stream ----------------------------------------------------------------------- */

static void send_chunk(tug_answer *a, tug_str text, const tug_answer_token *token,
                       const char *reason, tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_answer_open_event(out, NULL);
    tug_openai_begin(&w, a, object);
    tug_json_write_key(&w, tug_str_of("choices"));
    tug_json_begin_array(&w);
    write_choice(&w, a->i_choice, text, token, 1, &a->own.n_chars, reason);
    tug_json_end_array(&w);
    if (reason) tug_openai_warning(&w, a);
    tug_json_end_object(&w);
    tug_answer_close_event(out);
}

/* The prompt goes before the first text of each choice, and only once. */
static void send_prompt(tug_answer *a, tug_buf *out) {
    if (a->own.role_sent) return;
    a->own.role_sent = true;
    a->own.n_chars = 0;
    if (!a->request->echo) return;
    send_chunk(a, a->request->prompt, NULL, NULL, out);
    a->own.n_chars = count_chars(a->request->prompt);
}

/* Something at once, so that the client knows that it is heard. */
static void completions_begin(tug_answer *a, tug_buf *out) {
    send_prompt(a, out);
    if (!a->request->echo) send_chunk(a, tug_str_of(""), NULL, NULL, out);
}

static void completions_text(tug_answer *a, tug_str text, const tug_answer_token *token,
                             tug_buf *out) {
    send_prompt(a, out);
    send_chunk(a, text, token, NULL, out);
}

static void completions_choice_end(tug_answer *a, tug_buf *out) {
    send_prompt(a, out);
    a->own.role_sent = false;
    send_chunk(a, tug_str_of(""), NULL, tug_openai_reason(tug_answer_now(a)), out);
}

static void completions_finish(tug_answer *a, tug_buf *out) {
    tug_openai_finish(a, object, out);
}

/* ---- one body -------------------------------------------------------------------------- */

static void body_choice(tug_json_writer *w, tug_answer *a, int32_t i) {
    const tug_answer_choice *const c = &a->choice[i];
    static const tug_answer_token none = {0};
    tug_buf text = {0};
    int64_t at = 0;
    if (a->request->echo) {
        tug_buf_str(&text, a->request->prompt);
        at = count_chars(a->request->prompt);
    }
    for (size_t j = 0; j < c->n; j++) tug_buf_str(&text, tug_buf_view(&c->item[j].text));
    const tug_answer_token *const token = c->token ? c->token : &none;
    write_choice(w, i, tug_buf_view(&text), a->request->logprobs ? token : NULL,
                 c->n_token, &at, tug_openai_reason(c));
    a->failed |= text.failed;
    tug_buf_free(&text);
}

static void completions_body(tug_answer *a, tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_openai_begin(&w, a, object);
    tug_json_write_key(&w, tug_str_of("choices"));
    tug_json_begin_array(&w);
    for (int32_t i = 0; i <= a->i_choice; i++) body_choice(&w, a, i);
    tug_json_end_array(&w);
    tug_openai_numbers(&w, a);
    tug_openai_warning(&w, a);
    tug_json_end_object(&w);
}

const tug_answer_ops tug_answer_completions_ops = {
    .id_prefix = "cmpl-",
    .begin = completions_begin,
    .text = completions_text,
    .choice_end = completions_choice_end,
    .finish = completions_finish,
    .alive = tug_openai_alive,
    .error = tug_openai_error,
    .body = completions_body,
};
