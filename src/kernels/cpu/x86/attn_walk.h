/* attn_walk.h - how the attention kernels in f32 arithmetic walk over queries and the rows
 * of a chunk; what they do on the way is in attn_<isa>.c.
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

/* The state of one call at one block of rows. */
typedef struct walk {
    const tug_attn_args *a;
    float *parts; /* (n_q, tug_attn_part_floats(head_dim)) */
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
    /* y (n,) = the n values from column c on of a row of K or V, of head_dim values, as
     * f32; n and c are multiples of 32, y aligned to 64. */
    void (*expand_key)(float *y, const char *cache, int64_t row, int c, int n,
                       int head_dim);
    void (*expand_value)(float *y, const char *cache, int64_t row, int c, int n,
                         int head_dim);
    /* Scores of the nq queries from i with the n rows of K expanded, which begin at row
     * `first` of the block.  A tile of rows may go beyond n, not beyond K_ROWS: what is
     * scored there is not used. */
    void (*score)(walk *w, int i, int nq, int first, int n);
    /* The scores of query i become weights; its maximum, sum and rescale follow. */
    void (*weigh)(const walk *w, int i);
    /* out = rescale out + weights V for the nq queries from i and the n columns expanded
     * (32 or V_COLS), which begin at column c. */
    void (*gather)(walk *w, int i, int nq, int c, int n);
} attn_steps;

/* How many rows of the block query i may see. */
static inline int visible(const walk *w, int i) {
    const int64_t n = w->a->q_len[i] - w->r0;
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
    return w->parts + i * tug_attn_part_floats(w->a->head_dim) + TUG_ATTN_PART_OUT;
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
    fetch_from(w, a->v, w->r0, w->n_rows);
    for (int first = 0; first < w->n_rows; first += K_ROWS) {
        const int n = w->n_rows - first < K_ROWS ? w->n_rows - first : K_ROWS;
        for (int r = 0; r < n; r++) {
            steps->expand_key(w->expanded + r * a->head_dim, a->k, w->r0 + first + r, 0,
                              a->head_dim, a->head_dim);
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
        for (int r = 0; r < w->n_rows; r++) {
            steps->expand_value(w->expanded + r * n, a->v, w->r0 + r, c, n, a->head_dim);
        }
        for (int i = 0, nq; i < w->n_q; i += nq) {
            nq = tile_queries(w, i);
            if (visible(w, i) > 0) steps->gather(w, i, nq, c, n);
        }
    }
}

/* The maximum starts at -FLT_MAX, not at -inf: rows that all score -inf then weigh 0.
 * Returns how far the longest query sees. */
static inline int64_t begin_queries(const walk *w) {
    int64_t longest = 0;
    for (int i = 0; i < w->n_q; i++) {
        if (w->a->q_len[i] > longest) longest = w->a->q_len[i];
        w->max[i] = -FLT_MAX;
        w->sum[i] = 0;
        memset(query_out(w, i), 0, (size_t)w->a->head_dim * sizeof(float));
    }
    return longest;
}

INLINE void attend_chunk(const tug_attn_args *a, int64_t chunk, float *parts,
                         const attn_steps *steps) {
    walk w = {.a = a, .parts = parts, .n_q = (int)a->n_q, .expanded = a->scratch};
    w.weights = w.expanded + K_ROWS * TUG_MAX_HEAD_DIM;
    w.max = w.weights + TUG_ATTN_QUERIES * BLOCK;
    w.sum = w.max + TUG_ATTN_QUERIES;
    w.rescale = w.sum + TUG_ATTN_QUERIES;
    const int64_t longest = begin_queries(&w), next = (chunk + 1) * TUG_ATTN_CHUNK;
    const int64_t end = longest < next ? longest : next;
    for (w.r0 = chunk * TUG_ATTN_CHUNK; w.r0 < end; w.r0 += BLOCK) {
        w.n_rows = end - w.r0 < BLOCK ? (int)(end - w.r0) : BLOCK;
        score_block(&w, steps);
        for (int i = 0; i < w.n_q; i++) {
            if (visible(&w, i) > 0) steps->weigh(&w, i);
        }
        gather_block(&w, steps);
    }
    for (int i = 0; i < w.n_q; i++) {
        float *part = query_out(&w, i) - TUG_ATTN_PART_OUT;
        part[0] = w.max[i];
        part[1] = w.sum[i];
    }
}

#endif
