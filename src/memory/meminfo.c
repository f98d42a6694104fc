/* meminfo.c - see meminfo.h.  SPDX-License-Identifier: MIT */
#include "memory/meminfo.h"

#include "memory/pressure.h"

uint64_t tug_memory_available(void) {
    const tug_pressure_sample s = tug_pressure_read();
    return tug_pressure_available(&s);
}
