/* routing.h - what a trace says about routing itself, apart from any cache.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TRACE_ROUTING_H
#define TUG_TRACE_ROUTING_H

#include "trace/trace.h"

enum { TUG_ROUTING_WINDOWS = 7, TUG_ROUTING_TEXT = 300 };

/* Means over layers; NAN where the trace is too short to say. */
typedef struct tug_routing {
    int window[TUG_ROUTING_WINDOWS];      /* tokens in a row: 2, 4, ... 128 */
    double distinct[TUG_ROUTING_WINDOWS]; /* experts they use */
    double repeated; /* share of a token's experts that the next one uses too */
    double top_text; /* share of uses by the busiest eighth of the experts, chosen within
                        TUG_ROUTING_TEXT tokens, */
    double top_all;  /* and within the whole trace */
} tug_routing;

TUG_NODISCARD tug_status tug_routing_of(const tug_trace *t, tug_routing *out,
                                        tug_err *err);

#endif
