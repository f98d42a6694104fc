/* prompt_ids.h - the tokens of a chat: turns that the model wrote itself come back as it
 * wrote them, everything else is encoded.
 *
 *     tug_chat chat = request.chat;
 *     tug_prompt_recall(replay, space, tokenizer, &chat, &arena, &turns, &err);
 *     tug_chat_render(&chat, &prompt, &err);
 *     tug_prompt_ids_build(encoder, tokenizer, &prompt, turns, &out, &err);
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_PROMPT_IDS_H
#define TUG_SERVE_PROMPT_IDS_H

#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "chat/chat.h"
#include "serve/replay.h"
#include "tokenizer/tokenizer.h"

/* The recorded tokens of one message. */
typedef struct tug_prompt_turn {
    const int32_t *ids; /* (n,) in the arena; NULL: not known */
    size_t n;
} tug_prompt_turn;

/* Looks up the assistant's turns of `chat`.  The known ones get their `raw` text: chat's
 * messages are then a copy in the arena.  *turns is (chat->n_messages,).  A turn that the
 * model is to continue is not looked up. */
TUG_NODISCARD tug_status tug_prompt_recall(tug_replay *replay, int64_t space,
                                           const tug_tokenizer *tk, tug_chat *chat,
                                           tug_arena *arena,
                                           const tug_prompt_turn **turns, tug_err *err);

/* Zero-initialise it; free is always safe. */
typedef struct tug_prompt_ids {
    tug_ids ids;
    /* Places for save points, in tokens: before the first user turn (the system turn with
     * the tools is behind it), and before the last turn that is not the open one.  0: there
     * is none. */
    int64_t head, last_turn;
    int64_t n_recalled; /* tokens that were recorded ones */
} tug_prompt_ids;

/* `turns` as tug_prompt_recall gave them for the chat that `prompt` was rendered from, or
 * NULL.  `out` is zero-initialised or used before. */
TUG_NODISCARD tug_status tug_prompt_ids_build(tug_encoder *encoder,
                                              const tug_tokenizer *tk,
                                              const tug_chat_prompt *prompt,
                                              const tug_prompt_turn *turns,
                                              tug_prompt_ids *out, tug_err *err);
void tug_prompt_ids_free(tug_prompt_ids *p);

#endif
