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

/* GPU `gpu`, at most `vram` bytes of it (0: what is free); level and n_threads of the CPU.
 * Fails as tug_device_open does. */
TUG_NODISCARD tug_status tug_backend_cuda_create(tug_backend **out, tug_cpu_level level,
                                                 int n_threads, int gpu, uint64_t vram,
                                                 tug_err *err);

/* NULL: not such a backend. */
const tug_device_info *tug_backend_gpu(const tug_backend *be);
uint64_t tug_backend_gpu_used(const tug_backend *be); /* of info->budget */

/* Can its kernels run such mixers and experts?  TUG_EUNSUPPORTED: which cannot. */
TUG_NODISCARD tug_status tug_cuda_check_shapes(const tug_attn_shape *attn,
                                               const tug_delta_shape *delta,
                                               int64_t n_expert, tug_err *err);

/* Memory of the GPU that n experts of a layer take. */
uint64_t tug_cuda_experts_bytes(const tug_moe_weights *w, int n);

/* Copies experts [0, n) of w, whose weights lie in the host's memory as in the file, and
 * makes w->on_gpu.  n may be 0. */
typedef struct tug_cuda_experts tug_cuda_experts;
TUG_NODISCARD tug_status tug_cuda_experts_create(tug_backend *be, tug_moe_weights *w,
                                                 int n, tug_err *err);
void tug_cuda_experts_destroy(tug_backend *be, tug_cuda_experts **e);

#endif
