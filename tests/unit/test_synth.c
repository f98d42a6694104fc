/* test_synth.c - made-up models: types, values, popularity, vocabulary, refusals.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "chat/chat.h"
#include "support/tmpdir.h"
#include "synth/chat_template.h"
#include "synth/fill.h"
#include "synth/popularity.h"
#include "synth/synth.h"
#include "synth/synth_vocab.h"
#include "tokenizer/tokenizer.h"

/* ---- types ------------------------------------------------------------------------ */

static tug_type type_of(const char *mix, int n_layer, tug_synth_role role, int layer) {
    const tug_synth_mix_model model = {n_layer, 512, 8};
    const tug_synth_mix *m = tug_synth_mix_find(mix);
    assert_non_null(m);
    return tug_synth_mix_type(m, &model, role, layer);
}

/* The layers of 48 in which Q4_K_M gives more bits, as published files have them. */
static void q4_k_m_of_48_layers(void **state) {
    (void)state;
    static const int more[] = {0,  1,  2,  3,  4,  5,  8,  11, 14, 17, 20, 23,
                               26, 29, 32, 35, 38, 41, 42, 43, 44, 45, 46, 47};
    bool has_more[48] = {false};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) has_more[more[i]] = true;
    for (int i = 0; i < 48; i++) {
        const tug_type want = has_more[i] ? TUG_TYPE_Q6_K : TUG_TYPE_Q4_K;
        assert_int_equal(type_of("Q4_K_M", 48, TUG_SYNTH_DOWN, i), want);
        assert_int_equal(type_of("q4_k_m", 48, TUG_SYNTH_ATTN_V, i), want);
        assert_int_equal(type_of("Q4_K_M", 48, TUG_SYNTH_ATTN_OUT, i), TUG_TYPE_Q4_K);
        assert_int_equal(type_of("Q4_K_M", 48, TUG_SYNTH_OTHER, i), TUG_TYPE_Q4_K);
    }
    assert_int_equal(type_of("Q4_K_M", 48, TUG_SYNTH_HEAD, 0), TUG_TYPE_Q6_K);
    assert_int_equal(type_of("Q4_K_M", 48, TUG_SYNTH_EMBEDDING, 0), TUG_TYPE_Q4_K);
}

static void q3_k_m_of_48_layers(void **state) {
    (void)state;
    for (int i = 0; i < 48; i++) {
        assert_int_equal(type_of("Q3_K_M", 48, TUG_SYNTH_DOWN, i),
                         i < 3 ? TUG_TYPE_Q5_K : TUG_TYPE_Q4_K);
        assert_int_equal(type_of("Q3_K_M", 48, TUG_SYNTH_ATTN_V, i),
                         i < 2 ? TUG_TYPE_Q5_K : TUG_TYPE_Q4_K);
        assert_int_equal(type_of("Q3_K_M", 48, TUG_SYNTH_ATTN_OUT, i), TUG_TYPE_Q4_K);
        assert_int_equal(type_of("Q3_K_M", 48, TUG_SYNTH_ATTN_K, i), TUG_TYPE_Q3_K);
    }
    assert_int_equal(type_of("Q3_K_M", 4, TUG_SYNTH_DOWN, 0),
                     TUG_TYPE_Q4_K); /* a slice */
}

static void other_mixes(void **state) {
    (void)state;
    /* base, embedding, head, v in layers 0 and 10 of 48, down in 0 and 10, output */
    static const struct {
        const char *name;
        tug_type other, head, v0, v10, down0, down10, out;
    } want[] = {
#define T(t) TUG_TYPE_##t
        {"Q2_K", T(Q2_K), T(Q6_K), T(Q4_K), T(Q4_K), T(Q3_K), T(Q3_K), T(Q3_K)},
        {"Q3_K_S", T(Q3_K), T(Q6_K), T(Q3_K), T(Q3_K), T(Q3_K), T(Q3_K), T(Q3_K)},
        {"Q3_K_L", T(Q3_K), T(Q6_K), T(Q5_K), T(Q5_K), T(Q5_K), T(Q5_K), T(Q5_K)},
        {"Q4_K_S", T(Q4_K), T(Q6_K), T(Q5_K), T(Q4_K), T(Q5_K), T(Q4_K), T(Q4_K)},
        {"Q5_K_S", T(Q5_K), T(Q6_K), T(Q5_K), T(Q5_K), T(Q5_K), T(Q5_K), T(Q5_K)},
        {"Q5_K_M", T(Q5_K), T(Q6_K), T(Q6_K), T(Q5_K), T(Q6_K), T(Q5_K), T(Q5_K)},
        {"Q6_K", T(Q6_K), T(Q6_K), T(Q6_K), T(Q6_K), T(Q6_K), T(Q6_K), T(Q6_K)},
        {"Q8_0", T(Q8_0), T(Q8_0), T(Q8_0), T(Q8_0), T(Q8_0), T(Q8_0), T(Q8_0)},
        {"Q4_0", T(Q4_0), T(Q6_K), T(Q4_0), T(Q4_0), T(Q4_0), T(Q4_0), T(Q4_0)},
        {"IQ4_XS", T(IQ4_XS), T(Q6_K), T(Q5_K), T(Q5_K), T(Q5_K), T(IQ4_XS), T(IQ4_XS)},
        {"IQ4_NL", T(IQ4_NL), T(Q6_K), T(Q5_K), T(Q5_K), T(Q5_K), T(IQ4_NL), T(IQ4_NL)},
        {"BF16", T(BF16), T(BF16), T(BF16), T(BF16), T(BF16), T(BF16), T(BF16)},
        {"F16", T(F16), T(F16), T(F16), T(F16), T(F16), T(F16), T(F16)},
        {"F32", T(F32), T(F32), T(F32), T(F32), T(F32), T(F32), T(F32)},
#undef T
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const char *name = want[i].name;
        assert_int_equal(type_of(name, 48, TUG_SYNTH_OTHER, 0), want[i].other);
        assert_int_equal(type_of(name, 48, TUG_SYNTH_EMBEDDING, 0), want[i].other);
        assert_int_equal(type_of(name, 48, TUG_SYNTH_ATTN_K, 3), want[i].other);
        assert_int_equal(type_of(name, 48, TUG_SYNTH_HEAD, 0), want[i].head);
        assert_int_equal(type_of(name, 48, TUG_SYNTH_ATTN_V, 0), want[i].v0);
        assert_int_equal(type_of(name, 48, TUG_SYNTH_ATTN_V, 10), want[i].v10);
        assert_int_equal(type_of(name, 48, TUG_SYNTH_DOWN, 0), want[i].down0);
        assert_int_equal(type_of(name, 48, TUG_SYNTH_DOWN, 10), want[i].down10);
        assert_int_equal(type_of(name, 48, TUG_SYNTH_ATTN_OUT, 3), want[i].out);
    }
    assert_null(tug_synth_mix_find("Q9_K"));
    const tug_synth_mix_model eight = {48, 8, 8}, few = {48, 512, 2};
    const tug_synth_mix *q3 = tug_synth_mix_find("Q3_K_S"),
                        *q2 = tug_synth_mix_find("Q2_K");
    assert_int_equal(tug_synth_mix_type(q3, &eight, TUG_SYNTH_ATTN_K, 3), TUG_TYPE_Q8_0);
    assert_int_equal(tug_synth_mix_type(q3, &eight, TUG_SYNTH_ATTN_OUT, 3),
                     TUG_TYPE_Q5_K);
    assert_int_equal(tug_synth_mix_type(q2, &few, TUG_SYNTH_ATTN_V, 3), TUG_TYPE_Q3_K);
}

/* ---- values ----------------------------------------------------------------------- */

/* Eight chunks of a type as floats, (8 * TUG_SYNTH_CHUNK,) owned. */
static float *values_of(tug_synth_fill *f) {
    uint64_t bytes = 0;
    assert_true(tug_type_row_bytes(f->type, TUG_SYNTH_CHUNK, &bytes));
    uint8_t *raw = malloc(bytes);
    float *y = malloc(8 * TUG_SYNTH_CHUNK * sizeof *y);
    assert_true(raw && y);
    for (int i = 0; i < 8; i++) {
        tug_synth_fill_chunk(f, i, raw);
        tug_dequantize_row(f->type, y + (int64_t)i * TUG_SYNTH_CHUNK, raw,
                           TUG_SYNTH_CHUNK);
    }
    free(raw);
    return y;
}

static void weights_have_the_wanted_spread(void **state) {
    (void)state;
    enum { N = 8 * TUG_SYNTH_CHUNK };
    static const tug_type types[] = {TUG_TYPE_F32,  TUG_TYPE_F16,    TUG_TYPE_BF16,
                                     TUG_TYPE_Q8_0, TUG_TYPE_Q4_0,   TUG_TYPE_Q2_K,
                                     TUG_TYPE_Q3_K, TUG_TYPE_Q4_K,   TUG_TYPE_Q5_K,
                                     TUG_TYPE_Q6_K, TUG_TYPE_IQ4_NL, TUG_TYPE_IQ4_XS};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        tug_synth_fill f = {
            .type = types[i], .seed = 3, .std = 0.02f, .n = N, .n_cols = 2048};
        tug_synth_fill_prepare(&f);
        float *y = values_of(&f);
        double sum = 0, squares = 0, most = 0;
        for (int64_t j = 0; j < N; j++) {
            const double v = (double)y[j];
            assert_true(isfinite(v));
            sum += v;
            squares += v * v;
            if (fabs(v) > most) most = fabs(v);
        }
        const double variance = squares / N - sum * sum / N / N;
        assert_true(fabs(sqrt(variance) / 0.02 - 1) < 0.02);
        assert_true(fabs(sum / N) < 0.02 * 0.02);
        assert_true(most > 0.03 && most < 0.2);
        free(y);
    }
}

/* Not one scale for all, and both signs where the type needs them. */
static void block_scales_vary(void **state) {
    (void)state;
    tug_synth_fill f = {.type = TUG_TYPE_Q3_K, .std = 0.02f, .n = 256, .n_cols = 256};
    tug_synth_fill_prepare(&f);
    float low = 1, high = 0;
    for (int i = 0; i < TUG_SYNTH_SCALES; i++) {
        const float d = tug_f16_to_f32(f.d[i]);
        assert_true(d > 0);
        low = d < low ? d : low;
        high = d > high ? d : high;
    }
    assert_true(high > 2.5f * low && high < 3.5f * low);
}

static void routers_are_exactly_bf16(void **state) {
    (void)state;
    static const float row_std[1024] = {[0] = 0.01f, [1] = 0.08f, [2] = 0.04f};
    tug_synth_fill f = {.type = TUG_TYPE_F32,
                        .values = TUG_SYNTH_ROUTER,
                        .n = 8 * TUG_SYNTH_CHUNK,
                        .n_cols = 256,
                        .row_std = row_std};
    float *y = values_of(&f);
    double squares[2] = {0};
    for (int i = 0; i < 8 * TUG_SYNTH_CHUNK; i++) {
        assert_true(y[i] == tug_bf16_to_f32(tug_f32_to_bf16(y[i])));
        if (i < 512) squares[i / 256] += (double)(y[i] * y[i]) / 256;
    }
    assert_true(fabs(sqrt(squares[0]) / 0.01 - 1) < 0.2);
    assert_true(fabs(sqrt(squares[1]) / 0.08 - 1) < 0.2);
    free(y);
}

static void small_vectors_are_in_range(void **state) {
    (void)state;
    static const struct {
        tug_synth_values values;
        double min, max;
    } want[] = {
        {TUG_SYNTH_NORM, 0.6, 1.4}, {TUG_SYNTH_DT, -4, 1}, {TUG_SYNTH_A, -8, -0.125}};
    for (int k = 0; k < 3; k++) {
        tug_synth_fill f = {.type = TUG_TYPE_F32,
                            .values = want[k].values,
                            .n = 8 * TUG_SYNTH_CHUNK,
                            .n_cols = 8};
        float *y = values_of(&f);
        float low = y[0], high = y[0];
        for (int i = 0; i < 8 * TUG_SYNTH_CHUNK; i++) {
            low = y[i] < low ? y[i] : low;
            high = y[i] > high ? y[i] : high;
        }
        const double width = want[k].max - want[k].min;
        assert_true((double)low >= want[k].min &&
                    (double)low < want[k].min + 0.2 * width);
        assert_true((double)high <= want[k].max &&
                    (double)high > want[k].max - 0.2 * width);
        free(y);
    }
}

/* ---- popularity ------------------------------------------------------------------- */

static int descending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* What the rows' lengths mean, told another way: with the C library's tail function and a
 * threshold found by bisection. */
static void shares_of(const float *s, int n, int k, double *share) {
    double low = 0, high = 100;
    for (int i = 0; i < 200; i++) {
        const double t = (low + high) / 2;
        double used = 0;
        for (int e = 0; e < n; e++) used += 0.5 * erfc(t / (double)s[e] / sqrt(2.0));
        *(used > k ? &low : &high) = t;
    }
    for (int e = 0; e < n; e++) share[e] = 0.5 * erfc(low / (double)s[e] / sqrt(2.0)) / k;
}

static void popularity_follows_the_curve(void **state) {
    (void)state;
    enum { N = 512, K = 10 };
    float s[N], t[N];
    double share[N], top = 0, squares = 0;
    tug_synth_popularity(s, N, K, 4.4, 1.8, 9);
    for (int i = 0; i < N; i++) squares += (double)(s[i] * s[i]) / N;
    assert_true(fabs(sqrt(squares) - 1.8) < 1e-5);
    memcpy(t, s, sizeof t);
    qsort(t, N, sizeof *t, descending);
    assert_memory_not_equal(s, t, sizeof t); /* ranks are shuffled */
    shares_of(t, N, K, share);
    for (int i = 0; i < N; i++) {
        top += share[i];
        const double want = (1 - exp(-4.4 * (i + 1) / N)) / (1 - exp(-4.4));
        assert_true(fabs(top - want) < 2e-3);
    }
    tug_synth_popularity(s, N, K, 0, 1.8, 9);
    for (int i = 0; i < N; i++) assert_true(fabsf(s[i] - 1.8f) < 1e-5f);
    tug_synth_popularity(s, 4, 4, 16, 1.8, 9); /* every expert, every time */
    for (int i = 0; i < 4; i++) assert_true(isfinite(s[i]) && s[i] > 0);
}

/* ---- vocabulary ------------------------------------------------------------------- */

static void make_tokenizer(tug_tokenizer **tk, const tug_synth_vocab *v) {
    const tug_vocab_spec spec = {.tokens = v->tokens,
                                 .n_tokens = (uint64_t)v->n,
                                 .types = v->types,
                                 .n_types = (uint64_t)v->n,
                                 .merges = v->merges,
                                 .n_merges = (uint64_t)v->n_merges,
                                 .pre = {"qwen2", 5},
                                 .bos_id = v->pad_id,
                                 .eos_id = v->eos_id,
                                 .eot_id = TUG_NO_TOKEN,
                                 .pad_id = v->pad_id};
    tug_err err = {0};
    if (tug_tokenizer_create(tk, &spec, &err) != TUG_OK) fail_msg("%s", err.msg);
}

static void the_generated_vocabulary_works(void **state) {
    (void)state;
    static const int64_t sizes[] = {512, 2048, 151668, 151669, 151936};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tug_synth_vocab v = {0};
        tug_tokenizer *tk = NULL;
        assert_int_equal(tug_synth_vocab_make(&v, sizes[i], NULL), TUG_OK);
        make_tokenizer(&tk, &v);
        assert_int_equal(tug_tokenizer_size(tk), sizes[i]);
        const int32_t first = tug_tokenizer_find(tk, tug_str_of("<|endoftext|>"));
        assert_int_equal(first, sizes[i] >= 151669 ? 151643 : sizes[i] - 26);
        assert_int_equal(tug_tokenizer_find(tk, tug_str_of("<|im_end|>")), first + 2);
        assert_int_equal(tug_tokenizer_find(tk, tug_str_of("<tool_call>")), first + 14);
        assert_int_equal(tug_tokenizer_find(tk, tug_str_of("</think>")), first + 25);
        assert_int_equal(tug_tokenizer_type(tk, first), TUG_TOKEN_CONTROL);
        assert_int_equal(tug_tokenizer_type(tk, first + 14), TUG_TOKEN_USER);
        assert_int_equal(tug_tokenizer_type(tk, first - 1), TUG_TOKEN_NORMAL);
        assert_true(tug_tokenizer_is_eog(tk, first + 2));
        assert_int_equal(v.n_merges, first - 256);
        assert_int_not_equal(tug_tokenizer_find(tk, tug_str_of("\xff")), TUG_NO_TOKEN);
        assert_int_not_equal(tug_tokenizer_find(tk, tug_str_of("he")), TUG_NO_TOKEN);
        tug_tokenizer_destroy(&tk);
        tug_synth_vocab_free(&v);
    }
}

static void a_tokenizer_json_is_read(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    static const char good[] =
        "{\"added_tokens\":[{\"id\":5,\"content\":\"<|endoftext|>\",\"special\":true},"
        "{\"id\":6,\"content\":\"<|im_end|>\",\"special\":false},"
        "{\"id\":8,\"content\":\"<think>\",\"special\":false}],"
        "\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4},"
        "\"merges\":[\"a b\",[\"ab\",\"c\"]]}}";
    const char *path = tmpdir_write(&d, "good.json", tug_str_of(good));
    tug_synth_vocab v = {0};
    assert_int_equal(tug_synth_vocab_read(&v, path, 0, NULL), TUG_OK);
    assert_int_equal(v.n, 128);
    assert_int_equal(v.n_merges, 2);
    assert_true(tug_str_is(v.merges[1], "ab c") && tug_str_is(v.tokens[4], "abc"));
    assert_int_equal(v.eos_id, 6);
    assert_int_equal(v.types[6], TUG_TOKEN_CONTROL);
    assert_int_equal(v.types[8], TUG_TOKEN_USER);
    assert_int_equal(v.types[7], TUG_TOKEN_UNUSED);
    assert_true(tug_str_is(v.tokens[7], "[PAD7]"));
    tug_synth_vocab_free(&v);
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"hello", "is no JSON"},
        {"[]", "has no model.vocab"},
        {"{\"model\":{\"vocab\":{}}}", "has no model.merges"},
        {"{\"model\":{\"vocab\":{},\"merges\":[]}}", "has no added_tokens"},
        {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]},\"added_tokens\":[]}",
         "without an id"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"id\":1}]}",
         "without id or content"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[]}",
         "<|im_end|>"},
        {"{\"added_tokens\":[{\"id\":5,\"content\":\"<|endoftext|>\"},{\"id\":6,"
         "\"content\":\"<|im_end|>\"}],\"model\":{\"vocab\":{},\"merges\":[[\"a\"]]}}",
         "no pair of texts"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tug_err err = {0};
        path = tmpdir_write(&d, "bad.json", tug_str_of(bad[i].text));
        assert_int_equal(tug_synth_vocab_read(&v, path, 0, &err), TUG_EFORMAT);
        if (!strstr(err.msg, bad[i].words)) fail_msg("%s", err.msg);
        tug_synth_vocab_free(&v);
    }
    tug_err err = {0};
    path = tmpdir_path(&d, "good.json");
    assert_int_equal(tug_synth_vocab_read(&v, path, 8, &err), TUG_ERANGE);
    assert_non_null(strstr(err.msg, "has 9 tokens"));
    tug_synth_vocab_free(&v);
    tmpdir_remove(&d);
}

static void the_chat_template_is_ours(void **state) {
    (void)state;
    static char text[16384];
    FILE *f = fopen("tools/train/chat_template.jinja", "rb");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    (void)fclose(f);
    assert_string_equal(text, tug_synth_chat_template);
    assert_true(tug_chat_template_known(tug_str_of(tug_synth_chat_template)));
}

/* ---- whole files ------------------------------------------------------------------ */

static void write_tiny(const char *path, uint64_t seed, int n_threads) {
    tug_synth_spec s;
    tug_pool *pool = NULL;
    tug_synth_result r;
    assert_true(tug_synth_spec_like(&s, "tiny"));
    s.seed = seed;
    s.n_layer = 4;
    s.n_expert = 8;
    const tug_gguf_write_params out = {.path = path};
    assert_int_equal(tug_pool_create(&pool, n_threads, NULL), TUG_OK);
    assert_int_equal(tug_synth_write(&s, &out, pool, NULL, NULL, &r, NULL, NULL), TUG_OK);
    tug_pool_destroy(&pool);
}

static bool same_tensors(const char *a, const char *b) {
    tug_gguf *x = NULL, *y = NULL;
    assert_int_equal(tug_gguf_open(&x, a, NULL), TUG_OK);
    assert_int_equal(tug_gguf_open(&y, b, NULL), TUG_OK);
    int n_same = 0;
    const uint64_t n = tug_gguf_n_tensors(x);
    for (uint64_t i = 0; i < n; i++) {
        const tug_gguf_tensor t = tug_gguf_tensor_at(x, i), u = tug_gguf_tensor_at(y, i);
        assert_true(tug_str_eq(t.name, u.name));
        n_same += memcmp(t.data, u.data, t.n_bytes) == 0;
    }
    tug_gguf_close(&x);
    tug_gguf_close(&y);
    assert_true(n_same == 0 || (uint64_t)n_same == n); /* all tensors hang on the seed */
    return n_same > 0;
}

static void threads_do_not_matter_but_seeds_do(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    write_tiny(tmpdir_path(&d, "a.gguf"), 1, 1);
    write_tiny(tmpdir_path(&d, "b.gguf"), 1, 3);
    write_tiny(tmpdir_path(&d, "c.gguf"), 2, 2);
    assert_true(same_tensors(tmpdir_path(&d, "a.gguf"), tmpdir_path(&d, "b.gguf")));
    assert_false(same_tensors(tmpdir_path(&d, "a.gguf"), tmpdir_path(&d, "c.gguf")));
    tmpdir_remove(&d);
}

static bool stop_at_once(void *ud, uint64_t done, uint64_t total) {
    assert_true(done > 0 && done <= total);
    (*(int *)ud)++;
    return false;
}

static void cancelling_leaves_nothing(void **state) {
    (void)state;
    const tmpdir d = tmpdir_make();
    tug_synth_spec s;
    tug_pool *pool = NULL;
    tug_synth_result r;
    tug_err err = {0};
    int n_calls = 0;
    assert_true(tug_synth_spec_like(&s, "tiny"));
    const tug_gguf_write_params out = {.path = tmpdir_path(&d, "m.gguf")};
    assert_int_equal(tug_pool_create(&pool, 2, NULL), TUG_OK);
    assert_int_equal(
        tug_synth_write(&s, &out, pool, stop_at_once, &n_calls, &r, NULL, &err),
        TUG_ECANCELED);
    assert_int_equal(n_calls, 1);
    tug_pool_destroy(&pool);
    assert_true(strlen(err.msg) > 10);
    tug_gguf *g = NULL;
    assert_int_equal(tug_gguf_open(&g, out.path, &err), TUG_EIO);
    assert_int_equal(tug_gguf_open(&g, tmpdir_path(&d, "m.gguf.partial"), &err), TUG_EIO);
    tmpdir_remove(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q4_k_m_of_48_layers),
        cmocka_unit_test(q3_k_m_of_48_layers),
        cmocka_unit_test(other_mixes),
        cmocka_unit_test(weights_have_the_wanted_spread),
        cmocka_unit_test(block_scales_vary),
        cmocka_unit_test(routers_are_exactly_bf16),
        cmocka_unit_test(small_vectors_are_in_range),
        cmocka_unit_test(popularity_follows_the_curve),
        cmocka_unit_test(the_generated_vocabulary_works),
        cmocka_unit_test(a_tokenizer_json_is_read),
        cmocka_unit_test(the_chat_template_is_ours),
        cmocka_unit_test(threads_do_not_matter_but_seeds_do),
        cmocka_unit_test(cancelling_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
