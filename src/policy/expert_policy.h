/* expert_policy.h - what an expert's past uses say about its next one: a score.
 *
 * A policy is two functions over a few numbers per expert.  It knows nothing of slots; the
 * cache (expert_cache.h) lets the lowest score at home lose to a higher newcomer.  Uses are
 * told of all experts, also of those that are nowhere.  Time is counted in tokens, so a
 * prompt says the same in whatever batches it comes.
 * docs/EXPERTS.md, measurements in docs/TRACE.md.  SPDX-License-Identifier: MIT */
#ifndef TUG_POLICY_EXPERT_POLICY_H
#define TUG_POLICY_EXPERT_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Of one expert of one layer; zero before its first use, but for heat from a profile. */
typedef struct tug_expert_use {
    float heat;    /* the policy's own */
    uint32_t last; /* when it was last used: tokens of its layer until then; 0: never */
} tug_expert_use;

typedef struct tug_expert_policy {
    const char *name; /* "lru", ... */
    bool pins;        /* heat is a profile's: > 0 for those who always stay */
    /* It is used by `count` of the n_tok tokens of a step, the last of which is the layer's
     * token number `now` (1, 2, ...). */
    void (*use)(tug_expert_use *u, uint32_t now, int count, int n_tok);
    /* How much it deserves a home now; never NaN.  now - last is right when 2^32 tokens
     * have passed. */
    double (*score)(const tug_expert_use *u, uint32_t now);
} tug_expert_policy;

/* For policies that count: the share of the layer's tokens that use it, of late; 0 .. 1. */
double tug_expert_share(const tug_expert_use *u, uint32_t now);

/* (tug_expert_policy_count(),); the first is the one the engine takes. */
const tug_expert_policy *tug_expert_policy_at(int i);
int tug_expert_policy_count(void);

/* TUG_EUSAGE with the names there are. */
TUG_NODISCARD tug_status tug_expert_policy_find(const tug_expert_policy **out,
                                                const char *name, tug_err *err);

#endif
