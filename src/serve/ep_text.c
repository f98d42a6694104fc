/* ep_text.c - text to tokens and back.  SPDX-License-Identifier: MIT */
#include "base/sys.h"
#include "base/utf8.h"
#include "serve/endpoints.h"
#include "serve/serve_impl.h"

static bool flag(const tug_json *v, const char *key, bool otherwise) {
    const tug_json *b = tug_json_get(v, key);
    return tug_json_is(b, TUG_JSON_BOOL) ? b->v.truth : otherwise;
}

/* A piece of half a character is shown as its bytes. */
static void write_piece(tug_json_writer *w, tug_str bytes) {
    size_t bad = 0;
    if (tug_utf8_valid(bytes.p, bytes.n, &bad)) {
        tug_json_write_str(w, bytes);
        return;
    }
    tug_json_begin_array(w);
    for (size_t i = 0; i < bytes.n; i++) tug_json_write_u64(w, (unsigned char)bytes.p[i]);
    tug_json_end_array(w);
}

static void write_tokens(tug_json_writer *w, const tug_serve *s, const tug_ids *ids,
                         bool pieces) {
    tug_json_begin_object(w);
    tug_json_write_key(w, tug_str_of("tokens"));
    tug_json_begin_array(w);
    for (size_t i = 0; i < ids->n; i++) {
        if (!pieces) {
            tug_json_write_i64(w, ids->p[i]);
            continue;
        }
        tug_json_begin_object(w);
        tug_json_write_key(w, tug_str_of("id"));
        tug_json_write_i64(w, ids->p[i]);
        tug_json_write_key(w, tug_str_of("piece"));
        write_piece(w, tug_tokenizer_bytes(s->vocab, ids->p[i]));
        tug_json_end_object(w);
    }
    tug_json_end_array(w);
    tug_json_end_object(w);
}

static tug_status tokenize(tug_serve *s, const tug_json *body, tug_buf *out,
                           tug_err *err) {
    const tug_json *content = tug_json_get(body, "content");
    if (!tug_json_is(content, TUG_JSON_STRING)) {
        return TUG_FAIL(err, TUG_EFORMAT, "content: it must be a text, not %s",
                        content ? tug_json_kind_text(content) : "missing");
    }
    tug_ids ids = {0};
    tug_status status = TUG_OK;
    const tug_special_ids special = tug_tokenizer_special(s->vocab);
    if (flag(body, "add_special", false) && special.bos != TUG_NO_TOKEN) {
        status = tug_ids_push(&ids, special.bos, err);
    }
    const tug_control_mode mode =
        flag(body, "parse_special", true) ? TUG_CONTROL_PARSED : TUG_CONTROL_IS_TEXT;
    (void)pthread_mutex_lock(&s->front);
    if (status == TUG_OK && content->n > 0) {
        status = tug_encode(s->encoder, tug_json_text(content), mode, &ids, err);
    }
    (void)pthread_mutex_unlock(&s->front);
    if (status == TUG_OK) {
        tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
        write_tokens(&w, s, &ids, flag(body, "with_pieces", false));
        status = tug_buf_ok(out, err);
    }
    tug_ids_free(&ids);
    return status;
}

static tug_status add_token(tug_serve *s, const tug_json *v, size_t i, tug_detok *detok,
                            tug_buf *text, tug_err *err) {
    const double id = tug_json_is(v, TUG_JSON_NUMBER) ? tug_json_f64(v) : -1.0;
    if (!(id >= 0.0 && id < (double)tug_tokenizer_size(s->vocab)) ||
        id != (double)(int32_t)id) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "tokens[%zu]: it must be a token id from 0 to %d", i,
                        tug_tokenizer_size(s->vocab) - 1);
    }
    return tug_detok_add(detok, (int32_t)id, text, err);
}

static tug_status detokenize(tug_serve *s, const tug_json *body, tug_buf *out,
                             tug_err *err) {
    const tug_json *tokens = tug_json_get(body, "tokens");
    if (!tug_json_is(tokens, TUG_JSON_ARRAY)) {
        return TUG_FAIL(err, TUG_EFORMAT, "tokens: it must be an array of token ids");
    }
    tug_buf text = {0};
    tug_detok detok = tug_detok_start(s->vocab, true);
    tug_status status = TUG_OK;
    for (size_t i = 0; i < tokens->n && status == TUG_OK; i++) {
        status = add_token(s, tug_json_at(tokens, i), i, &detok, &text, err);
    }
    if (status == TUG_OK) status = tug_detok_finish(&detok, &text, err);
    if (status == TUG_OK) {
        tug_json_writer w = tug_json_writer_make(out, TUG_JSON_COMPACT);
        tug_json_begin_object(&w);
        tug_json_write_key(&w, tug_str_of("content"));
        tug_json_write_str(&w, tug_buf_view(&text));
        tug_json_end_object(&w);
        status = tug_buf_ok(out, err);
    }
    tug_buf_free(&text);
    return status;
}

typedef tug_status convert_fn(tug_serve *s, const tug_json *body, tug_buf *out,
                              tug_err *err);

static void convert(tug_serve *s, tug_http_exchange *x, tug_api api, convert_fn *fn) {
    tug_arena arena = {0};
    tug_buf out = {0};
    const tug_json *body = NULL;
    tug_err err;
    tug_status status = tug_json_parse(tug_http_body(x), &arena, &body, &err);
    if (status == TUG_OK) status = fn(s, body, &out, &err);
    if (status == TUG_OK) {
        tug_serve_send(x, 200, "application/json", tug_buf_view(&out));
    } else {
        tug_serve_refuse_err(x, api, &err);
    }
    tug_buf_free(&out);
    tug_arena_free(&arena);
}

void tug_ep_tokenize(tug_serve *s, tug_http_exchange *x, tug_api api) {
    convert(s, x, api, tokenize);
}

void tug_ep_detokenize(tug_serve *s, tug_http_exchange *x, tug_api api) {
    convert(s, x, api, detokenize);
}
