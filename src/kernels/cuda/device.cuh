// device.cuh - what every kernel stands on: how one is declared, and the instructions that
// CUDA C++ has no function for.  nvcc compiles the inline PTX; the emulator of
// tests/cuda_emu compiles the same kernels with the host compiler and brings its own.
//
//     TUG_KERNEL(tug_add, tug_cuda_add, 256) { ... a.x[i] += a.y[i]; }
//
// declares kernel tug_add, launched with at most 256 threads a block, whose one parameter
// is the struct tug_cuda_add of args.h, named `a`.
//
// Rules that the emulator holds kernels to: no spinning between blocks, no talk between the
// blocks of a launch but by atomics, every lane of a mask comes to a collective, all threads
// of a block come to every __syncthreads, no thread returns before the last one.
// SPDX-License-Identifier: MIT
#ifndef TUG_KERNELS_CUDA_DEVICE_CUH
#define TUG_KERNELS_CUDA_DEVICE_CUH

#include "kernels/cuda/args.h"

#ifdef TUG_CUDA_EMU
#include "cuda_emu/shim_ptx.h"
#else
#include <stdint.h>

#define TUG_KERNEL(name, type, threads) \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ type a)

// The same with registers for at least `blocks` blocks at once on a multiprocessor.
#define TUG_KERNEL_BLOCKS(name, type, threads, blocks)                \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name( \
        const __grid_constant__ type a)

// Dynamic shared memory as an array `name` of T; its bytes are the launch's.
#define TUG_DYNAMIC_SHARED(T, name)                            \
    extern __shared__ __align__(16) unsigned char tug_shared[]; \
    T *const name = reinterpret_cast<T *>(tug_shared)

// ---- f16 and bf16 as 16 bits -----------------------------------------------------------

__device__ __forceinline__ float tug_f16(uint16_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
__device__ __forceinline__ uint16_t tug_to_f16(float f) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
__device__ __forceinline__ uint16_t tug_to_bf16(float f) {
    uint16_t h;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

// Two f16 in a register, lo in the low bits.
__device__ __forceinline__ unsigned tug_to_f16x2(float lo, float hi) {
    unsigned r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
// 2^x with a relative error of 2^-22, for the weights of a softmax.
__device__ __forceinline__ float tug_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- matrix instructions: d (16, 8) += a (16, k) b (k, 8) ---------------------------------
// Fragments are those of the PTX manual: lane 4g + t holds, of d, rows g (d[0..1]) and g + 8
// (d[2..3]) at columns 2t, 2t + 1.

// k = 32, int8: a[0] row g columns 4t.., a[1] row g + 8, a[2] and a[3] the same at columns
// 16 + 4t; b[0] rows 4t.. of column g, b[1] rows 16 + 4t...
__device__ __forceinline__ void tug_mma_s8(int d[4], const unsigned a[4], const unsigned b[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// k = 16, pairs of f16: a[0] row g columns 2t.., a[1] row g + 8, a[2] and a[3] the same at
// columns 8 + 2t; b[0] rows 2t.. of column g, b[1] rows 8 + 2t...
__device__ __forceinline__ void tug_mma_f16(float d[4], const unsigned a[4], const unsigned b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// k = 16, int8: a[0] row g columns 4t.., a[1] row g + 8; b rows 4t.. of column g.
__device__ __forceinline__ void tug_mma_s8_k16(int d[4], const unsigned a[2], unsigned b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}
__device__ __forceinline__ void tug_mma_bf16(float d[4], const unsigned a[4],
                                             const unsigned b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit values from shared memory: lane 8 m + i gives the address of
// row i of matrix m (16 bytes, aligned); lane 4r + c gets columns 2c, 2c + 1 of row r.
__device__ __forceinline__ unsigned tug_shared_address(const void *p) {
    return (unsigned)__cvta_generic_to_shared(p);
}
__device__ __forceinline__ void tug_ldmatrix4(unsigned r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(tug_shared_address(row))
                 : "memory");
}
// Lane 4r + c gets rows 2c, 2c + 1 of column r.
__device__ __forceinline__ void tug_ldmatrix4_trans(unsigned r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(tug_shared_address(row))
                 : "memory");
}
// Two matrices; the addresses of lanes 16 .. 31 are not used, but must be valid.
__device__ __forceinline__ void tug_ldmatrix2(unsigned r[2], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(tug_shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void tug_ldmatrix2_trans(unsigned r[2], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(tug_shared_address(row))
                 : "memory");
}

// ---- copies from global to shared memory that go on beside the thread -------------------------
// 16 bytes, both aligned to 16; only n_src <= 16 are read, the rest becomes zero.  They are
// there after tug_cp_wait of their group by the same thread, and a barrier for other threads.

__device__ __forceinline__ void tug_cp_async16(void *dst, const void *src, unsigned n_src = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(tug_shared_address(dst)),
                 "l"(src), "r"(n_src)
                 : "memory");
}
// 4 or 8 bytes, aligned so.
template <int BYTES>
__device__ __forceinline__ void tug_cp_async(void *dst, const void *src, unsigned n_src = BYTES) {
    static_assert(BYTES == 4 || BYTES == 8, "16: tug_cp_async16");
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(tug_shared_address(dst)),
                 "l"(src), "r"(n_src), "n"(BYTES)
                 : "memory");
}
__device__ __forceinline__ void tug_cp_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most N of this thread's groups are under way.
template <int N>
__device__ __forceinline__ void tug_cp_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif  // TUG_CUDA_EMU

// ---- made of the above ------------------------------------------------------------------------

#define TUG_INLINE __device__ __forceinline__ /* of a member */
#define TUG_DEVICE static TUG_INLINE

enum { WARP = 32 };
#define FULL_WARP 0xFFFFFFFFu

__device__ __forceinline__ float tug_bf16(uint16_t h) {
    return __uint_as_float((unsigned)h << 16);
}

__device__ __forceinline__ float tug_warp_sum(float v) {
#pragma unroll
    for (int bits = 16; bits > 0; bits >>= 1) v += __shfl_xor_sync(0xffffffffu, v, bits);
    return v;
}
__device__ __forceinline__ float tug_warp_max(float v) {
#pragma unroll
    for (int bits = 16; bits > 0; bits >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, bits));
    return v;
}

// Over groups of `width` neighbouring lanes, a power of two; every lane gets the result.
TUG_DEVICE float group_sum(float v, int width) {
    for (int off = width / 2; off > 0; off /= 2) v += __shfl_xor_sync(FULL_WARP, v, off);
    return v;
}

// Sum over a block of whole warps, for every thread.  shared (32,): not used before the
// block's next barrier.
__device__ __forceinline__ float tug_block_sum(float v, float *shared) {
    const unsigned t = threadIdx.x, n_warp = blockDim.x / 32;
    v = tug_warp_sum(v);
    if (t % 32 == 0) shared[t / 32] = v;
    __syncthreads();
    return tug_warp_sum(t % 32 < n_warp ? shared[t % 32] : 0.0f);
}

// The bits of the largest magnitude of a warp: infinity above every number, NaN above it.
TUG_DEVICE uint32_t warp_max_bits(float v) {
    uint32_t bits = __float_as_uint(v) & 0x7FFFFFFFu;
    for (int off = WARP / 2; off > 0; off /= 2) {
        const uint32_t other = __shfl_xor_sync(FULL_WARP, bits, off);
        bits = bits > other ? bits : other;
    }
    return bits;
}

// A larger key for a larger value; equal for the two zeros; of NaN 1, below -infinity; never 0.
TUG_DEVICE uint32_t order_key(float v) {
    if (v != v) return 1;
    const uint32_t bits = __float_as_uint(v + 0.0f); // -0 becomes +0
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

TUG_DEVICE float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

TUG_DEVICE float silu(float x) {
    return x / (1.0f + expf(-x));
}

TUG_DEVICE float softplus(float x) {
    return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
}

#endif
