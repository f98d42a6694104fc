/* packed_iq4_xs_avx2.c - packed IQ4_XS times int8 activations.
 *
 * The value is that of packed_k_avx2.c, a format without mins.  Its levels need all eight
 * bits; times the scale of their 32 columns they fit in 16 (127 * 32 = 4,064), so words of
 * that meet the activations and a superblock needs nothing more.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"
#include "kernels/cpu/x86/linear_packed_avx2.h"
#include "quant/blocks.h"

enum { N_LINE = 33, N_FIELD = 2 };
static_assert(N_LINE * 4 + N_FIELD * 2 == sizeof(tug_block_iq4_xs),
              "a block is its lines and its fields");

/* A superblock of 16 rows. */
typedef struct factors {
    int16_t scale[8][32]; /* (8, 16, 2): 32 columns; row; twice the same */
    float d[16];
} factors __attribute__((aligned(64)));

typedef struct tokens {
    const tug_act_q8_256 *x[BLOCK_TOKENS];
    words wide[8 * BLOCK_TOKENS];
    v64 total[BLOCK_TOKENS];
    stream_end end; /* of one token's weights */
} tokens;

/* scales_l: 8 nibbles in order; scales_h: 8 pairs of bits in order. */
INLINE void read_factors(factors *f, const uint8_t *body, const uint8_t *field) {
    const v64 low = line(body, 0);
    const uint8_t *high = field + FIELD;
    const __m256i bias = _mm256_set1_epi32(32);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        v64 scale;
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const __m256i nibble = _mm256_and_si256(_mm256_srli_epi32(low.half[h], 4 * i),
                                                    _mm256_set1_epi32(15));
            const __m256i pair = _mm256_and_si256(
                _mm256_srli_epi32(_mm256_cvtepu16_epi32(load128(high + 16 * h)), 2 * i),
                _mm256_set1_epi32(3));
            const __m256i own = _mm256_sub_epi32(
                _mm256_or_si256(nibble, _mm256_slli_epi32(pair, 4)), bias);
            scale.half[h] =
                _mm256_or_si256(_mm256_and_si256(own, _mm256_set1_epi32(0xFFFF)),
                                _mm256_slli_epi32(own, 16));
        }
        store_words(f->scale[i], scale);
    }
    widen_f16(f->d, field);
}

/* Quad q of a run of 32 columns, as signed bytes. */
INLINE v64 levels_of(const uint8_t *body, int run, int q) {
    const __m256i levels = _mm256_broadcastsi128_si256(load128(tug_iq4_values));
    const v64 index = field64(line(body, 1 + 4 * run + q % 4), q / 4 * 4, 15);
    return pair64(_mm256_shuffle_epi8(levels, index.half[0]),
                  _mm256_shuffle_epi8(levels, index.half[1]));
}

/* tk->total (n_tok,) = a superblock of 16 rows times the tokens' records. */
INLINE void add_superblock(tokens *tk, const factors *f, const uint8_t *body, int n_tok) {
    for (int t = 0; t < n_tok; t++) tk->total[t] = zero64();
    for (int run = 0; run < 8; run++) {
        const v64 scale = load_words(f->scale[run]);
        const words *wide = tk->wide + (ptrdiff_t)run * n_tok;
        const int share = (N_LINE + 7) / 8; /* of the lines: memory keeps up */
        if (n_tok == 1) {
            stream(body + (ptrdiff_t)share * LINE * run, (size_t)(share * LINE), tk->end);
        }
#pragma GCC unroll 4
        for (int q = 0; q < 8; q += 2) {
            v64 w[4];
            widen_quad(w, levels_of(body, run, q));
            widen_quad(w + 2, levels_of(body, run, q + 1));
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) w[i] = low_products(w[i], scale);
            for (int t = 0; t < n_tok; t++) {
                tk->total[t] = add32(tk->total[t], eight_columns(w, wide + t, q));
            }
        }
    }
}

/* sum (n_tok,) at a distance of `step` += one superblock of 16 rows. */
INLINE void group_superblock(float *sum, int step, const uint8_t *body,
                             const uint8_t *field, tokens *tk, int n_tok) {
    factors f;
    read_factors(&f, body, field);
    add_superblock(tk, &f, body, n_tok);
    for (int t = 0; t < n_tok; t++, sum += step) {
        const __m256 dx = _mm256_set1_ps(tk->x[t]->d);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const __m256 d = _mm256_mul_ps(_mm256_load_ps(f.d + 8 * h), dx);
            const __m256 s = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(tk->total[t].half[h]),
                                             _mm256_loadu_ps(sum + 8 * h));
            _mm256_storeu_ps(sum + 8 * h, s);
        }
    }
}

static void linear_block(const tug_linear_args *a, int64_t r0, int n_group, int64_t t0,
                         int n_tok) {
    tokens tk;
    float sum[BLOCK_TOKENS * BLOCK_GROUPS * TUG_PACK_ROWS];
    const int64_t n_blocks = a->n_cols / TUG_QK_K;
    const int step = n_group * TUG_PACK_ROWS;
    const size_t group = TUG_PACK_ROWS * a->w_row_bytes;
    const uint8_t *body = (const uint8_t *)a->w + (size_t)r0 * a->w_row_bytes;
    const uint8_t *field = body + (size_t)n_blocks * (N_LINE * LINE);
    const char *next = (const char *)body + (size_t)n_group * group;
    tk.end = end_of(a);
    if (n_tok == 1) {
        stream_fields(field, (size_t)n_blocks * (N_FIELD * FIELD), group, tk.end);
    }
    for (int t = 0; t < n_tok; t++) tk.x[t] = token_row(a, t0 + t);
    memset(sum, 0, (size_t)(n_tok * step) * sizeof *sum);
    for (int64_t c = 0; c < n_blocks; c++) {
        for (int t = 0; t < n_tok; t++) widen_record(tk.wide, t, n_tok, tk.x[t]->q);
        for (int g = 0; g < n_group; g++) {
            if (n_tok > 1) {
                prefetch(next, N_LINE * LINE);
                next += N_LINE * LINE;
            }
            group_superblock(sum + (ptrdiff_t)g * TUG_PACK_ROWS, step,
                             body + (size_t)g * group, field + (size_t)g * group, &tk,
                             n_tok);
        }
        body += N_LINE * LINE;
        field += N_FIELD * FIELD;
        for (int t = 0; t < n_tok; t++) tk.x[t]++;
    }
    store_sums(a, r0, n_group, t0, n_tok, sum);
}

void tug_packed_iq4_xs_avx2(const tug_linear_args *a) {
    packed_blocks(a, linear_block);
}
