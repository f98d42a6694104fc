/* nfc.h - Unicode normalisation form C, as the reference applies it before cutting.
 *
 * The reference normalises by Unicode 9.  Characters that came later and would compose or
 * reorder today are left alone here too, so that ids agree.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TOKENIZER_NFC_H
#define TUG_TOKENIZER_NFC_H

#include <stdint.h>

#include "base/str.h"

/* Scratch of one thread; zero-initialise it. */
typedef struct tug_nfc {
    tug_buf out;
    int32_t *span;     /* owned: code points being put in order, (cap,) */
    int32_t *by_class; /* owned: the same, while they are sorted, (cap,) */
    size_t cap;
} tug_nfc;

/* *out gets `text` (valid UTF-8) in NFC: `text` itself when it already is, else a view
 * into the scratch that is good until the next call.  Linear in the length. */
TUG_NODISCARD tug_status tug_nfc_apply(tug_nfc *nfc, tug_str text, tug_str *out,
                                       tug_err *err);
void tug_nfc_deinit(tug_nfc *nfc);

#endif
