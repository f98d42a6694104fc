/* popularity.h - how long the rows of a router are, so that some experts are popular.
 *
 * The logit of expert e over many tokens is about normal with a deviation proportional to
 * the length of row e, so longer rows are among the best k more often.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SYNTH_POPULARITY_H
#define TUG_SYNTH_POPULARITY_H

#include <stdint.h>

/* out (n,): the deviation of each expert's logit, root mean square `spread`, such that
 * the share of tokens that use the expert of rank i falls like exp(-skew * i / n) while
 * k are used on average.  skew 0: all the same.  The ranks are shuffled by seed.  The
 * same bits on every machine. */
void tug_synth_popularity(float *out, int n, int k, double skew, double spread,
                          uint64_t seed);

#endif
