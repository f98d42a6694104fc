/* chat_request.c - see chat_request.h.  SPDX-License-Identifier: MIT */
#include "chat/chat_request.h"

#include <stdint.h>

#include "chat/pytext.h"

static tug_status fail_memory(tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory while reading the chat request");
}

/* ---- tool calls ------------------------------------------------------------------- */

/* {"arguments": text} */
static tug_status wrap_text(tug_str text, tug_arena *arena, const tug_json **out,
                            tug_err *err) {
    static const char name[] = "arguments";
    const tug_str kept = tug_arena_copy(arena, text);
    tug_json *const v = tug_arena_array(arena, 3, sizeof *v);
    if (!kept.p || !v) return fail_memory(err);
    v[0] = (tug_json){TUG_JSON_OBJECT, 1, {.item = &v[1]}};
    v[1] = (tug_json){TUG_JSON_STRING, sizeof name - 1, {.text = name}};
    v[2] = (tug_json){TUG_JSON_STRING, (uint32_t)kept.n, {.text = kept.p}};
    *out = v;
    return TUG_OK;
}

tug_status tug_chat_arguments(tug_str text, tug_arena *arena, const tug_json **out,
                              tug_err *err) {
    *out = NULL;
    if (tug_py_strip(text).n == 0) return TUG_OK;
    const tug_status s = tug_json_parse(text, arena, out, err);
    if (s == TUG_OK && (*out)->kind == TUG_JSON_OBJECT) return TUG_OK;
    if (s == TUG_OK || s == TUG_EFORMAT) return wrap_text(text, arena, out, err);
    return s;
}

/* `arguments` as sent: the JSON text of the API, an object, or whatever else. */
static tug_status read_arguments(const tug_json *v, tug_arena *arena,
                                 const tug_json **out, tug_err *err) {
    *out = NULL;
    if (!v || v->kind == TUG_JSON_NULL) return TUG_OK;
    if (v->kind == TUG_JSON_STRING) {
        return tug_chat_arguments(tug_json_text(v), arena, out, err);
    }
    if (v->kind == TUG_JSON_OBJECT) {
        *out = v;
        return TUG_OK;
    }
    tug_buf text = {0};
    tug_py_tojson(&text, v);
    tug_status s = tug_buf_ok(&text, err);
    if (s == TUG_OK) s = wrap_text(tug_buf_view(&text), arena, out, err);
    tug_buf_free(&text);
    return s;
}

static tug_status read_call(const tug_json *v, size_t im, size_t ic, tug_arena *arena,
                            tug_chat_call *out, tug_err *err) {
    const tug_json *const function = tug_json_get(v, "function");
    const tug_json *const id = tug_json_get(v, "id");
    out->id =
        tug_json_is(id, TUG_JSON_STRING) ? tug_json_text(id) : tug_str_make(NULL, 0);
    const char *const path = function ? ".function" : "";
    if (function) v = function;
    const tug_json *const name = tug_json_get(v, "name");
    if (!tug_json_is(name, TUG_JSON_STRING)) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "messages[%zu].tool_calls[%zu]%s.name is %s; it must be a string",
                        im, ic, path, tug_json_kind_text(name));
    }
    out->name = tug_json_text(name);
    return read_arguments(tug_json_get(v, "arguments"), arena, &out->arguments, err);
}

/* An empty or null list is none, and so is a scalar, which the template passes over. */
static tug_status read_calls(const tug_json *message, size_t im, tug_arena *arena,
                             tug_chat_message *out, tug_err *err) {
    const tug_json *const v = tug_json_get(message, "tool_calls");
    if (!v || v->kind < TUG_JSON_STRING || v->n == 0) return TUG_OK;
    if (v->kind != TUG_JSON_ARRAY) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "messages[%zu].tool_calls is %s; it must be an array", im,
                        tug_json_kind_text(v));
    }
    tug_chat_call *calls = tug_arena_array(arena, v->n, sizeof *calls);
    if (!calls) return fail_memory(err);
    for (size_t i = 0; i < v->n; i++) {
        TUG_TRY(read_call(tug_json_at(v, i), im, i, arena, &calls[i], err));
    }
    out->calls = calls;
    out->n_calls = v->n;
    return TUG_OK;
}

/* ---- content ---------------------------------------------------------------------- */

static bool is_one_of(tug_str s, const char *const *list) {
    while (*list && !tug_str_is(s, *list)) list++;
    return *list != NULL;
}

/* One element of a content array.  Kinds of part that are neither text nor media, such
 * as a model's reasoning, have no place in a prompt and are passed over. */
static tug_status read_part(const tug_json *part, size_t im, size_t ip, const char *glue,
                            tug_buf *out, bool *is_text, tug_err *err) {
    static const char *const texts[] = {"text", "input_text", "output_text", NULL};
    static const char *const media[] = {
        "image_url", "input_image", "image", "input_audio", "audio",
        "video_url", "video",       "file",  "input_file",  NULL};
    *is_text = false;
    const tug_json *const type = tug_json_get(part, "type");
    if (!tug_json_is(type, TUG_JSON_STRING)) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "messages[%zu].content[%zu].type is %s; it must be a string", im,
                        ip, tug_json_kind_text(type));
    }
    if (is_one_of(tug_json_text(type), media)) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "messages[%zu].content[%zu] is of type %s; the model reads only "
                        "text, so leave it out",
                        im, ip, type->v.text);
    }
    if (!is_one_of(tug_json_text(type), texts)) return TUG_OK;
    const tug_json *const text = tug_json_get(part, "text");
    if (!tug_json_is(text, TUG_JSON_STRING)) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "messages[%zu].content[%zu].text is %s; it must be a string", im,
                        ip, tug_json_kind_text(text));
    }
    *is_text = true;
    tug_buf_text(out, glue);
    tug_buf_str(out, tug_json_text(text));
    return TUG_OK;
}

static tug_status join_parts(const tug_json *parts, size_t im, tug_buf *out,
                             tug_err *err) {
    bool any = false;
    for (size_t i = 0; i < parts->n; i++) {
        bool is_text;
        TUG_TRY(
            read_part(tug_json_at(parts, i), im, i, any ? "\n" : "", out, &is_text, err));
        any |= is_text;
    }
    return TUG_OK;
}

/* Content that needs building: text parts, or a tool's value that is no text and that
 * the template prints as Python would. */
static tug_status build_content(const tug_json *v, size_t im, tug_arena *arena,
                                tug_str *out, tug_err *err) {
    tug_buf text = {0};
    tug_status s = TUG_OK;
    if (v->kind == TUG_JSON_ARRAY) {
        s = join_parts(v, im, &text, err);
    } else {
        tug_py_str(&text, v);
    }
    if (s == TUG_OK) s = tug_buf_ok(&text, err);
    if (s == TUG_OK) {
        *out = tug_arena_copy(arena, tug_buf_view(&text));
        if (!out->p) s = fail_memory(err);
    }
    tug_buf_free(&text);
    return s;
}

static tug_status read_content(const tug_json *message, size_t im, tug_arena *arena,
                               tug_chat_message *m, tug_err *err) {
    const tug_json *const v = tug_json_get(message, "content");
    const bool is_tool = tug_str_is(m->role, "tool");
    const bool is_assistant = tug_str_is(m->role, "assistant");
    const bool is_first_system = im == 0 && tug_str_is(m->role, "system");
    if (tug_json_is(v, TUG_JSON_STRING)) {
        m->content = tug_json_text(v);
        return TUG_OK;
    }
    if (tug_json_is(v, TUG_JSON_ARRAY) || (v && is_tool)) {
        return build_content(v, im, arena, &m->content, err);
    }
    /* Beside calls the template passes over what is no text. */
    const bool may_lack =
        is_assistant && (!v || v->kind == TUG_JSON_NULL || m->n_calls > 0);
    if (may_lack || (!v && (is_tool || is_first_system))) return TUG_OK;
    return TUG_FAIL(
        err, TUG_EFORMAT,
        "messages[%zu].content is %s; it must be a string or an array of text "
        "parts",
        im, tug_json_kind_text(v));
}

/* ---- the request ------------------------------------------------------------------ */

static tug_status read_message(const tug_json *v, size_t im, tug_arena *arena,
                               tug_chat_message *out, tug_err *err) {
    *out = (tug_chat_message){0};
    if (v->kind != TUG_JSON_OBJECT) {
        return TUG_FAIL(err, TUG_EFORMAT, "messages[%zu] is %s; it must be an object", im,
                        tug_json_kind_text(v));
    }
    const tug_json *const role = tug_json_get(v, "role");
    if (!tug_json_is(role, TUG_JSON_STRING)) {
        return TUG_FAIL(err, TUG_EFORMAT, "messages[%zu].role is %s; it must be a string",
                        im, tug_json_kind_text(role));
    }
    out->role = tug_json_text(role);
    if (tug_str_is(out->role, "assistant")) TUG_TRY(read_calls(v, im, arena, out, err));
    return read_content(v, im, arena, out, err);
}

static tug_status read_messages(const tug_json *request, tug_arena *arena, tug_chat *out,
                                tug_err *err) {
    const tug_json *const v = tug_json_get(request, "messages");
    if (!tug_json_is(v, TUG_JSON_ARRAY) || v->n == 0) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "messages is %s; it must be an array of at least one message",
                        tug_json_is(v, TUG_JSON_ARRAY) ? "empty" : tug_json_kind_text(v));
    }
    tug_chat_message *messages = tug_arena_array(arena, v->n, sizeof *messages);
    if (!messages) return fail_memory(err);
    for (size_t i = 0; i < v->n; i++) {
        TUG_TRY(read_message(tug_json_at(v, i), i, arena, &messages[i], err));
    }
    out->messages = messages;
    out->n_messages = v->n;
    return TUG_OK;
}

tug_status tug_chat_from_json(const tug_json *request, tug_arena *arena, tug_chat *out,
                              tug_err *err) {
    *out = (tug_chat){.add_generation_prompt = true};
    if (request->kind != TUG_JSON_OBJECT) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "the chat request is %s; it must be an object with messages",
                        tug_json_kind_text(request));
    }
    TUG_TRY(read_messages(request, arena, out, err));
    const tug_json *const tools = tug_json_get(request, "tools");
    if (tools && tools->kind != TUG_JSON_NULL && tools->kind != TUG_JSON_ARRAY) {
        return TUG_FAIL(err, TUG_EFORMAT, "tools is %s; it must be an array",
                        tug_json_kind_text(tools));
    }
    out->tools = tug_json_is(tools, TUG_JSON_ARRAY) ? tools : NULL;
    const tug_json *const prompt = tug_json_get(request, "add_generation_prompt");
    if (prompt && prompt->kind != TUG_JSON_NULL && prompt->kind != TUG_JSON_BOOL) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "add_generation_prompt is %s; it must be true or false",
                        tug_json_kind_text(prompt));
    }
    if (tug_json_is(prompt, TUG_JSON_BOOL)) out->add_generation_prompt = prompt->v.truth;
    return TUG_OK;
}
