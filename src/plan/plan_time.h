/* plan_time.h - how long a token and a prompt take, given where the bytes are.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_TIME_H
#define TUG_PLAN_PLAN_TIME_H

#include "plan/plan.h"

/* One more token after n_ctx others. */
void tug_plan_decode(const tug_plan_model *m, const tug_plan_machine *hw,
                     const tug_plan_request *rq, const tug_plan *p, int64_t n_ctx,
                     tug_plan_time *out);

/* A prompt of n_tok tokens. */
void tug_plan_prefill(const tug_plan_model *m, const tug_plan_machine *hw,
                      const tug_plan_request *rq, const tug_plan *p, int64_t n_tok,
                      tug_plan_time *out);

#endif
