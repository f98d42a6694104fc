/* plan_advice.h - what would make a plan faster, best first.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_ADVICE_H
#define TUG_PLAN_PLAN_ADVICE_H

#include "plan/plan.h"

enum { TUG_PLAN_ADVICES = 12 };

typedef struct tug_plan_advice {
    char what[80];
    double decode_tok_s, prefill_tok_s; /* at the plan's whole context */
    double gain;                        /* how many times faster a turn is */
} tug_plan_advice;

/* A turn of an agent: so many new tokens read, so many written, at the whole context. */
enum { TUG_PLAN_TURN_READ = 2000, TUG_PLAN_TURN_WRITTEN = 400 };

/* Plans again with one thing changed at a time; returns how many of them gain at least 2 %,
 * in order of gain. */
int tug_plan_advise(const tug_plan_model *model, const tug_plan_machine *machine,
                    const tug_plan_request *request, const tug_plan *plan,
                    tug_plan_advice out[TUG_PLAN_ADVICES]);

#endif
