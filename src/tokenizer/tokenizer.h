/* tokenizer.h - text to token ids and back, exactly as the model was trained on.
 *
 * A GPT-2 style byte-level BPE: text is cut at special tokens, each part is brought to
 * NFC, cut into pieces by the Qwen pre-tokeniser, and each piece is merged pair by pair.
 * docs/TOKENIZER.md draws the flow and lists what was compared with the reference.
 *
 * THREADS  a tug_tokenizer never changes after create: any number of threads may share
 *          it.  A tug_encoder (scratch memory and a cache of pieces) and a tug_detok
 *          belong to one thread at a time.
 * HOSTILE  every number and text given to create is checked; what it returns is safe to
 *          use with any text.  Functions that take an id say what they do with a bad one.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TOKENIZER_TOKENIZER_H
#define TUG_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

typedef struct tug_tokenizer tug_tokenizer;

/* ---- making one ---------------------------------------------------------------- */

/* As numbered by the file format. */
typedef enum tug_token_type {
    TUG_TOKEN_NORMAL = 1,  /* made by merges; spelled in GPT-2's byte alphabet */
    TUG_TOKEN_UNKNOWN = 2, /* never made from text */
    TUG_TOKEN_CONTROL = 3, /* <|im_start|>: made from text only where that is allowed */
    TUG_TOKEN_USER = 4,    /* <tool_call>: made from any text that contains it */
    TUG_TOKEN_UNUSED = 5   /* padding of the embedding table: never made from text */
} tug_token_type;

enum { TUG_NO_TOKEN = -1 };

/* What a vocabulary file says.  All of it is borrowed for the call of create only. */
typedef struct tug_vocab_spec {
    const tug_str *tokens; /* (n_tokens,) texts; normal ones in GPT-2's byte alphabet */
    uint64_t n_tokens;
    const int32_t *types; /* (n_types,) tug_token_type; n_types must equal n_tokens */
    uint64_t n_types;
    const tug_str *merges; /* (n_merges,) "left right", most important first */
    uint64_t n_merges;
    tug_str pre;                            /* pre-tokeniser: "qwen2" or "qwen35" */
    int64_t bos_id, eos_id, eot_id, pad_id; /* TUG_NO_TOKEN where the file has none */
    bool add_bos; /* the model wants bos_id in front; the caller puts it there */
} tug_vocab_spec;

TUG_NODISCARD tug_status tug_tokenizer_create(tug_tokenizer **out,
                                              const tug_vocab_spec *spec, tug_err *err);
void tug_tokenizer_destroy(tug_tokenizer **tk); /* nulls the pointer; NULL is fine */

/* ---- looking things up --------------------------------------------------------- */

typedef struct tug_special_ids {
    int32_t bos, eos, eot, pad; /* TUG_NO_TOKEN where the file has none */
    bool add_bos;
} tug_special_ids;

int32_t tug_tokenizer_size(const tug_tokenizer *tk); /* ids are 0 .. size - 1 */
tug_special_ids tug_tokenizer_special(const tug_tokenizer *tk);

/* Bytes that a token stands for, borrowed: possibly half a character, "<|im_end|>" for a
 * control token.  An id outside the vocabulary gives an empty view, type UNUSED. */
tug_str tug_tokenizer_bytes(const tug_tokenizer *tk, int32_t id);
tug_token_type tug_tokenizer_type(const tug_tokenizer *tk, int32_t id);

/* The token that stands for exactly these bytes (control and user-defined ones win over
 * normal ones of the same text), or TUG_NO_TOKEN. */
int32_t tug_tokenizer_find(const tug_tokenizer *tk, tug_str bytes);

/* Does the model mean "I am done" with it?  The file's eos and eot, and the tokens named
 * <|im_end|>, <|endoftext|>, <|fim_pad|>, <|repo_name|>, <|file_sep|>. */
bool tug_tokenizer_is_eog(const tug_tokenizer *tk, int32_t id);

/* ---- text to ids --------------------------------------------------------------- */

/* A growable list of token ids.  Zero-initialise it; tug_ids_free is always safe. */
typedef struct tug_ids {
    int32_t *p; /* owned or NULL, (n,) */
    size_t n;
    size_t cap;
} tug_ids;

TUG_NODISCARD tug_status tug_ids_push(tug_ids *ids, int32_t id, tug_err *err);
void tug_ids_free(tug_ids *ids);

typedef struct tug_encoder tug_encoder;

/* The tokenizer must outlive it.  About 2 MiB. */
TUG_NODISCARD tug_status tug_encoder_create(tug_encoder **out, const tug_tokenizer *tk,
                                            tug_err *err);
void tug_encoder_destroy(tug_encoder **e); /* nulls the pointer; NULL is fine */

/* What to do with the text of a control token inside the text.  User-defined tokens are
 * recognised in both modes, as the reference does. */
typedef enum tug_control_mode {
    TUG_CONTROL_IS_TEXT, /* "<|im_end|>" typed by a person stays ten harmless characters */
    TUG_CONTROL_PARSED   /* it becomes the control token: for text that we wrote */
} tug_control_mode;

/* Appends the ids of `text` to *out.  Text must be UTF-8 (else the sentence has the byte
 * offset) of at most 512 MiB.  On failure *out is as it was.
 *
 * Two calls give the ids of the joined text only if a control or user-defined token
 * stands at the seam: otherwise characters, pieces and merges may reach across it. */
TUG_NODISCARD tug_status tug_encode(tug_encoder *e, tug_str text, tug_control_mode mode,
                                    tug_ids *out, tug_err *err);

/* One text in parts with different rights: a chat template with messages in it. */
typedef struct tug_segment {
    tug_str text; /* may begin and end anywhere; the joined text must be UTF-8 */
    tug_control_mode mode;
} tug_segment;

/* Appends the ids of the joined text.  Characters, pieces and user-defined tokens may
 * reach across the seams, so that the ids equal those of the rendered template; a
 * control token is recognised only where all of it lies in CONTROL_PARSED segments. */
TUG_NODISCARD tug_status tug_encode_segments(tug_encoder *e, const tug_segment *segments,
                                             size_t n, tug_ids *out, tug_err *err);

/* ---- ids to text --------------------------------------------------------------- */

/* Streams ids as text that is valid UTF-8 after every call: the beginning of a character
 * is held back until its end arrives.  Bytes that can no longer become a character are
 * replaced by U+FFFD, one for each longest prefix of a character (the rule of the
 * reference, of Rust and of browsers), so that the sum of the calls equals decoding the
 * whole at once.  Needs no clean-up. */
typedef struct tug_detok {
    const tug_tokenizer *tk; /* borrowed */
    bool show_control;       /* write "<|im_end|>" instead of nothing */
    int n_held;
    char held[4]; /* (n_held,) the beginning of a character */
} tug_detok;

tug_detok tug_detok_start(const tug_tokenizer *tk, bool show_control);

/* Appends the text that `id` completes.  Control, unknown and unused tokens count as
 * nothing unless show_control.  An id outside the vocabulary is an error and changes
 * nothing. */
TUG_NODISCARD tug_status tug_detok_add(tug_detok *d, int32_t id, tug_buf *out,
                                       tug_err *err);

/* End of the text: appends U+FFFD if it broke off inside a character, and starts anew. */
TUG_NODISCARD tug_status tug_detok_finish(tug_detok *d, tug_buf *out, tug_err *err);

#endif
