/* fill.c - see fill.h.
 *
 * A block is random bytes first: its codes are uniform.  Then the scales are put in order:
 * sub-block scales between half and all of the largest a quantiser writes, with the signs
 * it writes; a minimum that centres the sub-block where the type has one; and a block
 * scale drawn from 64 that lie between 1/2 and 3/2 of their mean.
 * SPDX-License-Identifier: MIT */
#include "synth/fill.h"

#include <string.h>

#include "base/rng.h"
#include "base/status.h"
#include "quant/blocks.h"

/* ---- random numbers --------------------------------------------------------------- */

static void random_bytes(tug_rng *r, uint8_t *out, size_t n) {
    for (; n >= 8; n -= 8, out += 8) {
        const uint64_t u = tug_rng_u64(r);
        memcpy(out, &u, 8);
    }
    const uint64_t u = tug_rng_u64(r);
    memcpy(out, &u, n);
}

/* Bell-shaped with mean 0 and deviation 1: the sum of four uniform 16-bit numbers.  The
 * sum is exact, so one rounding is all there is. */
static float bell(tug_rng *r) {
    const uint64_t u = tug_rng_u64(r);
    const int32_t sum =
        (int32_t)((u & 0xFFFF) + (u >> 16 & 0xFFFF) + (u >> 32 & 0xFFFF) + (u >> 48));
    return (float)(sum - 2 * 65535) * (1.0f / 37837.227f);
}

/* ---- blocks ----------------------------------------------------------------------- */

/* The deviation of a block's values when d is 1, from the ranges of codes and sub-block
 * scales that the fix_ functions leave.  0: no blocks. */
static float spread_of(tug_type type) {
    switch (type) {
    case TUG_TYPE_Q8_0: return 73.895f;   /* codes -127..127 */
    case TUG_TYPE_Q4_0: return 4.637f;    /* -8..7 */
    case TUG_TYPE_IQ4_NL: return 67.44f;  /* the 16 levels */
    case TUG_TYPE_Q2_K: return 13.11f;    /* (-1.5..1.5) * (8..15) */
    case TUG_TYPE_Q3_K: return 57.326f;   /* (-4..3) * +-(16..32) */
    case TUG_TYPE_Q4_K: return 223.06f;   /* (-7.5..7.5) * (32..63) */
    case TUG_TYPE_Q5_K: return 446.78f;   /* (-15.5..15.5) * (32..63) */
    case TUG_TYPE_Q6_K: return 1797.5f;   /* (-32..31) * +-(64..127) */
    case TUG_TYPE_IQ4_XS: return 1648.5f; /* levels * +-(16..32) */
    default: return 0.0f;
    }
}

/* The middle of the codes: what a minimum has to take away. */
static float middle_of(tug_type type) {
    return type == TUG_TYPE_Q2_K ? 1.5f : type == TUG_TYPE_Q4_K ? 7.5f : 15.5f;
}

void tug_synth_fill_prepare(tug_synth_fill *f) {
    const float spread = spread_of(f->type);
    if (spread == 0.0f) return;
    for (int i = 0; i < TUG_SYNTH_SCALES; i++) {
        /* 1.0408 is the root mean square of numbers spread evenly over 0.5..1.5. */
        const float part = (0.5f + (float)i / (TUG_SYNTH_SCALES - 1)) / 1.0408f;
        const float d = f->std / spread * part;
        f->d[i] = tug_f32_to_f16(d);
        /* No quantiser centres exactly: -6 to +6 %. */
        f->dmin[i] =
            tug_f32_to_f16(d * middle_of(f->type) * (0.94f + 0.03f * (float)(i * 7 % 5)));
    }
}

/* Both signs: the type has no other way to be centred. */
static tug_f16 signed_scale(const tug_synth_fill *f, unsigned random) {
    return (tug_f16)(f->d[random % TUG_SYNTH_SCALES] | (random & 0x40u) << 9);
}

static tug_f16 scale(const tug_synth_fill *f, unsigned random) {
    return f->d[random % TUG_SYNTH_SCALES];
}

static tug_f16 minimum(const tug_synth_fill *f, unsigned random) {
    return f->dmin[random % TUG_SYNTH_SCALES];
}

/* Two-bit fields become 00 or 11: with 32 subtracted, scales of both signs whose size is
 * at least 16. */
static uint8_t both_or_none(uint8_t b) {
    return (uint8_t)((b & 0x55u) * 3u);
}

static void fix_q8_0(const tug_synth_fill *f, tug_block_q8_0 *b) {
    b->d = scale(f, b->d);
    for (int j = 0; j < TUG_QK; j++) b->qs[j] = (int8_t)(b->qs[j] + (b->qs[j] == -128));
}

static void fix_q4_0(const tug_synth_fill *f, tug_block_q4_0 *b) {
    b->d = signed_scale(f, b->d);
}

static void fix_iq4_nl(const tug_synth_fill *f, tug_block_iq4_nl *b) {
    b->d = signed_scale(f, b->d);
}

static void fix_q2_k(const tug_synth_fill *f, tug_block_q2_k *b) {
    for (int i = 0; i < TUG_QK_K / 16; i++) {
        const unsigned s = (b->scales[i] & 7u) | 8u;
        b->scales[i] = (uint8_t)(s | s << 4);
    }
    b->dmin = minimum(f, b->d);
    b->d = scale(f, b->d);
}

static void fix_q3_k(const tug_synth_fill *f, tug_block_q3_k *b) {
    for (int i = 8; i < TUG_K_SCALE_BYTES; i++) b->scales[i] = both_or_none(b->scales[i]);
    b->d = scale(f, b->d);
}

/* Scales of at least 32, minima equal to them. */
static void fix_k4_scales(uint8_t *s) {
    for (int i = 0; i < 4; i++) {
        s[i] |= 0xA0;
        s[4 + i] = s[i];
        s[8 + i] = (uint8_t)((s[8 + i] & 15u) * 17u);
    }
}

static void fix_q4_k(const tug_synth_fill *f, tug_block_q4_k *b) {
    fix_k4_scales(b->scales);
    b->dmin = minimum(f, b->d);
    b->d = scale(f, b->d);
}

static void fix_q5_k(const tug_synth_fill *f, tug_block_q5_k *b) {
    fix_k4_scales(b->scales);
    b->dmin = minimum(f, b->d);
    b->d = scale(f, b->d);
}

static void fix_q6_k(const tug_synth_fill *f, tug_block_q6_k *b) {
    for (int i = 0; i < TUG_QK_K / 16; i++) {
        const int size = 64 + (b->scales[i] & 63);
        b->scales[i] = (int8_t)(b->scales[i] < 0 ? -size : size);
    }
    b->d = scale(f, b->d);
}

static void fix_iq4_xs(const tug_synth_fill *f, tug_block_iq4_xs *b) {
    b->scales_h = (uint16_t)((b->scales_h & 0x5555u) * 3u);
    b->d = scale(f, b->d);
}

#define FIX_BLOCKS(fmt)                                                            \
    do {                                                                           \
        for (int64_t i = 0; i < n_blocks; i++) {                                   \
            tug_block_##fmt b; /* by copy: chunks of a buffer need no alignment */ \
            memcpy(&b, out + (size_t)i * sizeof b, sizeof b);                      \
            fix_##fmt(f, &b);                                                      \
            memcpy(out + (size_t)i * sizeof b, &b, sizeof b);                      \
        }                                                                          \
        return;                                                                    \
    } while (0)

static void fix_blocks(const tug_synth_fill *f, uint8_t *out, int64_t n_blocks) {
    switch (f->type) {
    case TUG_TYPE_Q8_0: FIX_BLOCKS(q8_0);
    case TUG_TYPE_Q4_0: FIX_BLOCKS(q4_0);
    case TUG_TYPE_IQ4_NL: FIX_BLOCKS(iq4_nl);
    case TUG_TYPE_Q2_K: FIX_BLOCKS(q2_k);
    case TUG_TYPE_Q3_K: FIX_BLOCKS(q3_k);
    case TUG_TYPE_Q4_K: FIX_BLOCKS(q4_k);
    case TUG_TYPE_Q5_K: FIX_BLOCKS(q5_k);
    case TUG_TYPE_Q6_K: FIX_BLOCKS(q6_k);
    case TUG_TYPE_IQ4_XS: FIX_BLOCKS(iq4_xs);
    default: TUG_CHECK(spread_of(f->type) > 0.0f); /* a type that has no row there */
    }
}

/* ---- plain numbers ---------------------------------------------------------------- */

static float value(const tug_synth_fill *f, tug_rng *r, int64_t i) {
    switch (f->values) {
    case TUG_SYNTH_WEIGHTS: return bell(r) * f->std;
    case TUG_SYNTH_ROUTER:
        return tug_bf16_to_f32(tug_f32_to_bf16(bell(r) * f->row_std[i / f->n_cols]));
    case TUG_SYNTH_NORM: return 1.0f + 0.1f * bell(r);
    case TUG_SYNTH_DT: return -4.0f + 5.0f * (float)tug_rng_unit(r);
    case TUG_SYNTH_A: {
        const uint64_t u = tug_rng_u64(r);
        const float octave = 0.125f * (float)(1u << u % 6);
        return -octave * (1.0f + (float)(u >> 40) * 0x1p-24f);
    }
    }
    return 0.0f;
}

static void put_value(tug_type type, uint8_t *out, int64_t i, float v) {
    const tug_f16 half = type == TUG_TYPE_F16 ? tug_f32_to_f16(v) : tug_f32_to_bf16(v);
    if (type == TUG_TYPE_F32)
        memcpy(out + 4 * i, &v, 4);
    else
        memcpy(out + 2 * i, &half, 2);
}

/* ----------------------------------------------------------------------------------- */

void tug_synth_fill_chunk(const tug_synth_fill *f, int64_t chunk, uint8_t *out) {
    const int64_t first = chunk * TUG_SYNTH_CHUNK;
    const int64_t n = f->n - first < TUG_SYNTH_CHUNK ? f->n - first : TUG_SYNTH_CHUNK;
    tug_rng r;
    tug_rng_seed(&r, f->seed ^ (uint64_t)chunk * 0xD1342543DE82EF95u);
    const tug_type_info *t = tug_type_get(f->type);
    if (t->block_elems == 1) {
        for (int64_t i = 0; i < n; i++) {
            put_value(f->type, out, i, value(f, &r, first + i));
        }
        return;
    }
    const int64_t n_blocks = n / t->block_elems;
    random_bytes(&r, out, (size_t)(n_blocks * t->block_bytes));
    fix_blocks(f, out, n_blocks);
}
