/* expert_policy.c - see expert_policy.h.
 *
 * `forecast` is the one the engine takes (expert_forecast.h); the classical ones are here to
 * be compared with.  SPDX-License-Identifier: MIT */
#include "policy/expert_policy.h"

#include <math.h>
#include <string.h>

#include "base/str.h"

static double age(const tug_expert_use *u, uint32_t now) {
    return (double)(uint32_t)(now - u->last);
}

/* ---- lru --------------------------------------------------------------------------------- */

static void lru_step(tug_expert_forecast *f, tug_expert_use *uses,
                     const tug_expert_step *s) {
    (void)f;
    for (int i = 0; i < s->n; i++) uses[s->experts[i]].last = s->now;
}

static double lru_score(const tug_expert_forecast *f, const tug_expert_use *u,
                        uint32_t now) {
    (void)f;
    return -age(u, now);
}

/* ---- lfu: a count that fades ------------------------------------------------------------- */

static const double HALF_LIFE = 32.0; /* tokens until a count is worth half */

static double faded(const tug_expert_use *u, uint32_t now) {
    return (double)u->heat * exp2(-age(u, now) / HALF_LIFE);
}

static void lfu_step(tug_expert_forecast *f, tug_expert_use *uses,
                     const tug_expert_step *s) {
    (void)f;
    for (int i = 0; i < s->n; i++) {
        tug_expert_use *u = &uses[s->experts[i]];
        u->heat =
            (float)(faded(u, s->now) + tug_expert_added(s, s->counts[i], HALF_LIFE));
        u->last = s->now;
    }
}

static double lfu_score(const tug_expert_forecast *f, const tug_expert_use *u,
                        uint32_t now) {
    (void)f;
    return faded(u, now);
}

/* ---- pinned ------------------------------------------------------------------------------ */

/* Heat comes from a profile and stays; those that have some never lose to the others, who
 * are as with `lru`. */
static double pinned_score(const tug_expert_forecast *f, const tug_expert_use *u,
                           uint32_t now) {
    return u->heat > 0.0f ? (double)u->heat : lru_score(f, u, now);
}

/* ---- by name --------------------------------------------------------------------------- */

static const tug_expert_policy policies[] = {
    {"forecast", false, tug_expert_forecast_step, tug_expert_forecast_rate},
    {"lru", false, lru_step, lru_score},
    {"lfu", false, lfu_step, lfu_score},
    {"pinned", true, lru_step, pinned_score},
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
