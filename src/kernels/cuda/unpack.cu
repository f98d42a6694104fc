// unpack.cu - matrices that were packed for the CPU become rows as in the file again.
//
// quant/packed.h has the layout: 16 rows lie side by side, dword by dword, and three formats
// have their bits in another order.  All of it is a permutation, so the file's bytes come
// back.  A thread takes one block of one row: its dwords lie 64 bytes apart, where the other
// 15 rows are its neighbours.  What it made goes through shared memory, so that rows are
// written as they lie.  SPDX-License-Identifier: MIT
#include "kernels/cuda/device.cuh"

#include "kernels/cuda/args.h"

enum { ROWS = 16, TILE = TUG_CUDA_UNPACK_BLOCKS, THREADS = ROWS * TILE };

// Four bytes that are all v.
TUG_DEVICE constexpr uint32_t each(uint32_t v) {
    return v * 0x01010101u;
}

// ---- bits: what quant/packed.c put together ----------------------------------------------

// The dwords of a block are in the order of the file already.
template <int n> struct same_bits {
    enum { n_dword = n };
    static TUG_INLINE void restore(uint32_t *to, const uint32_t *from) {
#pragma unroll
        for (int i = 0; i < n; i++) to[i] = from[i];
    }
};

// to: hmask 8, qs 16, scales 3.
struct q3_k_bits {
    enum { n_dword = 27 };
    static TUG_INLINE void restore(uint32_t *to, const uint32_t *from) {
#pragma unroll
        for (int i = 0; i < 24; i++) to[i] = 0;
#pragma unroll
        for (int run = 0; run < 8; run++) {
            const uint32_t a = from[3 * run], b = from[3 * run + 1],
                           c = from[3 * run + 2];
            const uint32_t v[8] = {a,
                                   b,
                                   c,
                                   (a >> 6 & each(3)) | (c >> 6 & each(1)) << 2,
                                   a >> 3,
                                   b >> 3,
                                   c >> 3,
                                   (b >> 6 & each(3)) | (c >> 7 & each(1)) << 2};
#pragma unroll
            for (int q = 0; q < 8; q++) {
                to[q] |= (v[q] >> 2 & each(1)) << run;
                to[8 + run / 4 * 8 + q] |= (v[q] & each(3)) << run % 4 * 2;
            }
        }
#pragma unroll
        for (int i = 24; i < 27; i++) to[i] = from[i];
    }
};

// to: scales 3, qh 8, qs 32.
struct q5_k_bits {
    enum { n_dword = 43 };
    static TUG_INLINE void restore(uint32_t *to, const uint32_t *from) {
#pragma unroll
        for (int i = 0; i < 43; i++) to[i] = i < 3 ? from[i] : 0;
#pragma unroll
        for (int run = 0; run < 8; run++) {
            const uint32_t *const in = from + 3 + 5 * run;
            const uint32_t a = in[0], b = in[1], c = in[2], d = in[3], e = in[4];
            const uint32_t v[8] = {
                a,
                b,
                c,
                d,
                e,
                (a >> 5 & each(7)) | (b >> 5 & each(3)) << 3,
                (c >> 5 & each(7)) | (d >> 5 & each(3)) << 3,
                (e >> 5 & each(7)) | (b >> 7 & each(1)) << 3 | (d >> 7 & each(1)) << 4};
#pragma unroll
            for (int q = 0; q < 8; q++) {
                to[3 + q] |= (v[q] >> 4 & each(1)) << run;
                to[11 + run / 2 * 8 + q] |= (v[q] & each(15)) << run % 2 * 4;
            }
        }
    }
};

// to: ql 32, qh 16, scales 4.
struct q6_k_bits {
    enum { n_dword = 52 };
    static TUG_INLINE void restore(uint32_t *to, const uint32_t *from) {
#pragma unroll
        for (int i = 0; i < 48; i++) to[i] = 0;
#pragma unroll
        for (int run = 0; run < 16; run++) {
            const int half = run / 8, part = run % 8 / 2, first = run % 2 * 4;
            const uint32_t a = from[3 * run], b = from[3 * run + 1],
                           c = from[3 * run + 2];
            const uint32_t v[4] = {a, b, c,
                                   (a >> 6 & each(3)) | (b >> 6 & each(3)) << 2 |
                                       (c >> 6 & each(3)) << 4};
#pragma unroll
            for (int q = 0; q < 4; q++) {
                to[16 * half + part % 2 * 8 + first + q] |= (v[q] & each(15))
                                                            << part / 2 * 4;
                to[32 + 8 * half + first + q] |= (v[q] >> 4 & each(3)) << 2 * part;
            }
        }
#pragma unroll
        for (int i = 48; i < 52; i++) to[i] = from[i];
    }
};

// ---- one type ------------------------------------------------------------------------------

// Where the parts of a block lie in the file (quant/blocks.h): byte offsets of its dwords,
// which are side by side, and of its 16-bit fields.
template <class bits, int n_bytes, int at, int n_fields, int field0, int field1>
struct layout_t : bits {
    enum { bytes = n_bytes, dword_at = at, n_field = n_fields };
    static_assert(n_bytes == 4 * bits::n_dword + 2 * n_fields, "all of a block");
    static TUG_INLINE int field_at(int i) {
        return i == 0 ? field0 : field1;
    }
};

template <class type> TUG_DEVICE void unpack(const tug_cuda_unpack &a) {
    __shared__ uint16_t image[ROWS][TILE * type::bytes / 2];
    const int n_blocks = (int)(a.row_bytes / type::bytes), b0 = blockIdx.y * TILE;
    const int n = n_blocks - b0 < TILE ? n_blocks - b0 : TILE; // blocks of a row, here
    const int row = threadIdx.x % ROWS, b = threadIdx.x / ROWS;
    const int64_t group = blockIdx.x * ROWS * a.row_bytes;
    const uint8_t *const from = (const uint8_t *)a.job[blockIdx.z].from + group;
    if (b < n) {
        const uint32_t *const body =
            (const uint32_t *)from + (b0 + b) * type::n_dword * ROWS + row;
        const uint16_t *const fields =
            (const uint16_t *)(from + (int64_t)n_blocks * type::n_dword * ROWS * 4) +
            (b0 + b) * type::n_field * ROWS + row;
        uint32_t in[type::n_dword], made[type::n_dword];
#pragma unroll
        for (int i = 0; i < type::n_dword; i++) in[i] = body[i * ROWS];
        type::restore(made, in);
        uint16_t *const to = image[row] + b * (type::bytes / 2);
#pragma unroll
        for (int i = 0; i < type::n_dword; i++) {
            to[type::dword_at / 2 + 2 * i] = (uint16_t)made[i];
            to[type::dword_at / 2 + 2 * i + 1] = (uint16_t)(made[i] >> 16);
        }
#pragma unroll
        for (int i = 0; i < type::n_field; i++) {
            to[type::field_at(i) / 2] = fields[i * ROWS];
        }
    }
    __syncthreads();
    uint8_t *const dst = (uint8_t *)a.job[blockIdx.z].to + group + b0 * type::bytes;
    const int width = n * type::bytes / 2;
    for (int i = threadIdx.x; i < ROWS * width; i += THREADS) {
        const int r = i / width, c = i % width;
        ((uint16_t *)(dst + r * a.row_bytes))[c] = image[r][c];
    }
}

// Block (128,), grid (n_rows / 16, ceil(blocks of a row / TUG_CUDA_UNPACK_BLOCKS), n_job).
#define UNPACK(name, ...)                                     \
    TUG_KERNEL(tug_unpack_##name, tug_cuda_unpack, THREADS) { \
        unpack<layout_t<__VA_ARGS__>>(a);                     \
    }
//     type    bits           bytes dwords fields, where
UNPACK(q8_0,   same_bits<8>,     34, 2, 1, 0, 0)
UNPACK(q4_0,   same_bits<4>,     18, 2, 1, 0, 0)
UNPACK(q4_1,   same_bits<4>,     20, 4, 2, 0, 2)
UNPACK(q5_0,   same_bits<5>,     22, 2, 1, 0, 0)
UNPACK(q5_1,   same_bits<5>,     24, 4, 2, 0, 2)
UNPACK(iq4_nl, same_bits<4>,     18, 2, 1, 0, 0)
UNPACK(q2_k,   same_bits<20>,    84, 0, 2, 80, 82)
UNPACK(q3_k,   q3_k_bits,       110, 0, 1, 108, 108)
UNPACK(q4_k,   same_bits<35>,   144, 4, 2, 0, 2)
UNPACK(q5_k,   q5_k_bits,       176, 4, 2, 0, 2)
UNPACK(q6_k,   q6_k_bits,       210, 0, 1, 208, 208)
UNPACK(iq4_xs, same_bits<33>,   136, 4, 2, 0, 2)

// ---- tables ----------------------------------------------------------------------------------

// Block (TUG_CUDA_EDITS,), grid (1,).
TUG_KERNEL(tug_edit, tug_cuda_edits, TUG_CUDA_EDITS) {
    const int i = threadIdx.x;
    if (i < a.n) *a.edit[i].at = a.edit[i].value;
}
