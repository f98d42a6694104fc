/* device.cuh - everything the kernels use that is neither C nor CUDA's own syntax.
 *
 * Two implementations: inline PTX below, and the emulator's (tests/cuda_emu/shim_ptx.h, with
 * TUG_CUDA_EMU defined), which gives the same names the same meaning on the CPU.  Beside
 * these the kernels use what shim.h lists of CUDA itself: shuffles and votes of a full warp,
 * barriers, __dp4a, __byte_perm and the like.
 *
 * Blocks are one-dimensional.  All instructions exist from sm_80 on.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CUDA_DEVICE_CUH
#define TUG_KERNELS_CUDA_DEVICE_CUH

#include <stdint.h>

#ifdef TUG_CUDA_EMU
#include "cuda_emu/shim_ptx.h"
#else

/* The head of a kernel: TUG_KERNEL(tug_rmsnorm, tug_cuda_rmsnorm, 256) { ... a.x ... }
 * `threads` is the largest block it may be launched with. */
#define TUG_KERNEL(name, type, threads) \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ type a)

/* Declares `name`, T *, as the launch's dynamic shared memory, 16-byte aligned. */
#define TUG_DYNAMIC_SHARED(T, name)                                  \
    extern __shared__ __align__(16) unsigned char tug_dynamic_smem[]; \
    T *const name = (T *)tug_dynamic_smem

/* ---- tensor cores: d += a b, fragments as PTX lays them over a warp ------------------- */

/* a 16 x 32 int8, b 32 x 8, d 16 x 8 int32. */
static __device__ __forceinline__ void tug_mma_s8(int d[4], const uint32_t a[4],
                                                  const uint32_t b[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* a 16 x 16 int8, b 16 x 8, d 16 x 8 int32. */
static __device__ __forceinline__ void tug_mma_s8_k16(int d[4], const uint32_t a[2],
                                                      uint32_t b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}

/* a 16 x 16 f16, b 16 x 8, d 16 x 8 f32. */
static __device__ __forceinline__ void tug_mma_f16(float d[4], const uint32_t a[4],
                                                   const uint32_t b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
        "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8 x 8 matrices of 16-bit elements from shared memory; lane 8 i + j names the
 * 16-byte row j of matrix i.  The same transposed. */
static __device__ __forceinline__ void tug_ldmatrix4(uint32_t r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

static __device__ __forceinline__ void tug_ldmatrix4_trans(uint32_t r[4],
                                                           const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* ---- asynchronous copies to shared memory --------------------------------------------- */

/* 16 bytes, both sides 16-byte aligned: n_src, 0 or 16, from src, the rest zeros. */
static __device__ __forceinline__ void tug_cp_async16(void *dst, const void *src,
                                                      uint32_t n_src = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(dst)),
                 "l"(src), "r"(n_src)
                 : "memory");
}

static __device__ __forceinline__ void tug_cp_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most `pending` committed groups of this thread are under way. */
template <int pending> static __device__ __forceinline__ void tug_cp_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* ---- numbers --------------------------------------------------------------------------- */

static __device__ __forceinline__ float tug_f16(uint16_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

/* To nearest even. */
static __device__ __forceinline__ uint16_t tug_to_f16(float f) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

/* Two of them in a register, lo in the low bits. */
static __device__ __forceinline__ uint32_t tug_to_f16x2(float lo, float hi) {
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

/* 2^x with a relative error of 2^-22, for the weights of a softmax. */
static __device__ __forceinline__ float tug_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif /* TUG_CUDA_EMU */

/* ---- the same on both ------------------------------------------------------------------ */

#define TUG_INLINE __device__ __forceinline__ /* of a member */
#define TUG_DEVICE static TUG_INLINE

enum { WARP = 32 };
#define FULL_WARP 0xFFFFFFFFu

/* Over groups of `width` neighbouring lanes, a power of two; every lane gets the result. */
TUG_DEVICE float group_sum(float v, int width) {
    for (int off = width / 2; off > 0; off /= 2) v += __shfl_xor_sync(FULL_WARP, v, off);
    return v;
}

TUG_DEVICE float group_max(float v, int width) {
    for (int off = width / 2; off > 0; off /= 2) {
        v = fmaxf(v, __shfl_xor_sync(FULL_WARP, v, off));
    }
    return v;
}

/* Over the block, a multiple of 32 threads; every thread gets the result.  `scratch`
 * (32,) in shared memory; free again after the next barrier. */
TUG_DEVICE float block_sum(float v, float *scratch) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    v = group_sum(v, WARP);
    if (lane == 0) scratch[warp] = v;
    __syncthreads();
    v = lane < (int)blockDim.x / WARP ? scratch[lane] : 0.0f;
    return group_sum(v, WARP);
}

TUG_DEVICE float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

TUG_DEVICE float silu(float x) {
    return x / (1.0f + expf(-x));
}

#endif
