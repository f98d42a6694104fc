/* plan_cost.c - see plan_cost.h.  SPDX-License-Identifier: MIT */
#include "plan/plan_cost.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "plan/plan_near.h"

static double with_suffix(const char *text, char **end) {
    double v = strtod(text, end);
    if (*end == text) return NAN;
    static const struct {
        char letter;
        double times;
    } suffixes[] = {{'k', 1e3}, {'m', 1e6}, {'g', 1e9}};
    for (size_t i = 0; i < 3; i++) {
        if ((**end | 0x20) != suffixes[i].letter) continue;
        v *= suffixes[i].times;
        (*end)++;
        break;
    }
    return v;
}

static tug_status set(tug_plan_cost_input *in, const char *key, const char *value,
                      tug_err *err) {
    const struct {
        const char *key;
        double *out, min, max;
    } keys[] = {
        {"watts", &in->watts, 1, 1e5},         {"kwh", &in->price_kwh, 0, 1e4},
        {"hardware", &in->hardware, 0, 1e8},   {"years", &in->years, 0.1, 50},
        {"tokens", &in->written_day, 1, 1e12}, {"prompt", &in->read_day, 0, 1e13},
        {"api", &in->api_written, 0, 1e6},     {"api-prompt", &in->api_read, 0, 1e6},
    };
    const char *known[16] = {NULL};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        known[i] = keys[i].key;
        if (strcasecmp(key, keys[i].key) != 0) continue;
        char *end = NULL;
        const double v = with_suffix(value, &end);
        if (end == value || *end != '\0' || !(v >= keys[i].min && v <= keys[i].max)) {
            return TUG_FAIL(err, TUG_EUSAGE, "%s must be between %g and %g, not '%.24s'",
                            key, keys[i].min, keys[i].max, value);
        }
        *keys[i].out = v;
        return TUG_OK;
    }
    char near[128];
    tug_plan_near_words(known, key, near, sizeof near);
    return TUG_FAIL(err, TUG_EUSAGE, "no cost is known as '%.40s': %s", key, near);
}

tug_status tug_plan_cost_parse(tug_plan_cost_input *in, const char *text, tug_err *err) {
    *in = (tug_plan_cost_input){0};
    for (const char *at = text + strspn(text, ", "); *at; at += strspn(at, ", ")) {
        char word[64];
        const size_t n = strcspn(at, ", ");
        (void)snprintf(word, sizeof word, "%.*s", n < 63 ? (int)n : 63, at);
        char *equals = strchr(word, '=');
        if (!equals) {
            return TUG_FAIL(err, TUG_EUSAGE,
                            "a cost is KEY=NUMBER, such as kwh=0.30, not '%.40s'", word);
        }
        *equals = '\0';
        TUG_TRY(set(in, word, equals + 1, err));
        at += n;
    }
    return TUG_OK;
}

static tug_status check(const tug_plan_cost_input *in, double watts, tug_err *err) {
    if (in->written_day <= 0.0) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "costs need the tokens written a day: add tokens=200K");
    }
    if (watts > 0.0 || in->price_kwh <= 0.0) return TUG_OK;
    return TUG_FAIL(err, TUG_EUSAGE,
                    "nobody knows what this machine draws: add watts=150, as a meter at "
                    "the wall shows it");
}

tug_status tug_plan_cost_make(const tug_plan *plan, const tug_plan_machine *machine,
                              const tug_plan_cost_input *in, tug_plan_cost *out,
                              tug_err *err) {
    const tug_plan_point *at = &plan->points[plan->n_points - 1];
    const double years = in->years > 0.0 ? in->years : 4.0;
    const double millions = in->written_day * 1e-6;
    *out = (tug_plan_cost){.watts = in->watts > 0.0 ? in->watts : machine->watts};
    TUG_TRY(check(in, out->watts, err));
    out->hours_day =
        (in->written_day / at->decode.tok_s + in->read_day / at->prefill.tok_s) / 3600.0;
    out->kwh_day = out->watts * out->hours_day * 1e-3;
    out->energy_day = out->kwh_day * in->price_kwh;
    out->hardware_day = in->hardware / (years * 365.25);
    out->api_day = millions * in->api_written + in->read_day * 1e-6 * in->api_read;
    out->energy_million = out->energy_day / millions;
    out->total_million = (out->energy_day + out->hardware_day) / millions;
    out->api_million = out->api_day / millions;
    const double saved = out->api_day - out->energy_day;
    out->break_even_days = saved > 0.0 ? in->hardware / saved : INFINITY;
    return TUG_OK;
}
