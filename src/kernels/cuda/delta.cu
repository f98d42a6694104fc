// delta.cu - Gated DeltaNet between its projections: the short convolution, then L2 norms,
// gates, delta rule and gated norm in one kernel, for decode and prefill alike.
//
// A block is a value head.  Its state S (dk, dv) stays in registers from the first token to
// the last: four threads share a column, each with every fourth group of four rows, so that
// S^T k and S^T q are sums over registers and two shuffles.  q and k are read 16 bytes at a
// time from shared memory, where all columns find them.  The next token's inputs are loaded
// while this one is computed.  One barrier a token.  SPDX-License-Identifier: MIT
#include "kernels/cuda/device.cuh"

// ---- convolution ---------------------------------------------------------------------------

template <int width> TUG_DEVICE void conv(const tug_cuda_conv &a, int c) {
    const int past = width - 1, t0 = blockIdx.y * TUG_CUDA_CONV_TOKENS;
    const int t1 = min(t0 + TUG_CUDA_CONV_TOKENS, a.n_tok);
    float w[width], x[width]; // x: oldest first, the last one is the token's
#pragma unroll
    for (int i = 0; i < width; i++) w[i] = a.w[(int64_t)i * a.n_ch + c];
#pragma unroll
    for (int i = 0; i < past; i++) {
        const int t = t0 - past + i;
        x[i] =
            t < 0 ? a.state[(int64_t)(t + past) * a.n_ch + c] : a.x[t * a.x_stride + c];
    }
    for (int t = t0; t < t1; t++) {
        x[past] = a.x[t * a.x_stride + c];
        float sum = 0;
#pragma unroll
        for (int i = 0; i < width; i++) sum = fmaf(w[i], x[i], sum);
        a.y[t * a.y_stride + c] = silu(sum);
#pragma unroll
        for (int i = 0; i < past; i++) x[i] = x[i + 1];
    }
    if (gridDim.y > 1) return;
#pragma unroll
    for (int i = 0; i < past; i++) a.state[(int64_t)i * a.n_ch + c] = x[i];
}

// Block (128,), grid (ceil(n_ch / 128), ceil(n_tok / TUG_CUDA_CONV_TOKENS)).
TUG_KERNEL(tug_conv, tug_cuda_conv, 128) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= a.n_ch) return;
    switch (a.width) {
    case 2: conv<2>(a, c); break;
    case 3: conv<3>(a, c); break;
    case 4: conv<4>(a, c); break;
    case 5: conv<5>(a, c); break;
    case 6: conv<6>(a, c); break;
    case 7: conv<7>(a, c); break;
    default: conv<8>(a, c); break;
    }
}

// Block (128,), grid (ceil(n_ch / 128),): the state after n_tok > TUG_CUDA_CONV_TOKENS.
TUG_KERNEL(tug_conv_state, tug_cuda_conv, 128) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x, past = a.width - 1;
    if (c >= a.n_ch) return;
    for (int i = 0; i < past; i++) {
        a.state[(int64_t)i * a.n_ch + c] = a.x[(a.n_tok - past + i) * a.x_stride + c];
    }
}

// ---- the delta rule --------------------------------------------------------------------------

enum { PARTS = 4 /* threads of a column */, MAX_WARPS = 128 * PARTS / WARP };

// What is computed once for all columns, of two tokens in turn.
template <int dk> struct shared_t {
    float q[2][dk], k[2][dk]; // normalised
    float decay[2], beta[2];
    float squares[2][MAX_WARPS]; // of the outputs of a warp's columns
};

// One token's q, k, b and a on their way from global to shared memory: a warp has each.
template <int dk> struct incoming {
    enum { n = (dk + WARP - 1) / WARP };
    float q[n], k[n], b, a;
};

TUG_DEVICE bool has_job(int job) {
    return (int)threadIdx.x / WARP == job % ((int)blockDim.x / WARP);
}

template <int dk> TUG_DEVICE void load_vector(float *v, const float *from) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < incoming<dk>::n; i++) {
        v[i] = i * WARP + lane < dk ? from[i * WARP + lane] : 0.0f;
    }
}

template <int dk>
TUG_DEVICE void store_normalised(float *to, const float *v, float scale) {
    const int lane = threadIdx.x % WARP;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < incoming<dk>::n; i++) sum = fmaf(v[i], v[i], sum);
    const float r = scale / sqrtf(tug_warp_sum(sum) + 1e-6f);
#pragma unroll
    for (int i = 0; i < incoming<dk>::n; i++) {
        if (i * WARP + lane < dk) to[i * WARP + lane] = v[i] * r;
    }
}

template <int dk>
TUG_DEVICE void fetch(incoming<dk> &in, const tug_cuda_delta &a, int h, int64_t t) {
    const int r = a.n_v_head / a.n_k_head, g = h / r;
    const float *const qkv = a.qkv + t * a.qkv_stride;
    if (has_job(0)) load_vector<dk>(in.q, qkv + g * dk);
    if (has_job(1)) load_vector<dk>(in.k, qkv + (a.n_k_head + g) * dk);
    if (has_job(2)) {
        const float *const ba = a.ba + t * a.z_stride + g * 2 * r + h % r;
        in.b = ba[0];
        in.a = ba[r];
    }
}

template <int dk>
TUG_DEVICE void publish(shared_t<dk> &sh, int at, const incoming<dk> &in,
                        const tug_cuda_delta &a, int h) {
    if (has_job(0)) store_normalised<dk>(sh.q[at], in.q, 1.0f / sqrtf((float)dk));
    if (has_job(1)) store_normalised<dk>(sh.k[at], in.k, 1.0f);
    if (has_job(2) && threadIdx.x % WARP == 0) {
        sh.beta[at] = sigmoid(in.b);
        sh.decay[at] = expf(a.a_coef[h] * softplus(in.a + a.dt_bias[h]));
    }
}

// s: this thread's rows of its column, in the order of row(i).
template <int dk> struct column_t {
    float s[dk / PARTS];
    static TUG_INLINE int row(int i) {
        return 16 * (i / 4) + 4 * (threadIdx.x % PARTS) + i % 4;
    }
    // Sum over all rows of s[row] v[row].
    TUG_INLINE float dot(const float *v) const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < dk / PARTS; i++) sum = fmaf(s[i], v[row(i)], sum);
        return group_sum(sum, PARTS);
    }
    TUG_INLINE float step(const float *q, const float *k, float v, float decay,
                          float beta) {
        const float u = beta * (v - decay * dot(k));
        float sum = 0;
#pragma unroll
        for (int i = 0; i < dk / PARTS; i++) {
            s[i] = fmaf(k[row(i)], u, decay * s[i]);
            sum = fmaf(s[i], q[row(i)], sum);
        }
        return group_sum(sum, PARTS);
    }
};

// Sum over the columns, of which every thread brings its own.  Ends with a barrier.
TUG_DEVICE float sum_squares(float *partial, float out) {
    const int lane = threadIdx.x % WARP;
    const float mine = tug_warp_sum(lane % PARTS == 0 ? out * out : 0.0f);
    if (lane == 0) partial[threadIdx.x / WARP] = mine;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < (int)blockDim.x / WARP; i++) sum += partial[i];
    return sum;
}

template <int dk> TUG_DEVICE void delta(const tug_cuda_delta &a) {
    __shared__ __align__(16) shared_t<dk> sh;
    const int h = blockIdx.x, dv = a.dv, c = threadIdx.x / PARTS;
    const float *const values = a.qkv + 2 * a.n_k_head * dk + h * dv + c;
    const float *const z = a.z + h * dv + c;
    float *const state = a.state + (int64_t)h * dk * dv + c;
    float *const out = a.out + h * dv + c;
    const float weight = a.norm[c];

    column_t<dk> column;
#pragma unroll
    for (int i = 0; i < dk / PARTS; i++) {
        column.s[i] = state[(int64_t)column_t<dk>::row(i) * dv];
    }
    incoming<dk> in = {};
    fetch<dk>(in, a, h, 0);
    publish<dk>(sh, 0, in, a, h);
    float v = values[0], gate = z[0];
    __syncthreads();

    for (int64_t t = 0; t < a.n_tok; t++) {
        const int at = (int)(t % 2);
        const bool more = t + 1 < a.n_tok;
        float next_v = 0, next_gate = 0;
        if (more) {
            fetch<dk>(in, a, h, t + 1);
            next_v = values[(t + 1) * a.qkv_stride];
            next_gate = z[(t + 1) * a.z_stride];
        }
        const float o = column.step(sh.q[at], sh.k[at], v, sh.decay[at], sh.beta[at]);
        if (more) publish<dk>(sh, 1 - at, in, a, h);
        const float mean = sum_squares(sh.squares[at], o) / (float)dv;
        if (threadIdx.x % PARTS == 0) {
            out[t * a.n_v_head * dv] =
                o * (1.0f / sqrtf(mean + a.eps)) * weight * silu(gate);
        }
        v = next_v;
        gate = next_gate;
    }
#pragma unroll
    for (int i = 0; i < dk / PARTS; i++) {
        state[(int64_t)column_t<dk>::row(i) * dv] = column.s[i];
    }
}

// Block (4 dv,), grid (n_v_head,).
#define DELTA(dk)                                     \
    TUG_KERNEL(tug_delta_##dk, tug_cuda_delta, 512) { \
        delta<dk>(a);                                 \
    }
DELTA(16) DELTA(32) DELTA(64) DELTA(128)
