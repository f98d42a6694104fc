/* engine_impl.h - what is behind tug_model.  SPDX-License-Identifier: MIT */
#ifndef TUG_ENGINE_ENGINE_IMPL_H
#define TUG_ENGINE_ENGINE_IMPL_H

#include "base/pool_clock.h"
#include "gguf/gguf.h"
#include "memory/expert_store.h"
#include "model/forward.h"
#include "tug.h"
#include "tug_profile.h"

/* Filled by sessions between tug_model_profile_start and _stop. */
typedef struct tug_recorder {
    tug_pool_clock *clock; /* owned; NULL: nobody measures */
    int64_t n_tokens, n_batches;
    tug_work work[TUG_STAGE_COUNT];
    tug_streaming streaming; /* when it began */
} tug_recorder;

struct tug_model {
    tug_gguf *gguf;                  /* owned: the weights live in its maps */
    struct tug_tokenizer *tokenizer; /* owned */
    tug_backend *be;                 /* owned */
    tug_net net;
    tug_expert_store *experts;     /* owned; NULL: all experts are in memory */
    int64_t n_batch;               /* of sessions that do not say */
    float *before;                 /* owned: a recurrent state before a pass, or NULL */
    tug_streaming filled;          /* what loading read */
    uint64_t ram_bytes;            /* ceiling; 0: none */
    uint64_t probe_bytes;          /* of a tug_limits_probe, which no ceiling is for */
    uint64_t session_bytes;        /* planned for sessions, when experts are streamed */
    struct tug_planning *planning; /* owned; NULL: there was no plan */
    tug_buf plan_summary, plan_tables; /* owned: it in words, when streamed or on a GPU */
    uint64_t vram_dense, vram_experts; /* what weights took of it, */
    uint64_t vram_sessions;            /* and what is left for sessions */
    tug_scratch scratch;               /* of the largest batch of any session so far */
    char *name;                        /* owned, zero-terminated general.name */
    tug_str template;                  /* borrowed from gguf */
    uint64_t n_params, n_bytes;
    float temperature, top_p;
    int32_t top_k;
    tug_recorder recorder;
};

/* Makes the work space large enough for batches of n_batch tokens. */
TUG_NODISCARD tug_status tug_model_grow_scratch(tug_model *model, int64_t n_batch,
                                                tug_err *err);

/* The cache a session has, and TUG_EUNSUPPORTED for one that a GPU cannot have. */
TUG_NODISCARD tug_status tug_model_kv_type(const tug_model *model,
                                           tug_kv_cache_type asked, tug_kv_type *type,
                                           tug_err *err);

/* The network of a model: for tests that tap it. */
tug_net *tug_model_net(tug_model *model);

#endif
