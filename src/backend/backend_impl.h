/* backend_impl.h - the table of ops, and what the files of the CPU backend share.
 *
 * Every backend has the kernels and threads of the CPU: one on another place computes there
 * what it can, and with these what it cannot.  SPDX-License-Identifier: MIT */
#ifndef TUG_BACKEND_BACKEND_IMPL_H
#define TUG_BACKEND_BACKEND_IMPL_H

#include "backend/backend.h"
#include "base/threads.h"

/* One place where ops run: the functions of backend.h of the same names. */
typedef struct tug_backend_ops {
    void (*destroy)(tug_backend *be); /* the place's own; NULL: nothing */
    tug_status (*reserve)(tug_backend *be, const tug_backend_limits *limits,
                          tug_err *err);
    /* memory of the place */
    tug_status (*alloc)(tug_backend *be, void **out, size_t bytes, const char *what,
                        tug_err *err);
    void (*free)(tug_backend *be, void *p, size_t bytes);
    void (*write)(tug_backend *be, void *dst, const void *src, size_t bytes);
    void (*read)(tug_backend *be, void *dst, const void *src, size_t bytes);
    void (*copy)(tug_backend *be, void *dst, const void *src, size_t bytes);
    void (*clear)(tug_backend *be, void *p, size_t bytes);
    bool (*pin)(tug_backend *be, uint8_t *p, size_t bytes); /* NULL: nobody copies */
    void (*unpin)(tug_backend *be, uint8_t *p);
    tug_status (*wait)(tug_backend *be, tug_err *err);
    tug_status (*run)(tug_backend *be, const tug_pass *pass, tug_err *err); /* NULL: its
                                                                 ops are called */
    void (*begin_pass)(tug_backend *be, int64_t n_tok); /* NULL: nothing */
    /* ops */
    void (*embed)(tug_backend *be, float *x, const tug_weight *w, const int32_t *ids,
                  int64_t n_tok);
    void (*rmsnorm)(tug_backend *be, float *y, const float *x, const float *w,
                    int64_t n_tok, int64_t n, float eps);
    void (*add)(tug_backend *be, float *x, const float *y, int64_t n_tok, int64_t n);
    void (*project)(tug_backend *be, const tug_proj *p, int n_proj, float *dst,
                    int64_t dst_stride, const float *x, int64_t n_tok);
    void (*attn_prepare)(tug_backend *be, const tug_attn_shape *s, float *qkv,
                         int64_t stride, const float *q_norm, const float *k_norm,
                         const float *rope, tug_kv_layer *kv, int64_t pos0,
                         int64_t n_tok);
    void (*attn)(tug_backend *be, const tug_attn_shape *s, float *out, const float *qkv,
                 int64_t stride, const tug_kv_layer *kv, int64_t pos0, int64_t n_tok);
    void (*delta)(tug_backend *be, const tug_delta_shape *s, float *out,
                  const float *proj, int64_t stride, const float *conv_w,
                  const float *dt_bias, const float *a_coef, const float *norm,
                  tug_delta_state *state, int64_t n_tok);
    tug_status (*moe)(tug_backend *be, const tug_moe_weights *w, float *y, const float *x,
                      const float *router_logits, int n_used, int64_t n_tok,
                      tug_err *err);
    const int32_t *(*routed)(tug_backend *be);
} tug_backend_ops;

/* Where each routed token of a batch goes: slots sorted by expert, so that an expert's
 * tokens are contiguous. */
typedef struct tug_routing {
    int32_t *ids;   /* (n_tok, n_used) experts of each token, increasing */
    float *weights; /* (n_tok, n_used) */
    int32_t *slot;  /* (n_tok, n_used): slot of that pair */
    int32_t
        *token; /* (2 n_slot,): for expert e, from 2 first[e] on, the activation rows of
                         its tokens' first digits, then those of their second digits */
    int32_t *hidden; /* (2 n_slot,): the same for rows of expert_act */
    int32_t *first;  /* (n_expert + 1,): slots [first[e], first[e+1]) are expert e's */
    int32_t *active; /* (n_expert,): experts with at least one token */
    int32_t *counts; /* (n_expert,): tokens of each active expert */
    int32_t *at;     /* (n_expert,): positions in active of those that are computed now */
    int32_t *rows;   /* (n_slot,): their slots */
    int n_active;
} tug_routing;

/* Rows of an expert matrix that are one piece of work. */
#define TUG_CPU_TILE_ROWS 64
/* Queries of one attention call: all query heads of a kv head for some tokens. */
#define TUG_CPU_ATTN_QUERIES 128
/* Parts of attention that wait to be joined, see split_chunks. */
#define TUG_CPU_ATTN_PARTS 4096

/* Tokens that go through the delta rule of a key head at a time. */
#define TUG_CPU_DELTA_TOKENS 64
/* Floats between rows of conv_out that nothing uses, see conv_stride. */
#define TUG_CPU_CONV_PAD 16

struct tug_backend {
    const tug_backend_ops *ops;
    void *place; /* what the ops of another place than the CPU have */
    tug_kernels k;
    tug_pool *pool; /* owned */
    tug_backend_limits limits;

    /* Scratch, all owned, sized by tug_backend_reserve. */
    uint8_t *act[TUG_ACT_COUNT]; /* (2, n_tok, activation row) converted inputs */
    float *residual;             /* (n_threads, residual_floats): first-digit errors */
    int64_t residual_floats;
    float *digit_tile;   /* (n_threads, 2, n_tok, TUG_CPU_TILE_ROWS) */
    float *attn_scratch; /* (n_threads, tug_attn_scratch_floats()) */
    float *conv_out;     /* (TUG_CPU_DELTA_TOKENS, conv_channels + TUG_CPU_CONV_PAD) */
    float *gates;        /* (2, TUG_CPU_DELTA_TOKENS, n_v_head): beta, decay */
    tug_routing routing;
    float *expert_h;     /* (n_slot, expert_dim) */
    uint8_t *expert_act; /* (2, n_slot, activation row of expert_dim) */
    float *expert_y;     /* (n_slot, dim) */
    float *shared_gate;  /* (n_tok, shared_dim): hidden rows of the shared expert */
    uint8_t *shared_act; /* (2, n_tok, activation row of shared_dim) */
    float *shared_y;     /* (n_tok, dim) */
    float *up_tile;      /* (n_threads, n_tok, TUG_CPU_TILE_ROWS) */
    float *attn_tile;    /* (n_threads, 2, TUG_CPU_ATTN_QUERIES, TUG_MAX_HEAD_DIM) */
    int32_t *attn_len;   /* (n_threads, TUG_CPU_ATTN_QUERIES) */
    float *attn_parts;   /* (TUG_CPU_ATTN_PARTS, TUG_ATTN_PART_OUT + TUG_MAX_HEAD_DIM) */
};

/* The CPU's ops. */
extern const tug_backend_ops tug_cpu_ops;
tug_status tug_cpu_reserve(tug_backend *be, const tug_backend_limits *want, tug_err *err);
void tug_cpu_op_embed(tug_backend *be, float *x, const tug_weight *w, const int32_t *ids,
                      int64_t n_tok);
void tug_cpu_op_attn_prepare(tug_backend *be, const tug_attn_shape *s, float *qkv,
                             int64_t stride, const float *q_norm, const float *k_norm,
                             const float *rope, tug_kv_layer *kv, int64_t pos0,
                             int64_t n_tok);
void tug_cpu_op_attn(tug_backend *be, const tug_attn_shape *s, float *out,
                     const float *qkv, int64_t stride, const tug_kv_layer *kv,
                     int64_t pos0, int64_t n_tok);
void tug_cpu_op_delta(tug_backend *be, const tug_delta_shape *s, float *out,
                      const float *proj, int64_t stride, const float *conv_w,
                      const float *dt_bias, const float *a_coef, const float *norm,
                      tug_delta_state *state, int64_t n_tok);
tug_status tug_cpu_op_moe(tug_backend *be, const tug_moe_weights *w, float *y,
                          const float *x, const float *router_logits, int n_used,
                          int64_t n_tok, tug_err *err);

/* y (n_tok, dim) = the routed experts that are not elsewhere (n_expert,), for tokens that
 * another place routed; no shared expert.  ids, weights (n_tok, n_used). */
tug_status tug_cpu_moe_rest(tug_backend *be, const tug_moe_weights *w, float *y,
                            const float *x, const int32_t *ids, const float *weights,
                            const uint8_t *elsewhere, int n_used, int64_t n_tok,
                            tug_err *err);

/* The kernel that multiplies this weight as it lies. */
const tug_linear_kernel *tug_cpu_kernel(const tug_backend *be, const tug_weight *w);

/* dst (2, n_tok, activation row) <- the first digits of x (n_tok, n), then, if there are
 * two, the second. */
void tug_cpu_convert(tug_backend *be, uint8_t *dst, tug_act kind, int digits,
                     const float *x, int64_t n, int64_t n_tok);

/* The same for n_row of the n_tok rows. */
void tug_cpu_convert_some(tug_backend *be, uint8_t *dst, tug_act kind, int digits,
                          const float *x, int64_t n, int64_t n_tok, const int32_t *rows,
                          int64_t n_row);

/* y (n_tok, n_rows) stride y_stride = rows [row0, row0 + n_rows) of matrix `mat` times the
 * activations x, n_rows <= TUG_CPU_TILE_ROWS.  Floats or digits, as the weight wants;
 * x_index names activation rows, of the first digits and behind them of the second, NULL:
 * 0, 1, 2, ...  A kernel sees two digits as two tokens: the weights are read once.
 * `next`: tug_linear_args.w_next. */
void tug_cpu_linear(const tug_backend *be, const tug_weight *w, int64_t mat, int64_t row0,
                    int64_t n_rows, float *y, int64_t y_stride, const void *x,
                    const int32_t *x_index, int64_t n_tok, int thread,
                    const uint8_t *next);

/* tug_pool_for, unless the work is so small that waking the others costs more than it
 * saves: `macs` is the op's multiplications, roughly.  A result never depends on this. */
void tug_cpu_for(tug_backend *be, int64_t n, int64_t grain, int64_t macs,
                 tug_range_fn *fn, void *ud);

#endif
