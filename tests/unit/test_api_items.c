/* test_api_items.c - the answers of responses and messages, byte by byte.  The vendors' SDKs
 * read random ones in tests/long/sdk_streams.py.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/answer.h"
#include "api/response_object.h"
#include "fault/fault.h"
#include "support/api_text.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define STR(z)   tug_str_make((z), sizeof(z) - 1)

/* ---- answers ------------------------------------------------------------------------- */

static const tug_answer_usage at_first = {44, 40, 0, 0.0, 0.0};
static const tug_answer_usage at_last = {44, 40, 12, 0.5, 2.0};

static tug_buf answer_of(tug_api api, const char *body,
                         void (*play)(tug_answer *, tug_buf *)) {
    api_parsed p;
    tug_answer *a;
    tug_buf out = {0};
    api_parse(&p, api, body);
    assert_int_equal(tug_answer_create(&a, &p.r, STR("m"), STR("ID"), 7, NULL), TUG_OK);
    play(a, &out);
    assert_false(out.failed);
    tug_answer_destroy(&a);
    tug_arena_free(&p.arena);
    return out;
}

/* What the response object echoes of a request without any of it. */
#define ECHOES                                                                      \
    ",\"instructions\":null,\"max_output_tokens\":null,\"max_tool_calls\":null,"    \
    "\"metadata\":{},\"parallel_tool_calls\":true,\"prompt_cache_key\":null,"       \
    "\"reasoning\":{\"effort\":null,\"summary\":null},\"temperature\":null,"        \
    "\"tool_choice\":\"auto\",\"tools\":[],\"top_logprobs\":0,\"top_p\":null,"      \
    "\"user\":null,\"text\":{\"format\":{\"type\":\"text\"}},\"background\":false," \
    "\"store\":false,\"previous_response_id\":null,\"service_tier\":\"default\","   \
    "\"truncation\":\"disabled\""
#define RESPONSE \
    "{\"id\":\"resp_ID\",\"object\":\"response\",\"created_at\":7,\"status\":"

/* `want` with R for the head of a response object and ~ for its echoes. */
static void expect(tug_api api, const char *body, void (*play)(tug_answer *, tug_buf *),
                   const char *want) {
    tug_buf out = answer_of(api, body, play);
    tug_buf b = api_quoted(want);
    if (api == TUG_API_RESPONSES) {
        api_replace(&out, ECHOES, "~");
        api_replace(&out, RESPONSE, "R");
    }
    assert_string_equal(out.p, b.p);
    tug_buf_free(&b);
    tug_buf_free(&out);
}

#define EVENT(type, rest) "event: " type "\ndata: {'type':'" type "'" rest "}\n\n"

/* Text, a call that ends, and one that is cut off. */
static void play_calls(tug_answer *a, tug_buf *out) {
    tug_answer_begin(a, &at_first, out);
    tug_answer_alive(a, 41, 44, out);
    tug_answer_text(a, STR("H\xC3\xA9"), NULL, out);
    tug_answer_text(a, STR(""), NULL, out);
    tug_answer_text(a, STR("\n"), NULL, out);
    tug_answer_alive(a, 44, 44, out);
    tug_answer_call_begin(a, STR("call_1"), STR("f"), SIZE_MAX, out);
    tug_answer_call_arguments(a, STR("{\"a\":"), out);
    tug_answer_call_arguments(a, STR("1}"), out);
    tug_answer_call_end(a, true, out);
    tug_answer_call_begin(a, STR("call_2"), STR("g"), SIZE_MAX, out);
    tug_answer_call_arguments(a, STR("{\"b"), out);
    tug_answer_call_end(a, false, out);
    tug_answer_choice_end(a, TUG_END_LENGTH, STR(""), out);
    tug_answer_finish(a, &at_last, out);
}

#define MESSAGE_HEAD "'id':'msg_ID','type':'message','role':'assistant','model':'m',"
#define MESSAGE_USAGE(n)                                         \
    "'usage':{'input_tokens':4,'cache_creation_input_tokens':0," \
    "'cache_read_input_tokens':40,'output_tokens':" n "}"
#define PING EVENT("ping", "")
#define START(i, block) \
    EVENT("content_block_start", ",'index':" i ",'content_block':{" block "}")
#define DELTA(i, delta) EVENT("content_block_delta", ",'index':" i ",'delta':{" delta "}")
#define STOP(i)         EVENT("content_block_stop", ",'index':" i)
#define MESSAGE_START               \
    EVENT(                          \
        "message_start",            \
        ",'message':{" MESSAGE_HEAD \
        "'content':[],'stop_reason':null,'stop_sequence':null," MESSAGE_USAGE("0") "}")

static void test_messages_calls(void **state) {
    (void)state;
    expect(
        TUG_API_MESSAGES, MSG(",'stream':true"), play_calls,
        MESSAGE_START PING PING START("0", "'type':'text','text':''") DELTA(
            "0", "'type':'text_delta','text':'H\xC3\xA9'")
            DELTA("0", "'type':'text_delta','text':'\\n'") PING STOP("0") START(
                "1", "'type':'tool_use','id':'call_1','name':'f','input':{}")
                DELTA("1", "'type':'input_json_delta','partial_json':'{\\'a\\':'") DELTA(
                    "1", "'type':'input_json_delta','partial_json':'1}'") STOP("1")
                    START("2", "'type':'tool_use','id':'call_2','name':'g','input':{}")
                        DELTA("2", "'type':'input_json_delta','partial_json':'{\\'b'")
                            STOP("2") EVENT(
                                "message_delta",
                                ",'delta':{'stop_reason':'max_tokens','stop_sequence':"
                                "null}," MESSAGE_USAGE("12")) EVENT("message_stop", ""));
    expect(TUG_API_MESSAGES, MSG(), play_calls,
           "{" MESSAGE_HEAD "'content':[{'type':'text','text':'H\xC3\xA9\\n'},"
           "{'type':'tool_use','id':'call_1','name':'f','input':{'a':1}},"
           "{'type':'tool_use','id':'call_2','name':'g','input':{}}],"
           "'stop_reason':'max_tokens','stop_sequence':null," MESSAGE_USAGE("12") "}");
}

#define R_EVENT(type, n, rest) EVENT(type, ",'sequence_number':" n rest)
#define R_ITEM(type, n, i, item) \
    R_EVENT("response.output_item." type, n, ",'output_index':" i ",'item':{" item "}")
#define R_TEXT(type, n, rest)    \
    R_EVENT("response." type, n, \
            ",'output_index':0,'item_id':'msg_ID_0','content_index':0," rest)
#define R_CALL(type, n, i, rest)                         \
    R_EVENT("response.function_call_arguments." type, n, \
            ",'output_index':" i ",'item_id':'fc_ID_" i "'," rest)
#define R_STATE(n, type, status, rest) \
    R_EVENT("response." type, n, ",'response':R'" status "','model':'m'," rest)
#define R_FRESH "'error':null,'incomplete_details':null,'output':[],'usage':null~}"
#define R_USAGE                                                                     \
    "'usage':{'input_tokens':44,'input_tokens_details':{'cached_tokens':40,'cache_" \
    "write_tokens':0},"                                                             \
    "'output_tokens':12,'output_tokens_details':{'reasoning_tokens':0},"            \
    "'total_tokens':56}"
#define R_PART(text) \
    "{'type':'output_text','text':'" text "','annotations':[],'logprobs':[]}"
#define R_MESSAGE(status, content)                                               \
    "'id':'msg_ID_0','type':'message','status':'" status "','role':'assistant'," \
    "'content':[" content "]"
#define R_F(status, arguments)                                                        \
    "'id':'fc_ID_1','type':'function_call','status':'" status "','call_id':'call_1'," \
    "'name':'f','arguments':'" arguments "'"
#define R_G(status, arguments)                                                        \
    "'id':'fc_ID_2','type':'function_call','status':'" status "','call_id':'call_2'," \
    "'name':'g','arguments':'" arguments "'"
#define R_OUTPUT                                                            \
    "'output':[{" R_MESSAGE("completed", R_PART("H\xC3\xA9\\n")) "},{" R_F( \
        "completed", "{\\'a\\':1}") "},{" R_G("incomplete", "{\\'b") "}],"

/* clang-format off */
static void test_responses_calls(void **state) {
    (void)state;
    expect(TUG_API_RESPONSES, "{'input':'x','stream':true}", play_calls,
           R_STATE("0", "created", "in_progress", R_FRESH)
           R_STATE("1", "in_progress", "in_progress", R_FRESH)
           R_STATE("2", "in_progress", "in_progress", R_FRESH)
           R_ITEM("added", "3", "0", R_MESSAGE("in_progress", ""))
           R_TEXT("content_part.added", "4", "'part':" R_PART(""))
           R_TEXT("output_text.delta", "5", "'delta':'H\xC3\xA9','logprobs':[]")
           R_TEXT("output_text.delta", "6", "'delta':'\\n','logprobs':[]")
           R_EVENT("keepalive", "7", "")
           R_TEXT("output_text.done", "8", "'text':'H\xC3\xA9\\n','logprobs':[]")
           R_TEXT("content_part.done", "9", "'part':" R_PART("H\xC3\xA9\\n"))
           R_ITEM("done", "10", "0", R_MESSAGE("completed", R_PART("H\xC3\xA9\\n")))
           R_ITEM("added", "11", "1", R_F("in_progress", ""))
           R_CALL("delta", "12", "1", "'delta':'{\\'a\\':'")
           R_CALL("delta", "13", "1", "'delta':'1}'")
           R_CALL("done", "14", "1", "'name':'f','arguments':'{\\'a\\':1}'")
           R_ITEM("done", "15", "1", R_F("completed", "{\\'a\\':1}"))
           R_ITEM("added", "16", "2", R_G("in_progress", ""))
           R_CALL("delta", "17", "2", "'delta':'{\\'b'")
           R_CALL("done", "18", "2", "'name':'g','arguments':'{\\'b'")
           R_ITEM("done", "19", "2", R_G("incomplete", "{\\'b"))
           R_STATE("20", "incomplete", "incomplete",
                   "'error':null,'incomplete_details':{'reason':'max_output_tokens'},"
                   R_OUTPUT R_USAGE "~}"));
    expect(TUG_API_RESPONSES, "{'input':'x'}", play_calls,
           "R'incomplete','model':'m','error':null,'incomplete_details':{'reason':"
           "'max_output_tokens'}," R_OUTPUT R_USAGE "~}");
}
/* clang-format on */

/* A custom call, one of a namespace, and a shell call; tools of RESPONSES_TOOLS. */
static void play_kinds(tug_answer *a, tug_buf *out) {
    tug_answer_begin(a, &at_first, out);
    tug_buf_clear(out);
    tug_answer_call_begin(a, STR("c1"), STR("patch"), 4, out);
    tug_answer_call_arguments(a, STR("{\"inp"), out);
    tug_answer_call_arguments(a, STR("ut\": \"*\\n"), out);
    tug_answer_call_arguments(a, STR("\\\"\xC3\xA9"), out);
    tug_answer_call_arguments(a, STR("\"}"), out);
    tug_answer_call_end(a, true, out);
    tug_answer_call_begin(a, STR("c2"), STR("ns__f"), 1, out);
    tug_answer_call_arguments(a, STR("{}"), out);
    tug_answer_call_end(a, true, out);
    tug_answer_call_begin(a, STR("c3"), STR("local_shell"), 5, out);
    tug_answer_call_arguments(a, STR("{\"command\":[\"ls\"]}"), out);
    tug_answer_call_end(a, true, out);
    tug_answer_choice_end(a, TUG_END_CALLS, STR(""), out);
}

#define R_PATCH(status, input)                                                        \
    "'id':'ctc_ID_0','type':'custom_tool_call','status':'" status "','call_id':'c1'," \
    "'name':'patch','input':'" input "'"
#define R_SPACE(status, arguments)                                                \
    "'id':'fc_ID_1','type':'function_call','status':'" status "','call_id':'c2'," \
    "'name':'f','namespace':'ns','arguments':'" arguments "'"
#define R_SHELL(status, command)                                                      \
    "'id':'lsh_ID_2','type':'local_shell_call','status':'" status "','call_id':'c3'," \
    "'action':{'type':'exec','command':[" command "],'env':{},'timeout_ms':null,"     \
    "'user':null,'working_directory':null}"
#define R_INPUT(type, n, rest)                          \
    R_EVENT("response.custom_tool_call_input." type, n, \
            ",'output_index':0,'item_id':'ctc_ID_0'," rest)

/* clang-format off */
static void test_responses_kinds(void **state) {
    (void)state;
    expect(TUG_API_RESPONSES, "{'input':'x','stream':true," RESPONSES_TOOLS "}",
           play_kinds,
           R_ITEM("added", "2", "0", R_PATCH("in_progress", ""))
           R_INPUT("delta", "3", "'delta':'*\\n'")
           R_INPUT("delta", "4", "'delta':'\\'\xC3\xA9'")
           R_INPUT("done", "5", "'input':'*\\n\\'\xC3\xA9'")
           R_ITEM("done", "6", "0", R_PATCH("completed", "*\\n\\'\xC3\xA9"))
           R_ITEM("added", "7", "1", R_SPACE("in_progress", ""))
           R_CALL("delta", "8", "1", "'delta':'{}'")
           R_CALL("done", "9", "1", "'name':'f','arguments':'{}'")
           R_ITEM("done", "10", "1", R_SPACE("completed", "{}"))
           R_ITEM("added", "11", "2", R_SHELL("in_progress", ""))
           R_ITEM("done", "12", "2", R_SHELL("completed", "'ls'")));
}
/* clang-format on */

static void play_odd_custom(tug_answer *a, tug_buf *out) {
    tug_answer_begin(a, &at_first, out);
    tug_buf_clear(out);
    tug_answer_call_begin(a, STR("c1"), STR("patch"), 4, out);
    tug_answer_call_arguments(a, STR("{\"x\":1,\"input\":\"late\"}"), out);
    tug_answer_call_end(a, true, out);
    tug_buf_clear(out);
    tug_answer_call_begin(a, STR("c1"), STR("patch"), 4, out);
    tug_answer_call_arguments(a, STR("{\"input\":\"cut"), out);
    tug_answer_call_end(a, false, out);
}

static void test_responses_odd_custom(void **state) {
    (void)state;
    tug_buf out =
        answer_of(TUG_API_RESPONSES, "{'input':'x','stream':true," RESPONSES_TOOLS "}",
                  play_odd_custom);
    assert_non_null(strstr(out.p, "\"delta\":\"cut\""));
    assert_non_null(strstr(out.p, "\"status\":\"incomplete\",\"call_id\":\"c1\","
                                  "\"name\":\"patch\",\"input\":\"cut\""));
    assert_null(strstr(out.p, "late"));
    tug_buf_free(&out);
    /* Whole, out of order: one delta at the end. */
    tug_answer_item item = {.is_call = true};
    tug_buf_text(&item.text, "{\"x\":1,\"input\":\"late\"}");
    assert_int_equal(tug_response_input_piece(tug_buf_view(&item.text), 0, &out), 0);
    tug_response_input(&item, &out);
    assert_string_equal(out.p, "late");
    tug_buf_clear(&out);
    tug_buf_clear(&item.text);
    tug_buf_text(&item.text, "{\"input\":{\"a\":[1]}}");
    tug_response_input(&item, &out);
    assert_string_equal(out.p, "{\"a\":[1]}");
    tug_buf_free(&item.text);
    tug_buf_free(&out);
}

/* The text of a custom call is the same, however its arguments were cut. */
static void test_input_splits(void **state) {
    (void)state;
    static const char *const atom[] = {
        "{",    " ",       "\"input\"", ":",    "\n", "\"", "a", "\\n",
        "\\\\", "\\u0041", "\xC3\xA9",  "\\\"", "}",  "\"", " ", "}"};
    for (unsigned cuts = 0; cuts < 1u << COUNT(atom); cuts += 7) {
        tug_buf arguments = {0}, out = {0};
        size_t at = 0;
        for (size_t i = 0; i < COUNT(atom); i++) {
            tug_buf_text(&arguments, atom[i]);
            if (cuts >> i & 1) {
                at = tug_response_input_piece(tug_buf_view(&arguments), at, &out);
            }
        }
        at = tug_response_input_piece(tug_buf_view(&arguments), at, &out);
        assert_string_equal(out.p, "a\n\\A\xC3\xA9\"}");
        tug_buf_free(&arguments);
        tug_buf_free(&out);
    }
}

static void play_error(tug_answer *a, tug_buf *out) {
    tug_answer_begin(a, &at_first, out);
    tug_answer_text(a, STR("Hi"), NULL, out);
    tug_buf_clear(out);
    tug_answer_error(a, TUG_EIO, STR("the \"device\" is lost"), out);
}

static void test_errors(void **state) {
    (void)state;
    expect(TUG_API_MESSAGES, MSG(",'stream':true"), play_error,
           EVENT("error", ",'error':{'type':'api_error','message':'the \\'device\\' is "
                          "lost'}"));
    expect(TUG_API_RESPONSES, "{'input':'x','stream':true}", play_error,
           R_STATE("5", "failed", "failed",
                   "'error':{'code':'server_error','message':'the \\'device\\' is lost'},"
                   "'incomplete_details':null,'output':[{" R_MESSAGE(
                       "incomplete", R_PART("Hi")) "}],'usage':null~}"));
}

/* ---- how an answer ends -------------------------------------------------------------- */

static tug_answer_end the_end;
static int the_calls; /* 0: none; 1: a whole one; 2: one that is cut off */

static void play_end(tug_answer *a, tug_buf *out) {
    tug_answer_begin(a, &at_first, out);
    if (the_calls > 0) {
        tug_answer_call_begin(a, STR("c"), STR("f"), SIZE_MAX, out);
        tug_answer_call_end(a, the_calls == 1, out);
    }
    tug_answer_choice_end(a, the_end, STR("!"), out);
    tug_answer_finish(a, &at_last, out);
}

static void test_ends(void **state) {
    (void)state;
    static const struct {
        tug_answer_end end;
        int calls;
        const char *reason, *status;
    } row[] = {
        {TUG_END_STOP, 0, "'end_turn','stop_sequence':null", "completed"},
        {TUG_END_STOP_STRING, 0, "'stop_sequence','stop_sequence':'!'", "completed"},
        {TUG_END_LENGTH, 0, "'max_tokens','stop_sequence':null", "incomplete"},
        {TUG_END_CONTEXT, 0, "'model_context_window_exceeded',", "incomplete"},
        {TUG_END_LOOP, 0, "'end_turn',", "completed"},
        {TUG_END_CALLS, 1, "'tool_use','stop_sequence':null", "completed"},
        {TUG_END_STOP, 1, "'tool_use',", "completed"},
        {TUG_END_LENGTH, 1, "'max_tokens',", "incomplete"},
        {TUG_END_STOP, 2, "'max_tokens',", "incomplete"},
        {TUG_END_LOOP, 2, "'end_turn',", "completed"},
    };
    for (size_t i = 0; i < COUNT(row); i++) {
        char want[128];
        the_end = row[i].end;
        the_calls = row[i].calls;
        for (int stream = 0; stream < 2; stream++) {
            tug_buf out = answer_of(TUG_API_MESSAGES,
                                    stream ? MSG(",'stream':true") : MSG(), play_end);
            (void)snprintf(want, sizeof want, "'stop_reason':%s", row[i].reason);
            tug_buf b = api_quoted(want);
            if (!strstr(out.p, b.p)) fail_msg("row %zu: no %s in %s", i, b.p, out.p);
            assert_true(!!strstr(out.p, "\"warning\"") == (row[i].end == TUG_END_LOOP));
            tug_buf_free(&b);
            tug_buf_free(&out);
            out = answer_of(TUG_API_RESPONSES,
                            stream ? "{'input':'x','stream':true}" : "{'input':'x'}",
                            play_end);
            (void)snprintf(want, sizeof want, "\"created_at\":7,\"status\":\"%s\"",
                           row[i].status);
            if (!strstr(out.p, want)) fail_msg("row %zu: no %s in %s", i, want, out.p);
            tug_buf_free(&out);
        }
    }
}

/* ---- logprobs, echoes ---------------------------------------------------------------- */

static void play_logprobs(tug_answer *a, tug_buf *out) {
    const tug_answer_token one = {{STR("a"), -0.5f}, NULL, 0};
    const tug_answer_token two = {{STR("b"), -1.0f}, NULL, 0};
    tug_answer_begin(a, &at_first, out);
    tug_answer_text(a, STR(""), &one, out);
    tug_answer_text(a, STR("ab"), &two, out);
    tug_answer_call_begin(a, STR("c"), STR("f"), SIZE_MAX, out);
    tug_answer_call_end(a, true, out);
    tug_answer_text(a, STR("b"), &two, out);
    tug_answer_choice_end(a, TUG_END_CALLS, STR(""), out);
    tug_answer_finish(a, &at_last, out);
}

#define LOGPROB(token, p, byte) \
    "{'token':'" token "','logprob':" p ",'bytes':[" byte "],'top_logprobs':[]}"

static void test_responses_logprobs(void **state) {
    (void)state;
    static const char *const want[] = {
        "'text':'ab','annotations':[],'logprobs':[" LOGPROB(
            "a", "-0.5", "97") "," LOGPROB("b", "-1.0", "98") "]}",
        "'text':'b','annotations':[],'logprobs':[" LOGPROB("b", "-1.0", "98") "]}"};
    static const char *const body[] = {"{'input':'x','top_logprobs':1}",
                                       "{'input':'x','top_logprobs':1,'stream':true}"};
    for (size_t i = 0; i < 2; i++) {
        tug_buf out = answer_of(TUG_API_RESPONSES, body[i], play_logprobs);
        for (size_t k = 0; k < COUNT(want); k++) {
            tug_buf b = api_quoted(want[k]);
            assert_non_null(strstr(out.p, b.p));
            tug_buf_free(&b);
        }
        tug_buf_free(&out);
    }
}

/* A client finds in the answer what it asked for. */
static void test_responses_echoes(void **state) {
    (void)state;
    static const char *const want[] = {
        "'instructions':'I',",
        "'tools':[{'type':'function','name':'f','strict':true}],",
        "'metadata':{'k':'v'},",
        "'text':{'format':{'type':'json_object'}},",
        "'temperature':0.25,",
        "'tool_choice':'none',"};
    the_end = TUG_END_STOP;
    the_calls = 0;
    tug_buf out = answer_of(TUG_API_RESPONSES,
                            "{'input':'x','instructions':'I','tools':[{'type':'function',"
                            "'name':'f','strict':true}],'metadata':{'k':'v'},'text':{"
                            "'format':{'type':'json_object'}},'temperature':0.25,"
                            "'tool_choice':'none'}",
                            play_end);
    for (size_t i = 0; i < COUNT(want); i++) {
        tug_buf b = api_quoted(want[i]);
        if (!strstr(out.p, b.p)) fail_msg("no %s in %s", b.p, out.p);
        tug_buf_free(&b);
    }
    tug_buf_free(&out);
}

/* ---- memory -------------------------------------------------------------------------- */

static tug_status parse_and_answer(tug_api api, tug_str body, tug_err *err) {
    tug_arena arena = {0};
    tug_api_request r;
    tug_chat_prompt prompt = {0};
    tug_answer *a = NULL;
    tug_buf out = {0};
    tug_status s = tug_api_parse(api, body, &arena, &r, err);
    if (s == TUG_OK) s = tug_chat_render(&r.chat, &prompt, err);
    if (s == TUG_OK) s = tug_answer_create(&a, &r, STR("m"), STR("ID"), 7, err);
    if (s == TUG_OK) {
        if (api == TUG_API_RESPONSES) {
            play_kinds(a, &out);
            tug_answer_finish(a, &at_last, &out);
        } else {
            play_calls(a, &out);
        }
        s = tug_buf_ok(&out, err);
    }
    tug_answer_destroy(&a);
    tug_buf_free(&out);
    tug_chat_prompt_free(&prompt);
    tug_arena_free(&arena);
    return s;
}

static void test_memory(void **state) {
    (void)state;
    static const struct {
        tug_api api;
        const char *body;
    } row[] = {
        {TUG_API_MESSAGES,
         "{'system':[{'type':'text','text':'a'},{'type':'text','text':'b'}],'messages':["
         "{'role':'assistant','content':[{'type':'tool_use','name':'f','input':'{'}]},"
         "{'role':'user','content':[{'type':'tool_result','content':[{'type':'text',"
         "'text':'r'}],'is_error':true},{'type':'text','text':'q'}]}],'stream':true,"
         "'tools':[{'name':'f','description':'d','input_schema':{}}]}"},
        {TUG_API_RESPONSES,
         "{'stream':true,'instructions':'i','input':[{'type':'custom_tool_call','name':"
         "'patch','input':'x'},{'type':'tool_search_output','tools':[1]}]"
         "," RESPONSES_TOOLS "}"},
        {TUG_API_RESPONSES, "{'input':'x'," RESPONSES_TOOLS "}"},
    };
    for (size_t i = 0; i < COUNT(row); i++) {
        tug_buf body = api_quoted(row[i].body);
        for (uint64_t n = 1;; n++) {
            tug_err err = {0};
            fault_fail_alloc(n);
            const tug_status s = parse_and_answer(row[i].api, tug_buf_view(&body), &err);
            assert_int_equal(fault_live_blocks(), 0);
            const bool hit = fault_stop();
            if (s != (hit ? TUG_ENOMEM : TUG_OK)) {
                fail_msg("row %zu, allocation %d: %d %s", i, (int)n, s, err.msg);
            }
            if (!hit) break;
        }
        tug_buf_free(&body);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_calls),
        cmocka_unit_test(test_responses_calls),
        cmocka_unit_test(test_responses_kinds),
        cmocka_unit_test(test_responses_odd_custom),
        cmocka_unit_test(test_input_splits),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_responses_logprobs),
        cmocka_unit_test(test_responses_echoes),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
