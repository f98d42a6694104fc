// route.cu - which experts a token uses, and pairs sorted by expert.
//
// tug_route: a warp a token, its logits in registers as keys that order like the router's
// rule: NaN below every number, equal values by the smaller index.  k rounds of taking the
// largest.  SPDX-License-Identifier: MIT
#include "kernels/cuda/device.cuh"

#include "kernels/cuda/args.h"

enum { TAKEN = 0, KEYS = TUG_CUDA_MAX_EXPERTS / WARP, MAX_K = 64 };

typedef struct best_t {
    uint32_t key;
    int id;
} best_t;

TUG_DEVICE best_t better(best_t x, uint32_t key, int id) {
    if (key > x.key || (key == x.key && id < x.id)) return best_t{key, id};
    return x;
}

// Block (32,), grid (n_tok,).
TUG_KERNEL(tug_route, tug_cuda_route, WARP) {
    __shared__ int chosen[MAX_K];
    const int lane = threadIdx.x;
    const float *const logits = a.logits + (int64_t)blockIdx.x * a.n_expert;
    uint32_t keys[KEYS];
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
        const int id = i * WARP + lane;
        keys[i] = id < a.n_expert ? order_key(logits[id]) : TAKEN;
    }
    float max = 0;
    for (int round = 0; round < a.k; round++) {
        best_t best = {TAKEN, TUG_CUDA_MAX_EXPERTS};
#pragma unroll
        for (int i = 0; i < KEYS; i++) best = better(best, keys[i], i * WARP + lane);
        for (int off = WARP / 2; off > 0; off /= 2) {
            const uint32_t key = __shfl_xor_sync(FULL_WARP, best.key, off);
            const int id = __shfl_xor_sync(FULL_WARP, best.id, off);
            best = better(best, key, id);
        }
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            if (i * WARP + lane == best.id) keys[i] = TAKEN;
        }
        if (lane == 0) chosen[round] = best.id;
        if (round == 0) max = logits[best.id];
    }
    __syncwarp();

    // In increasing order of index, and the softmax among them.
    float sum = 0;
    for (int i = lane; i < a.k; i += WARP) sum += expf(logits[chosen[i]] - max);
    sum = tug_warp_sum(sum);
    for (int i = lane; i < a.k; i += WARP) {
        int place = 0;
        for (int j = 0; j < a.k; j++) place += chosen[j] < chosen[i];
        const int64_t at = (int64_t)blockIdx.x * a.k + place;
        a.ids[at] = chosen[i];
        a.weights[at] = expf(logits[chosen[i]] - max) / sum;
    }
}

// ---- sorting pairs by expert ------------------------------------------------------------

// Calls put(pair, number of pairs of this expert before it) for every pair of expert e, by
// all 256 threads of a block; returns how many there are, on every thread.
template <class Put> TUG_DEVICE int for_pairs_of(const tug_cuda_sort &a, int e, Put put) {
    __shared__ int counts[8];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int before = 0;
    for (int base = 0; base < a.n_pair; base += 256) {
        const int p = base + threadIdx.x;
        const bool mine = p < a.n_pair && a.ids[p] == e;
        const uint32_t votes = __ballot_sync(FULL_WARP, mine);
        if (lane == 0) counts[warp] = __popc(votes);
        __syncthreads();
        int at = before;
        for (int w = 0; w < 8; w++) {
            if (w < warp) at += counts[w];
            before += counts[w];
        }
        if (mine) put(p, at + __popc(votes & ((1u << lane) - 1)));
        __syncthreads();
    }
    return before;
}

// Block (256,), grid (n_expert,): first[e + 1] = the number of e's pairs.
TUG_KERNEL(tug_sort_count, tug_cuda_sort, 256) {
    const int n = for_pairs_of(a, blockIdx.x, [](int, int) {});
    if (threadIdx.x == 0) a.first[blockIdx.x + 1] = n;
}

// Block (32,), grid (1,): sums of the counts, and the tiles.
TUG_KERNEL(tug_sort_plan, tug_cuda_sort, WARP) {
    const int lane = threadIdx.x;
    int first = 0, n_tiles = 0; // of all experts before this round's
    for (int base = 0; base < a.n_expert; base += WARP) {
        const int e = base + lane;
        const int n = e < a.n_expert ? a.first[e + 1] : 0;
        const int tiles = (n + a.tile - 1) / a.tile;
        int n_sum = n, tile_sum = tiles; // up to and with this lane's
        for (int off = 1; off < WARP; off *= 2) {
            const int other = __shfl_up_sync(FULL_WARP, n_sum, off);
            const int other_tiles = __shfl_up_sync(FULL_WARP, tile_sum, off);
            if (lane >= off) {
                n_sum += other;
                tile_sum += other_tiles;
            }
        }
        for (int i = 0; i < tiles; i++) {
            int32_t *const tile = a.tiles + 1 + 2 * (n_tiles + tile_sum - tiles + i);
            tile[0] = e;
            tile[1] = first + n_sum - n + i * a.tile;
        }
        if (e < a.n_expert) a.first[e + 1] = first + n_sum;
        first += __shfl_sync(FULL_WARP, n_sum, WARP - 1);
        n_tiles += __shfl_sync(FULL_WARP, tile_sum, WARP - 1);
    }
    if (lane == 0) {
        a.first[0] = 0;
        a.tiles[0] = n_tiles;
    }
}

// Block (256,), grid (n_expert,).
TUG_KERNEL(tug_sort_place, tug_cuda_sort, 256) {
    int32_t *const to = a.sorted + a.first[blockIdx.x];
    for_pairs_of(a, blockIdx.x, [to](int pair, int at) { to[at] = pair; });
}

// Block (256,), grid (n_tok, ceil(n / 256)).
TUG_KERNEL(tug_combine, tug_cuda_combine, 256) {
    const int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= a.n) return;
    const int64_t pair0 = (int64_t)blockIdx.x * a.n_used;
    float sum = 0;
    for (int64_t p = pair0; p < pair0 + a.n_used; p++) {
        if (a.slots[a.ids[p]]) sum = fmaf(a.weights[p], a.yp[p * a.n + i], sum);
    }
    a.y[(int64_t)blockIdx.x * a.n + i] = sum;
}
