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
// lane.  scan keeps state, values and sums in registers; the blocks come to shared memory by
// cp.async, three steps ahead of their use and once for all warps.  It computes transposed,
// columns of the state by tokens, because sums then have the layout of the next left factor.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/halves.cuh"
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

// What meets one block of columns of the left factor: a block for each 16 tokens.
typedef block_t piece_t[T_BLOCKS];

// What a key head has in a chunk, of length UNIT; tokens that are not there are zeros.
struct keys_t {
    piece_t q[D_BLOCKS], k[D_BLOCKS]; // [columns][tokens]
    piece_t kt[D_BLOCKS];             // k transposed
};

struct alignas(16) gates_t {
    float beta[CHUNK], from_start[CHUNK], to_end[CHUNK]; // D(i), D(last, i)
};

// What a value head has; blocks above the diagonals are not written.
struct mixes_t {
    piece_t t[T_BLOCKS], m[T_BLOCKS]; // [columns][rows]
    gates_t gates;
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
    split_f16(s0[0], s0[1], x.hi[0], x.lo[0]);
    split_f16(s0[2], s0[3], x.hi[1], x.lo[1]);
    split_f16(s1[0], s1[1], x.hi[2], x.lo[2]);
    split_f16(s1[2], s1[3], x.hi[3], x.lo[3]);
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
        split_f16(get(row, column), get(row, column + 1), hi.w[i], lo.w[i]);
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
        write_block(to.q[c][r], r * SIDE, c * SIDE, plain);
    }
    __syncthreads();
    normalise_rows(rows, k, a.qkv_stride, n_tok);
    __syncthreads();
    for (int i = threadIdx.x / WARP; i < T_BLOCKS * D_BLOCKS; i += SPLIT_WARPS) {
        const int t = i / D_BLOCKS, d = i % D_BLOCKS;
        write_block(to.k[d][t], t * SIDE, d * SIDE, plain);
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
        to.gates.to_end[j] = d;
        to.gates.beta[j] = sh.beta[j];
    } else if (j == 0) {
        for (int i = 0; i < CHUNK; i++) to.gates.from_start[i] = d *= sh.decay[i];
    }
}

// Rows 16 warp .. of M to where they belong, of A to shared memory.
TUG_DEVICE void multiply_keys(mix_shared &sh, const keys_t &keys, mixes_t &to) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float kk[2 * T_BLOCKS][4] = {}, qk[2 * T_BLOCKS][4] = {};
#pragma unroll 1
    for (int d = 0; d < D_BLOCKS; d++) {
        const left_t q = left_of(keys.q[d][warp]), k = left_of(keys.k[d][warp]);
#pragma unroll
        for (int b = 0; b < T_BLOCKS; b++) {
            if (b > warp) break;
            multiply(qk[2 * b], qk[2 * b + 1], q, keys.k[d][b]);
            multiply(kk[2 * b], kk[2 * b + 1], k, keys.k[d][b]);
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
        to.m[b][warp].hi[lane] = words4{{m.hi[0], m.hi[2], m.hi[1], m.hi[3]}};
        to.m[b][warp].lo[lane] = words4{{m.lo[0], m.lo[2], m.lo[1], m.lo[3]}};
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
        write_block(to.t[b][warp], warp * SIDE, b * SIDE,
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

// The pieces of a chunk in the order of their use, and how many have a place in shared memory.
enum {
    K_PIECES = 0,
    T_PIECES = K_PIECES + D_BLOCKS,
    Q_PIECES = T_PIECES + T_BLOCKS,
    M_PIECES = Q_PIECES + D_BLOCKS,
    KT_PIECES = M_PIECES + T_BLOCKS,
    PIECES = KT_PIECES + D_BLOCKS,
    RING = 4,
    SCAN_THREADS = 2 * TUG_CUDA_DELTA_SCAN_COLS,
};
static_assert(PIECES % RING == 0, "a piece has the same place in every chunk");

struct scan_shared {
    piece_t ring[RING];
    gates_t gates[2]; // of even and odd chunks
};

// Copies of 16 bytes of pieces of matrices, by all threads.
TUG_DEVICE void copy_blocks(piece_t &to, const piece_t &from, int first) {
    enum { AT_ONCE = SCAN_THREADS * sizeof(words4) / sizeof(block_t) };
    const int block = threadIdx.x * AT_ONCE / SCAN_THREADS;
    const int i = threadIdx.x % (SCAN_THREADS / AT_ONCE);
#pragma unroll
    for (int b = block; b < T_BLOCKS; b += AT_ONCE) {
        if (b >= first)
            tug_cp_async16((words4 *)&to[b] + i, (const words4 *)&from[b] + i);
    }
}

// Begins to copy a piece; with the first of a chunk come its gates.  Pieces of T and M have
// no blocks above the diagonal.
TUG_DEVICE void begin_piece(scan_shared &sh, const tug_cuda_delta &a, int chunk,
                            int piece) {
    if (chunk * CHUNK < a.n_tok) {
        const int head = blockIdx.y;
        const keys_t &keys = *keys_of(a, chunk, head / (a.n_v_head / a.n_k_head));
        const mixes_t &mix = *mixes_of(a, chunk, head);
        piece_t &to = sh.ring[piece % RING];
        if (piece < T_PIECES) {
            copy_blocks(to, keys.k[piece], 0);
        } else if (piece < Q_PIECES) {
            copy_blocks(to, mix.t[piece - T_PIECES], piece - T_PIECES);
        } else if (piece < M_PIECES) {
            copy_blocks(to, keys.q[piece - Q_PIECES], 0);
        } else if (piece < KT_PIECES) {
            copy_blocks(to, mix.m[piece - M_PIECES], piece - M_PIECES);
        } else {
            copy_blocks(to, keys.kt[piece - KT_PIECES], 0);
        }
        const int i = threadIdx.x;
        if (piece == 0 && i < (int)(sizeof(gates_t) / sizeof(words4))) {
            tug_cp_async16((words4 *)&sh.gates[chunk % 2] + i,
                           (const words4 *)&mix.gates + i);
        }
    }
    tug_cp_commit();
}

// What a block of scan is at.
struct scan_t {
    scan_shared &sh;
    const tug_cuda_delta &a;
    int chunk;
    // A piece of the chunk, when all of it is there.  Where the one before was there is room
    // for a later one then.
    TUG_INLINE const piece_t &take(int piece) const {
        const int later = piece + RING - 1;
        tug_cp_wait<RING - 2>();
        __syncthreads();
        begin_piece(sh, a, chunk + later / PIECES, later % PIECES);
        return sh.ring[piece % RING];
    }
    // There with the first piece.
    TUG_INLINE const gates_t &gates() const { return sh.gates[chunk % 2]; }
};

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

// y = s^T of the rows whose pieces these are.
TUG_DEVICE void dots(tokens_t &y, const halves_t &s, const scan_t &at, int pieces) {
    for_values<2 * T_BLOCKS>([&](int n, int v) { y.x[n][v] = 0; });
#pragma unroll
    for (int d = 0; d < D_BLOCKS; d++) {
        const piece_t &rows = at.take(pieces + d);
#pragma unroll
        for (int t = 0; t < T_BLOCKS; t++) {
            multiply(y.x[2 * t], y.x[2 * t + 1], s.d[d], rows[t]);
        }
    }
}

// y += mix x: tokens get of those up to themselves.
TUG_DEVICE void add_mixed(tokens_t &y, const tokens_t &x, const scan_t &at, int pieces) {
#pragma unroll
    for (int from = 0; from < T_BLOCKS; from++) {
        const left_t left = left_of(x.x[2 * from], x.x[2 * from + 1]);
        const piece_t &mix = at.take(pieces + from);
#pragma unroll
        for (int t = from; t < T_BLOCKS; t++) {
            multiply(y.x[2 * t], y.x[2 * t + 1], left, mix[t]);
        }
    }
}

// s = back (decay s + k u^T).  What tensor cores add to is cut, not rounded: their sums begin
// with 0, and the state is rounded once a chunk.
TUG_DEVICE void advance(state_t &s, const halves_t &before, const tokens_t &u,
                        const scan_t &at, float decay, float back) {
    left_t left[T_BLOCKS];
#pragma unroll
    for (int t = 0; t < T_BLOCKS; t++) left[t] = left_of(u.x[2 * t], u.x[2 * t + 1]);
#pragma unroll
    for (int d = 0; d < D_BLOCKS; d++) {
        const piece_t &keys = at.take(KT_PIECES + d);
        float sum[2][4] = {};
#pragma unroll
        for (int t = 0; t < T_BLOCKS; t++) multiply(sum[0], sum[1], left[t], keys[t]);
        for_values<2>([&](int n, int v) {
            s.s[2 * d + n][v] =
                back * fmaf(decay, joined(before.d[d], n, v), sum[n][v] / UNIT);
        });
    }
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

TUG_DEVICE void scan_chunk(state_t &s, const scan_t &at) {
    const tug_cuda_delta &a = at.a;
    const int head = blockIdx.y, first = at.chunk * CHUNK, n_tok = a.n_tok - first;
    const gates_t &gates = at.gates();
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
    const float scale = scale_to(8, warp_max_bits(largest)), back = 1.0f / scale;
    halves_t halves;
    split_state(halves, s, scale);

    tokens_t x, u, y;
    dots(x, halves, at, K_PIECES);
    for_values<2 * T_BLOCKS>([&](int n, int i) {
        const int t = place_of(n, i);
        const float v = scale * value(n, i);
        x.x[n][i] = gates.beta[t] * (v - gates.from_start[t] * (x.x[n][i] / UNIT));
        u.x[n][i] = 0;
    });
    add_mixed(u, x, at, T_PIECES);
    for_values<2 * T_BLOCKS>([&](int n, int i) { u.x[n][i] /= UNIT; });

    dots(y, halves, at, Q_PIECES);
    for_values<2 * T_BLOCKS>(
        [&](int n, int i) { y.x[n][i] *= gates.from_start[place_of(n, i)]; });
    add_mixed(y, u, at, M_PIECES);
    const float out_scale = back / (UNIT * sqrtf((float)DIM));
    for_values<2 * T_BLOCKS>([&](int n, int i) {
        if (out.has(n, i)) out.at(n, i) = out_scale * y.x[n][i];
    });

    for_values<2 * T_BLOCKS>(
        [&](int n, int i) { u.x[n][i] *= gates.to_end[place_of(n, i)]; });
    advance(s, halves, u, at, gates.from_start[CHUNK - 1], back);
}

// Block (128,), grid (DIM / TUG_CUDA_DELTA_SCAN_COLS, n_v_head): a warp has 16 columns.
TUG_KERNEL(tug_delta_scan, tug_cuda_delta, SCAN_THREADS) {
    __shared__ scan_shared sh;
    float *const state = a.state + (int64_t)blockIdx.y * DIM * DIM;
    state_t s;
    for (int piece = 0; piece < RING - 1; piece++) begin_piece(sh, a, 0, piece);
    for_values<2 * D_BLOCKS>(
        [&](int n, int i) { s.s[n][i] = state[place_of(n, i) * DIM + column_of(i)]; });
#pragma unroll 1
    for (int chunk = 0; chunk * CHUNK < a.n_tok; chunk++) {
        scan_chunk(s, scan_t{sh, a, chunk});
    }
    for_values<2 * D_BLOCKS>(
        [&](int n, int i) { state[place_of(n, i) * DIM + column_of(i)] = s.s[n][i]; });
}
