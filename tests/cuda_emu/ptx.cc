// ptx.cc - matrix instructions and conversions, from the fragment layouts of the PTX manual.
// SPDX-License-Identifier: MIT
#include "cuda_emu/shim_ptx.h"

// ---- conversions ---------------------------------------------------------------------------

float tug_f16(uint16_t h) {
    const int sign = h >> 15, exponent = h >> 10 & 31, mantissa = h & 1023;
    float f;
    if (exponent == 31) {
        f = mantissa ? NAN : INFINITY;
    } else if (exponent == 0) {
        f = (float)mantissa * 0x1p-24f;
    } else {
        f = __uint_as_float((unsigned)(exponent + 112) << 23 | (unsigned)mantissa << 13);
    }
    return sign ? -f : f;
}

uint16_t tug_to_f16(float f) {
    const uint16_t sign = std::signbit(f) ? 0x8000 : 0;
    const float a = fabsf(f);
    if (std::isnan(f)) return 0x7fff;
    if (a >= 65520.0f) return sign | 0x7c00;
    int e;
    frexpf(a, &e); // a = m * 2^e, m in [0.5, 1)
    if (a < ldexpf(1.0f, -14)) return (uint16_t)(sign | (int)nearbyintf(ldexpf(a, 24)));
    // 11 bits; a carry into the next power of two is right by itself.
    const int m = (int)nearbyintf(ldexpf(a, 11 - e));
    return (uint16_t)(sign | (((e + 14) << 10) + (m - 1024)));
}

uint16_t tug_to_bf16(float f) {
    const uint32_t u = __float_as_uint(f);
    if (std::isnan(f)) return 0x7fff;
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// ---- mma.sync --------------------------------------------------------------------------------

namespace {

template <typename D> struct mma {
    D *d;
    const unsigned *a, *b;
};

int8_t s8_at(unsigned v, int i) {
    return (int8_t)(v >> (8 * i));
}

// k = 16 R: R pairs of registers of a, R of b.
template <int R> void do_s8(void *const args[32], unsigned mask) {
    if (mask != ~0u) emu::broken("mma.sync by a part of a warp: %08x", mask);
    int8_t a[16][16 * R], b[16 * R][8];
    for (int lane = 0; lane < 32; lane++) {
        const mma<int> *m = static_cast<mma<int> *>(args[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            for (int r = 0; r < 2 * R; r++) {
                a[g + 8 * (r % 2)][16 * (r / 2) + 4 * t + i] = s8_at(m->a[r], i);
            }
            for (int r = 0; r < R; r++) b[16 * r + 4 * t + i][g] = s8_at(m->b[r], i);
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        int *d = static_cast<mma<int> *>(args[lane])->d;
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + 8 * (i / 2), col = 2 * (lane % 4) + i % 2;
            int sum = 0;
            for (int k = 0; k < 16 * R; k++) sum += a[row][k] * b[k][col];
            d[i] += sum;
        }
    }
}

// The products are exact in f32, their sums are made in double: the hardware's order is
// not documented.
template <float (*value)(uint16_t)> void do_16(void *const args[32], unsigned mask) {
    if (mask != ~0u) emu::broken("mma.sync by a part of a warp: %08x", mask);
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const mma<float> *m = static_cast<mma<float> *>(args[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 2; i++) {
            for (int r = 0; r < 4; r++) {
                a[g + 8 * (r % 2)][8 * (r / 2) + 2 * t + i] =
                    value((uint16_t)(m->a[r] >> (16 * i)));
            }
            for (int r = 0; r < 2; r++) {
                b[8 * r + 2 * t + i][g] = value((uint16_t)(m->b[r] >> (16 * i)));
            }
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        float *d = static_cast<mma<float> *>(args[lane])->d;
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + 8 * (i / 2), col = 2 * (lane % 4) + i % 2;
            double sum = d[i];
            for (int k = 0; k < 16; k++) sum += (double)a[row][k] * b[k][col];
            d[i] = (float)sum;
        }
    }
}

float bf16_value(uint16_t h) {
    return __uint_as_float((unsigned)h << 16);
}

// ---- ldmatrix --------------------------------------------------------------------------------

struct ldmatrix {
    unsigned *r;
    const void *row;
};

template <int N, bool TRANS> void do_ldmatrix(void *const args[32], unsigned mask) {
    if (mask != ~0u) emu::broken("ldmatrix by a part of a warp: %08x", mask);
    uint16_t m[N][8][8];
    for (int lane = 0; lane < 8 * N; lane++) {
        const void *row = static_cast<ldmatrix *>(args[lane])->row;
        if (reinterpret_cast<uintptr_t>(row) % 16) {
            emu::broken("ldmatrix: lane %d's row at %p is not aligned to 16", lane, row);
        }
        memcpy(m[lane / 8][lane % 8], row, 16);
    }
    for (int lane = 0; lane < 32; lane++) {
        const int r = lane / 4, c = 2 * (lane % 4);
        for (int i = 0; i < N; i++) {
            const unsigned lo = TRANS ? m[i][c][r] : m[i][r][c];
            const unsigned hi = TRANS ? m[i][c + 1][r] : m[i][r][c + 1];
            static_cast<ldmatrix *>(args[lane])->r[i] = lo | hi << 16;
        }
    }
}

template <int N, bool TRANS>
void run_ldmatrix(const char *what, unsigned *r, const void *row) {
    ldmatrix l = {r, row};
    if ((int)emu::lane_id() < 8 * N) emu::note(row, 16, emu::READ);
    emu::collective(what, ~0u, &l, do_ldmatrix<N, TRANS>);
}

} // namespace

void tug_mma_s8(int d[4], const unsigned a[4], const unsigned b[2]) {
    mma<int> m = {d, a, b};
    emu::collective("tug_mma_s8", ~0u, &m, do_s8<2>);
}
void tug_mma_s8_k16(int d[4], const unsigned a[2], unsigned b) {
    mma<int> m = {d, a, &b};
    emu::collective("tug_mma_s8_k16", ~0u, &m, do_s8<1>);
}
void tug_mma_f16(float d[4], const unsigned a[4], const unsigned b[2]) {
    mma<float> m = {d, a, b};
    emu::collective("tug_mma_f16", ~0u, &m, do_16<tug_f16>);
}
void tug_mma_bf16(float d[4], const unsigned a[4], const unsigned b[2]) {
    mma<float> m = {d, a, b};
    emu::collective("tug_mma_bf16", ~0u, &m, do_16<bf16_value>);
}
void tug_ldmatrix4(unsigned r[4], const void *row) {
    run_ldmatrix<4, false>("ldmatrix x4", r, row);
}
void tug_ldmatrix4_trans(unsigned r[4], const void *row) {
    run_ldmatrix<4, true>("ldmatrix x4 trans", r, row);
}
void tug_ldmatrix2(unsigned r[2], const void *row) {
    run_ldmatrix<2, false>("ldmatrix x2", r, row);
}
void tug_ldmatrix2_trans(unsigned r[2], const void *row) {
    run_ldmatrix<2, true>("ldmatrix x2 trans", r, row);
}
