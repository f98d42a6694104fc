/* backend_stage.c - see backend_stage.h.  SPDX-License-Identifier: MIT */
#include "backend/backend_stage.h"

#include "backend/backend_impl.h"
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

double tug_backend_measure_read(tug_backend *be, const uint8_t *memory, size_t n_bytes) {
    const int64_t n = (int64_t)(n_bytes / READ_PIECE);
    probe_job j = {.read = tug_probe_kernels_of(be->k.level).read, .memory = memory};
    const double start = tug_now();
    tug_pool_for(be->pool, n, 1, read_pieces, &j);
    const double seconds = tug_now() - start;
    return seconds > 0.0 ? (double)n * READ_PIECE / seconds : 0.0;
}

tug_limits tug_backend_measure_limits(tug_backend *be, const uint8_t *memory,
                                      size_t n_bytes) {
    const tug_probe_kernels k = tug_probe_kernels_of(be->k.level);
    double read = 0.0;
    for (int pass = 0; pass < PASSES; pass++) {
        const double speed = tug_backend_measure_read(be, memory, n_bytes);
        if (speed > read) read = speed;
    }
    return (tug_limits){.read_bytes_s = read,
                        .int8_macs_s = measure_peak(be, k.int8),
                        .f32_macs_s = measure_peak(be, k.f32)};
}
