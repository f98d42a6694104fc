// top.cu - the largest logits of a vocabulary: greedy choice and candidates for sampling.
//
// A logit and its index are one 64-bit key, larger for a larger logit and, among equals, for
// a smaller index.  Keys differ, so the next largest is the largest below the last one.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/device.cuh"

enum { THREADS = 256 };

TUG_DEVICE uint64_t key_of(float logit, int id) {
    return (uint64_t)order_key(logit) << 32 | (uint32_t)~id;
}

// The largest of a block, for every thread.
TUG_DEVICE uint64_t block_max(uint64_t key, uint64_t *scratch) {
    for (int off = WARP / 2; off > 0; off /= 2) {
        const uint64_t other = __shfl_xor_sync(FULL_WARP, (unsigned long long)key, off);
        key = key > other ? key : other;
    }
    __syncthreads(); // scratch is free
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = key;
    __syncthreads();
    for (int i = 0; i < THREADS / WARP; i++) key = key > scratch[i] ? key : scratch[i];
    return key;
}

// Calls put(rank, key) of the n_top largest of n keys, get(i) being the i-th; 0 for those
// that there are not.
template <class Get, class Put>
TUG_DEVICE void largest(int n, int n_top, Get get, Put put) {
    __shared__ uint64_t scratch[THREADS / WARP];
    uint64_t below = ~(uint64_t)0;
    for (int rank = 0; rank < n_top; rank++) {
        uint64_t best = 0;
        for (int i = threadIdx.x; i < n; i += THREADS) {
            const uint64_t key = get(i);
            if (key < below && key > best) best = key;
        }
        below = block_max(best, scratch);
        if (threadIdx.x == 0) put(rank, below);
    }
}

// Block (256,), grid (n_slice, n_tok).
TUG_KERNEL(tug_top_of_slices, tug_cuda_top, THREADS) {
    const int size = (a.n + a.n_slice - 1) / a.n_slice, first = blockIdx.x * size;
    const int n = max(0, min(size, a.n - first));
    const float *const logits = a.logits + (int64_t)blockIdx.y * a.n + first;
    uint64_t *const found =
        a.found + ((int64_t)blockIdx.y * a.n_slice + blockIdx.x) * a.n_top;
    largest(
        n, a.n_top, [=](int i) { return key_of(logits[i], first + i); },
        [=](int rank, uint64_t key) { found[rank] = key; });
}

// Block (256,), grid (n_tok,).
TUG_KERNEL(tug_top, tug_cuda_top, THREADS) {
    const uint64_t *const found = a.found + (int64_t)blockIdx.x * a.n_slice * a.n_top;
    const float *const logits = a.logits + (int64_t)blockIdx.x * a.n;
    int32_t *const ids = a.ids + (int64_t)blockIdx.x * a.n_top;
    float *const values = a.values + (int64_t)blockIdx.x * a.n_top;
    largest(
        a.n_slice * a.n_top, a.n_top, [=](int i) { return found[i]; },
        [=](int rank, uint64_t key) {
            ids[rank] = (int32_t) ~(uint32_t)key;
            values[rank] = logits[ids[rank]];
        });
}
