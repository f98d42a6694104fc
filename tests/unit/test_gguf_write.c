/* test_gguf_write.c - what the writer writes is what the reader reads.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf/gguf_write.h"
#include "support/tmpdir.h"

/* Three tensors whose sizes are no multiple of the alignment, one that is. */
static const struct {
    const char *name;
    tug_type type;
    int n_dims;
    int64_t ne[4];
    uint64_t n_bytes;
} tensors[] = {
    {"a.weight", TUG_TYPE_F32, 1, {5}, 20},
    {"b.weight", TUG_TYPE_Q8_0, 2, {64, 3}, 204},
    {"c.weight", TUG_TYPE_Q4_K, 3, {256, 2, 2}, 576},
    {"d.bias", TUG_TYPE_BF16, 4, {3, 1, 1, 1}, 6},
};
enum { N_TENSORS = sizeof tensors / sizeof tensors[0], DATA_BYTES = 20 + 204 + 576 + 6 };

static uint8_t byte_at(size_t i) {
    return (uint8_t)(i * 37 + i / 256 + 1);
}

static void put_metadata(tug_gguf_meta *m) {
    tug_gguf_put_str(m, "general.architecture", tug_str_of("test"));
    tug_gguf_put_u16(m, "u16", 65535);
    tug_gguf_put_u32(m, "u32", 4000000000u);
    tug_gguf_put_i32(m, "i32", -7);
    tug_gguf_put_f32(m, "f32", 1e-6f);
    tug_gguf_put_bool(m, "yes", true);
    tug_gguf_put_array(m, "strings", TUG_GGUF_STRING, 3);
    tug_gguf_add_str(m, tug_str_of("\xC4\xA0the"));
    tug_gguf_add_str(m, tug_str_of(""));
    tug_gguf_add_str(m, tug_str_make("a\0b", 3));
    tug_gguf_put_array(m, "numbers", TUG_GGUF_I32, 2);
    tug_gguf_add_i32(m, -1);
    tug_gguf_add_i32(m, 1 << 30);
}

/* Writes all of it, the data in pieces of `step` bytes. */
static tug_status write_file(const tug_gguf_write_params *p, size_t step, tug_err *err) {
    tug_gguf_writer *w = NULL;
    tug_status s = tug_gguf_writer_create(&w, p, err);
    if (s == TUG_OK) put_metadata(tug_gguf_writer_meta(w));
    for (int i = 0; i < N_TENSORS && s == TUG_OK; i++) {
        s = tug_gguf_writer_tensor(w, tensors[i].name, tensors[i].type, tensors[i].ne,
                                   tensors[i].n_dims, err);
    }
    if (s == TUG_OK) s = tug_gguf_writer_begin(w, err);
    uint8_t data[DATA_BYTES];
    for (size_t i = 0; i < DATA_BYTES; i++) data[i] = byte_at(i);
    for (size_t at = 0; at < DATA_BYTES && s == TUG_OK; at += step) {
        s = tug_gguf_writer_write(w, data + at,
                                  DATA_BYTES - at < step ? DATA_BYTES - at : step, err);
    }
    if (s == TUG_OK) s = tug_gguf_writer_finish(w, err);
    tug_gguf_writer_destroy(&w);
    return s;
}

static void check_metadata(const tug_gguf *g) {
    uint32_t u = 0;
    float f = 0;
    bool yes = false;
    tug_gguf_kv kv;
    assert_int_equal(tug_gguf_get_u32(g, "u16", &u, NULL, NULL), TUG_OK);
    assert_int_equal(u, 65535);
    assert_int_equal(tug_gguf_get_u32(g, "u32", &u, NULL, NULL), TUG_OK);
    assert_true(u == 4000000000u);
    assert_true(tug_gguf_find(g, "i32", &kv) && kv.type == TUG_GGUF_I32 && kv.v.i == -7);
    assert_int_equal(tug_gguf_get_f32(g, "f32", &f, NULL, NULL), TUG_OK);
    assert_true(f == 1e-6f);
    assert_int_equal(tug_gguf_get_bool(g, "yes", &yes, NULL, NULL), TUG_OK);
    assert_true(yes);
    assert_true(tug_gguf_find(g, "strings", &kv) && kv.n == 3);
    uint64_t at = 0;
    tug_gguf_kv e;
    assert_true(tug_gguf_next_elem(&kv, &at, &e) && tug_str_is(e.s, "\xC4\xA0the"));
    assert_true(tug_gguf_next_elem(&kv, &at, &e) && e.s.n == 0);
    assert_true(tug_gguf_next_elem(&kv, &at, &e) && e.s.n == 3 && e.s.p[2] == 'b');
    assert_true(tug_gguf_find(g, "numbers", &kv) && kv.n == 2);
    at = 0;
    assert_true(tug_gguf_next_elem(&kv, &at, &e) && e.v.i == -1);
    assert_true(tug_gguf_next_elem(&kv, &at, &e) && e.v.i == 1 << 30);
}

static void check_tensors(const tug_gguf *g) {
    assert_int_equal(tug_gguf_n_tensors(g), N_TENSORS);
    size_t at = 0;
    for (int i = 0; i < N_TENSORS; i++) {
        const tug_gguf_tensor t = tug_gguf_tensor_at(g, (uint64_t)i);
        assert_true(tug_str_is(t.name, tensors[i].name));
        assert_int_equal(t.type, tensors[i].type);
        assert_int_equal(t.n_dims, tensors[i].n_dims);
        for (int d = 0; d < t.n_dims; d++) assert_int_equal(t.ne[d], tensors[i].ne[d]);
        assert_int_equal(t.n_bytes, tensors[i].n_bytes);
        for (size_t b = 0; b < t.n_bytes; b++) {
            assert_int_equal(t.data[b], byte_at(at));
            at++;
        }
    }
}

static void what_is_written_is_read(void **state) {
    (void)state;
    static const size_t steps[] = {1, 7, 20, 224, DATA_BYTES};
    const tmpdir d = tmpdir_make();
    const char *path = tmpdir_path(&d, "m.gguf");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const tug_gguf_write_params p = {.path = path, .overwrite = i > 0};
        tug_err err = {0};
        assert_int_equal(write_file(&p, steps[i], &err), TUG_OK);
        tug_gguf *g = NULL;
        assert_int_equal(tug_gguf_open(&g, path, &err), TUG_OK);
        check_metadata(g);
        check_tensors(g);
        tug_gguf_close(&g);
    }
    tmpdir_remove(&d);
}

/* Parts of at most 224 bytes: a and b together, c (larger than a part) alone, d. */
static void a_split_set_is_read(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    const tug_gguf_write_params p = {.path = tmpdir_path(&d, "m.gguf"),
                                     .split_bytes = 236};
    tug_err err = {0};
    assert_int_equal(write_file(&p, 50, &err), TUG_OK);
    tug_gguf *g = NULL;
    assert_int_equal(tug_gguf_open(&g, tmpdir_path(&d, "m-00001-of-00003.gguf"), &err),
                     TUG_OK);
    assert_int_equal(tug_gguf_n_parts(g), 3);
    check_metadata(g);
    check_tensors(g);
    assert_int_equal(tug_gguf_tensor_at(g, 1).part, 0);
    assert_int_equal(tug_gguf_tensor_at(g, 2).part, 1);
    assert_int_equal(tug_gguf_tensor_at(g, 3).part, 2);
    tug_gguf_close(&g);
    assert_int_equal(access(tmpdir_path(&d, "m.gguf"), F_OK), -1);
    tmpdir_remove(&d);
}

static void expect_refusal(const tug_gguf_write_params *p, const char *words) {
    tug_err err = {0};
    assert_int_not_equal(write_file(p, 64, &err), TUG_OK);
    if (!strstr(err.msg, words)) fail_msg("'%s' does not say '%s'", err.msg, words);
}

static void names_that_cannot_be(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    tug_gguf_write_params p = {.path =
                                   tmpdir_write(&d, "there.gguf", tug_str_of("mine"))};
    expect_refusal(&p, "exists: choose another name, or --force");
    p.path = tmpdir_path(&d, "model.bin");
    expect_refusal(&p, "must end in .gguf");
    p.path = ".gguf";
    expect_refusal(&p, "must end in .gguf");
    p.path = tmpdir_path(&d, "none/m.gguf");
    expect_refusal(&p, "No such file");
    p.path = tmpdir_path(&d, "folder.gguf");
    p.overwrite = true;
    assert_int_equal(mkdir(p.path, 0700), 0);
    expect_refusal(&p, "is not a file");
    p.path = tmpdir_path(&d, "m.gguf");
    p.overwrite = false;
    (void)tmpdir_write(&d, "m.gguf.partial", tug_str_of("another's"));
    expect_refusal(&p, "m.gguf.partial exists: another tug");
    assert_int_equal(access(tmpdir_path(&d, "m.gguf.partial"), F_OK), 0); /* not ours */
    struct stat st;
    assert_int_equal(stat(tmpdir_path(&d, "there.gguf"), &st), 0);
    assert_int_equal(st.st_size, 4); /* "mine" */
    tmpdir_remove(&d);
}

static void too_many_parts(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    const tug_gguf_write_params p = {.path = tmpdir_path(&d, "m.gguf"), .split_bytes = 1};
    tug_gguf_writer *w = NULL;
    tug_err err = {0};
    assert_int_equal(tug_gguf_writer_create(&w, &p, &err), TUG_OK);
    for (int i = 0; i <= TUG_GGUF_MAX_PARTS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(
            tug_gguf_writer_tensor(w, name, TUG_TYPE_F32, (int64_t[]){8}, 1, &err),
            TUG_OK);
    }
    assert_int_equal(tug_gguf_writer_begin(w, &err), TUG_ERANGE);
    assert_non_null(strstr(err.msg, "choose larger parts"));
    tug_gguf_writer_destroy(&w);
    assert_int_equal(rmdir(d.path), 0); /* empty: nothing was left */
}

static void sizes_that_cannot_be(void **state) {
    (void)state;
    const tug_gguf_write_params p = {.path = "never.gguf"};
    tug_gguf_writer *w = NULL;
    tug_err err = {0};
    assert_int_equal(tug_gguf_writer_create(&w, &p, &err), TUG_OK);
    static const int64_t row[] = {300, 2}, huge[] = {1L << 40, 1L << 30};
    assert_int_equal(tug_gguf_writer_tensor(w, "t", TUG_TYPE_Q4_K, row, 2, &err),
                     TUG_ERANGE);
    assert_non_null(strstr(err.msg, "blocks of 256"));
    assert_int_equal(tug_gguf_writer_tensor(w, "t", TUG_TYPE_F32, huge, 2, &err),
                     TUG_ERANGE);
    /* A petabyte: representable, but no disk of a test has it. */
    static const int64_t large[] = {1L << 20, 1L << 28};
    assert_int_equal(tug_gguf_writer_tensor(w, "t", TUG_TYPE_F32, large, 2, &err),
                     TUG_OK);
    assert_int_equal(tug_gguf_writer_begin(w, &err), TUG_EIO);
    assert_non_null(strstr(err.msg, "GB free"));
    tug_gguf_writer_destroy(&w);
    assert_int_equal(access("never.gguf.partial", F_OK), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read), cmocka_unit_test(a_split_set_is_read),
        cmocka_unit_test(names_that_cannot_be),    cmocka_unit_test(too_many_parts),
        cmocka_unit_test(sizes_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
