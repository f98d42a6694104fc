/* stats.h - medians, spreads and straight lines.  SPDX-License-Identifier: MIT */
#ifndef TUG_BENCH_STATS_H
#define TUG_BENCH_STATS_H

#include <stdbool.h>

/* Of n measurements; all zero when there is none. */
typedef struct tug_spread {
    double median, min, max;
    int n;
} tug_spread;

enum { TUG_STATS_MAX = 128 };

/* Of the first TUG_STATS_MAX of v (n,).  The median of an even number is the mean of the
 * two in the middle. */
tug_spread tug_spread_of(const double *v, int n);

/* y = a + b x by least squares. */
typedef struct tug_line {
    double a, b;
    bool ok; /* at least three different x: two would fit anything */
} tug_line;

tug_line tug_line_fit(const double *x, const double *y, int n);

#endif
