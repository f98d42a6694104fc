// attn_prefill.cu - attention of many tokens on tensor cores, without ever writing a score.
//
// A block has 64 queries of one kv head: its query heads of some tokens, side by side, so
// that a row of the cache meets all of them.  It walks over the cache 32 rows at a time:
// scores of a warp's 16 queries, their weights relative to the largest score so far, the
// weighted sum of the values, all in registers.  While scores are computed the values come
// in, while values are added up the next keys.
//
// Queries, weights and what is left of the cache's values are f16 in the multiplications,
// sums are f32.  SPDX-License-Identifier: MIT
#include "kernels/cuda/cache.cuh"

enum {
    QUERIES = TUG_CUDA_ATTN_QUERIES,
    KV_ROWS = TUG_CUDA_ATTN_KV_ROWS,
    THREADS = 128,
    S_TILES = KV_ROWS / 8, // of 8 cache rows
};

// Rows of n f16 in shared memory: a multiple of 32 and 8 more, so that the 8 rows that
// ldmatrix takes at a time lie in different banks.
template <int n> struct rows_t {
    enum { pitch = n + TUG_CUDA_ATTN_PAD };
    static TUG_INLINE uint16_t *at(uint16_t *rows, int row, int i) {
        return rows + row * pitch + i;
    }
};

// Rows [first, first + KV_ROWS) of a cache, of which n_rows exist, as f16; zeros behind them.
template <class cache, int n>
TUG_DEVICE void bring_rows(uint16_t *to, const uint8_t *from, int64_t row_bytes,
                           int64_t first, int64_t n_rows) {
    for (int i = threadIdx.x; i < KV_ROWS * n / 8; i += THREADS) {
        const int r = i / (n / 8), c = i % (n / 8) * 8;
        uint16_t *const dst = rows_t<n>::at(to, r, c);
        const bool there = first + r < n_rows;
        cache::bring_8(dst, from + (there ? first + r : 0) * row_bytes, c, there);
    }
    tug_cp_commit();
}

// The queries of a block: which token, which head, and how many rows of the cache it sees.
struct queries_t {
    int64_t first, n; // of all n_tok group queries of this kv head
    int group, head0;
    TUG_INLINE int64_t token(int i) const { return (first + i) / group; }
    TUG_INLINE int head(int i) const { return head0 + (int)((first + i) % group); }
    TUG_INLINE bool exists(int i) const { return first + i < n; }
};

// What a warp keeps of its 16 queries; a lane has rows lane / 4 and lane / 4 + 8 of them.
template <int n> struct state_t {
    float out[n / 8][4];
    float max[2], sum[2]; // sum: of this lane's columns only
};

// s (16 queries, KV_ROWS) = q k.
template <int n> TUG_DEVICE void scores(float s[S_TILES][4], uint16_t *q, uint16_t *k) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
    for (int i = 0; i < S_TILES; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) s[i][j] = 0;
    }
#pragma unroll 4
    for (int d = 0; d < n; d += 16) {
        uint32_t a[4];
        tug_ldmatrix4(a, rows_t<n>::at(q, warp * 16 + lane % 16, d + lane / 16 * 8));
#pragma unroll
        for (int i = 0; i < S_TILES; i += 2) {
            uint32_t b[4];
            const int row = 8 * i + lane % 8 + lane / 16 * 8;
            tug_ldmatrix4(b, rows_t<n>::at(k, row, d + lane / 8 % 2 * 8));
            tug_mma_f16(s[i], a, b);
            tug_mma_f16(s[i + 1], a, b + 2);
        }
    }
}

// Scores to weights: those of rows at or beyond limit[] become 0, older sums shrink.
// unit: scale log2(e).
template <int n>
TUG_DEVICE void weigh(state_t<n> &st, float s[S_TILES][4], const int64_t limit[2],
                      int64_t first, float unit) {
    float max[2] = {st.max[0], st.max[1]}, shrink[2];
#pragma unroll
    for (int i = 0; i < S_TILES; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int64_t row = first + 8 * i + 2 * (threadIdx.x % 4) + j % 2;
            s[i][j] = row < limit[j / 2] ? s[i][j] * unit : -INFINITY;
            max[j / 2] = fmaxf(max[j / 2], s[i][j]);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        max[h] = fmaxf(max[h], __shfl_xor_sync(FULL_WARP, max[h], 1));
        max[h] = fmaxf(max[h], __shfl_xor_sync(FULL_WARP, max[h], 2));
        if (max[h] == -INFINITY) max[h] = 0; // nothing seen yet
        shrink[h] = tug_exp2(st.max[h] - max[h]);
        st.max[h] = max[h];
        st.sum[h] *= shrink[h];
    }
#pragma unroll
    for (int i = 0; i < S_TILES; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[i][j] = tug_exp2(s[i][j] - max[j / 2]);
            st.sum[j / 2] += s[i][j];
        }
    }
#pragma unroll
    for (int i = 0; i < n / 8; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) st.out[i][j] *= shrink[j / 2];
    }
}

// out += weights v.  The sums' layout is also that of the left factor.
template <int n>
TUG_DEVICE void add_values(state_t<n> &st, const float s[S_TILES][4], uint16_t *v) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < S_TILES; i += 2) {
        const uint32_t a[4] = {tug_to_f16x2(s[i][0], s[i][1]),
                               tug_to_f16x2(s[i][2], s[i][3]),
                               tug_to_f16x2(s[i + 1][0], s[i + 1][1]),
                               tug_to_f16x2(s[i + 1][2], s[i + 1][3])};
#pragma unroll
        for (int d = 0; d < n / 8; d += 2) {
            uint32_t b[4];
            const int row = 8 * i + lane % 16;
            tug_ldmatrix4_trans(b, rows_t<n>::at(v, row, 8 * d + lane / 16 * 8));
            tug_mma_f16(st.out[d], a, b);
            tug_mma_f16(st.out[d + 1], a, b + 2);
        }
    }
}

// Times sigmoid(gate), to where the head's output is.
template <int n>
TUG_DEVICE void write_outputs(const tug_cuda_attn &a, const queries_t &qs,
                              const state_t<n> &st) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float sum = group_sum(st.sum[h], 4);
        const int i = threadIdx.x / WARP * 16 + lane / 4 + 8 * h;
        if (!qs.exists(i)) continue;
        const int64_t t = qs.token(i), head = qs.head(i);
        const float *const gate = a.qkv + t * a.stride + (2 * head + 1) * n;
        float *const out = a.out + (t * a.s.n_head + head) * n;
#pragma unroll
        for (int d = 0; d < n / 8; d++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int at = 8 * d + 2 * (lane % 4) + j;
                out[at] = st.out[d][2 * h + j] / sum * sigmoid(gate[at]);
            }
        }
    }
}

template <class cache, int n> TUG_DEVICE void attn_prefill(const tug_cuda_attn &a) {
    TUG_DYNAMIC_SHARED(uint16_t, q);
    uint16_t *const k = q + QUERIES * rows_t<n>::pitch;
    uint16_t *const v = k + KV_ROWS * rows_t<n>::pitch;
    const int group = a.s.n_head / a.s.n_kv_head, kv_head = blockIdx.y;
    // The last tokens see most rows: they begin first.
    const queries_t qs = {(int64_t)(gridDim.x - 1 - blockIdx.x) * QUERIES,
                          (int64_t)a.n_tok * group, group, kv_head * group};
    for (int i = threadIdx.x; i < QUERIES * n / 2; i += THREADS) {
        const int row = i / (n / 2), d = i % (n / 2) * 2;
        const float *const from =
            a.qkv +
            (qs.exists(row) ? qs.token(row) * a.stride + 2 * qs.head(row) * n : 0);
        *(uint32_t *)rows_t<n>::at(q, row, d) =
            qs.exists(row) ? tug_to_f16x2(from[d], from[d + 1]) : 0;
    }

    const int64_t pos = *a.pos, head_bytes = a.kv.n_rows * a.kv.row_bytes;
    const int64_t last = qs.first + QUERIES < qs.n ? qs.first + QUERIES : qs.n;
    const int64_t n_rows = pos + (last - 1) / group + 1;
    int64_t limit[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int i = threadIdx.x / WARP * 16 + threadIdx.x % WARP / 4 + 8 * h;
        limit[h] = qs.exists(i) ? pos + qs.token(i) + 1 : 0;
    }
    const uint8_t *const keys = (const uint8_t *)a.kv.k + kv_head * head_bytes;
    const uint8_t *const values = (const uint8_t *)a.kv.v + kv_head * head_bytes;
    const float unit = a.scale * 1.44269504f;
    state_t<n> st = {{}, {-INFINITY, -INFINITY}, {}};

    bring_rows<cache, n>(k, keys, a.kv.row_bytes, 0, n_rows);
    for (int64_t first = 0; first < n_rows; first += KV_ROWS) {
        float s[S_TILES][4];
        tug_cp_wait<0>();
        __syncthreads(); // keys are there, values of the round before are used up
        bring_rows<cache, n>(v, values, a.kv.row_bytes, first, n_rows);
        scores<n>(s, q, k);
        weigh<n>(st, s, limit, first, unit);
        tug_cp_wait<0>();
        __syncthreads(); // values are there, keys are used up
        if (first + KV_ROWS < n_rows) {
            bring_rows<cache, n>(k, keys, a.kv.row_bytes, first + KV_ROWS, n_rows);
        }
        add_values<n>(st, s, v);
    }
    write_outputs<n>(a, qs, st);
}

// Block (128,), grid (ceil(n_tok group / TUG_CUDA_ATTN_QUERIES), n_kv_head), dynamic shared
// memory for that many queries, keys and values; per is head_dim / 32.
#define PREFILL(per)                                                  \
    TUG_KERNEL(tug_attn_prefill_f16_##per, tug_cuda_attn, THREADS) {  \
        attn_prefill<f16_cache, 32 * per>(a);                         \
    }                                                                 \
    TUG_KERNEL(tug_attn_prefill_q8_0_##per, tug_cuda_attn, THREADS) { \
        attn_prefill<q8_0_cache, 32 * per>(a);                        \
    }
PREFILL(1) PREFILL(2) PREFILL(3) PREFILL(4) PREFILL(5) PREFILL(6) PREFILL(7) PREFILL(8)
