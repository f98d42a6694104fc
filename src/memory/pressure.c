/* pressure.c - see pressure.h.
 *
 * DESIGN
 * Two places have a margin of bytes that stay with others: the system, and the control
 * group that has the least left.  Below the margin we give back until there is half a
 * margin more; above two margins we take a quarter of the excess at a time.  Between lies
 * a band in which nothing happens, so what one decision does, the next does not undo.
 * SPDX-License-Identifier: MIT */
#include "memory/pressure.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"

#define MB ((uint64_t)1 << 20)

/* ---- files of the kernel -------------------------------------------------------------- */

enum { LINE_MAX_BYTES = 4096, PATH_BYTES = 1024 };

typedef void line_fn(void *ud, char *line);

/* Calls `fn` for every line of a file, without its end; a line that is longer than any we
 * look for is passed over in pieces.  A file that cannot be read has none. */
static void each_line(const char *path, line_fn *fn, void *ud) {
    char buf[LINE_MAX_BYTES + 1];
    const int fd = tug_sys.open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return;
    size_t n = 0;
    ssize_t got;
    while ((got = tug_sys.read(fd, buf + n, LINE_MAX_BYTES - n)) > 0) {
        n += (size_t)got;
        buf[n] = '\0';
        char *line = buf;
        for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            fn(ud, line);
        }
        n -= (size_t)(line - buf);
        if (n == LINE_MAX_BYTES) n = 0;
        memmove(buf, line, n);
    }
    if (n > 0) {
        buf[n] = '\0';
        fn(ud, buf);
    }
    (void)tug_sys.close(fd);
}

/* The number behind `key` at the start of a line. */
typedef struct field {
    const char *key;
    uint64_t value;
} field;

static void find_field(void *ud, char *line) {
    field *f = ud;
    const size_t n = strlen(f->key);
    if (strncmp(line, f->key, n) != 0) return;
    line += n + strspn(line + n, " ");
    if (*line >= '0' && *line <= '9') f->value = strtoull(line, NULL, 10);
}

static uint64_t read_field(const char *path, const char *key, uint64_t otherwise) {
    field f = {key, otherwise};
    each_line(path, find_field, &f);
    return f.value;
}

/* A file in a group's folder that holds one number; "max" and a missing one: no limit. */
static uint64_t read_number(const char *dir, const char *file) {
    char path[PATH_BYTES + 64];
    (void)snprintf(path, sizeof path, "%s/%s", dir, file);
    return read_field(path, "", UINT64_MAX);
}

/* ---- control groups ------------------------------------------------------------------- */

/* What the two versions call the same things. */
typedef struct group_files {
    const char *limits[2], *used;
    /* Files in memory, which the kernel drops before anything else: all of them count as
     * free, as in MemAvailable.  Who reads a file twice makes it active. */
    const char *cache[2];
} group_files;

static const group_files V1 = {{"memory.limit_in_bytes", NULL},
                               "memory.usage_in_bytes",
                               {"total_inactive_file ", "total_active_file "}};
static const group_files V2 = {
    {"memory.max", "memory.high"}, "memory.current", {"inactive_file ", "active_file "}};

/* Version 1 says "no limit" with the largest number of whole pages. */
#define NO_LIMIT ((uint64_t)1 << 62)

typedef struct groups {
    char v1[PATH_BYTES]; /* our group as /proc/self/cgroup has it; "": none */
    char v2[PATH_BYTES];
    tug_pressure_sample *sample;
} groups;

static uint64_t group_left(const tug_pressure_sample *s) {
    if (s->group_limit == UINT64_MAX) return UINT64_MAX;
    return s->group_limit > s->group_used ? s->group_limit - s->group_used : 0;
}

/* Keeps the group if it has less left than the tightest so far. */
static void look_at_group(groups *g, const char *dir, const group_files *files) {
    tug_pressure_sample one = {.group_limit = UINT64_MAX};
    for (int i = 0; i < 2 && files->limits[i]; i++) {
        const uint64_t limit = read_number(dir, files->limits[i]);
        if (limit < NO_LIMIT && limit < one.group_limit) one.group_limit = limit;
    }
    if (one.group_limit == UINT64_MAX) return;
    char path[PATH_BYTES + 64];
    (void)snprintf(path, sizeof path, "%s/memory.stat", dir);
    const uint64_t used = read_number(dir, files->used);
    uint64_t cache = 0;
    for (int i = 0; i < 2; i++) {
        const uint64_t part = read_field(path, files->cache[i], 0);
        cache += part < NO_LIMIT ? part : 0;
    }
    one.group_used = used == UINT64_MAX ? 0 : used > cache ? used - cache : 0;
    if (group_left(&one) >= group_left(g->sample)) return;
    g->sample->group_limit = one.group_limit;
    g->sample->group_used = one.group_used;
}

/* `group` below `mount`, which shows the hierarchy from `mount_root` down. */
static void walk_up(groups *g, const char *mount, const char *mount_root,
                    const char *group, const group_files *files) {
    const size_t above = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
    const bool inside = strncmp(group, mount_root, above) == 0 &&
                        (group[above] == '/' || group[above] == '\0') &&
                        !strstr(group, "/..");
    char dir[PATH_BYTES];
    const int n = snprintf(dir, sizeof dir, "%s%s", mount, inside ? group + above : "");
    if (n < 0 || n >= (int)sizeof dir) return;
    if (n > 0 && dir[n - 1] == '/') dir[n - 1] = '\0';
    for (;;) {
        look_at_group(g, dir, files);
        char *slash = strrchr(dir, '/');
        if (strlen(dir) <= strlen(mount) || !slash) return;
        *slash = '\0';
    }
}

static bool has_word(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *p = list; *p; p += *p == ',') {
        const size_t m = strcspn(p, ",");
        if (m == n && strncmp(p, word, n) == 0) return true;
        p += m;
    }
    return false;
}

/* "4:memory:/a/b" or "0::/a/b". */
static void read_membership(void *ud, char *line) {
    groups *g = ud;
    char *list = strchr(line, ':');
    char *path = list ? strchr(list + 1, ':') : NULL;
    if (!path || strlen(path + 1) >= PATH_BYTES) return;
    *path++ = '\0';
    list++;
    if (*list == '\0') strcpy(g->v2, path);
    if (has_word(list, "memory")) strcpy(g->v1, path);
}

/* "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory" */
static void read_mount(void *ud, char *line) {
    groups *g = ud;
    char *rest = strstr(line, " - ");
    if (!rest) return;
    char mount_root[PATH_BYTES], mount[PATH_BYTES], type[32], options[512];
    if (sscanf(line, "%*s %*s %*s %1023s %1023s", mount_root, mount) != 2) return;
    if (sscanf(rest, " - %31s %*s %511s", type, options) != 2) return;
    if (strcmp(type, "cgroup2") == 0 && g->v2[0]) {
        walk_up(g, mount, mount_root, g->v2, &V2);
    } else if (strcmp(type, "cgroup") == 0 && g->v1[0] && has_word(options, "memory")) {
        walk_up(g, mount, mount_root, g->v1, &V1);
    }
}

/* ---- the sample ----------------------------------------------------------------------- */

/* "some avg10=12.34 avg60=..." in whole per cent. */
static double read_stalled(void) {
    return (double)read_field("/proc/pressure/memory", "some avg10=", 0) / 100.0;
}

tug_pressure_sample tug_pressure_read(void) {
    tug_pressure_sample s = {.available = UINT64_MAX, .group_limit = UINT64_MAX};
    const uint64_t kb = read_field("/proc/meminfo", "MemAvailable:", UINT64_MAX);
    if (kb < NO_LIMIT / 1024) s.available = kb * 1024;
    s.total = read_field("/proc/meminfo", "MemTotal:", 0) * 1024;
    s.stalled = read_stalled();
    groups g = {.sample = &s};
    each_line("/proc/self/cgroup", read_membership, &g);
    each_line("/proc/self/mountinfo", read_mount, &g);
    return s;
}

/* ---- the decision --------------------------------------------------------------------- */

/* Where memory can run out: what is left there, and what is to stay with others. */
typedef struct place {
    uint64_t left, margin;
} place;

enum { N_PLACES = 2 };

static uint64_t between(uint64_t x, uint64_t least, uint64_t most) {
    return x < least ? least : x > most ? most : x;
}

static uint64_t least_of(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t most_of(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* A group is often ours alone, so less must stay free in it than in the system. */
static void find_places(const tug_pressure_sample *s, place *p) {
    p[0] = (place){s->available, between(s->total / 32, 128 * MB, 1024 * MB)};
    p[1] = (place){group_left(s), between(s->group_limit / 64, 16 * MB, 512 * MB)};
}

uint64_t tug_pressure_available(const tug_pressure_sample *s) {
    return least_of(s->available, group_left(s));
}

uint64_t tug_pressure_free(const tug_pressure_sample *s) {
    place p[N_PLACES];
    find_places(s, p);
    uint64_t free_bytes = UINT64_MAX;
    for (int i = 0; i < N_PLACES; i++) {
        const uint64_t here = p[i].left > p[i].margin ? p[i].left - p[i].margin : 0;
        free_bytes = least_of(free_bytes, here);
    }
    return free_bytes;
}

int64_t tug_pressure_decide(const tug_pressure_sample *s, uint64_t ceiling,
                            uint64_t ours) {
    place p[N_PLACES];
    find_places(s, p);
    uint64_t give = ours > ceiling ? ours - ceiling : 0;
    uint64_t take = ours < ceiling ? ceiling - ours : 0;
    bool tight = false;
    for (int i = 0; i < N_PLACES; i++) {
        const uint64_t left = p[i].left, margin = p[i].margin;
        if (left < margin) give = most_of(give, margin + margin / 2 - left);
        take = least_of(take, left > 2 * margin ? (left - 2 * margin) / 4 : 0);
        tight = tight || left < 4 * margin;
    }
    /* Stalls of a program at a limit of its own are not ours to cure. */
    if (s->stalled >= 0.10 && tight) give = most_of(give, ours / 16);
    if (s->stalled >= 0.01) take = 0;
    if (give > 0) return -(int64_t)least_of(give, least_of(ours, INT64_MAX));
    return (int64_t)take;
}
