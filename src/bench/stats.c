/* stats.c - see stats.h.  SPDX-License-Identifier: MIT */
#include "bench/stats.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

tug_spread tug_spread_of(const double *v, int n) {
    double sorted[TUG_STATS_MAX];
    if (n > TUG_STATS_MAX) n = TUG_STATS_MAX;
    if (n < 1) return (tug_spread){0};
    memcpy(sorted, v, (size_t)n * sizeof *v);
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    return (tug_spread){.median = 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]),
                        .min = sorted[0],
                        .max = sorted[n - 1],
                        .n = n};
}

static int n_different(const double *x, int n) {
    int different = 0;
    for (int i = 0; i < n; i++) {
        bool seen = false;
        for (int j = 0; j < i; j++) seen |= x[j] == x[i];
        different += !seen;
    }
    return different;
}

tug_line tug_line_fit(const double *x, const double *y, int n) {
    if (n_different(x, n) < 3) return (tug_line){0};
    double mx = 0, my = 0, sxx = 0, sxy = 0;
    for (int i = 0; i < n; i++) {
        mx += x[i] / n;
        my += y[i] / n;
    }
    for (int i = 0; i < n; i++) {
        sxx += (x[i] - mx) * (x[i] - mx);
        sxy += (x[i] - mx) * (y[i] - my);
    }
    return (tug_line){.a = my - sxy / sxx * mx, .b = sxy / sxx, .ok = true};
}
