/* test_cuda_delta.c - the convolution and Gated DeltaNet of the GPU against the CPU's
 * specification, op by op as the backend calls them.
 *
 * Limits as in tests/kernels/test_delta.c: the convolution 1e-6 of sums of about 4; the
 * state 1e-6 for values of about 1.  The output goes through a norm that makes it about 1
 * whatever its size was, so its errors are measured against the vector: NMSE 1e-11.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cuda/cuda_linear.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* ---- convolution ---------------------------------------------------------------------- */

static void run_conv(const tug_cuda_conv *a) {
    CT_RUN(tug_cuda_on_conv(a), *a);
    if (a->n_tok > TUG_CUDA_CONV_TOKENS) CT_RUN(tug_cuda_on_conv_state(a), *a);
}

static void check_conv(int64_t n_ch, int64_t n_tok, int width, int64_t first) {
    ct_shape("%lld channels, %lld tokens, width %d, in two calls from %lld",
             (long long)n_ch, (long long)n_tok, width, (long long)first);
    const int64_t stride = n_ch + 3, all = n_tok * stride;
    const size_t bytes = (size_t)all * sizeof(float);
    const size_t state_bytes = (size_t)((width - 1) * n_ch) * sizeof(float);
    const float *x = ct_normal(all, 1.0f), *w = ct_normal(width * n_ch, 0.5f);
    float *state = ct_normal((width - 1) * n_ch, 1.0f), *want = ct_floats(all);
    float *got = ct_floats(all), *got_state = ct_floats((width - 1) * n_ch);
    tug_cuda_conv a = {.y = ct_device(bytes),
                       .x = ct_upload(x, bytes),
                       .state = ct_upload(state, state_bytes),
                       .w = ct_upload(w, (size_t)(width * n_ch) * sizeof *w),
                       .y_stride = stride,
                       .x_stride = stride,
                       .n_ch = (int32_t)n_ch,
                       .n_tok = (int32_t)n_tok,
                       .width = width};
    const tug_conv_args ref = {.y = want,
                               .y_stride = stride,
                               .x = x,
                               .x_stride = stride,
                               .state = state,
                               .state_stride = n_ch,
                               .w = w,
                               .w_stride = n_ch,
                               .n_ch = n_ch,
                               .n_tok = n_tok,
                               .width = width};
    ct_ref()->conv_silu(&ref);
    float *const y = a.y;
    if (first > 0) {
        a.n_tok = (int32_t)first;
        run_conv(&a);
        a.n_tok = (int32_t)(n_tok - first);
        a.x += first * stride;
        a.y += first * stride;
    }
    run_conv(&a);
    ct_download(got, y, bytes);
    ct_download(got_state, a.state, state_bytes);
    double worst = 0;
    for (int64_t t = 0; t < n_tok; t++) {
        for (int64_t c = 0; c < n_ch; c++) {
            const double g = (double)got[t * stride + c],
                         v = (double)want[t * stride + c];
            worst = fmax(worst, fabs(g - v) / (fabs(v) + 4));
        }
    }
    ct_true(worst <= 1e-6, "y: off by %.3g", worst);
    ct_same("state", got_state, state, state_bytes);
    ct_release_all();
}

static void test_conv(void) {
    static const int64_t tokens[] = {1, 2, 3, 9, 32, 33, 65};
    for (int width = 2; width <= TUG_MAX_CONV; width++) {
        for (int i = 0; i < COUNT(tokens); i++) {
            const int64_t first = i % 2 ? ct_rand_int(0, tokens[i] - 1) : 0;
            check_conv(i == 3 ? 300 : 33, tokens[i], width, first);
        }
    }
    check_conv(8192, 2, 4, 0);
}

/* ---- the delta rule -------------------------------------------------------------------- */

typedef struct net {
    int n_k, n_v, dk, dv;
    int64_t n_tok, n_ch, stride, z_stride; /* z and ba lie in one row, as projected */
    float *qkv, *zba, *dt_bias, *a_coef, *norm, *state;
} net;

static net make_net(int n_k, int n_v, int dk, int dv, int64_t n_tok) {
    net n = {n_k,  n_v, dk,   dv,   n_tok, 2LL * n_k * dk + (int64_t)n_v * dv,
             0,    0,   NULL, NULL, NULL,  NULL,
             NULL, NULL};
    n.stride = n.n_ch + 16;
    n.z_stride = (int64_t)n_v * dv + 2LL * n_v + 3;
    n.qkv = ct_normal(n_tok * n.stride, 1.0f);
    n.zba = ct_normal(n_tok * n.z_stride, 2.0f);
    n.dt_bias = ct_normal(n_v, 1.0f);
    n.a_coef = ct_uniform(n_v, -4.0f, -1e-3f);
    n.norm = ct_uniform(dv, 0.5f, 1.5f);
    n.state = ct_normal((int64_t)n_v * dk * dv, 0.3f);
    return n;
}

/* out (n_tok, n_v dv), and the state advanced, head by head on the CPU. */
static void want_delta(const net *n, float *out, float *state) {
    const int r = n->n_v / n->n_k;
    float *q = ct_floats(n->n_tok * n->dk), *k = ct_floats(n->n_tok * n->dk);
    float *beta = ct_floats(n->n_tok), *decay = ct_floats(n->n_tok);
    for (int h = 0; h < n->n_v; h++) {
        const int g = h / r;
        for (int64_t t = 0; t < n->n_tok; t++) {
            const float *row = n->qkv + t * n->stride;
            const float *ba =
                n->zba + t * n->z_stride + (int64_t)n->n_v * n->dv + g * 2 * r + h % r;
            memcpy(q + t * n->dk, row + g * n->dk, (size_t)n->dk * sizeof *q);
            memcpy(k + t * n->dk, row + (n->n_k + g) * n->dk, (size_t)n->dk * sizeof *k);
            ct_ref()->l2norm(q + t * n->dk, n->dk, 1e-6f, 1.0f / sqrtf((float)n->dk));
            ct_ref()->l2norm(k + t * n->dk, n->dk, 1e-6f, 1.0f);
            ct_ref()->delta_gates(beta + t, decay + t, ba, ba + r, n->dt_bias + h,
                                  n->a_coef + h, 1);
        }
        const int64_t row = (int64_t)n->n_v * n->dv;
        const tug_delta_args a = {.out = out + (int64_t)h * n->dv,
                                  .out_stride = row,
                                  .state = state + (int64_t)h * n->dk * n->dv,
                                  .state_stride = n->dv,
                                  .q = q,
                                  .k = k,
                                  .qk_stride = n->dk,
                                  .v = n->qkv + 2LL * n->n_k * n->dk + (int64_t)h * n->dv,
                                  .v_stride = n->stride,
                                  .decay = decay,
                                  .beta = beta,
                                  .gate_stride = 1,
                                  .n_tok = n->n_tok,
                                  .dk = n->dk,
                                  .n_col = n->dv};
        ct_ref()->delta(&a);
        for (int64_t t = 0; t < n->n_tok; t++) {
            float *o = out + t * row + (int64_t)h * n->dv;
            const float *z = n->zba + t * n->z_stride + (int64_t)h * n->dv;
            ct_ref()->rmsnorm_gated(o, o, n->norm, z, n->dv, 1e-6f);
        }
    }
}

static void check_delta(int n_k, int n_v, int dk, int dv, int64_t n_tok) {
    ct_shape("%d key heads of %d, %d value heads of %d, %lld tokens", n_k, dk, n_v, dv,
             (long long)n_tok);
    const net n = make_net(n_k, n_v, dk, dv, n_tok);
    const int64_t n_out = n_tok * n_v * dv, n_state = (int64_t)n_v * dk * dv;
    const size_t state_bytes = (size_t)n_state * sizeof(float);
    float *zba = ct_upload(n.zba, (size_t)(n_tok * n.z_stride) * sizeof *zba);
    tug_cuda_delta a = {.out = ct_device((size_t)n_out * sizeof(float)),
                        .qkv =
                            ct_upload(n.qkv, (size_t)(n_tok * n.stride) * sizeof(float)),
                        .z = zba,
                        .ba = zba + (int64_t)n_v * dv,
                        .dt_bias = ct_upload(n.dt_bias, (size_t)n_v * sizeof(float)),
                        .a_coef = ct_upload(n.a_coef, (size_t)n_v * sizeof(float)),
                        .norm = ct_upload(n.norm, (size_t)dv * sizeof(float)),
                        .state = ct_upload(n.state, state_bytes),
                        .qkv_stride = n.stride,
                        .z_stride = n.z_stride,
                        .n_k_head = n_k,
                        .n_v_head = n_v,
                        .dk = dk,
                        .dv = dv,
                        .n_tok = (int32_t)n_tok,
                        .eps = 1e-6f};
    CT_RUN(tug_cuda_on_delta(&a), a);
    float *got = ct_floats(n_out), *got_state = ct_floats(n_state);
    ct_download(got, a.out, (size_t)n_out * sizeof *got);
    ct_download(got_state, a.state, state_bytes);

    /* Token after token the same bits. */
    tug_cuda_delta one = a;
    one.n_tok = 1;
    one.state = ct_upload(n.state, state_bytes);
    one.out = ct_device((size_t)n_out * sizeof(float));
    float *const out = one.out, *again = ct_floats(n_out);
    for (int64_t t = 0; t < n_tok; t++) {
        one.out = out + t * n_v * dv;
        one.qkv = a.qkv + t * n.stride;
        one.z = a.z + t * n.z_stride;
        one.ba = a.ba + t * n.z_stride;
        CT_RUN(tug_cuda_on_delta(&one), one);
    }
    ct_download(again, out, (size_t)n_out * sizeof *again);
    ct_same("one token at a time", again, got, (size_t)n_out * sizeof *got);

    float *want = ct_floats(n_out);
    want_delta(&n, want, n.state);
    ct_near("out", got, want, n_out, 1e-11);
    ct_close("state", got_state, n.state, n_state, 1e-6, 1.0);
    ct_release_all();
}

static void test_delta(void) {
    check_delta(1, 1, 16, 8, 1);
    check_delta(1, 1, 16, 8, 5);
    check_delta(2, 4, 32, 16, 3);
    check_delta(2, 2, 32, 40, 4);
    check_delta(1, 3, 64, 64, 7);
    check_delta(2, 4, 128, 128, 1);
    check_delta(1, 2, 128, 128, 33);
}

int main(int argc, char **argv) {
    static const ct_test tests[] = {{"conv", test_conv}, {"delta", test_delta}};
    return ct_main(argc, argv, "delta", tests, COUNT(tests));
}
