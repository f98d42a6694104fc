/* backend_cuda_impl.h - what the files of the CUDA backend share.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BACKEND_BACKEND_CUDA_IMPL_H
#define TUG_BACKEND_BACKEND_CUDA_IMPL_H

#include "backend/backend_cuda.h"
#include "backend/backend_impl.h"
#include "kernels/cuda/launch.h"

/* Up to so many tokens go by the kernels of decode: matrix times vector. */
#define TUG_CUDA_FEW_TOKENS 16
/* ... and attend with the context split among so many blocks at most, of at least so many
 * rows each. */
#define TUG_CUDA_SPLITS     32
#define TUG_CUDA_SPLIT_ROWS 128
/* Tokens that go through the convolution and the delta rule at a time. */
#define TUG_CUDA_DELTA_TOKENS 512

/* Buffers on the device, made by reserve; names of what is in them. */
typedef enum tug_cuda_buffer {
    TUG_CUDA_ACT_1,     /* (n_tok, activation row): inputs in one digit */
    TUG_CUDA_ACT_2,     /* in two */
    TUG_CUDA_POS,       /* (1,) int32 */
    TUG_CUDA_PARTS_OUT, /* of attention, see tug_cuda_attn */
    TUG_CUDA_CONV,      /* (TUG_CUDA_DELTA_TOKENS, conv_channels) */
    TUG_CUDA_DELTA,     /* of the chunked delta rule, see tug_cuda_delta */
    TUG_CUDA_IDS,       /* (n_pair,) int32 */
    TUG_CUDA_WEIGHTS,   /* (n_pair,) */
    TUG_CUDA_FIRST,     /* (n_expert + 1,) int32: these three of tug_cuda_sort */
    TUG_CUDA_SORTED,    /* (n_pair,) */
    TUG_CUDA_TILES,     /* (1 + 2 max_tiles,) */
    TUG_CUDA_GATE,      /* (n_pair, expert_dim) */
    TUG_CUDA_UP,        /* (n_pair, expert_dim) */
    TUG_CUDA_HIDDEN,    /* (n_pair, activation row of expert_dim) */
    TUG_CUDA_PAIR_OUT,  /* (n_pair, dim) */
    TUG_CUDA_SH_GATE,   /* (n_tok, shared_dim) */
    TUG_CUDA_SH_UP,     /* (n_tok, shared_dim) */
    TUG_CUDA_SH_HIDDEN, /* (n_tok, activation row of shared_dim) */
    TUG_CUDA_SH_OUT,    /* (n_tok, dim) */
    TUG_CUDA_MORE,      /* (n_tok, dim): what the CPU computed */
    TUG_CUDA_BUFFERS
} tug_cuda_buffer;

/* Pinned, for the handoff. */
typedef enum tug_cuda_pinned {
    TUG_CUDA_HOST_IDS,     /* (n_pair,) int32 */
    TUG_CUDA_HOST_WEIGHTS, /* (n_pair,) */
    TUG_CUDA_HOST_X,       /* (n_tok, dim) */
    TUG_CUDA_HOST_MORE,    /* (n_tok, dim) */
    TUG_CUDA_PINNED
} tug_cuda_pinned;

typedef struct tug_cuda {
    tug_device *dev;                                          /* owned */
    void *buffer[TUG_CUDA_BUFFERS], *pinned[TUG_CUDA_PINNED]; /* owned */
    size_t bytes[TUG_CUDA_BUFFERS];
    tug_backend_limits limits;
    int32_t pos;              /* what TUG_CUDA_POS holds, -1: nothing */
    tug_device_event *routed; /* owned: ids, weights and x of a layer are on the host */
    tug_nvml *nvml;           /* owned; NULL: not available, and why */
    tug_err no_nvml;
} tug_cuda;

struct tug_cuda_experts {
    int n_expert, n_here;
    void *bytes; /* owned, device: the experts' matrices */
    size_t n_bytes;
    void *tables;  /* owned, device: (3, n_expert) addresses, of gate, up, down */
    uint8_t *here; /* owned, (n_expert,): 1: has a copy */
};

static inline tug_cuda *tug_cuda_of(const tug_backend *be) {
    return be->place;
}

/* Enqueues a launch of `l` with its arguments. */
void tug_cuda_enqueue(tug_cuda *c, tug_cuda_launch l, const void *args);

/* Activations of a token for weights of w's type: converted ones, or f32. */
bool tug_cuda_takes_floats(const tug_weight *w);
size_t tug_cuda_x_row_bytes(const tug_weight *w);

/* The inputs of some matrices: x (n_tok, n) f32, and converted when first wanted; or rows
 * that are as the one matrix takes them. */
typedef struct tug_cuda_inputs {
    const float *x;
    const void *rows; /* NULL: x */
    int64_t n, n_tok;
    bool have[3]; /* in one digit, in two */
} tug_cuda_inputs;
const void *tug_cuda_input(tug_cuda *c, tug_cuda_inputs *in, const tug_weight *w);

/* y (n_tok, stride) columns <- products of matrices that lie whole on the device. */
void tug_cuda_products(tug_cuda *c, const tug_proj *p, int n_proj, float *y,
                       int64_t y_stride, tug_cuda_inputs *in);

/* dst: rows of activations for w = silu(gate) * up, (n_row, n); up is overwritten when w
 * takes floats, and then returned. */
const void *tug_cuda_hidden(tug_cuda *c, const tug_weight *w, void *dst,
                            const float *gate, float *up, int64_t n_row);

/* Whether the delta rule of n_tok tokens goes in chunks, if the heads are as they must be.  The
 * recurrence has a multiprocessor for every value head and no use for more; chunks use all,
 * for three times as many multiplications (docs/CUDA-KERNELS.md). */
static inline bool tug_cuda_in_chunks(const tug_cuda *c, int64_t n_v_head,
                                      int64_t n_tok) {
    return n_tok >= TUG_CUDA_DELTA_CHUNK &&
           tug_device_get_info(c->dev)->n_sm >= 2 * n_v_head;
}

void tug_cuda_op_attn_prepare(tug_backend *be, const tug_attn_shape *s, float *qkv,
                              int64_t stride, const float *q_norm, const float *k_norm,
                              const float *rope, tug_kv_layer *kv, int64_t pos0,
                              int64_t n_tok);
void tug_cuda_op_attn(tug_backend *be, const tug_attn_shape *s, float *out,
                      const float *qkv, int64_t stride, const tug_kv_layer *kv,
                      int64_t pos0, int64_t n_tok);
void tug_cuda_op_delta(tug_backend *be, const tug_delta_shape *s, float *out,
                       const float *proj, int64_t stride, const float *conv_w,
                       const float *dt_bias, const float *a_coef, const float *norm,
                       tug_delta_state *state, int64_t n_tok);
tug_status tug_cuda_op_moe(tug_backend *be, const tug_moe_weights *w, float *y,
                           const float *x, const float *router_logits, int n_used,
                           int64_t n_tok, tug_err *err);
const int32_t *tug_cuda_op_routed(tug_backend *be);

#endif
