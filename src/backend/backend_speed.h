/* backend_speed.h - what the ops take on this machine, for the planner: measured with weights
 * and activations of its own, of the 80B model's sizes.  Medians of a few runs, since a plan
 * wants what will be, not the best there ever was.  The backend's own scratch is used, so this
 * is for one that no model has.  SPDX-License-Identifier: MIT */
#ifndef TUG_BACKEND_BACKEND_SPEED_H
#define TUG_BACKEND_BACKEND_SPEED_H

#include "backend/backend.h"
#include "tug_profile.h"

/* Products of a batch and experts, with weights of a type packed as a model's would be: about
 * 0.3 s.  The experts lie in `memory`, (n_bytes,), 64-byte aligned and overwritten: 128 MB or
 * more, and more than any cache holds, since a model's experts come from memory, too. */
TUG_NODISCARD tug_status tug_backend_measure_products(tug_backend *be, tug_type type,
                                                      uint8_t *memory, size_t n_bytes,
                                                      tug_product_speed *out,
                                                      tug_err *err);

/* What has no weights to speak of, about 0.1 s. */
TUG_NODISCARD tug_status tug_backend_measure_mixers(tug_backend *be, tug_mixer_speed *out,
                                                    tug_err *err);

/* The middle one of x (n > 0,), of two the larger; sorts x. */
double tug_backend_median(double *x, int n);

#endif
