// cache.cuh - rows of keys and values as they lie in a cache, f16 or blocks of Q8_0, stored
// and loaded by a warp.  SPDX-License-Identifier: MIT
#ifndef TUG_KERNELS_CUDA_CACHE_CUH
#define TUG_KERNELS_CUDA_CACHE_CUH

#include "kernels/cuda/words.cuh"

enum { Q8_0_ELEMS = 32, Q8_0_BYTES = 34 };

// The j-th of `per` dimensions of a row of 32 per that a lane has: neighbours where they
// make a 16-byte load.
template <int per> TUG_DEVICE int dim(int j) {
    const int lane = threadIdx.x % WARP;
    return per == 8 ? per * lane + j : lane + WARP * j;
}

// store: the rules of tug_kv_store_fn for a row x (n,), n % 32 == 0.
// load: this lane's dimensions of a row.
// bring_8: values i .. i + 7 of a row as f16 to 16 aligned bytes of shared memory, or zeros;
//     they are there after tug_cp_wait.
struct f16_cache {
    static TUG_INLINE void store(uint8_t *to, const float *x, int n) {
        uint16_t *const halves = (uint16_t *)to;
        for (int i = threadIdx.x % WARP; i < n; i += WARP) halves[i] = tug_to_f16(x[i]);
    }
    template <int per> static TUG_INLINE void load(float *x, const uint8_t *row) {
        const uint16_t *const halves = (const uint16_t *)row;
        if constexpr (per == 8) {
            uint32_t w[4];
            load_words4(w, row + 2 * dim<per>(0));
#pragma unroll
            for (int j = 0; j < per; j++)
                x[j] = tug_f16((uint16_t)(w[j / 2] >> 16 * (j % 2)));
        } else {
#pragma unroll
            for (int j = 0; j < per; j++) x[j] = tug_f16(halves[dim<per>(j)]);
        }
    }
    static TUG_INLINE void bring_8(uint16_t *to, const uint8_t *row, int i, bool there) {
        tug_cp_async16(to, row + 2 * i, there ? 16 : 0);
    }
};

struct q8_0_cache {
    static TUG_INLINE void store(uint8_t *to, const float *x, int n) {
        const int lane = threadIdx.x % WARP;
        for (int i = lane; i < n; i += WARP, to += Q8_0_BYTES) {
            const float d = __uint_as_float(warp_max_bits(x[i])) / 127.0f;
            const float inverse = d >= 0x1p-126f ? 1.0f / d : 0.0f;
            const float q = fminf(fmaxf(roundf(x[i] * inverse), -127.0f), 127.0f);
            if (lane == 0) *(uint16_t *)to = tug_to_f16(d);
            to[2 + lane] = (uint8_t)(int8_t)q;
        }
    }
    template <int per> static TUG_INLINE void load(float *x, const uint8_t *row) {
        if constexpr (per == 8) {
            const int first = dim<per>(0);
            const uint8_t *const block = row + first / Q8_0_ELEMS * Q8_0_BYTES;
            const float d = load_f16(block);
            uint32_t w[2];
            load_words<2>(w, block + 2 + first % Q8_0_ELEMS);
#pragma unroll
            for (int j = 0; j < per; j++)
                x[j] = d * (float)(int8_t)(w[j / 4] >> 8 * (j % 4));
        } else {
#pragma unroll
            for (int j = 0; j < per; j++) {
                const uint8_t *const block = row + j * Q8_0_BYTES;
                x[j] = load_f16(block) * (float)(int8_t)block[2 + threadIdx.x % WARP];
            }
        }
    }
    static TUG_INLINE void bring_8(uint16_t *to, const uint8_t *row, int i, bool there) {
        const uint8_t *const block = row + i / Q8_0_ELEMS * Q8_0_BYTES;
        const float d = there ? load_f16(block) : 0.0f;
        uint32_t w[2];
        load_words<2>(w, block + 2 + i % Q8_0_ELEMS);
        words4 v;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint32_t two = w[j / 2] >> 16 * (j % 2);
            v.w[j] = tug_to_f16x2(d * (float)(int8_t)two, d * (float)(int8_t)(two >> 8));
        }
        *(words4 *)to = v;
    }
};

#endif
