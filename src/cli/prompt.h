/* prompt.h - from what a person gave (text, file, pipe, ids, chat) to token ids.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_PROMPT_H
#define TUG_CLI_PROMPT_H

#include "base/str.h"
#include "tokenizer/tokenizer.h"
#include "tug.h"

/* Appends a text file; `path` "-" is standard input.  Checked to be UTF-8. */
TUG_NODISCARD tug_status cli_read_text(const char *path, tug_buf *out, tug_err *err);

/* Is this text valid UTF-8?  `what` names it in the sentence. */
TUG_NODISCARD tug_status cli_check_utf8(const char *what, tug_str text, tug_err *err);

/* A plain text to be continued: its ids, with the model's first token if it wants one. */
TUG_NODISCARD tug_status cli_encode_plain(const tug_tokenizer *vocab, tug_str text,
                                          tug_control_mode mode, tug_ids *out,
                                          tug_err *err);

/* One user turn, after a system turn if `system` is not NULL, and the beginning of the
 * answer. */
TUG_NODISCARD tug_status cli_encode_turn(tug_encoder *e, const char *system, tug_str user,
                                         tug_ids *out, tug_err *err);

/* The token that ends a turn; an error when this model has none and so cannot chat.  Says
 * on stderr when the file's template is not the one tug renders. */
TUG_NODISCARD tug_status cli_chat_check(const tug_model *model, int32_t *turn_end,
                                        tug_err *err);

#endif
