/* synth_routes.h - traces of no model: routes with the skew and the memory that have been
 * published of real ones, for sizes that the models at hand do not have.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TRACE_SYNTH_ROUTES_H
#define TUG_TRACE_SYNTH_ROUTES_H

#include "trace/trace.h"

typedef struct tug_routes_spec {
    int n_layer, n_expert, n_used;
    int64_t n_prompt; /* tokens of a prompt in batches of `batch`, 0: none; then */
    int32_t batch;
    int64_t n_decode; /* tokens one by one */
    uint64_t seed;
} tug_routes_spec;

/* Adds them to a trace that is empty or has the same shape.  The same on every machine
 * whose compiler does not contract floating point (docs/TRACE.md). */
TUG_NODISCARD tug_status tug_synth_routes(tug_trace *t, const tug_routes_spec *spec,
                                          tug_err *err);

#endif
