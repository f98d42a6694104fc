/* request.h - one request model behind every API.
 *
 * OWNS  reading chat/completions, completions, responses and messages bodies into one
 *       struct; every rule about odd values of those fields (docs/API.md lists them).
 * NOT   sockets, tokens, limits of the model.
 *
 * Unknown fields are ignored.  A wrong one is TUG_EFORMAT (or TUG_EUNSUPPORTED) with a
 * sentence that begins with its path, like `messages[3].content`; the server answers 400.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_API_REQUEST_H
#define TUG_API_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"
#include "calls/constraint.h"
#include "calls/tool.h"
#include "chat/chat.h"
#include "json/json.h"

typedef enum tug_api {
    TUG_API_CHAT,        /* POST /v1/chat/completions */
    TUG_API_COMPLETIONS, /* POST /v1/completions */
    TUG_API_RESPONSES,   /* POST /v1/responses */
    TUG_API_MESSAGES     /* POST /v1/messages */
} tug_api;

/* How the answer shows a call of the tool with the same index in `tools`. */
typedef enum tug_tool_kind {
    TUG_TOOL_FUNCTION,
    TUG_TOOL_CUSTOM, /* responses: its one parameter `input` is the text of the call */
    TUG_TOOL_LOCAL_SHELL /* responses: its parameter `command` */
} tug_tool_kind;

typedef struct tug_api_tool {
    tug_tool_kind kind;
    tug_str name;  /* as the client calls it, without its namespace */
    tug_str space; /* the namespace it came in, or empty */
} tug_api_tool;

typedef struct tug_api_bias {
    int32_t id; /* not checked against a vocabulary */
    float bias; /* -100 to 100; -100 bans, 100 forces nearly always */
} tug_api_bias;

/* Sampling as far as the request says; NAN and INT32_MIN and has_seed false: not said. */
typedef struct tug_api_sampling {
    float temperature, top_p, min_p;
    float repeat_penalty, presence_penalty, frequency_penalty;
    int32_t top_k;
    bool has_seed;
    uint64_t seed;
    const tug_api_bias *bias; /* (n_bias,) */
    size_t n_bias;
} tug_api_sampling;

typedef struct tug_api_request {
    tug_api api;
    tug_str model; /* as sent; empty: none */
    bool stream, include_usage;
    bool return_progress; /* prompt_progress in a chat stream */
    bool functions; /* chat: `functions` instead of tools; answered by function_call */

    /* chat, responses, messages */
    tug_chat chat;             /* system first; developer mapped; order kept */
    tug_tools tools;           /* what the model may call, names unique */
    const tug_api_tool *shown; /* (tools.n,) */
    tug_tool_choice choice;
    tug_str named;
    bool parallel;

    /* completions: exactly one of them; suffix.p != NULL: fill in the middle */
    tug_str prompt;
    const int32_t *prompt_ids; /* (n_prompt_ids,), not checked against a vocabulary */
    size_t n_prompt_ids;
    tug_str suffix;
    bool echo;

    int64_t max_tokens;  /* 0: as far as the context goes */
    const tug_str *stop; /* (n_stop,), none empty */
    size_t n_stop;
    int32_t n_choices; /* 1 .. TUG_API_MAX_CHOICES */
    bool logprobs;
    int32_t top_logprobs; /* 0 .. 20 */
    tug_api_sampling sampling;

    tug_answer_format format;
    const tug_json *schema;
    tug_str session;   /* hint for the prompt cache: whatever names the conversation */
    bool cache_prompt; /* false: nothing is reused */
    const tug_json *as_sent; /* the OBJECT, for what the answer echoes */
} tug_api_request;

enum { TUG_API_MAX_CHOICES = 8, TUG_API_MAX_STOPS = 64 };

/* `body` is the request's bytes.  *out borrows from `arena` only. */
TUG_NODISCARD tug_status tug_api_parse(tug_api api, tug_str body, tug_arena *arena,
                                       tug_api_request *out, tug_err *err);

#endif
