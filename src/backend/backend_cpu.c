/* backend_cpu.c - the CPU backend: its life, its scratch, and the simple ops.
 *
 * An op is a loop over outputs, handed to the pool in pieces; a piece calls kernels.
 * The mixers and the experts are in backend_cpu_mixer.c and backend_cpu_moe.c.
 * SPDX-License-Identifier: MIT */
#include "backend/backend.h"

#include <string.h>

#include "backend/backend_impl.h"
#include "base/sys.h"
#include "quant/packed.h"

/* ---- life ---------------------------------------------------------------------------- */

tug_status tug_backend_cpu_create(tug_backend **out, tug_cpu_level level, int n_threads,
                                  tug_err *err) {
    *out = NULL;
    tug_backend *be = tug_alloc_zero(sizeof *be);
    if (!be) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the CPU backend");
    be->ops = &tug_cpu_ops;
    tug_kernels_init(&be->k, level);
    const tug_status s = tug_pool_create(&be->pool, n_threads, err);
    if (s != TUG_OK) {
        tug_backend_destroy(&be);
        return s;
    }
    *out = be;
    return TUG_OK;
}

/* Leaves a backend that has its kernels and threads, and no limits. */
static void free_scratch(tug_backend *be) {
    for (int i = 0; i < TUG_ACT_COUNT; i++) tug_free(be->act[i]);
    tug_free(be->residual);
    tug_free(be->digit_tile);
    tug_free(be->attn_scratch);
    tug_free(be->attn_parts);
    tug_free(be->attn_tile);
    tug_free(be->attn_len);
    tug_free(be->conv_out);
    tug_free(be->gates);
    tug_free(be->routing.ids);
    tug_free(be->routing.weights);
    tug_free(be->routing.slot);
    tug_free(be->routing.token);
    tug_free(be->routing.hidden);
    tug_free(be->routing.first);
    tug_free(be->routing.active);
    tug_free(be->routing.counts);
    tug_free(be->routing.at);
    tug_free(be->routing.rows);
    tug_free(be->expert_h);
    tug_free(be->expert_act);
    tug_free(be->expert_y);
    tug_free(be->shared_gate);
    tug_free(be->shared_act);
    tug_free(be->shared_y);
    tug_free(be->up_tile);
    *be = (tug_backend){.ops = be->ops, .place = be->place, .k = be->k, .pool = be->pool};
}

void tug_backend_destroy(tug_backend **backend) {
    tug_backend *be = *backend;
    if (!be) return;
    if (be->ops->destroy) be->ops->destroy(be);
    free_scratch(be);
    tug_pool_destroy(&be->pool);
    tug_free(be);
    *backend = NULL;
}

tug_cpu_level tug_backend_level(const tug_backend *be) {
    return be->k.level;
}
int tug_backend_n_threads(const tug_backend *be) {
    return tug_pool_size(be->pool);
}

bool tug_backend_supports(const tug_backend *be, tug_type type) {
    return (unsigned)type < TUG_TYPE_COUNT && be->k.linear[type].fn != NULL;
}

/* ---- weights ------------------------------------------------------------------------- */

const tug_linear_kernel *tug_cpu_kernel(const tug_backend *be, const tug_weight *w) {
    return w->packed ? &be->k.packed[w->type] : &be->k.linear[w->type];
}

bool tug_backend_packs(const tug_backend *be, const tug_weight *w) {
    return be->k.packed[w->type].fn != NULL && w->n_rows > 0 &&
           w->n_rows % TUG_PACK_ROWS == 0 && !w->packed;
}

typedef struct pack_job {
    tug_type type;
    uint64_t row_bytes;
    uint8_t *dst;
    const uint8_t *src;
} pack_job;

static void pack_groups(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pack_job *j = ud;
    for (int64_t i = begin; i < end; i++) {
        const uint64_t at = (uint64_t)i * TUG_PACK_ROWS * j->row_bytes;
        tug_pack_rows(j->type, j->dst + at, j->src + at, j->row_bytes);
    }
}

void tug_backend_pack(tug_backend *be, tug_type type, uint64_t row_bytes, int64_t n_rows,
                      uint8_t *dst, const uint8_t *src) {
    TUG_CHECK(n_rows % TUG_PACK_ROWS == 0);
    pack_job j = {type, row_bytes, dst, src};
    tug_pool_for(be->pool, n_rows / TUG_PACK_ROWS, 4, pack_groups, &j);
}

typedef struct pieces_job {
    const tug_pack_piece *pieces;
    uint8_t *temp;
    size_t temp_bytes;
} pieces_job;

/* In order, since a group may lie over the end of the one before. */
static void pack_pieces(void *ud, int64_t begin, int64_t end, int thread) {
    const pieces_job *j = ud;
    uint8_t *rows = j->temp + (size_t)thread * j->temp_bytes;
    for (const tug_pack_piece *p = j->pieces + begin; p < j->pieces + end; p++) {
        const uint64_t group = TUG_PACK_ROWS * p->row_bytes;
        TUG_CHECK(group <= j->temp_bytes && p->dst <= p->src);
        for (int64_t r = 0; r < p->n_rows; r += TUG_PACK_ROWS) {
            memcpy(rows, p->src + (uint64_t)r * p->row_bytes, group);
            tug_pack_rows(p->type, p->dst + (uint64_t)r * p->row_bytes, rows,
                          p->row_bytes);
        }
    }
}

void tug_backend_pack_pieces(tug_backend *be, const tug_pack_piece *pieces, int n,
                             uint8_t *temp, size_t temp_bytes) {
    pieces_job j = {pieces, temp, temp_bytes};
    tug_pool_for(be->pool, n, 1, pack_pieces, &j);
}

/* ---- scratch ------------------------------------------------------------------------- */

/* Allocates a x b x c elements, 64-byte aligned; sets *failed and returns NULL when the
 * product does not fit or memory is out. */
static void *scratch(int64_t a, int64_t b, int64_t c, size_t elem, bool *failed) {
    size_t n = elem;
    if (__builtin_mul_overflow(n, (size_t)a, &n) ||
        __builtin_mul_overflow(n, (size_t)b, &n) ||
        __builtin_mul_overflow(n, (size_t)c, &n)) {
        *failed = true;
        return NULL;
    }
    void *p = tug_alloc_aligned(64, n);
    if (!p) *failed = true;
    return p;
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

tug_status tug_cpu_reserve(tug_backend *be, const tug_backend_limits *want,
                           tug_err *err) {
    const tug_backend_limits *have = &be->limits;
    const tug_backend_limits l = {
        .n_tok = max64(want->n_tok, have->n_tok),
        .n_in = max64(want->n_in, have->n_in),
        .n_expert = max64(want->n_expert, have->n_expert),
        .n_expert_used = max64(want->n_expert_used, have->n_expert_used),
        .expert_dim = max64(want->expert_dim, have->expert_dim),
        .shared_dim = max64(want->shared_dim, have->shared_dim),
        .dim = max64(want->dim, have->dim),
        .conv_channels = max64(want->conv_channels, have->conv_channels),
        .n_v_head = max64(want->n_v_head, have->n_v_head),
    };
    if (memcmp(&l, have, sizeof l) == 0) return TUG_OK;

    /* Into a new one first: when memory is out, what is there goes on working. */
    tug_backend fresh = {
        .ops = be->ops, .place = be->place, .k = be->k, .pool = be->pool};
    bool bad = false;
    const int n_threads = tug_pool_size(be->pool);
    const int64_t n_slot = l.n_tok * l.n_expert_used;
    const int64_t widest = max64(l.n_in, max64(l.expert_dim, l.shared_dim));
    size_t expert_act = 0, shared_act = 0;
    for (int i = 0; i < TUG_ACT_COUNT; i++) {
        const size_t h = tug_act_row_bytes((tug_act)i, l.expert_dim);
        const size_t sh = tug_act_row_bytes((tug_act)i, l.shared_dim);
        if (h > expert_act) expert_act = h;
        if (sh > shared_act) shared_act = sh;
        if (i != TUG_ACT_F32) {
            fresh.act[i] =
                scratch(2, l.n_tok, 1, tug_act_row_bytes((tug_act)i, widest), &bad);
        }
    }
    fresh.residual_floats = widest;
    fresh.residual = scratch(n_threads, widest, 1, sizeof(float), &bad);
    fresh.digit_tile =
        scratch(n_threads, 2 * l.n_tok, TUG_CPU_TILE_ROWS, sizeof(float), &bad);
    fresh.attn_scratch =
        scratch(n_threads, (int64_t)tug_attn_scratch_floats(), 1, sizeof(float), &bad);
    fresh.attn_tile = scratch(n_threads, 2 * TUG_CPU_ATTN_QUERIES, TUG_MAX_HEAD_DIM,
                              sizeof(float), &bad);
    fresh.attn_len = scratch(n_threads, TUG_CPU_ATTN_QUERIES, 1, sizeof(int32_t), &bad);
    fresh.attn_parts = scratch(TUG_CPU_ATTN_PARTS, TUG_ATTN_PART_OUT + TUG_MAX_HEAD_DIM,
                               1, sizeof(float), &bad);
    fresh.conv_out = scratch(TUG_CPU_DELTA_TOKENS, l.conv_channels + TUG_CPU_CONV_PAD, 1,
                             sizeof(float), &bad);
    fresh.gates = scratch(2, TUG_CPU_DELTA_TOKENS, l.n_v_head, sizeof(float), &bad);
    fresh.routing.ids = scratch(n_slot, 1, 1, sizeof(int32_t), &bad);
    fresh.routing.weights = scratch(n_slot, 1, 1, sizeof(float), &bad);
    fresh.routing.slot = scratch(n_slot, 1, 1, sizeof(int32_t), &bad);
    fresh.routing.token = scratch(2, n_slot, 1, sizeof(int32_t), &bad);
    fresh.routing.hidden = scratch(2, n_slot, 1, sizeof(int32_t), &bad);
    fresh.routing.first = scratch(l.n_expert + 1, 1, 1, sizeof(int32_t), &bad);
    fresh.routing.active = scratch(l.n_expert, 1, 1, sizeof(int32_t), &bad);
    fresh.routing.counts = scratch(l.n_expert, 1, 1, sizeof(int32_t), &bad);
    fresh.routing.at = scratch(l.n_expert, 1, 1, sizeof(int32_t), &bad);
    fresh.routing.rows = scratch(n_slot, 1, 1, sizeof(int32_t), &bad);
    fresh.expert_h = scratch(n_slot, l.expert_dim, 1, sizeof(float), &bad);
    fresh.expert_act = scratch(2, n_slot, 1, expert_act, &bad);
    fresh.expert_y = scratch(n_slot, l.dim, 1, sizeof(float), &bad);
    fresh.shared_gate = scratch(l.n_tok, l.shared_dim, 1, sizeof(float), &bad);
    fresh.shared_act = scratch(2, l.n_tok, 1, shared_act, &bad);
    fresh.shared_y = scratch(l.n_tok, l.dim, 1, sizeof(float), &bad);
    fresh.up_tile = scratch(n_threads, l.n_tok, TUG_CPU_TILE_ROWS, sizeof(float), &bad);
    if (bad) {
        free_scratch(&fresh);
        return TUG_FAIL(
            err, TUG_ENOMEM,
            "out of memory for the work space of %lld tokens at a time: use a "
            "smaller -b",
            (long long)l.n_tok);
    }
    fresh.limits = l;
    free_scratch(be);
    *be = fresh;
    return TUG_OK;
}

/* ---- memory: the host's -------------------------------------------------------------- */

static tug_status host_alloc(tug_backend *be, void **out, size_t bytes, const char *what,
                             tug_err *err) {
    (void)be;
    *out = tug_alloc_aligned(64, bytes);
    return *out ? TUG_OK : TUG_FAIL(err, TUG_ENOMEM, "out of memory for %s", what);
}

static void host_free(tug_backend *be, void *p, size_t bytes) {
    (void)be;
    (void)bytes;
    tug_free(p);
}

static void host_copy(tug_backend *be, void *dst, const void *src, size_t bytes) {
    (void)be;
    if (dst != src) memcpy(dst, src, bytes);
}

static void host_clear(tug_backend *be, void *p, size_t bytes) {
    (void)be;
    memset(p, 0, bytes);
}

static tug_status host_wait(tug_backend *be, tug_err *err) {
    (void)be;
    (void)err;
    return TUG_OK;
}

/* ---- sharing work -------------------------------------------------------------------- */

/* About 10 us of one core: the cost of a hand-over and back, a few times. */
#define MACS_WORTH_SHARING 100000

void tug_cpu_for(tug_backend *be, int64_t n, int64_t grain, int64_t macs,
                 tug_range_fn *fn, void *ud) {
    tug_pool_for(be->pool, n, macs < MACS_WORTH_SHARING ? max64(n, 1) : grain, fn, ud);
}

/* ---- tokens one by one --------------------------------------------------------------- */

typedef struct rows_job {
    tug_backend *be;
    float *y;
    const float *x, *w;
    int64_t n;
    float eps;
    const tug_weight *embedding;
    const int32_t *ids;
    uint8_t *act;
    size_t act_bytes;
    tug_act kind;
    int digits;
    int64_t n_tok;
    const int32_t *rows; /* NULL: 0, 1, 2, ... */
} rows_job;

static void embed_rows(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const rows_job *j = ud;
    const tug_weight *w = j->embedding;
    for (int64_t t = begin; t < end; t++) {
        tug_dequantize_row(w->type, j->y + t * w->n_cols, tug_weight_row(w, 0, j->ids[t]),
                           w->n_cols);
    }
}

void tug_cpu_op_embed(tug_backend *be, float *x, const tug_weight *w, const int32_t *ids,
                      int64_t n_tok) {
    rows_job j = {.be = be, .y = x, .embedding = w, .ids = ids};
    tug_cpu_for(be, n_tok, 8, n_tok * w->n_cols * 4, embed_rows, &j);
}

static void rmsnorm_rows(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const rows_job *j = ud;
    for (int64_t t = begin; t < end; t++) {
        j->be->k.rmsnorm(j->y + t * j->n, j->x + t * j->n, j->w, j->n, j->eps);
    }
}

static void op_rmsnorm(tug_backend *be, float *y, const float *x, const float *w,
                       int64_t n_tok, int64_t n, float eps) {
    rows_job j = {.be = be, .y = y, .x = x, .w = w, .n = n, .eps = eps};
    tug_cpu_for(be, n_tok, 16, n_tok * n, rmsnorm_rows, &j);
}

static void add_rows(void *ud, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const rows_job *j = ud;
    j->be->k.add(j->y + begin * j->n, j->x + begin * j->n, (end - begin) * j->n);
}

static void op_add(tug_backend *be, float *x, const float *y, int64_t n_tok, int64_t n) {
    rows_job j = {.be = be, .y = x, .x = y, .n = n};
    tug_cpu_for(be, n_tok, 16, n_tok * n, add_rows, &j);
}

/* ---- linear -------------------------------------------------------------------------- */

static void convert_rows(void *ud, int64_t begin, int64_t end, int thread) {
    const rows_job *j = ud;
    const tug_kernels *k = &j->be->k;
    float *rest = j->be->residual + (int64_t)thread * j->be->residual_floats;
    for (int64_t i = begin; i < end; i++) {
        const int64_t t = j->rows ? j->rows[i] : i;
        uint8_t *first = j->act + (size_t)t * j->act_bytes;
        k->act_convert[j->kind](first, j->x + t * j->n, j->n);
        if (j->digits == 1) continue;
        k->act_residual[j->kind](rest, first, j->x + t * j->n, j->n);
        k->act_convert[j->kind](first + (size_t)j->n_tok * j->act_bytes, rest, j->n);
    }
}

void tug_cpu_convert_some(tug_backend *be, uint8_t *dst, tug_act kind, int digits,
                          const float *x, int64_t n, int64_t n_tok, const int32_t *rows,
                          int64_t n_row) {
    rows_job j = {.be = be,
                  .act = dst,
                  .kind = kind,
                  .digits = digits,
                  .x = x,
                  .n = n,
                  .n_tok = n_tok,
                  .rows = rows,
                  .act_bytes = tug_act_row_bytes(kind, n)};
    tug_cpu_for(be, n_row, 16, n_row * n * 4 * digits, convert_rows, &j);
}

void tug_cpu_convert(tug_backend *be, uint8_t *dst, tug_act kind, int digits,
                     const float *x, int64_t n, int64_t n_tok) {
    tug_cpu_convert_some(be, dst, kind, digits, x, n, n_tok, NULL, n_tok);
}

void tug_cpu_linear(const tug_backend *be, const tug_weight *w, int64_t mat, int64_t row0,
                    int64_t n_rows, float *y, int64_t y_stride, const void *x,
                    const int32_t *x_index, int64_t n_tok, int thread,
                    const uint8_t *next) {
    const tug_linear_kernel *kernel = tug_cpu_kernel(be, w);
    const bool floats = kernel->act == TUG_ACT_F32;
    const bool two = !floats && w->digits == 2;
    float *tile =
        be->digit_tile + (int64_t)thread * 2 * be->limits.n_tok * TUG_CPU_TILE_ROWS;
    const tug_linear_args a = {
        .y = two ? tile : y,
        .y_stride = two ? n_rows : y_stride,
        .w = tug_weight_row(w, mat, row0),
        .w_row_bytes = w->row_bytes,
        .w_next = next,
        .x = x,
        .x_row_bytes = floats ? (size_t)w->n_cols * sizeof(float)
                              : tug_act_row_bytes(kernel->act, w->n_cols),
        .x_index = x_index,
        .n_rows = n_rows,
        .n_cols = w->n_cols,
        .n_tok = two ? 2 * n_tok : n_tok,
    };
    kernel->fn(&a);
    if (!two) return;
    const float *second = tile + n_tok * n_rows;
    for (int64_t t = 0; t < n_tok; t++) {
        for (int64_t r = 0; r < n_rows; r++) {
            y[t * y_stride + r] = tile[t * n_rows + r] + second[t * n_rows + r];
        }
    }
}

/* ---- projections --------------------------------------------------------------------- */

/* Rows that a thread takes at a time, of n_rows that take n_bytes.  A batch wants whole
 * tiles.  A single token wants about eight pieces per thread, so that one that was
 * interrupted does not make the others wait for long; of a matrix as large as the head
 * more, because at the end all wait for the last piece. */
static int64_t row_grain(const tug_backend *be, int64_t n_rows, int64_t n_bytes,
                         int64_t n_tok) {
    enum { MAX_BYTES = 512 << 10 };
    const int64_t tile = n_tok >= 8 ? TUG_CPU_TILE_ROWS : TUG_PACK_ROWS;
    int64_t fair = n_rows / (8 * (int64_t)tug_pool_size(be->pool));
    if (n_tok < 8 && n_bytes > 0 && fair > MAX_BYTES * n_rows / n_bytes) {
        fair = MAX_BYTES * n_rows / n_bytes;
    }
    return fair <= tile ? tile : fair / tile * tile;
}

/* Rows of a projection as the list of pieces counts them. */
static int64_t whole_groups(int64_t n_rows) {
    return (n_rows + TUG_PACK_ROWS - 1) / TUG_PACK_ROWS * TUG_PACK_ROWS;
}

typedef struct project_job {
    tug_backend *be;
    const tug_proj *p;
    int n_proj;
    float *dst;
    int64_t dst_stride;
    const float *x;
    int64_t n_tok;
} project_job;

/* Row `at` of all projections laid end to end; NULL beyond them. */
static const uint8_t *row_of_all(const project_job *j, int64_t at) {
    for (int i = 0; i < j->n_proj; i++) {
        const tug_weight *w = &j->p[i].w;
        if (at < w->n_rows) return tug_weight_row(w, 0, at);
        at -= whole_groups(w->n_rows);
        if (at < 0) break;
    }
    return NULL;
}

/* Rows [begin, end) of all projections laid end to end, each rounded up to whole
 * groups so that no piece begins inside a group of packed rows. */
static void project_rows(void *ud, int64_t begin, int64_t end, int thread) {
    const project_job *j = ud;
    int64_t base = 0;
    /* Threads mostly take turns: what this one probably gets next. */
    const int64_t later = begin + tug_pool_size(j->be->pool) * (end - begin);
    for (int i = 0; i < j->n_proj && base < end; i++) {
        const tug_weight *w = &j->p[i].w;
        const int64_t from = max64(begin - base, 0);
        const int64_t to = end - base < w->n_rows ? end - base : w->n_rows;
        const tug_act kind = tug_cpu_kernel(j->be, w)->act;
        const void *x = kind == TUG_ACT_F32 ? (const void *)j->x : j->be->act[kind];
        for (int64_t row = from; row < to; row += TUG_CPU_TILE_ROWS) {
            const int64_t n = to - row < TUG_CPU_TILE_ROWS ? to - row : TUG_CPU_TILE_ROWS;
            const int64_t next = base + whole_groups(row + n);
            tug_cpu_linear(j->be, w, 0, row, n, j->dst + j->p[i].dst_col + row,
                           j->dst_stride, x, NULL, j->n_tok, thread,
                           row_of_all(j, next < end ? next : later));
        }
        base += whole_groups(w->n_rows);
    }
}

/* Converts x once for each form of activations the projections want. */
static void convert_for(tug_backend *be, const tug_proj *p, int n_proj, const float *x,
                        int64_t n_tok) {
    int digits[TUG_ACT_COUNT] = {0};
    for (int i = 0; i < n_proj; i++) {
        const tug_act kind = tug_cpu_kernel(be, &p[i].w)->act;
        if (p[i].w.digits > digits[kind]) digits[kind] = p[i].w.digits;
    }
    for (int k = 0; k < TUG_ACT_COUNT; k++) {
        if (k == TUG_ACT_F32 || digits[k] == 0) continue;
        tug_cpu_convert(be, be->act[k], (tug_act)k, digits[k], x, p[0].w.n_cols, n_tok);
    }
}

static void op_project(tug_backend *be, const tug_proj *p, int n_proj, float *dst,
                       int64_t dst_stride, const float *x, int64_t n_tok) {
    int64_t n_rows = 0, n_bytes = 0, macs = 0;
    for (int i = 0; i < n_proj; i++) {
        n_rows += whole_groups(p[i].w.n_rows);
        n_bytes += p[i].w.n_rows * (int64_t)p[i].w.row_bytes;
        macs += p[i].w.n_rows * p[i].w.n_cols * n_tok * p[i].w.digits;
    }
    convert_for(be, p, n_proj, x, n_tok);
    project_job j = {be, p, n_proj, dst, dst_stride, x, n_tok};
    tug_cpu_for(be, n_rows, row_grain(be, n_rows, n_bytes, n_tok), macs, project_rows,
                &j);
}

static const int32_t *op_routed(tug_backend *be) {
    return be->routing.ids;
}

/* ---- the table ----------------------------------------------------------------------- */

const tug_backend_ops tug_cpu_ops = {
    .reserve = tug_cpu_reserve,
    .alloc = host_alloc,
    .free = host_free,
    .write = host_copy,
    .read = host_copy,
    .copy = host_copy,
    .clear = host_clear,
    .wait = host_wait,
    .embed = tug_cpu_op_embed,
    .rmsnorm = op_rmsnorm,
    .add = op_add,
    .project = op_project,
    .attn_prepare = tug_cpu_op_attn_prepare,
    .attn = tug_cpu_op_attn,
    .delta = tug_cpu_op_delta,
    .moe = tug_cpu_op_moe,
    .routed = op_routed,
};
