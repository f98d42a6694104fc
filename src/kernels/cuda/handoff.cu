// handoff.cu - what the CPU needs of a layer, into its memory.  SPDX-License-Identifier: MIT
#include "kernels/cuda/device.cuh"

// One block: the word must not be seen before anything of the rest.
TUG_KERNEL(tug_hand_over, tug_cuda_hand_over, 512) {
    for (int64_t i = threadIdx.x; i < a.n_x; i += blockDim.x) a.to_x[i] = a.x[i];
    for (int i = threadIdx.x; i < a.n_pair; i += blockDim.x) {
        a.to_ids[i] = a.ids[i];
        a.to_weights[i] = a.weights[i];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence_system(); // orders what the barrier made visible to this thread, too
        *(volatile uint32_t *)a.there = a.count;
    }
}
