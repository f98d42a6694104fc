// dot.cuh - rows of weights, as in the file, times activations of a few tokens: what decode
// does with every matrix.
//
// A row belongs to a group of lanes, a whole warp or, where a row has fewer chunks than a
// warp has lanes, a part of one.  Each lane unpacks every lanes-th chunk into registers and
// meets it with every token: exact integer sums of 16 or 32 products of both digits,
//
//     254 (q . x0) + (q . x1)
//
// then one float operation a group and token.  The order of the float operations depends on
// the number of columns only, so a token's results do not depend on the others'.
// SPDX-License-Identifier: MIT
#ifndef TUG_KERNELS_CUDA_DOT_CUH
#define TUG_KERNELS_CUDA_DOT_CUH

#include "kernels/cuda/args.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/weights.cuh"

// Lanes for a row of n_chunks chunks: a power of two.
TUG_DEVICE int lanes_for(int n_chunks) {
    int lanes = WARP;
    while (lanes > 1 && lanes / 2 >= n_chunks) lanes /= 2;
    return lanes;
}

// The activations of some tokens, rows of row_bytes.
typedef struct inputs_t {
    const uint8_t *x;
    int64_t row_bytes;
    int n_tok; // a token beyond them reads the last one's row
    int n_cols, digits;
} inputs_t;

TUG_DEVICE const uint8_t *input_row(const inputs_t &in, int t) {
    return in.x + (t < in.n_tok ? t : in.n_tok - 1) * in.row_bytes;
}

template <int n> TUG_DEVICE int dot_words(const uint32_t *w, const uint8_t *x) {
    int sum = 0;
#pragma unroll
    for (int i = 0; i < n; i += 4) {
        const words4 v = *(const words4 *)(x + 4 * i);
#pragma unroll
        for (int j = 0; j < 4; j++) sum = __dp4a((int)w[i + j], (int)v.w[j], sum);
    }
    return sum;
}

// acc[r][t] += this lane's part of row[r] . token t.
template <class type, int R, int T>
TUG_DEVICE void dot_blocks(float (&acc)[R][T], const uint8_t *const (&row)[R],
                           const inputs_t &in, int lane, int lanes) {
    const int length = type::values / type::groups, n = in.n_cols;
    const bool two = in.digits == 2;
    for (int c = lane; c < n / type::values; c += lanes) {
        typename type::chunk w[R];
#pragma unroll
        for (int r = 0; r < R; r++) type::unpack(row[r], c, w[r]);
#pragma unroll
        for (int t = 0; t < T; t++) {
            const uint8_t *const x = input_row(in, t);
            const float *const scales = (const float *)(x + 2 * (int64_t)n);
#pragma unroll
            for (int g = 0; g < type::groups; g++) {
                const int column = type::column(c, g);
                const float d = scales[column / 32] * (two ? 1.0f / 254.0f : 1.0f);
                float s = 0;
                if (type::has_min) {
                    const float *const sums = scales + n / 32 + column / 16;
                    s = length == 16 ? sums[0] : sums[0] + sums[1];
                }
#pragma unroll
                for (int r = 0; r < R; r++) {
                    const uint32_t *const q = w[r].q + g * (length / 4);
                    int sum = dot_words<length / 4>(q, x + column);
                    if (two) sum = 254 * sum + dot_words<length / 4>(q, x + n + column);
                    acc[r][t] = fmaf(w[r].scale[g] * d, (float)sum, acc[r][t]);
                    if (type::has_min) acc[r][t] = fmaf(-w[r].min[g], s, acc[r][t]);
                }
            }
        }
    }
}

template <class type, int R, int T>
TUG_DEVICE void dot_floats(float (&acc)[R][T], const uint8_t *const (&row)[R],
                           const inputs_t &in, int lane, int lanes) {
    typedef const typename type::element element;
#pragma unroll 4
    for (int i = lane; i < in.n_cols; i += lanes) {
        float w[R];
#pragma unroll
        for (int r = 0; r < R; r++) w[r] = type::value(((element *)row[r])[i]);
#pragma unroll
        for (int t = 0; t < T; t++) {
            const float x = ((const float *)input_row(in, t))[i];
#pragma unroll
            for (int r = 0; r < R; r++) acc[r][t] = fmaf(w[r], x, acc[r][t]);
        }
    }
}

template <class type, int R, int T>
TUG_DEVICE void dot_rows(float (&acc)[R][T], const uint8_t *const (&row)[R],
                         const inputs_t &in, int lane, int lanes) {
    if constexpr (type::is_float) {
        dot_floats<type, R, T>(acc, row, in, lane, lanes);
    } else {
        dot_blocks<type, R, T>(acc, row, in, lane, lanes);
    }
}

#endif
