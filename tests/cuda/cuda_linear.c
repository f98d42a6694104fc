/* cuda_linear.c - see cuda_linear.h.  SPDX-License-Identifier: MIT */
#include "cuda/cuda_linear.h"

#include <math.h>
#include <string.h>

const tug_type lt_types[] = {
    TUG_TYPE_F32,  TUG_TYPE_F16,  TUG_TYPE_BF16, TUG_TYPE_Q8_0,   TUG_TYPE_Q4_0,
    TUG_TYPE_Q4_1, TUG_TYPE_Q5_0, TUG_TYPE_Q5_1, TUG_TYPE_Q2_K,   TUG_TYPE_Q3_K,
    TUG_TYPE_Q4_K, TUG_TYPE_Q5_K, TUG_TYPE_Q6_K, TUG_TYPE_IQ4_NL, TUG_TYPE_IQ4_XS};
const int lt_n_types = sizeof lt_types / sizeof *lt_types;

bool lt_is_float(tug_type type) {
    return tug_type_get(type)->block_elems == 1;
}

/* A value is within half a step of what it stands for, and sums are those of the restored. */
static void check_row(const unsigned char *row, const float *x, float *restored,
                      int64_t n, int digits) {
    const int8_t *q0 = (const int8_t *)row, *q1 = q0 + n;
    const float *d = (const float *)(const void *)(row + 2 * n), *s = d + n / 32;
    double worst = 0, worst_sum = 0;
    for (int64_t b = 0; b < n / 16; b++) {
        const double scale = (double)d[b / 2];
        double sum = 0, size = 0;
        for (int64_t i = 16 * b; i < 16 * (b + 1); i++) {
            const double v = scale * (q0[i] + (digits == 2 ? q1[i] / 254.0 : 0.0));
            const double step = digits == 2 ? scale / 254 : scale;
            const double off = fabs(v - (double)x[i]);
            if (off > 0) worst = fmax(worst, off / (step * 0.502 + 1e-36));
            restored[i] = (float)v;
            sum += v;
            size += fabs(v);
        }
        worst_sum = fmax(worst_sum, fabs(sum - (double)s[b]) / (size + 1e-36));
    }
    ct_true(worst <= 1, "converted: off by %.3g of the limit", worst);
    ct_true(worst_sum <= 2e-7, "sums: off by %.3g", worst_sum);
}

lt_input lt_convert(tug_type type, const float *x, int64_t n_tok, int64_t n, int digits) {
    const size_t bytes = (size_t)(n_tok * n) * sizeof *x;
    lt_input in = {.x = x, .restored = ct_floats(n_tok * n)};
    float *const device = ct_upload(x, bytes);
    if (lt_is_float(type)) {
        memcpy(in.restored, x, bytes);
        in.device = device;
        in.row_bytes = n * (int64_t)sizeof *x;
        return in;
    }
    in.row_bytes = tug_cuda_act_bytes(n);
    void *const act = ct_device((size_t)(n_tok * in.row_bytes));
    const tug_cuda_quantize a = {.act = act,
                                 .x = device,
                                 .x_stride = n,
                                 .n = (int32_t)n,
                                 .n_tok = (int32_t)n_tok,
                                 .digits = digits};
    CT_RUN(tug_cuda_on_quantize(&a), a);
    unsigned char *rows = ct_buf((size_t)(n_tok * in.row_bytes));
    ct_download(rows, act, (size_t)(n_tok * in.row_bytes));
    for (int64_t t = 0; t < n_tok; t++) {
        check_row(rows + t * in.row_bytes, x + t * n, in.restored + t * n, n, digits);
    }
    in.device = act;
    return in;
}

lt_product lt_dot(tug_type type, const uint8_t *row, const float *x, int64_t n) {
    enum { CHUNK = 256 };
    const tug_type_info *info = tug_type_get(type);
    lt_product p = {0, 0};
    for (int64_t c = 0; c < n; c += CHUNK) {
        const int64_t some = n - c < CHUNK ? n - c : CHUNK;
        float w[CHUNK];
        tug_dequantize_row(type, w, row + c / info->block_elems * info->block_bytes,
                           some);
        for (int64_t i = 0; i < some; i++) {
            const double v = (double)w[i] * (double)x[c + i];
            p.y += v;
            p.size += fabs(v);
        }
    }
    return p;
}
