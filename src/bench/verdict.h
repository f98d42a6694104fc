/* verdict.h - what bounded a measured run: a pure function of what was counted.
 *
 * A stage cannot be faster than its bytes at the measured bandwidth, nor than its
 * multiplications at the measured peaks.  The longer of the two is the stage's limit; what
 * the limits of all stages leave of the time was lost to something else.
 * docs/BENCH.md has the rule in words.  SPDX-License-Identifier: MIT */
#ifndef TUG_BENCH_VERDICT_H
#define TUG_BENCH_VERDICT_H

#include "base/str.h"
#include "bench/process.h"
#include "tug_profile.h"

typedef enum tug_bound {
    TUG_BOUND_COMPUTE = 0, /* multiplications */
    TUG_BOUND_BANDWIDTH,   /* reading memory */
    TUG_BOUND_STARVED,     /* others had the processors */
    TUG_BOUND_DISK,        /* reading experts from the file */
    TUG_BOUND_LINK,        /* PCIe, of a model on a GPU */
    TUG_BOUND_SYNC,        /* threads waited for each other */
    TUG_BOUND_OVERHEAD,    /* none of these: far from every limit */
    TUG_BOUND_COUNT
} tug_bound;

/* "compute", "bandwidth", "starved", "disk", "pcie", "synchronisation", "overhead". */
const char *tug_bound_name(tug_bound bound);

typedef struct tug_verdict {
    tug_bound bound;
    /* Shares of the time (0..1); of the time of all threads for the last three. */
    double bandwidth, compute; /* least time for all bytes, and for all multiplications */
    double starved, wait, alone;
    double disk;         /* waiting for experts, with nothing to compute meanwhile */
    double disk_bytes_s; /* while the disk had something to read */
    bool cached;         /* memory is no limit: a cache holds the model */
    tug_stage stage;     /* where most of the time went, */
    double stage_time;   /* its share of the time, */
    double stage_limit;  /* and how near it is to its own limit */
    /* On a GPU: shares of the time for what it must at least read (without experts), and for
     * what crosses PCIe; `stage` is the one that reads most. */
    bool on_gpu;
    double gpu_read, gpu_link;
} tug_verdict;

/* Least seconds for this work. */
double tug_work_bandwidth_s(const tug_work *w, const tug_limits *l);
double tug_work_compute_s(const tug_work *w, const tug_limits *l);

/* Gives SHARED its part of the time of EXPERTS, in which it was computed: in proportion to
 * the least time each needs. */
void tug_profile_split_shared(tug_profile *p, const tug_limits *l);

/* p: of all repetitions together; load: of the same times; limits: of the same machine
 * state.  p must be split. */
tug_verdict tug_verdict_of(const tug_profile *p, const tug_load *load,
                           const tug_limits *limits);

/* "bandwidth-bound: ..." in one clause, without a full stop. */
void tug_verdict_say(const tug_verdict *v, const tug_limits *limits, tug_buf *out);

#endif
