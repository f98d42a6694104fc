/* expert_forecast.h - how likely the next token uses an expert, as the router itself teaches.
 *
 *     rate = w0 * brief + w1 * habit + w2 * recent + w3
 *
 *     brief, habit  the share of the tokens that used it, where a token counts half as much
 *                   16 and 128 tokens later; 0 .. 1
 *     recent        1 / (1 + age / 2), age in tokens since its last use
 *
 * The weights are the least squares fit to what came true: before each step every expert has
 * a forecast, and after it was used or not.  Routers differ in how much they remember, and a
 * text changes what they do; weights of one's own are worth more than any constants
 * (docs/TRACE.md has the measurements).  Steps fade with a half-life of 200 tokens.  Until
 * there is evidence a ridge holds the weights at a prior.
 * All layers of a model teach one forecast.  SPDX-License-Identifier: MIT */
#ifndef TUG_POLICY_EXPERT_FORECAST_H
#define TUG_POLICY_EXPERT_FORECAST_H

#include <stdint.h>

#include "policy/expert_use.h"

enum { TUG_FORECAST_TERMS = 4, TUG_FORECAST_FADE = 128 };

typedef struct tug_expert_forecast {
    double weight[TUG_FORECAST_TERMS];
    double gram[TUG_FORECAST_TERMS]
               [TUG_FORECAST_TERMS];   /* sum of x x^T, faded; lower half */
    double moment[TUG_FORECAST_TERMS]; /* sum of x y, faded */
    float fade[TUG_FORECAST_FADE];     /* 2^(-i / TUG_FORECAST_FADE) */
    double keep;                       /* what a step of one layer leaves of them */
    uint32_t stride; /* of so many experts one is looked at, another one each step */
    uint32_t turn;   /* steps so far */
} tug_expert_forecast;

void tug_expert_forecast_init(tug_expert_forecast *f, int n_layer, int n_expert);

/* uses (n_expert,) of the layer: compared with what was forecast, then brought up to date. */
void tug_expert_forecast_step(tug_expert_forecast *f, tug_expert_use *uses,
                              const tug_expert_step *s);

/* Of the token after token `now`.  A fit: it can be a little below 0, never NaN. */
double tug_expert_forecast_rate(const tug_expert_forecast *f, const tug_expert_use *u,
                                uint32_t now);

#endif
