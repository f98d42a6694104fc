// halves.cuh - f32 values as sums of two f16, for tensor cores.  SPDX-License-Identifier: MIT
#ifndef TUG_KERNELS_CUDA_HALVES_CUH
#define TUG_KERNELS_CUDA_HALVES_CUH

#include "kernels/cuda/device.cuh"

// The nearest with 11 bits, which an f16 then holds as it is.
TUG_DEVICE float to_11_bits(float x) {
    return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xFFFFE000u);
}

// Two values as hi + lo with 22 bits, as long as lo is no subnormal f16 and hi is one at all.  Of
// what is not finite, lo is NaN.
TUG_DEVICE void split_f16(float x0, float x1, uint32_t &hi, uint32_t &lo) {
    const float h0 = to_11_bits(x0), h1 = to_11_bits(x1);
    hi = tug_to_f16x2(h0, h1);
    lo = tug_to_f16x2(x0 - h0, x1 - h1);
}

// A power of two that brings a value with these bits to 2^top .. 2^(top + 1), if floats go so far;
// it and its inverse are normal floats.
TUG_DEVICE float scale_to(int top, uint32_t bits) {
    const int exponent = (int)(bits >> 23);
    return __uint_as_float((uint32_t)min(max(254 + top - exponent, 1), 253) << 23);
}

#endif
