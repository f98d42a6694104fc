/* plan_routing.h - how often a token's expert is not among those at hand.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_ROUTING_H
#define TUG_PLAN_PLAN_ROUTING_H

#include "plan/plan.h"

/* The share of uses that miss when a share `resident` of a layer's experts is at hand,
 * chosen as well as a cache can.  1 at 0, 0 at 1, never rising. */
double tug_plan_miss(tug_plan_routing routing, double resident);

/* Of n_expert experts, how many outside the `resident` most popular share are used at least
 * once by n_tok tokens that use n_used each. */
double tug_plan_touched(tug_plan_routing routing, double resident, double n_expert,
                        double n_used, double n_tok);

/* What an expert costs that n_tok > 0 tokens of a batch chose. */
typedef double tug_plan_cost_fn(const void *ud, double n_tok);

/* The cost of all experts of a layer in a batch of n_tok tokens: every expert gets its share of
 * them, more or less by chance. */
double tug_plan_over_experts(tug_plan_routing routing, double n_expert, double n_used,
                             double n_tok, tug_plan_cost_fn *cost, const void *ud);

#endif
