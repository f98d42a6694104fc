// probe.cu - what the device reaches when it does nothing else: the limits that kernels are
// held against.  SPDX-License-Identifier: MIT
#include "kernels/cuda/words.cuh"

enum { THREADS = 256 };

// Block (256,), any grid: out[block] = the sum of the words that the block read, all blocks
// together each word once.
TUG_KERNEL(tug_probe_read, tug_cuda_probe, THREADS) {
    __shared__ uint32_t sums[THREADS];
    const words4 *const data = (const words4 *)a.data;
    const int64_t n = a.n_bytes / (int64_t)sizeof *data,
                  step = (int64_t)gridDim.x * THREADS;
    uint32_t sum = 0;
#pragma unroll 4
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += step) {
        const words4 v = data[i];
        sum += v.w[0] + v.w[1] + v.w[2] + v.w[3];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < THREADS; i++) sum += sums[i];
    a.out[blockIdx.x] = sum;
}

// Block (256,), any grid: every warp does a.rounds times TUG_CUDA_PROBE_CHAINS products that
// do not wait for each other; out[block] is the sum of thread 0's results.
TUG_KERNEL(tug_probe_mma_s8, tug_cuda_probe, THREADS) {
    const uint32_t w[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
    const uint32_t x[2] = {0x01010101u, 0x01010101u};
    int sums[TUG_CUDA_PROBE_CHAINS][4] = {};
    for (int i = 0; i < a.rounds; i++) {
#pragma unroll
        for (int c = 0; c < TUG_CUDA_PROBE_CHAINS; c++) tug_mma_s8(sums[c], w, x);
    }
    int sum = 0;
#pragma unroll
    for (int c = 0; c < TUG_CUDA_PROBE_CHAINS; c++) {
        sum += sums[c][0] + sums[c][1] + sums[c][2] + sums[c][3];
    }
    if (threadIdx.x == 0) a.out[blockIdx.x] = (uint32_t)sum;
}

TUG_KERNEL(tug_probe_mma_f16, tug_cuda_probe, THREADS) {
    const uint32_t one = tug_to_f16x2(1.0f, 1.0f), w[4] = {one, one, one, one};
    const uint32_t x[2] = {one, one};
    float sums[TUG_CUDA_PROBE_CHAINS][4] = {};
    for (int i = 0; i < a.rounds; i++) {
#pragma unroll
        for (int c = 0; c < TUG_CUDA_PROBE_CHAINS; c++) tug_mma_f16(sums[c], w, x);
    }
    float sum = 0;
#pragma unroll
    for (int c = 0; c < TUG_CUDA_PROBE_CHAINS; c++) {
        sum += sums[c][0] + sums[c][1] + sums[c][2] + sums[c][3];
    }
    if (threadIdx.x == 0) a.out[blockIdx.x] = (uint32_t)sum;
}
