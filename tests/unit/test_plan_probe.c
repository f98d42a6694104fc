/* test_plan_probe.c - measuring a disk and energy counters, and what may go wrong there.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/backend_speed.h"
#include "base/cpu.h"
#include "base/sys.h"
#include "fault/fault.h"
#include "plan/plan_probe.h"
#include "support/tmpdir.h"
#include "tug_profile.h"

static tug_err err;

static const char *file_of(const tmpdir *d, size_t n) {
    char *bytes = tug_alloc_zero(n);
    assert_non_null(bytes);
    const char *path = tmpdir_write(d, "data", tug_str_make(bytes, n));
    tug_free(bytes);
    return path;
}

static void a_file_that_is_there(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    const char *path = file_of(&d, 32 << 20);
    tug_plan_disk_speed s;
    const double start = tug_now();
    assert_int_equal(tug_plan_probe_disk(path, NULL, 0.1, &s, &err), TUG_OK);
    assert_true(tug_now() - start >= 0.1);
    assert_true(s.bytes_s > 1e5 && isfinite(s.bytes_s));
    assert_true(s.latency_s >= 1e-5 && isfinite(s.latency_s));
    assert_int_equal(access(path, F_OK), 0); /* only its own file is removed */
    tmpdir_remove(&d);
}

static void refused(tug_status s, tug_status want, const char *words) {
    assert_int_equal(s, want);
    if (!strstr(err.msg, words)) fail_msg("'%s' does not say '%s'", err.msg, words);
}

static void files_that_do_not_work(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    tug_plan_disk_speed s;
    refused(tug_plan_probe_disk(file_of(&d, 1000), NULL, 0.1, &s, &err), TUG_ERANGE,
            "at least 24 MB");
    refused(tug_plan_probe_disk(tmpdir_path(&d, "none"), NULL, 0.1, &s, &err), TUG_EIO,
            "No such file");
    refused(tug_plan_probe_disk(NULL, tmpdir_path(&d, "none"), 0.1, &s, &err), TUG_EIO,
            "large file with -m");
    tmpdir_remove(&d);
}

/* A disk that fills up, or memory that ends: one sentence, and no file is left. */
static void nothing_is_left(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    tug_plan_disk_speed s;
    fault_fail_once(FAULT_WRITE, 3, ENOSPC);
    const tug_status full = tug_plan_probe_disk(NULL, d.path, 0.1, &s, &err);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_live_files(), 0);
    assert_true(fault_stop());
    refused(full, TUG_EIO, "No space left");
    fault_fail_alloc(1);
    const tug_status memory = tug_plan_probe_disk(NULL, d.path, 0.1, &s, &err);
    assert_int_equal(fault_live_files(), 0);
    assert_true(fault_stop());
    refused(memory, TUG_ENOMEM, "out of memory");
    assert_int_equal(rmdir(d.path), 0);
}

static void energy_counters(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    double joules = -1.0;
    assert_false(tug_plan_joules(d.path, &joules));
    char folder[2][128];
    for (int i = 0; i < 2; i++) {
        (void)snprintf(folder[i], sizeof folder[i], "%s/intel-rapl:%d", d.path, i);
        assert_int_equal(mkdir(folder[i], 0700), 0);
        char path[300];
        (void)snprintf(path, sizeof path, "%s/energy_uj", folder[i]);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        assert_true(fprintf(f, "%d\n", 1500000 * (i + 1)) > 0);
        assert_int_equal(fclose(f), 0);
    }
    assert_true(tug_plan_joules(d.path, &joules));
    assert_true(fabs(joules - 4.5) < 1e-9);
    for (int i = 0; i < 2; i++) {
        char path[300];
        (void)snprintf(path, sizeof path, "%s/energy_uj", folder[i]);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(folder[i]), 0);
    }
    tmpdir_remove(&d);
}

/* The limits of the machine need no model. */
static void limits_without_a_model(void **state) {
    (void)state;
    tug_limits_probe *probe = NULL;
    assert_int_equal(tug_limits_probe_create(&probe, NULL, &err), TUG_OK);
    const tug_limits l = tug_limits_probe_run(probe);
    assert_true(l.read_bytes_s > 1e7 && l.int8_macs_s > 1e7 && l.f32_macs_s > 1e7);
    tug_product_speed speed;
    for (int i = 0; i < TUG_PRODUCTS; i++) {
        assert_int_equal(tug_limits_probe_products(probe, (tug_product)i, &speed, &err),
                         TUG_OK);
        /* not above the peak, but for what a noisy machine does to either */
        assert_true(speed.macs_s > 1e6 && speed.macs_s < 3 * l.int8_macs_s);
        assert_true(speed.setup_tokens >= 0 && speed.setup_tokens <= 128);
        for (int j = 0; j < TUG_EXPERT_POINTS; j++) {
            assert_true(speed.expert_s[j] > 1.0 / (3 * l.int8_macs_s));
        }
        const double few = speed.expert_s[0],
                     many = speed.expert_s[TUG_EXPERT_POINTS - 1];
        assert_true(many > few && many < 3 * 128 * few);
    }
    tug_mixer_speed mixers;
    assert_int_equal(tug_limits_probe_mixers(probe, &mixers, &err), TUG_OK);
    assert_true(mixers.delta_macs_s > 1e6 && mixers.delta_macs_s < 3 * l.f32_macs_s);
    assert_true(mixers.elements_s > 1e6);
    for (uint64_t n = 1; n <= 6; n++) {
        fault_fail_alloc(n);
        assert_int_equal(tug_limits_probe_products(probe, TUG_PRODUCT_Q4_K, &speed, &err),
                         TUG_ENOMEM);
        assert_true(fault_stop());
        fault_fail_alloc(n);
        assert_int_equal(tug_limits_probe_mixers(probe, &mixers, &err), TUG_ENOMEM);
        assert_true(fault_stop());
    }
    tug_limits_probe_destroy(&probe);
    assert_null(probe);
    fault_fail_alloc(1);
    const tug_status s = tug_limits_probe_create(&probe, NULL, &err);
    assert_int_equal(fault_live_blocks(), 0);
    assert_true(fault_stop());
    assert_int_equal(s, TUG_ENOMEM);
}

/* The largest type in the least memory. */
static void products_in_little_memory(void **state) {
    (void)state;
    enum { BYTES = 128 << 20 };
    tug_backend *be = NULL;
    assert_int_equal(tug_backend_cpu_create(&be, tug_cpu_detect(), 2, &err), TUG_OK);
    uint8_t *memory = tug_alloc_aligned(64, BYTES);
    assert_non_null(memory);
    tug_product_speed speed;
    assert_int_equal(
        tug_backend_measure_products(be, TUG_TYPE_Q8_0, memory, BYTES, &speed, &err),
        TUG_OK);
    for (int j = 0; j < TUG_EXPERT_POINTS; j++) assert_true(speed.expert_s[j] > 0.0);
    tug_free(memory);
    tug_backend_destroy(&be);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_is_there),
        cmocka_unit_test(files_that_do_not_work),
        cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(energy_counters),
        cmocka_unit_test(limits_without_a_model),
        cmocka_unit_test(products_in_little_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
