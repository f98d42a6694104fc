/* expert_policy.c - see expert_policy.h.
 *
 * `blend` is the one the engine takes.  An expert's uses come in bursts (the text is about
 * something) on top of a habit (some experts are popular): a count that fades slowly knows
 * the habit and the subject, the time since the last use knows the burst.  Both alone are
 * here too, to be compared with.  SPDX-License-Identifier: MIT */
#include "memory/expert_policy.h"

#include <math.h>
#include <string.h>

#include "base/str.h"

/* Tokens until a count is worth half.  From sweeps over recorded and synthetic traces; the
 * optimum is flat, a factor of two either way costs less than a point (docs/TRACE.md). */
static const double LFU_HALF_LIFE = 128.0, BLEND_HALF_LIFE = 128.0;

/* A use just now is worth this many faded ones to `blend`, and half of it after RECENT
 * tokens. */
static const double BLEND_RECENCY = 4.0, BLEND_RECENT = 8.0;

static double age(const tug_expert_use *u, uint32_t now) {
    return (double)(uint32_t)(now - u->last);
}

static double faded(const tug_expert_use *u, uint32_t now, double half_life) {
    return (double)u->heat * exp2(-age(u, now) / half_life);
}

/* The `count` uses lie evenly among the step's tokens: each counts with the mean fade. */
static void add_uses(tug_expert_use *u, uint32_t now, int count, int n_tok,
                     double half_life) {
    const double f = exp2(-1.0 / half_life);
    const double mean = (1.0 - pow(f, n_tok)) / (n_tok * (1.0 - f));
    u->heat = (float)(faded(u, now, half_life) + count * mean);
    u->last = now;
}

/* ---- blend ----------------------------------------------------------------------------- */

static void blend_use(tug_expert_use *u, uint32_t now, int count, int n_tok) {
    add_uses(u, now, count, n_tok, BLEND_HALF_LIFE);
}

static double blend_score(const tug_expert_use *u, uint32_t now) {
    return faded(u, now, BLEND_HALF_LIFE) +
           BLEND_RECENCY / (1.0 + age(u, now) / BLEND_RECENT);
}

/* ---- lru ------------------------------------------------------------------------------- */

static void lru_use(tug_expert_use *u, uint32_t now, int count, int n_tok) {
    (void)count;
    (void)n_tok;
    u->last = now;
}

static double lru_score(const tug_expert_use *u, uint32_t now) {
    return -age(u, now);
}

/* ---- lfu ------------------------------------------------------------------------------- */

static void lfu_use(tug_expert_use *u, uint32_t now, int count, int n_tok) {
    add_uses(u, now, count, n_tok, LFU_HALF_LIFE);
}

static double lfu_score(const tug_expert_use *u, uint32_t now) {
    return faded(u, now, LFU_HALF_LIFE);
}

/* ---- pinned ---------------------------------------------------------------------------- */

/* Heat comes from a profile and stays; those that have some never lose to the others, who
 * are as with `lru`. */
static double pinned_score(const tug_expert_use *u, uint32_t now) {
    return u->heat > 0.0f ? (double)u->heat : lru_score(u, now);
}

/* ---- by name --------------------------------------------------------------------------- */

static const tug_expert_policy policies[] = {
    {"blend", blend_use, blend_score},
    {"lru", lru_use, lru_score},
    {"lfu", lfu_use, lfu_score},
    {"pinned", lru_use, pinned_score},
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
