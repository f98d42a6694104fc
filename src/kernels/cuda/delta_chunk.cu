// delta_chunk.cu - the delta rule of many tokens, 64 at a time, as products of matrices.
//
// Unrolled over the tokens i of a chunk that begins in state S, with D(i, j) the product of
// the decays of tokens j + 1 .. i, and D(i) of all up to i, the recurrence is
//
//     u_i   = sum over j <= i of T[i][j] beta_j (v_j - D(j) S^T k_j)
//     out_i = D(i) S^T q_i + sum over j <= i of M[i][j] u_j
//     S'    = D(last) S + sum over j of k_j (D(last, j) u_j)^T
//     T = (1 + A)^-1,  A[i][j] = beta_i D(i, j) (k_i . k_j), j < i,  M[i][j] = D(i, j) (q_i . k_j)
//
// T and M know nothing of the state, so all chunks make theirs at once (split, mix); only scan
// goes from chunk to chunk.  Decays are multiplied up and never divided: a chunk may forget
// everything.
//
// Precision: a factor is two f16, x = hi + lo, which keeps 22 bits; three of the four products
// are made, sums are f32.  q (here without its 1 / sqrt(dk)), k, T and M are at most 1: they are
// kept 64 times as large, so that lo is no subnormal f16.  The state and the values
// can be anything: scan multiplies them by a power of two that puts the largest at 2^8, where
// |u| <= 77 times that is still an f16.  The state is two f16 too, but the recurrence rounds it
// 64 times where this does once.
//
// Everything is cut in blocks of 16 x 16 that lie as matrix instructions want them, 16 bytes a
// lane: scan reads them from L2 and keeps state, values and sums in registers.  It computes transposed, columns of the state by tokens, because sums then
// have the layout of the next left factor.  SPDX-License-Identifier: MIT
#include "kernels/cuda/words.cuh"

enum {
    CHUNK = TUG_CUDA_DELTA_CHUNK,
    DIM = TUG_CUDA_DELTA_DIM,
    SIDE = 16, // of a block
    T_BLOCKS = CHUNK / SIDE,
    D_BLOCKS = DIM / SIDE,
};

static constexpr float UNIT = 64; // what is 1 in a block

// A part X of a matrix, (16, 16): lane 4g + t has rows g and g + 8, of each columns 2t, 2t + 1
// and 8 + 2t, 9 + 2t.  As a right factor it is X^T.
struct block_t {
    words4 hi[WARP], lo[WARP];
};

// What a key head has in a chunk, of length UNIT; tokens that are not there are zeros.
struct keys_t {
    block_t q[T_BLOCKS][D_BLOCKS], k[T_BLOCKS][D_BLOCKS];
    block_t kt[D_BLOCKS][T_BLOCKS]; // k transposed
};

// What a value head has; blocks above the diagonals are not written.
struct mixes_t {
    block_t t[T_BLOCKS][T_BLOCKS], m[T_BLOCKS][T_BLOCKS];
    float beta[CHUNK], from_start[CHUNK], to_end[CHUNK]; // D(i), D(last, i)
};
static_assert(sizeof(keys_t) == TUG_CUDA_DELTA_KEYS, "args.h");
static_assert(sizeof(mixes_t) == TUG_CUDA_DELTA_MIXES, "args.h");

TUG_DEVICE keys_t *keys_of(const tug_cuda_delta &a, int chunk, int key_head) {
    return (keys_t *)a.work + (int64_t)chunk * a.n_k_head + key_head;
}

TUG_DEVICE mixes_t *mixes_of(const tug_cuda_delta &a, int chunk, int head) {
    const int64_t n_chunk = (a.n_tok + CHUNK - 1) / CHUNK;
    mixes_t *const mixes = (mixes_t *)((keys_t *)a.work + n_chunk * a.n_k_head);
    return mixes + (int64_t)chunk * a.n_v_head + head;
}

// ---- factors of two f16 --------------------------------------------------------------------

// The nearest with 11 bits, which an f16 then holds as it is.
TUG_DEVICE float to_11_bits(float x) {
    return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xFFFFE000u);
}

TUG_DEVICE void split(float x0, float x1, uint32_t &hi, uint32_t &lo) {
    const float h0 = to_11_bits(x0), h1 = to_11_bits(x1);
    hi = tug_to_f16x2(h0, h1);
    lo = tug_to_f16x2(x0 - h0, x1 - h1);
}

// A left factor (16, 16), in the order of the instruction.
struct left_t {
    uint32_t hi[4], lo[4];
};

TUG_DEVICE left_t left_of(const block_t &b) {
    const words4 hi = b.hi[threadIdx.x % WARP], lo = b.lo[threadIdx.x % WARP];
    return left_t{{hi.w[0], hi.w[2], hi.w[1], hi.w[3]},
                  {lo.w[0], lo.w[2], lo.w[1], lo.w[3]}};
}

// Of sums: two fragments (16, 8) beside each other.
TUG_DEVICE left_t left_of(const float s0[4], const float s1[4]) {
    left_t x;
    split(s0[0], s0[1], x.hi[0], x.lo[0]);
    split(s0[2], s0[3], x.hi[1], x.lo[1]);
    split(s1[0], s1[1], x.hi[2], x.lo[2]);
    split(s1[2], s1[3], x.hi[3], x.lo[3]);
    return x;
}

// (d0 d1) += x b^T, small products first.
TUG_DEVICE void multiply(float d0[4], float d1[4], const left_t &x, const block_t &b) {
    const words4 hi = b.hi[threadIdx.x % WARP], lo = b.lo[threadIdx.x % WARP];
    tug_mma_f16(d0, x.lo, hi.w);
    tug_mma_f16(d1, x.lo, hi.w + 2);
    tug_mma_f16(d0, x.hi, lo.w);
    tug_mma_f16(d1, x.hi, lo.w + 2);
    tug_mma_f16(d0, x.hi, hi.w);
    tug_mma_f16(d1, x.hi, hi.w + 2);
}

// Writes the block at (row0, column0) of get(row, column), by one warp.
template <class Get>
TUG_DEVICE void write_block(block_t &b, int row0, int column0, Get get) {
    const int lane = threadIdx.x % WARP, r = row0 + lane / 4,
              c = column0 + 2 * (lane % 4);
    words4 hi, lo;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = r + i / 2 * 8, column = c + i % 2 * 8;
        split(get(row, column), get(row, column + 1), hi.w[i], lo.w[i]);
    }
    b.hi[lane] = hi;
    b.lo[lane] = lo;
}

// ---- split: q and k of a key head ------------------------------------------------------------

enum { SPLIT_WARPS = 8 };

typedef float rows_t[CHUNK][DIM + 4];

// to[i] = token i, UNIT long; a warp takes a token.
TUG_DEVICE void normalise_rows(rows_t &to, const float *from, int64_t stride, int n_tok) {
    enum { EACH = DIM / WARP };
    const int lane = threadIdx.x % WARP;
    for (int i = threadIdx.x / WARP; i < CHUNK; i += SPLIT_WARPS) {
        float v[EACH], sum = 0;
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            v[j] = i < n_tok ? from[i * stride + j * WARP + lane] : 0.0f;
            sum = fmaf(v[j], v[j], sum);
        }
        const float r = UNIT / sqrtf(tug_warp_sum(sum) + 1e-6f);
#pragma unroll
        for (int j = 0; j < EACH; j++) to[i][j * WARP + lane] = v[j] * r;
    }
}

// Block (256,), grid (chunks, n_k_head).
TUG_KERNEL(tug_delta_split, tug_cuda_delta, SPLIT_WARPS *WARP) {
    __shared__ rows_t rows;
    const int first = blockIdx.x * CHUNK, n_tok = a.n_tok - first, head = blockIdx.y;
    const float *const q = a.qkv + first * a.qkv_stride + head * DIM;
    const float *const k = q + a.n_k_head * DIM;
    keys_t &to = *keys_of(a, blockIdx.x, head);
    const auto plain = [&](int row, int column) { return rows[row][column]; };
    const auto transposed = [&](int row, int column) { return rows[column][row]; };

    normalise_rows(rows, q, a.qkv_stride, n_tok);
    __syncthreads();
    for (int i = threadIdx.x / WARP; i < T_BLOCKS * D_BLOCKS; i += SPLIT_WARPS) {
        const int r = i / D_BLOCKS, c = i % D_BLOCKS;
        write_block(to.q[r][c], r * SIDE, c * SIDE, plain);
    }
    __syncthreads();
    normalise_rows(rows, k, a.qkv_stride, n_tok);
    __syncthreads();
    for (int i = threadIdx.x / WARP; i < T_BLOCKS * D_BLOCKS; i += SPLIT_WARPS) {
        const int t = i / D_BLOCKS, d = i % D_BLOCKS;
        write_block(to.k[t][d], t * SIDE, d * SIDE, plain);
        write_block(to.kt[d][t], d * SIDE, t * SIDE, transposed);
    }
}

// ---- mix: T and M of a value head --------------------------------------------------------------

enum { MIX_WARPS = T_BLOCKS };

struct mix_shared {
    float decay[CHUNK], beta[CHUNK];
    float a[CHUNK][CHUNK + 1]; // D, and then A; above the diagonal nothing
    float t[CHUNK][CHUNK + 1];
};

// A token that is not there forgets nothing and adds nothing.
TUG_DEVICE void find_gates(mix_shared &sh, const tug_cuda_delta &a) {
    const int i = threadIdx.x, h = blockIdx.y, r = a.n_v_head / a.n_k_head;
    const int64_t token = (int64_t)blockIdx.x * CHUNK + i;
    if (i >= CHUNK) return;
    const float *const ba = a.ba + token * a.z_stride + h / r * 2 * r + h % r;
    const bool there = token < a.n_tok;
    sh.beta[i] = there ? sigmoid(ba[0]) : 0.0f;
    sh.decay[i] = there ? expf(a.a_coef[h] * softplus(ba[r] + a.dt_bias[h])) : 1.0f;
}

TUG_DEVICE void multiply_decays(mix_shared &sh, mixes_t &to) {
    const int j = threadIdx.x % CHUNK;
    float d = 1;
    if ((int)threadIdx.x < CHUNK) { // D(i, j)
        for (int i = j; i < CHUNK; i++) {
            if (i > j) d *= sh.decay[i];
            sh.a[i][j] = d;
        }
        to.to_end[j] = d;
        to.beta[j] = sh.beta[j];
    } else if (j == 0) {
        for (int i = 0; i < CHUNK; i++) to.from_start[i] = d *= sh.decay[i];
    }
}

// Rows 16 warp .. of M to where they belong, of A to shared memory.
TUG_DEVICE void multiply_keys(mix_shared &sh, const keys_t &keys, mixes_t &to) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float kk[2 * T_BLOCKS][4] = {}, qk[2 * T_BLOCKS][4] = {};
#pragma unroll 1
    for (int d = 0; d < D_BLOCKS; d++) {
        const left_t q = left_of(keys.q[warp][d]), k = left_of(keys.k[warp][d]);
#pragma unroll
        for (int b = 0; b < T_BLOCKS; b++) {
            if (b > warp) break;
            multiply(qk[2 * b], qk[2 * b + 1], q, keys.k[b][d]);
            multiply(kk[2 * b], kk[2 * b + 1], k, keys.k[b][d]);
        }
    }
#pragma unroll
    for (int b = 0; b < T_BLOCKS; b++) {
        if (b > warp) break;
#pragma unroll
        for (int n = 2 * b; n < 2 * b + 2; n++) {
#pragma unroll
            for (int v = 0; v < 4; v++) {
                const int i = SIDE * warp + lane / 4 + v / 2 * 8;
                const int j = 8 * n + 2 * (lane % 4) + v % 2;
                float *const at = &sh.a[i][j];
                qk[n][v] = j <= i ? *at * (qk[n][v] / UNIT) : 0.0f;
                if (j < i) *at *= sh.beta[i] * (kk[n][v] / (UNIT * UNIT));
            }
        }
        const left_t m = left_of(qk[2 * b], qk[2 * b + 1]);
        to.m[warp][b].hi[lane] = words4{{m.hi[0], m.hi[2], m.hi[1], m.hi[3]}};
        to.m[warp][b].lo[lane] = words4{{m.lo[0], m.lo[2], m.lo[1], m.lo[3]}};
    }
}

// t = (1 + a)^-1, row after row: two threads have a column.
TUG_DEVICE void invert(mix_shared &sh) {
    const int c = threadIdx.x / 2, half = threadIdx.x % 2;
    for (int i = 0; i < CHUNK; i++) {
        float sum = 0;
        for (int j = c + half; j < i; j += 2) sum = fmaf(sh.a[i][j], sh.t[j][c], sum);
        sum = group_sum(sum, 2);
        if (half == 0) sh.t[i][c] = i < c ? 0.0f : i == c ? 1.0f : -sum;
        __syncwarp();
    }
}

// Block (128,), grid (chunks, n_v_head): a warp has 16 rows.
TUG_KERNEL(tug_delta_mix, tug_cuda_delta, MIX_WARPS *WARP) {
    __shared__ mix_shared sh;
    const int group = a.n_v_head / a.n_k_head, warp = threadIdx.x / WARP;
    mixes_t &to = *mixes_of(a, blockIdx.x, blockIdx.y);
    find_gates(sh, a);
    __syncthreads();
    multiply_decays(sh, to);
    __syncthreads();
    multiply_keys(sh, *keys_of(a, blockIdx.x, blockIdx.y / group), to);
    __syncthreads();
    invert(sh);
    __syncthreads();
    for (int b = 0; b <= warp; b++) {
        write_block(to.t[warp][b], warp * SIDE, b * SIDE,
                    [&](int row, int column) { return UNIT * sh.t[row][column]; });
    }
}

// ---- scan: from chunk to chunk -------------------------------------------------------------------

// Of a warp's 16 columns, rows of the fragments, by all rows of the state or all tokens of a
// chunk, their columns: a lane has columns g, g + 8 (values 0, 1 and 2, 3) of the state, and
// of fragment n tokens 8n + 2t, 8n + 2t + 1.
struct state_t {
    float s[2 * D_BLOCKS][4];
};
struct halves_t { // of the state, during a chunk
    left_t d[D_BLOCKS];
};
struct tokens_t {
    float x[2 * T_BLOCKS][4];
};

TUG_DEVICE int column_of(int value) {
    const int warp = blockIdx.x * blockDim.x + threadIdx.x;
    return warp / WARP * SIDE + threadIdx.x % WARP / 4 + value / 2 * 8;
}
TUG_DEVICE int place_of(int n, int value) {
    return 8 * n + 2 * (threadIdx.x % 4) + value % 2;
}

// Calls f(fragment, value) for all of N fragments.
template <int N, class F> TUG_DEVICE void for_values(F f) {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int v = 0; v < 4; v++) f(n, v);
    }
}

// The warps of a block read the same blocks: what one has read the others find in L1, if they
// do not drift apart.
TUG_DEVICE void in_step() {
    __syncthreads();
}

TUG_DEVICE void split_state(halves_t &h, const state_t &s, float scale) {
#pragma unroll
    for (int d = 0; d < D_BLOCKS; d++) {
        float x[2][4];
        for_values<2>([&](int n, int v) { x[n][v] = scale * s.s[2 * d + n][v]; });
        h.d[d] = left_of(x[0], x[1]);
    }
}

// Value v of fragment n of a left factor.  Taken apart again: the compiler would else keep every
// half apart since it was made, in registers that there are not.
TUG_DEVICE float joined(const left_t &x, int n, int v) {
    uint32_t hi = x.hi[2 * n + v / 2], lo = x.lo[2 * n + v / 2];
    asm volatile("" : "+r"(hi), "+r"(lo));
    const int shift = 16 * (v % 2);
    return tug_f16((uint16_t)(hi >> shift)) + tug_f16((uint16_t)(lo >> shift));
}

// y = s^T of the rows of `rows`.
TUG_DEVICE void dots(tokens_t &y, const halves_t &s,
                     const block_t rows[T_BLOCKS][D_BLOCKS]) {
    for_values<2 * T_BLOCKS>([&](int n, int v) { y.x[n][v] = 0; });
#pragma unroll
    for (int d = 0; d < D_BLOCKS; d++) {
#pragma unroll
        for (int t = 0; t < T_BLOCKS; t++) {
            multiply(y.x[2 * t], y.x[2 * t + 1], s.d[d], rows[t][d]);
        }
        if (d % 2) in_step();
    }
}

// y += mix x: tokens get of those up to themselves.
TUG_DEVICE void add_mixed(tokens_t &y, const tokens_t &x,
                          const block_t mix[T_BLOCKS][T_BLOCKS]) {
#pragma unroll
    for (int from = 0; from < T_BLOCKS; from++) {
        const left_t left = left_of(x.x[2 * from], x.x[2 * from + 1]);
#pragma unroll
        for (int t = from; t < T_BLOCKS; t++) {
            multiply(y.x[2 * t], y.x[2 * t + 1], left, mix[t][from]);
        }
        if (from % 2) in_step();
    }
}

// s = back (decay s + k u^T).  What tensor cores add to is cut, not rounded: their sums begin
// with 0, and the state is rounded once a chunk.
TUG_DEVICE void advance(state_t &s, const halves_t &before, const tokens_t &u,
                        const keys_t &keys, float decay, float back) {
    left_t left[T_BLOCKS];
#pragma unroll
    for (int t = 0; t < T_BLOCKS; t++) left[t] = left_of(u.x[2 * t], u.x[2 * t + 1]);
#pragma unroll
    for (int d = 0; d < D_BLOCKS; d++) {
        float sum[2][4] = {};
#pragma unroll
        for (int t = 0; t < T_BLOCKS; t++) {
            multiply(sum[0], sum[1], left[t], keys.kt[d][t]);
        }
        for_values<2>([&](int n, int v) {
            s.s[2 * d + n][v] =
                back * fmaf(decay, joined(before.d[d], n, v), sum[n][v] / UNIT);
        });
        if (d % 2) in_step();
    }
}

// A power of two that brings the largest of a warp's values to 2^8 .. 2^9, if floats go so far.
TUG_DEVICE float scale_for(float largest) {
    const int exponent = (int)(warp_max_bits(largest) >> 23);
    return __uint_as_float((uint32_t)min(max(262 - exponent, 1), 253) << 23);
}

TUG_DEVICE float larger(float a, float b) {
    return fabsf(b) <= a ? a : fabsf(b); // NaN stays
}

// Where a lane's tokens of a chunk are, in rows of `stride`: what differs between lanes is in
// the pointer, so that the offsets are the same for all and cost no registers.
template <class T> struct token_rows {
    T *lane;
    int64_t stride;
    int left; // tokens from this lane's first one on
    TUG_INLINE token_rows(T *first, int64_t row, int n_tok)
        : lane(first + place_of(0, 0) * row + column_of(0)), stride(row),
          left(n_tok - place_of(0, 0)) {}
    TUG_INLINE bool has(int n, int v) const { return 8 * n + v % 2 < left; }
    TUG_INLINE T &at(int n, int v) const {
        return lane[(8 * n + v % 2) * stride + v / 2 * 8];
    }
};

TUG_DEVICE void scan_chunk(state_t &s, const tug_cuda_delta &a, int chunk) {
    const int head = blockIdx.y, first = chunk * CHUNK, n_tok = a.n_tok - first;
    const keys_t &keys = *keys_of(a, chunk, head / (a.n_v_head / a.n_k_head));
    const mixes_t &mix = *mixes_of(a, chunk, head);
    const float *const v0 = a.qkv + first * a.qkv_stride + (2 * a.n_k_head + head) * DIM;
    float *const out0 = a.out + ((int64_t)first * a.n_v_head + head) * DIM;
    const token_rows<const float> values(v0, a.qkv_stride, n_tok);
    const token_rows<float> out(out0, (int64_t)a.n_v_head * DIM, n_tok);
    const auto value = [&](int n, int i) {
        return values.has(n, i) ? values.at(n, i) : 0.0f;
    };

    float largest = 0;
    for_values<2 * T_BLOCKS>(
        [&](int n, int i) { largest = larger(largest, value(n, i)); });
    for_values<2 * D_BLOCKS>([&](int n, int i) { largest = larger(largest, s.s[n][i]); });
    const float scale = scale_for(largest), back = 1.0f / scale;
    halves_t halves;
    split_state(halves, s, scale);

    tokens_t x, u, y;
    dots(x, halves, keys.k);
    for_values<2 * T_BLOCKS>([&](int n, int i) {
        const int t = place_of(n, i);
        const float v = scale * value(n, i);
        x.x[n][i] = mix.beta[t] * (v - mix.from_start[t] * (x.x[n][i] / UNIT));
        u.x[n][i] = 0;
    });
    add_mixed(u, x, mix.t);
    for_values<2 * T_BLOCKS>([&](int n, int i) { u.x[n][i] /= UNIT; });

    dots(y, halves, keys.q);
    for_values<2 * T_BLOCKS>(
        [&](int n, int i) { y.x[n][i] *= mix.from_start[place_of(n, i)]; });
    add_mixed(y, u, mix.m);
    const float out_scale = back / (UNIT * sqrtf((float)DIM));
    for_values<2 * T_BLOCKS>([&](int n, int i) {
        if (out.has(n, i)) out.at(n, i) = out_scale * y.x[n][i];
    });

    for_values<2 * T_BLOCKS>(
        [&](int n, int i) { u.x[n][i] *= mix.to_end[place_of(n, i)]; });
    advance(s, halves, u, keys, mix.from_start[CHUNK - 1], back);
}

// Block (128,), grid (DIM / TUG_CUDA_DELTA_SCAN_COLS, n_v_head): a warp has 16 columns.
TUG_KERNEL(tug_delta_scan, tug_cuda_delta, 2 * TUG_CUDA_DELTA_SCAN_COLS) {
    float *const state = a.state + (int64_t)blockIdx.y * DIM * DIM;
    state_t s;
    for_values<2 * D_BLOCKS>(
        [&](int n, int i) { s.s[n][i] = state[place_of(n, i) * DIM + column_of(i)]; });
#pragma unroll 1
    for (int chunk = 0; chunk * CHUNK < a.n_tok; chunk++) scan_chunk(s, a, chunk);
    for_values<2 * D_BLOCKS>(
        [&](int n, int i) { state[place_of(n, i) * DIM + column_of(i)] = s.s[n][i]; });
}
