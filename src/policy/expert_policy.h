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
#include "policy/expert_forecast.h"

typedef struct tug_expert_policy {
    const char *name; /* "lru", ... */
    bool pins;        /* heat is a profile's: > 0 for those who always stay */
    /* uses (n_expert,) of the layer, told of a step.  f, of all layers: `forecast` learns and
     * asks it, the others leave it alone. */
    void (*step)(tug_expert_forecast *f, tug_expert_use *uses, const tug_expert_step *s);
    /* How much it deserves a home after token `now`; never NaN.  now - last is right when
     * 2^32 tokens have passed. */
    double (*score)(const tug_expert_forecast *f, const tug_expert_use *u, uint32_t now);
} tug_expert_policy;

/* (tug_expert_policy_count(),); the first is the one the engine takes. */
const tug_expert_policy *tug_expert_policy_at(int i);
int tug_expert_policy_count(void);

/* TUG_EUSAGE with the names there are. */
TUG_NODISCARD tug_status tug_expert_policy_find(const tug_expert_policy **out,
                                                const char *name, tug_err *err);

#endif
