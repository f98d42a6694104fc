/* cuda_linear.h - what the tests of the linear kernels share: types, converted activations,
 * and products in double.  SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_CUDA_CUDA_LINEAR_H
#define TUG_TESTS_CUDA_CUDA_LINEAR_H

#include "cuda/ct.h"
#include "kernels/cuda/launch.h"

/* Launches what launch.c says. */
#define CT_RUN(on, args)                                                   \
    do {                                                                   \
        const tug_cuda_launch l_ = (on);                                   \
        CT_LAUNCH(l_.kernel, ct_grid3(l_.grid[0], l_.grid[1], l_.grid[2]), \
                  (int)l_.block, l_.shared_bytes, args);                   \
    } while (0)

/* Every type that can be a weight. */
extern const tug_type lt_types[];
extern const int lt_n_types;
bool lt_is_float(tug_type type);

/* Activation rows for weights of a type, on both sides. */
typedef struct lt_input {
    const float *x;  /* (n_tok, n), what was converted */
    float *restored; /* (n_tok, n), what the kernel sees */
    const void *device;
    int64_t row_bytes;
} lt_input;

/* Converts x on the device and checks what the conversion promises. */
lt_input lt_convert(tug_type type, const float *x, int64_t n_tok, int64_t n, int digits);

/* y = w . x and size = sum |w x|, in double, for a row as in the file and f32 values. */
typedef struct lt_product {
    double y, size;
} lt_product;
lt_product lt_dot(tug_type type, const uint8_t *row, const float *x, int64_t n);

#endif
