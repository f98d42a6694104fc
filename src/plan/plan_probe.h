/* plan_probe.h - what this machine's disk gives, and what the processor draws.  RAM and
 * arithmetic are measured by tug_profile.h.  SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_PROBE_H
#define TUG_PLAN_PLAN_PROBE_H

#include <stdbool.h>

#include "base/status.h"
#include "plan/plan.h"

typedef struct tug_plan_disk_speed {
    double bytes_s;    /* reads of 1.5 MB, 8 at a time */
    double latency_s;  /* of one such read alone, less its share of the bandwidth */
    double cpu_byte_s; /* processor time of a byte that is read */
    bool cached;       /* the file system has no direct reads: memory may have answered */
} tug_plan_disk_speed;

/* Reads `path` at random places for about `seconds`.  `path` NULL: a file of 1 GB that is
 * made in `folder`, and removed whatever happens. */
TUG_NODISCARD tug_status tug_plan_probe_disk(const char *path, const char *folder,
                                             double seconds, tug_plan_disk_speed *out,
                                             tug_err *err);

/* Joules that the processor packages under `root` (/sys/class/powercap) have used since
 * some time; false when there are no counters or they cannot be read. */
bool tug_plan_joules(const char *root, double *joules);

#endif
