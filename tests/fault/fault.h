/* fault.h - make call number n to memory or to the operating system fail.
 *
 *     for (uint64_t n = 1; ; n++) {
 *         fault_fail_alloc(n);
 *         const tug_status s = code_under_test();
 *         const bool hit = fault_stop();
 *         ...check s, release what s == TUG_OK built...
 *         if (!hit) break;        (fewer than n calls: every one has failed once)
 *     }
 *
 * The fault_live_ and fault_alloc_ numbers count from the last start, also while nothing
 * fails (fault_watch); release before fault_stop, or with fault_live_blocks() checked
 * before it.  Not for threads: the counts are plain numbers.  SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_FAULT_H
#define TUG_TESTS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The calls of tug_sys that can be made to fail, to be or-ed. */
enum {
    FAULT_ALLOC = 1 << 0, /* realloc, aligned_alloc */
    FAULT_MMAP = 1 << 1,
    FAULT_OPEN = 1 << 2,
    FAULT_FSTAT = 1 << 3,
    FAULT_READ = 1 << 4, /* read, pread */
    FAULT_WRITE = 1 << 5,
    FAULT_RECV = 1 << 6,
    FAULT_SEND = 1 << 7,
    FAULT_CLOCK = 1 << 8,
    FAULT_RENAME = 1 << 9,
    FAULT_STATVFS = 1 << 10,
    FAULT_MADVISE = 1 << 11,
    FAULT_MLOCK = 1 << 12,
    FAULT_FLAGS = 1 << 13
};

/* Instead of an errno: the transfer moves one byte (READ, WRITE, RECV, SEND). */
enum { FAULT_SHORT = -1 };

/* From now on the nth allocation (from 1), and every one after it, gives NULL: memory
 * that ran out does not come back by itself. */
void fault_fail_alloc(uint64_t n);

/* From now on the nth of `calls` (counted together, from 1) fails with errno `how`, or is
 * short; the others work. */
void fault_fail_once(unsigned calls, uint64_t n, int how);

/* Only counts. */
void fault_watch(void);

/* Puts the real functions back.  Did a call fail? */
bool fault_stop(void);

/* Handed out since the start and not given back. */
int64_t fault_live_blocks(void);
int64_t fault_live_maps(void);
int64_t fault_live_files(void);

/* Bytes asked of realloc and aligned_alloc: the largest request, and all together. */
uint64_t fault_alloc_max(void);
uint64_t fault_alloc_sum(void);

#endif
