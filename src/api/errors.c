/* errors.c - errors in each API's own shape.  SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "api/answer_impl.h"

typedef struct fault_row {
    int status;
    const char *type, *code; /* OpenAI's; code NULL: null */
    const char *messages;    /* Anthropic's type */
} fault_row;

static const fault_row faults[] = {
    [TUG_FAULT_INVALID] = {400, "invalid_request_error", NULL, "invalid_request_error"},
    [TUG_FAULT_CONTEXT] = {400, "invalid_request_error", "context_length_exceeded",
                           "invalid_request_error"},
    [TUG_FAULT_AUTH] = {401, "authentication_error", "invalid_api_key",
                        "authentication_error"},
    [TUG_FAULT_FORBIDDEN] = {403, "permission_error", "forbidden", "permission_error"},
    [TUG_FAULT_NOT_FOUND] = {404, "invalid_request_error", "not_found",
                             "not_found_error"},
    [TUG_FAULT_METHOD] = {405, "invalid_request_error", "method_not_allowed",
                          "invalid_request_error"},
    [TUG_FAULT_TOO_LARGE] = {413, "invalid_request_error", "request_too_large",
                             "request_too_large"},
    [TUG_FAULT_BUSY] = {429, "rate_limit_error", "rate_limit_exceeded",
                        "rate_limit_error"},
    [TUG_FAULT_INTERNAL] = {500, "server_error", "internal_error", "api_error"},
    [TUG_FAULT_UNSUPPORTED] = {501, "invalid_request_error", "not_supported",
                               "invalid_request_error"},
    [TUG_FAULT_UNAVAILABLE] = {503, "unavailable_error", "unavailable",
                               "overloaded_error"},
};

int tug_api_fault_status(tug_api_fault fault) {
    return faults[fault].status;
}

tug_api_fault tug_api_fault_of(tug_status code) {
    switch (code) {
    case TUG_EFORMAT:
    case TUG_EUNSUPPORTED:
    case TUG_ERANGE: return TUG_FAULT_INVALID;
    case TUG_EBUSY:
    case TUG_EDEVICE: /* its server goes on without it */
    case TUG_ECANCELED: return TUG_FAULT_UNAVAILABLE;
    default: return TUG_FAULT_INTERNAL;
    }
}

static void member_text(tug_json_writer *w, const char *key, const char *value) {
    tug_json_write_key(w, tug_str_of(key));
    if (value) {
        tug_json_write_str(w, tug_str_of(value));
    } else {
        tug_json_write_null(w);
    }
}

/* The members of an OpenAI error; the object stays open. */
static void begin_error(tug_json_writer *w, tug_api_fault fault, tug_str sentence) {
    tug_json_begin_object(w);
    tug_json_write_key(w, tug_str_of("message"));
    tug_json_write_str(w, sentence);
    member_text(w, "type", faults[fault].type);
    member_text(w, "param", NULL);
    member_text(w, "code", faults[fault].code);
}

void tug_api_error_object(tug_json_writer *w, tug_api_fault fault, tug_str sentence) {
    begin_error(w, fault, sentence);
    tug_json_end_object(w);
}

void tug_api_error_object_messages(tug_json_writer *w, tug_api_fault fault,
                                   tug_str sentence) {
    tug_json_begin_object(w);
    member_text(w, "type", faults[fault].messages);
    tug_json_write_key(w, tug_str_of("message"));
    tug_json_write_str(w, sentence);
    tug_json_end_object(w);
}

static void error_openai(tug_api_fault fault, tug_str sentence, int64_t n_prompt,
                         int64_t n_ctx, tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_json_begin_object(&w);
    tug_json_write_key(&w, tug_str_of("error"));
    begin_error(&w, fault, sentence);
    if (fault == TUG_FAULT_CONTEXT) {
        tug_json_write_key(&w, tug_str_of("n_prompt_tokens"));
        tug_json_write_i64(&w, n_prompt);
        tug_json_write_key(&w, tug_str_of("n_ctx"));
        tug_json_write_i64(&w, n_ctx);
    }
    tug_json_end_object(&w);
    tug_json_end_object(&w);
}

static void error_messages(tug_api_fault fault, tug_str sentence, tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
    tug_json_begin_object(&w);
    member_text(&w, "type", "error");
    tug_json_write_key(&w, tug_str_of("error"));
    tug_api_error_object_messages(&w, fault, sentence);
    member_text(&w, "request_id", NULL);
    tug_json_end_object(&w);
}

/* What clients look for in the message to know that they must compact. */
static void context_sentence(tug_buf *b, tug_api api, int64_t n_prompt, int64_t n_ctx) {
    if (api == TUG_API_MESSAGES) {
        tug_buf_printf(b, "prompt is too long: %" PRId64 " tokens > %" PRId64 " maximum",
                       n_prompt, n_ctx);
    } else {
        tug_buf_printf(b,
                       "This model's maximum context length is %" PRId64
                       " tokens, but the prompt has %" PRId64
                       " tokens; shorten it, or serve the model with a larger context",
                       n_ctx, n_prompt);
    }
}

void tug_api_error(tug_api api, tug_api_fault fault, tug_str sentence, int64_t n_prompt,
                   int64_t n_ctx, tug_buf *out) {
    tug_buf context = {0};
    if (fault == TUG_FAULT_CONTEXT) {
        context_sentence(&context, api, n_prompt, n_ctx);
        sentence = tug_buf_view(&context);
    }
    if (api == TUG_API_MESSAGES) {
        error_messages(fault, sentence, out);
    } else {
        error_openai(fault, sentence, n_prompt, n_ctx, out);
    }
    if (context.failed) out->failed = true;
    tug_buf_free(&context);
}
