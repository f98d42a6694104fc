/* answer_openai.c - see answer_openai.h.  SPDX-License-Identifier: MIT */
#include "api/answer_openai.h"

void tug_openai_str(tug_json_writer *w, const char *key, tug_str value) {
    tug_json_write_key(w, tug_str_of(key));
    tug_json_write_str(w, value);
}

void tug_openai_i64(tug_json_writer *w, const char *key, int64_t value) {
    tug_json_write_key(w, tug_str_of(key));
    tug_json_write_i64(w, value);
}

void tug_openai_null(tug_json_writer *w, const char *key) {
    tug_json_write_key(w, tug_str_of(key));
    tug_json_write_null(w);
}

void tug_openai_begin(tug_json_writer *w, const tug_answer *a, const char *object) {
    tug_json_begin_object(w);
    tug_openai_str(w, "id", a->id);
    tug_openai_str(w, "object", tug_str_of(object));
    tug_openai_i64(w, "created", a->created);
    tug_openai_str(w, "model", a->model);
    tug_openai_str(w, "system_fingerprint", tug_str_of("tug"));
}

static void write_bytes(tug_json_writer *w, tug_str bytes) {
    tug_json_write_key(w, tug_str_of("bytes"));
    tug_json_begin_array(w);
    for (size_t i = 0; i < bytes.n; i++) {
        tug_json_write_i64(w, (unsigned char)bytes.p[i]);
    }
    tug_json_end_array(w);
}

/* JSON has no infinity: a token that cannot be gets the lowest number there is. */
static void write_logprob(tug_json_writer *w, const tug_token_logprob *t) {
    tug_json_begin_object(w);
    tug_openai_str(w, "token", t->bytes);
    tug_json_write_key(w, tug_str_of("logprob"));
    tug_json_write_f64(w, t->logprob >= -9999.0f ? (double)t->logprob : -9999.0);
    write_bytes(w, t->bytes);
}

void tug_openai_token(tug_json_writer *w, const tug_answer_token *t) {
    write_logprob(w, &t->chosen);
    tug_json_write_key(w, tug_str_of("top_logprobs"));
    tug_json_begin_array(w);
    for (int32_t i = 0; i < t->n_top; i++) {
        write_logprob(w, &t->top[i]);
        tug_json_end_object(w);
    }
    tug_json_end_array(w);
    tug_json_end_object(w);
}

void tug_openai_detail(tug_json_writer *w, const char *key, const char *name, int64_t n) {
    tug_json_write_key(w, tug_str_of(key));
    tug_json_begin_object(w);
    tug_openai_i64(w, name, n);
    tug_json_end_object(w);
}

static void rate(tug_json_writer *w, const char *ms_key, const char *per_s_key, int64_t n,
                 double seconds) {
    tug_json_write_key(w, tug_str_of(ms_key));
    tug_json_write_f64(w, seconds * 1000.0);
    tug_json_write_key(w, tug_str_of(per_s_key));
    tug_json_write_f64(w, seconds > 0.0 ? (double)n / seconds : 0.0);
}

void tug_openai_numbers(tug_json_writer *w, const tug_answer *a) {
    const tug_answer_usage *const u = &a->usage;
    const int64_t n_computed = u->n_prompt - u->n_cached;
    tug_json_write_key(w, tug_str_of("usage"));
    tug_json_begin_object(w);
    tug_openai_i64(w, "prompt_tokens", u->n_prompt);
    tug_openai_i64(w, "completion_tokens", u->n_completion);
    tug_openai_i64(w, "total_tokens", u->n_prompt + u->n_completion);
    tug_openai_detail(w, "prompt_tokens_details", "cached_tokens", u->n_cached);
    tug_openai_detail(w, "completion_tokens_details", "reasoning_tokens", 0);
    tug_json_end_object(w);
    tug_json_write_key(w, tug_str_of("timings"));
    tug_json_begin_object(w);
    tug_openai_i64(w, "cache_n", u->n_cached);
    tug_openai_i64(w, "prompt_n", n_computed);
    rate(w, "prompt_ms", "prompt_per_second", n_computed, u->prompt_s);
    tug_openai_i64(w, "predicted_n", u->n_completion);
    rate(w, "predicted_ms", "predicted_per_second", u->n_completion, u->completion_s);
    tug_json_end_object(w);
}

void tug_openai_warning(tug_json_writer *w, tug_answer *a) {
    const tug_str warning = tug_answer_new_warnings(a);
    if (warning.n > 0) tug_openai_str(w, "warning", warning);
}

void tug_openai_alive(tug_answer *a, int64_t done, int64_t total, tug_buf *out) {
    (void)a;
    (void)done;
    (void)total;
    tug_buf_text(out, ": keepalive\n\n");
}

void tug_openai_error(tug_answer *a, tug_api_fault fault, tug_str sentence,
                      tug_buf *out) {
    (void)a;
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_answer_open_event(out, NULL);
    tug_json_begin_object(&w);
    tug_json_write_key(&w, tug_str_of("error"));
    tug_api_error_object(&w, fault, sentence);
    tug_json_end_object(&w);
    tug_answer_close_event(out);
}

void tug_openai_finish(tug_answer *a, const char *object, tug_buf *out) {
    if (a->request->include_usage) {
        tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
        tug_answer_open_event(out, NULL);
        tug_openai_begin(&w, a, object);
        tug_json_write_key(&w, tug_str_of("choices"));
        tug_json_begin_array(&w);
        tug_json_end_array(&w);
        tug_openai_numbers(&w, a);
        tug_openai_warning(&w, a);
        tug_json_end_object(&w);
        tug_answer_close_event(out);
    }
    tug_buf_text(out, "data: [DONE]\n\n");
}

const char *tug_openai_reason(const tug_answer_choice *c) {
    switch (c->end) {
    case TUG_END_LENGTH:
    case TUG_END_CONTEXT: return "length";
    case TUG_END_STOP:
    case TUG_END_STOP_STRING:
    case TUG_END_CALLS:
        if (c->n_complete < c->n_calls) return "length";
        break;
    case TUG_END_LOOP:
        if (c->n_complete < c->n_calls) return "stop";
        break;
    }
    return c->n_complete > 0 ? "tool_calls" : "stop";
}
