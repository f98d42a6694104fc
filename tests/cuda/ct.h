/* ct.h - the harness of the GPU kernels' tests: the same program runs them on the emulated
 * driver (the default) and on a real one (docs/CUDA.md, "Tests").
 *
 * A family's test program is a table of ct_test and a main() that calls ct_main().  A test
 * makes inputs, uploads them, launches a kernel and compares what comes back with the `ref`
 * table of the CPU kernels or with arithmetic in double.
 *
 *   usage of a test program:  test_cuda_rows [--fn=TEXT] [--seed=N]
 *
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_CUDA_CT_H
#define TUG_TESTS_CUDA_CT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/kernels.h"
#include "kernels/cuda/args.h"

typedef struct ct_test {
    const char *name;
    void (*run)(void);
} ct_test;

/* The whole main(): prints "cuda/FAMILY: N passed, N failed, 0 skipped" and returns the exit
 * status.  A check counts. */
int ct_main(int argc, char **argv, const char *family, const ct_test *tests, int n_tests);

/* The specification kernels. */
const tug_kernels *ct_ref(void);

/* True on the emulated driver: for tests that would take too long there. */
bool ct_emulated(void);

/* ---- host memory, until ct_release_all ------------------------------------------------- */

void *ct_buf(size_t bytes);
float *ct_floats(int64_t n);
float *ct_uniform(int64_t n, float lo, float hi);
float *ct_normal(int64_t n, float deviation);
float ct_rand(float lo, float hi);
int64_t ct_rand_int(int64_t lo, int64_t hi); /* both ends included */

/* Random quantised rows of a type: n_rows x n_cols that the specification dequantises to
 * values of about this deviation. */
uint8_t *ct_weights(tug_type type, int64_t n_rows, int64_t n_cols, float deviation);

/* ---- device memory, until ct_release_all; never touched by the host ----------------------- */

void *ct_device(size_t bytes); /* not written: poison on the emulated driver */
void *ct_upload(const void *src, size_t bytes);
void ct_download(void *dst, const void *device, size_t bytes);

/* Frees all of both: for loops over many shapes. */
void ct_release_all(void);

/* ---- launches ---------------------------------------------------------------------------- */

typedef struct ct_grid {
    int64_t x, y, z;
} ct_grid;
static inline ct_grid ct_grid1(int64_t x) {
    return (ct_grid){x, 1, 1};
}
static inline ct_grid ct_grid2(int64_t x, int64_t y) {
    return (ct_grid){x, y, 1};
}
static inline ct_grid ct_grid3(int64_t x, int64_t y, int64_t z) {
    return (ct_grid){x, y, z};
}

/* Launches kernel `name` and waits for it; a failure ends the program. */
void ct_launch(const char *name, ct_grid grid, int block, size_t shared_bytes,
               const void *args, size_t args_bytes);
#define CT_LAUNCH(name, grid, block, shared_bytes, args) \
    ct_launch((name), (grid), (block), (shared_bytes), &(args), sizeof(args))

/* ---- checks ------------------------------------------------------------------------------ */

/* Says what is being tested now; failures print it. */
void ct_shape(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void ct_true(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Normalised mean squared error at most `limit`. */
void ct_near(const char *what, const float *got, const float *want, int64_t n,
             double limit);
/* Every element within `rel` of |want| + floor. */
void ct_close(const char *what, const float *got, const float *want, int64_t n,
              double rel, double floor);
void ct_same(const char *what, const void *got, const void *want, size_t bytes);

#endif
