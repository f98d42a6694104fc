/* bench_linear.c - speed of the linear kernels beside the limits of this machine.
 *
 *   usage: bench_linear [--cpu=LEVEL] [--threads=N] [--type=NAME] [--rounds=N] [--busy]
 *                       [--json]
 *
 * For each type and shape: decode (one token, matrices from a pool larger than any cache)
 * in GB/s of weights read and as share of the read bandwidth; prefill (m tokens, as cold)
 * in GMAC/s and as share of the int8 peak.  Limits and cases are measured in turn, round
 * after round, and the medians printed, so that a noisy neighbour hits them alike.  --busy
 * counts processor time instead of time, for a machine that others use.
 * SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "base/sys.h"
#include "base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/probe.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

enum {
    MAX_ROUNDS = 64,
    MAX_TOKENS = 512,
    GRAIN_ROWS = 64,
    DECODE_BYTES = 256 << 20, /* pool of weights: far more than any cache */
    PREFILL_BYTES = 64 << 20,
};

static const tug_type all_types[] = {
    TUG_TYPE_Q3_K, TUG_TYPE_Q4_K,   TUG_TYPE_Q5_K,   TUG_TYPE_Q6_K, TUG_TYPE_Q8_0,
    TUG_TYPE_Q2_K, TUG_TYPE_IQ4_XS, TUG_TYPE_IQ4_NL, TUG_TYPE_Q4_0, TUG_TYPE_Q4_1,
    TUG_TYPE_Q5_0, TUG_TYPE_Q5_1,   TUG_TYPE_BF16,   TUG_TYPE_F16,  TUG_TYPE_F32};

typedef struct shape {
    int64_t rows, cols;
} shape;
static const shape shapes[] = {{512, 2048}, {2048, 512}, {8192, 2048}, {2048, 4096}};
static const int64_t tokens[] = {1, 4, 10, 40, 160, 512};

typedef struct bench_case {
    tug_type type;
    shape shape;
    int64_t n_tok;
    double seconds[MAX_ROUNDS]; /* per matrix */
} bench_case;

typedef struct bench {
    tug_pool *pool;
    tug_kernels k;
    tug_probe_kernels probe;
    unsigned char *weights;            /* DECODE_BYTES of valid blocks of any type */
    unsigned char *act[TUG_ACT_COUNT]; /* MAX_TOKENS rows of up to 8192 columns */
    float *y;                          /* (MAX_TOKENS, 8192) */
    int rounds;
    bool busy;
    double peak[MAX_ROUNDS], bandwidth[MAX_ROUNDS]; /* MAC/s, B/s, all threads */
} bench;

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *x, int n) {
    double sorted[MAX_ROUNDS];
    memcpy(sorted, x, (size_t)n * sizeof *x);
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    return sorted[n / 2];
}

static double seconds(const bench *b) {
    if (!b->busy) return tug_now();
    struct timespec used;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return ((double)used.tv_sec + 1e-9 * (double)used.tv_nsec) / tug_pool_size(b->pool);
}

/* ---- limits ----------------------------------------------------------------------- */

enum { PEAK_ROUNDS = 200000 };

static void peak_piece(void *ud, int64_t begin, int64_t end, int thread) {
    const bench *b = ud;
    (void)thread;
    for (int64_t i = begin; i < end; i++) (void)b->probe.int8(PEAK_ROUNDS);
}

static double measure_peak(bench *b) {
    const int64_t pieces = 4 * tug_pool_size(b->pool);
    const double per_piece = b->probe.int8(PEAK_ROUNDS), start = seconds(b);
    tug_pool_for(b->pool, pieces, 1, peak_piece, b);
    return (double)pieces * per_piece / (seconds(b) - start);
}

enum { READ_PIECE = 1 << 20 };

static void read_piece(void *ud, int64_t begin, int64_t end, int thread) {
    const bench *b = ud;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        b->probe.read(b->weights + i * READ_PIECE, READ_PIECE);
    }
}

static double measure_bandwidth(bench *b) {
    const double start = seconds(b);
    tug_pool_for(b->pool, DECODE_BYTES / READ_PIECE, 4, read_piece, b);
    return (double)DECODE_BYTES / (seconds(b) - start);
}

/* ---- cases ------------------------------------------------------------------------ */

typedef struct job {
    const bench *b;
    const bench_case *c;
    size_t row_bytes;
    int64_t pieces; /* of GRAIN_ROWS rows, per matrix */
} job;

/* What a model's weights of this type meet: packed, where there is such a kernel. */
static const tug_linear_kernel *kernel_of(const bench *b, tug_type type) {
    return b->k.packed[type].fn ? &b->k.packed[type] : &b->k.linear[type];
}

static void linear_piece(void *ud, int64_t begin, int64_t end, int thread) {
    const job *j = ud;
    const bench *b = j->b;
    const tug_linear_kernel *k = kernel_of(b, j->c->type);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const shape s = j->c->shape;
        const int64_t matrix = i / j->pieces, row = i % j->pieces * GRAIN_ROWS;
        const tug_linear_args a = {
            .y = b->y + row,
            .y_stride = s.rows,
            .w = b->weights + (size_t)(matrix * s.rows + row) * j->row_bytes,
            .w_row_bytes = j->row_bytes,
            .x = b->act[k->act],
            .x_row_bytes = tug_act_row_bytes(k->act, s.cols),
            .n_rows = s.rows - row < GRAIN_ROWS ? s.rows - row : GRAIN_ROWS,
            .n_cols = s.cols,
            .n_tok = j->c->n_tok};
        k->fn(&a);
    }
}

static double row_bytes(const bench_case *c) {
    uint64_t bytes = 0;
    return tug_type_row_bytes((uint32_t)c->type, (uint64_t)c->shape.cols, &bytes)
               ? (double)bytes
               : 0;
}

/* Seconds per matrix. */
static double measure_case(bench *b, const bench_case *c) {
    job j = {.b = b, .c = c, .row_bytes = (size_t)row_bytes(c)};
    j.pieces = (c->shape.rows + GRAIN_ROWS - 1) / GRAIN_ROWS;
    const int64_t pool_bytes = c->n_tok <= 4 ? DECODE_BYTES : PREFILL_BYTES;
    int64_t matrices = pool_bytes / (c->shape.rows * (int64_t)j.row_bytes);
    /* Many tokens: enough work to time is less than the pool. */
    const int64_t enough = (int64_t)20e9 / (c->shape.rows * c->shape.cols * c->n_tok) + 1;
    if (c->n_tok > 4 && matrices > enough) matrices = enough;
    const double start = seconds(b);
    tug_pool_for(b->pool, matrices * j.pieces, c->n_tok <= 4 ? 4 : 1, linear_piece, &j);
    return (seconds(b) - start) / (double)matrices;
}

/* Any bits are valid weights.  Without the top two bits of each byte no scale or float is
 * infinite or NaN. */
static void fill(unsigned char *p, size_t n, tug_rng *rng) {
    for (size_t i = 0; i < n; i += 8) {
        const uint64_t v = tug_rng_u64(rng) & 0x3F3F3F3F3F3F3F3Fu;
        memcpy(p + i, &v, sizeof v);
    }
}

static bool setup(bench *b) {
    const int64_t n_x = (int64_t)MAX_TOKENS * 8192;
    tug_rng rng;
    tug_rng_seed(&rng, 1);
    float *x = tug_alloc_array((size_t)n_x, sizeof *x);
    b->weights = tug_alloc_pages(DECODE_BYTES + 65536); /* as a model has them */
    b->y = tug_alloc_array((size_t)n_x, sizeof *b->y);
    if (!x || !b->weights || !b->y) return false;
    fill(b->weights, DECODE_BYTES + 65536, &rng);
    for (int64_t i = 0; i < n_x; i++) x[i] = (float)tug_rng_unit(&rng) - 0.5f;
    for (int act = 0; act < TUG_ACT_COUNT; act++) {
        b->act[act] = tug_alloc_aligned(64, tug_act_row_bytes((tug_act)act, n_x));
        if (!b->act[act]) return false;
        b->k.act_convert[act](b->act[act], x, n_x);
    }
    tug_free(x);
    return true;
}

static void print_case(const bench *b, const bench_case *c, double peak, double bandwidth,
                       bool json, bool first) {
    const double time = median(c->seconds, b->rounds);
    const double work = (double)(c->shape.rows * c->shape.cols * c->n_tok);
    const double gmac = work / time / 1e9;
    const double gbs = (double)c->shape.rows * row_bytes(c) / time / 1e9;
    const double of_peak = peak > 0 ? gmac * 1e9 / peak : 0;
    const char *name = tug_type_get((uint32_t)c->type)->name;
    printf(json
               ? "%s\n  {\"type\": \"%s\", \"rows\": %lld, \"cols\": %lld, \"tokens\": "
                 "%lld, "
                 "\"gmac_s\": %.1f, \"of_peak\": %.3f, \"gb_s\": %.2f, "
                 "\"of_bandwidth\": %.3f}"
               : "%s%-7s %5lld x %-5lld m=%-4lld %8.1f GMAC/s %4.0f%% of peak %7.2f GB/s "
                 "%4.0f%% of bandwidth\n",
           json ? (first ? "" : ",") : "", name, (long long)c->shape.rows,
           (long long)c->shape.cols, (long long)c->n_tok, gmac,
           json ? of_peak : 100 * of_peak, gbs,
           json ? gbs * 1e9 / bandwidth : 100 * gbs * 1e9 / bandwidth);
}

static void print_all(const bench *b, const bench_case *cases, int n, bool json) {
    const double peak = median(b->peak, b->rounds);
    const double bandwidth = median(b->bandwidth, b->rounds);
    printf(json ? "{\"level\": \"%s\", \"threads\": %d, \"peak_gmac_s\": %.1f, "
                  "\"bandwidth_gb_s\": %.2f, \"cases\": ["
                : "%s, %d threads; int8 peak %.1f GMAC/s, read bandwidth %.2f GB/s\n",
           tug_cpu_level_name(b->k.level), tug_pool_size(b->pool), peak / 1e9,
           bandwidth / 1e9);
    for (int i = 0; i < n; i++) print_case(b, &cases[i], peak, bandwidth, json, i == 0);
    if (json) printf("\n]}\n");
}

typedef struct options {
    tug_cpu_level level;
    int threads, rounds;
    const char *only; /* a type's name, or NULL for all */
    bool busy, json;
} options;

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
            o->only = v;
        } else if (strcmp(argv[i], "--busy") == 0) {
            o->busy = true;
        } else if (strcmp(argv[i], "--json") == 0) {
            o->json = true;
        } else {
            (void)TUG_FAIL(err, TUG_EUSAGE, "unknown option '%s'; see the head of %s",
                           argv[i], "bench/bench_linear.c");
            return false;
        }
    }
    if (o->rounds >= 1 && o->rounds <= MAX_ROUNDS && o->threads >= 1) return true;
    (void)TUG_FAIL(err, TUG_EUSAGE, "--threads at least 1, --rounds 1 to %d", MAX_ROUNDS);
    return false;
}

static int list_cases(bench_case *cases, const char *only) {
    int n = 0;
    for (int t = 0; t < COUNT(all_types); t++) {
        const char *name = tug_type_get((uint32_t)all_types[t])->name;
        if (only && strcmp(only, name) != 0) continue;
        for (int s = 0; s < COUNT(shapes); s++) {
            for (int m = 0; m < COUNT(tokens); m++) {
                cases[n++] = (bench_case){
                    .type = all_types[t], .shape = shapes[s], .n_tok = tokens[m]};
            }
        }
    }
    return n;
}

int main(int argc, char **argv) {
    static bench b;
    static bench_case cases[COUNT(all_types) * COUNT(shapes) * COUNT(tokens)];
    options o = {.level = tug_cpu_detect(), .threads = tug_cpu_count(), .rounds = 5};
    tug_err err;
    if (!parse(&o, argc, argv, &err) ||
        tug_pool_create(&b.pool, o.threads, &err) != TUG_OK) {
        (void)fprintf(stderr, "bench_linear: %s\n", err.msg);
        return 2;
    }
    b.rounds = o.rounds;
    b.busy = o.busy;
    b.k.level = o.level;
    b.probe = tug_probe_kernels_of(o.level);
    tug_kernels_init_linear(&b.k, o.level);
    if (!setup(&b)) {
        (void)fprintf(stderr, "bench_linear: out of memory, it needs about 400 MB\n");
        return 1;
    }
    const int n = list_cases(cases, o.only);
    for (int r = 0; r < b.rounds; r++) {
        b.peak[r] = measure_peak(&b);
        b.bandwidth[r] = measure_bandwidth(&b);
        for (int i = 0; i < n; i++) cases[i].seconds[r] = measure_case(&b, &cases[i]);
    }
    print_all(&b, cases, n, o.json);
    tug_pool_destroy(&b.pool);
    return 0;
}
