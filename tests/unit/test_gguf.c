/* test_gguf.c - what the GGUF reader hands out, and what it says when it refuses.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/sys.h"
#include "gguf/gguf_part.h"
#include "support/gguf_build.h"

/* ---- helpers ----------------------------------------------------------------------- */

/* The file of one test; it must live as long as the reader. */
static tug_buf file;

static int free_file(void **state) {
    (void)state;
    tug_buf_free(&file);
    return 0;
}

static tug_gguf *opened(gguf_build *b) {
    tug_gguf *g = NULL;
    tug_err err = {0};
    gguf_build_finish(b, &file);
    if (tug_gguf_open_memory(&g, "test.gguf", file.p, file.n, &err) != TUG_OK) {
        fail_msg("%s", err.msg);
    }
    return g;
}

static void refused_bytes(const void *p, size_t n, tug_status code, const char *words) {
    tug_gguf *g = (tug_gguf *)&file; /* must be overwritten */
    tug_err err = {0};
    assert_int_equal(tug_gguf_open_memory(&g, "test.gguf", p, n, &err), code);
    assert_null(g);
    if (!strstr(err.msg, "test.gguf") || !strstr(err.msg, words)) {
        fail_msg("the sentence is: %s\nexpected in it: %s", err.msg, words);
    }
    assert_int_equal(tug_gguf_open_memory(&g, "test.gguf", p, n, NULL), code);
}

static void refused(gguf_build *b, tug_status code, const char *words) {
    gguf_build_finish(b, &file);
    refused_bytes(file.p, file.n, code, words);
}

static tug_gguf_kv kv_of(const tug_gguf *g, const char *key) {
    tug_gguf_kv kv;
    if (!tug_gguf_find(g, key, &kv)) fail_msg("no key %s", key);
    return kv;
}

/* ---- metadata ---------------------------------------------------------------------- */

static void reads_every_value_type(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_sample(&b, &file);
    tug_gguf *g = NULL;
    assert_int_equal(tug_gguf_open_memory(&g, "s.gguf", file.p, file.n, NULL), TUG_OK);
    assert_string_equal(tug_gguf_path(g), "s.gguf");
    assert_int_equal(tug_gguf_version(g), 3);
    assert_int_equal(tug_gguf_n_parts(g), 1);
    assert_int_equal(tug_gguf_n_kv(g), 21);
    assert_true(tug_str_is(tug_gguf_kv_at(g, 0).key, "general.architecture"));
    assert_true(tug_str_is(kv_of(g, "general.architecture").s, "qwen3next"));
    assert_int_equal(kv_of(g, "t.u8").v.u, 255);
    assert_int_equal(kv_of(g, "t.i8").v.i, -128);
    assert_int_equal(kv_of(g, "t.u16").v.u, 65535);
    assert_int_equal(kv_of(g, "t.i16").v.i, -32768);
    assert_int_equal(kv_of(g, "t.u32").v.u, UINT32_MAX);
    assert_int_equal(kv_of(g, "t.i32").v.i, -7);
    assert_true(kv_of(g, "t.u64").v.u == UINT64_MAX);
    assert_true(kv_of(g, "t.i64").v.i == INT64_MIN);
    assert_true(kv_of(g, "t.f32").v.f == (double)1e-6f);
    assert_true(kv_of(g, "t.f64").v.f == 5e6);
    assert_true(kv_of(g, "t.bool").v.b);

    const tug_gguf_kv words = kv_of(g, "tokenizer.ggml.tokens");
    assert_int_equal(words.type, TUG_GGUF_ARRAY);
    assert_int_equal(words.elem_type, TUG_GGUF_STRING);
    assert_int_equal(words.n, 4);
    assert_int_equal(words.raw.n, 4 * 8 + 1 + 0 + 5 + 12);
    assert_int_equal(kv_of(g, "a.u64").raw.n, 16);
    assert_int_equal(kv_of(g, "a.none").n, 0);
    assert_false(tug_gguf_find(g, "t.u", NULL));
    assert_false(tug_gguf_find(g, "", NULL));
    tug_gguf_close(&g);
    assert_null(g);
    tug_gguf_close(&g);
}

static void typed_reads_give_the_value(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_sample(&b, &file);
    tug_gguf *g = NULL;
    assert_int_equal(tug_gguf_open_memory(&g, "s.gguf", file.p, file.n, NULL), TUG_OK);
    uint32_t u = 0;
    float f = 0;
    bool flag = false, found = false;
    tug_str s = {0};
    assert_int_equal(tug_gguf_get_u32(g, "t.u8", &u, &found, NULL), TUG_OK);
    assert_true(found && u == 255);
    assert_int_equal(tug_gguf_get_u32(g, "t.u32", &u, NULL, NULL), TUG_OK);
    assert_int_equal(u, UINT32_MAX);
    assert_int_equal(tug_gguf_get_f32(g, "t.f64", &f, NULL, NULL), TUG_OK);
    assert_true(f == 5e6f);
    assert_int_equal(tug_gguf_get_bool(g, "t.bool", &flag, NULL, NULL), TUG_OK);
    assert_true(flag);
    assert_int_equal(tug_gguf_get_str(g, "general.architecture", &s, NULL, NULL), TUG_OK);
    assert_true(tug_str_is(s, "qwen3next"));

    tug_str *strings = NULL;
    int32_t *numbers = NULL;
    uint64_t n = 0;
    assert_int_equal(
        tug_gguf_get_strings(g, "tokenizer.ggml.tokens", &strings, &n, &found, NULL),
        TUG_OK);
    assert_int_equal(n, 4);
    assert_true(tug_str_is(strings[0], "a") && strings[1].n == 0);
    assert_true(tug_str_is(strings[3], "<|im_start|>"));
    assert_int_equal(tug_gguf_get_i32s(g, "a.u16", &numbers, &n, NULL, NULL), TUG_OK);
    assert_true(n == 3 && numbers[2] == 65535);
    tug_free(strings);
    tug_free(numbers);
    tug_gguf_close(&g);
}

static void a_missing_key_leaves_the_default(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_init(&b);
    tug_gguf *g = opened(&b);
    uint32_t u = 17;
    float f = 2.5f;
    bool flag = true, found = true;
    tug_str s = tug_str_of("kept"), *strings = &s;
    int32_t number = 3, *numbers = &number;
    uint64_t n = 9;
    assert_int_equal(tug_gguf_get_u32(g, "x", &u, &found, NULL), TUG_OK);
    assert_false(found);
    assert_int_equal(tug_gguf_get_f32(g, "x", &f, &found, NULL), TUG_OK);
    assert_int_equal(tug_gguf_get_bool(g, "x", &flag, NULL, NULL), TUG_OK);
    assert_int_equal(tug_gguf_get_str(g, "x", &s, NULL, NULL), TUG_OK);
    found = true;
    assert_int_equal(tug_gguf_get_strings(g, "x", &strings, &n, &found, NULL), TUG_OK);
    assert_false(found);
    assert_int_equal(tug_gguf_get_i32s(g, "x", &numbers, &n, NULL, NULL), TUG_OK);
    assert_true(u == 17 && f == 2.5f && flag && tug_str_is(s, "kept") && n == 9);
    assert_true(strings == &s && numbers == &number);
    tug_gguf_close(&g);
}

static void a_key_of_another_kind_is_named(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_init(&b);
    gguf_build_str(&b, "word", "x");
    gguf_build_i32(&b, "minus", -1);
    gguf_build_u64(&b, "large", (uint64_t)UINT32_MAX + 1);
    gguf_build_u64(&b, "huge", UINT64_MAX);
    gguf_build_f64(&b, "far", 1e300);
    gguf_build_f32s(&b, "floats", (const float[]){1}, 1);
    gguf_build_array(&b, "longs", TUG_GGUF_U64, 1, &(const uint64_t){UINT64_MAX}, 8);
    tug_gguf *g = opened(&b);
    uint32_t u = 5;
    float f;
    bool flag;
    tug_str s, *strings;
    int32_t *numbers;
    uint64_t n;
    tug_err err = {0};
    static const char *const no_u32[] = {"word", "minus", "large", "huge", "floats"};
    for (size_t i = 0; i < sizeof no_u32 / sizeof no_u32[0]; i++) {
        assert_int_equal(tug_gguf_get_u32(g, no_u32[i], &u, NULL, &err), TUG_EFORMAT);
        assert_non_null(strstr(err.msg, no_u32[i]));
        assert_int_equal(u, 5);
    }
    assert_int_equal(tug_gguf_get_f32(g, "minus", &f, NULL, &err), TUG_EFORMAT);
    assert_int_equal(tug_gguf_get_f32(g, "far", &f, NULL, &err), TUG_EFORMAT);
    assert_int_equal(tug_gguf_get_bool(g, "minus", &flag, NULL, &err), TUG_EFORMAT);
    assert_int_equal(tug_gguf_get_str(g, "minus", &s, NULL, &err), TUG_EFORMAT);
    assert_int_equal(tug_gguf_get_strings(g, "word", &strings, &n, NULL, &err),
                     TUG_EFORMAT);
    assert_int_equal(tug_gguf_get_strings(g, "floats", &strings, &n, NULL, &err),
                     TUG_EFORMAT);
    assert_int_equal(tug_gguf_get_i32s(g, "floats", &numbers, &n, NULL, &err),
                     TUG_EFORMAT);
    assert_int_equal(tug_gguf_get_i32s(g, "longs", &numbers, &n, NULL, &err),
                     TUG_EFORMAT);
    assert_int_equal(tug_gguf_get_i32s(g, "word", &numbers, &n, NULL, &err), TUG_EFORMAT);
    tug_gguf_close(&g);
}

static void refuses_damaged_metadata(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_init(&b);
    gguf_build_u32(&b, "same", 1);
    gguf_build_u32(&b, "other", 2);
    gguf_build_u32(&b, "same", 3);
    refused(&b, TUG_EFORMAT, "'same' occurs twice");

    gguf_build_init(&b);
    gguf_build_kv(&b, tug_str_of("flag"), TUG_GGUF_BOOL, "\x02", 1);
    refused(&b, TUG_EFORMAT, "'flag' has 2 where a bool is 0 or 1");

    gguf_build_init(&b);
    gguf_build_array(&b, "flags", TUG_GGUF_BOOL, 3, "\0\1\xff", 3);
    refused(&b, TUG_EFORMAT, "'flags' has 255 where a bool");

    gguf_build_init(&b);
    gguf_build_kv(&b, tug_str_of("k"), TUG_GGUF_VTYPE_COUNT, "x", 1);
    refused(&b, TUG_EFORMAT, "'k' has type 13");

    gguf_build_init(&b);
    gguf_build_array(&b, "k", 77, 1, "x", 1);
    refused(&b, TUG_EFORMAT, "array of type 77");

    gguf_build_init(&b);
    gguf_build_array(&b, "k", TUG_GGUF_U32, 2, "1234", 4);
    refused(&b, TUG_EFORMAT, "ends inside an array");
}

static void checks_the_names(void **state) {
    (void)state;
    static char longest[65536];
    memset(longest, 'k', sizeof longest);
    const uint64_t one = 1;
    gguf_build b;

    gguf_build_init(&b);
    gguf_build_kv(&b, tug_str_make(longest, 65535), TUG_GGUF_U8, "x", 1);
    gguf_build_info(&b, tug_str_make(longest, 64), 1, &one, 1, TUG_TYPE_I8, 0);
    tug_buf_append(&b.data, "x", 1);
    tug_gguf *g = opened(&b);
    assert_int_equal(tug_gguf_kv_at(g, 0).key.n, 65535);
    assert_int_equal(tug_gguf_tensor_at(g, 0).name.n, 64);
    tug_gguf_close(&g);

    gguf_build_init(&b);
    gguf_build_kv(&b, tug_str_make(longest, 65536), TUG_GGUF_U8, "x", 1);
    refused(&b, TUG_EFORMAT, "65536 bytes long, the format allows 1 to 65535");

    gguf_build_init(&b);
    gguf_build_kv(&b, tug_str_make("", 0), TUG_GGUF_U8, "xx", 2);
    refused(&b, TUG_EFORMAT, "0 bytes long");

    gguf_build_init(&b);
    gguf_build_kv(&b, tug_str_of("k\xc3("), TUG_GGUF_U8, "x", 1);
    refused(&b, TUG_EFORMAT, "a metadata key at byte 24 is not UTF-8");

    gguf_build_init(&b);
    gguf_build_info(&b, tug_str_make(longest, 65), 1, &one, 1, TUG_TYPE_I8, 0);
    tug_buf_append(&b.data, "x", 1);
    refused(&b, TUG_EFORMAT, "65 bytes long, the format allows 1 to 64");

    gguf_build_init(&b);
    gguf_build_info(&b, tug_str_of("\xff"), 1, &one, 1, TUG_TYPE_I8, 0);
    tug_buf_append(&b.data, "x", 1);
    refused(&b, TUG_EFORMAT, "a tensor name at byte 24 is not UTF-8");
}

/* ---- tensors ----------------------------------------------------------------------- */

static void finds_tensors_with_shape_and_data(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_init(&b);
    char name[32];
    for (int i = 0; i < 100; i++) {
        const float values[6] = {(float)i, 1, 2, 3, 4, 5};
        (void)snprintf(name, sizeof name, "blk.%d.weight", i);
        gguf_build_tensor(&b, name, TUG_TYPE_F32, (int64_t[]){3, 2}, 2, values);
    }
    tug_gguf *g = opened(&b);
    assert_int_equal(tug_gguf_n_tensors(g), 100);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof name, "blk.%d.weight", i);
        tug_gguf_tensor t;
        assert_true(tug_gguf_find_tensor(g, name, &t));
        assert_true(t.n_dims == 2 && t.ne[0] == 3 && t.ne[1] == 2 && t.ne[2] == 1);
        assert_true(t.type == TUG_TYPE_F32 && t.n_bytes == 24 && t.part == 0);
        assert_true(t.file_offset % 32 == 0);
        float first;
        memcpy(&first, t.data, sizeof first);
        assert_true(first == (float)i);
        assert_true(tug_str_is(tug_gguf_tensor_at(g, (uint64_t)i).name, name));
    }
    assert_false(tug_gguf_find_tensor(g, "blk.100.weight", NULL));
    assert_false(tug_gguf_find_tensor(g, "blk.1.weigh", NULL));
    tug_gguf_close(&g);
}

static void knows_types_that_it_cannot_decode(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_init(&b);
    gguf_build_tensor(&b, "t", TUG_TYPE_MXFP4, (int64_t[]){64, 2}, 2, NULL);
    tug_gguf *g = opened(&b);
    const tug_gguf_tensor t = tug_gguf_tensor_at(g, 0);
    assert_true(t.type == TUG_TYPE_MXFP4 && t.n_bytes == 68);
    assert_false(tug_type_get(t.type)->can_decode);
    tug_gguf_close(&g);
}

/* Infos with the given offset, size in I8 values, over 256 bytes of data. */
static void two_tensors(gguf_build *b, uint64_t off0, uint64_t n0, uint64_t off1,
                        uint64_t n1) {
    static const char zeros[256];
    gguf_build_init(b);
    gguf_build_info(b, tug_str_of("one"), 1, &n0, 1, TUG_TYPE_I8, off0);
    gguf_build_info(b, tug_str_of("two"), 1, &n1, 1, TUG_TYPE_I8, off1);
    tug_buf_append(&b->data, zeros, sizeof zeros);
}

static void accepts_holes_and_any_order(void **state) {
    (void)state;
    gguf_build b;
    two_tensors(&b, 224, 32, 0, 5);
    tug_gguf *g = opened(&b);
    assert_true(tug_gguf_tensor_at(g, 0).file_offset >
                tug_gguf_tensor_at(g, 1).file_offset);
    tug_gguf_close(&g);
}

static void refuses_tensors_that_collide(void **state) {
    (void)state;
    gguf_build b;
    two_tensors(&b, 0, 33, 32, 5);
    refused(&b, TUG_EFORMAT, "tensors 'one' and 'two' overlap");
    two_tensors(&b, 64, 5, 32, 33);
    refused(&b, TUG_EFORMAT, "tensors 'two' and 'one' overlap");
    two_tensors(&b, 96, 8, 96, 8);
    refused(&b, TUG_EFORMAT, "overlap");
    two_tensors(&b, 0, 32, 33, 5);
    refused(&b, TUG_EFORMAT, "'two' starts at 33, not at a multiple of 32");
    two_tensors(&b, 0, 32, 224, 33);
    refused(&b, TUG_EFORMAT, "'two' needs 33 bytes at 96 + 224");
    two_tensors(&b, 0, 32, UINT64_MAX - 31, 5);
    refused(&b, TUG_EFORMAT, "resume it");

    const uint64_t one = 1;
    gguf_build_init(&b);
    gguf_build_info(&b, tug_str_of("same"), 1, &one, 1, TUG_TYPE_I8, 0);
    gguf_build_info(&b, tug_str_of("same"), 1, &one, 1, TUG_TYPE_I8, 32);
    tug_buf_append(&b.data, "12345678901234567890123456789012x", 33);
    refused(&b, TUG_EFORMAT, "tensor 'same' occurs twice");
}

static void refuses_impossible_shapes(void **state) {
    (void)state;
    const uint64_t ne[5] = {32, 1, 1, 1, 1}, zero[1] = {0}, odd[1] = {33};
    gguf_build b;
    gguf_build_init(&b);
    gguf_build_info(&b, tug_str_of("t"), 0, NULL, 0, TUG_TYPE_F32, 0);
    tug_buf_append(&b.data, "12345678", 8);
    refused(&b, TUG_EFORMAT, "'t' has 0 dimensions");
    gguf_build_init(&b);
    gguf_build_info(&b, tug_str_of("t"), 5, ne, 5, TUG_TYPE_F32, 0);
    refused(&b, TUG_EFORMAT, "'t' has 5 dimensions");
    gguf_build_init(&b);
    gguf_build_info(&b, tug_str_of("t"), 1, zero, 1, TUG_TYPE_F32, 0);
    refused(&b, TUG_EFORMAT, "a dimension of 0");
    gguf_build_init(&b);
    gguf_build_info(&b, tug_str_of("t"), 1, odd, 1, TUG_TYPE_Q8_0, 0);
    refused(&b, TUG_EFORMAT, "rows of 33 values, but Q8_0 comes in blocks of 32");
    gguf_build_init(&b);
    gguf_build_info(&b, tug_str_of("t"), 1, ne, 1, 4, 0);
    refused(&b, TUG_EUNSUPPORTED, "type number 4");
}

/* ---- header ------------------------------------------------------------------------ */

static void reads_version_2_and_refuses_others(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_init(&b);
    b.version = 2;
    tug_gguf *g = opened(&b);
    assert_int_equal(tug_gguf_version(g), 2);
    tug_gguf_close(&g);
    static const struct {
        uint32_t version;
        const char *words;
    } bad[] = {{0, "version 0"},
               {1, "version 1 of 2023"},
               {4, "version 4"},
               {0x03000000, "big-endian"},
               {0x02000000, "big-endian"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        gguf_build_init(&b);
        b.version = bad[i].version;
        refused(&b, TUG_EUNSUPPORTED, bad[i].words);
    }
}

static void a_file_without_tensors_is_fine(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_init(&b);
    gguf_build_str(&b, "general.architecture", "llama");
    tug_gguf *g = opened(&b);
    assert_int_equal(tug_gguf_n_tensors(g), 0);
    tug_gguf_close(&g);
}

static void says_what_a_wrong_file_is(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *words;
    } wrong[] = {
        {"", 0, "is empty"},
        {"G", 1, "no GGUF file"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull"},
        {"PK\x03\x04more", 8, "zip archive"},
        {"\x02\0\0\0\0\0\0\0{}", 10, "safetensors"},
        {"<!DOCTYPE html><html>", 21, "web page"},
        {"\n\n  <html>", 10, "web page"},
        {"{\"error\":\"not found\"}", 21, "JSON"},
        {"tjgg\x03\0\0\0", 8, "before GGUF"},
        {"\x1f\x8b\x08\0", 4, "gzip"},
        {"\x28\xb5\x2f\xfd", 4, "zstd"},
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 17, "incomplete"},
        {"FUGG\3\0\0\0", 8, "no GGUF file"},
        {"plain text", 10, "no GGUF file"},
        {"\n", 1, "no GGUF file"},
        {"<", 1, "no GGUF file"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        /* A copy of exactly these bytes, so that a sanitizer sees a read beyond them. */
        char *copy = malloc(wrong[i].n ? wrong[i].n : 1);
        assert_non_null(copy);
        memcpy(copy, wrong[i].bytes, wrong[i].n);
        refused_bytes(copy, wrong[i].n, TUG_EFORMAT, wrong[i].words);
        free(copy);
    }
}

/* ---- order ------------------------------------------------------------------------- */

static bool number_less(const void *ud, uint32_t a, uint32_t b) {
    const uint32_t *keys = ud;
    return keys[a] < keys[b];
}

static void the_sort_sorts(void **state) {
    (void)state;
    uint32_t keys[200], index[200], seed = 7;
    for (uint32_t n = 0; n < 200; n++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            seed = seed * 1664525 + 1013904223;
            keys[i] = seed >> 24; /* with repetitions */
            index[i] = i;
        }
        tug_gguf_sort(index, n, number_less, keys);
        for (uint32_t i = 0; i < n; i++) {
            sum += index[i];
            assert_true(i == 0 || keys[index[i - 1]] <= keys[index[i]]);
        }
        assert_int_equal(sum, (uint64_t)n * (n ? n - 1 : 0) / 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(reads_every_value_type, free_file),
        cmocka_unit_test_teardown(typed_reads_give_the_value, free_file),
        cmocka_unit_test_teardown(a_missing_key_leaves_the_default, free_file),
        cmocka_unit_test_teardown(a_key_of_another_kind_is_named, free_file),
        cmocka_unit_test_teardown(refuses_damaged_metadata, free_file),
        cmocka_unit_test_teardown(checks_the_names, free_file),
        cmocka_unit_test_teardown(finds_tensors_with_shape_and_data, free_file),
        cmocka_unit_test_teardown(knows_types_that_it_cannot_decode, free_file),
        cmocka_unit_test_teardown(accepts_holes_and_any_order, free_file),
        cmocka_unit_test_teardown(refuses_tensors_that_collide, free_file),
        cmocka_unit_test_teardown(refuses_impossible_shapes, free_file),
        cmocka_unit_test_teardown(reads_version_2_and_refuses_others, free_file),
        cmocka_unit_test_teardown(a_file_without_tensors_is_fine, free_file),
        cmocka_unit_test_teardown(says_what_a_wrong_file_is, free_file),
        cmocka_unit_test(the_sort_sorts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
