/* launch.h - which kernel does an op of given arguments, and in how many threads.
 *
 * The grids that the comments of the .cu files ask for, in one place.  Nothing here talks
 * to a device: the caller launches `kernel` with the same arguments.  The name is a constant
 * string, the same pointer for the same kernel, so that it can be the key of a cache.
 *
 * Types are weight types with can_decode; other arguments are as args.h says.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CUDA_LAUNCH_H
#define TUG_KERNELS_CUDA_LAUNCH_H

#include <stdbool.h>

#include "kernels/cuda/args.h"
#include "quant/types.h"

typedef struct tug_cuda_launch {
    const char *kernel;
    uint32_t grid[3];
    uint32_t block;        /* threads, one-dimensional */
    uint32_t shared_bytes; /* dynamic; above 48 KB the function's limit must be raised */
} tug_cuda_launch;

tug_cuda_launch tug_cuda_on_rmsnorm(const tug_cuda_rmsnorm *a);
tug_cuda_launch tug_cuda_on_rmsnorm_gated(const tug_cuda_rmsnorm_gated *a);
tug_cuda_launch tug_cuda_on_l2norm(const tug_cuda_l2norm *a);
tug_cuda_launch tug_cuda_on_swiglu(const tug_cuda_swiglu *a);
tug_cuda_launch tug_cuda_on_quantize(const tug_cuda_quantize *a);
tug_cuda_launch tug_cuda_on_embed(const tug_cuda_embed *a, tug_type type);
tug_cuda_launch tug_cuda_on_route(const tug_cuda_route *a);

/* Few tokens.  The activations of float types are f32 rows, of the others two digits. */
tug_cuda_launch tug_cuda_on_gemv(const tug_cuda_linear *a, tug_type type);
tug_cuda_launch tug_cuda_on_expert_hidden(const tug_cuda_expert_hidden *a, tug_type type);
tug_cuda_launch tug_cuda_on_expert_down(const tug_cuda_expert_down *a, tug_type type);
tug_cuda_launch tug_cuda_on_expert_finish(const tug_cuda_expert_finish *a);
tug_cuda_launch tug_cuda_on_hand_over(const tug_cuda_hand_over *a);

/* Many tokens.  The three of sorting are launched one after the other. */
tug_cuda_launch tug_cuda_on_sort_count(const tug_cuda_sort *a);
tug_cuda_launch tug_cuda_on_sort_plan(const tug_cuda_sort *a);
tug_cuda_launch tug_cuda_on_sort_place(const tug_cuda_sort *a);
tug_cuda_launch tug_cuda_on_gemm(const tug_cuda_gemm *a, tug_type type);
tug_cuda_launch tug_cuda_on_pair_hidden(const tug_cuda_pair_hidden *a);
tug_cuda_launch tug_cuda_on_combine(const tug_cuda_combine *a);

/* Of a type that packs. */
tug_cuda_launch tug_cuda_on_unpack(const tug_cuda_unpack *a, tug_type type);
tug_cuda_launch tug_cuda_on_edits(const tug_cuda_edits *a);

/* is_q8_0: the cache holds Q8_0, else f16.  Decode is decode and join; prefill is alone. */
tug_cuda_launch tug_cuda_on_attn_prepare(const tug_cuda_attn_prepare *a, bool is_q8_0);
tug_cuda_launch tug_cuda_on_attn_decode(const tug_cuda_attn *a, bool is_q8_0);
tug_cuda_launch tug_cuda_on_attn_join(const tug_cuda_attn *a);
tug_cuda_launch tug_cuda_on_attn_prefill(const tug_cuda_attn *a, bool is_q8_0);

/* conv_state only after a conv of more than TUG_CUDA_CONV_TOKENS tokens. */
tug_cuda_launch tug_cuda_on_conv(const tug_cuda_conv *a);
tug_cuda_launch tug_cuda_on_conv_state(const tug_cuda_conv *a);
tug_cuda_launch tug_cuda_on_delta(const tug_cuda_delta *a);
/* The chunked form, the three one after the other; then the gated norm of its own. */
tug_cuda_launch tug_cuda_on_delta_split(const tug_cuda_delta *a);
tug_cuda_launch tug_cuda_on_delta_mix(const tug_cuda_delta *a);
tug_cuda_launch tug_cuda_on_delta_scan(const tug_cuda_delta *a);

/* Limits of the device; an int8 product is 4,096 multiplications and additions, an f16 one
 * 2,048, and a block has TUG_CUDA_PROBE_WARPS. */
#define TUG_CUDA_PROBE_WARPS 8
tug_cuda_launch tug_cuda_on_probe_read(const tug_cuda_probe *a);
tug_cuda_launch tug_cuda_on_probe_mma_s8(const tug_cuda_probe *a);
tug_cuda_launch tug_cuda_on_probe_mma_f16(const tug_cuda_probe *a);

#endif
