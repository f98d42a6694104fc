/* selftest.h - arguments of the kernels that test the emulator itself (selftest.cu).
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_CUDA_EMU_SELFTEST_H
#define TUG_TESTS_CUDA_EMU_SELFTEST_H

#include <stdint.h>

enum emu_mistake {
    EMU_NONE,
    EMU_READ_BEHIND,
    EMU_WRITE_BEHIND, /* by less than the alignment of allocations */
    EMU_BARRIER_MISSED,
    EMU_EXITED_IN_MASK,
    EMU_TWO_COLLECTIVES,
    EMU_SHUFFLE_OUTSIDE,
    EMU_HALF_MMA,
    EMU_LDMATRIX_MISALIGNED,
    EMU_COPY_MISALIGNED,
    EMU_COPY_READ_EARLY,
    EMU_COPY_LEFT,
    EMU_SHARED_UNWRITTEN,
    EMU_GLOBAL_UNWRITTEN,
    EMU_NO_BARRIER,
    EMU_NO_SYNCWARP,
    EMU_TWO_BLOCKS,
    EMU_HOST_MEMORY,
    EMU_SHARED_OVERRUN,
    EMU_DYNAMIC_OVERRUN
};

/* x (n,) <- f(y (n,)), with a mistake.  Block (64,). */
typedef struct emu_mistake_args {
    float *x;
    const float *y;
    int32_t n, mistake;
} emu_mistake_args;

/* d (16, 8) = a (16, k) b: int8 with k = 32 and b (8, k); f16 or bf16 with k = 16 and b (k, 8);
 * int8 with k = 16 and b (8, k).  Block (32,). */
enum emu_matmul { EMU_S8, EMU_F16, EMU_BF16, EMU_S8_K16 };
typedef struct emu_matmul_args {
    void *d; /* int32 or f32 */
    const void *a, *b;
    int32_t kind;
} emu_matmul_args;

/* x[i] = x[i] * mul + add, one block of 64 threads. */
typedef struct emu_affine_args {
    float *x;
    float mul, add;
    int32_t n;
} emu_affine_args;

#endif
