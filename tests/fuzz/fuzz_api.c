/* fuzz_api.c - any bytes as a request of any API: refused with a sentence, or read into a
 * request that keeps the promises of request.h, renders, and can be answered in valid
 * UTF-8, streamed or whole.  The first byte chooses the API.  SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "api/answer.h"
#include "api/request.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tools(const tug_api_request *r) {
    const size_t n_sent = r->chat.tools ? r->chat.tools->n : 0;
    TUG_CHECK(n_sent >= r->tools.n); /* more, when only some are allowed */
    bool named = r->choice != TUG_TOOLS_NAMED;
    for (size_t i = 0; i < r->tools.n; i++) {
        const tug_str name = r->tools.tool[i].name;
        TUG_CHECK(name.n > 0 && r->shown[i].name.n > 0);
        named |= tug_str_eq(name, r->named);
        /* Every pair of a long list would take the fuzzer's whole time. */
        for (size_t j = 0; j < i && i < 64; j++) {
            TUG_CHECK(!tug_str_eq(name, r->tools.tool[j].name));
        }
    }
    TUG_CHECK(named);
    TUG_CHECK(r->choice != TUG_TOOLS_REQUIRED || r->tools.n > 0);
}

static void check_request(const tug_api_request *r) {
    TUG_CHECK(r->n_choices >= 1 && r->n_choices <= TUG_API_MAX_CHOICES);
    TUG_CHECK(r->max_tokens >= 0 && r->n_stop <= TUG_API_MAX_STOPS);
    TUG_CHECK(r->top_logprobs >= 0 && r->top_logprobs <= 20);
    for (size_t i = 0; i < r->n_stop; i++) TUG_CHECK(r->stop[i].n > 0);
    TUG_CHECK((r->format == TUG_FORMAT_JSON_SCHEMA) == (r->schema != NULL));
    TUG_CHECK(tug_json_is(r->as_sent, TUG_JSON_OBJECT));
    check_tools(r);
    if (r->api == TUG_API_COMPLETIONS) {
        TUG_CHECK((r->prompt.p != NULL) != (r->n_prompt_ids > 0));
        return;
    }
    tug_chat_prompt prompt = {0};
    TUG_CHECK(tug_chat_render(&r->chat, &prompt, NULL) == TUG_OK);
    TUG_CHECK(tug_utf8_valid(prompt.text.p, prompt.text.n, NULL));
    tug_chat_prompt_free(&prompt);
}

/* A call of one of its tools, or of none of them. */
static void play_call(tug_answer *a, const tug_api_request *r, size_t i, bool complete,
                      tug_buf *out) {
    const bool known = i < r->tools.n;
    tug_answer_call_begin(a, tug_str_of("call_1"),
                          known ? r->tools.tool[i].name : tug_str_of("x"),
                          known ? i : SIZE_MAX, out);
    tug_answer_call_arguments(a, tug_str_of("{\"input\": \"a"), out);
    if (complete) tug_answer_call_arguments(a, tug_str_of("\\n\"}"), out);
    tug_answer_call_end(a, complete, out);
}

/* `how` chooses what happens. */
static void play(tug_answer *a, const tug_api_request *r, unsigned how, tug_buf *out) {
    const tug_answer_usage usage = {9, 4, 5, 0.25, 0.5};
    const bool calls = r->api != TUG_API_COMPLETIONS;
    tug_answer_begin(a, &usage, out);
    for (int32_t i = 0; i < r->n_choices; i++) {
        tug_answer_alive(a, 5, 9, out);
        if (how & 1) tug_answer_text(a, tug_str_of("t\xC3\xA9\n"), NULL, out);
        if (calls && (how & 2)) play_call(a, r, 0, true, out);
        if (how & 4) tug_answer_text(a, tug_str_of("\xFF"), NULL, out);
        if (calls && (how & 8)) play_call(a, r, how >> 4, (how & 16) != 0, out);
        tug_answer_choice_end(a, (tug_answer_end)(how % 6), tug_str_of("s"), out);
    }
    if (r->stream && (how & 32)) {
        tug_answer_error(a, TUG_EDEVICE, tug_str_of("no"), out);
    } else {
        tug_answer_finish(a, &usage, out);
    }
}

static void check_answer(const tug_api_request *r, unsigned how) {
    tug_answer *a;
    tug_buf out = {0};
    TUG_CHECK(tug_answer_create(&a, r, r->model, tug_str_of("0123"), 7, NULL) == TUG_OK);
    play(a, r, how, &out);
    TUG_CHECK(!out.failed && tug_utf8_valid(out.p, out.n, NULL));
    if (!r->stream) {
        tug_arena arena = {0};
        const tug_json *json;
        TUG_CHECK(tug_json_parse(tug_buf_view(&out), &arena, &json, NULL) == TUG_OK);
        tug_arena_free(&arena);
    }
    tug_buf_free(&out);
    tug_answer_destroy(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    tug_arena arena = {0};
    tug_api_request request;
    tug_err err = {0};
    const tug_api api = (tug_api)(data[0] % 4);
    const tug_str body = tug_str_make((const char *)data + 1, size - 1);
    if (tug_api_parse(api, body, &arena, &request, &err) == TUG_OK) {
        check_request(&request);
        check_answer(&request, (unsigned)data[0] / 4 + (unsigned)size);
    } else {
        TUG_CHECK(err.msg[0] != '\0');
    }
    tug_arena_free(&arena);
    return 0;
}
