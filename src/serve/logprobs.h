/* logprobs.h - how likely a token was, and the likeliest ones beside it.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_LOGPROBS_H
#define TUG_SERVE_LOGPROBS_H

#include "api/answer.h"
#include "tokenizer/tokenizer.h"

enum { TUG_TOP_LOGPROBS = 20 };

/* Of the model's own distribution, before temperature and filters.  logits (n_vocab,);
 * n_top <= TUG_TOP_LOGPROBS entries go to top, the likeliest first.  Bytes are borrowed
 * from the tokenizer. */
tug_answer_token tug_logprobs(const tug_tokenizer *vocab, const float *logits,
                              int64_t n_vocab, int32_t id, int32_t n_top,
                              tug_token_logprob top[TUG_TOP_LOGPROBS]);

#endif
