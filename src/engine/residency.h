/* residency.h - which weights of a model stay in memory, and how they get there.
 *
 * src/plan decides: all of them when they fit beside what sessions will need; otherwise the
 * dense ones, and experts in as many slots as are left (memory/expert_store.h).
 * On a GPU: how much of its memory is for what.  docs/EXPERTS.md, docs/CUDA.md.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_ENGINE_RESIDENCY_H
#define TUG_ENGINE_RESIDENCY_H

#include "engine/planning.h"

typedef struct tug_residency {
    bool streamed;          /* experts come and go */
    int *home;              /* owned, (n_layer,): slots of each layer, when streamed */
    int staging;            /* slots more, of each size class */
    int64_t n_batch;        /* tokens that sessions should compute at once */
    uint64_t session_bytes; /* left free for sessions, when streamed */
    /* Of the GPU: for the sessions, for experts that prefill carries there, and for
     * those that stay, with their tables. */
    uint64_t vram_session, vram_staging_bytes, vram_experts;
    tug_planning *planning;  /* owned, or NULL */
    tug_buf summary, tables; /* the plan in words, when streamed or on a GPU */
} tug_residency;

/* For a model whose weights are bound.  TUG_ERANGE when not even one slot a layer fits, with
 * the least that would. */
TUG_NODISCARD tug_status tug_residency_plan(tug_residency *r, const tug_model *m,
                                            const tug_model_params *p, tug_err *err);
void tug_residency_free(tug_residency *r);

/* tug_model_open with a plan of the caller's instead, which may have fewer slots than any
 * ceiling gives: for tests. */
TUG_NODISCARD tug_status tug_model_open_as(tug_model **out, const tug_model_params *p,
                                           const tug_residency *plan, tug_err *err);

/* Brings the weights to where the plan has them; fills m->experts when streamed. */
TUG_NODISCARD tug_status tug_residency_load(tug_model *m, const tug_residency *r,
                                            const tug_model_params *p, tug_err *err);

#endif
