/* kernels_linear.h - the versions of the linear kernels and activation conversions that
 * kernels_linear.c chooses from.  Contracts are in kernels.h.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_KERNELS_LINEAR_H
#define TUG_KERNELS_CPU_KERNELS_LINEAR_H

#include "kernels/cpu/kernels.h"

/* Every weight type: X(name in tug_type, name in symbols, activations of the SIMD
 * versions).  Floats, and what comes in blocks and is packed (quant/packed.h). */
#define TUG_LINEAR_FLOATS(X) \
    X(F32, f32, F32)         \
    X(F16, f16, F32)         \
    X(BF16, bf16, F32)
#define TUG_LINEAR_BLOCKS(X) \
    X(Q8_0, q8_0, Q8_32)     \
    X(Q4_0, q4_0, Q8_32)     \
    X(Q4_1, q4_1, Q8_32)     \
    X(Q5_0, q5_0, Q8_32)     \
    X(Q5_1, q5_1, Q8_32)     \
    X(IQ4_NL, iq4_nl, Q8_32) \
    X(Q2_K, q2_k, Q8_256)    \
    X(Q3_K, q3_k, Q8_256)    \
    X(Q4_K, q4_k, Q8_256)    \
    X(Q5_K, q5_k, Q8_256)    \
    X(Q6_K, q6_k, Q8_256)    \
    X(IQ4_XS, iq4_xs, Q8_256)
#define TUG_LINEAR_TYPES(X) TUG_LINEAR_FLOATS(X) TUG_LINEAR_BLOCKS(X)

#define DECLARE_LINEAR(type, name, act)    \
    tug_linear_fn tug_linear_##name##_ref; \
    tug_linear_fn tug_linear_##name##_avx2;
#define DECLARE_AVX512(type, name, act) tug_linear_fn tug_linear_##name##_avx512;
#define DECLARE_PACKED(type, name, act)     \
    tug_linear_fn tug_packed_##name##_avx2; \
    tug_linear_fn tug_packed_##name##_avx512;
TUG_LINEAR_TYPES(DECLARE_LINEAR)
TUG_LINEAR_FLOATS(DECLARE_AVX512)
TUG_LINEAR_BLOCKS(DECLARE_PACKED)
#undef DECLARE_LINEAR
#undef DECLARE_AVX512
#undef DECLARE_PACKED

tug_act_convert_fn tug_act_f32_ref;
tug_act_convert_fn tug_act_q8_32_ref;
tug_act_convert_fn tug_act_q8_256_ref;

tug_act_residual_fn tug_act_residual_q8_32_ref;
tug_act_residual_fn tug_act_residual_q8_256_ref;

/* The same bits as ref; AVX-512 uses these too, conversion is a small part of the work. */
tug_act_convert_fn tug_act_q8_32_avx2;
tug_act_convert_fn tug_act_q8_256_avx2;
tug_act_residual_fn tug_act_residual_q8_32_avx2;
tug_act_residual_fn tug_act_residual_q8_256_avx2;

#endif
