/* planning.h - the plan of a model that is being opened (src/plan), for the memory that its
 * machine and its GPU have now.  SPDX-License-Identifier: MIT */
#ifndef TUG_ENGINE_PLANNING_H
#define TUG_ENGINE_PLANNING_H

#include "engine/engine_impl.h"
#include "plan/plan.h"

/* Everything a plan is made of. */
typedef struct tug_planning {
    tug_plan_model model;
    tug_plan_machine machine;
    tug_plan_request request;
    tug_plan plan;
    int staging, n_class; /* slots in RAM for experts on their way, of so many sizes */
    uint64_t vram_tables; /* what the slot tables of all layers take */
    int n_sessions;       /* that have room in VRAM; 0: there is no GPU */
} tug_planning;

/* For a model whose weights are bound; free it with tug_free.  TUG_ERANGE when the RAM is too
 * little, TUG_ENOMEM when the VRAM is, with the least that would do. */
TUG_NODISCARD tug_status tug_planning_make(tug_planning **out, const tug_model *m,
                                           const tug_model_params *params, tug_err *err);

/* Bytes of VRAM for experts' slots, with their tables. */
uint64_t tug_planning_vram_experts(const tug_planning *p);

/* Three lines, and the tables of `tug plan`. */
TUG_NODISCARD tug_status tug_planning_describe(const tug_planning *p, tug_buf *summary,
                                               tug_buf *tables, tug_err *err);

/* Adds GPU `gpu` of this machine to m, with its speeds measured. */
TUG_NODISCARD tug_status tug_planning_probe_gpu(tug_plan_machine *m, int gpu,
                                                tug_err *err);

#endif
