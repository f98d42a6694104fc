/* delta_chunked.h - the gated delta rule in chunked (WY) form: an independent check of the
 * recurrence, and what it is timed against.  Not used in production: see
 * docs/ATTENTION-DELTA.md.  SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_KERNELS_DELTA_CHUNKED_H
#define TUG_TESTS_KERNELS_DELTA_CHUNKED_H

#include "kernels/cpu/kernels.h"

enum { DELTA_MAX_CHUNK = 64, DELTA_MAX_DK = 256 };

/* Same contract as tug_delta_fn, `chunk` tokens at a time, in f32.
 * 1 <= chunk <= DELTA_MAX_CHUNK, dk <= DELTA_MAX_DK. */
void delta_chunked(const tug_delta_args *a, int chunk);

#endif
