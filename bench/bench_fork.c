/* bench_fork.c - what going back and copying a session costs, against computing it again.
 *
 *     build/bench/bench_fork MODEL.gguf N_TOKENS
 *
 * Computes N_TOKENS, then saves, restores and forks the session: the best of five, and of
 * the forks also the first, into memory that was never touched.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "base/sys.h"
#include "tug.h"

enum { ROUNDS = 5 };

static void must(tug_status s, const tug_err *err) {
    if (s == TUG_OK) return;
    (void)fprintf(stderr, "bench_fork: %s\n", err->msg);
    exit(1);
}

static double compute(tug_session *s, int64_t n, int64_t n_vocab) {
    tug_err err;
    int32_t *ids = tug_alloc_array((size_t)n, sizeof *ids);
    if (!ids) exit(1);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(i * 7919 % n_vocab);
    const double start = tug_now();
    must(tug_session_append(s, ids, n, &err), &err);
    const double took = tug_now() - start;
    tug_free(ids);
    return took;
}

typedef struct times {
    double save, restore, fork, first_fork;
} times;

static double best(double a, double b) {
    return a > 0.0 && a < b ? a : b;
}

static times measure(tug_session *from, tug_session *to) {
    tug_err err;
    times t = {0};
    tug_session_mark *mark = NULL;
    for (int i = 0; i < ROUNDS; i++) {
        const double t0 = tug_now();
        must(tug_session_save(from, &mark, &err), &err);
        const double t1 = tug_now();
        must(tug_session_restore(from, mark, &err), &err);
        const double t2 = tug_now();
        must(tug_session_fork(to, from, mark, &err), &err);
        const double t3 = tug_now();
        t.save = best(t.save, t1 - t0);
        t.restore = best(t.restore, t2 - t1);
        t.fork = best(t.fork, t3 - t2);
        if (i == 0) t.first_fork = t3 - t2;
    }
    tug_session_mark_destroy(&mark);
    return t;
}

int main(int argc, char **argv) {
    const int64_t n = argc == 3 ? strtoll(argv[2], NULL, 10) : 0;
    if (n < 1) {
        (void)fprintf(stderr, "usage: bench_fork MODEL.gguf N_TOKENS\n");
        return 2;
    }
    tug_err err;
    tug_model *model = NULL;
    tug_session *from = NULL, *to = NULL;
    const tug_session_params sp = {.n_ctx = n, .n_batch = 512};
    must(tug_model_open(&model, &(tug_model_params){.path = argv[1]}, &err), &err);
    must(tug_session_create(&from, model, &sp, &err), &err);
    must(tug_session_create(&to, model, &sp, &err), &err);
    const double computed = compute(from, n, tug_model_get_info(model).n_vocab);
    const tug_session_memory m = tug_session_get_memory(from);
    const times t = measure(from, to);
    (void)printf("%lld tokens: cache %.1f MB, state and logits %.1f MB\n", (long long)n,
                 (double)m.kv * 1e-6, (double)m.recurrent * 1e-6);
    (void)printf("compute  %10.1f ms\n", computed * 1e3);
    (void)printf("fork     %10.1f ms (the first time %.1f)\n", t.fork * 1e3,
                 t.first_fork * 1e3);
    (void)printf("save     %10.1f ms\n", t.save * 1e3);
    (void)printf("restore  %10.1f ms\n", t.restore * 1e3);
    tug_session_destroy(&from);
    tug_session_destroy(&to);
    tug_model_close(&model);
    return 0;
}
