/* request_build.c - lists of messages and of tools that grow; see request_impl.h.
 * SPDX-License-Identifier: MIT */
#include "api/request_impl.h"

/* ---- JSON ---------------------------------------------------------------------------- */

const tug_json *tug_api_json_str(tug_arena *arena, tug_str text) {
    tug_json *const v = tug_arena_array(arena, 1, sizeof *v);
    const tug_str kept = tug_arena_copy(arena, text);
    if (!v || !kept.p || kept.n > UINT32_MAX) return NULL;
    *v = (tug_json){TUG_JSON_STRING, (uint32_t)kept.n, {.text = kept.p}};
    return v;
}

tug_json *tug_api_json_object(tug_arena *arena, size_t n, tug_json **members) {
    TUG_CHECK(n <= UINT32_MAX / 2);
    tug_json *const v = tug_arena_array(arena, 2 * n + 1, sizeof *v);
    if (!v) return NULL;
    *v = (tug_json){TUG_JSON_OBJECT, (uint32_t)n, {.item = v + 1}};
    *members = v + 1;
    return v;
}

void tug_api_json_member(tug_json *members, size_t i, const char *key,
                         const tug_json *value) {
    const uint32_t n = (uint32_t)strlen(key);
    members[2 * i] = (tug_json){TUG_JSON_STRING, n, {.text = key}};
    members[2 * i + 1] = *value;
}

/* The array, with room for one more element.  What it outgrows stays in the arena: at
 * most as much again as the list itself. */
static void *grow(tug_arena *arena, void *array, size_t n, size_t cap,
                  size_t elem_bytes) {
    if (n < cap) return array;
    void *const grown = tug_arena_array(arena, cap ? 2 * cap : 8, elem_bytes);
    if (grown && n > 0) memcpy(grown, array, n * elem_bytes);
    return grown;
}

/* ---- messages ------------------------------------------------------------------------ */

tug_status tug_api_messages_add(tug_api_messages *list, const char *role, tug_str content,
                                tug_err *err) {
    tug_chat_message *const m = grow(list->arena, list->m, list->n, list->cap, sizeof *m);
    if (!m) return tug_field_no_memory(err);
    if (list->n == list->cap) list->cap = list->cap ? 2 * list->cap : 8;
    list->m = m;
    list->m[list->n++] = tug_chat_text(role, content);
    list->calls = NULL;
    list->cap_calls = 0;
    return TUG_OK;
}

tug_status tug_api_messages_add_call(tug_api_messages *list, tug_chat_call call,
                                     tug_err *err) {
    if (list->n == 0 || !tug_str_is(list->m[list->n - 1].role, "assistant")) {
        TUG_TRY(tug_api_messages_add(list, "assistant", tug_str_make(NULL, 0), err));
    }
    tug_chat_message *const m = &list->m[list->n - 1];
    tug_chat_call *const calls =
        grow(list->arena, list->calls, m->n_calls, list->cap_calls, sizeof *calls);
    if (!calls) return tug_field_no_memory(err);
    if (m->n_calls == list->cap_calls) {
        list->cap_calls = list->cap_calls ? 2 * list->cap_calls : 8;
    }
    calls[m->n_calls++] = call;
    list->calls = calls;
    m->calls = calls;
    return TUG_OK;
}

void tug_api_messages_end(const tug_api_messages *list, tug_api_request *out) {
    out->chat.messages = list->m;
    out->chat.n_messages = list->n;
    out->chat.add_generation_prompt = true;
}

/* ---- tools --------------------------------------------------------------------------- */

size_t tug_api_tools_find(const tug_api_tools *list, tug_str name) {
    for (size_t i = 0; i < list->n; i++) {
        if (tug_str_eq(list->tool[i].name, name)) return i;
    }
    return SIZE_MAX;
}

/* `<function=NAME>` ends at the bracket, and white space around a name is not its own. */
static tug_status check_name(const char *path, tug_str name, tug_err *err) {
    if (name.n == 0) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s.name is empty; a tool needs a name", path);
    }
    for (size_t i = 0; i < name.n; i++) {
        const unsigned char c = (unsigned char)name.p[i];
        if (c <= ' ' || c == 0x7F || c == '<' || c == '>') {
            return TUG_FAIL(err, TUG_EFORMAT,
                            "%s.name has the byte 0x%02x in it; white space, control "
                            "characters, < and > may not be in a name",
                            path, c);
        }
    }
    return TUG_OK;
}

static tug_status tools_make_room(tug_api_tools *list, tug_err *err) {
    if (list->n < list->cap) return TUG_OK;
    const size_t n = list->n, cap = list->cap;
    tug_tool *const tool = grow(list->arena, list->tool, n, cap, sizeof *tool);
    tug_api_tool *const shown = grow(list->arena, list->shown, n, cap, sizeof *shown);
    tug_json *const sent = grow(list->arena, list->sent, n, cap, sizeof *sent);
    if (!tool || !shown || !sent) return tug_field_no_memory(err);
    list->tool = tool;
    list->shown = shown;
    list->sent = sent;
    list->cap = cap ? 2 * cap : 8;
    return TUG_OK;
}

tug_status tug_api_tools_add(tug_api_tools *list, const char *path, tug_tool tool,
                             tug_api_tool shown, const tug_json *prompt_form,
                             tug_err *err) {
    TUG_TRY(check_name(path, tool.name, err));
    if (tug_api_tools_find(list, tool.name) != SIZE_MAX) return TUG_OK;
    if (list->n == TUG_API_MAX_TOOLS) {
        return TUG_FAIL(err, TUG_EFORMAT, "tools has more than %d tools; send fewer",
                        (int)TUG_API_MAX_TOOLS);
    }
    TUG_TRY(tools_make_room(list, err));
    list->tool[list->n] = tool;
    list->shown[list->n] = shown;
    list->sent[list->n] = *prompt_form;
    list->n++;
    return TUG_OK;
}

tug_status tug_api_tools_end(const tug_api_tools *list, tug_api_request *out,
                             tug_err *err) {
    out->tools = (tug_tools){list->tool, list->n};
    out->shown = list->shown;
    out->chat.tools = NULL;
    if (list->n == 0) return TUG_OK;
    tug_json *const sent = tug_arena_array(list->arena, 1, sizeof *sent);
    if (!sent) return tug_field_no_memory(err);
    *sent = (tug_json){TUG_JSON_ARRAY, (uint32_t)list->n, {.item = list->sent}};
    out->chat.tools = sent;
    return TUG_OK;
}

tug_status tug_api_set_choice(tug_api_request *out, const char *path,
                              tug_tool_choice choice, tug_str name, tug_err *err) {
    out->choice = choice;
    if (choice != TUG_TOOLS_REQUIRED && choice != TUG_TOOLS_NAMED) return TUG_OK;
    if (out->tools.n == 0) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "%s asks for a call, but the request has no tools; send tools or "
                        "leave it out",
                        path);
    }
    if (choice == TUG_TOOLS_REQUIRED) return TUG_OK;
    for (size_t i = 0; i < out->tools.n; i++) {
        if (!tug_str_eq(out->shown[i].name, name)) continue;
        out->named = out->tools.tool[i].name;
        return TUG_OK;
    }
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s names the tool \"%.*s\", which is not among tools", path,
                    name.n < 60 ? (int)name.n : 60, name.n ? name.p : "");
}
