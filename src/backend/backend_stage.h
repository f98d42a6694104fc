/* backend_stage.h - stage marks of the forward pass, for the profile (tug_profile.h), and
 * the limits of the machine.  Without a clock in the backend's pool a mark is one branch.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BACKEND_BACKEND_STAGE_H
#define TUG_BACKEND_BACKEND_STAGE_H

#include "backend/backend.h"
#include "base/pool_clock.h"
#include "tug_profile.h"

/* Measures into `clock` from now on; NULL: no longer.  Borrowed. */
void tug_backend_set_clock(tug_backend *be, tug_pool_clock *clock);

/* What follows, until the next mark, is this stage. */
void tug_stage_enter(tug_backend *be, tug_stage stage);

/* The same for EXPERTS, and counts the weights of the n_active experts that a batch
 * chose: the only part of the work that the tokens decide. */
void tug_stage_enter_experts(tug_backend *be, const tug_moe_weights *w, int n_active);

/* Do products with weights of this type run on int8 here? */
bool tug_backend_is_int8(const tug_backend *be, tug_type type);

/* Does attention multiply in int16 here?  That takes twice the instructions of int8. */
bool tug_backend_attn_is_int16(const tug_backend *be, tug_kv_type type);

/* One measurement of the limits, by all threads; (n_bytes,) of `memory` are read, more than
 * any cache holds. */
tug_limits tug_backend_measure_limits(tug_backend *be, const uint8_t *memory,
                                      size_t n_bytes);

/* One pass over it by all threads: bytes per second. */
double tug_backend_measure_read(tug_backend *be, const uint8_t *memory, size_t n_bytes);

#endif
