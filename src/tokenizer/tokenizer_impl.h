/* tokenizer_impl.h - what a tug_tokenizer is, for the files of this folder only.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TOKENIZER_TOKENIZER_IMPL_H
#define TUG_TOKENIZER_TOKENIZER_IMPL_H

#include "tokenizer/bpe.h"
#include "tokenizer/pretok.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer.h"

enum { TUG_EOG_MAX = 7 }; /* eos, eot and the five names in tokenizer.c */

struct tug_tokenizer {
    tug_token_table tokens;
    tug_bpe bpe;
    tug_pretok pretok;
    tug_special_ids special;
    int n_eog;
    int32_t eog[TUG_EOG_MAX]; /* (n_eog,) */
};

#endif
