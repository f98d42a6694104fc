/* test_pinned.c - memory/pinned.h: taken, given back, refused.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/sys.h"
#include "fault/fault.h"
#include "memory/pinned.h"
#include "support/tmpdir.h"

enum { PAGE = 4096, MB = 1 << 20 };

/* Pages of [p, p + n) that are memory. */
static size_t resident(uint8_t *p, size_t n) {
    static unsigned char map[256 * MB / PAGE];
    assert_true(n <= 256 * MB);
    assert_int_equal(mincore(p, n, map), 0);
    size_t sum = 0;
    for (size_t i = 0; i < n / PAGE; i++) sum += map[i] & 1;
    return sum;
}

static bool is_zero(const uint8_t *p, size_t n) {
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static void memory_is_taken_and_given_back(void **state) {
    (void)state;
    tug_pinned p;
    assert_int_equal(tug_pinned_reserve(&p, 200 * MB, NULL), TUG_OK);
    assert_int_equal((uintptr_t)p.base % (2 * MB), 0);
    assert_int_equal(p.n, 200 * MB);
    assert_int_equal(resident(p.base, 200 * MB), 0);

    /* more than one step, beginning at no round place */
    assert_int_equal(tug_pinned_take(&p, 3 * PAGE, 100 * MB, NULL), TUG_OK);
    assert_int_equal(p.taken, 100 * MB);
    assert_int_equal(resident(p.base + 3 * PAGE, 100 * MB), 100 * MB / PAGE);
    assert_true(is_zero(p.base + 3 * PAGE, 100 * MB));

    memset(p.base + 3 * PAGE, 7, 100 * MB);
    tug_pinned_give(&p, MB, 50 * MB);
    assert_int_equal(p.taken, 50 * MB);
    assert_int_equal(resident(p.base + MB, 50 * MB), 0);
    assert_int_equal(p.base[MB - 1], 7);
    assert_int_equal(p.base[51 * MB], 7);
    assert_int_equal(tug_pinned_take(&p, 10 * MB, PAGE, NULL), TUG_OK);
    assert_true(is_zero(p.base + 10 * MB, PAGE));
    tug_pinned_free(&p);
    tug_pinned_free(&p);
    assert_null(p.base);
}

static void reserving_can_fail(void **state) {
    (void)state;
    tug_pinned p;
    tug_err err = {0};
    fault_fail_once(FAULT_MMAP, 1, ENOMEM);
    assert_int_equal(tug_pinned_reserve(&p, MB, &err), TUG_ENOMEM);
    assert_true(fault_stop());
    assert_non_null(strstr(err.msg, "address space"));
    tug_pinned_free(&p);
    assert_int_equal(tug_pinned_reserve(&p, UINT64_MAX, NULL), TUG_ERANGE);
}

static void not_being_allowed_to_lock_is_no_error(void **state) {
    (void)state;
    tug_pinned p;
    fault_fail_once(FAULT_MLOCK, 1, EPERM);
    assert_int_equal(tug_pinned_reserve(&p, 4 * MB, NULL), TUG_OK);
    assert_int_equal(tug_pinned_take(&p, 0, 4 * MB, NULL), TUG_OK);
    assert_true(fault_stop());
    assert_false(p.locked);
    assert_int_equal(resident(p.base, 4 * MB), 4 * MB / PAGE);
    tug_pinned_free(&p);
}

/* A kernel before 5.14 does not know how to touch pages for us: EINVAL.  One that has no
 * memory says so. */
static void touching_can_fail(void **state) {
    (void)state;
    static const int why[] = {EINVAL, ENOMEM};
    for (int i = 0; i < 2; i++) {
        tug_pinned p;
        tug_err err = {0};
        assert_int_equal(tug_pinned_reserve(&p, 100 * MB, NULL), TUG_OK);
        fault_fail_once(FAULT_MADVISE, 2, why[i]); /* of the second step */
        const tug_status s = tug_pinned_take(&p, 0, 100 * MB, &err);
        assert_true(fault_stop());
        assert_int_equal(s, i == 0 ? TUG_OK : TUG_ENOMEM);
        assert_int_equal(p.taken, i == 0 ? 100 * MB : 0);
        assert_int_equal(resident(p.base, 100 * MB), i == 0 ? 100 * MB / PAGE : 0);
        tug_pinned_free(&p);
    }
}

/* ---- a system with little memory ------------------------------------------------------- */

static struct {
    tug_sys_table real;
    tmpdir dir;
    int n_asked, little_from; /* from this look on there is little */
} fake;

static int fake_open(const char *path, int flags, unsigned mode) {
    if (strcmp(path, "/proc/meminfo") != 0) return fake.real.open(path, flags, mode);
    const bool little = ++fake.n_asked >= fake.little_from;
    return fake.real.open(tmpdir_path(&fake.dir, little ? "little" : "much"), flags,
                          mode);
}

static void fake_start(int little_from) {
    fake.dir = tmpdir_make();
    (void)tmpdir_write(&fake.dir, "much",
                       tug_str_of("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n"));
    (void)tmpdir_write(&fake.dir, "little",
                       tug_str_of("MemTotal: 8000000 kB\nMemAvailable: 300000 kB\n"));
    fake.n_asked = 0;
    fake.little_from = little_from;
    fake.real = tug_sys;
    tug_sys.open = fake_open;
}

static void fake_stop(void) {
    tug_sys = fake.real;
    tmpdir_remove(&fake.dir);
}

static void what_others_need_is_not_taken(void **state) {
    (void)state;
    tug_pinned p;
    tug_err err = {0};
    assert_int_equal(tug_pinned_reserve(&p, 200 * MB, NULL), TUG_OK);
    fake_start(1);
    assert_int_equal(tug_pinned_take(&p, 0, 200 * MB, &err), TUG_ENOMEM);
    assert_int_equal(resident(p.base, 200 * MB), 0);
    assert_non_null(strstr(err.msg, "not taking 0.21 GB"));
    assert_non_null(strstr(err.msg, "0.31 GB are available"));
    assert_int_equal(tug_pinned_take(&p, 0, 16 * MB, NULL), TUG_OK);
    assert_int_equal(p.taken, 16 * MB);
    fake_stop();
    tug_pinned_free(&p);
}

static void taking_stops_when_others_are_faster(void **state) {
    (void)state;
    tug_pinned p;
    assert_int_equal(tug_pinned_reserve(&p, 200 * MB, NULL), TUG_OK);
    fake_start(4); /* two looks a step */
    assert_int_equal(tug_pinned_take(&p, 0, 200 * MB, NULL), TUG_ENOMEM);
    assert_true(fake.n_asked > 2);
    assert_int_equal(p.taken, 0);
    assert_int_equal(resident(p.base, 200 * MB), 0);
    fake_stop();
    tug_pinned_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_taken_and_given_back),
        cmocka_unit_test(reserving_can_fail),
        cmocka_unit_test(not_being_allowed_to_lock_is_no_error),
        cmocka_unit_test(touching_can_fail),
        cmocka_unit_test(what_others_need_is_not_taken),
        cmocka_unit_test(taking_stops_when_others_are_faster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
