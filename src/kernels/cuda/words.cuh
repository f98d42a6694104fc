// words.cuh - loading bytes as words and working on four of them at a time.
//
// Blocks of weights and of caches are 2-byte aligned at least; what is a multiple of 4, 8 or 16
// bytes is read in words of that size.  SPDX-License-Identifier: MIT
#ifndef TUG_KERNELS_CUDA_WORDS_CUH
#define TUG_KERNELS_CUDA_WORDS_CUH

#include "kernels/cuda/device.cuh"

// ---- loads ------------------------------------------------------------------------------

struct alignas(16) words4 {
    uint32_t w[4];
};
struct alignas(8) words2 {
    uint32_t w[2];
};

// n words from an address of which only 2-byte alignment is known: aligned words that begin
// at or 2 bytes before it, shifted together.  Nothing behind the n words is read; the 2
// bytes before are there, as no allocation begins at such an address.
template <int n> TUG_DEVICE void load_words(uint32_t *to, const uint8_t *from) {
    const uint32_t off = (uint32_t)(uintptr_t)from & 2u;
    const uint32_t *const words = (const uint32_t *)(from - off);
    uint32_t raw[n + 1];
#pragma unroll
    for (int i = 0; i < n; i++) raw[i] = words[i];
    raw[n] = *(const uint16_t *)(from + 4 * n - 2);
#pragma unroll
    for (int i = 0; i < n; i++) to[i] = __funnelshift_r(raw[i], raw[i + 1], off * 8);
}

TUG_DEVICE void load_words4(uint32_t *to, const uint8_t *from) {
    const words4 v = *(const words4 *)from;
#pragma unroll
    for (int i = 0; i < 4; i++) to[i] = v.w[i];
}

TUG_DEVICE void load_words2(uint32_t *to, const uint8_t *from) {
    const words2 v = *(const words2 *)from;
    to[0] = v.w[0];
    to[1] = v.w[1];
}

TUG_DEVICE float load_f16(const uint8_t *from) {
    return tug_f16(*(const uint16_t *)from);
}

// ---- four bytes at a time ---------------------------------------------------------------

TUG_DEVICE uint32_t low_nibbles(uint32_t v) {
    return v & 0x0F0F0F0Fu;
}

TUG_DEVICE uint32_t high_nibbles(uint32_t v) {
    return v >> 4 & 0x0F0F0F0Fu;
}

// Bytes of 0..127, each less `bias` of 0..128: the top bit keeps borrows apart.
TUG_DEVICE uint32_t minus(uint32_t v, uint32_t bias) {
    return ((v | 0x80808080u) - bias * 0x01010101u) ^ 0x80808080u;
}

// Bits 0..3 of v to bit 0 of the four bytes.
TUG_DEVICE uint32_t spread_bits(uint32_t v) {
    return (v & 15u) * 0x00204081u & 0x01010101u;
}

// The levels of IQ4_NL (tug_iq4_values) of four low and four high nibbles.
TUG_DEVICE void iq4_levels(uint32_t nibbles, uint32_t *low, uint32_t *high) {
    const uint32_t t0 = 0xBFAD9881u, t1 = 0xF6EADDCFu, t2 = 0x26190D01u, t3 = 0x71594535u;
    // A level is one of eight in the lower half of the table or one in the upper half.
    const uint32_t at = nibbles & 0x77777777u;
    const uint32_t half = 0x32103210u | (nibbles & 0x88888888u) >> 1;
    const uint32_t a =
        __byte_perm(__byte_perm(t0, t1, at), __byte_perm(t2, t3, at), half);
    const uint32_t b = __byte_perm(__byte_perm(t0, t1, at >> 16),
                                   __byte_perm(t2, t3, at >> 16), half >> 16);
    *low = __byte_perm(a, b, 0x6420);
    *high = __byte_perm(a, b, 0x7531);
}

#endif
