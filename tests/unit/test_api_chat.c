/* test_api_chat.c - the exact bytes of chat and completions answers, streamed and whole,
 * and of errors.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/answer.h"
#include "api/request.h"
#include "base/rng.h"
#include "fault/fault.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define STR(z)   tug_str_make((z), sizeof(z) - 1)
#define USER     "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

typedef struct parsed {
    tug_arena arena;
    tug_api_request r;
} parsed;

static void parse(parsed *p, tug_api api, const char *body) {
    tug_err err = {0};
    *p = (parsed){0};
    if (tug_api_parse(api, tug_str_of(body), &p->arena, &p->r, &err) != TUG_OK) {
        fail_msg("%s: %s", body, err.msg);
    }
}

/* ---- answers --------------------------------------------------------------------------- */

/* A text and two calls, the second without arguments. */
static void play_calls(tug_answer *a, tug_buf *out) {
    static const tug_answer_usage usage = {44, 40, 12, 0.5, 2.0};
    static const tug_answer_usage at_first = {44, 40, 0, 0.0, 0.0};
    tug_answer_begin(a, &at_first, out);
    tug_answer_text(a, STR("Hi \xC3\xA9\n"), NULL, out);
    tug_answer_text(a, STR(""), NULL, out);
    tug_answer_call_begin(a, STR("call_1"), STR("f"), 0, out);
    tug_answer_call_arguments(a, STR("{\"a\":"), out);
    tug_answer_call_arguments(a, STR("1}"), out);
    tug_answer_call_end(a, true, out);
    tug_answer_call_begin(a, STR("call_2"), STR("g"), SIZE_MAX, out);
    tug_answer_call_arguments(a, STR("{}"), out);
    tug_answer_call_end(a, true, out);
    tug_answer_choice_end(a, TUG_END_CALLS, STR(""), out);
    tug_answer_finish(a, &usage, out);
}

/* Parses the request, plays into its answer and gives the bytes. */
static tug_buf answer_of(tug_api api, const char *body,
                         void (*play)(tug_answer *, tug_buf *)) {
    parsed p;
    tug_answer *a;
    tug_buf out = {0};
    parse(&p, api, body);
    assert_int_equal(tug_answer_create(&a, &p.r, STR("m"), STR("ID"), 7, NULL), TUG_OK);
    assert_string_equal(tug_answer_content_type(a),
                        p.r.stream ? "text/event-stream" : "application/json");
    play(a, &out);
    assert_false(out.failed);
    tug_answer_destroy(&a);
    assert_null(a);
    tug_arena_free(&p.arena);
    return out;
}

static void expect(tug_api api, const char *body, void (*play)(tug_answer *, tug_buf *),
                   const char *want) {
    tug_buf out = answer_of(api, body, play);
    assert_string_equal(out.p, want);
    tug_buf_free(&out);
}

#define HEAD(id, object)                                                         \
    "\"id\":\"" id "\",\"object\":\"" object "\",\"created\":7,\"model\":\"m\"," \
    "\"system_fingerprint\":\"tug\","
#define CHUNK(index, delta, reason)                                                   \
    "data: {" HEAD(                                                                   \
        "chatcmpl-ID",                                                                \
        "chat.completion.chunk") "\"choices\":[{\"index\":" index ",\"delta\":" delta \
                                 ",\"logprobs\":null,\"finish_reason\":" reason       \
                                 "}]}\n\n"
#define ROLE(index) CHUNK(index, "{\"role\":\"assistant\",\"content\":\"\"}", "null")
#define NUMBERS                                                                          \
    "\"usage\":{\"prompt_tokens\":44,\"completion_tokens\":12,\"total_tokens\":56,"      \
    "\"prompt_tokens_details\":{\"cached_tokens\":40},\"completion_tokens_details\":{"   \
    "\"reasoning_tokens\":0}},\"timings\":{\"cache_n\":40,\"prompt_n\":4,\"prompt_ms\":" \
    "500.0,\"prompt_per_second\":8.0,\"predicted_n\":12,\"predicted_ms\":2000.0,"        \
    "\"predicted_per_second\":6.0}"
#define DONE "data: [DONE]\n\n"

static void test_chat_calls(void **state) {
    (void)state;
    expect(
        TUG_API_CHAT,
        "{" USER ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
        play_calls,
        ROLE("0") CHUNK("0", "{\"content\":\"Hi \xC3\xA9\\n\"}", "null") CHUNK(
            "0",
            "{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"type\":\"function\","
            "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}",
            "null") CHUNK("0",
                          "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
                          "\"{\\\"a\\\":\"}}]}",
                          "null")
            CHUNK("0",
                  "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
                  "\"1}\"}}]}",
                  "null")
                CHUNK("0",
                      "{\"tool_calls\":[{\"index\":1,\"id\":\"call_2\",\"type\":"
                      "\"function\",\"function\":{\"name\":\"g\",\"arguments\":"
                      "\"\"}}]}",
                      "null") CHUNK("0",
                                    "{\"tool_calls\":[{\"index\":1,\"function\":{"
                                    "\"arguments\":\"{}\"}}]}",
                                    "null")
                    CHUNK("0", "{}", "\"tool_calls\"") "data: {" HEAD(
                        "chatcmpl-ID", "chat.completion.chunk") "\"choices\":[]," NUMBERS
                                                                "}\n\n" DONE);
    expect(TUG_API_CHAT, "{" USER "}", play_calls,
           "{" HEAD("chatcmpl-ID",
                    "chat.completion") "\"choices\":[{\"index\":0,\"message\":{\"role\":"
                                       "\"assistant\",\"content\":"
                                       "\"Hi "
                                       "\xC3\xA9\\n\",\"refusal\":null,\"tool_calls\":[{"
                                       "\"id\":\"call_1\",\"type\":"
                                       "\"function\",\"function\":{\"name\":\"f\","
                                       "\"arguments\":\"{\\\"a\\\":1}\"}},{"
                                       "\"id\":\"call_2\",\"type\":\"function\","
                                       "\"function\":{\"name\":\"g\","
                                       "\"arguments\":\"{}\"}}]},\"logprobs\":null,"
                                       "\"finish_reason\":\"tool_calls\"}]," NUMBERS "}");
}

#define LEGACY USER ",\"functions\":[{\"name\":\"f\"}]"

static void test_chat_function_call(void **state) {
    (void)state;
    expect(TUG_API_CHAT, "{" LEGACY ",\"stream\":true}", play_calls,
           ROLE("0") CHUNK("0", "{\"content\":\"Hi \xC3\xA9\\n\"}", "null") CHUNK(
               "0", "{\"function_call\":{\"name\":\"f\",\"arguments\":\"\"}}", "null")
               CHUNK("0", "{\"function_call\":{\"arguments\":\"{\\\"a\\\":\"}}", "null")
                   CHUNK("0", "{\"function_call\":{\"arguments\":\"1}\"}}", "null")
                       CHUNK("0", "{}", "\"function_call\"") DONE);
    expect(TUG_API_CHAT, "{" LEGACY "}", play_calls,
           "{" HEAD("chatcmpl-ID",
                    "chat.completion") "\"choices\":[{\"index\":0,\"message\":{\"role\":"
                                       "\"assistant\",\"content\":"
                                       "\"Hi "
                                       "\xC3\xA9\\n\",\"refusal\":null,\"function_call\":"
                                       "{\"name\":\"f\","
                                       "\"arguments\":\"{\\\"a\\\":1}\"}},\"logprobs\":"
                                       "null,\"finish_reason\":"
                                       "\"function_call\"}]," NUMBERS "}");
}

static const tug_answer_usage final_usage = {44, 40, 12, 0.5, 2.0};

/* Two choices; the second repeats itself. */
static void play_two(tug_answer *a, tug_buf *out) {
    tug_answer_begin(a, &final_usage, out);
    tug_answer_alive(a, 41, 44, out);
    tug_answer_text(a, STR("one"), NULL, out);
    tug_answer_warning(a, STR("a schema was left free"));
    tug_answer_choice_end(a, TUG_END_STOP_STRING, STR("x"), out);
    tug_answer_text(a, STR("two"), NULL, out);
    tug_answer_choice_end(a, TUG_END_LOOP, STR(""), out);
    tug_answer_finish(a, &final_usage, out);
}

#define LOOP_TEXT "the model repeated itself without end, so its answer was ended there"
#define WARNED(index, sentence)                                                       \
    "data: {" HEAD(                                                                   \
        "chatcmpl-ID",                                                                \
        "chat.completion.chunk") "\"choices\":[{\"index\":" index                     \
                                 ",\"delta\":{},\"logprobs\":null,\"finish_reason\":" \
                                 "\"stop\"}],\"warning\":\"" sentence "\"}\n\n"

static void test_chat_choices(void **state) {
    (void)state;
    expect(TUG_API_CHAT, "{" USER ",\"stream\":true,\"n\":2}", play_two,
           ROLE("0") ": keepalive\n\n" CHUNK("0", "{\"content\":\"one\"}", "null")
               WARNED("0", "a schema was left free") ROLE("1")
                   CHUNK("1", "{\"content\":\"two\"}", "null") WARNED("1", LOOP_TEXT)
                       DONE);
    expect(
        TUG_API_CHAT, "{" USER ",\"n\":2}", play_two,
        "{" HEAD("chatcmpl-ID",
                 "chat.completion") "\"choices\":[{\"index\":0,\"message\":{\"role\":"
                                    "\"assistant\",\"content\":"
                                    "\"one\",\"refusal\":null},\"logprobs\":null,"
                                    "\"finish_reason\":\"stop\"},{"
                                    "\"index\":1,\"message\":{\"role\":\"assistant\","
                                    "\"content\":\"two\",\"refusal\":"
                                    "null},\"logprobs\":null,\"finish_reason\":\"stop\"}]"
                                    "," NUMBERS
                                    ",\"warning\":\"a schema was left free\\n" LOOP_TEXT
                                    "\"}");
}

static void play_progress(tug_answer *a, tug_buf *out) {
    tug_answer_begin(a, &final_usage, out);
    tug_buf_clear(out);
    tug_answer_alive(a, 41, 44, out);
}

static void play_error(tug_answer *a, tug_buf *out) {
    tug_answer_begin(a, &final_usage, out);
    tug_buf_clear(out);
    tug_answer_error(a, TUG_EIO, STR("the \"disk\" is gone"), out);
}

static void test_chat_events(void **state) {
    (void)state;
    expect(TUG_API_CHAT, "{" USER ",\"stream\":true,\"return_progress\":true}",
           play_progress,
           "data: {" HEAD(
               "chatcmpl-ID",
               "chat.completion.chunk") "\"choices\":[],\"prompt_progress\":{\"total\":"
                                        "44,\"cache\":40,\"processed\":41}}"
                                        "\n\n");
    expect(TUG_API_COMPLETIONS, "{\"prompt\":\"x\",\"stream\":true}", play_progress,
           ": keepalive\n\n");
    static const char error[] =
        "data: {\"error\":{\"message\":\"the \\\"disk\\\" is gone\",\"type\":"
        "\"server_error\",\"param\":null,\"code\":\"internal_error\"}}\n\n";
    expect(TUG_API_CHAT, "{" USER ",\"stream\":true}", play_error, error);
    expect(TUG_API_COMPLETIONS, "{\"prompt\":\"x\",\"stream\":true}", play_error, error);
}

/* Half a character each, then an end that says so. */
static void play_logprobs(tug_answer *a, tug_buf *out) {
    const tug_token_logprob top[] = {{STR("\xC3"), -0.5f}, {STR("q"), -INFINITY}};
    const tug_answer_token first = {{STR("\xC3"), -0.5f}, top, 2};
    const tug_answer_token second = {{STR("\xA9"), 0.0f}, NULL, 0};
    tug_answer_begin(a, &final_usage, out);
    tug_answer_text(a, STR(""), &first, out);
    tug_answer_text(a, STR("\xC3\xA9"), &second, out);
    tug_answer_choice_end(a, TUG_END_CONTEXT, STR(""), out);
    tug_answer_finish(a, &final_usage, out);
}

#define TOKEN_1                                                                        \
    "{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-0.5,\"bytes\":[195],\"top_logprobs\":[{" \
    "\"token\":\"\xEF\xBF\xBD\",\"logprob\":-0.5,\"bytes\":[195]},{\"token\":\"q\","   \
    "\"logprob\":-9999.0,\"bytes\":[113]}]}"
#define TOKEN_2 \
    "{\"token\":\"\xEF\xBF\xBD\",\"logprob\":0.0,\"bytes\":[169],\"top_logprobs\":[]}"
#define SAID(text, token)                                                \
    "data: {" HEAD(                                                      \
        "chatcmpl-ID",                                                   \
        "chat.completion.chunk") "\"choices\":[{\"index\":0,"            \
                                 "\"delta\":{\"content\":\"" text        \
                                 "\"},\"logprobs\":{\"content\":[" token \
                                 "],\"refusal\":null},\"finish_reason\":null}]}\n\n"

static void test_chat_logprobs(void **state) {
    (void)state;
    expect(TUG_API_CHAT, "{" USER ",\"stream\":true,\"logprobs\":true}", play_logprobs,
           ROLE("0") SAID("", TOKEN_1) SAID("\xC3\xA9", TOKEN_2)
               CHUNK("0", "{}", "\"length\"") DONE);
    expect(TUG_API_CHAT, "{" USER ",\"logprobs\":true}", play_logprobs,
           "{" HEAD("chatcmpl-ID",
                    "chat.completion") "\"choices\":[{\"index\":0,\"message\":{\"role\":"
                                       "\"assistant\",\"content\":"
                                       "\"\xC3\xA9\",\"refusal\":null},\"logprobs\":{"
                                       "\"content\":[" TOKEN_1 "," TOKEN_2
                                       "],\"refusal\":null},\"finish_reason\":\"length\"}"
                                       "]," NUMBERS "}");
    /* Not asked for: as if nobody had told. */
    expect(TUG_API_CHAT, "{" USER ",\"stream\":true}", play_logprobs,
           ROLE("0") CHUNK("0", "{\"content\":\"\xC3\xA9\"}", "null")
               CHUNK("0", "{}", "\"length\"") DONE);
}

#define PIECE(text, logprobs, reason)                                              \
    "data: {" HEAD("cmpl-ID",                                                      \
                   "text_completion") "\"choices\":[{\"index\":0,\"text\":\"" text \
                                      "\",\"logprobs\":" logprobs                  \
                                      ",\"finish_reason\":" reason "}]}\n\n"

static void test_completions(void **state) {
    (void)state;
    expect(TUG_API_COMPLETIONS,
           "{\"prompt\":\"p\",\"stream\":true,\"echo\":true,\"logprobs\":2}",
           play_logprobs,
           PIECE("p", "null", "null")
               PIECE("",
                     "{\"tokens\":[\"bytes:\\\\xc3\"],\"token_logprobs\":[-0.5],"
                     "\"top_logprobs\":[{\"bytes:\\\\xc3\":-0.5,\"q\":-9999.0}],"
                     "\"text_offset\":[1]}",
                     "null")
                   PIECE("\xC3\xA9",
                         "{\"tokens\":[\"bytes:\\\\xa9\"],\"token_logprobs\":[0.0],"
                         "\"top_logprobs\":[{}],\"text_offset\":[2]}",
                         "null") PIECE("", "null", "\"length\"") DONE);
    expect(TUG_API_COMPLETIONS, "{\"prompt\":\"p\",\"echo\":true,\"logprobs\":2}",
           play_logprobs,
           "{" HEAD("cmpl-ID",
                    "text_completion") "\"choices\":[{\"index\":0,\"text\":\"p\xC3\xA9\","
                                       "\"logprobs\":{\"tokens\":["
                                       "\"bytes:\\\\xc3\",\"bytes:\\\\xa9\"],\"token_"
                                       "logprobs\":[-0.5,0.0],"
                                       "\"top_logprobs\":[{\"bytes:\\\\xc3\":-0.5,\"q\":-"
                                       "9999.0},{}],\"text_offset\":[1,"
                                       "2]},\"finish_reason\":\"length\"}]," NUMBERS "}");
    expect(
        TUG_API_COMPLETIONS,
        "{\"prompt\":\"p\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
        play_logprobs,
        PIECE("", "null", "null") PIECE("\xC3\xA9", "null", "null")
            PIECE("", "null", "\"length\"") "data: {" HEAD(
                "cmpl-ID", "text_completion") "\"choices\":[]," NUMBERS "}\n\n" DONE);
}

/* The offsets of each choice begin anew. */
static void play_two_tokens(tug_answer *a, tug_buf *out) {
    const tug_answer_token token = {{STR("ab"), -1.0f}, NULL, 0};
    tug_answer_begin(a, &final_usage, out);
    for (int i = 0; i < 2; i++) {
        tug_answer_text(a, STR("ab"), &token, out);
        tug_answer_text(a, STR("ab"), &token, out);
        tug_answer_choice_end(a, TUG_END_STOP, STR(""), out);
    }
    tug_answer_finish(a, &final_usage, out);
}

static void test_text_offsets(void **state) {
    (void)state;
    tug_buf out = answer_of(TUG_API_COMPLETIONS,
                            "{\"prompt\":\"p\",\"stream\":true,\"n\":2,\"logprobs\":0}",
                            play_two_tokens);
    const char *p = out.p;
    for (int i = 0; i < 4; i++) {
        p = strstr(p, "\"text_offset\":[");
        assert_non_null(p);
        p += strlen("\"text_offset\":[");
        assert_int_equal(*p, i % 2 ? '2' : '0');
    }
    assert_null(strstr(p, "\"text_offset\""));
    tug_buf_free(&out);
}

/* ---- which end is called what ---------------------------------------------------------- */

static tug_answer_end the_end;
static bool a_call, it_is_whole;

static void play_end(tug_answer *a, tug_buf *out) {
    tug_answer_begin(a, &final_usage, out);
    if (a_call) {
        tug_answer_call_begin(a, STR("c"), STR("f"), 0, out);
        tug_answer_text(a, STR(""), NULL, out); /* allowed, and nothing */
        tug_answer_call_end(a, it_is_whole, out);
    }
    tug_answer_choice_end(a, the_end, STR(""), out);
    tug_answer_finish(a, &final_usage, out);
}

static void test_ends(void **state) {
    (void)state;
    static const struct {
        tug_answer_end end;
        const char *no_call, *whole, *cut_off;
    } table[] = {{TUG_END_STOP, "stop", "tool_calls", "length"},
                 {TUG_END_STOP_STRING, "stop", "tool_calls", "length"},
                 {TUG_END_CALLS, "stop", "tool_calls", "length"},
                 {TUG_END_LENGTH, "length", "length", "length"},
                 {TUG_END_CONTEXT, "length", "length", "length"},
                 {TUG_END_LOOP, "stop", "tool_calls", "stop"}};
    for (size_t i = 0; i < COUNT(table); i++) {
        for (int k = 0; k < 3; k++) {
            the_end = table[i].end;
            a_call = k > 0;
            it_is_whole = k == 1;
            const char *const want[] = {table[i].no_call, table[i].whole,
                                        table[i].cut_off};
            char text[64];
            (void)snprintf(text, sizeof text, "\"finish_reason\":\"%s\"", want[k]);
            tug_buf out = answer_of(TUG_API_CHAT, "{" USER "}", play_end);
            if (!strstr(out.p, text)) fail_msg("end %zu, case %d: %s", i, k, out.p);
            tug_buf_free(&out);
        }
    }
}

/* ---- a stream says what the body says ---------------------------------------------------- */

static uint64_t play_seed;

static void play_random(tug_answer *a, tug_buf *out) {
    static const char *const texts[] = {
        "a", "\n", "\"\\", "\xC3\xA9", "\xF0\x9F\x98\x80", "", "\x01", "</tool_call>"};
    tug_rng rng;
    tug_rng_seed(&rng, play_seed);
    tug_answer_begin(a, &final_usage, out);
    const uint64_t n = tug_rng_u64(&rng) % 12;
    for (uint64_t i = 0; i < n; i++) {
        const tug_str text = tug_str_of(texts[tug_rng_u64(&rng) % COUNT(texts)]);
        if (tug_rng_u64(&rng) % 3) {
            tug_answer_text(a, text, NULL, out);
            continue;
        }
        tug_answer_call_begin(a, STR("c"), STR("f"), 0, out);
        for (uint64_t k = tug_rng_u64(&rng) % 4; k > 0; k--) {
            tug_answer_call_arguments(a, text, out);
        }
        tug_answer_call_end(a, true, out);
    }
    tug_answer_choice_end(a, TUG_END_STOP, STR(""), out);
    tug_answer_finish(a, &final_usage, out);
}

/* What a message says: its content, then each call's name and arguments. */
static void say_call(tug_buf *said, const tug_json *call) {
    const tug_json *const f = tug_json_get(call, "function");
    const tug_json *const name = tug_json_get(f, "name");
    if (name) {
        tug_buf_char(said, '|');
        tug_buf_str(said, tug_json_text(name));
        tug_buf_char(said, ':');
    }
    tug_buf_str(said, tug_json_text(tug_json_get(f, "arguments")));
}

static void say(tug_buf *content, tug_buf *calls, const tug_json *message) {
    const tug_json *const text = tug_json_get(message, "content");
    const tug_json *const list = tug_json_get(message, "tool_calls");
    if (tug_json_is(text, TUG_JSON_STRING)) tug_buf_str(content, tug_json_text(text));
    for (size_t i = 0; list && i < list->n; i++) say_call(calls, tug_json_at(list, i));
}

static const tug_json *first_choice(const tug_json *answer) {
    const tug_json *const choices = tug_json_get(answer, "choices");
    assert_true(tug_json_is(choices, TUG_JSON_ARRAY));
    return choices->n > 0 ? tug_json_at(choices, 0) : NULL;
}

static void say_stream(tug_buf *content, tug_buf *calls, const char *p) {
    while (strcmp(p, DONE) != 0) {
        tug_arena arena = {0};
        const tug_json *chunk;
        const char *const end = strstr(p, "\n\n");
        assert_true(strncmp(p, "data: ", 6) == 0 && end);
        const tug_str json = tug_str_make(p + 6, (size_t)(end - p) - 6);
        assert_null(memchr(json.p, '\n', json.n));
        assert_int_equal(tug_json_parse(json, &arena, &chunk, NULL), TUG_OK);
        say(content, calls, tug_json_get(first_choice(chunk), "delta"));
        tug_arena_free(&arena);
        p = end + 2;
    }
}

static void test_stream_is_body(void **state) {
    (void)state;
    for (play_seed = 1; play_seed <= 300; play_seed++) {
        tug_arena arena = {0};
        const tug_json *json;
        tug_buf content[2] = {0}, calls[2] = {0};
        tug_buf stream =
            answer_of(TUG_API_CHAT, "{" USER ",\"stream\":true}", play_random);
        tug_buf body = answer_of(TUG_API_CHAT, "{" USER "}", play_random);
        assert_int_equal(tug_json_parse(tug_buf_view(&body), &arena, &json, NULL),
                         TUG_OK);
        say(&content[0], &calls[0], tug_json_get(first_choice(json), "message"));
        say_stream(&content[1], &calls[1], stream.p);
        assert_true(tug_str_eq(tug_buf_view(&content[0]), tug_buf_view(&content[1])));
        assert_true(tug_str_eq(tug_buf_view(&calls[0]), tug_buf_view(&calls[1])));
        for (int i = 0; i < 2; i++) {
            tug_buf_free(&content[i]);
            tug_buf_free(&calls[i]);
        }
        tug_buf_free(&stream);
        tug_buf_free(&body);
        tug_arena_free(&arena);
    }
}

/* ---- memory ---------------------------------------------------------------------------- */

/* Wherever memory ends, the bytes are marked as not to be sent, or create refuses. */
static void check_memory(tug_api api, const char *body,
                         void (*play)(tug_answer *, tug_buf *)) {
    parsed p;
    parse(&p, api, body);
    for (uint64_t n = 1;; n++) {
        tug_answer *a;
        tug_buf out = {0};
        fault_fail_alloc(n);
        const tug_status s = tug_answer_create(&a, &p.r, STR("m"), STR("ID"), 7, NULL);
        if (s == TUG_OK) play(a, &out);
        const bool failed = s != TUG_OK || out.failed;
        tug_answer_destroy(&a);
        tug_buf_free(&out);
        assert_int_equal(fault_live_blocks(), 0);
        const bool hit = fault_stop();
        assert_int_equal(failed, hit);
        if (!hit) break;
    }
    tug_arena_free(&p.arena);
}

static void test_memory(void **state) {
    (void)state;
    check_memory(TUG_API_CHAT, "{" USER "}", play_calls);
    check_memory(TUG_API_CHAT, "{" USER ",\"stream\":true,\"n\":2}", play_two);
    check_memory(TUG_API_CHAT, "{" USER ",\"logprobs\":true}", play_logprobs);
    check_memory(TUG_API_COMPLETIONS, "{\"prompt\":\"p\",\"echo\":true,\"logprobs\":2}",
                 play_logprobs);
}

/* ---- errors ---------------------------------------------------------------------------- */

static void expect_error(tug_api api, tug_api_fault fault, const char *want) {
    tug_buf out = {0};
    tug_api_error(api, fault, STR("no"), 9, 8, &out);
    assert_string_equal(out.p, want);
    tug_buf_free(&out);
}

static void test_errors(void **state) {
    (void)state;
    static const int status[] = {400, 400, 401, 403, 404, 405, 413, 429, 500, 501, 503};
    for (tug_api_fault f = TUG_FAULT_INVALID; f <= TUG_FAULT_UNAVAILABLE; f++) {
        assert_int_equal(tug_api_fault_status(f), status[f]);
        for (tug_api api = TUG_API_CHAT; api <= TUG_API_MESSAGES; api++) {
            tug_arena arena = {0};
            const tug_json *json;
            tug_buf out = {0};
            tug_api_error(api, f, STR("no \xFF"), 9, 8, &out);
            assert_int_equal(tug_json_parse(tug_buf_view(&out), &arena, &json, NULL),
                             TUG_OK);
            const tug_json *const error = tug_json_get(json, "error");
            assert_true(tug_json_is(tug_json_get(error, "message"), TUG_JSON_STRING));
            assert_true(tug_json_is(tug_json_get(error, "type"), TUG_JSON_STRING));
            tug_buf_free(&out);
            tug_arena_free(&arena);
        }
    }
    expect_error(
        TUG_API_CHAT, TUG_FAULT_AUTH,
        "{\"error\":{\"message\":\"no\",\"type\":\"authentication_error\",\"param\":"
        "null,\"code\":\"invalid_api_key\"}}");
    expect_error(
        TUG_API_RESPONSES, TUG_FAULT_CONTEXT,
        "{\"error\":{\"message\":\"This model's maximum context length is 8 tokens, "
        "but the prompt has 9 tokens; shorten it, or serve the model with a larger "
        "context\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":"
        "\"context_length_exceeded\",\"n_prompt_tokens\":9,\"n_ctx\":8}}");
    expect_error(
        TUG_API_MESSAGES, TUG_FAULT_CONTEXT,
        "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\","
        "\"message\":\"prompt is too long: 9 tokens > 8 maximum\"},\"request_id\":"
        "null}");
}

int main(void) {
    const struct CMUnitTest tests[] = {

        cmocka_unit_test(test_chat_calls),     cmocka_unit_test(test_chat_function_call),
        cmocka_unit_test(test_chat_choices),   cmocka_unit_test(test_chat_events),
        cmocka_unit_test(test_chat_logprobs),  cmocka_unit_test(test_completions),
        cmocka_unit_test(test_text_offsets),   cmocka_unit_test(test_ends),
        cmocka_unit_test(test_stream_is_body), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
