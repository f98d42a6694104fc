// gemv.cu - linear layers of a few tokens: decode.
//
// Two rows to a group of lanes, so that activations, which come from L1, are read once for
// both (of 8 tokens one: two would not fit in registers).  A kernel for 1, 2, 4 and 8 tokens at a time of every type; more tokens read the
// weights again, from L2 where they fit.  SPDX-License-Identifier: MIT
#include "kernels/cuda/dot.cuh"

enum { THREADS = TUG_CUDA_GEMV_THREADS };

typedef struct place_t {
    const uint8_t *w;
    int64_t column; // of the destination
} place_t;

// Row r of all parts, one after the other; of a row that is not there, the last one.
TUG_DEVICE place_t find_row(const tug_cuda_linear &a, int r) {
    int p = 0, first = 0;
    while (p + 1 < a.n_part && r >= first + a.part[p].n_rows) first += a.part[p++].n_rows;
    const int at = r - first < a.part[p].n_rows ? r - first : a.part[p].n_rows - 1;
    return place_t{(const uint8_t *)a.part[p].w + at * a.w_row_bytes,
                   (int64_t)a.part[p].dst_col + at};
}

template <class type, int T> TUG_DEVICE void gemv(const tug_cuda_linear &a) {
    const int ROWS = TUG_CUDA_GEMV_ROWS(T);
    const int lanes = lanes_for(a.n_cols / type::values), lane = threadIdx.x % lanes;
    const int group = (blockIdx.x * THREADS + threadIdx.x) / lanes;
    const int t0 = blockIdx.y * T;
    const uint8_t *row[ROWS];
    int64_t column[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const place_t at = find_row(a, group * ROWS + i);
        row[i] = at.w;
        column[i] = at.column;
    }
    const inputs_t in = {(const uint8_t *)a.x + t0 * a.x_row_bytes, a.x_row_bytes,
                         a.n_tok - t0, a.n_cols, a.digits};
    float acc[ROWS][T] = {};
    dot_rows<type, ROWS, T>(acc, row, in, lane, lanes);
#pragma unroll
    for (int t = 0; t < T; t++) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const float y = group_sum(acc[i][t], lanes);
            if (lane == 0 && group * ROWS + i < a.n_rows && t < in.n_tok) {
                a.y[(t0 + t) * a.y_stride + column[i]] = y;
            }
        }
    }
}

// Blocks that a multiprocessor must have registers for; 0 leaves it to ptxas, which on sm_120 and
// sm_90 wants more of these than there is room for, and spills.
template <class type, int T> constexpr int gemv_blocks = 0;
template <> constexpr int gemv_blocks<w_q3_k, 1> = 5;
template <> constexpr int gemv_blocks<w_q4_k, 1> = 5;
template <> constexpr int gemv_blocks<w_iq4_nl, 1> = 5;
template <> constexpr int gemv_blocks<w_q5_1, 2> = 4;
template <> constexpr int gemv_blocks<w_q2_k, 4> = 3;

// Block (TUG_CUDA_GEMV_THREADS,), grid (ceil(n_rows / (ROWS groups)), ceil(n_tok / T)).
#define GEMV(name, T)                                                          \
    TUG_KERNEL_BLOCKS(tug_gemv_##name##_##T, tug_cuda_linear, THREADS,         \
                      (gemv_blocks<w_##name, T>)) {                            \
        gemv<w_##name, T>(a);                                                  \
    }
#define ALL(name) GEMV(name, 1) GEMV(name, 2) GEMV(name, 4) GEMV(name, 8)
TUG_BLOCK_WEIGHTS(ALL)
TUG_FLOAT_WEIGHTS(ALL)
