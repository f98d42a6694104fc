/* backend.h - the semantic operations the forward pass is written against.
 *
 * A backend is one place where ops run.  Activations are f32 buffers of that place, and so
 * are states and weights, views of bytes that somebody else owns.  The places: the CPU
 * (backend_cpu.c, over the kernel table; level "ref" makes it the oracle), and a GPU with
 * the CPU beside it (backend_cuda.c).
 * Ops cannot fail: everything that can (memory) was reserved by tug_backend_reserve.  But
 * tug_op_moe can, when experts come from a disk; and a GPU may fail, which the next
 * tug_backend_wait tells: until then results are undefined.
 * Every op computes each token by itself, so on the CPU results do not depend on n_tok; on a
 * GPU they do in the last bits, where many tokens go by other kernels than few.
 *
 * Shapes in parentheses, last dimension contiguous.  SPDX-License-Identifier: MIT */
#ifndef TUG_BACKEND_BACKEND_H
#define TUG_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "base/status.h"
#include "kernels/cpu/kernels.h"
#include "policy/expert_use.h"
#include "quant/types.h"

/* A matrix in a file's type, or a stack of n_mat of them (experts). */
typedef struct tug_weight {
    const uint8_t *data; /* borrowed, (n_mat, n_rows, n_cols); unused if there are mats */
    const uint8_t *const
        *mats; /* borrowed, (n_mat,): where each matrix is now, NULL: not in
                                   memory.  NULL: all are at data */
    tug_type type;
    int64_t n_rows; /* outputs */
    int64_t n_cols; /* inputs */
    int64_t n_mat;
    uint64_t row_bytes;
    uint64_t mat_bytes; /* from one matrix to the next: >= n_rows * row_bytes */
    bool packed;        /* rows lie in groups of 16 as in quant/packed.h */
    int digits;         /* int8 digits of the activations it meets, 1 or 2 (see below) */
} tug_weight;

/* DIGITS  Activations that meet quantised weights become int8 values with a scale per 32
 * or 256 of them.  One digit keeps an error of about 0.5 % per product; a second digit,
 * the error of the first, makes it as good as 15 bits and doubles the multiplications.
 * What needs which is src/model/weights.c's choice (docs/performance.md, "Digits"). */

/* First byte of row `row` of matrix `mat`; if packed, `row` begins a group. */
static inline const uint8_t *tug_weight_row(const tug_weight *w, int64_t mat,
                                            int64_t row) {
    const uint8_t *first =
        w->mats ? w->mats[mat] : w->data + (uint64_t)mat * w->mat_bytes;
    return first + (uint64_t)row * w->row_bytes;
}

/* One projection of a list that shares its input: its outputs land in columns
 * [dst_col, dst_col + w.n_rows) of the destination rows. */
typedef struct tug_proj {
    tug_weight w;
    int64_t dst_col;
} tug_proj;

/* Who brings the experts of a layer into memory when not all are there: src/memory.  For one
 * layer of one batch:
 *
 *     begin();  while (next(wait) > 0) { compute those; done(); }  end();
 *
 * Reading goes on beside everything.  Until done(), an expert that next() named stays where
 * the weights' mats say. */
typedef struct tug_expert_source {
    void *ud;
    /* experts (n,), increasing, each with counts[i] >= 1 of the n_tok tokens; both stay
     * valid until end. */
    tug_status (*begin)(void *ud, int layer, const int32_t *experts,
                        const int32_t *counts, int n, int64_t n_tok, tug_err *err);
    /* at <- positions in experts of up to max that are in memory and were not named yet.
     * With `wait` *n is 0 only when all were named.  TUG_EIO: a read failed. */
    tug_status (*next)(void *ud, int32_t *at, int max, bool wait, int *n, tug_err *err);
    void (*done)(void *ud, const int32_t *at, int n);
    void (*end)(void *ud); /* also after a failure */
    /* At any time: an expert that is in memory stays where the mats say until release, if
     * that is possible.  NULL: it never is. */
    bool (*hold)(void *ud, int layer, int expert);
    void (*release)(void *ud, int layer, int expert);
    /* An expert that nobody will ask for makes room for one that comes back.  at[] <- where
     * the matrices of `other` belong, as in the file, once `held` is not read any more; then,
     * between passes and in place of release, replace(): they are there, and `past` says how
     * `other` was used until token `now` of the layer.  -1: they did not come. */
    void (*room_of)(void *ud, int layer, int held, int other, uint8_t *at[3]);
    void (*replace)(void *ud, int layer, int held, int other, const tug_expert_use *past,
                    uint32_t now);
} tug_expert_source;

/* The routed and the shared expert of one layer. */
typedef struct tug_moe_weights {
    tug_weight gate, up, down;          /* n_mat = n_expert; (F, H), (F, H), (H, F) */
    tug_weight sh_gate, sh_up, sh_down; /* (Fs, H), (Fs, H), (H, Fs); n_rows 0: none */
    const float *sh_router;             /* (H,), or NULL: shared expert unscaled */
    const tug_expert_source *source;    /* borrowed; NULL: all experts are in memory */
    int layer;                          /* as the source counts */
    struct tug_cuda_experts *on_gpu;    /* borrowed; NULL: no routed expert is there */
    const uint8_t
        *elsewhere; /* borrowed, (n_expert,), changes between passes only: 1: has a
                                 copy that is computed in its place, nobody will ask the
                                 source for it; NULL: none has */
} tug_moe_weights;

typedef struct tug_attn_shape {
    int n_head, n_kv_head, head_dim, n_rot;
    float eps;
} tug_attn_shape;

/* One attention layer's cache: per kv head n_rows rows, a multiple of TUG_KV_BLOCK. */
typedef struct tug_kv_layer {
    uint8_t *k, *v; /* (n_kv_head, n_rows, head_dim) of `type`, 64-byte aligned */
    tug_kv_type type;
    size_t row_bytes;
    int64_t n_rows;
} tug_kv_layer;

typedef struct tug_delta_shape {
    int n_k_head, n_v_head, dk, dv, conv_width;
    float eps;
} tug_delta_shape;

/* One DeltaNet layer's state. */
typedef struct tug_delta_state {
    float *s;    /* (n_v_head, dk, dv) */
    float *conv; /* (conv_width - 1, 2 n_k_head dk + n_v_head dv), oldest first */
} tug_delta_state;

/* The largest sizes any op will be called with; decides the backend's own scratch. */
typedef struct tug_backend_limits {
    int64_t n_tok; /* tokens in one call */
    int64_t n_in;  /* inputs of any projection */
    int64_t n_expert, n_expert_used;
    int64_t expert_dim, shared_dim, dim;
    int64_t conv_channels, n_v_head;
} tug_backend_limits;

typedef struct tug_backend tug_backend;

/* The CPU backend at one kernel level. */
TUG_NODISCARD tug_status tug_backend_cpu_create(tug_backend **out, tug_cpu_level level,
                                                int n_threads, tug_err *err);
void tug_backend_destroy(tug_backend **be);

/* ---- memory of the place -------------------------------------------------------------- */

/* Is it the host's?  Then pointers into it can be followed. */
bool tug_backend_is_host(const tug_backend *be);

/* 64-byte aligned, not cleared, for `what` ("the KV cache"). */
TUG_NODISCARD tug_status tug_backend_alloc(tug_backend *be, void **out, size_t bytes,
                                           const char *what, tug_err *err);
void tug_backend_free(tug_backend *be, void *p, size_t bytes); /* p may be NULL */

/* In the order of the calls, ops included.  write: from the host, which may change src at
 * once.  read: to the host, there after tug_backend_wait.  On the host dst may be src. */
void tug_backend_write(tug_backend *be, void *dst, const void *src, size_t bytes);
void tug_backend_read(tug_backend *be, void *dst, const void *src, size_t bytes);
void tug_backend_copy(tug_backend *be, void *dst, const void *src, size_t bytes);
void tug_backend_clear(tug_backend *be, void *p, size_t bytes);

/* Host memory of the caller's that copies to the place begin in, until unpin, which waits for
 * those that run: they are faster then, and run by themselves.  false: it stays as it was. */
bool tug_backend_pin(tug_backend *be, uint8_t *p, size_t bytes);
void tug_backend_unpin(tug_backend *be,
                       uint8_t *p); /* which may not be pinned any more */

/* Until everything is done.  TUG_EDEVICE: the GPU failed, and will say so again. */
TUG_NODISCARD tug_status tug_backend_wait(tug_backend *be, tug_err *err);

/* ---- the CPU of it --------------------------------------------------------------------- */

/* Grows the scratch to these limits. */
TUG_NODISCARD tug_status tug_backend_reserve(tug_backend *be,
                                             const tug_backend_limits *limits,
                                             tug_err *err);

tug_cpu_level tug_backend_level(const tug_backend *be);
int tug_backend_n_threads(const tug_backend *be);

/* Can this type be a weight here? */
bool tug_backend_supports(const tug_backend *be, tug_type type);

/* Would this weight be faster packed?  (Its type has such a kernel at this level, and its
 * rows are whole groups.) */
bool tug_backend_packs(const tug_backend *be, const tug_weight *w);

/* Packs n_rows rows, whole groups, at src into dst; they do not overlap. */
void tug_backend_pack(tug_backend *be, tug_type type, uint64_t row_bytes, int64_t n_rows,
                      uint8_t *dst, const uint8_t *src);

/* One matrix that is packed where it lies. */
typedef struct tug_pack_piece {
    tug_type type;
    int64_t n_rows;
    uint64_t row_bytes;
    const uint8_t *src; /* (n_rows * row_bytes,) */
    uint8_t *dst;       /* <= src; both may overlap */
} tug_pack_piece;
/* temp (n_threads, temp_bytes) with temp_bytes >= TUG_PACK_ROWS rows of any piece. */
void tug_backend_pack_pieces(tug_backend *be, const tug_pack_piece *pieces, int n,
                             uint8_t *temp, size_t temp_bytes);

/* ---- passes ---------------------------------------------------------------------------- */

/* Ops that belong together: those of all layers, or of the head.
 * When passes repeat, those that agree in state, scratch and n_tok call the same ops with the
 * same arguments, but for the position: then a GPU may run what it recorded of one, without
 * calling anything.  Nothing may look at what is between two of its ops. */
typedef struct tug_pass {
    tug_status (*ops)(void *ud, tug_err *err); /* calls them */
    void *ud;
    bool repeats;
    const void *state, *scratch; /* names, not looked at */
    int64_t pos;                 /* cache row of the first token; -1: it has none */
    int64_t n_tok;
} tug_pass;

/* What was written before is there for it; behind it tug_backend_wait must come before the
 * next pass, but for a failure. */
TUG_NODISCARD tug_status tug_backend_run(tug_backend *be, const tug_pass *pass,
                                         tug_err *err);

/* A pass of n_tok tokens through the ops begins: now, and until the next one not again,
 * experts may change their places. */
void tug_backend_begin_pass(tug_backend *be, int64_t n_tok);

/* ---- ops --------------------------------------------------------------------------------- */

/* x (n_tok, w.n_cols) = rows ids[t] of the embedding. */
void tug_op_embed(tug_backend *be, float *x, const tug_weight *w, const int32_t *ids,
                  int64_t n_tok);

/* y (n_tok, n) = rmsnorm of x (n_tok, n) times w (n,). */
void tug_op_rmsnorm(tug_backend *be, float *y, const float *x, const float *w,
                    int64_t n_tok, int64_t n, float eps);

/* x += y, (n_tok, n). */
void tug_op_add(tug_backend *be, float *x, const float *y, int64_t n_tok, int64_t n);

/* dst (n_tok, dst_stride) columns <- p[i].w x for every projection; x (n_tok, n_in). */
void tug_op_project(tug_backend *be, const tug_proj *p, int n_proj, float *dst,
                    int64_t dst_stride, const float *x, int64_t n_tok);

/* qkv (n_tok, stride): per token [q0 gate0 q1 gate1 ... | k heads | v heads].  Norms and
 * rotates q (in place) and k, and stores k and v of token t as cache row pos0 + t.
 * rope (n_tok, 2, n_rot / 2): cosines and sines of each token's position. */
void tug_op_attn_prepare(tug_backend *be, const tug_attn_shape *s, float *qkv,
                         int64_t stride, const float *q_norm, const float *k_norm,
                         const float *rope, tug_kv_layer *kv, int64_t pos0,
                         int64_t n_tok);

/* out (n_tok, n_head * head_dim) = attention of the prepared q over cache rows
 * [0, pos0 + t], times sigmoid(gate). */
void tug_op_attn(tug_backend *be, const tug_attn_shape *s, float *out, const float *qkv,
                 int64_t stride, const tug_kv_layer *kv, int64_t pos0, int64_t n_tok);

/* One Gated DeltaNet mixer after its projections.  proj (n_tok, stride): per token
 * [q heads | k heads | v heads | z heads | per key head (b, a) of its value heads].
 * conv_w (conv_width,
 * channels); dt_bias, a_coef (n_v_head,); norm (dv,).  Advances the state by n_tok.
 * out (n_tok, n_v_head * dv). */
void tug_op_delta(tug_backend *be, const tug_delta_shape *s, float *out,
                  const float *proj, int64_t stride, const float *conv_w,
                  const float *dt_bias, const float *a_coef, const float *norm,
                  tug_delta_state *state, int64_t n_tok);

/* y (n_tok, dim) = routed experts weighted by the router plus the shared expert.
 * router_logits (n_tok, n_expert); n_used experts per token.  On failure y is undefined. */
TUG_NODISCARD tug_status tug_op_moe(tug_backend *be, const tug_moe_weights *w, float *y,
                                    const float *x, const float *router_logits,
                                    int n_used, int64_t n_tok, tug_err *err);

/* The experts that the last tug_op_moe chose, (n_tok, n_used), increasing for each token;
 * valid until the next op. */
const int32_t *tug_backend_routed(tug_backend *be);

#endif
