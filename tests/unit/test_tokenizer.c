/* test_tokenizer.c - encoding, decoding and refusing, with a vocabulary of 300 tokens.
 * The comparison with the reference is tests/long/tokenizer_vs_hf.py.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "fault/fault.h"
#include "support/tiny_vocab.h"
#include "tokenizer/tokenizer.h"

/* A blank in GPT-2's byte alphabet. */
#define BLANK "\xC4\xA0"

typedef struct fixture {
    tiny_vocab vocab;
    tug_tokenizer *tk;
    tug_encoder *e;
    tug_ids ids;
    tug_err err;
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    tiny_vocab_make(&f->vocab);
    assert_int_equal(tug_tokenizer_create(&f->tk, &f->vocab.spec, &f->err), TUG_OK);
    assert_int_equal(tug_encoder_create(&f->e, f->tk, &f->err), TUG_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    tug_ids_free(&f->ids);
    tug_encoder_destroy(&f->e);
    tug_tokenizer_destroy(&f->tk);
    free(f);
    return 0;
}

/* f->ids must be these tokens of the vocabulary; the list ends with NULL. */
static void expect(fixture *f, const char *first, ...) {
    va_list ap;
    va_start(ap, first);
    size_t n = 0;
    for (const char *s = first; s; s = va_arg(ap, const char *)) {
        assert_true(n < f->ids.n);
        assert_int_equal(f->ids.p[n++], tiny_vocab_id(&f->vocab, s));
    }
    va_end(ap);
    assert_int_equal(n, f->ids.n);
    f->ids.n = 0;
}

static void encode(fixture *f, const char *text, tug_control_mode mode) {
    assert_int_equal(tug_encode(f->e, tug_str_of(text), mode, &f->ids, &f->err), TUG_OK);
}

/* ---- text to ids --------------------------------------------------------------- */

static void words(void **state) {
    fixture *f = *state;
    for (int round = 0; round < 2; round++) { /* the second comes from the cache */
        encode(f, "hello world", TUG_CONTROL_IS_TEXT);
        expect(f, "hello", BLANK "world", NULL);
        encode(f, "", TUG_CONTROL_IS_TEXT);
        assert_int_equal(f->ids.n, 0);
        encode(f, "e\xCC\x81", TUG_CONTROL_IS_TEXT); /* NFC makes it U+00E9 */
        expect(f, "\xC3\x83\xC2\xA9", NULL);
        encode(f, "aaaaa", TUG_CONTROL_IS_TEXT);
        expect(f, "aaaa", "a", NULL);
        encode(f, "abc bc", TUG_CONTROL_IS_TEXT); /* "a b" has the lower rank */
        expect(f, "abc", BLANK, "bc", NULL);
    }
}

static void markers(void **state) {
    fixture *f = *state;
    encode(f, "a<|im_end|>", TUG_CONTROL_PARSED);
    expect(f, "a", "<|im_end|>", NULL);
    encode(f, "<|im_end|>", TUG_CONTROL_IS_TEXT);
    assert_int_equal(f->ids.n, 10);
    f->ids.n = 0;
    encode(f, "<tool_call>12</tool_call>", TUG_CONTROL_IS_TEXT);
    expect(f, "<tool_call>", "1", "2", "</tool_call>", NULL);
    /* The longest wins, among those that may stand there. */
    encode(f, "<tool_call>{", TUG_CONTROL_PARSED);
    expect(f, "<tool_call>{", NULL);
    encode(f, "<tool_call>{", TUG_CONTROL_IS_TEXT);
    expect(f, "<tool_call>", "{", NULL);
    /* Never made from text: the unknown and the unused one. */
    encode(f, "[UNK]", TUG_CONTROL_PARSED);
    expect(f, "[", "U", "N", "K", "]", NULL);
    encode(f, "[PAD0]", TUG_CONTROL_PARSED);
    assert_int_equal(f->ids.n, 6);
    f->ids.n = 0;
    encode(f, "<<|im_end|<|im_end|>", TUG_CONTROL_PARSED);
    assert_int_equal(f->ids.p[f->ids.n - 1], tiny_vocab_id(&f->vocab, "<|im_end|>"));
    assert_int_equal(f->ids.n, 11);
}

static void segments(void **state) {
    fixture *f = *state;
    const tug_segment chat[] = {
        {tug_str_of("<|im_start|>"), TUG_CONTROL_PARSED},
        {tug_str_of("hel"), TUG_CONTROL_IS_TEXT}, /* words reach across a seam */
        {tug_str_of(""), TUG_CONTROL_IS_TEXT},
        {tug_str_of("lo<|im_end|"), TUG_CONTROL_PARSED},
        {tug_str_of("><|im_end|>"), TUG_CONTROL_IS_TEXT}, /* control tokens do not */
        {tug_str_of("<|im_"), TUG_CONTROL_PARSED},
        {tug_str_of("end|>"), TUG_CONTROL_PARSED}, /* unless both sides may */
    };
    assert_int_equal(tug_encode_segments(f->e, chat, 7, &f->ids, &f->err), TUG_OK);
    assert_int_equal(f->ids.p[0], tiny_vocab_id(&f->vocab, "<|im_start|>"));
    assert_int_equal(f->ids.p[1], tiny_vocab_id(&f->vocab, "hello"));
    assert_int_equal(f->ids.n, 2 + 10 + 10 + 1);
    assert_int_equal(f->ids.p[22], tiny_vocab_id(&f->vocab, "<|im_end|>"));
    f->ids.n = 0;
    assert_int_equal(tug_encode_segments(f->e, NULL, 0, &f->ids, &f->err), TUG_OK);
    assert_int_equal(f->ids.n, 0);
}

static void bad_text(void **state) {
    fixture *f = *state;
    encode(f, "hello", TUG_CONTROL_IS_TEXT);
    assert_int_equal(tug_encode(f->e, tug_str_make("ab\xE2\x82", 4), TUG_CONTROL_IS_TEXT,
                                &f->ids, &f->err),
                     TUG_EFORMAT);
    assert_non_null(strstr(f->err.msg, "byte 2"));
    assert_int_equal(tug_encode(f->e, tug_str_make("", (size_t)513 << 20),
                                TUG_CONTROL_IS_TEXT, &f->ids, &f->err),
                     TUG_ERANGE);
    expect(f, "hello", NULL);
}

/* Byte-pair merging as one would explain it: look at all pairs, join the best. */
static size_t merge_slowly(const tiny_vocab *v, int32_t *ids, size_t n) {
    for (;;) {
        uint64_t best = v->spec.n_merges;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const tug_str a = v->tokens[ids[i]], b = v->tokens[ids[i + 1]];
            for (uint64_t m = 0; m < best; m++) {
                const tug_str line = v->merges[m];
                if (line.n == a.n + 1 + b.n && memcmp(line.p, a.p, a.n) == 0 &&
                    line.p[a.n] == ' ' && memcmp(line.p + a.n + 1, b.p, b.n) == 0) {
                    best = m;
                    at = i;
                }
            }
        }
        if (best == v->spec.n_merges) return n;
        ids[at] = (int32_t)(256 + best);
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void merges_in_the_right_order(void **state) {
    fixture *f = *state;
    tug_rng rng;
    tug_rng_seed(&rng, 5);
    for (int round = 0; round < 20000; round++) {
        char text[48];
        int32_t slow[48];
        const size_t n = 1 + (size_t)(tug_rng_u64(&rng) % sizeof text);
        for (size_t i = 0; i < n; i++) {
            text[i] = "abchelowrdint"[tug_rng_u64(&rng) % 13];
            slow[i] = (unsigned char)text[i];
        }
        const size_t n_slow = merge_slowly(&f->vocab, slow, n);
        f->ids.n = 0;
        assert_int_equal(tug_encode(f->e, tug_str_make(text, n), TUG_CONTROL_IS_TEXT,
                                    &f->ids, &f->err),
                         TUG_OK);
        assert_int_equal(f->ids.n, n_slow);
        assert_memory_equal(f->ids.p, slow, n_slow * sizeof *slow);
    }
}

/* Anything quadratic would take hours. */
static void a_megabyte_without_a_border(void **state) {
    fixture *f = *state;
    static const char *const units[] = {"l",
                                        "a",
                                        " ",
                                        "\n",
                                        ".",
                                        "<",
                                        "<tool_call",
                                        "\xC3\xA9",
                                        "\xF0\x9F\x98\x80",
                                        "\xCC\x81\xCC\xA3"};
    enum { BYTES = 1 << 20 };
    char *buf = malloc(BYTES);
    assert_non_null(buf);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        const size_t unit = strlen(units[i]);
        size_t n = 0;
        for (; n + unit <= BYTES; n += unit) memcpy(buf + n, units[i], unit);
        f->ids.n = 0;
        assert_int_equal(
            tug_encode(f->e, tug_str_make(buf, n), TUG_CONTROL_PARSED, &f->ids, &f->err),
            TUG_OK);
        size_t n_bytes = 0;
        for (size_t t = 0; t < f->ids.n; t++)
            n_bytes += tug_tokenizer_bytes(f->tk, f->ids.p[t]).n;
        assert_int_equal(n_bytes, n);
    }
    free(buf);
}

/* ---- ids to text --------------------------------------------------------------- */

static void lookups(void **state) {
    fixture *f = *state;
    const int32_t size = tug_tokenizer_size(f->tk);
    assert_int_equal(size, f->vocab.spec.n_tokens);
    for (int32_t b = 0; b < 256; b++) {
        const tug_str bytes = tug_tokenizer_bytes(f->tk, b);
        assert_int_equal(bytes.n, 1);
        assert_int_equal((unsigned char)bytes.p[0], b);
        assert_int_equal(tug_tokenizer_find(f->tk, bytes), b);
    }
    const int32_t end = tiny_vocab_id(&f->vocab, "<|im_end|>");
    assert_int_equal(tug_tokenizer_find(f->tk, tug_str_of("<|im_end|>")), end);
    assert_int_equal(tug_tokenizer_find(f->tk, tug_str_of(" world")),
                     tiny_vocab_id(&f->vocab, BLANK "world"));
    assert_int_equal(tug_tokenizer_find(f->tk, tug_str_of("nothing")), TUG_NO_TOKEN);
    assert_int_equal(tug_tokenizer_find(f->tk, tug_str_of("")), TUG_NO_TOKEN);
    assert_int_equal(tug_tokenizer_type(f->tk, end), TUG_TOKEN_CONTROL);
    assert_int_equal(tug_tokenizer_special(f->tk).eos, end);
    assert_int_equal(tug_tokenizer_special(f->tk).bos, TUG_NO_TOKEN);
    int n_eog = 0;
    for (int32_t id = 0; id < size; id++) n_eog += tug_tokenizer_is_eog(f->tk, id);
    assert_int_equal(n_eog, 3); /* <|im_end|>, <|endoftext|>, <|file_sep|> */
    const int32_t outside[] = {-1, INT32_MIN, size, INT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(tug_tokenizer_bytes(f->tk, outside[i]).n, 0);
        assert_int_equal(tug_tokenizer_type(f->tk, outside[i]), TUG_TOKEN_UNUSED);
        assert_false(tug_tokenizer_is_eog(f->tk, outside[i]));
    }
}

/* Streams the bytes one token at a time; each output must be whole characters. */
static void stream(fixture *f, const char *bytes, size_t n, tug_buf *out) {
    tug_detok d = tug_detok_start(f->tk, false);
    for (size_t i = 0; i < n; i++) {
        const size_t before = out->n;
        assert_int_equal(tug_detok_add(&d, (unsigned char)bytes[i], out, &f->err),
                         TUG_OK);
        assert_true(tug_utf8_valid(out->p + before, out->n - before, NULL));
    }
    assert_int_equal(tug_detok_finish(&d, out, &f->err), TUG_OK);
}

#define U_FFFD "\xEF\xBF\xBD"

static void streaming(void **state) {
    fixture *f = *state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"ab", "ab"},
        {"\xF0\x9F\x98\x80!", "\xF0\x9F\x98\x80!"},
        {"\xE2\x82", U_FFFD}, /* breaks off: one for the prefix */
        {"\xE2\x82"
         "A",
         U_FFFD "A"},
        {"\xF0\x90\x80\xC3\xA9", U_FFFD "\xC3\xA9"},
        {"\xC3\xC3\xA9", U_FFFD "\xC3\xA9"},
        {"\xED\xA0\x80", U_FFFD U_FFFD U_FFFD}, /* a surrogate: no prefix of anything */
        {"\xFF\x80", U_FFFD U_FFFD},
        {"\xF0\x80\x80\x80", U_FFFD U_FFFD U_FFFD U_FFFD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tug_buf out = {0};
        stream(f, cases[i].bytes, strlen(cases[i].bytes), &out);
        assert_string_equal(out.p, cases[i].text);
        tug_buf_free(&out);
    }
}

static void streaming_hides_control(void **state) {
    fixture *f = *state;
    const int32_t ids[] = {0xC3, tiny_vocab_id(&f->vocab, "<|im_end|>"), 0xA9,
                           tiny_vocab_id(&f->vocab, "<tool_call>"),
                           tiny_vocab_id(&f->vocab, "[PAD0]")};
    static const char *const texts[] = {"\xC3\xA9<tool_call>",
                                        U_FFFD "<|im_end|>" U_FFFD "<tool_call>[PAD0]"};
    for (int show = 0; show < 2; show++) {
        tug_buf out = {0};
        tug_detok d = tug_detok_start(f->tk, show);
        for (size_t i = 0; i < 5; i++) {
            assert_int_equal(tug_detok_add(&d, ids[i], &out, &f->err), TUG_OK);
        }
        assert_int_equal(tug_detok_add(&d, -1, &out, &f->err), TUG_ERANGE);
        assert_int_equal(tug_detok_add(&d, tug_tokenizer_size(f->tk), &out, &f->err),
                         TUG_ERANGE);
        assert_string_equal(out.p, texts[show]);
        tug_buf_free(&out);
    }
}

/* ---- vocabularies that are refused --------------------------------------------- */

/* One way to damage the tiny vocabulary, and what the sentence must mention. */
typedef struct damage {
    void (*apply)(tiny_vocab *v);
    const char *mentions;
} damage;

static char long_text[65536];

static void no_tokens(tiny_vocab *v) {
    v->spec.n_tokens = v->spec.n_types = 0;
}
static void too_many_tokens(tiny_vocab *v) {
    v->spec.n_tokens = v->spec.n_types = 1u << 31;
}
static void fewer_types(tiny_vocab *v) {
    v->spec.n_types--;
}
static void more_types(tiny_vocab *v) {
    v->spec.n_types++;
}
static void no_types(tiny_vocab *v) {
    v->spec.n_types = 0;
}
static void type_zero(tiny_vocab *v) {
    v->types[7] = 0;
}
static void type_byte(tiny_vocab *v) {
    v->types[7] = 6;
}
static void type_negative(tiny_vocab *v) {
    v->types[7] = INT32_MIN;
}
static void empty_token(tiny_vocab *v) {
    v->tokens[260].n = 0;
}
static void long_token(tiny_vocab *v) {
    v->tokens[260] = tug_str_make(long_text, 65536);
}
static void long_marker(tiny_vocab *v) {
    v->tokens[tiny_vocab_id(v, "<|im_end|>")] = tug_str_make(long_text, 256);
}
static void same_tokens(tiny_vocab *v) {
    v->tokens[261] = v->tokens[260];
}
static void same_markers(tiny_vocab *v) {
    v->tokens[tiny_vocab_id(v, "<|im_end|>")] = tug_str_of("<tool_call>");
}
static void blank_in_token(tiny_vocab *v) {
    v->tokens[260] = tug_str_of("a b");
}
static void foreign_letter(tiny_vocab *v) {
    v->tokens[260] = tug_str_of("\xC5\x84");
}
static void token_no_utf8(tiny_vocab *v) {
    v->tokens[260] = tug_str_of("\xFF");
}
static void marker_no_utf8(tiny_vocab *v) {
    v->tokens[tiny_vocab_id(v, "<|im_end|>")] = tug_str_of("<\xC3");
}
static void byte_missing(tiny_vocab *v) {
    v->types[0x41] = TUG_TOKEN_UNUSED;
}
static void merge_unknown_left(tiny_vocab *v) {
    v->merges[3] = tug_str_of("zz o");
}
static void merge_unknown_joined(tiny_vocab *v) {
    v->merges[3] = tug_str_of("z z");
}
static void merge_empty(tiny_vocab *v) {
    v->merges[3] = tug_str_of("");
}
static void merge_one(tiny_vocab *v) {
    v->merges[3] = tug_str_of("hello");
}
static void merge_no_left(tiny_vocab *v) {
    v->merges[3] = tug_str_of(" o");
}
static void merge_no_right(tiny_vocab *v) {
    v->merges[3] = tug_str_of("o ");
}
static void merge_three(tiny_vocab *v) {
    v->merges[3] = tug_str_of("h e l");
}
static void merge_no_utf8(tiny_vocab *v) {
    v->merges[3] = tug_str_of("h \xFF");
}
static void merge_twice(tiny_vocab *v) {
    v->merges[3] = v->merges[2];
}
static void many_merges(tiny_vocab *v) {
    v->spec.n_merges = UINT64_MAX;
}
static void pre_unknown(tiny_vocab *v) {
    v->spec.pre = tug_str_of("gpt-4o");
}
static void pre_missing(tiny_vocab *v) {
    v->spec.pre = tug_str_make(NULL, 0);
}
static void bos_wanted(tiny_vocab *v) {
    v->spec.add_bos = true;
}

static const damage damages[] = {
    {no_tokens, "0 tokens"},
    {too_many_tokens, "2147483648 tokens"},
    {fewer_types, "token types"},
    {more_types, "token types"},
    {no_types, "0 token types"},
    {type_zero, "type 0"},
    {type_byte, "type 6"},
    {type_negative, "type -2147483648"},
    {empty_token, "token 260"},
    {long_token, "65536 bytes"},
    {long_marker, "256 bytes"},
    {same_tokens, "260 and 261"},
    {same_markers, "same text"},
    {blank_in_token, "token 260"},
    {foreign_letter, "token 260"},
    {token_no_utf8, "token 260"},
    {marker_no_utf8, "no UTF-8"},
    {byte_missing, "0x41"},
    {merge_unknown_left, "merge 3"},
    {merge_unknown_joined, "merge 3"},
    {merge_empty, "merge 3"},
    {merge_one, "merge 3"},
    {merge_no_left, "merge 3"},
    {merge_no_right, "merge 3"},
    {merge_three, "merge 3"},
    {merge_no_utf8, "merge 3"},
    {merge_twice, "twice"},
    {many_merges, "18446744073709551615"},
    {pre_unknown, "gpt-4o"},
    {pre_missing, "pre-tokeniser ''"},
    {bos_wanted, "bos"},
};

static void damaged_vocabularies(void **state) {
    (void)state;
    memset(long_text, 'x', sizeof long_text);
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        tiny_vocab v;
        tiny_vocab_make(&v);
        damages[i].apply(&v);
        tug_tokenizer *tk = NULL;
        tug_err err = {0};
        fault_watch();
        const tug_status s = tug_tokenizer_create(&tk, &v.spec, &err);
        const int64_t live = fault_live_blocks();
        (void)fault_stop();
        assert_int_not_equal(s, TUG_OK);
        assert_null(tk);
        assert_int_equal(live, 0);
        if (!strstr(err.msg, damages[i].mentions)) fail_msg("case %zu: %s", i, err.msg);
    }
}

/* Small vocabularies and special ids in and out of range never get past create. */
static void special_ids(void **state) {
    (void)state;
    tiny_vocab v;
    tug_err err;
    tug_tokenizer *tk = NULL;
    for (uint64_t n = 0; n < 17; n++) {
        tiny_vocab_make(&v);
        v.spec.n_tokens = v.spec.n_types = n;
        assert_int_equal(tug_tokenizer_create(&tk, &v.spec, &err), TUG_EFORMAT);
    }
    tiny_vocab_make(&v);
    int64_t *const ids[] = {&v.spec.bos_id, &v.spec.eos_id, &v.spec.eot_id,
                            &v.spec.pad_id};
    const int64_t n = (int64_t)v.spec.n_tokens;
    const int64_t values[] = {TUG_NO_TOKEN, 0,         n - 1,      n,
                              -2,           INT32_MAX, UINT32_MAX, INT64_MIN};
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < 8; k++) {
            const int64_t before = *ids[i];
            *ids[i] = values[k];
            assert_int_equal(tug_tokenizer_create(&tk, &v.spec, &err),
                             k < 3 ? TUG_OK : TUG_ERANGE);
            tug_tokenizer_destroy(&tk);
            *ids[i] = before;
        }
    }
}

/* ---- memory -------------------------------------------------------------------- */

static tug_status use_everything(const tug_vocab_spec *spec, tug_err *err) {
    tug_tokenizer *tk = NULL;
    tug_encoder *e = NULL;
    tug_ids ids = {0};
    tug_buf out = {0};
    const tug_segment parts[] = {
        {tug_str_of("<|im_start|>hello e\xCC\xA3\xCC\x81 \xE4\xB8\x96"),
         TUG_CONTROL_PARSED},
        {tug_str_of(" world aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
         TUG_CONTROL_IS_TEXT}};
    tug_status s = tug_tokenizer_create(&tk, spec, err);
    if (s == TUG_OK) s = tug_encoder_create(&e, tk, err);
    if (s == TUG_OK) s = tug_encode_segments(e, parts, 2, &ids, err);
    if (s != TUG_OK) assert_int_equal(ids.n, 0);
    if (s == TUG_OK) {
        tug_detok d = tug_detok_start(tk, true);
        for (size_t i = 0; s == TUG_OK && i < ids.n; i++)
            s = tug_detok_add(&d, ids.p[i], &out, err);
        if (s == TUG_OK) s = tug_detok_finish(&d, &out, err);
    }
    tug_buf_free(&out);
    tug_ids_free(&ids);
    tug_encoder_destroy(&e);
    tug_tokenizer_destroy(&tk);
    return s;
}

static void every_allocation_fails_once(void **state) {
    (void)state;
    tiny_vocab v;
    tiny_vocab_make(&v);
    uint64_t n = 1;
    for (;; n++) {
        tug_err err;
        fault_fail_alloc(n);
        const tug_status s = use_everything(&v.spec, &err);
        const int64_t live = fault_live_blocks();
        const bool hit = fault_stop();
        assert_int_equal(live, 0);
        assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
        if (!hit) break;
    }
    assert_true(n > 10);
}

int main(void) {
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(words),
        WITH_FIXTURE(markers),
        WITH_FIXTURE(segments),
        WITH_FIXTURE(bad_text),
        WITH_FIXTURE(merges_in_the_right_order),
        WITH_FIXTURE(a_megabyte_without_a_border),
        WITH_FIXTURE(lookups),
        WITH_FIXTURE(streaming),
        WITH_FIXTURE(streaming_hides_control),
        cmocka_unit_test(damaged_vocabularies),
        cmocka_unit_test(special_ids),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
