/* test_http_access.c - hosts, origins, keys and targets as tables.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fault/fault.h"
#include "http/http_access.h"
#include "http/http_target.h"
#include "support/tmpdir.h"

static const char *const names[] = {"tug.example", "other.example:8443"};
static const char *const pages[] = {"https://chat.example", "http://localhost:3000"};

static tug_access make_access(bool tls) {
    const tug_http_config c = {.allowed_hosts = names,
                               .n_hosts = 2,
                               .cors_origins = pages,
                               .n_origins = 2,
                               .tls_cert = tls ? "x" : NULL};
    tug_access a = {0};
    assert_int_equal(tug_access_make(&a, &c, NULL), TUG_OK);
    return a;
}

static void test_hosts(void **state) {
    (void)state;
    static const struct {
        const char *host, *local;
        bool ok;
    } rows[] = {
        {"localhost", "127.0.0.1", true},
        {"localhost:8080", "127.0.0.1", true},
        {"LocalHost:1", "127.0.0.1", true},
        {"localhost.", "127.0.0.1", true},
        {"localhost.:80", "127.0.0.1", true},
        {"127.0.0.1", "127.0.0.1", true},
        {"127.0.0.1:65535", "127.0.0.1", true},
        {"127.1.2.3", "127.0.0.1", true},
        {"[::1]", "127.0.0.1", true},
        {"[::1]:8080", "::1", true},
        {"[0:0:0:0:0:0:0:1]", "::1", true},
        {"[::ffff:127.0.0.1]", "::1", true},
        {"192.168.1.5", "192.168.1.5", true},
        {"192.168.1.5:81", "::ffff:192.168.1.5", true},
        {"[::ffff:c0a8:105]", "192.168.1.5", true},
        {"[fe80::1]", "fe80::1", true},
        {"tug.example", "10.0.0.1", true},
        {"TUG.Example.:99", NULL, true},
        {"other.example:8443", NULL, true},
        {"other.example", NULL, false},
        {"other.example:80", NULL, false},
        {"192.168.1.5", "127.0.0.1", false},
        {"192.168.1.6", "192.168.1.5", false},
        {"", "127.0.0.1", false},
        {" ", "127.0.0.1", false},
        {".", "127.0.0.1", false},
        {"..", "127.0.0.1", false},
        {"localhost..", "127.0.0.1", false},
        {".localhost", "127.0.0.1", false},
        {"evil.example", "127.0.0.1", false},
        {"127.0.0.1.evil", "127.0.0.1", false},
        {"localhost.evil", "127.0.0.1", false},
        {"localhost.evil:80", "127.0.0.1", false},
        {"evil.localhost", "127.0.0.1", false},
        {"xlocalhost", "127.0.0.1", false},
        {"sub.tug.example", "127.0.0.1", false},
        {"tug.example.evil", "127.0.0.1", false},
        {"127.0.0.1:", "127.0.0.1", false},
        {"127.0.0.1:0", "127.0.0.1", false},
        {"127.0.0.1:00080", "127.0.0.1", false},
        {"127.0.0.1:080", "127.0.0.1", false},
        {"127.0.0.1:65536", "127.0.0.1", false},
        {"127.0.0.1:999999999999999", "127.0.0.1", false},
        {"127.0.0.1:443junk", "127.0.0.1", false},
        {"127.0.0.1:+80", "127.0.0.1", false},
        {"127.0.0.1:-1", "127.0.0.1", false},
        {"127.0.0.1:80:80", "127.0.0.1", false},
        {"user@127.0.0.1", "127.0.0.1", false},
        {"127.0.0.1@evil", "127.0.0.1", false},
        {"127.0.0.1, evil", "127.0.0.1", false},
        {"127.0.0.1/evil", "127.0.0.1", false},
        {"127.0.0.1%2eevil", "127.0.0.1", false},
        {"127.1", "127.0.0.1", false},
        {"2130706433", "127.0.0.1", false},
        {"0x7f.0.0.1", "127.0.0.1", false},
        {"0.0.0.0", "127.0.0.1", false},
        {"[::1", "::1", false},
        {"[::1]x", "::1", false},
        {"[::1]80", "::1", false},
        {"[]", "::1", false},
        {"::1", "::1", false},
        {"[127.0.0.1]", "127.0.0.1", false},
        {"[::]", "::1", false},
        {"[fe80::1%lo]", "fe80::1", false},
        {"loc\xC3\xA4lhost", "127.0.0.1", false},
    };
    tug_access a = make_access(false);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tug_authority host;
        const bool ok = tug_authority_parse(tug_str_of(rows[i].host), &host) &&
                        tug_access_host(&a, &host, rows[i].local);
        if (ok != rows[i].ok)
            fail_msg("Host %s on %s: %d", rows[i].host, rows[i].local, ok);
    }
    tug_access_free(&a);
}

static void test_origins(void **state) {
    (void)state;
    static const struct {
        const char *origin, *host;
        bool tls, ok;
    } rows[] = {
        {"http://127.0.0.1:8080", "127.0.0.1:8080", false, true},
        {"http://localhost:8080", "localhost:8080", false, true},
        {"http://localhost", "localhost", false, true},
        {"http://localhost", "localhost:80", false, true},
        {"https://tug.example", "tug.example", false, true}, /* a proxy ends TLS */
        {"https://tug.example", "tug.example:443", true, true},
        {"http://tug.example", "tug.example", true, false},
        {"https://chat.example", "127.0.0.1:8080", false, true},
        {"https://chat.example:443", "127.0.0.1:8080", false, true},
        {"http://localhost:3000", "127.0.0.1:8080", false, true},
        {"http://chat.example", "127.0.0.1:8080", false, false},
        {"https://chat.example:8443", "127.0.0.1:8080", false, false},
        {"https://chat.example.evil", "127.0.0.1:8080", false, false},
        {"https://xchat.example", "127.0.0.1:8080", false, false},
        {"http://localhost:3001", "127.0.0.1:8080", false, false},
        {"http://localhost:8080", "127.0.0.1:8080", false, false},
        {"http://127.0.0.1:8081", "127.0.0.1:8080", false, false},
        {"http://127.0.0.1", "127.0.0.1:8080", false, false},
        {"null", "127.0.0.1:8080", false, false},
        {"", "127.0.0.1:8080", false, false},
        {"file://", "127.0.0.1:8080", false, false},
        {"http://", "127.0.0.1:8080", false, false},
        {"https://chat.example/", "127.0.0.1:8080", false, false},
        {"https://chat.example:0", "127.0.0.1:8080", false, false},
        {"https://chat.example:65979", "127.0.0.1:8080", false, false}, /* 443 + 2^16 */
        {"https://chat.example:443junk", "127.0.0.1:8080", false, false},
        {"https://evil@chat.example", "127.0.0.1:8080", false, false},
        {"HTTPS://chat.example", "127.0.0.1:8080", false, false},
        {"https://chat.example https://evil", "127.0.0.1:8080", false, false},
        {"chrome-extension://abc", "127.0.0.1:8080", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tug_access a = make_access(rows[i].tls);
        tug_authority host;
        assert_true(tug_authority_parse(tug_str_of(rows[i].host), &host));
        const bool ok = tug_access_origin(&a, tug_str_of(rows[i].origin), &host);
        if (ok != rows[i].ok) fail_msg("Origin %s: %d", rows[i].origin, ok);
        tug_access_free(&a);
    }
}

static tug_status load(const tmpdir *d, const char *text, unsigned mode, tug_keys *keys,
                       tug_err *err) {
    const char *const path = tmpdir_write(d, "keys", tug_str_of(text));
    assert_int_equal(chmod(path, (mode_t)mode), 0);
    return tug_keys_load(keys, path, err);
}

static void test_keys(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    tug_keys keys = {0};
    tug_err err;
    assert_int_equal(
        load(&d, "# ours\n\n  first-key \r\nsecond\nthird", 0600, &keys, &err), TUG_OK);
    assert_int_equal(keys.n, 3);
    static const struct {
        const char *given;
        int index;
    } rows[] = {{"first-key", 0},  {"second", 1},       {"third", 2},
                {"", -1},          {"first-ke", -1},    {"first-key2", -1},
                {"FIRST-KEY", -1}, {"secondthird", -1}, {"first-key ", -1},
                {"# ours", -1},    {"tirst-key", -1},   {"thirD", -1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(tug_keys_find(&keys, tug_str_of(rows[i].given)), rows[i].index);
    }
    assert_int_equal(tug_keys_find(&keys, tug_str_make("second\0", 7)), -1);
    char text[TUG_KEY_MAX + 8];
    memset(text, 'k', sizeof text);
    assert_int_equal(tug_keys_find(&keys, tug_str_make(text, sizeof text)), -1);
    tug_keys_free(&keys);

    assert_int_equal(load(&d, "key\n", 0640, &keys, &err), TUG_EUSAGE);
    assert_non_null(strstr(err.msg, "chmod 600"));
    assert_int_equal(load(&d, "key\n", 0604, &keys, &err), TUG_EUSAGE);
    assert_int_equal(load(&d, "# nothing\n\n", 0600, &keys, &err), TUG_EFORMAT);
    assert_int_equal(load(&d, "two words\n", 0600, &keys, &err), TUG_EFORMAT);
    assert_non_null(strstr(err.msg, "line 1"));
    text[TUG_KEY_MAX + 1] = 0;
    assert_int_equal(load(&d, text, 0600, &keys, &err), TUG_EFORMAT);
    text[TUG_KEY_MAX] = 0;
    assert_int_equal(load(&d, text, 0600, &keys, &err), TUG_OK);
    tug_keys_free(&keys);
    assert_int_equal(tug_keys_load(&keys, tmpdir_path(&d, "absent"), &err), TUG_EIO);
    assert_int_equal(tug_keys_load(&keys, "/dev/null", &err), TUG_EIO);
    tmpdir_remove(&d);
}

static void test_bearer(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    tug_access a = {.has_keys = true};
    assert_int_equal(load(&d, "alpha\nbeta\n", 0600, &a.keys, NULL), TUG_OK);
    static const struct {
        const char *authorization, *x_api_key;
        int index;
    } rows[] = {
        {"Bearer alpha", "", 0},     {"bearer beta", "", 1},
        {"BEARER   beta", "", 1},    {"", "beta", 1},
        {"Bearer wrong", "beta", 1}, {"Bearer beta", "wrong", 1},
        {"Bearer", "", -1},          {"Bearer ", "", -1},
        {"Beareralpha", "", -1},     {"Basic alpha", "", -1},
        {"alpha", "", -1},           {"Bearer alpha beta", "", -1},
        {"Bearer\talpha", "", -1},   {"", "", -1},
        {"", "Bearer alpha", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(tug_access_key(&a, tug_str_of(rows[i].authorization),
                                        tug_str_of(rows[i].x_api_key)),
                         rows[i].index);
    }
    tug_access_free(&a);
    tmpdir_remove(&d);
}

static void test_targets(void **state) {
    (void)state;
    static const struct {
        const char *raw, *path, *authority; /* path NULL: refused */
    } rows[] = {
        {"/", "/", NULL},
        {"/v1/models?beta=true", "/v1/models", NULL},
        {"/a%20b%2Fc", "/a b/c", NULL},
        {"/caf%C3%a9", "/caf\xC3\xA9", NULL},
        {"http://localhost:1/x?y", "/x", "localhost:1"},
        {"HTTP://h", "/", "h"},
        {"http://h?q", "/", "h"},
        {"*", "*", NULL},
        {"/a+b", "/a+b", NULL},
        {"", NULL, NULL},
        {"x", NULL, NULL},
        {"*x", NULL, NULL},
        {"http://", NULL, NULL},
        {"http:///x", NULL, NULL},
        {"ftp://h/", NULL, NULL},
        {"/%", NULL, NULL},
        {"/%4", NULL, NULL},
        {"/%4g", NULL, NULL},
        {"/%00", NULL, NULL},
        {"/%0a", NULL, NULL},
        {"/%7f", NULL, NULL},
        {"/a b", NULL, NULL},
        {"/a\tb", NULL, NULL},
        {"/a#b", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tug_target t;
        tug_buf path = {0};
        const bool ok = tug_target_split(tug_str_of(rows[i].raw), &t) &&
                        tug_target_decode(t.path, false, &path);
        if (ok != (rows[i].path != NULL)) fail_msg("target %s: %d", rows[i].raw, ok);
        if (ok) {
            assert_true(tug_str_is(tug_buf_view(&path), rows[i].path));
            assert_int_equal(t.authority.p != NULL, rows[i].authority != NULL);
            if (t.authority.p) assert_true(tug_str_is(t.authority, rows[i].authority));
        }
        tug_buf_free(&path);
    }
    tug_str rest = tug_str_of("&a=1&&b&c=d=e&=f"), name, value;
    static const char *const pairs[][2] = {
        {"a", "1"}, {"b", ""}, {"c", "d=e"}, {"", "f"}};
    for (int i = 0; i < 4; i++) {
        assert_true(tug_target_next_pair(&rest, &name, &value));
        assert_true(tug_str_is(name, pairs[i][0]) && tug_str_is(value, pairs[i][1]));
    }
    assert_false(tug_target_next_pair(&rest, &name, &value));
}

static void test_bad_config(void **state) {
    (void)state;
    static const char *const bad_hosts[] = {"http://x", "a b", "x:0", ""};
    static const char *const bad_pages[] = {"x", "null", "https://x/", ""};
    tug_access a = {0};
    tug_err err;
    for (int i = 0; i < 4; i++) {
        const tug_http_config hosts = {.allowed_hosts = bad_hosts + i, .n_hosts = 1};
        assert_int_equal(tug_access_make(&a, &hosts, &err), TUG_EUSAGE);
        const tug_http_config origins = {.cors_origins = bad_pages + i, .n_origins = 1};
        assert_int_equal(tug_access_make(&a, &origins, &err), TUG_EUSAGE);
    }
    static const char *const any[] = {"*"};
    const tug_http_config open = {.cors_origins = any, .n_origins = 1};
    assert_int_equal(tug_access_make(&a, &open, &err), TUG_EUSAGE);
}

static void test_no_memory(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    const char *const path = tmpdir_write(&d, "keys", tug_str_of("one\ntwo\n"));
    assert_int_equal(chmod(path, 0600), 0);
    const tug_http_config c = {.allowed_hosts = names,
                               .n_hosts = 2,
                               .cors_origins = pages,
                               .n_origins = 2,
                               .key_file = path};
    for (uint64_t n = 1;; n++) {
        tug_access a = {0};
        fault_fail_alloc(n);
        const tug_status s = tug_access_make(&a, &c, NULL);
        tug_access_free(&a);
        assert_int_equal(fault_live_blocks(), 0);
        assert_int_equal(fault_live_files(), 0);
        const bool hit = fault_stop();
        assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
        if (!hit) break;
    }
    tmpdir_remove(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),     cmocka_unit_test(test_origins),
        cmocka_unit_test(test_keys),      cmocka_unit_test(test_bearer),
        cmocka_unit_test(test_targets),   cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
