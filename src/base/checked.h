/* checked.h - arithmetic on numbers that somebody else chose.
 *
 * Every size that comes from a file, a socket or the command line goes through these
 * before it is used.  Each returns false, and leaves *out alone, instead of wrapping.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_CHECKED_H
#define TUG_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool tug_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool tug_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* Rounds up to a multiple of `align`, a power of two (else false). */
static inline bool tug_align_up_u64(uint64_t n, uint64_t align, uint64_t *out) {
    if (align == 0 || (align & (align - 1)) != 0) return false;
    uint64_t r;
    if (!tug_add_u64(n, align - 1, &r)) return false;
    *out = r & ~(align - 1);
    return true;
}

/* Is [at, at + len) inside [0, size)?  Never wraps. */
static inline bool tug_range_ok(uint64_t at, uint64_t len, uint64_t size) {
    return at <= size && len <= size - at;
}

#endif
