/* test_synth_fault.c - writing a model while memory runs out or the disk fails, at every
 * call in turn: one sentence, and nothing left behind.  SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "fault/fault.h"
#include "support/tmpdir.h"
#include "synth/synth.h"

/* One layer in two parts. */
static tug_status write_model(const char *path, tug_err *err) {
    tug_synth_spec s;
    assert_true(tug_synth_spec_like(&s, "tiny"));
    s.n_layer = 1;
    s.n_expert = 4;
    s.n_vocab = 512;
    const tug_gguf_write_params out = {.path = path, .split_bytes = 700000};
    tug_pool *pool = NULL;
    tug_synth_result r;
    char *name = NULL;
    tug_status status = tug_pool_create(&pool, 1, err);
    if (status == TUG_OK) {
        status = tug_synth_write(&s, &out, pool, NULL, NULL, &r, &name, err);
    }
    if (status == TUG_OK) assert_int_equal(r.n_parts, 2);
    tug_free(name);
    tug_pool_destroy(&pool);
    return status;
}

static void remove_both(const tmpdir *d) {
    assert_int_equal(unlink(tmpdir_path(d, "m-00001-of-00002.gguf")), 0);
    assert_int_equal(unlink(tmpdir_path(d, "m-00002-of-00002.gguf")), 0);
}

static void check(const tmpdir *d, tug_status s, const tug_err *err) {
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_live_files(), 0);
    if (s == TUG_OK) {
        remove_both(d);
    } else {
        assert_int_equal(err->code, s);
        assert_true(strlen(err->msg) > 10);
    }
    /* Only an empty folder can be removed. */
    assert_int_equal(rmdir(d->path), 0);
}

static void every_allocation_fails_once(void **state) {
    (void)state;
    uint64_t n = 1;
    for (bool hit = true; hit; n++) {
        const tmpdir d = tmpdir_make();
        tug_err err = {0};
        fault_fail_alloc(n);
        const tug_status s = write_model(tmpdir_path(&d, "m.gguf"), &err);
        check(&d, s, &err);
        hit = fault_stop();
        assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
    }
    assert_true(n > 20);
}

static void every_file_call_fails_once(void **state) {
    (void)state;
    static const int how[] = {ENOSPC, EIO, EINTR, FAULT_SHORT};
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        unsigned calls = FAULT_WRITE;
        if (how[i] > 0) calls |= FAULT_OPEN;
        if (how[i] == ENOSPC || how[i] == EIO) calls |= FAULT_RENAME | FAULT_STATVFS;
        uint64_t n = 1;
        for (bool hit = true; hit; n++) {
            const tmpdir d = tmpdir_make();
            tug_err err = {0};
            fault_fail_once(calls, n, how[i]);
            const tug_status s = write_model(tmpdir_path(&d, "m.gguf"), &err);
            check(&d, s, &err);
            hit = fault_stop();
            const bool harmless = !hit || how[i] == FAULT_SHORT || how[i] == EINTR;
            assert_int_equal(s, harmless ? TUG_OK : TUG_EIO);
        }
        assert_true(n > 20);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(every_file_call_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
