/* rows_ref.c - the specification of the row and element kernels: norms, gates, RoPE and
 * the choice of experts.  Sums and transcendental functions are in double; never tuned.
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "kernels/cpu/kernels_rows.h"

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

static double sum_of_squares(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

void tug_rmsnorm_ref(float *y, const float *x, const float *w, int64_t n, float eps) {
    const double r = 1.0 / sqrt(sum_of_squares(x, n) / (double)n + (double)eps);
    for (int64_t i = 0; i < n; i++) y[i] = (float)((double)x[i] * r * (double)w[i]);
}

void tug_l2norm_ref(float *x, int64_t n, float eps, float scale) {
    const double r = (double)scale / sqrt(sum_of_squares(x, n) + (double)eps);
    for (int64_t i = 0; i < n; i++) x[i] = (float)((double)x[i] * r);
}

void tug_add_ref(float *x, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

void tug_axpy_ref(float *y, const float *x, float a, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = (float)((double)y[i] + (double)a * (double)x[i]);
    }
}

void tug_swiglu_ref(float *h, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)gate[i];
        h[i] = (float)(g * sigmoid(g) * (double)up[i]);
    }
}

void tug_sigmoid_mul_ref(float *y, const float *gate, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = (float)((double)y[i] * sigmoid((double)gate[i]));
    }
}

void tug_rope_ref(float *x, const float *cos, const float *sin, int64_t n_half) {
    for (int64_t i = 0; i < n_half; i++) {
        const double a = (double)x[i], b = (double)x[i + n_half];
        const double c = (double)cos[i], s = (double)sin[i];
        x[i] = (float)(a * c - b * s);
        x[i + n_half] = (float)(b * c + a * s);
    }
}

/* Whether expert i goes before expert j when both want a place among the chosen.  A NaN
 * loses against any number, so the ids stay valid whatever the router computed. */
static bool beats(const float *logits, int32_t i, int32_t j) {
    const float a = logits[i], b = logits[j];
    if (isnan(a) || isnan(b)) return isnan(b) && (!isnan(a) || i < j);
    return a > b || (a == b && i < j);
}

/* ids (k,) = the k best, best first. */
static void choose_best(int32_t *ids, const float *logits, int n_expert, int k) {
    int n = 0;
    for (int32_t i = 0; i < n_expert; i++) {
        if (n == k && !beats(logits, i, ids[k - 1])) continue;
        int at = n < k ? n++ : k - 1;
        for (; at > 0 && beats(logits, i, ids[at - 1]); at--) ids[at] = ids[at - 1];
        ids[at] = i;
    }
}

static void sort_increasing(int32_t *ids, int k) {
    for (int i = 1; i < k; i++) {
        const int32_t id = ids[i];
        int at = i;
        for (; at > 0 && ids[at - 1] > id; at--) ids[at] = ids[at - 1];
        ids[at] = id;
    }
}

void tug_route_ref(int32_t *ids, float *weights, const float *logits, int n_expert,
                   int k) {
    choose_best(ids, logits, n_expert, k);
    const double max = k > 0 ? (double)logits[ids[0]] : 0;
    sort_increasing(ids, k);
    double e[TUG_MAX_TOPK], sum = 0;
    for (int i = 0; i < k; i++) sum += e[i] = exp((double)logits[ids[i]] - max);
    for (int i = 0; i < k; i++) weights[i] = (float)(e[i] / sum);
}
