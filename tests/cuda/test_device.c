/* test_device.c - the device layer on the emulated driver: machines that cannot do it, no
 * room, and a failure at every driver call.  SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/device.h"
#include "cuda_emu/control.h"
#include "fault/fault.h"
#include "kernels/cuda/args.h"

static void *emulator;
static void (*configure)(const char *);
static void (*recover)(void);
static int (*has_failed)(void);
static void (*get_live)(tug_emu_live *);

static int find_emulator(void **state) {
    (void)state;
    emulator = dlopen("libcuda.so.1", RTLD_NOW);
    if (!emulator) return -1;
    *(void **)&configure = dlsym(emulator, "tug_emu_configure");
    *(void **)&recover = dlsym(emulator, "tug_emu_recover");
    *(void **)&has_failed = dlsym(emulator, "tug_emu_failed");
    *(void **)&get_live = dlsym(emulator, "tug_emu_get_live");
    if (configure) return 0;
    printf("skip: this is a real driver\n");
    exit(0);
}

static void assert_nothing_lives(void) {
    tug_emu_live live, none = {0};
    get_live(&live);
    assert_memory_equal(&live, &none, sizeof live);
}

static void assert_refused(const char *options, tug_status want, const char *sentence) {
    configure(options);
    tug_device *d;
    tug_err err;
    assert_int_equal(tug_device_open(&d, 0, 0, &err), want);
    assert_null(d);
    if (!strstr(err.msg, sentence)) fail_msg("%s: %s", options, err.msg);
    recover();
    configure("devices=1 cc=86 driver=13000 vram=16G others=0");
    assert_nothing_lives();
}

static void test_machines_that_cannot(void **state) {
    (void)state;
    assert_refused("driver=11080", TUG_EUNSUPPORTED,
                   "is for CUDA 11.8, tug needs one for CUDA 12.0");
    assert_refused("devices=0", TUG_EUNSUPPORTED, "no GPU that it can use");
    assert_refused("cc=75", TUG_EUNSUPPORTED, "compute capability 7.5");
    assert_refused("fail=1:999", TUG_EDEVICE, "does not say its version");
    assert_refused("fail=2:999", TUG_EDEVICE, "does not start");
    tug_device *d;
    tug_err err;
    assert_int_equal(tug_device_open(&d, 3, 0, &err), TUG_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "there is no GPU 3: this machine has 1"));
    assert_int_equal(tug_device_open(&d, -1, 0, &err), TUG_EUNSUPPORTED);
    assert_nothing_lives();
}

static void test_room(void **state) {
    (void)state;
    configure("vram=64M others=32M");
    tug_device *d;
    tug_err err;
    assert_int_equal(tug_device_open(&d, 0, 0, &err), TUG_OK);
    const tug_device_info *info = tug_device_get_info(d);
    assert_int_equal(info->total, 64 << 20);
    assert_int_equal(info->budget, 31 << 20); /* free, but for a 32nd */
    assert_int_equal(info->cc, 86);
    assert_true(info->waits_for_words);
    tug_device_close(&d);

    configure("memops=0");
    assert_int_equal(tug_device_open(&d, 0, 1 << 20, &err), TUG_OK);
    configure("memops=1");
    assert_false(tug_device_get_info(d)->waits_for_words);
    void *p, *q, *r;
    assert_int_equal(tug_device_alloc(d, &p, (1 << 20) - 512, "a", &err), TUG_OK);
    assert_int_equal(tug_device_alloc(d, &q, 513, "the KV cache", &err), TUG_ENOMEM);
    assert_non_null(strstr(err.msg, "GPU 0 has no room for the KV cache"));
    assert_null(q);
    assert_int_equal(tug_device_alloc(d, &q, SIZE_MAX, "b", &err), TUG_ENOMEM);
    assert_int_equal(tug_device_alloc(d, &q, 512, "b", &err), TUG_OK);
    assert_int_equal(tug_device_used(d), 1 << 20);
    assert_int_equal(tug_device_alloc(d, &r, 0, "c", &err), TUG_ENOMEM);
    tug_device_free(d, p, (1 << 20) - 512);
    tug_device_free(d, q, 512);
    tug_device_free(d, NULL, 7);
    assert_int_equal(tug_device_used(d), 0);
    /* Somebody else took what was free. */
    configure("others=64M");
    assert_int_equal(tug_device_alloc(d, &p, 4096, "d", &err), TUG_ENOMEM);
    assert_int_equal(tug_device_status(d, &err), TUG_OK); /* not a failed device */
    tug_device_close(&d);
    configure("vram=16G others=0");
    assert_nothing_lives();
}

static int lost_graphs; /* captures that failed */

/* x + x by a kernel, the result through pinned memory and both streams. */
static tug_status use(tug_device *d, tug_err *err) {
    enum { N = 600, BYTES = N * sizeof(float) };
    void *x = NULL, *y = NULL, *pinned = NULL;
    tug_device_event *e = NULL;
    tug_status s = tug_device_alloc(d, &x, BYTES, "x", err);
    if (s == TUG_OK) s = tug_device_alloc(d, &y, BYTES, "y", err);
    if (s == TUG_OK) s = tug_device_alloc_pinned(d, &pinned, BYTES, "a copy", err);
    if (s == TUG_OK) s = tug_device_event_create(d, &e, err);
    if (s == TUG_OK) {
        float up[N], down[N];
        for (int i = 0; i < N; i++) up[i] = 30.0f + (float)i; /* silu(v) is v */
        const tug_cuda_swiglu a = {y, x, x, N};
        const uint32_t grid[3] = {(N + 255) / 256, 1, 1};
        tug_device_clear(d, TUG_STREAM_COMPUTE, y, BYTES);
        tug_device_copy_in(d, TUG_STREAM_COMPUTE, x, up, BYTES);
        tug_device_launch(d, "tug_swiglu", grid, 256, 0, &a);
        tug_device_copy(d, TUG_STREAM_COMPUTE, x, y, BYTES);
        tug_device_record(d, e, TUG_STREAM_COMPUTE);
        tug_device_after(d, TUG_STREAM_COPY, e);
        tug_device_copy_out(d, TUG_STREAM_COPY, pinned, x, BYTES);
        tug_device_record(d, e, TUG_STREAM_COPY);
        s = tug_device_wait_event(d, e, err);
        memcpy(down, pinned, sizeof down);
        for (int i = 0; s == TUG_OK && i < N; i++) {
            if (down[i] < up[i] * up[i] * 0.999f || down[i] > up[i] * up[i] * 1.001f) {
                fail_msg("value %d: %g", i, (double)down[i]);
            }
        }
        if (s == TUG_OK) s = tug_device_wait(d, TUG_STREAM_COPY, err);
    }
    tug_device_event_destroy(d, &e);
    tug_device_free_pinned(d, pinned);
    tug_device_free(d, x, BYTES);
    tug_device_free(d, y, BYTES);
    return s;
}

/* The same as a graph that runs twice, and waits in its middle for a word of the host. */
typedef struct waiting {
    _Alignas(64) atomic_uint word;
    float y[32];
} waiting;

static tug_status run_twice(tug_device *d, tug_device_graph *g, waiting *w,
                            tug_err *err) {
    for (int round = 0; round < 2; round++) {
        bool done;
        atomic_store(&w->word, 0);
        w->y[31] = 0;
        tug_device_launch_graph(d, g);
        tug_status s = tug_device_poll(d, TUG_STREAM_COMPUTE, &done, err);
        if (s == TUG_OK) {
            assert_false(done);
            assert_true(w->y[31] == 0);
        }
        atomic_store(&w->word,
                     8); /* also when something failed: nothing may wait for ever */
        if (s == TUG_OK) s = tug_device_wait(d, TUG_STREAM_COMPUTE, err);
        if (s == TUG_OK) s = tug_device_poll(d, TUG_STREAM_COMPUTE, &done, err);
        if (s != TUG_OK) return s;
        assert_true(done);
        assert_true(w->y[31] == 40.0f * 40.0f);
    }
    return TUG_OK;
}

static tug_status use_graph(tug_device *d, tug_err *err) {
    enum { N = 32, BYTES = N * sizeof(float) };
    void *x = NULL, *pinned = NULL;
    tug_device_graph *g = NULL;
    tug_status s = tug_device_alloc(d, &x, BYTES, "x", err);
    if (s == TUG_OK) s = tug_device_alloc_pinned(d, &pinned, sizeof(waiting), "y", err);
    if (s == TUG_OK) {
        waiting *w = pinned;
        float up[N];
        for (int i = 0; i < N; i++) up[i] = 9.0f + (float)i; /* silu(40) is 40 */
        tug_device_copy_in(d, TUG_STREAM_COMPUTE, x, up, BYTES);
        const tug_cuda_swiglu a = {tug_device_address_of(d, w->y), x, x, N};
        const void *word = tug_device_address_of(d, &w->word);
        const uint32_t grid[3] = {1, 1, 1};
        tug_device_launch(d, "tug_swiglu", grid, 256, 0, &a);
        s = tug_device_wait(d, TUG_STREAM_COMPUTE, err);
        if (s == TUG_OK) {
            tug_device_capture(d);
            tug_device_after_word(d, TUG_STREAM_COMPUTE, word, 8);
            tug_device_launch(d, "tug_swiglu", grid, 256, 0, &a);
            s = tug_device_end_capture(d, &g, err);
            assert_true((s == TUG_OK) == (g != NULL));
            if (s != TUG_OK) lost_graphs++;
            if (s != TUG_OK && tug_device_status(d, NULL) == TUG_OK) {
                s = use(d, err); /* no harm */
            } else if (s == TUG_OK) {
                s = run_twice(d, g, w, err);
            }
        }
    }
    tug_device_graph_destroy(d, &g);
    tug_device_free_pinned(d, pinned);
    tug_device_free(d, x, BYTES);
    return s;
}

static tug_status open_and_use(tug_err *err) {
    tug_device *d;
    TUG_TRY(tug_device_open(&d, 0, 0, err));
    tug_status s = use(d, err);
    if (s == TUG_OK) s = use_graph(d, err);
    tug_device_close(&d);
    return s;
}

/* The n-th driver call fails, for every n until none is left: a sentence or success (when
 * it was one that gives something back), and nothing stays allocated. */
static void fail_everywhere(int code, int *n_fail) {
    *n_fail = 0;
    for (int n = 1;; n++) {
        char option[64];
        snprintf(option, sizeof option, "fail=%d:%d", n, code);
        configure(option);
        tug_err err = {0};
        const tug_status s = open_and_use(&err);
        const bool was = has_failed();
        recover();
        assert_nothing_lives();
        if (!was) {
            assert_int_equal(s, TUG_OK);
            return;
        }
        assert_true(s == TUG_OK || s == TUG_EDEVICE || s == TUG_ENOMEM ||
                    s == TUG_EUNSUPPORTED);
        if (s != TUG_OK) assert_true(strlen(err.msg) > 10);
        *n_fail += s != TUG_OK;
    }
}

static void test_failure_everywhere(void **state) {
    (void)state;
    static const int codes[] = {1, 2, 100, 209, 500, 700, 719, 999};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        int n_fail;
        configure(i % 2 ? "schedule=random:5" : "schedule=immediate");
        fail_everywhere(codes[i], &n_fail);
        assert_true(n_fail >= 20);
    }
    configure("schedule=immediate");
    assert_true(lost_graphs > 0);
}

static void test_any_schedule(void **state) {
    (void)state;
    for (int seed = 0; seed < 50; seed++) {
        char option[64];
        snprintf(option, sizeof option, "schedule=random:%d", seed);
        configure(seed ? option : "schedule=deferred");
        tug_err err;
        assert_int_equal(open_and_use(&err), TUG_OK);
    }
    configure("schedule=immediate");
    assert_nothing_lives();
}

/* Memory that was there already becomes pinned; the device reads it when the copy runs. */
static void test_pin(void **state) {
    (void)state;
    enum { BYTES = 4096 };
    configure("schedule=deferred");
    tug_device *d;
    tug_device_event *e;
    tug_err err;
    void *p, *host = aligned_alloc(4096, BYTES);
    assert_int_equal(tug_device_open(&d, 0, 0, &err), TUG_OK);
    assert_int_equal(tug_device_alloc(d, &p, BYTES, "x", &err), TUG_OK);
    assert_int_equal(tug_device_event_create(d, &e, &err), TUG_OK);
    assert_true(tug_device_pin(d, host, BYTES));
    assert_false(tug_device_pin(d, host, BYTES)); /* it is: no failure of the device */
    assert_int_equal(tug_device_status(d, &err), TUG_OK);
    memset(host, 1, BYTES);
    tug_device_copy_in(d, TUG_STREAM_COPY, p, host, BYTES);
    tug_device_record(d, e, TUG_STREAM_COPY);
    assert_false(tug_device_happened(d, e));
    memset(host, 2, BYTES); /* not taken yet */
    assert_int_equal(tug_device_wait_event(d, e, &err), TUG_OK);
    assert_true(tug_device_happened(d, e));
    uint8_t back[BYTES];
    tug_device_copy_out(d, TUG_STREAM_COPY, back, p, BYTES);
    assert_int_equal(tug_device_wait(d, TUG_STREAM_COPY, &err), TUG_OK);
    assert_int_equal(back[0], 2);
    assert_int_equal(back[BYTES - 1], 2);
    configure("fail=1:719");
    assert_false(tug_device_happened(d, e));
    assert_int_equal(tug_device_status(d, &err), TUG_EDEVICE);
    tug_device_unpin(d, host);
    tug_device_unpin(d, NULL);
    tug_device_event_destroy(d, &e);
    tug_device_free(d, p, BYTES);
    tug_device_close(&d);
    free(host);
    recover();
    configure("schedule=immediate");
    assert_nothing_lives();
}

/* After a failure nothing runs any more, and the first sentence stays. */
static void test_failed_stays_failed(void **state) {
    (void)state;
    tug_device *d;
    tug_err err, again;
    assert_int_equal(tug_device_open(&d, 0, 0, &err), TUG_OK);
    const uint32_t grid[3] = {1, 1, 1};
    const tug_cuda_swiglu a = {0};
    tug_device_launch(d, "tug_nothing", grid, 32, 0, &a);
    assert_int_equal(tug_device_status(d, &err), TUG_EDEVICE);
    assert_non_null(strstr(err.msg, "tug_nothing"));
    unsigned long (*launches)(const char *);
    *(void **)&launches = dlsym(emulator, "tug_emu_launches");
    const unsigned long before = launches(NULL);
    tug_device_launch(d, "tug_swiglu", grid, 32, 0, &a);
    assert_int_equal(launches(NULL), before);
    void *p;
    assert_int_equal(tug_device_alloc(d, &p, 4, "x", &again), TUG_EDEVICE);
    assert_string_equal(again.msg, err.msg);
    assert_int_equal(tug_device_wait(d, TUG_STREAM_COMPUTE, &again), TUG_EDEVICE);
    assert_string_equal(again.msg, err.msg);
    tug_device_close(&d);
    assert_nothing_lives();
}

static void test_host_memory_fails(void **state) {
    (void)state;
    tug_err err;
    tug_device *d;
    fault_fail_alloc(1);
    assert_int_equal(tug_device_open(&d, 0, 0, &err), TUG_ENOMEM);
    assert_true(fault_stop());
    assert_null(d);
    assert_nothing_lives();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machines_that_cannot),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_failure_everywhere),
        cmocka_unit_test(test_any_schedule),
        cmocka_unit_test(test_pin),
        cmocka_unit_test(test_failed_stays_failed),
        cmocka_unit_test(test_host_memory_fails),
    };
    return cmocka_run_group_tests(tests, find_emulator, NULL);
}
