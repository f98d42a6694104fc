/* request_messages.c - the body of /v1/messages and /v1/messages/count_tokens.
 *
 * The order of blocks is kept: a result of a call ends the turn of the text before it.
 * Blocks that move or change from request to request without meaning (cache_control, the
 * line of the client's billing) never reach the prompt, so that it can be reused.
 * SPDX-License-Identifier: MIT */
#include "api/tool_forms.h"
#include "api/turns.h"
#include "chat/chat_request.h"

/* ---- texts --------------------------------------------------------------------------- */

/* Without the leading lines that are headers of the client (x-anthropic-billing-header:
 * with a number that differs each time).  p NULL: nothing is left. */
static tug_str without_headers(tug_str text) {
    static const char header[] = "x-anthropic-";
    while (tug_str_starts(text, tug_str_make(header, sizeof header - 1))) {
        const char *const end = memchr(text.p, '\n', text.n);
        if (!end) return tug_str_make(NULL, 0);
        const size_t n = (size_t)(end - text.p) + 1;
        text = tug_str_make(text.p + n, text.n - n);
    }
    return text;
}

static void add_system_text(tug_turns *t, tug_str text) {
    text = without_headers(text);
    if (text.n > 0) tug_turns_text(t, text);
}

/* The system prompt, or a message of role system: without text there is no turn. */
static tug_status read_system(const tug_json *v, const char *path, tug_turns *t,
                              tug_err *err) {
    if (!tug_field_is_said(v)) return TUG_OK;
    TUG_TRY(tug_turns_open(t, "system", err));
    if (v->kind == TUG_JSON_STRING) {
        add_system_text(t, tug_json_text(v));
    } else if (v->kind == TUG_JSON_ARRAY) {
        for (size_t i = 0; i < v->n; i++) {
            const tug_field_path at = tug_field_path_make("%s[%zu]", path, i);
            tug_str text;
            TUG_TRY(tug_turns_block_text(tug_json_at(v, i), at.text, true, &text, err));
            if (text.p) add_system_text(t, text);
        }
    } else {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s is %s; it must be a string or an array of text blocks", path,
                        tug_json_kind_text(v));
    }
    if (tug_turns_is_empty(t)) {
        tug_turns_drop(t);
        return TUG_OK;
    }
    return tug_turns_close(t, err);
}

/* ---- blocks -------------------------------------------------------------------------- */

/* `input` as the object it should be, or what a client made of a call that was cut off. */
static tug_status read_input(const tug_json *v, tug_arena *arena, const tug_json **out,
                             tug_err *err) {
    *out = tug_json_is(v, TUG_JSON_OBJECT) ? v : NULL;
    if (*out || !tug_field_is_said(v)) return TUG_OK;
    if (v->kind == TUG_JSON_STRING) {
        return tug_chat_arguments(tug_json_text(v), arena, out, err);
    }
    tug_json *members = NULL;
    *out = tug_api_json_object(arena, 1, &members);
    if (!*out) return tug_field_no_memory(err);
    tug_api_json_member(members, 0, "arguments", v);
    return TUG_OK;
}

static tug_status read_tool_use(const tug_json *block, const char *path, tug_turns *t,
                                tug_err *err) {
    tug_str name = tug_str_make(NULL, 0);
    TUG_TRY(tug_field_str(block, path, "name", &name, err));
    if (!name.p) return tug_field_wrong(err, path, "name", NULL, "a string");
    const tug_json *input;
    TUG_TRY(read_input(tug_json_get(block, "input"), t->list.arena, &input, err));
    const tug_chat_call call = {name, input, tug_field_text(block, "id")};
    return tug_turns_call(t, call, err);
}

static tug_status read_tool_result(const tug_json *block, const char *path, tug_turns *t,
                                   tug_err *err) {
    bool is_error = false;
    TUG_TRY(tug_field_bool(block, path, "is_error", &is_error, err));
    /* A user's turn that has said nothing yet is no turn. */
    if (t->role && tug_turns_is_empty(t)) tug_turns_drop(t);
    const tug_field_path at = tug_field_path_make("%s.content", path);
    return tug_turns_result(t, tug_json_get(block, "content"), at.text, is_error, err);
}

static tug_status read_block(const tug_json *block, const char *path, const char *role,
                             tug_turns *t, tug_err *err) {
    const bool is_user = role[0] == 'u';
    tug_str type = tug_str_make(NULL, 0);
    if (block->kind == TUG_JSON_OBJECT) {
        TUG_TRY(tug_field_str(block, path, "type", &type, err));
    }
    if (is_user && tug_str_is(type, "tool_result")) {
        return read_tool_result(block, path, t, err);
    }
    if (!is_user && tug_str_is(type, "tool_use")) {
        return read_tool_use(block, path, t, err);
    }
    tug_str text;
    TUG_TRY(tug_turns_block_text(block, path, is_user, &text, err));
    if (!text.p) return TUG_OK;
    TUG_TRY(tug_turns_go_on(t, role, err));
    tug_turns_text(t, text);
    return TUG_OK;
}

/* ---- messages ------------------------------------------------------------------------ */

static tug_status read_blocks(const tug_json *content, const char *path, const char *role,
                              tug_turns *t, tug_err *err) {
    const size_t before = t->list.n;
    TUG_TRY(tug_turns_open(t, role, err));
    for (size_t i = 0; i < content->n; i++) {
        const tug_field_path at = tug_field_path_make("%s.content[%zu]", path, i);
        TUG_TRY(read_block(tug_json_at(content, i), at.text, role, t, err));
    }
    /* Of the assistant nothing may be left (thinking alone); a person's message counts,
     * unless it was all results. */
    const bool counts = role[0] == 'u' && t->list.n == before + 1;
    if (t->role && tug_turns_is_empty(t) && !counts) tug_turns_drop(t);
    return tug_turns_close(t, err);
}

static tug_status read_message(const tug_json *v, size_t i, tug_turns *t, tug_err *err) {
    const tug_field_path path = tug_field_path_make("messages[%zu]", i);
    if (v->kind != TUG_JSON_OBJECT) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s is %s; it must be an object", path.text,
                        tug_json_kind_text(v));
    }
    const tug_json *const content = tug_json_get(v, "content");
    tug_str name = tug_str_make(NULL, 0);
    TUG_TRY(tug_field_str(v, path.text, "role", &name, err));
    if (tug_str_is(name, "system") || tug_str_is(name, "developer")) {
        const tug_field_path at = tug_field_path_make("%s.content", path.text);
        return read_system(content, at.text, t, err);
    }
    const bool is_user = tug_str_is(name, "user");
    if (!is_user && !tug_str_is(name, "assistant")) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s.role is not one of user, assistant and system", path.text);
    }
    const char *const role = is_user ? "user" : "assistant";
    if (tug_json_is(content, TUG_JSON_ARRAY)) {
        return read_blocks(content, path.text, role, t, err);
    }
    if (!tug_json_is(content, TUG_JSON_STRING)) {
        return tug_field_wrong(err, path.text, "content", content,
                               "a string or an array of blocks");
    }
    TUG_TRY(tug_turns_open(t, role, err));
    tug_turns_text(t, tug_json_text(content));
    return tug_turns_close(t, err);
}

static tug_status read_conversation(const tug_json *body, tug_turns *t,
                                    tug_api_request *out, tug_err *err) {
    const tug_json *messages = NULL;
    TUG_TRY(tug_field_array(body, "", "messages", &messages, err));
    if (!messages || messages->n == 0) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "messages is %s; it must be an array of at least one message",
                        messages ? "empty" : "missing");
    }
    TUG_TRY(read_system(tug_json_get(body, "system"), "system", t, err));
    for (size_t i = 0; i < messages->n; i++) {
        TUG_TRY(read_message(tug_json_at(messages, i), i, t, err));
    }
    if (t->list.n == 0) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "messages has no text; at least one message must have some");
    }
    tug_api_messages_end(&t->list, out);
    return TUG_OK;
}

/* ---- tools --------------------------------------------------------------------------- */

static tug_status add_tool(tug_api_tools *list, const tug_json *v, const char *path,
                           tug_err *err) {
    tug_str name = tug_str_make(NULL, 0), about = name;
    TUG_TRY(tug_field_str(v, path, "name", &name, err));
    if (!name.p) return tug_field_wrong(err, path, "name", NULL, "a string");
    TUG_TRY(tug_field_str(v, path, "description", &about, err));
    const tug_json *schema = tug_json_get(v, "input_schema");
    if (!tug_field_is_said(schema)) schema = NULL;
    const tug_json *const form = tug_tool_form(list->arena, name, about, schema);
    if (!form) return tug_field_no_memory(err);
    return tug_api_tools_add(list, path, (tug_tool){name, schema},
                             (tug_api_tool){TUG_TOOL_FUNCTION, name, {0}}, form, err);
}

static tug_status read_tools(const tug_json *body, tug_arena *arena, tug_api_request *out,
                             tug_err *err) {
    const tug_json *tools = NULL;
    TUG_TRY(tug_field_array(body, "", "tools", &tools, err));
    if (tools) TUG_TRY(tug_tools_count(tools, "tools", err));
    tug_api_tools list = {.arena = arena};
    const size_t n = tools ? tools->n : 0;
    for (size_t i = 0; i < n; i++) {
        const tug_json *const v = tug_json_at(tools, i);
        const tug_field_path path = tug_field_path_make("tools[%zu]", i);
        if (v->kind != TUG_JSON_OBJECT) {
            return TUG_FAIL(err, TUG_EFORMAT, "%s is %s; it must be an object", path.text,
                            tug_json_kind_text(v));
        }
        tug_str type = tug_str_of("custom");
        TUG_TRY(tug_field_str(v, path.text, "type", &type, err));
        /* Any other type is a tool that the API's own servers run. */
        if (tug_str_is(type, "custom")) TUG_TRY(add_tool(&list, v, path.text, err));
    }
    return tug_api_tools_end(&list, out, err);
}

static tug_status read_tool_choice(const tug_json *body, tug_api_request *out,
                                   tug_err *err) {
    static const struct {
        const char *type;
        tug_tool_choice choice;
    } known[] = {{"auto", TUG_TOOLS_AUTO},
                 {"any", TUG_TOOLS_REQUIRED},
                 {"tool", TUG_TOOLS_NAMED},
                 {"none", TUG_TOOLS_NONE}};
    const tug_json *v = NULL;
    TUG_TRY(tug_field_object(body, "", "tool_choice", &v, err));
    if (!v) return TUG_OK;
    bool one = false;
    TUG_TRY(tug_field_bool(v, "tool_choice", "disable_parallel_tool_use", &one, err));
    out->parallel = !one;
    tug_str type = tug_str_make(NULL, 0), name = type;
    TUG_TRY(tug_field_str(v, "tool_choice", "type", &type, err));
    TUG_TRY(tug_field_str(v, "tool_choice", "name", &name, err));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!tug_str_is(type, known[i].type)) continue;
        return tug_api_set_choice(out, "tool_choice", known[i].choice, name, err);
    }
    return TUG_FAIL(err, TUG_EFORMAT,
                    "tool_choice.type is not one of auto, any, tool and none");
}

/* ---- the body ------------------------------------------------------------------------ */

static tug_status read_format(const tug_json *body, tug_api_request *out, tug_err *err) {
    const tug_json *config = NULL;
    TUG_TRY(tug_field_object(body, "", "output_config", &config, err));
    const tug_json *const format = tug_json_get(config, "format");
    if (tug_field_is_said(format)) {
        return tug_api_read_format(format, "output_config.format", out, err);
    }
    const tug_json *const older = tug_json_get(body, "output_format");
    if (!tug_field_is_said(older)) return TUG_OK;
    return tug_api_read_format(older, "output_format", out, err);
}

tug_status tug_api_parse_messages(const tug_json *body, tug_arena *arena,
                                  tug_api_request *out, tug_err *err) {
    TUG_TRY(tug_api_read_common(body, out, err));
    TUG_TRY(tug_api_read_limit(body, "max_tokens", out, err));
    TUG_TRY(tug_api_read_sampling(body, arena, &out->sampling, err));
    TUG_TRY(tug_api_read_stop(body, "stop_sequences", arena, out, err));
    TUG_TRY(read_format(body, out, err));
    TUG_TRY(read_tools(body, arena, out, err));
    TUG_TRY(read_tool_choice(body, out, err));
    /* It names the person and the session; only a hint, so that any other value is fine. */
    const tug_json *const user = tug_json_get(tug_json_get(body, "metadata"), "user_id");
    if (tug_json_is(user, TUG_JSON_STRING)) out->session = tug_json_text(user);
    tug_turns turns = tug_turns_make(arena);
    const tug_status s = read_conversation(body, &turns, out, err);
    tug_turns_free(&turns);
    return s;
}
