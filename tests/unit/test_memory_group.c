/* test_memory_group.c - in a real control group with a limit: it is seen, memory beyond it
 * is refused instead of paid for with a life, others in the group are made room for.
 *
 * Needs the right to make a memory control group (root); skips visibly without.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory/pinned.h"
#include "memory/pressure.h"

#define MB ((uint64_t)1 << 20)

enum { LIMIT_MB = 256, PAGE = 4096 };

static char group[128]; /* its folder; "" when there can be none */

static bool write_to(const char *file, const char *text) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", group, file);
    FILE *f = fopen(path, "w");
    if (!f) return false;
    const bool wrote = fputs(text, f) >= 0;
    return fclose(f) == 0 && wrote;
}

static bool make_group_in(const char *hierarchy, const char *limit_file) {
    (void)snprintf(group, sizeof group, "%s/tug-test-%d", hierarchy, (int)getpid());
    char limit[32];
    (void)snprintf(limit, sizeof limit, "%llu", (unsigned long long)(LIMIT_MB * MB));
    if (mkdir(group, 0755) == 0) {
        (void)write_to("memory.swap.max", "0"); /* where there is one */
        if (write_to(limit_file, limit)) return true;
        (void)rmdir(group);
    }
    group[0] = '\0';
    return false;
}

static int make_group(void **state) {
    (void)state;
    if (!make_group_in("/sys/fs/cgroup/memory", "memory.limit_in_bytes") &&
        !make_group_in("/sys/fs/cgroup", "memory.max")) {
        (void)printf("skip: cannot make a memory control group here (root can)\n");
    }
    return 0;
}

static int remove_group(void **state) {
    (void)state;
    for (int i = 0; group[0] && i < 100 && rmdir(group) != 0; i++) (void)usleep(10000);
    return 0;
}

/* Says what is wrong and ends a child; the parent fails then. */
static void need(bool ok, const char *what) {
    if (ok) return;
    (void)fprintf(stderr, "in the group: %s\n", what);
    _exit(1);
}

/* The wait status of a process in the group that runs fn; skips without a group. */
static int run_in_group(void (*fn)(void)) {
    if (!group[0]) skip();
    (void)fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char self[16];
        (void)snprintf(self, sizeof self, "%d", (int)getpid());
        need(write_to("cgroup.procs", self), "cannot be entered");
        fn();
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static tug_pinned reserve(void) {
    tug_pinned p;
    need(tug_pinned_reserve(&p, 1024 * MB, NULL) == TUG_OK, "nothing can be reserved");
    return p;
}

static void see_limit(void) {
    const tug_pressure_sample s = tug_pressure_read();
    need(s.group_limit == LIMIT_MB * MB, "its limit is not seen");
    need(s.group_used < LIMIT_MB * MB / 2, "something else is in it");
    need(tug_pressure_available(&s) < LIMIT_MB * MB, "more than the limit is available");
}

static void take_too_much(void) {
    tug_pinned p = reserve();
    tug_err err = {0};
    need(tug_pinned_take(&p, 0, 512 * MB, &err) == TUG_ENOMEM, "too much is not refused");
    need(strstr(err.msg, "not taking 0.54 GB") != NULL, err.msg);
    need(p.taken == 0, "something was taken");
}

static void take_all_there_is(void) {
    tug_pinned p = reserve();
    const tug_pressure_sample s = tug_pressure_read();
    /* page tables and what the process itself needs come out of the margin */
    const uint64_t n = tug_pressure_free(&s) / PAGE * PAGE - 2 * MB;
    need(n > 200 * MB, "less than 200 MB are free");
    tug_err err = {0};
    need(tug_pinned_take(&p, 0, n, &err) == TUG_OK, err.msg);
    need(tug_pinned_take(&p, n, 32 * MB, NULL) == TUG_ENOMEM, "still more can be taken");
    tug_pinned_give(&p, 0, 64 * MB);
    need(tug_pinned_take(&p, 0, 32 * MB, &err) == TUG_OK, err.msg);
}

/* What happens without asking: the proof that the limit is real. */
static void touch_too_much(void) {
    uint8_t *p =
        mmap(NULL, 512 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(p != MAP_FAILED, "nothing can be mapped");
    for (uint64_t i = 0; i < 512 * MB; i += PAGE) ((volatile uint8_t *)p)[i] = 1;
}

/* Slots are no whole huge pages, and the coldest are not side by side. */
static void give_every_other_slot(void) {
    const uint64_t slot = 367 * PAGE;
    tug_pinned p = reserve();
    need(tug_pinned_take(&p, 0, 100 * slot, NULL) == TUG_OK, "100 slots cannot be taken");
    const uint64_t before = tug_pressure_read().group_used;
    for (uint64_t i = 0; i < 100; i += 2) tug_pinned_give(&p, i * slot, slot);
    const uint64_t after = tug_pressure_read().group_used;
    need(before - after > 45 * slot, "what was given back is still taken");
}

static int64_t decide(const tug_pinned *p) {
    const tug_pressure_sample s = tug_pressure_read();
    return tug_pressure_decide(&s, UINT64_MAX, p->taken);
}

/* Another process in the group: when told to it takes 95 MB, and says so. */
typedef struct neighbour {
    pid_t pid;
    int tell[2], hear[2];
} neighbour;

static neighbour neighbour_start(void) {
    neighbour n;
    need(pipe(n.tell) == 0 && pipe(n.hear) == 0, "no pipe");
    n.pid = fork();
    if (n.pid != 0) return n;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    char c;
    char *mine = malloc(95 * MB);
    if (!mine || read(n.tell[0], &c, 1) != 1) _exit(1);
    memset(mine, 1, 95 * MB);
    if (write(n.hear[1], mine, 1) != 1) _exit(1);
    for (;;) (void)pause();
}

static void neighbour_take(const neighbour *n) {
    char c;
    need(write(n->tell[1], "x", 1) == 1, "the other process is gone");
    need(read(n->hear[0], &c, 1) == 1, "the other process is gone");
}

static void make_room_for_others(void) {
    const neighbour other = neighbour_start();
    tug_pinned p = reserve();
    need(tug_pinned_take(&p, 0, 150 * MB, NULL) == TUG_OK, "150 MB cannot be taken");
    need(decide(&p) >= 0, "memory is to be given back without need");
    neighbour_take(&other);
    const int64_t n = decide(&p);
    need(n < 0, "nothing is given back");
    tug_pinned_give(&p, 0, ((uint64_t)-n + PAGE - 1) / PAGE * PAGE);
    need(decide(&p) == 0, "that was not enough, or too much");
    (void)kill(other.pid, SIGKILL);
    (void)waitpid(other.pid, NULL, 0);
    need(decide(&p) > 0, "nothing is taken again");
}

static void the_limit_is_seen(void **state) {
    (void)state;
    assert_int_equal(run_in_group(see_limit), 0);
}

static void more_than_the_limit_is_refused(void **state) {
    (void)state;
    assert_int_equal(run_in_group(take_too_much), 0);
    const int status = run_in_group(touch_too_much);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void up_to_the_limit_is_taken(void **state) {
    (void)state;
    assert_int_equal(run_in_group(take_all_there_is), 0);
}

static void what_is_given_back_is_free(void **state) {
    (void)state;
    assert_int_equal(run_in_group(give_every_other_slot), 0);
}

static void others_get_room(void **state) {
    (void)state;
    assert_int_equal(run_in_group(make_room_for_others), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_limit_is_seen),
        cmocka_unit_test(more_than_the_limit_is_refused),
        cmocka_unit_test(up_to_the_limit_is_taken),
        cmocka_unit_test(what_is_given_back_is_free),
        cmocka_unit_test(others_get_room),
    };
    return cmocka_run_group_tests(tests, make_group, remove_group);
}
