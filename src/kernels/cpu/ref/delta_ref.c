/* delta_ref.c - the specification of the Gated DeltaNet kernels: short convolution,
 * gates, the delta rule and the gated norm.  Sums and transcendental functions are in
 * double; never tuned.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "kernels/cpu/kernels_delta.h"

static double silu(double x) {
    return x / (1.0 + exp(-x));
}

/* log(1 + exp(x)) without overflow, and exact where exp(x) is tiny. */
static double softplus(double x) {
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

/* The inputs at time t; before the call's first token they are in the state. */
static const float *conv_input(const tug_conv_args *a, int64_t t) {
    return t < 0 ? a->state + (t + a->width - 1) * a->state_stride
                 : a->x + t * a->x_stride;
}

void tug_conv_silu_ref(const tug_conv_args *a) {
    const int64_t past = a->width - 1;
    for (int64_t t = 0; t < a->n_tok; t++) {
        for (int64_t c = 0; c < a->n_ch; c++) {
            double sum = 0;
            for (int64_t i = 0; i <= past; i++) {
                sum += (double)a->w[i * a->w_stride + c] *
                       (double)conv_input(a, t - past + i)[c];
            }
            a->y[t * a->y_stride + c] = (float)silu(sum);
        }
    }
    /* Oldest first, so a row of the state is read before it is overwritten. */
    for (int64_t i = 0; i < past && a->n_tok > 0; i++) {
        memcpy(a->state + i * a->state_stride, conv_input(a, a->n_tok - past + i),
               (size_t)a->n_ch * sizeof(float));
    }
}

/* One token for one column of the state: s[i * stride] is S[i, column]. */
static float delta_column(const tug_delta_args *a, float *s, int64_t t, float v) {
    const float *k = a->k + t * a->qk_stride, *q = a->q + t * a->qk_stride;
    const double decay = (double)a->decay[t * a->gate_stride];
    const double beta = (double)a->beta[t * a->gate_stride];
    double sk = 0, out = 0;
    for (int64_t i = 0; i < a->dk; i++) {
        sk += decay * (double)s[i * a->state_stride] * (double)k[i];
    }
    const double u = beta * ((double)v - sk);
    for (int64_t i = 0; i < a->dk; i++) {
        const double si = decay * (double)s[i * a->state_stride] + (double)k[i] * u;
        s[i * a->state_stride] = (float)si;
        out += si * (double)q[i];
    }
    return (float)out;
}

void tug_delta_ref(const tug_delta_args *a) {
    for (int64_t t = 0; t < a->n_tok; t++) {
        for (int c = 0; c < a->n_col; c++) {
            const float v = a->v[t * a->v_stride + c];
            a->out[t * a->out_stride + c] = delta_column(a, a->state + c, t, v);
        }
    }
}

void tug_delta_gates_ref(float *beta, float *decay, const float *b, const float *a,
                         const float *dt_bias, const float *a_coef, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double dt = softplus((double)a[i] + (double)dt_bias[i]);
        beta[i] = (float)(1.0 / (1.0 + exp(-(double)b[i])));
        decay[i] = (float)exp((double)a_coef[i] * dt);
    }
}

void tug_rmsnorm_gated_ref(float *y, const float *x, const float *w, const float *z,
                           int64_t n, float eps) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    const double r = 1.0 / sqrt(sum / (double)n + (double)eps);
    for (int64_t i = 0; i < n; i++) {
        y[i] = (float)((double)x[i] * r * (double)w[i] * silu((double)z[i]));
    }
}
