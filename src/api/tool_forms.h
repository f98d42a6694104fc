/* tool_forms.h - tools of responses and messages, as the model is shown them.
 *
 * Only what describes a tool gets into the prompt.  Marks for the client's own use (strict,
 * cache_control, defer_loading) would be shown to the model as if they did.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_API_TOOL_FORMS_H
#define TUG_API_TOOL_FORMS_H

#include "api/request_impl.h"

/* {name, description, parameters}; about.p and parameters may be NULL.  NULL: no memory. */
const tug_json *tug_tool_form(tug_arena *arena, tug_str name, tug_str about,
                              const tug_json *parameters);

/* Refuses a list that is too long, tools that are passed over included: each one is looked
 * for among the others. */
TUG_NODISCARD tug_status tug_tools_count(const tug_json *tools, const char *path,
                                         tug_err *err);

/* `tools` and `tool_choice` of a responses body. */
TUG_NODISCARD tug_status tug_responses_read_tools(const tug_json *body, tug_arena *arena,
                                                  tug_api_request *out, tug_err *err);

/* What the model calls the tool `name` of the namespace `space` (may be empty): also when
 * the request does not offer it any more.  p NULL: no memory. */
tug_str tug_responses_tool_name(const tug_api_request *request, tug_str space,
                                tug_str name, tug_arena *arena);

#endif
