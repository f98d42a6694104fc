/* prompt_cache.h - the sessions of the server, and what they still know.
 *
 * A request takes the session that knows most of its prompt, goes on from there, and gives
 * it back with its state.  docs/PROMPT-CACHE.md has the rules of who is replaced.
 *
 *     tug_prompt_lease lease;
 *     tug_prompt_cache_take(pc, &want, &lease, &err);          // TUG_EBUSY: wait in line
 *     tug_session_append(lease.session, ids + lease.n_reused, some, &err);
 *     tug_prompt_cache_save(pc, &lease);                        // head, prompt, answer
 *     ... sample ...
 *     tug_prompt_cache_give(pc, &lease);                        // also after a failure
 *
 * THREADS  one: the one that owns the model.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_PROMPT_CACHE_H
#define TUG_SERVE_PROMPT_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "tug.h"

typedef struct tug_prompt_cache tug_prompt_cache;

typedef struct tug_prompt_cache_params {
    uint64_t ceiling_bytes; /* of all sessions and save points; 0: none */
    int32_t max_sessions;   /* 1 .. TUG_CACHE_MAX_SESSIONS; 0: 4 */
    int64_t n_ctx, n_batch; /* of each session, as in tug_session_params */
    tug_kv_cache_type kv_type;
    tug_progress_fn *on_prefill; /* of every session; may be NULL */
    void *ud;
    int64_t small_tail; /* tokens worth less than a second copy of what is before them;
                           0: 1024 */
} tug_prompt_cache_params;

enum { TUG_CACHE_MAX_SESSIONS = 64, TUG_CACHE_MAX_MARKS = 8 };

/* All sessions are made here, so that none can fail to be made later.  When memory or the
 * ceiling is not enough for all, there are fewer; it is an error only when there is none.
 * The model must outlive it. */
TUG_NODISCARD tug_status tug_prompt_cache_create(tug_prompt_cache **out, tug_model *model,
                                                 const tug_prompt_cache_params *params,
                                                 tug_err *err);
void tug_prompt_cache_destroy(tug_prompt_cache **pc);

int32_t tug_prompt_cache_n_sessions(const tug_prompt_cache *pc);
int64_t tug_prompt_cache_n_ctx(const tug_prompt_cache *pc); /* of every session */

typedef struct tug_prompt_want {
    const int32_t *ids; /* (n,) the whole prompt, n >= 1 */
    int64_t n;
    bool reuse;    /* false: everything is computed */
    int64_t space; /* whose it is: nothing is reused across (the API key's number) */
    tug_str hint;  /* names the conversation, or empty; only breaks ties */
} tug_prompt_want;

typedef struct tug_prompt_lease {
    tug_session *session; /* borrowed, holds the first n_reused tokens of the prompt */
    int64_t n_reused;     /* n only if the logits behind the prompt are there already */
    struct tug_cache_slot *slot;
} tug_prompt_lease;

/* TUG_EBUSY when every session is out, or when the ceiling has no room for this prompt
 * beside those that are: try again after a give.  TUG_ERANGE when the prompt is longer than
 * the context.  On failure *lease is empty and nothing is lost. */
TUG_NODISCARD tug_status tug_prompt_cache_take(tug_prompt_cache *pc,
                                               const tug_prompt_want *want,
                                               tug_prompt_lease *lease, tug_err *err);

/* A save point where the session is now.  When there is no room for it there is none, and
 * false; that is no error. */
bool tug_prompt_cache_save(tug_prompt_cache *pc, tug_prompt_lease *lease);

/* Back to the pool with all that was computed, whatever became of the request.  Empties
 * *lease; an empty one is fine. */
void tug_prompt_cache_give(tug_prompt_cache *pc, tug_prompt_lease *lease);

typedef struct tug_prompt_cache_stats {
    int32_t n_sessions, n_leased, n_empty, n_marks;
    uint64_t kv_bytes, recurrent_bytes, mark_bytes; /* held now */
    uint64_t ceiling_bytes;                         /* 0: none */
    /* Since create.  Tokens are those of prompts. */
    uint64_t n_takes, n_hits, n_forks,
        n_dropped; /* dropped: sessions emptied for others */
    uint64_t reused_tokens, computed_tokens;
} tug_prompt_cache_stats;

tug_prompt_cache_stats tug_prompt_cache_get_stats(const tug_prompt_cache *pc);

#endif
