/* loop.c - see loop.h.
 *
 * One period is followed at a time: the distance to the place where the last GRAM tokens
 * stood before.  It is dropped at the first token that differs, and the next token whose
 * gram stood before gives another.  In a text that repeats p tokens, a distance below p (a
 * part that occurs twice in a period) breaks where those two places go on differently; the
 * gram that ends there knows the difference, so its distance lasts longer.
 * SPDX-License-Identifier: MIT */
#include "calls/loop.h"

#include "base/sys.h"

enum { GRAM = 16, RING = 1024, N_SLOTS = 4096 };

_Static_assert(RING >= TUG_LOOP_MAX_PERIOD + GRAM, "the ring holds a period and a gram");

struct tug_loop {
    int64_t n; /* tokens so far */
    int64_t run;
    int32_t period; /* 0: none */
    uint32_t hash;  /* of the last GRAM tokens */
    int32_t ring[RING];
    uint32_t slot[N_SLOTS]; /* hash -> where its gram ended, + 1, modulo 2^32 */
};

tug_status tug_loop_create(tug_loop **out, tug_err *err) {
    *out = tug_alloc_zero(sizeof **out);
    return *out ? TUG_OK
                : TUG_FAIL(err, TUG_ENOMEM, "out of memory for the loop detector");
}

void tug_loop_destroy(tug_loop **loop) {
    tug_free(*loop);
    *loop = NULL;
}

void tug_loop_reset(tug_loop *l) {
    *l = (tug_loop){.n = 0};
}

int tug_loop_period(const tug_loop *l) {
    return l->period;
}

static int32_t token(const tug_loop *l, int64_t at) {
    return l->ring[(uint64_t)at % RING];
}

/* FACTOR^GRAM, to take the oldest token out of the sum. */
#define FACTOR 0x01000193u

static uint32_t factor_power(void) {
    uint32_t power = 1;
    for (int i = 0; i < GRAM; i++) power *= FACTOR;
    return power;
}

static uint32_t mix(int32_t id) {
    uint32_t x = (uint32_t)id + 1;
    x = (x ^ x >> 16) * 0x7feb352du;
    return x ^ x >> 15;
}

/* How far back the last GRAM tokens stood before; 0: not within a period's length. */
static int32_t distance(tug_loop *l) {
    const uint32_t now = (uint32_t)l->n;
    uint32_t *const slot = &l->slot[(l->hash ^ l->hash >> 13) % N_SLOTS];
    const uint32_t back = now - *slot;
    const bool known = *slot != 0 && back > 0 && back <= TUG_LOOP_MAX_PERIOD;
    *slot = now;
    if (!known || (int64_t)back + GRAM > l->n) return 0;
    for (int64_t i = l->n - GRAM; i < l->n; i++) {
        if (token(l, i) != token(l, i - back)) return 0;
    }
    return (int32_t)back;
}

bool tug_loop_feed(tug_loop *l, int32_t id) {
    const bool goes_on = l->period && token(l, l->n - l->period) == id;
    l->hash = l->hash * FACTOR + mix(id);
    if (l->n >= GRAM) l->hash -= mix(token(l, l->n - GRAM)) * factor_power();
    l->ring[(uint64_t)l->n % RING] = id;
    l->n++;
    const int32_t back = l->n >= GRAM ? distance(l) : 0;
    if (goes_on) {
        l->run++;
    } else {
        l->period = back;
        l->run = back ? back + GRAM : 0;
    }
    return l->period && l->run >= TUG_LOOP_MIN_RUN + 8 * (int64_t)l->period;
}
