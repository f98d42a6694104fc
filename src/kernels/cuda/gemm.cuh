// gemm.cuh - what linear layers of many tokens share: how a block of threads cuts its part of
// the result, which rows of tokens or of pairs it is about, and fragments from shared memory.
//
// A block has 128 rows and up to 64 tokens, its tile.  Rows of experts are the same kernels: a
// tile is then a part of the pairs of one expert, gathered through the sorted list.  Of 33 to
// 64 tokens each of 8 warps has 32 rows by 32 tokens; of 17 to 32 half of the warps have none
// and skip their products; of up to 16, as most experts have few, a warp has 16 rows by
// all of them.  The bits of a token are the same in all of these.
// SPDX-License-Identifier: MIT
#ifndef TUG_KERNELS_CUDA_GEMM_CUH
#define TUG_KERNELS_CUDA_GEMM_CUH

#include "kernels/cuda/words.cuh"

enum {
    ROWS = TUG_CUDA_GEMM_ROWS,
    TOKENS = TUG_CUDA_GEMM_TOKENS,
    FEW = 16, // tokens that get a tile of their own kind
    THREADS = 256,
};

// How the warps of a block share its rows and tokens.
template <int n_tokens> struct tile_t {
    enum {
        tokens = n_tokens,
        token_warps = tokens > 32 ? 2 : 1,
        row_warps = THREADS / WARP / token_warps,
        rows_each = ROWS / row_warps, // of a warp
        tokens_each = tokens / token_warps,
        m_tiles = rows_each / 16, // fragments of 16 rows
        n_tiles = tokens_each / 8 // and of 8 tokens
    };
    static TUG_INLINE int row0() {
        return (int)threadIdx.x / WARP % row_warps * rows_each;
    }
    static TUG_INLINE int token0() {
        return (int)threadIdx.x / WARP / row_warps * tokens_each;
    }
    // Rows and tokens of a lane's four values of a fragment.
    static TUG_INLINE int row(int m, int i) {
        return row0() + 16 * m + threadIdx.x % WARP / 4 + 8 * (i / 2);
    }
    static TUG_INLINE int token(int n, int i) {
        return token0() + 8 * n + 2 * (threadIdx.x % 4) + i % 2;
    }
};

// What a warp has of y.
template <class tile> struct sums_t { float y[tile::m_tiles][tile::n_tiles][4]; };

// ---- which rows ---------------------------------------------------------------------------

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

template <class tile>
TUG_DEVICE void write_outputs(const tug_cuda_gemm &a, const work_t &work,
                              const sums_t<tile> &sums) {
#pragma unroll
    for (int n = 0; n < tile::n_tiles; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int token = tile::token(n, i);
            if (token >= work.n_tok) continue;
            float *const y = a.y + output_row(a, work, token) * a.y_stride;
#pragma unroll
            for (int m = 0; m < tile::m_tiles; m++) {
#pragma unroll
                for (int j = i; j < 4; j += 2) {
                    const int row = blockIdx.x * ROWS + tile::row(m, j);
                    if (row < a.n_rows) y[row] = sums.y[m][n][j];
                }
            }
        }
    }
}

// ---- fragments of 32 bytes, from shared rows of `pitch` bytes -----------------------------------
// Rows and k are multiples of 16 bytes; 8 rows in turn should lie in different banks.

// 16 rows from `row` on as a left factor.
TUG_DEVICE void load_left(uint32_t w[4], const void *rows, int pitch, int row, int k) {
    const int lane = threadIdx.x % WARP;
    tug_ldmatrix4(w,
                  (const uint8_t *)rows + (row + lane % 16) * pitch + k + lane / 16 * 16);
}

// 16 tokens from `token` on as two right factors.
TUG_DEVICE void load_right(uint32_t x[4], const void *rows, int pitch, int token, int k) {
    const int lane = threadIdx.x % WARP;
    tug_ldmatrix4(x, (const uint8_t *)rows + (token + lane % 8 + lane / 16 * 8) * pitch +
                         k + lane / 8 % 2 * 16);
}

#endif
