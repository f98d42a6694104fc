/* test_linear.c - linear kernels and activation conversions against their specification.
 *
 * Three statements about y = W x, with ref's sum in double as the truth:
 *
 *   exact   against ref on the *converted* activations turned back to f32 the only errors
 *           are the roundings of the float sums, relative to sum |w x|: 1e-6 (8 ulp).
 *   close   against ref on the original activations int8 adds its rounding error: NMSE
 *           1e-3 per output vector is three times what normal activations show (1.5e-4
 *           with a scale per 256); f32 activations keep 1e-12.
 *   same    one output at a time, any blocking, any order of tokens: the same bits.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "base/f16.h"
#include "kernels/cpu/act.h"
#include "kernels/kt.h"
#include "quant/blocks.h"
#include "quant/packed.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const double limit_exact = 1e-6, limit_close = 1e-3, limit_float = 1e-12;

/* ---- inputs ----------------------------------------------------------------------- */

/* The scales of a block: f16 fields by type, all else is free bits. */
typedef struct scales {
    tug_type type;
    size_t at[2];
    int n;
} scales;

static const scales scale_fields[] = {
    {TUG_TYPE_Q8_0, {offsetof(tug_block_q8_0, d)}, 1},
    {TUG_TYPE_Q4_0, {offsetof(tug_block_q4_0, d)}, 1},
    {TUG_TYPE_Q4_1, {offsetof(tug_block_q4_1, d), offsetof(tug_block_q4_1, m)}, 2},
    {TUG_TYPE_Q5_0, {offsetof(tug_block_q5_0, d)}, 1},
    {TUG_TYPE_Q5_1, {offsetof(tug_block_q5_1, d), offsetof(tug_block_q5_1, m)}, 2},
    {TUG_TYPE_IQ4_NL, {offsetof(tug_block_iq4_nl, d)}, 1},
    {TUG_TYPE_Q2_K, {offsetof(tug_block_q2_k, d), offsetof(tug_block_q2_k, dmin)}, 2},
    {TUG_TYPE_Q3_K, {offsetof(tug_block_q3_k, d)}, 1},
    {TUG_TYPE_Q4_K, {offsetof(tug_block_q4_k, d), offsetof(tug_block_q4_k, dmin)}, 2},
    {TUG_TYPE_Q5_K, {offsetof(tug_block_q5_k, d), offsetof(tug_block_q5_k, dmin)}, 2},
    {TUG_TYPE_Q6_K, {offsetof(tug_block_q6_k, d)}, 1},
    {TUG_TYPE_IQ4_XS, {offsetof(tug_block_iq4_xs, d)}, 1},
};

enum { PLAIN, EXTREME, ZERO, FILLS }; /* what the bits of a weight matrix are */

static void put_f16(unsigned char *p, float x) {
    const tug_f16 bits = tug_f32_to_f16(x);
    memcpy(p, &bits, sizeof bits);
}

static void fill_floats(unsigned char *w, tug_type type, int64_t n, int fill) {
    for (int64_t i = 0; i < n; i++) {
        float x = fill == ZERO ? 0.0f : kt_rand(-0.1f, 0.1f);
        if (fill == EXTREME && i % 7 == 0) x *= 1e4f;
        if (type == TUG_TYPE_F32) memcpy(w + 4 * i, &x, sizeof x);
        const tug_bf16 narrow = tug_f32_to_bf16(x);
        if (type == TUG_TYPE_F16) put_f16(w + 2 * i, x);
        if (type == TUG_TYPE_BF16) memcpy(w + 2 * i, &narrow, sizeof narrow);
    }
}

/* Random bits are valid values of every format; extreme: all ones, the largest scales. */
static void fill_blocks(unsigned char *w, const scales *s, size_t bytes, int fill) {
    const size_t step = (size_t)tug_type_get(s->type)->block_bytes;
    for (size_t at = 0; at < bytes; at += step) {
        const int ones = fill == EXTREME && kt_rand_int(0, 1) == 0;
        for (size_t i = 0; i < step; i++) {
            const int64_t byte = ones ? 0xFF >> kt_rand_int(0, 1) : kt_rand_int(0, 255);
            w[at + i] = (unsigned char)byte;
        }
        for (int i = 0; i < s->n; i++) {
            const float size =
                fill == EXTREME && kt_rand_int(0, 3) == 0 ? 60000.0f : 0.01f;
            put_f16(w + at + s->at[i], fill == ZERO ? 0.0f : kt_rand(-size, size));
        }
    }
}

static void fill_weights(unsigned char *w, tug_type type, int64_t n, size_t bytes,
                         int fill) {
    for (int i = 0; i < COUNT(scale_fields); i++) {
        if (scale_fields[i].type == type) {
            fill_blocks(w, &scale_fields[i], bytes, fill);
            return;
        }
    }
    fill_floats(w, type, n, fill);
}

/* Rows whose values are all as large as a row's largest, with one sign: the sums of
 * products come as close to what their integers hold as they can. */
static void fill_saturated(float *x, int64_t n_rows, int64_t n_cols) {
    for (int64_t i = 0; i < n_rows; i += 2) {
        const float value = kt_rand_int(0, 1) == 0 ? -1.0f : 1.0f;
        for (int64_t c = 0; c < n_cols; c++) x[i * n_cols + c] = value;
    }
}

/* Values of a converted row, as f32. */
static void restore(float *x, tug_act act, const void *row, int64_t n) {
    const tug_act_q8_256 *wide = row;
    const tug_act_q8_32 *narrow = row;
    if (act == TUG_ACT_F32) memcpy(x, row, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n && act != TUG_ACT_F32; i++) {
        const int64_t rec = i / TUG_ACT_RECORD, at = i % TUG_ACT_RECORD;
        x[i] = act == TUG_ACT_Q8_256 ? wide[rec].d * wide[rec].q[at]
                                     : narrow[rec].d[at / 32] * narrow[rec].q[at];
    }
}

/* ---- one matrix ------------------------------------------------------------------- */

typedef struct problem {
    tug_type type;
    int64_t n_rows, n_cols, n_tok, n_x; /* n_x activation rows that tokens refer to */
    int fill;
    size_t w_row_bytes, x_row_bytes;
    unsigned char *w;
    bool is_packed;
    unsigned char *packed; /* w in groups of 16 rows, if it is */
    float *x, *restored;   /* (n_x, n_cols) */
    void *act;             /* (n_x,) converted rows */
    int32_t *index;        /* (n_tok,) or NULL */
} problem;

static const tug_linear_kernel *kernel_of(const problem *p, const kt_env *env) {
    return p->is_packed ? &env->k->packed[p->type] : &env->k->linear[p->type];
}

static void pack(problem *p) {
    p->packed = kt_buf((size_t)p->n_rows * p->w_row_bytes, 2);
    for (int64_t r = 0; r < p->n_rows; r += TUG_PACK_ROWS) {
        const size_t at = (size_t)r * p->w_row_bytes;
        tug_pack_rows(p->type, p->packed + at, p->w + at, p->w_row_bytes);
    }
}

static void make_problem(problem *p, const kt_env *env) {
    const tug_act act = kernel_of(p, env)->act;
    uint64_t row_bytes = 0;
    kt_true(tug_type_row_bytes((uint32_t)p->type, (uint64_t)p->n_cols, &row_bytes),
            "row of %lld columns", (long long)p->n_cols);
    p->w_row_bytes = (size_t)row_bytes;
    const size_t bytes = (size_t)p->n_rows * p->w_row_bytes;
    p->w = kt_buf(bytes, 2);
    fill_weights(p->w, p->type, p->n_rows * p->n_cols, bytes, p->fill);
    if (p->is_packed) pack(p);
    p->x = kt_normal(p->n_x * p->n_cols, 1.0f);
    if (p->fill == EXTREME) fill_saturated(p->x, p->n_x, p->n_cols);
    p->restored = kt_floats(p->n_x * p->n_cols);
    p->x_row_bytes = tug_act_row_bytes(act, p->n_cols);
    p->act = kt_buf((size_t)p->n_x * p->x_row_bytes, 64);
    for (int64_t i = 0; i < p->n_x; i++) {
        char *row = (char *)p->act + (size_t)i * p->x_row_bytes;
        env->k->act_convert[act](row, p->x + i * p->n_cols, p->n_cols);
        restore(p->restored + i * p->n_cols, act, row, p->n_cols);
    }
    if (!p->index) return;
    p->index = kt_buf((size_t)p->n_tok * sizeof *p->index, sizeof *p->index);
    for (int64_t t = 0; t < p->n_tok; t++) {
        p->index[t] = (int32_t)kt_rand_int(0, p->n_x - 1);
    }
}

static tug_linear_args args_of(const problem *p, float *y) {
    return (tug_linear_args){.y = y,
                             .y_stride = p->n_rows + 3,
                             .w = p->is_packed ? p->packed : p->w,
                             .w_row_bytes = p->w_row_bytes,
                             .x = p->act,
                             .x_row_bytes = p->x_row_bytes,
                             .x_index = p->index,
                             .n_rows = p->n_rows,
                             .n_cols = p->n_cols,
                             .n_tok = p->n_tok};
}

/* The last row of y ends at the buffer's end: no stride behind it. */
static float *make_y(const problem *p) {
    return kt_floats((p->n_tok - 1) * (p->n_rows + 3) + p->n_rows);
}

static float *run_ref(const problem *p, const kt_env *env, const float *x) {
    float *y = make_y(p);
    tug_linear_args a = args_of(p, y);
    a.w = p->w;
    a.x = x;
    a.x_row_bytes = (size_t)p->n_cols * sizeof *x;
    env->ref->linear[p->type].fn(&a);
    return y;
}

/* sum |w x| for every output: what the rounding errors are relative to. */
static double magnitude(const problem *p, int64_t r, int64_t t, float *row) {
    const float *x = p->restored + (p->index ? p->index[t] : t) * p->n_cols;
    double sum = 0;
    tug_dequantize_row(p->type, row, p->w + (size_t)r * p->w_row_bytes, p->n_cols);
    for (int64_t c = 0; c < p->n_cols; c++) sum += fabs((double)row[c] * (double)x[c]);
    return sum;
}

static void check_exact(const problem *p, const float *y, const float *want) {
    float *row = kt_floats(p->n_cols);
    double worst = 0;
    const int64_t step = 1 + p->n_rows * p->n_tok / 500; /* enough of them */
    for (int64_t i = 0; i < p->n_rows * p->n_tok; i += step) {
        const int64_t t = i / p->n_rows, r = i % p->n_rows;
        const double got = (double)y[t * (p->n_rows + 3) + r];
        const double diff = fabs(got - (double)want[t * (p->n_rows + 3) + r]);
        worst = fmax(worst, diff / (magnitude(p, r, t, row) + 1e-30));
    }
    kt_true(worst <= limit_exact, "exact: error %.2e of sum |w x|, limit %.0e", worst,
            limit_exact);
}

/* Every output of its own call: one row (packed: one group of rows), one token. */
static void check_alone(const problem *p, const kt_env *env, const float *y) {
    int64_t differ = 0;
    const int64_t n = p->is_packed ? TUG_PACK_ROWS : 1;
    for (int64_t i = 0; i < 40; i++) {
        const int64_t t = kt_rand_int(0, p->n_tok - 1), r = kt_rand_int(0, p->n_rows - 1);
        float alone[TUG_PACK_ROWS];
        tug_linear_args a = args_of(p, alone);
        int32_t index = (int32_t)(p->index ? p->index[t] : t);
        a.w = (const char *)a.w + (size_t)(r / n * n) * p->w_row_bytes;
        a.x_index = &index;
        a.n_rows = n;
        a.n_tok = 1;
        kernel_of(p, env)->fn(&a);
        differ += memcmp(&alone[r % n], &y[t * (p->n_rows + 3) + r], sizeof *y) != 0;
    }
    kt_true(differ == 0, "%lld of 40 outputs differ when computed alone",
            (long long)differ);
}

/* The same tokens in calls of 1 .. 7 tokens and all rows. */
static void check_split(const problem *p, const kt_env *env, const float *y) {
    float *split = make_y(p);
    for (int64_t t = 0, n = 1; t < p->n_tok; t += n, n = kt_rand_int(1, 7)) {
        problem part = *p;
        part.n_tok = p->n_tok - t < n ? p->n_tok - t : n;
        tug_linear_args a = args_of(&part, split + t * (p->n_rows + 3));
        if (p->index) {
            a.x_index = p->index + t;
        } else {
            a.x = (const char *)p->act + (size_t)t * p->x_row_bytes;
        }
        kernel_of(p, env)->fn(&a);
    }
    kt_same("split", split, y,
            (size_t)((p->n_tok - 1) * (p->n_rows + 3) + p->n_rows) * sizeof *y);
}

/* A matrix that could not be packed gives the same bits as one that was. */
static void check_plain(const problem *p, const kt_env *env, const float *y) {
    float *plain = make_y(p);
    tug_linear_args a = args_of(p, plain);
    a.w = p->w;
    env->k->linear[p->type].fn(&a);
    kt_same("plain", plain, y,
            (size_t)((p->n_tok - 1) * (p->n_rows + 3) + p->n_rows) * sizeof *y);
}

static void run_problem(problem *p, const kt_env *env) {
    kt_shape("%s rows=%lld cols=%lld tok=%lld fill=%d%s",
             tug_type_get((uint32_t)p->type)->name, (long long)p->n_rows,
             (long long)p->n_cols, (long long)p->n_tok, p->fill,
             p->index ? " index" : "");
    make_problem(p, env);
    float *y = make_y(p);
    const tug_linear_args a = args_of(p, y);
    kernel_of(p, env)->fn(&a);
    check_exact(p, y, run_ref(p, env, p->restored));
    check_alone(p, env, y);
    check_split(p, env, y);
    if (p->is_packed) check_plain(p, env, y);
    if (p->fill == PLAIN && p->n_rows >= 16) {
        const bool f32 = kernel_of(p, env)->act == TUG_ACT_F32;
        const float *want = run_ref(p, env, p->x);
        double worst = 0;
        for (int64_t t = 0; t < p->n_tok; t++) {
            const int64_t at = t * (p->n_rows + 3);
            worst = fmax(worst, kt_nmse(y + at, want + at, p->n_rows));
        }
        kt_true(worst <= (f32 ? limit_float : limit_close), "close: NMSE %.2e", worst);
    }
    kt_release_all();
}

/* ---- the cases -------------------------------------------------------------------- */

static void run_cases(const kt_env *env, const int64_t *rows, int n_rows, bool packed) {
    const tug_type type = (tug_type)env->arg;
    static const int64_t blocks[] = {1, 2, 3, 5, 8, 9};
    static int32_t with_index;
    const int block = tug_type_get((uint32_t)type)->block_elems;
    problem p = {.type = type, .is_packed = packed};
    for (int64_t n_tok = 1; n_tok <= 40; n_tok++) {
        p.n_rows = rows[n_tok % n_rows];
        p.n_cols =
            block == 1 ? kt_rand_int(1, 100) : block * blocks[n_tok % COUNT(blocks)];
        p.n_tok = n_tok;
        p.fill = n_tok % 5 == 1 ? EXTREME : n_tok % 13 == 0 ? ZERO : PLAIN;
        p.index = n_tok % 3 == 0 ? &with_index : NULL;
        p.n_x = p.index ? n_tok / 2 + 1 : n_tok;
        run_problem(&p, env);
    }
    static const int64_t large[][3] = {
        {80, 2048, 128}, {208, 512, 3}, {48, 768, 400}, {64, 512, 49}};
    for (int i = 0; i < COUNT(large); i++) {
        p.n_rows = large[i][0];
        p.n_cols = large[i][1];
        p.n_tok = p.n_x = large[i][2];
        p.fill = PLAIN;
        p.index = NULL;
        run_problem(&p, env);
    }
}

static void test_linear(const kt_env *env) {
    static const int64_t rows[] = {1, 2, 15, 16, 17, 31, 33, 48, 64, 65, 130};
    run_cases(env, rows, COUNT(rows), false);
}

static void test_packed(const kt_env *env) {
    if (!env->k->packed[env->arg].fn) return; /* none at this level */
    static const int64_t rows[] = {16, 32, 48, 64, 80, 96, 128, 144};
    run_cases(env, rows, COUNT(rows), true);
}

/* Conversions and what they leave out: the same bytes as ref, whatever the values are. */
static void test_convert(const kt_env *env) {
    const tug_act act = (tug_act)env->arg;
    const int64_t block = act == TUG_ACT_Q8_256 ? 256 : 32;
    for (int64_t i = 0; i < 60; i++) {
        const int64_t n = block * kt_rand_int(1, 20);
        float *x = kt_normal(n, i % 4 == 1 ? 1e-30f : 1.0f);
        if (i % 4 == 2) kt_spoil(x, n, 1e38f);
        if (i % 4 == 3) x[kt_rand_int(0, n - 1)] = i % 8 == 3 ? NAN : -INFINITY;
        kt_shape("n=%lld kind=%lld", (long long)n, (long long)i % 8);
        const size_t bytes = tug_act_row_bytes(act, n);
        void *got = kt_buf(bytes, 64), *want = kt_buf(bytes, 64);
        env->k->act_convert[act](got, x, n);
        env->ref->act_convert[act](want, x, n);
        kt_same("record", got, want, bytes);
        float *rest = kt_floats(n), *want_rest = kt_floats(n);
        env->k->act_residual[act](rest, want, x, n);
        env->ref->act_residual[act](want_rest, want, x, n);
        kt_same("residual", rest, want_rest, (size_t)n * sizeof *rest);
        kt_release_all();
    }
}

#define LINEAR(name)                                                                     \
    {                                                                                    \
        "linear_" #name, offsetof(tug_kernels, linear[TUG_TYPE_##name].fn), test_linear, \
            TUG_TYPE_##name                                                              \
    }

#define PACKED(name)                                                                     \
    {                                                                                    \
        "packed_" #name, offsetof(tug_kernels, packed[TUG_TYPE_##name].fn), test_packed, \
            TUG_TYPE_##name                                                              \
    }

int main(int argc, char **argv) {
    static const kt_test tests[] = {
        KT_TEST(act_convert[TUG_ACT_Q8_32], test_convert, TUG_ACT_Q8_32),
        KT_TEST(act_convert[TUG_ACT_Q8_256], test_convert, TUG_ACT_Q8_256),
        LINEAR(F32),
        LINEAR(F16),
        LINEAR(BF16),
        LINEAR(Q8_0),
        LINEAR(Q4_0),
        LINEAR(Q4_1),
        LINEAR(Q5_0),
        LINEAR(Q5_1),
        LINEAR(IQ4_NL),
        LINEAR(Q2_K),
        LINEAR(Q3_K),
        LINEAR(Q4_K),
        LINEAR(Q5_K),
        LINEAR(Q6_K),
        LINEAR(IQ4_XS),
        PACKED(Q8_0),
        PACKED(Q4_0),
        PACKED(Q4_1),
        PACKED(Q5_0),
        PACKED(Q5_1),
        PACKED(IQ4_NL),
        PACKED(Q2_K),
        PACKED(Q3_K),
        PACKED(Q4_K),
        PACKED(Q5_K),
        PACKED(Q6_K),
        PACKED(IQ4_XS),
    };
    return kt_main(argc, argv, "linear", tug_kernels_init_linear, tests, COUNT(tests));
}
