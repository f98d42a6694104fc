/* meminfo.c - see meminfo.h.  SPDX-License-Identifier: MIT */
#include "memory/meminfo.h"

#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "memory/pressure.h"

uint64_t tug_memory_available(void) {
    const tug_pressure_sample s = tug_pressure_read();
    return tug_pressure_available(&s);
}

uint64_t tug_memory_total(void) {
    const tug_pressure_sample s = tug_pressure_read();
    const uint64_t machine = s.total > 0 ? s.total : UINT64_MAX;
    return s.group_limit < machine ? s.group_limit : machine;
}

uint64_t tug_memory_ours(void) {
    char text[128];
    unsigned long long resident = 0, shared = 0;
    if (!tug_read_small("/proc/self/statm", text, sizeof text) ||
        sscanf(text, "%*u %llu %llu", &resident, &shared) != 2 || shared > resident) {
        return 0;
    }
    return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}
