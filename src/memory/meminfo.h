/* meminfo.h - how much memory this process has, and may still take.  SPDX-License-Identifier: MIT */
#ifndef TUG_MEMORY_MEMINFO_H
#define TUG_MEMORY_MEMINFO_H

#include <stdint.h>

/* Bytes that can be allocated without swapping or being killed: the kernel's own estimate
 * (MemAvailable), bounded by the memory cgroup.  UINT64_MAX when neither can be read. */
uint64_t tug_memory_available(void);

/* Bytes that there could be at most: the machine's, or the control group's limit.
 * UINT64_MAX when neither can be read. */
uint64_t tug_memory_total(void);

/* Bytes that are this process's own now: resident, and no map of a file.  0 when that cannot
 * be read. */
uint64_t tug_memory_ours(void);

#endif
