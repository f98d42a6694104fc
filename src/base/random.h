/* random.h - text that nobody can guess.  SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_RANDOM_H
#define TUG_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* n letters and digits and a terminating 0 into out (n + 1,), from the kernel's generator. */
TUG_NODISCARD tug_status tug_random_text(char *out, size_t n, tug_err *err);

TUG_NODISCARD tug_status tug_random_u64(uint64_t *out, tug_err *err);

#endif
