/* curves.h - hit rates of several policies at several sizes, and three ways to show them.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TRACE_CURVES_H
#define TUG_TRACE_CURVES_H

#include "trace/routing.h"
#include "trace/simulate.h"

enum { TUG_CURVES_SIZES = 32, TUG_CURVES_POLICIES = 8 };

typedef struct tug_curves_spec {
    const tug_expert_policy *policies[TUG_CURVES_POLICIES]; /* (n_policies,) */
    int n_policies;
    int sizes[TUG_CURVES_SIZES]; /* (n_sizes,) home slots of a layer, increasing */
    int n_sizes;
    int staging;              /* slots of all layers together */
    double pinned_share;      /* of home slots, for a policy that pins; 0 .. 1 */
    const tug_trace *profile; /* where it learns what to pin; of the same shape */
} tug_curves_spec;

typedef struct tug_curves {
    tug_curves_spec spec;
    int n_layer, n_expert, n_used;
    int64_t n_prompt, n_decode; /* tokens */
    tug_routing routing;
    tug_simulation policy[TUG_CURVES_POLICIES][TUG_CURVES_SIZES];
    tug_simulation best[TUG_CURVES_SIZES];
} tug_curves;

/* Sizes from a sixteenth to three quarters of the experts, all different. */
void tug_curves_default_sizes(tug_curves_spec *spec, int n_expert);

TUG_NODISCARD tug_status tug_curves_run(tug_curves *out, const tug_trace *t,
                                        const tug_curves_spec *spec, tug_err *err);

void tug_curves_text(const tug_curves *c, tug_buf *out);
void tug_curves_json(const tug_curves *c, tug_buf *out);
/* Decode steps; of a trace without any, prompts. */
void tug_curves_svg(const tug_curves *c, const char *title, tug_buf *out);

#endif
