/* simulate.h - what a cache of experts would have had of a trace.
 *
 * The cache is the engine's own (memory/expert_cache.h), driven as the engine drives it but
 * without bytes: in each layer of each batch, those that are there are done first, then the
 * others are fetched and done one after the other.  Nothing is fetched ahead.  At the start
 * the first experts of each layer are at home, as in the engine.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TRACE_SIMULATE_H
#define TUG_TRACE_SIMULATE_H

#include "policy/expert_policy.h"
#include "trace/trace.h"

typedef struct tug_hits {
    uint64_t wanted, hits;
} tug_hits;

/* NAN when nothing was wanted. */
double tug_hit_rate(tug_hits h);

typedef struct tug_simulation {
    tug_hits prompt, decode; /* batches of several tokens, of one */
} tug_simulation;

typedef struct tug_simulate_params {
    const tug_expert_policy *policy;
    int home;          /* slots of each layer, 0 .. n_expert */
    int staging;       /* slots of all layers together, >= 1 */
    const float *heat; /* (n_layer, n_expert) for the policy, or NULL */
} tug_simulate_params;

TUG_NODISCARD tug_status tug_simulate(const tug_trace *t, const tug_simulate_params *p,
                                      tug_simulation *out, tug_err *err);

/* The most that any policy could have had with the same memory, staging slots shared out
 * evenly among the layers: what is used again soonest stays (Belady 1966), known from the
 * trace's future. */
TUG_NODISCARD tug_status tug_simulate_best(const tug_trace *t, int home, int staging,
                                           tug_simulation *out, tug_err *err);

/* heat (n_layer, n_expert): 1 for the `n` most used experts of each layer of `profile`, 0
 * for the others. */
void tug_pin_most_used(const tug_trace *profile, int n, float *heat);

#endif
