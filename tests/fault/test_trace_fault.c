/* test_trace_fault.c - traces when memory runs out or a disk says no: a sentence, nothing
 * lost, nothing left.  SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fault/fault.h"
#include "support/tmpdir.h"
#include "trace/curves.h"
#include "trace/synth_routes.h"

static const tug_routes_spec spec = {.n_layer = 2,
                                     .n_expert = 20,
                                     .n_used = 3,
                                     .n_prompt = 30,
                                     .batch = 9,
                                     .n_decode = 90,
                                     .seed = 1};

static tug_status make(const char *path, tug_err *err) {
    (void)path;
    tug_trace t = {0};
    const tug_status s = tug_synth_routes(&t, &spec, err);
    tug_trace_free(&t);
    return s;
}

static tug_status replay(const char *path, tug_err *err) {
    tug_trace t = {0};
    static tug_curves c;
    tug_curves_spec cs = {
        .n_policies = 1, .staging = 4, .pinned_share = 0.5, .profile = &t};
    tug_buf out = {0};
    tug_status s = tug_expert_policy_find(&cs.policies[0], "pinned", err);
    if (s == TUG_OK) s = tug_trace_read(&t, path, err);
    if (s == TUG_OK) s = tug_trace_split(&t, 4, err);
    tug_curves_default_sizes(&cs, 20);
    if (s == TUG_OK) s = tug_curves_run(&c, &t, &cs, err);
    if (s == TUG_OK) {
        tug_curves_text(&c, &out);
        s = tug_buf_ok(&out, err);
    }
    if (s == TUG_OK) {
        tug_curves_json(&c, &out);
        tug_curves_svg(&c, "t", &out);
        s = tug_buf_ok(&out, err);
    }
    tug_buf_free(&out);
    tug_trace_free(&t);
    return s;
}

static tug_status rewrite(const char *path, tug_err *err) {
    tug_trace t = {0};
    tug_status s = tug_trace_read(&t, path, err);
    if (s == TUG_OK) s = tug_trace_write(&t, path, err);
    tug_trace_free(&t);
    return s;
}

static void every_allocation_fails(tug_status (*f)(const char *, tug_err *),
                                   const char *path) {
    for (uint64_t n = 1;; n++) {
        tug_err err = {0};
        fault_fail_alloc(n);
        const tug_status s = f(path, &err);
        assert_int_equal(fault_live_blocks(), 0);
        assert_int_equal(fault_live_maps(), 0);
        assert_int_equal(fault_live_files(), 0);
        if (!fault_stop()) {
            assert_int_equal(s, TUG_OK);
            assert_true(n > 3);
            return;
        }
        assert_int_equal(s, TUG_ENOMEM);
        assert_non_null(strstr(err.msg, "memory"));
    }
}

static void every_call_fails(unsigned calls, tug_status (*f)(const char *, tug_err *),
                             const char *path) {
    for (uint64_t n = 1;; n++) {
        tug_err err = {0};
        fault_fail_once(calls, n, EIO);
        const tug_status s = f(path, &err);
        assert_int_equal(fault_live_blocks(), 0);
        assert_int_equal(fault_live_files(), 0);
        if (!fault_stop()) {
            assert_int_equal(s, TUG_OK);
            return;
        }
        assert_int_not_equal(s, TUG_OK);
        assert_non_null(strstr(err.msg, path));
        if (calls == FAULT_WRITE) return; /* the file is gone, as outfile.h says */
    }
}

static void save(const char *path) {
    tug_trace t = {0};
    assert_int_equal(tug_synth_routes(&t, &spec, NULL), TUG_OK);
    assert_int_equal(tug_trace_write(&t, path, NULL), TUG_OK);
    tug_trace_free(&t);
}

static void test_memory_runs_out(void **unused) {
    (void)unused;
    const tmpdir d = tmpdir_make();
    const char *path = tmpdir_path(&d, "a.trace");
    save(path);
    every_allocation_fails(make, path);
    every_allocation_fails(replay, path);
    every_allocation_fails(rewrite, path);
    tmpdir_remove(&d);
}

static void test_the_disk_fails(void **unused) {
    (void)unused;
    const tmpdir d = tmpdir_make();
    const char *path = tmpdir_path(&d, "a.trace");
    save(path);
    every_call_fails(FAULT_OPEN | FAULT_FSTAT | FAULT_MMAP, replay, path);
    every_call_fails(FAULT_WRITE, rewrite, path);
    tmpdir_remove(&d);
}

/* A header that promises much gets no memory for it. */
static void test_a_short_file_asks_for_little(void **unused) {
    (void)unused;
    tug_trace t = {0};
    tug_buf bytes = {0};
    assert_int_equal(tug_synth_routes(&t, &spec, NULL), TUG_OK);
    tug_trace_encode(&t, &bytes);
    tug_trace_free(&t);
    for (int at = 8; at < 44; at++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes.p[at] = (char)(bytes.p[at] ^ 1 << bit);
            uint64_t h = 0xCBF29CE484222325u;
            for (size_t i = 0; i + 8 < bytes.n; i++) {
                h = (h ^ (uint8_t)bytes.p[i]) * 0x100000001B3u;
            }
            for (int i = 0; i < 8; i++) {
                bytes.p[bytes.n - 8 + (size_t)i] = (char)(h >> 8 * i);
            }
            fault_watch();
            const tug_status s = tug_trace_decode(&t, tug_buf_view(&bytes), "t", NULL);
            assert_true(s == TUG_OK || s == TUG_EFORMAT || s == TUG_ERANGE);
            tug_trace_free(&t);
            assert_int_equal(fault_live_blocks(), 0);
            assert_true(fault_alloc_sum() <= 8 * bytes.n);
            (void)fault_stop();
            bytes.p[at] = (char)(bytes.p[at] ^ 1 << bit);
        }
    }
    tug_buf_free(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_the_disk_fails),
        cmocka_unit_test(test_a_short_file_asks_for_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
