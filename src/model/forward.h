/* forward.h - the forward pass: tokens in, residual stream out, state advanced.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MODEL_FORWARD_H
#define TUG_MODEL_FORWARD_H

#include "backend/backend.h"
#include "memory/state.h"
#include "model/shape.h"
#include "model/weights.h"
#include "tug_profile.h"

/* A look at the residual stream, for tests and instruments: x (n_tok, dim) after the
 * mixer of a layer, and after its experts.  Not called when x is on a GPU. */
typedef enum tug_tap_point { TUG_TAP_MIXER = 0, TUG_TAP_LAYER } tug_tap_point;
typedef void tug_tap_fn(void *ud, int layer, tug_tap_point point, const float *x,
                        int64_t n_tok, int64_t dim);

/* After layer `done` - 1 of n_layer; false ends the pass with TUG_ECANCELED. */
typedef bool tug_layer_fn(void *ud, int done, int n_layer);

typedef struct tug_net {
    tug_shape shape;
    tug_weights weights;
    tug_backend *be; /* borrowed */
    tug_tap_fn *tap; /* or NULL */
    void *tap_ud;
    tug_routes_fn *on_routes; /* or NULL */
    void *routes_ud;
    tug_layer_fn *on_layer; /* or NULL */
    void *layer_ud;
} tug_net;

/* Buffers of one forward pass, all owned, sized for max_tok tokens; of the backend's place,
 * but for two of the host's. */
typedef struct tug_scratch {
    const tug_net *net; /* borrowed */
    int64_t max_tok;
    float *x;      /* (n_tok, dim) the residual stream */
    float *h;      /* (n_tok, dim) its normalised copy; also a layer's contribution */
    float *mix;    /* (TUG_MIX_TOKENS, mix_width) projections of a mixer */
    float *mixed;  /* (TUG_MIX_TOKENS, heads * head size) output of a mixer, or (n_tok,
                      dim) of the experts */
    float *router; /* (n_tok, n_expert) */
    float *rope;   /* (n_tok, 2, n_rot / 2) */
    float *angles; /* the host's: rope before it is written there */
    float *logits; /* the host's: (TUG_HEAD_ROWS, n_vocab) */
    float *placed_logits; /* the same where the head computes it; NULL: it is the host */
} tug_scratch;

/* Tokens a mixer takes at once: what its projections write fits the last cache. */
#define TUG_MIX_TOKENS 512

/* Rows the head computes at once when every position is wanted. */
#define TUG_HEAD_ROWS 16

/* Also reserves the backend's scratch for max_tok tokens. */
TUG_NODISCARD tug_status tug_scratch_create(tug_scratch *s, const tug_net *net,
                                            int64_t max_tok, tug_err *err);
void tug_scratch_free(tug_scratch *s);

/* What a scratch for max_tok tokens takes of a GPU, its backend's work space included. */
uint64_t tug_scratch_gpu_bytes(const tug_net *net, int64_t max_tok);

/* Sizes of the state this network needs. */
tug_state_shape tug_net_state_shape(const tug_net *net, tug_kv_type kv_type);

/* Runs ids (n_tok,), n_tok <= max_tok, as tokens st->n_tokens ... of the conversation and
 * leaves their residual stream in s->x.  The caller has checked that ids are in range and
 * that the context has room.  On failure (TUG_EIO: experts could not be read;
 * TUG_ECANCELED: on_layer said so; TUG_EDEVICE) the recurrent state is somewhere between two tokens. */
TUG_NODISCARD tug_status tug_forward(const tug_net *net, tug_state *st, tug_scratch *s,
                                     const int32_t *ids, int64_t n_tok, tug_err *err);

/* logits (n, n_vocab), the host's, of rows [row, row + n) of the last pass,
 * n <= TUG_HEAD_ROWS; 64-byte aligned.  TUG_EDEVICE. */
TUG_NODISCARD tug_status tug_head(const tug_net *net, tug_scratch *s, int64_t row,
                                  int64_t n, float *logits, tug_err *err);

#endif
