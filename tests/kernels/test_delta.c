/* test_delta.c - Gated DeltaNet kernels against their specification.
 *
 * Limits.  conv_silu, the gates and the gated norm are a few float roundings away from
 * double: 1e-6 relative, to the sum of the magnitudes where terms cancel.  The delta rule
 * carries its rounding along the sequence, but with normalised keys an error does not
 * grow: 1e-6 for values of about 1 is twice what we see; the chunked form, itself in f32
 * and with other intermediate values, gets 3e-6.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "kernels/delta_chunked.h"
#include "kernels/kt.h"

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof *(a)))

/* ---- convolution -------------------------------------------------------------------- */

typedef struct conv_case {
    tug_conv_args a;
    const float *x;
    int64_t n_y, n_state;
} conv_case;

/* Random inputs; strides a little larger than the rows, so that a row's end is not the
 * next one's beginning. */
static conv_case make_conv(int64_t n_ch, int64_t n_tok, int width, bool odd) {
    const int64_t stride = n_ch + 3;
    conv_case c = {.n_y = (n_tok - 1) * stride + n_ch,
                   .n_state = (width - 2) * stride + n_ch};
    float *x = kt_normal(c.n_y, 1.0f);
    if (odd) kt_spoil(x, c.n_y, 1e30f);
    c.a = (tug_conv_args){.y = kt_floats(c.n_y),
                          .y_stride = stride,
                          .x = x,
                          .x_stride = stride,
                          .state = kt_normal(c.n_state, 1.0f),
                          .state_stride = stride,
                          .w = kt_normal((width - 1) * stride + n_ch, 0.5f),
                          .w_stride = stride,
                          .n_ch = n_ch,
                          .n_tok = n_tok,
                          .width = width};
    return c;
}

static tug_conv_args with_own_outputs(const conv_case *c) {
    tug_conv_args a = c->a;
    a.y = kt_floats(c->n_y);
    a.state = kt_copy(c->a.state, c->n_state);
    return a;
}

static void check_conv(const kt_env *env, int64_t n_ch, int64_t n_tok, int width,
                       bool odd) {
    kt_shape("%lld channels, %lld tokens, width %d%s", (long long)n_ch, (long long)n_tok,
             width, odd ? ", odd values" : "");
    const conv_case c = make_conv(n_ch, n_tok, width, odd);
    const tug_conv_args want = with_own_outputs(&c), got = with_own_outputs(&c);
    env->ref->conv_silu(&want);
    env->k->conv_silu(&got);
    for (int64_t t = 0; t < n_tok; t++) {
        /* silu is up to 1.1 steep and the terms of its argument, about 4, may cancel. */
        kt_close("y", got.y + t * got.y_stride, want.y + t * want.y_stride, n_ch, 1e-6,
                 odd ? 1e31 : 4.0);
    }
    kt_same("state", got.state, want.state, (size_t)c.n_state * sizeof(float));

    const int64_t first = kt_rand_int(0, n_tok);
    tug_conv_args split = with_own_outputs(&c);
    split.n_tok = first;
    env->k->conv_silu(&split);
    split.x += first * split.x_stride;
    split.y += first * split.y_stride;
    split.n_tok = n_tok - first;
    env->k->conv_silu(&split);
    kt_same("y of two calls", split.y - first * split.y_stride, got.y,
            (size_t)c.n_y * sizeof(float));
    kt_same("state of two calls", split.state, got.state,
            (size_t)c.n_state * sizeof(float));
    kt_release_all();
}

static void test_conv_silu(const kt_env *env) {
    const int64_t channels[] = {1, 7, 15, 16, 17, 31, 33, 64, 256, 8192};
    for (int width = 2; width <= TUG_MAX_CONV; width++) {
        for (int64_t i = 0; i < COUNT(channels); i++) {
            if (width != 4 && channels[i] > 64) continue;
            for (int64_t n_tok = 1; n_tok <= 9; n_tok += 2) {
                check_conv(env, channels[i], n_tok, width, false);
            }
            check_conv(env, channels[i], 3, width, true);
        }
    }
}

/* ---- the delta rule ----------------------------------------------------------------- */

typedef struct delta_case {
    tug_delta_args a;
    int64_t n_out, n_state;
} delta_case;

static void normalise(float *x, int64_t n, double length) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] * length / sqrt(sum + 1e-12));
}

/* Values as the model makes them: k of length 1, q of length 1 / sqrt(dk), g from -1e-4
 * (remembers for ever) to -20 (forgets all), evenly in its logarithm. */
static delta_case make_delta(int dk, int n_col, int64_t n_tok) {
    const int64_t qk_stride = dk + 5, stride = n_col + 3, gate_stride = 2;
    delta_case c = {.n_out = (n_tok - 1) * stride + n_col,
                    .n_state = (dk - 1) * stride + n_col};
    float *q = kt_normal((n_tok - 1) * qk_stride + dk, 1.0f);
    float *k = kt_normal((n_tok - 1) * qk_stride + dk, 1.0f);
    float *decay = kt_floats((n_tok - 1) * gate_stride + 1);
    for (int64_t t = 0; t < n_tok; t++) {
        normalise(q + t * qk_stride, dk, 1.0 / sqrt(dk));
        normalise(k + t * qk_stride, dk, 1.0);
        decay[t * gate_stride] = expf(-expf(kt_rand(logf(1e-4f), logf(20.0f))));
    }
    c.a = (tug_delta_args){.out = kt_floats(c.n_out),
                           .out_stride = stride,
                           .state = kt_normal(c.n_state, 0.3f),
                           .state_stride = stride,
                           .q = q,
                           .k = k,
                           .qk_stride = qk_stride,
                           .v = kt_normal(c.n_out, 1.0f),
                           .v_stride = stride,
                           .decay = decay,
                           .beta = kt_uniform((n_tok - 1) * gate_stride + 1, 0.0f, 1.0f),
                           .gate_stride = gate_stride,
                           .n_tok = n_tok,
                           .dk = dk,
                           .n_col = n_col};
    return c;
}

static tug_delta_args delta_outputs(const delta_case *c) {
    tug_delta_args a = c->a;
    a.out = kt_floats(c->n_out);
    a.state = kt_copy(c->a.state, c->n_state);
    return a;
}

/* Rows of n values: absolute errors, since the values are about 1 and may cancel to 0. */
static void close_rows(const char *what, const float *got, const float *want,
                       int64_t rows, int64_t stride, int64_t n, double limit) {
    double worst = 0;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t at = r * stride;
        worst = fmax(worst, kt_max_rel(got + at, want + at, n, 1.0));
    }
    kt_true(worst <= limit, "%s: error %.2e, limit %.0e", what, worst, limit);
}

static void check_split_tokens(const kt_env *env, const delta_case *c,
                               const tug_delta_args *whole) {
    tug_delta_args part = delta_outputs(c);
    for (int64_t t = 0, n; t < c->a.n_tok; t += n) {
        n = kt_rand_int(1, c->a.n_tok - t);
        tug_delta_args call = part;
        call.n_tok = n;
        call.q += t * call.qk_stride;
        call.k += t * call.qk_stride;
        call.v += t * call.v_stride;
        call.out += t * call.out_stride;
        call.decay += t * call.gate_stride;
        call.beta += t * call.gate_stride;
        env->k->delta(&call);
    }
    kt_same("out of several calls", part.out, whole->out,
            (size_t)c->n_out * sizeof(float));
    kt_same("state of several calls", part.state, whole->state,
            (size_t)c->n_state * sizeof(float));
}

static void check_split_columns(const kt_env *env, const delta_case *c,
                                const tug_delta_args *whole) {
    tug_delta_args part = delta_outputs(c);
    for (int col = 0, n; col < c->a.n_col; col += n) {
        n = (int)kt_rand_int(1, c->a.n_col - col);
        tug_delta_args call = part;
        call.n_col = n;
        call.v += col;
        call.out += col;
        call.state += col;
        env->k->delta(&call);
    }
    kt_same("out of column ranges", part.out, whole->out,
            (size_t)c->n_out * sizeof(float));
    kt_same("state of column ranges", part.state, whole->state,
            (size_t)c->n_state * sizeof(float));
}

static void check_delta(const kt_env *env, int dk, int n_col, int64_t n_tok) {
    kt_shape("dk=%d, %d columns, %lld tokens", dk, n_col, (long long)n_tok);
    const delta_case c = make_delta(dk, n_col, n_tok);
    const tug_delta_args want = delta_outputs(&c), got = delta_outputs(&c);
    env->ref->delta(&want);
    env->k->delta(&got);
    close_rows("out", got.out, want.out, n_tok, got.out_stride, n_col, 1e-6);
    close_rows("state", got.state, want.state, dk, got.state_stride, n_col, 1e-6);
    check_split_tokens(env, &c, &got);
    check_split_columns(env, &c, &got);
    kt_release_all();
}

/* The chunked form is written from other equations: both would have to be wrong alike. */
static void check_against_chunked(const kt_env *env, int dk, int n_col, int64_t n_tok,
                                  int chunk) {
    kt_shape("dk=%d, %d columns, %lld tokens in chunks of %d", dk, n_col,
             (long long)n_tok, chunk);
    const delta_case c = make_delta(dk, n_col, n_tok);
    const tug_delta_args want = delta_outputs(&c), got = delta_outputs(&c);
    delta_chunked(&want, chunk);
    env->k->delta(&got);
    close_rows("out", got.out, want.out, n_tok, got.out_stride, n_col, 3e-6);
    close_rows("state", got.state, want.state, dk, got.state_stride, n_col, 3e-6);
    kt_release_all();
}

/* Decay exactly 0 and 1, beta 0 and 1, huge values, and a NaN, which must stay in its
 * column. */
static void check_delta_extremes(const kt_env *env) {
    const delta_case c = make_delta(32, 40, 6);
    float *decay = kt_copy(c.a.decay, 11), *beta = kt_copy(c.a.beta, 11);
    float *v = kt_copy(c.a.v, c.n_out);
    decay[0] = 1, decay[2] = 0, decay[4] = 1, beta[4] = 0, beta[6] = 1;
    v[3 * c.a.v_stride + 1] = 1e30f;
    v[3 * c.a.v_stride + 2] = 1e-42f;
    v[2 * c.a.v_stride + 17] = NAN;
    tug_delta_args want = delta_outputs(&c), got = delta_outputs(&c);
    want.decay = got.decay = decay;
    want.beta = got.beta = beta;
    want.v = got.v = v;
    env->ref->delta(&want);
    env->k->delta(&got);
    kt_shape("extremes");
    for (int col = 0; col < 40; col++) {
        for (int t = 0; t < 6; t++) {
            const int64_t at = t * c.a.out_stride + col;
            kt_true(isnan(got.out[at]) == (col == 17 && t >= 2), "NaN at (%d, %d)", t,
                    col);
            /* The large values of column 1 forget their small ones. */
            kt_close("out", got.out + at, want.out + at, 1, 1e-5, col == 1 ? 1e30 : 1.0);
        }
    }
    kt_release_all();
}

static void test_delta(const kt_env *env) {
    const int columns[] = {1, 3, 8, 15, 16, 17, 24, 31, 32, 33, 64, 100, 128, 128 + 5};
    for (int64_t i = 0; i < COUNT(columns); i++) {
        check_delta(env, 128, columns[i], 1);
        check_delta(env, 128, columns[i], 2);
        check_delta(env, 16, columns[i], 21);
    }
    check_delta(env, 128, 128, 64);
    check_delta(env, 1, 16, 5);
    check_delta(env, 67, 19, 7);
    check_against_chunked(env, 128, 128, 64, 64);
    check_against_chunked(env, 128, 128, 75, 32);
    check_against_chunked(env, 67, 40, 23, 7);
    check_against_chunked(env, 16, 8, 5, 2);
    check_delta_extremes(env);
}

/* ---- gates and norm ----------------------------------------------------------------- */

static void check_gates(const kt_env *env, int64_t n, float spread) {
    kt_shape("n=%lld spread %g", (long long)n, (double)spread);
    const float *b = kt_normal(n, spread), *a = kt_normal(n, spread);
    const float *dt_bias = kt_normal(n, 2.0f), *a_coef = kt_uniform(n, -16.0f, -1e-4f);
    float *beta = kt_floats(n), *decay = kt_floats(n);
    float *want_beta = kt_floats(n), *want_decay = kt_floats(n);
    env->ref->delta_gates(want_beta, want_decay, b, a, dt_bias, a_coef, n);
    env->k->delta_gates(beta, decay, b, a, dt_bias, a_coef, n);
    kt_close("beta", beta, want_beta, n, 1e-6, 1e-31);
    /* exp(g) inherits |g| roundings of g: |g| exp(g) is below 1, so absolute. */
    kt_close("decay", decay, want_decay, n, 1e-6, 1.0);
    /* How fast a state forgets is 1 - decay: as good as f32 can say it. */
    for (int64_t i = 0; i < n; i++)
        decay[i] = 1 - decay[i], want_decay[i] = 1 - want_decay[i];
    kt_close("1 - decay", decay, want_decay, n, 1e-6, 0.2);
    kt_release_all();
}

static void test_delta_gates(const kt_env *env) {
    for (int64_t n = 1; n <= 67; n++) {
        check_gates(env, n, 2.0f);
        check_gates(env, n, 40.0f);
    }
    kt_shape("infinite and NaN");
    const float odd[] = {INFINITY, -INFINITY, NAN,   1e30f, -1e30f,
                         0,        1e-42f,    -0.0f, 88.8f};
    const int64_t n = COUNT(odd);
    const float *x = kt_copy(odd, n);
    float *zero = kt_floats(n), *minus_one = kt_floats(n);
    for (int64_t i = 0; i < n; i++) zero[i] = 0, minus_one[i] = -1;
    float *beta = kt_floats(n), *decay = kt_floats(n);
    float *want_beta = kt_floats(n), *want_decay = kt_floats(n);
    env->ref->delta_gates(want_beta, want_decay, x, x, zero, minus_one, n);
    env->k->delta_gates(beta, decay, x, x, zero, minus_one, n);
    kt_close("beta", beta, want_beta, n, 1e-6, 1e-31);
    kt_close("decay", decay, want_decay, n, 1e-5, 1e-31);
}

static void test_rmsnorm_gated(const kt_env *env) {
    for (int64_t n = 1; n <= 260; n += n < 67 ? 1 : 64) {
        for (int odd = 0; odd < 2; odd++) {
            kt_shape("n=%lld%s", (long long)n, odd ? ", odd values" : "");
            float *x = kt_normal(n, 2.0f);
            if (odd) kt_spoil(x, n, 1e30f);
            const float *w = kt_normal(n, 1.0f), *z = kt_normal(n, odd ? 60.0f : 3.0f);
            float *y = kt_floats(n), *want = kt_floats(n);
            env->ref->rmsnorm_gated(want, x, w, z, n, 1e-6f);
            env->k->rmsnorm_gated(y, x, w, z, n, 1e-6f);
            kt_close("y", y, want, n, 1e-6, 1e-29); /* silu(-89) = -2e-37 may be 0 */
            env->k->rmsnorm_gated(x, x, w, z, n, 1e-6f);
            kt_same("in place", x, y, (size_t)n * sizeof *y);
            kt_release_all();
        }
    }
}

int main(int argc, char **argv) {
    static const kt_test tests[] = {
        KT_TEST(conv_silu, test_conv_silu, 0),
        KT_TEST(delta, test_delta, 0),
        KT_TEST(delta_gates, test_delta_gates, 0),
        KT_TEST(rmsnorm_gated, test_rmsnorm_gated, 0),
    };
    return kt_main(argc, argv, "delta", tug_kernels_init_delta, tests, (int)COUNT(tests));
}
