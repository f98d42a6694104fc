/* test_gguf_fault.c - opening and reading GGUF while memory and the disk fail.
 *
 * Every call that the reader makes to the system fails once, in every way that it can.
 * The outcome is success (a retry, or a call that did not matter) or one sentence, and
 * nothing stays allocated, mapped or open.  SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/sys.h"
#include "fault/fault.h"
#include "gguf/gguf.h"
#include "support/gguf_build.h"
#include "support/tmpdir.h"

static tmpdir dir;
static const char *paths[2]; /* a whole file, the first of three parts */

static void write_part(int no) {
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                        "m-00003-of-00003.gguf"};
    static const char *const tensors[] = {"a", "b", "c"};
    gguf_build b;
    gguf_build_init(&b);
    gguf_build_u16(&b, "split.no", (uint16_t)no);
    gguf_build_u16(&b, "split.count", 3);
    gguf_build_tensor(&b, tensors[no], TUG_TYPE_F32, (int64_t[]){4}, 1, NULL);
    tug_buf file = {0};
    gguf_build_finish(&b, &file);
    (void)tmpdir_write(&dir, names[no], tug_buf_view(&file));
    tug_buf_free(&file);
}

static int write_files(void **state) {
    (void)state;
    static char kept[2][128];
    dir = tmpdir_make();
    gguf_build b;
    tug_buf file = {0};
    gguf_build_sample(&b, &file);
    (void)strcpy(kept[0], tmpdir_write(&dir, "whole.gguf", tug_buf_view(&file)));
    tug_buf_free(&file);
    for (int no = 0; no < 3; no++) write_part(no);
    (void)strcpy(kept[1], tmpdir_path(&dir, "m-00001-of-00003.gguf"));
    paths[0] = kept[0];
    paths[1] = kept[1];
    return 0;
}

static int remove_files(void **state) {
    (void)state;
    tmpdir_remove(&dir);
    return 0;
}

/* Opens and reads all there is, with the hooks in place; then nothing may be left. */
static tug_status use(const char *path, tug_err *err) {
    tug_gguf *g = NULL;
    tug_str *strings = NULL;
    int32_t *numbers = NULL;
    uint64_t n = 0;
    err->msg[0] = '\0';
    tug_status s = tug_gguf_open(&g, path, err);
    if (s == TUG_OK) {
        s = tug_gguf_get_strings(g, "tokenizer.ggml.tokens", &strings, &n, NULL, err);
    }
    if (s == TUG_OK) {
        s = tug_gguf_get_i32s(g, "tokenizer.ggml.token_type", &numbers, &n, NULL, err);
    }
    tug_free(strings);
    tug_free(numbers);
    tug_gguf_close(&g);
    assert_null(g);
    assert_int_equal(fault_live_blocks(), 0);
    assert_int_equal(fault_live_maps(), 0);
    assert_int_equal(fault_live_files(), 0);
    assert_true(s == TUG_OK || (err->code == s && strlen(err->msg) > 20));
    return s;
}

static void every_allocation_fails(void **state) {
    (void)state;
    for (int p = 0; p < 2; p++) {
        bool hit = true;
        uint64_t n = 0;
        while (hit) {
            tug_err err;
            fault_fail_alloc(++n);
            const tug_status s = use(paths[p], &err);
            hit = fault_stop();
            assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
            if (hit) assert_non_null(strstr(err.msg, "out of memory"));
        }
        assert_in_range(n, 5, 100);
    }
}

/* The same when memory comes back: nobody may carry on with what is missing. */
static void one_allocation_fails(void **state) {
    (void)state;
    for (int p = 0; p < 2; p++) {
        bool hit = true;
        for (uint64_t n = 1; hit; n++) {
            tug_err err;
            fault_fail_once(FAULT_ALLOC, n, ENOMEM);
            const tug_status s = use(paths[p], &err);
            hit = fault_stop();
            assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
        }
    }
}

static void every_file_call_fails(void **state) {
    (void)state;
    static const unsigned kinds[] = {FAULT_OPEN, FAULT_FSTAT, FAULT_MMAP, FAULT_READ,
                                     FAULT_OPEN | FAULT_FSTAT | FAULT_MMAP | FAULT_READ};
    static const int reasons[] = {EIO, ENOMEM, EACCES, EMFILE, EAGAIN, ENODEV};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] * 2; i++) {
        for (size_t r = 0; r < sizeof reasons / sizeof reasons[0]; r++) {
            bool hit = true;
            for (uint64_t n = 1; hit; n++) {
                tug_err err;
                fault_fail_once(kinds[i / 2], n, reasons[r]);
                const tug_status s = use(paths[i % 2], &err);
                hit = fault_stop();
                assert_int_equal(s, hit ? TUG_EIO : TUG_OK);
            }
        }
    }
}

static void interrupted_and_short_calls_are_repeated(void **state) {
    (void)state;
    for (int p = 0; p < 2; p++) {
        bool hit = true;
        for (uint64_t n = 1; hit; n++) {
            tug_err err;
            fault_fail_once(FAULT_OPEN | FAULT_READ, n, EINTR);
            assert_int_equal(use(paths[p], &err), TUG_OK);
            hit = fault_stop();
        }
        hit = true;
        for (uint64_t n = 1; hit; n++) {
            tug_err err;
            fault_fail_once(FAULT_READ, n, FAULT_SHORT);
            assert_int_equal(use(paths[p], &err), TUG_OK);
            hit = fault_stop();
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_fails),
        cmocka_unit_test(one_allocation_fails),
        cmocka_unit_test(every_file_call_fails),
        cmocka_unit_test(interrupted_and_short_calls_are_repeated),
    };
    return cmocka_run_group_tests(tests, write_files, remove_files);
}
