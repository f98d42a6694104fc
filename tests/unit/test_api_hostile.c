/* test_api_hostile.c - every field of a request x 24 values that may not belong there.
 *
 * A value is accepted or refused as the table says, by a sentence that begins with the
 * field's path; nothing crashes, also not when memory runs out at any point.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/request.h"
#include "fault/fault.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* clang-format off */
static const char *const values[24] = {
    "null", "true", "false", "0", "1", "-1", "2", "1.5", "-0.5", "1e400", "-1e400",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e-400",
    "100.0", "\"\"", "\"abc\"", "\"\\u0000\"", "[]", "{}", "[1]", "[\"x\"]", "{\"a\":1}"};
/* clang-format on */

/* Which of the values are accepted, y or n in their order. */
#define ANY       "yyyyyyyyyyyyyyyyyyyyyyyy"
#define NEVER     "nnnnnnnnnnnnnnnnnnnnnnnn"
#define ONLY_NULL "ynnnnnnnnnnnnnnnnnnnnnnn"
#define BOOL      "yyynnnnnnnnnnnnnnnnnnnnn"
#define LIMIT     "ynnyyyynnynyyyyynnnnnnnn" /* from -1 on */
#define ONE_TO_8  "ynnnynynnnnnnnnnnnnnnnnn"
#define TO_20     "ynnyynynnnnnnnynnnnnnnnn"
#define SEED      "ynnyyyynnnnyynyynnnnnnnn"
#define TO_100    "ynnyynyynnnnnnyynnnnnnnn"
#define TO_1      "ynnyynnnnnnnnnynnnnnnnnn"
#define REPEAT    "ynnnynyynnnnnnnynnnnnnnn"
#define PENALTY   "ynnyyyyyynnnnnynnnnnnnnn"
#define STRING    "ynnnnnnnnnnnnnnnyyynnnnn"
#define STOP      "ynnnnnnnnnnnnnnnyyyynnyn"
#define OBJECT    "ynnnnnnnnnnnnnnnnnnnynny"
#define EMPTY_OBJ "ynnnnnnnnnnnnnnnnnnnynnn"
#define NO_TOOLS  "ynnnnnnnnnnnnnnnnnnyynnn"
#define ARRAY     "ynnnnnnnnnnnnnnnnnnynyyn"
#define TEXT_ONLY "nnnnnnnnnnnnnnnnyyynnnnn"
#define CONTENT   "nnnnnnnnnnnnnnnnyyyynnnn" /* a text or [] */
#define RESULT    "ynnnnnnnnnnnnnnnyyyynnnn"
#define NAME      "nnnnnnnnnnnnnnnnnynnnnnn"
#define NOT_SAID  "ynnnnnnnnnnnnnnnynnnnnnn" /* null or "" */
#define NO_LIST   "ynnnnnnnnnnnnnnnnnnynnnn"

typedef struct row {
    tug_api api;
    const char *path;
    const char *body; /* @: the value */
    const char *want; /* (24,) */
} row;

#define CHAT(key, want)                                                                  \
    {                                                                                    \
        TUG_API_CHAT, key,                                                               \
            "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"" key "\":@}", want \
    }
#define TEXT(key, want) \
    { TUG_API_COMPLETIONS, key, "{\"prompt\":\"x\",\"" key "\":@}", want }
#define IN_CHAT(path, more, want)                                                   \
    {                                                                               \
        TUG_API_CHAT, path,                                                         \
            "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]," more "}", want \
    }
#define MESSAGE(path, message, want)                                                   \
    {                                                                                  \
        TUG_API_CHAT, path,                                                            \
            "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}," message "]}", want \
    }
#define RESPONSE(key, want) \
    { TUG_API_RESPONSES, key, "{\"input\":\"x\",\"" key "\":@}", want }
#define IN_RESPONSE(path, more, want) \
    { TUG_API_RESPONSES, path, "{\"input\":\"x\"," more "}", want }
#define ITEM(path, item, want) \
    { TUG_API_RESPONSES, path, "{\"input\":[" item "]}", want }
#define IN_MESSAGES(path, more, want)                                               \
    {                                                                               \
        TUG_API_MESSAGES, path,                                                     \
            "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]," more "}", want \
    }
#define MESSAGES(key, want) IN_MESSAGES(key, "\"" key "\":@", want)
#define TURN(path, message, want)                                                      \
    {                                                                                  \
        TUG_API_MESSAGES, path,                                                        \
            "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}," message "]}", want \
    }
#define BLOCK(path, role, block, want) \
    TURN(path, "{\"role\":\"" role "\",\"content\":[" block "]}", want)
#define TOOL(path, tool, want) IN_CHAT(path, "\"tools\":[" tool "]", want)

static const row rows[] = {
    CHAT("model", STRING),
    CHAT("stream", BOOL),
    CHAT("stream_options", OBJECT),
    CHAT("max_tokens", LIMIT),
    CHAT("max_completion_tokens", LIMIT),
    CHAT("temperature", TO_100),
    CHAT("top_p", TO_1),
    CHAT("min_p", TO_1),
    CHAT("top_k", LIMIT),
    CHAT("presence_penalty", PENALTY),
    CHAT("frequency_penalty", PENALTY),
    CHAT("repeat_penalty", REPEAT),
    CHAT("repetition_penalty", REPEAT),
    CHAT("seed", SEED),
    CHAT("stop", STOP),
    CHAT("n", ONE_TO_8),
    CHAT("logprobs", BOOL),
    CHAT("top_logprobs", TO_20),
    CHAT("logit_bias", EMPTY_OBJ),
    CHAT("response_format", OBJECT),
    CHAT("tools", NO_TOOLS),
    CHAT("tool_choice", ONLY_NULL),
    CHAT("functions", NO_LIST),
    CHAT("parallel_tool_calls", BOOL),
    CHAT("prompt_cache_key", STRING),
    CHAT("cache_prompt", BOOL),
    CHAT("return_progress", BOOL),
    CHAT("add_generation_prompt", BOOL),
    CHAT("grammar", "yyyyyyyyyyyyyyyyynnyyyyy"),
    CHAT("messages", NEVER),
    CHAT("user", ANY),
    CHAT("best_of", ANY),
    CHAT("reasoning_effort", ANY),
    CHAT("chat_template_kwargs", ANY),
    CHAT("function_call", ANY), /* without functions it means nothing */
    CHAT("", ANY),
    IN_CHAT("stream_options.include_usage", "\"stream_options\":{\"include_usage\":@}",
            BOOL),
    IN_CHAT("response_format.type", "\"response_format\":{\"type\":@}", ONLY_NULL),
    IN_CHAT("response_format.json_schema",
            "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":@}", OBJECT),
    IN_CHAT(
        "response_format.json_schema.schema",
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":@}}",
        "yyynnnnnnnnnnnnnnnnnynny"),
    IN_CHAT("response_format.schema",
            "\"response_format\":{\"type\":\"json_object\",\"schema\":@}",
            "yyynnnnnnnnnnnnnnnnnynny"),
    IN_CHAT("logit_bias[\"5\"]", "\"logit_bias\":{\"5\":@}", "nnnyyyyyynnnnnyynnnnnnnn"),
    IN_CHAT("stop[0]", "\"stop\":[@]", "nnnnnnnnnnnnnnnnyyynnnnn"),
    IN_CHAT("function_call", "\"functions\":[{\"name\":\"f\"}],\"function_call\":@",
            ONLY_NULL),
    IN_CHAT("tool_choice",
            "\"tools\":[{\"function\":{\"name\":\"f\"}}],\"tool_choice\":{\"type\":"
            "\"function\",\"function\":{\"name\":@}}",
            NEVER),
    TOOL("tools[0]", "@", NEVER),
    TOOL("tools[0].type", "{\"type\":@,\"function\":{\"name\":\"f\"}}", STRING),
    TOOL("tools[0]", "{\"type\":\"function\",\"function\":@}", NEVER),
    TOOL("tools[0].function.name", "{\"function\":{\"name\":@}}",
         "nnnnnnnnnnnnnnnnnynnnnnn"),
    TOOL("tools[0].function.parameters",
         "{\"function\":{\"name\":\"f\",\"parameters\":@}}", ANY),
    TOOL("tools[0].function.description",
         "{\"function\":{\"name\":\"f\",\"description\":@}}", ANY),
    MESSAGE("messages[1]", "@", NEVER),
    MESSAGE("messages[1].role", "{\"role\":@,\"content\":\"x\"}", NEVER),
    MESSAGE("messages[1].content", "{\"role\":\"user\",\"content\":@}",
            "nnnnnnnnnnnnnnnnyyyynnnn"),
    MESSAGE("messages[1].content", "{\"role\":\"assistant\",\"content\":@}",
            "ynnnnnnnnnnnnnnnyyyynnnn"),
    MESSAGE("messages[1].content",
            "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":@}",
            "yyyyyyyyyyyyyyyyyyyyynny"),
    MESSAGE("messages[1].content[0]", "{\"role\":\"user\",\"content\":[@]}", NEVER),
    MESSAGE("messages[1].content[0].text",
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":@}]}",
            "nnnnnnnnnnnnnnnnyyynnnnn"),
    MESSAGE("messages[1].tool_calls", "{\"role\":\"assistant\",\"tool_calls\":@}",
            "yyyyyyyyyyyyyyyyynnyynnn"),
    MESSAGE("messages[1].tool_calls[0]",
            "{\"role\":\"assistant\",\"tool_calls\":[{\"function\":@}]}", NEVER),
    MESSAGE("messages[1].tool_calls[0].function.name",
            "{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":@}}]}",
            "nnnnnnnnnnnnnnnnyyynnnnn"),
    MESSAGE("messages[1].tool_calls[0].function.arguments",
            "{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
            "\"arguments\":@}}]}",
            ANY),
    MESSAGE("messages[1].tool_call_id",
            "{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":@}", ANY),
    MESSAGE("messages[1].reasoning_content",
            "{\"role\":\"assistant\",\"content\":\"x\",\"reasoning_content\":@}", ANY),
    TEXT("model", STRING),
    TEXT("stream", BOOL),
    TEXT("stream_options", OBJECT),
    TEXT("prompt", "nnnnnnnnnnnnnnnnyyynnyyn"),
    TEXT("suffix", STRING),
    TEXT("echo", BOOL),
    TEXT("max_tokens", LIMIT),
    TEXT("temperature", TO_100),
    TEXT("top_p", TO_1),
    TEXT("min_p", TO_1),
    TEXT("top_k", LIMIT),
    TEXT("presence_penalty", PENALTY),
    TEXT("frequency_penalty", PENALTY),
    TEXT("repeat_penalty", REPEAT),
    TEXT("seed", SEED),
    TEXT("stop", STOP),
    TEXT("n", ONE_TO_8),
    TEXT("logprobs", TO_20),
    TEXT("logit_bias", EMPTY_OBJ),
    TEXT("cache_prompt", BOOL),
    TEXT("best_of", ANY),
    TEXT("user", ANY),
    {TUG_API_COMPLETIONS, "prompt[0]", "{\"prompt\":[@]}", "nnnyynynnnnnnnyyyyynnynn"},
    {TUG_API_COMPLETIONS, "prompt[1]", "{\"prompt\":[7,@]}", "nnnyynynnnnnnnyynnnnnnnn"},
    {TUG_API_COMPLETIONS, "prompt[0][0]", "{\"prompt\":[[@]]}",
     "nnnyynynnnnnnnyynnnnnnnn"},
    RESPONSE("model", STRING),
    RESPONSE("stream", BOOL),
    RESPONSE("cache_prompt", BOOL),
    RESPONSE("input", CONTENT),
    RESPONSE("instructions", STRING),
    RESPONSE("max_output_tokens", LIMIT),
    RESPONSE("temperature", TO_100),
    RESPONSE("top_p", TO_1),
    RESPONSE("top_k", LIMIT),
    RESPONSE("seed", SEED),
    RESPONSE("stop", STOP),
    RESPONSE("include", ARRAY),
    RESPONSE("top_logprobs", TO_20),
    RESPONSE("parallel_tool_calls", BOOL),
    RESPONSE("prompt_cache_key", STRING),
    RESPONSE("text", OBJECT),
    RESPONSE("tools", NO_LIST),
    RESPONSE("tool_choice", ONLY_NULL),
    RESPONSE("previous_response_id", NOT_SAID),
    RESPONSE("conversation", NOT_SAID),
    RESPONSE("background", "ynynnnnnnnnnnnnnnnnnnnnn"),
    RESPONSE("prompt", ONLY_NULL),
    RESPONSE("store", ANY),
    RESPONSE("metadata", ANY),
    RESPONSE("reasoning", ANY),
    RESPONSE("client_metadata", ANY),
    RESPONSE("truncation", ANY),
    IN_RESPONSE("text.format", "\"text\":{\"format\":@}", OBJECT),
    IN_RESPONSE("text.format.type", "\"text\":{\"format\":{\"type\":@}}", ONLY_NULL),
    IN_RESPONSE("text.format.schema",
                "\"text\":{\"format\":{\"type\":\"json_schema\",\"schema\":@}}",
                "yyynnnnnnnnnnnnnnnnnynny"),
    IN_RESPONSE("tools[0]", "\"tools\":[@]", NEVER),
    IN_RESPONSE("tools[0].type", "\"tools\":[{\"type\":@,\"name\":\"f\"}]", STRING),
    IN_RESPONSE("tools[0].name", "\"tools\":[{\"name\":@}]", NAME),
    IN_RESPONSE("tools[0].description", "\"tools\":[{\"name\":\"f\",\"description\":@}]",
                STRING),
    IN_RESPONSE("tools[0].parameters", "\"tools\":[{\"name\":\"f\",\"parameters\":@}]",
                ANY),
    IN_RESPONSE("tools[0].strict", "\"tools\":[{\"name\":\"f\",\"strict\":@}]", ANY),
    IN_RESPONSE("tools[0].format",
                "\"tools\":[{\"type\":\"custom\",\"name\":\"f\",\"format\":@}]", OBJECT),
    IN_RESPONSE("tools[0].name", "\"tools\":[{\"type\":\"namespace\",\"name\":@}]",
                "nnnnnnnnnnnnnnnnnyynnnnn"),
    IN_RESPONSE("tools[0].tools",
                "\"tools\":[{\"type\":\"namespace\",\"name\":\"n\",\"tools\":@}]",
                NO_LIST),
    IN_RESPONSE("tool_choice.tools",
                "\"tools\":[{\"name\":\"f\"}],\"tool_choice\":{\"type\":"
                "\"allowed_tools\",\"tools\":@}",
                "nnnnnnnnnnnnnnnnnnnynyyn"),
    ITEM("input[0]", "@", NEVER),
    ITEM("input[0].type", "{\"type\":@,\"role\":\"user\",\"content\":\"x\"}", STRING),
    ITEM("input[0].role", "{\"role\":@,\"content\":\"x\"}", NEVER),
    ITEM("input[0].content", "{\"role\":\"user\",\"content\":@}", CONTENT),
    ITEM("input[0].content", "{\"role\":\"assistant\",\"content\":@}", RESULT),
    ITEM("input[0].content[0]", "{\"role\":\"user\",\"content\":[@]}", NEVER),
    ITEM("input[0].content[0].text",
         "{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":@}]}",
         TEXT_ONLY),
    ITEM("input[0].name", "{\"type\":\"function_call\",\"name\":@}", TEXT_ONLY),
    ITEM("input[0].namespace",
         "{\"type\":\"function_call\",\"name\":\"f\",\"namespace\":@}", STRING),
    ITEM("input[0].arguments",
         "{\"type\":\"function_call\",\"name\":\"f\",\"arguments\":@}", ANY),
    ITEM("input[0].input", "{\"type\":\"custom_tool_call\",\"name\":\"f\",\"input\":@}",
         ANY),
    ITEM("input[0].action", "{\"type\":\"local_shell_call\",\"action\":@}", ANY),
    ITEM("input[0].output", "{\"type\":\"function_call_output\",\"output\":@}", RESULT),
    ITEM("input[0].tools", "{\"type\":\"tool_search_output\",\"tools\":@}", ANY),
    MESSAGES("model", STRING),
    MESSAGES("stream", BOOL),
    MESSAGES("max_tokens", LIMIT),
    MESSAGES("temperature", TO_100),
    MESSAGES("top_p", TO_1),
    MESSAGES("top_k", LIMIT),
    MESSAGES("stop_sequences", STOP),
    MESSAGES("system", RESULT),
    MESSAGES("messages", NEVER),
    MESSAGES("tools", NO_LIST),
    MESSAGES("tool_choice", ONLY_NULL),
    MESSAGES("output_config", OBJECT),
    MESSAGES("output_format", OBJECT),
    MESSAGES("metadata", ANY),
    MESSAGES("thinking", ANY),
    MESSAGES("context_management", ANY),
    IN_MESSAGES("output_config.format", "\"output_config\":{\"format\":@}", OBJECT),
    IN_MESSAGES("tool_choice.type", "\"tool_choice\":{\"type\":@}", NEVER),
    IN_MESSAGES("tool_choice.disable_parallel_tool_use",
                "\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":@}",
                BOOL),
    IN_MESSAGES("tool_choice",
                "\"tools\":[{\"name\":\"f\"}],\"tool_choice\":{\"type\":\"tool\","
                "\"name\":@}",
                NEVER),
    IN_MESSAGES("system[0]", "\"system\":[@]", NEVER),
    IN_MESSAGES("tools[0]", "\"tools\":[@]", NEVER),
    IN_MESSAGES("tools[0].type", "\"tools\":[{\"type\":@,\"name\":\"f\"}]", STRING),
    IN_MESSAGES("tools[0].name", "\"tools\":[{\"name\":@}]", NAME),
    IN_MESSAGES("tools[0].description", "\"tools\":[{\"name\":\"f\",\"description\":@}]",
                STRING),
    IN_MESSAGES("tools[0].input_schema",
                "\"tools\":[{\"name\":\"f\",\"input_schema\":@}]", ANY),
    IN_MESSAGES("tools[0].cache_control",
                "\"tools\":[{\"name\":\"f\",\"cache_control\":@}]", ANY),
    TURN("messages[1]", "@", NEVER),
    TURN("messages[1].role", "{\"role\":@,\"content\":\"x\"}", NEVER),
    TURN("messages[1].content", "{\"role\":\"user\",\"content\":@}", CONTENT),
    TURN("messages[1].content", "{\"role\":\"assistant\",\"content\":@}", CONTENT),
    TURN("messages[1].content", "{\"role\":\"system\",\"content\":@}", RESULT),
    BLOCK("messages[1].content[0]", "user", "@", NEVER),
    BLOCK("messages[1].content[0].type", "user", "{\"type\":@,\"text\":\"x\"}",
          TEXT_ONLY),
    BLOCK("messages[1].content[0].text", "user", "{\"type\":\"text\",\"text\":@}",
          TEXT_ONLY),
    BLOCK("messages[1].content[0].content", "user",
          "{\"type\":\"tool_result\",\"content\":@}", RESULT),
    BLOCK("messages[1].content[0].is_error", "user",
          "{\"type\":\"tool_result\",\"is_error\":@}", BOOL),
    BLOCK("messages[1].content[0].name", "assistant",
          "{\"type\":\"tool_use\",\"name\":@}", TEXT_ONLY),
    BLOCK("messages[1].content[0].input", "assistant",
          "{\"type\":\"tool_use\",\"name\":\"f\",\"input\":@}", ANY),
};

static void put_value(tug_buf *out, const char *body, const char *value) {
    for (const char *p = body; *p; p++) {
        if (*p == '@') {
            tug_buf_text(out, value);
        } else {
            tug_buf_char(out, *p);
        }
    }
}

static tug_status parse_and_render(tug_api api, tug_str body, tug_err *err) {
    tug_arena arena = {0};
    tug_api_request request;
    tug_chat_prompt prompt = {0};
    tug_status s = tug_api_parse(api, body, &arena, &request, err);
    if (s == TUG_OK && api != TUG_API_COMPLETIONS) {
        s = tug_chat_render(&request.chat, &prompt, err);
    }
    tug_chat_prompt_free(&prompt);
    tug_arena_free(&arena);
    return s;
}

static void check_row(const row *r, const char *value, bool accepted) {
    tug_buf body = {0};
    tug_err err = {0};
    put_value(&body, r->body, value);
    assert_false(body.failed);
    const tug_status s = parse_and_render(r->api, tug_buf_view(&body), &err);
    if ((s == TUG_OK) != accepted) {
        fail_msg("%s was %s: %s", body.p, s == TUG_OK ? "accepted" : "refused", err.msg);
    }
    if (s != TUG_OK) {
        if (s != TUG_EFORMAT && s != TUG_EUNSUPPORTED) fail_msg("%s: code %d", body.p, s);
        if (strncmp(err.msg, r->path, strlen(r->path)) != 0) {
            fail_msg("%s: the sentence does not begin with %s: %s", body.p, r->path,
                     err.msg);
        }
    }
    tug_buf_free(&body);
}

static void test_every_field(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(strlen(rows[i].want), COUNT(values));
        for (size_t j = 0; j < COUNT(values); j++) {
            check_row(&rows[i], values[j], rows[i].want[j] == 'y');
        }
    }
    print_message("%zu fields x %zu values\n", COUNT(rows), COUNT(values));
}

/* ---- whole bodies ---------------------------------------------------------------------- */

static void refuse(tug_api api, tug_str body, const char *sentence) {
    tug_err err = {0};
    assert_int_not_equal(parse_and_render(api, body, &err), TUG_OK);
    assert_string_equal(err.msg, sentence);
}

static void test_bodies(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",        " ",          "{",     "{\"messages\":", "nul",
        "{'a':1}", "{\"a\":1,}", "{} {}", "\xff",           "{\"a\":\"\xc3\"}"};
    for (tug_api api = TUG_API_CHAT; api <= TUG_API_MESSAGES; api++) {
        for (size_t i = 0; i < COUNT(bad); i++) {
            tug_err err = {0};
            assert_int_equal(parse_and_render(api, tug_str_of(bad[i]), &err),
                             TUG_EFORMAT);
        }
        refuse(api, tug_str_of("[]"),
               "the body is an array; it must be a JSON object with the fields of the "
               "request");
    }
    refuse(TUG_API_CHAT, tug_str_of("{}"),
           "messages is missing; it must be an array of at least one message");
    refuse(TUG_API_COMPLETIONS, tug_str_of("{}"),
           "prompt is missing; it must be a text or an array of token ids");
    refuse(TUG_API_COMPLETIONS, tug_str_of("{\"prompt\":[\"a\",\"b\"]}"),
           "prompt has 2 prompts; send them one by one, each in a request of its own");
    refuse(TUG_API_COMPLETIONS, tug_str_of("{\"prompt\":[1,2],\"echo\":true}"),
           "echo needs a prompt that is a text; send the text instead of token ids");
}

static void test_too_many(void **state) {
    (void)state;
    tug_buf body = {0};
    tug_buf_text(&body, "{\"prompt\":\"x\",\"stop\":[");
    for (int i = 0; i <= TUG_API_MAX_STOPS; i++) {
        tug_buf_text(&body, i ? ",\"a\"" : "\"a\"");
    }
    tug_buf_text(&body, "]}");
    refuse(TUG_API_COMPLETIONS, tug_buf_view(&body),
           "stop has 65 strings; it may have at most 64");
    tug_buf_clear(&body);
    tug_buf_text(&body,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[");
    for (int i = 0; i <= 4096; i++) {
        tug_buf_printf(&body, "%s{\"function\":{\"name\":\"f%d\"}}", i ? "," : "", i);
    }
    tug_buf_text(&body, "]}");
    refuse(TUG_API_CHAT, tug_buf_view(&body),
           "tools has more than 4096 tools; send fewer");
    tug_buf_free(&body);
}

/* ---- memory ---------------------------------------------------------------------------- */

static void test_memory(void **state) {
    (void)state;
    static const char *const body[] = {
        [TUG_API_CHAT] =
            "{\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\","
            "\"text\":"
            "\"s\"}]},{\"role\":\"assistant\",\"function_call\":{\"name\":\"f\","
            "\"arguments\":\"{\\\"a\\\":1\"}},{\"role\":\"function\",\"content\":\"r\"}],"
            "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
            "\"parameters\":"
            "null}}],\"tool_choice\":\"required\",\"stop\":[\"a\"],\"logit_bias\":{\"1\":"
            "2}}",
        [TUG_API_COMPLETIONS] = "{\"prompt\":[1,2,3],\"stop\":\"x\",\"n\":2}",
    };
    for (tug_api api = TUG_API_CHAT; api <= TUG_API_COMPLETIONS; api++) {
        for (uint64_t n = 1;; n++) {
            tug_err err = {0};
            fault_fail_alloc(n);
            const tug_status s = parse_and_render(api, tug_str_of(body[api]), &err);
            assert_int_equal(fault_live_blocks(), 0);
            const bool hit = fault_stop();
            assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
            if (!hit) break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
