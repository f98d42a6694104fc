// attn_decode.cu - attention of a few tokens: the context is split over blocks.
//
// A block has a token, up to eight query heads of one kv head and a part of the context, so
// that a row of the cache is read once for all of them.  Each of its warps takes four rows
// at a time: a lane has some dimensions of them, multiplies them with eight queries and
// keeps eight weighted sums of the values.  Everything is f32 but the cache.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/cache.cuh"

enum { HEADS = TUG_CUDA_ATTN_HEADS, WARPS = 4, ROWS = 4 };

// v (HEADS,) summed over the warp: lanes 4 h .. 4 h + 3 get the sum of v[h].
TUG_DEVICE float sum_of_own_head(float *v) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = HEADS / 2, off = WARP / 2; n > 0; n /= 2, off /= 2) {
        const bool upper = lane & off;
#pragma unroll
        for (int i = 0; i < n; i++) {
            const float keep = upper ? v[i + n] : v[i], send = upper ? v[i] : v[i + n];
            v[i] = keep + __shfl_xor_sync(FULL_WARP, send, off);
        }
    }
    return group_sum(v[0], WARP / HEADS);
}

// What a warp has seen: of head lane / 4 the largest score and the sum of weights, of all
// heads this lane's dimensions of the weighted sum.
template <int per> struct seen_t {
    float max, sum;
    float out[HEADS][per];
};

// Rows [row, row + n) of the cache, 1 <= n <= ROWS.
template <class cache, int per>
TUG_DEVICE void see_rows(seen_t<per> &seen, const uint8_t *k, const uint8_t *v,
                         int64_t row_bytes, int n, const float *q, float scale) {
    float keys[ROWS][per], values[ROWS][per], score[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int64_t at = (r < n ? r : 0) * row_bytes;
        cache::template load<per>(keys[r], k + at);
        cache::template load<per>(values[r], v + at);
    }
    float max = seen.max;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float dot[HEADS] = {};
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
#pragma unroll
            for (int j = 0; j < per; j++) {
                dot[h] = fmaf(q[h * per * WARP + dim<per>(j)], keys[r][j], dot[h]);
            }
        }
        score[r] = sum_of_own_head(dot) * scale;
        if (r < n) max = fmaxf(max, score[r]);
    }
    const float shrink = expf(seen.max - max);
    float weight[ROWS];
    seen.sum *= shrink;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        weight[r] = r < n ? expf(score[r] - max) : 0.0f;
        seen.sum += weight[r];
    }
    seen.max = max;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        const int from = h * (WARP / HEADS);
        const float s = __shfl_sync(FULL_WARP, shrink, from);
#pragma unroll
        for (int j = 0; j < per; j++) seen.out[h][j] *= s;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float w = __shfl_sync(FULL_WARP, weight[r], from);
#pragma unroll
            for (int j = 0; j < per; j++) {
                seen.out[h][j] = fmaf(w, values[r][j], seen.out[h][j]);
            }
        }
    }
}

// Where part `split` of a token's head begins.
TUG_DEVICE float *part_of(const tug_cuda_attn &a, int64_t t, int head, int split) {
    return a.parts + ((t * a.s.n_head + head) * a.n_split + split) * (2 + a.s.head_dim);
}

// The rows of a split: whole groups of rows, so that all splits but the last are alike.
TUG_DEVICE int rows_of_split(const tug_cuda_attn &a, int64_t n_rows) {
    const int64_t unit = WARPS * ROWS, units = (n_rows + unit - 1) / unit;
    return (int)((units + a.n_split - 1) / a.n_split * unit);
}

template <class cache, int per> TUG_DEVICE void attn_decode(const tug_cuda_attn &a) {
    enum { n = per * WARP };
    __shared__ float q[HEADS * n]; // later the weighted sums of all warps
    __shared__ float maxima[WARPS][HEADS], sums[WARPS][HEADS];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int group = a.s.n_head / a.s.n_kv_head, passes = (group + HEADS - 1) / HEADS;
    const int kv_head = blockIdx.y / passes, pass = blockIdx.y % passes;
    const int head0 = kv_head * group + pass * HEADS;
    const int n_heads = min(HEADS, group - pass * HEADS);
    const int64_t t = blockIdx.z, n_rows = *a.pos + t + 1;
    const float *const token = a.qkv + t * a.stride;

    for (int i = threadIdx.x; i < HEADS * n; i += WARPS * WARP) {
        const int h = i / n;
        q[i] = h < n_heads ? token[(int64_t)(head0 + h) * 2 * n + i % n] : 0.0f;
    }
    __syncthreads();

    const int64_t rows = rows_of_split(a, n_rows), begin = blockIdx.x * rows;
    const int64_t end = begin + rows < n_rows ? begin + rows : n_rows;
    const int64_t first = kv_head * a.kv.n_rows * a.kv.row_bytes;
    const uint8_t *const k = (const uint8_t *)a.kv.k + first;
    const uint8_t *const v = (const uint8_t *)a.kv.v + first;
    seen_t<per> seen = {-INFINITY, 0.0f, {}};
    for (int64_t r = begin + warp * ROWS; r < end; r += WARPS * ROWS) {
        const int some = end - r < ROWS ? (int)(end - r) : ROWS;
        see_rows<cache, per>(seen, k + r * a.kv.row_bytes, v + r * a.kv.row_bytes,
                             a.kv.row_bytes, some, q, a.scale);
    }

    // Join the warps: scale to a common maximum, then add up in turn.
    if (lane % (WARP / HEADS) == 0) {
        maxima[warp][lane / (WARP / HEADS)] = seen.max;
        sums[warp][lane / (WARP / HEADS)] = seen.sum;
    }
    __syncthreads();
    for (int w = 0; w < WARPS; w++) {
        if (w == warp) {
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                const float max = fmaxf(fmaxf(maxima[0][h], maxima[1][h]),
                                        fmaxf(maxima[2][h], maxima[3][h]));
                const float scale = sums[w][h] == 0.0f ? 0.0f : expf(maxima[w][h] - max);
#pragma unroll
                for (int j = 0; j < per; j++) {
                    float *const to = &q[h * n + dim<per>(j)];
                    *to = fmaf(seen.out[h][j], scale, w == 0 ? 0.0f : *to);
                }
            }
        }
        __syncthreads();
    }
    for (int h = warp; h < n_heads; h += WARPS) {
        float *const part = part_of(a, t, head0 + h, blockIdx.x);
        float max = -INFINITY, sum = 0;
        for (int w = 0; w < WARPS; w++) max = fmaxf(max, maxima[w][h]);
        for (int w = 0; w < WARPS; w++) {
            if (sums[w][h] != 0.0f) sum += sums[w][h] * expf(maxima[w][h] - max);
        }
        for (int i = lane; i < n; i += WARP) part[2 + i] = q[h * n + i];
        if (lane == 0) {
            part[0] = max;
            part[1] = sum;
        }
    }
}

// Block (128,), grid (n_split, n_kv_head ceil(group / TUG_CUDA_ATTN_HEADS), n_tok); per is
// head_dim / 32.
#define DECODE(per)                                              \
    TUG_KERNEL(tug_attn_decode_f16_##per, tug_cuda_attn, 128) {  \
        attn_decode<f16_cache, per>(a);                          \
    }                                                            \
    TUG_KERNEL(tug_attn_decode_q8_0_##per, tug_cuda_attn, 128) { \
        attn_decode<q8_0_cache, per>(a);                         \
    }
DECODE(1)
DECODE(2) DECODE(3) DECODE(4) DECODE(5) DECODE(6) DECODE(7) DECODE(8)

    // Block (head_dim,), grid (n_head, n_tok).
    TUG_KERNEL(tug_attn_join, tug_cuda_attn, TUG_CUDA_MAX_HEAD_DIM) {
    const int64_t t = blockIdx.y;
    const int head = blockIdx.x, i = threadIdx.x, n = a.s.head_dim;
    float max = -INFINITY, sum = 0, out = 0;
    for (int s = 0; s < a.n_split; s++) max = fmaxf(max, part_of(a, t, head, s)[0]);
    for (int s = 0; s < a.n_split; s++) {
        const float *const part = part_of(a, t, head, s);
        const float scale = expf(part[0] - max); // 0 of a part without rows
        sum = fmaf(scale, part[1], sum);
        out = fmaf(scale, part[2 + i], out);
    }
    const float gate = a.qkv[t * a.stride + (int64_t)head * 2 * n + n + i];
    a.out[(t * a.s.n_head + head) * n + i] = out / sum * sigmoid(gate);
}
