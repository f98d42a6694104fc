/* mix.h - which type each tensor of a preset ("Q3_K_M") has in a file.
 *
 * The rules are those of llama.cpp's quantiser for a mixture of experts without an
 * importance matrix; docs/SYNTH.md has them as a table.  SPDX-License-Identifier: MIT */
#ifndef TUG_SYNTH_MIX_H
#define TUG_SYNTH_MIX_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/types.h"

/* The part a matrix plays, as far as the rules tell them apart. */
typedef enum tug_synth_role {
    TUG_SYNTH_EMBEDDING,
    TUG_SYNTH_HEAD,
    TUG_SYNTH_ATTN_K,
    TUG_SYNTH_ATTN_V, /* also DeltaNet's joint q, k, v */
    TUG_SYNTH_ATTN_OUT,
    TUG_SYNTH_DOWN, /* of the routed and the shared experts */
    TUG_SYNTH_OTHER
} tug_synth_role;

typedef struct tug_synth_mix tug_synth_mix;

/* By name, any case; NULL when there is none.  at(i) counts them, NULL after the last. */
const tug_synth_mix *tug_synth_mix_find(const char *name);
const tug_synth_mix *tug_synth_mix_at(int i);

const char *tug_synth_mix_name(const tug_synth_mix *m);

/* general.file_type */
uint32_t tug_synth_mix_file_type(const tug_synth_mix *m);

/* Every row of a matrix must be a multiple of it. */
int64_t tug_synth_mix_block(const tug_synth_mix *m);

/* What the rules look at besides the tensor. */
typedef struct tug_synth_mix_model {
    int n_layer, n_expert;
    int heads_per_kv; /* query heads for one key/value head */
} tug_synth_mix_model;

/* layer is ignored for embedding and head. */
tug_type tug_synth_mix_type(const tug_synth_mix *m, const tug_synth_mix_model *model,
                            tug_synth_role role, int layer);

#endif
