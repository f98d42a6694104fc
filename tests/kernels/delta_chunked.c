/* delta_chunked.c - see delta_chunked.h.
 *
 * Unrolling the recurrence over tokens 1..C of a chunk that starts in state S0, with
 * D(i,j) the product of the decays of tokens j+1..i:
 *
 *   S_i   = D(i,0) S0 + sum over j <= i of D(i,j) k_j u_j^T
 *   u_i   = beta_i (v_i - D(i,0) S0^T k_i - sum over j < i of D(i,j) (k_j . k_i) u_j)
 *   out_i = D(i,0) S0^T q_i + sum over j <= i of D(i,j) (k_j . q_i) u_j
 *
 * so the state is touched once per chunk, by matrix products.  The decays are multiplied
 * up, never divided: a chunk may forget everything without a division by zero.  Columns
 * are worked on in tiles of 32, four tokens or rows at a time, written with the
 * compiler's vector extension: as fast as the instruction set it is compiled for.
 * SPDX-License-Identifier: MIT */
#include "kernels/delta_chunked.h"

#include <string.h>

typedef float vec __attribute__((vector_size(64)));
enum { LANES = 16, TILE = 2, COLS = TILE * LANES, ROWS = 4 };
typedef vec row[TILE]; /* 32 columns */

/* What the columns share, for the n tokens of one chunk. */
typedef struct chunk_terms {
    int n;
    float from_start[DELTA_MAX_CHUNK];                    /* D(i, 0) */
    float kk[DELTA_MAX_CHUNK][DELTA_MAX_CHUNK];           /* D(i, j) k_j . k_i */
    float qk[DELTA_MAX_CHUNK][DELTA_MAX_CHUNK];           /* D(i, j) k_j . q_i */
    float k_to_end[DELTA_MAX_DK + ROWS][DELTA_MAX_CHUNK]; /* D(n, j) k_j, transposed */
} chunk_terms;

static float dot(const float *x, const float *y, int n) {
    vec lanes = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec a, b;
        memcpy(&a, x + i, sizeof a);
        memcpy(&b, y + i, sizeof b);
        lanes += a * b;
    }
    float sum = 0;
    for (; i < n; i++) sum += x[i] * y[i];
    for (int j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}

static void make_terms(chunk_terms *c, const tug_delta_args *a, int64_t t0, int n) {
    float decay[DELTA_MAX_CHUNK]; /* D(i, j) of the current i */
    c->n = n;
    for (int i = 0; i < n; i++) {
        const float *ki = a->k + (t0 + i) * a->qk_stride;
        const float *qi = a->q + (t0 + i) * a->qk_stride;
        const float d = a->decay[(t0 + i) * a->gate_stride];
        c->from_start[i] = i > 0 ? c->from_start[i - 1] * d : d;
        for (int j = 0; j < i; j++) decay[j] *= d;
        decay[i] = 1;
        for (int j = 0; j <= i; j++) {
            const float *kj = a->k + (t0 + j) * a->qk_stride;
            c->kk[i][j] = decay[j] * dot(kj, ki, a->dk);
            c->qk[i][j] = decay[j] * dot(kj, qi, a->dk);
        }
    }
    for (int j = 0; j < n; j++) {
        for (int r = 0; r < a->dk; r++) {
            c->k_to_end[r][j] = decay[j] * a->k[(t0 + j) * a->qk_stride + r];
        }
    }
}

/* out[i] = S^T x_i for ROWS vectors x at x + i * stride. */
static void dots_with_state(row *out, const row *s, const float *x, int64_t stride,
                            int dk) {
    row acc[ROWS] = {0};
    for (int r = 0; r < dk; r++) {
        for (int i = 0; i < ROWS; i++) {
            for (int v = 0; v < TILE; v++) acc[i][v] += s[r][v] * x[i * stride + r];
        }
    }
    memcpy(out, acc, sizeof acc);
}

/* The same for all n tokens; a last group of fewer than ROWS overlaps the one before. */
static void all_dots(row *out, const row *s, const float *x, int64_t stride, int dk,
                     int n) {
    for (int i = 0; i < n; i += ROWS) {
        const int at = i + ROWS <= n || n < ROWS ? i : n - ROWS;
        if (n < ROWS) {
            for (int j = 0; j < n; j++) {
                row pad[ROWS];
                dots_with_state(pad, s, x + j * stride, 0, dk);
                memcpy(out[j], pad[0], sizeof(row));
            }
        } else {
            dots_with_state(out + at, s, x + at * stride, stride, dk);
        }
    }
}

/* S <- D(n, 0) S + sum over j of D(n, j) k_j u_j^T, ROWS rows of S at a time. */
static void update_state(row *s, const chunk_terms *c, const row *u, int dk) {
    for (int r = 0; r < dk; r += ROWS) {
        row acc[ROWS];
        for (int i = 0; i < ROWS; i++) {
            for (int v = 0; v < TILE; v++)
                acc[i][v] = s[r + i][v] * c->from_start[c->n - 1];
        }
        for (int j = 0; j < c->n; j++) {
            for (int i = 0; i < ROWS; i++) {
                for (int v = 0; v < TILE; v++)
                    acc[i][v] += u[j][v] * c->k_to_end[r + i][j];
            }
        }
        memcpy(s + r, acc, sizeof acc);
    }
}

/* One chunk for the 32 columns whose state is s (dk, 32) and whose v is u on entry; u
 * becomes the u of the recurrence and out the outputs. */
static void chunk_columns(row *out, row *s, row *u, const chunk_terms *c,
                          const tug_delta_args *a, int64_t t0) {
    row sk[DELTA_MAX_CHUNK];
    all_dots(sk, s, a->k + t0 * a->qk_stride, a->qk_stride, a->dk, c->n);
    all_dots(out, s, a->q + t0 * a->qk_stride, a->qk_stride, a->dk, c->n);
    for (int i = 0; i < c->n; i++) {
        const float beta = a->beta[(t0 + i) * a->gate_stride];
        row rest, sum;
        for (int v = 0; v < TILE; v++) {
            rest[v] = u[i][v] - c->from_start[i] * sk[i][v];
            sum[v] = c->from_start[i] * out[i][v];
        }
        for (int j = 0; j < i; j++) {
            for (int v = 0; v < TILE; v++) {
                rest[v] -= c->kk[i][j] * u[j][v];
                sum[v] += c->qk[i][j] * u[j][v];
            }
        }
        for (int v = 0; v < TILE; v++) {
            u[i][v] = beta * rest[v];
            out[i][v] = sum[v] + c->qk[i][i] * u[i][v];
        }
    }
    update_state(s, c, u, a->dk);
}

static void load_rows(row *to, const float *from, int64_t stride, int n, int n_col) {
    memset(to, 0, (size_t)n * sizeof *to);
    for (int i = 0; i < n; i++) {
        memcpy(to[i], from + i * stride, (size_t)n_col * sizeof(float));
    }
}

static void store_rows(float *to, int64_t stride, const row *from, int n, int n_col) {
    for (int i = 0; i < n; i++) {
        memcpy(to + i * stride, from[i], (size_t)n_col * sizeof(float));
    }
}

void delta_chunked(const tug_delta_args *a, int chunk) {
    static chunk_terms c; /* 100 KB; rows of k_to_end beyond dk are never written: zero */
    row s[DELTA_MAX_DK + ROWS], u[DELTA_MAX_CHUNK], out[DELTA_MAX_CHUNK];
    for (int64_t t0 = 0; t0 < a->n_tok; t0 += chunk) {
        const int n = a->n_tok - t0 < chunk ? (int)(a->n_tok - t0) : chunk;
        make_terms(&c, a, t0, n);
        for (int col = 0; col < a->n_col; col += COLS) {
            const int n_col = a->n_col - col < COLS ? a->n_col - col : COLS;
            memset(s + a->dk, 0, ROWS * sizeof *s);
            load_rows(s, a->state + col, a->state_stride, a->dk, n_col);
            load_rows(u, a->v + t0 * a->v_stride + col, a->v_stride, n, n_col);
            chunk_columns(out, s, u, &c, a, t0);
            store_rows(a->out + t0 * a->out_stride + col, a->out_stride, out, n, n_col);
            store_rows(a->state + col, a->state_stride, s, a->dk, n_col);
        }
    }
}
