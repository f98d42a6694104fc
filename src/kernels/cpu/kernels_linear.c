/* kernels_linear.c - chooses the linear kernels for a CPU level, and sizes activations.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/kernels_linear.h"

#include "kernels/cpu/act.h"

size_t tug_act_row_bytes(tug_act act, int64_t n) {
    const size_t count = (size_t)n;
    if (act == TUG_ACT_F32) return (count * sizeof(float) + 63) / 64 * 64;
    return (count + TUG_ACT_RECORD - 1) / TUG_ACT_RECORD * sizeof(tug_act_q8_256);
}

#define SET_REF(type, name, act_) \
    k->linear[TUG_TYPE_##type] =  \
        (tug_linear_kernel){.act = TUG_ACT_F32, .fn = tug_linear_##name##_ref};
#define SET_AVX2(type, name, act_) \
    k->linear[TUG_TYPE_##type] =   \
        (tug_linear_kernel){.act = TUG_ACT_##act_, .fn = tug_linear_##name##_avx2};
#define SET_PACKED_AVX2(type, name, act_) \
    k->packed[TUG_TYPE_##type] =          \
        (tug_linear_kernel){.act = TUG_ACT_##act_, .fn = tug_packed_##name##_avx2};
#define SET_AVX512(type, name, act_) \
    k->linear[TUG_TYPE_##type] =     \
        (tug_linear_kernel){.act = TUG_ACT_##act_, .fn = tug_linear_##name##_avx512};
#define SET_PACKED_AVX512(type, name, act_) \
    k->packed[TUG_TYPE_##type] =            \
        (tug_linear_kernel){.act = TUG_ACT_##act_, .fn = tug_packed_##name##_avx512};

void tug_kernels_init_linear(tug_kernels *k, tug_cpu_level level) {
    k->act_convert[TUG_ACT_F32] = tug_act_f32_ref;
    k->act_convert[TUG_ACT_Q8_32] = tug_act_q8_32_ref;
    k->act_convert[TUG_ACT_Q8_256] = tug_act_q8_256_ref;
    k->act_residual[TUG_ACT_Q8_32] = tug_act_residual_q8_32_ref;
    k->act_residual[TUG_ACT_Q8_256] = tug_act_residual_q8_256_ref;
    TUG_LINEAR_TYPES(SET_REF)

#if defined(__x86_64__)
    if (level < TUG_CPU_AVX2) return;
    k->act_convert[TUG_ACT_Q8_32] = tug_act_q8_32_avx2;
    k->act_convert[TUG_ACT_Q8_256] = tug_act_q8_256_avx2;
    k->act_residual[TUG_ACT_Q8_32] = tug_act_residual_q8_32_avx2;
    k->act_residual[TUG_ACT_Q8_256] = tug_act_residual_q8_256_avx2;
    TUG_LINEAR_TYPES(SET_AVX2)
    TUG_LINEAR_BLOCKS(SET_PACKED_AVX2)

    if (level < TUG_CPU_AVX512) return;
    TUG_LINEAR_FLOATS(SET_AVX512)
    TUG_LINEAR_BLOCKS(SET_PACKED_AVX512)
#else
    (void)level;
#endif
}
