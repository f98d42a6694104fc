/* replay.h - the tokens of finished turns, as they were sampled.
 *
 * A client sends the conversation back as JSON: white space, the order of keys and the
 * spelling of numbers are its own, and other text is other tokens.  So the tokens of every
 * finished turn are remembered, and prompt_ids.h puts them in place of the rendered turn.
 *
 * A turn is known by the ids of its calls, in order: they are unguessable, so what the
 * client made of the arguments does not matter.  A turn without calls is known by its whole
 * text, outer white space aside.
 *
 * Bounded: the turns that were longest not asked for go first.
 *
 * THREADS  any.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_REPLAY_H
#define TUG_SERVE_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "tokenizer/tokenizer.h"

typedef struct tug_replay tug_replay;

/* 0: 4096 turns, 64 MiB. */
TUG_NODISCARD tug_status tug_replay_create(tug_replay **out, size_t max_turns,
                                           size_t max_bytes, tug_err *err);
void tug_replay_destroy(tug_replay **replay);

typedef struct tug_replay_key {
    int64_t space;           /* whose turn: nothing is found across */
    const tug_str *call_ids; /* (n_calls,) as the client was told them */
    size_t n_calls;
    tug_str text; /* as the client was told it; with calls it is not looked at */
} tug_replay_key;

/* Remembers the sampled ids (n,), without the token that ended the turn; what was known
 * under this key is replaced.  False when there is no room: the turn is then not known. */
bool tug_replay_add(tug_replay *replay, const tug_replay_key *key, const int32_t *ids,
                    size_t n);

/* Is the turn known?  Then its tokens are appended to *out.  A key without calls and text
 * is never known. */
bool tug_replay_find(tug_replay *replay, const tug_replay_key *key, tug_ids *out);

typedef struct tug_replay_stats {
    size_t n_turns, n_bytes;
    uint64_t n_found, n_missed;
} tug_replay_stats;

tug_replay_stats tug_replay_get_stats(tug_replay *replay);

#endif
