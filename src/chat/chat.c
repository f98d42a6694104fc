/* chat.c - growing conversations, and which templates the renderer stands for; see
 * chat.h.  SPDX-License-Identifier: MIT */
#include "chat/chat.h"

#include "base/sys.h"

tug_status tug_chat_log_add(tug_chat_log *log, const char *role, tug_str content,
                            tug_err *err) {
    if (log->n_messages == log->cap) {
        const size_t cap = log->cap ? 2 * log->cap : 16;
        tug_chat_message *grown = tug_realloc_array(log->messages, cap, sizeof *grown);
        if (!grown)
            return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the conversation");
        log->messages = grown;
        log->cap = cap;
    }
    const tug_str role_copy = tug_arena_copy(&log->texts, tug_str_of(role));
    const tug_str content_copy = tug_arena_copy(&log->texts, content);
    if (!role_copy.p || !content_copy.p) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a message of %zu bytes",
                        content.n);
    }
    log->messages[log->n_messages++] =
        (tug_chat_message){.role = role_copy, .content = content_copy};
    return TUG_OK;
}

void tug_chat_log_free(tug_chat_log *log) {
    tug_free(log->messages);
    tug_arena_free(&log->texts);
    *log = (tug_chat_log){0};
}

/* FNV-1a.  Who forges a template to meet it gains the absence of a note. */
static uint64_t hash(tug_str s) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < s.n; i++) h = (h ^ (unsigned char)s.p[i]) * 0x100000001B3u;
    return h;
}

bool tug_chat_template_known(tug_str text) {
    static const struct {
        size_t n;
        uint64_t hash;
    } known[] = {
        {6054, 0x28AAE1A2CADF24E0u}, /* Qwen3-Coder-Next (sha256 d98b7dda9f1f...) */
        {4069, 0x4491A837E0412877u}, /* our own: tools/train/chat_template.jinja */
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (text.n == known[i].n && hash(text) == known[i].hash) return true;
    }
    return false;
}
