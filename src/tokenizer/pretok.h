/* pretok.h - where one piece of text ends and the next begins.
 *
 * Merges never cross the border of a piece, so this decides ids as much as they do.  A
 * regular expression, run by PCRE2, is the definition; text in ASCII takes a short cut
 * that gives the same borders (tests/unit/test_pretok.c holds them together).
 *
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TOKENIZER_PRETOK_H
#define TUG_TOKENIZER_PRETOK_H

#include <stdint.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/status.h"
#include "base/str.h"

/* Never changes after init. */
typedef struct tug_pretok {
    pcre2_code *code;              /* owned: the compiled expression */
    pcre2_match_context *limits;   /* owned: match limits off */
    pcre2_general_context *memory; /* owned: PCRE2's way to tug_sys */
    uint8_t classes[256];          /* of a byte, for the short cut */
} tug_pretok;

/* `name` is what the file calls it: "qwen2" or "qwen35". */
TUG_NODISCARD tug_status tug_pretok_init(tug_pretok *pt, tug_str name, tug_err *err);
void tug_pretok_deinit(tug_pretok *pt);

/* Where PCRE2 puts its result: one for each thread. */
TUG_NODISCARD tug_status tug_pretok_result_create(pcre2_match_data **out,
                                                  const tug_pretok *pt, tug_err *err);
void tug_pretok_result_destroy(pcre2_match_data *result); /* NULL is fine */

/* Length of the piece at the start of `text` (valid UTF-8, not empty): *n >= 1.  A piece
 * depends on the text that follows, so `text` must reach to its end. */
TUG_NODISCARD tug_status tug_pretok_piece(const tug_pretok *pt, pcre2_match_data *result,
                                          tug_str text, size_t *n, tug_err *err);

/* The two roads of tug_pretok_piece.  The short cut returns 0 where it sees a byte outside
 * ASCII that could matter. */
size_t tug_pretok_ascii(const tug_pretok *pt, tug_str text);
TUG_NODISCARD tug_status tug_pretok_match(const tug_pretok *pt, pcre2_match_data *result,
                                          tug_str text, size_t *n, tug_err *err);

#endif
