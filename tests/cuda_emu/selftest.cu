// selftest.cu - kernels that test the emulator itself: right ones with known results, and one
// with a mistake of every kind.  SPDX-License-Identifier: MIT
#include "kernels/cuda/device.cuh"

#include "cuda_emu/selftest.h"

static __device__ void with_collectives(const emu_mistake_args &a, int t) {
    const int lane = t % 32;
    if (a.mistake == EMU_BARRIER_MISSED && t < 32) __syncthreads();
    if (a.mistake == EMU_EXITED_IN_MASK) {
        if (lane == 7) return;
        a.x[t] = __shfl_xor_sync(0xffffffffu, a.y[t], 1);
    }
    if (a.mistake == EMU_TWO_COLLECTIVES) {
        if (lane < 16) {
            a.x[t] = __shfl_xor_sync(0xffffffffu, a.y[t], 1);
        } else {
            a.x[t] = (float)__ballot_sync(0xffffffffu, t & 1);
        }
    }
    if (a.mistake == EMU_SHUFFLE_OUTSIDE && lane < 16) {
        a.x[t] = __shfl_xor_sync(0x0000ffffu, a.y[t], 16);
    }
    if (a.mistake == EMU_HALF_MMA && lane < 16) {
        int d[4] = {};
        const unsigned f[4] = {};
        tug_mma_s8(d, f, f);
        a.x[t] = (float)d[0];
    }
}

static __device__ void with_copies(const emu_mistake_args &a, int t) {
    __shared__ __align__(16) float s[256 + 4];
    if (a.mistake == EMU_LDMATRIX_MISALIGNED) {
        unsigned r[4];
        tug_ldmatrix4(r, s + 1);
        a.x[t] = (float)r[0];
    }
    if (a.mistake == EMU_COPY_MISALIGNED) tug_cp_async16(s + 4 * t + 1, a.y);
    if (a.mistake == EMU_COPY_READ_EARLY || a.mistake == EMU_COPY_LEFT) {
        tug_cp_async<4>(s + t, a.y + t);
        tug_cp_commit();
        a.x[t] = s[t];
        if (a.mistake == EMU_COPY_READ_EARLY) tug_cp_wait<0>();
    }
}

static __device__ void with_shared(const emu_mistake_args &a, int t) {
    __shared__ float s[64], next[64];
    TUG_DYNAMIC_SHARED(float, dynamic);
    if (a.mistake == EMU_SHARED_UNWRITTEN) a.x[t] = s[t];
    if (a.mistake == EMU_NO_BARRIER || a.mistake == EMU_NO_SYNCWARP) {
        s[t] = 0;
        __syncthreads();
    }
    if (a.mistake == EMU_NO_BARRIER) {
        s[t] = a.y[t];
        a.x[t] = s[63 - t];
    }
    if (a.mistake == EMU_NO_SYNCWARP) {
        s[t] = a.y[t];
        a.x[t] = s[t ^ 1];
    }
    if (a.mistake == EMU_SHARED_OVERRUN) {
        next[t] = 0;
        __syncthreads();
        volatile int at = t + 8;  // the compiler must not see it
        s[at] = a.y[t];
        __syncthreads();
        a.x[t] = next[t] + s[8];
    }
    if (a.mistake == EMU_DYNAMIC_OVERRUN) dynamic[t + 8] = a.y[t];
}

TUG_KERNEL(emu_mistakes, emu_mistake_args, 64) {
    const int t = (int)threadIdx.x;
    if (a.mistake == EMU_NONE) a.x[blockIdx.x * 64 + t] = a.y[t];
    if (a.mistake == EMU_READ_BEHIND) a.x[t] = a.y[t + 64];
    if (a.mistake == EMU_WRITE_BEHIND) a.x[t + 1] = a.y[t];
    if (a.mistake == EMU_GLOBAL_UNWRITTEN) a.x[t] += a.y[t];
    if (a.mistake == EMU_TWO_BLOCKS) a.x[t] = a.y[t];
    if (a.mistake == EMU_HOST_MEMORY) a.x[t] = a.y[t];
    with_collectives(a, t);
    with_copies(a, t);
    with_shared(a, t);
}

TUG_KERNEL(emu_matmul, emu_matmul_args, 32) {
    __shared__ __align__(16) unsigned char sa[512], sb[256];
    const int lane = (int)threadIdx.x;
    const int a_bytes = a.kind == EMU_S8_K16 ? 256 : 512, row_bytes = a_bytes / 16;
    for (int i = lane * 16; i < a_bytes; i += 32 * 16) {
        tug_cp_async16(sa + i, static_cast<const char *>(a.a) + i);
    }
    for (int i = lane * 8; i < a_bytes / 2; i += 32 * 8) {
        tug_cp_async<8>(sb + i, static_cast<const char *>(a.b) + i);
    }
    tug_cp_commit();
    tug_cp_wait<0>();
    __syncthreads();
    unsigned fa[4], fb[2];
    int di[4] = {};
    float df[4] = {};
    if (a.kind == EMU_S8_K16) {
        tug_ldmatrix2(fa, sa + lane % 16 * row_bytes);
        unsigned unused[2];
        tug_ldmatrix2(unused, sb + lane % 8 * 16);
        tug_mma_s8_k16(di, fa, unused[0]);
    } else {
        tug_ldmatrix4(fa, sa + lane % 16 * row_bytes + lane / 16 * 16);
        if (a.kind == EMU_S8) {
            tug_ldmatrix2(fb, sb + lane % 8 * 32 + lane / 8 % 2 * 16);
            tug_mma_s8(di, fa, fb);
        } else {
            tug_ldmatrix2_trans(fb, sb + lane % 16 * 16);
            if (a.kind == EMU_F16) tug_mma_f16(df, fa, fb);
            if (a.kind == EMU_BF16) tug_mma_bf16(df, fa, fb);
        }
    }
    for (int i = 0; i < 4; i++) {
        const int at = (lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2;
        if (a.kind == EMU_F16 || a.kind == EMU_BF16) {
            static_cast<float *>(a.d)[at] = df[i];
        } else {
            static_cast<int *>(a.d)[at] = di[i];
        }
    }
}

TUG_KERNEL(emu_affine, emu_affine_args, 64) {
    for (int i = (int)threadIdx.x; i < a.n; i += 64) a.x[i] = a.x[i] * a.mul + a.add;
}
