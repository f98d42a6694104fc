/* tiny_vocab.h - a vocabulary small enough to know by heart, to test with and to damage.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_TINY_VOCAB_H
#define TUG_TESTS_TINY_VOCAB_H

#include "tokenizer/tokenizer.h"

enum { TINY_MAX_TOKENS = 512, TINY_MAX_MERGES = 64 };

/* Ids 0 to 255 are the bytes, then one token for each merge, then the special ones. */
typedef struct tiny_vocab {
    tug_vocab_spec spec; /* what create gets; points into the rest */
    tug_str tokens[TINY_MAX_TOKENS];
    int32_t types[TINY_MAX_TOKENS];
    tug_str merges[TINY_MAX_MERGES];
    char text[8192]; /* of the tokens */
} tiny_vocab;

void tiny_vocab_make(tiny_vocab *v);

/* Id of the spelling, as it is in v->tokens; -1 when there is none. */
int32_t tiny_vocab_id(const tiny_vocab *v, const char *spelling);

#endif
