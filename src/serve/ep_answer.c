/* ep_answer.c - prompts: made, counted, shown, and put in line to be answered.
 * SPDX-License-Identifier: MIT */
#include "base/sys.h"
#include "chat/chat.h"
#include "serve/endpoints.h"
#include "serve/serve_impl.h"

/* ---- the prompt of a request --------------------------------------------------------- */

static tug_status chat_prompt(tug_serve *s, const tug_api_request *r, tug_arena *arena,
                              int64_t space, tug_prompt_ids *out, tug_buf *rendered,
                              tug_err *err) {
    tug_chat chat = r->chat;
    const tug_prompt_turn *turns = NULL;
    tug_chat_prompt prompt = {0};
    TUG_TRY(tug_prompt_recall(s->replay, space, s->vocab, &chat, arena, &turns, err));
    tug_status status = tug_chat_render(&chat, &prompt, err);
    if (status == TUG_OK) {
        (void)pthread_mutex_lock(&s->front);
        status = tug_prompt_ids_build(s->encoder, s->vocab, &prompt, turns, out, err);
        (void)pthread_mutex_unlock(&s->front);
        tug_buf_str(rendered, tug_buf_view(&prompt.text));
    }
    tug_chat_prompt_free(&prompt);
    return status;
}

/* The tokens around a gap that the model fills. */
static tug_status push_named(tug_serve *s, const char *name, tug_ids *out, tug_err *err) {
    const int32_t id = tug_tokenizer_find(s->vocab, tug_str_of(name));
    if (id == TUG_NO_TOKEN) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "suffix: this model has no token %s, so it cannot fill a gap",
                        name);
    }
    return tug_ids_push(out, id, err);
}

static tug_status encode(tug_serve *s, tug_str text, tug_control_mode mode, tug_ids *out,
                         tug_err *err) {
    return text.n > 0 ? tug_encode(s->encoder, text, mode, out, err) : TUG_OK;
}

static tug_status gap_prompt(tug_serve *s, const tug_api_request *r, tug_ids *out,
                             tug_err *err) {
    TUG_TRY(push_named(s, "<|fim_prefix|>", out, err));
    TUG_TRY(encode(s, r->prompt, TUG_CONTROL_IS_TEXT, out, err));
    TUG_TRY(push_named(s, "<|fim_suffix|>", out, err));
    TUG_TRY(encode(s, r->suffix, TUG_CONTROL_IS_TEXT, out, err));
    return push_named(s, "<|fim_middle|>", out, err);
}

static tug_status plain_prompt(tug_serve *s, const tug_api_request *r, tug_ids *out,
                               tug_err *err) {
    for (size_t i = 0; i < r->n_prompt_ids; i++) {
        TUG_TRY(tug_ids_push(out, r->prompt_ids[i], err));
    }
    if (r->n_prompt_ids > 0) return TUG_OK;
    const tug_special_ids special = tug_tokenizer_special(s->vocab);
    if (special.add_bos && special.bos != TUG_NO_TOKEN) {
        TUG_TRY(tug_ids_push(out, special.bos, err));
    }
    (void)pthread_mutex_lock(&s->front);
    /* Editors write their own gaps with control tokens in the text. */
    const tug_status status = r->suffix.p
                                  ? gap_prompt(s, r, out, err)
                                  : encode(s, r->prompt, TUG_CONTROL_PARSED, out, err);
    (void)pthread_mutex_unlock(&s->front);
    return status;
}

tug_status tug_serve_prompt(tug_serve *s, const tug_api_request *r, tug_arena *arena,
                            int64_t space, tug_prompt_ids *out, tug_buf *rendered,
                            tug_err *err) {
    if (r->api == TUG_API_COMPLETIONS) {
        tug_buf_str(rendered, r->prompt);
        return plain_prompt(s, r, &out->ids, err);
    }
    TUG_TRY(chat_prompt(s, r, arena, space, out, rendered, err));
    return tug_buf_ok(rendered, err);
}

/* ---- endpoints ----------------------------------------------------------------------- */

void tug_ep_answer(tug_serve *s, tug_http_exchange *x, tug_api api) {
    tug_job *job = NULL;
    if (!tug_serve_reserve(s)) {
        tug_serve_refuse(x, api, TUG_FAULT_UNAVAILABLE,
                         tug_str_of("too many requests are waiting; try again in a "
                                    "moment"));
        return;
    }
    tug_job_create(&job, s, x, api);
    if (job) {
        tug_serve_enqueue(s, job);
    } else {
        tug_serve_unreserve(s);
    }
}

static tug_status counted(tug_serve *s, tug_http_exchange *x, tug_api api,
                          tug_arena *arena, tug_prompt_ids *ids, tug_buf *rendered,
                          tug_err *err) {
    tug_api_request r;
    TUG_TRY(tug_api_parse(api, tug_http_body(x), arena, &r, err));
    return tug_serve_prompt(s, &r, arena, tug_http_key(x), ids, rendered, err);
}

typedef void write_fn(tug_json_writer *w, const tug_prompt_ids *ids, tug_str text);

static void about_prompt(tug_serve *s, tug_http_exchange *x, tug_api api,
                         write_fn *write) {
    tug_arena arena = {0};
    tug_prompt_ids ids = {0};
    tug_buf rendered = {0}, body = {0};
    tug_err err;
    const tug_status status = counted(s, x, api, &arena, &ids, &rendered, &err);
    if (status == TUG_OK) {
        tug_json_writer w = tug_json_writer_make(&body, TUG_JSON_COMPACT);
        write(&w, &ids, tug_buf_view(&rendered));
        tug_serve_send(x, 200, "application/json", tug_buf_view(&body));
    } else {
        tug_serve_refuse_err(x, api, &err);
    }
    tug_buf_free(&body);
    tug_buf_free(&rendered);
    tug_prompt_ids_free(&ids);
    tug_arena_free(&arena);
}

static void write_messages_count(tug_json_writer *w, const tug_prompt_ids *ids,
                                 tug_str text) {
    (void)text;
    tug_json_begin_object(w);
    tug_json_write_key(w, tug_str_of("input_tokens"));
    tug_json_write_u64(w, ids->ids.n);
    tug_json_end_object(w);
}

static void write_count(tug_json_writer *w, const tug_prompt_ids *ids, tug_str text) {
    (void)text;
    tug_json_begin_object(w);
    tug_json_write_key(w, tug_str_of("object"));
    tug_json_write_str(w, tug_str_of("response.input_tokens"));
    tug_json_write_key(w, tug_str_of("input_tokens"));
    tug_json_write_u64(w, ids->ids.n);
    tug_json_end_object(w);
}

static void write_prompt(tug_json_writer *w, const tug_prompt_ids *ids, tug_str text) {
    (void)ids;
    tug_json_begin_object(w);
    tug_json_write_key(w, tug_str_of("prompt"));
    tug_json_write_str(w, text);
    tug_json_end_object(w);
}

void tug_ep_count(tug_serve *s, tug_http_exchange *x, tug_api api) {
    about_prompt(s, x, api, api == TUG_API_MESSAGES ? write_messages_count : write_count);
}

void tug_ep_apply_template(tug_serve *s, tug_http_exchange *x, tug_api api) {
    about_prompt(s, x, api, write_prompt);
}
