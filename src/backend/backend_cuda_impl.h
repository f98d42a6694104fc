/* backend_cuda_impl.h - what the files of the CUDA backend share.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BACKEND_BACKEND_CUDA_IMPL_H
#define TUG_BACKEND_BACKEND_CUDA_IMPL_H

#include <stdatomic.h>

#include "backend/backend_cuda.h"
#include "backend/backend_cuda_carrier.h"
#include "backend/backend_impl.h"
#include "kernels/cuda/launch.h"
#include "policy/expert_forecast.h"

/* Up to so many tokens go by the kernels of decode: matrix times vector. */
#define TUG_CUDA_FEW_TOKENS 16
/* ... and attend with the context split among so many blocks at most, a power of two; half as
 * many would have more than so many rows each. */
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

/* The words of the handoff, in pinned memory, a line of the cache each: backend_cuda_handoff.c
 * says what they mean. */
typedef struct tug_cuda_words {
    _Alignas(64) _Atomic uint32_t there; /* written by the GPU */
    _Alignas(64) _Atomic uint32_t back;  /* by the CPU */
} tug_cuda_words;

/* How many experts of a layer have a copy on the GPU. */
typedef enum tug_cuda_residency {
    TUG_CUDA_NONE_HERE = 0,
    TUG_CUDA_SOME_HERE,
    TUG_CUDA_ALL_HERE
} tug_cuda_residency;

/* A layer of experts of a pass, as its handoff sees it. */
typedef struct tug_cuda_handoff {
    const tug_moe_weights *w;
    tug_cuda_residency residency;
    const uint8_t *elsewhere;        /* (n_expert,): 1: the GPU computes it */
    const tug_expert_source *source; /* of the others; NULL: w's */
    int n_used;
    int64_t n_tok;
    uint32_t number; /* of the handoffs by words of its pass, from 1; 0: it is none */
} tug_cuda_handoff;

/* What the launches of a pass depend on, beside the memory that all passes use. */
typedef struct tug_cuda_graph_key {
    const void *state, *scratch;
    int64_t n_tok;
    int32_t n_split;
} tug_cuda_graph_key;

typedef struct tug_cuda_graph {
    tug_cuda_graph_key key;
    uint64_t used;            /* when last, by tug_cuda.n_used; 0: the entry is free */
    tug_device_graph *graph;  /* owned; NULL: not recorded */
    bool refused;             /* it cannot be recorded */
    tug_cuda_handoff *layers; /* owned, (n_layer,): its layers of experts in turn */
    int n_layer, n_reserved;
} tug_cuda_graph;
#define TUG_CUDA_GRAPHS 8

/* ---- experts that move: docs/CUDA.md, "Which experts are in VRAM" ------------------------ */

/* What is spent and saved when an expert is somewhere else: estimates for a mid-range machine
 * until something was measured (backend_cuda_costs.c). */
typedef struct tug_cuda_costs {
    double link_bytes_per_s;   /* to the device, from pinned memory */
    double host_bytes_per_s;   /* at which the CPU reads weights */
    double host_macs_per_s;    /* at which it multiplies when it has read them */
    double device_bytes_per_s; /* at which the device reads weights */
    double newcomer_margin;    /* by which a newcomer's forecast has to be higher */
    double answer_tokens;      /* for which the contents after a prompt are chosen */
} tug_cuda_costs;
extern const tug_cuda_costs tug_cuda_usual_costs;

/* The experts of all layers. */
typedef struct tug_cuda_cache {
    tug_cuda_experts *first; /* borrowed list */
    int n_layer;             /* that were ever in it */
    bool seed;               /* a prompt went by since the contents were chosen */
    tug_expert_forecast forecast;
    tug_cuda_slot_stats stats;
} tug_cuda_cache;

typedef struct tug_cuda {
    tug_device *dev;                                          /* owned */
    void *buffer[TUG_CUDA_BUFFERS], *pinned[TUG_CUDA_PINNED]; /* owned */
    void *mapped[TUG_CUDA_PINNED]; /* where the device sees pinned[] */
    size_t bytes[TUG_CUDA_BUFFERS];
    tug_backend_limits limits;
    int32_t pos;      /* what TUG_CUDA_POS holds, -1: nothing */
    int64_t n_routed; /* pairs in TUG_CUDA_IDS */
    /* the handoff */
    bool use_words;
    tug_cuda_words *words;          /* owned */
    void *words_there, *words_back; /* where the device sees them */
    int32_t *seen;                  /* owned, (n_pair,): ids of a handoff that is over */
    uint32_t n_handoff;             /* of this pass so far, by words */
    tug_device_event *routed; /* owned: ids, weights and x of a layer are on the host */
    tug_nvml *nvml;           /* owned; NULL: not available, and why */
    tug_err no_nvml;
    /* graphs */
    bool use_graphs;
    tug_cuda_graph graphs[TUG_CUDA_GRAPHS];
    uint64_t n_used;
    tug_cuda_graph *recording; /* NULL: what is enqueued runs */
    tug_gpu_counts counts;
    tug_cuda_costs costs;
    tug_cuda_carrier carrier;
    tug_cuda_cache cache;
    tug_cuda_crossing crossing; /* its events are the carrier's */
} tug_cuda;

/* A newcomer and the slot that it deserves more than who is there, by so much of the tokens
 * to come. */
typedef struct tug_cuda_wish {
    int expert, slot;
    double gain;
} tug_cuda_wish;
enum { TUG_CUDA_WISHES = 2 }; /* of a layer in a pass */

typedef struct tug_cuda_ranked {
    double rate; /* forecast: the share of tokens that will use it */
    int expert, slot;
} tug_cuda_ranked;

/* The experts of one layer.  `here` and the tables on the device say the same, and change
 * between passes only (tug_backend_begin_pass). */
struct tug_cuda_experts {
    const tug_moe_weights *w; /* borrowed */
    int n_expert, n_slot;     /* n_slot == n_expert: all are here, for good */
    size_t stride;            /* bytes of a slot */
    uint8_t *bytes;           /* owned, device, (n_slot, stride) */
    uint64_t *tables; /* owned, device: (3, n_expert) addresses, of gate, up, down */
    uint8_t *here;    /* owned, (n_expert,): 1: has a copy */
    uint8_t *coming;  /* owned, (n_expert,): 1: is on its way */
    uint8_t *bound;   /* owned, (n_expert,): 1: its slot changes hands */
    int32_t *in_slot; /* owned, (n_slot,): who is there */
    /* What the policy knows. */
    tug_expert_use *use; /* owned, (n_expert,) */
    uint32_t now;        /* tokens so far */
    int32_t *counts;     /* owned, (n_expert,): zero between batches */
    int32_t *who;        /* owned, (n_expert,): scratch: who is used in a batch, */
    int32_t *times;      /* owned, (n_expert,): scratch: and how often */
    tug_cuda_wish wish[TUG_CUDA_WISHES];
    int n_wish;
    tug_cuda_ranked *ranked;       /* owned, (n_expert,): scratch */
    struct tug_cuda_experts *next; /* of the list of all layers */
};

static inline tug_cuda *tug_cuda_of(const tug_backend *be) {
    return be->place;
}

tug_cuda_residency tug_cuda_residency_of(const tug_moe_weights *w);

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

/* ---- the handoff ----------------------------------------------------------------------- */

/* Is the handoff of so many tokens one by words? */
bool tug_cuda_by_words(const tug_cuda *c, int64_t n_tok);
/* Nothing of the pass before runs any more. */
void tug_cuda_handoff_begin_pass(tug_cuda *c);
/* What was routed, and x (n_tok, dim), on their way to the CPU; numbers h. */
void tug_cuda_handoff_send(tug_cuda *c, tug_cuda_handoff *h, const float *x);
/* Enqueues whatever brings the CPU's sum; *more (n_tok, dim): where it will be for what is
 * enqueued next, NULL: nothing is to be added.  By event the CPU computes it here. */
TUG_NODISCARD tug_status tug_cuda_handoff_join(tug_backend *be, const tug_cuda_handoff *h,
                                               const float **more, tug_err *err);
/* By words the CPU computes it here.  After a failure: release. */
TUG_NODISCARD tug_status tug_cuda_handoff_answer(tug_backend *be,
                                                 const tug_cuda_handoff *h, tug_err *err);
/* Answers everything that is and will be asked in this pass, with any numbers. */
void tug_cuda_handoff_release(tug_cuda *c);

/* ---- passes ------------------------------------------------------------------------------- */

tug_status tug_cuda_op_run(tug_backend *be, const tug_pass *p, tug_err *err);
/* While recording: the pass has this layer. */
void tug_cuda_note_layer(tug_cuda *c, const tug_cuda_handoff *h);
/* Memory that graphs know of is going away. */
void tug_cuda_drop_graphs(tug_cuda *c);

/* Parts of the context in attention of few tokens over so many rows. */
int32_t tug_cuda_n_split(int64_t n_rows);
/* The position of the first token for what is enqueued from now on. */
void tug_cuda_set_pos(tug_cuda *c, int64_t pos0);

/* ---- experts ----------------------------------------------------------------------------- */

/* Matrix i of gate, up, down, its bytes, and where it is in the bytes of an expert. */
const tug_weight *tug_cuda_matrix(const tug_moe_weights *w, int i);
size_t tug_cuda_matrix_bytes(const tug_weight *w);
size_t tug_cuda_matrix_at(const tug_moe_weights *w, int i);

/* How an expert's bytes come to the device. */
typedef enum tug_cuda_way {
    TUG_CUDA_NO_WAY,   /* it is not in memory now */
    TUG_CUDA_BY_HAND,  /* the calling thread copies them to pinned memory first */
    TUG_CUDA_BY_ITSELF /* they are in such memory */
} tug_cuda_way;
tug_cuda_way tug_cuda_way_of(const tug_cuda *c, const tug_moe_weights *w, int expert);
/* Whether the copy engine reaches all of it by itself. */
bool tug_cuda_is_pinned(const tug_cuda_carrier *k, const uint8_t *p, size_t bytes);

/* Enqueues the copies of an expert to seat `seat` of a half; over: pinned memory of the size
 * of an expert, if by hand. */
void tug_cuda_carry(tug_cuda *c, int half, int seat, const tug_moe_weights *w, int expert,
                    uint8_t *over);

/* Its source, if it has one, may do with it what it likes. */
void tug_cuda_let_go(tug_cuda_seat *s, bool came);

/* tug_backend_pin and unpin: without a carrier nothing is. */
bool tug_cuda_op_pin(tug_backend *be, uint8_t *p, size_t bytes);
void tug_cuda_op_unpin(tug_backend *be, uint8_t *p);

/* Matrices that arrived become rows as in the file, some at a time. */
typedef struct tug_cuda_unpacker {
    tug_cuda *c;
    tug_type type;
    tug_cuda_unpack a;
} tug_cuda_unpacker;
void tug_cuda_unpack_add(tug_cuda_unpacker *u, const tug_weight *w, void *to,
                         const void *from);
void tug_cuda_unpack_flush(tug_cuda_unpacker *u);

/* Entries of tables, some at a time. */
typedef struct tug_cuda_editor {
    tug_cuda *c;
    tug_cuda_edits a;
} tug_cuda_editor;
void tug_cuda_edit_add(tug_cuda_editor *e, uint64_t *at, const void *value);
void tug_cuda_edit_flush(tug_cuda_editor *e);

/* One layer of one batch. */
typedef struct tug_cuda_moe_job {
    tug_backend *be;
    tug_cuda *c;
    const tug_moe_weights *w;
    float *y;
    tug_cuda_inputs in;
    int n_used;
    int64_t n_tok, n_pair, dim;
    tug_cuda_slots slots[TUG_CUDA_MATRICES]; /* of gate, up, down */
    const uint8_t
        *elsewhere;      /* (n_expert,): 1: not the CPU's; what has slots, and what is
                                 carried */
    int n_carried, half; /* of many tokens; the half of the next chunk */
    const tug_expert_source *source; /* of the CPU's experts; NULL: the layer's own */
} tug_cuda_moe_job;

/* Many tokens: what has slots; then, once the host knows what was chosen, what is carried, or
 * a source (j->source) that carries it while the CPU goes through it; behind both the sums. */
void tug_cuda_many_here(tug_cuda_moe_job *j);
TUG_NODISCARD tug_status tug_cuda_many_carried(tug_cuda_moe_job *j, tug_err *err);
void tug_cuda_many_sum(const tug_cuda_moe_job *j);
/* Up to carrier.n experts, of which TUG_CUDA_COPIED by hand; they stay where they are until
 * what is in the copy stream now has run. */
void tug_cuda_many_chunk(tug_cuda_moe_job *j, const int32_t *experts, int n);

/* ---- experts of a source that cross: backend_cuda_cross.c ---------------------------------- */

/* The job's source as the CPU is to see it: its own experts, while the carried ones
 * (carrier.load) cross.  Until its end. */
const tug_expert_source *tug_cuda_cross(tug_cuda_moe_job *j);

/* load (n,), most tokens first, of experts of so many bytes and multiplications a token:
 * how many should be carried. */
int tug_cuda_split(const tug_cuda_costs *k, const tug_cuda_load *load, int n,
                   double bytes, double macs);

void tug_cuda_op_begin_pass(tug_backend *be, int64_t n_tok);
/* What a layer's router chose, (n_tok, n_used), is told to the policy. */
void tug_cuda_slots_saw(tug_cuda *c, tug_cuda_experts *e, const int32_t *ids,
                        int64_t n_tok, int n_used);

/* ---- ops ---------------------------------------------------------------------------------- */
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
