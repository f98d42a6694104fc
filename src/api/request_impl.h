/* request_impl.h - what the readers of the APIs share.  For src/api only.
 *
 * tug_api_parse (request.c) has parsed the body, put the defaults into *out and calls one
 * of the readers; a reader fills in what its API says.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_API_REQUEST_IMPL_H
#define TUG_API_REQUEST_IMPL_H

#include "api/fields.h"
#include "api/request.h"

/* `body` is an OBJECT; *out holds the defaults, api and as_sent. */
TUG_NODISCARD tug_status tug_api_parse_chat(const tug_json *body, tug_arena *arena,
                                            tug_api_request *out, tug_err *err);
TUG_NODISCARD tug_status tug_api_parse_completions(const tug_json *body, tug_arena *arena,
                                                   tug_api_request *out, tug_err *err);
TUG_NODISCARD tug_status tug_api_parse_responses(const tug_json *body, tug_arena *arena,
                                                 tug_api_request *out, tug_err *err);
TUG_NODISCARD tug_status tug_api_parse_messages(const tug_json *body, tug_arena *arena,
                                                tug_api_request *out, tug_err *err);

/* ---- fields that mean the same in several APIs (request_fields.c) --------------------- */

/* model, stream, cache_prompt */
TUG_NODISCARD tug_status tug_api_read_common(const tug_json *body, tug_api_request *out,
                                             tug_err *err);

/* temperature, top_p, top_k, min_p, repeat_penalty or repetition_penalty,
 * presence_penalty, frequency_penalty, seed, logit_bias */
TUG_NODISCARD tug_status tug_api_read_sampling(const tug_json *body, tug_arena *arena,
                                               tug_api_sampling *out, tug_err *err);

/* A string, an array of strings, or none; empty ones are dropped. */
TUG_NODISCARD tug_status tug_api_read_stop(const tug_json *body, const char *key,
                                           tug_arena *arena, tug_api_request *out,
                                           tug_err *err);

/* max_tokens under the API's name for it: -1, 0, null: none. */
TUG_NODISCARD tug_status tug_api_read_limit(const tug_json *body, const char *key,
                                            tug_api_request *out, tug_err *err);

/* `format` is the value of chat's response_format, of responses' text.format or of
 * messages' output_config.format (NULL: none); `path` names it.  The schema lies in
 * `json_schema.schema` or in `schema`. */
TUG_NODISCARD tug_status tug_api_read_format(const tug_json *format, const char *path,
                                             tug_api_request *out, tug_err *err);

/* stream_options.include_usage */
TUG_NODISCARD tug_status tug_api_read_stream_options(const tug_json *body,
                                                     tug_api_request *out, tug_err *err);

/* TUG_EUNSUPPORTED when the request has a grammar: an answer that ignores it would be one
 * that its client cannot read. */
TUG_NODISCARD tug_status tug_api_refuse_grammar(const tug_json *body, tug_err *err);

/* Does a chat request say `functions` where it would say `tools` today?  Its answer then
 * has a function_call, and only one. */
bool tug_api_is_legacy(const tug_api_request *request);

/* n: 1 to TUG_API_MAX_CHOICES */
TUG_NODISCARD tug_status tug_api_read_n(const tug_json *body, tug_api_request *out,
                                        tug_err *err);

/* ---- building JSON (request_build.c) --------------------------------------------------- */

/* Values that live in the arena; NULL: out of memory. */
const tug_json *tug_api_json_str(tug_arena *arena, tug_str text);

/* An OBJECT of n members that can be filled in: key i is value [2 i] and its value
 * [2 i + 1] of *members.  Keys are static strings or live as long as the arena. */
tug_json *tug_api_json_object(tug_arena *arena, size_t n, tug_json **members);
void tug_api_json_member(tug_json *members, size_t i, const char *key,
                         const tug_json *value);

/* ---- messages (request_build.c) -------------------------------------------------------- */

/* Turns in order.  Zero-initialise it with the arena. */
typedef struct tug_api_messages {
    tug_arena *arena;
    tug_chat_message *m; /* (n of cap,), in the arena */
    size_t n, cap;
    tug_chat_call *calls; /* of the last turn, (its n_calls of cap_calls,) */
    size_t cap_calls;
} tug_api_messages;

/* `content` is borrowed; p NULL: none. */
TUG_NODISCARD tug_status tug_api_messages_add(tug_api_messages *list, const char *role,
                                              tug_str content, tug_err *err);
/* A call of the last turn, if that is the assistant's, or else of a new one. `arguments`:
 * an OBJECT or NULL, see tug_chat_arguments. */
TUG_NODISCARD tug_status tug_api_messages_add_call(tug_api_messages *list,
                                                   tug_chat_call call, tug_err *err);
/* Into out->chat; the list is not used any more. */
void tug_api_messages_end(const tug_api_messages *list, tug_api_request *out);

/* ---- tools (request_build.c) ----------------------------------------------------------- */

enum { TUG_API_MAX_TOOLS = 4096 };

typedef struct tug_api_tools {
    tug_arena *arena;
    tug_tool *tool;      /* (n of cap,), in the arena, like the next two */
    tug_api_tool *shown; /* (n of cap,) */
    tug_json *sent;      /* (n of cap,): as the chat template gets them */
    size_t n, cap;
} tug_api_tools;

/* Is there a tool that the model knows by this name?  SIZE_MAX: no. */
size_t tug_api_tools_find(const tug_api_tools *list, tug_str name);

/* `tool.name` is what the model sees, `prompt_form` the OpenAI-style tool for the
 * template ({name, description, parameters}, bare or inside of `function`).  A second tool
 * of one name is passed over: the model cannot tell them apart, and neither could the
 * client.  Names that the call format cannot carry are refused; `path` names the tool. */
TUG_NODISCARD tug_status tug_api_tools_add(tug_api_tools *list, const char *path,
                                           tug_tool tool, tug_api_tool shown,
                                           const tug_json *prompt_form, tug_err *err);
/* Into out->tools, out->shown and out->chat.tools. */
TUG_NODISCARD tug_status tug_api_tools_end(const tug_api_tools *list,
                                           tug_api_request *out, tug_err *err);

/* After tug_api_tools_end: sets out->choice.  `name` is for TUG_TOOLS_NAMED and must be
 * one of out->shown's; required and named need at least one tool. */
TUG_NODISCARD tug_status tug_api_set_choice(tug_api_request *out, const char *path,
                                            tug_tool_choice choice, tug_str name,
                                            tug_err *err);

#endif
