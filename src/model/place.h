/* place.h - a model's weights in the memory of a backend that is not the host's.
 *
 * Dense matrices and vectors are copied there as the file has them; ranges of rows that a
 * projection needs side by side become one matrix.  Of every layer's routed experts as many
 * get a copy there as there is room for; the embedding and all routed experts stay on the
 * host as well.  SPDX-License-Identifier: MIT */
#ifndef TUG_MODEL_PLACE_H
#define TUG_MODEL_PLACE_H

#include "backend/backend_cuda.h"
#include "model/shape.h"
#include "model/weights.h"

/* What the dense weights will take there, a little more where rows are merged. */
uint64_t tug_weights_placed_bytes(const tug_weights *w, const tug_shape *s);

/* Copies the dense weights; from here on w's pointers to them are the device's.  On failure
 * w is good for tug_weights_unplace and tug_weights_free only. */
TUG_NODISCARD tug_status tug_weights_place_dense(tug_weights *w, const tug_shape *s,
                                                 tug_backend *be, tug_err *err);

/* What of so much room for experts should be set aside to move them; 0 if all fit, or few. */
uint64_t tug_weights_carrier_bytes(const tug_weights *w, const tug_shape *s,
                                   uint64_t room);

/* Copies experts: as many of every layer as `room` bytes hold, the first ones, beside
 * `carrier` bytes of it as above; w as bound, not packed yet. */
TUG_NODISCARD tug_status tug_weights_place_experts(tug_weights *w, const tug_shape *s,
                                                   tug_backend *be, uint64_t room,
                                                   uint64_t carrier, tug_err *err);
/* The packed weights, w as packed, become memory that experts can leave fast. */
void tug_weights_pin(tug_weights *w, tug_backend *be);

/* Frees what is on the device; before the backend goes. */
void tug_weights_unplace(tug_weights *w, tug_backend *be);

#endif
