/* test_cuda_rows.c - row and element kernels of the GPU against the specification.
 *
 * Limits: sums in f32 over a tree of 256 threads, rsqrt of the hardware (2 ulp): a few
 * roundings, 2e-6 relative.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cuda/cuda_linear.h"

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
    CT_RUN(tug_cuda_on_rmsnorm(&a), a);
    if (with_add) ct_ref()->add(x, add, n_tok * n);
    for (int64_t t = 0; t < n_tok; t++) {
        ct_ref()->rmsnorm(want + t * n, x + t * n, w, n, 1e-6f);
    }
    ct_download(got, a.y, bytes);
    ct_close("y", got, want, n_tok * n, 2e-6, 1e-30);
    ct_download(got, a.x, bytes);
    ct_same("x", got, x, bytes);
}

/* Digits straight from the norm are those that tug_quantize makes of its result. */
static void check_rmsnorm_digits(int64_t n, int64_t n_tok, int digits) {
    ct_shape("n=%lld n_tok=%lld, %d digits", (long long)n, (long long)n_tok, digits);
    const size_t bytes = (size_t)(n_tok * n) * sizeof(float);
    const size_t act_bytes = (size_t)(n_tok * tug_cuda_act_bytes(n));
    const float *x = ct_normal(n_tok * n, 3.0f), *w = ct_normal(n, 1.0f);
    tug_cuda_rmsnorm a = {.y = ct_device(bytes),
                          .act = ct_device(act_bytes),
                          .x = ct_upload(x, bytes),
                          .w = ct_upload(w, (size_t)n * sizeof *w),
                          .n = (int32_t)n,
                          .n_tok = (int32_t)n_tok,
                          .digits = digits,
                          .eps = 1e-6f};
    CT_RUN(tug_cuda_on_rmsnorm(&a), a);
    const tug_cuda_quantize q = {.act = ct_device(act_bytes),
                                 .x = a.y,
                                 .x_stride = n,
                                 .n = (int32_t)n,
                                 .n_tok = (int32_t)n_tok,
                                 .digits = digits};
    CT_RUN(tug_cuda_on_quantize(&q), q);
    tug_cuda_rmsnorm alone = a;
    alone.y = NULL;
    alone.act = ct_device(act_bytes);
    CT_RUN(tug_cuda_on_rmsnorm(&alone), alone);
    uint8_t *got = ct_buf(act_bytes), *want = ct_buf(act_bytes);
    ct_download(want, q.act, act_bytes);
    const int64_t row = tug_cuda_act_bytes(n), used = 2 * n + n / 32 * 4 + n / 16 * 4;
    for (int i = 0; i < 2; i++) {
        ct_download(got, i ? alone.act : a.act, act_bytes);
        for (int64_t t = 0; t < n_tok; t++) {
            ct_same("digits", got + t * row, want + t * row, (size_t)used);
        }
    }
    ct_release_all();
}

static void test_rmsnorm_digits(void) {
    check_rmsnorm_digits(32, 1, 2);
    check_rmsnorm_digits(288, 3, 1);
    check_rmsnorm_digits(2048, 2, 2);
}

static void test_rmsnorm(void) {
    static const int64_t lengths[] = {1,   2,   31,  32,  33,   96,
                                      255, 256, 257, 512, 2048, 2051};
    for (int i = 0; i < COUNT(lengths); i++) {
        const int64_t n = lengths[i], n_tok = i % 3 + 1;
        ct_shape("n=%lld n_tok=%lld", (long long)n, (long long)n_tok);
        float *x = ct_normal(n_tok * n, 3.0f);
        if (i % 4 == 1) x[n / 2] = 1e17f;
        for (int64_t j = 0; i % 4 == 2 && j < n; j++)
            x[j] *= 1e-4f; /* where eps counts */
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
        tug_cuda_swiglu a = {ct_device(bytes), ct_upload(x, bytes), ct_upload(y, bytes),
                             n};
        ct_ref()->swiglu(want, x, y, n);
        CT_RUN(tug_cuda_on_swiglu(&a), a);
        ct_download(got, a.h, bytes);
        ct_close("h", got, want, n, 2e-6, 1e-30);
        ct_release_all();
    }
}

/* Rows of heads whose tokens lie further apart than the heads are long. */
static void test_head_norms(void) {
    static const struct {
        int n, n_head, n_tok;
    } shapes[] = {{1, 1, 1}, {16, 3, 2}, {33, 2, 3}, {128, 32, 2}, {256, 5, 1}};
    for (int i = 0; i < COUNT(shapes); i++) {
        const int n = shapes[i].n, n_head = shapes[i].n_head, n_tok = shapes[i].n_tok;
        const int64_t row = (int64_t)n * n_head, stride = row + 5, all = n_tok * row;
        ct_shape("%d heads of %d, %d tokens", n_head, n, n_tok);
        float *x = ct_normal(all, 2.0f), *z = ct_normal(n_tok * stride, 3.0f);
        float *w = ct_normal(n, 1.0f), *want = ct_floats(all), *got = ct_floats(all);
        const tug_cuda_rmsnorm_gated g = {
            .y = ct_device((size_t)all * sizeof *x),
            .x = ct_upload(x, (size_t)all * sizeof *x),
            .z = ct_upload(z, (size_t)(n_tok * stride) * sizeof *z),
            .w = ct_upload(w, (size_t)n * sizeof *w),
            .z_stride = stride,
            .n = n,
            .n_head = n_head,
            .n_tok = n_tok,
            .eps = 1e-6f};
        CT_RUN(tug_cuda_on_rmsnorm_gated(&g), g);
        for (int64_t h = 0; h < (int64_t)n_tok * n_head; h++) {
            const int64_t at = h / n_head * stride + h % n_head * n;
            ct_ref()->rmsnorm_gated(want + h * n, x + h * n, w, z + at, n, 1e-6f);
        }
        ct_download(got, g.y, (size_t)all * sizeof *x);
        ct_close("gated", got, want, all, 2e-6, 1e-30);

        float *both = ct_floats(n_tok * stride);
        const tug_cuda_l2norm l = {.x =
                                       ct_upload(z, (size_t)(n_tok * stride) * sizeof *z),
                                   .x_stride = stride,
                                   .n = n,
                                   .n_head = n_head,
                                   .n_tok = n_tok,
                                   .eps = 1e-6f,
                                   .scale = 0.088388f};
        CT_RUN(tug_cuda_on_l2norm(&l), l);
        for (int64_t h = 0; h < (int64_t)n_tok * n_head; h++) {
            float *head = z + h / n_head * stride + h % n_head * n;
            ct_ref()->l2norm(head, n, 1e-6f, 0.088388f);
        }
        ct_download(both, l.x, (size_t)(n_tok * stride) * sizeof *z);
        ct_close("l2, and the gaps as they were", both, z, n_tok * stride, 2e-6, 1e-30);
        ct_release_all();
    }
}

/* The probes do the work that they are counted for. */
static void test_probe(void) {
    enum { N_BLOCK = 3, WORDS = 4 * 2500, ROUNDS = 5 };
    uint32_t *words = ct_buf(WORDS * sizeof *words), out[N_BLOCK], want = 0, got = 0;
    for (int i = 0; i < WORDS; i++)
        want += words[i] = (uint32_t)ct_rand_int(0, 0xFFFFFFFF);
    const tug_cuda_probe a = {.out = ct_device(sizeof out),
                              .data = ct_upload(words, WORDS * sizeof *words),
                              .n_bytes = WORDS * sizeof *words,
                              .rounds = ROUNDS,
                              .n_block = N_BLOCK};
    ct_shape("read");
    CT_RUN(tug_cuda_on_probe_read(&a), a);
    ct_download(out, a.out, sizeof out);
    for (int i = 0; i < N_BLOCK; i++) got += out[i];
    ct_true(got == want, "sum %08x, not %08x", got, want);
    /* A thread has four sums of each chain, of 32 or 16 products of ones a round. */
    const uint32_t sums = 4 * TUG_CUDA_PROBE_CHAINS * ROUNDS;
    ct_shape("int8");
    CT_RUN(tug_cuda_on_probe_mma_s8(&a), a);
    ct_download(out, a.out, sizeof out);
    ct_true(out[0] == 32 * sums && out[2] == 32 * sums, "%u, not %u", out[0], 32 * sums);
    ct_shape("f16");
    CT_RUN(tug_cuda_on_probe_mma_f16(&a), a);
    ct_download(out, a.out, sizeof out);
    ct_true(out[0] == 16 * sums && out[2] == 16 * sums, "%u, not %u", out[0], 16 * sums);
}

int main(int argc, char **argv) {
    static const ct_test tests[] = {{"rmsnorm", test_rmsnorm},
                                    {"rmsnorm_digits", test_rmsnorm_digits},
                                    {"swiglu", test_swiglu},
                                    {"head_norms", test_head_norms},
                                    {"probe", test_probe}};
    return ct_main(argc, argv, "rows", tests, COUNT(tests));
}
