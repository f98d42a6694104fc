/* test_pretok.c - the short cut against the expression, compiled against interpreted, and
 * runs without a border.  Every code point is in tests/long/tokenizer_vs_hf.py.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "tokenizer/pretok.h"

typedef struct fixture {
    tug_pretok pt;
    pcre2_match_data *result;
} fixture;

static void set_up(fixture *f, const char *name) {
    tug_err err;
    assert_int_equal(tug_pretok_init(&f->pt, tug_str_of(name), &err), TUG_OK);
    assert_int_equal(tug_pretok_result_create(&f->result, &f->pt, &err), TUG_OK);
}

static void tear_down(fixture *f) {
    tug_pretok_result_destroy(f->result);
    tug_pretok_deinit(&f->pt);
}

static size_t by_match(fixture *f, tug_str text) {
    size_t n = 0;
    tug_err err;
    assert_int_equal(tug_pretok_match(&f->pt, f->result, text, &n, &err), TUG_OK);
    return n;
}

static size_t interpreted(fixture *f, tug_str text) {
    const int rc =
        pcre2_match(f->pt.code, (PCRE2_SPTR)text.p, text.n, 0,
                    PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, f->result, f->pt.limits);
    assert_int_equal(rc, 1);
    return pcre2_get_ovector_pointer(f->result)[1];
}

/* Writes the pieces of `text` with | between them. */
static void cut(fixture *f, const char *z, char *out) {
    tug_str text = tug_str_of(z);
    while (text.n > 0) {
        size_t n = 0;
        tug_err err;
        assert_int_equal(tug_pretok_piece(&f->pt, f->result, text, &n, &err), TUG_OK);
        memcpy(out, text.p, n);
        out += n;
        text = tug_str_make(text.p + n, text.n - n);
        if (text.n > 0) *out++ = '|';
    }
    *out = '\0';
}

static void known_borders(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *pieces;
    } cases[] = {
        {"qwen2", "int main(void) {", "int| main|(void|)| {"},
        {"qwen2", "I'll don'T we'Ve 'x", "I|'ll| don|'T| we|'Ve| '|x"},
        {"qwen2", "a  b   c ", "a| | b|  | c| "},
        {"qwen2", "x\n\n  y\n", "x|\n\n| | y|\n"},
        {"qwen2", "12 3", "1|2| |3"},
        {"qwen2", "\t\tif", "\t|\tif"},
        {"qwen2", "a ==\r\n b", "a| ==\r\n| b"},
        {"qwen2", "\xC3\xA9t\xC3\xA9 \xE4\xB8\x96", "\xC3\xA9t\xC3\xA9| \xE4\xB8\x96"},
        {"qwen2", "it'\xC5\xBF", "it|'\xC5\xBF"}, /* U+017F folds to s */
        {"qwen2", "a\xE1\xA0\x8E", "a|\xE1\xA0\x8E"},
        {"qwen2", "x\xCC\x81y", "x|\xCC\x81y"}, /* a mark stands alone... */
        {"qwen35", "x\xCC\x81y", "x\xCC\x81y"}, /* ...or belongs to the word */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f;
        char pieces[128];
        set_up(&f, cases[i].name);
        cut(&f, cases[i].text, pieces);
        assert_string_equal(pieces, cases[i].pieces);
        tear_down(&f);
    }
}

/* Characters that the alternatives of the expression tell apart, and some that only look
 * as if they did. */
static size_t random_char(tug_rng *rng, char *out) {
    static const char common[] = " \n\r\t'sStTrReEvVmMlLdD1a{.<_\x01\x1F\x7F";
    static const uint32_t rare[] = {0xE9,   0x85,   0xA0,   0x17F,  0x212A,
                                    0x301,  0x660,  0x2028, 0x3000, 0x200B,
                                    0x180E, 0x4E16, 0xAC00, 0x1F600};
    const uint64_t r = tug_rng_u64(rng);
    if (r % 8 != 0) {
        *out = common[(r >> 8) % (sizeof common - 1)];
        return 1;
    }
    return (size_t)tug_utf8_encode(rare[(r >> 8) % (sizeof rare / sizeof rare[0])], out);
}

static void roads_agree(void **state) {
    (void)state;
    static const char *const names[] = {"qwen2", "qwen35"};
    for (size_t which = 0; which < 2; which++) {
        fixture f;
        tug_rng rng;
        set_up(&f, names[which]);
        tug_rng_seed(&rng, 11 + which);
        size_t n_short_cuts = 0;
        for (int round = 0; round < 100000; round++) {
            char buf[64];
            size_t n = 0;
            const size_t n_chars = 1 + (size_t)(tug_rng_u64(&rng) % 8);
            for (size_t i = 0; i < n_chars; i++) n += random_char(&rng, buf + n);
            const tug_str text = tug_str_make(buf, n);
            const size_t expected = by_match(&f, text);
            const size_t ascii = tug_pretok_ascii(&f.pt, text);
            if (ascii) assert_int_equal(ascii, expected);
            assert_int_equal(interpreted(&f, text), expected);
            n_short_cuts += ascii != 0;
        }
        assert_true(n_short_cuts > 30000);
        tear_down(&f);
    }
}

static void every_ascii_text_takes_the_short_cut(void **state) {
    (void)state;
    fixture f;
    set_up(&f, "qwen2");
    for (int a = 0; a < 128; a++) {
        for (int b = 0; b < 128; b++) {
            for (int c = 0; c < 128; c++) {
                const char buf[] = {(char)a, (char)b, (char)c};
                const tug_str text = tug_str_make(buf, sizeof buf);
                assert_int_equal(tug_pretok_ascii(&f.pt, text), by_match(&f, text));
            }
        }
    }
    tear_down(&f);
}

/* A megabyte of one character, also by the interpreter: neither limits nor stacks end it. */
static void long_runs(void **state) {
    (void)state;
    static const char *const runs[] = {"a",
                                       " ",
                                       "\n",
                                       " \n",
                                       ".",
                                       "\xC3\xA9",
                                       "\xE3\x80\x80",
                                       "\xE3\x80\x80\n",
                                       "\xE2\x80\xA6",
                                       "\xF0\x9F\x98\x80"};
    enum { BYTES = 1 << 20 };
    char *buf = malloc(BYTES + 8);
    assert_non_null(buf);
    fixture f;
    set_up(&f, "qwen2");
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        const size_t unit = strlen(runs[i]);
        size_t n = 0;
        for (; n + unit <= BYTES; n += unit) memcpy(buf + n, runs[i], unit);
        const tug_str text = tug_str_make(buf, n);
        assert_int_equal(by_match(&f, text), n);
        assert_int_equal(interpreted(&f, text), n);
        buf[n] = '1'; /* something that ends the run */
        const tug_str ended = tug_str_make(buf, n + 1);
        const size_t expected = by_match(&f, ended);
        assert_true(expected == n || expected + unit == n);
        assert_int_equal(interpreted(&f, ended), expected);
    }
    tear_down(&f);
    free(buf);
}

static void unknown_name(void **state) {
    (void)state;
    tug_pretok pt;
    tug_err err;
    assert_int_equal(tug_pretok_init(&pt, tug_str_of("llama-bpe"), &err),
                     TUG_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "llama-bpe"));
    assert_int_equal(tug_pretok_init(&pt, tug_str_of(""), &err), TUG_EUNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_borders),
        cmocka_unit_test(roads_agree),
        cmocka_unit_test(every_ascii_text_takes_the_short_cut),
        cmocka_unit_test(long_runs),
        cmocka_unit_test(unknown_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
