/* fuzz_tokenizer.c - any text, cut anywhere, and any damaged vocabulary.
 *
 * For valid UTF-8, decoding what was encoded gives back the text in NFC; for all else
 * there is a sentence.  The first byte chooses; with an even one the rest is text, with an
 * odd one it damages the vocabulary.  SPDX-License-Identifier: MIT */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "support/tiny_vocab.h"
#include "tokenizer/nfc.h"
#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)            \
    do {                      \
        if (!(cond)) abort(); \
    } while (0)

/* Everything that lives as long as the process. */
static struct {
    tiny_vocab vocab;
    tug_tokenizer *tk;
    tug_encoder *e;
    tug_nfc nfc;
    tug_ids ids;
    tug_buf text;
} all;

static void set_up(void) {
    tug_err err;
    tiny_vocab_make(&all.vocab);
    MUST(tug_tokenizer_create(&all.tk, &all.vocab.spec, &err) == TUG_OK);
    MUST(tug_encoder_create(&all.e, all.tk, &err) == TUG_OK);
}

static void decode(void) {
    tug_err err;
    tug_detok d = tug_detok_start(all.tk, true);
    tug_buf_clear(&all.text);
    for (size_t i = 0; i < all.ids.n; i++) {
        MUST(tug_detok_add(&d, all.ids.p[i], &all.text, &err) == TUG_OK);
    }
    MUST(d.n_held == 0);
}

static void round_trip(tug_str text, size_t seam, tug_control_mode mode) {
    tug_err err;
    const tug_segment parts[] = {
        {tug_str_make(text.p, seam), mode},
        {tug_str_make(text.p + seam, text.n - seam), TUG_CONTROL_PARSED}};
    all.ids.n = 0;
    const tug_status s = tug_encode_segments(all.e, parts, 2, &all.ids, &err);
    if (!tug_utf8_valid(text.p, text.n, NULL)) {
        MUST(s == TUG_EFORMAT && all.ids.n == 0);
        return;
    }
    MUST(s == TUG_OK);
    decode();
    /* The parts between markers are normalised one by one, so only the NFC of the result
     * equals the NFC of the text. */
    tug_buf once = {0};
    tug_str out;
    MUST(tug_nfc_apply(&all.nfc, tug_buf_view(&all.text), &out, &err) == TUG_OK);
    tug_buf_str(&once, out);
    MUST(tug_nfc_apply(&all.nfc, text, &out, &err) == TUG_OK);
    MUST(tug_str_eq(tug_buf_view(&once), out));
    tug_buf_free(&once);
}

/* Overwrites entries: 4 bytes each say which and with what. */
static void damage(const uint8_t *data, size_t size) {
    static tiny_vocab v;
    tug_err err;
    tug_tokenizer *tk = NULL;
    tiny_vocab_make(&v);
    for (; size >= 4; data += 4, size -= 4) {
        const size_t i = ((size_t)data[1] << 8 | data[2]) % (size_t)v.spec.n_tokens;
        switch (data[0] % 6) {
        case 0: v.types[i] = (int8_t)data[3]; break;
        case 1: v.tokens[i].n = data[3] % (v.tokens[i].n + 1); break;
        case 2: v.tokens[i] = v.tokens[data[3]]; break;
        case 3:
            v.merges[i % v.spec.n_merges] = v.merges[data[3] % v.spec.n_merges];
            break;
        case 4: v.merges[i % v.spec.n_merges] = v.tokens[data[3]]; break;
        default: v.spec.eos_id = (int8_t)data[3]; break;
        }
    }
    if (tug_tokenizer_create(&tk, &v.spec, &err) != TUG_OK) {
        MUST(!tk && strlen(err.msg) > 10);
    }
    tug_tokenizer_destroy(&tk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!all.tk) set_up();
    if (size < 2) return 0;
    if (data[0] & 1) {
        damage(data + 1, size - 1);
        return 0;
    }
    const tug_str text = tug_str_make((const char *)data + 2, size - 2);
    round_trip(text, data[1] % (text.n + 1),
               data[0] & 2 ? TUG_CONTROL_PARSED : TUG_CONTROL_IS_TEXT);
    return 0;
}
