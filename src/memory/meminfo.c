/* meminfo.c - see meminfo.h.  SPDX-License-Identifier: MIT */
#include "memory/meminfo.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* "max" (no limit) and unreadable files give UINT64_MAX. */
static uint64_t read_bytes(const char *path) {
    char buf[64];
    if (!tug_read_small(path, buf, sizeof buf) || buf[0] < '0' || buf[0] > '9')
        return UINT64_MAX;
    return strtoull(buf, NULL, 10);
}

static uint64_t left_in_cgroup(const char *limit_path, const char *used_path) {
    const uint64_t limit = read_bytes(limit_path), used = read_bytes(used_path);
    if (limit == UINT64_MAX || used == UINT64_MAX) return UINT64_MAX;
    return used < limit ? limit - used : 0;
}

uint64_t tug_memory_available(void) {
    uint64_t best = UINT64_MAX;
    char buf[2048];
    if (tug_read_small("/proc/meminfo", buf, sizeof buf)) {
        const char *line = strstr(buf, "MemAvailable:");
        if (line) best = strtoull(line + strlen("MemAvailable:"), NULL, 10) * 1024;
    }
    const uint64_t v2 =
        left_in_cgroup("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current");
    const uint64_t v1 = left_in_cgroup("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                       "/sys/fs/cgroup/memory/memory.usage_in_bytes");
    if (v2 < best) best = v2;
    if (v1 < best) best = v1;
    return best;
}
