// shim_ptx.h - the emulator's half of src/kernels/cuda/device.cuh: the declaration of kernels
// and what is inline PTX for nvcc.  SPDX-License-Identifier: MIT
#ifndef TUG_TESTS_CUDA_EMU_SHIM_PTX_H
#define TUG_TESTS_CUDA_EMU_SHIM_PTX_H

#include "cuda_emu/shim.h"

#define TUG_KERNEL(name, type, threads)                              \
    static void name(const type &a);                                 \
    static const emu::kernel name##_entry(                           \
        #name, sizeof(type), threads,                                \
        [](const void *p) { name(*static_cast<const type *>(p)); }); \
    static void name(const type &a)

#define TUG_KERNEL_BLOCKS(name, type, threads, blocks) TUG_KERNEL(name, type, threads)

#define TUG_DYNAMIC_SHARED(T, name) \
    T *const name = static_cast<T *>(emu::dynamic_shared())

float tug_f16(uint16_t h);
uint16_t tug_to_f16(float f);
uint16_t tug_to_bf16(float f);
static inline unsigned tug_to_f16x2(float lo, float hi) {
    return tug_to_f16(lo) | (unsigned)tug_to_f16(hi) << 16;
}
static inline float tug_exp2(float x) {
    return exp2f(x);
}

void tug_mma_s8(int d[4], const unsigned a[4], const unsigned b[2]);
void tug_mma_s8_k16(int d[4], const unsigned a[2], unsigned b);
void tug_mma_f16(float d[4], const unsigned a[4], const unsigned b[2]);
void tug_mma_bf16(float d[4], const unsigned a[4], const unsigned b[2]);

void tug_ldmatrix4(unsigned r[4], const void *row);
void tug_ldmatrix4_trans(unsigned r[4], const void *row);
void tug_ldmatrix2(unsigned r[2], const void *row);
void tug_ldmatrix2_trans(unsigned r[2], const void *row);

static inline void tug_cp_async16(void *dst, const void *src, unsigned n_src = 16) {
    emu::copy_async(dst, src, 16, n_src);
}
template <int BYTES>
static inline void tug_cp_async(void *dst, const void *src, unsigned n_src = BYTES) {
    static_assert(BYTES == 4 || BYTES == 8, "16: tug_cp_async16");
    emu::copy_async(dst, src, BYTES, n_src);
}
static inline void tug_cp_commit() {
    emu::copy_commit();
}
template <int N> static inline void tug_cp_wait() {
    emu::copy_wait(N);
}

#endif
