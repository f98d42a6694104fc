/* bench_cuda.c - speed of the GPU's kernels beside the limits of the device.
 *
 *   usage: bench_cuda [--gpu=N] [--rounds=N] [--small]
 *
 * Sizes are Qwen3-Next's.  Limits: reading memory, int8 and f16 products on tensor cores.
 * Decode: the weights (or cache, or state) that a launch must read, in GB/s and as share of
 * reading; matrices come from a pool larger than the L2 cache, in turn.  Prefill: products in
 * TMAC/s and as share of the tensor cores' limit, two digits (or parts, of activations that meet
 * F16 and BF16 weights) counted as two products.  A time is a row of launches from the first call
 * to the end of the last kernel, divided by their number; limits and cases are measured in turn,
 * round after round, and medians printed.
 *
 * --small: sizes that the emulated driver can run, to see that all of it does.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/sys.h"
#include "cuda/device.h"
#include "kernels/cuda/launch.h"

enum { MAX_ROUNDS = 32, MAX_CASES = 64, N_USED = 10, PIECE = 1 << 20 };

/* A case is launched `repeat` times, each time with the arguments that set() makes for the
 * i-th launch, which together are `work` bytes or multiplications. */
typedef struct bench bench;
typedef struct bench_case {
    char name[80];
    void (*launch)(bench *b, const struct bench_case *c, int64_t i);
    enum { BYTES, INT8, F16 } unit;
    double work; /* of one launch */
    tug_type type;
    int64_t n_rows, n_cols, n_tok;
    int digits;
    double seconds[MAX_ROUNDS];
} bench_case;

struct bench {
    tug_device *d;
    bool small;
    int n_rounds, repeat, n_case;
    bench_case cases[MAX_CASES];
    uint8_t *pool; /* weights of any type: random bits */
    size_t pool_bytes;
    uint8_t *act; /* activation rows of any kind */
    float *out;   /* outputs of any kind */
    size_t act_bytes, out_bytes;
    int32_t *ids;       /* (n_expert,): a permutation */
    const void **slots; /* (n_expert,) */
    int32_t *first, *sorted, *tiles, *pos;
    int n_expert;
};

static void die(const tug_err *err) {
    fprintf(stderr, "bench_cuda: %s\n", err->msg);
    exit(1);
}

static void check(tug_status s, const tug_err *err) {
    if (s != TUG_OK) die(err);
}

static void *device_bytes(bench *b, size_t bytes) {
    void *p;
    tug_err err;
    check(tug_device_alloc(b->d, &p, bytes, "the benchmark", &err), &err);
    return p;
}

static void wait(bench *b) {
    tug_err err;
    check(tug_device_wait(b->d, TUG_STREAM_COMPUTE, &err), &err);
}

static void launch(bench *b, tug_cuda_launch l, const void *args) {
    tug_device_launch(b->d, l.kernel, l.grid, l.block, l.shared_bytes, args);
}

static int64_t row_bytes(tug_type type, int64_t n) {
    uint64_t bytes = 0;
    if (!tug_type_row_bytes(type, (uint64_t)n, &bytes)) abort();
    return (int64_t)bytes;
}

static bool is_float(tug_type type) {
    return tug_type_get(type)->block_elems == 1;
}

/* The i-th of the pool's matrices of this size. */
static const void *pool_matrix(const bench *b, int64_t bytes, int64_t i) {
    bytes = (bytes + 255) / 256 * 256;
    return b->pool + i % ((int64_t)b->pool_bytes / bytes) * bytes;
}

/* ---- decode ------------------------------------------------------------------------------- */

static void launch_gemv(bench *b, const bench_case *c, int64_t i) {
    const int64_t bytes = row_bytes(c->type, c->n_cols);
    const tug_cuda_linear a = {
        .part = {{pool_matrix(b, bytes * c->n_rows, i), (int32_t)c->n_rows, 0}},
        .y = b->out,
        .x = b->act,
        .y_stride = c->n_rows,
        .w_row_bytes = bytes,
        .x_row_bytes = tug_cuda_act_bytes(c->n_cols),
        .n_part = 1,
        .n_rows = (int32_t)c->n_rows,
        .n_cols = (int32_t)c->n_cols,
        .n_tok = (int32_t)c->n_tok,
        .digits = c->digits};
    launch(b, tug_cuda_on_gemv(&a, c->type), &a);
}

/* Ten experts of the permutation, others each time.  A slot holds the largest expert. */
static void launch_hidden(bench *b, const bench_case *c, int64_t i) {
    const tug_cuda_expert_hidden a = {.h = b->out,
                                      .gate = b->slots,
                                      .up = b->slots,
                                      .ids = b->ids + i * N_USED % (b->n_expert - N_USED),
                                      .x = b->act,
                                      .w_row_bytes = row_bytes(c->type, c->n_cols),
                                      .x_row_bytes = tug_cuda_act_bytes(c->n_cols),
                                      .n_rows = (int32_t)c->n_rows,
                                      .n_cols = (int32_t)c->n_cols,
                                      .n_tok = 1,
                                      .n_used = N_USED,
                                      .digits = c->digits};
    launch(b, tug_cuda_on_expert_hidden(&a, c->type), &a);
}

static void launch_down(bench *b, const bench_case *c, int64_t i) {
    const tug_cuda_expert_down a = {.y = b->out,
                                    .down = b->slots,
                                    .ids = b->ids + i * N_USED % (b->n_expert - N_USED),
                                    .h = b->act,
                                    .w_row_bytes = row_bytes(c->type, c->n_cols),
                                    .h_row_bytes = tug_cuda_act_bytes(c->n_cols),
                                    .n_rows = (int32_t)c->n_rows,
                                    .n_cols = (int32_t)c->n_cols,
                                    .n_tok = 1,
                                    .n_used = N_USED,
                                    .digits = c->digits};
    launch(b, tug_cuda_on_expert_down(&a, c->type), &a);
}

/* n_cols: rows of the cache; n_rows is not used. */
static tug_cuda_attn attn_args(bench *b, const bench_case *c) {
    const int64_t row = (int64_t)256 * 2, cache = 2 * c->n_cols * row;
    return (tug_cuda_attn){.s = {16, 2, 256, 64},
                           .kv = {b->pool, b->pool + cache, row, c->n_cols},
                           .out = b->out,
                           .qkv = (const float *)(const void *)b->act,
                           .stride = 36L * 256,
                           .pos = b->pos,
                           .parts = b->out + c->n_tok * 16 * 256,
                           .n_tok = (int32_t)c->n_tok,
                           .n_split = 64,
                           .scale = 1.0f / 16};
}

static void launch_attn_decode(bench *b, const bench_case *c, int64_t i) {
    const tug_cuda_attn a = attn_args(b, c);
    (void)i;
    launch(b, tug_cuda_on_attn_decode(&a, false), &a);
    launch(b, tug_cuda_on_attn_join(&a), &a);
}

static void launch_delta(bench *b, const bench_case *c, int64_t i) {
    float *const in = (float *)(void *)b->act;
    const tug_cuda_delta a = {.out = b->out,
                              .qkv = in,
                              .z = in,
                              .ba = in + 4096,
                              .dt_bias = in,
                              .a_coef = in,
                              .norm = in,
                              .state = (float *)(void *)(b->pool + i % 16 * (2 << 20)),
                              .qkv_stride = 8192,
                              .z_stride = 8192,
                              .n_k_head = 16,
                              .n_v_head = 32,
                              .dk = 128,
                              .dv = 128,
                              .n_tok = (int32_t)c->n_tok,
                              .eps = 1e-6f};
    launch(b, tug_cuda_on_delta(&a), &a);
}

/* ---- prefill ------------------------------------------------------------------------------ */

static void launch_gemm(bench *b, const bench_case *c, int64_t i) {
    const int64_t bytes = row_bytes(c->type, c->n_cols);
    const tug_cuda_gemm a = {
        .y = b->out,
        .x = b->act,
        .w = pool_matrix(b, bytes * c->n_rows, i),
        .y_stride = c->n_rows,
        .w_row_bytes = bytes,
        .x_row_bytes = is_float(c->type) ? 4 * c->n_cols : tug_cuda_act_bytes(c->n_cols),
        .n_rows = (int32_t)c->n_rows,
        .n_cols = (int32_t)c->n_cols,
        .n_tok = (int32_t)c->n_tok,
        .digits = c->digits};
    launch(b, tug_cuda_on_gemm(&a, c->type), &a);
}

/* Gate of all experts, n_tok tokens each: expert e's pairs are e n_tok ... */
static void launch_grouped(bench *b, const bench_case *c, int64_t i) {
    (void)i;
    const tug_cuda_gemm a = {.y = b->out,
                             .x = b->act,
                             .slots = b->slots,
                             .tiles = b->tiles,
                             .first = b->first,
                             .sorted = b->sorted,
                             .y_stride = c->n_rows,
                             .w_row_bytes = row_bytes(c->type, c->n_cols),
                             .x_row_bytes = tug_cuda_act_bytes(c->n_cols),
                             .n_rows = (int32_t)c->n_rows,
                             .n_cols = (int32_t)c->n_cols,
                             .n_tok = (int32_t)(c->n_tok * b->n_expert),
                             .n_expert = b->n_expert,
                             .x_pairs = N_USED,
                             .digits = c->digits};
    launch(b, tug_cuda_on_gemm(&a, c->type), &a);
}

static void launch_attn_prefill(bench *b, const bench_case *c, int64_t i) {
    const tug_cuda_attn a = attn_args(b, c);
    (void)i;
    launch(b, tug_cuda_on_attn_prefill(&a, false), &a);
}

/* Lists for n_tok pairs of every expert, as tug_cuda_sort makes them. */
static void make_lists(bench *b, int64_t n_tok) {
    const int64_t n_pair = n_tok * b->n_expert;
    const int64_t per = (n_tok + TUG_CUDA_GEMM_TOKENS - 1) / TUG_CUDA_GEMM_TOKENS;
    int32_t *const host = malloc((size_t)(n_pair + b->n_expert * (1 + 2 * per) + 2) * 4);
    if (!host) abort();
    int32_t *const first = host, *const sorted = first + b->n_expert + 1;
    int32_t *const tiles = sorted + n_pair;
    for (int e = 0; e <= b->n_expert; e++) first[e] = (int32_t)(e * n_tok);
    for (int64_t p = 0; p < n_pair; p++) sorted[p] = (int32_t)p;
    tiles[0] = (int32_t)(b->n_expert * per);
    for (int64_t t = 0; t < b->n_expert * per; t++) {
        tiles[1 + 2 * t] = (int32_t)(t / per);
        tiles[2 + 2 * t] = (int32_t)(t / per * n_tok + t % per * TUG_CUDA_GEMM_TOKENS);
    }
    const tug_device_stream s = TUG_STREAM_COMPUTE;
    tug_device_copy_in(b->d, s, b->first, first, (size_t)(b->n_expert + 1) * 4);
    tug_device_copy_in(b->d, s, b->sorted, sorted, (size_t)n_pair * 4);
    tug_device_copy_in(b->d, s, b->tiles, tiles, (size_t)(1 + 2 * b->n_expert * per) * 4);
    free(host);
}

/* ---- limits ------------------------------------------------------------------------------- */

enum { PROBE_ROUNDS = 4096 };

static tug_cuda_probe probe_args(const bench *b) {
    return (tug_cuda_probe){.out = (uint32_t *)(void *)b->out,
                            .data = b->pool,
                            .n_bytes = (int64_t)b->pool_bytes,
                            .rounds = b->small ? 2 : PROBE_ROUNDS,
                            .n_block = 8 * tug_device_get_info(b->d)->n_sm};
}

static void launch_read(bench *b, const bench_case *c, int64_t i) {
    const tug_cuda_probe a = probe_args(b);
    (void)c, (void)i;
    launch(b, tug_cuda_on_probe_read(&a), &a);
}

static void launch_mma(bench *b, const bench_case *c, int64_t i) {
    const tug_cuda_probe a = probe_args(b);
    (void)i;
    launch(b,
           c->unit == INT8 ? tug_cuda_on_probe_mma_s8(&a) : tug_cuda_on_probe_mma_f16(&a),
           &a);
}

/* ---- the table ----------------------------------------------------------------------------- */

static bench_case *add(bench *b, bench_case c) {
    if (b->n_case == MAX_CASES) abort();
    b->cases[b->n_case] = c;
    return &b->cases[b->n_case++];
}

static void add_limits(bench *b) {
    const tug_cuda_probe a = probe_args(b);
    const double products =
        (double)a.n_block * TUG_CUDA_PROBE_WARPS * TUG_CUDA_PROBE_CHAINS * a.rounds;
    add(b, (bench_case){.name = "read memory",
                        .launch = launch_read,
                        .unit = BYTES,
                        .work = (double)b->pool_bytes});
    add(b, (bench_case){.name = "int8 products",
                        .launch = launch_mma,
                        .unit = INT8,
                        .work = 4096 * products});
    add(b, (bench_case){.name = "f16 products",
                        .launch = launch_mma,
                        .unit = F16,
                        .work = 2048 * products});
}

static int unit_of(tug_type type) {
    return is_float(type) ? F16 : INT8;
}

static void add_matrix(bench *b, const char *what, tug_type type, int64_t rows,
                       int64_t cols, int64_t tok, int digits,
                       void (*fn)(bench *, const bench_case *, int64_t),
                       double matrices) {
    if (b->small) {
        rows = rows > 64 ? 64 : rows;
        tok = tok > 4 ? 4 : tok;
    }
    const bool few = fn == launch_gemv || fn == launch_hidden || fn == launch_down;
    const double bytes = (double)row_bytes(type, cols) * (double)rows;
    const double products = (double)rows * (double)cols * (double)tok * digits;
    bench_case *c = add(b, (bench_case){.launch = fn,
                                        .unit = few ? BYTES : unit_of(type),
                                        .work = matrices * (few ? bytes : products),
                                        .type = type,
                                        .n_rows = rows,
                                        .n_cols = cols,
                                        .n_tok = tok,
                                        .digits = digits});
    snprintf(c->name, sizeof c->name, "%s %s %lldx%lld, %lld token%s, %d %s%s", what,
             tug_type_get(type)->name, (long long)rows, (long long)cols, (long long)tok,
             tok == 1 ? "" : "s", digits, is_float(type) ? "part" : "digit",
             digits == 1 ? "" : "s");
}

static void add_cases(bench *b) {
    static const tug_type types[] = {TUG_TYPE_Q3_K, TUG_TYPE_Q4_K, TUG_TYPE_Q6_K,
                                     TUG_TYPE_Q8_0};
    const double n = b->n_expert;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const tug_type t = types[i];
        add_matrix(b, "gate, up of 10", t, 512, 2048, 1, 1, launch_hidden, 2 * N_USED);
        add_matrix(b, "down of 10", t, 2048, 512, 1, 1, launch_down, N_USED);
        add_matrix(b, "matrix", t, 8192, 2048, 1, 1, launch_gemv, 1);
        add_matrix(b, "matrix", t, 2048, 4096, 1, 2, launch_gemv, 1);
        add_matrix(b, "matrix", t, 8192, 2048, 8, 1, launch_gemv, 1);
        add_matrix(b, "matrix", t, 8192, 2048, 2048, 1, launch_gemm, 1);
        add_matrix(b, "matrix", t, 2048, 4096, 2048, 2, launch_gemm, 1);
        add_matrix(b, "gate of all", t, 512, 2048, 10, 1, launch_grouped, n);
        add_matrix(b, "gate of all", t, 512, 2048, 160, 1, launch_grouped, n);
    }
    add_matrix(b, "matrix", TUG_TYPE_F16, 8192, 2048, 2048, 2, launch_gemm, 1);
    add_matrix(b, "matrix", TUG_TYPE_BF16, 8192, 2048, 2048, 3, launch_gemm, 1);
    add_matrix(b, "head", TUG_TYPE_Q6_K, 151936, 2048, 1, 1, launch_gemv, 1);
    const int64_t ctx = b->small ? 64 : 32768, tok = b->small ? 3 : 512;
    bench_case *c = add(b, (bench_case){.launch = launch_attn_decode,
                                        .unit = BYTES,
                                        .work = 4.0 * 512 * (double)ctx,
                                        .n_cols = ctx,
                                        .n_tok = 1});
    snprintf(c->name, sizeof c->name, "attention, 1 token at %lld, f16", (long long)ctx);
    c = add(b,
            (bench_case){.launch = launch_attn_prefill,
                         .unit = F16,
                         .work = 2.0 * 16 * 256 * (double)tok * (double)(ctx - tok / 2),
                         .n_cols = ctx,
                         .n_tok = tok});
    snprintf(c->name, sizeof c->name, "attention, %lld tokens at %lld, f16",
             (long long)tok, (long long)ctx);
    add(b, (bench_case){.name = "delta rule, 1 token",
                        .launch = launch_delta,
                        .unit = BYTES,
                        .work = 2.0 * (2 << 20),
                        .n_tok = 1});
}

static void measure(bench *b, bench_case *c, int round) {
    if (c->launch == launch_grouped) make_lists(b, c->n_tok);
    if (c->launch == launch_attn_decode || c->launch == launch_attn_prefill) {
        const int32_t pos = (int32_t)(c->n_cols - c->n_tok);
        tug_device_copy_in(b->d, TUG_STREAM_COMPUTE, b->pos, &pos, sizeof pos);
    }
    c->launch(b, c, 0);
    wait(b);
    const double start = tug_now();
    for (int i = 1; i <= b->repeat; i++) c->launch(b, c, (int64_t)round * b->repeat + i);
    wait(b);
    c->seconds[round] = (tug_now() - start) / b->repeat;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double rate(const bench *b, const bench_case *c) {
    double sorted[MAX_ROUNDS];
    memcpy(sorted, c->seconds, (size_t)b->n_rounds * sizeof *sorted);
    qsort(sorted, (size_t)b->n_rounds, sizeof *sorted, compare);
    return c->work / sorted[b->n_rounds / 2];
}

static void print_table(const bench *b) {
    static const char *const units[] = {"GB/s", "TMAC/s int8", "TMAC/s f16"};
    printf("| case | us | rate | of the limit |\n|---|---|---|---|\n");
    for (int i = 0; i < b->n_case; i++) {
        const bench_case *c = &b->cases[i];
        const double r = rate(b, c), limit = rate(b, &b->cases[c->unit]);
        printf("| %s | %.1f | %.1f %s | %.0f %% |\n", c->name, 1e6 * c->work / r,
               r / (c->unit == BYTES ? 1e9 : 1e12), units[c->unit], 100 * r / limit);
    }
}

/* ---- set-up -------------------------------------------------------------------------------- */

static void fill(bench *b, uint8_t *to, size_t bytes, tug_rng *rng) {
    uint64_t *const piece = malloc(PIECE);
    if (!piece) abort();
    for (size_t at = 0; at < bytes; at += PIECE) {
        const size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        for (size_t i = 0; i < PIECE / 8; i++) {
            /* No exponent is all ones: neither f16 nor f32 among them is NaN. */
            piece[i] = tug_rng_u64(rng) & UINT64_C(0xBBFFBBFFBBFFBBFF);
        }
        tug_device_copy_in(b->d, TUG_STREAM_COMPUTE, to + at, piece, n);
    }
    free(piece);
}

static void set_up(bench *b) {
    tug_rng rng;
    tug_rng_seed(&rng, 1);
    b->n_expert = b->small ? 16 : 512;
    b->pool_bytes = b->small ? 36 << 20 : (size_t)1 << 30;
    b->act_bytes = b->small ? 8 << 20 : 256 << 20;
    b->out_bytes = b->small ? 8 << 20 : 512 << 20;
    b->pool = device_bytes(b, b->pool_bytes);
    b->act = device_bytes(b, b->act_bytes);
    b->out = device_bytes(b, b->out_bytes);
    fill(b, b->pool, b->pool_bytes, &rng);
    fill(b, b->act, b->act_bytes, &rng);
    const size_t n = (size_t)b->n_expert;
    b->ids = device_bytes(b, n * sizeof *b->ids);
    b->slots = device_bytes(b, n * sizeof *b->slots);
    b->first = device_bytes(b, (n + 1) * sizeof *b->first);
    b->sorted = device_bytes(b, n * 256 * sizeof *b->sorted);
    b->tiles = device_bytes(b, (1 + n * 16) * sizeof *b->tiles);
    b->pos = device_bytes(b, sizeof *b->pos);
    int32_t ids[512];
    const void *slots[512];
    for (int e = 0; e < b->n_expert; e++) {
        const int other = (int)(tug_rng_u64(&rng) % (uint64_t)(e + 1));
        ids[e] = e;
        if (other != e) {
            ids[e] = ids[other];
            ids[other] = e;
        }
        slots[e] = pool_matrix(b, (int64_t)512 * row_bytes(TUG_TYPE_Q8_0, 2048), e);
    }
    tug_device_copy_in(b->d, TUG_STREAM_COMPUTE, b->ids, ids, n * sizeof *ids);
    tug_device_copy_in(b->d, TUG_STREAM_COMPUTE, b->slots, slots, n * sizeof *slots);
    wait(b);
}

static void tear_down(bench *b) {
    const size_t n = (size_t)b->n_expert;
    tug_device_free(b->d, b->pool, b->pool_bytes);
    tug_device_free(b->d, b->act, b->act_bytes);
    tug_device_free(b->d, b->out, b->out_bytes);
    tug_device_free(b->d, b->ids, n * sizeof *b->ids);
    tug_device_free(b->d, b->slots, n * sizeof *b->slots);
    tug_device_free(b->d, b->first, (n + 1) * sizeof *b->first);
    tug_device_free(b->d, b->sorted, n * 256 * sizeof *b->sorted);
    tug_device_free(b->d, b->tiles, (1 + n * 16) * sizeof *b->tiles);
    tug_device_free(b->d, b->pos, sizeof *b->pos);
    tug_device_close(&b->d);
}

int main(int argc, char **argv) {
    static bench b = {.n_rounds = 7, .repeat = 50};
    int gpu = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--gpu=", 6) == 0) {
            gpu = atoi(argv[i] + 6);
        } else if (strncmp(argv[i], "--rounds=", 9) == 0) {
            b.n_rounds = atoi(argv[i] + 9);
        } else if (strcmp(argv[i], "--small") == 0) {
            b.small = true;
        } else {
            b.n_rounds = 0;
        }
    }
    if (b.n_rounds < 1 || b.n_rounds > MAX_ROUNDS) {
        fprintf(stderr, "usage: %s [--gpu=N] [--rounds=1..%d] [--small]\n", argv[0],
                MAX_ROUNDS);
        return 2;
    }
    if (b.small) b.repeat = 1;
    tug_err err;
    check(tug_device_open(&b.d, gpu, 0, &err), &err);
    printf("%s, %d multiprocessors, median of %d rounds of %d launches\n\n",
           tug_device_get_info(b.d)->name, tug_device_get_info(b.d)->n_sm, b.n_rounds,
           b.repeat);
    set_up(&b);
    add_limits(&b);
    add_cases(&b);
    for (int r = 0; r < b.n_rounds; r++) {
        for (int i = 0; i < b.n_case; i++) measure(&b, &b.cases[i], r);
    }
    print_table(&b);
    tear_down(&b);
    return 0;
}
