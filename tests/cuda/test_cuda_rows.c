/* test_cuda_rows.c - row and element kernels of the GPU against the specification.
 *
 * Limits: sums in f32 over a tree of 256 threads, rsqrt of the hardware (2 ulp): a few
 * roundings, 2e-6 relative.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cuda/ct.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* One case: y = rmsnorm(x [+ add]) * w. */
static void one_rmsnorm(int64_t n, int64_t n_tok, bool with_add, float *x) {
    const size_t bytes = (size_t)(n_tok * n) * sizeof *x;
    float *w = ct_normal(n, 1.0f), *add = ct_normal(n_tok * n, 3.0f);
    float *want = ct_floats(n_tok * n), *got = ct_floats(n_tok * n);
    tug_cuda_rmsnorm a = {.y = ct_device(bytes),
                          .x = ct_upload(x, bytes),
                          .add = with_add ? ct_upload(add, bytes) : NULL,
                          .w = ct_upload(w, (size_t)n * sizeof *w),
                          .n = (int32_t)n,
                          .n_tok = (int32_t)n_tok,
                          .eps = 1e-6f};
    CT_LAUNCH("tug_rmsnorm", ct_grid1(n_tok), 256, 0, a);
    if (with_add) ct_ref()->add(x, add, n_tok * n);
    for (int64_t t = 0; t < n_tok; t++) {
        ct_ref()->rmsnorm(want + t * n, x + t * n, w, n, 1e-6f);
    }
    ct_download(got, a.y, bytes);
    ct_close("y", got, want, n_tok * n, 2e-6, 1e-30);
    ct_download(got, a.x, bytes);
    ct_same("x", got, x, bytes);
}

static void test_rmsnorm(void) {
    static const int64_t lengths[] = {1, 2, 31, 32, 33, 96, 255, 256, 257, 512, 2048, 2051};
    for (int i = 0; i < COUNT(lengths); i++) {
        const int64_t n = lengths[i], n_tok = i % 3 + 1;
        ct_shape("n=%lld n_tok=%lld", (long long)n, (long long)n_tok);
        float *x = ct_normal(n_tok * n, 3.0f);
        if (i % 4 == 1) x[n / 2] = 1e17f;
        one_rmsnorm(n, n_tok, i % 2, x);
        ct_release_all();
    }
}

static void test_swiglu(void) {
    static const int64_t lengths[] = {1, 255, 256, 257, 5000};
    for (int i = 0; i < COUNT(lengths); i++) {
        const int64_t n = lengths[i];
        const size_t bytes = (size_t)n * sizeof(float);
        ct_shape("n=%lld", (long long)n);
        float *x = ct_normal(n, 4.0f), *y = ct_normal(n, 1.0f), *got = ct_floats(n);
        float *want = ct_floats(n);
        tug_cuda_swiglu a = {ct_device(bytes), ct_upload(x, bytes), ct_upload(y, bytes), n};
        ct_ref()->swiglu(want, x, y, n);
        CT_LAUNCH("tug_swiglu", ct_grid1((n + 255) / 256), 256, 0, a);
        ct_download(got, a.h, bytes);
        ct_close("h", got, want, n, 2e-6, 1e-30);
        ct_release_all();
    }
}

int main(int argc, char **argv) {
    static const ct_test tests[] = {{"rmsnorm", test_rmsnorm}, {"swiglu", test_swiglu}};
    return ct_main(argc, argv, "rows", tests, COUNT(tests));
}
