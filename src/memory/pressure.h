/* pressure.h - how much memory there is for us, and how much we should give back.
 *
 * Looks at what the system has left, at the control group's limit (v1 and v2, from ours up to
 * the root) and at how long tasks stalled for memory (PSI).  The decision is a pure function
 * of those numbers.  docs/MEMORY.md has the rules.  SPDX-License-Identifier: MIT */
#ifndef TUG_MEMORY_PRESSURE_H
#define TUG_MEMORY_PRESSURE_H

#include <stdint.h>

#include "base/status.h"

typedef struct tug_pressure_sample {
    uint64_t available;   /* bytes: MemAvailable; UINT64_MAX: cannot be read */
    uint64_t total;       /* bytes: MemTotal */
    uint64_t group_limit; /* bytes, UINT64_MAX: none; the tightest on the way up */
    uint64_t group_used;  /* of that group, without page cache that can be dropped */
    double stalled;       /* share of the last 10 s in which some task waited, 0 .. 1 */
} tug_pressure_sample;

tug_pressure_sample tug_pressure_read(void);

/* Bytes that are there, and of these what may be taken: the rest is left to others. */
uint64_t tug_pressure_available(const tug_pressure_sample *s);
uint64_t tug_pressure_free(const tug_pressure_sample *s);

/* Bytes to give back (negative) or free to take (positive), 0: leave everything. `ceiling`
 * is the user's, UINT64_MAX: none; `ours` is what this process holds against it. */
int64_t tug_pressure_decide(const tug_pressure_sample *s, uint64_t ceiling,
                            uint64_t ours);

#endif
