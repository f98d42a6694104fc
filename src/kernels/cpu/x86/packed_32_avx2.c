/* packed_32_avx2.c - the packed formats with one scale per 32 (Q8_0, Q4_0, Q4_1, Q5_0,
 * Q5_1, IQ4_NL) times int8 activations with one scale per 32.
 *
 * VALUE  The integer sum of a block is exact, whichever way it is computed.  Each (row,
 * token) then does, block after block,
 *   sum = fma(d_w * d_x, (float)integer, sum)
 *   sum = fma(m_w, d_x * sum of x, sum)    for formats with a min.
 * The kernels over plain rows do just that too (linear_32_avx2.c).
 *
 * As in packed_k_avx2.c a part of a block is unpacked into 8 registers, which meet every
 * token: 16 columns of the formats of 4 and 5 bits as unsigned bytes, 8 columns of those
 * of 8 bits as words.  SPDX-License-Identifier: MIT */
#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_packed_avx2.h"
#include "quant/blocks.h"

/* Quad q of a block: unsigned bytes, value[i] = d * (byte - bias) + m, or signed ones. */
typedef v64 quad_fn(const uint8_t *body, int q);

typedef struct format {
    quad_fn *quad;
    int n_line;   /* of a block */
    bool is_wide; /* signed bytes, which become words */
    int bias;     /* 0, 8 or 16 */
    bool has_min;
} format;

/* Floats of a block of 16 rows. */
typedef struct factors {
    float d[16], m[16];
} factors __attribute__((aligned(64)));

/* Some tokens: their current records, as words too for the formats that are wide. */
typedef struct tokens {
    const tug_act_q8_32 *x[BLOCK_TOKENS];
    words wide[8 * BLOCK_TOKENS];
    int n;
    stream_end end; /* of one token's weights */
} tokens;

/* ---- formats ---------------------------------------------------------------------- */

INLINE v64 quad_q8_0(const uint8_t *body, int q) {
    return line(body, q);
}

/* Columns 0..15 of a block are the low nibbles. */
INLINE v64 quad_q4_0(const uint8_t *body, int q) {
    return field64(line(body, q % 4), q / 4 * 4, 15);
}
#define quad_q4_1 quad_q4_0

/* Bit 4 of column j is bit j of a row's first dword. */
INLINE v64 quad_q5_0(const uint8_t *body, int q) {
    const int own = q / 2;
    const v64 high = pick64(line(body, 0), own, own, own, own);
    const v64 low = quad_q4_0(body + LINE, q);
    const __m256i bit = _mm256_set1_epi32(q % 2 ? (int)0x80402010 : 0x08040201);
    v64 w;
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(high.half[h], bit), bit);
        w.half[h] =
            _mm256_or_si256(low.half[h], _mm256_and_si256(set, _mm256_set1_epi8(16)));
    }
    return w;
}
#define quad_q5_1 quad_q5_0

INLINE v64 quad_iq4_nl(const uint8_t *body, int q) {
    const __m256i levels = _mm256_broadcastsi128_si256(load128(tug_iq4_values));
    const v64 index = quad_q4_0(body, q);
    return pair64(_mm256_shuffle_epi8(levels, index.half[0]),
                  _mm256_shuffle_epi8(levels, index.half[1]));
}

/* ---- products --------------------------------------------------------------------- */

/* sum (16,) += block b, given the integers. */
INLINE void finish(float *sum, v64 total, const factors *f, const tug_act_q8_32 *x, int b,
                   format fmt) {
    const __m256 dx = _mm256_set1_ps(x->d[b]), dsum = _mm256_set1_ps(x->dsum[b]);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m256 s = _mm256_loadu_ps(sum + 8 * h);
        s = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(f->d + 8 * h), dx),
                            _mm256_cvtepi32_ps(total.half[h]), s);
        if (fmt.has_min) s = _mm256_fmadd_ps(_mm256_load_ps(f->m + 8 * h), dsum, s);
        _mm256_storeu_ps(sum + 8 * h, s);
    }
}

/* 16 columns of bytes; half 0 or 1 of the block. */
INLINE v64 byte_columns(const v64 w[4], const tug_act_q8_32 *x, int b, int half,
                        format fmt) {
    const int8_t *q = x->q + 32 * b + 16 * half;
    v64 sum = byte_products(w[0], broadcast32(q));
    sum = add16(sum, byte_products(w[1], broadcast32(q + 4)));
    sum = add16(sum, byte_products(w[2], broadcast32(q + 8)));
    sum = add16(sum, byte_products(w[3], broadcast32(q + 12)));
    const __m256i ones = _mm256_set1_epi16(1);
    const v64 wide = word_products1(sum, ones);
    if (half == 1 || fmt.bias == 0) return wide;
    /* -128 sum(x), so large that shifting it is exact */
    const __m256i start =
        _mm256_srai_epi32(broadcast32(&x->start[b]), fmt.bias == 8 ? 4 : 3);
    return add32(wide, pair64(start, start));
}

/* sum (tk->n,) at a distance of `step` += block b of the records times a block of 16 rows. */
INLINE void group_block(float *sum, int step, const uint8_t *body, const uint8_t *field,
                        const tokens *tk, int n_tok, int b, format fmt) {
    factors f;
    v64 total[BLOCK_TOKENS];
    const words *wide = tk->wide + (ptrdiff_t)b * n_tok;
    const int parts = fmt.is_wide ? 4 : 2, quads = 8 / parts;
    widen_f16(f.d, field);
    if (fmt.has_min) widen_f16(f.m, field + FIELD);
#pragma GCC unroll 4
    for (int part = 0; part < parts; part++) {
        v64 w[4];
#pragma GCC unroll 4
        for (int q = 0; q < quads; q++) {
            const v64 quad = fmt.quad(body, part * quads + q);
            if (fmt.is_wide) {
                widen_quad(w + 2 * q, quad);
            } else {
                w[q] = quad;
            }
        }
        for (int t = 0; t < n_tok; t++) {
            v64 s = fmt.is_wide ? eight_columns(w, &wide[t], 2 * part)
                                : byte_columns(w, tk->x[t], b, part, fmt);
            if (part > 0) s = add32(total[t], s);
            if (part < parts - 1) {
                total[t] = s;
            } else {
                finish(sum + (ptrdiff_t)step * t, s, &f, tk->x[t], b, fmt);
            }
        }
    }
}

/* ---- calls ------------------------------------------------------------------------ */

/* A group times up to 8 blocks of the tokens' records.  Meanwhile asks for what is to come:
 * of one token's stream, or at `next`. */
INLINE void group_record(float *sum, int step, const uint8_t *body, const uint8_t *field,
                         const char *next, const tokens *tk, int n_blocks, format fmt) {
    const size_t body_bytes = (size_t)fmt.n_line * LINE,
                 field_bytes = fmt.has_min ? 2 * FIELD : FIELD;
    for (int b = 0; b < n_blocks; b++) {
        if (tk->n == 1) {
            stream(body, body_bytes, tk->end);
            group_block(sum, step, body, field, tk, 1, b, fmt);
        } else {
            prefetch(next + (size_t)b * body_bytes, body_bytes);
            group_block(sum, step, body, field, tk, tk->n, b, fmt);
        }
        body += body_bytes;
        field += field_bytes;
    }
}

INLINE void linear_block(const tug_linear_args *a, int64_t r0, int n_group, int64_t t0,
                         int n_tok, format fmt) {
    tokens tk;
    float sum[BLOCK_TOKENS * BLOCK_GROUPS * TUG_PACK_ROWS];
    const int step = n_group * TUG_PACK_ROWS;
    const size_t group = TUG_PACK_ROWS * a->w_row_bytes,
                 body_bytes = (size_t)fmt.n_line * LINE,
                 field_bytes = fmt.has_min ? 2 * FIELD : FIELD;
    const int64_t all = a->n_cols / TUG_QK;
    const uint8_t *body = (const uint8_t *)a->w + (size_t)r0 * a->w_row_bytes;
    const uint8_t *field = body + (size_t)all * body_bytes;
    const char *next = (const char *)body + (size_t)n_group * group;
    tk.n = n_tok;
    tk.end = end_of(a);
    if (n_tok == 1) stream_fields(field, (size_t)all * field_bytes, group, tk.end);
    for (int t = 0; t < n_tok; t++) tk.x[t] = token_row(a, t0 + t);
    memset(sum, 0, (size_t)(n_tok * step) * sizeof *sum);
    for (int64_t left = all; left > 0; left -= 8) {
        const int n_blocks = left < 8 ? (int)left : 8;
        const size_t bytes = (size_t)n_blocks * body_bytes;
        for (int t = 0; t < n_tok && fmt.is_wide; t++) {
            widen_record(tk.wide, t, n_tok, tk.x[t]->q);
        }
        for (int g = 0; g < n_group; g++) {
            group_record(sum + (ptrdiff_t)g * TUG_PACK_ROWS, step,
                         body + (size_t)g * group, field + (size_t)g * group, next, &tk,
                         n_blocks, fmt);
            next += bytes;
        }
        body += bytes;
        field += (size_t)n_blocks * field_bytes;
        for (int t = 0; t < n_tok; t++) tk.x[t]++;
    }
    store_sums(a, r0, n_group, t0, n_tok, sum);
}

#define DEFINE(name, n_line_, is_wide_, bias_, has_min_)                          \
    static_assert((n_line_)*4 + ((has_min_) ? 4 : 2) == sizeof(tug_block_##name), \
                  "a block is its lines and its fields");                         \
    static void block_##name(const tug_linear_args *a, int64_t r0, int n_group,   \
                             int64_t t0, int n_tok) {                             \
        const format f = {.quad = quad_##name,                                    \
                          .n_line = n_line_,                                      \
                          .is_wide = is_wide_,                                    \
                          .bias = bias_,                                          \
                          .has_min = has_min_};                                   \
        linear_block(a, r0, n_group, t0, n_tok, f);                               \
    }                                                                             \
    void tug_packed_##name##_avx2(const tug_linear_args *a) {                     \
        packed_blocks(a, block_##name);                                           \
    }
DEFINE(q8_0, 8, true, 0, false)
DEFINE(q4_0, 4, false, 8, false)
DEFINE(q4_1, 4, false, 0, true)
DEFINE(q5_0, 5, false, 16, false)
DEFINE(q5_1, 5, false, 0, true)
DEFINE(iq4_nl, 4, true, 0, false)
