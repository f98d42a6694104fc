/* expert_use.h - what policies keep of an expert's past, and what a step tells them.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_POLICY_EXPERT_USE_H
#define TUG_POLICY_EXPERT_USE_H

#include <math.h>
#include <stdint.h>

/* Of one expert of one layer; zero before its first use, but for heat from a profile.
 * Time is counted in tokens of the layer, and differences are right past 2^32 of them. */
typedef struct tug_expert_use {
    float heat, brief; /* the policy's counts of uses, as they were ... */
    uint32_t counted;  /* ... then */
    uint32_t last;     /* when it was last used, or in a batch may have been; 0: never */
} tug_expert_use;

/* One layer of one batch. */
typedef struct tug_expert_step {
    const int32_t *experts; /* (n,) who is used, */
    const int32_t *counts;  /* (n,) by how many of the n_tok tokens, >= 1 */
    int n, n_tok;
    int n_expert; /* of the layer */
    uint32_t now; /* tokens of the layer until now, these included */
} tug_expert_step;

/* What `count` uses add to a count that is worth half after half_life tokens: they lie evenly
 * among the step's tokens, so each counts with the mean fade. */
static inline double tug_expert_added(const tug_expert_step *s, int count,
                                      double half_life) {
    if (s->n_tok == 1) return 1.0;
    const double f = exp2(-1.0 / half_life);
    return count * (1.0 - pow(f, s->n_tok)) / (s->n_tok * (1.0 - f));
}

#endif
