/* fault.h - make allocation number n fail.
 *
 *     for (uint64_t n = 1; ; n++) {
 *         fault_fail_alloc(n);
 *         const tug_status s = code_under_test();
 *         const bool hit = fault_stop();
 *         ...check s, release what s == TUG_OK built...
 *         if (!hit) break;        (fewer than n allocations: every one has failed once)
 *     }
 *
 * Not for threads: the count is one plain number.  SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_FAULT_H
#define TUG_TESTS_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* From now on the nth call (from 1) of realloc and aligned_alloc in tug_sys, and every
 * one after it, gives NULL: memory that ran out does not come back by itself. */
void fault_fail_alloc(uint64_t n);

/* Puts the real functions back.  Did a call fail? */
bool fault_stop(void);

/* Blocks that tug_sys handed out since fault_fail_alloc and nobody freed. */
int64_t fault_live_blocks(void);

#endif
