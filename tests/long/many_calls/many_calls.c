/* many_calls.c - for fuzz_calls.sh: runs the fuzz target on inputs made here, without
 * sanitizers and without looking at coverage, so that 100 million of them take minutes.
 *
 *     many_calls RUNS SECONDS SEED      prints how many were run
 *
 * An input is a few well-formed calls, texts and closing tags in the target's alphabet,
 * then up to five mutations: parts left out, doubled, replaced, put elsewhere.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX = 200, N_PIECES = 32 };

static tug_rng rng;
static uint8_t data[MAX + 64];
static size_t n;

static size_t below(size_t limit) {
    return (size_t)(tug_rng_u64(&rng) % limit);
}

static void add(const uint8_t *bytes, size_t count) {
    if (n + count > MAX) return;
    memcpy(data + n, bytes, count);
    n += count;
}

/* Even bytes stand for the target's pieces (their order is that of its table). */
#define P(i) (uint8_t)(2 * (i))

static void add_phrase(void) {
    static const struct {
        uint8_t n, piece[12];
    } phrases[] = {
        {6, {P(13), P(6), P(21), P(10), P(5), P(1)}}, /* a call of f */
        {8, {P(13), P(7), P(20), P(10), P(6), P(22), P(10), P(11)}},
        {7, {P(0), P(19), P(3), P(6), P(24), P(9), P(5)}}, /* of g, nothing stripped */
        {5, {P(19), P(2), P(6), P(21), P(9)}},             /* bare */
        {3, {P(13), P(5), P(1)}},                          /* no parameters */
        {4, {P(6), P(19), P(25), P(10)}},                  /* one more parameter */
        {4, {P(8), P(29), P(19), P(10)}},
        {3, {P(10), P(11), P(12)}},
        {2, {P(21), P(19)}},
        {1, {P(12)}},
        {1, {P(15)}},
        {1, {P(16)}},
    };
    const size_t i = below(sizeof phrases / sizeof *phrases);
    add(phrases[i].piece, phrases[i].n);
}

static uint8_t any_byte(void) {
    return below(8) == 0 ? (uint8_t)(tug_rng_u64(&rng) | 1) : P(below(N_PIECES));
}

static void mutate(void) {
    if (n < 3) return;
    const size_t at = 2 + below(n - 2), len = 1 + below(n - at < 6 ? n - at : 6);
    uint8_t part[8];
    switch (below(4)) {
    case 0: /* leave out */
        memmove(data + at, data + at + len, n - at - len);
        n -= len;
        break;
    case 1: data[at] = any_byte(); break;
    case 2: /* double, here or elsewhere */
        memcpy(part, data + at, len);
        const size_t to = 2 + below(n - 1);
        memmove(data + to + len, data + to, n - to);
        memcpy(data + to, part, len);
        n += len;
        break;
    default: /* put in */
        memmove(data + at + 1, data + at, n - at);
        data[at] = any_byte();
        n++;
    }
}

static void make_input(void) {
    n = 0;
    const uint8_t head[] = {(uint8_t)(tug_rng_u64(&rng) | 0x80), (uint8_t)below(256)};
    add(head, 2);
    for (size_t i = 1 + below(4); i > 0; i--) add_phrase();
    for (size_t i = below(6); i > 0; i--) mutate();
    if (below(16) == 0) { /* bytes as they are */
        data[0] &= 0x7F;
        for (size_t i = 2; i < n; i++) data[i] = any_byte();
    }
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    const long long runs = atoll(argv[1]);
    const time_t until = time(NULL) + atol(argv[2]);
    tug_rng_seed(&rng, (uint64_t)atoll(argv[3]));
    long long done = 0;
    while (done < runs && (done % 4096 != 0 || time(NULL) < until)) {
        make_input();
        (void)LLVMFuzzerTestOneInput(data, n);
        done++;
    }
    printf("%lld\n", done);
    return 0;
}
