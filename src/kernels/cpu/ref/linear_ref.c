/* linear_ref.c - the specification of the linear kernels: decode the weights by their
 * definition (quant/dequant.c), multiply, sum in double: 8 sums side by side, in which a
 * compiler for any processor finds its vectors.  SPDX-License-Identifier: MIT */
#include "kernels/cpu/kernels_linear.h"

enum {
    CHUNK = 256, /* weights decoded at a time: a multiple of every block */
    TOKENS = 32, /* tokens that share a decoded chunk */
    LANES = 8,
};

static const float *token_row(const tug_linear_args *a, int64_t t) {
    const int64_t row = a->x_index ? a->x_index[t] : t;
    return (const float *)((const char *)a->x + (size_t)row * a->x_row_bytes);
}

static double dot(const float *w, const float *x, int64_t n) {
    double lane[LANES] = {0};
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        for (int i = 0; i < LANES; i++) lane[i] += (double)w[c + i] * (double)x[c + i];
    }
    for (int i = 0; c < n; c++, i++) lane[i] += (double)w[c] * (double)x[c];
    double sum = 0;
    for (int i = 0; i < LANES; i++) sum += lane[i];
    return sum;
}

/* sum[i] += part of w[row] . x[t0 + i] that is columns [begin, begin + n). */
static void add_chunk(const tug_linear_args *a, double *sum, const float *w,
                      int64_t begin, int64_t n, int64_t t0, int64_t n_tok) {
    for (int64_t i = 0; i < n_tok; i++) {
        sum[i] += dot(w, token_row(a, t0 + i) + begin, n);
    }
}

static void linear(const tug_linear_args *a, tug_type type) {
    const tug_type_info *info = tug_type_get(type);
    for (int64_t t0 = 0; t0 < a->n_tok; t0 += TOKENS) {
        const int64_t n_tok = a->n_tok - t0 < TOKENS ? a->n_tok - t0 : TOKENS;
        for (int64_t r = 0; r < a->n_rows; r++) {
            const char *w = (const char *)a->w + (size_t)r * a->w_row_bytes;
            double sum[TOKENS] = {0};
            for (int64_t c = 0; c < a->n_cols; c += CHUNK) {
                const int64_t n = a->n_cols - c < CHUNK ? a->n_cols - c : CHUNK;
                float decoded[CHUNK];
                tug_dequantize_row(type, decoded,
                                   w + c / info->block_elems * (int64_t)info->block_bytes,
                                   n);
                add_chunk(a, sum, decoded, c, n, t0, n_tok);
            }
            for (int64_t i = 0; i < n_tok; i++) {
                a->y[(t0 + i) * a->y_stride + r] = (float)sum[i];
            }
        }
    }
}

#define DEFINE(type, name, act)                              \
    void tug_linear_##name##_ref(const tug_linear_args *a) { \
        linear(a, TUG_TYPE_##type);                          \
    }
TUG_LINEAR_TYPES(DEFINE)
