/* kernels.h - every CPU kernel, its contract, and the table that holds the chosen ones.
 *
 * One typedef per kernel declares the scalar specification (ref/) and each SIMD version
 * (x86/) alike, so they cannot drift apart.  tug_kernels_init fills the table: all ref,
 * then whatever AVX2 replaces, then whatever AVX-512 replaces.  Kernels know nothing of
 * models, threads, files or memory: they get pointers and sizes, trust them, and return
 * nothing.  Threads are the backend's business: it calls kernels on ranges of outputs.
 *
 * INDEPENDENCE  Within one level, the value of an output element is a function of its own
 * inputs only, bit for bit: not of how many rows, tokens or queries the call has, nor of
 * where in the call the element sits.  So decode equals prefill, and neither the batch nor
 * the number of threads shows in the result.  tests/kernels checks it.
 *
 * All floating-point arrays are f32 unless a comment says otherwise.  Pointers never
 * alias unless "in place" is said.  No alignment is assumed for inputs and outputs except
 * quantised activations (64 bytes).  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_KERNELS_H
#define TUG_KERNELS_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "quant/types.h"

/* ---- linear: weights of any type times activations ------------------------------- */

/* What a linear kernel wants its activations converted to.  F32: as they are.  The two
 * others are int8 with one f32 scale per 32 or per 256 values (layouts in act.h);
 * the scale per 256 goes with the 256-value superblocks of the K-quants. */
typedef enum tug_act {
    TUG_ACT_F32 = 0,
    TUG_ACT_Q8_32,
    TUG_ACT_Q8_256,
    TUG_ACT_COUNT
} tug_act;

/* Bytes of one activation row of n values, a multiple of 64. n is a multiple of the block
 * of every weight type that asks for this activation. */
size_t tug_act_row_bytes(tug_act act, int64_t n);

/* dst (tug_act_row_bytes(act, n),) = x (n,) converted.  For F32 a copy. */
typedef void tug_act_convert_fn(void *dst, const float *x, int64_t n);

/* r (n,) = x (n,) - the values that the converted row `act` stands for: converted again,
 * it is the second digit of x. */
typedef void tug_act_residual_fn(float *r, const void *act, const float *x, int64_t n);

typedef struct tug_linear_args {
    float *y;         /* (n_tok, n_rows) with stride y_stride, written */
    int64_t y_stride; /* elements */
    const void *w;    /* (n_rows, n_cols) of the kernel's type */
    size_t w_row_bytes;
    const void *w_next; /* weights that the next call will read: asked for ahead of time,
                           never dereferenced.  NULL: those behind w's rows */
    const void *x;      /* activation rows in the kernel's tug_act */
    size_t x_row_bytes;
    const int32_t *x_index; /* (n_tok,): token t uses activation row x_index[t];
                               NULL: row t */
    int64_t n_rows, n_cols, n_tok;
} tug_linear_args;

/* y[t, r] = sum over c of w[r, c] * x[t, c].  The specification (ref) dequantises w and
 * sums in double; a SIMD version may sum exact integers per block and floats over
 * blocks. */
typedef void tug_linear_fn(const tug_linear_args *a);

typedef struct tug_linear_kernel {
    tug_act act;
    tug_linear_fn *fn; /* NULL: the type is not supported as a weight */
} tug_linear_kernel;

/* ---- rows and elements -------------------------------------------------------------- */

/* y = x * rsqrt(mean(x^2) + eps) * w; all (n,); y may be x. */
typedef void tug_rmsnorm_fn(float *y, const float *x, const float *w, int64_t n,
                            float eps);

/* x = x * scale * rsqrt(sum(x^2) + eps), in place, (n,). */
typedef void tug_l2norm_fn(float *x, int64_t n, float eps, float scale);

/* x += y, (n,). */
typedef void tug_add_fn(float *x, const float *y, int64_t n);

/* y += a * x, (n,). */
typedef void tug_axpy_fn(float *y, const float *x, float a, int64_t n);

/* h = silu(gate) * up, (n,); h may be gate or up. */
typedef void tug_swiglu_fn(float *h, const float *gate, const float *up, int64_t n);

/* y = y * sigmoid(gate), in place, (n,). */
typedef void tug_sigmoid_mul_fn(float *y, const float *gate, int64_t n);

/* Rotates the first 2 * n_half values of x, in place, NeoX pairing (i with i + n_half):
 * (a, b) -> (a cos - b sin, b cos + a sin).  cos, sin: (n_half,) of the position. */
typedef void tug_rope_fn(float *x, const float *cos, const float *sin, int64_t n_half);

/* The k experts with the largest logits (ties: the smaller index), their weights
 * softmax-normalised among themselves, in increasing order of index.
 * logits (n_expert,), ids and weights (k,), k <= n_expert, k <= TUG_MAX_TOPK. */
#define TUG_MAX_TOPK 64
typedef void tug_route_fn(int32_t *ids, float *weights, const float *logits, int n_expert,
                          int k);

/* ---- Gated DeltaNet ------------------------------------------------------------------ */

typedef struct tug_conv_args {
    float *y; /* (n_tok, n_ch) stride y_stride: silu(conv) */
    int64_t y_stride;
    const float *x; /* (n_tok, n_ch) stride x_stride */
    int64_t x_stride;
    float *state; /* (width - 1, n_ch) stride state_stride: the inputs before x,
                         oldest first; replaced by the last width - 1 inputs */
    int64_t state_stride;
    const float *w; /* (width, n_ch) stride w_stride: tap 0 is the oldest */
    int64_t w_stride;
    int64_t n_ch, n_tok;
    int width; /* 2..TUG_MAX_CONV */
} tug_conv_args;
#define TUG_MAX_CONV 8

/* Causal depthwise convolution over time, then SiLU. */
typedef void tug_conv_silu_fn(const tug_conv_args *a);

typedef struct tug_delta_args {
    float *out; /* (n_tok, n_col) stride out_stride */
    int64_t out_stride;
    float *state; /* (dk, n_col) stride state_stride, read and written */
    int64_t state_stride;
    const float *q, *k; /* (n_tok, dk) stride qk_stride, normalised, q scaled */
    int64_t qk_stride;
    const float *v; /* (n_tok, n_col) stride v_stride */
    int64_t v_stride;
    const float *decay; /* exp(g): one per token, stride gate_stride */
    const float *beta;  /* one per token, stride gate_stride */
    int64_t gate_stride;
    int64_t n_tok;
    int dk, n_col; /* columns of S (value dimensions) are independent of each other,
                           so a call may take any range of them */
} tug_delta_args;

/* The gated delta rule, token after token, for one value head (or some of its columns):
 *   S <- decay S;  u = beta (v - S^T k);  S <- S + k u^T;  out = S^T q            */
typedef void tug_delta_fn(const tug_delta_args *a);

/* beta = sigmoid(b), decay = exp(a_coef * softplus(a + dt_bias)), (n,) each. */
typedef void tug_delta_gates_fn(float *beta, float *decay, const float *b, const float *a,
                                const float *dt_bias, const float *a_coef, int64_t n);

/* y = rmsnorm(x) * w * silu(z), (n,); y may be x. */
typedef void tug_rmsnorm_gated_fn(float *y, const float *x, const float *w,
                                  const float *z, int64_t n, float eps);

/* ---- attention ----------------------------------------------------------------------- */

/* F32 is what the specification level keeps; the others are for speed and room.  I16 is
 * for processors with integer dot products: int16 values and one scale per row. */
typedef enum tug_kv_type {
    TUG_KV_F16 = 0,
    TUG_KV_Q8_0,
    TUG_KV_F32,
    TUG_KV_I16,
    TUG_KV_TYPES
} tug_kv_type;

/* Bytes of a cache row of n values: of I16, a 64th of a block. */
size_t tug_kv_row_bytes(tug_kv_type type, int64_t n);

/* A cache of one head is whole blocks of this many rows, of every type. */
#define TUG_KV_BLOCK 64

/* Stores one key or value head vector x (n,) as row `row` of a cache of such rows: f16;
 * f32; Q8_0 blocks of 32 as in quant/blocks.h (then n % 32 == 0); I16: n int16 and a scale
 *   s = max(largest |x| / MAX, |x|_2 / TUG_I16_NORM),  x[i] = s * int16[i],
 * MAX being TUG_I16_KEY_MAX or TUG_I16_VALUE_MAX, so that no sum of products leaves an
 * int32: of a query with a key by their norms, of weights with values by their sizes.  A
 * block of I16 is 64-byte aligned, n % 32 == 0, and its values lie as the integer dot
 * products take them, keys otherwise than values (kernels_attn.h). */
#define TUG_I16_KEY_MAX   32767.0f
#define TUG_I16_VALUE_MAX 11585.0f
#define TUG_I16_NORM      46300.0f
typedef void tug_kv_store_fn(void *cache, int64_t row, const float *x, int64_t n);

/* One row of such a cache of keys (or of values) as (tug_kv_row_bytes(type, n),) bytes that
 * lie together, out of it and back. */
void tug_kv_read_row(tug_kv_type type, bool is_value, void *dst, const void *cache,
                     int64_t row, int64_t n);
void tug_kv_write_row(tug_kv_type type, bool is_value, void *cache, int64_t row,
                      const void *src, int64_t n);

typedef struct tug_attn_args {
    float *out; /* (n_q, head_dim) stride out_stride */
    int64_t out_stride;
    const float *q; /* (n_q, head_dim) stride q_stride, normalised and rotated */
    int64_t q_stride;
    const int32_t *q_len; /* (n_q,): query i attends to cache rows [0, q_len[i]), >= 1 */
    int64_t n_q;
    const void *k, *v; /* (n_ctx, head_dim), caches of one kv head */
    size_t row_bytes;
    int head_dim; /* a multiple of 32, at most TUG_MAX_HEAD_DIM */
    float scale;
    float *scratch; /* (tug_attn_scratch_floats(),), 64-byte aligned, per thread */
} tug_attn_args;
#define TUG_MAX_HEAD_DIM 512

/* The SIMD kernels attend to chunks of TUG_ATTN_CHUNK cache rows, counted from row 0, and
 * join the results of the chunks in order.  So the chunks of one query may be computed
 * apart, on several threads, and joined afterwards, with the same bits.
 * The result of a chunk is a part, (tug_attn_part_floats(head_dim),): the largest score,
 * the sum of the weights exp(score - largest), then from TUG_ATTN_PART_OUT on the weighted
 * sum of the values. */
#define TUG_ATTN_CHUNK    512
#define TUG_ATTN_QUERIES  256
#define TUG_ATTN_PART_OUT 16
static inline int64_t tug_attn_part_floats(int head_dim) {
    return TUG_ATTN_PART_OUT + head_dim;
}

/* Floats of scratch that any attention kernel may use. */
size_t tug_attn_scratch_floats(void);

/* out[i] = softmax(scale * q[i] . K[0:q_len[i]]) V[0:q_len[i]].  Any order of queries. */
typedef void tug_attn_fn(const tug_attn_args *a);

/* parts (n_q, tug_attn_part_floats(head_dim)), 64-byte aligned = the parts of the a->n_q
 * queries, at most TUG_ATTN_QUERIES, for rows [chunk * TUG_ATTN_CHUNK, (chunk + 1) *
 * TUG_ATTN_CHUNK); a->out is not used.  The part of a query that sees none of these rows
 * is not to be joined. */
typedef void tug_attn_chunk_fn(const tug_attn_args *a, int64_t chunk, float *parts);

/* total += part, for one query.  A total begins as its first chunk's part. */
typedef void tug_attn_join_fn(float *total, const float *part, int head_dim);

/* out (head_dim,) = the result of a total of all the rows that a query sees. */
typedef void tug_attn_finish_fn(float *out, const float *total, int head_dim);

/* ---- the table ----------------------------------------------------------------------- */

typedef struct tug_kernels {
    tug_cpu_level level;
    tug_act_convert_fn *act_convert[TUG_ACT_COUNT];
    tug_act_residual_fn *act_residual[TUG_ACT_COUNT]; /* NULL for F32: nothing is lost */
    tug_linear_kernel linear[TUG_TYPE_COUNT];
    /* The same over rows packed as in quant/packed.h: w is the first row of a group, and
     * n_rows a multiple of TUG_PACK_ROWS.  fn is NULL where there is none. */
    tug_linear_kernel packed[TUG_TYPE_COUNT];
    tug_rmsnorm_fn *rmsnorm;
    tug_l2norm_fn *l2norm;
    tug_add_fn *add;
    tug_axpy_fn *axpy;
    tug_swiglu_fn *swiglu;
    tug_sigmoid_mul_fn *sigmoid_mul;
    tug_rope_fn *rope;
    tug_route_fn *route;
    tug_conv_silu_fn *conv_silu;
    tug_delta_fn *delta;
    tug_delta_gates_fn *delta_gates;
    tug_rmsnorm_gated_fn *rmsnorm_gated;
    tug_kv_store_fn *kv_store_k[TUG_KV_TYPES], *kv_store_v[TUG_KV_TYPES];
    tug_attn_fn *attn[TUG_KV_TYPES];
    tug_attn_chunk_fn *attn_chunk[TUG_KV_TYPES]; /* NULL: only whole, with attn */
    tug_attn_join_fn *attn_join;                 /* these two go with attn_chunk */
    tug_attn_finish_fn *attn_finish;
} tug_kernels;

/* level must be one that tug_cpu_detect() allows. */
void tug_kernels_init(tug_kernels *k, tug_cpu_level level);

/* Each family adds its own entries; called by tug_kernels_init only. */
void tug_kernels_init_linear(tug_kernels *k, tug_cpu_level level);
void tug_kernels_init_rows(tug_kernels *k, tug_cpu_level level);
void tug_kernels_init_delta(tug_kernels *k, tug_cpu_level level);
void tug_kernels_init_attn(tug_kernels *k, tug_cpu_level level);

#endif
