// rows.cu - norms, gates and the conversion of activations to int8 digits.
//
// A norm is a block (or a warp) a row: values are read twice, the second time from L1.
// Sums are f32, 256 partial sums joined in a tree.  SPDX-License-Identifier: MIT
#include "kernels/cuda/device.cuh"

#include "kernels/cuda/args.h"

// Value i of a row of n activations as two digits (args.h): by whole warps, a lane each of
// 32 neighbouring values.
TUG_DEVICE void put_digits(void *act, float x, int i, int n, int digits) {
    const uint32_t bits = warp_max_bits(x);
    const float max = __uint_as_float(bits);
    // Below 2^-120 the inverse overflows; such values are zero for any purpose.
    const bool finite = bits < 0x7F800000u, zero = max < 0x1p-120f;
    const float d = zero ? 0.0f : finite ? max / 127.0f : __uint_as_float(0x7FC00000u);
    const float inverse = zero || !finite ? 0.0f : 127.0f / max;
    const int q0 = finite ? __float2int_rn(x * inverse) : 0;
    // What the first digit leaves, in units of d / 254: at most half of 254.
    int q1 = 0;
    if (finite && digits == 2) {
        q1 = __float2int_rn(fmaf(x, inverse, -(float)q0) * 254.0f);
        q1 = q1 > 127 ? 127 : q1 < -127 ? -127 : q1;
    }
    int sum = 254 * q0 + q1;
    for (int off = 8; off > 0; off /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, off);

    int8_t *const row = (int8_t *)act;
    float *const scales = (float *)(row + 2 * (int64_t)n);
    row[i] = (int8_t)q0;
    row[n + i] = (int8_t)q1;
    if (i % 32 == 0) scales[i / 32] = d;
    if (i % 16 == 0) scales[n / 32 + i / 16] = d / 254.0f * (float)sum;
}

// Block (256,), grid (n_tok,).
TUG_KERNEL(tug_rmsnorm, tug_cuda_rmsnorm, 256) {
    __shared__ float scratch[WARP];
    const int64_t row = (int64_t)blockIdx.x * a.n;
    uint8_t *const act =
        a.act ? (uint8_t *)a.act + blockIdx.x * tug_cuda_act_bytes(a.n) : nullptr;
    float *const x = a.x + row;
    float sum = 0;
    for (int i = threadIdx.x; i < a.n; i += blockDim.x) {
        if (a.add) x[i] += a.add[row + i];
        sum = fmaf(x[i], x[i], sum);
    }
    sum = tug_block_sum(sum, scratch);
    const float r = 1.0f / sqrtf(sum / (float)a.n + a.eps);
    for (int i = threadIdx.x; i < a.n; i += blockDim.x) {
        const float y = x[i] * r * a.w[i];
        if (a.y) a.y[row + i] = y;
        if (act) put_digits(act, y, i, a.n, a.digits); // whole warps: n % 32 == 0
    }
}

TUG_DEVICE float warp_squares(const float *x, int n) {
    float sum = 0;
    for (int i = threadIdx.x % WARP; i < n; i += WARP) sum = fmaf(x[i], x[i], sum);
    return tug_warp_sum(sum);
}

// Block (128,), grid (ceil(n_tok n_head / 4),): a warp a row.
TUG_KERNEL(tug_rmsnorm_gated, tug_cuda_rmsnorm_gated, 128) {
    const int64_t row = (int64_t)blockIdx.x * 4 + threadIdx.x / WARP;
    if (row >= (int64_t)a.n_tok * a.n_head) return;
    const float *const x = a.x + row * a.n;
    const float *const z = a.z + row / a.n_head * a.z_stride + row % a.n_head * a.n;
    const float r = 1.0f / sqrtf(warp_squares(x, a.n) / (float)a.n + a.eps);
    for (int i = threadIdx.x % WARP; i < a.n; i += WARP) {
        a.y[row * a.n + i] = x[i] * r * a.w[i] * silu(z[i]);
    }
}

// Block (128,), grid (ceil(n_tok n_head / 4),): a warp a row.
TUG_KERNEL(tug_l2norm, tug_cuda_l2norm, 128) {
    const int64_t row = (int64_t)blockIdx.x * 4 + threadIdx.x / WARP;
    if (row >= (int64_t)a.n_tok * a.n_head) return;
    float *const x = a.x + row / a.n_head * a.x_stride + row % a.n_head * a.n;
    const float r = a.scale / sqrtf(warp_squares(x, a.n) + a.eps);
    for (int i = threadIdx.x % WARP; i < a.n; i += WARP) x[i] *= r;
}

// Block (256,), grid (ceil(n / 256),).
TUG_KERNEL(tug_swiglu, tug_cuda_swiglu, 256) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < a.n) a.h[i] = silu(a.gate[i]) * a.up[i];
}

// Block (256,), grid (n_tok, ceil(n / 256)).
TUG_KERNEL(tug_quantize, tug_cuda_quantize, 256) {
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= a.n) return; // whole warps: n % 32 == 0
    const int64_t at = (int64_t)blockIdx.x * a.x_stride + i;
    const float x = a.gate ? silu(a.gate[at]) * a.x[at] : a.x[at];
    uint8_t *const act = (uint8_t *)a.act + blockIdx.x * tug_cuda_act_bytes(a.n);
    put_digits(act, x, i, a.n, a.digits);
}

// Block (256,), grid (tug_cuda_max_tiles, ceil(n / 256)).
TUG_KERNEL(tug_pair_hidden, tug_cuda_pair_hidden, 256) {
    if ((int)blockIdx.x >= a.tiles[0]) return;
    const int e = a.tiles[1 + 2 * blockIdx.x], first = a.tiles[2 + 2 * blockIdx.x];
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (!a.slots[e] || i >= a.n) return; // whole warps, where digits are wanted
    const int end = min(first + TUG_CUDA_GEMM_TOKENS, a.first[e + 1]);
    for (int at = first; at < end; at++) {
        const int64_t row = a.sorted[at];
        const float h = silu(a.gate[row * a.n + i]) * a.up[row * a.n + i];
        if (a.act) {
            uint8_t *const act = (uint8_t *)a.act + row * tug_cuda_act_bytes(a.n);
            put_digits(act, h, i, a.n, a.digits);
        } else {
            a.up[row * a.n + i] = h;
        }
    }
}

// Block (256,), grid (n_tok, ceil(n / 256)).
TUG_KERNEL(tug_expert_finish, tug_cuda_expert_finish, 256) {
    __shared__ float scratch[WARP];
    const int64_t row = (int64_t)blockIdx.x * a.n;
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    // First: it may have to come from the host's memory.
    const float more = a.more && i < a.n ? a.more[row + i] : 0.0f;
    float share = 1.0f;
    if (a.shared && a.w) {
        float dot = 0;
        for (int j = threadIdx.x; j < a.n; j += blockDim.x) {
            dot = fmaf(a.x[row + j], a.w[j], dot);
        }
        share = sigmoid(tug_block_sum(dot, scratch));
    }
    if (i >= a.n) return;
    float y = a.y[row + i];
    if (a.more) y += more;
    if (a.shared) y = fmaf(share, a.shared[row + i], y);
    a.y[row + i] = y;
}
