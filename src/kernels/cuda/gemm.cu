// gemm.cu - linear layers of many tokens: prefill.
//
// int8 on tensor cores: weights are unpacked to the int8 values that their formats are made
// of, activations are the digits that decode uses, so that both get the same exact integer
// sums of 16 or 32 products and the same bounds of error; GeForce cards multiply int8 four
// times as fast as f16 with f32 sums, which is what a second digit and the scaling of sums
// are paid with.
//
// A block has 128 rows and 64 tokens, a step is 128 columns: the activations come by
// cp.async while the threads unpack the weights into shared memory, a chunk at a time.  Each
// of 8 warps then multiplies 32 rows by 32 tokens.  An integer sum becomes a float with the
// scales of its row and its token; mins meet the sums of the activations.
//
// Rows of experts are the same kernel: a tile of tokens is then a part of the pairs of one
// expert, gathered through the sorted list.  SPDX-License-Identifier: MIT
#include "kernels/cuda/weights.cuh"

enum {
    ROWS = TUG_CUDA_GEMM_ROWS,
    TOKENS = TUG_CUDA_GEMM_TOKENS,
    STEP = 128,        // columns
    PITCH = STEP + 16, // bytes from row to row: 8 of them lie in different banks
    THREADS = 256,
    M_TILES = 2, // of 16 rows a warp
    N_TILES = 4, // of 8 tokens
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

// Which rows of x a block reads and of y it writes, and its weights.
typedef struct work_t {
    const uint8_t *w; // NULL: nothing to do
    int first, n_tok; // tokens, or places in the sorted list
} work_t;

TUG_DEVICE work_t find_work(const tug_cuda_gemm &a) {
    if (!a.tiles) {
        const int first = blockIdx.y * TOKENS;
        return work_t{(const uint8_t *)a.w, first, min(TOKENS, a.n_tok - first)};
    }
    if ((int)blockIdx.y >= a.tiles[0]) return work_t{nullptr, 0, 0};
    const int e = a.tiles[1 + 2 * blockIdx.y], first = a.tiles[2 + 2 * blockIdx.y];
    return work_t{(const uint8_t *)a.slots[e], first,
                  min(TOKENS, a.first[e + 1] - first)};
}

// The row of y of token i of the work.
TUG_DEVICE int64_t output_row(const tug_cuda_gemm &a, const work_t &work, int i) {
    return a.tiles ? a.sorted[work.first + i] : work.first + i;
}

TUG_DEVICE const uint8_t *input_row(const tug_cuda_gemm &a, const work_t &work, int i) {
    const int64_t row = output_row(a, work, i);
    return (const uint8_t *)a.x + (a.tiles ? row / a.x_pairs : row) * a.x_row_bytes;
}

// Begins to copy columns [column, column + STEP) of the activations.  Beyond the last token
// and the last column there are zeros.
template <class type, int digits>
TUG_DEVICE void copy_inputs(step_t &step, const tug_cuda_gemm &a, const work_t &work,
                            int column) {
    const int64_t n = a.n_cols;
    // Four threads have a token; a digit is 8 pieces of 16 values, d one piece and s two.
    const int token = threadIdx.x / 4, part = threadIdx.x % 4;
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

// What a warp has of y: fragments of 16 rows and 8 tokens.
struct sums_t {
    float y[M_TILES][N_TILES][4];
};

// Rows and tokens of a lane's four values of a fragment.
TUG_DEVICE int row_of(int tile, int i) {
    return threadIdx.x / WARP % 4 * 32 + 16 * tile + threadIdx.x % WARP / 4 + 8 * (i / 2);
}
TUG_DEVICE int token_of(int tile, int i) {
    return threadIdx.x / WARP / 4 * 32 + 8 * tile + 2 * (threadIdx.x % 4) + i % 2;
}

// y += scale d sum - min s, of one group of columns.
template <class type>
TUG_DEVICE void add_scaled(float y[4], const int sum[4], const step_t &step, int group,
                           int m, int n) {
    enum { length = product_of<type>::length };
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = row_of(m, i), token = token_of(n, i);
        const float d = step.d[token][group * length / 32];
        y[i] = fmaf(step.scale[group][row] * d, (float)sum[i], y[i]);
        if (type::has_min) y[i] = fmaf(-step.min[group][row], step.s[token][group], y[i]);
    }
}

// The products of a group of columns, 16 or 32, beginning with k: exact sums of both digits.
template <class type, int digits>
TUG_DEVICE void multiply(sums_t &sums, const step_t &step, int k) {
    enum {
        length = product_of<type>::length,
        registers = length / 16, // of a fragment of tokens
        tiles = 4 / registers    // of tokens that one ldmatrix brings
    };
    const int lane = threadIdx.x % WARP, row0 = threadIdx.x / WARP % 4 * 32;
    const int token0 = threadIdx.x / WARP / 4 * 32;
    uint32_t w[M_TILES * 2 * registers];
    if (length == 32) {
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            tug_ldmatrix4(w + 4 * m,
                          &step.w[row0 + 16 * m + lane % 16][k + lane / 16 * 16]);
        }
    } else {
        tug_ldmatrix4(w, &step.w[row0 + lane][k]);
    }
#pragma unroll
    for (int n0 = 0; n0 < N_TILES; n0 += tiles) {
        const int token =
            token0 + 8 * n0 + (length == 32 ? lane % 8 + lane / 16 * 8 : lane);
        const int column = k + (length == 32 ? lane / 8 % 2 * 16 : 0);
        uint32_t x[2][4];
#pragma unroll
        for (int digit = 0; digit < digits; digit++) {
            tug_ldmatrix4(x[digit], &step.x[digit][token][column]);
        }
#pragma unroll
        for (int at = 0; at < tiles * M_TILES; at++) {
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
            add_scaled<type>(sums.y[m][n0 + n], sum, step, k / length, m, n0 + n);
        }
    }
}

template <class type, int digits> TUG_DEVICE void gemm(const tug_cuda_gemm &a) {
    __shared__ step_t step;
    const work_t work = find_work(a);
    if (!work.w) return; // the same for the whole block
    sums_t sums = {};
    for (int column = 0; column < a.n_cols; column += STEP) {
        copy_inputs<type, digits>(step, a, work, column);
        tug_cp_commit();
        unpack_weights<type>(step, a, work.w, column);
        tug_cp_wait<0>();
        __syncthreads();
#pragma unroll 1
        for (int k = 0; k < STEP; k += product_of<type>::length) {
            multiply<type, digits>(sums, step, k);
        }
        __syncthreads();
    }
#pragma unroll
    for (int n = 0; n < N_TILES; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int token = token_of(n, i);
            if (token >= work.n_tok) continue;
            float *const y = a.y + output_row(a, work, token) * a.y_stride;
#pragma unroll
            for (int m = 0; m < M_TILES; m++) {
#pragma unroll
                for (int j = i; j < 4; j += 2) {
                    const int row = blockIdx.x * ROWS + row_of(m, j);
                    if (row < a.n_rows) y[row] = sums.y[m][n][j];
                }
            }
        }
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

// ---- float weights: routers, small models -------------------------------------------------
//
// f32 products without tensor cores, as f16 would not hold a router to 1e-6.  A block has 64
// rows and 64 tokens, a thread 4 x 4 of them, 16 apart.

enum { F_ROWS = TUG_CUDA_GEMM_FLOAT_ROWS, F_STEP = 32, F_PITCH = F_STEP + 1, F_EACH = 4 };

template <class type> TUG_DEVICE void gemm_floats(const tug_cuda_gemm &a) {
    typedef const typename type::element element;
    __shared__ float w[F_ROWS][F_PITCH], x[TOKENS][F_PITCH];
    const work_t work = find_work(a);
    if (!work.w) return; // the same for the whole block
    const int row0 = blockIdx.x * F_ROWS, tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float acc[F_EACH][F_EACH] = {}; // [row][token]
    for (int column = 0; column < a.n_cols; column += F_STEP) {
        const int c = threadIdx.x % F_STEP;
        const bool there = column + c < a.n_cols;
        for (int i = threadIdx.x / F_STEP; i < F_ROWS; i += THREADS / F_STEP) {
            const int row = min(row0 + i, a.n_rows - 1);
            element *const from = (element *)(work.w + row * a.w_row_bytes);
            w[i][c] = there ? type::value(from[column + c]) : 0.0f;
        }
        for (int i = threadIdx.x / F_STEP; i < TOKENS; i += THREADS / F_STEP) {
            const bool some = there && i < work.n_tok;
            x[i][c] = some ? ((const float *)input_row(a, work, i))[column + c] : 0.0f;
        }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < F_STEP; k++) {
#pragma unroll
            for (int i = 0; i < F_EACH; i++) {
#pragma unroll
                for (int j = 0; j < F_EACH; j++) {
                    acc[i][j] = fmaf(w[tx + 16 * i][k], x[ty + 16 * j][k], acc[i][j]);
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < F_EACH; j++) {
        const int token = ty + 16 * j;
        if (token >= work.n_tok) continue;
        float *const y = a.y + output_row(a, work, token) * a.y_stride;
#pragma unroll
        for (int i = 0; i < F_EACH; i++) {
            const int row = row0 + tx + 16 * i;
            if (row < a.n_rows) y[row] = acc[i][j];
        }
    }
}

// Block (256,), grid (ceil(n_rows / TUG_CUDA_GEMM_FLOAT_ROWS), as above).
#define FLOATS(name)                                      \
    TUG_KERNEL(tug_gemm_##name, tug_cuda_gemm, THREADS) { \
        gemm_floats<w_##name>(a);                         \
    }
TUG_FLOAT_WEIGHTS(FLOATS)
