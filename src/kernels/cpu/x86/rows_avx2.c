/* rows_avx2.c - row and element kernels, 8 values at a time.  The contracts are in
 * kernels.h.  SPDX-License-Identifier: MIT */
#include <math.h>

#include "kernels/cpu/kernels_rows.h"
#include "kernels/cpu/x86/vec_avx2.h"

void tug_rmsnorm_avx2(float *y, const float *x, const float *w, int64_t n, float eps) {
    const double mean = sum_of_squares(x, n) / (double)n;
    const __m256 r = _mm256_set1_ps((float)(1.0 / sqrt(mean + (double)eps)));
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 unit = _mm256_mul_ps(load_left(x + i, n - i), r);
        store_left(y + i, _mm256_mul_ps(unit, load_left(w + i, n - i)), n - i);
    }
}

void tug_l2norm_avx2(float *x, int64_t n, float eps, float scale) {
    const double r = (double)scale / sqrt(sum_of_squares(x, n) + (double)eps);
    const __m256 factor = _mm256_set1_ps((float)r);
    for (int64_t i = 0; i < n; i += 8) {
        store_left(x + i, _mm256_mul_ps(load_left(x + i, n - i), factor), n - i);
    }
}

void tug_add_avx2(float *x, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 sum =
            _mm256_add_ps(load_left(x + i, n - i), load_left(y + i, n - i));
        store_left(x + i, sum, n - i);
    }
}

void tug_axpy_avx2(float *y, const float *x, float a, int64_t n) {
    const __m256 factor = _mm256_set1_ps(a);
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 xi = load_left(x + i, n - i), yi = load_left(y + i, n - i);
        store_left(y + i, _mm256_fmadd_ps(factor, xi, yi), n - i);
    }
}

void tug_swiglu_avx2(float *h, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 g = silu_ps(load_left(gate + i, n - i));
        store_left(h + i, _mm256_mul_ps(g, load_left(up + i, n - i)), n - i);
    }
}

void tug_sigmoid_mul_avx2(float *y, const float *gate, int64_t n) {
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 s = sigmoid_ps(load_left(gate + i, n - i));
        store_left(y + i, _mm256_mul_ps(load_left(y + i, n - i), s), n - i);
    }
}

void tug_rope_avx2(float *x, const float *cos, const float *sin, int64_t n_half) {
    for (int64_t i = 0; i < n_half; i += 8) {
        const int64_t left = n_half - i;
        const __m256 a = load_left(x + i, left), b = load_left(x + n_half + i, left);
        const __m256 c = load_left(cos + i, left), s = load_left(sin + i, left);
        store_left(x + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)), left);
        store_left(x + n_half + i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)), left);
    }
}
