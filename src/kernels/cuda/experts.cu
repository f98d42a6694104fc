// experts.cu - the experts of a few tokens: decode.
//
// A (token, expert) pair finds its matrices through a slot table.  Gate and up are one
// kernel: a group of lanes computes row r of both and their product.  Down is one kernel
// over all experts of a token, which adds up their weighted results in registers.  The
// shared expert is a table of one.  SPDX-License-Identifier: MIT
#include "kernels/cuda/dot.cuh"

enum { ROWS = TUG_CUDA_GEMV_ROWS(1), THREADS = TUG_CUDA_GEMV_THREADS };

template <class type> TUG_DEVICE void expert_hidden(const tug_cuda_expert_hidden &a) {
    const int lanes = lanes_for(a.n_cols / type::values), lane = threadIdx.x % lanes;
    const int r = (blockIdx.x * THREADS + threadIdx.x) / lanes;
    const int64_t pair = blockIdx.y;
    const int e = a.ids ? a.ids[pair] : 0;
    float h = 0;
    if (a.gate[e]) { // the same for the whole block
        const int64_t at = (r < a.n_rows ? r : a.n_rows - 1) * a.w_row_bytes;
        const uint8_t *const row[2] = {(const uint8_t *)a.gate[e] + at,
                                       (const uint8_t *)a.up[e] + at};
        const inputs_t in = {(const uint8_t *)a.x + pair / a.n_used * a.x_row_bytes,
                             a.x_row_bytes, 1, a.n_cols, a.digits};
        float acc[2][1] = {};
        dot_rows<type, 2, 1>(acc, row, in, lane, lanes);
        h = silu(group_sum(acc[0][0], lanes)) * group_sum(acc[1][0], lanes);
    }
    if (lane == 0 && r < a.n_rows) a.h[pair * a.n_rows + r] = h;
}

template <class type> TUG_DEVICE void expert_down(const tug_cuda_expert_down &a) {
    const int lanes = lanes_for(a.n_cols / type::values), lane = threadIdx.x % lanes;
    const int r0 = (blockIdx.x * THREADS + threadIdx.x) / lanes * ROWS;
    const int64_t t = blockIdx.y;
    float sum[ROWS] = {};
    for (int64_t pair = t * a.n_used; pair < (t + 1) * a.n_used; pair++) {
        const uint8_t *const w = (const uint8_t *)a.down[a.ids ? a.ids[pair] : 0];
        if (!w) continue; // the same for the whole block
        const uint8_t *row[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            row[i] = w + (r0 + i < a.n_rows ? r0 + i : a.n_rows - 1) * a.w_row_bytes;
        }
        const inputs_t in = {(const uint8_t *)a.h + pair * a.h_row_bytes, a.h_row_bytes,
                             1, a.n_cols, a.digits};
        float acc[ROWS][1] = {};
        dot_rows<type, ROWS, 1>(acc, row, in, lane, lanes);
        const float weight = a.weights ? a.weights[pair] : 1.0f;
#pragma unroll
        for (int i = 0; i < ROWS; i++) sum[i] = fmaf(weight, acc[i][0], sum[i]);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const float y = group_sum(sum[i], lanes);
        if (lane == 0 && r0 + i < a.n_rows) a.y[t * a.n_rows + r0 + i] = y;
    }
}

// Block (TUG_CUDA_GEMV_THREADS,), grid (ceil(n_rows / groups), n_tok n_used).
#define HIDDEN(name)                                                        \
    TUG_KERNEL(tug_expert_hidden_##name, tug_cuda_expert_hidden, THREADS) { \
        expert_hidden<w_##name>(a);                                         \
    }
// Blocks that a multiprocessor must have registers for; 0 leaves it to ptxas, which wants more
// of Q2_K on sm_120 than there is room for, and spills.
template <class type> constexpr int down_blocks = 0;
template <> constexpr int down_blocks<w_q2_k> = 5;

// Block (TUG_CUDA_GEMV_THREADS,), grid (ceil(n_rows / (ROWS groups)), n_tok).
#define DOWN(name)                                                           \
    TUG_KERNEL_BLOCKS(tug_expert_down_##name, tug_cuda_expert_down, THREADS, \
                      down_blocks<w_##name>) {                               \
        expert_down<w_##name>(a);                                            \
    }
TUG_BLOCK_WEIGHTS(HIDDEN)
TUG_FLOAT_WEIGHTS(HIDDEN)
TUG_BLOCK_WEIGHTS(DOWN)
TUG_FLOAT_WEIGHTS(DOWN)
