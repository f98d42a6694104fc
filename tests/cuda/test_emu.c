/* test_emu.c - the emulated driver itself: it runs right kernels rightly, and finds a mistake
 * of every kind.  SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/f16.h"
#include "cuda/driver.h"
#include "cuda_emu/control.h"
#include "cuda_emu/selftest.h"

static tug_cu cu;
static tug_cu_stream one, two;
static tug_cu_module module;
static bool race_build, asan_build;
static void (*configure)(const char *);
static void (*get_live)(tug_emu_live *);

static void *exported(const char *name) {
    return dlsym(cu.library, name);
}

static void must(tug_cu_result r) {
    assert_int_equal(r, TUG_CU_SUCCESS);
}

static int open_driver(void **state) {
    (void)state;
    tug_err err;
    if (tug_cu_load(&cu, &err) != TUG_OK) {
        printf("%s\n", err.msg);
        return -1;
    }
    *(void **)&configure = exported("tug_emu_configure");
    *(void **)&get_live = exported("tug_emu_get_live");
    if (!configure) {
        printf("skip: this is a real driver\n");
        exit(0);
    }
    int (*is_race)(void), (*is_asan)(void);
    *(void **)&is_race = exported("tug_emu_finds_races");
    *(void **)&is_asan = exported("tug_emu_finds_overruns");
    race_build = is_race();
    asan_build = is_asan();
    tug_cu_device dev;
    tug_cu_context ctx;
    must(cu.cuDeviceGet(&dev, 0));
    must(cu.cuDevicePrimaryCtxRetain(&ctx, dev));
    must(cu.cuCtxSetCurrent(ctx));
    must(cu.cuStreamCreate(&one, TUG_CU_STREAM_NON_BLOCKING));
    must(cu.cuStreamCreate(&two, TUG_CU_STREAM_NON_BLOCKING));
    must(cu.cuModuleLoadData(&module, "image"));
    return 0;
}

static tug_cu_ptr device(size_t bytes) {
    tug_cu_ptr p;
    must(cu.cuMemAlloc_v2(&p, bytes));
    return p;
}

static tug_cu_ptr upload(const void *src, size_t bytes) {
    const tug_cu_ptr p = device(bytes);
    must(cu.cuMemcpyHtoDAsync_v2(p, src, bytes, one));
    must(cu.cuStreamSynchronize(one));
    return p;
}

static void download(void *dst, tug_cu_ptr p, size_t bytes) {
    must(cu.cuMemcpyDtoHAsync_v2(dst, p, bytes, one));
    must(cu.cuStreamSynchronize(one));
}

static tug_cu_result launch_on(tug_cu_stream s, const char *name, unsigned grid,
                               unsigned block, unsigned shared, void *args) {
    tug_cu_function f;
    must(cu.cuModuleGetFunction(&f, module, name));
    void *params[] = {args};
    return cu.cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, s, params, NULL);
}

/* ---- right kernels ---------------------------------------------------------------------- */

static float value_of(int kind, const void *p, int i) {
    if (kind == EMU_F16) return tug_f16_to_f32(((const tug_f16 *)p)[i]);
    if (kind == EMU_BF16) return tug_bf16_to_f32(((const tug_bf16 *)p)[i]);
    return ((const int8_t *)p)[i];
}

/* Small whole numbers: every sum is exact. */
static void fill(int kind, void *p, int n) {
    for (int i = 0; i < n; i++) {
        const int v = rand() % 33 - 16;
        const tug_f16 h = tug_f32_to_f16((float)v);
        const tug_bf16 b = tug_f32_to_bf16((float)v);
        if (kind == EMU_F16)
            memcpy((char *)p + 2 * i, &h, 2);
        else if (kind == EMU_BF16)
            memcpy((char *)p + 2 * i, &b, 2);
        else
            ((int8_t *)p)[i] = (int8_t)(rand() % 256 - 128);
    }
}

static void test_matrix_instructions(void **state) {
    (void)state;
    for (int kind = EMU_S8; kind <= EMU_S8_K16; kind++) {
        const bool floats = kind == EMU_F16 || kind == EMU_BF16;
        const int k = kind == EMU_S8 ? 32 : 16;
        unsigned char a[512], b[256], d[512];
        fill(kind, a, 16 * k);
        fill(kind, b, k * 8);
        emu_matmul_args args = {.kind = kind};
        const tug_cu_ptr da = upload(a, sizeof a), db = upload(b, sizeof b),
                         dd = device(512);
        args.a = (void *)(uintptr_t)da;
        args.b = (void *)(uintptr_t)db;
        args.d = (void *)(uintptr_t)dd;
        must(launch_on(one, "emu_matmul", 1, 32, 0, &args));
        download(d, dd, sizeof d);
        for (int r = 0; r < 16; r++) {
            for (int c = 0; c < 8; c++) {
                float want = 0, got;
                for (int i = 0; i < k; i++) {
                    want += value_of(kind, a, r * k + i) *
                            value_of(kind, b, floats ? i * 8 + c : c * k + i);
                }
                int32_t whole;
                memcpy(&got, d + 4 * (r * 8 + c), 4);
                memcpy(&whole, d + 4 * (r * 8 + c), 4);
                assert_true((floats ? got : (float)whole) == want);
            }
        }
        must(cu.cuMemFree_v2(da));
        must(cu.cuMemFree_v2(db));
        must(cu.cuMemFree_v2(dd));
    }
}

/* ---- mistakes ---------------------------------------------------------------------------- */

/* What `act` prints on stderr before it dies, or "survived" if it does not. */
static void death(char *text, size_t size, void (*act)(const void *), const void *ud) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        act(ud);
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    ssize_t got;
    while (n + 1 < size && (got = read(ends[0], text + n, size - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) snprintf(text, size, "survived");
}

static void run_mistake(const void *ud) {
    const int mistake = *(const int *)ud;
    const float y[64] = {1, 2, 3};
    static float host[64];
    const tug_cu_ptr dy = upload(y, sizeof y);
    /* 400 bytes end before the page does. */
    const tug_cu_ptr dx =
        mistake == EMU_WRITE_BEHIND ? device(400) + 144 : device(sizeof y);
    emu_mistake_args args = {(void *)(uintptr_t)dx, (void *)(uintptr_t)dy, 64, mistake};
    if (mistake == EMU_HOST_MEMORY) args.y = host;
    must(launch_on(one, "emu_mistakes", mistake == EMU_TWO_BLOCKS ? 2 : 1, 64,
                   mistake == EMU_DYNAMIC_OVERRUN ? 256 : 0, &args));
    must(cu.cuStreamSynchronize(one));
    float x[64];
    download(x, dx, sizeof x);
    /* Poison in the result is how a plain run shows it. */
    for (int i = 0; i < 64; i++) {
        if (x[i] == x[i]) continue;
        fprintf(stderr, "poison");
        _exit(1);
    }
}

static void test_mistakes(void **state) {
    (void)state;
    enum { PLAIN = 1, RACE = 2, ASAN = 4 };
    static const struct {
        int mistake, found_by;
        const char *plain, *race;
    } cases[] = {
        {EMU_NONE, 0, "survived", "survived"},
        {EMU_READ_BEHIND, PLAIN | RACE, "behind the end", "behind the end"},
        {EMU_WRITE_BEHIND, PLAIN | RACE, "behind the end", "behind the end"},
        {EMU_BARRIER_MISSED, PLAIN | RACE, "can go on", "can go on"},
        {EMU_EXITED_IN_MASK, PLAIN | RACE, "can go on", "can go on"},
        {EMU_TWO_COLLECTIVES, PLAIN | RACE, "in __shfl_xor_sync", "in __shfl_xor_sync"},
        {EMU_SHUFFLE_OUTSIDE, PLAIN | RACE, "not in the mask", "not in the mask"},
        {EMU_HALF_MMA, PLAIN | RACE, "can go on", "can go on"},
        {EMU_LDMATRIX_MISALIGNED, PLAIN | RACE, "not aligned", "nobody wrote"},
        {EMU_COPY_MISALIGNED, PLAIN | RACE, "not aligned", "not aligned"},
        {EMU_COPY_READ_EARLY, PLAIN | RACE, "poison", "poison"},
        {EMU_COPY_LEFT, PLAIN | RACE, "cp.async is under way", "cp.async is under way"},
        {EMU_SHARED_UNWRITTEN, PLAIN | RACE, "poison", "nobody wrote"},
        {EMU_GLOBAL_UNWRITTEN, PLAIN | RACE, "poison", "nobody wrote"},
        {EMU_NO_BARRIER, RACE, "survived", "them with no barrier"},
        {EMU_NO_SYNCWARP, RACE, "survived", "them with no barrier"},
        {EMU_TWO_BLOCKS, RACE, "survived", "another block of the launch wrote"},
        {EMU_HOST_MEMORY, RACE, "survived", "host memory and not pinned"},
        {EMU_SHARED_OVERRUN, ASAN, "survived", "survived"},
        /* Threads in reversed order begin beyond the guard, wherever that is. */
        {EMU_DYNAMIC_OVERRUN, PLAIN | RACE, "nobody's", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4096];
        death(text, sizeof text, run_mistake, &cases[i].mistake);
        const char *want = race_build ? cases[i].race : cases[i].plain;
        if (asan_build && cases[i].found_by & ASAN)
            want = "out of bounds"; /* UBSan is first */
        /* Static shared memory is poisoned only where it is thread-local, see shim.h. */
        if (asan_build && cases[i].mistake == EMU_SHARED_UNWRITTEN) want = "survived";
        if (!want) want = strstr(text, "nobody's") ? "nobody's" : "not pinned";
        if (!strstr(text, want)) {
            fail_msg("mistake %d: wanted \"%s\", got: %s", cases[i].mistake, want, text);
        }
    }
}

static void free_twice(const void *ud) {
    (void)ud;
    const tug_cu_ptr p = device(100);
    must(cu.cuMemFree_v2(p));
    (void)cu.cuMemFree_v2(p);
}

static void host_reads(const void *ud) {
    (void)ud;
    const volatile float *p = (float *)(uintptr_t)device(100);
    const float f = *p;
    (void)f;
}

static void default_stream(const void *ud) {
    (void)ud;
    (void)cu.cuStreamSynchronize(NULL);
}

static void copy_too_much(const void *ud) {
    (void)ud;
    char from[300] = {0};
    (void)cu.cuMemcpyHtoDAsync_v2(device(256), from, sizeof from, one);
}

static void use_after_free(const void *ud) {
    (void)ud;
    const tug_cu_ptr p = device(256);
    must(cu.cuMemFree_v2(p));
    emu_affine_args a = {(void *)(uintptr_t)p, 1, 1, 64};
    (void)launch_on(one, "emu_affine", 1, 64, 0, &a);
}

static void test_mistakes_of_the_host(void **state) {
    (void)state;
    static const struct {
        void (*act)(const void *);
        const char *want;
    } cases[] = {{free_twice, "which is no allocation"},
                 {host_reads, "the host touches device memory"},
                 {default_stream, "default stream"},
                 {copy_too_much, "not inside of an allocation"},
                 {use_after_free, "in no allocation|behind the end"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4096], wants[128];
        death(text, sizeof text, cases[i].act, NULL);
        snprintf(wants, sizeof wants, "%s", cases[i].want);
        bool found = false;
        for (char *w = strtok(wants, "|"); w; w = strtok(NULL, "|"))
            found |= strstr(text, w) != NULL;
        if (!found) fail_msg("case %zu: wanted \"%s\", got: %s", i, cases[i].want, text);
    }
}

static void test_limits(void **state) {
    (void)state;
    const tug_cu_ptr p = device(256);
    emu_affine_args a = {(void *)(uintptr_t)p, 1, 1, 0};
    assert_int_equal(launch_on(one, "emu_affine", 1, 65, 0, &a),
                     TUG_CU_LAUNCH_OUT_OF_RESOURCES);
    assert_int_equal(launch_on(one, "emu_affine", 0, 64, 0, &a), TUG_CU_INVALID_VALUE);
    assert_int_equal(launch_on(one, "emu_affine", 1, 64, 50000, &a),
                     TUG_CU_INVALID_VALUE);
    tug_cu_function f;
    assert_int_equal(cu.cuModuleGetFunction(&f, module, "nothing"), TUG_CU_NOT_FOUND);
    must(cu.cuMemFree_v2(p));
    configure("vram=1M others=512K");
    tug_cu_ptr q;
    size_t free_bytes, total;
    must(cu.cuMemGetInfo_v2(&free_bytes, &total));
    assert_int_equal(free_bytes, 512 << 10);
    assert_int_equal(cu.cuMemAlloc_v2(&q, (512 << 10) + 1), TUG_CU_OUT_OF_MEMORY);
    must(cu.cuMemAlloc_v2(&q, 512 << 10));
    assert_int_equal(cu.cuMemAlloc_v2(&q, 1), TUG_CU_OUT_OF_MEMORY);
    must(cu.cuMemFree_v2(q));
    configure("vram=16G others=0");
    configure("fail=2:719");
    must(cu.cuStreamQuery(one));
    assert_int_equal(cu.cuStreamQuery(one), 719);
    assert_int_equal(cu.cuStreamQuery(one), 719); /* stays */
    void (*recover)(void);
    *(void **)&recover = exported("tug_emu_recover");
    recover();
    must(cu.cuStreamQuery(one));
}

/* ---- order ---------------------------------------------------------------------------------- */

static void affine(tug_cu_stream s, tug_cu_ptr x, float mul, float add) {
    emu_affine_args a = {(void *)(uintptr_t)x, mul, add, 64};
    must(launch_on(s, "emu_affine", 1, 64, 0, &a));
}

/* Stream one: x + 1, then y = x * 2 on stream two behind an event, then x * 3 behind that. */
static void two_streams(tug_cu_event e, tug_cu_event f, tug_cu_ptr x) {
    affine(one, x, 1, 1);
    must(cu.cuEventRecord(e, one));
    must(cu.cuStreamWaitEvent(two, e, 0));
    affine(two, x, 2, 0);
    must(cu.cuEventRecord(f, two));
    must(cu.cuStreamWaitEvent(one, f, 0));
    affine(one, x, 3, 0);
}

static void test_order(void **state) {
    (void)state;
    tug_cu_event e, f;
    must(cu.cuEventCreate(&e, TUG_CU_EVENT_NO_TIMING));
    must(cu.cuEventCreate(&f, TUG_CU_EVENT_DEFAULT));
    must(cu.cuStreamBeginCapture_v2(one, TUG_CU_CAPTURE_THREAD_LOCAL));
    const float start[64] = {5};
    const tug_cu_ptr x = device(sizeof start);
    two_streams(e, f, x);
    tug_cu_graph graph;
    must(cu.cuStreamEndCapture(one, &graph));
    tug_cu_graph_exec exec;
    must(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int seed = 0; seed < 60; seed++) {
        char option[64];
        snprintf(option, sizeof option, "schedule=random:%d", seed);
        configure(seed == 0   ? "schedule=immediate"
                  : seed == 1 ? "schedule=deferred"
                              : option);
        float got[64];
        must(cu.cuMemcpyHtoDAsync_v2(x, start, sizeof start, one));
        two_streams(e, f, x);
        must(cu.cuStreamSynchronize(one));
        must(cu.cuGraphLaunch(exec, one));
        must(cu.cuGraphLaunch(exec, one));
        download(got, x, sizeof got);
        float want = 5;
        for (int i = 0; i < 3; i++) want = (want + 1) * 2 * 3;
        assert_true(got[0] == want);
    }
    configure("schedule=immediate");
    must(cu.cuGraphExecDestroy(exec));
    must(cu.cuGraphDestroy(graph));
    must(cu.cuEventDestroy_v2(e));
    must(cu.cuEventDestroy_v2(f));
    must(cu.cuMemFree_v2(x));
}

/* Without the events some seed goes wrong: the schedule is really free. */
static void test_missing_event_shows(void **state) {
    (void)state;
    const float start[64] = {5};
    const tug_cu_ptr x = device(sizeof start);
    int wrong = 0;
    for (int seed = 1; seed < 40; seed++) {
        char option[64];
        snprintf(option, sizeof option, "schedule=random:%d", seed);
        configure(option);
        float got[64];
        must(cu.cuMemcpyHtoDAsync_v2(x, start, sizeof start, one));
        must(cu.cuStreamSynchronize(one));
        affine(one, x, 1, 1);
        affine(two, x, 2, 0);
        must(cu.cuStreamSynchronize(one));
        must(cu.cuStreamSynchronize(two));
        download(got, x, sizeof got);
        wrong += got[0] != 12;
    }
    assert_true(wrong > 0);
    configure("schedule=immediate");
    must(cu.cuMemFree_v2(x));
}

/* The handoff: the device writes a flag, waits for another one, goes on. */
static void test_stream_memory_operations(void **state) {
    (void)state;
    void *host;
    must(cu.cuMemHostAlloc(&host, 64, TUG_CU_HOST_MAPPED));
    volatile uint32_t *flag = host;
    flag[0] = flag[1] = 0;
    tug_cu_ptr p;
    must(cu.cuMemHostGetDevicePointer_v2(&p, host, 0));
    const float start[64] = {5};
    const tug_cu_ptr x = upload(start, sizeof start);
    affine(one, x, 1, 1);
    must(cu.cuStreamWriteValue32_v2(one, p, 7, 0));
    must(cu.cuStreamWaitValue32_v2(one, p + 4, 3, TUG_CU_WAIT_GEQ));
    affine(one, x, 10, 0);
    assert_int_equal(flag[0], 7);
    assert_int_equal(cu.cuStreamQuery(one), TUG_CU_NOT_READY);
    flag[1] = 3;
    float got[64];
    download(got, x, sizeof got);
    assert_true(got[0] == 60);
    /* Nobody writes it: the driver says so instead of hanging. */
    configure("watchdog=0.1");
    must(cu.cuStreamWaitValue32_v2(one, p, 8, TUG_CU_WAIT_GEQ));
    assert_int_equal(cu.cuStreamSynchronize(one), TUG_CU_LAUNCH_FAILED);
    flag[0] = 8;
    void (*recover)(void);
    *(void **)&recover = exported("tug_emu_recover");
    recover();
    configure("watchdog=20");
    must(cu.cuStreamSynchronize(one));
    must(cu.cuMemFree_v2(x));
    must(cu.cuMemFreeHost(host));
}

static int close_driver(void **state) {
    (void)state;
    must(cu.cuModuleUnload(module));
    must(cu.cuStreamDestroy_v2(one));
    must(cu.cuStreamDestroy_v2(two));
    must(cu.cuDevicePrimaryCtxRelease_v2(0));
    tug_emu_live live, none = {0};
    get_live(&live);
    assert_memory_equal(&live, &none, sizeof live);
    tug_cu_unload(&cu);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix_instructions),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_mistakes_of_the_host),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_missing_event_shows),
        cmocka_unit_test(test_stream_memory_operations),
    };
    return cmocka_run_group_tests(tests, open_driver, close_driver);
}
