/* tool.h - a tool that a request offers to the model.  SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_TOOL_H
#define TUG_CALLS_TOOL_H

#include "base/str.h"
#include "json/json.h"

typedef struct tug_tool {
    tug_str name;               /* as the model sees and writes it */
    const tug_json *parameters; /* a JSON Schema; anything a client sent, or NULL: none */
} tug_tool;

typedef struct tug_tools {
    const tug_tool *tool; /* borrowed, (n,) */
    size_t n;
} tug_tools;

/* What the client allows. */
typedef enum tug_tool_choice {
    TUG_TOOLS_AUTO = 0,
    TUG_TOOLS_NONE, /* the tools stay in the prompt, a call is neither made nor read */
    TUG_TOOLS_REQUIRED, /* at least one call */
    TUG_TOOLS_NAMED     /* a call of this one tool */
} tug_tool_choice;

#endif
