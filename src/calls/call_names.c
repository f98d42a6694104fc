/* call_names.c - see call_names.h.  SPDX-License-Identifier: MIT */
#include "calls/call_names.h"

#include "calls/schema_types.h"

const tug_tool *tug_call_find_tool(tug_tools tools, tug_str name) {
    for (size_t i = 0; i < tools.n; i++) {
        if (tug_str_eq(tools.tool[i].name, name)) return &tools.tool[i];
    }
    return NULL;
}

bool tug_call_has_key(const tug_tool *tool, tug_str key) {
    return tool && tug_schema_property(tool->parameters, key);
}

bool tug_call_name_is_plain(tug_str name) {
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '\0' || strchr("{}\"' \t\r\n", name.p[i])) return false;
    }
    return true;
}
