/* token_table.h - every token's bytes and type, and the way back from bytes to the id.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TOKENIZER_TOKEN_TABLE_H
#define TUG_TOKENIZER_TOKEN_TABLE_H

#include "tokenizer/tokenizer.h"

enum {
    TUG_TOKEN_BYTES_MAX = 65535, /* of one spelling in the file */
    TUG_MARKER_BYTES_MAX = 255   /* of a control or user-defined token */
};

/* Open addressing over ids; the bytes to compare with are in the table. */
typedef struct tug_token_index {
    int32_t *slot; /* owned, (mask + 1,), TUG_NO_TOKEN where free */
    uint64_t mask;
} tug_token_index;

/* "Marker" stands for both kinds of token that are found in text as they are written:
 * control and user-defined ones. */
typedef struct tug_token_table {
    int32_t n;
    char *bytes;    /* owned: all tokens back to back */
    uint32_t *at;   /* owned, (n + 1,): token i is bytes[at[i] .. at[i + 1]) */
    uint8_t *types; /* owned, (n,) */
    tug_token_index normal;
    tug_token_index markers;
    bool marker_starts[256];                      /* first bytes that markers have */
    int n_marker_lengths;                         /* the lengths that they have, */
    uint8_t marker_lengths[TUG_MARKER_BYTES_MAX]; /* longest first */
} tug_token_table;

/* Zero-initialised tables may be deinit'ed; init cleans up after itself on failure. */
TUG_NODISCARD tug_status tug_token_table_init(tug_token_table *t,
                                              const tug_vocab_spec *spec, tug_err *err);
void tug_token_table_deinit(tug_token_table *t);

static inline tug_str tug_token_table_bytes(const tug_token_table *t, int32_t id) {
    return tug_str_make(t->bytes + t->at[id], t->at[id + 1] - t->at[id]);
}

/* The normal token or the marker of exactly these bytes, or TUG_NO_TOKEN. */
int32_t tug_token_table_normal(const tug_token_table *t, tug_str bytes);
int32_t tug_token_table_marker(const tug_token_table *t, tug_str bytes);

/* Appends the bytes that a spelling in GPT-2's byte alphabet stands for; false when it
 * contains a character outside that alphabet. */
bool tug_token_unspell(tug_str spelling, tug_buf *out);

#endif
