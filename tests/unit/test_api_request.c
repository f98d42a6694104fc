/* test_api_request.c - what is read of a chat or completions request.  Refusals field by
 * field are in test_api_hostile.c.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/request.h"
#include "base/file.h"
#include "chat/chat_request.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
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

static void is_text(tug_str s, const char *want) {
    if (!tug_str_is(s, want)) fail_msg("%.*s, not %s", (int)s.n, s.p, want);
}

/* ---- requests -------------------------------------------------------------------------- */

static void test_defaults(void **state) {
    (void)state;
    parsed p;
    parse(&p, TUG_API_CHAT, "{" USER "}");
    assert_true(!p.r.stream && !p.r.include_usage && !p.r.return_progress);
    assert_true(p.r.parallel && p.r.cache_prompt && !p.r.logprobs);
    assert_true(p.r.model.n == 0 && p.r.session.n == 0);
    assert_true(p.r.max_tokens == 0 && p.r.n_stop == 0 && p.r.n_choices == 1);
    assert_true(p.r.tools.n == 0 && !p.r.chat.tools && p.r.choice == TUG_TOOLS_AUTO);
    assert_true(p.r.format == TUG_FORMAT_TEXT && !p.r.schema);
    assert_true(p.r.chat.add_generation_prompt && p.r.chat.n_messages == 1);
    const tug_api_sampling *const s = &p.r.sampling;
    assert_true(isnan(s->temperature) && isnan(s->top_p) && isnan(s->min_p));
    assert_true(isnan(s->repeat_penalty) && isnan(s->presence_penalty));
    assert_true(isnan(s->frequency_penalty) && s->top_k == INT32_MIN && !s->has_seed);
    tug_arena_free(&p.arena);
}

static void test_fields(void **state) {
    (void)state;
    parsed p;
    parse(
        &p, TUG_API_CHAT,
        "{" USER ",\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":"
        "true},\"max_tokens\":5,\"max_completion_tokens\":7.0,\"temperature\":0,"
        "\"top_p\":0.5,\"min_p\":0.25,\"top_k\":99999999999,\"repetition_penalty\":1.5,"
        "\"presence_penalty\":-2,\"frequency_penalty\":2,\"seed\":-1,\"stop\":[\"a\","
        "\"\","
        "\"b\"],\"n\":8,\"logprobs\":true,\"top_logprobs\":20,\"logit_bias\":{\"7\":-100,"
        "\"2147483647\":0.5},\"prompt_cache_key\":\"k\",\"cache_prompt\":false,"
        "\"return_progress\":true,\"response_format\":{\"type\":\"json_schema\","
        "\"json_schema\":{\"name\":\"n\",\"schema\":{\"type\":\"object\"}}}}");
    is_text(p.r.model, "m");
    assert_true(p.r.stream && p.r.include_usage && p.r.return_progress);
    assert_true(p.r.max_tokens == 7 && p.r.n_choices == 8 && !p.r.cache_prompt);
    assert_true(p.r.logprobs && p.r.top_logprobs == 20);
    const tug_api_sampling *const s = &p.r.sampling;
    assert_true(s->temperature == 0.0f && s->top_p == 0.5f && s->min_p == 0.25f);
    assert_true(s->top_k == INT32_MAX && s->repeat_penalty == 1.5f);
    assert_true(s->presence_penalty == -2.0f && s->frequency_penalty == 2.0f);
    assert_true(s->has_seed && s->seed == UINT64_MAX);
    assert_int_equal(s->n_bias, 2);
    assert_true(s->bias[0].id == 7 && s->bias[0].bias == -100.0f);
    assert_true(s->bias[1].id == INT32_MAX && s->bias[1].bias == 0.5f);
    assert_int_equal(p.r.n_stop, 2);
    is_text(p.r.stop[0], "a");
    is_text(p.r.stop[1], "b");
    is_text(p.r.session, "k");
    assert_true(p.r.format == TUG_FORMAT_JSON_SCHEMA);
    is_text(tug_json_text(tug_json_get(p.r.schema, "type")), "object");
    tug_arena_free(&p.arena);
}

/* The rendered chat of a request. */
static void renders(const char *body, const char *want) {
    parsed p;
    tug_chat_prompt prompt = {0};
    parse(&p, TUG_API_CHAT, body);
    assert_int_equal(tug_chat_render(&p.r.chat, &prompt, NULL), TUG_OK);
    assert_string_equal(prompt.text.p, want);
    tug_chat_prompt_free(&prompt);
    tug_arena_free(&p.arena);
}

static void test_messages(void **state) {
    (void)state;
    renders(
        "{\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"user\","
        "\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":"
        "\"b\"}]}]}",
        "<|im_start|>system\nd<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n"
        "<|im_start|>assistant\n");
    /* The forms of before there were tools. */
    renders(
        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"content\":null,"
        "\"function_call\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"},\"role\":"
        "\"assistant\"},{\"role\":\"function\",\"name\":\"f\",\"content\":\"r\"}]}",
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        "<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"
        "<|im_end|>\n<|im_start|>user\n<tool_response>\nr\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n");
    /* Arguments that are no object, and a history that was cut off. */
    renders(
        "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{"
        "\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
        "\"{\\\"a\\\":\"}}],\"reasoning_content\":\"hm\"},{\"role\":\"tool\","
        "\"tool_call_id\":\"c\",\"content\":[]}]}",
        "<|im_start|>assistant\n<tool_call>\n<function=f>\n<parameter=arguments>\n"
        "{\"a\":\n</parameter>\n</function>\n</tool_call><|im_end|>\n<|im_start|>user\n"
        "<tool_response>\n\n</tool_response><|im_end|>\n<|im_start|>assistant\n");
}

static void test_tools(void **state) {
    (void)state;
    parsed p;
    parse(
        &p, TUG_API_CHAT,
        "{" USER ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"parameters\":null}},{\"type\":\"web_search\"},{\"name\":\"g\",\"parameters\":"
        "{\"type\":\"object\"}},{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
        "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"g\"}},"
        "\"parallel_tool_calls\":false}");
    assert_int_equal(p.r.tools.n, 2);
    is_text(p.r.tools.tool[0].name, "f");
    assert_null(p.r.tools.tool[0].parameters);
    is_text(p.r.tools.tool[1].name, "g");
    assert_true(tug_json_is(p.r.tools.tool[1].parameters, TUG_JSON_OBJECT));
    is_text(p.r.shown[1].name, "g");
    assert_true(p.r.shown[1].kind == TUG_TOOL_FUNCTION && p.r.shown[1].space.n == 0);
    assert_int_equal(p.r.chat.tools->n, 2);
    assert_int_equal(p.r.choice, TUG_TOOLS_NAMED);
    is_text(p.r.named, "g");
    assert_false(p.r.parallel);
    tug_arena_free(&p.arena);

    /* none: they stay in the prompt.  An empty list and one of nothing we know: not. */
    parse(&p, TUG_API_CHAT,
          "{" USER
          ",\"tools\":[{\"function\":{\"name\":\"f\"}}],\"tool_choice\":\"none\"}");
    assert_true(p.r.choice == TUG_TOOLS_NONE && p.r.chat.tools->n == 1);
    tug_arena_free(&p.arena);
    static const char *const no_tools[] = {"[]", "{}", "null", "[{\"type\":\"custom\"}]"};
    for (size_t i = 0; i < COUNT(no_tools); i++) {
        char body[128];
        (void)snprintf(body, sizeof body,
                       "{" USER ",\"tools\":%s,\"tool_choice\":\"auto\"}", no_tools[i]);
        parse(&p, TUG_API_CHAT, body);
        assert_true(p.r.tools.n == 0 && !p.r.chat.tools);
        tug_arena_free(&p.arena);
    }

    parse(&p, TUG_API_CHAT,
          "{" USER
          ",\"functions\":[{\"name\":\"f\",\"parameters\":{}}],\"function_call\":"
          "{\"name\":\"f\"},\"parallel_tool_calls\":true}");
    assert_true(p.r.tools.n == 1 && p.r.choice == TUG_TOOLS_NAMED && !p.r.parallel);
    tug_arena_free(&p.arena);
}

static void refuses(const char *body, const char *sentence) {
    tug_arena arena = {0};
    tug_api_request r;
    tug_err err = {0};
    assert_int_not_equal(tug_api_parse(TUG_API_CHAT, tug_str_of(body), &arena, &r, &err),
                         TUG_OK);
    assert_string_equal(err.msg, sentence);
    tug_arena_free(&arena);
}

static void test_refusals(void **state) {
    (void)state;
    refuses("{" USER ",\"n\":9}", "n is 9; it must be between 1 and 8");
    refuses("{" USER ",\"temperature\":\"1\"}",
            "temperature is a string; it must be a number");
    refuses("{" USER ",\"max_tokens\":1.5}", "max_tokens is 1.5; it must be an integer");
    refuses("{" USER ",\"tool_choice\":\"required\"}",
            "tool_choice asks for a call, but the request has no tools; send tools or "
            "leave it out");
    refuses("{" USER
            ",\"tools\":[{\"function\":{\"name\":\"f\"}}],\"tool_choice\":{\"type\":"
            "\"function\",\"function\":{\"name\":\"g\"}}}",
            "tool_choice names the tool \"g\", which is not among tools");
    refuses("{" USER ",\"tools\":[{\"function\":{\"name\":\"a>b\"}}]}",
            "tools[0].function.name has the byte 0x3e in it; white space, control "
            "characters, < and > may not be in a name");
    refuses(
        "{" USER ",\"tools\":[{\"name\":\"a\x7F\"}]}",
        "tools[0].name has the byte 0x7f in it; white space, control characters, < and "
        "> may not be in a name");
    refuses("{" USER ",\"logit_bias\":{\"x\":1}}",
            "logit_bias has the key \"x\"; each key must be a token id, a whole number "
            "from 0");
    refuses("{" USER ",\"logit_bias\":{\"5\":101}}",
            "logit_bias[\"5\"] is a number; it must be a number between -100 and 100");
    refuses(
        "{" USER ",\"response_format\":{\"type\":\"xml\"}}",
        "response_format.type is \"xml\"; it must be text, json_object or json_schema");
    refuses("{\"messages\":[{\"role\":\"narrator\",\"content\":\"x\"}]}",
            "messages[0].role is \"narrator\"; it must be system, developer, user, "
            "assistant or tool");
    refuses("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
            "messages[0].content[0] is of type image_url; the model reads only text, so "
            "leave it out");
}

static void test_prompts(void **state) {
    (void)state;
    parsed p;
    parse(&p, TUG_API_COMPLETIONS,
          "{\"prompt\":[\"a\"],\"suffix\":\"\",\"echo\":true,\"logprobs\":0,\"max_"
          "tokens\":-1}");
    is_text(p.r.prompt, "a");
    assert_true(p.r.suffix.p && p.r.suffix.n == 0 && p.r.echo && p.r.logprobs);
    assert_true(p.r.top_logprobs == 0 && p.r.max_tokens == 0 && !p.r.prompt_ids);
    tug_arena_free(&p.arena);
    parse(&p, TUG_API_COMPLETIONS,
          "{\"prompt\":[[5,6.0]],\"suffix\":null,\"seed\":"
          "18446744073709551615}");
    assert_true(!p.r.prompt.p && !p.r.suffix.p && p.r.n_prompt_ids == 2);
    assert_true(p.r.prompt_ids[0] == 5 && p.r.prompt_ids[1] == 6);
    assert_true(p.r.sampling.has_seed && p.r.sampling.seed == UINT64_MAX);
    tug_arena_free(&p.arena);
}

/* ---- recorded requests ------------------------------------------------------------------- */

/* The body of a recorded request is accepted and its chat is the one src/chat reads. */
static void check_recorded(tug_str recorded, const char *path) {
    tug_arena arena = {0};
    const tug_json *json;
    tug_api_request r;
    tug_chat chat;
    tug_err err = {0};
    tug_buf body = {0};
    tug_chat_prompt got = {0}, want = {0};
    assert_int_equal(tug_json_parse(recorded, &arena, &json, &err), TUG_OK);
    tug_json_writer w = tug_json_writer_make(&body, TUG_JSON_COMPACT);
    tug_json_write_value(&w, tug_json_get(json, "body"));
    if (tug_api_parse(TUG_API_CHAT, tug_buf_view(&body), &arena, &r, &err) != TUG_OK) {
        fail_msg("%s: %s", path, err.msg);
    }
    assert_int_equal(tug_chat_from_json(r.as_sent, &arena, &chat, &err), TUG_OK);
    assert_int_equal(tug_chat_render(&chat, &want, &err), TUG_OK);
    assert_int_equal(tug_chat_render(&r.chat, &got, &err), TUG_OK);
    assert_true(tug_str_eq(tug_buf_view(&got.text), tug_buf_view(&want.text)));
    const tug_json *const tools = tug_json_get(r.as_sent, "tools");
    assert_int_equal(r.tools.n, tools ? tools->n : 0);
    assert_true(r.stream && r.include_usage && r.max_tokens > 0);
    tug_chat_prompt_free(&got);
    tug_chat_prompt_free(&want);
    tug_buf_free(&body);
    tug_arena_free(&arena);
}

/* All of one agent's; their number. */
static int check_agent(const char *root, const char *agent) {
    for (int n = 0;; n++) {
        char path[128];
        tug_map map;
        (void)snprintf(path, sizeof path, "%s/agents/%s/%02d.json", root, agent, n + 1);
        if (tug_map_open(&map, path, NULL) != TUG_OK) return n;
        check_recorded(tug_str_make((const char *)map.data, map.size), path);
        tug_map_close(&map);
    }
}

static void test_recorded(void **state) {
    (void)state;
    static const char *const roots[] = {"../shared/data", "../../shared/data"};
    int n = 0;
    for (size_t i = 0; n == 0 && i < COUNT(roots); i++) {
        n = check_agent(roots[i], "opencode") + check_agent(roots[i], "qwen");
    }
    if (n == 0) {
        (void)fprintf(stderr, "SKIPPED: ../shared/data/agents is absent\n");
        skip();
    }
    print_message("%d recorded requests\n", n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_fields),
        cmocka_unit_test(test_messages), cmocka_unit_test(test_tools),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
