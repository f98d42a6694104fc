/* test_cuda_delta.c - the convolution and Gated DeltaNet of the GPU against the CPU's
 * specification, op by op as the backend calls them.
 *
 * Limits as in tests/kernels/test_delta.c: the convolution 1e-6 of sums of about 4; the
 * state 1e-6 for values of about 1.  The output goes through a norm that makes it about 1
 * whatever its size was, so its errors are measured against the vector: NMSE 1e-11.  The
 * chunked form is held to the same.
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

static tug_cuda_delta upload_net(const net *n) {
    const int64_t n_out = n->n_tok * n->n_v * n->dv;
    float *zba = ct_upload(n->zba, (size_t)(n->n_tok * n->z_stride) * sizeof *zba);
    return (tug_cuda_delta){
        .out = ct_device((size_t)n_out * sizeof(float)),
        .qkv = ct_upload(n->qkv, (size_t)(n->n_tok * n->stride) * sizeof(float)),
        .z = zba,
        .ba = zba + (int64_t)n->n_v * n->dv,
        .dt_bias = ct_upload(n->dt_bias, (size_t)n->n_v * sizeof(float)),
        .a_coef = ct_upload(n->a_coef, (size_t)n->n_v * sizeof(float)),
        .norm = ct_upload(n->norm, (size_t)n->dv * sizeof(float)),
        .state =
            ct_upload(n->state, (size_t)n->n_v * (size_t)(n->dk * n->dv) * sizeof(float)),
        .qkv_stride = n->stride,
        .z_stride = n->z_stride,
        .n_k_head = n->n_k,
        .n_v_head = n->n_v,
        .dk = n->dk,
        .dv = n->dv,
        .n_tok = (int32_t)n->n_tok,
        .eps = 1e-6f};
}

/* The same from token t on. */
static tug_cuda_delta from_token(const tug_cuda_delta *all, int64_t t) {
    tug_cuda_delta a = *all;
    a.out += t * a.n_v_head * a.dv;
    a.qkv += t * a.qkv_stride;
    a.z += t * a.z_stride;
    a.ba += t * a.z_stride;
    a.n_tok -= (int32_t)t;
    return a;
}

static void check_delta(int n_k, int n_v, int dk, int dv, int64_t n_tok) {
    ct_shape("%d key heads of %d, %d value heads of %d, %lld tokens", n_k, dk, n_v, dv,
             (long long)n_tok);
    const net n = make_net(n_k, n_v, dk, dv, n_tok);
    const int64_t n_out = n_tok * n_v * dv, n_state = (int64_t)n_v * dk * dv;
    const size_t state_bytes = (size_t)n_state * sizeof(float);
    const tug_cuda_delta a = upload_net(&n);
    CT_RUN(tug_cuda_on_delta(&a), a);
    float *got = ct_floats(n_out), *got_state = ct_floats(n_state);
    ct_download(got, a.out, (size_t)n_out * sizeof *got);
    ct_download(got_state, a.state, state_bytes);

    /* Token after token the same bits. */
    tug_cuda_delta alone = a;
    alone.state = ct_upload(n.state, state_bytes);
    alone.out = ct_device((size_t)n_out * sizeof(float));
    float *again = ct_floats(n_out);
    for (int64_t t = 0; t < n_tok; t++) {
        tug_cuda_delta one = from_token(&alone, t);
        one.n_tok = 1;
        CT_RUN(tug_cuda_on_delta(&one), one);
    }
    ct_download(again, alone.out, (size_t)n_out * sizeof *again);
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

/* ---- the same in chunks ----------------------------------------------------------------- */

/* What there is to get wrong: gates that keep or forget everything, keys that are all the
 * same, values and a state of any size. */
typedef struct extreme {
    const char *name;
    float a_coef; /* 0: as they come */
    float b;      /* added to the logits of beta */
    float size;   /* of the values and the state */
    bool one_key;
    double limit; /* of the state */
} extreme;

static void make_extreme(net *n, const extreme *e) {
    for (int64_t i = 0; i < n->n_v && e->a_coef != 0; i++) n->a_coef[i] = e->a_coef;
    for (int64_t i = 0; i < (int64_t)n->n_v * n->dk * n->dv; i++) n->state[i] *= e->size;
    const int64_t n_qk = 2LL * n->n_k * n->dk;
    for (int64_t t = 0; t < n->n_tok; t++) {
        float *row = n->qkv + t * n->stride;
        float *ba = n->zba + t * n->z_stride + (int64_t)n->n_v * n->dv;
        if (e->one_key) memcpy(row, n->qkv, (size_t)n_qk * sizeof *row);
        for (int64_t i = n_qk; i < n->n_ch; i++) row[i] *= e->size;
        for (int i = 0; i < 2 * n->n_v; i++)
            ba[i] += i / (n->n_v / n->n_k) % 2 ? 0 : e->b;
    }
}

static void run_chunks(tug_cuda_delta a) {
    const int64_t n = tug_cuda_delta_work_bytes(a.n_tok, a.n_k_head, a.n_v_head);
    a.work = ct_device((size_t)n);
    CT_RUN(tug_cuda_on_delta_split(&a), a);
    CT_RUN(tug_cuda_on_delta_mix(&a), a);
    CT_RUN(tug_cuda_on_delta_scan(&a), a);
    const tug_cuda_rmsnorm_gated norm = {.y = a.out,
                                         .x = a.out,
                                         .z = a.z,
                                         .w = a.norm,
                                         .z_stride = a.z_stride,
                                         .n = a.dv,
                                         .n_head = a.n_v_head,
                                         .n_tok = a.n_tok,
                                         .eps = a.eps};
    CT_RUN(tug_cuda_on_rmsnorm_gated(&norm), norm);
}

/* In one call, or in two with the second beginning at token `second`. */
static void check_chunks(int n_k, int n_v, int64_t n_tok, int64_t second,
                         const extreme *e) {
    ct_shape("chunks: %d key, %d value heads, %lld tokens from %lld, %s", n_k, n_v,
             (long long)n_tok, (long long)second, e->name);
    net n = make_net(n_k, n_v, TUG_CUDA_DELTA_DIM, TUG_CUDA_DELTA_DIM, n_tok);
    make_extreme(&n, e);
    const int64_t n_out = n_tok * n_v * n.dv, n_state = (int64_t)n_v * n.dk * n.dv;
    const tug_cuda_delta a = upload_net(&n);
    if (second > 0) {
        tug_cuda_delta first = a;
        first.n_tok = (int32_t)second;
        run_chunks(first);
    }
    run_chunks(from_token(&a, second));
    float *got = ct_floats(n_out), *got_state = ct_floats(n_state);
    float *want = ct_floats(n_out);
    ct_download(got, a.out, (size_t)n_out * sizeof *got);
    ct_download(got_state, a.state, (size_t)n_state * sizeof *got_state);
    want_delta(&n, want, n.state);
    ct_near("out", got, want, n_out, 1e-11);
    ct_close("state", got_state, n.state, n_state, e->limit, (double)e->size);
    ct_release_all();
}

static void test_chunks(void) {
    /* Where nothing is forgotten, the sequential kernel and the specification are 1.05e-6 apart
     * themselves. */
    static const extreme usual = {"usual gates", 0, 0, 1, false, 1e-6};
    static const extreme extremes[] = {{"keeps all", -1e-6f, 0, 1, false, 2e-6},
                                       {"forgets all", -300.0f, 0, 1, false, 1e-6},
                                       {"writes all", -1e-4f, 60, 1, false, 2e-6},
                                       {"writes nothing", -0.1f, -60, 1, false, 1e-6},
                                       {"one key", -1e-4f, 4, 1, true, 2e-6},
                                       {"large", 0, 0, 1e9f, false, 1e-6},
                                       {"small", 0, 0, 1e-4f, false, 1e-6}};
    static const int64_t tokens[][2] = {{1, 0},   {63, 0},  {64, 0},   {65, 0},
                                        {127, 0}, {65, 64}, {130, 63}, {300, 128}};
    for (int i = 0; i < COUNT(tokens); i++) {
        check_chunks(1, 1 + i % 2, tokens[i][0], tokens[i][1], &usual);
    }
    check_chunks(2, 4, 70, 0, &usual);
    for (int i = 0; i < COUNT(extremes); i++) check_chunks(1, 1, 130, 0, &extremes[i]);
}

int main(int argc, char **argv) {
    static const ct_test tests[] = {
        {"conv", test_conv}, {"delta", test_delta}, {"chunks", test_chunks}};
    return ct_main(argc, argv, "delta", tests, COUNT(tests));
}
