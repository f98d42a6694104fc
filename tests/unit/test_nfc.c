/* test_nfc.c - normalisation where it does something, and where it must not.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tokenizer/nfc.h"

static void known_texts(void **state) {
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"e\xCC\x81", "\xC3\xA9"},                        /* e + acute */
        {"xe\xCC\x81y e\xCC\x81", "x\xC3\xA9y \xC3\xA9"}, /* twice, text around */
        {"s\xCC\x87\xCC\xA3", "\xE1\xB9\xA9"},            /* marks in the wrong order */
        {"\xC3\xA9\xCC\xA3", "\xE1\xBA\xB9\xCC\x81"},     /* U+00E9 comes apart again */
        {"\xE2\x84\xAB", "\xC3\x85"},                     /* Angstrom sign */
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB",
         "\xED\x95\x9C"},                             /* Hangul from its parts */
        {"\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81"}, /* syllable + final */
        {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"}, /* excluded from composition */
        {"\xCC\x81", "\xCC\x81"},                     /* a mark with nothing before */
        {"\xCC\x81\xCC\xA3", "\xCC\xA3\xCC\x81"},
        {"\xCD\x84", "\xCC\x88\xCC\x81"}, /* a mark that decomposes */
        {"\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0",
         "\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0"}, /* newer */
        {"a\xCC\x95\xF0\x9E\x82\x8F", "a\xCC\x95\xF0\x9E\x82\x8F"},
    };
    tug_nfc nfc = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tug_str out;
        tug_err err;
        assert_int_equal(tug_nfc_apply(&nfc, tug_str_of(cases[i].text), &out, &err),
                         TUG_OK);
        if (!tug_str_is(out, cases[i].expected)) fail_msg("case %zu", i);
    }
    tug_nfc_deinit(&nfc);
}

static void settled_text_is_not_copied(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        "int main(void)",
                                        "\xC3\xA9\xC4\x80",
                                        "\xE4\xB8\x96\xE7\x95\x8C",
                                        "\xED\x95\x9C",
                                        "Ti\xE1\xBA\xBFng Vi\xE1\xBB\x87t",
                                        "\xCE\x93\xCE\xB5\xCE\xB9\xCE\xAC",
                                        "\xF0\x9F\x98\x80"};
    tug_nfc nfc = {0};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const tug_str text = tug_str_of(texts[i]);
        tug_str out;
        tug_err err;
        assert_int_equal(tug_nfc_apply(&nfc, text, &out, &err), TUG_OK);
        assert_ptr_equal(out.p, text.p);
        assert_int_equal(out.n, text.n);
    }
    assert_null(nfc.out.p);
    tug_nfc_deinit(&nfc);
}

/* Sorting pairwise would take half an hour here. */
static void a_megabyte_of_marks(void **state) {
    (void)state;
    enum { PAIRS = 1 << 18 };
    char *buf = malloc(4 * PAIRS);
    assert_non_null(buf);
    for (size_t i = 0; i < PAIRS; i++) memcpy(buf + 4 * i, "\xCC\x81\xCC\xA3", 4);
    tug_nfc nfc = {0};
    tug_str out;
    tug_err err;
    assert_int_equal(tug_nfc_apply(&nfc, tug_str_make(buf, 4 * PAIRS), &out, &err),
                     TUG_OK);
    assert_int_equal(out.n, 4 * PAIRS);
    for (size_t i = 0; i < PAIRS; i++) {
        assert_memory_equal(out.p + 2 * i, "\xCC\xA3", 2);
        assert_memory_equal(out.p + 2 * (PAIRS + i), "\xCC\x81", 2);
    }
    tug_nfc_deinit(&nfc);
    free(buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_texts),
        cmocka_unit_test(settled_text_is_not_copied),
        cmocka_unit_test(a_megabyte_of_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
