/* backend_speed.c - see backend_speed.h.  SPDX-License-Identifier: MIT */
#include "backend/backend_speed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_impl.h"
#include "base/rng.h"
#include "base/sys.h"
#include "quant/blocks.h"
#include "quant/packed.h"

enum {
    DIM = 2048,       /* of the model, */
    EXPERT_DIM = 512, /* of an expert */
    ROWS = 4096,      /* of a projection */
    N_EXPERT = 32,
    N_USED = 8,
    FEW =
        16, /* two numbers of tokens: what a row of weights costs once, and per token, */
    MANY = 128, /* are the two unknowns of a straight line */
    MOST_TOKENS = 512,
    RUNS = 5
};

/* Seconds after which no further run of a kind begins; the first one always counts. */
#define BUDGET 0.5

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool another(int run, double start) {
    return run < 1 || (run < RUNS && tug_now() - start < BUDGET);
}

double tug_backend_median(double *x, int n) {
    TUG_CHECK(n > 0);
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

/* ---- weights --------------------------------------------------------------------------- */

/* Random blocks whose scales are those of weights: no infinities, nothing denormal. */
static void fill_blocks(tug_type type, uint8_t *to, size_t n_bytes) {
    static const struct {
        size_t block, d, dmin; /* bytes; dmin == d: it has none */
    } layouts[TUG_TYPE_COUNT] = {
        [TUG_TYPE_Q3_K] = {sizeof(tug_block_q3_k), offsetof(tug_block_q3_k, d),
                           offsetof(tug_block_q3_k, d)},
        [TUG_TYPE_Q4_K] = {sizeof(tug_block_q4_k), offsetof(tug_block_q4_k, d),
                           offsetof(tug_block_q4_k, dmin)},
        [TUG_TYPE_Q5_K] = {sizeof(tug_block_q5_k), offsetof(tug_block_q5_k, d),
                           offsetof(tug_block_q5_k, dmin)},
        [TUG_TYPE_Q6_K] = {sizeof(tug_block_q6_k), offsetof(tug_block_q6_k, d),
                           offsetof(tug_block_q6_k, d)},
        [TUG_TYPE_Q8_0] = {sizeof(tug_block_q8_0), offsetof(tug_block_q8_0, d),
                           offsetof(tug_block_q8_0, d)},
    };
    static const tug_f16 scale = 0x0C00; /* 2^-12 */
    tug_rng rng;
    tug_rng_seed(&rng, 1);
    for (size_t i = 0; i + 8 <= n_bytes; i += 8) {
        const uint64_t word = tug_rng_u64(&rng);
        memcpy(to + i, &word, sizeof word);
    }
    TUG_CHECK(layouts[type].block > 0);
    for (size_t i = 0; i < n_bytes; i += layouts[type].block) {
        memcpy(to + i + layouts[type].d, &scale, sizeof scale);
        memcpy(to + i + layouts[type].dmin, &scale, sizeof scale);
    }
}

static tug_weight shape_of(tug_type type, int64_t n_rows, int64_t n_cols, int64_t n_mat) {
    tug_weight w = {
        .type = type, .n_rows = n_rows, .n_cols = n_cols, .n_mat = n_mat, .digits = 1};
    TUG_CHECK(tug_type_row_bytes(type, (uint64_t)n_cols, &w.row_bytes));
    w.mat_bytes = (uint64_t)n_rows * w.row_bytes;
    return w;
}

/* Makes one matrix of w at `to`, by way of `file`; both (w->mat_bytes,). */
static void make_matrix(tug_backend *be, tug_weight *w, uint8_t *to, uint8_t *file) {
    fill_blocks(w->type, file, w->mat_bytes);
    w->data = file;
    w->packed = tug_backend_packs(be, w);
    w->data = to;
    if (w->packed) {
        tug_backend_pack(be, w->type, w->row_bytes, w->n_rows, to, file);
    } else {
        memcpy(to, file, w->mat_bytes);
    }
}

/* ---- products and experts --------------------------------------------------------------- */

typedef struct bench {
    tug_backend *be;
    float *x, *y;         /* owned, (MOST_TOKENS, DIM), (MOST_TOKENS, ROWS) */
    int32_t *ids;         /* owned, (MOST_TOKENS, N_USED) */
    float *shares;        /* owned, the same */
    uint8_t *file, *made; /* owned, (ROWS, DIM) of a type: as in a file, as a model's */
    uint8_t *temp;        /* owned, (n_threads, temp_bytes): a group of rows each */
    uint8_t *memory;      /* borrowed, (n_bytes,) */
    size_t n_bytes, at, temp_bytes;
} bench;

static void close_bench(bench *b) {
    tug_free(b->x);
    tug_free(b->y);
    tug_free(b->ids);
    tug_free(b->shares);
    tug_free(b->file);
    tug_free(b->made);
    tug_free(b->temp);
}

static tug_status open_bench(bench *b, tug_backend *be, size_t matrix_bytes,
                             uint64_t row_bytes, tug_err *err) {
    const size_t n_pair = (size_t)MOST_TOKENS * N_USED;
    *b = (bench){.be = be, .temp_bytes = TUG_PACK_ROWS * row_bytes};
    b->x = tug_alloc_aligned(64, sizeof(float) * MOST_TOKENS * DIM);
    b->y = tug_alloc_aligned(64, sizeof(float) * MOST_TOKENS * ROWS);
    b->ids = tug_alloc_aligned(64, sizeof *b->ids * n_pair);
    b->shares = tug_alloc_aligned(64, sizeof *b->shares * n_pair);
    b->file = tug_alloc_aligned(64, matrix_bytes);
    b->made = tug_alloc_aligned(64, matrix_bytes);
    b->temp = tug_alloc_array((size_t)tug_backend_n_threads(be), b->temp_bytes);
    if (!b->x || !b->y || !b->ids || !b->shares || !b->file || !b->made || !b->temp) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for measuring products");
    }
    for (int i = 0; i < MOST_TOKENS * DIM; i++) {
        b->x[i] = (float)(i % 255 - 127) / 64.0f;
    }
    for (size_t p = 0; p < n_pair; p++) {
        b->ids[p] = (int32_t)(p % N_EXPERT);
        b->shares[p] = 1.0f / N_USED;
    }
    const tug_backend_limits limits = {.n_tok = MOST_TOKENS,
                                       .n_in = DIM,
                                       .n_expert = N_EXPERT,
                                       .n_expert_used = N_USED,
                                       .expert_dim = EXPERT_DIM,
                                       .dim = DIM};
    return tug_backend_reserve(be, &limits, err);
}

static double time_product(bench *b, const tug_proj *p, int64_t n_tok) {
    double seconds[RUNS];
    int n = -1; /* the first one wakes threads and caches */
    for (const double begin = tug_now(); another(n, begin); n++) {
        const double start = tug_now();
        tug_op_project(b->be, p, 1, b->y, ROWS, b->x, n_tok);
        if (n >= 0) seconds[n] = tug_now() - start;
    }
    return tug_backend_median(seconds, n);
}

static void products(bench *b, tug_type type, tug_product_speed *out) {
    tug_proj p = {.w = shape_of(type, ROWS, DIM, 1)};
    make_matrix(b->be, &p.w, b->made, b->file);
    const double few = time_product(b, &p, FEW), many = time_product(b, &p, MANY);
    /* A disturbed measurement must not make work for nothing, or less than none. */
    const double token = fmax((many - few) / (MANY - FEW), 0.5 * many / MANY);
    out->macs_s = (double)ROWS * DIM / token;
    out->setup_tokens = fmax(0.0, many / token - MANY);
}

/* N_EXPERT matrices one behind the other, packed where they lie as an expert store does: they
 * come from memory, and every core packs at once.  What they hold does not matter. */
static void packing(bench *b, tug_type type, tug_product_speed *out) {
    const tug_weight w = shape_of(type, EXPERT_DIM, DIM, 1);
    const size_t bytes = N_EXPERT * w.mat_bytes;
    tug_pack_piece pieces[N_EXPERT];
    double seconds[RUNS];
    size_t at = 0;
    int n = 0;
    for (const double begin = tug_now(); another(n, begin); n++) {
        if (at + bytes > b->n_bytes) at = 0;
        for (int e = 0; e < N_EXPERT; e++, at += w.mat_bytes) {
            pieces[e] = (tug_pack_piece){.type = type,
                                         .n_rows = w.n_rows,
                                         .row_bytes = w.row_bytes,
                                         .src = b->memory + at,
                                         .dst = b->memory + at};
        }
        const double start = tug_now();
        tug_backend_pack_pieces(b->be, pieces, N_EXPERT, b->temp, b->temp_bytes);
        seconds[n] = tug_now() - start;
    }
    out->pack_bytes_s = (double)bytes / fmax(tug_backend_median(seconds, n), 1e-9) /
                        tug_backend_n_threads(b->be);
}

/* N_EXPERT experts that lie one behind the other in memory. */
typedef struct layer {
    tug_moe_weights w;
    size_t bytes;
} layer;

/* As many layers as there is memory for, all alike: what a cache does with them depends on
 * their addresses only. */
static layer make_layers(bench *b, tug_type type) {
    layer l = {.w = {.gate = shape_of(type, EXPERT_DIM, DIM, N_EXPERT),
                     .up = shape_of(type, EXPERT_DIM, DIM, N_EXPERT),
                     .down = shape_of(type, DIM, EXPERT_DIM, N_EXPERT)}};
    tug_weight *const parts[] = {&l.w.gate, &l.w.up, &l.w.down};
    TUG_CHECK(b->n_bytes >= N_EXPERT * (2 * l.w.gate.mat_bytes + l.w.down.mat_bytes));
    for (int i = 0; i < 3; i++) {
        make_matrix(b->be, parts[i], b->made, b->file);
        for (int e = 0; e < N_EXPERT; e++) {
            memcpy(b->memory + l.bytes, b->made, parts[i]->mat_bytes);
            l.bytes += parts[i]->mat_bytes;
        }
    }
    for (size_t at = l.bytes; at + l.bytes <= b->n_bytes; at += l.bytes) {
        memcpy(b->memory + at, b->memory, l.bytes);
    }
    return l;
}

/* The next layer, n_tok tokens for each of its experts. */
static tug_status time_layer(bench *b, layer *l, int n_tok, double *seconds,
                             tug_err *err) {
    if (b->at + l->bytes > b->n_bytes) b->at = 0;
    tug_weight *const parts[] = {&l->w.gate, &l->w.up, &l->w.down};
    for (int i = 0; i < 3; i++) {
        parts[i]->data = b->memory + b->at;
        b->at += N_EXPERT * parts[i]->mat_bytes;
    }
    const double start = tug_now();
    const tug_status s = tug_cpu_moe_rest(b->be, &l->w, b->y, b->x, b->ids, b->shares,
                                          NULL, N_USED, n_tok * N_EXPERT / N_USED, err);
    *seconds = tug_now() - start;
    return s;
}

/* The first numbers of tokens of a run, as many as there is time for. */
static tug_status time_points(bench *b, layer *l, const int *n_tok, double *seconds,
                              int *n_points, tug_err *err) {
    const double start = tug_now();
    for (int i = 0; i < *n_points; i++) {
        TUG_TRY(time_layer(b, l, n_tok[i], &seconds[i], err));
        if (tug_now() - start > 2 * BUDGET) *n_points = i + 1;
    }
    return TUG_OK;
}

static tug_status experts(bench *b, tug_type type, tug_product_speed *out, tug_err *err) {
    static const int n_tok[TUG_EXPERT_POINTS] = TUG_EXPERT_TOKENS;
    static const double weights = (double)N_EXPERT * 3 * EXPERT_DIM * DIM;
    double seconds[RUNS][TUG_EXPERT_POINTS], one[RUNS];
    layer l = make_layers(b, type);
    int n = 0, n_points = TUG_EXPERT_POINTS;
    /* in turn: what disturbs lasts longer than one */
    for (const double begin = tug_now(); another(n, begin); n++) {
        TUG_TRY(time_points(b, &l, n_tok, seconds[n], &n_points, err));
    }
    for (int i = 0; i < n_points; i++) {
        for (int run = 0; run < n; run++) one[run] = seconds[run][i];
        out->expert_s[i] = tug_backend_median(one, n) / weights;
    }
    /* Who is so slow that time ran out multiplies all the time. */
    for (int i = n_points; i < TUG_EXPERT_POINTS; i++) {
        out->expert_s[i] = out->expert_s[i - 1] * n_tok[i] / n_tok[i - 1];
    }
    return TUG_OK;
}

tug_status tug_backend_measure_products(tug_backend *be, tug_type type, uint8_t *memory,
                                        size_t n_bytes, tug_product_speed *out,
                                        tug_err *err) {
    *out = (tug_product_speed){0};
    const tug_weight matrix = shape_of(type, ROWS, DIM, 1);
    bench b;
    tug_status s = open_bench(&b, be, matrix.mat_bytes, matrix.row_bytes, err);
    b.memory = memory;
    b.n_bytes = n_bytes;
    if (s == TUG_OK) products(&b, type, out);
    if (s == TUG_OK) s = experts(&b, type, out, err);
    if (s == TUG_OK && tug_backend_packs(be, &matrix)) packing(&b, type, out);
    close_bench(&b);
    return s;
}

/* ---- mixers ----------------------------------------------------------------------------- */

/* A DeltaNet layer of the 80B model behind its projections. */
static const tug_delta_shape DELTA = {
    .n_k_head = 16, .n_v_head = 32, .dk = 128, .dv = 128, .conv_width = 4, .eps = 1e-6f};

enum {
    CHANNELS = (2 * 16 + 32) * 128,
    INNER = 32 * 128,
    DELTA_COLS = CHANNELS + INNER + 2 * 32,
    STATE = 32 * 128 * 128,
    DELTA_TOKENS = 256
};

typedef struct delta_bench {
    float *proj, *out, *conv_w, *norm, *decay; /* owned */
    tug_delta_state state;                     /* owned */
} delta_bench;

static void close_delta(delta_bench *b) {
    tug_free(b->proj);
    tug_free(b->out);
    tug_free(b->conv_w);
    tug_free(b->norm);
    tug_free(b->decay);
    tug_free(b->state.s);
    tug_free(b->state.conv);
}

static float *values(size_t n, float first, float step) {
    float *x = tug_alloc_aligned(64, n * sizeof *x);
    for (size_t i = 0; x && i < n; i++) x[i] = first + step * (float)(i % 251);
    return x;
}

static tug_status open_delta(delta_bench *b, tug_backend *be, tug_err *err) {
    b->proj = values((size_t)DELTA_TOKENS * DELTA_COLS, -1.25f, 0.01f);
    b->out = values((size_t)DELTA_TOKENS * INNER, 0.0f, 0.0f);
    b->conv_w = values((size_t)4 * CHANNELS, -0.5f, 0.004f);
    b->norm = values(DIM, 0.5f, 0.004f);
    b->decay = values((size_t)DELTA.n_v_head, -4.0f, 0.1f);
    b->state.s = values(STATE, 0.0f, 0.0f);
    b->state.conv = values((size_t)3 * CHANNELS, 0.0f, 0.0f);
    if (!b->proj || !b->out || !b->conv_w || !b->norm || !b->decay || !b->state.s ||
        !b->state.conv) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for measuring mixers");
    }
    const tug_backend_limits limits = {.n_tok = DELTA_TOKENS,
                                       .n_in = DIM,
                                       .dim = DIM,
                                       .conv_channels = CHANNELS,
                                       .n_v_head = DELTA.n_v_head};
    return tug_backend_reserve(be, &limits, err);
}

tug_status tug_backend_measure_mixers(tug_backend *be, tug_mixer_speed *out,
                                      tug_err *err) {
    *out = (tug_mixer_speed){0};
    delta_bench b = {0};
    const tug_status s = open_delta(&b, be, err);
    double delta[RUNS], norms[RUNS];
    int n = -1;
    for (const double begin = tug_now(); s == TUG_OK && another(n, begin); n++) {
        const double start = tug_now();
        tug_op_delta(be, &DELTA, b.out, b.proj, DELTA_COLS, b.conv_w, b.norm, b.decay,
                     b.norm, &b.state, DELTA_TOKENS);
        const double middle = tug_now();
        tug_op_rmsnorm(be, b.out, b.proj, b.norm, DELTA_TOKENS, DIM, 1e-6f);
        tug_op_add(be, b.out, b.proj, DELTA_TOKENS, DIM);
        if (n < 0) continue;
        delta[n] = middle - start;
        norms[n] = tug_now() - middle;
    }
    if (s == TUG_OK) {
        out->delta_macs_s = 3.0 * DELTA_TOKENS * STATE / tug_backend_median(delta, n);
        out->elements_s = 2.0 * DELTA_TOKENS * DIM / tug_backend_median(norms, n);
    }
    close_delta(&b);
    return s;
}
