/* plan.h - where every byte of a model goes on a machine, and how fast that will be.
 *
 *     tug_plan_model    bytes and multiplications by kind      plan_model.h makes it
 *     tug_plan_machine  memories, speeds, latencies            plan_machine.h
 *     tug_plan_request  context, ceilings, what is fixed
 *     tug_plan_make  -> tug_plan
 *
 * PURE   the same three give the same plan: no file, no clock, no allocation.
 * UNITS  bytes; seconds and bytes or multiply-adds per second in a machine; ms in a plan.
 * The formulas and where their constants come from: docs/PLAN.md.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_H
#define TUG_PLAN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "synth/synth.h"

enum { TUG_PLAN_LAYERS = 1024, TUG_PLAN_POINTS = 10 };

/* ---- the model -------------------------------------------------------------------- */

/* Weights that every token reads. */
typedef enum tug_plan_part {
    TUG_PLAN_DELTANET,
    TUG_PLAN_ATTENTION,
    TUG_PLAN_SHARED,
    TUG_PLAN_ROUTER,
    TUG_PLAN_HEAD,
    TUG_PLAN_NORMS,
    TUG_PLAN_PARTS
} tug_plan_part;

/* Types of the attention cache.  i16 is as large as f16. */
typedef enum tug_plan_kv {
    TUG_PLAN_KV_F16,
    TUG_PLAN_KV_Q8_0,
    TUG_PLAN_KV_F32,
    TUG_PLAN_KVS
} tug_plan_kv;

/* Products, by what kernels do them. */
typedef enum tug_plan_kind {
    TUG_PLAN_Q3_K, /* and types of fewer bits */
    TUG_PLAN_Q4_K, /* and others of 4 bits */
    TUG_PLAN_Q5_K,
    TUG_PLAN_Q6_K,
    TUG_PLAN_Q8_0,
    TUG_PLAN_INT8_KINDS,
    TUG_PLAN_F32 = TUG_PLAN_INT8_KINDS,
    TUG_PLAN_KINDS
} tug_plan_kind;

typedef struct tug_plan_model {
    char name[96];
    tug_synth_spec spec; /* its sizes; spec.mix NULL: types of no preset */
    uint64_t file_bytes;
    uint64_t dense[TUG_PLAN_PARTS];
    uint64_t embedding;                    /* a token reads one row of it */
    uint64_t expert[TUG_PLAN_LAYERS];      /* one routed expert of layer i, (n_layer,) */
    uint64_t vram_expert[TUG_PLAN_LAYERS]; /* the same with its alignment in VRAM */
    uint64_t experts;                      /* all of all layers */
    uint64_t kv_token[TUG_PLAN_KVS];
    uint64_t state;      /* recurrent, of one sequence, at any length */
    uint64_t checkpoint; /* a copy of it, with the logits */
    int n_attn_layer;
    /* Multiply-adds of one token without the head, and of one routed expert. */
    double dense_macs, expert_macs;
    /* The same as the processor does them, by part and kind: a second digit of an
     * activation is a second one. */
    double part_work[TUG_PLAN_PARTS][TUG_PLAN_KINDS], expert_work[TUG_PLAN_KINDS];
    double attn_row; /* per earlier token, in all attention layers */
    double
        delta_rule; /* of the f32 work of DeltaNet, what is not a product with weights */
    /* Values that norms, gates and sums touch; the same inside the delta rule's op, and
     * inside that of the experts. */
    double elements, delta_elements, expert_elements;
} tug_plan_model;

/* ---- the machine ------------------------------------------------------------------ */

/* Which numbers nobody measured or looked up. */
enum {
    TUG_PLAN_ASSUMED_RAM = 1,
    TUG_PLAN_ASSUMED_CPU = 2,
    TUG_PLAN_ASSUMED_DISK = 4,
    TUG_PLAN_ASSUMED_GPU = 8
};

/* Tokens of an expert for which its time is known. */
enum { TUG_PLAN_EXPERT_POINTS = 11 };
extern const int tug_plan_expert_tokens[TUG_PLAN_EXPERT_POINTS];

/* What all cores do in a batch, measured with this project's kernels; 0: not measured, it
 * follows from the peaks. */
typedef struct tug_plan_kernels {
    /* Multiply-adds a second with weights of a kind, and what a matrix costs once, as so
     * many tokens. */
    double macs_s[TUG_PLAN_INT8_KINDS], setup_tokens[TUG_PLAN_INT8_KINDS];
    /* Seconds for a weight of an expert, by the expert's tokens. */
    double expert_s[TUG_PLAN_INT8_KINDS][TUG_PLAN_EXPERT_POINTS];
    double delta_macs_s; /* of the delta rule, with its elements */
    double elements_s;
    double pack_byte_s[TUG_PLAN_INT8_KINDS]; /* of one core */
} tug_plan_kernels;

typedef struct tug_plan_machine {
    char name[128];
    uint64_t ram_total, ram_available; /* available: without swapping, now */
    double ram_bytes_s;                /* plain reading by all cores */
    int n_cores;
    bool int16_attention; /* AVX-512: products of attention count twice, in int8 */
    double int8_macs_s, f32_macs_s; /* peaks of all cores */
    tug_plan_kernels kernels;
    double core_bytes_s;                 /* weights that one core can use a second */
    double disk_bytes_s, disk_latency_s; /* reads of an expert's size, 8 at a time */
    /* Processor time of a byte that comes from the disk: reading it, and packing it as the
     * kernels want it where kernels.pack_byte_s does not tell; of one core. */
    double read_byte_s, pack_byte_s;
    bool has_gpu;
    uint64_t vram_total, vram_available;
    double vram_bytes_s; /* nominal, or plain reading: */
    bool vram_measured;
    double link_bytes_s; /* pinned memory to the GPU */
    double gpu_flops;    /* that products of experts sustain */
    double node_s;       /* one kernel of a graph */
    double handoff_s;    /* GPU to processor and back, once per layer */
    double fork_s;       /* processor cores, once per layer */
    double watts;        /* at work; 0: not known */
    unsigned assumed;
} tug_plan_machine;

/* ---- the request ------------------------------------------------------------------ */

/* How unequally a token's experts are chosen, and how soon again. */
typedef enum tug_plan_routing {
    TUG_PLAN_TYPICAL,    /* real text, the lower of two measured curves */
    TUG_PLAN_OPTIMISTIC, /* the higher one */
    TUG_PLAN_SKEWED,     /* as `tug synth` makes routers: unequal, without memory */
    TUG_PLAN_UNIFORM,
    TUG_PLAN_ROUTINGS
} tug_plan_routing;

typedef enum tug_plan_policy {
    TUG_PLAN_CACHE, /* tug: slots in every layer, reads and copies beside the work */
    TUG_PLAN_SPLIT, /* whole layers to the GPU, copies one after the other: llama.cpp */
    TUG_PLAN_POLICIES
} tug_plan_policy;

/* Zero-initialised it asks for the defaults. */
typedef struct tug_plan_request {
    int64_t n_ctx;         /* 0: 32768, or what the model was trained for */
    int64_t n_seq;         /* sequences at once; 0: 1 */
    int64_t n_checkpoints; /* copies of the recurrent state; 0: 4, -1: none */
    int64_t n_batch;       /* tokens that go through a layer together; 0: as room is */
    tug_plan_kv kv;
    uint64_t ram_ceiling, vram_ceiling; /* 0: what is available, less a margin */
    uint64_t workspace, staging;        /* of RAM; 0: estimated */
    uint64_t sessions; /* caches, states and checkpoints together; 0: as they add up */
    /* The same of VRAM, as the backend allocates it; 0: estimated. */
    uint64_t vram_dense, vram_session, vram_workspace;
    uint64_t vram_staging_bytes; /* for experts that are carried there during prefill */
    tug_plan_routing routing;
    tug_plan_policy policy;
    bool no_gpu;
} tug_plan_request;

/* ---- the plan --------------------------------------------------------------------- */

typedef enum tug_plan_use {
    TUG_PLAN_USE_DENSE,
    TUG_PLAN_USE_EMBEDDING,
    TUG_PLAN_USE_ONLY_HERE, /* experts of which no other memory has a copy */
    TUG_PLAN_USE_COPIES,    /* VRAM: experts that RAM has too */
    TUG_PLAN_USE_KV,
    TUG_PLAN_USE_STATE,
    TUG_PLAN_USE_CHECKPOINTS,
    TUG_PLAN_USE_WORKSPACE, /* activations of a batch */
    TUG_PLAN_USE_STAGING,   /* experts on their way */
    TUG_PLAN_USE_MARGIN,    /* the program itself, and what nobody foresaw */
    TUG_PLAN_USE_FREE,
    TUG_PLAN_USES
} tug_plan_use;

typedef struct tug_plan_tier {
    uint64_t ceiling;
    uint64_t use[TUG_PLAN_USES]; /* adds up to it */
} tug_plan_tier;

/* What time goes to. */
typedef enum tug_plan_term {
    TUG_PLAN_T_DENSE,   /* weights that every token reads */
    TUG_PLAN_T_KV,      /* attention to the context */
    TUG_PLAN_T_STATE,   /* recurrent state, in and out */
    TUG_PLAN_T_EXPERTS, /* experts where the dense part is: GPU, or processor without one */
    TUG_PLAN_T_HOST,    /* experts that the processor computes for the GPU */
    TUG_PLAN_T_LINK,    /* experts over PCIe */
    TUG_PLAN_T_DISK,    /* experts from the disk */
    TUG_PLAN_T_FIXED,   /* launches, hand-over, barriers, norms and sums */
    TUG_PLAN_TERMS
} tug_plan_term;

/* `wait` adds up to ms: the part of `busy` that nothing else hides. */
typedef struct tug_plan_time {
    double busy_ms[TUG_PLAN_TERMS], wait_ms[TUG_PLAN_TERMS];
    double ms, tok_s;
    tug_plan_term bound; /* the longest wait */
} tug_plan_time;

/* With n_ctx tokens: one more, and all of them as one prompt. */
typedef struct tug_plan_point {
    int64_t n_ctx;
    tug_plan_time decode, prefill;
} tug_plan_point;

typedef struct tug_plan {
    int64_t n_ctx, n_seq, n_checkpoints, n_batch;
    bool on_gpu;                 /* the dense part is in VRAM */
    bool gpu_too_small;          /* there is a GPU, but it is better left alone */
    tug_plan_tier ram, vram;     /* vram.ceiling 0: not used */
    uint64_t disk_experts;       /* bytes of experts that only the file has */
    uint64_t vram_staging_bytes; /* kept in VRAM for experts on their way */
    int ram_slots[TUG_PLAN_LAYERS], vram_slots[TUG_PLAN_LAYERS]; /* (n_layer,) */
    double ram_share, vram_share, resident_share;                /* of all experts */
    double vram_miss; /* of uses: not in VRAM */
    double disk_miss; /* ... neither in RAM */
    int n_points;
    tug_plan_point points[TUG_PLAN_POINTS]; /* by n_ctx; the last is the request's */
} tug_plan;

/* TUG_ERANGE with the least that would work, and which quantisation would fit, when a
 * ceiling is too low; TUG_EUSAGE for a request or machine that cannot be. */
TUG_NODISCARD tug_status tug_plan_make(const tug_plan_model *model,
                                       const tug_plan_machine *machine,
                                       const tug_plan_request *request, tug_plan *plan,
                                       tug_err *err);

/* The least RAM (without a GPU) that the request can be planned with. */
uint64_t tug_plan_least_ram(const tug_plan_model *model, const tug_plan_request *request);

/* The least VRAM that a GPU is used with: everything but experts, for the smallest batch
 * that the request allows. */
uint64_t tug_plan_least_vram(const tug_plan_model *model,
                             const tug_plan_request *request);

/* What the GPU backend takes for batches of n_batch tokens, estimated from the sizes. */
uint64_t tug_plan_vram_workspace(const tug_plan_model *model, int64_t n_batch);

/* Short words for people, and snake_case for programs. */
const char *tug_plan_part_name(tug_plan_part part);
const char *tug_plan_use_name(tug_plan_use use);
const char *tug_plan_term_name(tug_plan_term term);
const char *tug_plan_routing_name(tug_plan_routing routing);
const char *tug_plan_kv_name(tug_plan_kv kv);

#endif
