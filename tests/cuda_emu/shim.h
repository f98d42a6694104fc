// shim.h - CUDA C++ for the host compiler, as far as src/kernels/cuda uses it.
//
// Included by src/kernels/cuda/device.cuh instead of the toolkit's headers.  What is missing
// here on purpose: cooperative groups, half operators, textures, <cuda_*.h>.  Add what a
// kernel needs, with CUDA's own meaning.  SPDX-License-Identifier: MIT
#ifndef TUG_TESTS_CUDA_EMU_SHIM_H
#define TUG_TESTS_CUDA_EMU_SHIM_H

#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "cuda_emu/emu.h"

#define __CUDA_ARCH__ 860

#define __host__
#define __device__
#define __global__      static
#define __constant__    static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__
// In the thread's TLS segment they lie together: poisoned when a block begins, and known to
// the race build.  ASan puts red zones around plain statics only.
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __shared__ static
#endif
#endif
#ifndef __shared__
#define __shared__ static __thread
#endif

#define threadIdx (emu::thread_idx)
#define blockIdx  (emu::block_idx)
#define blockDim  (emu::block_dim)
#define gridDim   (emu::grid_dim)
#define warpSize  32

// ---- vectors -------------------------------------------------------------------------------

#define EMU_VECTOR(T, name, a2, a4)                            \
    struct alignas(a2) name##2 {                               \
        T x, y;                                                \
    };                                                         \
    struct alignas(a4) name##4 {                               \
        T x, y, z, w;                                          \
    };                                                         \
    static inline name##2 make_##name##2(T x, T y) {           \
        return {x, y};                                         \
    }                                                          \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { \
        return {x, y, z, w};                                   \
    }
EMU_VECTOR(signed char, char, 2, 4)
EMU_VECTOR(unsigned char, uchar, 2, 4)
EMU_VECTOR(short, short, 4, 8)
EMU_VECTOR(unsigned short, ushort, 4, 8)
EMU_VECTOR(int, int, 8, 16)
EMU_VECTOR(unsigned, uint, 8, 16)
EMU_VECTOR(float, float, 8, 16)

// ---- synchronisation -----------------------------------------------------------------------

static inline void __syncthreads() {
    emu::barrier();
}
static inline void __syncwarp(unsigned mask = ~0u) {
    emu::collective("__syncwarp", mask, nullptr, nullptr, true);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}

// ---- shuffles and votes ----------------------------------------------------------------------

namespace emu {
struct shuffle {
    uint64_t value, result;
    int source; // a lane, <0: its own
};
static inline void do_shuffle(void *const args[32], unsigned) {
    for (int i = 0; i < 32; i++) {
        shuffle *s = static_cast<shuffle *>(args[i]);
        if (!s) continue;
        const int from = s->source < 0 ? i : s->source;
        if (!args[from])
            broken("a shuffle reads lane %d, which is not in the mask", from);
        s->result = static_cast<shuffle *>(args[from])->value;
    }
}
template <typename T>
static inline T shuffle_from(const char *what, unsigned mask, T v, int source) {
    static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
    shuffle s = {0, 0, source};
    memcpy(&s.value, &v, sizeof v);
    collective(what, mask, &s, do_shuffle);
    memcpy(&v, &s.result, sizeof v);
    return v;
}
static inline int inside(int lane, int width, int to) {
    const int base = lane / width * width;
    return to >= base && to < base + width ? to : -1;
}
struct vote {
    bool yes;
    unsigned result;
};
static inline void do_vote(void *const args[32], unsigned) {
    unsigned all = 0;
    for (int i = 0; i < 32; i++) {
        if (args[i] && static_cast<vote *>(args[i])->yes) all |= 1u << i;
    }
    for (int i = 0; i < 32; i++) {
        if (args[i]) static_cast<vote *>(args[i])->result = all;
    }
}
} // namespace emu

template <typename T>
static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    const int lane = (int)emu::lane_id();
    return emu::shuffle_from("__shfl_sync", mask, v,
                             lane / width * width + (from & (width - 1)));
}
template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32) {
    const int lane = (int)emu::lane_id();
    return emu::shuffle_from("__shfl_xor_sync", mask, v,
                             emu::inside(lane, width, lane ^ bits));
}
template <typename T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    const int lane = (int)emu::lane_id();
    return emu::shuffle_from("__shfl_down_sync", mask, v,
                             emu::inside(lane, width, lane + (int)by));
}
template <typename T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    const int lane = (int)emu::lane_id();
    return emu::shuffle_from("__shfl_up_sync", mask, v,
                             emu::inside(lane, width, lane - (int)by));
}
static inline unsigned __ballot_sync(unsigned mask, int yes) {
    emu::vote v = {yes != 0, 0};
    emu::collective("__ballot_sync", mask, &v, emu::do_vote);
    return v.result;
}
static inline int __any_sync(unsigned mask, int yes) {
    return __ballot_sync(mask, yes) != 0;
}
static inline int __all_sync(unsigned mask, int yes) {
    return __ballot_sync(mask, !yes) == 0;
}

// ---- atomics: one thread runs at a time, so plain code is atomic -------------------------------

#define EMU_ATOMIC(T, name, next)                                            \
    __attribute__((no_sanitize("thread"))) static inline T name(T *p, T v) { \
        emu::note(p, sizeof *p, emu::ATOMIC);                                \
        const T old = *p;                                                    \
        *p = (next);                                                         \
        return old;                                                          \
    }
#define EMU_ATOMICS(T)                          \
    EMU_ATOMIC(T, atomicAdd, (T)(old + v))      \
    EMU_ATOMIC(T, atomicMax, old > v ? old : v) \
    EMU_ATOMIC(T, atomicMin, old < v ? old : v) \
    EMU_ATOMIC(T, atomicExch, v)
EMU_ATOMICS(int)
EMU_ATOMICS(unsigned)
EMU_ATOMICS(unsigned long long)
EMU_ATOMIC(float, atomicAdd, old + v)
EMU_ATOMIC(float, atomicExch, v)
EMU_ATOMIC(unsigned, atomicOr, old | v)
EMU_ATOMIC(unsigned, atomicAnd, old &v)
template <typename T>
__attribute__((no_sanitize("thread"))) static inline T atomicCAS(T *p, T expected, T v) {
    emu::note(p, sizeof *p, emu::ATOMIC);
    const T old = *p;
    if (old == expected) *p = v;
    return old;
}

// ---- arithmetic --------------------------------------------------------------------------------

template <typename T> static inline T emu_bits(uint32_t v) {
    static_assert(sizeof(T) == 4, "");
    T r;
    memcpy(&r, &v, 4);
    return r;
}
static inline unsigned __float_as_uint(float f) {
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
static inline int __float_as_int(float f) {
    return (int)__float_as_uint(f);
}
static inline float __uint_as_float(unsigned u) {
    return emu_bits<float>(u);
}
static inline float __int_as_float(int i) {
    return emu_bits<float>((unsigned)i);
}
static inline int __float2int_rn(float f) {
    return (int)nearbyintf(f);
}
static inline int __float2int_rz(float f) {
    return (int)f;
}
static inline float __int2float_rn(int i) {
    return (float)i;
}
static inline float __fmul_rn(float a, float b) {
    volatile float r = a * b;
    return r;
}
static inline float __fadd_rn(float a, float b) {
    volatile float r = a + b;
    return r;
}
static inline float __fsub_rn(float a, float b) {
    volatile float r = a - b;
    return r;
}
static inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline float __frcp_rn(float a) {
    return 1.0f / a;
}
static inline float __frsqrt_rn(float a) {
    return 1.0f / sqrtf(a);
}
static inline float rsqrtf(float a) {
    return 1.0f / sqrtf(a);
}
static inline float __saturatef(float a) {
    return a < 0 ? 0 : a > 1 ? 1 : a;
}
// glibc declares functions of these names.
#define __expf(x)    expf(x)
#define __logf(x)    logf(x)
#define __exp2f(x)   exp2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x)    sinf(x)
#define __cosf(x)    cosf(x)

#define EMU_MINMAX(T)               \
    static inline T min(T a, T b) { \
        return b < a ? b : a;       \
    }                               \
    static inline T max(T a, T b) { \
        return a < b ? b : a;       \
    }
EMU_MINMAX(int)
EMU_MINMAX(unsigned)
EMU_MINMAX(long)
EMU_MINMAX(unsigned long)
EMU_MINMAX(long long)
EMU_MINMAX(unsigned long long)
static inline float min(float a, float b) {
    return fminf(a, b);
}
static inline float max(float a, float b) {
    return fmaxf(a, b);
}

static inline int __popc(unsigned v) {
    return __builtin_popcount(v);
}
static inline int __clz(int v) {
    return v ? __builtin_clz((unsigned)v) : 32;
}
static inline int __ffs(int v) {
    return __builtin_ffs(v);
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
    const uint64_t v = (uint64_t)y << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned sel = s >> (4 * i) & 15;
        unsigned byte = (unsigned)(v >> (8 * (sel & 7)) & 0xff);
        if (sel & 8) byte = byte & 0x80 ? 0xff : 0;
        r |= byte << (8 * i);
    }
    return r;
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned by) {
    return (unsigned)((((uint64_t)hi << 32 | lo) << (by & 31)) >> 32);
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned by) {
    return (unsigned)(((uint64_t)hi << 32 | lo) >> (by & 31));
}
static inline int8_t emu_byte(int v, int i) {
    return (int8_t)((unsigned)v >> (8 * i));
}
static inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++) c += emu_byte(a, i) * emu_byte(b, i);
    return c;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 4; i++) c += (a >> (8 * i) & 255) * (b >> (8 * i) & 255);
    return c;
}
#define EMU_BYTES(name, expr)                                           \
    static inline unsigned name(unsigned a, unsigned b) {               \
        unsigned r = 0;                                                 \
        for (int i = 0; i < 4; i++) {                                   \
            const int x = emu_byte((int)a, i), y = emu_byte((int)b, i); \
            r |= ((unsigned)(expr)&255u) << (8 * i);                    \
        }                                                               \
        return r;                                                       \
    }
static inline int emu_sat8(int v) {
    return v < -128 ? -128 : v > 127 ? 127 : v;
}
EMU_BYTES(__vadd4, x + y)
EMU_BYTES(__vsub4, x - y)
EMU_BYTES(__vsubss4, emu_sat8(x - y))
EMU_BYTES(__vcmpeq4, x == y ? 255 : 0)
EMU_BYTES(__vcmpne4, x != y ? 255 : 0)

template <typename T> static inline T __ldg(const T *p) {
    return *p;
}
template <typename T> static inline T __ldcs(const T *p) {
    return *p;
}
template <typename T> static inline T __ldcg(const T *p) {
    return *p;
}
template <typename T> static inline void __stcs(T *p, T v) {
    *p = v;
}

#endif
