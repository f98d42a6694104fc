/* plan_report.h - a plan for people and for programs.  All append to *out, whose failures
 * are sticky.  SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_REPORT_H
#define TUG_PLAN_PLAN_REPORT_H

#include "base/str.h"
#include "plan/plan.h"
#include "plan/plan_advice.h"
#include "plan/plan_cost.h"

/* Everything a report may show. */
typedef struct tug_plan_subject {
    const tug_plan_model *model;
    const tug_plan_machine *machine;
    const tug_plan_request *request;
    const tug_plan *plan;
    const tug_plan_advice *advice; /* (n_advice,) */
    int n_advice;
    const tug_plan_cost *cost; /* or NULL */
    const char *no_gpu; /* why the one that was looked for is not planned with, or NULL */
} tug_plan_subject;

void tug_plan_text(const tug_plan_subject *s, tug_buf *out);
void tug_plan_json(const tug_plan_subject *s, tug_buf *out);

/* Stacked bars of the memories. */
void tug_plan_svg(const tug_plan_subject *s, tug_buf *out);

/* Three lines, each with its newline: where the bytes are, what that means for experts, how
 * fast.  What `tug run` prints when it starts. */
void tug_plan_summary(const tug_plan_model *model, const tug_plan_request *request,
                      const tug_plan *plan, tug_buf *out);

#endif
