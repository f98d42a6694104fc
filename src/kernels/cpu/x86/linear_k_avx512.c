/* linear_k_avx512.c - K-quants and IQ4_XS times int8 activations.
 *
 * VALUE  The integer sum of a superblock (256 columns of one row and token) is exact,
 * whichever way it is computed.  Each (row, token) then does, superblock after superblock,
 *   sum = fma(d_w * d_x, (float)integer, sum)
 *   sum = fnma(dmin_w * d_x, (float)integer of mins, sum)    for formats with mins.
 * Both paths below do just that, so neither path nor blocking can show in a value.
 *
 * FEW TOKENS (gemv)  16 rows at a time; a superblock of each is unpacked into registers
 * and multiplied along the columns; one tree turns 16 registers of partial sums into one
 * with a row per lane.  Bound by memory.
 *
 * MANY TOKENS (gemm)  16 rows of a superblock are unpacked and transposed into a panel in
 * L1: a row per lane, 4 columns per dword, what VPDPBUSD takes.  Tiles of panels x 6
 * tokens keep all sums in registers.  VPDPBUSD multiplies unsigned by signed: panels hold
 * value + 128 unless the format is unsigned, and a tile's sums start at -128 * (sum of
 * the activations), which the conversion left in act.h.  SPDX-License-Identifier: MIT */
#include <stdbool.h>

#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_avx512.h"

enum {
    TILE_TOKENS = 6,
    TILE_PANELS = 4,    /* at most; 4 x 6 sums, or 2 x 6 twice */
    BLOCK_TOKENS = 192, /* 48 KB of sums, on the stack */
    GEMV_TOKENS = 4,    /* tokens that share an unpacked superblock */
    GEMM_FROM = 6,      /* tokens from which making panels pays */
};

/* A superblock of 16 rows. */
typedef struct panel {
    uint8_t w[64][64];     /* (64, 16, 4): column / 4, row, column % 4 */
    int32_t scale[16][16]; /* (16, 16): sub-block of 16, row */
    int16_t min[8][32];    /* (8, 16, 2): sub-block / 2, row, sub-block % 2 */
    float d[16], dmin[16]; /* per row */
} panel __attribute__((aligned(64)));

/* sum (n_tok, n_panels, 16) += panels (n_panels,) times one record of each token;
 * n_panels is 1 or what the tile is made for, n_tok at most TILE_TOKENS. */
typedef void tile_fn(float *sum, const panel *p, const tug_act_q8_256 *const *x,
                     int n_panels, int n_tok);

typedef struct format {
    void (*expand)(const void *block, tug_expanded *e);
    tile_fn *tile;
    size_t block_bytes;
    int bias;  /* of the unpacked weights; 128: they need all eight bits */
    int n_min; /* mins per superblock: 0, 8 or 16 */
    int group; /* columns per scale in a tile: 16, 32 or 256 */
} format;

/* Of the 16 scales those of columns [64 i, 64 i + 64), each where its columns are in a
 * register of 16-bit (pairs of columns) or 32-bit (fours of columns) lanes. */
INLINE __m512i spread_words(__m256i scale, int i) {
    const __m512i group = _mm512_cvtepu8_epi16(_mm256_setr_epi64x(
        0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
    return _mm512_permutexvar_epi16(
        _mm512_add_epi16(group, _mm512_set1_epi16((short)(4 * i))),
        _mm512_castsi256_si512(scale));
}

INLINE __m512i spread_dwords(__m256i scale, int i) {
    const __m512i group =
        _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_epi32(_mm512_add_epi32(group, _mm512_set1_epi32(4 * i)),
                                    _mm512_cvtepi16_epi32(scale));
}

/* ---- few tokens ------------------------------------------------------------------- */

/* Unpacked weights as registers of 64 columns, with what multiplies their products. */
typedef struct row {
    __m512i w[4];
    __m512i scale[4]; /* i16 per pair of products; i32 per four if the bias is 128 */
    __m256i bias;     /* (16,) i16: bias * scale, unless 128 */
    __m256i own_scale, min;
} row;

INLINE void unpack_row(row *o, const tug_expanded *e, format f) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        o->w[i] = e->w[i];
        o->scale[i] =
            f.bias == 128 ? spread_dwords(e->scale, i) : spread_words(e->scale, i);
    }
    o->own_scale = e->scale;
    o->min = e->min;
}

/* The exact products of a superblock with a record: 16 partial sums, or with mins 8 of
 * the products in the low half and 8 of the mins in the high half. */
INLINE __m512i dot_row(const row *o, const tug_act_q8_256 *x, format f) {
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512i xi = _mm512_loadu_si512(x->q + 64 * i);
        if (f.bias == 128) {
            const __m512i part = dot_bytes(_mm512_setzero_si512(), o->w[i], xi);
            sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(part, o->scale[i]));
        } else { /* weights below 64: pairs of products stay below 2^15 */
            sum = dot_words(sum, _mm512_maddubs_epi16(o->w[i], xi), o->scale[i]);
        }
    }
    if (f.bias != 0) {
        const __m256i scaled = _mm256_madd_epi16(o->own_scale, load256(x->sum16));
        sum = _mm512_sub_epi32(sum, _mm512_zextsi256_si512(_mm256_mullo_epi32(
                                        scaled, _mm256_set1_epi32(f.bias))));
    }
    if (f.n_min == 0) return sum;
    const __m256i x_sums =
        f.n_min == 16 ? load256(x->sum16) : _mm256_zextsi128_si256(load128(x->sum32));
    return pair64(
        _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1)),
        _mm256_madd_epi16(o->min, x_sums));
}

/* sum (16,) += one superblock of 16 rows times a record, given the partial sums. */
INLINE __m512 add_rows(__m512 sum, const __m512i parts[16], const tug_f16 *d,
                       const tug_f16 *dmin, const tug_act_q8_256 *x, format f) {
    const __m512 dx = _mm512_set1_ps(x->d);
    __m512i a, b;
    sum_halves(parts, &a, &b);
    if (f.n_min == 0) a = _mm512_add_epi32(a, b);
    sum = _mm512_fmadd_ps(_mm512_mul_ps(widen_f16(d), dx), _mm512_cvtepi32_ps(a), sum);
    if (f.n_min == 0) return sum;
    return _mm512_fnmadd_ps(_mm512_mul_ps(widen_f16(dmin), dx), _mm512_cvtepi32_ps(b),
                            sum);
}

/* 16 rows from r0, tokens [t0, t0 + n_tok). */
INLINE void gemv_rows(const tug_linear_args *a, int64_t r0, int64_t t0, int n_tok,
                      format f) {
    const char *w[16];
    const tug_act_q8_256 *x[GEMV_TOKENS];
    __m512 sum[GEMV_TOKENS];
    weight_rows(w, a, r0, 16);
    for (int t = 0; t < n_tok; t++) {
        x[t] = token_row(a, t0 + t);
        sum[t] = _mm512_setzero_ps();
    }
    const char *next = w[0] + 16 * a->w_row_bytes;
    for (int64_t c = 0; c < a->n_cols / TUG_QK_K; c++) {
        __m512i parts[GEMV_TOKENS][16];
        tug_f16 d[16], dmin[16];
        const size_t at = (size_t)c * f.block_bytes;
        for (int r = 0; r < 16; r++) {
            prefetch(next, f.block_bytes);
            next += f.block_bytes;
            tug_expanded e;
            row o;
            f.expand(w[r] + at, &e);
            unpack_row(&o, &e, f);
            d[r] = e.d;
            dmin[r] = e.dmin;
            for (int t = 0; t < n_tok; t++) parts[t][r] = dot_row(&o, x[t] + c, f);
        }
        for (int t = 0; t < n_tok; t++) {
            sum[t] = add_rows(sum[t], parts[t], d, dmin, x[t] + c, f);
        }
    }
    for (int t = 0; t < n_tok; t++) {
        _mm512_mask_storeu_ps(a->y + (t0 + t) * a->y_stride + r0, row_mask(a, r0),
                              sum[t]);
    }
}

INLINE void gemv(const tug_linear_args *a, format f) {
    for (int64_t r0 = 0; r0 < a->n_rows; r0 += 16) {
        for (int64_t t0 = 0; t0 < a->n_tok; t0 += GEMV_TOKENS) {
            const int64_t left = a->n_tok - t0;
            gemv_rows(a, r0, t0, left < GEMV_TOKENS ? (int)left : GEMV_TOKENS, f);
        }
    }
}

/* ---- panels ----------------------------------------------------------------------- */

/* The bytes that a panel takes for 64 unpacked weights: value + 128, or the weights as
 * they are if they are unsigned.  For one scale per 256 columns the value is the exact
 * product with its sub-block's scale, *negated*: Q3_K's -4..3 times -32..31 fits in eight
 * bits only then (-124..128 becomes -128..124).  It is looked up in the 8 products of the
 * scale with each weight. */
INLINE __m512i panel_bytes(__m512i w, __m512i spread_scale, format f) {
    if (f.group == 256) {
        const __m512i minus_w = _mm512_broadcast_i32x4(_mm_sub_epi16(
            _mm_set1_epi16((short)f.bias), _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7)));
        const __m512i products = _mm512_mullo_epi16(spread_scale, minus_w);
        return _mm512_shuffle_epi8(flip64(_mm512_packs_epi16(products, products)), w);
    }
    return f.bias == 0 ? w : _mm512_add_epi8(w, _mm512_set1_epi8((char)(128 - f.bias)));
}

/* Prefetches 16 superblocks from `next` meanwhile. */
INLINE void fill_panel(panel *p, const char *const *rows, const char *next, format f) {
    uint8_t w[16][256] __attribute__((aligned(64)));
    int32_t scale[16][16] __attribute__((aligned(64)));
    int16_t min[16][16];
    tug_f16 d[16], dmin[16];
    for (int r = 0; r < 16; r++) {
        tug_expanded e;
        prefetch(next + (size_t)r * f.block_bytes, f.block_bytes);
        f.expand(rows[r], &e);
        for (int i = 0; i < 4; i++) {
            _mm512_store_si512(w[r] + (ptrdiff_t)64 * i,
                               panel_bytes(e.w[i], spread_words(e.scale, i), f));
        }
        _mm512_store_si512(scale[r], _mm512_cvtepi16_epi32(e.scale));
        if (f.n_min > 0) _mm256_storeu_si256((__m256i *)(void *)min[r], e.min);
        d[r] = e.d;
        dmin[r] = e.dmin;
    }
    __m512i column[4];
    for (int i = 0; i < 16; i++) {
        transpose4(column, w[0] + (ptrdiff_t)16 * i, sizeof w[0]);
        for (int j = 0; j < 4; j++) _mm512_store_si512(p->w[4 * i + j], column[j]);
    }
    for (int i = 0; i < 4 && f.group < 256; i++) {
        transpose4(column, scale[0] + (ptrdiff_t)4 * i, sizeof scale[0]);
        for (int j = 0; j < 4; j++) _mm512_store_si512(p->scale[4 * i + j], column[j]);
    }
    for (int i = 0; i < f.n_min / 8; i++) {
        transpose4(column, min[0] + (ptrdiff_t)8 * i, sizeof min[0]);
        for (int j = 0; j < 4; j++) _mm512_store_si512(p->min[4 * i + j], column[j]);
    }
    const __m512 scales = widen_f16(d);
    _mm512_store_ps(p->d,
                    f.group == 256 ? _mm512_sub_ps(_mm512_setzero_ps(), scales) : scales);
    _mm512_store_ps(p->dmin, widen_f16(dmin));
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

/* total += s * the scales of sub-block `block`. */
INLINE void add_scaled(sums *total, const sums *s, const panel *p, int block,
                       int n_panels, int n_tok) {
#pragma GCC unroll 4
    for (int v = 0; v < n_panels; v++) {
        const __m512i scale = _mm512_load_si512(p[v].scale[block]);
#pragma GCC unroll 6
        for (int t = 0; t < n_tok; t++) {
            total->at[v][t] =
                _mm512_add_epi32(total->at[v][t], _mm512_mullo_epi32(s->at[v][t], scale));
        }
    }
}

/* The exact integers of a tile. */
INLINE void tile_products(sums *total, const panel *p, const tug_act_q8_256 *const *x,
                          format f, int n_panels, int n_tok) {
    if (f.group == 256) {
        start_sums(total, x, false, offsetof(tug_act_q8_256, start), n_panels, n_tok);
        for (int c = 0; c < 64; c += 2) add_columns(total, p, x, c, 2, n_panels, n_tok);
        return;
    }
    start_sums(total, x, true, 0, n_panels, n_tok);
    for (int g = 0; g < 256 / f.group; g++) {
        sums s;
        start_sums(&s, x, f.bias == 0,
                   offsetof(tug_act_q8_256, start16) + (size_t)g * sizeof(int32_t),
                   n_panels, n_tok);
        add_columns(&s, p, x, g * f.group / 4, f.group / 4, n_panels, n_tok);
        add_scaled(total, &s, p, g * f.group / 16, n_panels, n_tok);
    }
}

/* The exact sum of mins of a panel times a token. */
INLINE __m512i tile_min(const panel *p, const tug_act_q8_256 *x, int n_min) {
    const int16_t *x_sums = n_min == 16 ? x->sum16 : x->sum32;
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int i = 0; i < n_min / 2; i++) {
        sum = dot_words(sum, _mm512_load_si512(p->min[i]), broadcast32(x_sums + 2 * i));
    }
    return sum;
}

INLINE void tile_of(float *sum, const panel *p, const tug_act_q8_256 *const *x, format f,
                    int n_panels, int n_tok) {
    sums total;
    tile_products(&total, p, x, f, n_panels, n_tok);
#pragma GCC unroll 6
    for (int t = 0; t < n_tok; t++) {
        const __m512 dx = _mm512_set1_ps(x[t]->d);
#pragma GCC unroll 4
        for (int v = 0; v < n_panels; v++) {
            float *at = sum + 16 * (t * n_panels + v);
            __m512 s = _mm512_load_ps(at);
            s = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(p[v].d), dx),
                                _mm512_cvtepi32_ps(total.at[v][t]), s);
            if (f.n_min > 0) {
                s = _mm512_fnmadd_ps(_mm512_mul_ps(_mm512_load_ps(p[v].dmin), dx),
                                     _mm512_cvtepi32_ps(tile_min(&p[v], x[t], f.n_min)),
                                     s);
            }
            _mm512_store_ps(at, s);
        }
    }
}

INLINE void tile_of_panels(float *sum, const panel *p, const tug_act_q8_256 *const *x,
                           format f, int n_panels, int n_tok) {
    switch (n_tok) {
    case 1: tile_of(sum, p, x, f, n_panels, 1); break;
    case 2: tile_of(sum, p, x, f, n_panels, 2); break;
    case 3: tile_of(sum, p, x, f, n_panels, 3); break;
    case 4: tile_of(sum, p, x, f, n_panels, 4); break;
    case 5: tile_of(sum, p, x, f, n_panels, 5); break;
    default: tile_of(sum, p, x, f, n_panels, 6); break;
    }
}

/* As many panels as there are registers for: with a scale per group a tile has the sums
 * of the group beside those of the superblock. */
INLINE int panels_of(int group) {
    return group == 256 ? 4 : 2;
}

/* A tile's code depends on the format only by these numbers. */
#define TILE(name, bias_, n_min_, group_)                                             \
    static __attribute__((noinline)) void tile_##name(float *sum, const panel *p,     \
                                                      const tug_act_q8_256 *const *x, \
                                                      int n_panels, int n_tok) {      \
        const format f = {.bias = bias_, .n_min = n_min_, .group = group_};           \
        if (n_panels == 1) {                                                          \
            tile_of_panels(sum, p, x, f, 1, n_tok);                                   \
        } else {                                                                      \
            tile_of_panels(sum, p, x, f, panels_of(group_), n_tok);                   \
        }                                                                             \
    }
TILE(q2_k, 0, 16, 256)
TILE(q3_k, 4, 0, 256)
TILE(q45_k, 0, 8, 32)
TILE(q6_k, 32, 0, 16)

/* ---- many tokens ------------------------------------------------------------------ */

/* n_panels * 16 rows from r0, tokens [t0, t0 + n_tok). */
INLINE void gemm_block(const tug_linear_args *a, int64_t r0, int n_panels, int64_t t0,
                       int n_tok, format f) {
    const char *w[TILE_PANELS * 16];
    const tug_act_q8_256 *x[BLOCK_TOKENS];
    float sum[BLOCK_TOKENS * TILE_PANELS * 16] __attribute__((aligned(64)));
    panel p[TILE_PANELS];
    weight_rows(w, a, r0, n_panels * 16);
    for (int t = 0; t < n_tok; t++) x[t] = token_row(a, t0 + t);
    memset(sum, 0, (size_t)(n_tok * n_panels * 16) * sizeof *sum);
    const char *next = w[0] + (size_t)n_panels * 16 * a->w_row_bytes;
    for (int64_t c = 0; c < a->n_cols / TUG_QK_K; c++) {
        for (int v = 0; v < n_panels; v++) {
            fill_panel(&p[v], w + (ptrdiff_t)16 * v, next, f);
            next += 16 * f.block_bytes;
        }
        for (int t = 0; t < n_tok; t += TILE_TOKENS) {
            const int n = n_tok - t < TILE_TOKENS ? n_tok - t : TILE_TOKENS;
            f.tile(sum + (ptrdiff_t)t * n_panels * 16, p, x + t, n_panels, n);
        }
        for (int i = 0; i < n_panels * 16; i++) w[i] += f.block_bytes;
        for (int t = 0; t < n_tok; t++) x[t]++;
    }
    store_sums(a, r0, n_panels, t0, n_tok, sum);
}

INLINE void gemm(const tug_linear_args *a, format f) {
    const int wide = panels_of(f.group);
    for (int64_t r0 = 0, n_panels; r0 < a->n_rows; r0 += 16 * n_panels) {
        n_panels = a->n_rows - r0 > 16 * (wide - 1) ? wide : 1;
        for (int64_t t0 = 0; t0 < a->n_tok; t0 += BLOCK_TOKENS) {
            const int64_t left = a->n_tok - t0;
            gemm_block(a, r0, (int)n_panels, t0,
                       left < BLOCK_TOKENS ? (int)left : BLOCK_TOKENS, f);
        }
    }
}

#define DEFINE(name, scheme, bias_, n_min_, group_)                \
    void tug_linear_##name##_avx512(const tug_linear_args *a) {    \
        const format f = {.expand = expand_##name,                 \
                          .tile = tile_##scheme,                   \
                          .block_bytes = sizeof(tug_block_##name), \
                          .bias = bias_,                           \
                          .n_min = n_min_,                         \
                          .group = group_};                        \
        if (a->n_tok < GEMM_FROM) {                                \
            gemv(a, f);                                            \
        } else {                                                   \
            gemm(a, f);                                            \
        }                                                          \
    }
DEFINE(q2_k, q2_k, 0, 16, 256)
DEFINE(q3_k, q3_k, 4, 0, 256)
DEFINE(q4_k, q45_k, 0, 8, 32)
DEFINE(q5_k, q45_k, 0, 8, 32)
DEFINE(q6_k, q6_k, 32, 0, 16)
DEFINE(iq4_xs, q6_k, 128, 0, 16)
