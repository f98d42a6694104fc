/* launch.c - see launch.h.  SPDX-License-Identifier: MIT */
#include "kernels/cuda/launch.h"

#include <stddef.h>

#include "base/status.h"

enum { WARP = 32, GEMV_WIDTHS = 4 };

/* X(name in tug_type, name in kernels) */
#define FLOAT_TYPES(X) X(F32, f32) X(F16, f16) X(BF16, bf16)
#define BLOCK_TYPES(X) \
    X(Q8_0, q8_0)      \
    X(Q4_0, q4_0)      \
    X(Q4_1, q4_1)      \
    X(Q5_0, q5_0)      \
    X(Q5_1, q5_1)      \
    X(IQ4_NL, iq4_nl)  \
    X(Q2_K, q2_k)      \
    X(Q3_K, q3_k)      \
    X(Q4_K, q4_k)      \
    X(Q5_K, q5_k)      \
    X(Q6_K, q6_k)      \
    X(IQ4_XS, iq4_xs)

/* The kernels of a type of weights. */
typedef struct typed_t {
    const char *embed, *hidden, *down, *unpack, *gemv[GEMV_WIDTHS],
        *gemm[2]; /* gemm: 1 and 2 digits; unpack: NULL for floats */
} typed_t;

#define TYPED(type, name, unpack, gemm1, gemm2)                            \
    [TUG_TYPE_##type] = {"tug_embed_" #name,                               \
                         "tug_expert_hidden_" #name,                       \
                         "tug_expert_down_" #name,                         \
                         unpack,                                           \
                         {"tug_gemv_" #name "_1", "tug_gemv_" #name "_2",  \
                          "tug_gemv_" #name "_4", "tug_gemv_" #name "_8"}, \
                         {gemm1, gemm2}},
#define FLOATS(type, name) TYPED(type, name, NULL, "tug_gemm_" #name, "tug_gemm_" #name)
#define BLOCKS(type, name) \
    TYPED(type, name, "tug_unpack_" #name, "tug_gemm_" #name "_1", "tug_gemm_" #name "_2")
static const typed_t typed[TUG_TYPE_COUNT] = {FLOAT_TYPES(FLOATS) BLOCK_TYPES(BLOCKS)};

static const typed_t *kernels_of(tug_type type) {
    TUG_CHECK(typed[type].embed);
    return &typed[type];
}

static uint32_t ceil_div(int64_t n, int64_t by) {
    return (uint32_t)((n + by - 1) / by);
}

/* x may be large; y and z end at 65,535, so many tokens are x, or y in tiles. */
static tug_cuda_launch shape(const char *kernel, uint32_t x, uint32_t y, uint32_t block) {
    return (tug_cuda_launch){kernel, {x, y, 1}, block, 0};
}

/* ---- rows -------------------------------------------------------------------------------- */

tug_cuda_launch tug_cuda_on_rmsnorm(const tug_cuda_rmsnorm *a) {
    return shape("tug_rmsnorm", (uint32_t)a->n_tok, 1, 256);
}

tug_cuda_launch tug_cuda_on_rmsnorm_gated(const tug_cuda_rmsnorm_gated *a) {
    return shape("tug_rmsnorm_gated", ceil_div((int64_t)a->n_tok * a->n_head, 4), 1, 128);
}

tug_cuda_launch tug_cuda_on_l2norm(const tug_cuda_l2norm *a) {
    return shape("tug_l2norm", ceil_div((int64_t)a->n_tok * a->n_head, 4), 1, 128);
}

tug_cuda_launch tug_cuda_on_swiglu(const tug_cuda_swiglu *a) {
    return shape("tug_swiglu", ceil_div(a->n, 256), 1, 256);
}

tug_cuda_launch tug_cuda_on_quantize(const tug_cuda_quantize *a) {
    return shape("tug_quantize", (uint32_t)a->n_tok, ceil_div(a->n, 256), 256);
}

tug_cuda_launch tug_cuda_on_route(const tug_cuda_route *a) {
    return shape("tug_route", (uint32_t)a->n_tok, 1, WARP);
}

/* ---- weights: what weights.cuh takes for a chunk ------------------------------------------ */

static int chunk_values(tug_type type) {
    switch (type) {
    case TUG_TYPE_F32:
    case TUG_TYPE_F16:
    case TUG_TYPE_BF16: return 1;
    case TUG_TYPE_Q2_K:
    case TUG_TYPE_Q3_K: return 64;
    default: return 32;
    }
}

/* Groups of lanes in a block of TUG_CUDA_GEMV_THREADS: one has a row. */
static int row_groups(tug_type type, int n_cols) {
    const int n_chunks = n_cols / chunk_values(type);
    int lanes = WARP;
    while (lanes > 1 && lanes / 2 >= n_chunks) lanes /= 2;
    return TUG_CUDA_GEMV_THREADS / lanes;
}

tug_cuda_launch tug_cuda_on_embed(const tug_cuda_embed *a, tug_type type) {
    return shape(kernels_of(type)->embed, (uint32_t)a->n_tok,
                 ceil_div(a->n / chunk_values(type), 256), 256);
}

tug_cuda_launch tug_cuda_on_gemv(const tug_cuda_linear *a, tug_type type) {
    int width = 0;
    while (width < GEMV_WIDTHS - 1 && a->n_tok > 1 << width) width++;
    const int tokens = 1 << width;
    const int rows = TUG_CUDA_GEMV_ROWS(tokens) * row_groups(type, a->n_cols);
    return shape(kernels_of(type)->gemv[width], ceil_div(a->n_rows, rows),
                 ceil_div(a->n_tok, tokens), TUG_CUDA_GEMV_THREADS);
}

tug_cuda_launch tug_cuda_on_expert_hidden(const tug_cuda_expert_hidden *a,
                                          tug_type type) {
    return shape(kernels_of(type)->hidden,
                 ceil_div(a->n_rows, row_groups(type, a->n_cols)),
                 (uint32_t)(a->n_tok * a->n_used), TUG_CUDA_GEMV_THREADS);
}

tug_cuda_launch tug_cuda_on_expert_down(const tug_cuda_expert_down *a, tug_type type) {
    const int rows = TUG_CUDA_GEMV_ROWS(1) * row_groups(type, a->n_cols);
    return shape(kernels_of(type)->down, ceil_div(a->n_rows, rows), (uint32_t)a->n_tok,
                 TUG_CUDA_GEMV_THREADS);
}

tug_cuda_launch tug_cuda_on_expert_finish(const tug_cuda_expert_finish *a) {
    return shape("tug_expert_finish", (uint32_t)a->n_tok, ceil_div(a->n, 256), 256);
}

tug_cuda_launch tug_cuda_on_hand_over(const tug_cuda_hand_over *a) {
    (void)a;
    return shape("tug_hand_over", 1, 1, 512);
}

/* ---- many tokens -------------------------------------------------------------------------- */

tug_cuda_launch tug_cuda_on_sort_count(const tug_cuda_sort *a) {
    return shape("tug_sort_count", (uint32_t)a->n_expert, 1, 256);
}

tug_cuda_launch tug_cuda_on_sort_plan(const tug_cuda_sort *a) {
    (void)a;
    return shape("tug_sort_plan", 1, 1, WARP);
}

tug_cuda_launch tug_cuda_on_sort_place(const tug_cuda_sort *a) {
    return shape("tug_sort_place", (uint32_t)a->n_expert, 1, 256);
}

tug_cuda_launch tug_cuda_on_gemm(const tug_cuda_gemm *a, tug_type type) {
    const int64_t tile = TUG_CUDA_GEMM_TOKENS;
    const int64_t n_tiles = a->tiles ? tug_cuda_max_tiles(a->n_tok, a->n_expert, tile)
                                     : ceil_div(a->n_tok, tile);
    const int rows = type == TUG_TYPE_F32 ? TUG_CUDA_GEMM_FLOAT_ROWS : TUG_CUDA_GEMM_ROWS;
    return shape(kernels_of(type)->gemm[a->digits == 2], ceil_div(a->n_rows, rows),
                 (uint32_t)n_tiles, 256);
}

tug_cuda_launch tug_cuda_on_pair_hidden(const tug_cuda_pair_hidden *a) {
    const int64_t n_tiles =
        tug_cuda_max_tiles(a->n_pair, a->n_expert, TUG_CUDA_GEMM_TOKENS);
    return shape("tug_pair_hidden", (uint32_t)n_tiles, ceil_div(a->n, 256), 256);
}

tug_cuda_launch tug_cuda_on_combine(const tug_cuda_combine *a) {
    return shape("tug_combine", (uint32_t)a->n_tok, ceil_div(a->n, 256), 256);
}

/* ---- experts that move ---------------------------------------------------------------------- */

tug_cuda_launch tug_cuda_on_unpack(const tug_cuda_unpack *a, tug_type type) {
    const int64_t n_blocks = a->row_bytes / tug_type_get(type)->block_bytes;
    TUG_CHECK(kernels_of(type)->unpack && a->n_rows % 16 == 0);
    tug_cuda_launch l =
        shape(kernels_of(type)->unpack, (uint32_t)a->n_rows / 16,
              ceil_div(n_blocks, TUG_CUDA_UNPACK_BLOCKS), 16 * TUG_CUDA_UNPACK_BLOCKS);
    l.grid[2] = (uint32_t)a->n_job;
    return l;
}

tug_cuda_launch tug_cuda_on_edits(const tug_cuda_edits *a) {
    (void)a;
    return shape("tug_edit", 1, 1, TUG_CUDA_EDITS);
}

/* ---- mixers ------------------------------------------------------------------------------- */

tug_cuda_launch tug_cuda_on_attn_prepare(const tug_cuda_attn_prepare *a, bool is_q8_0) {
    return shape(is_q8_0 ? "tug_attn_prepare_q8_0" : "tug_attn_prepare_f16",
                 (uint32_t)a->n_tok, ceil_div(a->s.n_head + 2 * a->s.n_kv_head, 4), 128);
}

#define BY_HEAD_DIM(name)                                                            \
    {                                                                                \
        name "_1", name "_2", name "_3", name "_4", name "_5", name "_6", name "_7", \
            name "_8"                                                                \
    }

static const char *by_head_dim(const char *const names[8], int head_dim) {
    TUG_CHECK(head_dim % 32 == 0 && head_dim > 0 && head_dim <= TUG_CUDA_MAX_HEAD_DIM);
    return names[head_dim / 32 - 1];
}

tug_cuda_launch tug_cuda_on_attn_decode(const tug_cuda_attn *a, bool is_q8_0) {
    static const char *const f16[] = BY_HEAD_DIM("tug_attn_decode_f16");
    static const char *const q8_0[] = BY_HEAD_DIM("tug_attn_decode_q8_0");
    const int group = a->s.n_head / a->s.n_kv_head;
    tug_cuda_launch l = shape(by_head_dim(is_q8_0 ? q8_0 : f16, a->s.head_dim),
                              (uint32_t)a->n_split, 1, 128);
    l.grid[1] = (uint32_t)a->s.n_kv_head * ceil_div(group, TUG_CUDA_ATTN_HEADS);
    l.grid[2] = (uint32_t)a->n_tok;
    return l;
}

tug_cuda_launch tug_cuda_on_attn_join(const tug_cuda_attn *a) {
    return shape("tug_attn_join", (uint32_t)a->s.n_head, (uint32_t)a->n_tok,
                 (uint32_t)a->s.head_dim);
}

tug_cuda_launch tug_cuda_on_attn_prefill(const tug_cuda_attn *a, bool is_q8_0) {
    static const char *const f16[] = BY_HEAD_DIM("tug_attn_prefill_f16");
    static const char *const q8_0[] = BY_HEAD_DIM("tug_attn_prefill_q8_0");
    const int64_t n_queries = (int64_t)a->n_tok * (a->s.n_head / a->s.n_kv_head);
    tug_cuda_launch l =
        shape(by_head_dim(is_q8_0 ? q8_0 : f16, a->s.head_dim),
              ceil_div(n_queries, TUG_CUDA_ATTN_QUERIES), (uint32_t)a->s.n_kv_head, 128);
    const uint32_t rows = TUG_CUDA_ATTN_QUERIES + 2 * TUG_CUDA_ATTN_KV_ROWS;
    l.shared_bytes = rows * (uint32_t)(a->s.head_dim + TUG_CUDA_ATTN_PAD) * 2;
    return l;
}

tug_cuda_launch tug_cuda_on_conv(const tug_cuda_conv *a) {
    return shape("tug_conv", ceil_div(a->n_ch, 128),
                 ceil_div(a->n_tok, TUG_CUDA_CONV_TOKENS), 128);
}

tug_cuda_launch tug_cuda_on_conv_state(const tug_cuda_conv *a) {
    return shape("tug_conv_state", ceil_div(a->n_ch, 128), 1, 128);
}

tug_cuda_launch tug_cuda_on_delta(const tug_cuda_delta *a) {
    const char *kernel = a->dk == 16    ? "tug_delta_16"
                         : a->dk == 32  ? "tug_delta_32"
                         : a->dk == 64  ? "tug_delta_64"
                         : a->dk == 128 ? "tug_delta_128"
                                        : NULL;
    TUG_CHECK(kernel && a->dv % 8 == 0 && a->dv > 0 && a->dv <= 128);
    return shape(kernel, (uint32_t)a->n_v_head, 1, 4 * (uint32_t)a->dv);
}

static uint32_t delta_chunks(const tug_cuda_delta *a) {
    TUG_CHECK(a->dk == TUG_CUDA_DELTA_DIM && a->dv == TUG_CUDA_DELTA_DIM);
    return ceil_div(a->n_tok, TUG_CUDA_DELTA_CHUNK);
}

tug_cuda_launch tug_cuda_on_delta_split(const tug_cuda_delta *a) {
    return shape("tug_delta_split", delta_chunks(a), (uint32_t)a->n_k_head, 256);
}

tug_cuda_launch tug_cuda_on_delta_mix(const tug_cuda_delta *a) {
    return shape("tug_delta_mix", delta_chunks(a), (uint32_t)a->n_v_head, 128);
}

tug_cuda_launch tug_cuda_on_delta_scan(const tug_cuda_delta *a) {
    return shape("tug_delta_scan", TUG_CUDA_DELTA_DIM / TUG_CUDA_DELTA_SCAN_COLS,
                 (uint32_t)a->n_v_head, 2 * TUG_CUDA_DELTA_SCAN_COLS);
}

/* ---- limits ------------------------------------------------------------------------------ */

tug_cuda_launch tug_cuda_on_probe_read(const tug_cuda_probe *a) {
    return shape("tug_probe_read", (uint32_t)a->n_block, 1, 256);
}

tug_cuda_launch tug_cuda_on_probe_mma_s8(const tug_cuda_probe *a) {
    return shape("tug_probe_mma_s8", (uint32_t)a->n_block, 1, 256);
}

tug_cuda_launch tug_cuda_on_probe_mma_f16(const tug_cuda_probe *a) {
    return shape("tug_probe_mma_f16", (uint32_t)a->n_block, 1, 256);
}
