/* tool_forms.c - see tool_forms.h.
 *
 * Three kinds of tool in a responses body are for us: functions, custom tools (text in, a
 * format described in words) and the local shell.  All become functions for the model; the
 * answer turns a call back into the client's kind (answer_responses.c).  Tools that the
 * API's own servers run are passed over.
 * SPDX-License-Identifier: MIT */
#include "api/tool_forms.h"

const tug_json *tug_tool_form(tug_arena *arena, tug_str name, tug_str about,
                              const tug_json *parameters) {
    const size_t n = 1u + (about.p ? 1u : 0u) + (parameters ? 1u : 0u);
    tug_json *members = NULL;
    const tug_json *const form = tug_api_json_object(arena, n, &members);
    const tug_json *const name_json = tug_api_json_str(arena, name);
    const tug_json *const about_json = tug_api_json_str(arena, about);
    if (!form || !name_json || !about_json) return NULL;
    size_t i = 0;
    tug_api_json_member(members, i++, "name", name_json);
    if (about.p) tug_api_json_member(members, i++, "description", about_json);
    if (parameters) tug_api_json_member(members, i++, "parameters", parameters);
    return form;
}

tug_status tug_tools_count(const tug_json *tools, const char *path, tug_err *err) {
    if (tools->n <= TUG_API_MAX_TOOLS) return TUG_OK;
    return TUG_FAIL(err, TUG_EFORMAT, "%s has more than %d tools; send fewer", path,
                    (int)TUG_API_MAX_TOOLS);
}

/* ---- names --------------------------------------------------------------------------- */

/* namespace__name, with `number` behind it from the second of that name on. */
static tug_str flat_name(tug_str space, tug_str name, size_t number, tug_arena *arena) {
    if (space.n == 0 && number < 2) return name;
    const bool joined = space.n == 0 || space.p[space.n - 1] == '_';
    tug_buf b = {0};
    tug_buf_str(&b, space);
    tug_buf_text(&b, joined ? "" : "__");
    tug_buf_str(&b, name);
    if (number > 1) tug_buf_printf(&b, "_%zu", number);
    const tug_str flat =
        b.failed ? tug_str_make(NULL, 0) : tug_arena_copy(arena, tug_buf_view(&b));
    tug_buf_free(&b);
    return flat;
}

static bool is_shown_as(const tug_api_tool *shown, tug_str space, tug_str name) {
    return tug_str_eq(shown->space, space) && tug_str_eq(shown->name, name);
}

tug_str tug_responses_tool_name(const tug_api_request *request, tug_str space,
                                tug_str name, tug_arena *arena) {
    for (size_t i = 0; i < request->tools.n; i++) {
        if (is_shown_as(&request->shown[i], space, name))
            return request->tools.tool[i].name;
    }
    /* A client may leave out the namespace when it sends a call back. */
    for (size_t i = 0; space.n == 0 && i < request->tools.n; i++) {
        if (tug_str_eq(request->shown[i].name, name)) return request->tools.tool[i].name;
    }
    return flat_name(space, name, 1, arena);
}

/* ---- kinds --------------------------------------------------------------------------- */

typedef struct tool_spec {
    tug_tool_kind kind;
    tug_str name, about;
    const tug_json *parameters;
} tool_spec;

enum { MAX_OF_ONE_NAME = 16 };

/* Adds it under a name that no other tool has.  The same tool twice is passed over. */
static tug_status add(tug_api_tools *list, const char *path, tug_str space,
                      const tool_spec *spec, tug_err *err) {
    for (size_t i = 0; i < list->n; i++) {
        if (is_shown_as(&list->shown[i], space, spec->name)) return TUG_OK;
    }
    tug_str name;
    size_t number = 1;
    do {
        if (number > MAX_OF_ONE_NAME) {
            return TUG_FAIL(err, TUG_EFORMAT,
                            "%s.name is that of %d tools already, when it is joined to "
                            "its namespace; rename it",
                            path, (int)MAX_OF_ONE_NAME);
        }
        name = flat_name(space, spec->name, number++, list->arena);
        if (!name.p) return tug_field_no_memory(err);
    } while (tug_api_tools_find(list, name) != SIZE_MAX);
    const tug_json *const form =
        tug_tool_form(list->arena, name, spec->about, spec->parameters);
    if (!form) return tug_field_no_memory(err);
    return tug_api_tools_add(list, path, (tug_tool){name, spec->parameters},
                             (tug_api_tool){spec->kind, spec->name, space}, form, err);
}

static tug_status name_and_about(const tug_json *v, const char *path, tool_spec *spec,
                                 tug_err *err) {
    TUG_TRY(tug_field_str(v, path, "name", &spec->name, err));
    if (!spec->name.p) return tug_field_wrong(err, path, "name", NULL, "a string");
    return tug_field_str(v, path, "description", &spec->about, err);
}

/* The description, and the grammar that the text of a call has to follow. */
static tug_status custom_about(const tug_json *v, const char *path, tug_arena *arena,
                               tool_spec *spec, tug_err *err) {
    const tug_json *format = NULL;
    TUG_TRY(tug_field_object(v, path, "format", &format, err));
    const tug_json *const rules = tug_json_get(format, "definition");
    if (!tug_json_is(rules, TUG_JSON_STRING)) return TUG_OK;
    tug_str syntax = tug_str_of("given");
    TUG_TRY(tug_field_str(format, path, "syntax", &syntax, err));
    tug_buf b = {0};
    tug_buf_str(&b, spec->about);
    if (b.n > 0) tug_buf_text(&b, "\n\n");
    tug_buf_text(&b, "The input is text that follows this ");
    tug_buf_str(&b, syntax);
    tug_buf_text(&b, tug_str_is(syntax, "regex") ? ":\n" : " grammar:\n");
    tug_buf_str(&b, tug_json_text(rules));
    tug_status s = tug_buf_ok(&b, err);
    if (s == TUG_OK) {
        spec->about = tug_arena_copy(arena, tug_buf_view(&b));
        if (!spec->about.p) s = tug_field_no_memory(err);
    }
    tug_buf_free(&b);
    return s;
}

static tug_status add_custom(tug_api_tools *list, const tug_json *v, const char *path,
                             tug_str space, tug_err *err) {
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\","
        "\"description\":\"The input of the tool, as it is\"}},\"required\":[\"input\"]}";
    tool_spec spec = {.kind = TUG_TOOL_CUSTOM};
    TUG_TRY(name_and_about(v, path, &spec, err));
    TUG_TRY(custom_about(v, path, list->arena, &spec, err));
    TUG_TRY(tug_json_parse(tug_str_of(schema), list->arena, &spec.parameters, err));
    return add(list, path, space, &spec, err);
}

static tug_status add_function(tug_api_tools *list, const tug_json *v, const char *path,
                               tug_str space, tug_err *err) {
    tool_spec spec = {.kind = TUG_TOOL_FUNCTION};
    TUG_TRY(name_and_about(v, path, &spec, err));
    const tug_json *const parameters = tug_json_get(v, "parameters");
    if (tug_field_is_said(parameters)) spec.parameters = parameters;
    return add(list, path, space, &spec, err);
}

static tug_status add_local_shell(tug_api_tools *list, const char *path, tug_err *err) {
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"array\",\"items\":"
        "{\"type\":\"string\"},\"description\":\"The program and its arguments\"}},"
        "\"required\":[\"command\"]}";
    tool_spec spec = {.kind = TUG_TOOL_LOCAL_SHELL,
                      .name = tug_str_of("local_shell"),
                      .about = tug_str_of("Runs a command and returns its output.")};
    TUG_TRY(tug_json_parse(tug_str_of(schema), list->arena, &spec.parameters, err));
    return add(list, path, tug_str_make(NULL, 0), &spec, err);
}

static tug_status add_tools(tug_api_tools *list, const tug_json *tools, const char *path,
                            tug_str space, tug_err *err);

static tug_status add_tool(tug_api_tools *list, const tug_json *v, const char *path,
                           tug_str space, tug_err *err) {
    if (v->kind != TUG_JSON_OBJECT) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s is %s; it must be an object", path,
                        tug_json_kind_text(v));
    }
    tug_str type = tug_str_of("function");
    TUG_TRY(tug_field_str(v, path, "type", &type, err));
    if (tug_str_is(type, "function")) return add_function(list, v, path, space, err);
    if (tug_str_is(type, "custom")) return add_custom(list, v, path, space, err);
    if (tug_str_is(type, "local_shell")) return add_local_shell(list, path, err);
    /* One level: a namespace within one is passed over, like any kind that is not ours. */
    if (!tug_str_is(type, "namespace") || space.n > 0) return TUG_OK;
    const tug_json *inner = NULL;
    TUG_TRY(tug_field_str(v, path, "name", &space, err));
    TUG_TRY(tug_field_array(v, path, "tools", &inner, err));
    if (space.n == 0) return tug_field_wrong(err, path, "name", NULL, "a string");
    const tug_field_path within = tug_field_path_make("%s.tools", path);
    return inner ? add_tools(list, inner, within.text, space, err) : TUG_OK;
}

static tug_status add_tools(tug_api_tools *list, const tug_json *tools, const char *path,
                            tug_str space, tug_err *err) {
    TUG_TRY(tug_tools_count(tools, path, err));
    for (size_t i = 0; i < tools->n; i++) {
        const tug_field_path at = tug_field_path_make("%s[%zu]", path, i);
        TUG_TRY(add_tool(list, tug_json_at(tools, i), at.text, space, err));
    }
    return TUG_OK;
}

/* ---- choice -------------------------------------------------------------------------- */

static bool is_allowed(const tug_json *allowed, const tug_api_tool *tool) {
    for (size_t i = 0; i < allowed->n; i++) {
        const tug_json *const name = tug_json_get(tug_json_at(allowed, i), "name");
        if (tug_json_is(name, TUG_JSON_STRING) &&
            tug_str_eq(tug_json_text(name), tool->name)) {
            return true;
        }
    }
    return false;
}

/* {"type": "allowed_tools", "mode", "tools"}: the prompt keeps all tools, so that it stays
 * the same; the model may call these. */
static tug_status allow_some(const tug_json *v, tug_api_tools *list, tug_api_request *out,
                             tug_err *err) {
    tug_str mode = tug_str_of("auto");
    const tug_json *allowed = NULL;
    TUG_TRY(tug_field_str(v, "tool_choice", "mode", &mode, err));
    TUG_TRY(tug_field_array(v, "tool_choice", "tools", &allowed, err));
    if (!allowed) return tug_field_wrong(err, "tool_choice", "tools", NULL, "an array");
    TUG_TRY(tug_tools_count(allowed, "tool_choice.tools", err));
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        if (!is_allowed(allowed, &list->shown[i])) continue;
        list->tool[n] = list->tool[i];
        list->shown[n++] = list->shown[i];
    }
    out->tools.n = n;
    const bool required = tug_str_is(mode, "required");
    return tug_api_set_choice(out, "tool_choice",
                              required ? TUG_TOOLS_REQUIRED : TUG_TOOLS_AUTO,
                              tug_str_make(NULL, 0), err);
}

static tug_status read_choice_text(tug_str text, tug_api_request *out, tug_err *err) {
    tug_tool_choice choice;
    if (tug_str_is(text, "auto")) {
        choice = TUG_TOOLS_AUTO;
    } else if (tug_str_is(text, "none")) {
        choice = TUG_TOOLS_NONE;
    } else if (tug_str_is(text, "required")) {
        choice = TUG_TOOLS_REQUIRED;
    } else {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "tool_choice is not one of auto, none, required and an object");
    }
    return tug_api_set_choice(out, "tool_choice", choice, tug_str_make(NULL, 0), err);
}

static tug_status read_choice(const tug_json *v, tug_api_tools *list,
                              tug_api_request *out, tug_err *err) {
    if (!tug_field_is_said(v)) return TUG_OK;
    if (v->kind == TUG_JSON_STRING) return read_choice_text(tug_json_text(v), out, err);
    if (v->kind != TUG_JSON_OBJECT) {
        return tug_field_wrong(err, "", "tool_choice", v, "a string or an object");
    }
    tug_str type = tug_str_make(NULL, 0), name = type;
    TUG_TRY(tug_field_str(v, "tool_choice", "type", &type, err));
    TUG_TRY(tug_field_str(v, "tool_choice", "name", &name, err));
    if (tug_str_is(type, "allowed_tools")) return allow_some(v, list, out, err);
    if (tug_str_is(type, "local_shell")) name = type;
    if (!name.p) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "tool_choice.type is a tool that this server does not run; name "
                        "a function or leave it out");
    }
    return tug_api_set_choice(out, "tool_choice", TUG_TOOLS_NAMED, name, err);
}

tug_status tug_responses_read_tools(const tug_json *body, tug_arena *arena,
                                    tug_api_request *out, tug_err *err) {
    const tug_json *tools = NULL;
    TUG_TRY(tug_field_array(body, "", "tools", &tools, err));
    tug_api_tools list = {.arena = arena};
    if (tools) TUG_TRY(add_tools(&list, tools, "tools", tug_str_make(NULL, 0), err));
    TUG_TRY(tug_api_tools_end(&list, out, err));
    return read_choice(tug_json_get(body, "tool_choice"), &list, out, err);
}
