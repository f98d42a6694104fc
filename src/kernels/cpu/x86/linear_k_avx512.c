/* linear_k_avx512.c - packed K-quants and IQ4_XS times int8 activations.
 *
 * VALUE  The integer sum of a superblock (256 columns of one row and token) is exact,
 * whichever way it is computed.  Each (row, token) then does, superblock after superblock,
 *   sum = fma(d_w * d_x, (float)integer, sum)
 *   sum = fnma(dmin_w * d_x, (float)integer of mins, sum)    for formats with mins.
 * Both paths below do just that, so neither path nor blocking can show in a value.
 *
 * FEW TOKENS (gemv)  A group of 16 rows streams by once: every quad is unpacked in
 * registers and meets up to 4 tokens; sums of a sub-block are scaled as integers.
 *
 * MANY TOKENS (gemm)  A superblock of up to 64 rows is unpacked into panels in L1; tiles
 * of panels x 6 tokens keep all sums in registers.  VPDPBUSD multiplies unsigned by
 * signed: panels hold value + 128 unless the format is unsigned, and a tile's sums start
 * at -128 * (sum of the activations), which the conversion left in act.h.
 * SPDX-License-Identifier: MIT */
#include <stdbool.h>

#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_avx512.h"
#include "quant/blocks.h"

enum {
    TILE_PANELS = 4, /* at most; 4 x 6 sums, or 2 x 6 twice */
    GEMV_TOKENS = 4, /* that share unpacked registers */
    GEMM_FROM = 5,   /* tokens from which making panels pays */
};

/* What a superblock of 16 rows has beside its weights. */
typedef struct factors {
    int32_t scale[16][16]; /* (16, 16): sub-block of 16, or (8, 16) of 32; row */
    int16_t min[8][32];    /* (8, 16, 2): sub-block / 2, row, sub-block % 2 */
    float d[16], dmin[16]; /* per row */
} factors __attribute__((aligned(64)));

typedef struct panel {
    uint8_t w[64][64]; /* (64, 16, 4): column / 4, row, column % 4 */
    factors f;
} panel __attribute__((aligned(64)));

/* w = the 8 quads of columns [32 run, 32 run + 32) as unsigned bytes; the value of a weight
 * is d * scale * (byte - bias).  With `cheap` the bytes of odd blocks are 2^odd_shift times
 * that: what a mask leaves, without the shift.  is_odd is run % 2, a constant.  Formats that
 * are folded invert the bits in flip[i] of block i of the run, which costs nothing. */
typedef void unpack_fn(__m512i w[8], const uint8_t *body, int run, bool is_odd,
                       bool cheap, const __m512i flip[2]);
/* Mins, d and dmin; byte j of a row's dword of four[i] = its scale 4 i + j, signed.
 * IQ4_XS stores its scales itself. */
typedef void factors_fn(factors *f, __m512i four[4], const uint8_t *body,
                        const uint8_t *field);
/* sum (n_tok, n_panels, 16) += panels (n_panels,) times one record of each token, or, if
 * it is the first, is set to that; n_panels is 1 or what the tile is made for, n_tok at
 * most TILE_TOKENS. */
typedef void tile_fn(float *sum, const panel *p, const tug_act_q8_256 *const *x,
                     bool is_first, int n_panels, int n_tok);

typedef struct format {
    unpack_fn *unpack;
    factors_fn *factors;
    tile_fn *tile;
    int n_line, n_field; /* of a superblock */
    int bias;            /* 0, 4, 32, or 128: the bytes need all eight bits */
    int n_min;           /* mins per superblock: 0, 8 or 16 */
    int block;           /* columns per scale: 16 or 32 */
    int n_four;          /* registers of scales, see factors_fn */
    int odd_shift;       /* see unpack_fn */
    int top;             /* the largest byte, if folded */
    bool words;          /* what 16 columns add up to fits 16 bits: 16 * 127 * q < 2^15 */
    bool folded;         /* values of 2 or 3 bits, a scale per 16 columns: panels hold the
                            products with the scales, few tokens take add_pair */
} format;

/* ---- formats ---------------------------------------------------------------------- */

/* The bits of `mask` in each byte, where they are. */
INLINE __m512i masked(__m512i v, int mask) {
    return _mm512_and_si512(v, bytes(mask));
}
/* (v & mask) ^ flip */
INLINE __m512i flipped(__m512i v, int mask, __m512i flip) {
    return _mm512_ternarylogic_epi32(v, bytes(mask), flip, 0x6A);
}

INLINE void unpack_q2_k(__m512i w[8], const uint8_t *body, int run, bool is_odd,
                        bool cheap, const __m512i flip[2]) {
    (void)is_odd, (void)cheap;
#pragma GCC unroll 8
    for (int q = 0; q < 8; q++) {
        const __m512i pairs = line(body, 4 + run / 4 * 8 + q);
        w[q] = flipped(shifted(pairs, run % 4 * 2), 3, flip[q / 4]);
    }
}

/* In each run the second block is 8 times as large if cheap. */
INLINE void unpack_q3_k(__m512i w[8], const uint8_t *body, int run, bool is_odd,
                        bool cheap, const __m512i flip[2]) {
    (void)is_odd;
    const __m512i a = line(body, 3 * run), b = line(body, 3 * run + 1),
                  c = line(body, 3 * run + 2);
    w[0] = flipped(a, 7, flip[0]);
    w[1] = flipped(b, 7, flip[0]);
    w[2] = flipped(c, 7, flip[0]);
    w[3] = flipped(_mm512_srli_epi32(a, 6), 3, flip[0]);
    w[3] = flipped(_mm512_srli_epi32(c, 4), 4, w[3]);
    if (cheap) {
        w[4] = masked(a, 0x38);
        w[5] = masked(b, 0x38);
        w[6] = masked(c, 0x38);
        w[7] = merged(_mm512_srli_epi32(b, 3), 0x18, _mm512_srli_epi32(c, 2), 0x20);
    } else {
        w[4] = flipped(_mm512_srli_epi32(a, 3), 7, flip[1]);
        w[5] = flipped(_mm512_srli_epi32(b, 3), 7, flip[1]);
        w[6] = flipped(_mm512_srli_epi32(c, 3), 7, flip[1]);
        w[7] = flipped(_mm512_srli_epi32(b, 6), 3, flip[1]);
        w[7] = flipped(_mm512_srli_epi32(c, 5), 4, w[7]);
    }
}

/* The odd runs are 16 times as large if cheap. */
INLINE void unpack_q4_k(__m512i w[8], const uint8_t *body, int run, bool is_odd,
                        bool cheap, const __m512i flip[2]) {
    (void)flip;
#pragma GCC unroll 8
    for (int q = 0; q < 8; q++) {
        const __m512i pair = line(body, 3 + run / 2 * 8 + q);
        w[q] = !is_odd ? masked(pair, 15)
               : cheap ? masked(pair, 0xF0)
                       : masked(_mm512_srli_epi32(pair, 4), 15);
    }
}

INLINE void unpack_q5_k(__m512i w[8], const uint8_t *body, int run, bool is_odd,
                        bool cheap, const __m512i flip[2]) {
    (void)is_odd, (void)cheap, (void)flip;
    __m512i v[5];
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
        v[i] = line(body, 3 + 5 * run + i);
        w[i] = masked(v[i], 31);
    }
    w[5] = merged(_mm512_srli_epi32(v[0], 5), 7, _mm512_srli_epi32(v[1], 2), 0x18);
    w[6] = merged(_mm512_srli_epi32(v[2], 5), 7, _mm512_srli_epi32(v[3], 2), 0x18);
    w[7] = merged(_mm512_srli_epi32(v[4], 5), 7, _mm512_srli_epi32(v[1], 4), 8);
    w[7] = merged(w[7], 15, _mm512_srli_epi32(v[3], 3), 16);
}

INLINE void unpack_q6_k(__m512i w[8], const uint8_t *body, int run, bool is_odd,
                        bool cheap, const __m512i flip[2]) {
    (void)is_odd, (void)cheap, (void)flip;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        const __m512i a = line(body, 6 * run + 3 * i),
                      b = line(body, 6 * run + 3 * i + 1),
                      c = line(body, 6 * run + 3 * i + 2);
        w[4 * i] = masked(a, 63);
        w[4 * i + 1] = masked(b, 63);
        w[4 * i + 2] = masked(c, 63);
        const __m512i low =
            merged(_mm512_srli_epi32(a, 6), 3, _mm512_srli_epi32(b, 4), 0x0C);
        w[4 * i + 3] = merged(low, 15, _mm512_srli_epi32(c, 2), 0x30);
    }
}

INLINE void unpack_iq4_xs(__m512i w[8], const uint8_t *body, int run, bool is_odd,
                          bool cheap, const __m512i flip[2]) {
    (void)is_odd, (void)cheap, (void)flip;
    const __m512i levels = _mm512_broadcast_i32x4(
        _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)tug_iq4_values),
                      _mm_set1_epi8(-128)));
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        const __m512i pair = line(body, 1 + 4 * run + q);
        w[q] = _mm512_shuffle_epi8(levels, masked(pair, 15));
        w[q + 4] = _mm512_shuffle_epi8(levels, masked(_mm512_srli_epi32(pair, 4), 15));
    }
}

/* Scales [4 i, 4 i + 4) from a register with one in each byte of a row's dword, signed. */
INLINE void put_scales(factors *f, int i, __m512i four) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        _mm512_store_si512(
            f->scale[4 * i + j],
            _mm512_srai_epi32(_mm512_slli_epi32(four, (unsigned)(24 - 8 * j)), 24));
    }
}

/* Mins [4 i, 4 i + 4), unsigned, as two registers of pairs. */
INLINE void put_mins(factors *f, int i, __m512i four) {
    /* Bytes 0, 1 of each dword to words, then bytes 2, 3. */
    const __m512i first = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1));
    const __m512i second = _mm512_broadcast_i32x4(
        _mm_setr_epi8(2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1));
    _mm512_store_si512(f->min[2 * i], _mm512_shuffle_epi8(four, first));
    _mm512_store_si512(f->min[2 * i + 1], _mm512_shuffle_epi8(four, second));
}

INLINE void factors_q2_k(factors *f, __m512i four[4], const uint8_t *body,
                         const uint8_t *field) {
    for (int i = 0; i < 4; i++) {
        const __m512i both = line(body, i);
        four[i] = masked(both, 15);
        put_mins(f, i, _mm512_and_si512(shifted(both, 4), bytes(15)));
    }
    _mm512_store_ps(f->d, widen_f16(field));
    _mm512_store_ps(f->dmin, widen_f16(field + FIELD));
}

/* Scale i: four bits in bytes 0..7, two more in bytes 8..11 (quant/blocks.h). */
INLINE void factors_q3_k(factors *f, __m512i four[4], const uint8_t *body,
                         const uint8_t *field) {
    const __m512i a = line(body, 24), b = line(body, 25), c = line(body, 26);
    const __m512i bias = bytes(32);
    four[0] = _mm512_sub_epi8(merged(a, 15, turned(c, -4), 0x30), bias);
    four[1] = _mm512_sub_epi8(merged(b, 15, turned(c, -2), 0x30), bias);
    four[2] = _mm512_sub_epi8(merged(shifted(a, 4), 15, c, 0x30), bias);
    four[3] = _mm512_sub_epi8(merged(shifted(b, 4), 15, turned(c, 2), 0x30), bias);
    _mm512_store_ps(f->d, widen_f16(field));
}

INLINE void factors_q45_k(factors *f, __m512i four[4], const uint8_t *body,
                          const uint8_t *field) {
    const __m512i a = line(body, 0), b = line(body, 1), c = line(body, 2);
    four[0] = masked(a, 63);
    four[1] = merged(c, 15, shifted(a, 2), 0x30);
    put_mins(f, 0, masked(b, 63));
    put_mins(f, 1, merged(shifted(c, 4), 15, shifted(b, 2), 0x30));
    _mm512_store_ps(f->d, widen_f16(field));
    _mm512_store_ps(f->dmin, widen_f16(field + FIELD));
}

INLINE void factors_q6_k(factors *f, __m512i four[4], const uint8_t *body,
                         const uint8_t *field) {
    for (int i = 0; i < 4; i++) four[i] = line(body, 48 + i);
    _mm512_store_ps(f->d, widen_f16(field));
}

/* scales_l: 8 nibbles in order; scales_h: 8 pairs of bits in order. */
INLINE void factors_iq4_xs(factors *f, __m512i four[4], const uint8_t *body,
                           const uint8_t *field) {
    (void)four;
    const __m512i low = line(body, 0);
    const __m512i high = _mm512_cvtepu16_epi32(
        _mm256_loadu_si256((const __m256i *)(const void *)(field + FIELD)));
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const __m512i nibble = _mm512_and_si512(_mm512_srli_epi32(low, (unsigned)(4 * i)),
                                                _mm512_set1_epi32(15));
        const __m512i pair = _mm512_and_si512(_mm512_srli_epi32(high, (unsigned)(2 * i)),
                                              _mm512_set1_epi32(3));
        _mm512_store_si512(
            f->scale[i],
            _mm512_sub_epi32(_mm512_or_si512(nibble, _mm512_slli_epi32(pair, 4)),
                             _mm512_set1_epi32(32)));
    }
    _mm512_store_ps(f->d, widen_f16(field));
}

/* ---- what both paths share -------------------------------------------------------- */

/* The exact sum of mins of 16 rows times a token. */
INLINE __m512i min_products(const factors *f, const tug_act_q8_256 *x, int n_min) {
    const int16_t *x_sums = n_min == 16 ? x->sum16 : x->sum32;
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int i = 0; i < n_min / 2; i++) {
        sum = dot_words(sum, _mm512_load_si512(f->min[i]), broadcast32(x_sums + 2 * i));
    }
    return sum;
}

INLINE __m512 add_superblock(__m512 sum, __m512i products, const factors *f,
                             const tug_act_q8_256 *x, int n_min) {
    const __m512 dx = _mm512_set1_ps(x->d);
    sum = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(f->d), dx),
                          _mm512_cvtepi32_ps(products), sum);
    if (n_min == 0) return sum;
    return _mm512_fnmadd_ps(_mm512_mul_ps(_mm512_load_ps(f->dmin), dx),
                            _mm512_cvtepi32_ps(min_products(f, x, n_min)), sum);
}

/* ---- few tokens ------------------------------------------------------------------- */

/* start (16,) = -bias * the sums of 16 activations, as large as the bytes of its block. */
INLINE void start_of(int32_t start[16], const tug_act_q8_256 *x, format fmt) {
    const int down = fmt.bias == 4 ? 5 : fmt.bias == 32 ? 2 : 0; /* 128 / bias */
    const __m512i by = _mm512_mask_mov_epi32(_mm512_set1_epi32(down), 0xAAAA,
                                             _mm512_set1_epi32(down - fmt.odd_shift));
    _mm512_store_si512(start, _mm512_srav_epi32(_mm512_loadu_si512(x->start16), by));
}

/* sum (n_tok,) = the quads of a block, from `column` on, times each token. */
INLINE void gemv_block(__m512i *sum, const __m512i *w, int32_t (*start)[16],
                       const tug_act_q8_256 *const *x, int column, int block, int n_tok,
                       format fmt) {
#pragma GCC unroll 4
    for (int t = 0; t < n_tok; t++) {
        if (fmt.bias == 0) {
            sum[t] = _mm512_setzero_si512();
        } else if (fmt.block == 16) {
            sum[t] = broadcast32(&start[t][block]);
        } else {
            sum[t] = _mm512_add_epi32(broadcast32(&start[t][2 * block]),
                                      broadcast32(&start[t][2 * block + 1]));
        }
    }
#pragma GCC unroll 8
    for (int q = 0; q < fmt.block / 4; q++) {
#pragma GCC unroll 4
        for (int t = 0; t < n_tok; t++) {
            sum[t] = dot_quad(sum[t], w[q], x[t]->q + column + 4 * q);
        }
    }
}

/* total += sum * the scale of a block. */
INLINE void add_block(__m512i *total, const __m512i *sum, const factors *f, int block,
                      int n_tok) {
    const __m512i scale = _mm512_load_si512(f->scale[block]);
#pragma GCC unroll 4
    for (int t = 0; t < n_tok; t++) {
        total[t] = _mm512_add_epi32(total[t], _mm512_mullo_epi32(sum[t], scale));
    }
}

/* total += 256 * (even * its scale + odd * its), of the two blocks of a run: as 16-bit words,
 * for one instruction.  `four` has the scales of two runs in the bytes of each dword; moved
 * to the upper byte of a word they are 256 times themselves.  No total leaves 32 bits:
 * 256 columns * 127 * 4 * a scale of 32 * 256 < 2^30. */
INLINE void add_pair(__m512i *total, const __m512i *even, const __m512i *odd,
                     __m512i four, bool is_odd, int n_tok, format fmt) {
    const __m512i dwords =
        _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04000400, 0x08000800, 0x0C000C00));
    const __m512i own = _mm512_set1_epi32(is_odd ? 0x03800280 : 0x01800080);
    const __m512i scale = _mm512_shuffle_epi8(four, _mm512_or_si512(dwords, own));
#pragma GCC unroll 4
    for (int t = 0; t < n_tok; t++) {
        /* upper | (even & 0xFFFF); the shift also takes away what cheap bytes are larger. */
        const __m512i upper = _mm512_slli_epi32(odd[t], (unsigned)(16 - fmt.odd_shift));
        const __m512i words =
            _mm512_ternarylogic_epi32(upper, even[t], _mm512_set1_epi32(0xFFFF), 0xF8);
        total[t] = dot_words(total[t], words, scale);
    }
}

/* The sums of a superblock that is under way. */
typedef struct gemv_sums {
    __m512i even[GEMV_TOKENS]; /* of even blocks; of all, 256 times, if fmt.folded */
    __m512i odd[GEMV_TOKENS];  /* of odd blocks, see unpack_fn */
} gemv_sums;

/* Adds a run.  `is_odd` is run % 2: a constant. */
INLINE void gemv_run(gemv_sums *s, const factors *f, const __m512i *four,
                     const uint8_t *body, int32_t (*start)[16],
                     const tug_act_q8_256 *const *x, int run, bool is_odd, int n_tok,
                     format fmt, stream_end end) {
    __m512i w[8], first[GEMV_TOKENS], second[GEMV_TOKENS];
    /* An eighth of the superblock's lines: spread like this, memory keeps up.  (Rounded up;
     * asking for none of them twice makes it 1 to 2 % slower.) */
    const int share = (fmt.n_line + 7) / 8, half = fmt.block == 16 ? share / 2 : 0;
    const uint8_t *const ask = body + (ptrdiff_t)share * LINE * run;
    stream(ask, (size_t)((share - half) * LINE), end);
    const __m512i as_is[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    fmt.unpack(w, body, run, is_odd, true, as_is);
    if (fmt.block == 32) {
        gemv_block(first, w, start, x, 32 * run, run, n_tok, fmt);
        add_block(is_odd ? s->odd : s->even, first, f, run, n_tok);
        return;
    }
    gemv_block(first, w, start, x, 32 * run, 2 * run, n_tok, fmt);
    stream(ask + (ptrdiff_t)(share - half) * LINE, (size_t)(half * LINE), end);
    gemv_block(second, w + 4, start, x, 32 * run + 16, 2 * run + 1, n_tok, fmt);
    if (fmt.folded) {
        add_pair(s->even, first, second, four[run / 2], is_odd, n_tok, fmt);
    } else {
        add_block(s->even, first, f, 2 * run, n_tok);
        add_block(s->odd, second, f, 2 * run + 1, n_tok);
    }
}

/* total (n_tok,) = one superblock of 16 rows times a record of each token, exactly. */
INLINE void gemv_superblock(__m512i *total, const factors *f, const __m512i *four,
                            const uint8_t *body, const tug_act_q8_256 *const *x,
                            int n_tok, format fmt, stream_end end) {
    int32_t start[GEMV_TOKENS][16] __attribute__((aligned(64)));
    gemv_sums s;
#pragma GCC unroll 4
    for (int t = 0; t < n_tok; t++) {
        if (fmt.bias != 0) start_of(start[t], x[t], fmt);
        s.even[t] = s.odd[t] = _mm512_setzero_si512();
    }
    for (int run = 0; run < 8; run += 2) {
        gemv_run(&s, f, four, body, start, x, run, false, n_tok, fmt, end);
        gemv_run(&s, f, four, body, start, x, run + 1, true, n_tok, fmt, end);
    }
#pragma GCC unroll 4
    for (int t = 0; t < n_tok; t++) {
        total[t] =
            fmt.folded
                ? _mm512_srai_epi32(s.even[t], 8)
                : _mm512_add_epi32(s.even[t],
                                   _mm512_srai_epi32(s.odd[t], (unsigned)fmt.odd_shift));
    }
}

/* The group of 16 rows from r0, tokens [t0, t0 + n_tok). */
INLINE void gemv_group(const tug_linear_args *a, int64_t r0, int64_t t0, int n_tok,
                       format fmt) {
    const int64_t n_blocks = a->n_cols / TUG_QK_K;
    const uint8_t *body = (const uint8_t *)a->w + (size_t)r0 * a->w_row_bytes;
    const uint8_t *field = body + (size_t)n_blocks * (size_t)(fmt.n_line * LINE);
    const stream_end end = end_of(a);
    stream_fields(field, (size_t)(n_blocks * fmt.n_field * FIELD),
                  TUG_PACK_ROWS * a->w_row_bytes, end);
    const tug_act_q8_256 *x[GEMV_TOKENS];
    __m512 sum[GEMV_TOKENS];
    for (int t = 0; t < n_tok; t++) {
        x[t] = token_row(a, t0 + t);
        sum[t] = _mm512_setzero_ps();
    }
    for (int64_t c = 0; c < n_blocks; c++) {
        factors f;
        __m512i total[GEMV_TOKENS];
        __m512i four[4];
        fmt.factors(&f, four, body, field);
        for (int i = 0; i < fmt.n_four && !fmt.folded; i++) put_scales(&f, i, four[i]);
        gemv_superblock(total, &f, four, body, x, n_tok, fmt, end);
#pragma GCC unroll 4
        for (int t = 0; t < n_tok; t++) {
            sum[t] = add_superblock(sum[t], total[t], &f, x[t], fmt.n_min);
            x[t]++;
        }
        body += fmt.n_line * LINE;
        field += fmt.n_field * FIELD;
    }
#pragma GCC unroll 4
    for (int t = 0; t < n_tok; t++) {
        _mm512_storeu_ps(a->y + (t0 + t) * a->y_stride + r0, sum[t]);
    }
}

INLINE void gemv(const tug_linear_args *a, format f) {
    for (int64_t r0 = 0; r0 < a->n_rows; r0 += TUG_PACK_ROWS) {
        for (int64_t t0 = 0; t0 < a->n_tok; t0 += GEMV_TOKENS) {
            switch (a->n_tok - t0) {
            case 1: gemv_group(a, r0, t0, 1, f); break;
            case 2: gemv_group(a, r0, t0, 2, f); break;
            case 3: gemv_group(a, r0, t0, 3, f); break;
            default: gemv_group(a, r0, t0, 4, f); break;
            }
        }
    }
}

/* ---- panels ----------------------------------------------------------------------- */

/* For one scale per 256 columns a panel holds the exact products of the values with their
 * sub-block's scale, *negated*: Q3_K's -4..3 times -32..31 fits in eight bits only then
 * (-124..128 becomes -128..124).  With the byte u, of Q3_K 0..7 and of Q2_K 0..3, and
 * s = |scale|, u s stays below 256, so one 16-bit multiplication does two columns.  Where
 * the scale is positive the products must fall as u grows: there the bits of u are
 * flipped, which makes it 7 - u or 3 - u.  Either way, and for both formats (Q2_K has no
 * negative scale), the byte of a panel becomes
 *   128 - (u - bias) scale = u s + 128 - 4 s + max(scale, 0). */
typedef struct folding {
    __m512i size, flip, offset; /* u -> (u ^ flip) * size + offset */
} folding;

/* Those of 4 sub-blocks in turn, whose scales are the bytes of each dword. */
INLINE void fold(folding fold[4], __m512i scale, int top) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i size = _mm512_abs_epi8(scale);
    const __m512i flip =
        _mm512_maskz_mov_epi8(_mm512_cmpgt_epi8_mask(scale, zero), bytes(top));
    const __m512i offset =
        _mm512_add_epi8(_mm512_sub_epi8(bytes(-128), _mm512_slli_epi16(size, 2)),
                        _mm512_max_epi8(scale, zero));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512i dwords =
            _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
        const __m512i own = _mm512_add_epi8(dwords, _mm512_set1_epi32(i));
        const __m512i all = _mm512_mullo_epi32(own, _mm512_set1_epi32(0x01010101));
        const __m512i words =
            _mm512_or_si512(_mm512_mullo_epi32(own, _mm512_set1_epi32(0x00010001)),
                            _mm512_set1_epi32((int)0x80008000));
        fold[i].size = _mm512_shuffle_epi8(size, words);
        fold[i].flip = _mm512_shuffle_epi8(flip, all);
        fold[i].offset = _mm512_shuffle_epi8(offset, all);
    }
}

/* Columns [32 run, 32 run + 32), whose foldings are own (2,), if they have any. */
INLINE void fill_run(panel *p, const uint8_t *body, const folding *own, int run,
                     bool is_odd, format f) {
    __m512i w[8];
    const __m512i flip[2] = {own[0].flip, own[1].flip};
    f.unpack(w, body, run, is_odd, false, flip);
#pragma GCC unroll 8
    for (int q = 0; q < 8; q++) {
        if (f.folded) {
            w[q] = _mm512_add_epi8(_mm512_mullo_epi16(w[q], own[q / 4].size),
                                   own[q / 4].offset);
        } else if (f.bias == 32) {
            w[q] = _mm512_add_epi8(w[q], bytes(128 - 32));
        }
        _mm512_store_si512(p->w[8 * run + q], w[q]);
    }
}

INLINE void fill_panel(panel *p, const uint8_t *body, const uint8_t *field, format f) {
    __m512i four[4];
    f.factors(&p->f, four, body, field);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        folding own[4] = {0};
        if (f.folded) {
            fold(own, four[i], f.top);
        } else if (i < f.n_four) {
            put_scales(&p->f, i, four[i]);
        }
        fill_run(p, body, own, 2 * i, false, f);
        fill_run(p, body, own + 2, 2 * i + 1, true, f);
    }
    if (f.folded) {
        _mm512_store_ps(p->f.d,
                        _mm512_sub_ps(_mm512_setzero_ps(), _mm512_load_ps(p->f.d)));
    }
}

/* ---- tiles ------------------------------------------------------------------------ */

/* The sums of a tile, as registers.  n_panels and n_tok are constants wherever this is
 * used, so that only as many exist. */
typedef struct sums {
    __m512i at[TILE_PANELS][TILE_TOKENS];
} sums;

/* s += columns [4 first, 4 (first + n)) of the panels times the tokens. */
INLINE void add_columns(sums *s, const panel *p, const tug_act_q8_256 *const *x,
                        int first, int n, int n_panels, int n_tok) {
#pragma GCC unroll 8
    for (int c = first; c < first + n; c++) {
        __m512i w[TILE_PANELS];
#pragma GCC unroll 4
        for (int v = 0; v < n_panels; v++) w[v] = _mm512_load_si512(p[v].w[c]);
#pragma GCC unroll 6
        for (int t = 0; t < n_tok; t++) {
            const __m512i xt = broadcast32(x[t]->q + 4 * c);
#pragma GCC unroll 4
            for (int v = 0; v < n_panels; v++) {
                s->at[v][t] = dot_bytes(s->at[v][t], w[v], xt);
            }
        }
    }
}

/* s = for each token t the dword at x[t] + offset, or zero. */
INLINE void start_sums(sums *s, const tug_act_q8_256 *const *x, bool zero, size_t offset,
                       int n_panels, int n_tok) {
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
#pragma GCC unroll 4
        for (int v = 0; v < n_panels; v++) {
            s->at[v][t] =
                zero ? _mm512_setzero_si512() : broadcast32((const char *)x[t] + offset);
        }
    }
}

/* total += s * the scales of a block. */
INLINE void add_scaled(sums *total, const sums *s, const panel *p, int block,
                       int n_panels, int n_tok) {
#pragma GCC unroll 4
    for (int v = 0; v < n_panels; v++) {
        const __m512i scale = _mm512_load_si512(p[v].f.scale[block]);
#pragma GCC unroll 6
        for (int t = 0; t < n_tok; t++) {
            total->at[v][t] =
                _mm512_add_epi32(total->at[v][t], _mm512_mullo_epi32(s->at[v][t], scale));
        }
    }
}

/* The same for sums that fit 16 bits: one instruction where VPMULLD is two on Intel. */
INLINE void add_scaled_words(sums *total, const sums *s, const panel *p, int block,
                             int n_panels, int n_tok) {
#pragma GCC unroll 4
    for (int v = 0; v < n_panels; v++) {
        /* Unsigned, so the upper word of each lane, which meets the sums' signs, is 0. */
        const __m512i scale = _mm512_load_si512(p[v].f.scale[block]);
#pragma GCC unroll 6
        for (int t = 0; t < n_tok; t++) {
            total->at[v][t] = dot_words(total->at[v][t], s->at[v][t], scale);
        }
    }
}

/* total += columns [16 i, 16 i + 16), whose sums fit 16 bits. */
INLINE void add_half_block(sums *total, const panel *p, const tug_act_q8_256 *const *x,
                           int i, int block, int n_panels, int n_tok) {
    sums s;
    start_sums(&s, x, true, 0, n_panels, n_tok);
    add_columns(&s, p, x, 4 * i, 4, n_panels, n_tok);
    add_scaled_words(total, &s, p, block, n_panels, n_tok);
}

/* The exact integers of a tile. */
INLINE void tile_products(sums *total, const panel *p, const tug_act_q8_256 *const *x,
                          format f, int n_panels, int n_tok) {
    if (f.folded) {
        start_sums(total, x, false, offsetof(tug_act_q8_256, start), n_panels, n_tok);
        for (int c = 0; c < 64; c += 2) add_columns(total, p, x, c, 2, n_panels, n_tok);
        return;
    }
    start_sums(total, x, true, 0, n_panels, n_tok);
    for (int b = 0; b < 256 / f.block; b++) {
        if (f.words) {
            add_half_block(total, p, x, 2 * b, b, n_panels, n_tok);
            add_half_block(total, p, x, 2 * b + 1, b, n_panels, n_tok);
            continue;
        }
        sums s;
        start_sums(&s, x, f.bias == 0,
                   offsetof(tug_act_q8_256, start16) +
                       (size_t)(b * (f.block / 16)) * sizeof(int32_t),
                   n_panels, n_tok);
        if (f.bias == 128) { /* the second 16 of the block */
#pragma GCC unroll 6
            for (int t = 0; t < n_tok; t++) {
                const __m512i more = broadcast32(&x[t]->start16[2 * b + 1]);
#pragma GCC unroll 4
                for (int v = 0; v < n_panels; v++) {
                    s.at[v][t] = _mm512_add_epi32(s.at[v][t], more);
                }
            }
        }
        add_columns(&s, p, x, b * f.block / 4, f.block / 4, n_panels, n_tok);
        add_scaled(total, &s, p, b, n_panels, n_tok);
    }
}

INLINE void tile_of(float *sum, const panel *p, const tug_act_q8_256 *const *x, format f,
                    bool is_first, int n_panels, int n_tok) {
    sums total;
    tile_products(&total, p, x, f, n_panels, n_tok);
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
#pragma GCC unroll 4
        for (int v = 0; v < n_panels; v++) {
            float *at = sum + 16 * (t * n_panels + v);
            const __m512 before = is_first ? _mm512_setzero_ps() : _mm512_load_ps(at);
            _mm512_store_ps(
                at, add_superblock(before, total.at[v][t], &p[v].f, x[t], f.n_min));
        }
    }
}

INLINE void tile_of_panels(float *sum, const panel *p, const tug_act_q8_256 *const *x,
                           format f, bool is_first, int n_panels, int n_tok) {
    switch (n_tok) {
    case 1: tile_of(sum, p, x, f, is_first, n_panels, 1); break;
    case 2: tile_of(sum, p, x, f, is_first, n_panels, 2); break;
    case 3: tile_of(sum, p, x, f, is_first, n_panels, 3); break;
    case 4: tile_of(sum, p, x, f, is_first, n_panels, 4); break;
    case 5: tile_of(sum, p, x, f, is_first, n_panels, 5); break;
    default: tile_of(sum, p, x, f, is_first, n_panels, 6); break;
    }
}

/* As many panels as there are registers for: with a scale per block a tile has the sums
 * of the block beside those of the superblock. */
INLINE int panels_of(bool is_folded) {
    return is_folded ? 4 : 2;
}

/* A tile's code depends on the format only by these numbers. */
#define TILE(name, bias_, n_min_, block_, folded_, words_)                         \
    static __attribute__((noinline)) void tile_##name(                             \
        float *sum, const panel *p, const tug_act_q8_256 *const *x, bool is_first, \
        int n_panels, int n_tok) {                                                 \
        const format f = {.bias = bias_,                                           \
                          .n_min = n_min_,                                         \
                          .block = block_,                                         \
                          .folded = folded_,                                       \
                          .words = words_};                                        \
        if (n_panels == 1) {                                                       \
            tile_of_panels(sum, p, x, f, is_first, 1, n_tok);                      \
        } else {                                                                   \
            tile_of_panels(sum, p, x, f, is_first, panels_of(folded_), n_tok);     \
        }                                                                          \
    }
TILE(q2_k, 0, 16, 16, true, false)
TILE(q3_k, 4, 0, 16, true, false)
TILE(q4_k, 0, 8, 32, false, true)
TILE(q5_k, 0, 8, 32, false, false)
TILE(q6_k, 32, 0, 16, false, false)
TILE(iq4_xs, 128, 0, 32, false, false)

/* ---- many tokens ------------------------------------------------------------------ */

/* n_panels * 16 rows from r0, tokens [t0, t0 + n_tok). */
INLINE void gemm_block(const tug_linear_args *a, int64_t r0, int n_panels, int64_t t0,
                       int n_tok, format f) {
    const tug_act_q8_256 *x[BLOCK_TOKENS];
    float sum[BLOCK_TOKENS * TILE_PANELS * 16] __attribute__((aligned(64)));
    panel p[TILE_PANELS];
    const int64_t n_blocks = a->n_cols / TUG_QK_K;
    const size_t group = TUG_PACK_ROWS * a->w_row_bytes,
                 body_bytes = (size_t)f.n_line * LINE;
    const uint8_t *body = (const uint8_t *)a->w + (size_t)r0 * a->w_row_bytes;
    const uint8_t *field = body + (size_t)n_blocks * body_bytes;
    const char *next = (const char *)body + (size_t)n_panels * group;
    for (int t = 0; t < n_tok; t++) x[t] = token_row(a, t0 + t);
    /* The rows after these, a piece at a time: all at once would fill the miss buffers. */
    const int n_tiles = (n_tok + TILE_TOKENS - 1) / TILE_TOKENS;
    const int n_pieces = n_panels + n_tiles;
    const size_t piece = (size_t)((n_panels * f.n_line + n_pieces - 1) / n_pieces * LINE);
    for (int64_t c = 0; c < n_blocks; c++) {
        for (int v = 0; v < n_panels; v++) {
            prefetch(next, piece);
            next += piece;
            fill_panel(&p[v], body + (size_t)v * group, field + (size_t)v * group, f);
        }
        for (int t = 0; t < n_tok; t += TILE_TOKENS) {
            const int n = n_tok - t < TILE_TOKENS ? n_tok - t : TILE_TOKENS;
            prefetch(next, piece);
            next += piece;
            for (int i = t + TILE_TOKENS; i < n_tok && i < t + 2 * TILE_TOKENS; i++) {
                prefetch_near(x[i], sizeof *x[i]);
            }
            f.tile(sum + (ptrdiff_t)t * n_panels * 16, p, x + t, c == 0, n_panels, n);
        }
        body += body_bytes;
        field += f.n_field * FIELD;
        for (int t = 0; t < n_tok; t++) x[t]++;
    }
    store_sums(a, r0, n_panels, t0, n_tok, sum);
}

INLINE void gemm(const tug_linear_args *a, format f) {
    const int wide = panels_of(f.folded);
    for (int64_t r0 = 0, n_panels; r0 < a->n_rows; r0 += TUG_PACK_ROWS * n_panels) {
        n_panels = a->n_rows - r0 >= (int64_t)TUG_PACK_ROWS * wide ? wide : 1;
        for (int64_t t0 = 0; t0 < a->n_tok; t0 += BLOCK_TOKENS) {
            const int64_t left = a->n_tok - t0;
            gemm_block(a, r0, (int)n_panels, t0,
                       left < BLOCK_TOKENS ? (int)left : BLOCK_TOKENS, f);
        }
    }
}

#define DEFINE(name, own_factors, own_tile, n_line_, n_field_, bias_, n_min_, block_, \
               n_four_, shift, top_)                                                  \
    static_assert((n_line_)*4 + (n_field_)*2 == sizeof(tug_block_##name),             \
                  "a block is its lines and its fields");                             \
    void tug_packed_##name##_avx512(const tug_linear_args *a) {                       \
        const format f = {.unpack = unpack_##name,                                    \
                          .factors = factors_##own_factors,                           \
                          .tile = tile_##own_tile,                                    \
                          .n_line = n_line_,                                          \
                          .n_field = n_field_,                                        \
                          .bias = bias_,                                              \
                          .n_min = n_min_,                                            \
                          .block = block_,                                            \
                          .n_four = n_four_,                                          \
                          .odd_shift = shift,                                         \
                          .top = top_,                                                \
                          .folded = top_ > 0};                                        \
        if (a->n_tok < GEMM_FROM) {                                                   \
            gemv(a, f);                                                               \
        } else {                                                                      \
            gemm(a, f);                                                               \
        }                                                                             \
    }
DEFINE(q2_k, q2_k, q2_k, 20, 2, 0, 16, 16, 4, 0, 3)
DEFINE(q3_k, q3_k, q3_k, 27, 1, 4, 0, 16, 4, 3, 7)
DEFINE(q4_k, q45_k, q4_k, 35, 2, 0, 8, 32, 2, 4, 0)
DEFINE(q5_k, q45_k, q5_k, 43, 2, 0, 8, 32, 2, 0, 0)
DEFINE(q6_k, q6_k, q6_k, 52, 1, 32, 0, 16, 4, 0, 0)
DEFINE(iq4_xs, iq4_xs, iq4_xs, 33, 2, 128, 0, 32, 0, 0, 0)
