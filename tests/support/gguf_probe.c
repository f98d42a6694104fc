/* gguf_probe.c - see gguf_probe.h.  SPDX-License-Identifier: MIT */
#include "support/gguf_probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/sys.h"
#include "base/utf8.h"
#include "fault/fault.h"
#include "gguf/gguf.h"

#define MUST(cond) ((cond) ? (void)0 : breach(#cond, __LINE__))

static void breach(const char *cond, int line) {
    (void)fprintf(stderr, "gguf_probe: broken contract: %s (line %d)\n", cond, line);
    abort();
}

uint8_t *gguf_probe_room(size_t n) {
    static uint8_t *end;
    if (!end) {
        const size_t page = 65536; /* a multiple of every page size in use */
        uint8_t *p = mmap(NULL, GGUF_PROBE_MAX + page, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(p != MAP_FAILED);
        MUST(mprotect(p + GGUF_PROBE_MAX, page, PROT_NONE) == 0);
        end = p + GGUF_PROBE_MAX;
    }
    MUST(n <= GGUF_PROBE_MAX);
    return end - n;
}

/* Reading a byte is how a sanitizer and the guard page see where a view leads. */
static void touch(const void *p, size_t n) {
    if (n == 0) return;
    const volatile uint8_t *bytes = p;
    (void)bytes[0];
    (void)bytes[n - 1];
}

static void copy_name(tug_str name, char *out, size_t cap) {
    const size_t n = name.n < cap ? name.n : cap - 1;
    memcpy(out, name.p, n);
    out[n] = '\0';
}

static void read_typed(const tug_gguf *g, const char *key) {
    uint32_t u = 0;
    float f = 0;
    bool b = false, found = false;
    tug_str s = {0}, *strings = NULL;
    int32_t *numbers = NULL;
    uint64_t n = 0;
    int ok = tug_gguf_get_u32(g, key, &u, &found, NULL) == TUG_OK;
    ok += tug_gguf_get_f32(g, key, &f, &found, NULL) == TUG_OK;
    ok += tug_gguf_get_bool(g, key, &b, &found, NULL) == TUG_OK;
    ok += tug_gguf_get_str(g, key, &s, &found, NULL) == TUG_OK;
    MUST(ok <= 1);
    touch(s.p, s.n);
    if (tug_gguf_get_strings(g, key, &strings, &n, NULL, NULL) == TUG_OK) {
        for (uint64_t i = 0; i < n; i++) touch(strings[i].p, strings[i].n);
    }
    if (tug_gguf_get_i32s(g, key, &numbers, &n, NULL, NULL) == TUG_OK) {
        touch(numbers, (size_t)n * sizeof *numbers);
    }
    tug_free(strings);
    tug_free(numbers);
}

static void read_metadata(const tug_gguf *g) {
    char key[256];
    for (uint64_t i = 0; i < tug_gguf_n_kv(g); i++) {
        const tug_gguf_kv kv = tug_gguf_kv_at(g, i);
        MUST(kv.key.n > 0 && tug_utf8_valid(kv.key.p, kv.key.n, NULL));
        MUST((unsigned)kv.type < TUG_GGUF_VTYPE_COUNT);
        touch(kv.s.p, kv.s.n);
        touch(kv.raw.p, kv.raw.n);
        copy_name(kv.key, key, sizeof key);
        if (strlen(key) != kv.key.n) continue; /* too long, or holds a 0 byte */
        tug_gguf_kv again;
        MUST(tug_gguf_find(g, key, &again) && again.key.p == kv.key.p);
        read_typed(g, key);
    }
}

static void read_tensors(const tug_gguf *g, uint64_t size) {
    char name[256];
    uint64_t total = 0;
    for (uint64_t i = 0; i < tug_gguf_n_tensors(g); i++) {
        const tug_gguf_tensor t = tug_gguf_tensor_at(g, i);
        MUST(t.name.n > 0 && t.name.n <= 64 && t.n_dims >= 1 && t.n_dims <= 4);
        MUST(tug_utf8_valid(t.name.p, t.name.n, NULL));
        for (int d = 0; d < 4; d++) MUST(t.ne[d] >= 1 && (d < t.n_dims || t.ne[d] == 1));
        MUST(tug_type_get(t.type)->name && t.n_bytes > 0 && t.part == 0);
        MUST(t.file_offset <= size && t.n_bytes <= size - t.file_offset);
        touch(t.data, (size_t)t.n_bytes);
        total += t.n_bytes;
        copy_name(t.name, name, sizeof name);
        tug_gguf_tensor again;
        MUST(strlen(name) != t.name.n ||
             (tug_gguf_find_tensor(g, name, &again) && again.data == t.data));
    }
    MUST(total <= size); /* they do not overlap */
}

tug_status gguf_probe_here(const uint8_t *bytes, size_t n, tug_err *err) {
    tug_err own;
    if (!err) err = &own;
    err->msg[0] = '\0';
    tug_gguf *g = NULL;
    fault_watch();
    const tug_status s = tug_gguf_open_memory(&g, "sample.gguf", bytes, n, err);
    MUST(fault_alloc_max() <= n + (1 << 20) && fault_alloc_sum() <= n + (1 << 20));
    MUST((s == TUG_OK) == (g != NULL));
    if (g) {
        MUST(tug_gguf_file_bytes(g) == n && tug_gguf_n_parts(g) == 1);
        MUST(tug_gguf_version(g) == 2 || tug_gguf_version(g) == 3);
        read_metadata(g);
        read_tensors(g, n);
    } else {
        MUST(err->code == s && strlen(err->msg) > 20);
        MUST(tug_utf8_valid(err->msg, strlen(err->msg), NULL));
    }
    tug_gguf_close(&g);
    MUST(fault_live_blocks() == 0);
    (void)fault_stop();
    return s;
}

tug_status gguf_probe(const void *bytes, size_t n, tug_err *err) {
    uint8_t *room = gguf_probe_room(n);
    if (n) memcpy(room, bytes, n);
    return gguf_probe_here(room, n, err);
}
