/* gold.c - see gold.h.  SPDX-License-Identifier: MIT */
#include "golden/gold.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool gold_read(gold *g, const char *path) {
    memset(g, 0, sizeof *g);
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    (void)fseek(f, 0, SEEK_END);
    const long size = ftell(f);
    rewind(f);
    g->bytes = malloc(size > 0 ? (size_t)size : 1);
    const bool read =
        g->bytes && size >= 28 && fread(g->bytes, 1, (size_t)size, f) == (size_t)size;
    (void)fclose(f);
    if (!read || memcmp(g->bytes, "TUGGOLD1", 8) != 0) {
        gold_free(g);
        return false;
    }
    uint32_t head[5];
    memcpy(head, (char *)g->bytes + 8, sizeof head);
    g->n_tok = head[0];
    g->n_vocab = head[1];
    g->n_layer = head[2];
    g->dim = head[3];
    g->n_pos = head[4];
    const int64_t floats =
        g->n_pos * g->n_vocab + g->n_layer * 2 * g->n_pos * g->dim + 2 * g->n_tok;
    if (size != 28 + 4 * (g->n_tok + g->n_pos + floats)) {
        gold_free(g);
        return false;
    }
    g->tokens = (int32_t *)(void *)((char *)g->bytes + 28);
    g->pos = g->tokens + g->n_tok;
    g->logits = (float *)(void *)(g->pos + g->n_pos);
    g->taps = g->logits + g->n_pos * g->n_vocab;
    g->mean = g->taps + g->n_layer * 2 * g->n_pos * g->dim;
    g->rms = g->mean + g->n_tok;
    return true;
}

void gold_free(gold *g) {
    free(g->bytes);
    memset(g, 0, sizeof *g);
}

int64_t gold_find(const gold *g, int64_t pos) {
    for (int64_t i = 0; i < g->n_pos; i++) {
        if (g->pos[i] == pos) return i;
    }
    return -1;
}

double gold_rel(const float *a, const float *b, int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(diff / (norm > 0 ? norm : 1));
}

static double log_sum_exp(const float *x, int64_t n) {
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

double gold_kl(const float *a, const float *b, int64_t n) {
    const double za = log_sum_exp(a, n), zb = log_sum_exp(b, n);
    double kl = 0;
    for (int64_t i = 0; i < n; i++) {
        const double lb = (double)b[i] - zb;
        kl += exp(lb) * (lb - ((double)a[i] - za));
    }
    return kl;
}
