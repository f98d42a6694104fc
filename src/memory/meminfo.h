/* meminfo.h - how much memory this process may still take.  SPDX-License-Identifier: MIT */
#ifndef TUG_MEMORY_MEMINFO_H
#define TUG_MEMORY_MEMINFO_H

#include <stdint.h>

/* Bytes that can be allocated without swapping or being killed: the kernel's own estimate
 * (MemAvailable), bounded by the memory cgroup.  UINT64_MAX when neither can be read. */
uint64_t tug_memory_available(void);

#endif
