/* fuzz_http.c - what a stranger writes into Host, Origin and the request line.
 * SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <strings.h>

#include "http/http_access.h"
#include "http/http_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

static void one_target(tug_str text) {
    tug_target t;
    if (!tug_target_split(text, &t)) return;
    check(t.path.n > 0 && (t.path.p[0] == '/' || tug_str_is(t.path, "*")));
    tug_buf path = {0};
    if (tug_target_decode(t.path, false, &path)) {
        for (size_t i = 0; i < path.n; i++) check((unsigned char)path.p[i] >= ' ');
    }
    tug_buf_free(&path);
    tug_str rest = t.query, name, value;
    while (tug_target_next_pair(&rest, &name, &value)) {
        check(name.n + value.n <= text.n);
    }
}

/* What was let in must be a name of ours, spelled out again here in another way. */
static void one_host(const tug_access *access, tug_str text) {
    tug_authority host;
    if (!tug_authority_parse(text, &host)) return;
    check(strlen(host.host) > 0 && host.port >= 0 && host.port <= 65535);
    check(tug_authority_eq(&host, &host, 80));
    if (!tug_access_host(access, &host, "192.168.1.5")) return;
    check(strcmp(host.host, "localhost") == 0 || strcmp(host.host, "tug.example") == 0 ||
          strncmp(host.host, "127.", 4) == 0 || strcmp(host.host, "192.168.1.5") == 0 ||
          host.is_v6);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const hosts[] = {"tug.example"};
    static const char *const origins[] = {"https://chat.example"};
    const tug_http_config config = {
        .allowed_hosts = hosts, .n_hosts = 1, .cors_origins = origins, .n_origins = 1};
    tug_access access = {0};
    check(tug_access_make(&access, &config, NULL) == TUG_OK);
    const tug_str text = tug_str_make((const char *)data, size);
    one_target(text);
    one_host(&access, text);
    if (tug_access_is_cors(&access, text)) {
        check(size >= 20 && memcmp(text.p, "https://", 8) == 0 &&
              strncasecmp(text.p + 8, "chat.example", 12) == 0);
    }
    check(tug_access_key(&access, text, text) == -1);
    tug_access_free(&access);
    return 0;
}
