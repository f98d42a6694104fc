/* attn_walk.h - how the SIMD attention kernels walk over queries and cache rows; what
 * they do on the way is in attn_<isa>.c.
 *
 * Online softmax over blocks of 64 cache rows.  K of a block is expanded to f32, 16 rows at
 * a time, and scored for all queries; the scores become weights; V is expanded, 64 columns
 * at a time, and summed into the output, which is rescaled by how much the query's running
 * maximum has risen.  What is expanded (16 KB at head size 256) stays in the first-level
 * cache, and while one half of a block is worked on, the next half is fetched.
 *
 * INDEPENDENCE  The blocks begin at fixed rows of the cache, a query uses only the rows it
 * may see, and each score, weight and output element is computed by one sequence of
 * operations whatever tile of queries it is in.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_X86_ATTN_WALK_H
#define TUG_KERNELS_CPU_X86_ATTN_WALK_H

#include <float.h>
#include <string.h>

#include "kernels/cpu/kernels_attn.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = TUG_ATTN_BLOCK,
    K_ROWS = TUG_ATTN_K_ROWS,
    V_COLS = TUG_ATTN_V_COLS,
    TILE_Q = 4, /* queries per tile */
    Q8_0_ELEMS = 32,
    Q8_0_BYTES = 34
};

/* The state of one call: up to TUG_ATTN_QUERIES of its queries at one block of rows. */
typedef struct walk {
    const tug_attn_args *a;
    int64_t q0; /* the first query in flight */
    int n_q;
    int64_t r0;                    /* the first row of the block */
    int n_rows;                    /* of the block that any query may see */
    float *expanded;               /* (K_ROWS, head_dim) of K, or (BLOCK, columns) of V */
    float *weights;                /* (n_q, BLOCK): scores, then weights */
    float *max, *sum, *rescale;    /* (n_q,) */
    const char *ahead, *ahead_end; /* cache rows still to be fetched, see fetch */
} walk;

/* What an instruction set has to do. */
typedef struct attn_steps {
    /* y (n,) = n values of a cache row as f32; n is a multiple of 32, y aligned to 64. */
    void (*expand)(float *y, const char *row, int n);
    /* Scores of the nq queries from i with the n rows of K expanded, which begin at row
     * `first` of the block.  A tile of rows may go beyond n, not beyond K_ROWS: what is
     * scored there is not used. */
    void (*score)(walk *w, int i, int nq, int first, int n);
    /* The scores of query i become weights; its maximum, sum and rescale follow. */
    void (*weigh)(const walk *w, int i);
    /* out = rescale out + weights V for the nq queries from i and the n columns expanded
     * (32 or V_COLS), which begin at column c. */
    void (*gather)(walk *w, int i, int nq, int c, int n);
    /* out (n,) /= sum, at the end. */
    void (*divide)(float *out, float sum, int n);
} attn_steps;

/* How many rows of the block query i may see. */
static inline int visible(const walk *w, int i) {
    const int64_t n = w->a->q_len[w->q0 + i] - w->r0;
    return n < 0 ? 0 : n > BLOCK ? BLOCK : (int)n;
}

/* Queries of the tile that begins at query i: those that see the same rows, so that no
 * query is touched by rows beyond its own. */
static inline int tile_queries(const walk *w, int i) {
    int n = 1;
    while (n < TILE_Q && i + n < w->n_q && visible(w, i + n) == visible(w, i)) n++;
    return n;
}

static inline float *query_out(const walk *w, int i) {
    return w->a->out + (w->q0 + i) * w->a->out_stride;
}

/* From where a tile fetches the next `bytes`: one cache line per 256 multiply-adds keeps
 * the memory busy without ever waiting for it, as a burst of requests would.  When all is
 * fetched, tiles ask for the last lines again, which costs nothing. */
static inline const char *fetch(walk *w, int bytes) {
    const char *at = w->ahead;
    if (w->ahead_end - at > bytes) w->ahead += bytes;
    return at;
}

static inline void fetch_from(walk *w, const void *rows, int64_t first, int n) {
    w->ahead = (const char *)rows + (size_t)first * w->a->row_bytes;
    w->ahead_end = w->ahead + (size_t)n * w->a->row_bytes;
}

/* Scores of all queries with the block, fetching its V meanwhile. */
INLINE void score_block(walk *w, const attn_steps *steps) {
    const tug_attn_args *a = w->a;
    const char *k = (const char *)a->k + (size_t)w->r0 * a->row_bytes;
    fetch_from(w, a->v, w->r0, w->n_rows);
    for (int first = 0; first < w->n_rows; first += K_ROWS) {
        const int n = w->n_rows - first < K_ROWS ? w->n_rows - first : K_ROWS;
        for (int r = 0; r < n; r++, k += a->row_bytes) {
            steps->expand(w->expanded + r * a->head_dim, k, a->head_dim);
        }
        for (int i = 0, nq; i < w->n_q; i += nq) {
            nq = tile_queries(w, i);
            const int seen = visible(w, i) - first;
            if (seen > 0) steps->score(w, i, nq, first, seen < n ? seen : n);
        }
    }
}

/* The weighted sum of V over the block for all queries, fetching the K of the next block
 * meanwhile (a prefetch beyond the cache's end is harmless). */
INLINE void gather_block(walk *w, const attn_steps *steps) {
    const tug_attn_args *a = w->a;
    fetch_from(w, a->k, w->r0 + BLOCK, BLOCK);
    for (int c = 0, n; c < a->head_dim; c += n) {
        n = a->head_dim - c < V_COLS ? 32 : V_COLS;
        const char *v = (const char *)a->v + (size_t)w->r0 * a->row_bytes +
                        a->row_bytes * (size_t)c / (size_t)a->head_dim;
        for (int r = 0; r < w->n_rows; r++, v += a->row_bytes) {
            steps->expand(w->expanded + r * n, v, n);
        }
        for (int i = 0, nq; i < w->n_q; i += nq) {
            nq = tile_queries(w, i);
            if (visible(w, i) > 0) steps->gather(w, i, nq, c, n);
        }
    }
}

/* The maximum starts at -FLT_MAX, not at -inf: rows that all score -inf then weigh 0. */
static inline int64_t begin_queries(const walk *w) {
    int64_t longest = 0;
    for (int i = 0; i < w->n_q; i++) {
        const int64_t len = w->a->q_len[w->q0 + i];
        if (len > longest) longest = len;
        w->max[i] = -FLT_MAX;
        w->sum[i] = 0;
        memset(query_out(w, i), 0, (size_t)w->a->head_dim * sizeof(float));
    }
    return longest;
}

INLINE void attend(const tug_attn_args *a, const attn_steps *steps) {
    walk w = {.a = a, .expanded = a->scratch};
    w.weights = w.expanded + K_ROWS * TUG_MAX_HEAD_DIM;
    w.max = w.weights + TUG_ATTN_QUERIES * BLOCK;
    w.sum = w.max + TUG_ATTN_QUERIES;
    w.rescale = w.sum + TUG_ATTN_QUERIES;
    for (; w.q0 < a->n_q; w.q0 += w.n_q) {
        const int64_t left = a->n_q - w.q0;
        w.n_q = left < TUG_ATTN_QUERIES ? (int)left : TUG_ATTN_QUERIES;
        const int64_t longest = begin_queries(&w);
        for (w.r0 = 0; w.r0 < longest; w.r0 += BLOCK) {
            w.n_rows = longest - w.r0 < BLOCK ? (int)(longest - w.r0) : BLOCK;
            score_block(&w, steps);
            for (int i = 0; i < w.n_q; i++) {
                if (visible(&w, i) > 0) steps->weigh(&w, i);
            }
            gather_block(&w, steps);
        }
        for (int i = 0; i < w.n_q; i++) {
            steps->divide(query_out(&w, i), w.sum[i], a->head_dim);
        }
    }
}

#endif
