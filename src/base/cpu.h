/* cpu.h - which instruction-set level this processor (and its OS) offers.
 *
 * A ladder, not a feature matrix: a level means all of its features are present and the
 * operating system saves their registers.  SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_CPU_H
#define TUG_BASE_CPU_H

#include "base/status.h"

typedef enum tug_cpu_level {
    TUG_CPU_REF = 0, /* scalar C, the specification */
    TUG_CPU_AVX2,    /* avx2 fma f16c bmi2 */
    TUG_CPU_AVX512,  /* + avx512 f bw vl dq vnni */
    TUG_CPU_LEVELS
} tug_cpu_level;

tug_cpu_level tug_cpu_detect(void);

/* "ref", "avx2", "avx512". */
const char *tug_cpu_level_name(tug_cpu_level level);

/* Parses such a name (or "auto"); refuses a level this machine does not have. */
TUG_NODISCARD tug_status tug_cpu_level_parse(const char *name, tug_cpu_level *out,
                                             tug_err *err);

/* Processors this process may run on, at least 1. */
int tug_cpu_count(void);

#endif
