/* prompt.c - see prompt.h.  SPDX-License-Identifier: MIT */
#include "cli/prompt.h"

#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/utf8.h"
#include "chat/chat.h"

/* The tokenizer's own limit. */
#define MAX_TEXT_BYTES ((size_t)512 << 20)

tug_status cli_check_utf8(const char *what, tug_str text, tug_err *err) {
    size_t bad_at = 0;
    if (tug_utf8_valid(text.p, text.n, &bad_at)) return TUG_OK;
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s is not UTF-8: byte %zu is wrong; convert it first, for example "
                    "with iconv",
                    what, bad_at);
}

tug_status cli_read_text(const char *path, tug_buf *out, tug_err *err) {
    if (strcmp(path, "-") == 0) {
        TUG_TRY(tug_read_all(STDIN_FILENO, "standard input", MAX_TEXT_BYTES, out, err));
        return cli_check_utf8("standard input", tug_buf_view(out), err);
    }
    tug_file f;
    TUG_TRY(tug_file_open(&f, path, err));
    const tug_status status = tug_read_all(f.fd, path, MAX_TEXT_BYTES, out, err);
    tug_file_close(&f);
    TUG_TRY(status);
    return cli_check_utf8(path, tug_buf_view(out), err);
}

tug_status cli_encode_plain(const tug_tokenizer *vocab, tug_str text,
                            tug_control_mode mode, tug_ids *out, tug_err *err) {
    const tug_special_ids special = tug_tokenizer_special(vocab);
    if (special.add_bos && special.bos != TUG_NO_TOKEN) {
        TUG_TRY(tug_ids_push(out, special.bos, err));
    }
    tug_encoder *e = NULL;
    TUG_TRY(tug_encoder_create(&e, vocab, err));
    const tug_status status = tug_encode(e, text, mode, out, err);
    tug_encoder_destroy(&e);
    return status;
}

static tug_status encode_segments(tug_encoder *e, const tug_chat_prompt *prompt,
                                  tug_ids *out, tug_err *err) {
    for (size_t i = 0; i < prompt->n_segments; i++) {
        const tug_control_mode mode =
            prompt->segments[i].control ? TUG_CONTROL_PARSED : TUG_CONTROL_IS_TEXT;
        TUG_TRY(tug_encode(e, tug_chat_segment_text(prompt, i), mode, out, err));
    }
    return TUG_OK;
}

tug_status cli_encode_turn(tug_encoder *e, const char *system, tug_str user, tug_ids *out,
                           tug_err *err) {
    tug_chat_message messages[2];
    size_t n = 0;
    if (system) messages[n++] = tug_chat_text("system", tug_str_of(system));
    messages[n++] = tug_chat_text("user", user);
    const tug_chat chat = {
        .messages = messages, .n_messages = n, .add_generation_prompt = true};
    tug_chat_prompt prompt = {0};
    tug_status status = tug_chat_render(&chat, &prompt, err);
    if (status == TUG_OK) status = encode_segments(e, &prompt, out, err);
    tug_chat_prompt_free(&prompt);
    return status;
}

tug_status cli_chat_check(const tug_model *model, int32_t *turn_end, tug_err *err) {
    static const char *const markers[] = {"<|im_start|>", "<|im_end|>"};
    for (size_t i = 0; i < 2; i++) {
        *turn_end =
            tug_tokenizer_find(tug_model_tokenizer(model), tug_str_of(markers[i]));
        if (*turn_end != TUG_NO_TOKEN) continue;
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "this model has no token %s, so it cannot chat; leave out --chat",
                        markers[i]);
    }
    size_t n = 0;
    const char *template = tug_model_chat_template(model, &n);
    if (!template || !tug_chat_template_known(tug_str_make(template, n))) {
        (void)fprintf(stderr,
                      "tug: note: the file has %s chat template; using the one of "
                      "Qwen3-Coder-Next\n",
                      template ? "another" : "no");
    }
    return TUG_OK;
}
