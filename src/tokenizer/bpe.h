/* bpe.h - byte-pair merging of one piece of text.
 *
 * OWNS   the table (left id, right id) -> (rank, joined id).
 * NOT    where pieces begin and end (pretok.h), remembering results (encode.c).
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TOKENIZER_BPE_H
#define TUG_TOKENIZER_BPE_H

#include "tokenizer/token_table.h"

typedef struct tug_bpe_merge {
    uint64_t pair; /* left id, right id; UINT64_MAX where free */
    uint32_t rank; /* its line in the merges: lower goes first */
    int32_t joined;
} tug_bpe_merge;

/* Never changes after init. */
typedef struct tug_bpe {
    tug_bpe_merge *slots; /* owned, (mask + 1,), open addressing */
    uint64_t mask;
    int32_t byte_id[256]; /* token of each single byte */
} tug_bpe;

/* Scratch of one thread; zero-initialise it. */
typedef struct tug_bpe_scratch {
    struct tug_bpe_symbol *symbols; /* owned, (cap,) */
    uint64_t *heap;                 /* owned, (2 * cap,) */
    size_t cap;                     /* longest piece that fits */
} tug_bpe_scratch;

TUG_NODISCARD tug_status tug_bpe_init(tug_bpe *bpe, const tug_token_table *tokens,
                                      const tug_vocab_spec *spec, tug_err *err);
void tug_bpe_deinit(tug_bpe *bpe);
void tug_bpe_scratch_deinit(tug_bpe_scratch *scratch);

/* Appends the ids of `piece` (fewer than 2^31 bytes).  O(n log n) in its length. */
TUG_NODISCARD tug_status tug_bpe_encode(const tug_bpe *bpe, tug_bpe_scratch *scratch,
                                        tug_str piece, tug_ids *out, tug_err *err);

#endif
