/* test_gguf_split.c - GGUF from real files: split sets, and paths that lead nowhere.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gguf/gguf.h"
#include "support/gguf_build.h"
#include "support/tmpdir.h"

static tmpdir dir;

static int make_dir(void **state) {
    (void)state;
    dir = tmpdir_make();
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    tmpdir_remove(&dir);
    return 0;
}

/* ---- helpers ----------------------------------------------------------------------- */

/* What the keys of a part say; -1 leaves a key out. */
typedef struct part_keys {
    int no, count, n_tensors;
} part_keys;

/* Writes NAME with a tensor for each of the space-separated names in `tensors`, whose
 * value is the part's number. */
static const char *write_part(const char *name, part_keys k, const char *tensors) {
    gguf_build b;
    gguf_build_init(&b);
    if (k.no == 0) gguf_build_str(&b, "general.name", "from the first part");
    if (k.no >= 0) gguf_build_u16(&b, "split.no", (uint16_t)k.no);
    if (k.count >= 0) gguf_build_u16(&b, "split.count", (uint16_t)k.count);
    if (k.n_tensors >= 0) gguf_build_i32(&b, "split.tensors.count", k.n_tensors);
    char list[256];
    (void)snprintf(list, sizeof list, "%s", tensors);
    const float value = (float)k.no;
    for (char *t = strtok(list, " "); t; t = strtok(NULL, " ")) {
        gguf_build_tensor(&b, t, TUG_TYPE_F32, (int64_t[]){1}, 1, &value);
    }
    tug_buf file = {0};
    gguf_build_finish(&b, &file);
    const char *path = tmpdir_write(&dir, name, tug_buf_view(&file));
    tug_buf_free(&file);
    return path;
}

static void write_set(void) {
    (void)write_part("m-00001-of-00003.gguf", (part_keys){0, 3, 4}, "a b");
    (void)write_part("m-00002-of-00003.gguf", (part_keys){1, 3, 4}, "c");
    (void)write_part("m-00003-of-00003.gguf", (part_keys){2, 3, 4}, "d");
}

static void refused(const char *name, tug_status code, const char *words) {
    tug_gguf *g = NULL;
    tug_err err = {0};
    assert_int_equal(tug_gguf_open(&g, tmpdir_path(&dir, name), &err), code);
    assert_null(g);
    if (!strstr(err.msg, words)) {
        fail_msg("the sentence is: %s\nexpected in it: %s", err.msg, words);
    }
}

/* ---- sets -------------------------------------------------------------------------- */

static void opens_a_set_from_its_first_part(void **state) {
    (void)state;
    write_set();
    tug_gguf *g = NULL;
    tug_err err = {0};
    if (tug_gguf_open(&g, tmpdir_path(&dir, "m-00001-of-00003.gguf"), &err) != TUG_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(tug_gguf_n_parts(g), 3);
    assert_int_equal(tug_gguf_n_tensors(g), 4);
    tug_str name = {0};
    assert_int_equal(tug_gguf_get_str(g, "general.name", &name, NULL, &err), TUG_OK);
    assert_true(tug_str_is(name, "from the first part"));
    static const char *const names[] = {"a", "b", "c", "d"};
    static const int parts[] = {0, 0, 1, 2};
    for (uint64_t i = 0; i < 4; i++) {
        tug_gguf_tensor t;
        float value;
        assert_true(tug_gguf_find_tensor(g, names[i], &t));
        memcpy(&value, t.data, sizeof value);
        assert_true(t.part == parts[i] && value == (float)parts[i]);
        assert_true(tug_str_is(tug_gguf_tensor_at(g, i).name, names[i]));
    }
    tug_gguf_close(&g);
}

static void the_first_part_may_hold_no_tensors(void **state) {
    (void)state;
    (void)write_part("m-00001-of-00002.gguf", (part_keys){0, 2, 1}, "");
    (void)write_part("m-00002-of-00002.gguf", (part_keys){1, 2, 1}, "only");
    tug_gguf *g = NULL;
    assert_int_equal(tug_gguf_open(&g, tmpdir_path(&dir, "m-00001-of-00002.gguf"), NULL),
                     TUG_OK);
    assert_int_equal(tug_gguf_tensor_at(g, 0).part, 1);
    tug_gguf_close(&g);
}

static void one_of_one_needs_no_special_name(void **state) {
    (void)state;
    const char *path = write_part("any name.gguf", (part_keys){0, 1, 1}, "a");
    tug_gguf *g = NULL;
    assert_int_equal(tug_gguf_open(&g, path, NULL), TUG_OK);
    tug_gguf_close(&g);
}

static void names_the_missing_part(void **state) {
    (void)state;
    write_set();
    assert_int_equal(unlink(tmpdir_path(&dir, "m-00002-of-00003.gguf")), 0);
    refused("m-00001-of-00003.gguf", TUG_EIO,
            "m-00002-of-00003.gguf, part 2 of 3 of this model, is missing");
}

static void names_the_first_part(void **state) {
    (void)state;
    write_set();
    refused("m-00003-of-00003.gguf", TUG_EFORMAT, "m-00001-of-00003.gguf");
    refused("m-00002-of-00003.gguf", TUG_EFORMAT,
            "is part 2 of 3 of a split model: open");
}

static void a_renamed_part_is_explained(void **state) {
    (void)state;
    (void)write_part("model.gguf", (part_keys){0, 3, 4}, "a b");
    refused("model.gguf", TUG_EFORMAT, "its name must end in -00001-of-00003.gguf");
    (void)write_part("m-00001-of-00003.gguf", (part_keys){1, 3, 4}, "a b");
    refused("m-00001-of-00003.gguf", TUG_EFORMAT, "must end in -00002-of-00003.gguf");
}

static void parts_must_belong_together(void **state) {
    (void)state;
    write_set();
    (void)write_part("m-00002-of-00003.gguf", (part_keys){2, 3, 4}, "c");
    refused("m-00001-of-00003.gguf", TUG_EFORMAT, "says it is part 3 of 3, but its name");
    (void)write_part("m-00002-of-00003.gguf", (part_keys){1, 4, 4}, "c");
    refused("m-00001-of-00003.gguf", TUG_EFORMAT, "parts are mixed up");
    (void)write_part("m-00002-of-00003.gguf", (part_keys){-1, -1, -1}, "c");
    refused("m-00001-of-00003.gguf", TUG_EFORMAT, "parts are mixed up");
    (void)write_part("m-00002-of-00003.gguf", (part_keys){1, 3, 4}, "c c2");
    refused("m-00001-of-00003.gguf", TUG_EFORMAT,
            "hold 5 tensors, but split.tensors.count");
    (void)write_part("m-00002-of-00003.gguf", (part_keys){1, 3, 4}, "a");
    refused("m-00001-of-00003.gguf", TUG_EFORMAT, "m-00002-of-00003.gguf: tensor 'a'");
    (void)tmpdir_write(&dir, "m-00002-of-00003.gguf", tug_str_of("<html>"));
    refused("m-00001-of-00003.gguf", TUG_EFORMAT, "m-00002-of-00003.gguf is a web page");
}

static void impossible_split_keys_are_refused(void **state) {
    (void)state;
    (void)write_part("a.gguf", (part_keys){3, 3, 4}, "a");
    refused("a.gguf", TUG_EFORMAT, "says it is part 4 of 3");
    (void)write_part("a.gguf", (part_keys){0, 65535, 4}, "a");
    refused("a.gguf", TUG_EFORMAT, "one of 65535 parts");
    gguf_build b;
    gguf_build_init(&b);
    gguf_build_str(&b, "split.count", "three");
    tug_buf file = {0};
    gguf_build_finish(&b, &file);
    (void)tmpdir_write(&dir, "a.gguf", tug_buf_view(&file));
    refused("a.gguf", TUG_EFORMAT, "'split.count' is not a number");
    tug_buf_free(&file);
}

static void a_set_cannot_be_opened_from_memory(void **state) {
    (void)state;
    gguf_build b;
    gguf_build_init(&b);
    gguf_build_u16(&b, "split.count", 2);
    tug_buf file = {0};
    gguf_build_finish(&b, &file);
    tug_gguf *g = NULL;
    assert_int_equal(tug_gguf_open_memory(&g, "m", file.p, file.n, NULL),
                     TUG_EUNSUPPORTED);
    tug_buf_free(&file);
}

/* ---- paths ------------------------------------------------------------------------- */

static void paths_that_lead_nowhere(void **state) {
    (void)state;
    refused("none.gguf", TUG_EIO, "No such file");
    assert_int_equal(mkdir(tmpdir_path(&dir, "folder"), 0700), 0);
    refused("folder", TUG_EIO, "is a folder");
    assert_int_equal(rmdir(tmpdir_path(&dir, "folder")), 0);
    (void)tmpdir_write(&dir, "empty.gguf", tug_str_of(""));
    refused("empty.gguf", TUG_EFORMAT, "empty.gguf is empty");
    (void)tmpdir_write(&dir, "text.gguf", tug_str_of("hello"));
    refused("text.gguf", TUG_EFORMAT, "text.gguf is no GGUF file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_a_set_from_its_first_part, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(the_first_part_may_hold_no_tensors, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(one_of_one_needs_no_special_name, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(names_the_missing_part, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(names_the_first_part, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_renamed_part_is_explained, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(parts_must_belong_together, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(impossible_split_keys_are_refused, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_set_cannot_be_opened_from_memory, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(paths_that_lead_nowhere, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
