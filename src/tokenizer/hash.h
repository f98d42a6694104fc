/* hash.h - a quick hash of short texts, for tables inside the tokenizer only.
 *
 * Not keyed: a vocabulary made for collisions loads slowly, nothing worse, and text can
 * collide only in a cache that never grows.  SPDX-License-Identifier: MIT */
#ifndef TUG_TOKENIZER_HASH_H
#define TUG_TOKENIZER_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t tug_hash_u64(uint64_t h, uint64_t word) {
    h = (h ^ word) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

/* Whole words, then the rest as two loads that overlap, because a copy of unknown length
 * would be a call. */
static inline uint64_t tug_hash_bytes(const char *p, size_t n) {
    uint64_t h = n, word = 0;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&word, p, 8);
        h = tug_hash_u64(h, word);
    }
    if (n >= 4) {
        uint32_t head, tail;
        memcpy(&head, p, 4);
        memcpy(&tail, p + n - 4, 4);
        return tug_hash_u64(h, (uint64_t)head << 32 | tail);
    }
    if (n == 0) return h;
    const unsigned char *b = (const unsigned char *)p;
    return tug_hash_u64(h, (uint64_t)b[0] << 16 | (uint64_t)b[n / 2] << 8 | b[n - 1]);
}

#endif
