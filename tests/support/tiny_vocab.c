/* tiny_vocab.c - see tiny_vocab.h.  SPDX-License-Identifier: MIT */
#include "support/tiny_vocab.h"

#include <string.h>

#include "base/utf8.h"

static const char *const merges[] = {
    "h e",
    "l l",
    "he ll",
    "hell o",
    "\xC4\xA0 w", /* U+0120 stands for a blank */
    "o r",
    "l d",
    "\xC4\xA0w or",
    "\xC4\xA0wor ld",
    "i n",
    "in t",
    "ll ll",
    "a a",
    "aa aa",
    "a b",
    "ab c",
    "b c",
    "1 2",
    "\xC3\x83 \xC2\xA9", /* the two bytes of U+00E9 */
    "\xC3\xB0 \xC5\x81", /* F0 9F, where many emoji begin */
    "\xC4\xA0 \xC4\xA0",
    "\xC4\xA0\xC4\xA0 \xC4\xA0\xC4\xA0",
};

static const struct {
    const char *text;
    int32_t type;
} special[] = {
    {"<|endoftext|>", TUG_TOKEN_CONTROL}, {"<|im_start|>", TUG_TOKEN_CONTROL},
    {"<|im_end|>", TUG_TOKEN_CONTROL},    {"<|file_sep|>", TUG_TOKEN_CONTROL},
    {"<tool_call>", TUG_TOKEN_USER},      {"</tool_call>", TUG_TOKEN_USER},
    {"<tool_call>{", TUG_TOKEN_CONTROL},  {"[UNK]", TUG_TOKEN_UNKNOWN},
    {"[PAD0]", TUG_TOKEN_UNUSED},
};

/* The byte alphabet, told another way than in the code under test. */
static uint32_t letter_of_byte(unsigned byte) {
    uint32_t next = 256;
    for (unsigned b = 0; b < 256; b++) {
        const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD);
        if (b == byte) return printable ? b : next;
        if (!printable) next++;
    }
    return 0;
}

static void add(tiny_vocab *v, size_t *used, const char *text, size_t n, int32_t type) {
    char *at = v->text + *used;
    memcpy(at, text, n);
    v->tokens[v->spec.n_tokens] = tug_str_make(at, n);
    v->types[v->spec.n_tokens++] = type;
    *used += n;
}

void tiny_vocab_make(tiny_vocab *v) {
    memset(v, 0, sizeof *v);
    size_t used = 0;
    for (unsigned b = 0; b < 256; b++) {
        char letter[4];
        const int len = tug_utf8_encode(letter_of_byte(b), letter);
        add(v, &used, letter, (size_t)len, TUG_TOKEN_NORMAL);
    }
    const size_t n_merges = sizeof merges / sizeof merges[0];
    for (size_t i = 0; i < n_merges; i++) {
        char joined[64];
        const size_t n = strlen(merges[i]),
                     left = (size_t)(strchr(merges[i], ' ') - merges[i]);
        memcpy(joined, merges[i], left);
        memcpy(joined + left, merges[i] + left + 1, n - left - 1);
        add(v, &used, joined, n - 1, TUG_TOKEN_NORMAL);
        v->merges[i] = tug_str_of(merges[i]);
    }
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
        add(v, &used, special[i].text, strlen(special[i].text), special[i].type);
    }
    v->spec.tokens = v->tokens;
    v->spec.types = v->types;
    v->spec.n_types = v->spec.n_tokens;
    v->spec.merges = v->merges;
    v->spec.n_merges = n_merges;
    v->spec.pre = tug_str_of("qwen2");
    v->spec.bos_id = v->spec.pad_id = v->spec.eot_id = TUG_NO_TOKEN;
    v->spec.eos_id = tiny_vocab_id(v, "<|im_end|>");
}

int32_t tiny_vocab_id(const tiny_vocab *v, const char *spelling) {
    for (uint64_t i = 0; i < v->spec.n_tokens; i++) {
        if (tug_str_is(v->tokens[i], spelling)) return (int32_t)i;
    }
    return -1;
}
