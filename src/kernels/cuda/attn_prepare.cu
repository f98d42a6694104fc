// attn_prepare.cu - what happens to q, k and v between their projection and attention: norm
// and rotation of q in place, norm and rotation of k into the cache, v into the cache.
//
// A warp a head.  SPDX-License-Identifier: MIT
#include "kernels/cuda/cache.cuh"

enum { WARPS = 4 };

// row (n,) in shared memory, this warp's: x normalised, then its first n_rot rotated.
TUG_DEVICE void norm_and_rotate(float *row, const float *x, const float *w, int n,
                                const float *rope, int n_rot, float eps) {
    const int lane = threadIdx.x % WARP, n_half = n_rot / 2;
    float sum = 0;
    for (int i = lane; i < n; i += WARP) sum = fmaf(x[i], x[i], sum);
    const float r = 1.0f / sqrtf(tug_warp_sum(sum) / (float)n + eps);
    for (int i = lane; i < n; i += WARP) row[i] = x[i] * r * w[i];
    __syncwarp();
    for (int i = lane; i < n_half; i += WARP) {
        const float p = row[i], q = row[i + n_half];
        const float c = rope[i], s = rope[i + n_half];
        row[i] = p * c - q * s;
        row[i + n_half] = q * c + p * s;
    }
    __syncwarp();
}

template <class cache> TUG_DEVICE void attn_prepare(const tug_cuda_attn_prepare &a) {
    __shared__ float rows[WARPS][TUG_CUDA_MAX_HEAD_DIM];
    float *const row = rows[threadIdx.x / WARP];
    const int n_head = a.s.n_head, n_kv = a.s.n_kv_head, n = a.s.head_dim;
    const int h = blockIdx.y * WARPS + threadIdx.x / WARP; // q heads, k heads, v heads
    if (h >= n_head + 2 * n_kv) return;

    const int64_t t = blockIdx.x, pos = *a.pos + t;
    float *const token = a.qkv + t * a.stride;
    const float *const rope = a.rope + t * a.s.n_rot;
    if (h < n_head) {
        float *const q = token + (int64_t)h * 2 * n;
        norm_and_rotate(row, q, a.q_norm, n, rope, a.s.n_rot, a.eps);
        for (int i = threadIdx.x % WARP; i < n; i += WARP) q[i] = row[i];
        return;
    }
    const int kv_head = (h - n_head) % n_kv;
    const float *const x = token + ((int64_t)n_head * 2 + (h - n_head)) * n;
    const int64_t at = (kv_head * a.kv.n_rows + pos) * a.kv.row_bytes;
    if (h < n_head + n_kv) {
        norm_and_rotate(row, x, a.k_norm, n, rope, a.s.n_rot, a.eps);
        cache::store((uint8_t *)a.kv.k + at, row, n);
    } else {
        cache::store((uint8_t *)a.kv.v + at, x, n);
    }
}

// Block (128,), grid (n_tok, ceil((n_head + 2 n_kv_head) / 4)).
TUG_KERNEL(tug_attn_prepare_f16, tug_cuda_attn_prepare, 128) {
    attn_prepare<f16_cache>(a);
}
TUG_KERNEL(tug_attn_prepare_q8_0, tug_cuda_attn_prepare, 128) {
    attn_prepare<q8_0_cache>(a);
}
