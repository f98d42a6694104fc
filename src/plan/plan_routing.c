/* plan_routing.c - see plan_routing.h.  SPDX-License-Identifier: MIT */
#include "plan/plan_routing.h"

#include <math.h>

/* miss(r) = a exp(-b r), fitted to caches of at least LEAST_SHARE of 512 experts on real
 * text; docs/PLAN.md has the sources. */
static const struct {
    double a, b;
} curves[] = {[TUG_PLAN_TYPICAL] = {0.646, 4.39}, [TUG_PLAN_OPTIMISTIC] = {0.737, 6.43}};

static const double LEAST_SHARE = 0.06;

/* Nothing was measured below LEAST_SHARE: a straight line from no hits at all. */
static double fitted(tug_plan_routing routing, double r) {
    const double a = curves[routing].a, b = curves[routing].b;
    if (r < LEAST_SHARE) {
        return 1.0 - (1.0 - a * exp(-b * LEAST_SHARE)) * r / LEAST_SHARE;
    }
    return fmin(a * exp(-b * r), 1.0 - r);
}

/* Routers without memory, the most popular kept, as if popularity were known; the engine's
 * forecast is as good as that.  Replayed, 512 prompt and 255 decoded tokens: 56, 33, 15, 12,
 * 3 % of misses with an eighth, a quarter, 44 %, a half and three quarters of the experts, where
 * this says 57, 33, 14, 10, 2. */
static double skewed(double r) {
    const double rest = exp(-TUG_SYNTH_SKEW);
    return (exp(-TUG_SYNTH_SKEW * r) - rest) / (1.0 - rest);
}

double tug_plan_miss(tug_plan_routing routing, double resident) {
    const double r = fmin(fmax(resident, 0.0), 1.0);
    switch (routing) {
    case TUG_PLAN_TYPICAL:
    case TUG_PLAN_OPTIMISTIC: return fitted(routing, r);
    case TUG_PLAN_SKEWED: return skewed(r);
    case TUG_PLAN_UNIFORM:
    case TUG_PLAN_ROUTINGS: break;
    }
    return 1.0 - r;
}

/* How many times more than the average the expert at rank x of 1 is used. */
static double popularity(tug_plan_routing routing, double x) {
    if (routing == TUG_PLAN_UNIFORM) return 1.0;
    return TUG_SYNTH_SKEW * exp(-TUG_SYNTH_SKEW * x) / (1.0 - exp(-TUG_SYNTH_SKEW));
}

double tug_plan_touched(tug_plan_routing routing, double resident, double n_expert,
                        double n_used, double n_tok) {
    enum { STEPS = 64 };
    const double r = fmin(fmax(resident, 0.0), 1.0), dx = (1.0 - r) / STEPS;
    double sum = 0.0;
    for (int i = 0; i < STEPS; i++) {
        const double x = r + (i + 0.5) * dx;
        const double each = fmin(popularity(routing, x) * n_used / n_expert, 1.0);
        sum += (1.0 - pow(1.0 - each, n_tok)) * dx;
    }
    return sum * n_expert;
}

/* The mean of cost(n, ...) over n of a Poisson distribution, n = 0 for nothing. */
static double mean_cost(double mean, tug_plan_cost_fn *cost, const void *ud) {
    enum {
        NARROW = 60
    }; /* beyond it cost is as good as straight over the distribution */
    if (mean > NARROW) return cost(ud, mean);
    double chance = exp(-mean), sum = 0.0;
    for (int n = 1; n < 3 * NARROW && (n <= mean || chance > 1e-9); n++) {
        chance *= mean / n;
        sum += chance * cost(ud, n);
    }
    return sum;
}

double tug_plan_over_experts(tug_plan_routing routing, double n_expert, double n_used,
                             double n_tok, tug_plan_cost_fn *cost, const void *ud) {
    enum { STEPS = 64 };
    double sum = 0.0;
    for (int i = 0; i < STEPS; i++) {
        const double p = popularity(routing, (i + 0.5) / STEPS) * n_used / n_expert;
        sum += mean_cost(fmin(p, 1.0) * n_tok, cost, ud);
    }
    return sum * n_expert / STEPS;
}
