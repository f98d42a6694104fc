/* backend_cuda.h - the backend on a GPU, with the CPU beside it.
 *
 * Activations, states and dense weights are the GPU's.  Of the routed experts some have a
 * copy there (tug_cuda_experts); the others are computed by the CPU at the same time, from
 * the weights in host memory, and their sum joins: one handoff per layer.  docs/CUDA.md.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BACKEND_BACKEND_CUDA_H
#define TUG_BACKEND_BACKEND_CUDA_H

#include "backend/backend.h"
#include "cuda/device.h"
#include "cuda/nvml.h"

/* GPU `gpu`, at most `vram` bytes of it (0: what is free); level and n_threads of the CPU.
 * Fails as tug_device_open does. */
TUG_NODISCARD tug_status tug_backend_cuda_create(tug_backend **out, tug_cpu_level level,
                                                 int n_threads, int gpu, uint64_t vram,
                                                 tug_err *err);

/* NULL: not such a backend. */
const tug_device_info *tug_backend_gpu(const tug_backend *be);
uint64_t tug_backend_gpu_used(const tug_backend *be); /* of info->budget */

/* Device memory that tug_backend_reserve takes for these limits. */
uint64_t tug_cuda_work_bytes(const tug_backend_limits *limits);

/* NULL: the management library does not answer, *why says why not. */
const tug_nvml *tug_backend_gpu_nvml(const tug_backend *be, const char **why);
const tug_device_counters *tug_backend_gpu_counters(const tug_backend *be);

/* What a device and the way to it reach. */
typedef struct tug_cuda_limits {
    double read_bytes_s; /* reading its memory, */
    double read_bytes;   /* so many bytes in turn: few are in a cache */
    double link_bytes_s; /* copies of an expert's size from pinned memory */
    double handoff_s;    /* a word to the host, which waits for it, and one back */
} tug_cuda_limits;

/* Between two passes, in some ms; reads `data` (bytes,) of the device. */
TUG_NODISCARD tug_status tug_backend_gpu_measure(tug_backend *be, const void *data,
                                                 size_t bytes, tug_cuda_limits *out,
                                                 tug_err *err);

/* Measure what decides where experts are computed, before the first pass; a figure that
 * cannot be measured stays an estimate.  Of the device right after its experts were copied,
 * when its clocks and its link are up: as above.  Of the host, some 50 ms, when its experts
 * are in memory. */
TUG_NODISCARD tug_status tug_backend_gpu_learn_device(tug_backend *be, const void *data,
                                                      size_t bytes, tug_err *err);
void tug_backend_gpu_learn_host(tug_backend *be);

/* The limits of a GPU that no model is on, and what it is.  Fails as tug_device_open does. */
typedef struct tug_cuda_probed {
    tug_device_info info;
    tug_cuda_limits limits;
    tug_nvml_facts facts; /* zeros where nobody tells */
    tug_nvml_now now;
} tug_cuda_probed;
TUG_NODISCARD tug_status tug_cuda_probe_gpu(int gpu, tug_cuda_probed *out, tug_err *err);

/* For tests and measurements.  words: the handoff by words of memory, if the driver can, else
 * by events; graphs: recorded passes.  Both are on.  Whoever looks between the layers (a
 * profile, a trace of the routes, a report per layer) gets passes op by op in any case. */
void tug_backend_gpu_use(tug_backend *be, bool words, bool graphs);
/* Passes that were recorded, and that ran as a graph. */
typedef struct tug_gpu_counts {
    uint64_t captures, replays;
} tug_gpu_counts;
tug_gpu_counts tug_backend_gpu_counts(const tug_backend *be);

/* Can its kernels run such mixers and experts?  TUG_EUNSUPPORTED: which cannot. */
TUG_NODISCARD tug_status tug_cuda_check_shapes(const tug_attn_shape *attn,
                                               const tug_delta_shape *delta,
                                               int64_t n_expert, tug_err *err);

/* Memory of the GPU that an expert of a layer takes, and that n of them do with what belongs
 * to the layer. */
size_t tug_cuda_expert_bytes(const tug_moe_weights *w);
uint64_t tug_cuda_experts_bytes(const tug_moe_weights *w, int n);

/* Makes w->on_gpu: n slots with the experts [0, n) of w, whose weights lie in the host's
 * memory as in the file.  n may be 0; w must stay where it is. */
typedef struct tug_cuda_experts tug_cuda_experts;
TUG_NODISCARD tug_status tug_cuda_experts_create(tug_backend *be, tug_moe_weights *w,
                                                 int n, tug_err *err);
void tug_cuda_experts_destroy(tug_backend *be, tug_cuda_experts **e);

/* With a carrier experts move: those that are used take the slots of those that are not, and
 * prompts are computed here also by experts that have no slot.  n: experts of the size of
 * `stride` bytes that are on their way at a time, twice, at most TUG_CUDA_CARRIED. */
#define TUG_CUDA_CARRIED 16
uint64_t tug_cuda_carrier_bytes(size_t stride, int n);
TUG_NODISCARD tug_status tug_cuda_carrier_create(tug_backend *be, size_t stride, int n,
                                                 tug_err *err);
/* Waits for what is on its way.  Before the experts and the host's memory go. */
void tug_cuda_carrier_destroy(tug_backend *be);

typedef struct tug_cuda_slot_stats {
    uint64_t hits,
        misses;          /* uses of experts, by tokens, in layers not all of which fit */
    uint64_t promotions; /* experts that got a slot while tokens were generated ... */
    uint64_t seeded;     /* ... and between a prompt and its answer */
    uint64_t returned;   /* experts that lost a slot and are in RAM instead of those */
    uint64_t streamed;   /* experts carried for one batch */
    uint64_t bytes;      /* that crossed for all of these */
} tug_cuda_slot_stats;
/* Zeros for a backend that has no GPU. */
tug_cuda_slot_stats tug_backend_gpu_slots(const tug_backend *be);

#endif
