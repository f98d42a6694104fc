/* backend_cuda.c - the GPU as a backend: memory, work space, rows and products.
 * SPDX-License-Identifier: MIT */
#include "backend/backend_cuda.h"

#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "base/sys.h"

static const tug_backend_ops cuda_ops;

/* ---- life -------------------------------------------------------------------------------- */

static tug_status make_handoff(tug_cuda *c, tug_err *err) {
    void *words;
    TUG_TRY(tug_device_alloc_pinned(c->dev, &words, sizeof *c->words,
                                    "the handoff to the CPU", err));
    c->words = words;
    *c->words = (tug_cuda_words){0};
    c->words_there = tug_device_address_of(c->dev, &c->words->there);
    c->words_back = tug_device_address_of(c->dev, &c->words->back);
    TUG_TRY(tug_device_status(c->dev, err));
    return tug_device_event_create(c->dev, &c->routed, err);
}

tug_status tug_backend_cuda_create(tug_backend **out, tug_cpu_level level, int n_threads,
                                   int gpu, uint64_t vram, tug_err *err) {
    tug_backend *be;
    *out = NULL;
    TUG_TRY(tug_backend_cpu_create(&be, level, n_threads, err));
    tug_cuda *c = tug_alloc_zero(sizeof *c);
    tug_status s = TUG_OK;
    if (!c) {
        s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the GPU backend");
    } else {
        be->place = c;
        be->ops = &cuda_ops;
        c->pos = -1;
        c->costs = tug_cuda_usual_costs;
        s = tug_device_open(&c->dev, gpu, vram, err);
        if (s == TUG_OK) s = make_handoff(c, err);
        if (s == TUG_OK) tug_backend_gpu_use(be, true, true);
    }
    if (s == TUG_OK && tug_nvml_open(&c->nvml, tug_device_get_info(c->dev)->pci,
                                     &c->no_nvml) != TUG_OK) {
        c->nvml = NULL; /* and it is told when somebody asks */
    }
    if (s != TUG_OK) {
        tug_backend_destroy(&be);
        return s;
    }
    *out = be;
    return TUG_OK;
}

static void free_buffers(tug_cuda *c) {
    tug_cuda_drop_graphs(c);
    for (int i = 0; i < TUG_CUDA_BUFFERS; i++) {
        tug_device_free(c->dev, c->buffer[i], c->bytes[i]);
        c->buffer[i] = NULL;
    }
    for (int i = 0; i < TUG_CUDA_PINNED; i++) {
        tug_device_free_pinned(c->dev, c->pinned[i]);
        c->pinned[i] = NULL;
    }
    tug_free(c->seen);
    c->seen = NULL;
    c->limits = (tug_backend_limits){0};
    c->pos = -1;
}

static void destroy(tug_backend *be) {
    tug_cuda *c = tug_cuda_of(be);
    if (c->dev) {
        tug_cuda_carrier_destroy(be);
        free_buffers(c);
        tug_device_event_destroy(c->dev, &c->routed);
        tug_device_free_pinned(c->dev, c->words);
    }
    tug_nvml_close(&c->nvml);
    tug_device_close(&c->dev);
    tug_free(c);
    be->place = NULL;
}

const tug_device_info *tug_backend_gpu(const tug_backend *be) {
    return be->place ? tug_device_get_info(tug_cuda_of(be)->dev) : NULL;
}

void tug_backend_gpu_use(tug_backend *be, bool words, bool graphs) {
    tug_cuda *c = tug_cuda_of(be);
    c->use_words = words && tug_device_get_info(c->dev)->waits_for_words;
    c->use_graphs = graphs;
    tug_cuda_drop_graphs(c);
}

tug_gpu_counts tug_backend_gpu_counts(const tug_backend *be) {
    return tug_cuda_of(be)->counts;
}

uint64_t tug_backend_gpu_used(const tug_backend *be) {
    return be->place ? tug_device_used(tug_cuda_of(be)->dev) : 0;
}

const tug_device_counters *tug_backend_gpu_counters(const tug_backend *be) {
    return tug_device_get_counters(tug_cuda_of(be)->dev);
}

const tug_nvml *tug_backend_gpu_nvml(const tug_backend *be, const char **why) {
    const tug_cuda *c = tug_cuda_of(be);
    *why = c->nvml ? "" : c->no_nvml.msg;
    return c->nvml;
}

tug_status tug_cuda_check_shapes(const tug_attn_shape *attn, const tug_delta_shape *delta,
                                 int64_t n_expert, tug_err *err) {
    if (attn->head_dim % 32 != 0 || attn->head_dim > TUG_CUDA_MAX_HEAD_DIM) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "the GPU's kernels have no attention with heads of %d: use "
                        "--gpu none",
                        attn->head_dim);
    }
    const int dk = delta->dk, dv = delta->dv;
    if ((dk != 16 && dk != 32 && dk != 64 && dk != 128) || dv % 8 != 0 || dv > 128) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "the GPU's kernels have no DeltaNet with heads of %d and %d: use "
                        "--gpu none",
                        dk, dv);
    }
    if (n_expert > TUG_CUDA_MAX_EXPERTS) {
        return TUG_FAIL(
            err, TUG_EUNSUPPORTED,
            "the GPU's kernels take up to %d experts, this model has %lld: use "
            "--gpu none",
            TUG_CUDA_MAX_EXPERTS, (long long)n_expert);
    }
    return TUG_OK;
}

/* ---- work space --------------------------------------------------------------------------- */

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* A row of activations for any type of weights. */
static int64_t widest_row(int64_t n) {
    return max64(tug_cuda_act_bytes(n), n * (int64_t)sizeof(float));
}

/* If heads are of TUG_CUDA_DELTA_DIM, channels tell how many of them are keys'; of other heads
 * nothing goes in chunks. */
static int64_t delta_bytes(const tug_backend_limits *l, int64_t n_tok) {
    const int64_t n_qk = l->conv_channels / TUG_CUDA_DELTA_DIM - l->n_v_head;
    if (n_tok < TUG_CUDA_DELTA_CHUNK || n_qk < 2) return 0;
    return tug_cuda_delta_work_bytes(n_tok, n_qk / 2, l->n_v_head);
}

static void size_buffers(size_t bytes[TUG_CUDA_BUFFERS], size_t pinned[TUG_CUDA_PINNED],
                         const tug_backend_limits *l) {
    const int64_t n = l->n_tok, pair = n * l->n_expert_used, f = sizeof(float);
    const int64_t n_in = max64(l->n_in, l->dim);
    const int64_t few = min64(n, TUG_CUDA_FEW_TOKENS);
    const int64_t tiles = tug_cuda_max_tiles(pair, l->n_expert, TUG_CUDA_GEMM_TOKENS);
    const int64_t want[TUG_CUDA_BUFFERS] = {
        [TUG_CUDA_ACT_1] = n * widest_row(n_in),
        [TUG_CUDA_ACT_2] = n * widest_row(n_in),
        [TUG_CUDA_POS] = f,
        /* heads are 32 wide or more: two more floats each are a 16th */
        [TUG_CUDA_PARTS_OUT] = few * TUG_CUDA_SPLITS * (n_in + n_in / 16) * f,
        [TUG_CUDA_CONV] = min64(n, TUG_CUDA_DELTA_TOKENS) * l->conv_channels * f,
        [TUG_CUDA_DELTA] = delta_bytes(l, min64(n, TUG_CUDA_DELTA_TOKENS)),
        [TUG_CUDA_IDS] = pair * f,
        [TUG_CUDA_WEIGHTS] = pair * f,
        [TUG_CUDA_FIRST] = (l->n_expert + 1) * f,
        [TUG_CUDA_SORTED] = pair * f,
        [TUG_CUDA_TILES] = (1 + 2 * tiles) * f,
        [TUG_CUDA_GATE] = pair * l->expert_dim * f,
        [TUG_CUDA_UP] = pair * l->expert_dim * f,
        [TUG_CUDA_HIDDEN] = pair * widest_row(l->expert_dim),
        [TUG_CUDA_PAIR_OUT] = pair * l->dim * f,
        [TUG_CUDA_SH_GATE] = n * l->shared_dim * f,
        [TUG_CUDA_SH_UP] = n * l->shared_dim * f,
        [TUG_CUDA_SH_HIDDEN] = n * widest_row(l->shared_dim),
        [TUG_CUDA_SH_OUT] = n * l->dim * f,
        [TUG_CUDA_MORE] = n * l->dim * f,
    };
    for (int i = 0; i < TUG_CUDA_BUFFERS; i++) bytes[i] = (size_t)want[i];
    pinned[TUG_CUDA_HOST_IDS] = (size_t)(pair * f);
    pinned[TUG_CUDA_HOST_WEIGHTS] = (size_t)(pair * f);
    pinned[TUG_CUDA_HOST_X] = (size_t)(n * l->dim * f);
    pinned[TUG_CUDA_HOST_MORE] = (size_t)(n * l->dim * f);
}

uint64_t tug_cuda_work_bytes(const tug_backend_limits *limits) {
    size_t bytes[TUG_CUDA_BUFFERS], pinned[TUG_CUDA_PINNED];
    uint64_t sum = 0;
    size_buffers(bytes, pinned, limits);
    for (int i = 0; i < TUG_CUDA_BUFFERS; i++) {
        sum += ((bytes[i] ? bytes[i] : 1) + 255) / 256 * 256;
    }
    return sum;
}

static tug_status make_buffers(tug_cuda *c, const tug_backend_limits *l, tug_err *err) {
    size_t pinned[TUG_CUDA_PINNED];
    size_buffers(c->bytes, pinned, l);
    for (int i = 0; i < TUG_CUDA_BUFFERS; i++) {
        TUG_TRY(tug_device_alloc(c->dev, &c->buffer[i], c->bytes[i],
                                 "its work space: use a smaller -b", err));
        /* Rows of experts that are not here are converted with the others, if not used. */
        tug_device_clear(c->dev, TUG_STREAM_COMPUTE, c->buffer[i], c->bytes[i]);
    }
    for (int i = 0; i < TUG_CUDA_PINNED; i++) {
        TUG_TRY(tug_device_alloc_pinned(c->dev, &c->pinned[i], pinned[i],
                                        "the handoff to the CPU", err));
        c->mapped[i] = tug_device_address_of(c->dev, c->pinned[i]);
    }
    c->seen = tug_alloc_array(pinned[TUG_CUDA_HOST_IDS], 1);
    if (!c->seen) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for what was routed");
    c->limits = *l;
    return tug_device_status(c->dev, err);
}

/* The CPU's grows first, and only it keeps what it had when there is no room: the device
 * does not have it twice. */
static tug_status reserve(tug_backend *be, const tug_backend_limits *want, tug_err *err) {
    tug_cuda *c = tug_cuda_of(be);
    TUG_TRY(tug_cpu_reserve(be, want, err));
    if (memcmp(&be->limits, &c->limits, sizeof c->limits) == 0) return TUG_OK;
    const tug_backend_limits old = c->limits;
    TUG_TRY(tug_device_wait(c->dev, TUG_STREAM_COMPUTE, err));
    free_buffers(c);
    const tug_status s = make_buffers(c, &be->limits, err);
    if (s == TUG_OK) return TUG_OK;
    free_buffers(c);
    if (old.n_tok > 0 && make_buffers(c, &old, NULL) != TUG_OK) free_buffers(c);
    return s;
}

/* ---- memory --------------------------------------------------------------------------------- */

static tug_status alloc(tug_backend *be, void **out, size_t bytes, const char *what,
                        tug_err *err) {
    return tug_device_alloc(tug_cuda_of(be)->dev, out, bytes, what, err);
}

static void free_memory(tug_backend *be, void *p, size_t bytes) {
    tug_cuda_drop_graphs(tug_cuda_of(be));
    tug_device_free(tug_cuda_of(be)->dev, p, bytes);
}

static void write_memory(tug_backend *be, void *dst, const void *src, size_t bytes) {
    tug_device_copy_in(tug_cuda_of(be)->dev, TUG_STREAM_COMPUTE, dst, src, bytes);
}

static void read_memory(tug_backend *be, void *dst, const void *src, size_t bytes) {
    tug_device_copy_out(tug_cuda_of(be)->dev, TUG_STREAM_COMPUTE, dst, src, bytes);
}

static void copy_memory(tug_backend *be, void *dst, const void *src, size_t bytes) {
    tug_device_copy(tug_cuda_of(be)->dev, TUG_STREAM_COMPUTE, dst, src, bytes);
}

static void clear_memory(tug_backend *be, void *p, size_t bytes) {
    tug_device_clear(tug_cuda_of(be)->dev, TUG_STREAM_COMPUTE, p, bytes);
}

static tug_status wait(tug_backend *be, tug_err *err) {
    return tug_device_wait(tug_cuda_of(be)->dev, TUG_STREAM_COMPUTE, err);
}

/* ---- rows ------------------------------------------------------------------------------------ */

void tug_cuda_enqueue(tug_cuda *c, tug_cuda_launch l, const void *args) {
    tug_device_launch(c->dev, l.kernel, l.grid, l.block, l.shared_bytes, args);
}

/* The embedding stays in host memory: a token takes one row of it. */
static void op_embed(tug_backend *be, float *x, const tug_weight *w, const int32_t *ids,
                     int64_t n_tok) {
    tug_cuda *c = tug_cuda_of(be);
    float *rows = c->pinned[TUG_CUDA_HOST_X];
    tug_cpu_op_embed(be, rows, w, ids, n_tok);
    write_memory(be, x, rows, (size_t)(n_tok * w->n_cols) * sizeof *rows);
}

static void op_rmsnorm(tug_backend *be, float *y, const float *x, const float *w,
                       int64_t n_tok, int64_t n, float eps) {
    union {
        const float *ro;
        float *rw;
    } in = {.ro = x}; /* written only when something is added */
    const tug_cuda_rmsnorm a = {
        .y = y, .x = in.rw, .w = w, .n = (int32_t)n, .n_tok = (int32_t)n_tok, .eps = eps};
    tug_cuda_enqueue(tug_cuda_of(be), tug_cuda_on_rmsnorm(&a), &a);
}

static void op_add(tug_backend *be, float *x, const float *y, int64_t n_tok, int64_t n) {
    const tug_cuda_expert_finish a = {
        .y = x, .more = y, .n = (int32_t)n, .n_tok = (int32_t)n_tok};
    tug_cuda_enqueue(tug_cuda_of(be), tug_cuda_on_expert_finish(&a), &a);
}

/* ---- products ----------------------------------------------------------------------------------- */

bool tug_cuda_takes_floats(const tug_weight *w) {
    return w->type == TUG_TYPE_F32 || w->type == TUG_TYPE_F16 || w->type == TUG_TYPE_BF16;
}

size_t tug_cuda_x_row_bytes(const tug_weight *w) {
    return tug_cuda_takes_floats(w) ? (size_t)w->n_cols * sizeof(float)
                                    : (size_t)tug_cuda_act_bytes(w->n_cols);
}

const void *tug_cuda_input(tug_cuda *c, tug_cuda_inputs *in, const tug_weight *w) {
    if (in->rows) return in->rows;
    if (tug_cuda_takes_floats(w)) return in->x;
    void *act = c->buffer[w->digits == 1 ? TUG_CUDA_ACT_1 : TUG_CUDA_ACT_2];
    if (in->have[w->digits]) return act;
    const tug_cuda_quantize a = {.act = act,
                                 .x = in->x,
                                 .x_stride = in->n,
                                 .n = (int32_t)in->n,
                                 .n_tok = (int32_t)in->n_tok,
                                 .digits = w->digits};
    tug_cuda_enqueue(c, tug_cuda_on_quantize(&a), &a);
    in->have[w->digits] = true;
    return act;
}

const void *tug_cuda_hidden(tug_cuda *c, const tug_weight *w, void *dst,
                            const float *gate, float *up, int64_t n_row) {
    if (tug_cuda_takes_floats(w)) {
        const tug_cuda_swiglu a = {
            .h = up, .gate = gate, .up = up, .n = n_row * w->n_cols};
        tug_cuda_enqueue(c, tug_cuda_on_swiglu(&a), &a);
        return up;
    }
    const tug_cuda_quantize a = {.act = dst,
                                 .x = up,
                                 .gate = gate,
                                 .x_stride = w->n_cols,
                                 .n = (int32_t)w->n_cols,
                                 .n_tok = (int32_t)n_row,
                                 .digits = w->digits};
    tug_cuda_enqueue(c, tug_cuda_on_quantize(&a), &a);
    return dst;
}

static bool alike(const tug_weight *a, const tug_weight *b) {
    return a->type == b->type && a->digits == b->digits && a->n_cols == b->n_cols;
}

/* As many of p as one launch takes; how many. */
static int few_tokens(tug_cuda *c, const tug_proj *p, int n_proj, float *y,
                      int64_t y_stride, tug_cuda_inputs *in) {
    const tug_weight *w = &p[0].w;
    tug_cuda_linear a = {.y = y,
                         .x = tug_cuda_input(c, in, w),
                         .y_stride = y_stride,
                         .w_row_bytes = (int64_t)w->row_bytes,
                         .x_row_bytes = (int64_t)tug_cuda_x_row_bytes(w),
                         .n_cols = (int32_t)w->n_cols,
                         .n_tok = (int32_t)in->n_tok,
                         .digits = w->digits};
    while (a.n_part < TUG_CUDA_PARTS && a.n_part < n_proj && alike(&p[a.n_part].w, w)) {
        const tug_proj *part = &p[a.n_part];
        a.part[a.n_part++] = (tug_cuda_part){part->w.data, (int32_t)part->w.n_rows,
                                             (int32_t)part->dst_col};
        a.n_rows += (int32_t)part->w.n_rows;
    }
    tug_cuda_enqueue(c, tug_cuda_on_gemv(&a, w->type), &a);
    return a.n_part;
}

static void many_tokens(tug_cuda *c, const tug_proj *p, float *y, int64_t y_stride,
                        tug_cuda_inputs *in) {
    const tug_weight *w = &p->w;
    const tug_cuda_gemm a = {.y = y + p->dst_col,
                             .x = tug_cuda_input(c, in, w),
                             .w = w->data,
                             .y_stride = y_stride,
                             .w_row_bytes = (int64_t)w->row_bytes,
                             .x_row_bytes = (int64_t)tug_cuda_x_row_bytes(w),
                             .n_rows = (int32_t)w->n_rows,
                             .n_cols = (int32_t)w->n_cols,
                             .n_tok = (int32_t)in->n_tok,
                             .digits = w->digits};
    tug_cuda_enqueue(c, tug_cuda_on_gemm(&a, w->type), &a);
}

void tug_cuda_products(tug_cuda *c, const tug_proj *p, int n_proj, float *y,
                       int64_t y_stride, tug_cuda_inputs *in) {
    for (int i = 0; i < n_proj;) {
        if (in->n_tok <= TUG_CUDA_FEW_TOKENS) {
            i += few_tokens(c, p + i, n_proj - i, y, y_stride, in);
        } else {
            many_tokens(c, p + i, y, y_stride, in);
            i++;
        }
    }
}

static void op_project(tug_backend *be, const tug_proj *p, int n_proj, float *dst,
                       int64_t dst_stride, const float *x, int64_t n_tok) {
    tug_cuda_inputs in = {.x = x, .n = p[0].w.n_cols, .n_tok = n_tok};
    tug_cuda_products(tug_cuda_of(be), p, n_proj, dst, dst_stride, &in);
}

static const tug_backend_ops cuda_ops = {
    .destroy = destroy,
    .reserve = reserve,
    .alloc = alloc,
    .free = free_memory,
    .write = write_memory,
    .read = read_memory,
    .copy = copy_memory,
    .clear = clear_memory,
    .pin = tug_cuda_op_pin,
    .unpin = tug_cuda_op_unpin,
    .wait = wait,
    .run = tug_cuda_op_run,
    .begin_pass = tug_cuda_op_begin_pass,
    .embed = op_embed,
    .rmsnorm = op_rmsnorm,
    .add = op_add,
    .project = op_project,
    .attn_prepare = tug_cuda_op_attn_prepare,
    .attn = tug_cuda_op_attn,
    .delta = tug_cuda_op_delta,
    .moe = tug_cuda_op_moe,
    .routed = tug_cuda_op_routed,
};
