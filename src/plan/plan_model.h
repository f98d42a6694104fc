/* plan_model.h - a model's bytes and multiplications, from its file or from its sizes.
 *
 * Both ways go through the same list of tensors: a file has one, and src/synth makes one
 * for sizes and a type mix.  SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_MODEL_H
#define TUG_PLAN_PLAN_MODEL_H

#include "base/str.h"
#include "gguf/gguf.h"
#include "plan/plan.h"

/* What a file of these sizes and types holds. */
TUG_NODISCARD tug_status tug_plan_model_make(tug_plan_model *m, const tug_synth_spec *s,
                                             tug_err *err);

/* "qwen3-coder-next:Q4_K_M"; without a colon Q3_K_M. */
TUG_NODISCARD tug_status tug_plan_model_named(tug_plan_model *m, const char *name,
                                              tug_err *err);

/* An opened file of a qwen3next model. */
TUG_NODISCARD tug_status tug_plan_model_of_file(tug_plan_model *m, const tug_gguf *g,
                                                tug_err *err);

#endif
