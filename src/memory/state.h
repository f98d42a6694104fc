/* state.h - what a conversation leaves behind in the model: the KV cache of the attention
 * layers, which grows by the token, and the recurrent state of the DeltaNet layers, which
 * has one size for ever and cannot be shortened, only restored from a copy.
 *
 * OWNS  the bytes of both.  NOT  what they mean: ops write and read them.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_MEMORY_STATE_H
#define TUG_MEMORY_STATE_H

#include <stdint.h>

#include "backend/backend.h"
#include "base/status.h"

typedef struct tug_state_shape {
    int n_attn_layer, n_kv_head, head_dim;
    int n_delta_layer, n_v_head, dk, dv, conv_width;
    int64_t conv_channels;
    tug_kv_type kv_type;
    tug_backend *be; /* borrowed: of its place the bytes are; NULL: the host's */
} tug_state_shape;

typedef struct tug_state {
    tug_kv_layer *kv;       /* owned, (n_attn_layer,) */
    tug_delta_state *delta; /* owned, (n_delta_layer,) */
    int64_t n_ctx;          /* tokens the KV cache has room for */
    int64_t n_tokens;       /* tokens so far */
    int64_t n_touched;      /* rows that were written since create or the last trim */

    int n_attn_layer, n_kv_head, head_dim;
    tug_backend *be;   /* borrowed; NULL: the host */
    uint8_t *kv_bytes; /* owned, all kv[] point into it; on the host a map that is touched
                          as it grows */
    size_t kv_size;
    float *recurrent;      /* owned, all delta[] point into it */
    size_t recurrent_size; /* bytes */
} tug_state;

/* Bytes of one token in the KV cache, and of the recurrent state. */
uint64_t tug_state_bytes_per_token(const tug_state_shape *s);
uint64_t tug_state_recurrent_bytes(const tug_state_shape *s);

TUG_NODISCARD tug_status tug_state_create(tug_state *st, const tug_state_shape *s,
                                          int64_t n_ctx, tug_err *err);
void tug_state_free(tug_state *st);

/* Back to no tokens. */
void tug_state_reset(tug_state *st);

/* Gives the memory of cache rows from n_tokens on back to the system. */
void tug_state_trim(tug_state *st);

/* Makes dst, of the same shape and with room for n tokens, hold the first n tokens of src;
 * `recurrent` (recurrent_size bytes, of the host) is the state behind them; NULL: src's. */
void tug_state_copy(tug_state *dst, const tug_state *src, int64_t n,
                    const float *recurrent);

/* The recurrent state, recurrent_size bytes, to host memory and back.  Read: there after
 * tug_backend_wait, if the state is not the host's. */
void tug_state_read_recurrent(const tug_state *st, float *dst);
void tug_state_write_recurrent(tug_state *st, const float *src);

/* Bytes of one token in all KV caches together. */
size_t tug_state_row_bytes(const tug_state *st);

/* Copies the cache rows of tokens [row, row + n) to dst, (n, tug_state_row_bytes), and
 * back.  n_tokens does not change. */
void tug_state_read_rows(const tug_state *st, int64_t row, int64_t n, uint8_t *dst);
void tug_state_write_rows(tug_state *st, int64_t row, int64_t n, const uint8_t *src);

#endif
