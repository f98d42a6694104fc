/* test_cuda_experts.c - the experts of a few tokens, the router and the sorting of pairs,
 * against the specification and arithmetic in double.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda_linear.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* ---- router --------------------------------------------------------------------------- */

static void check_route(const float *logits, int64_t n_tok, int n_expert, int k) {
    const size_t n_out = (size_t)(n_tok * k);
    const tug_cuda_route a = {
        .ids = ct_device(n_out * sizeof(int32_t)),
        .weights = ct_device(n_out * sizeof(float)),
        .logits = ct_upload(logits, (size_t)(n_tok * n_expert) * sizeof *logits),
        .n_expert = n_expert,
        .k = k,
        .n_tok = (int32_t)n_tok};
    CT_RUN(tug_cuda_on_route(&a), a);
    int32_t *ids = ct_buf(n_out * sizeof *ids), *want_ids = ct_buf(n_out * sizeof *ids);
    float *weights = ct_floats((int64_t)n_out), *want = ct_floats((int64_t)n_out);
    ct_download(ids, a.ids, n_out * sizeof *ids);
    ct_download(weights, a.weights, n_out * sizeof *weights);
    for (int64_t t = 0; t < n_tok; t++) {
        ct_ref()->route(want_ids + t * k, want + t * k, logits + t * n_expert, n_expert,
                        k);
    }
    ct_same("ids", ids, want_ids, n_out * sizeof *ids);
    ct_close("weights", weights, want, (int64_t)n_out, 1e-6, 1e-30);
}

static void test_route(void) {
    static const struct {
        int n_expert, k;
    } shapes[] = {{1, 1},   {2, 1},   {4, 4},    {8, 2},    {31, 5},   {32, 8},
                  {33, 33}, {128, 8}, {512, 10}, {512, 64}, {1000, 7}, {1024, 64}};
    for (int i = 0; i < COUNT(shapes); i++) {
        const int n = shapes[i].n_expert, k = shapes[i].k;
        const int64_t n_tok = 3;
        ct_shape("%d of %d", k, n);
        check_route(ct_normal(n_tok * n, 3.0f), n_tok, n, k);
        float *ties = ct_floats(n_tok * n); /* few values, both zeros */
        for (int64_t j = 0; j < n_tok * n; j++) {
            ties[j] = (float)ct_rand_int(-2, 2) * (ct_rand_int(0, 1) ? 1.0f : -0.0f);
        }
        check_route(ties, n_tok, n, k);
        float *same = ct_floats(n_tok * n);
        for (int64_t j = 0; j < n_tok * n; j++) same[j] = -7.5f;
        check_route(same, n_tok, n, k);
        float *odd = ct_normal(n_tok * n, 1e30f);
        for (int64_t j = 0; j < n_tok * n; j += 3) odd[j] = -INFINITY;
        for (int64_t j = 1; j < n_tok * n; j += 5) odd[j] = NAN;
        if (k < n / 3) check_route(odd, n_tok, n, k);
        float *nan = ct_floats(n);
        for (int64_t j = 0; j < n; j++) nan[j] = NAN;
        check_route(nan, 1, n, k);
        ct_release_all();
    }
}

/* ---- pairs by expert -------------------------------------------------------------------- */

static void check_sort(const int32_t *ids, int n_pair, int n_expert, int tile) {
    const int64_t max_tiles = tug_cuda_max_tiles(n_pair, n_expert, tile);
    const size_t tile_bytes = (size_t)(1 + 2 * max_tiles) * sizeof(int32_t);
    const tug_cuda_sort a = {.ids = ct_upload(ids, (size_t)n_pair * sizeof *ids),
                             .first = ct_device((size_t)(n_expert + 1) * sizeof(int32_t)),
                             .sorted = ct_device((size_t)n_pair * sizeof(int32_t)),
                             .tiles = ct_device(tile_bytes),
                             .n_pair = n_pair,
                             .n_expert = n_expert,
                             .tile = tile};
    CT_RUN(tug_cuda_on_sort_count(&a), a);
    CT_RUN(tug_cuda_on_sort_plan(&a), a);
    CT_RUN(tug_cuda_on_sort_place(&a), a);
    int32_t *first = ct_buf((size_t)(n_expert + 1) * sizeof *first);
    int32_t *sorted = ct_buf((size_t)n_pair * sizeof *sorted),
            *tiles = ct_buf(tile_bytes);
    ct_download(first, a.first, (size_t)(n_expert + 1) * sizeof *first);
    ct_download(sorted, a.sorted, (size_t)n_pair * sizeof *sorted);
    ct_download(tiles, a.tiles, tile_bytes);
    int at = 0, n_tiles = 0;
    bool ok = true;
    for (int e = 0; e < n_expert; e++) {
        ok &= first[e] == at;
        for (int p = 0; p < n_pair; p++) {
            if (ids[p] == e) ok &= sorted[at++] == p;
        }
        for (int t = first[e]; ok && t < at; t += tile, n_tiles++) {
            ok &= n_tiles < tiles[0] && tiles[1 + 2 * n_tiles] == e &&
                  tiles[2 + 2 * n_tiles] == t;
        }
    }
    ct_true(ok && first[n_expert] == n_pair && at == n_pair, "not the sorted pairs");
    ct_true(tiles[0] == n_tiles && n_tiles <= max_tiles, "%d tiles, not %d", tiles[0],
            n_tiles);
}

static void test_sort(void) {
    static const struct {
        int n_pair, n_expert, tile;
    } shapes[] = {{1, 1, 64},   {10, 512, 64}, {300, 8, 64}, {255, 33, 16},
                  {257, 2, 64}, {1000, 40, 1}, {640, 1, 64}};
    for (int i = 0; i < COUNT(shapes); i++) {
        const int n = shapes[i].n_pair, m = shapes[i].n_expert;
        int32_t *ids = ct_buf((size_t)n * sizeof *ids);
        ct_shape("%d pairs, %d experts, tiles of %d", n, m, shapes[i].tile);
        for (int p = 0; p < n; p++) ids[p] = (int32_t)ct_rand_int(0, m - 1);
        check_sort(ids, n, m, shapes[i].tile);
        for (int p = 0; p < n; p++) ids[p] = m - 1; /* all at the last one */
        check_sort(ids, n, m, shapes[i].tile);
        ct_release_all();
    }
}

/* Rows of pairs whose expert is here are what the kernels of all rows make, to the bit; the
 * others stay as they were. */
static void check_pair_hidden(int n_pair, int n_expert, int n, int digits) {
    const size_t floats = (size_t)(n_pair * n) * sizeof(float);
    const size_t row = digits ? (size_t)tug_cuda_act_bytes(n) : (size_t)n * sizeof(float);
    int32_t *ids = ct_buf((size_t)n_pair * sizeof *ids);
    const void **slots = ct_buf((size_t)n_expert * sizeof *slots);
    for (int p = 0; p < n_pair; p++) ids[p] = (int32_t)ct_rand_int(0, n_expert - 1);
    for (int e = 0; e < n_expert; e++) slots[e] = e % 3 == 2 ? NULL : slots;
    const int64_t max_tiles = tug_cuda_max_tiles(n_pair, n_expert, TUG_CUDA_GEMM_TOKENS);
    const tug_cuda_sort sort = {
        .ids = ct_upload(ids, (size_t)n_pair * sizeof *ids),
        .first = ct_device((size_t)(n_expert + 1) * sizeof(int32_t)),
        .sorted = ct_device((size_t)n_pair * sizeof(int32_t)),
        .tiles = ct_device((size_t)(1 + 2 * max_tiles) * sizeof(int32_t)),
        .n_pair = n_pair,
        .n_expert = n_expert,
        .tile = TUG_CUDA_GEMM_TOKENS};
    CT_RUN(tug_cuda_on_sort_count(&sort), sort);
    CT_RUN(tug_cuda_on_sort_plan(&sort), sort);
    CT_RUN(tug_cuda_on_sort_place(&sort), sort);
    const float *gate = ct_normal(n_pair * n, 1.0f), *up = ct_normal(n_pair * n, 1.0f);
    uint8_t *before = ct_buf((size_t)n_pair * row), *got = ct_buf((size_t)n_pair * row);
    uint8_t *want = ct_buf((size_t)n_pair * row);
    memset(before, 0x5A, (size_t)n_pair * row);
    if (digits == 0) memcpy(before, up, floats);
    uint8_t *all = ct_upload(before, (size_t)n_pair * row);
    const float *device_gate = ct_upload(gate, floats);
    const tug_cuda_quantize q = {.act = all,
                                 .x = ct_upload(up, floats),
                                 .gate = device_gate,
                                 .x_stride = n,
                                 .n = n,
                                 .n_tok = n_pair,
                                 .digits = digits};
    const tug_cuda_swiglu s = {.h = (float *)(void *)all,
                               .gate = device_gate,
                               .up = q.x,
                               .n = (int64_t)n_pair * n};
    if (digits) CT_RUN(tug_cuda_on_quantize(&q), q);
    if (!digits) CT_RUN(tug_cuda_on_swiglu(&s), s);
    ct_download(want, all, (size_t)n_pair * row);
    const tug_cuda_pair_hidden a = {
        .act = digits ? ct_upload(before, (size_t)n_pair * row) : NULL,
        .gate = device_gate,
        .up = ct_upload(up, floats),
        .slots = ct_upload(slots, (size_t)n_expert * sizeof *slots),
        .tiles = sort.tiles,
        .first = sort.first,
        .sorted = sort.sorted,
        .n = n,
        .n_pair = n_pair,
        .n_expert = n_expert,
        .digits = digits};
    CT_RUN(tug_cuda_on_pair_hidden(&a), a);
    ct_download(got, digits ? a.act : a.up, (size_t)n_pair * row);
    int wrong = 0;
    for (int p = 0; p < n_pair; p++) {
        const uint8_t *const expected = slots[ids[p]] ? want : before;
        wrong += memcmp(got + (size_t)p * row, expected + (size_t)p * row, row) != 0;
    }
    ct_true(wrong == 0, "%d of %d rows are wrong", wrong, n_pair);
}

static void test_pair_hidden(void) {
    static const struct {
        int n_pair, n_expert, n;
    } shapes[] = {{1, 1, 32}, {300, 5, 512}, {200, 64, 96}, {130, 1, 288}};
    for (int i = 0; i < COUNT(shapes); i++) {
        for (int digits = 0; digits <= 2; digits++) {
            ct_shape("%d pairs, %d experts, %d wide, %d digits", shapes[i].n_pair,
                     shapes[i].n_expert, shapes[i].n, digits);
            check_pair_hidden(shapes[i].n_pair, shapes[i].n_expert, shapes[i].n, digits);
            ct_release_all();
        }
    }
}

/* ---- the experts of a few tokens --------------------------------------------------------- */

typedef struct experts {
    tug_type type;
    int64_t n_expert, n_rows, n_cols, mat_bytes;
    uint64_t row_bytes;
    uint8_t *w;
    const void **slots; /* (n_expert,), on the host */
    const void *const *device;
} experts;

/* Every third expert but the first is not here; each of the others is an allocation. */
static experts make_experts(tug_type type, int64_t n_expert, int64_t n_rows,
                            int64_t n_cols) {
    experts x = {.type = type, .n_expert = n_expert, .n_rows = n_rows, .n_cols = n_cols};
    tug_type_row_bytes(type, (uint64_t)n_cols, &x.row_bytes);
    x.mat_bytes = n_rows * (int64_t)x.row_bytes;
    x.w = ct_weights(type, n_expert * n_rows, n_cols, 0.05f);
    x.slots = ct_buf((size_t)n_expert * sizeof *x.slots);
    for (int64_t e = 0; e < n_expert; e++) {
        x.slots[e] =
            e % 3 == 2 ? NULL : ct_upload(x.w + e * x.mat_bytes, (size_t)x.mat_bytes);
    }
    x.device = ct_upload(x.slots, (size_t)n_expert * sizeof *x.slots);
    return x;
}

static lt_product dot_expert(const experts *x, int64_t e, int64_t row, const float *v) {
    return lt_dot(x->type, x->w + e * x->mat_bytes + row * (int64_t)x->row_bytes, v,
                  x->n_cols);
}

/* Increasing ids without repetition, as the router gives them. */
static void choose(int32_t *ids, int64_t n_expert, int k) {
    int n = 0;
    for (int64_t e = 0; e < n_expert && n < k; e++) {
        if (ct_rand_int(0, n_expert - e - 1) < k - n) ids[n++] = (int32_t)e;
    }
}

enum { N_EXPERT = 7 };

/* silu is 1.1 steep: errors of the two sums, relative to their terms, and of silu itself. */
static void check_hidden(tug_type type, int64_t f, int64_t h, int64_t n_tok, int n_used,
                         int digits) {
    ct_shape("hidden %s %lld x %lld, %lld tokens, %d used, %d digits",
             tug_type_get(type)->name, (long long)f, (long long)h, (long long)n_tok,
             n_used, digits);
    const experts gate = make_experts(type, N_EXPERT, f, h);
    const experts up = make_experts(type, N_EXPERT, f, h);
    const int64_t n_pair = n_tok * n_used;
    int32_t *ids = ct_buf((size_t)n_pair * sizeof *ids);
    for (int64_t t = 0; t < n_tok; t++) choose(ids + t * n_used, N_EXPERT, n_used);
    const lt_input in = lt_convert(type, ct_normal(n_tok * h, 1.0f), n_tok, h, digits);
    const tug_cuda_expert_hidden a = {.h =
                                          ct_device((size_t)(n_pair * f) * sizeof(float)),
                                      .gate = gate.device,
                                      .up = up.device,
                                      .ids = ct_upload(ids, (size_t)n_pair * sizeof *ids),
                                      .x = in.device,
                                      .w_row_bytes = (int64_t)gate.row_bytes,
                                      .x_row_bytes = in.row_bytes,
                                      .n_rows = (int32_t)f,
                                      .n_cols = (int32_t)h,
                                      .n_tok = (int32_t)n_tok,
                                      .n_used = n_used,
                                      .digits = digits};
    CT_RUN(tug_cuda_on_expert_hidden(&a, type), a);
    float *got = ct_floats(n_pair * f);
    ct_download(got, a.h, (size_t)(n_pair * f) * sizeof(float));
    double worst = 0;
    for (int64_t p = 0; p < n_pair; p++) {
        const float *x = in.restored + p / n_used * h;
        for (int64_t r = 0; r < f; r++) {
            const double y = (double)got[p * f + r];
            if (!gate.slots[ids[p]]) {
                worst = fmax(worst, y == 0.0 ? 0.0 : INFINITY);
                continue;
            }
            const lt_product g = dot_expert(&gate, ids[p], r, x);
            const lt_product u = dot_expert(&up, ids[p], r, x);
            const double want = g.y / (1 + exp(-g.y)) * u.y;
            const double size =
                1.1 * g.size * fabs(u.y) + fabs(g.y) * u.size + fabs(want) + 1e-30;
            const double off = fabs(y - want) / size;
            worst = fmax(worst, isfinite(off) ? off : INFINITY);
        }
    }
    ct_true(worst <= 1e-6, "off by %.3g", worst);
}

static void check_down(tug_type type, int64_t h, int64_t f, int64_t n_tok, int n_used,
                       int digits, bool shared) {
    ct_shape("down %s %lld x %lld, %lld tokens, %d used, %d digits%s",
             tug_type_get(type)->name, (long long)h, (long long)f, (long long)n_tok,
             n_used, digits, shared ? ", shared" : "");
    const experts down = make_experts(type, shared ? 1 : N_EXPERT, h, f);
    const int64_t n_pair = n_tok * n_used;
    int32_t *ids = ct_buf((size_t)n_pair * sizeof *ids);
    memset(ids, 0, (size_t)n_pair * sizeof *ids);
    for (int64_t t = 0; t < n_tok && !shared; t++) {
        choose(ids + t * n_used, N_EXPERT, n_used);
    }
    const float *weights = ct_uniform(n_pair, 0.0f, 0.5f);
    const lt_input in = lt_convert(type, ct_normal(n_pair * f, 1.0f), n_pair, f, digits);
    const tug_cuda_expert_down a = {
        .y = ct_device((size_t)(n_tok * h) * sizeof(float)),
        .down = down.device,
        .ids = shared ? NULL : ct_upload(ids, (size_t)n_pair * sizeof *ids),
        .weights = shared ? NULL : ct_upload(weights, (size_t)n_pair * sizeof *weights),
        .h = in.device,
        .w_row_bytes = (int64_t)down.row_bytes,
        .h_row_bytes = in.row_bytes,
        .n_rows = (int32_t)h,
        .n_cols = (int32_t)f,
        .n_tok = (int32_t)n_tok,
        .n_used = n_used,
        .digits = digits};
    CT_RUN(tug_cuda_on_expert_down(&a, type), a);
    float *got = ct_floats(n_tok * h);
    ct_download(got, a.y, (size_t)(n_tok * h) * sizeof(float));
    double worst = 0;
    for (int64_t t = 0; t < n_tok; t++) {
        for (int64_t r = 0; r < h; r++) {
            double want = 0, size = 1e-30;
            for (int64_t p = t * n_used; p < (t + 1) * n_used; p++) {
                if (!down.slots[ids[p]]) continue;
                const lt_product y = dot_expert(&down, ids[p], r, in.restored + p * f);
                const double w = shared ? 1 : (double)weights[p];
                want += w * y.y;
                size += w * y.size;
            }
            const double off = fabs((double)got[t * h + r] - want) / size;
            worst = fmax(worst, isfinite(off) ? off : INFINITY);
        }
    }
    ct_true(worst <= 1e-6, "off by %.3g", worst);
}

static void test_experts(void) {
    for (int i = 0; i < lt_n_types; i++) {
        const tug_type type = lt_types[i];
        const int64_t block = tug_type_get(type)->block_elems;
        const int64_t small = block == 1 ? 33 : block;
        check_hidden(type, 9, small, 1, 1, 2);
        check_hidden(type, 6, 512, 3, 4, 1);
        check_hidden(type, 5, 2048, 1, 7, 2);
        ct_release_all();
        check_down(type, 9, small, 1, 1, 2, false);
        check_down(type, 37, 512, 3, 4, 2, false);
        check_down(type, 5, 2048, 1, 7, 1, false);
        check_down(type, 16, 512, 2, 1, 2, true);
        ct_release_all();
    }
}

static void test_finish(void) {
    const int64_t n = 301, n_tok = 3;
    const size_t bytes = (size_t)(n_tok * n) * sizeof(float);
    for (int what = 0; what < 8; what++) {
        const bool with_shared = what & 1, with_w = what & 2, with_more = what & 4;
        ct_shape("shared %d, router %d, more %d", with_shared, with_w, with_more);
        float *y = ct_normal(n_tok * n, 1.0f), *x = ct_normal(n_tok * n, 1.0f);
        float *shared = ct_normal(n_tok * n, 1.0f), *more = ct_normal(n_tok * n, 1.0f);
        float *w = ct_normal(n, 0.1f), *got = ct_floats(n_tok * n);
        const tug_cuda_expert_finish a = {
            .y = ct_upload(y, bytes),
            .shared = with_shared ? ct_upload(shared, bytes) : NULL,
            .w = with_w ? ct_upload(w, (size_t)n * sizeof *w) : NULL,
            .x = ct_upload(x, bytes),
            .more = with_more ? ct_upload(more, bytes) : NULL,
            .n = (int32_t)n,
            .n_tok = (int32_t)n_tok};
        CT_RUN(tug_cuda_on_expert_finish(&a), a);
        ct_download(got, a.y, bytes);
        for (int64_t i = 0; i < n_tok * n; i++) {
            double share = 1, sum = (double)y[i];
            if (with_w) {
                const lt_product p =
                    lt_dot(TUG_TYPE_F32, (const uint8_t *)w, x + i / n * n, n);
                share = 1 / (1 + exp(-p.y));
            }
            if (with_more) sum += (double)more[i];
            if (with_shared) sum += share * (double)shared[i];
            y[i] = (float)sum;
        }
        ct_close("y", got, y, n_tok * n, 1e-6, 1.0);
        ct_release_all();
    }
}

static void test_combine(void) {
    const int64_t n = 300, n_tok = 4, n_pair = n_tok * 3;
    ct_shape("%lld x %lld", (long long)n_tok, (long long)n);
    const float *yp = ct_normal(n_pair * n, 1.0f), *weights = ct_uniform(n_pair, 0, 1);
    const experts any = make_experts(TUG_TYPE_F32, N_EXPERT, 1, 1);
    int32_t *ids = ct_buf((size_t)n_pair * sizeof *ids);
    for (int64_t t = 0; t < n_tok; t++) choose(ids + t * 3, N_EXPERT, 3);
    const tug_cuda_combine a = {.y = ct_device((size_t)(n_tok * n) * sizeof(float)),
                                .yp = ct_upload(yp, (size_t)(n_pair * n) * sizeof *yp),
                                .weights =
                                    ct_upload(weights, (size_t)n_pair * sizeof *weights),
                                .ids = ct_upload(ids, (size_t)n_pair * sizeof *ids),
                                .slots = any.device,
                                .n = (int32_t)n,
                                .n_tok = (int32_t)n_tok,
                                .n_used = 3};
    CT_RUN(tug_cuda_on_combine(&a), a);
    float *got = ct_floats(n_tok * n), *want = ct_floats(n_tok * n);
    ct_download(got, a.y, (size_t)(n_tok * n) * sizeof *got);
    for (int64_t i = 0; i < n_tok * n; i++) {
        double sum = 0;
        for (int64_t p = i / n * 3; p < i / n * 3 + 3; p++) {
            if (any.slots[ids[p]]) sum += (double)weights[p] * (double)yp[p * n + i % n];
        }
        want[i] = (float)sum;
    }
    ct_close("y", got, want, n_tok * n, 1e-6, 1.0);
}

static void test_hand_over(void) {
    static const struct {
        int64_t n_x;
        int n_pair;
    } cases[] = {{1, 1}, {64, 8}, {2048, 10}, {513, 600}, {16 * 2048 + 1, 160}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const int64_t n_x = cases[c].n_x;
        const int n_pair = cases[c].n_pair;
        const size_t x_bytes = (size_t)n_x * sizeof(float);
        const size_t pair_bytes = (size_t)n_pair * sizeof(float);
        ct_shape("n_x=%lld n_pair=%d", (long long)n_x, n_pair);
        const float *x = ct_normal(n_x, 1.0f), *weights = ct_normal(n_pair, 1.0f);
        int32_t *ids = ct_buf(pair_bytes);
        for (int i = 0; i < n_pair; i++) ids[i] = (int32_t)ct_rand_int(0, 511);
        const tug_cuda_hand_over a = {.to_ids = ct_device(pair_bytes),
                                      .to_weights = ct_device(pair_bytes),
                                      .to_x = ct_device(x_bytes),
                                      .there = ct_device(sizeof(uint32_t)),
                                      .ids = ct_upload(ids, pair_bytes),
                                      .weights = ct_upload(weights, pair_bytes),
                                      .x = ct_upload(x, x_bytes),
                                      .n_x = n_x,
                                      .n_pair = n_pair,
                                      .count = 77};
        CT_RUN(tug_cuda_on_hand_over(&a), a);
        const uint32_t want = 77;
        uint32_t there;
        int32_t *got_ids = ct_buf(pair_bytes);
        float *got_weights = ct_floats(n_pair), *got_x = ct_floats(n_x);
        ct_download(&there, a.there, sizeof there);
        ct_download(got_ids, a.to_ids, pair_bytes);
        ct_download(got_weights, a.to_weights, pair_bytes);
        ct_download(got_x, a.to_x, x_bytes);
        ct_same("there", &there, &want, sizeof there);
        ct_same("ids", got_ids, ids, pair_bytes);
        ct_same("weights", got_weights, weights, pair_bytes);
        ct_same("x", got_x, x, x_bytes);
        ct_release_all();
    }
}

int main(int argc, char **argv) {
    static const ct_test tests[] = {{"route", test_route},
                                    {"sort", test_sort},
                                    {"experts", test_experts},
                                    {"finish", test_finish},
                                    {"combine", test_combine},
                                    {"hand_over", test_hand_over},
                                    {"pair_hidden", test_pair_hidden}};
    return ct_main(argc, argv, "experts", tests, COUNT(tests));
}
