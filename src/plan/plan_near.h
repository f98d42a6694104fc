/* plan_near.h - which known word was probably meant.  SPDX-License-Identifier: MIT */
#ifndef TUG_PLAN_PLAN_NEAR_H
#define TUG_PLAN_PLAN_NEAR_H

#include <stddef.h>

/* "did you mean rtx5060ti or rtx5060?", or, when nothing is near, "known are a, b, ...".
 * words ends with a NULL. */
void tug_plan_near_words(const char *const *words, const char *word, char *out,
                         size_t cap);

#endif
