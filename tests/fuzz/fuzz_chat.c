/* fuzz_chat.c - any bytes as a chat request: refused, or rendered as valid UTF-8 whose
 * segments cover it, control ones being control tokens.  SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "base/utf8.h"
#include "chat/chat.h"
#include "chat/chat_request.h"
#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_prompt(const tug_chat_prompt *p) {
    TUG_CHECK(tug_utf8_valid(p->text.p, p->text.n, NULL));
    size_t at = 0;
    for (size_t i = 0; i < p->n_segments; i++) {
        const tug_str text = tug_chat_segment_text(p, i);
        TUG_CHECK(p->segments[i].at == at && text.n > 0);
        TUG_CHECK(!p->segments[i].control || tug_str_is(text, "<|im_start|>") ||
                  tug_str_is(text, "<|im_end|>"));
        at += text.n;
    }
    TUG_CHECK(at == p->text.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tug_arena arena = {0};
    const tug_json *request;
    tug_chat chat;
    tug_chat_prompt prompt = {0};
    const tug_str in = tug_str_make((const char *)data, size);
    if (tug_json_parse(in, &arena, &request, NULL) == TUG_OK &&
        tug_chat_from_json(request, &arena, &chat, NULL) == TUG_OK) {
        TUG_CHECK(tug_chat_render(&chat, &prompt, NULL) == TUG_OK);
        check_prompt(&prompt);
    }
    tug_chat_prompt_free(&prompt);
    tug_arena_free(&arena);
    return 0;
}
