/* tug_profile.h - where the time of a model goes, and the limits of the machine it runs
 * on.  For `tug bench` and other instruments; docs/BENCH.md says what the numbers mean.
 *
 *     tug_model_profile_start(model, &err);
 *     ... tug_session_append ...
 *     tug_profile p;
 *     tug_model_profile_stop(model, &p);
 *
 * Measuring costs two readings of the clock per thread and shared piece of work, well
 * under one percent; a model that is not measured pays one predictable branch.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_PROFILE_H
#define TUG_PROFILE_H

#include "tug.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In the order of the forward pass.  The shared expert is computed in one work list with
 * the routed ones: its time is in EXPERTS, its bytes and multiplications are its own. */
typedef enum tug_stage {
    TUG_STAGE_OTHER = 0, /* between passes: cutting batches, callbacks, the caller */
    TUG_STAGE_EMBEDDING,
    TUG_STAGE_ATTENTION, /* norm, projections, cache, attention, output, residual */
    TUG_STAGE_DELTANET, /* norm, projections, convolution, delta rule, output, residual */
    TUG_STAGE_ROUTER,   /* norm, router projection, choice of experts */
    TUG_STAGE_EXPERTS,
    TUG_STAGE_SHARED,
    TUG_STAGE_HEAD,     /* norm and logits, where they are wanted */
    TUG_STAGE_SAMPLING, /* entered by the caller: tug_model_profile_stage */
    TUG_STAGE_COUNT
} tug_stage;

/* "embedding", "attention", ... */
const char *tug_stage_name(tug_stage stage);

/* What must be moved and multiplied, counted from the tensors themselves, not measured. */
typedef struct tug_work {
    double bytes;     /* weights once per batch (experts: the chosen ones), rows of the KV
                     cache once per batch, recurrent state read and written */
    double macs_int8; /* multiplications of quantised weights, where kernels use int8; one
                         of int16 (attention with AVX-512) counts as two */
    double macs_f32;  /* all others; one per weight and token in both */
} tug_work;

typedef struct tug_stage_profile {
    double seconds; /* of the thread that calls */
    double busy_s;  /* sum over all threads: working */
    double wait_s;  /* sum over all threads: between their last piece of shared work and
                       the end of it, or waking up for it */
    double alone_s; /* sum over the other threads: the caller works by itself */
    tug_work work;
} tug_stage_profile;

/* Experts that were not all in memory (docs/EXPERTS.md); zeros when all are. */
typedef struct tug_streaming {
    double wanted; /* experts that layers of batches used */
    double hits;   /* of these, in memory when the layer asked */
    double early;  /* of these, on their way already: fetched ahead */
    double read_bytes;
    double reading_s; /* seconds in which the disk had something to read */
    double waited_s;  /* ... and nothing could be computed meanwhile */
} tug_streaming;

typedef struct tug_profile {
    int n_threads;
    int64_t n_tokens; /* computed while it ran */
    int64_t n_batches;
    double model_bytes; /* of all tensors: what a cache would have to hold */
    tug_stage_profile stage[TUG_STAGE_COUNT];
    tug_streaming streaming;
} tug_profile;

/* From zero.  TUG_ENOMEM is the only failure; starting twice starts over. */
TUG_NODISCARD tug_status tug_model_profile_start(tug_model *model, tug_err *err);

/* *out gets what was counted; zeros when it was not started. */
void tug_model_profile_stop(tug_model *model, tug_profile *out);

/* All since the model was loaded. */
tug_streaming tug_model_streaming(const tug_model *model);

/* Memory that streamed experts have now, and slots; zeros when all are in memory. */
typedef struct tug_expert_memory {
    uint64_t bytes, slots;
    uint64_t dense_bytes; /* of all other weights */
    bool locked;          /* it cannot be swapped */
    bool direct;          /* the file is read around the page cache */
} tug_expert_memory;
tug_expert_memory tug_model_expert_memory(const tug_model *model);

/* The caller's own time from now on belongs to this stage; nothing when not started. */
void tug_model_profile_stage(tug_model *model, tug_stage stage);

/* ---- routing -------------------------------------------------------------------------- */

/* Called for every layer of every batch: ids (n_tok, n_used) of the chosen experts,
 * increasing for each token, valid during the call. */
typedef void tug_routes_fn(void *ud, int layer, const int32_t *ids, int n_used,
                           int64_t n_tok);
/* NULL: no longer. */
void tug_model_on_routes(tug_model *model, tug_routes_fn *fn, void *ud);

/* ---- limits of the machine ----------------------------------------------------------- */

/* Of all the model's threads together, at the kernel level it uses. */
typedef struct tug_limits {
    double read_bytes_s; /* reading memory that no cache holds */
    double int8_macs_s;  /* int8 multiply-adds on registers */
    double f32_macs_s;
    double cache_bytes; /* of the largest cache; 0: the system does not tell */
} tug_limits;

typedef struct tug_limits_probe tug_limits_probe;

/* Allocates the memory it reads, 256 MB to 1 GB: four times the largest cache.  Without a
 * model (NULL) it measures with threads on all processors, as a model by default runs.  The
 * model must outlive it; its ceiling of RAM is not for this memory. */
TUG_NODISCARD tug_status tug_limits_probe_create(tug_limits_probe **out, tug_model *model,
                                                 tug_err *err);
void tug_limits_probe_destroy(tug_limits_probe **probe);
uint64_t tug_limits_probe_bytes(const tug_limits_probe *probe);

/* Measures, about 50 ms: the machine as it is now, with whatever else runs on it. */
tug_limits tug_limits_probe_run(tug_limits_probe *probe);

/* One pass over the next quarter of that memory, about 10 ms: bytes per second.  For the
 * bandwidth beside work that takes longer, measured between its parts. */
double tug_limits_probe_read(tug_limits_probe *probe);

/* ---- speed of the kernels, for plans ---------------------------------------------------- */

/* Types whose products are measured. */
typedef enum tug_product {
    TUG_PRODUCT_Q3_K,
    TUG_PRODUCT_Q4_K,
    TUG_PRODUCT_Q5_K,
    TUG_PRODUCT_Q6_K,
    TUG_PRODUCT_Q8_0,
    TUG_PRODUCTS
} tug_product;

/* Tokens of an expert for which its time is measured. */
enum { TUG_EXPERT_POINTS = 11 };
#define TUG_EXPERT_TOKENS \
    { 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128 }

typedef struct tug_product_speed {
    double macs_s;       /* multiply-adds of all threads, a token more */
    double setup_tokens; /* what a matrix costs once, as so many tokens */
    double
        pack_bytes_s; /* a thread of all that pack, weights of a file to how they lie in
                            memory; 0: as they are */
    /* Seconds of all threads for an expert that comes from memory, by its tokens, divided by
     * its number of weights. */
    double expert_s[TUG_EXPERT_POINTS];
} tug_product_speed;

/* What all threads do of the rest of a batch. */
typedef struct tug_mixer_speed {
    double delta_macs_s; /* of the delta rule, with its convolution, norms and gates */
    double elements_s;   /* values that are normalised or added */
} tug_mixer_speed;

/* Each measures about 0.3 s, with a probe that has no model. */
TUG_NODISCARD tug_status tug_limits_probe_products(tug_limits_probe *probe,
                                                   tug_product type,
                                                   tug_product_speed *out, tug_err *err);
TUG_NODISCARD tug_status tug_limits_probe_mixers(tug_limits_probe *probe,
                                                 tug_mixer_speed *out, tug_err *err);

/* ---- the GPU of a model -------------------------------------------------------------- */

/* Counted since the model was opened, and what NVIDIA's management library tells; without
 * it the numbers below `told` are 0, busy and others -1. */
typedef struct tug_gpu_now {
    uint64_t vram_used, vram_peak, vram_budget;
    uint64_t dense_bytes, expert_bytes; /* of vram_used: weights */
    double in_bytes, out_bytes;         /* copied to it and from it */
    double launches;                    /* kernels */
    /* Of layers whose experts are not all there: uses of experts by tokens that found them
     * there, and that did not; experts that got a slot while tokens were generated, and
     * between a prompt and its answer; those that lost it and came back to RAM in their
     * place; those that crossed for one batch; bytes of in_bytes that crossed for experts. */
    double expert_hits, expert_misses, promoted, seeded, returned, carried,
        expert_in_bytes;
    bool told;
    const char *why_not; /* a sentence, when not told */
    double watts, watts_limit;
    double joules; /* since some time before */
    double busy;   /* share of the last moments, in which it computed */
    double others; /* bytes of its memory that other processes have */
    int link_gen, link_width, link_max_gen, link_max_width; /* PCIe, now and at most */
    int sm_mhz, memory_mhz;
} tug_gpu_now;

/* false: there is no GPU.  `ask`: also what the library tells, which may take a millisecond. */
bool tug_model_gpu_now(const tug_model *model, bool ask, tug_gpu_now *out);

/* What is wrong with how it is connected: a sentence in text (cap,), or false.  Asked after
 * work: an idle GPU lets its link down. */
bool tug_model_gpu_warning(const tug_model *model, char *text, size_t cap);

/* Measured between two calls, in some ms. */
typedef struct tug_gpu_limits {
    double read_bytes_s; /* reading its memory, */
    double read_bytes;   /* so many bytes in turn: few are in a cache */
    double link_bytes_s; /* copies to it from pinned memory, of an expert's size */
    double handoff_s;    /* a word to the host and one back */
} tug_gpu_limits;

/* TUG_EUNSUPPORTED: there is no GPU; TUG_EDEVICE. */
TUG_NODISCARD tug_status tug_model_gpu_limits(tug_model *model, tug_gpu_limits *out,
                                              tug_err *err);

/* What the plan expects at a context of n_ctx tokens: one more, and all of them as a prompt.
 * With limits (each may be NULL) that were measured instead of those it assumed.  false:
 * there is no plan. */
typedef struct tug_prediction {
    double decode_tok_s, prefill_tok_s;
} tug_prediction;
bool tug_model_predict(const tug_model *model, int64_t n_ctx, const tug_limits *cpu,
                       const tug_gpu_limits *gpu, tug_prediction *out);

#ifdef __cplusplus
}
#endif

#endif
