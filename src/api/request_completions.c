/* request_completions.c - bodies of POST /v1/completions.  SPDX-License-Identifier: MIT */
#include "api/request_impl.h"

static tug_status read_ids(const tug_json *ids, const char *path, tug_arena *arena,
                           tug_api_request *out, tug_err *err) {
    int32_t *const id = tug_arena_array(arena, ids->n, sizeof *id);
    if (!id) return tug_field_no_memory(err);
    for (size_t i = 0; i < ids->n; i++) {
        int64_t value;
        const tug_field_path at = tug_field_path_make("%s[%zu]", path, i);
        TUG_TRY(
            tug_field_value_i64(tug_json_at(ids, i), at.text, 0, INT32_MAX, &value, err));
        id[i] = (int32_t)value;
    }
    out->prompt_ids = id;
    out->n_prompt_ids = ids->n;
    return TUG_OK;
}

/* An array: of token ids, of one text, or of one array of token ids. */
static tug_status read_prompt_array(const tug_json *v, tug_arena *arena,
                                    tug_api_request *out, tug_err *err) {
    if (v->n == 0) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "prompt is an empty array; it must be a text or an array of "
                        "token ids");
    }
    const tug_json *const first = tug_json_at(v, 0);
    if (first->kind == TUG_JSON_NUMBER) return read_ids(v, "prompt", arena, out, err);
    if (first->kind != TUG_JSON_STRING && first->kind != TUG_JSON_ARRAY) {
        return tug_field_wrong(err, "prompt[0]", "", first,
                               "a text, a token id or an array of token ids");
    }
    if (v->n > 1) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "prompt has %u prompts; send them one by one, each in a request "
                        "of its own",
                        (unsigned)v->n);
    }
    if (first->kind == TUG_JSON_ARRAY) {
        if (first->n > 0) return read_ids(first, "prompt[0]", arena, out, err);
        return TUG_FAIL(
            err, TUG_EFORMAT,
            "prompt[0] is an empty array; it must have at least one token id");
    }
    out->prompt = tug_json_text(first);
    return TUG_OK;
}

static tug_status read_prompt(const tug_json *body, tug_arena *arena,
                              tug_api_request *out, tug_err *err) {
    const tug_json *const v = tug_json_get(body, "prompt");
    if (tug_json_is(v, TUG_JSON_ARRAY)) {
        TUG_TRY(read_prompt_array(v, arena, out, err));
    } else if (tug_json_is(v, TUG_JSON_STRING)) {
        out->prompt = tug_json_text(v);
    } else {
        return tug_field_wrong(err, "", "prompt", v, "a text or an array of token ids");
    }
    TUG_TRY(tug_field_str(body, "", "suffix", &out->suffix, err));
    TUG_TRY(tug_field_bool(body, "", "echo", &out->echo, err));
    if (out->prompt_ids && (out->suffix.p || out->echo)) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s needs a prompt that is a text; send the text instead of "
                        "token ids",
                        out->suffix.p ? "suffix" : "echo");
    }
    return TUG_OK;
}

tug_status tug_api_parse_completions(const tug_json *body, tug_arena *arena,
                                     tug_api_request *out, tug_err *err) {
    int64_t top = -1;
    TUG_TRY(tug_api_read_common(body, out, err));
    TUG_TRY(tug_api_read_stream_options(body, out, err));
    TUG_TRY(tug_field_str(body, "", "prompt_cache_key", &out->session, err));
    TUG_TRY(read_prompt(body, arena, out, err));
    TUG_TRY(tug_api_read_limit(body, "max_tokens", out, err));
    TUG_TRY(tug_api_read_stop(body, "stop", arena, out, err));
    TUG_TRY(tug_api_read_n(body, out, err));
    TUG_TRY(tug_field_i64(body, "", "logprobs", 0, 20, &top, err));
    out->logprobs = top >= 0;
    out->top_logprobs = top > 0 ? (int32_t)top : 0;
    TUG_TRY(tug_api_refuse_grammar(body, err));
    return tug_api_read_sampling(body, arena, &out->sampling, err);
}
