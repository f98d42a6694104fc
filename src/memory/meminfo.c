/* meminfo.c - see meminfo.h.  SPDX-License-Identifier: MIT */
#include "memory/meminfo.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

/* The first bytes of a small kernel file, zero-terminated; false when unreadable. */
static bool read_small(const char *path, char *buf, size_t cap) {
    const int fd = tug_sys.open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return false;
    const ssize_t n = tug_sys.read(fd, buf, cap - 1);
    (void)tug_sys.close(fd);
    if (n <= 0) return false;
    buf[n] = '\0';
    return true;
}

/* "max" (no limit) and unreadable files give UINT64_MAX. */
static uint64_t read_bytes(const char *path) {
    char buf[64];
    if (!read_small(path, buf, sizeof buf) || buf[0] < '0' || buf[0] > '9')
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
    if (read_small("/proc/meminfo", buf, sizeof buf)) {
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
