/* popularity.c - see popularity.h.
 *
 * With one threshold t for all experts, expert e is used with probability Q(t / s_e), Q
 * being the upper tail of the normal distribution and s_e the deviation of its logit.  So
 * the wanted shares give s_e = t / Q^-1(share).  Q comes from adding up the bell curve,
 * and exp from its series: the C library's may differ between machines.
 * SPDX-License-Identifier: MIT */
#include "synth/popularity.h"

#include <math.h>

#include "base/rng.h"

/* More would need a threshold at or below the mean. */
static const double MAX_SHARE = 0.4;

static double exp_series(double x) {
    const double y = x / 256.0;
    double term = 1.0, sum = 1.0;
    for (int i = 1; i < 12; i++) sum += term *= y / i;
    for (int i = 0; i < 8; i++) sum *= sum;
    return sum;
}

/* The z with upper tail `share`, 0 < share <= 0.5: walks down from where the tail is
 * nothing, then interpolates. */
static double tail_inverse(double share) {
    const double step = 1.0 / 256.0, height = 0.3989422804014327;
    double tail = 0.0, z = 6.0;
    for (;;) {
        const double mid = z - step / 2.0;
        const double slice = step * height * exp_series(-0.5 * mid * mid);
        if (tail + slice >= share) return z - step * (share - tail) / slice;
        tail += slice;
        z -= step;
    }
}

static void shuffle(float *v, int n, uint64_t seed) {
    tug_rng r;
    tug_rng_seed(&r, seed);
    for (int i = n - 1; i > 0; i--) {
        const int j = (int)(tug_rng_u64(&r) % (uint64_t)(i + 1));
        const float kept = v[i];
        v[i] = v[j];
        v[j] = kept;
    }
}

void tug_synth_popularity(float *out, int n, int k, double skew, double spread,
                          uint64_t seed) {
    double sum = 0.0, squares = 0.0;
    for (int i = 0; i < n; i++) sum += exp_series(-skew * (i + 0.5) / n);
    for (int i = 0; i < n; i++) {
        double share = k * exp_series(-skew * (i + 0.5) / n) / sum;
        if (share > MAX_SHARE) share = MAX_SHARE;
        if (share < 1e-7) share = 1e-7;
        const double s = 1.0 / tail_inverse(share);
        out[i] = (float)s;
        squares += s * s;
    }
    const double scale = spread / sqrt(squares / n);
    for (int i = 0; i < n; i++) out[i] = (float)(out[i] * scale);
    shuffle(out, n, seed);
}
