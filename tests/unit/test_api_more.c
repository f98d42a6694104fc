/* test_api_more.c - what is read of requests to responses and messages.  Wrong values of
 * every field are in test_api_hostile.c, answers in test_api_items.c.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/request.h"
#include "base/file.h"
#include "support/api_text.h"

#define COUNT(a)     (sizeof(a) / sizeof *(a))
#define S            "<|im_start|>system\n"
#define U            "<|im_start|>user\n"
#define A            "<|im_start|>assistant\n"
#define END          "<|im_end|>\n"
#define RESULT(text) "\n<tool_response>\n" text "\n</tool_response>"
#define CALL(name, key, value)                                                         \
    "<tool_call>\n<function=" name ">\n<parameter=" key ">\n" value "\n</parameter>\n" \
    "</function>\n</tool_call>"

static void is_text(tug_str s, const char *want) {
    if (!tug_str_is(s, want)) fail_msg("%.*s, not %s", (int)s.n, s.p, want);
}

/* The rendered chat of a request. */
static void renders(tug_api api, const char *body, const char *want) {
    api_parsed p;
    tug_chat_prompt prompt = {0};
    api_parse(&p, api, body);
    assert_int_equal(tug_chat_render(&p.r.chat, &prompt, NULL), TUG_OK);
    assert_string_equal(prompt.text.p, want);
    tug_chat_prompt_free(&prompt);
    tug_arena_free(&p.arena);
}

static void refuses(tug_api api, const char *body, tug_status code,
                    const char *sentence) {
    tug_arena arena = {0};
    tug_api_request r;
    tug_err err = {0};
    tug_buf b = api_quoted(body);
    assert_int_equal(tug_api_parse(api, tug_buf_view(&b), &arena, &r, &err), code);
    assert_string_equal(err.msg, sentence);
    tug_buf_free(&b);
    tug_arena_free(&arena);
}

/* ---- messages: requests -------------------------------------------------------------- */

static void test_messages_fields(void **state) {
    (void)state;
    api_parsed p;
    api_parse(
        &p, TUG_API_MESSAGES,
        MSG(",'model':'m','max_tokens':9,'stream':true,'temperature':0.5,'top_p':0.25,"
            "'top_k':7,'stop_sequences':['a','b'],'metadata':{'user_id':'u_1'},"
            "'thinking':{'type':'adaptive'},'context_management':{'edits':[]},"
            "'output_config':{'effort':'high','format':{'type':'json_schema',"
            "'schema':{'type':'object'}}},'service_tier':'auto'"));
    is_text(p.r.model, "m");
    is_text(p.r.session, "u_1");
    assert_true(p.r.stream && p.r.max_tokens == 9 && p.r.n_stop == 2);
    assert_true(p.r.sampling.temperature == 0.5f && p.r.sampling.top_p == 0.25f);
    assert_int_equal(p.r.sampling.top_k, 7);
    assert_int_equal(p.r.format, TUG_FORMAT_JSON_SCHEMA);
    assert_int_equal(p.r.n_choices, 1);
    assert_true(p.r.parallel);
    tug_arena_free(&p.arena);
    /* count_tokens sends no max_tokens; null is the same everywhere. */
    api_parse(&p, TUG_API_MESSAGES,
              MSG(",'max_tokens':null,'system':null,'tools':null,'tool_choice':null,"
                  "'metadata':null,'output_config':{'format':null}"));
    assert_true(p.r.max_tokens == 0 && isnan(p.r.sampling.temperature));
    assert_int_equal(p.r.format, TUG_FORMAT_TEXT);
    tug_arena_free(&p.arena);
}

static void test_messages_system(void **state) {
    (void)state;
    /* The billing line changes with every request; without it the prompt does not. */
    renders(TUG_API_MESSAGES,
            "{'system':[{'type':'text','text':'x-anthropic-billing-header: v=1; cch=2;'},"
            "{'type':'text','text':'One.','cache_control':{'type':'ephemeral'}},"
            "{'type':'text','text':'x-anthropic-a: b\\nTwo.'}],"
            "'messages':[{'role':'user','content':[{'type':'text','text':'Hi',"
            "'cache_control':{'type':'ephemeral'}}]},"
            "{'role':'system','content':'Be brief.'}]}",
            S "One.\nTwo." END U "Hi" END S "Be brief." END A);
    renders(TUG_API_MESSAGES,
            "{'system':'x-anthropic-billing-header: v=1','messages':[{'role':'system',"
            "'content':[{'type':'text','text':'S'}]},{'role':'user','content':'Hi'}]}",
            S "S" END U "Hi" END A);
}

static void test_messages_blocks(void **state) {
    (void)state;
    /* Results first, then the text; and the other way round. */
    renders(TUG_API_MESSAGES,
            "{'messages':[{'role':'user','content':'Go'},{'role':'assistant','content':["
            "{'type':'thinking','thinking':'hm','signature':'s'},"
            "{'type':'text','text':'Look.'},"
            "{'type':'tool_use','id':'t1','name':'f','input':{'a':'1'}},"
            "{'type':'tool_use','id':'t2','name':'g','input':{'b':2}}]},"
            "{'role':'user','content':["
            "{'type':'tool_result','tool_use_id':'t1','content':'one'},"
            "{'type':'tool_result','tool_use_id':'t2','is_error':true,"
            "'content':[{'type':'text','text':'no'},{'type':'text','text':'file'}]},"
            "{'type':'text','text':'And'},{'type':'text','text':'now?'}]}]}",
            U "Go" END "<|im_start|>assistant\nLook.\n\n" CALL("f", "a", "1") "\n" CALL(
                "g", "b", "2") END "<|im_start|>user" RESULT("one")
                RESULT("Error: no\nfile") END U "And\nnow?" END A);
    renders(TUG_API_MESSAGES,
            "{'messages':[{'role':'user','content':[{'type':'text','text':'before'},"
            "{'type':'tool_result','tool_use_id':'t','content':[{'type':'image',"
            "'source':{}},{'type':'tool_reference','tool_name':'f'},{'type':'document',"
            "'source':{'type':'text','data':'doc'}},{'type':'search_result','source':'s',"
            "'title':'t','content':[{'type':'text','text':'found'}]}]}]}]}",
            U "before" END "<|im_start|>user" RESULT(
                "[not shown: this model reads only text]\ndoc\nfound") END A);
    /* What is_error says is said once. */
    renders(TUG_API_MESSAGES,
            "{'messages':[{'role':'user','content':[{'type':'text','text':'q'},"
            "{'type':'tool_result','tool_use_id':'t','is_error':true,"
            "'content':'<tool_use_error>none</tool_use_error>'},"
            "{'type':'tool_result','tool_use_id':'t'}]}]}",
            U "q" END "<|im_start|>user" RESULT("<tool_use_error>none</tool_use_error>")
                RESULT("") END A);
}

static void test_messages_odd_turns(void **state) {
    (void)state;
    /* Of the assistant nothing but thinking: no turn.  Its text last: it goes on. */
    renders(
        TUG_API_MESSAGES,
        "{'messages':[{'role':'user','content':[]},{'role':'assistant','content':[{"
        "'type':'redacted_thinking','data':'x'}]},{'role':'assistant','content':'So'}]"
        "}",
        U END A "So");
    /* Text behind a call belongs to the same turn; input that is no object is kept. */
    renders(TUG_API_MESSAGES,
            "{'messages':[{'role':'user','content':'q'},{'role':'assistant','content':["
            "{'type':'tool_use','id':'t','name':'f','input':[1]},"
            "{'type':'text','text':'after'}]}]}",
            U "q" END A "after\n\n" CALL("f", "arguments", "[1]") END A);
}

static void test_messages_tools(void **state) {
    (void)state;
    static const char tools[] =
        "'tools':[{'name':'f','description':'D','input_schema':{'type':'object'},"
        "'cache_control':{'type':'ephemeral'},'defer_loading':true,'strict':true},"
        "{'type':'web_search_20250305','name':'web_search'},"
        "{'type':'custom','name':'g','input_schema':null}]";
    static const char *const choices[] = {
        "{'type':'auto','disable_parallel_tool_use':true}", "{'type':'none'}",
        "{'type':'any'}", "{'type':'tool','name':'g'}"};
    for (size_t i = 0; i < COUNT(choices); i++) {
        char body[1024];
        api_parsed p;
        (void)snprintf(body, sizeof body, MSG(",%s,'tool_choice':%s"), tools, choices[i]);
        api_parse(&p, TUG_API_MESSAGES, body);
        assert_int_equal(p.r.choice, (tug_tool_choice)i);
        assert_int_equal(p.r.parallel, i != 0);
        assert_int_equal(p.r.tools.n, 2);
        is_text(p.r.tools.tool[1].name, "g");
        assert_null(p.r.tools.tool[1].parameters);
        if (i == 3) is_text(p.r.named, "g");
        tug_chat_prompt prompt = {0};
        assert_int_equal(tug_chat_render(&p.r.chat, &prompt, NULL), TUG_OK);
        assert_non_null(strstr(prompt.text.p, "<name>f</name>\n<description>D</desc"));
        assert_null(strstr(prompt.text.p, "ephemeral"));
        assert_null(strstr(prompt.text.p, "strict"));
        assert_null(strstr(prompt.text.p, "web_search"));
        tug_chat_prompt_free(&prompt);
        tug_arena_free(&p.arena);
    }
}

static void test_messages_refusals(void **state) {
    (void)state;
    refuses(TUG_API_MESSAGES, "{}", TUG_EFORMAT,
            "messages is missing; it must be an array of at least one message");
    refuses(TUG_API_MESSAGES, "{'messages':[{'role':'tool','content':'x'}]}", TUG_EFORMAT,
            "messages[0].role is not one of user, assistant and system");
    refuses(
        TUG_API_MESSAGES, "{'messages':[{'role':'user','content':[{'type':'image'}]}]}",
        TUG_EUNSUPPORTED,
        "messages[0].content[0] is of type image; the model reads only text, so leave "
        "it out");
    refuses(TUG_API_MESSAGES,
            "{'messages':[{'role':'assistant','content':[{'type':'thinking'}]}]}",
            TUG_EFORMAT, "messages has no text; at least one message must have some");
    refuses(TUG_API_MESSAGES, MSG(",'tool_choice':{'type':'any'}"), TUG_EFORMAT,
            "tool_choice asks for a call, but the request has no tools; send tools or "
            "leave it out");
}

/* ---- responses: requests ------------------------------------------------------------- */

static void test_responses_fields(void **state) {
    (void)state;
    api_parsed p;
    api_parse(
        &p, TUG_API_RESPONSES,
        "{'input':'x','model':'m','stream':true,'store':false,'max_output_tokens':5,"
        "'temperature':1,'top_p':0.5,'parallel_tool_calls':false,'prompt_cache_key':"
        "'k','previous_response_id':'','conversation':null,'reasoning':{'summary':"
        "'auto'},'include':['reasoning.encrypted_content','message.output_text."
        "logprobs'],'top_logprobs':3,'client_metadata':{'a':1},'text':{'verbosity':"
        "'low','format':{'type':'json_schema','name':'n','strict':true,'schema':"
        "{'type':'array'}}}}");
    assert_true(p.r.stream && p.r.max_tokens == 5 && !p.r.parallel);
    assert_true(p.r.logprobs && p.r.top_logprobs == 3);
    assert_int_equal(p.r.format, TUG_FORMAT_JSON_SCHEMA);
    is_text(p.r.session, "k");
    tug_arena_free(&p.arena);
    /* How a client tries a server out. */
    renders(TUG_API_RESPONSES, "{'input':'','max_output_tokens':1}", U END A);
    renders(TUG_API_RESPONSES, "{'input':[],'instructions':'I'}", S "I" END A);
    renders(TUG_API_RESPONSES, "{'input':[{'type':'reasoning','content':[]}]}", U END A);
}

static void test_responses_items(void **state) {
    (void)state;
    renders(
        TUG_API_RESPONSES,
        "{'instructions':'I','input':[{'type':'message','role':'developer','content':["
        "{'type':'input_text','text':'D'}]},{'role':'user','content':'Go'},"
        "{'type':'reasoning','summary':[],'encrypted_content':'x'},"
        "{'type':'message','role':'assistant','content':[{'type':'output_text','text':"
        "'Look.','annotations':[]}]},"
        "{'type':'function_call','call_id':'c1','name':'f','arguments':"
        "'{\\'a\\':\\'1\\'}'},"
        "{'type':'function_call','call_id':'c2','name':'g','arguments':'{\\'b'},"
        "{'type':'function_call_output','call_id':'c1','output':'one'},"
        "{'type':'function_call_output','call_id':'c2','output':[{'type':'input_text',"
        "'text':'two'},{'type':'input_image','image_url':'data:'}]},"
        "{'type':'web_search_call','id':'w'},"
        "{'type':'message','role':'user','content':'Next'}]}",
        S "I" END S "D" END U "Go" END "<|im_start|>assistant\nLook.\n\n" CALL(
            "f", "a", "1") "\n" CALL("g", "arguments", "{\"b") END
        "<|im_start|>user" RESULT("one")
            RESULT("two\n[not shown: this model reads only text]") END U "Next" END A);
    renders(
        TUG_API_RESPONSES,
        "{'input':[{'role':'user','content':'q'},"
        "{'type':'custom_tool_call','call_id':'c','name':'apply_patch','input':'***'},"
        "{'type':'custom_tool_call_output','call_id':'c','output':'done'},"
        "{'type':'local_shell_call','call_id':'d','action':{'type':'exec','command':"
        "['ls']}},{'type':'local_shell_call_output','id':'d','output':'a.c'},"
        "{'type':'tool_search_call','call_id':'e','arguments':{'q':'x'}},"
        "{'type':'tool_search_output','call_id':'e','tools':[]}]}",
        U "q" END "<|im_start|>assistant\n" CALL("apply_patch", "input", "***") END
        "<|im_start|>user" RESULT("done") END
        "<|im_start|>assistant\n" CALL("local_shell", "command", "[\"ls\"]") END
        "<|im_start|>user" RESULT("a.c") END
        "<|im_start|>assistant\n" CALL("tool_search", "q", "x") END
        "<|im_start|>user" RESULT("[]") END A);
}

static void test_responses_tools(void **state) {
    (void)state;
    static const struct {
        tug_tool_kind kind;
        const char *model, *name, *space;
    } want[] = {
        {TUG_TOOL_FUNCTION, "f", "f", ""},
        {TUG_TOOL_FUNCTION, "ns__f", "f", "ns"},
        {TUG_TOOL_CUSTOM, "ns__h", "h", "ns"},
        {TUG_TOOL_FUNCTION, "ns__f_2", "ns__f", ""},
        {TUG_TOOL_CUSTOM, "patch", "patch", ""},
        {TUG_TOOL_LOCAL_SHELL, "local_shell", "local_shell", ""},
    };
    api_parsed p;
    api_parse(&p, TUG_API_RESPONSES, "{'input':'x'," RESPONSES_TOOLS "}");
    assert_int_equal(p.r.tools.n, COUNT(want));
    for (size_t i = 0; i < COUNT(want); i++) {
        is_text(p.r.tools.tool[i].name, want[i].model);
        is_text(p.r.shown[i].name, want[i].name);
        is_text(p.r.shown[i].space, want[i].space);
        assert_int_equal(p.r.shown[i].kind, want[i].kind);
    }
    tug_chat_prompt prompt = {0};
    assert_int_equal(tug_chat_render(&p.r.chat, &prompt, NULL), TUG_OK);
    assert_non_null(strstr(prompt.text.p,
                           "P\n\nThe input is text that follows this lark grammar:\n"
                           "start: x</description>"));
    assert_null(strstr(prompt.text.p, "strict"));
    tug_chat_prompt_free(&prompt);
    tug_arena_free(&p.arena);
    /* A call that comes back is the tool's own, with and without its namespace. */
    renders(TUG_API_RESPONSES,
            "{'input':[{'role':'user','content':'q'},{'type':'function_call','name':'f',"
            "'namespace':'gone','call_id':'c','arguments':'{\\'a\\':1}'}]}",
            U "q" END "<|im_start|>assistant\n" CALL("gone__f", "a", "1") END A);
}

static void test_responses_history_names(void **state) {
    (void)state;
    static const struct {
        const char *item, *want;
    } row[] = {{"'name':'f','namespace':'ns'", "<function=ns__f>"},
               {"'name':'f'", "<function=f>"},
               {"'name':'h'", "<function=ns__h>"},
               {"'name':'ns__f'", "<function=ns__f_2>"}};
    for (size_t i = 0; i < COUNT(row); i++) {
        char body[2048];
        api_parsed p;
        tug_chat_prompt prompt = {0};
        (void)snprintf(body, sizeof body,
                       "{'input':[{'type':'function_call','arguments':'{}',%s}],%s}",
                       row[i].item, RESPONSES_TOOLS);
        api_parse(&p, TUG_API_RESPONSES, body);
        assert_int_equal(tug_chat_render(&p.r.chat, &prompt, NULL), TUG_OK);
        assert_non_null(strstr(prompt.text.p, row[i].want));
        tug_chat_prompt_free(&prompt);
        tug_arena_free(&p.arena);
    }
}

static void test_responses_choice(void **state) {
    (void)state;
    static const struct {
        const char *choice;
        tug_tool_choice want;
        const char *named;
        size_t n;
    } row[] = {
        {"'auto'", TUG_TOOLS_AUTO, "", 6},
        {"'none'", TUG_TOOLS_NONE, "", 6},
        {"'required'", TUG_TOOLS_REQUIRED, "", 6},
        {"{'type':'function','name':'f'}", TUG_TOOLS_NAMED, "f", 6},
        {"{'type':'custom','name':'patch'}", TUG_TOOLS_NAMED, "patch", 6},
        {"{'type':'local_shell'}", TUG_TOOLS_NAMED, "local_shell", 6},
        {"{'type':'allowed_tools','mode':'required','tools':[{'type':'custom','name':"
         "'patch'},{'type':'function','name':'h'}]}",
         TUG_TOOLS_REQUIRED, "", 2},
        {"{'type':'allowed_tools','mode':'auto','tools':[]}", TUG_TOOLS_AUTO, "", 0},
    };
    for (size_t i = 0; i < COUNT(row); i++) {
        char body[2048];
        api_parsed p;
        (void)snprintf(body, sizeof body, "{'input':'x',%s,'tool_choice':%s}",
                       RESPONSES_TOOLS, row[i].choice);
        api_parse(&p, TUG_API_RESPONSES, body);
        assert_int_equal(p.r.choice, row[i].want);
        is_text(p.r.named, row[i].named);
        assert_int_equal(p.r.tools.n, row[i].n);
        assert_int_equal(p.r.chat.tools->n, 6);
        tug_arena_free(&p.arena);
    }
}

static void test_responses_refusals(void **state) {
    (void)state;
    refuses(TUG_API_RESPONSES, "{'input':'x','previous_response_id':'resp_1'}",
            TUG_EUNSUPPORTED,
            "previous_response_id is not supported, because responses are not stored; "
            "send the whole conversation as input");
    refuses(TUG_API_RESPONSES, "{'input':'x','conversation':{'id':'c'}}",
            TUG_EUNSUPPORTED,
            "conversation is not supported, because responses are not stored; send the "
            "whole conversation as input");
    refuses(TUG_API_RESPONSES, "{'input':[{'type':'item_reference','id':'i'}]}",
            TUG_EUNSUPPORTED,
            "input[0] refers to a stored item, but nothing is stored here; send the item "
            "itself");
    refuses(TUG_API_RESPONSES, "{}", TUG_EFORMAT,
            "input is missing; it must be a string or an array of items");
    refuses(
        TUG_API_RESPONSES,
        "{'input':'x','tools':[{'name':'f'}],'tool_choice':{'type':'web_search'}}",
        TUG_EUNSUPPORTED,
        "tool_choice.type is a tool that this server does not run; name a function or "
        "leave it out");
}

/* ---- recorded requests --------------------------------------------------------------- */

/* The prompt of a recorded request, without the turn that is left open for the model. */
static tug_buf recorded_prompt(tug_str recorded, const char *path) {
    tug_arena arena = {0};
    const tug_json *json;
    tug_buf body = {0};
    tug_api_request r;
    tug_chat_prompt prompt = {0};
    tug_err err = {0};
    assert_int_equal(tug_json_parse(recorded, &arena, &json, &err), TUG_OK);
    tug_json_writer w = tug_json_writer_make(&body, TUG_JSON_COMPACT);
    tug_json_write_value(&w, tug_json_get(json, "body"));
    if (tug_api_parse(TUG_API_RESPONSES, tug_buf_view(&body), &arena, &r, &err) !=
        TUG_OK) {
        fail_msg("%s: %s", path, err.msg);
    }
    assert_true(r.stream && r.session.n > 0 && r.tools.n > 8);
    assert_int_equal(tug_chat_render(&r.chat, &prompt, NULL), TUG_OK);
    tug_buf text = prompt.text;
    text.n -= strlen(A);
    text.p[text.n] = 0;
    prompt.text = (tug_buf){0};
    tug_chat_prompt_free(&prompt);
    tug_buf_free(&body);
    tug_arena_free(&arena);
    return text;
}

/* Each of the session's requests is accepted and extends the one before. */
static void test_recorded(void **state) {
    (void)state;
    static const char *const roots[] = {"../shared/data", "../../shared/data"};
    tug_buf before = {0};
    int n = 0;
    for (int i = 1; i <= 3; i++) {
        for (size_t k = 0; k < COUNT(roots); k++) {
            char path[96];
            tug_map map;
            (void)snprintf(path, sizeof path, "%s/agents/codex/%02d.json", roots[k], i);
            if (tug_map_open(&map, path, NULL) != TUG_OK) continue;
            tug_buf now =
                recorded_prompt(tug_str_make((const char *)map.data, map.size), path);
            assert_true(tug_str_starts(tug_buf_view(&now), tug_buf_view(&before)));
            tug_buf_free(&before);
            before = now;
            tug_map_close(&map);
            n++;
            break;
        }
    }
    tug_buf_free(&before);
    if (n == 0) {
        (void)fprintf(stderr, "SKIPPED: ../shared/data/agents/codex is absent\n");
        skip();
    }
    assert_int_equal(n, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_fields),
        cmocka_unit_test(test_messages_system),
        cmocka_unit_test(test_messages_blocks),
        cmocka_unit_test(test_messages_odd_turns),
        cmocka_unit_test(test_messages_tools),
        cmocka_unit_test(test_messages_refusals),
        cmocka_unit_test(test_responses_fields),
        cmocka_unit_test(test_responses_items),
        cmocka_unit_test(test_responses_tools),
        cmocka_unit_test(test_responses_history_names),
        cmocka_unit_test(test_responses_choice),
        cmocka_unit_test(test_responses_refusals),
        cmocka_unit_test(test_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
