/* rng.h - the seeded generator behind sampling and tests (xoshiro256**, Blackman and
 * Vigna 2018, seeded by splitmix64).  Not for secrets.  SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_RNG_H
#define TUG_BASE_RNG_H

#include <stdint.h>

typedef struct tug_rng {
    uint64_t s[4];
} tug_rng;

static inline void tug_rng_seed(tug_rng *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        seed += 0x9E3779B97F4A7C15u;
        uint64_t z = seed;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        r->s[i] = z ^ z >> 31;
    }
}

static inline uint64_t tug_rng_u64(tug_rng *r) {
    uint64_t *s = r->s;
    const uint64_t m = s[1] * 5, out = (m << 7 | m >> 57) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return out;
}

/* Uniform in [0, 1), 53 bits. */
static inline double tug_rng_unit(tug_rng *r) {
    return (double)(tug_rng_u64(r) >> 11) * 0x1p-53;
}

#endif
