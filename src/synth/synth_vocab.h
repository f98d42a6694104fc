/* synth_vocab.h - the tokenizer of a made-up model: a real one's, or a generated one.
 *
 * The generated one is a byte-level BPE that works like Qwen's: 256 bytes, merges, and the
 * 26 special tokens, at Qwen's ids when there is room for all of them.  Its merges are made
 * by rule, so it always is the same and cuts words into short pieces.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SYNTH_SYNTH_VOCAB_H
#define TUG_SYNTH_SYNTH_VOCAB_H

#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"
#include "gguf/gguf_write.h"

typedef struct tug_synth_vocab {
    tug_str *tokens; /* (n,) in GPT-2's byte alphabet */
    int32_t *types;  /* (n,) tug_token_type */
    int64_t n;
    tug_str *merges; /* (n_merges,) "left right" */
    int64_t n_merges;
    int64_t eos_id, pad_id;
    tug_arena arena; /* holds all of the above */
} tug_synth_vocab;

enum { TUG_SYNTH_MIN_VOCAB = 512 };

/* n tokens, at least TUG_SYNTH_MIN_VOCAB.  Zero-initialise *v; free it in any case. */
TUG_NODISCARD tug_status tug_synth_vocab_make(tug_synth_vocab *v, int64_t n,
                                              tug_err *err);

/* From a Hugging Face tokenizer.json (byte-level BPE of the Qwen family), padded to n
 * tokens; n == 0: to the next multiple of 128. */
TUG_NODISCARD tug_status tug_synth_vocab_read(tug_synth_vocab *v, const char *path,
                                              int64_t n, tug_err *err);
void tug_synth_vocab_free(tug_synth_vocab *v);

/* The tokenizer.* metadata, chat template included. */
void tug_synth_vocab_put(const tug_synth_vocab *v, tug_gguf_meta *m);

#endif
