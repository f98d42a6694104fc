/* answer_echo.c - for sdk_streams.py: one dialogue per line, as JSON
 *
 *     {"api": "chat", "request": {...}, "events": [["text", "Hi"], ["finish", 9, 3, 5]]}
 *
 * answered by a line "status content-type" and a line with the body in hexadecimal, both as
 * the server would send them.  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "api/answer.h"
#include "base/sys.h"

static const tug_json *field(const tug_json *event, size_t i) {
    TUG_CHECK(i < event->n);
    return tug_json_at(event, i);
}

static tug_str text_at(const tug_json *event, size_t i) {
    const tug_json *const v = field(event, i);
    TUG_CHECK(v->kind == TUG_JSON_STRING);
    return tug_json_text(v);
}

static int64_t int_at(const tug_json *event, size_t i) {
    const tug_json *const v = field(event, i);
    TUG_CHECK(v->kind == TUG_JSON_NUMBER);
    return (int64_t)tug_json_f64(v);
}

static tug_answer_usage usage_at(const tug_json *event) {
    const tug_answer_usage usage = {.n_prompt = int_at(event, 1),
                                    .n_cached = int_at(event, 2),
                                    .n_completion = int_at(event, 3)};
    return usage;
}

static tug_answer_end end_of(tug_str name) {
    static const char *const names[] = {"stop",    "stop_string", "length",
                                        "context", "calls",       "loop"};
    size_t i = 0;
    while (!tug_str_is(name, names[i])) {
        i++;
        TUG_CHECK(i < sizeof names / sizeof *names);
    }
    return (tug_answer_end)i;
}

static void tell(tug_answer *a, const tug_json *event, tug_buf *out) {
    const tug_str kind = text_at(event, 0);
    if (tug_str_is(kind, "begin")) {
        const tug_answer_usage usage = usage_at(event);
        tug_answer_begin(a, &usage, out);
    } else if (tug_str_is(kind, "text")) {
        tug_answer_text(a, text_at(event, 1), NULL, out);
    } else if (tug_str_is(kind, "call")) {
        const int64_t tool = int_at(event, 3);
        tug_answer_call_begin(a, text_at(event, 1), text_at(event, 2),
                              tool < 0 ? SIZE_MAX : (size_t)tool, out);
    } else if (tug_str_is(kind, "arguments")) {
        tug_answer_call_arguments(a, text_at(event, 1), out);
    } else if (tug_str_is(kind, "call_end")) {
        tug_answer_call_end(a, field(event, 1)->v.truth, out);
    } else if (tug_str_is(kind, "end")) {
        tug_answer_choice_end(a, end_of(text_at(event, 1)), text_at(event, 2), out);
    } else if (tug_str_is(kind, "finish")) {
        const tug_answer_usage usage = usage_at(event);
        tug_answer_finish(a, &usage, out);
    } else if (tug_str_is(kind, "alive")) {
        tug_answer_alive(a, int_at(event, 1), int_at(event, 2), out);
    } else if (tug_str_is(kind, "warning")) {
        tug_answer_warning(a, text_at(event, 1));
    } else {
        TUG_CHECK(tug_str_is(kind, "error"));
        tug_answer_error(a, TUG_EDEVICE, text_at(event, 1), out);
    }
}

static tug_api api_of(const tug_json *v) {
    const tug_str name = tug_json_text(v);
    if (tug_str_is(name, "chat")) return TUG_API_CHAT;
    if (tug_str_is(name, "completions")) return TUG_API_COMPLETIONS;
    if (tug_str_is(name, "responses")) return TUG_API_RESPONSES;
    return TUG_API_MESSAGES;
}

static void print(int status, const char *type, const tug_buf *body) {
    TUG_CHECK(!body->failed);
    printf("%d %s\n", status, type);
    for (size_t i = 0; i < body->n; i++) printf("%02x", (unsigned char)body->p[i]);
    printf("\n");
    fflush(stdout);
}

/* "fault": a refusal before the first byte.  Else what the events make. */
static tug_status reply(const tug_json *line, tug_arena *arena, tug_buf *body,
                        tug_err *err) {
    const tug_api api = api_of(tug_json_get(line, "api"));
    tug_buf text = {0};
    tug_json_writer w = tug_json_writer_make(&text, TUG_JSON_COMPACT);
    tug_json_write_value(&w, tug_json_get(line, "request"));
    tug_api_request request;
    const tug_status parsed =
        tug_api_parse(api, tug_buf_view(&text), arena, &request, err);
    tug_buf_free(&text);
    const tug_json *const fault = tug_json_get(line, "fault");
    if (parsed != TUG_OK || fault) {
        const tug_api_fault f =
            fault ? (tug_api_fault)tug_json_f64(fault) : TUG_FAULT_INVALID;
        const tug_str sentence =
            tug_str_of(parsed == TUG_OK ? "The request is refused." : err->msg);
        tug_api_error(api, f, sentence, 5000, 4096, body);
        print(tug_api_fault_status(f), "application/json", body);
        return TUG_OK;
    }
    tug_answer *a = NULL;
    TUG_TRY(tug_answer_create(&a, &request, tug_str_of("tiny"),
                              tug_json_text(tug_json_get(line, "id")), 1757141666, err));
    const tug_json *const events = tug_json_get(line, "events");
    for (size_t i = 0; i < events->n; i++) tell(a, tug_json_at(events, i), body);
    print(200, tug_answer_content_type(a), body);
    tug_answer_destroy(&a);
    return TUG_OK;
}

int main(void) {
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        tug_arena arena = {0};
        tug_buf body = {0};
        tug_err err = {0};
        const tug_json *v;
        tug_status s = tug_json_parse(tug_str_make(line, (size_t)n), &arena, &v, &err);
        if (s == TUG_OK) s = reply(v, &arena, &body, &err);
        if (s != TUG_OK) {
            fprintf(stderr, "answer_echo: %s\n", err.msg);
            return 1;
        }
        tug_buf_free(&body);
        tug_arena_free(&arena);
    }
    free(line);
    return 0;
}
