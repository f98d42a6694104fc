/* packed_k_avx2.c - packed K-quants times int8 activations.
 *
 * VALUE  The integer sum of a superblock (256 columns of one row and token) is exact,
 * whichever way it is computed.  Each (row, token) then does, superblock after superblock,
 *   sum = fma(d_w * d_x, (float)integer, sum)
 *   sum = fnma(dmin_w * d_x, (float)integer of mins, sum)    for formats with mins.
 * The kernels over plain rows do just that too (linear_k_avx2.c).
 *
 * 16 columns of a group of 16 rows are unpacked into 8 registers, unsigned bytes, and meet
 * every token: VPMADDUBSW leaves sums of two products in 16 bits; those of as many quads
 * as fit there are added up before VPMADDWD multiplies them by the scale of their 16
 * columns and widens them.  So little is unpacked for a product that no panel is kept, and
 * one token goes the same way as many.  SPDX-License-Identifier: MIT */
#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_packed_avx2.h"
#include "quant/blocks.h"

/* What a superblock of 16 rows has beside its weights. */
typedef struct factors {
    int16_t scale[16][32]; /* (16, 16, 2): 16 columns; row; twice the same */
    int16_t pair[8][32];   /* (8, 16, 2): mins, or bias * scale; as many as there are */
    float d[16], dmin[16]; /* per row */
} factors __attribute__((aligned(64)));

/* w = the 4 quads of columns [16 block, 16 block + 16) as unsigned bytes; the value of a
 * weight is d * scale * (byte - bias).  at is block % 4: a constant, which block is not. */
typedef void unpack_fn(v64 w[4], const uint8_t *body, int block, int at);
/* Scales, pairs, d and dmin. */
typedef void factors_fn(factors *f, const uint8_t *body, const uint8_t *field);

typedef struct format {
    unpack_fn *unpack;
    factors_fn *factors;
    int n_line, n_field; /* of a superblock */
    int fit;             /* quads whose products fit in 16 bits: 2 or 4 */
    int n_pair;          /* numbers in `pair`: 0, 8 or 16 */
    bool has_min;        /* they are mins */
} format;

/* ---- formats ---------------------------------------------------------------------- */

INLINE void unpack_q2_k(v64 w[4], const uint8_t *body, int block, int at) {
    const int run = block / 2;
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        w[q] = field64(line(body, 4 + run / 4 * 8 + at % 2 * 4 + q), run % 4 * 2, 3);
    }
}

INLINE void unpack_q3_k(v64 w[4], const uint8_t *body, int block, int at) {
    const int run = block / 2, down = at % 2 * 3;
    const v64 a = line(body, 3 * run), b = line(body, 3 * run + 1),
              c = line(body, 3 * run + 2);
    w[0] = field64(a, down, 7);
    w[1] = field64(b, down, 7);
    w[2] = field64(c, down, 7);
    w[3] = at % 2 ? join64(b, 6, 3, c, 5, 4) : join64(a, 6, 3, c, 4, 4);
}

INLINE void unpack_q4_k(v64 w[4], const uint8_t *body, int block, int at) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        w[q] = field64(line(body, 3 + block / 4 * 8 + at % 2 * 4 + q), at / 2 * 4, 15);
    }
}

INLINE void unpack_q5_k(v64 w[4], const uint8_t *body, int block, int at) {
    v64 v[5];
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) v[i] = line(body, 3 + 5 * (block / 2) + i);
    if (at % 2 == 0) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) w[q] = mask64(v[q], 31);
        return;
    }
    w[0] = mask64(v[4], 31);
    w[1] = join64(v[0], 5, 7, v[1], 2, 0x18);
    w[2] = join64(v[2], 5, 7, v[3], 2, 0x18);
    w[3] = join64(v[4], 5, 7, v[1], 4, 8);
    w[3] = merge64(w[3], 15, turn64(v[3], -3, -3), 16);
}

INLINE void unpack_q6_k(v64 w[4], const uint8_t *body, int block, int at) {
    (void)at;
    const v64 a = line(body, 3 * block), b = line(body, 3 * block + 1),
              c = line(body, 3 * block + 2);
    w[0] = mask64(a, 63);
    w[1] = mask64(b, 63);
    w[2] = mask64(c, 63);
    w[3] = merge64(join64(a, 6, 3, b, 4, 0x0C), 15, turn64(c, -2, -2), 0x30);
}

/* Scales [4 i, 4 i + 4), a signed byte each in a row's dword. */
INLINE void put_scales(factors *f, int i, v64 four) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        store_words(f->scale[4 * i + j], signed_down(pick64(four, NONE, j, NONE, j), 8));
    }
}

/* The same of 32 columns each: [8 i, 8 i + 8) of 16. */
INLINE void put_wide_scales(factors *f, int i, v64 four) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const v64 both = pick64(four, j, NONE, j, NONE);
        store_words(f->scale[8 * i + 2 * j], both);
        store_words(f->scale[8 * i + 2 * j + 1], both);
    }
}

/* Four signed bytes a row, times 2^up, as pairs [2 i, 2 i + 2). */
INLINE void put_pairs(factors *f, int i, v64 four, int up) {
    store_words(f->pair[2 * i], signed_down(pick64(four, NONE, 0, NONE, 1), 8 - up));
    store_words(f->pair[2 * i + 1], signed_down(pick64(four, NONE, 2, NONE, 3), 8 - up));
}

INLINE void factors_q2_k(factors *f, const uint8_t *body, const uint8_t *field) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        put_scales(f, i, mask64(line(body, i), 15));
        put_pairs(f, i, field64(line(body, i), 4, 15), 0);
    }
    widen_f16(f->d, field);
    widen_f16(f->dmin, field + FIELD);
}

/* Scale i: four bits in bytes 0..7, two more in bytes 8..11 (quant/blocks.h). */
INLINE void factors_q3_k(factors *f, const uint8_t *body, const uint8_t *field) {
    const v64 a = line(body, 24), b = line(body, 25), c = line(body, 26);
    const v64 six[4] = {merge64(a, 15, turn64(c, 4, 4), 0x30),
                        merge64(b, 15, turn64(c, 2, 2), 0x30),
                        join64(a, 4, 15, c, 0, 0x30), join64(b, 4, 15, c, 2, 0x30)};
    const __m256i bias = _mm256_set1_epi8(32);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const v64 scales = pair64(_mm256_sub_epi8(six[i].half[0], bias),
                                  _mm256_sub_epi8(six[i].half[1], bias));
        put_scales(f, i, scales);
        put_pairs(f, i, scales, 2);
    }
    widen_f16(f->d, field);
}

INLINE void factors_q45_k(factors *f, const uint8_t *body, const uint8_t *field) {
    const v64 a = line(body, 0), b = line(body, 1), c = line(body, 2);
    put_wide_scales(f, 0, mask64(a, 63));
    put_wide_scales(f, 1, join64(c, 0, 15, a, 2, 0x30));
    put_pairs(f, 0, mask64(b, 63), 0);
    put_pairs(f, 1, join64(c, 4, 15, b, 2, 0x30), 0);
    widen_f16(f->d, field);
    widen_f16(f->dmin, field + FIELD);
}

INLINE void factors_q6_k(factors *f, const uint8_t *body, const uint8_t *field) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        put_scales(f, i, line(body, 48 + i));
        put_pairs(f, i, line(body, 48 + i), 5);
    }
    widen_f16(f->d, field);
}

/* ---- products --------------------------------------------------------------------- */

/* total (n_tok,) += 16 columns, unpacked to w, of the tokens' q (n_tok, 16) times their
 * scale. */
INLINE void add_columns(v64 *total, const v64 w[4], const int16_t *scale, const int8_t *q,
                        int n_tok, int fit) {
    const v64 scales = load_words(scale);
    for (int t = 0; t < n_tok; t++, q += 16) {
        v64 sum = byte_products(w[0], broadcast32(q));
        sum = add16(sum, byte_products(w[1], broadcast32(q + 4)));
        v64 more = byte_products(w[2], broadcast32(q + 8));
        if (fit == 2) {
            total[t] = add32(total[t], word_products(sum, scales));
            sum = more;
        } else {
            sum = add16(sum, more);
        }
        more = byte_products(w[3], broadcast32(q + 12));
        total[t] = add32(total[t], word_products(add16(sum, more), scales));
    }
}

/* total (n_tok,) = a superblock of 16 rows times a record of each token, q (16, n_tok, 16). */
INLINE void add_superblock(v64 *total, const factors *f, const uint8_t *body,
                           const int8_t *q, int n_tok, format fmt, stream_end end) {
    const int share = (fmt.n_line + 15) / 16; /* of the lines: memory keeps up */
    for (int t = 0; t < n_tok; t++) total[t] = zero64();
    for (int i = 0; i < 16; i += 4) {
#pragma GCC unroll 4
        for (int at = 0; at < 4; at++) {
            v64 w[4];
            const int block = i + at;
            if (n_tok == 1) {
                stream(body + (ptrdiff_t)share * LINE * block, (size_t)(share * LINE),
                       end);
            }
            fmt.unpack(w, body, block, at);
            add_columns(total, w, f->scale[block], q + (ptrdiff_t)16 * n_tok * block,
                        n_tok, fmt.fit);
        }
    }
}

/* The exact sum of f's pairs times the sums of a token's activations. */
INLINE v64 pair_products(const factors *f, const tug_act_q8_256 *x, int n_pair) {
    const int16_t *x_sums = n_pair == 16 ? x->sum16 : x->sum32;
    v64 sum = zero64();
#pragma GCC unroll 8
    for (int i = 0; i < n_pair / 2; i++) {
        sum = add32(sum,
                    word_products1(load_words(f->pair[i]), broadcast32(x_sums + 2 * i)));
    }
    return sum;
}

/* sum (16,) += the superblock whose integers are in total. */
INLINE void finish(float *sum, v64 total, const factors *f, const tug_act_q8_256 *x,
                   format fmt) {
    const __m256 dx = _mm256_set1_ps(x->d);
    const v64 pairs = pair_products(f, x, fmt.n_pair);
    if (!fmt.has_min && fmt.n_pair > 0) total = sub32(total, pairs);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m256 s = _mm256_loadu_ps(sum + 8 * h);
        s = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(f->d + 8 * h), dx),
                            _mm256_cvtepi32_ps(total.half[h]), s);
        if (fmt.has_min) {
            s = _mm256_fnmadd_ps(_mm256_mul_ps(_mm256_load_ps(f->dmin + 8 * h), dx),
                                 _mm256_cvtepi32_ps(pairs.half[h]), s);
        }
        _mm256_storeu_ps(sum + 8 * h, s);
    }
}

/* sum (n_tok,) at a distance of `step` += one superblock of 16 rows. */
INLINE void group_superblock(float *sum, int step, const uint8_t *body,
                             const uint8_t *field, const int8_t *q,
                             const tug_act_q8_256 *const *x, int n_tok, format fmt,
                             stream_end end) {
    factors f;
    v64 total[BLOCK_TOKENS];
    fmt.factors(&f, body, field);
    add_superblock(total, &f, body, q, n_tok, fmt, end);
    for (int t = 0; t < n_tok; t++) {
        finish(sum + (ptrdiff_t)step * t, total[t], &f, x[t], fmt);
    }
}

/* The values of a record, 16 each at a distance of n_tok: as the kernels read them, so that
 * tokens do not meet in a few sets of the first-level cache. */
INLINE void regroup(int8_t (*out)[16], int n_tok, const int8_t *q) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) memcpy(out[(ptrdiff_t)i * n_tok], q + 16 * i, 16);
}

/* ---- calls ------------------------------------------------------------------------ */

INLINE void linear_block(const tug_linear_args *a, int64_t r0, int n_group, int64_t t0,
                         int n_tok, format fmt) {
    const tug_act_q8_256 *x[BLOCK_TOKENS];
    int8_t q[16 * BLOCK_TOKENS][16];
    float sum[BLOCK_TOKENS * BLOCK_GROUPS * TUG_PACK_ROWS];
    const int64_t n_blocks = a->n_cols / TUG_QK_K;
    const int step = n_group * TUG_PACK_ROWS;
    const size_t group = TUG_PACK_ROWS * a->w_row_bytes,
                 body_bytes = (size_t)fmt.n_line * LINE,
                 field_bytes = (size_t)fmt.n_field * FIELD;
    const uint8_t *body = (const uint8_t *)a->w + (size_t)r0 * a->w_row_bytes;
    const uint8_t *field = body + (size_t)n_blocks * body_bytes;
    const char *next = (const char *)body + (size_t)n_group * group;
    const stream_end end = end_of(a);
    if (n_tok == 1) {
        stream_fields(field, (size_t)n_blocks * field_bytes, group, end);
    }
    for (int t = 0; t < n_tok; t++) x[t] = token_row(a, t0 + t);
    memset(sum, 0, (size_t)(n_tok * step) * sizeof *sum);
    for (int64_t c = 0; c < n_blocks; c++) {
        for (int t = 0; t < n_tok && n_tok > 1; t++) regroup(q + t, n_tok, x[t]->q);
        for (int g = 0; g < n_group; g++) {
            const uint8_t *own = body + (size_t)g * group;
            const uint8_t *own_field = field + (size_t)g * group;
            float *to = sum + (ptrdiff_t)g * TUG_PACK_ROWS;
            if (n_tok == 1) {
                group_superblock(to, step, own, own_field, x[0]->q, x, 1, fmt, end);
                continue;
            }
            if (n_tok > 1) {
                prefetch(next, body_bytes);
                next += body_bytes;
            }
            group_superblock(to, step, own, own_field, q[0], x, n_tok, fmt, end);
        }
        body += body_bytes;
        field += field_bytes;
        for (int t = 0; t < n_tok; t++) x[t]++;
    }
    store_sums(a, r0, n_group, t0, n_tok, sum);
}

#define DEFINE(name, own_factors, n_line_, n_field_, fit_, n_pair_, has_min_)   \
    static_assert((n_line_)*4 + (n_field_)*2 == sizeof(tug_block_##name),       \
                  "a block is its lines and its fields");                       \
    static void block_##name(const tug_linear_args *a, int64_t r0, int n_group, \
                             int64_t t0, int n_tok) {                           \
        const format f = {.unpack = unpack_##name,                              \
                          .factors = factors_##own_factors,                     \
                          .n_line = n_line_,                                    \
                          .n_field = n_field_,                                  \
                          .fit = fit_,                                          \
                          .n_pair = n_pair_,                                    \
                          .has_min = has_min_};                                 \
        linear_block(a, r0, n_group, t0, n_tok, f);                             \
    }                                                                           \
    void tug_packed_##name##_avx2(const tug_linear_args *a) {                   \
        packed_blocks(a, block_##name);                                         \
    }
DEFINE(q2_k, q2_k, 20, 2, 4, 16, true)
DEFINE(q3_k, q3_k, 27, 1, 4, 16, false)
DEFINE(q4_k, q45_k, 35, 2, 4, 8, true)
DEFINE(q5_k, q45_k, 43, 2, 4, 8, true)
DEFINE(q6_k, q6_k, 52, 1, 2, 16, false)
