/* vocab.h - the tokenizer of a GGUF file.  SPDX-License-Identifier: MIT */
#ifndef TUG_ENGINE_VOCAB_H
#define TUG_ENGINE_VOCAB_H

#include "base/status.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

/* Makes it from the tokenizer.ggml.* keys.  It borrows nothing from g. */
TUG_NODISCARD tug_status tug_vocab_load(tug_tokenizer **out, const tug_gguf *g,
                                        tug_err *err);

#endif
