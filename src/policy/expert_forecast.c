/* expert_forecast.c - see expert_forecast.h.  SPDX-License-Identifier: MIT */
#include "policy/expert_forecast.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { BRIEF, HABIT, RECENT, ALWAYS, N = TUG_FORECAST_TERMS };

/* Tokens.  From a search over recorded and made-up routes; the optimum is flat. */
enum { BRIEF_LIFE = 16, HABIT_LIFE = TUG_FORECAST_FADE };
static const double RECENT_AGE = 2.0;
static const double MEMORY = 200.0; /* of the evidence */

/* What is believed at first, and against how much evidence: a sum of squares, to be
 * compared with that of all experts of all layers, tens a token. */
static const double PRIOR[N] = {0.5, 0.5, 0.17, 0.0};
static const double TRUST[N] = {20.0, 20.0, 20.0, 0.02};

/* Enough experts a token, of all layers, to learn from within a few tokens. */
enum { ENOUGH = 1024 };

/* Longer batches say little of what decoding will be like. */
enum { SHORT_STEP = 8 };

void tug_expert_forecast_init(tug_expert_forecast *f, int n_layer, int n_expert) {
    const uint64_t all = (uint64_t)n_layer * (uint64_t)n_expert;
    *f = (tug_expert_forecast){.keep = exp2(-1.0 / (MEMORY * n_layer)),
                               .stride = all > ENOUGH ? (uint32_t)(all / ENOUGH) : 1};
    memcpy(f->weight, PRIOR, sizeof PRIOR);
    for (int i = 0; i < TUG_FORECAST_FADE; i++) {
        f->fade[i] = exp2f(-(float)i / TUG_FORECAST_FADE);
    }
}

/* ---- what is known of an expert ---------------------------------------------------------- */

static uint32_t age(uint32_t then, uint32_t now) {
    return now - then;
}

/* 2^-n for n < 1023. */
static double power_of_half(uint64_t n) {
    const uint64_t bits = (1023 - n) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What is left of a count after so many tokens, 2^(-tokens / half_life): every slot is
 * asked for it in every layer of every token. */
static double left(const tug_expert_forecast *f, uint32_t tokens, int half_life) {
    const uint64_t parts = (uint64_t)tokens * (unsigned)(TUG_FORECAST_FADE / half_life);
    const uint64_t halvings = parts / TUG_FORECAST_FADE;
    if (halvings > 1000) return 0.0;
    return (double)f->fade[parts % TUG_FORECAST_FADE] * power_of_half(halvings);
}

/* An expert that every token uses has a count of the sum of 1, f, f^2, ... */
static double share(double count, int half_life) {
    return count * (1.0 - exp2(-1.0 / half_life));
}

static void terms(const tug_expert_forecast *f, const tug_expert_use *u, uint32_t now,
                  double x[N]) {
    const uint32_t since = age(u->counted, now);
    x[BRIEF] = share((double)u->brief * left(f, since, BRIEF_LIFE), BRIEF_LIFE);
    x[HABIT] = share((double)u->heat * left(f, since, HABIT_LIFE), HABIT_LIFE);
    x[RECENT] = 1.0 / (1.0 + (double)age(u->last, now) / RECENT_AGE);
    x[ALWAYS] = 1.0;
}

double tug_expert_forecast_rate(const tug_expert_forecast *f, const tug_expert_use *u,
                                uint32_t now) {
    double x[N], sum = 0;
    terms(f, u, now, x);
    for (int i = 0; i < N; i++) sum += f->weight[i] * x[i];
    return sum;
}

/* As many uses that lie evenly leave so many tokens behind the last. */
static uint32_t tokens_behind(const tug_expert_step *s, int count) {
    return (uint32_t)((s->n_tok - count) / (count + 1));
}

static void count_use(const tug_expert_forecast *f, tug_expert_use *u,
                      const tug_expert_step *s, int count) {
    const uint32_t since = age(u->counted, s->now);
    u->brief = (float)((double)u->brief * left(f, since, BRIEF_LIFE) +
                       tug_expert_added(s, count, BRIEF_LIFE));
    u->heat = (float)((double)u->heat * left(f, since, HABIT_LIFE) +
                      tug_expert_added(s, count, HABIT_LIFE));
    u->counted = s->now;
    u->last = s->now - tokens_behind(s, count);
}

/* ---- learning ---------------------------------------------------------------------------- */

static void learn(tug_expert_forecast *f, const tug_expert_use *uses,
                  const tug_expert_step *s) {
    const uint32_t before = s->now - (uint32_t)s->n_tok;
    const uint32_t first = (f->turn++ * 0x9E3779B1u >> 8) % f->stride;
    double x[N];
    for (int i = 0; i < N; i++) {
        for (int j = 0; j <= i; j++) f->gram[i][j] *= f->keep;
        f->moment[i] *= f->keep;
    }
    for (uint32_t e = first; e < (uint32_t)s->n_expert; e += f->stride) {
        terms(f, &uses[e], before, x);
        for (int i = 0; i < N; i++) {
            for (int j = 0; j <= i; j++) f->gram[i][j] += f->stride * x[i] * x[j];
        }
    }
    for (int k = 0; k < s->n; k++) {
        if ((uint32_t)s->experts[k] % f->stride != first) continue;
        terms(f, &uses[s->experts[k]], before, x);
        const double rate = (double)s->counts[k] / s->n_tok;
        for (int i = 0; i < N; i++) f->moment[i] += f->stride * x[i] * rate;
    }
}

/* (gram + trust) w = moment + trust * prior, for a `weight` of zero if that is the term left
 * out.  By Cholesky: the matrix is positive definite, because trust is. */
static void solve(tug_expert_forecast *f, int left_out) {
    double l[N][N], *w = f->weight;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j <= i; j++) {
            const bool out = i == left_out || j == left_out;
            double sum = out ? 0.0 : f->gram[i][j];
            if (i == j) sum += TRUST[i];
            for (int k = 0; k < j; k++) sum -= l[i][k] * l[j][k];
            l[i][j] = i == j ? sqrt(sum) : sum / l[j][j];
        }
        w[i] = i == left_out ? 0.0 : f->moment[i] + TRUST[i] * PRIOR[i];
        for (int k = 0; k < i; k++) w[i] -= l[i][k] * w[k];
        w[i] /= l[i][i];
    }
    for (int i = N - 1; i >= 0; i--) {
        for (int k = i + 1; k < N; k++) w[i] -= l[k][i] * w[k];
        w[i] /= l[i][i];
    }
}

/* Where the text moves on, the best fit to the many hot experts subtracts the habit, and puts
 * the cold ones upside down: those long gone below those never seen. */
static void fit(tug_expert_forecast *f) {
    solve(f, N);
    if (f->weight[HABIT] < 0.0) solve(f, HABIT);
}

void tug_expert_forecast_step(tug_expert_forecast *f, tug_expert_use *uses,
                              const tug_expert_step *s) {
    if (s->n_tok <= SHORT_STEP) {
        learn(f, uses, s);
        fit(f);
    }
    for (int k = 0; k < s->n; k++) count_use(f, &uses[s->experts[k]], s, s->counts[k]);
}
