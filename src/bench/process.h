/* process.h - what the kernel tells of this process and of the machine's other load.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BENCH_PROCESS_H
#define TUG_BENCH_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Counters since some time in the past: only differences mean something. */
typedef struct tug_load {
    double wall_s;
    double cpu_s;       /* of all threads of this process */
    double run_delay_s; /* sum over its threads: ready to run, but another has the core */
    double steal_s;     /* sum over processors: taken by the host of a virtual machine */
    double others_s;    /* sum over processors: used by other processes */
    int64_t switches, preemptions; /* voluntary and involuntary context switches */
    bool has_run_delay;            /* the kernel tells run_delay_s */
} tug_load;

tug_load tug_load_now(void);

/* sum += to - from. */
void tug_load_add(tug_load *sum, const tug_load *from, const tug_load *to);

/* Bytes; 0 where the system does not tell. */
typedef struct tug_rss {
    uint64_t peak;       /* most that was resident at any time */
    uint64_t anon, file; /* resident now: own memory, and the mapped model */
} tug_rss;

tug_rss tug_rss_now(void);

#endif
