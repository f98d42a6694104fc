// embed.cu - rows of the embedding as f32: the definition of each type bit for bit, and so
// the test of weights.cuh.  SPDX-License-Identifier: MIT
#include "kernels/cuda/device.cuh"

#include "kernels/cuda/args.h"
#include "kernels/cuda/weights.cuh"

// A thread a chunk.
template <class type> TUG_DEVICE void embed_blocks(const tug_cuda_embed &a) {
    const int c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= a.n / type::values) return;
    const uint8_t *const w = (const uint8_t *)a.w;
    float *const x = a.x + (int64_t)blockIdx.x * a.n;
    typename type::chunk chunk;
    type::unpack(w + a.ids[blockIdx.x] * a.w_row_bytes, c, chunk);
    const int length = type::values / type::groups;
#pragma unroll
    for (int g = 0; g < type::groups; g++) {
        float *const to = x + type::column(c, g);
#pragma unroll
        for (int j = 0; j < length; j++) {
            const uint32_t word = chunk.q[(g * length + j) / 4];
            const float q = (float)(int8_t)(word >> 8 * (j % 4));
            const float product = __fmul_rn(chunk.scale[g], q);
            to[j] = type::has_min ? __fadd_rn(product, -chunk.min[g]) : product;
        }
    }
}

template <class type> TUG_DEVICE void embed_floats(const tug_cuda_embed &a) {
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= a.n) return;
    typedef const typename type::element element;
    element *const row =
        (element *)((const uint8_t *)a.w + a.ids[blockIdx.x] * a.w_row_bytes);
    a.x[(int64_t)blockIdx.x * a.n + i] = type::value(row[i]);
}

// Block (256,), grid (n_tok, ceil(n / values / 256)); values 1 for floats.
#define BLOCKS(name)                                    \
    TUG_KERNEL(tug_embed_##name, tug_cuda_embed, 256) { \
        embed_blocks<w_##name>(a);                      \
    }
#define FLOATS(name)                                    \
    TUG_KERNEL(tug_embed_##name, tug_cuda_embed, 256) { \
        embed_floats<w_##name>(a);                      \
    }
TUG_BLOCK_WEIGHTS(BLOCKS)
TUG_FLOAT_WEIGHTS(FLOATS)
