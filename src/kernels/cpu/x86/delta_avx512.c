/* delta_avx512.c - Gated DeltaNet kernels, 16 channels or columns at a time.
 *
 * The delta rule works on a tile of columns of the state for all tokens of the call, so
 * the tile stays in the first-level cache: 128 rows of 32 columns are 16 KB.  One pass
 * over its rows per token finishes token t (decay, rank-1 update, dot with q) and takes
 * the dot of the new state with the k of token t + 1; only the first token of a call
 * needs a pass of its own.  Every column sees the same operations in the same order
 * however wide the tile is and wherever the call begins.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/cpu/kernels_delta.h"
#include "kernels/cpu/x86/vec_avx512.h"

#define INLINE static inline __attribute__((always_inline))

/* ---- convolution -------------------------------------------------------------------- */

/* The inputs at time t; before the call's first token they are in the state. */
static const float *conv_input(const tug_conv_args *a, int64_t t) {
    return t < 0 ? a->state + (t + a->width - 1) * a->state_stride
                 : a->x + t * a->x_stride;
}

INLINE void conv_token(const tug_conv_args *a, int64_t t, int width) {
    const float *in[TUG_MAX_CONV];
    for (int i = 0; i < width; i++) in[i] = conv_input(a, t - width + 1 + i);
    float *y = a->y + t * a->y_stride;
    for (int64_t c = 0; c < a->n_ch; c += 16) {
        const int64_t left = a->n_ch - c;
        __m512 sum = _mm512_setzero_ps();
        for (int i = 0; i < width; i++) {
            const __m512 w = load_left(a->w + i * a->w_stride + c, left);
            sum = _mm512_fmadd_ps(w, load_left(in[i] + c, left), sum);
        }
        store_left(y + c, silu_ps(sum), left);
    }
}

void tug_conv_silu_avx512(const tug_conv_args *a) {
    if (a->width == 4) {
        for (int64_t t = 0; t < a->n_tok; t++) conv_token(a, t, 4);
    } else {
        for (int64_t t = 0; t < a->n_tok; t++) conv_token(a, t, a->width);
    }
    /* Oldest first, so a row of the state is read before it is overwritten. */
    for (int64_t i = 0; i < a->width - 1 && a->n_tok > 0; i++) {
        memcpy(a->state + i * a->state_stride, conv_input(a, a->n_tok - a->width + 1 + i),
               (size_t)a->n_ch * sizeof(float));
    }
}

/* ---- the delta rule ----------------------------------------------------------------- */

/* Vectors per tile.  Many tokens: what keeps the tile in the first-level cache.  One
 * token: the state comes from memory, and long rows let the prefetcher keep up. */
enum {
    TILE_MANY = 2,
    TILE_ONE = 8,
    COPIED_FROM = 8, /* tokens from which a copy of the tile pays */
    COPIED_ROWS = 256,
};

/* sk[0..nv) = S^T k over the tile at s. */
INLINE void dot_rows(__m512 *sk, const float *s, int64_t stride, const float *k, int dk,
                     int nv, int64_t left) {
    for (int j = 0; j < nv; j++) sk[j] = _mm512_setzero_ps();
    for (int i = 0; i < dk; i++, s += stride) {
        const __m512 ki = _mm512_set1_ps(k[i]);
        for (int j = 0; j < nv; j++) {
            sk[j] = _mm512_fmadd_ps(ki, load_left(s + 16 * j, left), sk[j]);
        }
    }
}

/* S <- decay S + k u^T, out = S^T q, and sk = S^T next_k unless next_k is NULL. */
INLINE void step_rows(__m512 *out, __m512 *sk, float *s, int64_t stride, const float *k,
                      const float *q, const float *next_k, __m512 decay, const __m512 *u,
                      int dk, int nv, int64_t left) {
    for (int j = 0; j < nv; j++) out[j] = sk[j] = _mm512_setzero_ps();
    for (int i = 0; i < dk; i++, s += stride) {
        const __m512 ki = _mm512_set1_ps(k[i]), qi = _mm512_set1_ps(q[i]);
        const __m512 ni = _mm512_set1_ps(next_k ? next_k[i] : 0.0f);
        for (int j = 0; j < nv; j++) {
            __m512 sij = _mm512_mul_ps(decay, load_left(s + 16 * j, left));
            sij = _mm512_fmadd_ps(ki, u[j], sij);
            store_left(s + 16 * j, sij, left);
            out[j] = _mm512_fmadd_ps(sij, qi, out[j]);
            if (next_k) sk[j] = _mm512_fmadd_ps(ni, sij, sk[j]);
        }
    }
}

/* All tokens for the columns [c, c + 16 nv) of the state, which are at s; left < 16 only if
 * nv is 1. */
INLINE void delta_tile(const tug_delta_args *a, float *s, int64_t stride, int64_t c,
                       int nv, int64_t left) {
    __m512 sk[TILE_ONE], u[TILE_ONE], out[TILE_ONE];
    dot_rows(sk, s, stride, a->k, a->dk, nv, left);
    for (int64_t t = 0; t < a->n_tok; t++) {
        const float *k = a->k + t * a->qk_stride, *q = a->q + t * a->qk_stride;
        const __m512 decay = _mm512_set1_ps(a->decay[t * a->gate_stride]);
        const __m512 beta = _mm512_set1_ps(a->beta[t * a->gate_stride]);
        for (int j = 0; j < nv; j++) {
            const __m512 v = load_left(a->v + t * a->v_stride + c + 16 * j, left);
            u[j] = _mm512_mul_ps(beta, _mm512_fnmadd_ps(decay, sk[j], v));
        }
        if (t + 1 < a->n_tok) {
            step_rows(out, sk, s, stride, k, q, k + a->qk_stride, decay, u, a->dk, nv,
                      left);
        } else {
            step_rows(out, sk, s, stride, k, q, NULL, decay, u, a->dk, nv, left);
        }
        for (int j = 0; j < nv; j++) {
            store_left(a->out + t * a->out_stride + c + 16 * j, out[j], left);
        }
    }
}

/* dst (n, n_col) <- src. */
INLINE void copy_tile(float *dst, int64_t dst_stride, const float *src,
                      int64_t src_stride, int n, int n_col) {
    for (int i = 0; i < n; i++) {
        memcpy(dst + i * dst_stride, src + i * src_stride, (size_t)n_col * sizeof *dst);
    }
}

/* The same for many tokens, with the tile copied out and back: rows of the state lie 512
 * bytes apart, and Intel cores let a load wait for every store before it that lies a
 * multiple of 4 KB away, here the one 8 rows earlier. */
INLINE void delta_tile_copied(const tug_delta_args *a, int64_t c) {
    float tile[COPIED_ROWS * 16 * TILE_MANY] __attribute__((aligned(64)));
    const int n_col = 16 * TILE_MANY;
    copy_tile(tile, n_col, a->state + c, a->state_stride, a->dk, n_col);
    delta_tile(a, tile, n_col, c, TILE_MANY, 16);
    copy_tile(a->state + c, a->state_stride, tile, n_col, a->dk, n_col);
}

void tug_delta_avx512(const tug_delta_args *a) {
    int64_t c = 0;
    if (a->n_tok == 0) return;
    if (a->n_tok == 1) {
        for (; c + 16 * TILE_ONE <= a->n_col; c += 16 * TILE_ONE) {
            delta_tile(a, a->state + c, a->state_stride, c, TILE_ONE, 16);
        }
    }
    for (; c + 16 * TILE_MANY <= a->n_col; c += 16 * TILE_MANY) {
        if (a->n_tok >= COPIED_FROM && a->dk <= COPIED_ROWS) {
            delta_tile_copied(a, c);
        } else {
            delta_tile(a, a->state + c, a->state_stride, c, TILE_MANY, 16);
        }
    }
    for (; c < a->n_col; c += 16) {
        delta_tile(a, a->state + c, a->state_stride, c, 1, a->n_col - c);
    }
}

/* ---- gates and norm ----------------------------------------------------------------- */

void tug_delta_gates_avx512(float *beta, float *decay, const float *b, const float *a,
                            const float *dt_bias, const float *a_coef, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        const int64_t left = n - i;
        const __m512 x =
            _mm512_add_ps(load_left(a + i, left), load_left(dt_bias + i, left));
        const __m512 g = _mm512_mul_ps(load_left(a_coef + i, left), softplus_ps(x));
        store_left(beta + i, sigmoid_ps(load_left(b + i, left)), left);
        store_left(decay + i, exp_ps(g), left);
    }
}

void tug_rmsnorm_gated_avx512(float *y, const float *x, const float *w, const float *z,
                              int64_t n, float eps) {
    const double mean = sum_of_squares(x, n) / (double)n;
    const __m512 r = _mm512_set1_ps((float)(1.0 / sqrt(mean + (double)eps)));
    for (int64_t i = 0; i < n; i += 16) {
        const int64_t left = n - i;
        const __m512 unit = _mm512_mul_ps(load_left(x + i, left), r);
        const __m512 gate =
            _mm512_mul_ps(load_left(w + i, left), silu_ps(load_left(z + i, left)));
        store_left(y + i, _mm512_mul_ps(unit, gate), left);
    }
}
