/* bench_rows.c - speed of every kernel that is not a matrix product, one thread, at the
 * shapes of Qwen3-Coder-Next, beside the limits of this machine.
 *
 *   usage: bench_rows [--cpu=LEVEL] [--fn=TEXT] [--rounds=N] [--json]
 *
 * Processor time, not wall time, so that a busy machine matters less; cases are measured
 * in turn, round after round, and medians printed.  Reading a large array is measured once
 * a round; the f32 peak right before and after every case, because a neighbour on the
 * same core can halve it from one moment to the next.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "base/sys.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/probe.h"
#include "tests/kernels/delta_chunked.h"

enum {
    MAX_ROUNDS = 64,
    HIDDEN = 2048,
    EXPERT = 512,
    N_EXPERT = 512,
    TOP_K = 10,
    CHANNELS = 8192,
    DK = 128,
    DV = 128,
    V_HEADS = 32,
    HEAD_DIM = 256,
    GROUP = 8, /* query heads per kv head */
    MAX_TOK = 512,
    MAX_CTX = 65536,
    STATES = 512, /* 32 MB of delta states: what one token reads of them is cold */
    FLOATS = 16 << 20
};

typedef struct bench {
    tug_kernels k;
    float *x, *y, *z; /* (FLOATS,) each: inputs about 1, outputs, inputs in (0, 1) */
    float *state;     /* (STATES, DK, DV) */
    void *cache;      /* K, then V: (MAX_CTX, HEAD_DIM) each, of any type */
    float *scratch;
    int32_t ids[TUG_MAX_TOPK], lens[MAX_TOK];
} bench;

typedef struct bench_case bench_case;
typedef void run_fn(bench *b, const bench_case *c);

struct bench_case {
    const char *name;
    run_fn *run;
    int64_t n, arg; /* what they mean is the run function's business */
    double bytes;   /* moved by one run; 0: not of interest */
    double flops;   /* multiply-adds count twice; 0: not of interest */
    int repeat;     /* runs per measurement */
};

/* Per round: the time of one run, and the peak around it. */
typedef struct bench_result {
    double us[MAX_ROUNDS], peak[MAX_ROUNDS];
} bench_result;

/* ---- the cases ------------------------------------------------------------------------ */

static void run_rmsnorm(bench *b, const bench_case *c) {
    b->k.rmsnorm(b->y, b->x, b->z, c->n, 1e-6f);
}
static void run_l2norm(bench *b, const bench_case *c) {
    b->k.l2norm(b->y, c->n, 1e-6f, 1.0f);
}
static void run_axpy(bench *b, const bench_case *c) {
    b->k.axpy(b->y, b->x, 1e-3f, c->n);
}
static void run_swiglu(bench *b, const bench_case *c) {
    b->k.swiglu(b->y, b->x, b->z, c->n);
}
static void run_sigmoid_mul(bench *b, const bench_case *c) {
    memcpy(b->y, b->z, (size_t)c->n * sizeof *b->y); /* or it decays to subnormals */
    b->k.sigmoid_mul(b->y, b->x, c->n);
}
static void run_rope(bench *b, const bench_case *c) {
    b->k.rope(b->y, b->z, b->z + c->n, c->n);
}
static void run_route(bench *b, const bench_case *c) {
    b->k.route(b->ids, b->y, b->x, (int)c->n, TOP_K);
}
static void run_gates(bench *b, const bench_case *c) {
    b->k.delta_gates(b->y, b->y + c->n, b->x, b->x + c->n, b->x + 2 * c->n, b->x, c->n);
}
static void run_norm_gated(bench *b, const bench_case *c) {
    b->k.rmsnorm_gated(b->y, b->x, b->z, b->x, c->n, 1e-6f);
}
static void run_kv_store(bench *b, const bench_case *c) {
    b->k.kv_store_k[c->arg](b->y, 0, b->x, c->n);
}

static void run_conv(bench *b, const bench_case *c) {
    const tug_conv_args a = {.y = b->y,
                             .y_stride = CHANNELS,
                             .x = b->x,
                             .x_stride = CHANNELS,
                             .state = b->state,
                             .state_stride = CHANNELS,
                             .w = b->z,
                             .w_stride = CHANNELS,
                             .n_ch = CHANNELS,
                             .n_tok = c->n,
                             .width = 4};
    b->k.conv_silu(&a);
}

/* n tokens of one head; arg 0: the kernel, over ever another head's state; otherwise the
 * chunked form with chunks of arg. */
static void run_delta(bench *b, const bench_case *c) {
    static int next_state;
    next_state = (next_state + 1) % STATES;
    const tug_delta_args a = {.out = b->y,
                              .out_stride = V_HEADS * DV,
                              .state = b->state + (int64_t)next_state * DK * DV,
                              .state_stride = DV,
                              .q = b->x,
                              .k = b->x + DK,
                              .qk_stride = CHANNELS,
                              .v = b->x + 2L * DK,
                              .v_stride = CHANNELS,
                              .decay = b->z,
                              .beta = b->z + MAX_TOK,
                              .gate_stride = 1,
                              .n_tok = c->n,
                              .dk = DK,
                              .n_col = DV};
    if (c->arg == 0) {
        b->k.delta(&a);
    } else {
        delta_chunked(&a, (int)c->arg);
    }
}

/* Queries of n / GROUP tokens over `arg` rows: arg % 4 is the type, the rest the rows. */
static void run_attn(bench *b, const bench_case *c) {
    const tug_kv_type type = (tug_kv_type)(c->arg % 4);
    const int64_t n_ctx = c->arg / 4;
    const size_t row_bytes = tug_kv_row_bytes(type, HEAD_DIM);
    for (int64_t i = 0; i < c->n; i++) {
        b->lens[i] = (int32_t)(n_ctx - (c->n - 1 - i) / GROUP);
    }
    const tug_attn_args a = {.out = b->y,
                             .out_stride = HEAD_DIM,
                             .q = b->x,
                             .q_stride = HEAD_DIM,
                             .q_len = b->lens,
                             .n_q = c->n,
                             .k = b->cache,
                             .v = (char *)b->cache + (size_t)MAX_CTX * row_bytes,
                             .row_bytes = row_bytes,
                             .head_dim = HEAD_DIM,
                             .scale = 1.0f / 16,
                             .scratch = b->scratch};
    b->k.attn[type](&a);
}

/* The members of a bench_case after its name, for the families. */
#define ROW(fn, n, arrays) (fn), (n), 0, (double)(n)*4 * (arrays), 0, 2000
/* The arithmetic of the recurrence: a product and three multiply-adds per element. */
#define DELTA(n, chunk, bytes) \
    run_delta, (n), (chunk), (bytes), 7.0 * DK *DV *(n), 1 + 512 / (n)
#define ATTN(n_q, type, rows, row_bytes, repeat)                    \
    run_attn, (n_q), (rows)*4 + (type), 2.0 * (rows) * (row_bytes), \
        4.0 * HEAD_DIM *(n_q) * (rows), (repeat)
enum {
    F16_ROW = HEAD_DIM * 2,
    I16_ROW = HEAD_DIM * 2 + 4,
    Q8_0_ROW = HEAD_DIM / 32 * 34,
    STATE_RW = 2 * DK * DV * 4
};

static const bench_case cases[] = {
    {"rmsnorm 2048", ROW(run_rmsnorm, HIDDEN, 3)},
    {"l2norm 128", ROW(run_l2norm, DK, 2)},
    {"axpy 2048", ROW(run_axpy, HIDDEN, 3)},
    {"swiglu 512", ROW(run_swiglu, EXPERT, 3)},
    {"sigmoid_mul 256", ROW(run_sigmoid_mul, HEAD_DIM, 3)},
    {"rope 2x32", ROW(run_rope, 32, 6)},
    {"route 10 of 512", ROW(run_route, N_EXPERT, 1)},
    {"delta_gates 32", ROW(run_gates, V_HEADS, 6)},
    {"rmsnorm_gated 128", ROW(run_norm_gated, DV, 4)},
    {"kv_store f16 256", run_kv_store, HEAD_DIM, TUG_KV_F16, HEAD_DIM * 6, 0, 2000},
    {"kv_store q8_0 256", run_kv_store, HEAD_DIM, TUG_KV_Q8_0, HEAD_DIM * 5, 0, 2000},
    {"conv_silu 8192 x 1", run_conv, 1, 0, CHANNELS * 4.0 * 12, 0, 50},
    {"conv_silu 8192 x 128", run_conv, 128, 0, CHANNELS * 8.0 * 128, 0, 1},
    {"delta x 1, cold state", DELTA(1, 0, STATE_RW)},
    {"delta x 64", DELTA(64, 0, 0)},
    {"delta x 512", DELTA(512, 0, 0)},
    {"delta x 512, chunks of 32", DELTA(512, 32, 0)},
    {"delta x 512, chunks of 64", DELTA(512, 64, 0)},
    {"attn f16 8 q, 8K", ATTN(8, TUG_KV_F16, 8192, F16_ROW, 2)},
    {"attn f16 8 q, 64K", ATTN(8, TUG_KV_F16, 65536, F16_ROW, 1)},
    {"attn i16 8 q, 64K", ATTN(8, TUG_KV_I16, 65536, I16_ROW, 1)},
    {"attn i16 8 q, 512", ATTN(8, TUG_KV_I16, 512, I16_ROW, 50)},
    {"attn q8_0 8 q, 512", ATTN(8, TUG_KV_Q8_0, 512, Q8_0_ROW, 50)},
    {"attn q8_0 8 q, 64K", ATTN(8, TUG_KV_Q8_0, 65536, Q8_0_ROW, 1)},
    {"attn f16 32 q, 2K", ATTN(32, TUG_KV_F16, 2048, F16_ROW, 2)},
    {"attn f16 128 q, 2K", ATTN(128, TUG_KV_F16, 2048, F16_ROW, 1)},
    {"attn i16 128 q, 2K", ATTN(128, TUG_KV_I16, 2048, I16_ROW, 1)},
    {"attn q8_0 128 q, 2K", ATTN(128, TUG_KV_Q8_0, 2048, Q8_0_ROW, 1)},
    {"attn i16 256 q, 32K", ATTN(256, TUG_KV_I16, 32768, I16_ROW, 1)},
    {"attn q8_0 256 q, 32K", ATTN(256, TUG_KV_Q8_0, 32768, Q8_0_ROW, 1)},
    {"attn f16 256 q, 32K", ATTN(256, TUG_KV_F16, 32768, F16_ROW, 1)},
    {"attn f16 128 q, 32K", ATTN(128, TUG_KV_F16, 32768, F16_ROW, 1)},
};
enum { N_CASES = sizeof cases / sizeof *cases };

/* ---- measuring ------------------------------------------------------------------------ */

static double cpu_seconds(void) {
    struct timespec ts;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts) != 0) return 0;
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Multiply-adds per second, times two. */
static double measure_peak(tug_cpu_level level) {
    const int64_t rounds = 100000;
    const double start = cpu_seconds();
    const double macs = tug_probe_kernels_of(level).f32(rounds);
    return 2 * macs / (cpu_seconds() - start);
}

/* Bytes per second read from an array beyond the caches. */
static double measure_read(const bench *b) {
    const uint64_t *p = b->cache;
    const size_t n = (size_t)64 << 20;
    uint64_t sum[4] = {0};
    const double start = cpu_seconds();
    for (size_t i = 0; i < n / 8; i += 32) { /* four cache lines, one word of each half */
        for (size_t j = 0; j < 32; j += 4) sum[j / 4 % 4] += p[i + j];
    }
    const double seconds = cpu_seconds() - start;
    volatile uint64_t keep = sum[0] + sum[1] + sum[2] + sum[3];
    (void)keep;
    return (double)n / seconds;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

static float *random_floats(size_t n, double lo, double hi) {
    float *x = tug_alloc_aligned(64, n * sizeof *x);
    if (!x) {
        (void)fprintf(stderr, "bench_rows: out of memory\n");
        exit(1);
    }
    tug_rng rng;
    tug_rng_seed(&rng, n);
    for (size_t i = 0; i < n; i++) x[i] = (float)(lo + (hi - lo) * tug_rng_unit(&rng));
    return x;
}

static void make_inputs(bench *b) {
    const size_t cache_bytes = 2ul * MAX_CTX * (HEAD_DIM * 2 + 4);
    b->x = random_floats(FLOATS, -1, 1);
    b->y = random_floats(FLOATS, 0, 0);
    b->z = random_floats(FLOATS, 0, 1);
    b->state = random_floats((size_t)STATES * DK * DV, -1, 1);
    b->scratch = random_floats(tug_attn_scratch_floats(), 0, 0);
    b->cache = random_floats(cache_bytes / sizeof(float), 0, 0);
    /* Keys of length 1, or the states would grow without bound. */
    for (int t = 0; t < MAX_TOK; t++) {
        float *q = b->x + (int64_t)t * CHANNELS;
        b->k.l2norm(q, DK, 1e-6f, 0.088f);
        b->k.l2norm(q + DK, DK, 1e-6f, 1.0f);
    }
    /* 0x3030 is a small number as f16, as scale and as bytes of Q8_0. */
    memset(b->cache, 0x30, cache_bytes);
}

static void measure(bench *b, const bench_case *c, bench_result *m, int round) {
    c->run(b, c);
    const double before = measure_peak(b->k.level), start = cpu_seconds();
    for (int i = 0; i < c->repeat; i++) c->run(b, c);
    m->us[round] = (cpu_seconds() - start) * 1e6 / c->repeat;
    m->peak[round] = (before + measure_peak(b->k.level)) / 2;
}

static void report(const bench_case *c, bench_result *m, int rounds, double read,
                   bool json) {
    const double peak = median(m->peak, rounds), us = median(m->us, rounds);
    const double gbs = c->bytes / us * 1e-3, gflops = c->flops / us * 1e-3;
    if (json) {
        (void)printf(
            "{\"name\": \"%s\", \"us\": %.3f, \"gb_s\": %.2f, \"read_share\": %.3f, "
            "\"gflop_s\": %.2f, \"peak_share\": %.3f}\n",
            c->name, us, gbs, gbs * 1e9 / read, gflops, gflops * 1e9 / peak);
        return;
    }
    (void)printf("%-28s %10.2f us", c->name, us);
    if (c->bytes > 0) (void)printf(" %8.1f GB/s %4.0f%%", gbs, gbs * 1e11 / read);
    if (c->bytes <= 0) (void)printf(" %19s", "");
    if (c->flops > 0)
        (void)printf(" %8.1f GFLOP/s %4.0f%% of %.0f", gflops, gflops * 1e11 / peak,
                     peak * 1e-9);
    (void)printf("\n");
}

int main(int argc, char **argv) {
    tug_cpu_level level = tug_cpu_detect();
    const char *only = "";
    int rounds = 7;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        tug_err err;
        if (strncmp(argv[i], "--cpu=", 6) == 0) {
            if (tug_cpu_level_parse(argv[i] + 6, &level, &err) != TUG_OK) {
                (void)fprintf(stderr, "bench_rows: %s\n", err.msg);
                return 2;
            }
        } else if (strncmp(argv[i], "--fn=", 5) == 0) {
            only = argv[i] + 5;
        } else if (strncmp(argv[i], "--rounds=", 9) == 0) {
            rounds = (int)strtol(argv[i] + 9, NULL, 10);
        } else if (strcmp(argv[i], "--json") == 0) {
            json = true;
        }
    }
    if (rounds < 1 || rounds > MAX_ROUNDS) {
        (void)fprintf(stderr, "bench_rows: --rounds is 1 to %d\n", MAX_ROUNDS);
        return 2;
    }
    static bench b;
    static bench_result results[N_CASES];
    double read[MAX_ROUNDS];
    tug_kernels_init(&b.k, level);
    make_inputs(&b);
    for (int r = 0; r < rounds; r++) {
        read[r] = measure_read(&b);
        for (int i = 0; i < N_CASES; i++) {
            if (strstr(cases[i].name, only)) measure(&b, &cases[i], &results[i], r);
        }
    }
    const double bytes = median(read, rounds);
    (void)printf(json ? "{\"level\": \"%s\", \"read_gb_s\": %.1f}\n"
                      : "level %s, one thread; reads %.1f GB/s\n",
                 tug_cpu_level_name(level), bytes * 1e-9);
    for (int i = 0; i < N_CASES; i++) {
        if (strstr(cases[i].name, only))
            report(&cases[i], &results[i], rounds, bytes, json);
    }
    return 0;
}
