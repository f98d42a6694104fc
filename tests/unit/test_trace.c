/* test_trace.c - traces as files (also damaged ones), the simulator against brute force,
 * and what made-up routes are held to.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/sys.h"
#include "trace/curves.h"
#include "trace/synth_routes.h"
#include "json/json.h"

/* ---- making traces --------------------------------------------------------------------- */

static void set_shape(tug_trace *t, int n_layer, int n_expert, int n_used) {
    assert_int_equal(tug_trace_set_shape(t, "test", n_layer, n_expert, n_used, NULL),
                     TUG_OK);
}

/* n_used different ids, increasing, by chance. */
static void draw_ids(uint16_t *ids, int n_expert, int n_used, tug_rng *r) {
    int n = 0;
    for (int e = 0; e < n_expert && n < n_used; e++) {
        if (tug_rng_unit(r) * (n_expert - e) < n_used - n) ids[n++] = (uint16_t)e;
    }
}

static void add_random(tug_trace *t, int32_t n_tok, tug_rng *r) {
    int64_t first = -1;
    assert_int_equal(tug_trace_add_batch(t, n_tok, &first, NULL), TUG_OK);
    for (int64_t i = first; i < first + n_tok; i++) {
        for (int l = 0; l < t->n_layer; l++) {
            draw_ids(tug_trace_ids(t, i, l), t->n_expert, t->n_used, r);
        }
    }
}

static tug_trace random_trace(int n_layer, int n_expert, int n_used, int n_batches,
                              uint64_t seed) {
    tug_trace t = {0};
    tug_rng r;
    tug_rng_seed(&r, seed);
    set_shape(&t, n_layer, n_expert, n_used);
    for (int i = 0; i < n_batches; i++) {
        add_random(&t, i % 3 ? 1 : 1 + (int32_t)(tug_rng_u64(&r) % 9), &r);
    }
    return t;
}

static void expect_same(const tug_trace *a, const tug_trace *b) {
    assert_int_equal(a->n_layer, b->n_layer);
    assert_int_equal(a->n_expert, b->n_expert);
    assert_int_equal(a->n_used, b->n_used);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->n_batches, b->n_batches);
    assert_memory_equal(a->batches, b->batches,
                        (size_t)a->n_batches * sizeof *a->batches);
    assert_memory_equal(a->ids, b->ids,
                        (size_t)(a->n_tokens * a->n_layer * a->n_used) * sizeof *a->ids);
}

/* ---- files ----------------------------------------------------------------------------- */

static void test_round_trip(void **unused) {
    (void)unused;
    static const int shapes[][3] = {
        {1, 1, 1}, {8, 24, 4}, {3, 512, 10}, {2, 4096, 5}, {1, 5, 5}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        tug_trace t = random_trace(shapes[i][0], shapes[i][1], shapes[i][2], 20, i);
        tug_trace back = {0};
        tug_buf bytes = {0};
        tug_trace_encode(&t, &bytes);
        assert_int_equal(tug_trace_decode(&back, tug_buf_view(&bytes), "t", NULL),
                         TUG_OK);
        expect_same(&t, &back);
        tug_trace_free(&back);
        tug_trace_free(&t);
        tug_buf_free(&bytes);
    }
}

static void test_files_are_compact(void **unused) {
    (void)unused;
    tug_trace t = random_trace(48, 512, 10, 30, 1);
    tug_buf bytes = {0};
    tug_trace_encode(&t, &bytes);
    /* ids (a tenth of the gaps needs two bytes), batches, header and checksum */
    assert_true(bytes.n < (size_t)(t.n_tokens * 48 * 10 * 12 / 10 + 30 * 4 + 48));
    tug_buf_free(&bytes);
    tug_trace_free(&t);
}

static void test_several_files_add_up(void **unused) {
    (void)unused;
    tug_trace a = random_trace(2, 9, 3, 5, 1), b = random_trace(2, 9, 3, 7, 2),
              c = random_trace(2, 8, 3, 1, 3), sum = {0};
    tug_buf bytes[3] = {{0}, {0}, {0}};
    tug_trace_encode(&a, &bytes[0]);
    tug_trace_encode(&b, &bytes[1]);
    tug_trace_encode(&c, &bytes[2]);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tug_trace_decode(&sum, tug_buf_view(&bytes[i]), "t", NULL),
                         TUG_OK);
    }
    assert_int_equal(sum.n_tokens, a.n_tokens + b.n_tokens);
    assert_int_equal(sum.n_batches, 12);
    assert_memory_equal(tug_trace_ids(&sum, a.n_tokens, 0), b.ids,
                        (size_t)(b.n_tokens * 2 * 3) * sizeof *b.ids);
    tug_err err;
    assert_int_equal(tug_trace_decode(&sum, tug_buf_view(&bytes[2]), "other.trace", &err),
                     TUG_ERANGE);
    assert_non_null(strstr(err.msg, "other.trace"));
    assert_int_equal(sum.n_batches, 12);
    assert_int_equal(sum.n_expert, 9);
    for (int i = 0; i < 3; i++) tug_buf_free(&bytes[i]);
    tug_trace_free(&a);
    tug_trace_free(&b);
    tug_trace_free(&c);
    tug_trace_free(&sum);
}

/* What whoever damages a file on purpose would do too. */
static void fix_checksum(uint8_t *p, size_t n) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i + 8 < n; i++) h = (h ^ p[i]) * 0x100000001B3u;
    for (int i = 0; i < 8; i++) p[n - 8 + (size_t)i] = (uint8_t)(h >> 8 * i);
}

/* Whatever the bytes are: an error, or a trace that keeps every promise of trace.h.  Read
 * from a copy of exactly that size, so that a sanitizer sees every step too far. */
static bool decode_hostile(const uint8_t *bytes, size_t n) {
    char *copy = tug_alloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    tug_trace t = {0};
    const tug_status s = tug_trace_decode(&t, tug_str_make(copy, n), "t", NULL);
    if (s != TUG_OK) {
        assert_int_equal(t.n_layer, 0);
        assert_int_equal(t.n_tokens, 0);
        assert_null(t.ids);
    }
    int64_t sum = 0;
    for (int64_t b = 0; b < t.n_batches; b++) {
        assert_true(t.batches[b] >= 1);
        sum += t.batches[b];
    }
    assert_int_equal(sum, t.n_tokens);
    for (int64_t i = 0; i < t.n_tokens * t.n_layer; i++) {
        const uint16_t *ids = t.ids + i * t.n_used;
        for (int k = 0; k < t.n_used; k++) {
            assert_true(ids[k] < t.n_expert && (k == 0 || ids[k] > ids[k - 1]));
        }
    }
    tug_trace_free(&t);
    tug_free(copy);
    return s == TUG_OK;
}

static tug_buf small_file(void) {
    tug_trace t = random_trace(2, 300, 3, 6, 11);
    tug_buf bytes = {0};
    tug_trace_encode(&t, &bytes);
    tug_trace_free(&t);
    return bytes;
}

static void test_damage_is_seen(void **unused) {
    (void)unused;
    tug_buf file = small_file();
    uint8_t *p = (uint8_t *)file.p;
    for (size_t n = 0; n < file.n; n++) assert_false(decode_hostile(p, n));
    for (size_t i = 0; i < file.n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            p[i] ^= (uint8_t)(1 << bit);
            assert_false(decode_hostile(p, file.n));
            p[i] ^= (uint8_t)(1 << bit);
        }
    }
    assert_true(decode_hostile(p, file.n));
    tug_buf_free(&file);
}

static void test_damage_with_a_right_checksum(void **unused) {
    (void)unused;
    tug_buf file = small_file();
    uint8_t *p = tug_alloc(file.n);
    assert_non_null(p);
    for (size_t n = 48; n < file.n; n++) {
        memcpy(p, file.p, n);
        fix_checksum(p, n);
        assert_false(decode_hostile(p, n));
    }
    int n_ok = 0;
    for (size_t i = 0; i + 8 < file.n; i++) {
        for (int v = 0; v < 256; v++) {
            memcpy(p, file.p, file.n);
            p[i] = (uint8_t)v;
            fix_checksum(p, file.n);
            n_ok += decode_hostile(p, file.n);
        }
    }
    assert_true(n_ok > 1000); /* other ids, all right */
    tug_rng r;
    tug_rng_seed(&r, 4);
    for (int n = 0; n < 20000; n++) {
        memcpy(p, file.p, file.n);
        for (uint64_t k = 2 + tug_rng_u64(&r) % 6; k > 0; k--) {
            static const uint8_t edges[] = {0, 1, 127, 128, 254, 255};
            p[8 + tug_rng_u64(&r) % (file.n - 8)] = edges[tug_rng_u64(&r) % 6];
        }
        fix_checksum(p, file.n);
        (void)decode_hostile(p, file.n);
    }
    tug_free(p);
    tug_buf_free(&file);
}

static void put(uint8_t *p, size_t at, uint64_t v, int n_bytes) {
    for (int i = 0; i < n_bytes; i++) p[at + (size_t)i] = (uint8_t)(v >> 8 * i);
}

/* Sizes that would be large, wrap around, or say nothing: an error before any memory. */
static void test_sizes_that_lie(void **unused) {
    (void)unused;
    static const struct {
        size_t at;
        int n_bytes;
        uint64_t value;
    } lies[] = {{8, 4, 0},           {8, 4, 2},           {12, 4, 0},
                {12, 4, 1u << 31},   {12, 4, UINT32_MAX}, {16, 4, 0},
                {16, 4, 65536},      {16, 4, UINT32_MAX}, {20, 4, 0},
                {20, 4, 301},        {20, 4, UINT32_MAX}, {24, 8, 0},
                {24, 8, 1u << 30},   {24, 8, 1ull << 62}, {24, 8, UINT64_MAX},
                {32, 8, 0},          {32, 8, 1u << 30},   {32, 8, 1ull << 61},
                {32, 8, UINT64_MAX}, {40, 4, 0},          {40, 4, UINT32_MAX},
                {40, 4, 1u << 31}};
    tug_buf file = small_file();
    uint8_t *p = tug_alloc(file.n);
    assert_non_null(p);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        memcpy(p, file.p, file.n);
        put(p, lies[i].at, lies[i].value, lies[i].n_bytes);
        fix_checksum(p, file.n);
        assert_false(decode_hostile(p, file.n));
    }
    tug_free(p);
    tug_buf_free(&file);
}

static void test_split(void **unused) {
    (void)unused;
    tug_trace t = {0};
    tug_rng r;
    tug_rng_seed(&r, 1);
    set_shape(&t, 1, 5, 2);
    add_random(&t, 7, &r);
    add_random(&t, 1, &r);
    add_random(&t, 6, &r);
    assert_int_equal(tug_trace_split(&t, 3, NULL), TUG_OK);
    static const int32_t want[] = {3, 3, 1, 1, 3, 3};
    assert_int_equal(t.n_batches, 6);
    assert_memory_equal(t.batches, want, sizeof want);
    assert_int_equal(tug_trace_split(&t, 1, NULL), TUG_OK);
    assert_int_equal(t.n_batches, 14);
    tug_trace_free(&t);
}

/* ---- the simulator --------------------------------------------------------------------- */

static tug_simulation simulate(const tug_trace *t, const char *policy, int home,
                               int staging) {
    tug_simulate_params p = {.home = home, .staging = staging};
    tug_simulation s;
    assert_int_equal(tug_expert_policy_find(&p.policy, policy, NULL), TUG_OK);
    assert_int_equal(tug_simulate(t, &p, &s, NULL), TUG_OK);
    return s;
}

/* Counted by hand: one layer, one expert a token, 2 homes and the staging slot. */
static void test_lru_by_hand(void **unused) {
    (void)unused;
    static const uint16_t ids[] = {0, 1, 2, 0, 1, 2, 3, 3, 0, 4, 1};
    /* 0 and 1 are at home.  2 takes the place of 0, which lingers; 0 is there, and takes
     * that of 1, and so on: three experts live in three slots.  3 is read over the one that
     * lingers, 0. */
    static const bool hit[] = {1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0};
    tug_trace t = {0};
    uint64_t hits = 0;
    set_shape(&t, 1, 5, 1);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        int64_t first;
        assert_int_equal(tug_trace_add_batch(&t, 1, &first, NULL), TUG_OK);
        *tug_trace_ids(&t, first, 0) = ids[i];
        hits += hit[i];
        const tug_simulation s = simulate(&t, "lru", 2, 1);
        assert_int_equal(s.decode.wanted, i + 1);
        assert_int_equal(s.decode.hits, hits);
    }
    tug_trace_free(&t);
}

static void test_everything_fits(void **unused) {
    (void)unused;
    tug_trace t = random_trace(3, 12, 4, 200, 6);
    for (int i = 0; i < tug_expert_policy_count(); i++) {
        const tug_simulation s = simulate(&t, tug_expert_policy_at(i)->name, 12, 1);
        assert_int_equal(s.decode.wanted, s.decode.hits);
        assert_int_equal(s.prompt.wanted, s.prompt.hits);
    }
    tug_trace_free(&t);
}

/* With one layer the bound has all slots there are: no policy is above it. */
static void test_nobody_beats_the_bound(void **unused) {
    (void)unused;
    for (uint64_t seed = 0; seed < 20; seed++) {
        tug_trace t = random_trace(1, 16, 3, 120, seed);
        for (int home = 0; home <= 16; home += 4) {
            tug_simulation best;
            assert_int_equal(tug_simulate_best(&t, home, 2, &best, NULL), TUG_OK);
            for (int i = 0; i < tug_expert_policy_count(); i++) {
                const tug_simulation s =
                    simulate(&t, tug_expert_policy_at(i)->name, home, 2);
                assert_int_equal(s.decode.wanted, best.decode.wanted);
                assert_int_equal(s.prompt.wanted, best.prompt.wanted);
                assert_true(s.decode.hits + s.prompt.hits <=
                            best.decode.hits + best.prompt.hits);
            }
        }
        tug_trace_free(&t);
    }
}

/* The best of all ways to keep up to home + 1 of 6 experts from step to step. */
static int best_by_force(const tug_trace *t, int home) {
    int value[64], next[64];
    for (int s = 0; s < 64; s++) value[s] = s == (1 << home) - 1 ? 0 : -1000;
    int64_t first = 0;
    for (int64_t b = 0; b < t->n_batches; first += t->batches[b++]) {
        int wanted = 0;
        for (int64_t i = first; i < first + t->batches[b]; i++) {
            for (int k = 0; k < t->n_used; k++) wanted |= 1 << tug_trace_ids(t, i, 0)[k];
        }
        for (int to = 0; to < 64; to++) {
            next[to] = -1000;
            if (__builtin_popcount((unsigned)to) > home + 1) continue;
            for (int from = 0; from < 64; from++) {
                if (to & ~(from | wanted)) continue;
                const int v = value[from] + __builtin_popcount((unsigned)(from & wanted));
                if (v > next[to]) next[to] = v;
            }
        }
        memcpy(value, next, sizeof value);
    }
    int best = 0;
    for (int s = 0; s < 64; s++) best = value[s] > best ? value[s] : best;
    return best;
}

static void test_the_bound_is_the_best(void **unused) {
    (void)unused;
    for (uint64_t seed = 0; seed < 60; seed++) {
        tug_trace t = random_trace(1, 6, 1 + (int)(seed % 3), 25, seed);
        for (int home = 0; home <= 5; home++) {
            tug_simulation best;
            assert_int_equal(tug_simulate_best(&t, home, 1, &best, NULL), TUG_OK);
            assert_int_equal(best.decode.hits + best.prompt.hits,
                             best_by_force(&t, home));
        }
        tug_trace_free(&t);
    }
}

static void test_pinning(void **unused) {
    (void)unused;
    tug_trace t = random_trace(2, 10, 3, 600, 8);
    float uses[20], heat[20];
    tug_trace_count_uses(&t, uses);
    tug_pin_most_used(&t, 4, heat);
    for (int l = 0; l < 2; l++) {
        float least = INFINITY, most = 0.0f, n = 0.0f;
        for (int e = 10 * l; e < 10 * l + 10; e++) {
            n += heat[e];
            if (heat[e] > 0.0f && uses[e] < least) least = uses[e];
            if (heat[e] == 0.0f && uses[e] > most) most = uses[e];
        }
        assert_true(n == 4.0f && least >= most);
    }
    /* Without a profile it is lru. */
    tug_simulate_params p = {.home = 4, .staging = 1, .heat = heat};
    tug_simulation s, unpinned;
    assert_int_equal(tug_expert_policy_find(&p.policy, "pinned", NULL), TUG_OK);
    assert_int_equal(tug_simulate(&t, &p, &s, NULL), TUG_OK);
    p.heat = NULL;
    assert_int_equal(tug_simulate(&t, &p, &unpinned, NULL), TUG_OK);
    const tug_simulation lru = simulate(&t, "lru", 4, 1);
    assert_int_equal(unpinned.decode.hits, lru.decode.hits);
    assert_true(s.decode.hits != lru.decode.hits);
    tug_trace_free(&t);
}

/* ---- routing and made-up routes --------------------------------------------------------- */

static void test_routing_by_hand(void **unused) {
    (void)unused;
    static const uint16_t ids[][2] = {{0, 1}, {0, 2}, {0, 1}, {3, 4}, {3, 4}};
    tug_trace t = {0};
    set_shape(&t, 1, 16, 2);
    for (int i = 0; i < 5; i++) {
        int64_t first;
        assert_int_equal(tug_trace_add_batch(&t, 1, &first, NULL), TUG_OK);
        memcpy(tug_trace_ids(&t, first, 0), ids[i], sizeof ids[i]);
    }
    tug_routing r;
    assert_int_equal(tug_routing_of(&t, &r, NULL), TUG_OK);
    assert_true(r.window[0] == 2 && fabs(r.distinct[0] - (3 + 3 + 4 + 2) / 4.0) < 1e-9);
    assert_true(fabs(r.repeated - 0.5) < 1e-9);
    assert_true(r.window[1] == 4 && fabs(r.distinct[1] - 5.0) < 1e-9);
    assert_true(isnan(r.distinct[2]) && isnan(r.top_text));
    assert_true(fabs(r.top_all - 5.0 / 10.0) < 1e-9); /* 0 thrice, and one of the pairs */
    tug_trace_free(&t);
}

static tug_trace made_up(const tug_routes_spec *spec) {
    tug_trace t = {0};
    assert_int_equal(tug_synth_routes(&t, spec, NULL), TUG_OK);
    return t;
}

static void test_made_up_routes(void **unused) {
    (void)unused;
    tug_routes_spec spec = {.n_layer = 2,
                            .n_expert = 40,
                            .n_used = 5,
                            .n_prompt = 25,
                            .batch = 10,
                            .n_decode = 4,
                            .seed = 3};
    tug_trace a = made_up(&spec), b = made_up(&spec);
    expect_same(&a, &b);
    static const int32_t want[] = {10, 10, 5, 1, 1, 1, 1};
    assert_int_equal(a.n_batches, 7);
    assert_memory_equal(a.batches, want, sizeof want);
    tug_buf bytes = {0};
    tug_trace_encode(&a, &bytes);
    assert_true(decode_hostile((const uint8_t *)bytes.p, bytes.n));
    spec.seed = 4;
    tug_trace_free(&b);
    b = made_up(&spec);
    assert_memory_not_equal(a.ids, b.ids, 29 * 2 * 5 * sizeof *a.ids);
    tug_trace_free(&a);
    tug_trace_free(&b);
    tug_buf_free(&bytes);
}

/* docs/TRACE.md: within two points of the published hit rates of LRU. */
static void test_made_up_routes_are_like_published_ones(void **unused) {
    (void)unused;
    static const struct {
        int slots;
        double rate;
    } published[] = {{31, 0.435}, {62, 0.62}, {93, 0.72}, {124, 0.789}, {171, 0.85}};
    const tug_routes_spec spec = {.n_layer = 4,
                                  .n_expert = 512,
                                  .n_used = 10,
                                  .batch = 1,
                                  .n_decode = 2000,
                                  .seed = 1};
    tug_trace t = made_up(&spec);
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        const double rate =
            tug_hit_rate(simulate(&t, "lru", published[i].slots, 10).decode);
        if (fabs(rate - published[i].rate) >= 0.02) {
            fail_msg("%d slots: %.3f", published[i].slots, rate);
        }
    }
    tug_trace_free(&t);
}

/* ---- curves ---------------------------------------------------------------------------- */

static void test_default_sizes(void **unused) {
    (void)unused;
    for (int n_expert = 1; n_expert <= 600; n_expert++) {
        tug_curves_spec s = {.n_sizes = 0};
        tug_curves_default_sizes(&s, n_expert);
        assert_true(s.n_sizes >= 1 && s.n_sizes <= TUG_CURVES_SIZES);
        for (int i = 0; i < s.n_sizes; i++) {
            assert_true(s.sizes[i] >= 1 && s.sizes[i] <= n_expert);
            assert_true(i == 0 || s.sizes[i] > s.sizes[i - 1]);
        }
    }
}

static void run_curves(tug_curves *c, const tug_trace *t) {
    tug_curves_spec s = {
        .n_policies = 2, .staging = 4, .pinned_share = 0.5, .profile = t};
    assert_int_equal(tug_expert_policy_find(&s.policies[0], "lru", NULL), TUG_OK);
    assert_int_equal(tug_expert_policy_find(&s.policies[1], "pinned", NULL), TUG_OK);
    tug_curves_default_sizes(&s, t->n_expert);
    assert_int_equal(tug_curves_run(c, t, &s, NULL), TUG_OK);
}

static void test_curves(void **unused) {
    (void)unused;
    tug_trace t = random_trace(2, 24, 4, 90, 2);
    static tug_curves c;
    run_curves(&c, &t);
    assert_true(c.n_decode >= 60 && c.n_prompt > 0);
    assert_int_equal(c.n_prompt + c.n_decode, t.n_tokens);
    for (int i = 0; i < c.spec.n_sizes; i++) {
        const tug_simulation s = simulate(&t, "lru", c.spec.sizes[i], 4);
        assert_int_equal(c.policy[0][i].decode.hits, s.decode.hits);
    }
    tug_buf out = {0};
    tug_arena arena = {0};
    const tug_json *doc = NULL;
    tug_curves_json(&c, &out);
    assert_int_equal(tug_json_parse(tug_buf_view(&out), &arena, &doc, NULL), TUG_OK);
    assert_non_null(tug_json_get(tug_json_get(doc, "policies"), "pinned"));
    tug_buf_clear(&out);
    tug_curves_svg(&c, "<a&b>\n", &out);
    assert_non_null(strstr(out.p, "&lt;a&amp;b&gt;: 4 of 24"));
    tug_buf_clear(&out);
    tug_curves_text(&c, &out);
    assert_non_null(strstr(out.p, "hit rate in percent, prompts"));
    tug_buf_free(&out);
    tug_arena_free(&arena);
    tug_trace_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_files_are_compact),
        cmocka_unit_test(test_several_files_add_up),
        cmocka_unit_test(test_damage_is_seen),
        cmocka_unit_test(test_damage_with_a_right_checksum),
        cmocka_unit_test(test_sizes_that_lie),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_lru_by_hand),
        cmocka_unit_test(test_everything_fits),
        cmocka_unit_test(test_nobody_beats_the_bound),
        cmocka_unit_test(test_the_bound_is_the_best),
        cmocka_unit_test(test_pinning),
        cmocka_unit_test(test_routing_by_hand),
        cmocka_unit_test(test_made_up_routes),
        cmocka_unit_test(test_made_up_routes_are_like_published_ones),
        cmocka_unit_test(test_default_sizes),
        cmocka_unit_test(test_curves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
