/* request.c - see request.h.  SPDX-License-Identifier: MIT */
#include <math.h>

#include "api/request_impl.h"

static const tug_api_sampling not_said = {
    .temperature = NAN,
    .top_p = NAN,
    .min_p = NAN,
    .repeat_penalty = NAN,
    .presence_penalty = NAN,
    .frequency_penalty = NAN,
    .top_k = INT32_MIN,
};

tug_status tug_api_parse(tug_api api, tug_str body, tug_arena *arena,
                         tug_api_request *out, tug_err *err) {
    *out = (tug_api_request){.api = api,
                             .parallel = true,
                             .n_choices = 1,
                             .cache_prompt = true,
                             .sampling = not_said};
    const tug_json *json;
    TUG_TRY(tug_json_parse(body, arena, &json, err));
    if (json->kind != TUG_JSON_OBJECT) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "the body is %s; it must be a JSON object with the fields of the "
                        "request",
                        tug_json_kind_text(json));
    }
    out->as_sent = json;
    switch (api) {
    case TUG_API_CHAT: return tug_api_parse_chat(json, arena, out, err);
    case TUG_API_COMPLETIONS: return tug_api_parse_completions(json, arena, out, err);
    case TUG_API_RESPONSES: return tug_api_parse_responses(json, arena, out, err);
    case TUG_API_MESSAGES: break;
    }
    return tug_api_parse_messages(json, arena, out, err);
}
