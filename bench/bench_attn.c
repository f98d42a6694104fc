/* bench_attn.c - speed of attention as the CPU backend runs it, at the shape of
 * Qwen3-Coder-Next (16 query heads, 2 kv heads of 256), against depth, beside the limits
 * of this machine: one token (decode) and 512 tokens (prefill).
 *
 *   usage: bench_attn [--cpu=LEVEL] [--threads=N] [--rounds=N] [--type=NAME]
 *                     [--depth=ROWS] [--tokens=N] [--json]
 *
 * Cases are measured in turn, round after round; medians, and the best in brackets.  The
 * peak is of int16 dot products at avx512 and of f32 multiply-adds at avx2.
 * SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/rng.h"
#include "base/sys.h"
#include "base/threads.h"
#include "kernels/cpu/probe.h"

enum {
    N_HEAD = 16,
    N_KV = 2,
    DIM = 256,
    STRIDE = (2 * N_HEAD + 2 * N_KV) * DIM,
    MAX_TOK = 512,
    MAX_ROWS = 65536 + MAX_TOK,
    MAX_ROUNDS = 32,
    MAX_CASES = 64,
    PEAK_ROUNDS = 200000,
    READ_PIECE = 1 << 20
};

static const struct {
    const char *name;
    tug_kv_type type;
} types[] = {{"i16", TUG_KV_I16}, {"f16", TUG_KV_F16}, {"q8_0", TUG_KV_Q8_0}};
static const int64_t depths[] = {8192, 32768, 65536}, tokens[] = {1, 512};
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

typedef struct bench_case {
    int type;
    int64_t depth, n_tok;
    double seconds[MAX_ROUNDS];
} bench_case;

typedef struct bench {
    tug_backend *be;
    tug_pool *pool; /* for the limits */
    tug_cpu_level level;
    float *qkv, *out;
    uint8_t *cache[COUNT(types)]; /* K, then V, of each type */
    size_t side[COUNT(types)];
    double peak[MAX_ROUNDS], bandwidth[MAX_ROUNDS]; /* MAC/s, B/s, all threads */
} bench;

typedef struct options {
    tug_cpu_level level;
    int threads, rounds;
    const char *type;
    int64_t depth, n_tok; /* 0: all */
    bool json;
} options;

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts v. */
static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

/* ---- limits --------------------------------------------------------------------------- */

/* At avx512 int16 products: VPDPWSSD does half as many as VPDPBUSD, as often. */
static double peak_macs(const bench *b) {
    const tug_probe_kernels probe = tug_probe_kernels_of(b->level);
    return b->level == TUG_CPU_AVX512 ? probe.int8(PEAK_ROUNDS) / 2
                                      : probe.f32(PEAK_ROUNDS);
}

static void peak_piece(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    for (int64_t i = begin; i < end; i++) (void)peak_macs(ud);
}

static double measure_peak(bench *b) {
    const int64_t pieces = 4 * tug_pool_size(b->pool);
    const double per_piece = peak_macs(b), start = tug_now();
    tug_pool_for(b->pool, pieces, 1, peak_piece, b);
    return (double)pieces * per_piece / (tug_now() - start);
}

static void read_piece(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const bench *b = ud;
    for (int64_t i = begin; i < end; i++) {
        const uint64_t *p =
            (const uint64_t *)(const void *)(b->cache[0] + i * READ_PIECE);
        uint64_t sum[8] = {0};
        for (int64_t j = 0; j < READ_PIECE / 8; j += 8) {
            __builtin_prefetch(p + j + 1024, 0, 2);
            for (int l = 0; l < 8; l++) sum[l] += p[j + l];
        }
        for (int l = 0; l < 8; l++) __asm__ volatile("" ::"r"(sum[l]));
    }
}

static double measure_bandwidth(bench *b) {
    const int64_t pieces = (int64_t)(2 * b->side[0]) / READ_PIECE;
    const double start = tug_now();
    tug_pool_for(b->pool, pieces, 1, read_piece, b);
    return (double)pieces * READ_PIECE / (tug_now() - start);
}

/* ---- cases ---------------------------------------------------------------------------- */

static const tug_attn_shape shape = {N_HEAD, N_KV, DIM, 64, 1e-6f};

static tug_kv_layer layer(const bench *b, int type) {
    return (tug_kv_layer){b->cache[type], b->cache[type] + b->side[type],
                          types[type].type, tug_kv_row_bytes(types[type].type, DIM),
                          MAX_ROWS};
}

/* Random normalised keys and values of about 1, in all rows. */
static void fill_cache(bench *b, int type, const float *norm, const float *rope) {
    tug_kv_layer kv = layer(b, type);
    tug_rng rng;
    tug_rng_seed(&rng, 1);
    for (int64_t t = 0; t < MAX_ROWS; t += MAX_TOK) {
        for (int64_t i = 0; i < MAX_TOK; i++) {
            float *keys = b->qkv + i * STRIDE + 2L * N_HEAD * DIM;
            for (int d = 0; d < 2 * N_KV * DIM; d++) {
                keys[d] = (float)(4 * tug_rng_unit(&rng) - 2);
            }
        }
        tug_op_attn_prepare(b->be, &shape, b->qkv, STRIDE, norm, norm, rope, &kv, t,
                            MAX_TOK);
    }
}

static bool set_up(bench *b, const options *o) {
    const tug_backend_limits limits = {.n_tok = MAX_TOK,
                                       .n_in = DIM,
                                       .n_expert = 1,
                                       .n_expert_used = 1,
                                       .expert_dim = 32,
                                       .shared_dim = 32,
                                       .dim = DIM,
                                       .conv_channels = 1,
                                       .n_v_head = 1};
    tug_err err;
    if (tug_backend_cpu_create(&b->be, o->level, o->threads, &err) != TUG_OK ||
        tug_pool_create(&b->pool, o->threads, &err) != TUG_OK ||
        tug_backend_reserve(b->be, &limits, &err) != TUG_OK) {
        return false;
    }
    b->qkv = tug_alloc_aligned(64, sizeof(float) * MAX_TOK * STRIDE);
    b->out = tug_alloc_aligned(64, sizeof(float) * MAX_TOK * N_HEAD * DIM);
    float *norm = tug_alloc_aligned(64, sizeof(float) * DIM);
    float *rope = tug_alloc_aligned(64, sizeof(float) * MAX_TOK * 64);
    if (!b->qkv || !b->out || !norm || !rope) return false;
    tug_rng rng;
    tug_rng_seed(&rng, 2);
    for (int64_t i = 0; i < (int64_t)MAX_TOK * STRIDE; i++) {
        b->qkv[i] = (float)(2 * tug_rng_unit(&rng) - 1);
    }
    for (int d = 0; d < DIM; d++) norm[d] = 1;
    for (int64_t i = 0; i < (int64_t)MAX_TOK * 64; i++) rope[i] = i % 64 < 32 ? 1 : 0;
    for (int i = 0; i < COUNT(types); i++) {
        b->side[i] = (size_t)N_KV * MAX_ROWS * tug_kv_row_bytes(types[i].type, DIM);
        b->cache[i] = tug_alloc_aligned(64, 2 * b->side[i]);
        if (!b->cache[i]) return false;
        fill_cache(b, i, norm, rope);
    }
    tug_free(norm);
    tug_free(rope);
    return true;
}

static double run(bench *b, const bench_case *c) {
    const tug_kv_layer kv = layer(b, c->type);
    const int repeat = c->n_tok == 1 ? 8 : 1;
    const double start = tug_now();
    for (int i = 0; i < repeat; i++) {
        tug_op_attn(b->be, &shape, b->out, b->qkv, STRIDE, &kv, c->depth, c->n_tok);
    }
    return (tug_now() - start) / repeat;
}

static int list_cases(bench_case *cases, const options *o) {
    int n = 0;
    for (int i = 0; i < COUNT(tokens) * COUNT(types) * COUNT(depths); i++) {
        const bench_case c = {.n_tok = tokens[i / COUNT(depths) / COUNT(types)],
                              .type = i / COUNT(depths) % COUNT(types),
                              .depth = depths[i % COUNT(depths)]};
        if (o->type && strcmp(o->type, types[c.type].name) != 0) continue;
        if (o->depth && o->depth != c.depth) continue;
        if (o->n_tok && o->n_tok != c.n_tok) continue;
        cases[n++] = c;
    }
    return n;
}

static void print_case(bench_case *c, const options *o, double peak, double bandwidth,
                       bool first) {
    const double time = median(c->seconds, o->rounds), best = c->seconds[0];
    /* Row by row: the t-th token sees depth + t + 1. */
    const double rows =
        (double)c->n_tok * ((double)c->depth + 0.5 * (double)(c->n_tok + 1));
    const double macs = 2.0 * N_HEAD * DIM * rows;
    const double bytes = 2.0 * N_KV * (double)(c->depth + c->n_tok) *
                         (double)tug_kv_row_bytes(types[c->type].type, DIM);
    if (o->json) {
        printf(
            "%s\n  {\"type\": \"%s\", \"depth\": %lld, \"tokens\": %lld, \"ms\": %.4f, "
            "\"best_ms\": %.4f, \"gmac_s\": %.2f, \"peak_share\": %.3f, \"gb_s\": %.2f, "
            "\"read_share\": %.3f}",
            first ? "" : ",", types[c->type].name, (long long)c->depth,
            (long long)c->n_tok, time * 1e3, best * 1e3, macs / time * 1e-9,
            macs / time / peak, bytes / time * 1e-9, bytes / time / bandwidth);
        return;
    }
    printf("%-5s depth %6lld, %3lld tokens: %9.3f ms (%9.3f)  %6.1f GMAC/s %3.0f%%  "
           "%5.1f GB/s %3.0f%%\n",
           types[c->type].name, (long long)c->depth, (long long)c->n_tok, time * 1e3,
           best * 1e3, macs / time * 1e-9, 100 * macs / time / peak, bytes / time * 1e-9,
           100 * bytes / time / bandwidth);
}

/* The text after "--name=", or NULL if arg is another option. */
static const char *value_of(const char *arg, const char *name) {
    const size_t n = strlen(name);
    return strncmp(arg, name, n) == 0 ? arg + n : NULL;
}

static bool parse(options *o, int argc, char **argv, tug_err *err) {
    for (int i = 1; i < argc; i++) {
        const char *v;
        if ((v = value_of(argv[i], "--cpu="))) {
            if (tug_cpu_level_parse(v, &o->level, err) != TUG_OK) return false;
        } else if ((v = value_of(argv[i], "--threads="))) {
            o->threads = atoi(v);
        } else if ((v = value_of(argv[i], "--rounds="))) {
            o->rounds = atoi(v);
        } else if ((v = value_of(argv[i], "--type="))) {
            o->type = v;
        } else if ((v = value_of(argv[i], "--depth="))) {
            o->depth = atoll(v);
        } else if ((v = value_of(argv[i], "--tokens="))) {
            o->n_tok = atoll(v);
        } else if (strcmp(argv[i], "--json") == 0) {
            o->json = true;
        } else {
            (void)TUG_FAIL(err, TUG_EUSAGE, "unknown option '%s'; see the head of %s",
                           argv[i], "bench/bench_attn.c");
            return false;
        }
    }
    if (o->rounds >= 1 && o->rounds <= MAX_ROUNDS && o->threads >= 1) return true;
    (void)TUG_FAIL(err, TUG_EUSAGE, "--threads at least 1, --rounds 1 to %d", MAX_ROUNDS);
    return false;
}

int main(int argc, char **argv) {
    static bench b;
    static bench_case cases[MAX_CASES];
    options o = {.level = tug_cpu_detect(), .threads = tug_cpu_count(), .rounds = 3};
    tug_err err;
    if (!parse(&o, argc, argv, &err)) {
        (void)fprintf(stderr, "bench_attn: %s\n", err.msg);
        return 2;
    }
    b.level = o.level;
    if (!set_up(&b, &o)) {
        (void)fprintf(stderr, "bench_attn: out of memory, it needs about 450 MB\n");
        return 1;
    }
    const int n = list_cases(cases, &o);
    for (int r = 0; r < o.rounds; r++) {
        b.peak[r] = measure_peak(&b);
        b.bandwidth[r] = measure_bandwidth(&b);
        for (int i = 0; i < n; i++) cases[i].seconds[r] = run(&b, &cases[i]);
    }
    const double peak = median(b.peak, o.rounds);
    const double bandwidth = median(b.bandwidth, o.rounds);
    printf(o.json ? "{\"level\": \"%s\", \"threads\": %d, \"peak_gmac_s\": %.1f, "
                    "\"read_gb_s\": %.2f, \"cases\": ["
                  : "%s, %d threads; peak %.1f GMAC/s, reads %.1f GB/s\n",
           tug_cpu_level_name(o.level), o.threads, peak * 1e-9, bandwidth * 1e-9);
    for (int i = 0; i < n; i++) print_case(&cases[i], &o, peak, bandwidth, i == 0);
    if (o.json) printf("\n]}\n");
    tug_backend_destroy(&b.be);
    tug_pool_destroy(&b.pool);
    return 0;
}
