/* test_threads.c - the pool runs every item once, whatever the sizes, and sleeps well.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/threads.h"

#define MAX_ITEMS 1000

typedef struct job {
    _Atomic int runs[MAX_ITEMS];
    _Atomic int bad_thread;
    int n_threads;
} job;

static void mark(void *ud, int64_t begin, int64_t end, int thread) {
    job *j = ud;
    if (thread < 0 || thread >= j->n_threads) j->bad_thread++;
    for (int64_t i = begin; i < end; i++) j->runs[i]++;
}

static void every_item_runs_once(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 3, 8};
    static const int64_t sizes[] = {0, 1, 2, 7, 64, 999}, grains[] = {1, 3, 64, 5000};
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        tug_pool *pool = NULL;
        tug_err err;
        assert_int_equal(tug_pool_create(&pool, threads[t], &err), TUG_OK);
        assert_int_equal(tug_pool_size(pool), threads[t]);
        for (int round = 0; round < 24 * 40; round++) {
            static job j;
            memset(&j, 0, sizeof j);
            j.n_threads = threads[t];
            const int64_t n = sizes[round % 6], grain = grains[round / 6 % 4];
            tug_pool_for(pool, n, grain, mark, &j);
            for (int64_t i = 0; i < MAX_ITEMS; i++) assert_int_equal(j.runs[i], i < n);
            assert_int_equal(j.bad_thread, 0);
        }
        tug_pool_destroy(&pool);
        assert_null(pool);
    }
}

static void workers_wake_from_sleep(void **state) {
    (void)state;
    tug_pool *pool = NULL;
    assert_int_equal(tug_pool_create(&pool, 3, NULL), TUG_OK);
    for (int round = 0; round < 20; round++) {
        static job j;
        memset(&j, 0, sizeof j);
        j.n_threads = 3;
        /* Longer than any spinning, so that the workers are asleep by then. */
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        tug_pool_for(pool, 64, 1, mark, &j);
        for (int i = 0; i < 64; i++) assert_int_equal(j.runs[i], 1);
    }
    tug_pool_destroy(&pool);
    tug_pool_destroy(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_runs_once),
        cmocka_unit_test(workers_wake_from_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
