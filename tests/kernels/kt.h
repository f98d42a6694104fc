/* kt.h - the kernel test harness: every kernel of a family, at every CPU level this
 * machine has, against its scalar specification.
 *
 * A family's test program is a table of kt_test and a main() that calls kt_main().  For
 * each level, kt fills one kernel table at that level and one at ref, and runs the test
 * of every kernel that is new at the level.  A test builds its inputs in guarded buffers
 * (kt_buf and friends), calls both versions and states what must hold with kt_near,
 * kt_same or kt_true.  What kt adds:
 *
 *   - a buffer ends flush against an unmapped page and starts after one, so a read or
 *     write past either end is a fault; bytes before it are checked when it is released;
 *   - a fault (or an illegal instruction) is a failed kernel with its name, its shape and
 *     the seed; the kernel's remaining cases are given up, the other kernels go on;
 *   - inputs come from a seeded generator; a failure prints the seed to repeat it.
 *
 *   usage of a test program:  test_rows [--fn=TEXT] [--cpu=LEVEL] [--seed=N] [--list]
 *
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_KERNELS_KT_H
#define TUG_TESTS_KERNELS_KT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/kernels.h"

/* What a test gets: the tables at the level under test and at ref, and its own `arg`. */
typedef struct kt_env {
    const tug_kernels *k, *ref;
    int64_t arg;
} kt_env;

typedef void kt_test_fn(const kt_env *env);

typedef struct kt_test {
    const char *name; /* what --fn= selects by substring, and what failures print */
    size_t offset;    /* of the kernel's pointer in tug_kernels */
    kt_test_fn *run;
    int64_t arg; /* for tests shared by several entries: a type, say */
} kt_test;

/* The entry for one field of the table: KT_TEST(rmsnorm, test_rmsnorm, 0). */
#define KT_TEST(field, fn, arg) \
    { #field, offsetof(tug_kernels, field), (fn), (arg) }

typedef void kt_init_fn(tug_kernels *k, tug_cpu_level level);

/* The whole main() of a family: prints one summary line
 * "kernels/FAMILY: N passed, N failed, N skipped" and returns the exit status.  A check
 * counts; a level that this machine lacks is one skip. */
int kt_main(int argc, char **argv, const char *family, kt_init_fn *init,
            const kt_test *tests, int n_tests);

/* ---- inputs --------------------------------------------------------------------- */

/* Guarded memory, filled with the byte 0xA5, alive until the test or kt_release_all.
 * It ends flush against the guard page if bytes is a multiple of `align` (a power of two
 * up to 64); otherwise the slack is checked on release like the bytes before it. */
void *kt_buf(size_t bytes, size_t align);

/* n floats: untouched (0xA5 bytes), uniform in [lo, hi), or normal with a deviation. */
float *kt_floats(int64_t n);
float *kt_uniform(int64_t n, float lo, float hi);
float *kt_normal(int64_t n, float deviation);

/* A guarded copy of n floats, of bytes. */
float *kt_copy(const float *x, int64_t n);
void *kt_copy_bytes(const void *x, size_t bytes);

/* Checks the canaries and unmaps every buffer: for loops over many shapes. */
void kt_release_all(void);

float kt_rand(float lo, float hi);
int64_t kt_rand_int(int64_t lo, int64_t hi); /* both ends included */

/* Puts zeros, denormals, and +-`big` at random places of x (n,). */
void kt_spoil(float *x, int64_t n, float big);

/* ---- checks --------------------------------------------------------------------- */

/* Says what is being tested now; failures and faults print it. */
void kt_shape(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One check: true counts as passed, false is printed with kernel, level, shape, seed. */
void kt_true(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Normalised mean squared error of got against want: sum (got - want)^2 / sum want^2.
 * Infinite if one side is not finite where the other is. */
double kt_nmse(const float *got, const float *want, int64_t n);

/* The largest |got - want| / (|want| + floor). */
double kt_max_rel(const float *got, const float *want, int64_t n, double floor);

/* One check each: NMSE at most `limit`; every element within `rel` of |want| + floor;
 * all bytes equal. */
void kt_near(const char *what, const float *got, const float *want, int64_t n,
             double limit);
void kt_close(const char *what, const float *got, const float *want, int64_t n,
              double rel, double floor);
void kt_same(const char *what, const void *got, const void *want, size_t bytes);

#endif
