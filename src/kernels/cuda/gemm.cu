// gemm.cu - linear layers of many tokens: prefill.
//
// int8 on tensor cores: weights are unpacked to the int8 values that their formats are made
// of, activations are the digits that decode uses, so that both get the same exact integer
// sums of 16 or 32 products and the same bounds of error; GeForce cards multiply int8 four
// times as fast as f16 with f32 sums, which is what a second digit and the scaling of sums
// are paid with.
//
// A step is 128 columns: the activations come by cp.async while the threads unpack the weights
// into shared memory, a chunk at a time.  Then the warps multiply.  An integer sum becomes a float
// with the scales of its row and its token; mins meet the sums of the activations.  Tiles:
// gemm.cuh.  SPDX-License-Identifier: MIT
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/weights.cuh"

enum {
    STEP = 128,        // columns
    PITCH = STEP + 16, // bytes from row to row: 8 of them lie in different banks
};

struct alignas(16) step_t {
    int8_t w[ROWS][PITCH];
    int8_t x[2][TOKENS][PITCH]; // digits
    float scale[STEP / 16][ROWS], min[STEP / 16][ROWS];
    float d[TOKENS][STEP / 32]; // what a unit of a token's integer sums is worth
    float s[TOKENS][STEP / 16]; // sums of the activations of a group, if there are mins
};

// How a type is multiplied here: its values, and how many columns share a scale.
template <class type> struct product_of {
    typedef type weights;
    enum { length = type::values / type::groups };
};
template <> struct product_of<w_q3_k> {
    typedef w_q3_k_scaled weights;
    enum { length = weights::shared };
};

// Begins to copy columns [column, column + STEP) of the activations.  Beyond the last token
// and the last column there are zeros.
template <class type, int digits, class tile>
TUG_DEVICE void copy_inputs(step_t &step, const tug_cuda_gemm &a, const work_t &work,
                            int column) {
    const int64_t n = a.n_cols;
    // Four threads have a token; a digit is 8 pieces of 16 values, d one piece and s two.
    const int token = threadIdx.x / 4, part = threadIdx.x % 4;
    if (token >= tile::tokens) return;
    const bool there = token < work.n_tok;
    const uint8_t *const row = there ? input_row(a, work, token) : (const uint8_t *)a.x;
#pragma unroll
    for (int digit = 0; digit < digits; digit++) {
#pragma unroll
        for (int i = 16 * part; i < STEP; i += 64) {
            const bool some = there && column + i < n;
            const uint8_t *const from = some ? row + digit * n + column + i : row;
            tug_cp_async16(&step.x[digit][token][i], from, some ? 16 : 0);
        }
    }
    const float *const scales = (const float *)(row + 2 * n);
    const float *const sums = scales + n / 32;
    const float unit = digits == 2 ? 1.0f / 254.0f : 1.0f;
    const int i = column / 32 + part;
    const bool some = there && i < n / 32;
    step.d[token][part] = some ? scales[i] * unit : 0.0f;
    if (!type::has_min) return;
    const float s0 = some ? sums[2 * i] : 0.0f, s1 = some ? sums[2 * i + 1] : 0.0f;
    if (product_of<type>::length == 32) {
        step.s[token][part] = s0 + s1;
    } else {
        step.s[token][2 * part] = s0;
        step.s[token][2 * part + 1] = s1;
    }
}

// Unpacks columns [column, column + STEP) of the block's rows.
template <class type>
TUG_DEVICE void unpack_weights(step_t &step, const tug_cuda_gemm &a, const uint8_t *w,
                               int column) {
    typedef typename product_of<type>::weights weights;
    enum {
        length = product_of<type>::length,
        chunks = STEP / weights::values,
        group = weights::values / weights::groups // columns that lie together in a chunk
    };
#pragma unroll 1
    for (int i = threadIdx.x; i < ROWS * chunks; i += THREADS) {
        const int r = i / chunks, c = column / weights::values + i % chunks;
        const int row = min((int)blockIdx.x * ROWS + r, a.n_rows - 1);
        typename weights::chunk chunk = {};
        if (c < a.n_cols / weights::values) {
            weights::unpack(w + row * a.w_row_bytes, c, chunk);
        }
#pragma unroll
        for (int g = 0; g < weights::groups; g++) {
            const int at = weights::column(c, g) - column;
#pragma unroll
            for (int j = 0; j < group; j += 16) {
                words4 v;
#pragma unroll
                for (int k = 0; k < 4; k++) v.w[k] = chunk.q[(g * group + j) / 4 + k];
                *(words4 *)&step.w[r][at + j] = v;
            }
            if (at % length != 0) continue; // the group before has the same scale
            step.scale[at / length][r] = chunk.scale[g];
            if (type::has_min) step.min[at / length][r] = chunk.min[g];
        }
    }
}

// y += scale d sum - min s, of one group of columns.
template <class type, class tile>
TUG_DEVICE void add_scaled(float y[4], const int sum[4], const step_t &step, int group,
                           int m, int n) {
    enum { length = product_of<type>::length };
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = tile::row(m, i), token = tile::token(n, i);
        const float d = step.d[token][group * length / 32];
        y[i] = fmaf(step.scale[group][row] * d, (float)sum[i], y[i]);
        if (type::has_min) y[i] = fmaf(-step.min[group][row], step.s[token][group], y[i]);
    }
}

// Columns [k, k + length) of a warp's rows.
template <int length, class tile>
TUG_DEVICE void load_weights(uint32_t *w, const step_t &step, int k) {
    const int lane = threadIdx.x % WARP, row0 = tile::row0();
    if constexpr (length == 32) {
#pragma unroll
        for (int m = 0; m < tile::m_tiles; m++) {
            load_left(w + 4 * m, step.w, PITCH, row0 + 16 * m, k);
        }
    } else if constexpr (tile::m_tiles == 2) {
        tug_ldmatrix4(w, &step.w[row0 + lane][k]);
    } else {
        tug_ldmatrix2(w, &step.w[row0 + lane % 16][k]);
    }
}

// The same columns of 8 n_tiles tokens from `token` on: as many as one instruction brings.
template <int length, int n_tiles>
TUG_DEVICE void load_inputs(uint32_t x[4], const int8_t (*rows)[PITCH], int token,
                            int k) {
    const int lane = threadIdx.x % WARP;
    if constexpr (length == 32) {
        load_right(x, rows, PITCH, token, k);
    } else if constexpr (n_tiles == 4) {
        tug_ldmatrix4(x, &rows[token + lane][k]);
    } else {
        tug_ldmatrix2(x, &rows[token + lane % 16][k]);
    }
}

// The products of a group of columns, 16 or 32, beginning with k: exact sums of both digits.
template <class type, int digits, class tile>
TUG_DEVICE void multiply(sums_t<tile> &sums, const step_t &step, int k) {
    enum {
        length = product_of<type>::length,
        registers = length / 16, // of a fragment of tokens
        n_tiles = tile::n_tiles,
        tiles = n_tiles * registers < 4 ? n_tiles : 4 / registers // loaded together
    };
    uint32_t w[tile::m_tiles * 2 * registers];
    load_weights<length, tile>(w, step, k);
#pragma unroll
    for (int n0 = 0; n0 < n_tiles; n0 += tiles) {
        uint32_t x[2][4];
#pragma unroll
        for (int digit = 0; digit < digits; digit++) {
            load_inputs<length, tiles>(x[digit], step.x[digit], tile::token0() + 8 * n0,
                                       k);
        }
#pragma unroll
        for (int at = 0; at < tiles * tile::m_tiles; at++) {
            const int n = at % tiles, m = at / tiles;
            int sum[4] = {};
#pragma unroll
            for (int digit = 0; digit < digits; digit++) {
#pragma unroll
                for (int i = 0; digit > 0 && i < 4; i++) sum[i] *= 254;
                if (length == 32) {
                    tug_mma_s8(sum, w + 4 * m, x[digit] + n * registers);
                } else {
                    tug_mma_s8_k16(sum, w + 2 * m, x[digit][n]);
                }
            }
            add_scaled<type, tile>(sums.y[m][n0 + n], sum, step, k / length, m, n0 + n);
        }
    }
}

template <class type, int digits, class tile>
TUG_DEVICE void gemm(step_t &step, const tug_cuda_gemm &a, const work_t &work) {
    sums_t<tile> sums = {};
    for (int column = 0; column < a.n_cols; column += STEP) {
        copy_inputs<type, digits, tile>(step, a, work, column);
        tug_cp_commit();
        unpack_weights<type>(step, a, work.w, column);
        tug_cp_wait<0>();
        __syncthreads();
        const int n = tile::token0() < work.n_tok ? STEP : 0;
#pragma unroll 1
        for (int k = 0; k < n; k += product_of<type>::length) {
            multiply<type, digits, tile>(sums, step, k);
        }
        __syncthreads();
    }
    write_outputs(a, work, sums);
}

template <class type, int digits> TUG_DEVICE void gemm(const tug_cuda_gemm &a) {
    __shared__ step_t step;
    const work_t work = find_work(a); // the same for the whole block
    if (!work.w) return;
    if (work.n_tok <= FEW) {
        gemm<type, digits, tile_t<FEW>>(step, a, work);
    } else {
        gemm<type, digits, tile_t<TOKENS>>(step, a, work);
    }
}

// Block (256,), grid (ceil(n_rows / TUG_CUDA_GEMM_ROWS), ceil(n_tok / TUG_CUDA_GEMM_TOKENS) or
// tug_cuda_max_tiles): neighbouring blocks share their tokens.
#define GEMM(name)                                                      \
    TUG_KERNEL_BLOCKS(tug_gemm_##name##_1, tug_cuda_gemm, THREADS, 2) { \
        gemm<w_##name, 1>(a);                                           \
    }                                                                   \
    TUG_KERNEL_BLOCKS(tug_gemm_##name##_2, tug_cuda_gemm, THREADS, 2) { \
        gemm<w_##name, 2>(a);                                           \
    }
TUG_BLOCK_WEIGHTS(GEMM)
