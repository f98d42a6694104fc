/* test_client_config.c - what `tug serve --print-config` writes.  That each format parses is
 * tested in tests/serve/client_config.py.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/client_config.h"
#include "fault/fault.h"
#include "json/json.h"

enum { N_CLIENTS = 9 };
static const char *const clients[N_CLIENTS] = {"opencode",  "claude-code", "codex",
                                               "qwen-code", "aider",       "continue",
                                               "cline",     "zed",         "open-webui"};

typedef struct facts {
    const char *url, *model;
    int64_t n_ctx;
    bool has_key;
} facts;

static facts plain(void) {
    const facts f = {"http://127.0.0.1:8080", "some-model", 65536, false};
    return f;
}

static tug_status config(const char *client, const facts *f, tug_buf *out, tug_err *err) {
    return cli_client_config(client, f->url, f->model, f->n_ctx, f->has_key, out, err);
}

static void test_every_client_gets_all_of_it(void **state) {
    (void)state;
    for (int i = 0; i < N_CLIENTS; i++) {
        for (int key = 0; key < 2; key++) {
            facts c = plain();
            tug_buf out = {0};
            c.has_key = key;
            assert_int_equal(config(clients[i], &c, &out, NULL), TUG_OK);
            assert_non_null(strstr(out.p, "http://127.0.0.1:8080"));
            assert_non_null(strstr(out.p, "some-model"));
            assert_null(strchr(out.p, '%'));
            assert_true(out.p[0] == '#' || out.p[0] == '/');
            assert_int_equal(out.p[out.n - 1], '\n');
            if (key) assert_non_null(strstr(out.p, "TUG_API_KEY"));
            /* an environment is no place for these two */
            if (strcmp(clients[i], "open-webui") != 0 && strcmp(clients[i], "aider") != 0)
                assert_non_null(strstr(out.p, "65536"));
            tug_buf_free(&out);
        }
    }
}

static void test_the_names_are_these(void **state) {
    (void)state;
    tug_buf names = {0};
    tug_err err = {.msg = ""};
    assert_int_equal(cli_client_names(&names, NULL), TUG_OK);
    assert_string_equal(names.p, "opencode, claude-code, codex, qwen-code, aider, "
                                 "continue, cline, zed, open-webui");
    const facts c = plain();
    tug_buf out = {0};
    assert_int_equal(config("emacs", &c, &out, &err), TUG_EUSAGE);
    assert_non_null(strstr(err.msg, "\"emacs\""));
    assert_non_null(strstr(err.msg, names.p));
    assert_int_equal(out.n, 0);
    tug_buf_free(&names);
}

/* Quotes, a backslash, shell and YAML syntax, a letter outside ASCII. */
static const char odd[] = "a\"b\\c'd$(e)`f`: #g\xC3\xA9";

static void test_json_carries_odd_names(void **state) {
    (void)state;
    facts c = plain();
    c.model = odd;
    tug_buf out = {0};
    assert_int_equal(config("opencode", &c, &out, NULL), TUG_OK);
    tug_arena arena = {0};
    const tug_json *root = NULL;
    const char *body = strchr(out.p, '{');
    assert_int_equal(tug_json_parse(tug_str_make(body, out.n - (size_t)(body - out.p)),
                                    &arena, &root, NULL),
                     TUG_OK);
    const tug_str model = tug_json_text(tug_json_get(root, "model"));
    assert_int_equal(model.n, sizeof odd - 1 + 4);
    assert_memory_equal(model.p, "tug/", 4);
    assert_memory_equal(model.p + 4, odd, sizeof odd - 1);
    tug_arena_free(&arena);
    tug_buf_free(&out);
}

static void test_shell_quotes(void **state) {
    (void)state;
    facts c = plain();
    c.model = "it's $HOME";
    tug_buf out = {0};
    assert_int_equal(config("claude-code", &c, &out, NULL), TUG_OK);
    assert_non_null(strstr(out.p, "export ANTHROPIC_MODEL='it'\\''s $HOME'\n"));
    assert_non_null(strstr(out.p, "export ANTHROPIC_BASE_URL='http://127.0.0.1:8080'\n"));
    tug_buf_free(&out);
}

static void test_what_cannot_be_written_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",         "a\nb",         "a\x7f",
                                      "\xC2\x85", "\xE2\x80\xA8", "\xEF\xBB\xBFx",
                                      "\xff",     "tab\t"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        facts c = plain();
        tug_buf out = {0};
        tug_err err = {.msg = ""};
        c.model = bad[i];
        assert_int_equal(config("zed", &c, &out, &err), TUG_ERANGE);
        assert_non_null(strstr(err.msg, "id"));
        c = plain();
        c.url = bad[i];
        assert_int_equal(config("zed", &c, &out, &err), TUG_ERANGE);
        assert_non_null(strstr(err.msg, "address"));
        assert_int_equal(out.n, 0);
    }
    facts c = plain();
    tug_buf out = {0};
    tug_err err = {.msg = ""};
    c.n_ctx = 0;
    assert_int_equal(config("zed", &c, &out, &err), TUG_ERANGE);
    assert_non_null(strstr(err.msg, "-c"));
    assert_int_equal(out.n, 0);
}

static void test_output_leaves_room_for_the_prompt(void **state) {
    (void)state;
    static const struct {
        int64_t n_ctx;
        const char *expect;
    } cases[] = {{4096, "\"context\": 4096, \"output\": 1024"},
                 {262144, "\"context\": 262144, \"output\": 32000"}};
    for (int i = 0; i < 2; i++) {
        facts c = plain();
        tug_buf out = {0};
        c.n_ctx = cases[i].n_ctx;
        assert_int_equal(config("opencode", &c, &out, NULL), TUG_OK);
        assert_non_null(strstr(out.p, cases[i].expect));
        tug_buf_free(&out);
    }
}

static void test_no_memory_is_an_error_each_time(void **state) {
    (void)state;
    const facts c = plain();
    for (int i = 0; i <= N_CLIENTS; i++) {
        for (uint64_t n = 1;; n++) {
            tug_buf out = {0};
            fault_fail_alloc(n);
            const tug_status s =
                config(i < N_CLIENTS ? clients[i] : "unknown", &c, &out, NULL);
            tug_buf_free(&out);
            assert_int_equal(fault_live_blocks(), 0);
            const bool hit = fault_stop();
            if (hit) assert_int_equal(s, TUG_ENOMEM);
            if (!hit) break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_client_gets_all_of_it),
        cmocka_unit_test(test_the_names_are_these),
        cmocka_unit_test(test_json_carries_odd_names),
        cmocka_unit_test(test_shell_quotes),
        cmocka_unit_test(test_what_cannot_be_written_is_refused),
        cmocka_unit_test(test_output_leaves_room_for_the_prompt),
        cmocka_unit_test(test_no_memory_is_an_error_each_time),
    };
    return cmocka_run_group_tests_name("client_config", tests, NULL, NULL);
}
