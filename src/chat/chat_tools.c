/* chat_tools.c - see chat_tools.h.
 *
 * A schema is rendered generically, not interpreted: what is no object simply has no
 * keys (`properties: {"any": true}` gives only a name), and a key that the format does
 * not know is passed on.  Nothing is XML-escaped; the model was trained without.
 * SPDX-License-Identifier: MIT */
#include "chat/chat_tools.h"

#include "chat/pytext.h"

static const char intro[] = "\n\n# Tools\n\n"
                            "You have access to the following functions:\n\n"
                            "<tools>";

static const char how_to_call[] =
    "\n</tools>\n\n"
    "If you choose to call a function ONLY reply in the following format with NO suffix:"
    "\n\n"
    "<tool_call>\n"
    "<function=example_function_name>\n"
    "<parameter=example_parameter_1>\n"
    "value_1\n"
    "</parameter>\n"
    "<parameter=example_parameter_2>\n"
    "This is the value for the second parameter\n"
    "that can span\n"
    "multiple lines\n"
    "</parameter>\n"
    "</function>\n"
    "</tool_call>\n\n"
    "<IMPORTANT>\n"
    "Reminder:\n"
    "- Function calls MUST follow the specified format: an inner "
    "<function=...></function> block must be nested within <tool_call></tool_call> XML "
    "tags\n"
    "- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language "
    "BEFORE the function call, but NOT after\n"
    "- If there is no function call available, answer the question like normal with your "
    "current knowledge and do not tell the user about function calls\n"
    "</IMPORTANT>";

/* \n<KEY>value</KEY> for every key of `v` (if it is an object) that is not in `handled`,
 * a list that ends with NULL. */
static void add_other_keys(tug_buf *out, const tug_json *v, const char *const *handled) {
    if (!tug_json_is(v, TUG_JSON_OBJECT)) return;
    for (size_t i = 0; i < v->n; i++) {
        const tug_str key = tug_json_key(v, i);
        const tug_json *const value = tug_json_value(v, i);
        const char *const *h = handled;
        while (*h && !tug_str_is(key, *h)) h++;
        if (*h) continue;
        tug_buf_text(out, "\n<");
        tug_buf_str(out, key);
        tug_buf_char(out, '>');
        if (value->kind == TUG_JSON_STRING) {
            tug_buf_str(out, tug_json_text(value));
        } else {
            tug_py_tojson(out, value);
        }
        tug_buf_text(out, "</");
        tug_buf_str(out, key);
        tug_buf_char(out, '>');
    }
}

static void add_description(tug_buf *out, const tug_json *text) {
    if (!text) return;
    tug_buf_text(out, "\n<description>");
    if (text->kind == TUG_JSON_STRING) {
        tug_buf_str(out, tug_py_strip(tug_json_text(text)));
    } else {
        tug_py_str(out, text);
    }
    tug_buf_text(out, "</description>");
}

static void add_parameter(tug_buf *out, tug_str name, const tug_json *schema) {
    static const char *const handled[] = {"name", "type", "description", NULL};
    tug_buf_text(out, "\n<parameter>\n<name>");
    tug_buf_str(out, name);
    tug_buf_text(out, "</name>");
    const tug_json *const type = tug_json_get(schema, "type");
    if (type) {
        tug_buf_text(out, "\n<type>");
        tug_py_str(out, type);
        tug_buf_text(out, "</type>");
    }
    add_description(out, tug_json_get(schema, "description"));
    add_other_keys(out, schema, handled);
    tug_buf_text(out, "\n</parameter>");
}

static void add_parameters(tug_buf *out, const tug_json *schema) {
    static const char *const handled[] = {"type", "properties", NULL};
    tug_buf_text(out, "\n<parameters>");
    const tug_json *const properties = tug_json_get(schema, "properties");
    if (tug_json_is(properties, TUG_JSON_OBJECT)) {
        for (size_t i = 0; i < properties->n; i++) {
            add_parameter(out, tug_json_key(properties, i),
                          tug_json_value(properties, i));
        }
    }
    add_other_keys(out, schema, handled);
    tug_buf_text(out, "\n</parameters>");
}

static void add_tool(tug_buf *out, const tug_json *tool) {
    static const char *const handled[] = {"type", "name", "description", "parameters",
                                          NULL};
    const tug_json *const wrapped = tug_json_get(tool, "function");
    if (wrapped) tool = wrapped;
    const tug_json *const name = tug_json_get(tool, "name");
    tug_buf_text(out, "\n<function>\n<name>");
    if (name) tug_py_str(out, name);
    tug_buf_text(out, "</name>");
    add_description(out, tug_json_get(tool, "description"));
    add_parameters(out, tug_json_get(tool, "parameters"));
    add_other_keys(out, tool, handled);
    tug_buf_text(out, "\n</function>");
}

void tug_chat_tools_text(tug_buf *out, const tug_json *tools) {
    tug_buf_text(out, intro);
    for (size_t i = 0; i < tools->n; i++) add_tool(out, tug_json_at(tools, i));
    tug_buf_text(out, how_to_call);
}
