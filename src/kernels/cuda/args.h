/* args.h - what each CUDA kernel takes: one struct by value, the same for host and device.
 *
 * Contracts are those of the CPU kernels (kernels/cpu/kernels.h) and of the backend's ops
 * (backend/backend.h) unless said otherwise.  All pointers are device addresses (or mapped
 * host memory), 16-byte aligned where "aligned" is said.  Shapes in parentheses, the last
 * dimension contiguous, strides in elements, float arrays f32.  Kernels trust their
 * arguments.  How large a grid each kernel wants is launch.c's knowledge.
 *
 * What changes from token to token is behind pointers (`pos`, ids, slot tables), so that a
 * recorded graph of launches can be run again as it is.
 *
 * Compiles as C11 and C++17.  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CUDA_ARGS_H
#define TUG_KERNELS_CUDA_ARGS_H

#include <stdint.h>

#ifdef __CUDACC__
#define TUG_ON_BOTH static inline __host__ __device__
#else
#define TUG_ON_BOTH static inline
#endif

/* ---- activations in two digits --------------------------------------------------------
 *
 * A row of n values, n % 32 == 0, that meets quantised weights:
 *
 *     int8  q0[n]      first digits, -127..127
 *     int8  q1[n]      second digits
 *     float d[n / 32]  x[i] = d[i / 32] (q0[i] + q1[i] / 254)
 *     float s[n / 16]  sum of the restored values of each 16
 *
 * With one digit q1 is not there for the reader and s is the sum of the first digits only.
 * Two digits keep 16 bits of the largest of 32 values, one keeps 8 (docs/performance.md,
 * "Digits").  A block with a value that is not finite has d = NaN. */
TUG_ON_BOTH int64_t tug_cuda_act_bytes(int64_t n) {
    return (2 * n + n / 32 * 4 + n / 16 * 4 + 15) / 16 * 16;
}

typedef struct tug_cuda_quantize {
    void *act;      /* (n_tok,) rows of tug_cuda_act_bytes(n), aligned, written */
    const float *x; /* (n_tok, n) stride x_stride */
    const float
        *gate; /* (n_tok, n) stride x_stride: silu(gate) * x is converted; or NULL */
    int64_t x_stride;
    int32_t n, n_tok;
    int32_t digits; /* 1 or 2 */
} tug_cuda_quantize;

/* ---- rows and elements ----------------------------------------------------------------- */

/* x += add if there is an add, then y = rmsnorm(x) * w, as floats, as digits, or both.
 * |x| < 1e18. */
typedef struct tug_cuda_rmsnorm {
    float *y;  /* (n_tok, n) or NULL; may be x */
    void *act; /* (n_tok,) rows of tug_cuda_act_bytes(n), aligned, n % 32 == 0; or NULL */
    float *x;  /* (n_tok, n), written if there is an add */
    const float *add; /* (n_tok, n) or NULL */
    const float *w;   /* (n,) */
    int32_t n, n_tok;
    int32_t digits; /* of act */
    float eps;
} tug_cuda_rmsnorm;

/* y = rmsnorm(x) * w * silu(z), rows of n; y may be x. */
typedef struct tug_cuda_rmsnorm_gated {
    float *y;       /* (n_tok, n_head, n) */
    const float *x; /* (n_tok, n_head, n) */
    const float *z; /* (n_tok, n_head, n) stride z_stride between tokens */
    const float *w; /* (n,) */
    int64_t z_stride;
    int32_t n, n_head, n_tok;
    float eps;
} tug_cuda_rmsnorm_gated;

/* x = x * scale * rsqrt(sum(x^2) + eps), in place. */
typedef struct tug_cuda_l2norm {
    float *x; /* (n_tok, n_head, n) stride x_stride between tokens */
    int64_t x_stride;
    int32_t n, n_head, n_tok;
    float eps, scale;
} tug_cuda_l2norm;

/* h = silu(gate) * up, (n,) each; h may be gate or up. */
typedef struct tug_cuda_swiglu {
    float *h;
    const float *gate, *up;
    int64_t n;
} tug_cuda_swiglu;

/* x (n_tok, n) = rows ids[t] of the embedding, one kernel per type. */
typedef struct tug_cuda_embed {
    float *x;
    const void *w; /* (n_vocab, n) of the kernel's type, aligned */
    const int32_t *ids;
    int64_t w_row_bytes;
    int32_t n, n_tok;
} tug_cuda_embed;

/* The tug_route_fn of n_tok tokens. */
typedef struct tug_cuda_route {
    int32_t *ids;        /* (n_tok, k), increasing for each token */
    float *weights;      /* (n_tok, k) */
    const float *logits; /* (n_tok, n_expert) */
    int32_t n_expert;    /* at most TUG_CUDA_MAX_EXPERTS */
    int32_t k;           /* at most TUG_MAX_TOPK */
    int32_t n_tok;
} tug_cuda_route;
#define TUG_CUDA_MAX_EXPERTS 1024

/* ---- linear ---------------------------------------------------------------------------- */

/* One matrix of a launch: its outputs land in columns [dst_col, dst_col + n_rows). */
typedef struct tug_cuda_part {
    const void *w; /* (n_rows, n_cols) of the kernel's type as in the file, aligned */
    int32_t n_rows;
    int32_t dst_col;
} tug_cuda_part;
#define TUG_CUDA_PARTS        4
#define TUG_CUDA_GEMV_THREADS 128
/* Rows that a group of lanes computes, for so many tokens at a time. */
#define TUG_CUDA_GEMV_ROWS(n_tok) ((n_tok) < 8 ? 2 : 1)

/* y[t, dst_col + r] = sum over c of w[r, c] x[t, c], for every part. */
typedef struct tug_cuda_linear {
    tug_cuda_part part[TUG_CUDA_PARTS];
    float *y;      /* (n_tok, y_stride) */
    const void *x; /* (n_tok,) rows, aligned: f32 for float weights, else as above */
    int64_t y_stride, w_row_bytes, x_row_bytes;
    int32_t n_part;
    int32_t n_rows; /* of all parts together */
    int32_t n_cols, n_tok;
    int32_t digits; /* of x, ignored with float weights */
} tug_cuda_linear;

/* The same for many tokens, on tensor cores: y[t] = W x[t].  Or of pairs sorted by expert
 * (tug_cuda_sort with tiles of TUG_CUDA_GEMM_TOKENS), if there are tiles: y[p] = W_e x of
 * row p / x_pairs; rows of pairs whose expert is not here are not written. */
typedef struct tug_cuda_gemm {
    float *y;      /* (n_tok or n_pair, n_rows) stride y_stride */
    const void *x; /* rows as for tug_cuda_linear */
    const void *w; /* (n_rows, n_cols) of the kernel's type as in the file, aligned */
    const void *const *slots;              /* with tiles: (n_expert,), see below */
    const int32_t *tiles, *first, *sorted; /* NULL, or of tug_cuda_sort */
    int64_t y_stride, w_row_bytes, x_row_bytes;
    int32_t n_rows, n_cols;
    int32_t n_tok;    /* rows of x; with tiles: pairs */
    int32_t n_expert; /* with tiles */
    int32_t x_pairs;  /* with tiles: n_used for gate and up, 1 for down */
    int32_t digits;
} tug_cuda_gemm;
#define TUG_CUDA_GEMM_ROWS       128 /* of a block; of F32 weights, */
#define TUG_CUDA_GEMM_FLOAT_ROWS 64
#define TUG_CUDA_GEMM_TOKENS     64

/* ---- experts, a few tokens ------------------------------------------------------------- */

/* Where the matrices of the experts are: (n_expert,) device addresses, 0: not here.  The
 * table is in device memory and may change between launches. */
typedef const void *const *tug_cuda_slots;

/* h[p] = silu(gate_e x_t) * (up_e x_t) for every pair p = t * n_used + i, e = ids[p];
 * zeros where e is not here.  gate and up are of the kernel's type. */
typedef struct tug_cuda_expert_hidden {
    float *h; /* (n_tok * n_used, n_rows) */
    tug_cuda_slots gate, up;
    const int32_t *ids; /* (n_tok, n_used); NULL: expert 0 for every pair */
    const void *x;      /* (n_tok,) rows as for tug_cuda_linear */
    int64_t w_row_bytes, x_row_bytes;
    int32_t n_rows, n_cols, n_tok, n_used, digits;
} tug_cuda_expert_hidden;

/* y[t] = sum over i of weights[p] * (down_e h_p), pairs in order; experts that are not here
 * add nothing. */
typedef struct tug_cuda_expert_down {
    float *y; /* (n_tok, n_rows) */
    tug_cuda_slots down;
    const int32_t *ids;   /* (n_tok, n_used); NULL: expert 0 */
    const float *weights; /* (n_tok, n_used); NULL: 1 */
    const void *h;        /* (n_tok * n_used,) rows */
    int64_t w_row_bytes, h_row_bytes;
    int32_t n_rows, n_cols, n_tok, n_used, digits;
} tug_cuda_expert_down;

/* Copies to the host's memory, as the device sees it; then *there = count. */
typedef struct tug_cuda_hand_over {
    int32_t *to_ids;   /* (n_pair,), the host's as the next three */
    float *to_weights; /* (n_pair,) */
    float *to_x;       /* (n_x,) */
    uint32_t *there;
    const int32_t *ids;
    const float *weights, *x;
    int64_t n_x;
    int32_t n_pair;
    uint32_t count;
} tug_cuda_hand_over;

/* y[t] += sigmoid(x_t . w) * shared_t, and += more_t; each may be absent. */
typedef struct tug_cuda_expert_finish {
    float *y;            /* (n_tok, n) */
    const float *shared; /* (n_tok, n) or NULL */
    const float *w;      /* (n,), or NULL: the shared expert counts fully */
    const float *x;      /* (n_tok, n), read if there is a w */
    const float *more;   /* (n_tok, n) or NULL: what another processor computed, there or
                            in the host's memory */
    int32_t n, n_tok;
} tug_cuda_expert_finish;

/* ---- experts, many tokens -------------------------------------------------------------- */

/* Sorts the pairs by expert; pairs of one expert stay in order.  Three launches: count,
 * plan (one block), place.  A tile is up to `tile` pairs of one expert. */
typedef struct tug_cuda_sort {
    const int32_t *ids; /* (n_pair,) */
    int32_t *first;  /* (n_expert + 1,): expert e has sorted[first[e] .. first[e + 1]) */
    int32_t *sorted; /* (n_pair,): pairs */
    int32_t *tiles;  /* (1 + 2 * max_tiles,): their number, then expert and first index */
    int32_t n_pair, n_expert;
    int32_t tile;
} tug_cuda_sort;

/* The most tiles that n_pair pairs of n_expert experts can make. */
TUG_ON_BOTH int64_t tug_cuda_max_tiles(int64_t n_pair, int64_t n_expert, int64_t tile) {
    const int64_t experts = n_pair < n_expert ? n_pair : n_expert;
    return experts + n_pair / tile;
}

/* silu(gate) * up of the pairs whose expert is here, sorted in tiles of TUG_CUDA_GEMM_TOKENS;
 * other rows are not touched. */
typedef struct tug_cuda_pair_hidden {
    void *
        act; /* (n_pair,) rows of tug_cuda_act_bytes(n), aligned, n % 32 == 0; or NULL: the
                  floats replace `up` */
    const float *gate;                     /* (n_pair, n) */
    float *up;                             /* (n_pair, n) */
    const void *const *slots;              /* any of the experts' tables */
    const int32_t *tiles, *first, *sorted; /* of tug_cuda_sort */
    int32_t n, n_pair, n_expert;
    int32_t digits; /* 1 or 2 */
} tug_cuda_pair_hidden;

/* y[t] = sum over i of weights[p] * yp[p], in order, of experts that are here. */
typedef struct tug_cuda_combine {
    float *y;             /* (n_tok, n) */
    const float *yp;      /* (n_tok * n_used, n) */
    const float *weights; /* (n_tok, n_used) */
    const int32_t *ids;   /* (n_tok, n_used) */
    tug_cuda_slots slots; /* any of the experts' tables */
    int32_t n, n_tok, n_used;
} tug_cuda_combine;

/* ---- experts that move ------------------------------------------------------------------ */

/* Matrices of one type and shape, packed as quant/packed.h says, become rows as in the
 * file.  `to` and `from` do not overlap. */
typedef struct tug_cuda_unpack_job {
    void *to;         /* (n_rows, row_bytes), aligned, written */
    const void *from; /* as many bytes, aligned */
} tug_cuda_unpack_job;
#define TUG_CUDA_UNPACKS       32
#define TUG_CUDA_UNPACK_BLOCKS 8 /* of a row, that one block of threads takes */
typedef struct tug_cuda_unpack {
    tug_cuda_unpack_job job[TUG_CUDA_UNPACKS];
    int64_t row_bytes;
    int32_t n_rows; /* n_rows % 16 == 0 */
    int32_t n_job;
} tug_cuda_unpack;

/* *at = value for each: entries of slot tables, all different.  By value, because the host
 * may not change bytes that a copy still has to read. */
typedef struct tug_cuda_edit {
    uint64_t *at, value;
} tug_cuda_edit;
#define TUG_CUDA_EDITS 96
typedef struct tug_cuda_edits {
    tug_cuda_edit edit[TUG_CUDA_EDITS];
    int32_t n;
} tug_cuda_edits;

/* ---- attention ------------------------------------------------------------------------- */

/* One layer's cache: per kv head n_rows rows of head_dim values: f16 or blocks of Q8_0. */
typedef struct tug_cuda_kv {
    void *k, *v; /* (n_kv_head, n_rows, head_dim), aligned */
    int64_t row_bytes, n_rows;
} tug_cuda_kv;

typedef struct tug_cuda_heads {
    int32_t n_head, n_kv_head;
    int32_t head_dim; /* a multiple of 32, at most TUG_CUDA_MAX_HEAD_DIM */
    int32_t n_rot;    /* even */
} tug_cuda_heads;
#define TUG_CUDA_MAX_HEAD_DIM 256

/* tug_op_attn_prepare; one kernel per type of cache. */
typedef struct tug_cuda_attn_prepare {
    tug_cuda_heads s;
    tug_cuda_kv kv;
    float *qkv; /* (n_tok, stride): [q0 gate0 q1 gate1 ... | k heads | v heads] */
    int64_t stride;
    const float *q_norm, *k_norm; /* (head_dim,) */
    const float *rope;            /* (n_tok, 2, n_rot / 2) */
    const int32_t *pos;           /* (1,): cache row of the first token */
    int32_t n_tok;
    float eps;
} tug_cuda_attn_prepare;

/* Query heads that one block of decode serves; queries and cache rows that prefill has in
 * shared memory at a time, and how much longer than head_dim f16 their rows are. */
#define TUG_CUDA_ATTN_HEADS   8
#define TUG_CUDA_ATTN_QUERIES 64
#define TUG_CUDA_ATTN_KV_ROWS 32
#define TUG_CUDA_ATTN_PAD     8

/* Attention of n_tok prepared tokens, times sigmoid(gate).  Decode: n_split blocks share the
 * context of a token and write parts, a second kernel joins them.  Prefill does not use
 * parts. */
typedef struct tug_cuda_attn {
    tug_cuda_heads s;
    tug_cuda_kv kv;
    float *out;       /* (n_tok, n_head * head_dim) */
    const float *qkv; /* as above, prepared */
    int64_t stride;
    const int32_t *pos; /* (1,): token t sees cache rows [0, pos + t] */
    float *parts; /* (n_tok, n_head, n_split, 2 + head_dim): max, sum, weighted sum */
    int32_t n_tok, n_split;
    float scale;
} tug_cuda_attn;

/* ---- Gated DeltaNet -------------------------------------------------------------------- */

typedef struct tug_cuda_conv {
    float *y;       /* (n_tok, n_ch) stride y_stride: silu(conv) */
    const float *x; /* (n_tok, n_ch) stride x_stride */
    float *state;   /* (width - 1, n_ch): the inputs before x, oldest first */
    const float *w; /* (width, n_ch): tap 0 is the oldest */
    int64_t y_stride, x_stride;
    int32_t n_ch, n_tok, width; /* width 2..TUG_MAX_CONV */
} tug_cuda_conv;
/* Tokens of a block.  With more than that, the state is advanced by a second kernel,
 * tug_conv_state, as the blocks that still read it may be running. */
#define TUG_CUDA_CONV_TOKENS 32

/* After the convolution: L2 norms, gates, delta rule, gated norm (tug_op_delta). */
typedef struct tug_cuda_delta {
    float *out;       /* (n_tok, n_v_head * dv) */
    const float *qkv; /* (n_tok, n_ch) stride qkv_stride: the convolution's y */
    const float *z;   /* (n_tok, n_v_head, dv) stride z_stride between tokens */
    const float *ba;  /* (n_tok, n_k_head, 2, r) stride z_stride: b then a of the
                                     r = n_v_head / n_k_head value heads of a key head */
    const float *dt_bias, *a_coef; /* (n_v_head,) */
    const float *norm;             /* (dv,) */
    float *state;                  /* (n_v_head, dk, dv) */
    int64_t qkv_stride, z_stride;
    int32_t n_k_head, n_v_head;
    int32_t dk; /* the kernel's: 16, 32, 64 or 128 */
    int32_t dv; /* a multiple of 8, at most 128 */
    int32_t n_tok;
    float eps;
    void *work; /* the chunked form's, aligned: tug_cuda_delta_work_bytes(...) */
} tug_cuda_delta;

/* The chunked form (delta_chunk.cu), for dk = dv = TUG_CUDA_DELTA_DIM: split, mix and scan, one
 * after the other; out is then what is still to go through the gated norm.  work holds, for
 * every chunk, what each key head and each value head has in it. */
#define TUG_CUDA_DELTA_CHUNK     64 /* tokens */
#define TUG_CUDA_DELTA_DIM       128
#define TUG_CUDA_DELTA_SCAN_COLS 64 /* of a block of scan: 16 a warp */
#define TUG_CUDA_DELTA_KEYS      (3 * 4 * TUG_CUDA_DELTA_CHUNK * TUG_CUDA_DELTA_DIM)
#define TUG_CUDA_DELTA_MIXES     (2 * 4 * TUG_CUDA_DELTA_CHUNK * TUG_CUDA_DELTA_CHUNK + 768)
TUG_ON_BOTH int64_t tug_cuda_delta_work_bytes(int64_t n_tok, int64_t n_k_head,
                                              int64_t n_v_head) {
    const int64_t n_chunk = (n_tok + TUG_CUDA_DELTA_CHUNK - 1) / TUG_CUDA_DELTA_CHUNK;
    return n_chunk * (n_k_head * TUG_CUDA_DELTA_KEYS + n_v_head * TUG_CUDA_DELTA_MIXES);
}

/* ---- limits of the device -------------------------------------------------------------- */

typedef struct tug_cuda_probe {
    uint32_t *out;    /* (blocks,) */
    const void *data; /* read: (n_bytes,), aligned, n_bytes % 16 == 0 */
    int64_t n_bytes;
    int32_t rounds; /* of TUG_CUDA_PROBE_CHAINS products a warp */
    int32_t n_block;
} tug_cuda_probe;
#define TUG_CUDA_PROBE_CHAINS 8

#endif
