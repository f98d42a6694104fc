/* loop.h - has the model begun to repeat itself without end?
 *
 * RULE  The text is looping when its last tokens are the same p tokens over and over, for
 *       p up to TUG_LOOP_MAX_PERIOD, and the repeated part is TUG_LOOP_MIN_RUN + 8 p tokens
 *       long: a line of 20 tokens more than a hundred times, one token two thousand times.
 *       Useful text has counters, names or numbers in its lines and stays below; a table of
 *       thousands of equal numbers does not, and is cut.
 * NOT   a text that says the same in other words, or with a counter.
 *
 * A token costs one look into a table: where its last 16 tokens stood before.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CALLS_LOOP_H
#define TUG_CALLS_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { TUG_LOOP_MAX_PERIOD = 512, TUG_LOOP_MIN_RUN = 2048 };

typedef struct tug_loop tug_loop;

/* About 20 KiB. */
TUG_NODISCARD tug_status tug_loop_create(tug_loop **out, tug_err *err);
void tug_loop_destroy(tug_loop **loop);

void tug_loop_reset(tug_loop *loop); /* a new text */

/* The next token.  True when the text is looping. */
bool tug_loop_feed(tug_loop *loop, int32_t id);

/* The period that the text has now; 0: none. */
int tug_loop_period(const tug_loop *loop);

#endif
