/* request_responses.c - the body of /v1/responses.
 *
 * `input` is a string or a list of items.  What the assistant said and called between two
 * items of others becomes one turn, as it was when the model wrote it.
 * SPDX-License-Identifier: MIT */
#include "api/tool_forms.h"
#include "api/turns.h"
#include "chat/chat_request.h"

/* The request and the conversation that are being read. */
typedef struct reader {
    tug_api_request *out;
    tug_arena *arena;
    tug_turns turns;
} reader;

/* ---- messages ------------------------------------------------------------------------ */

static tug_status read_parts(const tug_json *content, const char *path, bool is_user,
                             tug_turns *t, tug_err *err) {
    for (size_t i = 0; i < content->n; i++) {
        const tug_field_path at = tug_field_path_make("%s.content[%zu]", path, i);
        tug_str text;
        TUG_TRY(
            tug_turns_block_text(tug_json_at(content, i), at.text, is_user, &text, err));
        if (text.p) tug_turns_text(t, text);
    }
    return TUG_OK;
}

static const char *role_of(tug_str name) {
    if (tug_str_is(name, "developer")) return "system";
    if (tug_str_is(name, "system")) return "system";
    if (tug_str_is(name, "assistant")) return "assistant";
    return tug_str_is(name, "user") ? "user" : NULL;
}

static tug_status read_message(reader *r, const tug_json *v, const char *path,
                               tug_err *err) {
    tug_turns *const t = &r->turns;
    tug_str name = tug_str_make(NULL, 0);
    TUG_TRY(tug_field_str(v, path, "role", &name, err));
    const char *const role = role_of(name);
    if (!role) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s.role is not one of user, assistant, system and developer",
                        path);
    }
    const bool is_assistant = role[0] == 'a';
    if (is_assistant) {
        TUG_TRY(tug_turns_go_on(t, role, err));
    } else {
        TUG_TRY(tug_turns_open(t, role, err));
    }
    const tug_json *const content = tug_json_get(v, "content");
    if (tug_json_is(content, TUG_JSON_STRING)) {
        tug_turns_text(t, tug_json_text(content));
    } else if (tug_json_is(content, TUG_JSON_ARRAY)) {
        TUG_TRY(read_parts(content, path, role[0] == 'u', t, err));
    } else if (!is_assistant || tug_field_is_said(content)) {
        return tug_field_wrong(err, path, "content", content,
                               "a string or an array of parts");
    }
    return is_assistant ? TUG_OK : tug_turns_close(t, err);
}

/* ---- calls --------------------------------------------------------------------------- */

/* {key: value}, a call's arguments; value NULL: {}. */
static tug_status one_argument(reader *r, const char *key, const tug_json *value,
                               const tug_json **out, tug_err *err) {
    tug_json *members = NULL;
    *out = tug_api_json_object(r->arena, value ? 1 : 0, &members);
    if (!*out) return tug_field_no_memory(err);
    if (value) tug_api_json_member(members, 0, key, value);
    return TUG_OK;
}

static tug_status function_arguments(reader *r, const tug_json *v, const tug_json **out,
                                     tug_err *err) {
    const tug_json *const arguments = tug_json_get(v, "arguments");
    if (tug_json_is(arguments, TUG_JSON_STRING)) {
        return tug_chat_arguments(tug_json_text(arguments), r->arena, out, err);
    }
    if (!tug_field_is_said(arguments) || arguments->kind == TUG_JSON_OBJECT) {
        *out = tug_json_is(arguments, TUG_JSON_OBJECT) ? arguments : NULL;
        return TUG_OK;
    }
    return one_argument(r, "arguments", arguments, out, err);
}

typedef tug_status read_arguments(reader *r, const tug_json *v, const tug_json **out,
                                  tug_err *err);

static tug_status custom_input(reader *r, const tug_json *v, const tug_json **out,
                               tug_err *err) {
    return one_argument(r, "input", tug_json_get(v, "input"), out, err);
}

static tug_status shell_command(reader *r, const tug_json *v, const tug_json **out,
                                tug_err *err) {
    const tug_json *const action = tug_json_get(v, "action");
    return one_argument(r, "command", tug_json_get(action, "command"), out, err);
}

/* A call of the assistant's turn; `fixed` names it where the item does not. */
static tug_status read_call(reader *r, const tug_json *v, const char *path,
                            const char *fixed, read_arguments *read, tug_err *err) {
    tug_str name = tug_str_make(fixed, fixed ? strlen(fixed) : 0);
    tug_str space = tug_str_make(NULL, 0);
    TUG_TRY(tug_field_str(v, path, "name", &name, err));
    TUG_TRY(tug_field_str(v, path, "namespace", &space, err));
    if (!name.p) return tug_field_wrong(err, path, "name", NULL, "a string");
    const tug_json *arguments;
    TUG_TRY(read(r, v, &arguments, err));
    const tug_str known = tug_responses_tool_name(r->out, space, name, r->arena);
    if (!known.p) return tug_field_no_memory(err);
    TUG_TRY(tug_turns_go_on(&r->turns, "assistant", err));
    const tug_chat_call call = {known, arguments, tug_field_text(v, "call_id")};
    return tug_turns_call(&r->turns, call, err);
}

/* What a search for tools found, as JSON. */
static tug_status read_found_tools(reader *r, const tug_json *v, tug_err *err) {
    const tug_json *const tools = tug_json_get(v, "tools");
    tug_buf text = {0};
    tug_json_writer w = tug_json_writer_make(&text, TUG_JSON_COMPACT);
    if (tools) tug_json_write_value(&w, tools);
    tug_status s = tug_buf_ok(&text, err);
    const tug_json *const kept = tug_api_json_str(r->arena, tug_buf_view(&text));
    tug_buf_free(&text);
    if (s == TUG_OK && !kept) s = tug_field_no_memory(err);
    return s == TUG_OK ? tug_turns_result(&r->turns, kept, "tools", false, err) : s;
}

/* ---- items --------------------------------------------------------------------------- */

static bool is_result(tug_str type) {
    return tug_str_is(type, "function_call_output") ||
           tug_str_is(type, "custom_tool_call_output") ||
           tug_str_is(type, "local_shell_call_output");
}

/* Items that carry nothing for the model (its reasoning; calls of tools that the API's own
 * servers run) are passed over. */
static tug_status read_item(reader *r, const tug_json *v, const char *path,
                            tug_err *err) {
    if (v->kind != TUG_JSON_OBJECT) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s is %s; it must be an object", path,
                        tug_json_kind_text(v));
    }
    tug_str type = tug_str_of("message");
    TUG_TRY(tug_field_str(v, path, "type", &type, err));
    if (tug_str_is(type, "message")) return read_message(r, v, path, err);
    if (tug_str_is(type, "function_call")) {
        return read_call(r, v, path, NULL, function_arguments, err);
    }
    if (tug_str_is(type, "custom_tool_call")) {
        return read_call(r, v, path, NULL, custom_input, err);
    }
    if (tug_str_is(type, "local_shell_call")) {
        return read_call(r, v, path, "local_shell", shell_command, err);
    }
    if (tug_str_is(type, "tool_search_call")) {
        return read_call(r, v, path, "tool_search", function_arguments, err);
    }
    if (tug_str_is(type, "tool_search_output")) return read_found_tools(r, v, err);
    if (is_result(type)) {
        const tug_field_path at = tug_field_path_make("%s.output", path);
        return tug_turns_result(&r->turns, tug_json_get(v, "output"), at.text, false,
                                err);
    }
    if (tug_str_is(type, "item_reference")) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s refers to a stored item, but nothing is stored here; send "
                        "the item itself",
                        path);
    }
    return TUG_OK;
}

static tug_status read_input(reader *r, const tug_json *body, tug_err *err) {
    tug_turns *const t = &r->turns;
    tug_str instructions = tug_str_make(NULL, 0);
    TUG_TRY(tug_field_str(body, "", "instructions", &instructions, err));
    if (instructions.n > 0) {
        TUG_TRY(tug_turns_open(t, "system", err));
        tug_turns_text(t, instructions);
        TUG_TRY(tug_turns_close(t, err));
    }
    const tug_json *const input = tug_json_get(body, "input");
    if (tug_json_is(input, TUG_JSON_ARRAY)) {
        for (size_t i = 0; i < input->n; i++) {
            const tug_field_path at = tug_field_path_make("input[%zu]", i);
            TUG_TRY(read_item(r, tug_json_at(input, i), at.text, err));
        }
    } else if (!tug_json_is(input, TUG_JSON_STRING)) {
        return tug_field_wrong(err, "", "input", input, "a string or an array of items");
    }
    TUG_TRY(tug_turns_close(t, err));
    /* Clients try a server out with an empty input. */
    const bool is_text = input->kind == TUG_JSON_STRING;
    if (is_text || t->list.n == 0) {
        TUG_TRY(tug_turns_open(t, "user", err));
        tug_turns_text(t, is_text ? tug_json_text(input) : tug_str_of(""));
    }
    TUG_TRY(tug_turns_close(t, err));
    tug_api_messages_end(&t->list, r->out);
    return TUG_OK;
}

/* ---- the body ------------------------------------------------------------------------ */

/* Fields that ask for a state or a service that is not here: better to say so than to
 * answer something else. */
static tug_status refuse_unsupported(const tug_json *body, tug_err *err) {
    static const char *const stored[] = {"previous_response_id", "conversation"};
    for (size_t i = 0; i < 2; i++) {
        const tug_json *const v = tug_json_get(body, stored[i]);
        if (!tug_field_is_said(v)) continue;
        if (v->kind == TUG_JSON_STRING && v->n == 0) continue;
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s is not supported, because responses are not stored; send the "
                        "whole conversation as input",
                        stored[i]);
    }
    bool background = false;
    TUG_TRY(tug_field_bool(body, "", "background", &background, err));
    if (background) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "background is not supported, because responses are not stored; "
                        "leave it out");
    }
    if (!tug_field_is_said(tug_json_get(body, "prompt"))) return TUG_OK;
    return TUG_FAIL(err, TUG_EUNSUPPORTED,
                    "prompt is not supported, because prompt templates are not stored "
                    "here; send instructions and input");
}

static tug_status read_logprobs(const tug_json *body, tug_api_request *out,
                                tug_err *err) {
    const tug_json *include = NULL;
    TUG_TRY(tug_field_array(body, "", "include", &include, err));
    int64_t top = 0;
    TUG_TRY(tug_field_i64(body, "", "top_logprobs", 0, 20, &top, err));
    out->top_logprobs = (int32_t)top;
    out->logprobs = top > 0;
    const size_t n = include ? include->n : 0;
    for (size_t i = 0; i < n; i++) {
        const tug_json *const v = tug_json_at(include, i);
        if (tug_json_is(v, TUG_JSON_STRING) &&
            tug_str_is(tug_json_text(v), "message.output_text.logprobs")) {
            out->logprobs = true;
        }
    }
    return TUG_OK;
}

tug_status tug_api_parse_responses(const tug_json *body, tug_arena *arena,
                                   tug_api_request *out, tug_err *err) {
    TUG_TRY(refuse_unsupported(body, err));
    TUG_TRY(tug_api_read_common(body, out, err));
    TUG_TRY(tug_api_read_limit(body, "max_output_tokens", out, err));
    TUG_TRY(tug_api_read_sampling(body, arena, &out->sampling, err));
    TUG_TRY(tug_api_read_stop(body, "stop", arena, out, err));
    TUG_TRY(read_logprobs(body, out, err));
    TUG_TRY(tug_field_bool(body, "", "parallel_tool_calls", &out->parallel, err));
    TUG_TRY(tug_field_str(body, "", "prompt_cache_key", &out->session, err));
    const tug_json *text = NULL;
    TUG_TRY(tug_field_object(body, "", "text", &text, err));
    TUG_TRY(tug_api_read_format(tug_json_get(text, "format"), "text.format", out, err));
    TUG_TRY(tug_responses_read_tools(body, arena, out, err));
    reader r = {.out = out, .arena = arena, .turns = tug_turns_make(arena)};
    const tug_status s = read_input(&r, body, err);
    tug_turns_free(&r.turns);
    return s;
}
