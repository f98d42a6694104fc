/* prompt_ids.c - see prompt_ids.h.  SPDX-License-Identifier: MIT */
#include "serve/prompt_ids.h"

/* ---- recall -------------------------------------------------------------------------- */

static tug_status no_memory(tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the turns of the conversation");
}

/* Is it a finished turn of the model? */
static bool is_finished_turn(const tug_chat *chat, size_t i) {
    const tug_chat_message *m = &chat->messages[i];
    if (!tug_str_is(m->role, "assistant")) return false;
    return i + 1 < chat->n_messages || m->n_calls > 0 || !chat->add_generation_prompt;
}

static tug_status find_turn(tug_replay *replay, int64_t space, const tug_chat_message *m,
                            tug_arena *arena, tug_ids *ids, bool *found, tug_err *err) {
    tug_str *call_ids = tug_arena_array(arena, m->n_calls, sizeof *call_ids);
    if (!call_ids) return no_memory(err);
    for (size_t i = 0; i < m->n_calls; i++) call_ids[i] = m->calls[i].id;
    const tug_replay_key key = {
        .space = space, .call_ids = call_ids, .n_calls = m->n_calls, .text = m->content};
    ids->n = 0;
    *found = tug_replay_find(replay, &key, ids);
    return TUG_OK;
}

/* The text of the tokens, for who wants to see the prompt. */
static tug_status text_of(const tug_tokenizer *tk, const tug_ids *ids, tug_buf *text,
                          tug_err *err) {
    tug_detok detok = tug_detok_start(tk, true);
    tug_buf_clear(text);
    for (size_t i = 0; i < ids->n; i++) {
        TUG_TRY(tug_detok_add(&detok, ids->p[i], text, err));
    }
    return tug_detok_finish(&detok, text, err);
}

static tug_status keep_turn(const tug_ids *ids, const tug_buf *text, tug_arena *arena,
                            tug_prompt_turn *turn, tug_str *raw, tug_err *err) {
    int32_t *copy = tug_arena_array(arena, ids->n, sizeof *copy);
    *raw = tug_arena_copy(arena, tug_buf_view(text));
    if (!copy || !raw->p) return no_memory(err);
    for (size_t i = 0; i < ids->n; i++) copy[i] = ids->p[i];
    *turn = (tug_prompt_turn){copy, ids->n};
    return TUG_OK;
}

static tug_status recall_all(tug_replay *replay, int64_t space, const tug_tokenizer *tk,
                             const tug_chat *chat, tug_arena *arena,
                             tug_chat_message *messages, tug_prompt_turn *turns,
                             tug_ids *ids, tug_buf *text, tug_err *err) {
    for (size_t i = 0; i < chat->n_messages; i++) {
        bool found = false;
        messages[i] = chat->messages[i];
        turns[i] = (tug_prompt_turn){NULL, 0};
        if (!is_finished_turn(chat, i)) continue;
        TUG_TRY(find_turn(replay, space, &messages[i], arena, ids, &found, err));
        if (!found) continue;
        TUG_TRY(text_of(tk, ids, text, err));
        TUG_TRY(keep_turn(ids, text, arena, &turns[i], &messages[i].raw, err));
    }
    return TUG_OK;
}

tug_status tug_prompt_recall(tug_replay *replay, int64_t space, const tug_tokenizer *tk,
                             tug_chat *chat, tug_arena *arena,
                             const tug_prompt_turn **turns, tug_err *err) {
    *turns = NULL;
    const size_t n = chat->n_messages;
    tug_chat_message *messages = tug_arena_array(arena, n, sizeof *messages);
    tug_prompt_turn *found = tug_arena_array(arena, n, sizeof *found);
    if (!messages || !found) return no_memory(err);
    tug_ids ids = {0};
    tug_buf text = {0};
    const tug_status s =
        recall_all(replay, space, tk, chat, arena, messages, found, &ids, &text, err);
    tug_ids_free(&ids);
    tug_buf_free(&text);
    TUG_TRY(s);
    chat->messages = messages;
    *turns = found;
    return TUG_OK;
}

/* ---- build --------------------------------------------------------------------------- */

/* Appends one segment's tokens. */
static tug_status add_segment(tug_encoder *e, const tug_chat_prompt *prompt, size_t i,
                              const tug_prompt_turn *turns, tug_prompt_ids *out,
                              tug_err *err) {
    const tug_chat_segment *s = &prompt->segments[i];
    const tug_prompt_turn *turn = turns && s->message >= 0 ? &turns[s->message] : NULL;
    if (!turn || !turn->ids) {
        return tug_encode(e, tug_chat_segment_text(prompt, i),
                          s->control ? TUG_CONTROL_PARSED : TUG_CONTROL_IS_TEXT,
                          &out->ids, err);
    }
    for (size_t k = 0; k < turn->n; k++) {
        TUG_TRY(tug_ids_push(&out->ids, turn->ids[k], err));
    }
    out->n_recalled += (int64_t)turn->n;
    return TUG_OK;
}

static bool is_control(const tug_chat_prompt *prompt, size_t i, const char *text) {
    return prompt->segments[i].control &&
           tug_str_is(tug_chat_segment_text(prompt, i), text);
}

static bool is_user_turn(const tug_chat_prompt *prompt, size_t i) {
    return i + 1 < prompt->n_segments &&
           tug_str_starts(tug_chat_segment_text(prompt, i + 1), tug_str_of("user\n"));
}

static tug_status add_bos(const tug_tokenizer *tk, tug_ids *out, tug_err *err) {
    const tug_special_ids special = tug_tokenizer_special(tk);
    if (!special.add_bos || special.bos == TUG_NO_TOKEN) return TUG_OK;
    return tug_ids_push(out, special.bos, err);
}

tug_status tug_prompt_ids_build(tug_encoder *encoder, const tug_tokenizer *tk,
                                const tug_chat_prompt *prompt,
                                const tug_prompt_turn *turns, tug_prompt_ids *out,
                                tug_err *err) {
    out->ids.n = 0;
    out->head = out->last_turn = out->n_recalled = 0;
    TUG_TRY(add_bos(tk, &out->ids, err));
    int64_t turn_at = 0;
    bool seen_user = false;
    for (size_t i = 0; i < prompt->n_segments; i++) {
        const int64_t at = (int64_t)out->ids.n;
        if (is_control(prompt, i, "<|im_start|>")) {
            turn_at = at;
            if (!seen_user && is_user_turn(prompt, i)) {
                out->head = at;
                seen_user = true;
            }
        } else if (is_control(prompt, i, "<|im_end|>")) {
            out->last_turn = turn_at;
        }
        TUG_TRY(add_segment(encoder, prompt, i, turns, out, err));
    }
    return TUG_OK;
}

void tug_prompt_ids_free(tug_prompt_ids *p) {
    tug_ids_free(&p->ids);
    *p = (tug_prompt_ids){0};
}
