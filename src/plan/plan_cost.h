/* plan_cost.h - what a million tokens cost here, and when that beats an API.
 *
 * Money has no unit: whatever the prices are given in.  SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_COST_H
#define TUG_PLAN_PLAN_COST_H

#include "plan/plan.h"

typedef struct tug_plan_cost_input {
    double watts; /* at work; 0: the machine's */
    double price_kwh;
    double hardware, years;       /* price, and how long it is used; years 0: 4 */
    double written_day, read_day; /* tokens a day */
    double api_written, api_read; /* prices of a million */
} tug_plan_cost_input;

typedef struct tug_plan_cost {
    double watts;
    double hours_day; /* of work; more than 24: this machine cannot */
    double kwh_day;
    double energy_day, hardware_day, api_day;
    double energy_million; /* of tokens written, with the reading that goes with them */
    double total_million;
    double api_million;
    double break_even_days; /* until the hardware is paid; INFINITY: never */
} tug_plan_cost;

/* "watts=180,kwh=0.30,hardware=900,tokens=200K,prompt=4M,api=1.5,api-prompt=0.3,years=4" */
TUG_NODISCARD tug_status tug_plan_cost_parse(tug_plan_cost_input *in, const char *text,
                                             tug_err *err);

/* With the speeds at the plan's whole context.  TUG_EUSAGE: tokens or watts are missing. */
TUG_NODISCARD tug_status tug_plan_cost_make(const tug_plan *plan,
                                            const tug_plan_machine *machine,
                                            const tug_plan_cost_input *in,
                                            tug_plan_cost *out, tug_err *err);

#endif
