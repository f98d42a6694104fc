/* weights.h - a model's tensors, bound by name and checked against its shape.
 *
 * Matrices are views of the file's map, in the file's type, until pack.h moves them.  Vectors (norms and the
 * like, a few MB in all) are copied as f32; the convolution is transposed on the way.
 * Both layouts of the DeltaNet input projection end up as the same list of row ranges, so
 * nothing above this file knows which one a model uses.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MODEL_WEIGHTS_H
#define TUG_MODEL_WEIGHTS_H

#include <stdbool.h>

#include "backend/backend.h"
#include "gguf/gguf.h"
#include "model/shape.h"

typedef struct tug_layer {
    bool is_attn;
    const float *mix_norm; /* (dim,) before the mixer */
    const float *ffn_norm; /* (dim,) before the experts */

    /* Input projections of the mixer into one row of mix_width floats:
     *   attention  [q0 gate0 q1 gate1 ... | k heads | v heads]
     *   DeltaNet   [q heads | k heads | v heads | z heads | ba]               */
    tug_proj *mix_in; /* owned, (n_mix_in,) */
    int n_mix_in;
    int64_t mix_width;
    tug_proj mix_out; /* (dim, heads * head size) */

    /* attention */
    const float *q_norm, *k_norm; /* (head_dim,) */
    /* DeltaNet */
    const float *conv_w;           /* (conv_width, conv channels), tap 0 oldest */
    const float *dt_bias, *a_coef; /* (n_v_head,) */
    const float *delta_norm;       /* (dv,) */

    tug_proj router; /* (n_expert, dim) */
    tug_moe_weights moe;
} tug_layer;

/* Memory of a backend's place (place.h). */
typedef struct tug_placed {
    void *p;
    size_t bytes;
} tug_placed;

typedef struct tug_weights {
    tug_weight embedding;     /* (n_vocab, dim) */
    const float *output_norm; /* (dim,) */
    tug_proj head;            /* (n_vocab, dim): the embedding when tied */
    tug_layer *layer;         /* owned, (n_layer,) */
    int n_layer, n_attn_layer;
    int64_t max_mix_width;

    void **owned; /* owned list of owned vectors */
    int n_owned;
    uint8_t *packed; /* owned pages: the matrices that are packed, or NULL */
    uint64_t packed_bytes;
    tug_placed *placed; /* owned list, see tug_weights_unplace; NULL: all on the host */
    int n_placed;
    int64_t n_experts_placed; /* routed experts with a copy on the GPU, of all layers */
} tug_weights;

/* g must outlive *w.  On failure *w is empty. */
TUG_NODISCARD tug_status tug_weights_bind(tug_weights *w, const tug_gguf *g,
                                          const tug_shape *s, const tug_backend *be,
                                          tug_err *err);
void tug_weights_free(tug_weights *w);

#endif
