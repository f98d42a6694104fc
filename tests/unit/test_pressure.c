/* test_pressure.c - memory/pressure.h: what is read from kernels with control groups of
 * either version, and what is decided.  SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/sys.h"
#include "memory/meminfo.h"
#include "memory/pressure.h"

#define KB   ((uint64_t)1 << 10)
#define MB   ((uint64_t)1 << 20)
#define GB   ((uint64_t)1 << 30)
#define NONE UINT64_MAX

/* ---- reading -------------------------------------------------------------------------- */

typedef struct kernel_file {
    const char *path, *text;
} kernel_file;

static const kernel_file *kernel; /* ends with {NULL, NULL}; no other file exists */
static tug_sys_table real;

static int kernel_open(const char *path, int flags, unsigned mode) {
    (void)flags;
    (void)mode;
    for (const kernel_file *f = kernel; f->path; f++) {
        if (strcmp(f->path, path) != 0) continue;
        const int fd = memfd_create("kernel", 0);
        assert_int_equal(write(fd, f->text, strlen(f->text)), (ssize_t)strlen(f->text));
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return fd;
    }
    errno = ENOENT;
    return -1;
}

/* Some kernels give little at a time. */
static ssize_t kernel_read(int fd, void *buf, size_t n) {
    return real.read(fd, buf, n < 17 ? n : 17);
}

static tug_pressure_sample read_from(const kernel_file *files) {
    kernel = files;
    real = tug_sys;
    tug_sys.open = kernel_open;
    tug_sys.read = kernel_read;
    const tug_pressure_sample s = tug_pressure_read();
    assert_int_equal(tug_memory_available(), tug_pressure_available(&s));
    tug_sys = real;
    return s;
}

#define MEMINFO \
    "MemTotal:  8000000 kB\nMemFree: 12 kB\nMemAvailable:    5000000 kB\nCached: 3 kB\n"

static void without_groups_the_system_counts(void **state) {
    (void)state;
    static const kernel_file files[] = {
        {"/proc/meminfo", MEMINFO},
        {"/proc/pressure/memory", "some avg10=37.52 avg60=1.00 avg300=0.00 total=9\n"
                                  "full avg10=11.00 avg60=0.00 avg300=0.00 total=0\n"},
        {NULL, NULL}};
    const tug_pressure_sample s = read_from(files);
    assert_int_equal(s.total, 8000000 * KB);
    assert_int_equal(s.available, 5000000 * KB);
    assert_int_equal(s.group_limit, NONE);
    assert_true(s.stalled == 0.37);
    assert_int_equal(tug_pressure_available(&s), 5000000 * KB);
    assert_int_equal(tug_pressure_free(&s), 5000000 * KB - 8000000 * KB / 32);
}

static void a_kernel_that_says_nothing(void **state) {
    (void)state;
    static const kernel_file files[] = {{NULL, NULL}};
    const tug_pressure_sample s = read_from(files);
    assert_int_equal(tug_pressure_available(&s), NONE);
    assert_true(tug_pressure_decide(&s, NONE, GB) > 0);
    assert_int_equal(tug_pressure_decide(&s, GB, GB), 0);
}

#define CGROUP2 \
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V2_STAT(inactive, active)                                             \
    "anon 1\nfile 2\ninactive_anon 3\nactive_anon 4\ninactive_file " inactive \
    "\nactive_file " active "\n"

/* Of the groups on the way up the one with the least left counts; memory.high is a limit. */
static void version_2_up_to_the_root(void **state) {
    (void)state;
    static kernel_file files[] = {
        {"/proc/meminfo", MEMINFO},
        {"/proc/self/cgroup", "0::/user.slice/tug.scope\n"},
        {"/proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n" CGROUP2},
        {"/sys/fs/cgroup/user.slice/tug.scope/memory.max", "4000000000\n"},
        {"/sys/fs/cgroup/user.slice/tug.scope/memory.high", "max\n"},
        {"/sys/fs/cgroup/user.slice/tug.scope/memory.current", "1500000000\n"},
        {"/sys/fs/cgroup/user.slice/tug.scope/memory.stat",
         V2_STAT("400000000", "100000000")},
        {"/sys/fs/cgroup/user.slice/memory.max", "max\n"},
        {"/sys/fs/cgroup/user.slice/memory.high", "max\n"},
        {"/sys/fs/cgroup/user.slice/memory.current", "7000000000\n"},
        {"/sys/fs/cgroup/user.slice/memory.stat", V2_STAT("0", "0")},
        {NULL, NULL}};
    tug_pressure_sample s = read_from(files);
    assert_int_equal(s.group_limit, 4000000000);
    assert_int_equal(s.group_used, 1000000000);
    assert_int_equal(tug_pressure_available(&s), 3000000000);

    files[4].text = "2500000000\n";
    s = read_from(files);
    assert_int_equal(s.group_limit, 2500000000);
    assert_int_equal(tug_pressure_available(&s), 1500000000);

    files[7].text = "7100000000\n"; /* others in user.slice have nearly all */
    s = read_from(files);
    assert_int_equal(s.group_limit, 7100000000);
    assert_int_equal(s.group_used, 7000000000);

    files[9].text = "7200000000\n"; /* more than the limit */
    s = read_from(files);
    assert_int_equal(tug_pressure_available(&s), 0);
    assert_int_equal(tug_pressure_free(&s), 0);
}

#define CGROUP1                                                         \
    "34 30 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"       \
    "35 30 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" \
    "36 30 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
#define V1_UNLIMITED "9223372036854771712\n"

static void version_1_beside_version_2(void **state) {
    (void)state;
    static const kernel_file files[] = {
        {"/proc/meminfo", MEMINFO},
        {"/proc/self/cgroup",
         "9:name=systemd:/\n4:hugetlb,memory:/jobs/a\n1:cpu:/\n0::/\n"},
        {"/proc/self/mountinfo", CGROUP1},
        {"/sys/fs/cgroup/memory/jobs/a/memory.limit_in_bytes", V1_UNLIMITED},
        {"/sys/fs/cgroup/memory/jobs/a/memory.usage_in_bytes", "999\n"},
        {"/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "600000000\n"},
        {"/sys/fs/cgroup/memory/jobs/memory.usage_in_bytes", "500000000\n"},
        {"/sys/fs/cgroup/memory/jobs/memory.stat",
         "cache 7\ninactive_file 1\ntotal_cache 8\ntotal_inactive_file 200000000\n"
         "total_active_file 100000000\n"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", V1_UNLIMITED},
        {"/sys/fs/cgroup/cpu/memory.limit_in_bytes", "1\n"},
        {NULL, NULL}};
    const tug_pressure_sample s = read_from(files);
    assert_int_equal(s.group_limit, 600000000);
    assert_int_equal(s.group_used, 200000000);
}

/* A container sees its own group at the mount point, whatever /proc/self/cgroup says. */
static void groups_seen_from_a_container(void **state) {
    (void)state;
    static kernel_file files[] = {
        {"/proc/meminfo", MEMINFO},
        {"/proc/self/cgroup", "5:memory:/docker/abc/sub\n"},
        {"/proc/self/mountinfo",
         "7 6 0:9 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n"},
        {"/sys/fs/cgroup/memory/memory.usage_in_bytes", "300000\n"},
        {"/sys/fs/cgroup/memory/sub/memory.limit_in_bytes", "900000\n"},
        {"/sys/fs/cgroup/memory/sub/memory.usage_in_bytes", "250000\n"},
        {NULL, NULL}};
    assert_int_equal(read_from(files).group_limit, 900000);
    files[1].text = "5:memory:/docker/abcdef\n"; /* not below the mount's root */
    assert_int_equal(read_from(files).group_limit, 1000000);
    files[1].text = "5:memory:/../elsewhere\n";
    assert_int_equal(read_from(files).group_limit, 1000000);
}

/* Layers of a container's file system make lines of many kilobytes. */
static void long_lines_are_passed_over(void **state) {
    (void)state;
    static char mounts[40000];
    memset(mounts, 'x', 30000);
    memcpy(mounts, "1 0 0:1 / / rw - overlay overlay lowerdir=", 42);
    mounts[30000] = '\n';
    strcpy(mounts + 30001, CGROUP2);
    const kernel_file files[] = {{"/proc/meminfo", MEMINFO},
                                 {"/proc/self/cgroup", "0::/\n"},
                                 {"/proc/self/mountinfo", mounts},
                                 {"/sys/fs/cgroup/memory.max", "1000\n"},
                                 {"/sys/fs/cgroup/memory.current", "10"},
                                 {NULL, NULL}};
    const tug_pressure_sample s = read_from(files);
    assert_int_equal(s.group_limit, 1000);
    assert_int_equal(s.group_used, 10);
}

/* Whatever this machine is, it has memory. */
static void this_machine(void **state) {
    (void)state;
    const tug_pressure_sample s = tug_pressure_read();
    assert_true(s.total > 64 * MB && s.total < 64 * 1024 * GB);
    assert_true(s.available <= s.total);
    assert_true(s.stalled >= 0.0 && s.stalled <= 1.0);
}

/* ---- deciding ------------------------------------------------------------------------- */

/* The system: 32 GB, so a margin of 1 GB.  The group: 16 GB, a margin of 256 MB. */
static tug_pressure_sample sample(uint64_t available, uint64_t group_left,
                                  double stalled) {
    return (tug_pressure_sample){.available = available,
                                 .total = 32 * GB,
                                 .group_limit = group_left == NONE ? NONE : 16 * GB,
                                 .group_used =
                                     group_left == NONE ? 0 : 16 * GB - group_left,
                                 .stalled = stalled};
}

static void decisions(void **state) {
    (void)state;
    static const struct {
        const char *what;
        uint64_t available, group_left;
        double stalled;
        uint64_t ceiling, ours;
        int64_t want;
    } table[] = {
        {"plenty: a quarter of what is above two margins", 10 * GB, NONE, 0, NONE, GB,
         2 * GB},
        {"but not above the ceiling", 10 * GB, NONE, 0, GB + MB, GB, MB},
        {"between the marks: nothing", 2 * GB, NONE, 0, NONE, GB, 0},
        {"at the margin: nothing", GB, NONE, 0, NONE, GB, 0},
        {"below: up to a margin and a half", GB - MB, NONE, 0, NONE, 4 * GB,
         -(int64_t)(512 * MB + MB)},
        {"never more than there is", 0, NONE, 0, NONE, 100 * MB, -(int64_t)(100 * MB)},
        {"nothing to give", 0, NONE, 0, NONE, 0, 0},
        {"the group is the tighter one", 10 * GB, 200 * MB, 0, NONE, 4 * GB,
         -(int64_t)(184 * MB)},
        {"the group has less to take", 10 * GB, GB, 0, NONE, GB, 128 * MB},
        {"the ceiling was lowered", 10 * GB, NONE, 0, GB, 3 * GB, -(int64_t)(2 * GB)},
        {"a lower ceiling and little left: the larger", GB - MB, NONE, 0, 4 * GB - MB,
         4 * GB, -(int64_t)(512 * MB + MB)},
        {"stalls while memory is short", 3 * GB, NONE, 0.2, NONE, 16 * GB, -(int64_t)GB},
        {"stalls while there is plenty: wait", 10 * GB, NONE, 0.2, NONE, 16 * GB, 0},
        {"few stalls: wait", 10 * GB, NONE, 0.02, NONE, GB, 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const tug_pressure_sample s =
            sample(table[i].available, table[i].group_left, table[i].stalled);
        const int64_t got = tug_pressure_decide(&s, table[i].ceiling, table[i].ours);
        if (got != table[i].want) {
            fail_msg("%s: %lld, not %lld", table[i].what, (long long)got,
                     (long long)table[i].want);
        }
    }
}

/* From anywhere, following the decisions ends, without one that goes back on another, with
 * the margin left if that can be. */
static void decisions_come_to_rest(void **state) {
    (void)state;
    tug_rng rng;
    tug_rng_seed(&rng, 3);
    for (int round = 0; round < 2000; round++) {
        const uint64_t others = tug_rng_u64(&rng) % (40 * GB);
        const uint64_t ceiling = round % 3 ? tug_rng_u64(&rng) % (32 * GB) : NONE;
        uint64_t ours = tug_rng_u64(&rng) % (32 * GB);
        bool gave = false, took = false;
        int64_t step = 1;
        for (int i = 0; i < 200 && step != 0; i++) {
            const uint64_t used = others + ours;
            const tug_pressure_sample s =
                sample(used < 32 * GB ? 32 * GB - used : 0, NONE, 0.0);
            step = tug_pressure_decide(&s, ceiling, ours);
            gave = gave || step < 0;
            took = took || step > 0;
            ours = (uint64_t)((int64_t)ours + step);
        }
        assert_int_equal(step, 0);
        assert_false(gave && took);
        assert_true(ours <= ceiling);
        assert_true(ours == 0 || others + ours <= 31 * GB);
        assert_true(ours == ceiling || others + ours >= 30 * GB - MB || gave);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_groups_the_system_counts),
        cmocka_unit_test(a_kernel_that_says_nothing),
        cmocka_unit_test(version_2_up_to_the_root),
        cmocka_unit_test(version_1_beside_version_2),
        cmocka_unit_test(groups_seen_from_a_container),
        cmocka_unit_test(long_lines_are_passed_over),
        cmocka_unit_test(this_machine),
        cmocka_unit_test(decisions),
        cmocka_unit_test(decisions_come_to_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
