/* fill.h - random tensor data: valid blocks whose values look like weights.
 *
 * A tensor is filled in chunks of TUG_SYNTH_CHUNK values.  A chunk's bytes depend on the
 * tensor's seed and the chunk's number only, so chunks can be made in any order by any
 * thread; only integers and correctly rounded float operations are used, so they are the
 * same on every little-endian machine.  SPDX-License-Identifier: MIT */
#ifndef TUG_SYNTH_FILL_H
#define TUG_SYNTH_FILL_H

#include <stdint.h>

#include "base/f16.h"
#include "quant/types.h"

enum { TUG_SYNTH_CHUNK = 32768, TUG_SYNTH_SCALES = 64 };

typedef enum tug_synth_values {
    TUG_SYNTH_WEIGHTS, /* any type; mean 0 */
    TUG_SYNTH_ROUTER,  /* F32, BF16, F16: exactly BF16, each row with its own spread */
    TUG_SYNTH_NORM,    /* F32 from here on: around 1 */
    TUG_SYNTH_DT,      /* -4 to 1 */
    TUG_SYNTH_A        /* -8 to -1/8, evenly over the octaves */
} tug_synth_values;

typedef struct tug_synth_fill {
    tug_type type;
    tug_synth_values values;
    uint64_t seed; /* of this tensor */
    float std;     /* of the values, TUG_SYNTH_WEIGHTS */
    int64_t n;     /* values in the tensor */
    int64_t n_cols;
    const float *row_std; /* TUG_SYNTH_ROUTER: borrowed, (rows,) */
    /* block scales to draw from, as the type stores them */
    tug_f16 d[TUG_SYNTH_SCALES], dmin[TUG_SYNTH_SCALES];
} tug_synth_fill;

/* Makes the scale tables of f from type and std, which are set. */
void tug_synth_fill_prepare(tug_synth_fill *f);

/* Writes chunk `chunk` (the last may be shorter) to out. */
void tug_synth_fill_chunk(const tug_synth_fill *f, int64_t chunk, uint8_t *out);

#endif
