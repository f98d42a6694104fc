/* linear_32_avx512.c - the packed formats with one scale per 32 (Q8_0, Q4_0, Q4_1, Q5_0,
 * Q5_1, IQ4_NL) times int8 activations with one scale per 32.
 *
 * VALUE  The integer sum of a block is exact, whichever way it is computed.  Each (row,
 * token) then does, block after block,
 *   sum = fma(d_w * d_x, (float)integer, sum)
 *   sum = fma(m_w, d_x * sum of x, sum)    for formats with a min.
 * Both paths do just that, so neither path nor blocking can show in a value.  The paths,
 * gemv for few tokens and gemm for many, are those of linear_k_avx512.c.
 * SPDX-License-Identifier: MIT */
#include <stdbool.h>

#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_avx512.h"
#include "quant/blocks.h"

enum {
    TILE_PANELS = 2, /* 2 x 6 integer sums and 2 x 6 float sums */
    GEMV_TOKENS = 6, /* tokens that share unpacked registers */
    GEMV_GROUPS = 2, /* of rows, that share broadcast activations */
};

/* One block of 16 rows. */
typedef struct panel {
    uint8_t w[8][64];   /* (8, 16, 4): column / 4, row, column % 4; value + 128 */
    float d[16], m[16]; /* per row */
} panel __attribute__((aligned(64)));

/* Columns [4 q, 4 q + 4) of a block as value + 128; value[i] = d * w[i] + m. */
typedef __m512i quad_fn(const uint8_t *body, int q);
/* sum (n_tok, n_panels, 16) += n_blocks <= 8 blocks of panels (n_panels, 8) times one
 * record of each token, or, if it is the first, is set to that; n_panels is 1 or
 * TILE_PANELS, n_tok at most TILE_TOKENS. */
typedef void tile_fn(float *sum, const panel *p, const tug_act_q8_32 *const *x,
                     int n_blocks, bool is_first, int n_panels, int n_tok);

typedef struct format {
    quad_fn *quad;
    tile_fn *tile;
    int n_line;    /* of a block */
    int gemm_from; /* tokens from which making panels pays */
    bool has_min;
} format;

/* ---- formats ---------------------------------------------------------------------- */

INLINE __m512i quad_q8_0(const uint8_t *body, int q) {
    return _mm512_xor_si512(line(body, q), bytes(-128));
}

/* Nibbles: columns 0..15 of a block are the low ones. */
INLINE __m512i nibbles(const uint8_t *body, int q) {
    const __m512i pair = line(body, q % 4);
    return _mm512_and_si512(q < 4 ? pair : _mm512_srli_epi32(pair, 4), bytes(15));
}

INLINE __m512i quad_q4_0(const uint8_t *body, int q) {
    return _mm512_add_epi8(nibbles(body, q), bytes(128 - 8));
}
INLINE __m512i quad_q4_1(const uint8_t *body, int q) {
    return _mm512_add_epi8(nibbles(body, q), bytes(-128));
}

/* Bit 4 of column j is bit j of a row's first dword. */
INLINE __m512i five_bits(const uint8_t *body, int q, int offset) {
    const char own = (char)(q / 2);
    const __m512i high = _mm512_shuffle_epi8(
        line(body, 0),
        _mm512_broadcast_i32x4(_mm_setr_epi8(
            own, own, own, own, (char)(own + 4), (char)(own + 4), (char)(own + 4),
            (char)(own + 4), (char)(own + 8), (char)(own + 8), (char)(own + 8),
            (char)(own + 8), (char)(own + 12), (char)(own + 12), (char)(own + 12),
            (char)(own + 12))));
    const __mmask64 set = _mm512_test_epi8_mask(
        high, _mm512_set1_epi32(q % 2 ? (int)0x80402010 : 0x08040201));
    const __m512i low = _mm512_add_epi8(nibbles(body + LINE, q), bytes(offset));
    return _mm512_mask_add_epi8(low, set, low, bytes(16));
}

INLINE __m512i quad_q5_0(const uint8_t *body, int q) {
    return five_bits(body, q, 128 - 16);
}
INLINE __m512i quad_q5_1(const uint8_t *body, int q) {
    return five_bits(body, q, -128);
}

INLINE __m512i quad_iq4_nl(const uint8_t *body, int q) {
    const __m128i levels =
        _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)tug_iq4_values),
                      _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(levels), nibbles(body, q));
}

/* ---- few tokens ------------------------------------------------------------------- */

/* sum (16,) += block b of record x, given the integers. */
INLINE __m512 add_block(__m512 sum, __m512i products, __m512 d, __m512 m,
                        const tug_act_q8_32 *x, int b, format f) {
    sum = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(x->d[b])),
                          _mm512_cvtepi32_ps(products), sum);
    if (f.has_min) sum = _mm512_fmadd_ps(m, _mm512_set1_ps(x->dsum[b]), sum);
    return sum;
}

/* n_group * 16 rows from r0, tokens [t0, t0 + n_tok): everything stays in registers. */
INLINE void gemv_groups(const tug_linear_args *a, int64_t r0, int n_group, int64_t t0,
                        int n_tok, format f) {
    const int64_t n_blocks = a->n_cols / TUG_QK;
    const size_t body_bytes = (size_t)f.n_line * LINE,
                 field_bytes = f.has_min ? 2 * FIELD : FIELD;
    const size_t group = TUG_PACK_ROWS * a->w_row_bytes;
    const uint8_t *body = (const uint8_t *)a->w + (size_t)r0 * a->w_row_bytes;
    const uint8_t *field = body + (size_t)n_blocks * body_bytes;
    const stream_end end = end_of(a);
    const tug_act_q8_32 *x[GEMV_TOKENS];
    __m512 sum[GEMV_GROUPS][GEMV_TOKENS];
    for (int g = 0; g < n_group; g++) {
        stream_fields(field + (size_t)g * group, (size_t)n_blocks * field_bytes,
                      (size_t)n_group * group, end);
        for (int t = 0; t < n_tok; t++) sum[g][t] = _mm512_setzero_ps();
    }
    for (int t = 0; t < n_tok; t++) x[t] = token_row(a, t0 + t);
    for (int64_t c = 0; c < n_blocks; c++) {
        const int b = (int)(c % 8);
        /* Behind the end of a group come the groups after these. */
        const bool is_last = (size_t)(n_blocks - c) * body_bytes <= AHEAD;
        const size_t skipped = is_last ? (size_t)(n_group - 1) * group : 0;
        __m512i products[GEMV_GROUPS][GEMV_TOKENS], w[GEMV_GROUPS];
#pragma GCC unroll 2
        for (int g = 0; g < n_group; g++) {
            stream(body + (size_t)g * group + skipped, body_bytes, end);
#pragma GCC unroll 6
            for (int t = 0; t < n_tok; t++) {
                products[g][t] = broadcast32(&x[t]->start[b]);
            }
        }
#pragma GCC unroll 8
        for (int q = 0; q < 8; q++) {
#pragma GCC unroll 2
            for (int g = 0; g < n_group; g++) {
                w[g] = f.quad(body + (size_t)g * group, q);
            }
#pragma GCC unroll 6
            for (int t = 0; t < n_tok; t++) {
                const int8_t *own = x[t]->q + 32 * b + 4 * q;
                if (n_group == 1) {
                    products[0][t] = dot_quad(products[0][t], w[0], own);
                    continue;
                }
                const __m512i four = broadcast32(own);
#pragma GCC unroll 2
                for (int g = 0; g < n_group; g++) {
                    products[g][t] = dot_bytes(products[g][t], w[g], four);
                }
            }
        }
#pragma GCC unroll 2
        for (int g = 0; g < n_group; g++) {
            const uint8_t *own = field + (size_t)g * group;
            const __m512 d = widen_f16(own);
            const __m512 m = f.has_min ? widen_f16(own + FIELD) : _mm512_setzero_ps();
#pragma GCC unroll 6
            for (int t = 0; t < n_tok; t++) {
                sum[g][t] = add_block(sum[g][t], products[g][t], d, m, x[t], b, f);
            }
        }
        for (int t = 0; t < n_tok; t++) x[t] += b == 7;
        body += body_bytes;
        field += field_bytes;
    }
#pragma GCC unroll 2
    for (int g = 0; g < n_group; g++) {
#pragma GCC unroll 6
        for (int t = 0; t < n_tok; t++) {
            _mm512_storeu_ps(a->y + (t0 + t) * a->y_stride + r0 +
                                 (int64_t)g * TUG_PACK_ROWS,
                             sum[g][t]);
        }
    }
}

INLINE void gemv_tokens(const tug_linear_args *a, int64_t r0, int n_group, int64_t t0,
                        int n_tok, format f) {
    switch (n_tok) {
    case 1: gemv_groups(a, r0, n_group, t0, 1, f); break;
    case 2: gemv_groups(a, r0, n_group, t0, 2, f); break;
    case 3: gemv_groups(a, r0, n_group, t0, 3, f); break;
    case 4: gemv_groups(a, r0, n_group, t0, 4, f); break;
    case 5: gemv_groups(a, r0, n_group, t0, 5, f); break;
    default: gemv_groups(a, r0, n_group, t0, 6, f); break;
    }
}

/* Tokens in passes of much the same size: 10 are 5 and 5. */
INLINE void gemv(const tug_linear_args *a, format f) {
    const int64_t n_pass = (a->n_tok + GEMV_TOKENS - 1) / GEMV_TOKENS;
    for (int64_t r0 = 0, rows; r0 < a->n_rows; r0 += rows) {
        const bool pair = a->n_tok > 1 && a->n_rows - r0 >= 2L * TUG_PACK_ROWS;
        rows = pair ? 2L * TUG_PACK_ROWS : TUG_PACK_ROWS;
        for (int64_t i = 0; i < n_pass; i++) {
            const int64_t t0 = a->n_tok * i / n_pass, t1 = a->n_tok * (i + 1) / n_pass;
            if (pair) {
                gemv_tokens(a, r0, 2, t0, (int)(t1 - t0), f);
            } else {
                gemv_tokens(a, r0, 1, t0, (int)(t1 - t0), f);
            }
        }
    }
}

/* ---- tiles ------------------------------------------------------------------------ */

/* The sums of a tile, as registers.  n_panels and n_tok are constants wherever these are
 * used, so that only as many exist. */
typedef struct sums {
    __m512 at[TILE_PANELS][TILE_TOKENS];
} sums;
typedef struct products {
    __m512i at[TILE_PANELS][TILE_TOKENS];
} products;

/* out = block b of the records times the panels p[8 v], exactly. */
INLINE void multiply_block(products *out, const panel *p, const tug_act_q8_32 *const *x,
                           int b, int n_panels, int n_tok) {
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) out->at[v][t] = broadcast32(&x[t]->start[b]);
    }
#pragma GCC unroll 8
    for (int c = 0; c < 8; c++) {
        __m512i w[TILE_PANELS];
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) w[v] = _mm512_load_si512(p[8 * v].w[c]);
#pragma GCC unroll 6
        for (int t = 0; t < n_tok; t++) {
            const __m512i xt = broadcast32(x[t]->q + 32 * b + 4 * c);
#pragma GCC unroll 2
            for (int v = 0; v < n_panels; v++) {
                out->at[v][t] = dot_bytes(out->at[v][t], w[v], xt);
            }
        }
    }
}

INLINE void add_products(sums *s, const products *in, const panel *p,
                         const tug_act_q8_32 *const *x, int b, bool has_min, int n_panels,
                         int n_tok) {
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
        const __m512 dx = _mm512_set1_ps(x[t]->d[b]),
                     dsum = _mm512_set1_ps(x[t]->dsum[b]);
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) {
            const __m512 d = _mm512_mul_ps(_mm512_load_ps(p[8 * v].d), dx);
            s->at[v][t] =
                _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(in->at[v][t]), s->at[v][t]);
            if (has_min) {
                s->at[v][t] =
                    _mm512_fmadd_ps(_mm512_load_ps(p[8 * v].m), dsum, s->at[v][t]);
            }
        }
    }
}

INLINE void tile_of(float *sum, const panel *p, const tug_act_q8_32 *const *x,
                    int n_blocks, bool has_min, bool is_first, int n_panels, int n_tok) {
    sums s;
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) {
            s.at[v][t] = is_first ? _mm512_setzero_ps()
                                  : _mm512_load_ps(sum + 16 * (t * n_panels + v));
        }
    }
    for (int b = 0; b < n_blocks; b++) {
        products block;
        multiply_block(&block, p + b, x, b, n_panels, n_tok);
        add_products(&s, &block, p + b, x, b, has_min, n_panels, n_tok);
    }
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_panels; v++) {
            _mm512_store_ps(sum + 16 * (t * n_panels + v), s.at[v][t]);
        }
    }
}

INLINE void tile_of_panels(float *sum, const panel *p, const tug_act_q8_32 *const *x,
                           int n_blocks, bool has_min, bool is_first, int n_panels,
                           int n_tok) {
    switch (n_tok) {
    case 1: tile_of(sum, p, x, n_blocks, has_min, is_first, n_panels, 1); break;
    case 2: tile_of(sum, p, x, n_blocks, has_min, is_first, n_panels, 2); break;
    case 3: tile_of(sum, p, x, n_blocks, has_min, is_first, n_panels, 3); break;
    case 4: tile_of(sum, p, x, n_blocks, has_min, is_first, n_panels, 4); break;
    case 5: tile_of(sum, p, x, n_blocks, has_min, is_first, n_panels, 5); break;
    default: tile_of(sum, p, x, n_blocks, has_min, is_first, n_panels, 6); break;
    }
}

#define TILE(name, has_min)                                                             \
    static __attribute__((noinline)) void tile_##name(                                  \
        float *sum, const panel *p, const tug_act_q8_32 *const *x, int n_blocks,        \
        bool is_first, int n_panels, int n_tok) {                                       \
        if (n_panels == 1) {                                                            \
            tile_of_panels(sum, p, x, n_blocks, has_min, is_first, 1, n_tok);           \
        } else {                                                                        \
            tile_of_panels(sum, p, x, n_blocks, has_min, is_first, TILE_PANELS, n_tok); \
        }                                                                               \
    }
TILE(plain, false)
TILE(min, true)

/* ---- many tokens ------------------------------------------------------------------ */

INLINE void fill_panel(panel *p, const uint8_t *body, const uint8_t *field, format f) {
#pragma GCC unroll 8
    for (int q = 0; q < 8; q++) _mm512_store_si512(p->w[q], f.quad(body, q));
    _mm512_store_ps(p->d, widen_f16(field));
    if (f.has_min) _mm512_store_ps(p->m, widen_f16(field + FIELD));
}

/* n_panels * 16 rows from r0, tokens [t0, t0 + n_tok). */
INLINE void gemm_block(const tug_linear_args *a, int64_t r0, int n_panels, int64_t t0,
                       int n_tok, format f) {
    const tug_act_q8_32 *x[BLOCK_TOKENS];
    float sum[BLOCK_TOKENS * TILE_PANELS * 16] __attribute__((aligned(64)));
    panel p[TILE_PANELS][8];
    const size_t group = TUG_PACK_ROWS * a->w_row_bytes;
    const size_t body_bytes = (size_t)f.n_line * LINE,
                 field_bytes = f.has_min ? 2 * FIELD : FIELD;
    const uint8_t *body = (const uint8_t *)a->w + (size_t)r0 * a->w_row_bytes;
    const uint8_t *field = body + (size_t)(a->n_cols / TUG_QK) * body_bytes;
    const char *next = (const char *)body + (size_t)n_panels * group;
    for (int t = 0; t < n_tok; t++) x[t] = token_row(a, t0 + t);
    bool is_first = true;
    for (int64_t left = a->n_cols / TUG_QK; left > 0; left -= 8, is_first = false) {
        const int n_blocks = left < 8 ? (int)left : 8;
        for (int b = 0; b < n_blocks; b++) {
            for (int v = 0; v < n_panels; v++) {
                prefetch(next, body_bytes);
                next += body_bytes;
                fill_panel(&p[v][b], body + (size_t)v * group, field + (size_t)v * group,
                           f);
            }
            body += body_bytes;
            field += field_bytes;
        }
        for (int t = 0; t < n_tok; t += TILE_TOKENS) {
            const int n = n_tok - t < TILE_TOKENS ? n_tok - t : TILE_TOKENS;
            f.tile(sum + (ptrdiff_t)t * n_panels * 16, p[0], x + t, n_blocks, is_first,
                   n_panels, n);
        }
        for (int t = 0; t < n_tok; t++) x[t]++;
    }
    store_sums(a, r0, n_panels, t0, n_tok, sum);
}

INLINE void gemm(const tug_linear_args *a, format f) {
    for (int64_t r0 = 0, n_panels; r0 < a->n_rows; r0 += TUG_PACK_ROWS * n_panels) {
        n_panels = a->n_rows - r0 >= TUG_PACK_ROWS * TILE_PANELS ? TILE_PANELS : 1;
        for (int64_t t0 = 0; t0 < a->n_tok; t0 += BLOCK_TOKENS) {
            const int64_t left = a->n_tok - t0;
            gemm_block(a, r0, (int)n_panels, t0,
                       left < BLOCK_TOKENS ? (int)left : BLOCK_TOKENS, f);
        }
    }
}

#define DEFINE(name, scheme, n_line_, gemm_from_, has_min_)                       \
    static_assert((n_line_)*4 + ((has_min_) ? 4 : 2) == sizeof(tug_block_##name), \
                  "a block is its lines and its fields");                         \
    void tug_packed_##name##_avx512(const tug_linear_args *a) {                   \
        const format f = {.quad = quad_##name,                                    \
                          .tile = tile_##scheme,                                  \
                          .n_line = n_line_,                                      \
                          .gemm_from = gemm_from_,                                \
                          .has_min = has_min_};                                   \
        if (a->n_tok < f.gemm_from) {                                             \
            gemv(a, f);                                                           \
        } else {                                                                  \
            gemm(a, f);                                                           \
        }                                                                         \
    }
DEFINE(q8_0, plain, 8, 19, false)
DEFINE(q4_0, plain, 4, 7, false)
DEFINE(q4_1, min, 4, 7, true)
DEFINE(q5_0, plain, 5, 7, false)
DEFINE(q5_1, min, 5, 7, true)
DEFINE(iq4_nl, plain, 4, 7, false)
