/* test_base.c - the floor everything stands on: checked arithmetic, the cursor, text,
 * UTF-8 and the narrow floats.  Exhaustive where that is cheap.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/cursor.h"
#include "base/f16.h"
#include "base/file.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/utf8.h"

static void checked_arithmetic_never_wraps(void **state) {
    (void)state;
    static const uint64_t edge[] = {0,
                                    1,
                                    2,
                                    31,
                                    32,
                                    UINT32_MAX,
                                    1ull << 32,
                                    INT64_MAX,
                                    1ull << 63,
                                    UINT64_MAX - 31,
                                    UINT64_MAX - 1,
                                    UINT64_MAX};
    const size_t n = sizeof edge / sizeof *edge;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            const unsigned __int128 sum = (unsigned __int128)edge[i] + edge[j];
            const unsigned __int128 product = (unsigned __int128)edge[i] * edge[j];
            uint64_t r = 7;
            assert_int_equal(tug_add_u64(edge[i], edge[j], &r), sum <= UINT64_MAX);
            assert_true(r == (sum <= UINT64_MAX ? (uint64_t)sum : 7));
            r = 7;
            assert_int_equal(tug_mul_u64(edge[i], edge[j], &r), product <= UINT64_MAX);
            assert_true(r == (product <= UINT64_MAX ? (uint64_t)product : 7));
            for (size_t k = 0; k < n; k++) {
                const bool inside = (unsigned __int128)edge[i] + edge[j] <= edge[k];
                assert_int_equal(tug_range_ok(edge[i], edge[j], edge[k]), inside);
            }
        }
    }
}

static void align_up_refuses_what_does_not_fit(void **state) {
    (void)state;
    uint64_t r = 7;
    assert_true(tug_align_up_u64(33, 32, &r) && r == 64);
    assert_true(tug_align_up_u64(64, 32, &r) && r == 64);
    assert_true(tug_align_up_u64(0, 1, &r) && r == 0);
    assert_false(tug_align_up_u64(1, 0, &r));
    assert_false(tug_align_up_u64(1, 24, &r));
    for (uint64_t i = 0; i < 31; i++)
        assert_false(tug_align_up_u64(UINT64_MAX - i, 32, &r));
}

static void cursor_stops_at_the_end(void **state) {
    (void)state;
    static const uint8_t bytes[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    for (uint64_t size = 0; size <= sizeof bytes; size++) {
        tug_cursor c = tug_cursor_make(bytes, size);
        uint64_t u64;
        uint32_t u32;
        uint16_t u16;
        uint8_t u8;
        const uint8_t *p;
        assert_int_equal(tug_cursor_u64(&c, &u64), size >= 8);
        assert_true(c.at == (size >= 8 ? 8u : 0u));
        if (size >= 8) assert_true(u64 == 0x0807060504030201u);
        c.at = 0;
        assert_int_equal(tug_cursor_u32(&c, &u32), size >= 4);
        c.at = 0;
        assert_int_equal(tug_cursor_u16(&c, &u16), size >= 2);
        c.at = 0;
        assert_int_equal(tug_cursor_u8(&c, &u8), size >= 1);
        assert_false(tug_cursor_bytes(&c, UINT64_MAX, &p));
        assert_false(tug_cursor_skip(&c, tug_cursor_left(&c) + 1));
        assert_true(tug_cursor_skip(&c, tug_cursor_left(&c)));
        assert_true(tug_cursor_left(&c) == 0);
    }
}

/* Counting argument as an independent oracle: the number of valid strings of n bytes is
 * fixed by the number of characters of each length. */
static void utf8_accepts_exactly_the_valid_strings(void **state) {
    (void)state;
    const uint64_t len1 = 128, len2 = 1920, len3 = 61440;
    const uint64_t want = len1 * len1 * len1 + 2 * len1 * len2 + len3;
    uint64_t valid = 0;
    for (uint32_t v = 0; v < 1u << 24; v++) {
        const char s[3] = {(char)(v & 255), (char)(v >> 8 & 255), (char)(v >> 16)};
        valid += tug_utf8_valid(s, 3, NULL);
    }
    assert_true(valid == want);
}

static void utf8_round_trip_of_every_code_point(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        if (cp >= 0xD800 && cp < 0xE000) continue;
        char s[4];
        const int len = tug_utf8_encode(cp, s);
        assert_int_equal(tug_utf8_next(s, (size_t)len), len);
        assert_true(tug_utf8_decode(s, len) == cp);
        for (int cut = 1; cut < len; cut++)
            assert_int_equal(tug_utf8_next(s, (size_t)cut), 0);
    }
    size_t bad = 0;
    assert_false(tug_utf8_valid("ab\xED\xA0\x80", 5, &bad)); /* a surrogate */
    assert_int_equal(bad, 2);
    assert_int_equal(tug_utf8_next("\xC0\x80", 2), -1); /* overlong */
    assert_int_equal(tug_utf8_next("\xF4\x90\x80\x80", 4), -1);
    assert_int_equal(tug_utf8_next("\xE2\x82\x41", 3), -2);
}

static void narrow_floats_round_trip(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = tug_f16_to_f32((tug_f16)h), b = tug_bf16_to_f32((tug_bf16)h);
        if (!isnan(f))
            assert_int_equal(tug_f32_to_f16(f), h);
        else
            assert_true(isnan(tug_f16_to_f32(tug_f32_to_f16(f))));
        if (!isnan(b))
            assert_int_equal(tug_f32_to_bf16(b), h);
        else
            assert_true(isnan(tug_bf16_to_f32(tug_f32_to_bf16(b))));
    }
}

/* Rounding to nearest even: no half is nearer, and of two equally near ones the even. */
static void f32_to_f16_rounds_to_the_nearest(void **state) {
    (void)state;
    tug_rng rng;
    tug_rng_seed(&rng, 1);
    for (int i = 0; i < 4000000; i++) {
        const float f = tug_f32_from_bits((uint32_t)tug_rng_u64(&rng));
        const double x = fabs((double)f);
        if (isnan(f)) continue;
        const tug_f16 h = tug_f32_to_f16(f), mag = h & 0x7FFF;
        assert_int_equal(h >> 15, signbit(f) != 0);
        if (x >= 65520) {
            assert_int_equal(mag, 0x7C00);
            continue;
        }
        const double error = fabs((double)tug_f16_to_f32(mag) - x);
        for (int step = -1; step <= 1; step += 2) {
            if ((mag == 0 && step < 0) || mag + step == 0x7C00) continue;
            const double other = fabs((double)tug_f16_to_f32((tug_f16)(mag + step)) - x);
            assert_true(error < other || (error == other && mag % 2 == 0));
        }
    }
}

static void sentences_are_printable(void **state) {
    (void)state;
    tug_err err;
    assert_int_equal(TUG_FAIL(&err, TUG_EIO, "a\x1B[31m%s\n\xFFz", "\xC3"), TUG_EIO);
    assert_string_equal(err.msg, "a?[31m???z");
    assert_int_equal(TUG_FAIL(NULL, TUG_EIO, "x"), TUG_EIO);
    char big[600];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    (void)TUG_FAIL(&err, TUG_EIO, "%s", big);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    assert_string_equal(tug_status_text(TUG_ENOMEM), "out of memory");
    assert_string_equal(tug_status_text((tug_status)999), "unknown status");
}

static void *no_memory(void *old, size_t n) {
    (void)old;
    (void)n;
    return NULL;
}

static void buffer_failure_is_sticky_and_keeps_the_text(void **state) {
    (void)state;
    tug_buf b = {0};
    tug_err err;
    tug_buf_text(&b, "kept");
    const tug_sys_table saved = tug_sys;
    tug_sys.realloc = no_memory;
    for (int i = 0; i < 100; i++) tug_buf_printf(&b, "%d ", i);
    tug_sys = saved;
    tug_buf_text(&b, "not added");
    assert_int_equal(tug_buf_ok(&b, &err), TUG_ENOMEM);
    assert_memory_equal(b.p, "kept", 4);
    tug_buf_clear(&b);
    tug_buf_printf(&b, "%s-%d", "again", 1);
    assert_int_equal(tug_buf_ok(&b, NULL), TUG_OK);
    assert_string_equal(b.p, "again-1");
    tug_buf_free(&b);
    assert_null(tug_alloc_array(SIZE_MAX / 2, 3));
}

static int pread_state;
static ssize_t stuttering_pread(int fd, void *buf, size_t n, off_t at) {
    (void)fd;
    if (++pread_state % 2) return errno = EINTR, -1;
    memset(buf, (int)('a' + at % 26), 1);
    return n ? 1 : 0;
}

static void reads_survive_interruptions_and_short_counts(void **state) {
    (void)state;
    tug_err err;
    char buf[9] = {0};
    const tug_file f = {.fd = -1, .size = 100};
    const tug_sys_table saved = tug_sys;
    tug_sys.pread = stuttering_pread;
    const tug_status s = tug_file_read_at(&f, buf, 8, 2, "x", &err);
    tug_sys = saved;
    assert_int_equal(s, TUG_OK);
    assert_string_equal(buf, "cdefghij");
    assert_int_equal(tug_file_read_at(&f, buf, 8, 93, "x", &err), TUG_ERANGE);
    assert_int_equal(tug_file_read_at(&f, buf, 8, UINT64_MAX, "x", &err), TUG_ERANGE);
}

static void opening_what_is_no_file_says_so(void **state) {
    (void)state;
    tug_map m;
    tug_err err;
    assert_int_equal(tug_map_open(&m, "/nonexistent/x", &err), TUG_EIO);
    assert_string_equal(err.msg, "cannot open /nonexistent/x: No such file or directory");
    assert_int_equal(tug_map_open(&m, "/dev", &err), TUG_EIO);
    assert_string_equal(err.msg, "/dev is a folder: name a file in it");
}

static void cpu_levels_parse(void **state) {
    (void)state;
    tug_err err;
    tug_cpu_level level;
    assert_int_equal(tug_cpu_level_parse("ref", &level, &err), TUG_OK);
    assert_int_equal(level, TUG_CPU_REF);
    assert_int_equal(tug_cpu_level_parse("auto", &level, &err), TUG_OK);
    assert_int_equal(level, tug_cpu_detect());
    assert_int_equal(tug_cpu_level_parse("sse", &level, &err), TUG_EUSAGE);
    assert_true(tug_cpu_count() >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checked_arithmetic_never_wraps),
        cmocka_unit_test(align_up_refuses_what_does_not_fit),
        cmocka_unit_test(cursor_stops_at_the_end),
        cmocka_unit_test(utf8_accepts_exactly_the_valid_strings),
        cmocka_unit_test(utf8_round_trip_of_every_code_point),
        cmocka_unit_test(narrow_floats_round_trip),
        cmocka_unit_test(f32_to_f16_rounds_to_the_nearest),
        cmocka_unit_test(sentences_are_printable),
        cmocka_unit_test(buffer_failure_is_sticky_and_keeps_the_text),
        cmocka_unit_test(reads_survive_interruptions_and_short_counts),
        cmocka_unit_test(opening_what_is_no_file_says_so),
        cmocka_unit_test(cpu_levels_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
