/* pretok.c - see pretok.h.  SPDX-License-Identifier: MIT */
#include "tokenizer/pretok.h"

#include <stdbool.h>

#include "base/sys.h"

/* ---- the expression ------------------------------------------------------------ */

/* The reference cuts with Oniguruma and Unicode 16.  PCRE2 10.42 knows Unicode 14 and has
 * its own idea of \s (U+180E), so white space is spelled out, and the letters, numbers
 * and marks that Unicode 15 and 16 added are listed behind the property.
 * tests/long/tokenizer_vs_hf.py tries every code point. */
#define SPACE                                                                       \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}" \
    "\\x{205F}\\x{3000}"
#define LETTER                                                                  \
    "\\p{L}\\x{1C89}-\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}"           \
    "\\x{105C0}-\\x{105F3}\\x{10D4A}-\\x{10D65}\\x{10D6F}-\\x{10D85}"           \
    "\\x{10EC2}-\\x{10EC4}\\x{1123F}-\\x{11240}\\x{11380}-\\x{11389}\\x{1138B}" \
    "\\x{1138E}\\x{11390}-\\x{113B5}\\x{113B7}\\x{113D1}\\x{113D3}"             \
    "\\x{11BC0}-\\x{11BE0}\\x{11F02}\\x{11F04}-\\x{11F10}\\x{11F12}-\\x{11F33}" \
    "\\x{1342F}\\x{13441}-\\x{13446}\\x{13460}-\\x{143FA}\\x{16100}-\\x{1611D}" \
    "\\x{16D40}-\\x{16D6C}\\x{18CFF}\\x{1B132}\\x{1B155}\\x{1DF25}-\\x{1DF2A}"  \
    "\\x{1E030}-\\x{1E06D}\\x{1E4D0}-\\x{1E4EB}\\x{1E5D0}-\\x{1E5ED}\\x{1E5F0}" \
    "\\x{2B739}\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"
#define NUMBER                                                              \
    "\\p{N}\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}" \
    "\\x{11F50}-\\x{11F59}\\x{16130}-\\x{16139}\\x{16D70}-\\x{16D79}"       \
    "\\x{1CCF0}-\\x{1CCF9}\\x{1D2C0}-\\x{1D2D3}\\x{1E4F0}-\\x{1E4F9}"       \
    "\\x{1E5F1}-\\x{1E5FA}"
#define MARK                                                                    \
    "\\p{M}\\x{897}\\x{CF3}\\x{ECE}\\x{10D69}-\\x{10D6D}\\x{10EFC}-\\x{10EFF}"  \
    "\\x{11241}\\x{113B8}-\\x{113C0}\\x{113C2}\\x{113C5}\\x{113C7}-\\x{113CA}"  \
    "\\x{113CC}-\\x{113D0}\\x{113D2}\\x{113E1}-\\x{113E2}\\x{11F00}-\\x{11F01}" \
    "\\x{11F03}\\x{11F34}-\\x{11F3A}\\x{11F3E}-\\x{11F42}\\x{11F5A}\\x{13440}"  \
    "\\x{13447}-\\x{13455}\\x{1611E}-\\x{1612F}\\x{1E08F}\\x{1E4EC}-\\x{1E4EF}" \
    "\\x{1E5EE}-\\x{1E5EF}"

/* A word takes the one character in front of it that is neither letter, number nor line
 * break: mostly the space.  `word` is what words are made of. */
#define PIECE(word)                           \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"           \
    "[^\\r\\n" LETTER NUMBER "]?[" word "]+|" \
    "[" NUMBER "]|"                           \
    " ?[^" SPACE word NUMBER "]+[\\r\\n]*|"   \
    "[" SPACE "]*[\\r\\n]+|"                  \
    "[" SPACE "]+(?![^" SPACE "])|"           \
    "[" SPACE "]+"

/* The names are those of the files; the second differs in what a word is made of only. */
static const struct {
    const char *name;
    const char *expression;
} pretokenizers[] = {
    {"qwen2", PIECE(LETTER)},
    {"qwen35", PIECE(LETTER MARK)},
};

/* ---- set-up -------------------------------------------------------------------- */

static void *pcre_alloc(size_t bytes, void *unused) {
    (void)unused;
    return tug_alloc(bytes);
}

static void pcre_free(void *p, void *unused) {
    (void)unused;
    tug_free(p);
}

static tug_status compile(tug_pretok *pt, const char *expression, tug_err *err) {
    pt->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *cc =
        pt->memory ? pcre2_compile_context_create(pt->memory) : NULL;
    int code = PCRE2_ERROR_NOMEMORY;
    PCRE2_SIZE at = 0;
    if (cc) {
        pt->limits = pcre2_match_context_create(pt->memory);
        pt->code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, cc);
        pcre2_compile_context_free(cc);
    }
    if (!pt->code || !pt->limits) {
        return TUG_FAIL(err, TUG_ENOMEM,
                        "PCRE2 cannot prepare the pre-tokeniser: out of memory, or a "
                        "build without Unicode (error %d at %zu)",
                        code, at);
    }
    /* The expression never goes back further than one run of white space, however long
     * that is, so the limits against runaway expressions would only refuse long runs. */
    (void)pcre2_set_match_limit(pt->limits, UINT32_MAX);
    (void)pcre2_set_heap_limit(pt->limits, UINT32_MAX);
    /* Where the system forbids generated code this fails, and matching is interpreted. */
    (void)pcre2_jit_compile(pt->code, PCRE2_JIT_COMPLETE);
    return TUG_OK;
}

static void fill_classes(uint8_t classes[256]);

tug_status tug_pretok_init(tug_pretok *pt, tug_str name, tug_err *err) {
    *pt = (tug_pretok){0};
    const char *expression = NULL;
    for (size_t i = 0; i < sizeof pretokenizers / sizeof pretokenizers[0]; i++) {
        if (tug_str_is(name, pretokenizers[i].name)) {
            expression = pretokenizers[i].expression;
        }
    }
    if (!expression) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "the pre-tokeniser '%.*s' is not known; qwen2 and qwen35 are",
                        name.n > 40 ? 40 : (int)name.n, name.p);
    }
    fill_classes(pt->classes);
    const tug_status s = compile(pt, expression, err);
    if (s != TUG_OK) tug_pretok_deinit(pt);
    return s;
}

void tug_pretok_deinit(tug_pretok *pt) {
    pcre2_code_free(pt->code);
    pcre2_match_context_free(pt->limits);
    pcre2_general_context_free(pt->memory);
    *pt = (tug_pretok){0};
}

tug_status tug_pretok_result_create(pcre2_match_data **out, const tug_pretok *pt,
                                    tug_err *err) {
    *out = pcre2_match_data_create(1, pt->memory);
    if (*out) return TUG_OK;
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the pre-tokeniser");
}

void tug_pretok_result_destroy(pcre2_match_data *result) {
    pcre2_match_data_free(result);
}

/* ---- the short cut for ASCII --------------------------------------------------- */

enum { END, LETTERS, DIGIT, BREAK, BLANK, OTHER, HIGH };

static void fill_classes(uint8_t classes[256]) {
    for (int c = 0; c < 256; c++) classes[c] = c < 0x80 ? OTHER : HIGH;
    for (int c = 'a'; c <= 'z'; c++) classes[c] = classes[c - 'a' + 'A'] = LETTERS;
    for (int c = '0'; c <= '9'; c++) classes[c] = DIGIT;
    for (int c = '\t'; c <= '\r'; c++) classes[c] = BLANK;
    classes['\n'] = classes['\r'] = BREAK;
    classes[' '] = BLANK;
}

static unsigned class_at(const tug_pretok *pt, tug_str text, size_t i) {
    return i < text.n ? pt->classes[(unsigned char)text.p[i]] : END;
}

/* End of the run of one class that begins at i. */
static size_t run_end(const tug_pretok *pt, tug_str text, size_t i, unsigned class) {
    while (class_at(pt, text, i) == class) i++;
    return i;
}

/* Length of 's 't 're 've 'm 'll 'd at the start, or 0. */
static size_t contraction(tug_str text) {
    if (text.n < 2) return 0;
    const int a = text.p[1] | 0x20, b = text.n > 2 ? text.p[2] | 0x20 : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    const bool two =
        (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
    return two ? 3 : 0;
}

/* White space up to its last line break; without one, all but the last blank, which
 * belongs to the word that follows. */
static size_t white_space(const tug_pretok *pt, tug_str text) {
    size_t i = 0, after_break = 0;
    unsigned class;
    while ((class = class_at(pt, text, i)) == BLANK || class == BREAK) {
        i++;
        if (class == BREAK) after_break = i;
    }
    if (class == HIGH) return 0; /* perhaps white space of another script */
    if (after_break) return after_break;
    return class == END || i == 1 ? i : i - 1;
}

/* The alternatives in the order of the expression. */
size_t tug_pretok_ascii(const tug_pretok *pt, tug_str text) {
    const unsigned first = class_at(pt, text, 0), second = class_at(pt, text, 1);
    if (first == HIGH) return 0;
    /* What comes first may take letters behind it, of any script, and U+017F is an s. */
    if (first != LETTERS && second == HIGH) return 0;
    if (text.p[0] == '\'') {
        const size_t n = contraction(text);
        if (n) return n;
    }
    if (first == LETTERS || (second == LETTERS && (first == BLANK || first == OTHER))) {
        const size_t end = run_end(pt, text, 1, LETTERS);
        return class_at(pt, text, end) == HIGH ? 0 : end;
    }
    if (first == DIGIT) return 1;
    if (first == OTHER || (text.p[0] == ' ' && second == OTHER)) {
        const size_t end = run_end(pt, text, 1, OTHER);
        if (class_at(pt, text, end) == HIGH) return 0;
        return run_end(pt, text, end, BREAK);
    }
    return white_space(pt, text);
}

/* ---- pieces -------------------------------------------------------------------- */

tug_status tug_pretok_match(const tug_pretok *pt, pcre2_match_data *result, tug_str text,
                            size_t *n, tug_err *err) {
    const int rc = pcre2_match(pt->code, (PCRE2_SPTR)text.p, text.n, 0,
                               PCRE2_NO_UTF_CHECK, result, pt->limits);
    if (rc < 0) {
        /* Every text matches, so what is left is memory. */
        return TUG_FAIL(err, TUG_ENOMEM,
                        "the pre-tokeniser failed on a text of %zu bytes: out of memory "
                        "(PCRE2 error %d)",
                        text.n, rc);
    }
    *n = pcre2_get_ovector_pointer(result)[1];
    TUG_CHECK(*n > 0 && *n <= text.n);
    return TUG_OK;
}

tug_status tug_pretok_piece(const tug_pretok *pt, pcre2_match_data *result, tug_str text,
                            size_t *n, tug_err *err) {
    *n = tug_pretok_ascii(pt, text);
    return *n ? TUG_OK : tug_pretok_match(pt, result, text, n, err);
}
