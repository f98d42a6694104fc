/* ct.c - see ct.h.  SPDX-License-Identifier: MIT */
#include "cuda/ct.h"

#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cuda/driver.h"
#include "cuda/images.h"
#include "kernels/kt.h"

enum { MAX_BUFFERS = 256, MAX_IMAGES = 64 };

static struct {
    tug_cu cu;
    tug_cu_stream stream;
    tug_cu_module module[MAX_IMAGES];
    int n_module;
    tug_kernels ref;
    tug_rng rng;
    void *host[MAX_BUFFERS];
    tug_cu_ptr device[MAX_BUFFERS];
    int n_host, n_device;
    const char *test;
    char shape[256];
    int passed, failed;
    unsigned long long seed;
} ct;

static void need(tug_cu_result r, const char *what) {
    if (r == TUG_CU_SUCCESS) return;
    const char *name = "?";
    ct.cu.cuGetErrorName(r, &name);
    printf("%s, %s: %s: %s (%d)\n", ct.test ? ct.test : "start", ct.shape, what, name, r);
    exit(1);
}

static tug_cu_ptr address(const void *p) {
    return (tug_cu_ptr)(uintptr_t)p;
}

static void *pointer(tug_cu_ptr p) {
    return (void *)(uintptr_t)p;
}

static void open_device(void) {
    tug_err err;
    if (tug_cu_load(&ct.cu, &err) != TUG_OK) {
        printf("no CUDA driver, emulated or real: %s\n", err.msg);
        exit(1);
    }
    tug_cu_device dev;
    tug_cu_context context;
    need(ct.cu.cuDeviceGet(&dev, 0), "cuDeviceGet");
    need(ct.cu.cuDevicePrimaryCtxRetain(&context, dev), "cuDevicePrimaryCtxRetain");
    need(ct.cu.cuCtxSetCurrent(context), "cuCtxSetCurrent");
    need(ct.cu.cuStreamCreate(&ct.stream, TUG_CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    for (int i = 0; tug_cuda_images[i].data; i++) {
        need(ct.cu.cuModuleLoadData(&ct.module[ct.n_module++], tug_cuda_images[i].data),
             "cuModuleLoadData");
    }
}

bool ct_emulated(void) {
    return dlsym(ct.cu.library, "tug_emu_configure") != NULL;
}

const tug_kernels *ct_ref(void) {
    return &ct.ref;
}

/* ---- memory ---------------------------------------------------------------------------- */

void *ct_buf(size_t bytes) {
    if (ct.n_host == MAX_BUFFERS) abort();
    void *p = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (!p) abort();
    return ct.host[ct.n_host++] = p;
}

float *ct_floats(int64_t n) {
    return ct_buf((size_t)n * sizeof(float));
}

float ct_rand(float lo, float hi) {
    return lo + (hi - lo) * (float)tug_rng_unit(&ct.rng);
}

int64_t ct_rand_int(int64_t lo, int64_t hi) {
    return lo + (int64_t)(tug_rng_u64(&ct.rng) % (uint64_t)(hi - lo + 1));
}

float *ct_uniform(int64_t n, float lo, float hi) {
    float *x = ct_floats(n);
    for (int64_t i = 0; i < n; i++) x[i] = ct_rand(lo, hi);
    return x;
}

float *ct_normal(int64_t n, float deviation) {
    float *x = ct_floats(n);
    for (int64_t i = 0; i < n; i++) {
        const double u = 1.0 - tug_rng_unit(&ct.rng), v = tug_rng_unit(&ct.rng);
        x[i] = deviation * (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
    }
    return x;
}

void *ct_device(size_t bytes) {
    if (ct.n_device == MAX_BUFFERS) abort();
    tug_cu_ptr p;
    need(ct.cu.cuMemAlloc_v2(&p, bytes), "cuMemAlloc");
    ct.device[ct.n_device++] = p;
    return pointer(p);
}

void *ct_upload(const void *src, size_t bytes) {
    void *p = ct_device(bytes);
    need(ct.cu.cuMemcpyHtoDAsync_v2(address(p), src, bytes, ct.stream), "cuMemcpyHtoD");
    need(ct.cu.cuStreamSynchronize(ct.stream), "cuStreamSynchronize");
    return p;
}

void ct_download(void *dst, const void *device, size_t bytes) {
    need(ct.cu.cuMemcpyDtoHAsync_v2(dst, address(device), bytes, ct.stream),
         "cuMemcpyDtoH");
    need(ct.cu.cuStreamSynchronize(ct.stream), "cuStreamSynchronize");
}

void ct_release_all(void) {
    while (ct.n_host > 0) free(ct.host[--ct.n_host]);
    while (ct.n_device > 0) {
        need(ct.cu.cuMemFree_v2(ct.device[--ct.n_device]), "cuMemFree");
    }
}

/* ---- launches -------------------------------------------------------------------------- */

static tug_cu_function find(const char *name) {
    tug_cu_function f = NULL;
    for (int i = 0; i < ct.n_module; i++) {
        const tug_cu_result r = ct.cu.cuModuleGetFunction(&f, ct.module[i], name);
        if (r == TUG_CU_SUCCESS) return f;
        if (r != TUG_CU_NOT_FOUND) need(r, name);
    }
    need(TUG_CU_NOT_FOUND, name);
    return NULL;
}

void ct_launch(const char *name, ct_grid grid, int block, size_t shared_bytes,
               const void *args, size_t args_bytes) {
    unsigned char copy[4096];
    if (args_bytes > sizeof copy) abort();
    memcpy(copy, args, args_bytes);
    void *params[] = {copy};
    const tug_cu_function f = find(name);
    if (shared_bytes > 48 << 10) {
        need(ct.cu.cuFuncSetAttribute(f, TUG_CU_FUNC_MAX_SHARED, (int)shared_bytes),
             name);
    }
    need(ct.cu.cuLaunchKernel(f, (unsigned)grid.x, (unsigned)grid.y, (unsigned)grid.z,
                              (unsigned)block, 1, 1, (unsigned)shared_bytes, ct.stream,
                              params, NULL),
         name);
    need(ct.cu.cuStreamSynchronize(ct.stream), name);
}

/* ---- checks ------------------------------------------------------------------------------ */

void ct_shape(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(ct.shape, sizeof ct.shape, fmt, ap);
    va_end(ap);
}

void ct_true(bool ok, const char *fmt, ...) {
    if (ok) {
        ct.passed++;
        return;
    }
    ct.failed++;
    if (ct.failed > 20) return;
    printf("FAILED %s, %s, --seed=%llu: ", ct.test, ct.shape, ct.seed);
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

void ct_near(const char *what, const float *got, const float *want, int64_t n,
             double limit) {
    const double e = kt_nmse(got, want, n);
    ct_true(e <= limit, "%s: NMSE %.3g, limit %.3g", what, e, limit);
}

void ct_close(const char *what, const float *got, const float *want, int64_t n,
              double rel, double floor) {
    const double e = kt_max_rel(got, want, n, floor);
    ct_true(e <= rel, "%s: relative error %.3g, limit %.3g", what, e, rel);
}

void ct_same(const char *what, const void *got, const void *want, size_t bytes) {
    const unsigned char *a = got, *b = want;
    size_t i = 0;
    while (i < bytes && a[i] == b[i]) i++;
    ct_true(i == bytes, "%s: byte %zu of %zu differs", what, i, bytes);
}

/* ---- main -------------------------------------------------------------------------------- */

int ct_main(int argc, char **argv, const char *family, const ct_test *tests,
            int n_tests) {
    const char *only = "";
    ct.seed = 1;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--fn=", 5) == 0) {
            only = argv[i] + 5;
        } else if (strncmp(argv[i], "--seed=", 7) == 0) {
            ct.seed = strtoull(argv[i] + 7, NULL, 10);
        } else {
            printf("usage: %s [--fn=TEXT] [--seed=N]\n", argv[0]);
            return 2;
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    tug_kernels_init(&ct.ref, TUG_CPU_REF);
    open_device();
    for (int i = 0; i < n_tests; i++) {
        if (!strstr(tests[i].name, only)) continue;
        ct.test = tests[i].name;
        ct.shape[0] = '\0';
        tug_rng_seed(&ct.rng, ct.seed + (unsigned)i);
        tests[i].run();
        ct_release_all();
    }
    printf("cuda/%s: %d passed, %d failed, 0 skipped\n", family, ct.passed, ct.failed);
    return ct.failed ? 1 : 0;
}
