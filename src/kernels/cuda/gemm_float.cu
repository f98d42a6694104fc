// gemm_float.cu - linear layers of many tokens with float weights.
//
// F16 and BF16 on tensor cores, held to the bounds of f32 products: the weights are factors as
// they are, and an activation is cut into parts, one product each, that together have its bits:
// 22 in two f16, all 24 in three bf16.  f16 have no exponents for all floats, so 32 values of a
// token are first multiplied by a power of two that brings the largest to 2^14.  What tensor
// cores add to is cut, not rounded: their sums begin with 0 for every 32 columns, small parts
// first, and what comes of it is added to y as float.  A value that is not finite makes all
// results of its token NaN.
//
// A step is 32 columns; those of the next one are read into registers while this one is
// multiplied.  Tiles: gemm.cuh.  SPDX-License-Identifier: MIT
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/halves.cuh"

// ---- weights of 16 bits -------------------------------------------------------------------

enum {
    STEP = 32,
    PITCH = 2 * STEP + 16, // bytes from row to row: 8 of them lie in different banks
    EACH = 8,              // values that a thread reads at once
    LANES = STEP / EACH,   // that share a row
    GROUPS = THREADS / LANES,
};

// How a type is multiplied: `parts` of the activations, the largest first.
struct f16_product {
    enum { parts = 2 };
    static TUG_INLINE float scale(uint32_t largest) { return scale_to(14, largest); }
    static TUG_INLINE void cut(float x0, float x1, uint32_t to[parts]) {
        split_f16(x0, x1, to[0], to[1]);
    }
    static TUG_INLINE void multiply(float d[4], const uint32_t w[4],
                                    const uint32_t x[2]) {
        tug_mma_f16(d, w, x);
    }
};

// A bf16 is the upper half of a float; of NaN and infinity the second part is NaN.
struct bf16_product {
    enum { parts = 3 };
    static TUG_INLINE float scale(uint32_t) { return 1.0f; }
    static TUG_INLINE void cut(float x0, float x1, uint32_t to[parts]) {
#pragma unroll
        for (int i = 0; i < parts; i++) {
            const uint32_t b0 = __float_as_uint(x0), b1 = __float_as_uint(x1);
            to[i] = __byte_perm(b0, b1, 0x7632);
            x0 -= __uint_as_float(b0 & 0xFFFF0000u);
            x1 -= __uint_as_float(b1 & 0xFFFF0000u);
        }
    }
    static TUG_INLINE void multiply(float d[4], const uint32_t w[4],
                                    const uint32_t x[2]) {
        tug_mma_bf16(d, w, x);
    }
};

template <class product> struct alignas(16) step_t {
    uint8_t w[ROWS][PITCH];
    uint8_t x[product::parts][TOKENS][PITCH];
    float unit[TOKENS]; // of a token's products
};

// Where a thread reads: rows of its group of lanes and 64 further on, and a token, if there is one.
struct rows_t {
    const uint16_t *w[ROWS / GROUPS];
    const float *x;
    bool w_aligned, x_aligned; // to 16 bytes
};

// What it reads of a step.
struct ahead_t {
    words4 w[ROWS / GROUPS];
    words4 x[2]; // floats
};

TUG_DEVICE rows_t find_rows(const tug_cuda_gemm &a, const work_t &work) {
    rows_t rows;
    const int i = threadIdx.x / LANES;
#pragma unroll
    for (int j = 0; j < ROWS / GROUPS; j++) {
        const int r = blockIdx.x * ROWS + i + j * GROUPS;
        rows.w[j] = (const uint16_t *)(work.w + min(r, a.n_rows - 1) * a.w_row_bytes);
    }
    rows.x = i < work.n_tok ? (const float *)input_row(a, work, i) : nullptr;
    rows.w_aligned = ((uintptr_t)work.w | (uint64_t)a.w_row_bytes) % 16 == 0;
    rows.x_aligned = ((uintptr_t)a.x | (uint64_t)a.x_row_bytes) % 16 == 0;
    return rows;
}

// Eight values from column c of a row of n on, zeros behind its end.
TUG_DEVICE words4 read_weights(const uint16_t *row, int c, int n, bool is_aligned) {
    if (is_aligned && c + EACH <= n) return *(const words4 *)(row + c);
    words4 v = {};
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (c + i < n) v.w[i / 2] |= (uint32_t)row[c + i] << 16 * (i % 2);
    }
    return v;
}

TUG_DEVICE void read_inputs(words4 x[2], const float *row, int c, int n,
                            bool is_aligned) {
    if (is_aligned && c + EACH <= n) {
        x[0] = *(const words4 *)(row + c);
        x[1] = *(const words4 *)(row + c + 4);
        return;
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        x[i / 4].w[i % 4] = c + i < n ? __float_as_uint(row[c + i]) : 0;
    }
}

TUG_DEVICE void read_ahead(ahead_t &to, const rows_t &rows, int column, int n_cols) {
    const int c = column + threadIdx.x % LANES * EACH;
#pragma unroll
    for (int j = 0; j < ROWS / GROUPS; j++) {
        to.w[j] = read_weights(rows.w[j], c, n_cols, rows.w_aligned);
    }
    read_inputs(to.x, rows.x, c, rows.x ? n_cols : 0, rows.x_aligned);
}

// What was read becomes factors; four lanes have 32 values of a token.
template <class product, class tile>
TUG_DEVICE void put(step_t<product> &step, const ahead_t &from) {
    const int i = threadIdx.x / LANES, part = threadIdx.x % LANES;
#pragma unroll
    for (int j = 0; j < ROWS / GROUPS; j++) {
        const int row = i + j * GROUPS;
        *(words4 *)&step.w[row][16 * part] = from.w[j];
    }
    if (i >= tile::tokens) return; // the same for a whole warp
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        largest = max(largest, from.x[j / 4].w[j % 4] & 0x7FFFFFFFu);
    }
#pragma unroll
    for (int off = 1; off < LANES; off *= 2) {
        largest = max(largest, __shfl_xor_sync(FULL_WARP, largest, off));
    }
    const float scale = product::scale(largest);
    words4 x[product::parts];
#pragma unroll
    for (int j = 0; j < EACH; j += 2) {
        uint32_t cut[product::parts];
        product::cut(scale * __uint_as_float(from.x[j / 4].w[j % 4]),
                     scale * __uint_as_float(from.x[j / 4].w[j % 4 + 1]), cut);
#pragma unroll
        for (int p = 0; p < product::parts; p++) x[p].w[j / 2] = cut[p];
    }
#pragma unroll
    for (int p = 0; p < product::parts; p++) {
        *(words4 *)&step.x[p][i][16 * part] = x[p];
    }
    if (part == 0) step.unit[i] = 1.0f / scale;
}

// y += the products of a step.
template <class product, class tile>
TUG_DEVICE void multiply(sums_t<tile> &sums, const step_t<product> &step) {
    float sum[tile::m_tiles][tile::n_tiles][4] = {};
#pragma unroll 1
    for (int k = 0; k < 2 * STEP; k += 32) {
        uint32_t w[tile::m_tiles][4];
#pragma unroll
        for (int m = 0; m < tile::m_tiles; m++) {
            load_left(w[m], step.w, PITCH, tile::row0() + 16 * m, k);
        }
#pragma unroll
        for (int p = product::parts - 1; p >= 0; p--) {
#pragma unroll
            for (int n = 0; n < tile::n_tiles; n += 2) {
                uint32_t x[4];
                load_right(x, step.x[p], PITCH, tile::token0() + 8 * n, k);
#pragma unroll
                for (int m = 0; m < tile::m_tiles; m++) {
                    product::multiply(sum[m][n], w[m], x);
                    product::multiply(sum[m][n + 1], w[m], x + 2);
                }
            }
        }
    }
#pragma unroll
    for (int n = 0; n < tile::n_tiles; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float unit = step.unit[tile::token(n, i)];
#pragma unroll
            for (int m = 0; m < tile::m_tiles; m++) {
                sums.y[m][n][i] = fmaf(unit, sum[m][n][i], sums.y[m][n][i]);
            }
        }
    }
}

template <class product, class tile>
TUG_DEVICE void gemm(step_t<product> &step, const tug_cuda_gemm &a, const work_t &work) {
    sums_t<tile> sums = {};
    const rows_t rows = find_rows(a, work);
    ahead_t ahead;
    read_ahead(ahead, rows, 0, a.n_cols);
    for (int column = 0; column < a.n_cols; column += STEP) {
        put<product, tile>(step, ahead);
        __syncthreads();
        if (column + STEP < a.n_cols) read_ahead(ahead, rows, column + STEP, a.n_cols);
        if (tile::token0() < work.n_tok) multiply<product, tile>(sums, step);
        __syncthreads();
    }
    write_outputs(a, work, sums);
}

template <class product> TUG_DEVICE void gemm(const tug_cuda_gemm &a) {
    __shared__ step_t<product> step;
    const work_t work = find_work(a); // the same for the whole block
    if (!work.w) return;
    if (work.n_tok <= FEW) {
        gemm<product, tile_t<FEW>>(step, a, work);
    } else {
        gemm<product, tile_t<TOKENS>>(step, a, work);
    }
}

// Block (256,), grid as in gemm.cu.
TUG_KERNEL_BLOCKS(tug_gemm_f16, tug_cuda_gemm, THREADS, 2) {
    gemm<f16_product>(a);
}
TUG_KERNEL_BLOCKS(tug_gemm_bf16, tug_cuda_gemm, THREADS, 2) {
    gemm<bf16_product>(a);
}

// ---- F32 weights ------------------------------------------------------------------------------
//
// Without tensor cores: weights would need parts too.  A block has 64 rows and 64 tokens, a
// thread 4 x 4 of them, 16 apart.

enum { F_ROWS = TUG_CUDA_GEMM_FLOAT_ROWS, F_STEP = 32, F_PITCH = F_STEP + 1, F_EACH = 4 };

// Block (256,), grid (ceil(n_rows / TUG_CUDA_GEMM_FLOAT_ROWS), as in gemm.cu).
TUG_KERNEL(tug_gemm_f32, tug_cuda_gemm, THREADS) {
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
            const float *const from = (const float *)(work.w + row * a.w_row_bytes);
            w[i][c] = there ? from[column + c] : 0.0f;
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
