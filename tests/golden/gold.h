/* gold.h - reads what tools/golden recorded from the reference implementation.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_GOLD_H
#define TUG_TESTS_GOLD_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gold {
    int64_t n_tok, n_vocab, n_layer, dim, n_pos;
    int32_t *tokens; /* (n_tok,) */
    int32_t *pos;    /* (n_pos,) recorded positions, increasing */
    float *logits;   /* (n_pos, n_vocab) */
    float *taps;     /* (n_layer, 2, n_pos, dim): after the mixer, after the layer */
    float *mean;     /* (n_tok,) mean of every position's logits */
    float *rms;      /* (n_tok,) root of the mean square of every position's logits */
    void *bytes;     /* owned: the file */
} gold;

bool gold_read(gold *g, const char *path);
void gold_free(gold *g);

/* Index of position `pos`, or -1. */
int64_t gold_find(const gold *g, int64_t pos);

/* || a - b || / || b || */
double gold_rel(const float *a, const float *b, int64_t n);

/* Kullback-Leibler divergence of softmax(a) from softmax(b), in nats. */
double gold_kl(const float *a, const float *b, int64_t n);

#endif
