/* shape.h - the sizes of a model, read from its file and checked once.
 *
 * Nothing below is a constant of the code: names follow docs/MODEL.md.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MODEL_SHAPE_H
#define TUG_MODEL_SHAPE_H

#include <stdint.h>

#include "backend/backend.h"
#include "base/status.h"
#include "gguf/gguf.h"

typedef struct tug_shape {
    int n_layer;
    int64_t dim, n_vocab, n_ctx_train;
    float eps;
    float rope_base;
    tug_attn_shape attn;
    tug_delta_shape delta;
    int n_expert, n_expert_used;
    int64_t expert_dim, shared_dim; /* shared_dim 0: no shared expert */
} tug_shape;

/* Refuses other architectures, missing keys and sizes that cannot be, by name. */
TUG_NODISCARD tug_status tug_shape_read(tug_shape *s, const tug_gguf *g, tug_err *err);

/* Channels of the DeltaNet convolution: q, k and v of all heads. */
static inline int64_t tug_shape_conv_channels(const tug_shape *s) {
    return 2L * s->delta.n_k_head * s->delta.dk +
           (int64_t)s->delta.n_v_head * s->delta.dv;
}

#endif
