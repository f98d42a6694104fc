/* test_golden.c - the whole network against logits and per-layer residual streams that
 * the reference implementation (PyTorch transformers, float32) gave for the same weights.
 *
 * For every .gold file of tests/golden/data with its .gguf, at every CPU level of this machine:
 * one prefill with taps, prefills of 1, 2, 63, 64, 65 and all tokens, token-by-token
 * decode, prefill cut at random places, 1, 2, 3 and 8 threads.  Within one level all of these
 * must agree bit for bit.  Under a sanitizer, which makes all of it many times slower, what is
 * computed again in pieces stops after two blocks of the cache and a bit.  Bounds on the relative error: 1e-4 at "ref"; above, 1e-3 for
 * float weights and 2e-2 for quantised ones, with a mean KL of 1e-3 (docs/TESTING.md).
 * SPDX-License-Identifier: MIT */
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "engine/residency.h"
#include "golden/gold.h"
#include "kernels/cpu/kernels.h"

static int n_passed, n_failed;

/* Tokens that are computed again, in pieces or from streamed experts. */
static int64_t n_again(const gold *g) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    enum { AGAIN = 2 * TUG_KV_BLOCK + 2 };
    return g->n_tok < AGAIN ? g->n_tok : AGAIN;
#else
    return g->n_tok;
#endif
}

static void verdict(bool ok, const char *model, const char *level, const char *what,
                    double worst) {
    ok ? n_passed++ : n_failed++;
    if (!ok || getenv("TUG_TEST_VERBOSE")) {
        printf("%s %s at %s: %s (%.2e)\n", ok ? "ok  " : "FAIL", model, level, what,
               worst);
    }
}

typedef struct tap_check {
    const gold *g;
    double worst;
} tap_check;

static void check_tap(void *ud, int layer, tug_tap_point point, const float *x,
                      int64_t n_tok, int64_t dim) {
    tap_check *c = ud;
    for (int64_t i = 0; i < c->g->n_pos; i++) {
        if (c->g->pos[i] >= n_tok) continue;
        const float *want =
            c->g->taps + ((layer * 2L + (int)point) * c->g->n_pos + i) * dim;
        const double rel = gold_rel(x + c->g->pos[i] * dim, want, dim);
        if (!(rel <= c->worst)) c->worst = rel;
    }
}

typedef struct collector {
    float *logits; /* (n_tok, n_vocab) */
    int64_t at, n_vocab;
} collector;

static void collect(void *ud, int64_t index, const float *logits) {
    (void)index;
    collector *c = ud;
    memcpy(c->logits + c->at++ * c->n_vocab, logits, (size_t)c->n_vocab * sizeof *logits);
}

/* Logits of the first n tokens, cut into calls of the sizes `cut` gives. */
static bool run(tug_model *model, const gold *g, int64_t n_tok, int64_t (*cut)(tug_rng *),
                float *logits) {
    tug_err err;
    tug_rng rng;
    tug_rng_seed(&rng, 7);
    tug_session *s = NULL;
    collector c = {logits, 0, g->n_vocab};
    if (tug_session_create(&s, model, &(tug_session_params){.n_ctx = n_tok}, &err)) {
        printf("FAIL: %s\n", err.msg);
        return false;
    }
    bool ok = true;
    for (int64_t at = 0; ok && at < n_tok;) {
        int64_t n = cut(&rng);
        if (n > n_tok - at) n = n_tok - at;
        ok =
            tug_session_append_each(s, g->tokens + at, n, 0, collect, &c, &err) == TUG_OK;
        at += n;
    }
    tug_session_destroy(&s);
    return ok;
}

static int64_t cut_none(tug_rng *r) {
    return (void)r, 1 << 20;
}
static int64_t cut_ones(tug_rng *r) {
    return (void)r, 1;
}
static int64_t cut_random(tug_rng *r) {
    return 1 + (int64_t)(tug_rng_u64(r) % 90);
}

static double worst_logits(const gold *g, const float *logits) {
    double worst = 0;
    for (int64_t i = 0; i < g->n_pos; i++) {
        const double rel = gold_rel(logits + g->pos[i] * g->n_vocab,
                                    g->logits + i * g->n_vocab, g->n_vocab);
        if (!(rel <= worst)) worst = rel;
    }
    return worst;
}

static double mean_kl(const gold *g, const float *logits) {
    double sum = 0;
    for (int64_t i = 0; i < g->n_pos; i++) {
        sum += gold_kl(logits + g->pos[i] * g->n_vocab, g->logits + i * g->n_vocab,
                       g->n_vocab);
    }
    return sum / (double)g->n_pos;
}

typedef struct bounds {
    double rel, kl;
} bounds;

static bool is_quantised(const tug_model *model) {
    for (uint64_t i = 0; i < tug_gguf_n_tensors(model->gguf); i++) {
        const tug_type type = tug_gguf_tensor_at(model->gguf, i).type;
        if (type != TUG_TYPE_F32 && type != TUG_TYPE_F16 && type != TUG_TYPE_BF16)
            return true;
    }
    return false;
}

static bounds bounds_of(const tug_model *model, tug_cpu_level level) {
    if (level == TUG_CPU_REF) return (bounds){1e-4, 1e-6};
    return is_quantised(model) ? (bounds){2e-2, 1e-3} : (bounds){1e-3, 1e-5};
}

static void check_prefills(tug_model *model, const gold *g, const char *name,
                           const char *level, const float *all, bounds bound) {
    static const int64_t sizes[] = {1, 2, 63, 64, 65, 300};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int64_t n = sizes[i], at = gold_find(g, n - 1);
        if (n > n_again(g) && n <= g->n_tok) continue; /* run() had them all */
        tug_err err;
        tug_session *s = NULL;
        char what[80];
        (void)snprintf(what, sizeof what, "prefill of %lld tokens", (long long)n);
        if (n > g->n_tok || at < 0 ||
            tug_session_create(&s, model, &(tug_session_params){.n_ctx = n}, &err) ||
            tug_session_append(s, g->tokens, n, &err)) {
            verdict(false, name, level, what, NAN);
        } else {
            const float *got = tug_session_logits(s);
            const double rel = gold_rel(got, g->logits + at * g->n_vocab, g->n_vocab);
            verdict(rel <= bound.rel, name, level, what, rel);
            const bool same = memcmp(got, all + (n - 1) * g->n_vocab,
                                     (size_t)g->n_vocab * sizeof *got) == 0;
            verdict(same, name, level, "prefill length does not show in the logits", 0);
        }
        tug_session_destroy(&s);
    }
}

/* The logits of n_again tokens computed in pieces must be those of one prefill. */
static void check_cut(tug_model *model, const gold *g, const char *name,
                      const char *level, const float *all, int64_t (*cut)(tug_rng *),
                      const char *what) {
    const int64_t n = n_again(g) * g->n_vocab;
    float *pieces = calloc((size_t)n, sizeof *pieces);
    if (!pieces) abort();
    const bool ran = run(model, g, n_again(g), cut, pieces);
    const bool same = ran && memcmp(all, pieces, (size_t)n * sizeof *all) == 0;
    verdict(same, name, level, what, gold_rel(pieces, all, n));
    free(pieces);
}

/* Leaves the logits of one prefill in all (n_tok, n_vocab); the model's experts. */
static int check_level(const char *path, const char *name, const gold *g,
                       tug_cpu_level level, int n_threads, float *all) {
    tug_err err;
    tug_model *model = NULL;
    char label[32];
    (void)snprintf(label, sizeof label, "%s, %d thread%s", tug_cpu_level_name(level),
                   n_threads, n_threads > 1 ? "s" : "");
    const tug_model_params p = {
        .path = path, .n_threads = n_threads, .cpu_level = tug_cpu_level_name(level)};
    if (tug_model_open(&model, &p, &err)) {
        printf("FAIL %s: %s\n", name, err.msg);
        n_failed++;
        return 0;
    }
    const bounds bound = bounds_of(model, level);
    tap_check taps = {g, 0};
    tug_model_net(model)->tap = check_tap;
    tug_model_net(model)->tap_ud = &taps;
    verdict(run(model, g, g->n_tok, cut_none, all), name, label, "prefill runs", 0);
    tug_model_net(model)->tap = NULL;
    verdict(taps.worst <= bound.rel, name, label, "residual stream of every layer",
            taps.worst);
    const double rel = worst_logits(g, all), kl = mean_kl(g, all);
    verdict(rel <= bound.rel, name, label, "logits of one prefill", rel);
    verdict(kl <= bound.kl, name, label, "mean KL to the reference", kl);
    check_cut(model, g, name, label, all, cut_ones,
              "token by token equals one prefill, bit for bit");
    check_cut(model, g, name, label, all, cut_random,
              "prefill cut anywhere equals one prefill, bit for bit");
    check_prefills(model, g, name, label, all, bound);
    const int n_expert = (int)tug_model_net(model)->shape.n_expert;
    tug_model_close(&model);
    return n_expert;
}

/* With so few slots that experts come from the file all the time, not a bit differs. */
static void check_streamed(const char *path, const char *name, const gold *g,
                           tug_cpu_level level, int n_expert, const float *all) {
    static const struct {
        int percent, staging; /* of the experts at home */
        const char *what;
    } plans[] = {{100, 4, "all experts at home, read into slots"},
                 {30, 8, "30 % of the experts at home"},
                 {1, 2, "one slot a layer"},
                 {0, 1, "one slot in all"}};
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        tug_err err;
        tug_model *model = NULL;
        int home[64];
        char label[32], what[80];
        (void)snprintf(label, sizeof label, "%s, streamed", tug_cpu_level_name(level));
        for (int l = 0; l < 64; l++) home[l] = (plans[i].percent * n_expert + 99) / 100;
        const tug_residency plan = {
            .streamed = true, .home = home, .staging = plans[i].staging, .n_batch = 512};
        const tug_model_params p = {
            .path = path, .n_threads = 2, .cpu_level = tug_cpu_level_name(level)};
        if (tug_model_open_as(&model, &p, &plan, &err)) {
            printf("FAIL %s: %s\n", name, err.msg);
            n_failed++;
            return;
        }
        (void)snprintf(what, sizeof what, "%s, one prefill", plans[i].what);
        check_cut(model, g, name, label, all, cut_none, what);
        (void)snprintf(what, sizeof what, "%s, token by token", plans[i].what);
        check_cut(model, g, name, label, all, cut_ones, what);
        tug_model_close(&model);
    }
}

/* Other numbers of threads, more than there are cores too: the logits (n_tok, n_vocab) of
 * two, of one prefill and of one in pieces, some of a single token. */
static void check_threads(const char *path, const char *name, const gold *g,
                          int n_threads, const float *two) {
    tug_err err;
    tug_model *model = NULL;
    char label[32];
    const char *level = tug_cpu_level_name(tug_cpu_detect());
    (void)snprintf(label, sizeof label, "%s, %d threads", level, n_threads);
    const tug_model_params p = {.path = path, .n_threads = n_threads, .cpu_level = level};
    if (tug_model_open(&model, &p, &err)) {
        verdict(false, name, label, err.msg, 0);
        return;
    }
    check_cut(model, g, name, label, two, cut_none, "prefill equals 2 threads'");
    check_cut(model, g, name, label, two, cut_random, "pieces equal 2 threads' prefill");
    tug_model_close(&model);
}

static void check_file(const char *gold_path) {
    gold g;
    char path[512];
    const char *slash = strrchr(gold_path, '/');
    const char *stem = slash ? slash + 1 : gold_path;
    const int n_path = (int)strlen(gold_path) - 5, n_stem = (int)strlen(stem) - 5;
    (void)snprintf(path, sizeof path, "%.*s.gguf", n_path, gold_path);
    if (access(path, R_OK) != 0) { /* the golden of a model that ships */
        (void)snprintf(path, sizeof path, "models/%.*s.gguf", n_stem, stem);
    }
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    if (!gold_read(&g, gold_path)) {
        printf("FAIL %s cannot be read\n", gold_path);
        n_failed++;
        return;
    }
    const size_t n = (size_t)(g.n_tok * g.n_vocab);
    float *two = calloc(n, sizeof *two);
    if (!two) abort();
    int n_expert = 0;
    for (int level = 0; level <= (int)tug_cpu_detect(); level++) {
        n_expert = check_level(path, name, &g, (tug_cpu_level)level, 2, two);
    }
    check_streamed(path, name, &g, tug_cpu_detect(), n_expert, two);
    static bool first =
        true; /* more threads than cores take their time: one model does */
    static const int others[] = {1, 3, 8};
    for (size_t i = 0; i < (first ? sizeof others / sizeof *others : 1); i++) {
        check_threads(path, name, &g, others[i], two);
    }
    first = false;
    free(two);
    gold_free(&g);
}

/* usage: test_golden [FILE.gold ...]; without files, all of tests/golden/data */
int main(int argc, char **argv) {
    glob_t found = {0};
    if (argc < 2) (void)glob("tests/golden/data/*.gold", 0, NULL, &found);
    for (int i = 1; i < argc; i++) check_file(argv[i]);
    for (size_t i = 0; i < found.gl_pathc; i++) check_file(found.gl_pathv[i]);
    if (argc < 2 && found.gl_pathc == 0) {
        printf("no tests/golden/data/*.gold here: run from the repository root\n");
        n_failed++;
    }
    globfree(&found);
    printf("golden: %d passed, %d failed\n", n_passed, n_failed);
    return n_failed ? 1 : 0;
}
