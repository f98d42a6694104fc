/* backend_stage.c - see backend_stage.h.  SPDX-License-Identifier: MIT */
#include "backend/backend_stage.h"

#include <math.h>
#include <string.h>

#include "backend/backend_impl.h"
#include "base/rng.h"
#include "base/sys.h"
#include "kernels/cpu/probe.h"

/* ---- stages -------------------------------------------------------------------------- */

void tug_backend_set_clock(tug_backend *be, tug_pool_clock *clock) {
    tug_pool_set_clock(be->pool, clock);
}

void tug_stage_enter(tug_backend *be, tug_stage stage) {
    tug_pool_clock *clock = tug_pool_get_clock(be->pool);
    if (clock) tug_pool_clock_enter(clock, (int)stage);
}

void tug_stage_enter_experts(tug_backend *be, const tug_moe_weights *w, int n_active) {
    tug_pool_clock *clock = tug_pool_get_clock(be->pool);
    if (!clock) return;
    const tug_weight *const parts[] = {&w->gate, &w->up, &w->down};
    uint64_t bytes = 0;
    for (int i = 0; i < 3; i++) bytes += (uint64_t)parts[i]->n_rows * parts[i]->row_bytes;
    clock->count[TUG_STAGE_EXPERTS] += (double)bytes * n_active;
    tug_pool_clock_enter(clock, TUG_STAGE_EXPERTS);
}

bool tug_backend_is_int8(const tug_backend *be, tug_type type) {
    return be->k.linear[type].act != TUG_ACT_F32;
}

bool tug_backend_attn_is_int16(const tug_backend *be, tug_kv_type type) {
    return tug_backend_level(be) == TUG_CPU_AVX512 && type != TUG_KV_F32;
}

/* ---- limits -------------------------------------------------------------------------- */

enum {
    PEAK_PIECES = 8, /* per thread: an interrupted one leaves its rest to the others */
    PEAK_ROUNDS = 20000, /* 0.1 to 0.5 ms a piece */
    READ_PIECE = 1 << 20,
    PASSES = 2 /* the better one counts: a limit is what the machine can do */
};

typedef struct probe_job {
    tug_peak_fn *peak;
    tug_read_fn *read;
    const uint8_t *memory;
    double *macs; /* (pieces,) */
} probe_job;

static void peak_pieces(void *ud, int64_t begin, int64_t end, int thread) {
    const probe_job *j = ud;
    (void)thread;
    for (int64_t i = begin; i < end; i++) j->macs[i] = j->peak(PEAK_ROUNDS);
}

static void read_pieces(void *ud, int64_t begin, int64_t end, int thread) {
    const probe_job *j = ud;
    (void)thread;
    j->read(j->memory + begin * READ_PIECE, (size_t)(end - begin) * READ_PIECE);
}

/* Multiply-adds per second of all threads. */
static double measure_peak(tug_backend *be, tug_peak_fn *peak) {
    enum { MAX_PIECES = 8192 };
    double macs[MAX_PIECES], best = 0.0;
    const int64_t want = PEAK_PIECES * (int64_t)tug_pool_size(be->pool);
    const int64_t n = want < MAX_PIECES ? want : MAX_PIECES;
    for (int pass = 0; pass < PASSES; pass++) {
        probe_job j = {.peak = peak, .macs = macs};
        double sum = 0.0;
        const double start = tug_now();
        tug_pool_for(be->pool, n, 1, peak_pieces, &j);
        const double seconds = tug_now() - start;
        for (int64_t i = 0; i < n; i++) sum += macs[i];
        if (seconds > 0.0 && sum / seconds > best) best = sum / seconds;
    }
    return best;
}

static double measure_read(tug_backend *be, tug_read_fn *read, const uint8_t *memory,
                           size_t n_bytes) {
    const int64_t n = (int64_t)(n_bytes / READ_PIECE);
    double best = 0.0;
    for (int pass = 0; pass < PASSES; pass++) {
        probe_job j = {.read = read, .memory = memory};
        const double start = tug_now();
        tug_pool_for(be->pool, n, 1, read_pieces, &j);
        const double seconds = tug_now() - start;
        const double speed = seconds > 0.0 ? (double)n * READ_PIECE / seconds : 0.0;
        if (speed > best) best = speed;
    }
    return best;
}

tug_limits tug_backend_measure_limits(tug_backend *be, const uint8_t *memory,
                                      size_t n_bytes) {
    const tug_probe_kernels k = tug_probe_kernels_of(be->k.level);
    return (tug_limits){.read_bytes_s = measure_read(be, k.read, memory, n_bytes),
                        .int8_macs_s = measure_peak(be, k.int8),
                        .f32_macs_s = measure_peak(be, k.f32)};
}

/* ---- products --------------------------------------------------------------------------- */

/* Of a size that layers have.  Two numbers of tokens: what a row of weights costs once and
 * what it costs per token are the two unknowns of a straight line. */
enum { PRODUCT_ROWS = 4096, PRODUCT_COLS = 2048, FEW = 16, MANY = 128, PRODUCT_RUNS = 3 };

typedef struct product {
    tug_proj p;
    double pack_bytes_s;
    uint8_t *w, *file; /* owned: packed, and as in a file */
    float *x, *y;      /* owned */
} product;

static void fill_random(void *p, size_t bytes) {
    tug_rng rng;
    tug_rng_seed(&rng, 1);
    uint64_t *words = p;
    for (size_t i = 0; i < bytes / sizeof *words; i++) words[i] = tug_rng_u64(&rng);
}

static tug_status make_product(tug_backend *be, tug_type type, product *out,
                               tug_err *err) {
    uint64_t row_bytes = 0;
    TUG_CHECK(tug_type_row_bytes(type, PRODUCT_COLS, &row_bytes));
    const size_t bytes = PRODUCT_ROWS * (size_t)row_bytes;
    out->p.w = (tug_weight){.type = type,
                            .n_rows = PRODUCT_ROWS,
                            .n_cols = PRODUCT_COLS,
                            .n_mat = 1,
                            .row_bytes = row_bytes,
                            .mat_bytes = bytes,
                            .digits = 1};
    out->w = tug_alloc_aligned(64, bytes);
    out->file = tug_alloc_aligned(64, bytes);
    out->x = tug_alloc_aligned(64, sizeof(float) * MANY * PRODUCT_COLS);
    out->y = tug_alloc_aligned(64, sizeof(float) * MANY * PRODUCT_ROWS);
    if (!out->w || !out->file || !out->x || !out->y) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for measuring products");
    }
    fill_random(out->file, bytes);
    for (int i = 0; i < MANY * PRODUCT_COLS; i++) out->x[i] = (float)(i % 255 - 127);
    out->p.w.data = out->file;
    if (tug_backend_packs(be, &out->p.w)) {
        memset(out->w, 0, bytes); /* pages that were never touched cost more */
        const double start = tug_now();
        tug_backend_pack(be, type, row_bytes, PRODUCT_ROWS, out->w, out->file);
        out->pack_bytes_s = (double)bytes / fmax(tug_now() - start, 1e-9);
        out->p.w.data = out->w;
        out->p.w.packed = true;
    }
    const tug_backend_limits limits = {.n_tok = MANY, .n_in = PRODUCT_COLS};
    return tug_backend_reserve(be, &limits, err);
}

/* Seconds, the shortest of some runs. */
static double time_product(tug_backend *be, product *m, int64_t n_tok) {
    double best = 0.0;
    for (int i = 0; i <= PRODUCT_RUNS; i++) { /* the first one wakes threads and caches */
        const double start = tug_now();
        tug_op_project(be, &m->p, 1, m->y, PRODUCT_ROWS, m->x, n_tok);
        const double took = tug_now() - start;
        if (i == 1 || (i > 1 && took < best)) best = took;
    }
    return best;
}

tug_status tug_backend_measure_products(tug_backend *be, tug_type type,
                                        tug_product_speed *out, tug_err *err) {
    *out = (tug_product_speed){0};
    product m = {0};
    const tug_status s = make_product(be, type, &m, err);
    if (s == TUG_OK) {
        const double few = time_product(be, &m, FEW), many = time_product(be, &m, MANY);
        /* A disturbed measurement must not make work for nothing, or less than none. */
        const double token = fmax((many - few) / (MANY - FEW), 0.5 * many / MANY);
        out->macs_s = (double)PRODUCT_ROWS * PRODUCT_COLS / token;
        out->setup_tokens = fmax(0.0, many / token - MANY);
        out->pack_bytes_s = m.pack_bytes_s;
    }
    tug_free(m.w);
    tug_free(m.file);
    tug_free(m.x);
    tug_free(m.y);
    return s;
}
