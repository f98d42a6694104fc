/* test_cuda_linear.c - linear kernels of the GPU for a few tokens, against dequantised
 * weights in double.  Three statements about y = W x, as in tests/kernels/test_linear.c:
 *
 *   exact   on the values that the converted activations stand for, the only errors are the
 *           roundings of float sums: 1e-6 of sum |w x|.
 *   close   against the original activations: NMSE 1e-3 with one digit, 1e-7 with two
 *           (15 bits; 2e-9 seen), float weights 1e-12.
 *   same    a token gives the same bits however many others there are.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cuda/cuda_linear.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const double limit_exact = 1e-6;

typedef struct matrix {
    tug_type type;
    int64_t n_rows, n_cols;
    uint64_t row_bytes;
    uint8_t *w;
    void *device;
} matrix;

static matrix make_matrix_of(tug_type type, int64_t n_rows, int64_t n_cols,
                             float deviation) {
    matrix m = {type, n_rows, n_cols, 0, ct_weights(type, n_rows, n_cols, deviation),
                NULL};
    tug_type_row_bytes(type, (uint64_t)n_cols, &m.row_bytes);
    m.device = ct_upload(m.w, (size_t)n_rows * m.row_bytes);
    return m;
}

static matrix make_matrix(tug_type type, int64_t n_rows, int64_t n_cols) {
    return make_matrix_of(type, n_rows, n_cols, 0.05f);
}

static void check_outputs(const matrix *m, const lt_input *in, int64_t n_tok,
                          const float *y, int64_t stride, double limit_close) {
    double worst = 0;
    float *got = ct_floats(n_tok * m->n_rows), *want = ct_floats(n_tok * m->n_rows);
    for (int64_t t = 0; t < n_tok; t++) {
        for (int64_t r = 0; r < m->n_rows; r++) {
            const uint8_t *row = m->w + (uint64_t)r * m->row_bytes;
            const lt_product p =
                lt_dot(m->type, row, in->restored + t * m->n_cols, m->n_cols);
            const double off = fabs((double)y[t * stride + r] - p.y);
            worst = fmax(worst, isfinite(off) ? off / (p.size + 1e-30) : INFINITY);
            got[t * m->n_rows + r] = y[t * stride + r];
            want[t * m->n_rows + r] =
                (float)lt_dot(m->type, row, in->x + t * m->n_cols, m->n_cols).y;
        }
    }
    ct_true(worst <= limit_exact, "exact: off by %.3g", worst);
    /* An NMSE needs outputs that are not all small by accident. */
    if (m->n_rows >= 5) ct_near("close", got, want, n_tok * m->n_rows, limit_close);
}

static double limit_close(tug_type type, int digits) {
    return lt_is_float(type) ? 1e-12 : digits == 2 ? 1e-7 : 1e-3;
}

/* Two matrices beside each other in one launch, then each number of tokens by itself. */
static void check_gemv(tug_type type, int64_t rows0, int64_t rows1, int64_t n_cols,
                       int64_t n_tok, int digits) {
    ct_shape("%s %lld + %lld x %lld, %lld tokens, %d digits", tug_type_get(type)->name,
             (long long)rows0, (long long)rows1, (long long)n_cols, (long long)n_tok,
             digits);
    const matrix m[2] = {make_matrix(type, rows0, n_cols),
                         make_matrix(type, rows1, n_cols)};
    const lt_input in =
        lt_convert(type, ct_normal(n_tok * n_cols, 1.0f), n_tok, n_cols, digits);
    const int64_t gap = 3, stride = rows0 + gap + rows1;
    tug_cuda_linear a = {.part = {{m[0].device, (int32_t)rows0, 0},
                                  {m[1].device, (int32_t)rows1, (int32_t)(rows0 + gap)}},
                         .y = ct_device((size_t)(n_tok * stride) * sizeof(float)),
                         .x = in.device,
                         .y_stride = stride,
                         .w_row_bytes = (int64_t)m[0].row_bytes,
                         .x_row_bytes = in.row_bytes,
                         .n_part = 2,
                         .n_rows = (int32_t)(rows0 + rows1),
                         .n_cols = (int32_t)n_cols,
                         .n_tok = (int32_t)n_tok,
                         .digits = digits};
    CT_RUN(tug_cuda_on_gemv(&a, type), a);
    float *y = ct_floats(n_tok * stride);
    ct_download(y, a.y, (size_t)(n_tok * stride) * sizeof(float));
    check_outputs(&m[0], &in, n_tok, y, stride, limit_close(type, digits));
    check_outputs(&m[1], &in, n_tok, y + rows0 + gap, stride, limit_close(type, digits));

    if (n_tok == 1) return;
    float *one = ct_floats(n_tok * stride);
    a.y = ct_device((size_t)(n_tok * stride) * sizeof(float));
    tug_cuda_linear alone = a;
    alone.n_tok = 1;
    for (int64_t t = 0; t < n_tok; t++) {
        alone.y = a.y + t * stride;
        alone.x = (const char *)a.x + t * in.row_bytes;
        CT_RUN(tug_cuda_on_gemv(&alone, type), alone);
    }
    ct_download(one, a.y, (size_t)(n_tok * stride) * sizeof(float));
    bool same = true;
    for (int64_t t = 0; t < n_tok; t++) {
        for (int64_t r = 0; r < stride; r++) {
            const bool in_gap = r >= rows0 && r < rows0 + gap;
            same &= in_gap || one[t * stride + r] == y[t * stride + r];
        }
    }
    ct_true(same, "a token alone gives other bits");
}

static void test_gemv(void) {
    static const int64_t tokens[] = {1, 2, 3, 4, 7, 16};
    for (int i = 0; i < lt_n_types; i++) {
        const int64_t block = tug_type_get(lt_types[i])->block_elems;
        const int64_t unit = block == 1 ? 33 : block;
        for (int t = 0; t < COUNT(tokens); t++) {
            check_gemv(lt_types[i], 5, 12, 3 * unit, tokens[t], 2 - t % 2);
            ct_release_all();
        }
        check_gemv(lt_types[i], 1, 1, unit, 1, 2);
        check_gemv(lt_types[i], 33, 64, 512, 2, 1);
        check_gemv(lt_types[i], 7, 64, 2048, 1, 2);
        check_gemv(lt_types[i], 2, 1, 4096, 1, 1);
        ct_release_all();
    }
}

/* ---- many tokens ------------------------------------------------------------------------ */

/* y (n_tok, stride) = W x of tokens [first, first + n_tok). */
static float *run_gemm(const matrix *m, const lt_input *in, int64_t first, int64_t n_tok,
                       int64_t stride, int digits) {
    const size_t bytes = (size_t)(n_tok * stride) * sizeof(float);
    const tug_cuda_gemm a = {.y = ct_device(bytes),
                             .x = (const char *)in->device + first * in->row_bytes,
                             .w = m->device,
                             .y_stride = stride,
                             .w_row_bytes = (int64_t)m->row_bytes,
                             .x_row_bytes = in->row_bytes,
                             .n_rows = (int32_t)m->n_rows,
                             .n_cols = (int32_t)m->n_cols,
                             .n_tok = (int32_t)n_tok,
                             .digits = digits};
    CT_RUN(tug_cuda_on_gemm(&a, m->type), a);
    float *y = ct_floats(n_tok * stride);
    ct_download(y, a.y, bytes);
    return y;
}

/* The last tokens are then a tile of their own, of the kind for few. */
static void check_gemm(tug_type type, int64_t n_rows, int64_t n_cols, int64_t n_tok,
                       int digits) {
    ct_shape("gemm %s %lld x %lld, %lld tokens, %d digits", tug_type_get(type)->name,
             (long long)n_rows, (long long)n_cols, (long long)n_tok, digits);
    const matrix m = make_matrix(type, n_rows, n_cols);
    const lt_input in =
        lt_convert(type, ct_normal(n_tok * n_cols, 1.0f), n_tok, n_cols, digits);
    const int64_t stride = n_rows + 3, few = n_tok < 9 ? n_tok : 9;
    const float *y = run_gemm(&m, &in, 0, n_tok, stride, digits);
    check_outputs(&m, &in, n_tok, y, stride, limit_close(type, digits));
    const float *alone = run_gemm(&m, &in, n_tok - few, few, stride, digits);
    for (int64_t t = 0; t < few; t++) {
        ct_same("a token of few", alone + t * stride, y + (n_tok - few + t) * stride,
                (size_t)n_rows * sizeof(float));
    }
    ct_release_all();
}

static void test_gemm(void) {
    for (int i = 0; i < lt_n_types; i++) {
        const int64_t block = tug_type_get(lt_types[i])->block_elems;
        const int64_t unit = block == 1 ? 33 : block;
        check_gemm(lt_types[i], 1, unit, 1, 2);
        check_gemm(lt_types[i], 37, 3 * unit, 17, 1);
        check_gemm(lt_types[i], 100, 256, 16, 2);
        check_gemm(lt_types[i], 70, 256, 33, 1);
        check_gemm(lt_types[i], 130, 256, 66, 2);
        check_gemm(lt_types[i], 128, 512, 64, 2);
        if (!lt_is_float(lt_types[i])) continue; /* the rows' ends, aligned and not */
        check_gemm(lt_types[i], 129, 36, 18, 2);
        check_gemm(lt_types[i], 20, 40, 3, 2);
    }
}

/* Weights and activations as large and small as they come, beside each other, and a token
 * that is not finite. */
static void check_sizes(tug_type type, float w_size, float x_size) {
    enum { ROWS = 24, COLS = 200, TOKENS = 20, ZERO = 3, INFINITE = 5 };
    ct_shape("%s, weights of %g, activations of %g", tug_type_get(type)->name,
             (double)w_size, (double)x_size);
    const matrix m = make_matrix_of(type, ROWS, COLS, w_size);
    float *x = ct_normal(TOKENS * COLS, x_size);
    for (int64_t i = 0; i < TOKENS * COLS; i++) {
        if (i % 7 == 0) x[i] *= 1e-3f;
        if (i % 11 == 0) x[i] *= 1e-6f;
        if (i / COLS == ZERO || i % 13 == 0) x[i] = 0;
    }
    const lt_input in = lt_convert(type, x, TOKENS, COLS, 2);
    const float *y = run_gemm(&m, &in, 0, TOKENS, ROWS, 2);
    check_outputs(&m, &in, TOKENS, y, ROWS, limit_close(type, 2));
    x[INFINITE * COLS + COLS - 1] = -INFINITY;
    const lt_input odd = lt_convert(type, x, TOKENS, COLS, 2);
    const float *with = run_gemm(&m, &odd, 0, TOKENS, ROWS, 2);
    bool ok = true;
    for (int i = 0; i < TOKENS * ROWS; i++) {
        ok &= i / ROWS == INFINITE ? !isfinite(with[i]) : with[i] == y[i];
    }
    ct_true(ok, "an infinite activation is not in its token's results alone");
    ct_release_all();
}

static void test_sizes(void) {
    static const struct {
        tug_type type;
        float w, x;
    } cases[] = {{TUG_TYPE_F32, 1e10f, 1e20f},   {TUG_TYPE_F32, 1e-10f, 1e-15f},
                 {TUG_TYPE_F16, 3e4f, 1e30f},    {TUG_TYPE_F16, 3e4f, 1e-30f},
                 {TUG_TYPE_F16, 1e-6f, 1e37f},   {TUG_TYPE_F16, 1e-6f, 1e-15f},
                 {TUG_TYPE_F16, 1.0f, 1.0f},     {TUG_TYPE_BF16, 1e30f, 1e5f},
                 {TUG_TYPE_BF16, 1e30f, 1e-30f}, {TUG_TYPE_BF16, 1e-30f, 1e37f},
                 {TUG_TYPE_BF16, 1.0f, 1.0f}};
    for (int i = 0; i < COUNT(cases); i++) {
        check_sizes(cases[i].type, cases[i].w, cases[i].x);
    }
}

/* One expert's pairs, tile after tile; an expert that is not here leaves its rows alone. */
static void check_grouped(tug_type type, int64_t n_rows, int64_t n_cols, int n_tok,
                          int n_used, bool own_rows, int digits) {
    enum { N_EXPERT = 5, GONE = 3 };
    ct_shape("grouped %s %lld x %lld, %d tokens x %d, %d digits%s",
             tug_type_get(type)->name, (long long)n_rows, (long long)n_cols, n_tok,
             n_used, digits, own_rows ? ", a row each" : "");
    const int n_pair = n_tok * n_used, n_x = own_rows ? n_pair : n_tok;
    const matrix m = make_matrix(type, N_EXPERT * n_rows, n_cols);
    const lt_input in =
        lt_convert(type, ct_normal(n_x * n_cols, 1.0f), n_x, n_cols, digits);
    const void *slots[N_EXPERT];
    for (int e = 0; e < N_EXPERT; e++) {
        slots[e] = (const char *)m.device + (uint64_t)(e * n_rows) * m.row_bytes;
    }
    slots[GONE] = NULL;
    int32_t *ids = ct_buf((size_t)n_pair * sizeof *ids);
    for (int p = 0; p < n_pair; p++) { /* most at expert 0: several tiles */
        ids[p] = (int32_t)(ct_rand_int(0, 2) ? 0 : ct_rand_int(0, N_EXPERT - 1));
    }
    const int64_t n_tiles = tug_cuda_max_tiles(n_pair, N_EXPERT, TUG_CUDA_GEMM_TOKENS);
    const tug_cuda_sort sort = {
        .ids = ct_upload(ids, (size_t)n_pair * sizeof *ids),
        .first = ct_device((N_EXPERT + 1) * sizeof(int32_t)),
        .sorted = ct_device((size_t)n_pair * sizeof(int32_t)),
        .tiles = ct_device((size_t)(1 + 2 * n_tiles) * sizeof(int32_t)),
        .n_pair = n_pair,
        .n_expert = N_EXPERT,
        .tile = TUG_CUDA_GEMM_TOKENS};
    CT_RUN(tug_cuda_on_sort_count(&sort), sort);
    CT_RUN(tug_cuda_on_sort_plan(&sort), sort);
    CT_RUN(tug_cuda_on_sort_place(&sort), sort);
    float *y = ct_floats(n_pair * n_rows);
    for (int64_t i = 0; i < n_pair * n_rows; i++) y[i] = -7.0f;
    const size_t bytes = (size_t)(n_pair * n_rows) * sizeof *y;
    const tug_cuda_gemm a = {.y = ct_upload(y, bytes),
                             .x = in.device,
                             .slots = ct_upload(slots, sizeof slots),
                             .tiles = sort.tiles,
                             .first = sort.first,
                             .sorted = sort.sorted,
                             .y_stride = n_rows,
                             .w_row_bytes = (int64_t)m.row_bytes,
                             .x_row_bytes = in.row_bytes,
                             .n_rows = (int32_t)n_rows,
                             .n_cols = (int32_t)n_cols,
                             .n_tok = n_pair,
                             .n_expert = N_EXPERT,
                             .x_pairs = own_rows ? 1 : n_used,
                             .digits = digits};
    CT_RUN(tug_cuda_on_gemm(&a, type), a);
    ct_download(y, a.y, bytes);
    double worst = 0;
    for (int p = 0; p < n_pair; p++) {
        const float *x = in.restored + (own_rows ? p : p / n_used) * n_cols;
        for (int64_t r = 0; r < n_rows; r++) {
            const lt_product want = lt_dot(
                type, m.w + (uint64_t)(ids[p] * n_rows + r) * m.row_bytes, x, n_cols);
            const double got = (double)y[p * n_rows + r];
            const double off = ids[p] == GONE ? (got == -7.0 ? 0.0 : INFINITY)
                                              : fabs(got - want.y) / (want.size + 1e-30);
            worst = fmax(worst, isfinite(off) ? off : INFINITY);
        }
    }
    ct_true(worst <= limit_exact, "exact: off by %.3g", worst);
    ct_release_all();
}

static void test_grouped(void) {
    for (int i = 0; i < lt_n_types; i++) {
        check_grouped(lt_types[i], 33, 256, 40, 4, false, 2);
        check_grouped(lt_types[i], 130, 512, 7, 3, true, 1);
    }
}

/* Activations all as large as they can be, of one sign: the largest integer sums. */
static void test_saturated(void) {
    for (int i = 0; i < lt_n_types; i++) {
        const int64_t n = 512, n_tok = 2;
        ct_shape("%s", tug_type_get(lt_types[i])->name);
        const matrix m = make_matrix(lt_types[i], 40, n); /* some blocks are all ones */
        float *x = ct_floats(n_tok * n);
        for (int64_t c = 0; c < n_tok * n; c++) x[c] = c < n ? 1.0f : -1.0f;
        const lt_input in = lt_convert(lt_types[i], x, n_tok, n, 2);
        tug_cuda_linear a = {.part = {{m.device, 40, 0}},
                             .y = ct_device((size_t)(n_tok * 40) * sizeof(float)),
                             .x = in.device,
                             .y_stride = 40,
                             .w_row_bytes = (int64_t)m.row_bytes,
                             .x_row_bytes = in.row_bytes,
                             .n_part = 1,
                             .n_rows = 40,
                             .n_cols = (int32_t)n,
                             .n_tok = (int32_t)n_tok,
                             .digits = 2};
        CT_RUN(tug_cuda_on_gemv(&a, lt_types[i]), a);
        float *y = ct_floats(n_tok * 40);
        ct_download(y, a.y, (size_t)(n_tok * 40) * sizeof(float));
        check_outputs(&m, &in, n_tok, y, 40, limit_close(lt_types[i], 2));
        check_outputs(&m, &in, n_tok, run_gemm(&m, &in, 0, n_tok, 40, 2), 40,
                      limit_close(lt_types[i], 2));
        ct_release_all();
    }
}

/* An activation that is not finite makes all results of its token NaN, and no others: by few
 * tokens and by many. */
static void test_not_finite(void) {
    for (int i = 0; i < lt_n_types; i++) {
        const int64_t n = 256, n_rows = 10, n_tok = 3;
        ct_shape("%s", tug_type_get(lt_types[i])->name);
        const matrix m = make_matrix(lt_types[i], n_rows, n);
        float *x = ct_normal(n_tok * n, 1.0f), *y = ct_floats(n_tok * n_rows);
        const lt_input in = lt_convert(lt_types[i], x, n_tok, n, 2);
        float d = NAN;
        const bool is_float = lt_is_float(lt_types[i]);
        char *row = ct_buf((size_t)(n_tok * in.row_bytes));
        ct_download(row, in.device, (size_t)(n_tok * in.row_bytes));
        memcpy(row + in.row_bytes + (is_float ? 0 : 2 * n), &d, sizeof d);
        const void *act = ct_upload(row, (size_t)(n_tok * in.row_bytes));
        const tug_cuda_linear few = {.part = {{m.device, (int32_t)n_rows, 0}},
                                     .y = ct_device((size_t)(n_tok * n_rows) * sizeof *y),
                                     .x = act,
                                     .y_stride = n_rows,
                                     .w_row_bytes = (int64_t)m.row_bytes,
                                     .x_row_bytes = in.row_bytes,
                                     .n_part = 1,
                                     .n_rows = (int32_t)n_rows,
                                     .n_cols = (int32_t)n,
                                     .n_tok = (int32_t)n_tok,
                                     .digits = 2};
        const tug_cuda_gemm many = {.y = ct_device((size_t)(n_tok * n_rows) * sizeof *y),
                                    .x = act,
                                    .w = m.device,
                                    .y_stride = n_rows,
                                    .w_row_bytes = (int64_t)m.row_bytes,
                                    .x_row_bytes = in.row_bytes,
                                    .n_rows = (int32_t)n_rows,
                                    .n_cols = (int32_t)n,
                                    .n_tok = (int32_t)n_tok,
                                    .digits = 2};
        CT_RUN(tug_cuda_on_gemv(&few, lt_types[i]), few);
        CT_RUN(tug_cuda_on_gemm(&many, lt_types[i]), many);
        for (int which = 0; which < 2; which++) {
            ct_download(y, which ? many.y : few.y, (size_t)(n_tok * n_rows) * sizeof *y);
            bool ok = true;
            for (int64_t j = 0; j < n_tok * n_rows; j++) {
                ok &= isnan(y[j]) == (j / n_rows == 1) && (isnan(y[j]) || isfinite(y[j]));
            }
            ct_true(ok, "NaN in the wrong places of %s", which ? "gemm" : "gemv");
        }
        ct_release_all();
    }
}

/* Every type bit for bit. */
static void test_embed(void) {
    for (int i = 0; i < lt_n_types; i++) {
        const tug_type type = lt_types[i];
        const int64_t n = lt_is_float(type) ? 301 : 2048, n_vocab = 37, n_tok = 19;
        ct_shape("%s", tug_type_get(type)->name);
        const matrix m = make_matrix(type, n_vocab, n);
        int32_t *ids = ct_buf((size_t)n_tok * sizeof *ids);
        for (int64_t t = 0; t < n_tok; t++) ids[t] = (int32_t)ct_rand_int(0, n_vocab - 1);
        ids[0] = 0;
        ids[1] = (int32_t)n_vocab - 1;
        const tug_cuda_embed a = {.x = ct_device((size_t)(n_tok * n) * sizeof(float)),
                                  .w = m.device,
                                  .ids = ct_upload(ids, (size_t)n_tok * sizeof *ids),
                                  .w_row_bytes = (int64_t)m.row_bytes,
                                  .n = (int32_t)n,
                                  .n_tok = (int32_t)n_tok};
        CT_RUN(tug_cuda_on_embed(&a, type), a);
        float *got = ct_floats(n_tok * n), *want = ct_floats(n);
        ct_download(got, a.x, (size_t)(n_tok * n) * sizeof(float));
        for (int64_t t = 0; t < n_tok; t++) {
            tug_dequantize_row(type, want, m.w + (uint64_t)ids[t] * m.row_bytes, n);
            ct_same("row", got + t * n, want, (size_t)n * sizeof(float));
        }
        ct_release_all();
    }
}

/* Values that are hard to convert: zeros, tiny, huge, not finite. */
static void test_quantize(void) {
    const int64_t n = 64;
    for (int digits = 1; digits <= 2; digits++) {
        ct_shape("%d digits", digits);
        float *x = ct_normal(4 * n, 1.0f);
        for (int64_t i = 0; i < n; i++) x[i] = 0.0f;
        for (int64_t i = 0; i < n; i++) x[n + i] *= 1e-30f;
        for (int64_t i = 0; i < n; i++) x[2 * n + i] *= 1e30f;
        x[3 * n] = 1e4f; /* the others of the block keep a hundredth of it */
        lt_convert(TUG_TYPE_Q8_0, x, 4, n, digits);
        ct_release_all();
    }
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < COUNT(odd); i++) {
        ct_shape("%f", (double)odd[i]);
        float *x = ct_normal(n, 1.0f), d[2];
        x[40] = odd[i];
        const tug_cuda_quantize a = {.act = ct_device((size_t)tug_cuda_act_bytes(n)),
                                     .x = ct_upload(x, (size_t)n * sizeof *x),
                                     .x_stride = n,
                                     .n = (int32_t)n,
                                     .n_tok = 1,
                                     .digits = 2};
        CT_RUN(tug_cuda_on_quantize(&a), a);
        ct_download(d, (char *)a.act + 2 * n, sizeof d);
        ct_true(isfinite(d[0]) && isnan(d[1]), "scales %f %f", (double)d[0],
                (double)d[1]);
        ct_release_all();
    }
    ct_shape("gate");
    float *up = ct_normal(n, 1.0f), *gate = ct_normal(n, 5.0f), *h = ct_floats(n), d[2];
    int8_t q[64];
    ct_ref()->swiglu(h, gate, up, n);
    const tug_cuda_quantize a = {.act = ct_device((size_t)tug_cuda_act_bytes(n)),
                                 .x = ct_upload(up, (size_t)n * sizeof *up),
                                 .gate = ct_upload(gate, (size_t)n * sizeof *gate),
                                 .x_stride = n,
                                 .n = (int32_t)n,
                                 .n_tok = 1,
                                 .digits = 1};
    CT_RUN(tug_cuda_on_quantize(&a), a);
    ct_download(q, a.act, sizeof q);
    ct_download(d, (char *)a.act + 2 * n, sizeof d);
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst,
                     fabs((double)d[i / 32] * q[i] - (double)h[i]) / (double)d[i / 32]);
    }
    ct_true(worst <= 0.501, "silu(gate) up is off by %.3g steps", worst);
}

int main(int argc, char **argv) {
    static const ct_test tests[] = {
        {"embed", test_embed},         {"quantize", test_quantize},
        {"gemv", test_gemv},           {"gemm", test_gemm},
        {"sizes", test_sizes},         {"grouped", test_grouped},
        {"saturated", test_saturated}, {"not_finite", test_not_finite}};
    return ct_main(argc, argv, "linear", tests, COUNT(tests));
}
