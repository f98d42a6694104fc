/* f16.h - half and bfloat16 to float and back, scalar and exact.
 *
 * Conversions to the narrow types round to nearest even, like the hardware does.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_F16_H
#define TUG_BASE_F16_H

#include <stdint.h>
#include <string.h>

typedef uint16_t tug_f16;  /* IEEE 754 binary16, as bits */
typedef uint16_t tug_bf16; /* the upper half of a binary32, as bits */

static inline float tug_f32_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t tug_f32_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float tug_f16_to_f32(tug_f16 h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exp = (h >> 10) & 0x1Fu;
    const uint32_t man = h & 0x3FFu;
    if (exp == 31) return tug_f32_from_bits(sign | 0x7F800000u | man << 13);
    if (exp != 0) return tug_f32_from_bits(sign | (exp + 112) << 23 | man << 13);
    /* Zero and subnormals: man * 2^-24 is exact in binary32. */
    const float mag = (float)man * 0x1p-24f;
    return sign ? -mag : mag;
}

static inline tug_f16 tug_f32_to_f16(float f) {
    const uint32_t bits = tug_f32_bits(f);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t mag = bits & 0x7FFFFFFFu;
    if (mag >= 0x7F800000u) { /* infinity, NaN (kept quiet) */
        return (tug_f16)(sign | 0x7C00u |
                         (mag > 0x7F800000u ? 0x200u | (mag >> 13 & 0x3FFu) : 0));
    }
    if (mag >= 0x477FF000u) return (tug_f16)(sign | 0x7C00u); /* rounds beyond 65504 */
    if (mag >= 0x38800000u) {                                 /* normal */
        const uint32_t r = mag + 0xFFFu + (mag >> 13 & 1u) - (112u << 23);
        return (tug_f16)(sign | r >> 13);
    }
    /* Subnormal: adding 0.5 leaves the rounded value in the low bits of the sum. */
    const float shifted = tug_f32_from_bits(mag) + 0.5f;
    return (tug_f16)(sign | (tug_f32_bits(shifted) - 0x3F000000u));
}

static inline float tug_bf16_to_f32(tug_bf16 h) {
    return tug_f32_from_bits((uint32_t)h << 16);
}

static inline tug_bf16 tug_f32_to_bf16(float f) {
    const uint32_t bits = tug_f32_bits(f);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (tug_bf16)(bits >> 16 | 0x40u);
    return (tug_bf16)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

#endif
