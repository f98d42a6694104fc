/* request_chat.c - bodies of POST /v1/chat/completions.
 *
 * Messages are read by src/chat.  What only the API knows is put into the template's own
 * terms before: the role developer is system, the old role function is tool, an old
 * function_call is a tool call.
 * SPDX-License-Identifier: MIT */
#include "api/request_impl.h"
#include "chat/chat_request.h"

static bool is_absent(const tug_json *v) {
    return !tug_field_is_said(v);
}

/* ---- messages ------------------------------------------------------------------------ */

/* The template's role for one of the API's; p NULL: there is no such role. */
static tug_str role_of(tug_str role) {
    static const struct {
        const char *api, *own;
    } table[] = {{"system", "system"}, {"developer", "system"},
                 {"user", "user"},     {"assistant", "assistant"},
                 {"tool", "tool"},     {"function", "tool"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (tug_str_is(role, table[i].api)) return tug_str_of(table[i].own);
    }
    return tug_str_make(NULL, 0);
}

/* [{"function": function_call}] */
static const tug_json *wrap_call(const tug_json *function_call, tug_arena *arena) {
    tug_json *members;
    tug_json *const list = tug_arena_array(arena, 2, sizeof *list);
    const tug_json *const call = tug_api_json_object(arena, 1, &members);
    if (!list || !call) return NULL;
    tug_api_json_member(members, 0, "function", function_call);
    list[0] = (tug_json){TUG_JSON_ARRAY, 1, {.item = &list[1]}};
    list[1] = *call;
    return list;
}

/* A copy of the message with its role changed and, if not NULL, `calls` as tool_calls. */
static tug_status rewrite(const tug_json *message, tug_str role, const tug_json *calls,
                          tug_arena *arena, tug_json *out, tug_err *err) {
    const size_t n = message->n + (calls ? 1u : 0u);
    tug_json *members;
    tug_json *const object = tug_api_json_object(arena, n, &members);
    if (!object) return tug_field_no_memory(err);
    size_t at = 0;
    for (size_t i = 0; i < message->n; i++) {
        const tug_str key = tug_json_key(message, i);
        if (calls && tug_str_is(key, "tool_calls")) continue;
        members[2 * at] = message->v.item[2 * i];
        members[2 * at + 1] = *tug_json_value(message, i);
        if (tug_str_is(key, "role")) {
            members[2 * at + 1] =
                (tug_json){TUG_JSON_STRING, (uint32_t)role.n, {.text = role.p}};
        }
        at++;
    }
    if (calls) tug_api_json_member(members, at++, "tool_calls", calls);
    *out = *object;
    out->n = (uint32_t)at;
    return TUG_OK;
}

static tug_status read_message(const tug_json *v, size_t i, tug_arena *arena,
                               tug_json *out, tug_err *err) {
    const tug_json *const role = tug_json_get(v, "role");
    *out = *v;
    if (!tug_json_is(role, TUG_JSON_STRING)) return TUG_OK; /* src/chat says so */
    const tug_str own = role_of(tug_json_text(role));
    if (!own.p) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "messages[%zu].role is \"%.40s\"; it must be system, developer, "
                        "user, assistant or tool",
                        i, role->v.text);
    }
    const tug_json *const call = tug_json_get(v, "function_call");
    const tug_json *calls = NULL;
    if (tug_str_is(own, "assistant") && tug_field_is_said(call) &&
        is_absent(tug_json_get(v, "tool_calls"))) {
        calls = wrap_call(call, arena);
        if (!calls) return tug_field_no_memory(err);
    }
    if (!calls && tug_str_eq(own, tug_json_text(role))) return TUG_OK;
    return rewrite(v, own, calls, arena, out, err);
}

/* `body` with the messages in the template's terms, and nothing but what src/chat reads
 * of it.  Wrong kinds stay what they are, for its sentences. */
static tug_status read_messages(const tug_json *body, tug_arena *arena,
                                tug_api_request *out, tug_err *err) {
    const tug_json *const sent = tug_json_get(body, "messages");
    const tug_json *const prompt = tug_json_get(body, "add_generation_prompt");
    tug_json own = {0};
    if (sent) own = *sent;
    if (tug_json_is(sent, TUG_JSON_ARRAY)) {
        tug_json *const list = tug_arena_array(arena, sent->n, sizeof *list);
        if (!list) return tug_field_no_memory(err);
        for (size_t i = 0; i < sent->n; i++) {
            TUG_TRY(read_message(tug_json_at(sent, i), i, arena, &list[i], err));
        }
        own.v.item = list;
    }
    tug_json *members;
    tug_json *const request = tug_api_json_object(arena, 2, &members);
    if (!request) return tug_field_no_memory(err);
    request->n = 0;
    if (sent) tug_api_json_member(members, request->n++, "messages", &own);
    if (prompt) {
        tug_api_json_member(members, request->n++, "add_generation_prompt", prompt);
    }
    return tug_chat_from_json(request, arena, &out->chat, err);
}

/* ---- tools --------------------------------------------------------------------------- */

/* `path` names the tool or function itself, `function` is what has the name. */
static tug_status add_function(tug_api_tools *list, const char *path,
                               const tug_json *function, const tug_json *prompt_form,
                               tug_err *err) {
    const tug_json *const name = tug_json_get(function, "name");
    if (!tug_json_is(name, TUG_JSON_STRING)) {
        return tug_field_wrong(err, path, "name", name, "a string");
    }
    const tug_json *const parameters = tug_json_get(function, "parameters");
    const tug_tool tool = {tug_json_text(name),
                           is_absent(parameters) ? NULL : parameters};
    const tug_api_tool shown = {TUG_TOOL_FUNCTION, tool.name, {NULL, 0}};
    return tug_api_tools_add(list, path, tool, shown, prompt_form, err);
}

/* Types other than function run at a provider; we have none of them to offer. */
static tug_status add_tool(tug_api_tools *list, size_t i, const tug_json *tool,
                           tug_err *err) {
    tug_field_path path = tug_field_path_make("tools[%zu]", i);
    if (tool->kind != TUG_JSON_OBJECT) {
        return tug_field_wrong(err, path.text, "", tool, "an object");
    }
    tug_str type = tug_str_of("function");
    TUG_TRY(tug_field_str(tool, path.text, "type", &type, err));
    if (!tug_str_is(type, "function")) return TUG_OK;
    const tug_json *function = tool;
    TUG_TRY(tug_field_object(tool, path.text, "function", &function, err));
    if (function != tool) path = tug_field_path_make("tools[%zu].function", i);
    return add_function(list, path.text, function, tool, err);
}

/* The list of before there were tools: functions alone. */
static tug_status add_functions(tug_api_tools *list, const tug_json *functions,
                                tug_err *err) {
    for (size_t i = 0; i < functions->n; i++) {
        const tug_json *const f = tug_json_at(functions, i);
        const tug_field_path path = tug_field_path_make("functions[%zu]", i);
        if (f->kind != TUG_JSON_OBJECT) {
            return tug_field_wrong(err, path.text, "", f, "an object");
        }
        TUG_TRY(add_function(list, path.text, f, f, err));
    }
    return TUG_OK;
}

bool tug_api_is_legacy(const tug_api_request *r) {
    return is_absent(tug_json_get(r->as_sent, "tools")) &&
           !is_absent(tug_json_get(r->as_sent, "functions"));
}

static tug_status read_tools(const tug_json *body, tug_arena *arena, tug_api_request *out,
                             tug_err *err) {
    tug_api_tools list = {.arena = arena};
    const tug_json *tools = tug_json_get(body, "tools");
    const tug_json *functions = NULL;
    TUG_TRY(tug_field_array(body, "", "functions", &functions, err));
    if (tug_json_is(tools, TUG_JSON_OBJECT) && tools->n == 0) {
        tools = NULL; /* {}: what some clients make of no tools */
    } else {
        TUG_TRY(tug_field_array(body, "", "tools", &tools, err));
    }
    if (tug_api_is_legacy(out)) {
        TUG_TRY(add_functions(&list, functions, err));
        out->parallel = false; /* the old answer has room for one */
    } else if (!is_absent(tools)) {
        for (size_t i = 0; i < tools->n; i++) {
            TUG_TRY(add_tool(&list, i, tug_json_at(tools, i), err));
        }
    }
    return tug_api_tools_end(&list, out, err);
}

/* ---- the choice ------------------------------------------------------------------------ */

static tug_status choose_word(const char *path, const tug_json *v, tug_api_request *out,
                              tug_err *err) {
    static const struct {
        const char *word;
        tug_tool_choice choice;
    } table[] = {{"auto", TUG_TOOLS_AUTO},
                 {"none", TUG_TOOLS_NONE},
                 {"required", TUG_TOOLS_REQUIRED}};
    const tug_str word = tug_json_text(v);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (!tug_str_is(word, table[i].word)) continue;
        return tug_api_set_choice(out, path, table[i].choice, tug_str_make(NULL, 0), err);
    }
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s is \"%.40s\"; it must be none, auto, required or an object that "
                    "names a function",
                    path, word.p);
}

/* {"type": "function", "function": {"name": ...}}, the same without the inner object, and
 * function_call's {"name": ...}. */
static tug_status choose_named(const char *path, const tug_json *v, tug_api_request *out,
                               tug_err *err) {
    tug_str type = tug_str_of("function");
    TUG_TRY(tug_field_str(v, path, "type", &type, err));
    if (!tug_str_is(type, "function")) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s.type is \"%.40s\"; it must be function",
                        path, type.p);
    }
    const tug_json *function = v;
    TUG_TRY(tug_field_object(v, path, "function", &function, err));
    const tug_json *const name = tug_json_get(function, "name");
    if (!tug_json_is(name, TUG_JSON_STRING)) {
        const tug_field_path inner =
            tug_field_path_make("%s%s", path, function != v ? ".function" : "");
        return tug_field_wrong(err, inner.text, "name", name, "a string");
    }
    return tug_api_set_choice(out, path, TUG_TOOLS_NAMED, tug_json_text(name), err);
}

static tug_status read_choice(const tug_json *body, tug_api_request *out, tug_err *err) {
    const char *const path = tug_api_is_legacy(out) ? "function_call" : "tool_choice";
    const tug_json *const v = tug_json_get(body, path);
    TUG_TRY(tug_field_bool(body, "", "parallel_tool_calls", &out->parallel, err));
    if (tug_api_is_legacy(out)) out->parallel = false;
    if (!tug_field_is_said(v)) return TUG_OK;
    if (v->kind == TUG_JSON_STRING) return choose_word(path, v, out, err);
    if (v->kind == TUG_JSON_OBJECT) return choose_named(path, v, out, err);
    return tug_field_wrong(err, path, "", v, "a string or an object");
}

/* ---- the request ---------------------------------------------------------------------- */

static tug_status read_answer_fields(const tug_json *body, tug_arena *arena,
                                     tug_api_request *out, tug_err *err) {
    int64_t top = 0;
    TUG_TRY(tug_api_read_limit(body, "max_tokens", out, err));
    TUG_TRY(tug_api_read_limit(body, "max_completion_tokens", out, err));
    TUG_TRY(tug_api_read_stop(body, "stop", arena, out, err));
    TUG_TRY(tug_api_read_n(body, out, err));
    TUG_TRY(tug_field_bool(body, "", "logprobs", &out->logprobs, err));
    TUG_TRY(tug_field_i64(body, "", "top_logprobs", 0, 20, &top, err));
    out->top_logprobs = out->logprobs ? (int32_t)top : 0;
    TUG_TRY(tug_api_read_format(tug_json_get(body, "response_format"), "response_format",
                                out, err));
    return tug_api_refuse_grammar(body, err);
}

tug_status tug_api_parse_chat(const tug_json *body, tug_arena *arena,
                              tug_api_request *out, tug_err *err) {
    TUG_TRY(tug_api_read_common(body, out, err));
    TUG_TRY(tug_api_read_stream_options(body, out, err));
    TUG_TRY(tug_field_bool(body, "", "return_progress", &out->return_progress, err));
    TUG_TRY(tug_field_str(body, "", "prompt_cache_key", &out->session, err));
    TUG_TRY(read_messages(body, arena, out, err));
    TUG_TRY(read_tools(body, arena, out, err));
    TUG_TRY(read_choice(body, out, err));
    TUG_TRY(read_answer_fields(body, arena, out, err));
    return tug_api_read_sampling(body, arena, &out->sampling, err);
}
