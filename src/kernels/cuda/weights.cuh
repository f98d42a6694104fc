// weights.cuh - how each type of weight is taken apart on the device.
//
// A row is a sequence of chunks, as much as one lane unpacks at a time: 32 values, or 64 of
// the types that keep four values in a byte.  A chunk is one or more groups of neighbouring
// columns that share a scale:
//
//     w[column(c, g) + j] = scale[g] * q[g * length + j] - min[g],   0 <= j < length
//
// with q int8, four to a register.  A type is a struct
//
//     values, groups        of a chunk; a group is values / groups = 16 or 32 columns
//     is_float, has_min     without has_min, min is not written
//     column(c, g)          the first column of group g of chunk c
//     unpack(row, c, chunk)
//
// scale and min are the products that quant/dequant.c rounds first, so that
// scale * q - min, each rounded, is the definition of the type bit for bit.  Layouts:
// quant/blocks.h.  SPDX-License-Identifier: MIT
#ifndef TUG_KERNELS_CUDA_WEIGHTS_CUH
#define TUG_KERNELS_CUDA_WEIGHTS_CUH

#include "kernels/cuda/words.cuh"

template <int n_values, int n_groups> struct chunk_of {
    uint32_t q[n_values / 4];
    float scale[n_groups];
    float min[n_groups];
};

// ---- blocks of 32 -----------------------------------------------------------------------

template <bool min> struct block_of_32 {
    enum { values = 32, groups = 1 };
    static constexpr bool is_float = false, has_min = min;
    typedef chunk_of<values, groups> chunk;
    static TUG_INLINE int column(int c, int) { return 32 * c; }
};

struct w_q8_0 : block_of_32<false> {
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint8_t *const b = row + 34 * c;
        load_words<8>(to.q, b + 2);
        to.scale[0] = load_f16(b);
    }
};

struct w_q4_0 : block_of_32<false> {
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint8_t *const b = row + 18 * c;
        uint32_t qs[4];
        load_words<4>(qs, b + 2);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            to.q[i] = minus(low_nibbles(qs[i]), 8);
            to.q[i + 4] = minus(high_nibbles(qs[i]), 8);
        }
        to.scale[0] = load_f16(b);
    }
};

struct w_q4_1 : block_of_32<true> {
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint32_t *const b = (const uint32_t *)(row + 20 * c);
        const uint32_t head = b[0];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t qs = b[1 + i];
            to.q[i] = low_nibbles(qs);
            to.q[i + 4] = high_nibbles(qs);
        }
        to.scale[0] = tug_f16((uint16_t)head);
        to.min[0] = -tug_f16((uint16_t)(head >> 16));
    }
};

// Values of 5 bits whose fifth bits are the 32 bits of qh.
TUG_DEVICE void five_bits(uint32_t *q, const uint32_t *qs, uint32_t qh) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        q[i] = low_nibbles(qs[i]) | spread_bits(qh >> 4 * i) << 4;
        q[i + 4] = high_nibbles(qs[i]) | spread_bits(qh >> (16 + 4 * i)) << 4;
    }
}

struct w_q5_0 : block_of_32<false> {
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint8_t *const b = row + 22 * c;
        uint32_t bits[5];
        load_words<5>(bits, b + 2);
        five_bits(to.q, bits + 1, bits[0]);
#pragma unroll
        for (int i = 0; i < 8; i++) to.q[i] = minus(to.q[i], 16);
        to.scale[0] = load_f16(b);
    }
};

struct w_q5_1 : block_of_32<true> {
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        uint32_t bits[6];
#pragma unroll
        for (int i = 0; i < 3; i++) load_words2(bits + 2 * i, row + 24 * c + 8 * i);
        five_bits(to.q, bits + 2, bits[1]);
        to.scale[0] = tug_f16((uint16_t)bits[0]);
        to.min[0] = -tug_f16((uint16_t)(bits[0] >> 16));
    }
};

struct w_iq4_nl : block_of_32<false> {
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint8_t *const b = row + 18 * c;
        uint32_t qs[4];
        load_words<4>(qs, b + 2);
#pragma unroll
        for (int i = 0; i < 4; i++) iq4_levels(qs[i], &to.q[i], &to.q[i + 4]);
        to.scale[0] = load_f16(b);
    }
};

// A sub-block of 32; eight chunks a superblock.
struct w_iq4_xs : block_of_32<false> {
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint8_t *const b = row + 136 * (c / 8);
        const int i = c % 8;
        uint32_t head[2], qs[4]; // d and scales_h, scales_l
        load_words2(head, b);
        load_words2(qs, b + 8 + 16 * i);
        load_words2(qs + 2, b + 16 + 16 * i);
#pragma unroll
        for (int j = 0; j < 4; j++) iq4_levels(qs[j], &to.q[j], &to.q[j + 4]);
        const int low = head[1] >> 4 * i & 15, high = head[0] >> (16 + 2 * i) & 3;
        to.scale[0] = tug_f16((uint16_t)head[0]) * (float)((low | high << 4) - 32);
    }
};

// ---- Q4_K, Q5_K: half of a run of 32 bytes, 16 values of each of two sub-blocks ----------

struct w_q45_k {
    enum { values = 32, groups = 2 };
    static constexpr bool is_float = false, has_min = true;
    typedef chunk_of<values, groups> chunk;
    static TUG_INLINE int column(int c, int g) {
        return 64 * (c / 2) + 16 * (c % 2) + 32 * g;
    }

    // Scales and mins of sub-blocks 2 p and 2 p + 1; head: d, dmin, scales.
    static TUG_INLINE void scales(const uint32_t head[4], int p, chunk &to) {
        const int shift = 16 * (p % 2);
        const uint32_t s = head[1] >> shift, m = head[2] >> shift, x = head[3] >> shift;
        uint32_t scale = s & 0x3F3Fu, min = m & 0x3F3Fu;
        if (p >= 2) {
            scale = (x & 0x0F0Fu) | (s & 0xC0C0u) >> 2;
            min = (x >> 4 & 0x0F0Fu) | (m & 0xC0C0u) >> 2;
        }
        const float d = tug_f16((uint16_t)head[0]);
        const float dmin = tug_f16((uint16_t)(head[0] >> 16));
        to.scale[0] = d * (float)(scale & 255);
        to.scale[1] = d * (float)(scale >> 8);
        to.min[0] = dmin * (float)(min & 255);
        to.min[1] = dmin * (float)(min >> 8);
    }
};

struct w_q4_k : w_q45_k {
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint8_t *const b = row + 144 * (c / 8);
        uint32_t head[4], qs[4];
        load_words4(head, b);
        load_words4(qs, b + 16 + 16 * (c % 8));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            to.q[i] = low_nibbles(qs[i]);
            to.q[i + 4] = high_nibbles(qs[i]);
        }
        scales(head, c % 8 / 2, to);
    }
};

struct w_q5_k : w_q45_k {
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint8_t *const b = row + 176 * (c / 8);
        const int p = c % 8 / 2;
        uint32_t head[4], qs[4], qh[4];
        load_words4(head, b);
        load_words4(qh, b + 16 + 16 * (c % 2));
        load_words4(qs, b + 48 + 16 * (c % 8));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t fifth = qh[i] >> 2 * p;
            to.q[i] = low_nibbles(qs[i]) | (fifth & 0x01010101u) << 4;
            to.q[i + 4] = high_nibbles(qs[i]) | (fifth >> 1 & 0x01010101u) << 4;
        }
        scales(head, p, to);
    }
};

// ---- Q6_K: 16 bytes of ql, a sub-block of 16 in the low and one in the high nibbles ------

struct w_q6_k {
    enum { values = 32, groups = 2 };
    static constexpr bool is_float = false, has_min = false;
    typedef chunk_of<values, groups> chunk;
    static TUG_INLINE int column(int c, int g) {
        return 128 * (c / 4) + 16 * (c % 4) + 64 * g;
    }
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint8_t *const b = row + 210 * (c / 8);
        const int run = c % 8 / 4, part = c % 4;
        uint32_t ql[4], qh[4];
        load_words<4>(ql, b + 64 * run + 16 * part);
        load_words<4>(qh, b + 128 + 32 * run + 16 * (part % 2));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t high = qh[i] >> 2 * (part / 2);
            to.q[i] = minus(low_nibbles(ql[i]) | (high & 0x03030303u) << 4, 32);
            to.q[i + 4] = minus(high_nibbles(ql[i]) | (high & 0x30303030u), 32);
        }
        const int8_t *const scales = (const int8_t *)b + 192 + 8 * run + part;
        const float d = load_f16(b + 208);
        to.scale[0] = d * (float)scales[0];
        to.scale[1] = d * (float)scales[4];
    }
};

// ---- Q2_K, Q3_K: 16 bytes of qs, four sub-blocks of 16 -----------------------------------

struct w_q23_k {
    enum { values = 64, groups = 4 };
    static constexpr bool is_float = false;
    typedef chunk_of<values, groups> chunk;
    static TUG_INLINE int column(int c, int g) {
        return 128 * (c / 2) + 16 * (c % 2) + 32 * g;
    }
};

struct w_q2_k : w_q23_k {
    static constexpr bool has_min = true;
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        const uint8_t *const b = row + 84 * (c / 4);
        const int run = c % 4 / 2, half = c % 2;
        const uint32_t *const qs = (const uint32_t *)(b + 16 + 32 * run + 16 * half);
        const uint32_t *const scales = (const uint32_t *)(b + 8 * run);
        const uint32_t ds = *(const uint32_t *)(b + 80);
        const float d = tug_f16((uint16_t)ds), dmin = tug_f16((uint16_t)(ds >> 16));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t v = qs[i];
#pragma unroll
            for (int g = 0; g < 4; g++) to.q[4 * g + i] = v >> 2 * g & 0x03030303u;
        }
#pragma unroll
        for (int g = 0; g < 4; g++) { // sub-block 8 run + 2 g + half
            const uint32_t s = scales[g / 2] >> (16 * (g % 2) + 8 * half);
            to.scale[g] = d * (float)(s & 15);
            to.min[g] = dmin * (float)(s >> 4 & 15);
        }
    }
};

struct w_q3_k : w_q23_k {
    static constexpr bool has_min = false;

    // Four bytes of 0..7 a register, and the scales of the groups; returns d.
    static TUG_INLINE float take(const uint8_t *row, int c, uint32_t q[16],
                                 int scale[4]) {
        const uint8_t *const b = row + 110 * (c / 4);
        const int run = c % 4 / 2, half = c % 2;
        uint32_t qs[4], third[4], s[3];
        load_words<4>(qs, b + 32 + 32 * run + 16 * half);
        load_words<4>(third, b + 16 * half);
        load_words<3>(s, b + 96);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t bits = third[i] >> 4 * run;
#pragma unroll
            for (int g = 0; g < 4; g++) {
                q[4 * g + i] = (qs[i] >> 2 * g & 0x03030303u) | (bits >> g & 0x01010101u)
                                                                    << 2;
            }
        }
#pragma unroll
        for (int g = 0; g < 4; g++) { // sub-block 8 run + 2 g + half
            const int shift = 16 * (g % 2) + 8 * half;
            const uint32_t low = s[g / 2] >> (shift + 4 * run) & 15u;
            const uint32_t high = s[2] >> (shift + 4 * run + 2 * (g / 2)) & 3u;
            scale[g] = (int)(low | high << 4) - 32;
        }
        return load_f16(b + 108);
    }

    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        int scale[4];
        const float d = take(row, c, to.q, scale);
#pragma unroll
        for (int i = 0; i < 16; i++) to.q[i] = minus(to.q[i], 4);
#pragma unroll
        for (int g = 0; g < 4; g++) to.scale[g] = d * (float)scale[g];
    }
};

// Q3_K with its integer scales multiplied in: (4 - q) scale is -128..124, and what is left is
// one scale, -d, for all 256 values.  Twice as many columns share a scale, so tensor cores
// make half as many sums that have to be scaled.
struct w_q3_k_scaled : w_q3_k {
    enum { shared = 32 }; // columns with one scale; of other types that is a group
    static TUG_INLINE void unpack(const uint8_t *row, int c, chunk &to) {
        int scale[4];
        const float d = take(row, c, to.q, scale);
#pragma unroll
        for (int g = 0; g < 4; g++) {
            // Two values at a time in 16 bits each, where 512 keeps them positive.
            const uint32_t factor = (uint32_t)-scale[g];
            const uint32_t offset = (uint32_t)(512 + 4 * scale[g]) * 0x00010001u;
#pragma unroll
            for (int i = 4 * g; i < 4 * g + 4; i++) {
                const uint32_t even = (to.q[i] & 0x00FF00FFu) * factor + offset;
                const uint32_t odd = (to.q[i] >> 8 & 0x00FF00FFu) * factor + offset;
                to.q[i] = __byte_perm(even, odd, 0x6240);
            }
            to.scale[g] = -d;
        }
    }
};

// ---- types without blocks ----------------------------------------------------------------

struct w_f32 {
    static constexpr bool is_float = true;
    enum { values = 1 };
    typedef float element;
    static TUG_INLINE float value(float v) { return v; }
};

struct w_f16 {
    static constexpr bool is_float = true;
    enum { values = 1 };
    typedef uint16_t element;
    static TUG_INLINE float value(uint16_t v) { return tug_f16(v); }
};

struct w_bf16 {
    static constexpr bool is_float = true;
    enum { values = 1 };
    typedef uint16_t element;
    static TUG_INLINE float value(uint16_t v) {
        return __uint_as_float((uint32_t)v << 16);
    }
};

// X(name, type) for every type; names as in kernels/cpu/kernels_linear.h.
#define TUG_FLOAT_WEIGHTS(X) X(f32) X(f16) X(bf16)
#define TUG_BLOCK_WEIGHTS(X) \
    X(q8_0)                  \
    X(q4_0)                  \
    X(q4_1) X(q5_0) X(q5_1) X(iq4_nl) X(q2_k) X(q3_k) X(q4_k) X(q5_k) X(q6_k) X(iq4_xs)

#endif
