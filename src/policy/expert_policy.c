/* expert_policy.c - see expert_policy.h.
 *
 * `blend` is the one the engine takes.  An expert's uses come in bursts (the text is about
 * something) on top of a habit (some experts are popular): a count that fades slowly knows
 * the habit and the subject, the time since the last use knows the burst.  Both alone are
 * here too, to be compared with.  SPDX-License-Identifier: MIT */
#include "policy/expert_policy.h"

#include <math.h>
#include <string.h>

#include "base/str.h"

/* Tokens until a count is worth half.  This and what follows come from searches over
 * recorded and synthetic traces; the optimum is flat (docs/TRACE.md). */
static const double HALF_LIFE = 32.0;

/* A use just now is worth this many counts to `blend`, and half of it RECENT tokens later. */
static const double RECENCY = 8.0, RECENT = 16.0;

static double age(const tug_expert_use *u, uint32_t now) {
    return (double)(uint32_t)(now - u->last);
}

static double faded(const tug_expert_use *u, uint32_t now) {
    return (double)u->heat * exp2(-age(u, now) / HALF_LIFE);
}

/* An expert that every token uses has a count of the sum of 1, f, f^2, ... */
double tug_expert_share(const tug_expert_use *u, uint32_t now) {
    return faded(u, now) * (1.0 - exp2(-1.0 / HALF_LIFE));
}

/* The `count` uses lie evenly among the step's tokens: each counts with the mean fade. */
static void count_use(tug_expert_use *u, uint32_t now, int count, int n_tok) {
    const double f = exp2(-1.0 / HALF_LIFE);
    const double mean = n_tok == 1 ? 1.0 : (1.0 - pow(f, n_tok)) / (n_tok * (1.0 - f));
    u->heat = (float)(faded(u, now) + count * mean);
    u->last = now;
}

static double blend_score(const tug_expert_use *u, uint32_t now) {
    return faded(u, now) + RECENCY / (1.0 + age(u, now) / RECENT);
}

static double lfu_score(const tug_expert_use *u, uint32_t now) {
    return faded(u, now);
}

static void lru_use(tug_expert_use *u, uint32_t now, int count, int n_tok) {
    (void)count;
    (void)n_tok;
    u->last = now;
}

static double lru_score(const tug_expert_use *u, uint32_t now) {
    return -age(u, now);
}

/* Heat comes from a profile and stays; those that have some never lose to the others, who
 * are as with `lru`. */
static double pinned_score(const tug_expert_use *u, uint32_t now) {
    return u->heat > 0.0f ? (double)u->heat : lru_score(u, now);
}

/* ---- by name --------------------------------------------------------------------------- */

static const tug_expert_policy policies[] = {
    {"blend", false, count_use, blend_score},
    {"lru", false, lru_use, lru_score},
    {"lfu", false, count_use, lfu_score},
    {"pinned", true, lru_use, pinned_score},
};

int tug_expert_policy_count(void) {
    return (int)(sizeof policies / sizeof *policies);
}

const tug_expert_policy *tug_expert_policy_at(int i) {
    TUG_CHECK(i >= 0 && i < tug_expert_policy_count());
    return &policies[i];
}

tug_status tug_expert_policy_find(const tug_expert_policy **out, const char *name,
                                  tug_err *err) {
    tug_buf names = {0};
    for (int i = 0; i < tug_expert_policy_count(); i++) {
        *out = &policies[i];
        if (strcmp(name, policies[i].name) == 0) {
            tug_buf_free(&names);
            return TUG_OK;
        }
        tug_buf_printf(&names, "%s%s", i > 0 ? ", " : "", policies[i].name);
    }
    const tug_status s = TUG_FAIL(err, TUG_EUSAGE, "there is no policy '%s', but: %s",
                                  name, names.p ? names.p : "");
    tug_buf_free(&names);
    return s;
}
